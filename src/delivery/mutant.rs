//! Deliberate faults, to test the checker: each makes the engine wrong in one way, and the simulation must notice.
//!
//! Outside of unit tests [`active`] is constantly false, and nothing of this is left in the program.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A record is finished when it is handed to the engine.
    CommitEarly,
    /// A requeue or dead letter is settled when it is sent.
    ForgetOutboxAcknowledgement,
    /// What comes back unsettled from a revoke counts as finished.
    DropOnRevoke,
    /// A failure after the fence is requeued.
    RequeueLateFailureAfterRevoke,
    /// A record from a tier was never attempted.
    ResetAttemptCount,
    /// A head is released when its header says so.
    ReleaseByHeader,
    /// The next record must have the next offset.
    ContiguityIsOffsetPlusOne,
    /// Every record looks like the one in the map.
    MapAppliedToRecreatedTopic,
    /// A circuit counts failures, whichever records they are of.
    CircuitOpenedByOneRecord,
    /// What finds no room in its lane is settled as skipped.
    SkipOnFullLane,
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether the code is to be wrong in this way.
#[cfg(test)]
pub(crate) fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether the code is to be wrong in this way: never.
#[cfg(not(test))]
#[inline]
pub(crate) const fn active(_: Mutant) -> bool {
    false
}

/// Runs `work` with the code wrong in this way, on this thread.
#[cfg(test)]
pub(crate) fn with<R>(mutant: Mutant, work: impl FnOnce() -> R) -> R {
    ACTIVE.set(Some(mutant));
    let result = work();
    ACTIVE.set(None);
    result
}
