//! The text of a map: what stands in a commit's metadata.
//!
//! ```text
//! "1:" base64url( crc32 of the rest, 4 bytes, big-endian
//!                 base, first (offset − base, timestamp, length), last (offset − first, timestamp − first's, length),
//!                 number of pairs                       as LEB128, timestamps zigzag
//!                 parameter of unfinished runs, of finished runs      1 byte each
//!                 pairs of an unfinished and a finished run           see `runs`; only the first unfinished run may be empty )
//! ```
//!
//! Everything from `base` to the last finished offset is in one of the runs; offsets that never were a record count as
//! finished (design §10). Readers know version N and N−1; there is no version before 1.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::runs::{self, MAX_PARAMETER, Reader, Writer};
use super::{Fingerprint, MAX_METADATA, MapError, UnixMillis};

/// The version that is written.
const VERSION: &str = "1:";

/// Bytes before the runs, at most: checksum 4; base, two deltas, two timestamps 10 each; two lengths 5 each; pairs 3; parameters 2.
const HEAD: u64 = 4 + 5 * 10 + 2 * 5 + 3 + 2;

/// How many bits of runs fit into `characters` of metadata beside the longest head: base64url has 3 bytes for 4 characters.
pub(super) const fn room(characters: u64) -> u64 {
    ((characters - VERSION.len() as u64) * 3 / 4 - HEAD) * 8
}

/// A finished record, with what recognises it when it is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: i64,
    pub(super) print: Fingerprint,
}

/// What is finished above a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// The committed offset.
    pub(super) base: i64,
    /// The lowest finished record.
    pub(super) first: Mark,
    /// The highest finished record.
    pub(super) last: Mark,
    /// Finished offsets at or above `base`: ascending, neither empty nor touching; the last ends after `last`.
    pub(super) finished: Vec<Range<i64>>,
}

impl Map {
    /// Whether `offset` counts as finished.
    pub(super) fn contains(&self, offset: i64) -> bool {
        let at = self.finished.partition_point(|range| range.end <= offset);
        self.finished.get(at).is_some_and(|range| range.start <= offset)
    }

    /// How many offsets below the last are not finished.
    pub(super) fn unfinished(&self) -> u64 {
        let finished: u64 = self.finished.iter().map(|range| range.start.abs_diff(range.end)).sum();
        (self.base.abs_diff(self.last.offset) + 1).saturating_sub(finished)
    }

    /// The text.
    pub(super) fn encode(&self) -> String {
        let mut unfinished = Vec::with_capacity(self.finished.len());
        let mut finished = Vec::with_capacity(self.finished.len());
        let mut at = self.base;
        for range in &self.finished {
            unfinished.push(at.abs_diff(range.start) - u64::from(!unfinished.is_empty()));
            finished.push(range.start.abs_diff(range.end) - 1);
            at = range.end;
        }
        let parameters = [runs::best_parameter(&unfinished), runs::best_parameter(&finished)];

        let mut bytes = vec![0; 4];
        put(&mut bytes, self.base.unsigned_abs());
        put(&mut bytes, self.base.abs_diff(self.first.offset));
        put(&mut bytes, zigzag(self.first.print.timestamp.0));
        put(&mut bytes, u64::from(self.first.print.length));
        put(&mut bytes, self.first.offset.abs_diff(self.last.offset));
        put(&mut bytes, zigzag(self.last.print.timestamp.0.wrapping_sub(self.first.print.timestamp.0)));
        put(&mut bytes, u64::from(self.last.print.length));
        put(&mut bytes, finished.len() as u64);
        // The best parameter is at most 40: one byte.
        bytes.extend(parameters.map(|k| k as u8));
        let mut writer = Writer::default();
        for (u, f) in unfinished.into_iter().zip(finished) {
            writer.value(u, parameters[0]);
            writer.value(f, parameters[1]);
        }
        bytes.extend(writer.into_bytes());
        let sum = crc32(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_be_bytes());

        let mut text = String::from(VERSION);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
        text
    }

