//! The callback's body: the event's own bytes, `t` and `sign` cut out and put last (design §7).
//!
//! Bytes, never a re-encoded tree: receivers see the numbers, escapes and order that upstream wrote, and what was signed is
//! what is sent. The cuts are found while the value is decoded and are the same for every attempt; only the seal is new.

use bytes::Bytes;
use std::ops::Range;

/// Byte ranges to leave out of a value: ascending, without overlap, white space and one comma included.
///
/// Runs of neighbours are one range, so what is left is an object whatever was cut: nothing, some members or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts(Vec<Range<usize>>);

impl Cuts {
    /// Cuts the member of `value` that begins behind the `{` or `,` before `start` and ends at the `,` or `}` at `delimiter`:
    /// with the white space touching it and the comma after it, or, for the last, the one before. Members come in order.
    pub(super) fn member(&mut self, value: &[u8], start: usize, delimiter: usize) {
        let mut cut = start..delimiter;
        if let Some(previous) = self.0.pop_if(|previous| previous.end == start) {
            cut.start = previous.start;
        }
        if value.get(delimiter) == Some(&b',') {
            cut.end += 1;
        } else if cut.start.checked_sub(1).and_then(|before| value.get(before)) == Some(&b',') {
            cut.start -= 1;
        }
        self.0.push(cut);
    }
}

