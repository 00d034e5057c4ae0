//! What each of our topics should be: a pure function of the configuration and of the cluster's size.

use super::{BEYOND_MAX_AGE, DEAD_LETTER_RETENTION, LONGEST_AGE, TopicSettings, room_for};
use std::collections::BTreeMap;

/// Partitions of our topics when no source topic exists yet.
const PARTITIONS_WITHOUT_A_SOURCE: i32 = 6;

/// What a topic of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A delay tier.
    Tier,
    /// Records to be delivered anew.
    Replay,
    /// Dead letters.
    DeadLetter,
    /// Templates, domains, bindings, accounts.
    Registry,
}

/// What the operator may decide about new topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Partitions of tiers, replay and dead letters; by default as many as the largest source topic.
    pub partitions: Option<i32>,
    /// Replicas; by default the smaller of 3 and the number of brokers.
    pub replication: Option<i32>,
}

/// What a plan needs to know of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Number of brokers.
    pub brokers: usize,
    /// Partitions of the largest source topic, if any exists.
    pub source_partitions: Option<usize>,
    /// Largest `max.message.bytes` of the source topics, in bytes.
    pub largest_message: usize,
}

/// A topic as it should be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// What for.
    pub kind: Kind,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas.
    pub replication: i32,
    /// Its settings.
    pub config: BTreeMap<&'static str, String>,
}

/// All our topics as they should be.
#[must_use]
pub fn plan(settings: &TopicSettings, facts: Facts, options: CreateOptions) -> Vec<Planned> {
    let replication = options.replication.unwrap_or_else(|| i32::try_from(facts.brokers.clamp(1, 3)).unwrap_or(3));
    let sources = facts.source_partitions.map_or(PARTITIONS_WITHOUT_A_SOURCE, |n| i32::try_from(n).unwrap_or(i32::MAX));
    let partitions = options.partitions.unwrap_or(sources).max(1);
    let planned = |(kind, name): (Kind, String)| {
        let mut config = BTreeMap::from([
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("max.message.bytes", room_for(facts.largest_message).to_string()),
            ("retention.bytes", "-1".to_owned()),
            // With three replicas one may be away; with fewer none could be, if two had to be in sync.
            ("min.insync.replicas", if replication >= 3 { "2" } else { "1" }.to_owned()),
        ]);
        match kind {
            Kind::Tier | Kind::Replay => {
                config.insert("cleanup.policy", "delete".to_owned());
                config.insert("retention.ms", (LONGEST_AGE.max(settings.longest_max_age) + BEYOND_MAX_AGE).as_millis().to_string());
            }
            Kind::DeadLetter => {
                config.insert("cleanup.policy", "delete".to_owned());
                config.insert("retention.ms", DEAD_LETTER_RETENTION.as_millis().to_string());
            }
            Kind::Registry => {
                config.insert("cleanup.policy", "compact".to_owned());
            }
        }
        let partitions = if kind == Kind::Registry { 1 } else { partitions };
        Planned { name, kind, partitions, replication, config }
    };
    settings.ours().into_iter().map(planned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::topic_settings;
    use super::*;

    #[test]
    fn the_plan_is_the_table_of_the_design() {
        let facts = Facts { brokers: 5, source_partitions: Some(12), largest_message: 1_048_588 };
        let planned = plan(&topic_settings(), facts, CreateOptions::default());
        let get = |t: &Planned, name: &str| t.config.get(name).cloned().unwrap_or_default();
        let rows: Vec<_> = planned
            .iter()
            .map(|t| (t.name.as_str(), t.partitions, t.replication, get(t, "cleanup.policy"), get(t, "retention.ms")))
            .collect();
        let (delete, compact) = ("delete".to_owned(), "compact".to_owned());
        assert_eq!(
            rows,
            [
                ("cb.retry.5s", 12, 3, delete.clone(), "3196800000".to_owned()), // 37 days
                ("cb.retry.1m", 12, 3, delete.clone(), "3196800000".to_owned()),
                ("cb.replay", 12, 3, delete.clone(), "3196800000".to_owned()),
                ("cb.dead-letter", 12, 3, delete, "2592000000".to_owned()), // 30 days
                ("cb.registry", 1, 3, compact, String::new()),
            ]
        );
        for topic in &planned {
            assert_eq!(get(topic, "message.timestamp.type"), "LogAppendTime");
            assert_eq!(get(topic, "max.message.bytes"), (1_048_588 + 65_536).to_string());
            assert_eq!(get(topic, "retention.bytes"), "-1");
            assert_eq!(get(topic, "min.insync.replicas"), "2");
        }
    }

    #[test]
    fn replication_and_partitions_follow_the_cluster_unless_given() {
        let given = |partitions, replication| CreateOptions { partitions, replication };
        for (brokers, source_partitions, options, expected) in [
            (1, Some(4), given(None, None), (4, 1, "1")),
            (2, Some(4), given(None, None), (4, 2, "1")),
            (3, Some(4), given(None, None), (4, 3, "2")),
            (9, None, given(None, None), (6, 3, "2")),
            (9, Some(4), given(Some(48), Some(2)), (48, 2, "1")),
        ] {
            let facts = Facts { brokers, source_partitions, largest_message: 1000 };
            let first = &plan(&topic_settings(), facts, options)[0];
            assert_eq!((first.partitions, first.replication, first.config["min.insync.replicas"].as_str()), expected);
        }
    }
}
