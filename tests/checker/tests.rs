//! Planted violations: a good history stays green, and each plant turns red for its own reason and no other.

use super::*;

const MINUTE: Millis = 60_000;

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        success: (200, 200),
        final_statuses: vec![410],
        delays_ms: vec![5_000, MINUTE],
        jitter: 0.0,
        attempts: 3,
        timeout_ms: 20_000,
        max_age_ms: 60 * MINUTE,
        max_wait_ms: 600 * MINUTE,
        unseen: false,
    }
}

fn produced(id: &str, endpoint: &str) -> Produced {
    Produced { id: id.to_owned(), endpoint: endpoint.to_owned(), acknowledged: true, at_ms: 0, expect: Expect::Callback }
}

fn read(status: u16, at_ms: Millis) -> Answer {
    Answer::Read { status, at_ms, retry_after_ms: None }
}

fn request(id: &str, endpoint: &str, at_ms: Millis, answer: Answer) -> Request {
    let (id, endpoint, replica) = (id.to_owned(), endpoint.to_owned(), Some("a".to_owned()));
    Request { id, endpoint, replica, at_ms, answer, let_go_ms: None, signature_right: true, body_right: true }
}

fn requeue(id: &str, at_ms: Millis, attempts: u32) -> Requeue {
    Requeue { id: id.to_owned(), replica: Some("a".to_owned()), sent_ms: Some(at_ms - 5), at_ms, attempts }
}

fn letter(id: &str, at_ms: Millis, reason: &str, attempts: u32) -> Letter {
    let (id, replica, reason) = (id.to_owned(), Some("a".to_owned()), reason.to_owned());
    Letter { id, replica, sent_ms: Some(at_ms - 5), at_ms, reason, attempts, replays: 0, body_right: true }
}

fn exposure(cause: Cause, since_ms: Millis, at_ms: Millis) -> Exposure {
    Exposure { cause, replica: Some("a".to_owned()), since_ms, at_ms, only: BTreeSet::new() }
}

fn commit(at_ms: Millis, offset: i64, lowest_unfinished: Option<i64>) -> Commit {
    Commit { at_ms, place: "g t/0".to_owned(), offset, lowest_unfinished, metadata: 0 }
}

/// Five events: one delivered at once, one at its second attempt, one exhausted, one skipped by rule, one buried by rule.
fn good() -> History {
    let mut history = History { rules: Rules { late_ms: Some(1_000), ..Rules::default() }, ..History::default() };
    for fact in [
        Fact::Endpoint(endpoint("e")),
        Fact::Endpoint(endpoint("f")),
        Fact::Produced(produced("once", "e")),
        Fact::Request(request("once", "e", 10, read(200, 20))),
        Fact::Produced(produced("twice", "e")),
        Fact::Request(request("twice", "e", 1_000, read(500, 1_010))),
        Fact::Requeue(requeue("twice", 1_020, 1)),
        Fact::Request(request("twice", "e", 6_100, read(200, 6_110))),
        Fact::Produced(produced("never", "f")),
        Fact::Request(request("never", "f", 1_000, read(500, 1_010))),
        Fact::Requeue(requeue("never", 1_020, 1)),
        Fact::Request(request("never", "f", 6_100, Answer::None { at_ms: None })),
        Fact::Requeue(requeue("never", 26_120, 2)),
        Fact::Request(request("never", "f", 86_200, read(500, 86_210))),
        Fact::Letter(letter("never", 86_220, "attempts_exhausted", 3)),
        Fact::Produced(Produced { expect: Expect::Skip, ..produced("rule", "") }),
        Fact::Produced(Produced { expect: Expect::Bury("undecodable".to_owned()), ..produced("bad", "") }),
        Fact::Letter(letter("bad", 30, "undecodable", 0)),
        Fact::Commit(commit(100, 1, Some(1))),
        Fact::Commit(commit(90_000, 5, None)),
        Fact::End(End { place: "g t/0".to_owned(), committed: Some(5), end: 5 }),
        Fact::Drain(Drain { replica: "a".to_owned(), began_ms: 950_000, ended_ms: Some(950_500), deadline_ms: 980_000 }),
    ] {
        history.add(fact);
    }
    history
}

#[track_caller]
fn finds(plant: impl FnOnce(&mut History), wanted: &[Kind]) {
    let mut history = good();
    plant(&mut history);
    let report = judge(&history);
    let found: BTreeSet<Kind> = report.violations.iter().map(|v| v.kind).collect();
    assert_eq!(found, wanted.iter().copied().collect(), "{}", report.text());
}

