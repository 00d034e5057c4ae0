//! A simulated broker: logs with append times and gaps, groups with commits, generations and cooperative rebalances, a producer's appends
//! that are slow, lost on the way back, or refused. What it keeps is what survives a crash.

use super::super::super::checker::{Cause, Commit, Exposure, Fact, Letter, Requeue};
use super::group::{Group, Member};
use super::time::{EPOCH, Timeline, millis};
use super::trace::Trace;
use crate::domain::class::Class;
use crate::domain::headers::name;
use crate::domain::offsets::CommitPoint;
use crate::domain::record::{Header, NewRecord, Position, Record};
use crate::domain::time::UnixMillis;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// A partition of a topic.
pub(super) type Place = (Arc<str>, i32);

/// The longest metadata of a commit that brokers take.
const MAX_METADATA: usize = 4_096;

/// A record in a log.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) timestamp: UnixMillis,
    pub(super) id: Arc<str>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
    /// Its number among all that happened, which tells what came after it.
    pub(super) number: u64,
}

/// A partition's log.
#[derive(Default)]
pub(super) struct Log {
    pub(super) start: i64,
    pub(super) next: i64,
    pub(super) entries: VecDeque<Entry>,
    /// How often the topic was made.
    pub(super) made: u32,
}

impl Log {
    pub(super) fn from(&self, offset: i64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(self.entries.partition_point(|e| e.offset < offset))
    }
}

/// An append under way.
pub(super) struct Append {
    pub(super) replica: u64,
    pub(super) id: Arc<str>,
    record: Option<NewRecord>,
    sent: Duration,
    pub(super) appended: Option<Duration>,
    answered: Option<(Duration, Result<UnixMillis, String>)>,
    /// When the one who asked read the answer.
    read: Option<Duration>,
    waker: Option<Waker>,
    /// The one who asked is gone.
    orphan: bool,
}

/// Commit points, each with how often its partition had been assigned when the commit was sent.
type Points = Vec<(Place, u64, CommitPoint)>;

/// What the broker will do later.
enum Later {
    Append(u64),
    Answer(u64),
    Commit { class: Class, member: Member, points: Points, asked: Duration },
    CommitAnswer { class: Class, member: Member, result: Result<(), String> },
    Expel { class: Class, member: Member },
}

/// How the broker treats those who ask.
#[derive(Clone, Default)]
pub(super) struct Mood {
    /// Nobody is answered.
    pub(super) down: bool,
    /// How many of 100 commits are refused, or applied and answered as if refused.
    pub(super) commits_fail: u32,
    /// An append's way there and back, each at most.
    pub(super) slow: Duration,
    /// Appends to topics that contain this are refused for good.
    pub(super) refuses: Option<&'static str>,
}

/// The broker.
pub(super) struct Broker {
    pub(super) timeline: Rc<Timeline>,
    pub(super) trace: Rc<Trace>,
    pub(super) chance: fastrand::Rng,
    pub(super) mood: Mood,
    pub(super) gaps: bool,
    pub(super) logs: BTreeMap<Place, Log>,
    pub(super) groups: BTreeMap<usize, Group>,
    pub(super) appends: BTreeMap<u64, Append>,
    agenda: BTreeMap<(Duration, u64), Later>,
    number: u64,
    /// The last thing that finished a record of this event: a success read, an append.
    evidence: HashMap<Arc<str>, u64>,
    /// Whether something changed that a source may want to know of.
    pub(super) version: u64,
    pub(super) facts: Vec<Fact>,
}

/// The id in a record of ours or of a source.
pub(super) fn id_of(headers: &[Header]) -> Arc<str> {
    let value = headers.iter().rfind(|h| &*h.name == name::ID).and_then(|h| h.value.as_deref());
    value.and_then(|v| std::str::from_utf8(v).ok()).unwrap_or("").into()
}

fn header<'a>(headers: &'a [Header], wanted: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.iter().rfind(|h| &*h.name == wanted)?.value.as_deref()?).ok()
}

/// The group of a class.
pub(super) fn class_of(topic: &str) -> Option<Class> {
    match topic {
        t if t.contains(".retry.") => Some(Class::Retry),
        "callbackd.replay" => Some(Class::Replay),
        "callbackd.dead-letter" => None,
        _ => Some(Class::Fresh),
    }
}

