//! Kafka: assignment, lag, commits, trouble. What each class's consumer knows for itself has the label `class`: three consumers must not
//! overwrite each other's figure.

use super::events::seconds;
use super::family::{self, Closed, whole};
use super::label::{KafkaErrorKind, Severity};
use crate::domain::class::Class;
use crate::domain::time::UnixMillis;
use prometheus::{Error, Gauge, IntCounter, IntGauge, IntGaugeVec, Registry};

/// The Kafka family.
pub(super) struct Kafka {
    lag: IntGaugeVec,
    unfinished_span: IntGaugeVec,
    assigned: Closed<Class, IntGauge>,
    rebalances: Closed<Class, IntCounter>,
    last_commit: Closed<Class, Gauge>,
    map_bytes: Closed<Class, IntGauge>,
    stopped: Closed<Class, IntGauge>,
    appends_waiting: IntGauge,
    last_append: Gauge,
    possible_repeats: IntCounter,
    records_lost: IntCounter,
    errors: Closed<KafkaErrorKind, IntCounter>,
    topic_findings: Closed<Severity, IntGauge>,
}

impl Kafka {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            lag: family::int_gauge_vec(
                registry,
                "callbackd_consumer_lag",
                "Records between the end of the log and the first unfinished one (what would be committed now), by assigned partition; true also while paused. A steady rise on a source topic means that intake is slower than upstream, or that one record is stuck (callbackd_unfinished_span); on a tier, that much is waiting to be retried.",
                &["topic", "partition"],
            )?,
            unfinished_span: family::int_gauge_vec(
                registry,
                "callbackd_unfinished_span",
                "Offsets from the first unfinished record to the position, by assigned partition; 0 when all is finished. A steady rise means that one record is stuck and much would be looked at again after a crash.",
                &["topic", "partition"],
            )?,
            assigned: family::int_gauges(
                registry,
                "callbackd_assigned_partitions",
                "Partitions assigned to this process, by class. 0 over all replicas means that nobody consumes; a rise here is a fall at another replica.",
                "class",
            )?,
            rebalances: family::counters(
                registry,
                "callbackd_rebalances_total",
                "Changes of the assignment, by class. A steady rise means that members come and go: crashes, or polls that take too long.",
                "class",
            )?,
            last_commit: family::gauges(
                registry,
                "callbackd_last_commit_timestamp_seconds",
                "When the broker last accepted a commit, or there was nothing to commit, by class; 0 before the first. It rises all the time; standing still means that a crash would repeat much.",
                "class",
            )?,
            map_bytes: family::int_gauges(
                registry,
                "callbackd_commit_map_bytes",
                "Size of the largest map of unfinished offsets in a commit, by class. Near 2500 its partition takes nothing in until older records are finished.",
                "class",
            )?,
            stopped: family::int_gauges(
                registry,
                "callbackd_partitions_stopped",
                "Partitions stopped because the broker refused a requeue or dead letter for good, by class. Above 0, nothing of them is delivered until the cause in the log is mended and the process started again, or another replica takes them over.",
                "class",
            )?,
            appends_waiting: family::int_gauge(
                registry,
                "callbackd_appends_waiting",
                "Requeues and dead letters that the broker has not acknowledged yet. A few are always on their way; a steady rise means that the broker takes nothing: its disk is full, or too few replicas are in sync.",
            )?,
            last_append: family::gauge(
                registry,
                "callbackd_last_append_timestamp_seconds",
                "When the broker last acknowledged a requeue or dead letter, or none was waiting. It rises all the time; standing still means that events which cannot be delivered now fill the memory meant for them, and intake stalls.",
            )?,
            possible_repeats: family::counter(
                registry,
                "callbackd_possible_repeats_total",
                "Callbacks that receivers may get twice, with the same id: late successes after a revoke, what was settled and could not be committed before its partition went, offsets reset. A rise is harmless for receivers that de-duplicate; steady, it points at rebalances or crashes.",
            )?,
            records_lost: family::counter(
                registry,
                "callbackd_records_lost_total",
                "Records that the broker deleted before they were taken in, as far as offsets tell. A rise is loss: retention is too short for the outage that there was.",
            )?,
            errors: family::counters(
                registry,
                "callbackd_kafka_errors_total",
                "Errors reported by the Kafka client, by kind. A rise of transport means that brokers cannot be reached; of authentication, that credentials or permissions are wrong; of produce_refused, that a partition has stopped.",
                "kind",
            )?,
            topic_findings: family::int_gauges(
                registry,
                "callbackd_topic_findings",
                "What is wrong with topics, by severity, looked at each minute. Above 0 for refuse means that a guarantee does not hold and the next start is refused; for wait, that a source topic is missing.",
                "severity",
            )?,
        })
    }
}

