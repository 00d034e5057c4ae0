//! What can be wrong with a callback's signatures, in words that say what is known.

use super::TOLERANCE_SECS;
use crate::domain::signature::{T_LIFETIME_SECS, WEBHOOK_SIGNATURE};
use std::fmt;

/// One reason why a family does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The header is not there, though others of its family are.
    MissingHeader(&'static str),
    /// The header is there more than once: which one counts?
    RepeatedHeader(&'static str),
    /// `webhook-id` is no id.
    MalformedId(String),
    /// `webhook-timestamp` is no plain number.
    MalformedTimestamp(String),
    /// `webhook-signature` has no entry that could be a signature.
    MalformedSignature,
    /// `webhook-signature` has entries of these versions only.
    UnknownVersion(Vec<String>),
    /// No entry of `webhook-signature` is by our secret over this id, time and body.
    NoMatch {
        /// Entries of version 1.
        entries: usize,
        /// Why, as far as can be known.
        doubt: Doubt,
        /// The body is no JSON object, in words.
        not_json: Option<String>,
    },
    /// `webhook-timestamp` is this many seconds back, more than the tolerance.
    TooOld {
        /// In seconds.
        age: i64,
    },
    /// `webhook-timestamp` is this many seconds ahead, more than the tolerance.
    TooNew {
        /// In seconds.
        ahead: i64,
    },
    /// `t` or `sign` is not there, though the other is.
    MissingMember(&'static str),
    /// It is of a wrong type.
    WrongMember(&'static str),
    /// It is there more than once.
    RepeatedMember(&'static str),
    /// `sign` is not 32 lower-case hex digits.
    MalformedSign,
    /// `sign` is not by our key over `t`.
    SignMismatch {
        /// Why, as far as can be known.
        doubt: Doubt,
    },
    /// `t` is past.
    Expired {
        /// In seconds.
        since: i64,
    },
    /// `t` is farther ahead than any that was made by now.
    TooFarAhead {
        /// In seconds.
        left: i64,
    },
}

/// Why a signature does not match, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing tells.
    Unknown,
    /// The key is another one: neither signature matches.
    Key,
    /// The key is right, so something that was signed is not as it was; unless the sender has a secret beside it that was not given.
    Changed,
    /// The key is right; the secret may be another one, or something that was signed is not as it was.
    SecretOrChanged,
    /// It matches without the newline at the body's end.
    NewlineAdded,
    /// It matches with a newline at the body's end.
    NewlineLost,
    /// It matches with the key's own bytes: the sender has no secret of its own.
    MadeWithKey,
    /// It matches with a newline at the key's end.
    KeyWithNewline,
    /// It matches with what the key or secret says in base64.
    KeyIsEncoded,
    /// The other family shows that nothing was changed: `sign` was made with another key.
    OtherKeySigns,
}

impl Fault {
    /// It is about the time alone: the signature itself may match.
    #[must_use]
    pub const fn is_of_time(&self) -> bool {
        match self {
            Self::TooOld { .. } | Self::TooNew { .. } | Self::Expired { .. } | Self::TooFarAhead { .. } => true,
            Self::MissingHeader(_)
            | Self::RepeatedHeader(_)
            | Self::MalformedId(_)
            | Self::MalformedTimestamp(_)
            | Self::MalformedSignature
            | Self::UnknownVersion(_)
            | Self::NoMatch { .. }
            | Self::MissingMember(_)
            | Self::WrongMember(_)
            | Self::RepeatedMember(_)
            | Self::MalformedSign
            | Self::SignMismatch { .. } => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingHeader(name) => {
                write!(f, "the header {name} is missing: webhook-id, webhook-timestamp and webhook-signature belong together")?;
                f.write_str(if *name == WEBHOOK_SIGNATURE {
                    "; a sender without a key for this domain sends the first two alone"
                } else {
                    ""
                })
            }
            Self::RepeatedHeader(name) => write!(f, "the header {name} is there more than once"),
            Self::MalformedId(text) => write!(f, "webhook-id is malformed ({text}): an id is 1 to 64 of A-Z a-z 0-9 _ -"),
            Self::MalformedTimestamp(text) => write!(f, "webhook-timestamp is malformed ({text}): it is Unix seconds in plain digits"),
            Self::MalformedSignature => {
                f.write_str("webhook-signature is malformed: it is entries such as v1,<base64 of 32 bytes>, separated by a space")
            }
            Self::UnknownVersion(versions) => {
                write!(f, "webhook-signature has no signature of version v1, only of {}: these are not known here", versions.join(", "))
            }
            Self::NoMatch { entries, doubt, not_json } => {
                match entries {
                    1 => f.write_str("webhook-signature does not match")?,
                    _ => write!(f, "none of the {entries} signatures in webhook-signature matches")?,
                }
                write!(f, "{}", InWebhook(*doubt))?;
                not_json.as_ref().map_or(Ok(()), |detail| write!(f, "; the body is no JSON object ({detail}): was it cut short?"))
            }
            Self::TooOld { age } => write!(
                f,
                "webhook-timestamp is {age} s old, {} s more than the {TOLERANCE_SECS} s that are allowed: an old callback sent again, or this clock is ahead",
                age.saturating_sub(TOLERANCE_SECS)
            ),
            Self::TooNew { ahead } => write!(
                f,
                "webhook-timestamp is {ahead} s ahead, {} s more than the {TOLERANCE_SECS} s that are allowed: this clock is behind, or the sender's is ahead",
                ahead.saturating_sub(TOLERANCE_SECS)
            ),
            Self::MissingMember(name) => write!(f, "{name} is missing in the body: t and sign belong together"),
            Self::WrongMember("t") => f.write_str("t in the body is malformed: it is a whole number of Unix seconds"),
            Self::WrongMember(name) => write!(f, "{name} in the body is malformed: it is a text"),
            Self::RepeatedMember(name) => {
                write!(f, "{name} is in the body more than once: which one counts differs from parser to parser, so none is believed")
            }
            Self::MalformedSign => f.write_str("sign in the body is malformed: it is 32 lower-case hex digits"),
            Self::SignMismatch { doubt } => write!(f, "sign is not the MD5 of this key and t: {}", InVendor(*doubt)),
            Self::Expired { since } => {
                write!(f, "t expired {since} s ago: it is good for {T_LIFETIME_SECS} s; an old callback sent again, or this clock is ahead")
            }
            Self::TooFarAhead { left } => write!(
                f,
                "t is {left} s ahead, and no sender sets it more than {T_LIFETIME_SECS} s ahead: this clock is behind, or the sender's is ahead"
            ),
        }
    }
}

/// A doubt about `webhook-signature`.
struct InWebhook(Doubt);

impl fmt::Display for InWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Doubt::Unknown | Doubt::OtherKeySigns => {
                ": another key or secret, or the body, webhook-id or webhook-timestamp is not as it was signed; an HMAC alone cannot tell which"
            }
            Doubt::Key => ", and neither does sign: most likely the key is not the sender's",
            Doubt::Changed => {
                ", while sign does: the key is right, so the body, webhook-id or webhook-timestamp is not as it was signed (a body that was parsed and written anew has other bytes); or the key has a secret of its own, to be given with --secret-file"
            }
            Doubt::SecretOrChanged => {
                ", while sign does: the key is right; the secret is another one, or the body, webhook-id or webhook-timestamp is not as it was signed"
            }
            Doubt::NewlineAdded => ", but would without the newline at the body's end: it was added after signing, as echo and many editors do",
            Doubt::NewlineLost => ", but would with a newline at the body's end: it was lost after signing, as in $(…) of a shell",
            Doubt::MadeWithKey => ", but would with the key's own bytes: the sender has no secret of its own, so leave it out here",
            Doubt::KeyWithNewline => ", but would with a newline at the end of the key: the sender took it for a part of the key",
            Doubt::KeyIsEncoded => {
                ", but would with what the key says in base64: it is a Standard Webhooks secret, to be given as one (whsec_… with --secret-file)"
            }
        })
    }
}

/// A doubt about `sign`.
struct InVendor(Doubt);

impl fmt::Display for InVendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Doubt::Key => "the key is not the sender's (webhook-signature matches by the secret)",
            Doubt::KeyWithNewline => "it would match with a newline at the end of the key: the sender took it for a part of the key",
            Doubt::OtherKeySigns => {
                "made with another key, since webhook-signature shows that nothing was changed. sign has room for one key, the newest: while keys rotate, check with that one"
            }
            Doubt::Unknown
            | Doubt::Changed
            | Doubt::SecretOrChanged
            | Doubt::NewlineAdded
            | Doubt::NewlineLost
            | Doubt::MadeWithKey
            | Doubt::KeyIsEncoded => "the key is not the sender's, or t or sign was changed",
        })
    }
}
