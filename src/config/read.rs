//! From a located document to settings: types, ranges, defaults, and what contradicts itself.

use super::{
    AdminSettings, AdminToken, CA_FILE, CircuitSettings, DeliverySettings, EgressSettings, Environment, Examined, KafkaSettings, Loaded,
    LogFormat, LogLevel, LogSettings, MetricsSettings, Problem, RegistrySettings, Role, Settings, VARIABLE_PREFIX, properties,
    property_key,
};
use crate::delivery::settings::StartFrom;
use crate::domain::address::{AddressPolicy, NetworkDoubt};
use crate::domain::tier::Tiers;
use crate::source::{Document, Fields, Item, Reading, cannot_be_read};
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

const DELAY_TIERS: [&str; 5] = ["5s", "1m", "10m", "1h", "6h"];
/// The port of name servers that are given without one.
const DNS_PORT: u16 = 53;
const DAY: Duration = Duration::from_secs(24 * 3600);
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
const LEAST_BYTES: u64 = 1 << 20;
const SECTIONS: [&str; 7] = ["KAFKA", "REGISTRY", "DELIVERY", "EGRESS", "METRICS", "ADMIN", "LOG"];

/// Reads `document` under `environment`, to its end whatever is wrong.
pub(super) fn read(mut document: Document, environment: &Environment) -> Examined {
    let misplaced = document.overlay(environment, VARIABLE_PREFIX, "kafka.properties");
    let reading = Reading::new(&document, environment);
    let root = reading.root();
    let kafka = kafka(&root.fields("kafka"));
    let settings = Settings {
        registry: registry(&root.fields("registry"), &document),
        delivery: delivery(&root.fields("delivery"), &kafka.topic_prefix),
        egress: egress(&root.fields("egress")),
        metrics: metrics(&root.fields("metrics")),
        admin: admin(&root.fields("admin")),
        log: log(&root.fields("log")),
        kafka,
    };
    if settings.metrics.listen == settings.admin.listen && settings.metrics.listen.port() != 0 {
        reading.problem("admin.listen", "is the same address as metrics.listen: give each a port of its own");
    }
    let file_is_given = root.fields("registry").get("file").is_some();
    root.done();
    let mut warnings = single_underscores(environment);
    warnings.extend(reading.warnings());
    let mut problems = reading.finish().err().unwrap_or_default();
    problems.extend(misplaced);
    problems.sort();
    let registry_is_known = registry_is_known(&problems, file_is_given);
    let properties = settings.kafka.properties.iter().map(|property| &*property.name).chain([""]).map(property_key);
    let places = properties.chain([CA_FILE.to_owned()]).map(|key| (key.clone(), document.locate(&key))).collect();
    Examined { loaded: Loaded { settings, warnings, places }, problems, registry_is_known }
}

/// Whether problems leave no doubt where the registry is: where its file is not given, an unknown key may be meant for it.
fn registry_is_known(problems: &[Problem], file_is_given: bool) -> bool {
    let doubtful = |key: &str| match key.split_once('.') {
        Some(("registry", rest)) => matches!(rest, "file" | "topic") || !file_is_given && rest != "templates_per_account",
        Some(_) => false,
        None => key == "registry" || !file_is_given && !SECTIONS.contains(&&*key.to_ascii_uppercase()),
    };
    !problems.iter().any(|problem| doubtful(&problem.key))
}

/// Variables that look like an override with one underscore where two belong: they are not read.
fn single_underscores(environment: &Environment) -> Vec<String> {
    const KEYS: [&str; 8] = ["BROKERS", "GROUP", "SOURCE_TOPICS", "TOPIC_PREFIX", "FILE", "LEVEL", "FORMAT", "LISTEN"];
    let overlooked = |name: &str| {
        let (section, key) = name.strip_prefix(VARIABLE_PREFIX)?.split_once('_')?;
        (SECTIONS.contains(&section) && (KEYS.contains(&key) || section == "DELIVERY") && !key.contains("__") && !key.starts_with('_'))
            .then(|| format!("{name}: is not read; levels have two underscores between them: {VARIABLE_PREFIX}{section}__{key}"))
    };
    environment.iter().filter_map(|(name, _)| overlooked(name)).collect()
}

