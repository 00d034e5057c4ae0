//! Event ids and domain names (design §6).

use super::record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idna::AsciiDenyList;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;

/// The record header that states an event's id; the only one of ours that is believed on source topics.
pub const ID_HEADER: &str = "callbackd-id";

/// The headers of `CloudEvents`' Kafka binding that together identify an event.
pub const CE_SOURCE: &str = "ce_source";
/// See [`CE_SOURCE`].
pub const CE_ID: &str = "ce_id";

/// The longest id, in characters.
const LONGEST_ID: usize = 64;

/// Bytes of a SHA-256 that make a derived id: 128 bits.
const DIGEST_BYTES: usize = 16;

/// The longest domain name, in characters without a trailing dot, and its longest label (RFC 1035, 2.3.4).
const LONGEST_DOMAIN: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The id by which receivers de-duplicate: 1–64 of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// `text` as an id, if it is 1–64 of `[A-Za-z0-9_-]`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_empty() || text.len() > LONGEST_ID || !text.iter().all(legal) {
            return None;
        }
        Some(Self(std::str::from_utf8(text).ok()?.into()))
    }

    /// The id of the event in `record`: header `callbackd-id` if it is well-formed (of a doubled one the last counts),
    /// else from `CloudEvents`' `ce_source` and `ce_id` if both are there and not empty, else from the value, a null one as an empty one.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let (mut stated, mut source, mut id) = (None, None, None);
        for header in &record.headers {
            let slot = match &*header.name {
                ID_HEADER => &mut stated,
                CE_SOURCE => &mut source,
                CE_ID => &mut id,
                _ => continue,
            };
            *slot = header.value.as_deref().filter(|value| !value.is_empty());
        }
        if let Some(stated) = stated.and_then(Self::parse) {
            return stated;
        }
        let digest = match (source, id) {
            (Some(source), Some(id)) => Sha256::new().chain_update(source).chain_update([0]).chain_update(id).finalize(),
            (Some(_) | None, None) | (None, Some(_)) => Sha256::digest(record.value.as_deref().unwrap_or_default()),
        };
        // Four characters for each three bytes, or their beginning.
        let mut text = [0; DIGEST_BYTES.div_ceil(3) * 4];
        let length = URL_SAFE_NO_PAD.encode_slice(&digest[..DIGEST_BYTES], &mut text).unwrap_or(0);
        Self(std::str::from_utf8(&text[..length]).unwrap_or_default().into())
    }

    /// As sent in `webhook-id`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A push domain in lower case and A-label form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(Arc<str>);

impl DomainName {
    /// Normalises `text`: lower case, A-labels, one trailing dot dropped. `None` when it cannot be a domain name
    /// (empty, longer than 253 bytes, a label that is empty or longer than 63, characters other than letters, digits, `-` and `_`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Names mostly come as they should be: lower case, ASCII, nothing to decode.
        if is_name(text) && !text.contains("xn--") {
            return Some(Self(text.into()));
        }
        let ascii = idna::domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::URL).ok()?;
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        is_name(name).then(|| Self(name.into()))
    }

    /// The normalised name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is a name in its normal form, as far as its characters and lengths tell.
