//! The fields that are read, and the judgement on their values: made once the whole event has been scanned, because the type that picks
//! the fields may stand last.

use super::super::id::DomainName;
use super::super::time::UnixMillis;
use super::number::{self, Whole};
use super::scan::{Text, Token};
use super::{EventKind, PushStartSource};
use std::time::Duration;

/// Until this long after the record a push start is plausible (design §6).
const LATEST_PUSH: Duration = Duration::from_secs(24 * 3600);

/// Until 2100-01-01T00:00:00Z a push start is plausible when the record has no timestamp to compare with.
const LATEST_PUSH_EVER: UnixMillis = UnixMillis::from_secs(4_102_444_800);

/// The longest name of a field, 15 characters, written all in `\u` escapes.
const LONGEST_NAME: usize = 6 * 15;

/// A field that some event kind reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    EventType,
    App,
    Appname,
    Domain,
    Path,
    StreamId,
    RecordTempId,
    TaskId,
    PushStartTime,
    StartTime,
    EventTime,
    Timestamp,
}

impl Field {
    const COUNT: usize = 12;

    /// The name in the value.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::App => "app",
            Self::Appname => "appname",
            Self::Domain => "domain",
            Self::Path => "path",
            Self::StreamId => "stream_id",
            Self::RecordTempId => "record_temp_id",
            Self::TaskId => "task_id",
            Self::PushStartTime => "push_start_time",
            Self::StartTime => "start_time",
            Self::EventTime => "event_time",
            Self::Timestamp => "timestamp",
        }
    }
}

/// What a top-level member is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Read, by some kind.
    Read(Field),
    /// `t` or `sign`: cut out.
    Seal,
    /// Passes through.
    Unknown,
}

/// The role of the member called `name`; names are compared after unescaping.
#[inline]
pub(super) fn role(name: Text<'_>) -> Role {
    if name.escaped {
        if name.raw.len() > LONGEST_NAME {
            return Role::Unknown;
        }
        return name.resolve().map_or(Role::Unknown, |name| plain_role(name.as_bytes()));
    }
    plain_role(name.raw)
}

#[inline]
fn plain_role(name: &[u8]) -> Role {
    Role::Read(match name {
        b"t" | b"sign" => return Role::Seal,
        b"event_type" => Field::EventType,
        b"app" => Field::App,
        b"appname" => Field::Appname,
        b"domain" => Field::Domain,
        b"path" => Field::Path,
        b"stream_id" => Field::StreamId,
        b"record_temp_id" => Field::RecordTempId,
        b"task_id" => Field::TaskId,
        b"push_start_time" => Field::PushStartTime,
        b"start_time" => Field::StartTime,
        b"event_time" => Field::EventTime,
        b"timestamp" => Field::Timestamp,
        _ => return Role::Unknown,
    })
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldFault {
    /// It is needed, and absent, null or empty.
    Missing(Field),
    /// It is needed and of another type than the protocol says, or a text that holds no text (a lone surrogate).
    WrongType(Field),
    /// Given more than once, be it twice the same.
    Repeated(Field),
    /// A text that cannot be a domain name.
    NotADomain(Field),
    /// An `event_type` without a callback here.
    Unsupported,
}

#[derive(Clone, Copy, Default)]
struct Slot<'a> {
    /// `None`: absent or null.
    token: Option<Token<'a>>,
    seen: bool,
    repeated: bool,
}

/// The members found, by field.
#[derive(Default)]
pub(super) struct Found<'a>([Slot<'a>; Field::COUNT]);

impl<'a> Found<'a> {
    /// Keeps a member's value.
    #[inline]
    pub(super) fn keep(&mut self, field: Field, value: Token<'a>) {
        let slot = &mut self.0[field as usize];
        slot.repeated = slot.seen;
        slot.seen = true;
        slot.token = Some(value).filter(|value| *value != Token::Null);
    }

