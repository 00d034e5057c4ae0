//! Jitter: a delay drawn from a band, among those that take few hops.
//!
//! Most delays of a wide band take 10 to 30 hops (23 h 17 m 42 s is three times 6 h and twenty-odd more), and every hop is
//! an append. So the draw is over the parts of the band that take at most [`JITTER_HOPS`], found exactly by walking the
//! tiers from the longest down; uniform over their total length. Drawing first and moving to the nearest good delay was
//! refused: it piles the retries of many records up at the edges, which jitter is there to prevent.
//!
//! Hops arrive late. A part therefore begins half a tolerance inside what would count on paper, so that a drawn delay
//! keeps its hops while they are late by less than that together.

use super::{JITTER_HOPS, Tier, Tiers, micros};
use std::time::Duration;

/// With more tiers than this the parts are too many to list, but so dense that trying some delays finds a good one sooner.
const FEW_TIERS: usize = 8;
/// Delays that are tried before the parts are walked after all.
const TRIES: u32 = 64;
/// The walk ends with this many parts, so that no configuration makes a draw slow; eight tiers rarely get there.
const MAX_PARTS: usize = 512;

/// How much of the tolerance before a tier's delay belongs to a part.
#[derive(Clone, Copy)]
enum Edge {
    /// Half: there is room for late hops.
    Roomy,
    /// All: where nothing roomy is in the band.
    Exact,
}

/// Delays in µs, both ends included.
type Span = (i64, i64);

impl Tiers {
    /// A delay from `delay` ± `jitter` (0.0–1.0): drawn from those in its band that take at most 6 hops, else from the fewest;
    /// never below the smallest tier. `draw` is uniform in 0.0..1.0 and decides alone.
    #[must_use]
    pub fn jittered(&self, delay: Duration, jitter: f64, draw: f64) -> Duration {
        let smallest = micros(self.smallest().delay);
        let middle = micros(delay);
        // A float to integer cast saturates, and makes 0 of NaN.
        let spread = (middle as f64 * jitter.clamp(0.0, 1.0)) as i64;
        let low = (middle - spread).max(smallest);
        let band = (low, (middle + spread).max(low));
        if band.0 == band.1 {
            return span_at(band, 0.0);
        }
        let budget = i64::from(JITTER_HOPS).max(self.fewest(&self.0, band));
        if self.0.len() > FEW_TIERS {
            // Steps of the golden ratio spread over the band from wherever the draw begins.
            let tries = (0..TRIES).map(|n| span_at(band, (draw + f64::from(n) * 0.618_033_988_749_895).fract()));
            if let Some(found) = tries.into_iter().find(|d| i64::from(self.hops(*d)) <= budget) {
                return found;
            }
        }
        let mut parts = Vec::new();
        for edge in [Edge::Roomy, Edge::Exact] {
            self.parts(&self.0, band, 0, budget, edge, &mut parts);
            if !parts.is_empty() {
                break;
            }
        }
        let total: i64 = parts.iter().map(|(from, to)| to - from + 1).sum();
        let mut offset = ((draw.clamp(0.0, 1.0) * total as f64) as i64).min(total - 1);
        for (from, to) in parts {
            let length = to - from + 1;
            if offset < length {
                return from_micros(from + offset);
            }
            offset -= length;
        }
        from_micros(middle.max(smallest))
    }

    /// The fewest hops that any delay in `span` takes through `tiers` (a prefix of ours).
    fn fewest(&self, tiers: &[Tier], (low, high): Span) -> i64 {
        let Some((tier, smaller)) = tiers.split_last() else { return 0 };
        let delay = micros(tier.delay);
        let times = self.times(tier, low).max(0);
        let below = (times + 1) * delay - micros(self.tolerance(tier));
        let here = times + self.fewest(smaller, (low - times * delay, high.min(below - 1) - times * delay));
        // One more turn of this tier is within the span: then so is a delay that ends with it.
        if high >= below { here.min(times + 1) } else { here }
    }

    /// Adds to `found` the parts of `base + span` whose way through `tiers` (a prefix of ours) takes at most `budget` hops.
    fn parts(&self, tiers: &[Tier], (low, high): Span, base: i64, budget: i64, edge: Edge, found: &mut Vec<Span>) {
        let Some((tier, smaller)) = tiers.split_last() else {
            found.push((base + low, base + high));
            return;
        };
        let (delay, tolerance) = (micros(tier.delay), micros(self.tolerance(tier)));
        let inside = match edge {
            Edge::Roomy => tolerance / 2,
            Edge::Exact => tolerance,
        };
        for times in self.times(tier, low).max(0)..=self.times(tier, high).max(0).min(budget) {
            let begin = if times == 0 { low } else { low.max(times * delay - inside) };
            let end = high.min((times + 1) * delay - tolerance - 1);
            let span = (begin - times * delay, end - times * delay);
            if found.len() < MAX_PARTS && begin <= end && self.fewest(smaller, span) <= budget - times {
                self.parts(smaller, span, base + times * delay, budget - times, edge, found);
            }
        }
    }
}

