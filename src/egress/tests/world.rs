//! Every address is here: a network namespace in which each connection, wherever it is meant to go, arrives at a listener of the test. So
//! it is the sockets that say whom the client called, not the guard.

use super::{Notes, answered, failed, request};
use crate::delivery::ports::Transport as _;
use crate::domain::address::AddressPolicy;
use crate::domain::verdict::{Failure, Outcome};
use crate::egress::name_server::{NameServer, Reply};
use crate::egress::{Client, Settings};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Set in the process that runs inside.
const INSIDE: &str = "CALLBACKD_TEST_WORLD";

/// Somebody on the public internet.
const PUBLIC: &str = "93.184.216.34";

/// Where the world listens: all ports of the table but those that must not be called anyway.
const PORTS: [u16; 5] = [80, 443, 3128, 8080, 8443];

/// URLs, by the standard, that lead to what only this host can reach.
const FORBIDDEN: &[&str] = &[
    // IPv4 in every notation
    "http://127.0.0.1/",
    "https://127.0.0.1/",
    "http://127.0.0.1:8080/",
    "http://127.0.0.1./",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.255.255.254/",
    "http://2130706433/",
    "http://2130706433./",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7F000001/",
    "http://0x7f.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0177.0.0.1/",
    "http://0177.0.0.01/",
    "http://0177.0.1/",
    "http://0x7f.0.0x1/",
    "http://127.0x0.0.1/",
    "http://127.000.000.001/",
    "http://0/",
    "http://0x0/",
    "http://00/",
    "http://0.0/",
    "http://0.0.0.0/",
    "http://0.0.0.0:8080/",
    "http://0.1.2.3/",
    "http://10.0.0.1/",
    "http://012.1/",
    "http://167772161/",
    "http://0xa.0.0.1/",
    "http://100.64.0.1/",
    "http://100.100.100.200/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://0xac.0x10.1/",
    "http://192.168.0.1/",
    "http://192.168.257/",
    "http://3232235521/",
    "http://0300.0250.0.1/",
    "http://192.0.0.8/",
    "http://192.0.2.1/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://4294967295/",
    // Metadata
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://0xa9.254.0251.254/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://169.254.170.2/v2/credentials",
    "http://168.63.129.16/",
    "http://169.254.0.1:8080/",
    // Encoded and exotic digits
    "http://%31%32%37.0.0.1/",
    "http://127%2e0%2e0%2e1/",
    "http://１２７.０.０.１/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://127．0．0．1/",
    "http://127｡0｡0｡1/",
    "http://𝟏𝟐𝟕.𝟎.𝟎.𝟏/",
    "http://0ｘ7f.1/",
    "http://１６９.２５４.１６９.２５４/",
    // Slashes, blanks, schemes
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "http:///127.0.0.1/",
    "http:\\\\127.0.0.1\\cb",
    "http://\\127.0.0.1/",
    "ht\ttp://127.0.0.1/",
    "http://127.0.\n0.1/",
    "  http://127.0.0.1/  ",
    "HTTP://127.0.0.1/",
    // User info and what looks like it (brackets: GHSA-qwrf-gfpj-qvj6)
    "http://user@127.0.0.1/",
    "http://user:pw@127.0.0.1/",
    "http://93.184.216.34@127.0.0.1/",
    "http://93.184.216.34:80@127.0.0.1/",
    "http://93.184.216.34%00@127.0.0.1/",
    "http://127.0.0.1#@93.184.216.34/",
    "http://127.0.0.1?@93.184.216.34/",
    "http://user@93.184.216.34/",
    // IPv6
    "http://[::]/",
    "http://[::1]/",
    "http://[::1]:8080/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "http://[::0001]/",
    "http://[::0.0.0.1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::FFFF:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:7f00:0001]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[::169.254.169.254]/",
    // NAT64 (CVE-2026-55473), 6to4, Teredo, ISATAP
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[64:ff9b:1:a9fe:a9:fe00::]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2002:a00:1::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[2606:4700::5efe:169.254.169.254]/",
    "http://[2606:4700::200:5efe:a9fe:a9fe]/",
    "http://[fe80::1]/",
    "http://[febf::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/v1/credentials",
    "http://[fd12:3456:789a::1]/",
    "http://[ff02::1]/",
    "http://[100::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    // Ports
    "http://93.184.216.34:22/",
    "http://93.184.216.34:25/",
    "http://93.184.216.34:6667/",
    "http://93.184.216.34:10080/",
    "http://93.184.216.34:0/",
    "https://93.184.216.34:53/",
];

