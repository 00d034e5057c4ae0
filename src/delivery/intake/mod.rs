//! Intake: the body of one class's own thread. It reads a [`Source`], keeps each partition's tracker and heads, charges the class's
//! budget, hands records to the engine in batches, and commits.
//!
//! One turn: returns are taken, due heads released, a commit sent when it is time; then it says what it waits for. While the budget is
//! full, or the clock is not sane, nothing is taken in: for a short while by not polling (what is prefetched stays), after [`LONG_STALL`]
//! by pausing. A partition with a reason of its own (its commits fail, its map is long, too many heads, stopped) is paused alone.
//!
//! ```text
//!             ┌──────────── Revoking told ────────────┐
//!             │                                       ▼
//!  turn ─► reading ─► waits for the source      revoking ─► waits for returns, until all are back or the grace is over
//!             ▲   └─► stalled: for returns            │
//!             └───────── final commit, released ──────┘      told to leave, or drained and all is back: commits and leaves
//! ```
//!
//! Only the last commit of partitions that go blocks: [`run`] does what a turn waits for, on a thread of its own; the simulation does it in
//! virtual time.
//!
//! `rebalance` begins and ends partitions, `records` takes records in and back, `commits` decides what is committed and when; here is the
//! loop.
//!
//! Invariants: an offset is finished only by a settlement; after a partition's phase is `Fenced` its tracker is gone, so that a late
//! return can free budget and nothing else; the position is believed only where every record up to it was seen.

mod commits;
mod rebalance;
mod records;

use super::budget::Budget;
use super::handover::{Intake, ToEngine, ToIntake};
use super::partition::{COMMIT_PATIENCE, HeadRoom, Partition};
use super::ports::{Clock, Source, SourceEvent, TopicPartition};
use super::settings::Settings;
use crate::domain::class::Class;
use crate::domain::offsets::CommitPoint;
use crate::metrics::{Health, Heartbeat, KafkaErrorKind, Metrics};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, warn};

/// Records per batch: enough that a wake-up of the engine is shared by many, few enough that a batch is a small part of a budget.
const BATCH: usize = 256;
/// Between commits while something finished is not committed. Design §10 allows a second; with a tenth of that a crash repeats a tenth as
/// much and forks retry chains a tenth as often, for at most ten small requests a second.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// Between exports of what costs a walk over all partitions.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait for the source: returns are looked at in between.
const POLL: Duration = Duration::from_millis(100);
/// The longest stretch without polling the source while there is no room: its callbacks wait too.
const STRETCH: Duration = Duration::from_millis(250);
/// A stall longer than this pauses partitions instead.
const LONG_STALL: Duration = Duration::from_secs(5);

/// The next offset to commit of each partition, for those who watch lag: written by the intake threads.
pub type Positions = Arc<Mutex<HashMap<TopicPartition, i64>>>;

/// Why an intake thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Drained: committed and left its group.
    Left,
    /// The client can do nothing any more.
    Fatal(String),
    /// The engine is gone.
    EngineGone,
}

/// What an intake thread works with besides its source.
pub struct Context<C> {
    /// Its class.
    pub class: Class,
    /// The delivery settings.
    pub settings: Settings,
    /// Time.
    pub clock: C,
    /// To the engine.
    pub engine: UnboundedSender<ToEngine>,
    /// From the engine and the app.
    pub inbox: Receiver<ToIntake>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Liveness and readiness.
    pub health: Arc<Health>,
    /// For the lag.
    pub positions: Positions,
}

/// What a turn waits for.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Polling the source; then [`Loop::on_event`].
    Source {
        /// At most this long.
        timeout: Duration,
        /// At most this many records.
        max: usize,
    },
    /// Returns; then, if one came, [`Loop::on_message`].
    Returns {
        /// How long.
        timeout: Duration,
    },
}

/// Whether partitions are being given back.
#[derive(Debug)]
enum State {
    /// Nothing is being given back.
    Reading,
    /// These are being given back; records of them that are with the engine may end until the deadline. The source is not polled meanwhile.
    Revoking { names: Vec<TopicPartition>, deadline: Duration },
}

/// Runs until drained or fatal.
pub fn run<S: Source, C: Clock>(source: S, context: Context<C>) -> Ended {
    let mut intake = Loop::new(source, context);
    loop {
        let ended = match intake.turn() {
            Ok(Wait::Source { timeout, max }) => {
                let event = intake.source.poll(timeout, max);
                intake.on_event(event)
            }
            Ok(Wait::Returns { timeout }) => match intake.context.inbox.recv_timeout(timeout) {
                Ok(message) => intake.on_message(message),
                // That the engine is gone is found by the next turn.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
            },
            Err(ended) => Some(ended),
        };
        if let Some(ended) = ended {
            return ended;
        }
    }
}

