//! The outbox: appends requeues and dead letters, and says of each that the broker has acknowledged it, or will never take it.
//!
//! ```text
//!  append ─► local queue ─► broker ─► delivery report
//!     ▲          │ full: waits          ├─ acknowledged ─► Appended (and the broker's clock is heard)
//!     │          ▼                      ├─ for good      ─► Refused: the partition stops and says so
//!     └── tries again ◄─────────────────┼─ for now: waits, tries again
//!                                       └─ client dead: `fatal` is told; the record stays unsettled, its offset uncommitted
//! ```
//!
//! A thread serves the reports. The idempotent producer never times a record out by itself (`message.timeout.ms=0`): a local
//! time-out could not tell whether the record is in the log, and trying again would fork a chain. A fatal client error resolves nothing:
//! neither outcome would be true; the process ends, and the next owner takes the record up from the last commit.

use super::bootstrap::Bootstrap;
use super::client::{ClientError, ClientSettings, log_line, make};
use super::record::client_headers;
use super::redaction::Redaction;
use super::right::{Operation, Resource, Right};
use super::wait::Pauses;
use crate::delivery::ports::{self, Appended, Refused};
use crate::domain::record::NewRecord;
use crate::domain::time::UnixMillis;
use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a failed append means for its record.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The broker will never take it.
    Refused,
    /// The client is at its end; the record's outcome is unknown.
    Ending,
    /// The topic is not there.
    Missing,
    /// The local queue is full.
    Room,
    /// The broker may take it later.
    Again,
}

/// Codes by which a broker (or the client, knowing the topic) refuses a record for good.
const REFUSALS: [Code; 9] = [
    Code::MessageSizeTooLarge,
    Code::MessageBatchTooLarge,
    Code::InvalidMessageSize,
    Code::TopicAuthorizationFailed,
    Code::InvalidTopic,
    Code::InvalidRecord,
    Code::InvalidTimestamp,
    Code::PolicyViolation,
    Code::InvalidArgument,
];

/// Codes by which the client says that the topic is not there. Of a topic that it has known for a while one such answer is enough for it.
const MISSING: [Code; 3] = [Code::UnknownTopicOrPartition, Code::UnknownTopic, Code::UnknownPartition];

/// How long after the first answer that its topic is missing a record counts as refused: deleted and made anew, a topic is away for seconds.
/// As long as the client waits for a topic that it has not seen yet (`topic.metadata.propagation.max.ms`).
const AWAY: Duration = Duration::from_secs(30);

/// Codes after which this client does nothing any more. A refused epoch is none: the client takes a new one by itself.
const ENDINGS: [Code; 4] = [Code::Fatal, Code::PurgeQueue, Code::PurgeInflight, Code::BrokerDestroy];

/// What `code` means for the record it came for.
pub(crate) fn fate(code: Code) -> Fate {
    if REFUSALS.contains(&code) {
        Fate::Refused
    } else if ENDINGS.contains(&code) {
        Fate::Ending
    } else if MISSING.contains(&code) {
        Fate::Missing
    } else if code == Code::QueueFull {
        Fate::Room
    } else {
        Fate::Again
    }
}

/// How long the outbox's thread serves reports at a stretch: also how late a fatal error is told. The tenth of a millisecond is for the
/// client, which waits in whole milliseconds and spins through the rest: just below a whole number of them it took one percent of a CPU.
const STRETCH: Duration = Duration::from_micros(100_100);

/// A report that came later than this after the hand-over does not tell the broker's clock: the append may be long past (the answer was on
/// its way, or this process was stopped).
const PROMPT: Duration = Duration::from_secs(5);

/// Who is told what on the client's thread; must not block.
pub struct Observers {
    /// The client has failed for good: the process must end. Called once, with the cause.
    pub fatal: Box<dyn Fn(&str) + Send + Sync>,
    /// The broker's append time in a prompt delivery report (`LogAppendTime`), for the broker clock; the listener notes its own monotonic
    /// time.
    pub appended: Box<dyn Fn(UnixMillis) + Send + Sync>,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}

/// A record on its way: who waits for it, and what it weighs.
struct Pending {
    answer: oneshot::Sender<Result<Appended, Code>>,
    cost: u64,
    handed_over: Instant,
}

#[derive(Debug, Default)]
struct Outstanding {
    bytes: AtomicU64,
    records: AtomicU64,
    acknowledged: AtomicU64,
}

