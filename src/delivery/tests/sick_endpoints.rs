//! Endpoints that hang or are dead, beside others and with a backlog, in virtual time: nobody else waits for them, and their own records
//! move no more often than needed. Requeued records come back from their tier as they would from a broker.

use super::super::handover::Returned;
use super::simulated::{EPOCH, World, event, header, record, registry, secs};
use crate::domain::class::Class;
use crate::domain::headers::name;
use crate::domain::record::{NewRecord, Position, Record};
use crate::domain::tier::{Tiers, delay_of_topic};
use crate::domain::verdict::{Failure, Outcome};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const OK: Outcome = Outcome::Answered { status: 200, retry_after: None };

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn world(names: &[&str]) -> World {
    let mut world = World::new(registry(names, "cb"));
    world.settings.tiers = Tiers::new("callbackd", &["5s", "10s", "20s", "40s", "80s", "160s", "320s"].map(str::to_owned)).unwrap();
    world.settings.max_in_flight = 1024;
    world.settings.max_in_flight_bytes = 64 << 20;
    world.settings.endpoint_concurrency = 32;
    world
}

/// The tiers: what was appended to one comes back after its delay.
#[derive(Default)]
struct Wheel {
    seen: usize,
    due: BTreeMap<(Duration, usize), Record>,
    /// How often each event was put into a tier without an attempt in between, moves from tier to tier left out.
    parked: HashMap<String, usize>,
    last_due: HashMap<String, i64>,
    moves: usize,
}

impl Wheel {
    fn turn(&mut self, world: &World) {
        let now = world.clock.timeline_now();
        for appended in &world.appended.borrow()[self.seen..] {
            self.seen += 1;
            let Some(delay) = delay_of_topic("callbackd", &appended.topic) else { continue };
            self.moves += 1;
            let id = header(appended, name::ID).unwrap_or_default().to_owned();
            let due: i64 = header(appended, name::DUE_MS).unwrap_or_default().parse().unwrap_or_default();
            if header(appended, name::ATTEMPTS) == Some("0") && self.last_due.get(&id) != Some(&due) {
                *self.parked.entry(id.clone()).or_default() += 1;
            }
            self.last_due.insert(id, due);
            let position = Position { topic: appended.topic.clone(), partition: 0, offset: i64::try_from(self.seen).unwrap() };
            let (key, value, headers) = (appended.key.clone(), appended.value.clone(), appended.headers.clone());
            self.due.insert((now + delay, self.seen), Record { position, timestamp: EPOCH.plus(now), key, value, headers });
        }
        let later = self.due.split_off(&(now + Duration::from_nanos(1), 0));
        for record in std::mem::replace(&mut self.due, later).into_values() {
            world.hand_over(&World::assignment(Class::Retry, &record.position.topic.clone()), vec![record]);
        }
    }
}

/// The 99th percentile, in milliseconds.
fn p99(mut waits: Vec<Duration>) -> u128 {
    assert!(waits.len() > 100, "{} are too few", waits.len());
    waits.sort();
    waits[waits.len() * 99 / 100].as_millis()
}

/// Five hundred events a second.
#[derive(Clone, Copy)]
struct Load {
    domains: usize,
    /// This many of the domains, the last ones, never answer from second 10 on.
    sick: usize,
    /// How many of a hundred events go to the first domain; the others are spread evenly.
    share_of_first: usize,
    max_in_flight: usize,
    /// How many events come at once in second 3.
    burst: usize,
    /// The first of the thirty seconds in which the time from intake to request is measured, at domains that are well.
    from: u64,
}

impl Load {
    const EVEN: Self = Self { domains: 60, sick: 0, share_of_first: 0, max_in_flight: 1024, burst: 0, from: 10 };

    const fn is_sick(self, domain: usize) -> bool {
        domain >= self.domains - self.sick
    }

