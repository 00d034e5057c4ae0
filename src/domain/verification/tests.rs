//! Every way in which a callback can fail to verify, and what is said of it.

use super::super::body::render;
use super::super::signature::{seal, webhook_signature};
use super::*;
use bytes::Bytes;

const KEY: &[u8] = b"adasda131312";
const SECRET: &[u8] = b"0123456789abcdefghijklmn";
const NOW: i64 = 1_642_089_598;
const ID: &str = "evt_1";
const EVENT: &str = r#"{"event_type":100,"app":"push.example.com"}"#;

fn shared(key: Option<&[u8]>, secret: Option<&[u8]>) -> SharedKey {
    let bytes = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
    SharedKey::new(key.map(bytes), secret.map(bytes)).expect("one of the two")
}

/// A callback signed by `shared` at [`NOW`].
#[derive(Clone)]
struct Callback {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Callback {
    fn signed(shared: &SharedKey) -> Self {
        let value = Bytes::from_static(EVENT.as_bytes());
        let seal = seal(shared.signing(), NOW);
        let body = render(&value, &sealed(&value).expect("an object").cuts, Some((seal.t, &seal.sign)));
        let id = EventId::parse(ID.as_bytes()).expect("an id");
        let signature = webhook_signature(&[shared.signing()], &id, NOW, &body);
        let headers = [(WEBHOOK_ID, ID.to_owned()), (WEBHOOK_TIMESTAMP, NOW.to_string()), (WEBHOOK_SIGNATURE, signature)];
        Self { headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), body: body.to_vec() }
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn with(self, name: &str, value: &str) -> Self {
        let mut other = self.without(name);
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    fn bare(mut self) -> Self {
        self.headers.clear();
        self
    }

    fn body(mut self, change: impl Fn(&str) -> String) -> Self {
        self.body = change(std::str::from_utf8(&self.body).expect("UTF-8")).into_bytes();
        self
    }

    fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(known, _)| known == name).expect("it is there").1
    }

    fn at(&self, shared: &SharedKey, now: i64) -> Verification {
        verify(shared, Message { headers: &self.headers, body: &self.body }, now)
    }

    fn judged(&self) -> Verification {
        self.at(&shared(Some(KEY), None), NOW)
    }
}

fn genuine() -> Callback {
    Callback::signed(&shared(Some(KEY), None))
}

fn only(finding: &Finding) -> &Fault {
    match finding {
        Finding::Refused(faults) if faults.len() == 1 => &faults[0],
        Finding::Absent | Finding::Unjudged | Finding::Verified(_) | Finding::Refused(_) => panic!("not one fault: {finding:?}"),
    }
}

fn of_webhook(finding: &Finding) -> Doubt {
    let Fault::NoMatch { doubt, .. } = only(finding) else { panic!("{finding:?}") };
    *doubt
}

fn of_vendor(finding: &Finding) -> Doubt {
    let Fault::SignMismatch { doubt } = only(finding) else { panic!("{finding:?}") };
    *doubt
}

#[test]
fn a_genuine_callback_verifies_by_both_families_and_by_each_alone() {
    let both = genuine().judged();
    assert!(both.is_verified());
    assert_eq!(both.webhook, Finding::Verified(Proof::Webhook { entries: 1, age: 0 }));
    assert_eq!(both.vendor, Finding::Verified(Proof::Vendor { left: 600 }));
    let vendor = genuine().bare().judged();
    assert!(vendor.is_verified() && vendor.webhook == Finding::Absent);
    // Names in any case, as HTTP/1.1 may bring them.
    let mut loud = genuine();
    loud.headers.iter_mut().for_each(|(name, _)| name.make_ascii_uppercase());
    assert!(loud.judged().is_verified());
}

