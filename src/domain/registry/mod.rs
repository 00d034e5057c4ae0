//! The registry: templates, domains, bindings and accounts as one immutable snapshot (design §8).
//!
//! ```text
//!  file, topic ─► Entries (as written) ─► Registry::build ─► Registry (checked, ready for look-ups)
//! ```
//!
//! Every source of a registry makes the same [`Entries`] and goes through the same checks, so that a file and a topic
//! with the same content yield the same snapshot and the same [digest](Registry::digest). Histories become sorted spans
//! per domain and path when a snapshot is built: an event costs two hash look-ups and a binary search.
//!
//! Invariants: a snapshot never changes; spans of one schedule never overlap; every template that a span names exists;
//! every URL was judged by the address policy; no key is empty.
//!
//! [`super::binding`] reads it by the rules.

mod build;
mod check;
mod digest;
mod entry;
mod identity;
mod key;
mod losses;
mod template;

pub use entry::{
    AccountEntry, BindingEntry, CallbackTemplateEntry, ClientCertificateEntry, DomainEntry, EntityKind, Entries, Format, HeaderEntry, Keep,
    KeyEntry, MixEntry, PolicyKind, Problem, RecordingTemplateEntry, Region, Rules, Storage,
};
pub use identity::{BadIdentity, ClientIdentity, Fingerprint};
pub use key::{SecretError, shared_secret, webhook_secret};
pub use losses::Losses;
pub use template::{CallbackTemplate, CallbackUrl, Endpoint, RecordingTemplate, TemplateHeader};

use super::id::DomainName;
use super::time::UnixMillis;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An immutable snapshot of all templates, domains, bindings and accounts.
pub struct Registry {
    domains: HashMap<DomainName, Domain>,
    callback_templates: HashMap<Arc<str>, Arc<CallbackTemplate>>,
    rates: HashMap<Endpoint, f64>,
    endpoints: usize,
    entries: [(EntityKind, usize); 6],
    digest: u64,
}

/// The account of a domain, as far as events care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: Arc<str>,
    /// The state of its storage service.
    pub storage: Storage,
}

/// A push domain: its account, its bindings over time, its mixes.
pub struct Domain {
    account: Option<Account>,
    region: Option<Region>,
    whole: Schedule,
    paths: HashMap<Box<str>, Schedule>,
    /// Streams (by path) mixed from inputs of differing regions.
    mixed_regions: HashMap<Box<str>, HashSet<Box<str>>>,
}

/// What one domain, or one of its paths, was bound to over time, each kind for itself.
#[derive(Default)]
struct Schedule {
    recording: Vec<Span<RecordingTemplate>>,
    callback: Vec<Span<CallbackTemplate>>,
}

/// A template in force from `from` (inclusive) until `until` (exclusive); `None` is since ever, or for ever.
struct Span<T> {
    from: Option<UnixMillis>,
    until: Option<UnixMillis>,
    template: Arc<T>,
}

impl<T> Span<T> {
    /// The template of the span that covers `at`, in `spans` sorted by `from` and without overlap.
    fn find(spans: &[Self], at: UnixMillis) -> Option<&Arc<T>> {
        let after = spans.partition_point(|span| span.from.is_none_or(|from| from <= at));
        let span = spans[..after].last()?;
        span.until.is_none_or(|until| at < until).then_some(&span.template)
    }
}

impl Domain {
    /// Its account; without one there is no storage check.
    #[must_use]
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// The recording template in force at `at` for `path`: the path's own, else the domain's.
    #[must_use]
    pub fn recording_at(&self, path: Option<&str>, at: UnixMillis) -> Option<&Arc<RecordingTemplate>> {
        let own = path.and_then(|path| self.paths.get(path));
        own.and_then(|schedule| Span::find(&schedule.recording, at)).or_else(|| Span::find(&self.whole.recording, at))
    }

    /// The callback template in force at `at` for `path`: the path's own, else the domain's.
    #[must_use]
    pub fn callback_at(&self, path: Option<&str>, at: UnixMillis) -> Option<&Arc<CallbackTemplate>> {
        let own = path.and_then(|path| self.paths.get(path));
        own.and_then(|schedule| Span::find(&schedule.callback, at)).or_else(|| Span::find(&self.whole.callback, at))
    }

    /// Whether any row binds it or one of its paths, at any time.
    fn is_bound(&self) -> bool {
        !self.paths.is_empty() || !self.whole.recording.is_empty() || !self.whole.callback.is_empty()
    }

    /// Whether `stream` of `path` is mixed from domains of differing regions.
    #[must_use]
    pub fn mixes_regions(&self, path: Option<&str>, stream: Option<&str>) -> bool {
        let (Some(path), Some(stream)) = (path, stream) else { return false };
        self.mixed_regions.get(path).is_some_and(|streams| streams.contains(stream))
    }
}

impl Registry {
    /// A registry with nothing in it: every event's domain is unknown.
    #[must_use]
    pub fn empty() -> Self {
        build::empty()
    }

    /// Checks `entries` and builds their snapshot.
    ///
    /// # Errors
    /// Every problem of the entries, in the order of their kinds and rows.
    pub fn build(entries: Entries, rules: &Rules) -> Result<Self, Vec<Problem>> {
        build::build(entries, rules)
    }

    /// The domain of that name.
    #[must_use]
    pub fn domain(&self, name: &DomainName) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// The names of all domains, in no order.
    pub fn domain_names(&self) -> impl ExactSizeIterator<Item = &DomainName> {
        self.domains.keys()
    }

    /// The callback template of that name, bound or not.
    #[must_use]
    pub fn callback_template(&self, name: &str) -> Option<&Arc<CallbackTemplate>> {
        self.callback_templates.get(name)
    }

    /// All callback templates, in no order.
    pub fn callback_templates(&self) -> impl ExactSizeIterator<Item = &Arc<CallbackTemplate>> {
        self.callback_templates.values()
    }

    /// Attempts a second that `endpoint` may get from one process: the lowest of the templates that share it.
    #[must_use]
    pub fn rate(&self, endpoint: &Endpoint) -> Option<f64> {
        self.rates.get(endpoint).copied()
    }

    /// How many endpoints its callback templates name.
    #[must_use]
    pub const fn endpoints(&self) -> usize {
        self.endpoints
    }

    /// When, after `now`, the first callback template runs out of signing keys, for `callbackd_signing_key_expiry_timestamp_seconds`;
    /// `None`: none ever does. Templates that have run out already are left out: their callbacks wait, which is reported elsewhere.
    #[must_use]
    pub fn keys_run_out(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.callback_templates.values().filter_map(|template| template.keys.runs_out(now)).min()
    }

    /// How many entries of each kind there are, for `callbackd_registry_entries{kind}`.
    #[must_use]
    pub fn entries(&self) -> [(EntityKind, usize); 6] {
        self.entries
    }

    /// The first 48 bits of a SHA-256 over everything but secrets' bytes (key ids are in), whatever the order of rows:
    /// replicas that agree have the same. Exact as a metric's floating-point value.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

#[cfg(test)]
mod tests;
