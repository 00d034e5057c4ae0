//! The registry is rewritten again and again while events pour in: replaced as it should be, broken, shrunk, and written in place piece by
//! piece. No event is lost, none is judged by a file that was read half-way, and none waits for it.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, registry_of};
use crate::harness::Over;
use crate::harness::daemon::Daemon;
use crate::harness::latency::{by_phase, p99, send_evenly};
use crate::harness::receiver::Answer;
use crate::harness::scene::Scene;
use std::fmt::Write as _;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn no_event_is_lost_or_judged_by_a_half_read_file_while_the_registry_is_rewritten() {
    const DOMAINS: usize = 12;
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("reload-load", 2);
    scene.delivery = NO_CIRCUIT.into();
    let domains: Vec<String> = (0..DOMAINS).map(|n| format!("d{n}.example")).collect();
    let registry = |path: &str| registry_of(domains.iter().map(|d| (d.as_str(), receiver.url(path))), PATIENT);
    scene.registry = registry("/a");
    let mut daemon = scene.start();
    let file = scene.dir.join("registry.toml");
    let over = AtomicBool::new(false);
    let produced = std::thread::scope(|threads| {
        let ending = Over(&over);
        let producing = threads.spawn(|| {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                for domain in &domains {
                    scene.producer.send_all(scene.source(), &events(domain, n..n + 5));
                }
                n += 5;
                std::thread::sleep(Duration::from_millis(20));
            }
            n * DOMAINS
        });
        let replace = |text: &str| {
            std::fs::write(scene.dir.join("next"), text).unwrap();
            std::fs::rename(scene.dir.join("next"), &file).unwrap();
        };
        for round in 0..3 {
            replace(&registry(if round % 2 == 0 { "/b" } else { "/a" }));
            std::thread::sleep(Duration::from_millis(1100));
            replace("this is not TOML");
            std::thread::sleep(Duration::from_millis(1100));
            // In place: every prefix that ends with a row is a valid file, with domains or bindings missing.
            let text = registry("/c");
            let rows: Vec<&str> = text.split_inclusive("\n\n").collect();
            let mut open = std::fs::File::create(&file).unwrap();
            for row in rows {
                open.write_all(row.as_bytes()).unwrap();
                open.sync_all().unwrap();
                std::thread::sleep(Duration::from_millis(60));
            }
        }
        drop(ending);
        producing.join().unwrap()
    });
    accepted.wait(produced, Duration::from_secs(60));
    super::wait_quiet(&scene);
    assert_eq!((accepted.ids(), accepted.repeats()), (produced, 0));
    assert_no_letters(&scene);
    assert!(daemon.metric("callbackd_events_settled_total", &["outcome=\"skipped\""]).abs() < f64::EPSILON, "none was skipped");
    daemon.wait_loaded(true);
    let before = receiver.count();
    scene.producer.send_all(scene.source(), &events(&domains[0], 1_000_000..1_000_001));
    receiver.wait_for(before + 1, Duration::from_secs(30));
    assert_eq!(receiver.requests()[before].path, "/c", "the last one is in force");
    daemon.stop();
}

/// Counts what the daemon logs of reloads, as it goes on.
struct Reloads {
    log: std::fs::File,
    /// What has no end of line yet.
    rest: Vec<u8>,
    loaded: usize,
    refused: usize,
    shrunk: usize,
}

impl Reloads {
    fn of(daemon: &Daemon) -> Self {
        let mut log = std::fs::File::open(&daemon.log_file).unwrap();
        log.seek(SeekFrom::End(0)).unwrap();
        Self { log, rest: Vec::new(), loaded: 0, refused: 0, shrunk: 0 }
    }

    fn all(&self) -> usize {
        self.loaded + self.refused + self.shrunk
    }

    /// Waits for so many.
    fn wait(&mut self, all: usize) {
        let start = Instant::now();
        while self.all() < all {
            assert!(start.elapsed() < Duration::from_secs(60), "{} of {all} reloads", self.all());
            std::thread::sleep(Duration::from_millis(1));
            self.log.read_to_end(&mut self.rest).unwrap();
            let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            for line in String::from_utf8_lossy(&self.rest.drain(..whole).collect::<Vec<u8>>()).lines() {
                self.loaded += usize::from(line.contains("registry loaded"));
                self.refused += usize::from(line.contains("the last good one stays in force"));
                self.shrunk += usize::from(line.contains("it would drop too many domains"));
            }
        }
    }
}

