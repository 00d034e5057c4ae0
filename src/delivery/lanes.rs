//! All lanes and the attempt slots they share: who may start, who waits, who is parked (design §9). A state machine without IO,
//! owned by the engine.
//!
//! ```text
//!  offer ─► circuit open? ── yes ─► parked: back when it reopens, in its place of the queue; or the probe
//!              │ no
//!              ├─► place in the lane and a slot ─► started
//!              ├─► room to wait ─► waits; lanes take turns
//!              └─► parked: back at the lane's own pace
//! ```
//!
//! How much may wait: [`super::lines`].

use super::circuit::{Admission, CircuitSettings};
use super::lane::{Ended, Lane, Terms};
use super::lines::Lines;
use super::slots::Slots;
use super::waiting::Item;
use crate::domain::circuit::CircuitState;
use crate::domain::class::Class;
use crate::domain::registry::Endpoint;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::time::Duration;

/// How many times as long as its slot says a parked record may stay away, see [`behind`]: one turn of a one-minute tier replaces up to
/// eleven moves through a five-second one.
const LATER: u32 = 3;

/// What became of an offer.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Offer<T> {
    /// Start it now; [`Lanes::ended`] must follow.
    Start(T),
    /// It waits in its lane; [`Lanes::next`] will hand it out.
    Waits,
    /// No room: requeue it.
    Park(Parked<T>),
}

/// An item that its lane has no room for.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Parked<T> {
    /// The item.
    pub item: T,
    /// When it may come back: its slot (monotonic).
    pub slot: Duration,
    /// The latest time at which it may come back (monotonic): it comes later than its slot where that spares it moves, or spreads the load.
    pub latest: Duration,
    /// Why.
    pub cause: ParkCause,
}

/// Why an item is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkCause {
    /// The lane has no room, or its endpoint is silent.
    Full,
    /// The circuit is open, or the endpoint asked to be left alone.
    Closed,
}

/// What the end of an attempt has brought about.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Aftermath<T> {
    /// What waited, when the circuit has opened.
    pub parked: Vec<Parked<T>>,
    /// The circuit has opened.
    pub opened: bool,
}

/// Deterministic: the same events make the same order, which a simulation relies on. Endpoints come from the registry, not from outside.
type ByEndpoint<T> = HashMap<Endpoint, Lane<T>, BuildHasherDefault<DefaultHasher>>;

/// All lanes.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: ByEndpoint<T>,
    slots: Slots,
    lines: Lines,
    circuit: CircuitSettings,
}

impl<T: Item> Lanes<T> {
    /// No lanes yet; at most `max_running` attempts at once, and `max_records` records of `max_bytes` in memory, shared by class.
    #[must_use]
    pub fn new(max_running: usize, max_records: usize, max_bytes: usize, circuit: CircuitSettings) -> Self {
        Self { lanes: HashMap::default(), slots: Slots::new(max_running), lines: Lines::new(max_records, max_bytes), circuit }
    }

    /// Whether the registry names more than one endpoint.
    pub const fn set_contended(&mut self, contended: bool) {
        self.lines.contended = contended;
    }

