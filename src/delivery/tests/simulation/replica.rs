//! A replica: one engine and three intakes, each stepped by the world.

use super::super::super::engine::{self, Drained, Parts};
use super::super::super::handover::ToIntake;
use super::super::super::intake::{Context, Loop, Positions, Wait};
use super::super::super::ports::Source as _;
use super::super::super::settings::Settings;
use super::broker::Broker;
use super::receivers::{Receivers, SimOutbox, SimTransport};
use super::source::SimSource;
use super::time::{SimClock, Timeline};
use crate::domain::class::Class;
use crate::domain::registry::Registry;
use crate::metrics::{Health, Metrics};
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::task::{Context as Task, Poll, Wake, Waker};
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

/// Every replica of every run counts here: what is counted is not judged, and making the metrics costs more than a run.
pub(super) static METRICS: LazyLock<Arc<Metrics>> =
    LazyLock::new(|| Metrics::new(&["1s".to_owned(), "5s".to_owned()], &["source".to_owned()]).expect("no metric has another's name"));

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Signal {
    given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug)]
enum Waits {
    Nothing,
    Source { until: Duration, max: usize },
    Returns { until: Duration, nudged: bool },
}

struct Intake {
    thread: Option<Loop<SimSource, SimClock>>,
    waits: Waits,
}

/// What of a replica can take a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Engine,
    Intake(Class),
}

/// One process.
pub(super) struct Replica {
    pub(super) number: u64,
    pub(super) clock: SimClock,
    engine: Option<Pin<Box<dyn Future<Output = Drained>>>>,
    flag: Arc<Flag>,
    intakes: [Intake; 3],
    drain: Rc<Signal>,
    pub(super) stopped_by_signal: bool,
    pub(super) drain_began: Option<Duration>,
}

/// What all replicas share.
pub(super) struct Surroundings {
    pub(super) timeline: Rc<Timeline>,
    pub(super) broker: Rc<RefCell<Broker>>,
    pub(super) receivers: Rc<RefCell<Receivers>>,
    pub(super) registry: Arc<ArcSwap<Registry>>,
    pub(super) settings: Settings,
}

impl Replica {
    pub(super) fn start(number: u64, seed: u64, around: &Surroundings) -> Self {
        let clock = SimClock::new(&around.timeline, seed);
        let (to_engine, inbox) = unbounded_channel();
        let health = Health::new();
        let positions = Positions::default();
        let channels = Class::ALL.map(|_| channel::<ToIntake>());
        let senders = channels.each_ref().map(|(sender, _)| sender.clone());
        let mut inboxes = channels.map(|(_, receiver)| Some(receiver));
        let intakes = Class::ALL.map(|class| {
            let context = Context {
                class,
                settings: around.settings.clone(),
                clock: clock.clone(),
                engine: to_engine.clone(),
                inbox: inboxes[class.index()].take().expect("each class has one"),
                metrics: Arc::clone(&METRICS),
                health: Arc::clone(&health),
                positions: Arc::clone(&positions),
            };
            let source = SimSource::join(&around.broker, class, number);
            Intake { thread: Some(Loop::new(source, context)), waits: Waits::Nothing }
        });
        for class in Class::ALL {
            around.broker.borrow_mut().rebalance(class);
        }
        let parts = Parts {
            transport: SimTransport { receivers: Rc::clone(&around.receivers), broker: Rc::clone(&around.broker), replica: number },
            outbox: SimOutbox { broker: Rc::clone(&around.broker), clock: clock.clone(), replica: number },
            clock: clock.clone(),
            settings: around.settings.clone(),
            registry: Arc::clone(&around.registry),
            metrics: Arc::clone(&METRICS),
            health,
            inbox,
            intakes: senders,
        };
        let drain = Rc::new(Signal::default());
        let signal = Rc::clone(&drain);
        let told = poll_fn(move |task| {
            if signal.given.get() {
                return Poll::Ready(());
            }
            *signal.waker.borrow_mut() = Some(task.waker().clone());
            Poll::Pending
        });
        Self {
            number,
            clock,
            engine: Some(Box::pin(engine::run(parts, told))),
            flag: Arc::new(Flag(AtomicBool::new(true))),
            intakes,
            drain,
            stopped_by_signal: false,
            drain_began: None,
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.engine.is_none() && self.intakes.iter().all(|i| i.thread.is_none())
    }

    /// SIGTERM.
    pub(super) fn drain(&mut self, now: Duration) {
        self.drain_began = Some(now);
        self.drain.given.set(true);
        if let Some(waker) = self.drain.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Adds the parts that can take a step now.
    pub(super) fn runnable(&mut self, now: Duration, into: &mut Vec<(usize, Part)>, at: usize) {
        if self.stopped_by_signal {
            return;
        }
        if self.engine.is_some() && self.flag.0.load(Ordering::Relaxed) {
            into.push((at, Part::Engine));
        }
        for class in Class::ALL {
            let intake = &mut self.intakes[class.index()];
            let Some(thread) = &mut intake.thread else { continue };
            let ready = match intake.waits {
                Waits::Nothing => true,
                Waits::Source { until, .. } => until <= now || thread.source.has_event(),
                Waits::Returns { until, nudged } => nudged || until <= now,
            };
            if ready {
                into.push((at, Part::Intake(class)));
            }
        }
    }

    /// What a part waits for, for people.
    pub(super) fn waits_for(&self, part: Part) -> String {
        match part {
            Part::Engine => String::new(),
            Part::Intake(class) => format!("{:?}", self.intakes[class.index()].waits),
        }
    }

    /// When some part of it can take a step, if nothing happens before.
    pub(super) fn next(&self) -> Option<Duration> {
        if self.stopped_by_signal {
            return None;
        }
        let of = |i: &Intake| {
            i.thread.as_ref()?;
            match i.waits {
                Waits::Nothing => Some(Duration::ZERO),
                Waits::Source { until, .. } | Waits::Returns { until, .. } => Some(until),
            }
        };
        self.intakes.iter().filter_map(of).min()
    }

    pub(super) fn step(&mut self, part: Part, timeline: &Timeline) {
        match part {
            Part::Engine => self.step_engine(),
            Part::Intake(class) => self.step_intake(class, timeline),
        }
    }

    fn step_engine(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        self.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        if engine.as_mut().poll(&mut Task::from_waker(&waker)).is_ready() {
            self.engine = None;
        }
        for intake in &mut self.intakes {
            if let Waits::Returns { nudged, .. } = &mut intake.waits {
                *nudged = true;
            }
        }
    }

    fn step_intake(&mut self, class: Class, timeline: &Timeline) {
        let intake = &mut self.intakes[class.index()];
        let Some(thread) = &mut intake.thread else { return };
        let now = timeline.now();
        let ended = match intake.waits {
            Waits::Nothing => None,
            Waits::Source { max, .. } => {
                let event = thread.source.poll(Duration::ZERO, max);
                thread.on_event(event)
            }
            Waits::Returns { until, .. } => match thread.context.inbox.try_recv() {
                Ok(message) => thread.on_message(message),
                Err(_) if until > now && self.engine.is_some() => {
                    intake.waits = Waits::Returns { until, nudged: false };
                    return;
                }
                Err(_) => None,
            },
        };
        let next = if ended.is_some() { None } else { thread.turn().ok() };
        thread.source.look_again();
        match next {
            Some(Wait::Source { timeout, max }) => intake.waits = Waits::Source { until: timeline.coarse(now + timeout), max },
            Some(Wait::Returns { timeout }) => intake.waits = Waits::Returns { until: timeline.coarse(now + timeout), nudged: true },
            None => intake.thread = None,
        }
    }
}