#[test]
fn a_thousand_reloads_some_broken_some_shrinking_neither_misjudge_nor_delay_an_event() {
    const DOMAINS: usize = 200;
    const RELOADS: usize = 1000;
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("thousand-reloads", 2);
    scene.log_level = "info";
    scene.delivery = NO_CIRCUIT.into();
    let domains: Vec<String> = (0..DOMAINS).map(|n| format!("d{n}.example")).collect();
    // Each version sends all domains to an address of its own, with a header that says so; the others have no events.
    let version = |number: usize, others: usize| {
        let template = format!("headers = {{ \"x-version\" = \"{number}\" }}\n{PATIENT}");
        let mut text = registry_of([("template.example", receiver.url(&format!("/{number}")))], &template);
        for domain in &domains {
            write!(text, "[[domains]]\nname = {domain:?}\n\n").unwrap();
            write!(text, "[[bindings]]\ndomain = {domain:?}\nrecording_template = \"rec\"\ncallback_template = \"template-example\"\n\n")
                .unwrap();
        }
        (0..others).for_each(|n| write!(text, "[[domains]]\nname = \"o{n}.example\"\n\n").unwrap());
        text
    };
    scene.registry = version(0, 100);
    let mut daemon = scene.start();
    let file = scene.dir.join("registry.toml");
    let replace = |text: &str| {
        std::fs::write(scene.dir.join("next"), text).unwrap();
        std::fs::rename(scene.dir.join("next"), &file).unwrap();
    };
    let over = AtomicBool::new(false);
    let quiet = || std::thread::sleep(Duration::from_secs(8));
    let (sent, phases, reloads) = std::thread::scope(|threads| {
        let ending = Over(&over);
        let producing = threads.spawn(|| {
            // Each of another domain.
            let sent = send_evenly(&over, |n| scene.producer.send(scene.source(), &events(&domains[n % DOMAINS], n..n + 1)[0]));
            scene.producer.flush();
            sent
        });
        let mut phases = vec![Instant::now()];
        quiet();
        phases.push(Instant::now());
        let mut reloads = Reloads::of(&daemon);
        let mut number = 0;
        while reloads.all() < RELOADS {
            number += 1;
            let now = reloads.all();
            let asked = match number % 200 {
                // Two that nobody asks for, refused by two looks of the daemon's own.
                100 => (false, version(number, 0)),
                199 => (false, "# all gone\n".into()),
                // Cut off, or naming a domain that is not there.
                n if n % 10 == 3 => (true, format!("{}\n[[", &version(number, 100)[..8000 + 13 * n])),
                n if n % 10 == 6 => (true, version(number, 100).replace("[[bindings]]\ndomain = \"d7", "[[bindings]]\ndomain = \"x7")),
                // Shrinking, and growing again.
                n if n % 10 == 8 => (true, version(number, 10)),
                _ => (true, version(number, 100)),
            };
            replace(&asked.1);
            if asked.0 {
                daemon.signal("HUP");
            }
            reloads.wait(now + 1);
        }
        phases.push(Instant::now());
        quiet();
        phases.push(Instant::now());
        drop(ending);
        (producing.join().unwrap(), phases, reloads)
    });
    accepted.wait(sent.len(), Duration::from_secs(60));
    super::wait_quiet(&scene);
    assert_eq!((accepted.ids(), accepted.repeats()), (sent.len(), 0));
    assert_no_letters(&scene);
    assert!(daemon.metric("callbackd_events_settled_total", &["outcome=\"skipped\""]).abs() < f64::EPSILON, "none was skipped");
    assert!(
        reloads.loaded >= 780 && reloads.refused >= 200 && reloads.shrunk >= 10,
        "{} {} {}",
        reloads.loaded,
        reloads.refused,
        reloads.shrunk
    );

    let requests = receiver.requests();
    let mut versions = std::collections::BTreeSet::new();
    for request in &requests {
        assert_eq!(request.header("x-version"), Some(&request.path[1..]), "address and header are of one version");
        versions.insert(request.path.clone());
    }
    let took = phases[2] - phases[1];
    let latencies = by_phase(&phases, &sent, &requests, |request| request.id().rsplit('-').next().unwrap().parse().unwrap());
    for phase in &latencies {
        assert!(phase.len() >= 1000, "{} events are too few to tell", phase.len());
    }
    let [before, reloading, after] = latencies.map(p99);
    println!(
        "{RELOADS} reloads in {took:?}: {} loaded, {} refused, {} shrunk, {} versions called; p99 {before:.1} ms, {reloading:.1} ms while reloading, {after:.1} ms",
        reloads.loaded,
        reloads.refused,
        reloads.shrunk,
        versions.len()
    );
    assert!(versions.len() > 100, "the events were judged by many versions: {}", versions.len());
    let quiet = before.max(after);
    // Beside who knows what on this machine: what it holds is that nobody waits for a reload.
    assert!(reloading <= (2.0 * quiet).max(quiet + 250.0), "p99 {reloading:.1} ms while reloading; {before:.1} and {after:.1} ms without");
    daemon.stop();
}
