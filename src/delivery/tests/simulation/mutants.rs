//! Engines that are wrong on purpose: the checker must say so, and of what kind the fault is.

use super::super::super::checker::Kind;
use super::super::super::mutant::{self, Mutant};
use super::plan::{EventKind, EventPlan, Fault, Plan, endpoint};
use super::receivers::Manner;
use super::run;
use std::time::Duration;

/// The most seeds until a mutant must be caught.
const SEEDS: u64 = 400;

/// Within some seeds the checker finds a fault of one of these kinds, and the seed is clean without the mutant.
#[track_caller]
fn is_caught_by_seeds(mutant: Mutant, kinds: &[Kind]) {
    let seed = (0..SEEDS).find(|seed| {
        let report = mutant::with(mutant, || run(Plan::of(*seed), false)).report;
        kinds.iter().any(|kind| report.has(*kind))
    });
    let Some(seed) = seed else { panic!("{mutant:?} is not caught within {SEEDS} seeds") };
    let clean = run(Plan::of(seed), false);
    assert!(clean.quiet && clean.report.violations.is_empty(), "seed {seed} without the mutant: {}", clean.report.text());
    println!("{mutant:?} is caught by seed {seed}");
}

/// The plan is clean without the mutant, and with it the checker finds a fault of this kind.
#[track_caller]
fn is_caught_by(mutant: Mutant, plan: &Plan, kind: Kind) {
    let clean = run(plan.clone(), true);
    assert!(clean.quiet && clean.report.violations.is_empty(), "without the mutant: {}{}", clean.report.text(), clean.lines.join("\n"));
    let wrong = mutant::with(mutant, || run(plan.clone(), true));
    assert!(wrong.report.has(kind), "{mutant:?}: {}{}", wrong.report.text(), wrong.lines.join("\n"));
}

#[test]
fn committing_early_is_caught() {
    is_caught_by_seeds(Mutant::CommitEarly, &[Kind::CommittedPastUnfinished]);
    is_caught_by_seeds(Mutant::CommitEarly, &[Kind::Lost]);
}

#[test]
fn forgetting_the_outbox_acknowledgement_is_caught() {
    is_caught_by_seeds(Mutant::ForgetOutboxAcknowledgement, &[Kind::Lost]);
}

#[test]
fn dropping_on_revoke_is_caught() {
    is_caught_by_seeds(Mutant::DropOnRevoke, &[Kind::Lost]);
}

#[test]
fn requeueing_a_late_failure_after_a_revoke_is_caught() {
    // Attempts that take longer than the grace are running when another replica joins; later the endpoint answers.
    let silent = super::plan::EndpointPlan { timeout: Duration::from_secs(4), ..endpoint(0, Manner::Hangs) };
    let mut plan = Plan { partitions: 2, calm: Duration::from_secs(20), ..Plan::calm(1, vec![silent], 8) };
    plan.settings.endpoint_concurrency = 8;
    let plan = plan.with(500, Fault::Join).with(3_000, Fault::Manners { endpoint: 0, manner: Manner::Good });
    is_caught_by(Mutant::RequeueLateFailureAfterRevoke, &plan, Kind::RepeatUnexcused);
}

#[test]
fn resetting_the_attempt_count_is_caught() {
    is_caught_by_seeds(Mutant::ResetAttemptCount, &[Kind::AttemptCountWentBack]);
    is_caught_by_seeds(Mutant::ResetAttemptCount, &[Kind::TooManyAttempts]);
}

#[test]
fn contiguity_as_offset_plus_one_is_caught() {
    is_caught_by_seeds(Mutant::ContiguityIsOffsetPlusOne, &[Kind::OffsetsShort]);
}

#[test]
fn releasing_by_header_is_caught() {
    let secs = Duration::from_secs;
    let busy = super::plan::EndpointPlan {
        attempts: 2,
        delays: vec![secs(60)],
        afterwards: Manner::Busy(503, 60),
        ..endpoint(0, Manner::Busy(503, 60))
    };
    let failing = super::plan::EndpointPlan { delays: vec![secs(5)], afterwards: Manner::Status(500), ..endpoint(1, Manner::Status(500)) };
    let plan = Plan { calm: secs(3), ..Plan::calm(1, vec![busy, failing], 2) };
    is_caught_by(Mutant::ReleaseByHeader, &plan, Kind::TooLate);
}

#[test]
fn a_map_applied_to_a_recreated_topic_is_caught() {
    is_caught_by(Mutant::MapAppliedToRecreatedTopic, &super::scenarios::recreated(), Kind::Lost);
}

#[test]
fn a_circuit_opened_by_one_record_is_caught() {
    let failing = super::plan::EndpointPlan {
        attempts: 8,
        delays: vec![Duration::from_secs(1)],
        afterwards: Manner::Status(500),
        ..endpoint(0, Manner::Status(500))
    };
    let mut plan = Plan { calm: Duration::from_secs(20), ..Plan::calm(1, vec![failing], 1) };
    plan.events.push((Duration::from_millis(9_500), EventPlan { id: "other".to_owned(), kind: EventKind::For(0), acknowledged: true }));
    is_caught_by(Mutant::CircuitOpenedByOneRecord, &plan, Kind::ParkedWithoutCause);
}

#[test]
fn skipping_on_a_full_lane_is_caught() {
    let plan = Plan::calm(1, vec![endpoint(0, Manner::Hangs), endpoint(1, Manner::Good)], 120)
        .with(8_000, Fault::Manners { endpoint: 0, manner: Manner::Good });
    is_caught_by(Mutant::SkipOnFullLane, &plan, Kind::Lost);
}
