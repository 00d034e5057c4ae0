//! Admin edge: `/metrics`, `/livez`, `/readyz` on one port, for scrapers and probes.
//!
//! It runs on a thread and a runtime of its own: a probe is answered also while the engine's runtime is stuck, which is just when the answer
//! matters. Handlers read atomics and never wait, so a request needs no time-out of its own; clients that are slow to ask are ended by
//! [`listener`]. Whoever asks without end gets one answer a connection, so that others have their turn, and of `/metrics` an answer that may be
//! some milliseconds old ([`rendering`]): rendering takes no more than a tenth of the time. What is answered is decided in [`crate::metrics`]; here is only HTTP.

mod listener;
mod rendering;

use crate::metrics::{CONTENT_TYPE, Health, HealthCheck, Metrics};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE as CONTENT_TYPE_HEADER};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use listener::Limited;
use rendering::Rendering;
use std::future::{Future, IntoFuture};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long answers that are under way may take once shutdown began.
const CLOSING: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    rendered: Arc<Mutex<Rendering>>,
    health: Arc<Health>,
}

/// Serves `listener` until `shutdown` resolves, and at most a second longer. Returns at once; the thread ends after that.
///
/// # Errors
/// When the listener, the runtime or the thread cannot be set up.
pub fn serve(
    listener: std::net::TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let listener = {
        let _context = runtime.enter();
        Limited::new(tokio::net::TcpListener::from_std(listener)?)
    };
    let app = router(Shown { metrics, rendered: Arc::default(), health });
    thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async move {
            let (closing, closed) = tokio::sync::oneshot::channel::<()>();
            let server = axum::serve(listener, app).with_graceful_shutdown(async move {
                shutdown.await;
                let _ = closing.send(());
            });
            // A client that does not finish its request must not hold up the end of the process.
            let limit = async {
                let _ = closed.await;
                tokio::time::sleep(CLOSING).await;
            };
            tokio::select! {
                _ = server.into_future() => {}
                () = limit => {}
            }
        });
    })
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|State(shown): State<Shown>| async move { answer(&shown.health.liveness()) }))
        .route("/readyz", get(|State(shown): State<Shown>| async move { answer(&shown.health.readiness()) }))
        .layer(map_response(one_answer_a_connection))
        .with_state(shown)
}

async fn one_answer_a_connection(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let text = shown.rendered.lock().unwrap_or_else(PoisonError::into_inner).get(Instant::now, || shown.metrics.render());
    ([(CONTENT_TYPE_HEADER, CONTENT_TYPE)], text)
}

/// 200 when no check has a problem, else 503; either way each check, and a reason for each "no".
fn answer(checks: &[HealthCheck]) -> Response {
    let ok = checks.iter().all(|check| check.problem.is_none());
    let lines: Vec<_> = checks
        .iter()
        .map(|check| match &check.problem {
            None => serde_json::json!({ "name": check.name, "ok": true }),
            Some(reason) => serde_json::json!({ "name": check.name, "ok": false, "reason": reason }),
        })
        .collect();
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "ok": ok, "checks": lines }))).into_response()
}

#[cfg(test)]
mod tests;
