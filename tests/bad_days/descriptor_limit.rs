//! The limit on file descriptors is reached: attempts that find none fail and are retried, `/metrics` answers again, Kafka goes on, and with
//! room everything recovers without a restart.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, registry_of, wait_quiet};
use crate::harness::daemon::Daemon;
use crate::harness::http;
use crate::harness::receiver::Answer;
use crate::harness::scene::Scene;
use crate::harness::{SOON, await_true};
use std::time::Duration;

fn open_descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count()
}

#[test]
fn without_descriptors_attempts_fail_and_are_retried_and_everything_else_goes_on() {
    const DOMAINS: usize = 40;
    const EACH: usize = 25;
    // Receivers of their own: what is pooled for one is of no use to another.
    let receivers: Vec<_> = (0..DOMAINS).map(|_| accepting(|_, _| Answer::Slow(Duration::from_millis(200), 200))).collect();
    let domains: Vec<String> = (0..DOMAINS).map(|n| format!("d{n}.example")).collect();
    let mut scene = Scene::new("descriptors", 2);
    scene.log_level = "info";
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = registry_of(domains.iter().zip(&receivers).map(|(d, (r, _))| (d.as_str(), r.url("/cb"))), PATIENT);
    let mut daemon = scene.start();
    let idle = open_descriptors(&daemon);
    daemon.limit(&format!("nofile={}:", idle + 12));
    for domain in &domains {
        scene.producer.send_all(scene.source(), &events(domain, 0..EACH));
    }
    await_true("the limit is reached", SOON, || open_descriptors(&daemon) >= idle + 12);
    let delivered = || receivers.iter().map(|(_, accepted)| accepted.ids()).sum::<usize>();
    await_true("some are delivered through what there is", SOON, || delivered() >= DOMAINS);
    await_true("/metrics answers, if late", SOON, || matches!(http::get(daemon.port, "/metrics"), Some((200, _))));
    assert!(daemon.is_running());

    daemon.limit("nofile=4096:");
    await_true("all are delivered", Duration::from_secs(60), || delivered() == DOMAINS * EACH);
    wait_quiet(&scene);
    assert_no_letters(&scene);
    assert_eq!(receivers.iter().map(|(_, accepted)| accepted.repeats()).sum::<usize>(), 0);
    assert!(daemon.livez().is_some_and(|(status, _)| status == 200));
    daemon.stop();
}

#[test]
fn a_limit_that_is_too_low_for_the_configuration_is_told_at_start() {
    let (receiver, _accepted) = accepting(|_, _| Answer::Status(200));
    for (limit, told) in [(500, true), (10_000, false)] {
        let mut scene = Scene::new("descriptors-told", 1);
        scene.registry = registry_of([("shop.example", receiver.url("/cb"))], PATIENT);
        // The daemon inherits the limit of the shell that becomes it.
        scene.limits = format!("ulimit -S -n {limit}");
        let mut daemon = scene.start();
        let warned = daemon.log().lines().any(|line| line.contains("WARN") && line.contains("file descriptors") && line.contains("500"));
        assert_eq!(warned, told, "limit {limit}");
        daemon.stop();
    }
}
