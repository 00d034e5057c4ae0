//! Receivers that answer in order to harm: without end, byte by byte, with heads of any size, with what was not asked for, below HTTP too. Each attempt is
//! judged by status and headers, or fails; it costs bounded memory and no more time than its time-out, and the others do not feel it.

use super::{NO_CIRCUIT, accepting, events, registry_of};
use crate::harness::Over;
use crate::harness::latency::{by_phase, p99, send_evenly};
use crate::harness::receiver::Answer;
use crate::harness::scene::Scene;
use crate::harness::tickets::Tickets;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// How each attack is to be judged: delivered, or the outcome in the dead letter.
const ATTACKS: [(&str, Option<&str>); 17] = [
    ("endless-body", None),
    ("endless-chunks", None),
    ("drip-body", None),
    ("drip-head", Some("timeout")),
    ("endless-headers", Some("protocol")),
    ("giant-header", Some("protocol")),
    ("interim-flood", Some("protocol")),
    ("bomb", None),
    ("short-length", None),
    ("long-body", None),
    ("half-closed", Some("protocol")),
    ("no-http", Some("protocol")),
    ("two-answers", None),
    ("redirect-inside", Some("307")),
    ("silent-tls", Some("timeout")),
    ("tickets-before", Some("protocol")),
    ("tickets-within", None),
];
/// What a machine that is shared with other tests may do to a p99: the promise itself is measured by the benchmark.
const SHARED_MACHINE_MS: f64 = 245.0;
/// Events of each attack.
const EACH: usize = 6;

