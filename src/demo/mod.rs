//! `callbackd demo`: the whole job in one process, with nothing to install and nothing asked.
//!
//! ```text
//!  producer ─► embedded Kafka ─► the daemon itself (app::run) ─► receivers on loopback, most of them misbehaving
//!     │               └─► dead letters ─► read along                    │ verify every request with code of their own
//!     └────────────────────────► Ledger ◄───────────────────────────────┘ ─► live picture, final account
//! ```
//!
//! The daemon is the real one, with a configuration and a registry written to a directory of its own; what is different is only the broker.
//! The account is kept per event id from what the outside saw (produced, received, buried, skipped as the daemon's log says of each), never
//! from the daemon's counters, so that it can contradict them.
//!
//! Deliberately not here: anything for keeping. The broker lives in memory and is gone with the process.

mod daemon;
mod ledger;
mod picture;
mod receiver;
mod scene;
mod story;
mod verify;

use std::io::Write;

/// How the demo runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long events are produced, 1–300 s.
    pub seconds: u32,
    /// Events a second, 1–500.
    pub rate: u32,
    /// Stay up afterwards until Ctrl-C.
    pub keep: bool,
}

/// Runs the demo and tells it on `out`; with a live picture where standard output is a `terminal`. Blocks; sets the process's log
/// subscriber. True when the account balanced and every signature was verified.
///
/// # Errors
/// When a part cannot be started, the daemon ends by itself, Ctrl-C or SIGTERM ends the demo early, or nobody reads `out` any more.
pub fn run(options: Options, out: &mut dyn Write, terminal: bool) -> anyhow::Result<bool> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::select! {
            // Biased: a demo that ended with Ctrl-C because it was kept up has ended well.
            biased;
            ended = story::tell(options, out, terminal) => ended,
            () = interrupted(), if !options.keep => Err(anyhow::anyhow!("interrupted before the account was complete")),
        }
    })
}

/// Resolves at Ctrl-C or SIGTERM; where they cannot be listened to, never, and they end the process as ever.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
