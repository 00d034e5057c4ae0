//! Templates as the snapshot holds them: checked, shared, ready to use.

use super::super::address::{AddressPolicy, Refusal};
use super::super::event::EventKind;
use super::super::policy::Policy;
use super::super::signature::KeyRing;
use super::{ClientIdentity, Format, Keep};
use rustls_pki_types::ServerName;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest callback URL, normalised, in bytes: most servers take no longer ones.
const MAX_URL: usize = 8 * 1024;

/// A callback URL, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl {
    /// As normalised by the URL standard, without a fragment.
    pub url: url::Url,
    /// The URL without its query and fragment: the unit of isolation.
    pub endpoint: Endpoint,
    /// Shown to a receiver that asks for a certificate; `https` only.
    pub identity: Option<Arc<ClientIdentity>>,
}

impl CallbackUrl {
    /// Why no request can be sent to it, though it is a URL and its address may be dialled; `None`: one can.
    pub(super) fn unsendable(&self) -> Option<String> {
        let length = self.url.as_str().len();
        if length > MAX_URL {
            return Some(format!("has {length} bytes, at most {MAX_URL} can be sent"));
        }
        let named = self.url.domain().filter(|_| self.url.scheme() == "https").map(|name| name.strip_suffix('.').unwrap_or(name));
        let nameless = named.is_some_and(|name| ServerName::try_from(name).is_err());
        nameless.then(|| "the host is no name that a certificate could be for: mend it, or write http".to_owned())
    }

    /// Takes over a parsed URL that was judged already; its fragment, which is never sent, is dropped.
    #[must_use]
    pub fn new(mut url: url::Url) -> Self {
        url.set_fragment(None);
        let text = url.as_str();
        let endpoint = Endpoint(text.split_once('?').map_or(text, |(before, _)| before).into());
        Self { url, endpoint, identity: None }
    }

    /// Reads and judges `text`.
    ///
    /// # Errors
    /// Whatever [`AddressPolicy::judge_url`] refuses; [`Refusal::Url`] for a text that is no URL. Neither shows the text.
    pub fn parse(text: &str, addresses: &AddressPolicy) -> Result<Self, Refusal> {
        let url = url::Url::parse(text).map_err(|_| Refusal::Url)?;
        addresses.judge_url(&url)?;
        Ok(Self::new(url))
    }
}

/// Without the query, which may hold a secret.
impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallbackUrl").field(&self.endpoint.0).finish()
    }
}

/// The unit of isolation: a callback URL without its query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(pub Arc<str>);

/// A template's own request header. The value may be a secret: it is never shown.
#[derive(Clone)]
pub struct TemplateHeader {
    /// Lower-case name, none of the reserved ones.
    pub name: http::HeaderName,
    /// Marked sensitive.
    pub value: http::HeaderValue,
}

impl fmt::Debug for TemplateHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateHeader").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A callback template, checked.
#[derive(Debug)]
pub struct CallbackTemplate {
    /// Its name.
    pub name: Arc<str>,
    /// Its delivery policy, the overrides applied.
    pub policy: Policy,
    /// URL per event kind; a kind without one is skipped.
    pub recording_file: Option<Arc<CallbackUrl>>,
    /// As above.
    pub recording_status: Option<Arc<CallbackUrl>>,
    /// As above.
    pub recording_exception: Option<Arc<CallbackUrl>>,
    /// Signing keys; may be empty.
    pub keys: KeyRing,
    /// Its own request headers.
    pub headers: Vec<TemplateHeader>,
    /// Attempts a second for each of its endpoints and process, above 0.
    pub rate: Option<f64>,
}

impl CallbackTemplate {
    /// The URL for events of `kind`.
    #[must_use]
    pub fn url(&self, kind: EventKind) -> Option<&Arc<CallbackUrl>> {
        match kind {
            EventKind::RecordingFile => self.recording_file.as_ref(),
            EventKind::RecordingStatus => self.recording_status.as_ref(),
            EventKind::RecordingException => self.recording_exception.as_ref(),
        }
    }

    /// Its URLs, whatever they are for.
    pub fn urls(&self) -> impl Iterator<Item = &Arc<CallbackUrl>> {
        [&self.recording_file, &self.recording_status, &self.recording_exception].into_iter().flatten()
    }
}

/// A recording template, checked. Callbacks only need to know whether one is bound; the rest is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingTemplate {
    /// Its name.
    pub name: Arc<str>,
    /// What is recorded.
    pub formats: Vec<Format>,
    /// How long one file gets.
    pub interval: Duration,
    /// How long files are kept.
    pub keep: Keep,
}
