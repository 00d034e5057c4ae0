//! Commits: what is due, what was accepted, and the last one before leaving.

use super::{COMMIT_INTERVAL, EXPORT_INTERVAL, Ended, Loop};
use crate::delivery::partition::Partition;
use crate::delivery::ports::{Clock, CommitMode, CommitRefused, Source, TopicPartition};
use crate::domain::offsets::CommitPoint;
use crate::metrics::KafkaErrorKind;
use std::collections::HashMap;
use std::sync::PoisonError;
use tracing::{debug, warn};

impl<S: Source, C: Clock> Loop<S, C> {
    /// The commit points of dirty partitions.
    pub(super) fn points(&mut self, which: impl Fn(&Partition) -> bool) -> Vec<(TopicPartition, CommitPoint)> {
        // While draining, records are dropped unseen, so the position must not be committed.
        if !self.draining {
            let positions: HashMap<TopicPartition, i64> = self.source.positions().into_iter().collect();
            for partition in &mut self.partitions {
                if let Some(position) = positions.get(&partition.name) {
                    partition.seen(*position);
                }
            }
        }
        let dirty = self.partitions.iter_mut().filter(|p| which(p) && p.tracker.is_dirty());
        dirty.map(|p| (p.name.clone(), p.commit_point())).collect()
    }

    pub(super) fn commit_if_due(&mut self) {
        let now = self.context.clock.monotonic();
        if now < self.next_commit {
            return;
        }
        self.next_commit = now + COMMIT_INTERVAL;
        if now >= self.next_export {
            self.next_export = now + EXPORT_INTERVAL;
            self.export();
        }
        if self.pending.is_some() {
            // A commit is still unanswered: partitions that became dirty since have no commit, either.
            self.partitions.iter_mut().filter(|p| p.tracker.is_dirty()).for_each(|p| p.commit_fails(now));
            return;
        }
        let points = self.points(|_| true);
        if points.is_empty() {
            self.context.metrics.committed_at(self.context.class, self.context.clock.now());
            return;
        }
        match self.source.commit(points.clone(), CommitMode::Later) {
            Ok(()) => self.pending = Some(points),
            Err(refused) => self.answered(&points, Err(&refused)),
        }
    }

    pub(super) fn on_committed(&mut self, result: &Result<(), CommitRefused>) {
        let Some(points) = self.pending.take() else { return };
        self.answered(&points, result.as_ref().copied());
    }

    /// The broker answered the commit of these points.
    fn answered(&mut self, points: &[(TopicPartition, CommitPoint)], result: Result<(), &CommitRefused>) {
        match result {
            Ok(()) => self.context.metrics.committed_at(self.context.class, self.context.clock.now()),
            Err(refused) => {
                debug!(class = %self.context.class, cause = %refused, "commit not accepted, it is tried again");
                self.context.metrics.kafka_error(KafkaErrorKind::Commit);
            }
        }
        let now = self.context.clock.monotonic();
        for (name, point) in points {
            let Some(partition) = self.partitions.iter_mut().find(|p| p.name == *name) else { continue };
            match result {
                Err(refused) if !refused.accepted.contains(name) => partition.commit_fails(now),
                Ok(()) | Err(_) => partition.committed(point),
            }
        }
    }

    /// The last commit of partitions that go. What of them was settled and stays uncommitted may be repeated, and is told.
    pub(super) fn commit_last(&mut self, which: impl Fn(&Partition) -> bool) {
        let points = self.points(&which);
        if points.is_empty() {
            return;
        }
        // It takes seconds where the broker hangs.
        self.heartbeat.beat();
        let result = self.source.commit(points.clone(), CommitMode::Await);
        self.heartbeat.beat();
        if let Err(refused) = &result {
            warn!(class = %self.context.class, cause = %refused, "the final commit was not accepted: repeats are possible");
            self.answered(&points, Err(refused));
            self.tell_uncommitted(which);
        }
    }

    pub(super) fn export(&self) {
        let mut positions = self.context.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut largest_map = 0;
        for partition in &self.partitions {
            let point = partition.tracker.commit_point();
            largest_map = largest_map.max(point.metadata.len());
            let name = &partition.name;
            self.context.metrics.set_unfinished_span(&name.topic, name.partition, partition.tracker.unfinished_span());
            positions.insert(name.clone(), point.offset);
        }
        drop(positions);
        self.context.metrics.set_commit_map_bytes(self.context.class, largest_map);
    }

    /// Partitions go and what of them was settled since the last accepted commit stays uncommitted: it may be repeated.
    pub(super) fn tell_uncommitted(&self, which: impl Fn(&Partition) -> bool) {
        let repeats = self.partitions.iter().filter(|p| which(p)).map(Partition::uncommitted).sum();
        self.context.metrics.possible_repeat(repeats);
    }

    /// Commits what is finished and leaves the group.
    pub(super) fn leave(&mut self) -> Ended {
        self.draining = true;
        self.commit_last(|_| true);
        let names: Vec<TopicPartition> = self.partitions.iter().map(|p| p.name.clone()).collect();
        self.end(&names);
        self.source.leave();
        Ended::Left
    }
}
