//! The delivery engine and the intake threads in a world of their own: one thread, virtual time, everything from one seed.
//!
//! ```text
//!  plan (a seed) ─► world: who may step is drawn ─┬─► replicas: an engine, three intakes each     behind the four ports
//!                                                 ├─► broker: logs, groups, commits, appends      what it keeps survives a crash
//!                                                 └─► receivers: the zoo                          what they saw is the history
//!                                history (from broker and receivers, never from the engine) ─► tests/checker ─► violations
//! ```
//!
//! Crash = drop a replica's engine and intakes between any two steps, and keep what the broker has. Time moves on only when nobody can step;
//! timers that only look around are coarse by the seed's grain, so that threads are late as they are in life, and idle hours cost little.
//! The same seed gives the same trace. A failing seed prints its number, what was violated, and the end of its trace; run it alone with
//! `make simulate FIRST=<seed> SEEDS=1`.

mod broker;
mod group;
mod mutants;
mod plan;
mod receivers;
mod replica;
mod scenarios;
mod source;
mod time;
mod trace;
mod world;

use super::super::checker::{self, Report};
use plan::Plan;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::World;

/// Steps of all runs.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// What became of one run.
struct Run {
    report: Report,
    quiet: bool,
    trace: u64,
    lines: Vec<String>,
}

fn run(plan: Plan, with_lines: bool) -> Run {
    let mut world = World::new(plan, with_lines);
    world.run();
    let quiet = world.quiet;
    if quiet {
        world.drain_all();
    }
    STEPS.fetch_add(world.trace.steps(), Ordering::Relaxed);
    let report = checker::judge(&world.history());
    let ids: Vec<String> = report.violations.iter().take(2).map(|v| format!("{} ", v.at)).collect();
    Run { quiet, trace: world.trace.hash(), lines: world.trace.tail(usize::try_from(number("LINES", 60)).unwrap_or(60), &ids), report }
}

/// Why `seed` fails, for people; `None` when it does not.
fn failure(seed: u64) -> Option<String> {
    let attempt = |with_lines| catch_unwind(AssertUnwindSafe(|| run(Plan::of(seed), with_lines)));
    match attempt(false) {
        Ok(run) if run.quiet && run.report.violations.is_empty() => None,
        Ok(_) => {
            let Ok(again) = attempt(true) else { return Some(format!("seed {seed} fails; its run with a trace panicked")) };
            let plan = Plan::of(seed);
            let (faults, text, lines) = (plan.faults, again.report.text(), again.lines.join("\n"));
            Some(format!("seed {seed} (quiet: {})\nfaults: {faults:?}\nendpoints: {:?}\n{text}{lines}\n", again.quiet, plan.endpoints))
        }
        Err(_) => Some(format!("seed {seed} panicked")),
    }
}

/// Runs `count` seeds from `first` on with all cores; the failures of up to three, and how many there are.
fn run_many(first: u64, count: u64) -> (u64, Vec<String>) {
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return failures;
            }
            if let Some(text) = failure(seed) {
                if failed.fetch_add(1, Ordering::Relaxed) < 3 {
                    failures.push(text);
                } else {
                    println!("seed {seed} fails, too");
                }
            }
        }
    };
    let failures = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().flat_map(|h| h.join().unwrap_or_else(|_| vec!["a thread of the simulation panicked".to_owned()])).collect()
    });
    (failed.into_inner(), failures)
}

/// A number from the environment; panics when it is something else.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .filter(|text| !text.is_empty())
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// CI's share; `SEEDS` and `FIRST` in the environment say otherwise (`make simulate`).
#[test]
fn no_seed_violates_an_invariant() {
    let (first, count) = (number("FIRST", 0), number("SEEDS", 10_000));
    let began = Instant::now();
    let (failed, failures) = run_many(first, count);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} steps; {count} seeds from {first} on in {seconds:.1} s: {:.0} a second, {failed} failed",
        STEPS.load(Ordering::Relaxed),
        count as f64 / seconds
    );
    assert!(failed == 0, "{failed} of {count} seeds fail\n{}", failures.join("\n"));
}

#[test]
fn a_seed_gives_the_same_trace_each_time() {
    for seed in 0..20 {
        let (one, two) = (run(Plan::of(seed), false), run(Plan::of(seed), false));
        assert_eq!((one.trace, one.report), (two.trace, two.report), "seed {seed}");
    }
}
