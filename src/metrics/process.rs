//! The process: its build, its registry, its clock, and what the operating system says of it.

use super::events::seconds;
use super::family::{self, Closed, whole};
use crate::domain::registry::EntityKind;
use crate::domain::time::UnixMillis;
use prometheus::{Error, Gauge, IntGauge, Registry};

/// The process family.
pub(super) struct Process {
    own_outage: IntGauge,
    load_success: IntGauge,
    load_timestamp: Gauge,
    entries: Closed<EntityKind, IntGauge>,
    digest: IntGauge,
    clock_skew: Gauge,
    key_expiry: Gauge,
}

impl Process {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        let build = family::int_gauge_vec(
            registry,
            "callbackd_build_info",
            "Always 1; the label tells the version. More than one version at a time means that a roll-out is going on or stuck.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self {
            own_outage: family::int_gauge(
                registry,
                "callbackd_own_outage",
                "1 while an outage of our own is presumed: nobody answers, at hosts of several accounts that answered lately; intake rests, failures are not counted. A rise needs a look at our network.",
            )?,
            load_success: family::int_gauge(
                registry,
                "callbackd_registry_last_load_success",
                "1 when the last load of the registry succeeded, 0 when it was refused, in which case the one before stays in force. A rise to 1 is a mended registry.",
            )?,
            load_timestamp: family::gauge(
                registry,
                "callbackd_registry_load_timestamp_seconds",
                "When the registry in force was loaded; 0 when none was. It rises with each accepted change.",
            )?,
            entries: family::int_gauges(
                registry,
                "callbackd_registry_entries",
                "Entries of the registry in force, by kind. A sudden rise or fall that nobody meant is a wrong file.",
                "kind",
            )?,
            digest: family::int_gauge(
                registry,
                "callbackd_registry_digest",
                "First 48 bits of the digest of the registry in force. Only equality means something: replicas that differ for long do not have the same registry.",
            )?,
            clock_skew: family::gauge(
                registry,
                "callbackd_clock_skew_seconds",
                "Our wall clock minus the broker's. Beyond 60 s either way the process is not ready and takes nothing in: mend the time service.",
            )?,
            key_expiry: family::gauge(
                registry,
                "callbackd_signing_key_expiry_timestamp_seconds",
                "When the first callback template runs out of signing keys; 0 when none ever does. From then on its callbacks are parked, never sent unsigned: give it a new key in time. It rises with each rotation.",
            )?,
        })
    }
}

impl super::Metrics {
    /// A registry was loaded and is in force since `at`; `entries`: how many of each kind it has; `digest48`: the first 48 bits of its
    /// digest.
    pub fn registry_loaded(&self, at: UnixMillis, entries: &[(EntityKind, usize)], digest48: u64) {
        let p = &self.process;
        p.load_success.set(1);
        p.load_timestamp.set(seconds(Some(at)));
        for &(kind, count) in entries {
            p.entries.of(kind).set(whole(count));
        }
        p.digest.set(whole(digest48 & 0xffff_ffff_ffff));
    }

    /// Whether an outage of our own is presumed.
    pub fn set_own_outage(&self, presumed: bool) {
        self.process.own_outage.set(i64::from(presumed));
    }

    /// When the first callback template runs out of signing keys; `None`: none ever does.
    pub fn set_signing_key_expiry(&self, at: Option<UnixMillis>) {
        self.process.key_expiry.set(seconds(at));
    }

    /// A load of the registry was refused; the one before stays in force.
    pub fn registry_load_failed(&self) {
        self.process.load_success.set(0);
    }

    /// Our wall clock minus the broker's, in seconds.
    pub fn set_clock_skew(&self, seconds: f64) {
        self.process.clock_skew.set(seconds);
    }
}
