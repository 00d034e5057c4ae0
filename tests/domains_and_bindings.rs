//! What an event meets before it is sent: its domain, the account, and the binding that was in force when its push started.

use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};

#[test]
fn an_unknown_domain_takes_one_turn_through_the_smallest_tier_and_then_is_dead_lettered() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("unknown-domain", 1);
    scene.tiers = vec!["1s", "3s"];
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let daemon = scene.start();
    scene.produce(&[event("unknown.example", 1)]);
    await_true("the dead letter", SOON, || !scene.dead_letters().is_empty());
    let letter = &scene.dead_letters()[0];
    assert_eq!(letter.header("callbackd-reason").as_deref(), Some("unknown_domain"));
    assert_eq!(letter.header("callbackd-attempts").as_deref(), Some("0"));
    assert_eq!(letter.header("callbackd-domain").as_deref(), Some("unknown.example"));
    let source: i64 = letter.header("callbackd-source-ms").unwrap().parse().unwrap();
    assert!(letter.timestamp - source >= 950, "it waited {} ms", letter.timestamp - source);
    daemon.wait_metric("callbackd_requeued_total", &["tier=\"1s\"", "reason=\"unknown_domain\""], 1.0);
    assert_eq!(receiver.count(), 0);
}

#[test]
fn a_domain_that_becomes_known_during_that_turn_is_delivered() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("late-domain", 1);
    scene.tiers = vec!["5s", "10s"];
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let daemon = scene.start();
    scene.produce(&[event("late.example", 1)]);
    daemon.wait_metric("callbackd_requeued_total", &["reason=\"unknown_domain\""], 1.0);
    scene.registry = simple_registry(&["shop.example", "late.example"], &receiver.url("/cb"), "");
    scene.write_registry();
    receiver.wait_for(1, SOON);
    assert!(scene.dead_letters().is_empty());
}

/// Fields after the domain, and what comes of the event: a path at the receiver, `skipped`, or a reason.
const BINDINGS: &[(&str, &str, &str)] = &[
    ("inactive.example", r#""appname":"live""#, "account_suspended"),
    ("suspended.example", r#""appname":"live""#, "account_suspended"),
    ("unrecorded.example", r#""appname":"live""#, "recording_unbound"),
    ("unrecorded.example", r#""appname":"live","record_temp_id":"7","task_id":"5""#, "recording_unbound"),
    ("unrecorded.example", r#""appname":"live","task_id":"5""#, "/domain"),
    ("unrecorded.example", r#""appname":"live","task_id":"5","record_temp_id":"""#, "/domain"),
    ("uncalled.example", r#""appname":"live""#, "skipped"),
    ("unbound.example", r#""appname":"live""#, "recording_unbound"),
    ("unbound.example", r#""appname":"live","task_id":"5""#, "skipped"),
    ("PATHS.example", r#""appname":"live""#, "/domain"),
    ("paths.example", r#""appname":"vip""#, "/path"),
    ("paths.example", r#""appname":"VIP""#, "/domain"),
    ("paths.example", r#""x":1"#, "/domain"),
    // The push start decides: 2026-06-01T00:00:00Z is 1780272000.
    ("history.example", r#""appname":"live","push_start_time":1780271999"#, "/before"),
    ("history.example", r#""appname":"live","push_start_time":1780272000"#, "/after"),
    ("history.example", r#""appname":"live","start_time":1780271999"#, "/before"),
    ("history.example", r#""appname":"live","start_time":1780272000"#, "/after"),
    ("history.example", r#""appname":"live","push_start_time":1780271999,"start_time":1780272000"#, "/before"),
    // A path's binding has ended: the domain's applies again.
    ("history.example", r#""appname":"event","push_start_time":1780271999"#, "/path"),
    ("history.example", r#""appname":"event","push_start_time":1780272000"#, "/after"),
    // Unbound in between, 2026-01-01T00:00:00Z is 1767225600.
    ("ended.example", r#""appname":"live","push_start_time":1767225599"#, "/domain"),
    ("ended.example", r#""appname":"live","push_start_time":1767225600"#, "recording_unbound"),
];

#[test]
fn the_binding_at_push_start_decides_with_paths_history_and_accounts() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("bindings", 1);
    let mut registry = String::from(
        "[[accounts]]\nid = \"a1\"\nstorage = \"inactive\"\n[[accounts]]\nid = \"a2\"\nstorage = \"suspended\"\n[[accounts]]\nid = \"a3\"\nstorage = \"active\"\n[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n",
    );
    for name in ["domain", "path", "before", "after"] {
        registry.push_str(&format!(
            "[[callback_templates]]\nname = {name:?}\nurls = {{ recording_file = {:?} }}\n",
            receiver.url(&format!("/{name}"))
        ));
    }
    for (domain, account) in [
        ("inactive.example", "account = \"a1\""),
        ("suspended.example", "account = \"a2\""),
        ("unrecorded.example", "account = \"a3\""),
        ("uncalled.example", ""),
        ("unbound.example", ""),
        ("paths.example", ""),
        ("history.example", ""),
        ("ended.example", ""),
    ] {
        registry.push_str(&format!("[[domains]]\nname = {domain:?}\n{account}\n"));
    }
    for binding in [
        "domain = \"inactive.example\"\nrecording_template = \"rec\"\ncallback_template = \"domain\"",
        "domain = \"suspended.example\"\nrecording_template = \"rec\"\ncallback_template = \"domain\"",
        "domain = \"unrecorded.example\"\ncallback_template = \"domain\"",
        "domain = \"uncalled.example\"\nrecording_template = \"rec\"",
        "domain = \"paths.example\"\nrecording_template = \"rec\"\ncallback_template = \"domain\"",
        "domain = \"paths.example\"\npath = \"vip\"\ncallback_template = \"path\"",
        "domain = \"history.example\"\nrecording_template = \"rec\"\ncallback_template = \"before\"\nuntil = 2026-06-01T00:00:00Z",
        "domain = \"history.example\"\nrecording_template = \"rec\"\ncallback_template = \"after\"\nfrom = 2026-06-01T00:00:00Z",
        "domain = \"history.example\"\npath = \"event\"\ncallback_template = \"path\"\nuntil = 2026-06-01T00:00:00Z",
        "domain = \"ended.example\"\nrecording_template = \"rec\"\ncallback_template = \"domain\"\nuntil = 2026-01-01T00:00:00Z",
    ] {
        registry.push_str(&format!("[[bindings]]\n{binding}\n"));
    }
    scene.registry = registry;
    let mut daemon = scene.start();
    let table: Vec<(String, &str)> = BINDINGS
        .iter()
        .enumerate()
        .map(|(n, (domain, fields, fate))| (format!(r#"{{"app":"{domain}",{fields},"file_id":"{n:04}"}}"#), *fate))
        .collect();
    scene.assert_fates(&receiver, &table);
    let skipped = BINDINGS.iter().filter(|(_, _, what)| *what == "skipped").count();
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"skipped\""], skipped as f64);
    daemon.stop();
}
