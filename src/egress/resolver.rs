//! Names to addresses: the hosts file first, then the name servers, whose answers are kept within their TTL.
//!
//! The system's resolver library was refused: it blocks a thread for each name, for seconds where a name server is dead, hides how long an
//! answer is good for, and cannot be given up. Here a lookup ends with the attempt that asked; attempts that ask for one name at once share
//! its questions.
//!
//! Names are looked up as absolute ones: no search domain is ever tried. An answer that is kept is judged anew at every connection, like a
//! fresh one (rebinding); it is forgotten when none of its addresses could be connected to.

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use std::cell::RefCell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Lookups at once. One that nobody answers holds its place until the connect time-out of the attempt that asked.
const MAX_LOOKUPS: usize = 512;

/// Answers kept, one for each name and family; about 600 bytes each.
const MAX_ANSWERS: u64 = 16 * 1024;

/// Answers are kept for their TTL, up to this.
const LONGEST_KEPT: Duration = Duration::from_secs(600);

/// That a name does not exist is kept for its TTL, up to this: whoever mends a name waits for it.
const LONGEST_MISSING: Duration = Duration::from_secs(10);

/// Between looks at whether the system's files have changed.
const LOOK: Duration = Duration::from_secs(5);

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// The name does not exist, or has no address: its servers said so.
    NoSuchName,
    /// Nobody said.
    NoAnswer,
}

type Answer = Result<Vec<IpAddr>, Unresolved>;

/// Where addresses come from.
pub(super) enum Resolver {
    /// Name servers.
    Servers(Box<Lookups>),
    /// What a test says; one list for each call, the last repeated.
    #[cfg(test)]
    Scripted(RefCell<Vec<Vec<IpAddr>>>),
}

impl Resolver {
    /// Asks `name_servers`; those of the system when there are none.
    pub(super) fn new(name_servers: Vec<SocketAddr>) -> Self {
        Self::Servers(Box::new(Lookups { name_servers, places: Semaphore::new(MAX_LOOKUPS), current: RefCell::default() }))
    }

    /// All addresses of `name`, at least one, in the order in which to try them.
    pub(super) async fn lookup(&self, name: &str) -> Answer {
        match self {
            Self::Servers(lookups) => lookups.lookup(name).await,
            #[cfg(test)]
            Self::Scripted(script) => {
                let mut script = script.borrow_mut();
                let answer = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
                if answer.is_empty() { Err(Unresolved::NoAnswer) } else { Ok(answer) }
            }
        }
    }

    /// Forgets what is kept of `name`.
    pub(super) fn forget(&self, name: &str) {
        match self {
            Self::Servers(lookups) => lookups.forget(name),
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }
}

/// Lookups of name servers. It belongs to the thread of its client.
pub(super) struct Lookups {
    /// None: the system's.
    name_servers: Vec<SocketAddr>,
    places: Semaphore,
    current: RefCell<Option<Current>>,
}

/// By the files as they were.
struct Current {
    resolver: TokioResolver,
    hosts: Rc<Hosts>,
    files: [Seen; 2],
    next_look: Instant,
}

/// When a file was written last, and its length; nothing where it cannot be looked at.
type Seen = Option<(Option<SystemTime>, u64)>;

fn files() -> [Seen; 2] {
    [RESOLV_CONF, HOSTS].map(|path| fs::metadata(path).ok().map(|metadata| (metadata.modified().ok(), metadata.len())))
}

impl Lookups {
    async fn lookup(&self, name: &str) -> Answer {
        let Some(name) = absolute(name) else { return Err(Unresolved::NoSuchName) };
        let (resolver, hosts) = self.current().map_err(|_| Unresolved::NoAnswer)?;
        let known = static_addresses(&hosts, &name);
        if !known.is_empty() {
            return Ok(known);
        }
        let Ok(_place) = self.places.acquire().await else { return Err(Unresolved::NoAnswer) };
        let found: Vec<IpAddr> = resolver.lookup_ip(name).await.map_err(|error| unresolved(&error))?.iter().collect();
        if found.is_empty() { Err(Unresolved::NoSuchName) } else { Ok(found) }
    }

