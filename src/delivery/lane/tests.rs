use super::*;

const CIRCUIT: CircuitSettings = CircuitSettings { failures: 5, pause: Duration::from_secs(5), max_pause: Duration::from_secs(600) };

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn lane(limit: usize, rate: Option<f64>) -> Lane<u32> {
    Lane::new(Terms { limit, rate })
}

fn start(lane: &mut Lane<u32>, at: u64) {
    lane.started(Class::Fresh, ms(20_000), ms(at));
}

/// `count` attempts start at once at `at`, and are accepted after ten milliseconds.
fn burst(lane: &mut Lane<u32>, count: usize, at: u64) {
    (0..count).for_each(|_| start(lane, at));
    (0..count).for_each(|n| assert!(!end(lane, n as u64, Reply::Accepted, at, at + 10)));
}

/// An attempt of `record` that started at `started` ends with `reply` at `at`.
fn end(lane: &mut Lane<u32>, record: u64, reply: Reply, started: u64, at: u64) -> bool {
    lane.ended(&Ended { class: Class::Fresh, record, reply, started: ms(started) }, &CIRCUIT, ms(at))
}

#[test]
fn it_starts_at_two_grows_with_answers_that_it_held_up_and_never_beyond_its_limit() {
    let mut lane = lane(6, None);
    let mut windows = Vec::new();
    for round in 0..4 {
        let at = round * 10;
        let mut running = 0;
        while lane.has_place(ms(at)) {
            start(&mut lane, at);
            running += 1;
        }
        windows.push(running);
        (0..running).for_each(|n| assert!(!end(&mut lane, n, Reply::Accepted, at, at + 5)));
    }
    assert_eq!(windows, [2, 3, 4, 5], "one more for each round that filled it: only its first answer finds it full");
    for at in 0..50 {
        start(&mut lane, 100 + at);
        let _ = end(&mut lane, 0, Reply::Accepted, 100 + at, 101 + at);
    }
    assert_eq!(lane.window.size, 6, "one at a time is not held up by six");
    assert_eq!(super::Lane::<u32>::new(Terms { limit: 1, rate: None }).window.size, 1);
}

#[test]
fn a_window_that_is_not_used_shrinks_by_the_second_and_one_that_is_stays() {
    let mut lane = lane(32, None);
    lane.window.size = 32;
    let mut windows = Vec::new();
    for (second, count) in [16, 15, 8, 1, 1, 1, 1].into_iter().enumerate() {
        burst(&mut lane, count, second as u64 * 1000);
        lane.age();
        windows.push(lane.window.size);
    }
    assert_eq!(windows, [32, 16, 16, 8, 4, 2, 2]);
    (0..2).for_each(|_| start(&mut lane, 9000));
    lane.age();
    lane.age();
    assert_eq!(lane.window.size, 2, "what is still out counts in each second");
    (lane.window.size, lane.running) = (1, [0; 3]);
    lane.age();
    lane.age();
    assert_eq!(lane.window.size, 1, "an idle second makes nobody ready for more");
}

#[test]
fn for_slots_it_is_silent_after_a_quarter_of_a_second_or_four_times_its_usual_time() {
    for (took, silent_after) in [(10, 250), (100, 400)] {
        let mut lane = lane(4, None);
        start(&mut lane, 0);
        let _ = end(&mut lane, 0, Reply::Accepted, 0, took);
        start(&mut lane, 1000);
        let standing = |after: u64| lane.standing(ms(1000 + after));
        assert_eq!((standing(silent_after - 1), standing(silent_after)), (Standing::Answering, Standing::Silent));
        assert!(!lane.is_silent(ms(3999)), "what waits for it stays for three seconds");
    }
}

#[test]
fn it_halves_on_time_outs_and_overload_once_for_what_was_on_its_way_together() {
    let mut lane = lane(32, None);
    lane.window.size = 32;
    (0..8).for_each(|_| start(&mut lane, 10));
    (0..8).for_each(|n| {
        let _ = end(&mut lane, n % 2, Reply::Overloaded, 10, 20);
    });
    assert_eq!(lane.window.size, 16);
    start(&mut lane, 30);
    let _ = end(&mut lane, 0, Reply::TimedOut, 30, 20_030);
    assert_eq!(lane.window.size, 8);
    start(&mut lane, 20_040);
    let _ = end(&mut lane, 0, Reply::Broken, 20_040, 20_041);
    assert_eq!(lane.window.size, 8, "a refused connection says nothing about load");
    for at in 21..30 {
        start(&mut lane, at * 1000);
        let _ = end(&mut lane, 0, Reply::TimedOut, at * 1000, at * 1000 + 900);
    }
    assert_eq!(lane.window.size, 1);
}