/// Refused before anybody is asked for them.
const FORBIDDEN_NAMES: &[&str] = &[
    "localhost",
    "localhost.",
    "LOCALHOST",
    "ｌｏｃａｌｈｏｓｔ",
    "loc%61lhost",
    "a.localhost",
    "localhost.localdomain",
    "intranet",
    "router",
    "ip6-localhost",
    "ip6-loopback",
    "host.docker.internal",
    "metadata",
    "metadata.google.internal",
    "metadata.google.internal.",
    "METADATA.google.INTERNAL",
    "metadata.goog",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "instance-data.ec2.internal",
    "printer.local",
    "nas.lan",
    "router.home.arpa",
    "wiki.intranet",
    "shop.default.svc",
    "kubernetes.default.svc.cluster.local",
    "abcdefghij.onion",
    "hooks..example.com",
    ".example.com",
];

/// Texts that are no URL by the standard: none becomes a callback URL.
const NO_URLS: &[&str] = &[
    "http://",
    "http://[::1",
    "http://[::1%25lo]/",
    "http://[::1%lo]/",
    "http://[fe80::1%25eth0]/",
    "http://256.1.1.1/",
    "http://127.0.0.1.1/",
    "http://0x100000000/",
    "http://127.0.0.08/",
    "http://a b/",
    "http://127.0.0.1 /",
    "//127.0.0.1/",
];

/// Answers of a name server that must not be believed.
const ANSWERS: &[&str] = &[
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "172.16.0.1",
    "192.168.0.1",
    "192.0.0.8",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378::1",
    "2606:4700::5efe:a9fe:a9fe",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "2001:db8::1",
    "ff02::1",
];

#[test]
fn no_spelling_name_answer_or_redirect_makes_a_forbidden_connection_anywhere_in_the_world() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(inside());
    }
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let enter = if root { "unshare -n" } else { "unshare -rn" };
    let script = format!(
        "{enter} sh -ec 'ip link set lo up
         ip route add local 0.0.0.0/0 dev lo
         ip -6 route add local ::/0 dev lo
         exec \"$0\" --exact egress::tests::world::{} --nocapture' \"$0\"",
        "no_spelling_name_answer_or_redirect_makes_a_forbidden_connection_anywhere_in_the_world"
    );
    let proxy = "http://127.0.0.1:3128";
    let mut command = Command::new("sh");
    command.args(["-ec", &script]).arg(std::env::current_exe().unwrap()).env(INSIDE, "1");
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, proxy);
    }
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "in a network namespace (unshare of util-linux, ip of iproute2, and the right to use them):\n{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Listeners that take every connection of the world, and answer every request.
#[derive(Clone, Default)]
struct World {
    /// From where, and to where.
    called: Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>,
    answer: Arc<Mutex<String>>,
}

impl World {
    async fn start() -> Self {
        let world = Self::default();
        for port in PORTS {
            let listener = TcpListener::bind(("::", port)).await.unwrap();
            let world = world.clone();
            tokio::spawn(async move {
                loop {
                    let (tcp, from) = listener.accept().await.unwrap();
                    world.called.lock().unwrap().push((from, tcp.local_addr().unwrap()));
                    tokio::spawn(world.clone().serve(tcp));
                }
            });
        }
        world
    }

    async fn serve(self, mut tcp: TcpStream) {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}") && tcp.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {}
        let answer = self.answer.lock().unwrap().clone();
        let _ = tcp.write_all(answer.as_bytes()).await;
    }

    fn answers(&self, answer: &str) {
        *self.answer.lock().unwrap() = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    }

    /// Whom the client has called since the last time. A listener takes connections in their order: when one that is made now has arrived,
    /// all that were made before have.
    async fn called(&self) -> Vec<(IpAddr, u16)> {
        // Both ends in full: the system gives one port of ours to connections that go to different addresses or ports.
        let end = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        let ends = |(from, to): &(SocketAddr, SocketAddr)| (end(*from), end(*to));
        let mut own = BTreeSet::new();
        for port in PORTS {
            let last = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let last = ends(&(last.local_addr().unwrap(), last.peer_addr().unwrap()));
            own.insert(last);
            while !self.called.lock().unwrap().iter().any(|call| ends(call) == last) {
                tokio::task::yield_now().await;
            }
        }
        let called = std::mem::take(&mut *self.called.lock().unwrap());
        called.into_iter().filter(|call| !own.contains(&ends(call))).map(|(_, to)| (to.ip().to_canonical(), to.port())).collect()
    }
}

