//! The receiver over real sockets, in one process.

use super::*;
use crate::domain::id::EventId;
use crate::domain::signature::webhook_signature;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use zeroize::Zeroizing;

fn key() -> SharedKey {
    SharedKey::new(Some(Zeroizing::new(b"adasda131312".to_vec())), None).unwrap()
}

/// Lines as they are printed.
#[derive(Clone)]
struct Printed(mpsc::Sender<String>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A running receiver.
struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    printed: mpsc::Receiver<String>,
    thread: std::thread::JoinHandle<io::Result<()>>,
}

fn start(key: Option<SharedKey>, status: u16, delay: Duration) -> Running {
    let (sender, printed) = mpsc::channel();
    let shared = Shared::new(key, StatusCode::from_u16(status).unwrap(), delay, Box::new(io::LineWriter::new(Printed(sender))));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = shared.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(listener, &serving, std::future::pending()))
    });
    Running { address, shared, printed, thread }
}

impl Running {
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn line(&self) -> String {
        self.printed.recv_timeout(Duration::from_secs(20)).expect("a line")
    }

    fn end(self) -> Counts {
        self.shared.open.send_replace(false);
        self.thread.join().unwrap().unwrap();
        self.shared.told().counts
    }
}

fn post(id: &str, body: &str) -> String {
    let now = wall_clock().as_secs();
    let signature = webhook_signature(&[key().signing()], &EventId::parse(id.as_bytes()).unwrap(), now, body.as_bytes());
    format!(
        "POST /cb?x=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nwebhook-id: {id}\r\nwebhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn what_verifies_gets_the_status_and_a_line_and_a_repeat_is_told() {
    let running = start(Some(key()), 200, Duration::ZERO);
    let answer = running.ask(&post("evt_1", "{\"app\":\"a.example\"}"));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"code\":0}"), "{answer}");
    let line = running.line();
    assert!(line.contains(" 200 verified id=evt_1 type=100 domain=a.example bytes=19") && !line.contains("repeat"), "{line}");
    running.ask(&post("evt_1", "{\"app\":\"a.example\"}"));
    assert!(running.line().contains(" repeat=2"));
    assert_eq!(running.end(), Counts { callbacks: 2, refused: 0, repeats: 1 });
}

#[test]
fn what_does_not_verify_gets_401_and_makes_no_genuine_one_a_repeat() {
    let running = start(Some(key()), 204, Duration::ZERO);
    let forged = post("evt_1", "{\"app\":\"a.example\"}").replace("a.example", "b.example");
    assert!(running.ask(&forged).starts_with("HTTP/1.1 401 "));
    let line = running.line();
    assert!(line.contains(" 401 refused id=evt_1 ") && line.contains("webhook-signature does not match"), "{line}");
    assert!(running.ask(&post("evt_1", "{\"app\":\"a.example\"}")).starts_with("HTTP/1.1 204 "));
    assert!(!running.line().contains("repeat"));
    let answer = running.ask("GET /cb HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(running.line().contains(" 405 refused why=\"GET is no callback"));
    assert_eq!(running.end(), Counts { callbacks: 3, refused: 2, repeats: 0 });
}

#[test]
fn without_a_key_everything_is_taken_and_called_unverified() {
    let running = start(None, 503, Duration::ZERO);
    assert!(running.ask(&post("evt_1", "{}").replace("v1,", "v1,x")).starts_with("HTTP/1.1 503 "));
    assert!(running.line().contains(" 503 unverified id=evt_1 bytes=2"));
    running.end();
}

#[test]
fn its_end_does_not_wait_for_answers_that_are_late_on_purpose_and_does_not_lose_them() {
    let running = start(Some(key()), 200, Duration::from_secs(300));
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.write_all(post("evt_1", "{}").as_bytes()).unwrap();
    running.line();
    running.end();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_reader_that_has_gone_ends_it() {
    let running = start(None, 200, Duration::ZERO);
    drop(running.printed);
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.write_all(post("evt_1", "{}").as_bytes()).unwrap();
    running.thread.join().unwrap().unwrap();
    assert_eq!(running.shared.told().broken.as_ref().map(io::Error::kind), Some(io::ErrorKind::BrokenPipe));
}
