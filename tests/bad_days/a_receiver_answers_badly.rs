//! Receivers that answer after the time-out, or answer 200 and close half-way through the body. The verdict falls when status and headers
//! are read; what comes later changes nothing, and never becomes the answer to another callback.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, id};
use crate::harness::SOON;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, simple_registry};
use std::time::Duration;

#[test]
fn an_answer_after_the_time_out_is_a_time_out_and_never_answers_the_next_callback() {
    // The first attempt of event 1 is answered with 200, long after its time-out. Event 2 is refused at first: were the late 200 taken for
    // its answer, nobody would ask again.
    let late = id("shop.example", 1);
    let (receiver, accepted) = accepting(move |request, nth| match nth {
        1 if request.id() == late => Answer::Slow(Duration::from_millis(1800), 200),
        1 if request.id() != "shop-example-0" => Answer::Status(503),
        _ => Answer::Status(200),
    });
    let mut scene = Scene::new("late-answer", 1);
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), &format!("timeout = \"1s\"\n{PATIENT}"));
    let mut daemon = scene.start();
    // A warm, pooled connection for the late answer to spoil.
    scene.producer.send_all(scene.source(), &events("shop.example", 0..1));
    receiver.wait_for(1, SOON);
    scene.producer.send_all(scene.source(), &events("shop.example", 1..2));
    daemon.wait_metric("callbackd_attempts_total", &["result=\"timeout\""], 1.0);
    // While the late answer is on its way, and after it.
    for n in 2..12 {
        scene.producer.send_all(scene.source(), &events("shop.example", n..n + 1));
        std::thread::sleep(Duration::from_millis(150));
    }
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], 12.0);
    super::wait_quiet(&scene);
    let of = |n: usize| receiver.requests().iter().filter(|r| r.id() == id("shop.example", n)).count();
    assert_eq!(of(1), 2, "the late one is retried, with the same id, and accepted");
    for n in 2..12 {
        assert_eq!(of(n), 2, "event {n} was refused once and asked again: a late answer was not taken for its own");
    }
    daemon.wait_metric("callbackd_attempts_total", &["result=\"timeout\""], 1.0);
    daemon.wait_metric("callbackd_attempts_total", &["result=\"server_error\""], 10.0);
    assert_eq!(accepted.ids(), 12);
    assert_no_letters(&scene);
    daemon.stop();
}

/// Answers of status 200 that end in the middle of their body.
fn half_answers() -> Vec<Vec<u8>> {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
    vec![
        head("content-length: 1000\r\n\r\n{\"code\":"),
        head("content-length: 1000\r\n\r\n"),
        head("transfer-encoding: chunked\r\n\r\n400\r\nabc"),
        head("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        head("transfer-encoding: chunked\r\n\r\nzzz"),
        head("content-length: 100000\r\n\r\n").into_iter().chain(vec![b'x'; 40_000]).collect(),
        head("content-encoding: gzip\r\ncontent-length: 10\r\n\r\n\u{1f}"),
    ]
}

#[test]
fn a_200_whose_body_breaks_off_is_delivered_once_and_the_next_callback_works() {
    let half = half_answers();
    let kinds = half.len();
    let (receiver, accepted) = accepting(move |request, _| {
        let n: usize = request.id().rsplit('-').next().unwrap().parse().unwrap();
        // Whole answers in between.
        if n.is_multiple_of(2) { Answer::Bytes(half[(n / 2) % half.len()].clone()) } else { Answer::Status(200) }
    });
    let mut scene = Scene::new("half-answer", 1);
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    let total = kinds * 2 * 3;
    // One by one, so that each finds what the one before left in the pool; then all at once.
    for n in 0..kinds * 2 {
        scene.producer.send_all(scene.source(), &events("shop.example", n..n + 1));
        receiver.wait_for(n + 1, SOON);
    }
    scene.producer.send_all(scene.source(), &events("shop.example", kinds * 2..total));
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], total as f64);
    super::wait_quiet(&scene);
    assert_eq!((accepted.ids(), accepted.repeats(), receiver.count()), (total, 0, total), "each once");
    daemon.wait_metric("callbackd_attempts_total", &["result=\"success\""], total as f64);
    assert!(daemon.metric("callbackd_requeued_total", &["reason=\"retry\""]).abs() < f64::EPSILON);
    assert_no_letters(&scene);
    daemon.stop();
}

#[test]
fn an_answer_without_a_request_on_an_idle_connection_answers_nobody() {
    // Two answers to one request: the second would be read as the next callback's.
    let receiver = Receiver::start(|_, nth| match nth {
        1 => Answer::With(200, vec![("x-more", "\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK".into())]),
        _ => Answer::Status(200),
    });
    let mut scene = Scene::new("two-answers", 1);
    scene.delivery = NO_CIRCUIT.into();
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), PATIENT);
    let mut daemon = scene.start();
    for n in 0..10 {
        scene.producer.send_all(scene.source(), &events("shop.example", n..n + 1));
        daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], (n + 1) as f64);
        assert_eq!(receiver.count(), n + 1, "event {n} reached its receiver before it counted as delivered");
    }
    daemon.stop();
}
