//! The cluster answers, and says that it has no broker: its only one was fenced, because its controller had not heard of it for a while.
//! The clients forget the brokers that they knew. When it is back everything goes on without a restart.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, wait_quiet};
use crate::harness::broker::Broker;
use crate::harness::daemon::Daemon;
use crate::harness::kafka::{self, Producer};
use crate::harness::processes::{free_port, run_dir};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::valve::Valve;
use crate::harness::{SOON, await_true};
use std::time::Duration;

const EVENTS: usize = 800;
/// Whether a client forgets its brokers for good is a race of its threads: so more than once.
const TIMES: usize = 4;

fn lost_connections(daemon: &Daemon) -> f64 {
    daemon.metric("callbackd_kafka_errors_total", &["kind=\"transport\""])
}

/// A broker of its own whose heartbeats go through the valve: shut, the broker is fenced.
fn broker_behind_a_valve(name: &str) -> (Broker, Valve) {
    let (port, controller) = (free_port(), free_port());
    let valve = Valve::to(controller);
    let properties = format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{valve}
controller.quorum.voters=1@127.0.0.1:{valve}
",
        valve = valve.port
    );
    (Broker::start_with(&run_dir().join(name), port, &properties, &[]).unwrap_or_else(|why| panic!("{why}")), valve)
}

fn await_fenced(scene: &Scene) {
    await_true("the broker is fenced", SOON, || kafka::led_partitions(&scene.bootstrap, scene.source()) == 0);
}

#[test]
fn a_cluster_that_knows_no_broker_for_a_while_is_found_again() {
    let (broker, valve) = broker_behind_a_valve("fenced");
    let (receiver, accepted) = accepting(|request, nth| {
        let status = if nth == 1 && request.id().ends_with('5') { 503 } else { 200 };
        Answer::Slow(Duration::from_millis(50), status)
    });
    let mut scene = Scene::on(&broker, "fenced", 4);
    scene.log_level = "info";
    // At most 160 a second: five seconds of work each time.
    scene.delivery = format!("max_in_flight = 8\n{NO_CIRCUIT}");
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    for time in 0..TIMES {
        let before = time * EVENTS;
        // The library of a producer that lived through the last time may have lost its brokers, too.
        Producer::new(&scene.bootstrap).send_all(scene.source(), &events("shop.example", before..before + EVENTS));
        accepted.wait(before + EVENTS / 10, SOON);
        let lost = lost_connections(&daemon);
        valve.shut();
        await_fenced(&scene);
        assert!(accepted.ids() < before + EVENTS, "the outage began in the middle of the work, with requeues to come");
        // The fresh and the retry class: both have just worked. That of replays may still be on its way back.
        await_true("two classes have lost their broker", SOON, || lost_connections(&daemon) >= lost + 2.0);
        valve.open();
        accepted.wait(before + EVENTS, SOON);
        daemon.wait_ready();
    }
    // And once more, after the last time.
    Producer::new(&scene.bootstrap).send_all(scene.source(), &events("shop.example", TIMES * EVENTS..TIMES * EVENTS + 50));
    accepted.wait(TIMES * EVENTS + 50, SOON);
    wait_quiet(&scene);
    assert_no_letters(&scene);
    let told = daemon.metric("callbackd_possible_repeats_total", &[]) as usize;
    assert!(accepted.repeats() <= told, "{} repeats, {told} possible ones told", accepted.repeats());
    daemon.stop();
}

#[test]
fn a_start_while_the_cluster_knows_no_broker_waits_for_one() {
    let (broker, valve) = broker_behind_a_valve("fenced-start");
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::on(&broker, "fenced-start", 4);
    scene.log_level = "info";
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    scene.create_topics();
    scene.producer.send_all(scene.source(), &events("shop.example", 0..10));
    valve.shut();
    await_fenced(&scene);
    let mut daemon = scene.launch();
    daemon.wait_log("it waits", |line| line.contains("WARN"));
    assert!(daemon.is_running());
    valve.open();
    accepted.wait(10, SOON);
    daemon.wait_ready();
    daemon.stop();
}
