//! The consumer: one class's group member as a [`Source`] for its intake thread.
//!
//! ```text
//!  poll ─┬─ records ───────────────────────────► Batch (detached at once)
//!        ├─ rebalance: assign ─► `resolving` ──► Assigned (with commits and watermarks)   ─► start   (incremental assign)
//!        ├─ rebalance: revoke ─────────────────► Revoking | Lost                           ─► release (incremental unassign)
//!        ├─ commit answered ───────────────────► Committed
//!        ├─ commit `vanished` (topic deleted) ─► OutOfRange                               ─► start   (unassign, assign)
//!        └─ error ─┬─ offset out of range ─────► `stopped` finds which, OutOfRange         ─► start   (unassign, assign)
//!                  ├─ fatal ───────────────────► Fatal
//!                  └─ anything else: counted, the client tries again by itself
//! ```
//!
//! librdkafka calls back from inside `poll`; there the callbacks only note what happened, and the answer (assign, unassign) is given from
//! the thread's own loop. That keeps waiting for running attempts, and commits, out of the callback. While the consumer closes nobody
//! answers from the loop any more, so the callback does it.
//!
//! Commits have a thread (`committer`), questions about partitions another one (`questions`). So the loop waits for a broker in three
//! places only, for seconds: [`Consumer::subscribe`], before it begins (the ends of the log, for `latest`); the last commit of partitions
//! that go; and reading the commits of partitions that begin anew because an offset was not in the log.

mod beginning;
mod commits;
mod committer;
mod context;
mod denied;
mod polling;
mod questions;
mod resolving;
mod stopped;
#[cfg(test)]
mod tests;
mod trouble;
mod vanished;
mod worker;

use super::client::{ClientError, ClientSettings, code_of, make};
use super::record::TopicNames;
use crate::delivery::ports::{Assigned, CommitMode, CommitRefused, Source, SourceEvent, TopicPartition};
use crate::delivery::settings::StartFrom;
use crate::domain::class::Class;
use crate::domain::offsets::CommitPoint;
use crate::metrics::{Health, KafkaErrorKind, Metrics};
use beginning::Beginning;
use commits::commits_of;
use committer::Committer;
use context::{Context, Notice};
use denied::Denied;
use polling::{LeftOut, Polled, whole_millis};
use questions::Questions;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use resolving::Resolving;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stopped::{Found, Nexts, Stopped};
use trouble::kind_of;

/// One question about commits or watermarks.
const QUESTION: Duration = Duration::from_secs(3);
/// Before a question that was not answered is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest wait for records while an answer to a question is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One class's consumer. Left when dropped, at the latest.
pub struct Consumer {
    client: Option<Arc<BaseConsumer<Context>>>,
    committer: Option<Committer>,
    questions: Option<Questions>,
    class: Class,
    names: TopicNames,
    left_out: LeftOut,
    metrics: Arc<Metrics>,
    denied: Denied,
    /// Partitions started, with their start: tells them apart from new ones, and says where one stands that was not read yet.
    started: HashMap<TopicPartition, i64>,
    /// Paused partitions, some perhaps not ours any more: the client keeps a partition paused through unassigning and assigning.
    paused: HashSet<TopicPartition>,
    /// The search, while some partition is not read any more and it is not known yet which.
    stopped: Option<Stopped>,
    resolving: Resolving,
    /// Partitions whose commit has vanished, until it is known where they begin anew.
    anew: Resolving,
}

