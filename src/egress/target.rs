//! What is worked out once for a callback URL: the guard's judgement, the request line, the host header, and whose connections serve it.
//!
//! The policy of a client never changes and neither does a URL, so their judgement is kept with the rest and read before every send.
//! Addresses behind a name are judged by `dial` whenever a connection is made.

use super::pool::Stack;
use super::tls::Tls;
use crate::domain::address::{AddressPolicy, Refusal};
use crate::domain::registry::{CallbackUrl, ClientIdentity, Fingerprint};
use http::{HeaderValue, Uri};
use rustls_pki_types::ServerName;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// The most URLs kept, of about 500 bytes each. Beyond it all are forgotten: working one out again takes a microsecond.
const MAX_TARGETS: usize = 32 * 1024;

/// One scheme, host, port and client certificate: whom a connection reaches, and as whom.
pub(super) struct Origin {
    /// The host, as the URL standard normalises it.
    pub(super) host: Host<String>,
    /// 1–65535.
    pub(super) port: u16,
    /// For `https` only.
    pub(super) secure: Option<Secure>,
    /// Its idle connections.
    pub(super) idle: Rc<Stack>,
}

/// What TLS needs to know.
pub(super) struct Secure {
    /// The name to verify.
    pub(super) name: ServerName<'static>,
    /// Shows the client certificate, where there is one.
    pub(super) connector: TlsConnector,
}

/// One callback URL, ready to send to.
pub(super) struct Target {
    /// The request line and the `host` header, with the port where it is not the scheme's default.
    pub(super) head: Box<[u8]>,
    /// Where to.
    pub(super) origin: Rc<Origin>,
}

/// The targets seen lately.
pub(super) struct Targets {
    tls: Tls,
    /// Of URLs without a client certificate.
    anonymous: TlsConnector,
    by_url: HashMap<Box<str>, Result<Rc<Target>, Refusal>>,
    by_origin: HashMap<Whom, Weak<Origin>>,
    /// For each target in `by_url` with a client certificate, who holds that: each registry that was read has a holder of its own.
    holders: HashMap<Box<str>, Vec<sync::Weak<ClientIdentity>>>,
}

type Whom = (bool, Host<String>, u16, Option<Fingerprint>);

impl Targets {
    pub(super) fn new(tls: Tls) -> Self {
        Self { anonymous: tls.connector(None), tls, by_url: HashMap::new(), by_origin: HashMap::new(), holders: HashMap::new() }
    }

    /// The target of `url`, or why `policy` refuses it.
    pub(super) fn of(&mut self, url: &CallbackUrl, policy: &AddressPolicy) -> Result<Rc<Target>, Refusal> {
        let (identity, url) = (url.identity.as_ref(), &url.url);
        let key = match identity {
            None => Cow::Borrowed(url.as_str()),
            // No URL has a space in it.
            Some(identity) => Cow::Owned(format!("{} {url}", hex::encode(identity.fingerprint()))),
        };
        if let (Some(identity), Some(holders)) = (identity, self.holders.get_mut(&*key))
            && holders.iter().all(|holder| !std::ptr::eq(holder.as_ptr(), Arc::as_ptr(identity)))
        {
            holders.push(Arc::downgrade(identity));
        }
        if let Some(known) = self.by_url.get(&*key) {
            return known.clone();
        }
        if self.by_url.len() >= MAX_TARGETS {
            self.by_url.clear();
            self.holders.clear();
            self.by_origin.retain(|_, origin| origin.strong_count() > 0);
        }
        let target = policy.judge_url(url).and_then(|()| self.work_out(url, identity.map(AsRef::as_ref)).map(Rc::new).ok_or(Refusal::Url));
        if let Some(identity) = identity {
            self.holders.insert(key.as_ref().into(), vec![Arc::downgrade(identity)]);
        }
        self.by_url.insert(key.into(), target.clone());
        target
    }

    /// Forgets targets whose client certificate no registry holds any more, and with it the certificate's key.
    pub(super) fn tidy(&mut self) {
        let before = self.by_url.len();
        let Self { holders, by_url, .. } = self;
        holders.retain(|key, holders| {
            holders.retain(|holder| holder.strong_count() > 0);
            if holders.is_empty() {
                by_url.remove(key);
            }
            !holders.is_empty()
        });
        if self.by_url.len() < before {
            self.by_origin.retain(|_, origin| origin.strong_count() > 0);
        }
    }

