//! The window: how many attempts at once an endpoint gets.

use std::time::Duration;

/// Attempts at once of an endpoint that is not known yet.
pub const FIRST_WINDOW: usize = 2;

#[derive(Debug)]
pub(super) struct Window {
    pub(super) size: usize,
    /// When it was halved last: replies to attempts that started before do not halve it again.
    halved: Duration,
    /// The most attempts at once in this second.
    most: usize,
}

impl Window {
    pub(super) fn new(limit: usize) -> Self {
        Self { size: FIRST_WINDOW.min(limit), halved: Duration::ZERO, most: 0 }
    }

    /// Keeps it within the limit, and above zero.
    pub(super) fn agree(&mut self, limit: usize) {
        self.size = self.size.min(limit.max(1));
    }

    /// This many attempts are running.
    pub(super) fn uses(&mut self, running: usize) {
        self.most = self.most.max(running);
    }

    /// An answer came while the window was full: one more attempt at once.
    pub(super) fn grow(&mut self, limit: usize) {
        self.size = (self.size + 1).min(limit.max(1));
    }

    /// An attempt that started at `started` says that the endpoint has too much to do: halves it, once for what was on its way together.
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

    /// Raises it to what an unknown endpoint gets, at least.
    pub(super) fn begin_again(&mut self, limit: usize) {
        self.size = self.size.max(FIRST_WINDOW.min(limit));
    }

    /// A second has passed: halves it where less than half was used.
    pub(super) fn age(&mut self, running: usize) {
        if self.most * 2 < self.size {
            self.size = (self.size / 2).max(FIRST_WINDOW.min(self.size));
        }
        self.most = running;
    }
}
