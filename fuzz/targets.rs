//! What is fuzzed, one function a target: whatever the bytes, each of them returns; what it asserts is what users are promised.
//!
//! `make fuzz` runs them with libFuzzer; the unit tests run them over `fuzz/corpus`, where what was found is kept.

#![allow(dead_code, reason = "a binary of the fuzzer has one of them")]

use bytes::Bytes;
use callbackd::domain::address::AddressPolicy;
use callbackd::domain::body;
use callbackd::domain::dead_letter::Reason;
use callbackd::domain::event::decode as decode_event;
use callbackd::domain::headers::{Chain, MAX_ATTEMPTS, MAX_BYTES, MAX_FOREIGN_BYTES, MAX_REPLAYS, Origin};
use callbackd::domain::offsets::{Fingerprint, MAX_METADATA, Received, Tracker};
use callbackd::domain::record::{Header, Position, Record};
use callbackd::domain::time::UnixMillis;
use callbackd::domain::verdict::retry_after_pause;
use callbackd::egress::read_in_pieces;
use callbackd::registry::{Environment, LoadOptions, load_text};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_795_435_200_000);

/// An event's value: what is accepted is JSON for others too, and is sent as it is but for the last two members.
pub(crate) fn decode(data: &[u8]) {
    let decoded = decode_event(Some(data), NOW);
    let event = match decoded {
        Ok(event) => event,
        Err(error) => {
            assert!(error.detail.is_ascii() && error.detail.len() <= 128, "{error}");
            return;
        }
    };
    let value = Bytes::copy_from_slice(data);
    let unsealed = body::render(&value, &event.cuts, None);
    let sealed = body::render(&value, &event.cuts, Some((1_642_089_598, "0123456789abcdef")));
    // serde_json goes less deep than we do; what it cannot read it cannot judge.
    let Ok(mut expected) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let members = expected.as_object_mut().unwrap();
    members.remove("t");
    members.remove("sign");
    let read = |bytes: &Bytes| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(read(&unsealed), expected);
    let members = expected.as_object_mut().unwrap();
    members.insert("t".into(), 1_642_089_598.into());
    members.insert("sign".into(), "0123456789abcdef".into());
    assert_eq!(read(&sealed), expected);
}

/// A receiver's `Retry-After`: seconds or a date, or nothing.
pub(crate) fn retry_after(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pause = retry_after_pause(text, NOW);
    assert!(pause.is_none_or(|pause| !pause.is_zero() && pause <= Duration::from_secs(3600)), "{text}: {pause:?}");
    if let (Ok(seconds @ 0..=3600), true) = (text.parse::<u64>(), text.bytes().all(|byte| byte.is_ascii_digit())) {
        // None at all is none.
        assert_eq!(pause, (seconds > 0).then(|| Duration::from_secs(seconds)), "{text}");
    }
}

/// Headers of a record: whoever wrote them, they delay, end or restart their own chain, and no more.
pub(crate) fn headers(data: &[u8]) {
    let mut rest = data;
    let mut take = |most: usize| {
        let (length, tail) = rest.split_first().map_or((0, rest), |(length, tail)| (usize::from(*length).min(most).min(tail.len()), tail));
        let (piece, tail) = tail.split_at(length);
        rest = tail;
        (piece, !tail.is_empty())
    };
    let mut all = Vec::new();
    loop {
        let (name, _) = take(32);
        let (value, more) = take(255);
        let name = String::from_utf8_lossy(name);
        // The fuzzer need not guess the prefix.
        let name = name.strip_prefix('~').map_or_else(|| name.to_string(), |rest| format!("callbackd-{rest}"));
        all.push(Header { name: name.into(), value: Some(Bytes::copy_from_slice(value)) });
        if !more || all.len() == 64 {
            break;
        }
    }
    let position = Position { topic: "callbackd.retry.5s".into(), partition: 3, offset: 17 };
    let record = Record { position, timestamp: NOW, key: None, value: Some(Bytes::from_static(b"{}")), headers: all };
    let longest = Duration::from_secs(6 * 3600);
    for origin in [Origin::Source, Origin::Tier, Origin::Replay, Origin::DeadLetter] {
        let chain = Chain::read(&record, origin, longest);
        assert!(chain.attempts <= MAX_ATTEMPTS && chain.replays <= MAX_REPLAYS, "{chain:?}");
        assert!(chain.due.is_none_or(|due| due <= NOW.plus(longest)), "{chain:?}");
        assert!(chain.id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{chain:?}");
        let due = NOW.plus(Duration::from_secs(5));
        for (written, _) in
            [chain.requeue_headers(&record, due, NOW), chain.dead_letter_headers(&record, Reason::AttemptsExhausted, "detail", NOW)]
        {
            let size = |header: &Header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len);
            let (own, foreign): (Vec<_>, Vec<_>) = written.iter().partition(|header| header.name.starts_with("callbackd-"));
            assert!(own.iter().map(|header| size(header)).sum::<usize>() <= MAX_BYTES);
            assert!(foreign.iter().map(|header| size(header)).sum::<usize>() <= MAX_FOREIGN_BYTES);
            assert_eq!(own.len(), own.iter().map(|header| &header.name).collect::<BTreeSet<_>>().len(), "each once: {own:?}");
        }
        let (written, _) = chain.requeue_headers(&record, due, NOW);
        let again = Chain::read(&Record { headers: written, ..record.clone() }, Origin::Tier, longest);
        assert_eq!((&again.id, again.attempts, again.replays, &again.origin), (&chain.id, chain.attempts, chain.replays, &chain.origin));
    }
}