#[test]
fn an_endpoint_is_silent_when_it_takes_four_times_its_usual_time_and_at_least_three_seconds() {
    let mut fast = lane(4, None);
    start(&mut fast, 0);
    assert!(!fast.is_silent(ms(2999)) && fast.is_silent(ms(3000)));
    let _ = end(&mut fast, 0, Reply::Accepted, 0, 1200);
    assert_eq!(fast.hearing.latency, Some(ms(1200)));
    start(&mut fast, 2000);
    assert!(!fast.is_silent(ms(6799)) && fast.is_silent(ms(6800)));
}

#[test]
fn one_that_ends_without_an_answer_makes_it_silent_unless_it_was_heard_lately() {
    for (answered_at, reply, silent) in [
        (None, Reply::Broken, true),
        (Some(5000), Reply::TimedOut, true),
        (Some(5000), Reply::Broken, false),
        (Some(7500), Reply::TimedOut, false),
    ] {
        let mut lane = lane(4, None);
        if let Some(at) = answered_at {
            start(&mut lane, at - 10);
            let _ = end(&mut lane, 0, Reply::Failed, at - 10, at);
        }
        start(&mut lane, 9990);
        let _ = end(&mut lane, 1, reply, 9990, 10_000);
        assert_eq!(lane.is_silent(ms(10_000)), silent, "{answered_at:?} {reply:?}");
    }
}

#[test]
fn one_broken_connection_among_answers_says_nothing_and_two_in_a_row_do() {
    let mut lane = lane(4, None);
    let mut standings = Vec::new();
    for (at, reply) in [(10, Reply::Accepted), (20, Reply::Broken), (30, Reply::Accepted), (40, Reply::Broken), (50, Reply::Broken)] {
        start(&mut lane, at * 1000);
        let _ = end(&mut lane, at, reply, at * 1000, at * 1000 + 5);
        standings.push(lane.standing(ms(at * 1000 + 5)));
    }
    assert_eq!(standings, [[Standing::Answering; 4].as_slice(), &[Standing::InVain]].concat());
}

#[test]
fn its_pace_is_told_by_what_it_serves_and_not_by_how_it_fails() {
    let mut lane = lane(10, None);
    for (record, took) in [(0, 10_000), (1, 1), (2, 10_000)] {
        start(&mut lane, 0);
        let _ = end(&mut lane, record, Reply::Failed, 0, took);
    }
    assert_eq!([lane.slot(ms(50_000)), lane.slot(ms(50_000))], [ms(50_000), ms(50_010)], "assumed, before the first");
    start(&mut lane, 20_000);
    let _ = end(&mut lane, 3, Reply::Accepted, 20_000, 22_000);
    assert_eq!(lane.slot(ms(50_000)), ms(50_210), "two seconds over ten");
}

#[test]
fn its_standing_follows_its_answers_of_the_last_minute() {
    let mut lane = lane(4, None);
    assert_eq!(lane.standing(ms(0)), Standing::Untried);
    start(&mut lane, 0);
    assert_eq!(lane.standing(ms(1)), Standing::Silent, "tried, and no answer yet");
    let one = Unanswered { attempts: [1, 0, 0], in_vain: false };
    assert_eq!(lane.recount(ms(1)), (Unanswered::default(), one));
    let _ = end(&mut lane, 0, Reply::Failed, 0, 10);
    assert_eq!((lane.standing(ms(10)), lane.recount(ms(10))), (Standing::Answering, (one, Unanswered::default())));
    assert_eq!(lane.standing(ms(60_009)), Standing::Answering);
    assert_eq!(lane.standing(ms(60_010)), Standing::Untried, "what it said is forgotten, and nothing speaks against it");
}

