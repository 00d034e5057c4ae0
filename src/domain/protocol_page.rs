//! `docs/protocol.md` as the tests read it: the page is the fixture, so it cannot say what the code does not do.

use super::dead_letter::Reason;
use super::event::{EventKind, PushStartSource, decode};
use super::headers::name;
use super::id::DomainName;
use super::time::UnixMillis;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/protocol.md");

/// 2022-01-13T16:00:00Z, a while after the times in the examples.
const RECORDED: UnixMillis = UnixMillis::from_secs(1_642_089_600);

/// What stands under the heading that begins so, up to the next heading of any level.
fn section(heading: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("no heading {heading}"));
    rest.split("\n#").next().unwrap_or(rest)
}

/// The rows of a section's table, a cell each, without its head.
fn rows(section: &'static str) -> Vec<Vec<&'static str>> {
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '|'])).collect()).collect()
}

/// A name in a cell.
fn named(cell: &'static str) -> &'static str {
    cell.trim_matches('`')
}

/// The example of an event type, as it stands on the page.
pub(super) fn example(event_type: u32) -> &'static str {
    let (_, rest) = section(&format!("### {event_type}:")).split_once("```json\n").expect("an example");
    rest.split("\n```").next().expect("its end")
}

const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_event(value: &Map<String, Value>) -> bool {
    decode(Some(serde_json::to_string(value).expect("JSON").as_bytes()), RECORDED).is_ok()
}

#[test]
fn the_examples_are_read_as_the_page_says() {
    let domain = DomainName::parse("push.example.com").expect("a name");
    for (event_type, kind, push_start, template_driven) in [
        (100, EventKind::RecordingFile, 1_642_089_445, true),
        (332, EventKind::RecordingStatus, 1_642_089_445, false),
        (341, EventKind::RecordingException, 1_642_089_500, false),
    ] {
        let event = decode(Some(example(event_type).as_bytes()), RECORDED).expect("an event");
        assert_eq!((event.kind, &event.domain), (kind, &domain));
        assert_eq!((event.path.as_deref(), event.stream.as_deref()), (Some("live"), Some("stream_test")));
        assert_eq!((event.push_start, event.push_start_source), (UnixMillis::from_secs(push_start), PushStartSource::Assumed));
        assert_eq!(event.template_driven, template_driven);
    }
}

#[test]
fn every_field_of_an_example_is_in_its_table_with_its_type_and_none_that_is_always_there_is_missing() {
    for event_type in [100, 332, 341] {
        let example: Map<String, Value> = serde_json::from_str(example(event_type)).expect("an object");
        let table = rows(section(&format!("### {event_type}:")));
        for (field, value) in &example {
            let row = table.iter().find(|row| named(row[0]) == field).unwrap_or_else(|| panic!("{event_type}: no row for {field}"));
            assert_eq!(type_of(value), row[1], "{event_type}: {field}");
        }
        for row in &table {
            assert!(["always", "optional"].contains(&row[2]), "{event_type}: {row:?}");
            assert!(row[2] == "optional" || example.contains_key(named(row[0])), "{event_type}: {} is always there", row[0]);
        }
    }
}

#[test]
fn what_the_page_says_is_needed_or_read_is_exactly_what_decoding_minds() {
    for event_type in [100, 332, 341] {
        let example: Map<String, Value> = serde_json::from_str(example(event_type)).expect("an object");
        let text = example.iter().map(|(k, v)| format!("{}:{v}", Value::from(k.as_str()))).collect::<Vec<_>>().join(",");
        for row in rows(section(&format!("### {event_type}:"))) {
            let (field, read) = (named(row[0]), *row.get(4).unwrap_or(&""));
            let mut without = example.clone();
            let _ = without.remove(field);
            // Without its number it would be another type of event.
            if field != "event_type" {
                assert_eq!(is_event(&without), read != "needed", "{event_type} without {field}");
            }
            let doubled = format!("{{{text},\"{field}\":{0},\"{field}\":{0}}}", example.get(field).unwrap_or(&Value::from(1)));
            let minds = !read.is_empty() && read != "cut out";
            assert_eq!(decode(Some(doubled.as_bytes()), RECORDED).is_err(), minds, "{event_type} with {field} given twice");
        }
    }
}

#[test]
fn the_page_names_every_header_of_ours_and_every_reason() {
    let first = |heading| rows(section(heading)).iter().map(|row| named(row[0])).collect::<BTreeSet<_>>();
    assert_eq!(first("## Record headers of ours"), name::ALL.into_iter().collect());
    assert_eq!(first("## Dead-letter reasons"), Reason::ALL.map(Reason::as_str).into_iter().collect());
}