/// One class's intake.
pub(super) struct Loop<S, C> {
    pub(super) source: S,
    state: State,
    pub(super) context: Context<C>,
    budget: Budget,
    /// What the heads of all partitions together may take.
    heads: HeadRoom,
    /// The cost of the largest recent record, in bytes, slowly forgotten: it bounds how many records a batch may have.
    largest: usize,
    heartbeat: Heartbeat,
    partitions: Vec<Partition>,
    /// The index of the last record's partition: records of one partition come in a row.
    last_hit: usize,
    out: Vec<Intake>,
    next_commit: Duration,
    next_export: Duration,
    /// The commit under way.
    pending: Option<Vec<(TopicPartition, CommitPoint)>>,
    /// It was logged that some partition rests because its commits fail.
    commit_stall_said: bool,
    stalled_since: Option<Duration>,
    last_poll: Duration,
    draining: bool,
    /// Told to rest: an outage of our own is presumed.
    resting: bool,
}

impl<S: Source, C: Clock> Loop<S, C> {
    pub(super) fn new(source: S, context: Context<C>) -> Self {
        let (records, bytes) =
            (context.class.share(context.settings.max_records()), context.class.share(context.settings.max_in_flight_bytes));
        // Half of the retry class's budget is for heads, so that those of long tiers never keep the short ones from being read.
        let (budget, heads) = match context.class {
            Class::Retry => (Budget::new(records.div_ceil(2), bytes / 2), HeadRoom { records: records / 2, bytes: bytes / 2 }),
            Class::Fresh | Class::Replay => (Budget::new(records, bytes), HeadRoom { records: 0, bytes: 0 }),
        };
        let heartbeat = context.health.heartbeat(&format!("intake-{}", context.class));
        let now = context.clock.monotonic();
        Self {
            source,
            state: State::Reading,
            context,
            budget,
            heads,
            largest: 0,
            heartbeat,
            partitions: Vec::new(),
            last_hit: 0,
            out: Vec::new(),
            next_commit: now + COMMIT_INTERVAL,
            next_export: now,
            pending: None,
            commit_stall_said: false,
            stalled_since: None,
            last_poll: now,
            draining: false,
            resting: false,
        }
    }

