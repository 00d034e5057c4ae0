//! The registry thread: looks at the registry file each second, reloads it when it changed or when SIGHUP asks.
//!
//! Polling, not the system's notifications: those follow inodes, and miss a file that is replaced through a swapped link (as Kubernetes
//! does with mounted configuration and secrets) or written on another machine (network file systems).

use super::clock::wall_clock;
use crate::domain::registry::{Losses, Registry};
use crate::metrics::{Health, Metrics};
use crate::registry::{Act, ReloadOutcome, Store};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Between looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Between looks at when signing keys run out.
const LOOK_AT_KEYS: Duration = Duration::from_secs(60);

/// The most problems of a refused registry that go to the log: a large file that is wrong throughout must not fill it.
const TOLD: usize = 20;

/// Asks the registry thread; the thread ends when this is dropped.
pub(super) struct Reload(Sender<()>);

impl Reload {
    /// Reloads now, deliberately.
    pub(super) fn now(&self) {
        // A thread that is gone has logged why.
        let _ = self.0.send(());
    }
}

pub(super) fn start(store: Store, metrics: Arc<Metrics>, health: Arc<Health>) -> io::Result<Reload> {
    let (sender, asked) = mpsc::channel();
    let heartbeat = health.heartbeat("registry");
    thread::Builder::new().name("registry".into()).spawn(move || {
        let mut looked_at_keys = Instant::now();
        loop {
            heartbeat.beat();
            let act = match asked.recv_timeout(INTERVAL) {
                Ok(()) => Act::Deliberate,
                Err(RecvTimeoutError::Timeout) => Act::Automatic,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            take(store.reload(act), &metrics, &health);
            // One that has run out makes way for the next that will.
            if looked_at_keys.elapsed() >= LOOK_AT_KEYS {
                looked_at_keys = Instant::now();
                metrics.set_signing_key_expiry(store.snapshot().keys_run_out(wall_clock()));
            }
        }
    })?;
    Ok(Reload(sender))
}

fn take(outcome: ReloadOutcome, metrics: &Metrics, health: &Health) {
    match outcome {
        ReloadOutcome::Unchanged => {}
        ReloadOutcome::Loaded { registry, warnings } => {
            for warning in warnings {
                warn!("{warning}");
            }
            info!(digest = format!("{:012x}", registry.digest()), domains = registry.domain_names().len(), "registry loaded");
            export(metrics, health, &registry);
        }
        ReloadOutcome::Refused(problems) => {
            metrics.registry_load_failed();
            for problem in problems.iter().take(TOLD) {
                error!("{problem}");
            }
            error!(
                problems = problems.len(),
                "the registry was not reloaded; the last good one stays in force (`callbackd check` tells every problem)"
            );
        }
        ReloadOutcome::Shrunk(Losses { domains, dropped, unbound, paths, unbound_paths, unsigned }) => {
            metrics.registry_load_failed();
            // What SIGHUP would apply: all of it.
            let unsigned = unsigned.iter().take(TOLD).map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
            error!(
                domains,
                dropped,
                unbound,
                paths,
                unbound_paths,
                %unsigned,
                "the registry was not reloaded: it would drop too many domains, or all their bindings of a kind, or those of too many paths, or all keys of the templates named unsigned (is the file cut off?); if that is meant, send SIGHUP"
            );
        }
    }
}

/// Tells metrics and health of the registry in force.
pub(super) fn export(metrics: &Metrics, health: &Health, registry: &Registry) {
    metrics.registry_loaded(wall_clock(), &registry.entries(), registry.digest());
    metrics.set_signing_key_expiry(registry.keys_run_out(wall_clock()));
    metrics.set_domains(registry.domain_names().map(|name| name.as_str()));
    health.registry_loaded();
}
