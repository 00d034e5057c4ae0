//! A registry's entries as written, before they are checked, and the problems that checking finds.
//!
//! Types are right here, values need not be: ranges, names, references and overlaps are judged by [`super::Registry::build`], the same for
//! every source of entries.

use super::super::address::AddressPolicy;
use super::super::policy::{Policy, Success};
use super::super::time::UnixMillis;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// What the checks need to know besides the entries.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many templates of each kind one account may own; those without an owner count as one account.
    pub templates_per_account: usize,
    /// Which callback URLs may be dialled.
    pub addresses: AddressPolicy,
}

/// The kinds of entries: the label `kind` of `callbackd_registry_entries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntityKind {
    /// An account.
    Account,
    /// A recording template.
    RecordingTemplate,
    /// A callback template.
    CallbackTemplate,
    /// A push domain.
    Domain,
    /// A binding.
    Binding,
    /// A stream mixed from others.
    Mix,
}

impl EntityKind {
    /// Every kind, in the order of checking.
    pub const ALL: [Self; 6] = [Self::Account, Self::RecordingTemplate, Self::CallbackTemplate, Self::Domain, Self::Binding, Self::Mix];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::RecordingTemplate => "recording_template",
            Self::CallbackTemplate => "callback_template",
            Self::Domain => "domain",
            Self::Binding => "binding",
            Self::Mix => "mix",
        }
    }

    /// The name of the list of such entries in a registry file.
    #[must_use]
    pub const fn list(self) -> &'static str {
        match self {
            Self::Account => "accounts",
            Self::RecordingTemplate => "recording_templates",
            Self::CallbackTemplate => "callback_templates",
            Self::Domain => "domains",
            Self::Binding => "bindings",
            Self::Mix => "mixes",
        }
    }
}

/// Something wrong with one entry. Never shows a secret or a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of entry.
    pub kind: EntityKind,
    /// Which of its list, from 0.
    pub index: usize,
    /// The field within it, as a path (`keys[0].secret`); empty for the entry as a whole.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// The other entry of the same kind that this one clashes with.
    pub other: Option<usize>,
}

impl Problem {
    /// Where it is, as a path from the registry's root: `bindings[3].until`.
    #[must_use]
    pub fn key(&self) -> String {
        let dot = if self.field.is_empty() { "" } else { "." };
        format!("{}[{}]{dot}{}", self.kind.list(), self.index, self.field)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key(), self.message)?;
        if let Some(other) = self.other {
            write!(f, " ({}[{other}])", self.kind.list())?;
        }
        Ok(())
    }
}

/// All entries of a registry.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Accounts.
    pub accounts: Vec<AccountEntry>,
    /// Recording templates.
    pub recording_templates: Vec<RecordingTemplateEntry>,
    /// Callback templates.
    pub callback_templates: Vec<CallbackTemplateEntry>,
    /// Push domains.
    pub domains: Vec<DomainEntry>,
    /// Bindings.
    pub bindings: Vec<BindingEntry>,
    /// Mixed streams.
    pub mixes: Vec<MixEntry>,
}

/// The state of an account's storage service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Recordings are stored.
    Active,
    /// Never activated: no recording.
    Inactive,
    /// Suspended, for arrears: no recording.
    Suspended,
}

impl Storage {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Suspended];

    /// As written in a registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Suspended => "suspended",
        }
    }
}

/// Where a domain's streams are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// The mainland.
    Mainland,
    /// Everywhere else.
    Global,
}

impl Region {
    /// Every region.
    pub const ALL: [Self; 2] = [Self::Mainland, Self::Global];

    /// As written in a registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mainland => "mainland",
            Self::Global => "global",
        }
    }
}

/// A recording's file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Flash video.
    Flv,
    /// HTTP live streaming.
    Hls,
    /// MPEG-4 part 14.
    Mp4,
    /// Audio only.
    Aac,
    /// Audio only.
    Mp3,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Flv, Self::Hls, Self::Mp4, Self::Aac, Self::Mp3];

    /// As written in a registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flv => "flv",
            Self::Hls => "hls",
            Self::Mp4 => "mp4",
            Self::Aac => "aac",
            Self::Mp3 => "mp3",
        }
    }
}

/// How long recorded files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until someone deletes them.
    Forever,
    /// This long, up to 129,600,000 s.
    For(Duration),
}

/// A named delivery policy to start from (design §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyKind {
    /// The vendor's protocol.
    #[default]
    Css,
    /// Standard Webhooks.
    Standard,
}

