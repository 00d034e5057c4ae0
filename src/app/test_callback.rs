//! One test callback: what `send-test` sends, by the rules and through the code of real ones.
//!
//! The event is made here; from there on nothing is: the binding is met as for any event, the request is rendered and signed by
//! [`attempt::request`], and sent by a client of the daemon's own settings, guard and time-outs included. Kafka has no part in it.
//!
//! What is shown of the request is what the operator may see: the names of the template's headers without their values, the URL without its
//! query. The answer's body is read and dropped, as for every callback: a test button that shows it would be a way to read what only this
//! host can reach.

use super::clock::wall_clock;
use super::wiring;
use crate::config::Settings;
use crate::delivery::attempt::{self, Callback, NoActiveKey};
use crate::delivery::handover::{Assignment, Ticket};
use crate::delivery::ports::{CallbackRequest, Transport as _};
use crate::domain::address::Refusal;
use crate::domain::binding::{Meeting, Skip, meet};
use crate::domain::class::Class;
use crate::domain::event::{EventKind, decode};
use crate::domain::headers::Chain;
use crate::domain::id::{DomainName, EventId};
use crate::domain::policy::Policy;
use crate::domain::record::{Position, Record};
use crate::domain::registry::Registry;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::{Outcome, Verdict, judge};
use crate::egress;
use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The stream of every test event, by which receivers may tell it.
const STREAM: &str = "callbackd-test";

/// A test callback, ready to be sent.
pub struct TestCallback {
    request: CallbackRequest,
    policy: Policy,
    /// The template's own headers, in lower case.
    hidden: HashSet<String>,
    notes: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As of every attempt.
    pub outcome: Outcome,
    /// What it means by the template's policy.
    pub verdict: Verdict,
    /// Why the guard refused it, if it did.
    pub refusal: Option<Refusal>,
    /// From the start of the attempt to status and headers, or to its failure.
    pub took: Duration,
}

/// Why there is no callback to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDue {
    /// The domain is in no registry.
    #[error("the domain {0} is not in the registry: events of it become dead letters (unknown_domain); add it under [[domains]]")]
    UnknownDomain(DomainName),
    /// Its account's storage service is not active.
    #[error(
        "the account {account} of {domain} is {storage}: its events become dead letters (account_suspended) until its storage is \"active\" again"
    )]
    AccountNotActive {
        /// The domain.
        domain: DomainName,
        /// The account's id.
        account: Arc<str>,
        /// The state of its storage service.
        storage: &'static str,
    },
    /// No callback template is bound.
    #[error("no callback template is bound to {0} now: its events are skipped; add one under [[bindings]]")]
    NoTemplate(String),
    /// The template has no URL for this kind.
    #[error("the callback template {template} has no URL for this type of event: such events are skipped; add urls.{key}")]
    NoUrl {
        /// Its name.
        template: Arc<str>,
        /// The key of the URL.
        key: &'static str,
    },
    /// Keys are configured, and none is in force.
    #[error(
        "none of the keys of the callback template {0} is in force now: its callbacks wait, and are never sent unsigned; look at not_before and expires of its keys"
    )]
    NoActiveKey(Arc<str>),
    /// The test event itself was refused: a fault of ours.
    #[error("the test event is not accepted: {0}")]
    Event(String),
}

impl TestCallback {
    /// The callback that an event of `kind`, whose push starts now, has by `registry`.
    ///
    /// # Errors
    /// See [`NotDue`].
    pub fn new(registry: &Registry, domain: &DomainName, path: Option<&str>, kind: EventKind) -> Result<Self, NotDue> {
        Self::at(registry, domain, path, kind, wall_clock())
    }

