//! Partitions that the client has stopped reading, because the offset to read next was not in the log. A state machine without IO.
//!
//! The client tells that there is one more of them, not which, and does not read it again by itself. The watermarks show which: the next
//! offset lies outside of them. But not always: a log that was cut by an unclean election and written anew, or a replica that had fallen
//! behind, may reach past that offset again by the time it is asked. Where fewer are found than stopped, any other that was not read since
//! may be one of them, and all those begin anew at the group's commits, as at an assignment. To go on at the positions was refused: what
//! was written anew below them would be skipped, and nobody would know. What comes twice instead is what was not committed yet.
//!
//! A paused partition is not fetched, so it tells nothing: one that lies outside begins anew, too, but is no answer to an error.

use super::PAUSE;
use super::questions::{Answer, Round};
use crate::delivery::ports::{Assigned, TopicPartition};
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Where each started partition stands: the offset to read next.
pub(super) type Nexts = HashMap<TopicPartition, i64>;

/// What the search says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not yet.
    Nothing,
    /// These lie outside of their logs, each with its next offset as its commit. The search may go on.
    Outside(Vec<Assigned>),
    /// The first list lies outside of its logs. The second could not be told apart: all of it may have stopped, and begins anew at the
    /// group's commits as they are now. The search is over.
    Unsure(Vec<Assigned>, Vec<Assigned>),
}

/// The search for stopped partitions.
#[derive(Debug)]
pub(super) struct Stopped {
    /// How many stopped and are not found yet.
    count: usize,
    /// Where all stood at the last error.
    stood: Nexts,
    /// The round in which partitions are asked for, and where they stood then. `open`: those not answered yet.
    asked: Option<(Round, Nexts)>,
    open: HashSet<TopicPartition>,
    /// What was answered, and where the partition stood when it was asked for.
    looked_at: HashMap<TopicPartition, (i64, Assigned)>,
    look_at: Instant,
}

impl Stopped {
    /// One has stopped; `nexts`: where all stand.
    pub(super) fn one(nexts: Nexts, now: Instant) -> Self {
        // After a pause: others may stop at the same moment.
        Self { count: 1, stood: nexts, asked: None, open: HashSet::new(), looked_at: HashMap::new(), look_at: now + PAUSE }
    }

    /// Another partition stopped: forgets earlier answers and searches again, because they predate this one.
    pub(super) fn one_more(&mut self, nexts: Nexts, now: Instant) {
        *self = Self { count: self.count + 1, ..Self::one(nexts, now) };
    }

    /// Asks for all of `nexts` that are not looked at, when it is time.
    pub(super) fn ask(&mut self, nexts: &Nexts, now: Instant, ask: impl FnOnce(Vec<TopicPartition>) -> Round) {
        if self.asked.is_some() || now < self.look_at {
            return;
        }
        let names: Vec<TopicPartition> = nexts.keys().filter(|name| !self.looked_at.contains_key(*name)).cloned().collect();
        self.open = names.iter().cloned().collect();
        self.asked = Some((ask(names), nexts.clone()));
    }

