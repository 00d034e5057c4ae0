//! The process's clocks: wall, monotonic, and the broker's as the last delivery report showed it.

use crate::delivery::ports::Clock;
use crate::domain::skew::BrokerClock;
use crate::domain::time::UnixMillis;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clones share the broker's clock.
#[derive(Clone, Debug)]
pub(super) struct SystemClock {
    born: Instant,
    broker: Arc<Mutex<BrokerClock>>,
}

impl SystemClock {
    pub(super) fn new() -> Self {
        Self { born: Instant::now(), broker: Arc::default() }
    }

    /// The broker appended something of ours at `append`, by its clock.
    pub(super) fn observe(&self, append: UnixMillis) {
        let now = self.monotonic();
        self.broker.lock().unwrap_or_else(PoisonError::into_inner).observe(append, now);
    }

    fn broker(&self) -> BrokerClock {
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether our clock is sane, and how many milliseconds it is ahead of the broker's (0 while unknown).
    pub(super) fn skew(&self) -> (bool, i64) {
        let (broker, wall, monotonic) = (self.broker(), self.now(), self.monotonic());
        (broker.is_sane(wall, monotonic), broker.skew_ms(wall, monotonic).unwrap_or(0))
    }
}

/// Now, by this machine's wall clock.
#[must_use]
pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        wall_clock()
    }

    fn monotonic(&self) -> Duration {
        self.born.elapsed()
    }

    fn broker_now(&self) -> UnixMillis {
        self.broker().now(self.now(), self.monotonic())
    }

    fn is_sane(&self) -> bool {
        self.skew().0
    }

    fn may_judge_age(&self) -> bool {
        self.broker().may_judge_age(self.now(), self.monotonic())
    }

    fn draw(&self) -> f64 {
        fastrand::f64()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Our clock beside a broker whose clock is `ahead` milliseconds ahead: the same as ours jumping back by it.
    fn beside(ahead: i64) -> SystemClock {
        let clock = SystemClock::new();
        clock.observe(UnixMillis(clock.now().0 + ahead));
        clock
    }

    #[test]
    fn an_hour_off_either_way_is_not_sane_and_what_is_written_down_follows_the_broker() {
        for ahead in [HOUR, -HOUR] {
            let clock = beside(ahead);
            let (sane, skew) = clock.skew();
            assert!(!sane && !clock.is_sane());
            assert!((skew + ahead).abs() < 1000, "{skew}");
            assert!((clock.trusted_now().0 - clock.now().0 - ahead).abs() < 1000);
            let before = clock.monotonic();
            clock.observe(clock.now());
            // A report behind what is known may have been read late: it is believed once what is known is too old to prove anything.
            assert_eq!(clock.is_sane(), ahead < 0, "the next report mends it, {ahead}");
            assert!(clock.monotonic() >= before, "the monotonic clock never jumps");
        }
    }

    #[test]
    fn within_a_minute_ours_is_trusted() {
        for ahead in [0, 59_000, -59_000] {
            let clock = beside(ahead);
            assert!(clock.is_sane());
            assert!((clock.trusted_now().0 - clock.now().0).abs() < 1000);
            assert!((clock.broker_now().0 - clock.now().0 - ahead).abs() < 1000, "release and due follow the broker's all the same");
        }
    }
}
