//! How long events took, by when they were sent.

use super::receiver::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From one event to the next: 250 a second.
const PACE: Duration = Duration::from_millis(4);

/// Has one event after the other sent at an even pace until it is `over`; when each was.
pub(crate) fn send_evenly(over: &AtomicBool, mut send: impl FnMut(usize)) -> Vec<Instant> {
    let mut sent = Vec::new();
    let start = Instant::now();
    while !over.load(Ordering::Relaxed) {
        sent.push(Instant::now());
        send(sent.len() - 1);
        std::thread::sleep((start + PACE * sent.len() as u32).saturating_duration_since(Instant::now()));
    }
    sent
}

/// From sending to arrival in milliseconds, of what was sent in each of the three phases that the four instants bound; `number` is which of
/// `sent` a request is of.
pub(crate) fn by_phase(
    phases: &[Instant],
    sent: &[Instant],
    requests: &[Arc<Request>],
    number: impl Fn(&Request) -> usize,
) -> [Vec<f64>; 3] {
    let mut latencies = [Vec::new(), Vec::new(), Vec::new()];
    for request in requests {
        let sent = sent[number(request)];
        if let Some(phase) = phases.windows(2).position(|phase| phase[0] <= sent && sent < phase[1]) {
            latencies[phase].push(request.at.duration_since(sent).as_secs_f64() * 1e3);
        }
    }
    latencies
}

/// The 99th of a hundred.
pub(crate) fn p99(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * 99 / 100]
}
