//! A consumer group whose state is not what we left: its offsets have expired, or two replicas begin it together.

use super::{accepting, events};
use crate::harness::kafka::{self, Producer};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};
use std::time::Duration;

#[test]
fn a_group_whose_offsets_expired_reads_its_topics_from_the_start_and_loses_nothing() {
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("expired-group", 2);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &events("shop.example", 0..50));
    accepted.wait(50, SOON);
    scene.wait_committed_to_the_end();
    daemon.stop();
    scene.producer.send_all(scene.source(), &events("shop.example", 50..60));
    kafka::delete_group(&scene.bootstrap, &scene.group);
    let mut daemon = scene.launch();
    daemon.wait_ready();
    accepted.wait(60, SOON);
    scene.wait_committed_to_the_end();
    assert_eq!(accepted.repeats(), 50, "all again, with the same ids");
    daemon.stop();
}

#[test]
fn two_replicas_that_begin_a_group_together_at_latest_both_begin_at_the_end() {
    const OLD: usize = 2000;
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("latest-together", 8);
    scene.delivery = "start_from = \"latest\"".into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    scene.producer.send_all(scene.source(), &events("old.example", 0..OLD));
    scene.create_topics();
    let first = scene.launch();
    // It has read its configuration; the next launch writes the file anew.
    await_true("the first answers", SOON, || first.livez().is_some());
    let mut replicas = [first, scene.launch()];
    for replica in &mut replicas {
        replica.wait_ready();
    }
    await_true("both have partitions", SOON, || {
        replicas.iter().all(|r| r.metric("callbackd_assigned_partitions", &["class=\"fresh\""]) >= 1.0)
    });
    scene.producer.send_all(scene.source(), &events("shop.example", 0..200));
    accepted.wait(200, SOON);
    scene.wait_committed_to_the_end();
    let consumed: f64 = replicas.iter().map(|r| r.metric("callbackd_events_consumed_total", &[])).sum();
    assert!((consumed - 200.0).abs() < f64::EPSILON, "{consumed} events were taken in, {OLD} of them were there before");
    for replica in &mut replicas {
        replica.stop();
    }
}

#[test]
fn a_partition_that_is_added_to_a_running_group_at_latest_is_read_from_its_start() {
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("latest-grown", 1);
    scene.delivery = "start_from = \"latest\"".into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    await_true("it has begun", SOON, || kafka::committed(&scene.bootstrap, &scene.group, scene.source())[0] >= 0);
    kafka::add_partitions(&scene.bootstrap, scene.source(), 3);
    // Before the group has noticed, by a producer that knows them.
    let producer = Producer::new(&scene.bootstrap);
    for (n, new) in events("shop.example", 0..30).into_iter().enumerate() {
        producer.send(scene.source(), &new.partition(i32::try_from(n % 3).unwrap()));
    }
    producer.flush();
    accepted.wait(30, Duration::from_secs(60));
    assert_eq!(accepted.repeats(), 0);
    daemon.stop();
}
