//! Which dead letters a job wants: pure.

use crate::domain::dead_letter::Reason;
use crate::domain::headers::{DeadLetter, OutcomeMark};
use crate::domain::id::{DomainName, EventId};
use crate::domain::record::Record;
use crate::domain::time::UnixMillis;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What a letter must have to be selected: of each list one, of an empty list anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Push domains.
    pub domains: Vec<DomainName>,
    /// Reasons.
    pub reasons: Vec<Reason>,
    /// Latest outcomes: a status or a result.
    pub outcomes: Vec<OutcomeMark>,
    /// Event ids.
    pub ids: Vec<EventId>,
    /// Buried at or after this append time.
    pub since: Option<UnixMillis>,
    /// Buried before this append time.
    pub until: Option<UnixMillis>,
}

impl Filters {
    /// Whether `letter`, buried at `buried`, is wanted.
    #[must_use]
    pub fn want(&self, letter: &DeadLetter, buried: UnixMillis) -> bool {
        fn one_of<T: PartialEq>(wanted: &[T], has: Option<&T>) -> bool {
            wanted.is_empty() || has.is_some_and(|has| wanted.contains(has))
        }
        one_of(&self.domains, letter.chain.domain.as_ref())
            && one_of(&self.reasons, letter.reason.as_ref())
            && one_of(&self.outcomes, letter.chain.last_outcome.as_ref())
            && one_of(&self.ids, Some(&letter.chain.id))
            && self.since.is_none_or(|since| buried >= since)
            && self.until.is_none_or(|until| buried < until)
    }

    /// The same for the same filters, in whatever order they were given: 16 hex digits, part of the job's name.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut parts: Vec<String> = self.domains.iter().map(|d| format!("domain={d}")).collect();
        parts.extend(self.reasons.iter().map(|r| format!("reason={r}")));
        parts.extend(self.outcomes.iter().map(|o| format!("outcome={o}")));
        parts.extend(self.ids.iter().map(|id| format!("id={id}")));
        parts.extend(self.since.map(|t| format!("since={t}")));
        parts.extend(self.until.map(|t| format!("until={t}")));
        parts.sort();
        parts.dedup();
        let digest = Sha256::digest(parts.join("\n"));
        digest.iter().take(8).fold(String::with_capacity(16), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// What is to be done with a letter.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Copy it.
    Yes,
    /// The filters do not want it.
    No,
    /// It was replayed as often as the limit allows: copying it would be a loop.
    TooOften,
}

/// Judges one record of the dead-letter topic, read as `letter`.
pub fn select(filters: &Filters, replay_limit: u32, letter: &DeadLetter, record: &Record) -> Selected {
    if !filters.want(letter, record.timestamp) {
        Selected::No
    } else if letter.chain.replays >= replay_limit {
        Selected::TooOften
    } else {
        Selected::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::{Header, Position};
    use bytes::Bytes;

    fn letter(replays: &str) -> Record {
        let header = |name: &str, value: &str| Header { name: name.into(), value: Some(Bytes::copy_from_slice(value.as_bytes())) };
        Record {
            position: Position { topic: "cb.dead-letter".into(), partition: 0, offset: 7 },
            timestamp: UnixMillis(1_700_000_100_000),
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers: vec![
                header("callbackd-id", "e1"),
                header("callbackd-domain", "push.shop.example"),
                header("callbackd-reason", "attempts_exhausted"),
                header("callbackd-attempts", "13"),
                header("callbackd-first-attempt-ms", "1700000000000"),
                header("callbackd-last-outcome", "503"),
                header("callbackd-history", "503+0"),
                header("callbackd-source-ms", "1699999999000"),
                header("callbackd-origin", "recording.completed/0/1"),
                header("callbackd-replays", replays),
            ],
        }
    }

    fn domain(name: &str) -> DomainName {
        DomainName::parse(name).unwrap()
    }

    #[test]
    fn each_filter_selects_by_itself_and_all_must_agree() {
        let read = |f: &Filters| select(f, 5, &DeadLetter::read(&letter("0")), &letter("0"));
        let none = Filters::default();
        let id = |text: &str| EventId::parse(text.as_bytes()).unwrap();
        let table = [
            (none.clone(), Selected::Yes),
            (Filters { domains: vec![domain("push.shop.example")], ..none.clone() }, Selected::Yes),
            (Filters { domains: vec![domain("a.example"), domain("push.shop.example")], ..none.clone() }, Selected::Yes),
            (Filters { domains: vec![domain("a.example")], ..none.clone() }, Selected::No),
            (Filters { reasons: vec![Reason::AttemptsExhausted], ..none.clone() }, Selected::Yes),
            (Filters { reasons: vec![Reason::Expired], ..none.clone() }, Selected::No),
            (Filters { outcomes: vec![OutcomeMark::Status(503)], ..none.clone() }, Selected::Yes),
            (Filters { outcomes: vec![OutcomeMark::Status(500)], ..none.clone() }, Selected::No),
            (Filters { ids: vec![id("e1")], ..none.clone() }, Selected::Yes),
            (Filters { ids: vec![id("e2")], ..none.clone() }, Selected::No),
            (Filters { since: Some(UnixMillis(1_700_000_100_000)), ..none.clone() }, Selected::Yes),
            (Filters { since: Some(UnixMillis(1_700_000_100_001)), ..none.clone() }, Selected::No),
            (Filters { until: Some(UnixMillis(1_700_000_100_000)), ..none.clone() }, Selected::No),
            (Filters { until: Some(UnixMillis(1_700_000_100_001)), ..none.clone() }, Selected::Yes),
            (Filters { reasons: vec![Reason::AttemptsExhausted], domains: vec![domain("a.example")], ..none }, Selected::No),
        ];
        for (filters, expected) in table {
            assert_eq!(read(&filters), expected, "{filters:?}");
        }
    }

    #[test]
    fn a_letter_replayed_up_to_the_limit_is_not_copied_again() {
        for (replays, limit, expected) in
            [("4", 5, Selected::Yes), ("5", 5, Selected::TooOften), ("9", 5, Selected::TooOften), ("0", 0, Selected::TooOften)]
        {
            assert_eq!(select(&Filters::default(), limit, &DeadLetter::read(&letter(replays)), &letter(replays)), expected);
        }
    }

    #[test]
    fn a_letter_without_a_domain_is_wanted_only_when_no_domain_is_asked_for() {
        let mut record = letter("0");
        record.headers.retain(|h| &*h.name != "callbackd-domain");
        let read = DeadLetter::read(&record);
        assert_eq!(select(&Filters::default(), 5, &read, &record), Selected::Yes);
        assert_eq!(select(&Filters { domains: vec![domain("push.shop.example")], ..Filters::default() }, 5, &read, &record), Selected::No);
    }

    #[test]
    fn a_job_is_its_filters_in_any_order() {
        let (a, b) = (domain("a.example"), domain("b.example"));
        let one = Filters { domains: vec![a.clone(), b.clone()], ..Filters::default() };
        let other = Filters { domains: vec![b, a.clone()], ..Filters::default() };
        assert_eq!(one.hash(), other.hash());
        assert_eq!(one.hash().len(), 16);
        assert_ne!(one.hash(), Filters { domains: vec![a], ..Filters::default() }.hash());
        assert_ne!(Filters::default().hash(), Filters { since: Some(UnixMillis(0)), ..Filters::default() }.hash());
    }
}
