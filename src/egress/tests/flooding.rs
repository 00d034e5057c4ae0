//! Receivers whose TLS says much that is no answer.

use super::guarding::tls_for;
use super::receiver::{Receiver, ok};
use super::{Notes, answered, failed, loopback, request, resolving};
use crate::delivery::ports::Transport as _;
use crate::domain::verdict::Failure;
use crate::egress::meter::{ALLOWANCE, TURN};
use crate::egress::tickets::Tickets;
use crate::egress::{Client, Settings};
use std::future::{Future as _, poll_fn};
use std::net::TcpListener;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

const NAME: &str = "hooks.example.com";

/// Bytes of a flood: so much is read by a client that does not mind, and more than lies on the way between the two.
const FLOOD: usize = 32 << 20;

fn trusting(pem: Vec<u8>) -> Client {
    let settings = Settings { extra_roots_pem: Some(pem), ..Settings::new(loopback(), 32) };
    resolving(settings, &Notes::default(), &[&["127.0.0.1"]])
}

#[tokio::test]
async fn tickets_before_an_answer_are_passed_over() {
    for tickets in [0, 4, 100] {
        let (mut config, pem) = tls_for(NAME);
        config.send_tls13_tickets = tickets;
        let receiver = Receiver::start_with(Some(TlsAcceptor::from(Arc::new(config))), |_, _| ok()).await;
        let client = trusting(pem);
        let url = format!("https://{NAME}:{}/", receiver.address.port());
        assert_eq!(client.send(request(&url)).await, answered(200), "{tickets}");
        assert_eq!(client.idle(), 1, "{tickets}");
    }
}

/// When the flood comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    BeforeTheAnswer,
    WithinTheBody,
    BehindTheAnswer,
}

/// A receiver that answers the first request of its only connection, and sends tickets when it is told to. It says how many bytes of them it
/// was rid of.
fn flooding(config: ServerConfig, when: When) -> (u16, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, (tell, told)) = (listener.local_addr().unwrap().port(), mpsc::channel());
    std::thread::spawn(move || {
        let (mut tickets, _) = Tickets::accept(listener.accept().unwrap().0, config).unwrap();
        match when {
            When::BeforeTheAnswer => {}
            When::WithinTheBody => tickets.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n").unwrap(),
            When::BehindTheAnswer => tickets.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap(),
        }
        let mut gone = 0;
        while let (true, Ok(count)) = (gone < FLOOD, tickets.tickets()) {
            gone += count;
        }
        tell.send(gone).unwrap();
    });
    (port, told)
}

#[tokio::test]
async fn a_flood_of_tickets_costs_its_connection_and_is_not_read_to_its_end() {
    for (when, expected) in
        [(When::BeforeTheAnswer, failed(Failure::Protocol)), (When::WithinTheBody, answered(200)), (When::BehindTheAnswer, answered(200))]
    {
        let (config, pem) = tls_for(NAME);
        let (port, gone) = flooding(config, when);
        let client = trusting(pem);
        let url = format!("https://{NAME}:{port}/");
        assert_eq!(client.send(request(&url)).await, expected, "{when:?}");
        if when == When::BehindTheAnswer {
            // Its request may have been taken: it is not repeated.
            assert_eq!(client.send(request(&url)).await, failed(Failure::Protocol));
        }
        // What is still read is read by a task of its own.
        let gone = loop {
            match gone.try_recv() {
                Ok(gone) => break gone,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(gone < FLOOD, "{when:?}");
        assert_eq!(client.idle(), 0, "{when:?}");
    }
}

/// Others wait for what one poll takes: of a flood, a small part of what an exchange may have.
#[tokio::test]
async fn a_flood_of_tickets_before_an_answer_lets_others_run_in_between() {
    let (config, pem) = tls_for(NAME);
    let (port, _gone) = flooding(config, When::BeforeTheAnswer);
    let client = trusting(pem);
    let turns = std::cell::Cell::new(0);
    let mut attempt = pin!(client.send(request(&format!("https://{NAME}:{port}/"))));
    let outcome = poll_fn(|cx| {
        turns.set(turns.get() + 1);
        attempt.as_mut().poll(cx)
    })
    .await;
    assert_eq!(outcome, failed(Failure::Protocol));
    // Its handshake takes some, too.
    assert!(turns.get() >= ALLOWANCE / TURN, "{}", turns.get());
}
