//! The oldest undelivered event, of all and of each domain, as far as this process saw (observability reference, "What Kafka alone cannot
//! tell"): what was requeued within the last turn of its tier. The engine adds what waits in memory.

use crate::domain::id::DomainName;
use crate::domain::time::UnixMillis;
use std::collections::HashMap;
use std::time::Duration;

/// Oldest source time by domain; events whose domain could not be read stand under `None`.
pub type ByDomain = HashMap<Option<DomainName>, UnixMillis>;

/// Since when an event is undelivered: its source time, which a header or an upstream's clock may tell wrong, or else our first append of it.
/// Neither before 2010 is believed (one record without a time would make everybody's oldest), nor a source time behind our first append.
#[must_use]
pub fn undelivered_since(source_time: UnixMillis, since: Option<UnixMillis>) -> Option<UnixMillis> {
    [Some(source_time), since].into_iter().flatten().filter(|time| *time >= UnixMillis::FIRST_PLAUSIBLE).min()
}

/// Notes an event of `domain` and `source_time`.
pub fn note(oldest: &mut ByDomain, domain: Option<&DomainName>, source_time: UnixMillis) {
    match oldest.get_mut(&domain.cloned()) {
        Some(known) => *known = source_time.min(*known),
        None => {
            oldest.insert(domain.cloned(), source_time);
        }
    }
}

/// The oldest events put into one tier, in this turn of the tier and in the one before.
#[derive(Debug)]
struct Turn {
    length: Duration,
    began: Duration,
    this: ByDomain,
    before: ByDomain,
}

/// The oldest of what waits in the tiers.
#[derive(Debug, Default)]
pub struct Oldest(Vec<Turn>);

impl Oldest {
    /// For tiers of these delays.
    #[must_use]
    pub fn new(delays: impl IntoIterator<Item = Duration>) -> Self {
        let turn = |length| Turn { length, began: Duration::ZERO, this: ByDomain::new(), before: ByDomain::new() };
        Self(delays.into_iter().map(turn).collect())
    }

    /// An event of `domain` and `source_time` went into the tier of `delay`.
    pub fn requeued(&mut self, delay: Duration, domain: Option<&DomainName>, source_time: UnixMillis, now: Duration) {
        self.turn(now);
        if let Some(turn) = self.0.iter_mut().find(|t| t.length == delay) {
            note(&mut turn.this, domain, source_time);
        }
    }

    /// The oldest source times that may still wait in a tier, by domain.
    #[must_use]
    pub fn by_domain(&mut self, now: Duration) -> ByDomain {
        self.turn(now);
        let mut oldest = ByDomain::new();
        for (domain, source_time) in self.0.iter().flat_map(|t| t.this.iter().chain(&t.before)) {
            note(&mut oldest, domain.as_ref(), *source_time);
        }
        oldest
    }

    fn turn(&mut self, now: Duration) {
        for turn in &mut self.0 {
            let passed = now.saturating_sub(turn.began);
            if passed >= turn.length {
                let ended = std::mem::take(&mut turn.this);
                turn.before = if passed < turn.length * 2 { ended } else { ByDomain::new() };
                turn.began = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_time_that_cannot_be_counts_for_nothing() {
        let (real, forged, since) = (UnixMillis(1_760_000_000_000), UnixMillis(-1), UnixMillis(1_795_435_230_000));
        assert_eq!(undelivered_since(real, Some(since)), Some(real));
        assert_eq!(undelivered_since(UnixMillis(i64::MAX), Some(since)), Some(since));
        for forged in [forged, UnixMillis(1), UnixMillis(0)] {
            assert_eq!(undelivered_since(forged, Some(since)), Some(since));
            assert_eq!(undelivered_since(forged, None), None);
        }
    }

    #[test]
    fn what_went_into_a_tier_counts_for_its_turn_and_no_longer_than_two() {
        let secs = Duration::from_secs;
        let a = DomainName::parse("a.example");
        let of = |oldest: &mut Oldest, now| oldest.by_domain(secs(now)).get(&a).copied();
        let mut oldest = Oldest::new([secs(10), secs(100)]);
        assert_eq!(of(&mut oldest, 1), None);
        oldest.requeued(secs(10), a.as_ref(), UnixMillis(500), secs(1));
        oldest.requeued(secs(100), a.as_ref(), UnixMillis(700), secs(2));
        oldest.requeued(secs(100), None, UnixMillis(100), secs(2));
        assert_eq!(of(&mut oldest, 11), Some(UnixMillis(500)));
        assert_eq!(of(&mut oldest, 25), Some(UnixMillis(700)), "the small tier has turned twice");
        assert_eq!(oldest.by_domain(secs(26)).get(&None), Some(&UnixMillis(100)));
        assert!(oldest.by_domain(secs(300)).is_empty());
    }
}
