//! Health: why this process is, or is not, live and ready.
//!
//! Edges and the engine report what they know; `/livez` and `/readyz` read it. All of it is atomics, and locks that are held only to copy a
//! text or a list: reading never waits for anybody's loop.
//!
//! - **live** depends on the process's own loops only: each beats, and none is silent for [`LIVENESS_LIMIT`]. A broker that is away or a
//!   receiver that hangs never makes a process not live: a restart would mend neither.
//! - **ready** = joined its groups (also with no partition), source topics there, registry loaded, clock sane, not draining.

use crate::domain::class::Class;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A loop silent for this long is stuck. Loops beat at least once a second, idle or not.
pub const LIVENESS_LIMIT: Duration = Duration::from_secs(10);

/// The state behind `/livez` and `/readyz`. A new one is live and not ready.
pub struct Health {
    born: Instant,
    registry_loaded: AtomicBool,
    joined: [AtomicBool; Class::ALL.len()],
    broker_reachable: AtomicBool,
    broker_trouble: Mutex<Option<String>>,
    kept_out: [Mutex<Option<String>>; Class::ALL.len()],
    clock_sane: AtomicBool,
    clock_skew_ms: AtomicI64,
    draining: AtomicBool,
    missing_source_topics: Mutex<Vec<String>>,
    loops: Mutex<Vec<Arc<Loop>>>,
}

struct Loop {
    name: Box<str>,
    /// Milliseconds since the birth of its `Health`.
    last: AtomicU64,
}

/// Held by a loop, which beats with it. When the loop ends in order and drops it, it is forgotten; when a panic drops it, it stays and is
/// silent, so the process is soon not live.
pub struct Heartbeat {
    health: Arc<Health>,
    own: Arc<Loop>,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What was looked at: `registry`, `kafka_fresh`, `loop:intake`, …
    pub name: String,
    /// Why not; `None` when it is well.
    pub problem: Option<String>,
}

impl HealthCheck {
    fn new(name: impl Into<String>, well: bool, problem: impl FnOnce() -> String) -> Self {
        Self { name: name.into(), problem: (!well).then(problem) }
    }
}

impl Health {
    /// Nothing loaded, nothing joined, the clock not known to be wrong, no loops.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            registry_loaded: AtomicBool::new(false),
            joined: Class::ALL.map(|_| AtomicBool::new(false)),
            broker_reachable: AtomicBool::new(false),
            broker_trouble: Mutex::new(None),
            kept_out: Class::ALL.map(|_| Mutex::new(None)),
            clock_sane: AtomicBool::new(true),
            clock_skew_ms: AtomicI64::new(0),
            draining: AtomicBool::new(false),
            missing_source_topics: Mutex::new(Vec::new()),
            loops: Mutex::new(Vec::new()),
        })
    }

    /// A registry is in force; from then on there always is one.
    pub fn registry_loaded(&self) {
        self.registry_loaded.store(true, Relaxed);
    }

    /// Whether the class's consumer is a member of its group, with or without partitions.
    pub fn set_joined(&self, class: Class, joined: bool) {
        self.joined[class.index()].store(joined, Relaxed);
    }

    /// Whether any broker answers. This is a reason for not having joined, not a check of its own: a process that has joined stays ready until
    /// the group goes on without it.
    pub fn set_broker_reachable(&self, reachable: bool) {
        self.broker_reachable.store(reachable, Relaxed);
    }

    /// Why no broker answers, in the client's words.
    pub fn set_broker_trouble(&self, cause: &str) {
        *held(&self.broker_trouble) = Some(cause.to_owned());
    }

    /// What keeps the class's consumer out of its group, and how that is mended; `None` when nothing is known to.
    pub fn set_kept_out(&self, class: Class, cause: Option<String>) {
        *held(&self.kept_out[class.index()]) = cause;
    }

    /// Whether our clock is near the broker's, and how far ours is ahead in milliseconds.
    pub fn set_clock(&self, sane: bool, skew_ms: i64) {
        self.clock_skew_ms.store(skew_ms, Relaxed);
        self.clock_sane.store(sane, Relaxed);
    }

    /// The drain has begun; there is no way back.
    pub fn draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// What is wrong with source topics that do not exist now, or may not be seen; empty when all are there.
    pub fn set_missing_source_topics(&self, topics: Vec<String>) {
        *held(&self.missing_source_topics) = topics;
    }

    /// A loop of this process begins; it beats at least once a second from now on.
    #[must_use]
    pub fn heartbeat(self: &Arc<Self>, name: &str) -> Heartbeat {
        let own = Arc::new(Loop { name: name.into(), last: AtomicU64::new(self.age()) });
        held(&self.loops).push(own.clone());
        Heartbeat { health: self.clone(), own }
    }

    /// Every check behind `/livez`; live when none has a problem.
    #[must_use]
    pub fn liveness(&self) -> Vec<HealthCheck> {
        self.liveness_at(self.age())
    }

    /// Every check behind `/readyz`; ready when none has a problem.
    #[must_use]
    pub fn readiness(&self) -> Vec<HealthCheck> {
        let mut checks = vec![
            HealthCheck::new("registry", self.registry_loaded.load(Relaxed), || "no registry has been loaded yet".into()),
            HealthCheck::new("clock", self.clock_sane.load(Relaxed), || {
                format!("our clock is {} ms off the broker's: mend the time service", self.clock_skew_ms.load(Relaxed))
            }),
            HealthCheck::new("draining", !self.draining.load(Relaxed), || "the process is draining and will end".into()),
        ];
        let missing = held(&self.missing_source_topics).clone();
        checks.push(HealthCheck::new("source_topics", missing.is_empty(), || {
            format!("{}; waiting until that is mended (`callbackd topics check` tells more)", missing.join("; "))
        }));
        for class in Class::ALL {
            checks.push(HealthCheck::new(format!("kafka_{}", class.as_str()), self.joined[class.index()].load(Relaxed), || {
                if self.broker_reachable.load(Relaxed) {
                    because(format!("the {} consumer has not joined its group", class.as_str()), &self.kept_out[class.index()])
                } else {
                    because("no broker answers, waiting for one".into(), &self.broker_trouble)
                }
            }));
        }
        checks
    }

    fn liveness_at(&self, now_ms: u64) -> Vec<HealthCheck> {
        held(&self.loops)
            .iter()
            .map(|own| {
                let silent = Duration::from_millis(now_ms.saturating_sub(own.last.load(Relaxed)));
                HealthCheck::new(format!("loop:{}", own.name), silent < LIVENESS_LIMIT, || {
                    format!("silent for {} s, the limit is {} s", silent.as_secs(), LIVENESS_LIMIT.as_secs())
                })
            })
            .collect()
    }

    /// Milliseconds since birth, on the monotonic clock.
    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Heartbeat {
    /// The loop turned.
    pub fn beat(&self) {
        self.own.last.store(self.health.age(), Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            held(&self.health.loops).retain(|other| !Arc::ptr_eq(other, &self.own));
        }
    }
}

