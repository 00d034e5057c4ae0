//! The world of one run: who may take a step is drawn, time moves on when nobody can, faults come when the plan says.

use super::super::super::checker::{Cause, Disturbance, Drain, End, Endpoint, Expect, Exposure, Fact, History, Produced, Replayed, Rules};
use super::broker::{Broker, Place, class_of};
use super::plan::{EventKind, EventPlan, Fault, Plan};
use super::receivers::{self, Manner, Receivers};
use super::replica::{Part, Replica, Surroundings};
use super::time::{Timeline, millis};
use super::trace::Trace;
use crate::domain::class::Class;
use crate::domain::headers::{name, replay_headers};
use crate::domain::record::Header;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long after its member was last heard of a session ends (design §10).
const SESSION: Duration = Duration::from_secs(10);
/// How long after calm has come all must be quiet.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// How long a fault may make somebody late.
const AFTERMATH: Duration = Duration::from_secs(25);
/// More steps than any run needs.
const MOST_STEPS: u64 = 500_000;

/// What is to happen at a time.
enum Due {
    Event(EventPlan),
    Fault(Fault),
    Start,
    Wake(u64),
    ClockBack(u64),
    MoodBack,
    Expire,
    Recreate,
    ForeignMaps,
    Calm,
}

/// A run under way.
pub(super) struct World {
    plan: Plan,
    around: Surroundings,
    pub(super) trace: Rc<Trace>,
    chance: fastrand::Rng,
    replicas: Vec<Replica>,
    numbers: u64,
    due: BTreeMap<(Duration, u64), Due>,
    /// Replicas to be killed, each after a number of steps.
    condemned: Vec<(u64, u32)>,
    reloads: u32,
    refused: bool,
    calm: bool,
    facts: Vec<Fact>,
    pub(super) quiet: bool,
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

impl World {
    pub(super) fn new(plan: Plan, with_lines: bool) -> Self {
        let timeline = Timeline::new(plan.grain);
        let trace = Rc::new(Trace::new(with_lines));
        let mut broker = Broker::new(&timeline, &trace, plan.seed ^ 0xb0);
        broker.gaps = plan.gaps;
        broker.create("source", plan.partitions);
        for tier in plan.settings.tiers.iter() {
            broker.create(&tier.topic, plan.partitions);
        }
        broker.create("callbackd.replay", plan.partitions);
        broker.create("callbackd.dead-letter", 1);
        let receivers = Receivers {
            timeline: Rc::clone(&timeline),
            trace: Rc::clone(&trace),
            chance: fastrand::Rng::with_seed(plan.seed ^ 0xec),
            manners: plan.endpoints.iter().map(|e| (e.host.clone(), e.manner)).collect(),
            requests: Vec::new(),
            bodies: HashMap::new(),
            running: 0,
        };
        let around = Surroundings {
            timeline,
            broker: Rc::new(RefCell::new(broker)),
            receivers: Rc::new(RefCell::new(receivers)),
            registry: Arc::new(ArcSwap::from_pointee(plan.registry(0))),
            settings: plan.settings.clone(),
        };
        let mut world = Self {
            chance: fastrand::Rng::with_seed(plan.seed ^ 0x40),
            around,
            trace,
            replicas: Vec::new(),
            numbers: 0,
            due: BTreeMap::new(),
            condemned: Vec::new(),
            reloads: 0,
            refused: false,
            calm: false,
            facts: Vec::new(),
            quiet: false,
            plan,
        };
        for (at, event) in world.plan.events.clone() {
            world.at(at, Due::Event(event));
        }
        for (at, fault) in world.plan.faults.clone() {
            world.at(at, Due::Fault(fault));
        }
        world.at(world.plan.calm, Due::Calm);
        for _ in 0..world.plan.replicas {
            world.start();
        }
        world
    }

    pub(super) fn now(&self) -> Duration {
        self.around.timeline.now()
    }

    fn at(&mut self, at: Duration, what: Due) {
        self.numbers += 1;
        self.due.insert((at, self.numbers), what);
    }

