//! Sorting: what is to be done with a record, decided from the record and the registry alone. Pure.

use super::mutant::{self, Mutant};
use crate::domain::binding::{self, Meeting, Skip};
use crate::domain::class::Class;
use crate::domain::dead_letter::Reason;
use crate::domain::event::{self, Event, PushStartSource};
use crate::domain::headers::{Chain, Origin};
use crate::domain::id::{DomainName, EventId};
use crate::domain::record::Record;
use crate::domain::registry::{CallbackTemplate, CallbackUrl, Registry};
use crate::domain::retry;
use crate::domain::time::UnixMillis;
use std::sync::Arc;
use std::time::Duration;

/// How far ahead of its append a record's due time may be: policies allow delays of 7 days, and jitter may double that.
const LONGEST_DELAY: Duration = Duration::from_secs(14 * 24 * 3600);

/// A callback that is due.
#[derive(Debug)]
pub struct Call {
    /// The event.
    pub event: Event,
    /// The template bound at the push start.
    pub template: Arc<CallbackTemplate>,
    /// Its URL for this kind of event.
    pub url: Arc<CallbackUrl>,
    /// The header `callbackd-notice: mixed-regions` goes with it.
    pub mixed_regions: bool,
    /// The push start was assumed, not stated.
    pub assumed_push_start: bool,
}

/// What is to be done with a record.
#[must_use]
#[derive(Debug)]
pub enum Sorted {
    /// Deliver it.
    Call(Call),
    /// A rule of the registry skips it.
    Skip {
        /// Its domain.
        domain: DomainName,
        /// The rule.
        rule: Skip,
        /// The push start was assumed, not stated.
        assumed_push_start: bool,
    },
    /// Its domain is unknown and the registry may be a moment behind: one turn through the smallest tier.
    UnknownDomainTurn {
        /// Its domain.
        domain: DomainName,
    },
    /// A dead letter.
    Bury {
        /// Its domain, if it could be read.
        domain: Option<DomainName>,
        /// Why.
        reason: Reason,
        /// Names the field, or says what was assumed.
        detail: String,
        /// A binding was looked for by a push start that was assumed, not stated.
        assumed_push_start: bool,
    },
}

/// The chain of a record read by `class`.
#[must_use]
pub fn chain(record: &Record, class: Class) -> Chain {
    let origin = match class {
        Class::Fresh => Origin::Source,
        Class::Retry => Origin::Tier,
        Class::Replay => Origin::Replay,
    };
    let chain = Chain::read(record, origin, LONGEST_DELAY);
    if mutant::active(Mutant::ResetAttemptCount) { Chain { attempts: 0, ..chain } } else { chain }
}

/// A chain that takes nothing from the record's headers, for a record whose headers cannot be handled.
#[must_use]
pub fn bare_chain(record: &Record) -> Chain {
    let bare = Record { headers: Vec::new(), ..record.clone() };
    Chain::bare(record, EventId::of(&bare))
}

/// What is to be done with `record`, in the order of design §8. `sane_now` is our wall clock, absent while it is not to be trusted: then
/// nothing is judged by age.
pub fn sort(registry: &Registry, record: &Record, chain: &Chain, class: Class, replay_limit: u32, sane_now: Option<UnixMillis>) -> Sorted {
    let event = match event::decode(record.value.as_deref(), chain.source_time) {
        Ok(event) => event,
        Err(error) => {
            return Sorted::Bury { domain: error.domain, reason: error.reason, detail: error.detail, assumed_push_start: false };
        }
    };
    let assumed_push_start = event.push_start_source == PushStartSource::Assumed;
    let bury = |event: Event, reason, detail: String| {
        let assumed_push_start = assumed_push_start && reason == Reason::RecordingUnbound;
        Sorted::Bury { domain: Some(event.domain), reason, detail, assumed_push_start }
    };
    if class == Class::Replay && chain.replays > replay_limit {
        return bury(event, Reason::ReplayLimit, format!("replayed {} times, the limit is {replay_limit}", chain.replays));
    }
    match binding::meet(registry, &event) {
        Meeting::UnknownDomain if class == Class::Retry => bury(event, Reason::UnknownDomain, "the registry has no such domain".to_owned()),
        Meeting::UnknownDomain => Sorted::UnknownDomainTurn { domain: event.domain },
        Meeting::AccountSuspended => bury(event, Reason::AccountSuspended, "the storage service of its account is not active".to_owned()),
        Meeting::RecordingUnbound { assumed } => {
            let start = if assumed { "assumed" } else { "stated" };
            let detail = format!("no recording binding at the push start {} ({start})", event.push_start.as_secs());
            bury(event, Reason::RecordingUnbound, detail)
        }
        Meeting::Skip(rule) => Sorted::Skip { domain: event.domain, rule, assumed_push_start },
        Meeting::Call { template, mixed_regions } => {
            let Some(url) = template.url(event.kind).cloned() else {
                return Sorted::Skip { domain: event.domain, rule: Skip::NoUrl, assumed_push_start };
            };
            if let Some(reason) = sane_now.and_then(|now| retry::before_attempt(&template.policy, chain, now)) {
                return bury(event, reason, format!("{} attempts were made", chain.attempts));
            }
            Sorted::Call(Call { event, template, url, mixed_regions, assumed_push_start })
        }
    }
}
