//! Delay tiers as a timing wheel: topics whose records all wait the same time (design §5).
//!
//! A record is released from its tier at its append time plus the tier's delay, so within a partition releases are in
//! the order of offsets, and nothing in a record can hold up those behind it. A delay that is no tier's own is made of
//! several: after each release what remains is placed again.
//!
//! How the tolerance is read. Each tier `T` has one, `max(T/50, smallest/5)`.
//! - A remainder goes into the largest tier `T` with `remainder ≥ T − tolerance(T)`. Every hop arrives a little late
//!   (the broker, the poll), so without this 5 m would be four times 1 m and then eleven times 5 s.
//!   A record is late by at most the tolerance of the last tier that it passes.
//! - A remainder of at most the *smallest* tier's tolerance (1 s by default) is due now. The larger tolerances do not
//!   apply here: a record released from 6 h with seven minutes to go would break the receiver's `Retry-After`.
//! - What is left between (1 s to 4 s by default) is held in memory.
//!
//! Numbers for the default tiers: 31 hops are the most for anything up to a day (the contract allows 35), the unjittered
//! schedules of the policies take at most 5. Tables in the tests.

mod jitter;

use super::time::UnixMillis;
use std::sync::Arc;
use std::time::Duration;

/// One delay tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// How long its records wait after their append.
    pub delay: Duration,
    /// `<prefix>.retry.<delay>`.
    pub topic: Arc<str>,
    /// The text of the delay as in the topic's name, also the metric's label: `5s`.
    pub label: Arc<str>,
}

/// The configured tiers, ascending by delay, no delay twice; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers(Vec<Tier>);

/// No configured tier waits longer: as long as the longest delay of a policy.
pub const MAX_DELAY: Duration = super::policy::MAX_DELAY;

/// Jittered delays take no more hops than this where their band has such delays.
pub const JITTER_HOPS: u32 = 6;

/// Where a record due in a while goes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Within the tolerance: it is due.
    Due,
    /// Less than the smallest tier: held in memory (after release only; a new delay is never below the smallest tier).
    Hold,
    /// Into this tier.
    Tier(&'a Tier),
}

/// Why a list of delays makes no tiers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TiersError {
    /// The list is empty.
    #[error("at least one delay tier is needed")]
    Empty,
    /// No duration in digits and lower-case letters, or below 1 ms, or above 7 days.
    #[error("{0:?} is no delay: write one like \"5s\" or \"10m\", in digits and lower-case letters, from 1 ms to 7 days")]
    Bad(String),
    /// The same delay as one before it: `60s` and `1m` are one.
    #[error("{0:?} is the same delay as {1:?} before it: remove one")]
    Repeated(String, String),
}

impl Tiers {
    /// From the delays as written (`5s`, `500ms`), in any order.
    ///
    /// # Errors
    /// See [`TiersError`].
    pub fn new(prefix: &str, delays: &[String]) -> Result<Self, TiersError> {
        let (mut tiers, problems) = read(prefix, delays);
        if let Some((_, problem)) = problems.into_iter().next() {
            return Err(problem);
        }
        tiers.sort_by_key(|t| t.delay);
        if tiers.is_empty() { Err(TiersError::Empty) } else { Ok(Self(tiers)) }
    }

    /// Everything that is wrong with single delays, each with its place in the list. None for an empty list.
    #[must_use]
    pub fn problems(delays: &[String]) -> Vec<(usize, TiersError)> {
        read("", delays).1
    }

    /// Ascending by delay.
    pub fn iter(&self) -> impl Iterator<Item = &Tier> {
        self.0.iter()
    }

