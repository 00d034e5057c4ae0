//! Settings to client configurations: one function per kind of client that the daemon makes.
//!
//! Three layers, later ones win: our defaults, the operator's `[kafka.properties]`, then what the daemon owns because a guarantee hangs
//! on it (commits by hand, acknowledgement by all replicas, …). Sizes and fetch settings are the operator's within bounds. The config
//! layer refuses owned properties with file and line; here they are merely overwritten, so a mistake there cannot cost a record. A
//! property that only the other kind of client knows is left out: librdkafka would warn of it at every start.

use super::bootstrap;
use super::redaction::Redaction;
use super::scopes::{OF_CONSUMERS, OF_PRODUCERS};
use crate::domain::class::Class;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::BaseProducer;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Room for our headers and framing above the largest source record, in bytes (design §5).
pub const HEADROOM: usize = 64 * 1024;

/// The largest record of a source topic, in bytes, when it could not be read: Kafka's own default of `max.message.bytes`.
pub const DEFAULT_LARGEST_MESSAGE: usize = 1_048_588;

/// The largest record that the producer of giants takes, in bytes as librdkafka counts: uncompressed.
pub(crate) const LARGEST_GIANT: usize = 100 * 1024 * 1024;

/// librdkafka's send buffer, in KiB: 32 MiB of requeues and dead letters that await acknowledgement (design §15).
const PRODUCER_QUEUE_KBYTES: usize = 32 * 1024;

/// The same as a default: librdkafka's own is 1 GiB.
const PRODUCER_QUEUE: (&str, &str) = ("queue.buffering.max.kbytes", "32768");

const COMPRESSED: (&str, &str) = ("compression.type", "zstd");

/// librdkafka's own `batch.size`, in bytes.
const BATCH_BYTES: usize = 1_000_000;

/// `fetch.max.bytes`, one fetch answer: between 4 and 8 MiB (design §15).
const FETCH_BYTES: (usize, usize) = (4 * 1024 * 1024, 8 * 1024 * 1024);

/// What every Kafka client of the daemon is made from. `Debug` prints the names of properties, never their values.
#[derive(Clone)]
pub struct ClientSettings {
    /// `host:port` of brokers to start from; at least one.
    pub brokers: Vec<String>,
    /// Consumer group of the fresh class; the others are `<group>.retry`, `<group>.replay`, and `<group>.replay-job.<hash>` of the tool.
    pub group: String,
    /// Prefix of our own topics: `callbackd`.
    pub prefix: String,
    /// Topics that events come from.
    pub source_topics: Vec<String>,
    /// Further librdkafka properties as the operator gave them, secrets already read.
    pub properties: BTreeMap<String, String>,
    /// What of their values is never told.
    pub redaction: Redaction,
    /// The largest source topic's `max.message.bytes`, in bytes (`topics::check` finds it).
    pub largest_message: usize,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("prefix", &self.prefix)
            .field("source_topics", &self.source_topics)
            .field("properties", &self.properties.keys())
            .field("largest_message", &self.largest_message)
            .finish()
    }
}

/// A client could not be made from these settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// librdkafka refused one property; the value is left out, it may be a secret.
    #[error("kafka property {name}: {cause}")]
    Property {
        /// The property.
        name: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The properties do not go together, or a file that they name cannot be read.
    #[error("kafka client: {0}")]
    Create(String),
}

const NO_SUCH: &str = "no such property: librdkafka's CONFIGURATION.md lists them";
const BAD_VALUE: &str = "its value is not valid, or not supported by this build: librdkafka's CONFIGURATION.md says what is";

impl From<KafkaError> for ClientError {
    fn from(error: KafkaError) -> Self {
        if let KafkaError::ClientConfig(kind, _, name, _) = error {
            let cause = match kind {
                rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => NO_SUCH,
                rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID => BAD_VALUE,
                rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_OK => "refused",
            };
            return Self::Property { name, cause };
        }
        Self::Create(error.to_string())
    }
}

impl ClientSettings {
    /// The consumer group of `class`.
    #[must_use]
    pub fn group_of(&self, class: Class) -> String {
        match class {
            Class::Fresh => self.group.clone(),
            Class::Retry => format!("{}.retry", self.group),
            Class::Replay => format!("{}.replay", self.group),
        }
    }

    /// What every tier topic's name starts with: `<prefix>.retry.`.
    #[must_use]
    pub fn tier_prefix(&self) -> String {
        format!("{}.retry.", self.prefix)
    }

