//! The scanner: one pass over a value that checks it as JSON (RFC 8259) and reports the members of its top-level object.
//!
//! It is our own because a callback is the event's bytes with two members cut out: a parsed tree would cost more than the rest of a
//! record's way here, and would lose where members stand, how they were written and which came twice.
//!
//! Invariants: iterative, so no nesting can exhaust the stack; nothing is allocated while scanning; every slice handed out lies
//! between the quotes of a string already checked as UTF-8. Not here: what a member means (`super::fields`).

use std::borrow::Cow;

/// Levels of objects and arrays that a value may have, the top-level object included (design §6).
pub(super) const MAX_DEPTH: u32 = 128;

/// Why a value is no JSON object that we take; positions are bytes from the value's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The grammar is violated here.
    NotJson(usize),
    /// It may be JSON, but is no object.
    NotAnObject,
    /// A string is not UTF-8 here.
    NotUtf8(usize),
    /// More than [`MAX_DEPTH`] levels, the first too many here.
    TooDeep(usize),
    /// The object ended, and something other than white space follows here.
    Trailing(usize),
}

/// A string's bytes between its quotes: valid UTF-8, escapes well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// As written.
    pub(super) raw: &'a [u8],
    /// Whether there is an escape in it.
    pub(super) escaped: bool,
}

/// What a member's value is, as far as anyone asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `null`.
    Null,
    /// A string.
    Text(Text<'a>),
    /// A number, as written.
    Number(&'a [u8]),
    /// `true`, `false`, an object or an array.
    Other,
}

/// One member of the top-level object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// Its name.
    pub(super) name: Text<'a>,
    /// Its value.
    pub(super) value: Token<'a>,
    /// Behind the `{` or `,` before it.
    pub(super) start: usize,
    /// At the `,` or `}` after it.
    pub(super) delimiter: usize,
}

/// Scans `value` to its end and hands each member of the top-level object to `member`, in order.
///
/// # Errors
/// The first [`Fault`]; members before it have been handed out by then.
pub(super) fn object<'a>(value: &'a [u8], mut member: impl FnMut(Member<'a>)) -> Result<(), Fault> {
    let mut cursor = Cursor { bytes: value, at: 0 };
    cursor.space();
    match cursor.peek() {
        Some(b'{') => cursor.at += 1,
        Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => return Err(Fault::NotAnObject),
        _ => return Err(cursor.not_json()),
    }
    let mut start = cursor.at;
    cursor.space();
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
    } else {
        loop {
            let name = cursor.name()?;
            let value = cursor.value()?;
            cursor.space();
            let delimiter = cursor.at;
            let more = match cursor.peek() {
                Some(b',') => true,
                Some(b'}') => false,
                _ => return Err(cursor.not_json()),
            };
            member(Member { name, value, start, delimiter });
            cursor.at += 1;
            if !more {
                break;
            }
            start = cursor.at;
            cursor.space();
        }
    }
    cursor.space();
    if cursor.at < value.len() { Err(Fault::Trailing(cursor.at)) } else { Ok(()) }
}

impl<'a> Text<'a> {
    /// The text with its escapes resolved; `None` when a surrogate stands alone, which is JSON but no text.
    pub(super) fn resolve(self) -> Option<Cow<'a, str>> {
        let raw = std::str::from_utf8(self.raw).ok()?;
        if !self.escaped {
            return Some(Cow::Borrowed(raw));
        }
        let mut text = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = rest.find('\\') {
            text.push_str(&rest[..at]);
            let (letter, behind) = rest[at + 1..].split_at_checked(1)?;
            rest = behind;
            text.push(match letter {
                "b" => '\u{8}',
                "f" => '\u{c}',
                "n" => '\n',
                "r" => '\r',
                "t" => '\t',
                "u" => {
                    let (character, behind) = unicode_escape(rest)?;
                    rest = behind;
                    character
                }
                _ => letter.chars().next()?,
            });
        }
        text.push_str(rest);
        Some(Cow::Owned(text))
    }
}

