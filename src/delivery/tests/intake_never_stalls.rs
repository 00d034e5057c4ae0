//! Intake under what sources do to it: failing commits, full tiers, gaps, a drain in the middle of a revoke. The script is the source:
//! each poll moves a clock of its own on, so nothing here takes as long as it says.

use super::super::attempt::Success;
use super::super::handover::{Intake, Phase, Return, Returned, Ticket, ToEngine, ToIntake};
use super::super::intake::{Context, Ended, Loop, Positions, Wait, run};
use super::super::ports::{Assigned, Clock, CommitMode, CommitRefused, Source, SourceEvent, TopicPartition};
use super::super::settle::Settlement;
use super::simulated::{EPOCH, record, secs, settings};
use crate::domain::class::Class;
use crate::domain::offsets::CommitPoint;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::metrics::{Health, Metrics};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Moves on by 60 ms with every look at it.
#[derive(Clone, Default)]
struct Restless(Arc<AtomicU64>);

impl Clock for Restless {
    fn now(&self) -> UnixMillis {
        self.broker_now()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(60, Ordering::Relaxed))
    }
    fn broker_now(&self) -> UnixMillis {
        EPOCH.plus(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
    fn is_sane(&self) -> bool {
        true
    }
    fn may_judge_age(&self) -> bool {
        true
    }
    fn draw(&self) -> f64 {
        0.5
    }
    async fn sleep(&self, _: Duration) {}
}

/// What a script sees and does at a poll.
struct Stage {
    now: Duration,
    paused: BTreeSet<(String, i32)>,
    starts: Vec<(String, i64)>,
    commits: Vec<(String, i64)>,
    answers: Vec<Result<(), CommitRefused>>,
    accepts_commits: bool,
    refuses_topic: Option<&'static str>,
    answers_commits: bool,
    engine: UnboundedReceiver<ToEngine>,
    intake: Sender<ToIntake>,
    handed: Vec<Ticket>,
    metrics: Arc<Metrics>,
}

struct Script<F> {
    stage: Stage,
    clock: Restless,
    polls: u32,
    poll: F,
}

impl<F: FnMut(&mut Stage) -> SourceEvent> Source for Script<F> {
    fn poll(&mut self, _: Duration, _: usize) -> SourceEvent {
        self.stage.now = self.clock.monotonic();
        self.polls += 1;
        if self.stage.answers_commits
            && self.polls.is_multiple_of(2)
            && let Some(answer) = self.stage.answers.pop()
        {
            return SourceEvent::Committed(answer);
        }
        while let Ok(message) = self.stage.engine.try_recv() {
            if let ToEngine::Batch(records) = message {
                self.stage.handed.extend(records.into_iter().map(|Intake { ticket, .. }| ticket));
            }
        }
        (self.poll)(&mut self.stage)
    }
    fn start(&mut self, at: &[(TopicPartition, i64)]) {
        for (name, offset) in at {
            self.stage.starts.push((name.topic.to_string(), *offset));
            self.stage.paused.remove(&(name.topic.to_string(), name.partition));
        }
    }
    fn release(&mut self, _: &[TopicPartition]) {}
    fn commit(&mut self, points: Vec<(TopicPartition, CommitPoint)>, mode: CommitMode) -> Result<(), CommitRefused> {
        let refuses = |topic: &str| !self.stage.accepts_commits || self.stage.refuses_topic == Some(topic);
        let (refused, accepted): (Vec<_>, Vec<_>) = points.into_iter().partition(|(name, _)| refuses(&name.topic));
        self.stage.commits.extend(accepted.iter().map(|(name, point)| (name.topic.to_string(), point.offset)));
        let accepted = accepted.into_iter().map(|(name, _)| name).collect();
        let answer = if refused.is_empty() { Ok(()) } else { Err(CommitRefused { cause: "away".into(), accepted }) };
        match mode {
            CommitMode::Later => {
                self.stage.answers.push(answer);
                Ok(())
            }
            CommitMode::Await => answer,
        }
    }
    fn pause(&mut self, partitions: &[TopicPartition]) {
        self.stage.paused.extend(partitions.iter().map(|p| (p.topic.to_string(), p.partition)));
    }
    fn resume(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|p| {
            self.stage.paused.remove(&(p.topic.to_string(), p.partition));
        });
    }
    fn positions(&mut self) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }
    fn leave(&mut self) {}
}

fn play(class: Class, max_in_flight: usize, poll: impl FnMut(&mut Stage) -> SourceEvent) -> Ended {
    let (script, context) = scene(class, max_in_flight, poll);
    run(script, context)
}