#[test]
fn silence_of_a_grown_window_opens_the_circuit_long_before_the_time_outs() {
    let mut lane = lane(32, None);
    lane.window.size = 8;
    (0..8).for_each(|_| start(&mut lane, 0));
    assert!(!lane.open_if_silent(&CIRCUIT, ms(2999)));
    assert!(lane.open_if_silent(&CIRCUIT, ms(3000)));
    assert_eq!(lane.admits(false, &CIRCUIT, ms(3000)), Admission::Closed(ms(8000)));
    lane.probe(9, ms(20_000), ms(8000));
    start(&mut lane, 8000);
    assert_eq!(lane.admits(false, &CIRCUIT, ms(9000)), Admission::Closed(ms(38_000)), "the probe's twenty seconds, and the next pause");
}

/// A lane whose circuit was opened in millisecond 10,000 by five attempts that failed with `reply` after `took`, and whose probe went out
/// when it reopened.
fn probing(reply: Reply, took: u64) -> Lane<u32> {
    let mut lane = lane(32, None);
    (0..5).for_each(|_| start(&mut lane, 10_000 - took));
    (0..5).for_each(|record| {
        let _ = end(&mut lane, record, reply, 10_000 - took, 10_000);
    });
    lane.probe(9, ms(20_000), ms(15_000));
    start(&mut lane, 15_000);
    lane
}

#[test]
fn what_a_probe_keeps_waiting_expects_it_to_fail_as_the_last_attempt_did() {
    for (reply, took, again) in [
        (Reply::Failed, 10, 28_000),
        (Reply::Broken, 10, 28_000),
        (Reply::Overloaded, 2_000, 33_000),
        (Reply::TimedOut, 3_000, 28_000),
        (Reply::TimedOut, 10_000, 35_000),
        (Reply::Broken, 8_000, 33_000),
    ] {
        let lane = probing(reply, took);
        assert_eq!(lane.admits(false, &CIRCUIT, ms(15_001)), Admission::Closed(ms(again)), "{reply:?} after {took} ms, and ten seconds");
    }
    let lane = probing(Reply::Broken, 10);
    assert_eq!(lane.admits(false, &CIRCUIT, ms(18_000)), Admission::Closed(ms(45_000)), "it did not: its time-out, and ten seconds");
}

#[test]
fn after_an_outage_of_our_own_nothing_that_it_said_counts() {
    let mut lane = probing(Reply::TimedOut, 10_000);
    let _ = end(&mut lane, 9, Reply::TimedOut, 15_000, 15_100);
    lane.forgive(&CIRCUIT, ms(16_000));
    assert!(!lane.is_silent(ms(16_000)));
    assert_eq!(lane.admits(false, &CIRCUIT, ms(16_000)), Admission::Probe);
    lane.probe(10, ms(20_000), ms(16_000));
    start(&mut lane, 16_000);
    assert_eq!(lane.admits(false, &CIRCUIT, ms(16_001)), Admission::Closed(ms(29_000)), "three seconds of patience, and ten");
}

#[test]
fn two_in_flight_that_hang_do_not_open_it_and_each_time_out_counts() {
    let mut lane = lane(32, None);
    let mut opened = Vec::new();
    start(&mut lane, 0);
    start(&mut lane, 0);
    for (record, at) in [(0, 20), (1, 20), (2, 40), (3, 60), (4, 80)] {
        opened.push(end(&mut lane, record, Reply::TimedOut, (at - 20) * 1000, at * 1000));
        if record > 0 {
            start(&mut lane, at * 1000);
        }
    }
    assert_eq!(opened, [false, false, false, false, true]);
}

#[test]
fn slots_follow_each_other_at_the_lanes_own_pace() {
    let mut lane = lane(10, None);
    let mut slot = |earliest| lane.slot(ms(earliest)).as_millis();
    assert_eq!([slot(5000), slot(5000), slot(5000), slot(9000), slot(5000)], [5000, 5010, 5020, 9000, 9010], "100 ms over ten");
    let mut slow = super::Lane::<u32>::new(Terms { limit: 10, rate: Some(2.0) });
    assert_eq!([slow.slot(ms(5000)), slow.slot(ms(5000))], [ms(5000), ms(5500)]);
}

#[test]
fn slots_given_while_it_was_slow_do_not_hold_up_what_is_parked_when_it_is_fast() {
    let mut lane = lane(10, None);
    (0..1000).for_each(|_| {
        let _ = lane.slot(ms(5000));
    });
    assert_eq!(lane.slot(ms(5000)), ms(15_000));
    lane.hearing.service = Some(ms(10));
    assert_eq!(lane.slot(ms(5000)), ms(6001), "a thousand at a millisecond each");
}

