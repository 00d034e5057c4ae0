//! Offsets: what is finished in a partition, and the map of what is not (design §10).
//!
//! A commit in Kafka is one number, "the next offset to read", while records finish in any order. So a commit carries two
//! things: the contiguous prefix of what is finished, and, in its metadata, a map of what is *unfinished* below the highest
//! finished offset. Whoever resumes from that commit reads everything from the prefix on and skips what the map vouches for.
//!
//! ```text
//!            committed                 last finished
//!                │                          │
//!  … f f f f f f U f f U U f f f U f f f f  f U U U …      f finished, U unfinished
//!                └──────── the map ─────────┘  └ read again anyway
//! ```
//!
//! - [`Tracker`] is the state of one assigned partition; it owns all the rules.
//! - `map` is the text form: versioned, checksummed, bound to the committed offset; `runs` packs its run lengths.
//!
//! A commit per finished record in order (waiting for the slowest) was refused: one slow endpoint would make all that
//! finished behind it repeats after a crash. A state store beside Kafka was refused by design §1.
//!
//! Not here: when to commit, what a failed commit means, pausing; the partition's state machine decides these.

mod map;
mod runs;
mod tracker;

pub use tracker::Tracker;

use super::time::UnixMillis;

/// The longest metadata a commit carries, in characters (design §10); brokers refuse above 4,096 by default.
pub const MAX_METADATA: usize = 3_000;

/// The most records that may still reach a [`Tracker`] after [`Tracker::must_rest`] turned true: what was polled and not handed over.
pub const MAX_BATCH: usize = 256;

/// What recognises a record when it is read again: equal for the same record, different after a topic was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The record's timestamp, as the broker gives it.
    pub timestamp: UnixMillis,
    /// Bytes of the value; 0 for null.
    pub length: u32,
}

/// What to do with a record that was read.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Handle it, and call [`Tracker::finished`] when its settlement is durable.
    New,
    /// Drop it: it was finished, here or before the partition came here.
    AlreadyFinished,
    /// Drop it: the same offset was received in this assignment and is still unfinished.
    Duplicate,
}

/// What to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    /// The next offset to read: the lowest unfinished one, or the position when nothing is unfinished.
    pub offset: i64,
    /// The map, ASCII, at most [`MAX_METADATA`] characters; empty when nothing above the offset is finished.
    pub metadata: String,
}

/// Why a map is not used. Without it everything from the committed offset on is handled again: repeats, never a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Written by a version of this program that this one does not read.
    #[error("offset map of an unknown version")]
    Version,
    /// Not what this program writes, or damaged; names the part.
    #[error("offset map is corrupt: {0}")]
    Corrupt(&'static str),
    /// The map belongs to another commit.
    #[error("offset map starts at {base}, but {committed} is committed")]
    Base {
        /// The offset the map was written for.
        base: i64,
        /// The offset it was found with.
        committed: i64,
    },
    /// The map knows records that the log does not have: the topic was made anew or cut.
    #[error("offset map reaches to {last}, but the log ends at {log_end}")]
    BeyondEnd {
        /// The highest finished offset in the map.
        last: i64,
        /// The log's end: the offset the next record will get.
        log_end: i64,
    },
    /// A record that the map vouches for is missing or is another one: the topic was made anew, cut or compacted.
    #[error("the record at offset {offset} is not the one in the offset map")]
    Mismatch {
        /// The offset in the map.
        offset: i64,
    },
}
