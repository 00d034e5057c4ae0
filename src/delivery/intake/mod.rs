//! Intake: the body of one class's own thread. It reads a [`Source`], keeps each partition's tracker and heads, charges the class's
//! budget, hands records to the engine in batches, and commits.
//!
//! One turn: returns are taken, due heads released, a commit sent when it is time, then the source is polled. While the budget is full, or
//! the clock is not sane, or commits have failed for [`COMMIT_PATIENCE`], nothing is taken in: for a short while by not polling (what is
//! prefetched stays), after [`LONG_STALL`] by pausing.
//!
//! `rebalance` begins and ends partitions, `commits` decides what is committed and when; here are the loop, the budget and the records.
//!
//! Invariants: an offset is finished only by a settlement; after a partition's phase is `Fenced` its tracker is gone, so that a late
//! return can free budget and nothing else; the position is believed only where every record up to it was seen.

mod commits;
mod rebalance;

use super::budget::Budget;
use super::handover::{Intake, Return, Returned, ToEngine, ToIntake};
use super::partition::{HeadRoom, Partition, Taken};
use super::ports::{Clock, Source, SourceEvent, TopicPartition};
use super::settings::Settings;
use crate::domain::class::Class;
use crate::domain::offsets::{CommitPoint, MapError};
use crate::domain::record::Record;
use crate::metrics::{Health, Heartbeat, KafkaErrorKind, Metrics};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, warn};

/// Records per batch: enough that a wake-up of the engine is shared by many, few enough that a batch is a small part of a budget.
const BATCH: usize = 256;
/// Between commits while something is finished that was not committed. The design allows a second; a tenth of it makes a crash repeat a
/// tenth, and forks a chain of retries as seldom, for ten small requests a second at most.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// Between exports of what costs a walk over all partitions.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait for the source: returns are looked at in between.
const POLL: Duration = Duration::from_millis(100);
/// Without room the source is not polled for so long at a stretch: its callbacks wait too (kafka notes, "Consumer").
const STRETCH: Duration = Duration::from_millis(250);
/// A stall longer than this pauses instead.
const LONG_STALL: Duration = Duration::from_secs(5);
/// When commits have failed for so long, nothing more is taken in until one is accepted (design §10).
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

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

/// Runs until drained or fatal.
pub fn run<S: Source, C: Clock>(source: S, context: Context<C>) -> Ended {
    let (records, bytes) = (context.class.share(context.settings.max_records()), context.class.share(context.settings.max_in_flight_bytes));
    // Of the retry class a half is for heads, so that those of long tiers never keep the short ones from being read.
    let (budget, heads) = match context.class {
        Class::Retry => (Budget::new(records.div_ceil(2), bytes / 2), HeadRoom { records: records / 2, bytes: bytes / 2 }),
        Class::Fresh | Class::Replay => (Budget::new(records, bytes), HeadRoom { records: 0, bytes: 0 }),
    };
    let heartbeat = context.health.heartbeat(&format!("intake-{}", context.class));
    let now = context.clock.monotonic();
    let mut thread = Thread {
        source,
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
        commits_fail_since: None,
        commit_stall_said: false,
        stalled_since: None,
        last_poll: now,
        draining: false,
        resting: false,
        leaving: false,
    };
    loop {
        if let Some(ended) = thread.turn() {
            return ended;
        }
    }
}

struct Thread<S, C> {
    source: S,
    context: Context<C>,
    budget: Budget,
    /// What all partitions together may hold as heads.
    heads: HeadRoom,
    /// The cost of the largest record of late, slowly forgotten: how many of them a batch may hold.
    largest: usize,
    heartbeat: Heartbeat,
    partitions: Vec<Partition>,
    /// Where the last record's partition stands: records of one come in a row.
    last_hit: usize,
    out: Vec<Intake>,
    next_commit: Duration,
    next_export: Duration,
    /// The commit under way.
    pending: Option<Vec<(TopicPartition, CommitPoint)>>,
    commits_fail_since: Option<Duration>,
    commit_stall_said: bool,
    stalled_since: Option<Duration>,
    last_poll: Duration,
    draining: bool,
    /// Told to rest: an outage of our own is presumed.
    resting: bool,
    /// Told to leave, whatever is still with the engine.
    leaving: bool,
}

