//! The yardstick: the daemon's client libraries (rdkafka with the daemon's own fetch settings, reqwest) and nothing else.
//!
//! A thread polls and detaches values, a current-thread runtime posts them with a fixed number in flight and reads each answer. No
//! decoding, signature, guard, time-out, retry, commit or metric. It hands records over in batches, because waking the runtime for every
//! record would make a slower yardstick: what is compared should be the libraries at their best.

use crate::broker::PARTITIONS;
use crate::harness::broker::Broker;
use crate::harness::processes::run_dir;
use crate::measure::UnderTest;
use crate::pinned::{Pinned, UNDER_TEST};
use callbackd::domain::class::Class;
use callbackd::kafka::client::{ClientSettings, DEFAULT_LARGEST_MESSAGE};
use callbackd::kafka::redaction::Redaction;
use futures_util::{StreamExt as _, stream};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Records handed over at once, and batches that may wait.
const BATCH: usize = 256;
const WAITING: usize = 4;

/// A running bare loop.
pub(crate) struct Bare(Pinned);

impl Bare {
    /// Starts one that posts what is in `topic` to `port`.
    pub(crate) fn start(broker: &Broker, topic: &str, port: u16, in_flight: u64) -> Self {
        let (url, in_flight) = (format!("http://127.0.0.1:{port}/callback"), in_flight.to_string());
        let arguments = ["--role", "bare", &broker.bootstrap, topic, &url, &in_flight];
        Self(Pinned::spawn(UNDER_TEST, &std::env::current_exe().unwrap(), &arguments, &run_dir().join("bare.log")))
    }
}

impl UnderTest for Bare {
    fn process(&mut self) -> &mut Pinned {
        &mut self.0
    }

    fn cpus(&self) -> &'static str {
        UNDER_TEST
    }

    fn end(self) -> u64 {
        0
    }
}

/// `BOOTSTRAP TOPIC URL IN_FLIGHT`.
pub(crate) fn run(arguments: &[&str]) {
    let [bootstrap, topic, url, in_flight] = arguments else { panic!("bare: BOOTSTRAP TOPIC URL IN_FLIGHT") };
    let (sender, batches) = mpsc::channel(WAITING);
    let consumer = consumer(bootstrap, topic);
    std::thread::spawn(move || consume(&consumer, &sender));
    let url: reqwest::Url = url.parse().unwrap();
    let in_flight = in_flight.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let records = stream::unfold(batches, |mut batches: mpsc::Receiver<Vec<Vec<u8>>>| async move {
            let batch = batches.recv().await?;
            Some((stream::iter(batch), batches))
        });
        records.flatten().map(|value| post(&client, &url, value)).buffer_unordered(in_flight).for_each(|()| async {}).await;
    });
}

async fn post(client: &reqwest::Client, url: &reqwest::Url, value: Vec<u8>) {
    let answer = client.post(url.clone()).header("content-type", "application/json").body(value).send().await.unwrap();
    assert!(answer.status() == 200, "{}", answer.status());
    answer.bytes().await.unwrap();
}

fn consumer(bootstrap: &str, topic: &str) -> BaseConsumer {
    let settings = ClientSettings {
        brokers: vec![bootstrap.to_owned()],
        group: "bench-bare".to_owned(),
        prefix: "bench-bare".to_owned(),
        source_topics: vec![topic.to_owned()],
        properties: BTreeMap::new(),
        redaction: Redaction::default(),
        largest_message: DEFAULT_LARGEST_MESSAGE,
    };
    let consumer: BaseConsumer = settings.consumer(Class::Fresh).create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    consumer
}

fn consume(consumer: &BaseConsumer, sender: &mpsc::Sender<Vec<Vec<u8>>>) {
    loop {
        let mut batch = Vec::new();
        let mut patience = Duration::from_millis(100);
        while batch.len() < BATCH
            && let Some(message) = consumer.poll(patience)
        {
            batch.push(message.unwrap().payload().unwrap_or_default().to_vec());
            patience = Duration::ZERO;
        }
        if !batch.is_empty() && sender.blocking_send(batch).is_err() {
            return;
        }
    }
}