impl Outstanding {
    fn add(&self, cost: u64) {
        self.bytes.fetch_add(cost, Ordering::Relaxed);
        self.records.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self, cost: u64) {
        self.bytes.fetch_sub(cost, Ordering::Relaxed);
        self.records.fetch_sub(1, Ordering::Relaxed);
    }
}

struct AckContext {
    observers: Arc<Observers>,
    outstanding: Arc<Outstanding>,
    redaction: Redaction,
    bootstrap: Bootstrap,
}

impl ClientContext for AckContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(&self.redaction, level, facility, line);
    }

    /// Brokers come and go, and what that costs shows in the outstanding bytes. Whether an error is fatal cannot be told here, because a
    /// fatal one arrives under its own code: the thread asks the client.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", code = ?error.rdkafka_error_code(), "{}", self.redaction.apply(reason));
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.bootstrap.look(statistics);
    }
}

impl ProducerContext for AckContext {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        self.outstanding.take(pending.cost);
        let answer = match result {
            Ok(message) => {
                self.outstanding.acknowledged.fetch_add(1, Ordering::Relaxed);
                let timestamp = match message.timestamp() {
                    Timestamp::LogAppendTime(millis) => Some(UnixMillis(millis)),
                    Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
                };
                if let Some(timestamp) = timestamp
                    && pending.handed_over.elapsed() <= PROMPT
                {
                    (self.observers.appended)(timestamp);
                }
                Ok(Appended { timestamp })
            }
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        // The one who waited may be gone (a cancelled attempt): then nobody counts on this record.
        let _ = pending.answer.send(answer);
    }
}

/// An idempotent producer, and the thread that serves its reports.
struct Line {
    producer: Arc<BaseProducer<AckContext>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    fn start(
        settings: &ClientSettings,
        config: &ClientConfig,
        observers: &Arc<Observers>,
        outstanding: &Arc<Outstanding>,
    ) -> Result<Self, ClientError> {
        let (observers, redaction) = (Arc::clone(observers), settings.redaction.clone());
        let context = AckContext {
            observers: Arc::clone(&observers),
            outstanding: Arc::clone(outstanding),
            redaction: redaction.clone(),
            bootstrap: Bootstrap::new(settings),
        };
        let producer: Arc<BaseProducer<AckContext>> = Arc::new(make(config, context)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (Arc::clone(&producer), Arc::clone(&stop));
        let may_not_write = Right::new(Operation::Write, Resource::Topic, settings.dead_letter_topic()).missing(&settings.brokers);
        let fatal = move |code: Code, reason: &str| {
            // A broker takes an idempotent producer from whoever may write to any topic at all.
            let may_write_none = code == Code::ClusterAuthorizationFailed;
            let reason = if may_write_none { Cow::Borrowed(may_not_write.as_str()) } else { redaction.apply(reason) };
            (observers.fatal)(&format!("{code:?}: {reason}"));
        };
        let thread = thread::Builder::new()
            .name("outbox".into())
            .spawn(move || serve(&served, &stopped, &fatal))
            .map_err(|error| ClientError::Create(error.to_string()))?;
        Ok(Self { producer, stop, thread: Some(thread) })
    }
}

impl Drop for Line {
    /// What is not acknowledged by now is given up: `flush` first.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Appends to our topics through idempotent producers: one for nearly all records, and one that compresses, made when the first giant comes
/// (see [`ClientSettings::outbox_of_giants`]). Cheap to share behind an `Arc`.
pub struct Outbox {
    settings: ClientSettings,
    observers: Arc<Observers>,
    outstanding: Arc<Outstanding>,
    line: Line,
    giants: Mutex<Option<Line>>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("outstanding", &self.outstanding).finish_non_exhaustive()
    }
}

impl Outbox {
    /// Starts the producer and its thread; connects in the background.
    ///
    /// # Errors
    /// When the properties do not make a client.
    pub fn new(settings: &ClientSettings, observers: Observers) -> Result<Self, ClientError> {
        let (observers, outstanding) = (Arc::new(observers), Arc::new(Outstanding::default()));
        let line = Line::start(settings, &settings.outbox(), &observers, &outstanding)?;
        Ok(Self { settings: settings.clone(), observers, outstanding, line, giants: Mutex::default() })
    }

    /// Bytes (as `Record::cost`) handed to the client and not yet acknowledged.
    #[must_use]
    pub fn unacknowledged_bytes(&self) -> u64 {
        self.outstanding.bytes.load(Ordering::Relaxed)
    }

    /// Records handed to the client and not yet acknowledged.
    #[must_use]
    pub fn unacknowledged_records(&self) -> u64 {
        self.outstanding.records.load(Ordering::Relaxed)
    }