    /// `<prefix>.replay`.
    #[must_use]
    pub fn replay_topic(&self) -> String {
        format!("{}.replay", self.prefix)
    }

    /// `<prefix>.dead-letter`.
    #[must_use]
    pub fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letter", self.prefix)
    }

    /// `<prefix>.registry`.
    #[must_use]
    pub fn registry_topic(&self) -> String {
        format!("{}.registry", self.prefix)
    }

    /// A consumer of `class`, to be made with a context that handles rebalances. A broker that hangs, or a connection that was cut without
    /// a word, is found out within `socket.timeout.ms`: librdkafka's minute is longer than commits may fail.
    #[must_use]
    pub fn consumer(&self, class: Class) -> ClientConfig {
        // Tiers are paused and resumed, which throws away what was prefetched: less of it there.
        let prefetch = match class {
            Class::Fresh => "10000",
            Class::Retry | Class::Replay => "2000",
        };
        let mut config = self.layered(
            &OF_PRODUCERS,
            &[
                ("session.timeout.ms", "10000"),
                ("heartbeat.interval.ms", "3000"),
                ("socket.timeout.ms", "15000"),
                ("queued.min.messages", prefetch),
                ("queued.max.messages.kbytes", "16384"),
                ("fetch.queue.backoff.ms", "10"),
                ("fetch.max.bytes", "8388608"),
                ("topic.metadata.refresh.interval.ms", "10000"),
            ],
        );
        own(
            &mut config,
            &[
                ("group.id", &self.group_of(class)),
                ("group.protocol", "classic"),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("isolation.level", "read_committed"),
                ("enable.partition.eof", "false"),
                bootstrap::PERIOD,
            ],
        );
        self.bound_fetches(&mut config);
        config
    }

    /// The producer of requeues and dead letters: acknowledged by all in-sync replicas, idempotent, and never giving up by itself, for a
    /// local time-out would fork a chain (design §15). `linger.ms` is 25: nothing waits for a requeue (the shortest delay is a tier's), and
    /// what is appended meanwhile makes one batch for each partition; the broker's work grows with the batches. With less, the next batch
    /// is due before the broker has answered the last one; an idempotent client may not send it yet, and its thread takes a whole CPU
    /// asking whether it may.
    #[must_use]
    pub fn outbox(&self) -> ClientConfig {
        let mut config = self.layered(&OF_CONSUMERS, &[("linger.ms", "25"), PRODUCER_QUEUE]);
        self.own_producer(&mut config, self.largest_of_ours());
        own(&mut config, &[("message.timeout.ms", "0"), bootstrap::PERIOD]);
        config
    }

    /// As [`Self::outbox`], for records above [`Self::largest_message`]. Those are legal at the source because the broker judges what they
    /// were compressed to; so they are compressed here, too, by the codec that makes JSON smallest. All others are not: a fetch is bounded
    /// by what comes over the wire, and unfolds in memory.
    #[must_use]
    pub fn outbox_of_giants(&self) -> ClientConfig {
        let mut config = self.layered(&OF_CONSUMERS, &[("linger.ms", "25"), PRODUCER_QUEUE]);
        self.own_producer(&mut config, LARGEST_GIANT.max(self.largest_of_ours()));
        own(&mut config, &[("message.timeout.ms", "0"), COMPRESSED, bootstrap::PERIOD]);
        config
    }

    /// The producer of one replay job; its transactional id fences a second one of the same job. It compresses all that it copies: any letter
    /// may be a giant (see [`Self::outbox_of_giants`]).
    #[must_use]
    pub fn transactional(&self, transactional_id: &str) -> ClientConfig {
        // librdkafka wants message.timeout.ms ≤ transaction.timeout.ms: a transaction that hangs is aborted and done again.
        let mut config = self.layered(&OF_CONSUMERS, &[("linger.ms", "1"), ("transaction.timeout.ms", "60000"), PRODUCER_QUEUE]);
        self.own_producer(&mut config, LARGEST_GIANT.max(self.largest_of_ours()));
        own(&mut config, &[("transactional.id", transactional_id), ("message.timeout.ms", "30000"), COMPRESSED]);
        config
    }

    /// A consumer that is told its partitions and takes part in no rebalance: the replay job's reader.
    #[must_use]
    pub fn reader(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(Class::Replay);
        config.remove("group.instance.id");
        config.remove(bootstrap::PERIOD.0);
        own(&mut config, &[("group.id", group), ("enable.partition.eof", "true")]);
        config
    }

    /// A client without a group: metadata, watermarks, administration. As a consumer, because a producer that asks for a topic makes
    /// brokers with automatic creation create it, with the wrong settings.
    #[must_use]
    pub fn plain(&self) -> ClientConfig {
        let mut config = self.layered(&OF_PRODUCERS, &[]);
        config.remove("group.instance.id");
        own(&mut config, &[("isolation.level", "read_committed")]);
        config
    }

    /// Our defaults and the operator's properties over them, but for those of the `foreign` kind of client.
    fn layered(&self, foreign: &[&str], defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        own(
            &mut config,
            &[
                ("client.id", "callbackd"),
                ("log.connection.close", "false"),
                ("reconnect.backoff.max.ms", "2000"),
                ("socket.keepalive.enable", "true"),
            ],
        );
        own(&mut config, defaults);
        for (name, value) in self.properties.iter().filter(|(name, _)| !foreign.contains(&name.as_str())) {
            config.set(canonical(name), value.as_str());
        }
        own(&mut config, &[("bootstrap.servers", &self.brokers.join(",")), ("allow.auto.create.topics", "false")]);
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// The largest record that one of our own topics must take, in bytes.
    #[must_use]
    pub fn largest_of_ours(&self) -> usize {
        self.largest_message.saturating_add(HEADROOM)
    }

    /// `largest`: the largest record to take, uncompressed, in bytes.
    fn own_producer(&self, config: &mut ClientConfig, largest: usize) {
        at_least(config, "message.max.bytes", largest);
        // A batch as a whole counts against the topic's `max.message.bytes`: many small records together must not exceed what one record
        // may.
        at_most(config, "batch.size", self.largest_of_ours().min(BATCH_BYTES));
        // One record must always fit, however small a buffer was asked for.
        let record_kbytes = number(config, "message.max.bytes").unwrap_or(largest).div_ceil(1024).saturating_add(1);
        at_least(config, "queue.buffering.max.kbytes", PRODUCER_QUEUE_KBYTES.max(record_kbytes));
        own(config, &[("acks", "all"), ("enable.idempotence", "true"), ("partitioner", "murmur2_random")]);
    }

    fn bound_fetches(&self, config: &mut ClientConfig) {
        let largest = self.largest_of_ours();
        at_most(config, "fetch.queue.backoff.ms", 10);
        at_least(config, "fetch.message.max.bytes", largest);
        at_least(config, "message.max.bytes", largest);
        at_most(config, "fetch.max.bytes", FETCH_BYTES.1);
        at_least(config, "fetch.max.bytes", FETCH_BYTES.0.max(number(config, "fetch.message.max.bytes").unwrap_or(largest)));
        let answer = number(config, "fetch.max.bytes").unwrap_or(FETCH_BYTES.1);
        if answer > 64 * 1024 * 1024 {
            at_least(config, "receive.message.max.bytes", answer.saturating_add(HEADROOM));
        }
    }
}

