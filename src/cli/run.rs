//! `callbackd run`: logs, signals, and the daemon between them.

use super::{Exit, Failure, load, logging};
use crate::app::{self, RunError, Stop};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Signals this close together are one act: some supervisors tell the process and its group at once.
const ONE_ACT: Duration = Duration::from_millis(50);

pub(super) fn run(config: &Path) -> Result<Exit, Failure> {
    let loaded = load::configuration_and_more(config)?;
    logging::start(loaded.settings.log);
    let (stop, stopped) = watch::channel(Stop::No);
    watch_signals(stop)?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    // How many attempts the drain deadline cut is in the log: a stop that was asked for is no failure.
    app::run(&loaded.settings, &app::Options { config_file: config.to_path_buf(), embedded: false }, stopped)?;
    Ok(Exit::Done)
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Registry(problems) => Self::Problems(problems),
            RunError::Topics(findings) => Self::Topics(findings),
            RunError::Failed(error) => Self::Failed(error),
        }
    }
}

/// The first SIGTERM or SIGINT says drain; the second ends the process at once, with exit code 1. Listens from before it returns.
fn watch_signals(stop: watch::Sender<Stop>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (terminate, interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let (mut terminate, mut interrupt) = (terminate, interrupt);
            let name = either(&mut terminate, &mut interrupt).await;
            tracing::info!(signal = name, "draining: intake stops, what is running is finished; a second signal exits at once");
            let _ = stop.send(Stop::Drain);
            let first = Instant::now();
            let name = loop {
                let name = either(&mut terminate, &mut interrupt).await;
                if first.elapsed() >= ONE_ACT {
                    break name;
                }
            };
            tracing::warn!(signal = name, "a second signal: exiting at once; what was running is repeated after the next start");
            std::process::exit(i32::from(Exit::Failed.code()));
        });
    })?;
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
