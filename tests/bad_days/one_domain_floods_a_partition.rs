//! Fifty thousand events of one domain in one partition, and events of others behind them. The others do not wait for the flood to drain;
//! and a flood for an endpoint that is well flows without a storm of parking.

use super::{PATIENT, accepting, assert_no_letters, events, registry_of};
use crate::harness::await_true;
use crate::harness::daemon::Daemon;
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

/// A flood whose receiver answers at once, beside an endpoint of another domain or alone.
fn flows(name: &str, domains: &[&str]) {
    const EVENTS: usize = 5_000;
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new(name, 1);
    scene.log_level = "warn";
    scene.registry = registry_of(domains.iter().map(|domain| (*domain, receiver.url(&format!("/{domain}")))), PATIENT);
    scene.producer.send_all(scene.source(), &events("flooded.example", 0..EVENTS));
    let others = domains.len() > 1;
    if others {
        scene.producer.send_all(scene.source(), &events("other.example", 0..OTHERS));
    }
    let mut daemon = scene.start();
    accepted.wait(EVENTS + if others { OTHERS } else { 0 }, Duration::from_secs(120));
    super::wait_quiet(&scene);
    // About one move a record at most: on a busy machine a receiver that is well may seem silent at first, and then its backlog is parked.
    // A storm would be many.
    let parked = moves(&daemon, &["reason=\"lane_full\""]) + moves(&daemon, &["reason=\"circuit_open\""]);
    assert!(parked <= 2 * EVENTS, "{parked} parkings of {EVENTS} events that their endpoint takes: {:?}", reasons(&daemon));
    assert_eq!(accepted.repeats(), 0);
    assert_no_letters(&scene);
    daemon.stop();
}

#[test]
fn a_flood_for_the_only_endpoint_flows_without_a_storm_of_parking() {
    flows("flood-alone", &["flooded.example"]);
}

#[test]
fn a_flood_for_an_endpoint_that_is_well_flows_beside_another_without_a_storm_of_parking() {
    flows("flood-well", &["flooded.example", "other.example"]);
}

/// Why records moved into tiers, for a failure's message.
fn reasons(daemon: &Daemon) -> Vec<String> {
    let moved = |line: &&str| line.starts_with("callbackd_requeued_total") && !line.ends_with(" 0");
    daemon.metrics().lines().filter(moved).map(str::to_owned).collect()
}

/// Records moved into tiers.
fn moves(daemon: &Daemon, labels: &[&str]) -> usize {
    daemon.metric("callbackd_requeued_total", labels) as usize
}
