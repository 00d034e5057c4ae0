//! Commits beside the polling: a thread that makes one awaited commit after the other.
//!
//! The client's asynchronous commit reports to a C callback only, which rdkafka's consumer does not set: its answer would never arrive.
//! The awaited one does not return while the broker is away, and must not keep its class from polling. Hence a thread.
//!
//! The last commit of partitions that go goes the same way: behind the one under way, so that none is made after it, and with a deadline,
//! because a broker that hangs must not keep a class from its loop. What the thread has not begun by then it does not begin.

use super::context::{Context, Notice};
use super::vanished::{Held, Number};
use super::worker::Worker;
use crate::delivery::ports::{CommitRefused, TopicPartition};
use crate::domain::class::Class;
use crate::domain::offsets::CommitPoint;
use crate::kafka::client::{ClientError, code_of};
use crate::kafka::right::is_denied;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for the answer to the last commit of partitions that go.
pub(super) const LAST_COMMIT: Duration = Duration::from_secs(5);
/// How long a last commit is tried again while it is refused because others are in the middle of a rebalance, which passes.
const REBALANCE_PATIENCE: Duration = Duration::from_secs(3);
/// Between looks at whether commits have vanished.
const LOOK: Duration = Duration::from_secs(5);
/// Between such tries; see [`REBALANCE_PATIENCE`].
const REBALANCE_PAUSE: Duration = Duration::from_millis(100);
/// Codes that are about one topic of those committed, and say nothing about the others.
const OF_A_TOPIC: [Code; 4] =
    [Code::TopicAuthorizationFailed, Code::UnknownTopicOrPartition, Code::OffsetMetadataTooLarge, Code::InvalidCommitOffsetSize];
/// The longest wait for the thread's end: it ends at once, unless a commit hangs.
const ENDING: Duration = Duration::from_secs(1);

type Points = Vec<(TopicPartition, CommitPoint)>;

struct Request {
    number: Number,
    points: Points,
    /// The request is not begun after this.
    until: Option<Instant>,
    /// The request is not begun once [`Committer::given_up`] has changed.
    era: usize,
    /// Dropped unanswered by a thread that ends in the middle.
    answer: Sender<Answer>,
}

pub(super) struct Committer {
    thread: Worker<Request>,
    /// Requests so far.
    asked: Cell<Number>,
    /// How many last commits were given up so far: requests made before one are void, because its partitions may be another member's by
    /// now.
    given_up: Arc<AtomicUsize>,
    /// The partitions whose commits could vanish.
    pub(super) held: Held,
    /// Brings the answer to the commit that is not waited for.
    under_way: Option<Receiver<Answer>>,
    /// When all commits are looked at next, while none is made.
    look_at: Instant,
}

/// What became of a commit.
type Answer = Result<(), Refused>;

/// A commit that the client or the broker did not accept, or not for all.
#[derive(Debug)]
struct Refused {
    error: KafkaError,
    accepted: Vec<TopicPartition>,
}

impl Refused {
    const fn whole(error: KafkaError) -> Self {
        Self { error, accepted: Vec::new() }
    }

    /// Whether the broker refused all for what one topic alone is to blame for.
    fn is_of_a_topic(&self) -> bool {
        self.accepted.is_empty() && self.error.rdkafka_error_code().is_some_and(|code| OF_A_TOPIC.contains(&code))
    }
}

impl From<Refused> for CommitRefused {
    fn from(Refused { error, accepted }: Refused) -> Self {
        Self { cause: code_of(&error), accepted }
    }
}

fn ended() -> CommitRefused {
    CommitRefused::whole("the commit thread has ended")
}

impl Committer {
    pub(super) fn start(client: Arc<BaseConsumer<Context>>, class: Class) -> Result<Self, ClientError> {
        let held = Held::default();
        let known = held.clone();
        let given_up = Arc::new(AtomicUsize::new(0));
        let current = Arc::clone(&given_up);
        let work = move |Request { number, points, until, era, answer }| {
            let is_void = || until.is_some_and(|until| Instant::now() >= until) || current.load(Ordering::Acquire) != era;
            let names: Vec<TopicPartition> = points.iter().map(|(name, _)| name.clone()).collect();
            let vanished = known.look(&client, (!names.is_empty()).then_some(&names));
            if !vanished.is_empty() {
                client.context().note(Notice::Vanished(vanished));
            }
            let result = commit(&client, &points, |name| known.may_commit(name, number), is_void);
            match &result {
                Ok(()) => known.accepted(names.iter()),
                Err(refused) => known.accepted(refused.accepted.iter()),
            }
            // A right that is missing is named by whoever knows the names.
            let code = result.as_ref().err().and_then(|refused| refused.error.rdkafka_error_code());
            if let Some(code) = code.filter(|code| is_denied(*code)) {
                client.context().note(Notice::Trouble(code));
            }
            // After the deadline nobody waits for an answer any more.
            let _ = answer.send(result);
        };
        let thread = Worker::start(format!("commit-{class}"), work)?;
        Ok(Self { thread, asked: Cell::new(0), given_up, held, under_way: None, look_at: Instant::now() + LOOK })
    }