/// Does what the path of the request says, until the daemon has enough of it.
fn attack(mut tcp: TcpStream, trap: u16) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    // An event ends with a brace, so does its body.
    while !bytes.ends_with(b"}") {
        let count = tcp.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&piece[..count]);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let path = text.split_whitespace().nth(1).unwrap_or("").trim_start_matches('/');
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    let large = vec![b'x'; 64 * 1024];
    match path {
        "endless-body" => {
            tcp.write_all(head("content-length: 99999999999\r\n\r\n").as_bytes())?;
            loop {
                tcp.write_all(&large)?;
            }
        }
        "endless-chunks" => {
            tcp.write_all(head("transfer-encoding: chunked\r\n\r\n").as_bytes())?;
            loop {
                tcp.write_all(b"1;extension=\"of no use\"\r\nx\r\n")?;
            }
        }
        "drip-body" | "drip-head" => {
            let text = if path == "drip-body" { head("content-length: 10000\r\n\r\n") } else { head("x: ") };
            let (at_once, slowly) = if path == "drip-body" { (text.as_str(), "") } else { ("", text.as_str()) };
            tcp.write_all(at_once.as_bytes())?;
            for byte in slowly.bytes().chain(std::iter::repeat(b'x')) {
                tcp.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
        "endless-headers" => {
            tcp.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                tcp.write_all(b"x-more: and more\r\n")?;
            }
        }
        "giant-header" => {
            tcp.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
            for _ in 0..1024 {
                tcp.write_all(&large)?;
            }
            tcp.write_all(b"\r\n\r\n")
        }
        "interim-flood" => loop {
            tcp.write_all("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(200).as_bytes())?;
        },
        // What a kilobyte of this kind says it is, is a megabyte of zeros; nobody looks.
        "bomb" => tcp.write_all(head("content-encoding: gzip, gzip, gzip\r\ncontent-length: 4\r\n\r\n\u{1f}\u{8}\u{8}\u{0}").as_bytes()),
        "short-length" => tcp.write_all(head("content-length: 1000\r\n\r\nshort").as_bytes()),
        "long-body" => tcp.write_all(head("content-length: 2\r\n\r\nok, and what follows was not announced").as_bytes()),
        "half-closed" => {
            tcp.shutdown(Shutdown::Write)?;
            tcp.read(&mut piece).map(drop)
        }
        "no-http" => tcp.write_all(b"220 mail.example ESMTP ready\r\n250 2.0.0 OK\r\n\r\n"),
        // The second one is for the next callback, were it taken for its answer.
        "two-answers" => {
            tcp.write_all(head("content-length: 0\r\n\r\nHTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
            tcp.read(&mut piece).map(drop)
        }
        "redirect-inside" => {
            let answer = format!("HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:{trap}/\r\ncontent-length: 0\r\n\r\n");
            tcp.write_all(answer.as_bytes())
        }
        other => panic!("no attack is called {other:?}"),
    }
}

/// What a TLS receiver at 127.0.0.1 needs, and whom to trust for it.
fn tls() -> (ServerConfig, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (config, cert.pem())
}

/// Sends tickets without end, before its answer or where the answer's body should come.
fn attack_by_tickets(tcp: TcpStream, config: ServerConfig) -> std::io::Result<()> {
    let (mut tickets, request) = Tickets::accept(tcp, config)?;
    if !request.starts_with(b"POST /tickets-before ") {
        tickets.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")?;
    }
    loop {
        tickets.tickets()?;
    }
}

#[test]
fn receivers_that_attack_are_judged_and_cost_neither_memory_nor_the_others_time() {
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let trap_port = trap.local_addr().unwrap().port();
    let attacker = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = attacker.local_addr().unwrap().port();
    // Accepts, and says nothing: the handshake never ends.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let (config, pem) = tls();
    let secure = TcpListener::bind("127.0.0.1:0").unwrap();
    let secure_port = secure.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in secure.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || attack_by_tickets(tcp, config));
        }
    });
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    std::thread::spawn(move || {
        for tcp in attacker.incoming().flatten().take_while(|_| !ended.load(Ordering::Relaxed)) {
            std::thread::spawn(move || attack(tcp, trap_port));
        }
    });

    let mut scene = Scene::new("attackers", 2);
    scene.log_level = "info";
    scene.delivery = NO_CIRCUIT.into();
    let domain = |attack: &str| format!("{attack}.example");
    let url = |attack: &str| match attack {
        "silent-tls" => format!("https://127.0.0.1:{silent_port}/"),
        "tickets-before" | "tickets-within" => format!("https://127.0.0.1:{secure_port}/{attack}"),
        _ => format!("http://127.0.0.1:{port}/{attack}"),
    };
    let roots = scene.dir.join("receivers.pem");
    std::fs::write(&roots, pem).unwrap();
    scene.egress = format!("{}\nca_file = {roots:?}", scene.egress);
    let attackers: Vec<(String, String)> = ATTACKS.iter().map(|(attack, _)| (domain(attack), url(attack))).collect();
    let rows = attackers.iter().map(|(domain, url)| (domain.as_str(), url.clone()));
    let limits = "retry = { delays = [\"300ms\"], attempts = 1 }\ntimeout = \"1s\"\nconnect_timeout = \"1s\"";
    scene.registry = registry_of(rows.chain([("well.example", receiver.url("/"))]), limits);
    let mut daemon = scene.start();

    let quiet = || std::thread::sleep(Duration::from_secs(8));
    let (sent, phases, peaks) = std::thread::scope(|threads| {
        let ending = Over(&over);
        let producing = threads.spawn(|| {
            // For one who is well.
            let sent = send_evenly(&over, |n| scene.producer.send(scene.source(), &events("well.example", n..n + 1)[0]));
            scene.producer.flush();
            sent
        });
        let mut phases = vec![Instant::now()];
        quiet();
        let before = daemon.peak_mib();
        phases.push(Instant::now());
        for (attack, _) in ATTACKS {
            scene.producer.send_all(scene.source(), &events(&domain(attack), 0..EACH));
        }
        let letters = ATTACKS.iter().filter(|(_, judged)| judged.is_some()).count() * EACH;
        daemon.wait_metric("callbackd_dead_letters_total", &["reason=\"attempts_exhausted\""], letters as f64);
        // Bodies without end are read for as long as their attempts might have taken.
        std::thread::sleep(Duration::from_secs(2));
        let after = daemon.peak_mib();
        phases.push(Instant::now());
        quiet();
        phases.push(Instant::now());
        drop(ending);
        let _ = TcpStream::connect(("127.0.0.1", port));
        (producing.join().unwrap(), phases, [before, after])
    });
    accepted.wait(sent.len(), Duration::from_secs(60));
    super::wait_quiet(&scene);

    let mut judged: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for letter in scene.dead_letters() {
        judged.entry(letter.header("callbackd-domain").unwrap()).or_default().push(letter.header("callbackd-last-outcome").unwrap());
    }
    for (attack, expected) in ATTACKS {
        let found = judged.remove(&domain(attack)).unwrap_or_default();
        let expected = expected.map(|outcome| vec![outcome.to_owned(); EACH]).unwrap_or_default();
        assert_eq!(found, expected, "{attack}");
    }
    assert!(judged.is_empty(), "{judged:?}");
    let delivered = sent.len() + EACH * ATTACKS.iter().filter(|(_, judged)| judged.is_none()).count();
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], delivered as f64);
    assert_eq!(trap.accept().map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "nobody follows a redirect");
    assert!(peaks[1] <= peaks[0] + 32, "{peaks:?} MiB");

    let latencies = by_phase(&phases, &sent, &receiver.requests(), |request| request.id().rsplit('-').next().unwrap().parse().unwrap());
    let [before, attacked, after] = latencies.map(p99);
    let quiet = before.max(after);
    println!("p99 of the others: {before:.1} ms, attacked {attacked:.1}, after {after:.1}; peaks {peaks:?} MiB");
    // The promise is twice, or 5 ms more.
    let limit = (quiet * 2.0).max(quiet + 5.0 + SHARED_MACHINE_MS);
    assert!(attacked <= limit, "{before} {attacked} {after}; at most {limit}, of which {SHARED_MACHINE_MS} ms are the machine's");
    drop(silent);
    daemon.stop();
}