    /// Records acknowledged since the start.
    #[must_use]
    pub fn acknowledged_records(&self) -> u64 {
        self.outstanding.acknowledged.load(Ordering::Relaxed)
    }

    /// Blocks until everything handed over has its report, at most `timeout`; false when some has not. Not for a runtime's thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        let giants = self.giants().as_ref().map(|line| Arc::clone(&line.producer));
        let until = Instant::now() + timeout;
        let flushed = self.line.producer.flush(timeout).is_ok();
        giants.is_none_or(|giants| giants.flush(until.saturating_duration_since(Instant::now())).is_ok()) && flushed
    }

    fn giants(&self) -> MutexGuard<'_, Option<Line>> {
        self.giants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer for `record`.
    fn producer(&self, record: &NewRecord) -> Result<Arc<BaseProducer<AckContext>>, ClientError> {
        let bytes = record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len);
        if bytes <= self.settings.largest_message {
            return Ok(Arc::clone(&self.line.producer));
        }
        let mut giants = self.giants();
        let line = match giants.take() {
            Some(line) => line,
            None => Line::start(&self.settings, &self.settings.outbox_of_giants(), &self.observers, &self.outstanding)?,
        };
        Ok(Arc::clone(&giants.insert(line).producer))
    }

    async fn try_once(&self, record: &NewRecord) -> Result<Appended, Code> {
        let (answer, report) = oneshot::channel();
        self.send(record, answer)?;
        // Without an answer the client was dropped with the record in it.
        report.await.unwrap_or(Err(Code::PurgeQueue))
    }

    fn send(&self, record: &NewRecord, answer: oneshot::Sender<Result<Appended, Code>>) -> Result<(), Code> {
        let cost = u64::try_from(record.cost()).unwrap_or(u64::MAX);
        // The same properties made the first producer: only a shortage keeps this one from being made.
        let producer = self.producer(record).map_err(|_| Code::CriticalSystemResource)?;
        let mut out: BaseRecord<'_, [u8], [u8], Box<Pending>> =
            BaseRecord::with_opaque_to(&record.topic, Box::new(Pending { answer, cost, handed_over: Instant::now() }));
        out.key = record.key.as_deref();
        out.payload = record.value.as_deref();
        out.headers = client_headers(record);
        // Counted before the hand-over: its report may come before `send` returns.
        self.outstanding.add(cost);
        producer.send(out).map_err(|(error, _)| {
            self.outstanding.take(cost);
            error.rdkafka_error_code().unwrap_or(Code::InvalidTopic)
        })
    }
}

/// Serves delivery reports until `stop`; looks after each stretch whether the client is at its end.
fn serve(producer: &BaseProducer<AckContext>, stop: &AtomicBool, fatal: &dyn Fn(Code, &str)) {
    let mut told = false;
    while !stop.load(Ordering::Relaxed) {
        producer.poll(STRETCH);
        producer.context().bootstrap.mend(producer.client());
        if !told && let Some((code, reason)) = producer.client().fatal_error() {
            told = true;
            fatal(code, &reason);
        }
    }
}