impl PolicyKind {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Css, Self::Standard];

    /// As written in a registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Css => "css",
            Self::Standard => "standard",
        }
    }

    /// The policy without overrides.
    #[must_use]
    pub fn policy(self) -> Policy {
        match self {
            Self::Css => Policy::css(),
            Self::Standard => Policy::standard(),
        }
    }
}

/// An account as written.
#[derive(Clone, Debug)]
pub struct AccountEntry {
    /// Unique.
    pub id: String,
    /// The state of its storage service.
    pub storage: Storage,
}

/// A recording template as written.
#[derive(Clone, Debug)]
pub struct RecordingTemplateEntry {
    /// Unique among recording templates.
    pub name: String,
    /// Its owner.
    pub account: Option<String>,
    /// What is recorded; none means: do not record.
    pub formats: Vec<Format>,
    /// How long one file gets, above zero, up to 24 h.
    pub interval: Duration,
    /// How long files are kept.
    pub keep: Keep,
}

/// A callback template as written; an absent override leaves what the policy says.
#[derive(Clone, Default)]
pub struct CallbackTemplateEntry {
    /// Unique among callback templates.
    pub name: String,
    /// Its owner.
    pub account: Option<String>,
    /// The policy to start from.
    pub policy: PolicyKind,
    /// For events of type 100.
    pub recording_file: Option<String>,
    /// For events of type 332.
    pub recording_status: Option<String>,
    /// For events of type 341.
    pub recording_exception: Option<String>,
    /// Signing keys.
    pub keys: Vec<KeyEntry>,
    /// `retry.delays`.
    pub delays: Option<Vec<Duration>>,
    /// `retry.attempts`.
    pub attempts: Option<u32>,
    /// `retry.max_age`.
    pub max_age: Option<Duration>,
    /// `retry.max_wait`.
    pub max_wait: Option<Duration>,
    /// `retry.jitter`.
    pub jitter: Option<f64>,
    /// `success`.
    pub success: Option<Success>,
    /// `timeout`.
    pub timeout: Option<Duration>,
    /// `connect_timeout`.
    pub connect_timeout: Option<Duration>,
    /// `rate`: attempts a second.
    pub rate: Option<f64>,
    /// For receivers that ask for a certificate.
    pub client_certificate: Option<ClientCertificateEntry>,
    /// Request headers.
    pub headers: Vec<HeaderEntry>,
}

/// Queries of URLs, keys and header values may be secrets.
impl fmt::Debug for CallbackTemplateEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackTemplateEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A client certificate as written, its references resolved. Both are PEM.
#[derive(Clone)]
pub struct ClientCertificateEntry {
    /// The chain, the client's own first.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ClientCertificateEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificateEntry").finish_non_exhaustive()
    }
}

/// A signing key as written, its references resolved.
#[derive(Clone)]
pub struct KeyEntry {
    /// Unique within the template.
    pub id: String,
    /// The vendor key's bytes.
    pub value: Zeroizing<Vec<u8>>,
    /// A secret of its own for the HMAC: `whsec_<base64>` or raw.
    pub secret: Option<Zeroizing<Vec<u8>>>,
    /// In force from then on.
    pub not_before: Option<UnixMillis>,
    /// In force until then.
    pub expires: Option<UnixMillis>,
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A request header as written, its reference resolved.
#[derive(Clone)]
pub struct HeaderEntry {
    /// In any case.
    pub name: String,
    /// May be a secret.
    pub value: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for HeaderEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A push domain as written.
#[derive(Clone, Debug)]
pub struct DomainEntry {
    /// Unique after normalisation.
    pub name: String,
    /// Its account; without one there is no storage check.
    pub account: Option<String>,
    /// Its region, for mixes.
    pub region: Option<Region>,
}

/// A binding as written.
#[derive(Clone, Debug)]
pub struct BindingEntry {
    /// A domain of the registry.
    pub domain: String,
    /// One path of it; without it, all paths that have no binding of their own.
    pub path: Option<String>,
    /// A recording template of the registry.
    pub recording_template: Option<String>,
    /// A callback template of the registry.
    pub callback_template: Option<String>,
    /// For pushes that start from then on (inclusive); absent: since ever.
    pub from: Option<UnixMillis>,
    /// For pushes that start until then (exclusive); absent: for ever.
    pub until: Option<UnixMillis>,
}

/// A stream that is mixed from others, as written.
#[derive(Clone, Debug)]
pub struct MixEntry {
    /// A domain of the registry.
    pub domain: String,
    /// The path of the mixed stream.
    pub path: String,
    /// The mixed stream.
    pub stream: String,
    /// The domains whose streams go into it; at least one.
    pub inputs: Vec<String>,
}
