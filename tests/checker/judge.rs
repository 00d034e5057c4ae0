//! Judging a history: each invariant is a function over one event, or over the whole.

use super::causes::{Causes, Ending, Exposures};
use super::{Answer, Endpoint, Expect, Figures, History, Kind, Letter, Millis, Produced, Report, Request, Requeue, Violation};
use std::collections::BTreeMap;

/// The most characters of metadata that a commit may carry.
const MAX_METADATA: usize = 3_000;
/// What a wall clock that counts as sane may be off by.
const SANE_MS: Millis = 60_000;

/// Judges.
pub(crate) fn judge(history: &History) -> Report {
    let exposures = Exposures::of(history);
    let causes = Causes::of(history);
    let mut report = Report::default();
    let events = Event::all(history);
    for (id, event) in &events {
        let view = View { history, exposures: &exposures, causes: &causes, id, event };
        view.judge(&mut report);
    }
    commits(history, &mut report);
    pauses(history, &mut report);
    drains(history, &mut report);
    for what in &history.left {
        report.found(Kind::Left, what, "nobody finished it".to_owned());
    }
    for what in &history.wrong {
        report.found(Kind::Wrong, what, "seen by the maker of the history".to_owned());
    }
    report.figures.exposures = history.exposures.len();
    report.figures.requests = history.requests.len();
    let Figures { repeats, allowed, .. } = report.figures;
    if repeats > allowed {
        report.found(Kind::TooManyRepeats, "", format!("{repeats} repeats, {allowed} allowed"));
    }
    report
}

impl Report {
    fn found(&mut self, kind: Kind, at: &str, detail: String) {
        self.violations.push(Violation { kind, at: at.to_owned(), detail });
    }
}

/// All that is known of one event.
#[derive(Default)]
struct Event<'a> {
    produced: Vec<&'a Produced>,
    replayed: Vec<Millis>,
    requests: Vec<&'a Request>,
    requeues: Vec<&'a Requeue>,
    letters: Vec<&'a Letter>,
    skipped: bool,
}

impl<'a> Event<'a> {
    fn all(history: &'a History) -> BTreeMap<&'a str, Self> {
        let mut events: BTreeMap<&str, Self> = BTreeMap::new();
        for produced in &history.produced {
            events.entry(&produced.id).or_default().produced.push(produced);
        }
        for replayed in &history.replayed {
            events.entry(&replayed.id).or_default().replayed.push(replayed.at_ms);
        }
        for request in &history.requests {
            events.entry(&request.id).or_default().requests.push(request);
        }
        for requeue in &history.requeues {
            events.entry(&requeue.id).or_default().requeues.push(requeue);
        }
        for letter in &history.letters {
            events.entry(&letter.id).or_default().letters.push(letter);
        }
        for id in &history.skipped {
            events.entry(id).or_default().skipped = true;
        }
        for event in events.values_mut() {
            event.replayed.sort_unstable();
            event.requests.sort_by_key(|r| r.at_ms);
            event.requeues.sort_by_key(|r| r.at_ms);
            event.letters.sort_by_key(|l| l.at_ms);
        }
        events
    }
}

/// One event and everything that is needed to judge it.
struct View<'a> {
    history: &'a History,
    exposures: &'a Exposures<'a>,
    causes: &'a Causes<'a>,
    id: &'a str,
    event: &'a Event<'a>,
}

