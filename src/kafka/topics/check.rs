//! What is wrong with the topics: a pure judgement over what the cluster describes.
//!
//! `Refuse` is for what breaks a guarantee and ends a start with exit code 78: a missing topic of ours, a tier that is not released by
//! append time, a topic too small for a record that must go there, a registry whose order nobody knows. A missing source topic is waited
//! for. The rest warns.

use super::{BEYOND_MAX_AGE, Cluster, DEAD_LETTER_RETENTION, Described, Kind, TopicSettings, room_for};
use crate::domain::tier::delay_of_topic;
use crate::kafka::right::{Operation, Resource, Right};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use crate::metrics::Severity;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Which topic; of several that share it, the first.
    pub topic: String,
    /// What is wrong.
    pub message: String,
    /// The command that mends it; empty when there is none.
    pub command: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}: {}", self.topic, self.message)?;
        if !self.command.is_empty() {
            write!(f, "; mend it with: {}", self.command)?;
        }
        Ok(())
    }
}

/// What a check found, and what it learned on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Worst first, then by topic.
    pub findings: Vec<Finding>,
    /// The largest source topic's `max.message.bytes`; `None` when it could not be read.
    pub largest_message: Option<usize>,
    /// The most partitions of a source topic; `None` when there is none.
    pub source_partitions: Option<usize>,
    /// Every existing `<prefix>.retry.*` topic, configured or not: all of them are read.
    pub existing_tiers: Vec<String>,
}

impl CheckReport {
    /// The worst there is.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).min()
    }
}

/// Judges what the cluster described.
pub(crate) fn judge(settings: &TopicSettings, cluster: &Cluster) -> CheckReport {
    let sources = &settings.client.source_topics;
    let largest_message = cluster.largest_message(sources);
    let mut judge = Judge { settings, cluster, findings: Vec::new(), copies: BTreeMap::new() };
    // Without a source topic to ask, nothing is too small: that topic is a finding of its own.
    let room = largest_message.map_or(0, room_for);
    for (kind, name) in settings.ours() {
        judge.ours(kind, &name, room);
    }
    for name in sources {
        judge.source(name);
    }
    let existing_tiers: Vec<String> =
        cluster.topics.keys().filter(|name| name.starts_with(&settings.client.tier_prefix())).cloned().collect();
    for name in &existing_tiers {
        judge.left_over(name);
    }
    judge.copies();
    let mut findings = judge.findings;
    findings.sort_by(|a, b| (a.severity, &a.topic).cmp(&(b.severity, &b.topic)));
    CheckReport { findings, largest_message, source_partitions: cluster.most_partitions(sources), existing_tiers }
}

const MISSING_SOURCE: &str =
    "is a source topic and does not exist yet (where the broker has auto.create.topics.enable, the first record makes it)";

struct Judge<'a> {
    settings: &'a TopicSettings,
    cluster: &'a Cluster,
    findings: Vec<Finding>,
    /// Topics by (replicas, `min.insync.replicas`): one warning for all that share them.
    copies: BTreeMap<(usize, i64), Vec<String>>,
}

