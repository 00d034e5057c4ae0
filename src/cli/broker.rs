//! For commands that ask the cluster: a broker that is away is waited for a moment, and told about in words.
//!
//! The client's own code for it, after the whole time-out of a question, would name neither the broker nor what is behind it.

use super::Failure;
use super::failure::complain;
use crate::kafka::client::ClientSettings;
use crate::kafka::wait::{WaitError, wait_for_broker};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time for a broker that is just being started.
const LIMIT: Duration = Duration::from_secs(15);

/// Returns once a broker of `client`, read from the configuration `config`, has answered.
pub(super) fn reached(client: &ClientSettings, config: &Path) -> Result<(), Failure> {
    reached_within(LIMIT, client, config)
}

fn reached_within(limit: Duration, client: &ClientSettings, config: &Path) -> Result<(), Failure> {
    let start = Instant::now();
    let mut last = String::new();
    let waited = wait_for_broker(
        client,
        &mut |failure| {
            if failure.count == 1 {
                complain(format_args!("waiting for {}, at most {} s: {}", client.brokers.join(", "), limit.as_secs(), failure.cause));
            }
            last.clone_from(&failure.cause);
        },
        &|| start.elapsed() < limit,
    );
    match waited {
        Ok(()) => Ok(()),
        Err(WaitError::Client(error)) => Err(error.into()),
        Err(WaitError::Stopped) => Err(Failure::Failed(anyhow::anyhow!(
            "no broker answered within {} s: {last}; asked were {}, see kafka.brokers and [kafka.properties] in {}",
            limit.as_secs(),
            client.brokers.join(", "),
            config.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::client::tests::settings;
    use crate::kafka::embedded::EmbeddedCluster;

    #[test]
    fn a_broker_that_is_away_is_named_with_what_is_behind_it_and_where_to_mend_it() {
        let failure = reached_within(Duration::from_secs(1), &settings("127.0.0.1:1"), Path::new("callbackd.toml")).unwrap_err();
        let [line] = <[String; 1]>::try_from(failure.lines()).unwrap();
        for said in ["no broker answered within 1 s", "127.0.0.1:1", "Connection refused", "kafka.brokers", "callbackd.toml"] {
            assert!(line.contains(said), "{said}: {line}");
        }
        assert_eq!(failure.exit().code(), 1);
    }

    #[test]
    fn a_broker_that_answers_is_not_waited_for() {
        let cluster = EmbeddedCluster::start(&[("recording.completed", 1)]).unwrap();
        reached(&settings(cluster.bootstrap_servers()), Path::new("callbackd.toml")).unwrap();
    }
}
