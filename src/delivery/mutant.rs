//! Deliberate faults, for tests of the checker: each makes the engine wrong in one way, and the simulation must notice.
//!
//! Outside of unit tests [`active`] is constantly false, and nothing of this is left in the program.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
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
