//! Names to addresses: the hosts file first, then the name servers in their order, whose answers are kept within their TTL.
//!
//! The system's resolver library was refused: it blocks a thread for each name, for seconds where a name server is dead, hides how long an
//! answer is good for, and cannot be cancelled. Here a lookup ends with the attempt that asked. Answers are kept here, small and by the
//! name that was asked for; the DNS library only asks, and keeps nothing.
//!
//! Lookups at once are bounded by the attempts at once: a bound of their own would let names that nobody answers keep the others waiting.
//! Attempts that ask for the same name at the same time share the questions.
//!
//! Names are looked up as absolute ones: no search domain is ever tried. An answer that is kept is judged anew at every connection, like a
//! fresh one (rebinding); it is forgotten when none of its addresses could be connected to.

use futures_util::future::{Either, select};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

/// The most names of which an answer is kept; beyond it all are forgotten.
const MAX_KEPT: usize = 16 * 1024;

/// An answer with more addresses counts as none: nobody needs them, and they would have to be kept.
const MAX_ADDRESSES: usize = 64;

/// Answers are kept for their TTL, up to this.
const LONGEST_KEPT: Duration = Duration::from_secs(600);

/// That a name does not exist is kept for its TTL, up to this: whoever mends a name has to wait for it.
const LONGEST_MISSING: Duration = Duration::from_secs(10);

/// How long one name server has before the next is asked; the last one has [`LAST_PATIENCE`].
const PATIENCE: Duration = Duration::from_secs(1);
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// When one family has addresses, the other is waited for this much longer.
const GRACE: Duration = Duration::from_millis(250);

/// Between looks at whether the system's files have changed.
const LOOK: Duration = Duration::from_secs(5);

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// The name does not exist, or has no address: its servers said so.
    NoSuchName,
    /// No server answered.
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
        Self::Servers(Box::new(Lookups::new(name_servers, HOSTS.into())))
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
    /// The files that decide: name servers, hosts.
    files: [PathBuf; 2],
    current: RefCell<Option<Current>>,
    kept: RefCell<HashMap<Name, (Answer, Instant)>>,
}

/// Servers and hosts, by the files as they were read last.
#[derive(Clone)]
struct Current {
    /// One for each name server, in their order.
    servers: Rc<[TokioResolver]>,
    hosts: Rc<Hosts>,
    seen: [Seen; 2],
    next_look: Instant,
}

/// When a file was written last, and its length; `None` where it cannot be looked at.
type Seen = Option<(Option<SystemTime>, u64)>;

impl Lookups {
    fn new(name_servers: Vec<SocketAddr>, hosts: PathBuf) -> Self {
        let files = [RESOLV_CONF.into(), hosts];
        Self { name_servers, files, current: RefCell::default(), kept: RefCell::default() }
    }

    async fn lookup(&self, name: &str) -> Answer {
        let Some(name) = absolute(name) else { return Err(Unresolved::NoAnswer) };
        let current = self.current().map_err(|_| Unresolved::NoAnswer)?;
        let known = static_addresses(&current.hosts, &name);
        if !known.is_empty() {
            return Ok(known);
        }
        let kept = self.kept.borrow().get(&name).filter(|(_, until)| Instant::now() < *until).map(|(answer, _)| answer.clone());
        if let Some(kept) = kept {
            return kept;
        }
        for (at, server) in current.servers.iter().enumerate() {
            let patience = if at + 1 < current.servers.len() { PATIENCE } else { LAST_PATIENCE };
            if let Ok((answer, good_for)) = asked(server, &name, patience).await {
                self.keep(name, &answer, good_for);
                return answer;
            }
        }
        Err(Unresolved::NoAnswer)
    }

    fn keep(&self, name: Name, answer: &Answer, good_for: Duration) {
        let longest = if answer.is_ok() { LONGEST_KEPT } else { LONGEST_MISSING };
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(name, (answer.clone(), Instant::now() + good_for.min(longest)));
    }

    fn forget(&self, name: &str) {
        if let Some(name) = absolute(name) {
            self.kept.borrow_mut().remove(&name);
        }
    }

