//! A lane: one endpoint's running attempts, what waits for them, its circuit, and what its answers so far say. A state machine without IO.
//!
//! ```text
//!   offer ─► free place in the window? ── yes ─► running ─► reply ─► next waiting
//!               │ no                                          │
//!               ▼                                             └─► window, latency, circuit
//!            waiting room ── full, silent, paused or circuit open ─► parked, with a slot of its own to come back in
//! ```
//!
//! - The **window** of attempts at once starts at [`FIRST_WINDOW`], grows by one with each answer that it held up, and halves on time-outs,
//!   429 and 503, once for what was on its way together; and after each second in which not half of it was used: an endpoint that hangs takes
//!   no more slots with it than it lately needed.
//! - An endpoint is **silent** when its last attempt ended without an answer and no other was answered lately, or when attempts have been
//!   outstanding for longer than it usually takes to answer ([`Lane::patience`]). Nothing waits for one that was tried in vain.
//! - **Slots**: what is parked comes back at the lane's capacity (its limit over its latency), one after the other, so that a backlog of N
//!   costs about N moves.

use super::circuit::{Admission, Circuit, CircuitSettings, Probe};
use super::slots::{Standing, Unanswered};
use super::waiting::{Item, Waiting};
use crate::domain::class::Class;
use std::time::Duration;

/// Attempts at once of an endpoint that is not known yet.
pub const FIRST_WINDOW: usize = 2;

/// The waiting room, in units of the window (design §9).
pub const WAITING_ROOM: usize = 4;

/// For so long attempts may be outstanding before an endpoint counts as silent, however fast it used to answer: many times a healthy answer,
/// and more than a machine that is busy with other work loses.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// So many times its usual latency an endpoint may take before it counts as silent.
const PATIENCE: u32 = 4;

/// The same as far as attempt slots go, which are gone long before that where many endpoints that answered fall silent together.
const SLOT_PATIENCE: Duration = Duration::from_millis(250);

/// For so long records wait for the first answer, or the next one, while memory is scarce.
const STUCK: Duration = Duration::from_secs(2);

/// An answer says something about the endpoint for so long (design §9).
const ANSWER_COUNTS: Duration = Duration::from_secs(60);

/// While its circuit is closed, nothing stays away from an endpoint tried in vain for longer.
const LONGEST_VAIN_PAUSE: Duration = Duration::from_secs(60);

/// So long after its first answer a lane's answers say how many it answers in a second.
const PACE_KNOWN: Duration = Duration::from_secs(4);

/// The latency that is assumed before the first answer.
const ASSUMED_LATENCY: Duration = Duration::from_millis(100);

/// The weight of the latest latency in the mean is one in so many.
const LATENCY_MEMORY: u32 = 8;

/// Attempts that a rate may save up while idle, as time: a burst of what the rate allows in 100 ms.
const RATE_BURST: Duration = Duration::from_millis(100);

/// An idle lane is forgotten after so long without an attempt, and with it what its answers said.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What a lane must keep to, from the settings and the template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Attempts at once, ≥ 1.
    pub limit: usize,
    /// Attempts a second, > 0: the lowest of the templates that share the endpoint.
    pub rate: Option<f64>,
}