    /// Attempts running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.slots.running()
    }

    /// An attempt of `item` starts whatever its lane says: a probe in an outage of our own. [`Lanes::ended`] must follow.
    pub fn force(&mut self, endpoint: &Endpoint, class: Class, terms: Terms, item: &T, now: Duration) {
        let lane = self.lanes.entry(endpoint.clone()).or_insert_with(|| Lane::new(terms));
        started(lane, &mut self.slots, class, item, now);
    }

    /// Offers `item` of `class` to the lane of `endpoint`.
    pub fn offer(&mut self, endpoint: &Endpoint, class: Class, terms: Terms, item: T, now: Duration) -> Offer<T> {
        if !self.lanes.contains_key(endpoint) {
            self.lanes.insert(endpoint.clone(), Lane::new(terms));
        }
        let Some(lane) = self.lanes.get_mut(endpoint) else {
            return Offer::Park(Parked { item, slot: now, latest: now, cause: ParkCause::Full });
        };
        lane.agree(terms);
        if let Some(until) = lane.paused(now) {
            // One that is due by its own schedule may be the probe before the circuit reopens.
            let reopens = lane.circuit().reopens().filter(|_| !item.by_schedule());
            let until = until.max(reopens.unwrap_or_default());
            return Offer::Park(behind(lane, item, until, &self.circuit, now));
        }
        let probes = match lane.admits(item.by_schedule(), &self.circuit, now) {
            Admission::Free => false,
            Admission::Probe => true,
            Admission::Closed(again) if item.by_schedule() => {
                let slot = lane.turned_away(&self.circuit, now).max(again);
                return Offer::Park(Parked { item, slot, latest: slot, cause: ParkCause::Closed });
            }
            Admission::Closed(reopens) => {
                return Offer::Park(behind(lane, item, reopens, &self.circuit, now));
            }
        };
        let first = probes || lane.waiting.is_empty();
        if first && (probes || lane.has_place(now)) && self.slots.has_for(class, lane.standing(now), now) {
            if probes {
                lane.probe(item.record(), item.timeout(), now);
            }
            started(lane, &mut self.slots, class, &item, now);
            return Offer::Start(item);
        }
        if probes {
            // A probe that finds no slot: nothing waits for an endpoint whose circuit is open.
            let slot = if item.by_schedule() { lane.turned_away(&self.circuit, now) } else { lane.postpone(now) };
            return Offer::Park(Parked { item, slot, latest: slot, cause: ParkCause::Closed });
        }
        let cap = self.lines.cap(lane, class, now);
        let fits = lane.waiting.count(class) < cap.0 && lane.waiting.bytes(class).saturating_add(item.cost()) <= cap.1;
        if !fits {
            return Offer::Park(crowded_out(lane, item, &self.circuit, now));
        }
        self.lines.waits(endpoint, lane, class, item, now);
        Offer::Waits
    }

    /// An attempt to `endpoint` ended.
    pub fn ended(&mut self, endpoint: &Endpoint, ended: &Ended, now: Duration) -> Aftermath<T> {
        self.slots.freed(ended.class);
        let Some(lane) = self.lanes.get_mut(endpoint) else { return Aftermath { parked: Vec::new(), opened: false } };
        let served = lane.served();
        let opened = lane.ended(ended, &self.circuit, now);
        self.lines.served += lane.served() - served;
        let (from, to) = lane.recount(now);
        self.slots.recount(from, to);
        let parked = if opened { self.empty(endpoint, now) } else { Vec::new() };
        Aftermath { parked, opened }
    }

    /// The next waiting item that may start, if any: classes in their order, lanes in turn. [`Lanes::ended`] must follow for each.
    pub fn next(&mut self, now: Duration) -> Option<T> {
        for class in Class::ALL {
            let mut look_at = self.lines.ready[class.index()].len();
            while look_at > 0 && self.slots.has(class, now) {
                look_at -= 1;
                let Some(endpoint) = self.lines.ready[class.index()].pop_front() else { break };
                let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
                let standing = lane.standing(now);
                let may_start = Class::ALL.map(|c| self.slots.has_for(c, standing, now));
                let free = lane.has_place(now) && may_start[class.index()];
                let taken = if free { lane.waiting.next(class, |c| may_start[c.index()]) } else { None };
                let Some((from, item)) = taken else {
                    self.lines.ready[class.index()].push_back(endpoint);
                    continue;
                };
                started(lane, &mut self.slots, from, &item, now);
                self.lines.left(from, item.cost());
                let left = lane.waiting.count(from);
                if left == 0 && from != class {
                    self.lines.ready[from.index()].retain(|e| *e != endpoint);
                }
                if from != class || left > 0 {
                    self.lines.ready[class.index()].push_back(endpoint);
                }
                return Some(item);
            }
        }
        None
    }

    /// The endpoint asked to be left alone until `until` (monotonic): what waits for it comes back to be parked.
    #[must_use]
    pub fn pause(&mut self, endpoint: &Endpoint, until: Duration, now: Duration) -> Vec<Parked<T>> {
        let Some(lane) = self.lanes.get_mut(endpoint) else { return Vec::new() };
        lane.pause(until);
        self.empty(endpoint, now)
    }

    /// What waits for an endpoint whose circuit has opened, or that asked to be left alone.
    fn empty(&mut self, endpoint: &Endpoint, now: Duration) -> Vec<Parked<T>> {
        let Some(lane) = self.lanes.get_mut(endpoint) else { return Vec::new() };
        let again = lane.circuit().reopens().max(lane.paused(now)).unwrap_or_default();
        let mut parked = Vec::new();
        for class in Class::ALL {
            for item in lane.waiting.trim(class, (0, 0)) {
                parked.push(behind(lane, item, again, &self.circuit, now));
            }
        }
        self.recount();
        parked
    }

    /// Looks at what changes with time alone: circuits that silence opens, and lanes where more waits than they may hold now. To be called
    /// a few times a second; what it returns is to be parked.
    #[must_use]
    pub fn watch(&mut self, now: Duration) -> Vec<Parked<T>> {
        let mut opened = Vec::new();
        for (endpoint, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.running() > 0) {
            let (from, to) = lane.recount(now);
            self.slots.recount(from, to);
            if lane.open_if_silent(&self.circuit, now) {
                opened.push(endpoint.clone());
            }
        }
        let mut parked: Vec<Parked<T>> = opened.iter().flat_map(|endpoint| self.empty(endpoint, now)).collect();
        for class in Class::ALL {
            for endpoint in &self.lines.ready[class.index()] {
                let Some(lane) = self.lanes.get_mut(endpoint) else { continue };
                let cap = self.lines.cap(lane, class, now);
                for item in lane.waiting.trim(class, cap) {
                    parked.push(crowded_out(lane, item, &self.circuit, now));
                }
            }
        }
        self.recount();
        parked
    }

    /// Takes out every waiting item that `gone` names.
    #[must_use]
    pub fn take_out(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for lane in self.lanes.values_mut() {
            for class in Class::ALL {
                out.extend(lane.waiting.take_out(class, &gone));
            }
        }
        self.recount();
        out
    }

    /// Recent failures were our own fault: circuits reopen, and attempts come back little by little.
    pub fn restart(&mut self, now: Duration) {
        self.slots.restart(now);
        for lane in self.lanes.values_mut() {
            lane.forgive(&self.circuit, now);
        }
    }

    /// Forgets idle lanes, and ages what the others answered. To be called each second.
    pub fn sweep(&mut self, now: Duration) {
        self.lanes.retain(|_, lane| !lane.is_idle(now));
        self.lines.served = 0.0;
        for lane in self.lanes.values_mut() {
            lane.age();
            self.lines.served += lane.served();
        }
    }

    /// How many endpoints are known, by the state of their circuits.
    #[must_use]
    pub fn circuits(&self) -> [(CircuitState, usize); 3] {
        CircuitState::ALL.map(|state| (state, self.lanes.values().filter(|lane| lane.circuit().state() == state).count()))
    }

    /// Every waiting item.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.lanes.values().flat_map(|lane| lane.waiting.iter())
    }

    fn recount(&mut self) {
        let lanes = &self.lanes;
        self.lines.recount(|endpoint, class| lanes.get(endpoint).map_or((0, 0), |l| (l.waiting.count(class), l.waiting.bytes(class))));
    }
}

