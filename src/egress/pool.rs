//! Idle connections: a stack for each host, and all of them in one line by age.
//!
//! Re-use is last in, first out, so that a host keeps as few connections warm as it needs. Expiry and the global cap take the one idle
//! longest, of whichever host. Both ends are O(1): each idle connection sits in its host's stack and in a doubly linked line through the
//! slots. A map with time-outs for each host was refused: at the cap it must search, or drop a connection of the busiest host for being the
//! latest.
//!
//! Invariants: the line is sorted by `since` (time never goes back), so a stack's bottom is its oldest; `idle` counts the occupied slots.
//! It holds anything, so that the tests need no sockets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// What one host has.
#[derive(Default)]
pub(super) struct Stack {
    /// Slots of its idle connections, oldest first.
    slots: RefCell<VecDeque<usize>>,
    /// Its connections whose bodies are being read in the background.
    pub(super) draining: Cell<usize>,
}

struct Slot<T> {
    /// What is kept and whose it is; `None`: the slot is free.
    kept: Option<(Rc<Stack>, T)>,
    since: Instant,
    older: Option<usize>,
    newer: Option<usize>,
}

/// The idle connections of all hosts.
pub(super) struct Pool<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
    idle: usize,
    max_idle: usize,
    max_per_host: usize,
    idle_timeout: Duration,
}

impl<T> Pool<T> {
    pub(super) fn new(max_idle: usize, max_per_host: usize, idle_timeout: Duration) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), oldest: None, newest: None, idle: 0, max_idle, max_per_host, idle_timeout }
    }

    /// Connections idle now.
    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    /// The most recently used idle connection of `host`, if it is not too old.
    pub(super) fn take(&mut self, host: &Stack, now: Instant) -> Option<T> {
        self.expire(now);
        let slot = host.slots.borrow_mut().pop_back()?;
        self.release(slot)
    }

    /// Keeps `item` for `host`; where a cap is reached, the oldest connection is dropped.
    pub(super) fn put(&mut self, host: &Rc<Stack>, item: T, now: Instant) {
        self.expire(now);
        if self.max_idle == 0 || self.max_per_host == 0 {
            return;
        }
        if host.slots.borrow().len() >= self.max_per_host {
            let bottom = host.slots.borrow_mut().pop_front();
            bottom.and_then(|slot| self.release(slot));
        } else if self.idle >= self.max_idle {
            self.drop_oldest();
        }
        let kept = Slot { kept: Some((Rc::clone(host), item)), since: now, older: self.newest, newer: None };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.slots.len(),
        };
        match self.slots.get_mut(slot) {
            Some(place) => *place = kept,
            None => self.slots.push(kept),
        }
        match self.newest.and_then(|newest| self.slots.get_mut(newest)) {
            Some(newest) => newest.newer = Some(slot),
            None => self.oldest = Some(slot),
        }
        self.newest = Some(slot);
        self.idle += 1;
        host.slots.borrow_mut().push_back(slot);
    }

    /// Drops connections that have been idle for the time-out.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.oldest.and_then(|slot| self.slots.get(slot)) {
            if now.saturating_duration_since(oldest.since) < self.idle_timeout {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Drops the connection idle longest, of whichever host; false when none is idle.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some(slot) = self.oldest else { return false };
        if let Some((host, _)) = self.slots.get(slot).and_then(|slot| slot.kept.as_ref()) {
            host.slots.borrow_mut().pop_front();
        }
        self.release(slot).is_some()
    }

    /// Empties `slot`, already gone from its stack, and takes it out of the line.
    fn release(&mut self, slot: usize) -> Option<T> {
        let place = self.slots.get_mut(slot)?;
        let (_, item) = place.kept.take()?;
        let (older, newer) = (place.older.take(), place.newer.take());
        match older.and_then(|older| self.slots.get_mut(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.slots.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.idle -= 1;
        self.free.push(slot);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, Stack};
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::time::Instant;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_latest_is_taken_first_and_the_oldest_expires_first() {
        let start = Instant::now();
        let mut pool = Pool::new(8, 8, 4 * SECOND);
        let host = Rc::new(Stack::default());
        for n in 0..3 {
            pool.put(&host, n, start + n * SECOND);
        }
        assert_eq!(pool.take(&host, start + 3 * SECOND), Some(2));
        assert_eq!(pool.take(&host, start + 4 * SECOND), Some(1));
        assert_eq!(pool.take(&host, start + 4 * SECOND), None);
        assert_eq!(pool.idle(), 0);
    }

    #[test]
    fn without_traffic_of_a_host_its_connections_expire_all_the_same() {
        let start = Instant::now();
        let mut pool = Pool::new(8, 8, 4 * SECOND);
        let (a, b) = (Rc::new(Stack::default()), Rc::new(Stack::default()));
        pool.put(&a, 'a', start);
        pool.put(&b, 'b', start + 2 * SECOND);
        pool.expire(start + 4 * SECOND - SECOND / 1000);
        assert_eq!(pool.idle(), 2);
        pool.expire(start + 4 * SECOND);
        assert_eq!(pool.idle(), 1);
        assert_eq!(pool.take(&a, start + 4 * SECOND), None);
        assert_eq!(pool.take(&b, start + 4 * SECOND), Some('b'));
    }

    #[test]
    fn caps_cost_the_oldest_of_the_host_or_of_all() {
        let now = Instant::now();
        let mut pool = Pool::new(3, 2, 4 * SECOND);
        let (a, b) = (Rc::new(Stack::default()), Rc::new(Stack::default()));
        for n in [1, 2, 3] {
            pool.put(&a, n, now);
        }
        assert_eq!(pool.idle(), 2);
        pool.put(&b, 10, now);
        pool.put(&b, 11, now);
        assert_eq!(pool.idle(), 3);
        assert_eq!((pool.take(&a, now), pool.take(&a, now)), (Some(3), None));
        assert_eq!((pool.take(&b, now), pool.take(&b, now)), (Some(11), Some(10)));
    }

    #[test]
    fn a_cap_of_zero_keeps_nothing() {
        let now = Instant::now();
        let host = Rc::new(Stack::default());
        for (all, each) in [(0, 1), (1, 0)] {
            let mut pool = Pool::new(all, each, SECOND);
            pool.put(&host, (), now);
            assert_eq!(pool.idle(), 0);
        }
    }

    #[test]
    fn it_agrees_with_a_plain_list_over_many_steps() {
        let start = Instant::now();
        let hosts: Vec<_> = (0..5).map(|_| Rc::new(Stack::default())).collect();
        let mut pool = Pool::new(7, 3, 4 * SECOND);
        let mut list: Vec<(usize, u32, Instant)> = Vec::new();
        let mut random = fastrand::Rng::with_seed(7);
        let mut now = start;
        for n in 0..20_000_u32 {
            now += Duration::from_millis(random.u64(0..400));
            list.retain(|(_, _, since)| now - *since < 4 * SECOND);
            let host = random.usize(0..5);
            if random.bool() {
                if list.iter().filter(|(h, _, _)| *h == host).count() >= 3 {
                    let bottom = list.iter().position(|(h, _, _)| *h == host).unwrap();
                    list.remove(bottom);
                } else if list.len() >= 7 {
                    list.remove(0);
                }
                list.push((host, n, now));
                pool.put(&hosts[host], n, now);
            } else {
                let top = list.iter().rposition(|(h, _, _)| *h == host);
                assert_eq!(pool.take(&hosts[host], now), top.map(|at| list.remove(at).1));
            }
            assert_eq!(pool.idle(), list.len());
        }
    }
}