    fn forget(&self, name: &str) {
        if let (Some(current), Some(name)) = (&*self.current.borrow(), absolute(name)) {
            for family in [RecordType::A, RecordType::AAAA] {
                current.resolver.clear_lookup_cache(name.clone(), family);
            }
        }
    }

    /// The resolver by the files as they are; a new one, which remembers nothing, when they have changed.
    fn current(&self) -> Result<(TokioResolver, Rc<Hosts>), NetError> {
        let mut current = self.current.borrow_mut();
        let now = Instant::now();
        let known = match &mut *current {
            Some(current) if now < current.next_look => Some(current),
            Some(current) => {
                current.next_look = now + LOOK;
                Some(current).filter(|current| current.files == files())
            }
            None => None,
        };
        if let Some(current) = known {
            return Ok((current.resolver.clone(), Rc::clone(&current.hosts)));
        }
        let files = files();
        let (resolver, hosts) = (self.resolver()?, Rc::new(hosts()));
        *current = Some(Current { resolver: resolver.clone(), hosts: Rc::clone(&hosts), files, next_look: now + LOOK });
        Ok((resolver, hosts))
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let (servers, mut options) = if self.name_servers.is_empty() {
            of_the_system()
        } else {
            (self.name_servers.iter().map(|address| name_server(*address)).collect(), ResolverOpts::default())
        };
        // Their order is that of trying: where IPv6 leads nowhere, it costs nothing.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = MAX_ANSWERS;
        options.positive_max_ttl = Some(LONGEST_KEPT);
        options.negative_max_ttl = Some(LONGEST_MISSING);
        // Over one TCP connection; the places are the limit.
        options.max_active_requests = MAX_LOOKUPS;
        let mut builder = TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build()
    }
}

/// The system's name servers and options; as the C library does, the one of this machine when there are none.
fn of_the_system() -> (Vec<NameServerConfig>, ResolverOpts) {
    let read = fs::read(RESOLV_CONF).ok().and_then(|text| parse_resolv_conf(text).ok());
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    read.map_or_else(|| (vec![name_server(local)], ResolverOpts::default()), |(config, options)| (config.into_parts().2, options))
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn hosts() -> Hosts {
    let mut hosts = Hosts::default();
    // A file that is not there, or not a hosts file, has no names.
    if let Ok(text) = fs::read(HOSTS) {
        let _ = hosts.read_hosts_conf(text.as_slice());
    }
    hosts
}

/// `name` with the dot at the end, so that no search domain is tried; nothing when it is none that name servers know of.
fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// What the hosts file says of `name`.
fn static_addresses(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let found = [RecordType::A, RecordType::AAAA].map(|family| hosts.lookup_static_host(&Query::query(name.clone(), family)));
    found.iter().flatten().flat_map(|lookup| lookup.answers()).filter_map(|record| record.data.ip_addr()).collect()
}

fn unresolved(error: &NetError) -> Unresolved {
    if matches!(error, NetError::Dns(DnsError::NoRecordsFound(_))) { Unresolved::NoSuchName } else { Unresolved::NoAnswer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::name_server::{NameServer, Reply};
    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    fn asking(server: &NameServer) -> Lookups {
        Lookups { name_servers: vec![server.address], places: Semaphore::new(1), current: RefCell::default() }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn saying(ttl: u32) -> NameServer {
        NameServer::start(move |_, before| {
            Reply::Addresses(ttl, addresses(&["2606:4700::1", if before == 0 { "1.1.1.1" } else { "1.0.0.1" }]))
        })
    }

    #[tokio::test]
    async fn an_answer_of_both_families_is_kept_within_its_ttl_unless_it_is_forgotten() {
        let server = saying(60);
        let lookups = asking(&server);
        for _ in 0..3 {
            assert_eq!(lookups.lookup("hooks.example.com").await, Ok(addresses(&["1.1.1.1", "2606:4700::1"])));
            assert_eq!(server.asked_for("hooks.example.com"), 2);
        }
        lookups.forget("hooks.example.com.");
        assert_eq!(lookups.lookup("HOOKS.example.com").await, Ok(addresses(&["1.0.0.1", "2606:4700::1"])));
        assert_eq!(server.asked_for("hooks.example.com"), 4);
    }

    #[tokio::test]
    async fn an_answer_without_a_ttl_is_not_kept() {
        let server = saying(0);
        let lookups = asking(&server);
        assert_eq!(lookups.lookup("hooks.example.com").await, Ok(addresses(&["1.1.1.1", "2606:4700::1"])));
        assert_eq!(lookups.lookup("hooks.example.com").await, Ok(addresses(&["1.0.0.1", "2606:4700::1"])));
    }

    #[tokio::test]
    async fn who_asks_at_once_shares_the_questions() {
        let server = saying(60);
        let lookups = Lookups { places: Semaphore::new(8), ..asking(&server) };
        let all = futures_util::future::join_all((0..8).map(|_| lookups.lookup("hooks.example.com"))).await;
        assert!(all.iter().all(|answer| answer == &all[0] && answer.is_ok()), "{all:?}");
        assert_eq!(server.asked_for("hooks.example.com"), 2);
    }

    #[tokio::test]
    async fn that_a_name_does_not_exist_is_another_thing_than_that_nobody_tells() {
        let server = NameServer::start(|name, _| match name {
            "missing.example.com" => Reply::NoSuchName,
            "empty.example.com" => Reply::Addresses(60, Vec::new()),
            "alias.example.com" => Reply::Alias(60, "empty.example.com.", Vec::new()),
            _ => Reply::Failure,
        });
        let lookups = asking(&server);
        for (name, expected) in [
            ("missing.example.com", Unresolved::NoSuchName),
            ("empty.example.com", Unresolved::NoSuchName),
            ("alias.example.com", Unresolved::NoSuchName),
            ("a!b.example.com", Unresolved::NoSuchName),
            ("broken.example.com", Unresolved::NoAnswer),
        ] {
            assert_eq!(lookups.lookup(name).await, Err(expected), "{name}");
        }
        assert!(server.names().iter().all(|name| name.ends_with(".example.com") && name.split('.').count() == 3), "{:?}", server.names());
    }

    #[tokio::test]
    async fn an_alias_is_followed_to_its_addresses() {
        let server = NameServer::start(|name, _| match name {
            "near.example.com" => Reply::Alias(60, "target.example.com.", addresses(&["1.1.1.1"])),
            "far.example.com" => Reply::Alias(60, "target.example.com.", Vec::new()),
            _ => Reply::Addresses(60, addresses(&["1.0.0.1"])),
        });
        let lookups = asking(&server);
        assert_eq!(lookups.lookup("near.example.com").await, Ok(addresses(&["1.1.1.1"])));
        assert_eq!(lookups.lookup("far.example.com").await, Ok(addresses(&["1.0.0.1"])));
    }

    #[tokio::test]
    async fn a_lookup_that_is_given_up_gives_its_place_back() {
        let server =
            NameServer::start(
                |name, _| if name == "silent.example.com" { Reply::Silence } else { Reply::Addresses(60, addresses(&["1.1.1.1"])) },
            );
        let lookups = asking(&server);
        let silent = timeout(Duration::from_millis(100), lookups.lookup("silent.example.com"));
        let mut silent = Box::pin(silent);
        assert!(silent.as_mut().now_or_never().is_none());
        assert!(lookups.lookup("well.example.com").now_or_never().is_none(), "the only place is taken");
        assert!(silent.as_mut().await.is_err());
        drop(silent);
        assert_eq!(lookups.lookup("well.example.com").await, Ok(addresses(&["1.1.1.1"])));
    }

    #[tokio::test]
    async fn the_hosts_file_is_read_before_anybody_is_asked() {
        let server = NameServer::start(|_, _| Reply::Addresses(60, addresses(&["1.1.1.1"])));
        let lookups = asking(&server);
        let found = lookups.lookup("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert!(server.names().is_empty());
    }
}
