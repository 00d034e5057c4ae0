//! Curves: endpoints, backlog, body sizes, TLS.

use super::{Bench, MANY, ONE};
use crate::daemon::Setup;
use crate::events::{EVENT_BYTES, Events};
use crate::harness::processes::run_dir;
use crate::measure::Run;
use crate::receiver::Wanted;
use crate::registry::registry;
use crate::report::{Section, figures, middle, note_oddities, spread, times};
use std::path::PathBuf;

const FIGURES: [&str; 4] = ["CPU per callback, µs", "callbacks/s", "its CPU", "peak MiB"];

/// Bytes that a topic of large bodies holds at most, for the sake of the disk.
const TOPIC_BYTES: u64 = 300_000_000;

/// 1, 10, 100, … up to `most`, which is always one of them.
fn decades(from: u64, most: u64) -> Vec<u64> {
    let mut points: Vec<u64> = std::iter::successors(Some(from), |point| point.checked_mul(10)).take_while(|point| *point < most).collect();
    points.push(most);
    points
}

pub(super) fn endpoints(bench: &Bench<'_>) -> Section {
    let [cpu, speed, busy, memory] = FIGURES;
    let mut section = Section::new("Endpoints", ["endpoints", cpu, speed, busy, memory]);
    let count = bench.settings.curve_events;
    let topic = bench.topic(Events::of(MANY), count);
    let points = decades(1, bench.settings.endpoints);
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); points.len()];
    for _ in 0..bench.settings.rounds {
        for (endpoints, runs) in points.iter().zip(&mut runs) {
            runs.push(bench.daemon(&topic, count, MANY, *endpoints));
        }
    }
    for (endpoints, runs) in points.iter().zip(&runs) {
        let [cpu, speed, busy, memory] = figures(runs);
        section.row([endpoints.to_string(), cpu, speed, busy, memory]);
    }
    section.note(format!(
        "{count} events of {MANY} domains in turn, a template and a URL for each endpoint, one host and port: paths differ, connections are shared."
    ));
    note_oddities(&mut section, &runs.concat());
    section
}

pub(super) fn backlog(bench: &Bench<'_>) -> Section {
    let [cpu, speed, busy, memory] = FIGURES;
    let mut section = Section::new("Backlog", ["records behind", cpu, speed, busy, memory, "drained in, s"]);
    let mut all = Vec::new();
    for count in decades(1_000, bench.settings.backlog) {
        let topic = bench.topic(Events::of(MANY), count);
        // Short runs are noisy, long ones dear.
        let rounds = if count >= 1_000_000 { bench.settings.rounds.div_ceil(2) } else { bench.settings.rounds };
        let runs: Vec<Run> = (0..rounds).map(|_| bench.daemon(&topic, count, MANY, 100)).collect();
        let [cpu, speed, busy, memory] = figures(&runs);
        section.row([count.to_string(), cpu, speed, busy, memory, spread(&runs, |run| run.took.as_secs_f64(), 2)]);
        all.extend(runs);
    }
    section.note(format!(
        "{MANY} domains, 100 endpoints. Between 10 % and 90 % of 1,000 records lie some ten milliseconds: that row is rough."
    ));
    note_oddities(&mut section, &all);
    section
}

pub(super) fn bodies(bench: &Bench<'_>) -> Section {
    let mut section = Section::new(
        "Body sizes",
        ["bytes", "bare loop, µs", "daemon, µs", "daemon / bare", "bare loop, callbacks/s", "daemon, callbacks/s", "peak MiB"],
    );
    let mut all = Vec::new();
    for bytes in [EVENT_BYTES, 2_000, 10_000, 100_000] {
        let count = bench.settings.curve_events.min(TOPIC_BYTES / bytes as u64);
        let topic = bench.topic(Events { bytes, ..ONE }, count);
        let (mut bare, mut daemon) = (Vec::new(), Vec::new());
        for _ in 0..bench.settings.rounds.min(2) {
            bare.push(bench.bare(&topic, count));
            daemon.push(bench.daemon(&topic, count, 1, 1));
        }
        let (cpu, speed) = (|run: &Run| run.cpu_micros, |run: &Run| run.per_second);
        let ratio = middle(&daemon, cpu) / middle(&bare, cpu);
        let memory = middle(&daemon, |run| run.peak_resident as f64 / 1024.0);
        section.row([
            bytes.to_string(),
            spread(&bare, cpu, 1),
            spread(&daemon, cpu, 1),
            times(ratio),
            spread(&bare, speed, 0),
            spread(&daemon, speed, 0),
            format!("{memory:.0}"),
        ]);
        all.extend(daemon);
    }
    section.note(
        "The body is read once for its fields and once for its id, copied once, and signed: what is beyond the bare loop grows with it.",
    );
    note_oddities(&mut section, &all);
    section
}

pub(super) fn tls(bench: &Bench<'_>) -> Section {
    let [cpu, speed, busy, memory] = FIGURES;
    let mut section = Section::new("TLS", ["", cpu, speed, busy, memory]);
    let count = bench.settings.curve_events;
    let topic = bench.topic(ONE, count);
    let (authority, certificate, key) = certificate();
    let (mut plain, mut secure) = (Vec::new(), Vec::new());
    for _ in 0..bench.settings.rounds.min(2) {
        plain.push(bench.daemon(&topic, count, 1, 1));
        let wanted = Wanted { tls: Some((certificate.clone(), key.clone())), ..Wanted::all(count) };
        secure.push(bench.daemon_as(&topic, &wanted, |port| {
            let registry = registry(1, 1, |_| format!("https://127.0.0.1:{port}/callback"));
            let egress = format!("ca_file = {authority:?}");
            Setup { egress, ..Setup::in_flight(registry, bench.settings.in_flight) }
        }));
    }
    for (name, runs) in [("plain", &plain), ("TLS 1.3", &secure)] {
        let [cpu, speed, busy, memory] = figures(runs);
        section.row([name.to_owned(), cpu, speed, busy, memory]);
    }
    section.note("Connections are kept: handshakes are made once each, records are encrypted for every callback.");
    note_oddities(&mut section, &[plain, secure].concat());
    section
}

/// A certificate for 127.0.0.1 that is its own authority: as PEM for `ca_file`, and as DER with its key for the receiver.
fn certificate() -> (PathBuf, PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| run_dir().join(name);
    let (authority, certificate, key) = (path("authority.pem"), path("receiver.der"), path("receiver.key"));
    std::fs::write(&certificate, made.cert.der()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_der()).unwrap();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, made.cert.der());
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    std::fs::write(&authority, format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))).unwrap();
    (authority, certificate, key)
}
