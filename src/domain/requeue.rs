//! Why a record goes into a delay tier: a closed list, which is also the metric's label.

use std::fmt;

/// Reason of a requeue: the label `reason` of `callbackd_requeued_total`. Only [`Retry`](Self::Retry) follows an attempt; a requeue for any
/// other reason leaves the attempt count as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequeueReason {
    /// An attempt failed and the policy allows another (design §7).
    Retry,
    /// Released from its tier, not yet due: on to the next tier (design §5).
    MovedOn,
    /// Parked: the endpoint's lane has no room (design §9).
    LaneFull,
    /// Parked: the endpoint's circuit is open (design §9).
    CircuitOpen,
    /// Parked: the template has keys and none is in force (design §7).
    NoActiveKey,
    /// Parked once: the domain is in no registry, which may be a moment behind (design §8).
    UnknownDomain,
    /// Returned uncounted: our own outage is presumed (design §9).
    OwnOutage,
}

impl RequeueReason {
    /// Every reason, in the order of the observability reference.
    pub const ALL: [Self; 7] =
        [Self::Retry, Self::MovedOn, Self::LaneFull, Self::CircuitOpen, Self::NoActiveKey, Self::UnknownDomain, Self::OwnOutage];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::MovedOn => "moved_on",
            Self::LaneFull => "lane_full",
            Self::CircuitOpen => "circuit_open",
            Self::NoActiveKey => "no_active_key",
            Self::UnknownDomain => "unknown_domain",
            Self::OwnOutage => "own_outage",
        }
    }
}

impl fmt::Display for RequeueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_the_observability_reference() {
        assert_eq!(
            RequeueReason::ALL.map(RequeueReason::as_str),
            ["retry", "moved_on", "lane_full", "circuit_open", "no_active_key", "unknown_domain", "own_outage"]
        );
    }
}
