//! The job itself: reads, selects, and commits copies and offsets together.

use super::copier::{Copier, JobOffset, QUESTION};
use super::rights::Rights;
use super::{Filters, Options, Progress, ReplayError, Selected, Summary, Tally, select};
use crate::domain::dead_letter::Reason;
use crate::domain::headers::{DeadLetter, replay_headers};
use crate::domain::id::DomainName;
use crate::domain::record::{NewRecord, Record};
use crate::kafka::client::{ClientSettings, PlainContext, make};
use crate::kafka::lag::LagProbe;
use crate::kafka::record::{TopicNames, detach};
use crate::kafka::right::is_denied;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Copies in one transaction at most: about 2 ms of commit for 500 letters, and as many are done again after a kill.
const BATCH_COPIES: usize = 500;

/// Letters looked at before the offsets are committed, though none was selected.
const BATCH_LOOKED_AT: u64 = 10_000;

/// Bytes of copies in one transaction at most: well within the client's send buffer of 32 MiB.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How long one try of a question may take to which the client may get no answer; see [`committed`].
const SHORT_QUESTION: Duration = Duration::from_secs(2);

/// Prefix of the metadata that a pass of `--again` writes beside its offsets: after it stands where the pass ends.
const AGAIN: &str = "again=";

/// How far the job is in one partition of the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lane {
    /// First offset not looked at.
    next: i64,
    /// Where this run ends: the end as of its start.
    end: i64,
    /// Where the pass of `--again` ends that this run, or an earlier one, belongs to.
    pass_end: Option<i64>,
    /// Where it started, for the progress.
    start: i64,
}

/// What is known of a partition before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    low: i64,
    high: i64,
    committed: Option<i64>,
    pass_end: Option<i64>,
}

/// Where each partition starts, and whether that must be committed first (a new pass of `--again` begins).
fn starts(known: &BTreeMap<i32, Known>, again: bool) -> (BTreeMap<i32, Lane>, bool) {
    // A commit beyond the end belongs to a topic of the same name that was deleted.
    let resume = |k: &Known| k.committed.filter(|next| *next <= k.high).unwrap_or(k.low).max(k.low);
    let unfinished = known.values().any(|k| k.pass_end.is_some_and(|end| resume(k) < end.min(k.high)));
    let fresh_pass = again && !unfinished;
    let lanes = known.iter().map(|(partition, k)| {
        let (next, pass_end) = if fresh_pass { (k.low, Some(k.high)) } else { (resume(k), k.pass_end) };
        (*partition, Lane { next, end: k.high, pass_end, start: next })
    });
    (lanes.collect(), fresh_pass)
}

/// A letter's place in the summary.
type Row = (Option<Reason>, Option<DomainName>);

/// What is to be committed together.
#[derive(Default)]
struct Batch {
    copies: Vec<NewRecord>,
    /// For each copy, its row in the summary.
    rows: Vec<Row>,
    bytes: usize,
    looked_at: u64,
}

