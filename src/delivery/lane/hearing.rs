//! What an endpoint's answers, and their absence, say about it.

use std::time::Duration;

/// For so long attempts may be outstanding before an endpoint counts as silent, however fast it used to answer: many times a healthy answer,
/// and more than a machine that is busy with other work loses.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// So many times its usual latency an endpoint may take before it counts as silent.
const PATIENCE: u32 = 4;

/// For so long records wait for the first answer, or the next one, while memory is scarce.
const STUCK: Duration = Duration::from_secs(2);

/// An answer says something about the endpoint for so long (design §9).
pub(super) const ANSWER_COUNTS: Duration = Duration::from_secs(60);

/// So long after its first answer a lane's answers say how many it answers in a second.
const PACE_KNOWN: Duration = Duration::from_secs(4);

/// The weight of the latest latency in the mean is one in so many.
const LATENCY_MEMORY: u32 = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Answers of late: halved each second.
    served: f64,
    /// Since when attempts have been outstanding without any answer.
    unanswered_since: Option<Duration>,
    last_answer: Option<Duration>,
    /// Since when it has been answering, for what its answers say about its pace.
    first_answer: Option<Duration>,
    /// Attempts that ended without an answer since the last answer, and when the latest did.
    in_vain: u32,
    vain_end: Duration,
    /// The only one of those was a connection that broke, of an endpoint that answered lately: that says nothing yet.
    excused: bool,
    /// How long the last attempt took, if it was one of those: as long as its policy says, or shorter where it never got a connection or lost it.
    pub(super) took_in_vain: Option<Duration>,
    /// Since when records have wanted an answer of it, and there was none.
    wants: Option<Duration>,
    pub(super) latency: Option<Duration>,
    /// The same of what it took or refused for good: by that its pace is told, not by how fast or slowly it fails.
    pub(super) service: Option<Duration>,
}

impl Hearing {
    /// An attempt starts.
    pub(super) fn started(&mut self, now: Duration) {
        self.unanswered_since.get_or_insert(now);
    }

    /// An attempt ended that says nothing; whether it was the last one outstanding.
    pub(super) fn ended(&mut self, is_last: bool) {
        if is_last {
            self.unanswered_since = None;
        }
    }

    /// An attempt was answered after `took`, and `for_good`: taken, or refused.
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

    /// An attempt ended after `took` without an answer: its connection `broke`, or its time was over.
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

    /// Some times its usual latency, and not less than this.
    pub(super) fn at_least(&self, patience: Duration) -> Duration {
        self.latency.map_or(patience, |latency| patience.max(latency * PATIENCE))
    }

    /// Whether attempts have been outstanding for so long.
    pub(super) fn is_unanswered_for(&self, patience: Duration, now: Duration) -> bool {
        self.unanswered_since.is_some_and(|since| now.saturating_sub(since) >= patience)
    }

    /// Whether attempts have been outstanding for too long.
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

    /// Whether its last answer still says something.
    pub(super) fn has_answered_lately(&self, now: Duration) -> bool {
        self.has_answered_within(ANSWER_COUNTS, now)
    }

    /// When the latest attempt ended in vain, and how many have since the last answer.
    pub(super) const fn vain(&self) -> (Duration, u32) {
        (self.vain_end, self.in_vain)
    }

    /// Whether its records have waited for any answer for longer than what waits should.
    pub(super) fn is_stuck(&self, now: Duration) -> bool {
        let waited = self.wants.map(|since| now.saturating_sub(since));
        !self.has_answered_lately(now) && waited.is_some_and(|waited| waited >= STUCK.max(self.patience()))
    }

    /// Whether its answers of late say how many it answers in a second: it has been answering for some seconds.
    pub(super) fn knows_its_pace(&self, now: Duration) -> bool {
        self.first_answer.is_some_and(|at| now.saturating_sub(at) >= PACE_KNOWN)
    }

    /// Answers of late, as a number that halves each second: about twice what it answers in one.
    pub(super) const fn served(&self) -> f64 {
        self.served
    }
}

/// The mean with one more.
fn mean_with(mean: Option<Duration>, took: Duration) -> Option<Duration> {
    Some(mean.map_or(took, |mean| (mean * (LATENCY_MEMORY - 1) + took) / LATENCY_MEMORY))
}
