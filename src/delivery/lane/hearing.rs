//! What an endpoint's answers, and their absence, say about it.

use std::time::Duration;

/// How long attempts may be outstanding, at least, before an endpoint counts as silent: many times a healthy answer, and more than a
/// machine that is busy with other work loses.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// An endpoint that answers slowly counts as silent after this many times its usual latency.
const PATIENCE: u32 = 4;

/// How long records wait for the first answer, or the next one, while memory is scarce.
const STUCK: Duration = Duration::from_secs(2);

/// How long an answer says something about the endpoint (design §9).
pub(super) const ANSWER_COUNTS: Duration = Duration::from_secs(60);

/// A lane's answer rate is trusted once it has been answering this long.
const PACE_KNOWN: Duration = Duration::from_secs(4);

/// The latest latency counts one part in this many of the mean.
const LATENCY_MEMORY: u32 = 8;

/// What is known of one endpoint: see the module.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Recent answers: a count that is halved each second.
    served: f64,
    /// Since when attempts have been outstanding without any answer.
    unanswered_since: Option<Duration>,
    last_answer: Option<Duration>,
    /// When it first answered: its answer rate is trusted some time after that.
    first_answer: Option<Duration>,
    /// Attempts that ended without an answer since the last answer, and when the latest did.
    in_vain: u32,
    vain_end: Duration,
    /// The only failure so far was one broken connection of an endpoint that answered lately; not enough to judge.
    excused: bool,
    /// How long the last attempt took, if it ended without an answer: its time-out, or less where it never got a connection or lost it.
    pub(super) took_in_vain: Option<Duration>,
    /// Since when records have waited for an answer without one coming.
    wants: Option<Duration>,
    pub(super) latency: Option<Duration>,
    /// The mean latency of callbacks that it took or refused for good: its pace goes by these, not by how fast it fails.
    pub(super) service: Option<Duration>,
}

impl Hearing {
    /// An attempt starts.
    pub(super) fn started(&mut self, now: Duration) {
        self.unanswered_since.get_or_insert(now);
    }

    /// An attempt ended that says nothing; `is_last`: no other is outstanding.
    pub(super) fn ended(&mut self, is_last: bool) {
        if is_last {
            self.unanswered_since = None;
        }
    }

    /// An attempt was answered after `took`; `for_good`: taken, or refused for good.
    pub(super) fn answered(&mut self, took: Duration, for_good: bool, is_last: bool, now: Duration) {
        self.took_in_vain = None;
        self.in_vain = 0;
        self.last_answer = Some(now);
        self.wants = None;
        self.first_answer.get_or_insert(now);
        self.served += 1.0;
        self.unanswered_since = (!is_last).then_some(now);
        self.latency = mean_with(self.latency, took);
        if for_good {
            self.service = mean_with(self.service, took);
        }
    }

    /// An attempt ended after `took` without an answer; `broke`: it lost or never got its connection, else it timed out.
    pub(super) fn unanswered(&mut self, took: Duration, broke: bool, is_last: bool, now: Duration) {
        self.took_in_vain = Some(took);
        self.excused = self.in_vain == 0 && self.has_answered_lately(now) && broke;
        self.in_vain = self.in_vain.saturating_add(1);
        self.vain_end = now;
        self.ended(is_last);
    }

    /// Its silence was not its fault.
    pub(super) fn forgive(&mut self) {
        (self.in_vain, self.excused, self.took_in_vain) = (0, false, None);
    }

    /// A record waits for it.
    pub(super) fn want(&mut self, now: Duration) {
        self.wants.get_or_insert(now);
    }

    /// A second has passed.
    pub(super) fn age(&mut self) {
        self.served /= 2.0;
    }

    /// How long attempts may be outstanding before their endpoint counts as silent.
    pub(super) fn patience(&self) -> Duration {
        self.at_least(FIRST_PATIENCE)
    }

    /// [`PATIENCE`] times its usual latency, but not less than `patience`.
    pub(super) fn at_least(&self, patience: Duration) -> Duration {
        self.latency.map_or(patience, |latency| patience.max(latency * PATIENCE))
    }

    /// Whether attempts have been outstanding without any answer for at least `patience`.
    pub(super) fn is_unanswered_for(&self, patience: Duration, now: Duration) -> bool {
        self.unanswered_since.is_some_and(|since| now.saturating_sub(since) >= patience)
    }

    /// Whether attempts have been outstanding for so long that the endpoint counts as silent.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        self.is_unanswered_for(self.patience(), now)
    }

    /// Whether it was tried in vain. One attempt in vain among others that are answered does not make it so.
    pub(super) fn is_in_vain(&self, now: Duration) -> bool {
        self.in_vain > 0 && !self.excused && !self.has_answered_within(self.patience(), now)
    }

    fn has_answered_within(&self, time: Duration, now: Duration) -> bool {
        self.last_answer.is_some_and(|at| now.saturating_sub(at) < time)
    }

    /// Whether it answered within [`ANSWER_COUNTS`].
    pub(super) fn has_answered_lately(&self, now: Duration) -> bool {
        self.has_answered_within(ANSWER_COUNTS, now)
    }

    /// When the latest attempt in vain ended, and how many ended so since the last answer.
    pub(super) const fn vain(&self) -> (Duration, u32) {
        (self.vain_end, self.in_vain)
    }

    /// Whether its records have waited too long for any answer.
    pub(super) fn is_stuck(&self, now: Duration) -> bool {
        let waited = self.wants.map(|since| now.saturating_sub(since));
        !self.has_answered_lately(now) && waited.is_some_and(|waited| waited >= STUCK.max(self.patience()))
    }

    /// Whether its answer rate can be trusted: see [`PACE_KNOWN`].
    pub(super) fn knows_its_pace(&self, now: Duration) -> bool {
        self.first_answer.is_some_and(|at| now.saturating_sub(at) >= PACE_KNOWN)
    }

    /// Recent answers: a count that halves each second, so about twice what it answers in one second.
    pub(super) const fn served(&self) -> f64 {
        self.served
    }
}

/// The mean with one more latency.
fn mean_with(mean: Option<Duration>, took: Duration) -> Option<Duration> {
    Some(mean.map_or(took, |mean| (mean * (LATENCY_MEMORY - 1) + took) / LATENCY_MEMORY))
}