impl View<'_> {
    fn judge(&self, report: &mut Report) {
        if self.event.produced.is_empty() {
            report.found(Kind::Invented, self.id, "never produced".to_owned());
            return;
        }
        let acknowledged = self.event.produced.iter().any(|p| p.acknowledged);
        report.figures.produced += usize::from(acknowledged);
        report.figures.unknown += usize::from(!acknowledged);
        report.figures.dead += usize::from(!self.event.letters.is_empty());
        self.fate(acknowledged, report);
        self.bytes(report);
        self.endings(report);
        self.attempts(report);
        for letter in &self.event.letters {
            self.letter(letter, report);
        }
        self.gaps(report);
        self.parked(report);
        self.tags(report);
    }

    fn endpoint(&self, request: &Request) -> Option<&Endpoint> {
        self.history.endpoints.get(&request.endpoint)
    }

    fn own(&self) -> Option<&Endpoint> {
        let name = self.event.requests.last().map(|r| &r.endpoint).or(self.event.produced.first().map(|p| &p.endpoint))?;
        self.history.endpoints.get(name)
    }

    fn expects(&self, which: impl Fn(&Expect) -> bool) -> bool {
        self.event.produced.iter().any(|p| matches!(p.expect, Expect::Any) || which(&p.expect))
    }

    fn endings_of(&self, wanted: Ending) -> impl Iterator<Item = &Request> {
        self.event.requests.iter().filter(move |r| r.ending(self.endpoint(r)) == wanted).copied()
    }

    fn is_exposed(&self, request: &Request) -> bool {
        self.exposures.request(request, self.endpoint(request))
    }

    fn in_own_outage(&self, request: &Request) -> bool {
        let end = request.ended(self.endpoint(request));
        self.history.disturbances.iter().any(|d| d.own_outage && request.at_ms <= d.to_ms && end >= d.from_ms)
    }

    fn forks(&self) -> usize {
        self.event.requeues.iter().filter(|r| self.exposures.requeue(r)).count()
    }

    fn chains(&self) -> usize {
        self.event.produced.len() + self.event.replayed.len() + self.forks()
    }

    /// One chain, and nothing of it was ever exposed.
    fn is_plain(&self) -> bool {
        self.chains() == 1 && !self.event.requests.iter().any(|r| self.is_exposed(r) || self.in_own_outage(r))
    }

    /// Nothing is lost, and nothing is skipped or called against a rule.
    fn fate(&self, acknowledged: bool, report: &mut Report) {
        let delivered = self.endings_of(Ending::Delivered).chain(self.endings_of(Ending::Ambiguous)).next().is_some();
        report.figures.delivered += usize::from(delivered);
        let rule = self.expects(|e| matches!(e, Expect::Skip));
        let certain = self.event.produced.iter().all(|p| matches!(p.expect, Expect::Skip));
        report.figures.skipped += usize::from(self.event.skipped || certain);
        if self.event.skipped && !rule {
            report.found(Kind::SkippedWithoutRule, self.id, "no rule says so".to_owned());
        }
        let fine = delivered || !self.event.letters.is_empty() || certain || self.event.skipped && rule;
        if acknowledged && !fine && !self.history.deleted_unread.contains(self.id) {
            let seen = (self.event.requests.len(), self.event.requeues.len());
            report.found(Kind::Lost, self.id, format!("neither delivered nor dead-lettered; (requests, requeues) = {seen:?}"));
        }
        let may_call = self.expects(|e| matches!(e, Expect::Callback));
        if !may_call && let Some(request) = self.event.requests.first() {
            report.found(Kind::CalledAgainstRule, self.id, format!("{} was called", request.endpoint));
        }
    }

    fn bytes(&self, report: &mut Report) {
        for request in &self.event.requests {
            if !request.signature_right {
                report.found(Kind::SignatureWrong, self.id, format!("at {}", request.at_ms));
            }
            if !request.body_right {
                report.found(Kind::BodyChanged, self.id, format!("in the request at {}", request.at_ms));
            }
        }
        for letter in self.event.letters.iter().filter(|l| !l.body_right) {
            report.found(Kind::BodyChanged, self.id, format!("in the dead letter at {}", letter.at_ms));
        }
    }

    /// Endings that nothing excuses are no more than chains.
    fn endings(&self, report: &mut Report) {
        let (forks, chains) = (self.forks(), self.chains());
        let sure: Vec<&Request> = self.endings_of(Ending::Delivered).collect();
        let ambiguous = self.endings_of(Ending::Ambiguous).count();
        let unexposed = sure.iter().filter(|r| !self.is_exposed(r)).count();
        let letters = self.event.letters.iter().filter(|l| !self.exposures.letter(l)).count();
        let times = self.event.produced.len() + self.event.replayed.len();
        report.figures.repeats += (sure.len() + ambiguous).saturating_sub(times);
        report.figures.allowed += sure.len() - unexposed + ambiguous + forks;
        report.figures.ambiguous += ambiguous;
        report.figures.forks += forks;
        if unexposed + letters > chains {
            let detail = format!(
                "{unexposed} successes and {letters} dead letters that nothing excuses, {chains} chains; successes at {:?}, dead letters at {:?}",
                sure.iter().map(|r| r.at_ms).collect::<Vec<_>>(),
                self.event.letters.iter().map(|l| l.at_ms).collect::<Vec<_>>()
            );
            report.found(Kind::RepeatUnexcused, self.id, detail);
        }
    }

    fn attempts(&self, report: &mut Report) {
        let limit = self.event.requests.iter().filter_map(|r| self.endpoint(r)).map(|e| e.attempts as usize).max();
        let instant = |pair: &&[&Request]| self.is_instant_repeat(pair[0], pair[1]);
        let free = self.event.requests.windows(2).filter(instant).count();
        let counted = self.event.requests.iter().filter(|r| !self.is_exposed(r) && !self.in_own_outage(r)).count().saturating_sub(free);
        if let Some(limit) = limit.map(|l| l * self.chains())
            && counted > limit
        {
            report.found(Kind::TooManyAttempts, self.id, format!("{counted} attempts, {limit} are the most"));
        }
        if !self.is_plain() {
            return;
        }
        let mut before = 0;
        for requeue in &self.event.requeues {
            let sent = requeue.sent_ms.unwrap_or(requeue.at_ms);
            let certain =
                self.endings_of(Ending::Failed).filter(|r| r.ended(self.endpoint(r)) <= sent - self.history.rules.slack_ms).count();
            if requeue.attempts < before || (requeue.attempts as usize) < certain {
                let detail = format!("{} after {before}, and {certain} failures were seen, at {}", requeue.attempts, requeue.at_ms);
                report.found(Kind::AttemptCountWentBack, self.id, detail);
            }
            before = before.max(requeue.attempts);
        }
    }

    /// An uncounted repeat on a new connection, right after one that broke, soon and without an answer.
    fn is_instant_repeat(&self, one: &Request, next: &Request) -> bool {
        let rules = &self.history.rules;
        let (no_answer, ended) = (matches!(one.answer, Answer::None { .. }), one.ended(self.endpoint(one)));
        rules.dead_connections && no_answer && ended - one.at_ms <= 1_000 + rules.slack_ms && next.at_ms - ended < 1_000
    }

    /// A dead letter has a cause.
    fn letter(&self, letter: &Letter, report: &mut Report) {
        let before = || self.event.requests.iter().filter(|r| r.at_ms <= letter.at_ms.saturating_add(self.history.rules.slack_ms));
        let reason = letter.reason.as_str();
        let Some(endpoint) = self.own().filter(|_| self.expects(|e| matches!(e, Expect::Callback))) else {
            if !self.expects(|e| matches!(e, Expect::Bury(wanted) if wanted == reason)) {
                report.found(Kind::BuriedWithoutCause, self.id, format!("as {reason}"));
            }
            return;
        };
        match reason {
            "attempts_exhausted" => {
                let made = before().count();
                let enough = letter.attempts >= endpoint.attempts && (endpoint.unseen || made >= endpoint.attempts as usize);
                if !enough {
                    let detail = format!("{} attempts counted, {made} seen, the policy has {}", letter.attempts, endpoint.attempts);
                    report.found(Kind::ExhaustedEarly, self.id, detail);
                }
            }
            "expired" => {
                let longest = endpoint.delays_ms.iter().copied().max().unwrap_or(0) as f64 * (1.0 + endpoint.jitter);
                let next = (longest as Millis).max(self.longest_pause(letter.at_ms));
                let first = before().map(|r| r.at_ms).next();
                let due = |from: Millis| from.saturating_add(endpoint.max_age_ms);
                let passed = letter.at_ms.saturating_add(next).saturating_add(SANE_MS + self.history.rules.early_ms);
                if !endpoint.unseen && first.is_none_or(|first| passed < due(first)) {
                    report.found(Kind::ExpiredEarly, self.id, format!("buried at {}, first attempted at {first:?}", letter.at_ms));
                }
            }
            "waited_too_long" => {
                let since = self.event.produced.iter().map(|p| p.at_ms).min().unwrap_or(0);
                let passed = letter.at_ms.saturating_add(SANE_MS) >= since.saturating_add(endpoint.max_wait_ms);
                if !passed || letter.attempts > 0 {
                    report.found(
                        Kind::ExpiredEarly,
                        self.id,
                        format!("produced at {since}, buried at {} as waited too long", letter.at_ms),
                    );
                }
            }
            "rejected" => {
                if !before().any(|r| r.status().is_some_and(|s| endpoint.final_statuses.contains(&s))) {
                    report.found(Kind::RejectedWithoutCause, self.id, "no final status was written".to_owned());
                }
            }
            "replay_limit" if !self.event.replayed.is_empty() => {}
            "skipped" | "purged" => {}
            _ => {
                if !self.expects(|e| matches!(e, Expect::Bury(wanted) if wanted == reason)) {
                    report.found(Kind::BuriedWithoutCause, self.id, format!("as {reason}"));
                }
            }
        }
    }

    fn longest_pause(&self, until: Millis) -> Millis {
        let pause = |r: &&Request| match r.answer {
            Answer::Read { retry_after_ms: Some(pause), .. } if r.at_ms <= until => Some(pause.min(self.history.rules.longest_pause_ms)),
            Answer::Read { .. } | Answer::Unsure { .. } | Answer::None { .. } => None,
        };
        self.event.requests.iter().filter_map(pause).max().unwrap_or(0)
    }

    /// Attempts keep to the schedule. Only a plain chain is judged: of others it cannot be told which attempt followed which.
    fn gaps(&self, report: &mut Report) {
        if !self.is_plain() {
            return;
        }
        let rules = &self.history.rules;
        for (n, pair) in self.event.requests.windows(2).enumerate() {
            let (one, next) = (pair[0], pair[1]);
            let Some(endpoint) = self.endpoint(one) else { continue };
            if self.is_instant_repeat(one, next) {
                continue;
            }
            report.figures.gaps += 1;
            let certain = !endpoint.unseen && !rules.dead_connections && one.endpoint == next.endpoint;
            let listed = endpoint.delays_ms.get(n).or(endpoint.delays_ms.last()).copied().unwrap_or(0);
            let least = if certain { listed } else { endpoint.delays_ms.iter().copied().min().unwrap_or(0) };
            let most = if certain { listed } else { endpoint.delays_ms.iter().copied().max().unwrap_or(0) };
            let pause = match one.answer {
                Answer::Read { status: 429 | 503, retry_after_ms: Some(pause), .. } => pause.min(rules.longest_pause_ms),
                Answer::Read { .. } | Answer::Unsure { .. } | Answer::None { .. } => 0,
            };
            let from = match one.answer {
                Answer::None { at_ms: None } => one.at_ms,
                Answer::None { at_ms: Some(_) } | Answer::Read { .. } | Answer::Unsure { .. } => one.ended(Some(endpoint)),
            };
            let earliest = from + ((least as f64 * (1.0 - endpoint.jitter)) as Millis).max(pause) - rules.early_ms - rules.slack_ms;
            if next.at_ms < earliest {
                report.found(Kind::TooEarly, self.id, format!("attempt {} at {}, not before {earliest}", n + 2, next.at_ms));
            }
            let Some(late) = rules.late_ms else { continue };
            let latest = one.ended(Some(endpoint)) + ((most as f64 * (1.0 + endpoint.jitter)) as Millis).max(pause) + late + rules.slack_ms;
            let disturbed = rules_disturbed(self.history, one.at_ms, next.at_ms);
            if next.at_ms > latest && !disturbed && !self.causes.to_park(&one.endpoint, None, one.at_ms, next.at_ms - 1) {
                report.found(Kind::TooLate, self.id, format!("attempt {} at {}, not after {latest}", n + 2, next.at_ms));
            }
        }
    }

    /// A record that was never attempted goes into a tier only for a cause.
    fn parked(&self, report: &mut Report) {
        let Some(first) = self.event.requeues.first() else { return };
        let attempted = self.event.requests.first().is_some_and(|r| r.at_ms <= first.at_ms);
        if first.attempts > 0 || attempted || !self.event.produced.iter().all(|p| matches!(p.expect, Expect::Callback)) {
            return;
        }
        let endpoint = self.event.produced.first().map_or("", |p| p.endpoint.as_str());
        let from = first.sent_ms.unwrap_or(first.at_ms);
        if !self.causes.to_park(endpoint, first.replica.as_deref(), from, first.at_ms) {
            report.found(Kind::ParkedWithoutCause, self.id, format!("at {}, for {endpoint}", first.at_ms));
        }
    }

    /// What was replayed says so.
    fn tags(&self, report: &mut Report) {
        let replayed = self.event.replayed.len();
        let plain = self.chains() == self.event.produced.len() + replayed && !self.event.letters.iter().any(|l| self.exposures.letter(l));
        for letter in &self.event.letters {
            let ended_before = |replay: Millis| self.event.letters.iter().any(|l| l.at_ms < replay);
            let must = self.event.replayed.first().is_some_and(|at| *at < letter.at_ms && ended_before(*at)) && plain;
            if letter.replays as usize > replayed || must && letter.replays == 0 {
                report.found(
                    Kind::ReplayUntagged,
                    self.id,
                    format!("{} in the letter at {}, replayed {replayed} times", letter.replays, letter.at_ms),
                );
            }
        }
    }
}

