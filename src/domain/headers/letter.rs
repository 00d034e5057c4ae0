//! Dead letters as tools read them, and what of them goes back into delivery.

use super::super::dead_letter::Reason;
use super::super::record::{Header, Record};
use super::{Chain, Origin, name, pass_through, text};
use std::time::Duration;

/// A record of the dead-letter topic, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The chain that ended here.
    pub chain: Chain,
    /// `callbackd-reason`; `None` when it is missing or not of the closed list.
    pub reason: Option<Reason>,
    /// `callbackd-detail`; `None` when it is missing or empty. Anyone who may write to the topic may have written it:
    /// control characters are to be escaped before it is shown.
    pub detail: Option<String>,
}

impl DeadLetter {
    /// The dead letter in `record`; never fails, as [`Chain::read`].
    #[must_use]
    pub fn read(record: &Record) -> Self {
        Self {
            chain: Chain::read(record, Origin::DeadLetter, Duration::ZERO),
            reason: text(record, name::REASON).and_then(|r| r.parse().ok()),
            detail: text(record, name::DETAIL).filter(|d| !d.is_empty()).map(str::to_owned),
        }
    }
}

/// Headers of the record that a replay puts on the replay topic for the dead letter `record`: id, domain, source time, origin
/// and replays (unchanged: the intake of the replay topic adds one), then those that pass through. What was tried, when
/// and why it ended is left behind: the chain starts anew.
#[must_use]
pub fn replay_headers(record: &Record) -> Vec<Header> {
    let mut headers = Chain::read(record, Origin::DeadLetter, Duration::ZERO).identity();
    // A dead letter of ours carries no more than may pass; of somebody else's the surplus is dropped here.
    pass_through(record, &mut headers);
    headers
}
