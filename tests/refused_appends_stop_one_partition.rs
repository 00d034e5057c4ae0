//! A dead letter that the broker refuses for good: that partition stops and says so, the others go on, nothing is skipped.

use crate::harness::kafka::{self, New};
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};

#[test]
fn a_refused_dead_letter_stops_its_partition_and_no_other() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("refused", 2);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    let source = scene.source().to_string();
    scene
        .producer
        .send_all(&source, &[New::value(event("shop.example", 1)).partition(0), New::value(event("shop.example", 2)).partition(1)]);
    receiver.wait_for(2, SOON);
    scene.wait_committed_to_the_end();
    kafka::alter_topic(&scene.bootstrap, &scene.dead_letter_topic(), "max.message.bytes", "2000");

    let too_large = format!("not an event {}", "x".repeat(20_000));
    scene.producer.send_all(&source, &[New::value(too_large).partition(0), New::value(event("shop.example", 3)).partition(0)]);
    daemon.wait_log("the stopped partition", |line| {
        let said = "partition stopped: a record could be neither requeued nor dead-lettered; mend the cause, then restart";
        line.contains("ERROR") && line.contains(said) && line.contains(&format!("{source:?}")) && line.contains("\"partition\":0")
    });
    // The other partition goes on, its dead letters too.
    scene
        .producer
        .send_all(&source, &[New::value("small, and not an event").partition(1), New::value(event("shop.example", 4)).partition(1)]);
    let body = event("shop.example", 4).into_bytes();
    receiver.wait("partition 1 goes on", SOON, |requests| requests.iter().any(|r| r.body == body));
    await_true("partition 1 is committed to its end", SOON, || kafka::committed(&scene.bootstrap, &scene.group, &source)[1] == 3);
    assert_eq!(scene.dead_letters().len(), 1);
    // One commit tells of both partitions.
    assert_eq!(kafka::committed(&scene.bootstrap, &scene.group, &source)[0], 1, "never past what could not be buried");
    assert!(daemon.is_running());
    daemon.stop();
    assert_eq!(kafka::committed(&scene.bootstrap, &scene.group, &source)[0], 1, "nor at the end");

    // When the topic is mended, a restart goes on where it stopped.
    kafka::alter_topic(&scene.bootstrap, &scene.dead_letter_topic(), "max.message.bytes", "1200000");
    let mut daemon = scene.launch();
    daemon.wait_ready();
    scene.wait_committed_to_the_end();
    assert_eq!(scene.dead_letters().len(), 2);
    let body = event("shop.example", 3).into_bytes();
    receiver.wait("the event behind it", SOON, |requests| requests.iter().any(|r| r.body == body));
    daemon.stop();
}