fn add(facts: impl IntoIterator<Item = Fact>) -> impl FnOnce(&mut History) {
    move |history| facts.into_iter().for_each(|fact| history.add(fact))
}

#[test]
fn a_good_history_is_green_and_counted() {
    let report = judge(&good());
    assert_eq!(report.violations, []);
    let expected = Figures { produced: 5, delivered: 2, dead: 2, skipped: 1, requests: 6, gaps: 3, ..Figures::default() };
    assert_eq!(report.figures, expected);
}

#[test]
fn a_history_is_the_same_when_read_back_from_its_lines_and_a_bad_line_is_named() {
    let history = good();
    assert_eq!(History::read(&history.lines()), Ok(history));
    assert!(History::read("\n{\"nonsense\":1}").is_err_and(|e| e.starts_with("line 2")));
}

#[test]
fn what_is_acknowledged_and_nowhere_is_lost_and_what_is_unknown_or_deleted_unread_is_not() {
    finds(add([Fact::Produced(produced("gone", "e"))]), &[Kind::Lost]);
    finds(add([Fact::Produced(Produced { acknowledged: false, ..produced("gone", "e") })]), &[]);
    finds(add([Fact::Produced(produced("gone", "e")), Fact::DeletedUnread("gone".to_owned())]), &[]);
    finds(|h| h.requests.retain(|r| r.id != "once"), &[Kind::Lost]);
    finds(|h| h.letters.retain(|l| l.id != "never"), &[Kind::Lost]);
    finds(|h| h.letters.retain(|l| l.id != "bad"), &[Kind::Lost]);
    finds(add([Fact::Left("t/0/4".to_owned())]), &[Kind::Left]);
    finds(add([Fact::Wrong("10.0.0.1 was dialled".to_owned())]), &[Kind::Wrong]);
}

#[test]
fn what_nobody_produced_is_invented_and_bytes_and_signatures_are_the_events() {
    finds(add([Fact::Request(request("ghost", "e", 10, read(200, 20)))]), &[Kind::Invented]);
    finds(add([Fact::Letter(letter("ghost", 10, "expired", 1))]), &[Kind::Invented]);
    finds(|h| h.requests[0].body_right = false, &[Kind::BodyChanged]);
    finds(|h| h.requests[0].signature_right = false, &[Kind::SignatureWrong]);
    finds(|h| h.letters[0].body_right = false, &[Kind::BodyChanged]);
}

#[test]
fn a_repeat_needs_an_excuse_that_covers_it() {
    let again = || Fact::Request(request("once", "e", 500, read(200, 510)));
    let both = &[Kind::RepeatUnexcused, Kind::TooManyRepeats];
    finds(add([again()]), &[Kind::RepeatUnexcused, Kind::TooManyRepeats, Kind::TooEarly]);
    finds(add([again(), Fact::Exposure(exposure(Cause::Crash, 0, 400))]), &[]);
    finds(add([again(), Fact::Exposure(exposure(Cause::Crash, 21, 400))]), &[Kind::RepeatUnexcused, Kind::TooManyRepeats, Kind::TooEarly]);
    let other = Exposure { replica: Some("b".to_owned()), ..exposure(Cause::Crash, 0, 400) };
    finds(add([again(), Fact::Exposure(other)]), &[Kind::RepeatUnexcused, Kind::TooManyRepeats, Kind::TooEarly]);
    let unsure = |h: &mut History| h.requests[0].answer = Answer::Unsure { status: 200, at_ms: 20 };
    finds(unsure, &[]);
    let late = Fact::Request(request("once", "e", 5_100, read(200, 5_110)));
    finds(|h| (unsure(h), h.add(late.clone())).1, &[]);
    let third = Fact::Request(request("once", "e", 65_200, read(200, 65_210)));
    finds(|h| (unsure(h), h.add(late.clone()), h.add(third)).2, both);
}

