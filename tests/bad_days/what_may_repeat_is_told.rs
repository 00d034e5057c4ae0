//! `callbackd_possible_repeats_total` and `callbackd_unfinished_span` tell the truth.

use super::{NO_CIRCUIT, PATIENT, accepting, events, id};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};
use std::time::Duration;

const REPEATS: &str = "callbackd_possible_repeats_total";

#[test]
fn the_unfinished_span_reaches_from_the_stuck_record_to_the_last_and_is_gone_with_it() {
    let (receiver, accepted) = accepting(|request, _| match request.id() {
        "shop-example-0" => Answer::Slow(Duration::from_secs(5), 200),
        _ => Answer::Status(200),
    });
    let mut scene = Scene::new("span", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &events("shop.example", 0..51));
    let topic = format!("topic={:?}", scene.source());
    accepted.wait(51, SOON);
    daemon.wait_metric("callbackd_unfinished_span", &[&topic], 51.0);
    assert!(daemon.metric("callbackd_commit_map_bytes", &["class=\"fresh\""]) > 0.0, "the map says what is finished behind it");
    daemon.wait_metric("callbackd_unfinished_span", &[&topic], 0.0);
    assert!(daemon.metric(REPEATS, &[]).abs() < f64::EPSILON);
    daemon.stop();
}

#[test]
fn a_success_after_its_partition_was_given_away_is_told_and_repeated_by_the_new_owner() {
    // Longer than the grace, so each attempt under way in a partition that moves succeeds late.
    let (receiver, accepted) = accepting(|_, nth| Answer::Slow(Duration::from_secs(if nth == 1 { 6 } else { 0 }), 200));
    let mut scene = Scene::new("late-success", 4);
    scene.delivery = format!("revoke_grace = \"1s\"\n{NO_CIRCUIT}");
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut first = scene.start();
    let spread: Vec<_> = events("shop.example", 0..20).into_iter().zip((0..4).cycle()).map(|(e, p)| e.partition(p)).collect();
    let mut second = scene.launch();
    // The second joins while the first one's attempts run.
    scene.producer.send_all(scene.source(), &spread);
    second.wait_ready();
    await_true("both have partitions", SOON, || {
        [&first, &second].iter().all(|r| (r.metric("callbackd_assigned_partitions", &["class=\"fresh\""]) - 2.0).abs() < 0.1)
    });
    accepted.wait(20, SOON);
    scene.wait_committed_to_the_end();
    await_true("late successes are told as they come in", SOON, || {
        let told: f64 = [&first, &second].iter().map(|r| r.metric(REPEATS, &[])).sum();
        told as usize == accepted.repeats()
    });
    assert!(receiver.requests().iter().all(|r| r.id().starts_with(&id("shop.example", 0)[..12])));
    first.stop();
    second.stop();
}
