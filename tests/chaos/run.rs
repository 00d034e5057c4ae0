//! One run, from the start of the brokers to the checker's report.

use super::commits::Watch;
use super::faults::{Hand, schedule};
use super::fleet::{End, Fleet};
use super::load::{Load, Plan};
use super::sites::Sites;
use super::story::{self, Standing, Story};
use super::{DRAIN, Millis, SESSION, TIMEOUT, registry};
use crate::checker::{Report, judge};
use crate::harness::broker::Broker;
use crate::harness::kafka::{self, is_finished, standing};
use crate::harness::processes::run_dir;
use crate::harness::scene::Scene;
use crate::harness::{SOON, await_true};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PARTITIONS: usize = 6;
const ENDPOINTS: usize = 12;
const REPLICAS: usize = 3;
/// How many events the dead endpoint gets in a run: one probe at a time must get through them.
const DEAD_EVENTS: usize = 10;
const QUIET: Duration = Duration::from_secs(180);

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) seed: u64,
    pub(crate) events: usize,
    pub(crate) faults: usize,
    /// Events a second.
    pub(crate) rate: usize,
    pub(crate) brokers: usize,
}

/// What came of it.
pub(crate) struct Outcome {
    terms: Terms,
    pub(crate) report: Report,
    /// The history's file.
    pub(crate) history: PathBuf,
    launches: usize,
    kills: usize,
    lost_partitions: usize,
    soon_committed: usize,
    load: Duration,
    quiet: Duration,
}

pub(crate) const HEAD: &str = "  seed brokers faults launches kills lost | produced unknown delivered dead requests | repeats allowed ambiguous forks | committed load quiet violations";

impl Outcome {
    /// For the table.
    pub(crate) fn line(&self) -> String {
        let (terms, figures) = (&self.terms, &self.report.figures);
        format!(
            "{:>6} {:>7} {:>6} {:>8} {:>5} {:>4} | {:>8} {:>7} {:>9} {:>4} {:>8} | {:>7} {:>7} {:>9} {:>5} | {:>8}% {:>3}s {:>4}s {:>10}",
            terms.seed,
            terms.brokers,
            terms.faults,
            self.launches,
            self.kills,
            self.lost_partitions,
            figures.produced,
            figures.unknown,
            figures.delivered,
            figures.dead,
            figures.requests,
            figures.repeats,
            figures.allowed,
            figures.ambiguous,
            figures.forks,
            self.soon_committed,
            self.load.as_secs(),
            self.quiet.as_secs(),
            self.report.violations.len(),
        )
    }
}

/// A scene on brokers of its own, with topics, ready for a fleet.
pub(crate) struct Stage {
    pub(crate) brokers: Vec<Broker>,
    pub(crate) scene: Scene,
    pub(crate) sites: Sites,
}

impl Stage {
    /// With `endpoints` that answer and one that does not.
    pub(crate) fn set(name: &str, brokers: usize, partitions: usize, endpoints: usize, events: usize) -> Self {
        let data = run_dir().join(format!("brokers-of-{name}"));
        let brokers = Broker::start_cluster(&data, brokers).unwrap_or_else(|why| panic!("{why}"));
        let bootstrap: Vec<&str> = brokers.iter().map(|b| b.bootstrap.as_str()).collect();
        let mut scene = Scene::without_topics(name, &bootstrap.join(","));
        let replicas = if brokers.len() >= 3 { 3 } else { 1 };
        kafka::create_replicated_topic(&scene.bootstrap, scene.source(), partitions as i32, replicas, &[]);
        let sites = Sites::start(endpoints, events, Duration::from_millis(TIMEOUT as u64));
        scene.registry = registry(endpoints, |n| sites.url(n));
        scene.tiers = vec!["500ms", "2s", "10s"];
        scene.log_level = "info";
        scene.create_topics();
        // Each broker hears of new topics by itself.
        let ours =
            scene.tiers.iter().map(|tier| scene.tier_topic(tier)).chain([scene.dead_letter_topic(), format!("{}.replay", scene.prefix)]);
        for topic in ours {
            for broker in &brokers {
                await_true("every broker knows every topic", SOON, || kafka::partitions(&broker.bootstrap, &topic) == partitions as i32);
            }
        }
        Self { brokers, scene, sites }
    }
}

/// Everything that callbackd reads: group and topic.
pub(crate) fn read_topics(scene: &Scene) -> Vec<(String, String)> {
    let mut all = vec![(scene.group.clone(), scene.source().to_string())];
    all.extend(scene.tiers.iter().map(|tier| (scene.retry_group(), scene.tier_topic(tier))));
    all
}

