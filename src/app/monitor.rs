//! The monitor thread: lag (true also while paused, which the client's own figure is not), what waits in the tiers, and the
//! topics' settings now and then.

use crate::delivery::intake::Positions;
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

/// `told` is what the start has told already.
pub(super) fn start(
    topics: TopicSettings,
    told: &CheckReport,
    positions: Positions,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
) -> Result<Monitor, anyhow::Error> {
    let probe = LagProbe::new(&topics.client)?;
    let (alive, ended) = mpsc::channel::<()>();
    let mut known: BTreeSet<String> = told.findings.iter().map(ToString::to_string).collect();
    let spawned: io::Result<_> = thread::Builder::new().name("monitor".into()).spawn(move || {
        let mut checked = Instant::now();
        let mut missing = health.readiness().iter().any(|check| check.problem.is_some());
        loop {
            export_lag(&probe, &positions, &topics.client.prefix, &metrics);
            if checked.elapsed() >= CHECK_INTERVAL || missing {
                checked = Instant::now();
                missing = check(&topics, &health, &mut known);
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

fn export_lag(probe: &LagProbe, positions: &Positions, prefix: &str, metrics: &Metrics) {
    let snapshot: Vec<(Arc<str>, i32, i64)> = {
        let positions = positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.iter().map(|(name, offset)| (Arc::clone(&name.topic), name.partition, *offset)).collect()
    };
    let mut pending: BTreeMap<String, u64> = BTreeMap::new();
    for (topic, partition, lag) in probe.lag(&snapshot) {
        let lag = u64::try_from(lag).unwrap_or(0);
        metrics.set_lag(&topic, partition, lag);
        if delay_of_topic(prefix, &topic).is_some()
            && let Some((_, label)) = topic.rsplit_once('.')
        {
            *pending.entry(label.to_owned()).or_default() += lag;
        }
    }
    for (tier, records) in pending {
        metrics.set_tier_pending(&tier, records);
    }
}

/// Checks the topics; true while a source topic is missing.
fn check(topics: &TopicSettings, health: &Health, known: &mut BTreeSet<String>) -> bool {
    match topics::check(topics) {
        Ok(report) => {
            for finding in &report.findings {
                if known.insert(finding.to_string()) {
                    match finding.severity {
                        Severity::Refuse => error!("{finding}"),
                        Severity::Wait | Severity::Warn => warn!("{finding}"),
                    }
                }
            }
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