    fn at(registry: &Registry, domain: &DomainName, path: Option<&str>, kind: EventKind, now: UnixMillis) -> Result<Self, NotDue> {
        let value = Bytes::from(event(domain, path, kind, now).to_string());
        let event = decode(Some(&value), now).map_err(|error| NotDue::Event(error.to_string()))?;
        let place = || path.map_or_else(|| domain.to_string(), |path| format!("{domain}, path {path:?},"));
        let known = registry.domain(domain).ok_or_else(|| NotDue::UnknownDomain(domain.clone()))?;
        let (template, mixed_regions) = match meet(registry, &event) {
            Meeting::Call { template, mixed_regions } => (template, mixed_regions),
            Meeting::UnknownDomain => return Err(NotDue::UnknownDomain(domain.clone())),
            Meeting::AccountSuspended => {
                let (account, storage) =
                    known.account().map_or_else(|| ("".into(), ""), |account| (account.id.clone(), account.storage.as_str()));
                return Err(NotDue::AccountNotActive { domain: domain.clone(), account, storage });
            }
            Meeting::Skip(Skip::NoUrl) => {
                let template = known.callback_at(path, event.push_start).map_or_else(|| "".into(), |template| template.name.clone());
                return Err(NotDue::NoUrl { template, key: url_key(kind) });
            }
            // The event names a task, so no recording template is asked for.
            Meeting::Skip(Skip::NoCallbackTemplate) | Meeting::RecordingUnbound { .. } => return Err(NotDue::NoTemplate(place())),
        };
        let url = template.url(kind).cloned().ok_or_else(|| NotDue::NoUrl { template: template.name.clone(), key: url_key(kind) })?;
        let mut notes = Vec::new();
        if kind == EventKind::RecordingFile && known.recording_at(path, event.push_start).is_none() {
            notes.push(format!(
                "no recording template is bound to {} now: files of template-driven recordings become dead letters (recording_unbound)",
                place()
            ));
        }
        if template.keys.keys().is_empty() {
            notes.push(format!("the callback template {} has no keys: its callbacks are not signed", template.name));
        }
        let position = Position { topic: "send-test".into(), partition: 0, offset: 0 };
        let record = Record { position, timestamp: now, key: None, value: Some(value), headers: Vec::new() };
        let assignment = Assignment::new(Class::Fresh, record.position.topic.clone(), 0);
        let ticket = Ticket { assignment, offset: 0, cost: record.cost() };
        let chain = Chain::bare(&record, id(now)?);
        let policy = template.policy.clone();
        let hidden = template.headers.iter().map(|header| header.name.as_str().to_owned()).collect();
        let name = template.name.clone();
        let callback = Callback { ticket, record, chain, event, template, url, mixed_regions };
        let request = attempt::request(&callback, now).map_err(|NoActiveKey| NotDue::NoActiveKey(name))?;
        Ok(Self { request, policy, hidden, notes })
    }

    /// What is legal, and may surprise.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The request, without what is secret in it: request line, headers, an empty line, body.
    #[must_use]
    pub fn shown(&self) -> String {
        let url = &self.request.url;
        let query = if url.url.query().is_some() { "?[redacted]" } else { "" };
        let mut text = format!("POST {}{query}\n", url.endpoint.0);
        let lines = String::from_utf8_lossy(self.request.headers.as_bytes());
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            let value = if self.hidden.contains(name) { "[redacted]" } else { value };
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&self.request.body));
        text
    }

    /// Sends it, once.
    ///
    /// # Errors
    /// When the client cannot be built from `settings`.
    pub fn send(self, settings: &Settings) -> anyhow::Result<Answer> {
        let refusal = Rc::new(Cell::new(None));
        let client = egress::Client::new(wiring::egress_settings(settings)?, Box::new(Refusals(Rc::clone(&refusal))))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
        let start = Instant::now();
        let outcome = runtime.block_on(async { client.send(self.request).await });
        let took = start.elapsed();
        let verdict = judge(&self.policy, &outcome, wall_clock());
        Ok(Answer { outcome, verdict, refusal: refusal.get(), took })
    }
}

/// Remembers why the guard refused.
struct Refusals(Rc<Cell<Option<Refusal>>>);

