//! The writing half of a job: copies and offsets, in one transaction.

use super::ReplayError;
use super::rights::{Rights, code_of};
use crate::domain::record::NewRecord;
use crate::kafka::client::{ClientSettings, PlainContext, log_line, make};
use crate::kafka::outbox::{Fate, fate};
use crate::kafka::record::client_headers;
use crate::kafka::redaction::Redaction;
use crate::kafka::right::is_denied;
use crate::kafka::wait::Pauses;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that one question to the broker may take.
pub(super) const QUESTION: Duration = Duration::from_secs(30);

/// How often one transaction is tried before the job ends; started again, the job goes on there.
const TRIES: u32 = 8;

/// Where a job stands in one partition of the dead-letter topic.
pub(super) struct JobOffset {
    /// The dead-letter topic.
    pub(super) topic: String,
    /// The partition.
    pub(super) partition: i32,
    /// The first offset not looked at.
    pub(super) next: i64,
    /// What goes beside it.
    pub(super) metadata: String,
}

struct CopyContext {
    redaction: Redaction,
    failed: Mutex<Option<Code>>,
}

impl CopyContext {
    fn take(&self) -> Option<Code> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for CopyContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(&self.redaction, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", code = ?error.rdkafka_error_code(), "{}", self.redaction.apply(reason));
    }
}

impl ProducerContext for CopyContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = error.rdkafka_error_code();
        }
    }
}

/// The transactional producer of a job.
pub(super) struct Copier {
    producer: BaseProducer<CopyContext>,
    rights: Rights,
}

impl Copier {
    /// Fences an earlier run: its open transaction is over before the job's offsets are read.
    pub(super) fn start(settings: &ClientSettings, name: &str) -> Result<Self, ReplayError> {
        let producer =
            make(&settings.transactional(name), CopyContext { redaction: settings.redaction.clone(), failed: Mutex::default() })?;
        let copier = Self { producer, rights: Rights::of(settings, name) };
        copier.until_done("starting transactions", || copier.producer.init_transactions(QUESTION))?;
        Ok(copier)
    }

