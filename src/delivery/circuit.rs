//! A circuit: whether an endpoint is worth an attempt. A state machine without IO; its lane owns it.
//!
//! ```text
//!           failures of enough different records in a row
//!  closed ────────────────────────────────────────────────► open ◄──────────────┐
//!    ▲                                                        │ it reopens, or   │ the probe fails:
//!    │                                                        │ a record is due  │ a longer pause if it
//!    │                                                        ▼ by its schedule  │ was time to reopen
//!    └───────────────── the probe, or any other, succeeds ── probing ────────────┘
//! ```
//!
//! *Different* records, so that one that its receiver cannot digest never closes the way for the others. Attempts that are outstanding
//! without an answer count as failures: an endpoint that went silent is known long before its time-outs. One probe at a time; a record
//! that was tried before is due by its own schedule, and is taken as the probe even before the circuit reopens: so what was begun keeps
//! its schedule, and what was never tried waits for the reopening.
//!
//! Deliberately not here: what becomes of records that may not go (see `lanes`), and pauses that a receiver asked for (see `lane`).

use super::mutant::{self, Mutant};
use crate::domain::circuit::CircuitState;
use std::time::Duration;

/// The circuits' settings (design §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitSettings {
    /// Consecutive failures of different records that open it, ≥ 1.
    pub failures: usize,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause, not below the first.
    pub max_pause: Duration,
}

/// Whether an attempt may go.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may go.
    Free,
    /// It may go, as the probe: [`Circuit::probe`] must follow.
    Probe,
    /// Not yet. Ask again at this time (monotonic): when the circuit reopens or, for a record that may be a probe at any time, when the
    /// running probe ends.
    Closed(Duration),
}

#[derive(Debug)]
enum State {
    /// The different records that failed since the last success.
    Closed { failed: Vec<u64> },
    /// It reopens at `reopens`; `probe` is out meanwhile.
    Open { reopens: Duration, pause: Duration, probe: Option<Probe> },
}

/// An attempt that finds out whether the endpoint is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its record.
    pub record: u64,
    /// If it fails, it has probably failed by this time (monotonic), judged by how the endpoint failed before.
    pub likely_end: Duration,
    /// Its time-out (monotonic): it has ended by then.
    pub latest_end: Duration,
}

impl Probe {
    /// When it will have failed, if it fails.
    fn end(&self, now: Duration) -> Duration {
        if now < self.likely_end { self.likely_end } else { self.latest_end.max(now) }
    }
}

/// One endpoint's circuit. Records are told apart by a hash of their event id.
#[derive(Debug)]
pub struct Circuit(State);