    fn after(&mut self, millis: u64, what: Due) {
        self.at(self.now() + Duration::from_millis(millis), what);
    }

    fn start(&mut self) {
        self.numbers += 1;
        let (number, seed) = (self.numbers, self.chance.u64(..));
        self.trace.note(self.now(), "start", number, || format!("r{number}"));
        self.replicas.push(Replica::start(number, seed, &self.around));
    }

    /// Runs until all is quiet, or patience ends.
    pub(super) fn run(&mut self) {
        let mut runnable: Vec<(usize, Part)> = Vec::new();
        let mut looked = Duration::ZERO;
        while self.trace.steps() < MOST_STEPS {
            runnable.clear();
            let now = self.now();
            for (at, replica) in self.replicas.iter_mut().enumerate() {
                replica.runnable(now, &mut runnable, at);
            }
            if let Some((at, part)) = self.chance.choice(&runnable).copied() {
                let number = self.replicas[at].number;
                self.trace
                    .step(now, number * 8 + part_number(part), || format!("r{number} {part:?} {}", self.replicas[at].waits_for(part)));
                self.replicas[at].step(part, &self.around.timeline);
                self.bury_the_dead();
                continue;
            }
            if self.calm && now >= looked + Duration::from_secs(1) {
                looked = now;
                if self.is_quiet() {
                    self.quiet = true;
                    return;
                }
                if now > self.plan.calm + PATIENCE {
                    return;
                }
            }
            if !self.advance() {
                return;
            }
            while let Some(first) = self.due.first_entry().filter(|e| e.key().0 <= self.around.timeline.now()) {
                let what = first.remove();
                self.happens(what);
            }
        }
    }

    /// SIGTERM to all; runs until they have ended.
    pub(super) fn drain_all(&mut self) {
        let now = self.now();
        self.replicas.iter_mut().for_each(|r| r.drain(now));
        self.calm = false;
        self.plan.calm = now;
        let until = now + Duration::from_secs(60);
        self.at(until, Due::Calm);
        while !self.replicas.is_empty() && self.now() < until {
            self.step_or_advance();
        }
    }

    fn step_or_advance(&mut self) {
        let (mut runnable, now) = (Vec::new(), self.now());
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            replica.runnable(now, &mut runnable, at);
        }
        if let Some((at, part)) = self.chance.choice(&runnable).copied() {
            self.replicas[at].step(part, &self.around.timeline);
            self.bury_the_dead();
            return;
        }
        self.advance();
    }

    /// Goes to the next moment at which anything happens; false when nothing will.
    fn advance(&mut self) -> bool {
        let next = [
            self.around.timeline.next(),
            self.around.broker.borrow().next(),
            self.due.keys().next().map(|(at, _)| *at),
            self.replicas.iter().filter_map(Replica::next).min(),
        ];
        let Some(next) = next.into_iter().flatten().min() else { return false };
        self.around.timeline.advance(next);
        self.around.broker.borrow_mut().work();
        true
    }

    fn is_quiet(&self) -> bool {
        let broker = self.around.broker.borrow();
        let all_committed = broker.stands().iter().all(|(_, _, committed, end)| committed.unwrap_or(0) == *end);
        all_committed && !broker.appends_under_way() && self.around.receivers.borrow().running == 0 && self.due.is_empty()
    }

    /// Removes replicas that ended by themselves or are to be killed now.
    fn bury_the_dead(&mut self) {
        for (_, steps) in &mut self.condemned {
            *steps = steps.saturating_sub(1);
        }
        while let Some(at) = self.condemned.iter().position(|(_, steps)| *steps == 0) {
            let (number, _) = self.condemned.remove(at);
            self.crash(number);
        }
        let now = self.now();
        let settings = &self.around.settings;
        let deadline = settings.drain_timeout + settings.revoke_grace + self.plan.grain * 4 + Duration::from_millis(200);
        for replica in self.replicas.iter().filter(|r| r.has_ended()) {
            if let Some(began) = replica.drain_began {
                self.facts.push(Fact::Drain(Drain {
                    replica: format!("r{}", replica.number),
                    began_ms: millis(began),
                    ended_ms: Some(millis(now)),
                    deadline_ms: millis(began + deadline),
                }));
            }
        }
        self.replicas.retain(|r| !r.has_ended());
    }

