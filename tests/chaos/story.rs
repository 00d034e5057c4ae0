//! What a run left behind, made into the checker's history: the receivers' log, the topics, the commits that were seen, the faults.
//!
//! What may be done again after a fault is told by name: the requests and requeues of which no accepted commit can have spoken when it
//! happened. So a repeat of anything else is one without an excuse, also right after a crash.

use super::commits::{COMMIT_LAG, Commits, Place};
use super::faults::Happened;
use super::fleet::{End, Life};
use super::load::{Fate, Sent};
use super::sites::{Ending, Seen};
use super::{ATTEMPTS, DEAD_ATTEMPTS, DEAD_DELAYS, DELAYS, DRAIN, Millis, SESSION, TIMEOUT, original};
use crate::checker::{self, Answer, Cause, Commit, Disturbance, Drain, Endpoint, Expect, Exposure, Fact, History, Letter, Produced};
use crate::checker::{Request, Requeue, Rules};
use crate::harness::kafka::Read;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Of what ended well, in per cent, so much is spoken of by a commit within [`COMMIT_LAG`].
const LEAST_COMMITTED: usize = 50;
/// Readings of the same clock in different processes, and what lies between an event and its note.
const SLACK: Millis = 500;
/// From the restart of a broker until what waited for it is appended, at most.
const COMING_BACK: Millis = 20_000;
/// From the end of a pause until a replica has heard that the group went on without it, at most.
const HEARING: Millis = 5_000;

/// A record that callbackd appended.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    pub(crate) event: usize,
    pub(crate) place: Place,
    pub(crate) offset: i64,
    pub(crate) at: Millis,
    /// The producer was asked later than this.
    pub(crate) asked: Millis,
    /// Who may have done it: those who attempted it before; nobody known where it was only moved on or parked.
    pub(crate) by: BTreeSet<u32>,
    pub(crate) attempts: u32,
}

/// Where a group stands in a topic when all is quiet.
pub(crate) struct Standing {
    pub(crate) group: String,
    pub(crate) topic: String,
    /// What is committed, -1 for nothing, and where the log ends.
    pub(crate) partitions: Vec<(i64, i64)>,
}

/// Everything that is known of a run.
pub(crate) struct Story {
    pub(crate) source: String,
    /// Groups of the fresh and the retry class.
    pub(crate) groups: (String, String),
    /// The endpoints that answer; one more does not.
    pub(crate) endpoints: usize,
    pub(crate) sent: Vec<Sent>,
    /// By the event's number: where it stands in the source topic.
    pub(crate) sources: HashMap<usize, (i32, i64)>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) tiers: Vec<(String, Vec<Read>)>,
    pub(crate) letters: Vec<Read>,
    pub(crate) commits: Commits,
    pub(crate) lives: Vec<Life>,
    pub(crate) faults: Vec<Happened>,
    pub(crate) ends: Vec<Standing>,
    /// Appends by event, in order of time.
    pub(crate) appended: HashMap<usize, Vec<Appended>>,
}

pub(crate) fn number(record: &Read) -> Option<usize> {
    record.header("callbackd-id")?.strip_prefix("event-")?.parse().ok()
}