#[test]
fn a_requeue_whose_commit_was_lost_forks_its_chain_once() {
    // "twice" is requeued, its commit is lost, and the record that is read again succeeds at once: two endings.
    let second = || Fact::Request(request("twice", "e", 2_000, read(200, 2_010)));
    finds(add([second(), Fact::Exposure(exposure(Cause::Crash, 1_015, 1_100))]), &[]);
    finds(
        add([second(), Fact::Exposure(exposure(Cause::Crash, 2_015, 2_100))]),
        &[Kind::RepeatUnexcused, Kind::TooManyRepeats, Kind::TooEarly],
    );
    let third = Fact::Request(request("twice", "e", 3_000, read(200, 3_010)));
    let fork = Fact::Exposure(exposure(Cause::Crash, 1_015, 1_100));
    finds(add([second(), third, fork]), &[Kind::RepeatUnexcused]);
}

#[test]
fn a_failure_that_outlived_a_revoke_is_made_again_and_forks_nothing() {
    // In flight at the fence from 1,005 on; its late failure must be dropped.
    let fence = || Fact::Exposure(exposure(Cause::RevokeOutlivedGrace, 1_005, 1_005));
    let new_owner = || Fact::Request(Request { replica: Some("b".to_owned()), ..request("twice", "e", 1_500, read(200, 1_510)) });
    finds(add([fence(), new_owner()]), &[Kind::RepeatUnexcused, Kind::TooManyRepeats]);
    finds(
        |h| {
            h.requests.retain(|r| !(r.id == "twice" && r.at_ms > 2_000));
            h.requeues.retain(|r| r.id != "twice");
            add([fence(), new_owner()])(h);
        },
        &[],
    );
}

#[test]
fn an_attempt_is_at_risk_until_its_client_has_let_go_of_it() {
    // Stopped while the first attempt was out, the client learns in the grace of a revoke that it has timed out; the next owner begins anew.
    let attempts = |let_go_ms: Option<Millis>| {
        let again = (0..3).map(|n| Fact::Request(request("never", "e", 2_000 + 10 * n, read(500, 2_001 + 10 * n))));
        let late = Answer::Unsure { status: 200, at_ms: 1_200 };
        let first = Request { let_go_ms, ..request("never", "e", 10, late) };
        let events =
            [Fact::Produced(produced("never", "e")), Fact::Request(first), Fact::Letter(letter("never", 2_030, "attempts_exhausted", 3))];
        add(events.into_iter().chain(again).chain([Fact::Exposure(exposure(Cause::RevokeOutlivedGrace, 1_900, 1_950))]))
    };
    finds(attempts(None), &[Kind::TooManyAttempts]);
    finds(attempts(Some(1_910)), &[]);
    finds(attempts(Some(1_800)), &[Kind::TooManyAttempts]);
}

#[test]
fn delivered_and_dead_lettered_is_two_endings() {
    finds(add([Fact::Letter(letter("once", 400, "rejected", 1))]), &[Kind::RepeatUnexcused, Kind::RejectedWithoutCause]);
    finds(
        |h| {
            h.requests[0].answer = Answer::Unsure { status: 200, at_ms: 20 };
            h.add(Fact::Request(request("once", "e", 5_100, read(410, 5_110))));
            h.add(Fact::Letter(letter("once", 5_120, "rejected", 2)));
        },
        &[],
    );
}

#[test]
fn attempts_are_the_policys_and_their_count_never_goes_back() {
    let fourth = |at: Millis| Fact::Request(request("never", "f", at, read(500, at + 10)));
    finds(add([fourth(146_300)]), &[Kind::TooManyAttempts]);
    finds(add([fourth(146_300), Fact::Exposure(exposure(Cause::Crash, 146_300, 146_300))]), &[]);
    finds(|h| h.requeues[2].attempts = 0, &[Kind::AttemptCountWentBack]);
    finds(|h| h.requeues[0].attempts = 0, &[Kind::AttemptCountWentBack]);
    finds(|h| h.letters[0].attempts = 2, &[Kind::ExhaustedEarly]);
    finds(|h| h.requests.retain(|r| !(r.id == "never" && r.at_ms > 80_000)), &[Kind::ExhaustedEarly]);
    finds(
        |h| {
            h.requests.retain(|r| !(r.id == "never" && r.at_ms > 80_000));
            h.endpoints.values_mut().for_each(|e| e.unseen = true);
        },
        &[],
    );
}