    /// Puts `copies` and `offsets` into the log together; says which copies are larger than the producer may send.
    pub(super) fn commit(
        &self,
        copies: &[NewRecord],
        offsets: &[JobOffset],
        reader: &BaseConsumer<PlainContext>,
    ) -> Result<Vec<usize>, ReplayError> {
        let mut pauses = Pauses::for_broker();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.commit_once(copies, offsets, reader) {
                Err(TryError::Again(error)) if tries < TRIES => {
                    tracing::warn!(error = %error, "a transaction of the replay job was aborted, trying again");
                    self.until_done("aborting a transaction", || self.producer.abort_transaction(QUESTION))?;
                    let _ = self.producer.context().take();
                    thread::sleep(pauses.next_pause());
                }
                Err(TryError::Again(error) | TryError::Final(error)) => {
                    // An error changes nothing here; without the attempt, readers of the replay topic would wait for the end of an open
                    // transaction.
                    let _ = self.producer.abort_transaction(QUESTION);
                    return Err(error);
                }
                Ok(too_large) => return Ok(too_large),
            }
        }
    }

    fn commit_once(
        &self,
        copies: &[NewRecord],
        offsets: &[JobOffset],
        reader: &BaseConsumer<PlainContext>,
    ) -> Result<Vec<usize>, TryError> {
        self.producer.begin_transaction().map_err(|e| TryError::of(&e, self.rights.writing("beginning a transaction", &e)))?;
        let mut too_large = Vec::new();
        for (index, copy) in copies.iter().enumerate() {
            match self.send(copy) {
                Ok(()) => {}
                Err(Code::MessageSizeTooLarge) => too_large.push(index),
                Err(code) => return Err(self.refused(&copy.topic, code)),
            }
        }
        // All reports first: a commit with reports outstanding takes a hundred milliseconds.
        self.await_reports()?;
        if let (Some(code), Some(copy)) = (self.producer.context().take(), copies.first()) {
            return Err(self.refused(&copy.topic, code));
        }
        let mut list = TopicPartitionList::new();
        for offset in offsets {
            let mut element = list.add_partition(&offset.topic, offset.partition);
            element.set_offset(Offset::Offset(offset.next)).map_err(|e| TryError::of(&e, self.rights.reading("noting offsets", &e)))?;
            element.set_metadata(offset.metadata.as_str());
        }
        let group = reader
            .group_metadata()
            .ok_or_else(|| TryError::Final(ReplayError::Broker { what: "noting offsets", cause: "no group".into() }))?;
        let sent = || self.producer.send_offsets_to_transaction(&list, &group, QUESTION);
        self.retried(sent).map_err(|e| TryError::of(&e, self.rights.reading("noting offsets", &e)))?;
        let committed = self.retried(|| self.producer.commit_transaction(QUESTION));
        committed.map_err(|e| TryError::of(&e, self.rights.writing("committing", &e)))?;
        Ok(too_large)
    }

    /// The client's own `flush` looks in steps of 100 ms, which would be most of a batch's time.
    fn await_reports(&self) -> Result<(), TryError> {
        let deadline = Instant::now() + QUESTION * 2;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() > deadline {
                return Err(TryError::Again(ReplayError::Broker { what: "copying", cause: "no acknowledgement for a minute".into() }));
            }
            self.producer.poll(Duration::from_millis(1));
        }
        Ok(())
    }

    fn send(&self, copy: &NewRecord) -> Result<(), Code> {
        loop {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&copy.topic);
            record.key = copy.key.as_deref();
            record.payload = copy.value.as_deref();
            record.headers = client_headers(copy);
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, _)) => match error.rdkafka_error_code() {
                    Some(Code::QueueFull) => self.producer.poll(Duration::from_millis(20)),
                    code => return Err(code.unwrap_or(Code::Unknown)),
                },
            }
        }
    }

    /// Repeats calls that failed with an error for which that is allowed: the client goes on with the same operation.
    fn retried(&self, act: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
        let mut pauses = Pauses::for_broker();
        for _ in 1..TRIES {
            match act() {
                Err(KafkaError::Transaction(error)) if error.is_retriable() => thread::sleep(pauses.next_pause()),
                other => return other,
            }
        }
        act()
    }

    fn until_done(&self, what: &'static str, act: impl Fn() -> Result<(), KafkaError>) -> Result<(), ReplayError> {
        self.retried(act).map_err(|e| match TryError::of(&e, self.rights.writing(what, &e)) {
            TryError::Again(error) | TryError::Final(error) => error,
        })
    }

    /// A copy came back with `code`.
    fn refused(&self, topic: &str, code: Code) -> TryError {
        let error = ReplayError::Refused { topic: topic.to_owned(), cause: format!("{code:?}") };
        match fate(code) {
            Fate::Refused if code == Code::TopicAuthorizationFailed => {
                TryError::Final(self.rights.writing("copying", &KafkaError::MessageProduction(code)))
            }
            Fate::Refused | Fate::Missing => TryError::Final(error),
            Fate::Ending if code == Code::Fatal => TryError::Final(ReplayError::Fenced),
            // What is purged was in a transaction that has failed as a whole: its end says why.
            Fate::Ending if code == Code::PurgeQueue || code == Code::PurgeInflight => match self.producer.commit_transaction(QUESTION) {
                Ok(()) => TryError::Final(error),
                Err(e) => TryError::of(&e, self.rights.writing("copying", &e)),
            },
            Fate::Again if code == Code::ProducerFenced => TryError::Final(ReplayError::Fenced),
            Fate::Ending | Fate::Room | Fate::Again => TryError::Again(error),
        }
    }
}

/// A transaction that came to nothing.
enum TryError {
    /// Abort it and do it again.
    Again(ReplayError),
    /// The job ends.
    Final(ReplayError),
}

impl TryError {
    /// Judges the client's `error`; `told` is what the user is told of it.
    fn of(error: &KafkaError, told: ReplayError) -> Self {
        let KafkaError::Transaction(transaction) = error else { return Self::Again(told) };
        let fenced = [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch];
        if fenced.contains(&transaction.code()) {
            Self::Final(ReplayError::Fenced)
        } else if transaction.txn_requires_abort() && !code_of(error).is_some_and(is_denied) {
            Self::Again(told)
        } else {
            Self::Final(told)
        }
    }
}
