//! One assigned partition: where it starts, what of it is unfinished, which heads wait for release, why it rests. A state machine
//! without IO; its class's intake thread drives it.
//!
//! ```text
//!  assigned ─► active ──────────────► revoking ─► fenced (forgotten)
//!                │  broker refuses for good
//!                └─► stopped: nothing more is read, handed out or committed beyond; only a new assignment ends it
//! ```

use super::handover::{Assignment, Ticket};
use super::mutant::{self, Mutant};
use super::ports::{Assigned, Refused, TopicPartition};
use super::settings::StartFrom;
use crate::domain::class::Class;
use crate::domain::headers;
use crate::domain::offsets::{CommitPoint, Fingerprint, MapError, Received, Tracker};
use crate::domain::record::Record;
use crate::domain::tier;
use crate::domain::time::UnixMillis;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Heads of a tier's partition held in memory before it rests (design §9, K).
pub const MAX_HEADS: usize = 64;
/// A partition that rests for its heads does so for one part in this many of its tier's delay, at most [`LONGEST_HEAD_REST`]: each rest
/// throws away what the client has prefetched, and in a busy tier one fetch is to serve many heads.
const HEAD_REST_PART: u32 = 20;
/// See [`HEAD_REST_PART`]; a record of a busy tier may be late by this much.
const LONGEST_HEAD_REST: Duration = Duration::from_millis(50);
/// A partition whose commits have failed for this long takes nothing in until one is accepted (design §10).
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// Room for heads, which are not charged to the class's budget: that is for what the engine works on. A partition rests once it holds as
/// much as it may; it may always hold one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRoom {
    /// Records.
    pub records: usize,
    /// Bytes.
    pub bytes: usize,
}

impl HeadRoom {
    /// What one of `partitions` may hold before it rests: half of an equal share, at most [`MAX_HEADS`] records. One batch more may double
    /// that.
    #[must_use]
    pub fn of_one(self, partitions: usize) -> Self {
        let share = |whole: usize| whole / (2 * partitions.max(1));
        Self { records: share(self.records).clamp(1, MAX_HEADS), bytes: share(self.bytes) }
    }
}

/// Where a partition starts, and what is to be said about it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the group's commit.
    Committed(i64),
    /// No commit: at the log's start.
    Earliest(i64),
    /// No commit, `start_from = "latest"` and a topic that the group had not begun: at the log's end when this member began.
    Latest(i64),
    /// The commit is below the log's start: records were deleted unread.
    BelowStart {
        /// The log's start.
        at: i64,
        /// How many, without those that the commit's map names finished.
        lost: u64,
    },
    /// The commit is above the log's end (topic re-created, unclean election): from the log's start.
    AboveEnd {
        /// The log's start.
        at: i64,
        /// How many records may be repeats.
        repeats: u64,
    },
}

impl Start {
    /// Decides where `assigned` starts (design §10).
    pub fn decide(assigned: &Assigned, class: Class, start_from: StartFrom) -> Self {
        let (low, high) = (assigned.low, assigned.high);
        match &assigned.committed {
            None => match (class, start_from, assigned.latest) {
                (Class::Fresh, StartFrom::Latest, Some(end)) => Self::Latest(end.clamp(low, high.max(low))),
                (Class::Fresh, StartFrom::Latest | StartFrom::Earliest, _) | (Class::Retry | Class::Replay, _, _) => Self::Earliest(low),
            },
            Some((offset, metadata)) if *offset < low => {
                let (mut tracker, _) = Tracker::resume(*offset, metadata);
                // A map of another log says nothing; `Partition::begin` tells.
                let _ = tracker.check_end(high);
                Self::BelowStart { at: low, lost: tracker.unfinished_before(low) }
            }
            Some((offset, _)) if *offset > high => Self::AboveEnd { at: low, repeats: high.abs_diff(low) },
            Some((offset, _)) => Self::Committed(*offset),
        }
    }

    /// The offset.
    #[must_use]
    pub const fn at(self) -> i64 {
        match self {
            Self::Committed(at) | Self::Earliest(at) | Self::Latest(at) | Self::BelowStart { at, .. } | Self::AboveEnd { at, .. } => at,
        }
    }
}

