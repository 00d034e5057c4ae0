//! The attempt slots of the process and who may take one (design §9). A state machine without IO; `lanes` owns it.
//!
//! Three bounds together:
//! - each class has its share, and may always have one;
//! - endpoints that do not answer (see [`Standing`]) together hold at most a quarter of all slots, and half of a class's share. While half
//!   of all slots are free it is half of them: after a start nobody has answered yet, and the healthy ones would wait behind the sick. Those
//!   tried in vain hold at most a sixteenth, so that one that was never tried finds a place and can prove itself; and a second attempt to
//!   an endpoint that has not answered yet starts only while all of them hold less than a sixteenth;
//! - after an outage of our own the number of slots grows from [`RESTART`] to all of them, doubling each second.

use crate::domain::class::Class;
use std::time::Duration;

/// Slots at first after an outage of our own.
const RESTART: usize = 16;

/// What an endpoint's answers so far say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It answered within the last minute and keeps answering.
    Answering,
    /// No answer within the last minute, and no attempt outstanding or in vain.
    Untried,
    /// Attempts are outstanding, without an answer.
    Silent,
    /// It was tried in vain: attempts ended without an answer.
    InVain,
}

/// A lane's attempts that count as unanswered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// By class.
    pub attempts: [usize; 3],
    /// The endpoint was tried in vain before.
    pub in_vain: bool,
}

impl Unanswered {
    fn in_vain(&self) -> usize {
        if self.in_vain { self.attempts.iter().sum() } else { 0 }
    }
}

/// The slots.
#[derive(Debug)]
pub struct Slots {
    max: usize,
    running: [usize; 3],
    /// Of the running attempts, those to endpoints that do not answer, by class.
    unanswered: [usize; 3],
    /// Of these, attempts to endpoints that were tried in vain before.
    in_vain: usize,
    restarted: Option<Duration>,
}

