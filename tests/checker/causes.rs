//! What excuses: which work was exposed to being done again, and whether an endpoint's records had a cause to be parked.

use super::{Answer, Endpoint, Exposure, History, Letter, Millis, Request, Requeue};
use std::collections::{BTreeMap, BTreeSet};

/// How a request ended, for the rules of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A success was written and surely read.
    Delivered,
    /// A success was written, and it cannot be told whether it was read.
    Ambiguous,
    /// No success, and the client surely knows.
    Failed,
    /// No success, and it cannot be told what the client knows.
    Unanswered,
}

impl Request {
    pub(super) fn ending(&self, endpoint: Option<&Endpoint>) -> Ending {
        let success = |status: u16| endpoint.map_or(200..=299, |e| e.success.0..=e.success.1).contains(&status);
        match self.answer {
            Answer::Read { status, .. } if success(status) => Ending::Delivered,
            Answer::Read { .. } => Ending::Failed,
            Answer::Unsure { status, .. } if success(status) => Ending::Ambiguous,
            Answer::Unsure { .. } | Answer::None { .. } => Ending::Unanswered,
        }
    }

    /// When its client knew at the latest that it had ended, as far as its receiver can tell.
    pub(super) fn ended(&self, endpoint: Option<&Endpoint>) -> Millis {
        let timeout = endpoint.map_or(Millis::MAX, |e| self.at_ms.saturating_add(e.timeout_ms));
        match self.answer {
            Answer::Read { at_ms, .. } => at_ms,
            Answer::Unsure { at_ms, .. } => at_ms.min(timeout),
            Answer::None { at_ms } => at_ms.unwrap_or(timeout).min(timeout),
        }
    }

    /// The status that was written.
    pub(super) fn status(&self) -> Option<u16> {
        match self.answer {
            Answer::Read { status, .. } | Answer::Unsure { status, .. } => Some(status),
            Answer::None { .. } => None,
        }
    }
}

/// Whether at some time from `early` to `late` an endpoint that was tried had not answered since: its lane has no room then.
fn silent(requests: &[&Request], endpoint: Option<&Endpoint>, early: Millis, late: Millis) -> bool {
    let answered = |r: &&&Request| matches!(r.answer, Answer::Read { .. });
    let last = requests.iter().filter(answered).map(|r| r.ended(endpoint)).filter(|at| *at < early).max().unwrap_or(Millis::MIN);
    requests.iter().any(|r| (!answered(&r) || r.ended(endpoint) > late) && r.at_ms <= late && r.ended(endpoint) >= last)
}

/// The exposures of a history.
pub(super) struct Exposures<'a> {
    all: &'a [Exposure],
    slack: Millis,
}

impl<'a> Exposures<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        Self { all: &history.exposures, slack: history.rules.slack_ms }
    }

    fn hit(&self, id: &str, replica: Option<&str>, from: Millis, to: Millis) -> bool {
        self.all.iter().any(|e| {
            let theirs = e.replica.as_deref().is_none_or(|of| replica.is_none_or(|r| r == of));
            let named = e.only.is_empty() || e.only.contains(id);
            theirs && named && from <= e.at_ms.saturating_add(self.slack) && to >= e.since_ms.saturating_sub(self.slack)
        })
    }

    pub(super) fn request(&self, request: &Request, endpoint: Option<&Endpoint>) -> bool {
        let ended = match request.answer {
            // What the receiver wrote late, the client gave up on earlier; what it never answered ran on until the time-out.
            Answer::Read { at_ms, .. } | Answer::Unsure { at_ms, .. } | Answer::None { at_ms: Some(at_ms) } => at_ms,
            Answer::None { at_ms: None } => request.ended(endpoint),
        };
        let end = request.let_go_ms.map_or(ended, |at| at.max(ended));
        self.hit(&request.id, request.replica.as_deref(), request.at_ms, end)
    }

    pub(super) fn requeue(&self, requeue: &Requeue) -> bool {
        self.hit(&requeue.id, requeue.replica.as_deref(), requeue.sent_ms.unwrap_or(requeue.at_ms), requeue.at_ms)
    }

    pub(super) fn letter(&self, letter: &Letter) -> bool {
        self.hit(&letter.id, letter.replica.as_deref(), letter.sent_ms.unwrap_or(letter.at_ms), letter.at_ms)
    }
}

