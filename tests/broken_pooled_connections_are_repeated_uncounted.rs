//! A pooled connection that was already dead: the request is repeated at once on another one, and not counted as an attempt.

use crate::harness::SOON;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event, simple_registry};
use std::time::Duration;

#[test]
fn a_request_on_a_connection_that_was_already_dead_is_repeated_at_once_and_not_counted() {
    const ROUNDS: usize = 20;
    let receiver = Receiver::start(|_, _| Answer::ThenDead(200));
    let mut scene = Scene::new("dead-connection", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    for n in 0..ROUNDS {
        scene.produce(&[event("shop.example", n)]);
        receiver.wait_for(n + 1, SOON);
        daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], (n + 1) as f64);
    }
    assert_eq!(receiver.count(), ROUNDS);
    assert!(daemon.metric("callbackd_attempts_total", &["result=\"success\""]) as usize == ROUNDS);
    let failed: f64 =
        ["protocol", "connect", "timeout"].iter().map(|r| daemon.metric("callbackd_attempts_total", &[&format!("result={r:?}")])).sum();
    assert!(failed.abs() < f64::EPSILON, "{failed} attempts counted as failed");
    assert!(daemon.metric("callbackd_requeued_total", &["reason=\"retry\""]).abs() < f64::EPSILON);
    daemon.stop();
}

#[test]
fn a_fresh_connection_that_breaks_is_a_failed_attempt() {
    let receiver = Receiver::start(|_, nth| if nth == 1 { Answer::Close } else { Answer::Status(200) });
    let mut scene = Scene::new("fresh-connection", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "retry = { delays = [\"300ms\"], attempts = 3 }");
    let mut daemon = scene.start();
    scene.produce(&[event("shop.example", 1)]);
    receiver.wait_for(2, SOON);
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], 1.0);
    let requests = receiver.requests();
    assert!(requests[1].at.duration_since(requests[0].at) >= Duration::from_millis(290), "by the schedule, not at once");
    daemon.wait_metric("callbackd_attempts_total", &["result=\"protocol\""], 1.0);
    daemon.stop();
}

#[test]
fn connections_are_kept_between_callbacks() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("keep-alive", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    scene.produce(&(0..500).map(|n| event("shop.example", n)).collect::<Vec<_>>());
    receiver.wait_for(500, SOON);
    assert!(receiver.connections() <= 40, "{} connections for 500 callbacks, 32 at once", receiver.connections());
    daemon.stop();
}
