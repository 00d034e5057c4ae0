//! Addresses, names, TLS.

use super::receiver::{Receiver, Step, ok};
use super::{LONG, Notes, answered, failed, loopback, request, resolving};
use crate::delivery::ports::Transport;
use crate::domain::address::AddressPolicy;
use crate::domain::registry::{CallbackUrl, ClientIdentity};
use crate::domain::verdict::{Failure, Outcome};
use crate::egress::{Client, Settings};
use rcgen::{Certificate, CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

fn open() -> Settings {
    Settings::new(AddressPolicy::default(), 32)
}

#[tokio::test]
async fn a_forbidden_url_is_blocked_before_anything_is_dialled() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let notes = Notes::default();
    let client = Client::new(open(), Box::new(notes.clone())).unwrap();
    let port = receiver.address.port();
    let table = [
        (format!("http://127.0.0.1:{port}/"), "blocked address"),
        (format!("http://2130706433:{port}/"), "blocked address"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "blocked address"),
        (format!("http://localhost:{port}/"), "blocked name"),
        (format!("http://u:p@127.0.0.1:{port}/"), "blocked url"),
        ("http://169.254.169.254/".to_owned(), "blocked metadata"),
    ];
    for (url, note) in table {
        for _ in 0..2 {
            assert_eq!(client.send(request(&url)).await, failed(Failure::Blocked), "{url}");
            assert_eq!(notes.take(), [note], "{url}");
        }
    }
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn one_denied_address_among_the_answers_refuses_the_name() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let url = format!("http://hooks.example.com:{}/", receiver.address.port());
    let table: [(&[&str], &str); 4] = [
        (&["127.0.0.1", "10.0.0.1"], "blocked address"),
        (&["127.0.0.1", "::1"], "blocked address"),
        (&["127.0.0.1", "93.184.216.34", "2606:4700::1", "8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "fe80::1"], "blocked metadata"),
        (&["169.254.169.254"], "blocked metadata"),
    ];
    for (answers, note) in table {
        let notes = Notes::default();
        let client = resolving(Settings::new(loopback(), 32), &notes, &[answers]);
        assert_eq!(client.send(request(&url)).await, failed(Failure::Blocked), "{answers:?}");
        assert_eq!(notes.take(), [note], "{answers:?}");
    }
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn cve_2026_104973_a_name_that_is_rebound_is_judged_anew_at_each_connection() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let url = format!("http://hooks.example.com:{}/", receiver.address.port());
    let notes = Notes::default();
    let mut settings = Settings::new(loopback(), 32);
    settings.max_idle = 0;
    let client = resolving(settings, &notes, &[&["127.0.0.1"], &["127.0.0.2"]]);
    assert_eq!(client.send(request(&url)).await, answered(200));
    assert_eq!(client.send(request(&url)).await, failed(Failure::Blocked));
    assert_eq!((notes.take(), receiver.seen().len()), (vec!["blocked address".to_owned()], 1));
}

#[tokio::test]
async fn a_lookup_that_fails_fails_the_attempt() {
    let notes = Notes::default();
    let client = resolving(open(), &notes, &[&[]]);
    assert_eq!(client.send(request("http://hooks.example.com/")).await, failed(Failure::Dns));
    assert!(notes.take().is_empty());
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let policy = AddressPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], ..AddressPolicy::default() };
    let client = resolving(Settings::new(policy, 32), &Notes::default(), &[&["127.0.0.2", "127.0.0.1"]]);
    let url = format!("http://hooks.example.com:{}/", receiver.address.port());
    assert_eq!(client.send(request(&url)).await, answered(200));
    assert!(receiver.seen()[0].head.contains(&format!("\r\nhost: hooks.example.com:{}\r\n", receiver.address.port())));
}

fn tls_receiver_for(name: &str) -> (TlsAcceptor, Vec<u8>) {
    let (config, pem) = tls_for(name);
    (TlsAcceptor::from(Arc::new(config)), pem)
}

/// What a TLS receiver called `name` needs, and whom to trust for it.
pub(super) fn tls_for(name: &str) -> (ServerConfig, Vec<u8>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    (tls_of(&cert, &signing_key), cert.pem().into_bytes())
}

fn tls_of(cert: &Certificate, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap()
}

#[tokio::test]
async fn a_certificate_is_trusted_by_ca_file_and_for_its_name_only() {
    let (acceptor, pem) = tls_receiver_for("hooks.example.com");
    let receiver = Receiver::start_with(Some(acceptor), |_, _| ok()).await;
    let port = receiver.address.port();
    let table = [
        (Some(&pem), "hooks.example.com", answered(200)),
        (Some(&pem), "hooks.example.com.", answered(200)),
        (Some(&pem), "other.example.com", failed(Failure::Tls)),
        (Some(&pem), "127.0.0.1", failed(Failure::Tls)),
        (None, "hooks.example.com", failed(Failure::Tls)),
    ];
    for (roots, name, expected) in table {
        let mut settings = Settings::new(loopback(), 32);
        settings.extra_roots_pem = roots.cloned();
        let client = resolving(settings, &Notes::default(), &[&["127.0.0.1"]]);
        for _ in 0..3 {
            assert_eq!(client.send(request(&format!("https://{name}:{port}/"))).await, expected, "{name}");
        }
    }
    assert_eq!(receiver.connections(), [0, 0, 0, 1, 1, 1]);
}