    /// Reads a text found with the commit of `committed`. Allocates no more than some times the text's length.
    ///
    /// # Errors
    /// [`MapError`], for every text that [`Map::encode`] does not write for this offset.
    pub(super) fn decode(text: &str, committed: i64) -> Result<Self, MapError> {
        use MapError::Corrupt;
        if text.len() > MAX_METADATA {
            return Err(Corrupt("too long"));
        }
        let text = text.strip_prefix(VERSION).ok_or(MapError::Version)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Corrupt("not base64url"))?;
        let (sum, mut rest) = bytes.split_first_chunk::<4>().ok_or(Corrupt("too short"))?;
        if crc32(rest) != u32::from_be_bytes(*sum) {
            return Err(Corrupt("checksum"));
        }
        let rest = &mut rest;
        let base = take_offset(rest, 0)?;
        if base != committed {
            return Err(MapError::Base { base, committed });
        }
        let offset = take_offset(rest, base)?;
        let first = Mark { offset, print: take_print(rest, 0)? };
        let offset = take_offset(rest, first.offset)?;
        let last = Mark { offset, print: take_print(rest, first.print.timestamp.0)? };
        let pairs = take(rest)?;
        let (&[k_unfinished, k_finished], bits) = rest.split_first_chunk::<2>().ok_or(Corrupt("too short"))?;
        let parameters = [u32::from(k_unfinished), u32::from(k_finished)];
        // A pair takes two bits at least.
        if parameters.iter().any(|&k| k > MAX_PARAMETER) || pairs == 0 || pairs > bits.len() as u64 * 4 {
            return Err(Corrupt("runs"));
        }

        let mut reader = Reader::new(bits);
        let mut finished = Vec::new();
        let mut at = base;
        for pair in 0..pairs {
            let mut run = |k, more| step(at, reader.value(k)?, more).inspect(|&end| at = end);
            let start = run(parameters[0], u64::from(pair > 0)).ok_or(Corrupt("runs"))?;
            let end = run(parameters[1], 1).ok_or(Corrupt("runs"))?;
            finished.push(start..end);
        }
        if !reader.ends_here() {
            return Err(Corrupt("runs"));
        }
        let map = Self { base, first, last, finished };
        // The checks of what the reader of a map relies on.
        let same = first.offset != last.offset || first.print == last.print;
        if at.checked_sub(1) != Some(last.offset) || !map.contains(first.offset) || !same {
            return Err(Corrupt("fingerprints"));
        }
        Ok(map)
    }
}

/// `at + v + more`, if that is an offset that can have a next one.
fn step(at: i64, v: u64, more: u64) -> Option<i64> {
    at.checked_add_unsigned(v.checked_add(more)?).filter(|&end| end < i64::MAX)
}

const fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63).cast_unsigned()
}

const fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

/// Appends LEB128.
fn put(bytes: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

/// Takes LEB128, at most ten bytes.
fn take(bytes: &mut &[u8]) -> Result<u64, MapError> {
    let mut n = 0_u64;
    for place in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(MapError::Corrupt("too short"))?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if low << place >> place != low {
            break;
        }
        n |= low << place;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(MapError::Corrupt("number"))
}

fn take_offset(bytes: &mut &[u8], from: i64) -> Result<i64, MapError> {
    step(from, take(bytes)?, 0).ok_or(MapError::Corrupt("offset"))
}

fn take_print(bytes: &mut &[u8], from: i64) -> Result<Fingerprint, MapError> {
    let timestamp = UnixMillis(from.wrapping_add(unzigzag(take(bytes)?)));
    let length = u32::try_from(take(bytes)?).map_err(|_| MapError::Corrupt("length"))?;
    Ok(Fingerprint { timestamp, length })
}

/// CRC-32 as in IEEE 802.3; bit by bit, as it runs over at most 2 KB each 100 ms.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(u32::MAX, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }))
}

