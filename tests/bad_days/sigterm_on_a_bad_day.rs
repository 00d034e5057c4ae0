//! SIGTERM in the middle of each bad day: the process ends in time with exit code 0, and after a restart on a better day every event is
//! delivered. What the drain could settle is not repeated.

use super::clock_jumps::Clock;
use super::disk_full_broker::fill_disk;
use super::large_records::large;
use super::leaders_change::ReplicatedCluster;
use super::{Accepted, NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, large_events, registry_of, wait_quiet};
use crate::harness::broker::Broker;
use crate::harness::daemon::Daemon;
use crate::harness::kafka::{self, New};
use crate::harness::processes::{free_port, run_dir};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, both};
use crate::harness::{SOON, await_true};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DRAIN: Duration = Duration::from_secs(3);

/// A day in the middle of its trouble.
struct Day {
    scene: Scene,
    receiver: Receiver,
    accepted: Accepted,
    /// Receivers are well again.
    mended: Arc<AtomicBool>,
}

impl Day {
    /// One domain, whose receiver does as `bad` says until it is mended.
    fn new(scene: Scene, bad: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let mended = Arc::new(AtomicBool::new(false));
        let well = Arc::clone(&mended);
        let (receiver, accepted) = accepting(move |_, nth| if well.load(Ordering::Relaxed) { Answer::Status(200) } else { bad(nth) });
        let mut scene = scene;
        scene.log_level = "info";
        scene.delivery = format!("drain_timeout = \"{}s\"\n{NO_CIRCUIT}", DRAIN.as_secs());
        scene.registry = registry_of([("shop.example", receiver.url("/cb"))], &format!("timeout = \"1s\"\n{PATIENT}"));
        Self { scene, receiver, accepted, mended }
    }

    fn produce(&self, records: &[New]) {
        self.scene.producer.send_all(self.scene.source(), records);
    }

    /// SIGTERM; it must end in time, whatever else is wrong. `more`: what a broker that does not answer may cost on top.
    fn terminate(&self, daemon: &mut Daemon, more: Duration) {
        let asked = Instant::now();
        daemon.signal("TERM");
        let limit = DRAIN + Duration::from_secs(4) + more;
        assert_eq!(daemon.wait_exit(limit + Duration::from_secs(20)), 0, "{}", daemon.log());
        assert!(asked.elapsed() < limit, "it took {:?}, {limit:?} are allowed", asked.elapsed());
    }

    /// The better day: all of `total` events are accepted in the end. Returns how many acceptances were repeats.
    fn recover(&self, total: usize) -> usize {
        self.mended.store(true, Ordering::Relaxed);
        let mut daemon = self.scene.launch();
        daemon.wait_ready();
        self.accepted.wait(total, Duration::from_secs(90));
        wait_quiet(&self.scene);
        assert_no_letters(&self.scene);
        assert_eq!(self.accepted.ids(), total);
        daemon.stop();
        self.accepted.repeats()
    }
}

/// Commit, leave and flush may each take their time-out when nobody answers: 10 s and 5 s.
const SILENT_BROKER: Duration = Duration::from_secs(15);

#[test]
fn sigterm_while_the_broker_is_frozen_ends_in_time_and_loses_nothing() {
    let broker = Broker::start(&run_dir().join("sigterm-frozen"), free_port()).unwrap_or_else(|why| panic!("{why}"));
    let day =
        Day::new(Scene::on(&broker, "sigterm-frozen", 2), |nth| Answer::Slow(Duration::from_millis(100), if nth == 1 { 503 } else { 200 }));
    let mut daemon = day.scene.start();
    day.produce(&events("shop.example", 0..500));
    day.receiver.wait_for(100, SOON);
    broker.signal("STOP");
    await_true("a requeue waits for the broker", SOON, || daemon.metric("callbackd_appends_waiting", &[]) > 0.0);
    day.terminate(&mut daemon, SILENT_BROKER);
    broker.signal("CONT");
    day.recover(500);
}