impl Broker {
    pub(super) fn new(timeline: &Rc<Timeline>, trace: &Rc<Trace>, seed: u64) -> Self {
        Self {
            timeline: Rc::clone(timeline),
            trace: Rc::clone(trace),
            chance: fastrand::Rng::with_seed(seed),
            gaps: true,
            mood: Mood { slow: Duration::from_millis(5), ..Mood::default() },
            logs: BTreeMap::new(),
            groups: Class::ALL.map(|c| (c.index(), Group::default())).into(),
            appends: BTreeMap::new(),
            agenda: BTreeMap::new(),
            number: 0,
            evidence: HashMap::new(),
            version: 0,
            facts: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.timeline.now()
    }

    fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn group(&mut self, class: Class) -> &mut Group {
        self.groups.entry(class.index()).or_default()
    }

    pub(super) fn create(&mut self, topic: &str, partitions: i32) {
        for partition in 0..partitions {
            self.logs.entry((topic.into(), partition)).or_default();
        }
        if let Some(class) = class_of(topic) {
            let places: Vec<Place> = (0..partitions).map(|p| (topic.into(), p)).collect();
            self.group(class).add(places);
        }
    }

    fn later(&mut self, at: Duration, what: Later) {
        let number = self.number();
        self.agenda.insert((at, number), what);
    }

    /// When it has something to do next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.chance.u64(0..=u64::try_from(most.as_micros()).unwrap_or(0)))
    }

    /// Does what is due.
    pub(super) fn work(&mut self) {
        while let Some(first) = self.agenda.first_entry().filter(|e| e.key().0 <= self.timeline.now()) {
            match first.remove() {
                what if self.mood.down => {
                    let again = self.now() + Duration::from_millis(200);
                    self.later(again, what);
                }
                Later::Append(number) => self.append(number),
                Later::Answer(number) => self.answer(number),
                Later::Commit { class, member, points, asked } => {
                    let result = self.apply(class, member, &points, asked);
                    let way = Duration::from_millis(5);
                    let at = self.now() + self.up_to(way);
                    self.later(at, Later::CommitAnswer { class, member, result });
                }
                Later::CommitAnswer { class, member, result } => {
                    self.group(class).answer(member, result);
                    self.version += 1;
                }
                Later::Expel { class, member } => self.expel(class, member),
            }
        }
    }

    // --- logs

    /// Appends to a log, as the producer of a source topic does, or for one of ours.
    pub(super) fn put(&mut self, topic: &Arc<str>, id: &Arc<str>, key: Option<Bytes>, value: Option<Bytes>, headers: Vec<Header>) -> Place {
        let partitions = i32::try_from(self.logs.keys().filter(|(t, _)| t == topic).count()).unwrap_or(1);
        let place = (Arc::clone(topic), self.chance.i32(0..partitions.max(1)));
        let (number, timestamp) = (self.number(), self.timeline.unix());
        let known = self.evidence.entry(Arc::clone(id)).or_insert(number);
        *known = number.max(*known);
        let number = self.number();
        if let Some(log) = self.logs.get_mut(&place) {
            // Markers and aborted transactions leave gaps.
            if self.gaps && self.chance.u32(0..8) == 0 {
                log.next += self.chance.i64(1..4);
            }
            log.entries.push_back(Entry { offset: log.next, timestamp, id: Arc::clone(id), key, value, headers, number });
            log.next += 1;
        }
        self.version += 1;
        place
    }

    /// Markers at the end of a log.
    pub(super) fn mark(&mut self, topic: &str) {
        for (_, log) in self.logs.iter_mut().filter(|((t, _), _)| &**t == topic) {
            log.next += 1;
        }
        self.version += 1;
    }

    /// A success of this event was read.
    pub(super) fn succeeded(&mut self, id: &str) {
        let number = self.number();
        let known = self.evidence.entry(id.into()).or_insert(number);
        *known = number.max(*known);
    }

    /// A rule skips this event wherever it is read.
    pub(super) fn never_unfinished(&mut self, id: &str) {
        self.evidence.insert(id.into(), u64::MAX);
    }

    fn is_finished(&self, entry: &Entry) -> bool {
        self.evidence.get(&entry.id).is_some_and(|last| *last > entry.number)
    }

