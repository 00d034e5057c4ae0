//! Memory with a million records behind and ten thousand endpoints, 30 % of them dead: a tenth refuse connections, two tenths hang.

use super::{Bench, MANY};
use crate::daemon::{Daemon, Setup};
use crate::events::Events;
use crate::harness::processes::free_port;
use crate::measure::{PATIENCE, UnderTest as _, done};
use crate::receiver::{Receiver, Wanted};
use crate::registry::registry;
use crate::report::Section;
use std::time::Duration;

/// MiB resident, at most.
const BUDGET: u64 = 256;

/// So long after the first arrival the healthy endpoints' events are not waited for any more.
const WITHIN: Duration = Duration::from_secs(150);

/// Watched for so long after the healthy ones have theirs: what the dead ones left behind comes back from the tiers.
const AFTERWARDS: Duration = Duration::from_secs(15);

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let (count, endpoints) = (bench.settings.backlog, bench.settings.endpoints);
    let events = Events::of(MANY);
    let topic = bench.topic(events, count);
    let endpoint = |number: u64| events.domain(number) % endpoints;
    let expected = (0..count).filter(|number| endpoint(*number) % 10 >= 3).count();
    let expected = u64::try_from(expected).unwrap();
    let receiver = Receiver::start(&Wanted { events: count, expected, within: WITHIN, ..Wanted::default() });
    let (port, closed) = (receiver.port, free_port());
    let url = |endpoint: u64| match endpoint % 10 {
        0 => format!("http://127.0.0.1:{closed}/refused/{endpoint}"),
        1 | 2 => format!("http://127.0.0.1:{port}/hang/{endpoint}"),
        _ => format!("http://127.0.0.1:{port}/callback/{endpoint}"),
    };
    let mut daemon = Daemon::start(&bench.broker, &topic, &Setup::new(registry(MANY, endpoints, url)));
    let at_start = daemon.process().peak_resident() / 1024;
    let done = done(&receiver, &mut daemon, WITHIN + PATIENCE);
    let when_done = daemon.process().peak_resident() / 1024;
    std::thread::sleep(AFTERWARDS);
    daemon.process().assert_running();
    let (peak, moves) = (daemon.process().peak_resident() / 1024, daemon.parked());
    daemon.kill();

    let mut section = Section::new("Memory", ["figure", "value"]);
    section.row(["records behind".to_owned(), count.to_string()]);
    section.row(["endpoints, dead".to_owned(), format!("{endpoints}, {}", endpoints * 3 / 10)]);
    section.row(["peak resident when ready, MiB".to_owned(), at_start.to_string()]);
    section.row(["… when the healthy endpoints had theirs, MiB".to_owned(), when_done.to_string()]);
    section.row([format!("… {} s later, MiB", AFTERWARDS.as_secs()), peak.to_string()]);
    section.row(["callbacks to healthy endpoints".to_owned(), format!("{} of {expected}", expected - done.missing)]);
    section.row(["within, s".to_owned(), format!("{:.1}", done.took.as_secs_f64())]);
    section.row(["moves to tiers".to_owned(), moves.to_string()]);
    section.judge("peak resident, backlog and dead endpoints", format!("≤ {BUDGET} MiB"), format!("{peak} MiB"), Some(peak <= BUDGET));
    section.note("Defaults of the daemon. Peaks are `VmHWM`. A tenth of the endpoints refuses connections, two tenths take requests and never answer.");
    if done.missing > 0 {
        let (missing, within) = (done.missing, WITHIN.as_secs());
        section.note(format!("WARNING: {missing} callbacks to healthy endpoints had not arrived after {within} s."));
    }
    section
}
