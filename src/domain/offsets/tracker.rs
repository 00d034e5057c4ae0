//! The tracker of one assigned partition.
//!
//! Shape: a window of the records received and not yet behind the commit, in order; finished ones are popped off its front,
//! and dropped from its middle when they outnumber the rest (only the first of each finished run stays, for its
//! fingerprint). So memory follows what is unfinished, not how far it is spread, and both [`Tracker::received`] and
//! [`Tracker::finished`] cost a push or a binary search. An ordered set was refused: slower per record, and it does not know
//! the first finished record behind an unfinished one.
//!
//! Invariants:
//! - offsets in the window ascend; every record received above the commit point is in it, or is finished and stands behind
//!   another finished one;
//! - what is not in the window as unfinished, and below the position, is finished: gaps are;
//! - while a resumed map reaches beyond the records received, some finished record whose fingerprint is known stands at or
//!   above the commit point, so the rest of the map can be committed again: the commit then lags by one finished record;
//! - a commit point never lies below the last accepted one, nor above the position.

use std::collections::VecDeque;

use super::map::{Map, Mark, room};
use super::{CommitPoint, Fingerprint, MAX_BATCH, MAX_METADATA, MapError, Received, runs};

/// Characters of metadata from which a partition rests (design §10).
const REST_AT: u64 = 2_500;

/// Offsets from one record to the next, on average over a batch, for which [`Tracker::must_rest`] reserves room.
const STRIDE: u64 = 4;

/// Entries that may stay without looking whether finished ones can be dropped.
const SLACK: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: i64,
    print: Fingerprint,
    finished: bool,
}

/// The part of a resumed map whose records were not read again yet.
#[derive(Clone, Debug)]
struct Ahead {
    map: Map,
    /// Whether the first finished record was read and is the one in the map.
    vouched: bool,
    /// Index of the first range in the map that ends above what was received.
    cursor: usize,
    /// How many offsets of the map were unfinished when it was resumed: an upper bound of those that still are.
    unfinished: u64,
}

/// What is finished in one partition, from its assignment to its loss.
#[derive(Clone, Debug)]
pub struct Tracker {
    window: VecDeque<Entry>,
    /// Unfinished entries of the window.
    unfinished: usize,
    /// The offset after the highest received.
    next: i64,
    /// The consumer's position, at least `next`.
    position: i64,
    /// The highest finished record.
    top: Option<Mark>,
    ahead: Option<Ahead>,
    /// Why `seen` had to discard a map; the next `received` returns it.
    untold: Option<MapError>,
    /// Finished offsets of a discarded map that were still to be read.
    discarded: u64,
    /// What the broker accepted last.
    accepted: Option<CommitPoint>,
    /// Whether anything happened since the last accepted commit point was made.
    touched: bool,
}

impl Tracker {
    /// A partition without a map, read from `at` on. Dirty until that is committed.
    #[must_use]
    pub const fn start(at: i64) -> Self {
        Self {
            window: VecDeque::new(),
            unfinished: 0,
            next: at,
            position: at,
            top: None,
            ahead: None,
            untold: None,
            discarded: 0,
            accepted: None,
            touched: true,
        }
    }

    /// A partition resumed from a commit. A map that cannot be used is discarded, and the reason returned (log it loudly); empty metadata
    /// is no map.
    #[must_use]
    pub fn resume(committed: i64, metadata: &str) -> (Self, Option<MapError>) {
        let mut tracker = Self::start(committed);
        tracker.accepted = Some(CommitPoint { offset: committed, metadata: metadata.to_owned() });
        if metadata.is_empty() {
            return (tracker, None);
        }
        match Map::decode(metadata, committed) {
            Ok(map) => {
                let unfinished = map.unfinished();
                tracker.ahead = Some(Ahead { map, vouched: false, cursor: 0, unfinished });
                (tracker, None)
            }
            Err(error) => (tracker, Some(error)),
        }
    }

    /// Discards a resumed map that knows records beyond `log_end` (the offset the next record will get), and returns that as the reason.
    pub fn check_end(&mut self, log_end: i64) -> Option<MapError> {
        let last = self.ahead.as_ref()?.map.last.offset;
        (last >= log_end).then(|| {
            self.discard(self.position);
            MapError::BeyondEnd { last, log_end }
        })
    }

