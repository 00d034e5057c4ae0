//! The zoo of receivers: each endpoint behaves as it is told, and keeps a log of what it saw and did.

use super::super::super::checker::{Answer, Fact, Request};
use super::super::super::ports::{Appended, CallbackRequest, Outbox, Refused, Transport};
use super::broker::Broker;
use super::time::{SimClock, Timeline, millis};
use super::trace::Trace;
use crate::domain::record::NewRecord;
use crate::domain::verdict::{Failure, Outcome};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How a receiver treats a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// 200 within 30 ms.
    Good,
    /// 200 after up to two seconds.
    Slow,
    /// This status.
    Status(u16),
    /// This status and `Retry-After` in seconds.
    Busy(u16, u32),
    /// Never an answer.
    Hangs,
    /// 200, half a second after the time-out.
    Late,
    /// 200 or 500, at random.
    Flaps,
    /// The connection breaks before a status is written.
    Resets,
    /// 200 is written and the connection breaks before it is read.
    Lies,
    /// Nobody listens.
    Refuses,
    /// The client's own code panics.
    Panics,
}

impl Manner {
    pub(super) const BAD: [Self; 14] = [
        Self::Slow,
        Self::Status(500),
        Self::Status(404),
        Self::Status(410),
        Self::Status(301),
        Self::Busy(429, 2),
        Self::Busy(503, 7),
        Self::Hangs,
        Self::Late,
        Self::Flaps,
        Self::Resets,
        Self::Lies,
        Self::Refuses,
        Self::Panics,
    ];
}

/// All receivers.
pub(super) struct Receivers {
    pub(super) timeline: Rc<Timeline>,
    pub(super) trace: Rc<Trace>,
    pub(super) chance: fastrand::Rng,
    pub(super) manners: BTreeMap<String, Manner>,
    pub(super) requests: Vec<Request>,
    /// What the body of each event must be.
    pub(super) bodies: HashMap<String, Bytes>,
    pub(super) running: usize,
}

/// One replica's client.
pub(super) struct SimTransport {
    pub(super) receivers: Rc<RefCell<Receivers>>,
    pub(super) broker: Rc<RefCell<Broker>>,
    pub(super) replica: u64,
}

/// What is going to happen to one request.
struct Plan {
    /// What the receiver writes, and when: time, status, `Retry-After`.
    written: Option<(Duration, u16, Option<u32>)>,
    /// What the client learns, and when.
    outcome: (Duration, Outcome),
    panics: bool,
}

/// The request in the receivers' log, while its client waits for the end.
struct Entry {
    receivers: Rc<RefCell<Receivers>>,
    at: Option<usize>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut receivers = self.receivers.borrow_mut();
        receivers.running -= 1;
        let now = millis(receivers.timeline.now());
        if let Some(at) = self.at {
            receivers.requests[at].let_go_ms = Some(now);
        }
    }
}

impl Receivers {
    fn plan(&mut self, host: &str, timeout: Duration) -> Plan {
        let now = self.timeline.now();
        let ms = Duration::from_millis;
        let way = ms(self.chance.u64(0..30));
        let manner = self.manners.get(host).copied().unwrap_or(Manner::Good);
        let answer = |after: Duration, status: u16, retry: Option<u32>| Plan {
            written: Some((now + after, status, retry)),
            outcome: (now + after, Outcome::Answered { status, retry_after: retry.map(|r| r.to_string()) }),
            panics: false,
        };
        let failure = |after: Duration, failure| Plan { written: None, outcome: (now + after, Outcome::Failed(failure)), panics: false };
        match manner {
            Manner::Good => answer(way, 200, None),
            Manner::Slow => answer(ms(self.chance.u64(100..1_900)), 200, None),
            Manner::Status(status) => answer(way, status, None),
            Manner::Busy(status, seconds) => answer(way, status, Some(seconds)),
            Manner::Flaps if self.chance.bool() => answer(way, 200, None),
            Manner::Flaps => answer(way, 500, None),
            Manner::Hangs => failure(timeout, Failure::Timeout),
            Manner::Late => {
                let written = Some((now + timeout + ms(500), 200, None));
                Plan { written, ..failure(timeout, Failure::Timeout) }
            }
            Manner::Resets => failure(way, Failure::Protocol),
            Manner::Lies => Plan { written: Some((now + way, 200, None)), ..failure(way, Failure::Protocol) },
            Manner::Refuses => failure(way, Failure::Connect),
            Manner::Panics => Plan { panics: true, ..failure(way, Failure::Internal) },
        }
    }
}