    fn p99(self) -> u128 {
        const EACH: u64 = 2;
        let names: Vec<String> = (0..self.domains).map(|n| format!("d{n}")).collect();
        let mut world = world(&names.iter().map(String::as_str).collect::<Vec<_>>());
        world.settings.max_in_flight = self.max_in_flight;
        let source = World::assignment(Class::Fresh, "source");
        let (clock, mut sent, mut wheel, mut arrivals) = (world.clock.clone(), 0_u64, Wheel::default(), Vec::new());
        let number = |url: &str| url.trim_start_matches("https://d").split('.').next().unwrap().parse::<usize>().unwrap();
        let _ = world.run(
            secs(self.from + 30),
            move |url, _| {
                let hangs = self.is_sick(number(url)) && clock.timeline_now() >= secs(10);
                if hangs { (secs(20), Outcome::Failed(Failure::Timeout)) } else { (millis(20), OK) }
            },
            |world| {
                wheel.turn(world);
                let mut records = Vec::new();
                let due = |n: u64| millis(n.min(1500).max(n.saturating_sub(self.burst as u64)) * EACH);
                while due(sent) <= world.clock.timeline_now() {
                    let mixed = usize::try_from(sent.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33).unwrap();
                    let domain = if mixed % 100 < self.share_of_first { 0 } else { mixed / 100 % self.domains };
                    records.push(record(
                        "source",
                        i64::try_from(sent).unwrap(),
                        EPOCH.plus(due(sent)),
                        &numbered(&names[domain], sent),
                        &[],
                    ));
                    sent += 1;
                    arrivals.push(world.clock.timeline_now());
                }
                if !records.is_empty() {
                    world.hand_over(&source, records);
                }
            },
        );
        let arrival = |body| arrivals[usize::try_from(number_in(body)).unwrap()];
        let (requests, bodies) = (world.requests.borrow(), world.bodies.borrow());
        let waits = requests.iter().zip(bodies.iter().map(|body| arrival(body)));
        let waits = waits.filter(|((at, url), _)| *at >= secs(self.from) && !self.is_sick(number(url)));
        p99(waits.map(|((at, _), arrival)| at.saturating_sub(arrival)).collect())
    }

    /// The p99 is at most doubled, or five milliseconds longer, than when all are well.
    fn assert_isolated(self) {
        let beside = self.p99();
        let (of, sick) = (self.domains, self.sick);
        let quiet = Self { sick: 0, ..self }.p99();
        assert!(beside <= (2 * quiet).max(quiet + 5), "{sick} of {of} hang: p99 {beside} ms, and {quiet} ms when all is well");
    }
}

pub(super) fn numbered(domain: &str, n: u64) -> String {
    event(domain).replace("\"s\"", &format!("\"s{n}\""))
}

fn number_in(body: &[u8]) -> u64 {
    let text = std::str::from_utf8(body).unwrap();
    let digits = text.split("\"stream_id\":\"s").nth(1).unwrap();
    digits.split('"').next().unwrap().parse().unwrap()
}

#[test]
fn thirty_percent_of_sixty_and_of_seven_hundred_domains_that_hang_do_not_delay_the_others() {
    for domains in [60, 700] {
        Load { domains, sick: domains * 3 / 10, ..Load::EVEN }.assert_isolated();
    }
}

#[test]
fn beside_one_domain_that_sends_nine_of_ten_events_and_others_that_hang_nobody_waits() {
    Load { sick: 18, share_of_first: 90, ..Load::EVEN }.assert_isolated();
}

/// Each of them with one attempt would hold all slots there are.
#[test]
fn more_domains_that_hang_than_there_are_slots_leave_most_slots_to_the_others() {
    Load { domains: 700, sick: 350, max_in_flight: 256, from: 60, ..Load::EVEN }.assert_isolated();
}

/// After a burst their windows allow many attempts at once; they answer until they all fall silent.
#[test]
fn domains_that_fall_silent_together_do_not_take_all_slots_before_that_is_known() {
    Load { sick: 30, burst: 2400, max_in_flight: 256, ..Load::EVEN }.assert_isolated();
}

