//! The engine: one task that owns all delivery state and drives every record from intake to settlement.
//!
//! One turn handles finished work first (attempts, appends, the tick), then a limited number of new records of each class, starts what may
//! start, and sends what is done with back to the intake threads, in one message a class. So thousands of retries that come at once keep no
//! fresh event waiting for longer than a turn. Attempts and appends are futures in one set, polled by this task alone: no spawn and no lock
//! per event. What decides lives elsewhere: `sort` (what is to be done with a record), `lanes` (who may start), `domain::verdict` and
//! `domain::retry` (what an outcome means). A panic on the way of one record counts as an attempt of that record with outcome `internal`.
//!
//! `admit` takes records to their lane, `attempts` makes and judges attempts, `blackout` is the way through an outage of our own,
//! `settling` requeues, buries and gives back; here are the loop, the state they share, time and the drain.
//!
//! Late results are fenced by the assignment's phase: a failure after `Fenced` is dropped (the new owner does it), a success counts
//! as a possible repeat.

mod admit;
mod attempts;
mod blackout;
mod settling;

use self::admit::Sight;
use self::blackout::Breath;
use super::attempt::{self, Callback};
use super::handover::{Intake, Phase, Return, Ticket, ToEngine, ToIntake};
use super::lanes::{Lanes, Parked};
use super::oldest::{self, Oldest};
use super::outage::Outage;
use super::ports::{Appended, CallbackRequest, Clock, Outbox, Refused, Transport};
use super::settings::Settings;
use super::settle::{Departure, Purpose, Settlement};
use crate::domain::headers::Chain;
use crate::domain::id::DomainName;
use crate::domain::record::Record;
use crate::domain::registry::Registry;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Outcome;
use crate::metrics::{Health, Metrics};
use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::{FutureExt as _, pin_mut};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::info;

/// Between looks at what changes with time alone: holds, rates, lanes that stopped answering.
const TICK: Duration = Duration::from_millis(50);
/// Ticks between sweeps of idle lanes and exports of gauges that cost a walk: once a second.
const TICKS_PER_SWEEP: u32 = 20;
/// A tick that comes so long after the one before tells of a process that was stopped.
const LATE_TICK: Duration = Duration::from_secs(1);
/// Ticks between looks at lanes that went silent: four a second.
const TICKS_PER_WATCH: u32 = 5;
/// Ready results taken in one turn before others have theirs.
const TURN: usize = 128;
/// Records taken in in one turn, by class.
const TAKEN_IN: [usize; 3] = [64, 16, 16];
/// Of what lanes have given up, each tick parks one part in this many, but at least [`PARKED_LEAST`] records: within a second or two all of
/// it has gone, and in between broker and receivers serve the others.
const PARKED_PART: usize = 10;
const PARKED_LEAST: usize = 64;
/// A record whose template has no active key is looked at again after this (design §7).
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
    /// Attempts cut by the drain deadline: their records are uncommitted, so they are made again.
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