fn scene<F: FnMut(&mut Stage) -> SourceEvent>(class: Class, max_in_flight: usize, poll: F) -> (Script<F>, Context<Restless>) {
    let clock = Restless::default();
    let (engine_sender, engine) = unbounded_channel();
    let (intake, inbox) = channel();
    let stage = Stage {
        now: Duration::ZERO,
        paused: BTreeSet::new(),
        starts: Vec::new(),
        commits: Vec::new(),
        answers: Vec::new(),
        accepts_commits: true,
        refuses_topic: None,
        answers_commits: true,
        engine,
        intake,
        handed: Vec::new(),
        metrics: Metrics::new(&[], &["source".to_owned()]).unwrap(),
    };
    let context = Context {
        class,
        settings: super::super::settings::Settings { max_in_flight, ..settings() },
        clock: clock.clone(),
        engine: engine_sender,
        inbox,
        metrics: Arc::clone(&stage.metrics),
        health: Health::new(),
        positions: Positions::default(),
    };
    (Script { stage, clock, polls: 0, poll }, context)
}

fn name(topic: &str) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition: 0 }
}

fn assigned(topic: &str, committed: Option<i64>, low: i64, high: i64) -> Assigned {
    let committed = committed.map(|offset| (offset, String::new()));
    Assigned { partition: name(topic), committed, latest: None, low, high }
}

fn end() -> SourceEvent {
    SourceEvent::Fatal("the script is over".into())
}

fn settled(ticket: &Ticket) -> Return {
    let success = Success::proven_by(Verdict::Delivered).unwrap();
    Return { ticket: ticket.clone(), returned: Returned::Settled(Settlement::delivered(success)) }
}

#[test]
fn a_failed_commit_whose_partition_is_gone_does_not_keep_intake_waiting_for_ever() {
    let mut step = 0;
    let ended = play(Class::Fresh, 16, |stage| {
        step += 1;
        match step {
            1 => {
                stage.accepts_commits = false;
                SourceEvent::Assigned(vec![assigned("source", None, 0, 0)])
            }
            // By now a commit has failed; the broker comes back and the group has gone on without us.
            10 => {
                stage.accepts_commits = true;
                SourceEvent::Lost(vec![name("source")])
            }
            11 => SourceEvent::Assigned(vec![assigned("source", Some(0), 0, 0)]),
            _ if stage.now > secs(25) => {
                assert!(stage.paused.is_empty(), "nothing is left to commit and it still does not read");
                end()
            }
            _ => SourceEvent::Nothing,
        }
    });
    assert!(matches!(ended, Ended::Fatal(_)));
}

#[test]
fn while_commits_fail_nothing_is_taken_in_and_once_they_succeed_it_goes_on() {
    let mut step = 0;
    play(Class::Fresh, 16, |stage| {
        step += 1;
        stage.accepts_commits = stage.now > secs(25);
        match step {
            1 => SourceEvent::Assigned(vec![assigned("source", None, 0, 0)]),
            _ if stage.now > secs(20) && stage.now < secs(24) => {
                assert!(!stage.paused.is_empty());
                SourceEvent::Nothing
            }
            _ if stage.now > secs(30) => {
                assert!(stage.paused.is_empty());
                end()
            }
            _ => SourceEvent::Nothing,
        }
    });
}

#[test]
fn a_topic_whose_commits_are_refused_rests_and_no_other_does() {
    let mut step = 0;
    play(Class::Fresh, 16, |stage| {
        step += 1;
        stage.refuses_topic = (stage.now < secs(25)).then_some("source");
        let rests = |topic: &str| stage.paused.iter().any(|(paused, _)| paused == topic);
        match step {
            1 => return SourceEvent::Assigned(vec![assigned("source", None, 0, 0), assigned("other", None, 7, 7)]),
            _ if stage.now < secs(9) => assert!(!rests("source"), "a refusal may pass"),
            _ if stage.now > secs(12) && stage.now < secs(24) => assert!(rests("source") && !rests("other")),
            _ if stage.now > secs(30) => {
                assert!(!rests("source"), "accepted, and it still does not read");
                assert_eq!(stage.commits, [("other".to_owned(), 7), ("source".to_owned(), 0)], "each once, the other topic's at once");
                return end();
            }
            _ => {}
        }
        SourceEvent::Nothing
    });
}

#[test]
fn while_a_commit_has_no_answer_it_is_still_told_how_much_is_unfinished() {
    let mut step = 0;
    play(Class::Fresh, 16, |stage| {
        step += 1;
        stage.answers_commits = false;
        match step {
            1 => SourceEvent::Assigned(vec![assigned("source", None, 0, 9)]),
            20 => SourceEvent::Batch((0..4).map(|n| record("source", n, EPOCH, "{}", &[])).collect()),
            60 => {
                let told = stage.metrics.render();
                assert!(told.contains("callbackd_unfinished_span{partition=\"0\",topic=\"source\"} 4\n"), "{told}");
                end()
            }
            _ => SourceEvent::Nothing,
        }
    });
}

