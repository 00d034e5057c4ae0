//! When to try again, and when to give up: the policy's schedule as a pure function (design §7).
//!
//! Two limits together, attempts and age. Age counts from the first attempt, so an event that waited for us (a backlog, a
//! parked endpoint) loses none of its retries; for those that were never attempted there is `max_wait`. Both are judged
//! before an attempt; after a failed one a retry that could only expire is not waited for. The bounds are inclusive: a
//! retry due at `max_age` to the millisecond is made.

use super::dead_letter::Reason;
use super::headers::Chain;
use super::policy::Policy;
use super::tier::Tiers;
use super::time::UnixMillis;
use std::time::Duration;

/// What comes after a failed attempt.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Due at this instant.
    At(UnixMillis),
    /// Buried: `AttemptsExhausted`, or `Expired` when the next due would pass `max_age`.
    Bury(Reason),
}

/// The next step after a failed attempt that `chain` already counts. `draw`, uniform in 0.0..1.0, decides the jitter (see
/// [`Tiers::jittered`]); `pause` is the receiver's: the later of the two counts; never below the smallest tier.
///
/// A chain without a first attempt (none was counted) is taken as first attempted now.
pub fn after_failure(policy: &Policy, chain: &Chain, pause: Option<Duration>, draw: f64, tiers: &Tiers, now: UnixMillis) -> Next {
    if chain.attempts >= policy.attempts {
        return Next::Bury(Reason::AttemptsExhausted);
    }
    let delay = tiers.jittered(delay_after(policy, chain.attempts), policy.jitter, draw);
    let due = now.plus(delay.max(pause.unwrap_or_default()));
    if due > chain.first_attempt.unwrap_or(now).plus(policy.max_age) { Next::Bury(Reason::Expired) } else { Next::At(due) }
}

/// The policy's delay after `attempts` failed ones: the list's own, its last one repeated; zero for an empty list.
fn delay_after(policy: &Policy, attempts: u32) -> Duration {
    let n = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    policy.delays.get(n).or(policy.delays.last()).copied().unwrap_or_default()
}

