//! Settings, typed and checked: what the file and the environment say together.

use crate::delivery::settings::StartFrom;
use crate::domain::address::AddressPolicy;
use crate::domain::tier::Tiers;
use crate::source::Secret;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// All settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[kafka]`.
    pub kafka: KafkaSettings,
    /// `[registry]`.
    pub registry: RegistrySettings,
    /// `[delivery]`.
    pub delivery: DeliverySettings,
    /// `[egress]`.
    pub egress: EgressSettings,
    /// `[metrics]`.
    pub metrics: MetricsSettings,
    /// `[admin]`.
    pub admin: AdminSettings,
    /// `[log]`.
    pub log: LogSettings,
}

/// `[kafka]`: where events come from.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port` of brokers to start from; at least one.
    pub brokers: Vec<String>,
    /// Consumer group of fresh events; `<group>.retry` and `<group>.replay` are those of the other classes.
    pub group: String,
    /// At least one; none under `topic_prefix`.
    pub source_topics: Vec<String>,
    /// Names of our topics start with it and a dot.
    pub topic_prefix: String,
    /// Further librdkafka properties, none of those that the daemon owns; in the order of their names.
    pub properties: Vec<Property>,
}

impl KafkaSettings {
    /// The brokers as librdkafka's `bootstrap.servers` wants them.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.brokers.join(",")
    }
}

/// A librdkafka property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// As librdkafka names it.
    pub name: String,
    /// Its value.
    pub value: PropertyValue,
}

/// A property's value; secret when it came by reference, or unless its name is known to be harmless (`security.protocol`, `linger.ms`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// May be shown.
    Plain(String),
    /// Never shown.
    Secret(Secret),
}

impl PropertyValue {
    /// The value, for librdkafka.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// `[registry]`.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// The TOML file, watched.
    pub file: PathBuf,
    /// How many templates of each kind one account may own, 1–100,000.
    pub templates_per_account: usize,
}

/// `[delivery]`.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// The delay tiers, with their topics' names.
    pub tiers: Tiers,
    /// Attempts at once in this process, 1–100,000.
    pub max_in_flight: usize,
    /// Bytes of records in memory in this process, at least 1 MiB.
    pub max_in_flight_bytes: usize,
    /// Attempts at once to one endpoint, from 1 to `max_in_flight`.
    pub endpoint_concurrency: usize,
    /// From SIGTERM until running attempts are cancelled, up to 1 h.
    pub drain_timeout: Duration,
    /// For running attempts of a partition that is being revoked, up to 60 s.
    pub revoke_grace: Duration,
    /// Where a source topic without a commit starts.
    pub start_from: StartFrom,
    /// One per endpoint.
    pub circuit: CircuitSettings,
    /// How often one event may be replayed, 0–1000.
    pub replay_limit: u32,
}

/// `delivery.circuit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitSettings {
    /// Consecutive failures of different records that open it, 1–1000.
    pub failures: u32,
    /// The first pause, 100 ms to 24 h.
    pub pause: Duration,
    /// The longest pause, from `pause` to 24 h.
    pub max_pause: Duration,
}

/// `[egress]`: what may be dialled.
#[derive(Clone, Debug)]
pub struct EgressSettings {
    /// `allow_networks`, `allow_names` and `ports`.
    pub addresses: AddressPolicy,
    /// Who is asked for the addresses of names; none: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// PEM file with more trusted roots.
    pub ca_file: Option<PathBuf>,
}

/// `[metrics]`.
#[derive(Clone, Copy, Debug)]
pub struct MetricsSettings {
    /// For `/metrics`, `/livez` and `/readyz`.
    pub listen: SocketAddr,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// For API and console.
    pub listen: SocketAddr,
    /// Who may use them; never empty when `listen` is reachable from other machines.
    pub tokens: Vec<AdminToken>,
}

/// A bearer token, by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// Whose it is; unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
}

/// What a token may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Read,
    /// Replay, skip, retry.
    Operate,
    /// Change the registry.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// `[log]`.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// What is logged: this and what is graver.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

/// A log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And one line per settled event that is not a plain success.
    Info,
    /// And attempts.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As written, and as log filters want it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// One object a line.
    Json,
    /// For people.
    Pretty,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Json, Self::Pretty];

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Pretty => "pretty",
        }
    }
}
