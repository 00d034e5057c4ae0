//! The Kafka edge: the only user of rdkafka.
//!
//! ```text
//!  client ──► settings to client configurations, one function per kind of client
//!  record ──► what a poll yields, detached into `domain::Record` at once; `NewRecord` into what a producer takes
//!  consumer ─ a thread per class, drives partitions          outbox ─ requeues and dead letters, acknowledged or refused
//!  topics ─── plan, create, check                            wait ─── waiting for the broker (the only user of `backoff`)
//!  lag ────── watermarks, read beside the consumers          replay ─ dead letters back into delivery, one transaction a batch
//!  reader ─── a topic from its start, beside every group: for tools
//!  right ──── what is missing of the ACLs, in the words of `kafka-acls.sh`
//!  redaction  what the client's words must not give away       scopes ─ properties that are for one kind of client only
//!  bootstrap  a way back for a client that has lost every broker
//!  embedded ─ librdkafka's mock cluster, for `callbackd demo`
//! ```
//!
//! Invariants: no rdkafka type leaves this room; no decision is made by the text of an error; no value of a client property is ever
//! printed (`client::ClientError` drops it); nothing borrowed from a client outlives the call that got it, because a list or a message
//! that is still alive keeps the client from closing.

mod bootstrap;
pub mod client;
pub mod consumer;
pub mod embedded;
pub mod lag;
pub mod outbox;
pub mod reader;
pub mod record;
pub mod redaction;
pub mod replay;
pub mod right;
mod scopes;
pub mod topics;
pub mod wait;
