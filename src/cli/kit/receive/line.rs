//! The line that a callback gets: the same fields in the same order, whatever came.

use crate::domain::event::decode;
use crate::domain::time::UnixMillis;
use std::fmt::Write as _;

/// Longer texts from outside are cut.
const SHOWN: usize = 120;

/// What was found.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It verifies.
    Verified,
    /// There is no key to verify with.
    Unjudged,
    /// It does not verify, or is no callback: why.
    Refused(String),
}

/// A request as it is told.
pub(super) struct Line<'a> {
    /// When it had arrived.
    pub(super) at: UnixMillis,
    /// What it is answered with.
    pub(super) status: u16,
    /// What was found.
    pub(super) verdict: Verdict,
    /// `webhook-id`.
    pub(super) id: Option<&'a str>,
    /// `None`: it was not read.
    pub(super) body: Option<&'a [u8]>,
}

impl Line<'_> {
    /// `TIME STATUS VERDICT id=… type=… domain=… path=… stream=… bytes=… repeat=… why="…"`; what is not known is left out. `time` is the
    /// callback's ordinal among those with its id, from 1.
    pub(super) fn shown(&self, time: u64) -> String {
        let instant = jiff::Timestamp::from_millisecond(self.at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let (verdict, why) = match &self.verdict {
            Verdict::Verified => ("verified", None),
            Verdict::Unjudged => ("unverified", None),
            Verdict::Refused(why) => ("refused", Some(why)),
        };
        let mut line = format!("{instant:.3} {} {verdict}", self.status);
        let mut add = |name: &str, value: &str| {
            // Writing to a text cannot fail.
            let _ = write!(line, " {name}={}", escaped(value));
        };
        if let Some(id) = self.id {
            add("id", id);
        }
        if let Some(body) = self.body {
            if let Ok(event) = decode(Some(body), self.at) {
                add("type", &event.kind.event_type().to_string());
                add("domain", event.domain.as_str());
                event.path.iter().for_each(|path| add("path", path));
                event.stream.iter().for_each(|stream| add("stream", stream));
            }
            add("bytes", &body.len().to_string());
        }
        if time > 1 {
            add("repeat", &time.to_string());
        }
        if let Some(why) = why {
            let _ = write!(line, " why={why:?}");
        }
        line
    }
}

/// One word of plain ASCII, and not long.
fn escaped(text: &str) -> String {
    let mut word = String::new();
    for character in text.chars().take(SHOWN) {
        match character {
            '!'..='~' if character != '\\' && character != '"' => word.push(character),
            _ => word.extend(character.escape_unicode()),
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        word.push_str("...");
    }
    if word.is_empty() { "\"\"".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(verdict: Verdict, id: Option<&str>, body: Option<&[u8]>, time: u64) -> String {
        Line { at: UnixMillis(1_642_089_598_007), status: 200, verdict, id, body }.shown(time)
    }

    #[test]
    fn a_line_says_what_came_and_what_was_found() {
        let body = br#"{"event_type":100,"app":"Push.example.com","appname":"live","stream_id":"s1"}"#;
        assert_eq!(
            shown(Verdict::Verified, Some("evt_1"), Some(body), 1),
            "2022-01-13T15:59:58.007Z 200 verified id=evt_1 type=100 domain=push.example.com path=live stream=s1 bytes=77"
        );
        assert!(shown(Verdict::Verified, Some("evt_1"), Some(body), 3).ends_with(" bytes=77 repeat=3"));
        assert_eq!(shown(Verdict::Unjudged, None, Some(b"hello"), 1), "2022-01-13T15:59:58.007Z 200 unverified bytes=5");
        assert!(shown(Verdict::Refused("it is \"bad\"".into()), None, None, 1).ends_with(r#" refused why="it is \"bad\"""#));
    }

    #[test]
    fn what_comes_from_outside_stays_one_line_and_one_word() {
        let body = "{\"event_type\":100,\"app\":\"a.example\",\"appname\":\"li ve\\u001b[31m\\n\",\"stream_id\":\"\u{202e}=x\"}";
        let line = shown(Verdict::Refused("\u{1b}[2J\n".into()), Some("a b\r\nc"), Some(body.as_bytes()), 1);
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        assert!(line.contains(r"id=a\u{20}b\u{d}\u{a}c ") && line.contains(r"path=li\u{20}ve\u{1b}[31m\u{a} "), "{line}");
        assert!(shown(Verdict::Verified, Some(&"x".repeat(500)), None, 1).len() < 200);
        assert!(shown(Verdict::Verified, Some(""), None, 1).ends_with(r#"id="""#));
    }
}
