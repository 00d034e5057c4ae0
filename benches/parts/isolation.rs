//! Isolation (guarantee 4): what hanging and loud domains do to the others, at a steady rate, beside a quiet run.
//!
//! Hanging endpoints answer until the measured time begins, so that what is measured has the change in it. The others' events are the same
//! in the quiet run and beside the hanging ones.

use super::Bench;
use crate::daemon::{Daemon, Setup};
use crate::events::Events;
use crate::paced::{Latency, Load, Paced};
use crate::registry::registry;
use crate::report::Section;
use std::sync::atomic::{AtomicU32, Ordering};

/// The p99 of the others may be so many times the quiet run's, or so many milliseconds above, whichever is more.
const FACTOR: f64 = 2.0;
const MILLISECONDS: f64 = 5.0;

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let columns = ["run", "others' p50, ms", "p99", "max", "quiet p99", "allowed", "", "missing", "moves to tiers"];
    let mut section = Section::new("Isolation", columns);
    for (domains, shares) in [(60, &[10_u64, 30, 50][..]), (700, &[30])] {
        let events = Events::of(domains);
        let quiet = run(bench, events, bench.settings.isolation_rate, 0, "callback");
        add(&mut section, &format!("{domains} domains, all answer"), &quiet, None, |_| true);
        for share in shares {
            let sick = domains * share / 100;
            let taken = |number: u64| events.domain(number) >= sick;
            let of_quiet = quiet.0.latency(taken);
            let loaded = run(bench, events, bench.settings.isolation_rate, sick, "hang");
            add(&mut section, &format!("{domains} domains, {share} % hang"), &loaded, Some((of_quiet, *share == 30)), taken);
        }
    }
    // The others send as much as in their quiet run; the loud domain sends nine times that on top.
    let loud = Events { hot: true, ..Events::of(60) };
    let quiet = run(bench, Events::of(59), bench.settings.isolation_rate / 10, 0, "callback");
    add(&mut section, "59 domains at a tenth of the rate, all answer", &quiet, None, |_| true);
    let of_quiet = quiet.0.latency(|_| true);
    for (what, sick, path) in [("answers", 0, "callback"), ("answers after 50 ms", 1, "slow"), ("hangs", 1, "hang")] {
        let loaded = run(bench, loud, bench.settings.isolation_rate, sick, path);
        let what = format!("one domain sends 90 % and {what}");
        add(&mut section, &what, &loaded, Some((of_quiet, true)), |number| loud.domain(number) != 0);
    }
    section.note(format!(
        "{} records/s, defaults of the daemon (time-out 20 s, 32 attempts at once to one endpoint, 1,024 in all), an endpoint a domain, {} s measured; hanging endpoints fall silent when the measured time begins. Broker, producer and receiver share a CPU: compare within this table only.",
        bench.settings.isolation_rate,
        bench.settings.isolation.as_secs()
    ));
    section
}

/// The first `sick` domains have their endpoints at `/<path>`. Also returns how many records went into delay tiers.
fn run(bench: &Bench<'_>, events: Events, rate: u64, sick: u64, path: &str) -> (Paced, u64) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let topic = format!("bench.isolation-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let load = Load { events, rate: rate as f64, measured: bench.settings.isolation, sick };
    let mut moves = 0;
    let start = |port| {
        let url = |domain| format!("http://127.0.0.1:{port}/{}/{domain}", if domain < sick { path } else { "callback" });
        Daemon::start(&bench.broker, &topic, &Setup::new(registry(events.domains, events.domains, url)))
    };
    let paced = load.measure(&bench.broker, &topic, start, |daemon| {
        moves = daemon.parked();
        daemon.kill();
    });
    (paced, moves)
}

fn add(section: &mut Section, what: &str, run: &(Paced, u64), quiet: Option<(Latency, bool)>, taken: impl Fn(u64) -> bool) {
    let (paced, moves) = run;
    let Latency { p50, p99, max, count } = paced.latency(taken);
    eprintln!("  {what}: p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms of {count}, {} missing, {moves} moves to tiers", paced.done.missing);
    let ms = |value: f64| format!("{value:.1}");
    let (quiet_p99, allowed, met) = match quiet {
        None => (String::new(), String::new(), ""),
        Some((quiet, counts)) => {
            let allowed = (quiet.p99 * FACTOR).max(quiet.p99 + MILLISECONDS);
            let met = p99 <= allowed && paced.done.missing == 0;
            if counts {
                let budget = format!("≤ {allowed:.1} ms (quiet {:.1})", quiet.p99);
                section.judge(format!("p99 of the others: {what}"), budget, format!("{p99:.1} ms"), Some(met));
            }
            (ms(quiet.p99), ms(allowed), if met { "met" } else { "NOT met" })
        }
    };
    let missing = paced.done.missing.to_string();
    section.row([what.to_owned(), ms(p50), ms(p99), ms(max), quiet_p99, allowed, met.to_owned(), missing, moves.to_string()]);
}
