//! Readiness with a hundred thousand bindings, and how long a reload of them takes.

use super::Bench;
use crate::broker::PARTITIONS;
use crate::daemon::{Daemon, Setup};
use crate::events::domain_name;
use crate::harness::kafka::create_topic;
use crate::measure::{UnderTest as _, median};
use crate::registry::registry;
use crate::report::{Section, spread_of};

/// Seconds until ready, at most.
const BUDGET: f64 = 5.0;

/// Templates of the one account.
const TEMPLATES: u64 = 50;

pub(super) fn measure(bench: &Bench<'_>) -> Section {
    let bindings = bench.settings.bindings;
    // Nothing to deliver: what is measured is the registry, not callbacks.
    let topic = "bench.empty";
    create_topic(&bench.broker.bootstrap, topic, PARTITIONS, &[]);
    let url = |template| format!("http://127.0.0.1:8009/callback/{template}");
    let text = registry(bindings, TEMPLATES, url);
    let (mut ready, mut reload, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.settings.rounds {
        let mut daemon = Daemon::start(&bench.broker, topic, &Setup::new(text.clone()));
        ready.push(daemon.ready_after.as_secs_f64());
        let one_more = format!("{text}[[domains]]\nname = \"{}\"\n", domain_name(bindings));
        reload.push(daemon.reload(&one_more).as_secs_f64());
        memory.push(daemon.process().peak_resident() as f64 / 1024.0);
        eprintln!("  ready after {:.2} s, reloaded within {:.2} s", ready[ready.len() - 1], reload[reload.len() - 1]);
        daemon.kill();
    }
    let mut section = Section::new("Start-up and reload", ["figure", "value"]);
    section.row(["bindings, domains".to_owned(), format!("{bindings}, {bindings}")]);
    section.row(["start of the process to ready, s".to_owned(), spread_of(&ready, 2)]);
    section.row(["SIGHUP to the new registry in force, s".to_owned(), spread_of(&reload, 2)]);
    section.row(["peak resident, old and new registry, MiB".to_owned(), spread_of(&memory, 0)]);
    let middle = median(ready.iter().copied());
    section.judge(format!("ready with {bindings} bindings"), format!("≤ {BUDGET} s"), format!("{middle:.2} s"), Some(middle <= BUDGET));
    section.note("Sole member of new groups, `group.initial.rebalance.delay.ms=0` at the broker, on one CPU.");
    section
}
