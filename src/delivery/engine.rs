//! The engine: one task that owns all delivery state and drives every record from intake to settlement.
//!
//! One turn takes whatever is ready (returns of attempts and appends, batches, the tick), starts what may start, and sends what came back to
//! the intake threads in one message a class. Attempts and appends are futures in one set, polled by this task alone: no spawn and no
//! lock per event. What decides lives elsewhere: `sort` (what is to be done with a record), `lanes` (who may start), `domain::verdict` and
//! `domain::retry` (what an outcome means). A panic on the way of one record counts as an attempt of that record with outcome `internal`.
//!
//! Late results are fenced by the assignment's phase: a failure after `Fenced` is dropped (the new owner does it), a success counts
//! as a possible repeat.

use super::attempt::{self, Callback, NoActiveKey, Success};
use super::handover::{Intake, Phase, Return, Returned, Ticket, ToEngine, ToIntake};
use super::lane::Terms;
use super::lanes::{Lanes, Offer, Parked};
use super::oldest::{self, Oldest};
use super::ports::{Appended, CallbackRequest, Clock, Outbox, Refused, Transport};
use super::settings::Settings;
use super::settle::{Departure, Purpose, Settlement};
use super::sort::{self, Sorted};
use crate::domain::class::Class;
use crate::domain::dead_letter::Reason;
use crate::domain::headers::{Chain, OutcomeMark};
use crate::domain::id::DomainName;
use crate::domain::policy::Policy;
use crate::domain::record::Record;
use crate::domain::registry::{Endpoint, Registry};
use crate::domain::requeue::RequeueReason;
use crate::domain::retry::{self, Next};
use crate::domain::tier::Place;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::{self, AttemptResult, Failure, Outcome, Verdict};
use crate::metrics::{Health, Metrics, SettledAs};
use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::{FutureExt as _, pin_mut};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{debug, info, warn};

/// Between looks at what time alone changes: holds, rates, lanes that stopped answering.
const TICK: Duration = Duration::from_millis(50);
/// Ticks between sweeps of idle lanes and exports of gauges that cost a walk: once a second.
const TICKS_PER_SWEEP: u32 = 20;
/// Ready results taken in one turn before others have theirs.
const TURN: usize = 512;
/// A template without an active key is looked at again after this (design §7).
const KEY_RECHECK: Duration = Duration::from_secs(60);

/// What the engine works with.
pub struct Parts<T, O, C> {
    /// Sends callbacks.
    pub transport: T,
    /// Appends requeues and dead letters.
    pub outbox: O,
    /// Time and chance.
    pub clock: C,
    /// Delivery settings.
    pub settings: Settings,
    /// The registry of now.
    pub registry: Arc<ArcSwap<Registry>>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Liveness.
    pub health: Arc<Health>,
    /// From the intake threads; ends when the last of them is gone.
    pub inbox: UnboundedReceiver<ToEngine>,
    /// To the intake threads, by class.
    pub intakes: [Sender<ToIntake>; 3],
}

/// How the engine ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Attempts cut by the drain deadline: uncommitted, so they are made again.
    pub cut: usize,
}

enum Job {
    Attempt { callback: Box<Callback>, request: CallbackRequest, started: UnixMillis },
    Append { departure: Departure, leaving: Box<Leaving> },
}

enum Done {
    Attempt { callback: Box<Callback>, outcome: Outcome, started: UnixMillis, took: Duration },
    Append { leaving: Box<Leaving>, result: Result<(Settlement, Appended), Refused> },
}

/// What is left to tell of a record while its requeue or dead letter is on its way to the broker.
struct Leaving {
    ticket: Ticket,
    chain: Chain,
    purpose: Purpose,
}

/// A released record that is due within less than the smallest tier.
struct Hold {
    ticket: Ticket,
    record: Record,
    chain: Chain,
}

async fn perform<T: Transport, O: Outbox, C: Clock>(transport: Rc<T>, outbox: Rc<O>, clock: Rc<C>, job: Job) -> Done {
    match job {
        Job::Attempt { callback, request, started } => {
            let began = clock.monotonic();
            let outcome = attempt::send(&*transport, request).await;
            Done::Attempt { callback, outcome, started, took: clock.monotonic().saturating_sub(began) }
        }
        Job::Append { departure, leaving } => Done::Append { leaving, result: departure.settle(&*outbox).await },
    }
}

