//! Virtual time: it stands still until the world moves it on.

use super::super::super::ports::Clock;
use crate::domain::skew::BrokerClock;
use crate::domain::time::UnixMillis;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// The wall clock at the start of every run.
pub(super) const EPOCH: UnixMillis = UnixMillis(1_795_435_200_000);

/// Milliseconds of a run as the histories count them.
pub(super) fn millis(at: Duration) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// The time of the whole world, and who sleeps.
#[derive(Default)]
pub(super) struct Timeline {
    now: Cell<Duration>,
    /// Timers that only make somebody look around are due at multiples of this: threads are late, and idle time costs less.
    grain: Cell<Duration>,
    sleepers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    number: Cell<u64>,
}

impl Timeline {
    pub(super) fn new(grain: Duration) -> Rc<Self> {
        let timeline = Self::default();
        timeline.grain.set(grain);
        Rc::new(timeline)
    }

    pub(super) fn now(&self) -> Duration {
        self.now.get()
    }

    pub(super) fn unix(&self) -> UnixMillis {
        EPOCH.plus(self.now())
    }

    /// The next instant after `at` at which somebody idle looks around.
    pub(super) fn coarse(&self, at: Duration) -> Duration {
        let grain = self.grain.get().as_micros().max(1);
        Duration::from_micros(u64::try_from(at.as_micros().div_ceil(grain) * grain).unwrap_or(u64::MAX))
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.sleepers.borrow().keys().next().map(|(at, _)| *at)
    }

    /// Moves time on, and wakes who slept until then.
    pub(super) fn advance(&self, to: Duration) {
        self.now.set(to.max(self.now()));
        loop {
            let mut sleepers = self.sleepers.borrow_mut();
            let Some(first) = sleepers.first_entry().filter(|e| e.key().0 <= self.now()) else { return };
            let waker = first.remove();
            drop(sleepers);
            waker.wake();
        }
    }

    pub(super) fn sleep_until(self: &Rc<Self>, until: Duration) -> impl Future<Output = ()> + use<> {
        let timeline = Rc::clone(self);
        let mut asleep = false;
        poll_fn(move |context| {
            if timeline.now() >= until {
                return Poll::Ready(());
            }
            if !asleep {
                asleep = true;
                let number = timeline.number.get();
                timeline.number.set(number + 1);
                timeline.sleepers.borrow_mut().insert((until, number), context.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// The clock of one process.
#[derive(Clone)]
pub(super) struct SimClock {
    timeline: Rc<Timeline>,
    born: Duration,
    /// How far its wall clock is ahead, in milliseconds.
    pub(super) ahead: Rc<Cell<i64>>,
    broker: Rc<RefCell<BrokerClock>>,
    chance: Rc<RefCell<fastrand::Rng>>,
}

impl SimClock {
    pub(super) fn new(timeline: &Rc<Timeline>, seed: u64) -> Self {
        Self {
            timeline: Rc::clone(timeline),
            born: timeline.now(),
            ahead: Rc::default(),
            broker: Rc::default(),
            chance: Rc::new(RefCell::new(fastrand::Rng::with_seed(seed))),
        }
    }

    /// The broker told when it appended something.
    pub(super) fn observe(&self, append: UnixMillis) {
        let now = self.monotonic();
        self.broker.borrow_mut().observe(append, now);
    }

    /// Whether the broker's clock is known.
    pub(super) fn knows_the_broker(&self) -> bool {
        self.broker.borrow().skew_ms(self.now(), self.monotonic()).is_some()
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.timeline.unix().0 + self.ahead.get())
    }

    fn monotonic(&self) -> Duration {
        self.timeline.now() - self.born
    }

    fn broker_now(&self) -> UnixMillis {
        self.broker.borrow().now(self.now(), self.monotonic())
    }

    fn is_sane(&self) -> bool {
        self.broker.borrow().is_sane(self.now(), self.monotonic())
    }

    fn may_judge_age(&self) -> bool {
        self.broker.borrow().may_judge_age(self.now(), self.monotonic())
    }

    fn draw(&self) -> f64 {
        self.chance.borrow_mut().f64()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        self.timeline.sleep_until(self.timeline.coarse(self.timeline.now() + duration))
    }
}
