//! The table: each figure, its spread, and the budget of design §13 beside it.

use crate::Settings;
use crate::broker::EVENT_BYTES;
use crate::latency::Latency;
use crate::measure::{Run, median};
use comfy_table::{CellAlignment, Table};

/// CPU per callback, at most, as a multiple of the bare loop's.
const CPU_RATIO: f64 = 1.5;
/// Callbacks a second, at least, as a multiple of the bare loop's.
const SPEED_RATIO: f64 = 0.67;
/// Callbacks a second, at least, where the bare loop reaches [`BARE_REACHES`].
const SPEED: f64 = 25_000.0;
const BARE_REACHES: f64 = 37_500.0;
/// Milliseconds from append to arrival, at most.
const P50: f64 = 5.0;
const P99: f64 = 25.0;

/// Everything that was measured.
pub(crate) struct Results {
    pub(crate) bare: Vec<Run>,
    pub(crate) daemon: Vec<Run>,
    /// Records a second of the latency runs.
    pub(crate) rate: f64,
    /// Of the bare loop and of the daemon.
    pub(crate) latency: Option<(Latency, Latency)>,
}

/// Prints machine, table and what to keep in mind.
pub(crate) fn print(settings: &Settings, results: &Results) {
    let Settings { events, rounds, in_flight, .. } = settings;
    println!("{}", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"));
    println!("{}", machine());
    println!("{rounds} × (bare loop, daemon), {events} events of {EVENT_BYTES} bytes each, {in_flight} in flight, plain HTTP, one key\n");
    println!("{}", table(results));
    println!();
    for note in notes(results) {
        println!("- {note}");
    }
}

fn table(results: &Results) -> Table {
    type Share = fn(&Run) -> f64;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["figure", "bare loop", "daemon", "daemon / bare", "budget", ""]);
    let (bare, daemon) = (&results.bare, &results.daemon);

    let cpu = |run: &Run| run.cpu_micros;
    let ratio = middle(daemon, cpu) / middle(bare, cpu);
    let budget = format!("≤ {CPU_RATIO} ×");
    table.add_row([
        "CPU per callback, µs",
        &spread(bare, cpu, 1),
        &spread(daemon, cpu, 1),
        &times(ratio),
        &budget,
        met(ratio <= CPU_RATIO),
    ]);

    let speed = |run: &Run| run.per_second;
    let ratio = middle(daemon, speed) / middle(bare, speed);
    let budget = format!("≥ {SPEED_RATIO} ×");
    table.add_row(["callbacks/s", &spread(bare, speed, 0), &spread(daemon, speed, 0), &times(ratio), &budget, met(ratio >= SPEED_RATIO)]);
    let applies = middle(bare, speed) >= BARE_REACHES;
    let verdict = if applies { met(middle(daemon, speed) >= SPEED) } else { "does not apply" };
    table.add_row(["  and", "", "", "", &format!("≥ {SPEED:.0} where bare ≥ {BARE_REACHES:.0}"), verdict]);

    for (name, share) in [
        ("its CPU: its own work, %", (|run| run.busy) as Share),
        ("its CPU: foreign work, %", |run| run.foreign),
        ("the other CPU, %", |run| run.others),
    ] {
        let percent = |run: &Run| share(run) * 100.0;
        table.add_row([name, &spread(bare, percent, 0), &spread(daemon, percent, 0), "", "", ""]);
    }

    if let Some((bare, daemon)) = results.latency {
        let figures =
            [("p50", bare.p50, daemon.p50, Some(P50)), ("p99", bare.p99, daemon.p99, Some(P99)), ("max", bare.max, daemon.max, None)];
        for (name, bare, daemon, limit) in figures {
            let name = format!("append → arrival {name}, ms");
            let budget = limit.map_or_else(String::new, |limit| format!("≤ {limit}"));
            let verdict = limit.map_or("", |limit| met(daemon <= limit));
            table.add_row([&name, &format!("{bare:.1}"), &format!("{daemon:.1}"), "", &budget, verdict]);
        }
    }

    let memory = |run: &Run| run.peak_resident as f64 / 1024.0;
    table.add_row([
        "peak resident, MiB",
        &spread(bare, memory, 0),
        &spread(daemon, memory, 0),
        "",
        "≤ 256 at another load",
        "not measured",
    ]);
    for column in [1, 2, 3] {
        table.column_mut(column).expect("six columns").set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn notes(results: &Results) -> Vec<String> {
    let mut notes = vec!["Figures are medians, with the smallest and the largest in brackets. Compare within one run only.".to_owned()];
    if results.bare.iter().chain(&results.daemon).any(|run| run.busy < 0.9) {
        notes.push(
            "A process below 90 % of its CPU was not the limit: then callbacks/s is the receiver's, the broker's or the noise's."
                .to_owned(),
        );
    }
    if let Some((bare, daemon)) = results.latency {
        let (rate, bare, daemon) = (results.rate, bare.count, daemon.count);
        notes.push(format!(
            "Latency at {rate:.0} records/s, half of the daemon's speed, over {bare} and {daemon} callbacks; up to 1 ms too long."
        ));
    }
    notes.push(
        "Memory's budget is for 1,000,000 records behind and 10,000 endpoints; readiness with 100,000 bindings: not measured here."
            .to_owned(),
    );
    if results.daemon.iter().any(|run| !run.signed) {
        notes.push("WARNING: the daemon's callbacks were not signed.".to_owned());
    }
    let sum = |of: fn(&Run) -> u64| results.daemon.iter().map(of).sum::<u64>();
    let (repeats, parked) = (sum(|run| run.repeats), sum(|run| run.parked));
    if repeats + parked > 0 {
        notes.push(format!("WARNING: the daemon repeated {repeats} callbacks and put {parked} records into delay tiers."));
    }
    notes
}

/// Cores, model, whether SHA-256 is in hardware, and how busy the machine was with other things.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let field =
        |name: &str| info.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(": ")).map_or("?", |(_, v)| v);
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let sha = if field("flags").split(' ').any(|flag| flag == "sha_ni") { "with" } else { "without" };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load = load.split(' ').nth(1).unwrap_or("?");
    format!("{}, {cores} cores, {sha} SHA instructions; load over 5 minutes {load}", field("model name"))
}

fn middle(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(of))
}

fn spread(runs: &[Run], of: impl Fn(&Run) -> f64, digits: usize) -> String {
    let least = runs.iter().map(&of).fold(f64::INFINITY, f64::min);
    let most = runs.iter().map(&of).fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$}–{most:.digits$})", middle(runs, of))
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

fn met(yes: bool) -> &'static str {
    if yes { "met" } else { "NOT met" }
}
