//! The account: what became of each event, by its id, as the outside saw it.
//!
//! An event's outcome is its *last* one: a dead letter that is replayed and then received was delivered. What is received again after it
//! was delivered is a repeat; a request with an id that nobody produced is a stranger. Neither can balance the books.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A receiver answered 200.
    Delivered,
    /// It lies in the dead-letter topic.
    DeadLettered,
    /// The daemon says that the registry has no callback for it.
    Skipped,
}

struct Entry {
    case: usize,
    value: Bytes,
    produced: Instant,
    requests: u32,
    outcome: Option<Outcome>,
}

/// Numbers of one domain, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Events produced.
    pub(super) produced: u64,
    /// By last outcome.
    pub(super) delivered: u64,
    /// By last outcome.
    pub(super) dead_lettered: u64,
    /// By last outcome.
    pub(super) skipped: u64,
    /// Requests beyond the first of an event.
    pub(super) retried: u64,
    /// Median age at delivery, from producing to the answer 200, without replays.
    pub(super) p50: Option<Duration>,
    /// As `p50`, the 99th percentile.
    pub(super) p99: Option<Duration>,
}

impl Tally {
    /// Events with an outcome.
    pub(super) const fn settled(&self) -> u64 {
        self.delivered + self.dead_lettered + self.skipped
    }

    fn add(&mut self, entry: &Entry) {
        self.produced += 1;
        self.retried += u64::from(entry.requests.saturating_sub(1));
        match entry.outcome {
            Some(Outcome::Delivered) => self.delivered += 1,
            Some(Outcome::DeadLettered) => self.dead_lettered += 1,
            Some(Outcome::Skipped) => self.skipped += 1,
            None => {}
        }
    }
}

/// The account at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// By domain, in their order.
    pub(super) cases: Vec<Tally>,
    /// All together.
    pub(super) total: Tally,
    /// Age of the oldest event without an outcome.
    pub(super) oldest: Option<Duration>,
    /// Requests received.
    pub(super) requests: u64,
    /// Requests whose signatures and body were verified.
    pub(super) verified: u64,
    /// Deliveries of events that were delivered already.
    pub(super) repeats: u64,
    /// Requests and dead letters with ids that were not produced, or of another domain.
    pub(super) strangers: u64,
    /// Why requests were not verified: the first few.
    pub(super) faults: Vec<String>,
}

impl Account {
    /// Produced = delivered + dead-lettered + skipped, and nobody else's.
    pub(super) const fn is_balanced(&self) -> bool {
        self.total.produced > 0 && self.total.produced == self.total.settled() && self.strangers == 0
    }

    /// Every request was verified, and there were some.
    pub(super) const fn is_verified(&self) -> bool {
        self.requests > 0 && self.requests == self.verified
    }
}

#[derive(Default)]
struct Books {
    events: HashMap<String, Entry>,
    ages: Vec<Vec<Duration>>,
    requests: u64,
    verified: u64,
    repeats: u64,
    strangers: u64,
    faults: Vec<String>,
}

/// Shared by producer, receivers, the reader of dead letters and the reader of the log.
pub(super) struct Ledger {
    books: Mutex<Books>,
    cases: usize,
}

