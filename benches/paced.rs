//! A steady rate: added latency, from the broker's append to the arrival of the request.
//!
//! The topic stamps records with the broker's time of append, whole milliseconds rounded down: a latency is up to 1 ms too long, never too
//! short. Arrival is the receiver's, on the same machine's clock. The first seconds (joining, connecting) are not counted.

use crate::broker::PARTITIONS;
use crate::events::{Events, NUMBER};
use crate::harness::broker::Broker;
use crate::harness::kafka::{New, Producer, create_topic};
use crate::harness::processes::run_dir;
use crate::measure::{UnderTest, done};
use crate::receiver::{Done, Receiver, Wanted};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// What the start of a run takes, generously.
const WARM_UP: Duration = Duration::from_secs(5);

/// How often the producer looks how many records are due.
const BEAT: Duration = Duration::from_millis(1);

/// After the last record was produced, whatever has not arrived for so long counts as missing.
const LATE: Duration = Duration::from_secs(30);

/// What is produced, and of whom an answer is expected.
pub(crate) struct Load {
    /// The events.
    pub(crate) events: Events,
    /// Records a second.
    pub(crate) rate: f64,
    /// Measured time, after the warm-up.
    pub(crate) measured: Duration,
    /// So many domains, from the first, have their endpoints at `/hang` or `/slow`: their arrivals are not waited for.
    pub(crate) sick: u64,
}

/// What a paced run gave.
pub(crate) struct Paced {
    /// Number and latency in µs of what arrived in the measured time, healthy domains only, in no order.
    pub(crate) latencies: Vec<(u64, i64)>,
    /// The receiver's summary.
    pub(crate) done: Done,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// How many were measured.
    pub(crate) count: usize,
}

impl Paced {
    /// The latencies of the events that `taken` names.
    pub(crate) fn latency(&self, taken: impl Fn(u64) -> bool) -> Latency {
        let mut of: Vec<i64> = self.latencies.iter().filter(|(number, _)| taken(*number)).map(|(_, micros)| *micros).collect();
        of.sort_unstable();
        assert!(!of.is_empty(), "nothing arrived in the measured time");
        let part = |share: f64| of[((of.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        Latency { p50: part(0.5), p99: part(0.99), max: part(1.0), count: of.len() }
    }
}

impl Load {
    fn count(&self, time: Duration) -> u64 {
        (self.rate * time.as_secs_f64()) as u64
    }

    /// Produces to `topic`, which is created, while the process that `start` makes of the receiver's port delivers. Endpoints at `/hang`
    /// fall silent when the measured time begins.
    pub(crate) fn measure<T: UnderTest>(&self, broker: &Broker, topic: &str, start: impl FnOnce(u16) -> T, end: impl FnOnce(T)) -> Paced {
        create_topic(&broker.bootstrap, topic, PARTITIONS, &[("message.timestamp.type", "LogAppendTime")]);
        let (skipped, total) = (self.count(WARM_UP), self.count(WARM_UP + self.measured));
        let file = run_dir().join("arrivals");
        let expected = (0..total).filter(|number| self.events.domain(*number) >= self.sick).count();
        let within = WARM_UP + self.measured + LATE;
        let wanted = Wanted {
            events: total,
            expected: u64::try_from(expected).unwrap(),
            arrivals: Some(file.clone()),
            hang_from: skipped,
            within,
            tls: None,
        };
        let receiver = Receiver::start(&wanted);
        let mut under_test = start(receiver.port);
        self.produce(broker, topic, total);
        let done = done(&receiver, &mut under_test, within * 2);
        end(under_test);

        let appended = append_times(broker, topic, total);
        let arrived = std::fs::read_to_string(&file).unwrap();
        let arrived = arrived.lines().map(|line| line.split_once(' ').unwrap().1.parse::<i64>().unwrap());
        let taken = (0..total).zip(arrived.zip(&appended)).skip(usize::try_from(skipped).unwrap());
        let taken = taken.filter(|(_, (micros, _))| *micros > 0);
        Paced { latencies: taken.map(|(number, (micros, append))| (number, micros - append * 1000)).collect(), done }
    }

    fn produce(&self, broker: &Broker, topic: &str, total: u64) {
        let producer = Producer::new(&broker.bootstrap);
        let start = Instant::now();
        let mut sent = 0;
        while sent < total {
            let due = self.count(start.elapsed()).min(total);
            for number in sent..due {
                producer.send(topic, &New::value(self.events.event(number)));
            }
            sent = due;
            std::thread::sleep(BEAT);
        }
        producer.flush();
    }
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
