//! Our record headers, typed: a fixed set, overwritten and never appended, range-checked when read (design §5).
//!
//! A record in a tier is the only memory of a chain, and anyone who may write to the topic may have written it. So reading
//! never fails: a value that is malformed or out of range counts as absent, and what is absent is taken from the record
//! itself. The worst that forged headers do is to delay, end or restart their own chain.
//!
//! Invariants: a chain without attempts has no first attempt, no last outcome and no history; one with attempts has a
//! first attempt. All values are ASCII; names and values of ours together stay below [`MAX_BYTES`].

mod history;
mod letter;
pub mod name;

pub use history::{History, OutcomeMark};
pub use letter::{DeadLetter, replay_headers};

use super::dead_letter::Reason;
use super::id::{DomainName, EventId};
use super::record::{Header, Position, Record};
use super::time::UnixMillis;
use bytes::Bytes;
use std::str::FromStr;
use std::time::Duration;

/// Names and values of our headers together. The sum of all names, a 64-byte id, a 253-byte domain, a 249-byte topic,
/// 256 bytes of history, 128 of detail and full-width numbers is 1,335 bytes, so nothing ever has to be shortened further.
pub const MAX_BYTES: usize = 1536;

/// Names and values of headers that pass through, together; above it they are dropped and counted.
pub const MAX_FOREIGN_BYTES: usize = 8 * 1024;
/// The most headers of others that pass through: empty ones have no bytes, so they need a limit of their own.
const MAX_FOREIGN: usize = 256;

/// The detail of a dead letter, ASCII.
pub const MAX_DETAIL_BYTES: usize = 128;

/// Attempts that a header may claim.
pub const MAX_ATTEMPTS: u32 = super::policy::MAX_ATTEMPTS;

/// Replays that a header may claim, and where counting stops.
pub const MAX_REPLAYS: u32 = 1000;

/// A first attempt or a first append may lie this much after the append that carries it: two clocks were read.
pub const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Where the record that carries the headers was read from; decides what of them is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A source topic: every `callbackd-*` header but the id is ignored.
    Source,
    /// A delay tier: all of them are believed, within their ranges.
    Tier,
    /// The replay topic: attempts and age start anew, replays + 1.
    Replay,
    /// The dead-letter topic, read by tools.
    DeadLetter,
}

/// A chain: one event's way through attempts and tiers, as its headers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// `callbackd-id`.
    pub id: EventId,
    /// `callbackd-domain`.
    pub domain: Option<DomainName>,
    /// `callbackd-attempts`, 0–1000.
    pub attempts: u32,
    /// `callbackd-first-attempt-ms`, its start; `None` when none was made.
    pub first_attempt: Option<UnixMillis>,
    /// When the latest attempt started, to the second, for the history: first attempt + the history's sum; `None` when
    /// none was made.
    pub last_attempt: Option<UnixMillis>,
    /// `callbackd-source-ms`: the source record's timestamp.
    pub source_time: UnixMillis,
    /// `callbackd-due-ms`; `None`: due now.
    pub due: Option<UnixMillis>,
    /// `callbackd-last-outcome`.
    pub last_outcome: Option<OutcomeMark>,
    /// `callbackd-history`.
    pub history: History,
    /// `callbackd-since-ms`: our first append of this chain; `None` on first intake.
    pub since: Option<UnixMillis>,
    /// `callbackd-origin`: the source record.
    pub origin: Position,
    /// `callbackd-replays`, 0–1000.
    pub replays: u32,
}

/// The value of the header `name` in `record`; of a doubled one the last counts. A null value is as good as none.
#[must_use]
pub fn find<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().rfind(|h| &*h.name == name)?.value.as_deref()
}

