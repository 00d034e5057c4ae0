//! Partitions that the group has given, until the intake is told of them with commits and watermarks. A state machine without IO.
//!
//! ```text
//!  given ─► asked for ─┬─ found ─────► known ─► told
//!             ▲        └─ no answer ─┐
//!             └────── after a pause ◄┘
//! ```
//!
//! The group waits for an answer to its assignment, and the client reads nothing meanwhile, not even what was given before. So after
//! [`QUESTION`] it is answered with what is known by then, be it nothing; the rest is told when it is known. One partition without a leader
//! keeps no other from being read.

use super::questions::{Answer, Round};
use super::{PAUSE, QUESTION};
use crate::delivery::ports::{Assigned, TopicPartition};
use rdkafka::error::KafkaError;
use std::collections::HashMap;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Resolving {
    /// The round in which each partition was asked for; `None`: it is still to be asked for.
    given: HashMap<TopicPartition, Option<Round>>,
    known: Vec<Assigned>,
    /// The group waits for an answer, and gets one by then; `None`: it does not wait.
    answer_by: Option<Instant>,
    ask_at: Instant,
}

impl Resolving {
    pub(super) fn new(now: Instant) -> Self {
        Self { given: HashMap::new(), known: Vec::new(), answer_by: None, ask_at: now }
    }

    /// The group gives these, and waits for an answer.
    pub(super) fn give(&mut self, names: Vec<TopicPartition>, now: Instant) {
        self.given.extend(names.into_iter().map(|name| (name, None)));
        self.answer_by = Some(now + QUESTION);
        self.ask_at = now;
    }

    /// These are to be resolved, and the group does not wait for it.
    pub(super) fn add(&mut self, names: impl Iterator<Item = TopicPartition>, now: Instant) {
        self.given.extend(names.map(|name| (name, None)));
        self.ask_at = now;
    }

    /// The group takes these back.
    pub(super) fn take_back(&mut self, names: &[TopicPartition]) {
        self.given.retain(|name, _| !names.contains(name));
        self.known.retain(|assigned| !names.contains(&assigned.partition));
    }

    /// Whether the group waits for an answer; the caller gives it.
    pub(super) fn take_waiting(&mut self) -> bool {
        self.answer_by.take().is_some()
    }

    /// Whether anything is still to come, soon.
    pub(super) fn is_busy(&self) -> bool {
        self.answer_by.is_some() || !self.given.is_empty()
    }

    /// Those that are to be asked for now, in the round that `ask` says.
    pub(super) fn ask(&mut self, now: Instant, ask: impl FnOnce(Vec<TopicPartition>) -> Round) {
        let due: Vec<TopicPartition> = self.given.iter().filter(|(_, round)| round.is_none()).map(|(name, _)| name.clone()).collect();
        if due.is_empty() || now < self.ask_at {
            return;
        }
        let round = ask(due.clone());
        self.given.extend(due.into_iter().map(|name| (name, Some(round))));
    }

    /// Whether `answer` is one that is waited for here.
    pub(super) fn wants(&self, answer: &Answer) -> bool {
        self.given.get(&answer.name) == Some(&Some(answer.round))
    }

    /// Takes a wanted answer; returns the error if it was one.
    pub(super) fn answered(&mut self, answer: Answer, now: Instant) -> Result<(), KafkaError> {
        match answer.found {
            Ok(assigned) => {
                self.given.remove(&answer.name);
                self.known.push(assigned);
                Ok(())
            }
            Err(error) => {
                self.given.insert(answer.name, None);
                self.ask_at = now + PAUSE;
                Err(error)
            }
        }
    }

    /// What is to be told now: an answer for the group, also an empty one, or what became known after it.
    pub(super) fn told(&mut self, now: Instant) -> Option<Vec<Assigned>> {
        let due = match self.answer_by {
            Some(by) => self.given.is_empty() || now >= by,
            None => !self.known.is_empty(),
        };
        if !due {
            return None;
        }
        self.answer_by = None;
        Some(std::mem::take(&mut self.known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::error::RDKafkaErrorCode as Code;

    fn name(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn found(round: Round, partition: i32) -> Answer {
        let found = Ok(Assigned { partition: name(partition), committed: None, latest: None, low: 0, high: 0 });
        Answer { round, name: name(partition), found }
    }

    fn silent(round: Round, partition: i32) -> Answer {
        Answer { round, name: name(partition), found: Err(KafkaError::MetadataFetch(Code::LeaderNotAvailable)) }
    }

    fn partitions(told: Option<Vec<Assigned>>) -> Option<Vec<i32>> {
        told.map(|told| told.iter().map(|assigned| assigned.partition.partition).collect())
    }

    #[test]
    fn a_partition_without_a_leader_keeps_no_other_waiting_for_longer_than_a_question_and_is_told_when_it_has_one() {
        let begun = Instant::now();
        let mut resolving = Resolving::new(begun);
        resolving.give(vec![name(0), name(1)], begun);
        resolving.ask(begun, |names| {
            assert_eq!(names.len(), 2);
            1
        });
        assert_eq!(resolving.answered(found(1, 0), begun), Ok(()));
        assert!(resolving.answered(silent(1, 1), begun).is_err());
        assert_eq!(partitions(resolving.told(begun)), None, "the group has patience, and it may come soon");
        resolving.ask(begun, |_| panic!("not without a pause"));
        resolving.ask(begun + PAUSE, |names| {
            assert_eq!(names, [name(1)]);
            2
        });
        assert_eq!(partitions(resolving.told(begun + QUESTION)), Some(vec![0]));
        assert_eq!(partitions(resolving.told(begun + QUESTION)), None);
        assert!(resolving.is_busy());
        assert_eq!(resolving.answered(found(2, 1), begun), Ok(()));
        assert_eq!(partitions(resolving.told(begun)), Some(vec![1]));
        assert!(!resolving.is_busy());
    }

    #[test]
    fn an_answer_from_before_a_partition_went_is_none_for_when_it_came_back() {
        let now = Instant::now();
        let mut resolving = Resolving::new(now);
        resolving.give(vec![name(0)], now);
        resolving.ask(now, |_| 1);
        resolving.take_back(&[name(0)]);
        assert!(!resolving.wants(&found(1, 0)));
        resolving.give(vec![name(0)], now);
        resolving.ask(now, |_| 2);
        assert!(!resolving.wants(&found(1, 0)) && resolving.wants(&found(2, 0)));
    }

    #[test]
    fn an_assignment_without_partitions_is_answered_at_once() {
        let now = Instant::now();
        let mut resolving = Resolving::new(now);
        assert_eq!(partitions(resolving.told(now)), None);
        resolving.give(vec![], now);
        assert_eq!(partitions(resolving.told(now)), Some(vec![]));
    }
}
