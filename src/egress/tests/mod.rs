//! The client against scripted receivers on loopback.

mod flooding;
mod guarding;
mod receiver;
mod sending;
mod world;

pub(super) use guarding::identity_of;

use super::resolver::Resolver;
use super::{Client, Observer, Settings};
use crate::delivery::ports::{CallbackRequest, HeaderLines, Transport};
use crate::domain::address::{AddressPolicy, Refusal};
use crate::domain::registry::CallbackUrl;
use crate::domain::verdict::{Failure, Outcome};
use bytes::Bytes;
use receiver::Receiver;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any test waits for what does happen.
const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<String>>>);

impl Observer for Notes {
    fn blocked(&self, reason: Refusal) {
        self.0.borrow_mut().push(format!("blocked {}", reason.as_str()));
    }
    fn violation(&self) {
        self.0.borrow_mut().push("violation".to_owned());
    }
}

impl Notes {
    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

fn loopback() -> AddressPolicy {
    AddressPolicy { allow_networks: vec!["127.0.0.1/32".parse().unwrap()], ..AddressPolicy::default() }
}

fn client() -> Client {
    Client::new(Settings::new(loopback(), 32), Box::new(Notes::default())).unwrap()
}

/// A client whose lookups yield `answers`, one list a lookup, the last repeated.
fn resolving(settings: Settings, notes: &Notes, answers: &[&[&str]]) -> Client {
    let answers = answers.iter().map(|list| list.iter().map(|a| a.parse().unwrap()).collect()).collect();
    Client::new(settings, Box::new(notes.clone())).unwrap().with_resolver(Resolver::Scripted(RefCell::new(answers)))
}

fn request(url: &str) -> CallbackRequest {
    let parsed = url::Url::parse(url).unwrap();
    let mut headers = HeaderLines::default();
    headers.push(&http::header::CONTENT_TYPE, b"application/json");
    headers.push(&http::HeaderName::from_static("webhook-id"), b"evt_1");
    CallbackRequest {
        url: Arc::new(CallbackUrl::new(parsed)),
        headers,
        body: Bytes::from_static(b"{\"event_type\":100}"),
        connect_timeout: LONG,
        timeout: LONG,
    }
}

fn to(receiver: &Receiver) -> CallbackRequest {
    request(&format!("http://{}/cb?tenant=7", receiver.address))
}

async fn call(client: &Client, receiver: &Receiver) -> Outcome {
    client.send(to(receiver)).await
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, retry_after: None }
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}

/// Lets the runtime look at its sockets: what lies in the kernel is known to it afterwards.
async fn look() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}
