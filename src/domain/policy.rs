//! Delivery policies: what counts as success, how long to wait, how often to try (design §7).

use std::time::Duration;

/// Which statuses mean that the receiver took the callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Success {
    /// Any status from 200 to 299.
    Any2xx,
    /// Just these.
    Listed(Vec<u16>),
}

impl Success {
    /// Whether `status` is a success.
    #[must_use]
    pub fn includes(&self, status: u16) -> bool {
        match self {
            Self::Any2xx => (200..300).contains(&status),
            Self::Listed(list) => list.contains(&status),
        }
    }
}

/// One template's delivery policy, checked when a registry is built: the bounds of design §7 are the constants here.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What counts as success.
    pub success: Success,
    /// From the start of the attempt to status and headers, 0.1–120 s.
    pub timeout: Duration,
    /// To an established connection (TLS included), 0.1–120 s, never more than `timeout` in effect.
    pub connect_timeout: Duration,
    /// Delay before retry n is `delays[n-1]`, the last one repeated; never empty; up to 7 d each.
    pub delays: Vec<Duration>,
    /// Attempts in all, the first included, 1–1000.
    pub attempts: u32,
    /// From the first attempt, up to 30 d.
    pub max_age: Duration,
    /// Of a record that was never attempted, up to 30 d.
    pub max_wait: Duration,
    /// Share of the delay by which it may vary either way, 0.0–1.0.
    pub jitter: f64,
    /// Statuses that end the delivery without another retry.
    pub final_statuses: &'static [u16],
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

const fn hours(n: u64) -> Duration {
    Duration::from_secs(3600 * n)
}

/// Shortest time-out, also to connect.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// Longest time-out, also to connect.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// Most attempts.
pub const MAX_ATTEMPTS: u32 = 1000;
/// Shortest delay before a retry, and smallest `max_age` and `max_wait`: the resolution of a record's timestamp.
pub const MIN_DELAY: Duration = Duration::from_millis(1);
/// Longest delay before a retry: 7 d.
pub const MAX_DELAY: Duration = hours(24 * 7);
/// Largest `max_age` and `max_wait`: 30 d.
pub const MAX_AGE: Duration = hours(24 * 30);

impl Policy {
    /// The vendor's protocol, the default: 200 only, 12 retries every 60 s.
    #[must_use]
    pub fn css() -> Self {
        Self {
            success: Success::Listed(vec![200]),
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(3),
            delays: vec![minutes(1)],
            attempts: 13,
            max_age: hours(24),
            max_wait: hours(24 * 7),
            jitter: 0.0,
            final_statuses: &[],
        }
    }

    /// Standard Webhooks' schedule: any 2xx, nine retries over three days, 410 is final.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            success: Success::Any2xx,
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(3),
            delays: vec![Duration::from_secs(5), minutes(5), minutes(30), hours(2), hours(5), hours(10), hours(14), hours(20), hours(24)],
            attempts: 10,
            max_age: hours(24 * 5),
            max_wait: hours(24 * 7),
            jitter: 0.2,
            final_statuses: &[410],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_policies_are_those_of_the_contract() {
        let css = Policy::css();
        assert_eq!((css.attempts, css.delays.clone(), css.max_age, css.jitter), (13, vec![minutes(1)], hours(24), 0.0));
        assert_eq!((css.connect_timeout.as_secs(), css.timeout.as_secs(), css.max_wait), (3, 20, hours(168)));
        let standard = Policy::standard();
        let seconds: Vec<u64> = standard.delays.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!((standard.attempts, standard.max_age, standard.jitter, standard.final_statuses), (10, hours(120), 0.2, &[410][..]));
        assert_eq!((standard.connect_timeout.as_secs(), standard.timeout.as_secs(), standard.max_wait), (3, 15, hours(168)));
    }
}
