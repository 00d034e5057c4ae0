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
    /// What this record costs in memory, in bytes, for the byte budgets.
    #[must_use]
    pub fn cost(&self) -> usize {
        cost(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

/// Key, value and headers, plus a fixed 256 bytes of bookkeeping, and for each header its place and the allocator's overhead for its name:
/// on the wire an empty header has two bytes.
fn cost(key: Option<&Bytes>, value: Option<&Bytes>, headers: &[Header]) -> usize {
    let bytes = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let header = |header: &Header| HEADER_COST + header.name.len() + bytes(header.value.as_ref());
    256 + bytes(key) + bytes(value) + headers.iter().map(header).sum::<usize>()
}

/// See [`cost`].
const HEADER_COST: usize = size_of::<Header>() + 32;

/// A record to be appended to one of our topics. The producer picks the partition from the key.
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

impl NewRecord {
    /// What it costs while it awaits acknowledgement: as [`Record::cost`].
    #[must_use]
    pub fn cost(&self) -> usize {
        cost(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_header_costs_what_it_takes_in_memory() {
        let header = Header { name: "".into(), value: None };
        let record = |headers: usize| NewRecord { topic: "t".into(), key: None, value: None, headers: vec![header.clone(); headers] };
        assert_eq!(record(0).cost(), 256);
        assert!(record(1000).cost() >= 256 + 1000 * size_of::<Header>());
    }
}
