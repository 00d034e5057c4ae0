//! Partitions come and go: where they start, what is waited for when they leave, what fences their late results.

use super::{Loop, State};
use crate::delivery::handover::{Phase, ToEngine};
use crate::delivery::partition::{Partition, Start};
use crate::delivery::ports::{Assigned, Clock, Source, TopicPartition};
use std::sync::PoisonError;
use std::time::Duration;
use tracing::{debug, error, info};

impl<S: Source, C: Clock> Loop<S, C> {
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
            let (mut partition, fault) = Partition::begin(one, self.context.class, start, &self.context.settings.prefix);
            if let Some(fault) = fault {
                Self::say_map_fault(&self.context.metrics, &mut partition, &fault);
            }
            starts.push((name.clone(), start.at()));
            self.partitions.push(partition);
        }
        self.source.start(&starts);
        self.count_assigned();
        info!(class = %self.context.class, taken = assigned.len(), held = self.partitions.len(), "partitions assigned");
    }

    /// Offsets to read are not in the log. Where only the log's start moved up, the assignment goes on, because what is in memory cannot be
    /// read again. Where its end moved down it is another log, and the partition begins anew; so do the `unsure` ones, whose log may be
    /// another one.
    pub(super) fn go_on_after_a_gap(&mut self, outside: Vec<Assigned>, unsure: Vec<Assigned>) {
        let mut starts = Vec::new();
        self.tell_uncommitted(|p| unsure.iter().any(|one| one.partition == p.name));
        let mut anew = unsure;
        for one in outside {
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

    /// Begins to give partitions back: no new attempts, running ones may end within the grace.
    pub(super) fn begin_revoke(&mut self, names: Vec<TopicPartition>) {
        for partition in self.partitions.iter_mut().filter(|p| names.contains(&p.name)) {
            partition.assignment.advance(Phase::Revoking);
            partition.drop_heads();
        }
        // What was read before goes first; an engine that is gone is found out by the next turn.
        let _ = self.hand_over();
        let _ = self.context.engine.send(ToEngine::PhaseMoved);
        let deadline = self.context.clock.monotonic() + self.context.settings.revoke_grace;
        self.state = State::Revoking { names, deadline };
    }

    /// While partitions are being given back: how long to wait for returns now. Ends the revoke, and returns `None`, once all are back, the
    /// grace is over or nothing can come back any more.
    pub(super) fn revoke_goes_on(&mut self, engine_gone: bool) -> Option<Duration> {
        let State::Revoking { names, deadline } = &self.state else { return None };
        let left = deadline.saturating_sub(self.context.clock.monotonic());
        let running = self.partitions.iter().any(|p| p.handed() > 0 && names.contains(&p.name));
        if running && !left.is_zero() && !engine_gone {
            return Some(left);
        }
        self.finish_revoke();
        None
    }

    /// The fence, the final commit, the release.
    pub(super) fn finish_revoke(&mut self) {
        let State::Revoking { names, .. } = std::mem::replace(&mut self.state, State::Reading) else { return };
        let leaving = |p: &Partition| names.contains(&p.name);
        let late: usize = self.partitions.iter().filter(|p| leaving(p)).map(Partition::handed).sum();
        for partition in self.partitions.iter().filter(|p| leaving(p)) {
            partition.assignment.advance(Phase::Fenced);
        }
        self.commit_last(leaving);
        self.end(&names);
        self.source.release(&names);
        info!(class = %self.context.class, given = names.len(), held = self.partitions.len(), late, "partitions revoked");
    }

    /// Forgets partitions and fences what of them is still with the engine.
    pub(super) fn end(&mut self, names: &[TopicPartition]) {
        for partition in self.partitions.iter().filter(|p| names.contains(&p.name)) {
            partition.assignment.advance(Phase::Fenced);
        }
        self.partitions.retain(|p| !names.contains(&p.name));
        if let Some(pending) = &mut self.pending {
            // The answer is about this assignment, not about the next one of the same partition.
            pending.retain(|(name, _)| !names.contains(name));
        }
        let mut positions = self.context.positions.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            positions.remove(name);
            // Under the lock, as the lag's exporter does: else it could make the series anew.
            self.context.metrics.forget_partition(&name.topic, name.partition);
        }
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
