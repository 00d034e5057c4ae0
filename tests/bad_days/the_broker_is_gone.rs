//! The broker is gone for long: killed, or frozen with its connections open. Nothing is lost, intake rests once commits fail, the process
//! stays live, and when the broker is back everything goes on without a restart.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, wait_quiet};
use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, run_dir};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use std::time::{Duration, Instant};

const EVENTS: usize = 3000;
const AWAY: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
enum Outage {
    Killed,
    Frozen,
}

fn outlived(name: &str, outage: Outage) {
    let (dir, port) = (run_dir().join(name), free_port());
    let start = || Broker::start(&dir, port).unwrap_or_else(|why| panic!("{why}"));
    let mut broker = Some(start());
    // Every fifth event needs the broker for a requeue.
    let (receiver, accepted) = accepting(|request, nth| {
        let status = if nth == 1 && request.id().ends_with(['0', '5']) { 503 } else { 200 };
        Answer::Slow(Duration::from_millis(50), status)
    });
    let mut scene = Scene::on(broker.as_ref().unwrap(), name, 4);
    scene.log_level = "info";
    scene.delivery = format!("max_in_flight = 32\n{NO_CIRCUIT}");
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &events("shop.example", 0..EVENTS));
    receiver.wait_for(200, Duration::from_secs(30));

    match outage {
        Outage::Killed => drop(broker.take()),
        Outage::Frozen => broker.as_ref().unwrap().signal("STOP"),
    }
    let gone = Instant::now();
    let mut at_rest = 0;
    while gone.elapsed() < AWAY {
        let live = daemon.livez();
        assert!(live.as_ref().is_some_and(|(status, _)| *status == 200), "{:?} into the outage: {live:?}", gone.elapsed());
        let (status, why) = daemon.readyz().unwrap();
        let left_out = status == 503 && why.contains("has not joined its group");
        assert!(status == 200 || left_out && gone.elapsed() > Duration::from_secs(8), "it is in its groups until its sessions end: {why}");
        if gone.elapsed() < Duration::from_secs(15) {
            at_rest = receiver.count();
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(receiver.count() < EVENTS, "the outage began in the middle of the work");
    assert_eq!(receiver.count(), at_rest, "without commits for more than 10 s nothing more is taken in");
    let broker = broker.get_or_insert_with(start);
    broker.signal("CONT");
    accepted.wait(EVENTS, Duration::from_secs(90));
    daemon.wait_ready();
    wait_quiet(&scene);
    assert!(daemon.is_running() && broker.is_running());
    assert_no_letters(&scene);
    // "The last commit" is the last that was accepted: what was delivered after it may come twice, and is told.
    let told = daemon.metric("callbackd_possible_repeats_total", &[]) as usize;
    assert!(accepted.repeats() <= told, "{} repeats, {told} possible ones told", accepted.repeats());
    let peak = daemon.peak_mib();
    assert!(peak < 150, "{peak} MiB resident at most");
    daemon.stop();
}

#[test]
fn a_killed_broker_that_comes_back_finds_everything_undelivered_still_there() {
    outlived("broker-killed", Outage::Killed);
}

#[test]
fn a_frozen_broker_that_thaws_finds_everything_undelivered_still_there() {
    outlived("broker-frozen", Outage::Frozen);
}