#[test]
fn a_record_parked_for_silence_comes_back_when_it_is_known_whether_it_was_in_vain() {
    let mut lane = lane(4, None);
    start(&mut lane, 0);
    let again = |lane: &Lane<u32>, now| lane.room_again(false, &CIRCUIT, ms(now)).as_millis();
    assert_eq!(again(&lane, 1500), 1500);
    let _ = end(&mut lane, 0, Reply::TimedOut, 0, 20_000);
    assert_eq!(again(&lane, 20_000), 25_000);
    start(&mut lane, 20_001);
    assert_eq!(again(&lane, 20_002), 40_001);
    let _ = end(&mut lane, 0, Reply::Broken, 20_001, 20_003);
    assert_eq!(again(&lane, 20_004), 30_003, "nothing is outstanding, and the second pause is ten seconds");
    assert_eq!(again(&lane, 50_000), 50_000);
    assert_eq!(lane.room_again(true, &CIRCUIT, ms(20_004)), ms(20_004), "due by its own schedule");
}

#[test]
fn one_that_finds_no_slot_comes_back_after_as_long_again_as_it_has_waited_up_to_a_minute() {
    let mut lane = lane(4, None);
    let again: Vec<u128> = [0, 5, 10, 20, 40, 80, 160].map(|s| lane.turned_away(&CIRCUIT, ms(s * 1000)).as_secs().into()).to_vec();
    assert_eq!(again, [5, 10, 20, 40, 80, 140, 220]);
    start(&mut lane, 161_000);
    assert_eq!(lane.turned_away(&CIRCUIT, ms(170_000)), ms(175_000), "a start ends the wait");
}

#[test]
fn one_that_finds_its_lane_full_comes_back_at_the_pace_of_an_endpoint_that_said_it_has_too_much_to_do() {
    let mut lane = lane(32, None);
    lane.hearing.service = Some(ms(64));
    assert_eq!([lane.slot_while_answering(ms(1000)), lane.slot_while_answering(ms(1000))], [ms(1000), ms(1002)], "its limit");
    start(&mut lane, 2000);
    let _ = end(&mut lane, 1, Reply::Overloaded, 2000, 2010);
    assert_eq!(
        [lane.slot_while_answering(ms(2010)), lane.slot_while_answering(ms(2010))],
        [ms(2010), ms(2042)],
        "one at once, perhaps two"
    );
    assert_eq!([lane.slot_while_answering(ms(62_010)), lane.slot_while_answering(ms(62_010))], [ms(62_012), ms(62_014)], "a minute ago");
}

#[test]
fn a_pause_asked_for_by_the_receiver_holds_the_lane() {
    let mut lane = lane(4, None);
    lane.pause(ms(900_000));
    assert!(!lane.has_place(ms(899_999)) && lane.has_place(ms(900_000)));
    assert!(!lane.is_idle(ms(899_999)) && lane.is_idle(ms(900_000)));
    lane.pause(ms(300));
    assert_eq!(lane.paused(ms(400)), Some(ms(900_000)), "a shorter pause does not end a longer one");
}

#[test]
fn a_rate_spreads_the_attempts() {
    let mut lane = lane(1000, Some(10.0));
    let mut starts = 0;
    for now in (0..10_000).step_by(10) {
        if lane.has_place(ms(now)) {
            start(&mut lane, now);
            let _ = end(&mut lane, 0, Reply::Accepted, now, now);
            starts += 1;
        }
    }
    assert!((99..=102).contains(&starts), "{starts} starts in ten seconds at ten a second");
}

#[test]
fn an_idle_lane_is_kept_for_ten_minutes_and_longer_while_its_circuit_is_open() {
    let mut lane = lane(4, None);
    start(&mut lane, 0);
    assert!(!lane.is_idle(ms(601_000)));
    let _ = end(&mut lane, 0, Reply::Accepted, 0, 10);
    assert!(!lane.is_idle(ms(599_999)) && lane.is_idle(ms(600_000)));
    for record in 0..5 {
        start(&mut lane, 1000);
        let _ = end(&mut lane, record, Reply::Failed, 1000, 600_000);
    }
    assert!(!lane.is_idle(ms(604_999)) && !lane.is_idle(ms(605_000 + 599_999)));
    assert!(lane.is_idle(ms(1_205_000)), "what it knows of a sick endpoint outlives the reopening that tests it");
}