    fn get(&self, field: Field) -> Option<Token<'a>> {
        self.0[field as usize].token
    }

    fn once(&self, field: Field) -> Result<Option<Token<'a>>, FieldFault> {
        if self.0[field as usize].repeated { Err(FieldFault::Repeated(field)) } else { Ok(self.get(field)) }
    }

    /// The kind by `event_type`: a whole number or such a number's digits as text; 100 when it is missing.
    pub(super) fn kind(&self) -> Result<EventKind, FieldFault> {
        let number = match self.once(Field::EventType)? {
            None => return Ok(EventKind::RecordingFile),
            Some(Token::Number(number)) => number::whole(number),
            Some(Token::Text(text)) => match text.resolve() {
                Some(digits) if canonical(digits.as_bytes()) => number::whole(digits.as_bytes()),
                Some(_) | None => Whole::Not,
            },
            Some(Token::Null | Token::Other) => Whole::Not,
        };
        match number {
            Whole::Is(number) => EventKind::of_type(number).ok_or(FieldFault::Unsupported),
            Whole::Beyond => Err(FieldFault::Unsupported),
            Whole::Not => Err(FieldFault::WrongType(Field::EventType)),
        }
    }

    /// The push domain by the field that `kind` picks.
    pub(super) fn domain(&self, kind: EventKind) -> Result<DomainName, FieldFault> {
        self.domain_in(match kind {
            EventKind::RecordingFile => Field::App,
            EventKind::RecordingStatus | EventKind::RecordingException => Field::Domain,
        })
    }

    /// The push domain of a value whose kind is not known: by either spelling; `None` when the two disagree.
    pub(super) fn domain_of_any_kind(&self) -> Option<DomainName> {
        match (self.domain_in(Field::App), self.domain_in(Field::Domain)) {
            (Ok(app), Ok(domain)) => Some(app).filter(|app| *app == domain),
            (Ok(name), Err(FieldFault::Missing(_))) | (Err(FieldFault::Missing(_)), Ok(name)) => Some(name),
            (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => None,
        }
    }

    fn domain_in(&self, field: Field) -> Result<DomainName, FieldFault> {
        let name = self.text(field)?.ok_or(FieldFault::Missing(field))?;
        DomainName::parse(&name).ok_or(FieldFault::NotADomain(field))
    }

    /// The push path by the field that `kind` picks; an empty one is none.
    pub(super) fn path(&self, kind: EventKind) -> Result<Option<String>, FieldFault> {
        let field = match kind {
            EventKind::RecordingFile | EventKind::RecordingStatus => Field::Appname,
            EventKind::RecordingException => Field::Path,
        };
        Ok(self.text(field)?.map(std::borrow::Cow::into_owned))
    }

    /// A needed field's text; `None` when it is absent, null or empty.
    fn text(&self, field: Field) -> Result<Option<std::borrow::Cow<'a, str>>, FieldFault> {
        match self.once(field)? {
            None => Ok(None),
            Some(Token::Text(text)) if text.raw.is_empty() => Ok(None),
            Some(Token::Text(text)) => text.resolve().map(Some).ok_or(FieldFault::WrongType(field)),
            Some(Token::Null | Token::Number(_) | Token::Other) => Err(FieldFault::WrongType(field)),
        }
    }

    /// The stream; a value of another type is as good as absent, since nothing needs it.
    pub(super) fn stream(&self) -> Result<Option<String>, FieldFault> {
        Ok(match self.once(Field::StreamId)? {
            Some(Token::Text(text)) if !text.raw.is_empty() => text.resolve().map(std::borrow::Cow::into_owned),
            Some(Token::Text(_) | Token::Null | Token::Number(_) | Token::Other) | None => None,
        })
    }

    /// Whether a recording template made the file: type 100 only, see [`super::Event::template_driven`].
    pub(super) fn template_driven(&self, kind: EventKind) -> Result<bool, FieldFault> {
        match kind {
            EventKind::RecordingFile => {
                let (template, task) = (self.given(Field::RecordTempId)?, self.given(Field::TaskId)?);
                Ok(template || !task)
            }
            EventKind::RecordingStatus | EventKind::RecordingException => Ok(false),
        }
    }

    fn given(&self, field: Field) -> Result<bool, FieldFault> {
        Ok(match self.once(field)? {
            None => false,
            Some(Token::Text(text)) => !text.raw.is_empty(),
            Some(Token::Null | Token::Number(_) | Token::Other) => true,
        })
    }

    /// When the push started: the first plausible of the fields that may tell, else `record_timestamp`.
    pub(super) fn push_start(&self, kind: EventKind, record_timestamp: UnixMillis) -> Result<(UnixMillis, PushStartSource), FieldFault> {
        let latest = if record_timestamp.0 < 0 { LATEST_PUSH_EVER } else { record_timestamp.plus(LATEST_PUSH) };
        let plausible = UnixMillis::FIRST_PLAUSIBLE..=latest;
        let own: &[Field] = match kind {
            EventKind::RecordingFile => &[],
            EventKind::RecordingStatus => &[Field::EventTime],
            EventKind::RecordingException => &[Field::Timestamp],
        };
        let mut start = None;
        for field in [Field::PushStartTime, Field::StartTime].iter().chain(own) {
            let time = self.once(*field)?.and_then(instant).filter(|time| plausible.contains(time));
            let source = if *field == Field::PushStartTime { PushStartSource::Stated } else { PushStartSource::Assumed };
            start = start.or(time.map(|time| (time, source)));
        }
        Ok(start.unwrap_or((record_timestamp, PushStartSource::Assumed)))
    }
}

/// Unix seconds: a number, with or without a fraction, or digits as text.
fn instant(token: Token<'_>) -> Option<UnixMillis> {
    match token {
        Token::Number(number) => number::seconds(number),
        Token::Text(text) if canonical(text.raw) => number::seconds(text.raw),
        Token::Text(_) | Token::Null | Token::Other => None,
    }
}

/// Whether a text's digits are those of an unsigned integer as JSON would write it.
fn canonical(digits: &[u8]) -> bool {
    match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}