    fn crash(&mut self, number: u64) {
        let Some(at) = self.replicas.iter().position(|r| r.number == number) else { return };
        self.trace.note(self.now(), "crash", number, || format!("r{number}"));
        {
            let mut broker = self.around.broker.borrow_mut();
            for class in Class::ALL {
                for place in broker.group(class).owned(number) {
                    let since = broker.since(class, &place);
                    broker.expose(Cause::Crash, number, class, &place, since);
                }
                broker.loss_learned(class, number, None);
                broker.group(class).silence(number, true);
                broker.expel_later(class, number, SESSION);
            }
        }
        self.replicas.remove(at);
    }

    fn disturbed(&mut self, length: Duration) {
        let now = self.now();
        let to = now + length + AFTERMATH;
        self.facts.push(Fact::Disturbance(Disturbance { from_ms: millis(now), to_ms: millis(to), own_outage: false }));
    }

    /// One that is neither draining, frozen nor condemned.
    fn any_replica(&mut self) -> Option<usize> {
        let condemned: BTreeSet<u64> = self.condemned.iter().map(|(n, _)| *n).collect();
        let fit: Vec<usize> = (0..self.replicas.len())
            .filter(|at| {
                let r = &self.replicas[*at];
                r.drain_began.is_none() && !r.stopped_by_signal && !condemned.contains(&r.number)
            })
            .collect();
        self.chance.choice(fit)
    }

    fn happens(&mut self, what: Due) {
        match what {
            Due::Event(event) => self.produce(&event),
            Due::Fault(fault) => self.fault(fault),
            Due::Start => self.start(),
            Due::Wake(number) => self.wake(number),
            Due::ClockBack(number) => {
                if let Some(replica) = self.replicas.iter().find(|r| r.number == number) {
                    replica.clock.ahead.set(0);
                }
            }
            Due::MoodBack => {
                let mut broker = self.around.broker.borrow_mut();
                broker.mood = super::broker::Mood { slow: Duration::from_millis(5), ..Default::default() };
                broker.version += 1;
            }
            Due::Expire => self.expire(true),
            Due::Recreate => {
                self.expire(false);
                self.around.broker.borrow_mut().recreate("source");
            }
            Due::ForeignMaps => {
                self.expire(false);
                let mut broker = self.around.broker.borrow_mut();
                for class in Class::ALL {
                    for (_, metadata) in broker.group(class).commits.values_mut().filter(|(_, m)| !m.is_empty()) {
                        metadata.replace_range(..2, "9:");
                    }
                }
            }
            Due::Calm => self.calm_down(),
        }
    }

