//! Delivery: the way of an event from intake to settlement, behind four ports.
//!
//! ```text
//!  intake thread, one per class                    engine, one task that owns all delivery state
//!  ┌───────────────────────────────┐   batches    ┌──────────────────────────────────────────────┐
//!  │ Source ─► Partition: tracker, │ ───────────► │ decode ─► bind ─► Lanes ─► attempt ─► judge   │─► Transport
//!  │           held heads, phase   │              │    │        │       │                  │      │
//!  │ Budget: records and bytes     │ ◄─────────── │    └────────┴───────┴──► settle ◄──────┘      │─► Outbox
//!  │ commits each 100 ms           │   returns    │            (requeue, bury, acknowledged)      │
//!  └───────────────────────────────┘              └──────────────────────────────────────────────┘
//! ```
//!
//! Every record handed over comes back exactly once as a [`handover::Return`]; only then is its budget free, and only a
//! [`settle::Settlement`] (built where the receiver or the broker has acknowledged) finishes its offset. What comes
//! back unsettled stays unfinished, is never committed past, and is read again by whoever owns the partition next.
//!
//! Owners: a partition's tracker, heads and budget belong to its class's intake thread; lanes, slots, holds and chains belong to
//! the engine. They share nothing but messages and each assignment's phase, which fences late results.
//!
//! State machines without IO: [`partition`], [`budget`], [`circuit`], [`lane`], `waiting`, [`slots`], [`lanes`], `lines`, [`outage`],
//! [`oldest`]. Async: [`attempt`], [`settle`], [`engine`]. [`intake`] is the body of a plain thread.

pub mod attempt;
pub mod budget;
pub mod circuit;
pub mod engine;
pub mod handover;
pub mod intake;
pub mod lane;
pub mod lanes;
mod lines;
mod mutant;
pub mod oldest;
pub mod outage;
pub mod partition;
pub mod ports;
pub mod settings;
pub mod settle;
pub mod slots;
pub mod sort;
mod waiting;

// Judges what simulations saw; the integration tests have the same one.
#[cfg(test)]
#[path = "../../tests/checker/mod.rs"]
mod checker;
#[cfg(test)]
mod tests;
