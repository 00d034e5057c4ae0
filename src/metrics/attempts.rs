//! Attempts, and what comes of failed ones: requeues and dead letters.

use super::family::{self, Closed, whole};
use crate::domain::address::Refusal;
use crate::domain::circuit::CircuitState;
use crate::domain::dead_letter::Reason;
use crate::domain::requeue::RequeueReason;
use crate::domain::verdict::AttemptResult;
use prometheus::{Error, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::time::Duration;

/// Edges in seconds: 3, 15 and 20 s are the policies' time-outs (design §7), 120 s the longest allowed.
const DURATION_BUCKETS: [f64; 17] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 15.0, 20.0, 60.0, 120.0];

/// The children of one delay tier.
struct OfTier {
    label: Box<str>,
    requeued: Closed<RequeueReason, IntCounter>,
    pending: IntGauge,
}

/// The attempts, retries and dead letters, safety families.
pub(super) struct Attempts {
    attempts: Closed<AttemptResult, IntCounter>,
    duration: Closed<AttemptResult, Histogram>,
    in_flight: IntGauge,
    in_flight_limit: IntGauge,
    tiers: Vec<OfTier>,
    requeued: IntCounterVec,
    pending: IntGaugeVec,
    dead_letters: Closed<Reason, IntCounter>,
    replayed: IntCounter,
    endpoints: Closed<CircuitState, IntGauge>,
    egress_blocked: Closed<Refusal, IntCounter>,
    egress_violations: IntCounter,
}

impl Attempts {
    pub(super) fn new(registry: &Registry, tier_labels: &[String]) -> Result<Self, Error> {
        let requeued = family::counter_vec(
            registry,
            "callbackd_requeued_total",
            "Records put into a delay tier, by tier and reason. A rise of retry means that receivers fail; of lane_full or circuit_open, that endpoints cannot keep up or are down; of no_active_key or unknown_domain, that the registry needs mending; of own_outage, that our own network is presumed down.",
            &["tier", "reason"],
        )?;
        let pending = family::int_gauge_vec(
            registry,
            "callbackd_tier_pending",
            "Records waiting in a delay tier, in the partitions of this process. A rise means that more fails than is delivered again.",
            &["tier"],
        )?;
        let tiers = tier_labels
            .iter()
            .map(|tier| OfTier {
                label: tier.as_str().into(),
                requeued: Closed::new(|reason| requeued.with_label_values(&[tier, reason])),
                pending: pending.with_label_values(&[tier]),
            })
            .collect();
        Ok(Self {
            attempts: family::counters(
                registry,
                "callbackd_attempts_total",
                "HTTP requests made, by result. A rise of anything but success means that receivers fail; across all endpoints at once, look at our own network first.",
                "result",
            )?,
            duration: family::histograms(
                registry,
                "callbackd_attempt_duration_seconds",
                "Time from the start of an attempt to status and headers or failure, by result. A rise means that receivers have become slow, and each slow attempt holds a slot.",
                "result",
                &DURATION_BUCKETS,
            )?,
            in_flight: family::int_gauge(
                registry,
                "callbackd_in_flight",
                "Attempts running now. At callbackd_in_flight_limit, slow receivers hold all slots and others wait.",
            )?,
            in_flight_limit: family::int_gauge(
                registry,
                "callbackd_in_flight_limit",
                "The most attempts at once, the setting delivery.max_in_flight. It rises only when configured so.",
            )?,
            dead_letters: family::counters(
                registry,
                "callbackd_dead_letters_total",
                "Events put into the dead-letter topic, by reason. A rise needs a person: mend the cause, then replay.",
                "reason",
            )?,
            replayed: family::counter(
                registry,
                "callbackd_replayed_total",
                "Records taken in from the replay topic. A rise means that someone is replaying.",
            )?,
            endpoints: family::int_gauges(
                registry,
                "callbackd_endpoints",
                "Endpoints with recent attempts, by the state of their circuit. A rise of open or probing means that receivers fail for many different records in a row and are left alone for growing pauses.",
                "circuit",
            )?,
            egress_blocked: family::counters(
                registry,
                "callbackd_egress_blocked_total",
                "Attempts that the address guard refused, by reason. A rise means that a template's URL, or its name's addresses, point inside: mend the URL, or allow the network if that is meant.",
                "reason",
            )?,
            egress_violations: family::counter(
                registry,
                "callbackd_egress_violations_total",
                "Connections found open to a forbidden address. Must stay 0: a rise is a hole in the guard; stop the process.",
            )?,
            tiers,
            requeued,
            pending,
        })
    }

    fn tier(&self, label: &str) -> Option<&OfTier> {
        self.tiers.iter().find(|tier| *tier.label == *label)
    }
}

impl super::Metrics {
    /// An attempt ended after `took`.
    pub fn attempt(&self, result: AttemptResult, took: Duration) {
        self.attempts.attempts.of(result).inc();
        self.attempts.duration.of(result).observe(took.as_secs_f64());
    }

    /// Attempts running now.
    pub fn set_in_flight(&self, n: usize) {
        self.attempts.in_flight.set(whole(n));
    }

    /// The most attempts at once.
    pub fn set_in_flight_limit(&self, n: usize) {
        self.attempts.in_flight_limit.set(whole(n));
    }

    /// The broker acknowledged a requeue into the tier with this label (`5s`).
    pub fn requeued(&self, tier: &str, reason: RequeueReason) {
        match self.attempts.tier(tier) {
            Some(tier) => tier.requeued.of(reason).inc(),
            None => self.attempts.requeued.with_label_values(&[tier, reason.as_str()]).inc(),
        }
    }

    /// Records waiting in a tier, also one that is no longer configured, in this process's partitions.
    pub fn set_tier_pending(&self, tier: &str, n: u64) {
        match self.attempts.tier(tier) {
            Some(tier) => tier.pending.set(whole(n)),
            None => self.attempts.pending.with_label_values(&[tier]).set(whole(n)),
        }
    }

    /// The broker acknowledged a dead letter.
    pub fn dead_letter(&self, reason: Reason) {
        self.attempts.dead_letters.of(reason).inc();
    }

    /// `n` records were taken in from the replay topic.
    pub fn replayed(&self, n: u64) {
        self.attempts.replayed.inc_by(n);
    }

    /// Endpoints known, by the state of their circuits.
    pub fn set_endpoints(&self, circuits: [(CircuitState, usize); 3]) {
        for (state, endpoints) in circuits {
            self.attempts.endpoints.of(state).set(whole(endpoints));
        }
    }

    /// The guard refused to dial.
    pub fn egress_blocked(&self, reason: Refusal) {
        self.attempts.egress_blocked.of(reason).inc();
    }

    /// The guard found one of our connections open to an address that it forbids.
    pub fn egress_violation(&self) {
        self.attempts.egress_violations.inc();
    }
}
