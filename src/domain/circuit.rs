//! The states of an endpoint's circuit: here, because delivery and metrics both speak of them.

/// How it stands: the label `circuit` of `callbackd_endpoints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Attempts go out.
    Closed,
    /// Nothing goes out until it reopens, but for a record due by its own schedule.
    Open,
    /// One attempt is out to see whether the endpoint is well again.
    Probing,
}

impl CircuitState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::Probing];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}
