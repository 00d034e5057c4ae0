//! callbackd: recording-completed events on Kafka become signed HTTP callbacks.
//!
//! The way of an event, and the room where each step lives:
//!
//! ```text
//!  source topics ─► intake ─► decode ─► bind ─► admit ─► render+sign ─► send ─► judge ─► settle ─► commit
//!  delay tiers   ─►  kafka::   domain::  domain:: delivery::  domain::    egress::  domain::  delivery::  kafka::
//!  replay topic  ─►  consumer  event     binding  lane        body,       client    verdict   settle      consumer
//!                                                             signature                        │
//!                                                                                              ├─ delivered
//!                                                                                              ├─ requeue ► delay tier
//!                                                                                              └─ bury    ► dead-letter topic
//! ```
//!
//! `kafka::consumer` is the source behind `delivery::intake`, which decides what is admitted to memory and when to commit; `delivery::engine`
//! owns lanes, slots and chains. `design §N` in comments means the team's contract, which is kept beside this repository.
//!
//! Dependencies point one way; a test (`tests/layering.rs`) reads every path in `src` and holds it:
//! `domain ← {metrics, source} ← delivery ← {kafka, egress, admin, config, registry} ← app ← {demo, cli}`.
//! Edges never meet each other.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod domain;
pub mod egress;
pub mod kafka;
pub mod metrics;
pub mod registry;
pub mod source;

#[cfg(test)]
extern crate self as callbackd;
#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod fuzz_targets;