impl Consumer {
    /// Subscribes `class`: source topics, all existing tiers, or the replay topic. `start_from` is for source topics.
    ///
    /// # Errors
    /// When the properties do not make a client.
    pub fn subscribe(
        settings: &ClientSettings,
        class: Class,
        start_from: StartFrom,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Result<Self, ClientError> {
        let client: BaseConsumer<Context> = make(&settings.consumer(class), Context::new(Arc::clone(&metrics), settings))?;
        let client = Arc::new(client);
        let topics = match class {
            Class::Fresh => settings.source_topics.clone(),
            // A pattern, so that tiers which are no longer configured are read until empty, and new ones are found.
            Class::Retry => vec![format!("^{}", settings.tier_prefix().replace('.', "\\."))],
            Class::Replay => vec![settings.replay_topic()],
        };
        let latest = match (class, start_from) {
            (Class::Fresh, StartFrom::Latest) => topics.clone(),
            (Class::Fresh, StartFrom::Earliest) | (Class::Retry | Class::Replay, _) => Vec::new(),
        };
        // A broker that does not say now is asked again before the first assignment is answered.
        let beginning = Beginning::look(&client, &latest).inspect_err(|error| {
            tracing::debug!(class = %class, cause = %code_of(error), "the ends of the source topics cannot be read yet");
        });
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        client.subscribe(&topics)?;
        Ok(Self {
            committer: Some(Committer::start(Arc::clone(&client), class)?),
            questions: Some(Questions::start(Arc::clone(&client), class, latest, beginning.ok())?),
            client: Some(client),
            class,
            names: TopicNames::default(),
            left_out: LeftOut::new(Arc::clone(&metrics)),
            metrics,
            denied: Denied::new(settings.clone(), class, health),
            started: HashMap::new(),
            paused: HashSet::new(),
            stopped: None,
            resolving: Resolving::new(Instant::now()),
            anew: Resolving::new(Instant::now()),
        })
    }

    fn client(&self) -> Option<&BaseConsumer<Context>> {
        self.client.as_deref()
    }

    fn next_notice(&mut self) -> Option<SourceEvent> {
        if let Some(result) = self.committer.as_mut().and_then(Committer::answer) {
            return Some(SourceEvent::Committed(result));
        }
        if let Some(assigned) = self.resolved() {
            self.denied.joined();
            return Some(SourceEvent::Assigned(assigned));
        }
        loop {
            return match self.client()?.context().next_notice()? {
                Notice::Assign(partitions) => {
                    let partitions = self.interned(partitions);
                    self.resolving.give(partitions, Instant::now());
                    self.next_notice()
                }
                Notice::Revoke { partitions, lost } => {
                    let partitions = self.interned(partitions);
                    self.resolving.take_back(&partitions);
                    self.anew.take_back(&partitions);
                    Some(if lost { SourceEvent::Lost(partitions) } else { SourceEvent::Revoking(partitions) })
                }
                Notice::Vanished(partitions) => {
                    tracing::error!(class = %self.class, partitions = partitions.len(), "the group's commits have vanished (topic deleted?): what is read begins anew, at the start of the log");
                    self.anew.add(partitions.into_iter().filter(|name| self.started.contains_key(name)), Instant::now());
                    continue;
                }
                Notice::Trouble(code) => {
                    self.count(Some(code));
                    continue;
                }
            };
        }
    }

    /// From now on the callback answers rebalances. What was noted before is answered here: otherwise the client would wait for that and
    /// never close (it only gives up an unanswered assignment that has partitions).
    fn answer_the_rest(&mut self) {
        if let Some(client) = self.client() {
            client.context().close();
        }
        while let Some(notice) = self.client().and_then(|client| client.context().next_notice()) {
            match notice {
                Notice::Assign(_) => self.resolving.give(Vec::new(), Instant::now()),
                Notice::Revoke { partitions, .. } => {
                    let partitions = self.interned(partitions);
                    self.release(&partitions);
                }
                Notice::Vanished(_) | Notice::Trouble(_) => {}
            }
        }
        if self.resolving.take_waiting() {
            self.start(&[]);
        }
    }

    fn interned(&mut self, partitions: Vec<(String, i32)>) -> Vec<TopicPartition> {
        partitions.into_iter().map(|(topic, partition)| TopicPartition { topic: self.names.intern(&topic), partition }).collect()
    }

    /// Asks about partitions, takes what was answered, and says what the intake is to be told now.
    fn resolved(&mut self) -> Option<Vec<Assigned>> {
        let (now, questions) = (Instant::now(), self.questions.as_mut()?);
        let mut refused = None;
        while let Some(answer) = questions.answer() {
            if self.resolving.wants(&answer) {
                refused = self.resolving.answered(answer, now).err().or(refused);
            } else if self.anew.wants(&answer) {
                refused = self.anew.answered(answer, now).err().or(refused);
            } else if let Some(stopped) = &mut self.stopped {
                stopped.answered(answer);
            }
        }
        self.resolving.ask(now, |names| questions.ask(names));
        self.anew.ask(now, |names| questions.ask(names));
        if let Some(error) = refused {
            tracing::warn!(class = %self.class, cause = %code_of(&error), "commits or watermarks of partitions cannot be read yet, asking again");
            self.count(error.rdkafka_error_code());
        }
        let assigned = self.resolving.told(now)?;
        if let Some(committer) = &self.committer {
            assigned.iter().for_each(|one| committer.begin(&one.partition, one.committed.is_some()));
        }
        Some(assigned)
    }

    /// Partitions whose commit has vanished, and still is not there: they begin anew.
    fn begun_anew(&mut self) -> Option<SourceEvent> {
        let (back, mut unsure): (Vec<_>, Vec<_>) = self.anew.told(Instant::now())?.into_iter().partition(|one| one.committed.is_some());
        if let Some(committer) = &self.committer {
            back.iter().for_each(|one| committer.held.is_back(&one.partition));
        }
        unsure.iter_mut().for_each(|assigned| assigned.latest = None);
        (!unsure.is_empty()).then_some(SourceEvent::OutOfRange { outside: Vec::new(), unsure })
    }

    /// An error that the client's context has noted, and with it counted, already.
    fn on_error(&mut self, error: &KafkaError) -> Option<SourceEvent> {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            return Some(SourceEvent::Fatal(format!("{code:?}")));
        }
        if let KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) = error {
            let (nexts, now) = (self.nexts(), Instant::now());
            match &mut self.stopped {
                Some(stopped) => stopped.one_more(nexts, now),
                None => self.stopped = Some(Stopped::one(nexts, now)),
            }
            return None;
        }
        tracing::debug!(class = %self.class, cause = %code_of(error), "the Kafka client reports trouble and goes on by itself");
        None
    }

    /// Where each started partition stands.
    fn nexts(&mut self) -> Nexts {
        let positions: HashMap<TopicPartition, i64> = self.positions().into_iter().collect();
        self.started.iter().map(|(name, start)| (name.clone(), positions.get(name).copied().unwrap_or(*start))).collect()
    }

    /// Looks for partitions that the client does not read any more; the event when some are found.
    fn out_of_range(&mut self) -> Option<SourceEvent> {
        self.stopped.as_ref()?;
        let (nexts, now) = (self.nexts(), Instant::now());
        let (stopped, questions) = (self.stopped.as_mut()?, self.questions.as_mut()?);
        stopped.ask(&nexts, now, |names| questions.ask(names));
        let commits_rest = self.committer.as_ref().is_some_and(|committer| !committer.is_busy());
        let (outside, mut unsure, over) = match stopped.found(&nexts, &self.paused, commits_rest, now) {
            Found::Nothing => return None,
            Found::Outside(outside) => (outside, Vec::new(), stopped.is_over()),
            Found::Unsure(outside, unsure) => (outside, unsure, true),
        };
        if !unsure.is_empty() {
            if let Err(error) = self.with_commits(&mut unsure) {
                tracing::warn!(class = %self.class, cause = %code_of(&error), "a partition is not read any more, and the commits at which all would begin anew cannot be read yet, asking again");
                self.count(error.rdkafka_error_code());
                self.stopped.iter_mut().for_each(|stopped| stopped.later(now));
                return None;
            }
            tracing::error!(
                class = %self.class,
                partitions = unsure.len(),
                "the broker did not have the offset to read of a partition, and has it now (log truncated and written anew?): all go back to their commits, repeats are possible"
            );
        }
        if over {
            self.stopped = None;
        }
        (!outside.is_empty() || !unsure.is_empty()).then_some(SourceEvent::OutOfRange { outside, unsure })
    }

    /// Replaces each partition's commit by what the broker has now. Waits up to [`QUESTION`].
    fn with_commits(&self, partitions: &mut [Assigned]) -> KafkaResult<()> {
        let Some(client) = self.client() else { return Ok(()) };
        let names: Vec<TopicPartition> = partitions.iter().map(|assigned| assigned.partition.clone()).collect();
        let mut commits = commits_of(client, &names, QUESTION)?;
        for assigned in partitions {
            assigned.committed = commits.remove(&assigned.partition).unwrap_or(Ok(None))?;
        }
        Ok(())
    }

    fn count(&mut self, code: Option<Code>) {
        if let Some(code) = code {
            self.denied.met(code);
        }
        let kind = code.map_or(KafkaErrorKind::Other, kind_of);
        // Intake counts these, once for all partitions that go on elsewhere.
        if kind != KafkaErrorKind::OffsetReset {
            self.metrics.kafka_error(kind);
        }
    }
}

fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for name in partitions {
        list.add_partition(&name.topic, name.partition);
    }
    list
}

impl Source for Consumer {
    fn poll(&mut self, timeout: Duration, max: usize) -> SourceEvent {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.next_notice() {
                return event;
            }
            if let Some(error) = self.client().and_then(|c| c.context().take_deferred())
                && let Some(event) = self.on_error(&error)
            {
                return event;
            }
            if let Some(event) = self.begun_anew().or_else(|| self.out_of_range()) {
                return event;
            }
            self.committer.iter_mut().for_each(Committer::look_now_and_then);
            self.client.iter().for_each(|client| client.context().bootstrap.mend(client.client()));
            let awaits = self.stopped.is_some() || self.resolving.is_busy() || self.anew.is_busy();
            let left = deadline.saturating_duration_since(Instant::now());
            let left = whole_millis(if awaits { left.min(LOOK_AGAIN) } else { left });
            match Self::poll_one(self.client.as_deref(), &mut self.names, &mut self.left_out, left) {
                Polled::Record(first) => return SourceEvent::Batch(self.take(first, max)),
                Polled::Error(error) => {
                    if let Some(event) = self.on_error(&error) {
                        return event;
                    }
                }
                // A poll also ends early, after a rebalance or commit event was served: look at the notices and the clock again.
                Polled::Nothing => {}
            }
            if Instant::now() >= deadline {
                return self.next_notice().unwrap_or(SourceEvent::Nothing);
            }
        }
    }

    fn start(&mut self, at: &[(TopicPartition, i64)]) {
        let Some(client) = self.client.as_ref() else { return };
        let mut new = TopicPartitionList::with_capacity(at.len());
        let mut again = Vec::new();
        for (name, offset) in at {
            if self.started.insert(name.clone(), *offset).is_some() {
                again.push(name.clone());
            }
            // The offset is one of the log's: always representable.
            let _ = new.add_partition_offset(&name.topic, name.partition, Offset::Offset(*offset));
        }
        self.anew.take_back(&again);
        if let Some(committer) = &self.committer {
            again.iter().for_each(|name| committer.begin(name, false));
        }
        // Unassigned and assigned again, never sought: the client has stopped a partition whose offset was out of range, and refuses to
        // seek in it.
        if !again.is_empty()
            && let Err(error) = client.incremental_unassign(&list_of(&again))
        {
            tracing::error!(class = %self.class, cause = %code_of(&error), "cannot go to the offsets to read");
        }
        if (new.count() > 0 || at.is_empty())
            && let Err(error) = client.incremental_assign(&new)
        {
            tracing::error!(class = %self.class, cause = %code_of(&error), "cannot take over the assignment");
        }
        let paused: Vec<TopicPartition> = at.iter().filter_map(|(name, _)| self.paused.take(name)).collect();
        if !paused.is_empty() {
            self.resume(&paused);
        }
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        // The client takes back what it was given and nothing else: not what was still being resolved.
        self.committer.iter().for_each(|committer| committer.give(partitions));
        let given: Vec<TopicPartition> = partitions.iter().filter(|name| self.started.remove(*name).is_some()).cloned().collect();
        if let Some(client) = self.client()
            && let Err(error) = client.incremental_unassign(&list_of(&given))
        {
            tracing::debug!(class = %self.class, cause = %code_of(&error), "cannot give the assignment back");
        }
    }

    fn commit(&mut self, points: Vec<(TopicPartition, CommitPoint)>, mode: CommitMode) -> Result<(), CommitRefused> {
        let Some(committer) = &mut self.committer else {
            return Err(CommitRefused::whole("the consumer has left"));
        };
        match mode {
            CommitMode::Later => committer.commit(points),
            CommitMode::Await => committer.commit_last(&points),
        }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) {
        self.paused.extend(partitions.iter().cloned());
        if let Some(client) = self.client()
            && let Err(error) = client.pause(&list_of(partitions))
        {
            tracing::debug!(class = %self.class, cause = %code_of(&error), "cannot pause");
        }
    }

    fn resume(&mut self, partitions: &[TopicPartition]) {
        self.paused.retain(|name| !partitions.contains(name));
        if let Some(client) = self.client()
            && let Err(error) = client.resume(&list_of(partitions))
        {
            tracing::debug!(class = %self.class, cause = %code_of(&error), "cannot resume");
        }
    }

    fn positions(&mut self) -> Vec<(TopicPartition, i64)> {
        let Some(list) = self.client.as_ref().and_then(|c| c.position().ok()) else { return Vec::new() };
        let mut positions = Vec::with_capacity(list.count());
        for element in list.elements() {
            if let Offset::Offset(offset) = element.offset() {
                positions.push((TopicPartition { topic: self.names.intern(element.topic()), partition: element.partition() }, offset));
            }
        }
        positions
    }

    fn leave(&mut self) {
        self.answer_the_rest();
        if let Some(client) = self.client.take() {
            if let Some(questions) = self.questions.take() {
                questions.end();
            }
            if let Some(committer) = self.committer.take() {
                committer.end();
            }
            // The last drop leaves the group: it serves the last rebalance through the callback.
            drop(client);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.leave();
    }
}