/// The name that we set a property by: of two names in one configuration librdkafka takes the value of either.
fn canonical(name: &str) -> &str {
    match name {
        "max.partition.fetch.bytes" => "fetch.message.max.bytes",
        "compression.codec" => "compression.type",
        name => name,
    }
}

fn own(config: &mut ClientConfig, pairs: &[(&str, &str)]) {
    for (name, value) in pairs {
        config.set(*name, *value);
    }
}

fn number(config: &ClientConfig, name: &str) -> Option<usize> {
    config.get(name)?.trim().parse().ok()
}

fn at_least(config: &mut ClientConfig, name: &str, floor: usize) {
    if number(config, name).is_none_or(|value| value < floor) {
        config.set(name, floor.to_string());
    }
}

fn at_most(config: &mut ClientConfig, name: &str, ceiling: usize) {
    if number(config, name).is_none_or(|value| value > ceiling) {
        config.set(name, ceiling.to_string());
    }
}

/// What librdkafka refuses of the operator's properties: each one that it does not know or whose value it refuses; when there is none, why
/// no client can be made of all of them together. Asks no broker.
#[must_use]
pub fn problems(settings: &ClientSettings) -> Vec<ClientError> {
    let alone =
        |(name, value): (&String, &String)| ClientConfig::new().set(name, value).create_native_config().err().map(ClientError::from);
    let mut found: Vec<ClientError> = settings.properties.iter().filter_map(alone).collect();
    if settings.properties.is_empty() || !found.is_empty() {
        return found;
    }
    // Without brokers and group, nothing is dialled and nothing joined.
    let apart = |mut config: ClientConfig| {
        config.remove("bootstrap.servers");
        config.remove("group.id");
        config
    };
    let consumer = make::<_, BaseConsumer<PlainContext>>(&apart(settings.consumer(Class::Fresh)), PlainContext::new(settings)).err();
    let producer = apart(settings.outbox()).create::<BaseProducer>().map_err(ClientError::from).err();
    found.extend(consumer.into_iter().chain(producer));
    found.dedup();
    found
}

