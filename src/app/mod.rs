//! The app: the only module that knows everything. It builds the daemon from its configuration, supervises it, and drains it.
//!
//! ```text
//!  start:  registry file ─► admin listener ─► broker there? ─► topics right? ─► intake threads + engine ─► ready
//!  threads: intake-fresh, intake-retry, intake-replay ⇄ engine (and egress) ─► outbox
//!           beside each intake: commit-, ask- and, for a while, rights-<class>
//!           outbox, and another for giants
//!           admin (/metrics, health)   registry (reloads)   monitor (lag, topics)   signals
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
mod supervision;
pub mod test_callback;
mod waiting;
mod wiring;

pub use clock::wall_clock;
pub use wiring::{client_settings, load_options, topic_settings};

use crate::config::{self, Settings};
use crate::delivery::engine::{self, Drained};
use crate::delivery::handover::{ToEngine, ToIntake};
use crate::delivery::intake::{self, Positions};
use crate::domain::class::Class;
use crate::egress;
use crate::kafka::consumer::Consumer;
use crate::kafka::outbox::{Observers, Outbox};
use crate::kafka::topics::Finding;
use crate::metrics::{Health, Metrics};
use crate::registry::Store;
use crate::source::cannot_listen;
use anyhow::Context as _;
use clock::SystemClock;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use supervision::{Report, Supervision, spawn};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc as channel, watch};
use tracing::{error, info, warn};
use waiting::{await_broker, await_topics};

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

/// Runs the daemon until `stop` says drain and the drain is over. Blocks the calling thread.
///
/// # Errors
/// See [`RunError`]. After a fatal error the daemon's threads are still there: the process must end.
pub fn run(settings: &Settings, options: &Options, stop: watch::Receiver<Stop>) -> Result<Drained, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    // From here on SIGHUP ends nothing: one that comes while broker and topics are waited for reloads afterwards.
    let hangup = {
        let _context = runtime.enter();
        signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?
    };
    // As text, not as a quoted one: at a terminal it is to be read.
    info!(settings = %config::effective(settings), "effective settings");
    if !options.embedded {
        descriptors::tell_if_low(settings.delivery.max_in_flight);
    }
    let (store, warnings) = Store::open(&settings.registry.file, load_options(settings)).map_err(RunError::Registry)?;
    for warning in warnings {
        warn!("{warning}");
    }
    let tier_labels: Vec<String> = settings.delivery.tiers.iter().map(|t| t.label.to_string()).collect();
    let metrics = Metrics::new(&tier_labels, &settings.kafka.source_topics).context("cannot register the metrics")?;
    let health = Health::new();
    reload::export(&metrics, &health, &store.snapshot());

    let address = settings.metrics.listen;
    let listener = TcpListener::bind(address).map_err(|error| anyhow::anyhow!("metrics.listen: {}", cannot_listen(address, &error)))?;
    info!(address = %listener.local_addr().unwrap_or(address), "serving /metrics, /livez and /readyz");
    let (ended, admin_ended) = tokio::sync::oneshot::channel::<()>();
    let admin = crate::admin::serve(listener, Arc::clone(&metrics), Arc::clone(&health), async move {
        // To the very end: a drain is watched through it. A dropped sender ends it as well.
        let _ = admin_ended.await;
    })
    .context("metrics.listen")?;
    let daemon = Daemon { settings, options, store: &store, metrics: &metrics, health: &health, stop };
    let outcome = daemon.serve(&runtime, hangup);
    drop(ended);
    if outcome.is_ok() && admin.join().is_err() {
        error!("the admin thread panicked");
    }
    outcome
}

/// What is set up before anything is asked of the broker.
struct Daemon<'a> {
    settings: &'a Settings,
    options: &'a Options,
    store: &'a Store,
    metrics: &'a Arc<Metrics>,
    health: &'a Arc<Health>,
    stop: watch::Receiver<Stop>,
}

impl Daemon<'_> {
    /// Waits for the broker, starts the threads that an event passes through, and returns when they have ended.
    fn serve(self, runtime: &Runtime, hangup: Signal) -> Result<Drained, RunError> {
        let Self { settings, options, store, metrics, health, stop } = self;
        let reload = reload::start(store.clone(), Arc::clone(metrics), Arc::clone(health)).context("cannot start the thread registry")?;
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
            Arc::new(
                Outbox::new(&client, observers)
                    .context("no Kafka client for requeues and dead letters: see [kafka.properties] in the configuration")?,
            )
        };
        let delivery = wiring::delivery_settings(settings);
        let (engine_sender, inbox) = channel::unbounded_channel::<ToEngine>();
        let mut intakes = Vec::new();
        for class in Class::ALL {
            let (sender, intake_inbox) = mpsc::channel();
            intakes.push(sender);
            let source = Consumer::subscribe(&client, class, delivery.start_from, Arc::clone(metrics), Arc::clone(health))
                .with_context(|| format!("no Kafka client for class {class}: see [kafka.properties] in the configuration"))?;
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

        let topic_settings = topic_settings(settings, options, &client, &store.snapshot());
        let _monitor = monitor::start(topic_settings, &report, positions, Arc::clone(metrics), Arc::clone(health))
            .context("cannot start the thread monitor")?;

        let supervision = Supervision {
            clock: &clock,
            outbox: &outbox,
            metrics,
            health,
            reload: &reload,
            drain_timeout: settings.delivery.drain_timeout,
        };
        let drained = runtime.block_on(supervision.run(&mut reported, stop, hangup))?;
        if !outbox.flush(FLUSH_LIMIT) {
            warn!("some requeues or dead letters were not acknowledged in time: their offsets are not committed, they are done again");
        }
        if drained.cut > 0 {
            warn!(cut = drained.cut, "attempts were cut by the drain deadline; they are made again");
        }
        info!("drained");
        Ok(drained)
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
        Ok(runtime.block_on(engine::run(parts, drain)))
    }
}