pub(crate) fn run(terms: &Terms) -> Outcome {
    let mut random = fastrand::Rng::with_seed(terms.seed);
    let name = format!("chaos-{}", terms.seed);
    let Stage { mut brokers, mut scene, sites } = Stage::set(&name, terms.brokers, PARTITIONS, ENDPOINTS, terms.events);
    scene.delivery = format!("drain_timeout = \"{DRAIN}ms\"\ncircuit = {{ failures = 5, pause = \"500ms\", max_pause = \"1s\" }}");
    scene.kafka = format!("[kafka.properties]\n\"session.timeout.ms\" = \"{SESSION}\"\n\"heartbeat.interval.ms\" = \"1500\"");
    let (bootstrap, source, groups) = (scene.bootstrap.clone(), scene.source().to_string(), read_topics(&scene));

    let dead_stride = (terms.events / DEAD_EVENTS).max(1);
    let endpoints: Vec<usize> =
        (0..terms.events).map(|n| if n % dead_stride == dead_stride / 2 { ENDPOINTS } else { random.usize(..ENDPOINTS) }).collect();
    let time = (terms.events * 1000 / terms.rate) as Millis;
    let plan = schedule(&mut random, terms.faults, time, SESSION);

    let mut fleet = Fleet::new(scene);
    for _ in 0..REPLICAS {
        fleet.launch();
    }
    fleet.wait_ready();
    let mut watched: Vec<(String, Vec<String>)> = Vec::new();
    for (group, topic) in &groups {
        match watched.iter_mut().find(|(g, _)| g == group) {
            Some((_, topics)) => topics.push(topic.clone()),
            None => watched.push((group.clone(), vec![topic.clone()])),
        }
    }
    let watch = Watch::start(&bootstrap, &watched, PARTITIONS as i32);
    let began = Instant::now();
    let load = Load::start(Plan {
        bootstrap: bootstrap.clone(),
        topic: source.clone(),
        partitions: PARTITIONS,
        events: terms.events,
        rate: terms.rate,
        endpoints,
    });
    let mut hand = Hand::new(&mut fleet, &mut brokers, &sites, ENDPOINTS);
    hand.perform(&plan, || !load.is_over());
    let faults = std::mem::take(&mut hand.happened);
    let sent = load.finish();
    for broker in &mut brokers {
        broker.wait_up(terms.brokers).unwrap_or_else(|why| panic!("{why}"));
    }
    let loaded = began.elapsed();

    // Quiet: every record of the source and of the tiers is finished, and a moment later it still is.
    let calm = Instant::now();
    let mut quiet_before = false;
    while calm.elapsed() < QUIET {
        let is_quiet = groups.iter().all(|(group, topic)| is_finished(&standing(&bootstrap, group, topic)));
        if is_quiet && quiet_before {
            break;
        }
        quiet_before = is_quiet;
        fleet.tend();
        std::thread::sleep(Duration::from_millis(500));
    }
    let quiet = calm.elapsed();
    let (lives, mut scene) = fleet.finish(Duration::from_secs(40));
    let commits = watch.finish();

    let in_source = kafka::read_all(&bootstrap, &source);
    let story = Story {
        source,
        sources: in_source.iter().filter_map(|r| Some((story::number(r)?, (r.partition, r.offset)))).collect(),
        groups: (scene.group.clone(), scene.retry_group()),
        endpoints: ENDPOINTS,
        sent,
        seen: sites.log(),
        tiers: scene.tiers.iter().map(|tier| scene.tier_topic(tier)).map(|t| (t.clone(), kafka::read_all(&bootstrap, &t))).collect(),
        letters: scene.dead_letters(),
        commits,
        lives,
        faults,
        ends: groups.iter().map(|(g, t)| Standing { group: g.clone(), topic: t.clone(), partitions: standing(&bootstrap, g, t) }).collect(),
        appended: Default::default(),
    }
    .ordered();
    let history = story.history();
    let report = judge(&history);
    let file = run_dir().join(format!("{name}.history.jsonl"));
    if !report.violations.is_empty() {
        std::fs::write(&file, history.lines()).unwrap();
        let faults: Vec<String> =
            story.faults.iter().map(|f| format!("{f:?}")).chain(story.lives.iter().map(|l| format!("{l:?}"))).collect();
        std::fs::write(file.with_extension("faults"), faults.join("\n")).unwrap();
        scene.kept = true;
    }
    drop(brokers);
    let _ = std::fs::remove_dir_all(run_dir().join(format!("brokers-of-{name}")));
    Outcome {
        terms: terms.clone(),
        report,
        history: file,
        launches: story.lives.len(),
        kills: story.lives.iter().filter(|l| matches!(l.ended, Some((_, End::Killed)))).count(),
        lost_partitions: story.lives.iter().map(|l| l.lost.len()).sum(),
        soon_committed: story.soon_committed(),
        load: loaded,
        quiet,
    }
}
