//! Topics as the tests write and read them.

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A record as it lies in a topic.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Read {
    /// The last header of that name, as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned())
    }
}

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub(crate) struct New {
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl New {
    pub(crate) fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    pub(crate) fn key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), Some(value.as_ref().to_vec())));
        self
    }
}

/// Refused deliveries, noted by the producer's thread.
#[derive(Clone, Default)]
struct Refusals(Arc<Mutex<Vec<String>>>);

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().push(error.to_string());
        }
    }
}

/// A producer whose sends must all be acknowledged.
pub(crate) struct Producer {
    inner: ThreadedProducer<Refusals>,
    refusals: Refusals,
}

impl Producer {
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self::with(bootstrap, &[])
    }

    /// With a transactional id, initialised.
    pub(crate) fn transactional(bootstrap: &str, id: &str) -> Self {
        let producer = Self::with(bootstrap, &[("transactional.id", id)]);
        producer.inner.init_transactions(PATIENCE).unwrap();
        producer
    }

    /// Compressing, so that records far beyond the topic's limit are legal.
    pub(crate) fn compressing(bootstrap: &str, codec: &str) -> Self {
        Self::with(bootstrap, &[("compression.type", codec), ("message.max.bytes", "50000000")])
    }

    fn with(bootstrap: &str, more: &[(&str, &str)]) -> Self {
        let refusals = Refusals::default();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("linger.ms", "2").set("message.max.bytes", "2000000").set("acks", "all");
        for (key, value) in more {
            config.set(*key, *value);
        }
        Self { inner: config.create_with_context(refusals.clone()).unwrap(), refusals }
    }

    /// Queues a record.
    pub(crate) fn send(&self, topic: &str, new: &New) {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &new.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = new.partition;
        record.timestamp = new.timestamp;
        record.key = new.key.as_deref();
        record.payload = new.value.as_deref();
        if !new.headers.is_empty() {
            record.headers = Some(headers);
        }
        loop {
            match self.inner.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("producing to {topic}: {error}"),
            }
        }
    }

    /// Waits until everything is acknowledged.
    pub(crate) fn flush(&self) {
        self.inner.flush(PATIENCE).unwrap();
        let refused = self.refusals.0.lock().unwrap();
        assert!(refused.is_empty(), "refused by the broker: {refused:?}");
    }

    /// Sends records and waits until they are acknowledged.
    pub(crate) fn send_all(&self, topic: &str, records: &[New]) {
        for record in records {
            self.send(topic, record);
        }
        self.flush();
    }

    pub(crate) fn begin(&self) {
        self.inner.begin_transaction().unwrap();
    }

    pub(crate) fn commit(&self) {
        self.inner.commit_transaction(PATIENCE).unwrap();
    }

    pub(crate) fn abort(&self) {
        self.inner.abort_transaction(PATIENCE).unwrap();
    }
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Creates a topic with one replica and waits until its leaders are known.
pub(crate) fn create_topic(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    create_replicated_topic(bootstrap, topic, partitions, 1, settings);
}