#[test]
fn heads_of_long_tiers_never_keep_the_short_ones_from_being_read() {
    let long = ["callbackd.retry.6h", "callbackd.retry.1h", "callbackd.retry.10m", "callbackd.retry.1m"];
    let (mut step, mut next) = (0, [0_i64; 4]);
    play(Class::Retry, 1, |stage| {
        step += 1;
        if step == 1 {
            let topics = long.iter().chain(&["callbackd.retry.1s"]);
            return SourceEvent::Assigned(topics.map(|t| assigned(t, None, 0, 100)).collect());
        }
        let append = EPOCH.plus(stage.now);
        let open = (0..4).find(|n| next[*n] < 100 && !stage.paused.contains(&(long[*n].to_owned(), 0)));
        if stage.now < secs(20)
            && let Some(n) = open
        {
            next[n] += 1;
            return SourceEvent::Batch(vec![record(long[n], next[n] - 1, append, "{}", &[])]);
        }
        if stage.now < secs(20) {
            return SourceEvent::Nothing;
        }
        assert!(!stage.paused.contains(&("callbackd.retry.1s".to_owned(), 0)), "the short tier rests for the long ones");
        if stage.now < secs(21) {
            return SourceEvent::Batch(vec![record("callbackd.retry.1s", 0, EPOCH.plus(secs(15)), "{}", &[])]);
        }
        assert!(stage.handed.iter().any(|t| &*t.assignment.topic == "callbackd.retry.1s"));
        end()
    });
}

#[test]
fn when_retention_overtakes_reading_what_is_in_memory_is_still_ours_and_not_committed_past() {
    let mut step = 0;
    play(Class::Fresh, 16, |stage| {
        step += 1;
        match step {
            1 => SourceEvent::Assigned(vec![assigned("source", Some(0), 0, 10)]),
            2 => SourceEvent::Batch((0..2).map(|n| record("source", n, EPOCH, "{}", &[])).collect()),
            3 => SourceEvent::OutOfRange { outside: vec![assigned("source", Some(2), 5, 10)], unsure: vec![] },
            20 => {
                assert_eq!(stage.starts, [("source".to_owned(), 0), ("source".to_owned(), 5)]);
                assert_eq!(stage.handed.len(), 2);
                assert!(stage.handed.iter().all(|t| t.assignment.phase() == Phase::Active), "nobody else can read them again");
                assert!(stage.commits.iter().all(|(_, offset)| *offset == 0), "{:?}", stage.commits);
                stage.intake.send(ToIntake::Returns(stage.handed.iter().map(settled).collect())).unwrap();
                SourceEvent::Nothing
            }
            40 => {
                assert_eq!(stage.commits.last(), Some(&("source".to_owned(), 5)));
                end()
            }
            _ => SourceEvent::Nothing,
        }
    });
}

#[test]
fn what_was_out_of_range_and_is_in_the_log_again_begins_anew_at_its_commit_and_what_is_repeated_is_told() {
    let mut step = 0;
    play(Class::Fresh, 16, |stage| {
        step += 1;
        match step {
            1 => SourceEvent::Assigned(vec![assigned("source", Some(0), 0, 10), assigned("other", Some(0), 0, 10)]),
            2 => SourceEvent::Batch((0..4).map(|n| record("source", n, EPOCH, "{}", &[])).collect()),
            4 => {
                stage.accepts_commits = false;
                stage.intake.send(ToIntake::Returns(stage.handed[..2].iter().map(settled).collect())).unwrap();
                SourceEvent::Nothing
            }
            10 => SourceEvent::OutOfRange { outside: vec![], unsure: vec![assigned("source", Some(0), 0, 20)] },
            11 => {
                assert_eq!(stage.starts.last(), Some(&("source".to_owned(), 0)), "nothing above the commit is skipped");
                assert!(stage.handed.iter().all(|t| t.assignment.phase() == Phase::Fenced));
                let told = stage.metrics.render();
                assert!(told.contains("callbackd_possible_repeats_total 2\n"), "{told}");
                stage.accepts_commits = true;
                SourceEvent::Batch((0..4).map(|n| record("source", n, EPOCH, "{}", &[])).collect())
            }
            20 => {
                assert_eq!(stage.handed.iter().map(|t| t.offset).collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1, 2, 3]);
                end()
            }
            _ => SourceEvent::Nothing,
        }
    });
}

