//! The queue of parked records: each has a slot of its own to come back in, one after the other.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The latest slot that was given.
    last: Duration,
    /// The pace at which the slots ahead were given: the time from one to the next.
    pace: Duration,
}

impl Queue {
    /// A slot not before `earliest`, and `pace` after all that were given before. When the pace has become faster meanwhile, the records
    /// ahead will be through sooner than their slots say, so this one comes sooner, too.
    pub(super) fn slot(&mut self, pace: Duration, earliest: Duration) -> Duration {
        let ahead = self.last.saturating_sub(earliest);
        if pace < self.pace {
            self.last = earliest + ahead.mul_f64(pace.as_secs_f64() / self.pace.as_secs_f64());
        }
        self.pace = pace;
        self.last = earliest.max(self.last + pace);
        self.last
    }

    /// From now on no slot is before `at`.
    pub(super) fn not_before(&mut self, at: Duration) {
        self.last = self.last.max(at);
    }

    /// What the queue was for is over: the next slot is free.
    pub(super) fn end(&mut self) {
        self.last = Duration::ZERO;
    }

    /// The latest slot that was given.
    pub(super) const fn last(&self) -> Duration {
        self.last
    }
}