/// Parks `item` until its slot in the queue, at the earliest when the endpoint may be called again (`earliest`). The first in the queue
/// comes back just then; those behind it may stay away [`LATER`] times as long, but later by the longest pause at most. (Where the endpoint
/// itself said until when, nobody stays away longer.)
fn behind<T: Item>(lane: &mut Lane<T>, item: T, earliest: Duration, settings: &CircuitSettings, now: Duration) -> Parked<T> {
    let slot = lane.slot(earliest);
    let exact = slot == earliest || lane.paused(now).is_some();
    let later = if exact { Duration::ZERO } else { (slot.saturating_sub(now) * (LATER - 1)).min(settings.max_pause) };
    Parked { item, slot, latest: slot + later, cause: ParkCause::Closed }
}

/// Parks `item` because its lane has no room for it. Where its endpoint was tried in vain it may come back up to a quarter later.
fn crowded_out<T: Item>(lane: &mut Lane<T>, item: T, settings: &CircuitSettings, now: Duration) -> Parked<T> {
    let slot = lane.slot_when_full(item.by_schedule(), settings, now);
    let later = if lane.is_in_vain(now) { slot.saturating_sub(now) / 4 } else { Duration::ZERO };
    Parked { item, slot, latest: slot + later, cause: ParkCause::Full }
}

