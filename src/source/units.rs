//! Durations, sizes and instants as people write them.

use crate::domain::time::UnixMillis;
use std::time::Duration;

const SIZES: [(&str, u64); 9] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

/// `5s`, `10m`, `1h 30m`, `7d`, `500ms`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// Bytes: `64MiB`, `1GB`, `4096`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = SIZES.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// RFC 3339 with an offset, whole milliseconds (the rest is cut).
#[must_use]
pub fn parse_instant(text: &str) -> Option<UnixMillis> {
    text.parse::<jiff::Timestamp>().ok().map(|at| UnixMillis(at.as_millisecond()))
}

/// A duration in the form that [`parse_duration`] reads.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A size in the largest binary unit that says it exactly.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let exact = SIZES[..3].iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}