#[test]
fn a_dead_letter_has_a_cause() {
    finds(|h| h.letters[0].reason = "expired".to_owned(), &[Kind::ExpiredEarly]);
    finds(|h| h.letters[0].reason = "waited_too_long".to_owned(), &[Kind::ExpiredEarly]);
    finds(|h| h.letters[0].reason = "rejected".to_owned(), &[Kind::RejectedWithoutCause]);
    finds(|h| h.letters[0].reason = "unknown_domain".to_owned(), &[Kind::BuriedWithoutCause]);
    finds(|h| h.letters[1].reason = "unknown_domain".to_owned(), &[Kind::BuriedWithoutCause]);
    finds(
        |h| {
            h.endpoints.values_mut().for_each(|e| e.max_age_ms = 2 * MINUTE);
            h.letters[0].reason = "expired".to_owned();
        },
        &[],
    );
}

#[test]
fn what_is_skipped_is_skipped_by_a_rule_and_what_a_rule_holds_back_is_not_called() {
    finds(add([Fact::Skipped("rule".to_owned())]), &[]);
    finds(add([Fact::Skipped("once".to_owned())]), &[Kind::SkippedWithoutRule]);
    finds(add([Fact::Request(request("rule", "e", 10, read(500, 20)))]), &[Kind::CalledAgainstRule]);
    finds(add([Fact::Request(request("bad", "e", 10, read(500, 20)))]), &[Kind::CalledAgainstRule]);
}

#[test]
fn attempts_are_neither_early_nor_late_by_more_than_the_rules_say() {
    let move_second = |at: Millis| {
        move |h: &mut History| {
            h.requests
                .iter_mut()
                .filter(|r| r.id == "twice" && r.at_ms > 2_000)
                .for_each(|r| (r.at_ms, r.answer) = (at, read(200, at + 10)));
        }
    };
    finds(move_second(4_510), &[]);
    finds(move_second(4_509), &[Kind::TooEarly]);
    finds(move_second(7_010), &[]);
    finds(move_second(7_011), &[Kind::TooLate]);
    finds(
        |h| {
            move_second(50_000)(h);
            h.add(Fact::Disturbance(Disturbance { from_ms: 5_000, to_ms: 49_000, own_outage: false }));
        },
        &[],
    );
    let busy = |h: &mut History| h.requests[1].answer = Answer::Read { status: 503, at_ms: 1_010, retry_after_ms: Some(30_000) };
    finds(|h| busy(h), &[Kind::TooEarly, Kind::PauseIgnored]);
    finds(|h| (busy(h), move_second(31_100)(h)).1, &[]);
}

#[test]
fn an_endpoint_that_asked_for_a_pause_is_left_alone_by_who_was_told_and_by_nobody_else() {
    let ask = Fact::Produced(produced("asks", "e"));
    let told = Fact::Request(request("asks", "e", 3_000, Answer::Read { status: 429, at_ms: 3_010, retry_after_ms: Some(10_000) }));
    let then = Fact::Request(request("asks", "e", 13_100, read(200, 13_110)));
    finds(add([ask.clone(), told.clone(), then.clone()]), &[Kind::PauseIgnored]);
    finds(
        |h| {
            add([ask, told, then])(h);
            h.requests.iter_mut().filter(|r| r.id == "twice").for_each(|r| r.replica = Some("b".to_owned()));
        },
        &[],
    );
}

#[test]
fn a_record_that_was_never_attempted_is_parked_only_for_a_cause() {
    let parked = || {
        [
            Fact::Produced(produced("parked", "e")),
            Fact::Requeue(requeue("parked", 2_000, 0)),
            Fact::Request(request("parked", "e", 7_100, read(200, 7_110))),
        ]
    };
    let failing = |ids: usize, n: i64| (0..n).map(move |k| (format!("bad{}", k as usize % ids), 1_100 + k));
    let fail = |h: &mut History, ids: usize, n: i64| {
        for (id, at) in failing(ids, n) {
            if !h.produced.iter().any(|p| p.id == id) {
                h.add(Fact::Produced(Produced { expect: Expect::Any, ..produced(&id, "e") }));
                h.add(Fact::Letter(letter(&id, 1_900, "purged", 1)));
            }
            h.add(Fact::Request(request(&id, "e", at, read(500, at + 1))));
        }
        h.rules.late_ms = None;
        h.endpoints.values_mut().for_each(|e| (e.attempts, e.delays_ms) = (3, vec![0, 0, MINUTE]));
        h.letters.retain(|l| l.id != "never");
        h.add(Fact::Letter(letter("never", 86_220, "attempts_exhausted", 3)));
    };
    finds(add(parked()), &[Kind::ParkedWithoutCause]);
    finds(|h| (add(parked())(h), h.rules.least_crowd = 5).1, &[Kind::ParkedWithoutCause]);
    finds(|h| (add(parked())(h), h.rules.least_crowd = 4).1, &[]);
    finds(|h| (fail(h, 5, 5), add(parked())(h)).1, &[]);
    finds(|h| (fail(h, 1, 3), add(parked())(h)).1, &[Kind::ParkedWithoutCause]);
    finds(
        |h| {
            fail(h, 5, 5);
            add(parked())(h);
            h.add(Fact::Produced(produced("good", "e")));
            h.add(Fact::Request(request("good", "e", 1_500, read(200, 1_510))));
        },
        &[Kind::ParkedWithoutCause],
    );
    finds(
        |h| {
            add(parked())(h);
            for n in 0..8 {
                h.add(Fact::Produced(produced(&format!("many{n}"), "e")));
                h.add(Fact::Request(request(&format!("many{n}"), "e", 3_000, read(200, 3_010))));
            }
        },
        &[],
    );
}

