//! The app: the only module that knows everything. It builds the daemon from its configuration, supervises it, and drains it.
//!
//! ```text
//!  start:  registry file ─► admin listener ─► broker there? ─► topics right? ─► intake threads + engine ─► ready
//!  threads: intake-fresh, intake-retry, intake-replay ⇄ engine ─► egress, outbox     registry (reloads)   monitor (lag, topics)
//!  drain:  engine stops starting ─► attempts end ─► intake threads commit and leave ─► engine ends ─► outbox flushed ─► exit
//! ```
//!
//! Shutdown goes in the direction of the data flow. A fatal error of any Kafka client, or a panic of any thread, ends the process with an
//! error: it must not look alive and do nothing.

mod clock;
mod descriptors;
mod monitor;
mod readiness;
mod reload;
pub mod test_callback;
mod wiring;

pub use clock::wall_clock;
pub use wiring::{client_settings, load_options, topic_settings};

use crate::config::{self, RegistrySource, Settings};
use crate::delivery::engine::{self, Drained};
use crate::delivery::handover::{ToEngine, ToIntake};
use crate::delivery::intake::{self, Ended as IntakeEnded, Positions};
use crate::delivery::ports::Clock as _;
use crate::domain::class::Class;
use crate::egress;
use crate::kafka::client::ClientSettings;
use crate::kafka::consumer::Consumer;
use crate::kafka::outbox::{Observers, Outbox};
use crate::kafka::topics::{self, Finding, Severity};
use crate::kafka::wait::{WaitError, wait_for_broker};
use crate::metrics::{Health, Metrics};
use crate::registry::Store;
use anyhow::Context as _;
use clock::SystemClock;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc as channel, watch};
use tracing::{error, info, warn};

/// How long intake threads may take to commit and leave their groups once the drain deadline has passed, or the engine has ended; then the
/// process ends without them. A broker that is away answers no commit, and the engine lasts as long as the last of them.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
/// How long the outbox may take to hear of what it has sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// What differs between production and the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file, as the operator named it: it appears in the commands of messages.
    pub config_file: PathBuf,
    /// A mock cluster: topics have no settings that could be checked.
    pub embedded: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Go on.
    No,
    /// Drain and end.
    Drain,
}

