//! Records out of the client: detached from its memory at once, in batches.

use super::Consumer;
use super::context::Context;
use crate::domain::record::Record;
use crate::kafka::record::{TopicNames, detach};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use std::time::Duration;

/// A record that a poll yielded.
pub(super) struct Taken(Record);

pub(super) enum Polled {
    Nothing,
    Record(Taken),
    Error(KafkaError),
}

impl Consumer {
    /// `first` and what else is there, `max` records together. An error in the middle is kept for the next poll.
    pub(super) fn take(&mut self, first: Taken, max: usize) -> Vec<Record> {
        let mut records = Vec::with_capacity(max.min(64));
        records.push(first.0);
        while records.len() < max {
            match Self::poll_one(self.client.as_deref(), &mut self.names, Duration::ZERO) {
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
    pub(super) fn poll_one(client: Option<&BaseConsumer<Context>>, names: &mut TopicNames, timeout: Duration) -> Polled {
        let polled: Option<KafkaResult<BorrowedMessage<'_>>> = client.and_then(|c| c.poll(timeout));
        match polled {
            None => Polled::Nothing,
            Some(Err(error)) => Polled::Error(error),
            Some(Ok(message)) => {
                let detached = detach(&message, names);
                if detached.unreadable_headers > 0 {
                    let position = &detached.record.position;
                    tracing::warn!(topic = %position.topic, partition = position.partition, offset = position.offset, count = detached.unreadable_headers, "headers with names that are no UTF-8 were left out");
                }
                Polled::Record(Taken(detached.record))
            }
        }
    }
}

/// `wait` rounded up to milliseconds. The client waits in whole ones and spins through what is left: without this every idle class burnt one
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