    /// The smallest.
    #[must_use]
    pub fn smallest(&self) -> &Tier {
        &self.0[0]
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> &Tier {
        &self.0[self.0.len() - 1]
    }

    /// How much a remainder may differ from `tier` and still count as it: 2 % of the tier, or a fifth of the smallest one where that is
    /// more.
    #[must_use]
    pub fn tolerance(&self, tier: &Tier) -> Duration {
        (tier.delay / 50).max(self.smallest().delay / 5)
    }

    /// Where a record goes that is due in `remaining`: into the largest tier not longer than that, with the tolerance that the module
    /// describes.
    pub fn place(&self, remaining: Duration) -> Place<'_> {
        if remaining <= self.tolerance(self.smallest()) {
            return Place::Due;
        }
        self.largest_within(remaining).map_or(Place::Hold, Place::Tier)
    }

    /// The tier for a record that has to go into one (a requeue, or a hold whose budget is full): as [`Self::place`], and
    /// the smallest where that says due or hold.
    #[must_use]
    pub fn tier_for(&self, remaining: Duration) -> &Tier {
        self.largest_within(remaining).unwrap_or(self.smallest())
    }

    fn largest_within(&self, remaining: Duration) -> Option<&Tier> {
        // `T − tolerance(T)` grows with `T`, so the first from above is the largest.
        self.0.iter().rev().find(|t| remaining >= t.delay.saturating_sub(self.tolerance(t)))
    }

    /// How many tiers a record passes that is due in `remaining`, with each hop on time: the placements until [`Self::place`] says due or
    /// hold, counted by division.
    #[must_use]
    pub fn hops(&self, remaining: Duration) -> u32 {
        u32::try_from(self.divided(remaining).0).unwrap_or(u32::MAX)
    }

    /// By how much `delay` may grow and still end with a hold in memory ([`Place::Hold`]); zero if it does not end so.
    #[must_use]
    pub fn room_in_hold(&self, delay: Duration) -> Duration {
        let left = Duration::from_micros(u64::try_from(self.divided(delay).1).unwrap_or_default());
        if self.place(left) == Place::Hold {
            let (smallest, tolerance) = (self.smallest().delay, self.tolerance(self.smallest()));
            smallest.saturating_sub(tolerance).saturating_sub(left)
        } else {
            Duration::ZERO
        }
    }

    /// `delay`, or one up to `latest` with fewer hops, the one with the fewest: looks only at `delay` rounded up to a multiple of each
    /// tier.
    #[must_use]
    pub fn fewest_hops(&self, delay: Duration, latest: Duration) -> Duration {
        let whole = self.0.iter().map(|tier| {
            let over = micros(delay).rem_euclid(micros(tier.delay));
            if over == 0 { delay } else { delay.saturating_add(tier.delay) - Duration::from_micros(over.unsigned_abs()) }
        });
        let choice = whole.filter(|whole| *whole <= latest);
        choice.min_by_key(|whole| (self.hops(*whole), *whole)).filter(|best| self.hops(*best) < self.hops(delay)).unwrap_or(delay)
    }

    /// The number of tiers that a record due in `remaining` passes, and the µs that are left then; below zero where the last tier
    /// overshoots.
    fn divided(&self, remaining: Duration) -> (i64, i64) {
        self.0.iter().rev().fold((0, micros(remaining)), |(hops, left), tier| {
            let times = self.times(tier, left).max(0);
            (hops + times, left - times * micros(tier.delay))
        })
    }

    /// How often in a row a record due in `left` µs goes into `tier`, while no larger tier takes it; negative where `left` is.
    fn times(&self, tier: &Tier, left: i64) -> i64 {
        left.saturating_add(micros(self.tolerance(tier))).div_euclid(micros(tier.delay))
    }
}

/// The tiers of `delays` in their order, without those that cannot be one.
fn read(prefix: &str, delays: &[String]) -> (Vec<Tier>, Vec<(usize, TiersError)>) {
    let (mut tiers, mut problems) = (Vec::<Tier>::with_capacity(delays.len()), Vec::new());
    for (at, text) in delays.iter().enumerate() {
        match parse_label(text).filter(|delay| *delay <= MAX_DELAY) {
            None => problems.push((at, TiersError::Bad(text.clone()))),
            Some(delay) => match tiers.iter().find(|tier| tier.delay == delay) {
                Some(earlier) => problems.push((at, TiersError::Repeated(text.clone(), earlier.label.to_string()))),
                None => tiers.push(Tier { delay, topic: topic(prefix, text).into(), label: text.as_str().into() }),
            },
        }
    }
    (tiers, problems)
}