#[test]
fn sigterm_while_the_brokers_disk_is_full_ends_in_time_and_loses_nothing() {
    const EVENTS: usize = 400;
    let (dir, port) = (run_dir().join("sigterm-disk"), free_port());
    let mut broker = Broker::start(&dir, port).unwrap_or_else(|why| panic!("{why}"));
    let mut day = Day::new(Scene::on(&broker, "sigterm-disk", 8), |_| Answer::Status(503));
    day.scene.tiers = vec!["3s"];
    // One tier of one partition: its log reaches the limit while the source's eight are far from it.
    let created = day.scene.command(&["topics", "create", "--partitions", "1"]);
    assert!(created.status.success(), "{}", both(&created));
    let mut daemon = day.scene.launch();
    daemon.wait_ready();
    let large = large_events("shop.example", 0..EVENTS, 100_000).into_iter().zip((0..8).cycle());
    day.produce(&large.map(|(new, partition)| new.partition(partition)).collect::<Vec<_>>());
    fill_disk(&broker);
    await_true("the broker went down over its full disk", SOON, || !broker.is_running());
    day.terminate(&mut daemon, SILENT_BROKER);
    let _broker = Broker::start(&dir, port).unwrap_or_else(|why| panic!("{why}"));
    day.recover(EVENTS);
}

#[test]
fn sigterm_while_leaders_change_ends_in_time_and_loses_nothing() {
    let mut cluster = ReplicatedCluster::start("sigterm-leaders");
    let scene = cluster.scene("sigterm-leaders");
    let day = Day::new(scene, |nth| Answer::Slow(Duration::from_millis(50), if nth == 1 { 503 } else { 200 }));
    day.scene.create_topics();
    let mut daemon = day.scene.launch();
    daemon.wait_ready();
    day.produce(&cluster.spread(0..500));
    day.receiver.wait_for(100, SOON);
    cluster.brokers[0].kill();
    day.terminate(&mut daemon, SILENT_BROKER);
    cluster.brokers[0].start_again().unwrap();
    day.recover(500);
}

#[test]
fn sigterm_while_retention_deletes_what_was_not_read_ends_in_time_and_loses_nothing() {
    let day = Day::new(Scene::new("sigterm-retention", 1), |_| Answer::Slow(Duration::from_millis(100), 200));
    let mut daemon = day.scene.start();
    day.produce(&large("shop.example", 0..120));
    day.receiver.wait_for(5, SOON);
    kafka::delete_records(&day.scene.bootstrap, day.scene.source(), 0, 100);
    day.terminate(&mut daemon, Duration::ZERO);
    day.mended.store(true, Ordering::Relaxed);
    let mut daemon = day.scene.launch();
    daemon.wait_ready();
    await_true("what was kept is delivered", SOON, || (100..120).all(|n| day.accepted.has(&super::id("shop.example", n))));
    wait_quiet(&day.scene);
    assert_eq!(day.accepted.repeats(), 0);
    assert_no_letters(&day.scene);
    daemon.stop();
}

#[test]
fn sigterm_while_poison_lies_in_every_tier_ends_in_time_and_loses_nothing() {
    let day = Day::new(Scene::new("sigterm-poison", 1), |_| Answer::Status(503));
    let mut daemon = day.scene.start();
    for tier in &day.scene.tiers {
        let poison: Vec<New> = (0..50).map(|n| New::value(vec![0xff; n])).collect();
        day.scene.producer.send_all(&day.scene.tier_topic(tier), &poison);
    }
    day.produce(&events("shop.example", 0..100));
    await_true("some poison is buried", SOON, || !day.scene.dead_letters().is_empty());
    day.terminate(&mut daemon, Duration::ZERO);
    day.mended.store(true, Ordering::Relaxed);
    let mut daemon = day.scene.launch();
    daemon.wait_ready();
    day.accepted.wait(100, SOON);
    wait_quiet(&day.scene);
    assert_eq!(day.scene.dead_letters().len(), 50 * day.scene.tiers.len(), "each buried once");
    assert_eq!(day.accepted.repeats(), 0);
    daemon.stop();
}