    /// How many offsets from the commit to `offset` a resumed map does not name finished. For a tracker that has received nothing yet.
    #[must_use]
    pub fn unfinished_before(&self, offset: i64) -> u64 {
        let finished = self.ahead.iter().flat_map(|ahead| &ahead.map.finished);
        let before: u64 = finished.map(|range| range.start.abs_diff(range.end.min(offset).max(range.start))).sum();
        self.position.abs_diff(offset).saturating_sub(before)
    }

    /// How many offsets that will be read again were named finished by maps discarded since the last call. A map that could not be read
    /// counts nothing.
    pub const fn take_discarded(&mut self) -> u64 {
        std::mem::replace(&mut self.discarded, 0)
    }

    /// A record was read. Records come in ascending order; offsets left out between two of them are finished (design §10).
    /// The error says, once, why the rest of the resumed map was discarded.
    pub fn received(&mut self, offset: i64, print: Fingerprint) -> (Received, Option<MapError>) {
        let untold = self.untold.take();
        if offset < self.next {
            let running = self.find(offset).is_some_and(|at| !self.window[at].finished);
            return (if running { Received::Duplicate } else { Received::AlreadyFinished }, untold);
        }
        let (finished, error) = self.ask_map(Mark { offset, print });
        self.touched = true;
        self.next = offset.saturating_add(1);
        self.position = self.position.max(self.next);
        self.window.push_back(Entry { offset, print, finished });
        if finished {
            self.top = Some(Mark { offset, print });
        } else {
            self.unfinished += 1;
        }
        if error.is_some() {
            self.discard(offset);
        } else if self.ahead.as_ref().is_some_and(|ahead| ahead.map.last.offset < self.next) {
            self.ahead = None;
        }
        self.tidy();
        (if finished { Received::AlreadyFinished } else { Received::New }, untold.or(error))
    }

    /// Whether the resumed map says that this record is finished; the error: it is not the record that the map means.
    fn ask_map(&mut self, record: Mark) -> (bool, Option<MapError>) {
        let Some(ahead) = &mut self.ahead else { return (false, None) };
        let Ahead { map, vouched, cursor, .. } = ahead;
        while map.finished.get(*cursor).is_some_and(|range| range.end <= record.offset) {
            *cursor += 1;
        }
        let finished = map.finished.get(*cursor).is_some_and(|range| range.start <= record.offset);
        let mismatch = |offset| (false, Some(MapError::Mismatch { offset }));
        if !*vouched && (record.offset > map.first.offset || finished && record != map.first) {
            return mismatch(map.first.offset);
        }
        if record.offset > map.last.offset || record.offset == map.last.offset && record != map.last {
            return mismatch(map.last.offset);
        }
        *vouched |= finished;
        (finished, None)
    }

    /// The record's settlement is durable. A second call for it, or one for an offset that was never received, changes nothing.
    pub fn finished(&mut self, offset: i64) {
        let Some(at) = self.find(offset) else { return };
        let entry = &mut self.window[at];
        if entry.finished {
            return;
        }
        entry.finished = true;
        let print = entry.print;
        self.unfinished -= 1;
        self.touched = true;
        if self.top.is_none_or(|top| top.offset < offset) {
            self.top = Some(Mark { offset, print });
        }
        self.tidy();
    }

    /// The consumer's position: the offset it reads next, past transaction markers and whatever else nobody receives.
    /// Tell it after the records before it; a lower one than before changes nothing.
    pub fn seen(&mut self, position: i64) {
        if position <= self.position {
            return;
        }
        self.position = position;
        self.touched = true;
        if let Some(Ahead { map, vouched, .. }) = &self.ahead {
            let missed = if *vouched { map.last.offset } else { map.first.offset };
            if missed < position {
                self.untold = Some(MapError::Mismatch { offset: missed });
                self.discard(position);
            }
        }
    }

