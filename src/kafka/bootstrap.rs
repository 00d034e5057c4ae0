//! A way back for a client that has lost every broker.
//!
//! A cluster whose only broker is fenced (all of them: the same) answers that it has none, and librdkafka then forgets those that it knew.
//! It means to begin anew from `bootstrap.servers`, by a timer; but handling that very answer stops the timer when the broker's thread was
//! quicker, and nothing sets it again (2.12.1, `rd_kafka_rebootstrap` and `rd_kafka_rebootstrap_tmr_stop`). Such a client dials nobody any
//! more, and reports nothing.
//!
//! What brokers a client has it tells in its statistics alone. So clients that live as long as the daemon emit them ([`PERIOD`]), their
//! contexts look at them, and their threads give the configured brokers again where there was none.

use super::client::ClientSettings;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use serde::Deserialize;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

/// The property that makes a client emit its statistics, each five seconds. Only where somebody polls: they pile up otherwise.
pub(super) const PERIOD: (&str, &str) = ("statistics.interval.ms", "5000");

/// The configured brokers of one client, and whether it has lost all that it knew.
#[derive(Debug)]
pub(super) struct Bootstrap {
    brokers: CString,
    lost: AtomicBool,
}

/// What is read of the statistics (librdkafka's STATISTICS.md).
#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    source: String,
}

impl Statistics {
    /// The others are handles of the client's own: the group's coordinator, and one for its own thread.
    fn have_broker(&self) -> bool {
        self.brokers.values().any(|broker| matches!(&*broker.source, "configured" | "learned"))
    }
}

impl Bootstrap {
    /// For one client of these settings.
    pub(super) fn new(settings: &ClientSettings) -> Self {
        // The configuration refuses names with a null character.
        Self { brokers: CString::new(settings.brokers.join(",")).unwrap_or_default(), lost: AtomicBool::new(false) }
    }

    /// Looks at statistics: what `ClientContext::stats_raw` is given.
    pub(super) fn look(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => self.lost.store(!statistics.have_broker(), Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "the Kafka client's statistics cannot be read"),
        }
    }

    /// Gives `client` its configured brokers again, once for each look that found none. For the thread that polls it.
    pub(super) fn mend<C: ClientContext>(&self, client: &Client<C>) {
        if self.lost.swap(false, Ordering::Relaxed) {
            #[expect(unsafe_code, reason = "rdkafka has no other name for it")]
            // SAFETY: the client lives as long as its reference, the text is copied before the call returns, and any thread may call.
            let given = unsafe { rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), self.brokers.as_ptr()) };
            tracing::warn!(brokers = given, "a Kafka client had no broker left (the cluster has said that it has none): it begins anew");
        }
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
    fn only_brokers_of_the_cluster_count() {
        let bootstrap = Bootstrap::new(&settings("127.0.0.1:1"));
        let lost = |brokers: &str| {
            bootstrap.look(format!(r#"{{"name":"rdkafka#consumer-1","brokers":{{{brokers}}},"topics":{{}}}}"#).as_bytes());
            bootstrap.lost.load(Ordering::Relaxed)
        };
        assert!(lost(""));
        assert!(lost(r#""GroupCoordinator":{"source":"logical","state":"INIT"},":0/internal":{"source":"internal"}"#));
        assert!(!lost(r#""GroupCoordinator":{"source":"logical"},"127.0.0.1:1/1":{"source":"learned","state":"DOWN"}"#));
        assert!(!lost(r#""127.0.0.1:1/bootstrap":{"source":"configured","state":"TRY_CONNECT"}"#));
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
        while !client.context().0.lost.load(Ordering::Relaxed) {
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
