//! The oldest undelivered event, as far as this process saw (observability reference, "What Kafka alone cannot tell"): what is in memory,
//! and what was requeued within the last turn of its tier.

use crate::domain::time::UnixMillis;
use std::time::Duration;

/// The oldest source time put into one tier, in this turn of the tier and the one before.
#[derive(Clone, Copy, Debug)]
struct Turn {
    length: Duration,
    began: Duration,
    this: Option<UnixMillis>,
    before: Option<UnixMillis>,
}

/// The oldest of what waits in the tiers.
#[derive(Debug, Default)]
pub struct Oldest(Vec<Turn>);

impl Oldest {
    /// For tiers of these delays.
    #[must_use]
    pub fn new(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self(delays.into_iter().map(|length| Turn { length, began: Duration::ZERO, this: None, before: None }).collect())
    }

    /// An event of `source_time` went into the tier of `delay`.
    pub fn requeued(&mut self, delay: Duration, source_time: UnixMillis, now: Duration) {
        self.turn(now);
        if let Some(turn) = self.0.iter_mut().find(|t| t.length == delay) {
            turn.this = Some(turn.this.map_or(source_time, |t| t.min(source_time)));
        }
    }

    /// The oldest source time that may still wait in a tier.
    #[must_use]
    pub fn get(&mut self, now: Duration) -> Option<UnixMillis> {
        self.turn(now);
        self.0.iter().flat_map(|t| [t.this, t.before]).flatten().min()
    }

    fn turn(&mut self, now: Duration) {
        for turn in &mut self.0 {
            let passed = now.saturating_sub(turn.began);
            if passed >= turn.length {
                turn.before = if passed < turn.length * 2 { turn.this } else { None };
                turn.this = None;
                turn.began = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_into_a_tier_counts_for_its_turn_and_no_longer_than_two() {
        let secs = Duration::from_secs;
        let mut oldest = Oldest::new([secs(10), secs(100)]);
        assert_eq!(oldest.get(secs(1)), None);
        oldest.requeued(secs(10), UnixMillis(500), secs(1));
        oldest.requeued(secs(100), UnixMillis(700), secs(2));
        assert_eq!(oldest.get(secs(11)), Some(UnixMillis(500)));
        assert_eq!(oldest.get(secs(25)), Some(UnixMillis(700)), "the small tier has turned twice");
        assert_eq!(oldest.get(secs(300)), None);
    }
}