/// What an attempt said about its endpoint.
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
    window: usize,
    /// Replies to attempts that started before this do not halve the window again.
    halved: Duration,
    running: [usize; 3],
    /// The most attempts at once in this second.
    most: usize,
    /// What waits. [`Lane::wait`] adds to it.
    pub(super) waiting: Waiting<T>,
    /// Answers of late: halved each second.
    served: f64,
    /// Since when attempts have been outstanding without any answer.
    unanswered_since: Option<Duration>,
    last_answer: Option<Duration>,
    /// Since when it has been answering, for what its answers say about its pace.
    first_answer: Option<Duration>,
    last_start: Duration,
    /// Attempts that ended without an answer since the last answer, and when the latest did.
    in_vain: u32,
    vain_end: Duration,
    /// The only one of those was a connection that broke, of an endpoint that answered lately: that says nothing yet.
    excused: bool,
    /// How long the last attempt took, if it was one of those: as long as its policy says, or shorter where it never got a connection or lost it.
    took_in_vain: Option<Duration>,
    /// Since when records have wanted an answer of it, and there was none.
    wants: Option<Duration>,
    latency: Option<Duration>,
    /// The same of what it took or refused for good: by that its pace is told, not by how fast or slowly it fails.
    service: Option<Duration>,
    paused_until: Option<Duration>,
    rate_next: Duration,
    /// Since when records that are due by their own schedule have found no place, and none was started.
    turned_away: Option<Duration>,
    /// The latest slot that was given to a parked record.
    last_slot: Duration,
    /// The pace by which the slots ahead were given.
    slot_pace: Duration,
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
            window: FIRST_WINDOW.min(terms.limit),
            halved: Duration::ZERO,
            running: [0; 3],
            most: 0,
            waiting: Waiting::new(),
            served: 0.0,
            unanswered_since: None,
            last_answer: None,
            first_answer: None,
            last_start: Duration::ZERO,
            in_vain: 0,
            vain_end: Duration::ZERO,
            excused: false,
            took_in_vain: None,
            wants: None,
            latency: None,
            service: None,
            paused_until: None,
            rate_next: Duration::ZERO,
            turned_away: None,
            last_slot: Duration::ZERO,
            slot_pace: Duration::ZERO,
            silence_ends: Duration::ZERO,
            circuit: Circuit::new(),
            counted: Unanswered::default(),
        }
    }

    /// Takes over the terms of now.
    pub fn agree(&mut self, terms: Terms) {
        self.terms = terms;
        self.window = self.window.min(terms.limit.max(1));
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

    /// How long attempts may be outstanding before their endpoint counts as silent.
    fn patience(&self) -> Duration {
        self.at_least(FIRST_PATIENCE)
    }

    /// Some times its usual latency, and not less than this.
    fn at_least(&self, patience: Duration) -> Duration {
        self.latency.map_or(patience, |latency| patience.max(latency * PATIENCE))
    }

    /// Whether attempts have been outstanding for so long.
    fn is_unanswered_for(&self, patience: Duration, now: Duration) -> bool {
        self.unanswered_since.is_some_and(|since| now.saturating_sub(since) >= patience)
    }

    /// Whether attempts have been outstanding for too long.
    fn is_overdue(&self, now: Duration) -> bool {
        self.is_unanswered_for(self.patience(), now)
    }

    /// Whether it was tried in vain. One attempt in vain among others that are answered does not make it so.
    #[must_use]
    pub fn is_in_vain(&self, now: Duration) -> bool {
        let heard_lately = self.last_answer.is_some_and(|at| now.saturating_sub(at) < self.patience());
        self.in_vain > 0 && !self.excused && !heard_lately
    }

    /// Whether the endpoint is silent.
    #[must_use]
    pub fn is_silent(&self, now: Duration) -> bool {
        self.is_in_vain(now) || self.is_overdue(now)
    }

    /// What its answers so far say.
    #[must_use]
    pub fn standing(&self, now: Duration) -> Standing {
        if self.is_in_vain(now) {
            return Standing::InVain;
        }
        if self.is_unanswered_for(self.at_least(SLOT_PATIENCE), now) {
            return Standing::Silent;
        }
        match self.last_answer {
            Some(at) if now.saturating_sub(at) < ANSWER_COUNTS => Standing::Answering,
            Some(_) | None if self.running() == 0 => Standing::Untried,
            Some(_) | None => Standing::Silent,
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
        self.running() < self.window && self.paused(now).is_none() && (self.terms.rate.is_none() || self.rate_next <= now + RATE_BURST)
    }

    /// Whether its circuit lets an attempt go.
    pub fn admits(&self, by_schedule: bool, settings: &CircuitSettings, now: Duration) -> Admission {
        self.circuit.admits(by_schedule, settings, now)
    }

    /// `record` starts as the probe of its circuit, which will have timed out after `timeout`; [`Self::started`] must follow. If the endpoint
    /// lets it fail, then as it did last time; or it falls silent.
    pub fn probe(&mut self, record: u64, timeout: Duration, now: Duration) {
        let last = self.took_in_vain.unwrap_or_default();
        let likely = if self.is_overdue(now) { timeout } else { self.patience().max(last).min(timeout) };
        self.circuit.probe(Probe { record, likely_end: now + likely, latest_end: now + timeout });
    }

    /// A probe finds no slot: it may come back when the circuit reopens now, within [`LONGEST_VAIN_PAUSE`]. The others stay away for the whole
    /// pause, so that it is the one.
    pub fn postpone(&mut self, now: Duration) -> Duration {
        let pause = self.circuit.postpone(LONGEST_VAIN_PAUSE, now);
        self.last_slot = self.last_slot.max(now + pause);
        self.circuit.reopens().unwrap_or(now)
    }

    /// An attempt starts, which will have timed out after `timeout`.
    pub fn started(&mut self, class: Class, timeout: Duration, now: Duration) {
        self.running[class.index()] += 1;
        self.most = self.most.max(self.running());
        self.last_start = now;
        self.turned_away = None;
        self.silence_ends = self.silence_ends.max(now + timeout);
        self.unanswered_since.get_or_insert(now);
        if let Some(rate) = self.terms.rate {
            self.rate_next = self.rate_next.max(now) + Duration::from_secs_f64(1.0 / rate.max(1e-6));
        }
    }

    /// An attempt ended. True when the circuit has opened by that.
    pub fn ended(&mut self, ended: &Ended, settings: &CircuitSettings, now: Duration) -> bool {
        let held_up = self.running() >= self.window;
        self.running[ended.class.index()] = self.running[ended.class.index()].saturating_sub(1);
        let answered = match ended.reply {
            Reply::Accepted | Reply::Rejected | Reply::Failed | Reply::Overloaded => true,
            Reply::TimedOut | Reply::Broken => false,
            Reply::Nothing => {
                self.circuit.unprobed(ended.record);
                if self.running() == 0 {
                    self.unanswered_since = None;
                }
                return false;
            }
        };
        let took = now.saturating_sub(ended.started);
        self.took_in_vain = (!answered).then_some(took);
        if answered {
            self.in_vain = 0;
            self.last_answer = Some(now);
            self.wants = None;
            self.first_answer.get_or_insert(now);
            self.served += 1.0;
            self.unanswered_since = (self.running() > 0).then_some(now);
            self.latency = mean_with(self.latency, took);
            if matches!(ended.reply, Reply::Accepted | Reply::Rejected) {
                self.service = mean_with(self.service, took);
            }
        } else {
            let lately = self.last_answer.is_some_and(|at| now.saturating_sub(at) < ANSWER_COUNTS);
            self.excused = self.in_vain == 0 && lately && ended.reply == Reply::Broken;
            self.in_vain = self.in_vain.saturating_add(1);
            self.vain_end = now;
            if self.running() == 0 {
                self.unanswered_since = None;
            }
        }
        match ended.reply {
            Reply::Overloaded | Reply::TimedOut if ended.started >= self.halved => {
                self.window = (self.window / 2).max(1);
                self.halved = now;
            }
            Reply::Accepted | Reply::Rejected | Reply::Failed if held_up => self.window = (self.window + 1).min(self.terms.limit.max(1)),
            Reply::Accepted | Reply::Rejected | Reply::Failed | Reply::Overloaded | Reply::TimedOut | Reply::Broken | Reply::Nothing => {}
        }
        match ended.reply {
            // Who refuses for good has looked at it: the endpoint is well.
            Reply::Accepted | Reply::Rejected => {
                if self.circuit.reopens().is_some() {
                    // The queue for its reopening is over.
                    self.last_slot = Duration::ZERO;
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
        if self.is_overdue(now) { self.running() } else { 0 }
    }

    /// Opens the circuit if the silence alone is enough for that. True when it has.
    pub fn open_if_silent(&mut self, settings: &CircuitSettings, now: Duration) -> bool {
        let outstanding = self.outstanding(now);
        outstanding > 0 && self.circuit.open_if(outstanding, settings, now)
    }

    /// Its failures were not its fault.
    pub fn forgive(&mut self, settings: &CircuitSettings, now: Duration) {
        self.circuit.forgive(settings, now);
        (self.in_vain, self.excused, self.took_in_vain) = (0, false, None);
        self.window = self.window.max(FIRST_WINDOW.min(self.terms.limit));
    }

    /// A slot for a record that is parked: not before `earliest`, and after all slots that were given before. When the lane has become
    /// faster meanwhile, what is ahead will be through sooner than those slots say.
    pub fn slot(&mut self, earliest: Duration) -> Duration {
        self.slot_at(self.pace(self.terms.limit), earliest)
    }

    /// The same for one that the lane has no room for.
    pub fn slot_when_full(&mut self, by_schedule: bool, settings: &CircuitSettings, now: Duration) -> Duration {
        if !self.is_in_vain(now) {
            return self.slot_while_answering(now);
        }
        let starved = by_schedule && self.running() == 0;
        let earliest = if starved { self.turned_away(settings, now) } else { self.room_again(by_schedule, settings, now) };
        self.slot(earliest)
    }

    /// When the endpoint has lately said that it has too much to do, at the pace of as many attempts at once as it takes now, or of twice as
    /// many, to which its window may grow.
    fn slot_while_answering(&mut self, now: Duration) -> Duration {
        let overloaded = self.service.is_some() && self.halved > Duration::ZERO && now.saturating_sub(self.halved) < ANSWER_COUNTS;
        let at_once = if overloaded { self.window.saturating_mul(2).min(self.terms.limit) } else { self.terms.limit };
        self.slot_at(self.pace(at_once), now)
    }

    fn slot_at(&mut self, pace: Duration, earliest: Duration) -> Duration {
        let ahead = self.last_slot.saturating_sub(earliest);
        if pace < self.slot_pace {
            self.last_slot = earliest + ahead.mul_f64(pace.as_secs_f64() / self.slot_pace.as_secs_f64());
        }
        self.slot_pace = pace;
        self.last_slot = earliest.max(self.last_slot + pace);
        self.last_slot
    }

    /// When a record parked because the lane is full may come back at the earliest: for an endpoint tried in vain, not before it is known
    /// whether what is outstanding was in vain, too; and where it was never tried, after a pause that grows as its circuit's would, up to
    /// [`LONGEST_VAIN_PAUSE`].
    fn room_again(&self, by_schedule: bool, settings: &CircuitSettings, now: Duration) -> Duration {
        if !self.is_in_vain(now) {
            return now;
        }
        let doublings = self.in_vain.saturating_sub(1).min(16);
        let pause = settings.pause.saturating_mul(1 << doublings).min(settings.max_pause).min(LONGEST_VAIN_PAUSE);
        let pause = if by_schedule { Duration::ZERO } else { pause };
        let outstanding = if self.running() > 0 { self.silence_ends } else { Duration::ZERO };
        now.max(self.vain_end + pause).max(outstanding)
    }

    /// A record that is due by its own schedule finds no slot: when it may come back at the earliest. As long again as the lane has been
    /// waiting for one, so that those who wait long are not moved again and again; at least the circuit's pause, up to [`LONGEST_VAIN_PAUSE`].
    pub fn turned_away(&mut self, settings: &CircuitSettings, now: Duration) -> Duration {
        let waited = now.saturating_sub(*self.turned_away.get_or_insert(now));
        now + waited.max(settings.pause).min(LONGEST_VAIN_PAUSE).min(settings.max_pause)
    }

    /// The time from one start to the next: how long it takes to serve one over `at_once`, or what its rate allows.
    fn pace(&self, at_once: usize) -> Duration {
        let by_latency = self.service.unwrap_or(ASSUMED_LATENCY) / u32::try_from(at_once.max(1)).unwrap_or(u32::MAX);
        let by_rate = self.terms.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate.max(1e-6)));
        by_latency.max(by_rate)
    }

    /// Whether its answers of late say how many it answers in a second: it has been answering for some seconds.
    #[must_use]
    pub fn knows_its_pace(&self, now: Duration) -> bool {
        self.first_answer.is_some_and(|at| now.saturating_sub(at) >= PACE_KNOWN)
    }

    /// Answers of late, as a number that halves each second: about twice what it answers in one.
    #[must_use]
    pub const fn served(&self) -> f64 {
        self.served
    }

    /// A second has passed.
    pub fn age(&mut self) {
        self.served /= 2.0;
        if self.most * 2 < self.window {
            self.window = (self.window / 2).max(FIRST_WINDOW.min(self.window));
        }
        self.most = self.running();
    }

    /// Attempts running.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running[0] + self.running[1] + self.running[2]
    }

    /// The waiting room of a class.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.window.saturating_mul(WAITING_ROOM)
    }

    /// Whether its records have waited for any answer for longer than what waits should.
    #[must_use]
    pub fn is_stuck(&self, now: Duration) -> bool {
        let answered = self.last_answer.is_some_and(|at| now.saturating_sub(at) < ANSWER_COUNTS);
        !answered && self.wants.is_some_and(|since| now.saturating_sub(since) >= STUCK.max(self.patience()))
    }

    /// Puts `item` at the end of the line.
    pub fn wait(&mut self, class: Class, item: T, now: Duration) {
        self.wants.get_or_insert(now);
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
            && !ahead(self.last_slot)
            && !self.circuit.reopens().is_some_and(ahead)
            && now.saturating_sub(self.last_start.max(self.circuit.reopens().unwrap_or_default())) >= FORGOTTEN
    }
}

