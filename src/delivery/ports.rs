//! The ports of the delivery engine: what the edges implement, and a simulation can too.

use crate::domain::offsets::CommitPoint;
use crate::domain::record::{NewRecord, Record};
use crate::domain::registry::CallbackUrl;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Outcome;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// One HTTP request to make: signed bytes are sent bytes.
#[derive(Clone)]
pub struct CallbackRequest {
    /// Where to; judged by the guard before it is dialled.
    pub url: Arc<CallbackUrl>,
    /// All headers but `host` and `content-length`.
    pub headers: HeaderLines,
    /// The body as signed.
    pub body: Bytes,
    /// Until the connection is established, TLS included.
    pub connect_timeout: Duration,
    /// Until status and headers are read.
    pub timeout: Duration,
}

/// Shows the endpoint and sizes only: the body holds `sign`.
impl fmt::Debug for CallbackRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("CallbackRequest");
        shown.field("url", &self.url).field("headers", &self.headers).field("body", &self.body.len()).finish_non_exhaustive()
    }
}

/// Request headers as they are sent: `name: value` and a line's end for each, in the order put in. A map was refused: nobody looks anything
/// up in them, and building one for every attempt takes six allocations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderLines(Vec<u8>);

/// Shows the length only: there are signatures and secrets in it.
impl fmt::Debug for HeaderLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderLines({} bytes)", self.0.len())
    }
}

impl HeaderLines {
    /// With room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a header. A value that could end its line is not a value: it is left out whole, so that nothing can be smuggled in with it.
    pub fn push(&mut self, name: &http::HeaderName, value: &[u8]) {
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return;
        }
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// The lines.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Sends callbacks. Resolves when status and headers are read or the attempt failed; never panics on what receivers do;
/// repeats once, uncounted, a request that failed because its pooled connection was already dead.
pub trait Transport {
    /// One attempt. Dropping the future ends it.
    fn send(&self, request: CallbackRequest) -> impl Future<Output = Outcome>;

    /// Called about each second: closes what has been idle for too long.
    fn tidy(&self) {}
}

/// What the broker acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The broker's append timestamp (`LogAppendTime`), when the topic has one.
    pub timestamp: Option<UnixMillis>,
}

/// The broker refused a record for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker refused a record for topic {topic}: {cause}")]
pub struct Refused {
    /// The topic.
    pub topic: Arc<str>,
    /// The client's error code in words.
    pub cause: String,
}

/// Appends requeues and dead letters.
pub trait Outbox {
    /// Resolves when the broker has acknowledged the record or refused it for good (too large, not authorised, no such topic); waits as
    /// long as that takes.
    fn append(&self, record: NewRecord) -> impl Future<Output = Result<Appended, Refused>>;
}

impl<O: Outbox> Outbox for Arc<O> {
    fn append(&self, record: NewRecord) -> impl Future<Output = Result<Appended, Refused>> {
        (**self).append(record)
    }
}

/// Time and chance.
pub trait Clock {
    /// Wall clock.
    fn now(&self) -> UnixMillis;
    /// Monotonic time since some fixed moment of this process.
    fn monotonic(&self) -> Duration;
    /// The broker's clock: what release and due times are measured by (design §10).
    fn broker_now(&self) -> UnixMillis;
    /// Whether our clock is within a minute of the broker's; unknown is sane.
    fn is_sane(&self) -> bool;
    /// Whether a record may die of its age by our clock: nothing that the broker ever said speaks against it.
    fn may_judge_age(&self) -> bool;
    /// The wall clock, or the broker's where that is known to be right: for what is signed, written down and judged later, when the clock may
    /// be right again. Of two that disagree without proof the later one: a first attempt dated too early would let its record die too early.
    fn trusted_now(&self) -> UnixMillis {
        match (self.is_sane(), self.may_judge_age()) {
            (true, true) => self.now(),
            (true, false) => self.now().max(self.broker_now()),
            (false, _) => self.broker_now(),
        }
    }
    /// Uniform in 0.0..1.0.
    fn draw(&self) -> f64;
    /// Resolves after `duration` of monotonic time.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
}

