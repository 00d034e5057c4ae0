//! Verifying: what a receiver can tell about a callback, and why one does not verify (design §7).
//!
//! ```text
//!  headers, body ─┬─► webhook-id, -timestamp, -signature ─► HMAC ─► age     ─► Finding ┐
//!                 └─► t, sign in the body                ─► MD5  ─► expiry  ─► Finding ┴─► verified?
//! ```
//!
//! The two families are judged independently, so that a failure of one can be explained by the other: an HMAC alone cannot tell another key
//! from a changed body, but where `sign` matches, the key is right. What cannot be known is said to be unknown.
//!
//! Invariants: verified means that at least one family is there and matches, and that none that is there fails; signatures are compared
//! in constant time; no finding shows a key, or a signature that would have matched. What headers held is shown escaped.
//!
//! Not here: repeats, which need a memory.

mod fault;
#[cfg(test)]
mod tests;

pub use fault::{Doubt, Fault};

use super::event::{FoundMember, Sealed, sealed};
use super::id::EventId;
use super::signature::{
    SigningKey, T_LIFETIME_SECS, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, vendor_sign_matches, webhook_signature_matches,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::Zeroizing;

/// How far `webhook-timestamp` may be from now, either way, in seconds: what the public libraries allow.
pub const TOLERANCE_SECS: i64 = 300;

/// What a receiver shares with the sender: a key, a secret of its own for the HMAC, or both.
#[derive(Clone, Debug)]
pub struct SharedKey {
    signing: SigningKey,
    /// Without the vendor's key `sign` cannot be judged.
    knows_key: bool,
}

impl SharedKey {
    /// From the vendor's `key` and, where there is one, the `secret` of its own; `None` without either.
    #[must_use]
    pub fn new(key: Option<Zeroizing<Vec<u8>>>, secret: Option<Zeroizing<Vec<u8>>>) -> Option<Self> {
        let knows_key = key.is_some();
        let (key, secret) = match (key, secret) {
            (Some(key), secret) => (key, secret),
            (None, Some(secret)) => (secret, None),
            (None, None) => return None,
        };
        Some(Self { signing: SigningKey::new("shared".to_owned(), key, secret, None, None), knows_key })
    }

    /// The key to sign with.
    #[must_use]
    pub const fn signing(&self) -> &SigningKey {
        &self.signing
    }
}

/// A callback as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Names in any case, and values.
    pub headers: &'a [(String, String)],
    /// The body's bytes.
    pub body: &'a [u8],
}

/// What was found of one signature family.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is not there.
    Absent,
    /// It is there, but cannot be judged: `sign` without the vendor's key.
    Unjudged,
    /// It matches.
    Verified(Proof),
    /// It does not verify: every reason.
    Refused(Vec<Fault>),
}

/// What is known of a signature that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// `webhook-signature`: one of `entries`, made `age` seconds ago.
    Webhook {
        /// Signatures in the header.
        entries: usize,
        /// From `webhook-timestamp` to now; below zero when our clock is behind.
        age: i64,
    },
    /// `sign`: good for `left` more seconds.
    Vendor {
        /// From now to `t`.
        left: i64,
    },
}

/// What was found of a callback.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    pub webhook: Finding,
    /// `t` and `sign`.
    pub vendor: Finding,
    /// Why the body is no JSON object, in which `t` and `sign` could be; `None`: it is one.
    pub not_json: Option<String>,
}

impl Verification {
    /// At least one family verifies, and none fails.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        let both = [&self.webhook, &self.vendor];
        both.iter().any(|finding| matches!(finding, Finding::Verified(_)))
            && !both.iter().any(|finding| matches!(finding, Finding::Refused(_)))
    }

    /// It does not verify, and the time is all that is wrong: by another time it would.
    #[must_use]
    pub fn fails_by_time_alone(&self) -> bool {
        let refused: Vec<&Finding> = [&self.webhook, &self.vendor].into_iter().filter(|f| matches!(f, Finding::Refused(_))).collect();
        !refused.is_empty() && refused.into_iter().all(Finding::matches)
    }
}

