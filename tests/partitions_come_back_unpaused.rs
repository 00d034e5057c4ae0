//! A partition that rested when it was taken away does not rest for ever when it comes back.

use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::collections::HashSet;

#[test]
fn tiers_that_were_full_of_heads_when_a_replica_took_them_are_read_on_when_it_leaves() {
    // Below the most different failures that a circuit can be set to bear.
    const EVENTS: usize = 900;
    let receiver = Receiver::start(|_, nth| Answer::Status(if nth <= EVENTS { 503 } else { 200 }));
    let mut scene = Scene::new("come-back", 4);
    scene.tiers = vec!["20s"];
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "retry = { delays = [\"20s\"], attempts = 5 }");
    scene.delivery = "circuit = { failures = 1000 }".into();
    let mut first = scene.start();
    scene.produce(&(0..EVENTS).map(|n| event("shop.example", n)).collect::<Vec<_>>());
    receiver.wait_for(EVENTS, SOON);
    scene.wait_committed_to_the_end();
    let mut second = scene.launch();
    second.wait_ready();
    await_true("the second has taken tiers", SOON, || second.metric("callbackd_assigned_partitions", &["class=\"retry\""]) > 0.0);
    second.stop();
    receiver.wait("all of them once more", SOON, |requests| {
        requests.iter().skip(EVENTS).map(|r| r.id().to_string()).collect::<HashSet<_>>().len() == EVENTS
    });
    first.stop();
}
