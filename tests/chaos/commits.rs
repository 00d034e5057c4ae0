//! What the groups have committed, looked at several times a second from outside: which commits were accepted, and when at the latest.

use super::{Millis, now};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(100);

/// From an attempt's end to the commit that speaks of it, at most, where commits are possible: design §4 allows a second.
pub(crate) const COMMIT_LAG: Millis = 1_000;

/// A commit that was not there when one looked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// When the look before it was asked for: it was accepted later.
    after: Millis,
    /// What ended [`COMMIT_LAG`] before this is in it. A commit that hung while the broker was away was made up before.
    made: Millis,
    /// When it was seen: it was accepted earlier.
    pub(crate) seen: Millis,
    pub(crate) offset: i64,
    /// Length of its metadata.
    pub(crate) metadata: usize,
}

impl Change {
    /// Seen after the look asked for at `after`; `previous` is the change before it, `blind` the last time when looks had no answer for long.
    /// A replica has one commit under way at a time, so the one that hung was made up when the previous one had been accepted, no earlier.
    fn new(previous: Option<&Self>, after: Millis, seen: Millis, blind: Option<Millis>, offset: i64, metadata: usize) -> Self {
        let hung = blind.is_some_and(|ended| previous.is_none_or(|previous| ended > previous.seen));
        let made = if hung { previous.map_or(Millis::MIN, |previous| previous.after) } else { after };
        Self { after, made, seen, offset, metadata }
    }
}

/// A partition.
pub(crate) type Place = (String, i32);

/// All changes of each partition, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits(pub(crate) HashMap<Place, Vec<Change>>);

impl Commits {
    /// From when on it is certain that what ended at `ended`, at this place and offset, was committed; none: never in the time looked at.
    pub(crate) fn covered(&self, place: &Place, offset: i64, ended: Millis) -> Option<Millis> {
        let changes = self.0.get(place)?;
        // Offsets and times ascend.
        let passed = changes.partition_point(|c| c.offset <= offset).max(changes.partition_point(|c| c.seen < ended));
        let later = changes.partition_point(|c| c.made < ended + COMMIT_LAG);
        changes.get(passed.min(later)).map(|c| c.seen)
    }
}

/// Looks until told to stop.
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Commits>>,
}

impl Watch {
    /// Groups with their topics.
    pub(crate) fn start(bootstrap: &str, groups: &[(String, Vec<String>)], partitions: i32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = groups
            .iter()
            .map(|(group, topics)| {
                let (over, bootstrap, group, topics) = (Arc::clone(&over), bootstrap.to_string(), group.clone(), topics.clone());
                std::thread::spawn(move || look(&bootstrap, &group, &topics, partitions, &over))
            })
            .collect();
        Self { over, threads }
    }

    /// All that was seen; one more look is taken.
    pub(crate) fn finish(self) -> Commits {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Commits::default();
        for thread in self.threads {
            all.0.extend(thread.join().unwrap().0);
        }
        all
    }
}

fn look(bootstrap: &str, group: &str, topics: &[String], partitions: i32, over: &AtomicBool) -> Commits {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.max.ms", "500")
        .set("log_level", "2")
        .create()
        .unwrap();
    let mut asked_for = TopicPartitionList::new();
    for topic in topics {
        asked_for.add_partition_range(topic, 0, partitions - 1);
    }
    let mut commits: HashMap<Place, Vec<Change>> = HashMap::new();
    let mut known: HashMap<Place, (i64, String)> = HashMap::new();
    let mut before = now();
    let mut blind = None;
    loop {
        let last = over.load(Ordering::Relaxed);
        let asked = now();
        // A broker that is away answers nothing: then nothing is committed either.
        if let Ok(answer) = consumer.committed_offsets(asked_for.clone(), Duration::from_secs(1)) {
            let seen = now();
            if asked - before > COMMIT_LAG || seen - asked > COMMIT_LAG {
                blind = Some(seen);
            }
            for one in answer.elements() {
                let Offset::Offset(offset) = one.offset() else { continue };
                let place = (one.topic().to_string(), one.partition());
                let is_known = known.get(&place).is_some_and(|(o, m)| *o == offset && m == one.metadata());
                if one.error().is_err() || is_known {
                    continue;
                }
                let of_place = commits.entry(place.clone()).or_default();
                of_place.push(Change::new(of_place.last(), before, seen, blind, offset, one.metadata().len()));
                known.insert(place, (offset, one.metadata().to_string()));
            }
            before = asked;
        }
        if last {
            return Commits(commits);
        }
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn a_commit_that_hung_while_the_broker_was_away_does_not_speak_of_what_ended_meanwhile() {
    let place: Place = ("source".to_owned(), 0);
    let first = Change::new(None, 900, 1_000, None, 5, 40);
    let hung = Change::new(Some(&first), 7_900, 8_000, Some(7_000), 5, 44);
    let next = Change::new(Some(&hung), 8_000, 8_100, Some(7_000), 5, 48);
    let last = Change::new(Some(&next), 9_900, 10_000, Some(7_000), 5, 52);
    let commits = Commits(HashMap::from([(place.clone(), vec![first, hung, next, last])]));
    let covered = |offset, ended| commits.covered(&place, offset, ended);
    assert_eq!(covered(9, -200), Some(1_000), "it ended a second before");
    assert_eq!(covered(9, 2_000), Some(8_100), "made up after the hung one had been accepted");
    assert_eq!(covered(9, 8_000), Some(10_000));
    assert_eq!(covered(3, 950), Some(1_000), "its offset is below what was committed");
}
