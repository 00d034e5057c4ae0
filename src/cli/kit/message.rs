//! A message as `sign` prints it, or as it was captured: header lines, an empty line, the body.
//!
//! A body is a JSON object, and no JSON begins like a header line, so the two cannot be mistaken for each other. A request line before the
//! headers, of any version of HTTP or as `send-test` prints it, is passed over, and lines may end in CR LF, so that what a socket brought can be piped in as it is.

/// Names and values, in their order.
pub(super) type Headers = Vec<(String, String)>;

/// Headers and body of `input`; a body alone when it does not begin with a header line or a request line.
///
/// # Errors
/// When it begins so and no empty line follows, or a line before that is no header.
pub(super) fn split(input: &[u8]) -> Result<(Headers, &[u8]), String> {
    let mut rest = input;
    let mut headers = Headers::new();
    let first = line(&mut rest).unwrap_or_default();
    let with_request_line = is_request_line(&first);
    if with_request_line {
        // Nothing of it is signed.
    } else if let Some(header) = header(&first) {
        headers.push(header);
    } else {
        return Ok((headers, input));
    }
    loop {
        let Some(line) = line(&mut rest) else {
            return Err("standard input begins with header lines, and no empty line ends them before a body".to_owned());
        };
        if line.is_empty() {
            return Ok((headers, rest));
        }
        let number = headers.len() + 1 + usize::from(with_request_line);
        headers.push(header(&line).ok_or_else(|| format!("line {number} of standard input is no header: expected `name: value`"))?);
    }
}

/// Whether `input` begins with a header line.
pub(super) fn begins_with_a_header(input: &[u8]) -> bool {
    line(&mut &*input).is_some_and(|first| header(&first).is_some() || is_request_line(&first))
}

/// `name: value`, the value without the white space around it.
pub(super) fn header(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(':')?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!name.is_empty() && name.bytes().all(token)).then(|| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// `POST /cb HTTP/1.1`; without a version too, where the target cannot be mistaken.
fn is_request_line(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let method = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    match words[..] {
        [verb, target, version] => method(verb) && !target.is_empty() && version.starts_with("HTTP/"),
        [verb, target] => method(verb) && ["/", "http://", "https://"].iter().any(|start| target.starts_with(start)),
        _ => false,
    }
}

/// The next line without its end; `None` when no end follows.
fn line(rest: &mut &[u8]) -> Option<String> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, behind) = rest.split_at(end);
    *rest = &behind[1..];
    Some(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_split_at_its_empty_line_and_a_body_alone_is_left_whole() {
        let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (input, headers, body) in [
            ("{\"a: b\":1}", vec![], "{\"a: b\":1}"),
            (" \n{}", vec![], " \n{}"),
            ("", vec![], ""),
            ("webhook-id: a\n\n{}", one("webhook-id", "a"), "{}"),
            ("webhook-id: a\n\n", one("webhook-id", "a"), ""),
            ("Webhook-Id:a \r\n\r\n{}\r\n", one("Webhook-Id", "a"), "{}\r\n"),
            ("POST /cb?x=1 HTTP/1.1\r\nhost: h:80\r\n\r\n{}", one("host", "h:80"), "{}"),
            ("POST /cb HTTP/2\nhost: h\n\n{}", one("host", "h"), "{}"),
            ("PUT * HTTP/1.0\nhost: h\n\n{}", one("host", "h"), "{}"),
            ("POST https://h/cb?[redacted]\nhost: h\n\n{}", one("host", "h"), "{}"),
            ("POST /cb\nhost: h\n\n{}", one("host", "h"), "{}"),
            ("post /cb HTTP/1.1\nhost: h\n\n{}", vec![], "post /cb HTTP/1.1\nhost: h\n\n{}"),
            ("{\"a\":1} /x HTTP/1.1\n", vec![], "{\"a\":1} /x HTTP/1.1\n"),
            ("webhook-id: a\n\n\n{}\n\n", one("webhook-id", "a"), "\n{}\n\n"),
        ] {
            assert_eq!(split(input.as_bytes()), Ok((headers, body.as_bytes())), "{input:?}");
        }
        assert!(split(b"webhook-id: a\n").unwrap_err().contains("empty line"));
        assert!(split(b"webhook-id: a\nnonsense\n\n{}").unwrap_err().contains("line 2"));
        assert_eq!((begins_with_a_header(b"a: b\n\n{}"), begins_with_a_header(b"{\"a\":1}\n")), (true, false));
    }

    #[test]
    fn a_header_has_a_name_a_colon_and_a_value() {
        assert_eq!(header("webhook-id:  a: b\t"), Some(("webhook-id".into(), "a: b".into())));
        for text in ["webhook-id", ": a", "web hook: a", "{\"a\": 1}", ""] {
            assert_eq!(header(text), None, "{text}");
        }
    }
}