    /// This partition begins, or begins anew: what was asked for before is not committed any more.
    pub(super) fn begin(&self, name: &TopicPartition, is_committed: bool) {
        self.held.begin(name, is_committed, self.asked.get());
    }

    /// These go: what was asked for before is not committed any more.
    pub(super) fn give(&self, gone: &[TopicPartition]) {
        self.held.end(gone, self.asked.get());
    }

    /// Asks the thread; one that has ended drops the other end of the answer.
    fn ask(&self, points: Points, until: Option<Instant>) -> Receiver<Answer> {
        let (answer, answered) = mpsc::channel();
        let era = self.given_up.load(Ordering::Acquire);
        self.asked.set(self.asked.get() + 1);
        self.thread.ask(Request { number: self.asked.get(), points, until, era, answer });
        answered
    }

    /// Asks for a commit, one at a time; [`Self::answer`] gives the answer.
    pub(super) fn commit(&mut self, points: Points) -> Result<(), CommitRefused> {
        if self.is_busy() {
            return Err(CommitRefused::whole("another commit is under way"));
        }
        self.under_way = Some(self.ask(points, None));
        Ok(())
    }

    /// Has all commits looked at now and then; [`Notice::Vanished`] tells which have vanished.
    pub(super) fn look_now_and_then(&mut self) {
        if Instant::now() >= self.look_at && !self.is_busy() {
            self.look_at = Instant::now() + LOOK;
            drop(self.ask(Vec::new(), None));
        }
    }

    /// Whether [`Self::answer`] is still to come.
    pub(super) const fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// The answer to [`Self::commit`], once.
    pub(super) fn answer(&mut self) -> Option<Result<(), CommitRefused>> {
        let answer = match self.under_way.as_ref()?.try_recv() {
            Ok(result) => result.map_err(CommitRefused::from),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(ended()),
        };
        self.under_way = None;
        Some(answer)
    }

    /// The last commit of partitions that go, after the one under way. Takes [`LAST_COMMIT`] at most.
    pub(super) fn commit_last(&self, points: &Points) -> Result<(), CommitRefused> {
        let begun = Instant::now();
        let deadline = begun + LAST_COMMIT;
        loop {
            let answered = self.ask(points.clone(), Some(deadline));
            match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Err(Refused { error, .. }))
                    if error.rdkafka_error_code() == Some(Code::RebalanceInProgress) && begun.elapsed() < REBALANCE_PATIENCE =>
                {
                    thread::sleep(REBALANCE_PAUSE);
                }
                Ok(result) => return result.map_err(CommitRefused::from),
                Err(RecvTimeoutError::Timeout) => {
                    self.given_up.fetch_add(1, Ordering::Release);
                    return Err(CommitRefused::whole(format!("no answer within {} s", LAST_COMMIT.as_secs())));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            }
        }
    }

    /// Ends the thread.
    pub(super) fn end(self) {
        self.thread.end(ENDING);
    }
}

/// An awaited commit of the points that `may` be committed, and of none once `is_void`; where it was refused for one topic's own fault, each
/// topic is committed by itself. Both are asked right before: a partition may go while the broker is waited for.
fn commit(client: &BaseConsumer<Context>, points: &Points, may: impl Fn(&TopicPartition) -> bool, is_void: impl Fn() -> bool) -> Answer {
    let once = |points: Points| {
        if is_void() {
            return Err(Refused::whole(KafkaError::ConsumerCommit(Code::OperationTimedOut)));
        }
        let asked = points.len();
        let points: Points = points.into_iter().filter(|(name, _)| may(name)).collect();
        if !points.is_empty() {
            commit_once(client, &points).map_err(Refused::whole)?;
        }
        if points.len() == asked {
            return Ok(());
        }
        let accepted = points.into_iter().map(|(name, _)| name).collect();
        Err(Refused { error: KafkaError::ConsumerCommit(Code::UnknownTopicOrPartition), accepted })
    };
    let mut by_topic: BTreeMap<Arc<str>, Points> = BTreeMap::new();
    for point in points {
        by_topic.entry(Arc::clone(&point.0.topic)).or_default().push(point.clone());
    }
    match once(points.clone()) {
        Err(refused) if by_topic.len() > 1 && refused.is_of_a_topic() => {}
        answer => return answer,
    }
    let mut refused = None;
    let mut accepted = Vec::new();
    for points in by_topic.into_values() {
        let names: Vec<TopicPartition> = points.iter().map(|(name, _)| name.clone()).collect();
        match once(points) {
            Ok(()) => accepted.extend(names),
            Err(some) => {
                accepted.extend(some.accepted);
                refused = Some(some.error);
            }
        }
    }
    refused.map_or(Ok(()), |error| Err(Refused { error, accepted }))
}