    /// The servers and hosts by the files as they are. When they have changed, nothing is remembered.
    fn current(&self) -> Result<Current, NetError> {
        let mut current = self.current.borrow_mut();
        let now = Instant::now();
        let known = match &mut *current {
            Some(current) if now < current.next_look => Some(current),
            Some(current) => {
                current.next_look = now + LOOK;
                Some(current).filter(|current| current.seen == self.seen())
            }
            None => None,
        };
        if let Some(current) = known {
            return Ok(current.clone());
        }
        let seen = self.seen();
        let servers = if self.name_servers.is_empty() { of_the_system() } else { self.name_servers.clone() };
        let servers = servers.into_iter().map(resolver).collect::<Result<_, _>>()?;
        self.kept.borrow_mut().clear();
        Ok(current.insert(Current { servers, hosts: Rc::new(hosts(&self.files[1])), seen, next_look: now + LOOK }).clone())
    }

    fn seen(&self) -> [Seen; 2] {
        self.files.each_ref().map(|path| fs::metadata(path).ok().map(|metadata| (metadata.modified().ok(), metadata.len())))
    }
}

/// What `server` answers for both families of `name`, and for how long that is good; an error when it did not answer within `patience`.
async fn asked(server: &TokioResolver, name: &Name, patience: Duration) -> Result<(Answer, Duration), ()> {
    let (v4, v6) = (pin!(family(server, name, RecordType::A)), pin!(family(server, name, RecordType::AAAA)));
    let by = Instant::now() + patience;
    let both = timeout_at(by, select(v4, v6)).await.map_err(|_| ())?;
    let until = |first: &Family| if found(first) { by.min(Instant::now() + GRACE) } else { by };
    let (v4, v6) = match both {
        Either::Left((v4, rest)) => {
            let rest = timeout_at(until(&v4), rest).await.unwrap_or(Err(()));
            (v4, rest)
        }
        Either::Right((v6, rest)) => {
            let rest = timeout_at(until(&v6), rest).await.unwrap_or(Err(()));
            (rest, v6)
        }
    };
    // IPv4 first: where IPv6 leads nowhere, it costs nothing. One family alone is enough, but only both can say that there is no address.
    let missing = !found(&v4) && !found(&v6);
    let (v4, v6) = if missing { (v4?, v6?) } else { (v4.unwrap_or_default(), v6.unwrap_or_default()) };
    let good_for = [&v4, &v6].into_iter().filter(|family| missing || !family.0.is_empty()).map(|family| family.1).min().unwrap_or_default();
    let all: Vec<IpAddr> = v4.0.into_iter().chain(v6.0).collect();
    match all.len() {
        0 => Ok((Err(Unresolved::NoSuchName), good_for)),
        1..=MAX_ADDRESSES => Ok((Ok(all), good_for)),
        _ => Err(()),
    }
}

/// Addresses and how long they are good for; none when there are none.
type Family = Result<(Vec<IpAddr>, Duration), ()>;

fn found(family: &Family) -> bool {
    family.as_ref().is_ok_and(|(addresses, _)| !addresses.is_empty())
}

async fn family(server: &TokioResolver, name: &Name, which: RecordType) -> Family {
    match server.lookup(name.clone(), which).await {
        Ok(lookup) => {
            let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).take(MAX_ADDRESSES + 1).collect();
            Ok((addresses, lookup.valid_until().saturating_duration_since(std::time::Instant::now())))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            Ok((Vec::new(), Duration::from_secs(none.negative_ttl.unwrap_or_default().into())))
        }
        Err(_) => Err(()),
    }
}

/// Asks one name server, and keeps nothing.
fn resolver(address: SocketAddr) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    options.timeout = LAST_PATIENCE;
    options.attempts = 1;
    // Requests at once over one connection: as many as there are ids for.
    options.max_active_requests = usize::from(u16::MAX);
    let mut builder = TokioResolver::builder_with_config(ResolverConfig::from_name_servers(vec![server]), TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

/// The system's name servers; as the C library does, the one of this machine when there are none.
fn of_the_system() -> Vec<SocketAddr> {
    let read = fs::read(RESOLV_CONF).ok().and_then(|text| parse_resolv_conf(text).ok());
    let listed = read.map(|(config, _)| config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect());
    listed.unwrap_or_else(|| vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))])
}

fn hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    // A file that is not there has no names; of a file that is not all text, the names that can be read count.
    if let Ok(text) = fs::read(path) {
        let _ = hosts.read_hosts_conf(String::from_utf8_lossy(&text).as_bytes());
    }
    hosts
}

/// `name` with a dot at the end, so that no search domain is tried; `None` for names that name servers are not asked for.
fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    // Reserved (RFC 6761): the library would answer for everybody.
    let reserved = name.iter().next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"invalid"));
    (!reserved).then_some(name)
}

