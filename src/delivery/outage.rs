//! Our own outage: telling it from theirs (design §9). A state machine without IO; the engine owns it.
//!
//! ```text
//!            no answer at all for 30 s, and failures at 5 hosts of 3 accounts,
//!            each of which answered within the last hour
//!  all well ──────────────────────────────────────────────────────────────────► presumed
//!     ▲                                                                            │ a probe a second;
//!     └──────────────────────────── any answer ◄───────────────────────────────────┘ first attempts to other hosts
//! ```
//!
//! While it is presumed, intake rests, Kafka keeps the records, and failures return uncounted. One customer with many dead domains cannot
//! bring it about: the hosts must be of different accounts, must have answered lately, and nobody else may be answering. A refused
//! connection, or a name that does not exist, is an answer about that host. Domains without an account count as one account, and with fewer
//! hosts or accounts than that the rule is off.

use crate::domain::verdict::{Failure, Outcome};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// An outage is presumed after this long without any answer.
const SILENCE: Duration = Duration::from_secs(30);
/// And with failures at this many hosts.
const HOSTS: usize = 5;
/// Of this many accounts.
const ACCOUNTS: usize = 3;
/// Each of which answered within this time before.
const LATELY: Duration = Duration::from_secs(3600);
/// The most hosts whose answers are remembered; beyond it the rule knows only these.
const MAX_HOSTS: usize = 10_000;
/// Between probes.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// Whether an outcome says anything about the way to the host: an answer, a connection that was refused there, no such name.
#[must_use]
pub const fn is_answer(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered { .. } | Outcome::Failed(Failure::Refused | Failure::NoSuchName) => true,
        Outcome::Failed(
            Failure::Timeout | Failure::Connect | Failure::Dns | Failure::Tls | Failure::Protocol | Failure::Blocked | Failure::Internal,
        ) => false,
    }
}

/// Whether an outcome may be due to an outage: no answer, and neither a fault of ours nor a refusal by the guard.
const fn is_silence(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed(Failure::Timeout | Failure::Connect | Failure::Dns | Failure::Tls | Failure::Protocol) => true,
        Outcome::Answered { .. } | Outcome::Failed(Failure::Refused | Failure::NoSuchName | Failure::Blocked | Failure::Internal) => false,
    }
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From now on it is presumed.
    Begun,
    /// It is over.
    Over,
}

/// What is known.
#[derive(Debug)]
pub struct Outage {
    /// The last answer of any host, or our start.
    last_answer: Duration,
    /// When each host answered last.
    answered: HashMap<Arc<str>, Duration>,
    /// Hosts that failed since the last answer, with the account.
    failing: HashMap<Arc<str>, Option<Arc<str>>>,
    presumed: bool,
    /// When the last one was over.
    over: Option<Duration>,
    next_probe: Duration,
}

