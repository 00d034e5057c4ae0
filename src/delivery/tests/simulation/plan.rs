//! What a seed says: how the world is made, what is produced, and what goes wrong when.

use super::super::super::circuit::CircuitSettings;
use super::super::super::settings::Settings;
use super::super::simulated;
use super::receivers::Manner;
use crate::domain::address::AddressPolicy;
use crate::domain::policy::Success;
use crate::domain::registry::{
    BindingEntry, CallbackTemplateEntry, DomainEntry, Entries, Format, Keep, RecordingTemplateEntry, Registry, Rules,
};
use crate::domain::tier::Tiers;
use std::time::Duration;

/// An endpoint, its policy, and how it behaves until calm comes and after.
#[derive(Clone, Debug)]
pub(super) struct EndpointPlan {
    pub(super) host: String,
    pub(super) success: (u16, u16),
    pub(super) final_410: bool,
    pub(super) delays: Vec<Duration>,
    pub(super) jitter: f64,
    pub(super) attempts: u32,
    pub(super) timeout: Duration,
    pub(super) max_age: Duration,
    pub(super) manner: Manner,
    pub(super) afterwards: Manner,
}

impl EndpointPlan {
    fn template(&self) -> String {
        self.host.replace('.', "-")
    }
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    For(usize),
    SkippedByRule,
    Undecodable,
    UnknownDomain,
}

/// An event to be produced.
#[derive(Clone, Debug)]
pub(super) struct EventPlan {
    pub(super) id: String,
    pub(super) kind: EventKind,
    pub(super) acknowledged: bool,
}

/// Something that goes wrong, or is done by people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A replica is killed this many steps after the time of the fault, and another started after a while.
    Crash { steps: u32, restart_ms: u64 },
    /// SIGTERM, and another is started after a while.
    Drain { restart_ms: u64 },
    /// One more joins.
    Join,
    /// SIGSTOP for this long.
    Freeze { ms: u64 },
    /// The group goes on without one of its members.
    Expel,
    /// Nobody is answered for this long.
    BrokerDown { ms: u64 },
    /// This many of 100 commits fail, for this long.
    CommitsFail { percent: u32, ms: u64 },
    /// Appends and commits take up to `slow_ms`, for this long.
    SlowBroker { slow_ms: u64, ms: u64 },
    /// Appends to our topics are refused for good, for this long.
    Refuses { letters: bool, ms: u64 },
    /// A replica's wall clock is off, for this long.
    ClockJump { by_ms: i64, ms: u64 },
    /// The registry is loaded again, with other URLs.
    Reload,
    /// Retention deletes the older part of a source partition.
    Retention,
    /// All replicas are killed, and the group's commits expire before others start.
    Expire { restart_ms: u64 },
    /// An endpoint changes its manners.
    Manners { endpoint: usize, manner: Manner },
    /// Dead letters are replayed.
    Replay,
    /// All replicas are killed, the source topic is made anew with the commits left as they were, and others start.
    Recreate { restart_ms: u64 },
    /// All replicas are killed, and another version of this program writes its own metadata beside their commits before others start.
    ForeignMaps { restart_ms: u64 },
}

/// A whole run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) grain: Duration,
    pub(super) replicas: usize,
    pub(super) partitions: i32,
    /// Whether markers and aborted transactions leave gaps in the logs.
    pub(super) gaps: bool,
    pub(super) settings: Settings,
    pub(super) endpoints: Vec<EndpointPlan>,
    pub(super) events: Vec<(Duration, EventPlan)>,
    pub(super) faults: Vec<(Duration, Fault)>,
    /// From then on nothing goes wrong any more.
    pub(super) calm: Duration,
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Settings small enough that limits are met.
pub(super) fn settings() -> Settings {
    Settings {
        tiers: Tiers::new("callbackd", &["1s", "5s"].map(str::to_owned)).expect("two delays"),
        max_in_flight: 16,
        endpoint_concurrency: 4,
        circuit: CircuitSettings { failures: 5, pause: ms(2_000), max_pause: ms(8_000) },
        drain_timeout: ms(5_000),
        revoke_grace: ms(1_000),
        ..simulated::settings()
    }
}

