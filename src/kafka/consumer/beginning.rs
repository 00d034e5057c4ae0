//! How the source topics were when this member began: `start_from = "latest"` goes by that.
//!
//! It is looked at before the group is joined. Asked for later, at the assignment, the answer would depend on the others: of two replicas
//! that begin a group together the first to commit makes the topic look old to the second, which would read its partitions from the start.
//! And the end as it was then counts: what was produced while the group formed is not passed over.

use super::QUESTION;
use super::context::Context;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{HashMap, HashSet};

/// Source topics as they were.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// Topics for which the group had a commit.
    begun: HashSet<String>,
    /// The log's end of each partition that there was, of the other topics.
    ends: HashMap<(String, i32), i64>,
}

impl Beginning {
    /// Asks the broker; a topic that does not exist has no partitions.
    pub(super) fn look(client: &BaseConsumer<Context>, topics: &[String]) -> KafkaResult<Self> {
        let mut beginning = Self::default();
        for topic in topics {
            let metadata = client.fetch_metadata(Some(topic), QUESTION)?;
            let count = metadata.topics().first().map_or(0, |t| t.partitions().len());
            let partitions = 0..i32::try_from(count).unwrap_or(i32::MAX);
            let mut asked = TopicPartitionList::with_capacity(count);
            for partition in partitions.clone() {
                asked.add_partition(topic, partition);
            }
            if count == 0 {
                continue;
            }
            let answered = client.committed_offsets(asked, QUESTION)?;
            answered.elements().iter().try_for_each(|element| element.error())?;
            if answered.elements().iter().any(|e| matches!(e.offset(), Offset::Offset(_))) {
                beginning.begun.insert(topic.clone());
                continue;
            }
            for partition in partitions {
                let (_, end) = client.fetch_watermarks(topic, partition, QUESTION)?;
                beginning.ends.insert((topic.clone(), partition), end);
            }
        }
        Ok(beginning)
    }

    /// The log's end of a partition that existed and that the group had not begun; `None` for all others, which are read from their start.
    pub(super) fn end_of(&self, topic: &str, partition: i32) -> Option<i64> {
        self.ends.get(&(topic.to_owned(), partition)).copied().filter(|_| !self.begun.contains(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::{Beginning, Context};
    use crate::delivery::ports::TopicPartition;
    use crate::domain::class::Class;
    use crate::kafka::client::{ClientSettings, make};
    use crate::kafka::consumer::questions::Questions;
    use crate::kafka::consumer::tests::of_group;
    use crate::kafka::embedded::EmbeddedCluster;
    use crate::metrics::Metrics;
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const TOPIC: &str = "recording.completed";

    /// `records` for each of two partitions.
    fn produce(settings: &ClientSettings, records: usize) {
        let producer: BaseProducer = settings.outbox().create().unwrap();
        for n in 0..2 * records {
            let partition = i32::try_from(n % 2).unwrap();
            producer.send(BaseRecord::<(), str>::to(TOPIC).partition(partition).payload("v")).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    /// A client of the group, not a member: while a member's join waits for others, its commits wait behind it.
    fn client(settings: &ClientSettings) -> BaseConsumer<Context> {
        make(&settings.consumer(Class::Fresh), Context::new(Metrics::new(&[], &[]).unwrap(), settings)).unwrap()
    }

    #[test]
    fn the_commit_of_one_who_began_at_the_same_time_does_not_make_the_topic_old() {
        let cluster = EmbeddedCluster::start(&[(TOPIC, 2)]).unwrap();
        let settings = of_group(cluster.bootstrap_servers());
        produce(&settings, 3);
        let (first, second) = (client(&settings), Arc::new(client(&settings)));
        let latest = vec![TOPIC.to_owned()];
        let beginning = Beginning::look(&second, &latest).unwrap();
        produce(&settings, 2);
        // The first is a moment ahead and has committed its start when the second asks.
        let mut start = TopicPartitionList::new();
        start.add_partition_offset(TOPIC, 0, Offset::Offset(3)).unwrap();
        first.commit(&start, CommitMode::Sync).unwrap();
        let mut questions = Questions::start(Arc::clone(&second), Class::Fresh, latest.clone(), Some(beginning)).unwrap();
        let names = [0, 1].map(|partition| TopicPartition { topic: TOPIC.into(), partition });
        questions.ask(names.to_vec());
        let asked = Instant::now();
        let mut found = Vec::new();
        while found.len() < names.len() {
            assert!(asked.elapsed() < Duration::from_secs(20), "no answer");
            match questions.answer() {
                Some(answer) => found.push(answer.found.unwrap()),
                None => std::thread::yield_now(),
            }
        }
        found.sort_by_key(|one| one.partition.partition);
        let commits: Vec<Option<i64>> = found.iter().map(|one| one.committed.as_ref().map(|(offset, _)| *offset)).collect();
        assert_eq!(commits, [Some(3), None]);
        assert_eq!((found[1].latest, found[1].high), (Some(3), 5), "the end of when it began, not of now, and not the start");
        // A member that comes later finds the topic begun: a partition without a commit is read from its start.
        let known = Beginning::look(&first, &latest).unwrap();
        assert_eq!([0, 1, 2].map(|partition| known.end_of(TOPIC, partition)), [None; 3]);
        questions.end();
    }
}
