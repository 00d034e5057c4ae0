//! The receivers: many endpoints on one port, served by one thread. Each is in the mood that the schedule gave it, verifies what it is sent
//! with its own arithmetic, and writes down every request and how it ended.

use super::{KEY, Millis, now, original};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

/// How an endpoint treats its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// 200 after some milliseconds.
    Well,
    /// 500, always.
    Fails,
    /// 503 with `Retry-After: 1`.
    Busy,
    /// No answer, the connection stays open.
    Hangs,
    /// The connection is reset.
    Resets,
    /// The answer comes byte by byte, sometimes too slowly.
    Drips,
    /// Now this, now that.
    Flaps,
    /// 200 after the time-out.
    Late,
    /// Status and headers of a 200, half of the body, end of the connection: that is a success.
    Halves,
    /// Half a status line, end of the connection.
    Cuts,
}

/// How a request ended, as far as the receiver can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not yet.
    Open,
    /// Status and headers were written.
    Answered(u16),
    /// Less than a whole head of this status was written.
    Cut(u16),
    /// Nothing was written.
    Unanswered,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The event's number; none when its id is none of ours.
    pub(crate) event: Option<usize>,
    pub(crate) endpoint: usize,
    /// Which launch of the daemon sent it: its registry gives it a header of its own.
    pub(crate) replica: u32,
    pub(crate) arrived: Millis,
    pub(crate) ended: Millis,
    pub(crate) ending: Ending,
    pub(crate) signature_right: bool,
    pub(crate) body_right: bool,
}

impl Seen {
    /// Whether a success was written, or a part of one.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self.ending, Ending::Answered(200) | Ending::Cut(200))
    }
}

struct State {
    log: Mutex<Vec<Seen>>,
    moods: Mutex<Vec<Mood>>,
    /// By the event's number: whether a success was written whole.
    accepted: Vec<AtomicBool>,
    accepted_count: AtomicUsize,
    dead_endpoint: usize,
    timeout: Duration,
    over: Notify,
}

/// The endpoints; they end when dropped.
pub(crate) struct Sites {
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Sites {
    /// `endpoints` that answer, and after them one that answers 500 whatever its mood.
    pub(crate) fn start(endpoints: usize, events: usize, timeout: Duration) -> Self {
        let state = Arc::new(State {
            log: Mutex::default(),
            moods: Mutex::new(vec![Mood::Well; endpoints + 1]),
            accepted: (0..events).map(|_| AtomicBool::new(false)).collect(),
            accepted_count: AtomicUsize::new(0),
            dead_endpoint: endpoints,
            timeout,
            over: Notify::new(),
        });
        let serving = Arc::clone(&state);
        let (told, port) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
                // A replica that takes over a backlog dials hundreds at once: with a short queue they would not even arrive.
                let listener = socket.listen(4096).unwrap();
                told.send(listener.local_addr().unwrap().port()).unwrap();
                loop {
                    tokio::select! {
                        () = serving.over.notified() => return,
                        accepted = listener.accept() => {
                            if let Ok((stream, _)) = accepted {
                                tokio::spawn(serve(stream, Arc::clone(&serving)));
                            }
                        }
                    }
                }
            });
        });
        Self { port: port.recv().unwrap(), state }
    }

    /// `http://127.0.0.1:<port>/<endpoint>`.
    pub(crate) fn url(&self, endpoint: usize) -> String {
        format!("http://127.0.0.1:{}/{endpoint}", self.port)
    }

    pub(crate) fn set_mood(&self, endpoint: usize, mood: Mood) {
        self.state.moods.lock().unwrap()[endpoint] = mood;
    }

    /// How many events were answered with a success.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted_count.load(Ordering::Relaxed)
    }

    /// Everything so far.
    pub(crate) fn log(&self) -> Vec<Seen> {
        self.state.log.lock().unwrap().clone()
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        self.state.over.notify_one();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(4096);
    while let Some((head, body)) = read_request(&mut stream, &mut buffer).await {
        let seen = judge(&head, &body);
        let (event, endpoint) = (seen.event, seen.endpoint);
        let at = {
            let mut log = state.log.lock().unwrap();
            log.push(seen);
            log.len() - 1
        };
        let mood = state.moods.lock().unwrap().get(endpoint).copied().unwrap_or(Mood::Fails);
        let mood = if endpoint == state.dead_endpoint { Mood::Fails } else { mood };
        let (ending, goes_on) = answer(&mut stream, mood, &state, |when, ending| {
            let mut log = state.log.lock().unwrap();
            (log[at].ended, log[at].ending) = (when, ending);
        })
        .await;
        if ending == Ending::Answered(200)
            && let Some(accepted) = event.and_then(|n| state.accepted.get(n))
            && !accepted.swap(true, Ordering::Relaxed)
        {
            state.accepted_count.fetch_add(1, Ordering::Relaxed);
        }
        if !goes_on {
            return;
        }
    }
}

