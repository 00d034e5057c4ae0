//! Isolation (guarantee 4): what hanging and loud domains do to the others, at a steady rate, beside quiet runs.
//!
//! A comparison is made in rounds: the quiet run, then each run that is compared with it; judged are the medians of the rounds' p99s. What a
//! shared machine does for some seconds falls into one round, what a sick endpoint does is there in each. Each run has a new broker: one that
//! has been through a dozen of them answers later than a new one. Hanging endpoints answer until the
//! measured time begins, so that what is measured has the change in it, and the end of the first time-outs. The others' events are the same
//! in the quiet run and beside the hanging ones.

use super::Bench;
use crate::broker;
use crate::daemon::{Daemon, Setup};
use crate::events::Events;
use crate::harness::broker::Broker;
use crate::measure::median;
use crate::paced::{Latency, Load, Paced};
use crate::registry::registry;
use crate::report::Section;
use std::sync::atomic::{AtomicU32, Ordering};

/// The p99 of the others may be so many times the quiet run's, or so many milliseconds above, whichever is more.
const FACTOR: f64 = 2.0;
const MILLISECONDS: f64 = 5.0;

/// One run.
struct Case {
    what: String,
    events: Events,
    /// Records a second.
    rate: u64,
    /// So many domains, from the first, have their endpoints at `/<path>`.
    sick: u64,
    path: &'static str,
    /// The others: domains from this number on.
    others: u64,
    /// Whether a budget says what it may cost them.
    judged: bool,
}

/// What the others saw of one run.
struct Seen {
    latency: Latency,
    /// The p99 of the same domains in the quiet run of the same round.
    quiet: f64,
    missing: u64,
    /// Records that went into delay tiers.
    moves: u64,
}

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let columns = ["run", "others' p50, ms", "p99", "from", "to", "max", "quiet p99", "allowed", "", "missing", "moves to tiers"];
    let mut section = Section::new("Isolation", columns);
    let rate = bench.settings.isolation_rate;
    let quiet =
        |what: &str, events, rate| Case { what: what.to_owned(), events, rate, sick: 0, path: "callback", others: 0, judged: false };
    for (domains, shares) in [(60, &[10_u64, 30, 50][..]), (700, &[30])] {
        let hanging = |share: &u64| {
            let sick = domains * share / 100;
            let what = format!("{domains} domains, {share} % hang");
            Case { what, events: Events::of(domains), rate, sick, path: "hang", others: sick, judged: *share == 30 }
        };
        let quiet = quiet(&format!("{domains} domains, all answer"), Events::of(domains), rate);
        compare(bench, &mut section, &quiet, &shares.iter().map(hanging).collect::<Vec<_>>());
    }
    // The others send as much as in their quiet run; the loud domain sends nine times that on top.
    let loud = [("answers", 0, "callback"), ("answers after 50 ms", 1, "slow"), ("hangs", 1, "hang")].map(|(how, sick, path)| {
        let what = format!("one domain sends 90 % and {how}");
        Case { what, events: Events { hot: true, ..Events::of(60) }, rate, sick, path, others: 1, judged: true }
    });
    compare(bench, &mut section, &quiet("59 domains at a tenth of the rate, all answer", Events::of(59), rate / 10), &loud);
    section.note(format!(
        "{rate} records/s, defaults of the daemon (time-out 20 s, 32 attempts at once to one endpoint, 1,024 in all), an endpoint a domain, {} s measured; hanging endpoints fall silent when the measured time begins. Medians of {} rounds, each with a quiet run of its own; what no budget names is in the first round only. Broker, producer and receiver share a CPU: compare within this table only.",
        bench.settings.isolation.as_secs(),
        bench.settings.rounds
    ));
    section
}

/// Rounds of the quiet run and the runs to be compared with it, and their rows.
fn compare(bench: &Bench<'_>, section: &mut Section, quiet: &Case, loaded: &[Case]) {
    let mut all_quiet = Vec::new();
    let mut all_loaded: Vec<Vec<Seen>> = loaded.iter().map(|_| Vec::new()).collect();
    for round in 0..bench.settings.rounds {
        let (all_answer, seen) = run(bench, quiet, None);
        all_quiet.push(seen);
        for (case, all) in loaded.iter().zip(&mut all_loaded).filter(|(case, _)| case.judged || round == 0) {
            // In the quiet run of a loud domain there are only the others.
            let others = |number: u64| case.events.hot || quiet.events.domain(number) >= case.others;
            all.push(run(bench, case, Some(all_answer.latency(others).p99)).1);
        }
    }
    add(section, quiet, &all_quiet);
    for (case, all) in loaded.iter().zip(&all_loaded) {
        add(section, case, all);
    }
}

fn run(bench: &Bench<'_>, case: &Case, quiet: Option<f64>) -> (Paced, Seen) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("isolation-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let topic = format!("bench.{name}");
    let Case { what, events, rate, sick, path, others, .. } = case;
    let load = Load { events: *events, rate: *rate as f64, measured: bench.settings.isolation, sick: *sick };
    let mut moves = 0;
    let start = |broker: &Broker, port| {
        let url = |domain| format!("http://127.0.0.1:{port}/{}/{domain}", if domain < *sick { path } else { "callback" });
        Daemon::start(broker, &topic, &Setup::new(registry(events.domains, events.domains, url)))
    };
    let paced = broker::during(&name, |broker| {
        load.measure(
            broker,
            &topic,
            |port| start(broker, port),
            |daemon: Daemon| {
                moves = daemon.parked();
                daemon.kill();
            },
        )
    });
    let latency = paced.latency(|number| events.domain(number) >= *others);
    let missing = paced.done.missing;
    let Latency { p50, p99, max, count } = latency;
    eprintln!("  {what}: p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms of {count}, {missing} missing, {moves} moves to tiers");
    (paced, Seen { latency, quiet: quiet.unwrap_or(p99), missing, moves })
}

fn add(section: &mut Section, case: &Case, rounds: &[Seen]) {
    let middle = |of: fn(&Seen) -> f64| median(rounds.iter().map(of));
    let (p50, p99, quiet) = (middle(|seen| seen.latency.p50), middle(|seen| seen.latency.p99), middle(|seen| seen.quiet));
    let extreme = |of: fn(&Seen) -> f64, pick: fn(f64, f64) -> f64| rounds.iter().map(of).reduce(pick).unwrap_or_default();
    let missing: u64 = rounds.iter().map(|seen| seen.missing).sum();
    let ms = |value: f64| format!("{value:.1}");
    let (mut allowed, mut verdict) = (String::new(), "");
    if case.others > 0 {
        let limit = (quiet * FACTOR).max(quiet + MILLISECONDS);
        let met = p99 <= limit && missing == 0;
        if case.judged {
            let budget = format!("≤ {limit:.1} ms (quiet {quiet:.1})");
            section.judge(format!("p99 of the others: {}", case.what), budget, format!("{p99:.1} ms"), Some(met));
        }
        (allowed, verdict) = (ms(limit), if met { "met" } else { "NOT met" });
    }
    section.row([
        case.what.clone(),
        ms(p50),
        ms(p99),
        ms(extreme(|seen| seen.latency.p99, f64::min)),
        ms(extreme(|seen| seen.latency.p99, f64::max)),
        ms(extreme(|seen| seen.latency.max, f64::max)),
        if case.others > 0 { ms(quiet) } else { String::new() },
        allowed,
        verdict.to_owned(),
        missing.to_string(),
        format!("{:.0}", middle(|seen| seen.moves as f64)),
    ]);
}