/// Why records of an endpoint may be parked.
pub(super) struct Causes<'a> {
    history: &'a History,
    /// By endpoint, in order of arrival.
    requests: BTreeMap<&'a str, Vec<&'a Request>>,
    /// By endpoint: produced, and when the event ended.
    waiting: BTreeMap<&'a str, Vec<(Millis, Millis)>>,
}

impl<'a> Causes<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut requests: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
        let mut over: BTreeMap<&str, Millis> = BTreeMap::new();
        let mut ends = |id: &'a str, at: Millis| {
            let known = over.entry(id).or_insert(at);
            *known = at.max(*known);
        };
        for request in &history.requests {
            requests.entry(&request.endpoint).or_default().push(request);
            match request.ending(history.endpoints.get(&request.endpoint)) {
                Ending::Delivered | Ending::Ambiguous => ends(&request.id, request.ended(None)),
                Ending::Failed | Ending::Unanswered => {}
            }
        }
        history.letters.iter().for_each(|letter| ends(&letter.id, letter.at_ms));
        requests.values_mut().for_each(|of_one| of_one.sort_by_key(|r| r.at_ms));
        let mut waiting: BTreeMap<&str, Vec<(Millis, Millis)>> = BTreeMap::new();
        for event in &history.produced {
            let end = over.get(event.id.as_str()).copied().unwrap_or(Millis::MAX);
            waiting.entry(&event.endpoint).or_default().push((event.at_ms, end));
        }
        Self { history, requests, waiting }
    }

    /// Whether a record of `endpoint` may have been parked by `replica` between `from` and `to`.
    pub(super) fn to_park(&self, endpoint: &str, replica: Option<&str>, from: Millis, to: Millis) -> bool {
        let rules = &self.history.rules;
        let (early, late) = (from.saturating_sub(rules.slack_ms), to.saturating_add(rules.slack_ms));
        let known = self.history.endpoints.get(endpoint);
        if known.is_none_or(|e| e.unseen) {
            return true;
        }
        if self.history.disturbances.iter().any(|d| d.own_outage && d.from_ms <= late && d.to_ms >= early) {
            return true;
        }
        let undelivered = |of_one: &Vec<(Millis, Millis)>| of_one.iter().filter(|(since, end)| *since <= late && *end >= early).count();
        if self.waiting.get(endpoint).map_or(0, undelivered) >= rules.least_backlog {
            return true;
        }
        if rules.least_crowd < usize::MAX && self.waiting.values().map(undelivered).sum::<usize>() >= rules.least_crowd {
            return true;
        }
        let theirs = |r: &&&Request| r.at_ms <= late && replica.is_none_or(|by| r.replica.as_deref().is_none_or(|of| of == by));
        let requests: Vec<&Request> = self.requests.get(endpoint).map_or(Vec::new(), |r| r.iter().filter(theirs).copied().collect());
        self.paused(&requests, early, late) || self.failed_in_a_row(&requests, known, early, late) || silent(&requests, known, early, late)
    }

    fn paused(&self, requests: &[&Request], early: Millis, late: Millis) -> bool {
        requests.iter().any(|r| match r.answer {
            Answer::Read { at_ms, retry_after_ms: Some(pause), .. } => {
                at_ms <= late && at_ms.saturating_add(pause.min(self.history.rules.longest_pause_ms)) >= early
            }
            Answer::Read { retry_after_ms: None, .. } | Answer::Unsure { .. } | Answer::None { .. } => false,
        })
    }

    /// Whether at some time from `early` to `late` enough different records had failed, or were without an answer, since the last success.
    fn failed_in_a_row(&self, requests: &[&Request], endpoint: Option<&Endpoint>, early: Millis, late: Millis) -> bool {
        let success = |r: &&&Request| matches!(r.ending(endpoint), Ending::Delivered);
        let last_good = requests.iter().filter(success).map(|r| r.ended(endpoint)).filter(|at| *at < early).max().unwrap_or(Millis::MIN);
        let bad = requests.iter().filter(|r| !success(r) || r.ended(endpoint) > late);
        let in_a_row: BTreeSet<&str> = bad.filter(|r| r.ended(endpoint) >= last_good).map(|r| r.id.as_str()).collect();
        in_a_row.len() >= self.history.rules.failures_to_open
    }
}
