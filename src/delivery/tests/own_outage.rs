//! An outage of our own ends whatever else happens meanwhile, in virtual time: a rebalance, a change of the registry, hosts that are dark
//! for good.

use super::super::handover::{Phase, Returned, ToEngine};
use super::sick_endpoints::numbered;
use super::simulated::{EPOCH, World, header, record, registry_of_accounts, secs};
use crate::domain::class::Class;
use crate::domain::headers::name;
use crate::domain::verdict::{Failure, Outcome};
use std::cell::{Cell, RefCell};
use std::time::Duration;

const OK: (Duration, Outcome) = (Duration::from_millis(20), Outcome::Answered { status: 200, retry_after: None });
const DARK: (Duration, Outcome) = (Duration::from_secs(3), Outcome::Failed(Failure::Timeout));

fn names() -> Vec<String> {
    (0..9).map(|n| format!("d{n}")).collect()
}

fn delivered(world: &World, from: i64) -> usize {
    let is_delivered = |r: &&super::super::handover::Return| matches!(&r.returned, Returned::Settled(s) if s.is_delivered());
    world.returned.iter().filter(is_delivered).filter(|r| r.ticket.offset >= from).count()
}

/// A record a second to each of the first `hosts` domains in turn, unless fresh intake is told to rest.
struct Trickle {
    hosts: usize,
    sent: Cell<i64>,
}

impl Trickle {
    fn turn(&self, world: &World, assignment: &std::sync::Arc<super::super::handover::Assignment>) {
        let now = world.clock.timeline_now();
        if secs(self.sent.get().unsigned_abs()) <= now && !world.rests(Class::Fresh) {
            let n = self.sent.get();
            let domain = format!("d{}", usize::try_from(n).unwrap() % self.hosts);
            world.hand_over(assignment, vec![record("source", n, EPOCH.plus(now), &numbered(&domain, n.unsigned_abs()), &[])]);
            self.sent.set(i64::try_from(now.as_secs()).unwrap() + 1);
        }
    }
}

#[test]
fn an_outage_in_which_every_partition_is_taken_from_us_ends_when_the_network_is_back() {
    let mut world = World::new(registry_of_accounts(&names(), 3));
    let assignment = RefCell::new(World::assignment(Class::Fresh, "source"));
    let (clock, trickle) = (world.clock.clone(), Trickle { hosts: 9, sent: Cell::new(0) });
    let _ = world.run(
        secs(320),
        move |_, _| if (secs(50)..secs(200)).contains(&clock.timeline_now()) { DARK } else { OK },
        |world| {
            // Taken between two breaths: in the middle of the outage, and again.
            let taken = [100_u64, 104].iter().any(|at| world.clock.timeline_now().as_millis() / 50 == u128::from(at * 20));
            if taken && assignment.borrow().phase() == Phase::Active {
                assignment.borrow().advance(Phase::Fenced);
                world.tell(ToEngine::PhaseMoved);
            }
            if assignment.borrow().phase() != Phase::Active && world.clock_passed(secs(110)) {
                *assignment.borrow_mut() = World::assignment(Class::Fresh, "source");
            }
            if assignment.borrow().phase() == Phase::Active {
                trickle.turn(world, &assignment.borrow());
            }
        },
    );
    assert!(!world.rests(Class::Fresh) && !world.rests(Class::Retry) && !world.rests(Class::Replay));
    assert!(delivered(&world, 220) > 90, "{} of a hundred after the outage", delivered(&world, 220));
}

#[test]
fn what_waits_in_a_lane_when_an_outage_is_presumed_does_not_wait_for_its_end() {
    let mut world = World::new(registry_of_accounts(&names(), 3));
    let source = World::assignment(Class::Fresh, "source");
    let (clock, trickle, given) = (world.clock.clone(), Trickle { hosts: 8, sent: Cell::new(0) }, Cell::new(false));
    let back = Cell::new(0);
    let _ = world.run(
        secs(200),
        move |_, _| if clock.timeline_now() >= secs(50) { DARK } else { OK },
        |world| {
            trickle.turn(world, &source);
            if world.clock_passed(secs(79)) && !given.replace(true) {
                let one = |n: i64| record("source", 1000 + n, EPOCH.plus(secs(79)), &numbered("d8", n.unsigned_abs()), &[]);
                world.hand_over(&source, (0..10).map(one).collect());
            }
            back.set(world.returned.iter().filter(|r| r.ticket.offset >= 1000).count());
        },
    );
    assert_eq!(back.get(), 9, "of ten for a host that seemed well one stays as a probe");
}

