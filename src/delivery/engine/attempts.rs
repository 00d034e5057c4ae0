//! Attempts: started, ended, judged.

use super::{Done, Engine, Job, KEY_RECHECK};
use crate::delivery::attempt::{self, Callback, NoActiveKey, Success, record_key};
use crate::delivery::handover::{Phase, Returned, Ticket};
use crate::delivery::lane::{Ended, Reply};
use crate::delivery::lanes::Aftermath;
use crate::delivery::mutant::{self, Mutant};
use crate::delivery::ports::Clock;
use crate::delivery::settle::Settlement;
use crate::domain::class::Class;
use crate::domain::dead_letter::Reason;
use crate::domain::headers::{Chain, OutcomeMark};
use crate::domain::id::DomainName;
use crate::domain::policy::Policy;
use crate::domain::record::Record;
use crate::domain::registry::Endpoint;
use crate::domain::requeue::RequeueReason;
use crate::domain::retry::{self, Next};
use crate::domain::time::UnixMillis;
use crate::domain::verdict::{self, AttemptResult, Failure, Outcome, Verdict};
use crate::metrics::SettledAs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tracing::{debug, warn};

/// What an outcome says about the endpoint.
fn reply(policy: &Policy, outcome: &Outcome) -> Reply {
    match (AttemptResult::of(policy, outcome), outcome) {
        (AttemptResult::Success, _) => Reply::Accepted,
        (_, Outcome::Answered { status: 429 | 503, .. }) => Reply::Overloaded,
        (_, Outcome::Answered { status, .. }) if policy.final_statuses.contains(status) => Reply::Rejected,
        (_, Outcome::Answered { .. }) => Reply::Failed,
        (_, Outcome::Failed(Failure::Timeout)) => Reply::TimedOut,
        (_, Outcome::Failed(Failure::Internal)) => Reply::Nothing,
        (_, Outcome::Failed(_)) => Reply::Broken,
    }
}

impl<C: Clock> Engine<C> {
    pub(super) fn start_waiting(&mut self) {
        let now = self.clock.monotonic();
        while self.drain_deadline.is_none() {
            let Some(callback) = self.lanes.next(now) else { break };
            if callback.ticket.assignment.phase() == Phase::Active && self.goes_all_the_same(&callback) {
                self.start(callback);
            } else if callback.ticket.assignment.phase() == Phase::Active {
                self.free_place(&callback, Reply::Nothing, Duration::ZERO);
                self.withhold(callback);
            } else {
                self.free_place(&callback, Reply::Nothing, Duration::ZERO);
                self.give_back(callback.ticket, Returned::Unsettled);
            }
        }
        self.metrics.set_in_flight(self.lanes.running());
    }

    /// Starts an attempt whose place in its lane is taken already.
    pub(super) fn start(&mut self, callback: Box<Callback>) {
        let now = self.clock.trusted_now();
        match catch_unwind(AssertUnwindSafe(|| attempt::request(&callback, now))) {
            Ok(Ok(request)) => {
                if callback.chain.attempts == 0 && callback.ticket.assignment.class == Class::Fresh {
                    self.metrics.first_attempt_age(now.since(callback.chain.source_time));
                }
                self.jobs.push(Job::Attempt { callback, request, started: now });
            }
            Ok(Err(NoActiveKey)) => {
                self.free_place(&callback, Reply::Nothing, Duration::ZERO);
                let due = self.clock.broker_now().plus(KEY_RECHECK);
                let Callback { ticket, record, chain, template, .. } = *callback;
                warn!(template = %template.name, event_id = %chain.id, "keys are configured and none is in force: parked, never sent unsigned");
                self.requeue(ticket, &record, chain, due, RequeueReason::NoActiveKey);
            }
            Err(_) => {
                self.free_place(&callback, Reply::Nothing, Duration::ZERO);
                let Callback { ticket, record, chain, .. } = *callback;
                self.fault(ticket, &record, |_| chain);
            }
        }
    }

    /// An attempt ended after `took`, or was not made after all: its place is free, and what waits behind a circuit that it opened is
    /// parked.
    pub(super) fn free_place(&mut self, callback: &Callback, reply: Reply, took: Duration) {
        let now = self.clock.monotonic();
        let record = match reply {
            Reply::Accepted => 0,
            Reply::Rejected | Reply::Failed | Reply::Overloaded | Reply::TimedOut | Reply::Broken | Reply::Nothing => {
                record_key(&callback.chain.id)
            }
        };
        let ended = Ended { class: callback.ticket.assignment.class, record, reply, started: now.saturating_sub(took) };
        let Aftermath { parked, opened } = self.lanes.ended(&callback.url.endpoint, &ended, now);
        if opened {
            self.log_opened(&callback.url.endpoint);
        }
        self.give_up(parked);
    }

