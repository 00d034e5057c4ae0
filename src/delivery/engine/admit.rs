//! From intake to the lane: chain, due time, sorting, and a place or a tier.

use super::{Engine, Hold};
use crate::delivery::attempt::Callback;
use crate::delivery::handover::{Intake, Phase, Returned, Ticket};
use crate::delivery::lane::Terms;
use crate::delivery::lanes::{Offer, ParkCause, Parked};
use crate::delivery::mutant::{self, Mutant};
use crate::delivery::ports::Clock;
use crate::delivery::settle::Settlement;
use crate::delivery::sort::{self, Sorted};
use crate::domain::binding::Skip;
use crate::domain::class::Class;
use crate::domain::dead_letter::Reason;
use crate::domain::headers::Chain;
use crate::domain::id::DomainName;
use crate::domain::record::Record;
use crate::domain::registry::Endpoint;
use crate::domain::requeue::RequeueReason;
use crate::domain::tier::Place;
use crate::metrics::SettledAs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Whether an event meets the registry for the first time: what is counted once for each event is counted then, not when it comes back from
/// a tier or is sorted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Taken in from a source topic or the replay topic.
    First,
    /// Seen before.
    Again,
}

impl<C: Clock> Engine<C> {
    /// Takes over a registry that was loaded meanwhile. What waits in lanes is sorted anew: an attempt goes by the URL and the keys of now.
    pub(super) fn renew_registry(&mut self) {
        let latest = self.snapshot.load();
        if Arc::ptr_eq(&latest, &self.registry) {
            return;
        }
        self.registry = Arc::clone(&latest);
        drop(latest);
        self.lanes.set_contended(self.registry.endpoints() > 1);
        if self.drain_deadline.is_none() {
            for callback in self.lanes.take_out(|_| true) {
                let Callback { ticket, record, chain, .. } = *callback;
                self.sort(ticket, record, chain, Sight::Again);
            }
        }
    }

    pub(super) fn take_in(&mut self, intake: Intake) {
        let Intake { ticket, record } = intake;
        if self.drain_deadline.is_some() || ticket.assignment.phase() != Phase::Active {
            return self.give_back(ticket, Returned::Unsettled);
        }
        if ticket.assignment.class == Class::Replay {
            self.metrics.replayed(1);
        }
        match catch_unwind(AssertUnwindSafe(|| sort::chain(&record, ticket.assignment.class))) {
            Ok(chain) => self.route(ticket, record, chain),
            Err(_) => self.fault(ticket, &record, sort::bare_chain),
        }
    }

    /// Routes a record by its due time: to the lane, into the hold, or on to the next tier.
    pub(super) fn route(&mut self, ticket: Ticket, record: Record, chain: Chain) {
        let sight = match ticket.assignment.class {
            Class::Fresh | Class::Replay => Sight::First,
            Class::Retry => Sight::Again,
        };
        let Some(due) = chain.due else { return self.sort(ticket, record, chain, sight) };
        let remaining = due.since(self.clock.broker_now());
        match self.settings.tiers.place(remaining) {
            Place::Due => self.sort(ticket, record, chain, sight),
            Place::Hold if self.has_room_to_hold(ticket.cost) => {
                self.hold_bytes += ticket.cost;
                self.next_hold += 1;
                self.holds.insert((due, self.next_hold), Hold { ticket, record, chain });
            }
            Place::Hold | Place::Tier(_) => self.requeue(ticket, &record, chain, due, RequeueReason::MovedOn),
        }
    }

    /// Whether one more record may be held for its remainder: those that are due now need the class's memory, too.
    fn has_room_to_hold(&self, cost: usize) -> bool {
        self.holds.len() < self.settings.hold_records() && self.hold_bytes + cost <= self.settings.hold_bytes()
    }

    pub(super) fn sort(&mut self, ticket: Ticket, record: Record, chain: Chain, sight: Sight) {
        if let Some(callback) = self.sorted(ticket, record, chain, sight) {
            self.offer(callback);
        }
    }

