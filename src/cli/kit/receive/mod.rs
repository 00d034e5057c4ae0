//! `callbackd receive`: a receiver to try things with. It verifies, answers, and prints a line for each callback.
//!
//! ```text
//!  request ─► verify ─► seen before? ─► a line, flushed ─► delay ─► status (401 where it does not verify)
//! ```
//!
//! A try-out, not a service: it keeps nothing, and remembers the last ids only. What comes from outside is printed escaped, one line
//! whatever it holds. Only callbacks that verify count as seen, so that nobody can make a genuine one look like a repeat.

mod line;
mod seen;

use super::arguments::ReceiveArguments;
use super::{keys, reasons};
use crate::app::wall_clock;
use crate::cli::check::counted;
use crate::cli::failure::complain;
use crate::cli::output::is_gone;
use crate::cli::{Exit, Failure};
use crate::domain::signature::WEBHOOK_ID;
use crate::domain::verification::{Message, SharedKey, Verification, verify};
use crate::source::cannot_listen;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use line::{Line, Verdict};
use seen::Seen;
use std::future::IntoFuture as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// The largest body that is read.
const LONGEST_BODY: usize = 16 * 1024 * 1024;

/// Bodies that are read at once: with the one above, 256 MiB.
const READ_AT_ONCE: usize = 16;

/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// How long answers that are under way may take once it was told to end.
const CLOSING: Duration = Duration::from_secs(1);

/// The body of a good answer, as the protocol advises for senders that read it.
const AGREED: &str = "{\"code\":0}";

struct Shared {
    key: Option<SharedKey>,
    status: StatusCode,
    delay: Duration,
    reading: Semaphore,
    told: Mutex<Told>,
    /// Becomes false when the receiver is to end.
    open: watch::Sender<bool>,
}

/// What is printed, and remembered for that.
struct Told {
    out: Box<dyn Write + Send>,
    seen: Seen,
    counts: Counts,
    broken: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    callbacks: u64,
    refused: u64,
    repeats: u64,
}

pub(crate) fn receive(arguments: &ReceiveArguments) -> Result<Exit, Failure> {
    let key = keys::of_receiver(arguments)?;
    let status = StatusCode::from_u16(arguments.status).map_err(|_| Failure::Usage("--status: not a status".to_owned()))?;
    let listener = std::net::TcpListener::bind(arguments.listen)
        .map_err(|error| anyhow::anyhow!("{}; --listen 127.0.0.1:0 takes a free port", cannot_listen(arguments.listen, &error)))?;
    let address = listener.local_addr()?;
    let checks = match &key {
        Some(_) => "",
        None => "; without --key or --secret nothing is verified",
    };
    let shared = Shared::new(key, status, arguments.delay, Box::new(io::stdout()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Signals are caught before the listening line is printed: whoever reads that may send one.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        complain(format_args!("listening on http://{address}/, any path; Ctrl-C ends it{checks}"));
        let ended = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(listener, &shared, ended).await
    })?;
    let told = shared.told();
    match &told.broken {
        // A reader that has gone wanted no more: that is an end like Ctrl-C.
        Some(error) if is_gone(error) => return Ok(Exit::Done),
        Some(error) => return Err(Failure::Failed(anyhow::anyhow!("standard output: {error}"))),
        None => {}
    }
    let Counts { callbacks, refused, repeats } = told.counts;
    complain(format_args!("{}, {refused} refused, {}", counted(callbacks, "callback"), counted(repeats, "repeat")));
    Ok(Exit::Done)
}

