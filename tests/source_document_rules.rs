//! The rules of the document that this program comes from ("bind a recording template to a push domain, and get the recorded files"),
//! each sentence that states one beside the tests that are named after it.
//!
//! | sentence of the document | the rule here | tests |
//! |---|---|---|
//! | introduction: recording is off for pushed streams | without a binding nothing is recorded and nobody is called | `recording_and_callbacks_are_off_by_default` |
//! | introduction: binding a template to a push domain turns recording on | a binding turns it on, for pushes that start from then on | `binding_a_domain_turns_it_on_for_all_its_streams` |
//! | introduction: unbinding turns it off again | `until` turns it off, for pushes that start from then on | `binding_changing_and_unbinding_count_for_the_next_push_only` |
//! | limits: files go to the storage service, which must be activated and not in arrears | an account that is not active has no recording | `an_account_that_is_not_active_is_dead_lettered_and_replayed_once_restored` |
//! | limits: while the service is off or suspended there is no recording, no file, no fee | judged at delivery, whatever was bound | `an_account_suspended_while_events_wait_is_judged_at_delivery` |
//! | limits: a template's setting takes effect after five to ten minutes | within seconds, on every replica | `a_change_takes_effect_within_seconds_on_every_replica` |
//! | limits: once bound, the push addresses of that domain are recorded | an event's domain decides, and must be known | `binding_a_domain_turns_it_on_for_all_its_streams`, `domains_and_bindings::an_unknown_domain_takes_one_turn_through_the_smallest_tier_and_then_is_dead_lettered` |
//! | limits: one recording template a domain | at most one of each kind at a time | `a_domain_has_at_most_one_template_of_each_kind` |
//! | limits: all streams of the domain are recorded by that template | all paths and streams, but for a path that has a binding of its own | `binding_a_domain_turns_it_on_for_all_its_streams`, `a_path_overrides_each_kind_for_itself_until_its_binding_ends` |
//! | limits: mixing streams of the mainland and of other regions may break files | such mixes are warned of, marked and counted | `mixes_of_differing_regions_are_warned_of_marked_and_counted` |
//! | prerequisites: the push domain was added | a binding names a domain of the registry | `a_binding_names_a_domain_and_templates_that_exist` |
//! | prerequisites: the recording template was created | a binding names templates of the registry, and what is named stays | `a_binding_names_a_domain_and_templates_that_exist`, `a_template_that_any_row_names_cannot_be_deleted` |
//! | bind: choose a template and confirm | a binding has a template of either kind, or both | `a_binding_names_a_domain_and_templates_that_exist` |
//! | unbind: take the choice away and confirm | `until` unbinds | `binding_changing_and_unbinding_count_for_the_next_push_only` |
//! | note: unbinding does not affect streams that are being pushed | the binding in force at the push start counts, whenever the event comes | `binding_changing_and_unbinding_count_for_the_next_push_only` |
//! | note: stop and push again, and the new push makes no file | the next push counts; when it started is stated, or assumed | `binding_changing_and_unbinding_count_for_the_next_push_only`, `the_push_start_is_the_first_plausible_time_of_the_event` |
//! | files: a callback address can be set, by console or API | a URL a kind of event; a kind without one is skipped | `kinds_without_a_url_are_skipped_and_counted` |
//! | files: when a file is made, a message goes to that address | one callback an event, also for tasks made through the API; a URL that was mended helps what waits | `binding_a_domain_turns_it_on_for_all_its_streams`, `tasks_made_through_the_api_need_no_recording_binding`, `a_mended_url_helps_what_waits` |
//! | files: the message follows the callback protocol | signed, the event's own bytes | `ten_thousand_events::each_of_ten_thousand_events_is_delivered_once_verifiably_and_byte_for_byte` |
//! | files: callbacks are reliable and prompt | nothing is lost, whatever is killed; a callback is on its way at once | `callbacks_are_prompt`, `callbacks_survive_kills_and_are_replayed::a_callback_that_fails_thirteen_times_is_dead_lettered_across_two_sigkills_and_delivered_by_replay` |
//! | the console's limit, from the pages that the document refers to | 50 templates of each kind an account, settable | `an_account_has_at_most_fifty_templates_of_each_kind` |
//!
//! Looking into the storage service and searching it are ways to get files that are not ours: no rule here.
//!
//! What an event meets, row by row, is in `domains_and_bindings`; the functions behind it have tables of their own in `domain::binding` and
//! `domain::event`.

use crate::harness::daemon::Daemon;
use crate::harness::kafka::New;
use crate::harness::latency::send_evenly;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::scene::{Scene, both};
use crate::harness::{SOON, await_true};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// An instant as a registry writes it.
fn instant(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).unwrap().to_string()
}

/// A registry that is written row by row.
#[derive(Clone, Default)]
struct Rows(String);

impl Rows {
    /// With the recording template `rec`.
    fn new() -> Self {
        Self::default().row("recording_templates", "name = \"rec\"\nformats = [\"mp4\"]")
    }

    fn row(mut self, list: &str, fields: &str) -> Self {
        write!(self.0, "[[{list}]]\n{fields}\n\n").unwrap();
        self
    }

