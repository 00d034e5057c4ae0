//! SIGTERM to one replica after the other under load: what was answered is not sent again.

use super::fleet::{End, Fleet};
use super::load::{Fate, Load, Plan};
use super::run::{Stage, read_topics};
use crate::harness::kafka::{is_finished, standing};
use crate::harness::{SOON, await_true};
use std::collections::HashMap;
use std::time::Duration;

const EVENTS: usize = 10_000;

#[test]
fn a_rolling_restart_under_load_repeats_no_answered_callback() {
    let Stage { brokers, scene, sites } = Stage::set("rolling", 1, 6, 4, EVENTS);
    let (bootstrap, source, topics) = (scene.bootstrap.clone(), scene.source().to_string(), read_topics(&scene));
    let mut fleet = Fleet::new(scene);
    for _ in 0..3 {
        fleet.launch();
    }
    fleet.wait_ready();
    let endpoints = (0..EVENTS).map(|n| n % 4).collect();
    let load = Load::start(Plan { bootstrap: bootstrap.clone(), topic: source, partitions: 6, events: EVENTS, rate: 400, endpoints });
    for number in fleet.active() {
        let before = sites.accepted();
        await_true("callbacks flow", SOON, || sites.accepted() > before + 200);
        fleet.ask_to_end(number);
        await_true("it has ended", SOON, || {
            fleet.tend();
            !fleet.numbers().contains(&number)
        });
        fleet.launch();
        fleet.wait_ready();
    }
    assert!(load.count() < EVENTS, "the load went on all the time");
    let sent = load.finish();
    assert!(sent.iter().all(|s| s.fate == Fate::Acknowledged));
    await_true("all are delivered", SOON, || sites.accepted() == EVENTS);
    await_true("all is committed", SOON, || topics.iter().all(|(group, topic)| is_finished(&standing(&bootstrap, group, topic))));
    let (lives, _scene) = fleet.finish(Duration::from_secs(40));
    let mut requests: HashMap<Option<usize>, usize> = HashMap::new();
    for seen in sites.log() {
        assert!(seen.signature_right && seen.body_right && seen.event.is_some(), "{seen:?}");
        *requests.entry(seen.event).or_default() += 1;
    }
    let repeated: Vec<_> = requests.iter().filter(|(_, n)| **n > 1).collect();
    assert!(repeated.is_empty(), "repeated: {repeated:?}");
    assert_eq!(requests.len(), EVENTS);
    assert_eq!(lives.iter().map(|l| l.ended.map(|(_, end)| end)).collect::<Vec<_>>(), [Some(End::Stopped(0)); 6]);
    drop(brokers);
}