fn rules_disturbed(history: &History, from: Millis, to: Millis) -> bool {
    history.disturbances.iter().any(|d| d.from_ms <= to && d.to_ms >= from)
}

/// Offsets go forward, never past what is unfinished, and reach the end.
fn commits(history: &History, report: &mut Report) {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut in_order: Vec<_> = history.commits.iter().collect();
    in_order.sort_by_key(|c| c.at_ms);
    for commit in in_order {
        if let Some(lowest) = commit.lowest_unfinished
            && commit.offset > lowest
        {
            let detail = format!("{} is committed at {}, {lowest} is unfinished", commit.offset, commit.at_ms);
            report.found(Kind::CommittedPastUnfinished, &commit.place, detail);
        }
        if commit.metadata > MAX_METADATA {
            report.found(Kind::MetadataTooLong, &commit.place, format!("{} characters at {}", commit.metadata, commit.at_ms));
        }
        let before = last.entry(&commit.place).or_insert(commit.offset);
        if commit.offset < *before {
            report.found(Kind::CommitWentBack, &commit.place, format!("{} after {before} at {}", commit.offset, commit.at_ms));
        }
        *before = commit.offset.max(*before);
    }
    for end in &history.ends {
        if end.committed.unwrap_or(0) < end.end {
            report.found(Kind::OffsetsShort, &end.place, format!("{:?} is committed, the log ends at {}", end.committed, end.end));
        }
    }
}