impl Chain {
    /// The chain in `record`. Values out of range count as absent: attempts 0–1000, first attempt and since ≤ append + 60 s,
    /// due ≤ append + `longest_delay`; of a doubled header the last counts; what is missing is filled from the record itself:
    /// its own position as origin, its timestamp as source time and since, the id as [`EventId::of`] says. Attempts
    /// without a credible first one are aged from `since`.
    ///
    /// A dead letter has no due. From the replay topic only id, domain, source time, origin and replays are taken.
    #[must_use]
    pub fn read(record: &Record, from: Origin, longest_delay: Duration) -> Self {
        let fresh = Self::bare(record, EventId::of(record));
        match from {
            Origin::Source => fresh,
            Origin::Replay => {
                let told = fresh.identified(record);
                Self { since: Some(record.timestamp), replays: (told.replays + 1).min(MAX_REPLAYS), ..told }
            }
            Origin::Tier => {
                let due = number(record, name::DUE_MS).map(UnixMillis).filter(|d| *d <= record.timestamp.plus(longest_delay));
                Self { due, ..fresh.identified(record).progressed(record) }
            }
            Origin::DeadLetter => fresh.identified(record).progressed(record),
        }
    }

    /// A chain of the event `id` that believes no header of `record`.
    #[must_use]
    pub fn bare(record: &Record, id: EventId) -> Self {
        Self {
            id,
            domain: None,
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
            source_time: record.timestamp,
            due: None,
            last_outcome: None,
            history: History::default(),
            since: None,
            origin: record.position.clone(),
            replays: 0,
        }
    }

    /// Fills in what a replay keeps: domain, source time, origin, replays.
    fn identified(self, record: &Record) -> Self {
        Self {
            domain: text(record, name::DOMAIN).and_then(DomainName::parse),
            source_time: text(record, name::SOURCE_MS).and_then(parse_timestamp).unwrap_or(self.source_time),
            origin: text(record, name::ORIGIN).and_then(parse_position).unwrap_or(self.origin),
            replays: number(record, name::REPLAYS).filter(|n| *n <= MAX_REPLAYS).unwrap_or(0),
            ..self
        }
    }

    /// Fills in what was tried so far, and since when.
    fn progressed(self, record: &Record) -> Self {
        let latest = record.timestamp.plus(CLOCK_SLACK);
        let instant = |name| number(record, name).map(UnixMillis).filter(|t| *t <= latest);
        let since = instant(name::SINCE_MS).unwrap_or(record.timestamp);
        let attempts = number(record, name::ATTEMPTS).filter(|n| *n <= MAX_ATTEMPTS).unwrap_or(0);
        if attempts == 0 {
            return Self { since: Some(since), ..self };
        }
        let first = instant(name::FIRST_ATTEMPT_MS).unwrap_or(since);
        let history = text(record, name::HISTORY).and_then(History::parse).unwrap_or_default();
        Self {
            attempts,
            first_attempt: Some(first),
            last_attempt: Some(first.plus(history.span())),
            last_outcome: text(record, name::LAST_OUTCOME).and_then(OutcomeMark::parse),
            history,
            since: Some(since),
            ..self
        }
    }

    /// One attempt more, with `outcome`, started at `started`. The history counts from start to start, so it needs no end.
    pub fn attempted(&mut self, started: UnixMillis, outcome: OutcomeMark) {
        let first = *self.first_attempt.get_or_insert(started);
        let seconds = self.last_attempt.map_or(0, |last| started.since(last).as_secs());
        self.history.push(outcome, seconds);
        self.attempts = self.attempts.saturating_add(1);
        self.last_attempt = Some(first.plus(self.history.span()));
        self.last_outcome = Some(outcome);
        self.due = None;
    }

    /// Headers of a requeue due at `due`, appended at about `now`: ours, then those of `record` that pass through
    /// (all but `callbackd-*`; none when they exceed 8 KiB together, or 256: then the second value is true).
    #[must_use]
    pub fn requeue_headers(&self, record: &Record, due: UnixMillis, now: UnixMillis) -> (Vec<Header>, bool) {
        let mut headers = self.identity();
        self.progress(now, &mut headers);
        headers.push(header(name::DUE_MS, due.to_string()));
        let dropped = pass_through(record, &mut headers);
        (headers, dropped)
    }

