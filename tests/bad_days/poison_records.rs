//! A poison record in every tier and in the replay topic: garbage, nulls, forged headers. Each is dead-lettered or delivered, and nothing
//! behind it waits.

use super::{NO_CIRCUIT, PATIENT, accepting, events, id};
use crate::harness::kafka::New;
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Far beyond any tier.
const IN_A_CENTURY: &str = "4950000000000";

/// Records that are no events.
fn garbage() -> Vec<New> {
    let values: Vec<Option<Vec<u8>>> = vec![
        None,
        Some(Vec::new()),
        Some(vec![0xff; 1000]),
        Some(b"{\"app\":\"shop.example\"".to_vec()),
        Some((0..=255).collect()),
        Some("[".repeat(100_000).into_bytes()),
    ];
    values.into_iter().map(|value| New { value, ..New::default() }).collect()
}

/// Events with headers that nobody of us wrote.
fn forged(topic: &str) -> Vec<New> {
    let headers: Vec<Vec<(&str, Vec<u8>)>> = vec![
        vec![("callbackd-due-ms", IN_A_CENTURY.into())],
        vec![("callbackd-due-ms", b"9223372036854775807".to_vec())],
        vec![("callbackd-due-ms", b"-9223372036854775808".to_vec())],
        vec![("callbackd-attempts", b"4294967296".to_vec())],
        vec![("callbackd-attempts", b"-1".to_vec()), ("callbackd-first-attempt-ms", IN_A_CENTURY.into())],
        vec![("callbackd-first-attempt-ms", b"not a number".to_vec()), ("callbackd-since-ms", IN_A_CENTURY.into())],
        vec![("callbackd-history", vec![0xfe; 4000]), ("callbackd-last-outcome", vec![0; 100])],
        vec![("callbackd-origin", b"../../etc/passwd/-1/x".to_vec()), ("callbackd-source-ms", b"1e9".to_vec())],
        vec![("callbackd-domain", b"other.example".to_vec()), ("callbackd-replays", b"-5".to_vec())],
        (0..40).map(|_| ("callbackd-attempts", b"7".to_vec())).collect(),
        (0..200).map(|_| ("x-filler", vec![b'x'; 1000])).collect(),
    ];
    headers
        .into_iter()
        .enumerate()
        .map(|(n, headers)| {
            let new = New::value(event("shop.example", n)).header("callbackd-id", format!("forged-{topic}-{n}").replace('.', "-"));
            headers.into_iter().fold(new, |new, (name, value)| new.header(name, value))
        })
        .collect()
}

/// Ids that would break out of a header's line or a metric's label, or fill them.
const FORGED_IDS: [&[u8]; 6] = [b"a\r\nx-injected: 1", b"id\0", b"id with \"quotes\"", &[b'i'; 65], "\u{202e}id".as_bytes(), &[0xff; 8]];

/// Events with such an id, and the ids that they have instead: the first half of the value's SHA-256.
fn with_forged_ids(first: usize) -> Vec<(New, String)> {
    let records = FORGED_IDS.iter().enumerate().map(|(n, id)| {
        let value = event("shop.example", first + n);
        let derived = URL_SAFE_NO_PAD.encode(&Sha256::digest(&value)[..16]);
        (New::value(value).header("callbackd-id", *id), derived)
    });
    records.collect()
}

#[test]
fn a_poison_record_in_every_tier_and_in_the_replay_topic_holds_up_nothing() {
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("poison", 1);
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    let topics: Vec<String> = scene.tiers.iter().map(|t| scene.tier_topic(t)).chain([format!("{}.replay", scene.prefix)]).collect();
    let began = Instant::now();
    let (mut bad, mut good) = (0, HashSet::new());
    for (at, topic) in topics.iter().enumerate() {
        let short = topic.strip_prefix(&scene.prefix).unwrap();
        for (n, new) in garbage().into_iter().enumerate() {
            scene.producer.send(topic, &new.key(&format!("{topic}-{n}")));
            bad += 1;
        }
        for new in forged(short) {
            good.insert(String::from_utf8(new.headers[0].1.clone().unwrap()).unwrap());
            scene.producer.send(topic, &new);
        }
        for (new, id) in with_forged_ids(1_000 * (at + 1)) {
            good.insert(id);
            scene.producer.send(topic, &new);
        }
        // What is behind the poison, in the same partition.
        for (n, new) in events("shop.example", at * 10..at * 10 + 10).into_iter().enumerate() {
            good.insert(id("shop.example", at * 10 + n));
            scene.producer.send(topic, &new);
        }
    }
    scene.producer.flush();
    await_true(&format!("{} events accepted", good.len()), SOON, || good.iter().all(|id| accepted.has(id)));
    // The longest tier is 3 s; hops and a busy machine on top.
    assert!(began.elapsed() < Duration::from_secs(20), "nothing waits for a due time that was forged: {:?}", began.elapsed());
    await_true("a letter for each piece of garbage", SOON, || scene.dead_letters().len() >= bad);
    let letters = scene.dead_letters();
    assert_eq!(letters.len(), bad);
    for letter in &letters {
        assert_eq!(letter.header("callbackd-reason").as_deref(), Some("undecodable"));
        let key = String::from_utf8(letter.key.clone().unwrap()).unwrap();
        let (_, n) = key.rsplit_once('-').unwrap();
        assert_eq!(letter.value, garbage()[n.parse::<usize>().unwrap()].value, "the bytes of {key} are intact");
    }
    assert_eq!((accepted.ids(), accepted.repeats()), (good.len(), 0));
    assert!(receiver.requests().iter().all(|request| request.header("x-injected").is_none()));
    let injected = daemon.log().lines().filter(|line| line.starts_with("x-injected")).count();
    assert_eq!(injected, 0, "no line of the log begins with what another wrote");
    super::wait_quiet(&scene);
    daemon.stop();
}
