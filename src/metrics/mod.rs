//! Metrics and health: what the outside is told about this process, each in one place.
//!
//! [`Metrics`] holds every metric: one prefix, every label set at zero from the first scrape on (but partitions, which appear with their
//! assignment, domains with the registry, and tiers that are no longer configured), each help text saying what a rise means. It is a struct
//! with a registry of its own, handed around, so that a test can have as many as it likes; a global was refused for that reason. Methods
//! are named for what happened, never for the metric, and on the way of an event they touch atomics that were resolved when the process
//! started: labels are enums used as an index.
//!
//! [`Health`] is the state behind `/livez` and `/readyz`. It lives here because all edges report into it and edges never meet.
//!
//! Deliberately not here: metrics without a source of truth yet (admin authentication), and any
//! series named by what a record says.

mod attempts;
mod events;
mod family;
mod health;
mod kafka;
mod label;
mod process;

pub use events::{DOMAIN_CAP, OTHER_DOMAINS};
pub use health::{Health, HealthCheck, Heartbeat, LIVENESS_LIMIT};
pub use label::{KafkaErrorKind, SettledAs, Severity};

use prometheus::{Error, Registry, TextEncoder};
use std::sync::Arc;

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    events: events::Events,
    attempts: attempts::Attempts,
    kafka: kafka::Kafka,
    process: process::Process,
}

impl Metrics {
    /// All families, for these tiers (`5s`, as in the topics' names) and source topics.
    ///
    /// # Errors
    /// When two families collide, which is a fault of this module and which its tests exclude.
    pub fn new(delay_tier_labels: &[String], source_topics: &[String]) -> Result<Arc<Self>, Error> {
        let registry = Registry::new();
        Ok(Arc::new(Self {
            events: events::Events::new(&registry, source_topics)?,
            attempts: attempts::Attempts::new(&registry, delay_tier_labels)?,
            kafka: kafka::Kafka::new(&registry)?,
            process: process::Process::new(&registry)?,
            registry,
        }))
    }

    /// The text format of now, see [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            text.push_str(&format!("# not complete: {error}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests;