fn span_at((low, high): Span, share: f64) -> Duration {
    from_micros(low + ((high - low) as f64 * share.clamp(0.0, 1.0)) as i64)
}

fn from_micros(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::super::super::policy::Policy;
    use super::*;

    fn tiers(delays: &[&str]) -> Tiers {
        Tiers::new("callbackd", &delays.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn defaults() -> Tiers {
        tiers(&["5s", "1m", "10m", "1h", "6h"])
    }

    fn draws() -> impl Iterator<Item = f64> {
        (0..1_000).map(|n| f64::from(n) / 1_000.0)
    }

    #[test]
    fn every_drawn_delay_of_the_standard_schedule_is_in_its_band_and_takes_at_most_six_hops_also_when_late() {
        let tiers = defaults();
        for delay in Policy::standard().delays {
            for draw in draws() {
                let drawn = tiers.jittered(delay, 0.2, draw);
                assert!(drawn >= delay.mul_f64(0.8).max(tiers.smallest().delay) && drawn <= delay.mul_f64(1.2), "{delay:?} {drawn:?}");
                assert!(tiers.hops(drawn) <= 6, "{delay:?} {drawn:?}");
                assert!(tiers.hops(drawn - Duration::from_millis(400)) <= 6, "{delay:?} {drawn:?} late");
            }
        }
    }

    #[test]
    fn draws_cover_their_band_and_do_not_pile_up() {
        let tiers = defaults();
        for delay in Policy::standard().delays {
            let mut drawn: Vec<_> = draws().map(|draw| tiers.jittered(delay, 0.2, draw)).collect();
            assert!(drawn.is_sorted());
            drawn.dedup();
            assert_eq!(drawn.len(), 1_000, "{delay:?}");
        }
    }

    #[test]
    fn a_band_without_a_short_way_gives_the_fewest_hops() {
        let tiers = tiers(&["5s"]);
        // 48 s to 72 s: 48 s is nine times 5 s and a hold of 3 s.
        for draw in draws() {
            let drawn = tiers.jittered(Duration::from_secs(60), 0.2, draw);
            assert_eq!(tiers.hops(drawn), 9, "{drawn:?}");
            assert!((48_000..49_000).contains(&drawn.as_millis()), "{drawn:?}");
        }
    }

    #[test]
    fn the_fewest_hops_of_a_band_are_those_of_its_best_second() {
        let tiers = defaults();
        for (low, high) in
            [(5, 6), (31, 34), (46, 53), (61, 3_000), (86_000, 86_100), (35_100, 35_500), (20_000, 21_167), (600_000, 601_000)]
        {
            let best = (low * 10..=high * 10).map(|n| tiers.hops(Duration::from_millis(n * 100))).min().unwrap();
            assert_eq!(tiers.fewest(&tiers.0, (low as i64 * 1_000_000, high as i64 * 1_000_000)), i64::from(best), "{low}-{high}");
        }
    }

    #[test]
    fn a_fixed_delay_stays_what_it_is_and_a_short_one_is_raised_to_the_smallest_tier() {
        let tiers = defaults();
        let secs = Duration::from_secs;
        for (delay, jitter, expected) in [
            (secs(60), 0.0, secs(60)),
            (secs(47), 0.0, secs(47)),
            (secs(1), 0.0, secs(5)),
            (Duration::ZERO, 0.0, secs(5)),
            (secs(3), 0.2, secs(5)),
            (secs(60), f64::NAN, secs(60)),
        ] {
            assert_eq!(tiers.jittered(delay, jitter, 0.7), expected, "{delay:?}");
        }
    }

    #[test]
    fn any_draw_any_band_and_any_tiers_give_a_delay_in_the_band() {
        let many = ["1s", "2s", "5s", "10s", "20s", "30s", "1m", "2m", "5m", "10m", "20m", "30m", "1h", "2h", "6h", "12h", "1d", "2d"];
        for set in [&many[..], &["100ms"], &["1h"], &["5s", "5100ms"], &["1ms", "7d"]] {
            let tiers = tiers(set);
            for delay in [1, 5, 61, 3_599, 7_300, 86_399, 604_800].map(Duration::from_secs) {
                for jitter in [0.001, 0.2, 1.0] {
                    for draw in [-1.0, 0.0, 0.25, 0.5, 0.999_999, 1.0, f64::NAN] {
                        let drawn = tiers.jittered(delay, jitter, draw);
                        let low = delay.mul_f64(1.0 - jitter).max(tiers.smallest().delay);
                        assert!(drawn + Duration::from_micros(2) >= low, "{set:?} {delay:?} {jitter} {draw}: {drawn:?}");
                        assert!(
                            drawn <= delay.mul_f64(1.0 + jitter).max(low) + Duration::from_micros(2),
                            "{set:?} {delay:?} {jitter} {draw}: {drawn:?}"
                        );
                    }
                }
            }
        }
    }
}
