//! The admin edge through real sockets on loopback.

use super::*;
use crate::domain::class::Class;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

struct Served {
    address: SocketAddr,
    health: Arc<Health>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

fn serve_one() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new(&["5s".into()], &["recording.completed".into()]).unwrap();
    let health = Health::new();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = serve(listener, metrics, health.clone(), async move {
        let _ = stopped.await;
    })
    .unwrap();
    Served { address, health, stop: Some(stop), thread }
}

impl Served {
    /// Status, headers and body of one request.
    fn ask(&self, request_line: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "{request_line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }

    fn end(mut self) {
        drop(self.stop.take());
        self.thread.join().unwrap();
    }
}

#[test]
fn metrics_are_served_as_prometheus_text() {
    let served = serve_one();
    let (status, head, body) = served.ask("GET /metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("callbackd_events_consumed_total{topic=\"recording.completed\"} 0\n"), "{body}");
    served.end();
}

#[test]
fn readiness_answers_503_with_a_reason_for_each_no_and_200_once_all_is_well() {
    let served = serve_one();
    let (status, _, body) = served.ask("GET /readyz");
    assert_eq!(status, 503);
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["ok"], false);
    let refusals: Vec<_> = answer["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    assert_eq!(refusals.len(), 4);
    assert!(refusals.iter().all(|check| check["reason"].as_str().is_some_and(|reason| !reason.is_empty())), "{body}");

    served.health.registry_loaded();
    for class in Class::ALL {
        served.health.set_joined(class, true);
    }
    let (status, _, body) = served.ask("GET /readyz");
    assert_eq!((status, body.contains("\"ok\":false")), (200, false), "{body}");

    served.health.draining();
    let (status, _, body) = served.ask("GET /readyz");
    assert_eq!((status, body.contains("draining")), (503, true), "{body}");
    served.end();
}

#[test]
fn liveness_does_not_ask_for_readiness() {
    let served = serve_one();
    let _beat = served.health.heartbeat("engine");
    let (status, _, body) = served.ask("GET /livez");
    assert_eq!((status, body.as_str()), (200, r#"{"checks":[{"name":"loop:engine","ok":true}],"ok":true}"#));
    served.end();
}

#[test]
fn other_paths_and_methods_are_refused() {
    let served = serve_one();
    for (request, expected) in
        [("GET /", 404), ("GET /v1/events", 404), ("GET /metrics/", 404), ("POST /metrics", 405), ("HEAD /livez", 200)]
    {
        assert_eq!(served.ask(request).0, expected, "{request}");
    }
    served.end();
}

#[test]
fn a_client_that_never_finishes_its_request_does_not_hold_up_the_end() {
    let served = serve_one();
    let mut slow = TcpStream::connect(served.address).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    assert_eq!(served.ask("GET /livez").0, 200);
    let began = std::time::Instant::now();
    served.end();
    assert!(began.elapsed() < CLOSING + Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_asks_for_metrics_without_end_gets_one_answer_a_connection() {
    let served = serve_one();
    let mut greedy = TcpStream::connect(served.address).unwrap();
    greedy.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    greedy.write_all("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20).as_bytes()).unwrap();
    let mut text = Vec::new();
    // A connection that is closed with requests unread may be reset after the answer.
    let _ = greedy.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
    assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
    served.end();
}

/// What `work` sees of a server with these limits, at its address.
fn limited<R: Send + 'static>(connections: usize, silence: Duration, work: impl FnOnce(SocketAddr) -> R + Send + 'static) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limited = Limited::with_limits(listener, connections, silence);
        let shown = Shown { metrics: Metrics::new(&[], &[]).unwrap(), rendered: Arc::default(), health: Health::new() };
        let server = tokio::spawn(axum::serve(limited, router(shown)).into_future());
        let seen = tokio::task::spawn_blocking(move || work(address)).await.unwrap();
        server.abort();
        seen
    })
}

/// Trickles a request until it is ended, or a thousand bytes are gone.
fn trickle(client: &mut TcpStream) -> usize {
    let mut written = 0;
    while client.write_all(b"x").is_ok() && written < 1000 {
        written += 1;
        std::thread::park_timeout(Duration::from_millis(10));
    }
    written
}

#[test]
fn a_trickling_client_is_ended() {
    let trickled = limited(2, Duration::from_millis(200), |address| {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
        trickle(&mut client)
    });
    assert!(trickled < 1000, "the trickling client was never ended");
}

#[test]
fn whoever_holds_all_connections_gives_the_oldest_to_the_next() {
    let (text, trickled, others) = limited(3, Duration::from_secs(600), |address| {
        let mut held: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &mut held {
            client.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
        }
        let mut next = TcpStream::connect(address).unwrap();
        next.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        next.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        next.read_to_string(&mut text).unwrap();
        let trickled = trickle(&mut held[0]);
        held[2].write_all(b"host: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut other = String::new();
        held[2].read_to_string(&mut other).unwrap();
        (text, trickled, other)
    });
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(trickled < 1000, "the oldest was never ended");
    assert!(others.starts_with("HTTP/1.1 200"), "the others are served: {others}");
}
