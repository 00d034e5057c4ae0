//! Checks of single values: names, ranges, headers. Ranges are those of design §7 unless a doc says otherwise.

use super::super::policy::{MAX_AGE, MAX_ATTEMPTS, MAX_DELAY, MAX_TIMEOUT, MIN_DELAY, MIN_TIMEOUT, Policy, Success};
use super::super::signature::SigningKey;
use super::{CallbackTemplateEntry, ClientCertificateEntry, ClientIdentity, EntityKind, KeyEntry, Problem, TemplateHeader, webhook_secret};
use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Request headers that the daemon, or the connection, sets itself. `webhook-*` and `callbackd-*` are reserved besides.
const RESERVED_HEADERS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "callbackd-"];
const HEADERS: usize = 32;
const HEADER_BYTES: usize = 4096;
const HEADER_NAME_BYTES: usize = 256;

/// The longest key, in bytes. The vendor's have up to 32 characters; whatever is longer than this is some other file.
const KEY_BYTES: usize = 1024;
const KEYS: usize = 32;

const DAY: u64 = 24 * 3600;
const TIMEOUT: RangeInclusive<Duration> = MIN_TIMEOUT..=MAX_TIMEOUT;
const DELAY: RangeInclusive<Duration> = MIN_DELAY..=MAX_DELAY;
const AGE: RangeInclusive<Duration> = MIN_DELAY..=MAX_AGE;
const ATTEMPTS: RangeInclusive<u32> = 1..=MAX_ATTEMPTS;

/// The problems of one entry, as they are found.
pub(super) struct Found<'a> {
    pub(super) problems: &'a mut Vec<Problem>,
    pub(super) kind: EntityKind,
    pub(super) index: usize,
}