/// What became of a record that was read.
#[must_use]
#[derive(Debug)]
pub enum Taken {
    /// For the engine, now.
    HandOver(Ticket, Record),
    /// A head, held until its release.
    Held,
    /// Finished before, or still running, or the partition is stopped: dropped.
    Dropped,
}

/// One assigned partition.
#[derive(Debug)]
pub struct Partition {
    /// Its assignment.
    pub assignment: Arc<Assignment>,
    /// Its name for the source.
    pub name: TopicPartition,
    /// What of it is finished.
    pub tracker: Tracker,
    /// A tier's delay; `None` when records need no release.
    delay: Option<Duration>,
    heads: VecDeque<Record>,
    head_bytes: usize,
    /// It held as many heads as it may, and has not fallen to half of that since.
    full_of_heads: bool,
    /// How many heads it may hold, as told with the last record.
    room: HeadRoom,
    /// Since when it has rested for its heads (monotonic).
    head_rest: Option<Duration>,
    handed: usize,
    /// Settled since the last commit that was accepted, and how many of them the last commit point covers: what may be repeated
    /// should the assignment be lost now.
    uncommitted: u64,
    offered: u64,
    stopped: Option<Refused>,
    /// Since when its commits have failed; `None` after one was accepted.
    commits_fail_since: Option<Duration>,
    paused: bool,
}

impl Partition {
    /// Begins an assignment at `start`. A map that cannot be used is discarded and returned as the second value.
    pub fn begin(assigned: &Assigned, class: Class, start: Start, prefix: &str) -> (Self, Option<MapError>) {
        let (tracker, fault) = match (&assigned.committed, start) {
            (Some((offset, metadata)), Start::Committed(_) | Start::BelowStart { .. }) => {
                let (mut tracker, fault) = Tracker::resume(*offset, metadata);
                let fault = fault.or_else(|| tracker.check_end(assigned.high));
                tracker.seen(start.at());
                (tracker, fault)
            }
            (
                _,
                Start::Committed(at) | Start::Earliest(at) | Start::Latest(at) | Start::BelowStart { at, .. } | Start::AboveEnd { at, .. },
            ) => (Tracker::start(at), None),
        };
        let name = assigned.partition.clone();
        let delay = match class {
            Class::Retry => Some(tier::delay_of_topic(prefix, &name.topic).unwrap_or(Duration::ZERO)),
            Class::Fresh | Class::Replay => None,
        };
        let assignment = Assignment::new(class, Arc::clone(&name.topic), name.partition);
        let heads = VecDeque::new();
        (
            Self {
                assignment,
                name,
                tracker,
                delay,
                heads,
                head_bytes: 0,
                full_of_heads: false,
                room: HeadRoom { records: 0, bytes: 0 },
                head_rest: None,
                handed: 0,
                uncommitted: 0,
                offered: 0,
                stopped: None,
                commits_fail_since: None,
                paused: false,
            },
            fault,
        )
    }

    fn ticket(&mut self, record: &Record) -> Ticket {
        self.handed += 1;
        if mutant::active(Mutant::CommitEarly) {
            self.tracker.finished(record.position.offset);
        }
        Ticket { assignment: Arc::clone(&self.assignment), offset: record.position.offset, cost: record.cost() }
    }

    /// Takes a record that was read. The second value: the resumed map proved wrong and was discarded.
    pub fn take(&mut self, record: Record, broker_now: UnixMillis, room: HeadRoom) -> (Taken, Option<MapError>) {
        if self.stopped.is_some() {
            return (Taken::Dropped, None);
        }
        let length = record.value.as_ref().map_or(0, |v| u32::try_from(v.len()).unwrap_or(u32::MAX));
        let mut print = Fingerprint { timestamp: record.timestamp, length };
        if mutant::active(Mutant::MapAppliedToRecreatedTopic) {
            print = Fingerprint { timestamp: UnixMillis(0), length: 0 };
        }
        if mutant::active(Mutant::ContiguityIsOffsetPlusOne) {
            let _ = self.tracker.received(record.position.offset - 1, print);
        }
        let (received, fault) = self.tracker.received(record.position.offset, print);
        let taken = match received {
            Received::AlreadyFinished | Received::Duplicate => Taken::Dropped,
            Received::New => match self.delay {
                Some(delay) if tier::release(record.timestamp, delay) > broker_now || !self.heads.is_empty() => {
                    self.head_bytes += record.cost();
                    self.heads.push_back(record);
                    self.room = room;
                    self.full_of_heads |= self.heads.len() >= room.records || self.head_bytes >= room.bytes;
                    Taken::Held
                }
                Some(_) | None => Taken::HandOver(self.ticket(&record), record),
            },
        };
        (taken, fault)
    }