/// The bytes to send: `value`, which is a JSON object, without its top-level `t` and `sign`, and with `seal` (decimal Unix seconds `t`,
/// lower-case hex `sign`) as new last members. Without cuts and without a seal the value is returned as it is, not copied.
#[must_use]
pub fn render(value: &Bytes, cuts: &Cuts, seal: Option<(i64, &str)>) -> Bytes {
    if cuts.0.is_empty() && seal.is_none() {
        return value.clone();
    }
    // The exact size, but for an object without members: spare room would cost an allocation when the vector becomes `Bytes`.
    let cut: usize = cuts.0.iter().map(Range::len).sum();
    let added = seal.map_or(0, |(t, sign)| r#","t":,"sign":"""#.len() + decimal(t).len() + sign.len());
    let mut body = Vec::with_capacity(value.len() - cut + added);
    let close = value.iter().rposition(|byte| *byte == b'}').unwrap_or(value.len());
    let mut from = 0;
    for cut in &cuts.0 {
        body.extend_from_slice(&value[from..cut.start]);
        from = cut.end;
    }
    body.extend_from_slice(&value[from..close]);
    if let Some((t, sign)) = seal {
        // Only the object's own brace can be the last thing that is not white space: a member ends otherwise.
        let bare = body.iter().rfind(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'{');
        body.extend_from_slice(if bare { b"\"t\":" } else { b",\"t\":" });
        body.extend_from_slice(&decimal(t));
        body.extend_from_slice(b",\"sign\":\"");
        body.extend_from_slice(sign.as_bytes());
        body.push(b'"');
    }
    body.extend_from_slice(&value[close..]);
    Bytes::from(body)
}

/// `number` in decimal; without an allocation, since every attempt needs some.
pub struct Decimal {
    /// The longest has a sign and 19 digits.
    text: [u8; 20],
    from: usize,
}

/// `number` in decimal.
#[must_use]
pub fn decimal(number: i64) -> Decimal {
    let mut decimal = Decimal { text: [b'0'; 20], from: 20 };
    let mut left = number.unsigned_abs();
    loop {
        decimal.from -= 1;
        // A digit fits into a byte.
        decimal.text[decimal.from] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        decimal.from -= 1;
        decimal.text[decimal.from] = b'-';
    }
    decimal
}

impl std::ops::Deref for Decimal {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.text[self.from..]
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::decode;
    use super::super::protocol_page;
    use super::super::time::UnixMillis;
    use super::*;

    const SEAL: (i64, &str) = (1_642_090_198, "5874b523f56f96b887bebb1f8a1773e8");

    fn cuts(value: &str) -> Cuts {
        decode(Some(value.as_bytes()), UnixMillis(0)).expect("an event").cuts
    }

    fn rendered(value: &'static str, seal: Option<(i64, &str)>) -> String {
        let body = render(&Bytes::from_static(value.as_bytes()), &cuts(value), seal);
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }

    #[test]
    fn t_and_sign_are_cut_with_the_white_space_touching_them_and_one_comma() {
        for (value, without) in [
            (r#"{"app":"a"}"#, r#"{"app":"a"}"#),
            (r#"{"t":1,"app":"a"}"#, r#"{"app":"a"}"#),
            (r#"{"app":"a","t":1}"#, r#"{"app":"a"}"#),
            (r#"{"app":"a","t":1,"b":2}"#, r#"{"app":"a","b":2}"#),
            (r#"{"t":1,"sign":"x","app":"a"}"#, r#"{"app":"a"}"#),
            (r#"{"app":"a","t":1,"sign":"x"}"#, r#"{"app":"a"}"#),
            (r#"{"app":"a","t":1,"sign":"x","b":2}"#, r#"{"app":"a","b":2}"#),
            (r#"{"t":1,"app":"a","sign":"x"}"#, r#"{"app":"a"}"#),
            (r#"{"sign":"x","app":"a","t":1,"b":2,"t":3}"#, r#"{"app":"a","b":2}"#),
            (r#"{"t":1,"t":2,"sign":3,"app":"a","t":4,"sign":{"t":[5]},"sign":null}"#, r#"{"app":"a"}"#),
            (r#"{"\u0074":1,"app":"a","si\u0067n":"x"}"#, r#"{"app":"a"}"#),
            (r#"{"app":"a","T":1,"Sign":2,"t ":3,"b":{"t":1,"sign":2}}"#, r#"{"app":"a","T":1,"Sign":2,"t ":3,"b":{"t":1,"sign":2}}"#),
            ("{ \"app\" : \"a\" , \"t\" : 1 , \"b\" : 2 }", "{ \"app\" : \"a\" , \"b\" : 2 }"),
            ("{ \"app\" : \"a\" , \"t\" : 1 }", "{ \"app\" : \"a\" }"),
            ("{ \"t\" : 1 , \"app\" : \"a\" }", "{ \"app\" : \"a\" }"),
            ("{\n  \"app\": \"a\",\n  \"sign\": \"x\",\n  \"t\": 1\n}\n", "{\n  \"app\": \"a\"}\n"),
            ("{\n  \"app\": \"a\",\n  \"sign\": \"x\",\n  \"b\": 1\n}\n", "{\n  \"app\": \"a\",\n  \"b\": 1\n}\n"),
            (r#" {"app":"a","t":"}\"","b":"{"} "#, r#" {"app":"a","b":"{"} "#),
        ] {
            assert_eq!(rendered(value, None), without, "{value}");
        }
    }

    #[test]
    fn a_seal_is_put_last_before_the_closing_brace() {
        const SEALED: &str = r#""t":1642090198,"sign":"5874b523f56f96b887bebb1f8a1773e8"}"#;
        for (value, head, tail) in [
            (r#"{"app":"a"}"#, r#"{"app":"a","#, ""),
            (r#"{"app":"a","t":1,"sign":"x"}"#, r#"{"app":"a","#, ""),
            (r#"{"t":1,"sign":"x","app":"a"}"#, r#"{"app":"a","#, ""),
            ("{ \"app\" : \"a\" }\n", "{ \"app\" : \"a\" ,", "\n"),
            (r#"{"app":"a","b":{}}"#, r#"{"app":"a","b":{},"#, ""),
            (r#"{"app":"a","b":"{"}"#, r#"{"app":"a","b":"{","#, ""),
            ("{\n  \"app\": \"a\",\n  \"t\": 1\n}\n", "{\n  \"app\": \"a\",", "\n"),
        ] {
            assert_eq!(rendered(value, Some(SEAL)), format!("{head}{SEALED}{tail}"), "{value}");
        }
    }

    /// No event is without members, but a body must be JSON, whatever it is made from.
    #[test]
    fn a_seal_in_an_object_without_members_has_no_comma_before_it() {
        for (value, cut) in [("{}", None), ("{ }", None), (r#"{"t":1}"#, Some((1, 6))), (r#"{ "t":1, "sign":2 } "#, Some((1, 18)))] {
            let mut cuts = Cuts::default();
            if let Some((start, delimiter)) = cut {
                cuts.member(value.as_bytes(), start, delimiter);
            }
            let body = render(&Bytes::from(value), &cuts, Some((7, "00")));
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body, serde_json::json!({"t": 7, "sign": "00"}), "{value}");
        }
        assert_eq!(render(&Bytes::from("{}"), &Cuts::default(), Some((7, "00"))), r#"{"t":7,"sign":"00"}"#);
    }

    #[test]
    fn a_value_with_nothing_to_cut_and_no_seal_is_not_copied() {
        let value = Bytes::from_static(br#"{"app":"a","b":[1, 2]}"#);
        let body = render(&value, &cuts(r#"{"app":"a","b":[1, 2]}"#), None);
        assert_eq!(body.as_ptr(), value.as_ptr());
        assert_eq!(body, value);
    }

    #[test]
    fn decimals_are_those_of_the_standard_library() {
        for number in [0, 1, -1, 9, 10, -10, 1_642_090_198, i64::MAX, i64::MIN] {
            assert_eq!(std::str::from_utf8(&decimal(number)).expect("ASCII"), number.to_string());
        }
    }

    #[test]
    fn the_published_event_sealed_anew_keeps_every_other_byte() {
        let value = protocol_page::example(100);
        let event = decode(Some(value.as_bytes()), UnixMillis::from_secs(1_642_089_600)).expect("an event");
        let body = render(&Bytes::from_static(value.as_bytes()), &event.cuts, Some(SEAL));
        let expected = value
            .replace(r#""sign":"5874b523f56f96b887bebb1f8a1773e8","#, "")
            .replace(r#""t":1642090198,"#, "")
            .replace(r#"zzzz.m3u8"}"#, r#"zzzz.m3u8","t":1642090198,"sign":"5874b523f56f96b887bebb1f8a1773e8"}"#);
        assert_eq!(body, expected);
    }
}
