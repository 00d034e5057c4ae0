//! Run lengths as bits: Rice codes with an escape.
//!
//! Unfinished and finished runs alternate, so only lengths are written. A length `n` is written as `v = n − 1` under a
//! parameter `k`: `v >> k` in unary, then the low `k` bits of `v`; with `k = 0` that is a bitmap, one bit an offset. From a
//! quotient of [`ESCAPE`] on: `ESCAPE` ones, six bits of bit length, then `v`, so that one wide gap costs at most
//! 32 + 6 + 63 bits. Each of the two kinds has its own `k`, the cheapest of all. Byte-wise varints were refused (twice the
//! size at best, sixteen times for alternating offsets).

/// Quotient from which a length is written in full.
const ESCAPE: u64 = 32;

/// Largest parameter; runs beyond 2^40 offsets do not need more.
pub(super) const MAX_PARAMETER: u32 = 40;

/// Bits that `v` takes under `k`.
fn cost(v: u64, k: u32) -> u64 {
    let quotient = v >> k;
    if quotient < ESCAPE { quotient + 1 + u64::from(k) } else { ESCAPE + 6 + u64::from(bit_length(v)) }
}

/// Significant bits of `v`.
const fn bit_length(v: u64) -> u32 {
    u64::BITS - v.leading_zeros()
}

/// The parameter under which these values take the fewest bits.
pub(super) fn best_parameter(values: &[u64]) -> u32 {
    let top = values.iter().max().map_or(0, |&v| bit_length(v)).min(MAX_PARAMETER);
    (0..=top).min_by_key(|&k| values.iter().map(|&v| cost(v, k)).sum::<u64>()).unwrap_or(0)
}

/// An upper bound of the bits that any map over `span` offsets takes whose unfinished offsets are among `unfinished` ones,
/// whichever of them finish until then.
///
/// A value of quotient `q` costs at most `k + 1 + q · 11/8`: below the escape `k + 1 + q`; an escape costs
/// `38 + k + bit_length(q)`, which is at most 11 more than `k + 1 + q`, and that only for `q ≥ 32`. The encoder takes the best
/// parameters, so any choice bounds it:
/// - both 0, a bitmap: `span · 11/8`;
/// - 0 for unfinished runs, together at most `unfinished` offsets, and `k` for finished ones, of which there is at most one
///   more: `unfinished · 11/8 + (unfinished + 1)(k + 1) + (span >> k) · 11/8`.
///
/// Two bits more: the first run is written as `n`, as it may be empty, and divisions round down.
pub(super) fn bound(unfinished: u64, span: u64) -> u64 {
    let k = (span / unfinished.max(1)).max(1).ilog2().min(MAX_PARAMETER);
    let eighths = |n: u64| n.saturating_add(n / 8 * 3).saturating_add(3);
    let dense = eighths(span);
    let sparse = eighths(unfinished)
        .saturating_add(unfinished.saturating_add(1).saturating_mul(u64::from(k) + 1))
        .saturating_add(eighths(span >> k));
    dense.min(sparse).saturating_add(2)
}

/// Writes bits, the most significant first.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Bits used in the last byte; 0 when it is full or there is none.
    used: u32,
}

impl Writer {
    fn bit(&mut self, bit: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.used);
        }
        self.used = (self.used + 1) % 8;
    }

    fn bits(&mut self, value: u64, count: u32) {
        for place in (0..count).rev() {
            self.bit(value >> place & 1 == 1);
        }
    }

    /// Appends `v` (below 2^63) under `k`.
    pub(super) fn value(&mut self, v: u64, k: u32) {
        let quotient = v >> k;
        for _ in 0..quotient.min(ESCAPE) {
            self.bit(true);
        }
        if quotient < ESCAPE {
            self.bit(false);
            self.bits(v, k);
        } else {
            self.bits(u64::from(bit_length(v)), 6);
            self.bits(v, bit_length(v));
        }
    }

    /// The bytes; what is left of the last one is zero.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what [`Writer`] wrote.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// From the first bit of `bytes`.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        Some(bit)
    }

    fn bits(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u64::from(self.bit()?);
        }
        Some(value)
    }

    /// The next value; `None` when the bits end before it does or it was not written by [`Writer`].
    pub(super) fn value(&mut self, k: u32) -> Option<u64> {
        let mut quotient = 0;
        while quotient < ESCAPE && self.bit()? {
            quotient += 1;
        }
        if quotient < ESCAPE {
            return Some(quotient << k | self.bits(k)?);
        }
        let length = u32::try_from(self.bits(6)?).ok()?;
        let v = self.bits(length)?;
        (bit_length(v) == length && v >> k >= ESCAPE).then_some(v)
    }

    /// Whether only the padding of the last byte is left, and that is zero.
    pub(super) fn ends_here(mut self) -> bool {
        let left = self.bytes.len() * 8 - self.at;
        left < 8 && (0..left).all(|_| self.bit() == Some(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_bits_that_the_table_says() {
        #[rustfmt::skip]
        let table: &[(u64, u32, &str)] = &[
            (0,  0, "0"),
            (1,  0, "10"),
            (5,  0, "111110"),
            (0,  2, "000"),
            (3,  2, "011"),
            (4,  2, "1000"),
            (31, 0, "11111111111111111111111111111110"),
            (32, 0, "11111111111111111111111111111111000110100000"),
            (64, 1, "111111111111111111111111111111110001111000000"),
        ];
        for &(v, k, expected) in table {
            let mut writer = Writer::default();
            writer.value(v, k);
            let bytes = writer.into_bytes();
            let text: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
            assert_eq!(&text[..expected.len()], expected, "{v} under {k}");
            assert!(text[expected.len()..].bytes().all(|bit| bit == b'0'));
            assert_eq!(cost(v, k), expected.len() as u64, "{v} under {k}");
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.value(k), Some(v));
            assert!(reader.ends_here());
        }
    }

    #[test]
    fn extreme_values_come_back() {
        for v in [0, 1, 63, 64, u64::from(u32::MAX), (1 << 62) - 1, (1 << 63) - 1] {
            for k in [0, 1, 7, MAX_PARAMETER] {
                let mut writer = Writer::default();
                writer.value(v, k);
                assert_eq!(Reader::new(&writer.into_bytes()).value(k), Some(v), "{v} under {k}");
            }
        }
    }

    #[test]
    fn the_bound_holds_for_regular_patterns_of_every_density() {
        for unfinished_run in [1_u64, 2, 3, 31, 33, 34, 40, 100] {
            for finished_run in [1_u64, 2, 3, 33, 34, 64, 65, 1000, 70_000] {
                for pairs in [1_u64, 2, 10, 500] {
                    let u = vec![unfinished_run - 1; usize::try_from(pairs).unwrap()];
                    let f = vec![finished_run - 1; usize::try_from(pairs).unwrap()];
                    let bits: u64 = [u, f]
                        .iter()
                        .map(|values| {
                            let k = best_parameter(values);
                            values.iter().map(|&v| cost(v, k)).sum::<u64>()
                        })
                        .sum();
                    let bound = bound(unfinished_run * pairs, (unfinished_run + finished_run) * pairs);
                    assert!(bits <= bound, "{unfinished_run} {finished_run} {pairs}: {bits} > {bound}");
                }
            }
        }
    }
}