/// Makes a client; an error never holds a property's value.
///
/// # Errors
/// See [`ClientError`].
pub(crate) fn make<C, T>(config: &ClientConfig, context: C) -> Result<T, ClientError>
where
    C: ClientContext,
    T: FromClientConfigAndContext<C>,
{
    let made: KafkaResult<T> = config.create_with_context(context);
    made.map_err(ClientError::from)
}

/// One line of librdkafka's own log, into ours, under the target `librdkafka`.
pub(crate) fn log_line(redaction: &Redaction, level: RDKafkaLogLevel, facility: &str, line: &str) {
    let line = redaction.apply(line);
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        // The coordinator is still being made, as on a new cluster: the client asks again by itself.
        RDKafkaLogLevel::Warning if facility == "GETPID" && line.ends_with("retrying") => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// The error's code in words, without its text.
pub(crate) fn code_of(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| format!("{code:?}"))
}

/// `trouble`, with what to look at when that is known of the client's code and words.
pub(crate) fn advised(trouble: String, code: Option<RDKafkaErrorCode>) -> String {
    match code.and_then(|code| advice(code, &trouble)) {
        Some(advice) => format!("{trouble}; {advice}"),
        None => trouble,
    }
}

/// What to look at when a broker is there but no connection comes about.
///
/// The text counts beside the code: a certificate that librdkafka refuses has the code `SSL`, or `BrokerTransportFailure` where the
/// handshake failed within its first call. A TLS alert comes from the broker, which then refuses something of ours.
fn advice(code: RDKafkaErrorCode, trouble: &str) -> Option<&'static str> {
    if code == RDKafkaErrorCode::Authentication || code == RDKafkaErrorCode::SaslAuthenticationFailed {
        Some("see sasl.mechanism, sasl.username and sasl.password in [kafka.properties], and the user at the broker")
    } else if trouble.contains("certificate verify failed") || code == RDKafkaErrorCode::SSL && !trouble.contains(" alert ") {
        Some(
            "the broker's certificate must be signed by who is in ssl.ca.location, and be for the host name in kafka.brokers and no other; see security.protocol and ssl.* in [kafka.properties]",
        )
    } else if code == RDKafkaErrorCode::BrokerTransportFailure || code == RDKafkaErrorCode::SSL {
        Some(
            "see kafka.brokers and, in [kafka.properties], security.protocol (it must be that of the listener behind the port) and ssl.certificate.location (some listeners want a client's certificate)",
        )
    } else {
        None
    }
}

/// Context of clients without callbacks of their own: logs, and keeps the latest trouble so that a time-out can say what is behind it.
#[derive(Debug)]
pub(crate) struct PlainContext {
    redaction: Redaction,
    trouble: Mutex<Option<String>>,
}

impl PlainContext {
    /// For one client of these settings.
    pub(crate) fn new(settings: &ClientSettings) -> Self {
        Self { redaction: settings.redaction.clone(), trouble: Mutex::default() }
    }

    /// The latest error that librdkafka reported by itself, once.
    pub(crate) fn take_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for PlainContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(&self.redaction, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let code = error.rdkafka_error_code().map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"));
        let reason = self.redaction.apply(reason);
        tracing::debug!(target: "librdkafka", %code, "{reason}");
        // That all brokers are down says less than why one is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            let trouble = advised(format!("{code}: {reason}"), error.rdkafka_error_code());
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        }
    }
}

