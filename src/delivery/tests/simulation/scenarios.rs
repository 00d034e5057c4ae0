//! Bad days by name, in virtual time.

use super::super::super::checker::Figures;
use super::plan::{EndpointPlan, EventKind, EventPlan, Fault, Plan, endpoint};
use super::receivers::Manner;
use super::run;
use std::time::Duration;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Runs it; it must end quietly and without a violation.
#[track_caller]
fn goes_well(plan: Plan) -> Figures {
    let run = run(plan, true);
    assert!(run.quiet && run.report.violations.is_empty(), "quiet: {}\n{}{}", run.quiet, run.report.text(), run.lines.join("\n"));
    run.report.figures
}

fn mixed() -> Vec<EndpointPlan> {
    vec![endpoint(0, Manner::Good), endpoint(1, Manner::Slow), endpoint(2, Manner::Flaps)]
}

#[test]
fn a_broker_that_is_gone_for_ten_minutes_costs_nothing_but_time() {
    let plan = Plan { calm: secs(700), grain: Duration::from_millis(50), ..Plan::calm(3, mixed(), 90) };
    let figures = goes_well(plan.with(500, Fault::BrokerDown { ms: 600_000 }));
    assert_eq!((figures.produced, figures.delivered + figures.dead, figures.repeats), (90, 90, 0));
}

#[test]
fn a_replica_that_is_killed_while_the_broker_is_gone_repeats_no_more_than_it_had_not_committed() {
    let plan = Plan { calm: secs(60), ..Plan::calm(4, mixed(), 90) };
    let figures = goes_well(plan.with(500, Fault::BrokerDown { ms: 30_000 }).with(700, Fault::Crash { steps: 3, restart_ms: 1_000 }));
    // One that is done again after the crash may end otherwise than the first time.
    assert!(figures.produced == 90 && (90..=90 + figures.allowed).contains(&(figures.delivered + figures.dead)), "{figures:?}");
    assert!(figures.repeats > 0 && figures.repeats <= figures.allowed, "{figures:?}");
}

#[test]
fn a_clock_that_jumps_back_and_forth_by_an_hour_makes_nothing_early_and_nothing_old() {
    for by_ms in [3_600_000, -3_600_000] {
        let aging = EndpointPlan { max_age: secs(120), attempts: 5, delays: vec![secs(6)], ..endpoint(0, Manner::Status(500)) };
        let plan = Plan { calm: secs(55), ..Plan::calm(5, vec![aging, endpoint(1, Manner::Flaps)], 40) };
        let jump = Fault::ClockJump { by_ms, ms: 12_000 };
        let figures = goes_well(plan.with(300, jump).with(20_000, Fault::ClockJump { by_ms: -by_ms, ms: 12_000 }));
        assert_eq!((figures.produced, figures.repeats), (40, 0), "{figures:?}");
    }
}

#[test]
fn a_receiver_that_answers_after_the_time_out_gets_its_schedule_and_no_more() {
    let late = EndpointPlan { attempts: 3, afterwards: Manner::Late, ..endpoint(0, Manner::Late) };
    let figures = goes_well(Plan { calm: secs(3), ..Plan::calm(6, vec![late], 4) });
    assert_eq!((figures.dead, figures.requests, figures.ambiguous), (4, 12, 12), "{figures:?}");
}

#[test]
fn when_group_offsets_have_expired_everything_is_delivered_again_and_nothing_is_lost() {
    let plan = Plan { calm: secs(40), ..Plan::calm(7, vec![endpoint(0, Manner::Good)], 30) };
    let figures = goes_well(plan.with(3_000, Fault::Expire { restart_ms: 12_000 }));
    assert_eq!((figures.delivered, figures.repeats), (30, 30), "{figures:?}");
}

/// The topic is made anew while one record was out and others behind it were finished: a map stands in the commit.
pub(super) fn recreated() -> Plan {
    let silent = EndpointPlan { timeout: secs(100), ..endpoint(0, Manner::Hangs) };
    let mut plan = Plan { calm: secs(30), ..Plan::calm(8, vec![silent, endpoint(1, Manner::Good)], 0) };
    let event = |n: u64, at: u64| {
        (Duration::from_millis(at), EventPlan { id: format!("ev{n}"), kind: EventKind::For(usize::from(n > 0)), acknowledged: true })
    };
    plan.events = (0..10).map(|n| event(n, 10 + n)).chain((10..26).map(|n| event(n, 3_000 + n))).collect();
    plan.with(2_000, Fault::Recreate { restart_ms: 12_000 })
}

#[test]
fn a_topic_made_anew_is_read_from_its_start_whatever_the_map_of_the_old_one_says() {
    let figures = goes_well(recreated());
    assert_eq!(
        (figures.produced, figures.delivered, figures.repeats),
        (26, 25, 0),
        "the one that was out is gone with its topic: {figures:?}"
    );
}

#[test]
fn a_map_that_another_version_wrote_costs_repeats_and_loses_nothing() {
    let slow = EndpointPlan { timeout: secs(100), ..endpoint(0, Manner::Hangs) };
    let plan = Plan { calm: secs(40), ..Plan::calm(9, vec![slow, endpoint(1, Manner::Good)], 20) };
    let figures = goes_well(plan.with(2_000, Fault::ForeignMaps { restart_ms: 12_000 }));
    assert_eq!(figures.delivered, 20);
    assert!(figures.repeats >= 9, "{figures:?}");
}

#[test]
fn a_map_of_this_version_saves_the_repeats() {
    let slow = EndpointPlan { timeout: secs(100), ..endpoint(0, Manner::Hangs) };
    let plan = Plan { calm: secs(40), ..Plan::calm(9, vec![slow, endpoint(1, Manner::Good)], 20) };
    let figures = goes_well(plan.with(2_000, Fault::Crash { steps: 0, restart_ms: 1_000 }));
    assert_eq!((figures.delivered, figures.repeats), (20, 0), "{figures:?}");
}
