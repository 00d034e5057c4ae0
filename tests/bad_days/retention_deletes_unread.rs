//! Retention deletes what was not read yet: the one loss that cannot be prevented. It is detected, counted and logged, and the rest is
//! delivered. The alert on `callbackd_records_lost_total` has its own test beside the rules.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, id, large_events};
use crate::harness::kafka;
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};
use std::sync::{Arc, Once};

const LOST: &str = "callbackd_records_lost_total";

#[test]
fn what_was_deleted_while_nobody_ran_is_counted_and_the_rest_is_delivered() {
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("retention-stopped", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &events("shop.example", 0..10));
    accepted.wait(10, SOON);
    scene.wait_committed_to_the_end();
    daemon.stop();
    scene.producer.send_all(scene.source(), &events("shop.example", 10..100));
    kafka::delete_records(&scene.bootstrap, scene.source(), 0, 60);
    let mut daemon = scene.launch();
    daemon.wait_ready();
    accepted.wait(50, SOON);
    scene.wait_committed_to_the_end();
    daemon.wait_metric(LOST, &[], 50.0);
    daemon.wait_log("the loss", |line| line.contains("ERROR") && line.contains("lost") && line.contains(scene.source()));
    assert!(accepted.has(&id("shop.example", 60)) && !accepted.has(&id("shop.example", 59)));
    assert_eq!((accepted.ids(), accepted.repeats()), (50, 0));
    daemon.stop();
}

#[test]
fn what_is_deleted_in_front_of_a_slow_reader_is_counted_to_the_record() {
    const EVENTS: usize = 600;
    // 60 MB: the client holds 16 MiB of them, the rest is still at the broker while nobody is answered.
    let deleted = Arc::new(Once::new());
    let answers_once = Arc::clone(&deleted);
    let (receiver, accepted) = accepting(move |_, _| {
        answers_once.wait();
        Answer::Status(200)
    });
    let mut scene = Scene::new("retention-running", 1);
    scene.log_level = "info";
    scene.delivery = format!("max_in_flight = 16\nmax_in_flight_bytes = \"2MiB\"\nendpoint_concurrency = 4\n{NO_CIRCUIT}");
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), &format!("timeout = \"60s\"\n{PATIENT}"));
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &large_events("shop.example", 0..EVENTS, 100_000));
    await_true("somebody is called", SOON, || receiver.count() > 0);
    kafka::delete_records(&scene.bootstrap, scene.source(), 0, 550);
    deleted.call_once(|| {});
    await_true("the end is delivered", SOON, || (550..EVENTS).all(|n| accepted.has(&id("shop.example", n))));
    scene.wait_committed_to_the_end();
    let lost = daemon.metric(LOST, &[]) as usize;
    assert!(lost > 100, "{lost} lost: most of them were never read");
    assert_eq!(accepted.ids() + lost, EVENTS, "every event was delivered or is counted as lost");
    assert_eq!(accepted.repeats(), 0);
    assert_no_letters(&scene);
    daemon.stop();
}

#[test]
fn what_is_deleted_from_a_tier_is_counted_and_the_others_are_delivered() {
    let (receiver, accepted) = accepting(|_, nth| Answer::Status(if nth == 1 { 503 } else { 200 }));
    let mut scene = Scene::new("retention-tier", 1);
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), &PATIENT.replace("300ms", "3s"));
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &events("shop.example", 0..40));
    let tier = scene.tier_topic("3s");
    await_true("all wait in the tier", SOON, || kafka::end_offsets(&scene.bootstrap, &tier).iter().sum::<i64>() == 40);
    daemon.stop();
    kafka::delete_records(&scene.bootstrap, &tier, 0, 15);
    let mut daemon = scene.launch();
    daemon.wait_ready();
    accepted.wait(25, SOON);
    daemon.wait_metric(LOST, &[], 15.0);
    assert_eq!((accepted.ids(), accepted.repeats()), (25, 0));
    daemon.stop();
}