/// A replica leaves an endpoint alone that asked for it.
fn pauses(history: &History, report: &mut Report) {
    let mut of_lane: BTreeMap<(&str, &str), Vec<&Request>> = BTreeMap::new();
    for request in &history.requests {
        if let Some(replica) = &request.replica {
            of_lane.entry((&request.endpoint, replica)).or_default().push(request);
        }
    }
    let rules = &history.rules;
    for requests in of_lane.values_mut() {
        requests.sort_by_key(|r| r.at_ms);
        for request in requests.iter() {
            let Answer::Read { status: 429 | 503, at_ms, retry_after_ms: Some(pause) } = request.answer else { continue };
            let until = at_ms + pause.min(rules.longest_pause_ms) - rules.early_ms - rules.slack_ms;
            let from = requests.partition_point(|r| r.at_ms <= at_ms + rules.slack_ms);
            if let Some(next) = requests[from..].first().filter(|r| r.at_ms < until) {
                report.found(Kind::PauseIgnored, &next.id, format!("{} at {}, paused until {until}", next.endpoint, next.at_ms));
            }
        }
    }
}

/// A replica that drains starts nothing and ends in time.
fn drains(history: &History, report: &mut Report) {
    let slack = history.rules.slack_ms;
    for drain in &history.drains {
        let late = |r: &&Request| r.replica.as_deref() == Some(&drain.replica) && r.at_ms > drain.began_ms + slack;
        if let Some(request) = history.requests.iter().find(late) {
            report.found(Kind::AttemptWhileDraining, &request.id, format!("{} at {}", drain.replica, request.at_ms));
        }
        if drain.ended_ms.is_none_or(|ended| ended > drain.deadline_ms + slack) {
            report.found(Kind::DrainTooLong, &drain.replica, format!("ended at {:?}, deadline {}", drain.ended_ms, drain.deadline_ms));
        }
    }
}
