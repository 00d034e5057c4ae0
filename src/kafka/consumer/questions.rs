//! Questions about partitions, on a thread of their own: what is committed, and where the log begins and ends.
//!
//! A broker takes as long as it likes, and about a partition without a leader none answers at all. The class's loop goes on meanwhile. All
//! partitions of a round are asked for first, each with a short wait; only then those without an answer once more, with a long one.

use super::QUESTION;
use super::beginning::Beginning;
use super::commits::commits_of;
use super::context::Context;
use super::worker::Worker;
use crate::delivery::ports::{Assigned, TopicPartition};
use crate::domain::class::Class;
use crate::kafka::client::ClientError;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// The first wait for the watermarks of a partition: more than a broker that is well needs.
const SOON: Duration = Duration::from_millis(500);

/// Which request an answer is for.
pub(super) type Round = u64;

struct Request {
    round: Round,
    names: Vec<TopicPartition>,
}

/// What the broker says of a partition, or why it does not.
pub(super) struct Answer {
    pub(super) round: Round,
    pub(super) name: TopicPartition,
    pub(super) found: KafkaResult<Assigned>,
}

pub(super) struct Questions {
    thread: Worker<Request>,
    answers: Receiver<Answer>,
    rounds: Round,
}

impl Questions {
    /// `latest`: source topics to be read from their ends, and how they were when this member began, if the broker has said.
    pub(super) fn start(
        client: Arc<BaseConsumer<Context>>,
        class: Class,
        latest: Vec<String>,
        beginning: Option<Beginning>,
    ) -> Result<Self, ClientError> {
        let (answer, answers) = mpsc::channel();
        let mut asker = Asker { client, latest, beginning };
        let work = move |Request { round, names }| {
            // Nobody listens any more where it is not wanted.
            asker.ask(names, |name, found| drop(answer.send(Answer { round, name, found })));
        };
        Ok(Self { thread: Worker::start(format!("ask-{class}"), work)?, answers, rounds: 0 })
    }

    /// Asks about each of `names`; all are answered, in any order.
    pub(super) fn ask(&mut self, names: Vec<TopicPartition>) -> Round {
        self.rounds += 1;
        self.thread.ask(Request { round: self.rounds, names });
        self.rounds
    }

    /// The next answer, if one is there.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Ends the thread, after the question that it is at.
    pub(super) fn end(self) {
        self.thread.end(QUESTION);
    }
}

struct Asker {
    client: Arc<BaseConsumer<Context>>,
    latest: Vec<String>,
    beginning: Option<Beginning>,
}

impl Asker {
    fn ask(&mut self, names: Vec<TopicPartition>, tell: impl Fn(TopicPartition, KafkaResult<Assigned>)) {
        let Self { client, latest, beginning } = self;
        let looked = beginning.take().map_or_else(|| Beginning::look(client, latest), Ok);
        let known = looked.map(|known| &*beginning.insert(known));
        let (beginning, commits) = match known.and_then(|known| Ok((known, commits_of(client, &names, QUESTION)?))) {
            Ok(common) => common,
            Err(error) => return names.into_iter().for_each(|name| tell(name, Err(error.clone()))),
        };
        let find = |name: &TopicPartition, wait| {
            let (low, high) = client.fetch_watermarks(&name.topic, name.partition, wait)?;
            let committed = commits.get(name).cloned().unwrap_or(Ok(None))?;
            let latest = beginning.end_of(&name.topic, name.partition);
            Ok(Assigned { partition: name.clone(), committed, latest, low, high })
        };
        let mut again = Vec::new();
        for name in names {
            match find(&name, SOON) {
                Ok(found) => tell(name, Ok(found)),
                Err(_) => again.push(name),
            }
        }
        for name in again {
            let found = find(&name, QUESTION);
            tell(name, found);
        }
    }
}
