//! What is printed: Markdown, ready to be put into `benches/README.md`. Each part prints its section as soon as it is measured.

use crate::broker;
use crate::events::EVENT_BYTES;
use crate::measure::{Run, median};
use crate::settings::{Profile, Settings};
use comfy_table::{CellAlignment, Table};
use std::process::Command;

/// One part's result.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) table: Table,
    /// What to keep in mind, a sentence or two each.
    pub(crate) notes: Vec<String>,
    /// Budgets that it answers.
    pub(crate) verdicts: Vec<Verdict>,
}

/// A budget of design §13, or a line of the isolation guarantee, and what was measured.
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) budget: String,
    pub(crate) measured: String,
    /// `None`: it does not apply here.
    pub(crate) met: Option<bool>,
}

impl Section {
    /// A section whose table has these columns.
    pub(crate) fn new<const N: usize>(title: &'static str, columns: [&str; N]) -> Self {
        Self { title, table: table(columns), notes: Vec::new(), verdicts: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells);
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a budget's verdict.
    pub(crate) fn judge(&mut self, what: impl Into<String>, budget: impl Into<String>, measured: impl Into<String>, met: Option<bool>) {
        self.verdicts.push(Verdict { what: what.into(), budget: budget.into(), measured: measured.into(), met });
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        println!("\n### {}\n\n{}", self.title, self.table);
        if !self.notes.is_empty() {
            println!();
        }
        for note in &self.notes {
            println!("- {note}");
        }
    }
}

fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(columns);
    // A width of its own would break lines in the middle of a row.
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    for column in 1..N {
        table.column_mut(column).expect("as many columns").set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Prints when, where and what is measured.
pub(crate) fn print_head(settings: &Settings) {
    println!("{}, {}, {}\n", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"), machine(), commit());
    println!(
        "{} in flight where nothing else is said, events of {EVENT_BYTES} bytes, one key, keep-alive, plain HTTP, the broker's files {}. Medians (smallest–largest).",
        settings.in_flight,
        if broker::in_memory() { "in memory" } else { "on disk" }
    );
    if settings.profile == Profile::Quick {
        println!("\nQUICK PROFILE: rough figures, smaller loads than the budgets name.");
    }
}

/// Prints all budgets in one table.
pub(crate) fn print_verdicts(verdicts: &[Verdict]) {
    let mut all = Section::new("Budgets", ["budget", "limit", "measured", ""]);
    for Verdict { what, budget, measured, met } in verdicts {
        let met = match met {
            Some(true) => "met",
            Some(false) => "NOT met",
            None => "does not apply",
        };
        all.row([what.clone(), budget.clone(), measured.clone(), met.to_owned()]);
    }
    all.print();
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
    format!("{}, {cores} CPUs, {sha} SHA instructions, load over the last 5 minutes {load}", field("model name"))
}

fn commit() -> String {
    let said = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    said.ok()
        .filter(|said| said.status.success())
        .map_or_else(|| "no commit".to_owned(), |said| format!("commit {}", String::from_utf8_lossy(&said.stdout).trim()))
}

/// The median over runs.
pub(crate) fn middle(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(of))
}

/// Median and extremes over runs.
pub(crate) fn spread(runs: &[Run], of: impl Fn(&Run) -> f64, digits: usize) -> String {
    spread_of(&runs.iter().map(of).collect::<Vec<_>>(), digits)
}

/// Median and extremes.
pub(crate) fn spread_of(values: &[f64], digits: usize) -> String {
    let middle = median(values.iter().copied());
    if values.len() == 1 {
        return format!("{middle:.digits$}");
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{middle:.digits$} ({least:.digits$}–{most:.digits$})")
}

/// A ratio.
pub(crate) fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

/// CPU, speed and memory of runs, as most tables have them.
pub(crate) fn figures(runs: &[Run]) -> [String; 4] {
    [
        spread(runs, |run| run.cpu_micros, 1),
        spread(runs, |run| run.per_second, 0),
        format!("{:.0} %", middle(runs, |run| run.busy) * 100.0),
        format!("{:.0}", middle(runs, |run| run.peak_resident as f64 / 1024.0)),
    ]
}

/// Says what a run should not have done.
pub(crate) fn note_oddities(section: &mut Section, runs: &[Run]) {
    if runs.iter().any(|run| !run.signed) {
        section.note("WARNING: callbacks of the daemon were not signed.");
    }
    let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
    let (repeats, parked) = (sum(|run| run.repeats), sum(|run| run.parked));
    if repeats + parked > 0 {
        section.note(format!("WARNING: the daemon repeated {repeats} callbacks and put {parked} records into delay tiers."));
    }
}