impl Slots {
    /// `max` slots, all free.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, running: [0; 3], unanswered: [0; 3], in_vain: 0, restarted: None }
    }

    /// Attempts running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.iter().sum()
    }

    /// Whether an attempt of `class` may start at all.
    #[must_use]
    pub fn has(&self, class: Class, now: Duration) -> bool {
        let own = self.running[class.index()];
        own == 0 || own < class.share(self.max) && self.running() < self.limit(now)
    }

    /// Whether an attempt of `class` may start to an endpoint of this standing.
    #[must_use]
    pub fn has_for(&self, class: Class, standing: Standing, now: Duration) -> bool {
        let is_idle = self.running() < self.max / 2;
        let (all, part) = ((self.max / if is_idle { 2 } else { 4 }).max(2), (self.max / 16).max(1));
        let unanswered = self.unanswered.iter().sum::<usize>();
        let within = match standing {
            Standing::Answering => return self.has(class, now),
            Standing::Untried => unanswered < all,
            Standing::Silent => unanswered < part,
            Standing::InVain => unanswered < all && self.in_vain < part,
        };
        let own = self.unanswered[class.index()];
        let within_class = own == 0 || own * 2 < class.share(self.max);
        self.has(class, now) && within_class && within
    }

    /// An attempt of `class` started.
    pub const fn taken(&mut self, class: Class) {
        self.running[class.index()] += 1;
    }

    /// An attempt of `class` ended.
    pub const fn freed(&mut self, class: Class) {
        self.running[class.index()] = self.running[class.index()].saturating_sub(1);
    }

    /// A lane's attempts that count as unanswered were `from`, and are `to` now.
    pub fn recount(&mut self, from: Unanswered, to: Unanswered) {
        for ((sum, from), to) in self.unanswered.iter_mut().zip(from.attempts).zip(to.attempts) {
            *sum = (*sum + to).saturating_sub(from);
        }
        self.in_vain = (self.in_vain + to.in_vain()).saturating_sub(from.in_vain());
    }

    /// An outage of our own is over.
    pub const fn restart(&mut self, now: Duration) {
        self.restarted = Some(now);
    }

    /// Slots there are now.
    fn limit(&self, now: Duration) -> usize {
        let Some(since) = self.restarted.map(|at| now.saturating_sub(at).as_secs()) else { return self.max.max(1) };
        let grown = u32::try_from(since).ok().and_then(|doublings| RESTART.checked_shl(doublings)).filter(|grown| *grown >= RESTART);
        grown.unwrap_or(self.max).min(self.max).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn take(slots: &mut Slots, class: Class, standing: Standing) -> usize {
        let mut n = 0;
        while slots.has_for(class, standing, NOW) {
            slots.taken(class);
            if standing != Standing::Answering {
                let mut one = Unanswered { in_vain: standing == Standing::InVain, ..Unanswered::default() };
                one.attempts[class.index()] = 1;
                slots.recount(Unanswered::default(), one);
            }
            n += 1;
        }
        n
    }

    #[test]
    fn each_class_has_its_share_and_always_one() {
        let mut slots = Slots::new(100);
        assert_eq!(Class::ALL.map(|class| take(&mut slots, class, Standing::Answering)), [60, 30, 10]);
        let mut slots = Slots::new(1);
        assert_eq!(Class::ALL.map(|class| take(&mut slots, class, Standing::Answering)), [1, 1, 1], "retries never starve");
    }

    #[test]
    fn endpoints_that_do_not_answer_hold_a_quarter_and_a_quarter_of_it_when_tried_in_vain() {
        let mut slots = Slots::new(1024);
        assert_eq!(take(&mut slots, Class::Fresh, Standing::InVain), 64);
        assert_eq!(take(&mut slots, Class::Retry, Standing::InVain), 0);
        assert_eq!(take(&mut slots, Class::Retry, Standing::Silent), 0);
        assert_eq!(take(&mut slots, Class::Fresh, Standing::Answering), 614 - 64);
        assert_eq!(take(&mut slots, Class::Retry, Standing::Untried), 154, "half of its share, and within a quarter");
        assert_eq!(take(&mut slots, Class::Replay, Standing::Untried), 256 - 64 - 154);
    }

    #[test]
    fn while_half_of_the_slots_are_free_those_never_tried_may_have_half() {
        let mut slots = Slots::new(1024);
        assert_eq!(take(&mut slots, Class::Fresh, Standing::Untried), 307, "half of its share");
        assert_eq!(take(&mut slots, Class::Retry, Standing::Untried), 154);
        assert_eq!(take(&mut slots, Class::Fresh, Standing::Answering), 614 - 307, "the others have theirs");
        slots.unanswered[Class::Fresh.index()] -= 100;
        slots.running[Class::Fresh.index()] -= 100;
        assert!(!slots.has_for(Class::Fresh, Standing::Untried, NOW), "when slots are taken it is a quarter again");
    }

    #[test]
    fn one_tried_in_vain_is_tried_again_beside_many_that_were_never_tried() {
        let mut slots = Slots::new(1024);
        let one = Unanswered { attempts: [1, 0, 0], in_vain: false };
        for _ in 0..100 {
            slots.taken(Class::Fresh);
            slots.recount(Unanswered::default(), one);
        }
        assert!(!slots.has_for(Class::Fresh, Standing::Silent, NOW), "no second attempt at once");
        assert_eq!(take(&mut slots, Class::Retry, Standing::InVain), 64);
    }

    #[test]
    fn endpoints_that_do_not_answer_leave_half_of_every_class_to_those_that_do() {
        let mut slots = Slots::new(1000);
        assert_eq!(take(&mut slots, Class::Replay, Standing::Untried), 50);
        assert_eq!(take(&mut slots, Class::Replay, Standing::Answering), 50);
    }

    #[test]
    fn few_slots_still_let_everyone_be_tried() {
        let mut slots = Slots::new(4);
        assert_eq!(take(&mut slots, Class::Fresh, Standing::InVain), 1);
        assert_eq!(take(&mut slots, Class::Retry, Standing::Untried), 1);
        assert!(slots.has_for(Class::Fresh, Standing::Answering, NOW) && !slots.has_for(Class::Fresh, Standing::Untried, NOW));
    }

    #[test]
    fn after_an_outage_the_slots_come_back_by_doubling() {
        let mut slots = Slots::new(1000);
        slots.restart(NOW);
        let limits: Vec<usize> = (0..9).map(|s| slots.limit(NOW + Duration::from_secs(s))).collect();
        assert_eq!(limits, [16, 32, 64, 128, 256, 512, 1000, 1000, 1000]);
        assert_eq!(slots.limit(Duration::from_secs(1 << 40)), 1000);
    }
}