/// Answers in this mood. `note` is told before the first byte is written what is going to be written: nobody can have acted on it earlier.
async fn answer(stream: &mut TcpStream, mood: Mood, state: &State, note: impl Fn(Millis, Ending)) -> (Ending, bool) {
    let told = |ending: Ending, goes_on: bool| {
        note(now(), ending);
        (ending, goes_on)
    };
    let mood = match mood {
        Mood::Flaps => match fastrand::u8(0..8) {
            0 => Mood::Hangs,
            1 => Mood::Resets,
            2 | 3 => Mood::Fails,
            4 => Mood::Cuts,
            _ => Mood::Well,
        },
        Mood::Well | Mood::Fails | Mood::Busy | Mood::Hangs | Mood::Resets | Mood::Drips | Mood::Late | Mood::Halves | Mood::Cuts => mood,
    };
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    match mood {
        Mood::Well | Mood::Flaps => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
            note(now(), Ending::Answered(200));
            let written = stream.write_all(OK).await.is_ok();
            if written { (Ending::Answered(200), true) } else { told(Ending::Cut(200), false) }
        }
        Mood::Fails => {
            note(now(), Ending::Answered(500));
            let written = stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await.is_ok();
            (Ending::Answered(500), written)
        }
        Mood::Busy => {
            note(now(), Ending::Answered(503));
            let written = stream.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").await.is_ok();
            (Ending::Answered(503), written)
        }
        Mood::Hangs => {
            let mut byte = [0; 1];
            let _ = stream.read(&mut byte).await;
            told(Ending::Unanswered, false)
        }
        Mood::Resets => {
            let _ = stream.set_zero_linger();
            told(Ending::Unanswered, false)
        }
        Mood::Drips => {
            let pause = Duration::from_millis(fastrand::u64(10..70));
            note(now(), Ending::Cut(200));
            for byte in OK.chunks(1) {
                tokio::time::sleep(pause).await;
                if stream.write_all(byte).await.is_err() {
                    return told(Ending::Cut(200), false);
                }
            }
            told(Ending::Answered(200), true)
        }
        Mood::Late => {
            tokio::time::sleep(state.timeout + Duration::from_millis(300)).await;
            note(now(), Ending::Cut(200));
            let _ = stream.write_all(OK).await;
            (Ending::Cut(200), false)
        }
        Mood::Halves => {
            note(now(), Ending::Answered(200));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\nhalf of it").await;
            (Ending::Answered(200), false)
        }
        Mood::Cuts => {
            note(now(), Ending::Cut(200));
            let _ = stream.write_all(b"HTTP/1.1 2").await;
            (Ending::Cut(200), false)
        }
    }
}

/// The next head and body; none when the connection ended.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let head_length = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_length]).into_owned();
    let length: usize = header(&head, "content-length")?.parse().ok()?;
    while buffer.len() < head_length + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[head_length..head_length + length].to_vec();
    buffer.drain(..head_length + length);
    Some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
}

fn judge(head: &str, body: &[u8]) -> Seen {
    let id = header(head, "webhook-id").unwrap_or("");
    let event = id.strip_prefix("event-").and_then(|n| n.parse().ok());
    let endpoint = head.split(' ').nth(1).and_then(|path| path.trim_start_matches('/').parse().ok()).unwrap_or(usize::MAX);
    let arrived = now();
    Seen {
        event,
        endpoint,
        replica: header(head, "x-replica").and_then(|n| n.parse().ok()).unwrap_or(0),
        arrived,
        ended: arrived,
        ending: Ending::Open,
        signature_right: signature_right(head, id, body),
        body_right: event.is_some_and(|n| body_right(&original(n, endpoint), body)),
    }
}

fn signature_right(head: &str, id: &str, body: &[u8]) -> bool {
    let Some(timestamp) = header(head, "webhook-timestamp") else { return false };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let fresh = timestamp.parse::<i64>().is_ok_and(|at| (now() / 1000 - at).abs() < 60);
    fresh && header(head, "webhook-signature") == Some(&expected)
}

/// The event's own bytes up to its closing brace, then `t` and `sign`.
fn body_right(original: &str, body: &[u8]) -> bool {
    use md5::Digest as _;
    let Ok(body) = std::str::from_utf8(body) else { return false };
    let Some(added) = body.strip_prefix(&original[..original.len() - 1]).and_then(|b| b.strip_prefix(",\"t\":")) else { return false };
    let Some((t, sign)) = added.split_once(",\"sign\":\"") else { return false };
    t.bytes().all(|b| b.is_ascii_digit()) && sign.strip_suffix("\"}") == Some(&hex::encode(md5::Md5::digest(format!("{KEY}{t}"))))
}

#[test]
fn a_receiver_of_the_chaos_refuses_what_is_not_signed_or_not_the_event() {
    let (id, t) = ("event-7", now() / 1000);
    let sign = {
        use md5::Digest as _;
        hex::encode(md5::Md5::digest(format!("{KEY}{}", t + 600)))
    };
    let event = original(7, 3);
    let body = format!("{},\"t\":{},\"sign\":\"{sign}\"}}", &event[..event.len() - 1], t + 600);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(format!("{id}.{t}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let head = |id: &str| {
        format!("POST /3 HTTP/1.1\r\nWebhook-Id: {id}\r\nwebhook-timestamp: {t}\r\nwebhook-signature: {signature}\r\nx-replica: 9\r\n\r\n")
    };
    let rows: HashMap<&str, (String, String, bool, bool)> = HashMap::from([
        ("as it should be", (head(id), body.clone(), true, true)),
        ("another id", (head("event-8"), body.clone(), false, false)),
        ("a changed member", (head(id), body.replace("mp4", "flv"), false, false)),
        ("t of another sign", (head(id), body.replace(&(t + 600).to_string(), &(t + 601).to_string()), false, false)),
        ("unsigned", (format!("POST /3 HTTP/1.1\r\nwebhook-id: {id}\r\n\r\n"), body.clone(), false, true)),
    ]);
    for (what, (head, body, signature, bytes)) in rows {
        let seen = judge(&head, body.as_bytes());
        assert_eq!((seen.signature_right, seen.body_right), (signature, bytes), "{what}");
    }
    let seen = judge(&head(id), body.as_bytes());
    assert_eq!((seen.event, seen.endpoint, seen.replica), (Some(7), 3, 9));
}
