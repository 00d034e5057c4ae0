//! All lanes and the attempt slots they share: who may start, who waits, who is parked (design §9). A state machine without IO,
//! owned by the engine.
//!
//! Each class has its reserved share of the slots. A lane whose waiting room is full parks what comes on top, with two exceptions
//! while its endpoint answers, so that a backlog for healthy endpoints flows at their own pace instead of making a detour through a
//! tier: alone in its class it waits without bound (the class's budget stalls intake), and beside others it may hold
//! three halves of an equal share of that budget. So one slow endpoint can never hold all the memory of its class.

use super::lane::{Lane, Terms};
use crate::domain::class::Class;
use crate::domain::registry::Endpoint;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What became of an offer.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Offer<T> {
    /// Start it now; [`Lanes::finished`] must follow.
    Start(T),
    /// It waits in its lane; [`Lanes::next`] will hand it out.
    Waits,
    /// No room: requeue it.
    Park(Parked<T>),
}

/// An item that its lane has no room for.
#[derive(Debug, PartialEq, Eq)]
pub struct Parked<T> {
    /// The item.
    pub item: T,
    /// The endpoint asked to be left alone until then (monotonic); `None`: the lane is full.
    pub until: Option<Duration>,
}

/// All lanes.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: HashMap<Endpoint, Lane<T>>,
    ready: [VecDeque<Endpoint>; 3],
    crowded: [usize; 3],
    running: [usize; 3],
    max_running: usize,
    max_records: usize,
}

impl<T> Lanes<T> {
    /// No lanes yet; at most `max_running` attempts at once and `max_records` records in memory, shared by class.
    #[must_use]
    pub fn new(max_running: usize, max_records: usize) -> Self {
        Self { lanes: HashMap::new(), ready: Default::default(), crowded: [0; 3], running: [0; 3], max_running, max_records }
    }

