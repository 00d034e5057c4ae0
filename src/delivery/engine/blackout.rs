//! While an outage of our own is presumed: who is withheld, what goes out as a probe, and how it ends.
//!
//! Failures return uncounted. One record for each host stays at hand as a probe, up to [`MAX_PROBES`]; the others go into the smallest
//! tier. Intake rests as soon as there is a probe, never before: without one nothing would ever be heard again. Now and then one class
//! takes a [`Breath`]: if only some hosts are dark, a record for another host brings the answer that ends the outage.

use super::Engine;
use super::admit::Sight;
use crate::delivery::attempt::Callback;
use crate::delivery::handover::{Intake, Phase, Returned, ToIntake};
use crate::delivery::outage::Change;
use crate::delivery::ports::Clock;
use crate::domain::class::Class;
use crate::domain::requeue::RequeueReason;
use crate::domain::verdict::Outcome;
use std::time::Duration;
use tracing::{error, info};

/// Records at hand as probes.
const MAX_PROBES: usize = 64;
/// Between breaths.
const BREATH_PAUSE: Duration = Duration::from_secs(10);

/// Each breath of a class reads twice as many batches as its last one, at most 2 to this power.
const LONGEST_BREATH: usize = 8;

/// During an outage one class at a time is still read, in turn: up to a number of batches, or until the next class's turn. Breaths get
/// longer while no answer comes, because a healthy host may stand behind the backlog of dark ones.
#[derive(Debug, Default)]
pub(super) struct Breath {
    of: Option<Class>,
    batches: usize,
    taken: usize,
    next: Duration,
}

impl<C: Clock> Engine<C> {
    /// Tells the outage what came of an attempt that took `took`. True when the failure is not to be counted.
    pub(super) fn witness(&mut self, callback: &Callback, outcome: &Outcome, took: Duration) -> bool {
        let account = || self.registry.domain(&callback.event.domain)?.account().map(|account| &account.id);
        let now = self.clock.monotonic();
        let change = self.outage.ended(callback.host(), account, outcome, now);
        if let Some(change) = change {
            self.on_outage(change);
        }
        self.outage.excuses(outcome, now.saturating_sub(took))
    }

    pub(super) fn on_outage(&mut self, change: Change) {
        match change {
            Change::Begun => {
                error!(
                    "no attempt got any answer for 30 s, at hosts of several accounts that answered lately: presuming an outage of our own; intake rests, failures are not counted, probes go out"
                );
                self.metrics.set_own_outage(true);
                self.breath = Breath { next: self.clock.monotonic() + BREATH_PAUSE, ..Breath::default() };
            }
            Change::Over => {
                info!("a receiver answers: our own outage is over, attempts come back little by little");
                self.metrics.set_own_outage(false);
                self.breath.of = None;
                self.lanes.restart(self.clock.monotonic());
                for callback in std::mem::take(&mut self.probes) {
                    let Callback { ticket, record, chain, .. } = *callback;
                    self.sort(ticket, record, chain, Sight::Again);
                }
            }
        }
        self.rest();
    }

    /// Tells intake to rest or to go on, when that has changed.
    pub(super) fn rest(&mut self) {
        let all_rest = self.outage.is_presumed() && (!self.probes.is_empty() || self.lanes.running() > 0);
        for class in Class::ALL {
            let rest = all_rest && self.breath.of != Some(class);
            if rest != self.resting[class.index()] {
                self.resting[class.index()] = rest;
                let _ = self.intakes[class.index()].send(ToIntake::Rest(rest));
            }
        }
    }

    /// To be called each tick: begins a breath when it is time, and lets intake go on when the last probe has gone (to a tier, or back to
    /// its partition).
    pub(super) fn look_at_rest(&mut self) {
        let now = self.clock.monotonic();
        if self.outage.is_presumed() && now >= self.breath.next {
            self.breath.of = Class::ALL.get(self.breath.taken % Class::ALL.len()).copied();
            self.breath.batches = 1 << (self.breath.taken / Class::ALL.len()).min(LONGEST_BREATH);
            self.breath.taken += 1;
            self.breath.next = now + BREATH_PAUSE;
        }
        self.rest();
    }

    /// A batch came: where it is of the class that takes a breath, it counts towards the end of that.
    pub(super) fn breathed(&mut self, intakes: &[Intake]) {
        if self.breath.of.is_some() && intakes.iter().any(|intake| Some(intake.ticket.assignment.class) == self.breath.of) {
            self.breath.batches = self.breath.batches.saturating_sub(1);
            if self.breath.batches == 0 {
                self.breath.of = None;
                self.rest();
            }
        }
    }

    /// Keeps a callback as a probe, or puts its record into the smallest tier, uncounted. Probes are sorted anew once the outage is over.
    pub(super) fn withhold(&mut self, callback: Box<Callback>) {
        if self.drain_deadline.is_some() || callback.ticket.assignment.phase() != Phase::Active {
            return self.give_back(callback.ticket, Returned::Unsettled);
        }
        if !self.outage.is_presumed() {
            let Callback { ticket, record, chain, .. } = *callback;
            return self.sort(ticket, record, chain, Sight::Again);
        }
        if self.probes.len() < MAX_PROBES && self.probes.iter().all(|probe| probe.host() != callback.host()) {
            self.probes.push_back(callback);
            return self.rest();
        }
        let Callback { ticket, record, chain, .. } = *callback;
        let due = self.clock.broker_now().plus(self.settings.tiers.smallest().delay);
        self.requeue(ticket, &record, chain, due, RequeueReason::OwnOutage);
    }

    /// Whether a callback goes out now: always, but while an outage is presumed only as a first attempt to a host that does not fail.
    pub(super) fn goes_all_the_same(&self, callback: &Callback) -> bool {
        !self.outage.is_presumed() || callback.chain.attempts == 0 && self.outage.spares(callback.host())
    }

    /// Sends a probe if it is time for one.
    pub(super) fn probe(&mut self) {
        let now = self.clock.monotonic();
        if self.drain_deadline.is_some() || !self.outage.is_presumed() || self.probes.is_empty() || !self.outage.may_probe(now) {
            return;
        }
        let Some(probe) = self.probes.pop_front() else { return };
        let Callback { ticket, record, chain, .. } = *probe;
        // An attempt goes by the URL and the keys of now.
        if let Some(callback) = self.sorted(ticket, record, chain, Sight::Again) {
            let endpoint = callback.url.endpoint.clone();
            let terms = self.terms(&endpoint);
            self.lanes.force(&endpoint, callback.ticket.assignment.class, terms, &callback, now);
            self.start(callback);
        }
    }
}