    /// A callback template with a URL for recorded files, and further fields.
    fn template(self, name: &str, url: &str, more: &str) -> Self {
        self.row("callback_templates", &format!("name = {name:?}\nurls = {{ recording_file = {url:?} }}\n{more}"))
    }

    /// The same, with a URL for each kind of event.
    fn template_for_all(self, name: &str, receiver: &Receiver) -> Self {
        let url = |kind: &str| receiver.url(&format!("/{name}{kind}"));
        self.row(
            "callback_templates",
            &format!(
                "name = {name:?}\nurls = {{ recording_file = {:?}, recording_status = {:?}, recording_exception = {:?} }}",
                url(""),
                url("-status"),
                url("-exception")
            ),
        )
    }

    fn domain(self, name: &str, more: &str) -> Self {
        self.row("domains", &format!("name = {name:?}\n{more}"))
    }

    fn account(self, id: &str, storage: &str) -> Self {
        self.row("accounts", &format!("id = {id:?}\nstorage = {storage:?}"))
    }

    fn binding(self, domain: &str, fields: &str) -> Self {
        self.row("bindings", &format!("domain = {domain:?}\n{fields}"))
    }

    /// Both kinds, `rec` and a callback template.
    fn bound(self, domain: &str, template: &str, more: &str) -> Self {
        self.binding(domain, &format!("recording_template = \"rec\"\ncallback_template = {template:?}\n{more}"))
    }
}