impl Finding {
    /// Whether the signature itself matches, though its time may be wrong.
    fn matches(&self) -> bool {
        match self {
            Self::Verified(_) => true,
            Self::Refused(faults) => faults.iter().all(Fault::is_of_time),
            Self::Absent | Self::Unjudged => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("not there"),
            Self::Unjudged => f.write_str("there, but not checked: that needs the key, not the secret"),
            Self::Verified(Proof::Webhook { entries: 1, age }) => write!(f, "verified, {}", Age(*age)),
            Self::Verified(Proof::Webhook { entries, age }) => write!(f, "verified by one of its {entries} signatures, {}", Age(*age)),
            Self::Verified(Proof::Vendor { left }) => write!(f, "verified, good for {left} s more; it covers no other part of the body"),
            Self::Refused(faults) => {
                f.write_str("NOT verified: ")?;
                for (at, fault) in faults.iter().enumerate() {
                    write!(f, "{}{fault}", if at == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

/// When it was signed, for people.
struct Age(i64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 { write!(f, "signed {} s from now", -self.0) } else { write!(f, "signed {} s ago", self.0) }
    }
}

/// Judges `message` at `now` (Unix seconds) with `shared`.
pub fn verify(shared: &SharedKey, message: Message<'_>, now: i64) -> Verification {
    let sealed = sealed(message.body);
    let vendor = match &sealed {
        Ok(sealed) => vendor(shared, sealed, now),
        Err(_) => Finding::Absent,
    };
    let not_json = sealed.err().map(|error| error.detail);
    let webhook = webhook(shared, message, &vendor, not_json.as_deref(), now);
    let vendor = explained(vendor, shared, &webhook);
    Verification { webhook, vendor, not_json }
}

// === webhook-id, webhook-timestamp, webhook-signature ===

/// Every value of the header `name`.
fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
}

/// The value of the header `name`, which must be there once.
fn one<'a>(headers: &'a [(String, String)], name: &'static str, faults: &mut Vec<Fault>) -> Option<&'a str> {
    match *values(headers, name) {
        [value] => Some(value),
        [] => {
            faults.push(Fault::MissingHeader(name));
            None
        }
        [_, _, ..] => {
            faults.push(Fault::RepeatedHeader(name));
            None
        }
    }
}

fn webhook(shared: &SharedKey, message: Message<'_>, vendor: &Finding, not_json: Option<&str>, now: i64) -> Finding {
    let there = |name| !values(message.headers, name).is_empty();
    if ![WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE].into_iter().any(there) {
        return Finding::Absent;
    }
    let mut faults = Vec::new();
    let id = one(message.headers, WEBHOOK_ID, &mut faults).and_then(|text| {
        let id = EventId::parse(text.as_bytes());
        if id.is_none() {
            faults.push(Fault::MalformedId(escaped(text)));
        }
        id
    });
    let timestamp = one(message.headers, WEBHOOK_TIMESTAMP, &mut faults).and_then(|text| {
        let seconds = plain_seconds(text);
        if seconds.is_none() {
            faults.push(Fault::MalformedTimestamp(escaped(text)));
        }
        seconds
    });
    let entries = one(message.headers, WEBHOOK_SIGNATURE, &mut faults).and_then(|text| entries(text, &mut faults));
    let count = entries.as_ref().map_or(0, Vec::len);
    if let (Some(id), Some(timestamp), Some(entries)) = (&id, timestamp, entries) {
        let signed = Signed { id, timestamp, entries: &entries };
        if !signed.matches(shared.signing(), message.body) {
            faults.push(Fault::NoMatch {
                entries: count,
                doubt: doubt(shared, &signed, message.body, vendor),
                not_json: not_json.map(str::to_owned),
            });
        }
    }
    let age = timestamp.map(|timestamp| now.saturating_sub(timestamp));
    match age {
        Some(age) if age > TOLERANCE_SECS => faults.push(Fault::TooOld { age }),
        Some(age) if age < -TOLERANCE_SECS => faults.push(Fault::TooNew { ahead: age.saturating_neg() }),
        Some(_) | None => {}
    }
    if faults.is_empty() { Finding::Verified(Proof::Webhook { entries: count, age: age.unwrap_or(0) }) } else { Finding::Refused(faults) }
}

/// Plain digits: what is signed is the number written this way.
fn plain_seconds(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The base64 of each signature of version 1. Without any it says why.
fn entries<'a>(text: &'a str, faults: &mut Vec<Fault>) -> Option<Vec<&'a str>> {
    let all: Vec<&str> = text.split(' ').filter(|entry| !entry.is_empty()).collect();
    let ours: Vec<&str> = all.iter().filter_map(|entry| entry.strip_prefix("v1,")).collect();
    if ours.iter().any(|given| STANDARD.decode(given).is_ok_and(|mac| mac.len() == 32)) {
        return Some(ours);
    }
    let versions: Vec<String> = all.iter().filter_map(|entry| entry.split_once(',')).map(|(version, _)| escaped(version)).collect();
    faults.push(if ours.is_empty() && !versions.is_empty() { Fault::UnknownVersion(versions) } else { Fault::MalformedSignature });
    None
}

/// The signed part of the headers, well-formed.
struct Signed<'a> {
    id: &'a EventId,
    timestamp: i64,
    entries: &'a [&'a str],
}

impl Signed<'_> {
    /// Whether one of the signatures is by `key`, over `body`.
    fn matches(&self, key: &SigningKey, body: &[u8]) -> bool {
        webhook_signature_matches(key, self.id, self.timestamp, body, self.entries)
    }
}

