//! Added latency at half load, beside the bare loop.

use super::{Bench, ONE};
use crate::bare::Bare;
use crate::daemon::{Daemon, Setup};
use crate::measure::UnderTest as _;
use crate::paced::Load;
use crate::registry::registry;
use crate::report::Section;

/// Milliseconds from append to arrival, at most.
const P50: f64 = 5.0;
const P99: f64 = 25.0;

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let (settings, broker) = (bench.settings, &bench.broker);
    // Half of what it does at full speed; a run of its own, because this part may be measured alone.
    let topic = bench.topic(ONE, settings.events);
    let rate = bench.daemon(&topic, settings.events, 1, 1).per_second / 2.0;
    let load = Load { events: ONE, rate, measured: settings.latency, sick: 0 };
    let bare = load.measure(
        broker,
        "bench.paced-bare",
        |port| Bare::start(broker, "bench.paced-bare", port, settings.in_flight),
        |bare| {
            bare.end();
        },
    );
    let start = |port| {
        let registry = registry(1, 1, |_| format!("http://127.0.0.1:{port}/callback"));
        Daemon::start(broker, "bench.paced-daemon", &Setup::in_flight(registry, settings.in_flight))
    };
    let daemon = load.measure(broker, "bench.paced-daemon", start, |daemon| {
        daemon.end();
    });
    let missing = bare.done.missing + daemon.done.missing;
    let (bare, daemon) = (bare.latency(|_| true), daemon.latency(|_| true));

    let mut section = Section::new("Added latency at half load", ["append → arrival, ms", "bare loop", "daemon"]);
    for (name, bare, daemon) in [("p50", bare.p50, daemon.p50), ("p99", bare.p99, daemon.p99), ("max", bare.max, daemon.max)] {
        section.row([name.to_owned(), format!("{bare:.1}"), format!("{daemon:.1}")]);
    }
    section.judge("append → arrival p50", format!("≤ {P50} ms"), format!("{:.1} ms", daemon.p50), Some(daemon.p50 <= P50));
    section.judge("append → arrival p99", format!("≤ {P99} ms"), format!("{:.1} ms", daemon.p99), Some(daemon.p99 <= P99));
    section.note(format!("At {rate:.0} records/s over {} and {} callbacks; up to 1 ms too long.", bare.count, daemon.count));
    if missing > 0 {
        section.note(format!("WARNING: {missing} callbacks did not arrive."));
    }
    section
}