fn webhook_id(lines: &[u8]) -> String {
    let lines = String::from_utf8_lossy(lines);
    lines.lines().find_map(|line| line.strip_prefix("webhook-id: ")).unwrap_or("").to_owned()
}

impl Transport for SimTransport {
    async fn send(&self, request: CallbackRequest) -> Outcome {
        let host = request.url.url.host_str().unwrap_or("").to_owned();
        let id = webhook_id(request.headers.as_bytes());
        let timeline = Rc::clone(&self.receivers.borrow().timeline);
        let (plan, entry) = {
            let mut receivers = self.receivers.borrow_mut();
            let plan = receivers.plan(&host, request.timeout);
            receivers.running += 1;
            let unseen = receivers.manners.get(&host) == Some(&Manner::Refuses);
            let answer = match &plan.written {
                Some((at, status, _)) => Answer::Unsure { status: *status, at_ms: millis(*at) },
                None if plan.outcome.1 == Outcome::Failed(Failure::Timeout) => Answer::None { at_ms: None },
                None => Answer::None { at_ms: Some(millis(plan.outcome.0)) },
            };
            let body_right = receivers.bodies.get(&id).is_some_and(|body| *body == request.body);
            let now = timeline.now();
            receivers.trace.note(now, "request", self.replica, || {
                format!("{id} to {host} by r{}: {:?} at {:?}", self.replica, plan.outcome.1, plan.outcome.0)
            });
            let at = (!unseen).then(|| {
                receivers.requests.push(Request {
                    id: id.clone(),
                    endpoint: format!("{host}{}", request.url.url.path()),
                    replica: Some(format!("r{}", self.replica)),
                    at_ms: millis(now),
                    answer,
                    let_go_ms: None,
                    signature_right: true,
                    body_right,
                });
                receivers.requests.len() - 1
            });
            (plan, Entry { receivers: Rc::clone(&self.receivers), at })
        };
        timeline.sleep_until(plan.outcome.0).await;
        if plan.panics {
            // Not `panic!`: no hook is to print it.
            std::panic::resume_unwind(Box::new("a fault of ours, in a simulation"));
        }
        let at_ms = millis(timeline.now());
        match (&plan.outcome.1, entry.at) {
            (Outcome::Answered { status, .. }, Some(at)) => {
                let retry_after_ms = plan.written.and_then(|(_, _, retry)| retry).map(|seconds| i64::from(seconds) * 1_000);
                self.receivers.borrow_mut().requests[at].answer = Answer::Read { status: *status, at_ms, retry_after_ms };
                if (200..300).contains(status) {
                    self.broker.borrow_mut().succeeded(&id);
                }
            }
            // A process that was stopped learns of it late.
            (Outcome::Failed(_), Some(at)) if plan.written.is_none() => {
                self.receivers.borrow_mut().requests[at].answer = Answer::None { at_ms: Some(at_ms) };
            }
            (Outcome::Failed(_) | Outcome::Answered { .. }, _) => {}
        }
        plan.outcome.1
    }
}

/// One replica's producer.
pub(super) struct SimOutbox {
    pub(super) broker: Rc<RefCell<Broker>>,
    pub(super) clock: SimClock,
    pub(super) replica: u64,
}

struct Asked {
    broker: Rc<RefCell<Broker>>,
    number: u64,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.broker.borrow_mut().orphan(self.number);
    }
}

impl Outbox for SimOutbox {
    async fn append(&self, record: NewRecord) -> Result<Appended, Refused> {
        let topic = Arc::clone(&record.topic);
        let number = self.broker.borrow_mut().submit(self.replica, record);
        let asked = Asked { broker: Rc::clone(&self.broker), number };
        let answer = poll_fn(|context| match self.broker.borrow_mut().answered(asked.number, context.waker()) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        });
        let timestamp = answer.await.map_err(|cause| Refused { topic, cause })?;
        self.clock.observe(timestamp);
        Ok(Appended { timestamp: Some(timestamp) })
    }
}

/// All requests as facts.
pub(super) fn facts(receivers: &Receivers) -> impl Iterator<Item = Fact> {
    receivers.requests.iter().cloned().map(Fact::Request)
}
