//! SIGTERM while the broker is away: what cannot be committed is left uncommitted, and the process ends in time with exit code 0.

use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, run_dir};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn without_a_broker_a_drain_ends_within_its_timeout_and_a_little_and_exits_zero() {
    let broker = Broker::start(&run_dir().join("broker-away"), free_port()).unwrap_or_else(|why| panic!("{why}"));
    let called = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_, _| match called.fetch_add(1, Ordering::Relaxed) {
        0..20 => Answer::Status(200),
        _ => Answer::Slow(Duration::from_secs(4), 503),
    });
    let mut scene = Scene::on(&broker, "broker-away", 2);
    scene.delivery = "drain_timeout = \"5s\"".into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    scene.produce(&(0..60).map(|n| event("shop.example", n)).collect::<Vec<_>>());
    receiver.wait_for(21, SOON);
    drop(broker);
    await_true("a requeue waits for the broker", SOON, || daemon.metric("callbackd_appends_waiting", &[]) > 0.0);
    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(Duration::from_secs(40)), 0, "{}", daemon.log());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(5 + 10 + 5 + 3), "drain 5 s, leave 10 s, flush 5 s; it took {took:?}");
}
