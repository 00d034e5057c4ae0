//! The broker freezes between a revoke and its final commit: nobody answers the commit, and the process stays live all the same. What was
//! settled and could not be committed is told, and with the broker back everything goes on.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, wait_quiet};
use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, run_dir};
use crate::harness::receiver::Answer;
use crate::harness::scene::{Scene, simple_registry};
use crate::harness::{SOON, await_true};
use std::time::{Duration, Instant};

const EVENTS: usize = 40;
/// Longer than any loop may be silent, the grace included.
const AWAY: Duration = Duration::from_secs(20);

#[test]
fn a_final_commit_that_nobody_answers_keeps_no_loop_and_no_process_from_living() {
    let broker = Broker::start(&run_dir().join("revoke-frozen"), free_port()).unwrap_or_else(|why| panic!("{why}"));
    // Under way when the partitions move, and settled within the grace: there is something to commit.
    let (receiver, accepted) = accepting(|_, nth| Answer::Slow(Duration::from_millis(if nth == 1 { 8000 } else { 0 }), 200));
    let mut scene = Scene::on(&broker, "revoke-frozen", 4);
    scene.log_level = "info";
    scene.delivery = format!("revoke_grace = \"9s\"\n{NO_CIRCUIT}");
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), &format!("{PATIENT}\ntimeout = \"15s\""));
    let mut first = scene.start();
    let rebalances = || first.metric("callbackd_rebalances_total", &["class=\"fresh\""]);
    let before = rebalances();
    let mut second = scene.launch();
    let spread: Vec<_> = events("shop.example", 0..EVENTS).into_iter().zip((0..4).cycle()).map(|(e, p)| e.partition(p)).collect();
    scene.producer.send_all(scene.source(), &spread);
    await_true("the first is asked to give partitions back", SOON, || rebalances() > before);
    assert!(accepted.ids() < EVENTS, "attempts are under way");
    broker.signal("STOP");
    let frozen = Instant::now();
    while frozen.elapsed() < AWAY {
        let live = first.livez();
        assert!(live.as_ref().is_some_and(|(status, _)| *status == 200), "{:?} after the broker froze: {live:?}", frozen.elapsed());
        std::thread::sleep(Duration::from_millis(250));
    }
    broker.signal("CONT");
    accepted.wait(EVENTS, Duration::from_secs(90));
    second.wait_ready();
    wait_quiet(&scene);
    assert_no_letters(&scene);
    let told: f64 = [&first, &second].iter().map(|d| d.metric("callbackd_possible_repeats_total", &[])).sum();
    assert!(accepted.repeats() <= told as usize, "{} repeats, {told} possible ones told", accepted.repeats());
    first.stop();
    second.stop();
}
