//! What is handed to the engine comes back once, settled or not, whatever happens on its way.

use super::super::handover::{Phase, Returned, ToEngine};
use super::super::ports::Clock as _;
use super::simulated::{EPOCH, World, event, header, record, registry, secs};
use crate::domain::class::Class;
use crate::domain::headers::name;
use crate::domain::record::Record;
use crate::domain::verdict::{Failure, Outcome};
use std::collections::BTreeMap;
use std::time::Duration;

fn status(status: u16) -> Outcome {
    Outcome::Answered { status, retry_after: None }
}

fn fresh(offset: i64, domain: &str) -> Record {
    record("source", offset, EPOCH, &event(domain), &[])
}

fn times_returned(world: &World) -> BTreeMap<(&'static str, i64), usize> {
    let mut times = BTreeMap::new();
    for one in &world.returned {
        *times.entry((one.ticket.assignment.class.as_str(), one.ticket.offset)).or_default() += 1;
    }
    times
}

#[test]
fn every_record_comes_back_exactly_once_whatever_its_receiver_does() {
    let mut world = World::new(registry(&["good", "slow", "bad", "busy", "panics", "silent"], "cb"));
    let source = World::assignment(Class::Fresh, "source");
    let tier = World::assignment(Class::Retry, "callbackd.retry.5s");
    let replay = World::assignment(Class::Replay, "callbackd.replay");
    let domains = ["good", "slow", "bad", "busy", "panics", "silent", "unknown"];
    for (assignment, topic) in [(&source, "source"), (&tier, "callbackd.retry.5s"), (&replay, "callbackd.replay")] {
        let of = |n: i64| domains[usize::try_from(n).unwrap() % domains.len()];
        let mut records: Vec<Record> = (0..700).map(|n| record(topic, n, EPOCH, &event(of(n)), &[])).collect();
        records.push(record(topic, 700, EPOCH, "no event", &[]));
        records.push(Record { value: None, ..record(topic, 701, EPOCH, "", &[]) });
        world.hand_over(assignment, records);
    }
    let _ = world.run(
        secs(900),
        |url, nth| match url {
            u if u.contains("good") => (Duration::ZERO, status(200)),
            u if u.contains("slow") => (Duration::from_millis(300), status(200)),
            u if u.contains("bad") => (Duration::from_millis(5), status(if nth % 2 == 0 { 500 } else { 404 })),
            u if u.contains("busy") => (Duration::ZERO, Outcome::Answered { status: 429, retry_after: Some("7".into()) }),
            u if u.contains("panics") => panic!("a fault of ours, in a test"),
            _ => (secs(20), Outcome::Failed(Failure::Timeout)),
        },
        |_| {},
    );
    let times = times_returned(&world);
    assert_eq!(times.len(), 3 * 702);
    assert!(times.values().all(|n| *n == 1), "{:?}", times.iter().filter(|(_, n)| **n != 1).collect::<Vec<_>>());
    assert!(world.returned.iter().all(|r| matches!(r.returned, Returned::Settled(_))));
}

#[test]
fn a_refused_append_is_told_and_nothing_else_is_lost_with_it() {
    let mut world = World::new(registry(&["good", "bad"], "cb"));
    world.refuses.set(true);
    let source = World::assignment(Class::Fresh, "source");
    world.hand_over(&source, vec![fresh(0, "good"), fresh(1, "bad"), fresh(2, "good")]);
    let _ = world.run(secs(5), |url, _| (Duration::ZERO, status(if url.contains("good") { 200 } else { 500 })), |_| {});
    let refused: Vec<i64> = world.returned.iter().filter(|r| matches!(r.returned, Returned::Refused(_))).map(|r| r.ticket.offset).collect();
    assert_eq!((refused, world.returned.len()), (vec![1], 3));
}

#[test]
fn what_waits_when_the_registry_changes_goes_by_the_url_of_then() {
    let mut world = World::new(registry(&["shop"], "old"));
    world.settings.endpoint_concurrency = 1;
    let source = World::assignment(Class::Fresh, "source");
    world.hand_over(&source, (0..3).map(|n| fresh(n, "shop")).collect());
    let _ = world.run(
        secs(10),
        |_, _| (secs(2), status(200)),
        |world| {
            if world.requests.borrow().len() == 1 && world.clock_passed(secs(1)) {
                world.registry.store(registry(&["shop"], "new").into());
            }
        },
    );
    let urls: Vec<String> = world.requests.borrow().iter().map(|(_, url)| url.clone()).collect();
    assert_eq!(urls, ["https://shop.example/old", "https://shop.example/new", "https://shop.example/new"]);
    assert!(times_returned(&world).values().all(|n| *n == 1) && world.returned.len() == 3);
}