#[test]
fn the_published_vectors_of_both_protocols_verify() {
    let body = br#"{"app":"push.example.com","sign":"5874b523f56f96b887bebb1f8a1773e8","t":1642090198}"#;
    let verified = verify(&shared(Some(KEY), None), Message { headers: &[], body }, NOW);
    assert!(verified.is_verified(), "{verified:?}");
    let headers: Vec<_> = [
        (WEBHOOK_ID, "msg_loFOjxBNrRLzqYUf"),
        (WEBHOOK_TIMESTAMP, "1731705121"),
        (WEBHOOK_SIGNATURE, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let secret = STANDARD.decode("plJ3nmyCDGBKInavdOK15jsl").expect("base64");
    let message = Message { headers: &headers, body: br#"{"event_type":"ping","data":{"success":true}}"# };
    let verified = verify(&shared(None, Some(&secret)), message, 1_731_705_121);
    assert!(verified.is_verified() && verified.vendor == Finding::Absent, "{verified:?}");
}

#[test]
fn nothing_to_verify_is_not_verified() {
    let nothing = genuine().bare().body(|_| "{}".to_owned()).judged();
    assert_eq!((&nothing.webhook, &nothing.vendor, nothing.is_verified()), (&Finding::Absent, &Finding::Absent, false));
    let no_object = genuine().bare().body(|_| "t=1".to_owned()).judged();
    assert!(!no_object.is_verified() && no_object.not_json.is_some());
}

#[test]
fn another_key_is_told_from_a_changed_body_only_where_sign_tells() {
    let wrong = shared(Some(b"another"), None);
    let found = genuine().at(&wrong, NOW);
    assert_eq!((of_webhook(&found.webhook), of_vendor(&found.vendor)), (Doubt::Key, Doubt::Unknown));
    let changed = genuine().body(|body| body.replace("push", "pull")).judged();
    assert_eq!(of_webhook(&changed.webhook), Doubt::Changed);
    assert!(matches!(changed.vendor, Finding::Verified(_)) && !changed.is_verified());
    // sign matches, but is too old to verify: the key is right all the same.
    let found = genuine().body(|body| body.replace("push", "pull")).at(&shared(Some(KEY), None), NOW + 700);
    let Finding::Refused(faults) = &found.webhook else { panic!("{found:?}") };
    assert!(matches!(faults[..], [Fault::NoMatch { doubt: Doubt::Changed, .. }, Fault::TooOld { age: 700 }]), "{faults:?}");
    let other_id = genuine().with(WEBHOOK_ID, "evt_2").judged();
    assert_eq!(of_webhook(&other_id.webhook), Doubt::Changed);
    let unkeyed = Callback { body: EVENT.into(), ..genuine() };
    assert_eq!(of_webhook(&unkeyed.judged().webhook), Doubt::Unknown);
    let own = shared(Some(KEY), Some(SECRET));
    let changed = Callback::signed(&own).body(|body| body.replace("push", "pull"));
    assert_eq!(of_webhook(&changed.at(&own, NOW).webhook), Doubt::SecretOrChanged);
}

#[test]
fn mistakes_that_are_made_often_are_named() {
    let own = shared(Some(KEY), Some(SECRET));
    let added = |tail: &'static str| genuine().body(move |body| format!("{body}{tail}"));
    for (callback, key, expected) in [
        (added("\n"), shared(Some(KEY), None), Doubt::NewlineAdded),
        (added("\r\n"), shared(Some(KEY), None), Doubt::NewlineAdded),
        (genuine(), own.clone(), Doubt::MadeWithKey),
        (Callback::signed(&shared(Some(b"k\n"), None)), shared(Some(b"k"), None), Doubt::KeyWithNewline),
        (Callback::signed(&own), shared(Some(STANDARD.encode(SECRET).as_bytes()), None), Doubt::KeyIsEncoded),
        (Callback::signed(&own), shared(Some(format!("whsec_{}", STANDARD.encode(SECRET)).as_bytes()), None), Doubt::KeyIsEncoded),
    ] {
        assert_eq!(of_webhook(&callback.at(&key, NOW).webhook), expected);
    }
    let found = Callback::signed(&shared(Some(b"k\n"), None)).at(&shared(Some(b"k"), None), NOW);
    assert_eq!(of_vendor(&found.vendor), Doubt::KeyWithNewline);
    // What was signed ended in a newline, and what arrived does not.
    let mut lost = genuine();
    lost.body.push(b'\n');
    let signature = webhook_signature(&[shared(Some(KEY), None).signing()], &EventId::parse(b"evt_1").expect("an id"), NOW, &lost.body);
    lost.body.pop();
    assert_eq!(of_webhook(&lost.with(WEBHOOK_SIGNATURE, &signature).judged().webhook), Doubt::NewlineLost);
}

#[test]
fn while_keys_rotate_any_of_the_signatures_does_and_sign_says_whose_it_is() {
    let (old, new) = (shared(Some(b"old"), None), shared(Some(b"new"), None));
    let callback = Callback::signed(&new);
    let second = webhook_signature(&[old.signing()], &EventId::parse(b"evt_1").expect("an id"), NOW, &callback.body);
    let both = format!("{} {second}", callback.header(WEBHOOK_SIGNATURE));
    let callback = callback.with(WEBHOOK_SIGNATURE, &both);
    let found = callback.at(&new, NOW);
    assert_eq!(found.webhook, Finding::Verified(Proof::Webhook { entries: 2, age: 0 }));
    assert!(found.is_verified());
    let found = callback.at(&old, NOW);
    assert_eq!(found.webhook, Finding::Verified(Proof::Webhook { entries: 2, age: 0 }));
    assert_eq!(of_vendor(&found.vendor), Doubt::OtherKeySigns);
    assert!(!found.is_verified());
    let found = callback.at(&shared(Some(b"third"), None), NOW);
    assert!(matches!(only(&found.webhook), Fault::NoMatch { entries: 2, doubt: Doubt::Key, .. }), "{found:?}");
}

#[test]
fn times_outside_the_tolerance_are_told_with_how_much() {
    let key = shared(Some(KEY), None);
    for (now, verified) in [(-300, true), (-301, false), (300, true), (301, false)] {
        assert_eq!(genuine().at(&key, NOW + now).is_verified(), verified, "{now}");
    }
    let found = genuine().at(&key, NOW + 600);
    assert_eq!((only(&found.webhook), only(&found.vendor)), (&Fault::TooOld { age: 600 }, &Fault::Expired { since: 0 }));
    assert_eq!(genuine().at(&key, NOW + 599).vendor, Finding::Verified(Proof::Vendor { left: 1 }));
    let found = genuine().at(&key, NOW - 1000);
    assert_eq!((only(&found.webhook), only(&found.vendor)), (&Fault::TooNew { ahead: 1000 }, &Fault::TooFarAhead { left: 1600 }));
    assert!(only(&found.webhook).to_string().contains("1000 s ahead, 700 s more than the 300 s"));
    // The far ends of the numbers.
    for now in [i64::MIN, i64::MAX] {
        assert!(!genuine().at(&key, now).is_verified());
    }
}

#[test]
fn headers_that_are_missing_doubled_or_malformed_are_named() {
    for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE] {
        let found = genuine().without(name).judged();
        assert_eq!(only(&found.webhook), &Fault::MissingHeader(name));
        assert!(!found.is_verified(), "a signature that was taken away is no reason to believe the other");
        let mut doubled = genuine();
        let again = (name.to_owned(), doubled.header(name).to_owned());
        doubled.headers.push(again);
        assert_eq!(only(&doubled.judged().webhook), &Fault::RepeatedHeader(name));
    }
    for id in ["", "evt.1", "evt 1", "é"] {
        let found = genuine().with(WEBHOOK_ID, id).judged();
        assert_eq!(only(&found.webhook), &Fault::MalformedId(escaped(id)));
    }
    for timestamp in ["", "-1", "+1642089598", "01642089598", "1642089598.0", "1e9", "now", "99999999999999999999"] {
        let found = genuine().with(WEBHOOK_TIMESTAMP, timestamp).judged();
        assert_eq!(only(&found.webhook), &Fault::MalformedTimestamp(timestamp.to_owned()));
    }
    for signature in ["", "v1", "v1,", "v1,%%%", "v1,AAAA", "nonsense"] {
        let found = genuine().with(WEBHOOK_SIGNATURE, signature).judged();
        assert_eq!(only(&found.webhook), &Fault::MalformedSignature, "{signature}");
    }
    let other = genuine().header(WEBHOOK_SIGNATURE).replace("v1,", "v2,");
    assert_eq!(only(&genuine().with(WEBHOOK_SIGNATURE, &other).judged().webhook), &Fault::UnknownVersion(vec!["v2".into()]));
    let beside = format!("v1a,AAAA {other} {}", genuine().header(WEBHOOK_SIGNATURE));
    assert!(genuine().with(WEBHOOK_SIGNATURE, &beside).judged().is_verified(), "versions that are not known are passed over");
}

#[test]
fn members_that_are_missing_doubled_or_malformed_are_named() {
    let bare = |change: &dyn Fn(&str) -> String| genuine().bare().body(change).judged().vendor;
    let sign = "5874b523f56f96b887bebb1f8a1773e8";
    assert_eq!(only(&bare(&|body| body.replace(r#""t":1642090198,"#, ""))), &Fault::MissingMember("t"));
    assert_eq!(only(&bare(&|body| body.replace(&format!(r#","sign":"{sign}""#), ""))), &Fault::MissingMember("sign"));
    assert_eq!(only(&bare(&|body| body.replace("1642090198", "\"1642090198\""))), &Fault::WrongMember("t"));
    assert_eq!(only(&bare(&|body| body.replace(&format!("\"{sign}\""), "7"))), &Fault::WrongMember("sign"));
    assert_eq!(only(&bare(&|body| body.replacen('{', r#"{"t":1642090198,"#, 1))), &Fault::RepeatedMember("t"));
    assert_eq!(only(&bare(&|body| body.replacen('{', &format!(r#"{{"sign":"{sign}","#), 1))), &Fault::RepeatedMember("sign"));
    assert_eq!(only(&bare(&|body| body.replace(sign, &sign.to_uppercase()))), &Fault::MalformedSign);
    assert_eq!(only(&bare(&|body| body.replace(sign, &sign[1..]))), &Fault::MalformedSign);
    assert_eq!(of_vendor(&bare(&|body| body.replace("1642090198", "1642090199"))), Doubt::Unknown);
    // What sign cannot see.
    assert!(matches!(bare(&|body| body.replace("push", "pull")), Finding::Verified(_)));
}

#[test]
fn a_secret_alone_judges_no_sign_and_a_wrong_key_beside_a_right_secret_is_told() {
    let own = shared(Some(KEY), Some(SECRET));
    let found = Callback::signed(&own).at(&shared(None, Some(SECRET)), NOW);
    assert_eq!(found.vendor, Finding::Unjudged);
    assert!(found.is_verified());
    let found = Callback::signed(&own).at(&shared(Some(b"another"), Some(SECRET)), NOW);
    assert_eq!(of_vendor(&found.vendor), Doubt::Key);
    assert!(SharedKey::new(None, None).is_none());
}

#[test]
fn a_body_that_was_cut_short_is_told() {
    let found = genuine().body(|body| body[..20].to_owned()).judged();
    assert!(only(&found.webhook).to_string().contains("not JSON at byte 20"), "{}", found.webhook);
}

#[test]
fn what_is_said_is_a_line_without_a_key_or_control_characters() {
    let own = shared(Some(KEY), Some(SECRET));
    let genuine = || Callback::signed(&own);
    for callback in [
        genuine(),
        genuine().with(WEBHOOK_ID, "\u{1b}[31m\n"),
        genuine().with(WEBHOOK_TIMESTAMP, "\r\n"),
        genuine().with(WEBHOOK_SIGNATURE, "\u{1b},x \u{7},y"),
        genuine().with(WEBHOOK_SIGNATURE, "v1,AAAA"),
        genuine().body(|body| body.replace("push", "pull")),
        genuine().bare().body(|body| body.replace("1642090198", "1")),
    ] {
        let found = callback.at(&own, NOW);
        for text in [found.webhook.to_string(), found.vendor.to_string(), format!("{found:?}")] {
            assert!(!text.contains("adasda131312") && !text.contains("0123456789abc"), "{text}");
            assert!(text.chars().all(|character| !character.is_control()), "{text:?}");
        }
    }
    assert_eq!(escaped(&"x".repeat(50)), format!("{}…", "x".repeat(40)));
}