/// Runs until every intake thread is gone. When `drain` resolves, nothing new starts; what runs may end within `drain_timeout`, then is cut.
pub async fn run<T: Transport, O: Outbox, C: Clock>(parts: Parts<T, O, C>, drain: impl Future<Output = ()>) -> Drained {
    let Parts { transport, outbox, clock, settings, registry, metrics, health, mut inbox, intakes } = parts;
    let (transport, outbox, clock) = (Rc::new(transport), Rc::new(outbox), Rc::new(clock));
    let heartbeat = health.heartbeat("engine");
    let mut engine = Engine::new(Rc::clone(&clock), settings, registry, metrics, intakes);
    let mut jobs = FuturesUnordered::new();
    let drain = drain.fuse();
    pin_mut!(drain);
    let tick = clock.sleep(TICK).fuse();
    pin_mut!(tick);
    loop {
        // Biased: what frees memory goes before what fills it, and the drain before all.
        tokio::select! {
            biased;
            () = &mut drain, if engine.drain_deadline.is_none() => engine.begin_drain(),
            Some(done) = jobs.next(), if !jobs.is_empty() => engine.on_done(done),
            () = &mut tick => {
                tick.set(clock.sleep(TICK).fuse());
                heartbeat.beat();
                if engine.on_tick() {
                    transport.tidy();
                }
            }
            message = inbox.recv() => match message {
                Some(message) => engine.on_message(message),
                None => break,
            },
        }
        for _ in 0..TURN {
            if let Some(Some(done)) = jobs.next().now_or_never() {
                engine.on_done(done);
            } else if let Ok(message) = inbox.try_recv() {
                engine.on_message(message);
            } else {
                break;
            }
        }
        engine.start_waiting();
        for job in engine.jobs.drain(..) {
            jobs.push(perform(Rc::clone(&transport), Rc::clone(&outbox), Rc::clone(&clock), job));
        }
        engine.flush();
        if engine.past_drain_deadline() {
            jobs.clear();
            engine.leave();
        }
    }
    Drained { cut: engine.cut }
}

struct Engine<C> {
    clock: Rc<C>,
    settings: Settings,
    snapshot: Arc<ArcSwap<Registry>>,
    /// The snapshot that this turn decides by.
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    intakes: [Sender<ToIntake>; 3],
    lanes: Lanes<Box<Callback>>,
    /// By due time, and a number that tells those of one instant apart.
    holds: BTreeMap<(UnixMillis, u64), Hold>,
    hold_bytes: usize,
    next_hold: u64,
    oldest: Oldest,
    jobs: Vec<Job>,
    returns: [Vec<Return>; 3],
    ticks: u32,
    suspended_logged: HashMap<DomainName, Duration>,
    drain_deadline: Option<Duration>,
    left: bool,
    cut: usize,
}

impl<C: Clock> Engine<C> {
    fn new(
        clock: Rc<C>,
        settings: Settings,
        snapshot: Arc<ArcSwap<Registry>>,
        metrics: Arc<Metrics>,
        intakes: [Sender<ToIntake>; 3],
    ) -> Self {
        metrics.set_in_flight_limit(settings.max_in_flight);
        Self {
            clock,
            registry: snapshot.load_full(),
            snapshot,
            metrics,
            intakes,
            lanes: Lanes::new(settings.max_in_flight, settings.max_records()),
            holds: BTreeMap::new(),
            hold_bytes: 0,
            next_hold: 0,
            oldest: Oldest::new(settings.tiers.iter().map(|t| t.delay)),
            jobs: Vec::new(),
            returns: Default::default(),
            ticks: 0,
            suspended_logged: HashMap::new(),
            drain_deadline: None,
            left: false,
            cut: 0,
            settings,
        }
    }

    fn on_message(&mut self, message: ToEngine) {
        match message {
            ToEngine::Batch(intakes) => {
                self.renew_registry();
                for intake in intakes {
                    self.take_in(intake);
                }
            }
            ToEngine::PhaseMoved => self.give_up_waiting(|ticket| ticket.assignment.phase() != Phase::Active),
        }
    }