impl<S: Source, C: Clock> Thread<S, C> {
    fn turn(&mut self) -> Option<Ended> {
        self.heartbeat.beat();
        loop {
            match self.context.inbox.try_recv() {
                Ok(message) => {
                    if let Some(ended) = self.on_message(message) {
                        return Some(ended);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Some(Ended::EngineGone),
            }
        }
        if self.leaving || self.draining && self.partitions.iter().all(|p| p.handed() == 0) {
            return Some(self.leave());
        }
        self.release_heads();
        self.commit_if_due();
        let stalled = self.is_stalled();
        self.rest_where_needed(stalled);
        if self.hand_over().is_err() {
            return Some(Ended::EngineGone);
        }
        self.wait(stalled)
    }

    /// Waits for the source, or while stalled for returns.
    fn wait(&mut self, stalled: bool) -> Option<Ended> {
        let now = self.context.clock.monotonic();
        let patience = self.until_next_timer(now);
        if stalled && now.saturating_sub(self.last_poll) < STRETCH {
            return match self.context.inbox.recv_timeout(patience.min(STRETCH)) {
                Ok(message) => self.on_message(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Ended::EngineGone),
            };
        }
        let (timeout, max) = if stalled { (Duration::ZERO, 1) } else { (patience.min(POLL), self.batch()) };
        let event = self.source.poll(timeout, max);
        self.last_poll = self.context.clock.monotonic();
        let ended = self.on_event(event);
        if self.hand_over().is_err() {
            return Some(Ended::EngineGone);
        }
        ended
    }

    /// How many records to read at once, at least one. Of heads no more than a partition may hold, so that none ever holds more than
    /// twice that.
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
        self.next_commit.saturating_sub(now).min(release.unwrap_or(POLL)).max(Duration::from_millis(1))
    }

    fn is_stalled(&mut self) -> bool {
        let now = self.context.clock.monotonic();
        let commits_fail = self.commits_fail_since.is_some_and(|since| now.saturating_sub(since) >= COMMIT_PATIENCE);
        let paused = self.stalled_since.is_some_and(|since| now.saturating_sub(since) >= LONG_STALL);
        if commits_fail && !self.commit_stall_said {
            error!(class = %self.context.class, "no commit was accepted for {} s: nothing more is taken in until one is", COMMIT_PATIENCE.as_secs());
        }
        self.commit_stall_said = commits_fail;
        let full = if paused { !self.budget.half_free() } else { self.budget.room() == 0 };
        let stalled = self.draining || self.resting || full || commits_fail || !self.context.clock.is_sane();
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
            match partition.rest(long || self.draining) {
                Some(true) => pause.push(partition.name.clone()),
                Some(false) => resume.push(partition.name.clone()),
                None => {}
            }
        }
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

    fn on_message(&mut self, message: ToIntake) -> Option<Ended> {
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
            ToIntake::Leave => Some(self.leave()),
        }
    }

    fn take_back(&mut self, one: Return) {
        self.budget.release(one.ticket.cost);
        let Some(partition) = self.partitions.iter_mut().find(|p| Arc::ptr_eq(&p.assignment, &one.ticket.assignment)) else {
            if matches!(one.returned, Returned::Settled(_)) {
                // Too late to be committed: the next owner does it again.
                self.context.metrics.possible_repeat(1);
            }
            return;
        };
        match one.returned {
            Returned::Settled(_) => partition.settled(one.ticket.offset),
            Returned::Unsettled => partition.unsettled(),
            Returned::Refused(refused) => {
                error!(
                    topic = %partition.name.topic,
                    partition = partition.name.partition,
                    offset = one.ticket.offset,
                    cause = %refused,
                    "partition stopped: a record could be neither requeued nor dead-lettered; mend the cause, then restart"
                );
                partition.refused(refused);
                self.context.metrics.kafka_error(KafkaErrorKind::ProduceRefused);
                let stopped = self.partitions.iter().filter(|p| p.is_stopped()).count();
                self.context.metrics.set_partitions_stopped(self.context.class, stopped);
            }
        }
    }

