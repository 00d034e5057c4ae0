//! HTTP/1.1 on the wire, as much of it as a callback needs (RFC 9112): a request's head, an answer's head, and where its body ends. Pure.
//!
//! A client library was used here first and took a fifth of a callback's whole cost for what callbacks do not have: streamed bodies, pipes
//! between tasks, a header map of every answer. Whether *another* request may use the same connection is judged strictly: whatever is
//! ambiguous about an answer's end (two lengths, a length beside chunks, bare line feeds) costs the connection, never the outcome.
//!
//! Heads are taken apart by `httparse`, the parser of that library.

use super::target::Target;
use crate::delivery::ports::HeaderLines;
use crate::domain::body::decimal;
use std::mem::MaybeUninit;

/// The most headers of an answer; with more it is malformed.
const MAX_HEADERS: usize = 100;

/// Longest `Retry-After` that is taken, bytes; a date has 29.
const MAX_RETRY_AFTER: usize = 64;

/// What came is not HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Writes the head of a callback with a body of `length` bytes.
pub(super) fn write_head(out: &mut Vec<u8>, target: &Target, headers: &HeaderLines, length: usize) {
    let length = decimal(i64::try_from(length).unwrap_or(i64::MAX));
    for part in [&*target.head, headers.as_bytes(), b"content-length: ", &*length, b"\r\n\r\n"] {
        out.extend_from_slice(part);
    }
}

/// An answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// 100–999.
    pub(super) status: u16,
    /// `Retry-After`, when it is short visible text; of several the first.
    pub(super) retry_after: Option<String>,
    /// Where its body ends.
    pub(super) body: Body,
    /// The connection may be used for another request once the body has ended.
    pub(super) keep: bool,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The beginning of a head.
    Partial,
    /// An interim head of this many bytes (100, 103): another follows.
    Interim(usize),
    /// The answer's head, of this many bytes.
    Answer(usize, Head),
}

/// Takes the head at the start of `bytes` apart.
///
/// # Errors
/// When it is not HTTP/1, has too many headers, or a `Content-Length` that is no number.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
        Err(_) => return Err(Malformed),
    };
    let status = response.code.filter(|code| *code >= 100).ok_or(Malformed)?;
    // 101 ends HTTP on this connection: it is an answer, if not one that anybody asked for.
    if status < 200 && status != 101 {
        return Ok(Parsed::Interim(length));
    }
    let mut keep = response.version == Some(1) && status != 101;
    let (mut retry_after, mut stated, mut chunked) = (None, None, None);
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            10 if is("connection") => keep &= !tokens(header.value).any(|token| token.eq_ignore_ascii_case(b"close")),
            11 if retry_after.is_none() && is("retry-after") => retry_after = Some(header.value),
            14 if is("content-length") => {
                let length = number(header.value)?;
                if stated.is_some_and(|stated| stated != length) {
                    return Err(Malformed);
                }
                stated = Some(length);
            }
            // The last coding of the last line counts.
            17 if is("transfer-encoding") => {
                chunked = Some(tokens(header.value).last().is_some_and(|token| token.eq_ignore_ascii_case(b"chunked")));
            }
            _ => {}
        }
    }
    // Chunks beside a length: somebody on the way may see another end than we do. So may an old peer that knows of no chunks.
    keep &= chunked.is_none() || stated.is_none() && response.version == Some(1);
    let body = match (status, chunked, stated) {
        (101 | 204 | 304, _, _) => Body::Length(0),
        (_, Some(true), _) => Body::Chunked(Chunks::Size { size: 0, digits: 0 }),
        (_, Some(false), _) | (_, None, None) => Body::ToTheEnd,
        (_, None, Some(length)) => Body::Length(length),
    };
    keep &= body != Body::ToTheEnd;
    let text = |value: &[u8]| (value.len() <= MAX_RETRY_AFTER).then(|| String::from_utf8(value.to_vec()).ok()).flatten();
    let visible = |text: &String| text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let retry_after = retry_after.and_then(text).filter(visible);
    Ok(Parsed::Answer(length, Head { status, retry_after, body, keep }))
}

/// An answer as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRead {
    /// 100–999.
    pub status: u16,
    /// `Retry-After`, when it is short visible text.
    pub retry_after: Option<String>,
    /// The connection may be used for another request once the body has ended.
    pub keep: bool,
    /// Bytes up to the end of its body; `None`: it has not ended.
    pub length: Option<usize>,
}