/// An endpoint that does as it should.
pub(super) fn endpoint(n: usize, manner: Manner) -> EndpointPlan {
    EndpointPlan {
        host: format!("e{n}.example"),
        success: (200, 200),
        final_410: false,
        delays: vec![ms(1_000), ms(2_000)],
        jitter: 0.0,
        attempts: 4,
        timeout: ms(2_000),
        max_age: ms(3_600_000),
        manner,
        afterwards: Manner::Good,
    }
}

impl Plan {
    /// Nothing goes wrong: `count` events, 10 ms apart, one after the other to each endpoint.
    pub(super) fn calm(seed: u64, endpoints: Vec<EndpointPlan>, count: usize) -> Self {
        let event = |n: usize| {
            let kind = EventKind::For(n % endpoints.len());
            (ms(100 + 10 * n as u64), EventPlan { id: format!("ev{n}"), kind, acknowledged: true })
        };
        let events = (0..count).map(event).collect();
        Self {
            seed,
            grain: ms(1),
            replicas: 1,
            partitions: 1,
            gaps: false,
            settings: settings(),
            events,
            endpoints,
            faults: Vec::new(),
            calm: ms(60_000),
        }
    }

    /// Adds a fault at this time.
    pub(super) fn with(mut self, at_ms: u64, fault: Fault) -> Self {
        self.faults.push((ms(at_ms), fault));
        self.faults.sort_by_key(|(at, _)| *at);
        self
    }

