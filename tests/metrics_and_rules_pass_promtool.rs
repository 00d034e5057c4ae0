//! promtool's opinion of a busy daemon's metrics, and of the rules beside the code.

use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Extensions of rules and of their tests.
const RULES: [&str; 2] = ["yml", "yaml"];

fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool cannot be run ({e}): `apt-get install prometheus`"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    (done.status.success(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
}

/// Files below `dashboards` with one of these extensions, with their text.
fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")];
    let mut found = Vec::new();
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                left.push(entry);
            } else if entry.extension().is_some_and(|end| extensions.iter().any(|extension| end == *extension)) {
                let text = std::fs::read_to_string(&entry).unwrap();
                found.push((entry, text));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_metrics_of_a_busy_daemon_pass_promtool_and_count_right() {
    let receiver = Receiver::start(|request, nth| match request.path.as_str() {
        "/fails" => Answer::Status(404),
        _ => Answer::Status(if nth == 1 { 503 } else { 200 }),
    });
    let mut scene = Scene::new("promtool", 2);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/retried"), "retry = { delays = [\"300ms\"], attempts = 3 }");
    let daemon = scene.start();
    let (clean, said) = promtool(&["check", "metrics"], &daemon.metrics());
    assert!(clean && said.is_empty(), "of an idle daemon: {said}");
    let events: Vec<String> = (0..50).map(|n| event(if n < 40 { "shop.example" } else { "unknown.example" }, n)).collect();
    scene.produce(&events);
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], 40.0);
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"dead_lettered\""], 10.0);
    let (clean, said) = promtool(&["check", "metrics"], &daemon.metrics());
    assert!(clean && said.is_empty(), "of a busy daemon: {said}");
    let expected: &[(&str, &[&str], f64)] = &[
        ("callbackd_events_consumed_total", &[], 50.0),
        ("callbackd_events_settled_total", &["outcome=\"skipped\""], 0.0),
        ("callbackd_attempts_total", &["result=\"success\""], 40.0),
        ("callbackd_attempts_total", &["result=\"server_error\""], 40.0),
        ("callbackd_attempts_total", &["result=\"timeout\""], 0.0),
        ("callbackd_requeued_total", &["reason=\"retry\""], 40.0),
        ("callbackd_requeued_total", &["reason=\"unknown_domain\""], 10.0),
        ("callbackd_dead_letters_total", &["reason=\"unknown_domain\""], 10.0),
        ("callbackd_dead_letters_total", &["reason=\"rejected\""], 0.0),
        ("callbackd_event_age_seconds_count", &["outcome=\"delivered\""], 40.0),
        ("callbackd_egress_violations_total", &[], 0.0),
        ("callbackd_registry_last_load_success", &[], 1.0),
        ("callbackd_in_flight", &[], 0.0),
        ("callbackd_in_flight_limit", &[], 1024.0),
    ];
    for (name, labels, value) in expected {
        daemon.wait_metric(name, labels, *value);
    }
    let text = daemon.metrics();
    for family in [
        "callbackd_build_info",
        "callbackd_first_attempt_age_seconds_bucket",
        "callbackd_attempt_duration_seconds_bucket",
        "callbackd_assigned_partitions",
        "callbackd_last_commit_timestamp_seconds",
        "callbackd_possible_repeats_total",
        "callbackd_rebalances_total",
        "callbackd_registry_digest",
        "callbackd_registry_entries",
        "callbackd_clock_skew_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(text.lines().any(|l| l.starts_with(family)), "{family} is missing");
    }
    await_true("the lag is 0", SOON, || {
        let lag = crate::harness::http::sample(&daemon.metrics(), "callbackd_consumer_lag", &[&format!("topic={:?}", scene.source())]);
        lag == Some(0.0)
    });
}

#[test]
fn the_alert_rules_pass_promtool_with_their_tests() {
    let files = files(&RULES);
    let (mut rules, mut tests) = (0, 0);
    for (path, text) in &files {
        let name = path.to_string_lossy();
        let arguments: &[&str] = if text.lines().any(|l| l.starts_with("rule_files:")) {
            tests += 1;
            &["test", "rules", &name]
        } else if text.lines().any(|l| l.starts_with("groups:")) {
            rules += 1;
            &["check", "rules", &name]
        } else {
            continue;
        };
        let (clean, said) = promtool(arguments, "");
        assert!(clean, "{}: {said}", arguments.join(" "));
    }
    assert!(rules > 0 && tests > 0, "dashboards holds {rules} files of rules and {tests} of rule tests");
}

#[test]
fn every_metric_in_rules_and_dashboards_exists_in_the_binary() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("dashboards", 1);
    scene.registry = simple_registry(
        &["shop.example"],
        &receiver.url("/cb"),
        "keys = [{ id = \"a\", value = \"vendorKeyOfDashboards\", expires = 2099-01-01T00:00:00Z }]",
    );
    let daemon = scene.start();
    scene.produce(&[event("shop.example", 1)]);
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], 1.0);
    let used = files(&[&RULES[..], &["json"]].concat());
    let mut names = Vec::new();
    for (path, text) in &used {
        let recorded: Vec<&str> =
            text.lines().filter_map(|l| l.trim().trim_start_matches("- ").strip_prefix("record:")).map(str::trim).collect();
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')) {
            if word.starts_with("callbackd_") && !word.contains(':') && !recorded.contains(&word) {
                names.push((path, word));
            }
        }
    }
    assert!(!names.is_empty(), "dashboards names metrics");
    // Lag and ages are measured every few seconds: what is there soon counts.
    let mut missing = Vec::new();
    let start = std::time::Instant::now();
    while start.elapsed() < SOON {
        let exposed = daemon.metrics();
        let exposes = |name: &str| exposed.lines().any(|l| l.strip_prefix("# TYPE ").unwrap_or(l).split([' ', '{']).next() == Some(name));
        missing = names.iter().filter(|(_, name)| !exposes(name)).map(|(path, name)| format!("{}: {name}", path.display())).collect();
        if missing.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    panic!("not exposed:\n{}", missing.join("\n"));
}