/// Reads the answer to which `bytes` begin, `piece` of them at a time (at least 1), as a connection does; `None` when its head is not
/// complete, or when it is malformed. Nothing sends by it: it is what of the parser the fuzzer gets hold of.
#[must_use]
pub fn read_in_pieces(bytes: &[u8], piece: usize) -> Option<AnswerRead> {
    let (mut at, mut filled) = (0, 0);
    let (mut head, mut worth) = (None, true);
    loop {
        let new = piece.max(1).min(bytes.len() - filled);
        filled += new;
        worth |= may_end_head(&bytes[at..filled], new);
        while head.is_none() {
            // Before each head, as a connection does.
            at += bytes[at..filled].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if !worth {
                break;
            }
            match parse(&bytes[at..filled]).ok()? {
                Parsed::Partial => worth = false,
                Parsed::Interim(length) => at += length,
                Parsed::Answer(length, read) => {
                    at += length;
                    head = Some(read);
                }
            }
        }
        if let Some(head) = &mut head {
            at += head.body.take(&bytes[at..filled]).ok()?;
            if head.body.is_over() || filled == bytes.len() {
                let length = head.body.is_over().then_some(at);
                return Some(AnswerRead { status: head.status, retry_after: head.retry_after.clone(), keep: head.keep, length });
            }
        } else if filled == bytes.len() {
            return None;
        }
    }
}

/// Whether a head may end within the last `new` of `bytes`.
pub(super) fn may_end_head(bytes: &[u8], new: usize) -> bool {
    // Up to three bytes of the empty line may have been there before.
    let region = &bytes[bytes.len().saturating_sub(new + 3)..];
    region.windows(2).any(|two| two == b"\n\n") || region.windows(3).any(|three| three == b"\n\r\n")
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A length: digits, or a list of equal ones, which some proxies make of two equal headers.
fn number(value: &[u8]) -> Result<u64, Malformed> {
    let mut length = None;
    for token in tokens(value) {
        if token.is_empty() || !token.iter().all(u8::is_ascii_digit) {
            return Err(Malformed);
        }
        let number = std::str::from_utf8(token).ok().and_then(|digits| digits.parse().ok()).ok_or(Malformed)?;
        if length.is_some_and(|length| length != number) {
            return Err(Malformed);
        }
        length = Some(number);
    }
    length.ok_or(Malformed)
}

/// How far an answer's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes are left.
    Length(u64),
    /// Chunks follow.
    Chunked(Chunks),
    /// It ends with the connection.
    ToTheEnd,
}

/// Where in the chunks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the hexadecimal size.
    Size { size: u64, digits: u32 },
    /// In what follows the size, up to the carriage return.
    Extension { size: u64 },
    /// At the line feed behind the size.
    SizeEnd { size: u64 },
    /// In the data.
    Data { left: u64 },
    /// At the line's end behind the data; whether the carriage return is through.
    DataEnd { returned: bool },
    /// In the trailer: whether its line is empty so far, and whether a carriage return came last.
    Trailer { empty: bool, returned: bool },
    /// Behind the last byte.
    Over,
}

impl Body {
    /// Whether all of it was taken.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Over))
    }

    /// Takes the bytes of the body at the start of `bytes` and returns how many those were: less than all only when the body is over.
    ///
    /// # Errors
    /// When the chunks are malformed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::ToTheEnd => Ok(bytes.len()),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => {
                let mut at = 0;
                while at < bytes.len() && *chunks != Chunks::Over {
                    at += chunks.step(&bytes[at..])?;
                }
                Ok(at)
            }
        }
    }
}

