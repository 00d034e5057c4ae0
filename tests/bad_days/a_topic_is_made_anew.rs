//! A source topic is deleted and made anew under a running daemon, and filled at once up to where the old one ended, or beyond: the new
//! records are delivered, also those at offsets that were finished in the old topic. The same with tiers: who is to be requeued meanwhile waits.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, wait_quiet};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true, kafka};
use std::time::Duration;

const OLD: usize = 40;

fn made_anew(name: &str, new: usize) {
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new(name, 1);
    scene.log_level = "info";
    scene.registry = simple_registry(&["old.example", "new.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &events("old.example", 0..OLD));
    accepted.wait(OLD, Duration::from_secs(30));
    scene.wait_committed_to_the_end();
    kafka::delete_topic(&scene.bootstrap, scene.source());
    await_true("the topic is gone", SOON, || kafka::partitions(&scene.bootstrap, scene.source()) == 0);
    kafka::create_topic(&scene.bootstrap, scene.source(), 1, &[]);
    let producer = kafka::Producer::new(&scene.bootstrap);
    producer.send_all(scene.source(), &events("new.example", 0..new));
    accepted.wait(OLD + new, Duration::from_secs(60));
    scene.wait_committed_to_the_end();
    assert_eq!(accepted.ids_of("new.example"), new);
    assert_no_letters(&scene);
    daemon.stop();
}

#[test]
fn a_topic_made_anew_with_as_many_records_is_read_from_its_start() {
    made_anew("made-anew-equal", OLD);
}

#[test]
fn a_topic_made_anew_with_more_records_is_read_from_its_start() {
    made_anew("made-anew-longer", 3 * OLD);
}

#[test]
fn a_topic_made_anew_with_fewer_records_is_read_from_its_start() {
    made_anew("made-anew-shorter", OLD / 2);
}

#[test]
fn a_tier_that_is_made_anew_stops_no_partition() {
    // The first attempt at each comes to nothing, so each is requeued once.
    let (receiver, accepted) = accepting(|_, nth| Answer::Status(if nth == 1 { 503 } else { 200 }));
    let mut scene = Scene::new("made-anew-tier", 1);
    scene.log_level = "info";
    // The client takes the tiers for gone at the first answer without them, as those that it has known for half a minute.
    scene.kafka = "[kafka.properties]\n\"topic.metadata.propagation.max.ms\" = 0\n".to_owned();
    scene.delivery = NO_CIRCUIT.to_owned();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &events("shop.example", 0..OLD));
    accepted.wait(OLD, SOON);
    wait_quiet(&scene);
    let tiers: Vec<String> = scene.tiers.iter().map(|label| scene.tier_topic(label)).collect();
    tiers.iter().for_each(|tier| kafka::delete_topic(&scene.bootstrap, tier));
    await_true("the tiers are gone", SOON, || tiers.iter().all(|tier| kafka::partitions(&scene.bootstrap, tier) == 0));
    scene.producer.send_all(scene.source(), &events("shop.example", OLD..2 * OLD));
    daemon.wait_log("a requeue finds its tier gone", |line| line.contains("append failed for now") && line.contains("Unknown"));
    scene.create_topics();
    accepted.wait(2 * OLD, SOON);
    wait_quiet(&scene);
    assert!(daemon.metric("callbackd_partitions_stopped", &["class=\"fresh\""]) == 0.0);
    assert_no_letters(&scene);
    daemon.stop();
}