async fn inside() {
    let world = World::start().await;
    world.answers("200 OK");
    // Of a name such as n7.answer.example: the seventh answer, alone; of n7.mixed.example: beside a public one; n7.alias.example: of
    // another name.
    let server = NameServer::start(|name, _| {
        let public: IpAddr = PUBLIC.parse().unwrap();
        let wanted =
            name.strip_prefix('n').and_then(|rest| rest.split_once('.')).and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
        match wanted {
            Some((n, "answer.example")) => Reply::Addresses(60, vec![address(n)]),
            Some((n, "mixed.example")) => Reply::Addresses(60, vec![public, "2606:4700::1".parse().unwrap(), address(n)]),
            Some((n, "alias.example")) => Reply::Alias(60, "inner.example.", vec![address(n)]),
            _ => Reply::Addresses(60, vec![public]),
        }
    });
    let notes = Notes::default();
    let settings = Settings { name_servers: vec![server.address], ..Settings::new(AddressPolicy::default(), 32) };
    let client = Client::new(settings, Box::new(notes.clone())).unwrap();

    // The world hears what is allowed, by address, by name, and in both families.
    for (url, whom) in [
        (format!("http://{PUBLIC}/"), PUBLIC),
        (format!("http://{PUBLIC}:8080/"), PUBLIC),
        ("http://hooks.example.com/".to_owned(), PUBLIC),
        ("http://[2606:4700::1111]/".to_owned(), "2606:4700::1111"),
    ] {
        assert_eq!(client.send(request(&url)).await, answered(200), "{url}");
        let called: BTreeSet<IpAddr> = world.called().await.into_iter().map(|(address, _)| address).collect();
        assert_eq!(called, BTreeSet::from([whom.parse().unwrap()]), "{url}");
    }
    assert!(notes.take().is_empty());

    for url in FORBIDDEN {
        assert!(url::Url::parse(url).is_ok(), "{url}");
        blocked(&client, &notes, &world, url).await;
    }
    for name in FORBIDDEN_NAMES {
        blocked(&client, &notes, &world, &format!("http://{name}/")).await;
    }
    assert_eq!(server.names().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["hooks.example.com".to_owned()]));
    for text in NO_URLS {
        assert!(url::Url::parse(text).is_err(), "{text}");
    }
    for (n, answer) in ANSWERS.iter().enumerate() {
        for kind in ["answer", "mixed", "alias"] {
            blocked(&client, &notes, &world, &format!("http://n{n}.{kind}.example/")).await;
            assert!(server.asked_for(&format!("n{n}.{kind}.example")) >= 2, "{answer} {kind}: both families");
        }
    }
    // CVE-2026-105636: nothing is followed, whatever the status and wherever it leads.
    for (at, target) in FORBIDDEN.iter().enumerate() {
        let status = [301, 302, 303, 307, 308][at % 5];
        world.answers(&format!("{status} Elsewhere\r\nlocation: {}", target.replace(['\n', '\t'], "")));
        let outcome = client.send(request(&format!("http://{PUBLIC}/redirect"))).await;
        assert!(matches!(outcome, Outcome::Answered { status: seen, .. } if seen == status), "{target}: {outcome:?}");
        assert_eq!(world.called().await, [(PUBLIC.parse().unwrap(), 80)], "{target}");
    }
    assert!(notes.take().is_empty());
}

fn address(n: usize) -> IpAddr {
    ANSWERS[n % ANSWERS.len()].parse().unwrap()
}

async fn blocked(client: &Client, notes: &Notes, world: &World, url: &str) {
    assert_eq!(client.send(request(url)).await, failed(Failure::Blocked), "{url}");
    assert_eq!(notes.take().len(), 1, "{url}");
    let called = world.called().await;
    assert!(called.is_empty(), "{url}: {called:?}");
}