    /// The next head whose time has come.
    pub fn release(&mut self, broker_now: UnixMillis) -> Option<(Ticket, Record)> {
        if self.next_release()? > broker_now {
            return None;
        }
        let record = self.heads.pop_front()?;
        self.head_bytes -= record.cost();
        self.full_of_heads &= self.heads.len() * 2 > self.room.records || self.head_bytes * 2 > self.room.bytes;
        Some((self.ticket(&record), record))
    }

    /// When the next head is due.
    #[must_use]
    pub fn next_release(&self) -> Option<UnixMillis> {
        let head = self.heads.front()?;
        if mutant::active(Mutant::ReleaseByHeader) {
            return headers::find(head, headers::name::DUE_MS).and_then(|due| std::str::from_utf8(due).ok()?.parse().ok()).map(UnixMillis);
        }
        Some(tier::release(head.timestamp, self.delay?))
    }

    /// A record came back settled.
    pub fn settled(&mut self, offset: i64) {
        self.handed = self.handed.saturating_sub(1);
        self.uncommitted += 1;
        self.tracker.finished(offset);
    }

    /// What to commit now.
    pub fn commit_point(&mut self) -> CommitPoint {
        self.offered = self.uncommitted;
        self.tracker.commit_point()
    }

    /// The broker accepted the last [`Self::commit_point`].
    pub fn committed(&mut self, point: &CommitPoint) {
        self.uncommitted -= std::mem::take(&mut self.offered);
        self.commits_fail_since = None;
        self.tracker.committed(point);
    }

    /// A commit of it was refused, or there is no answer to one.
    pub fn commit_fails(&mut self, now: Duration) {
        self.commits_fail_since.get_or_insert(now);
    }

    /// Whether its commits have failed for [`COMMIT_PATIENCE`].
    #[must_use]
    pub fn lacks_commits(&self, now: Duration) -> bool {
        self.commits_fail_since.is_some_and(|since| now.saturating_sub(since) >= COMMIT_PATIENCE)
    }

    /// Records settled that no accepted commit covers.
    #[must_use]
    pub const fn uncommitted(&self) -> u64 {
        self.uncommitted
    }

    /// A record came back unsettled: it stays unfinished.
    pub const fn unsettled(&mut self) {
        self.handed = self.handed.saturating_sub(1);
    }

    /// The broker refused a record of it for good: it stops.
    pub fn refused(&mut self, refused: Refused) {
        self.handed = self.handed.saturating_sub(1);
        self.stopped.get_or_insert(refused);
        self.drop_heads();
    }

    /// Whether it is stopped.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Drops the heads; they stay unfinished.
    pub fn drop_heads(&mut self) {
        self.heads.clear();
        self.head_bytes = 0;
    }

    /// The log begins at `at` now, above what was read: reading goes on there. The source starts it anew, so it is not paused.
    pub fn skip_to(&mut self, at: i64) {
        self.tracker.seen(at);
        self.paused = false;
    }

    /// Records with the engine.
    #[must_use]
    pub const fn handed(&self) -> usize {
        self.handed
    }

    /// Tells the tracker the source's position, unless records were dropped unseen.
    pub fn seen(&mut self, position: i64) {
        if self.stopped.is_none() {
            self.tracker.seen(position);
        }
    }