    fn on_event(&mut self, event: SourceEvent) -> Option<Ended> {
        match event {
            SourceEvent::Nothing => {}
            SourceEvent::Batch(records) => self.take_in(records),
            SourceEvent::Assigned(assigned) => {
                self.context.metrics.rebalance(self.context.class);
                self.context.health.set_joined(self.context.class, true);
                self.begin(&assigned);
            }
            SourceEvent::Revoking(names) => {
                self.context.metrics.rebalance(self.context.class);
                self.revoke(&names);
            }
            SourceEvent::Lost(names) => {
                warn!(class = %self.context.class, partitions = names.len(), "partitions lost: the group went on without us");
                self.context.metrics.rebalance(self.context.class);
                self.tell_uncommitted(|p| names.contains(&p.name));
                self.end(&names);
                self.source.release(&names);
            }
            SourceEvent::OutOfRange(assigned) => {
                self.context.metrics.kafka_error(KafkaErrorKind::OffsetReset);
                self.go_on_after_a_gap(assigned);
            }
            SourceEvent::Committed(result) => self.on_committed(result),
            SourceEvent::Fatal(cause) => {
                self.context.metrics.kafka_error(KafkaErrorKind::Fatal);
                return Some(Ended::Fatal(cause));
            }
        }
        None
    }

    fn take_in(&mut self, records: Vec<Record>) {
        if self.draining {
            return;
        }
        let broker_now = self.context.clock.broker_now();
        let head_room = self.heads.of_one(self.partitions.len());
        for record in records {
            let stands_at = |p: &Partition| p.name.partition == record.position.partition && p.name.topic == record.position.topic;
            if !self.partitions.get(self.last_hit).is_some_and(stands_at) {
                let Some(found) = self.partitions.iter().position(stands_at) else { continue };
                self.last_hit = found;
            }
            let Some(partition) = self.partitions.get_mut(self.last_hit) else { continue };
            let cost = record.cost();
            self.largest = cost.max(self.largest - self.largest / 64);
            let (taken, fault) = partition.take(record, broker_now, head_room);
            if let Some(fault) = fault {
                Self::say_map_fault(&self.context.metrics, partition, &fault);
            }
            match taken {
                Taken::HandOver(ticket, record) => {
                    self.budget.charge(cost);
                    if self.context.class == Class::Fresh {
                        self.context.metrics.consumed(&record.position.topic);
                    }
                    self.out.push(Intake { ticket, record });
                }
                Taken::Held | Taken::Dropped => {}
            }
        }
    }

    fn say_map_fault(metrics: &Metrics, partition: &Partition, fault: &MapError) {
        error!(
            topic = %partition.name.topic,
            partition = partition.name.partition,
            cause = %fault,
            "the committed map of unfinished offsets was discarded: what it named finished is delivered again, with the same ids"
        );
        metrics.kafka_error(KafkaErrorKind::OffsetReset);
    }

    fn release_heads(&mut self) {
        let broker_now = self.context.clock.broker_now();
        if self.draining || self.resting || !self.context.clock.is_sane() {
            return;
        }
        for partition in &mut self.partitions {
            while self.budget.room() > 0
                && let Some((ticket, record)) = partition.release(broker_now)
            {
                self.budget.charge(ticket.cost);
                self.out.push(Intake { ticket, record });
            }
        }
    }
}
