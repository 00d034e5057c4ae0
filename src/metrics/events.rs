//! Events: taken in, settled, and how old they were. Per domain for configured names, capped.

use super::family::{self, Closed};
use super::label::SettledAs;
use crate::domain::binding::Skip;
use crate::domain::time::UnixMillis;
use arc_swap::ArcSwap;
use prometheus::{Error, Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, Registry};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Edges of the age histograms in seconds. 30 s is the promptness objective; 5 and 25 ms are the latency budget (design §13);
/// the upper end is what schedules and `max_wait` reach.
const AGE_BUCKETS: [f64; 20] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0, 604_800.0];

/// How many domains have series of their own; all others share [`OTHER_DOMAINS`].
pub const DOMAIN_CAP: usize = 200;

/// The label of all domains beyond [`DOMAIN_CAP`] and of those in no registry. No domain name holds an underscore at its start.
pub const OTHER_DOMAINS: &str = "_other";

/// The children of one domain.
struct OfDomain {
    settled: Closed<SettledAs, IntCounter>,
    oldest: Gauge,
}

/// The domains that have children: replaced as a whole.
struct Domains {
    named: HashMap<Box<str>, OfDomain>,
    other: OfDomain,
}

/// The events family.
pub(super) struct Events {
    consumed: Vec<(Box<str>, IntCounter)>,
    consumed_family: IntCounterVec,
    settled: Closed<SettledAs, IntCounter>,
    age: Closed<SettledAs, Histogram>,
    first_attempt_age: Histogram,
    skipped: Closed<Skip, IntCounter>,
    push_starts_assumed: IntCounter,
    mixed_regions: IntCounter,
    headers_dropped: IntCounter,
    oldest_undelivered: Gauge,
    domain_settled: IntCounterVec,
    domain_oldest: GaugeVec,
    domains: ArcSwap<Domains>,
}

/// An instant as exported: seconds since the epoch, 0 for none.
pub(super) fn seconds(at: Option<UnixMillis>) -> f64 {
    at.map_or(0.0, |at| at.0 as f64 / 1000.0)
}

impl Events {
    pub(super) fn new(registry: &Registry, source_topics: &[String]) -> Result<Self, Error> {
        let consumed_family = family::counter_vec(
            registry,
            "callbackd_events_consumed_total",
            "Records taken in for the first time, from source topics only. A rise is more upstream work; flat while lag rises means that intake is paused.",
            &["topic"],
        )?;
        let domain_settled = family::counter_vec(
            registry,
            "callbackd_domain_settled_total",
            "Events settled for good, by configured domain (capped; the rest under _other) and outcome. A rise of dead_lettered points at that domain's receiver or binding.",
            &["domain", "outcome"],
        )?;
        let domain_oldest = family::gauge_vec(
            registry,
            "callbackd_domain_oldest_undelivered_timestamp_seconds",
            "Source timestamp of the domain's oldest undelivered event that this process saw in the last turn of the tiers; 0 when it saw none. The further it falls behind now, the longer that domain's receiver has been failing.",
            &["domain"],
        )?;
        let other = OfDomain::new(OTHER_DOMAINS, &domain_settled, &domain_oldest);
        Ok(Self {
            consumed: source_topics.iter().map(|t| (t.as_str().into(), consumed_family.with_label_values(&[t]))).collect(),
            consumed_family,
            settled: family::counters(
                registry,
                "callbackd_events_settled_total",
                "Events settled for good, by outcome; a retry is none. A rise of dead_lettered means that receivers, bindings or upstream events are failing: see callbackd_dead_letters_total.",
                "outcome",
            )?,
            age: family::histograms(
                registry,
                "callbackd_event_age_seconds",
                "Time from the source record's timestamp to the settlement, by outcome. A rise means that receivers fail and are retried, or that a backlog is being worked off.",
                "outcome",
                &AGE_BUCKETS,
            )?,
            first_attempt_age: family::histogram(
                registry,
                "callbackd_first_attempt_age_seconds",
                "Time from the source record's timestamp to its first attempt: the promptness objective, 30 s. A rise is our delay, not the receivers'.",
                &AGE_BUCKETS,
            )?,
            skipped: family::counters(
                registry,
                "callbackd_skipped_total",
                "Events for which the registry says that no callback is due, by rule. An unexpected rise means that a binding or a URL is missing.",
                "reason",
            )?,
            push_starts_assumed: family::counter(
                registry,
                "callbackd_push_starts_assumed_total",
                "Events whose push start was not stated but assumed from another field. While it rises, bindings changed during long pushes may be judged wrongly: upstream should send push_start_time.",
            )?,
            mixed_regions: family::counter(
                registry,
                "callbackd_mixed_regions_total",
                "Events of streams mixed from domains of different regions. A rise means that broken recordings are being announced.",
            )?,
            headers_dropped: family::counter(
                registry,
                "callbackd_headers_dropped_total",
                "Records whose own headers were dropped: on a requeue or dead letter because they were above 8 KiB or 256, on intake because they were above 1,024 or their names no UTF-8. A rise means that upstream sends such headers.",
            )?,
            oldest_undelivered: family::gauge(
                registry,
                "callbackd_oldest_undelivered_timestamp_seconds",
                "Source timestamp of the oldest undelivered event that this process saw in the last turn of the tiers; 0 when it saw none. The further it falls behind now, the longer something has been failing.",
            )?,
            domains: ArcSwap::from_pointee(Domains { named: HashMap::new(), other }),
            domain_settled,
            domain_oldest,
        })
    }
}