fn started<T: Item>(lane: &mut Lane<T>, slots: &mut Slots, class: Class, item: &T, now: Duration) {
    lane.started(class, item.timeout(), now);
    slots.taken(class);
    let (from, to) = lane.recount(now);
    slots.recount(from, to);
}

#[cfg(test)]
mod tests {
    use super::super::lane::Reply;
    use super::super::lines::budget;
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const CIRCUIT: CircuitSettings = CircuitSettings { failures: 5, pause: Duration::from_secs(5), max_pause: Duration::from_secs(600) };

    /// Tried before from 1,000,000 on.
    impl Item for u32 {
        fn record(&self) -> u64 {
            u64::from(*self)
        }
        fn cost(&self) -> usize {
            1000
        }
        fn by_schedule(&self) -> bool {
            *self >= 1_000_000
        }
        fn timeout(&self) -> Duration {
            Duration::from_secs(20)
        }
    }

    fn endpoint(name: &str) -> Endpoint {
        Endpoint(name.into())
    }

    const fn terms(limit: usize) -> Terms {
        Terms { limit, rate: None }
    }

    fn after(ms: u64) -> Duration {
        NOW + Duration::from_millis(ms)
    }

    fn lanes(max_running: usize, max_records: usize) -> Lanes<u32> {
        let mut lanes = Lanes::new(max_running, max_records, max_records * 100_000, CIRCUIT);
        lanes.set_contended(true);
        lanes
    }

    fn offer(lanes: &mut Lanes<u32>, name: &str, class: Class, item: u32, now: Duration) -> Offer<u32> {
        lanes.offer(&endpoint(name), class, terms(32), item, now)
    }

    fn fresh(lanes: &mut Lanes<u32>, name: &str, item: u32, now: Duration) -> Offer<u32> {
        offer(lanes, name, Class::Fresh, item, now)
    }

    fn end(lanes: &mut Lanes<u32>, name: &str, record: u64, reply: Reply, started: Duration, now: Duration) -> Vec<Parked<u32>> {
        lanes.ended(&endpoint(name), &Ended { class: Class::Fresh, record, reply, started }, now).parked
    }

    /// Answers once, as fast as `took` milliseconds.
    fn proven(lanes: &mut Lanes<u32>, name: &str, took: u64) {
        let started = NOW - Duration::from_millis(took);
        assert_eq!(fresh(lanes, name, 0, started), Offer::Start(0));
        assert!(end(lanes, name, 0, Reply::Accepted, started, NOW).is_empty());
    }

    fn drain(lanes: &mut Lanes<u32>, now: Duration) -> Vec<u32> {
        std::iter::from_fn(|| lanes.next(now)).collect()
    }

    fn park_slots(offers: impl Iterator<Item = Offer<u32>>) -> Vec<u64> {
        let slot = |offer| match offer {
            Offer::Park(parked) => u64::try_from((parked.slot - NOW).as_millis()).unwrap(),
            Offer::Start(_) | Offer::Waits => panic!("{offer:?}"),
        };
        offers.map(slot).collect()
    }

    #[test]
    fn a_new_endpoint_has_two_attempts_and_what_comes_meanwhile_waits() {
        let mut lanes = lanes(1000, 16_000);
        let offers: Vec<_> = (0..5).map(|n| fresh(&mut lanes, "a", n, NOW)).collect();
        assert_eq!(offers, [Offer::Start(0), Offer::Start(1), Offer::Waits, Offer::Waits, Offer::Waits]);
    }

    #[test]
    fn nothing_waits_for_an_endpoint_tried_in_vain() {
        let mut lanes = lanes(1000, 16_000);
        for n in 0..10 {
            let _ = fresh(&mut lanes, "a", n, NOW);
        }
        assert!(lanes.watch(after(19_000)).is_empty(), "silent, but there is memory enough");
        let _ = end(&mut lanes, "a", 0, Reply::TimedOut, NOW, after(20_000));
        let parked = lanes.watch(after(20_000));
        assert_eq!((parked.len(), lanes.waiting().count()), (8, 0));
        assert!(parked.iter().all(|p| p.cause == ParkCause::Full));
        assert!(matches!(fresh(&mut lanes, "a", 10, after(20_001)), Offer::Park(_)));
        let returning = (0..9).map(|n| offer(&mut lanes, "a", Class::Retry, 1_000_000 + n, after(20_001)));
        assert_eq!(returning.filter(|offer| *offer == Offer::Waits).count(), 4, "four times the one that may run");
    }