    fn produce(&mut self, event: &EventPlan) {
        let arrives = event.acknowledged || self.chance.bool();
        let (endpoint, expect, domain) = match event.kind {
            EventKind::For(n) => {
                (format!("{}/v{}", self.plan.endpoints[n].host, self.reloads), Expect::Callback, self.plan.endpoints[n].host.clone())
            }
            EventKind::SkippedByRule => (String::new(), Expect::Skip, "quiet.example".to_owned()),
            EventKind::Undecodable => (String::new(), Expect::Bury("undecodable".to_owned()), String::new()),
            EventKind::UnknownDomain => (String::new(), Expect::Bury("unknown_domain".to_owned()), "unknown.example".to_owned()),
        };
        let id = &event.id;
        let value = if event.kind == EventKind::Undecodable {
            format!("{id} is no event")
        } else {
            format!(r#"{{"app":"{domain}","appname":"live","stream_id":"{id}","start_time":1795435100}}"#)
        };
        let value = Bytes::from(value);
        let at_ms = millis(self.now());
        self.trace.note(self.now(), "produced", u64::from(arrives), || format!("{id} for {domain}, arrives: {arrives}"));
        self.facts.push(Fact::Produced(Produced { id: id.clone(), endpoint, acknowledged: event.acknowledged, at_ms, expect }));
        self.around.receivers.borrow_mut().bodies.insert(id.clone(), value.clone());
        let mut broker = self.around.broker.borrow_mut();
        if event.kind == EventKind::SkippedByRule {
            broker.never_unfinished(id);
        }
        if arrives {
            broker.put(&"source".into(), &id.as_str().into(), None, Some(value), vec![header(name::ID, id)]);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.trace.note(self.now(), "fault", 0, || format!("{fault:?}"));
        match fault {
            Fault::Crash { steps, restart_ms } => {
                self.disturbed(SESSION + Duration::from_millis(restart_ms));
                if let Some(at) = self.any_replica() {
                    self.condemned.push((self.replicas[at].number, steps + 1));
                    self.after(restart_ms, Due::Start);
                }
            }
            Fault::Drain { restart_ms } => {
                self.disturbed(Duration::from_millis(restart_ms));
                if let Some(at) = self.any_replica() {
                    let now = self.now();
                    self.replicas[at].drain(now);
                    self.after(restart_ms, Due::Start);
                }
            }
            Fault::Join => {
                self.disturbed(Duration::ZERO);
                if self.replicas.len() < 5 {
                    self.start();
                }
            }
            Fault::Freeze { ms } => {
                self.disturbed(Duration::from_millis(ms));
                if let Some(at) = self.any_replica() {
                    self.replicas[at].stopped_by_signal = true;
                    let number = self.replicas[at].number;
                    let mut broker = self.around.broker.borrow_mut();
                    for class in Class::ALL {
                        broker.group(class).silence(number, true);
                        broker.expel_later(class, number, SESSION);
                    }
                    drop(broker);
                    self.after(ms, Due::Wake(number));
                }
            }
            Fault::Expel => {
                self.disturbed(Duration::ZERO);
                if let Some(at) = self.any_replica() {
                    let number = self.replicas[at].number;
                    let class = *self.chance.choice(&Class::ALL).unwrap_or(&Class::Fresh);
                    let mut broker = self.around.broker.borrow_mut();
                    broker.group(class).silence(number, true);
                    broker.expel_later(class, number, Duration::ZERO);
                }
            }
            Fault::BrokerDown { ms } => {
                self.disturbed(Duration::from_millis(ms));
                self.around.broker.borrow_mut().mood.down = true;
                self.after(ms, Due::MoodBack);
            }
            Fault::CommitsFail { percent, ms } => {
                self.disturbed(Duration::from_millis(ms));
                self.around.broker.borrow_mut().mood.commits_fail = percent;
                self.after(ms, Due::MoodBack);
            }
            Fault::SlowBroker { slow_ms, ms } => {
                self.disturbed(Duration::from_millis(ms + slow_ms));
                self.around.broker.borrow_mut().mood.slow = Duration::from_millis(slow_ms);
                self.after(ms, Due::MoodBack);
            }
            Fault::Refuses { letters, ms } => {
                self.refused = true;
                self.disturbed(self.plan.calm);
                self.around.broker.borrow_mut().mood.refuses = Some(if letters { "dead-letter" } else { "retry" });
                self.after(ms, Due::MoodBack);
            }
            Fault::ClockJump { by_ms, ms } => {
                self.disturbed(Duration::from_millis(ms));
                // While the broker's clock is not known, our own is believed (design §10).
                if let Some(at) = self.any_replica().filter(|at| self.replicas[*at].clock.knows_the_broker()) {
                    self.replicas[at].clock.ahead.set(by_ms);
                    let number = self.replicas[at].number;
                    self.after(ms, Due::ClockBack(number));
                }
            }
            Fault::Reload => {
                self.disturbed(Duration::ZERO);
                self.reloads += 1;
                self.around.registry.store(Arc::new(self.plan.registry(self.reloads)));
            }
            Fault::Retention => {
                let partition = self.chance.i32(0..self.plan.partitions);
                let keep = self.chance.usize(0..12);
                self.around.broker.borrow_mut().retain(&("source".into(), partition), keep);
            }
            Fault::Expire { restart_ms } => {
                self.disturbed(Duration::from_millis(restart_ms));
                self.all_killed(restart_ms);
                self.after(restart_ms.saturating_sub(1), Due::Expire);
            }
            Fault::Recreate { restart_ms } => {
                self.all_killed(restart_ms);
                self.happens(Due::Recreate);
            }
            Fault::ForeignMaps { restart_ms } => {
                self.all_killed(restart_ms);
                self.after(restart_ms.saturating_sub(1), Due::ForeignMaps);
            }
            Fault::Manners { endpoint, manner } => {
                self.around.receivers.borrow_mut().manners.insert(self.plan.endpoints[endpoint].host.clone(), manner);
            }
            Fault::Replay => self.replay(),
        }
    }

    fn wake(&mut self, number: u64) {
        let Some(replica) = self.replicas.iter_mut().find(|r| r.number == number) else { return };
        replica.stopped_by_signal = false;
        let mut broker = self.around.broker.borrow_mut();
        for class in Class::ALL {
            broker.group(class).silence(number, false);
        }
        broker.version += 1;
    }

    fn all_killed(&mut self, restart_ms: u64) {
        let numbers: Vec<u64> = self.replicas.iter().map(|r| r.number).collect();
        for number in &numbers {
            self.crash(*number);
            self.after(restart_ms, Due::Start);
        }
    }

    /// The commits are worth nothing any more: they have expired (`gone`), or belong to other records.
    fn expire(&mut self, gone: bool) {
        let mut broker = self.around.broker.borrow_mut();
        for class in Class::ALL {
            if gone && !broker.group(class).is_empty() {
                continue;
            }
            if gone {
                broker.group(class).commits.clear();
            }
            let theirs = |(place, _): &(&Place, &super::broker::Log)| class_of(&place.0) == Some(class);
            let only: BTreeSet<String> =
                broker.logs.iter().filter(theirs).flat_map(|(_, log)| log.entries.iter().map(|e| e.id.to_string())).collect();
            for log in broker.logs.iter_mut().filter(|(place, _)| class_of(&place.0) == Some(class)).map(|(_, log)| log) {
                log.made += 1;
            }
            if !only.is_empty() {
                let at_ms = millis(broker.now());
                broker.facts.push(Fact::Exposure(Exposure { cause: Cause::OffsetsReset, replica: None, since_ms: i64::MIN, at_ms, only }));
            }
        }
    }

    fn replay(&mut self) {
        let mut broker = self.around.broker.borrow_mut();
        let letters = broker.records(&("callbackd.dead-letter".into(), 0), 0, 1_000);
        let at_ms = millis(broker.now());
        let mut done: BTreeSet<Arc<str>> = BTreeSet::new();
        for letter in letters.iter().rev().take(5) {
            let id = super::broker::id_of(&letter.headers);
            if done.insert(Arc::clone(&id)) {
                self.facts.push(Fact::Replayed(Replayed { id: id.to_string(), at_ms }));
                broker.put(&"callbackd.replay".into(), &id, letter.key.clone(), letter.value.clone(), replay_headers(letter));
            }
        }
    }

    /// Nothing goes wrong any more, and what people must mend is mended.
    fn calm_down(&mut self) {
        self.trace.note(self.now(), "calm", 0, String::new);
        self.calm = true;
        // Faults may still have ends to come: those come now.
        let mut ends: Vec<Due> = Vec::new();
        while let Some((_, what)) = self.due.pop_first() {
            ends.push(what);
        }
        ends.into_iter().for_each(|what| self.happens(what));
        self.happens(Due::MoodBack);
        for endpoint in &self.plan.endpoints {
            self.around.receivers.borrow_mut().manners.insert(endpoint.host.clone(), endpoint.afterwards);
        }
        self.around.broker.borrow_mut().mark("source");
        if self.refused {
            let now = self.now();
            self.replicas.iter_mut().filter(|r| r.drain_began.is_none()).for_each(|r| r.drain(now));
        }
        if self.replicas.iter().all(|r| r.drain_began.is_some()) {
            self.start();
        }
    }

    /// What outsiders saw.
    pub(super) fn history(&mut self) -> History {
        let mut history = History::default();
        let settings = &self.around.settings;
        // The broker's clock is known only as well as its answers are quick: a late answer shows a clock that is behind.
        let slow = |(_, fault): &(Duration, Fault)| {
            if let Fault::SlowBroker { slow_ms, .. } = fault { i64::try_from(*slow_ms).ok() } else { None }
        };
        let late_reports = 100 + self.plan.faults.iter().filter_map(slow).max().unwrap_or(0);
        // Memory is scarce from an eighth of the fresh class's records on, or half of its bytes; a record here costs about 400.
        // A record is parked for the endpoint of the registry of then: which one that was, outsiders do not know once it has changed.
        let (records, bytes) = (Class::Fresh.share(settings.max_records()), Class::Fresh.share(settings.max_in_flight_bytes));
        let crowd = records.div_ceil(8).min(bytes / 450 / 2);
        let least_crowd = if self.reloads > 0 { 0 } else { crowd };
        let early = settings.tiers.tolerance(settings.tiers.smallest());
        history.add(Fact::Rules(Rules {
            early_ms: millis(early) + late_reports + 2,
            late_ms: Some(AFTERMATH.as_millis() as i64),
            failures_to_open: settings.circuit.failures,
            least_crowd,
            least_backlog: 2 * settings.endpoint_concurrency.min(2),
            ..Rules::default()
        }));
        let refusing: BTreeSet<&str> = self
            .plan
            .faults
            .iter()
            .filter_map(|(_, fault)| {
                let Fault::Manners { endpoint, manner: Manner::Refuses } = fault else { return None };
                Some(self.plan.endpoints[*endpoint].host.as_str())
            })
            .collect();
        for (plan, version) in self.plan.endpoints.iter().flat_map(|e| (0..=self.reloads).map(move |v| (e, v))) {
            history.add(Fact::Endpoint(Endpoint {
                name: format!("{}/v{version}", plan.host),
                success: plan.success,
                final_statuses: if plan.final_410 { vec![410] } else { vec![] },
                delays_ms: plan.delays.iter().map(|d| millis(*d)).collect(),
                jitter: plan.jitter,
                attempts: plan.attempts,
                timeout_ms: millis(plan.timeout),
                max_age_ms: millis(plan.max_age),
                max_wait_ms: 7 * 86_400_000,
                unseen: plan.manner == Manner::Refuses || refusing.contains(plan.host.as_str()),
            }));
        }
        std::mem::take(&mut self.facts).into_iter().for_each(|fact| history.add(fact));
        let receivers = self.around.receivers.borrow();
        receivers::facts(&receivers).for_each(|fact| history.add(fact));
        let mut broker = self.around.broker.borrow_mut();
        std::mem::take(&mut broker.facts).into_iter().for_each(|fact| history.add(fact));
        for (class, place, committed, end) in broker.stands() {
            history.add(Fact::End(End { place: format!("{class} {}/{}", place.0, place.1), committed, end }));
        }
        for letter in broker.records(&("callbackd.dead-letter".into(), 0), 0, usize::MAX) {
            let id = super::broker::id_of(&letter.headers);
            if receivers.bodies.get(&*id).map(|b| Some(b.clone())) != Some(letter.value) {
                history.add(Fact::Wrong(format!("the value of the dead letter of {id} is not the event's")));
            }
        }
        for replica in &self.replicas {
            if let Some(began) = replica.drain_began {
                let (began_ms, replica) = (millis(began), format!("r{}", replica.number));
                history.add(Fact::Drain(Drain { replica, began_ms, ended_ms: None, deadline_ms: began_ms }));
            }
        }
        history
    }
}

const fn part_number(part: Part) -> u64 {
    match part {
        Part::Engine => 0,
        Part::Intake(Class::Fresh) => 1,
        Part::Intake(Class::Retry) => 2,
        Part::Intake(Class::Replay) => 3,
    }
}
