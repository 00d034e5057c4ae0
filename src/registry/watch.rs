//! Watching the registry's files.
//!
//! Polling, not the system's notifications: those follow inodes, and miss a file that is replaced through a swapped link (as Kubernetes
//! does with mounted configuration and secrets) or written on another machine (network file systems). A look costs one `stat` call per
//! file; a file is read when its stamp differs or is too young to tell, and only another content counts as a change.

use super::store::{Act, ReloadOutcome, Store};
use crate::source::Problem;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Time between two looks.
pub const POLL: Duration = Duration::from_secs(1);

/// Looks at the files of `store` every `poll` ([`POLL`] but in tests) and whenever `deliberate` yields (SIGHUP), and tells `report` what
/// came of it, but for [`ReloadOutcome::Unchanged`]. Files are read on the runtime's blocking threads. Runs until it is dropped.
pub async fn watch(store: Store, poll: Duration, mut deliberate: mpsc::Receiver<()>, mut report: impl FnMut(ReloadOutcome)) {
    let mut ticks = tokio::time::interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Biased: a person's wish goes before the routine.
        let act = tokio::select! {
            biased;
            Some(()) = deliberate.recv() => Act::Deliberate,
            _ = ticks.tick() => Act::Automatic,
        };
        let reloading = store.clone();
        let outcome = tokio::task::spawn_blocking(move || reloading.reload(act)).await.unwrap_or_else(|error| {
            let message = format!("reading it failed: {error}");
            ReloadOutcome::Refused(vec![Problem { file: "registry".into(), line: None, key: String::new(), message }])
        });
        match outcome {
            ReloadOutcome::Unchanged => {}
            told @ (ReloadOutcome::Loaded { .. } | ReloadOutcome::Refused(_) | ReloadOutcome::Shrunk { .. }) => report(told),
        }
    }
}