    /// What to commit now. Costs a pass over the window: for a few times a second.
    #[must_use]
    pub fn commit_point(&self) -> CommitPoint {
        let offset = self.base();
        let mut metadata = self.map(offset, i64::MAX).map_or_else(String::new, |map| map.encode());
        // The last resort where `must_rest` was not honoured or gaps were extreme: vouch for less, which costs repeats only.
        let mut reach = offset.abs_diff(self.next);
        while metadata.len() > MAX_METADATA {
            reach /= 2;
            metadata = self.map(offset, offset.saturating_add_unsigned(reach)).map_or_else(String::new, |map| map.encode());
        }
        CommitPoint { offset, metadata }
    }

    /// The broker accepted `point`, which [`Tracker::commit_point`] gave.
    pub fn committed(&mut self, point: &CommitPoint) {
        if self.accepted.as_ref().is_some_and(|accepted| accepted.offset > point.offset) {
            return;
        }
        self.accepted = Some(point.clone());
        self.touched = self.commit_point() != *point;
    }

    /// Whether there is something to commit: a commit point other than the last accepted, also the start of a first assignment.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.touched && self.accepted.as_ref() != Some(&self.commit_point())
    }

    /// Records received and not finished.
    #[must_use]
    pub const fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Offsets from the lowest unfinished to the position; 0 when nothing is unfinished.
    #[must_use]
    pub fn unfinished_span(&self) -> u64 {
        self.lowest_unfinished().map_or(0, |lowest| lowest.abs_diff(self.position))
    }

    /// The lowest offset received and not finished.
    #[must_use]
    pub fn lowest_unfinished(&self) -> Option<i64> {
        // Behind a finished front (a resumed map is being read) no second finished entry follows: one step.
        self.window.iter().find(|entry| !entry.finished).map(|entry| entry.offset)
    }

    /// Whether the partition must take nothing in for now: a map of what is unfinished could pass 2,500 characters, whichever
    /// of it finishes first.
    ///
    /// 2,500 characters hold 14,432 bits of runs, 3,000 hold 17,432 (`map::room`); `runs::bound` says what U unfinished
    /// records over S offsets can need at worst. True when that exceeds 14,432, or when it would exceed 17,432 with
    /// [`MAX_BATCH`] records more, spread over four offsets each. So what is at hand when it turns true still fits into
    /// [`MAX_METADATA`]; where gaps are wider than that *and* everything finishes in the worst order,
    /// [`Tracker::commit_point`] vouches for less instead of exceeding it. Dense, it turns true at about 10,490 offsets.
    ///
    /// Always false while nothing is unfinished. Otherwise a partition that resumed with a long map would never read again; what it reads
    /// is in that map already.
    #[must_use]
    pub fn must_rest(&self) -> bool {
        const MORE: u64 = MAX_BATCH as u64;
        if self.unfinished == 0 {
            return false;
        }
        // While a map is read again, what is unfinished is among what was unfinished in it.
        let (unfinished, end) = match &self.ahead {
            Some(ahead) => (ahead.unfinished, self.next.max(ahead.map.last.offset.saturating_add(1))),
            None => (self.unfinished as u64, self.next),
        };
        let span = self.base().abs_diff(end);
        runs::bound(unfinished, span) > room(REST_AT)
            || runs::bound(unfinished.saturating_add(MORE), span.saturating_add(MORE * STRIDE)) > room(MAX_METADATA as u64)
    }

    /// The offset to commit.
    fn base(&self) -> i64 {
        let base = self.window.front().map_or(self.position, |entry| entry.offset);
        self.accepted.as_ref().map_or(base, |accepted| accepted.offset.max(base))
    }

    /// The map for a commit at `base`, of the finished records below `limit`; the unread rest of a resumed map is in it only without a
    /// limit (`i64::MAX`).
    fn map(&self, base: i64, limit: i64) -> Option<Map> {
        let entries = || self.window.iter().filter(move |entry| entry.offset >= base);
        let ahead = self.ahead.as_ref().filter(|_| limit == i64::MAX);
        let known = || entries().filter(|entry| entry.finished && entry.offset < limit).map(|e| Mark { offset: e.offset, print: e.print });
        let first = known().next().or_else(|| ahead.filter(|ahead| !ahead.vouched).map(|ahead| ahead.map.first))?;
        let last = match ahead {
            Some(ahead) => ahead.map.last,
            // Entries behind the first of a finished run may have been dropped, the highest finished among them.
            None if limit == i64::MAX => self.top?,
            None => known().next_back()?,
        };

        let mut finished: Vec<std::ops::Range<i64>> = Vec::new();
        let mut at = base;
        for entry in entries().filter(|entry| !entry.finished).take_while(|entry| entry.offset < last.offset) {
            if at < entry.offset {
                finished.push(at..entry.offset);
            }
            at = entry.offset + 1;
        }
        match ahead {
            Some(ahead) => {
                // Received, or passed by: finished where it is not in the window.
                if at < self.position {
                    finished.push(at..self.position);
                }
                for range in ahead.map.finished[ahead.cursor..].iter().filter(|range| range.end > self.position) {
                    let start = range.start.max(self.position);
                    match finished.last_mut() {
                        Some(before) if before.end == start => before.end = range.end,
                        Some(_) | None => finished.push(start..range.end),
                    }
                }
            }
            None => finished.push(at..last.offset + 1),
        }
        Some(Map { base, first, last, finished })
    }

    /// The index of a received record in the window.
    fn find(&self, offset: i64) -> Option<usize> {
        let front = self.window.front()?.offset;
        // Offsets ascend, so an entry stands no further back than its distance; without gaps, exactly there.
        let furthest = usize::try_from(offset.checked_sub(front)?).ok()?.min(self.window.len() - 1);
        if self.window[furthest].offset == offset {
            return Some(furthest);
        }
        self.window.binary_search_by_key(&offset, |entry| entry.offset).ok()
    }

    /// Forgets the rest of the resumed map: what it named finished from `from` on is handled again.
    fn discard(&mut self, from: i64) {
        if let Some(ahead) = self.ahead.take() {
            let unread = ahead.map.finished.iter().map(|range| range.start.max(from)..range.end);
            self.discarded += unread.filter(|range| !range.is_empty()).map(|range| range.start.abs_diff(range.end)).sum::<u64>();
        }
        self.touched = true;
        self.tidy();
    }

    /// Drops entries of the window that are not needed any more.
    fn tidy(&mut self) {
        let anchored = self.ahead.as_ref().is_some_and(|ahead| ahead.vouched);
        while self.window.front().is_some_and(|front| front.finished)
            && (!anchored || self.window.get(1).is_some_and(|second| second.finished))
        {
            self.window.pop_front();
        }
        // At most 2 · unfinished + 1 stay, so as many records came or finished since the last time: constant per record.
        if self.window.len() > SLACK + 4 * self.unfinished {
            let mut behind_finished = false;
            self.window.retain(|entry| {
                let keep = !(entry.finished && behind_finished);
                behind_finished = entry.finished;
                keep
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::UnixMillis;
    use super::*;

    fn print(offset: i64) -> Fingerprint {
        Fingerprint { timestamp: UnixMillis(1_700_000_000_000 + offset * 7), length: u32::try_from(offset % 900).unwrap() }
    }

    fn read(tracker: &mut Tracker, offsets: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut new = Vec::new();
        for offset in offsets {
            let (received, error) = tracker.received(offset, print(offset));
            assert_eq!(error, None, "at {offset}");
            if received == Received::New {
                new.push(offset);
            }
        }
        new
    }

    fn finish(tracker: &mut Tracker, offsets: impl IntoIterator<Item = i64>) {
        offsets.into_iter().for_each(|offset| tracker.finished(offset));
    }

    /// A tracker that resumes from this one's commit point.
    fn crash(tracker: &Tracker) -> Tracker {
        let point = tracker.commit_point();
        let (tracker, error) = Tracker::resume(point.offset, &point.metadata);
        assert_eq!(error, None);
        tracker
    }

    #[test]
    fn what_a_discarded_map_named_finished_and_comes_again_is_counted_once() {
        let mut before = Tracker::start(0);
        assert_eq!(read(&mut before, 0..12).len(), 12);
        finish(&mut before, [2, 3, 7, 8, 9]);
        let mut cut = crash(&before);
        assert!(cut.check_end(9).is_some());
        assert_eq!((cut.take_discarded(), cut.take_discarded()), (5, 0));
        let mut other = crash(&before);
        assert_eq!(read(&mut other, 0..8), [0, 1, 4, 5, 6]);
        assert!(other.received(9, print(8)).1.is_some(), "another record than the map's");
        assert_eq!(other.take_discarded(), 1, "it, and not 8, which nobody receives any more");
        let mut missed = crash(&before);
        missed.seen(8);
        assert_eq!(missed.take_discarded(), 2);
    }

    #[test]
    fn a_fresh_start_is_dirty_until_its_position_is_committed() {
        let mut tracker = Tracker::start(7);
        assert!(tracker.is_dirty());
        let point = tracker.commit_point();
        assert_eq!(point, CommitPoint { offset: 7, metadata: String::new() });
        tracker.committed(&point);
        assert!(!tracker.is_dirty());
        assert!(!Tracker::resume(7, "").0.is_dirty());
    }

    #[test]
    fn the_commit_point_follows_the_lowest_unfinished_record() {
        let mut tracker = Tracker::start(0);
        assert_eq!(read(&mut tracker, 0..5), [0, 1, 2, 3, 4]);
        #[rustfmt::skip]
        let table = [(2, 0, true), (0, 1, true), (1, 3, false), (4, 3, true), (3, 5, false), (3, 5, false), (77, 5, false)];
        for (finished, offset, has_map) in table {
            tracker.finished(finished);
            let point = tracker.commit_point();
            assert_eq!((point.offset, !point.metadata.is_empty()), (offset, has_map), "after {finished}");
        }
        assert_eq!((tracker.unfinished(), tracker.lowest_unfinished(), tracker.unfinished_span()), (0, None, 0));
    }

    #[test]
    fn offsets_that_nobody_receives_do_not_hold_the_commit() {
        let mut tracker = Tracker::start(0);
        let _ = read(&mut tracker, [3, 4, 9, 20]);
        assert_eq!(tracker.commit_point().offset, 3);
        finish(&mut tracker, [3, 4]);
        assert_eq!(tracker.commit_point().offset, 9);
        finish(&mut tracker, [9, 20]);
        assert_eq!(tracker.commit_point().offset, 21);
        tracker.seen(23);
        tracker.seen(22);
        assert_eq!(tracker.commit_point(), CommitPoint { offset: 23, metadata: String::new() });
        assert!(tracker.is_dirty());
    }

    #[test]
    fn the_position_does_not_pass_what_is_unfinished() {
        let mut tracker = Tracker::start(0);
        let _ = read(&mut tracker, [0, 1]);
        tracker.seen(10);
        finish(&mut tracker, [1]);
        assert_eq!((tracker.commit_point().offset, tracker.unfinished_span()), (0, 10));
    }

    #[test]
    fn a_record_told_twice_is_a_duplicate_while_it_runs() {
        let mut tracker = Tracker::start(5);
        let _ = read(&mut tracker, [5, 8]);
        assert_eq!(tracker.received(5, print(5)), (Received::Duplicate, None));
        tracker.finished(5);
        #[rustfmt::skip]
        let table = [(4, Received::AlreadyFinished), (5, Received::AlreadyFinished), (6, Received::AlreadyFinished), (8, Received::Duplicate), (9, Received::New)];
        for (offset, expected) in table {
            assert_eq!(tracker.received(offset, print(offset)), (expected, None), "{offset}");
        }
    }

    #[test]
    fn a_position_told_before_its_records_loses_none() {
        let mut tracker = Tracker::start(0);
        tracker.seen(10);
        assert_eq!(read(&mut tracker, [4, 6]), [4, 6]);
        assert_eq!(tracker.commit_point().offset, 4);
        tracker.finished(4);
        assert_eq!(tracker.commit_point().offset, 6);
        // Nor does a commit that was accepted too early ever go backwards.
        let mut early = Tracker::start(0);
        early.seen(10);
        early.committed(&early.commit_point());
        assert_eq!(read(&mut early, [4, 6]), [4, 6]);
        early.finished(6);
        assert_eq!(early.commit_point(), CommitPoint { offset: 10, metadata: String::new() });
    }

    #[test]
    fn after_a_resume_only_the_unfinished_are_new() {
        let mut tracker = Tracker::start(100);
        let _ = read(&mut tracker, 100..120);
        finish(&mut tracker, [101, 103, 104, 110]);
        let mut tracker = crash(&tracker);
        assert!(!tracker.is_dirty());
        assert_eq!(read(&mut tracker, 100..112), [100, 102, 105, 106, 107, 108, 109, 111]);
    }

    #[test]
    fn a_second_crash_in_the_middle_of_reading_forgets_nothing() {
        let mut tracker = Tracker::start(0);
        let _ = read(&mut tracker, 0..30);
        finish(&mut tracker, [1, 2, 3, 10, 11, 20]);
        for stop in 1..25 {
            let mut again = crash(&tracker);
            let new = read(&mut again, 0..stop);
            finish(&mut again, new);
            let mut third = crash(&again);
            let base = again.commit_point().offset;
            assert!(base <= stop && base >= stop - 9, "{base} at {stop}");
            let expected: Vec<i64> = (stop..30).filter(|offset| ![1, 2, 3, 10, 11, 20].contains(offset)).collect();
            assert_eq!(read(&mut third, base..30), expected, "stopped at {stop}");
        }
    }

    #[test]
    fn another_record_in_the_place_of_a_finished_one_discards_the_map() {
        let mut tracker = Tracker::start(0);
        let _ = read(&mut tracker, 0..10);
        finish(&mut tracker, [2, 3, 8]);
        let other = Fingerprint { timestamp: UnixMillis(1), length: 1 };
        let tell = |tracker: &mut Tracker, offset, print| tracker.received(offset, print);
        let mismatch = |offset| (Received::New, Some(MapError::Mismatch { offset }));

        let mut first = crash(&tracker);
        assert_eq!(read(&mut first, 0..2), [0, 1]);
        assert_eq!(tell(&mut first, 2, other), mismatch(2));
        assert_eq!(read(&mut first, 3..10), [3, 4, 5, 6, 7, 8, 9]);

        let mut missing = crash(&tracker);
        assert_eq!(tell(&mut missing, 3, print(3)), mismatch(2));

        let mut last = crash(&tracker);
        assert_eq!(read(&mut last, 0..8), [0, 1, 4, 5, 6, 7]);
        assert_eq!(tell(&mut last, 8, Fingerprint { length: 9, ..print(8) }), mismatch(8));

        let mut last_missing = crash(&tracker);
        assert_eq!(read(&mut last_missing, 0..8), [0, 1, 4, 5, 6, 7]);
        assert_eq!(tell(&mut last_missing, 9, print(9)), mismatch(8));

        let mut passed = crash(&tracker);
        passed.seen(5);
        assert_eq!(tell(&mut passed, 5, print(5)), mismatch(2));
        assert_eq!(read(&mut passed, [8]), [8]);
    }

    #[test]
    fn a_map_beyond_the_end_of_the_log_is_discarded() {
        let mut tracker = Tracker::start(0);
        let _ = read(&mut tracker, 0..10);
        tracker.finished(8);
        assert_eq!(crash(&tracker).check_end(9), None);
        let mut cut = crash(&tracker);
        assert_eq!(cut.check_end(8), Some(MapError::BeyondEnd { last: 8, log_end: 8 }));
        assert_eq!(cut.check_end(8), None);
        assert_eq!(read(&mut cut, 0..9).len(), 9);
    }

    #[test]
    fn an_unusable_map_leaves_a_plain_start_at_the_committed_offset_that_is_dirty() {
        let (mut tracker, error) = Tracker::resume(5, "1:garbage!");
        assert_eq!(error, Some(MapError::Corrupt("not base64url")));
        assert!(tracker.is_dirty());
        assert_eq!(read(&mut tracker, 5..8), [5, 6, 7]);
    }

    #[test]
    fn an_accepted_commit_is_clean_only_while_nothing_happened_since() {
        let mut tracker = Tracker::start(0);
        let _ = read(&mut tracker, 0..4);
        let point = tracker.commit_point();
        tracker.finished(0);
        tracker.committed(&point);
        assert!(tracker.is_dirty());
        let newer = tracker.commit_point();
        tracker.committed(&newer);
        tracker.committed(&point);
        assert!(!tracker.is_dirty());
    }

    #[test]
    fn memory_follows_what_is_unfinished_not_its_span() {
        let mut tracker = Tracker::start(0);
        for offset in 0..100_000 {
            let _ = tracker.received(offset, print(offset));
            if offset % 10_000 != 0 {
                tracker.finished(offset);
            }
            assert!(tracker.window.len() <= SLACK + 4 * 10);
        }
        assert_eq!(tracker.unfinished(), 10);
        assert!(!tracker.must_rest());
        let mut again = crash(&tracker);
        assert_eq!(read(&mut again, 0..100_000).len(), 10);
    }

    #[test]
    fn twenty_thousand_running_records_rest_and_their_finish_ends_it() {
        let mut tracker = Tracker::start(0);
        assert!(!tracker.must_rest());
        let mut at = 0;
        while !tracker.must_rest() {
            let _ = read(&mut tracker, at..at + 1);
            at += 1;
        }
        assert!((10_000..11_000).contains(&at), "{at}");
        finish(&mut tracker, 0..at);
        assert!(!tracker.must_rest());
    }

    #[test]
    fn a_partition_resumed_while_it_rested_reads_on() {
        let mut tracker = Tracker::start(0);
        while !tracker.must_rest() {
            let next = tracker.next;
            let _ = read(&mut tracker, next..next + 1);
        }
        let end = tracker.next;
        finish(&mut tracker, (1..end).step_by(2));
        let mut again = crash(&tracker);
        assert!(!again.must_rest());
        assert_eq!(read(&mut again, 0..end).len() as i64, (end + 1) / 2);
    }

    /// Whichever pattern finishes, whole maps stay within the bound, also with one batch taken in after the rest began.
    #[test]
    fn metadata_stays_within_its_bound_for_adversarial_patterns() {
        // One record in `keep` does not finish at once; then those of the kept finish that the pattern names.
        let patterns: [fn(i64) -> bool; 6] =
            [|n| n % 2 == 0, |n| n % 2 == 1, |n| n % 3 == 0, |n| n % 4 < 2, |n| n % 33 < 32, |n| n * n % 7 < 3];
        for stride in [1, 2, 4] {
            for keep in [1, 2, 3, 10, 100] {
                for pattern in patterns {
                    let mut tracker = Tracker::start(0);
                    let mut kept = Vec::new();
                    let mut nth = 0;
                    let mut rested = false;
                    for _ in 0..4_000 {
                        rested = tracker.must_rest();
                        for _ in 0..MAX_BATCH {
                            let offset = nth * stride;
                            let _ = tracker.received(offset, print(offset));
                            if nth % keep == 0 {
                                kept.push(offset);
                            } else {
                                tracker.finished(offset);
                            }
                            nth += 1;
                        }
                        if rested {
                            break;
                        }
                    }
                    assert!(rested, "never rests: {stride} {keep}");
                    for (index, &offset) in (0..).zip(&kept) {
                        if pattern(index) {
                            tracker.finished(offset);
                        }
                    }
                    let whole = tracker.map(tracker.base(), i64::MAX).unwrap().encode();
                    assert!(whole.len() <= MAX_METADATA, "{} for {stride} {keep}", whole.len());
                    assert_eq!(tracker.commit_point().metadata, whole);
                }
            }
        }
    }

    #[test]
    fn without_the_rest_the_map_vouches_for_less_and_still_fits() {
        let mut tracker = Tracker::start(0);
        let _ = read(&mut tracker, 0..100_000);
        finish(&mut tracker, (0..100_000).filter(|offset| offset * offset % 11 < 5 && *offset > 0));
        assert!(tracker.must_rest());
        let point = tracker.commit_point();
        assert!(point.metadata.len() <= MAX_METADATA && point.metadata.len() > 1_000, "{}", point.metadata.len());
        let mut again = crash(&tracker);
        let new = read(&mut again, point.offset..100_000);
        assert!(
            (0..100_000)
                .filter(|offset| *offset == 0 || offset * offset % 11 >= 5)
                .filter(|o| *o >= point.offset)
                .all(|offset| new.binary_search(&offset).is_ok())
        );
    }

    #[derive(Clone, Debug)]
    enum Op {
        Read(usize),
        /// Finishes the unfinished record at this place among them.
        Finish(prop::sample::Index),
        FinishLowest,
        Seen,
        Commit,
        /// Comes back from the last accepted commit.
        Crash,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (1_usize..30).prop_map(Op::Read),
            8 => any::<prop::sample::Index>().prop_map(Op::Finish),
            3 => Just(Op::FinishLowest),
            1 => Just(Op::Seen),
            2 => Just(Op::Commit),
            1 => Just(Op::Crash),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// The naive model: sets of offsets. `finished` is what this assignment knows as finished, by itself or by the map.
        #[test]
        fn crashes_at_any_point_lose_nothing_and_repeat_only_what_no_map_has(
            gaps in prop::collection::vec(prop_oneof![4 => Just(1_i64), 1 => 2_i64..6, 1 => 100_i64..5_000], 400),
            ops in prop::collection::vec(op(), 1..150),
        ) {
            let log: Vec<i64> = gaps.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut tracker = Tracker::start(0);
            let (mut at, mut unfinished, mut finished) = (0, BTreeSet::new(), BTreeSet::new());
            let (mut accepted, mut accepted_finished) = (0, BTreeSet::new());
            let mut metadata = String::new();
            for op in ops {
                match op {
                    Op::Read(count) => for &offset in &log[at..log.len().min(at + count)] {
                        let expected = if finished.contains(&offset) { Received::AlreadyFinished } else { Received::New };
                        prop_assert_eq!(tracker.received(offset, print(offset)), (expected, None), "{}", offset);
                        if expected == Received::New {
                            unfinished.insert(offset);
                        }
                        at += 1;
                    },
                    Op::Finish(index) => if let Some(&offset) = (!unfinished.is_empty()).then(|| unfinished.iter().nth(index.index(unfinished.len()))).flatten() {
                        unfinished.remove(&offset);
                        finished.insert(offset);
                        tracker.finished(offset);
                    },
                    Op::FinishLowest => if let Some(offset) = unfinished.pop_first() {
                        finished.insert(offset);
                        tracker.finished(offset);
                    },
                    // Markers behind the last record, up to the next.
                    Op::Seen => if let Some(&next) = log.get(at) {
                        tracker.seen(next);
                    },
                    Op::Commit => {
                        let point = tracker.commit_point();
                        prop_assert!(point.metadata.len() <= MAX_METADATA);
                        prop_assert!(point.offset >= accepted);
                        tracker.committed(&point);
                        prop_assert!(!tracker.is_dirty());
                        accepted = point.offset;
                        accepted_finished = finished.range(accepted..).copied().collect();
                        metadata = point.metadata;
                    }
                    Op::Crash => {
                        let (resumed, error) = Tracker::resume(accepted, &metadata);
                        prop_assert_eq!(error, None);
                        tracker = resumed;
                        unfinished.clear();
                        finished = accepted_finished.clone();
                        at = log.partition_point(|&offset| offset < accepted);
                    }
                }
                // What is below the commit point is finished, and seen.
                let base = tracker.commit_point().offset;
                let lowest = unfinished.first().copied();
                prop_assert!(lowest.is_none_or(|lowest| base <= lowest));
                prop_assert!(base <= tracker.position);
                prop_assert!(log.get(at).is_none_or(|&next| base <= next));
                prop_assert_eq!(tracker.unfinished(), unfinished.len());
                prop_assert_eq!(tracker.lowest_unfinished(), lowest);
                // Once the map is read through, it is exactly the lowest unfinished or the position.
                let read_through = finished.last().is_none_or(|&last| at > 0 && last <= log[at - 1]);
                if read_through {
                    prop_assert_eq!(base, lowest.unwrap_or(tracker.position));
                }
            }
        }
    }
}
