//! What may be set from outside; each has a default.

use crate::parts::Part;
use std::time::Duration;

/// How long it all may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// All curves to their ends: about 40 minutes.
    Full,
    /// A tenth of everything, one round: it shows that the measuring works, its figures are rough.
    Quick,
}

/// The settings of one run.
pub(crate) struct Settings {
    /// What is measured, in this order. `CALLBACKD_BENCH_ONLY`: names with commas between; all when empty.
    pub(crate) parts: Vec<Part>,
    /// `CALLBACKD_BENCH_PROFILE`: `full` or `quick`.
    pub(crate) profile: Profile,
    /// Callbacks of one run of the main table; figures are taken between 10 % and 90 %. `CALLBACKD_BENCH_EVENTS`.
    pub(crate) events: u64,
    /// Callbacks of one run of a curve. `CALLBACKD_BENCH_CURVE_EVENTS`.
    pub(crate) curve_events: u64,
    /// How often the sides of a comparison alternate. `CALLBACKD_BENCH_ROUNDS`.
    pub(crate) rounds: u64,
    /// Attempts at once in throughput runs. `CALLBACKD_BENCH_IN_FLIGHT`.
    pub(crate) in_flight: u64,
    /// Measured time of a latency run, without its start. `CALLBACKD_BENCH_LATENCY_SECONDS`.
    pub(crate) latency: Duration,
    /// Measured time of an isolation run, without its start. `CALLBACKD_BENCH_ISOLATION_SECONDS`.
    pub(crate) isolation: Duration,
    /// Records a second of an isolation run. `CALLBACKD_BENCH_ISOLATION_RATE`.
    pub(crate) isolation_rate: u64,
    /// Records behind in the memory run, and the end of the backlog curve. `CALLBACKD_BENCH_BACKLOG`.
    pub(crate) backlog: u64,
    /// Endpoints of the memory run, and the end of the endpoints curve. `CALLBACKD_BENCH_ENDPOINTS`.
    pub(crate) endpoints: u64,
    /// Bindings of the start-up run. `CALLBACKD_BENCH_BINDINGS`.
    pub(crate) bindings: u64,
}

impl Settings {
    /// Reads them.
    pub(crate) fn from_environment() -> Self {
        let profile = match text("PROFILE").as_str() {
            "" | "full" => Profile::Full,
            "quick" => Profile::Quick,
            other => panic!("CALLBACKD_BENCH_PROFILE={other} is neither full nor quick"),
        };
        let number = |name: &str, full: u64, quick: u64| {
            let default = if profile == Profile::Full { full } else { quick };
            let text = text(name);
            if text.is_empty() { default } else { text.parse().unwrap_or_else(|_| panic!("CALLBACKD_BENCH_{name}={text} is not a number")) }
        };
        let only = text("ONLY");
        let parts = match only.as_str() {
            "" => Part::ALL.to_vec(),
            names => names.split(',').map(|name| Part::named(name.trim())).collect(),
        };
        Self {
            parts,
            profile,
            events: number("EVENTS", 300_000, 30_000),
            curve_events: number("CURVE_EVENTS", 100_000, 20_000),
            rounds: number("ROUNDS", 3, 1).max(1),
            in_flight: number("IN_FLIGHT", 64, 64).max(1),
            latency: Duration::from_secs(number("LATENCY_SECONDS", 20, 5)),
            isolation: Duration::from_secs(number("ISOLATION_SECONDS", 30, 10)),
            isolation_rate: number("ISOLATION_RATE", 4_000, 1_000),
            backlog: number("BACKLOG", 1_000_000, 100_000),
            endpoints: number("ENDPOINTS", 10_000, 1_000),
            bindings: number("BINDINGS", 100_000, 100_000),
        }
    }
}

fn text(name: &str) -> String {
    std::env::var(format!("CALLBACKD_BENCH_{name}")).unwrap_or_default()
}
