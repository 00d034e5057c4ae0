//! Waiting for the broker: at start, and between tries of a produce. The only user of the crate `backoff`.
//!
//! The pauses grow and are jittered (±50 %), so that replicas which lost their broker together do not come back together. Nothing here
//! gives up by itself: whoever waits says through `keep_waiting` when to stop, and hears of every failure, because waiting in silence looks
//! like hanging. Callback schedules are not made here: they are a pure function of the domain.

use super::client::{ClientError, ClientSettings, PlainContext, advised, code_of, make};
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::thread;
use std::time::{Duration, Instant};

/// How long one question to the broker may take: also how late a stop is noticed.
const QUESTION: Duration = Duration::from_secs(1);

/// The client's own events that one question may leave behind, with some to spare.
const EVENTS: u32 = 16;

/// How often a sleeping thread looks whether it shall still wait.
const GLANCE: Duration = Duration::from_millis(100);

/// Growing, jittered pauses without an end.
#[derive(Debug)]
pub struct Pauses(ExponentialBackoff);

impl Pauses {
    /// From `first`, half as long again each time, up to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self(ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            max_interval: longest,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// For a broker that is away: 100 ms to 5 s.
    #[must_use]
    pub fn for_broker() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// For a full local queue: 5 to 100 ms, about the time in which acknowledgements make room.
    #[must_use]
    pub fn for_room() -> Self {
        Self::new(Duration::from_millis(5), Duration::from_millis(100))
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        // Without a maximal elapsed time there is always a next one.
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Sleeps the next pause on the runtime.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }
}

/// One fruitless question to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How many there were by now, from 1.
    pub count: u32,
    /// What the client says about it.
    pub cause: String,
    /// When it is asked again.
    pub pause: Duration,
}

/// The wait ended without a broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The client cannot even be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `keep_waiting` said no.
    #[error("stopped while waiting for the broker")]
    Stopped,
}

/// Fruitless questions after which another client asks.
const TRIES_OF_A_CLIENT: u32 = 20;

/// Blocks until a broker answers a metadata request. `report` hears of each failure; `keep_waiting` is asked about every 100 ms
/// (and after each question, at most 1 s).
///
/// # Errors
/// See [`WaitError`].
pub fn wait_for_broker(
    settings: &ClientSettings,
    report: &mut dyn FnMut(&Failure),
    keep_waiting: &dyn Fn() -> bool,
) -> Result<(), WaitError> {
    let new = || make::<_, BaseConsumer<PlainContext>>(&settings.plain(), PlainContext::new(settings));
    let mut client = new()?;
    let mut pauses = Pauses::for_broker();
    let mut count = 0;
    let mut trouble = None;
    loop {
        if !keep_waiting() {
            return Err(WaitError::Stopped);
        }
        // Asking about one topic keeps the answer small: what matters is that a broker gave one.
        let asked = client.client().fetch_metadata(settings.source_topics.first().map(String::as_str), QUESTION);
        let error = match asked {
            Ok(metadata) if !metadata.brokers().is_empty() => return Ok(()),
            Ok(_) => "no broker in the answer".to_owned(),
            Err(error) => advised(code_of(&error), error.rdkafka_error_code()),
        };
        // Serves the client's own error events: they name what a time-out hides, refused credentials for one. Each poll serves one.
        for _ in 0..EVENTS {
            let _ = client.poll(Duration::ZERO);
        }
        // The client does not repeat the same trouble for a while: the latest that it reported still holds.
        trouble = client.context().take_trouble().or(trouble);
        let cause = trouble.clone().unwrap_or(error);
        count += 1;
        let pause = pauses.next_pause();
        report(&Failure { count, cause, pause });
        // A client may lose its brokers for good (`bootstrap`); with a new one now and then that costs no more than this.
        if count.is_multiple_of(TRIES_OF_A_CLIENT)
            && let Ok(new) = new()
        {
            client = new;
        }
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if !keep_waiting() {
                return Err(WaitError::Stopped);
            }
            thread::sleep(GLANCE.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::client::tests::settings;
    use crate::kafka::embedded::EmbeddedCluster;
    use std::cell::Cell;

    #[test]
    fn pauses_grow_to_their_limit_and_never_end() {
        let mut pauses = Pauses::new(Duration::from_millis(100), Duration::from_secs(5));
        let drawn: Vec<_> = (0..200).map(|_| pauses.next_pause()).collect();
        assert!(drawn[0] >= Duration::from_millis(50) && drawn[0] <= Duration::from_millis(151), "{:?}", drawn[0]);
        assert!(drawn[50..].iter().all(|p| *p >= Duration::from_millis(2500) && *p <= Duration::from_millis(7501)));
    }

    #[test]
    fn without_a_broker_it_says_so_each_time_and_stops_when_told() {
        let (mut failures, asked) = (Vec::new(), Cell::new(0));
        let result = wait_for_broker(&settings("127.0.0.1:1"), &mut |f: &Failure| failures.push(f.clone()), &|| {
            asked.set(asked.get() + 1);
            asked.get() < 3
        });
        assert_eq!(result, Err(WaitError::Stopped));
        assert_eq!(failures[0].count, 1);
        assert!(!failures[0].cause.is_empty());
    }

    #[test]
    fn with_a_broker_it_returns() {
        let cluster = EmbeddedCluster::start(&[("recording.completed", 1)]).unwrap();
        assert_eq!(wait_for_broker(&settings(cluster.bootstrap_servers()), &mut |_| {}, &|| true), Ok(()));
    }
}