    /// What `seed` says.
    pub(super) fn of(seed: u64) -> Self {
        let chance = &mut fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
        let mut settings = settings();
        settings.max_in_flight = chance.usize(3..24);
        settings.endpoint_concurrency = chance.usize(1..5);
        settings.max_in_flight_bytes = if chance.u32(0..4) == 0 { 6_000 } else { 1 << 20 };
        settings.revoke_grace = ms(chance.u64(100..3_000));
        let endpoints: Vec<EndpointPlan> = (0..chance.usize(1..6)).map(|n| Self::endpoint(n, chance)).collect();
        let window = chance.u64(500..12_000);
        let count = chance.usize(5..60);
        let events = (0..count).map(|n| (ms(chance.u64(0..window)), Self::event(n, endpoints.len(), chance))).collect();
        let count = if chance.u32(0..8) == 0 { 0 } else { chance.usize(1..8) };
        let length = window + 8_000;
        let mut faults: Vec<(Duration, Fault)> =
            (0..count).map(|_| (ms(chance.u64(0..length)), Self::fault(endpoints.len(), chance))).collect();
        faults.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            grain: ms(*chance.choice(&[1, 100, 250, 250, 500, 500]).unwrap_or(&250)),
            replicas: chance.usize(1..4),
            partitions: chance.i32(1..4),
            gaps: true,
            settings,
            endpoints,
            events,
            faults,
            calm: ms(length + 1_000),
        }
    }

    fn endpoint(n: usize, chance: &mut fastrand::Rng) -> EndpointPlan {
        let bad = |chance: &mut fastrand::Rng| *chance.choice(&Manner::BAD).unwrap_or(&Manner::Slow);
        let standard = chance.bool();
        let manner = if chance.bool() { Manner::Good } else { bad(chance) };
        let for_ever = [Manner::Status(500), Manner::Status(410), Manner::Flaps, Manner::Slow];
        EndpointPlan {
            success: if standard { (200, 299) } else { (200, 200) },
            final_410: standard,
            delays: [vec![ms(1_000)], vec![ms(1_000), ms(3_000)], vec![ms(6_000)]][chance.usize(0..3)].clone(),
            jitter: if chance.u32(0..3) == 0 { 0.2 } else { 0.0 },
            attempts: chance.u32(1..6),
            timeout: ms(chance.u64(300..4_000)),
            max_age: if chance.u32(0..5) == 0 { ms(20_000) } else { ms(3_600_000) },
            afterwards: if chance.u32(0..4) == 0 { *chance.choice(&for_ever).unwrap_or(&Manner::Good) } else { Manner::Good },
            ..endpoint(n, manner)
        }
    }

    fn event(n: usize, endpoints: usize, chance: &mut fastrand::Rng) -> EventPlan {
        let kind = match chance.u32(0..30) {
            0 => EventKind::SkippedByRule,
            1 => EventKind::Undecodable,
            2 => EventKind::UnknownDomain,
            // Half of all events are for one endpoint.
            k if k % 2 == 0 => EventKind::For(0),
            _ => EventKind::For(chance.usize(0..endpoints)),
        };
        EventPlan { id: format!("ev{n}"), kind, acknowledged: chance.u32(0..40) != 0 }
    }

    fn fault(endpoints: usize, chance: &mut fastrand::Rng) -> Fault {
        let restart_ms = chance.u64(0..15_000);
        match chance.u32(0..26) {
            0..=5 => Fault::Crash { steps: chance.u32(0..60), restart_ms },
            6 | 7 => Fault::Drain { restart_ms },
            8 | 9 => Fault::Join,
            10 | 11 => Fault::Freeze { ms: chance.u64(500..25_000) },
            12 | 13 => Fault::Expel,
            14 => Fault::BrokerDown { ms: chance.u64(100..40_000) },
            15 => Fault::CommitsFail { percent: chance.u32(20..101), ms: chance.u64(500..20_000) },
            16 | 17 => Fault::SlowBroker { slow_ms: chance.u64(50..4_000), ms: chance.u64(1_000..15_000) },
            18 => Fault::Refuses { letters: chance.bool(), ms: chance.u64(500..5_000) },
            19 => Fault::ClockJump { by_ms: if chance.bool() { 3_600_000 } else { -3_600_000 }, ms: chance.u64(500..15_000) },
            20 => Fault::Reload,
            21 => Fault::Retention,
            22 => Fault::Expire { restart_ms: 11_000 + restart_ms },
            23 | 24 => {
                let manner = *chance.choice(&Manner::BAD).unwrap_or(&Manner::Slow);
                Fault::Manners { endpoint: chance.usize(0..endpoints), manner }
            }
            _ => Fault::Replay,
        }
    }

    /// The registry, its URLs with this path.
    pub(super) fn registry(&self, path: u32) -> Registry {
        let template = |e: &EndpointPlan| CallbackTemplateEntry {
            name: e.template(),
            recording_file: Some(format!("https://{}/v{path}", e.host)),
            policy: if e.final_410 {
                crate::domain::registry::PolicyKind::Standard
            } else {
                crate::domain::registry::PolicyKind::default()
            },
            delays: Some(e.delays.clone()),
            attempts: Some(e.attempts),
            max_age: Some(e.max_age),
            jitter: Some(e.jitter),
            success: Some(if e.success.1 > 200 { Success::Any2xx } else { Success::Listed(vec![200]) }),
            timeout: Some(e.timeout),
            connect_timeout: Some(e.timeout),
            ..Default::default()
        };
        let binding = |domain: String, callback_template: Option<String>| BindingEntry {
            domain,
            path: None,
            recording_template: Some("rec".into()),
            callback_template,
            from: None,
            until: None,
        };
        let quiet = "quiet.example".to_owned();
        let hosts = || self.endpoints.iter().map(|e| (e.host.clone(), e.template()));
        let entries = Entries {
            recording_templates: vec![RecordingTemplateEntry {
                name: "rec".into(),
                account: None,
                formats: vec![Format::Mp4],
                interval: Duration::from_secs(1800),
                keep: Keep::Forever,
            }],
            callback_templates: self.endpoints.iter().map(template).collect(),
            domains: hosts().map(|(h, _)| h).chain([quiet.clone()]).map(|name| DomainEntry { name, account: None, region: None }).collect(),
            bindings: hosts().map(|(h, template)| binding(h, Some(template))).chain([binding(quiet, None)]).collect(),
            ..Default::default()
        };
        let rules = Rules { templates_per_account: 1000, addresses: AddressPolicy::default() };
        Registry::build(entries, &rules).unwrap_or_else(|problems| panic!("{problems:?}"))
    }
}