/// Runs until every intake thread is gone. When `drain` resolves, nothing new starts; what runs may end within `drain_timeout`, then is
/// cut.
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
        // Biased: what frees memory goes before what fills it; before both what is never ready for long, and would starve behind them.
        tokio::select! {
            biased;
            () = &mut drain, if engine.drain_deadline.is_none() => engine.begin_drain(),
            () = &mut tick => {
                tick.set(clock.sleep(TICK).fuse());
                heartbeat.beat();
                if engine.on_tick() {
                    transport.tidy();
                }
            }
            Some(done) = jobs.next(), if !jobs.is_empty() => engine.on_done(done),
            message = inbox.recv() => match message {
                Some(message) => engine.on_message(message),
                None => break,
            },
            // More is to be taken in; sockets have their turn before.
            () = tokio::task::yield_now(), if engine.has_arrivals() => {}
        }
        for _ in 0..TURN {
            let Some(Some(done)) = jobs.next().now_or_never() else { break };
            engine.on_done(done);
        }
        while let Ok(message) = inbox.try_recv() {
            engine.on_message(message);
        }
        engine.take_in_some();
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
    /// What came and is not taken in yet, by class.
    arrivals: [VecDeque<Intake>; 3],
    lanes: Lanes<Box<Callback>>,
    /// What lanes have given up, to be parked; `may_park` of them until the next tick.
    parking: VecDeque<Parked<Box<Callback>>>,
    may_park: usize,
    outage: Outage,
    /// Records at hand to probe with while an outage of our own is presumed.
    probes: VecDeque<Box<Callback>>,
    /// What intake was told last, by class.
    resting: [bool; 3],
    breath: Breath,
    /// Records held for their remainder, by due time and a number that tells those of one instant apart.
    holds: BTreeMap<(UnixMillis, u64), Hold>,
    hold_bytes: usize,
    next_hold: u64,
    oldest: Oldest,
    jobs: Vec<Job>,
    returns: [Vec<Return>; 3],
    ticks: u32,
    last_tick: Duration,
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
        let registry = snapshot.load_full();
        let mut lanes = Lanes::new(settings.max_in_flight, settings.max_records(), settings.max_in_flight_bytes, settings.circuit);
        lanes.set_contended(registry.endpoints() > 1);
        Self {
            outage: Outage::new(clock.monotonic()),
            last_tick: clock.monotonic(),
            clock,
            registry,
            snapshot,
            metrics,
            intakes,
            arrivals: Default::default(),
            lanes,
            parking: VecDeque::new(),
            may_park: PARKED_LEAST,
            probes: VecDeque::new(),
            resting: [false; 3],
            breath: Breath::default(),
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
                self.breathed(&intakes);
                for intake in intakes {
                    self.arrivals[intake.ticket.assignment.class.index()].push_back(intake);
                }
            }
            ToEngine::PhaseMoved => self.give_up_waiting(|ticket| ticket.assignment.phase() != Phase::Active),
        }
    }

    fn has_arrivals(&self) -> bool {
        self.arrivals.iter().any(|arrivals| !arrivals.is_empty())
    }

    fn take_in_some(&mut self) {
        if !self.has_arrivals() {
            return;
        }
        self.renew_registry();
        for (class, most) in TAKEN_IN.into_iter().enumerate() {
            for _ in 0..most {
                let Some(intake) = self.arrivals[class].pop_front() else { break };
                self.take_in(intake);
            }
        }
    }

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
            self.sort(hold.ticket, hold.record, Chain { due: None, ..hold.chain }, Sight::Again);
        }
        let now = self.clock.monotonic();
        self.ticks += 1;
        // This process stood still: answers may wait in the sockets, and nobody's silence is proven before they are read.
        let stood_still = now.saturating_sub(std::mem::replace(&mut self.last_tick, now)) >= LATE_TICK;
        if self.ticks.is_multiple_of(TICKS_PER_WATCH) && !stood_still {
            let parked = self.lanes.watch(now);
            self.parking.extend(parked);
        }
        self.may_park = (self.parking.len() / PARKED_PART).max(PARKED_LEAST);
        self.park_some();
        self.probe();
        self.look_at_rest();
        let sweep = self.ticks.is_multiple_of(TICKS_PER_SWEEP);
        if sweep {
            self.lanes.sweep(now);
            self.outage.sweep(now);
            if let Some(change) = self.outage.look(now) {
                self.on_outage(change);
            }
            self.metrics.set_endpoints(self.lanes.circuits());
            self.export_oldest(now);
        }
        sweep
    }

    fn export_oldest(&mut self, now: Duration) {
        let mut by_domain = self.oldest.by_domain(now);
        let in_memory = self
            .lanes
            .waiting()
            .chain(self.parking.iter().map(|p| &p.item))
            .map(|c| &c.chain)
            .chain(self.holds.values().map(|h| &h.chain))
            .chain(self.probes.iter().map(|c| &c.chain));
        for chain in in_memory {
            if let Some(since) = oldest::undelivered_since(chain.source_time, chain.since) {
                oldest::note(&mut by_domain, chain.domain.as_ref(), since);
            }
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
