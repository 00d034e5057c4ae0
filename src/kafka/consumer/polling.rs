//! Records out of the client: detached from its memory at once, in batches.

use super::Consumer;
use super::context::Context;
use crate::domain::record::{Position, Record};
use crate::kafka::record::{Detached, TopicNames, detach};
use crate::metrics::Metrics;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A record that a poll yielded.
pub(super) struct Taken(Record);

pub(super) enum Polled {
    Nothing,
    Record(Taken),
    Error(KafkaError),
}

/// Counts headers that were left out, and logs them once a minute: a producer that writes such names writes many.
pub(super) struct LeftOut {
    metrics: Arc<Metrics>,
    told: Option<Instant>,
    records: u64,
}

/// See [`LeftOut`].
const TOLD_AGAIN: Duration = Duration::from_secs(60);

impl LeftOut {
    pub(super) const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, told: None, records: 0 }
    }

    fn note(&mut self, detached: &Detached) {
        if detached.left_out == 0 {
            return;
        }
        self.metrics.headers_dropped();
        self.records += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
            let Position { topic, partition, offset } = &detached.record.position;
            tracing::warn!(%topic, partition, offset, headers = detached.left_out, records = self.records, "headers were left out: their names are no UTF-8, or they are more than 1,024 in one record");
            (self.told, self.records) = (Some(Instant::now()), 0);
        }
    }
}

impl Consumer {
    /// `first` and what else is there, `max` records together. An error in the middle is kept for the next poll.
    pub(super) fn take(&mut self, first: Taken, max: usize) -> Vec<Record> {
        let mut records = Vec::with_capacity(max.min(64));
        records.push(first.0);
        while records.len() < max {
            match Self::poll_one(self.client.as_deref(), &mut self.names, &mut self.left_out, Duration::ZERO) {
                Polled::Record(record) => records.push(record.0),
                Polled::Nothing => break,
                Polled::Error(error) => {
                    if let Some(client) = self.client() {
                        client.context().defer(error);
                    }
                    break;
                }
            }
        }
        records
    }

    /// What the client has, within `timeout`.
    pub(super) fn poll_one(
        client: Option<&BaseConsumer<Context>>,
        names: &mut TopicNames,
        left_out: &mut LeftOut,
        timeout: Duration,
    ) -> Polled {
        let polled: Option<KafkaResult<BorrowedMessage<'_>>> = client.and_then(|c| c.poll(timeout));
        match polled {
            None => Polled::Nothing,
            Some(Err(error)) => Polled::Error(error),
            Some(Ok(message)) => {
                let detached = detach(&message, names);
                left_out.note(&detached);
                Polled::Record(Taken(detached.record))
            }
        }
    }
}

/// `wait` rounded up to whole milliseconds. The client waits in these and spins through the rest: without this every idle class took one
/// percent of a CPU.
pub(super) fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_whole_milliseconds() {
        for (nanos, millis) in [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2), (99_700_000, 100)] {
            assert_eq!(whole_millis(Duration::from_nanos(nanos)), Duration::from_millis(millis));
        }
        assert_eq!(whole_millis(Duration::MAX), Duration::from_millis(u64::MAX));
    }
}
