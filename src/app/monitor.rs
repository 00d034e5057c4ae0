//! The monitor thread: lag (true also while paused, which the client's own figure is not), what waits in the tiers, and the
//! topics' settings now and then.

use crate::delivery::intake::Positions;
use crate::delivery::ports::TopicPartition;
use crate::domain::tier::delay_of_topic;
use crate::kafka::lag::LagProbe;
use crate::kafka::topics::{self, CheckReport, Severity, TopicSettings};
use crate::metrics::{Health, Metrics};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, error, warn};

/// Between looks at lag.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between checks of the topics while all is well.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The thread ends when this is dropped.
pub(super) struct Monitor {
    _alive: Sender<()>,
}

/// Starts the thread; `told`: what the start has reported already, and is not reported again.
pub(super) fn start(
    topics: TopicSettings,
    told: &CheckReport,
    positions: Positions,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
) -> Result<Monitor, anyhow::Error> {
    let mut probe = LagProbe::new(&topics.client)?;
    let (alive, ended) = mpsc::channel::<()>();
    let mut known: BTreeSet<String> = told.findings.iter().map(ToString::to_string).collect();
    count(told, &metrics);
    let spawned: io::Result<_> = thread::Builder::new().name("monitor".into()).spawn(move || {
        let mut checked = Instant::now();
        let mut tiers = BTreeSet::new();
        let mut missing = health.readiness().iter().any(|check| check.problem.is_some());
        loop {
            let answered = export_lag(&probe, &positions, &topics.client.prefix, &metrics, &mut tiers);
            // A client may lose its brokers for good (`kafka::bootstrap`); this one keeps nothing that a new one has not.
            if !answered && let Ok(new) = LagProbe::new(&topics.client) {
                probe = new;
            }
            if checked.elapsed() >= CHECK_INTERVAL || missing {
                checked = Instant::now();
                missing = check(&topics, &metrics, &health, &mut known);
            }
            match ended.recv_timeout(if missing { INTERVAL / 5 } else { INTERVAL }) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    spawned?;
    Ok(Monitor { _alive: alive })
}

/// Exports lag and what waits in the tiers; `told`: tiers that were exported before, so that they go back to zero. False when there
/// were questions and none was answered.
fn export_lag(probe: &LagProbe, positions: &Positions, prefix: &str, metrics: &Metrics, told: &mut BTreeSet<String>) -> bool {
    let snapshot: Vec<(Arc<str>, i32, i64)> = {
        let positions = positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.iter().map(|(name, offset)| (Arc::clone(&name.topic), name.partition, *offset)).collect()
    };
    let mut lags = probe.lag(&snapshot);
    let answered = snapshot.is_empty() || !lags.is_empty();
    let positions = positions.lock().unwrap_or_else(PoisonError::into_inner);
    // Some partitions may have gone meanwhile: their new owner reports them.
    let is_ours = |topic: &Arc<str>, partition| positions.contains_key(&TopicPartition { topic: Arc::clone(topic), partition });
    lags.retain(|(topic, partition, _)| is_ours(topic, *partition));
    for (topic, partition, lag) in &lags {
        metrics.set_lag(topic, *partition, u64::try_from(*lag).unwrap_or(0));
    }
    let held: Vec<&str> = positions.keys().map(|name| &*name.topic).collect();
    for (tier, records) in pending_of_tiers(&held, &lags, prefix, told) {
        metrics.set_tier_pending(&tier, records);
        told.insert(tier);
    }
    answered
}

/// Records that wait in each tier, also zero in those exported before (`told`). Tiers where the broker did not answer for every partition
/// `held` are left out.
fn pending_of_tiers(held: &[&str], lags: &[(Arc<str>, i32, i64)], prefix: &str, told: &BTreeSet<String>) -> BTreeMap<String, u64> {
    let label = |topic: &str| delay_of_topic(prefix, topic).and(topic.rsplit_once('.')).map(|(_, label)| label.to_owned());
    let mut open: BTreeMap<String, usize> = told.iter().map(|tier| (tier.clone(), 0)).collect();
    held.iter().filter_map(|topic| label(topic)).for_each(|tier| *open.entry(tier).or_default() += 1);
    let mut pending: BTreeMap<String, u64> = open.keys().map(|tier| (tier.clone(), 0)).collect();
    for (topic, _, lag) in lags {
        if let Some(tier) = label(topic) {
            *pending.entry(tier.clone()).or_default() += u64::try_from(*lag).unwrap_or(0);
            open.entry(tier).and_modify(|open| *open = open.saturating_sub(1));
        }
    }
    pending.retain(|tier, _| open.get(tier).is_none_or(|open| *open == 0));
    pending
}

fn count(report: &CheckReport, metrics: &Metrics) {
    for severity in Severity::ALL {
        metrics.set_topic_findings(severity, report.findings.iter().filter(|finding| finding.severity == severity).count());
    }
}

/// Checks the topics; true while a source topic is missing.
fn check(topics: &TopicSettings, metrics: &Metrics, health: &Health, known: &mut BTreeSet<String>) -> bool {
    match topics::check(topics) {
        Ok(report) => {
            let found: BTreeSet<String> = report.findings.iter().map(ToString::to_string).collect();
            for finding in report.findings.iter().filter(|finding| !known.contains(&finding.to_string())) {
                match finding.severity {
                    Severity::Refuse => error!("{finding}"),
                    Severity::Wait | Severity::Warn => warn!("{finding}"),
                }
            }
            // What was mended and comes back is told again.
            *known = found;
            count(&report, metrics);
            wait_for(&report, health)
        }
        Err(cause) => {
            debug!(%cause, "the topics cannot be checked now");
            false
        }
    }
}

/// Says what a first check found that does not refuse the start.
pub(super) fn tell(report: &CheckReport, health: &Health) {
    for finding in &report.findings {
        warn!("{finding}");
    }
    wait_for(report, health);
}

fn wait_for(report: &CheckReport, health: &Health) -> bool {
    let missing: Vec<String> =
        report.findings.iter().filter(|f| f.severity == Severity::Wait).map(|f| format!("topic {}: {}", f.topic, f.message)).collect();
    let waits = !missing.is_empty();
    health.set_missing_source_topics(missing);
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_whose_partitions_have_gone_is_empty_here_and_one_with_an_unknown_partition_is_not_told() {
        let lag = |topic: &str, partition, lag| (Arc::from(topic), partition, lag);
        let held = ["recording.completed", "callbackd.retry.5s", "callbackd.retry.5s", "callbackd.retry.1m", "callbackd.retry.1m"];
        let lags = [
            lag("recording.completed", 0, 9),
            lag("callbackd.retry.5s", 0, 3),
            lag("callbackd.retry.5s", 1, 4),
            lag("callbackd.retry.1m", 0, 5),
        ];
        let told = BTreeSet::from(["1h".to_owned(), "5s".to_owned()]);
        let pending = pending_of_tiers(&held, &lags, "callbackd", &told);
        assert_eq!(pending, BTreeMap::from([("1h".to_owned(), 0), ("5s".to_owned(), 7)]));
    }
}
