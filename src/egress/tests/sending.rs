//! Requests, answers, connections, time.

use super::receiver::{Receiver, Step, ok, write};
use super::{LONG, Notes, answered, call, client, failed, look, loopback, to};
use crate::delivery::ports::Transport;
use crate::domain::verdict::{Failure, Outcome};
use crate::egress::client::ALREADY_CLOSED;
use crate::egress::{Client, Settings, probe};
use bytes::Bytes;
use futures_util::future::{join, join_all};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn what_arrives_is_what_was_given() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let client = client();
    assert_eq!(call(&client, &receiver).await, answered(200));
    let mut empty = to(&receiver);
    empty.body = Bytes::new();
    assert_eq!(client.send(empty).await, answered(200));
    let mut large = to(&receiver);
    large.body = vec![b'x'; 3 << 20].into();
    assert_eq!(client.send(large).await, answered(200));
    let seen = receiver.seen();
    let mut lines: Vec<&str> = seen[0].head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /cb?tenant=7 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", receiver.address);
    assert_eq!(lines, ["content-length: 18", "content-type: application/json", host.as_str(), "webhook-id: evt_1"]);
    assert_eq!(seen[0].body, b"{\"event_type\":100}");
    assert!(seen[1].head.contains("\r\ncontent-length: 0\r\n"), "{}", seen[1].head);
    assert_eq!(seen[2].body.len(), 3 << 20);
}

/// Thousands of attempts run at once, and each is moved into its place: the state that connecting needs is kept elsewhere.
#[test]
fn an_attempt_takes_less_than_a_kilobyte_besides_its_request() {
    let request = super::request("http://a.example/");
    let client = client();
    let size = size_of_val(&client.send(request));
    assert!(size < 1024, "{size} bytes");
}

#[tokio::test]
async fn every_status_is_an_answer_and_redirects_are_not_followed() {
    for status in (101..=101).chain(200..=599).chain([600, 999]) {
        let head = format!("HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(move |_, _| vec![write(&head)]).await;
        assert_eq!(call(&client(), &receiver).await, answered(status), "{status}");
        assert_eq!(receiver.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let receiver = Receiver::start(|_, _| {
        vec![
            write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"),
            write("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"),
        ]
    })
    .await;
    assert_eq!(call(&client(), &receiver).await, answered(503));
}

#[tokio::test]
async fn retry_after_is_kept_when_it_is_short_visible_text() {
    let fits = "9".repeat(64);
    let table = [
        ("120".to_owned(), Some("120")),
        ("Wed, 21 Oct 2026 07:28:00 GMT".to_owned(), Some("Wed, 21 Oct 2026 07:28:00 GMT")),
        (String::new(), Some("")),
        (fits.clone(), Some(fits.as_str())),
        ("9".repeat(65), None),
        ("é".to_owned(), None),
    ];
    for (value, expected) in table {
        let head = format!("HTTP/1.1 503 X\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(move |_, _| vec![write(&head)]).await;
        let outcome = call(&client(), &receiver).await;
        assert_eq!(outcome, Outcome::Answered { status: 503, retry_after: expected.map(str::to_owned) }, "{value}");
    }
}

#[tokio::test]
async fn one_connection_serves_all_requests_that_follow_each_other() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let client = client();
    for _ in 0..100 {
        assert_eq!(call(&client, &receiver).await, answered(200));
    }
    assert_eq!(receiver.connections(), [0; 100]);
    assert_eq!(client.idle(), 1);
}

#[tokio::test]
async fn requests_at_once_get_connections_of_their_own_and_the_caps_hold_afterwards() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let mut settings = Settings::new(loopback(), 5);
    settings.max_idle = 3;
    let client = Client::new(settings, Box::new(Notes::default())).unwrap();
    for outcome in join_all((0..8).map(|_| call(&client, &receiver))).await {
        assert_eq!(outcome, answered(200));
    }
    assert_eq!(receiver.connections().iter().max(), Some(&7));
    assert_eq!(client.idle(), 3);
}

#[tokio::test]
async fn which_answers_leave_their_connection_usable() {
    let big = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", 16 * 1024 + 1, "x".repeat(16 * 1024 + 1));
    let table = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 1),
        ("HTTP/1.1 204 No Content\r\n\r\n", 1),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 1),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 1),
        ("HTTP/1.1 500 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 0),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 0),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", 0),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 0),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", 0),
        (big.as_str(), 0),
    ];
    for (answer, idle) in table {
        let bytes = answer.to_owned();
        let receiver = Receiver::start(move |_, _| vec![write(&bytes)]).await;
        let client = client();
        assert!(matches!(call(&client, &receiver).await, Outcome::Answered { .. }), "{answer}");
        assert_eq!(client.idle(), idle, "{answer:.80}");
    }
}