    /// Headers of a dead letter: all but `due-ms`, with reason and detail (≤ 128 bytes, ASCII: what is not becomes `?`, the
    /// rest is cut). The second value as for a requeue.
    #[must_use]
    pub fn dead_letter_headers(&self, record: &Record, reason: Reason, detail: &str, now: UnixMillis) -> (Vec<Header>, bool) {
        let mut headers = self.identity();
        self.progress(now, &mut headers);
        headers.push(header(name::REASON, reason.as_str().to_owned()));
        let printable = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
        headers.push(header(name::DETAIL, detail.chars().map(printable).take(MAX_DETAIL_BYTES).collect()));
        let dropped = pass_through(record, &mut headers);
        (headers, dropped)
    }

    /// The headers that every record of the chain carries, replayed or not.
    fn identity(&self) -> Vec<Header> {
        let mut headers = Vec::with_capacity(16);
        headers.push(header(name::ID, self.id.as_str().to_owned()));
        headers.extend(self.domain.as_ref().map(|d| header(name::DOMAIN, d.as_str().to_owned())));
        headers.push(header(name::SOURCE_MS, self.source_time.to_string()));
        headers.push(header(name::ORIGIN, self.origin.to_string()));
        headers.push(header(name::REPLAYS, self.replays.min(MAX_REPLAYS).to_string()));
        headers
    }

    /// Adds the headers for what was tried so far, and since when; `now` when this is the chain's first append.
    fn progress(&self, now: UnixMillis, headers: &mut Vec<Header>) {
        headers.push(header(name::ATTEMPTS, self.attempts.min(MAX_ATTEMPTS).to_string()));
        headers.push(header(name::SINCE_MS, self.since.unwrap_or(now).to_string()));
        if self.attempts > 0 {
            headers.extend(self.first_attempt.map(|t| header(name::FIRST_ATTEMPT_MS, t.to_string())));
            headers.extend(self.last_outcome.map(|o| header(name::LAST_OUTCOME, o.to_string())));
            headers.push(header(name::HISTORY, self.history.as_str().to_owned()));
        }
    }
}

fn header(name: &str, value: String) -> Header {
    Header { name: name.into(), value: Some(Bytes::from(value)) }
}

/// Adds the headers of `record` that are not ours, in their order and with null kept null; true when they were too many.
fn pass_through(record: &Record, headers: &mut Vec<Header>) -> bool {
    let foreign = || record.headers.iter().filter(|h| !h.name.starts_with(name::PREFIX));
    let size: usize = foreign().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum();
    let fits = size <= MAX_FOREIGN_BYTES && foreign().count() <= MAX_FOREIGN;
    if fits {
        headers.extend(foreign().cloned());
    }
    !fits
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    std::str::from_utf8(find(record, name)?).ok()
}

/// A number in plain decimal: digits alone, so neither `+1` nor ` 1`, nor anything below zero.
fn number<N: FromStr>(record: &Record, name: &str) -> Option<N> {
    digits(text(record, name)?)
}

fn digits<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A record's timestamp: the one number that may be below zero, where its producer gave none.
fn parse_timestamp(text: &str) -> Option<UnixMillis> {
    match text.strip_prefix('-') {
        Some(below) => digits(below).map(|n: i64| UnixMillis(-n)),
        None => digits(text).map(UnixMillis),
    }
}

/// `topic/partition/offset`, the topic as Kafka allows it.
fn parse_position(text: &str) -> Option<Position> {
    let mut parts = text.split('/');
    let (topic, partition, offset) = (parts.next()?, parts.next()?, parts.next()?);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if parts.next().is_some() || !(1..=249).contains(&topic.len()) || !topic.bytes().all(legal) {
        return None;
    }
    Some(Position { topic: topic.into(), partition: digits(partition)?, offset: digits(offset)? })
}