/// What the hosts file says of `name`.
fn static_addresses(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let found = [RecordType::A, RecordType::AAAA].map(|family| hosts.lookup_static_host(&Query::query(name.clone(), family)));
    found.iter().flatten().flat_map(|lookup| lookup.answers()).filter_map(|record| record.data.ip_addr()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::name_server::{NameServer, Reply};
    use futures_util::FutureExt as _;

    fn asking(server: &NameServer) -> Lookups {
        Lookups::new(vec![server.address], "/nowhere".into())
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
        let lookups = Lookups::new(vec![server.address], "/nowhere".into());
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
            ("a!b.example.com", Unresolved::NoAnswer),
            ("reserved.invalid", Unresolved::NoAnswer),
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
        let asked = server.asked_for("target.example.com");
        lookups.forget("far.example.com");
        assert!(lookups.lookup("far.example.com").await.is_ok());
        assert!(server.asked_for("target.example.com") > asked, "nothing of the way is kept");
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_does_not_say_and_not_when_it_says_no() {
        let silent = NameServer::start(|_, _| Reply::Silence);
        let failing = NameServer::start(|name, _| if name == "no.example.com" { Reply::NoSuchName } else { Reply::Failure });
        let well = NameServer::start(|_, _| Reply::Addresses(60, addresses(&["1.1.1.1"])));
        let servers = [&silent, &failing, &well].map(|server| server.address);
        let lookups = Lookups::new(servers.to_vec(), "/nowhere".into());
        assert_eq!(lookups.lookup("yes.example.com").await, Ok(addresses(&["1.1.1.1"])));
        assert_eq!(lookups.lookup("no.example.com").await, Err(Unresolved::NoSuchName));
        assert_eq!(well.asked_for("no.example.com"), 0);
    }

    #[tokio::test]
    async fn addresses_of_one_family_do_not_wait_long_for_the_other() {
        let server = NameServer::start(|_, _| Reply::Only(RecordType::A, 60, addresses(&["1.1.1.1"])));
        let start = Instant::now();
        assert_eq!(asking(&server).lookup("half.example.com").await, Ok(addresses(&["1.1.1.1"])));
        assert!(start.elapsed() < LAST_PATIENCE, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn more_addresses_than_anybody_needs_are_no_answer() {
        let many = |count: u8| (0..count).map(|n| IpAddr::V4(Ipv4Addr::new(1, 1, 1, n))).collect::<Vec<_>>();
        let server = NameServer::start(move |name, _| Reply::Addresses(60, many(if name == "many.example.com" { 65 } else { 64 })));
        let lookups = asking(&server);
        assert_eq!(lookups.lookup("many.example.com").await, Err(Unresolved::NoAnswer));
        assert_eq!(lookups.lookup("enough.example.com").await.map(|found| found.len()), Ok(64));
    }

    #[tokio::test]
    async fn names_that_nobody_answers_keep_no_other_waiting() {
        let silent = |name: &str| name.starts_with("silent");
        let server =
            NameServer::start(move |name, _| if silent(name) { Reply::Silence } else { Reply::Addresses(60, addresses(&["1.1.1.1"])) });
        let lookups = asking(&server);
        let names: Vec<String> = (0..1_000).map(|n| format!("silent-{n}.example.com")).collect();
        let mut waiting = futures_util::future::join_all(names.iter().map(|name| lookups.lookup(name)));
        assert!((&mut waiting).now_or_never().is_none());
        let well = pin!(lookups.lookup("well.example.com"));
        let beside = select(well, waiting).await;
        assert!(matches!(beside, Either::Left((Ok(_), _))), "it waits for none of them");
    }

    #[tokio::test]
    async fn the_hosts_file_is_read_before_anybody_is_asked_and_again_when_it_changes() {
        let server = NameServer::start(|_, _| Reply::Addresses(60, addresses(&["1.1.1.1"])));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        fs::write(&file, b"# caf\xe9\n10.9.8.7 hooks.example.com other\nfd00::7 hooks.example.com\n").unwrap();
        let lookups = Lookups::new(vec![server.address], file.clone());
        assert_eq!(lookups.lookup("HOOKS.example.com").await, Ok(addresses(&["10.9.8.7", "fd00::7"])));
        assert!(server.names().is_empty());
        fs::write(&file, "10.9.8.70 hooks.example.com\n").unwrap();
        lookups.current.borrow_mut().as_mut().unwrap().next_look = Instant::now();
        assert_eq!(lookups.lookup("hooks.example.com").await, Ok(addresses(&["10.9.8.70"])));
    }
}
