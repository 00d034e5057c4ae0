//! A broker that leads partitions, and coordinates a group perhaps, is killed; others lead from then on. Nothing is lost, nothing dead-lettered,
//! and what comes twice is told.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, wait_quiet};
use crate::harness::broker::Broker;
use crate::harness::kafka::{self, New};
use crate::harness::processes::run_dir;
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};
use std::ops::Range;
use std::time::Duration;

const PARTITIONS: usize = 6;

/// Three brokers, each of which has every partition and leads a third of them.
pub(super) struct ReplicatedCluster {
    pub(super) brokers: Vec<Broker>,
}

impl ReplicatedCluster {
    pub(super) fn start(name: &str) -> Self {
        Self { brokers: Broker::start_cluster(&run_dir().join(format!("brokers-of-{name}")), 3).unwrap_or_else(|why| panic!("{why}")) }
    }

    /// A scene with its source topic, still without topics of ours.
    pub(super) fn scene(&self, name: &str) -> Scene {
        let bootstrap: Vec<&str> = self.brokers.iter().map(|broker| broker.bootstrap.as_str()).collect();
        let scene = Scene::without_topics(name, &bootstrap.join(","));
        kafka::create_replicated_topic(&scene.bootstrap, scene.source(), PARTITIONS as i32, 3, &[]);
        scene
    }

    /// Events over all partitions in turn.
    pub(super) fn spread(&self, numbers: Range<usize>) -> Vec<New> {
        events("shop.example", numbers)
            .into_iter()
            .zip((0..PARTITIONS as i32).cycle())
            .map(|(new, partition)| new.partition(partition))
            .collect()
    }
}

#[test]
fn when_leaders_change_under_load_nothing_is_lost_and_repeats_are_told() {
    let mut cluster = ReplicatedCluster::start("leaders");
    let mut scene = cluster.scene("leaders");
    let (receiver, accepted) = accepting(|_, nth| Answer::Slow(Duration::from_millis(20), if nth == 1 { 503 } else { 200 }));
    scene.log_level = "info";
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    scene.create_topics();
    let mut daemon = scene.launch();
    daemon.wait_ready();
    scene.producer.send_all(scene.source(), &cluster.spread(0..600));
    receiver.wait_for(100, SOON);
    cluster.brokers[0].kill();
    let led = || kafka::led_partitions(&cluster.brokers[1].bootstrap, scene.source());
    await_true("the others lead all partitions", SOON, || led() == PARTITIONS);
    scene.producer.send_all(scene.source(), &cluster.spread(600..1200));
    accepted.wait(1200, Duration::from_secs(90));
    wait_quiet(&scene);
    assert_no_letters(&scene);
    let told = daemon.metric("callbackd_possible_repeats_total", &[]);
    assert!(accepted.repeats() as f64 <= told, "{} repeats, {told} possible ones told", accepted.repeats());
    assert!(daemon.livez().is_some_and(|(status, _)| status == 200));
    daemon.wait_ready();
    daemon.stop();
}