#[cfg(test)]
mod tests {
    use super::super::verdict::AttemptResult;
    use super::*;

    const APPEND: i64 = 1_795_435_200_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn record(headers: &[(&str, Option<&str>)]) -> Record {
        Record {
            position: Position { topic: "callbackd.retry.1m".into(), partition: 3, offset: 41 },
            timestamp: UnixMillis(APPEND),
            key: None,
            value: Some(Bytes::from_static(b"{\"app\":\"push.shop.example\"}")),
            headers: headers
                .iter()
                .map(|(n, v)| Header { name: (*n).into(), value: v.map(|v| Bytes::copy_from_slice(v.as_bytes())) })
                .collect(),
        }
    }

    /// All of ours, all in range.
    fn full() -> Vec<(&'static str, Option<&'static str>)> {
        vec![
            ("callbackd-id", Some("evt_1")),
            ("callbackd-domain", Some("push.shop.example")),
            ("callbackd-attempts", Some("2")),
            ("callbackd-first-attempt-ms", Some("1795435100000")),
            ("callbackd-source-ms", Some("1795435000000")),
            ("callbackd-due-ms", Some("1795435230000")),
            ("callbackd-last-outcome", Some("timeout")),
            ("callbackd-history", Some("503+0,timeout+61")),
            ("callbackd-since-ms", Some("1795435100050")),
            ("callbackd-reason", Some("expired")),
            ("callbackd-detail", Some("a detail")),
            ("callbackd-origin", Some("recording.completed/0/7")),
            ("callbackd-replays", Some("1")),
        ]
    }

    fn with(changes: &[(&'static str, Option<&'static str>)]) -> Record {
        let mut headers = full();
        headers.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        headers.extend(changes);
        record(&headers)
    }

    fn texts(headers: &[Header]) -> Vec<String> {
        headers.iter().map(|h| format!("{}: {}", h.name, h.value.as_ref().map_or("null".into(), |v| String::from_utf8_lossy(v)))).collect()
    }

    fn source() -> Position {
        Position { topic: "recording.completed".into(), partition: 0, offset: 7 }
    }

    fn full_chain() -> Chain {
        Chain {
            id: EventId::parse(b"evt_1").unwrap(),
            domain: DomainName::parse("push.shop.example"),
            attempts: 2,
            first_attempt: Some(UnixMillis(1_795_435_100_000)),
            last_attempt: Some(UnixMillis(1_795_435_161_000)),
            source_time: UnixMillis(1_795_435_000_000),
            due: Some(UnixMillis(1_795_435_230_000)),
            last_outcome: Some(OutcomeMark::Result(AttemptResult::Timeout)),
            history: History::parse("503+0,timeout+61").unwrap(),
            since: Some(UnixMillis(1_795_435_100_050)),
            origin: source(),
            replays: 1,
        }
    }