#[test]
fn sigterm_while_the_clock_is_an_hour_off_ends_in_time_and_loses_nothing() {
    let mut day =
        Day::new(Scene::new("sigterm-clock", 1), |nth| Answer::Slow(Duration::from_millis(200), if nth == 1 { 503 } else { 200 }));
    let clock = Clock::of(&mut day.scene);
    let mut daemon = day.scene.start();
    day.produce(&events("shop.example", 0..300));
    day.receiver.wait_for(100, SOON);
    clock.jump_to(3600);
    await_true("not ready, for its clock", SOON, || daemon.readyz().is_some_and(|(status, _)| status == 503));
    day.terminate(&mut daemon, Duration::ZERO);
    clock.jump_to(0);
    assert_eq!(day.recover(300), 0);
}

#[test]
fn sigterm_while_a_receiver_answers_after_the_time_out_ends_in_time_and_loses_nothing() {
    let day = Day::new(Scene::new("sigterm-late", 1), |_| Answer::Slow(Duration::from_millis(1500), 503));
    let mut daemon = day.scene.start();
    day.produce(&events("shop.example", 0..200));
    day.receiver.wait_for(40, SOON);
    day.terminate(&mut daemon, Duration::ZERO);
    assert_eq!(day.recover(200), 0);
}

#[test]
fn sigterm_while_a_receiver_closes_half_way_through_its_answer_ends_in_time_and_loses_nothing() {
    let day = Day::new(Scene::new("sigterm-half", 1), |_| Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec()));
    let mut daemon = day.scene.start();
    day.produce(&events("shop.example", 0..2000));
    day.receiver.wait_for(200, SOON);
    day.terminate(&mut daemon, Duration::ZERO);
    assert_eq!(day.recover(2000), 0);
}

#[test]
fn sigterm_while_mebibyte_records_fill_the_budget_ends_in_time_and_loses_nothing() {
    let mut day = Day::new(Scene::new("sigterm-large", 2), |_| Answer::Slow(Duration::from_millis(100), 503));
    day.scene.delivery.push_str("\nmax_in_flight_bytes = \"16MiB\"");
    let mut daemon = day.scene.start();
    day.produce(&large("shop.example", 0..100));
    day.receiver.wait_for(20, SOON);
    day.terminate(&mut daemon, Duration::ZERO);
    assert_eq!(day.recover(100), 0);
}

#[test]
fn sigterm_while_one_domain_floods_a_partition_ends_in_time_and_loses_nothing() {
    let day = Day::new(Scene::new("sigterm-flood", 1), |_| Answer::Slow(Duration::from_millis(200), 200));
    let mut daemon = day.scene.start();
    day.produce(&events("shop.example", 0..10_000));
    day.receiver.wait_for(100, SOON);
    day.terminate(&mut daemon, Duration::ZERO);
    assert_eq!(day.recover(10_000), 0);
}

#[test]
fn sigterm_while_the_registry_is_broken_and_reloaded_ends_in_time_and_loses_nothing() {
    let day = Day::new(Scene::new("sigterm-reload", 1), |nth| Answer::Slow(Duration::from_millis(50), if nth == 1 { 503 } else { 200 }));
    let mut daemon = day.scene.start();
    day.produce(&events("shop.example", 0..1000));
    day.receiver.wait_for(100, SOON);
    std::fs::write(day.scene.dir.join("registry.toml"), "[[domains").unwrap();
    daemon.signal("HUP");
    daemon.wait_loaded(false);
    day.terminate(&mut daemon, Duration::ZERO);
    assert_eq!(day.recover(1000), 0);
}

#[test]
fn sigterm_while_descriptors_run_out_ends_in_time_and_loses_nothing() {
    let day = Day::new(Scene::new("sigterm-descriptors", 1), |_| Answer::Slow(Duration::from_millis(300), 200));
    let mut daemon = day.scene.start();
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count();
    daemon.limit(&format!("nofile={}:", open + 4));
    day.produce(&events("shop.example", 0..500));
    day.receiver.wait_for(20, SOON);
    day.terminate(&mut daemon, Duration::ZERO);
    assert_eq!(day.recover(500), 0);
}
