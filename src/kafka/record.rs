//! Records across the client's border: detached when read, borrowed no longer than the call when written.
//!
//! A borrowed message pins the whole fetch buffer it came in (400 held records of 900 bytes cost 176 MB, 6 MB detached), and one that is
//! still alive keeps its consumer from closing. So a poll's message is copied at once, into one allocation for key, value and header
//! values.

use crate::domain::headers;
use crate::domain::id::{CE_ID, CE_SOURCE};
use crate::domain::record::{Header, NewRecord, Position, Record};
use crate::domain::time::UnixMillis;
use bytes::Bytes;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header as ClientHeader, Headers, Message, OwnedHeaders};
use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Topic names, each allocated once: thousands of records share a handful of them. Owned by the thread that polls.
#[derive(Debug, Default)]
pub struct TopicNames(HashSet<Arc<str>>);

impl TopicNames {
    /// The shared name equal to `name`.
    pub fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(name);
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// The most headers that a record keeps: each costs memory in many places, and a producer can write half a million into one record. Of a
/// record with more only those are kept that this program reads.
const MAX_HEADERS: usize = 1024;

/// Header names that are not UTF-8 make the client crate panic, which is caught and costs time. This many are skipped in one record;
/// everything after the next one is left out.
const MAX_UNREADABLE: usize = 16;

/// A record detached from its client.
#[derive(Debug)]
pub struct Detached {
    /// The record.
    pub record: Record,
    /// Headers left out: see [`MAX_HEADERS`] and [`MAX_UNREADABLE`].
    pub left_out: usize,
}

/// Copies what `message` borrows. A record without a timestamp has −1, as at the broker.
pub fn detach(message: &BorrowedMessage<'_>, names: &mut TopicNames) -> Detached {
    let (key, value) = (message.key(), message.payload());
    let (borrowed, left_out) = message.headers().map_or((Vec::new(), 0), readable);
    let total =
        key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + borrowed.iter().map(|h| h.value.map_or(0, <[u8]>::len)).sum::<usize>();
    let mut buffer = Vec::with_capacity(total);
    for part in [key, value].into_iter().chain(borrowed.iter().map(|h| h.value)).flatten() {
        buffer.extend_from_slice(part);
    }
    let mut rest = Bytes::from(buffer);
    let mut take = |part: Option<&[u8]>| part.map(|part| rest.split_to(part.len()));
    let record = Record {
        position: Position { topic: names.intern(message.topic()), partition: message.partition(), offset: message.offset() },
        timestamp: UnixMillis(message.timestamp().to_millis().unwrap_or(-1)),
        key: take(key),
        value: take(value),
        headers: borrowed.iter().map(|h| Header { name: Box::from(h.key), value: take(h.value) }).collect(),
    };
    Detached { record, left_out }
}

/// The headers that are kept, and how many are left out. Reading one whose name is no UTF-8 panics inside the client crate: a producer must
/// not be able to stop the line with one byte, so the panic is caught.
fn readable(headers: &BorrowedHeaders) -> (Vec<ClientHeader<'_, &[u8]>>, usize) {
    let count = headers.count();
    let (mut kept, mut next, mut unreadable) = (Vec::with_capacity(count.min(MAX_HEADERS)), 0, 0);
    READS_HEADERS.set(true);
    while next < count && unreadable <= MAX_UNREADABLE {
        let to_the_end = catch_unwind(AssertUnwindSafe(|| {
            while next < count {
                keep(&mut kept, headers.get(next), count > MAX_HEADERS);
                next += 1;
            }
        }));
        if to_the_end.is_err() {
            unreadable += 1;
            next += 1;
        }
    }
    READS_HEADERS.set(false);
    let more = kept.len().saturating_sub(MAX_HEADERS);
    kept.drain(..more);
    let left_out = count - kept.len();
    (kept, left_out)
}

/// Of `too_many` those that somebody here reads, and the last of those: of doubled ones the last counts.
fn keep<'a>(kept: &mut Vec<ClientHeader<'a, &'a [u8]>>, header: ClientHeader<'a, &'a [u8]>, too_many: bool) {
    let is_read = |name: &str| name.starts_with(headers::name::PREFIX) || [CE_SOURCE, CE_ID].contains(&name);
    if !too_many || is_read(header.key) {
        if kept.len() >= 2 * MAX_HEADERS {
            kept.drain(..MAX_HEADERS);
        }
        kept.push(header);
    }
}

thread_local! {
    static READS_HEADERS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is at a place where a panic of the client is expected, and caught: nothing to be printed.
#[must_use]
pub fn expects_a_panic() -> bool {
    READS_HEADERS.get()
}

/// The headers of `record` as a producer takes them: in order, null and empty kept apart.
pub(crate) fn client_headers(record: &NewRecord) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let start = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(record.headers.iter().fold(start, |headers, h| headers.insert(ClientHeader { key: &h.name, value: h.value.as_deref() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_name_is_allocated_once() {
        let mut names = TopicNames::default();
        let (a, b, c) = (names.intern("t"), names.intern("t"), names.intern("u"));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &c));
    }

    #[test]
    fn headers_for_a_producer_keep_order_doubles_null_and_empty() {
        let header = |name: &str, value: Option<&'static [u8]>| Header { name: name.into(), value: value.map(Bytes::from_static) };
        let record = NewRecord {
            topic: "t".into(),
            key: None,
            value: None,
            headers: vec![header("a", Some(b"1")), header("b", None), header("a", Some(b"")), header("c", Some(b"\xff"))],
        };
        let headers = client_headers(&record).unwrap();
        let read: Vec<_> = headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
        assert_eq!(
            read,
            [("a".into(), Some(b"1".to_vec())), ("b".into(), None), ("a".into(), Some(vec![])), ("c".into(), Some(b"\xff".to_vec()))]
        );
        assert!(client_headers(&NewRecord { headers: vec![], ..record }).is_none());
    }
}
