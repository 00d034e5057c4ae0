//! The ids that were seen lately: what a receiver needs to tell repeats.

use std::collections::{HashMap, VecDeque};

/// Ids remembered; the oldest is forgotten for the next. 64 bytes each and the tables: 20 MB at most.
const REMEMBERED: usize = 100_000;

/// Ids and how often each came.
#[derive(Debug)]
pub(super) struct Seen {
    times: HashMap<String, u64>,
    order: VecDeque<String>,
    room: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { times: HashMap::new(), order: VecDeque::new(), room: REMEMBERED }
    }
}

impl Seen {
    /// Counts one more callback with this id; returns its ordinal among them, from 1.
    pub(super) fn add(&mut self, id: &str) -> u64 {
        if let Some(times) = self.times.get_mut(id) {
            *times += 1;
            return *times;
        }
        if self.order.len() >= self.room
            && let Some(oldest) = self.order.pop_front()
        {
            self.times.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.times.insert(id.to_owned(), 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_counted_and_the_oldest_id_is_forgotten_first() {
        let mut seen = Seen { room: 2, ..Seen::default() };
        let times: Vec<u64> = ["a", "a", "b", "a", "c", "b", "a", "c"].map(|id| seen.add(id)).into();
        assert_eq!(times, [1, 2, 1, 3, 1, 2, 1, 2]);
        assert_eq!((seen.times.len(), seen.order.len()), (2, 2));
    }
}