    fn log_opened(&self, endpoint: &Endpoint) {
        warn!(endpoint = %endpoint.0, waiting = self.lanes.waiting().count(), "too many different records failed in a row: the endpoint's circuit is open");
    }

    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Attempt { callback, outcome, started, took } => self.on_attempt(callback, &outcome, started, took),
            Done::Append { leaving, result } => self.on_append(*leaving, result),
        }
    }

    pub(super) fn on_attempt(&mut self, callback: Box<Callback>, outcome: &Outcome, started: UnixMillis, took: Duration) {
        let uncounted = self.witness(&callback, outcome, took);
        let reply = if uncounted { Reply::Nothing } else { reply(&callback.template.policy, outcome) };
        self.free_place(&callback, reply, took);
        if uncounted {
            self.metrics.attempt(AttemptResult::of(&callback.template.policy, outcome), took);
            return self.withhold(callback);
        }
        let Callback { ticket, record, mut chain, template, url, .. } = *callback;
        let policy = &template.policy;
        let result = AttemptResult::of(policy, outcome);
        self.metrics.attempt(result, took);
        let now = self.clock.trusted_now();
        let mark = OutcomeMark::of(outcome);
        let verdict = verdict::judge(policy, outcome, now);
        debug!(
            event_id = %chain.id, domain = chain.domain.as_ref().map(DomainName::as_str), attempt = chain.attempts + 1,
            outcome = %mark, duration_ms = took.as_millis(), topic = %ticket.assignment.topic,
            partition = ticket.assignment.partition, offset = ticket.offset, "attempt"
        );
        // Also when it comes too late for its record: it is the endpoint that asked.
        if let Verdict::Retry { pause: Some(pause) } = verdict {
            self.pause(&url.endpoint, pause);
        }
        if let Some(success) = Success::proven_by(verdict) {
            if ticket.assignment.phase() == Phase::Fenced {
                self.metrics.possible_repeat(1);
                return self.give_back(ticket, Returned::Unsettled);
            }
            self.settled(SettledAs::Delivered, &chain);
            return self.give_back(ticket, Returned::Settled(Settlement::delivered(success)));
        }
        if ticket.assignment.phase() == Phase::Fenced && !mutant::active(Mutant::RequeueLateFailureAfterRevoke) {
            return self.give_back(ticket, Returned::Unsettled);
        }
        chain.attempted(started, mark);
        let pause = match verdict {
            Verdict::Retry { pause } => pause,
            Verdict::Delivered | Verdict::Rejected => {
                return self.bury(ticket, &record, chain, Reason::Rejected, &format!("status {mark} is final"));
            }
        };
        self.retry(policy, ticket, &record, chain, pause);
    }

    /// The receiver asked to be left alone: its lane rests, what waits there is parked.
    pub(super) fn pause(&mut self, endpoint: &Endpoint, pause: Duration) {
        let now = self.clock.monotonic();
        let parked = self.lanes.pause(endpoint, now + pause, now);
        self.give_up(parked);
    }

    /// Requeues or buries a record after a failed attempt, which `chain` counts already.
    pub(super) fn retry(&mut self, policy: &Policy, ticket: Ticket, record: &Record, chain: Chain, pause: Option<Duration>) {
        let now = self.clock.trusted_now();
        // No verdict by age without a clock for it: as if first attempted now.
        let unaged = (!self.clock.may_judge_age()).then(|| Chain { first_attempt: None, ..chain.clone() });
        let judged = unaged.as_ref().unwrap_or(&chain);
        match retry::after_failure(policy, judged, pause, self.clock.draw(), &self.settings.tiers, now) {
            Next::At(due) => {
                let due = self.clock.broker_now().plus(due.since(now));
                self.requeue(ticket, record, chain, due, RequeueReason::Retry);
            }
            Next::Bury(reason) => {
                let detail = format!(
                    "{} attempts, the last one: {}",
                    chain.attempts,
                    chain.last_outcome.map_or_else(String::new, |m| m.to_string())
                );
                self.bury(ticket, record, chain, reason, &detail);
            }
        }
    }

    /// A panic of ours on the way of `record`: an attempt with outcome `internal`, by the default policy.
    pub(super) fn fault(&mut self, ticket: Ticket, record: &Record, chain: impl FnOnce(&Record) -> Chain) {
        let mut chain = chain(record);
        warn!(event_id = %chain.id, topic = %record.position.topic, partition = record.position.partition, offset = record.position.offset, "a fault of ours while this record was handled counts as an attempt");
        self.metrics.attempt(AttemptResult::Internal, Duration::ZERO);
        let now = self.clock.trusted_now();
        chain.attempted(now, OutcomeMark::of(&Outcome::Failed(Failure::Internal)));
        self.retry(&Policy::css(), ticket, record, chain, None);
    }
}
