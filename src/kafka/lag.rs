//! How far consumers are behind: watermarks, asked beside them.
//!
//! librdkafka's own lag figures stand still while a partition is paused, which is exactly when somebody looks. Each question blocks for a
//! round trip, so the probe belongs to a thread of its own and never to one that polls. Ends are those that a `read_committed` reader can
//! reach.

use super::client::{ClientError, ClientSettings, PlainContext, code_of, make};
use super::right::{Operation, Resource, Right};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest that one question may take.
const QUESTION: Duration = Duration::from_secs(5);

/// The longest that one round of lag may take, whatever the number of partitions. The next begins some seconds after it (`app::monitor`).
const ROUND: Duration = Duration::from_secs(8);

/// The broker did not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LagError {
    /// There is no such topic.
    #[error("topic {0}: does not exist")]
    NoTopic(String),
    /// It may not be seen.
    #[error("{0}")]
    Denied(String),
    /// The question failed; asking later may help.
    #[error("{what}: {cause}")]
    Unanswered {
        /// What was asked for.
        what: String,
        /// The client's error code.
        cause: String,
    },
}

impl LagError {
    fn new(what: impl Into<String>, error: &KafkaError) -> Self {
        Self::Unanswered { what: what.into(), cause: code_of(error) }
    }
}

/// A plain client that reads metadata and watermarks.
pub struct LagProbe {
    client: BaseConsumer<PlainContext>,
    brokers: Vec<String>,
}

impl std::fmt::Debug for LagProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LagProbe")
    }
}

impl LagProbe {
    /// Connects in the background.
    ///
    /// # Errors
    /// When the properties do not make a client.
    pub fn new(settings: &ClientSettings) -> Result<Self, ClientError> {
        Ok(Self { client: make(&settings.plain(), PlainContext::new(settings))?, brokers: settings.brokers.clone() })
    }

    /// Records between each next offset to commit and the partition's end, never below zero. Partitions that the broker did not answer for
    /// in time are left out: an old figure is better than a wrong one.
    #[must_use]
    pub fn lag(&self, positions: &[(Arc<str>, i32, i64)]) -> Vec<(Arc<str>, i32, i64)> {
        let deadline = Instant::now() + ROUND;
        self.serve();
        positions
            .iter()
            .filter_map(|(topic, partition, next)| {
                let left = deadline.saturating_duration_since(Instant::now()).min(QUESTION);
                if left.is_zero() {
                    return None;
                }
                let (_, end) = self.client.fetch_watermarks(topic, *partition, left).ok()?;
                Some((Arc::clone(topic), *partition, end.saturating_sub(*next).max(0)))
            })
            .collect()
    }

    /// The first offset and the end (the next offset to be written) of one partition.
    ///
    /// # Errors
    /// See [`LagError`].
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), LagError> {
        self.client
            .fetch_watermarks(topic, partition, QUESTION)
            .map_err(|e| LagError::new(format!("watermarks of {topic}/{partition}"), &e))
    }

    /// The end of each partition of `topic`.
    ///
    /// # Errors
    /// See [`LagError`].
    pub fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, LagError> {
        (0..self.partitions(topic)?).map(|partition| Ok((partition, self.watermarks(topic, partition)?.1))).collect()
    }

    /// How many partitions `topic` has.
    ///
    /// # Errors
    /// See [`LagError`].
    pub fn partitions(&self, topic: &str) -> Result<i32, LagError> {
        self.serve();
        let metadata = self.client.fetch_metadata(Some(topic), QUESTION).map_err(|e| LagError::new(format!("metadata of {topic}"), &e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        match found.map(|t| (t.error().map(Code::from), t.partitions().len())) {
            Some((None, count)) if count > 0 => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
            // Asked for by who is about to read it: Read includes Describe.
            Some((Some(Code::TopicAuthorizationFailed), _)) => {
                Err(LagError::Denied(Right::new(Operation::Read, Resource::Topic, topic).missing(&self.brokers)))
            }
            Some((Some(Code::LeaderNotAvailable), _)) => {
                Err(LagError::Unanswered { what: format!("metadata of {topic}"), cause: "LeaderNotAvailable".into() })
            }
            Some(_) | None => Err(LagError::NoTopic(topic.to_owned())),
        }
    }

    /// The names of all topics that start with `prefix`, in order.
    ///
    /// # Errors
    /// See [`LagError`].
    pub fn topics_with_prefix(&self, prefix: &str) -> Result<Vec<String>, LagError> {
        self.serve();
        let metadata = self.client.fetch_metadata(None, QUESTION).map_err(|e| LagError::new("list of topics", &e))?;
        let mut names: Vec<String> =
            metadata.topics().iter().map(|t| t.name().to_owned()).filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        Ok(names)
    }

    /// Serves the client's own events, which would pile up otherwise.
    fn serve(&self) {
        let _ = self.client.poll(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::client::tests::settings;
    use crate::kafka::embedded::EmbeddedCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    #[test]
    fn lag_is_the_distance_to_the_end_and_never_negative() {
        let cluster = EmbeddedCluster::start(&[("cb.retry.5s", 2), ("cb.retry.1m", 1), ("other", 1)]).unwrap();
        let settings = settings(cluster.bootstrap_servers());
        let producer: BaseProducer = settings.outbox().create().unwrap();
        for _ in 0..7 {
            producer.send(BaseRecord::<(), str>::to("cb.retry.5s").partition(1).payload("v")).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
        let probe = LagProbe::new(&settings).unwrap();
        let topic: Arc<str> = "cb.retry.5s".into();
        let lag = probe.lag(&[(Arc::clone(&topic), 0, 0), (Arc::clone(&topic), 1, 3), (Arc::clone(&topic), 1, 9)]);
        assert_eq!(lag, [(Arc::clone(&topic), 0, 0), (Arc::clone(&topic), 1, 4), (topic, 1, 0)]);
        assert_eq!(probe.end_offsets("cb.retry.5s"), Ok(BTreeMap::from([(0, 0), (1, 7)])));
        assert_eq!(probe.topics_with_prefix("cb.retry."), Ok(vec!["cb.retry.1m".into(), "cb.retry.5s".into()]));
        assert_eq!(probe.partitions("cb.retry.5s"), Ok(2));
    }
}