#[tokio::test]
async fn a_late_body_does_not_delay_the_outcome_and_its_connection_is_used_again() {
    let mut receiver = Receiver::start(|_, _| late()).await;
    let client = client();
    assert_eq!(call(&client, &receiver).await, answered(200));
    assert_eq!(client.idle(), 0);
    completes_and_is_used_again(&client, &mut receiver).await;
}

/// The late body of the receiver's only connection comes, and another call goes over that connection.
async fn completes_and_is_used_again(client: &Client, receiver: &mut Receiver) {
    receiver.go.notify_one();
    receiver.told.recv().await.unwrap();
    look().await;
    client.sweep();
    assert_eq!(client.idle(), 1);
    assert_eq!(call(client, receiver).await, answered(200));
    assert_eq!(receiver.connections(), [0, 0]);
}

#[tokio::test]
async fn an_endless_body_does_not_delay_the_outcome_and_costs_its_connection() {
    let heads = ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"];
    for (head, chunk) in heads.into_iter().zip([&b"xxxxxxxx"[..], b"8\r\nxxxxxxxx\r\n"]) {
        let mut receiver = Receiver::start(move |_, _| vec![write(head), Step::Endless(chunk)]).await;
        let client = client();
        assert_eq!(call(&client, &receiver).await, answered(200));
        // The receiver's writes fail: the client has closed.
        receiver.told.recv().await.unwrap();
        client.sweep();
        assert_eq!(client.idle(), 0);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_at_the_deadline_of_its_attempt() {
    let mut receiver = Receiver::start(|_, _| vec![write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"), Step::Hang]).await;
    let client = client();
    let mut request = to(&receiver);
    request.timeout = SHORT;
    assert_eq!(client.send(request).await, answered(200));
    receiver.told.recv().await.unwrap();
    assert_eq!(client.idle(), 0);
}

/// Answers with a head and half of a body; the other half comes when it is told to go on.
fn late() -> Vec<Step> {
    vec![write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab"), Step::Wait, write("cd"), Step::Tell]
}

/// Answers with a head and no body; the body never comes.
fn never_ending() -> Vec<Step> {
    vec![write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"), Step::Hang]
}

#[tokio::test]
async fn a_receiver_has_no_more_late_bodies_at_once_than_idle_connections_and_the_oldest_gives_way() {
    let mut receiver = Receiver::start(|connection, _| if connection < 2 { never_ending() } else { late() }).await;
    let client = Client::new(Settings::new(loopback(), 2), Box::new(Notes::default())).unwrap();
    for _ in 0..3 {
        assert_eq!(call(&client, &receiver).await, answered(200));
    }
    // The first one's connection is closed.
    receiver.told.recv().await.unwrap();
    look().await;
    assert!(receiver.told.try_recv().is_err(), "the second one is waited for");
    receiver.go.notify_one();
    receiver.told.recv().await.unwrap();
    look().await;
    client.sweep();
    assert_eq!(client.idle(), 1, "and so was the third");
}

#[tokio::test]
async fn late_bodies_of_one_receiver_do_not_cost_another_its_connections() {
    let mut dripping = Receiver::start(|_, _| never_ending()).await;
    let mut receiver = Receiver::start(|_, _| late()).await;
    let settings = Settings { max_drains: 2, ..Settings::new(loopback(), 32) };
    let client = Client::new(settings, Box::new(Notes::default())).unwrap();
    for _ in 0..2 {
        assert_eq!(call(&client, &dripping).await, answered(200));
    }
    assert_eq!(call(&client, &receiver).await, answered(200));
    // Theirs that took longest gave way.
    dripping.told.recv().await.unwrap();
    completes_and_is_used_again(&client, &mut receiver).await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_noticed_before_sending() {
    let mut receiver = Receiver::start(|_, _| ok().into_iter().chain([Step::Close]).collect()).await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(call(&client, &receiver).await, answered(200));
        receiver.told.recv().await.unwrap();
        look().await;
    }
    assert_eq!(receiver.connections(), [0, 1, 2]);
}

#[tokio::test]
async fn when_the_latest_idle_connection_is_closed_the_one_before_is_used() {
    let mut receiver = Receiver::start(|connection, _| match connection {
        0 => ok(),
        _ => [Step::Wait].into_iter().chain(ok()).chain([Step::Wait, Step::Close]).collect(),
    })
    .await;
    let client = client();
    let go = async {
        while client.idle() == 0 {
            tokio::task::yield_now().await;
        }
        receiver.go.notify_one();
    };
    join(join(call(&client, &receiver), call(&client, &receiver)), go).await;
    assert_eq!(client.idle(), 2);
    receiver.go.notify_one();
    receiver.told.recv().await.unwrap();
    look().await;
    assert_eq!(call(&client, &receiver).await, answered(200));
    assert_eq!(receiver.connections()[2..], [0]);
}

#[tokio::test]
async fn an_unrequested_answer_on_an_idle_connection_never_answers_the_next_callback() {
    let mut receiver = Receiver::start(|connection, _| match connection {
        0 => ok().into_iter().chain([Step::Wait, write("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"), Step::Tell]).collect(),
        _ => ok(),
    })
    .await;
    let client = client();
    assert_eq!(call(&client, &receiver).await, answered(200));
    receiver.go.notify_one();
    receiver.told.recv().await.unwrap();
    look().await;
    assert_eq!(call(&client, &receiver).await, answered(200));
    assert_eq!(receiver.connections(), [0, 1]);
}

/// The runtime hears of what came when it has its turn; until then, while much else is done, only the kernel knows.
#[tokio::test]
async fn an_unrequested_answer_that_came_since_the_runtimes_last_turn_never_answers_the_next_callback() {
    for late in [100, 300, 1000, 5000].map(Duration::from_micros) {
        let (address, requests) = answering_twice(late);
        let client = client();
        let url = format!("http://{address}/");
        assert_eq!(client.send(super::request(&url)).await, answered(200));
        // Its second answer is there when it says so.
        assert_eq!(requests.recv().unwrap(), 0);
        // Longer than the rest after which nobody looks.
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(client.send(super::request(&url)).await, answered(200), "{late:?}");
        assert_eq!(requests.recv().unwrap(), 1, "{late:?}: the connection of the second request");
    }
}

/// A receiver that answers 200, and 500 once more when it is `late`, in a thread of its own; it says on which connection.
fn answering_twice(late: Duration) -> (std::net::SocketAddr, std::sync::mpsc::Receiver<usize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        for (connection, tcp) in listener.incoming().enumerate() {
            let (mut tcp, tell) = (tcp.unwrap(), tell.clone());
            std::thread::spawn(move || {
                tcp.set_nodelay(true).unwrap();
                let mut bytes = [0; 4096];
                while tcp.read(&mut bytes).is_ok_and(|count| count > 0) {
                    tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    std::thread::sleep(late);
                    tcp.write_all(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n").unwrap();
                    tell.send(connection).unwrap();
                }
            });
        }
    });
    (address, told)
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_is_repeated_once_with_the_same_bytes() {
    let receiver = Receiver::start(|connection, request| if (connection, request) == (0, 1) { vec![Step::Close] } else { ok() }).await;
    let client = client();
    assert_eq!(call(&client, &receiver).await, answered(200));
    assert_eq!(call(&client, &receiver).await, answered(200));
    let seen = receiver.seen();
    assert_eq!(receiver.connections(), [0, 0, 1]);
    assert_eq!((&seen[1].head, &seen[1].body), (&seen[2].head, &seen[2].body));
}

#[tokio::test]
async fn the_repeat_is_not_repeated_even_when_more_connections_are_idle() {
    let receiver = Receiver::start(|_, request| if request == 0 { ok() } else { vec![Step::Close] }).await;
    let client = client();
    join_all((0..4).map(|_| call(&client, &receiver))).await;
    assert_eq!(client.idle(), 4);
    assert_eq!(call(&client, &receiver).await, answered(200));
    assert_eq!(receiver.seen().len(), 6);
    assert_eq!(receiver.connections()[5], 4);
}

#[tokio::test]
async fn a_request_whose_connection_breaks_only_after_a_while_may_have_been_handled_and_is_not_repeated() {
    let receiver = Receiver::start(|_, request| if request == 0 { ok() } else { vec![Step::Wait, Step::Close] }).await;
    let client = client();
    assert_eq!(call(&client, &receiver).await, answered(200));
    let go = Arc::clone(&receiver.go);
    let breaks = async {
        tokio::time::sleep(ALREADY_CLOSED + Duration::from_millis(50)).await;
        go.notify_one();
    };
    let (outcome, ()) = tokio::join!(call(&client, &receiver), breaks);
    assert_eq!(outcome, failed(Failure::Protocol));
    assert_eq!(receiver.connections(), [0, 0]);
}

#[tokio::test]
async fn a_request_whose_answer_had_begun_is_not_repeated() {
    let receiver = Receiver::start(|_, request| if request == 0 { ok() } else { vec![write("HTTP/1.1 2"), Step::Close] }).await;
    let client = client();
    assert_eq!(call(&client, &receiver).await, answered(200));
    assert_eq!(call(&client, &receiver).await, failed(Failure::Protocol));
    assert_eq!(receiver.connections(), [0, 0]);
}

#[tokio::test]
async fn what_breaks_on_a_fresh_connection_is_a_protocol_failure_and_seen_once() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let table = [
        "",
        "HTTP/1.1 200",
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 1000 X\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        &many,
        &long,
    ];
    for answer in table {
        let bytes = answer.to_owned();
        let receiver = Receiver::start(move |_, _| vec![write(&bytes), Step::Close]).await;
        assert_eq!(call(&client(), &receiver).await, failed(Failure::Protocol), "{answer:.40}");
        assert_eq!(receiver.seen().len(), 1, "{answer:.40}");
    }
}

#[tokio::test]
async fn silence_ends_at_the_total_time_out_on_fresh_and_on_used_connections() {
    let mut receiver = Receiver::start(|_, request| if request == 0 { ok() } else { vec![Step::Hang] }).await;
    let client = client();
    assert_eq!(call(&client, &receiver).await, answered(200));
    let mut request = to(&receiver);
    request.timeout = SHORT;
    let start = tokio::time::Instant::now();
    assert_eq!(client.send(request).await, failed(Failure::Timeout));
    assert!(start.elapsed() >= SHORT && start.elapsed() < LONG / 2);
    // Its connection is closed with it.
    receiver.told.recv().await.unwrap();
    assert_eq!((client.idle(), receiver.connections()), (0, vec![0, 0]));
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_refused() {
    let mut receiver = Receiver::start(|_, _| vec![Step::Endless(b"HTTP/1.1 100 Continue\r\n\r\n")]).await;
    assert_eq!(call(&client(), &receiver).await, failed(Failure::Protocol));
    // Its writes fail: the client has closed.
    receiver.told.recv().await.unwrap();
}

#[tokio::test]
async fn empty_lines_before_an_answer_are_passed_over_up_to_what_a_head_may_have() {
    let receiver = Receiver::start(|_, _| vec![write(&"\r\n".repeat(30_000)), write("\r"), write("\nHTTP/1.1 204 X\r\n\r\n")]).await;
    assert_eq!(call(&client(), &receiver).await, answered(204));
    let mut receiver = Receiver::start(|_, _| vec![Step::Endless(b"\r\n\n")]).await;
    assert_eq!(call(&client(), &receiver).await, failed(Failure::Protocol));
    receiver.told.recv().await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_is_a_connect_failure() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(client().send(super::request(&format!("http://{free}/"))).await, failed(Failure::Refused));
}

#[tokio::test]
async fn dropping_the_attempt_closes_its_connection() {
    let mut receiver = Receiver::start(|_, _| vec![Step::Tell, Step::Hang]).await;
    let client = client();
    let attempt = Box::pin(call(&client, &receiver));
    let (arrived, attempt) = {
        let mut told = Box::pin(async {
            while receiver.seen().is_empty() {
                tokio::task::yield_now().await;
            }
        });
        match futures_util::future::select(attempt, &mut told).await {
            futures_util::future::Either::Left(_) => (false, None),
            futures_util::future::Either::Right(((), attempt)) => (true, Some(attempt)),
        }
    };
    assert!(arrived);
    drop(attempt);
    receiver.told.recv().await.unwrap();
    receiver.told.recv().await.unwrap();
    assert_eq!(client.idle(), 0);
}

#[tokio::test]
async fn idle_connections_are_closed_by_the_sweep_without_traffic() {
    let mut receiver = Receiver::start(|_, _| ok().into_iter().chain([Step::Hang]).collect()).await;
    let mut settings = Settings::new(loopback(), 32);
    settings.idle_timeout = SHORT;
    let client = Client::new(settings, Box::new(Notes::default())).unwrap();
    assert_eq!(call(&client, &receiver).await, answered(200));
    client.sweep();
    assert_eq!(client.idle(), 1);
    tokio::time::sleep(SHORT).await;
    client.sweep();
    assert_eq!(client.idle(), 0);
    receiver.told.recv().await.unwrap();
}

#[tokio::test]
async fn the_probe_tells_status_and_body_and_follows_nothing() {
    let receiver = Receiver::start(|_, _| vec![write("HTTP/1.1 503 X\r\ncontent-length: 3\r\n\r\nno!")]).await;
    let answer = probe(receiver.address).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (503, "no!"));
    assert!(receiver.seen()[0].head.starts_with("GET /readyz HTTP/1.1\r\n"));
    let everywhere = std::net::SocketAddr::from(([0, 0, 0, 0], receiver.address.port()));
    assert_eq!(probe(everywhere).await.unwrap().status, 503);
    let moved = Receiver::start(|_, _| vec![write("HTTP/1.1 302 X\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")]).await;
    assert_eq!(probe(moved.address).await.unwrap().status, 302);
    let endless = Receiver::start(|_, _| vec![write("HTTP/1.1 200 OK\r\n\r\n"), Step::Endless(b"xxxx")]).await;
    assert_eq!(probe(endless.address).await.unwrap().body.len(), 16 * 1024);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(probe(free).await.unwrap_err().to_string().starts_with(&format!("no answer from {free}: ")));
}