    #[test]
    fn when_memory_is_scarce_a_silent_endpoint_has_its_waiting_room_only() {
        let mut lanes = lanes(1000, 100);
        lanes.set_contended(false);
        for n in 0..50 {
            let _ = (fresh(&mut lanes, "a", n, NOW), fresh(&mut lanes, "b", n, NOW));
        }
        let _ = lanes.watch(after(3000));
        assert_eq!(lanes.waiting().count(), 16, "four times two, twice");
    }

    #[test]
    fn a_healthy_endpoint_that_is_the_only_one_stalls_intake_instead_of_parking() {
        let mut lanes = lanes(100, 1000);
        lanes.set_contended(false);
        proven(&mut lanes, "a", 50);
        let parked = (1..5000).filter(|n| matches!(fresh(&mut lanes, "a", *n, NOW), Offer::Park(_))).count();
        assert_eq!(parked, 0);
    }

    #[test]
    fn where_others_could_be_behind_it_a_lane_holds_what_it_answers_in_four_seconds_once_memory_is_scarce() {
        let mut lanes = lanes(1000, 16_000);
        for n in 0..20 {
            proven(&mut lanes, "slow", n);
        }
        let waits = (1..9000).filter(|n| fresh(&mut lanes, "slow", *n, NOW) == Offer::Waits).count();
        assert_eq!(waits, 8997, "its pace is not known yet");
        (0..2).for_each(|n| assert!(end(&mut lanes, "slow", n, Reply::Accepted, NOW, after(3990)).is_empty()));
        assert_eq!(lanes.watch(after(4000)).len(), 8997 - 44, "22 answers of late are eleven a second");
    }

    #[test]
    fn when_memory_is_scarce_it_goes_where_it_is_soon_free_again() {
        let mut lanes = lanes(1000, 10_000);
        (0..900).for_each(|_| proven(&mut lanes, "fast", 1));
        (0..100).for_each(|_| proven(&mut lanes, "slow", 1));
        for n in 0..3000 {
            let _ = (fresh(&mut lanes, "slow", n, NOW), fresh(&mut lanes, "fast", n, NOW));
        }
        for name in ["slow", "fast"] {
            (0..2).for_each(|n| assert!(end(&mut lanes, name, n, Reply::Accepted, NOW, after(3990)).is_empty()));
        }
        let _ = lanes.watch(after(4000));
        let waiting = |name: &str| lanes.lanes[&endpoint(name)].waiting.count(Class::Fresh);
        assert_eq!(waiting("slow"), 204, "a tenth of the answers: 102 of late are 51 a second");
        assert_eq!(waiting("fast"), 1804);
    }

    #[test]
    fn large_records_are_parked_by_their_bytes() {
        let mut lanes = Lanes::new(1000, 16_000, 100_000, CIRCUIT);
        lanes.set_contended(true);
        proven(&mut lanes, "a", 1);
        proven(&mut lanes, "b", 1);
        for n in 0..100 {
            let _ = (fresh(&mut lanes, "a", n, NOW), fresh(&mut lanes, "b", n, NOW));
        }
        assert_eq!(lanes.waiting().count(), 90, "three halves of 60 kB, a thousand bytes each");
    }

