//! librdkafka's mock cluster as an embedded broker: for `callbackd demo` and for tests that inject errors. Never for keeping: it lives in
//! memory, keeps at most 5 MiB or 100,000 records a partition, and has no topic settings, compaction, TLS or administration.
//!
//! A thread owns the cluster, because its handle may not change threads. A group forms 3 s after its first member came, and never with a
//! session time-out as short as that; a later rebalance waits session time-out − 1 s for members that do not join again. Records have the
//! producer's timestamp, which serves as append time there (design §5).

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
#[cfg(test)]
use std::time::Duration;

/// Properties for consumers of an embedded cluster, which share its process: patient, and with frequent heartbeats, so that a busy machine
/// does not make a member look dead.
pub const GROUP_PROPERTIES: [(&str, &str); 2] = [("session.timeout.ms", "20000"), ("heartbeat.interval.ms", "500")];

/// The embedded cluster could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("embedded broker: {0}")]
pub struct EmbeddedError(String);

/// Work for the thread that owns the cluster.
type Order = Box<dyn FnOnce(&MockCluster<'static, DefaultProducerContext>) + Send>;

/// A running embedded cluster of one broker on a free loopback port; gone when dropped.
#[derive(Debug)]
pub struct EmbeddedCluster {
    servers: String,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedCluster {
    /// Starts it with `topics`, each a name and a number of partitions.
    ///
    /// # Errors
    /// When no port or thread is to be had, or a topic's name is not valid.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, EmbeddedError> {
        let topics: Vec<(String, i32)> = topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
        let (orders, inbox) = mpsc::channel::<Order>();
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("embedded-kafka".into())
            .spawn(move || {
                let cluster = MockCluster::new(1).and_then(|cluster| {
                    topics.iter().try_for_each(|(name, partitions)| cluster.create_topic(name, *partitions, 1))?;
                    Ok(cluster)
                });
                match cluster {
                    Ok(cluster) => {
                        let _ = started.send(Ok(cluster.bootstrap_servers()));
                        for order in inbox {
                            order(&cluster);
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(EmbeddedError(error.to_string())));
                    }
                }
            })
            .map_err(|error| EmbeddedError(error.to_string()))?;
        let servers = start.recv().map_err(|_| EmbeddedError("its thread ended".into()))??;
        Ok(Self { servers, orders: Some(orders), thread: Some(thread) })
    }

    /// `host:port`, for `brokers`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.servers
    }

    /// Makes the next produce requests fail, one for each of `errors`, in that order.
    pub fn fail_produces(&self, errors: Vec<RDKafkaRespErr>) {
        self.fail(RDKafkaApiKey::Produce, errors);
    }

    /// Lets produce requests succeed again.
    #[cfg(test)]
    pub(crate) fn mend_produces(&self) {
        self.order(|cluster| cluster.clear_request_errors(RDKafkaApiKey::Produce));
    }

    /// Makes the next requests of idempotent producers for an id fail, one for each of `errors`.
    pub fn fail_producer_ids(&self, errors: Vec<RDKafkaRespErr>) {
        self.fail(RDKafkaApiKey::InitProducerId, errors);
    }

    /// Makes the next fetches fail, one for each of `errors`.
    #[cfg(test)]
    pub(crate) fn fail_fetches(&self, errors: Vec<RDKafkaRespErr>) {
        self.fail(RDKafkaApiKey::Fetch, errors);
    }

    /// Makes the next commits fail, one for each of `errors`.
    #[cfg(test)]
    pub(crate) fn fail_commits(&self, errors: Vec<RDKafkaRespErr>) {
        self.fail(RDKafkaApiKey::OffsetCommit, errors);
    }

    /// Answers metadata requests for `topic` with this error.
    #[cfg(test)]
    pub(crate) fn say_of_topic(&self, topic: &'static str, error: RDKafkaRespErr) {
        self.order(move |cluster| cluster.topic_error(topic, error).unwrap());
    }

    /// Answers each request this much later.
    #[cfg(test)]
    pub(crate) fn answer_after(&self, delay: Duration) {
        self.order(move |cluster| cluster.broker_round_trip_time(1, delay).unwrap());
    }

    fn fail(&self, request: RDKafkaApiKey, errors: Vec<RDKafkaRespErr>) {
        self.order(move |cluster| cluster.request_errors(request, &errors));
    }

    /// Has the cluster's thread do this, and waits until it is done.
    fn order(&self, work: impl FnOnce(&MockCluster<'static, DefaultProducerContext>) + Send + 'static) {
        let (done, wait) = mpsc::channel();
        let order: Order = Box::new(move |cluster| {
            work(cluster);
            let _ = done.send(());
        });
        if self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok()) {
            let _ = wait.recv();
        }
    }

    /// How many records `topic` has, all partitions together.
    #[cfg(test)]
    pub(crate) fn count(&self, settings: &super::client::ClientSettings, topic: &str) -> i64 {
        let probe = super::lag::LagProbe::new(settings).unwrap();
        probe.end_offsets(topic).unwrap().values().sum()
    }
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        // Without orders to come the thread ends, and the cluster with it.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::class::Class;
    use crate::domain::record::{Header, NewRecord};
    use crate::kafka::client::tests::settings;
    use crate::kafka::client::{PlainContext, make};
    use crate::kafka::record::{TopicNames, client_headers, detach};
    use bytes::Bytes;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use std::time::Instant;

    #[test]
    fn what_is_produced_is_consumed_by_a_cooperative_group_with_headers_null_and_empty_kept_apart() {
        let cluster = EmbeddedCluster::start(&[("recording.completed", 3)]).unwrap();
        let mut settings = settings(cluster.bootstrap_servers());
        settings.properties.extend(GROUP_PROPERTIES.map(|(name, value)| (name.into(), value.into())));
        let producer: BaseProducer = settings.outbox().create().unwrap();
        let header = |name: &str, value: Option<&'static [u8]>| Header { name: name.into(), value: value.map(Bytes::from_static) };
        let sent = NewRecord {
            topic: "recording.completed".into(),
            key: Some(Bytes::new()),
            value: None,
            headers: vec![header("callbackd-id", Some(b"1")), header("null", None), header("empty", Some(b""))],
        };
        let mut out: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&sent.topic);
        out.key = sent.key.as_deref();
        out.payload = sent.value.as_deref();
        out.headers = client_headers(&sent);
        producer.send(out).map_err(|(e, _)| e).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();

        let mut config = settings.consumer(Class::Fresh);
        config.set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer<PlainContext> = make(&config, PlainContext::new(&settings)).unwrap();
        let start = Instant::now();
        consumer.subscribe(&["recording.completed"]).unwrap();
        let mut names = TopicNames::default();
        let read = loop {
            assert!(start.elapsed() < Duration::from_secs(20), "the group never formed");
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                break detach(&message, &mut names);
            }
        };
        assert_eq!(read.left_out, 0);
        assert_eq!(read.record.key.as_deref(), Some(&b""[..]));
        assert_eq!(read.record.value, None);
        assert_eq!(read.record.headers, sent.headers);
        assert_eq!(&*read.record.position.topic, "recording.completed");
        assert!(read.record.timestamp.0 > 1_500_000_000_000);
    }
}
