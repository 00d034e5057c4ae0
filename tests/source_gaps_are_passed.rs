//! Offsets that nobody receives (transaction markers, aborted records, compacted records) neither stop the line nor the commits.

use crate::harness::kafka::{self, New, Producer};
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn markers_and_aborted_transactions_are_passed_and_committed_to_the_end() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("transactions", 2);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let source = scene.source().to_string();
    let producer = Producer::transactional(&scene.bootstrap, &source);
    let batch = |from: usize| {
        producer.begin();
        for n in from..from + 5 {
            producer.send(&source, &New::value(event("shop.example", n)).partition((n % 2) as i32));
        }
        producer.flush();
    };
    batch(0);
    producer.commit();
    batch(100);
    producer.abort();
    batch(10);
    producer.commit();
    batch(200);
    producer.abort();

    let mut daemon = scene.start();
    receiver.wait_for(10, SOON);
    scene.wait_committed_to_the_end();
    // While it runs: first an aborted transaction alone, then a committed one.
    batch(300);
    producer.abort();
    scene.wait_committed_to_the_end();
    batch(20);
    producer.commit();
    receiver.wait_for(15, SOON);
    scene.wait_committed_to_the_end();
    daemon.stop();

    let bodies: BTreeSet<Vec<u8>> = receiver.requests().iter().map(|r| r.body.clone()).collect();
    let expected: BTreeSet<Vec<u8>> = (0..5).chain(10..15).chain(20..25).map(|n| event("shop.example", n).into_bytes()).collect();
    assert_eq!(bodies, expected);
    assert_eq!(receiver.count(), 15, "each once");
    assert!(scene.dead_letters().is_empty());
}

#[test]
fn compaction_gaps_are_passed_and_committed_to_the_end() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::without_topics("compacted", &crate::harness::broker::shared().bootstrap);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    kafka::create_topic(
        &scene.bootstrap,
        scene.source(),
        1,
        &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "200"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("delete.retention.ms", "0"),
            ("max.compaction.lag.ms", "500"),
        ],
    );
    let mut number = 0;
    for _ in 0..5 {
        for key in 0..4 {
            number += 1;
            scene.producer.send(scene.source(), &New::value(event("shop.example", number)).key(&format!("k{key}")));
        }
        scene.producer.flush();
        std::thread::sleep(Duration::from_millis(250)); // the next append rolls the segment
    }
    await_true("compaction has removed records", SOON, || {
        number += 1;
        scene.producer.send_all(scene.source(), &[New::value(event("shop.example", number)).key("k0")]);
        std::thread::sleep(Duration::from_millis(250));
        kafka::read_all(&scene.bootstrap, scene.source()).len() + 8 < number
    });
    let last = number + 1;
    scene.producer.send_all(scene.source(), &[New::value(event("shop.example", last)).key("last")]);
    let _daemon = scene.start();
    scene.wait_committed_to_the_end();
    let body = event("shop.example", last).into_bytes();
    assert_eq!(receiver.requests().iter().filter(|r| r.body == body).count(), 1);
    assert!(receiver.count() < last, "compacted records are gone: {} of {last}", receiver.count());
    assert!(scene.dead_letters().is_empty());
}
