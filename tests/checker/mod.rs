//! The independent checker: a [`History`] of what outsiders saw goes in, a [`Report`] comes out.
//!
//! It shares no code with the engine and knows nothing of it: what was produced, what receivers saw, what stands in the topics, which faults
//! were injected. Two makers of histories use it: the simulation (the library's unit tests) and the chaos runs on a real Kafka.
//!
//! ```text
//!  producers ─┐                                            ┌─ violations: a closed list, each with its id or place
//!  receivers ─┼─► facts (JSON lines) ─► History ─► judge ──┤
//!  topics    ─┤                                            └─ figures: produced, delivered, repeats and how many were allowed, …
//!  faults    ─┘
//! ```
//!
//! How repeats are judged. An *exposure* is a fault after which a replica's work since its last accepted commit may be done again: a crash, a
//! revoke that outlived its grace, partitions lost, a drain that was cut, offsets that were reset. A success or a dead letter ends its chain
//! unless it is exposed, or the success may not have been read (its connection was cut, the client had gone). A requeue that is exposed forks
//! its chain. So for each event: endings that are neither exposed nor ambiguous ≤ times produced or replayed + forks. Everything above that is
//! a repeat without an excuse. A failure in flight at a fault forks nothing: only one more attempt follows from it.
//!
//! Every instant is in milliseconds of one clock, that of whoever made the history; `Rules` says how far readings of it may be apart.

#![allow(dead_code, reason = "each of its two users needs a part")]

mod causes;
mod judge;
mod lines;
#[cfg(test)]
mod tests;

pub(crate) use judge::judge;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds.
pub(crate) type Millis = i64;

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    /// The limits of this run; the last one counts.
    Rules(Rules),
    /// An endpoint and its policy.
    Endpoint(Endpoint),
    /// An event was put on a source topic.
    Produced(Produced),
    /// A dead letter or a source record was put back into delivery.
    Replayed(Replayed),
    /// A receiver saw a request.
    Request(Request),
    /// A record was appended to a delay tier.
    Requeue(Requeue),
    /// A record was appended to the dead-letter topic.
    Letter(Letter),
    /// Callbackd says that it skipped this event.
    Skipped(String),
    /// A record of ours that nobody finished though all is quiet: `topic/partition/offset`, or what is known of it.
    Left(String),
    /// Work that may be done again.
    Exposure(Exposure),
    /// A time in which nothing can be said about lateness: broker away, clock wrong, paused process, own outage.
    Disturbance(Disturbance),
    /// Retention deleted this event before anybody read it.
    DeletedUnread(String),
    /// A committed offset, and what was not finished at that moment.
    Commit(Commit),
    /// Where a group stands at the end.
    End(End),
    /// A graceful end of a replica.
    Drain(Drain),
    /// Something that only the maker of the history could see was wrong: a forbidden address was dialled, a dead letter was changed.
    Wrong(String),
}

/// Limits of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rules {
    /// An attempt this much before its time is on time: the tolerance of the smallest tier, and what clocks may differ.
    pub(crate) early_ms: Millis,
    /// An attempt may be this late where nothing excuses it; `None`: lateness is not judged.
    pub(crate) late_ms: Option<Millis>,
    /// What instants of different observers may differ.
    pub(crate) slack_ms: Millis,
    /// Different records that must fail one after the other before an endpoint's records are parked.
    pub(crate) failures_to_open: usize,
    /// Undelivered events of one endpoint that may fill its lane.
    pub(crate) least_backlog: usize,
    /// Undelivered events of all endpoints together from which memory may be scarce, so that records are parked.
    pub(crate) least_crowd: usize,
    /// The longest pause that a receiver can ask for.
    pub(crate) longest_pause_ms: Millis,
    /// A request without an answer may be repeated once at once, uncounted: its pooled connection was dead already.
    pub(crate) dead_connections: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            early_ms: 1_500,
            late_ms: None,
            slack_ms: 0,
            failures_to_open: 5,
            least_backlog: 8,
            least_crowd: usize::MAX,
            longest_pause_ms: 3_600_000,
            dead_connections: false,
        }
    }
}

