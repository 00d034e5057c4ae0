//! How it scales from one CPU to two.

use super::{Bench, ONE};
use crate::daemon::Setup;
use crate::measure::Run;
use crate::pinned::{BOTH, UNDER_TEST};
use crate::receiver::Wanted;
use crate::registry::registry;
use crate::report::{Section, middle, note_oddities, spread, times};

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let count = bench.settings.events;
    let topic = bench.topic(ONE, count);
    let run = |cpus| {
        bench.daemon_as(&topic, &Wanted::all(count), |port| {
            let registry = registry(1, 1, |_| format!("http://127.0.0.1:{port}/callback"));
            Setup { cpus, ..Setup::in_flight(registry, bench.settings.in_flight) }
        })
    };
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..bench.settings.rounds {
        one.push(run(UNDER_TEST));
        two.push(run(BOTH));
    }
    let mut section = Section::new("One CPU and two", ["", "CPU per callback, µs", "callbacks/s", "CPUs used by it", "the others' CPU"]);
    for (name, runs) in [("CPU 0 for itself", &one), ("CPU 0, and CPU 1 shared with the others", &two)] {
        section.row([
            name.to_owned(),
            spread(runs, |run| run.cpu_micros, 1),
            spread(runs, |run| run.per_second, 0),
            format!("{:.2}", middle(runs, |run| run.busy)),
            format!("{:.0} %", middle(runs, |run| run.others) * 100.0),
        ]);
    }
    let speed = |run: &Run| run.per_second;
    section.note(format!(
        "Scaling factor {}: broker, receiver and driver need CPU 1 as well, so of two CPUs the daemon never has both. One thread makes all attempts; the others read from Kafka.",
        times(middle(&two, speed) / middle(&one, speed))
    ));
    note_oddities(&mut section, &[one, two].concat());
    section
}
