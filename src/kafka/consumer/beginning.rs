//! How the source topics were when this member began: what `start_from = "latest"` goes by.
//!
//! It is looked at before the group is joined. Asked for later, at the assignment, the answer would depend on the others: of two replicas that
//! begin a group together the first to commit makes the topic look old to the second, which would read its partitions from the start.
//! And the end that counts is the one of then: what was produced while the group formed is not passed over.

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

    /// The end of a partition that nobody of the group had begun and that was there; `None` for all others: read from their start.
    pub(super) fn end_of(&self, topic: &str, partition: i32) -> Option<i64> {
        self.ends.get(&(topic.to_owned(), partition)).copied().filter(|_| !self.begun.contains(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::{Beginning, Context};
    use crate::delivery::ports::{Assigned, CommitMode, Source as _, SourceEvent};
    use crate::delivery::settings::StartFrom;
    use crate::domain::class::Class;
    use crate::domain::offsets::CommitPoint;
    use crate::kafka::client::{ClientSettings, make};
    use crate::kafka::consumer::Consumer;
    use crate::kafka::consumer::tests::of_group;
    use crate::kafka::embedded::EmbeddedCluster;
    use crate::metrics::{Health, Metrics};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use std::time::{Duration, Instant};

    const TOPIC: &str = "recording.completed";

    /// `records` for each partition.
    fn produce(settings: &ClientSettings, records: usize) {
        let producer: BaseProducer = settings.outbox().create().unwrap();
        for n in 0..2 * records {
            let partition = i32::try_from(n % 2).unwrap();
            producer.send(BaseRecord::<(), str>::to(TOPIC).partition(partition).payload("v")).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    fn member(settings: &ClientSettings) -> Consumer {
        Consumer::subscribe(settings, Class::Fresh, StartFrom::Latest, Metrics::new(&[], &[]).unwrap(), Health::new()).unwrap()
    }

    fn assigned(member: &mut Consumer) -> Vec<Assigned> {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(20), "the group never formed");
            if let SourceEvent::Assigned(given) = member.poll(Duration::from_millis(100), 1)
                && !given.is_empty()
            {
                return given;
            }
        }
    }

    #[test]
    fn the_commit_of_one_who_began_at_the_same_time_does_not_make_the_topic_old() {
        let cluster = EmbeddedCluster::start(&[(TOPIC, 2)]).unwrap();
        let settings = of_group(cluster.bootstrap_servers());
        produce(&settings, 3);
        let (mut first, mut second) = (member(&settings), member(&settings));
        produce(&settings, 2);
        let given = assigned(&mut first);
        assert_eq!(given.len(), 1, "the two share the two partitions");
        assert_eq!((&given[0].committed, given[0].latest, given[0].high), (&None, Some(3), 5), "the end of when it began, not of now");
        // The first is a moment ahead and has committed its start when the second asks.
        first.start(&[(given[0].partition.clone(), 3)]);
        let point = CommitPoint { offset: 3, metadata: String::new() };
        assert_eq!(first.commit(vec![(given[0].partition.clone(), point)], CommitMode::Await), Ok(()));
        let given = assigned(&mut second);
        assert_eq!((given.len(), &given[0].committed, given[0].latest), (1, &None, Some(3)));
        // Who comes later finds the topic begun: a partition without a commit is read from its start.
        let later = make(&settings.consumer(Class::Fresh), Context::new(Metrics::new(&[], &[]).unwrap())).unwrap();
        let known = Beginning::look(&later, &[TOPIC.to_owned()]).unwrap();
        assert_eq!([0, 1, 2].map(|partition| known.end_of(TOPIC, partition)), [None; 3]);
    }
}
