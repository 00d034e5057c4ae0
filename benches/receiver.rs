//! The fastest receiver that is still honest: HTTP/1.1 with keep-alive, 200 and the advised body to everything, on one thread.
//!
//! It knows each event by its running number, so that a run is over when every *distinct* event has arrived. Lines on its standard output:
//! `port N`; `at COUNT MICROS` when a tenth and nine tenths have arrived; `done MICROS repeats N signed BOOL`. In between it writes
//! nothing and allocates nothing per request.

use crate::broker::NUMBER;
use crate::pinned::{OTHERS, Pinned};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"code\":0}";

// === impl driver's side ===

/// A running receiver, seen from the driver.
pub(crate) struct Receiver {
    process: Pinned,
    pub(crate) port: u16,
}

impl Receiver {
    /// Starts one that expects `events` distinct ones and, with `arrivals`, writes `number micros` of each there before it says `done`.
    pub(crate) fn start(dir: &Path, events: u64, arrivals: Option<&Path>) -> Self {
        let events = events.to_string();
        let mut arguments = vec!["--role", "receiver", &events];
        arguments.extend(arrivals.map(|path| path.to_str().unwrap()));
        let process = Pinned::spawn(OTHERS, &std::env::current_exe().unwrap(), &arguments, &dir.join("receiver.log"));
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
    distinct: usize,
    repeats: u64,
    signed: Option<bool>,
    arrivals: Option<String>,
}

/// `EVENTS [ARRIVALS]`.
pub(crate) fn run(arguments: &[&str]) {
    let seen = Rc::new(RefCell::new(Seen {
        arrived: vec![0; arguments[0].parse().unwrap()],
        distinct: 0,
        repeats: 0,
        signed: None,
        arrivals: arguments.get(1).map(|path| (*path).to_owned()),
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("port {}", listener.local_addr().unwrap().port());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(serve(stream, Rc::clone(&seen)));
        }
    });
}

/// Answers requests until the peer goes away.
async fn serve(mut stream: TcpStream, seen: Rc<RefCell<Seen>>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut filled = 0;
    loop {
        let Some((head, total)) = lengths(&buffer[..filled]) else {
            match stream.read(&mut buffer[filled..]).await {
                Ok(read) if read > 0 => filled += read,
                _ => return,
            }
            continue;
        };
        seen.borrow_mut().note(&buffer[..head], &buffer[head..total]);
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
        buffer.copy_within(total..filled, 0);
        filled -= total;
    }
}

/// Length of the head and of the whole request, once all of it is there.
fn lengths(request: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"content-length:";
    let head = find(request, b"\r\n\r\n")? + 4;
    let line = request[..head].split(|byte| *byte == b'\n').find(|l| l.len() > NAME.len() && l[..NAME.len()].eq_ignore_ascii_case(NAME));
    let body: usize = std::str::from_utf8(&line.expect("a content-length")[NAME.len()..]).unwrap().trim().parse().unwrap();
    (request.len() >= head + body).then_some((head, head + body))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

impl Seen {
    fn note(&mut self, head: &[u8], body: &[u8]) {
        let number = find(body, NUMBER).and_then(|at| {
            let digits = &body[at + NUMBER.len()..];
            std::str::from_utf8(&digits[..digits.iter().position(|b| *b == b'"')?]).ok()?.parse::<usize>().ok()
        });
        let arrived = &mut self.arrived[number.expect("an event of the benchmark")];
        if *arrived != 0 {
            self.repeats += 1;
            return;
        }
        *arrived = now();
        self.signed.get_or_insert_with(|| find(head, b"webhook-signature").is_some() && find(body, b"\"sign\":\"").is_some());
        self.distinct += 1;
        let all = self.arrived.len();
        if self.distinct == all / 10 || self.distinct == all / 10 * 9 {
            println!("at {} {}", self.distinct, now());
        }
        if self.distinct == all {
            self.finish();
        }
    }

    fn finish(&self) {
        let end = now();
        if let Some(path) = &self.arrivals {
            let mut text = String::new();
            for (number, micros) in self.arrived.iter().enumerate() {
                writeln!(text, "{number} {micros}").unwrap();
            }
            std::fs::write(path, text).unwrap();
        }
        println!("done {end} repeats {} signed {}", self.repeats, self.signed == Some(true));
    }
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}