    #[test]
    fn names_are_thirteen_of_our_prefix_each_once() {
        let mut names = name::ALL.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 13);
        assert!(names.iter().all(|n| n.starts_with(name::PREFIX)));
        let mut read: Vec<_> = full().iter().map(|(n, _)| *n).collect();
        read.sort_unstable();
        assert_eq!(read, names);
    }

    #[test]
    fn a_tier_record_tells_its_whole_chain() {
        assert_eq!(Chain::read(&record(&full()), Origin::Tier, DAY), full_chain());
    }

    #[test]
    fn a_dead_letter_tells_all_but_a_due() {
        let letter = DeadLetter::read(&record(&full()));
        assert_eq!(letter.chain, Chain { due: None, ..full_chain() });
        assert_eq!((letter.reason, letter.detail.as_deref()), (Some(Reason::Expired), Some("a detail")));
        let letter = DeadLetter::read(&with(&[("callbackd-reason", Some("gone")), ("callbackd-detail", Some(""))]));
        assert_eq!((letter.reason, letter.detail), (None, None));
    }

    #[test]
    fn from_a_source_topic_only_the_id_is_believed() {
        let read = Chain::read(&record(&full()), Origin::Source, DAY);
        assert_eq!(read.id.as_str(), "evt_1");
        let nothing_else = Chain {
            id: read.id.clone(),
            domain: None,
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
            source_time: UnixMillis(APPEND),
            due: None,
            last_outcome: None,
            history: History::default(),
            since: None,
            origin: Position { topic: "callbackd.retry.1m".into(), partition: 3, offset: 41 },
            replays: 0,
        };
        assert_eq!(read, nothing_else);
    }

    #[test]
    fn from_the_replay_topic_the_chain_starts_anew_and_counts_one_replay_more() {
        let anew = Chain {
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
            due: None,
            last_outcome: None,
            history: History::default(),
            since: Some(UnixMillis(APPEND)),
            replays: 2,
            ..full_chain()
        };
        assert_eq!(Chain::read(&record(&full()), Origin::Replay, DAY), anew);
        for (written, counted) in
            [(Some("0"), 1), (Some("999"), 1_000), (Some("1000"), 1_000), (Some("1001"), 1), (Some("-1"), 1), (None, 1)]
        {
            assert_eq!(Chain::read(&with(&[("callbackd-replays", written)]), Origin::Replay, DAY).replays, counted, "{written:?}");
        }
    }

    #[test]
    fn a_tier_record_without_headers_is_its_own_origin_never_attempted_since_its_append() {
        let bare = record(&[]);
        let read = Chain::read(&bare, Origin::Tier, DAY);
        assert_eq!(read.id, EventId::of(&bare));
        assert_eq!((read.origin, read.source_time, read.since), (bare.position, UnixMillis(APPEND), Some(UnixMillis(APPEND))));
        assert_eq!((read.attempts, read.first_attempt, read.last_attempt, read.due, read.replays), (0, None, None, None, 0));
        assert_eq!((read.domain, read.last_outcome, read.history.as_str()), (None, None, ""));
    }

    #[test]
    fn values_out_of_range_count_as_absent() {
        type Read = fn(&Chain) -> String;
        fn ms(t: Option<UnixMillis>) -> String {
            t.map_or("none".to_owned(), |t| t.to_string())
        }
        let attempts: Read = |c| c.attempts.to_string();
        let first: Read = |c| ms(c.first_attempt);
        let since: Read = |c| ms(c.since);
        let due: Read = |c| ms(c.due);
        let origin: Read = |c| c.origin.to_string();
        let source_time: Read = |c| c.source_time.to_string();
        let domain: Read = |c| c.domain.as_ref().map_or("none".to_owned(), ToString::to_string);
        let outcome: Read = |c| c.last_outcome.map_or("none".to_owned(), |o| o.to_string());
        let own = "callbackd.retry.1m/3/41";
        for (name, value, read, expected) in [
            (name::ATTEMPTS, "0", attempts, "0"),
            (name::ATTEMPTS, "1000", attempts, "1000"),
            (name::ATTEMPTS, "1001", attempts, "0"),
            (name::ATTEMPTS, "-1", attempts, "0"),
            (name::ATTEMPTS, "+1", attempts, "0"),
            (name::ATTEMPTS, " 1", attempts, "0"),
            (name::ATTEMPTS, "1e2", attempts, "0"),
            (name::ATTEMPTS, "", attempts, "0"),
            (name::ATTEMPTS, "4294967297", attempts, "0"),
            (name::FIRST_ATTEMPT_MS, "1795435260000", first, "1795435260000"),
            (name::FIRST_ATTEMPT_MS, "1795435260001", first, "1795435100050"),
            (name::FIRST_ATTEMPT_MS, "9223372036854775808", first, "1795435100050"),
            (name::FIRST_ATTEMPT_MS, "soon", first, "1795435100050"),
            (name::SINCE_MS, "1795435260000", since, "1795435260000"),
            (name::SINCE_MS, "1795435260001", since, "1795435200000"),
            (name::SINCE_MS, "-1", since, "1795435200000"),
            (name::DUE_MS, "1795521600000", due, "1795521600000"),
            (name::DUE_MS, "1795521600001", due, "none"),
            (name::DUE_MS, "0", due, "0"),
            (name::DUE_MS, "x", due, "none"),
            (name::SOURCE_MS, "-1", source_time, "-1"),
            (name::SOURCE_MS, "--1", source_time, "1795435200000"),
            (name::SOURCE_MS, "", source_time, "1795435200000"),
            (name::ORIGIN, "a.B_c-9/2147483647/9223372036854775807", origin, "a.B_c-9/2147483647/9223372036854775807"),
            (name::ORIGIN, "a/2147483648/0", origin, own),
            (name::ORIGIN, "a/-1/0", origin, own),
            (name::ORIGIN, "a/0", origin, own),
            (name::ORIGIN, "a/0/0/0", origin, own),
            (name::ORIGIN, "/0/0", origin, own),
            (name::ORIGIN, "a b/0/0", origin, own),
            (name::DOMAIN, "PUSH.Shop.example.", domain, "push.shop.example"),
            (name::DOMAIN, "a b", domain, "none"),
            (name::DOMAIN, "", domain, "none"),
            (name::LAST_OUTCOME, "503", outcome, "503"),
            (name::LAST_OUTCOME, "5034", outcome, "none"),
        ] {
            assert_eq!(read(&Chain::read(&with(&[(name, Some(value))]), Origin::Tier, DAY)), expected, "{name}: {value}");
        }
    }

    #[test]
    fn without_attempts_there_is_no_first_one_no_outcome_and_no_history() {
        for attempts in [Some("0"), None, Some("many")] {
            let read = Chain::read(&with(&[("callbackd-attempts", attempts)]), Origin::Tier, DAY);
            assert_eq!((read.attempts, read.first_attempt, read.last_attempt, read.last_outcome), (0, None, None, None));
            assert_eq!(read.history.as_str(), "");
        }
    }

    #[test]
    fn attempts_stay_counted_when_the_history_is_unreadable() {
        let read = Chain::read(&with(&[("callbackd-history", Some("503+x"))]), Origin::Tier, DAY);
        assert_eq!((read.attempts, read.history.as_str(), read.last_attempt), (2, "", read.first_attempt));
    }

    #[test]
    fn of_a_doubled_header_the_last_counts_also_when_it_is_null_or_out_of_range() {
        for (second, attempts) in [(Some("7"), 7), (Some("5000"), 0), (None, 0)] {
            let mut headers = full();
            headers.push(("callbackd-attempts", second));
            assert_eq!(Chain::read(&record(&headers), Origin::Tier, DAY).attempts, attempts, "{second:?}");
        }
        let doubled = record(&[("a", Some("1")), ("a", Some("2")), ("A", Some("3"))]);
        assert_eq!((find(&doubled, "a"), find(&doubled, "A"), find(&doubled, "b")), (Some(&b"2"[..]), Some(&b"3"[..]), None));
    }

    #[test]
    fn bytes_that_are_no_text_are_absent() {
        let mut record = record(&full());
        for header in &mut record.headers {
            if &*header.name != name::ID {
                header.value = Some(Bytes::from_static(b"\xff\xfe"));
            }
        }
        let read = Chain::read(&record, Origin::Tier, DAY);
        assert_eq!((read.attempts, read.origin, read.domain), (0, record.position.clone(), None));
    }

    #[test]
    fn a_requeue_overwrites_ours_and_passes_the_others_through() {
        let mut headers = full();
        headers.extend([
            ("traceparent", Some("00-1-2-01")),
            ("x", None),
            ("callbackd-", Some("")),
            ("callbackd-notice", Some("x")),
            ("x", Some("")),
        ]);
        let record = record(&headers);
        let mut chain = Chain::read(&record, Origin::Tier, DAY);
        chain.attempted(UnixMillis(1_795_435_230_500), OutcomeMark::Status(503));
        let (headers, dropped) = chain.requeue_headers(&record, UnixMillis(1_795_435_291_000), UnixMillis(1_795_435_231_001));
        assert!(!dropped);
        assert_eq!(
            texts(&headers),
            [
                "callbackd-id: evt_1",
                "callbackd-domain: push.shop.example",
                "callbackd-source-ms: 1795435000000",
                "callbackd-origin: recording.completed/0/7",
                "callbackd-replays: 1",
                "callbackd-attempts: 3",
                "callbackd-since-ms: 1795435100050",
                "callbackd-first-attempt-ms: 1795435100000",
                "callbackd-last-outcome: 503",
                "callbackd-history: 503+0,timeout+61,503+69",
                "callbackd-due-ms: 1795435291000",
                "traceparent: 00-1-2-01",
                "x: null",
                "x: ",
            ]
        );
    }

    #[test]
    fn a_chain_reads_back_from_its_own_requeue_attempt_after_attempt() {
        let mut record = record(&[("callbackd-id", Some("evt_1"))]);
        let mut chain = Chain::read(&record, Origin::Source, DAY);
        chain.domain = DomainName::parse("push.shop.example");
        for n in 0..200 {
            let now = UnixMillis(APPEND + 60_400 * n);
            chain.attempted(now, OutcomeMark::Result(AttemptResult::Timeout));
            let due = now.plus(Duration::from_secs(60));
            record.headers = chain.requeue_headers(&record, due, now).0;
            record.timestamp = now;
            chain.since.get_or_insert(now);
            chain.due = Some(due);
            let read = Chain::read(&record, Origin::Tier, DAY);
            assert_eq!(read, chain);
            // Whole seconds do not add up to a drift.
            assert!(now.since(read.last_attempt.unwrap()) < Duration::from_secs(1));
            chain = read;
        }
        assert_eq!((chain.attempts, chain.first_attempt, chain.since), (200, Some(UnixMillis(APPEND)), Some(UnixMillis(APPEND))));
    }

    #[test]
    fn a_dead_letter_of_a_chain_never_attempted_says_so_by_what_it_leaves_out() {
        let record = record(&[]);
        let chain = Chain { id: EventId::parse(b"evt_1").unwrap(), ..Chain::read(&record, Origin::Source, DAY) };
        let (headers, _) = chain.dead_letter_headers(&record, Reason::Undecodable, "app: missing", UnixMillis(9));
        assert_eq!(
            texts(&headers),
            [
                "callbackd-id: evt_1",
                "callbackd-source-ms: 1795435200000",
                "callbackd-origin: callbackd.retry.1m/3/41",
                "callbackd-replays: 0",
                "callbackd-attempts: 0",
                "callbackd-since-ms: 9",
                "callbackd-reason: undecodable",
                "callbackd-detail: app: missing",
            ]
        );
    }

    #[test]
    fn a_dead_letter_carries_all_but_the_due_and_its_detail_is_short_ascii() {
        let record = record(&full());
        let chain = Chain::read(&record, Origin::Tier, DAY);
        let (headers, _) = chain.dead_letter_headers(&record, Reason::Rejected, &format!("é\n{}", "x".repeat(500)), UnixMillis(9));
        let mut names: Vec<&str> = headers.iter().map(|h| &*h.name).collect();
        names.sort_unstable();
        let mut expected: Vec<&str> = name::ALL.into_iter().filter(|n| *n != name::DUE_MS).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        let detail = headers.iter().find(|h| &*h.name == name::DETAIL).unwrap().value.clone().unwrap();
        assert_eq!(detail, format!("??{}", "x".repeat(126)));
    }

    #[test]
    fn the_largest_headers_of_ours_stay_ascii_and_below_their_limit() {
        let record = record(&[]);
        let label = |c: &str, n| c.repeat(n);
        let domain = [label("a", 63), label("b", 63), label("c", 63), label("d", 61)].join(".");
        assert_eq!(domain.len(), 253);
        let mut chain = Chain {
            id: EventId::parse(label("i", 64).as_bytes()).unwrap(),
            domain: Some(DomainName::parse(&domain).unwrap()),
            source_time: UnixMillis(i64::MIN),
            origin: Position { topic: label("t", 249).into(), partition: i32::MAX, offset: i64::MAX },
            since: Some(UnixMillis(i64::MIN)),
            replays: u32::MAX,
            ..Chain::read(&record, Origin::Source, DAY)
        };
        for n in 0..1_000 {
            chain.attempted(UnixMillis(APPEND + n * 604_800_000), OutcomeMark::Result(AttemptResult::UnexpectedStatus));
        }
        chain.first_attempt = Some(UnixMillis(i64::MIN));
        let (mut headers, _) = chain.dead_letter_headers(&record, Reason::AttemptsExhausted, &label("x", 999), UnixMillis(0));
        headers.push(header(name::DUE_MS, i64::MIN.to_string()));
        assert_eq!(headers.len(), 13);
        let size: usize = headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum();
        assert!(size <= MAX_BYTES - 64, "{size}");
        assert!(headers.iter().all(|h| h.value.as_ref().unwrap().is_ascii()));
    }

    #[test]
    fn foreign_headers_pass_up_to_eight_kibibytes_and_none_beyond() {
        for (count, dropped) in [(256, false), (257, true)] {
            let record = record(&vec![("", None); count]);
            let (headers, told) = Chain::read(&record, Origin::Source, DAY).requeue_headers(&record, UnixMillis(1), UnixMillis(0));
            assert_eq!(told, dropped, "{count}");
            assert_eq!(headers.iter().filter(|h| h.name.is_empty()).count(), if dropped { 0 } else { count });
        }
        for (bytes, dropped) in [(8_191, false), (8_192, true)] {
            let big = "v".repeat(bytes - 1);
            let record = record(&[("a", Some("")), ("b", Some(&big)), ("callbackd-detail", Some(&big))]);
            let chain = Chain::read(&record, Origin::Source, DAY);
            for (headers, told) in [
                chain.requeue_headers(&record, UnixMillis(1), UnixMillis(0)),
                chain.dead_letter_headers(&record, Reason::Expired, "", UnixMillis(0)),
            ] {
                assert_eq!(told, dropped, "{bytes}");
                assert_eq!(headers.iter().filter(|h| !h.name.starts_with(name::PREFIX)).count(), if dropped { 0 } else { 2 });
            }
        }
    }

    #[test]
    fn a_replayed_dead_letter_keeps_who_it_is_and_forgets_what_was_tried() {
        let mut headers = full();
        headers.push(("traceparent", Some("00-1-2-01")));
        let letter = record(&headers);
        let replayed = replay_headers(&letter);
        assert_eq!(
            texts(&replayed),
            [
                "callbackd-id: evt_1",
                "callbackd-domain: push.shop.example",
                "callbackd-source-ms: 1795435000000",
                "callbackd-origin: recording.completed/0/7",
                "callbackd-replays: 1",
                "traceparent: 00-1-2-01",
            ]
        );
        let taken_in = Chain::read(&Record { headers: replayed, ..letter }, Origin::Replay, DAY);
        assert_eq!((taken_in.replays, taken_in.attempts, taken_in.id.as_str(), taken_in.origin), (2, 0, "evt_1", source()));
    }
}
