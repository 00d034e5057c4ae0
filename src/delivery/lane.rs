//! A lane: one endpoint's running attempts and its waiting room. A state machine without IO.
//!
//! ```text
//!   offer ─► free place? ── yes ─► running ─► finished ─► next waiting
//!               │ no
//!               ▼
//!            waiting room (4 × the limit; more while the endpoint answers: see `lanes`) ── full or paused ─► parked
//! ```
//!
//! An endpoint *answers* as long as no attempt has waited for longer than [`ANSWER_GRACE`] since its last answer. Circuits and slow
//! start are not here yet.

use crate::domain::class::Class;
use std::collections::VecDeque;
use std::time::Duration;

/// For so long a new endpoint, or one that answered just now, counts as answering though attempts are outstanding. One second:
/// several times a healthy answer, and the most that a sick endpoint may fill the memory of its class with more than its waiting room.
pub const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// The waiting room, in units of the lane's limit (design §9).
pub const WAITING_ROOM: usize = 4;

/// After so many fresh starts in a row a returning record that waits goes first: at least one in four.
const FRESH_STREAK: u32 = 3;

/// Attempts that a rate may save up while idle, as time: a burst of what the rate allows in 100 ms.
const RATE_BURST: Duration = Duration::from_millis(100);

/// What a lane must keep to, from the settings and the template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Attempts at once, ≥ 1.
    pub limit: usize,
    /// Attempts a second, > 0: the lowest of the templates that share the endpoint.
    pub rate: Option<f64>,
}

/// One endpoint's lane. `T` is what waits.
#[derive(Debug)]
pub struct Lane<T> {
    terms: Terms,
    running: usize,
    waiting: [VecDeque<T>; 3],
    fresh_streak: u32,
    unanswered_since: Option<Duration>,
    paused_until: Option<Duration>,
    rate_next: Duration,
}

