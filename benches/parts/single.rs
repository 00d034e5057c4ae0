//! One endpoint at full speed: CPU and callbacks a second, beside the bare loop.

use super::{Bench, ONE};
use crate::measure::Run;
use crate::report::{Section, middle, note_oddities, spread, times};

/// CPU per callback, at most, as a multiple of the bare loop's; and what is aimed at.
const CPU_RATIO: f64 = 1.5;
const CPU_AIM: f64 = 1.0;
/// Callbacks a second, at least, as a multiple of the bare loop's.
const SPEED_RATIO: f64 = 0.67;
/// Callbacks a second, at least, where the bare loop reaches [`BARE_REACHES`].
const SPEED: f64 = 25_000.0;
const BARE_REACHES: f64 = 37_500.0;

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let count = bench.settings.events;
    let topic = bench.topic(ONE, count);
    let (mut bare, mut daemon) = (Vec::new(), Vec::new());
    for _ in 0..bench.settings.rounds {
        bare.push(bench.bare(&topic, count));
        daemon.push(bench.daemon(&topic, count, 1, 1));
    }
    report(&bare, &daemon)
}

fn report(bare: &[Run], daemon: &[Run]) -> Section {
    let mut section = Section::new("One endpoint, full speed", ["figure", "bare loop", "daemon", "daemon / bare"]);
    let cpu = |run: &Run| run.cpu_micros;
    let ratio = middle(daemon, cpu) / middle(bare, cpu);
    section.row(["CPU per callback, µs".to_owned(), spread(bare, cpu, 1), spread(daemon, cpu, 1), times(ratio)]);
    section.judge("CPU per callback, of the bare loop's", format!("≤ {CPU_RATIO} ×"), times(ratio), Some(ratio <= CPU_RATIO));
    section.judge("  the aim", format!("{CPU_AIM:.1} ×"), times(ratio), Some(ratio <= CPU_AIM));

    let speed = |run: &Run| run.per_second;
    let ratio = middle(daemon, speed) / middle(bare, speed);
    section.row(["callbacks/s".to_owned(), spread(bare, speed, 0), spread(daemon, speed, 0), times(ratio)]);
    section.judge("callbacks/s, of the bare loop's", format!("≥ {SPEED_RATIO} ×"), times(ratio), Some(ratio >= SPEED_RATIO));
    let (bare_speed, its) = (middle(bare, speed), middle(daemon, speed));
    let applies = (bare_speed >= BARE_REACHES).then_some(its >= SPEED);
    section.judge(format!("callbacks/s, where bare ≥ {BARE_REACHES:.0}"), format!("≥ {SPEED:.0}"), format!("{its:.0}"), applies);

    for (name, share) in [
        ("its CPU: its own work, %", (|run| run.busy) as fn(&Run) -> f64),
        ("its CPU: foreign work, %", |run| run.foreign),
        ("the other CPU, %", |run| run.others),
    ] {
        let percent = |run: &Run| share(run) * 100.0;
        section.row([name.to_owned(), spread(bare, percent, 0), spread(daemon, percent, 0), String::new()]);
    }
    let memory = |run: &Run| run.peak_resident as f64 / 1024.0;
    section.row(["peak resident, MiB".to_owned(), spread(bare, memory, 0), spread(daemon, memory, 0), String::new()]);
    if bare.iter().chain(daemon).any(|run| run.busy < 0.9) {
        section.note(
            "A process below 90 % of its CPU was not the limit: then callbacks/s is the receiver's, the broker's or the noise's, and only the CPU figures say something.",
        );
    }
    note_oddities(&mut section, daemon);
    section
}
