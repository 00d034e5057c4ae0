//! Records of a mebibyte against the budget, near the memory limit: what is resident stays bounded whatever the backlog weighs, and
//! everything is delivered.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, large_event, large_events, registry_of, wait_quiet};
use crate::harness::await_true;
use crate::harness::daemon::Daemon;
use crate::harness::kafka::{New, Producer};
use crate::harness::receiver::Answer;
use crate::harness::scene::Scene;
use std::time::Duration;

/// Of a whole process with `max_in_flight_bytes = "16MiB"`, in MiB: that, the three classes' prefetch of 16 MiB and fetch answer of 8 MiB
/// each, 32 MiB of produces, and 64 MiB for everything that does not grow with records.
const BOUND: u64 = 16 + 3 * (16 + 8) + 32 + 64;

/// Events of about a mebibyte.
pub(super) fn large(domain: &str, numbers: std::ops::Range<usize>) -> Vec<New> {
    large_events(domain, numbers, (1 << 20) - 2000)
}

fn assert_bounded(daemon: &Daemon) {
    let peak = daemon.peak_mib();
    assert!(peak <= BOUND, "{peak} MiB were resident, at most {BOUND} are meant to be");
}

#[test]
fn three_hundred_mebibyte_records_pass_through_a_budget_of_sixteen() {
    const EVENTS: usize = 300;
    // Each fails once, so each is read, requeued, read from a tier and sent again.
    let (receiver, accepted) = accepting(|_, nth| Answer::Slow(Duration::from_millis(20), if nth == 1 { 503 } else { 200 }));
    let mut scene = Scene::new("mebibytes", 4);
    scene.log_level = "info";
    scene.delivery = format!("max_in_flight_bytes = \"16MiB\"\n{NO_CIRCUIT}");
    scene.registry = registry_of([("shop.example", receiver.url("/cb"))], PATIENT);
    let mut daemon = scene.start();
    scene.producer.send_all(scene.source(), &large("shop.example", 0..EVENTS));
    accepted.wait(EVENTS, Duration::from_secs(90));
    wait_quiet(&scene);
    assert_bounded(&daemon);
    assert_eq!(accepted.repeats(), 0);
    assert_no_letters(&scene);
    daemon.stop();
}

#[test]
fn what_is_only_legal_because_it_was_compressed_is_requeued_delivered_and_dead_lettered() {
    // Of ten mebibytes each the broker sees some kilobytes: its limit is one mebibyte.
    let filler = "x".repeat(10 << 20);
    let (receiver, accepted) = accepting(|_, nth| Answer::Status(if nth == 1 { 503 } else { 200 }));
    let mut scene = Scene::new("compressed", 1);
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = registry_of([("shop.example", receiver.url("/cb"))], PATIENT);
    let mut daemon = scene.start();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let garbage = New::value(format!("{codec}: {filler}")).header("callbackd-id", format!("garbage-{codec}"));
        let good = New::value(large_event("shop.example", 0, filler.len())).header("callbackd-id", format!("good-{codec}"));
        Producer::compressing(&scene.bootstrap, codec).send_all(scene.source(), &[garbage, good]);
    }
    await_true("all are delivered at the second attempt", Duration::from_secs(60), || {
        ["gzip", "snappy", "lz4", "zstd"].iter().all(|codec| accepted.has(&format!("good-{codec}")))
    });
    wait_quiet(&scene);
    let letters = scene.dead_letters();
    assert_eq!(letters.len(), 4);
    for letter in &letters {
        assert_eq!(letter.header("callbackd-reason").as_deref(), Some("undecodable"));
        assert!(letter.value.as_ref().is_some_and(|value| value.ends_with(filler.as_bytes())), "its bytes intact");
    }
    assert_eq!(daemon.metric("callbackd_partitions_stopped", &[]), 0.0);
    daemon.stop();
}

#[test]
fn near_its_memory_limit_the_worst_mix_of_receivers_is_survived() {
    const LARGE: usize = 30;
    const SMALL: [usize; 4] = [10, 1000, 150, 1000];
    // One hangs, one drips large answers, one fails, one is well.
    let endless: Vec<u8> = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n".iter().copied().chain(vec![b'x'; 1 << 20]).collect();
    let (receiver, accepted) = accepting(move |request, nth| match request.path.as_str() {
        "/hangs" if nth == 1 => Answer::Hang,
        "/endless" => Answer::Bytes(endless.clone()),
        "/fails" if nth == 1 => Answer::Status(503),
        _ => Answer::Status(200),
    });
    let mut scene = Scene::new("memory-limit", 4);
    scene.log_level = "info";
    // Short pauses, and with them many tries: who was tried in vain would be left alone for up to a minute, circuit or none.
    let circuit = "circuit = { failures = 1000, pause = \"1s\", max_pause = \"1s\" }";
    scene.delivery = format!("max_in_flight_bytes = \"16MiB\"\n{circuit}");
    let rows = [
        ("hangs.example", receiver.url("/hangs")),
        ("endless.example", receiver.url("/endless")),
        ("fails.example", receiver.url("/fails")),
        ("well.example", receiver.url("/well")),
    ];
    let domains: Vec<&str> = rows.iter().map(|(domain, _)| *domain).collect();
    scene.registry = registry_of(rows.clone(), &format!("timeout = \"1s\"\n{PATIENT}"));
    let mut daemon = scene.start();
    // Data (heap, stacks) may not pass this: an allocation beyond it would end the process.
    daemon.limit(&format!("data={}:", 512 << 20));
    for (domain, small) in domains.iter().zip(SMALL) {
        scene.producer.send_all(scene.source(), &large(domain, 0..LARGE));
        scene.producer.send_all(scene.source(), &events(domain, 1000..1000 + small));
    }
    let total = 4 * LARGE + SMALL.iter().sum::<usize>();
    accepted.wait(total, Duration::from_secs(120));
    wait_quiet(&scene);
    assert!(daemon.is_running());
    assert_bounded(&daemon);
    assert_no_letters(&scene);
    daemon.stop();
}
