use super::super::body::render;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::fmt;

/// 2022-01-13T16:00:00Z, a while after the times in the protocol's examples.
const RECORDED: UnixMillis = UnixMillis::from_secs(1_642_089_600);

fn read(value: &str) -> Event {
    decode(Some(value.as_bytes()), RECORDED).unwrap_or_else(|e| panic!("{value}: {e}"))
}

fn error(value: &[u8]) -> DecodeError {
    let error = decode(Some(value), RECORDED).expect_err(&String::from_utf8_lossy(value));
    assert!(error.detail.is_ascii() && error.detail.len() <= 128, "{}", error.detail);
    error
}

#[test]
fn the_type_picks_domain_and_path() {
    use EventKind::{RecordingException, RecordingFile, RecordingStatus};
    for (value, kind, domain, path) in [
        (r#"{"app":"a.b"}"#, RecordingFile, "a.b", None),
        (r#"{"event_type":null,"app":"a.b"}"#, RecordingFile, "a.b", None),
        (r#"{"app":"a.b","appname":"live","event_type":100}"#, RecordingFile, "a.b", Some("live")),
        (r#"{"app":"a.b","appname":null}"#, RecordingFile, "a.b", None),
        (r#"{"app":"a.b","appname":""}"#, RecordingFile, "a.b", None),
        (r#"{"app":"a.b","appname":"/Live/1 "}"#, RecordingFile, "a.b", Some("/Live/1 ")),
        (r#"{"app":"a.b","appname":"\u00e9\ud83d\ude00\n\/"}"#, RecordingFile, "a.b", Some("é😀\n/")),
        (r#"{"app":"a.b","appname":"방송"}"#, RecordingFile, "a.b", Some("방송")),
        (r#"{"\u0061pp":"a.\u0062"}"#, RecordingFile, "a.b", None),
        (r#"{"app":"Bücher.Example"}"#, RecordingFile, "xn--bcher-kva.example", None),
        (r#"{"event_type":"100","app":"a.b"}"#, RecordingFile, "a.b", None),
        (r#"{"event_type":"\u0031\u0030\u0030","app":"a.b"}"#, RecordingFile, "a.b", None),
        (r#"{"event_type":1e2,"app":"a.b"}"#, RecordingFile, "a.b", None),
        (r#"{"event_type":100.0,"app":"a.b"}"#, RecordingFile, "a.b", None),
        (r#"{"event_type":332,"domain":"a.b","appname":"live"}"#, RecordingStatus, "a.b", Some("live")),
        (r#"{"event_type":341,"domain":"a.b","path":"live"}"#, RecordingException, "a.b", Some("live")),
        (r#"{"event_type":"341","domain":"a.b"}"#, RecordingException, "a.b", None),
        // The other spelling is ignored: its value, its type and its doubles, wherever the type stands.
        (r#"{"domain":"c.d","path":"vod","app":"a.b","domain":1}"#, RecordingFile, "a.b", None),
        (r#"{"app":7,"path":[],"domain":"a.b","app":8,"event_type":332,"path":{}}"#, RecordingStatus, "a.b", None),
        (r#"{"appname":3,"domain":"a.b","appname":"vod","path":"live","event_type":341}"#, RecordingException, "a.b", Some("live")),
        // What nobody reads passes, however it looks.
        (
            r#"{"app":"a.b","x":"\ud800","x":1e999,"\udc00":2,"":[[],{},[{"app":1}]],"timestamp":1,"timestamp":2}"#,
            RecordingFile,
            "a.b",
            None,
        ),
        ("\r\n\t {\"app\" :\t\"a.b\" , \"x\":[ ] }\r\n\t ", RecordingFile, "a.b", None),
    ] {
        let event = read(value);
        assert_eq!((event.kind, event.domain.as_str(), event.path.as_deref()), (kind, domain, path), "{value}");
    }
}

#[test]
fn a_stream_is_a_text_or_none() {
    for (value, stream) in [
        (r#"{"app":"a.b","stream_id":"s"}"#, Some("s")),
        (r#"{"app":"a.b","stream_id":"\u0073"}"#, Some("s")),
        (r#"{"app":"a.b","stream_id":""}"#, None),
        (r#"{"app":"a.b","stream_id":null}"#, None),
        (r#"{"app":"a.b","stream_id":5}"#, None),
        (r#"{"app":"a.b","stream_id":["s"]}"#, None),
        (r#"{"app":"a.b","stream_id":"\ud800"}"#, None),
        (r#"{"app":"a.b"}"#, None),
    ] {
        assert_eq!(read(value).stream.as_deref(), stream, "{value}");
    }
}

#[test]
fn a_recording_is_template_driven_when_it_names_its_template_or_no_task() {
    for (value, driven) in [
        (r#"{"app":"a.b"}"#, true),
        (r#"{"app":"a.b","record_temp_id":"1"}"#, true),
        (r#"{"app":"a.b","record_temp_id":1,"task_id":"2"}"#, true),
        (r#"{"app":"a.b","record_temp_id":"1","task_id":"2"}"#, true),
        (r#"{"app":"a.b","task_id":"2"}"#, false),
        (r#"{"app":"a.b","task_id":0}"#, false),
        (r#"{"app":"a.b","record_temp_id":"","task_id":"2"}"#, false),
        (r#"{"app":"a.b","record_temp_id":null,"task_id":"2"}"#, false),
        (r#"{"app":"a.b","record_temp_id":"","task_id":""}"#, true),
        (r#"{"app":"a.b","record_temp_id":null,"task_id":null}"#, true),
        (r#"{"event_type":332,"domain":"a.b","record_temp_id":"1"}"#, false),
        (r#"{"event_type":332,"domain":"a.b","task_id":"1","task_id":"1"}"#, false),
    ] {
        assert_eq!(read(value).template_driven, driven, "{value}");
    }
}

#[test]
fn the_push_start_is_the_first_plausible_time() {
    use PushStartSource::{Assumed, Stated};
    let day = 86_400;
    let recorded = RECORDED.as_secs();
    for (fields, start, source) in [
        (String::new(), RECORDED.0, Assumed),
        (r#","start_time":1642089000"#.into(), 1_642_089_000_000, Assumed),
        (r#","start_time":1642089000,"push_start_time":1642080000"#.into(), 1_642_080_000_000, Stated),
        (r#","push_start_time":"1642080000""#.into(), 1_642_080_000_000, Stated),
        (r#","push_start_time":1642080000.25"#.into(), 1_642_080_000_250, Stated),
        (r#","push_start_time":1.64208e9"#.into(), 1_642_080_000_000, Stated),
        (r#","push_start_time":1262304000"#.into(), 1_262_304_000_000, Stated),
        (r#","push_start_time":1262303999"#.into(), RECORDED.0, Assumed),
        (format!(r#","push_start_time":{}"#, recorded + day), RECORDED.0 + 86_400_000, Stated),
        (format!(r#","push_start_time":{}"#, recorded + day + 1), RECORDED.0, Assumed),
        // Milliseconds, nonsense, other types: not plausible, the next one counts.
        (r#","push_start_time":1642080000000,"start_time":1642089000"#.into(), 1_642_089_000_000, Assumed),
        (r#","push_start_time":-1,"start_time":1e999"#.into(), RECORDED.0, Assumed),
        (r#","push_start_time":"1.64208e9","start_time":"01642089000""#.into(), RECORDED.0, Assumed),
        (r#","push_start_time":[1642080000],"start_time":null"#.into(), RECORDED.0, Assumed),
        // The times of other kinds are not asked.
        (r#","event_time":1642080000,"timestamp":1642080000"#.into(), RECORDED.0, Assumed),
        (r#","event_type":332,"domain":"a.b","event_time":1642080000,"timestamp":1642070000"#.into(), 1_642_080_000_000, Assumed),
        (r#","event_type":332,"domain":"a.b","event_time":1642080000,"start_time":1642070000"#.into(), 1_642_070_000_000, Assumed),
        (r#","event_type":341,"domain":"a.b","event_time":1642080000,"timestamp":1642070000"#.into(), 1_642_070_000_000, Assumed),
    ] {
        let event = read(&format!(r#"{{"app":"a.b"{fields}}}"#));
        assert_eq!((event.push_start.0, event.push_start_source), (start, source), "{fields}");
    }
}

#[test]
fn a_record_without_a_timestamp_still_believes_a_stated_push_start() {
    let decoded = |fields: &str| {
        let event = decode(Some(format!(r#"{{"app":"a.b"{fields}}}"#).as_bytes()), UnixMillis(-1)).expect("an event");
        (event.push_start.0, event.push_start_source)
    };
    assert_eq!(decoded(r#","push_start_time":1642080000"#), (1_642_080_000_000, PushStartSource::Stated));
    assert_eq!(decoded(r#","push_start_time":1642080000000"#), (-1, PushStartSource::Assumed));
}

#[test]
fn what_is_no_json_object_is_undecodable_and_the_detail_says_where() {
    let nested = |levels: usize| format!(r#"{{"app":"a.b","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let deep_objects = format!(r#"{{"app":"a.b","x":{}1{}}}"#, r#"{"x":"#.repeat(128), "}".repeat(128));
    read(&nested(127));
    read(&format!(r#"{{"app":"a.b","x":{}1{}}}"#, r#"{"x":"#.repeat(127), "}".repeat(127)));
    for (value, detail) in [
        (&b""[..], "the value is empty"),
        (b" ", "not JSON at byte 1"),
        (b"\xef\xbb\xbf{\"app\":\"a.b\"}", "not JSON: begins with a byte order mark"),
        (b"null", "not an object"),
        (b"[{\"app\":\"a.b\"}]", "not an object"),
        (b"\"app\"", "not an object"),
        (b"100", "not an object"),
        (b"-", "not an object"),
        (b"app=a.b", "not JSON at byte 0"),
        (b"{", "not JSON at byte 1"),
        (b"{\"app\":\"a.b\"", "not JSON at byte 12"),
        (b"{\"app\":\"a.b\",}", "not JSON at byte 13"),
        (b"{,\"app\":\"a.b\"}", "not JSON at byte 1"),
        (b"{\"app\":\"a.b\";}", "not JSON at byte 12"),
        (b"{\"app\" \"a.b\"}", "not JSON at byte 7"),
        (b"{\"app\":}", "not JSON at byte 7"),
        (b"{app:\"a.b\"}", "not JSON at byte 1"),
        (b"{'app':\"a.b\"}", "not JSON at byte 1"),
        (b"{\"app\":\"a.b\"]", "not JSON at byte 12"),
        (b"{\"app\":\"a.b\"}{}", "more after the object at byte 13"),
        (b"{\"app\":\"a.b\"}\0", "more after the object at byte 13"),
        (b"{\"app\":\"a.b\"} // x", "more after the object at byte 14"),
        (b"{\"app\":\"a.b\n\"}", "not JSON at byte 11"),
        (b"{\"app\":\"a.b\x1f and more behind\"}", "not JSON at byte 11"),
        (b"{\"app\":\"a\\x\"}", "not JSON at byte 9"),
        (b"{\"app\":\"a\\u12g4\"}", "not JSON at byte 9"),
        (b"{\"app\":\"a\\u12\"}", "not JSON at byte 9"),
        (b"{\"app\":\"a\\", "not JSON at byte 9"),
        (b"{\"x\":01,\"app\":\"a.b\"}", "not JSON at byte 6"),
        (b"{\"x\":1.,\"app\":\"a.b\"}", "not JSON at byte 7"),
        (b"{\"x\":.5,\"app\":\"a.b\"}", "not JSON at byte 5"),
        (b"{\"x\":-,\"app\":\"a.b\"}", "not JSON at byte 6"),
        (b"{\"x\":+1,\"app\":\"a.b\"}", "not JSON at byte 5"),
        (b"{\"x\":1e,\"app\":\"a.b\"}", "not JSON at byte 7"),
        (b"{\"x\":0x1,\"app\":\"a.b\"}", "not JSON at byte 6"),
        (b"{\"x\":NaN,\"app\":\"a.b\"}", "not JSON at byte 5"),
        (b"{\"x\":nul,\"app\":\"a.b\"}", "not JSON at byte 5"),
        (b"{\"x\":True,\"app\":\"a.b\"}", "not JSON at byte 5"),
        (b"{\"x\":[1,],\"app\":\"a.b\"}", "not JSON at byte 8"),
        (b"{\"x\":[1 2],\"app\":\"a.b\"}", "not JSON at byte 8"),
        (b"{\"x\":[1},\"app\":\"a.b\"}", "not JSON at byte 7"),
        (b"{\"x\":{\"y\"},\"app\":\"a.b\"}", "not JSON at byte 9"),
        (b"{\"x\":{\"y\":1,},\"app\":\"a.b\"}", "not JSON at byte 12"),
        (b"{\"x\":{1:2},\"app\":\"a.b\"}", "not JSON at byte 6"),
        (b"{\"app\":\"a.b\",\"x\":\"\xff\"}", "not UTF-8 at byte 18"),
        (b"{\"app\":\"a.b\",\"\xc3\x28\":1}", "not UTF-8 at byte 14"),
        (b"{\"app\":\"a.b\",\"x\":[\"\xc0\x80\"]}", "not UTF-8 at byte 19"),
        (b"{\"app\":\"a.b\",\"x\":\"\xed\xa0\x80\"}", "not UTF-8 at byte 18"),
        (b"{\"app\":\"a.b\",\"x\":\"\xe2\x82\"}", "not UTF-8 at byte 18"),
        (b"{\"app\":\"a.b\",\xc2\xa0\"x\":1}", "not JSON at byte 13"),
        (nested(128).as_bytes(), "deeper than 128 levels at byte 144"),
        (nested(100_000).as_bytes(), "deeper than 128 levels at byte 144"),
        (deep_objects.as_bytes(), "deeper than 128 levels at byte 652"),
    ] {
        let error = error(value);
        assert_eq!(
            (error.reason, error.detail.as_str(), error.domain),
            (Reason::Undecodable, detail, None),
            "{}",
            String::from_utf8_lossy(value)
        );
    }
    let null = decode(None, RECORDED).expect_err("null");
    assert_eq!((null.reason, null.detail.as_str()), (Reason::Undecodable, "the value is null"));
}

#[test]
fn a_fault_in_a_field_that_is_read_is_undecodable_and_names_it() {
    const KNOWN: Option<&str> = Some("a.b");
    for (value, detail, domain) in [
        (r#"{}"#, "app: missing", None),
        (r#"{"domain":"a.b"}"#, "app: missing", None),
        (r#"{"app":null}"#, "app: missing", None),
        (r#"{"app":""}"#, "app: missing", None),
        (r#"{"event_type":332,"app":"a.b"}"#, "domain: missing", None),
        (r#"{"event_type":341,"app":"a.b","domain":null}"#, "domain: missing", None),
        (r#"{"app":5}"#, "app: wrong type", None),
        (r#"{"app":["a.b"]}"#, "app: wrong type", None),
        (r#"{"app":{"a":"b"}}"#, "app: wrong type", None),
        (r#"{"app":true}"#, "app: wrong type", None),
        (r#"{"app":"a\ud800b"}"#, "app: wrong type", None),
        (r#"{"app":"a\ude00\ud83db"}"#, "app: wrong type", None),
        (r#"{"app":"a b"}"#, "app: not a domain name", None),
        (r#"{"app":"a..b"}"#, "app: not a domain name", None),
        (r#"{"event_type":341,"domain":"http://a.b/"}"#, "domain: not a domain name", None),
        (r#"{"app":"a.b","app":"a.b"}"#, "app: given more than once", None),
        (r#"{"app":"a.b","app":null}"#, "app: given more than once", None),
        (r#"{"app":null,"app":"a.b"}"#, "app: given more than once", None),
        (r#"{"app":"a.b","x":1,"\u0061pp":"c.d"}"#, "app: given more than once", None),
        (r#"{"app":"a.b","app":"a.b","app":"a.b"}"#, "app: given more than once", None),
        (r#"{"event_type":332,"domain":"a.b","domain":"c.d"}"#, "domain: given more than once", None),
        (r#"{"app":"a.b","appname":5}"#, "appname: wrong type", KNOWN),
        (r#"{"app":"a.b","appname":"\ud800"}"#, "appname: wrong type", KNOWN),
        (r#"{"app":"a.b","appname":"x","appname":"x"}"#, "appname: given more than once", KNOWN),
        (r#"{"event_type":332,"domain":"a.b","appname":false}"#, "appname: wrong type", KNOWN),
        (r#"{"event_type":341,"domain":"a.b","path":[]}"#, "path: wrong type", KNOWN),
        (r#"{"event_type":341,"domain":"a.b","path":"x","path":"y"}"#, "path: given more than once", KNOWN),
        (r#"{"app":"a.b","stream_id":"s","stream_id":"s"}"#, "stream_id: given more than once", KNOWN),
        (r#"{"app":"a.b","record_temp_id":"1","record_temp_id":""}"#, "record_temp_id: given more than once", KNOWN),
        (r#"{"app":"a.b","task_id":"1","task_id":"1"}"#, "task_id: given more than once", KNOWN),
        (r#"{"app":"a.b","push_start_time":1,"push_start_time":2}"#, "push_start_time: given more than once", KNOWN),
        (r#"{"app":"a.b","push_start_time":1642080000,"start_time":1,"start_time":1}"#, "start_time: given more than once", KNOWN),
        (r#"{"event_type":332,"domain":"a.b","event_time":1,"event_time":1}"#, "event_time: given more than once", KNOWN),
        (r#"{"event_type":341,"domain":"a.b","timestamp":1,"timestamp":1}"#, "timestamp: given more than once", KNOWN),
        (r#"{"event_type":100,"app":"a.b","event_type":100}"#, "event_type: given more than once", KNOWN),
        (r#"{"event_type":null,"app":"a.b","event_type":100}"#, "event_type: given more than once", KNOWN),
        (r#"{"event_type":true,"app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":[100],"app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":{},"app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":"","app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":" 100","app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":"0100","app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":"1e2","app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":"record","app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":100.5,"app":"a.b"}"#, "event_type: wrong type", KNOWN),
        (r#"{"event_type":100.00000000000000000001,"app":"a.b"}"#, "event_type: wrong type", KNOWN),
    ] {
        let error = error(value.as_bytes());
        assert_eq!(
            (error.reason, error.detail.as_str(), error.domain.as_ref().map(DomainName::as_str)),
            (Reason::Undecodable, detail, domain),
            "{value}"
        );
    }
}

#[test]
fn a_type_without_a_callback_is_unsupported_and_tells_its_domain_if_one_can_be_read() {
    for (value, domain) in [
        (r#"{"event_type":0,"app":"a.b"}"#, Some("a.b")),
        (r#"{"event_type":1,"domain":"a.b"}"#, Some("a.b")),
        (r#"{"event_type":"200","app":"a.b","domain":"A.B"}"#, Some("a.b")),
        (r#"{"event_type":-100,"app":"a.b","domain":"c.d"}"#, None),
        (r#"{"event_type":101,"app":"a.b","domain":5}"#, None),
        (r#"{"event_type":1e300,"app":"a.b","app":"a.b"}"#, None),
        (r#"{"event_type":99999999999999999999}"#, None),
        (r#"{"event_type":"99999999999999999999","app":"a.b","appname":7}"#, Some("a.b")),
    ] {
        let error = error(value.as_bytes());
        assert_eq!((error.reason, error.detail.as_str()), (Reason::UnsupportedEvent, "event_type: no callback for this type"), "{value}");
        assert_eq!(error.domain.as_ref().map(DomainName::as_str), domain, "{value}");
    }
}

#[test]
fn a_value_of_a_mebibyte_passes() {
    let value = format!(r#"{{"x":"{}","app":"a.b","t":1}}"#, "방a\\\"".repeat(200_000));
    let body = render(&Bytes::from(value.clone()), &read(&value).cuts, None);
    assert_eq!(body.len(), value.len() - r#","t":1"#.len());
}

// === Properties, against serde_json as the naive model ===

/// A top-level object's members as another parser sees them: unescaped names, values as written, in order, doubles kept.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn members(json: &[u8]) -> Vec<(String, String)> {
    let Members(members) = serde_json::from_slice(json).unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(json)));
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// `text` as a JSON string, its characters escaped or not as `escapes` says.
fn quoted(text: &str, escapes: u64) -> String {
    let mut json = String::from("\"");
    for (place, character) in text.chars().enumerate() {
        if escapes >> (place % 64) & 1 == 1 || character < ' ' || matches!(character, '"' | '\\') {
            for unit in character.encode_utf16(&mut [0; 2]) {
                json.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            json.push(character);
        }
    }
    json + "\""
}

fn string() -> impl Strategy<Value = String> {
    let escapes = prop_oneof![3 => Just(0), 1 => any::<u64>()];
    let text =
        prop_oneof![Just("a.b".to_owned()), Just("100".to_owned()), Just(String::new()), "[a-z.{}\\[\\],:\"\\\\é방😀\u{1}-\u{20}]{0,20}"];
    (text, escapes).prop_map(|(text, escapes)| quoted(&text, escapes))
}

fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("100".to_owned()),
        Just("332".to_owned()),
        Just("1642080000".to_owned()),
        "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        string(),
        string(),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        let items = proptest::collection::vec((space(), inner.clone(), space()), 0..4);
        let pairs = proptest::collection::vec((space(), string(), space(), inner, space()), 0..4);
        prop_oneof![
            (space(), items).prop_map(|(gap, items)| {
                let items: Vec<_> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                format!("[{gap}{}]", items.join(","))
            }),
            (space(), pairs).prop_map(|(gap, pairs)| {
                let pairs: Vec<_> = pairs.into_iter().map(|(a, name, b, item, c)| format!("{a}{name}{b}:{b}{item}{c}")).collect();
                format!("{{{gap}{}}}", pairs.join(","))
            }),
        ]
    })
}

const NAMES: [&str; 18] = [
    "t",
    "sign",
    "t",
    "sign",
    "event_type",
    "app",
    "appname",
    "domain",
    "path",
    "stream_id",
    "record_temp_id",
    "task_id",
    "push_start_time",
    "start_time",
    "event_time",
    "timestamp",
    "file_id",
    "T",
];

fn object() -> impl Strategy<Value = String> {
    let escapes = prop_oneof![3 => Just(0), 1 => any::<u64>()];
    let name = (proptest::sample::select(&NAMES[..]), escapes).prop_map(|(name, escapes)| quoted(name, escapes));
    let name = prop_oneof![4 => name, 1 => string()];
    let member = (space(), name, space(), space(), value(), space());
    let gaps = (space(), space(), space(), any::<bool>());
    (proptest::collection::vec(member, 0..8), gaps).prop_map(|(members, (before, inside, after, with_domain))| {
        let mut members: Vec<_> = members.into_iter().map(|(a, name, b, c, item, d)| format!("{a}{name}{b}:{c}{item}{d}")).collect();
        if with_domain {
            members.insert(members.len() / 2, r#""app":"a.b""#.into());
        }
        format!("{before}{{{inside}{}}}{after}", members.join(","))
    })
}

/// Our rules once more, the naive way: over a list, with a lookup per question. `Err` names the first fault of a value.
fn expected(members: &[(String, String)]) -> Result<(u64, String, Option<String>), &'static str> {
    let once = |name: &str| {
        let all: Vec<_> = members.iter().filter(|(other, _)| other == name).collect();
        match all[..] {
            [] => Ok(serde_json::Value::Null),
            [(_, raw)] => Ok(serde_json::from_str(raw).unwrap_or(serde_json::Value::Bool(true))),
            _ => Err("given more than once"),
        }
    };
    let kind = match once("event_type")? {
        serde_json::Value::Null => 100,
        serde_json::Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 => whole as u64,
            _ => return Err("wrong type"),
        },
        serde_json::Value::String(text) => match text.parse::<u64>() {
            Ok(number) if number.to_string() == text => number,
            _ => return Err("wrong type"),
        },
        serde_json::Value::Bool(_) | serde_json::Value::Array(_) | serde_json::Value::Object(_) => return Err("wrong type"),
    };
    let (domain, path, others): (_, _, &[&str]) = match kind {
        100 => ("app", "appname", &["stream_id", "push_start_time", "start_time", "record_temp_id", "task_id"]),
        332 => ("domain", "appname", &["stream_id", "push_start_time", "start_time", "event_time"]),
        341 => ("domain", "path", &["stream_id", "push_start_time", "start_time", "timestamp"]),
        _ => return Err("no callback"),
    };
    let text = |name| match once(name)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            Err("wrong type")
        }
    };
    let domain = text(domain)?.ok_or("missing")?;
    let domain = DomainName::parse(&domain).ok_or("not a domain name")?.to_string();
    let path = text(path)?;
    for other in others {
        once(other)?;
    }
    Ok((kind, domain, path))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_object_is_read_as_the_naive_model_reads_it_and_rendered_as_its_other_members_and_the_seal(value in object()) {
        let found = members(value.as_bytes());
        match (decode(Some(value.as_bytes()), RECORDED), expected(&found)) {
            (Ok(event), Ok((kind, domain, path))) => {
                let number = match event.kind {
                    EventKind::RecordingFile => 100,
                    EventKind::RecordingStatus => 332,
                    EventKind::RecordingException => 341,
                };
                prop_assert_eq!((number, event.domain.as_str(), &event.path), (kind, domain.as_str(), &path));
                let mut others: Vec<_> = found.into_iter().filter(|(name, _)| name != "t" && name != "sign").collect();
                let value = Bytes::from(value);
                prop_assert_eq!(&members(&render(&value, &event.cuts, None)), &others);
                others.push(("t".into(), "-7".into()));
                others.push(("sign".into(), "\"00\"".into()));
                prop_assert_eq!(members(&render(&value, &event.cuts, Some((-7, "00")))), others);
            }
            (Err(error), Err(fault)) => prop_assert!(error.detail.contains(fault), "{} / {}", error.detail, fault),
            (ours, naive) => prop_assert!(false, "{ours:?} / {naive:?}"),
        }
    }

    #[test]
    fn a_cut_leaves_valid_json_whatever_the_event_lacks(value in object()) {
        let mut cuts = Cuts::default();
        let bytes = value.as_bytes();
        scan::object(bytes, |member| {
            if fields::role(member.name) == Role::Seal {
                cuts.member(bytes, member.start, member.delimiter);
            }
        }).expect("an object");
        let mut others: Vec<_> = members(bytes).into_iter().filter(|(name, _)| name != "t" && name != "sign").collect();
        let value = Bytes::copy_from_slice(bytes);
        prop_assert_eq!(&members(&render(&value, &cuts, None)), &others);
        others.extend([("t".to_owned(), "7".to_owned()), ("sign".to_owned(), "\"00\"".to_owned())]);
        prop_assert_eq!(members(&render(&value, &cuts, Some((7, "00")))), others);
    }

    #[test]
    fn what_the_naive_model_takes_for_an_object_is_one_here_and_nothing_else(
        value in object(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![Just(None), any::<u8>().prop_map(Some), proptest::sample::select(&b"{}[],:\"\\ 0-1.eu\x80\xc3\x1f"[..]).prop_map(Some)]), 0..3),
    ) {
        let mut bytes = value.into_bytes();
        for (place, edit) in edits {
            let place = place.index(bytes.len());
            match edit {
                Some(byte) => bytes[place] = byte,
                None => bytes.truncate(place.max(1)),
            }
        }
        let naive = std::str::from_utf8(&bytes).is_ok_and(|text| {
            serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() && text.trim_start().starts_with('{')
        });
        prop_assert_eq!(scan::object(&bytes, |_| {}).is_ok(), naive, "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode(Some(&bytes), RECORDED);
    }
}