/// A retry at hand, first attempted ten minutes ago, and our clock three days ahead.
fn beside_a_wrong_clock() -> World {
    let world = World::new(registry(&["shop"], "cb"));
    let tier = World::assignment(Class::Retry, "callbackd.retry.1m");
    let first = (name::FIRST_ATTEMPT_MS, EPOCH.minus(secs(600)).0.to_string());
    let headers = [(name::ATTEMPTS, "3".to_owned()), first];
    world.hand_over(&tier, vec![record("callbackd.retry.1m", 0, EPOCH, &event("shop"), &headers)]);
    world.clock.ahead.set(3 * 24 * 3600 * 1000);
    world
}

#[test]
fn a_failure_while_our_clock_is_wrong_is_retried_and_not_buried_by_age() {
    let mut world = beside_a_wrong_clock();
    let _ = world.run(secs(5), |_, _| (Duration::ZERO, status(500)), |_| {});
    let appended = world.appended.borrow();
    let topics: Vec<&str> = appended.iter().map(|r| &*r.topic).collect();
    assert_eq!(topics, ["callbackd.retry.1m"]);
    assert_eq!(header(&appended[0], name::ATTEMPTS), Some("4"));
}

#[test]
fn while_nothing_proves_which_clock_is_right_nothing_dies_of_its_age() {
    let mut world = beside_a_wrong_clock();
    world.clock.report_is_old.set(true);
    assert!(world.clock.is_sane() && !world.clock.may_judge_age());
    let _ = world.run(secs(5), |_, _| (Duration::ZERO, status(200)), |_| {});
    assert_eq!(world.requests.borrow().len(), 1, "it has its attempt");
    assert!(world.appended.borrow().is_empty(), "and no letter");
}

#[test]
fn names_and_times_that_a_tiers_headers_make_up_are_no_ones_oldest() {
    let mut world = World::new(registry(&["shop"], "cb"));
    let tier = World::assignment(Class::Retry, "callbackd.retry.5s");
    let due = EPOCH.plus(secs(50)).0.to_string();
    let records = (0..3).map(|n| {
        let domain = if n == 2 { "shop".to_owned() } else { format!("forged-{n}") };
        let headers =
            [(name::DOMAIN, format!("{domain}.example")), (name::DUE_MS, due.clone()), (name::SOURCE_MS, ["-1", "1", "-5"][n].to_owned())];
        record("callbackd.retry.5s", n as i64, EPOCH.minus(secs(5)), &event("shop"), &headers)
    });
    world.hand_over(&tier, records.collect());
    world.metrics.set_domains(["shop.example"]);
    let _ = world.run(secs(3), |_, _| (Duration::ZERO, status(200)), |_| {});
    assert_eq!(world.appended.borrow().len(), 3, "moved on");
    let text = world.metrics.render();
    let value = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok()).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let appended = EPOCH.minus(secs(5)).0 as f64 / 1000.0;
    for series in
        ["callbackd_oldest_undelivered_timestamp_seconds", "callbackd_domain_oldest_undelivered_timestamp_seconds{domain=\"shop.example\"}"]
    {
        assert_eq!(value(series), appended, "{series}");
    }
    assert_eq!(value("callbackd_domain_oldest_undelivered_timestamp_seconds{domain=\"_other\"}"), 0.0);
}

#[test]
fn what_waits_under_a_revoked_partition_comes_back_unsettled_and_never_starts() {
    let mut world = World::new(registry(&["shop"], "cb"));
    world.settings.endpoint_concurrency = 1;
    let (kept, revoked) = (World::assignment(Class::Fresh, "source"), World::assignment(Class::Fresh, "other"));
    world.hand_over(&kept, vec![fresh(0, "shop")]);
    world.hand_over(&revoked, (10..15).map(|n| fresh(n, "shop")).collect());
    let gone = revoked.clone();
    let _ = world.run(
        secs(10),
        |_, _| (secs(2), status(200)),
        move |world| {
            if gone.phase() == Phase::Active && world.clock_passed(Duration::from_millis(500)) {
                gone.advance(Phase::Revoking);
                world.tell(ToEngine::PhaseMoved);
            }
        },
    );
    assert_eq!(world.requests.borrow().len(), 1);
    let unsettled = world.returned.iter().filter(|r| matches!(r.returned, Returned::Unsettled)).count();
    assert_eq!((unsettled, world.returned.len()), (5, 6));
}