    /// Retention deletes the oldest `share` of a log. What of it nobody had finished is lost.
    pub(super) fn retain(&mut self, place: &Place, keep: usize) {
        let Some(log) = self.logs.get(place) else { return };
        let doomed: Vec<Entry> = log.entries.iter().take(log.entries.len().saturating_sub(keep)).cloned().collect();
        let Some(start) = doomed.last().map(|e| e.offset + 1) else { return };
        for entry in &doomed {
            if !self.is_finished(entry) {
                self.facts.push(Fact::DeletedUnread(entry.id.to_string()));
            }
        }
        let Some(log) = self.logs.get_mut(place) else { return };
        log.entries.drain(..doomed.len());
        log.start = start;
        self.version += 1;
    }

    /// The topic is made anew: empty, its commits as they were. What of it nobody had finished is lost with it.
    pub(super) fn recreate(&mut self, topic: &str) {
        let places: Vec<Place> = self.logs.keys().filter(|(t, _)| &**t == topic).cloned().collect();
        for place in places {
            self.retain(&place, 0);
            if let Some(log) = self.logs.get_mut(&place) {
                *log = Log { made: log.made + 1, ..Log::default() };
            }
        }
    }

    pub(super) fn records(&self, place: &Place, from: i64, max: usize) -> Vec<Record> {
        let Some(log) = self.logs.get(place) else { return Vec::new() };
        let record = |e: &Entry| Record {
            position: Position { topic: Arc::clone(&place.0), partition: place.1, offset: e.offset },
            timestamp: e.timestamp,
            key: e.key.clone(),
            value: e.value.clone(),
            headers: e.headers.clone(),
        };
        log.from(from).take(max).map(record).collect()
    }

    // --- appends

    /// A producer is asked to append.
    pub(super) fn submit(&mut self, replica: u64, record: NewRecord) -> u64 {
        let (number, sent, id) = (self.number(), self.now(), id_of(&record.headers));
        let way = self.mood.slow;
        let at = sent + self.up_to(way);
        let append =
            Append { replica, id, record: Some(record), sent, appended: None, answered: None, read: None, waker: None, orphan: false };
        self.appends.insert(number, append);
        self.later(at, Later::Append(number));
        number
    }

    /// The answer, if it is there; else remembers whom to wake.
    pub(super) fn answered(&mut self, number: u64, waker: &Waker) -> Option<Result<UnixMillis, String>> {
        let now = self.now();
        let append = self.appends.get_mut(&number)?;
        match append.answered {
            Some(_) => append.read = Some(now),
            None => append.waker = Some(waker.clone()),
        }
        append.answered.clone().map(|(_, result)| result)
    }

    /// The one who asked is gone: what is on its way may still arrive.
    pub(super) fn orphan(&mut self, number: u64) {
        let lost = self.chance.bool();
        let Some(append) = self.appends.get_mut(&number).filter(|a| a.answered.is_none()) else { return };
        append.orphan = true;
        if lost && append.appended.is_none() {
            append.record = None;
        }
    }

    fn append(&mut self, number: u64) {
        let now = self.now();
        let Some(append) = self.appends.get_mut(&number) else { return };
        let Some(record) = append.record.take() else { return };
        let (id, replica, sent) = (Arc::clone(&append.id), append.replica, append.sent);
        if self.mood.refuses.is_some_and(|part| record.topic.contains(part)) {
            append.answered = Some((now, Err("TopicAuthorizationFailed".to_owned())));
            let (replica, only) = (Some(format!("r{replica}")), [id.to_string()].into());
            self.facts.push(Fact::Exposure(Exposure { cause: Cause::Refused, replica, since_ms: i64::MIN, at_ms: millis(now), only }));
            return self.answer(number);
        }
        append.appended = Some(now);
        let NewRecord { topic, key, value, headers } = record;
        let attempts = header(&headers, name::ATTEMPTS).and_then(|a| a.parse().ok()).unwrap_or(0);
        let (sent_ms, at_ms, by) = (Some(millis(sent)), millis(now), Some(format!("r{replica}")));
        if &*topic == "callbackd.dead-letter" {
            let reason = header(&headers, name::REASON).unwrap_or("").to_owned();
            let replays = header(&headers, name::REPLAYS).and_then(|r| r.parse().ok()).unwrap_or(0);
            let letter = Letter { id: id.to_string(), replica: by, sent_ms, at_ms, reason, attempts, replays, body_right: true };
            self.facts.push(Fact::Letter(letter));
        } else {
            self.facts.push(Fact::Requeue(Requeue { id: id.to_string(), replica: by, sent_ms, at_ms, attempts }));
        }
        let place = self.put(&topic, &id, key, value, headers);
        self.trace.note(now, "appended", number, || format!("{id} to {}/{} by r{replica}, {attempts} attempts", place.0, place.1));
        let way = self.mood.slow;
        let at = now + self.up_to(way);
        self.later(at, Later::Answer(number));
    }