    /// Does what is to be done now, and says what to wait for.
    pub(super) fn turn(&mut self) -> Result<Wait, Ended> {
        self.heartbeat.beat();
        let engine_gone = loop {
            match self.context.inbox.try_recv() {
                Ok(message) => {
                    if let Some(ended) = self.on_message(message) {
                        return Err(ended);
                    }
                }
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        if let Some(left) = self.revoke_goes_on(engine_gone) {
            // Partitions that stay go on with what was read of them.
            self.release_heads();
            // An engine that is gone is found out by the next turn.
            let _ = self.hand_over();
            return Ok(Wait::Returns { timeout: left.min(POLL) });
        }
        if engine_gone {
            return Err(Ended::EngineGone);
        }
        if self.draining && self.partitions.iter().all(|p| p.handed() == 0) {
            return Err(self.leave());
        }
        self.release_heads();
        self.commit_if_due();
        let stalled = self.is_stalled();
        self.rest_where_needed(stalled);
        if self.hand_over().is_err() {
            return Err(Ended::EngineGone);
        }
        Ok(self.what_to_wait_for(stalled))
    }

    /// Waits for the source, or for returns while stalled.
    fn what_to_wait_for(&self, stalled: bool) -> Wait {
        let now = self.context.clock.monotonic();
        let patience = self.until_next_timer(now);
        if stalled && now.saturating_sub(self.last_poll) < STRETCH {
            Wait::Returns { timeout: patience.min(STRETCH) }
        } else if stalled {
            Wait::Source { timeout: Duration::ZERO, max: 1 }
        } else {
            Wait::Source { timeout: patience.min(POLL), max: self.batch() }
        }
    }

    /// How many records to read at once, at least one. In the retry class no more heads than one partition may hold, so that none ever
    /// holds more than twice that.
    fn batch(&self) -> usize {
        let (room, bytes) = match self.context.class {
            Class::Retry => {
                let of_one = self.heads.of_one(self.partitions.len());
                (self.budget.room().min(of_one.records), self.budget.free_bytes().min(of_one.bytes))
            }
            Class::Fresh | Class::Replay => (self.budget.room(), self.budget.free_bytes()),
        };
        room.min(BATCH).min(bytes / self.largest.max(1)).max(1)
    }

    fn until_next_timer(&self, now: Duration) -> Duration {
        let broker_now = self.context.clock.broker_now();
        let may_release = !self.draining && !self.resting && self.budget.room() > 0 && self.context.clock.is_sane();
        let heads = self.partitions.iter().filter(|_| may_release);
        let release = heads.filter_map(Partition::next_release).min().map(|at| at.since(broker_now));
        let read_again = self.partitions.iter().filter_map(Partition::head_rest_ends).min().map(|at| at.saturating_sub(now));
        let next = self.next_commit.saturating_sub(now).min(release.unwrap_or(POLL)).min(read_again.unwrap_or(POLL));
        next.max(Duration::from_millis(1))
    }

    fn is_stalled(&mut self) -> bool {
        let now = self.context.clock.monotonic();
        let paused = self.stalled_since.is_some_and(|since| now.saturating_sub(since) >= LONG_STALL);
        let full = if paused { !self.budget.half_free() } else { self.budget.room() == 0 };
        let stalled = self.draining || self.resting || full || !self.context.clock.is_sane();
        if stalled {
            self.stalled_since.get_or_insert(now);
        } else {
            self.stalled_since = None;
        }
        stalled
    }

    fn rest_where_needed(&mut self, stalled: bool) {
        let now = self.context.clock.monotonic();
        let long = stalled && self.stalled_since.is_some_and(|since| now.saturating_sub(since) >= LONG_STALL);
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for partition in &mut self.partitions {
            match partition.rest(long || self.draining, now) {
                Some(true) => pause.push(partition.name.clone()),
                Some(false) => resume.push(partition.name.clone()),
                None => {}
            }
        }
        let lack_commits = self.partitions.iter().filter(|p| p.lacks_commits(now)).count();
        if lack_commits > 0 && !self.commit_stall_said {
            let patience = COMMIT_PATIENCE.as_secs();
            error!(class = %self.context.class, partitions = lack_commits, "no commit was accepted for {patience} s: nothing more is taken in until one is");
        }
        self.commit_stall_said = lack_commits > 0;
        if !pause.is_empty() {
            self.source.pause(&pause);
        }
        if !resume.is_empty() {
            self.source.resume(&resume);
        }
    }

    fn hand_over(&mut self) -> Result<(), ()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.context.engine.send(ToEngine::Batch(std::mem::take(&mut self.out))).map_err(|_| ())
    }

    /// A message of the engine or the app.
    pub(super) fn on_message(&mut self, message: ToIntake) -> Option<Ended> {
        match message {
            ToIntake::Returns(returns) => {
                for one in returns {
                    self.take_back(one);
                }
                None
            }
            ToIntake::Rest(rest) => {
                self.resting = rest;
                None
            }
            ToIntake::Drain => {
                self.draining = true;
                self.partitions.iter_mut().for_each(Partition::drop_heads);
                None
            }
            ToIntake::Leave => {
                self.finish_revoke();
                Some(self.leave())
            }
        }
    }

    /// What the source told.
    pub(super) fn on_event(&mut self, event: SourceEvent) -> Option<Ended> {
        self.last_poll = self.context.clock.monotonic();
        match (&self.state, event) {
            (_, SourceEvent::Nothing) => {}
            (_, SourceEvent::Committed(result)) => self.on_committed(&result),
            (_, SourceEvent::Fatal(cause)) => {
                self.context.metrics.kafka_error(KafkaErrorKind::Fatal);
                return Some(Ended::Fatal(cause));
            }
            (State::Reading, SourceEvent::Batch(records)) => self.take_in(records),
            (State::Reading, SourceEvent::Assigned(assigned)) => {
                self.context.metrics.rebalance(self.context.class);
                self.context.health.set_joined(self.context.class, true);
                self.begin(&assigned);
            }
            (State::Reading, SourceEvent::Revoking(names)) => {
                self.context.metrics.rebalance(self.context.class);
                self.begin_revoke(names);
            }
            (State::Reading, SourceEvent::Lost(names)) => {
                warn!(class = %self.context.class, partitions = names.len(), "partitions lost: the group went on without us");
                self.context.metrics.rebalance(self.context.class);
                self.context.health.set_joined(self.context.class, false);
                self.tell_uncommitted(|p| names.contains(&p.name));
                self.end(&names);
                self.source.release(&names);
            }
            (State::Reading, SourceEvent::OutOfRange { outside, unsure }) => {
                self.context.metrics.kafka_error(KafkaErrorKind::OffsetReset);
                self.go_on_after_a_gap(outside, unsure);
            }
            // The source is not polled before the partitions that it takes back are released.
            (
                State::Revoking { .. },
                SourceEvent::Batch(_)
                | SourceEvent::Assigned(_)
                | SourceEvent::Revoking(_)
                | SourceEvent::Lost(_)
                | SourceEvent::OutOfRange { .. },
            ) => warn!(class = %self.context.class, "the source went on before what it takes back was released"),
        }
        self.hand_over().err().map(|()| Ended::EngineGone)
    }
}