#[cfg(test)]
// A map with one finished range is what is meant.
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(offset: i64, timestamp: i64, length: u32) -> Mark {
        Mark { offset, print: Fingerprint { timestamp: UnixMillis(timestamp), length } }
    }

    fn map(base: i64, first: i64, last: i64, finished: &[Range<i64>]) -> Map {
        let print = |offset| mark(offset, 1_700_000_000_000 + offset, u32::try_from(offset % 1_000).unwrap());
        Map { base, first: print(first), last: print(last), finished: finished.to_vec() }
    }

    /// A text with a right checksum over `body`.
    fn sealed(body: &[u8]) -> String {
        let mut bytes = crc32(body).to_be_bytes().to_vec();
        bytes.extend(body);
        format!("1:{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn maps_have_the_texts_of_the_table_and_come_back() {
        let table = [
            (Map { base: 0, first: mark(1, 0, 0), last: mark(1, 0, 0), finished: vec![1..2] }, "1:0UE-lwABAAAAAAABAACA"),
            (map(10, 11, 19, &[11..12, 13..20]), "1:8bKs7goBlqCr_vliCwgQEwIAAYcA"),
            (map(10, 12, 12, &[10..13]), "1:Xk5PzAoCmKCr_vliDAAADAEAAGA"),
            (
                map(1_000_000, 1_000_500, 9_000_000, &[1_000_500..1_000_501, 1_000_502..9_000_001]),
                "1:LMvoRcCEPfQD6LCl__li9AOMoOgDmMDQBwACBxXugAAAAHaEAoA",
            ),
            (
                Map { base: 5, first: mark(6, -1, 0), last: mark(8, i64::MIN, u32::MAX), finished: vec![6..7, 8..9] },
                "1:XfbKBgUBAQAC_f__________Af____8PAgAAgA",
            ),
        ];
        for (map, text) in table {
            assert_eq!(map.encode(), text);
            assert_eq!(Map::decode(text, map.base), Ok(map));
        }
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_why() {
        let good = map(10, 11, 19, &[11..12, 13..20]).encode();
        let flipped = good.replace(&good[12..13], if &good[12..13] == "A" { "B" } else { "A" });
        let ones = [0xff; 12];
        // base 10, first 11, last 11, one pair, both parameters 0, then the runs.
        let head = [10, 1, 0, 0, 0, 0, 0, 1, 0, 0];
        let with = |at: usize, byte: u8, runs: &[u8]| {
            let mut body = head.to_vec();
            body[at] = byte;
            body.extend(runs);
            sealed(&body)
        };
        assert!(Map::decode(&with(0, 10, &[0b1000_0000]), 10).is_ok());
        #[rustfmt::skip]
        let table = [
            ("nothing",              String::new(),                          MapError::Version),
            ("another version",      format!("2{}", &good[1..]),             MapError::Version),
            ("version zero",         format!("0{}", &good[1..]),             MapError::Version),
            ("another program's",    "{\"checkpoint\":7}".to_owned(),        MapError::Version),
            ("version only",         "1:".to_owned(),                        MapError::Corrupt("too short")),
            ("three bytes",          "1:AAAA".to_owned(),                    MapError::Corrupt("too short")),
            ("padding",              format!("{good}="),                     MapError::Corrupt("not base64url")),
            ("not ASCII",            format!("1:ä{}", &good[2..]),           MapError::Corrupt("not base64url")),
            ("cut",                  good[..good.len() - 4].to_owned(),      MapError::Corrupt("checksum")),
            ("grown",                format!("{good}AAAA"),                  MapError::Corrupt("checksum")),
            ("a character changed",  flipped,                                MapError::Corrupt("checksum")),
            ("too long",             format!("1:{}", "A".repeat(2_999)),     MapError::Corrupt("too long")),
            ("sealed nothing",       sealed(&[]),                            MapError::Corrupt("too short")),
            ("endless number",       sealed(&ones),                          MapError::Corrupt("number")),
            ("another base",         with(0, 9, &[0b1000_0000]),             MapError::Base { base: 9, committed: 10 }),
            ("no pair",              with(7, 0, &[0b1000_0000]),             MapError::Corrupt("runs")),
            ("too many pairs",       with(7, 5, &[0b1000_0000]),             MapError::Corrupt("runs")),
            ("more pairs than bits", with(7, 4, &[0b1111_1111]),             MapError::Corrupt("runs")),
            ("huge parameter",       with(8, 41, &[0b1000_0000]),            MapError::Corrupt("runs")),
            ("bits left over",       with(0, 10, &[0b1000_0001]),            MapError::Corrupt("runs")),
            ("bytes left over",      with(0, 10, &[0b1000_0000, 0]),         MapError::Corrupt("runs")),
            ("no runs",              with(0, 10, &[]),                       MapError::Corrupt("runs")),
            ("first not finished",   with(1, 0, &[0b1000_0000]),             MapError::Corrupt("fingerprints")),
            ("last elsewhere",       with(4, 1, &[0b1000_0000]),             MapError::Corrupt("fingerprints")),
            ("two prints of one",    with(6, 1, &[0b1000_0000]),             MapError::Corrupt("fingerprints")),
        ];
        for (name, text, error) in table {
            assert_eq!(Map::decode(&text, 10), Err(error), "{name}");
        }
        // base 10, first beyond i64::MAX
        let mut body = vec![10];
        put(&mut body, u64::MAX);
        assert_eq!(Map::decode(&sealed(&body), 10), Err(MapError::Corrupt("offset")));
        // a finished run that ends beyond i64::MAX
        let mut writer = Writer::default();
        writer.value(1, 0);
        writer.value((1 << 63) - 1, 0);
        let mut body = head.to_vec();
        body.extend(writer.into_bytes());
        assert_eq!(Map::decode(&sealed(&body), 10), Err(MapError::Corrupt("runs")));
    }

    proptest! {
        #[test]
        fn every_map_comes_back(
            base in 0_i64..1 << 40,
            runs in prop::collection::vec((prop_oneof![1_i64..4, 1_i64..100_000], prop_oneof![1_i64..4, 1_i64..100_000]), 1..60),
            starts_finished in any::<bool>(),
            (timestamp, length) in any::<(i64, u32)>(),
        ) {
            let mut at = base;
            let mut finished = Vec::new();
            for (nth, (u, f)) in runs.into_iter().enumerate() {
                let start = if nth == 0 && starts_finished { at } else { at + u };
                at = start + f;
                finished.push(start..at);
            }
            let first = mark(finished[0].start, timestamp, length);
            let last = if at - 1 == first.offset { first } else { mark(at - 1, timestamp / 3, length / 2) };
            let map = Map { base, first, last, finished };
            let text = map.encode();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(Map::decode(&text, base), Ok(map));
        }

        #[test]
        fn bytes_with_a_right_checksum_never_panic(body in prop::collection::vec(any::<u8>(), 0..80), pairs in 0_u8..40, committed in 0_i64..256) {
            let _ = Map::decode(&sealed(&body), committed);
            let mut likely = vec![10, 1, 0, 0, 3, 0, 0, pairs];
            likely.extend(body);
            if let Ok(map) = Map::decode(&sealed(&likely), 10) {
                prop_assert!(map.finished.iter().all(|range| range.start < range.end && range.start >= 10));
            }
        }

        #[test]
        fn any_text_never_panics(text in ".{0,200}", committed in any::<i64>()) {
            prop_assert!(Map::decode(&text, committed).is_err());
            let versioned = format!("1:{text}");
            prop_assert!(Map::decode(&versioned, committed).is_err());
        }
    }
}
