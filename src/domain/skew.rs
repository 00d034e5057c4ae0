//! The broker's clock as seen from here, and how far ours is off (design §10, Clocks).

use super::time::UnixMillis;
use std::time::Duration;

/// Beyond this the daemon is not ready, takes nothing in and judges nothing by age.
pub const SANE: Duration = Duration::from_secs(60);

/// A report older than this proves nothing about the difference any more, which is unknown again. Without an end a clock that jumped
/// over a suspended machine would pause intake for ever: what is paused appends nothing, and only an append brings a new report.
pub const PROOF: Duration = Duration::from_secs(300);

/// A report further than this behind what earlier ones say was read late (the process was stopped, or the answer was long on its way) and
/// would set the broker's clock back by as much.
const PUNCTUAL: Duration = Duration::from_millis(100);

/// The last append that the broker told us of: (its timestamp, our monotonic clock then).
#[derive(Clone, Copy, Debug, Default)]
pub struct BrokerClock {
    last: Option<(UnixMillis, Duration)>,
}

impl BrokerClock {
    /// Keeps a delivery report: the broker's append timestamp and the monotonic time at which it arrived. A report may arrive late, never
    /// early, so it gives a lower bound of the broker's clock. One behind what an earlier report implies is ignored while that one is still
    /// valid ([`PROOF`]).
    pub fn observe(&mut self, append: UnixMillis, monotonic: Duration) {
        let known = self.last.filter(|(_, at)| monotonic.saturating_sub(*at) <= PROOF);
        let is_late = known.is_some_and(|(before, at)| append.plus(PUNCTUAL) < before.plus(monotonic.saturating_sub(at)));
        if !is_late {
            self.last = Some((append, monotonic));
        }
    }

    /// The broker's now: append + elapsed; our `wall` clock while nothing is known.
    #[must_use]
    pub fn now(&self, wall: UnixMillis, monotonic: Duration) -> UnixMillis {
        self.last.map_or(wall, |(append, at)| append.plus(monotonic.saturating_sub(at)))
    }

    /// Our wall clock minus the broker's, in milliseconds; `None` while nothing is known (which counts as sane), and when the last
    /// report is older than [`PROOF`].
    #[must_use]
    pub fn skew_ms(&self, wall: UnixMillis, monotonic: Duration) -> Option<i64> {
        let proof = self.last.filter(|(_, at)| monotonic.saturating_sub(*at) <= PROOF);
        proof.map(|_| wall.0.saturating_sub(self.now(wall, monotonic).0))
    }

    /// Whether our clock is within [`SANE`] of the broker's; unknown is sane.
    #[must_use]
    pub fn is_sane(&self, wall: UnixMillis, monotonic: Duration) -> bool {
        self.skew_ms(wall, monotonic).is_none_or(is_near)
    }

    /// Whether ages may be judged by our clock: no report, however old, speaks against it. One that does may be outdated (this machine was
    /// suspended) or right (our clock jumped): [`PROOF`] later records are taken in again, and the next report tells which it was.
    #[must_use]
    pub fn may_judge_age(&self, wall: UnixMillis, monotonic: Duration) -> bool {
        is_near(wall.0.saturating_sub(self.now(wall, monotonic).0))
    }
}

const fn is_near(skew_ms: i64) -> bool {
    skew_ms.unsigned_abs() <= SANE.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn unknown_is_sane_and_uses_our_own_clock() {
        let clock = BrokerClock::default();
        assert_eq!(clock.now(UnixMillis(5), secs(1)), UnixMillis(5));
        assert_eq!(clock.skew_ms(UnixMillis(5), secs(1)), None);
        assert!(clock.is_sane(UnixMillis(5), secs(1)) && clock.may_judge_age(UnixMillis(5), secs(1)));
    }

    #[test]
    fn a_jump_is_believed_for_five_minutes_after_the_last_report_and_no_longer() {
        let mut clock = BrokerClock::default();
        clock.observe(UnixMillis(1_000_000), secs(10));
        assert!(!clock.is_sane(UnixMillis(2_000_000), secs(310)));
        assert!(clock.is_sane(UnixMillis(2_000_000), secs(311)));
        assert_eq!(clock.skew_ms(UnixMillis(2_000_000), secs(311)), None);
        assert!(!clock.may_judge_age(UnixMillis(2_000_000), secs(311)), "sane for want of proof is not enough to let a record die");
        assert!(clock.may_judge_age(UnixMillis(1_301_000), secs(311)), "an old report that agrees does no harm");
        clock.observe(UnixMillis(1_301_000), secs(311));
        assert!(!clock.is_sane(UnixMillis(2_000_000), secs(311)), "the next report tells it again");
    }

    #[test]
    fn a_report_that_is_read_late_does_not_set_the_brokers_clock_back_and_a_clock_that_was_set_back_is_followed() {
        let mut clock = BrokerClock::default();
        clock.observe(UnixMillis(1_000_000), secs(10));
        clock.observe(UnixMillis(1_001_000), secs(80));
        assert_eq!(clock.now(UnixMillis(0), secs(80)), UnixMillis(1_070_000), "appended a second later, read after a minute");
        clock.observe(UnixMillis(1_070_950), secs(81));
        assert_eq!(clock.now(UnixMillis(0), secs(81)), UnixMillis(1_070_950), "on its way as long as answers are");
        clock.observe(UnixMillis(1_000), secs(381));
        assert_eq!(clock.now(UnixMillis(0), secs(381)), UnixMillis(1_370_950));
        clock.observe(UnixMillis(2_000), secs(382));
        assert_eq!(clock.now(UnixMillis(0), secs(382)), UnixMillis(2_000), "what contradicts it is too old");
    }

    #[test]
    fn the_brokers_now_follows_the_monotonic_clock_not_ours() {
        let mut clock = BrokerClock::default();
        clock.observe(UnixMillis(1_000_000), secs(10));
        for (wall, monotonic, now, skew, sane) in [
            (1_005_000, 15, 1_005_000, 0, true),
            (1_065_000, 15, 1_005_000, 60_000, true),
            (1_065_001, 15, 1_005_000, 60_001, false),
            (944_999, 15, 1_005_000, -60_001, false),
        ] {
            assert_eq!(clock.now(UnixMillis(wall), secs(monotonic)), UnixMillis(now));
            assert_eq!(clock.skew_ms(UnixMillis(wall), secs(monotonic)), Some(skew));
            assert_eq!(clock.is_sane(UnixMillis(wall), secs(monotonic)), sane);
        }
    }
}
