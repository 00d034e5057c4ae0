//! Whose turn it is among the lanes, and how much may wait in each (design §9). A state machine without IO, owned by `lanes`.
//!
//! [`Lines::cap`] limits what may wait in one lane, so that a backlog for healthy endpoints flows at their own pace and no endpoint fills
//! the memory of the others. For an endpoint tried in vain nothing fresh waits, and of what returns no more than its waiting room. For the
//! others nothing is limited until memory is scarce: until one in [`SCARCE`] of the records that the class may hold waits, or one in
//! [`SCARCE_BYTES`] of the bytes. From then on a lane may hold
//! - its waiting room, while its endpoint is silent; once its records have waited too long for any answer, at most half of an equal share;
//! - else three halves of its share of all recent answers, so that memory goes where it is soon free again, and at least half of an equal
//!   share;
//! - of that, where the registry names other endpoints, what it answers within [`HORIZON`]: others could be behind it in Kafka.
//!
//! So when the process itself is the slow one, nothing is parked: the budget stalls intake. And a lane whose endpoint cannot keep up is
//! parked beyond its part, long before it stalls the others.

use super::lane::Lane;
use super::waiting::Item;
use crate::domain::class::Class;
use crate::domain::registry::Endpoint;
use std::collections::VecDeque;
use std::time::Duration;

/// Once memory is scarce, a lane may hold what it answers in this time.
const HORIZON: Duration = Duration::from_secs(4);

/// Memory is scarce when one in this many of the records that a class may hold waits. Not later: what waits is unfinished while what is
/// parked behind it is finished, and a partition whose map of that grows too long rests (design §10).
const SCARCE: usize = 8;

/// As [`SCARCE`], of the bytes: later, because few large records make no long map.
const SCARCE_BYTES: usize = 2;

/// Answers that every lane is taken to have had, so that the first real ones do not decide.
const FEW: f64 = 4.0;

/// Whose turn it is, and how much waits.
#[derive(Debug)]
pub(super) struct Lines {
    /// Lanes with work waiting, by class.
    pub(super) ready: [VecDeque<Endpoint>; 3],
    /// Records and bytes that wait, by class.
    waiting: [(usize, usize); 3],
    /// Recent answers of all lanes together, as [`Lane::served`].
    pub(super) served: f64,
    max_records: usize,
    max_bytes: usize,
    /// The registry names other endpoints.
    pub(super) contended: bool,
}

impl Lines {
    /// Nothing waits; at most `max_records` of `max_bytes` in memory, shared by class.
    pub(super) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { ready: Default::default(), waiting: [(0, 0); 3], served: 0.0, max_records, max_bytes, contended: false }
    }

    /// Records and bytes of `class` that may wait in `lane`.
    pub(super) fn cap<T: Item>(&self, lane: &Lane<T>, class: Class, now: Duration) -> (usize, usize) {
        let (records, bytes) = (budget(self.max_records, class), budget(self.max_bytes, class));
        let waiting = self.waiting[class.index()];
        let lanes = self.ready[class.index()].len() + usize::from(lane.waiting.count(class) == 0);
        let most = if lane.is_silent(now) { lane.room() } else { usize::MAX };
        let scarce = waiting.0 * SCARCE >= records || waiting.1 * SCARCE_BYTES >= bytes;
        if lane.is_in_vain(now) {
            // What returns is mostly due by its own schedule: some of it may wait for its turn beside what is fresh.
            let some = class != Class::Fresh && !scarce;
            return if some { (lane.room(), usize::MAX) } else { (0, 0) };
        }
        if !scarce || lanes == 1 && !self.contended {
            return (usize::MAX, usize::MAX);
        }
        if lane.is_stuck(now) {
            return (lane.room().min(records / (2 * lanes)), bytes / (2 * lanes));
        }
        // Each lane is taken to have answered a few more, so that the first answers do not decide.
        let part = (1.5 * (lane.served() + FEW) / (self.served + FEW * whole(lanes))).max(0.5 / whole(lanes)).min(1.0);
        let paced = self.contended && lane.knows_its_pace(now);
        let within = if paced { lane.served() / 2.0 * HORIZON.as_secs_f64() } else { f64::INFINITY };
        (most.min(lane.room().max(part_of(records, part).min(floor(within)))), part_of(bytes, part))
    }

    /// `item` waits in `lane`, the one of `endpoint`.
    pub(super) fn waits<T: Item>(&mut self, endpoint: &Endpoint, lane: &mut Lane<T>, class: Class, item: T, now: Duration) {
        let waiting = &mut self.waiting[class.index()];
        *waiting = (waiting.0 + 1, waiting.1 + item.cost());
        lane.wait(class, item, now);
        if lane.waiting.count(class) == 1 {
            self.ready[class.index()].push_back(endpoint.clone());
        }
    }

    /// An item of `class` that cost so much does not wait any more.
    pub(super) const fn left(&mut self, class: Class, cost: usize) {
        let waiting = &mut self.waiting[class.index()];
        *waiting = (waiting.0.saturating_sub(1), waiting.1.saturating_sub(cost));
    }

    /// Counts anew, after lanes were emptied: `in_lane` says what waits where, records and bytes.
    pub(super) fn recount(&mut self, in_lane: impl Fn(&Endpoint, Class) -> (usize, usize)) {
        for class in Class::ALL {
            let ready = &mut self.ready[class.index()];
            ready.retain(|endpoint| in_lane(endpoint, class).0 > 0);
            self.waiting[class.index()] =
                ready.iter().map(|endpoint| in_lane(endpoint, class)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of records and bytes in memory are far below 2^53")]
const fn whole(n: usize) -> f64 {
    n as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from floating point saturates, and nothing here is negative"
)]
const fn floor(n: f64) -> usize {
    n as usize
}

fn part_of(n: usize, part: f64) -> usize {
    floor(whole(n) * part)
}

/// How much of `max` a class may hold here, as intake counts it: its share; for the retry class half of it, because held heads use the
/// other half.
pub(super) fn budget(max: usize, class: Class) -> usize {
    let share = class.share(max);
    match class {
        Class::Retry => share.div_ceil(2),
        Class::Fresh | Class::Replay => share,
    }
}