    fn work_out(&mut self, url: &Url, identity: Option<&ClientIdentity>) -> Option<Target> {
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
        Some(Target { head: head.into(), origin: self.origin(url, identity)? })
    }

    fn origin(&mut self, url: &Url, identity: Option<&ClientIdentity>) -> Option<Rc<Origin>> {
        let secure = url.scheme() == "https";
        let (host, port) = (url.host()?.to_owned(), url.port_or_known_default()?);
        let whom = (secure, host.clone(), port, identity.map(ClientIdentity::fingerprint));
        if let Some(origin) = self.by_origin.get(&whom).and_then(Weak::upgrade) {
            return Some(origin);
        }
        let secure = if secure {
            let connector = identity.map_or_else(|| self.anonymous.clone(), |identity| self.tls.connector(Some(identity)));
            Some(Secure { name: server_name(&host)?, connector })
        } else {
            None
        };
        let origin = Rc::new(Origin { host, port, secure, idle: Rc::default() });
        self.by_origin.insert(whom, Rc::downgrade(&origin));
        Some(origin)
    }
}

/// The name that the receiver's certificate is to be for.
fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).ok(),
        Host::Ipv4(address) => Some(ServerName::from(IpAddr::V4(*address))),
        Host::Ipv6(address) => Some(ServerName::from(IpAddr::V6(*address))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, Targets, Tls};
    use crate::domain::address::{AddressPolicy, Refusal};
    use crate::domain::registry::{CallbackUrl, ClientIdentity};
    use crate::egress::tests::identity_of;
    use std::rc::Rc;
    use std::sync::Arc;
    use url::Url;

    fn targets() -> Targets {
        Targets::new(Tls::new(None).unwrap())
    }

    fn target(targets: &mut Targets, text: &str) -> Result<Rc<Target>, Refusal> {
        targets.of(&CallbackUrl::new(Url::parse(text).unwrap()), &AddressPolicy::default())
    }

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
            let target = target(&mut targets(), text).unwrap();
            let expected = format!("POST {uri} HTTP/1.1\r\nhost: {host}\r\n");
            assert_eq!(std::str::from_utf8(&target.head).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn every_character_that_the_url_standard_leaves_in_a_path_or_query_can_be_sent() {
        for byte in 1..=255_u8 {
            let character = char::from(byte);
            let url = format!("http://a.example/p{character}p?q={character}q");
            assert!(target(&mut targets(), &url).is_ok(), "{byte} {url}");
        }
    }

    #[test]
    fn urls_of_one_host_share_its_connections_and_other_ports_and_schemes_do_not() {
        let mut targets = targets();
        let mut origin = |text| target(&mut targets, text).unwrap().origin.clone();
        let first = origin("http://a.example/1");
        assert!(Rc::ptr_eq(&first, &origin("http://A.example:80/2?x")));
        for other in ["https://a.example/1", "http://a.example:81/1", "http://b.example/1"] {
            assert!(!Rc::ptr_eq(&first, &origin(other)), "{other}");
        }
    }

    #[test]
    fn a_client_certificate_that_the_registry_has_forgotten_is_kept_by_nobody() {
        let mut targets = targets();
        let url = |identity: &Arc<ClientIdentity>| {
            let url = CallbackUrl::new(Url::parse("https://a.example/").unwrap());
            CallbackUrl { identity: Some(Arc::clone(identity)), ..url }
        };
        let (first, second) = (identity_of("one").1, identity_of("two").1);
        let read_again = Arc::new(ClientIdentity::clone(&first));
        let policy = AddressPolicy::default();
        let origin = Rc::downgrade(&targets.of(&url(&first), &policy).unwrap().origin);
        assert!(targets.of(&url(&second), &policy).is_ok());
        targets.tidy();
        assert_eq!((origin.strong_count(), targets.by_url.len()), (1, 2), "both are in the registry");
        assert!(targets.of(&url(&read_again), &policy).is_ok());
        drop(first);
        targets.tidy();
        assert_eq!((origin.strong_count(), targets.by_url.len()), (1, 2), "the next registry has it, too");
        drop(read_again);
        targets.tidy();
        assert_eq!((origin.strong_count(), targets.by_url.len(), targets.by_origin.len()), (0, 1, 1));
    }

    #[test]
    fn a_refusal_is_remembered_like_a_target() {
        let mut targets = targets();
        for _ in 0..2 {
            let refused = target(&mut targets, "http://127.0.0.1/");
            assert_eq!(refused.err(), Some(Refusal::Address));
        }
    }
}
