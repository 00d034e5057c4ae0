//! Why an event could not be delivered: a closed list, which is also the metric's label and the header's value.

use std::fmt;
use std::str::FromStr;

/// Reason of a dead letter (design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The record is no event: not JSON, no domain, a wrong type in a field that is needed.
    Undecodable,
    /// An event of a type that has no callback here.
    UnsupportedEvent,
    /// The push domain is in no registry.
    UnknownDomain,
    /// The storage service of the domain's account is not active.
    AccountSuspended,
    /// A template-driven recording without a recording binding when its push started.
    RecordingUnbound,
    /// All attempts of the policy failed.
    AttemptsExhausted,
    /// Older than `max_age` since the first attempt.
    Expired,
    /// Never attempted within `max_wait`.
    WaitedTooLong,
    /// A final verdict of the receiver (policy `standard`: 410).
    Rejected,
    /// Reserved: this version never writes it (a panic of ours counts as an attempt).
    InternalError,
    /// Replayed more often than `replay_limit`.
    ReplayLimit,
    /// Skipped by an operator. Reserved: this version never writes it.
    Skipped,
    /// Purged by an operator. Reserved: this version never writes it.
    Purged,
}

impl Reason {
    /// Every reason, in the order of design §5.
    pub const ALL: [Self; 13] = [
        Self::Undecodable,
        Self::UnsupportedEvent,
        Self::UnknownDomain,
        Self::AccountSuspended,
        Self::RecordingUnbound,
        Self::AttemptsExhausted,
        Self::Expired,
        Self::WaitedTooLong,
        Self::Rejected,
        Self::InternalError,
        Self::ReplayLimit,
        Self::Skipped,
        Self::Purged,
    ];

    /// The value of `callbackd-reason` and of the label `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnsupportedEvent => "unsupported_event",
            Self::UnknownDomain => "unknown_domain",
            Self::AccountSuspended => "account_suspended",
            Self::RecordingUnbound => "recording_unbound",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Expired => "expired",
            Self::WaitedTooLong => "waited_too_long",
            Self::Rejected => "rejected",
            Self::InternalError => "internal_error",
            Self::ReplayLimit => "replay_limit",
            Self::Skipped => "skipped",
            Self::Purged => "purged",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no reason of the closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such dead-letter reason")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_from_its_own_text_and_is_a_legal_label() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert!(reason.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
        assert_eq!("gone".parse::<Reason>(), Err(UnknownReason));
    }
}