/// An event of type 100 with these fields after its domain.
fn file_event(domain: &str, fields: &str) -> String {
    format!(r#"{{"app":"{domain}",{fields},"file_format":"mp4"}}"#)
}

/// Replaces the registry file and waits until another registry is in force.
fn reload(scene: &mut Scene, daemon: &Daemon, rows: Rows) {
    let before = daemon.metric("callbackd_registry_digest", &[]);
    scene.registry = rows.0;
    scene.write_registry();
    await_true("the changed registry is in force", SOON, || (daemon.metric("callbackd_registry_digest", &[]) - before).abs() > 0.5);
}

/// `callbackd check` on a registry: exit code and everything it printed.
fn check(scene: &mut Scene, rows: Rows) -> (Option<i32>, String) {
    scene.registry = rows.0;
    let done = scene.command(&["check"]);
    (done.status.code(), both(&done))
}

/// A scene for `check`: no broker.
fn on_paper(name: &str) -> Scene {
    Scene::without_topics(name, "127.0.0.1:9")
}

#[test]
fn recording_and_callbacks_are_off_by_default() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("off-by-default", 1);
    scene.registry = Rows::new().template_for_all("cb", &receiver).domain("plain.example", "").0;
    let mut daemon = scene.start();
    scene.assert_fates(
        &receiver,
        &[
            (file_event("plain.example", r#""appname":"live""#), "recording_unbound"),
            (file_event("plain.example", r#""record_temp_id":"7""#), "recording_unbound"),
            (file_event("plain.example", r#""task_id":"5""#), "skipped"),
            (r#"{"event_type":332,"domain":"plain.example"}"#.into(), "skipped"),
            (r#"{"event_type":341,"domain":"plain.example"}"#.into(), "skipped"),
        ],
    );
    daemon.wait_metric("callbackd_skipped_total", &["reason=\"no_callback_template\""], 3.0);
    assert_eq!(receiver.count(), 0);
    daemon.stop();
}

#[test]
fn binding_a_domain_turns_it_on_for_all_its_streams() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("bound", 1);
    scene.registry = Rows::new()
        .template("cb", &receiver.url("/cb"), "")
        .domain("bound.example", "")
        .domain("other.example", "")
        .bound("bound.example", "cb", "")
        .0;
    let mut daemon = scene.start();
    scene.assert_fates(
        &receiver,
        &[
            (file_event("bound.example", r#""appname":"live","stream_id":"a""#), "/cb"),
            (file_event("bound.example", r#""appname":"live","stream_id":"b""#), "/cb"),
            (file_event("bound.example", r#""appname":"event","stream_id":"a""#), "/cb"),
            (file_event("bound.example", r#""stream_id":"a""#), "/cb"),
            (file_event("BOUND.example", r#""stream_id":"c""#), "/cb"),
            (file_event("other.example", r#""stream_id":"a""#), "recording_unbound"),
        ],
    );
    assert_eq!(receiver.count(), 5, "one callback an event");
    daemon.stop();
}

#[test]
fn a_domain_has_at_most_one_template_of_each_kind() {
    let mut scene = on_paper("at-most-one");
    let rows = || Rows::new().template("a", "https://a.example/", "").template("b", "https://b.example/", "").domain("push.example", "");
    let until = "until = 2026-01-01T00:00:00Z";
    let from = "from = 2026-01-01T00:00:00Z";
    let two_recordings = |second: &str| {
        let ends = if second.contains("from") { until } else { "" };
        let rows = rows().row("recording_templates", "name = \"rec-2\"\nformats = [\"hls\"]");
        rows.binding("push.example", &format!("recording_template = \"rec\"\n{ends}")).binding("push.example", second)
    };
    for (name, rows, fits) in [
        ("one of each", rows().bound("push.example", "a", ""), true),
        ("one after the other", rows().bound("push.example", "a", until).bound("push.example", "b", from), true),
        ("a path beside the domain", rows().bound("push.example", "a", "").bound("push.example", "b", "path = \"live\""), true),
        ("two callback templates", rows().bound("push.example", "a", "").bound("push.example", "b", ""), false),
        ("the same twice", rows().bound("push.example", "a", "").bound("PUSH.example", "a", ""), false),
        ("two for a path", rows().bound("push.example", "a", "path = \"x\"").bound("push.example", "b", "path = \"x\""), false),
        ("two recording templates", two_recordings("recording_template = \"rec-2\""), false),
        ("a recording template and a callback template, each in a row of its own", two_recordings("callback_template = \"b\""), false),
        ("two recording templates, one after the other", two_recordings(&format!("recording_template = \"rec-2\"\n{from}")), true),
        ("two for a while", rows().bound("push.example", "a", "until = 2026-01-01T00:00:00.001Z").bound("push.example", "b", from), false),
    ] {
        let lines: Vec<usize> = rows.0.lines().enumerate().filter(|(_, line)| *line == "[[bindings]]").map(|(at, _)| at + 1).collect();
        let (code, output) = check(&mut scene, rows);
        assert_eq!(code, Some(if fits { 0 } else { 78 }), "{name}: {output}");
        if !fits {
            let named = lines.iter().all(|line| output.contains(&format!("registry.toml:{line}")));
            assert!(named && output.contains("overlaps"), "{name}: both rows, lines {lines:?}: {output}");
        }
    }
}

#[test]
fn a_path_overrides_each_kind_for_itself_until_its_binding_ends() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("paths", 1);
    let end = now() - HOUR;
    let until = |fields: &str| format!("{fields}\nuntil = {}", instant(end));
    scene.registry = Rows::new()
        .template("whole", &receiver.url("/whole"), "")
        .template("own", &receiver.url("/own"), "")
        .domain("both.example", "")
        .bound("both.example", "whole", "")
        .binding("both.example", &until("path = \"vip\"\ncallback_template = \"own\""))
        .domain("called.example", "")
        .binding("called.example", "callback_template = \"whole\"")
        .binding("called.example", &until("path = \"vip\"\nrecording_template = \"rec\""))
        .domain("alone.example", "")
        .binding("alone.example", &until("path = \"vip\"\nrecording_template = \"rec\"\ncallback_template = \"own\""))
        .0;
    let mut daemon = scene.start();
    let pushed = |domain: &str, path: &str, at: i64| file_event(domain, &format!(r#""appname":"{path}","push_start_time":{at}"#));
    scene.assert_fates(
        &receiver,
        &[
            // The path has a callback template of its own, and the domain's recording.
            (pushed("both.example", "vip", end - 1), "/own"),
            (pushed("both.example", "live", end - 1), "/whole"),
            (pushed("both.example", "vip", end), "/whole"),
            // The path has a recording of its own, and the domain's callbacks.
            (pushed("called.example", "vip", end - 1), "/whole"),
            (pushed("called.example", "live", end - 1), "recording_unbound"),
            (pushed("called.example", "vip", end), "recording_unbound"),
            // Only that path is bound at all.
            (pushed("alone.example", "vip", end - 1), "/own"),
            (pushed("alone.example", "live", end - 1), "recording_unbound"),
            (pushed("alone.example", "vip", end), "recording_unbound"),
        ],
    );
    daemon.stop();
}

#[test]
fn binding_changing_and_unbinding_count_for_the_next_push_only() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("next-push", 1);
    let (bound, changed, unbound) = (now() - 3 * HOUR, now() - 2 * HOUR, now() - HOUR);
    let rows =
        || Rows::new().template("one", &receiver.url("/one"), "").template("two", &receiver.url("/two"), "").domain("push.example", "");
    let between = |from: i64, until: i64| format!("from = {}\nuntil = {}", instant(from), instant(until));
    let from = |from: i64| format!("from = {}", instant(from));
    // Every file of every push comes late: after the binding, after the change, after the unbinding.
    let files = |when: &str| {
        [bound - 1, bound, changed - 1, changed, unbound - 1, unbound]
            .map(|at| file_event("push.example", &format!(r#""push_start_time":{at},"start_time":{},"file_id":"{when}""#, at + 60)))
    };
    let table = |when: &str, fates: [&'static str; 6]| files(when).into_iter().zip(fates).collect::<Vec<_>>();
    let off = "recording_unbound";

    scene.registry = rows().0;
    let mut daemon = scene.start();
    scene.assert_fates(&receiver, &table("off", [off; 6]));

    reload(&mut scene, &daemon, rows().bound("push.example", "one", &from(bound)));
    scene.assert_fates(&receiver, &table("bound", [off, "/one", "/one", "/one", "/one", "/one"]));

    let history = rows().bound("push.example", "one", &between(bound, changed));
    reload(&mut scene, &daemon, history.clone().bound("push.example", "two", &from(changed)));
    scene.assert_fates(&receiver, &table("changed", [off, "/one", "/one", "/two", "/two", "/two"]));

    reload(&mut scene, &daemon, history.bound("push.example", "two", &between(changed, unbound)));
    scene.assert_fates(&receiver, &table("unbound", [off, "/one", "/one", "/two", "/two", off]));
    daemon.stop();
}

#[test]
fn the_push_start_is_the_first_plausible_time_of_the_event() {
    // A receiver that fails each first attempt: an assumed start is counted once an event, not once an attempt.
    let receiver = Receiver::start(|_, nth| Answer::Status(if nth == 1 { 500 } else { 200 }));
    let mut scene = Scene::new("push-start", 1);
    scene.delivery = "circuit = { failures = 1000 }".into();
    let split = now() - 3 * DAY;
    let (before, after) = (split - 1, split);
    let retry = "retry = { delays = [\"300ms\"], attempts = 50 }";
    let all = |name: &str| {
        let url = receiver.url(&format!("/{name}"));
        format!(
            "name = {name:?}\nurls = {{ recording_file = {url:?}, recording_status = {url:?}, recording_exception = {url:?} }}\n{retry}"
        )
    };
    scene.registry = Rows::new()
        .row("callback_templates", &all("before"))
        .row("callback_templates", &all("after"))
        .domain("push.example", "")
        .bound("push.example", "before", &format!("until = {}", instant(split)))
        .bound("push.example", "after", &format!("from = {}", instant(split)))
        .domain("late.example", "")
        .bound("late.example", "after", &format!("from = {}", instant(split)))
        .0;
    let mut daemon = scene.start();
    let file = |fields: String| file_event("push.example", &fields);
    let of = |kind: i64, path: &str, fields: String| format!(r#"{{"event_type":{kind},"domain":"push.example","{path}":"live",{fields}}}"#);
    let ancient = 1_262_303_999; // the last second of 2009
    // An event, the record's timestamp, what becomes of it, whether the start was assumed.
    let table: Vec<(String, i64, &str, bool)> = vec![
        (file(format!(r#""push_start_time":{before},"start_time":{after}"#)), after, "/before", false),
        (file(format!(r#""push_start_time":{after},"start_time":{before}"#)), before, "/after", false),
        (file(format!(r#""push_start_time":"{before}","start_time":{after}"#)), after, "/before", false),
        // Not plausible: before 2010, more than a day after the record, no number at all.
        (file(format!(r#""push_start_time":{ancient},"start_time":{after}"#)), before, "/after", true),
        (file(format!(r#""push_start_time":{},"start_time":{before}"#, after + DAY + 1)), after, "/before", true),
        (file(format!(r#""push_start_time":{},"start_time":{before}"#, after + DAY)), after, "/after", false),
        (file(format!(r#""push_start_time":"soon","start_time":{before}"#)), after, "/before", true),
        (file(format!(r#""push_start_time":null,"start_time":{before}"#)), after, "/before", true),
        (file(format!(r#""push_start_time":{after}000,"start_time":{before}"#)), after, "/before", true),
        (file(format!(r#""start_time":{before}"#)), after, "/before", true),
        (file(format!(r#""start_time":{after}"#)), before, "/after", true),
        (file(format!(r#""start_time":{ancient},"event_time":{after},"timestamp":{after}"#)), before, "/before", true),
        (file(r#""file_id":"1""#.into()), before, "/before", true),
        (file(r#""file_id":"2""#.into()), after, "/after", true),
        (of(332, "appname", format!(r#""event_time":{before}"#)), after, "/before", true),
        (of(332, "appname", format!(r#""event_time":{after},"start_time":{before}"#)), after, "/before", true),
        (of(332, "appname", format!(r#""timestamp":{before}"#)), after, "/after", true),
        (of(341, "path", format!(r#""timestamp":{before}"#)), after, "/before", true),
        (of(341, "path", format!(r#""event_time":{before}"#)), after, "/after", true),
        (of(341, "path", format!(r#""timestamp":{before},"push_start_time":{after}"#)), after, "/after", false),
        (file_event("late.example", &format!(r#""start_time":{before}"#)), after, "recording_unbound", true),
        (file_event("late.example", &format!(r#""push_start_time":{before}"#)), after, "recording_unbound", false),
    ];
    for (event, timestamp, _, _) in &table {
        scene.producer.send(scene.source(), &New { timestamp: Some(timestamp * 1000), ..New::value(event.as_str()) });
    }
    scene.producer.flush();
    let called = table.iter().filter(|(_, _, fate, _)| fate.starts_with('/')).count();
    receiver.wait_for(2 * called, SOON);
    let events: Vec<String> = table.iter().map(|(event, _, _, _)| event.clone()).collect();
    let wrong: Vec<String> = scene
        .fates(&receiver, &events)
        .iter()
        .zip(&table)
        .filter(|(fate, (_, _, expected, _))| fate != expected)
        .map(|(fate, (event, at, expected, _))| format!("{event} at {at}: {fate}, not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let assumed = table.iter().filter(|(_, _, _, assumed)| *assumed).count();
    daemon.wait_metric("callbackd_push_starts_assumed_total", &[], assumed as f64);
    for letter in scene.dead_letters() {
        let stated = letter.value.as_deref().is_some_and(|value| value.windows(15).any(|part| part == b"push_start_time"));
        let detail = letter.header("callbackd-detail").unwrap();
        assert!(detail.contains(if stated { "stated" } else { "assumed" }), "{detail}");
    }
    daemon.stop();
}

#[test]
fn a_change_takes_effect_within_seconds_on_every_replica() {
    let (first, second) = (Receiver::agreeable(), Receiver::agreeable());
    let mut scene = Scene::new("replicas-change", 2);
    let rows = |receiver: &Receiver| {
        Rows::new().template("cb", &receiver.url("/cb"), "").domain("push.example", "").bound("push.example", "cb", "").0
    };
    scene.registry = rows(&first);
    let mut one = scene.start();
    // A machine of its own: another folder, with a registry file of its own.
    let folder = scene.dir.clone();
    scene.dir = folder.join("two");
    std::fs::create_dir_all(&scene.dir).unwrap();
    let mut two = scene.launch();
    two.wait_ready();
    let consumed = |daemon: &Daemon| daemon.metric("callbackd_events_consumed_total", &[]);
    let mut number = 0;
    let mut produce_to_both = |scene: &Scene| {
        for partition in 0..2 {
            number += 1;
            let event = file_event("push.example", &format!(r#""file_id":"{number}""#));
            scene.producer.send_all(scene.source(), &[New::value(event).partition(partition)]);
        }
    };
    let start = Instant::now();
    while consumed(&one) < 1.0 || consumed(&two) < 1.0 {
        assert!(start.elapsed() < SOON, "each has one partition: {} and {}", consumed(&one), consumed(&two));
        produce_to_both(&scene);
        std::thread::sleep(Duration::from_millis(100));
    }
    let digest = |daemon: &Daemon| daemon.metric("callbackd_registry_digest", &[]);
    let old = digest(&one);
    assert!((old - digest(&two)).abs() < 0.5, "replicas with the same registry have the same digest");
    scene.wait_committed_to_the_end();
    assert_eq!(second.count(), 0);

    let changed = Instant::now();
    scene.registry = rows(&second);
    scene.write_registry();
    await_true("the second replica has the change", SOON, || (digest(&two) - old).abs() > 0.5);
    assert!((digest(&one) - old).abs() < 0.5, "replicas that differ are seen: only one of two files was changed");
    scene.dir = folder;
    scene.write_registry();
    await_true("both replicas have the change", SOON, || (digest(&one) - digest(&two)).abs() < 0.5);
    assert!(changed.elapsed() < Duration::from_secs(15), "two changes one after the other took {:?}", changed.elapsed());

    let (at_first, before) = (first.count(), [consumed(&one), consumed(&two)]);
    produce_to_both(&scene);
    second.wait_for(2, SOON);
    let after = [consumed(&one), consumed(&two)];
    assert!(after.iter().zip(before).all(|(after, before)| after - before > 0.5), "each delivered one: {before:?} {after:?}");
    assert_eq!(first.count(), at_first, "nobody calls the old address any more");
    one.stop();
    two.stop();
}

#[test]
fn an_account_that_is_not_active_is_dead_lettered_and_replayed_once_restored() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("account", 1);
    let rows = |of_one: &str, of_two: &str| {
        Rows::new()
            .account("one", of_one)
            .account("two", of_two)
            .template_for_all("cb", &receiver)
            .domain("one.example", "account = \"one\"")
            .domain("two.example", "account = \"two\"")
            .domain("free.example", "")
            .bound("one.example", "cb", "")
            .bound("two.example", "cb", "")
            .bound("free.example", "cb", "")
    };
    scene.registry = rows("inactive", "suspended").0;
    let mut daemon = scene.start();
    // Of every kind, and of a task made through the API.
    let others = |domain: &str| {
        [
            format!(r#"{{"event_type":332,"domain":"{domain}","app":"live"}}"#),
            format!(r#"{{"event_type":341,"domain":"{domain}","app":"live"}}"#),
            file_event(domain, r#""file_id":"t","task_id":"task-1""#),
        ]
    };
    let of = |domain: &str, n: usize| file_event(domain, &format!(r#""file_id":"{n}""#));
    let mut table = vec![(of("free.example", 1), "/cb")];
    for n in 0..10 {
        table.extend(["one.example", "two.example"].map(|domain| (of(domain, n), "account_suspended")));
    }
    table.extend(["one.example", "two.example"].into_iter().flat_map(others).map(|event| (event, "account_suspended")));
    scene.assert_fates(&receiver, &table);
    let letters = scene.dead_letters();
    assert!(letters.iter().all(|letter| letter.header("callbackd-attempts").as_deref() == Some("0")), "judged before an attempt");
    let logged =
        daemon.log().lines().filter(|line| line.contains("the storage service of this domain") && line.contains("one.example")).count();
    assert_eq!(logged, 1, "ten events of a domain in a moment are one line");

    reload(&mut scene, &daemon, rows("active", "suspended"));
    let replay = scene.command(&["replay", "--reason", "account_suspended", "--domain", "one.example"]);
    assert!(replay.status.success(), "{}", both(&replay));
    receiver.wait_for(14, SOON);
    reload(&mut scene, &daemon, rows("active", "active"));
    let replay = scene.command(&["replay", "--reason", "account_suspended"]);
    assert!(replay.status.success(), "{}", both(&replay));
    let arrived = |receiver: &Receiver| receiver.requests().iter().map(|request| request.body.clone()).collect::<BTreeSet<_>>();
    await_true("every event arrived", SOON, || arrived(&receiver).len() == table.len());
    assert_eq!(scene.dead_letters().len(), letters.len(), "none died again");
    daemon.stop();
}

#[test]
fn an_account_suspended_while_events_wait_is_judged_at_delivery() {
    let receiver = Receiver::start(|_, _| Answer::Status(500));
    let mut scene = Scene::new("account-later", 1);
    let rows = |storage: &str| {
        Rows::new()
            .account("one", storage)
            .template("cb", &receiver.url("/cb"), "retry = { delays = [\"300ms\"], attempts = 1000 }")
            .domain("one.example", "account = \"one\"")
            .bound("one.example", "cb", "")
    };
    scene.registry = rows("active").0;
    let mut daemon = scene.start();
    scene.produce(&[file_event("one.example", r#""file_id":"1""#)]);
    receiver.wait_for(2, SOON);
    assert!(scene.dead_letters().is_empty());
    reload(&mut scene, &daemon, rows("suspended"));
    await_true("the dead letter", SOON, || !scene.dead_letters().is_empty());
    let letter = &scene.dead_letters()[0];
    assert_eq!(letter.header("callbackd-reason").as_deref(), Some("account_suspended"));
    let attempts: usize = letter.header("callbackd-attempts").unwrap().parse().unwrap();
    assert_eq!(attempts, receiver.count(), "the attempts that were made before");
    daemon.stop();
}

#[test]
fn mixes_of_differing_regions_are_warned_of_marked_and_counted() {
    let receiver = Receiver::start(|_, nth| Answer::Status(if nth == 1 { 500 } else { 200 }));
    let mut scene = Scene::new("mixes", 1);
    scene.delivery = "circuit = { failures = 1000 }".into();
    let mix = |stream: &str, inputs: &str| format!("domain = \"main.example\"\npath = \"live\"\nstream = {stream:?}\ninputs = [{inputs}]");
    scene.registry = Rows::new()
        .template("cb", &receiver.url("/cb"), "retry = { delays = [\"300ms\"], attempts = 50 }")
        .domain("main.example", "region = \"mainland\"")
        .domain("other.example", "region = \"mainland\"")
        .domain("abroad.example", "region = \"global\"")
        .bound("main.example", "cb", "")
        .row("mixes", &mix("finale", "\"main.example\", \"abroad.example\""))
        .row("mixes", &mix("local", "\"main.example\", \"other.example\""))
        .0;
    let line = 1 + scene.registry.lines().position(|line| line.contains("abroad.example\"]")).unwrap();
    let done = scene.command(&["check"]);
    let output = both(&done);
    assert!(done.status.success(), "{output}");
    let warned: Vec<&str> = output.lines().filter(|line| line.contains("mixes[")).collect();
    let place = format!("registry.toml:{line}: mixes[0].inputs");
    assert!(warned.len() == 1 && warned[0].contains("warning") && warned[0].contains(&place) && warned[0].contains("region"), "{output}");

    let mut daemon = scene.start();
    let event = |path: &str, stream: &str, n: usize| {
        file_event("main.example", &format!(r#""appname":"{path}","stream_id":"{stream}","file_id":"{n}""#))
    };
    let marked = [event("live", "finale", 1), event("live", "finale", 2)];
    let unmarked = [event("live", "local", 3), event("live", "solo", 4), event("event", "finale", 5)];
    scene.produce(&[&marked[..], &unmarked[..]].concat());
    receiver.wait_for(10, SOON);
    for request in receiver.requests() {
        let notice = marked.iter().any(|event| request.body == event.as_bytes()).then_some("mixed-regions");
        assert_eq!(request.header("callbackd-notice"), notice, "{}", String::from_utf8_lossy(&request.body));
    }
    daemon.wait_metric("callbackd_mixed_regions_total", &[], 2.0);
    scene.wait_committed_to_the_end();
    let counted = daemon.metric("callbackd_mixed_regions_total", &[]);
    assert!((counted - 2.0).abs() < f64::EPSILON, "an event is counted once, not with each attempt: {counted}");
    daemon.stop();
}

#[test]
fn a_binding_names_a_domain_and_templates_that_exist() {
    let mut scene = on_paper("names");
    let rows = || Rows::new().template("cb", "https://cb.example/", "").domain("push.example", "");
    for (name, rows, key) in [
        ("all there", rows().bound("push.example", "cb", ""), None),
        ("only a recording template", rows().binding("push.example", "recording_template = \"rec\""), None),
        ("only a callback template", rows().binding("push.example", "callback_template = \"cb\""), None),
        ("no template", rows().binding("push.example", ""), Some("bindings[0]")),
        ("no such domain", rows().bound("push.exmaple", "cb", ""), Some("bindings[0].domain")),
        ("no such callback template", rows().bound("push.example", "cd", ""), Some("bindings[0].callback_template")),
        (
            "no such recording template",
            rows().binding("push.example", "recording_template = \"cb\""),
            Some("bindings[0].recording_template"),
        ),
        ("no such account", rows().domain("two.example", "account = \"7\""), Some("domains[1].account")),
    ] {
        let (code, output) = check(&mut scene, rows);
        assert_eq!(code, Some(if key.is_some() { 78 } else { 0 }), "{name}: {output}");
        assert!(key.is_none_or(|key| output.contains("registry.toml:") && output.contains(&format!("{key}: "))), "{name}: {output}");
    }
}

#[test]
fn a_template_that_any_row_names_cannot_be_deleted() {
    let mut scene = on_paper("deleted");
    let recording =
        |rows: Rows, there: bool| if there { rows.row("recording_templates", "name = \"old\"\nformats = [\"mp4\"]") } else { rows };
    let callback = |rows: Rows, there: bool| if there { rows.template("old", "https://old.example/", "") } else { rows };
    for (when, span) in [
        ("past", "until = 2020-01-01T00:00:00Z"),
        ("of now", ""),
        ("future", "from = 2090-01-01T00:00:00Z"),
        ("of a path", "path = \"live\"\nuntil = 2020-01-01T00:00:00Z"),
    ] {
        let named = |recorded, called| {
            let rows = callback(recording(Rows::default(), recorded), called).domain("push.example", "");
            rows.binding("push.example", &format!("recording_template = \"old\"\ncallback_template = \"old\"\n{span}"))
        };
        let (code, output) = check(&mut scene, named(true, true));
        assert_eq!(code, Some(0), "{when}: {output}");
        for (rows, key) in [(named(false, true), "recording_template"), (named(true, false), "callback_template")] {
            let (code, output) = check(&mut scene, rows);
            assert!(code == Some(78) && output.contains(&format!("bindings[0].{key}: ")), "{when}: {output}");
            assert!(output.contains("stays as long as a row names it"), "{when}: {output}");
        }
    }
    let (code, output) = check(&mut scene, callback(recording(Rows::default(), false), false).domain("push.example", ""));
    assert_eq!(code, Some(0), "what no row names may go: {output}");
}

#[test]
fn an_account_has_at_most_fifty_templates_of_each_kind() {
    let mut scene = on_paper("fifty");
    let owned = |rows: Rows, list: &str, account: Option<&str>, count: usize| {
        (0..count).fold(rows, |rows, n| {
            let owner = account.map_or_else(String::new, |id| format!("account = {id:?}\n"));
            let name = format!("t-{}-{n}", account.unwrap_or("none"));
            let fields =
                if list == "callback_templates" { "urls = { recording_file = \"https://cb.example/\" }" } else { "formats = [\"mp4\"]" };
            rows.row(list, &format!("name = {name:?}\n{owner}{fields}"))
        })
    };
    let accounts = || Rows::default().account("a", "active").account("b", "active").domain("push.example", "");
    let full = || {
        ["callback_templates", "recording_templates"].into_iter().fold(accounts(), |rows, list| {
            [Some("a"), Some("b"), None].into_iter().fold(rows, |rows, account| owned(rows, list, account, 50))
        })
    };
    let (code, output) = check(&mut scene, full());
    assert_eq!(code, Some(0), "fifty of each kind, for each of two accounts and for nobody: {output}");
    for list in ["callback_templates", "recording_templates"] {
        for account in [Some("a"), Some("b"), None] {
            let (code, output) = check(&mut scene, owned(accounts(), list, account, 51));
            let named = account.map_or("without an account".into(), |id| format!("account {id:?}"));
            assert!(code == Some(78) && output.contains(&format!("{list}[50]: ")) && output.contains(&named), "{output}");
        }
    }
    // Settable.
    scene.environment.push(("CALLBACKD_REGISTRY__TEMPLATES_PER_ACCOUNT".into(), "2".into()));
    for (count, code) in [(2, 0), (3, 78)] {
        scene.registry = owned(accounts(), "callback_templates", Some("a"), count).0;
        let config = scene.write_config(9, 10);
        let mut command = crate::harness::scene::binary();
        command.args(["check", "--config"]).arg(config).envs(scene.environment.clone());
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{}", both(&done));
    }
}

#[test]
fn kinds_without_a_url_are_skipped_and_counted() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("kinds", 1);
    let only = |name: &str, kind: &str| format!("name = {name:?}\nurls = {{ {kind} = {:?} }}", receiver.url(&format!("/{name}")));
    scene.registry = Rows::new()
        .template_for_all("all", &receiver)
        .row("callback_templates", &only("file", "recording_file"))
        .row("callback_templates", &only("status", "recording_status"))
        .row("callback_templates", &only("exception", "recording_exception"))
        .domain("all.example", "")
        .bound("all.example", "all", "")
        .domain("file.example", "")
        .bound("file.example", "file", "")
        .domain("status.example", "")
        .bound("status.example", "status", "")
        .domain("exception.example", "")
        .bound("exception.example", "exception", "")
        .0;
    let mut daemon = scene.start();
    let kind = |number: i64, domain: &str| {
        let field = if number == 100 { "app" } else { "domain" };
        format!(r#"{{"event_type":{number},"{field}":"{domain}.example"}}"#)
    };
    let table = [
        (kind(100, "all"), "/all"),
        (kind(332, "all"), "/all-status"),
        (kind(341, "all"), "/all-exception"),
        (kind(100, "file"), "/file"),
        (kind(332, "file"), "skipped"),
        (kind(341, "file"), "skipped"),
        (kind(100, "status"), "skipped"),
        (kind(332, "status"), "/status"),
        (kind(341, "status"), "skipped"),
        (kind(100, "exception"), "skipped"),
        (kind(332, "exception"), "skipped"),
        (kind(341, "exception"), "/exception"),
    ];
    scene.assert_fates(&receiver, &table);
    daemon.wait_metric("callbackd_skipped_total", &["reason=\"no_url\""], 6.0);
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"skipped\""], 6.0);
    assert!(scene.dead_letters().is_empty(), "a skip is no dead letter");
    daemon.stop();
}

#[test]
fn callbacks_are_prompt() {
    const EVENTS: usize = 250;
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("prompt", 1);
    scene.registry = Rows::new().template("cb", &receiver.url("/cb"), "").domain("push.example", "").bound("push.example", "cb", "").0;
    let mut daemon = scene.start();
    let over = AtomicBool::new(false);
    let sent = send_evenly(&over, |n| {
        scene.producer.send(scene.source(), &New::value(file_event("push.example", &format!(r#""file_id":"{n}""#))));
        over.store(n + 1 == EVENTS, Ordering::Relaxed);
    });
    receiver.wait_for(EVENTS, SOON);
    let number = |request: &Request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        body.split_once("\"file_id\":\"").unwrap().1.split('"').next().unwrap().parse::<usize>().unwrap()
    };
    let mut took: Vec<Duration> = receiver.requests().iter().map(|request| request.at.duration_since(sent[number(request)])).collect();
    took.sort();
    // Half of them: what else this machine does may hold up some.
    assert!(took[EVENTS / 2] < Duration::from_millis(500), "half of the callbacks took longer than {:?}", took[EVENTS / 2]);
    daemon.stop();
}

#[test]
fn tasks_made_through_the_api_need_no_recording_binding() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("tasks", 1);
    scene.registry = Rows::new()
        .template("cb", &receiver.url("/cb"), "")
        .domain("called.example", "")
        .binding("called.example", "callback_template = \"cb\"")
        .0;
    let mut daemon = scene.start();
    let called = |fields: &str| file_event("called.example", fields);
    scene.assert_fates(
        &receiver,
        &[
            (called(r#""task_id":"5""#), "/cb"),
            (called(r#""task_id":5"#), "/cb"),
            (called(r#""task_id":"5","record_temp_id":"""#), "/cb"),
            (called(r#""task_id":"5","record_temp_id":null"#), "/cb"),
            (called(r#""task_id":"5","record_temp_id":"7""#), "recording_unbound"),
            (called(r#""record_temp_id":"7""#), "recording_unbound"),
            (called(r#""task_id":"""#), "recording_unbound"),
            (called(r#""task_id":null,"record_temp_id":"""#), "recording_unbound"),
            (called(r#""stream_id":"s""#), "recording_unbound"),
        ],
    );
    daemon.stop();
}

#[test]
fn a_mended_url_helps_what_waits() {
    let (wrong, right) = (Receiver::start(|_, _| Answer::Status(500)), Receiver::agreeable());
    let mut scene = Scene::new("mended", 1);
    let start = now() - HOUR;
    let rows = |receiver: &Receiver| {
        Rows::new()
            .template("cb", &receiver.url("/cb"), "retry = { delays = [\"300ms\"], attempts = 1000 }")
            .template("next", &receiver.url("/next"), "")
            .domain("push.example", "")
    };
    scene.registry = rows(&wrong).bound("push.example", "cb", "").0;
    let mut daemon = scene.start();
    scene.produce(&[file_event("push.example", &format!(r#""push_start_time":{start}"#))]);
    wrong.wait_for(2, SOON);
    // Another template from now on, and the old one's address mended: the old one is called still, at its new address.
    let history = rows(&right).bound("push.example", "cb", &format!("until = {}", instant(start + 1)));
    reload(&mut scene, &daemon, history.bound("push.example", "next", &format!("from = {}", instant(start + 1))));
    right.wait_for(1, SOON);
    assert_eq!(right.requests()[0].path, "/cb");
    scene.wait_committed_to_the_end();
    assert!(scene.dead_letters().is_empty());
    daemon.stop();
}

/// The files of tests that the table may point to, by module.
fn tests_by_module() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| (file.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&file).unwrap()))
        .collect()
}

/// The names of the tests in a file.
fn tests_of(text: &str) -> BTreeSet<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let named = |pair: &[&'_ str]| pair[0].trim() == "#[test]";
    lines.windows(2).filter(|pair| named(pair)).filter_map(|pair| pair[1].trim().strip_prefix("fn ")?.split('(').next()).collect()
}

#[test]
fn the_table_names_tests_that_exist_and_every_test_here_has_a_row() {
    let modules = tests_by_module();
    let own = &modules["source_document_rules"];
    let rows: Vec<&str> = own.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1).collect();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    let mut named = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        let tests: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            let (module, name) = test.split_once("::").unwrap_or(("source_document_rules", test));
            let exists = modules.get(module).is_some_and(|text| tests_of(text).contains(name));
            assert!(exists, "there is no test {test}: {row}");
            named.insert(test);
        }
    }
    let without: Vec<&str> =
        tests_of(own).into_iter().filter(|test| !named.contains(test) && !test.starts_with("the_table_names")).collect();
    assert!(without.is_empty(), "no row of the table names {without:?}");
}
