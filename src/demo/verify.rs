//! The receivers' own check of a request, written from the protocol's description and not from `domain::signature`, so that one can contradict
//! the other.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use serde_json::Value;
use sha2::Sha256;

/// What a receiver shares with the daemon.
#[derive(Debug)]
pub(super) struct SharedKey {
    /// For `sign`, and for the HMAC where there is no secret.
    pub(super) key: Vec<u8>,
    /// For the HMAC.
    pub(super) secret: Option<Vec<u8>>,
}

/// A request as far as it is checked.
pub(super) struct Signed<'a> {
    pub(super) id: &'a str,
    pub(super) timestamp: &'a str,
    pub(super) signature: &'a str,
    pub(super) body: &'a [u8],
}

/// `t` is this far ahead of the time of sending, at most; and a timestamp this far from now, either way.
const LIFETIME_SECS: i64 = 600;
const CLOCK_SLACK_SECS: i64 = 5;
const TOLERANCE_SECS: i64 = 300;

/// Checks `request`, made from the event `original`, at `now` (Unix seconds): both signatures, by each of `keys` (newest first), their ages,
/// and that nothing of the event but `t` and `sign` changed.
pub(super) fn verify(keys: &[SharedKey], request: &Signed<'_>, original: &[u8], now: i64) -> Result<(), &'static str> {
    let timestamp: i64 = request.timestamp.parse().map_err(|_| "webhook-timestamp is no number")?;
    if (timestamp - now).abs() > TOLERANCE_SECS {
        return Err("webhook-timestamp is not of now");
    }
    let entries: Vec<&str> = request.signature.split(' ').collect();
    if entries.len() != keys.len() {
        return Err("webhook-signature has not one entry per key");
    }
    for (shared, entry) in keys.iter().zip(entries) {
        let mac = Hmac::<Sha256>::new_from_slice(shared.secret.as_ref().unwrap_or(&shared.key)).map_err(|_| "unusable secret")?;
        let mac =
            mac.chain_update(request.id).chain_update(".").chain_update(request.timestamp).chain_update(".").chain_update(request.body);
        let given = entry.strip_prefix("v1,").and_then(decode_base64).ok_or("webhook-signature is not v1 and base64")?;
        mac.verify_slice(&given).map_err(|_| "webhook-signature does not match the body")?;
    }
    let mut body: Value = serde_json::from_slice(request.body).map_err(|_| "the body is not JSON")?;
    let original: Value = serde_json::from_slice(original).map_err(|_| "the original is not JSON")?;
    let members = body.as_object_mut().ok_or("the body is no object")?;
    let (t, sign) = (members.remove("t"), members.remove("sign"));
    if body != original {
        return Err("the body is not the event");
    }
    let t = t.as_ref().and_then(Value::as_i64).ok_or("t is missing")?;
    let newest = keys.first().ok_or("no key to check with")?;
    let expected: String =
        Md5::digest([&newest.key[..], t.to_string().as_bytes()].concat()).iter().map(|byte| format!("{byte:02x}")).collect();
    if sign.as_ref().and_then(Value::as_str) != Some(&expected) {
        return Err("sign does not match t");
    }
    if t <= now || t > now + LIFETIME_SECS + CLOCK_SLACK_SECS {
        return Err("t is not within ten minutes from now");
    }
    Ok(())
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &[u8], secret: Option<&[u8]>) -> SharedKey {
        SharedKey { key: key.to_vec(), secret: secret.map(<[u8]>::to_vec) }
    }

    /// The protocol page's key, `t` and `sign`, with an HMAC over this body made by OpenSSL's command line:
    /// `printf '%s' 'evt_1.1642089598.{…}' | openssl dgst -sha256 -hmac adasda131312 -binary | base64`
    const BODY: &str = r#"{"event_type":100,"app":"push.example.com","t":1642090198,"sign":"5874b523f56f96b887bebb1f8a1773e8"}"#;
    const ORIGINAL: &[u8] = br#"{"event_type":100,"app":"push.example.com"}"#;
    const SIGNATURE: &str = "v1,wGBiFkrTknPtsrRD8qSJSqsRphQAezbPbYJAb9zefpE=";
    const NOW: i64 = 1_642_089_598;

    fn check(keys: &[SharedKey], signature: &str, body: &str, original: &[u8], now: i64) -> Result<(), &'static str> {
        let request = Signed { id: "evt_1", timestamp: "1642089598", signature, body: body.as_bytes() };
        verify(keys, &request, original, now)
    }

    #[test]
    fn a_request_signed_as_published_passes() {
        assert_eq!(check(&[key(b"adasda131312", None)], SIGNATURE, BODY, ORIGINAL, NOW), Ok(()));
    }

    #[test]
    fn the_published_vectors_of_standard_webhooks_are_recomputed() {
        // The HMAC is judged before the body is looked into: what comes after it says that it matched.
        let secret = decode_base64("plJ3nmyCDGBKInavdOK15jsl").unwrap();
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        let request = |signature| Signed { id: "msg_loFOjxBNrRLzqYUf", timestamp: "1731705121", signature, body };
        let good = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=";
        assert_eq!(verify(&[key(b"x", Some(&secret))], &request(good), body, 1_731_705_121), Err("t is missing"));
        let bad = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD1=";
        assert!(
            verify(&[key(b"x", Some(&secret))], &request(bad), body, 1_731_705_121).is_err_and(|why| why.contains("webhook-signature"))
        );
    }

    #[test]
    fn every_kind_of_tampering_is_found() {
        let good = || vec![key(b"adasda131312", None)];
        for (keys, signature, body, original, now, why) in [
            (vec![key(b"another", None)], SIGNATURE, BODY, ORIGINAL, NOW, "webhook-signature does not match the body"),
            (good(), SIGNATURE, &*BODY.replace("100", "101"), ORIGINAL, NOW, "webhook-signature does not match the body"),
            (good(), SIGNATURE, BODY, br#"{"event_type":100}"#, NOW, "the body is not the event"),
            (good(), SIGNATURE, BODY, ORIGINAL, NOW + 301, "webhook-timestamp is not of now"),
            (good(), SIGNATURE, BODY, ORIGINAL, NOW - 6, "t is not within ten minutes from now"),
            (good(), "v1,AAAA", BODY, ORIGINAL, NOW, "webhook-signature does not match the body"),
            (good(), "", BODY, ORIGINAL, NOW, "webhook-signature is not v1 and base64"),
            (vec![key(b"a", None), key(b"b", None)], SIGNATURE, BODY, ORIGINAL, NOW, "webhook-signature has not one entry per key"),
            (vec![key(b"other", Some(b"adasda131312"))], SIGNATURE, BODY, ORIGINAL, NOW, "sign does not match t"),
        ] {
            assert_eq!(check(&keys, signature, body, original, now), Err(why));
        }
    }
}
