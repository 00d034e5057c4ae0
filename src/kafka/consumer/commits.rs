//! The group's commits, as the broker has them.

use super::context::Context;
use super::list_of;
use crate::delivery::ports::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;
use std::collections::HashMap;
use std::time::Duration;

/// What the broker says of each partition's commit: offset and metadata, none, or that it does not know now.
pub(super) type Commits = HashMap<TopicPartition, KafkaResult<Option<(i64, String)>>>;

/// The group's commits of `partitions`.
pub(super) fn commits_of(client: &BaseConsumer<Context>, partitions: &[TopicPartition], timeout: Duration) -> KafkaResult<Commits> {
    let answered = client.committed_offsets(list_of(partitions), timeout)?;
    let names: HashMap<(&str, i32), &TopicPartition> = partitions.iter().map(|name| ((&*name.topic, name.partition), name)).collect();
    let mut commits = HashMap::with_capacity(names.len());
    for element in answered.elements() {
        let Some(name) = names.get(&(element.topic(), element.partition())) else { continue };
        let commit = element.error().map(|()| match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
        });
        commits.insert((*name).clone(), commit);
    }
    Ok(commits)
}