    #[test]
    fn what_is_parked_comes_back_one_after_the_other_at_the_lanes_pace() {
        let mut lanes = lanes(1000, 16_000);
        proven(&mut lanes, "slow", 1000);
        while !matches!(fresh(&mut lanes, "slow", 1, NOW), Offer::Park(_)) {}
        let slots = park_slots((0..4).map(|n| fresh(&mut lanes, "slow", n, NOW)));
        let gaps: Vec<u64> = slots.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (31..=32).contains(gap)), "a second over 32: {slots:?}");
    }

    #[test]
    fn an_open_circuit_parks_until_it_reopens_in_the_order_of_the_queue_and_lets_one_probe_go() {
        let mut lanes = lanes(1000, 16_000);
        for n in 0..5 {
            assert_eq!(fresh(&mut lanes, "a", n, NOW), Offer::Start(n));
            let _ = end(&mut lanes, "a", u64::from(n), Reply::Failed, NOW, NOW);
        }
        assert_eq!(lanes.circuits().map(|(_, n)| n), [0, 1, 0]);
        let slots = park_slots((10..13).map(|n| fresh(&mut lanes, "a", n, NOW)));
        assert!(slots[0] == 5000 && slots.is_sorted(), "{slots:?}");
        assert_eq!(fresh(&mut lanes, "a", 13, after(5000)), Offer::Start(13), "the probe");
        assert!(matches!(fresh(&mut lanes, "a", 14, after(5001)), Offer::Park(p) if p.slot >= after(10_000)));
        assert_eq!(lanes.circuits().map(|(_, n)| n), [0, 0, 1]);
        let _ = end(&mut lanes, "a", 13, Reply::Accepted, after(5000), after(5100));
        assert_eq!(fresh(&mut lanes, "a", 15, after(5200)), Offer::Start(15));
    }

    #[test]
    fn a_record_due_by_its_own_schedule_goes_as_the_probe_of_an_open_circuit() {
        let mut lanes = lanes(1000, 16_000);
        for n in 0..5 {
            let _ = fresh(&mut lanes, "a", n, NOW);
            let _ = end(&mut lanes, "a", u64::from(n), Reply::Broken, NOW, NOW);
        }
        assert!(matches!(fresh(&mut lanes, "a", 9, after(1000)), Offer::Park(_)), "never tried: it waits for the reopening");
        assert_eq!(offer(&mut lanes, "a", Class::Retry, 1_000_001, after(1000)), Offer::Start(1_000_001));
        let slots = park_slots([1_000_002, 1_000_003].into_iter().map(|n| offer(&mut lanes, "a", Class::Retry, n, after(1001))));
        assert_eq!(slots, [6001, 6001], "one at a time; the others when it is known what became of it, not behind those never tried");
        let _ = end(&mut lanes, "a", 1_000_001, Reply::TimedOut, after(1000), after(21_000));
        assert_eq!(offer(&mut lanes, "a", Class::Retry, 1_000_002, after(21_000)), Offer::Start(1_000_002));
        let slots = park_slots([1_000_003].into_iter().map(|n| offer(&mut lanes, "a", Class::Retry, n, after(21_001))));
        assert_eq!(slots, [41_000], "the last one took twenty seconds");
    }

    #[test]
    fn when_a_circuit_opens_nothing_is_left_waiting() {
        let mut lanes = lanes(1000, 16_000);
        for n in 0..50 {
            let _ = fresh(&mut lanes, "a", n, NOW);
        }
        let mut parked = Vec::new();
        for n in 0..5 {
            parked.extend(end(&mut lanes, "a", n, Reply::Failed, NOW, NOW));
        }
        assert_eq!((parked.len(), lanes.waiting().count()), (48, 0));
        assert!(parked.iter().all(|p| p.cause == ParkCause::Closed && p.slot >= after(5000)));
        assert_eq!((parked[0].slot, parked[0].latest), (after(5000), after(5000)), "the first comes when it reopens, and finds out");
        assert!(parked[1..].iter().all(|p| p.latest == NOW + (p.slot - NOW) * 3), "{parked:?}");
    }

    #[test]
    fn endpoints_that_do_not_answer_leave_the_others_their_slots() {
        let mut lanes = lanes(1024, 16 * 1024);
        for n in 0..490 {
            proven(&mut lanes, &format!("well-{n}"), 5);
        }
        for round in 0..100 {
            for n in 0..210 {
                let _ = fresh(&mut lanes, &format!("hangs-{n}"), round, NOW);
            }
        }
        let hanging = lanes.running();
        assert!(hanging <= 256, "{hanging} of 1024");
        let started = (0..490).filter(|n| matches!(fresh(&mut lanes, &format!("well-{n}"), 7, NOW), Offer::Start(_))).count();
        assert_eq!(started, (614 - hanging).min(490), "what is left of the class's share");
    }

    #[test]
    fn an_endpoint_that_was_never_tried_finds_a_slot_beside_those_tried_in_vain() {
        let mut lanes = lanes(1024, 16 * 1024);
        for n in 0..210 {
            let _ = fresh(&mut lanes, &format!("hangs-{n}"), 0, NOW);
            let _ = fresh(&mut lanes, &format!("hangs-{n}"), 1, NOW);
        }
        assert!(matches!(fresh(&mut lanes, "new", 1, NOW), Offer::Start(_)));
    }

    #[test]
    fn endpoints_that_nobody_has_heard_of_do_not_hold_the_memory_of_their_class() {
        for class in [Class::Fresh, Class::Retry] {
            let mut lanes = lanes(1024, 16 * 1024);
            for round in 0..4 {
                for n in 0..3000 {
                    let _ = offer(&mut lanes, &format!("hangs-{n}"), class, round, NOW);
                }
            }
            let _ = lanes.watch(after(3100));
            for n in 0..3000 {
                let _ = offer(&mut lanes, &format!("hangs-{n}"), class, 9, after(3200));
            }
            let most = budget(16 * 1024, class) / 2;
            assert!(lanes.waiting().count() <= most, "{class}: {} wait, {most} are half", lanes.waiting().count());
        }
    }

    #[test]
    fn a_retry_queue_that_its_endpoint_cannot_serve_leaves_the_others_memory() {
        let mut lanes = lanes(1024, 16 * 1024);
        proven(&mut lanes, "slow", 1000);
        let waits = (0..5000).filter(|n| offer(&mut lanes, "slow", Class::Retry, *n, after(4000)) == Offer::Waits).count();
        assert!(waits < 1300, "{waits} wait, and intake holds 2,458 of the class");
    }

    #[test]
    fn a_circuit_whose_probe_finds_no_slot_stays_open_for_another_pause() {
        let mut lanes = lanes(16, 1000);
        for n in 0..5 {
            let _ = fresh(&mut lanes, "dead", n, NOW);
            let _ = end(&mut lanes, "dead", u64::from(n), Reply::Broken, NOW, NOW);
        }
        assert_eq!(fresh(&mut lanes, "hangs", 0, NOW), Offer::Start(0));
        let _ = end(&mut lanes, "hangs", 0, Reply::TimedOut, NOW, after(100));
        assert_eq!(fresh(&mut lanes, "hangs", 1, after(200)), Offer::Start(1), "the one slot for endpoints tried in vain");
        let slots = park_slots((10..13).map(|n| fresh(&mut lanes, "dead", n, after(5000))));
        assert!(slots.iter().all(|slot| *slot >= 10_000), "behind the next reopening, not at once again: {slots:?}");
        let _ = end(&mut lanes, "hangs", 1, Reply::TimedOut, after(200), after(9000));
        assert_eq!(fresh(&mut lanes, "dead", 13, after(10_000)), Offer::Start(13));
    }

    #[test]
    fn the_one_that_found_no_slot_for_a_probe_is_the_probe_within_a_minute_and_the_others_come_behind() {
        let mut lanes = Lanes::new(16, 1000, 100_000_000, CircuitSettings { pause: Duration::from_secs(600), ..CIRCUIT });
        lanes.set_contended(true);
        for n in 0..5 {
            let _ = fresh(&mut lanes, "dead", n, NOW);
            let _ = end(&mut lanes, "dead", u64::from(n), Reply::Broken, NOW, NOW);
        }
        assert_eq!(fresh(&mut lanes, "hangs", 0, after(500_000)), Offer::Start(0));
        let _ = end(&mut lanes, "hangs", 0, Reply::TimedOut, after(500_000), after(520_000));
        assert_eq!(fresh(&mut lanes, "hangs", 1, after(599_000)), Offer::Start(1), "the one slot for endpoints tried in vain");
        let slots = park_slots((10..13).map(|n| fresh(&mut lanes, "dead", n, after(600_000))));
        assert_eq!(slots[0], 660_000);
        assert!(slots[1..].iter().all(|slot| *slot >= 1_200_000), "{slots:?}");
    }

    #[test]
    fn lanes_take_turns() {
        let mut lanes = lanes(10, 1000);
        for name in ["a", "b"] {
            proven(&mut lanes, name, 1);
        }
        for n in 0..8 {
            let _ = fresh(&mut lanes, "a", n, NOW);
        }
        for n in 100..104 {
            let _ = fresh(&mut lanes, "b", n, NOW);
        }
        for n in 0..4 {
            let _ = end(&mut lanes, if n < 2 { "a" } else { "b" }, 0, Reply::Accepted, NOW, NOW);
        }
        assert_eq!(drain(&mut lanes, NOW), [2, 102, 3, 103, 4], "a may run three by now, b as many");
    }

    #[test]
    fn a_pause_gives_back_what_waits_and_parks_what_comes_until_it_ends() {
        let mut lanes = lanes(1000, 16_000);
        assert_eq!((fresh(&mut lanes, "a", 1, NOW), fresh(&mut lanes, "a", 2, NOW)), (Offer::Start(1), Offer::Start(2)));
        assert_eq!(fresh(&mut lanes, "a", 3, NOW), Offer::Waits);
        assert_eq!(fresh(&mut lanes, "a", 4, NOW), Offer::Waits);
        let parked = lanes.pause(&endpoint("a"), after(2000), NOW);
        assert_eq!(parked[0], Parked { item: 3, slot: after(2000), latest: after(2000), cause: ParkCause::Closed });
        assert!(parked[1].slot > after(2000) && parked[1].latest == parked[1].slot, "no later than it asked for and its turn: {parked:?}");
        let _ = end(&mut lanes, "a", 1, Reply::Overloaded, NOW, NOW);
        assert!(matches!(fresh(&mut lanes, "a", 4, NOW), Offer::Park(Parked { item: 4, cause: ParkCause::Closed, .. })));
        let _ = end(&mut lanes, "a", 2, Reply::Accepted, NOW, NOW);
        assert_eq!(fresh(&mut lanes, "a", 5, after(2000)), Offer::Start(5));
        assert_eq!(drain(&mut lanes, after(2000)), [] as [u32; 0]);
    }

    #[test]
    fn what_was_tried_before_waits_for_the_end_of_a_pause_and_not_for_the_circuit() {
        let mut lanes = lanes(1000, 16_000);
        for n in 0..5 {
            let _ = fresh(&mut lanes, "a", n, NOW);
            let _ = end(&mut lanes, "a", u64::from(n), Reply::Overloaded, NOW, NOW);
        }
        assert!(lanes.pause(&endpoint("a"), after(1000), NOW).is_empty());
        let slots = park_slots([1_000_001, 10].into_iter().map(|n| offer(&mut lanes, "a", Class::Retry, n, NOW)));
        assert_eq!(slots, [1000, 5000], "one that was never tried waits for both");
        let again = offer(&mut lanes, "a", Class::Retry, 1_000_001, after(1000));
        assert_eq!(again, Offer::Start(1_000_001), "as the probe");
    }

    #[test]
    fn after_a_restart_attempts_come_back_little_by_little() {
        let mut lanes = lanes(1000, 16_000);
        (0..40).for_each(|n| proven(&mut lanes, &format!("a{n}"), 5));
        lanes.restart(NOW);
        let started = (0..40).filter(|n| matches!(fresh(&mut lanes, &format!("a{n}"), *n, NOW), Offer::Start(_))).count();
        assert_eq!(started, 16);
        assert_eq!(drain(&mut lanes, after(1000)).len(), 16);
        assert_eq!(drain(&mut lanes, after(2000)).len(), 8);
    }

    #[test]
    fn what_is_taken_out_never_starts_and_idle_lanes_are_forgotten() {
        let mut lanes = lanes(1000, 16_000);
        for n in 1..7 {
            let _ = fresh(&mut lanes, "a", n, NOW);
        }
        assert_eq!(lanes.take_out(|n| n % 2 == 0), [4, 6]);
        for record in 1..3 {
            let _ = end(&mut lanes, "a", record, Reply::Accepted, NOW, NOW);
        }
        assert_eq!(drain(&mut lanes, NOW), [3, 5]);
        for record in [3, 5] {
            let _ = end(&mut lanes, "a", record, Reply::Accepted, NOW, NOW);
        }
        lanes.sweep(NOW + Duration::from_secs(599));
        assert_eq!(lanes.lanes.len(), 1);
        lanes.sweep(NOW + Duration::from_secs(600));
        assert!(lanes.lanes.is_empty() && lanes.running() == 0);
    }
}
