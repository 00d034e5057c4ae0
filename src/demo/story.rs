//! What happens, in order: start, produce, settle, repair and replay, account.

use super::Options;
use super::daemon::{Daemon, Directory, log_into};
use super::ledger::{Account, Ledger, Outcome as Ending};
use super::picture::{Picture, print_account};
use super::receiver::Receiver;
use super::scene::{self, Behaviour, Case, PREFIX, SOURCE, TIERS};
use crate::app;
use crate::delivery::ports::Outbox as _;
use crate::domain::dead_letter::Reason;
use crate::domain::headers::DeadLetter;
use crate::domain::id::DomainName;
use crate::domain::record::{Header, NewRecord};
use crate::kafka::client::ClientSettings;
use crate::kafka::embedded::EmbeddedCluster;
use crate::kafka::outbox::{Observers, Outbox};
use crate::kafka::reader::Reader;
use crate::kafka::replay;
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::MissedTickBehavior;

const PARTITIONS: i32 = 3;
/// Three groups of the embedded broker form in about four seconds.
const START_LIMIT: Duration = Duration::from_secs(30);
/// From the last event, or the last replayed letter, until all are settled: the longest schedules here take under ten seconds.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// The daemon's own drain time-out, and leaving its groups.
const DRAIN_LIMIT: Duration = Duration::from_secs(25);
const FRAME: Duration = Duration::from_millis(200);

/// Everything that is there while the story is told.
struct Stage<'a> {
    cases: Arc<Vec<Case>>,
    ledger: Arc<Ledger>,
    receiver: Receiver,
    daemon: Daemon,
    picture: Picture,
    out: &'a mut dyn Write,
}

/// Tells the whole story; true when the account balanced and every signature was verified.
pub(super) async fn tell(options: Options, out: &mut dyn Write, terminal: bool) -> anyhow::Result<bool> {
    let mut directory = Directory::new().context("a directory for the demo's files")?;
    let told = acts(options, out, terminal, &directory).await;
    // A reader of the output that has gone wanted no more.
    let unread = |error: &anyhow::Error| error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    let well = match &told {
        Ok(balanced) => *balanced,
        Err(error) => unread(error),
    };
    if !well {
        directory.keep();
        writeln!(out, "what the daemon said about it is in {}", directory.log().display())?;
    }
    told
}

async fn acts(options: Options, out: &mut dyn Write, terminal: bool, directory: &Directory) -> anyhow::Result<bool> {
    let Options { seconds, rate, keep } = options;
    let cases = Arc::new(scene::cases());
    let ledger = Arc::new(Ledger::new(cases.len()));
    log_into(directory, ledger.clone())?;
    let names = topics();
    let cluster = EmbeddedCluster::start(&names.iter().map(|name| (name.as_str(), PARTITIONS)).collect::<Vec<_>>())?;
    let receiver = Receiver::start(cases.clone(), ledger.clone()).context("the receivers")?;
    writeln!(out, "callbackd demo: everything in this process, nothing is kept")?;
    writeln!(out, "  broker     {}, in memory", cluster.bootstrap_servers())?;
    writeln!(out, "  receivers  http://{}, {} push domains, most of them trouble", receiver.address(), cases.len())?;
    writeln!(out, "  starting   the daemon's three consumers join their groups, a few seconds …")?;
    out.flush()?;

    let daemon = Daemon::start(directory, &cases, cluster.bootstrap_servers(), receiver.address())?;
    let client = app::client_settings(&daemon.settings);
    let mut stage = Stage { cases: cases.clone(), ledger, receiver, daemon, picture: Picture::new(&cases, false), out };
    stage.start().await?;
    stage.picture = Picture::new(&cases, terminal);
    read_letters(&client, stage.ledger.clone())?;
    let outbox = Outbox::new(&client, Observers { fatal: Box::new(|_| {}), appended: Box::new(|_| {}) })?;
    let number = seconds.saturating_mul(rate);
    stage.produce(&outbox, number, rate).await?;
    stage.settle("all produced, settling what is being retried").await?;
    let replayed = stage.replay(&client).await?;
    stage.picture.end();
    if let Some(text) = replayed {
        writeln!(stage.out, "{text}")?;
    }
    if keep {
        stage.stay().await?;
    }
    let Stage { ledger, daemon, out, .. } = stage;
    let cut = daemon.drain(DRAIN_LIMIT).await?;
    let account = ledger.account();
    let printed = close(&account, &cases, cut, out);
    // With the account made, nobody needs to read it.
    printed.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
    Ok(account.is_balanced() && account.is_verified())
}

/// The end of the story.
fn close(account: &Account, cases: &[Case], cut: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    print_account(account, cases, out)?;
    writeln!(out, "stop        the daemon drained, {cut} attempts cut")
}

fn topics() -> Vec<String> {
    let mut names: Vec<String> = TIERS.iter().map(|tier| format!("{PREFIX}.retry.{tier}")).collect();
    names.extend([SOURCE.to_owned(), format!("{PREFIX}.replay"), format!("{PREFIX}.dead-letter")]);
    names
}

/// Follows the dead-letter topic until the process ends.
fn read_letters(client: &ClientSettings, ledger: Arc<Ledger>) -> anyhow::Result<()> {
    let mut reader = Reader::from_start(client, &client.dead_letter_topic()).context("reading dead letters")?;
    thread::Builder::new().name("letters".into()).spawn(move || {
        // The story holds the ledger as long as letters matter.
        while Arc::strong_count(&ledger) > 1 {
            if let Some(record) = reader.poll(Duration::from_millis(100)) {
                ledger.ended(DeadLetter::read(&record).chain.id.as_str(), Ending::DeadLettered);
            }
        }
    })?;
    Ok(())
}

