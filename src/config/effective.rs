//! The effective configuration as people may see it.

use super::properties::names_file;
use super::{PropertyValue, Settings};
use crate::source::{show_duration, show_size};
use std::fmt::{Display, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// What stands for a secret.
const REDACTED: &str = "[redacted]";

/// A value in TOML's own form.
fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

fn time(duration: Duration) -> String {
    quoted(show_duration(duration))
}

/// Relative paths are relative to the file that names them; what is printed may be written anywhere.
fn file(path: &Path) -> String {
    quoted(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display())
}

fn show_ports(ports: &RangeInclusive<u16>) -> String {
    if ports.start() == ports.end() { ports.start().to_string() } else { format!("{}-{}", ports.start(), ports.end()) }
}

/// The whole of `settings` as TOML, defaults included, secrets and token digests redacted, paths from the root.
#[must_use]
pub fn effective(settings: &Settings) -> String {
    let Settings { kafka, registry, delivery, egress, metrics, admin, log } = settings;
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{text}");
    };
    line("[kafka]".into());
    line(format!("brokers = {}", list(&kafka.brokers)));
    line(format!("group = {}", quoted(&kafka.group)));
    line(format!("source_topics = {}", list(&kafka.source_topics)));
    line(format!("topic_prefix = {}", quoted(&kafka.topic_prefix)));
    line("\n[kafka.properties]".into());
    for property in &kafka.properties {
        let value = match &property.value {
            PropertyValue::Plain(text) if names_file(property) => file(Path::new(text)),
            PropertyValue::Plain(text) => quoted(text),
            PropertyValue::Secret(_) => quoted(REDACTED),
        };
        line(format!("{} = {value}", quoted(&property.name)));
    }
    line("\n[registry]".into());
    line(format!("file = {}", file(&registry.file)));
    line(format!("templates_per_account = {}", registry.templates_per_account));
    line("\n[delivery]".into());
    line(format!("delay_tiers = {}", list(delivery.tiers.iter().map(|tier| &tier.label))));
    line(format!("max_in_flight = {}", delivery.max_in_flight));
    line(format!("max_in_flight_bytes = {}", quoted(show_size(delivery.max_in_flight_bytes as u64))));
    line(format!("endpoint_concurrency = {}", delivery.endpoint_concurrency));
    line(format!("drain_timeout = {}", time(delivery.drain_timeout)));
    line(format!("revoke_grace = {}", time(delivery.revoke_grace)));
    line(format!("start_from = {}", quoted(delivery.start_from.as_str())));
    let circuit = delivery.circuit;
    let (pause, max_pause) = (time(circuit.pause), time(circuit.max_pause));
    line(format!("circuit = {{ failures = {}, pause = {pause}, max_pause = {max_pause} }}", circuit.failures));
    line(format!("replay_limit = {}", delivery.replay_limit));
    line("\n[egress]".into());
    line(format!("allow_networks = {}", list(&egress.addresses.allow_networks)));
    line(format!("allow_names = {}", list(&egress.addresses.allow_names)));
    line(format!("ports = {}", list(egress.addresses.ports.iter().map(show_ports))));
    line(format!("name_servers = {}", list(&egress.name_servers)));
    if let Some(path) = &egress.ca_file {
        line(format!("ca_file = {}", file(path)));
    }
    line(format!("\n[metrics]\nlisten = {}", quoted(metrics.listen)));
    line(format!("\n[admin]\nlisten = {}", quoted(admin.listen)));
    let token = |name: &str, role: &str| format!("{{ name = {}, role = {}, sha256 = {} }}", quoted(name), quoted(role), quoted(REDACTED));
    let tokens: Vec<String> = admin.tokens.iter().map(|one| token(&one.name, one.role.as_str())).collect();
    line(format!("tokens = [{}]", tokens.join(", ")));
    line(format!("\n[log]\nlevel = {}\nformat = {}", quoted(log.level.as_str()), quoted(log.format.as_str())));
    out
}

/// What `check` says of limits that hold per process: with N replicas the platform does N times as much.
#[must_use]
pub fn per_process_notes(settings: &Settings) -> Vec<String> {
    let delivery = &settings.delivery;
    vec![
        format!("delivery.max_in_flight = {}: for each replica; N replicas make N times as many attempts at once", delivery.max_in_flight),
        format!(
            "delivery.endpoint_concurrency = {}: for each replica and endpoint; so are circuits, and the rates of callback templates",
            delivery.endpoint_concurrency
        ),
        format!("delivery.max_in_flight_bytes = {}: for each replica", show_size(delivery.max_in_flight_bytes as u64)),
    ]
}
