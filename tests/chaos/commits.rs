//! What the groups have committed, looked at several times a second from outside: of which records accepted commits spoke, and since when.

use super::{Millis, now, spoken};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(100);

/// From an attempt's end to the commit that speaks of it, at most, where commits are possible: design §4 allows a second.
pub(crate) const COMMIT_LAG: Millis = 1_000;

/// A commit that was not there when one looked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// When it was seen: it was accepted earlier.
    pub(crate) seen: Millis,
    pub(crate) offset: i64,
    /// Length of its metadata.
    pub(crate) metadata: usize,
}

/// A partition.
pub(crate) type Place = (String, i32);

/// What was seen of one partition.
#[derive(Clone, Debug, Default)]
struct OfPlace {
    changes: Vec<Change>,
    /// When a commit was first seen that speaks of each offset.
    spoken: HashMap<i64, Millis>,
    /// The last commit: its offset, what it names finished above that.
    offset: i64,
    finished: Vec<Range<i64>>,
}

impl OfPlace {
    /// Takes note of a commit. The error: it speaks of less than the one before.
    fn note(&mut self, seen: Millis, offset: i64, metadata: &str) -> Result<(), String> {
        let finished = spoken::finished(offset, metadata).ok_or_else(|| format!("the metadata of {offset} is no map: {metadata}"))?;
        let speaks = |of: i64| of < offset || finished.iter().any(|range| range.contains(&of));
        let before = self.finished.iter().cloned().flatten();
        let forgotten: Vec<i64> = before.filter(|of| !speaks(*of)).collect();
        for of in (self.offset..offset).chain(finished.iter().cloned().flatten()) {
            self.spoken.entry(of).or_insert(seen);
        }
        self.changes.push(Change { seen, offset, metadata: metadata.len() });
        (self.offset, self.finished) = (offset, finished);
        match forgotten[..] {
            [] => Ok(()),
            [first, ..] => {
                Err(format!("the commit of {offset}, seen at {seen}, speaks of {} less than before: {first}, …", forgotten.len()))
            }
        }
    }
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits {
    places: HashMap<Place, OfPlace>,
    /// Commits that may not be.
    pub(crate) wrong: Vec<String>,
}

impl Commits {
    /// When a commit was first seen that spoke of this record; none: never in the time looked at.
    pub(crate) fn spoken(&self, place: &Place, offset: i64) -> Option<Millis> {
        self.places.get(place)?.spoken.get(&offset).copied()
    }

    /// All changes of each partition, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&Place, &[Change])> {
        self.places.iter().map(|(place, of_place)| (place, &of_place.changes[..]))
    }

    fn note(&mut self, seen: Millis, place: &Place, offset: i64, metadata: &str) {
        if let Err(why) = self.places.entry(place.clone()).or_default().note(seen, offset, metadata) {
            self.wrong.push(format!("{place:?}: {why}"));
        }
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
            let Commits { places, wrong } = thread.join().unwrap();
            all.places.extend(places);
            all.wrong.extend(wrong);
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
    let mut commits = Commits::default();
    let mut known: HashMap<Place, (i64, String)> = HashMap::new();
    loop {
        let last = over.load(Ordering::Relaxed);
        // A broker that is away answers nothing: then nothing is committed either.
        if let Ok(answer) = consumer.committed_offsets(asked_for.clone(), Duration::from_secs(1)) {
            let seen = now();
            for one in answer.elements() {
                let Offset::Offset(offset) = one.offset() else { continue };
                let place = (one.topic().to_string(), one.partition());
                let is_known = known.get(&place).is_some_and(|(o, m)| *o == offset && m == one.metadata());
                if one.error().is_err() || is_known {
                    continue;
                }
                commits.note(seen, &place, offset, one.metadata());
                known.insert(place, (offset, one.metadata().to_string()));
            }
        }
        if last {
            return commits;
        }
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn a_commit_speaks_of_what_it_passed_and_of_what_its_map_names_and_never_of_less() {
    let place: Place = ("source".to_owned(), 0);
    let mut commits = Commits::default();
    commits.note(1_000, &place, 10, "1:8bKs7goBlqCr_vliCwgQEwIAAYcA");
    let spoken = [9, 10, 11, 12, 13, 19, 20].map(|offset| commits.spoken(&place, offset).is_some());
    assert_eq!(spoken, [true, false, true, false, true, true, false]);
    commits.note(2_000, &place, 20, "");
    assert_eq!((commits.spoken(&place, 19), commits.spoken(&place, 12)), (Some(1_000), Some(2_000)));
    assert_eq!(commits.wrong, Vec::<String>::new());

    let mut commits = Commits::default();
    commits.note(1_000, &place, 10, "1:8bKs7goBlqCr_vliCwgQEwIAAYcA");
    commits.note(2_000, &place, 11, "");
    let [wrong] = &commits.wrong[..] else { panic!("{:?}", commits.wrong) };
    assert!(wrong.contains("8 less than before: 11"), "{wrong}");
}
