//! A scripted HTTP receiver on loopback: keep-alive, a thread per connection, everything recorded.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) unix: f64,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A header by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// `webhook-id`; a callback always has one.
    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id").unwrap_or("")
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This status, an empty body.
    Status(u16),
    /// This status with more headers.
    With(u16, Vec<(&'static str, String)>),
    /// This status after a while.
    Slow(Duration, u16),
    /// Nothing, the connection stays open.
    Hang,
    /// Nothing, the connection is closed.
    Close,
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// This status; the connection then serves nothing more and is reset by the next request, unread.
    ThenDead(u16),
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

struct State {
    script: Box<Script>,
    keeps_bodies: bool,
    seen: Mutex<Seen>,
    changed: Condvar,
    connections: AtomicU64,
    over: AtomicBool,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Arc<Request>>,
    of_id: HashMap<String, usize>,
}

/// Listens until dropped.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Receiver {
    /// `script` gets the request and its ordinal among those with its `webhook-id`, from 1.
    pub(crate) fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::serving(script, true)
    }

    /// As [`Self::start`], but what is kept of requests is without their bodies: for many large ones.
    pub(crate) fn start_without_bodies(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::serving(script, false)
    }

    fn serving(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static, keeps_bodies: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            script: Box::new(script),
            keeps_bodies,
            seen: Mutex::default(),
            changed: Condvar::new(),
            connections: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn(move || {
                        let _ = serve(&stream, &shared);
                    })
                    .unwrap();
            }
        });
        Self { port, state }
    }

    /// Always 200.
    pub(crate) fn agreeable() -> Self {
        Self::start(|_, _| Answer::Status(200))
    }

    /// `http://127.0.0.1:<port><path>`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// All requests so far, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<Arc<Request>> {
        self.state.seen.lock().unwrap().requests.clone()
    }

    /// How many requests so far.
    pub(crate) fn count(&self) -> usize {
        self.state.seen.lock().unwrap().requests.len()
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Waits until `enough` says so; panics at the deadline with how many there were.
    pub(crate) fn wait(&self, what: &str, deadline: Duration, enough: impl Fn(&[Arc<Request>]) -> bool) {
        let until = Instant::now() + deadline;
        let mut seen = self.state.seen.lock().unwrap();
        while !enough(&seen.requests) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "after {deadline:?} the receiver has {} requests, still not: {what}", seen.requests.len());
            seen = self.state.changed.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Waits until no request has come for so long.
    pub(crate) fn wait_silence(&self, silence: Duration, deadline: Duration) {
        let until = Instant::now() + deadline;
        let mut seen = self.state.seen.lock().unwrap();
        let (mut count, mut since) = (seen.requests.len(), Instant::now());
        while since.elapsed() < silence {
            assert!(Instant::now() < until, "requests keep coming, {count} so far");
            seen = self.state.changed.wait_timeout(seen, silence.saturating_sub(since.elapsed())).unwrap().0;
            if seen.requests.len() != count {
                (count, since) = (seen.requests.len(), Instant::now());
            }
        }
    }

    /// Waits for `n` requests.
    pub(crate) fn wait_for(&self, n: usize, deadline: Duration) {
        self.wait(&format!("{n} requests"), deadline, |r| r.len() >= n);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    while let Some(request) = read_request(&mut reader)? {
        let request = Arc::new(request);
        let kept =
            if state.keeps_bodies { Arc::clone(&request) } else { Arc::new(Request { body: Vec::new(), ..Request::clone(&request) }) };
        let nth = {
            let mut seen = state.seen.lock().unwrap();
            seen.requests.push(kept);
            let nth = seen.of_id.entry(request.id().to_string()).or_default();
            *nth += 1;
            *nth
        };
        let answer = (state.script)(&request, nth);
        state.changed.notify_all();
        let (status, headers, dead) = match answer {
            Answer::Status(status) => (status, vec![], false),
            Answer::With(status, headers) => (status, headers, false),
            Answer::Slow(time, status) => {
                std::thread::sleep(time);
                (status, vec![], false)
            }
            Answer::ThenDead(status) => (status, vec![], true),
            Answer::Close => return Ok(()),
            Answer::Bytes(bytes) => return (&*stream).write_all(&bytes),
            Answer::Hang => {
                let _ = stream.peek(&mut [0]); // returns when the peer has closed
                while !state.over.load(Ordering::Relaxed) && stream.peek(&mut [0])? > 0 {
                    std::thread::sleep(Duration::from_millis(50));
                }
                return Ok(());
            }
        };
        let mut answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n");
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        answer.push_str("\r\n");
        (&*stream).write_all(answer.as_bytes())?;
        if dead {
            // Closing with unread bytes makes the kernel send a reset: the request was never read by anybody.
            stream.peek(&mut [0])?;
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let (at, wall) = (Instant::now(), SystemTime::now());
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or("").to_string(), words.next().unwrap_or("").to_string());
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let unix = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    Ok(Some(Request { at, unix, method, path, headers, body }))
}