fn unix_now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

impl Stage<'_> {
    fn show(&mut self, doing: &str) -> anyhow::Result<()> {
        let account = self.ledger.account();
        Ok(self.picture.show(doing, &account, &self.cases, self.receiver.age(), self.out)?)
    }

    /// Waits until the daemon is ready.
    async fn start(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let reasons = tokio::select! {
                error = self.daemon.ended() => return Err(error),
                () = tokio::time::sleep(FRAME) => self.daemon_is_not_ready().await,
            };
            match reasons {
                None => break,
                Some(reasons) if start.elapsed() > START_LIMIT => anyhow::bail!("the daemon is not ready after {START_LIMIT:?}: {reasons}"),
                Some(_) => {}
            }
        }
        writeln!(self.out, "  ready      after {:.1} s\n", start.elapsed().as_secs_f64())?;
        Ok(self.out.flush()?)
    }

    async fn daemon_is_not_ready(&self) -> Option<String> {
        self.daemon.readiness().await.err()
    }

    /// Shows `doing` until `work` is done or the daemon ends.
    async fn show_while<T>(&mut self, doing: &str, work: impl Future<Output = T>) -> anyhow::Result<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                error = self.daemon.ended() => return Err(error),
                () = tokio::time::sleep(FRAME) => self.show(doing)?,
            }
        }
    }

    /// Produces `number` events, `rate` a second.
    async fn produce(&mut self, outbox: &Outbox, number: u32, rate: u32) -> anyhow::Result<()> {
        let (cases, ledger) = (self.cases.clone(), self.ledger.clone());
        let producing = async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut pending = FuturesUnordered::new();
            let mut next = 0;
            while next < number || !pending.is_empty() {
                tokio::select! {
                    Some(appended) = pending.next(), if !pending.is_empty() => { let _: crate::delivery::ports::Appended = appended?; }
                    _ = ticks.tick(), if next < number => {
                        pending.push(outbox.append(event(next, &cases, &ledger)));
                        next += 1;
                    }
                }
            }
            Ok::<(), crate::delivery::ports::Refused>(())
        };
        let doing = format!("producing {rate} events a second");
        self.show_while(&doing, producing).await?.context("producing")
    }

    /// Waits until every event has an outcome.
    async fn settle(&mut self, doing: &str) -> anyhow::Result<()> {
        let ledger = self.ledger.clone();
        let settled = async move {
            while ledger.account().oldest.is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // What is not settled then is told by the account.
        let _ = self.show_while(doing, tokio::time::timeout(SETTLE_LIMIT, settled)).await?;
        self.show(doing)
    }

    /// Repairs the broken receiver and replays its dead letters, as an operator would; what to say about it.
    async fn replay(&mut self, client: &ClientSettings) -> anyhow::Result<Option<String>> {
        let Some(index) = self.cases.iter().position(|case| case.behaviour == Behaviour::Broken) else { return Ok(None) };
        let (name, ledger) = (self.cases[index].domain, self.ledger.clone());
        let letters = ledger.account().cases[index].dead_lettered;
        if letters == 0 {
            return Ok(None);
        }
        self.receiver.repair();
        let filters = replay::Filters {
            domains: DomainName::parse(name).into_iter().collect(),
            reasons: vec![Reason::AttemptsExhausted],
            ..Default::default()
        };
        let options =
            replay::Options { dry_run: false, rate: None, again: false, replay_limit: self.daemon.settings.delivery.replay_limit };
        let client = client.clone();
        let job = tokio::task::spawn_blocking(move || replay::run(&client, &filters, options, &mut |_| {}));
        let doing = format!("{name} is repaired: its {letters} dead letters are replayed");
        let copied = self.show_while(&doing, job).await?.context("the replay panicked")?.context("the replay")?.total().copied;
        let delivered = async move {
            while ledger.account().cases[index].dead_lettered > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let in_time = self.show_while(&doing, tokio::time::timeout(SETTLE_LIMIT, delivered)).await?.is_ok();
        self.show(&doing)?;
        let outcome = if in_time { "all delivered" } else { "not all delivered in time" };
        Ok(Some(format!(
            "\nreplay      {name} was repaired, {copied} of {letters} dead letters put back: {outcome}\n            \
             as by: callbackd replay --domain {name} --reason attempts_exhausted"
        )))
    }

    /// Keeps everything up until Ctrl-C or SIGTERM.
    async fn stay(&mut self) -> anyhow::Result<()> {
        let metrics = self.daemon.metrics;
        writeln!(self.out, "\nstill up; Ctrl-C drains and prints the account")?;
        for path in ["metrics", "readyz", "livez"] {
            writeln!(self.out, "  http://{metrics}/{path}")?;
        }
        writeln!(self.out, "  http://{}/<first label of the domain>   the receivers, POST only", self.receiver.address())?;
        self.out.flush()?;
        tokio::select! {
            error = self.daemon.ended() => Err(error),
            () = super::interrupted() => Ok(()),
        }
    }
}

/// The `n`th event as a record; from here on the account knows it.
fn event(n: u32, cases: &[Case], ledger: &Ledger) -> NewRecord {
    let index = scene::case_of(cases, n);
    let (id, domain) = (scene::event_id(n), cases[index].domain);
    let value = scene::event(n, domain, unix_now());
    ledger.produced(id.clone(), index, value.clone());
    NewRecord {
        topic: SOURCE.into(),
        key: Some(Bytes::from_static(domain.as_bytes())),
        value: Some(value),
        headers: vec![Header { name: "callbackd-id".into(), value: Some(Bytes::from(id)) }],
    }
}