/// Why nothing matches, as far as can be known: tries frequent mistakes, then what `sign` says about the key.
fn doubt(shared: &SharedKey, signed: &Signed<'_>, body: &[u8], vendor: &Finding) -> Doubt {
    let key = shared.signing();
    let own_secret = key.has_own_secret() || !shared.knows_key;
    let by = |secret: Vec<u8>| SigningKey::new(String::new(), Zeroizing::new(secret), None, None, None);
    if let Some(cut) = body.strip_suffix(b"\n")
        && [cut, cut.strip_suffix(b"\r").unwrap_or(cut)].iter().any(|body| signed.matches(key, body))
    {
        return Doubt::NewlineAdded;
    }
    if signed.matches(key, &[body, b"\n"].concat()) {
        return Doubt::NewlineLost;
    }
    if key.has_own_secret() && signed.matches(&by(key.key().to_vec()), body) {
        return Doubt::MadeWithKey;
    }
    if signed.matches(&by([key.secret(), b"\n"].concat()), body) {
        return Doubt::KeyWithNewline;
    }
    let encoded = key.secret().strip_prefix(b"whsec_").unwrap_or(key.secret());
    if STANDARD.decode(encoded).is_ok_and(|decoded| !decoded.is_empty() && signed.matches(&by(decoded), body)) {
        return Doubt::KeyIsEncoded;
    }
    if vendor.matches() {
        return if own_secret { Doubt::SecretOrChanged } else { Doubt::Changed };
    }
    match vendor {
        Finding::Refused(faults) if faults.iter().any(|fault| matches!(fault, Fault::SignMismatch { .. })) && !own_secret => Doubt::Key,
        Finding::Refused(_) | Finding::Absent | Finding::Unjudged | Finding::Verified(_) => Doubt::Unknown,
    }
}

// === t, sign ===

fn vendor(shared: &SharedKey, sealed: &Sealed, now: i64) -> Finding {
    if sealed.t == FoundMember::Absent && sealed.sign == FoundMember::Absent {
        return Finding::Absent;
    }
    if !shared.knows_key {
        return Finding::Unjudged;
    }
    let mut faults = Vec::new();
    let t = member("t", &sealed.t, &mut faults).copied();
    let sign = member("sign", &sealed.sign, &mut faults);
    if let Some(sign) = sign
        && (sign.len() != 32 || !sign.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    {
        faults.push(Fault::MalformedSign);
    } else if let (Some(t), Some(sign)) = (t, sign) {
        let key = shared.signing().key();
        if !vendor_sign_matches(key, t, sign) {
            let with_newline = vendor_sign_matches(&[key, b"\n"].concat(), t, sign);
            faults.push(Fault::SignMismatch { doubt: if with_newline { Doubt::KeyWithNewline } else { Doubt::Unknown } });
        }
    }
    let left = t.map(|t| t.saturating_sub(now));
    match left {
        Some(left) if left <= 0 => faults.push(Fault::Expired { since: left.saturating_neg() }),
        Some(left) if left > T_LIFETIME_SECS + TOLERANCE_SECS => faults.push(Fault::TooFarAhead { left }),
        Some(_) | None => {}
    }
    if faults.is_empty() { Finding::Verified(Proof::Vendor { left: left.unwrap_or(0) }) } else { Finding::Refused(faults) }
}

fn member<'a, T>(name: &'static str, found: &'a FoundMember<T>, faults: &mut Vec<Fault>) -> Option<&'a T> {
    match found {
        FoundMember::Once(value) => return Some(value),
        FoundMember::Absent => faults.push(Fault::MissingMember(name)),
        FoundMember::WrongType => faults.push(Fault::WrongMember(name)),
        FoundMember::Repeated => faults.push(Fault::RepeatedMember(name)),
    }
    None
}

/// Adds to a `sign` that does not match what the other family tells about it.
fn explained(vendor: Finding, shared: &SharedKey, webhook: &Finding) -> Finding {
    let Finding::Refused(mut faults) = vendor else { return vendor };
    for fault in &mut faults {
        if let Fault::SignMismatch { doubt: doubt @ Doubt::Unknown } = fault
            && webhook.matches()
        {
            *doubt = if shared.signing().has_own_secret() { Doubt::Key } else { Doubt::OtherKeySigns };
        }
    }
    Finding::Refused(faults)
}

/// What came from outside, fit for a terminal and not long.
fn escaped(text: &str) -> String {
    const SHOWN: usize = 40;
    let shown: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN).is_some() { format!("{shown}…") } else { shown }
}