/// A topic's partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition, from 0.
    pub partition: i32,
}

/// A partition newly assigned, with what decides where to start (design §10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The group's commit: offset and metadata.
    pub committed: Option<(i64, String)>,
    /// The log's end when this member began, if nobody of the group had begun the topic and the partition was there: where
    /// `start_from = "latest"` starts without a commit.
    pub latest: Option<i64>,
    /// The log's start.
    pub low: i64,
    /// The log's end.
    pub high: i64,
}

/// A commit that was not accepted. In a rebalance that means "not yet".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("commit not accepted: {cause}")]
pub struct CommitRefused {
    /// Why.
    pub cause: String,
    /// Partitions whose points were accepted all the same: a topic's own fault (deleted, a right taken away) is no other's.
    pub accepted: Vec<TopicPartition>,
}

impl CommitRefused {
    /// Nothing was accepted.
    #[must_use]
    pub fn whole(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), accepted: Vec::new() }
    }
}

/// What a source tells.
#[derive(Debug)]
pub enum SourceEvent {
    /// Nothing within the time.
    Nothing,
    /// The group gave these partitions; [`Source::start`] must follow. May be empty: joined without a share, or the broker does not yet say
    /// where they stand; then they follow.
    Assigned(Vec<Assigned>),
    /// Records, in order within each partition.
    Batch(Vec<Record>),
    /// The group takes these back; [`Source::release`] must follow.
    Revoking(Vec<TopicPartition>),
    /// These are gone already (session lost); [`Source::release`] must follow.
    Lost(Vec<TopicPartition>),
    /// A commit that was not awaited was answered; the points are as given to [`Source::commit`].
    Committed(Result<(), CommitRefused>),
    /// Partitions that are not read any more, because the offset to read next is not in the log (retention), or was not for a moment (an
    /// unclean election). [`Source::start`] must follow, as if they were newly assigned.
    OutOfRange {
        /// The next offset is not in the log; it stands in [`Assigned::committed`].
        outside: Vec<Assigned>,
        /// The log may have been replaced: it has the next offset by now, or the group's commit has vanished. [`Assigned::committed`] is
        /// the group's commit.
        unsure: Vec<Assigned>,
    },
    /// The client can do nothing any more.
    Fatal(String),
}

/// Whether a commit is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// The answer arrives as [`SourceEvent::Committed`]; one at a time.
    Later,
    /// For the last one of partitions that go: the answer is the return value, within a few seconds. It is made after one under way, and
    /// tried again while a rebalance refuses it.
    Await,
}

/// Where records of one class come from: a consumer in a group. Used by one thread.
pub trait Source {
    /// Waits up to `timeout` for an event; a batch holds at most `max` records.
    fn poll(&mut self, timeout: Duration, max: usize) -> SourceEvent;
    /// Starts reading newly assigned partitions at these offsets; none of them is paused any more, whatever was before.
    fn start(&mut self, at: &[(TopicPartition, i64)]);
    /// Gives partitions up, after [`SourceEvent::Revoking`] or [`SourceEvent::Lost`].
    fn release(&mut self, partitions: &[TopicPartition]);
    /// Commits.
    ///
    /// # Errors
    /// When the broker, or the client, did not accept it.
    fn commit(&mut self, points: Vec<(TopicPartition, CommitPoint)>, mode: CommitMode) -> Result<(), CommitRefused>;
    /// Reads nothing more of these partitions for now.
    fn pause(&mut self, partitions: &[TopicPartition]);
    /// Reads them again.
    fn resume(&mut self, partitions: &[TopicPartition]);
    /// Of each partition read so far, the offset after the last one read or passed over (markers).
    fn positions(&mut self) -> Vec<(TopicPartition, i64)>;
    /// Leaves the group.
    fn leave(&mut self);
}