/// The character of a `\u` escape, or of two that are a surrogate pair, whose digits `rest` begins with; and what follows.
fn unicode_escape(rest: &str) -> Option<(char, &str)> {
    let unit = |rest: &str| u32::from_str_radix(rest.get(..4)?, 16).ok();
    let high = unit(rest)?;
    let rest = &rest[4..];
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, rest));
    }
    let behind = rest.strip_prefix("\\u")?;
    let low = unit(behind).filter(|low| (0xdc00..0xe000).contains(low))?;
    Some((char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, &behind[4..]))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn not_json(&self) -> Fault {
        Fault::NotJson(self.at)
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A member's name, the colon, and the white space up to the value.
    #[inline]
    fn name(&mut self) -> Result<Text<'a>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.not_json());
        }
        let name = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.not_json());
        }
        self.at += 1;
        self.space();
        Ok(name)
    }

    #[inline]
    fn value(&mut self) -> Result<Token<'a>, Fault> {
        match self.peek() {
            Some(b'{' | b'[') => self.container().map(|()| Token::Other),
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Result<Token<'a>, Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(Token::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Token::Number),
            Some(b'n') => self.literal(b"null").map(|()| Token::Null),
            Some(b't') => self.literal(b"true").map(|()| Token::Other),
            Some(b'f') => self.literal(b"false").map(|()| Token::Other),
            _ => Err(self.not_json()),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(self.not_json());
        }
        self.at += literal.len();
        Ok(())
    }

    /// Skips a nested object or array. What is open is kept as one bit a level: 1 for an object, 0 for an array, the innermost lowest. The
    /// top-level object needs none, so 128 bits are one more than [`MAX_DEPTH`] asks for.
    fn container(&mut self) -> Result<(), Fault> {
        let mut open: u128 = 0;
        let mut depth = 1;
        loop {
            let opened = self.peek();
            if let Some(b'{' | b'[') = opened {
                if depth == MAX_DEPTH {
                    return Err(Fault::TooDeep(self.at));
                }
                self.at += 1;
                self.space();
                let object = opened == Some(b'{');
                if self.peek() == Some(if object { b'}' } else { b']' }) {
                    self.at += 1;
                } else {
                    open = open << 1 | u128::from(object);
                    depth += 1;
                    if object {
                        self.name()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
            }
            loop {
                if depth == 1 {
                    return Ok(());
                }
                self.space();
                let object = open & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return Err(self.not_json()),
                }
                self.at += 1;
                open >>= 1;
                depth -= 1;
            }
        }
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.not_json()) } else { Ok(()) }
    }

    #[inline]
    fn number(&mut self) -> Result<&'a [u8], Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.bytes[start..self.at])
    }

    /// A string, from its opening quote to behind its closing one.
    #[inline]
    fn string(&mut self) -> Result<Text<'a>, Fault> {
        let start = self.at + 1;
        let (mut at, mut escaped, mut wide) = (start, false, false);
        loop {
            while let Some(chunk) = self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
                let stops = stops(u64::from_le_bytes(*chunk));
                at += stops.trailing_zeros() as usize / 8;
                if stops != 0 {
                    break;
                }
            }
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at)?;
                }
                Some(0x80..) => {
                    wide = true;
                    while self.bytes.get(at).is_some_and(|byte| *byte >= 0x80) {
                        at += 1;
                    }
                }
                Some(0x20..) => at += 1,
                Some(_) | None => return Err(Fault::NotJson(at)),
            }
        }
        let raw = &self.bytes[start..at];
        if wide {
            std::str::from_utf8(raw).map_err(|e| Fault::NotUtf8(start + e.valid_up_to()))?;
        }
        self.at = at + 1;
        Ok(Text { raw, escaped })
    }

    /// The place behind the escape that begins at `at`.
    fn escape(&self, at: usize) -> Result<usize, Fault> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') if self.bytes.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => Ok(at + 6),
            _ => Err(Fault::NotJson(at)),
        }
    }
}

/// Looks at eight bytes of a string at once for a quote, a backslash, a control character or a byte beyond ASCII: the lowest set bit is the
/// high bit of the first such byte (borrows make the bits above it unreliable). 0 when there is none; then `trailing_zeros` / 8 is 8.
#[inline]
const fn stops(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = bytes ^ (ONES * b'"' as u64);
    let backslash = bytes ^ (ONES * b'\\' as u64);
    let equal = quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash;
    let control = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    (equal | control | bytes) & HIGHS
}
