//! What a start waits for: a broker that answers, topics as they must be.

use super::{Options, RunError, Stop, monitor, topic_settings};
use crate::config::Settings;
use crate::kafka::client::ClientSettings;
use crate::kafka::topics::{self, Severity};
use crate::kafka::wait::{WaitError, wait_for_broker};
use crate::metrics::Health;
use crate::registry::Store;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// How often the topics are looked at before a start is given up: right after `topics create` not every broker has heard of them.
const LOOKS: usize = 3;

/// Waits for the broker; false when told to stop meanwhile.
pub(super) fn await_broker(client: &ClientSettings, health: &Arc<Health>, stop: &watch::Receiver<Stop>) -> anyhow::Result<bool> {
    let heartbeat = health.heartbeat("start");
    let waited = wait_for_broker(
        client,
        &mut |failure| {
            health.set_broker_reachable(false);
            health.set_broker_trouble(&failure.cause);
            warn!(brokers = %client.brokers.join(","), cause = %failure.cause, tries = failure.count, "waiting for the broker");
        },
        &|| {
            heartbeat.beat();
            *stop.borrow() == Stop::No
        },
    );
    match waited {
        Ok(()) => {
            health.set_broker_reachable(true);
            Ok(true)
        }
        Err(WaitError::Stopped) => Ok(false),
        Err(error @ WaitError::Client(_)) => Err(error.into()),
    }
}

/// Checks the topics; waits while the cluster does not answer. `None` when told to stop meanwhile.
pub(super) fn await_topics(
    settings: &Settings,
    options: &Options,
    client: &ClientSettings,
    store: &Store,
    health: &Arc<Health>,
    stop: &watch::Receiver<Stop>,
) -> Result<Option<topics::CheckReport>, RunError> {
    let wanted = topic_settings(settings, options, client, &store.snapshot());
    let mut refused = 0;
    // No heartbeat: one question may take longer than a loop may be silent, and there is no loop yet that could be stuck.
    loop {
        if *stop.borrow() != Stop::No {
            return Ok(None);
        }
        match topics::check(&wanted) {
            Ok(report) if report.worst() == Some(Severity::Refuse) => {
                refused += 1;
                if refused == LOOKS {
                    return Err(RunError::Topics(report.findings));
                }
                thread::sleep(Duration::from_secs(1));
            }
            Ok(report) => {
                monitor::tell(&report, health);
                return Ok(Some(report));
            }
            Err(error @ topics::TopicsError::Unanswered { .. }) => {
                warn!(cause = %error, "the topics cannot be checked yet");
                thread::sleep(Duration::from_secs(1));
            }
            Err(error) => return Err(anyhow::Error::from(error).context("the topics cannot be checked").into()),
        }
    }
}
