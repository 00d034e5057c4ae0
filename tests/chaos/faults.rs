//! Faults: what may happen, a schedule drawn from a seed, and the hand that does it while the load goes on.

use super::fleet::Fleet;
use super::sites::{Mood, Sites};
use super::{Millis, now};
use crate::harness::broker::Broker;
use std::collections::BTreeMap;
use std::time::Duration;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL of a replica; another is launched later.
    Kill,
    /// SIGKILL of all replicas; as many are launched at once.
    KillAll,
    /// SIGSTOP of a replica for longer than the session time-out, then SIGCONT: a zombie.
    Zombie,
    /// SIGSTOP of a replica for a while, then SIGCONT.
    Pause,
    /// SIGTERM of a replica; another is launched when it has ended.
    Roll,
    /// One more replica.
    Join,
    /// SIGTERM of a replica, not replaced.
    Leave,
    /// SIGKILL of a broker, restarted later; with three, its leaders move.
    BrokerKill,
    /// SIGSTOP of a broker, then SIGCONT.
    BrokerFreeze,
    /// An endpoint is in this mood for a while.
    Site(Mood),
}

impl Fault {
    /// Whether appends and commits may have had to wait.
    pub(crate) fn is_of_the_broker(self) -> bool {
        matches!(self, Self::BrokerKill | Self::BrokerFreeze)
    }
}

/// Drawn first, in any order: short schedules hold these.
const FIRST: [Fault; 5] = [Fault::Kill, Fault::BrokerKill, Fault::Site(Mood::Hangs), Fault::Roll, Fault::Site(Mood::Flaps)];
const REST: [Fault; 15] = [
    Fault::Zombie,
    Fault::KillAll,
    Fault::Pause,
    Fault::Join,
    Fault::Leave,
    Fault::Kill,
    Fault::BrokerFreeze,
    Fault::BrokerKill,
    Fault::Site(Mood::Resets),
    Fault::Site(Mood::Drips),
    Fault::Site(Mood::Late),
    Fault::Site(Mood::Halves),
    Fault::Site(Mood::Cuts),
    Fault::Site(Mood::Fails),
    Fault::Site(Mood::Busy),
];

/// A fault, when it begins and for how long it lasts, from the start of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Millis,
    pub(crate) lasts: Millis,
    pub(crate) fault: Fault,
    /// Which replica, broker or endpoint: a number that is taken modulo how many there are.
    pub(crate) pick: usize,
}

/// `count` faults over `time`: each kind once before any comes twice.
pub(crate) fn schedule(random: &mut fastrand::Rng, count: usize, time: Millis, session: Millis) -> Vec<Planned> {
    let mut deck: Vec<Fault> = Vec::new();
    while deck.len() < count {
        let (mut first, mut rest) = (FIRST, REST);
        random.shuffle(&mut first);
        random.shuffle(&mut rest);
        deck.extend(first.iter().chain(&rest));
    }
    deck.truncate(count);
    // A long schedule does not begin with the short one's kinds.
    random.shuffle(&mut deck);
    let slot = time / count.max(1) as Millis;
    deck.into_iter()
        .enumerate()
        .map(|(n, fault)| {
            let lasts = match fault {
                Fault::Zombie => session + random.i64(2_000..4_000),
                Fault::Pause => random.i64(300..session / 2),
                Fault::BrokerKill | Fault::BrokerFreeze => random.i64(500..5_000),
                Fault::Site(_) => random.i64(2_000..8_000),
                Fault::Kill | Fault::KillAll | Fault::Roll | Fault::Join | Fault::Leave => random.i64(0..5_000),
            };
            Planned { at: n as Millis * slot + random.i64(0..slot.max(2) / 2), lasts, fault, pick: random.usize(..1_000_000) }
        })
        .collect()
}

/// A fault as it happened; printed beside the history of a run that failed.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) fault: Fault,
    pub(crate) from: Millis,
    pub(crate) to: Millis,
    /// To which replica, broker or endpoint; for people.
    #[expect(dead_code, reason = "`Debug` reads it")]
    pub(crate) whom: String,
}

/// What is to be done later.
#[derive(Clone, Copy, Debug)]
enum Later {
    Launch { fault: usize },
    Thaw { fault: usize, number: u32 },
    BrokerBack { fault: usize, broker: usize },
    BrokerThaw { fault: usize, broker: usize },
    Calm { fault: usize, endpoint: usize },
    Over { fault: usize },
}

/// The hand.
pub(crate) struct Hand<'a> {
    pub(crate) fleet: &'a mut Fleet,
    pub(crate) brokers: &'a mut [Broker],
    pub(crate) sites: &'a Sites,
    pub(crate) endpoints: usize,
    pub(crate) happened: Vec<Happened>,
    later: BTreeMap<(Millis, usize), Later>,
    /// Replicas whose end is waited for, then another is launched.
    rolling: Vec<(u32, usize)>,
    number: usize,
}

/// Replicas, at least and at most.
const REPLICAS: (usize, usize) = (2, 6);

impl<'a> Hand<'a> {
    pub(crate) fn new(fleet: &'a mut Fleet, brokers: &'a mut [Broker], sites: &'a Sites, endpoints: usize) -> Self {
        Self { fleet, brokers, sites, endpoints, happened: Vec::new(), later: BTreeMap::new(), rolling: Vec::new(), number: 0 }
    }

