//! What a callback costs, beside the bare loop of the same libraries, and how that changes with endpoints, backlog, dead receivers, bodies and
//! TLS (design §13; method and figures in `benches/README.md`).
//!
//! ```text
//!  CPU 1: driver (this process), Apache Kafka, receiver          CPU 0: the process under test, alone, every thread of it
//!         fill topic ─► start receiver ─► start process ─► at 10 % and 90 % of the arrivals read its CPU time ─► end both
//! ```
//!
//! The driver runs itself again as receiver and as bare loop (`--role …`), so that nothing but the daemon's own binary and a broker is
//! needed. It measures and reports, part by part; it asserts no figure. A part that could not be measured is named, the others go on, and
//! the run ends with an error.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails there and then")]

mod bare;
mod broker;
mod daemon;
mod events;
#[path = "../tests/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests' harness; the benchmark needs a part of it")]
mod harness;
mod measure;
mod paced;
mod parts;
mod pinned;
mod receiver;
mod registry;
mod report;
mod settings;

use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[1..] {
        ["--role", "receiver", ref rest @ ..] => receiver::run(rest),
        ["--role", "bare", ref rest @ ..] => bare::run(rest),
        _ => return drive(&Settings::from_environment()),
    }
    ExitCode::SUCCESS
}

fn drive(settings: &Settings) -> ExitCode {
    pinned::pin_driver();
    let bench = parts::Bench { settings, broker: broker::start() };
    report::print_head(settings);
    let (mut verdicts, mut failed) = (Vec::new(), Vec::new());
    for part in &settings.parts {
        let start = std::time::Instant::now();
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| part.measure(&bench))) {
            Ok(section) => {
                eprintln!("{}: {:.0} s", part.name(), start.elapsed().as_secs_f64());
                section.print();
                verdicts.extend(section.verdicts);
            }
            // The panic has been printed.
            Err(_) => failed.push(part.name()),
        }
    }
    report::print_verdicts(&verdicts);
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nNOT MEASURED: {}", failed.join(", "));
    ExitCode::FAILURE
}
