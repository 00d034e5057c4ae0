//! The daemon's threads: each tells how it ended, one listens to all of them, watches clock and outbox meanwhile, and says when it is over.

use super::{Stop, SystemClock, readiness, reload};
use crate::delivery::engine::Drained;
use crate::delivery::intake::Ended as IntakeEnded;
use crate::delivery::ports::Clock as _;
use crate::domain::class::Class;
use crate::kafka::outbox::Outbox;
use crate::metrics::{Health, Metrics};
use anyhow::Context as _;
use std::thread;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc as channel, watch};
use tracing::warn;

/// How long intake threads may take to commit and leave their groups once the drain deadline has passed, or the engine has ended; then the
/// process ends without them. A broker that is away answers no commit, and the engine lasts as long as the last of them.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// What the daemon's threads report to the one that supervises them.
pub(super) enum Report {
    Intake(Class, IntakeEnded),
    Engine(Drained),
    Fatal(String),
    Panicked(&'static str),
}

/// Starts a thread whose end, or panic, is reported.
pub(super) fn spawn(
    name: &str,
    reports: channel::UnboundedSender<Report>,
    what: &'static str,
    body: impl FnOnce() -> Report + Send + 'static,
) -> anyhow::Result<()> {
    let run = move || {
        let report = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(Report::Panicked(what));
        let _ = reports.send(report);
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).with_context(|| format!("cannot start the thread {name}"))?;
    Ok(())
}

/// What is watched as long as the daemon lives.
pub(super) struct Supervision<'a> {
    pub(super) clock: &'a SystemClock,
    pub(super) outbox: &'a Outbox,
    pub(super) metrics: &'a Metrics,
    pub(super) health: &'a Health,
    pub(super) reload: &'a reload::Reload,
    /// From the signal to the drain deadline.
    pub(super) drain_timeout: Duration,
}

impl Supervision<'_> {
    /// Waits for the end of all threads, passing SIGHUP on and watching the clock and the outbox.
    pub(super) async fn run(
        self,
        reported: &mut channel::UnboundedReceiver<Report>,
        mut stop: watch::Receiver<Stop>,
        mut hangup: Signal,
    ) -> anyhow::Result<Drained> {
        let Self { clock, outbox, metrics, health, reload, drain_timeout } = self;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let (mut drained, mut left) = (None, 0);
        let mut acknowledged = 0;
        let mut readiness = readiness::Readiness::new();
        let mut limit: Option<tokio::time::Instant> = None;
        let within = |time: Duration| tokio::time::Instant::now() + time;
        loop {
            tokio::select! {
                report = reported.recv() => match report {
                    Some(Report::Engine(result)) => drained = Some(result),
                    Some(Report::Intake(_, IntakeEnded::Left)) => left += 1,
                    Some(Report::Intake(class, IntakeEnded::EngineGone)) => anyhow::bail!("the engine is gone, intake of class {class} has ended"),
                    Some(Report::Intake(class, IntakeEnded::Fatal(cause))) => anyhow::bail!("the consumer of class {class} failed for good: {cause}"),
                    Some(Report::Fatal(cause)) => anyhow::bail!("{cause}"),
                    Some(Report::Panicked(what)) => anyhow::bail!("{what} panicked"),
                    None => anyhow::bail!("all threads are gone"),
                },
                _ = hangup.recv() => reload.now(),
                Ok(()) = stop.changed(), if limit.is_none() => if *stop.borrow() == Stop::Drain {
                    health.draining();
                    limit = Some(within(drain_timeout + LEAVE_LIMIT));
                },
                _ = second.tick() => {
                    let (sane, skew_ms) = clock.skew();
                    health.set_clock(sane, skew_ms);
                    #[expect(clippy::cast_precision_loss, reason = "a skew of 2^53 ms is beyond every calendar")]
                    metrics.set_clock_skew(skew_ms as f64 / 1000.0);
                    let (waiting, before) = (outbox.unacknowledged_records(), acknowledged);
                    acknowledged = outbox.acknowledged_records();
                    metrics.set_appends_waiting(waiting, waiting == 0 || acknowledged > before, clock.now());
                    if limit.is_none() {
                        readiness.look(&health.readiness());
                    }
                }
                () = sleep_until(limit) => {
                    warn!("a consumer did not leave its group in time; ending without it");
                    return Ok(drained.unwrap_or_default());
                }
            }
            if let Some(result) = drained {
                if left == Class::ALL.len() {
                    return Ok(result);
                }
                let soon = within(LEAVE_LIMIT);
                limit = Some(limit.map_or(soon, |at| at.min(soon)));
            }
        }
    }
}

async fn sleep_until(limit: Option<tokio::time::Instant>) {
    match limit {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
