//! What the client's words must not give away: librdkafka quotes a property that it cannot read (`sasl.oauthbearer.config`, for one) in its
//! errors, and those reach the log, `/readyz` and standard error.

use std::borrow::Cow;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";
/// Shorter values are found in ordinary words.
const SHORTEST_VALUE: usize = 4;
/// Values of switches, which are no secrets, whatever the property.
const SWITCH: [&str; 2] = ["true", "false"];
/// Shorter parts of a value are found there, too.
const SHORTEST_PART: usize = 6;

/// The secret values among a client's properties, and their parts. Cheap to clone; `Debug` shows none.
#[derive(Clone, Default)]
pub struct Redaction(Arc<[Zeroizing<String>]>);

impl Redaction {
    /// For these secret values, of which also parts between white space, commas and `=` are not told.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hidden: Vec<&str> = Vec::new();
        for secret in secrets {
            hidden.extend(Some(secret.trim()).filter(|value| value.len() >= SHORTEST_VALUE && !SWITCH.contains(value)));
            let parts = secret.split(|c: char| c.is_whitespace() || c == ',' || c == '=');
            hidden.extend(parts.filter(|part| part.len() >= SHORTEST_PART));
        }
        // A part may lie within another secret: the longer one goes first.
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        hidden.dedup();
        Self(hidden.into_iter().map(|text| Zeroizing::new(text.to_owned())).collect())
    }

    /// `text` without any of them.
    #[must_use]
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.0.iter().filter(|hidden| text.contains(hidden.as_str())).fold(Cow::Borrowed(text), |told, hidden| {
            if told.contains(hidden.as_str()) { Cow::Owned(told.replace(hidden.as_str(), REDACTED)) } else { told }
        })
    }
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redaction")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_their_parts_are_not_told_and_the_rest_is() {
        let redaction = Redaction::new(["canaryOAUTH principal=x", "hunter2", "abc", "hunter22"]);
        for (text, told) in [
            (
                "Unrecognized sasl.oauthbearer.config beginning at: canaryOAUTH principal=x",
                "Unrecognized sasl.oauthbearer.config beginning at: [redacted]",
            ),
            ("beginning at: canaryOAUTH", "beginning at: [redacted]"),
            ("hunter2, hunter22 and abc", "[redacted], [redacted] and abc"),
            ("Connection refused", "Connection refused"),
        ] {
            assert_eq!(redaction.apply(text), told);
        }
        assert_eq!(format!("{redaction:?}"), "Redaction");
        assert_eq!(Redaction::default().apply("as it is"), "as it is");
    }
}
