//! SIGKILL at full speed: another replica goes on within 15 s, and what comes twice was in flight or had completed since the last commit.

use super::commits::{COMMIT_LAG, Watch};
use super::fleet::Fleet;
use super::load::{Fate, Load, Plan};
use super::run::{Stage, read_topics};
use super::sites::Seen;
use super::story;
use super::{Millis, now};
use crate::harness::kafka::{self, is_finished, standing};
use crate::harness::{SOON, await_true};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const EVENTS: usize = 30_000;
const PARTITIONS: usize = 6;

#[test]
fn after_a_sigkill_at_full_speed_another_replica_continues_within_fifteen_seconds() {
    let Stage { brokers, scene, sites } = Stage::set("takeover", 1, PARTITIONS, 8, EVENTS);
    let (bootstrap, source, topics) = (scene.bootstrap.clone(), scene.source().to_string(), read_topics(&scene));
    let group = scene.group.clone();
    // The session time-out is the default: it is part of the promise.
    let mut fleet = Fleet::new(scene);
    let numbers = [fleet.launch(), fleet.launch()];
    fleet.wait_ready();
    await_true("both have source partitions", SOON, || {
        numbers.iter().all(|n| fleet.daemon(*n).metric("callbackd_assigned_partitions", &["class=\"fresh\""]) >= 3.0)
    });
    let watch = Watch::start(&bootstrap, &[(group, vec![source.clone()])], PARTITIONS as i32);
    let endpoints = (0..EVENTS).map(|n| n % 8).collect();
    let load = Load::start(Plan {
        bootstrap: bootstrap.clone(),
        topic: source.clone(),
        partitions: PARTITIONS,
        events: EVENTS,
        rate: 0,
        endpoints,
    });
    await_true("full speed", SOON, || sites.accepted() > EVENTS / 5);
    fleet.kill(numbers[0]);
    let killed = now();
    let accepted = sites.accepted();
    assert!(accepted < EVENTS * 4 / 5, "it was killed in the middle of its work, not at {accepted}");

    let sent = load.finish();
    await_true("all are delivered", SOON, || sites.accepted() == EVENTS);
    await_true("all is committed", SOON, || topics.iter().all(|(group, topic)| is_finished(&standing(&bootstrap, group, topic))));
    let commits = watch.finish();
    assert!(sent.iter().all(|s| s.fate == Fate::Acknowledged));
    let in_source = kafka::read_all(&bootstrap, &source);
    let places: HashMap<usize, _> =
        in_source.iter().filter_map(|r| Some((story::number(r)?, ((source.clone(), r.partition), r.offset)))).collect();

    let log = sites.log();
    let (dead, others): (Vec<&Seen>, Vec<&Seen>) = log.iter().partition(|s| s.replica == numbers[0]);
    let partition = |event: Option<usize>| (event.unwrap() % PARTITIONS) as i32;
    let mut taken_over: BTreeMap<i32, Millis> = BTreeMap::new();
    for partition_of_dead in dead.iter().map(|s| partition(s.event)) {
        taken_over.entry(partition_of_dead).or_insert(Millis::MAX);
    }
    for seen in others.iter().filter(|s| s.arrived > killed) {
        if let Some(first) = taken_over.get_mut(&partition(seen.event)) {
            *first = (seen.arrived - killed).min(*first);
        }
    }
    let slowest = taken_over.values().max().copied().unwrap();

    // What no accepted commit had spoken of when it was killed.
    let exposed: Vec<(Millis, usize)> = dead
        .iter()
        .filter_map(|s| {
            let event = s.event?;
            let (place, offset) = &places[&event];
            (s.ended >= killed || commits.spoken(place, *offset).is_none_or(|at| at > killed)).then_some((s.ended, event))
        })
        .collect();
    let first = exposed.iter().map(|(ended, _)| *ended).min().unwrap_or(killed);
    assert!(commits.wrong.is_empty(), "{:?}", commits.wrong);
    // Seen a look later than it was made; and other tests run beside this one.
    assert!(killed - first <= 2 * COMMIT_LAG, "not committed {} ms after it had ended", killed - first);
    let exposed: Vec<usize> = exposed.into_iter().map(|(_, event)| event).collect();
    let in_flight = dead.iter().filter(|s| s.ended >= killed - 20).count();
    let mut requests: HashMap<usize, usize> = HashMap::new();
    log.iter().for_each(|s| *requests.entry(s.event.unwrap()).or_default() += 1);
    let repeated: Vec<usize> = requests.iter().filter(|(_, n)| **n > 1).map(|(event, _)| *event).collect();
    println!(
        "takeover: {} partitions moved, the slowest after {slowest} ms; of {accepted} delivered by then {} came twice; allowed {} (in flight at most {in_flight})",
        taken_over.len(),
        repeated.len(),
        exposed.len()
    );
    assert!(slowest <= 15_000, "another replica went on after {slowest} ms: {taken_over:?}");
    let unexplained: Vec<_> = repeated.iter().filter(|event| !exposed.contains(event)).collect();
    assert!(unexplained.is_empty(), "repeated, though committed before the kill: {unexplained:?}");
    assert_eq!(requests.len(), EVENTS, "nothing lost");
    assert!(requests.values().all(|n| *n <= 2));
    let (_, _scene) = fleet.finish(Duration::from_secs(40));
    drop(brokers);
}
