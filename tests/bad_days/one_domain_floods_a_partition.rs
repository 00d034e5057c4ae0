//! Fifty thousand events of one domain in one partition, and events of others behind them. The others do not wait for the flood to drain; and
//! a flood for an endpoint that is well flows through without a storm of parking.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, registry_of};
use crate::harness::await_true;
use crate::harness::receiver::Answer;
use crate::harness::scene::Scene;
use std::time::{Duration, Instant};

const FLOOD: usize = 50_000;
const OTHERS: usize = 200;

#[test]
fn events_behind_a_flood_for_a_slow_endpoint_are_delivered_long_before_it_is_through() {
    let (receiver, accepted) = accepting(|request, _| match request.path.as_str() {
        "/flooded" => Answer::Slow(Duration::from_millis(300), 200),
        _ => Answer::Status(200),
    });
    let mut scene = Scene::new("flood-slow", 1);
    scene.log_level = "warn";
    scene.tiers = vec!["3s", "30s"];
    scene.registry = registry_of([("flooded.example", receiver.url("/flooded")), ("other.example", receiver.url("/other"))], PATIENT);
    scene.producer.send_all(scene.source(), &events("flooded.example", 0..FLOOD));
    scene.producer.send_all(scene.source(), &events("other.example", 0..OTHERS));
    let mut daemon = scene.start();
    let began = Instant::now();
    await_true("the others are delivered", Duration::from_secs(120), || accepted.ids_of("other.example") == OTHERS);
    let through = accepted.ids_of("flooded.example");
    assert!(through < FLOOD / 4, "{through} of the flood were delivered before the others, after {:?}", began.elapsed());
    assert_eq!(accepted.repeats(), 0);
    assert_no_letters(&scene);
    assert!(daemon.is_running());
    daemon.stop();
}

#[test]
fn a_flood_for_an_endpoint_that_is_well_flows_without_a_storm_of_parking() {
    const EVENTS: usize = 20_000;
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("flood-well", 1);
    scene.log_level = "warn";
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = registry_of([("flooded.example", receiver.url("/flooded")), ("other.example", receiver.url("/other"))], PATIENT);
    scene.producer.send_all(scene.source(), &events("flooded.example", 0..EVENTS));
    scene.producer.send_all(scene.source(), &events("other.example", 0..OTHERS));
    let mut daemon = scene.start();
    accepted.wait(EVENTS + OTHERS, Duration::from_secs(120));
    scene.wait_committed_to_the_end();
    let parked = daemon.metric("callbackd_requeued_total", &[]) as usize;
    assert!(parked < EVENTS / 20, "{parked} moves through tiers for {EVENTS} events that their endpoint takes");
    assert_eq!(accepted.repeats(), 0);
    daemon.wait_metric("callbackd_in_flight", &[], 0.0);
    daemon.stop();
}
