//! Commits that have vanished: their topic was deleted.
//!
//! Where a topic is made anew at once the client reads on in the new log at the offset that it had in the old one, and tells nobody. What
//! stands below would never be read. But the broker forgets the commits of a deleted topic; while a group is in use it forgets none else. So
//! before each commit, and now and then, the group's commits are looked at: where there was one and is none, the partition begins anew.

use super::QUESTION;
use super::committer::commits_of;
use super::context::Context;
use crate::delivery::ports::{Assigned, TopicPartition};
use rdkafka::consumer::BaseConsumer;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Partitions given of which the group has a commit, as far as this member knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<HashSet<TopicPartition>>>);

impl Held {
    fn names(&self) -> MutexGuard<'_, HashSet<TopicPartition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These begin.
    pub(super) fn begin(&self, given: &[Assigned]) {
        let mut names = self.names();
        for Assigned { partition, committed, .. } in given {
            let _ = if committed.is_some() { names.insert(partition.clone()) } else { names.remove(partition) };
        }
    }

    /// These have gone.
    pub(super) fn end(&self, gone: &[TopicPartition]) {
        self.names().retain(|name| !gone.contains(name));
    }

    /// These were committed.
    pub(super) fn accepted<'a>(&self, committed: impl Iterator<Item = &'a TopicPartition>) {
        self.names().extend(committed.cloned());
    }

    /// Those of `names`, or of all, whose commit has vanished; none where the broker does not say. Told once.
    pub(super) fn vanished(&self, client: &BaseConsumer<Context>, names: Option<&[TopicPartition]>) -> Vec<TopicPartition> {
        let known = self.names().clone();
        let asked: Vec<TopicPartition> =
            names.map_or_else(|| known.iter().cloned().collect(), |n| n.iter().filter(|n| known.contains(n)).cloned().collect());
        if asked.is_empty() {
            return asked;
        }
        let Ok(commits) = commits_of(client, &asked, QUESTION) else { return Vec::new() };
        let vanished: Vec<TopicPartition> = asked.into_iter().filter(|name| matches!(commits.get(name), Some(Ok(None)))).collect();
        self.end(&vanished);
        vanished
    }
}
