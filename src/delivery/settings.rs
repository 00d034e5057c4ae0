//! What the delivery engine needs to know of the configuration.

use super::circuit::CircuitSettings;
use crate::domain::class::Class;
use crate::domain::tier::Tiers;
use std::sync::Arc;
use std::time::Duration;

/// Where intake of a source topic starts when its group has no commit for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// At the log's start.
    Earliest,
    /// At the log's end.
    Latest,
}

impl StartFrom {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Earliest, Self::Latest];

    /// As written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }
}

/// Delivery settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The delay tiers to requeue into.
    pub tiers: Tiers,
    /// The topic prefix: names of tiers are read with it.
    pub prefix: Arc<str>,
    /// The dead-letter topic.
    pub dead_letter_topic: Arc<str>,
    /// Attempts at once, the whole process, ≥ 1.
    pub max_in_flight: usize,
    /// Bytes of records in memory, the whole process.
    pub max_in_flight_bytes: usize,
    /// Attempts at once to one endpoint, ≥ 1.
    pub endpoint_concurrency: usize,
    /// The circuits' settings: when an endpoint is left alone, and for how long.
    pub circuit: CircuitSettings,
    /// How long running attempts may end after SIGTERM.
    pub drain_timeout: Duration,
    /// How long running attempts may end when their partition is revoked.
    pub revoke_grace: Duration,
    /// Where source topics without a commit start.
    pub start_from: StartFrom,
    /// How often one event may be replayed.
    pub replay_limit: u32,
}

impl Settings {
    /// Records in memory, the whole process: 16 × `max_in_flight` (design §9).
    #[must_use]
    pub const fn max_records(&self) -> usize {
        self.max_in_flight.saturating_mul(16)
    }

    /// Records that wait in memory for a remainder below the smallest tier: a quarter of what the retry class may hold released.
    #[must_use]
    pub fn hold_records(&self) -> usize {
        (Class::Retry.share(self.max_records()) / 8).max(1)
    }

    /// Bytes of released records that wait in memory for a remainder below the smallest tier: 10 % of the bytes.
    #[must_use]
    pub const fn hold_bytes(&self) -> usize {
        self.max_in_flight_bytes / 10
    }
}