/// An endpoint and the policy of those who call it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// As in [`Request::endpoint`].
    pub(crate) name: String,
    /// Statuses that are a success: from, to, inclusive.
    pub(crate) success: (u16, u16),
    /// Statuses that end the delivery.
    pub(crate) final_statuses: Vec<u16>,
    /// After the first failure, the second, …; the last one repeated.
    pub(crate) delays_ms: Vec<Millis>,
    /// Share of a delay by which it may vary.
    pub(crate) jitter: f64,
    /// Attempts in all.
    pub(crate) attempts: u32,
    /// From the start of an attempt to its status.
    pub(crate) timeout_ms: Millis,
    /// Age at which it is given up, from the first attempt.
    pub(crate) max_age_ms: Millis,
    /// Age at which it is given up, never attempted.
    pub(crate) max_wait_ms: Millis,
    /// Attempts may fail without a receiver seeing a request: it was unreachable at times, or is no receiver at all.
    pub(crate) unseen: bool,
}

/// What must become of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expect {
    /// Delivered, or dead-lettered by its policy.
    Callback,
    /// A rule of the registry skips it.
    Skip,
    /// Dead-lettered for this reason, without an attempt.
    Bury(String),
    /// Any of these: the registry changed on its way.
    Any,
}

/// An event produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Produced {
    /// Its id.
    pub(crate) id: String,
    /// The endpoint that it is for; empty for none.
    pub(crate) endpoint: String,
    /// Whether the broker acknowledged it; otherwise its fate is unknown and it may be there or not.
    pub(crate) acknowledged: bool,
    /// When.
    pub(crate) at_ms: Millis,
    /// What must become of it.
    pub(crate) expect: Expect,
}

/// An event put back into delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Replayed {
    /// Its id.
    pub(crate) id: String,
    /// When.
    pub(crate) at_ms: Millis,
}

/// How a request ended, as the receiver knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// A status was written and the client surely read it.
    Read {
        /// The status.
        status: u16,
        /// When it was written.
        at_ms: Millis,
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<Millis>,
    },
    /// A status was written; the client may have gone, timed out, been killed, or the connection was cut.
    Unsure {
        /// The status.
        status: u16,
        /// When it was written.
        at_ms: Millis,
    },
    /// No status was written.
    None {
        /// When that was certain, if known.
        at_ms: Option<Millis>,
    },
}

/// A request as its receiver saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// `webhook-id`.
    pub(crate) id: String,
    /// The endpoint's name.
    pub(crate) endpoint: String,
    /// Which replica sent it, if that can be told.
    pub(crate) replica: Option<String>,
    /// When it arrived.
    pub(crate) at_ms: Millis,
    /// How it ended.
    pub(crate) answer: Answer,
    /// When its client let go of it, where that is known: one that was stopped meanwhile does so long after the end.
    #[serde(default)]
    pub(crate) let_go_ms: Option<Millis>,
    /// Signed by a key in force, by the receiver's own verifier.
    pub(crate) signature_right: bool,
    /// The body is the event's but for `t` and `sign`.
    pub(crate) body_right: bool,
}

/// A record in a tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Requeue {
    /// `callbackd-id`.
    pub(crate) id: String,
    /// Who appended it, if that can be told.
    pub(crate) replica: Option<String>,
    /// When the producer was asked, if known.
    pub(crate) sent_ms: Option<Millis>,
    /// The broker's append time.
    pub(crate) at_ms: Millis,
    /// `callbackd-attempts`.
    pub(crate) attempts: u32,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// `callbackd-id`.
    pub(crate) id: String,
    /// Who appended it, if that can be told.
    pub(crate) replica: Option<String>,
    /// When the producer was asked, if known.
    pub(crate) sent_ms: Option<Millis>,
    /// The broker's append time.
    pub(crate) at_ms: Millis,
    /// `callbackd-reason`.
    pub(crate) reason: String,
    /// `callbackd-attempts`.
    pub(crate) attempts: u32,
    /// `callbackd-replays`.
    pub(crate) replays: u32,
    /// The value's bytes are the event's.
    pub(crate) body_right: bool,
}

