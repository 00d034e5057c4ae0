//! The window: how many attempts at once an endpoint gets.

use std::time::Duration;

/// Attempts at once of an endpoint that is not known yet.
pub const FIRST_WINDOW: usize = 2;

#[derive(Debug)]
pub(super) struct Window {
    pub(super) size: usize,
    /// Replies to attempts that started before this do not halve it again.
    halved: Duration,
    /// The most attempts at once in this second.
    most: usize,
}

impl Window {
    pub(super) fn new(limit: usize) -> Self {
        Self { size: FIRST_WINDOW.min(limit), halved: Duration::ZERO, most: 0 }
    }

    /// Never above the limit, and never zero.
    pub(super) fn agree(&mut self, limit: usize) {
        self.size = self.size.min(limit.max(1));
    }

    /// So many are running.
    pub(super) fn uses(&mut self, running: usize) {
        self.most = self.most.max(running);
    }

    /// An answer that it held up.
    pub(super) fn grow(&mut self, limit: usize) {
        self.size = (self.size + 1).min(limit.max(1));
    }

    /// The endpoint has too much to do, says an attempt that started at `started`: half of it, once for what was on its way together.
    pub(super) fn halve(&mut self, started: Duration, now: Duration) {
        if started >= self.halved {
            self.size = (self.size / 2).max(1);
            self.halved = now;
        }
    }

    /// Whether it was halved less than `time` ago.
    pub(super) fn was_halved_within(&self, time: Duration, now: Duration) -> bool {
        self.halved > Duration::ZERO && now.saturating_sub(self.halved) < time
    }

    /// At least what an unknown endpoint gets.
    pub(super) fn begin_again(&mut self, limit: usize) {
        self.size = self.size.max(FIRST_WINDOW.min(limit));
    }

    /// A second has passed: half of it where not half of it was used.
    pub(super) fn age(&mut self, running: usize) {
        if self.most * 2 < self.size {
            self.size = (self.size / 2).max(FIRST_WINDOW.min(self.size));
        }
        self.most = running;
    }
}
