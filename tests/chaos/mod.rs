//! Chaos on the real thing: a real Apache Kafka of one broker or three, several replicas as processes, receivers that hang, reset, drip and
//! flap, a load that never stops; and a schedule of faults drawn from a seed. Afterwards the independent checker reads what receivers and
//! topics show.
//!
//! ```text
//!  load ──► source topic ──► replicas ──► sites (receivers)       a hand does what the schedule says,
//!              brokers ◄──────┘  ▲            │                   to replicas, brokers and sites
//!  commits (looks on)            tiers        ▼
//!                    └──────────────► story ──► checker ──► report
//! ```
//!
//! `make chaos` runs it long, `make test` once and short. Faults at an endpoint are shorter than the policy of its events, so no dead letter
//! is excused by them; one endpoint is always dead, so that dead letters exist and their attempts are counted.
//!
//! Not here: a clock that jumps, a disk that fills (`bad_days`), every interleaving of a crash (the simulation).

mod commits;
mod faults;
mod fleet;
mod load;
mod rolling_restart;
mod run;
mod sites;
mod spoken;
mod story;
mod takeover;

use crate::harness::scene;
use std::fmt::Write as _;
use std::time::SystemTime;

/// Milliseconds since 1970, of the one clock of this machine.
pub(crate) type Millis = i64;

const KEY: &str = "chaosVendorKey0123456789";
/// Of every template: an answer after that is none.
const TIMEOUT: Millis = 2_000;
/// After the first failure, and after each other.
const DELAYS: [Millis; 2] = [500, 2_000];
/// Nineteen delays are longer than any fault.
const ATTEMPTS: u32 = 20;
/// Of the endpoint that never answers well.
const DEAD_DELAYS: [Millis; 1] = [500];
const DEAD_ATTEMPTS: u32 = 3;
const DRAIN: Millis = 10_000;
/// Replicas are missed after this; SIGSTOP lasts longer.
const SESSION: Millis = 6_000;

fn now() -> Millis {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as Millis
}

/// The bytes of event `n`, for this endpoint.
fn original(n: usize, endpoint: usize) -> String {
    scene::event(&format!("d{endpoint:02}.example"), n)
}

/// A template of its own for each endpoint; the last one is dead. `REPLICA` stands for the number of the launch.
fn registry(endpoints: usize, url: impl Fn(usize) -> String) -> String {
    let mut text = String::from("[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n\n");
    for endpoint in 0..=endpoints {
        let (delays, attempts): (&[Millis], u32) = if endpoint == endpoints { (&DEAD_DELAYS, DEAD_ATTEMPTS) } else { (&DELAYS, ATTEMPTS) };
        let delays: Vec<String> = delays.iter().map(|d| format!("{d}ms")).collect();
        let (domain, url) = (format!("d{endpoint:02}.example"), url(endpoint));
        write!(
            text,
            "[[callback_templates]]\nname = \"cb{endpoint}\"\nurls = {{ recording_file = {url:?} }}\nkeys = [{{ id = \"a\", value = {KEY:?} }}]\n\
             timeout = \"{TIMEOUT}ms\"\nconnect_timeout = \"1s\"\nretry = {{ delays = {delays:?}, attempts = {attempts} }}\n\
             headers = {{ \"x-replica\" = \"REPLICA\" }}\n\n\
             [[domains]]\nname = {domain:?}\n\n\
             [[bindings]]\ndomain = {domain:?}\nrecording_template = \"rec\"\ncallback_template = \"cb{endpoint}\"\n\n"
        )
        .unwrap();
    }
    text
}

/// A number from the environment: `make chaos` sets them.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// By default one short run. `CHAOS_RUNS`, `CHAOS_EVENTS`, `CHAOS_FAULTS`, `CHAOS_SEED` and `CHAOS_RATE` make it long; then brokers are one
/// and three in turn.
#[test]
fn nothing_is_lost_and_only_what_a_fault_explains_is_repeated() {
    let runs = setting("CHAOS_RUNS", 1);
    let seed = setting("CHAOS_SEED", 1);
    let mut table = String::new();
    let mut failed = Vec::new();
    for number in 0..runs {
        let terms = run::Terms {
            seed: (seed + number) as u64,
            events: setting("CHAOS_EVENTS", 3_000),
            faults: setting("CHAOS_FAULTS", 5),
            rate: setting("CHAOS_RATE", 150),
            brokers: setting("CHAOS_BROKERS", if number % 2 == 0 { 1 } else { 3 }),
        };
        let outcome = run::run(&terms);
        println!("{}", outcome.line());
        writeln!(table, "{}", outcome.line()).unwrap();
        if !outcome.report.violations.is_empty() {
            println!("{}\nhistory: {}", outcome.report.text(), outcome.history.display());
            failed.push(format!("seed {}: {}\nhistory: {}", terms.seed, outcome.report.text(), outcome.history.display()));
        }
    }
    println!("{}\n{table}", run::HEAD);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
