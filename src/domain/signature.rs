//! Signing per the callback protocol (`t`, `sign`) and Standard Webhooks (design §7).
//!
//! Two signatures because each has what the other lacks: receivers of the vendor know `sign`, which covers neither body nor URL;
//! `webhook-signature` covers id, time and body. Everything is made anew at every attempt, with the keys in force then.
//! No output here shows a key: not `Debug`, and there are no errors.

use super::body::decimal;
use super::id::EventId;
use super::time::UnixMillis;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Header of the event id (Standard Webhooks).
pub const WEBHOOK_ID: &str = "webhook-id";
/// Header of the attempt's time, in Unix seconds (Standard Webhooks).
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Header of `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, one for each key, separated by spaces (Standard Webhooks).
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// Lifetime of `t`: build time + 600 s (docs/protocol.md).
pub const T_LIFETIME_SECS: i64 = 600;

/// One entry of `webhook-signature`: `v1,` and 32 bytes in base64.
const ENTRY_LEN: usize = 3 + 44;

/// A signing key of a callback template. No `Debug` output or error ever shows its bytes.
#[derive(Clone)]
pub struct SigningKey {
    /// Its name in the registry.
    pub id: String,
    /// In force from then on (inclusive); `None`: since ever.
    pub not_before: Option<UnixMillis>,
    /// In force until then (exclusive); `None`: for ever.
    pub expires: Option<UnixMillis>,
    key: Zeroizing<Vec<u8>>,
    secret: Option<Zeroizing<Vec<u8>>>,
    /// The HMAC with its key already taken in: the same at every attempt.
    mac: Hmac<Sha256>,
}

impl SigningKey {
    /// A key called `id`: `key` is the vendor key's bytes, `secret` one of its own for the HMAC; without it the key's bytes.
    #[must_use]
    pub fn new(
        id: String,
        key: Zeroizing<Vec<u8>>,
        secret: Option<Zeroizing<Vec<u8>>>,
        not_before: Option<UnixMillis>,
        expires: Option<UnixMillis>,
    ) -> Self {
        let mac = keyed(secret.as_ref().unwrap_or(&key));
        Self { id, not_before, expires, key, secret, mac }
    }

    /// The vendor key's bytes: `sign` = MD5(key ‖ t).
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The HMAC's secret: its own, or the key's bytes.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        self.secret.as_ref().unwrap_or(&self.key)
    }

    /// Whether the HMAC has a secret of its own.
    #[must_use]
    pub const fn has_own_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether it is in force at `now`.
    #[must_use]
    pub fn is_active(&self, now: UnixMillis) -> bool {
        in_force(self.not_before, self.expires, now)
    }
}

/// Whether a key with these ends is in force at `now`: from `not_before`, inclusive, until `expires`, exclusive.
#[must_use]
pub fn in_force(not_before: Option<UnixMillis>, expires: Option<UnixMillis>, now: UnixMillis) -> bool {
    not_before.is_none_or(|from| from <= now) && expires.is_none_or(|until| now < until)
}

#[allow(clippy::expect_used, reason = "HMAC is defined for keys of every length (RFC 2104)")]
fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of every length")
}

/// The keys of a template.
#[derive(Clone, Debug, Default)]
pub struct KeyRing(Vec<SigningKey>);

/// What a keyed request carries in its body.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal {
    /// `t`, Unix seconds.
    pub t: i64,
    /// `sign`, 32 lower-case hex digits. A short key can be searched for with it, so `Debug` leaves it out.
    pub sign: String,
}

/// What to sign with at one attempt.
#[derive(Debug)]
#[must_use]
pub enum Signer<'a> {
    /// The template has no keys: `webhook-id` and `webhook-timestamp` alone.
    Unkeyed,
    /// Keys are configured and none is in force: never sent unsigned.
    NoActiveKey,
    /// The keys in force, newest first (latest `not_before`, then later in the list); never empty.
    Keys(Vec<&'a SigningKey>),
}

impl KeyRing {
    /// In the order of the registry.
    #[must_use]
    pub fn new(keys: Vec<SigningKey>) -> Self {
        Self(keys)
    }

    /// All keys, in the order of the registry.
    #[must_use]
    pub fn keys(&self) -> &[SigningKey] {
        &self.0
    }

    /// The first instant after `now` at which no key is in force, for good or until another begins. `None`: that never comes, or none is in
    /// force already. An old key that expires after its successor took over is not the end.
    #[must_use]
    pub fn runs_out(&self, now: UnixMillis) -> Option<UnixMillis> {
        let mut at = now;
        loop {
            let active: Vec<&SigningKey> = self.0.iter().filter(|key| key.is_active(at)).collect();
            if active.is_empty() {
                return (at > now).then_some(at);
            }
            // Without an end of one there is none of all.
            at = active.into_iter().map(|key| key.expires).collect::<Option<Vec<_>>>()?.into_iter().max()?;
        }
    }

    /// The keys in force at `now`.
    pub fn at(&self, now: UnixMillis) -> Signer<'_> {
        if self.0.is_empty() {
            return Signer::Unkeyed;
        }
        let mut active: Vec<_> = self.0.iter().rev().filter(|key| key.is_active(now)).collect();
        if active.is_empty() {
            return Signer::NoActiveKey;
        }
        // Stable, and the list was reversed: of equals the later stays first. `None`, since ever, is the least.
        active.sort_by_key(|key| std::cmp::Reverse(key.not_before));
        Signer::Keys(active)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("t", &self.t).finish_non_exhaustive()
    }
}

/// `sign`: lower-case hex MD5(key ‖ decimal t).
#[must_use]
pub fn vendor_sign(key: &[u8], t: i64) -> String {
    let digest = Md5::new().chain_update(key).chain_update(&*decimal(t)).finalize();
    let mut sign = String::with_capacity(2 * digest.len());
    for byte in digest {
        for digit in [byte >> 4, byte & 15] {
            sign.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    sign
}

/// The seal of the newest of the active keys at `now_secs`: `t` = now + 600 s.
#[must_use]
pub fn seal(newest: &SigningKey, now_secs: i64) -> Seal {
    let t = now_secs.saturating_add(T_LIFETIME_SECS);
    Seal { t, sign: vendor_sign(newest.key(), t) }
}

/// The Standard Webhooks secret in the form that the libraries take: `whsec_` and the base64 of its bytes.
#[must_use]
pub fn shown_secret(secret: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!("whsec_{}", STANDARD.encode(secret)))
}

/// The value of `webhook-signature`: `v1,<base64 HMAC-SHA256 of id.timestamp.body>`, one entry per key, in the order given, separated by a
/// space.
#[must_use]
pub fn webhook_signature(keys: &[&SigningKey], id: &EventId, timestamp_secs: i64, body: &[u8]) -> String {
    let timestamp = decimal(timestamp_secs);
    let mut header = String::with_capacity(keys.len() * (ENTRY_LEN + 1));
    for key in keys {
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        STANDARD.encode_string(mac(key, id, &timestamp, body).finalize().into_bytes(), &mut header);
    }
    header
}

/// Whether one of `given`, each the base64 of an entry of `webhook-signature`, is the signature by `key`. Compared in constant time, and
/// all are, whichever matches; the body is read once.
#[must_use]
pub fn webhook_signature_matches(key: &SigningKey, id: &EventId, timestamp_secs: i64, body: &[u8], given: &[&str]) -> bool {
    let mac = mac(key, id, &decimal(timestamp_secs), body);
    let matches = |given: &&&str| STANDARD.decode(given).is_ok_and(|given| mac.clone().verify_slice(&given).is_ok());
    given.iter().filter(matches).count() > 0
}

/// The HMAC of `id.timestamp.body`.
fn mac(key: &SigningKey, id: &EventId, timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mac = key.mac.clone().chain_update(id.as_str()).chain_update(b".").chain_update(timestamp).chain_update(b".");
    mac.chain_update(body)
}

/// Whether `given` is `sign` by `key` for `t`; compared in constant time.
#[must_use]
pub fn vendor_sign_matches(key: &[u8], t: i64, given: &str) -> bool {
    let expected = vendor_sign(key, t);
    let difference = expected.bytes().zip(given.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b));
    given.len() == expected.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, not_before: Option<i64>, expires: Option<i64>) -> SigningKey {
        let bytes = format!("bytes-of-{id}").into_bytes();
        SigningKey::new(id.into(), Zeroizing::new(bytes), None, not_before.map(UnixMillis), expires.map(UnixMillis))
    }

    fn plain(key: &[u8], secret: Option<&[u8]>) -> SigningKey {
        SigningKey::new("k".into(), Zeroizing::new(key.to_vec()), secret.map(|secret| Zeroizing::new(secret.to_vec())), None, None)
    }

    #[test]
    fn sign_equals_the_published_vectors() {
        for (key, t, sign) in [
            ("adasda131312", 1_545_030_873, "208f12f9549046f9ce5162d86b349696"),
            ("callbackKey123", 1_754_623_810, "03f0120ae673abff1295f95295105ff6"),
            ("adasda131312", 1_642_090_198, "5874b523f56f96b887bebb1f8a1773e8"),
        ] {
            assert_eq!(vendor_sign(key.as_bytes(), t), sign);
            assert_eq!(seal(&plain(key.as_bytes(), None), t - 600), Seal { t, sign: sign.into() });
        }
    }

    #[test]
    fn webhook_signature_equals_the_published_vectors() {
        for (secret, id, timestamp, body, signature) in [
            (
                "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "plJ3nmyCDGBKInavdOK15jsl",
                "msg_loFOjxBNrRLzqYUf",
                1_731_705_121,
                r#"{"event_type":"ping","data":{"success":true}}"#,
                "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
            ),
        ] {
            let secret = STANDARD.decode(secret).expect("base64");
            let id = EventId::parse(id.as_bytes()).expect("an id");
            let (own, shared) = (plain(b"vendor", Some(&secret)), plain(&secret, None));
            assert_eq!(webhook_signature(&[&own], &id, timestamp, body.as_bytes()), signature);
            assert_eq!(webhook_signature(&[&shared], &id, timestamp, body.as_bytes()), signature);
        }
    }

    #[test]
    fn only_the_very_signature_matches() {
        let (key, id) = (plain(b"a", None), EventId::parse(b"evt").expect("an id"));
        let entry = webhook_signature(&[&key], &id, 1, b"{}");
        let given = entry.strip_prefix("v1,").expect("version 1");
        let other = EventId::parse(b"evu").expect("an id");
        let matches = |key: &SigningKey, id: &EventId, timestamp, body: &[u8], given: &[&str]| {
            webhook_signature_matches(key, id, timestamp, body, given)
        };
        assert!(matches(&key, &id, 1, b"{}", &[given]));
        assert!(matches(&key, &id, 1, b"{}", &["not base64", given, "AAAA"]), "one of several");
        assert!(!matches(&plain(b"b", None), &id, 1, b"{}", &[given]));
        assert!(!matches(&key, &other, 1, b"{}", &[given]));
        assert!(!matches(&key, &id, 2, b"{}", &[given]));
        assert!(!matches(&key, &id, 1, b"{ }", &[given]));
        assert!(!matches(&key, &id, 1, b"{}", &[&given[..40]]), "a part of it");
        assert!(!matches(&key, &id, 1, b"{}", &["not base64", &STANDARD.encode([0; 32])]));
        assert!(!matches(&key, &id, 1, b"{}", &[]));
        let sign = vendor_sign(b"a", 7);
        assert!(vendor_sign_matches(b"a", 7, &sign));
        for wrong in ["", &sign[1..], &format!("{sign}0"), &sign.to_uppercase()] {
            assert!(!vendor_sign_matches(b"a", 7, wrong), "{wrong}");
        }
        assert!(!vendor_sign_matches(b"b", 7, &sign) && !vendor_sign_matches(b"a", 8, &sign));
    }

    #[test]
    fn webhook_signature_has_an_entry_per_key_in_the_order_given() {
        let (a, b) = (plain(b"a", None), plain(b"b", None));
        let id = EventId::parse(b"evt").expect("an id");
        let of = |keys: &[&SigningKey]| webhook_signature(keys, &id, 1, b"{}");
        assert_ne!(of(&[&a]), of(&[&b]));
        assert_eq!(of(&[&a, &b]), format!("{} {}", of(&[&a]), of(&[&b])));
        assert_eq!(of(&[&b, &a]), format!("{} {}", of(&[&b]), of(&[&a])));
        assert_eq!(of(&[]), "");
    }

    #[test]
    fn a_secret_of_its_own_signs_the_body_and_leaves_sign_to_the_key() {
        let key = plain(b"vendor", Some(b"secret"));
        assert_eq!((key.key(), key.secret(), key.has_own_secret()), (&b"vendor"[..], &b"secret"[..], true));
        let key = plain(b"vendor", None);
        assert_eq!((key.key(), key.secret(), key.has_own_secret()), (&b"vendor"[..], &b"vendor"[..], false));
    }

    #[test]
    fn keys_in_force_come_newest_first_and_expiry_is_exclusive() {
        let ring =
            |keys: &[(&str, Option<i64>, Option<i64>)]| KeyRing::new(keys.iter().map(|(id, from, until)| key(id, *from, *until)).collect());
        let at = |ring: &KeyRing, now| match ring.at(UnixMillis(now)) {
            Signer::Unkeyed => "unkeyed".to_owned(),
            Signer::NoActiveKey => "none".to_owned(),
            Signer::Keys(keys) => keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>().join(" "),
        };
        assert_eq!(at(&ring(&[]), 0), "unkeyed");
        let one = ring(&[("a", Some(10), Some(20))]);
        for (now, expected) in [(9, "none"), (10, "a"), (19, "a"), (20, "none")] {
            assert_eq!(at(&one, now), expected, "at {now}");
        }
        for (keys, expected) in [
            (vec![("a", None, None), ("b", None, None)], "b a"),
            (vec![("a", Some(5), None), ("b", None, None)], "a b"),
            (vec![("a", Some(5), None), ("b", Some(5), None), ("c", Some(4), None)], "b a c"),
            (vec![("a", Some(11), None), ("b", Some(5), None)], "b"),
            (vec![("a", Some(5), Some(10)), ("b", None, Some(11))], "b"),
            (vec![("a", Some(-5), None), ("b", None, None), ("c", Some(6), None)], "c a b"),
        ] {
            assert_eq!(at(&ring(&keys), 10), expected, "{keys:?}");
        }
        assert_eq!(one.keys().len(), 1);
    }

    #[test]
    fn a_ring_runs_out_with_the_last_of_its_keys() {
        for (keys, expected) in [
            (vec![], None),
            (vec![("a", None, None)], None),
            (vec![("a", None, Some(5)), ("b", None, None)], None),
            (vec![("a", None, Some(5))], Some(UnixMillis(5))),
            (vec![("a", None, Some(9)), ("b", Some(1), Some(5))], Some(UnixMillis(9))),
            (vec![("a", None, Some(5)), ("b", Some(5), Some(9))], Some(UnixMillis(9))),
            // Another begins too late: those between wait.
            (vec![("a", None, Some(5)), ("b", Some(6), None)], Some(UnixMillis(5))),
            (vec![("a", None, Some(5)), ("b", Some(6), Some(9))], Some(UnixMillis(5))),
            // It has run out, or not begun.
            (vec![("a", None, Some(2))], None),
            (vec![("a", Some(3), Some(9))], None),
        ] {
            let ring = KeyRing::new(keys.iter().map(|(id, from, until)| key(id, *from, *until)).collect());
            assert_eq!(ring.runs_out(UnixMillis(2)), expected, "{keys:?}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret_and_no_sign() {
        let key = SigningKey::new(
            "2026-11".into(),
            Zeroizing::new(b"canary-key".to_vec()),
            Some(Zeroizing::new(b"canary-secret".to_vec())),
            None,
            None,
        );
        let seal = seal(&key, 0);
        let ring = KeyRing::new(vec![key.clone()]);
        for text in [format!("{key:?}"), format!("{ring:#?}"), format!("{seal:?}"), format!("{:?}", ring.at(UnixMillis(0)))] {
            assert!(!text.contains("canary") && !text.contains(&seal.sign) && !text.contains("99, 97, 110"), "{text}");
        }
    }
}