impl Circuit {
    /// A closed one.
    #[must_use]
    pub const fn new() -> Self {
        Self(State::Closed { failed: Vec::new() })
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> CircuitState {
        match &self.0 {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { probe: None, .. } => CircuitState::Open,
            State::Open { probe: Some(_), .. } => CircuitState::Probing,
        }
    }

    /// Whether nothing speaks against the endpoint.
    #[must_use]
    pub fn is_spotless(&self) -> bool {
        matches!(&self.0, State::Closed { failed } if failed.is_empty())
    }

    /// Whether an attempt may go now; `by_schedule`: of a record that was tried before. While a probe runs, the answer assumes that it will
    /// fail.
    pub fn admits(&self, by_schedule: bool, settings: &CircuitSettings, now: Duration) -> Admission {
        match &self.0 {
            State::Closed { .. } => Admission::Free,
            State::Open { reopens, probe: None, .. } if by_schedule || *reopens <= now => Admission::Probe,
            State::Open { reopens, probe: None, .. } => Admission::Closed(*reopens),
            State::Open { reopens, pause, probe: Some(out) } => {
                let end = out.end(now);
                let reopens = if *reopens > end { *reopens } else { end + next_pause(*pause, settings) };
                Admission::Closed(if by_schedule { end } else { reopens })
            }
        }
    }

    /// `out` goes as the probe.
    pub const fn probe(&mut self, out: Probe) {
        if let State::Open { probe, .. } = &mut self.0 {
            *probe = Some(out);
        }
    }

    /// An attempt succeeded: the circuit is closed, whatever it was.
    pub fn succeeded(&mut self) {
        match &mut self.0 {
            State::Closed { failed } => failed.clear(),
            State::Open { .. } => *self = Self::new(),
        }
    }

    /// An attempt of `record` failed while `outstanding` others wait in vain. True when this has opened the circuit.
    pub fn failed(&mut self, record: u64, outstanding: usize, settings: &CircuitSettings, now: Duration) -> bool {
        match &mut self.0 {
            State::Closed { failed } => {
                let known = failed.contains(&record) && !mutant::active(Mutant::CircuitOpenedByOneRecord);
                if !known && failed.len() < settings.failures {
                    failed.push(record);
                }
                self.open_if(outstanding, settings, now)
            }
            State::Open { reopens, pause, probe } => {
                if probe.is_some_and(|out| out.record == record) {
                    *probe = None;
                    if *reopens <= now {
                        *pause = next_pause(*pause, settings);
                        *reopens = now + *pause;
                    }
                }
                false
            }
        }
    }

    /// Opens it when the failed records and the `outstanding` attempts that wait in vain are enough together. True when it has opened.
    pub fn open_if(&mut self, outstanding: usize, settings: &CircuitSettings, now: Duration) -> bool {
        match &self.0 {
            State::Closed { failed } if failed.len() + outstanding >= settings.failures => {
                self.0 = State::Open { reopens: now + settings.pause, pause: settings.pause, probe: None };
                true
            }
            State::Closed { .. } | State::Open { .. } => false,
        }
    }

    /// A probe is due but no slot is free: the circuit stays open for one more pause of the same length, limited to `at_most`. Returns the
    /// whole pause, or zero when it is closed or a probe runs.
    pub fn postpone(&mut self, at_most: Duration, now: Duration) -> Duration {
        match &mut self.0 {
            State::Open { reopens, pause, probe: None } => {
                if *reopens <= now {
                    *reopens = now + (*pause).min(at_most);
                }
                *pause
            }
            State::Open { .. } | State::Closed { .. } => Duration::ZERO,
        }
    }

    /// The attempt of `record` said nothing about the endpoint: if it was the probe, another may go.
    pub fn unprobed(&mut self, record: u64) {
        if let State::Open { probe, .. } = &mut self.0
            && probe.is_some_and(|out| out.record == record)
        {
            *probe = None;
        }
    }

    /// What failed was not the endpoint's fault: an open circuit reopens now, and its next pause is the first one again.
    pub fn forgive(&mut self, settings: &CircuitSettings, now: Duration) {
        match &mut self.0 {
            State::Closed { failed } => failed.clear(),
            State::Open { reopens, pause, .. } => (*reopens, *pause) = (now.min(*reopens), settings.pause),
        }
    }

    /// When it reopens, if it is open.
    #[must_use]
    pub const fn reopens(&self) -> Option<Duration> {
        match &self.0 {
            State::Closed { .. } => None,
            State::Open { reopens, .. } => Some(*reopens),
        }
    }
}

fn next_pause(pause: Duration, settings: &CircuitSettings) -> Duration {
    pause.saturating_mul(2).min(settings.max_pause)
}

impl Default for Circuit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: CircuitSettings = CircuitSettings { failures: 5, pause: Duration::from_secs(5), max_pause: Duration::from_secs(600) };

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Of `record`: fails in second 108 or 125.
    fn probe(record: u64) -> Probe {
        Probe { record, likely_end: at(108), latest_end: at(125) }
    }

    /// Opened at second 100.
    fn open() -> Circuit {
        let mut circuit = Circuit::new();
        let opened: Vec<bool> = (0..5).map(|record| circuit.failed(record, 0, &SETTINGS, at(100))).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        circuit
    }

    #[test]
    fn one_record_that_fails_for_ever_never_opens_it() {
        let mut circuit = Circuit::new();
        assert!((0..1000).all(|n| !circuit.failed(7, 0, &SETTINGS, at(n))));
        assert_eq!((circuit.state(), circuit.admits(false, &SETTINGS, at(1000))), (CircuitState::Closed, Admission::Free));
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let mut circuit = Circuit::new();
        for round in 0..10 {
            assert!((0..4).all(|n| !circuit.failed(round * 10 + n, 0, &SETTINGS, at(1))));
            circuit.succeeded();
            assert!(circuit.is_spotless());
        }
    }

    #[test]
    fn attempts_outstanding_without_an_answer_count() {
        let mut circuit = Circuit::new();
        assert!(!circuit.failed(1, 3, &SETTINGS, at(1)));
        assert!(!circuit.open_if(3, &SETTINGS, at(2)));
        assert!(circuit.open_if(4, &SETTINGS, at(3)));
        assert_eq!(circuit.reopens(), Some(at(8)));
    }