    /// Attempts running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.iter().sum()
    }

    fn has_slot(&self, class: Class) -> bool {
        self.running[class.index()] < class.share(self.max_running) && self.running() < self.max_running.max(1)
    }

    fn cap(&self, lane: &Lane<T>, class: Class, now: Duration) -> usize {
        if !lane.answers(now) {
            return lane.room();
        }
        let others = self.crowded[class.index()].saturating_sub(usize::from(lane.waiting(class) > 0));
        if others == 0 { usize::MAX } else { lane.room().max(class.share(self.max_records) * 3 / (2 * (others + 1))) }
    }

    /// Offers `item` of `class` to the lane of `endpoint`.
    pub fn offer(&mut self, endpoint: &Endpoint, class: Class, terms: Terms, item: T, now: Duration) -> Offer<T> {
        let has_slot = self.has_slot(class);
        if !self.lanes.contains_key(endpoint) {
            self.lanes.insert(endpoint.clone(), Lane::new(terms));
        }
        let Some(lane) = self.lanes.get(endpoint) else { return Offer::Park(Parked { item, until: None }) };
        if let Some(until) = lane.paused(now) {
            return Offer::Park(Parked { item, until: Some(until) });
        }
        let start = lane.nothing_waits() && has_slot && lane.has_place(now);
        let full = lane.waiting(class) >= self.cap(lane, class, now);
        let Some(lane) = self.lanes.get_mut(endpoint) else { return Offer::Park(Parked { item, until: None }) };
        lane.agree(terms);
        if start {
            lane.started(now);
            self.running[class.index()] += 1;
            return Offer::Start(item);
        }
        if full {
            return Offer::Park(Parked { item, until: None });
        }
        lane.wait(class, item);
        if lane.waiting(class) == 1 {
            self.crowded[class.index()] += 1;
            self.ready[class.index()].push_back(endpoint.clone());
        }
        Offer::Waits
    }

    /// An attempt of `class` to `endpoint` ended.
    pub fn finished(&mut self, endpoint: &Endpoint, class: Class, answered: bool, now: Duration) {
        self.running[class.index()] = self.running[class.index()].saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(endpoint) {
            lane.finished(answered, now);
        }
    }

    /// An attempt of `class` to `endpoint` that was handed out was not made.
    pub fn withdrawn(&mut self, endpoint: &Endpoint, class: Class) {
        self.running[class.index()] = self.running[class.index()].saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(endpoint) {
            lane.withdrawn();
        }
    }

    /// The next waiting item that may start, if any: classes in their order, lanes in turn. [`Lanes::finished`] must follow for each.
    pub fn next(&mut self, now: Duration) -> Option<T> {
        for class in Class::ALL {
            let mut look_at = self.ready[class.index()].len();
            while look_at > 0 && self.has_slot(class) {
                look_at -= 1;
                let Some(endpoint) = self.ready[class.index()].pop_front() else { break };
                let may_return = Class::ALL.map(|c| self.has_slot(c));
                let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
                let taken = if lane.has_place(now) { lane.next(class, |c| may_return[c.index()]) } else { None };
                if let Some((from, item)) = taken {
                    lane.started(now);
                    let left = lane.waiting(from);
                    self.running[from.index()] += 1;
                    if left == 0 {
                        self.crowded[from.index()] -= 1;
                        if from != class {
                            self.ready[from.index()].retain(|e| *e != endpoint);
                        }
                    }
                    if from != class || left > 0 {
                        self.ready[class.index()].push_back(endpoint);
                    }
                    return Some(item);
                }
                self.ready[class.index()].push_back(endpoint);
            }
        }
        None
    }

    /// The endpoint asked to be left alone until `until` (monotonic): what waits for it comes back to be parked.
    #[must_use]
    pub fn pause(&mut self, endpoint: &Endpoint, until: Duration) -> Vec<Parked<T>> {
        let Some(lane) = self.lanes.get_mut(endpoint) else { return Vec::new() };
        lane.pause(until);
        let until = Some(until);
        let parked = Class::ALL.into_iter().flat_map(|c| lane.trim(c, 0)).map(|item| Parked { item, until }).collect();
        self.recount();
        parked
    }

    /// What waits beyond its lane's share: lanes that stopped answering, or are no longer alone. Called each tick.
    #[must_use]
    pub fn trim(&mut self, now: Duration) -> Vec<Parked<T>> {
        let mut over: Vec<(Endpoint, Class, usize)> = Vec::new();
        for class in Class::ALL {
            for endpoint in &self.ready[class.index()] {
                if let Some(lane) = self.lanes.get(endpoint) {
                    let cap = self.cap(lane, class, now);
                    if lane.waiting(class) > cap {
                        over.push((endpoint.clone(), class, cap));
                    }
                }
            }
        }
        let mut parked = Vec::new();
        for (endpoint, class, cap) in over {
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                parked.extend(lane.trim(class, cap).into_iter().map(|item| Parked { item, until: None }));
            }
        }
        parked
    }

    /// Takes out every waiting item that `gone` names.
    #[must_use]
    pub fn take_out(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for lane in self.lanes.values_mut() {
            for class in Class::ALL {
                out.extend(lane.take_out(class, &gone));
            }
        }
        self.recount();
        out
    }

    /// Forgets idle lanes.
    pub fn sweep(&mut self, now: Duration) {
        self.lanes.retain(|_, lane| !lane.is_idle(now));
    }

    /// Every waiting item.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.lanes.values().flat_map(Lane::iter)
    }

    fn recount(&mut self) {
        for class in Class::ALL {
            let lanes = &self.lanes;
            self.ready[class.index()].retain(|e| lanes.get(e).is_some_and(|l| l.waiting(class) > 0));
            self.crowded[class.index()] = self.ready[class.index()].len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const LATER: Duration = Duration::from_secs(102);

    fn endpoint(name: &str) -> Endpoint {
        Endpoint(name.into())
    }

    const fn terms(limit: usize) -> Terms {
        Terms { limit, rate: None }
    }

    fn drain(lanes: &mut Lanes<u32>) -> Vec<u32> {
        std::iter::from_fn(|| lanes.next(NOW)).collect()
    }

    #[test]
    fn a_full_lane_of_an_endpoint_that_does_not_answer_parks_and_never_skips() {
        let mut lanes = Lanes::new(1000, 1_000_000);
        let a = endpoint("a");
        for n in 0..10 {
            assert_eq!(lanes.offer(&a, Class::Fresh, terms(10), n, NOW), Offer::Start(n));
        }
        for n in 10..50 {
            assert_eq!(lanes.offer(&a, Class::Fresh, terms(10), n, LATER), Offer::Waits);
        }
        assert_eq!(lanes.offer(&a, Class::Fresh, terms(10), 50, LATER), Offer::Park(Parked { item: 50, until: None }));
    }

    #[test]
    fn alone_and_answering_a_lane_holds_what_its_class_may_hold() {
        let mut lanes = Lanes::new(10, 100);
        let a = endpoint("a");
        assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), 0, NOW), Offer::Start(0));
        for n in 1..60 {
            assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), n, NOW), Offer::Waits);
        }
        assert!(lanes.trim(NOW).is_empty());
        assert_eq!(lanes.trim(LATER).len(), 55, "once it stops answering, all but the waiting room is parked");
    }

    #[test]
    fn beside_others_an_answering_lane_holds_three_halves_of_an_equal_share() {
        let mut lanes = Lanes::new(10, 1000);
        for (n, name) in ["a", "b", "c"].iter().enumerate() {
            let n = u32::try_from(n).unwrap();
            assert_eq!(lanes.offer(&endpoint(name), Class::Fresh, terms(1), n, NOW), Offer::Start(n));
            assert_eq!(lanes.offer(&endpoint(name), Class::Fresh, terms(1), n + 10, NOW), Offer::Waits);
        }
        let taken = (0..1000).take_while(|n| lanes.offer(&endpoint("a"), Class::Fresh, terms(1), *n, NOW) == Offer::Waits).count();
        assert_eq!(taken + 1, 300, "600 records of the class, three lanes, 3/2 of 200");
    }

    #[test]
    fn lanes_take_turns_and_a_class_keeps_to_its_share_of_the_slots() {
        let mut lanes = Lanes::new(10, 1000);
        let mut started = 0;
        for n in 0..8 {
            if matches!(lanes.offer(&endpoint("a"), Class::Fresh, terms(100), n, NOW), Offer::Start(_)) {
                started += 1;
            }
        }
        assert_eq!(started, 6, "60 % of ten slots");
        assert_eq!(lanes.offer(&endpoint("b"), Class::Fresh, terms(100), 100, NOW), Offer::Waits);
        assert_eq!(lanes.offer(&endpoint("b"), Class::Retry, terms(100), 200, NOW), Offer::Waits, "behind what waits");
        assert_eq!(drain(&mut lanes), [200]);
        lanes.finished(&endpoint("a"), Class::Fresh, true, NOW);
        lanes.finished(&endpoint("a"), Class::Fresh, true, NOW);
        assert_eq!(drain(&mut lanes), [6, 100], "each lane in its turn");
        assert_eq!(lanes.running(), 7);
    }

    #[test]
    fn a_pause_gives_back_what_waits_and_parks_what_comes_until_it_ends() {
        let mut lanes = Lanes::new(10, 1000);
        let a = endpoint("a");
        assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), 1, NOW), Offer::Start(1));
        assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), 2, NOW), Offer::Waits);
        assert_eq!(lanes.pause(&a, LATER), [Parked { item: 2, until: Some(LATER) }]);
        lanes.finished(&a, Class::Fresh, true, NOW);
        assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), 3, NOW), Offer::Park(Parked { item: 3, until: Some(LATER) }));
        assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), 4, LATER), Offer::Start(4));
        assert_eq!(drain(&mut lanes), [] as [u32; 0]);
    }

    #[test]
    fn what_is_taken_out_never_starts_and_idle_lanes_are_forgotten() {
        let mut lanes = Lanes::new(10, 1000);
        let a = endpoint("a");
        assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), 1, NOW), Offer::Start(1));
        for n in 2..6 {
            assert_eq!(lanes.offer(&a, Class::Fresh, terms(1), n, NOW), Offer::Waits);
        }
        assert_eq!(lanes.take_out(|n| n % 2 == 0), [2, 4]);
        lanes.finished(&a, Class::Fresh, true, NOW);
        assert_eq!(drain(&mut lanes), [3]);
        lanes.finished(&a, Class::Fresh, true, NOW);
        assert_eq!(drain(&mut lanes), [5]);
        lanes.finished(&a, Class::Fresh, true, NOW);
        lanes.sweep(LATER);
        assert!(lanes.lanes.is_empty() && lanes.running() == 0);
    }
}
