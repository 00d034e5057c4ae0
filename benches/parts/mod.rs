//! The parts of the benchmark: each measures something and makes a section of the report.

mod cores;
mod curves;
mod isolation;
mod kill;
mod latency;
mod memory;
mod single;
mod start;

use crate::bare::Bare;
use crate::daemon::{Daemon, Setup};
use crate::events::Events;
use crate::harness::broker::Broker;
use crate::measure::{Run, throughput};
use crate::receiver::Wanted;
use crate::registry::registry;
use crate::report::Section;
use crate::settings::Settings;
use std::sync::Mutex;

/// What all parts share.
pub(crate) struct Bench<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) broker: Broker,
}

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// CPU and callbacks a second beside the bare loop.
    Single,
    /// Append to arrival at half load.
    Latency,
    /// One to ten thousand endpoints.
    Endpoints,
    /// A thousand to a million records behind.
    Backlog,
    /// Bodies of 0.6 to 100 kB.
    Bodies,
    /// HTTPS beside HTTP.
    Tls,
    /// One CPU and two.
    Cores,
    /// Hanging and loud domains beside the others.
    Isolation,
    /// A million records behind, ten thousand endpoints, a third of them dead.
    Memory,
    /// A hundred thousand bindings.
    Start,
    /// SIGKILL at full speed.
    Kill,
}

impl Part {
    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 11] = [
        Self::Single,
        Self::Latency,
        Self::Endpoints,
        Self::Backlog,
        Self::Bodies,
        Self::Tls,
        Self::Cores,
        Self::Isolation,
        Self::Memory,
        Self::Start,
        Self::Kill,
    ];

    /// Its name in `CALLBACKD_BENCH_ONLY`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Latency => "latency",
            Self::Endpoints => "endpoints",
            Self::Backlog => "backlog",
            Self::Bodies => "bodies",
            Self::Tls => "tls",
            Self::Cores => "cores",
            Self::Isolation => "isolation",
            Self::Memory => "memory",
            Self::Start => "start",
            Self::Kill => "kill",
        }
    }

    /// The part of that name.
    pub(crate) fn named(name: &str) -> Self {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|part| part.name() == name)
            .unwrap_or_else(|| panic!("no part is called {name:?}; there are {}", known()))
    }

    /// Measures it.
    pub(crate) fn measure(self, bench: &Bench<'_>) -> Section {
        match self {
            Self::Single => single::measure(bench),
            Self::Latency => latency::measure(bench),
            Self::Endpoints => curves::endpoints(bench),
            Self::Backlog => curves::backlog(bench),
            Self::Bodies => curves::bodies(bench),
            Self::Tls => curves::tls(bench),
            Self::Cores => cores::measure(bench),
            Self::Isolation => isolation::measure(bench),
            Self::Memory => memory::measure(bench),
            Self::Start => start::measure(bench),
            Self::Kill => kill::measure(bench),
        }
    }
}

/// One domain and one endpoint: what all comparisons with the bare loop are made with.
pub(crate) const ONE: Events = Events::of(1);

/// As many domains as the budgets name endpoints; which of them share an endpoint is the registry's affair.
pub(crate) const MANY: u64 = 10_000;

impl Bench<'_> {
    /// The topic with events `0..count` of `events`; filled the first time that it is asked for.
    pub(crate) fn topic(&self, events: Events, count: u64) -> String {
        static FILLED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let topic = format!("bench.{}x{}.{count}", events.domains, events.bytes);
        let mut filled = FILLED.lock().unwrap();
        if !filled.contains(&topic) {
            events.fill(&self.broker, &topic, count);
            filled.push(topic.clone());
        }
        topic
    }

    /// The bare loop over a topic of `count` events.
    pub(crate) fn bare(&self, topic: &str, count: u64) -> Run {
        let run = throughput(&Wanted::all(count), |port| Bare::start(&self.broker, topic, port, self.settings.in_flight));
        eprintln!("  bare loop: {run}");
        run
    }

    /// The daemon over a topic of `count` events of [`MANY`] domains or one, all of which go to `endpoints` endpoints.
    pub(crate) fn daemon(&self, topic: &str, count: u64, domains: u64, endpoints: u64) -> Run {
        self.daemon_as(topic, &Wanted::all(count), |port| {
            let registry = registry(domains, endpoints, |endpoint| format!("http://127.0.0.1:{port}/callback/{endpoint}"));
            Setup::in_flight(registry, self.settings.in_flight)
        })
    }

    /// The daemon as `setup` makes it of the receiver's port.
    pub(crate) fn daemon_as(&self, topic: &str, wanted: &Wanted, setup: impl FnOnce(u16) -> Setup) -> Run {
        let run = throughput(wanted, |port| Daemon::start(&self.broker, topic, &setup(port)));
        eprintln!("  daemon:    {run}");
        run
    }
}