    /// Whether it should rest (its own reasons or the class's), and whether that is a change to tell the source.
    #[must_use]
    pub fn rest(&mut self, class_rests: bool, now: Duration) -> Option<bool> {
        if self.full_of_heads {
            self.head_rest.get_or_insert(now);
        } else if self.head_rest_ends().is_some_and(|end| end <= now) {
            self.head_rest = None;
        }
        let own = self.head_rest.is_some() || self.stopped.is_some() || self.tracker.must_rest() || self.lacks_commits(now);
        let rest = class_rests || own;
        let change = rest != self.paused;
        self.paused = rest;
        change.then_some(rest)
    }

    /// When its rest for heads is over (monotonic); `None` without one, and while it holds too many heads.
    #[must_use]
    pub fn head_rest_ends(&self) -> Option<Duration> {
        let rest = (self.delay.unwrap_or_default() / HEAD_REST_PART).min(LONGEST_HEAD_REST);
        self.head_rest.filter(|_| !self.full_of_heads).map(|since| since + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Position;

    const NOW: Duration = Duration::from_secs(100);
    const ROOM: HeadRoom = HeadRoom { records: MAX_HEADS, bytes: 1 << 20 };

    fn assigned(topic: &str, committed: Option<(i64, &str)>, latest: Option<i64>, low: i64, high: i64) -> Assigned {
        Assigned {
            partition: TopicPartition { topic: topic.into(), partition: 0 },
            committed: committed.map(|(o, m)| (o, m.to_owned())),
            latest,
            low,
            high,
        }
    }

    fn record(topic: &str, offset: i64, timestamp: i64) -> Record {
        Record {
            position: Position { topic: topic.into(), partition: 0, offset },
            timestamp: UnixMillis(timestamp),
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn where_a_partition_starts_is_decided_by_us() {
        use Class::{Fresh, Retry};
        use StartFrom::{Earliest, Latest};
        for (committed, latest, class, from, expected) in [
            (None, Some(90), Fresh, Earliest, Start::Earliest(10)),
            (None, Some(90), Fresh, Latest, Start::Latest(90)),
            (None, Some(70), Fresh, Latest, Start::Latest(70)),
            (None, Some(7), Fresh, Latest, Start::Latest(10)),
            (None, Some(99), Fresh, Latest, Start::Latest(90)),
            (None, None, Fresh, Latest, Start::Earliest(10)),
            (None, Some(90), Retry, Latest, Start::Earliest(10)),
            (Some((50, "")), Some(90), Fresh, Latest, Start::Committed(50)),
            (Some((90, "")), None, Fresh, Earliest, Start::Committed(90)),
            (Some((4, "")), None, Fresh, Earliest, Start::BelowStart { at: 10, lost: 6 }),
            (Some((91, "")), None, Retry, Earliest, Start::AboveEnd { at: 10, repeats: 80 }),
        ] {
            assert_eq!(
                Start::decide(&assigned("t", committed, latest, 10, 90), class, from),
                expected,
                "{committed:?} {latest:?} {class} {from:?}"
            );
        }
    }

    #[test]
    fn what_the_map_names_finished_below_the_logs_start_is_not_lost() {
        let mut tracker = Tracker::start(4);
        for offset in 4..12 {
            let _ = tracker.received(offset, Fingerprint { timestamp: UnixMillis(offset), length: 1 });
        }
        [5, 6, 11].into_iter().for_each(|offset| tracker.finished(offset));
        let CommitPoint { offset, metadata } = tracker.commit_point();
        let start = |high| Start::decide(&assigned("t", Some((offset, &metadata)), None, 10, high), Class::Fresh, StartFrom::Earliest);
        assert_eq!(start(90), Start::BelowStart { at: 10, lost: 4 }, "4, 7, 8 and 9");
        assert_eq!(start(11), Start::BelowStart { at: 10, lost: 6 }, "the map is of another log");
    }

    #[test]
    fn a_head_is_released_at_append_time_plus_the_delay_in_the_topics_name_and_nothing_else() {
        let topic = "callbackd.retry.5s";
        let (mut partition, fault) = Partition::begin(&assigned(topic, None, None, 0, 2), Class::Retry, Start::Earliest(0), "callbackd");
        assert_eq!(fault, None);
        assert!(matches!(partition.take(record(topic, 0, 1_000), UnixMillis(1_000), ROOM).0, Taken::Held));
        assert!(matches!(partition.take(record(topic, 1, 1_500), UnixMillis(1_500), ROOM).0, Taken::Held));
        assert!(partition.release(UnixMillis(5_999)).is_none());
        assert_eq!(partition.release(UnixMillis(6_000)).map(|(t, _)| t.offset), Some(0));
        assert_eq!(partition.next_release(), Some(UnixMillis(6_500)));
        assert!(matches!(partition.take(record(topic, 2, 1_600), UnixMillis(99_000), ROOM).0, Taken::Held), "behind the heads, in order");
    }

    #[test]
    fn a_partition_with_too_many_heads_rests_until_half_are_released_and_a_part_of_its_delay_is_over() {
        let topic = "callbackd.retry.1s";
        let (mut partition, _) = Partition::begin(&assigned(topic, None, None, 0, 200), Class::Retry, Start::Earliest(0), "callbackd");
        for offset in 0..64 {
            assert_eq!(partition.rest(false, NOW), None);
            let _ = partition.take(record(topic, offset, 1_000 + offset), UnixMillis(1_000), ROOM);
        }
        assert_eq!(partition.rest(false, NOW), Some(true));
        assert!(partition.release(UnixMillis(1_999)).is_none());
        let part = Duration::from_millis(50);
        for due in 2_000..2_032 {
            assert_eq!((partition.rest(false, NOW + part), partition.head_rest_ends()), (None, None), "{due}: more than half are left");
            assert!(partition.release(UnixMillis(due)).is_some());
        }
        assert_eq!(partition.rest(false, NOW + part), Some(false));
    }

    #[test]
    fn a_rest_for_heads_is_not_over_at_once_when_the_first_is_due_at_once() {
        let topic = "callbackd.retry.1m";
        let (mut partition, _) = Partition::begin(&assigned(topic, None, None, 0, 200), Class::Retry, Start::Earliest(0), "callbackd");
        for offset in 0..64 {
            let _ = partition.take(record(topic, offset, 1_000), UnixMillis(60_999), ROOM);
        }
        assert_eq!(partition.rest(false, NOW), Some(true));
        while partition.release(UnixMillis(61_000)).is_some() {}
        let end = NOW + LONGEST_HEAD_REST;
        assert_eq!(partition.rest(false, end - Duration::from_millis(1)), None);
        assert_eq!(partition.head_rest_ends(), Some(end));
        assert_eq!(partition.rest(false, end), Some(false));
    }

    #[test]
    fn what_was_settled_after_the_last_accepted_commit_point_may_be_repeated() {
        let (mut partition, _) = Partition::begin(&assigned("t", None, None, 0, 9), Class::Fresh, Start::Earliest(0), "callbackd");
        for offset in 0..5 {
            let _ = partition.take(record("t", offset, 0), UnixMillis(0), ROOM);
        }
        partition.settled(0);
        partition.settled(1);
        let point = partition.commit_point();
        partition.settled(2);
        assert_eq!(partition.uncommitted(), 3, "a commit under way may still be refused");
        partition.committed(&point);
        assert_eq!(partition.uncommitted(), 1, "settled after the point was made");
        let refused = partition.commit_point();
        assert_eq!(refused.offset, 3);
        partition.settled(3);
        let point = partition.commit_point();
        partition.committed(&point);
        assert_eq!(partition.uncommitted(), 0);
    }

    #[test]
    fn a_refused_record_stops_its_partition_and_is_never_committed_past() {
        let (mut partition, _) = Partition::begin(&assigned("t", None, None, 0, 9), Class::Fresh, Start::Earliest(0), "callbackd");
        for offset in 0..3 {
            assert!(matches!(partition.take(record("t", offset, 0), UnixMillis(0), ROOM).0, Taken::HandOver(..)));
        }
        partition.settled(0);
        partition.refused(Refused { topic: "d".into(), cause: "too large".into() });
        partition.settled(2);
        assert!(partition.is_stopped());
        assert!(matches!(partition.take(record("t", 3, 0), UnixMillis(0), ROOM).0, Taken::Dropped));
        partition.seen(4);
        assert_eq!(partition.tracker.commit_point().offset, 1);
        assert_eq!((partition.rest(false, NOW), partition.handed()), (Some(true), 0));
    }
}