fn is_name(text: &str) -> bool {
    if text.is_empty() || text.len() > LONGEST_DOMAIN {
        return false;
    }
    let mut label = 0;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' if label < LONGEST_LABEL => label += 1,
            b'.' if label > 0 => label = 0,
            _ => return false,
        }
    }
    label > 0
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Header, Position};
    use super::super::time::UnixMillis;
    use super::*;
    use bytes::Bytes;

    fn record(value: Option<&'static str>, headers: &[(&str, Option<&'static str>)]) -> Record {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        Record {
            position: Position { topic: "recording.completed".into(), partition: 0, offset: 0 },
            timestamp: UnixMillis(0),
            key: None,
            value: value.map(bytes),
            headers: headers.iter().map(|(name, value)| Header { name: (*name).into(), value: value.map(bytes) }).collect(),
        }
    }

    #[test]
    fn an_id_is_1_to_64_letters_digits_underscores_and_hyphens() {
        let long = "a".repeat(64);
        for good in ["a", "Z-9_", "-", long.as_str()] {
            assert_eq!(EventId::parse(good.as_bytes()).expect("well-formed").as_str(), good);
        }
        let longer = "a".repeat(65);
        for bad in ["", "a.b", "a b", "é", "a\n", "a=", "a/b", longer.as_str()] {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(EventId::parse(b"\xff"), None);
    }

    #[test]
    fn an_event_is_identified_by_its_id_header_then_by_cloud_events_then_by_its_bytes() {
        const VALUE: Option<&str> = Some(r#"{"app":"d"}"#);
        // base64url of the first 16 bytes of SHA-256, computed with another implementation.
        const OF_VALUE: &str = "-xWsT0Z3ACR_wTPzZxQgJw";
        const OF_EMPTY: &str = "47DEQpj8HBSa-_TImW-5JA";
        const OF_PAIR: &str = "mM3QP2XhsMtC-jLNQCXJow"; // "/rec", 0, "a1"
        let source = ("ce_source", Some("/rec"));
        let id = ("ce_id", Some("a1"));
        for (value, headers, expected) in [
            (VALUE, vec![], OF_VALUE),
            (None, vec![], OF_EMPTY),
            (Some(""), vec![], OF_EMPTY),
            (VALUE, vec![("callbackd-id", Some("evt_1"))], "evt_1"),
            (VALUE, vec![("callbackd-id", Some("evt_1")), ("callbackd-id", Some("evt_2"))], "evt_2"),
            (VALUE, vec![("callbackd-id", Some("evt_1")), ("callbackd-id", Some("not.one"))], OF_VALUE),
            (VALUE, vec![("callbackd-id", Some("evt_1")), ("callbackd-id", None)], OF_VALUE),
            (VALUE, vec![("callbackd-id", Some(""))], OF_VALUE),
            (VALUE, vec![("Callbackd-Id", Some("evt_1"))], OF_VALUE),
            (VALUE, vec![source, id, ("callbackd-id", Some("evt_1"))], "evt_1"),
            (VALUE, vec![source, id, ("callbackd-id", Some("not.one"))], OF_PAIR),
            (VALUE, vec![source, id], OF_PAIR),
            (None, vec![id, source], OF_PAIR),
            (VALUE, vec![("ce_id", Some("a0")), source, id], OF_PAIR),
            (VALUE, vec![source], OF_VALUE),
            (VALUE, vec![id], OF_VALUE),
            (VALUE, vec![("ce_source", Some("")), id], OF_VALUE),
            (VALUE, vec![source, ("ce_id", None)], OF_VALUE),
        ] {
            assert_eq!(EventId::of(&record(value, &headers)).as_str(), expected, "{value:?} {headers:?}");
        }
    }

    #[test]
    fn domain_names_are_compared_in_lower_case_a_label_form() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for (text, name) in [
            ("push.example.com", "push.example.com"),
            ("Push.EXAMPLE.com", "push.example.com"),
            ("push.example.com.", "push.example.com"),
            ("live_1.push-2.example", "live_1.push-2.example"),
            ("localhost", "localhost"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("방송.example", "xn--vh3b23h.example"),
            ("push。example。com", "push.example.com"),
            (longest.as_str(), longest.as_str()),
        ] {
            assert_eq!(DomainName::parse(text).as_ref().map(DomainName::as_str), Some(name), "{text}");
        }
        let long_label = format!("{}.example", "a".repeat(64));
        let too_long = format!("{longest}a");
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "a b",
            " a",
            "a/b",
            "a:1",
            "a@b",
            "a%41",
            "*.a",
            "a\0",
            "xn--a",
            "xn--99999999",
            &long_label,
            &too_long,
        ] {
            assert_eq!(DomainName::parse(text), None, "{text:?}");
        }
    }
}
