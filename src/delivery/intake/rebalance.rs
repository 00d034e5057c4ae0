//! Partitions come and go: where they start, what is waited for when they leave, what fences their late results.

use super::Thread;
use crate::delivery::handover::{Phase, ToEngine, ToIntake};
use crate::delivery::partition::{Partition, Start};
use crate::delivery::ports::{Assigned, Clock, CommitMode, Source, TopicPartition};
use std::sync::PoisonError;
use tracing::{debug, error, info, warn};

impl<S: Source, C: Clock> Thread<S, C> {
    pub(super) fn begin(&mut self, assigned: &[Assigned]) {
        let mut starts = Vec::with_capacity(assigned.len());
        for one in assigned {
            let start = Start::decide(one, self.context.class, self.context.settings.start_from);
            let name = &one.partition;
            match start {
                Start::Committed(_) => {}
                Start::Earliest(at) | Start::Latest(at) => {
                    debug!(topic = %name.topic, partition = name.partition, at, "no commit yet");
                }
                Start::BelowStart { at, lost } => {
                    error!(topic = %name.topic, partition = name.partition, at, lost, "retention deleted records before they were read: they are lost");
                    self.context.metrics.records_lost(lost);
                }
                Start::AboveEnd { at, repeats } => {
                    error!(topic = %name.topic, partition = name.partition, at, repeats, "the commit lies above the log's end (topic re-created?): reading from its start, repeats are possible");
                    self.context.metrics.possible_repeat(repeats);
                }
            }
            let (partition, fault) = Partition::begin(one, self.context.class, start, &self.context.settings.prefix);
            if let Some(fault) = fault {
                Self::say_map_fault(&self.context.metrics, &partition, &fault);
            }
            starts.push((name.clone(), start.at()));
            self.partitions.push(partition);
        }
        self.source.start(&starts);
        self.count_assigned();
        info!(class = %self.context.class, taken = assigned.len(), held = self.partitions.len(), "partitions assigned");
    }

    /// Offsets to read are gone from the log. Where only its start moved up, the assignment goes on: what is in memory cannot be read
    /// again. Where its end moved down it is another log, and the partition begins anew.
    pub(super) fn go_on_after_a_gap(&mut self, assigned: Vec<Assigned>) {
        let mut starts = Vec::new();
        let mut anew = Vec::new();
        for one in assigned {
            let start = Start::decide(&one, self.context.class, self.context.settings.start_from);
            let name = one.partition.clone();
            let known = self.partitions.iter_mut().find(|p| p.name == name);
            if let (Start::BelowStart { at, lost }, Some(partition)) = (start, known) {
                error!(topic = %name.topic, partition = name.partition, at, lost, "retention deleted records before they were read: they are lost");
                self.context.metrics.records_lost(lost);
                partition.skip_to(at);
                starts.push((name, at));
            } else {
                anew.push(one);
            }
        }
        if !starts.is_empty() {
            self.source.start(&starts);
        }
        if !anew.is_empty() {
            let names: Vec<TopicPartition> = anew.iter().map(|a| a.partition.clone()).collect();
            self.end(&names);
            self.begin(&anew);
        }
    }

    /// Gives partitions back: no new attempts, running ones may end within the grace, then the final commit.
    pub(super) fn revoke(&mut self, names: &[TopicPartition]) {
        let leaving = |p: &Partition| names.contains(&p.name);
        for partition in self.partitions.iter_mut().filter(|p| leaving(p)) {
            partition.assignment.advance(Phase::Revoking);
            partition.drop_heads();
        }
        let engine_there = self.hand_over().is_ok() && self.context.engine.send(ToEngine::PhaseMoved).is_ok();
        let deadline = self.context.clock.monotonic() + self.context.settings.revoke_grace;
        while engine_there && self.partitions.iter().filter(|p| leaving(p)).any(|p| p.handed() > 0) {
            self.heartbeat.beat();
            let left = deadline.saturating_sub(self.context.clock.monotonic());
            if left.is_zero() {
                break;
            }
            match self.context.inbox.recv_timeout(left) {
                Ok(ToIntake::Returns(returns)) => returns.into_iter().for_each(|one| self.take_back(one)),
                Ok(ToIntake::Rest(rest)) => self.resting = rest,
                Ok(ToIntake::Drain) => self.draining = true,
                Ok(ToIntake::Leave) => {
                    (self.draining, self.leaving) = (true, true);
                    break;
                }
                Err(_) => break,
            }
        }
        let late: usize = self.partitions.iter().filter(|p| leaving(p)).map(Partition::handed).sum();
        for partition in self.partitions.iter().filter(|p| leaving(p)) {
            partition.assignment.advance(Phase::Fenced);
        }
        let points = self.points(leaving);
        if !points.is_empty()
            && let Err(refused) = self.source.commit(points, CommitMode::Await)
        {
            warn!(class = %self.context.class, cause = %refused, "the final commit of revoked partitions was not accepted: repeats are possible");
            self.tell_uncommitted(leaving);
        }
        self.end(names);
        self.source.release(names);
        info!(class = %self.context.class, given = names.len(), held = self.partitions.len(), late, "partitions revoked");
    }

    /// Forgets partitions and fences what of them is still with the engine.
    pub(super) fn end(&mut self, names: &[TopicPartition]) {
        for partition in self.partitions.iter_mut().filter(|p| names.contains(&p.name)) {
            partition.assignment.advance(Phase::Fenced);
            self.context.metrics.forget_partition(&partition.name.topic, partition.name.partition);
        }
        self.partitions.retain(|p| !names.contains(&p.name));
        if let Some(pending) = &mut self.pending {
            // The answer is about this assignment, not about the next one of the same partition.
            pending.retain(|(name, _)| !names.contains(name));
        }
        let mut positions = self.context.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.retain(|name, _| !names.contains(name));
        drop(positions);
        // An engine that is gone has nothing under these partitions either.
        let _ = self.context.engine.send(ToEngine::PhaseMoved);
        self.count_assigned();
    }

    pub(super) fn count_assigned(&self) {
        self.context.metrics.set_assigned_partitions(self.context.class, self.partitions.len());
        let stopped = self.partitions.iter().filter(|p| p.is_stopped()).count();
        self.context.metrics.set_partitions_stopped(self.context.class, stopped);
    }
}