/// Judged before an attempt: `Expired` past `max_age` since the first attempt, `WaitedTooLong` when never attempted and
/// past `max_wait` since `chain.since` (absent: never).
#[must_use]
pub fn before_attempt(policy: &Policy, chain: &Chain, now: UnixMillis) -> Option<Reason> {
    let past = |from: UnixMillis, limit: Duration| now > from.plus(limit);
    match (chain.first_attempt, chain.since) {
        (Some(first), _) => past(first, policy.max_age).then_some(Reason::Expired),
        (None, Some(since)) => past(since, policy.max_wait).then_some(Reason::WaitedTooLong),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::{Chain, Origin, OutcomeMark};
    use super::super::record::{Position, Record};
    use super::super::verdict::MAX_PAUSE;
    use super::*;
    use bytes::Bytes;

    const START: UnixMillis = UnixMillis(1_795_435_200_000);

    fn tiers() -> Tiers {
        Tiers::new("callbackd", &["5s", "1m", "10m", "1h", "6h"].map(str::to_owned)).unwrap()
    }

    fn chain() -> Chain {
        let record = Record {
            position: Position { topic: "recording.completed".into(), partition: 0, offset: 7 },
            timestamp: START,
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers: vec![],
        };
        Chain::read(&record, Origin::Source, Duration::ZERO)
    }

    /// Seconds from the first attempt at which attempts start, each failing at once, and what ends them. `pauses` are the
    /// receiver's, attempt by attempt, zero for none.
    fn timeline(policy: &Policy, pauses: &[u64], draw: f64) -> (Vec<u64>, Reason) {
        let (tiers, mut chain, mut now, mut times) = (tiers(), chain(), START, Vec::new());
        loop {
            assert_eq!(before_attempt(policy, &chain, now), None);
            times.push(now.since(START).as_secs());
            chain.attempted(now, OutcomeMark::Status(503));
            let pause = pauses.get(times.len() - 1).filter(|s| **s > 0).map(|s| Duration::from_secs(*s));
            match after_failure(policy, &chain, pause, draw, &tiers, now) {
                Next::At(due) => now = due,
                Next::Bury(reason) => return (times, reason),
            }
        }
    }

    #[test]
    fn css_tries_thirteen_times_a_minute_apart() {
        let (times, end) = timeline(&Policy::css(), &[], 0.5);
        assert_eq!(times, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 660, 720]);
        assert_eq!(end, Reason::AttemptsExhausted);
    }

    #[test]
    fn standard_without_jitter_tries_ten_times_over_three_days() {
        let (times, end) = timeline(&Policy { jitter: 0.0, ..Policy::standard() }, &[], 0.5);
        assert_eq!(times, [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 113_705, 185_705, 272_105]);
        assert_eq!(end, Reason::AttemptsExhausted);
    }

    #[test]
    fn standard_with_jitter_stays_within_twenty_percent_and_within_its_age() {
        let exact = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        for draw in [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999] {
            let (times, end) = timeline(&Policy::standard(), &[], draw);
            assert_eq!((times.len(), end), (10, Reason::AttemptsExhausted));
            for (pair, delay) in times.windows(2).zip(exact) {
                let gap = pair[1] - pair[0];
                assert!(gap + 1 >= (delay * 4 / 5).max(5) && gap <= delay * 6 / 5 + 1, "{draw}: {gap} for {delay}");
            }
        }
    }

    #[test]
    fn the_later_of_the_receivers_pause_and_the_policys_delay_counts() {
        let (times, end) = timeline(&Policy::css(), &[0, 59, 60, 61, 3_600], 0.5);
        assert_eq!(times, [0, 60, 120, 180, 241, 3_841, 3_901, 3_961, 4_021, 4_081, 4_141, 4_201, 4_261]);
        assert_eq!(end, Reason::AttemptsExhausted);
        let (times, end) = timeline(&Policy { jitter: 0.0, ..Policy::standard() }, &[120, 120, 3_600, 3_600], 0.5);
        assert_eq!(times, [0, 120, 420, 4_020, 11_220, 29_220, 65_220, 115_620, 187_620, 274_020]);
        assert_eq!(end, Reason::AttemptsExhausted);
        assert_eq!(MAX_PAUSE.as_secs(), 3_600);
    }

    #[test]
    fn a_retry_that_would_come_too_late_is_not_waited_for() {
        let policy = Policy { max_age: Duration::from_secs(600), attempts: 1_000, ..Policy::css() };
        let (times, end) = timeline(&policy, &[], 0.5);
        assert_eq!(times, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600]);
        assert_eq!(end, Reason::Expired);
        let (times, end) = timeline(&policy, &[0, 541], 0.5);
        assert_eq!((times, end), (vec![0, 60], Reason::Expired));
        let (times, end) = timeline(&policy, &[0, 540], 0.5);
        assert_eq!((times, end), (vec![0, 60, 600], Reason::Expired));
    }

    #[test]
    fn exhausted_comes_before_expired_and_one_attempt_is_never_retried() {
        let policy = Policy { max_age: Duration::ZERO, attempts: 1, ..Policy::css() };
        assert_eq!(timeline(&policy, &[], 0.5), (vec![0], Reason::AttemptsExhausted));
    }

    #[test]
    fn a_short_list_repeats_its_last_delay_and_none_is_below_the_smallest_tier() {
        let secs = Duration::from_secs;
        let policy = Policy { delays: vec![secs(1), secs(30), secs(120)], attempts: 6, ..Policy::css() };
        assert_eq!(timeline(&policy, &[], 0.5), (vec![0, 5, 35, 155, 275, 395], Reason::AttemptsExhausted));
        assert_eq!(timeline(&policy, &[2], 0.5).0[..2], [0, 5]);
        assert_eq!(timeline(&Policy { delays: vec![], attempts: 3, ..Policy::css() }, &[], 0.5).0, [0, 5, 10]);
    }

    #[test]
    fn before_an_attempt_age_counts_from_the_first_one_and_waiting_only_without_one() {
        let day = 86_400_000;
        for (first, since, now, expected) in [
            (None, None, 100 * day, None),
            (None, Some(0), 7 * day, None),
            (None, Some(0), 7 * day + 1, Some(Reason::WaitedTooLong)),
            (Some(6 * day), Some(0), 7 * day, None),
            (Some(6 * day), Some(0), 7 * day + 1, Some(Reason::Expired)),
            (Some(8 * day), Some(0), 8 * day + 5, None),
            (Some(0), None, day + 1, Some(Reason::Expired)),
            (None, Some(5), 0, None),
        ] {
            let chain = Chain {
                attempts: u32::from(first.is_some()),
                first_attempt: first.map(UnixMillis),
                since: since.map(UnixMillis),
                ..chain()
            };
            assert_eq!(before_attempt(&Policy::css(), &chain, UnixMillis(now)), expected, "{first:?} {since:?} {now}");
        }
    }
}
