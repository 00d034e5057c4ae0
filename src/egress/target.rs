//! What is worked out once for a callback URL: the guard's judgement, the request line, the host header, and whose connections serve it.
//!
//! The policy of a client never changes and neither does a URL, so their judgement is kept with the rest and read before every send.
//! Addresses behind a name are judged by `dial` whenever a connection is made.

use super::pool::Stack;
use crate::domain::address::{AddressPolicy, Refusal};
use http::{HeaderValue, Uri};
use rustls_pki_types::ServerName;
use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use url::{Host, Url};

/// URLs kept; one takes about 500 bytes. Beyond it all are forgotten: working one out again takes a microsecond.
const MAX_TARGETS: usize = 32 * 1024;

/// One scheme, host and port: whom a connection reaches.
pub(super) struct Origin {
    /// As the URL standard has it.
    pub(super) host: Host<String>,
    /// 1–65535.
    pub(super) port: u16,
    /// The name to verify, for `https`.
    pub(super) server_name: Option<ServerName<'static>>,
    /// Its idle connections.
    pub(super) idle: Rc<Stack>,
}

/// One callback URL, ready to send to.
pub(super) struct Target {
    /// The request line, and the host's with the port where it is not the scheme's own.
    pub(super) head: Box<[u8]>,
    /// Where to.
    pub(super) origin: Rc<Origin>,
}

/// The targets seen lately, by URL.
#[derive(Default)]
pub(super) struct Targets {
    by_url: HashMap<Box<str>, Result<Rc<Target>, Refusal>>,
    by_origin: HashMap<(bool, Host<String>, u16), Weak<Origin>>,
}

impl Targets {
    /// The target of `url`, or why `policy` refuses it.
    pub(super) fn of(&mut self, url: &Url, policy: &AddressPolicy) -> Result<Rc<Target>, Refusal> {
        if let Some(known) = self.by_url.get(url.as_str()) {
            return known.clone();
        }
        if self.by_url.len() >= MAX_TARGETS {
            self.by_url.clear();
            self.by_origin.retain(|_, origin| origin.strong_count() > 0);
        }
        let target = policy.judge_url(url).and_then(|()| self.work_out(url).map(Rc::new).ok_or(Refusal::Url));
        self.by_url.insert(url.as_str().into(), target.clone());
        target
    }

    fn work_out(&mut self, url: &Url) -> Option<Target> {
        let host_text = url.host_str()?;
        let host = match url.port() {
            Some(port) => Cow::Owned(format!("{host_text}:{port}")),
            None => Cow::Borrowed(host_text),
        };
        let uri = match url.query() {
            Some(query) => Cow::Owned(format!("{}?{query}", url.path())),
            None => Cow::Borrowed(url.path()),
        };
        // Both are written as they are: nothing in them may end a line or a word.
        let (uri, host) = (Uri::try_from(&*uri).ok()?, HeaderValue::from_str(&host).ok()?);
        let mut head = format!("POST {uri} HTTP/1.1\r\nhost: ").into_bytes();
        head.extend_from_slice(host.as_bytes());
        head.extend_from_slice(b"\r\n");
        Some(Target { head: head.into(), origin: self.origin(url)? })
    }

    fn origin(&mut self, url: &Url) -> Option<Rc<Origin>> {
        let secure = url.scheme() == "https";
        let (host, port) = (url.host()?.to_owned(), url.port_or_known_default()?);
        let known = self.by_origin.entry((secure, host.clone(), port)).or_default();
        if let Some(origin) = known.upgrade() {
            return Some(origin);
        }
        let server_name = match (&host, secure) {
            (_, false) => None,
            (Host::Domain(name), true) => Some(ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).ok()?),
            (Host::Ipv4(address), true) => Some(ServerName::from(std::net::IpAddr::V4(*address))),
            (Host::Ipv6(address), true) => Some(ServerName::from(std::net::IpAddr::V6(*address))),
        };
        let origin = Rc::new(Origin { host, port, server_name, idle: Rc::default() });
        *known = Rc::downgrade(&origin);
        Some(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::Targets;
    use crate::domain::address::{AddressPolicy, Refusal};
    use std::rc::Rc;
    use url::Url;

    #[test]
    fn request_line_and_host_header_are_those_of_the_url() {
        let table = [
            ("http://a.example", "/", "a.example"),
            ("http://a.example:80/x", "/x", "a.example"),
            ("http://a.example:8080/x?", "/x?", "a.example:8080"),
            ("https://a.example:443/x?tenant=7#frag", "/x?tenant=7", "a.example"),
            ("https://a.example:80/", "/", "a.example:80"),
            ("http://1.1.1.1:81/ü", "/%C3%BC", "1.1.1.1:81"),
            ("http://[2606:4700::1]:81/", "/", "[2606:4700::1]:81"),
            ("http://bücher.example/", "/", "xn--bcher-kva.example"),
        ];
        for (text, uri, host) in table {
            let target = Targets::default().of(&Url::parse(text).unwrap(), &AddressPolicy::default()).unwrap();
            let expected = format!("POST {uri} HTTP/1.1\r\nhost: {host}\r\n");
            assert_eq!(std::str::from_utf8(&target.head).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn every_character_that_the_url_standard_leaves_in_a_path_or_query_can_be_sent() {
        for byte in 1..=255_u8 {
            let character = char::from(byte);
            let url = Url::parse(&format!("http://a.example/p{character}p?q={character}q")).unwrap();
            assert!(Targets::default().of(&url, &AddressPolicy::default()).is_ok(), "{byte} {url}");
        }
    }

    #[test]
    fn urls_of_one_host_share_its_connections_and_other_ports_and_schemes_do_not() {
        let mut targets = Targets::default();
        let mut origin = |text| targets.of(&Url::parse(text).unwrap(), &AddressPolicy::default()).unwrap().origin.clone();
        let first = origin("http://a.example/1");
        assert!(Rc::ptr_eq(&first, &origin("http://A.example:80/2?x")));
        for other in ["https://a.example/1", "http://a.example:81/1", "http://b.example/1"] {
            assert!(!Rc::ptr_eq(&first, &origin(other)), "{other}");
        }
    }

    #[test]
    fn a_refusal_is_remembered_like_a_target() {
        let mut targets = Targets::default();
        for _ in 0..2 {
            let refused = targets.of(&Url::parse("http://127.0.0.1/").unwrap(), &AddressPolicy::default());
            assert_eq!(refused.err(), Some(Refusal::Address));
        }
    }
}
