//! A lane: one endpoint's running attempts, what waits for them, its circuit, and what its answers so far say. A state machine without IO.
//!
//! ```text
//!   offer ─► free place in the window? ── yes ─► running ─► reply ─► next waiting
//!               │ no                                          │
//!               ▼                                             └─► window, latency, circuit
//!            waiting room ── full, silent, paused or circuit open ─► parked, with a slot of its own to come back in
//! ```
//!
//! - The **window** of attempts at once starts at [`FIRST_WINDOW`] and grows by one on each answer that arrived while it was full. It
//!   halves on time-outs, 429 and 503, once for what was on its way together, and after each second in which less than half of it was used:
//!   an endpoint that hangs takes no more slots with it than it lately needed.
//! - An endpoint is **silent** when its last attempt ended without an answer and no other was answered lately, or when attempts have been
//!   outstanding for longer than it usually takes to answer (`hearing`). Nothing waits for one that was tried in vain.
//! - **Slots**: what is parked comes back at the lane's capacity (its limit over its latency), one after the other, so that a backlog of N
//!   costs about N moves.

mod hearing;
mod queue;
#[cfg(test)]
mod tests;
mod window;

pub use window::FIRST_WINDOW;

use super::circuit::{Admission, Circuit, CircuitSettings, Probe};
use super::slots::{Standing, Unanswered};
use super::waiting::{Item, Waiting};
use crate::domain::class::Class;
use hearing::{ANSWER_COUNTS, Hearing};
use queue::Queue;
use std::time::Duration;
use window::Window;

/// The waiting room, in units of the window (design §9).
pub const WAITING_ROOM: usize = 4;

/// How long attempts may be outstanding before their endpoint counts as silent for the attempt slots: where many endpoints that answered
/// fall silent together, all slots are gone long before `hearing` calls them silent.
const SLOT_PATIENCE: Duration = Duration::from_millis(250);

/// The longest that a record stays away from an endpoint that was tried in vain, while its circuit is closed.
const LONGEST_VAIN_PAUSE: Duration = Duration::from_secs(60);

/// The latency that is assumed before the first answer.
const ASSUMED_LATENCY: Duration = Duration::from_millis(100);

/// Attempts that a rate may save up while idle, as time: a burst of what the rate allows in 100 ms.
const RATE_BURST: Duration = Duration::from_millis(100);

/// After this long without an attempt an idle lane is forgotten, and with it what its answers said.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What a lane must keep to, from the settings and the template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Attempts at once, ≥ 1.
    pub limit: usize,
    /// Attempts a second, > 0: the lowest of the templates that share the endpoint.
    pub rate: Option<f64>,
}

/// What the end of an attempt says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It took the callback.
    Accepted,
    /// It answered, and refused this callback for good.
    Rejected,
    /// It answered something else.
    Failed,
    /// It answered that it has too much to do: 429, 503.
    Overloaded,
    /// No answer in time.
    TimedOut,
    /// No answer, and no time-out: the connection failed or broke.
    Broken,
    /// Nothing: the attempt was not made, or failed by a fault of ours.
    Nothing,
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its class.
    pub class: Class,
    /// Its record, as [`super::circuit`] tells them apart.
    pub record: u64,
    /// What it said.
    pub reply: Reply,
    /// When it started (monotonic).
    pub started: Duration,
}

/// One endpoint's lane. `T` is what waits.
#[derive(Debug)]
pub struct Lane<T> {
    terms: Terms,
    window: Window,
    running: [usize; 3],
    /// What waits. [`Lane::wait`] adds to it.
    pub(super) waiting: Waiting<T>,
    hearing: Hearing,
    last_start: Duration,
    paused_until: Option<Duration>,
    rate_next: Duration,
    /// Since when no attempt has started though records due by their own schedule came.
    turned_away: Option<Duration>,
    parked: Queue,
    /// When the latest outstanding attempt will have timed out.
    silence_ends: Duration,
    circuit: Circuit,
    /// Attempts that `slots` counts as unanswered.
    counted: Unanswered,
}

