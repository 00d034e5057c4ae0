//! Some partitions have no leader: the only broker that has them is down. All others are read as ever, also by a process that starts meanwhile
//! and is given both kinds; and when that broker is back nothing is missing.

use super::{PATIENT, accepting, assert_no_letters, events, wait_quiet};
use crate::harness::broker::Broker;
use crate::harness::kafka;
use crate::harness::processes::run_dir;
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};
use std::time::{Duration, Instant};

const PARTITIONS: usize = 6;
const OF_EACH: usize = 20;

#[test]
fn partitions_without_a_leader_keep_no_other_from_being_read() {
    let mut brokers = Broker::start_cluster(&run_dir().join("leaderless"), 3).unwrap_or_else(|why| panic!("{why}"));
    let bootstrap: Vec<&str> = brokers.iter().map(|broker| broker.bootstrap.as_str()).collect();
    let mut scene = Scene::without_topics("leaderless", &bootstrap.join(","));
    scene.log_level = "info";
    // Each broker leads two partitions, and nobody else has them.
    kafka::create_replicated_topic(&scene.bootstrap, scene.source(), PARTITIONS as i32, 1, &[]);
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    scene.create_topics();
    let all = events("shop.example", 0..PARTITIONS * OF_EACH);
    let spread: Vec<_> = all.into_iter().enumerate().map(|(n, event)| event.partition((n % PARTITIONS) as i32)).collect();
    scene.producer.send_all(scene.source(), &spread);

    brokers[0].kill();
    let led = || kafka::led_partitions(&brokers[1].bootstrap, scene.source());
    await_true("the others know that it is gone", SOON, || led() == PARTITIONS - 2);
    let mut daemon = scene.launch();
    let begun = Instant::now();
    while accepted.ids() < led() * OF_EACH {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} of {} accepted", accepted.ids(), led() * OF_EACH);
        let live = daemon.livez();
        // None before it listens.
        assert!(live.as_ref().is_none_or(|(status, _)| *status == 200), "{:?} after the start: {live:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.wait_ready();
    brokers[0].start_again().unwrap();
    accepted.wait(PARTITIONS * OF_EACH, Duration::from_secs(90));
    wait_quiet(&scene);
    assert_no_letters(&scene);
    assert_eq!(accepted.repeats(), 0);
    daemon.stop();
}
