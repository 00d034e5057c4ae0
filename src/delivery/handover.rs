//! What intake threads and the engine hand to each other.

use super::ports::Refused;
use super::settle::Settlement;
use crate::domain::class::Class;
use crate::domain::record::Record;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far an assignment of a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Ours.
    Active,
    /// Being given back: no new attempts, running ones may end.
    Revoking,
    /// No longer ours: a late failure is dropped, a late success is a possible repeat (design §10).
    Fenced,
}

/// One assignment of one partition to this process: the epoch that fences late results. Its intake thread sets the phase, the
/// engine reads it.
#[derive(Debug)]
pub struct Assignment {
    /// The class that reads it.
    pub class: Class,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    phase: AtomicU8,
}

impl Assignment {
    /// A new assignment, active.
    #[must_use]
    pub fn new(class: Class, topic: Arc<str>, partition: i32) -> Arc<Self> {
        Arc::new(Self { class, topic, partition, phase: AtomicU8::new(0) })
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Active,
            1 => Phase::Revoking,
            _ => Phase::Fenced,
        }
    }

    /// Moves on; never backwards.
    pub fn advance(&self, to: Phase) {
        let value = match to {
            Phase::Active => 0,
            Phase::Revoking => 1,
            Phase::Fenced => 2,
        };
        self.phase.fetch_max(value, Ordering::AcqRel);
    }
}

/// What must come back for every record handed over.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The assignment it was read under.
    pub assignment: Arc<Assignment>,
    /// Its offset.
    pub offset: i64,
    /// What it was charged, in bytes.
    pub cost: usize,
}

/// A record for the engine.
#[derive(Debug)]
pub struct Intake {
    /// What must come back.
    pub ticket: Ticket,
    /// The record, released if it comes from a tier.
    pub record: Record,
}

/// How a record came back.
#[derive(Debug)]
pub enum Returned {
    /// Durable: its offset is finished.
    Settled(Settlement),
    /// Nothing durable happened: revoked, drained or cut by the deadline; it stays unfinished.
    Unsettled,
    /// The broker refused its requeue or dead letter for good: its partition stops.
    Refused(Refused),
}

/// One record given back.
#[derive(Debug)]
pub struct Return {
    /// As handed over.
    pub ticket: Ticket,
    /// What became of it.
    pub returned: Returned,
}

/// Messages to the engine.
#[derive(Debug)]
pub enum ToEngine {
    /// Records, in the order read.
    Batch(Vec<Intake>),
    /// Some assignment's phase moved on: what waits under it comes back.
    PhaseMoved,
}

/// Messages to an intake thread.
#[derive(Debug)]
pub enum ToIntake {
    /// Records given back.
    Returns(Vec<Return>),
    /// Rest, or go on: an outage of our own is presumed, or over.
    Rest(bool),
    /// Take nothing more in; when all is back, or told to `Leave`, commit and leave.
    Drain,
    /// The drain deadline has passed and the engine has given everything back: commit and leave.
    Leave,
}
