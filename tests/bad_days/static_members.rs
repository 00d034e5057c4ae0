//! `group.instance.id`: a replica with a name of its own that is back within the session time-out finds its partitions where they were, and
//! the others are not disturbed.

use super::{accepting, events};
use crate::harness::daemon::Daemon;
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};

const ASSIGNED: &str = "callbackd_assigned_partitions";
const FRESH: &[&str] = &["class=\"fresh\""];

#[test]
fn a_named_replica_that_restarts_within_the_session_time_out_causes_no_rebalance() {
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("static-members", 4);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    scene.kafka = "[kafka.properties]\n\"session.timeout.ms\" = \"30000\"".into();
    let named = |name: &str| vec![("CALLBACKD_KAFKA__PROPERTIES__GROUP_INSTANCE_ID".to_string(), name.to_string())];
    scene.environment = named("replica-1");
    let mut first = scene.start();
    scene.environment = named("replica-2");
    let mut second = scene.launch();
    second.wait_ready();
    await_true("every class has found its shares", SOON, || {
        let has_some =
            |r: &Daemon| ["fresh", "retry", "replay"].iter().all(|class| r.metric(ASSIGNED, &[&format!("class=\"{class}\"")]) > 0.0);
        has_some(&first) && has_some(&second)
    });
    await_true("each has two partitions", SOON, || [&first, &second].iter().all(|r| (r.metric(ASSIGNED, FRESH) - 2.0).abs() < 0.1));
    scene.producer.send_all(scene.source(), &events("shop.example", 0..100));
    accepted.wait(100, SOON);
    let before = first.metric("callbackd_rebalances_total", &[]);

    second.stop();
    scene.producer.send_all(scene.source(), &events("shop.example", 100..200));
    let mut second = scene.launch();
    second.wait_ready();
    await_true("it has its two partitions again", SOON, || (second.metric(ASSIGNED, FRESH) - 2.0).abs() < 0.1);
    accepted.wait(200, SOON);
    scene.wait_committed_to_the_end();
    let after = first.metric("callbackd_rebalances_total", &[]);
    assert!((after - before).abs() < f64::EPSILON, "the other replica went through {} changes of its assignment", after - before);
    assert_eq!(accepted.repeats(), 0);
    first.stop();
    second.stop();
}