/// Sixty endpoints fall silent in second 10. What waits for them is given up in second 30, when it is known that the first attempts were in
/// vain.
#[test]
fn what_is_given_up_at_once_leaves_in_pieces_and_comes_back_spread() {
    let names: Vec<String> = (0..60).map(|n| format!("d{n}")).collect();
    let mut world = world(&names.iter().map(String::as_str).collect::<Vec<_>>());
    *world.clock.chance.borrow_mut() = Some(fastrand::Rng::with_seed(7));
    let source = World::assignment(Class::Fresh, "source");
    let (clock, mut sent, mut appends) = (world.clock.clone(), 0_usize, Vec::new());
    let _ = world.run(
        secs(33),
        move |_, _| if clock.timeline_now() < secs(10) { (millis(20), OK) } else { (secs(20), Outcome::Failed(Failure::Timeout)) },
        |world| {
            let now = world.clock.timeline_now();
            appends.resize(world.appended.borrow().len(), now);
            while sent < 5_800 && millis(2 * sent as u64) <= now {
                let value = numbered(&names[sent % names.len()], sent as u64);
                world.hand_over(&source, vec![record("source", i64::try_from(sent).unwrap(), EPOCH.plus(now), &value, &[])]);
                sent += 1;
            }
        },
    );
    let appended = world.appended.borrow();
    let due = |record: &NewRecord| header(record, name::DUE_MS).unwrap().parse::<i64>().unwrap();
    let given_up =
        || appends.iter().zip(appended.iter()).filter(|(at, record)| **at >= secs(30) && header(record, name::ATTEMPTS) == Some("0"));
    let busiest = |of: Vec<i64>| {
        let mut each: BTreeMap<i64, usize> = BTreeMap::new();
        of.iter().for_each(|ms| *each.entry(ms / 50).or_default() += 1);
        each.into_values().max().unwrap()
    };
    let all = given_up().count();
    assert!(all >= 500, "{all} waited");
    // Released by when it was appended; held for the remainder where that is more than counts as due.
    let comes = |(at, record): (&Duration, &NewRecord)| {
        let released = EPOCH.plus(*at + delay_of_topic("callbackd", &record.topic).unwrap()).0;
        if due(record) - released > 1000 { due(record) } else { released }
    };
    let (leave, return_) = (busiest(given_up().map(|(at, _)| at.as_millis() as i64).collect()), busiest(given_up().map(comes).collect()));
    assert!(leave <= all / 6 && return_ <= all / 6, "of {all}, {leave} leave within 50 ms, {return_} come back");
}

/// A backlog of 50,000 for one endpoint that is dead for 300 s (`dead` says how) and then answers in 50 ms. Returns how often a record was
/// parked at most, how often the circuit can have reopened, and how long after the recovery the last record was delivered.
fn dead_backlog(dead: (Duration, Failure)) -> (usize, usize, Duration) {
    const BACKLOG: i64 = 50_000;
    let mut world = world(&["dead", "other"]);
    let source = World::assignment(Class::Fresh, "source");
    let (clock, mut wheel, mut given) = (world.clock.clone(), Wheel::default(), 0);
    let _ = world.run(
        secs(900),
        move |_, _| if clock.timeline_now() < secs(300) { (dead.0, Outcome::Failed(dead.1)) } else { (millis(50), OK) },
        |world| {
            wheel.turn(world);
            if given < BACKLOG {
                let next = (given..given + 500).map(|n| record("source", n, EPOCH, &numbered("dead", n.unsigned_abs()), &[]));
                world.hand_over(&source, next.collect());
                given += 500;
            }
        },
    );
    let delivered = world.returned.iter().filter(|r| matches!(&r.returned, Returned::Settled(s) if s.is_delivered())).count();
    assert_eq!(delivered, usize::try_from(BACKLOG).unwrap());
    let probes = world.requests.borrow().iter().filter(|(at, _)| *at < secs(300)).count();
    let end = world.requests.borrow().iter().map(|(at, _)| *at).max().unwrap();
    (wheel.parked.values().copied().max().unwrap(), probes, end - secs(300))
}

#[test]
fn a_dead_endpoints_backlog_of_fifty_thousand_is_parked_at_most_once_for_each_reopening_and_drains_at_its_pace() {
    let refused = dead_backlog((Duration::ZERO, Failure::Refused));
    let hangs = dead_backlog((secs(20), Failure::Timeout));
    let breaks = dead_backlog((secs(15), Failure::Protocol));
    for (how, (parked, attempts, drained_after)) in [("refused", refused), ("hangs", hangs), ("breaks", breaks)] {
        // 5 s, 10 s, 20 s … : six reopenings in 300 s.
        assert!(parked <= 7, "{how}: a record was parked {parked} times");
        assert!(attempts <= 80, "{how}: {attempts} attempts to a dead endpoint");
        // The next reopening is at most 320 s away, 32 at once take 78 s.
        assert!(drained_after <= secs(320 + 160 + 78), "{how}: drained {drained_after:?} after its recovery");
    }
}