    /// Takes an answer, if it is one to its question.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Some((_, asked)) = self.asked.as_ref().filter(|(round, _)| *round == answer.round) else { return };
        if self.open.remove(&answer.name)
            && let (Ok(found), Some(next)) = (answer.found, asked.get(&answer.name))
        {
            self.looked_at.insert(answer.name, (*next, found));
        }
    }

    /// What is known by now. `paused`: partitions that are not read for other reasons. `commits_rest`: no commit is in flight; otherwise a
    /// stale commit could be read, and later ones would fall behind it.
    pub(super) fn found(&mut self, nexts: &Nexts, paused: &HashSet<TopicPartition>, commits_rest: bool, now: Instant) -> Found {
        if self.asked.is_none() {
            return Found::Nothing;
        }
        let lies_outside = |name: &TopicPartition| {
            let (next, looked) = self.looked_at.get(name)?;
            let outside = nexts.get(name) == Some(next) && (*next < looked.low || *next > looked.high);
            outside.then(|| Assigned { committed: Some((*next, String::new())), ..looked.clone() })
        };
        let outside: Vec<Assigned> = nexts.keys().filter_map(lies_outside).collect();
        let counted = outside.iter().filter(|found| !paused.contains(&found.partition)).count();
        self.open.retain(|name| nexts.contains_key(name));
        if counted < self.count && !self.open.is_empty() {
            return Found::Nothing;
        }
        if counted >= self.count || nexts.keys().any(|name| !self.looked_at.contains_key(name)) {
            // Without all answers nobody is suspected: who did not answer is asked again.
            self.count -= counted.min(self.count);
            outside.iter().for_each(|found| drop(self.looked_at.remove(&found.partition)));
            self.asked = None;
            self.later(now);
            return if outside.is_empty() { Found::Nothing } else { Found::Outside(outside) };
        }
        if !commits_rest || now < self.look_at {
            return Found::Nothing;
        }
        let is_suspect = |(name, next): &(&TopicPartition, &i64)| self.stood.get(*name) == Some(*next) && lies_outside(name).is_none();
        // What was read since the look is in the log too.
        let as_looked = |(name, next): (&TopicPartition, &i64)| {
            self.looked_at.get(name).map(|(_, looked)| Assigned { high: looked.high.max(*next), ..looked.clone() })
        };
        Found::Unsure(outside, nexts.iter().filter(is_suspect).filter_map(as_looked).collect())
    }

    /// Whether all are found.
    pub(super) const fn is_over(&self) -> bool {
        self.count == 0
    }

    /// Not again before a pause.
    pub(super) fn later(&mut self, now: Instant) {
        self.look_at = now + PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

    fn name(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn nexts<const N: usize>(nexts: [(i32, i64); N]) -> Nexts {
        nexts.map(|(partition, next)| (name(partition), next)).into()
    }

    fn looked(partition: i32, low: i64, high: i64) -> Assigned {
        Assigned { partition: name(partition), committed: Some((1, String::new())), latest: None, low, high }
    }

    /// One has stopped while all stood there, and these answers were given.
    fn search<const N: usize>(stand: &Nexts, answers: [(i32, Option<(i64, i64)>); N]) -> (Stopped, Instant) {
        let begun = Instant::now();
        let now = begun + PAUSE;
        let mut stopped = Stopped::one(stand.clone(), begun);
        stopped.ask(stand, now, |_| 1);
        for (partition, log) in answers {
            let found = log.map(|(low, high)| looked(partition, low, high)).ok_or(KafkaError::MetadataFetch(Code::LeaderNotAvailable));
            stopped.answered(Answer { round: 1, name: name(partition), found });
        }
        (stopped, now)
    }

    fn none() -> HashSet<TopicPartition> {
        HashSet::new()
    }

    fn outside(partition: i32, next: i64, low: i64, high: i64) -> Assigned {
        Assigned { committed: Some((next, String::new())), ..looked(partition, low, high) }
    }

    #[test]
    fn the_one_outside_of_its_log_is_found_whoever_does_not_answer() {
        let stand = nexts([(0, 5), (1, 7)]);
        let (mut stopped, now) = search(&stand, [(0, Some((9, 20)))]);
        assert_eq!(stopped.found(&stand, &none(), true, now), Found::Outside(vec![outside(0, 5, 9, 20)]));
        assert!(stopped.is_over());
    }

    #[test]
    fn nobody_is_suspected_before_all_have_answered() {
        let stand = nexts([(0, 5), (1, 7)]);
        let (mut stopped, now) = search(&stand, [(0, Some((0, 20))), (1, None)]);
        assert_eq!(stopped.found(&stand, &none(), true, now), Found::Nothing);
        stopped.ask(&stand, now, |_| panic!("not without a pause"));
        stopped.ask(&stand, now + PAUSE, |names| {
            assert_eq!(names, [name(1)]);
            2
        });
        stopped.answered(Answer { round: 2, name: name(1), found: Ok(looked(1, 0, 3)) });
        assert_eq!(stopped.found(&stand, &none(), true, now + PAUSE), Found::Outside(vec![outside(1, 7, 0, 3)]));
    }

    #[test]
    fn suspects_are_those_not_read_since_once_no_commit_is_on_its_way() {
        let stand = nexts([(0, 5), (1, 7)]);
        let (mut stopped, now) = search(&stand, [(0, Some((0, 20))), (1, Some((0, 7)))]);
        let read_on = nexts([(0, 5), (1, 9)]);
        assert_eq!(stopped.found(&read_on, &none(), false, now), Found::Nothing);
        assert_eq!(stopped.found(&read_on, &none(), true, now), Found::Unsure(vec![], vec![looked(0, 0, 20)]));
    }

    #[test]
    fn a_paused_partition_outside_of_its_log_is_no_answer_to_an_error() {
        let stand = nexts([(0, 5), (1, 7)]);
        let (mut stopped, now) = search(&stand, [(0, Some((9, 20))), (1, Some((0, 30)))]);
        let found = stopped.found(&stand, &[name(0)].into(), true, now);
        assert_eq!(found, Found::Unsure(vec![outside(0, 5, 9, 20)], vec![looked(1, 0, 30)]), "1 has stopped");
    }

    #[test]
    fn one_that_has_gone_makes_nobody_a_suspect_who_was_read_since() {
        let (mut stopped, now) = search(&nexts([(0, 5), (1, 7)]), [(0, Some((0, 4))), (1, Some((0, 30)))]);
        assert_eq!(stopped.found(&nexts([(1, 8)]), &none(), true, now), Found::Unsure(vec![], vec![]));
    }
}
