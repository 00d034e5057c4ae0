//! From the configuration's settings to what each part is built from.

use super::Options;
use crate::config::{Environment, PropertyValue, Settings};
use crate::delivery::circuit::CircuitSettings;
use crate::delivery::settings as delivery;
use crate::domain::address::Refusal;
use crate::domain::registry::Registry;
use crate::egress;
use crate::kafka::client::{ClientSettings, DEFAULT_LARGEST_MESSAGE};
use crate::kafka::redaction::Redaction;
use crate::kafka::topics::{Asker, TopicSettings};
use crate::metrics::Metrics;
use crate::registry::LoadOptions;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

/// What Kafka clients are made from; the largest message is Kafka's default until the topics were looked at.
#[must_use]
pub fn client_settings(settings: &Settings) -> ClientSettings {
    let kafka = &settings.kafka;
    ClientSettings {
        brokers: kafka.brokers.clone(),
        group: kafka.group.clone(),
        prefix: kafka.topic_prefix.clone(),
        source_topics: kafka.source_topics.clone(),
        properties: kafka.properties.iter().map(|p| (p.name.clone(), p.value.expose().to_owned())).collect(),
        redaction: Redaction::new(kafka.properties.iter().filter_map(|p| match &p.value {
            // Often the name of a group and the prefix of topics as well, which messages must name.
            _ if p.name == "sasl.username" => None,
            PropertyValue::Secret(secret) => Some(secret.expose()),
            PropertyValue::Plain(_) => None,
        })),
        largest_message: DEFAULT_LARGEST_MESSAGE,
    }
}

/// What the topics are checked against, by the daemon.
#[must_use]
pub fn topic_settings(settings: &Settings, options: &Options, client: &ClientSettings, registry: &Registry) -> TopicSettings {
    TopicSettings {
        client: client.clone(),
        tier_topics: settings.delivery.tiers.iter().map(|t| Arc::clone(&t.topic)).collect(),
        asker: Asker::Daemon,
        longest_max_age: registry.callback_templates().map(|t| t.policy.max_age).max().unwrap_or(Duration::ZERO),
        registry_topic: false,
        config_file: options.config_file.display().to_string(),
        lenient: options.embedded,
    }
}

/// What reading the registry needs.
#[must_use]
pub fn load_options(settings: &Settings) -> LoadOptions {
    LoadOptions {
        templates_per_account: settings.registry.templates_per_account,
        addresses: settings.egress.addresses.clone(),
        drain_timeout: settings.delivery.drain_timeout,
        smallest_tier: settings.delivery.tiers.smallest().delay,
        environment: Environment::of_process(),
        clock: super::wall_clock,
    }
}

pub(super) fn delivery_settings(settings: &Settings) -> delivery::Settings {
    let own = &settings.delivery;
    let prefix: Arc<str> = Arc::from(settings.kafka.topic_prefix.as_str());
    delivery::Settings {
        tiers: own.tiers.clone(),
        dead_letter_topic: Arc::from(client_settings(settings).dead_letter_topic()),
        prefix,
        max_in_flight: own.max_in_flight,
        max_in_flight_bytes: own.max_in_flight_bytes,
        endpoint_concurrency: own.endpoint_concurrency,
        circuit: CircuitSettings {
            failures: usize::try_from(own.circuit.failures).unwrap_or(usize::MAX),
            pause: own.circuit.pause,
            max_pause: own.circuit.max_pause,
        },
        drain_timeout: own.drain_timeout,
        revoke_grace: own.revoke_grace,
        start_from: own.start_from,
        replay_limit: own.replay_limit,
    }
}

pub(super) fn egress_settings(settings: &Settings) -> anyhow::Result<egress::Settings> {
    let own = &settings.egress;
    let extra_roots_pem = match &own.ca_file {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("egress.ca_file: cannot read {}", path.display()))?),
        None => None,
    };
    let name_servers = own.name_servers.clone();
    Ok(egress::Settings {
        name_servers,
        extra_roots_pem,
        ..egress::Settings::new(own.addresses.clone(), settings.delivery.endpoint_concurrency)
    })
}

/// What the guard does, as metrics.
pub(super) struct EgressMetrics(pub(super) Arc<Metrics>);

impl egress::Observer for EgressMetrics {
    fn blocked(&self, reason: Refusal) {
        self.0.egress_blocked(reason);
    }

    fn violation(&self) {
        self.0.egress_violation();
    }
}