/// `<prefix>.retry.<label>`.
fn topic(prefix: &str, label: &str) -> String {
    format!("{prefix}.retry.{label}")
}

/// The delay that a label names; whole milliseconds above zero, since timestamps of records are.
fn parse_label(label: &str) -> Option<Duration> {
    if label.is_empty() || !label.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
        return None;
    }
    humantime::parse_duration(label).ok().filter(|d| !d.is_zero() && d.subsec_nanos().is_multiple_of(1_000_000))
}

/// In µs, at most 285 thousand years: whatever is added to it afterwards fits.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 1024 * 1000)
}

/// The delay in a tier topic's name under `prefix`, and none when the name is no tier's. A name may say more than
/// [`MAX_DELAY`]: topics that exist are read, whatever may be configured today.
#[must_use]
pub fn delay_of_topic(prefix: &str, topic: &str) -> Option<Duration> {
    parse_label(topic.strip_prefix(prefix)?.strip_prefix(".retry.")?)
}

/// When a record appended at `append` to a tier of this `delay` is released: nothing else decides it.
#[must_use]
pub fn release(append: UnixMillis, delay: Duration) -> UnixMillis {
    append.plus(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(delays: &[&str]) -> Tiers {
        Tiers::new("callbackd", &delays.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn defaults() -> Tiers {
        tiers(&["5s", "1m", "10m", "1h", "6h"])
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The tiers passed, each hop late by `late`; and whether the end is a hold.
    fn way(tiers: &Tiers, mut remaining: Duration, late: Duration) -> (Vec<&str>, bool) {
        let mut labels = Vec::new();
        loop {
            match tiers.place(remaining) {
                Place::Due => return (labels, false),
                Place::Hold => return (labels, true),
                Place::Tier(tier) => {
                    labels.push(&*tier.label);
                    remaining = remaining.saturating_sub(tier.delay + late);
                }
            }
        }
    }

    #[test]
    fn tiers_are_sorted_and_named_as_written() {
        let tiers = tiers(&["6h", "500ms", "60s"]);
        let seen: Vec<_> = tiers.iter().map(|t| (t.delay.as_millis(), &*t.topic, &*t.label)).collect();
        assert_eq!(
            seen,
            [(500, "callbackd.retry.500ms", "500ms"), (60_000, "callbackd.retry.60s", "60s"), (21_600_000, "callbackd.retry.6h", "6h")]
        );
        assert_eq!((&*tiers.smallest().label, &*tiers.longest().label), ("500ms", "6h"));
    }

    #[test]
    fn delays_that_cannot_be_tiers_are_refused_by_name() {
        let new = |delays: &[&str]| Tiers::new("p", &delays.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>());
        assert_eq!(new(&[]), Err(TiersError::Empty));
        for bad in ["", "0s", "5", "s", "5 s", "5S", "-5s", "5s ", "1.5s", "8d", "7d1ms", "1us", "1500us", "5s/x", "99999999999999999999s"]
        {
            assert_eq!(new(&["1m", bad]), Err(TiersError::Bad(bad.to_owned())), "{bad:?}");
        }
        assert_eq!(new(&["1m", "60s"]), Err(TiersError::Repeated("60s".to_owned(), "1m".to_owned())));
        let all = Tiers::problems(&["1m", "8d", "5s", "60s", ""].map(String::from));
        assert_eq!(all.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(new(&["7d", "1ms", "1h30m"]).is_ok());
    }

    #[test]
    fn topic_names_tell_their_delay() {
        for (topic, delay) in [
            ("callbackd.retry.5s", Some(5_000)),
            ("callbackd.retry.1h30m", Some(5_400_000)),
            ("callbackd.retry.9d", Some(777_600_000)),
            ("callbackd.retry.", None),
            ("callbackd.retry.soon", None),
            ("callbackd.retry.5s.old", None),
            ("callbackd.replay", None),
            ("other.retry.5s", None),
            ("xcallbackd.retry.5s", None),
        ] {
            assert_eq!(delay_of_topic("callbackd", topic), delay.map(ms), "{topic}");
        }
        for tier in defaults().iter() {
            assert_eq!(delay_of_topic("callbackd", &tier.topic), Some(tier.delay));
        }
    }

    #[test]
    fn a_record_is_released_by_append_time_and_delay_alone() {
        assert_eq!(release(UnixMillis(1_000), ms(5_000)), UnixMillis(6_000));
    }

    #[test]
    fn the_tolerance_is_two_percent_or_a_fifth_of_the_smallest() {
        let tiers = defaults();
        let seen: Vec<_> = tiers.iter().map(|t| tiers.tolerance(t).as_millis()).collect();
        assert_eq!(seen, [1_000, 1_200, 12_000, 72_000, 432_000]);
    }

    #[test]
    fn a_remainder_that_is_held_may_grow_up_to_the_smallest_tier_and_nothing_else_becomes_one() {
        let tiers = defaults();
        for (delay, room) in
            [(5_000, 0), (6_000, 0), (6_001, 2_999), (8_000, 1_000), (8_999, 1), (9_000, 0), (10_000, 0), (13_000, 1_000), (60_000, 0)]
        {
            assert_eq!(tiers.room_in_hold(ms(delay)), ms(room), "{delay}");
            assert_eq!(tiers.hops(ms(delay + room.saturating_sub(1))), tiers.hops(ms(delay)), "{delay}");
        }
    }

    #[test]
    fn a_delay_that_may_be_longer_takes_the_fewest_hops_and_is_never_made_longer_for_nothing() {
        let tiers = defaults();
        for (delay, latest, expected) in [
            (5_000, 60_000, 5_000),
            (6_000, 20_000, 6_000),
            (15_000, 59_999, 15_000),
            (15_000, 60_000, 60_000),
            (37_500, 60_000, 60_000),
            (37_500, 0, 37_500),
            (60_000, 180_000, 60_000),
            (65_000, 119_999, 65_000),
            (95_000, 120_000, 120_000),
            (360_000, 600_000, 600_000),
            (18_000_000, 18_000_000, 18_000_000),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!(tiers.fewest_hops(ms(delay), ms(latest)), ms(expected), "{delay} to {latest}");
        }
        for delay in (5_000..1_000_000).step_by(777) {
            let found = tiers.fewest_hops(ms(delay), ms(3 * delay));
            assert!(found >= ms(delay) && found <= ms(3 * delay), "{delay}: {found:?}");
            assert!(tiers.hops(found) <= 4, "{delay}: {found:?}");
        }
    }

    #[test]
    fn edges_of_every_tier() {
        let tiers = defaults();
        for (remaining, expected) in [
            (0, "due"),
            (1_000, "due"),
            (1_001, "hold"),
            (3_999, "hold"),
            (4_000, "5s"),
            (58_799, "5s"),
            (58_800, "1m"),
            (587_999, "1m"),
            (588_000, "10m"),
            (3_527_999, "10m"),
            (3_528_000, "1h"),
            (21_167_999, "1h"),
            (21_168_000, "6h"),
            (604_800_000, "6h"),
        ] {
            let seen = match tiers.place(ms(remaining)) {
                Place::Due => "due",
                Place::Hold => "hold",
                Place::Tier(tier) => &tier.label,
            };
            assert_eq!(seen, expected, "{remaining} ms");
            let forced = if matches!(expected, "due" | "hold") { "5s" } else { expected };
            assert_eq!(&*tiers.tier_for(ms(remaining)).label, forced, "{remaining} ms");
        }
    }

    /// Delay in ms, tiers passed, hops, and whether a hold in memory ends it.
    const WAYS: [(u64, &str, u32, bool); 22] = [
        (5_000, "5s", 1, false),
        (7_000, "5s", 1, true),
        (9_000, "5s 5s", 2, false),
        (30_000, "5s 5s 5s 5s 5s 5s", 6, false),
        (59_000, "1m", 1, false),
        (60_000, "1m", 1, false),
        (61_000, "1m", 1, false),
        (62_000, "1m", 1, true),
        (64_000, "1m 5s", 2, false),
        (120_000, "1m 1m", 2, false),
        (300_000, "1m 1m 1m 1m 1m", 5, false),
        (590_000, "10m", 1, false),
        (1_800_000, "10m 10m 10m", 3, false),
        (3_540_000, "1h", 1, false),
        (7_200_000, "1h 1h", 2, false),
        (18_000_000, "1h 1h 1h 1h 1h", 5, false),
        (21_200_000, "6h", 1, false),
        (36_000_000, "6h 1h 1h 1h 1h", 5, false),
        (50_400_000, "6h 6h 1h 1h", 4, false),
        (72_000_000, "6h 6h 6h 1h 1h", 5, false),
        (86_400_000, "6h 6h 6h 6h", 4, false),
        (86_000_000, "6h 6h 6h 6h", 4, false),
    ];

    #[test]
    fn the_way_of_a_delay_through_the_default_tiers() {
        let tiers = defaults();
        for (delay, labels, hops, held) in WAYS {
            let (passed, end) = way(&tiers, ms(delay), Duration::ZERO);
            assert_eq!((passed.join(" ").as_str(), end), (labels, held), "{delay} ms");
            assert_eq!(tiers.hops(ms(delay)), hops, "{delay} ms");
        }
    }

    #[test]
    fn the_schedules_of_both_policies_take_at_most_six_hops_even_when_every_hop_is_late() {
        use super::super::policy::Policy;
        let tiers = defaults();
        let hops = |policy: &Policy| policy.delays.iter().map(|d| tiers.hops(*d)).collect::<Vec<_>>();
        assert_eq!(hops(&Policy::css()), [1]);
        assert_eq!(hops(&Policy::standard()), [1, 5, 3, 2, 5, 5, 4, 5, 4]);
        for delay in Policy::css().delays.iter().chain(&Policy::standard().delays) {
            let on_time = way(&tiers, *delay, Duration::ZERO).0;
            assert_eq!(way(&tiers, *delay, ms(150)).0, on_time, "{delay:?}");
        }
    }

    #[test]
    fn no_delay_up_to_a_day_takes_more_than_35_hops() {
        let tiers = defaults();
        let (mut most, mut at) = (0, 0);
        for second in 0..=86_400 {
            let hops = tiers.hops(ms(second * 1_000));
            if hops > most {
                (most, at) = (hops, second);
            }
        }
        assert_eq!((most, at), (31, 85_734));
        assert!(most <= 35);
    }

    #[test]
    fn hops_count_what_placing_again_and_again_does() {
        for set in [&["5s", "1m", "10m", "1h", "6h"][..], &["100ms"], &["200ms", "1s", "3s"], &["5s", "5100ms", "7s"], &["1ms", "1s"]] {
            let tiers = tiers(set);
            for step in 0..4_000_u64 {
                let remaining = ms(step * step % 7_919 * 13 + step);
                assert_eq!(tiers.hops(remaining) as usize, way(&tiers, remaining, Duration::ZERO).0.len(), "{set:?} {remaining:?}");
            }
        }
        assert_eq!(tiers(&["1ms"]).hops(Duration::MAX), u32::MAX);
    }
}