/// The mean with one more.
fn mean_with(mean: Option<Duration>, took: Duration) -> Option<Duration> {
    Some(mean.map_or(took, |mean| (mean * (LATENCY_MEMORY - 1) + took) / LATENCY_MEMORY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIRCUIT: CircuitSettings = CircuitSettings { failures: 5, pause: Duration::from_secs(5), max_pause: Duration::from_secs(600) };

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn lane(limit: usize, rate: Option<f64>) -> Lane<u32> {
        Lane::new(Terms { limit, rate })
    }

    fn start(lane: &mut Lane<u32>, at: u64) {
        lane.started(Class::Fresh, ms(20_000), ms(at));
    }

    /// So many at once start at `at`, and are accepted after ten milliseconds.
    fn burst(lane: &mut Lane<u32>, count: usize, at: u64) {
        (0..count).for_each(|_| start(lane, at));
        (0..count).for_each(|n| assert!(!end(lane, n as u64, Reply::Accepted, at, at + 10)));
    }

    /// An attempt of `record` that started at `started` ends with `reply` at `at`.
    fn end(lane: &mut Lane<u32>, record: u64, reply: Reply, started: u64, at: u64) -> bool {
        lane.ended(&Ended { class: Class::Fresh, record, reply, started: ms(started) }, &CIRCUIT, ms(at))
    }

    #[test]
    fn it_starts_at_two_grows_with_answers_that_it_held_up_and_never_beyond_its_limit() {
        let mut lane = lane(6, None);
        let mut windows = Vec::new();
        for round in 0..4 {
            let at = round * 10;
            let mut running = 0;
            while lane.has_place(ms(at)) {
                start(&mut lane, at);
                running += 1;
            }
            windows.push(running);
            (0..running).for_each(|n| assert!(!end(&mut lane, n, Reply::Accepted, at, at + 5)));
        }
        assert_eq!(windows, [2, 3, 4, 5], "one more for each round that filled it: only its first answer finds it full");
        for at in 0..50 {
            start(&mut lane, 100 + at);
            let _ = end(&mut lane, 0, Reply::Accepted, 100 + at, 101 + at);
        }
        assert_eq!(lane.window, 6, "one at a time is not held up by six");
        assert_eq!(super::Lane::<u32>::new(Terms { limit: 1, rate: None }).window, 1);
    }

    #[test]
    fn a_window_that_is_not_used_shrinks_by_the_second_and_one_that_is_stays() {
        let mut lane = lane(32, None);
        lane.window = 32;
        let mut windows = Vec::new();
        for (second, count) in [16, 15, 8, 1, 1, 1, 1].into_iter().enumerate() {
            burst(&mut lane, count, second as u64 * 1000);
            lane.age();
            windows.push(lane.window);
        }
        assert_eq!(windows, [32, 16, 16, 8, 4, 2, 2]);
        (0..2).for_each(|_| start(&mut lane, 9000));
        lane.age();
        lane.age();
        assert_eq!(lane.window, 2, "what is still out counts in each second");
        (lane.window, lane.running) = (1, [0; 3]);
        lane.age();
        lane.age();
        assert_eq!(lane.window, 1, "an idle second makes nobody ready for more");
    }

    #[test]
    fn for_slots_it_is_silent_after_a_quarter_of_a_second_or_four_times_its_usual_time() {
        for (took, silent_after) in [(10, 250), (100, 400)] {
            let mut lane = lane(4, None);
            start(&mut lane, 0);
            let _ = end(&mut lane, 0, Reply::Accepted, 0, took);
            start(&mut lane, 1000);
            let standing = |after: u64| lane.standing(ms(1000 + after));
            assert_eq!((standing(silent_after - 1), standing(silent_after)), (Standing::Answering, Standing::Silent));
            assert!(!lane.is_silent(ms(3999)), "what waits for it stays for three seconds");
        }
    }

    #[test]
    fn it_halves_on_time_outs_and_overload_once_for_what_was_on_its_way_together() {
        let mut lane = lane(32, None);
        lane.window = 32;
        (0..8).for_each(|_| start(&mut lane, 10));
        (0..8).for_each(|n| {
            let _ = end(&mut lane, n % 2, Reply::Overloaded, 10, 20);
        });
        assert_eq!(lane.window, 16);
        start(&mut lane, 30);
        let _ = end(&mut lane, 0, Reply::TimedOut, 30, 20_030);
        assert_eq!(lane.window, 8);
        start(&mut lane, 20_040);
        let _ = end(&mut lane, 0, Reply::Broken, 20_040, 20_041);
        assert_eq!(lane.window, 8, "a refused connection says nothing about load");
        for at in 21..30 {
            start(&mut lane, at * 1000);
            let _ = end(&mut lane, 0, Reply::TimedOut, at * 1000, at * 1000 + 900);
        }
        assert_eq!(lane.window, 1);
    }

    #[test]
    fn an_endpoint_is_silent_when_it_takes_four_times_its_usual_time_and_at_least_three_seconds() {
        let mut fast = lane(4, None);
        start(&mut fast, 0);
        assert!(!fast.is_silent(ms(2999)) && fast.is_silent(ms(3000)));
        let _ = end(&mut fast, 0, Reply::Accepted, 0, 1200);
        assert_eq!(fast.latency, Some(ms(1200)));
        start(&mut fast, 2000);
        assert!(!fast.is_silent(ms(6799)) && fast.is_silent(ms(6800)));
    }

    #[test]
    fn one_that_ends_without_an_answer_makes_it_silent_unless_it_was_heard_lately() {
        for (answered_at, reply, silent) in [
            (None, Reply::Broken, true),
            (Some(5000), Reply::TimedOut, true),
            (Some(5000), Reply::Broken, false),
            (Some(7500), Reply::TimedOut, false),
        ] {
            let mut lane = lane(4, None);
            if let Some(at) = answered_at {
                start(&mut lane, at - 10);
                let _ = end(&mut lane, 0, Reply::Failed, at - 10, at);
            }
            start(&mut lane, 9990);
            let _ = end(&mut lane, 1, reply, 9990, 10_000);
            assert_eq!(lane.is_silent(ms(10_000)), silent, "{answered_at:?} {reply:?}");
        }
    }

    #[test]
    fn one_broken_connection_among_answers_says_nothing_and_two_in_a_row_do() {
        let mut lane = lane(4, None);
        let mut standings = Vec::new();
        for (at, reply) in [(10, Reply::Accepted), (20, Reply::Broken), (30, Reply::Accepted), (40, Reply::Broken), (50, Reply::Broken)] {
            start(&mut lane, at * 1000);
            let _ = end(&mut lane, at, reply, at * 1000, at * 1000 + 5);
            standings.push(lane.standing(ms(at * 1000 + 5)));
        }
        assert_eq!(standings, [[Standing::Answering; 4].as_slice(), &[Standing::InVain]].concat());
    }

    #[test]
    fn its_pace_is_told_by_what_it_serves_and_not_by_how_it_fails() {
        let mut lane = lane(10, None);
        for (record, took) in [(0, 10_000), (1, 1), (2, 10_000)] {
            start(&mut lane, 0);
            let _ = end(&mut lane, record, Reply::Failed, 0, took);
        }
        assert_eq!([lane.slot(ms(50_000)), lane.slot(ms(50_000))], [ms(50_000), ms(50_010)], "assumed, before the first");
        start(&mut lane, 20_000);
        let _ = end(&mut lane, 3, Reply::Accepted, 20_000, 22_000);
        assert_eq!(lane.slot(ms(50_000)), ms(50_210), "two seconds over ten");
    }

    #[test]
    fn its_standing_follows_its_answers_of_the_last_minute() {
        let mut lane = lane(4, None);
        assert_eq!(lane.standing(ms(0)), Standing::Untried);
        start(&mut lane, 0);
        assert_eq!(lane.standing(ms(1)), Standing::Silent, "tried, and no answer yet");
        let one = Unanswered { attempts: [1, 0, 0], in_vain: false };
        assert_eq!(lane.recount(ms(1)), (Unanswered::default(), one));
        let _ = end(&mut lane, 0, Reply::Failed, 0, 10);
        assert_eq!((lane.standing(ms(10)), lane.recount(ms(10))), (Standing::Answering, (one, Unanswered::default())));
        assert_eq!(lane.standing(ms(60_009)), Standing::Answering);
        assert_eq!(lane.standing(ms(60_010)), Standing::Untried, "what it said is forgotten, and nothing speaks against it");
    }

    #[test]
    fn silence_of_a_grown_window_opens_the_circuit_long_before_the_time_outs() {
        let mut lane = lane(32, None);
        lane.window = 8;
        (0..8).for_each(|_| start(&mut lane, 0));
        assert!(!lane.open_if_silent(&CIRCUIT, ms(2999)));
        assert!(lane.open_if_silent(&CIRCUIT, ms(3000)));
        assert_eq!(lane.admits(false, &CIRCUIT, ms(3000)), Admission::Closed(ms(8000)));
        lane.probe(9, ms(20_000), ms(8000));
        start(&mut lane, 8000);
        assert_eq!(lane.admits(false, &CIRCUIT, ms(9000)), Admission::Closed(ms(38_000)), "the probe's twenty seconds, and the next pause");
    }

    /// Its circuit has been opened by five that failed with `reply` after `took`, in millisecond 10,000; a probe went out when it reopened.
    fn probing(reply: Reply, took: u64) -> Lane<u32> {
        let mut lane = lane(32, None);
        (0..5).for_each(|_| start(&mut lane, 10_000 - took));
        (0..5).for_each(|record| {
            let _ = end(&mut lane, record, reply, 10_000 - took, 10_000);
        });
        lane.probe(9, ms(20_000), ms(15_000));
        start(&mut lane, 15_000);
        lane
    }

    #[test]
    fn what_a_probe_keeps_waiting_expects_it_to_fail_as_the_last_attempt_did() {
        for (reply, took, again) in [
            (Reply::Failed, 10, 28_000),
            (Reply::Broken, 10, 28_000),
            (Reply::Overloaded, 2_000, 33_000),
            (Reply::TimedOut, 3_000, 28_000),
            (Reply::TimedOut, 10_000, 35_000),
            (Reply::Broken, 8_000, 33_000),
        ] {
            let lane = probing(reply, took);
            assert_eq!(
                lane.admits(false, &CIRCUIT, ms(15_001)),
                Admission::Closed(ms(again)),
                "{reply:?} after {took} ms, and ten seconds"
            );
        }
        let lane = probing(Reply::Broken, 10);
        assert_eq!(lane.admits(false, &CIRCUIT, ms(18_000)), Admission::Closed(ms(45_000)), "it did not: its time-out, and ten seconds");
    }

    #[test]
    fn after_an_outage_of_our_own_nothing_that_it_said_counts() {
        let mut lane = probing(Reply::TimedOut, 10_000);
        let _ = end(&mut lane, 9, Reply::TimedOut, 15_000, 15_100);
        lane.forgive(&CIRCUIT, ms(16_000));
        assert!(!lane.is_silent(ms(16_000)));
        assert_eq!(lane.admits(false, &CIRCUIT, ms(16_000)), Admission::Probe);
        lane.probe(10, ms(20_000), ms(16_000));
        start(&mut lane, 16_000);
        assert_eq!(lane.admits(false, &CIRCUIT, ms(16_001)), Admission::Closed(ms(29_000)), "three seconds of patience, and ten");
    }

    #[test]
    fn two_in_flight_that_hang_do_not_open_it_and_each_time_out_counts() {
        let mut lane = lane(32, None);
        let mut opened = Vec::new();
        start(&mut lane, 0);
        start(&mut lane, 0);
        for (record, at) in [(0, 20), (1, 20), (2, 40), (3, 60), (4, 80)] {
            opened.push(end(&mut lane, record, Reply::TimedOut, (at - 20) * 1000, at * 1000));
            if record > 0 {
                start(&mut lane, at * 1000);
            }
        }
        assert_eq!(opened, [false, false, false, false, true]);
    }

    #[test]
    fn slots_follow_each_other_at_the_lanes_own_pace() {
        let mut lane = lane(10, None);
        let mut slot = |earliest| lane.slot(ms(earliest)).as_millis();
        assert_eq!([slot(5000), slot(5000), slot(5000), slot(9000), slot(5000)], [5000, 5010, 5020, 9000, 9010], "100 ms over ten");
        let mut slow = super::Lane::<u32>::new(Terms { limit: 10, rate: Some(2.0) });
        assert_eq!([slow.slot(ms(5000)), slow.slot(ms(5000))], [ms(5000), ms(5500)]);
    }

    #[test]
    fn slots_given_while_it_was_slow_do_not_hold_up_what_is_parked_when_it_is_fast() {
        let mut lane = lane(10, None);
        (0..1000).for_each(|_| {
            let _ = lane.slot(ms(5000));
        });
        assert_eq!(lane.slot(ms(5000)), ms(15_000));
        lane.service = Some(ms(10));
        assert_eq!(lane.slot(ms(5000)), ms(6001), "a thousand at a millisecond each");
    }

    #[test]
    fn a_record_parked_for_silence_comes_back_when_it_is_known_whether_it_was_in_vain() {
        let mut lane = lane(4, None);
        start(&mut lane, 0);
        let again = |lane: &Lane<u32>, now| lane.room_again(false, &CIRCUIT, ms(now)).as_millis();
        assert_eq!(again(&lane, 1500), 1500);
        let _ = end(&mut lane, 0, Reply::TimedOut, 0, 20_000);
        assert_eq!(again(&lane, 20_000), 25_000);
        start(&mut lane, 20_001);
        assert_eq!(again(&lane, 20_002), 40_001);
        let _ = end(&mut lane, 0, Reply::Broken, 20_001, 20_003);
        assert_eq!(again(&lane, 20_004), 30_003, "nothing is outstanding, and the second pause is ten seconds");
        assert_eq!(again(&lane, 50_000), 50_000);
        assert_eq!(lane.room_again(true, &CIRCUIT, ms(20_004)), ms(20_004), "due by its own schedule");
    }

    #[test]
    fn one_that_finds_no_slot_comes_back_after_as_long_again_as_it_has_waited_up_to_a_minute() {
        let mut lane = lane(4, None);
        let again: Vec<u128> = [0, 5, 10, 20, 40, 80, 160].map(|s| lane.turned_away(&CIRCUIT, ms(s * 1000)).as_secs().into()).to_vec();
        assert_eq!(again, [5, 10, 20, 40, 80, 140, 220]);
        start(&mut lane, 161_000);
        assert_eq!(lane.turned_away(&CIRCUIT, ms(170_000)), ms(175_000), "a start ends the wait");
    }

    #[test]
    fn one_that_finds_its_lane_full_comes_back_at_the_pace_of_an_endpoint_that_said_it_has_too_much_to_do() {
        let mut lane = lane(32, None);
        lane.service = Some(ms(64));
        assert_eq!([lane.slot_while_answering(ms(1000)), lane.slot_while_answering(ms(1000))], [ms(1000), ms(1002)], "its limit");
        start(&mut lane, 2000);
        let _ = end(&mut lane, 1, Reply::Overloaded, 2000, 2010);
        assert_eq!(
            [lane.slot_while_answering(ms(2010)), lane.slot_while_answering(ms(2010))],
            [ms(2010), ms(2042)],
            "one at once, perhaps two"
        );
        assert_eq!(
            [lane.slot_while_answering(ms(62_010)), lane.slot_while_answering(ms(62_010))],
            [ms(62_012), ms(62_014)],
            "a minute ago"
        );
    }

    #[test]
    fn a_pause_asked_for_by_the_receiver_holds_the_lane() {
        let mut lane = lane(4, None);
        lane.pause(ms(900_000));
        assert!(!lane.has_place(ms(899_999)) && lane.has_place(ms(900_000)));
        assert!(!lane.is_idle(ms(899_999)) && lane.is_idle(ms(900_000)));
        lane.pause(ms(300));
        assert_eq!(lane.paused(ms(400)), Some(ms(900_000)), "a shorter pause does not end a longer one");
    }

    #[test]
    fn a_rate_spreads_the_attempts() {
        let mut lane = lane(1000, Some(10.0));
        let mut starts = 0;
        for now in (0..10_000).step_by(10) {
            if lane.has_place(ms(now)) {
                start(&mut lane, now);
                let _ = end(&mut lane, 0, Reply::Accepted, now, now);
                starts += 1;
            }
        }
        assert!((99..=102).contains(&starts), "{starts} starts in ten seconds at ten a second");
    }

    #[test]
    fn an_idle_lane_is_kept_for_ten_minutes_and_longer_while_its_circuit_is_open() {
        let mut lane = lane(4, None);
        start(&mut lane, 0);
        assert!(!lane.is_idle(ms(601_000)));
        let _ = end(&mut lane, 0, Reply::Accepted, 0, 10);
        assert!(!lane.is_idle(ms(599_999)) && lane.is_idle(ms(600_000)));
        for record in 0..5 {
            start(&mut lane, 1000);
            let _ = end(&mut lane, record, Reply::Failed, 1000, 600_000);
        }
        assert!(!lane.is_idle(ms(604_999)) && !lane.is_idle(ms(605_000 + 599_999)));
        assert!(lane.is_idle(ms(1_205_000)), "what it knows of a sick endpoint outlives the reopening that tests it");
    }
}