/// Why work may be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// Killed, or crashed.
    Crash,
    /// Attempts were still running when the grace of a revoke was over, or its final commit was refused.
    RevokeOutlivedGrace,
    /// The group went on without it.
    PartitionsLost,
    /// A drain reached its deadline, or its final commit was refused.
    DrainCut,
    /// The broker refused a requeue or a dead letter for good: what led to it is done again once that is mended.
    Refused,
    /// Committed offsets were gone, or meant nothing any more: expired, a topic made anew.
    OffsetsReset,
}

/// Work of a replica that may be done again: whatever of it was running or ended from the last accepted commit until the fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exposure {
    /// Why.
    pub(crate) cause: Cause,
    /// Whose; `None`: everybody's, or it cannot be told.
    pub(crate) replica: Option<String>,
    /// When the last accepted commit was asked for; where only what was running is exposed, the fault's own time.
    pub(crate) since_ms: Millis,
    /// The fault; for a replica that was paused, when it learned that its partitions were gone.
    pub(crate) at_ms: Millis,
    /// Only these events, where more is known; empty: all.
    #[serde(default)]
    pub(crate) only: BTreeSet<String>,
}

/// A time in which nothing can be said about lateness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Disturbance {
    /// From.
    pub(crate) from_ms: Millis,
    /// To.
    pub(crate) to_ms: Millis,
    /// Attempts that failed in it may be uncounted, and records parked: an outage of our own was presumed.
    #[serde(default)]
    pub(crate) own_outage: bool,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Commit {
    /// When it was read.
    pub(crate) at_ms: Millis,
    /// `group topic/partition`.
    pub(crate) place: String,
    /// The offset.
    pub(crate) offset: i64,
    /// The lowest offset whose record was not finished then, by what receivers and topics show; `None`: all were.
    pub(crate) lowest_unfinished: Option<i64>,
    /// Characters of its metadata.
    pub(crate) metadata: usize,
}

/// Where a group stands at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    /// `group topic/partition`.
    pub(crate) place: String,
    /// Committed.
    pub(crate) committed: Option<i64>,
    /// The log's end.
    pub(crate) end: i64,
}

/// A graceful end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// Whose.
    pub(crate) replica: String,
    /// SIGTERM.
    pub(crate) began_ms: Millis,
    /// The exit; `None`: it never came.
    pub(crate) ended_ms: Option<Millis>,
    /// It must have ended by then.
    pub(crate) deadline_ms: Millis,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct History {
    pub(crate) rules: Rules,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    pub(crate) produced: Vec<Produced>,
    pub(crate) replayed: Vec<Replayed>,
    pub(crate) requests: Vec<Request>,
    pub(crate) requeues: Vec<Requeue>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) skipped: BTreeSet<String>,
    pub(crate) left: Vec<String>,
    pub(crate) exposures: Vec<Exposure>,
    pub(crate) disturbances: Vec<Disturbance>,
    pub(crate) deleted_unread: BTreeSet<String>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) ends: Vec<End>,
    pub(crate) drains: Vec<Drain>,
    pub(crate) wrong: Vec<String>,
}

