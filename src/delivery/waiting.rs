//! What waits in a lane, by class: in the order it came, except that returning records get a turn among the fresh ones (design §9).

use crate::domain::class::Class;
use std::collections::VecDeque;
use std::time::Duration;

/// After this many fresh starts in a row a waiting record that returns goes first: at least one in four. So does a replayed one after this
/// many retries.
const FRESH_STREAK: u32 = 3;

/// What lanes need to know of what they hold.
pub trait Item {
    /// Its record, as [`super::circuit`] tells them apart.
    fn record(&self) -> u64;
    /// What it holds in memory, in bytes.
    fn cost(&self) -> usize;
    /// Whether it was tried before: then it is due by its own schedule.
    fn by_schedule(&self) -> bool;
    /// How long its attempt may take.
    fn timeout(&self) -> Duration;
}

/// The lines of one lane.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    lines: [VecDeque<T>; 3],
    /// What they cost, in bytes.
    bytes: [usize; 3],
    /// Starts of other classes since the last one of each.
    passed: [u32; 3],
}

impl<T: Item> Waiting<T> {
    /// Nothing waits.
    pub(super) const fn new() -> Self {
        Self { lines: [VecDeque::new(), VecDeque::new(), VecDeque::new()], bytes: [0; 3], passed: [0; 3] }
    }

    /// How many of `class` wait.
    pub(super) fn count(&self, class: Class) -> usize {
        self.lines[class.index()].len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }

    /// What those of `class` cost, in bytes.
    pub(super) const fn bytes(&self, class: Class) -> usize {
        self.bytes[class.index()]
    }

    /// Every one.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lines.iter().flatten()
    }

    /// Puts `item` at the end of its line.
    pub(super) fn push(&mut self, class: Class, item: T) {
        self.bytes[class.index()] += item.cost();
        self.lines[class.index()].push_back(item);
    }

    fn gone(&mut self, class: Class, item: &T) {
        self.bytes[class.index()] = self.bytes[class.index()].saturating_sub(item.cost());
    }

    /// Takes the next of `class`, or a returning record when enough fresh ones have passed it and `may_return` allows its class.
    pub(super) fn next(&mut self, class: Class, may_return: impl Fn(Class) -> bool) -> Option<(Class, T)> {
        let returning = match class {
            Class::Fresh if self.fresh_streak() >= FRESH_STREAK => &[Class::Replay, Class::Retry][..],
            Class::Retry if self.passed[Class::Replay.index()] >= FRESH_STREAK => &[Class::Replay],
            Class::Fresh | Class::Retry | Class::Replay => &[],
        };
        let waits_longest = returning.iter().filter(|c| self.count(**c) > 0 && may_return(**c)).max_by_key(|c| self.passed[c.index()]);
        let class = waits_longest.copied().unwrap_or(class);
        let item = self.lines[class.index()].pop_front()?;
        self.gone(class, &item);
        for other in Class::ALL {
            let passed = &mut self.passed[other.index()];
            *passed = if other == class { 0 } else { passed.saturating_add(1) };
        }
        Some((class, item))
    }

    /// Fresh starts since a returning record started.
    fn fresh_streak(&self) -> u32 {
        self.passed[Class::Retry.index()].min(self.passed[Class::Replay.index()])
    }

    /// Takes out the youngest of `class` until no more wait than `keep` allows: records, bytes.
    pub(super) fn trim(&mut self, class: Class, keep: (usize, usize)) -> Vec<T> {
        let mut out = Vec::new();
        while self.count(class) > keep.0 || self.bytes(class) > keep.1 {
            let Some(item) = self.lines[class.index()].pop_back() else { break };
            self.gone(class, &item);
            out.push(item);
        }
        out.reverse();
        out
    }

    /// Takes out all that `gone` names, keeping the order of the rest.
    pub(super) fn take_out(&mut self, class: Class, gone: &impl Fn(&T) -> bool) -> Vec<T> {
        let line = &mut self.lines[class.index()];
        if !line.iter().any(gone) {
            return Vec::new();
        }
        let (out, kept): (Vec<T>, Vec<T>) = line.drain(..).partition(gone);
        self.bytes[class.index()] = kept.iter().map(Item::cost).sum();
        self.lines[class.index()].extend(kept);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replayed_record_has_its_turn_beside_retries_without_end() {
        let mut waiting = Waiting::new();
        for n in 0..9 {
            waiting.push(Class::Retry, 100 + n);
        }
        waiting.push(Class::Replay, 200);
        let order: Vec<u32> = std::iter::from_fn(|| waiting.next(Class::Retry, |_| true).map(|(_, n)| n)).take(5).collect();
        assert_eq!(order, [100, 101, 102, 200, 103]);
        for n in 0..30 {
            waiting.push(Class::Fresh, n);
        }
        waiting.push(Class::Replay, 201);
        let order: Vec<u32> = std::iter::from_fn(|| waiting.next(Class::Fresh, |_| true).map(|(_, n)| n)).take(12).collect();
        assert!(order.contains(&201) && order.contains(&104), "{order:?}");
    }

    #[test]
    fn of_four_starts_at_least_one_is_a_returning_record_while_any_waits() {
        let mut waiting = Waiting::new();
        for n in 0..9 {
            waiting.push(Class::Fresh, n);
        }
        waiting.push(Class::Retry, 100);
        waiting.push(Class::Replay, 200);
        let order: Vec<u32> = std::iter::from_fn(|| waiting.next(Class::Fresh, |_| true).map(|(_, n)| n)).collect();
        assert_eq!(order, [0, 1, 2, 100, 3, 4, 5, 200, 6, 7, 8]);
    }

    #[test]
    fn trimming_takes_the_youngest_and_taking_out_keeps_the_order() {
        let mut waiting = Waiting::new();
        for n in 0..6 {
            waiting.push(Class::Fresh, n);
        }
        assert_eq!(waiting.trim(Class::Fresh, (4, usize::MAX)), [4, 5]);
        assert_eq!(waiting.take_out(Class::Fresh, &|n| n % 2 == 0), [0, 2]);
        assert_eq!(waiting.iter().copied().collect::<Vec<_>>(), [1, 3]);
        assert_eq!((waiting.bytes(Class::Fresh), waiting.trim(Class::Fresh, (9, 1999))), (2000, vec![3]), "a thousand bytes each");
    }
}
