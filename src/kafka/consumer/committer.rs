//! Commits beside the polling: a thread that makes one awaited commit after the other.
//!
//! The client's asynchronous commit reports to a C callback only, which rdkafka's consumer does not set: its answer would never arrive.
//! The awaited one does not return while the broker is away, and must not keep its class from polling. Hence a thread.
//!
//! The last commit of partitions that go goes the same way: behind the one under way, so that none is made after it, and with a deadline,
//! because a broker that hangs must not keep a class from its loop. What the thread has not begun by then it does not begin.

use super::context::{Context, Notice};
use super::list_of;
use crate::delivery::ports::{CommitRefused, TopicPartition};
use crate::domain::class::Class;
use crate::domain::offsets::CommitPoint;
use crate::kafka::client::{ClientError, code_of};
use crate::kafka::right::is_denied;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest wait for the answer to the last commit of partitions that go.
pub(super) const LAST_COMMIT: Duration = Duration::from_secs(5);
/// For so long it is tried again while it is refused because of a rebalance: others are in the middle of one, and it passes.
const REBALANCE_PATIENCE: Duration = Duration::from_secs(3);
/// Between such tries.
const REBALANCE_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait for the thread's end: it ends at once, unless a commit hangs.
const ENDING: Duration = Duration::from_secs(1);

type Points = Vec<(TopicPartition, CommitPoint)>;

struct Request {
    points: Points,
    /// Not begun any more after this.
    until: Option<Instant>,
    /// Dropped unanswered by a thread that ends in the middle.
    answer: Sender<KafkaResult<()>>,
}

pub(super) struct Committer {
    requests: Sender<Request>,
    /// Of the commit that is not waited for.
    under_way: Option<Receiver<KafkaResult<()>>>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<Infallible>,
}

fn ended() -> CommitRefused {
    CommitRefused("the commit thread has ended".to_owned())
}

fn refused(error: &KafkaError) -> CommitRefused {
    CommitRefused(code_of(error))
}

impl Committer {
    pub(super) fn start(client: Arc<BaseConsumer<Context>>, class: Class) -> Result<Self, ClientError> {
        let (requests, asked) = mpsc::channel::<Request>();
        let (alive, ended) = mpsc::channel();
        let work = move || {
            let _alive = alive;
            for Request { points, until, answer } in asked {
                let result = match until {
                    Some(until) if Instant::now() >= until => Err(KafkaError::ConsumerCommit(Code::OperationTimedOut)),
                    Some(_) | None => commit(&client, &points),
                };
                // A right that is missing is named by whoever knows the names.
                if let Some(code) = result.as_ref().err().and_then(KafkaError::rdkafka_error_code).filter(|code| is_denied(*code)) {
                    client.context().note(Notice::Trouble(code));
                }
                // Nobody waits for an answer after the deadline.
                let _ = answer.send(result);
            }
        };
        let thread = thread::Builder::new().name(format!("commit-{class}")).spawn(work);
        Ok(Self { requests, under_way: None, thread: thread.map_err(|e| ClientError::Create(e.to_string()))?, ended })
    }

    /// Asks the thread; one that has ended drops the other end.
    fn ask(&self, points: Points, until: Option<Instant>) -> Receiver<KafkaResult<()>> {
        let (answer, answered) = mpsc::channel();
        let _ = self.requests.send(Request { points, until, answer });
        answered
    }

    /// One commit at a time; its answer is [`Self::answer`]'s.
    pub(super) fn commit(&mut self, points: Points) -> Result<(), CommitRefused> {
        if self.is_busy() {
            return Err(CommitRefused("another commit is under way".to_owned()));
        }
        self.under_way = Some(self.ask(points, None));
        Ok(())
    }

    /// Whether [`Self::answer`] is still to come.
    pub(super) const fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// The answer to [`Self::commit`], once.
    pub(super) fn answer(&mut self) -> Option<Result<(), CommitRefused>> {
        let answer = match self.under_way.as_ref()?.try_recv() {
            Ok(result) => result.map_err(|error| refused(&error)),
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
                Ok(Err(error)) if error.rdkafka_error_code() == Some(Code::RebalanceInProgress) && begun.elapsed() < REBALANCE_PATIENCE => {
                    thread::sleep(REBALANCE_PAUSE);
                }
                Ok(result) => return result.map_err(|error| refused(&error)),
                Err(RecvTimeoutError::Timeout) => return Err(CommitRefused(format!("no answer within {} s", LAST_COMMIT.as_secs()))),
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            }
        }
    }

    /// Ends the thread. One whose commit hangs ends when that does: it is not waited for.
    pub(super) fn end(self) {
        drop(self.requests);
        if self.ended.recv_timeout(ENDING) != Err(RecvTimeoutError::Timeout) {
            // A panic of it has been printed, and nothing is left to commit.
            let _ = self.thread.join();
        }
    }
}

/// One awaited commit.
fn commit(client: &BaseConsumer<Context>, points: &Points) -> KafkaResult<()> {
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

/// The group's commits of `partitions`, of those that have one.
pub(super) fn commits_of(
    client: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> KafkaResult<HashMap<TopicPartition, (i64, String)>> {
    let answered = client.committed_offsets(list_of(partitions), timeout)?;
    let mut commits = HashMap::new();
    for element in answered.elements() {
        element.error()?;
        let of = |name: &&TopicPartition| *name.topic == *element.topic() && name.partition == element.partition();
        if let (Offset::Offset(offset), Some(name)) = (element.offset(), partitions.iter().find(of)) {
            commits.insert(name.clone(), (offset, element.metadata().to_owned()));
        }
    }
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Member, TOPIC};
    use super::LAST_COMMIT;
    use crate::delivery::ports::{CommitMode, CommitRefused, Source as _};
    use crate::domain::offsets::CommitPoint;
    use rdkafka::types::RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS as REBALANCE, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as FORBIDDEN,
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
        assert_eq!(refused, Err(CommitRefused("TopicAuthorizationFailed".to_owned())));
        assert_eq!(member.committed(TOPIC), 2);
    }

    #[test]
    fn a_broker_that_hangs_keeps_the_last_commit_no_longer_than_its_deadline() {
        let mut member = Member::with_records(3);
        let name = member.start_at(0);
        member.cluster.answer_after(Duration::from_secs(8));
        assert_eq!(member.consumer.commit(vec![(name.clone(), at(1))], CommitMode::Later), Ok(()));
        let asked = Instant::now();
        let refused = member.consumer.commit(vec![(name, at(2))], CommitMode::Await);
        assert_eq!(refused, Err(CommitRefused("no answer within 5 s".to_owned())));
        assert!(asked.elapsed() < LAST_COMMIT + Duration::from_secs(1), "{:?}", asked.elapsed());
        // The one that it waited behind is answered at last; the last commit itself is not made any more.
        member.cluster.answer_after(Duration::ZERO);
        assert_eq!(member.answer(), Ok(()));
        member.consumer.leave();
        assert_eq!(member.committed(TOPIC), 1);
    }
}