fn commit_once(client: &BaseConsumer<Context>, points: &Points) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(points.len());
    for (name, point) in points {
        let mut element = list.add_partition(&name.topic, name.partition);
        element.set_offset(Offset::Offset(point.offset))?;
        if !point.metadata.is_empty() {
            element.set_metadata(&point.metadata);
        }
    }
    client.commit(&list, CommitMode::Sync)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Member, TOPIC};
    use super::LAST_COMMIT;
    use crate::delivery::ports::{CommitMode, CommitRefused, Source as _, TopicPartition};
    use crate::domain::offsets::CommitPoint;
    use rdkafka::types::RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_NO_ERROR as NONE, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS as REBALANCE,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as FORBIDDEN,
    };
    use std::time::{Duration, Instant};

    fn at(offset: i64) -> CommitPoint {
        CommitPoint { offset, metadata: String::new() }
    }

    #[test]
    fn the_last_commit_is_tried_again_while_a_rebalance_refuses_it_and_only_then() {
        let mut member = Member::with_records(3);
        let name = member.start_at(0);
        for offset in [1, 2] {
            member.cluster.fail_commits(vec![REBALANCE; 3]);
            assert_eq!(member.consumer.commit(vec![(name.clone(), at(offset))], CommitMode::Await), Ok(()));
        }
        member.cluster.fail_commits(vec![FORBIDDEN]);
        let refused = member.consumer.commit(vec![(name, at(3))], CommitMode::Await);
        assert_eq!(refused, Err(CommitRefused::whole("TopicAuthorizationFailed")));
        assert_eq!(member.committed(TOPIC), 2);
    }

    #[test]
    fn a_topic_that_may_not_be_committed_is_no_other_topics_trouble() {
        let mut member = Member::with_records(3);
        let name = member.start_at(0);
        // Not a partition of its own: nothing but the broker's answer tells the two apart.
        let other = TopicPartition { topic: "other".into(), partition: 0 };
        // For both, then for each, in the order of their names.
        member.cluster.fail_commits(vec![FORBIDDEN, FORBIDDEN, NONE]);
        let refused = member.consumer.commit(vec![(name.clone(), at(2)), (other, at(7))], CommitMode::Await);
        assert_eq!(refused, Err(CommitRefused { cause: "TopicAuthorizationFailed".to_owned(), accepted: vec![name] }));
        assert_eq!(member.committed(TOPIC), 2);
    }

    #[test]
    fn a_broker_that_hangs_keeps_the_last_commit_no_longer_than_its_deadline() {
        let mut member = Member::with_records(3);
        let name = member.start_at(0);
        let hangs = LAST_COMMIT * 2;
        member.cluster.answer_after(hangs);
        assert_eq!(member.consumer.commit(vec![(name.clone(), at(1))], CommitMode::Later), Ok(()));
        let asked = Instant::now();
        let refused = member.consumer.commit(vec![(name, at(2))], CommitMode::Await);
        assert_eq!(refused, Err(CommitRefused::whole("no answer within 5 s")));
        assert!(asked.elapsed() < hangs, "{:?}", asked.elapsed());
        // The one that it waited behind is answered at last; the last commit itself is not made any more.
        member.cluster.answer_after(Duration::ZERO);
        assert_eq!(member.answer(), Ok(()));
        member.consumer.leave();
        assert_eq!(member.committed(TOPIC), 1);
    }

    #[test]
    fn a_commit_asked_for_before_its_partition_was_lost_is_not_made_afterwards() {
        let mut member = Member::with_records(3);
        let name = member.start_at(0);
        assert_eq!(member.consumer.commit(vec![(name.clone(), at(1))], CommitMode::Await), Ok(()));
        // The thread looks at the commits first: it is held up there, for less than a question may take.
        member.cluster.answer_after(Duration::from_millis(2500));
        assert_eq!(member.consumer.commit(vec![(name.clone(), at(2))], CommitMode::Later), Ok(()));
        member.consumer.release(&[name]);
        assert!(member.answer().is_err());
        member.cluster.answer_after(Duration::ZERO);
        assert_eq!(member.committed(TOPIC), 1);
    }
}