#[test]
fn a_log_that_may_be_another_one_is_read_from_its_start_where_retention_has_passed_the_commit() {
    let mut step = 0;
    play(Class::Fresh, 16, |stage| {
        step += 1;
        match step {
            1 => SourceEvent::Assigned(vec![assigned("source", Some(0), 0, 10)]),
            2 => SourceEvent::Batch((0..4).map(|n| record("source", n, EPOCH, "{}", &[])).collect()),
            10 => SourceEvent::OutOfRange { outside: vec![], unsure: vec![assigned("source", Some(0), 2, 20)] },
            11 => {
                assert_eq!(stage.starts.last(), Some(&("source".to_owned(), 2)));
                SourceEvent::Batch((2..4).map(|n| record("source", n, EPOCH, "{}", &[])).collect())
            }
            20 => {
                assert_eq!(
                    stage.handed.iter().map(|t| t.offset).collect::<Vec<_>>(),
                    [0, 1, 2, 3, 2, 3],
                    "none is taken for one read before"
                );
                end()
            }
            _ => SourceEvent::Nothing,
        }
    });
}

#[test]
fn told_to_leave_in_the_middle_of_a_revoke_it_leaves_though_cut_attempts_never_come_back() {
    let mut step = 0;
    let ended = play(Class::Fresh, 16, |stage| {
        step += 1;
        match step {
            1 => SourceEvent::Assigned(vec![assigned("source", None, 0, 10), assigned("other", None, 0, 10)]),
            2 => SourceEvent::Batch(vec![record("source", 0, EPOCH, "{}", &[]), record("other", 0, EPOCH, "{}", &[])]),
            3 => {
                stage.intake.send(ToIntake::Drain).unwrap();
                stage.intake.send(ToIntake::Leave).unwrap();
                SourceEvent::Revoking(vec![name("other")])
            }
            _ if step > 60 => end(),
            _ => SourceEvent::Nothing,
        }
    });
    assert_eq!(ended, Ended::Left);
}

#[test]
fn a_long_grace_is_waited_for_in_short_turns_so_that_the_loop_beats_and_heads_of_what_stays_are_released() {
    let (script, mut context) = scene(Class::Retry, 16, |_| SourceEvent::Nothing);
    context.settings.revoke_grace = Duration::from_secs(60);
    let mut intake = Loop::new(script, context);
    let (kept, going) = ("callbackd.retry.1m", "callbackd.retry.5s");
    let now = EPOCH.plus(Duration::from_secs(3));
    for event in [
        SourceEvent::Assigned(vec![assigned(kept, None, 0, 10), assigned(going, None, 0, 10)]),
        SourceEvent::Batch(vec![
            record(kept, 0, now.minus(Duration::from_secs(59)), "{}", &[]),
            record(going, 0, EPOCH.minus(Duration::from_secs(9)), "{}", &[]),
        ]),
    ] {
        assert_eq!(intake.on_event(event), None);
    }
    let _ = intake.turn();
    assert_eq!(intake.on_event(SourceEvent::Revoking(vec![name(going)])), None);
    let mut handed = Vec::new();
    for _ in 0..100 {
        match intake.turn() {
            Ok(Wait::Returns { timeout }) => assert!(timeout <= Duration::from_millis(100), "{timeout:?}"),
            Ok(Wait::Source { .. }) => panic!("the source is polled in the middle of a revoke"),
            Err(ended) => panic!("{ended:?}"),
        }
        while let Ok(message) = intake.source.stage.engine.try_recv() {
            let ToEngine::Batch(batch) = message else { continue };
            handed.extend(batch.into_iter().map(|one| one.ticket.assignment.topic.to_string()));
        }
    }
    assert_eq!(handed, [going, kept]);
}

#[test]
fn what_comes_back_unsettled_is_never_committed_past() {
    let mut step = 0;
    let mut commits = Vec::new();
    let ended = play(Class::Fresh, 16, |stage| {
        step += 1;
        commits.clone_from(&stage.commits);
        match step {
            1 => SourceEvent::Assigned(vec![assigned("source", None, 0, 3)]),
            2 => SourceEvent::Batch((0..3).map(|offset| record("source", offset, EPOCH, "{}", &[])).collect()),
            4 => {
                let [first, second, third] = &stage.handed[..] else { panic!("three records were handed over: {:?}", stage.handed) };
                let unsettled = Return { ticket: second.clone(), returned: Returned::Unsettled };
                stage.intake.send(ToIntake::Returns(vec![settled(first), unsettled, settled(third)])).unwrap();
                SourceEvent::Nothing
            }
            40 => end(),
            _ => SourceEvent::Nothing,
        }
    });
    assert!(matches!(ended, Ended::Fatal(_)));
    let last = commits.last().map(|(_, offset)| *offset);
    assert_eq!(last, Some(1), "offset 0 is settled and committed, 1 is not: {commits:?}");
}
