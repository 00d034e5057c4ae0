//! SIGTERM: intake stops, what runs is finished and committed, exit 0. A second one: exit 1 at once.

use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[test]
fn a_drain_finishes_what_runs_starts_nothing_and_repeats_nothing() {
    const EVENTS: usize = 300;
    let receiver = Receiver::start(|_, _| Answer::Slow(Duration::from_millis(400), 200));
    let mut scene = Scene::new("drain", 2);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    scene.produce(&(0..EVENTS).map(|n| event("shop.example", n)).collect::<Vec<_>>());
    receiver.wait_for(20, SOON);
    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(Duration::from_secs(27)), 0, "{}", daemon.log());
    assert!(asked.elapsed() < Duration::from_secs(10), "attempts take 0.4 s, the drain took {:?}", asked.elapsed());
    let first = receiver.requests();
    assert!(first.len() < EVENTS, "it was stopped in the middle of its work");
    let late = first.iter().filter(|r| r.at > asked + Duration::from_millis(500)).count();
    assert_eq!(late, 0, "attempts that began after the drain did");

    let mut daemon = scene.launch();
    daemon.wait_ready();
    receiver.wait(&format!("all of {EVENTS}"), SOON, |requests| {
        requests.iter().map(|r| r.id().to_string()).collect::<std::collections::HashSet<_>>().len() == EVENTS
    });
    scene.wait_committed_to_the_end();
    daemon.stop();
    let mut of_id: HashMap<String, usize> = HashMap::new();
    for request in receiver.requests() {
        *of_id.entry(request.id().to_string()).or_default() += 1;
    }
    let repeated = of_id.values().filter(|n| **n > 1).count();
    assert_eq!(repeated, 0, "after a graceful stop nothing is repeated");
}

#[test]
fn at_the_drain_deadline_running_attempts_are_cut_and_the_exit_is_still_zero() {
    let receiver = Receiver::start(|_, nth| if nth == 1 { Answer::Hang } else { Answer::Status(200) });
    let mut scene = Scene::new("drain-deadline", 1);
    scene.delivery = "drain_timeout = \"1s\"".into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    scene.produce(&[event("shop.example", 1)]);
    receiver.wait_for(1, SOON);
    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(Duration::from_secs(15)), 0, "{}", daemon.log());
    assert!(asked.elapsed() >= Duration::from_millis(900), "it waits for its deadline");
    let mut daemon = scene.launch();
    daemon.wait_ready();
    receiver.wait_for(2, SOON);
    let requests = receiver.requests();
    assert_eq!(requests[0].id(), requests[1].id(), "what was cut stays uncommitted and comes again");
    scene.wait_committed_to_the_end();
    daemon.stop();
    assert_eq!(receiver.count(), 2);
}

#[test]
fn a_second_sigterm_ends_it_at_once_with_exit_code_one() {
    let receiver = Receiver::start(|_, _| Answer::Hang);
    let mut scene = Scene::new("second-sigterm", 1);
    // Far beyond what is waited for below: neither of them ends it.
    scene.delivery = "drain_timeout = \"100s\"".into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "timeout = \"100s\"");
    let mut daemon = scene.start();
    scene.produce(&[event("shop.example", 1)]);
    receiver.wait_for(1, SOON);
    daemon.signal("TERM");
    await_true("not ready, for it drains", SOON, || {
        daemon.readyz().is_some_and(|(status, why)| status == 503 && why.contains("draining and will end"))
    });
    // Signals within 50 ms are one act.
    std::thread::sleep(Duration::from_secs(1));
    assert!(daemon.is_running(), "it drains: an attempt is running");
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)), 1);
}