/// A commit's metadata, and what may follow it: an offset that is unfinished is never committed over.
pub(crate) fn offsets(data: &[u8]) {
    let (steps, metadata) = data.split_at(data.len().min(64));
    let metadata = String::from_utf8_lossy(metadata);
    let (mut tracker, _) = Tracker::resume(100, &metadata);
    let mut unfinished = BTreeSet::new();
    let mut next = 100_i64;
    for step in steps {
        match step % 4 {
            0 | 1 => {
                next += i64::from(step / 64);
                let print = Fingerprint { timestamp: NOW, length: u32::from(*step) };
                if tracker.received(next, print).0 == Received::New {
                    unfinished.insert(next);
                }
                next += 1;
            }
            2 => {
                let oldest = unfinished.first().copied();
                let chosen = unfinished.iter().copied().nth(usize::from(step / 4)).or(oldest);
                if let Some(offset) = chosen {
                    tracker.finished(offset);
                    unfinished.remove(&offset);
                }
            }
            _ => {
                let point = tracker.commit_point();
                assert!(point.metadata.len() <= MAX_METADATA && point.metadata.is_ascii());
                if let Some(lowest) = unfinished.first() {
                    assert!(point.offset <= *lowest, "{point:?} passes {lowest}");
                }
                assert_eq!(tracker.lowest_unfinished(), unfinished.first().copied());
                tracker.committed(&point);
            }
        }
    }
}

/// A callback URL: one that is let through leads to the public internet, or to a name with two labels.
pub(crate) fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = AddressPolicy::default();
    let Ok(url) = url::Url::parse(text) else { return };
    if policy.judge_url(&url).is_err() {
        return;
    }
    assert!(matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none(), "{url}");
    let address = match url.host() {
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
        Some(url::Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            assert!(name.contains('.') && name.parse::<IpAddr>().is_err(), "{url}");
            return;
        }
        None => panic!("{url} has no host"),
    };
    let inner = match address.to_canonical() {
        IpAddr::V6(address) => {
            assert_eq!(address.segments()[0] & 0xe000, 0x2000, "{url}");
            return;
        }
        IpAddr::V4(address) => address,
    };
    let special = inner.is_private() || inner.is_loopback() || inner.is_link_local() || inner.is_unspecified();
    assert!(!special && !inner.is_broadcast() && !inner.is_multicast() && !inner.is_documentation(), "{url}");
}

/// A receiver's answer: where it ends, and what it says, does not depend on how it arrives.
pub(crate) fn answer(data: &[u8]) {
    let whole = read_in_pieces(data, data.len());
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(read_in_pieces(data, piece), whole, "in pieces of {piece}");
    }
    let Some(answer) = whole else { return };
    assert!(matches!(answer.status, 101 | 200..=999), "{answer:?}");
    let visible = |text: &String| text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    assert!(answer.retry_after.as_ref().is_none_or(visible), "{answer:?}");
    if let Some(length) = answer.length {
        // What follows is not of this answer, and changes nothing of it.
        assert_eq!(read_in_pieces(&data[..length], length), Some(answer));
    }
}

/// A registry file: read, or refused with where and what.
pub(crate) fn registry(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // No file of the machine is read.
    if text.replace("recording_file", "").contains("file") {
        return;
    }
    let options = LoadOptions {
        templates_per_account: 50,
        addresses: AddressPolicy::default(),
        drain_timeout: Duration::from_secs(25),
        smallest_tier: Duration::from_secs(5),
        environment: Environment::default(),
        clock: || UnixMillis(0),
    };
    if let Err(problems) = load_text(Path::new("r.toml"), text, &options) {
        assert!(!problems.is_empty());
        for problem in problems {
            let told = problem.to_string();
            assert!(told.starts_with("r.toml") && !problem.message.is_empty(), "{told}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(name: &str, target: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            if std::panic::catch_unwind(|| target(&data)).is_err() {
                panic!("{}", path.display());
            }
            seen += 1;
        }
        assert!(seen >= 3, "{name}: {seen}");
    }

    #[test]
    fn what_is_kept_of_fuzzing_is_harmless() {
        replay("decode", super::decode);
        replay("retry_after", super::retry_after);
        replay("headers", super::headers);
        replay("offsets", super::offsets);
        replay("address", super::address);
        replay("registry", super::registry);
        replay("answer", super::answer);
    }
}
