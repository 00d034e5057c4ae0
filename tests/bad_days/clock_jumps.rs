//! Our clock jumps by an hour, forth and back, under a running daemon. Beyond a minute of the broker's it is not ready, takes nothing in and
//! judges nothing by age; delays follow the broker's clock throughout; when the clock is right again, everything goes on.
//!
//! The clock is shifted by `shifted_clock.c`, preloaded into the daemon: built with the C compiler that the daemon's own build needs.

use super::{NO_CIRCUIT, accepting, assert_no_letters, events, id};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const HOUR: i64 = 3600;

/// The shift of one daemon's wall clock.
pub(super) struct Clock(std::fs::File);

impl Clock {
    /// Builds what shifts the clock, in the scene's directory, and has its daemons use it. Not shifted yet.
    pub(super) fn of(scene: &mut Scene) -> Self {
        let library = scene.dir.join("shifted_clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_days/shifted_clock.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let file = scene.dir.join("shift");
        std::fs::write(&file, 0_i64.to_ne_bytes()).unwrap();
        scene.environment.push(("LD_PRELOAD".into(), library.to_string_lossy().into_owned()));
        scene.environment.push(("SHIFTED_CLOCK".into(), file.to_string_lossy().into_owned()));
        Self(std::fs::OpenOptions::new().write(true).open(file).unwrap())
    }

    /// From now on the clock is so many seconds ahead of the true one.
    pub(super) fn jump_to(&self, seconds: i64) {
        self.0.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}

#[test]
fn a_clock_that_jumps_by_an_hour_forth_and_back_stops_intake_and_kills_nothing() {
    // Events that end with 0 fail until their third attempt. Every first attempt takes a second: the clock jumps in the middle of it.
    let (receiver, accepted) = accepting(|request, nth| {
        let status = if request.id().ends_with('0') && nth < 3 { 503 } else { 200 };
        Answer::Slow(Duration::from_millis(if nth == 1 { 1000 } else { 0 }), status)
    });
    let mut scene = Scene::new("clock-jumps", 1);
    scene.delivery = NO_CIRCUIT.into();
    // An age of ten minutes: by a clock that is an hour ahead, everything that waits would be too old.
    let policy = "retry = { delays = [\"1s\"], attempts = 10, max_age = \"10m\", max_wait = \"10m\" }";
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), policy);
    let clock = Clock::of(&mut scene);
    let mut daemon = scene.start();
    // The broker's clock is known from the first requeue on: this one is requeued twice.
    scene.producer.send_all(scene.source(), &events("shop.example", 0..1));
    accepted.wait(1, SOON);

    let mut expected = 1;
    for (round, shift) in [HOUR, -HOUR].into_iter().enumerate() {
        let first = 100 * (round + 1);
        scene.producer.send_all(scene.source(), &events("shop.example", first..first + 20));
        receiver.wait("first attempts are running", SOON, |r| r.iter().filter(|r| r.id() == id("shop.example", first)).count() == 1);
        clock.jump_to(shift);
        await_true("not ready, for its clock", SOON, || {
            daemon.readyz().is_some_and(|(status, why)| status == 503 && why.contains("clock"))
        });
        assert!(daemon.livez().is_some_and(|(status, _)| status == 200), "live all the same");
        let skew = daemon.metric("callbackd_clock_skew_seconds", &[]);
        assert!((skew - shift as f64).abs() < 30.0, "skew {skew} s, the clock is {shift} s off");
        // What was at hand is settled; nothing new is taken in.
        daemon.wait_metric("callbackd_in_flight", &[], 0.0);
        // The client's waits are on the wall clock: a poll that began before it went back ends with the first record.
        scene.producer.send_all(scene.source(), &events("shop.example", first + 20..first + 21));
        std::thread::sleep(Duration::from_secs(1));
        scene.producer.send_all(scene.source(), &events("shop.example", first + 21..first + 40));
        std::thread::sleep(Duration::from_secs(3));
        // A poll that only keeps the client's callbacks going may bring a record: a few of the twenty, until partitions are paused.
        assert!(!accepted.has(&id("shop.example", first + 39)), "nothing is taken in by a clock that is {shift} s off");
        assert_no_letters(&scene);
        let back = Instant::now();
        clock.jump_to(0);
        expected += 40;
        accepted.wait(expected, Duration::from_secs(30));
        assert!(back.elapsed() < Duration::from_secs(20), "it goes on at once, not after an hour");
        await_true("ready again", SOON, || daemon.readyz().is_some_and(|(status, _)| status == 200));
    }
    super::wait_quiet(&scene);
    assert_no_letters(&scene);
    assert_eq!((accepted.ids(), accepted.repeats()), (expected, 0));
    // Retries came by the broker's clock: a second apart, whatever ours said.
    for n in [0, 100, 110, 200, 210] {
        let times: Vec<Instant> = receiver.requests().iter().filter(|r| r.id() == id("shop.example", n)).map(|r| r.at).collect();
        assert_eq!(times.len(), 3, "event {n}");
        assert!(times.windows(2).all(|w| w[1] - w[0] >= Duration::from_millis(900)), "event {n}: {times:?}");
    }
    daemon.stop();
}
