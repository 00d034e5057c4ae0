//! Attempt counts travel in record headers: killed daemons go on where they were, and dead letters can be replayed.

use crate::harness::kafka;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, both, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_callback_that_fails_thirteen_times_is_dead_lettered_across_two_sigkills_and_delivered_by_replay() {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    // The fourth and the ninth request are left without an answer: the daemon is killed while it waits for one.
    let receiver = Receiver::start(move |_, nth| match nth {
        _ if is_mended.load(Ordering::Relaxed) => Answer::Status(200),
        4 | 9 => Answer::Hang,
        _ => Answer::Status(500),
    });
    let mut scene = Scene::new("thirteen", 1);
    scene.registry = simple_registry(
        &["failing.example"],
        &receiver.url("/cb"),
        "timeout = \"60s\"\nretry = { delays = [\"600ms\"], attempts = 13 }\nkeys = [{ id = \"a\", value = \"vendorKeyOfFailing13\" }]",
    );
    scene.kafka = "[kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"1000\"".into();
    let mut daemon = scene.start();
    scene.produce(&[event("failing.example", 1)]);
    for hanging in [4, 9] {
        receiver.wait_for(hanging, SOON);
        await_true("all that came before is committed", SOON, || scene.uncommitted() == 1);
        daemon.kill();
        daemon = scene.launch();
        daemon.wait_ready();
    }
    await_true("a dead letter", SOON, || !scene.dead_letters().is_empty());
    daemon.wait_metric("callbackd_dead_letters_total", &["reason=\"attempts_exhausted\""], 1.0);

    assert_eq!(receiver.count(), 13 + 2, "thirteen attempts and the two that the kills repeated");
    let letters = scene.dead_letters();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(letter.value.as_deref(), Some(event("failing.example", 1).as_bytes()));
    let id = receiver.requests()[0].id().to_string();
    let expected = [
        ("callbackd-reason", "attempts_exhausted"),
        ("callbackd-attempts", "13"),
        ("callbackd-last-outcome", "500"),
        ("callbackd-domain", "failing.example"),
        ("callbackd-origin", &format!("{}/0/0", scene.source())),
        ("callbackd-id", &id),
    ];
    for (name, value) in expected {
        assert_eq!(letter.header(name).as_deref(), Some(value), "{name} in {:?}", letter.headers);
    }
    assert_eq!(letter.header("callbackd-due-ms"), None);
    let history = letter.header("callbackd-history").unwrap();
    let entries: Vec<&str> = history.split(',').collect();
    assert_eq!(entries.len(), 13, "{history}");
    for entry in entries {
        let (outcome, seconds) = entry.split_once('+').unwrap_or_else(|| panic!("{history}"));
        assert_eq!(outcome, "500");
        assert!(seconds.parse::<u32>().is_ok_and(|s| s < 60), "{history}");
    }

    mended.store(true, Ordering::Relaxed);
    let selected = ["replay", "--domain", "failing.example", "--reason", "attempts_exhausted"];
    let dry = scene.command(&[&selected[..], &["--dry-run"]].concat());
    assert!(dry.status.success(), "{}", both(&dry));
    assert!(String::from_utf8_lossy(&dry.stdout).contains("1 dead letter looked at, 1 selected"), "{}", both(&dry));
    let none = scene.command(&["replay", "--domain", "other.example", "--reason", "attempts_exhausted", "--dry-run"]);
    assert!(none.status.success(), "{}", both(&none));
    assert!(String::from_utf8_lossy(&none.stdout).contains("1 dead letter looked at, 0 selected"), "{}", both(&none));
    assert_eq!(receiver.count(), 15, "a dry run delivers nothing");

    let replayed = scene.command(&selected);
    assert!(replayed.status.success(), "{}", both(&replayed));
    receiver.wait_for(16, SOON);
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], 1.0);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 16);
    assert!(requests.iter().all(|r| r.id() == requests[0].id()), "one id for all");
    assert_eq!(scene.dead_letters().len(), 1, "a replay does not change the dead-letter topic");
}

#[test]
fn a_replayed_callback_that_fails_again_says_how_often_it_was_replayed() {
    let receiver = Receiver::start(|_, _| Answer::Status(404));
    let mut scene = Scene::new("replayed-again", 1);
    scene.registry = simple_registry(&["failing.example"], &receiver.url("/cb"), "retry = { delays = [\"300ms\"], attempts = 2 }");
    let mut daemon = scene.start();
    scene.produce(&[event("failing.example", 1)]);
    await_true("the first dead letter", SOON, || scene.dead_letters().len() == 1);
    let replay = scene.command(&["replay", "--domain", "failing.example", "--reason", "attempts_exhausted"]);
    assert!(replay.status.success(), "{}", both(&replay));
    await_true("the second dead letter", SOON, || scene.dead_letters().len() == 2);
    let letters = scene.dead_letters();
    let replays: Vec<Option<String>> = letters.iter().map(|l| l.header("callbackd-replays")).collect();
    assert!(matches!(replays[0].as_deref(), None | Some("0")), "{replays:?}");
    assert_eq!(replays[1].as_deref(), Some("1"));
    assert_eq!(letters[1].header("callbackd-attempts").as_deref(), Some("2"), "attempts start anew");
    assert_eq!(letters[1].header("callbackd-origin"), letters[0].header("callbackd-origin"));
    assert_eq!(receiver.count(), 4);
    daemon.stop();
    let committed = kafka::committed(&scene.bootstrap, &format!("{}.replay", scene.group), &format!("{}.replay", scene.prefix));
    assert!(committed[0] >= 1, "the replay is committed: {committed:?}");
}
