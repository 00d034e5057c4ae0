//! Settling: requeues, dead letters, and what goes back to intake.

use super::super::oldest;
use super::{Engine, Job, Leaving};
use crate::delivery::handover::{Return, Returned, Ticket, ToIntake};
use crate::delivery::ports::{Appended, Clock, Refused};
use crate::delivery::settle::{Departure, Purpose, Settlement};
use crate::domain::dead_letter::Reason;
use crate::domain::headers::Chain;
use crate::domain::id::DomainName;
use crate::domain::record::Record;
use crate::domain::requeue::RequeueReason;
use crate::domain::time::UnixMillis;
use crate::metrics::SettledAs;
use std::collections::VecDeque;
use tracing::info;

impl<C: Clock> Engine<C> {
    pub(super) fn requeue(&mut self, ticket: Ticket, record: &Record, chain: Chain, due: UnixMillis, reason: RequeueReason) {
        let now = self.clock.broker_now();
        let tier = self.settings.tiers.tier_for(due.since(now)).clone();
        let (departure, dropped) = Departure::requeue(record, &chain, &tier, due, now);
        if reason == RequeueReason::Retry {
            info!(
                event_id = %chain.id, domain = chain.domain.as_ref().map(DomainName::as_str), attempt = chain.attempts,
                outcome = chain.last_outcome.map(tracing::field::display), due_at = due.0, tier = %tier.label, "to be retried"
            );
        }
        self.append(ticket, chain, departure, dropped, Purpose::Requeue { tier, reason });
    }

    pub(super) fn bury(&mut self, ticket: Ticket, record: &Record, chain: Chain, reason: Reason, detail: &str) {
        let now = self.clock.broker_now();
        let (departure, dropped) = Departure::bury(record, &chain, &self.settings.dead_letter_topic, reason, detail, now);
        info!(
            event_id = %chain.id, domain = chain.domain.as_ref().map(DomainName::as_str), origin = %chain.origin,
            attempt = chain.attempts, outcome = reason.as_str(), detail, "dead-lettered"
        );
        self.append(ticket, chain, departure, dropped, Purpose::Bury { reason });
    }

    pub(super) fn append(&mut self, ticket: Ticket, chain: Chain, departure: Departure, dropped: bool, purpose: Purpose) {
        if dropped {
            self.metrics.headers_dropped();
        }
        self.jobs.push(Job::Append { departure, leaving: Box::new(Leaving { ticket, chain, purpose }) });
    }

    pub(super) fn on_append(&mut self, leaving: Leaving, result: Result<(Settlement, Appended), Refused>) {
        let Leaving { ticket, chain, purpose } = leaving;
        match result {
            Ok((settlement, _)) => {
                match purpose {
                    Purpose::Requeue { tier, reason } => {
                        self.metrics.requeued(&tier.label, reason);
                        // A name that nobody has registered is anything that somebody wrote: not one more entry for each.
                        let domain = chain.domain.as_ref().filter(|name| self.registry.domain(name).is_some());
                        let undelivered = oldest::undelivered_since(chain.source_time, chain.since);
                        let since = undelivered.unwrap_or_else(|| self.clock.broker_now());
                        self.oldest.requeued(tier.delay, domain, since, self.clock.monotonic());
                    }
                    Purpose::Bury { reason } => {
                        self.metrics.dead_letter(reason);
                        self.settled(SettledAs::DeadLettered, &chain);
                    }
                }
                self.give_back(ticket, Returned::Settled(settlement));
            }
            Err(refused) => self.give_back(ticket, Returned::Refused(refused)),
        }
    }

    pub(super) fn settled(&self, how: SettledAs, chain: &Chain) {
        let age = self.clock.now().since(chain.source_time);
        self.metrics.settled(how, Some(age));
        if let Some(domain) = &chain.domain {
            self.metrics.domain_settled(domain.as_str(), how);
        }
    }

    pub(super) fn give_back(&mut self, ticket: Ticket, returned: Returned) {
        self.returns[ticket.assignment.class.index()].push(Return { ticket, returned });
    }

    pub(super) fn give_up_waiting(&mut self, which: impl Fn(&Ticket) -> bool) {
        for callback in self.lanes.take_out(|callback| which(&callback.ticket)) {
            self.give_back(callback.ticket, Returned::Unsettled);
        }
        let (gone, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.probes).into_iter().partition(|probe| which(&probe.ticket));
        self.probes = kept;
        let (closed, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.parking).into_iter().partition(|p| which(&p.item.ticket));
        self.parking = kept;
        for callback in gone.into_iter().chain(closed.into_iter().map(|parked| parked.item)) {
            self.give_back(callback.ticket, Returned::Unsettled);
        }
        self.rest();
        let gone: Vec<_> = self.holds.iter().filter(|(_, hold)| which(&hold.ticket)).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(hold) = self.holds.remove(&key) {
                self.hold_bytes -= hold.ticket.cost;
                self.give_back(hold.ticket, Returned::Unsettled);
            }
        }
    }

    pub(super) fn flush(&mut self) {
        for (intake, returns) in self.intakes.iter().zip(&mut self.returns) {
            if !returns.is_empty() {
                // An intake thread that is gone has committed what it could; nothing more can be done with these.
                let _ = intake.send(ToIntake::Returns(std::mem::take(returns)));
            }
        }
    }
}
