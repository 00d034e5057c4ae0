//! Binding: what an event meets in the registry, in the order of design §8.
//!
//! *Whether* to call and by *which* template is decided by the bindings in force when the push started; the URL, the keys and the policy of
//! that template are those of the snapshot at hand. So a changed binding never affects a stream that is already pushed, and a mended
//! URL helps what is waiting. The account's state is that of now: it is judged at delivery.

use super::event::{Event, EventKind, PushStartSource};
use super::registry::{CallbackTemplate, Registry, Storage};
use std::sync::Arc;

/// Why an event is skipped by a rule that the registry states (counted and logged).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// No callback template was bound at the push start.
    NoCallbackTemplate,
    /// The bound template has no URL for this event kind.
    NoUrl,
}

impl Skip {
    /// Every rule.
    pub const ALL: [Self; 2] = [Self::NoCallbackTemplate, Self::NoUrl];

    /// Its name in logs, and the value of the label `reason` of `callbackd_skipped_total`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCallbackTemplate => "no_callback_template",
            Self::NoUrl => "no_url",
        }
    }
}

/// What an event meets.
#[must_use]
#[derive(Debug)]
pub enum Meeting {
    /// A callback is due, by this template (its URL and keys are those of now).
    Call {
        /// The template bound at the push start.
        template: Arc<CallbackTemplate>,
        /// Header `callbackd-notice: mixed-regions` goes with it.
        mixed_regions: bool,
    },
    /// Nothing to deliver.
    Skip(Skip),
    /// The domain is in no registry.
    UnknownDomain,
    /// Its account's storage service is not active.
    AccountSuspended,
    /// A template-driven recording without a recording binding at push start; says whether that start was assumed.
    RecordingUnbound {
        /// The push start was assumed, not stated (design §6).
        assumed: bool,
    },
}

/// What `event` meets in `registry`.
pub fn meet(registry: &Registry, event: &Event) -> Meeting {
    let Some(domain) = registry.domain(&event.domain) else { return Meeting::UnknownDomain };
    if domain.account().is_some_and(|account| account.storage != Storage::Active) {
        return Meeting::AccountSuspended;
    }
    let path = event.path.as_deref();
    let recorded_by_template = event.kind == EventKind::RecordingFile && event.template_driven;
    if recorded_by_template && domain.recording_at(path, event.push_start).is_none() {
        return Meeting::RecordingUnbound { assumed: event.push_start_source == PushStartSource::Assumed };
    }
    let Some(template) = domain.callback_at(path, event.push_start) else { return Meeting::Skip(Skip::NoCallbackTemplate) };
    if template.url(event.kind).is_none() {
        return Meeting::Skip(Skip::NoUrl);
    }
    Meeting::Call { template: template.clone(), mixed_regions: domain.mixes_regions(path, event.stream.as_deref()) }
}

#[cfg(test)]
mod tests;
