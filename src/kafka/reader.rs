//! Reading a topic from its start, beside every group: for tools that look and change nothing.
//!
//! It commits nothing and takes part in no rebalance, so it can look at any topic while the daemon runs.

use super::client::{ClientError, ClientSettings, PlainContext, code_of, make};
use super::lag::{LagError, LagProbe};
use super::record::{TopicNames, detach};
use crate::domain::record::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

/// A topic cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// A client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The topic could not be asked for.
    #[error(transparent)]
    Topic(#[from] LagError),
    /// The client refused to start reading; its error code.
    #[error("starting to read: {0}")]
    Start(String),
}

/// Reads one topic, all its partitions, from the oldest record on.
pub struct Reader {
    consumer: BaseConsumer<PlainContext>,
    names: TopicNames,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// Starts reading `topic`. Blocks for a round trip.
    ///
    /// # Errors
    /// See [`ReaderError`].
    pub fn from_start(settings: &ClientSettings, topic: &str) -> Result<Self, ReaderError> {
        let partitions = LagProbe::new(settings)?.partitions(topic)?;
        // The client wants a group's name; nothing is ever committed under it.
        let consumer: BaseConsumer<PlainContext> =
            make(&settings.reader(&format!("{}.reader", settings.group)), PlainContext::new(settings))?;
        let start = |error: KafkaError| ReaderError::Start(code_of(&error));
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).map_err(start)?;
        }
        consumer.assign(&list).map_err(start)?;
        Ok(Self { consumer, names: TopicNames::default() })
    }

    /// The next record, waiting for it at most `timeout`; `None` when there is none yet. Brokers that come and go are waited for.
    pub fn poll(&mut self, timeout: Duration) -> Option<Record> {
        let message = self.consumer.poll(timeout)?.ok()?;
        Some(detach(&message, &mut self.names).record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ports::Outbox as _;
    use crate::domain::record::NewRecord;
    use crate::kafka::client::tests::settings;
    use crate::kafka::embedded::EmbeddedCluster;
    use crate::kafka::outbox::{Observers, Outbox};
    use bytes::Bytes;
    use std::time::Instant;

    #[test]
    fn every_record_of_a_topic_is_read_from_its_start_also_those_that_come_later() {
        let cluster = EmbeddedCluster::start(&[("cb.dead-letter", 3)]).unwrap();
        let settings = settings(cluster.bootstrap_servers());
        let outbox = Outbox::new(&settings, Observers { fatal: Box::new(|_| {}), appended: Box::new(|_| {}) }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let put = |value: &'static str| {
            let value = Some(Bytes::from_static(value.as_bytes()));
            runtime
                .block_on(outbox.append(NewRecord { topic: "cb.dead-letter".into(), key: value.clone(), value, headers: vec![] }))
                .unwrap();
        };
        let next = |reader: &mut Reader| {
            let start = Instant::now();
            loop {
                if let Some(record) = reader.poll(Duration::from_millis(100)) {
                    break record.value.unwrap();
                }
                assert!(start.elapsed() < Duration::from_secs(20), "nothing read");
            }
        };
        put("a");
        put("b");
        let mut reader = Reader::from_start(&settings, "cb.dead-letter").unwrap();
        let mut read = vec![next(&mut reader), next(&mut reader)];
        read.sort();
        assert_eq!(read, ["a", "b"]);
        put("c");
        assert_eq!(next(&mut reader), "c");
    }

    #[test]
    fn a_topic_that_is_not_there_is_named() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        let mut settings = settings(cluster.bootstrap_servers());
        settings.brokers = vec!["127.0.0.1:1".into()];
        assert!(matches!(Reader::from_start(&settings, "t"), Err(ReaderError::Topic(_))));
    }
}
