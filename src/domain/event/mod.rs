//! Decoding: from a record's bytes to an event (design §6, protocol 100 / 332 / 341).
//!
//! ```text
//!  bytes ─► scan ─► members ─┬─ t, sign ─► cuts
//!           (one pass)       └─ fields  ─► judged at the end, by the type
//! ```
//!
//! Liberal in what nobody needs, strict in what decides where a callback goes: what two parsers could read differently there is
//! refused. Choices where JSON or the protocol leave one:
//! - `event_type` is a number whose value is whole (`100`, `100.0`, `1e2`) or such a number's plain digits as text; another whole
//!   number is an event without a callback here, anything else (`""`, `"1e2"`, `100.5`, `true`) a wrong type;
//! - a field is *read* if its type picks it, optional ones included: a second one is refused, be it null or equal;
//! - an empty text is as good as an absent one, for all fields but `event_type`;
//! - a lone surrogate (`\ud800`) is JSON: it passes, but in a field that is needed it is a wrong type;
//! - times are Unix seconds, a number (fractions are kept to the millisecond) or plain digits as text; others are ignored.

mod fields;
mod number;
mod scan;
mod seal;
#[cfg(test)]
mod tests;

use super::body::Cuts;
use super::dead_letter::Reason;
use super::id::DomainName;
use super::time::UnixMillis;
use fields::{FieldFault, Found, Role};
use scan::Fault;

pub use seal::{Found as FoundMember, Sealed, sealed};

/// The event kinds that have a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// 100: a recording file is ready.
    RecordingFile,
    /// 332: the status of a recording changed.
    RecordingStatus,
    /// 341: something went wrong in a recording.
    RecordingException,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::RecordingFile, Self::RecordingStatus, Self::RecordingException];

    /// Its `event_type`.
    #[must_use]
    pub const fn event_type(self) -> i64 {
        match self {
            Self::RecordingFile => 100,
            Self::RecordingStatus => 332,
            Self::RecordingException => 341,
        }
    }

    /// The kind with that `event_type`, if it has a callback.
    #[must_use]
    pub fn of_type(event_type: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.event_type() == event_type)
    }
}

/// Where the time of the push start was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStartSource {
    /// The field `push_start_time`: the push itself.
    Stated,
    /// Another field or the record timestamp: an assumption, counted.
    Assumed,
}

/// What is needed of an event to deliver it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its kind.
    pub kind: EventKind,
    /// The push domain.
    pub domain: DomainName,
    /// The push path, never empty; without it only the domain's own binding applies.
    pub path: Option<String>,
    /// The stream (`stream_id`), if given as a string; never empty.
    pub stream: Option<String>,
    /// When the push started, for the choice of binding.
    pub push_start: UnixMillis,
    /// Whether that was stated or assumed.
    pub push_start_source: PushStartSource,
    /// Type 100 only: `record_temp_id` is given, or neither it nor `task_id` is (empty is as good as absent).
    pub template_driven: bool,
    /// Where the top-level members `t` and `sign` stand in the value.
    pub cuts: Cuts,
}

/// A record that is no event for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct DecodeError {
    /// `Undecodable` or `UnsupportedEvent`.
    pub reason: Reason,
    /// Names the field or the fault; ASCII, at most 128 bytes; never holds the event's values.
    pub detail: String,
    /// The domain, when it could be read all the same.
    pub domain: Option<DomainName>,
}

/// Reads `value` once, without building a tree; nothing is allocated but the texts of the event.
///
/// # Errors
/// As design §6: not JSON, not an object, invalid UTF-8 anywhere, deeper than 128, no domain, a wrong type in a field
/// that is needed, a duplicate of a field that is read; or an `event_type` without a callback here.
pub fn decode(value: Option<&[u8]>, record_timestamp: UnixMillis) -> Result<Event, DecodeError> {
    let value = value.ok_or_else(|| undecodable("the value is null"))?;
    let mut found = Found::default();
    let mut cuts = Cuts::default();
    scan::object(value, |member| match fields::role(member.name) {
        Role::Read(field) => found.keep(field, member.value),
        Role::Seal => cuts.member(value, member.start, member.delimiter),
        Role::Unknown => {}
    })
    .map_err(|fault| malformed(value, fault))?;

    let kind = found.kind().map_err(|fault| refused(fault, found.domain_of_any_kind()))?;
    let domain = found.domain(kind).map_err(|fault| refused(fault, None))?;
    match event(&found, kind, record_timestamp) {
        Ok((path, stream, (push_start, push_start_source), template_driven)) => {
            Ok(Event { kind, domain, path, stream, push_start, push_start_source, template_driven, cuts })
        }
        Err(fault) => Err(refused(fault, Some(domain))),
    }
}

type Rest = (Option<String>, Option<String>, (UnixMillis, PushStartSource), bool);

/// All that is read besides kind and domain.
fn event(found: &Found<'_>, kind: EventKind, record_timestamp: UnixMillis) -> Result<Rest, FieldFault> {
    Ok((found.path(kind)?, found.stream()?, found.push_start(kind, record_timestamp)?, found.template_driven(kind)?))
}

fn undecodable(detail: impl Into<String>) -> DecodeError {
    DecodeError { reason: Reason::Undecodable, detail: detail.into(), domain: None }
}

#[cold]
fn malformed(value: &[u8], fault: Fault) -> DecodeError {
    undecodable(match fault {
        Fault::NotJson(_) if value.is_empty() => "the value is empty".into(),
        Fault::NotJson(0) if value.starts_with(b"\xef\xbb\xbf") => "not JSON: begins with a byte order mark".into(),
        Fault::NotJson(at) => format!("not JSON at byte {at}"),
        Fault::NotAnObject => "not an object".into(),
        Fault::NotUtf8(at) => format!("not UTF-8 at byte {at}"),
        Fault::TooDeep(at) => format!("deeper than {} levels at byte {at}", scan::MAX_DEPTH),
        Fault::Trailing(at) => format!("more after the object at byte {at}"),
    })
}

#[cold]
fn refused(fault: FieldFault, domain: Option<DomainName>) -> DecodeError {
    let (reason, detail) = match fault {
        FieldFault::Missing(field) => (Reason::Undecodable, format!("{}: missing", field.name())),
        FieldFault::WrongType(field) => (Reason::Undecodable, format!("{}: wrong type", field.name())),
        FieldFault::Repeated(field) => (Reason::Undecodable, format!("{}: given more than once", field.name())),
        FieldFault::NotADomain(field) => (Reason::Undecodable, format!("{}: not a domain name", field.name())),
        FieldFault::Unsupported => (Reason::UnsupportedEvent, "event_type: no callback for this type".into()),
    };
    DecodeError { reason, detail, domain }
}
