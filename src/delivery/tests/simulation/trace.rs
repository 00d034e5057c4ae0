//! What happened, in order: a hash of all of it, which two runs of a seed must share, and, for people, lines.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// The trace of one run.
#[derive(Default)]
pub(super) struct Trace {
    hash: Cell<u64>,
    steps: Cell<u64>,
    lines: Option<RefCell<Vec<String>>>,
    /// Lines for steps, too.
    with_steps: bool,
}

impl Trace {
    /// With lines only where somebody will read them: they cost.
    pub(super) fn new(with_lines: bool) -> Self {
        Self {
            hash: Cell::new(0xcbf2_9ce4_8422_2325),
            steps: Cell::new(0),
            lines: with_lines.then(RefCell::default),
            with_steps: std::env::var_os("STEPS").is_some(),
        }
    }

    fn stir(&self, at: Duration, what: &'static str, number: u64) {
        let mut hash = self.hash.get();
        for word in [u64::try_from(at.as_micros()).unwrap_or(0), number, what.len() as u64, u64::from(what.as_bytes()[0])] {
            hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
        self.hash.set(hash);
    }

    /// Somebody takes a step.
    pub(super) fn step(&self, at: Duration, number: u64, text: impl FnOnce() -> String) {
        self.stir(at, "step", number);
        if let Some(lines) = self.lines.as_ref().filter(|_| self.with_steps) {
            lines.borrow_mut().push(format!("{:>9.3} step {}", at.as_secs_f64(), text()));
        }
        self.steps.set(self.steps.get() + 1);
    }

    /// Notes one thing.
    pub(super) fn note(&self, at: Duration, what: &'static str, number: u64, text: impl FnOnce() -> String) {
        self.stir(at, what, number);
        if let Some(lines) = &self.lines {
            lines.borrow_mut().push(format!("{:>9.3} {what} {}", at.as_secs_f64(), text()));
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The last lines, and all that name `wanted`.
    pub(super) fn tail(&self, last: usize, wanted: &[String]) -> Vec<String> {
        let Some(lines) = &self.lines else { return Vec::new() };
        let lines = lines.borrow();
        let from = lines.len().saturating_sub(last);
        let named = |line: &String| wanted.iter().any(|w| !w.is_empty() && line.contains(w.as_str()));
        lines.iter().enumerate().filter(|(n, line)| *n >= from || named(line)).map(|(_, line)| line.clone()).collect()
    }
}