impl ports::Outbox for Outbox {
    /// Cancel-safe in this sense: when the future is dropped before the hand-over nothing was appended; later the record may be in the log.
    async fn append(&self, record: NewRecord) -> Result<Appended, Refused> {
        let mut for_broker = Pauses::for_broker();
        let mut for_room = Pauses::for_room();
        let (mut told, mut missing_since) = (false, None);
        loop {
            let code = match self.try_once(&record).await {
                Ok(appended) => return Ok(appended),
                Err(code) => code,
            };
            let fate = fate(code);
            // A full queue says nothing about the topic.
            if !matches!(fate, Fate::Missing | Fate::Room) {
                missing_since = None;
            }
            match fate {
                Fate::Missing if missing_since.get_or_insert_with(Instant::now).elapsed() >= AWAY => {
                    let cause = format!("{code:?}, still {} s later: see callbackd topics create", AWAY.as_secs());
                    return Err(Refused { topic: record.topic, cause });
                }
                Fate::Refused => {
                    let cause = if code == Code::TopicAuthorizationFailed {
                        Right::new(Operation::Write, Resource::Topic, &*record.topic).missing(&self.settings.brokers)
                    } else {
                        format!("{code:?}")
                    };
                    return Err(Refused { topic: record.topic, cause });
                }
                Fate::Ending => std::future::pending::<()>().await,
                Fate::Room => for_room.pause().await,
                Fate::Missing | Fate::Again => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(topic = %record.topic, code = ?code, "append failed for now, trying again");
                    }
                    for_broker.pause().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Header;
    use crate::kafka::client::LARGEST_GIANT;
    use crate::kafka::client::tests::settings;
    use crate::kafka::embedded::EmbeddedCluster;
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use ports::Outbox as _;
    use rdkafka::types::RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    };

    fn quiet() -> Observers {
        Observers { fatal: Box::new(|_| {}), appended: Box::new(|_| {}) }
    }

    fn record(topic: &str, value: Bytes) -> NewRecord {
        NewRecord {
            topic: topic.into(),
            key: Some(Bytes::from_static(b"k")),
            value: Some(value),
            headers: vec![Header { name: "callbackd-id".into(), value: Some(Bytes::from_static(b"e1")) }],
        }
    }

    fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn the_fate_of_each_code_is_stated() {
        for (code, expected) in [
            (Code::MessageSizeTooLarge, Fate::Refused),
            (Code::TopicAuthorizationFailed, Fate::Refused),
            (Code::UnknownTopic, Fate::Missing),
            (Code::UnknownTopicOrPartition, Fate::Missing),
            (Code::UnknownPartition, Fate::Missing),
            (Code::InvalidProducerEpoch, Fate::Again),
            (Code::InvalidRecord, Fate::Refused),
            (Code::PolicyViolation, Fate::Refused),
            (Code::QueueFull, Fate::Room),
            (Code::Fatal, Fate::Ending),
            (Code::PurgeInflight, Fate::Ending),
            (Code::NotEnoughReplicas, Fate::Again),
            (Code::InvalidDifferentRecord, Fate::Again),
            (Code::BrokerTransportFailure, Fate::Again),
            (Code::RequestTimedOut, Fate::Again),
            (Code::ThrottlingQuotaExceeded, Fate::Again),
            (Code::KafkaStorageError, Fate::Again),
            (Code::SaslAuthenticationFailed, Fate::Again),
        ] {
            assert_eq!(fate(code), expected, "{code:?}");
        }
    }

    #[test]
    fn an_append_is_acknowledged_and_then_nothing_is_outstanding() {
        let cluster = EmbeddedCluster::start(&[("t", 2)]).unwrap();
        let outbox = Outbox::new(&settings(cluster.bootstrap_servers()), quiet()).unwrap();
        on_a_runtime(async {
            let appends = (0..500).map(|_| outbox.append(record("t", Bytes::from_static(b"v"))));
            for result in futures_util::future::join_all(appends).await {
                result.unwrap();
            }
        });
        assert_eq!((outbox.unacknowledged_bytes(), outbox.unacknowledged_records()), (0, 0));
        assert!(outbox.flush(Duration::from_secs(1)));
    }

    #[test]
    fn a_record_above_the_limit_is_refused_with_the_code_s_name() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        let outbox = Outbox::new(&settings(cluster.bootstrap_servers()), quiet()).unwrap();
        let huge = Bytes::from(vec![b'x'; LARGEST_GIANT + 1]);
        let refused = on_a_runtime(outbox.append(record("t", huge))).unwrap_err();
        assert_eq!(refused, Refused { topic: "t".into(), cause: "MessageSizeTooLarge".into() });
        assert_eq!(outbox.unacknowledged_records(), 0);
    }