fn count(record: &Read, header: &str) -> u32 {
    record.header(header).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn id(event: usize) -> String {
    format!("event-{event}")
}

impl Story {
    /// Puts the records of the tiers in order; the other fields are there.
    pub(crate) fn ordered(mut self) -> Self {
        for (topic, records) in &self.tiers {
            for record in records {
                let Some(event) = number(record) else { continue };
                self.appended.entry(event).or_default().push(Appended {
                    event,
                    place: (topic.clone(), record.partition),
                    offset: record.offset,
                    at: record.timestamp,
                    asked: record.timestamp,
                    by: BTreeSet::new(),
                    attempts: count(record, "callbackd-attempts"),
                });
            }
        }
        let of_broker = self.faults.iter().filter(|f| f.fault.is_of_the_broker());
        let away: Vec<(Millis, Millis)> = of_broker.map(|f| (f.from, f.to.saturating_add(COMING_BACK))).collect();
        let zombies: BTreeSet<u32> = self.lives.iter().filter(|l| l.zombie().next().is_some()).map(|l| l.number).collect();
        let mut requests: HashMap<usize, Vec<&Seen>> = HashMap::new();
        for seen in &self.seen {
            if let Some(event) = seen.event {
                requests.entry(event).or_default().push(seen);
            }
        }
        for (event, of_one) in &mut self.appended {
            of_one.sort_by_key(|a| (a.at, a.attempts));
            let mut before = self.sent.get(*event).map_or(0, |s| s.at);
            let mut counts = BTreeSet::from([0]);
            for append in of_one {
                // The attempts that it may have followed: more than one where a replica did not know yet that another had taken over.
                let since = |s: &&&Seen| before <= s.arrived || zombies.contains(&s.replica);
                let attempts = requests.get(event).into_iter().flatten().filter(since).filter(|s| s.arrived <= append.at);
                // What counts no attempt more was parked, by whoever had it: not by those who attempted it.
                append.by = if counts.insert(append.attempts) { attempts.clone().map(|s| s.replica).collect() } else { BTreeSet::new() };
                let ended = attempts.map(|s| s.ended.min(s.arrived + TIMEOUT)).min();
                // Without an attempt it was asked for when it was appended, unless the broker kept it waiting.
                let waited =
                    || away.iter().filter(|(from, to)| *from <= append.at && append.at <= *to).map(|(from, _)| before.max(*from)).min();
                append.asked = ended.or_else(waited).unwrap_or(append.at).min(append.at);
                before = append.at;
            }
        }
        self
    }

    /// Where the work on `event` that began at `at` was read from: its latest record in a tier by then, else the source.
    fn read_from(&self, event: usize, at: Millis) -> Option<(Place, i64)> {
        let latest = self.appended.get(&event).and_then(|all| all.iter().rfind(|a| a.at < at));
        if let Some(latest) = latest {
            return Some((latest.place.clone(), latest.offset));
        }
        let (partition, offset) = self.sources.get(&event)?;
        Some(((self.source.clone(), *partition), *offset))
    }

    /// From when on an accepted commit surely spoke of what began at `began`.
    fn covered(&self, event: usize, began: Millis) -> Millis {
        self.read_from(event, began).and_then(|(place, offset)| self.commits.spoken(&place, offset)).unwrap_or(Millis::MAX)
    }

    /// Of what ended well, how much was spoken of by a commit within [`COMMIT_LAG`] and a look, in per cent.
    pub(crate) fn soon_committed(&self) -> usize {
        let ended = self.seen.iter().filter(|s| s.is_success());
        let lags: Vec<Millis> = ended.filter_map(|s| Some(self.covered(s.event?, s.arrived).saturating_sub(s.ended))).collect();
        let soon = lags.iter().filter(|lag| **lag <= COMMIT_LAG + SLACK).count();
        if lags.is_empty() { 100 } else { soon * 100 / lags.len() }
    }

    /// The checker's history.
    pub(crate) fn history(&self) -> History {
        let mut history = History::default();
        history.add(Fact::Rules(Rules { early_ms: 400, late_ms: None, slack_ms: SLACK, dead_connections: true, ..Rules::default() }));
        self.endpoint_facts(&mut history);
        for (event, sent) in self.sent.iter().enumerate() {
            let acknowledged = sent.fate == Fate::Acknowledged;
            let endpoint = sent.endpoint.to_string();
            history.add(Fact::Produced(Produced { id: id(event), endpoint, acknowledged, at_ms: sent.at, expect: Expect::Callback }));
        }
        self.request_facts(&mut history);
        self.record_facts(&mut history);
        self.exposures(&mut history);
        self.commit_facts(&mut history);
        self.commits.wrong.iter().for_each(|why| history.add(Fact::Wrong(why.clone())));
        // What is not committed, a fault excuses: so it may not be much, whatever goes on.
        let soon_committed = self.soon_committed();
        if soon_committed < LEAST_COMMITTED {
            history.add(Fact::Wrong(format!("only {soon_committed} % of what ended well was committed within a second")));
        }
        for fault in &self.faults {
            history.add(Fact::Disturbance(Disturbance { from_ms: fault.from, to_ms: fault.to, own_outage: false }));
        }
        for life in &self.lives {
            if let Some(began_ms) = life.asked {
                let (replica, ended_ms) = (life.number.to_string(), life.ended.map(|(at, _)| at));
                history.add(Fact::Drain(Drain { replica, began_ms, ended_ms, deadline_ms: began_ms + DRAIN + 15_000 }));
            }
            if let Some((_, End::Alone(code) | End::Stopped(code @ 1..))) = life.ended {
                history.add(Fact::Wrong(format!("replica {} ended with {code}", life.number)));
            }
        }
        history
    }

    fn endpoint_facts(&self, history: &mut History) {
        // The dead one answers 500; an attempt with another outcome may have failed before its receiver saw it.
        let other = |record: &Read| record.header("callbackd-history").is_some_and(|h| h.split(',').any(|one| !one.starts_with("500")));
        let unseen = self.letters.iter().any(other);
        for endpoint in 0..=self.endpoints {
            let dead = endpoint == self.endpoints;
            history.add(Fact::Endpoint(Endpoint {
                name: endpoint.to_string(),
                success: (200, 200),
                final_statuses: vec![],
                delays_ms: if dead { DEAD_DELAYS.to_vec() } else { DELAYS.to_vec() },
                jitter: 0.0,
                attempts: if dead { DEAD_ATTEMPTS } else { ATTEMPTS },
                timeout_ms: TIMEOUT,
                max_age_ms: 24 * 3_600_000,
                max_wait_ms: 7 * 24 * 3_600_000,
                unseen: dead && unseen,
            }));
        }
    }

    fn request_facts(&self, history: &mut History) {
        for seen in &self.seen {
            let Some(event) = seen.event else {
                history.add(Fact::Wrong(format!("a request of an unknown event: {seen:?}")));
                continue;
            };
            // Who slept when the answer came may have found the time-out first when it woke up.
            let life = self.lives.iter().find(|life| life.number == seen.replica);
            let asleep =
                life.into_iter().flat_map(|life| &life.freezes).find(|(from, to)| seen.arrived <= *to && *from <= seen.ended + SLACK);
            let known = asleep.map_or(seen.ended, |(_, to)| seen.ended.max(*to));
            let unsure = known.saturating_sub(seen.arrived) >= TIMEOUT - SLACK;
            let answer = match seen.ending {
                Ending::Answered(status) if !unsure => {
                    Answer::Read { status, at_ms: seen.ended, retry_after_ms: (status == 503).then_some(1_000) }
                }
                Ending::Answered(status) | Ending::Cut(status) => Answer::Unsure { status, at_ms: seen.ended },
                Ending::Unanswered => Answer::None { at_ms: Some(seen.ended) },
                Ending::Open => Answer::None { at_ms: None },
            };
            history.add(Fact::Request(Request {
                id: id(event),
                endpoint: seen.endpoint.to_string(),
                replica: Some(seen.replica.to_string()),
                at_ms: seen.arrived,
                answer,
                let_go_ms: None,
                signature_right: seen.signature_right,
                body_right: seen.body_right,
            }));
        }
    }

    fn record_facts(&self, history: &mut History) {
        for appended in self.appended.values().flatten() {
            let (id, attempts) = (id(appended.event), appended.attempts);
            let replica = appended.by.first().filter(|_| appended.by.len() == 1).map(ToString::to_string);
            history.add(Fact::Requeue(Requeue { id, replica, sent_ms: Some(appended.asked), at_ms: appended.at, attempts }));
        }
        for letter in &self.letters {
            let event = number(letter);
            let sent = event.and_then(|n| self.sent.get(n));
            // Asked for after its last attempt; a broker that was away made it wait.
            let ended = self.seen.iter().filter(|s| s.event == event && s.ended <= letter.timestamp).map(|s| s.ended).max();
            history.add(Fact::Letter(Letter {
                id: letter.header("callbackd-id").unwrap_or_default(),
                replica: None,
                sent_ms: ended.filter(|_| event.is_some()),
                at_ms: letter.timestamp,
                reason: letter.header("callbackd-reason").unwrap_or_default(),
                attempts: count(letter, "callbackd-attempts"),
                replays: count(letter, "callbackd-replays"),
                body_right: event.zip(sent).is_some_and(|(n, s)| letter.value.as_deref() == Some(original(n, s.endpoint).as_bytes())),
            }));
        }
    }

    /// What each fault exposed.
    fn exposures(&self, history: &mut History) {
        let taken_over = self.taken_over();
        for life in &self.lives {
            let mut expose = |cause: Cause, since: Millis, at: Millis| {
                let (requests, from_requests) = self.exposed_requests(cause, life.number, (since, at), &taken_over);
                let (appends, from_appends) = self.exposed_appends(cause, life.number, (since, at));
                // What a busy receiver read late was sent before the crash.
                let at_ms = if cause == Cause::Crash { at + HEARING } else { at };
                for (replica, only, from) in [(Some(life.number.to_string()), requests, from_requests), (None, appends, from_appends)] {
                    if !only.is_empty() {
                        history.add(Fact::Exposure(Exposure { cause, replica, since_ms: from, at_ms, only }));
                    }
                }
            };
            match life.ended {
                Some((at, End::Killed | End::Alone(_))) => expose(Cause::Crash, at, at),
                Some((at, End::Stopped(_))) if life.asked.is_some_and(|asked| at - asked >= DRAIN) => expose(Cause::DrainCut, at, at),
                Some((_, End::Stopped(_))) | None => {}
            }
            for (from, to) in life.zombie() {
                let heard = life.lost.iter().filter(|at| *to <= **at && **at <= to.saturating_add(HEARING)).max();
                expose(Cause::PartitionsLost, *from, heard.copied().unwrap_or(*to) + SLACK);
            }
            // An attempt that had started by then may arrive a little later.
            life.lost.iter().for_each(|at| expose(Cause::PartitionsLost, *at, *at + SLACK));
            life.refused.iter().chain(&life.late).for_each(|at| expose(Cause::RevokeOutlivedGrace, *at, *at));
        }
    }

    /// For each partition who asked for something that was read from it, and when.
    fn taken_over(&self) -> HashMap<Place, Vec<(Millis, u32)>> {
        let mut all: HashMap<Place, Vec<(Millis, u32)>> = HashMap::new();
        for seen in &self.seen {
            if let Some((place, _)) = seen.event.and_then(|event| self.read_from(event, seen.arrived)) {
                all.entry(place).or_default().push((seen.arrived, seen.replica));
            }
        }
        all
    }

    /// Events whose requests by `replica` were under way, or ended and spoken of by no commit, between `since` and `at`; the first's arrival.
    /// A commit that another replica made after it had taken over speaks of its own work only.
    fn exposed_requests(
        &self,
        cause: Cause,
        replica: u32,
        (since, at): (Millis, Millis),
        taken_over: &HashMap<Place, Vec<(Millis, u32)>>,
    ) -> (BTreeSet<String>, Millis) {
        let (mut only, mut from) = (BTreeSet::new(), since);
        for seen in self.seen.iter().filter(|s| s.replica == replica && (s.arrived <= at || cause == Cause::Crash)) {
            let Some(event) = seen.event else { continue };
            let moved = || {
                let by = self.read_from(event, seen.arrived).and_then(|(place, _)| taken_over.get(&place));
                let others = |(when, who): &(Millis, u32)| *who != replica && (at - SESSION - HEARING..=at).contains(when);
                let first = by.and_then(|all| all.iter().find(|one| others(one)));
                first.is_some_and(|(when, _)| seen.arrived < *when && self.covered(event, seen.arrived) > *when)
            };
            if seen.ended >= since || self.covered(event, seen.arrived) > since || cause == Cause::PartitionsLost && moved() {
                only.insert(id(event));
                from = from.min(seen.arrived);
            }
        }
        (only, from)
    }

    /// Events whose requeues `replica` may have asked for by then, and no commit spoke of. What it asked for is appended later too, unless
    /// it crashed.
    fn exposed_appends(&self, cause: Cause, replica: u32, (since, at): (Millis, Millis)) -> (BTreeSet<String>, Millis) {
        let (mut only, mut from) = (BTreeSet::new(), since);
        let in_time = |a: &Appended| a.asked <= at && (cause != Cause::Crash || a.at <= at + SLACK);
        let theirs = |a: &&Appended| in_time(a) && (a.by.is_empty() || a.by.contains(&replica));
        for appended in self.appended.values().flatten().filter(theirs) {
            if appended.at > since || self.covered(appended.event, appended.at) > since {
                only.insert(id(appended.event));
                from = from.min(appended.at);
            }
        }
        (only, from)
    }

    fn commit_facts(&self, history: &mut History) {
        let finished = self.finished();
        for (place, changes) in self.commits.changes() {
            let group = if place.0 == self.source { &self.groups.0 } else { &self.groups.1 };
            let of_place = finished.get(place);
            for change in changes {
                // The lowest that was not finished when the commit was seen.
                let lowest = of_place.and_then(|f| f.get(f.partition_point(|(_, highest)| *highest <= change.seen + SLACK)));
                history.add(Fact::Commit(Commit {
                    at_ms: change.seen,
                    place: format!("{group} {}/{}", place.0, place.1),
                    offset: change.offset,
                    lowest_unfinished: lowest.map(|(offset, _)| *offset),
                    metadata: change.metadata,
                }));
            }
        }
        for Standing { group, topic, partitions } in &self.ends {
            for (partition, (committed, end)) in partitions.iter().enumerate() {
                let committed = (*committed >= 0).then_some(*committed);
                history.add(Fact::End(checker::End { place: format!("{group} {topic}/{partition}"), committed, end: *end }));
            }
        }
    }

    /// For each partition its offsets in order, each with when all up to it were finished.
    fn finished(&self) -> HashMap<Place, Vec<(i64, Millis)>> {
        let mut endings: HashMap<usize, Vec<Millis>> = HashMap::new();
        for seen in self.seen.iter().filter(|s| s.is_success()) {
            if let Some(event) = seen.event {
                endings.entry(event).or_default().push(seen.ended);
            }
        }
        for letter in &self.letters {
            if let Some(event) = number(letter) {
                endings.entry(event).or_default().push(letter.timestamp);
            }
        }
        let mut places: HashMap<Place, BTreeMap<i64, Millis>> = HashMap::new();
        let first_after = |event: usize, at: Millis, offset: Option<(&Place, i64)>| {
            let ended = endings.get(&event).into_iter().flatten().filter(|e| **e >= at).min().copied();
            let others = self.appended.get(&event).into_iter().flatten();
            let moved = others.filter(|a| a.at >= at && offset != Some((&a.place, a.offset))).map(|a| a.at).min();
            ended.into_iter().chain(moved).min().unwrap_or(Millis::MAX)
        };
        for (event, (partition, offset)) in &self.sources {
            places.entry((self.source.clone(), *partition)).or_default().insert(*offset, first_after(*event, 0, None));
        }
        for appended in self.appended.values().flatten() {
            let at = first_after(appended.event, appended.at, Some((&appended.place, appended.offset)));
            places.entry(appended.place.clone()).or_default().insert(appended.offset, at);
        }
        let running_maximum = |of_place: BTreeMap<i64, Millis>| {
            let mut highest = Millis::MIN;
            of_place
                .into_iter()
                .map(|(offset, at)| {
                    highest = highest.max(at);
                    (offset, highest)
                })
                .collect()
        };
        places.into_iter().map(|(place, of_place)| (place, running_maximum(of_place))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(replica: u32, arrived: Millis, status: u16) -> Seen {
        Seen {
            event: Some(0),
            endpoint: 0,
            replica,
            arrived,
            ended: arrived + 10,
            ending: Ending::Answered(status),
            signature_right: true,
            body_right: true,
        }
    }

    fn append(attempts: &str, offset: i64, timestamp: Millis) -> Read {
        let headers = [("callbackd-id", "event-0"), ("callbackd-attempts", attempts), ("callbackd-reason", "attempts_exhausted")];
        let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec()))).to_vec();
        Read { partition: 0, offset, timestamp, key: None, value: None, headers }
    }

    /// One event, produced at 1,000; replica 3 slept from 2,000 to 11,000 and heard then that its partitions were gone.
    fn story(seen: Vec<Seen>, appended: Vec<Read>, letters: Vec<Read>) -> Story {
        let life = |number, freezes, lost| Life { number, freezes, asked: None, ended: None, lost, refused: vec![], late: vec![] };
        Story {
            source: "source".into(),
            groups: ("fresh".into(), "retry".into()),
            endpoints: 1,
            sent: vec![Sent { at: 1_000, endpoint: 0, fate: Fate::Acknowledged }],
            sources: HashMap::from([(0, (0, 0))]),
            seen,
            tiers: vec![("tier".into(), appended)],
            letters,
            commits: Commits::default(),
            lives: vec![life(2, vec![], vec![]), life(3, vec![(2_000, 11_000)], vec![10_990])],
            faults: vec![],
            ends: vec![],
            appended: HashMap::new(),
        }
        .ordered()
    }

    fn names_the_one_that_woke_up(story: &Story) -> bool {
        let mut history = History::default();
        story.exposures(&mut history);
        history.exposures.iter().any(|e| e.cause == Cause::PartitionsLost && e.only.contains("event-0"))
    }

    /// A stopped replica wakes up and parks what another one has delivered meanwhile: that is its own doing, which its exposure must name.
    #[test]
    fn what_was_parked_after_an_attempt_is_not_told_to_be_the_attempters_doing() {
        let never_attempted =
            story(vec![seen(2, 9_000, 200), seen(1, 13_000, 200)], vec![append("0", 0, 11_000), append("1", 1, 12_000)], vec![]);
        let attempted_before =
            story(vec![seen(2, 1_500, 500), seen(2, 9_000, 200)], vec![append("1", 0, 1_600), append("1", 1, 11_000)], vec![]);
        for story in [never_attempted, attempted_before] {
            let parked = story.appended[&0].iter().find(|a| a.at == 11_000).unwrap();
            assert!(parked.by.is_empty(), "parked by one who did not attempt it: {:?}", parked.by);
            assert!(names_the_one_that_woke_up(&story));
        }
    }

    /// A dead letter that waited for the broker was asked for when its last attempt had ended, not when it was appended.
    #[test]
    fn a_dead_letter_was_asked_for_after_its_last_attempt() {
        let told = story(vec![seen(2, 1_500, 500), seen(2, 9_000, 500)], vec![], vec![append("1", 0, 8_000), append("2", 1, 9_100)]);
        let mut history = History::default();
        told.record_facts(&mut history);
        assert_eq!(history.letters.iter().map(|letter| letter.sent_ms).collect::<Vec<_>>(), [Some(1_510), Some(9_010)]);
    }
}
