//! The broker's disk is full: it takes nothing more and goes down. Requeues wait and are charged, intake stalls, nothing is lost, and with
//! space again everything goes on. How single refusals are judged is shown beside the outbox, on a mock broker.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, large_events, wait_quiet};
use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, limit, run_dir};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, both, simple_registry};
use crate::harness::{SOON, await_true};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// From now on no file of the broker may pass 16 MiB: a write beyond it fails as one to a full disk does.
pub(super) fn fill_disk(broker: &Broker) {
    limit(broker.id(), &format!("fsize={}:", 16 << 20));
}

#[test]
fn requeues_wait_for_a_broker_whose_disk_is_full_and_go_on_when_there_is_space() {
    const EVENTS: usize = 400;
    let (dir, port) = (run_dir().join("disk-full"), free_port());
    let mut broker = Broker::start(&dir, port).unwrap_or_else(|why| panic!("{why}"));
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let (receiver, accepted) = accepting(move |_, _| Answer::Status(if is_mended.load(Ordering::Relaxed) { 200 } else { 503 }));
    let mut scene = Scene::on(&broker, "disk-full", 8);
    scene.log_level = "info";
    scene.tiers = vec!["3s"];
    scene.delivery = format!("max_in_flight_bytes = \"16MiB\"\n{NO_CIRCUIT}");
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), &PATIENT.replace("300ms", "3s"));
    // One tier of one partition: its log reaches the limit while the source's eight are far from it.
    let created = scene.command(&["topics", "create", "--partitions", "1"]);
    assert!(created.status.success(), "{}", both(&created));
    let mut daemon = scene.launch();
    daemon.wait_ready();
    let large = large_events("shop.example", 0..EVENTS, 100_000).into_iter().zip((0..8).cycle());
    scene.producer.send_all(scene.source(), &large.map(|(new, partition)| new.partition(partition)).collect::<Vec<_>>());
    fill_disk(&broker);
    await_true("the broker went down over its full disk", SOON, || !broker.is_running());
    await_true("requeues wait", SOON, || daemon.metric("callbackd_appends_waiting", &[]) > 0.0);
    // What cannot be requeued fills its budget, and nothing more is taken in. Heads of the tier come due within its three seconds.
    receiver.wait_silence(Duration::from_secs(5), SOON);
    let stalled = receiver.count();
    assert!(stalled < 2 * EVENTS, "{stalled} attempts");
    assert!(daemon.is_running(), "{}", daemon.log());
    assert!(daemon.livez().is_some_and(|(status, _)| status == 200));

    mended.store(true, Ordering::Relaxed);
    let _broker = Broker::start(&dir, port).unwrap_or_else(|why| panic!("{why}"));
    accepted.wait(EVENTS, Duration::from_secs(90));
    wait_quiet(&scene);
    assert_no_letters(&scene);
    assert!(
        daemon.metric("callbackd_partitions_stopped", &[]).abs() < f64::EPSILON,
        "no partition was stopped: the refusal was not for good"
    );
    daemon.stop();
}
