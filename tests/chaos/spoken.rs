//! What a commit speaks of: a reader of the offset map of its own, from the format's description at `domain::offsets::map` and `runs`. The
//! checker believes no code of what it checks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::ops::Range;

/// Ones from which a length is written in full.
const ESCAPE: u32 = 32;

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<i64> {
        (0..count).try_fold(0_i64, |value, _| {
            let bit = self.bytes.get(self.at / 8)? >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | i64::from(bit))
        })
    }

    /// A Rice code with this parameter.
    fn length(&mut self, parameter: u32) -> Option<i64> {
        let mut ones = 0;
        while ones < ESCAPE && self.take(1)? == 1 {
            ones += 1;
        }
        if ones == ESCAPE {
            let width = self.take(6)?;
            return self.take(width as u32);
        }
        Some(i64::from(ones) << parameter | self.take(parameter)?)
    }
}

fn leb128(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

/// The offsets from `committed` on that the commit's metadata names finished, ascending; `None` for a text that is no map.
pub(crate) fn finished(committed: i64, metadata: &str) -> Option<Vec<Range<i64>>> {
    if metadata.is_empty() {
        return Some(Vec::new());
    }
    let bytes = URL_SAFE_NO_PAD.decode(metadata.strip_prefix("1:")?).ok()?;
    let mut rest = bytes.get(4..)?.iter().copied();
    // base; first: offset, timestamp, length; last: offset, timestamp, length; pairs
    let head: Vec<u64> = (0..8).map(|_| leb128(&mut rest)).collect::<Option<_>>()?;
    let parameters = [u32::from(rest.next()?), u32::from(rest.next()?)];
    let runs: Vec<u8> = rest.collect();
    let (base, mut bits) = (i64::try_from(head[0]).ok()?, Bits { bytes: &runs, at: 0 });
    let mut at = base;
    let ranges = (0..head[7]).map(|pair| {
        let start = at + bits.length(parameters[0])? + i64::from(pair > 0);
        at = start + bits.length(parameters[1])? + 1;
        Some(start..at)
    });
    let ranges = ranges.collect::<Option<_>>()?;
    (base == committed).then_some(ranges)
}

#[test]
#[allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]
fn texts_are_read_as_their_writer_meant_them() {
    for (committed, text, expected) in [
        (7, "", vec![]),
        (0, "1:0UE-lwABAAAAAAABAACA", vec![1..2]),
        (10, "1:8bKs7goBlqCr_vliCwgQEwIAAYcA", vec![11..12, 13..20]),
        (10, "1:Xk5PzAoCmKCr_vliDAAADAEAAGA", vec![10..13]),
        (1_000_000, "1:LMvoRcCEPfQD6LCl__li9AOMoOgDmMDQBwACBxXugAAAAHaEAoA", vec![1_000_500..1_000_501, 1_000_502..9_000_001]),
    ] {
        assert_eq!(finished(committed, text), Some(expected), "{text}");
    }
    assert_eq!(finished(9, "1:Xk5PzAoCmKCr_vliDAAADAEAAGA"), None, "the map of another offset");
    assert_eq!(finished(0, "2:0UE-lwABAAAAAAABAACA"), None);
}