#[test]
fn hosts_that_stay_dark_do_not_keep_the_others_waiting_for_ever() {
    let mut world = World::new(registry_of_accounts(&names(), 3));
    let source = World::assignment(Class::Fresh, "source");
    let (clock, trickle, given) = (world.clock.clone(), Trickle { hosts: 6, sent: Cell::new(0) }, Cell::new(None));
    let _ = world.run(
        secs(200),
        move |url, _| if clock.timeline_now() >= secs(50) && !url.contains("d8") { DARK } else { OK },
        |world| {
            trickle.turn(world, &source);
            if world.clock_passed(secs(100)) && given.get().is_none() && !world.rests(Class::Fresh) {
                given.set(Some(world.clock.timeline_now()));
                world.hand_over(&source, vec![record("source", 1000, EPOCH.plus(secs(100)), &numbered("d8", 0), &[])]);
            }
        },
    );
    assert!(given.get().is_some_and(|at| at <= secs(140)), "read at {:?}", given.get());
    assert_eq!(delivered(&world, 1000), 1);
}

#[test]
fn a_probe_goes_by_the_registry_of_now() {
    let mut world = World::new(registry_of_accounts(&names(), 3));
    let source = World::assignment(Class::Fresh, "source");
    let (clock, trickle) = (world.clock.clone(), Trickle { hosts: 9, sent: Cell::new(0) });
    let renamed = Cell::new(false);
    let _ = world.run(
        secs(150),
        move |_, _| if clock.timeline_now() >= secs(50) { DARK } else { OK },
        |world| {
            trickle.turn(world, &source);
            if world.clock_passed(secs(100)) && !renamed.replace(true) {
                let names = names();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                world.registry.store(super::simulated::registry(&names, "new").into());
            }
        },
    );
    let later = world.requests.borrow().iter().filter(|(at, _)| *at >= secs(101)).cloned().collect::<Vec<_>>();
    assert!(later.len() > 10 && later.iter().all(|(_, url)| url.ends_with("/new")), "{later:?}");
}

#[test]
fn attempts_that_began_in_the_dark_are_not_counted_when_they_time_out_after_its_end() {
    let mut world = World::new(registry_of_accounts(&names(), 3));
    let source = World::assignment(Class::Fresh, "source");
    let (clock, trickle) = (world.clock.clone(), Trickle { hosts: 9, sent: Cell::new(0) });
    let attempts = |record: &crate::domain::record::NewRecord| header(record, name::ATTEMPTS)?.parse::<u32>().ok();
    let (before, counted) = (Cell::new(0), Cell::new(0));
    let _ = world.run(
        secs(222),
        move |_, _| if (secs(50)..secs(200)).contains(&clock.timeline_now()) { (secs(20), DARK.1) } else { OK },
        |world| {
            trickle.turn(world, &source);
            let failed = world.appended.borrow().iter().filter(|r| attempts(r).is_some_and(|n| n > 0)).count();
            if !world.clock_passed(secs(200)) {
                before.set(failed);
            }
            counted.set(failed);
        },
    );
    let probing = world.requests.borrow().iter().filter(|(at, _)| (secs(181)..secs(200)).contains(at)).count();
    assert!(probing > 10, "{probing} were out when it ended");
    assert_eq!(counted.get(), before.get(), "failures that were counted");
    let waits = world.requests.borrow().iter().filter(|(at, _)| *at >= secs(202)).count();
    assert!(waits > 20, "{waits} requests in the twenty seconds after");
}