/// Serves until `ended`, or until nothing can be printed any more, and at most a second longer.
async fn serve(listener: std::net::TcpListener, shared: &Arc<Shared>, ended: impl Future<Output = ()>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = Router::new().fallback(callback).with_state(shared.clone());
    let mut open = shared.open.subscribe();
    let closing = async move {
        let _ = open.wait_for(|open| !open).await;
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(closing).into_future();
    tokio::pin!(server);
    let mut open = shared.open.subscribe();
    let over = async {
        tokio::select! {
            () = ended => {}
            _ = open.wait_for(|open| !open) => {}
        }
    };
    tokio::select! {
        result = &mut server => return result,
        () = over => {}
    }
    shared.open.send_replace(false);
    // A client that does not finish its request must not hold up the end.
    tokio::time::timeout(CLOSING, server).await.unwrap_or(Ok(()))
}

async fn callback(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        let why = format!("{} is no callback: those are POST", parts.method);
        return shared.refuse(&Headers::of(&parts.headers), StatusCode::METHOD_NOT_ALLOWED, why);
    }
    let headers = Headers::of(&parts.headers);
    let body = match read(&shared.reading, body).await {
        Ok(body) => body,
        Err((status, why)) => return shared.refuse(&headers, status, why.to_owned()),
    };
    let status = shared.judge(&headers, &body);
    let mut open = shared.open.subscribe();
    // Ending does not wait for answers that are late on purpose.
    tokio::select! {
        () = tokio::time::sleep(shared.delay) => {}
        _ = open.wait_for(|open| !open) => {}
    }
    if status.is_success() { (status, [("content-type", "application/json")], AGREED).into_response() } else { status.into_response() }
}

async fn read(reading: &Semaphore, body: Body) -> Result<Bytes, (StatusCode, &'static str)> {
    let _room = reading.acquire().await.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "it ends"))?;
    match tokio::time::timeout(BODY_LIMIT, to_bytes(body, LONGEST_BODY)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 16 MiB, or was cut short")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 30 s")),
    }
}

/// Headers in the form that the domain judges.
struct Headers(Vec<(String, String)>);

impl Headers {
    fn of(map: &HeaderMap) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self(map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect())
    }

    fn id(&self) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == WEBHOOK_ID).map(|(_, value)| value.as_str())
    }
}

impl Shared {
    fn new(key: Option<SharedKey>, status: StatusCode, delay: Duration, out: Box<dyn Write + Send>) -> Arc<Self> {
        let told = Told { out, seen: Seen::default(), counts: Counts::default(), broken: None };
        let (open, _) = watch::channel(true);
        Arc::new(Self { key, status, delay, reading: Semaphore::new(READ_AT_ONCE), told: Mutex::new(told), open })
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies, tells, and says what the callback is answered with.
    fn judge(&self, headers: &Headers, body: &[u8]) -> StatusCode {
        let at = wall_clock();
        let found = self.key.as_ref().map(|key| verify(key, Message { headers: &headers.0, body }, at.as_secs()));
        let (verdict, status) = match &found {
            None => (Verdict::Unjudged, self.status),
            Some(found) if Verification::is_verified(found) => (Verdict::Verified, self.status),
            Some(found) => (Verdict::Refused(reasons(found)), StatusCode::UNAUTHORIZED),
        };
        self.tell(&Line { at, status: status.as_u16(), verdict, id: headers.id(), body: Some(body) });
        status
    }

    fn refuse(&self, headers: &Headers, status: StatusCode, why: String) -> Response {
        self.tell(&Line { at: wall_clock(), status: status.as_u16(), verdict: Verdict::Refused(why), id: headers.id(), body: None });
        status.into_response()
    }

    fn tell(&self, line: &Line<'_>) {
        let mut told = self.told();
        let Told { out, seen, counts, broken } = &mut *told;
        let refused = matches!(line.verdict, Verdict::Refused(_));
        let time = if refused { 1 } else { line.id.map_or(1, |id| seen.add(id)) };
        counts.callbacks += 1;
        counts.refused += u64::from(refused);
        counts.repeats += u64::from(time > 1);
        if let Err(error) = writeln!(out, "{}", line.shown(time)).and_then(|()| out.flush()) {
            *broken = Some(error);
            self.open.send_replace(false);
        }
    }
}

#[cfg(test)]
mod tests;
