//! SIGKILL at full speed: what is repeated, and when another replica goes on. The chaos tests prove; this reports.

use super::{Bench, ONE};
use crate::daemon::{Daemon, Setup};
use crate::harness::kafka::create_topic;
use crate::measure::{PATIENCE, done, next};
use crate::receiver::{Receiver, Wanted};
use crate::registry::registry;
use crate::report::{Section, spread_of};

/// Seconds until another replica goes on, at most.
const TAKEOVER: f64 = 15.0;

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let count = bench.settings.events;
    let (mut repeats, mut silence) = (Vec::new(), Vec::new());
    for round in 0..bench.settings.rounds.min(2) {
        // One partition: it is whole the killed one's, so that the longest silence is the takeover.
        let topic = format!("bench.kill-{round}");
        create_topic(&bench.broker.bootstrap, &topic, 1, &[]);
        let receiver = Receiver::start(&Wanted::all(count));
        let url = |_| format!("http://127.0.0.1:{}/callback", receiver.port);
        let setup = Setup::in_flight(registry(1, 1, url), bench.settings.in_flight);
        let mut first = Daemon::start(&bench.broker, &topic, &setup);
        let mut standby = first.beside(&setup);
        let done = std::thread::scope(|scope| {
            scope.spawn(|| ONE.produce(&bench.broker, &topic, count));
            // A tenth has arrived.
            next(&receiver, &mut first, PATIENCE);
            first.kill();
            done(&receiver, &mut standby, PATIENCE)
        });
        standby.kill();
        eprintln!("  {} repeats, {:?} of silence", done.repeats, done.longest_gap);
        repeats.push(done.repeats as f64);
        silence.push(done.longest_gap.as_secs_f64());
    }
    let mut section = Section::new("SIGKILL at full speed", ["figure", "value"]);
    section.row(["attempts at once".to_owned(), bench.settings.in_flight.to_string()]);
    section.row(["repeats".to_owned(), spread_of(&repeats, 0)]);
    section.row(["until another replica goes on, s".to_owned(), spread_of(&silence, 1)]);
    let longest = silence.iter().copied().fold(0.0, f64::max);
    section.judge("another replica goes on", format!("≤ {TAKEOVER} s"), format!("{longest:.1} s"), Some(longest <= TAKEOVER));
    section.note("At most what was in flight and what completed since the last commit, which are 100 ms apart: a tenth of the callbacks of a second. The chaos tests compute the bound from their own log; this only reports.");
    section
}