    /// Takes over a registry that was loaded meanwhile. What waits is decided anew: an attempt goes by the URL and the keys of now.
    fn renew_registry(&mut self) {
        let latest = self.snapshot.load();
        if Arc::ptr_eq(&latest, &self.registry) {
            return;
        }
        self.registry = Arc::clone(&latest);
        drop(latest);
        if self.drain_deadline.is_none() {
            for callback in self.lanes.take_out(|_| true) {
                let Callback { ticket, record, chain, .. } = *callback;
                self.sort(ticket, record, chain);
            }
        }
    }

    // --- from intake to the lane

    fn take_in(&mut self, intake: Intake) {
        let Intake { ticket, record } = intake;
        if self.drain_deadline.is_some() || ticket.assignment.phase() != Phase::Active {
            return self.give_back(ticket, Returned::Unsettled);
        }
        if ticket.assignment.class == Class::Replay {
            self.metrics.replayed(1);
        }
        match catch_unwind(AssertUnwindSafe(|| sort::chain(&record, ticket.assignment.class))) {
            Ok(chain) => self.route(ticket, record, chain),
            Err(_) => self.fault(ticket, &record, sort::bare_chain),
        }
    }

    /// By the due time: to the lane, into the hold, or on to the next tier.
    fn route(&mut self, ticket: Ticket, record: Record, chain: Chain) {
        let Some(due) = chain.due else { return self.sort(ticket, record, chain) };
        let remaining = due.since(self.clock.broker_now());
        match self.settings.tiers.place(remaining) {
            Place::Due => self.sort(ticket, record, chain),
            Place::Hold if self.hold_bytes + ticket.cost <= self.settings.hold_bytes() => {
                self.hold_bytes += ticket.cost;
                self.next_hold += 1;
                self.holds.insert((due, self.next_hold), Hold { ticket, record, chain });
            }
            Place::Hold | Place::Tier(_) => self.requeue(ticket, &record, chain, due, RequeueReason::MovedOn),
        }
    }

    fn sort(&mut self, ticket: Ticket, record: Record, chain: Chain) {
        let sane_now = self.clock.is_sane().then(|| self.clock.now());
        let settings = &self.settings;
        let sorted = catch_unwind(AssertUnwindSafe(|| {
            sort::sort(&self.registry, &record, &chain, ticket.assignment.class, settings.replay_limit, sane_now)
        }));
        match sorted {
            Ok(Sorted::Call(call)) => {
                let mut chain = chain;
                chain.domain = Some(call.event.domain.clone());
                if call.assumed_push_start {
                    self.metrics.push_start_assumed();
                }
                if call.mixed_regions && chain.attempts == 0 {
                    self.metrics.mixed_regions();
                }
                let callback = Callback {
                    ticket,
                    record,
                    chain,
                    event: call.event,
                    template: call.template,
                    url: call.url,
                    mixed_regions: call.mixed_regions,
                };
                self.offer(Box::new(callback));
            }
            Ok(Sorted::Skip { domain, rule }) => {
                info!(event_id = %chain.id, %domain, origin = %chain.origin, rule = rule.as_str(), "skipped");
                self.metrics.skipped(rule);
                self.settled(SettledAs::Skipped, &Chain { domain: Some(domain), ..chain });
                self.give_back(ticket, Returned::Settled(Settlement::skipped(rule)));
            }
            Ok(Sorted::UnknownDomainTurn { domain }) => {
                let chain = Chain { domain: Some(domain), ..chain };
                let due = self.clock.broker_now().plus(self.settings.tiers.smallest().delay);
                self.requeue(ticket, &record, chain, due, RequeueReason::UnknownDomain);
            }
            Ok(Sorted::Bury { domain, reason, detail }) => {
                let domain = domain.or_else(|| chain.domain.clone());
                if reason == Reason::AccountSuspended {
                    self.log_suspended(domain.as_ref());
                }
                self.bury(ticket, &record, Chain { domain, ..chain }, reason, &detail);
            }
            Err(_) => self.fault(ticket, &record, |_| chain),
        }
    }

    fn log_suspended(&mut self, domain: Option<&DomainName>) {
        let now = self.clock.monotonic();
        let Some(domain) = domain else { return };
        if self.suspended_logged.get(domain).is_none_or(|at| now.saturating_sub(*at) >= Duration::from_secs(60)) {
            self.suspended_logged.insert(domain.clone(), now);
            warn!(%domain, "the storage service of this domain's account is not active: its events are dead-lettered; replay them once it is restored");
        }
    }