impl super::Metrics {
    /// Records between the end of the log and the first unfinished one, for one assigned partition; asked every few seconds
    /// (`app::monitor`).
    pub fn set_lag(&self, topic: &str, partition: i32, n: u64) {
        self.kafka.lag.with_label_values(&[topic, &partition.to_string()]).set(whole(n));
    }

    /// Offsets from the first unfinished record to the position, for one assigned partition; 0 when all is finished. Refreshed each second.
    pub fn set_unfinished_span(&self, topic: &str, partition: i32, n: u64) {
        self.kafka.unfinished_span.with_label_values(&[topic, &partition.to_string()]).set(whole(n));
    }

    /// The partition is no longer assigned: its series end here, so that only its owner reports it.
    pub fn forget_partition(&self, topic: &str, partition: i32) {
        let labels = [topic, &partition.to_string()];
        // An error only says that the child is not there, which is what is wanted.
        let _ = self.kafka.lag.remove_label_values(&labels);
        let _ = self.kafka.unfinished_span.remove_label_values(&labels);
    }

    /// Partitions assigned to the class's consumer.
    pub fn set_assigned_partitions(&self, class: Class, n: usize) {
        self.kafka.assigned.of(class).set(whole(n));
    }

    /// The class's assignment changed.
    pub fn rebalance(&self, class: Class) {
        self.kafka.rebalances.of(class).inc();
    }

    /// At this wall-clock instant the broker accepted a commit of the class, or there was nothing to commit.
    pub fn committed_at(&self, class: Class, at: UnixMillis) {
        self.kafka.last_commit.of(class).set(seconds(Some(at)));
    }

    /// The largest map of unfinished offsets among the class's partitions, in bytes.
    pub fn set_commit_map_bytes(&self, class: Class, n: usize) {
        self.kafka.map_bytes.of(class).set(whole(n));
    }

    /// Partitions of the class that a refused produce stopped.
    pub fn set_partitions_stopped(&self, class: Class, n: usize) {
        self.kafka.stopped.of(class).set(whole(n));
    }

    /// `n` requeues and dead letters await acknowledgement at this wall-clock instant; `progress`: one was acknowledged lately, or none
    /// waits.
    pub fn set_appends_waiting(&self, n: u64, progress: bool, at: UnixMillis) {
        self.kafka.appends_waiting.set(whole(n));
        if progress {
            self.kafka.last_append.set(seconds(Some(at)));
        }
    }

    /// `n` callbacks may be repeated (design §4.2).
    pub fn possible_repeat(&self, n: u64) {
        self.kafka.possible_repeats.inc_by(n);
    }

    /// `n` records were deleted by the broker before they were taken in (design §10).
    pub fn records_lost(&self, n: u64) {
        self.kafka.records_lost.inc_by(n);
    }

    /// So many findings of this severity at the last look at the topics.
    pub fn set_topic_findings(&self, severity: Severity, n: usize) {
        self.kafka.topic_findings.of(severity).set(whole(n));
    }

    /// The client reported an error.
    pub fn kafka_error(&self, kind: KafkaErrorKind) {
        self.kafka.errors.of(kind).inc();
    }
}