    fn answer(&mut self, number: u64) {
        let now = self.now();
        let Some(append) = self.appends.get_mut(&number) else { return };
        let appended = EPOCH.plus(append.appended.unwrap_or(now));
        append.answered.get_or_insert((now, Ok(appended)));
        if let Some(waker) = append.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn appends_under_way(&self) -> bool {
        self.appends.values().any(|a| a.answered.is_none() && !a.orphan)
    }

    // --- groups

    /// A commit; `None`: the answer comes later.
    pub(super) fn commit(&mut self, class: Class, member: Member, points: Vec<(Place, CommitPoint)>, wait: bool) -> Result<(), String> {
        let asked = self.now();
        let given = &self.group(class).given;
        let points: Points =
            points.into_iter().map(|(place, point)| (place.clone(), given.get(&place).copied().unwrap_or(0), point)).collect();
        if wait {
            // What the client sent before arrives before.
            let earlier: Vec<_> = self
                .agenda
                .iter()
                .filter(|(_, l)| matches!(l, Later::Commit { class: c, member: m, .. } if (*c, *m) == (class, member)))
                .map(|(k, _)| *k)
                .collect();
            for key in earlier {
                if let Some(Later::Commit { class, member, points, asked }) = self.agenda.remove(&key) {
                    let result = if self.mood.down { Err("TimedOut".to_owned()) } else { self.apply(class, member, &points, asked) };
                    self.group(class).answer(member, result);
                }
            }
            if self.mood.down {
                return Err("TimedOut".to_owned());
            }
            return self.apply(class, member, &points, asked);
        }
        let way = self.mood.slow;
        let at = asked + self.up_to(way);
        self.later(at, Later::Commit { class, member, points, asked });
        Ok(())
    }

    fn apply(&mut self, class: Class, member: Member, points: &[(Place, u64, CommitPoint)], asked: Duration) -> Result<(), String> {
        let fails = self.chance.u32(0..100) < self.mood.commits_fail;
        if fails && self.chance.bool() {
            return Err("RebalanceInProgress".to_owned());
        }
        let group = self.group(class);
        if points.iter().any(|(place, given, _)| group.owner(place) != Some(member) || group.given.get(place) != Some(given)) {
            return Err("IllegalGeneration".to_owned());
        }
        if points.iter().any(|(_, _, point)| point.metadata.len() > MAX_METADATA) {
            return Err("OffsetMetadataTooLarge".to_owned());
        }
        for (place, _, point) in points {
            let before = self.group(class).commits.insert(place.clone(), (point.offset, point.metadata.clone()));
            self.group(class).asked.insert(place.clone(), asked);
            self.witness(class, place, before.map(|(offset, _)| offset), point);
            self.trace.note(asked, "committed", point.offset.cast_unsigned(), || {
                format!("{class} {}/{} {} by r{member}", place.0, place.1, point.offset)
            });
        }
        if fails { Err("RequestTimedOut".to_owned()) } else { Ok(()) }
    }

    fn witness(&mut self, class: Class, place: &Place, before: Option<i64>, point: &CommitPoint) {
        let Some(log) = self.logs.get(place) else { return };
        if before == Some(point.offset) && point.metadata.len() < 2_000 {
            return;
        }
        let unfinished = log.from(before.unwrap_or(log.start)).take_while(|e| e.offset < point.offset).find(|e| !self.is_finished(e));
        let lowest_unfinished = unfinished.map(|e| e.offset);
        let commit = Commit {
            at_ms: millis(self.now()),
            place: format!("{class} {}/{} made {}", place.0, place.1, log.made),
            offset: point.offset,
            lowest_unfinished,
            metadata: point.metadata.len(),
        };
        self.facts.push(Fact::Commit(commit));
    }

    /// Events of which a record stands at or above the commit.
    fn at_risk(&self, class: Class, place: &Place) -> BTreeSet<String> {
        let (Some(group), Some(log)) = (self.groups.get(&class.index()), self.logs.get(place)) else { return BTreeSet::new() };
        let from = group.commits.get(place).map_or(log.start, |(offset, _)| *offset);
        log.from(from).map(|e| e.id.to_string()).collect()
    }

    /// Work of `replica` on `place` since `since` may be done again, because of a fault that happens now.
    pub(super) fn expose(&mut self, cause: Cause, replica: u64, class: Class, place: &Place, since: Duration) {
        let only = self.at_risk(class, place);
        self.expose_these(cause, replica, since, only);
    }

    pub(super) fn expose_these(&mut self, cause: Cause, replica: u64, since: Duration, only: BTreeSet<String>) {
        if only.is_empty() {
            return;
        }
        let (at_ms, by) = (millis(self.now()), Some(format!("r{replica}")));
        // What was sent and not known to be appended when the last commit was asked for: that, and the attempt that led to it.
        let late = |a: &&Append| {
            let unknown = a.read.is_none_or(|at| at >= since);
            a.replica == replica && unknown && only.contains(&*a.id)
        };
        let late: Vec<(i64, String)> = self.appends.values().filter(late).map(|a| (millis(a.sent), a.id.to_string())).collect();
        for (since_ms, id) in late {
            self.facts.push(Fact::Exposure(Exposure { cause, replica: by.clone(), since_ms, at_ms, only: [id].into() }));
        }
        self.facts.push(Fact::Exposure(Exposure { cause, replica: by, since_ms: millis(since), at_ms, only }));
    }

    /// Where retention has overtaken a commit, the map beside it has lost the record that vouches for it and is discarded: its work is done
    /// again.
    pub(super) fn expose_overtaken(&mut self, class: Class, places: &[Place]) {
        for place in places {
            let Some((offset, metadata)) = self.group(class).commits.get(place).cloned() else { continue };
            if !metadata.is_empty() && self.logs.get(place).is_some_and(|log| offset < log.start) {
                let (only, at_ms) = (self.at_risk(class, place), millis(self.now()));
                self.facts.push(Fact::Exposure(Exposure { cause: Cause::OffsetsReset, replica: None, since_ms: i64::MIN, at_ms, only }));
            }
        }
    }

    /// When the last accepted commit of `place` was asked for, or when the place was assigned.
    pub(super) fn since(&mut self, class: Class, place: &Place) -> Duration {
        self.group(class).asked.get(place).copied().unwrap_or_default()
    }

    pub(super) fn join(&mut self, class: Class, member: Member) {
        self.group(class).join(member);
        self.rebalance(class);
    }

    pub(super) fn rebalance(&mut self, class: Class) {
        let now = self.now();
        let told = self.group(class).reconcile(now);
        if told {
            self.version += 1;
        }
    }

    /// A member that is not heard of any more is expelled after the session time-out.
    pub(super) fn expel_later(&mut self, class: Class, member: Member, after: Duration) {
        let at = self.now() + after;
        self.later(at, Later::Expel { class, member });
    }

    fn expel(&mut self, class: Class, member: Member) {
        if !self.group(class).is_silent(member) {
            return;
        }
        for place in self.group(class).owned(member) {
            let (since, only) = (self.since(class, &place), self.at_risk(class, &place));
            self.group(class).losses.push((member, place, since, only));
        }
        self.trace.note(self.now(), "expelled", member, || format!("r{member} from {class}"));
        self.group(class).expel(member);
        self.rebalance(class);
    }

    /// A member learned that these were taken from it, or died: from now on it does not work on them.
    pub(super) fn loss_learned(&mut self, class: Class, member: Member, only: Option<&[Place]>) {
        let losses = std::mem::take(&mut self.group(class).losses);
        let (theirs, others) = losses.into_iter().partition(|(m, p, ..)| *m == member && only.is_none_or(|only| only.contains(p)));
        self.group(class).losses = others;
        for (_, _, since, ids) in theirs {
            self.expose_these(Cause::PartitionsLost, member, since, ids);
        }
    }

    /// Where each group stands: its commits and the logs' ends.
    pub(super) fn stands(&self) -> Vec<(Class, Place, Option<i64>, i64)> {
        let of = |(place, log): (&Place, &Log)| {
            let class = class_of(&place.0)?;
            let committed = self.groups.get(&class.index()).and_then(|g| g.commits.get(place)).map(|(offset, _)| *offset);
            Some((class, place.clone(), committed, log.next))
        };
        self.logs.iter().filter_map(of).collect()
    }
}