    fn offer(&mut self, callback: Box<Callback>) {
        let now = self.clock.monotonic();
        let endpoint = callback.url.endpoint.clone();
        let terms = Terms { limit: self.settings.endpoint_concurrency, rate: self.registry.rate(&endpoint) };
        let class = callback.ticket.assignment.class;
        match self.lanes.offer(&endpoint, class, terms, callback, now) {
            Offer::Start(callback) => self.start(callback),
            Offer::Waits => {}
            Offer::Park(parked) => self.park(parked),
        }
    }

    fn park(&mut self, parked: Parked<Box<Callback>>) {
        let Callback { ticket, record, chain, .. } = *parked.item;
        let pause = parked.until.map(|until| until.saturating_sub(self.clock.monotonic()));
        let reason = if pause.is_some() { RequeueReason::CircuitOpen } else { RequeueReason::LaneFull };
        let delay = pause.unwrap_or_default().max(self.settings.tiers.smallest().delay);
        let due = self.clock.broker_now().plus(delay);
        self.requeue(ticket, &record, chain, due, reason);
    }

    // --- attempts

    fn start_waiting(&mut self) {
        let now = self.clock.monotonic();
        while self.drain_deadline.is_none() {
            let Some(callback) = self.lanes.next(now) else { break };
            if callback.ticket.assignment.phase() == Phase::Active {
                self.start(callback);
            } else {
                self.lanes.withdrawn(&callback.url.endpoint, callback.ticket.assignment.class);
                self.give_back(callback.ticket, Returned::Unsettled);
            }
        }
        self.metrics.set_in_flight(self.lanes.running());
    }

    /// Starts an attempt whose place in its lane is taken already.
    fn start(&mut self, callback: Box<Callback>) {
        let now = self.clock.now();
        match catch_unwind(AssertUnwindSafe(|| attempt::request(&callback, now))) {
            Ok(Ok(request)) => {
                if callback.chain.attempts == 0 && callback.ticket.assignment.class == Class::Fresh {
                    self.metrics.first_attempt_age(now.since(callback.chain.source_time));
                }
                self.jobs.push(Job::Attempt { callback, request, started: now });
            }
            Ok(Err(NoActiveKey)) => {
                self.free_place(&callback, true);
                let due = self.clock.broker_now().plus(KEY_RECHECK);
                let Callback { ticket, record, chain, template, .. } = *callback;
                warn!(template = %template.name, event_id = %chain.id, "keys are configured and none is in force: parked, never sent unsigned");
                self.requeue(ticket, &record, chain, due, RequeueReason::NoActiveKey);
            }
            Err(_) => {
                self.free_place(&callback, true);
                let Callback { ticket, record, chain, .. } = *callback;
                self.fault(ticket, &record, |_| chain);
            }
        }
    }