#[test]
fn what_an_endpoint_leaves_unanswered_is_a_cause_until_it_answers() {
    let parked = || {
        [
            Fact::Produced(produced("parked", "g")),
            Fact::Requeue(requeue("parked", 25_000, 0)),
            Fact::Request(request("parked", "g", 30_100, read(200, 30_110))),
        ]
    };
    let silent = || {
        let asked = Fact::Request(request("silent", "g", 2_000, Answer::None { at_ms: None }));
        [
            Fact::Endpoint(endpoint("g")),
            Fact::Produced(produced("silent", "g")),
            asked,
            Fact::Request(request("silent", "g", 27_100, read(200, 27_110))),
        ]
    };
    finds(|h| (add(silent())(h), add(parked())(h)).1, &[]);
    let answered = [Fact::Produced(produced("good", "g")), Fact::Request(request("good", "g", 24_000, read(200, 24_010)))];
    finds(|h| (add(silent())(h), add(parked())(h), add(answered)(h)).2, &[Kind::ParkedWithoutCause]);
}

#[test]
fn commits_go_forward_below_what_is_unfinished_and_reach_the_end() {
    finds(add([Fact::Commit(commit(200, 3, Some(2)))]), &[Kind::CommittedPastUnfinished]);
    finds(add([Fact::Commit(commit(200, 2, Some(2)))]), &[]);
    finds(add([Fact::Commit(commit(95_000, 4, None))]), &[Kind::CommitWentBack]);
    finds(add([Fact::Commit(Commit { metadata: 3_001, ..commit(200, 2, None) })]), &[Kind::MetadataTooLong]);
    finds(|h| h.ends[0].end = 6, &[Kind::OffsetsShort]);
    finds(|h| h.ends[0].committed = None, &[Kind::OffsetsShort]);
}

#[test]
fn a_drain_starts_nothing_and_ends_in_time() {
    let late = [Fact::Produced(produced("late", "e")), Fact::Request(request("late", "e", 950_100, read(200, 950_110)))];
    finds(add(late), &[Kind::AttemptWhileDraining]);
    finds(|h| h.drains[0].ended_ms = Some(980_001), &[Kind::DrainTooLong]);
    finds(|h| h.drains[0].ended_ms = None, &[Kind::DrainTooLong]);
}

#[test]
fn a_replay_is_one_more_chain_and_is_tagged() {
    let replay = || Fact::Replayed(Replayed { id: "never".to_owned(), at_ms: 90_000 });
    let answered = || Fact::Request(request("never", "f", 90_100, read(200, 90_110)));
    finds(add([replay(), answered()]), &[]);
    finds(add([answered()]), &[Kind::RepeatUnexcused, Kind::TooManyAttempts, Kind::TooEarly]);
    let refused = |replays| {
        [
            Fact::Request(request("never", "f", 90_100, read(410, 90_110))),
            Fact::Letter(Letter { replays, ..letter("never", 90_120, "rejected", 1) }),
        ]
    };
    finds(|h| (add([replay()])(h), add(refused(1))(h)).1, &[]);
    finds(|h| (add([replay()])(h), add(refused(0))(h)).1, &[Kind::ReplayUntagged]);
    finds(|h| (add([replay()])(h), add(refused(2))(h)).1, &[Kind::ReplayUntagged]);
}
