//! Granting and taking rights: the three requests of Kafka's protocol for them (its versions 1), which rdkafka does not offer.
//!
//! A controller takes a change; the broker judges by it a moment later. So a change is over when the broker lists it.

use super::{SOON, await_true};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const DESCRIBE: i16 = 29;
const CREATE: i16 = 30;
const DELETE: i16 = 31;

/// Operations as ACLs call them, with their numbers in the protocol.
const OPERATIONS: [(&str, u8); 5] = [("Read", 3), ("Write", 4), ("Create", 5), ("Describe", 8), ("DescribeConfigs", 10)];
const ALLOW: u8 = 3;
/// Matches everything in a filter.
const ANY: u8 = 1;
const LITERAL: u8 = 3;
const PREFIXED: u8 = 4;

/// What a right is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Topic,
    Group,
    TransactionalId,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Topic => 2,
            Self::Group => 3,
            Self::TransactionalId => 5,
        }
    }
}

/// One right of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) prefixed: bool,
    pub(crate) operation: String,
}

/// Allows `principal` (`User:…`) all of `acls`, and waits until the broker knows.
pub(crate) fn allow(bootstrap: &str, principal: &str, acls: &[Acl]) {
    let mut body = Body::default();
    body.number(i32::try_from(acls.len()).unwrap());
    for acl in acls {
        body.byte(acl.kind.number()).text(Some(&acl.name)).byte(if acl.prefixed { PREFIXED } else { LITERAL });
        body.text(Some(principal)).text(Some("*")).byte(operation(&acl.operation)).byte(ALLOW);
    }
    let mut answer = ask(bootstrap, CREATE, &body);
    answer.number(); // throttled for
    for _ in 0..answer.number() {
        let (code, why) = (answer.short(), answer.text());
        assert_eq!(code, 0, "{acls:?} for {principal}: {why:?}");
    }
    // One by one: others may be given rights to the same principal meanwhile.
    let known = |acl: &Acl| listed(bootstrap, principal, acl.kind, &acl.name, operation(&acl.operation)) > 0;
    await_true("the broker knows the rights", SOON, || acls.iter().all(known));
}

/// Takes all of `principal`'s rights on the resource of that kind and name, and waits until the broker knows.
pub(crate) fn take(bootstrap: &str, principal: &str, kind: Kind, name: &str) {
    let mut body = Body::default();
    body.number(1).byte(kind.number()).text(Some(name)).byte(ANY).text(Some(principal)).text(None).byte(ANY).byte(ANY);
    let mut answer = ask(bootstrap, DELETE, &body);
    answer.number(); // throttled for
    assert_eq!(answer.number(), 1);
    let (code, why, taken) = (answer.short(), answer.text(), answer.number());
    assert!(code == 0 && taken > 0, "{principal} has no rights on {name}: {code} {why:?}");
    await_true("the broker has forgotten the rights", SOON, || listed(bootstrap, principal, kind, name, ANY) == 0);
}

/// How many rights the broker knows `principal` to have on that resource.
fn listed(bootstrap: &str, principal: &str, kind: Kind, name: &str, operation: u8) -> usize {
    let mut body = Body::default();
    body.byte(kind.number()).text(Some(name)).byte(ANY).text(Some(principal)).text(None).byte(operation).byte(ANY);
    let mut answer = ask(bootstrap, DESCRIBE, &body);
    answer.number(); // throttled for
    let (code, why) = (answer.short(), answer.text());
    assert_eq!(code, 0, "listing the rights of {principal}: {why:?}");
    let mut found = 0;
    for _ in 0..answer.number() {
        answer.byte();
        answer.text();
        answer.byte();
        for _ in 0..answer.number() {
            answer.text();
            answer.text();
            answer.byte();
            answer.byte();
            found += 1;
        }
    }
    found
}

fn operation(name: &str) -> u8 {
    OPERATIONS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no operation {name} is known here")).1
}

fn ask(bootstrap: &str, key: i16, body: &Body) -> Answer {
    let mut request = Body::default();
    request.short(key).short(1).number(7).text(Some("tests"));
    request.0.extend(&body.0);
    let mut stream = TcpStream::connect(bootstrap).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = u32::try_from(request.0.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &request.0].concat()).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    let mut answer = Answer { bytes: answer, at: 0 };
    assert_eq!(answer.number(), 7, "the answer is to this question");
    answer
}

#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn short(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn number(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn text(&mut self, text: Option<&str>) -> &mut Self {
        self.short(text.map_or(-1, |text| i16::try_from(text.len()).unwrap()));
        self.0.extend(text.unwrap_or("").as_bytes());
        self
    }
}

struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.at += N;
        self.bytes[self.at - N..self.at].try_into().unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn short(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn number(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.short()).ok()?;
        self.at += length;
        Some(String::from_utf8_lossy(&self.bytes[self.at - length..self.at]).into_owned())
    }
}
