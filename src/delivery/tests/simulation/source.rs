//! A member's consumer: what the group tells it, and records of what it was given.

use super::super::super::checker::Cause;
use super::super::super::ports::{Assigned, CommitMode, CommitRefused, Source, SourceEvent, TopicPartition};
use super::broker::{Broker, Place};
use super::group::{Member, Notice};
use crate::domain::class::Class;
use crate::domain::offsets::CommitPoint;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct SimSource {
    broker: Rc<RefCell<Broker>>,
    class: Class,
    member: Member,
    positions: BTreeMap<Place, i64>,
    paused: BTreeSet<Place>,
    /// The partition in which the next batch is looked for first.
    turn: usize,
    /// The last awaited commit, and whether it was refused.
    refused_at: Option<Duration>,
    looked_at: u64,
}

fn place(name: &TopicPartition) -> Place {
    (Arc::clone(&name.topic), name.partition)
}

fn name(place: &Place) -> TopicPartition {
    TopicPartition { topic: Arc::clone(&place.0), partition: place.1 }
}

impl SimSource {
    pub(super) fn join(broker: &Rc<RefCell<Broker>>, class: Class, member: Member) -> Self {
        broker.borrow_mut().join(class, member);
        Self {
            broker: Rc::clone(broker),
            class,
            member,
            positions: BTreeMap::new(),
            paused: BTreeSet::new(),
            turn: 0,
            refused_at: None,
            looked_at: u64::MAX,
        }
    }

    /// Whether a poll would yield something. Asked often, so it looks only after something has changed.
    pub(super) fn has_event(&mut self) -> bool {
        let broker = self.broker.borrow();
        if broker.version == self.looked_at || broker.mood.down {
            return false;
        }
        self.looked_at = broker.version;
        let Some(group) = broker.groups.get(&self.class.index()) else { return false };
        let readable = |(place, position): (&Place, &i64)| {
            !self.paused.contains(place)
                && broker.logs.get(place).is_some_and(|l| *position < l.start || *position > l.next || l.from(*position).next().is_some())
        };
        group.has_notice(self.member) || self.positions.iter().any(readable)
    }

    /// Something changed: the next poll may yield something again.
    pub(super) fn look_again(&mut self) {
        self.looked_at = u64::MAX;
    }

    fn assigned(broker: &Broker, place: &Place, committed: Option<(i64, String)>) -> Assigned {
        let log = broker.logs.get(place);
        Assigned { partition: name(place), committed, latest: None, low: log.map_or(0, |l| l.start), high: log.map_or(0, |l| l.next) }
    }

    fn told(&mut self) -> Option<SourceEvent> {
        let mut broker = self.broker.borrow_mut();
        let (class, member) = (self.class, self.member);
        if let Some(places) = broker.group(class).learns_its_loss(member) {
            broker.trace.note(broker.now(), "lost", member, || format!("r{member} lost {class} {places:?}"));
            return Some(SourceEvent::Lost(places.iter().map(name).collect()));
        }
        Some(match broker.group(class).next_notice(member)? {
            Notice::Assign(places) => {
                broker.trace.note(broker.now(), "assigned", member, || format!("r{member} {class} {places:?}"));
                broker.expose_overtaken(class, &places);
                let of = |p: &Place| {
                    let committed = broker.groups.get(&class.index()).and_then(|g| g.commits.get(p)).cloned();
                    Self::assigned(&broker, p, committed)
                };
                SourceEvent::Assigned(places.iter().map(of).collect())
            }
            Notice::Revoke(places) => {
                broker.trace.note(broker.now(), "revoking", member, || format!("r{member} {class} {places:?}"));
                SourceEvent::Revoking(places.iter().map(name).collect())
            }
            Notice::Committed(result) => SourceEvent::Committed(result.map_err(CommitRefused::whole)),
        })
    }