impl egress::Observer for Refusals {
    fn blocked(&self, reason: Refusal) {
        self.0.set(Some(reason));
    }

    fn violation(&self) {}
}

const fn url_key(kind: EventKind) -> &'static str {
    match kind {
        EventKind::RecordingFile => "recording_file",
        EventKind::RecordingStatus => "recording_status",
        EventKind::RecordingException => "recording_exception",
    }
}

/// The event id: another one each time, so that no receiver takes a second test for a repeat of the first.
fn id(now: UnixMillis) -> Result<EventId, NotDue> {
    let text = format!("test_{now}_{:08x}", fastrand::u32(..));
    EventId::parse(text.as_bytes()).ok_or(NotDue::Event(text))
}

/// An event of `kind` with the fields that the protocol says are always there; its push starts now, and it belongs to a task.
fn event(domain: &DomainName, path: Option<&str>, kind: EventKind, now: UnixMillis) -> Value {
    let (domain, seconds) = (domain.as_str(), now.as_secs());
    let mut event = match kind {
        EventKind::RecordingFile => json!({
            "event_type": 100, "app": domain, "appid": 0, "stream_id": STREAM, "channel_id": STREAM, "file_id": STREAM,
            "record_file_id": STREAM, "file_format": "mp4", "task_id": STREAM, "start_time": seconds, "start_time_usec": 0,
            "end_time": seconds, "end_time_usec": 0, "duration": 0, "file_size": 0, "media_start_time": 0, "record_bps": 0,
            "stream_param": "", "video_url": "https://example.invalid/callbackd-test.mp4", "push_start_time": seconds,
        }),
        EventKind::RecordingStatus => json!({
            "event_type": 332, "domain": domain, "stream_id": STREAM, "event_time": seconds, "session_id": STREAM, "seq": "0",
            "task_id": STREAM, "record_event": "record_start_succeeded", "record_detail": "{}", "push_start_time": seconds,
        }),
        EventKind::RecordingException => json!({
            "event_type": 341, "domain": domain, "stream_id": STREAM, "session_id": STREAM, "file_format": "mp4",
            "timestamp": seconds, "exception_level": "info", "exception": { "type": STREAM, "occurs": seconds, "desc": "a test" },
            "interface": "general_callback", "push_start_time": seconds,
        }),
    };
    if let (Some(path), Some(fields)) = (path, event.as_object_mut()) {
        let key = match kind {
            EventKind::RecordingFile | EventKind::RecordingStatus => "appname",
            EventKind::RecordingException => "path",
        };
        fields.insert(key.to_owned(), path.into());
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::address::AddressPolicy;
    use crate::domain::event::PushStartSource;
    use crate::domain::registry::{
        AccountEntry, BindingEntry, CallbackTemplateEntry, DomainEntry, Entries, HeaderEntry, KeyEntry, Rules, Storage,
    };
    use zeroize::Zeroizing;

    const NOW: UnixMillis = UnixMillis(1_795_435_200_000);

    fn name(text: &str) -> DomainName {
        DomainName::parse(text).unwrap()
    }

    fn registry(change: impl FnOnce(&mut Entries)) -> Registry {
        let key = KeyEntry {
            id: "k".into(),
            value: Zeroizing::new(b"canary-key-0123456789".to_vec()),
            secret: None,
            not_before: None,
            expires: None,
        };
        let header = HeaderEntry { name: "X-Api-Key".into(), value: Zeroizing::new(b"canary-header".to_vec()) };
        let template = CallbackTemplateEntry {
            name: "shop".into(),
            recording_file: Some("https://shop.example/cb?token=canary-query".into()),
            keys: vec![key],
            headers: vec![header],
            ..CallbackTemplateEntry::default()
        };
        let binding = BindingEntry {
            domain: "push.example".into(),
            path: None,
            recording_template: None,
            callback_template: Some("shop".into()),
            from: None,
            until: None,
        };
        let mut entries = Entries {
            accounts: vec![AccountEntry { id: "a1".into(), storage: Storage::Active }],
            callback_templates: vec![template],
            domains: vec![DomainEntry { name: "push.example".into(), account: Some("a1".into()), region: None }],
            bindings: vec![binding],
            ..Entries::default()
        };
        change(&mut entries);
        Registry::build(entries, &Rules { templates_per_account: 50, addresses: AddressPolicy::default() })
            .unwrap_or_else(|p| panic!("{p:?}"))
    }

    fn callback(registry: &Registry, domain: &str, kind: EventKind) -> Result<TestCallback, NotDue> {
        TestCallback::at(registry, &name(domain), Some("live"), kind, NOW)
    }

    #[test]
    fn what_is_shown_is_the_request_without_key_header_values_and_query() {
        let callback = callback(&registry(|_| {}), "push.example", EventKind::RecordingFile).unwrap_or_else(|e| panic!("{e}"));
        let shown = callback.shown();
        assert!(shown.starts_with("POST https://shop.example/cb?[redacted]\ncontent-type: application/json\n"), "{shown}");
        assert!(
            shown.contains("\nx-api-key: [redacted]\n") && shown.contains("\nwebhook-signature: v1,") && shown.contains("\"sign\":"),
            "{shown}"
        );
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(callback.notes().len(), 1, "{:?}", callback.notes());
        assert!(callback.notes()[0].contains("recording_unbound"));
    }

    #[test]
    fn every_reason_why_nothing_is_due_is_named() {
        let kind = EventKind::RecordingFile;
        let refused = |registry: &Registry, domain: &str, kind| match callback(registry, domain, kind) {
            Ok(callback) => panic!("due: {}", callback.shown()),
            Err(cause) => cause.to_string(),
        };
        for (cause, said) in [
            (refused(&registry(|_| {}), "other.example", kind), "other.example is not in the registry"),
            (
                refused(&registry(|e| e.accounts[0].storage = Storage::Suspended), "push.example", kind),
                "account a1 of push.example is suspended",
            ),
            (refused(&registry(|e| e.accounts[0].storage = Storage::Inactive), "push.example", kind), "is inactive"),
            (
                refused(&registry(|e| e.bindings.clear()), "push.example", kind),
                "no callback template is bound to push.example, path \"live\"",
            ),
            (refused(&registry(|e| e.bindings[0].until = Some(NOW)), "push.example", kind), "no callback template is bound"),
            (
                refused(&registry(|e| e.bindings[0].from = Some(NOW.plus(Duration::from_secs(1)))), "push.example", kind),
                "no callback template",
            ),
            (refused(&registry(|_| {}), "push.example", EventKind::RecordingStatus), "template shop has no URL"),
            (refused(&registry(|_| {}), "push.example", EventKind::RecordingException), "add urls.recording_exception"),
            (
                refused(&registry(|e| e.callback_templates[0].keys[0].expires = Some(NOW)), "push.example", kind),
                "keys of the callback template shop",
            ),
        ] {
            assert!(cause.contains(said), "{said}: {cause}");
        }
    }

    #[test]
    fn an_event_of_every_kind_is_decoded_with_a_stated_push_start_and_its_path() {
        for kind in [EventKind::RecordingFile, EventKind::RecordingStatus, EventKind::RecordingException] {
            let value = event(&name("push.example"), Some("li\"ve"), kind, NOW).to_string();
            let event = decode(Some(value.as_bytes()), NOW).unwrap();
            assert_eq!((event.kind, event.path.as_deref(), event.stream.as_deref()), (kind, Some("li\"ve"), Some(STREAM)));
            assert_eq!((event.push_start, event.push_start_source), (NOW, PushStartSource::Stated));
            assert!(!event.template_driven);
        }
        assert_ne!(id(NOW).unwrap(), id(NOW).unwrap());
    }
}
