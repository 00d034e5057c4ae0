//! `callbackd replay`: copies selected dead letters to the replay topic, each once, whatever is killed in between.
//!
//! ```text
//!  dead-letter topic ─► select ─► batch ─┬─ copies ──────────► replay topic ┐ one transaction
//!   (never changed)                      └─ offsets of the job ─► its group ┘
//! ```
//!
//! A job *is* its filters: their hash names its consumer group and its transactional id, `<group>.replay-job.<hash>`. So the same command
//! started again goes on where it stopped, and finds later only letters that came since. A second run of the same job fences the first, whose
//! open transaction is aborted before anything is read. `--again` starts a new pass from the first letter; the end of that pass is kept
//! in the offsets' metadata, so that a killed pass is gone on with, not begun anew.
//!
//! Each report is awaited before the commit: 2 ms instead of 100 ms a batch. Limit: Kafka forgets offsets of a group without members after
//! `offsets.retention.minutes` (7 days), and the job with them; then all its letters are selected again, and receivers de-duplicate.

mod copier;
mod job;
mod rights;
mod select;

pub use job::run;
pub use select::{Filters, Selected, select};

use super::client::ClientError;
use super::lag::LagError;
use crate::domain::dead_letter::Reason;
use crate::domain::id::DomainName;
use std::collections::BTreeMap;

/// How a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Count only: nothing is written, neither copies nor offsets.
    pub dry_run: bool,
    /// Copies a second at most; `None`: as fast as the broker takes them.
    pub rate: Option<u32>,
    /// Select letters that this job has copied before, too.
    pub again: bool,
    /// Letters replayed this often already are counted, not copied.
    pub replay_limit: u32,
}

/// How far a job is, in records of the dead-letter topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Looked at.
    pub done: u64,
    /// To look at, in offsets: an upper bound.
    pub total: u64,
    /// Selected so far.
    pub selected: u64,
    /// Copied so far, in committed transactions.
    pub copied: u64,
}

/// What became of the letters of one reason and domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Match the filters.
    pub selected: u64,
    /// Copied to the replay topic (none in a dry run).
    pub copied: u64,
    /// Not copied: replayed too often already.
    pub replayed_too_often: u64,
    /// Not copied: larger than the replay topic's producer may send.
    pub too_large: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.selected += other.selected;
        self.copied += other.copied;
        self.replayed_too_often += other.replayed_too_often;
        self.too_large += other.too_large;
    }
}

/// What a job did; in a dry run, what it would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Consumer group and transactional id of the job.
    pub job: String,
    /// Letters looked at by this run.
    pub looked_at: u64,
    /// Letters that an earlier run of this job had looked at, in offsets.
    pub before: u64,
    /// By reason and domain; `None` where the letter does not tell.
    pub by: BTreeMap<(Option<Reason>, Option<DomainName>), Tally>,
}

impl Summary {
    /// All reasons and domains together.
    #[must_use]
    pub fn total(&self) -> Tally {
        self.by.values().fold(Tally::default(), |mut sum, tally| {
            sum.add(*tally);
            sum
        })
    }
}

/// A job ended before its end. What it committed stays; the same command goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The dead-letter topic could not be asked.
    #[error(transparent)]
    Topic(#[from] LagError),
    /// Another run of the same job took over.
    #[error("another run of this replay job has taken over")]
    Fenced,
    /// The broker refused a copy for good.
    #[error("the broker refused a copy to topic {topic}: {cause}")]
    Refused {
        /// The replay topic.
        topic: String,
        /// The client's error code.
        cause: String,
    },
    /// A right is missing.
    #[error("{what}: {missing}")]
    Denied {
        /// What it was needed for.
        what: &'static str,
        /// The right, and how it is granted.
        missing: String,
    },
    /// The broker did not do its part; asking later may help.
    #[error("{what}: {cause}")]
    Broker {
        /// What was asked for.
        what: &'static str,
        /// The client's error code.
        cause: String,
    },
}
