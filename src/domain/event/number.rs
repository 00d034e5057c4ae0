//! The value of a JSON number as written: as a whole number, and as an instant.

use super::super::time::UnixMillis;

/// A number's value, as far as event types need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// This integer; `100`, `100.0` and `1e2` are the same.
    Is(i64),
    /// An integer beyond 18 digits.
    Beyond,
    /// No integer.
    Not,
}

/// The exact value of `number`, a JSON number: no way through binary fractions, which would take 100.00000000000000001 for 100.
pub(super) fn whole(number: &[u8]) -> Whole {
    let (negative, number) = match number.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = split(number, |byte| matches!(byte, b'e' | b'E'));
    let (before, fraction) = split(mantissa, |byte| byte == b'.');
    let digits = || before.iter().chain(fraction).skip_while(|digit| **digit == b'0');
    let significant = digits().count();
    if significant == 0 {
        return Whole::Is(0);
    }
    let zeros = before.iter().chain(fraction).rev().take_while(|digit| **digit == b'0').count();
    let scale = power(exponent).saturating_add(length(zeros)).saturating_sub(length(fraction.len()));
    if scale < 0 {
        return Whole::Not;
    }
    let kept = significant - zeros;
    if scale.saturating_add(length(kept)) > 18 {
        return Whole::Beyond;
    }
    let value = digits().take(kept).fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    let value = (0..scale).fold(value, |value, _| value * 10);
    Whole::Is(if negative { -value } else { value })
}

/// `number` of Unix seconds, a JSON number, as an instant; saturating.
pub(super) fn seconds(number: &[u8]) -> Option<UnixMillis> {
    let text = std::str::from_utf8(number).ok()?;
    if let Ok(secs) = text.parse() {
        return Some(UnixMillis::from_secs(secs));
    }
    let millis = text.parse::<f64>().ok()? * 1000.0;
    // The cast saturates; JSON has no NaN.
    Some(UnixMillis(millis.round() as i64))
}

fn split(number: &[u8], at: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    number.iter().position(|byte| at(*byte)).map_or((number, &[]), |at| (&number[..at], &number[at + 1..]))
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An exponent's value, `0` when there is none; saturating well beyond what any value's length can balance.
fn power(exponent: &[u8]) -> i64 {
    let (sign, digits) = match exponent {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    let magnitude = digits.iter().fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0'))));
    sign * magnitude.min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_whole_by_its_exact_value_however_it_is_written() {
        for (number, value) in [
            ("100", Whole::Is(100)),
            ("0", Whole::Is(0)),
            ("-0", Whole::Is(0)),
            ("-100", Whole::Is(-100)),
            ("1e2", Whole::Is(100)),
            ("1E+2", Whole::Is(100)),
            ("10000e-2", Whole::Is(100)),
            ("100.0", Whole::Is(100)),
            ("1.000e2", Whole::Is(100)),
            ("0.1e3", Whole::Is(100)),
            ("0.0e999999999999999999999", Whole::Is(0)),
            ("999999999999999999", Whole::Is(999_999_999_999_999_999)),
            ("1000000000000000000", Whole::Beyond),
            ("1e999999999999999999999", Whole::Beyond),
            ("100.5", Whole::Not),
            ("1e-2", Whole::Not),
            ("1e-999999999999999999999", Whole::Not),
            ("100.00000000000000000000000000001", Whole::Not),
        ] {
            assert_eq!(whole(number.as_bytes()), value, "{number}");
        }
    }

    #[test]
    fn seconds_may_have_fractions_and_saturate() {
        for (number, millis) in [
            ("1642089445", 1_642_089_445_000),
            ("1642089445.316", 1_642_089_445_316),
            ("1.642089445e9", 1_642_089_445_000),
            ("-1", -1000),
            ("1e300", i64::MAX),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(seconds(number.as_bytes()), Some(UnixMillis(millis)), "{number}");
        }
    }
}