    fn free_place(&mut self, callback: &Callback, answered: bool) {
        let class = callback.ticket.assignment.class;
        self.lanes.finished(&callback.url.endpoint, class, answered, self.clock.monotonic());
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Attempt { callback, outcome, started, took } => self.on_attempt(callback, &outcome, started, took),
            Done::Append { leaving, result } => self.on_append(*leaving, result),
        }
    }

    fn on_attempt(&mut self, callback: Box<Callback>, outcome: &Outcome, started: UnixMillis, took: Duration) {
        let answered = matches!(outcome, Outcome::Answered { .. });
        self.free_place(&callback, answered);
        let Callback { ticket, record, mut chain, template, url, .. } = *callback;
        let policy = &template.policy;
        let result = AttemptResult::of(policy, outcome);
        self.metrics.attempt(result, took);
        let now = self.clock.now();
        let mark = OutcomeMark::of(outcome);
        let verdict = verdict::judge(policy, outcome, now);
        chain.attempted(started, now, mark);
        debug!(
            event_id = %chain.id, domain = chain.domain.as_ref().map(DomainName::as_str), attempt = chain.attempts,
            outcome = %mark, duration_ms = took.as_millis(), topic = %ticket.assignment.topic,
            partition = ticket.assignment.partition, offset = ticket.offset, "attempt"
        );
        if let Some(success) = Success::proven_by(verdict) {
            if ticket.assignment.phase() == Phase::Fenced {
                self.metrics.possible_repeat(1);
                return self.give_back(ticket, Returned::Unsettled);
            }
            self.settled(SettledAs::Delivered, &chain);
            return self.give_back(ticket, Returned::Settled(Settlement::delivered(success)));
        }
        if ticket.assignment.phase() == Phase::Fenced {
            return self.give_back(ticket, Returned::Unsettled);
        }
        let pause = match verdict {
            Verdict::Retry { pause } => pause,
            Verdict::Delivered | Verdict::Rejected => {
                return self.bury(ticket, &record, chain, Reason::Rejected, &format!("status {mark} is final"));
            }
        };
        if let Some(pause) = pause {
            self.pause(&url.endpoint, pause);
        }
        self.retry(policy, ticket, &record, chain, pause);
    }

    /// The receiver asked to be left alone: its lane rests, what waits there is parked.
    fn pause(&mut self, endpoint: &Endpoint, pause: Duration) {
        let until = self.clock.monotonic() + pause;
        for parked in self.lanes.pause(endpoint, until) {
            self.park(parked);
        }
    }

    /// After a failed attempt that `chain` counts.
    fn retry(&mut self, policy: &Policy, ticket: Ticket, record: &Record, chain: Chain, pause: Option<Duration>) {
        let now = self.clock.now();
        // Without a clock that is sane no verdict by age: as if first attempted now.
        let unaged = (!self.clock.is_sane()).then(|| Chain { first_attempt: None, ..chain.clone() });
        let judged = unaged.as_ref().unwrap_or(&chain);
        match retry::after_failure(policy, judged, pause, self.clock.draw(), &self.settings.tiers, now) {
            Next::At(due) => {
                let due = self.clock.broker_now().plus(due.since(now));
                self.requeue(ticket, record, chain, due, RequeueReason::Retry);
            }
            Next::Bury(reason) => {
                let detail = format!(
                    "{} attempts, the last one: {}",
                    chain.attempts,
                    chain.last_outcome.map_or_else(String::new, |m| m.to_string())
                );
                self.bury(ticket, record, chain, reason, &detail);
            }
        }
    }

    /// A panic of ours on the way of `record`: an attempt with outcome `internal`, by the default policy.
    fn fault(&mut self, ticket: Ticket, record: &Record, chain: impl FnOnce(&Record) -> Chain) {
        let mut chain = chain(record);
        warn!(event_id = %chain.id, topic = %record.position.topic, partition = record.position.partition, offset = record.position.offset, "a fault of ours while this record was handled counts as an attempt");
        self.metrics.attempt(AttemptResult::Internal, Duration::ZERO);
        let now = self.clock.now();
        chain.attempted(now, now, OutcomeMark::of(&Outcome::Failed(Failure::Internal)));
        self.retry(&Policy::css(), ticket, record, chain, None);
    }

    // --- settling

    fn requeue(&mut self, ticket: Ticket, record: &Record, chain: Chain, due: UnixMillis, reason: RequeueReason) {
        let now = self.clock.broker_now();
        let tier = match self.settings.tiers.place(due.since(now)) {
            Place::Tier(tier) => tier,
            Place::Due | Place::Hold => self.settings.tiers.smallest(),
        };
        let tier = tier.clone();
        let (departure, dropped) = Departure::requeue(record, &chain, &tier, due, now);
        if reason == RequeueReason::Retry {
            info!(
                event_id = %chain.id, domain = chain.domain.as_ref().map(DomainName::as_str), attempt = chain.attempts,
                outcome = chain.last_outcome.map(tracing::field::display), due_at = due.0, tier = %tier.label, "to be retried"
            );
        }
        self.append(ticket, chain, departure, dropped, Purpose::Requeue { tier, reason });
    }

    fn bury(&mut self, ticket: Ticket, record: &Record, chain: Chain, reason: Reason, detail: &str) {
        let now = self.clock.broker_now();
        let (departure, dropped) = Departure::bury(record, &chain, &self.settings.dead_letter_topic, reason, detail, now);
        info!(
            event_id = %chain.id, domain = chain.domain.as_ref().map(DomainName::as_str), origin = %chain.origin,
            attempt = chain.attempts, outcome = reason.as_str(), detail, "dead-lettered"
        );
        self.append(ticket, chain, departure, dropped, Purpose::Bury { reason });
    }

    fn append(&mut self, ticket: Ticket, chain: Chain, departure: Departure, dropped: bool, purpose: Purpose) {
        if dropped {
            self.metrics.headers_dropped();
        }
        self.jobs.push(Job::Append { departure, leaving: Box::new(Leaving { ticket, chain, purpose }) });
    }

    fn on_append(&mut self, leaving: Leaving, result: Result<(Settlement, Appended), Refused>) {
        let Leaving { ticket, chain, purpose } = leaving;
        match result {
            Ok((settlement, _)) => {
                match purpose {
                    Purpose::Requeue { tier, reason } => {
                        self.metrics.requeued(&tier.label, reason);
                        self.oldest.requeued(tier.delay, chain.domain.as_ref(), chain.source_time, self.clock.monotonic());
                    }
                    Purpose::Bury { reason } => {
                        self.metrics.dead_letter(reason);
                        self.settled(SettledAs::DeadLettered, &chain);
                    }
                }
                self.give_back(ticket, Returned::Settled(settlement));
            }
            Err(refused) => self.give_back(ticket, Returned::Refused(refused)),
        }
    }

    fn settled(&self, how: SettledAs, chain: &Chain) {
        let age = self.clock.now().since(chain.source_time);
        self.metrics.settled(how, Some(age));
        if let Some(domain) = &chain.domain {
            self.metrics.domain_settled(domain.as_str(), how);
        }
    }

    fn give_back(&mut self, ticket: Ticket, returned: Returned) {
        self.returns[ticket.assignment.class.index()].push(Return { ticket, returned });
    }

    fn give_up_waiting(&mut self, which: impl Fn(&Ticket) -> bool) {
        for callback in self.lanes.take_out(|callback| which(&callback.ticket)) {
            self.give_back(callback.ticket, Returned::Unsettled);
        }
        let gone: Vec<_> = self.holds.iter().filter(|(_, hold)| which(&hold.ticket)).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(hold) = self.holds.remove(&key) {
                self.hold_bytes -= hold.ticket.cost;
                self.give_back(hold.ticket, Returned::Unsettled);
            }
        }
    }

    fn flush(&mut self) {
        for (intake, returns) in self.intakes.iter().zip(&mut self.returns) {
            if !returns.is_empty() {
                // An intake thread that is gone has committed what it could; nothing more can be done with these.
                let _ = intake.send(ToIntake::Returns(std::mem::take(returns)));
            }
        }
    }

    // --- time and life

    /// True once a second, when it is time to sweep.
    fn on_tick(&mut self) -> bool {
        self.renew_registry();
        let broker_now = self.clock.broker_now();
        while let Some(entry) = self.holds.first_entry() {
            if entry.key().0 > broker_now {
                break;
            }
            let hold = entry.remove();
            self.hold_bytes -= hold.ticket.cost;
            self.sort(hold.ticket, hold.record, Chain { due: None, ..hold.chain });
        }
        let now = self.clock.monotonic();
        for parked in self.lanes.trim(now) {
            self.park(parked);
        }
        self.ticks += 1;
        let sweep = self.ticks.is_multiple_of(TICKS_PER_SWEEP);
        if sweep {
            self.lanes.sweep(now);
            self.export_oldest(now);
        }
        sweep
    }

    fn export_oldest(&mut self, now: Duration) {
        let mut by_domain = self.oldest.by_domain(now);
        let in_memory = self.lanes.waiting().map(|c| &c.chain).chain(self.holds.values().map(|h| &h.chain));
        for chain in in_memory {
            oldest::note(&mut by_domain, chain.domain.as_ref(), chain.source_time);
        }
        self.metrics.set_oldest_undelivered(by_domain.values().min().copied());
        let named = by_domain.iter().filter_map(|(domain, at)| Some((domain.as_ref()?.as_str(), *at)));
        self.metrics.set_domain_oldest_undelivered(named);
    }

    fn begin_drain(&mut self) {
        info!(running = self.lanes.running(), "draining: nothing new starts");
        self.drain_deadline = Some(self.clock.monotonic() + self.settings.drain_timeout);
        for intake in &self.intakes {
            let _ = intake.send(ToIntake::Drain);
        }
        self.give_up_waiting(|_| true);
    }

    fn past_drain_deadline(&self) -> bool {
        !self.left && self.drain_deadline.is_some_and(|deadline| self.clock.monotonic() >= deadline)
    }

    fn leave(&mut self) {
        self.left = true;
        self.cut = self.lanes.running();
        for intake in &self.intakes {
            let _ = intake.send(ToIntake::Leave);
        }
    }
}