impl OfDomain {
    fn new(name: &str, settled: &IntCounterVec, oldest: &GaugeVec) -> Self {
        Self { settled: Closed::new(|outcome| settled.with_label_values(&[name, outcome])), oldest: oldest.with_label_values(&[name]) }
    }
}

impl super::Metrics {
    /// A record was taken in from the source topic `topic` for the first time.
    pub fn consumed(&self, topic: &str) {
        let e = &self.events;
        match e.consumed.iter().find(|(name, _)| **name == *topic) {
            Some((_, counter)) => counter.inc(),
            None => e.consumed_family.with_label_values(&[topic]).inc(),
        }
    }

    /// An event was settled for good; `age` is the time since its source record's timestamp, where that is known.
    pub fn settled(&self, outcome: SettledAs, age: Option<Duration>) {
        self.events.settled.of(outcome).inc();
        if let Some(age) = age {
            self.events.age.of(outcome).observe(age.as_secs_f64());
        }
    }

    /// The same by domain: counted under its name if [`set_domains`](Self::set_domains) gave it one, else under [`OTHER_DOMAINS`].
    pub fn domain_settled(&self, domain: &str, outcome: SettledAs) {
        let domains = self.events.domains.load();
        domains.named.get(domain).unwrap_or(&domains.other).settled.of(outcome).inc();
    }

    /// The configured domains, after each load of the registry. At most [`DOMAIN_CAP`] have series of their own: those that already had
    /// them first, then in the order of their names. One writer at a time.
    pub fn set_domains<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let e = &self.events;
        let old = e.domains.load();
        let configured: BTreeSet<&str> = names.into_iter().collect();
        let (kept, new): (Vec<&str>, Vec<&str>) = configured.iter().partition(|name| old.named.contains_key(**name));
        let named: HashMap<Box<str>, OfDomain> = kept
            .into_iter()
            .chain(new)
            .take(DOMAIN_CAP)
            .map(|name| (name.into(), OfDomain::new(name, &e.domain_settled, &e.domain_oldest)))
            .collect();
        for gone in old.named.keys().filter(|name| !named.contains_key(*name)) {
            // An error only says that the child is not there, which is what is wanted.
            for outcome in SettledAs::ALL {
                let _ = e.domain_settled.remove_label_values(&[gone, outcome.as_str()]);
            }
            let _ = e.domain_oldest.remove_label_values(&[gone]);
        }
        e.domains.store(Arc::new(Domains { named, other: OfDomain::new(OTHER_DOMAINS, &e.domain_settled, &e.domain_oldest) }));
    }

    /// The first attempt of an event from a source topic began, `age` after its source record's timestamp. Not for events that were parked
    /// first for their endpoint's own reason: `callbackd_requeued_total` has those, and the promptness objective leaves them out.
    pub fn first_attempt_age(&self, age: Duration) {
        self.events.first_attempt_age.observe(age.as_secs_f64());
    }

    /// An event was skipped by a rule of the registry.
    pub fn skipped(&self, rule: Skip) {
        self.events.skipped.of(rule).inc();
    }

    /// An event's push start was assumed, not stated (design §6).
    pub fn push_start_assumed(&self) {
        self.events.push_starts_assumed.inc();
    }

    /// An event of a stream mixed across regions (design §8).
    pub fn mixed_regions(&self) {
        self.events.mixed_regions.inc();
    }

    /// A record's own headers were dropped, being too large, too many (design §5) or unreadable.
    pub fn headers_dropped(&self) {
        self.events.headers_dropped.inc();
    }

    /// The source timestamp of the oldest undelivered event seen in the last turn of the tiers; `None`: none was seen.
    pub fn set_oldest_undelivered(&self, at: Option<UnixMillis>) {
        self.events.oldest_undelivered.set(seconds(at));
    }

    /// The same by domain, the whole picture at once: a domain that is not in it has nothing undelivered; those without a series of their
    /// own show together as the oldest among them.
    pub fn set_domain_oldest_undelivered<'a>(&self, oldest: impl IntoIterator<Item = (&'a str, UnixMillis)>) {
        let domains = self.events.domains.load();
        let mut named: HashMap<&str, UnixMillis> = HashMap::new();
        for (domain, at) in oldest {
            let label = if domains.named.contains_key(domain) { domain } else { OTHER_DOMAINS };
            named.entry(label).and_modify(|seen| *seen = at.min(*seen)).or_insert(at);
        }
        for (name, children) in &domains.named {
            children.oldest.set(seconds(named.get(&**name).copied()));
        }
        domains.other.oldest.set(seconds(named.get(OTHER_DOMAINS).copied()));
    }
}