impl<T> Lane<T> {
    /// An idle lane.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            running: 0,
            waiting: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
            fresh_streak: 0,
            unanswered_since: None,
            paused_until: None,
            rate_next: Duration::ZERO,
        }
    }

    /// Takes over the terms of now.
    pub const fn agree(&mut self, terms: Terms) {
        self.terms = terms;
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

    /// Whether the endpoint answers.
    #[must_use]
    pub fn answers(&self, now: Duration) -> bool {
        self.unanswered_since.is_none_or(|since| now.saturating_sub(since) < ANSWER_GRACE)
    }

    /// Whether one more attempt may start now.
    #[must_use]
    pub fn has_place(&self, now: Duration) -> bool {
        self.running < self.terms.limit && self.paused(now).is_none() && (self.terms.rate.is_none() || self.rate_next <= now + RATE_BURST)
    }

    /// An attempt starts.
    pub fn started(&mut self, now: Duration) {
        self.running += 1;
        self.unanswered_since.get_or_insert(now);
        if let Some(rate) = self.terms.rate {
            self.rate_next = self.rate_next.max(now) + Duration::from_secs_f64(1.0 / rate.max(1e-6));
        }
    }

    /// An attempt ended; `answered`: the endpoint said something.
    pub fn finished(&mut self, answered: bool, now: Duration) {
        self.running = self.running.saturating_sub(1);
        if answered {
            self.unanswered_since = (self.running > 0).then_some(now);
        }
    }

    /// An attempt that was started was not made after all: it says nothing about the endpoint.
    pub const fn withdrawn(&mut self) {
        self.running = self.running.saturating_sub(1);
        if self.running == 0 {
            self.unanswered_since = None;
        }
    }

    /// Attempts running.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// The waiting room of `class`.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.terms.limit.saturating_mul(WAITING_ROOM)
    }

    /// What waits of `class`.
    #[must_use]
    pub fn waiting(&self, class: Class) -> usize {
        self.waiting[class.index()].len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn nothing_waits(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Puts `item` at the end of the line.
    pub fn wait(&mut self, class: Class, item: T) {
        self.waiting[class.index()].push_back(item);
    }

    /// Takes the next of `class`, or a returning record when those have let enough fresh ones pass and `may_return` allows its class.
    pub fn next(&mut self, class: Class, may_return: impl Fn(Class) -> bool) -> Option<(Class, T)> {
        let mut class = class;
        if class == Class::Fresh && self.fresh_streak >= FRESH_STREAK {
            let returning = [Class::Retry, Class::Replay].into_iter().find(|c| self.waiting(*c) > 0 && may_return(*c));
            class = returning.unwrap_or(class);
        }
        let item = self.waiting[class.index()].pop_front()?;
        self.fresh_streak = if class == Class::Fresh { self.fresh_streak + 1 } else { 0 };
        Some((class, item))
    }

    /// Takes the youngest of `class` beyond the first `keep`.
    pub fn trim(&mut self, class: Class, keep: usize) -> VecDeque<T> {
        let line = &mut self.waiting[class.index()];
        if line.len() > keep { line.split_off(keep) } else { VecDeque::new() }
    }

    /// Takes out all that `gone` names, keeping the order of the rest.
    pub fn take_out(&mut self, class: Class, gone: &impl Fn(&T) -> bool) -> Vec<T> {
        let line = &mut self.waiting[class.index()];
        if !line.iter().any(gone) {
            return Vec::new();
        }
        let (out, kept): (Vec<T>, Vec<T>) = line.drain(..).partition(gone);
        line.extend(kept);
        out
    }

    /// Whether the lane can be forgotten: nothing runs or waits, and nothing is remembered that would matter.
    #[must_use]
    pub fn is_idle(&self, now: Duration) -> bool {
        self.running == 0 && self.nothing_waits() && self.paused(now).is_none() && self.unanswered_since.is_none() && self.rate_next <= now
    }

    /// Every waiting item.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn lane(limit: usize, rate: Option<f64>) -> Lane<u32> {
        Lane::new(Terms { limit, rate })
    }

    #[test]
    fn a_lane_runs_no_more_than_its_limit() {
        let mut lane = lane(2, None);
        lane.started(ms(0));
        assert!(lane.has_place(ms(0)));
        lane.started(ms(0));
        assert!(!lane.has_place(ms(0)));
        lane.finished(true, ms(5));
        assert!(lane.has_place(ms(5)));
    }

    #[test]
    fn an_endpoint_answers_until_an_attempt_waits_longer_than_the_grace() {
        let mut lane = lane(4, None);
        assert!(lane.answers(ms(0)));
        lane.started(ms(0));
        assert!(lane.answers(ms(999)));
        assert!(!lane.answers(ms(1000)));
        lane.started(ms(1100));
        lane.finished(true, ms(1200));
        assert!(lane.answers(ms(2199)) && !lane.answers(ms(2200)), "one still runs since the answer");
        lane.finished(false, ms(2300));
        assert!(!lane.answers(ms(9000)), "a time-out is no answer");
    }

    #[test]
    fn of_four_starts_at_least_one_is_a_returning_record_while_any_waits() {
        let mut lane = lane(1, None);
        for n in 0..9 {
            lane.wait(Class::Fresh, n);
        }
        lane.wait(Class::Retry, 100);
        lane.wait(Class::Replay, 200);
        let order: Vec<u32> = std::iter::from_fn(|| lane.next(Class::Fresh, |_| true).map(|(_, n)| n)).collect();
        assert_eq!(order, [0, 1, 2, 100, 3, 4, 5, 200, 6, 7, 8]);
    }

    #[test]
    fn a_pause_asked_for_by_the_receiver_holds_the_lane() {
        let mut lane = lane(4, None);
        lane.pause(ms(500));
        assert!(!lane.has_place(ms(499)) && lane.has_place(ms(500)));
        assert!(!lane.is_idle(ms(499)) && lane.is_idle(ms(500)));
        lane.pause(ms(300));
        assert_eq!(lane.paused(ms(400)), Some(ms(500)), "a shorter pause does not end a longer one");
    }

    #[test]
    fn a_rate_spreads_the_attempts() {
        let mut lane = lane(1000, Some(10.0));
        let mut starts = 0;
        for now in (0..10_000).step_by(10) {
            if lane.has_place(ms(now)) {
                lane.started(ms(now));
                lane.finished(true, ms(now));
                starts += 1;
            }
        }
        assert!((99..=102).contains(&starts), "{starts} starts in ten seconds at ten a second");
    }

    #[test]
    fn trimming_takes_the_youngest_and_taking_out_keeps_the_order() {
        let mut lane = lane(1, None);
        for n in 0..6 {
            lane.wait(Class::Fresh, n);
        }
        assert_eq!(lane.trim(Class::Fresh, 4), [4, 5]);
        assert_eq!(lane.take_out(Class::Fresh, &|n| n % 2 == 0), [0, 2]);
        assert_eq!(lane.iter().copied().collect::<Vec<_>>(), [1, 3]);
    }
}
