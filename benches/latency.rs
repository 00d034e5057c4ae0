//! Added latency: from the broker's append to the arrival of the request, at a steady rate.
//!
//! The topic stamps records with the broker's time of append, whole milliseconds rounded down: a latency is up to 1 ms too long, never too
//! short. Arrival is the receiver's, on the same machine's clock. The first seconds (joining, connecting) are not counted.

use crate::Settings;
use crate::broker::{NUMBER, PARTITIONS, event};
use crate::harness::broker::Broker;
use crate::harness::kafka::{New, Producer, create_topic};
use crate::harness::processes::run_dir;
use crate::measure::{UnderTest, next};
use crate::receiver::Receiver;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// What the start of a run takes, generously.
const WARM_UP: Duration = Duration::from_secs(5);

/// How often the producer looks how many records are due.
const BEAT: Duration = Duration::from_millis(1);

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// How many were measured.
    pub(crate) count: usize,
}

/// Produces at `rate` a second while the process that `start` makes of topic and port delivers.
pub(crate) fn measure<T: UnderTest>(
    settings: &Settings,
    broker: &Broker,
    topic: &str,
    rate: f64,
    start: impl FnOnce(&str, u16) -> T,
) -> Latency {
    create_topic(&broker.bootstrap, topic, PARTITIONS, &[("message.timestamp.type", "LogAppendTime")]);
    let count = |time: Duration| (rate * time.as_secs_f64()) as u64;
    let (skipped, total) = (count(WARM_UP), count(WARM_UP + settings.latency));
    let arrivals = run_dir().join("arrivals");
    let receiver = Receiver::start(run_dir(), total, Some(&arrivals));
    let mut under_test = start(topic, receiver.port);
    produce(broker, topic, rate, total);
    while !next(&receiver, &mut under_test).starts_with("done ") {}
    under_test.end();

    let appended = append_times(broker, topic, total);
    let arrived = std::fs::read_to_string(&arrivals).unwrap();
    let arrived = arrived.lines().map(|line| line.split_once(' ').unwrap().1.parse::<i64>().unwrap());
    let taken = arrived.zip(&appended).skip(usize::try_from(skipped).unwrap());
    let mut taken: Vec<i64> = taken.map(|(micros, append)| micros - append * 1000).collect();
    taken.sort_unstable();
    let part = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    Latency { p50: part(0.5), p99: part(0.99), max: part(1.0), count: taken.len() }
}

fn produce(broker: &Broker, topic: &str, rate: f64, total: u64) {
    let producer = Producer::new(&broker.bootstrap);
    let start = Instant::now();
    let mut sent = 0;
    while sent < total {
        let due = ((start.elapsed().as_secs_f64() * rate) as u64).min(total);
        for number in sent..due {
            producer.send(topic, &New::value(event(number)));
        }
        sent = due;
        std::thread::sleep(BEAT);
    }
    producer.flush();
}

/// The append time of each event in Unix milliseconds, by its running number.
fn append_times(broker: &Broker, topic: &str, total: u64) -> Vec<i64> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &broker.bootstrap).set("group.id", "bench-append-times").create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let mut times = vec![0; usize::try_from(total).unwrap()];
    for _ in 0..total {
        let message = consumer.poll(Duration::from_secs(30)).expect("every event is in its topic").unwrap();
        let value = message.payload().unwrap();
        let digits = &value[1 + NUMBER.len()..][..19];
        let number: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
        times[number] = message.timestamp().to_millis().unwrap();
    }
    times
}