impl Outage {
    /// All well at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { last_answer: now, answered: HashMap::new(), failing: HashMap::new(), presumed: false, over: None, next_probe: now }
    }

    /// Whether it is presumed.
    #[must_use]
    pub const fn is_presumed(&self) -> bool {
        self.presumed
    }

    /// An attempt to `host`, for a domain of the account that `account` tells, ended.
    #[must_use]
    pub fn ended<'a>(
        &mut self,
        host: &str,
        account: impl FnOnce() -> Option<&'a Arc<str>>,
        outcome: &Outcome,
        now: Duration,
    ) -> Option<Change> {
        if is_answer(outcome) {
            self.last_answer = now;
            if let Some(at) = self.answered.get_mut(host) {
                *at = now;
            } else if self.answered.len() < MAX_HOSTS {
                self.answered.insert(host.into(), now);
            }
            self.failing.clear();
            if std::mem::take(&mut self.presumed) {
                self.over = Some(now);
                return Some(Change::Over);
            }
            return None;
        }
        if is_silence(outcome) && self.failing.len() < MAX_HOSTS {
            self.failing.insert(host.into(), account().cloned());
        }
        None
    }

    /// Whether an outage begins now. Costs a pass over the failing hosts: to be called each second.
    #[must_use]
    pub fn look(&mut self, now: Duration) -> Option<Change> {
        if self.presumed || now.saturating_sub(self.last_answer) < SILENCE || self.failing.len() < HOSTS {
            return None;
        }
        let lately = |host: &Arc<str>| self.answered.get(host).is_some_and(|at| now.saturating_sub(*at) < LATELY);
        let known: Vec<_> = self.failing.iter().filter(|(host, _)| lately(host)).map(|(_, account)| account).collect();
        let accounts: HashSet<_> = known.iter().collect();
        if known.len() < HOSTS || accounts.len() < ACCOUNTS {
            return None;
        }
        self.presumed = true;
        self.next_probe = now;
        Some(Change::Begun)
    }

    /// Whether the failure of an attempt that `began` then (monotonic) is our own fault: no answer, and it was out while an outage was
    /// presumed.
    #[must_use]
    pub fn excuses(&self, outcome: &Outcome, began: Duration) -> bool {
        !is_answer(outcome) && (self.presumed || self.over.is_some_and(|over| began < over))
    }

    /// Whether a first attempt to `host` goes out all the same: the host is none of those that fail.
    #[must_use]
    pub fn spares(&self, host: &str) -> bool {
        !self.failing.contains_key(host)
    }

    /// Whether a probe may go out now; if so, the next one may a second later.
    #[must_use]
    pub fn may_probe(&mut self, now: Duration) -> bool {
        let may = now >= self.next_probe;
        if may {
            self.next_probe = now + PROBE_PAUSE;
        }
        may
    }

    /// Forgets hosts that have not answered for an hour.
    pub fn sweep(&mut self, now: Duration) {
        self.answered.retain(|_, at| now.saturating_sub(*at) < LATELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMED_OUT: Outcome = Outcome::Failed(Failure::Timeout);
    const OK: Outcome = Outcome::Answered { status: 200, retry_after: None };

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Hosts `h0`, `h1`, … of accounts in turn; all answer at 1000, then all fail from `since` on, each second.
    fn play(hosts: usize, accounts: usize, answered: usize, until: u64, outcome: &Outcome) -> (Outage, Option<u64>) {
        let mut outage = Outage::new(at(0));
        let names: Vec<Option<Arc<str>>> = (0..accounts).map(|n| Some(Arc::from(format!("account-{n}")))).collect();
        let account = |n: usize| &names[n % accounts];
        for n in 0..answered {
            assert_eq!(outage.ended(&format!("h{n}"), || account(n).as_ref(), &OK, at(1000)), None);
        }
        let mut begun = None;
        for second in 1001..until {
            for n in 0..hosts {
                let _ = outage.ended(&format!("h{n}"), || account(n).as_ref(), outcome, at(second));
            }
            if outage.look(at(second)) == Some(Change::Begun) {
                begun = Some(second);
            }
        }
        (outage, begun)
    }

    #[test]
    fn it_is_presumed_after_thirty_seconds_of_silence_of_five_hosts_of_three_accounts() {
        assert_eq!(play(5, 3, 5, 1100, &TIMED_OUT).1, Some(1030));
        assert_eq!(play(200, 40, 200, 1100, &TIMED_OUT).1, Some(1030));
    }

    #[test]
    fn fewer_hosts_fewer_accounts_or_hosts_never_heard_of_do_not_bring_it_about() {
        assert_eq!(play(4, 3, 4, 1200, &TIMED_OUT).1, None, "four hosts");
        assert_eq!(play(100, 2, 100, 1200, &TIMED_OUT).1, None, "two accounts, however many hosts");
        assert_eq!(play(100, 1, 100, 1200, &TIMED_OUT).1, None, "one customer with many dead domains");
        assert_eq!(play(100, 100, 4, 1200, &TIMED_OUT).1, None, "four of them have ever answered");
    }

    #[test]
    fn an_answer_of_anyone_keeps_it_away() {
        let mut outage = play(50, 10, 50, 1029, &TIMED_OUT).0;
        assert_eq!(outage.ended("h7", || None, &Outcome::Answered { status: 500, retry_after: None }, at(1029)), None);
        assert_eq!(outage.look(at(1050)), None);
        assert_eq!(play(50, 10, 50, 1200, &Outcome::Failed(Failure::Refused)).1, None, "refused connections are answers");
        assert_eq!(play(50, 10, 50, 1200, &Outcome::Failed(Failure::Blocked)).1, None, "the guard's refusal is ours alone");
    }

    #[test]
    fn answers_count_for_an_hour() {
        let mut outage = play(5, 3, 5, 1002, &TIMED_OUT).0;
        assert_eq!(outage.look(at(1000 + 3600)), None);
        let mut outage = play(5, 3, 5, 1002, &TIMED_OUT).0;
        assert_eq!(outage.look(at(1000 + 3599)), Some(Change::Begun));
    }

    #[test]
    fn any_answer_ends_it_and_hosts_outside_the_failing_set_are_spared() {
        let mut outage = play(5, 3, 9, 1100, &TIMED_OUT).0;
        assert!(outage.is_presumed() && outage.spares("h8") && !outage.spares("h0"));
        assert_eq!(outage.ended("h8", || None, &OK, at(1101)), Some(Change::Over));
        assert!(!outage.is_presumed());
        assert_eq!(outage.ended("h8", || None, &OK, at(1102)), None);
    }

    #[test]
    fn a_probe_goes_each_second() {
        let mut outage = play(5, 3, 5, 1100, &TIMED_OUT).0;
        let probes: Vec<u64> = (11000..11035).filter(|tenth| outage.may_probe(at(0) + Duration::from_millis(tenth * 100))).collect();
        assert_eq!(probes, [11000, 11010, 11020, 11030]);
    }
}