impl ConsumerContext for PlainContext {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rdkafka::message::DeliveryResult;
    use rdkafka::producer::ProducerContext;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    pub(crate) fn settings(brokers: &str) -> ClientSettings {
        ClientSettings {
            brokers: vec![brokers.to_owned()],
            group: "g".into(),
            prefix: "cb".into(),
            source_topics: vec!["recording.completed".into()],
            properties: BTreeMap::new(),
            redaction: Redaction::default(),
            largest_message: DEFAULT_LARGEST_MESSAGE,
        }
    }

    fn with(properties: &[(&str, &str)]) -> ClientSettings {
        ClientSettings {
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..settings("127.0.0.1:1")
        }
    }

    #[test]
    fn a_refused_certificate_has_its_advice_by_either_code_that_the_client_gives_it() {
        let failed = "sasl_ssl://localhost:9093/bootstrap: error:0A000086:SSL routines::certificate verify failed (after 2ms in state SSL_HANDSHAKE)";
        for code in [RDKafkaErrorCode::SSL, RDKafkaErrorCode::BrokerTransportFailure] {
            let told = advised(failed.to_owned(), Some(code));
            assert!(told.starts_with(failed) && told.contains("ssl.ca.location"), "{told}");
        }
        for (ours, code) in [
            ("Connection refused", RDKafkaErrorCode::BrokerTransportFailure),
            ("SSL handshake failed: error:0A000412:SSL routines::ssl/tls alert bad certificate", RDKafkaErrorCode::SSL),
        ] {
            let told = advised(ours.to_owned(), Some(code));
            assert!(told.contains("ssl.certificate.location") && !told.contains("ssl.ca.location"), "{told}");
        }
        assert_eq!(advised("x".to_owned(), None), "x");
    }

    #[test]
    fn each_class_has_its_own_group() {
        let s = settings("127.0.0.1:1");
        for (class, group) in [(Class::Fresh, "g"), (Class::Retry, "g.retry"), (Class::Replay, "g.replay")] {
            assert_eq!(s.consumer(class).get("group.id"), Some(group));
        }
    }

