//! Commits beside the polling: a thread that makes one awaited commit after the other.
//!
//! The client's asynchronous commit reports to a C callback only, which rdkafka's consumer does not set: its answer would never arrive.
//! The awaited one does not return while the broker is away, and must not keep its class from polling. Hence a thread.

use super::context::{Context, Notice};
use crate::delivery::ports::{CommitRefused, TopicPartition};
use crate::domain::class::Class;
use crate::domain::offsets::CommitPoint;
use crate::kafka::client::{ClientError, code_of};
use crate::kafka::right::is_denied;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

type Points = Vec<(TopicPartition, CommitPoint)>;

pub(super) struct Committer {
    requests: Sender<Points>,
    thread: JoinHandle<()>,
}

impl Committer {
    pub(super) fn start(client: Arc<BaseConsumer<Context>>, class: Class) -> Result<Self, ClientError> {
        let (requests, asked) = mpsc::channel::<Points>();
        let work = move || {
            for points in asked {
                let result = try_commit(&client, &points);
                // A right that is missing is named by whoever knows the names.
                if let Some(code) = result.as_ref().err().and_then(KafkaError::rdkafka_error_code).filter(|code| is_denied(*code)) {
                    client.context().note(Notice::Trouble(code));
                }
                client.context().note(Notice::Committed(result.map_err(|error| CommitRefused(code_of(&error)))));
            }
        };
        let thread = thread::Builder::new().name(format!("commit-{class}")).spawn(work);
        Ok(Self { requests, thread: thread.map_err(|e| ClientError::Create(e.to_string()))? })
    }

    /// The answer arrives as [`Notice::Committed`].
    pub(super) fn commit(&self, points: Points) -> Result<(), CommitRefused> {
        self.requests.send(points).map_err(|_| CommitRefused("the commit thread has ended".to_owned()))
    }

    /// Ends the thread; waits for a commit under way.
    pub(super) fn end(self) {
        drop(self.requests);
        // A panic of it has been printed, and nothing is left to commit.
        let _ = self.thread.join();
    }
}

/// One awaited commit.
pub(super) fn commit(client: &BaseConsumer<Context>, points: &[(TopicPartition, CommitPoint)]) -> Result<(), CommitRefused> {
    try_commit(client, points).map_err(|error| CommitRefused(code_of(&error)))
}

fn try_commit(client: &BaseConsumer<Context>, points: &[(TopicPartition, CommitPoint)]) -> KafkaResult<()> {
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