/// A backlog of 2,000 for an endpoint whose proxy says 504 after ten seconds, for 100 s, and that then answers in 50 ms. Returns how long
/// after the recovery the last record was delivered.
fn drained_after_slow_failures() -> Duration {
    const BACKLOG: i64 = 2000;
    let mut world = world(&["slow", "other"]);
    let source = World::assignment(Class::Fresh, "source");
    let (clock, mut wheel, mut given) = (world.clock.clone(), Wheel::default(), false);
    let fails = Outcome::Answered { status: 504, retry_after: None };
    let _ = world.run(
        secs(900),
        move |_, _| if clock.timeline_now() < secs(100) { (secs(10), fails.clone()) } else { (millis(50), OK) },
        |world| {
            wheel.turn(world);
            if !std::mem::replace(&mut given, true) {
                world.hand_over(
                    &source,
                    (0..BACKLOG).map(|n| record("source", n, EPOCH, &numbered("slow", n.unsigned_abs()), &[])).collect(),
                );
            }
        },
    );
    let delivered = world.returned.iter().filter(|r| matches!(&r.returned, Returned::Settled(s) if s.is_delivered())).count();
    assert_eq!(delivered, usize::try_from(BACKLOG).unwrap());
    let end = world.requests.borrow().iter().map(|(at, _)| *at).max().unwrap();
    end - secs(100)
}

#[test]
fn an_endpoint_that_failed_slowly_drains_as_fast_as_it_answers_once_it_is_well() {
    let after = drained_after_slow_failures();
    assert!(after <= secs(170), "the next reopening is at most 160 s away, 32 at once take four: {after:?}");
}

#[test]
fn an_outage_of_our_own_is_not_held_against_anyone() {
    let names: Vec<String> = (0..9).map(|n| format!("d{n}")).collect();
    let mut world = World::new(super::simulated::registry_of_accounts(&names, 3));
    let source = World::assignment(Class::Fresh, "source");
    let (clock, mut wheel, mut sent) = (world.clock.clone(), Wheel::default(), 0_i64);
    let _ = world.run(
        secs(400),
        move |_, _| {
            let dark = (secs(50)..secs(200)).contains(&clock.timeline_now());
            if dark { (secs(3), Outcome::Failed(Failure::Timeout)) } else { (millis(20), OK) }
        },
        |world| {
            wheel.turn(world);
            let now = world.clock.timeline_now();
            while now < secs(300) && secs(sent.unsigned_abs()) <= now && !world.rests(Class::Fresh) {
                let domain = &names[usize::try_from(sent).unwrap() % names.len()];
                world.hand_over(&source, vec![record("source", sent, EPOCH.plus(now), &numbered(domain, sent.unsigned_abs()), &[])]);
                sent += 1;
            }
        },
    );
    let (begun, over) = world.rested();
    assert!((secs(80)..secs(90)).contains(&begun), "presumed 30 s after the last answer: {begun:?}");
    assert!((secs(200)..secs(210)).contains(&over), "over with the first answer: {over:?}");
    let probes = world.requests.borrow().iter().filter(|(at, _)| (begun..secs(200)).contains(at)).count();
    assert!((20..=130).contains(&probes), "about a probe a second: {probes}");
    let most = world.appended.borrow().iter().filter_map(|r| header(r, name::ATTEMPTS)?.parse::<u32>().ok()).max();
    assert!(most.is_some_and(|attempts| attempts <= 7), "attempts before it was presumed count, none during it: {most:?}");
    let delivered = world.returned.iter().filter(|r| matches!(&r.returned, Returned::Settled(s) if s.is_delivered())).count();
    assert_eq!(delivered, usize::try_from(sent).unwrap(), "all are delivered in the end");
}