fn kafka(fields: &Fields<'_>) -> KafkaSettings {
    let brokers = fields.get("brokers").and_then(|item| item.texts()).unwrap_or_else(|| vec!["127.0.0.1:9092".into()]);
    if brokers.is_empty() {
        fields.problem("brokers", "list at least one broker");
    }
    for (at, broker) in brokers.iter().enumerate().filter(|(_, broker)| !is_broker(broker)) {
        fields.problem(&format!("brokers[{at}]"), format!("{broker:?} is not host:port, such as \"kafka-1.example:9092\""));
    }
    let group = fields.text("group").unwrap_or_else(|| "callbackd".into());
    if !(1..=200).contains(&group.len()) || group.chars().any(|c| c.is_control() || c.is_whitespace()) {
        fields.problem("group", "expected 1 to 200 bytes without white space");
    }
    let topic_prefix = fields.text("topic_prefix").unwrap_or_else(|| "callbackd".into());
    if !is_topic(&topic_prefix) || topic_prefix.len() > 200 {
        fields.problem("topic_prefix", "expected 1 to 200 letters, digits, `.`, `_` or `-`");
    }
    let source_topics = fields.get("source_topics").and_then(|item| item.texts()).unwrap_or_else(|| vec!["recording.completed".into()]);
    if source_topics.is_empty() {
        fields.problem("source_topics", "list at least one topic");
    }
    for (at, topic) in source_topics.iter().enumerate() {
        let key = format!("source_topics[{at}]");
        if !is_topic(topic) {
            fields.problem(&key, format!("{topic:?} is not a topic name: 1 to 249 letters, digits, `.`, `_` or `-`"));
        } else if topic.strip_prefix(&topic_prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            fields.problem(&key, format!("{topic:?} is under our own prefix {topic_prefix:?}: name a topic that upstream writes, or choose another kafka.topic_prefix"));
        } else if source_topics[..at].contains(topic) {
            fields.problem(&key, format!("{topic:?} is listed twice"));
        }
    }
    let properties = properties::read(&fields.fields("properties"));
    fields.done();
    KafkaSettings { brokers, group, source_topics, topic_prefix, properties }
}

/// `host:port`, where librdkafka would guess the port but people forgot it; IPv6 hosts in brackets.
fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let legal = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == ',' || c == '/');
    legal && (!host.contains(':') || host.starts_with('[') && host.ends_with(']')) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A name that Kafka takes for a topic.
fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

fn registry(fields: &Fields<'_>, document: &Document) -> RegistrySettings {
    let topic = fields.get("topic").and_then(|item| item.boolean()).unwrap_or(false);
    if topic {
        fields.problem("topic", "this version reads the registry from a file: leave this out, and name the file in registry.file");
    }
    let file = fields.get("file").and_then(|item| item.path_of_file()).unwrap_or_else(|| document.relative("registry.toml"));
    let templates_per_account = count(fields, "templates_per_account", 1..=100_000, 50);
    fields.done();
    RegistrySettings { file, templates_per_account }
}

fn count(fields: &Fields<'_>, key: &'static str, range: RangeInclusive<i64>, default: usize) -> usize {
    fields.get(key).and_then(|item| item.integer(range)).and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

fn small_count(fields: &Fields<'_>, key: &'static str, range: RangeInclusive<i64>, default: u32) -> u32 {
    fields.get(key).and_then(|item| item.integer(range)).and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
}

fn time(fields: &Fields<'_>, key: &'static str, range: RangeInclusive<Duration>, default: u64) -> Duration {
    fields.get(key).and_then(|item| item.duration_in(range)).unwrap_or(Duration::from_secs(default))
}

fn delivery(fields: &Fields<'_>, topic_prefix: &str) -> DeliverySettings {
    let delays = fields.get("delay_tiers").and_then(|item| item.texts()).unwrap_or_else(|| DELAY_TIERS.map(String::from).to_vec());
    for (at, error) in Tiers::problems(&delays) {
        fields.problem(&format!("delay_tiers[{at}]"), error.to_string());
    }
    let tiers = Tiers::new(topic_prefix, &delays).or_else(|error| {
        if delays.is_empty() {
            fields.problem("delay_tiers", error.to_string());
        }
        Tiers::new(topic_prefix, &DELAY_TIERS.map(String::from))
    });
    #[allow(clippy::expect_used, reason = "the default list is legal: every configuration without delay_tiers uses it, tests too")]
    let tiers = tiers.expect("the default tiers are legal");
    let max_in_flight = count(fields, "max_in_flight", 1..=100_000, 1024);
    let bytes = fields.get("max_in_flight_bytes").and_then(|item| item.size()).unwrap_or(64 << 20);
    if bytes < LEAST_BYTES {
        fields.problem("max_in_flight_bytes", "must be at least 1MiB");
    }
    let written = fields.get("endpoint_concurrency").and_then(|item| item.integer(1..=100_000)).and_then(|n| usize::try_from(n).ok());
    if written.is_some_and(|written| written > max_in_flight) {
        fields.problem("endpoint_concurrency", format!("must not be above max_in_flight ({max_in_flight})"));
    }
    let endpoint_concurrency = written.unwrap_or(32.min(max_in_flight));
    let drain_timeout = time(fields, "drain_timeout", DRAIN, 25);
    let revoke_grace = time(fields, "revoke_grace", GRACE, 3);
    let start_from =
        fields.get("start_from").and_then(|item| item.choice(&StartFrom::ALL, StartFrom::as_str)).unwrap_or(StartFrom::Earliest);
    let circuit = circuit(&fields.fields("circuit"));
    let replay_limit = small_count(fields, "replay_limit", 0..=1000, 5);
    fields.done();
    let max_in_flight_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    DeliverySettings {
        tiers,
        max_in_flight,
        max_in_flight_bytes,
        endpoint_concurrency,
        drain_timeout,
        revoke_grace,
        start_from,
        circuit,
        replay_limit,
    }
}

fn circuit(fields: &Fields<'_>) -> CircuitSettings {
    let failures = small_count(fields, "failures", 1..=1000, 5);
    let pause = time(fields, "pause", PAUSE, 5);
    let max_pause = time(fields, "max_pause", PAUSE, 600);
    if pause > max_pause {
        fields.problem("max_pause", "must not be below pause");
    }
    fields.done();
    CircuitSettings { failures, pause, max_pause }
}

fn egress(fields: &Fields<'_>) -> EgressSettings {
    let list = |key| (key, fields.get(key).and_then(|item| item.texts()).unwrap_or_default());
    let ports = ("ports", fields.get("ports").and_then(|item| item.texts_or_numbers()).unwrap_or_default());
    let networks = list("allow_networks");
    for (at, network) in networks.1.iter().enumerate().filter_map(|(at, text)| Some((at, network(text)?))) {
        if let Some(doubt) = NetworkDoubt::of(network) {
            fields.warning(&format!("allow_networks[{at}]"), format!("{network} {doubt}"));
        }
    }
    let addresses = AddressPolicy {
        allow_networks: each(fields, networks, "a network such as \"10.20.0.0/16\"", network),
        allow_names: each(fields, list("allow_names"), "a name suffix such as \"svc.cluster.local\"", name_suffix),
        ports: each(fields, ports, "a port such as 443, or a range such as \"8000-8999\"", port_range),
    };
    let name_servers = each(fields, list("name_servers"), "an address such as \"10.0.0.2\" or \"10.0.0.2:5353\"", name_server);
    let ca_file = fields.get("ca_file").and_then(|item| ca_file(&item));
    fields.done();
    EgressSettings { addresses, name_servers, ca_file }
}

/// What `read` makes of each text; the problem of one that it makes nothing of is that it is not `expected`.
fn each<T>(fields: &Fields<'_>, (key, texts): (&str, Vec<String>), expected: &str, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let mut all = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        match read(text) {
            Some(one) => all.push(one),
            None => fields.problem(&format!("{key}[{at}]"), format!("{text:?} is not {expected}")),
        }
    }
    all
}

fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().map(|network: ipnet::IpNet| network.trunc())
}

fn name_suffix(text: &str) -> Option<String> {
    let suffix = text.trim_matches('.').to_ascii_lowercase();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!suffix.is_empty() && suffix.chars().all(legal) && !suffix.contains("..")).then_some(suffix)
}

fn name_server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)))
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse().ok().filter(|port| *port > 0);
    let range = port(first)?..=port(last)?;
    (!range.is_empty()).then_some(range)
}

fn ca_file(item: &Item<'_>) -> Option<PathBuf> {
    let path = item.path_of_file()?;
    // What is in it the TLS library judges.
    if let Err(error) = std::fs::read(&path) {
        item.problem(format!("{} {}", path.display(), cannot_be_read(&path, &error)));
    }
    Some(path)
}

fn listen(fields: &Fields<'_>, default: SocketAddr) -> SocketAddr {
    let Some(item) = fields.get("listen") else { return default };
    let Some(text) = item.text() else { return default };
    text.parse().unwrap_or_else(|_| {
        item.problem(format!("{text:?} is not an address and a port such as \"{default}\""));
        default
    })
}

fn metrics(fields: &Fields<'_>) -> MetricsSettings {
    let listen = listen(fields, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9464)));
    fields.done();
    MetricsSettings { listen }
}

fn admin(fields: &Fields<'_>) -> AdminSettings {
    let listen = listen(fields, SocketAddr::from((Ipv4Addr::LOCALHOST, 9465)));
    let mut names = HashSet::new();
    let mut tokens = Vec::new();
    for row in fields.rows("tokens") {
        let name = row.required_text("name");
        let role = row.required("role").and_then(|item| item.choice(&Role::ALL, Role::as_str));
        let digest = row.required("sha256").and_then(|item| {
            let digest = digest(item.text()?);
            if digest.is_none() {
                item.problem("expected the token's SHA-256: 64 lower-case hexadecimal digits");
            }
            digest
        });
        if row.get("name").is_some_and(|item| item.is_text()) && (name.is_empty() || name.chars().any(char::is_control)) {
            row.problem("name", "expected a name without control characters");
        } else if !name.is_empty() && !names.insert(name.clone()) {
            row.problem("name", format!("the name {name:?} is used twice"));
        }
        row.done();
        tokens.extend(role.zip(digest).map(|(role, sha256)| AdminToken { name, role, sha256 }));
    }
    if !listen.ip().is_loopback() && fields.rows("tokens").is_empty() {
        fields.problem("tokens", format!("{listen} is reachable from other machines: list at least one token, or listen on loopback"));
    }
    fields.done();
    AdminSettings { listen, tokens }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(text).ok()?.try_into().ok()
}

fn log(fields: &Fields<'_>) -> LogSettings {
    let level = fields.get("level").and_then(|item| item.choice(&LogLevel::ALL, LogLevel::as_str)).unwrap_or(LogLevel::Info);
    let format = fields.get("format").and_then(|item| item.choice(&LogFormat::ALL, LogFormat::as_str)).unwrap_or(LogFormat::Auto);
    fields.done();
    LogSettings { level, format }
}