impl<T: Item> Lane<T> {
    /// An idle lane.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            window: Window::new(terms.limit),
            running: [0; 3],
            waiting: Waiting::new(),
            hearing: Hearing::default(),
            last_start: Duration::ZERO,
            paused_until: None,
            rate_next: Duration::ZERO,
            turned_away: None,
            parked: Queue::default(),
            silence_ends: Duration::ZERO,
            circuit: Circuit::new(),
            counted: Unanswered::default(),
        }
    }

    /// Takes over the terms of now.
    pub fn agree(&mut self, terms: Terms) {
        self.terms = terms;
        self.window.agree(terms.limit);
    }

    /// Its circuit.
    #[must_use]
    pub const fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Until when the endpoint asked to be left alone, if that is still ahead.
    #[must_use]
    pub fn paused(&self, now: Duration) -> Option<Duration> {
        self.paused_until.filter(|until| *until > now)
    }

    /// The endpoint asked to be left alone until `until`.
    pub fn pause(&mut self, until: Duration) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Whether it was tried in vain. One attempt in vain among others that are answered does not make it so.
    #[must_use]
    pub fn is_in_vain(&self, now: Duration) -> bool {
        self.hearing.is_in_vain(now)
    }

    /// Whether the endpoint is silent.
    #[must_use]
    pub fn is_silent(&self, now: Duration) -> bool {
        self.is_in_vain(now) || self.hearing.is_overdue(now)
    }

    /// What its answers so far say.
    #[must_use]
    pub fn standing(&self, now: Duration) -> Standing {
        if self.is_in_vain(now) {
            return Standing::InVain;
        }
        if self.hearing.is_unanswered_for(self.hearing.at_least(SLOT_PATIENCE), now) {
            return Standing::Silent;
        }
        if self.hearing.has_answered_lately(now) {
            Standing::Answering
        } else if self.running() == 0 {
            Standing::Untried
        } else {
            Standing::Silent
        }
    }

    /// What [`super::slots::Slots`] is to count as unanswered of this lane: before, and now.
    pub fn recount(&mut self, now: Duration) -> (Unanswered, Unanswered) {
        let unanswered = match self.standing(now) {
            Standing::Answering => Unanswered::default(),
            Standing::Untried | Standing::Silent => Unanswered { attempts: self.running, in_vain: false },
            Standing::InVain => Unanswered { attempts: self.running, in_vain: true },
        };
        (std::mem::replace(&mut self.counted, unanswered), unanswered)
    }

    /// Whether one more attempt may start now as far as the window, the pause and the rate go.
    #[must_use]
    pub fn has_place(&self, now: Duration) -> bool {
        self.running() < self.window.size && self.paused(now).is_none() && (self.terms.rate.is_none() || self.rate_next <= now + RATE_BURST)
    }

    /// Whether its circuit lets an attempt go.
    pub fn admits(&self, by_schedule: bool, settings: &CircuitSettings, now: Duration) -> Admission {
        self.circuit.admits(by_schedule, settings, now)
    }

    /// `record` starts as the probe of its circuit, with this time-out; [`Self::started`] must follow. We assume that a probe fails as
    /// slowly as the last attempt did, or, while the endpoint is silent, by its time-out.
    pub fn probe(&mut self, record: u64, timeout: Duration, now: Duration) {
        let last = self.hearing.took_in_vain.unwrap_or_default();
        let likely = if self.hearing.is_overdue(now) { timeout } else { self.hearing.patience().max(last).min(timeout) };
        self.circuit.probe(Probe { record, likely_end: now + likely, latest_end: now + timeout });
    }

    /// A probe finds no slot: returns when it may come back (monotonic), which is when the circuit reopens now, within
    /// [`LONGEST_VAIN_PAUSE`]. All other records wait the whole pause, so this one becomes the probe.
    pub fn postpone(&mut self, now: Duration) -> Duration {
        let pause = self.circuit.postpone(LONGEST_VAIN_PAUSE, now);
        self.parked.not_before(now + pause);
        self.circuit.reopens().unwrap_or(now)
    }

    /// An attempt starts, with this time-out.
    pub fn started(&mut self, class: Class, timeout: Duration, now: Duration) {
        self.running[class.index()] += 1;
        self.window.uses(self.running());
        self.last_start = now;
        self.turned_away = None;
        self.silence_ends = self.silence_ends.max(now + timeout);
        self.hearing.started(now);
        if let Some(rate) = self.terms.rate {
            self.rate_next = self.rate_next.max(now) + Duration::from_secs_f64(1.0 / rate.max(1e-6));
        }
    }

    /// An attempt ended. True when this has opened the circuit.
    pub fn ended(&mut self, ended: &Ended, settings: &CircuitSettings, now: Duration) -> bool {
        let held_up = self.running() >= self.window.size;
        self.running[ended.class.index()] = self.running[ended.class.index()].saturating_sub(1);
        let (took, is_last) = (now.saturating_sub(ended.started), self.running() == 0);
        match ended.reply {
            Reply::Accepted | Reply::Rejected => self.hearing.answered(took, true, is_last, now),
            Reply::Failed | Reply::Overloaded => self.hearing.answered(took, false, is_last, now),
            Reply::TimedOut | Reply::Broken => self.hearing.unanswered(took, ended.reply == Reply::Broken, is_last, now),
            Reply::Nothing => self.hearing.ended(is_last),
        }
        match ended.reply {
            Reply::Overloaded | Reply::TimedOut => self.window.halve(ended.started, now),
            Reply::Accepted | Reply::Rejected | Reply::Failed if held_up => self.window.grow(self.terms.limit),
            Reply::Accepted | Reply::Rejected | Reply::Failed | Reply::Broken | Reply::Nothing => {}
        }
        match ended.reply {
            // Who refuses for good has looked at it: the endpoint is well.
            Reply::Accepted | Reply::Rejected => {
                if self.circuit.reopens().is_some() {
                    // The queue for its reopening is over.
                    self.parked.end();
                }
                self.circuit.succeeded();
                false
            }
            Reply::Nothing => {
                self.circuit.unprobed(ended.record);
                false
            }
            Reply::Failed | Reply::Overloaded | Reply::TimedOut | Reply::Broken => {
                let outstanding = self.outstanding(now);
                self.circuit.failed(ended.record, outstanding, settings, now)
            }
        }
    }

    /// Attempts that wait for an answer in vain.
    fn outstanding(&self, now: Duration) -> usize {
        if self.hearing.is_overdue(now) { self.running() } else { 0 }
    }

    /// Opens the circuit if silence alone is enough for that. True when it has opened.
    pub fn open_if_silent(&mut self, settings: &CircuitSettings, now: Duration) -> bool {
        let outstanding = self.outstanding(now);
        outstanding > 0 && self.circuit.open_if(outstanding, settings, now)
    }

    /// Its failures were not its fault: they are forgotten.
    pub fn forgive(&mut self, settings: &CircuitSettings, now: Duration) {
        self.circuit.forgive(settings, now);
        self.hearing.forgive();
        self.window.begin_again(self.terms.limit);
    }

    /// A slot for a record that is parked: not before `earliest`, and after all slots that were given before.
    pub fn slot(&mut self, earliest: Duration) -> Duration {
        self.parked.slot(self.pace(self.terms.limit), earliest)
    }

    /// A slot for a record that the lane has no room for.
    pub fn slot_when_full(&mut self, by_schedule: bool, settings: &CircuitSettings, now: Duration) -> Duration {
        if !self.is_in_vain(now) {
            return self.slot_while_answering(now);
        }
        let starved = by_schedule && self.running() == 0;
        let earliest = if starved { self.turned_away(settings, now) } else { self.room_again(by_schedule, settings, now) };
        self.slot(earliest)
    }

    /// The next slot at the endpoint's pace. Where it lately had too much to do, at the pace of twice its present window, to which that may
    /// grow; else at that of the lane's limit.
    fn slot_while_answering(&mut self, now: Duration) -> Duration {
        let overloaded = self.hearing.service.is_some() && self.window.was_halved_within(ANSWER_COUNTS, now);
        let at_once = if overloaded { self.window.size.saturating_mul(2).min(self.terms.limit) } else { self.terms.limit };
        self.parked.slot(self.pace(at_once), now)
    }

    /// When a record parked because the lane is full may come back at the earliest. For an endpoint tried in vain: not before the
    /// outstanding attempts have ended; and a record that was never tried comes after a pause that doubles with each attempt in vain, up to
    /// [`LONGEST_VAIN_PAUSE`].
    fn room_again(&self, by_schedule: bool, settings: &CircuitSettings, now: Duration) -> Duration {
        if !self.is_in_vain(now) {
            return now;
        }
        let (vain_end, in_vain) = self.hearing.vain();
        let doublings = in_vain.saturating_sub(1).min(16);
        let pause = settings.pause.saturating_mul(1 << doublings).min(settings.max_pause).min(LONGEST_VAIN_PAUSE);
        let pause = if by_schedule { Duration::ZERO } else { pause };
        let outstanding = if self.running() > 0 { self.silence_ends } else { Duration::ZERO };
        now.max(vain_end + pause).max(outstanding)
    }

    /// A record that is due by its own schedule finds no slot: when it may come back at the earliest. It waits as long again as the lane
    /// has waited for a slot, so that it is not moved again and again; at least the circuit's pause, up to [`LONGEST_VAIN_PAUSE`].
    pub fn turned_away(&mut self, settings: &CircuitSettings, now: Duration) -> Duration {
        let waited = now.saturating_sub(*self.turned_away.get_or_insert(now));
        now + waited.max(settings.pause).min(LONGEST_VAIN_PAUSE).min(settings.max_pause)
    }

    /// The time from one start to the next: the time to serve one, divided by `at_once`, or what its rate allows, the longer of both.
    fn pace(&self, at_once: usize) -> Duration {
        let by_latency = self.hearing.service.unwrap_or(ASSUMED_LATENCY) / u32::try_from(at_once.max(1)).unwrap_or(u32::MAX);
        let by_rate = self.terms.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate.max(1e-6)));
        by_latency.max(by_rate)
    }

    /// Whether its answer rate can be trusted: it has been answering for some seconds.
    #[must_use]
    pub fn knows_its_pace(&self, now: Duration) -> bool {
        self.hearing.knows_its_pace(now)
    }

    /// Recent answers: a count that halves each second, so about twice what it answers in one second.
    #[must_use]
    pub const fn served(&self) -> f64 {
        self.hearing.served()
    }

    /// A second has passed.
    pub fn age(&mut self) {
        self.hearing.age();
        self.window.age(self.running());
    }

    /// Attempts running.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running[0] + self.running[1] + self.running[2]
    }

    /// The waiting room of a class.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.window.size.saturating_mul(WAITING_ROOM)
    }

    /// Whether its records have waited too long for any answer.
    #[must_use]
    pub fn is_stuck(&self, now: Duration) -> bool {
        self.hearing.is_stuck(now)
    }

    /// Puts `item` at the end of the line.
    pub fn wait(&mut self, class: Class, item: T, now: Duration) {
        self.hearing.want(now);
        self.waiting.push(class, item);
    }

    /// Whether it can be forgotten: nothing runs or waits, and nothing that it knows is worth keeping.
    #[must_use]
    pub fn is_idle(&self, now: Duration) -> bool {
        let ahead = |at: Duration| at > now;
        self.running() == 0
            && self.waiting.is_empty()
            && self.paused(now).is_none()
            && !ahead(self.rate_next)
            && !ahead(self.parked.last())
            && !self.circuit.reopens().is_some_and(ahead)
            && now.saturating_sub(self.last_start.max(self.circuit.reopens().unwrap_or_default())) >= FORGOTTEN
    }
}
