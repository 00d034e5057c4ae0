//! The load: a producer that waits for all in-sync replicas, at a steady pace, and writes down what became of each event.

use super::{Millis, now, original};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What became of an event at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing was said yet.
    Open,
    /// It stands in the log. Where is not always told: an acknowledgement that came twice has no offset.
    Acknowledged,
    /// The producer gave up: it may be there or not.
    Unknown,
}

/// An event that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Millis,
    pub(crate) endpoint: usize,
    pub(crate) fate: Fate,
}

#[derive(Clone)]
struct Reports(Arc<Mutex<Vec<Sent>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, event: Box<usize>) {
        let fate = match result {
            Ok(_) => Fate::Acknowledged,
            Err(_) => Fate::Unknown,
        };
        self.0.lock().unwrap()[*event].fate = fate;
    }
}

/// Who gets which event, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) partitions: usize,
    pub(crate) events: usize,
    /// Events a second; 0: as fast as it goes.
    pub(crate) rate: usize,
    /// The endpoint of each event, by its number.
    pub(crate) endpoints: Vec<usize>,
}

/// A load under way.
pub(crate) struct Load {
    sent: Arc<Mutex<Vec<Sent>>>,
    count: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(plan: Plan) -> Self {
        let open = |endpoint: &usize| Sent { at: 0, endpoint: *endpoint, fate: Fate::Open };
        let sent = Arc::new(Mutex::new(plan.endpoints.iter().map(open).collect::<Vec<_>>()));
        let count = Arc::new(AtomicUsize::new(0));
        let (reports, counter) = (Reports(Arc::clone(&sent)), Arc::clone(&count));
        let thread = std::thread::spawn(move || produce(&plan, &reports, &counter));
        Self { sent, count, thread }
    }

    /// How many were handed to the producer.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// What became of all of them, once every report is there.
    pub(crate) fn finish(self) -> Vec<Sent> {
        self.thread.join().unwrap();
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

fn produce(plan: &Plan, reports: &Reports, counter: &AtomicUsize) {
    let producer: ThreadedProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", &plan.bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("reconnect.backoff.max.ms", "1000")
        .set("log_level", "2")
        .create_with_context(reports.clone())
        .unwrap();
    let start = Instant::now();
    for n in 0..plan.events {
        if plan.rate > 0 {
            let due = start + Duration::from_micros(n as u64 * 1_000_000 / plan.rate as u64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let value = original(n, plan.endpoints[n]);
        let id = format!("event-{n}");
        reports.0.lock().unwrap()[n].at = now();
        let mut record: BaseRecord<'_, [u8], [u8], Box<usize>> = BaseRecord::with_opaque_to(&plan.topic, Box::new(n));
        record.partition = Some((n % plan.partitions) as i32);
        record.payload = Some(value.as_bytes());
        record.headers = Some(OwnedHeaders::new().insert(Header { key: "callbackd-id", value: Some(&id) }));
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((error, _)) => panic!("producing event {n}: {error}"),
            }
        }
        counter.fetch_add(1, Ordering::Relaxed);
    }
    producer.flush(Duration::from_secs(120)).unwrap();
}
