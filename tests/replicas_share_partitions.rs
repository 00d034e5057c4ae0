//! Replicas of one group share the partitions; joins and leaves lose nothing, and repeat nothing when they are graceful.

use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{Over, SOON, await_true};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_joining_and_a_leaving_replica_lose_and_repeat_nothing() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("replicas", 4);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut first = scene.start();
    let over = AtomicBool::new(false);
    let produced = std::thread::scope(|threads| {
        let ending = Over(&over);
        let producing = threads.spawn(|| {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                scene.produce(&(n..n + 20).map(|n| event("shop.example", n)).collect::<Vec<_>>());
                n += 20;
                std::thread::sleep(Duration::from_millis(100));
            }
            n
        });
        let mut second = scene.launch();
        second.wait_ready();
        await_true("both have source partitions", SOON, || {
            [&first, &second].iter().all(|d| {
                let consumed = d.metric("callbackd_events_consumed_total", &[]);
                d.metric("callbackd_assigned_partitions", &["class=\"fresh\""]) >= 1.0 && consumed > 0.0
            })
        });
        first.stop();
        let before = second.metric("callbackd_events_consumed_total", &[]);
        await_true("the second goes on alone", SOON, || second.metric("callbackd_events_consumed_total", &[]) > before + 100.0);
        drop(ending);
        let produced = producing.join().unwrap();
        receiver.wait(&format!("all of {produced}"), SOON, |requests| requests.len() >= produced);
        scene.wait_committed_to_the_end();
        second.stop();
        produced
    });
    let mut of_id: HashMap<String, usize> = HashMap::new();
    for request in receiver.requests() {
        *of_id.entry(request.id().to_string()).or_default() += 1;
    }
    assert_eq!(of_id.len(), produced, "nothing lost");
    assert_eq!(of_id.values().filter(|n| **n > 1).count(), 0, "nothing repeated");
}
