//! A way back for a client that has lost every broker.
//!
//! A cluster whose only broker is fenced (all of them: the same) answers that it has none, and librdkafka then forgets those that it knew.
//! It means to begin anew from `bootstrap.servers`, by a timer; but handling that very answer stops the timer when the broker's thread was
//! quicker, and nothing sets it again (2.12.1, `rd_kafka_rebootstrap` and `rd_kafka_rebootstrap_tmr_stop`). Such a client dials nobody any
//! more, and reports nothing. Nor does it begin anew later, when all brokers that it has learned are gone to other addresses.
//!
//! What brokers a client has it tells in its statistics alone. So clients that live as long as the daemon emit them ([`PERIOD`]), their
//! contexts look at them, and their threads give the configured brokers again where the client has none of those and reaches no other. In an
//! outage that librdkafka handles itself it has them, and nothing is done here. What is given is dialled by its name as it is written:
//! `client.dns.lookup=resolve_canonical_bootstrap_servers_only` holds for the first beginning alone.

use super::client::ClientSettings;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use serde::Deserialize;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};

/// The property that makes a client emit its statistics, each five seconds. Only where somebody polls: they pile up otherwise.
pub(super) const PERIOD: (&str, &str) = ("statistics.interval.ms", "5000");

/// The configured brokers of one client, and whether it needs them again.
#[derive(Debug)]
pub(super) struct Bootstrap {
    brokers: CString,
    /// Looks in succession that found the client cut off.
    cut_off: AtomicU32,
}

/// Looks in succession after which it is: librdkafka may be about to begin anew by itself.
const LOOKS: u32 = 2;

/// What is read of the statistics (librdkafka's STATISTICS.md).
#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    source: String,
    state: String,
}

impl Statistics {
    /// Whether the client has a broker to begin from, or reaches one. The others are handles of the client's own: the group's coordinator,
    /// and one for its own thread.
    fn have_broker(&self) -> bool {
        let is_up = |broker: &Broker| matches!(&*broker.state, "UP" | "UPDATE");
        self.brokers.values().any(|broker| broker.source == "configured" || broker.source == "learned" && is_up(broker))
    }
}

impl Bootstrap {
    /// For one client of these settings.
    pub(super) fn new(settings: &ClientSettings) -> Self {
        // The configuration refuses names with a null character.
        Self { brokers: CString::new(settings.brokers.join(",")).unwrap_or_default(), cut_off: AtomicU32::new(0) }
    }

    /// Looks at statistics: what `ClientContext::stats_raw` is given.
    pub(super) fn look(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) if statistics.have_broker() => self.cut_off.store(0, Ordering::Relaxed),
            Ok(_) => drop(self.cut_off.fetch_add(1, Ordering::Relaxed)),
            Err(error) => tracing::debug!(%error, "the Kafka client's statistics cannot be read"),
        }
    }

    fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed) >= LOOKS
    }

    /// Gives `client` its configured brokers again when it is cut off. For the thread that polls it.
    pub(super) fn mend<C: ClientContext>(&self, client: &Client<C>) {
        if !self.is_cut_off() {
            return;
        }
        self.cut_off.store(0, Ordering::Relaxed);
        #[expect(unsafe_code, reason = "rdkafka has no other name for it")]
        // SAFETY: the client lives as long as its reference, the text is copied before the call returns, and any thread may call.
        let given = unsafe { rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), self.brokers.as_ptr()) };
        tracing::warn!(brokers = given, "a Kafka client reached no broker and had none to begin from: it is given kafka.brokers again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::client::tests::settings;
    use crate::kafka::embedded::EmbeddedCluster;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
    use std::time::{Duration, Instant};

    #[test]
    fn who_has_no_configured_broker_and_reaches_no_other_is_cut_off_after_two_looks() {
        let own = r#""GroupCoordinator":{"source":"logical","state":"UP"},":0/internal":{"source":"internal","state":"UP"}"#;
        for (brokers, has) in [
            ("", false),
            (own, false),
            (r#""127.0.0.1:1/1":{"source":"learned","state":"DOWN"}"#, false),
            (r#""127.0.0.1:1/1":{"source":"learned","state":"DOWN"},"127.0.0.1:2/2":{"source":"learned","state":"UP"}"#, true),
            (r#""127.0.0.1:1/bootstrap":{"source":"configured","state":"TRY_CONNECT"}"#, true),
        ] {
            let bootstrap = Bootstrap::new(&settings("127.0.0.1:1"));
            let look = || bootstrap.look(format!(r#"{{"name":"rdkafka#consumer-1","brokers":{{{brokers}}},"topics":{{}}}}"#).as_bytes());
            look();
            assert!(!bootstrap.is_cut_off(), "{brokers}: once is not enough");
            look();
            assert_eq!(bootstrap.is_cut_off(), !has, "{brokers}");
        }
    }

    struct Alone(Bootstrap);

    impl ClientContext for Alone {
        fn stats_raw(&self, statistics: &[u8]) {
            self.0.look(statistics);
        }
    }

    impl ConsumerContext for Alone {}

    #[test]
    fn a_client_without_brokers_is_given_the_configured_ones() {
        let cluster = EmbeddedCluster::start(&[("t", 1)]).unwrap();
        let context = Alone(Bootstrap::new(&settings(cluster.bootstrap_servers())));
        let mut config = ClientConfig::new();
        config.set("group.id", "g").set(PERIOD.0, "100");
        let client: BaseConsumer<Alone> = config.create_with_context(context).unwrap();
        let ask = || client.fetch_metadata(Some("t"), Duration::from_millis(100)).map(|metadata| metadata.brokers().len());
        let begun = Instant::now();
        while !client.context().0.is_cut_off() {
            assert!(begun.elapsed() < Duration::from_secs(20), "its statistics say nothing");
            drop(client.poll(Duration::from_millis(100)));
        }
        assert!(ask().is_err(), "it knows no broker");
        client.context().0.mend(client.client());
        while ask().is_err() {
            assert!(begun.elapsed() < Duration::from_secs(40), "it was given the brokers and does not use them");
        }
    }
}
