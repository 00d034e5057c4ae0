//! Whom the daemon calls, seen at the sockets of those whom it must not call. The table of spellings is with the client's own tests, in a
//! network namespace (`src/egress/tests/world.rs`); here are the ways that need time: names that change, redirects, proxies.

use crate::harness::SOON;
use crate::harness::name_server::{NameServer, Reply};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event};
use hickory_resolver::proto::rr::RecordType;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};

/// Nobody may call here.
struct Trap(Vec<TcpListener>);

impl Trap {
    fn at(port: u16, addresses: &[&str]) -> Self {
        let listen = |address: &&str| {
            let listener = TcpListener::bind((address.parse::<IpAddr>().unwrap(), port)).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        Self(addresses.iter().map(listen).collect())
    }

    fn is_silent(&self) {
        for listener in &self.0 {
            let called = listener.accept().map(|(_, from)| from).map_err(|error| error.kind());
            assert_eq!(called, Err(ErrorKind::WouldBlock), "{:?} was called", listener.local_addr());
        }
    }
}

#[test]
fn cve_2026_104973_and_105636_names_that_change_redirects_and_proxy_variables_lead_nowhere_else() {
    let receiver = Receiver::start(|request, _| match request.path.as_str() {
        "/close" => Answer::With(200, vec![("connection", "close".to_owned())]),
        elsewhere => Answer::With(307, vec![("location", format!("http://127.0.0.2:{}/", &elsewhere[1..]))]),
    });
    let trap = Trap::at(receiver.port, &["127.0.0.2", "::1"]);
    let proxy = Trap(vec![TcpListener::bind("127.0.0.1:0").unwrap()]);
    proxy.0[0].set_nonblocking(true).unwrap();
    // Judged when it was looked up last, and by another answer connected to: that is what the second and later answers are for.
    let server = NameServer::start(|name, before| {
        let address = |text: &str| vec![text.parse().unwrap()];
        match (name, before % 4) {
            ("rebound.example.com", 1) => Reply::Addresses(0, address("127.0.0.2")),
            ("inner.example.com", _) => Reply::Only(RecordType::A, 0, address("127.0.0.2")),
            ("rebound.example.com", 2) => Reply::Addresses(0, vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]),
            ("rebound.example.com", 3) => Reply::Alias(0, "inner.example.com.", Vec::new()),
            ("missing.example.com", _) => Reply::NoSuchName,
            ("broken.example.com", _) => Reply::Failure,
            ("silent.example.com", _) => Reply::Silence,
            _ => Reply::Addresses(0, address("127.0.0.1")),
        }
    });

    let mut scene = Scene::new("egress", 2);
    scene.egress = format!("allow_networks = [\"127.0.0.1/32\"]\nname_servers = [\"{}\"]", server.address);
    scene.delivery = "circuit = { failures = 1000, pause = \"100ms\", max_pause = \"1s\" }".into();
    let proxy_url = format!("http://{}", proxy.0[0].local_addr().unwrap());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        scene.environment.push((name.to_owned(), proxy_url.clone()));
    }
    let port = receiver.port;
    let domains = [
        ("rebound", format!("http://rebound.example.com:{port}/close"), 200),
        ("redirected", format!("http://127.0.0.1:{port}/{port}"), 2),
        ("missing", format!("http://missing.example.com:{port}/close"), 2),
        ("broken", format!("http://broken.example.com:{port}/close"), 2),
        ("silent", format!("http://silent.example.com:{port}/close"), 2),
    ];
    scene.registry = "[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n".into();
    for (name, url, attempts) in &domains {
        write!(
            scene.registry,
            r#"
[[callback_templates]]
name = "{name}"
urls = {{ recording_file = "{url}" }}
retry = {{ delays = ["300ms"], attempts = {attempts} }}
connect_timeout = "1s"
timeout = "2s"

[[domains]]
name = "{name}.push.example"

[[bindings]]
domain = "{name}.push.example"
recording_template = "rec"
callback_template = "{name}"
"#
        )
        .unwrap();
    }
    let mut daemon = scene.start();
    let events: Vec<String> = (0..100).map(|n| event(&format!("{}.push.example", domains[n % 5].0), n)).collect();
    scene.produce(&events);

    receiver.wait("each event whose name changes is delivered at last", SOON, |requests| {
        requests.iter().filter(|request| request.path == "/close").map(|request| request.id().to_owned()).collect::<HashSet<_>>().len()
            == 20
    });
    daemon.wait_metric("callbackd_dead_letters_total", &[], 80.0);
    scene.wait_committed_to_the_end();
    trap.is_silent();
    proxy.is_silent();
    assert!(daemon.metric("callbackd_egress_blocked_total", &["reason=\"address\""]) >= 1.0, "{:?}", server.names());
    assert_eq!(daemon.metric("callbackd_egress_violations_total", &[]), 0.0);
    assert!(server.asked_for("rebound.example.com") > 2 && server.asked_for("inner.example.com") > 0, "{:?}", server.names());
    daemon.stop();
}