impl Found<'_> {
    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.clash(field, message, None);
    }

    pub(super) fn clash(&mut self, field: impl Into<String>, message: impl Into<String>, other: Option<usize>) {
        self.problems.push(Problem { kind: self.kind, index: self.index, field: field.into(), message: message.into(), other });
    }

    /// 1–255 bytes of letters, digits, `_` and `-`.
    pub(super) fn name(&mut self, field: impl Into<String>, name: &str) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=255).contains(&name.len()) || !name.bytes().all(legal) {
            self.add(field, "a name has 1 to 255 letters, digits, `_` or `-`");
        }
    }

    /// A path or a stream name: 1–255 bytes without control characters.
    pub(super) fn stream_word(&mut self, field: &str, word: &str) {
        if !(1..=255).contains(&word.len()) || word.chars().any(char::is_control) {
            self.add(field, "expected 1 to 255 bytes without control characters");
        }
    }

    fn within<T: PartialOrd + Copy>(&mut self, field: impl Into<String>, value: T, range: &RangeInclusive<T>, shown: impl Fn(T) -> String) {
        if !range.contains(&value) {
            self.add(field, format!("must be from {} to {}", shown(*range.start()), shown(*range.end())));
        }
    }

    fn duration(&mut self, field: impl Into<String>, value: Duration, range: &RangeInclusive<Duration>) {
        self.within(field, value, range, show_duration);
    }

    /// The policy of `entry`, its overrides applied and judged.
    pub(super) fn policy(&mut self, entry: &CallbackTemplateEntry) -> Policy {
        let mut policy = entry.policy.policy();
        if let Some(success) = &entry.success {
            if let Success::Listed(list) = success {
                if list.is_empty() {
                    self.add("success", "list at least one status, or write \"2xx\"");
                }
                for (at, status) in list.iter().enumerate() {
                    self.within(format!("success[{at}]"), *status, &(200..=299), display);
                }
            }
            policy.success = success.clone();
        }
        if let Some(timeout) = entry.timeout {
            self.duration("timeout", timeout, &TIMEOUT);
            policy.timeout = timeout;
        }
        if let Some(timeout) = entry.connect_timeout {
            self.duration("connect_timeout", timeout, &TIMEOUT);
            policy.connect_timeout = timeout;
        }
        if let Some(delays) = &entry.delays {
            if delays.is_empty() {
                self.add("retry.delays", "list at least one delay");
            }
            for (at, delay) in delays.iter().enumerate() {
                self.duration(format!("retry.delays[{at}]"), *delay, &DELAY);
            }
            policy.delays.clone_from(delays);
        }
        if let Some(attempts) = entry.attempts {
            self.within("retry.attempts", attempts, &ATTEMPTS, display);
            policy.attempts = attempts;
        }
        if let Some(age) = entry.max_age {
            self.duration("retry.max_age", age, &AGE);
            policy.max_age = age;
        }
        if let Some(wait) = entry.max_wait {
            self.duration("retry.max_wait", wait, &AGE);
            policy.max_wait = wait;
        }
        if let Some(jitter) = entry.jitter {
            self.within("retry.jitter", jitter, &(0.0..=1.0), |share| format!("{share:.1}"));
            policy.jitter = jitter;
        }
        if let Some(rate) = entry.rate
            && !(rate > 0.0 && rate <= 1e6)
        {
            self.add("rate", "must be above 0 and at most 1000000 attempts a second");
        }
        policy
    }

    /// The keys of a template. No message shows a byte of them.
    pub(super) fn keys(&mut self, entries: Vec<KeyEntry>) -> Vec<SigningKey> {
        if entries.len() > KEYS {
            self.add(
                "keys",
                format!("at most {KEYS} keys, there are {}: each signs every callback; remove those that have expired", entries.len()),
            );
        }
        let mut ids = HashSet::new();
        let mut keys = Vec::with_capacity(entries.len());
        for (at, entry) in entries.into_iter().enumerate() {
            self.name(format!("keys[{at}].id"), &entry.id);
            if !ids.insert(entry.id.clone()) {
                self.add(
                    format!("keys[{at}].id"),
                    format!("the key id {:?} is used twice in this template: give each key an id of its own", entry.id),
                );
            }
            if entry.value.is_empty() {
                self.add(format!("keys[{at}]"), "the key is empty: give its bytes; without keys callbacks are not signed");
            } else if entry.value.len() > KEY_BYTES {
                self.add(format!("keys[{at}]"), format!("the key has more than {KEY_BYTES} bytes: give a shorter one"));
            }
            let secret = entry.secret.and_then(|text| match webhook_secret(&text) {
                Ok(secret) => Some(secret),
                Err(error) => {
                    self.add(format!("keys[{at}].secret"), error.to_string());
                    None
                }
            });
            if let (Some(not_before), Some(expires)) = (entry.not_before, entry.expires)
                && not_before >= expires
            {
                self.add(format!("keys[{at}].expires"), "must be later than not_before");
            }
            keys.push(SigningKey::new(entry.id, entry.value, secret, entry.not_before, entry.expires));
        }
        keys
    }

    /// A template's client certificate.
    pub(super) fn identity(&mut self, entry: Option<&ClientCertificateEntry>) -> Option<Arc<ClientIdentity>> {
        let entry = entry?;
        match ClientIdentity::from_pem(&entry.certificate, &entry.key) {
            Ok(identity) => Some(Arc::new(identity)),
            Err(error) => {
                self.add(format!("client_certificate.{}", if error.of_key() { "key" } else { "certificate" }), error.to_string());
                None
            }
        }
    }

    /// A template's own request headers. No message shows a value.
    pub(super) fn headers(&mut self, entries: &[super::HeaderEntry]) -> Vec<TemplateHeader> {
        if entries.len() > HEADERS {
            self.add("headers", format!("at most {HEADERS} headers, there are {}", entries.len()));
        }
        let mut names = HashSet::new();
        let mut headers = Vec::with_capacity(entries.len());
        for entry in entries {
            let field = format!("headers.{}", entry.name);
            let Ok(name) = http::HeaderName::from_bytes(entry.name.as_bytes()) else {
                self.add(field, "not a header name: write one such as x-api-key");
                continue;
            };
            if RESERVED_HEADERS.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix)) {
                self.add(field, "this header is set by the daemon or the connection, a template cannot set it");
                continue;
            }
            if !names.insert(name.clone()) {
                self.add(field, "the same header twice (names are compared in lower case)");
                continue;
            }
            if name.as_str().len() > HEADER_NAME_BYTES {
                self.add("headers", format!("a header's name has at most {HEADER_NAME_BYTES} bytes, one has {}", name.as_str().len()));
                continue;
            }
            if entry.value.len() > HEADER_BYTES {
                self.add(field, format!("a header's value has at most {HEADER_BYTES} bytes"));
                continue;
            }
            let printable = entry.value.iter().all(|byte| (0x20..=0x7e).contains(byte));
            match http::HeaderValue::from_bytes(&entry.value) {
                Ok(mut value) if printable => {
                    value.set_sensitive(true);
                    headers.push(TemplateHeader { name, value });
                }
                Ok(_) | Err(_) => self.add(field, "a header's value has printable ASCII only"),
            }
        }
        headers
    }
}

fn display<T: Display>(value: T) -> String {
    value.to_string()
}

/// `100ms`, `120s`, `7d`: the largest unit that says it exactly.
fn show_duration(value: Duration) -> String {
    let secs = value.as_secs();
    if value.subsec_millis() != 0 {
        format!("{}ms", value.as_millis())
    } else if secs.is_multiple_of(DAY) {
        format!("{}d", secs / DAY)
    } else {
        format!("{secs}s")
    }
}
