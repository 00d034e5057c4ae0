//! The fastest receiver that is still honest: HTTP/1.1 with keep-alive, 200 and the advised body to everything, on one thread.
//!
//! It knows each event by its running number, so that a run is over when every *distinct* one that it waits for has arrived. What it does
//! with a request is in the first part of the path:
//!
//! | path | |
//! |---|---|
//! | `/callback…` | answered at once and noted |
//! | `/slow…` | answered after [`SLOWLY`], not noted |
//! | `/hang…` | answered until event number `hang_from`, from then on held open in silence; not noted |
//!
//! Lines on its standard output: `port N`; `at COUNT MICROS` when a tenth and nine tenths have arrived; `done MICROS …` (see [`Done`]). In
//! between it writes nothing and allocates nothing per request.

use crate::events::NUMBER;
use crate::harness::processes::run_dir;
use crate::pinned::{OTHERS, Pinned};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// A receiver of these needs about twenty times the healthy answer's time for one.
const SLOWLY: Duration = Duration::from_millis(50);

/// Connections that may wait to be accepted: all endpoints of a run share this listener, and may be connected to at once. One that finds no
/// room is tried again by the kernel after a second, which would be seen as the daemon's latency.
const BACKLOG: u32 = 4096;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"code\":0}";

/// What a receiver is to be like.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Events are numbered below this.
    pub(crate) events: u64,
    /// So many distinct ones will arrive at `/callback`.
    pub(crate) expected: u64,
    /// Where `number micros` of each is written before it says `done`; 0 for one that did not arrive.
    pub(crate) arrivals: Option<PathBuf>,
    /// See above.
    pub(crate) hang_from: u64,
    /// It says `done` at the latest so long after the first arrival; 0: when all have arrived.
    pub(crate) within: Duration,
    /// TLS: files with the certificate and its key, both DER.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

impl Wanted {
    /// One that waits for `events`, all of which will arrive.
    pub(crate) fn all(events: u64) -> Self {
        Self { events, expected: events, ..Self::default() }
    }

    fn arguments(&self) -> Vec<String> {
        let Self { events, expected, hang_from, within, arrivals, tls } = self;
        let path = |path: Option<&PathBuf>| path.map_or_else(|| "-".to_owned(), |path| path.to_str().unwrap().to_owned());
        let (certificate, key) = (tls.as_ref().map(|tls| &tls.0), tls.as_ref().map(|tls| &tls.1));
        let numbers = [*events, *expected, *hang_from, within.as_secs()].map(|number| number.to_string());
        numbers.into_iter().chain([path(arrivals.as_ref()), path(certificate), path(key)]).collect()
    }

    fn read(arguments: &[&str]) -> Self {
        let [events, expected, hang_from, within, arrivals, certificate, key] = arguments else { panic!("receiver: {arguments:?}") };
        let path = |text: &&str| (*text != "-").then(|| PathBuf::from(*text));
        Self {
            events: events.parse().unwrap(),
            expected: expected.parse().unwrap(),
            hang_from: hang_from.parse().unwrap(),
            within: Duration::from_secs(within.parse().unwrap()),
            arrivals: path(arrivals),
            tls: path(certificate).zip(path(key)),
        }
    }
}

/// The last line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Events that arrived once more.
    pub(crate) repeats: u64,
    /// Expected, and not arrived in time.
    pub(crate) missing: u64,
    /// Whether the first one was signed.
    pub(crate) signed: bool,
    /// The longest time between two arrivals.
    pub(crate) longest_gap: Duration,
    /// From the first arrival to the last.
    pub(crate) took: Duration,
}

impl Done {
    /// From its line.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.strip_prefix("done ")?.split(' ').collect();
        let [repeats, missing, signed, gap, took] = words[..] else { return None };
        let micros = |text: &str| Some(Duration::from_micros(text.parse().ok()?));
        Some(Self {
            repeats: repeats.parse().ok()?,
            missing: missing.parse().ok()?,
            signed: signed.parse().ok()?,
            longest_gap: micros(gap)?,
            took: micros(took)?,
        })
    }
}

// === impl driver's side ===

/// A running receiver, seen from the driver.
pub(crate) struct Receiver {
    process: Pinned,
    pub(crate) port: u16,
}