/// Why the daemon did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The registry is missing or invalid (exit code 78).
    #[error("the registry is not valid")]
    Registry(Vec<config::Problem>),
    /// Topics are not as they must be (exit code 78).
    #[error("topics are not as they must be")]
    Topics(Vec<Finding>),
    /// It failed at run time (exit code 1).
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What the daemon's threads report to the one that supervises them.
enum Report {
    Intake(Class, IntakeEnded),
    Engine(Drained),
    Fatal(String),
    Panicked(&'static str),
}

/// Runs the daemon until `stop` says drain and the drain is over. Blocks the calling thread.
///
/// # Errors
/// See [`RunError`]. After a fatal error the daemon's threads are still there: the process must end.
pub fn run(settings: &Settings, options: &Options, stop: watch::Receiver<Stop>) -> Result<Drained, RunError> {
    let registry_file = match &settings.registry.source {
        RegistrySource::File(path) => path.clone(),
        RegistrySource::Topic => {
            return Err(anyhow::anyhow!("registry.topic: the registry topic is not supported yet; name a file with registry.file").into());
        }
    };
    // As text, not as a quoted one: at a terminal it is to be read.
    info!(settings = %config::effective(settings), "effective settings");
    if !options.embedded {
        descriptors::tell_if_low(settings.delivery.max_in_flight);
    }
    let (store, warnings) = Store::open(&registry_file, load_options(settings)).map_err(RunError::Registry)?;
    for warning in warnings {
        warn!("{warning}");
    }
    let tier_labels: Vec<String> = settings.delivery.tiers.iter().map(|t| t.label.to_string()).collect();
    let metrics = Metrics::new(&tier_labels, &settings.kafka.source_topics).context("metrics")?;
    let health = Health::new();
    reload::export(&metrics, &health, &store.snapshot());

    let address = settings.metrics.listen;
    let listener =
        TcpListener::bind(address).with_context(|| format!("metrics.listen: cannot listen on {address}; is another process using it?"))?;
    info!(address = %listener.local_addr().unwrap_or(address), "serving /metrics, /livez and /readyz");
    let (ended, admin_ended) = tokio::sync::oneshot::channel::<()>();
    let admin = crate::admin::serve(listener, Arc::clone(&metrics), Arc::clone(&health), async move {
        // To the very end: a drain is watched through it. A dropped sender ends it as well.
        let _ = admin_ended.await;
    })
    .context("metrics.listen")?;
    let outcome = serve(settings, options, &store, &metrics, &health, stop);
    drop(ended);
    if outcome.is_ok() && admin.join().is_err() {
        error!("the admin thread panicked");
    }
    outcome
}

fn serve(
    settings: &Settings,
    options: &Options,
    store: &Store,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    stop: watch::Receiver<Stop>,
) -> Result<Drained, RunError> {
    let mut client = client_settings(settings);
    if !await_broker(&client, health, &stop)? {
        return Ok(Drained::default());
    }
    let Some(report) = await_topics(settings, options, &client, store, health, &stop)? else { return Ok(Drained::default()) };
    client.largest_message = report.largest_message.unwrap_or(client.largest_message);

    let clock = SystemClock::new();
    let positions = Positions::default();
    let (reports, mut reported) = channel::unbounded_channel();
    let outbox = {
        let (clock, reports) = (clock.clone(), reports.clone());
        let observers = Observers {
            fatal: Box::new(move |cause| {
                let _ = reports.send(Report::Fatal(format!("the producer failed for good: {cause}")));
            }),
            // The mock cluster reports a constant as append time.
            appended: if options.embedded { Box::new(|_| {}) } else { Box::new(move |at| clock.observe(at)) },
        };
        Arc::new(Outbox::new(&client, observers).context("outbox")?)
    };
    let delivery = wiring::delivery_settings(settings);
    let (engine_sender, inbox) = channel::unbounded_channel::<ToEngine>();
    let mut intakes = Vec::new();
    for class in Class::ALL {
        let (sender, intake_inbox) = mpsc::channel();
        intakes.push(sender);
        let source = Consumer::subscribe(&client, class, delivery.start_from, Arc::clone(metrics), Arc::clone(health))
            .with_context(|| format!("consumer of class {class}"))?;
        let context = intake::Context {
            class,
            settings: delivery.clone(),
            clock: clock.clone(),
            engine: engine_sender.clone(),
            inbox: intake_inbox,
            metrics: Arc::clone(metrics),
            health: Arc::clone(health),
            positions: Arc::clone(&positions),
        };
        spawn(&format!("intake-{class}"), reports.clone(), "an intake thread", move || {
            Report::Intake(class, intake::run(source, context))
        })?;
    }
    drop(engine_sender);
    let Ok(intakes) = <[_; 3]>::try_from(intakes) else { return Err(anyhow::anyhow!("one intake per class").into()) };
    let seed = EngineSeed {
        egress: wiring::egress_settings(settings)?,
        delivery,
        clock: clock.clone(),
        registry: store.handle(),
        metrics: Arc::clone(metrics),
        health: Arc::clone(health),
        outbox: Arc::clone(&outbox),
        inbox,
        intakes,
        stop: stop.clone(),
    };
    spawn("engine", reports, "the engine", move || match seed.run() {
        Ok(drained) => Report::Engine(drained),
        Err(error) => Report::Fatal(format!("{error:#}")),
    })?;

    let reload = reload::start(store.clone(), Arc::clone(metrics), Arc::clone(health)).context("registry thread")?;
    let topic_settings = topic_settings(settings, options, &client, &store.snapshot());
    let _monitor = monitor::start(topic_settings, &report, positions, Arc::clone(metrics), Arc::clone(health)).context("monitor thread")?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    let drained =
        runtime.block_on(supervise(&mut reported, &clock, &outbox, metrics, health, stop, settings.delivery.drain_timeout, &reload))?;
    if !outbox.flush(FLUSH_LIMIT) {
        warn!("some requeues or dead letters were not acknowledged in time: their offsets are not committed, they are done again");
    }
    if drained.cut > 0 {
        warn!(cut = drained.cut, "attempts were cut by the drain deadline; they are made again");
    }
    info!("drained");
    Ok(drained)
}

/// Waits for the broker; false when told to stop meanwhile.
fn await_broker(client: &ClientSettings, health: &Arc<Health>, stop: &watch::Receiver<Stop>) -> anyhow::Result<bool> {
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

/// So often the topics are looked at before a start is given up: right after `topics create` not every broker has heard of them.
const LOOKS: usize = 3;

/// Checks the topics; waits while the cluster does not answer. `None` when told to stop meanwhile.
fn await_topics(
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

/// What the engine's thread builds its parts from: a client of its own cannot leave the thread that made it.
struct EngineSeed {
    egress: egress::Settings,
    delivery: crate::delivery::settings::Settings,
    clock: SystemClock,
    registry: Arc<arc_swap::ArcSwap<crate::domain::registry::Registry>>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    outbox: Arc<Outbox>,
    inbox: channel::UnboundedReceiver<ToEngine>,
    intakes: [mpsc::Sender<ToIntake>; 3],
    stop: watch::Receiver<Stop>,
}

impl EngineSeed {
    fn run(self) -> anyhow::Result<Drained> {
        let observer = Box::new(wiring::EgressMetrics(Arc::clone(&self.metrics)));
        let mut stop = self.stop;
        let drain = async move {
            // A sender that is gone means that nobody can ask for anything else any more.
            let _ = stop.wait_for(|s| *s == Stop::Drain).await;
        };
        let parts = engine::Parts {
            transport: egress::Client::new(self.egress, observer)?,
            outbox: self.outbox,
            clock: self.clock,
            settings: self.delivery,
            registry: self.registry,
            metrics: self.metrics,
            health: self.health,
            inbox: self.inbox,
            intakes: self.intakes,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
        Ok(runtime.block_on(engine::run(parts, drain)))
    }
}

/// Starts a thread whose end, or panic, is reported.
fn spawn(
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

/// Waits for the end of all, passing SIGHUP on and watching the clock and the outbox.
#[expect(clippy::too_many_arguments, reason = "it is called once, with everything that lives as long as the daemon")]
async fn supervise(
    reported: &mut channel::UnboundedReceiver<Report>,
    clock: &SystemClock,
    outbox: &Outbox,
    metrics: &Metrics,
    health: &Health,
    mut stop: watch::Receiver<Stop>,
    drain_timeout: Duration,
    reload: &reload::Reload,
) -> anyhow::Result<Drained> {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).context("SIGHUP")?;
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

async fn sleep_until(limit: Option<tokio::time::Instant>) {
    match limit {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
