//! Records: taken in, held as heads, handed over, and taken back.

use super::Loop;
use crate::delivery::handover::{Intake, Return, Returned};
use crate::delivery::mutant::{self, Mutant};
use crate::delivery::partition::{Partition, Taken};
use crate::delivery::ports::{Clock, Source};
use crate::domain::class::Class;
use crate::domain::offsets::MapError;
use crate::domain::record::Record;
use crate::metrics::{KafkaErrorKind, Metrics};
use std::sync::Arc;
use tracing::error;

impl<S: Source, C: Clock> Loop<S, C> {
    /// Records that were read.
    pub(super) fn take_in(&mut self, records: Vec<Record>) {
        if self.draining {
            return;
        }
        let broker_now = self.context.clock.broker_now();
        let head_room = self.heads.of_one(self.partitions.len());
        for record in records {
            let stands_at = |p: &Partition| p.name.partition == record.position.partition && p.name.topic == record.position.topic;
            if !self.partitions.get(self.last_hit).is_some_and(stands_at) {
                let Some(found) = self.partitions.iter().position(stands_at) else { continue };
                self.last_hit = found;
            }
            let Some(partition) = self.partitions.get_mut(self.last_hit) else { continue };
            let cost = record.cost();
            self.largest = cost.max(self.largest - self.largest / 64);
            let (taken, fault) = partition.take(record, broker_now, head_room);
            if let Some(fault) = fault {
                Self::say_map_fault(&self.context.metrics, partition, &fault);
            }
            match taken {
                Taken::HandOver(ticket, record) => {
                    self.budget.charge(cost);
                    if self.context.class == Class::Fresh {
                        self.context.metrics.consumed(&record.position.topic);
                    }
                    self.out.push(Intake { ticket, record });
                }
                Taken::Held | Taken::Dropped => {}
            }
        }
    }

    /// Logs and counts that a map was discarded.
    pub(super) fn say_map_fault(metrics: &Metrics, partition: &mut Partition, fault: &MapError) {
        error!(
            topic = %partition.name.topic,
            partition = partition.name.partition,
            cause = %fault,
            "the committed map of unfinished offsets was discarded: what it named finished is delivered again, with the same ids"
        );
        metrics.kafka_error(KafkaErrorKind::OffsetReset);
        metrics.possible_repeat(partition.tracker.take_discarded());
    }

    /// Hands over the heads whose time has come.
    pub(super) fn release_heads(&mut self) {
        let broker_now = self.context.clock.broker_now();
        if self.draining || self.resting || !self.context.clock.is_sane() {
            return;
        }
        for partition in &mut self.partitions {
            while self.budget.room() > 0
                && let Some((ticket, record)) = partition.release(broker_now)
            {
                self.budget.charge(ticket.cost);
                self.out.push(Intake { ticket, record });
            }
        }
    }

    /// The engine has done with a record.
    pub(super) fn take_back(&mut self, one: Return) {
        self.budget.release(one.ticket.cost);
        let Some(partition) = self.partitions.iter_mut().find(|p| Arc::ptr_eq(&p.assignment, &one.ticket.assignment)) else {
            if matches!(one.returned, Returned::Settled(_)) {
                // Too late to be committed: the next owner does it again.
                self.context.metrics.possible_repeat(1);
            }
            return;
        };
        match one.returned {
            Returned::Settled(_) => partition.settled(one.ticket.offset),
            Returned::Unsettled if mutant::active(Mutant::DropOnRevoke) => partition.settled(one.ticket.offset),
            Returned::Unsettled => partition.unsettled(),
            Returned::Refused(refused) => {
                error!(
                    topic = %partition.name.topic,
                    partition = partition.name.partition,
                    offset = one.ticket.offset,
                    cause = %refused,
                    "partition stopped: a record could be neither requeued nor dead-lettered; mend the cause, then restart"
                );
                partition.refused(refused);
                self.context.metrics.kafka_error(KafkaErrorKind::ProduceRefused);
                let stopped = self.partitions.iter().filter(|p| p.is_stopped()).count();
                self.context.metrics.set_partitions_stopped(self.context.class, stopped);
            }
        }
    }
}
