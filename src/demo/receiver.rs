//! The receivers: one small HTTP/1.1 server on loopback, a path per push domain, each verifying and then behaving as its case says.
//!
//! Written by hand on sockets, because some of them must misbehave below HTTP, and because a server that shares no code with the daemon's
//! client cannot share its mistakes. It reads what the daemon sends (a `content-length`, no chunks) and nothing more.

use super::ledger::Ledger;
use super::scene::{Answer, Case};
use super::verify::{Signed, verify};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The longest request, in bytes: those of the demo are far below it.
const LONGEST: usize = 64 * 1024;

/// The receivers, running on a thread of their own until the process ends.
pub(super) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    cases: Arc<Vec<Case>>,
    ledger: Arc<Ledger>,
    started: Instant,
    repaired: AtomicBool,
}

impl Receiver {
    /// Starts them on a free port.
    pub(super) fn start(cases: Arc<Vec<Case>>, ledger: Arc<Ledger>) -> io::Result<Self> {
        let shared = Arc::new(Shared { cases, ledger, started: Instant::now(), repaired: AtomicBool::new(false) });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = shared.clone();
        thread::Builder::new().name("receivers".into()).spawn(move || runtime.block_on(serve(listener, serving)))?;
        Ok(Self { address, shared })
    }

    /// Where they listen.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Time since they were started: their behaviour goes by it.
    pub(super) fn age(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// From now on the broken one answers 200.
    pub(super) fn repair(&self) {
        self.shared.repaired.store(true, Ordering::Relaxed);
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            // A connection that ends, ends; the daemon opens another.
            tokio::spawn(async move { while_open(stream, &shared).await });
        }
    }
}

/// Serves one connection, request after request.
async fn while_open(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = next(&mut stream, &mut buffer).await? {
        let (status, line, retry_after) = match shared.judge(&request) {
            Answer::HangUp => return Ok(()),
            Answer::Later(seconds) => (429, "Too Many Requests", format!("retry-after: {seconds}\r\n")),
            Answer::Status(status, after) => {
                tokio::time::sleep(after).await;
                (status, if status == 200 { "OK" } else { "Not Today" }, String::new())
            }
        };
        let body = r#"{"code":0}"#;
        let answer = format!(
            "HTTP/1.1 {status} {line}\r\ncontent-type: application/json\r\n{retry_after}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        // Only what was answered is delivered.
        if status == 200 {
            shared.ledger.delivered(request.header("webhook-id"));
        }
    }
    Ok(())
}

impl Shared {
    /// Verifies `request` and says what it gets.
    fn judge(&self, request: &Request) -> Answer {
        let label = request.path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let id = request.header("webhook-id");
        let index = self.cases.iter().position(|case| case.label() == label).unwrap_or(usize::MAX);
        let (Some((nth, original)), Some(case)) = (self.ledger.received(id, index), self.cases.get(index)) else {
            return Answer::Status(404, Duration::ZERO);
        };
        let signed = Signed {
            id,
            timestamp: request.header("webhook-timestamp"),
            signature: request.header("webhook-signature"),
            body: &request.body,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let verdict = verify(&case.keys, &signed, &original, i64::try_from(now).unwrap_or(i64::MAX));
        self.ledger.checked(id, verdict);
        // What cannot be verified is not accepted.
        match verdict {
            Ok(()) => case.behaviour.answer(nth, self.started.elapsed(), self.repaired.load(Ordering::Relaxed)),
            Err(_) => Answer::Status(401, Duration::ZERO),
        }
    }
}

/// A request, as read.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Empty when it is not there.
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// The next request; `None` when the connection ended or sent what is no request.
async fn next(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        match parse(buffer) {
            Parsed::Request(request, length) => {
                buffer.drain(..length);
                return Ok(Some(request));
            }
            Parsed::No => return Ok(None),
            Parsed::Incomplete if buffer.len() > LONGEST => return Ok(None),
            Parsed::Incomplete => {}
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// A whole request, and how many bytes it took.
    Request(Request, usize),
    Incomplete,
    No,
}

fn parse(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Parsed::Incomplete };
    let Some(mut lines) = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok()).map(|head| head.split("\r\n")) else {
        return Parsed::No;
    };
    let Some(path) = lines.next().and_then(|line| line.strip_prefix("POST ")).and_then(|line| line.strip_suffix(" HTTP/1.1")) else {
        return Parsed::No;
    };
    let Some(headers) =
        lines.map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))).collect()
    else {
        return Parsed::No;
    };
    let mut request = Request { path: path.to_owned(), headers, body: Vec::new() };
    let Ok(length) = request.header("content-length").parse::<usize>() else { return Parsed::No };
    let (from, to) = (end + 4, (end + 4).saturating_add(length));
    match bytes.get(from..to) {
        Some(body) => {
            request.body = body.to_vec();
            Parsed::Request(request, to)
        }
        None => Parsed::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scene::{Behaviour, cases};
    use bytes::Bytes;
    use std::io::{Read as _, Write as _};

    const ASKED: &[u8] = b"POST /arena/recording_file HTTP/1.1\r\nHost: x\r\nWebhook-Id: demo-1\r\ncontent-length: 2\r\n\r\n{}";

    #[test]
    fn a_request_is_read_however_it_is_cut_and_what_follows_is_left() {
        for cut in 0..ASKED.len() {
            assert_eq!(parse(&ASKED[..cut]), Parsed::Incomplete, "{cut}");
        }
        let Parsed::Request(request, length) = parse(&[ASKED, b"POST"].concat()) else { panic!("no request") };
        assert_eq!(
            (request.path.as_str(), request.header("webhook-id"), request.body.as_slice(), length),
            ("/arena/recording_file", "demo-1", &b"{}"[..], ASKED.len())
        );
    }

    #[test]
    fn what_is_no_callback_is_hung_up_on() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nno colon\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::No, "{text}");
        }
    }

    #[test]
    fn an_unsigned_request_is_refused_and_counts_against_the_account() {
        let cases = Arc::new(cases());
        assert_eq!(cases[0].behaviour, Behaviour::Good);
        let ledger = Arc::new(Ledger::new(cases.len()));
        ledger.produced("demo-1".into(), 0, Bytes::from_static(b"{}"));
        let receiver = Receiver::start(cases, ledger.clone()).unwrap();
        let mut stream = std::net::TcpStream::connect(receiver.address()).unwrap();
        stream.write_all(ASKED).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
        let account = ledger.account();
        assert_eq!((account.requests, account.verified, account.total.delivered), (1, 0, 0));
    }
}
