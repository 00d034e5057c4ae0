//! What a callback costs, beside the bare loop of the same libraries (design §13; method and figures in `benches/README.md`).
//!
//! ```text
//!  CPU 1: driver (this process), Apache Kafka, receiver          CPU 0: the process under test, alone, every thread of it
//!         fill topic ─► start receiver ─► start process ─► at 10 % and 90 % of the arrivals read its CPU time ─► end both
//! ```
//!
//! The driver runs itself again as receiver and as bare loop (`--role …`), so that nothing but the daemon's own binary and a broker is
//! needed. It measures and reports; it asserts no figure. It panics, and so ends with an error, when it could not measure.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails there and then")]

mod bare;
mod broker;
mod daemon;
#[path = "../tests/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests' harness; the benchmark needs a part of it")]
mod harness;
mod latency;
mod measure;
mod pinned;
mod receiver;
mod report;

use bare::Bare;
use daemon::Daemon;
use std::time::Duration;

/// What may be set from outside; each has a default.
pub(crate) struct Settings {
    /// Callbacks of one run; figures are taken between 10 % and 90 %. `CALLBACKD_BENCH_EVENTS`.
    pub(crate) events: u64,
    /// How often bare loop and daemon alternate. `CALLBACKD_BENCH_ROUNDS`.
    pub(crate) rounds: u64,
    /// Attempts at once, in both. `CALLBACKD_BENCH_IN_FLIGHT`.
    pub(crate) in_flight: u64,
    /// Measured time of a latency run, without its start. `CALLBACKD_BENCH_LATENCY_SECONDS`; 0 leaves latency out.
    pub(crate) latency: Duration,
}

impl Settings {
    fn from_environment() -> Self {
        let number = |name: &str, default: u64| {
            let name = format!("CALLBACKD_BENCH_{name}");
            std::env::var(&name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
        };
        Self {
            events: number("EVENTS", 300_000),
            rounds: number("ROUNDS", 3).max(1),
            in_flight: number("IN_FLIGHT", 64).max(1),
            latency: Duration::from_secs(number("LATENCY_SECONDS", 20)),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[1..] {
        ["--role", "receiver", ref rest @ ..] => receiver::run(rest),
        ["--role", "bare", ref rest @ ..] => bare::run(rest),
        _ => drive(&Settings::from_environment()),
    }
}

fn drive(settings: &Settings) {
    pinned::pin_driver();
    let broker = broker::start();
    let topic = "bench.backlog";
    broker::fill(&broker, topic, settings.events);

    let (mut bare, mut daemon) = (Vec::new(), Vec::new());
    for round in 1..=settings.rounds {
        bare.push(measure::throughput(settings, |port| Bare::start(&broker, topic, port, settings)));
        eprintln!("round {round}, bare loop: {}", bare[bare.len() - 1]);
        daemon.push(measure::throughput(settings, |port| Daemon::start(&broker, topic, port, settings)));
        eprintln!("round {round}, daemon:    {}", daemon[daemon.len() - 1]);
    }

    let rate = measure::median(daemon.iter().map(|run| run.per_second)) / 2.0;
    let latency = (!settings.latency.is_zero()).then(|| {
        let bare = latency::measure(settings, &broker, "bench.paced-bare", rate, |topic, port| Bare::start(&broker, topic, port, settings));
        let daemon =
            latency::measure(settings, &broker, "bench.paced-daemon", rate, |topic, port| Daemon::start(&broker, topic, port, settings));
        (bare, daemon)
    });
    report::print(settings, &report::Results { bare, daemon, rate, latency });
}