impl History {
    /// Adds what is known, in any order.
    pub(crate) fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Rules(rules) => self.rules = rules,
            Fact::Endpoint(endpoint) => {
                self.endpoints.insert(endpoint.name.clone(), endpoint);
            }
            Fact::Produced(produced) => self.produced.push(produced),
            Fact::Replayed(replayed) => self.replayed.push(replayed),
            Fact::Request(request) => self.requests.push(request),
            Fact::Requeue(requeue) => self.requeues.push(requeue),
            Fact::Letter(letter) => self.letters.push(letter),
            Fact::Skipped(id) => {
                self.skipped.insert(id);
            }
            Fact::Left(what) => self.left.push(what),
            Fact::Exposure(exposure) => self.exposures.push(exposure),
            Fact::Disturbance(disturbance) => self.disturbances.push(disturbance),
            Fact::DeletedUnread(id) => {
                self.deleted_unread.insert(id);
            }
            Fact::Commit(commit) => self.commits.push(commit),
            Fact::End(end) => self.ends.push(end),
            Fact::Drain(drain) => self.drains.push(drain),
            Fact::Wrong(what) => self.wrong.push(what),
        }
    }
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Acknowledged, and neither delivered nor dead-lettered nor skipped by a rule.
    Lost,
    /// Something is left in the topics though all is quiet.
    Left,
    /// Delivered or dead-lettered, and never produced.
    Invented,
    /// The bytes are not the event's.
    BodyChanged,
    /// The signature is not right.
    SignatureWrong,
    /// More endings than chains.
    RepeatUnexcused,
    /// More repeats in all than the formula allows.
    TooManyRepeats,
    /// More attempts than the policy's.
    TooManyAttempts,
    /// The count in the headers went down.
    AttemptCountWentBack,
    /// Dead-lettered as exhausted without the policy's attempts.
    ExhaustedEarly,
    /// Dead-lettered as expired or waited too long before its time.
    ExpiredEarly,
    /// Dead-lettered as rejected without a final answer.
    RejectedWithoutCause,
    /// Dead-lettered for a reason that nothing in the history explains.
    BuriedWithoutCause,
    /// Skipped, and no rule says so.
    SkippedWithoutRule,
    /// A callback was made for what must be skipped or buried.
    CalledAgainstRule,
    /// Attempted before its time.
    TooEarly,
    /// Attempted after its time.
    TooLate,
    /// Attempted while the endpoint had asked for a pause.
    PauseIgnored,
    /// Never attempted, and parked in a tier without a cause.
    ParkedWithoutCause,
    /// Committed past what was not finished.
    CommittedPastUnfinished,
    /// A commit below an earlier one.
    CommitWentBack,
    /// A commit's metadata that brokers refuse, or above our own limit.
    MetadataTooLong,
    /// A group that stands below the log's end though all is quiet.
    OffsetsShort,
    /// An attempt after the drain began.
    AttemptWhileDraining,
    /// A drain that took too long, or never ended.
    DrainTooLong,
    /// Tagged as replayed more often than it was.
    ReplayUntagged,
    /// Seen by the maker of the history.
    Wrong,
}

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    /// The event's id, or the place.
    pub(crate) at: String,
    /// For people.
    pub(crate) detail: String,
}

/// Counts, for people and for tests that must know that something happened at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Acknowledged.
    pub(crate) produced: usize,
    /// Produced with an unknown outcome.
    pub(crate) unknown: usize,
    /// Events with at least one success written.
    pub(crate) delivered: usize,
    /// Events with a dead letter.
    pub(crate) dead: usize,
    /// Events skipped by a rule.
    pub(crate) skipped: usize,
    /// Requests in all.
    pub(crate) requests: usize,
    /// Successes above one for each time an event was produced or replayed.
    pub(crate) repeats: usize,
    /// What the formula allows: exposed or ambiguous successes, and forks.
    pub(crate) allowed: usize,
    /// Successes that may not have been read.
    pub(crate) ambiguous: usize,
    /// Requeues whose record may be read again.
    pub(crate) forks: usize,
    /// Exposures.
    pub(crate) exposures: usize,
    /// Gaps between attempts that were judged.
    pub(crate) gaps: usize,
}

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) violations: Vec<Violation>,
    pub(crate) figures: Figures,
}

impl Report {
    /// Whether a violation of this kind was found.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.violations.iter().any(|v| v.kind == kind)
    }

    /// For people: figures, then up to twenty violations.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{:?}\n{} violations\n", self.figures, self.violations.len());
        for violation in self.violations.iter().take(20) {
            text.push_str(&format!("  {:?} {}: {}\n", violation.kind, violation.at, violation.detail));
        }
        text
    }
}