#[test]
fn a_result_that_comes_after_the_fence_is_neither_settled_nor_requeued() {
    for code in [200, 500] {
        let mut world = World::new(registry(&["shop"], "cb"));
        let source = World::assignment(Class::Fresh, "source");
        world.hand_over(&source, vec![fresh(0, "shop")]);
        let fenced = source.clone();
        let _ = world.run(
            secs(5),
            move |_, _| (secs(2), status(code)),
            move |w| {
                if w.clock_passed(secs(1)) {
                    fenced.advance(Phase::Fenced);
                }
            },
        );
        assert!(world.appended.borrow().is_empty());
        assert!(matches!(world.returned.as_slice(), [one] if matches!(one.returned, Returned::Unsettled)), "{code}");
    }
}

#[test]
fn what_is_no_longer_ours_is_neither_attempted_nor_requeued_though_nobody_has_said_so_yet() {
    let mut world = World::new(registry(&["shop", "fails"], "cb"));
    world.settings.circuit.failures = 1;
    let source = World::assignment(Class::Fresh, "source");
    let tier = World::assignment(Class::Retry, "callbackd.retry.5s");
    // One is held in memory for three seconds; twenty-one wait for an endpoint whose circuit opens after one.
    let due = (name::DUE_MS, EPOCH.plus(secs(3)).0.to_string());
    world.hand_over(&tier, vec![record("callbackd.retry.5s", 0, EPOCH, &event("shop"), std::slice::from_ref(&due))]);
    world.hand_over(&source, (0..22).map(|n| fresh(n, "fails")).collect());
    let fenced = [source.clone(), tier.clone()];
    let _ = world.run(
        secs(4),
        |_, _| (secs(1), status(500)),
        |w| {
            if w.clock_passed(Duration::from_millis(500)) {
                fenced.iter().for_each(|one| one.advance(Phase::Fenced));
            }
        },
    );
    assert!(world.appended.borrow().is_empty(), "{} appended", world.appended.borrow().len());
    let unsettled = world.returned.iter().filter(|r| matches!(r.returned, Returned::Unsettled)).count();
    assert_eq!((world.requests.borrow().len(), unsettled), (1, 23));
}

#[test]
fn a_drain_gives_back_what_waits_at_once_and_cuts_what_runs_at_its_deadline() {
    let mut world = World::new(registry(&["shop", "hangs"], "cb"));
    world.settings.endpoint_concurrency = 1;
    world.drain_at = Some(secs(1));
    let source = World::assignment(Class::Fresh, "source");
    let mut records: Vec<Record> = (0..4).map(|n| fresh(n, "shop")).collect();
    records.extend((4..8).map(|n| fresh(n, "hangs")));
    world.hand_over(&source, records);
    let hour = secs(3600);
    let drained = world.run(secs(60), move |url, _| (if url.contains("hangs") { hour } else { secs(2) }, status(200)), |_| {});
    assert_eq!(drained.map(|d| d.cut), Some(1));
    let settled = world.returned.iter().filter(|r| matches!(r.returned, Returned::Settled(_))).count();
    assert_eq!((settled, world.returned.len()), (1, 7), "one ended, six never started, one was cut");
    assert_eq!(world.requests.borrow().len(), 2);
}

#[test]
fn without_hold_budget_a_remainder_takes_one_more_smallest_tier_and_with_it_waits_in_memory() {
    for (bytes, requests, appended) in [(1 << 20, 1, 0), (10, 0, 1)] {
        let mut world = World::new(registry(&["shop"], "cb"));
        world.settings.max_in_flight_bytes = bytes;
        let tier = World::assignment(Class::Retry, "callbackd.retry.5s");
        let due = (name::DUE_MS, EPOCH.plus(secs(3)).0.to_string());
        world.hand_over(&tier, vec![record("callbackd.retry.5s", 0, EPOCH, &event("shop"), std::slice::from_ref(&due))]);
        let _ = world.run(secs(10), |_, _| (Duration::ZERO, status(200)), |_| {});
        assert_eq!((world.requests.borrow().len(), world.appended.borrow().len()), (requests, appended));
        assert_eq!(world.returned.len(), 1);
        if let Some((at, _)) = world.requests.borrow().first() {
            assert!(*at >= secs(3), "{at:?}");
        }
        if let Some(moved) = world.appended.borrow().first() {
            assert_eq!((&*moved.topic, header(moved, name::DUE_MS)), ("callbackd.retry.5s", Some(&*due.1)));
        }
    }
}