/// Creates a topic with so many replicas and waits until its leaders are known.
pub(crate) fn create_replicated_topic(bootstrap: &str, topic: &str, partitions: i32, replicas: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    for result in wait(admin(bootstrap).create_topics(&[new], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
    super::await_true("the new topic has leaders", PATIENCE, || {
        let consumer = consumer(bootstrap, "unused");
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let partitions_now = metadata.topics()[0].partitions();
        partitions_now.len() == partitions as usize && partitions_now.iter().all(|p| p.leader() >= 0)
    });
}

/// Gives a topic more partitions.
pub(crate) fn add_partitions(bootstrap: &str, topic: &str, to: usize) {
    for result in wait(admin(bootstrap).create_partitions(&[NewPartitions::new(topic, to)], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
    super::await_true("the new partitions are known", PATIENCE, || partitions(bootstrap, topic) as usize == to);
}

/// Deletes a topic.
pub(crate) fn delete_topic(bootstrap: &str, topic: &str) {
    for result in wait(admin(bootstrap).delete_topics(&[topic], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
}

/// Deletes the records of one partition below an offset, as retention does.
pub(crate) fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) {
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
    let done = wait(admin(bootstrap).delete_records(&below, &AdminOptions::new())).unwrap();
    for element in done.elements() {
        element.error().unwrap();
    }
}

/// Deletes a group that has no members, with its offsets: what is left when they have expired.
pub(crate) fn delete_group(bootstrap: &str, group: &str) {
    for result in wait(admin(bootstrap).delete_groups(&[group], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
}

/// Sets one setting of a topic.
pub(crate) fn alter_topic(bootstrap: &str, topic: &str, key: &str, value: &str) {
    let alter = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
    for result in wait(admin(bootstrap).alter_configs(&[alter], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
}

/// The effective settings of a topic.
pub(crate) fn topic_setting(bootstrap: &str, topic: &str, key: &str) -> Option<String> {
    let described = wait(admin(bootstrap).describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new())).unwrap();
    described.into_iter().next()?.ok()?.get(key)?.value.clone()
}

fn consumer(bootstrap: &str, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap()
}

/// How many partitions a topic has; 0 when it does not exist.
pub(crate) fn partitions(bootstrap: &str, topic: &str) -> i32 {
    let metadata = consumer(bootstrap, "unused").fetch_metadata(Some(topic), PATIENCE).unwrap();
    metadata.topics().first().map_or(0, |t| if t.error().is_some() { 0 } else { t.partitions().len() as i32 })
}

/// How many partitions of a topic have a leader that is up.
pub(crate) fn led_partitions(bootstrap: &str, topic: &str) -> usize {
    let metadata = consumer(bootstrap, "unused").fetch_metadata(Some(topic), PATIENCE).unwrap();
    let up: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
    metadata.topics().first().map_or(0, |t| t.partitions().iter().filter(|p| up.contains(&p.leader())).count())
}

/// All committed records of a topic, a partition after the other.
pub(crate) fn read_all(bootstrap: &str, topic: &str) -> Vec<Read> {
    let count = partitions(bootstrap, topic);
    let consumer = consumer(bootstrap, "unused");
    let mut all = Vec::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..count {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut open = count;
    let start = std::time::Instant::now();
    while open > 0 {
        assert!(start.elapsed() < PATIENCE, "reading {topic} takes too long");
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            // One of several brokers may be down: the client goes on with the others.
            Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure) => {}
            Some(Err(error)) => panic!("reading {topic}: {error}"),
            Some(Ok(message)) => {
                let headers = message
                    .headers()
                    .map_or_else(Vec::new, |h| h.iter().map(|header| (header.key.to_string(), header.value.map(<[u8]>::to_vec))).collect());
                all.push(Read {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis().unwrap_or(-1),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers,
                });
            }
        }
    }
    all.sort_by_key(|r| (r.partition, r.offset));
    all
}

/// The end of each partition.
pub(crate) fn end_offsets(bootstrap: &str, topic: &str) -> Vec<i64> {
    let count = partitions(bootstrap, topic);
    let consumer = consumer(bootstrap, "unused");
    (0..count).map(|p| consumer.fetch_watermarks(topic, p, PATIENCE).unwrap().1).collect()
}

/// What a group has committed for each partition; -1 where it has nothing.
pub(crate) fn committed(bootstrap: &str, group: &str, topic: &str) -> Vec<i64> {
    let count = partitions(bootstrap, topic);
    let consumer = consumer(bootstrap, group);
    let mut asked = TopicPartitionList::new();
    for partition in 0..count {
        asked.add_partition(topic, partition);
    }
    let answered = consumer.committed_offsets(asked, PATIENCE).unwrap();
    (0..count)
        .map(|partition| match answered.find_partition(topic, partition).map(|p| p.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => -1,
        })
        .collect()
}

/// For each partition what a group has committed, and where the log ends.
pub(crate) fn standing(bootstrap: &str, group: &str, topic: &str) -> Vec<(i64, i64)> {
    committed(bootstrap, group, topic).into_iter().zip(end_offsets(bootstrap, topic)).collect()
}

/// Whether a group has nothing left to do there.
pub(crate) fn is_finished(standing: &[(i64, i64)]) -> bool {
    standing.iter().all(|(committed, end)| committed == end || (*end == 0 && *committed <= 0))
}