impl Judge<'_> {
    fn say(&mut self, severity: Severity, topic: &str, message: impl Into<String>, command: impl Into<String>) {
        self.findings.push(Finding { severity, topic: topic.to_owned(), message: message.into(), command: command.into() });
    }

    fn ours(&mut self, kind: Kind, name: &str, room: usize) {
        let Some(topic) = self.cluster.topics.get(name) else {
            if self.is_hidden(name) {
                return self.hidden(Severity::Refuse, Some(kind), name);
            }
            let command = format!("callbackd topics create --config {}", self.settings.config_file);
            return self.say(Severity::Refuse, name, "does not exist", command);
        };
        if kind == Kind::Registry && topic.partitions != 1 {
            let (n, delete) = (topic.partitions, self.tool("kafka-topics.sh", &format!("--delete --topic {name}")));
            let mend = format!("{delete} && callbackd topics create --config {} (export the registry first)", self.settings.config_file);
            self.say(Severity::Refuse, name, format!("has {n} partitions: its entries have an order only in exactly one"), mend);
        }
        if self.settings.lenient {
            return;
        }
        if topic.config.is_none() {
            return self.unreadable(name, Severity::Warn);
        }
        self.size(name, topic, room);
        self.policy(kind, name, topic);
        let in_sync = topic.number("min.insync.replicas").unwrap_or(1);
        if topic.replication < 3 || in_sync < 2 {
            self.copies.entry((topic.replication, in_sync)).or_default().push(name.to_owned());
        }
    }

    fn size(&mut self, name: &str, topic: &Described, room: usize) {
        let size = topic.number("max.message.bytes").unwrap_or(i64::MAX);
        if usize::try_from(size).is_ok_and(|size| size < room) {
            let message = format!("max.message.bytes is {size}: a source record with our headers may need {room}");
            let mend = self.alter(name, &format!("max.message.bytes={room}"));
            self.say(Severity::Refuse, name, message, mend);
        }
    }

    fn policy(&mut self, kind: Kind, name: &str, topic: &Described) {
        let compacted = topic.text("cleanup.policy").is_some_and(|p| p.split(',').any(|p| p.trim() == "compact"));
        let (by_append_time, least) = match kind {
            Kind::Tier => (Some(Severity::Refuse), self.settings.longest_max_age + BEYOND_MAX_AGE),
            Kind::Replay => (Some(Severity::Warn), self.settings.longest_max_age + BEYOND_MAX_AGE),
            Kind::DeadLetter => (None, DEAD_LETTER_RETENTION),
            Kind::Registry => {
                if !compacted || topic.text("cleanup.policy") != Some("compact") {
                    let mend = self.alter(name, "cleanup.policy=compact");
                    self.say(Severity::Warn, name, "is not compacted alone: entries of the registry would be deleted by age", mend);
                }
                return;
            }
        };
        if let Some(severity) = by_append_time
            && topic.text("message.timestamp.type") != Some("LogAppendTime")
        {
            let mend = self.alter(name, "message.timestamp.type=LogAppendTime");
            let message = "message.timestamp.type is not LogAppendTime: its records are released and aged by their append time";
            self.say(severity, name, message, mend);
        }
        if compacted {
            let mend = self.alter(name, "cleanup.policy=delete");
            self.say(Severity::Warn, name, "is compacted: of records with the same key only the last would stay", mend);
        }
        let kept = topic.number("retention.ms").unwrap_or(-1);
        if u64::try_from(kept).is_ok_and(|kept| Duration::from_millis(kept) < least) {
            let (days, needed) = (kept / 86_400_000, least.as_millis());
            let mend = self.alter(name, &format!("retention.ms={needed}"));
            self.say(
                Severity::Warn,
                name,
                format!("retention.ms keeps records {days} days: {} are needed", least.as_secs() / 86_400),
                mend,
            );
        }
        let bytes = topic.number("retention.bytes").unwrap_or(-1);
        if bytes != -1 {
            let mend = self.alter(name, "retention.bytes=-1");
            self.say(
                Severity::Warn,
                name,
                format!("retention.bytes is {bytes}: records would be deleted by size, whatever their age"),
                mend,
            );
        }
    }

    fn source(&mut self, name: &str) {
        match self.cluster.topics.get(name) {
            None if self.is_hidden(name) => self.hidden(Severity::Wait, None, name),
            None => {
                let mend = self.tool("kafka-topics.sh", &format!("--create --topic {name} --partitions 6"));
                self.say(Severity::Wait, name, MISSING_SOURCE, mend);
            }
            Some(topic) if topic.config.is_none() && !self.settings.lenient => self.unreadable(name, Severity::Warn),
            Some(_) => {}
        }
    }

    fn left_over(&mut self, name: &str) {
        if self.settings.tier_topics.iter().any(|tier| **tier == *name) {
            return;
        }
        if delay_of_topic(&self.settings.client.prefix, name).is_none() {
            return self.say(Severity::Warn, name, "its name says no delay: nobody reads it", String::new());
        }
        let message = "is a delay tier that is no longer configured: it is read until empty, and may be deleted then";
        self.say(Severity::Warn, name, message, String::new());
        // Records there move on to other tiers, so its size limit does not matter; its append times do.
        if let Some(topic) = self.cluster.topics.get(name)
            && topic.config.is_some()
        {
            self.policy(Kind::Tier, name, topic);
        }
    }

    fn copies(&mut self) {
        for ((replicas, in_sync), topics) in std::mem::take(&mut self.copies) {
            let first = topics.first().cloned().unwrap_or_default();
            let mut message = format!(
                "replication {replicas}, min.insync.replicas {in_sync}: below 3 and 2 a lost broker can lose or stop what waits there ({})",
                topics.join(", ")
            );
            if self.cluster.brokers < 3 {
                let brokers = self.cluster.brokers;
                message.push_str(&format!("; 3 takes three brokers, and this cluster has {brokers}: good for trying things"));
            }
            self.say(Severity::Warn, &first, message, String::new());
        }
    }

    fn hidden(&mut self, severity: Severity, kind: Option<Kind>, name: &str) {
        let right = self.settings.right_to_see(kind, name);
        let message = format!("may not be seen: {}", right.is_missing());
        self.say(severity, name, message, right.grant(&self.settings.client.brokers));
    }

    fn unreadable(&mut self, name: &str, severity: Severity) {
        let right = Right::new(Operation::DescribeConfigs, Resource::Topic, name);
        let message = format!("its settings cannot be read: {}", right.is_missing());
        self.say(severity, name, message, right.grant(&self.settings.client.brokers));
    }

    fn is_hidden(&self, name: &str) -> bool {
        self.cluster.hidden.iter().any(|hidden| hidden == name)
    }

    fn alter(&self, topic: &str, setting: &str) -> String {
        self.tool("kafka-configs.sh", &format!("--alter --entity-type topics --entity-name {topic} --add-config {setting}"))
    }

    fn tool(&self, tool: &str, arguments: &str) -> String {
        format!("{tool} --bootstrap-server {} {arguments}", self.settings.client.brokers.join(","))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::Asker;
    use super::super::plan::{CreateOptions, Facts, plan};
    use super::*;
    use crate::kafka::client::tests::settings;

    pub(crate) fn topic_settings() -> TopicSettings {
        TopicSettings {
            client: settings("broker:9092"),
            tier_topics: vec!["cb.retry.5s".into(), "cb.retry.1m".into()],
            asker: Asker::Daemon,
            longest_max_age: Duration::from_secs(5 * 86_400),
            registry_topic: true,
            config_file: "callbackd.toml".into(),
            lenient: false,
        }
    }

    /// A cluster exactly as planned, with three brokers and one source topic.
    fn as_planned() -> Cluster {
        let facts = Facts { brokers: 3, source_partitions: Some(4), largest_message: 1_000_000 };
        let mut cluster = Cluster { brokers: 3, ..Cluster::default() };
        for topic in plan(&topic_settings(), facts, CreateOptions::default()) {
            let config = topic.config.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            let partitions = usize::try_from(topic.partitions).unwrap();
            cluster.topics.insert(topic.name, Described { partitions, replication: 3, config: Some(config) });
        }
        let source = BTreeMap::from([("max.message.bytes".to_owned(), "1000000".to_owned())]);
        cluster.topics.insert("recording.completed".into(), Described { partitions: 4, replication: 3, config: Some(source) });
        cluster
    }

    fn set(cluster: &mut Cluster, topic: &str, name: &str, value: &str) {
        cluster.topics.get_mut(topic).unwrap().config.as_mut().unwrap().insert(name.into(), value.into());
    }

    #[test]
    fn topics_as_planned_have_no_finding() {
        let report = judge(&topic_settings(), &as_planned());
        assert_eq!(report.findings, []);
        assert_eq!((report.largest_message, report.source_partitions), (Some(1_000_000), Some(4)));
        assert_eq!(report.existing_tiers, ["cb.retry.1m", "cb.retry.5s"]);
        assert_eq!(report.worst(), None);
    }

    type Change = fn(&mut Cluster);

    #[test]
    fn each_fault_has_its_severity_its_topic_and_its_command() {
        use Severity::{Refuse, Wait, Warn};
        let table: [(Change, Severity, &str, &str, &str); 17] = [
            (
                |c| drop(c.topics.remove("cb.retry.5s")),
                Refuse,
                "cb.retry.5s",
                "does not exist",
                "callbackd topics create --config callbackd.toml",
            ),
            (|c| drop(c.topics.remove("cb.replay")), Refuse, "cb.replay", "does not exist", "callbackd topics create"),
            (|c| drop(c.topics.remove("cb.dead-letter")), Refuse, "cb.dead-letter", "does not exist", "callbackd topics create"),
            (|c| drop(c.topics.remove("cb.registry")), Refuse, "cb.registry", "does not exist", "callbackd topics create"),
            (
                |c| set(c, "cb.retry.1m", "message.timestamp.type", "CreateTime"),
                Refuse,
                "cb.retry.1m",
                "LogAppendTime",
                "kafka-configs.sh --bootstrap-server broker:9092 --alter --entity-type topics --entity-name cb.retry.1m --add-config message.timestamp.type=LogAppendTime",
            ),
            (
                |c| set(c, "cb.replay", "message.timestamp.type", "CreateTime"),
                Warn,
                "cb.replay",
                "LogAppendTime",
                "--add-config message.timestamp.type=LogAppendTime",
            ),
            (
                |c| set(c, "cb.dead-letter", "max.message.bytes", "1065535"),
                Refuse,
                "cb.dead-letter",
                "1065535",
                "--add-config max.message.bytes=1065536",
            ),
            (
                |c| set(c, "recording.completed", "max.message.bytes", "1000001"),
                Refuse,
                "cb.dead-letter",
                "1065537",
                "--add-config max.message.bytes=1065537",
            ),
            (
                |c| c.topics.get_mut("cb.registry").unwrap().partitions = 3,
                Refuse,
                "cb.registry",
                "3 partitions",
                "kafka-topics.sh --bootstrap-server broker:9092 --delete --topic cb.registry",
            ),
            (|c| drop(c.topics.remove("recording.completed")), Wait, "recording.completed", "does not exist yet", "kafka-topics.sh"),
            (
                |c| {
                    c.topics.remove("recording.completed");
                    c.hidden.push("recording.completed".into());
                },
                Wait,
                "recording.completed",
                "may not be seen: the right Read on topic recording.completed is missing",
                "kafka-acls.sh --bootstrap-server broker:9092 --add --allow-principal User:NAME --operation Read --topic recording.completed",
            ),
            (
                |c| set(c, "cb.retry.5s", "retention.ms", "604800000"),
                Warn,
                "cb.retry.5s",
                "7 days: 12 are needed",
                "retention.ms=1036800000",
            ),
            (
                |c| set(c, "cb.dead-letter", "retention.ms", "604800000"),
                Warn,
                "cb.dead-letter",
                "7 days: 30 are needed",
                "retention.ms=2592000000",
            ),
            (|c| set(c, "cb.retry.5s", "retention.bytes", "1073741824"), Warn, "cb.retry.5s", "by size", "retention.bytes=-1"),
            (|c| set(c, "cb.retry.5s", "cleanup.policy", "compact,delete"), Warn, "cb.retry.5s", "compacted", "cleanup.policy=delete"),
            (|c| c.topics.get_mut("cb.replay").unwrap().replication = 1, Warn, "cb.replay", "replication 1", ""),
            (
                |c| c.topics.get_mut("cb.replay").unwrap().config = None,
                Warn,
                "cb.replay",
                "the right DescribeConfigs on topic cb.replay",
                "kafka-acls.sh",
            ),
        ];
        for (change, severity, topic, message, command) in table {
            let mut cluster = as_planned();
            change(&mut cluster);
            let report = judge(&topic_settings(), &cluster);
            let finding = report.findings.iter().find(|f| f.topic == topic).unwrap_or_else(|| panic!("nothing about {topic}: {report:?}"));
            assert_eq!(finding.severity, severity, "{finding}");
            assert!(finding.message.contains(message), "{finding}");
            assert!(finding.command.contains(command), "{finding}");
            assert_eq!(report.worst(), Some(severity));
        }
    }

    #[test]
    fn a_topic_that_may_not_be_seen_is_told_with_the_right_of_whoever_asks() {
        let mut cluster = as_planned();
        for topic in std::mem::take(&mut cluster.topics).into_keys() {
            cluster.hidden.push(topic);
        }
        for (asker, topic, rights) in [
            (Asker::Daemon, "cb.retry.5s", "rights Read and Write"),
            (Asker::Daemon, "cb.replay", "right Read"),
            (Asker::Daemon, "cb.dead-letter", "right Write"),
            (Asker::Daemon, "recording.completed", "right Read"),
            (Asker::Tool, "cb.retry.5s", "right Describe"),
            (Asker::Tool, "cb.dead-letter", "right Describe"),
            (Asker::Tool, "recording.completed", "right Describe"),
        ] {
            let report = judge(&TopicSettings { asker, ..topic_settings() }, &cluster);
            let finding = report.findings.iter().find(|f| f.topic == topic).unwrap();
            assert!(finding.message.contains(&format!("the {rights} on topic {topic}")), "{asker:?}: {finding}");
        }
    }

    #[test]
    fn retention_without_end_is_enough() {
        let mut cluster = as_planned();
        set(&mut cluster, "cb.retry.5s", "retention.ms", "-1");
        assert_eq!(judge(&topic_settings(), &cluster).findings, []);
    }

    #[test]
    fn a_tier_that_is_no_longer_configured_is_reported_and_still_read() {
        let mut cluster = as_planned();
        let tier = cluster.topics["cb.retry.5s"].clone();
        cluster.topics.insert("cb.retry.7h".into(), tier.clone());
        cluster.topics.insert("cb.retry.soon".into(), tier);
        let report = judge(&topic_settings(), &cluster);
        let said: Vec<_> = report.findings.iter().map(|f| (f.severity, f.topic.as_str())).collect();
        assert_eq!(said, [(Severity::Warn, "cb.retry.7h"), (Severity::Warn, "cb.retry.soon")]);
        assert!(report.existing_tiers.contains(&"cb.retry.7h".to_owned()));
    }

    #[test]
    fn a_lenient_check_asks_for_existence_alone() {
        let lenient = TopicSettings { lenient: true, registry_topic: false, ..topic_settings() };
        let mut cluster = as_planned();
        for topic in cluster.topics.values_mut() {
            topic.config = None;
            topic.replication = 1;
        }
        assert_eq!(judge(&lenient, &cluster).findings, []);
        cluster.topics.remove("cb.replay");
        assert_eq!(judge(&lenient, &cluster).worst(), Some(Severity::Refuse));
    }

    #[test]
    fn the_registry_topic_is_asked_for_only_when_the_registry_lives_there() {
        let by_file = TopicSettings { registry_topic: false, ..topic_settings() };
        let mut cluster = as_planned();
        cluster.topics.remove("cb.registry");
        assert_eq!(judge(&by_file, &cluster).findings, []);
    }
}