    #[test]
    fn what_the_daemon_owns_cannot_be_overridden_and_the_rest_can() {
        let s = with(&[
            ("enable.auto.commit", "true"),
            ("auto.offset.reset", "latest"),
            ("acks", "0"),
            ("message.timeout.ms", "5"),
            ("bootstrap.servers", "elsewhere:1"),
            ("session.timeout.ms", "6000"),
            ("linger.ms", "7"),
            ("client.id", "mine"),
        ]);
        let (consumer, outbox) = (s.consumer(Class::Fresh), s.outbox());
        for (config, name, value) in [
            (&consumer, "enable.auto.commit", "false"),
            (&consumer, "enable.auto.offset.store", "false"),
            (&consumer, "auto.offset.reset", "error"),
            (&consumer, "isolation.level", "read_committed"),
            (&consumer, "partition.assignment.strategy", "cooperative-sticky"),
            (&consumer, "group.protocol", "classic"),
            (&consumer, "bootstrap.servers", "127.0.0.1:1"),
            (&consumer, "session.timeout.ms", "6000"),
            (&consumer, "heartbeat.interval.ms", "3000"),
            (&consumer, "client.id", "mine"),
            (&consumer, "socket.timeout.ms", "15000"),
            (&consumer, "socket.keepalive.enable", "true"),
            (&outbox, "socket.keepalive.enable", "true"),
            (&outbox, "acks", "all"),
            (&outbox, "enable.idempotence", "true"),
            (&outbox, "message.timeout.ms", "0"),
            (&outbox, "linger.ms", "7"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn clients_that_live_as_long_as_the_daemon_emit_statistics_and_no_others() {
        let s = settings("127.0.0.1:1");
        let (name, period) = bootstrap::PERIOD;
        for config in [s.consumer(Class::Fresh), s.consumer(Class::Retry), s.consumer(Class::Replay), s.outbox(), s.outbox_of_giants()] {
            assert_eq!(config.get(name), Some(period));
        }
        for config in [s.reader("g"), s.plain(), s.transactional("t")] {
            assert_eq!(config.get(name), None);
        }
    }

    #[test]
    fn sizes_and_fetch_settings_keep_their_bounds() {
        // (what the operator wrote, where, name, what comes of it)
        let mib = 1024 * 1024;
        type Row<'a> = (&'a [(&'a str, &'a str)], bool, &'a str, usize);
        let table: [Row<'_>; 14] = [
            (&[], false, "message.max.bytes", DEFAULT_LARGEST_MESSAGE + HEADROOM),
            (&[("message.max.bytes", "1000000")], false, "message.max.bytes", DEFAULT_LARGEST_MESSAGE + HEADROOM),
            (&[("message.max.bytes", "200000000")], false, "message.max.bytes", 200_000_000),
            (&[("message.max.bytes", "1000000")], true, "message.max.bytes", DEFAULT_LARGEST_MESSAGE + HEADROOM),
            (&[], false, "queue.buffering.max.kbytes", PRODUCER_QUEUE_KBYTES),
            (&[("queue.buffering.max.kbytes", "1")], false, "queue.buffering.max.kbytes", PRODUCER_QUEUE_KBYTES),
            (&[("queue.buffering.max.kbytes", "1048576")], false, "queue.buffering.max.kbytes", 1_048_576),
            (&[("message.max.bytes", "200000000")], false, "queue.buffering.max.kbytes", 195_314),
            (&[("max.partition.fetch.bytes", "2097152")], true, "fetch.message.max.bytes", 2 * mib),
            (&[("max.partition.fetch.bytes", "1")], true, "fetch.message.max.bytes", DEFAULT_LARGEST_MESSAGE + HEADROOM),
            (&[], true, "fetch.max.bytes", 8 * mib),
            (&[("fetch.max.bytes", "1")], true, "fetch.max.bytes", 4 * mib),
            (&[("fetch.max.bytes", "52428800")], true, "fetch.max.bytes", 8 * mib),
            (&[("fetch.queue.backoff.ms", "1000")], true, "fetch.queue.backoff.ms", 10),
        ];
        for (properties, consumer, name, expected) in table {
            let s = with(properties);
            let config = if consumer { s.consumer(Class::Retry) } else { s.outbox() };
            assert_eq!(number(&config, name), Some(expected), "{name} of {properties:?}");
        }
        let giants = settings("127.0.0.1:1").outbox_of_giants();
        assert_eq!(number(&giants, "message.max.bytes"), Some(LARGEST_GIANT));
        assert!(number(&giants, "queue.buffering.max.kbytes") > Some(LARGEST_GIANT / 1024));
        let huge = ClientSettings { largest_message: 100 * mib, ..settings("127.0.0.1:1") };
        let config = huge.consumer(Class::Fresh);
        assert_eq!(number(&config, "fetch.max.bytes"), Some(100 * mib + HEADROOM));
        assert!(number(&config, "receive.message.max.bytes") > number(&config, "fetch.max.bytes"));
    }

    #[test]
    fn librdkafka_accepts_every_configuration_also_with_huge_records() {
        for largest in [1000, DEFAULT_LARGEST_MESSAGE, 200 * 1024 * 1024] {
            let s = ClientSettings { largest_message: largest, ..settings("127.0.0.1:1") };
            for class in [Class::Fresh, Class::Retry, Class::Replay] {
                make::<_, BaseConsumer<PlainContext>>(&s.consumer(class), PlainContext::new(&s)).unwrap();
            }
            make::<_, BaseConsumer<PlainContext>>(&s.reader("g.replay-job.0"), PlainContext::new(&s)).unwrap();
            make::<_, BaseConsumer<PlainContext>>(&s.plain(), PlainContext::new(&s)).unwrap();
            for config in [s.outbox(), s.transactional("g.replay-job.0")] {
                let made: Result<BaseProducer, _> = config.create();
                assert!(made.is_ok(), "largest {largest}: {:?}", made.err());
            }
        }
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_property_value() {
        let s = with(&[("sasl.password", "canary-5512"), ("security.protocol", "canary-5512")]);
        assert!(!format!("{s:?}").contains("canary"));
        assert!(format!("{s:?}").contains("sasl.password"));
        let Err(error) = make::<_, BaseConsumer<PlainContext>>(&s.plain(), PlainContext::new(&s)) else {
            panic!("an impossible security.protocol was accepted")
        };
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        assert!(error.to_string().contains("security.protocol"));
    }

    #[test]
    fn an_unknown_property_is_named() {
        let Err(error) =
            make::<_, BaseConsumer<PlainContext>>(&with(&[("no.such.thing", "1")]).plain(), PlainContext::new(&settings("127.0.0.1:1")))
        else {
            panic!("an unknown property was accepted")
        };
        assert_eq!(error, ClientError::Property { name: "no.such.thing".into(), cause: NO_SUCH });
    }

    #[test]
    fn every_property_that_librdkafka_refuses_is_told_without_its_value() {
        let cause = BAD_VALUE;
        let property = |name: &str, cause| ClientError::Property { name: name.into(), cause };
        type Row<'a> = (&'a [(&'a str, &'a str)], Vec<ClientError>);
        let table: [Row<'_>; 4] = [
            (&[], vec![]),
            (&[("linger.ms", "7"), ("session.timeout.ms", "6000"), ("sasl.password", "canary")], vec![]),
            (
                &[("sasl.passwort", "canary"), ("compression.type", "canary"), ("no.such.thing", "canary")],
                vec![property("compression.type", cause), property("no.such.thing", NO_SUCH), property("sasl.passwort", NO_SUCH)],
            ),
            (&[("fetch.min.bytes", "canary")], vec![property("fetch.min.bytes", cause)]),
        ];
        for (properties, expected) in table {
            assert_eq!(problems(&with(properties)), expected, "{properties:?}");
        }
        let asked = Instant::now();
        let together = problems(&with(&[("security.protocol", "SSL"), ("ssl.ca.location", "/no/such/file.pem")]));
        assert!(matches!(&together[..], [ClientError::Create(cause)] if cause.contains("ssl.ca.location")), "{together:?}");
        assert!(asked.elapsed() < Duration::from_secs(5), "nothing is waited for");
    }

    /// Keeps what librdkafka logs.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl ClientContext for Heard {
        fn log(&self, _: RDKafkaLogLevel, _: &str, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    impl ConsumerContext for Heard {}

    impl ProducerContext for Heard {
        type DeliveryOpaque = ();
        fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
    }

    impl Heard {
        /// The warnings that came when a producer was made of `config`: they lie in its queue when it is there.
        fn by_producer(config: &ClientConfig) -> Result<Vec<String>, ClientError> {
            let heard = Self::default();
            let producer: BaseProducer<Self> = make(config, heard.clone())?;
            for _ in 0..20 {
                producer.poll(Duration::ZERO);
            }
            Ok(heard.ignored())
        }

        fn by_consumer(config: &ClientConfig) -> Result<Vec<String>, ClientError> {
            let heard = Self::default();
            let consumer: BaseConsumer<Self> = make(config, heard.clone())?;
            (0..20).for_each(|_| drop(consumer.poll(Duration::ZERO)));
            Ok(heard.ignored())
        }

        fn ignored(&self) -> Vec<String> {
            self.0.lock().unwrap().iter().filter(|line| line.contains("will be ignored")).cloned().collect()
        }
    }

    #[test]
    fn no_client_is_given_a_property_that_only_the_other_kind_knows() {
        // Any value that librdkafka takes will do.
        let value = |name: &str| {
            let words = ["100", "true", "gzip", "latest", "range", "classic", "fifo", "file", "read_committed", "random"];
            words.into_iter().find(|word| ClientConfig::new().set(name, *word).create_native_config().is_ok())
        };
        let all: Vec<(&str, &str)> = OF_CONSUMERS.iter().chain(&OF_PRODUCERS).filter_map(|name| Some((*name, value(name)?))).collect();
        assert!(all.len() > 50, "{all:?}");
        let alone = |mine: &[&str]| with(&all.iter().copied().filter(|(name, _)| mine.contains(name)).collect::<Vec<_>>());
        let settings = alone(&OF_PRODUCERS);
        for config in [settings.consumer(Class::Fresh), settings.reader("g.replay-job.0"), settings.plain()] {
            assert_eq!(Heard::by_consumer(&config), Ok(vec![]));
        }
        let settings = alone(&OF_CONSUMERS);
        for config in [settings.outbox(), settings.transactional("g.replay-job.0")] {
            assert_eq!(Heard::by_producer(&config), Ok(vec![]));
        }
        // Without this care librdkafka does tell, of each by itself.
        for (name, value) in all {
            let mut raw = ClientConfig::new();
            raw.set(name, value).set_log_level(RDKafkaLogLevel::Info);
            let told = if OF_CONSUMERS.contains(&name) { Heard::by_producer(&raw) } else { Heard::by_consumer(&raw) };
            // Two cannot be set alone to just any value: no client is made.
            let refused = matches!(name, "group.protocol.type" | "partition.assignment.strategy") && told.is_err();
            assert!(refused || told.as_ref().is_ok_and(|told| told.len() == 1), "{name}: {told:?}");
        }
    }
}