    fn out_of_range(&self) -> Option<SourceEvent> {
        let broker = self.broker.borrow();
        let out = |(p, at): &(&Place, &i64)| broker.logs.get(p).is_some_and(|l| **at < l.start || **at > l.next);
        let out: Vec<Assigned> =
            self.positions.iter().filter(out).map(|(p, at)| Self::assigned(&broker, p, Some((*at, String::new())))).collect();
        (!out.is_empty()).then_some(SourceEvent::OutOfRange { outside: out, unsure: Vec::new() })
    }

    fn gone(&mut self, places: &[Place], cause: Cause) {
        let mut broker = self.broker.borrow_mut();
        let (class, member, now) = (self.class, self.member, broker.now());
        for place in places {
            self.positions.remove(place);
            self.paused.remove(place);
            if broker.group(class).owner(place) == Some(member) {
                let since = if self.refused_at == Some(now) { broker.since(class, place) } else { now };
                broker.expose(cause, member, class, place, since);
            }
            broker.group(class).release(member, place);
        }
        broker.loss_learned(class, member, Some(places));
    }
}

impl Source for SimSource {
    fn poll(&mut self, _: Duration, max: usize) -> SourceEvent {
        self.look_again();
        if self.broker.borrow().mood.down {
            return SourceEvent::Nothing;
        }
        if let Some(event) = self.told().or_else(|| self.out_of_range()) {
            return event;
        }
        let places: Vec<Place> = self.positions.keys().filter(|p| !self.paused.contains(*p)).cloned().collect();
        for n in 0..places.len() {
            let place = &places[(self.turn + n) % places.len()];
            let broker = self.broker.borrow();
            let records = broker.records(place, self.positions[place], max);
            if let Some(last) = records.last() {
                self.positions.insert(place.clone(), last.position.offset + 1);
                self.turn += n + 1;
                return SourceEvent::Batch(records);
            }
            // Nothing but markers: the position passes them.
            let end = broker.logs.get(place).map_or(0, |l| l.next);
            self.positions.insert(place.clone(), end);
        }
        SourceEvent::Nothing
    }

    fn start(&mut self, at: &[(TopicPartition, i64)]) {
        for (name, offset) in at {
            self.positions.insert(place(name), *offset);
            self.paused.remove(&place(name));
        }
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        let places: Vec<Place> = partitions.iter().map(place).collect();
        self.gone(&places, Cause::RevokeOutlivedGrace);
        let mut broker = self.broker.borrow_mut();
        // Expelled while it gave something back: it joins again once it has learned what else it lost.
        if !broker.group(self.class).is_member(self.member) && !broker.group(self.class).is_outcast(self.member) {
            broker.join(self.class, self.member);
        }
        broker.rebalance(self.class);
    }

    fn commit(&mut self, points: Vec<(TopicPartition, CommitPoint)>, mode: CommitMode) -> Result<(), CommitRefused> {
        let points = points.into_iter().map(|(n, p)| (place(&n), p)).collect();
        let mut broker = self.broker.borrow_mut();
        let wait = mode == CommitMode::Await;
        let result = broker.commit(self.class, self.member, points, wait);
        self.refused_at = (wait && result.is_err()).then_some(broker.now());
        result.map_err(CommitRefused::whole)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) {
        self.paused.extend(partitions.iter().map(place));
    }

    fn resume(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|p| {
            self.paused.remove(&place(p));
        });
    }

    fn positions(&mut self) -> Vec<(TopicPartition, i64)> {
        self.positions.iter().map(|(p, at)| (name(p), *at)).collect()
    }

    fn leave(&mut self) {
        let owned = self.broker.borrow_mut().group(self.class).owned(self.member);
        self.gone(&owned, Cause::DrainCut);
        let mut broker = self.broker.borrow_mut();
        broker.loss_learned(self.class, self.member, None);
        broker.group(self.class).leave(self.member);
        broker.rebalance(self.class);
    }
}