    /// Does what is planned, while `goes_on`; then ends every fault.
    pub(crate) fn perform(&mut self, plan: &[Planned], goes_on: impl Fn() -> bool) {
        let start = now();
        let mut next = plan.iter().peekable();
        while next.peek().is_some() || !self.later.is_empty() || !self.rolling.is_empty() || goes_on() {
            if let Some(one) = next.next_if(|one| start + one.at <= now()) {
                self.begin(one);
            }
            while let Some(entry) = self.later.first_entry().filter(|e| e.key().0 <= now()) {
                let later = entry.remove();
                self.end(later);
            }
            self.tend();
            std::thread::sleep(Duration::from_millis(10));
        }
        while self.fleet.active().len() < REPLICAS.0 {
            self.fleet.launch();
        }
    }

    fn tend(&mut self) {
        let before = self.fleet.size();
        self.fleet.tend();
        let running = self.fleet.numbers();
        for (number, fault) in std::mem::take(&mut self.rolling) {
            if running.contains(&number) {
                self.rolling.push((number, fault));
            } else {
                self.fleet.launch();
                self.happened[fault].to = now();
            }
        }
        // One that ended by itself is launched again, as a supervisor would.
        if self.fleet.size() < before && self.later.is_empty() && self.fleet.size() < REPLICAS.0 {
            self.fleet.launch();
        }
    }

    fn after(&mut self, time: Millis, later: Later) {
        self.number += 1;
        self.later.insert((now() + time, self.number), later);
    }

    fn begin(&mut self, planned: &Planned) {
        let fault = self.happened.len();
        let active = self.fleet.active();
        let replica = active.get(planned.pick % active.len().max(1)).copied();
        let mut whom = replica.map_or_else(|| "nobody".to_string(), |r| format!("replica {r}"));
        let from = now();
        match (planned.fault, replica) {
            (Fault::Kill, Some(replica)) => {
                self.fleet.kill(replica);
                self.after(planned.lasts, Later::Launch { fault });
            }
            (Fault::KillAll, _) => {
                for replica in &active {
                    self.fleet.kill(*replica);
                }
                whom = format!("replicas {active:?}");
                for _ in &active {
                    self.after(0, Later::Launch { fault });
                }
            }
            (Fault::Zombie | Fault::Pause, Some(number)) => {
                self.fleet.freeze(number);
                self.after(planned.lasts, Later::Thaw { fault, number });
            }
            (Fault::Roll, Some(replica)) => {
                self.fleet.ask_to_end(replica);
                self.rolling.push((replica, fault));
            }
            (Fault::Leave, Some(replica)) if active.len() > REPLICAS.0 => {
                self.fleet.ask_to_end(replica);
                self.after(0, Later::Over { fault });
            }
            // Too few to leave, or nobody there: one more.
            (Fault::Join | Fault::Leave | Fault::Kill | Fault::Zombie | Fault::Pause | Fault::Roll, _) => {
                whom = if self.fleet.size() < REPLICAS.1 { format!("replica {}", self.fleet.launch()) } else { "nobody".to_string() };
                self.after(0, Later::Over { fault });
            }
            (Fault::BrokerKill, _) => {
                let broker = planned.pick % self.brokers.len();
                whom = format!("broker {broker}");
                if self.brokers[broker].is_running() {
                    self.brokers[broker].kill();
                    self.after(planned.lasts, Later::BrokerBack { fault, broker });
                } else {
                    self.after(0, Later::Over { fault });
                }
            }
            (Fault::BrokerFreeze, _) => {
                let broker = planned.pick % self.brokers.len();
                whom = format!("broker {broker}");
                if self.brokers[broker].is_running() {
                    self.brokers[broker].signal("STOP");
                    self.after(planned.lasts, Later::BrokerThaw { fault, broker });
                } else {
                    self.after(0, Later::Over { fault });
                }
            }
            (Fault::Site(mood), _) => {
                let endpoint = planned.pick % self.endpoints;
                whom = format!("endpoint {endpoint}");
                self.sites.set_mood(endpoint, mood);
                self.after(planned.lasts, Later::Calm { fault, endpoint });
            }
        }
        self.happened.push(Happened { fault: planned.fault, from, to: Millis::MAX, whom });
    }

    fn end(&mut self, later: Later) {
        let fault = match later {
            Later::Launch { fault } => {
                self.fleet.launch();
                fault
            }
            Later::Thaw { fault, number } => {
                self.fleet.thaw(number);
                fault
            }
            Later::BrokerBack { fault, broker } => {
                self.brokers[broker].start_again().unwrap();
                fault
            }
            Later::BrokerThaw { fault, broker } => {
                if self.brokers[broker].is_running() {
                    self.brokers[broker].signal("CONT");
                }
                fault
            }
            Later::Calm { fault, endpoint } => {
                self.sites.set_mood(endpoint, Mood::Well);
                fault
            }
            Later::Over { fault } => fault,
        };
        self.happened[fault].to = now();
    }
}

#[test]
fn a_schedule_is_drawn_from_its_seed_alone_and_holds_every_kind_before_any_comes_twice() {
    let draw = |seed, count| schedule(&mut fastrand::Rng::with_seed(seed), count, 100_000, 6_000);
    let kinds = |plan: &[Planned]| plan.iter().map(|p| format!("{:?}", p.fault)).collect::<Vec<_>>();
    assert_eq!(kinds(&draw(1, 20)), kinds(&draw(1, 20)));
    assert_ne!(kinds(&draw(1, 20)), kinds(&draw(2, 20)));
    for seed in 0..50 {
        let plan = draw(seed, 20);
        for kind in FIRST.iter().chain(&REST) {
            assert!(plan.iter().any(|p| p.fault == *kind), "{kind:?} is missing of seed {seed}");
        }
        assert!(plan.iter().all(|p| p.at < 100_000 && p.lasts <= 10_000), "{plan:?}");
        let short: Vec<Fault> = draw(seed, 5).iter().map(|p| p.fault).collect();
        assert!(FIRST.iter().all(|kind| short.contains(kind)), "{short:?}");
    }
}
