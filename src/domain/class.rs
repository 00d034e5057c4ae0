//! The three classes of intake (design §9): here, because delivery, metrics and health all speak of them.

use std::fmt;

/// Where records come from, which decides group, thread and share of the budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Source topics.
    Fresh,
    /// All delay tiers.
    Retry,
    /// The replay topic.
    Replay,
}

impl Class {
    /// Every class, in the order of precedence: fresh first.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Retry, Self::Replay];

    /// Its place in arrays by class.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Fresh => 0,
            Self::Retry => 1,
            Self::Replay => 2,
        }
    }

    /// Its name in logs, and the label `class`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Retry => "retry",
            Self::Replay => "replay",
        }
    }

    /// Its reserved share of `whole`: 60, 30 and 10 %, never less than one.
    #[must_use]
    pub fn share(self, whole: usize) -> usize {
        let percent = match self {
            Self::Fresh => 60,
            Self::Retry => 30,
            Self::Replay => 10,
        };
        (whole.saturating_mul(percent) / 100).max(1)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
