//! One attempt: the request is rendered and signed afresh, with the keys in force now, and sent as signed (design §7).

use super::handover::Ticket;
use super::ports::{CallbackRequest, HeaderLines, Transport};
use super::waiting::Item;
use crate::domain::body;
use crate::domain::event::Event;
use crate::domain::headers::Chain;
use crate::domain::id::EventId;
use crate::domain::record::Record;
use crate::domain::registry::{CallbackTemplate, CallbackUrl};
use crate::domain::signature::{self, Signer};
use crate::domain::time::UnixMillis;
use crate::domain::verdict::{Failure, Outcome, Verdict};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::HeaderName;
use http::header::{CONTENT_TYPE, USER_AGENT};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

const WEBHOOK_ID: HeaderName = HeaderName::from_static(signature::WEBHOOK_ID);
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static(signature::WEBHOOK_TIMESTAMP);
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static(signature::WEBHOOK_SIGNATURE);
const NOTICE: HeaderName = HeaderName::from_static("callbackd-notice");
const JSON: &[u8] = b"application/json";
const AGENT: &[u8] = concat!("callbackd/", env!("CARGO_PKG_VERSION")).as_bytes();
const MIXED_REGIONS: &[u8] = b"mixed-regions";

/// An upper estimate of the bytes of the headers that every callback has: content type, agent, a 64-byte id, a timestamp, two signatures.
const HEADER_BYTES: usize = 384;

/// A callback that is due: a record, its event, and the template by which it is sent.
#[derive(Debug)]
pub struct Callback {
    /// What must come back to intake.
    pub ticket: Ticket,
    /// The record as read.
    pub record: Record,
    /// Its chain.
    pub chain: Chain,
    /// The event in it.
    pub event: Event,
    /// The template bound at the push start, as it is now.
    pub template: Arc<CallbackTemplate>,
    /// That template's URL for this kind of event.
    pub url: Arc<CallbackUrl>,
    /// Whether the header `callbackd-notice: mixed-regions` goes with it.
    pub mixed_regions: bool,
}

impl Callback {
    /// The host that it goes to.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.url.host_str().unwrap_or_default()
    }
}

impl Item for Box<Callback> {
    fn record(&self) -> u64 {
        record_key(&self.chain.id)
    }

    fn cost(&self) -> usize {
        self.ticket.cost
    }

    fn by_schedule(&self) -> bool {
        self.chain.attempts > 0
    }

    fn timeout(&self) -> Duration {
        self.template.policy.timeout
    }
}

/// What circuits tell records apart by: a hash of the event id, so that a repeat counts as the same record.
#[must_use]
pub fn record_key(id: &EventId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.as_str().hash(&mut hasher);
    hasher.finish()
}

/// The template has keys and none is in force: nothing is sent unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoActiveKey;

/// Proof that a receiver's success status was read.
#[derive(Clone, Copy, Debug)]
pub struct Success(());

impl Success {
    /// The proof, when that is the verdict.
    #[must_use]
    pub const fn proven_by(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Delivered => Some(Self(())),
            Verdict::Retry { .. } | Verdict::Rejected => None,
        }
    }
}

/// Renders and signs the request of one attempt at `now`.
///
/// # Errors
/// When keys are configured and none is in force.
pub fn request(callback: &Callback, now: UnixMillis) -> Result<CallbackRequest, NoActiveKey> {
    let template = &callback.template;
    static NOTHING: Bytes = Bytes::new();
    let value = callback.record.value.as_ref().unwrap_or(&NOTHING);
    let timestamp = now.as_secs();
    let signer = template.keys.at(now);
    let (body, signature) = match &signer {
        Signer::NoActiveKey => return Err(NoActiveKey),
        Signer::Unkeyed => (body::render(value, &callback.event.cuts, None), None),
        Signer::Keys(keys) => {
            let seal = keys.first().map(|newest| signature::seal(newest, timestamp));
            let body = body::render(value, &callback.event.cuts, seal.as_ref().map(|s| (s.t, s.sign.as_str())));
            let signature = signature::webhook_signature(keys, &callback.chain.id, timestamp, &body);
            (body, Some(signature))
        }
    };
    Ok(CallbackRequest {
        url: Arc::clone(&callback.url),
        headers: headers(template, &callback.chain.id, timestamp, signature, callback.mixed_regions),
        body,
        connect_timeout: template.policy.connect_timeout,
        timeout: template.policy.timeout,
    })
}

fn headers(template: &CallbackTemplate, id: &EventId, timestamp: i64, signature: Option<String>, mixed_regions: bool) -> HeaderLines {
    let mut headers = HeaderLines::with_capacity(HEADER_BYTES);
    headers.push(&CONTENT_TYPE, JSON);
    if template.headers.iter().all(|own| own.name != USER_AGENT) {
        headers.push(&USER_AGENT, AGENT);
    }
    headers.push(&WEBHOOK_ID, id.as_str().as_bytes());
    headers.push(&WEBHOOK_TIMESTAMP, &body::decimal(timestamp));
    if let Some(signature) = signature {
        headers.push(&WEBHOOK_SIGNATURE, signature.as_bytes());
    }
    if mixed_regions {
        headers.push(&NOTICE, MIXED_REGIONS);
    }
    for own in &template.headers {
        headers.push(&own.name, own.value.as_bytes());
    }
    headers
}

/// Sends it. A panic on the way is an attempt with outcome `internal`.
pub async fn send<T: Transport>(transport: &T, request: CallbackRequest) -> Outcome {
    AssertUnwindSafe(transport.send(request)).catch_unwind().await.unwrap_or(Outcome::Failed(Failure::Internal))
}