/// Runs the job of `filters` to the end that the dead-letter topic has now. Blocks; for a thread of its own or the command line. Killed at
/// any moment, the same call goes on from the last commit. `progress` hears of each batch.
///
/// # Errors
/// See [`ReplayError`].
pub fn run(
    settings: &ClientSettings,
    filters: &Filters,
    options: Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, ReplayError> {
    let name = format!("{}.replay-job.{}", settings.group, filters.hash());
    let letters = settings.dead_letter_topic();
    let copier = if options.dry_run { None } else { Some(Copier::start(settings, &name)?) };
    let reader: BaseConsumer<PlainContext> = make(&settings.reader(&name), PlainContext::new(settings))?;
    let rights = Rights::of(settings, &name);
    let known = known(settings, &reader, &letters, &rights)?;
    let (lanes, fresh_pass) = starts(&known, options.again);
    let before = known.iter().map(|(p, k)| lanes.get(p).map_or(0, |lane| lane.next.saturating_sub(k.low))).sum::<i64>();
    let total = lanes.values().map(|lane| lane.end.saturating_sub(lane.next)).sum::<i64>();
    let mut job = Job {
        letters,
        replay: settings.replay_topic().into(),
        lanes,
        batch: Batch::default(),
        progress: Progress { total: unsigned(total), ..Progress::default() },
        summary: Summary { job: name, before: unsigned(before), ..Summary::default() },
        pace: options.rate.map(Pace::new),
        rights,
        filters,
        options,
    };
    if let (true, Some(copier)) = (fresh_pass, &copier) {
        copier.commit(&[], &job.offsets(), &reader)?;
    }
    job.assign(&reader)?;
    progress(job.progress);
    job.read(&reader, copier.as_ref(), progress)?;
    Ok(job.summary)
}

fn known(
    settings: &ClientSettings,
    reader: &BaseConsumer<PlainContext>,
    letters: &str,
    rights: &Rights,
) -> Result<BTreeMap<i32, Known>, ReplayError> {
    let probe = LagProbe::new(settings)?;
    let partitions = probe.partitions(letters)?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(letters, 0, partitions - 1);
    // The list holds references into the client: it must be gone before the client is.
    let committed: BTreeMap<i32, (Option<i64>, Option<i64>)> = {
        let answer = committed(reader, &asked).map_err(|e| rights.reading("reading the job's offsets", &e))?;
        answer
            .elements()
            .iter()
            .map(|e| {
                let offset = match e.offset() {
                    Offset::Offset(next) => Some(next),
                    Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
                };
                (e.partition(), (offset, e.metadata().strip_prefix(AGAIN).and_then(|end| end.parse().ok())))
            })
            .collect()
    };
    (0..partitions)
        .map(|partition| {
            let (low, high) = probe.watermarks(letters, partition)?;
            let (committed, pass_end) = committed.get(&partition).copied().unwrap_or_default();
            Ok((partition, Known { low, high, committed, pass_end }))
        })
        .collect()
}

/// Asks for the group's offsets. For a group that is refused the client finds no coordinator and waits in vain, while the refusal arrives
/// as an event beside: so the question is asked in short tries.
fn committed(reader: &BaseConsumer<PlainContext>, asked: &TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    let until = Instant::now() + QUESTION;
    loop {
        let error = match reader.committed_offsets(asked.clone(), SHORT_QUESTION) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.rdkafka_error_code() != Some(Code::OperationTimedOut) || Instant::now() >= until {
            return Err(error);
        }
        if let Some(Err(told)) = reader.poll(Duration::ZERO)
            && told.rdkafka_error_code().is_some_and(is_denied)
        {
            return Err(told);
        }
    }
}

struct Job<'a> {
    letters: String,
    replay: Arc<str>,
    lanes: BTreeMap<i32, Lane>,
    batch: Batch,
    progress: Progress,
    summary: Summary,
    pace: Option<Pace>,
    rights: Rights,
    filters: &'a Filters,
    options: Options,
}

impl Job<'_> {
    fn assign(&self, reader: &BaseConsumer<PlainContext>) -> Result<(), ReplayError> {
        let mut list = TopicPartitionList::new();
        let failed = |error: KafkaError| self.rights.reading("starting to read", &error);
        for (partition, lane) in self.lanes.iter().filter(|(_, lane)| lane.next < lane.end) {
            list.add_partition_offset(&self.letters, *partition, Offset::Offset(lane.next)).map_err(failed)?;
        }
        reader.assign(&list).map_err(failed)
    }

    fn read(
        &mut self,
        reader: &BaseConsumer<PlainContext>,
        copier: Option<&Copier>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ReplayError> {
        let mut names = TopicNames::default();
        let mut quiet_since = Instant::now();
        while self.lanes.values().any(|lane| lane.next < lane.end) {
            match reader.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    quiet_since = Instant::now();
                    let record = detach(&message, &mut names).record;
                    drop(message);
                    self.look_at(&record);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // What is left below the end is no letter: markers of transactions.
                    if let Some(lane) = self.lanes.get_mut(&partition) {
                        lane.next = lane.end;
                    }
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::UnknownTopicOrPartition) => {
                        return Err(self.rights.reading("reading dead letters", &error));
                    }
                    Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                        return Err(ReplayError::Broker {
                            what: "reading dead letters",
                            cause: "letters expired while they were read".into(),
                        });
                    }
                    // Brokers come and go; the client goes on by itself.
                    Some(_) | None => {}
                },
                None => {
                    if quiet_since.elapsed() > QUESTION * 2 {
                        let cause = reader.context().take_trouble().unwrap_or_else(|| "no answer for a minute".into());
                        return Err(ReplayError::Broker { what: "reading dead letters", cause });
                    }
                }
            }
            if self.batch.is_full(self.pace.as_ref()) {
                self.settle(reader, copier, progress)?;
            }
        }
        self.settle(reader, copier, progress)
    }

    fn look_at(&mut self, record: &Record) {
        let Some(lane) = self.lanes.get_mut(&record.position.partition) else { return };
        if record.position.offset >= lane.end {
            lane.next = lane.end;
            return;
        }
        lane.next = record.position.offset + 1;
        self.batch.looked_at += 1;
        self.summary.looked_at += 1;
        let letter = DeadLetter::read(record);
        let row: Row = (letter.reason, letter.chain.domain.clone());
        match select(self.filters, self.options.replay_limit, &letter, record) {
            Selected::No => {}
            Selected::TooOften => {
                self.progress.selected += 1;
                self.summary.by.entry(row).or_default().add(Tally { selected: 1, replayed_too_often: 1, ..Tally::default() });
            }
            Selected::Yes => {
                self.progress.selected += 1;
                self.summary.by.entry(row.clone()).or_default().selected += 1;
                let copy = NewRecord {
                    topic: Arc::clone(&self.replay),
                    key: record.key.clone(),
                    value: record.value.clone(),
                    headers: replay_headers(record),
                };
                self.batch.bytes += record.cost();
                if !self.options.dry_run {
                    self.batch.copies.push(copy);
                    self.batch.rows.push(row);
                }
            }
        }
    }

    fn offsets(&self) -> Vec<JobOffset> {
        let metadata = |lane: &Lane| lane.pass_end.map_or(String::new(), |end| format!("{AGAIN}{end}"));
        self.lanes
            .iter()
            .map(|(partition, lane)| JobOffset {
                topic: self.letters.clone(),
                partition: *partition,
                next: lane.next,
                metadata: metadata(lane),
            })
            .collect()
    }

    fn settle(
        &mut self,
        reader: &BaseConsumer<PlainContext>,
        copier: Option<&Copier>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ReplayError> {
        let batch = std::mem::take(&mut self.batch);
        let moved = self.lanes.values().any(|lane| lane.next != lane.start);
        if let (Some(copier), true) = (copier, moved) {
            if let Some(pace) = &mut self.pace {
                pace.wait(batch.copies.len());
            }
            let too_large = copier.commit(&batch.copies, &self.offsets(), reader)?;
            for (index, row) in batch.rows.iter().enumerate() {
                let lost = too_large.contains(&index);
                let tally = if lost { Tally { too_large: 1, ..Tally::default() } } else { Tally { copied: 1, ..Tally::default() } };
                self.progress.copied += tally.copied;
                self.summary.by.entry(row.clone()).or_default().add(tally);
            }
        }
        self.progress.done = self.lanes.values().map(|lane| unsigned(lane.next.saturating_sub(lane.start))).sum();
        progress(self.progress);
        Ok(())
    }
}

