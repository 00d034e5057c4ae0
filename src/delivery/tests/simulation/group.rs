//! A consumer group: members, who owns what, cooperative rebalances, commits.

use super::broker::Place;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A member: the number of its replica.
pub(super) type Member = u64;

/// What a member is told when it polls.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    Assign(Vec<Place>),
    Revoke(Vec<Place>),
    Committed(Result<(), String>),
}

/// One class's group.
#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<Member, VecDeque<Notice>>,
    silent: BTreeSet<Member>,
    owners: BTreeMap<Place, Option<Member>>,
    revoking: BTreeSet<Place>,
    /// How often each place was assigned: a commit of an earlier assignment is fenced.
    pub(super) given: BTreeMap<Place, u64>,
    welcome: BTreeSet<Member>,
    outcasts: BTreeMap<Member, Vec<Place>>,
    answers: BTreeMap<Member, VecDeque<Result<(), String>>>,
    pub(super) commits: BTreeMap<Place, (i64, String)>,
    /// When the last accepted commit was asked for, or the place assigned.
    pub(super) asked: BTreeMap<Place, Duration>,
    /// Places taken from a member that does not know it yet: since when its work may be done again, and for which events.
    pub(super) losses: Vec<(Member, Place, Duration, BTreeSet<String>)>,
}

impl Group {
    pub(super) fn add(&mut self, places: Vec<Place>) {
        places.into_iter().for_each(|place| {
            self.owners.entry(place).or_default();
        });
    }

    pub(super) fn owner(&self, place: &Place) -> Option<Member> {
        self.owners.get(place).copied().flatten()
    }

    pub(super) fn owned(&self, member: Member) -> Vec<Place> {
        self.owners.iter().filter(|(_, owner)| **owner == Some(member)).map(|(place, _)| place.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn is_member(&self, member: Member) -> bool {
        self.members.contains_key(&member)
    }

    /// Answers a member's commit, whatever became of its membership.
    pub(super) fn answer(&mut self, member: Member, result: Result<(), String>) {
        self.answers.entry(member).or_default().push_back(result);
    }

    pub(super) fn notice(&mut self, member: Member, notice: Notice) {
        if let Some(notices) = self.members.get_mut(&member) {
            notices.push_back(notice);
        }
    }

    pub(super) fn next_notice(&mut self, member: Member) -> Option<Notice> {
        if let Some(result) = self.answers.get_mut(&member).and_then(VecDeque::pop_front) {
            return Some(Notice::Committed(result));
        }
        self.members.get_mut(&member)?.pop_front()
    }

    pub(super) fn has_notice(&self, member: Member) -> bool {
        let answered = self.answers.get(&member).is_some_and(|a| !a.is_empty());
        answered || self.outcasts.contains_key(&member) || self.members.get(&member).is_some_and(|n| !n.is_empty())
    }

    pub(super) fn join(&mut self, member: Member) {
        self.members.entry(member).or_default();
        self.welcome.insert(member);
    }

    pub(super) fn silence(&mut self, member: Member, silent: bool) {
        if silent {
            self.silent.insert(member);
        } else {
            self.silent.remove(&member);
        }
    }

    pub(super) fn is_silent(&self, member: Member) -> bool {
        self.silent.contains(&member) && self.members.contains_key(&member)
    }

    /// The member leaves, and what it owned is free.
    pub(super) fn leave(&mut self, member: Member) {
        self.members.remove(&member);
        self.silent.remove(&member);
        for place in self.owned(member) {
            self.release(member, &place);
        }
    }

    /// As [`Group::leave`], but it does not know: when it polls again it learns of its loss.
    pub(super) fn expel(&mut self, member: Member) {
        let owned = self.owned(member);
        self.leave(member);
        self.outcasts.insert(member, owned);
    }

    /// Whether it was expelled and does not know it.
    pub(super) fn is_outcast(&self, member: Member) -> bool {
        self.outcasts.contains_key(&member)
    }

    /// What was taken from a member that learns it now.
    pub(super) fn learns_its_loss(&mut self, member: Member) -> Option<Vec<Place>> {
        self.outcasts.remove(&member)
    }

    pub(super) fn release(&mut self, member: Member, place: &Place) {
        if self.owner(place) == Some(member) {
            self.owners.insert(place.clone(), None);
            self.revoking.remove(place);
        }
    }

    /// Tells members what they get and what is taken back; true when somebody was told something.
    pub(super) fn reconcile(&mut self, now: Duration) -> bool {
        let targets = self.targets();
        let (mut give, mut take): (BTreeMap<Member, Vec<Place>>, BTreeMap<Member, Vec<Place>>) = Default::default();
        for (place, target) in targets {
            match self.owner(&place) {
                None => {
                    self.owners.insert(place.clone(), Some(target));
                    self.asked.insert(place.clone(), now);
                    *self.given.entry(place.clone()).or_default() += 1;
                    give.entry(target).or_default().push(place);
                }
                Some(owner) if owner != target && self.revoking.insert(place.clone()) => take.entry(owner).or_default().push(place),
                Some(_) => {}
            }
        }
        let told = !give.is_empty() || !take.is_empty();
        for (member, places) in take {
            self.notice(member, Notice::Revoke(places));
        }
        for member in std::mem::take(&mut self.welcome) {
            give.entry(member).or_default();
        }
        for (member, places) in give {
            self.notice(member, Notice::Assign(places));
        }
        told
    }

    fn targets(&self) -> Vec<(Place, Member)> {
        let members: Vec<Member> = self.members.keys().copied().collect();
        if members.is_empty() {
            return Vec::new();
        }
        let most = self.owners.len().div_ceil(members.len());
        let mut load: BTreeMap<Member, usize> = members.iter().map(|m| (*m, 0)).collect();
        let mut targets = Vec::new();
        let mut free = Vec::new();
        for (place, owner) in &self.owners {
            match owner.and_then(|o| load.get_mut(&o).map(|n| (o, n))) {
                Some((owner, n)) if *n < most => {
                    *n += 1;
                    targets.push((place.clone(), owner));
                }
                Some(_) | None => free.push(place.clone()),
            }
        }
        for place in free {
            let Some((member, n)) = load.iter_mut().min_by_key(|(_, n)| **n) else { break };
            *n += 1;
            targets.push((place, *member));
        }
        targets
    }
}
