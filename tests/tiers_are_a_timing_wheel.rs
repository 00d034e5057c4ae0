//! A tier releases by broker append time and the delay in the topic's name; headers decide nothing for others.

use crate::harness::SOON;
use crate::harness::kafka::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event, simple_registry};
use std::time::{Duration, Instant, SystemTime};

fn now_ms() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

#[test]
fn a_tier_record_with_forged_headers_delays_only_itself() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("forged", 1);
    scene.tiers = vec!["300ms", "1s", "5s"];
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let _daemon = scene.start();
    let record =
        |n: usize, id: &str| New::value(event("shop.example", n)).header("callbackd-id", id).header("callbackd-domain", "shop.example");
    let forged = [
        record(1, "due-in-range").header("callbackd-due-ms", (now_ms() + 4500).to_string()),
        record(2, "due-in-thirty-days").header("callbackd-due-ms", (now_ms() + 2_592_000_000).to_string()),
        record(3, "too-many-attempts").header("callbackd-attempts", "9999999"),
        record(4, "numbers-that-are-none")
            .header("callbackd-attempts", "-1")
            .header("callbackd-due-ms", "soon")
            .header("callbackd-first-attempt-ms", "99999999999999999999999999")
            .header("callbackd-since-ms", [0xff, 0xfe])
            .header("callbackd-history", "\0\u{1}")
            .header("callbackd-origin", "///")
            .header("callbackd-replays", "x"),
        record(5, "empty").header("callbackd-attempts", "").header("callbackd-due-ms", "").header("callbackd-source-ms", ""),
        record(6, "doubled").header("callbackd-due-ms", "1").header("callbackd-due-ms", "99999999999999"),
        record(7, "long").header("callbackd-history", "x".repeat(7000)),
        New::value(event("shop.example", 8)).header("callbackd-id", "only-an-id"),
    ];
    let start = Instant::now();
    scene.producer.send_all(&scene.tier_topic("300ms"), &forged);
    receiver.wait_for(forged.len(), SOON);
    let requests = receiver.requests();
    let (last, others) = requests.split_last().unwrap();
    assert_eq!(last.id(), "due-in-range", "everything else goes first");
    let waited = last.at.duration_since(start);
    assert!(waited >= Duration::from_millis(3400), "it came {waited:?} after its append, 4.5 s were asked for (tolerance: a fifth of 5 s)");
    let mut ids: Vec<&str> = others.iter().map(|r| r.id()).collect();
    ids.sort_unstable();
    let expected = ["doubled", "due-in-thirty-days", "empty", "long", "numbers-that-are-none", "only-an-id", "too-many-attempts"];
    assert_eq!(ids, expected);
    assert!(others.iter().all(|r| r.at.duration_since(start) >= Duration::from_millis(290)), "none leaves the tier early");
    scene.wait_tier_committed("300ms");
}

#[test]
fn a_tier_that_is_no_longer_configured_is_still_emptied_and_reported() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("removed-tier", 2);
    scene.tiers = vec!["300ms", "1s", "2s"];
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    scene.create_topics();
    let topic = scene.tier_topic("1s");
    let records: Vec<New> = (0..10)
        .map(|n| New::value(event("shop.example", n)).partition((n % 2) as i32).header("callbackd-id", format!("left-{n}")))
        .collect();
    scene.producer.send_all(&topic, &records);

    scene.tiers = vec!["300ms", "2s"];
    let mut daemon = scene.launch();
    daemon.wait_ready();
    receiver.wait_for(10, SOON);
    scene.wait_tier_committed("1s");
    daemon.wait_log("the tier that is not configured", |line| {
        line.contains(&topic) && line.contains("is a delay tier that is no longer configured: it is read until empty")
    });
}

#[test]
fn retries_keep_their_delays_within_the_tolerance() {
    let receiver = Receiver::start(|_, nth| Answer::Status(if nth < 4 { 500 } else { 200 }));
    let mut scene = Scene::new("delays", 1);
    scene.tiers = vec!["500ms", "1s", "2s"];
    scene.registry =
        simple_registry(&["shop.example"], &receiver.url("/cb"), "retry = { delays = [\"500ms\", \"1500ms\", \"4s\"], attempts = 13 }");
    let _daemon = scene.start();
    scene.produce(&[event("shop.example", 1)]);
    receiver.wait_for(4, SOON);
    let at: Vec<Instant> = receiver.requests().iter().map(|r| r.at).collect();
    let gaps: Vec<u128> = at.windows(2).map(|w| w[1].duration_since(w[0]).as_millis()).collect();
    for (gap, wanted) in gaps.iter().zip([500, 1500, 4000]) {
        let early = 100; // a fifth of the smallest tier
        assert!(*gap + early + 10 >= wanted && *gap <= wanted + 1500, "gaps of {gaps:?} ms for delays of 500, 1500, 4000");
    }
}