impl Chunks {
    /// One byte of framing, or as much data as there is. `bytes` is not empty.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let byte = bytes[0];
        *self = match *self {
            Self::Size { size, digits } => match char::from(byte).to_digit(16) {
                // Fifteen digits are beyond any body and below any overflow.
                Some(digit) if digits < 15 => Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 },
                None if digits > 0 && byte == b'\r' => Self::SizeEnd { size },
                None if digits > 0 && matches!(byte, b';' | b' ' | b'\t') => Self::Extension { size },
                Some(_) | None => return Err(Malformed),
            },
            Self::Extension { size } => match byte {
                b'\r' => Self::SizeEnd { size },
                b'\n' => return Err(Malformed),
                _ => Self::Extension { size },
            },
            Self::SizeEnd { size } if byte == b'\n' => match size {
                0 => Self::Trailer { empty: true, returned: false },
                left => Self::Data { left },
            },
            Self::Data { left } => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - taken as u64;
                *self = if left == 0 { Self::DataEnd { returned: false } } else { Self::Data { left } };
                return Ok(taken);
            }
            Self::DataEnd { returned: false } if byte == b'\r' => Self::DataEnd { returned: true },
            Self::DataEnd { returned: true } if byte == b'\n' => Self::Size { size: 0, digits: 0 },
            Self::Trailer { empty: true, returned: true } if byte == b'\n' => Self::Over,
            Self::Trailer { empty: false, returned: true } if byte == b'\n' => Self::Trailer { empty: true, returned: false },
            Self::Trailer { empty, returned: false } if byte == b'\r' => Self::Trailer { empty, returned: true },
            Self::Trailer { returned: false, .. } if byte != b'\n' => Self::Trailer { empty: false, returned: false },
            Self::SizeEnd { .. } | Self::DataEnd { .. } | Self::Trailer { .. } | Self::Over => return Err(Malformed),
        };
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Head, Malformed, Parsed, parse};

    fn answer(text: &str) -> Head {
        match parse(text.as_bytes()) {
            Ok(Parsed::Answer(length, head)) => {
                assert_eq!(length, text.len(), "{text}");
                head
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn where_a_body_ends_and_whether_the_connection_stays() {
        const CHUNKED: Body = Body::Chunked(super::Chunks::Size { size: 0, digits: 0 });
        for (head, body, keep) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", Body::Length(7), true),
            ("HTTP/1.1 200 OK\r\nContent-Length:7\r\n\r\n", Body::Length(7), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 7, 7\r\ncontent-length: 7\r\n\r\n", Body::Length(7), true),
            ("HTTP/1.1 200 OK\r\n\r\n", Body::ToTheEnd, false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", CHUNKED, true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\nTransfer-Encoding: Chunked\r\n\r\n", CHUNKED, true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", CHUNKED, true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n", Body::ToTheEnd, false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n", Body::ToTheEnd, false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 7\r\n\r\n", CHUNKED, false),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", CHUNKED, false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 7\r\n\r\n", Body::Length(7), false),
            ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 7\r\n\r\n", Body::Length(7), false),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 7\r\n\r\n", Body::Length(7), false),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\nconnection: keep-alive\r\ncontent-length: 7\r\n\r\n", Body::Length(7), false),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", Body::Length(0), true),
            ("HTTP/1.1 304 X\r\ntransfer-encoding: chunked\r\n\r\n", Body::Length(0), true),
            ("HTTP/1.1 101 X\r\n\r\n", Body::Length(0), false),
        ] {
            let head = answer(head);
            assert_eq!((head.body, head.keep), (body, keep), "{head:?}");
        }
    }

    #[test]
    fn what_is_no_answer() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 8\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7, 8\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "HTTP/3.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
        }
        for text in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\na: b\r\n"] {
            assert_eq!(parse(text.as_bytes()), Ok(Parsed::Partial), "{text}");
        }
        assert_eq!(parse(b"HTTP/1.1 103 X\r\na: b\r\n\r\nHTTP"), Ok(Parsed::Interim(24)));
    }

    /// However the bytes are cut, the body ends at the same place, and what is behind it is left.
    #[test]
    fn chunks_end_where_they_end_however_they_arrive() {
        for (text, rest) in [
            ("0\r\n\r\n", ""),
            ("0\r\n\r\nHTTP", "HTTP"),
            ("5\r\nhello\r\n0\r\n\r\n", ""),
            ("000005\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0;z\r\n\r\nx", "x"),
            ("5 \r\n\r\n\r\n0\r\n0\r\na: b\r\nc: d\r\n\r\ny", "y"),
            ("2\r\nok\r\n00\r\na:b\r\n\r\n\r\n", "\r\n"),
        ] {
            // The third one's data is "\r\n\r\n0".
            for piece in 1..=text.len() {
                let mut body = Body::Chunked(super::Chunks::Size { size: 0, digits: 0 });
                let (mut left, mut window) = (text.as_bytes(), 0);
                while !body.is_over() {
                    window = (window + piece).min(left.len());
                    let taken = body.take(&left[..window]).unwrap();
                    left = &left[taken..];
                    window -= taken;
                }
                assert_eq!(left, rest.as_bytes(), "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn chunks_that_two_readers_could_read_differently_are_malformed() {
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "5\nhello",
            "5;a\nhello",
            "5\rhello",
            "5\r\nhello!",
            "5\r\nhello\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\na: b\n\r\n",
            "0\r\na\rb\r\n\r\n",
            "0000000000000001\r\n",
        ] {
            let mut body = Body::Chunked(super::Chunks::Size { size: 0, digits: 0 });
            assert_eq!(body.take(text.as_bytes()), Err(Malformed), "{text:?}");
        }
    }
}