    #[test]
    fn while_open_nothing_new_goes_until_it_reopens_and_then_one_at_a_time() {
        let mut circuit = open();
        assert_eq!(circuit.admits(false, &SETTINGS, at(104)), Admission::Closed(at(105)));
        assert_eq!(circuit.admits(false, &SETTINGS, at(105)), Admission::Probe);
        circuit.probe(probe(9));
        assert_eq!(circuit.state(), CircuitState::Probing);
        let closed_at = |by_schedule, secs| circuit.admits(by_schedule, &SETTINGS, at(secs));
        for (by_schedule, pause) in [(false, 10_u64), (true, 0)] {
            let after = |secs: u64| Admission::Closed(at(secs + pause));
            assert_eq!(closed_at(by_schedule, 106), after(108), "the next one, if this one fails as soon as is likely");
            assert_eq!(closed_at(by_schedule, 108), after(125), "it did not: if it fails when its time is up");
            assert_eq!(closed_at(by_schedule, 126), after(126), "its time is up");
        }
    }

    #[test]
    fn each_probe_that_fails_doubles_the_pause_up_to_the_cap_and_a_success_closes_it() {
        let mut circuit = open();
        let mut now = at(105);
        let mut pauses = Vec::new();
        for record in 0..9 {
            assert_eq!(circuit.admits(false, &SETTINGS, now), Admission::Probe);
            circuit.probe(probe(record));
            assert!(!circuit.failed(record, 0, &SETTINGS, now));
            let reopens = circuit.reopens().unwrap();
            pauses.push((reopens - now).as_secs());
            now = reopens;
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        circuit.probe(probe(77));
        circuit.succeeded();
        assert_eq!(circuit.admits(false, &SETTINGS, now), Admission::Free);
        assert!((0..4).all(|n| !circuit.failed(n, 0, &SETTINGS, now)) && circuit.failed(4, 0, &SETTINGS, now));
        assert_eq!(circuit.reopens(), Some(now + at(5)), "the first pause again");
    }

    #[test]
    fn a_record_due_by_its_own_schedule_is_a_probe_before_its_time_and_its_failure_lengthens_nothing() {
        let mut circuit = open();
        assert_eq!(circuit.admits(true, &SETTINGS, at(101)), Admission::Probe);
        circuit.probe(Probe { likely_end: at(104), ..probe(3) });
        assert_eq!(circuit.admits(false, &SETTINGS, at(102)), Admission::Closed(at(105)));
        circuit.probe(probe(3));
        assert_eq!(circuit.admits(false, &SETTINGS, at(102)), Admission::Closed(at(118)), "should it fail after the reopening");
        assert!(!circuit.failed(3, 0, &SETTINGS, at(102)));
        assert_eq!((circuit.state(), circuit.reopens()), (CircuitState::Open, Some(at(105))));
    }

    #[test]
    fn without_a_slot_for_its_probe_it_reopens_after_the_same_pause_but_soon() {
        let mut circuit = open();
        assert_eq!(circuit.postpone(at(3), at(104)), at(5));
        assert_eq!(circuit.reopens(), Some(at(105)), "it was not time yet");
        assert_eq!((circuit.postpone(at(60), at(105)), circuit.reopens()), (at(5), Some(at(110))));
        assert_eq!((circuit.postpone(at(3), at(110)), circuit.reopens()), (at(5), Some(at(113))));
    }

    #[test]
    fn late_failures_of_attempts_that_were_no_probe_change_nothing() {
        let mut circuit = open();
        circuit.probe(probe(9));
        assert!(!circuit.failed(4, 0, &SETTINGS, at(120)));
        assert_eq!((circuit.state(), circuit.reopens()), (CircuitState::Probing, Some(at(105))));
        circuit.unprobed(9);
        assert_eq!(circuit.admits(false, &SETTINGS, at(120)), Admission::Probe, "a probe that was not made leaves its place");
    }

    #[test]
    fn what_was_not_its_fault_is_forgiven() {
        let mut circuit = open();
        circuit.probe(probe(1));
        assert!(!circuit.failed(1, 0, &SETTINGS, at(105)));
        circuit.forgive(&SETTINGS, at(106));
        assert_eq!((circuit.reopens(), circuit.admits(false, &SETTINGS, at(106))), (Some(at(106)), Admission::Probe));
    }
}