#[tokio::test]
async fn a_certificate_is_trusted_within_its_dates_only() {
    for (from, until, expected) in [(2020, 2021, failed(Failure::Tls)), (2020, 4000, answered(200)), (3999, 4000, failed(Failure::Tls))] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["hooks.example.com".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let cert = params.self_signed(&key).unwrap();
        let receiver = Receiver::start_with(Some(TlsAcceptor::from(Arc::new(tls_of(&cert, &key)))), |_, _| ok()).await;
        let settings = Settings { extra_roots_pem: Some(cert.pem().into_bytes()), ..Settings::new(loopback(), 32) };
        let client = resolving(settings, &Notes::default(), &[&["127.0.0.1"]]);
        let url = format!("https://hooks.example.com:{}/", receiver.address.port());
        assert_eq!(client.send(request(&url)).await, expected, "{from}-{until}");
    }
}

/// The hello of a receiver whose latest is TLS `minor`, in the record of a handshake, with a cipher suite of its time (AES-128-CBC-SHA).
fn hello_of(minor: u8) -> Vec<u8> {
    let hello = [&[3, minor][..], &[7; 32], &[0], &[0xc0, 0x13], &[0], &[0, 5, 0xff, 1, 0, 1, 0]].concat();
    let message = [&[2, 0, 0, u8::try_from(hello.len()).unwrap()][..], &hello].concat();
    [&[22, 3, minor, 0, u8::try_from(message.len()).unwrap()][..], &message].concat()
}

#[tokio::test]
async fn a_receiver_whose_latest_tls_is_older_than_1_2_is_a_tls_failure_and_told_why() {
    for (minor, name) in [(0, "SSL 3.0"), (1, "TLS 1.0"), (2, "TLS 1.1")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let old = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            assert!(tcp.read(&mut bytes).await.unwrap() > 0);
            tcp.write_all(&hello_of(minor)).await.unwrap();
            bytes.clear();
            tcp.read_to_end(&mut bytes).await.map(|_| bytes)
        });
        let client = resolving(Settings::new(loopback(), 32), &Notes::default(), &[&[]]);
        assert_eq!(client.send(request(&format!("https://{address}/"))).await, failed(Failure::Tls), "{name}");
        // The alert protocol_version, fatal: it is the version that is refused, and nothing of the request came.
        let said = old.await.unwrap().unwrap();
        assert_eq!(said.get(5..), Some(&[2, 70][..]), "{name}: {said:?}");
    }
}

pub(in crate::egress) fn identity_of(name: &str) -> (CertificateDer<'static>, Arc<ClientIdentity>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let identity = ClientIdentity::from_pem(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap();
    (cert.der().clone(), Arc::new(identity))
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_those_who_ask_and_has_connections_of_its_own() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["hooks.example.com".to_owned()]).unwrap();
    let ((known, first), (known_too, second), (_, stranger)) = (identity_of("one"), identity_of("two"), identity_of("three"));
    let mut clients = RootCertStore::empty();
    clients.add(known).unwrap();
    clients.add(known_too).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let receiver = Receiver::start_with(Some(TlsAcceptor::from(Arc::new(config))), |_, _| ok()).await;
    let mut settings = Settings::new(loopback(), 32);
    settings.extra_roots_pem = Some(cert.pem().into_bytes());
    let client = resolving(settings, &Notes::default(), &[&["127.0.0.1"]]);
    let url = format!("https://hooks.example.com:{}/", receiver.address.port());
    let send = async |identity: Option<&Arc<ClientIdentity>>| {
        let mut request = request(&url);
        request.url = Arc::new(CallbackUrl { identity: identity.cloned(), ..CallbackUrl::clone(&request.url) });
        client.send(request).await
    };
    for identity in [&first, &second, &first, &second] {
        assert_eq!(send(Some(identity)).await, answered(200));
    }
    for identity in [None, Some(&stranger)] {
        // With TLS 1.3 the receiver's refusal comes where its answer would.
        assert!(matches!(send(identity).await, Outcome::Failed(Failure::Tls | Failure::Protocol)));
    }
    assert_eq!(send(Some(&first)).await, answered(200));
    let connections = receiver.connections();
    assert_eq!(connections, [connections[0], connections[1], connections[0], connections[1], connections[0]]);
    assert_ne!(connections[0], connections[1]);
}

#[tokio::test]
async fn a_receiver_that_speaks_no_tls_is_a_tls_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    let client = resolving(Settings::new(loopback(), 32), &Notes::default(), &[&[]]);
    assert_eq!(client.send(request(&format!("https://{address}/"))).await, failed(Failure::Tls));
}

#[tokio::test]
async fn a_silent_tls_handshake_ends_at_the_connect_time_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request(&format!("https://{}/", listener.local_addr().unwrap()));
    request.connect_timeout = Duration::from_millis(150);
    let client = resolving(Settings::new(loopback(), 32), &Notes::default(), &[&[]]);
    let start = tokio::time::Instant::now();
    assert_eq!(client.send(request).await, failed(Failure::Timeout));
    assert!(start.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_tls_receiver_that_closes_its_idle_connection_gets_the_request_once_more() {
    let (acceptor, pem) = tls_receiver_for("hooks.example.com");
    let receiver =
        Receiver::start_with(Some(acceptor), |connection, request| if (connection, request) == (0, 1) { vec![Step::Close] } else { ok() })
            .await;
    let mut settings = Settings::new(loopback(), 32);
    settings.extra_roots_pem = Some(pem);
    let client = resolving(settings, &Notes::default(), &[&["127.0.0.1"]]);
    let url = format!("https://hooks.example.com:{}/", receiver.address.port());
    for _ in 0..2 {
        assert_eq!(client.send(request(&url)).await, answered(200));
    }
    assert_eq!(receiver.connections(), [0, 0, 1]);
}
