//! `[kafka.properties]`: any librdkafka property that the daemon does not own, size and fetch settings within what its guarantees need.

use super::{Property, PropertyValue};
use crate::source::{Fields, Item, Secret, key_part};

/// Properties that the daemon sets itself, with what to use instead. Aliases of librdkafka are here too.
const OWNED: [(&str, &str); 16] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    ("group.protocol", "remove it (the daemon relies on the classic protocol)"),
    ("enable.auto.commit", "remove it (offsets are committed after settlement)"),
    ("enable.auto.offset.store", "remove it (offsets are committed after settlement)"),
    ("auto.offset.reset", "set delivery.start_from"),
    ("isolation.level", "remove it (aborted transactions are never delivered)"),
    ("partition.assignment.strategy", "remove it (the daemon relies on cooperative-sticky)"),
    ("acks", "remove it (a requeue must be durable)"),
    ("request.required.acks", "remove it (a requeue must be durable)"),
    ("enable.idempotence", "remove it (a requeue must not double)"),
    ("message.timeout.ms", "remove it (a local time-out would fork a chain)"),
    ("delivery.timeout.ms", "remove it (a local time-out would fork a chain)"),
    ("transactional.id", "remove it (the daemon's producers are not transactional)"),
    ("statistics.interval.ms", "remove it (the daemon reads them itself; see its metrics)"),
];

/// The default `max.message.bytes` of a source topic, 1,048,588, and 64 KiB for our headers (design §5).
const LEAST_MESSAGE: i64 = 1_048_588 + 65_536;
const MIB: i64 = 1 << 20;

/// Bounds of numeric properties, inclusive (design §5 and §15), and why.
const BOUNDS: [(&str, i64, i64, &str); 7] = [
    ("fetch.queue.backoff.ms", 0, 10, "a longer rest delays every record of a full partition"),
    ("message.max.bytes", LEAST_MESSAGE, 1_000_000_000, "a legal source record with our headers must fit"),
    ("fetch.max.bytes", 4 * MIB, 8 * MIB, "memory is bounded, and small fetches are slow; up to message.max.bytes where that is more"),
    ("receive.message.max.bytes", 8 * MIB + 512, 2_147_483_647, "a whole fetch must fit"),
    ("max.partition.fetch.bytes", MIB, 8 * MIB, "memory is bounded, and small fetches are slow"),
    ("fetch.message.max.bytes", MIB, 8 * MIB, "memory is bounded, and small fetches are slow"),
    ("queue.buffering.max.kbytes", 32 * 1024, 2_147_483_647, "requeues wait there while the broker is away"),
];

/// Properties whose values may be shown: none of them can be a secret. All others, and misspelt names with them, are redacted.
const HARMLESS: [&str; 37] = [
    "api.version.request",
    "batch.num.messages",
    "broker.address.family",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "debug",
    "enable.random.seed",
    "enable.ssl.certificate.verification",
    "group.instance.id",
    "log.connection.close",
    "log.queue",
    "log.thread.name",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "metadata.recovery.strategy",
    "queue.buffering.backpressure.threshold",
    "retries",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.method",
    "security.protocol",
    "socket.max.fails",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.keystore.location",
];

/// Ends of names of times, sizes, numbers and switches: harmless too.
const HARMLESS_ENDS: [&str; 6] = [".ms", ".bytes", ".kbytes", ".messages", ".enable", ".size"];

/// Properties that name a file or a folder: relative to the configuration, as every path in it.
pub(super) const FILES: [&str; 8] = [
    "sasl.kerberos.keytab",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
];

/// Those of them that hold a secret.
const SECRET_FILES: [&str; 4] =
    ["sasl.kerberos.keytab", "sasl.oauthbearer.assertion.private.key.file", "ssl.key.location", "ssl.keystore.location"];

/// Ends of names of properties that are secrets, whatever is to be said of the others that are not shown.
const SECRET_ENDS: [&str; 4] = [".password", ".secret", ".passphrase", ".key.pem"];

/// The value of `ssl.ca.location` that stands for the system's own places.
const PROBE: &str = "probe";

fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name) || HARMLESS_ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether the value of `property` is the path of a file or a folder.
pub(super) fn names_file(property: &Property) -> bool {
    FILES.contains(&&*property.name) && property.value.expose() != PROBE
}

/// Reads the table, in the order of the names.
pub(super) fn read(fields: &Fields<'_>) -> Vec<Property> {
    let mut properties: Vec<Property> = fields.all().filter_map(|(name, item)| property(name, &item)).collect();
    properties.sort_by(|a, b| a.name.cmp(&b.name));
    let number = |name: &str| properties.iter().find(|property| property.name == name)?.value.expose().parse::<i64>().ok();
    let largest_message = number("message.max.bytes").unwrap_or(0);
    for (name, least, most, why) in BOUNDS {
        let most = if name == "fetch.max.bytes" { most.max(largest_message) } else { most };
        let Some(property) = properties.iter().find(|property| property.name == name) else { continue };
        match property.value.expose().trim().parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => {}
            Ok(_) => fields.problem(&key_part(name), format!("must be from {least} to {most}: {why}")),
            Err(_) => fields.problem(&key_part(name), "must be a whole number"),
        }
    }
    properties
}

fn property(name: &str, item: &Item<'_>) -> Option<Property> {
    if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        item.problem(format!("the daemon owns this property: {instead}"));
        return None;
    }
    let value = if item.is_table() {
        if let Some(inner) = unquoted(name, item) {
            item.problem(format!("the name of a property has dots of its own: put all of it in quotes, as \"{name}.{inner}\""));
            return None;
        }
        let bytes = item.secret()?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            item.problem("the secret is not UTF-8 text");
            return None;
        };
        PropertyValue::Secret(Secret::new(text.to_owned()))
    } else {
        let text = if FILES.contains(&name) && item.text()? != PROBE {
            // librdkafka would say of a wrong one neither which file nor which property.
            let path = if SECRET_FILES.contains(&name) { item.path_of_secret()? } else { item.path_of_readable()? };
            path.to_string_lossy().into_owned()
        } else {
            item.scalar()?
        };
        if SECRET_ENDS.iter().any(|end| name.ends_with(end)) {
            item.mark_secret();
        }
        if is_harmless(name) { PropertyValue::Plain(text) } else { PropertyValue::Secret(Secret::new(text)) }
    };
    if value.expose().contains('\0') {
        item.problem("must not contain a null character");
        return None;
    }
    Some(Property { name: name.to_owned(), value })
}

/// What TOML made of a dotted name without quotes: tables within tables. The rest of the name; none where a reference may be meant.
fn unquoted(name: &str, item: &Item<'_>) -> Option<String> {
    let fields = item.fields()?;
    let (first, inner) = fields.all().next()?;
    if name.contains('.') || matches!(first, "file" | "env" | "value") && !inner.is_table() {
        return None;
    }
    let rest = if inner.is_table() { unquoted("", &inner) } else { None };
    Some(rest.map_or_else(|| first.to_owned(), |rest| format!("{first}.{rest}")))
}
