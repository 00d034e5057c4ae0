//! Partitions that the client has stopped reading, because the offset to read next was not in the log.
//!
//! The client tells that there is one more of them, not which, and does not read it again by itself. The watermarks show which: the next
//! offset lies outside of them. But not always: a log that was cut by an unclean election and written anew, or a replica that had fallen
//! behind, may reach past that offset again by the time it is asked. Where fewer are found than stopped, any other may be one of them, and
//! all begin anew at the group's commits, as at an assignment. To go on at the positions was refused: what was written anew below them would
//! be skipped, and nobody would know. What comes twice instead is what was not committed yet.
//!
//! One look takes no longer than [`QUESTION`](super::QUESTION), or the class would not poll meanwhile; a later one goes on where it ended.

use super::beginning::Beginning;
use super::committer::commits_of;
use super::context::Context;
use crate::delivery::ports::{Assigned, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Where a partition stood when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Stand {
    /// The offset to read next.
    next: i64,
    /// The log's start.
    low: i64,
    /// The log's end.
    high: i64,
}

impl Stand {
    /// Whether it has stopped for certain: `next`, where it stands now, is not in the log, and nothing was read since.
    const fn is_misplaced(&self, next: i64) -> bool {
        self.next == next && (next < self.low || next > self.high)
    }
}

/// The search for them.
#[derive(Debug)]
pub(super) struct Stopped {
    /// How many there are.
    pub(super) count: usize,
    looked_at: HashMap<TopicPartition, Stand>,
    look_at: Instant,
}

impl Stopped {
    /// One has stopped. Others may at the same moment: the search begins after `pause`.
    pub(super) fn one(pause: Duration) -> Self {
        Self { count: 1, looked_at: HashMap::new(), look_at: Instant::now() + pause }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.look_at
    }

    pub(super) fn later(&mut self, pause: Duration) {
        self.look_at = Instant::now() + pause;
    }

    /// Those of `nexts` (where each started partition stands) that have to be started again, with where; `None`: not known before the
    /// deadline, or the commits are not at rest and were needed.
    pub(super) fn find(
        &mut self,
        client: &BaseConsumer<Context>,
        nexts: &HashMap<TopicPartition, i64>,
        beginning: Option<&Beginning>,
        commits_rest: bool,
        deadline: Instant,
    ) -> KafkaResult<Option<Vec<Assigned>>> {
        let left = || deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        for (name, next) in nexts {
            if self.looked_at.contains_key(name) {
                continue;
            }
            let Some(left) = left() else { return Ok(None) };
            let (low, high) = client.fetch_watermarks(&name.topic, name.partition, left)?;
            self.looked_at.insert(name.clone(), Stand { next: *next, low, high });
        }
        let assigned = |name: &TopicPartition, committed, Stand { low, high, .. }| Assigned {
            partition: name.clone(),
            committed,
            latest: beginning.and_then(|known| known.end_of(&name.topic, name.partition)),
            low,
            high,
        };
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for (name, next) in nexts {
            match self.looked_at.get(name) {
                Some(stand) if stand.is_misplaced(*next) => found.push(assigned(name, Some((*next, String::new())), *stand)),
                // What was read since the look is in the log too.
                Some(stand) => others.push((name.clone(), Stand { high: stand.high.max(*next), ..*stand })),
                None => {}
            }
        }
        if found.len() < self.count && !others.is_empty() {
            let (true, Some(left)) = (commits_rest, left()) else { return Ok(None) };
            let names: Vec<TopicPartition> = others.iter().map(|(name, _)| name.clone()).collect();
            let commits = commits_of(client, &names, left)?;
            tracing::error!(
                partitions = others.len(),
                "the broker did not have the offset to read of a partition, and has it now (log truncated and written anew?): all go back to their commits, repeats are possible"
            );
            found.extend(others.iter().map(|(name, stand)| assigned(name, commits.get(name).cloned(), *stand)));
        }
        Ok(Some(found))
    }
}