    #[test]
    fn a_full_queue_waits_and_loses_nothing() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        let mut small = settings(cluster.bootstrap_servers());
        small.properties.insert("queue.buffering.max.messages".into(), "2".into());
        let outbox = Outbox::new(&small, quiet()).unwrap();
        on_a_runtime(async {
            let appends = (0..50).map(|_| outbox.append(record("t", Bytes::from_static(b"v"))));
            for result in futures_util::future::join_all(appends).await {
                result.unwrap();
            }
        });
        assert_eq!(cluster.count(&settings(cluster.bootstrap_servers()), "t"), 50);
    }

    #[test]
    fn a_broker_error_that_passes_is_survived_and_one_for_good_is_refused() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        let outbox = Outbox::new(&settings(cluster.bootstrap_servers()), quiet()).unwrap();
        cluster.fail_produces(vec![RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3]);
        on_a_runtime(outbox.append(record("t", Bytes::from_static(b"v")))).unwrap();
        cluster.fail_produces(vec![RD_KAFKA_RESP_ERR_POLICY_VIOLATION]);
        let refused = on_a_runtime(outbox.append(record("t", Bytes::from_static(b"v")))).unwrap_err();
        assert_eq!(refused.cause, "PolicyViolation");
    }

    #[test]
    fn a_broker_whose_disk_is_full_is_waited_for_and_what_waits_stays_counted() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        let mut eager = settings(cluster.bootstrap_servers());
        // The client tries the same again by itself; each try meets one of the errors, more than are ever made until it is mended.
        eager.properties.insert("retry.backoff.ms".into(), "10".into());
        eager.properties.insert("retry.backoff.max.ms".into(), "10".into());
        let outbox = Outbox::new(&eager, quiet()).unwrap();
        // Connected, and with its producer id: from now on an append is a matter of milliseconds.
        on_a_runtime(outbox.append(record("t", Bytes::new()))).unwrap();
        cluster.fail_produces(vec![RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR; 100_000]);
        let value = Bytes::from(vec![b'v'; 10_000]);
        on_a_runtime(async {
            let mut appends = futures_util::future::join_all((0..20).map(|_| outbox.append(record("t", value.clone()))));
            assert!((&mut appends).now_or_never().is_none(), "handed over");
            assert!(!outbox.flush(Duration::from_millis(300)), "none of the client's tries settles them");
            assert_eq!(outbox.unacknowledged_records(), 20);
            assert!(outbox.unacknowledged_bytes() >= 200_000, "what waits is charged");
            cluster.mend_produces();
            for appended in appends.await {
                appended.unwrap();
            }
        });
        assert_eq!((outbox.unacknowledged_bytes(), outbox.unacknowledged_records()), (0, 0));
        assert_eq!(cluster.count(&settings(cluster.bootstrap_servers()), "t"), 1 + 20, "each once");
    }

    #[test]
    fn a_fatal_error_is_told_once_and_settles_nothing() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        // An idempotent producer that may not write is fatal in librdkafka.
        cluster.fail_producer_ids(vec![RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 10]);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let fatal = Box::new(move |cause: &str| tell.send(cause.to_owned()).unwrap());
        let outbox = Outbox::new(&settings(cluster.bootstrap_servers()), Observers { fatal, appended: Box::new(|_| {}) }).unwrap();
        on_a_runtime(async {
            let append = outbox.append(record("t", Bytes::from_static(b"v")));
            tokio::select! {
                biased;
                settled = append => panic!("settled by {settled:?}"),
                cause = told.recv() => assert!(cause.is_some()),
            }
        });
        assert!(told.try_recv().is_err(), "once");
    }

    #[test]
    fn a_topic_that_is_away_for_a_moment_is_waited_for_and_one_that_stays_away_refuses() {
        let cluster = EmbeddedCluster::start(&[("away", 1), ("gone", 1)]).unwrap();
        let mut settings = settings(cluster.bootstrap_servers());
        // As if it had known them for longer than that.
        settings.properties.insert("topic.metadata.propagation.max.ms".into(), "0".into());
        let outbox = Outbox::new(&settings, quiet()).unwrap();
        let append = |topic| outbox.append(record(topic, Bytes::from_static(b"v")));
        on_a_runtime(async {
            append("away").await.unwrap();
            append("gone").await.unwrap();
        });
        // What the broker answers once they are deleted; the client then asks what there is.
        cluster.say_of_topic("away", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        cluster.say_of_topic("gone", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        cluster.fail_produces(vec![RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART; 1000]);
        let begun = Instant::now();
        on_a_runtime(async {
            let made_anew = async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                cluster.mend_produces();
                cluster.say_of_topic("away", RD_KAFKA_RESP_ERR_NO_ERROR);
            };
            let (away, gone, ()) = tokio::join!(append("away"), append("gone"), made_anew);
            assert!(away.is_ok(), "{away:?}");
            assert!(begun.elapsed() >= AWAY);
            let refused = gone.unwrap_err();
            assert!(refused.topic.as_ref() == "gone" && refused.cause.contains("topics create"), "{refused:?}");
        });
    }

    #[test]
    fn an_epoch_that_the_broker_refuses_is_survived() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        let outbox = Outbox::new(&settings(cluster.bootstrap_servers()), quiet()).unwrap();
        let append = || async {
            let append = outbox.append(record("t", Bytes::from_static(b"v")));
            tokio::time::timeout(Duration::from_secs(30), append).await.expect("never settled").unwrap();
        };
        on_a_runtime(append());
        cluster.fail_produces(vec![RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH]);
        on_a_runtime(append());
    }
}
