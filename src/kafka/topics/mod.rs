//! Our topics: what they must be, making them, and saying what is wrong with those that exist (design §5, §12).
//!
//! `plan` and `check` are pure, over a description of the cluster; `cluster` reads that description and creates. Nothing here ever changes
//! or deletes an existing topic: settings of topics with records in them are an operator's decision, so a finding carries the command.
//!
//! Everything blocks for round trips; callers are the command line and a thread of the daemon, never a runtime's thread.

mod check;
mod cluster;
mod plan;

pub use check::{CheckReport, Finding, Severity};
pub use cluster::{CreateReport, Created, Outcome, TopicsError, check, create};
pub use plan::{CreateOptions, Facts, Kind, Planned, plan};

use super::client::{ClientSettings, HEADROOM};
use super::right::{Operation, Resource, Right};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Retention of tiers and replay beyond the longest age that a policy allows.
pub const BEYOND_MAX_AGE: Duration = Duration::from_secs(7 * 86_400);

/// The longest age that a policy may have (design §7): retention is planned for it, so that a longer policy later fits.
pub const LONGEST_AGE: Duration = crate::domain::policy::MAX_AGE;

/// Least retention of dead letters.
pub const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// Whose rights the cluster is asked with: README's table gives each its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// `callbackd run`.
    Daemon,
    /// `callbackd topics`.
    Tool,
}

/// What the configuration wants of the cluster.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// Clients, group, prefix, source topics.
    pub client: ClientSettings,
    /// Topics of the configured delay tiers.
    pub tier_topics: Vec<Arc<str>>,
    /// Who asks.
    pub asker: Asker,
    /// The longest `max_age` of any callback template in force.
    pub longest_max_age: Duration,
    /// Whether the registry lives in its topic, so that it is needed too.
    pub registry_topic: bool,
    /// The configuration file as the operator named it, for the commands in findings.
    pub config_file: String,
    /// Whether this is an embedded cluster: topics have no settings, so only their existence is checked.
    pub lenient: bool,
}

impl TopicSettings {
    /// Our topics, each with its kind: tiers ascending as configured, replay, dead letters, registry.
    pub(crate) fn ours(&self) -> Vec<(Kind, String)> {
        let mut ours: Vec<_> = self.tier_topics.iter().map(|topic| (Kind::Tier, topic.to_string())).collect();
        ours.push((Kind::Replay, self.client.replay_topic()));
        ours.push((Kind::DeadLetter, self.client.dead_letter_topic()));
        if self.registry_topic {
            ours.push((Kind::Registry, self.client.registry_topic()));
        }
        ours
    }

    /// The right by which `name`, one of ours of `kind` or a source topic, may be seen.
    pub(crate) fn right_to_see(&self, kind: Option<Kind>, name: &str) -> Right {
        let right = |operation| Right::new(operation, Resource::Topic, name);
        match (self.asker, kind) {
            (Asker::Tool, _) => right(Operation::Describe),
            (Asker::Daemon, Some(Kind::Tier)) => right(Operation::Read).and(Operation::Write),
            (Asker::Daemon, Some(Kind::DeadLetter)) => right(Operation::Write),
            (Asker::Daemon, Some(Kind::Replay | Kind::Registry) | None) => right(Operation::Read),
        }
    }
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    /// Number of partitions.
    pub(crate) partitions: usize,
    /// The smallest number of replicas of a partition.
    pub(crate) replication: usize,
    /// Effective settings; `None` when they may not be read.
    pub(crate) config: Option<BTreeMap<String, String>>,
}

impl Described {
    /// A setting as a number; −1 is Kafka's "no limit".
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A setting as text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.config.as_ref()?.get(name).map(String::as_str)
    }
}

/// What the cluster says about the topics that concern us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Number of brokers.
    pub(crate) brokers: usize,
    /// Topics of ours, existing tiers that are no longer configured, and source topics.
    pub(crate) topics: BTreeMap<String, Described>,
    /// Topics that may not be described: they exist, or not.
    pub(crate) hidden: Vec<String>,
}

impl Cluster {
    /// The largest `max.message.bytes` of `sources`, in bytes; `None` when none of them could be read.
    pub(crate) fn largest_message(&self, sources: &[String]) -> Option<usize> {
        let sizes = sources.iter().filter_map(|topic| self.topics.get(topic)?.number("max.message.bytes"));
        sizes.filter_map(|size| usize::try_from(size).ok()).max()
    }

    /// The most partitions of any of `sources`; `None` when none exists.
    pub(crate) fn most_partitions(&self, sources: &[String]) -> Option<usize> {
        sources.iter().filter_map(|topic| self.topics.get(topic)).map(|t| t.partitions).max()
    }
}

/// `max.message.bytes` of our topics for this largest source record.
pub(crate) const fn room_for(largest_message: usize) -> usize {
    largest_message.saturating_add(HEADROOM)
}
