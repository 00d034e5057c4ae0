//! A record: bytes from a topic and where they came from.

use super::time::UnixMillis;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Where a record stands: topic, partition, offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition, from 0.
    pub partition: i32,
    /// Offset, from 0.
    pub offset: i64,
}

impl fmt::Display for Position {
    /// `topic/partition/offset`, as in the header `callbackd-origin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// One record header; Kafka allows a null value and repeated names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name as written, not folded in case.
    pub name: Box<str>,
    /// Value; null and empty stay different.
    pub value: Option<Bytes>,
}

/// A record, detached from the client that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// The record's timestamp: append time in our topics (`LogAppendTime`), the producer's in source topics.
    pub timestamp: UnixMillis,
    /// Key; null and empty stay different.
    pub key: Option<Bytes>,
    /// Value; null and empty stay different.
    pub value: Option<Bytes>,
    /// Headers in the order read.
    pub headers: Vec<Header>,
}

impl Record {
    /// What this record costs in memory, for the byte budgets: key, value and headers plus a fixed 256 bytes of bookkeeping.
    #[must_use]
    pub fn cost(&self) -> usize {
        let bytes = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        256 + bytes(&self.key) + bytes(&self.value) + self.headers.iter().map(|h| h.name.len() + bytes(&h.value)).sum::<usize>()
    }
}

/// A record to be appended to one of our topics. The broker picks the partition from the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Topic name.
    pub topic: Arc<str>,
    /// Key, as in the source record.
    pub key: Option<Bytes>,
    /// Value, as in the source record.
    pub value: Option<Bytes>,
    /// Headers, ours and those passed through.
    pub headers: Vec<Header>,
}