    /// Sorts a record by the registry of now: returns the callback that is due; where none is, skips, requeues or buries it and returns
    /// `None`.
    pub(super) fn sorted(&mut self, ticket: Ticket, record: Record, chain: Chain, sight: Sight) -> Option<Box<Callback>> {
        if ticket.assignment.phase() != Phase::Active {
            self.give_back(ticket, Returned::Unsettled);
            return None;
        }
        let sane_now = self.clock.may_judge_age().then(|| self.clock.now());
        let settings = &self.settings;
        let sorted = catch_unwind(AssertUnwindSafe(|| {
            sort::sort(&self.registry, &record, &chain, ticket.assignment.class, settings.replay_limit, sane_now)
        }));
        match sorted {
            Ok(Sorted::Call(call)) => {
                let mut chain = chain;
                chain.domain = Some(call.event.domain.clone());
                self.count_assumed(call.assumed_push_start, sight);
                if call.mixed_regions && sight == Sight::First {
                    self.metrics.mixed_regions();
                }
                let callback = Callback {
                    ticket,
                    record,
                    chain,
                    event: call.event,
                    template: call.template,
                    url: call.url,
                    mixed_regions: call.mixed_regions,
                };
                return Some(Box::new(callback));
            }
            Ok(Sorted::Skip { domain, rule, assumed_push_start }) => {
                self.count_assumed(assumed_push_start, sight);
                info!(event_id = %chain.id, %domain, origin = %chain.origin, rule = rule.as_str(), "skipped");
                self.metrics.skipped(rule);
                self.settled(SettledAs::Skipped, &Chain { domain: Some(domain), ..chain });
                self.give_back(ticket, Returned::Settled(Settlement::skipped(rule)));
            }
            Ok(Sorted::UnknownDomainTurn { domain }) => {
                let chain = Chain { domain: Some(domain), ..chain };
                let due = self.clock.broker_now().plus(self.settings.tiers.smallest().delay);
                self.requeue(ticket, &record, chain, due, RequeueReason::UnknownDomain);
            }
            Ok(Sorted::Bury { domain, reason, detail, assumed_push_start }) => {
                self.count_assumed(assumed_push_start, sight);
                let domain = domain.or_else(|| chain.domain.clone());
                if reason == Reason::AccountSuspended {
                    self.log_suspended(domain.as_ref());
                }
                self.bury(ticket, &record, Chain { domain, ..chain }, reason, &detail);
            }
            Err(_) => self.fault(ticket, &record, |_| chain),
        }
        None
    }

    fn count_assumed(&self, assumed: bool, sight: Sight) {
        if assumed && sight == Sight::First {
            self.metrics.push_start_assumed();
        }
    }

    pub(super) fn log_suspended(&mut self, domain: Option<&DomainName>) {
        let now = self.clock.monotonic();
        let Some(domain) = domain else { return };
        if self.suspended_logged.get(domain).is_none_or(|at| now.saturating_sub(*at) >= Duration::from_secs(60)) {
            self.suspended_logged.insert(domain.clone(), now);
            warn!(%domain, "the storage service of this domain's account is not active: its events are dead-lettered; replay them once it is restored");
        }
    }

    pub(super) fn offer(&mut self, callback: Box<Callback>) {
        if !self.goes_all_the_same(&callback) {
            return self.withhold(callback);
        }
        let now = self.clock.monotonic();
        let endpoint = callback.url.endpoint.clone();
        let terms = self.terms(&endpoint);
        let class = callback.ticket.assignment.class;
        match self.lanes.offer(&endpoint, class, terms, callback, now) {
            Offer::Start(callback) => self.start(callback),
            Offer::Waits => {}
            Offer::Park(parked) => self.park(parked),
        }
    }

    pub(super) fn terms(&self, endpoint: &Endpoint) -> Terms {
        Terms { limit: self.settings.endpoint_concurrency, rate: self.registry.rate(endpoint) }
    }

    /// Takes what lanes have given up, and parks some of it now.
    pub(super) fn give_up(&mut self, parked: Vec<Parked<Box<Callback>>>) {
        self.parking.extend(parked);
        self.park_some();
    }

    pub(super) fn park_some(&mut self) {
        while self.may_park > 0
            && let Some(parked) = self.parking.pop_front()
        {
            self.may_park -= 1;
            self.park(parked);
        }
    }

    /// Requeues a parked record until its slot, for at least one turn of the smallest tier. Records that are then held for a remainder
    /// would come due together, so their due times are spread where they may be later.
    pub(super) fn park(&mut self, parked: Parked<Box<Callback>>) {
        let Callback { ticket, record, chain, .. } = *parked.item;
        if ticket.assignment.phase() != Phase::Active {
            return self.give_back(ticket, Returned::Unsettled);
        }
        if mutant::active(Mutant::SkipOnFullLane) {
            return self.give_back(ticket, Returned::Settled(Settlement::skipped(Skip::NoUrl)));
        }
        let reason = match parked.cause {
            ParkCause::Full => RequeueReason::LaneFull,
            ParkCause::Closed => RequeueReason::CircuitOpen,
        };
        let (now, tiers) = (self.clock.monotonic(), &self.settings.tiers);
        // What is due within the smallest tier's tolerance counts as due: nothing is to come back before a circuit reopens.
        let tolerance = match parked.cause {
            ParkCause::Full => Duration::ZERO,
            ParkCause::Closed => tiers.tolerance(tiers.smallest()),
        };
        let delay = parked.slot.saturating_sub(now).max(tiers.smallest().delay) + tolerance;
        let latest = parked.latest.saturating_sub(now);
        let delay = tiers.fewest_hops(delay, latest);
        let spread = latest.saturating_sub(delay).min(delay / 4).min(tiers.room_in_hold(delay) / 2);
        let delay = delay + spread.mul_f64(self.clock.draw());
        let due = self.clock.broker_now().plus(delay);
        self.requeue(ticket, &record, chain, due, reason);
    }
}