impl Ledger {
    /// A ledger for this many domains.
    pub(super) fn new(cases: usize) -> Self {
        Self { books: Mutex::new(Books { ages: vec![Vec::new(); cases], ..Books::default() }), cases }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event is about to be produced.
    pub(super) fn produced(&self, id: String, case: usize, value: Bytes) {
        self.books().events.insert(id, Entry { case, value, produced: Instant::now(), requests: 0, outcome: None });
    }

    /// A request came for `id` at the receiver of `case`: how many there were of this event, and what was produced. `None` for a stranger.
    pub(super) fn received(&self, id: &str, case: usize) -> Option<(u32, Bytes)> {
        let mut books = self.books();
        books.requests += 1;
        let Some(entry) = books.events.get_mut(id).filter(|entry| entry.case == case) else {
            books.strangers += 1;
            return None;
        };
        entry.requests += 1;
        Some((entry.requests, entry.value.clone()))
    }

    /// The latest request for `id` was checked.
    pub(super) fn checked(&self, id: &str, verdict: Result<(), &'static str>) {
        let mut books = self.books();
        match verdict {
            Ok(()) => books.verified += 1,
            Err(why) if books.faults.len() < 5 => books.faults.push(format!("{id}: {why}")),
            Err(_) => {}
        }
    }

    /// The receiver answered 200 for `id`.
    pub(super) fn delivered(&self, id: &str) {
        let mut books = self.books();
        let Some(entry) = books.events.get_mut(id) else { return };
        let (case, age) = (entry.case, entry.produced.elapsed());
        match entry.outcome.replace(Outcome::Delivered) {
            Some(Outcome::Delivered) => books.repeats += 1,
            // A replay comes when a person asks for it: its age says nothing about delivery.
            Some(Outcome::DeadLettered | Outcome::Skipped) => {}
            None => {
                if let Some(ages) = books.ages.get_mut(case) {
                    ages.push(age);
                }
            }
        }
    }

    /// `id` lies in the dead-letter topic, or the daemon says that it was skipped.
    pub(super) fn ended(&self, id: &str, outcome: Outcome) {
        let mut books = self.books();
        match books.events.get_mut(id) {
            Some(entry) => entry.outcome = Some(outcome),
            None => books.strangers += 1,
        }
    }

    /// The account of now.
    pub(super) fn account(&self) -> Account {
        let books = self.books();
        let mut account = Account {
            cases: vec![Tally::default(); self.cases],
            requests: books.requests,
            verified: books.verified,
            repeats: books.repeats,
            strangers: books.strangers,
            faults: books.faults.clone(),
            ..Account::default()
        };
        for entry in books.events.values() {
            account.total.add(entry);
            if let Some(tally) = account.cases.get_mut(entry.case) {
                tally.add(entry);
            }
            if entry.outcome.is_none() {
                account.oldest = account.oldest.max(Some(entry.produced.elapsed()));
            }
        }
        for (tally, ages) in account.cases.iter_mut().zip(&books.ages) {
            (tally.p50, tally.p99) = percentiles(ages.clone());
        }
        (account.total.p50, account.total.p99) = percentiles(books.ages.concat());
        account
    }
}

/// The median and the 99th percentile.
fn percentiles(mut ages: Vec<Duration>) -> (Option<Duration>, Option<Duration>) {
    ages.sort_unstable();
    let at = |hundredths: usize| ages.get((ages.len() * hundredths).div_ceil(100).saturating_sub(1)).copied();
    (at(50), at(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(events: &[(&str, usize)]) -> Ledger {
        let ledger = Ledger::new(2);
        events.iter().for_each(|(id, case)| ledger.produced((*id).to_owned(), *case, Bytes::new()));
        ledger
    }

    fn deliver(ledger: &Ledger, id: &str, case: usize) {
        assert!(ledger.received(id, case).is_some());
        ledger.checked(id, Ok(()));
        ledger.delivered(id);
    }

    #[test]
    fn the_account_balances_by_each_events_last_outcome() {
        let ledger = ledger(&[("a", 0), ("b", 0), ("c", 1), ("d", 1)]);
        deliver(&ledger, "a", 0);
        ledger.ended("b", Outcome::DeadLettered);
        ledger.ended("c", Outcome::Skipped);
        let account = ledger.account();
        assert!(!account.is_balanced() && account.oldest.is_some());
        ledger.ended("d", Outcome::DeadLettered);
        let account = ledger.account();
        assert!(account.is_balanced() && account.is_verified() && account.oldest.is_none());
        assert_eq!((account.total.delivered, account.total.dead_lettered, account.total.skipped), (1, 2, 1));
        // Replayed: the same event, another last outcome.
        deliver(&ledger, "d", 1);
        let account = ledger.account();
        assert!(account.is_balanced());
        assert_eq!((account.total.delivered, account.total.dead_lettered, account.repeats), (2, 1, 0));
        assert_eq!((account.cases[1].delivered, account.cases[1].skipped, account.cases[1].produced), (1, 1, 2));
    }

    #[test]
    fn nothing_produced_is_no_balance() {
        assert!(!Ledger::new(1).account().is_balanced());
        assert!(!Ledger::new(1).account().is_verified());
    }

    #[test]
    fn strangers_and_other_domains_spoil_the_balance() {
        let ledger = ledger(&[("a", 0)]);
        deliver(&ledger, "a", 0);
        assert!(ledger.account().is_balanced());
        assert!(ledger.received("a", 1).is_none());
        assert!(!ledger.account().is_balanced());
    }

    #[test]
    fn a_second_delivery_is_a_repeat_and_counts_once() {
        let ledger = ledger(&[("a", 0)]);
        deliver(&ledger, "a", 0);
        deliver(&ledger, "a", 0);
        let account = ledger.account();
        assert_eq!((account.total.delivered, account.repeats, account.total.retried), (1, 1, 1));
    }

    #[test]
    fn one_unverified_request_spoils_the_verification_and_is_told() {
        let ledger = ledger(&[("a", 0)]);
        deliver(&ledger, "a", 0);
        ledger.received("a", 0);
        ledger.checked("a", Err("sign does not match t"));
        let account = ledger.account();
        assert!(!account.is_verified());
        assert_eq!(account.faults, ["a: sign does not match t"]);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_ages() {
        let ms = Duration::from_millis;
        for (ages, expected) in [
            (vec![], (None, None)),
            (vec![7], (Some(ms(7)), Some(ms(7)))),
            ((1..=100).rev().collect(), (Some(ms(50)), Some(ms(99)))),
            ((1..=200).collect(), (Some(ms(100)), Some(ms(198)))),
        ] {
            assert_eq!(percentiles(ages.into_iter().map(ms).collect()), expected);
        }
    }
}