/// `problem`, with its cause where one is known.
fn because(problem: String, cause: &Mutex<Option<String>>) -> String {
    match &*held(cause) {
        Some(cause) => format!("{problem}: {cause}"),
        None => problem,
    }
}

/// The lock, also after a panic of its holder: each change is one assignment, so the list is whole.
fn held<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(checks: &[HealthCheck]) -> Vec<&str> {
        checks.iter().filter(|check| check.problem.is_some()).map(|check| check.name.as_str()).collect()
    }

    fn ready() -> Arc<Health> {
        let health = Health::new();
        health.registry_loaded();
        health.set_broker_reachable(true);
        for class in Class::ALL {
            health.set_joined(class, true);
        }
        health
    }

    #[test]
    fn a_new_process_is_live_and_says_everything_it_waits_for() {
        let health = Health::new();
        assert_eq!(problems(&health.liveness()), [""; 0]);
        assert_eq!(problems(&health.readiness()), ["registry", "kafka_fresh", "kafka_retry", "kafka_replay"]);
        let kafka = health.readiness().pop().and_then(|check| check.problem);
        assert_eq!(kafka.as_deref(), Some("no broker answers, waiting for one"));
        health.set_broker_trouble("connection refused");
        let kafka = health.readiness().pop().and_then(|check| check.problem);
        assert_eq!(kafka.as_deref(), Some("no broker answers, waiting for one: connection refused"));
    }

    #[test]
    fn ready_when_all_is_well_and_not_when_any_one_thing_is_not() {
        assert_eq!(problems(&ready().readiness()), [""; 0]);
        type Trouble = fn(&Health);
        let cases: [(&str, Trouble); 5] = [
            ("clock", |h| h.set_clock(false, 61_000)),
            ("draining", Health::draining),
            ("source_topics", |h| h.set_missing_source_topics(vec!["recording.completed".into()])),
            ("kafka_retry", |h| h.set_joined(Class::Retry, false)),
            ("kafka_replay", |h| h.set_joined(Class::Replay, false)),
        ];
        for (name, trouble) in cases {
            let health = ready();
            trouble(&health);
            assert_eq!(problems(&health.readiness()), [name]);
        }
    }

    #[test]
    fn what_keeps_a_consumer_out_of_its_group_is_said_until_it_is_in() {
        let health = ready();
        health.set_joined(Class::Replay, false);
        health.set_kept_out(Class::Replay, Some("the right Read on group g.replay is missing".into()));
        let said = |health: &Health| health.readiness().pop().and_then(|check| check.problem);
        assert_eq!(
            said(&health).as_deref(),
            Some("the replay consumer has not joined its group: the right Read on group g.replay is missing")
        );
        health.set_kept_out(Class::Replay, None);
        assert_eq!(said(&health).as_deref(), Some("the replay consumer has not joined its group"));
    }

    #[test]
    fn a_broker_that_goes_away_after_joining_leaves_the_process_live_and_ready() {
        let health = ready();
        health.set_broker_reachable(false);
        assert_eq!(problems(&health.readiness()), [""; 0]);
        assert_eq!(problems(&health.liveness()), [""; 0]);
    }

    #[test]
    fn a_loop_is_stuck_after_ten_silent_seconds_and_well_again_with_its_next_beat() {
        let health = Health::new();
        let intake = health.heartbeat("intake");
        let last = intake.own.last.load(Relaxed);
        assert_eq!(problems(&health.liveness_at(last + 9_999)), [""; 0]);
        assert_eq!(problems(&health.liveness_at(last + 10_000)), ["loop:intake"]);
        intake.own.last.store(last + 10_000, Relaxed);
        assert_eq!(problems(&health.liveness_at(last + 10_000)), [""; 0]);
        drop(intake);
        assert_eq!(health.liveness_at(u64::MAX), []);
    }

    #[test]
    fn a_loop_that_panicked_is_not_forgotten() {
        let health = Health::new();
        let beat = health.heartbeat("engine");
        let ended = std::thread::spawn(move || {
            let _beat = beat;
            panic!("as meant by this test");
        })
        .join();
        assert!(ended.is_err());
        assert_eq!(problems(&health.liveness_at(u64::MAX)), ["loop:engine"]);
    }
}