impl Batch {
    fn is_full(&self, pace: Option<&Pace>) -> bool {
        let copies = pace.map_or(BATCH_COPIES, |pace| pace.batch.min(BATCH_COPIES));
        self.copies.len() >= copies || self.looked_at >= BATCH_LOOKED_AT || self.bytes >= BATCH_BYTES
    }
}

/// Spreads copies over time: a tenth of a second's worth at once.
struct Pace {
    rate: u32,
    batch: usize,
    next: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        Self { rate, batch: usize::try_from(rate / 10).unwrap_or(1).max(1), next: Instant::now() }
    }

    fn wait(&mut self, copies: usize) {
        let now = Instant::now();
        thread::sleep(self.next.saturating_duration_since(now));
        let copies = u32::try_from(copies).unwrap_or(u32::MAX);
        self.next = self.next.max(now) + Duration::from_secs(1) * copies / self.rate;
    }
}

fn unsigned(offsets: i64) -> u64 {
    u64::try_from(offsets).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(low: i64, high: i64, committed: Option<i64>, pass_end: Option<i64>) -> BTreeMap<i32, Known> {
        BTreeMap::from([(0, Known { low, high, committed, pass_end })])
    }

    #[test]
    fn a_run_starts_where_the_job_stopped_and_again_starts_a_pass_once() {
        // (low, high, committed, end of a pass, --again) -> (next, end of the pass, begins a pass)
        for ((low, high, committed, pass, again), expected) in [
            ((0, 10, None, None, false), (0, None, false)),
            ((3, 10, None, None, false), (3, None, false)),
            ((0, 10, Some(4), None, false), (4, None, false)),
            ((6, 10, Some(4), None, false), (6, None, false)),
            ((0, 10, Some(10), None, false), (10, None, false)),
            ((0, 10, Some(99), None, false), (0, None, false)),
            ((0, 10, Some(10), None, true), (0, Some(10), true)),
            ((0, 10, None, None, true), (0, Some(10), true)),
            ((0, 12, Some(4), Some(10), true), (4, Some(10), false)),
            ((0, 12, Some(4), Some(10), false), (4, Some(10), false)),
            ((0, 12, Some(10), Some(10), true), (0, Some(12), true)),
        ] {
            let (lanes, begins) = starts(&known(low, high, committed, pass), again);
            assert_eq!((lanes[&0].next, lanes[&0].pass_end, begins), expected, "{low} {high} {committed:?} {pass:?} {again}");
            assert_eq!(lanes[&0].end, high);
        }
    }
}
