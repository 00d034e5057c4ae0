//! Commits that have vanished: their topic was deleted.
//!
//! Where a topic is deleted and made anew at once, the client silently reads on in the new log at the offset that it had in the old one.
//! Records below that would never be read. But the broker forgets the commits of a deleted topic, and no others while a group is in use. So
//! before each commit, and now and then, the group's commits are looked at: where there was one and is none, the partition begins anew.
//! Until then nothing of it is committed: a commit in the new log, at an offset reached from the old one, would hide the records below from
//! everybody.

use super::QUESTION;
use super::commits::commits_of;
use super::context::Context;
use crate::delivery::ports::TopicPartition;
use rdkafka::consumer::BaseConsumer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of a request for a commit: they are counted from 1.
pub(super) type Number = u64;

/// The partitions that were given, and how the commit of each stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<HashMap<TopicPartition, Standing>>>);

#[derive(Debug)]
struct Standing {
    commit: Commit,
    /// The last request before the partition began, or went: commits asked for up to it are no longer made.
    after: Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    None,
    There,
    /// It was there and is gone; so until the partition begins anew.
    Vanished,
    /// The partition itself has gone, and may be another member's.
    Given,
}

impl Held {
    fn standings(&self) -> MutexGuard<'_, HashMap<TopicPartition, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one begins, or begins anew. `after`: the last request so far.
    pub(super) fn begin(&self, name: &TopicPartition, is_committed: bool, after: Number) {
        let commit = if is_committed { Commit::There } else { Commit::None };
        self.standings().insert(name.clone(), Standing { commit, after });
    }

    /// These have gone. `after`: the last request so far, which the thread may be about to make: with the membership that the client has by
    /// then, over what the partition's new owner has committed.
    pub(super) fn end(&self, gone: &[TopicPartition], after: Number) {
        self.standings().extend(gone.iter().map(|name| (name.clone(), Standing { commit: Commit::Given, after })));
    }

    /// These were committed.
    pub(super) fn accepted<'a>(&self, committed: impl Iterator<Item = &'a TopicPartition>) {
        let mut standings = self.standings();
        for name in committed {
            if let Some(standing) = standings.get_mut(name).filter(|standing| standing.commit == Commit::None) {
                standing.commit = Commit::There;
            }
        }
    }

    /// The commit is there after all.
    pub(super) fn is_back(&self, name: &TopicPartition) {
        if let Some(standing) = self.standings().get_mut(name) {
            standing.commit = Commit::There;
        }
    }

    /// Whether request `number` may commit this one.
    pub(super) fn may_commit(&self, name: &TopicPartition, number: Number) -> bool {
        self.standings().get(name).is_none_or(|standing| standing.commit != Commit::Vanished && number > standing.after)
    }

    /// Looks at the commits of `names`, or of all: those that have vanished since they were last looked at; none where the broker does not
    /// say.
    pub(super) fn look(&self, client: &BaseConsumer<Context>, names: Option<&[TopicPartition]>) -> Vec<TopicPartition> {
        let asked = self.there(names);
        if asked.is_empty() {
            return asked;
        }
        let Ok(commits) = commits_of(client, &asked, QUESTION) else { return Vec::new() };
        let mut standings = self.standings();
        let mut vanished = Vec::new();
        for name in asked {
            if matches!(commits.get(&name), Some(Ok(None)))
                && let Some(standing) = standings.get_mut(&name).filter(|standing| standing.commit == Commit::There)
            {
                standing.commit = Commit::Vanished;
                vanished.push(name);
            }
        }
        vanished
    }

    /// Those of `names`, or of all, that have a commit.
    fn there(&self, names: Option<&[TopicPartition]>) -> Vec<TopicPartition> {
        let standings = self.standings();
        let is_there = |name: &&TopicPartition| standings.get(*name).is_some_and(|standing| standing.commit == Commit::There);
        match names {
            Some(names) => names.iter().filter(is_there).cloned().collect(),
            None => standings.keys().filter(is_there).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Member, TOPIC};
    use super::*;
    use crate::delivery::ports::{CommitMode, CommitRefused, Source as _, SourceEvent};
    use crate::domain::offsets::CommitPoint;

    #[test]
    fn nothing_of_a_partition_is_committed_from_when_its_commit_vanished_until_it_has_begun_anew() {
        let name = TopicPartition { topic: TOPIC.into(), partition: 0 };
        let held = Held::default();
        held.begin(&name, true, 4);
        assert!(!held.may_commit(&name, 4), "asked for before it began");
        assert!(held.may_commit(&name, 5));
        held.standings().get_mut(&name).unwrap().commit = Commit::Vanished;
        held.accepted([&name].into_iter());
        assert!(!held.may_commit(&name, 6));
        held.begin(&name, false, 6);
        assert!(!held.may_commit(&name, 6) && held.may_commit(&name, 7));
        assert!(held.there(None).is_empty(), "none that could vanish");
        held.accepted([&name].into_iter());
        assert_eq!(held.there(None), std::slice::from_ref(&name));
        held.end(std::slice::from_ref(&name), 9);
        held.accepted([&name].into_iter());
        assert!(held.there(None).is_empty(), "what has gone has no commit of ours");
        assert!(!held.may_commit(&name, 9), "asked for before it went");
    }

    #[test]
    fn a_commit_that_vanished_is_told_once_and_its_partition_begins_anew_at_the_start() {
        let mut member = Member::with_records(6);
        let name = member.start_at(0);
        let at = |offset| vec![(name.clone(), CommitPoint { offset, metadata: String::new() })];
        // One that this member takes to be there, and the broker does not have.
        let held = member.consumer.committer.as_ref().unwrap().held.clone();
        held.begin(&name, true, 0);
        let refused = || Err(CommitRefused::whole("UnknownTopicOrPartition"));
        assert_eq!(member.consumer.commit(at(4), CommitMode::Await), refused());
        assert_eq!(member.consumer.commit(at(5), CommitMode::Await), refused(), "also the next one");
        let mut event = member.event();
        while matches!(event, SourceEvent::Batch(_)) {
            event = member.event();
        }
        let SourceEvent::OutOfRange { outside, unsure } = event else { panic!("{event:?}") };
        assert_eq!((outside.len(), unsure.len(), &unsure[0].committed, unsure[0].low), (0, 1, &None, 0));
        member.consumer.start(&[(name.clone(), 0)]);
        assert_eq!(member.consumer.commit(at(1), CommitMode::Await), Ok(()));
        assert_eq!(member.committed(TOPIC), 1);
    }
}