impl Receiver {
    /// Starts one.
    pub(crate) fn start(wanted: &Wanted) -> Self {
        let arguments = wanted.arguments();
        let arguments: Vec<&str> = ["--role", "receiver"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let process = Pinned::spawn(OTHERS, &std::env::current_exe().unwrap(), &arguments, &run_dir().join("receiver.log"));
        let said = process.line(Duration::from_secs(10)).expect("the receiver says its port");
        let port = said.strip_prefix("port ").unwrap().parse().unwrap();
        Self { process, port }
    }

    /// Its next line, without waiting longer than `patience`.
    pub(crate) fn line(&self, patience: Duration) -> Option<String> {
        self.process.line(patience)
    }
}

// === impl the process ===

struct Seen {
    /// Arrival of each event in Unix microseconds; 0: not yet.
    arrived: Vec<u64>,
    expected: usize,
    distinct: usize,
    repeats: u64,
    signed: Option<bool>,
    first: u64,
    last: u64,
    longest_gap: u64,
    arrivals: Option<PathBuf>,
    finished: bool,
}

/// See [`Wanted::arguments`].
pub(crate) fn run(arguments: &[&str]) {
    let Wanted { events, expected, arrivals, hang_from, within, tls } = Wanted::read(arguments);
    let seen = Rc::new(RefCell::new(Seen {
        arrived: vec![0; usize::try_from(events).unwrap()],
        expected: usize::try_from(expected).unwrap(),
        distinct: 0,
        repeats: 0,
        signed: None,
        first: 0,
        last: 0,
        longest_gap: 0,
        arrivals,
        finished: false,
    }));
    let tls = tls.map(|(certificate, key)| acceptor(&certificate, &key));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        println!("port {}", listener.local_addr().unwrap().port());
        if !within.is_zero() {
            tokio::task::spawn_local(finish_within(within, Rc::clone(&seen)));
        }
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (seen, tls) = (Rc::clone(&seen), tls.clone());
            tokio::task::spawn_local(async move {
                match tls {
                    None => serve(stream, hang_from, seen).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, hang_from, seen).await;
                        }
                    }
                }
            });
        }
    });
}

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![read(certificate).into()], read(key).try_into().unwrap())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn finish_within(within: Duration, seen: Rc<RefCell<Seen>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let first = seen.borrow().first;
        if first > 0 && u128::from(now() - first) >= within.as_micros() {
            return seen.borrow_mut().finish();
        }
    }
}

/// Answers requests until the peer goes away.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, hang_from: u64, seen: Rc<RefCell<Seen>>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let (head, total) = match lengths(&buffer[..filled]) {
            Some((head, total)) if total <= filled => (head, total),
            wants => {
                // Room for the whole request, or for more of its head.
                let room = wants.map_or(filled + 16 * 1024, |(_, total)| total);
                if buffer.len() < room {
                    buffer.resize(room, 0);
                }
                match stream.read(&mut buffer[filled..]).await {
                    Ok(read) if read > 0 => filled += read,
                    _ => return,
                }
                continue;
            }
        };
        let (number, path) = (number(&buffer[head..total]), &buffer[5..]);
        if path.starts_with(b"/hang") {
            if number >= hang_from {
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                return;
            }
        } else if path.starts_with(b"/slow") {
            tokio::time::sleep(SLOWLY).await;
        } else {
            seen.borrow_mut().note(number, &buffer[..head], &buffer[head..total]);
        }
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
        buffer.copy_within(total..filled, 0);
        filled -= total;
    }
}

/// Length of the head and of the whole request, once all of its head is there.
fn lengths(request: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"content-length:";
    let head = find(request, b"\r\n\r\n")? + 4;
    let line = request[..head].split(|byte| *byte == b'\n').find(|l| l.len() > NAME.len() && l[..NAME.len()].eq_ignore_ascii_case(NAME));
    let body: usize = std::str::from_utf8(&line.expect("a content-length")[NAME.len()..]).unwrap().trim().parse().unwrap();
    Some((head, head + body))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn number(body: &[u8]) -> u64 {
    let number = find(body, NUMBER).and_then(|at| {
        let digits = &body[at + NUMBER.len()..];
        std::str::from_utf8(&digits[..digits.iter().position(|b| *b == b'"')?]).ok()?.parse().ok()
    });
    number.expect("an event of the benchmark")
}

impl Seen {
    fn note(&mut self, number: u64, head: &[u8], body: &[u8]) {
        let arrived = &mut self.arrived[usize::try_from(number).unwrap()];
        if *arrived != 0 {
            self.repeats += 1;
            return;
        }
        let at = now();
        *arrived = at;
        if self.first == 0 {
            (self.first, self.last) = (at, at);
        }
        self.longest_gap = self.longest_gap.max(at.saturating_sub(self.last));
        self.last = at;
        self.signed.get_or_insert_with(|| find(head, b"webhook-signature").is_some() && find(body, b"\"sign\":\"").is_some());
        self.distinct += 1;
        let all = self.expected;
        if self.distinct == all / 10 || self.distinct == all / 10 * 9 {
            println!("at {} {at}", self.distinct);
        }
        if self.distinct == all {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if let Some(path) = &self.arrivals {
            let mut text = String::new();
            for (number, micros) in self.arrived.iter().enumerate() {
                writeln!(text, "{number} {micros}").unwrap();
            }
            std::fs::write(path, text).unwrap();
        }
        let missing = self.expected.saturating_sub(self.distinct);
        let took = self.last - self.first;
        println!("done {} {missing} {} {} {took}", self.repeats, self.signed == Some(true), self.longest_gap);
    }
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}
