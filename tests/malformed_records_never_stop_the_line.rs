//! Bad input is dead-lettered with its bytes intact, and what is behind it is delivered.

use crate::harness::kafka::New;
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

/// Value, reason, and a word that the detail must hold.
fn malformed() -> Vec<(Option<Vec<u8>>, &'static str, &'static str)> {
    let deep = format!(r#"{{"app":"shop.example","appname":"live","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let mut bad_utf8 = br#"{"app":"shop.example","appname":"live","note":""#.to_vec();
    bad_utf8.extend([0xc3, 0x28]);
    bad_utf8.extend(br#""}"#);
    let text = |t: &str| Some(t.as_bytes().to_vec());
    vec![
        (None, "undecodable", ""),
        (text(""), "undecodable", ""),
        (text("not json"), "undecodable", ""),
        (text("{"), "undecodable", ""),
        (text("[]"), "undecodable", ""),
        (text("\"text\""), "undecodable", ""),
        (text("null"), "undecodable", ""),
        (text(r#"{"app":"shop.example"} trailing"#), "undecodable", ""),
        (text(r#"{"app":"shop.example",}"#), "undecodable", ""),
        (text(r#"{'app':'shop.example'}"#), "undecodable", ""),
        (text("{\"app\":\"shop\nexample\"}"), "undecodable", ""),
        (text("\u{feff}{\"app\":\"shop.example\"}"), "undecodable", ""),
        (text(r#"{"app":"shop.example","a":"\ud800"}x"#), "undecodable", ""),
        (Some(bad_utf8), "undecodable", ""),
        (Some(deep.into_bytes()), "undecodable", ""),
        (text(r#"{"event_type":100,"appname":"live"}"#), "undecodable", "app"),
        (text(r#"{"event_type":100,"app":null,"appname":"live"}"#), "undecodable", "app"),
        (text(r#"{"event_type":100,"domain":"shop.example"}"#), "undecodable", "app"),
        (text(r#"{"event_type":332,"app":"shop.example"}"#), "undecodable", "domain"),
        (text(r#"{"event_type":100,"app":5,"appname":"live"}"#), "undecodable", "app"),
        (text(r#"{"event_type":100,"app":"shop.example","appname":["live"]}"#), "undecodable", "appname"),
        (text(r#"{"event_type":100,"app":"shop.example","app":"other.example"}"#), "undecodable", "app"),
        (text(r#"{"event_type":100,"app":"shop.example","\u0061pp":"other.example"}"#), "undecodable", "app"),
        (text(r#"{"event_type":100,"event_type":332,"app":"shop.example","domain":"a.example"}"#), "undecodable", "event_type"),
        (text(r#"{"event_type":true,"app":"shop.example"}"#), "undecodable", "event_type"),
        (text(r#"{"event_type":999,"app":"shop.example"}"#), "unsupported_event", ""),
        (text(r#"{"event_type":0,"app":"shop.example"}"#), "unsupported_event", ""),
        (text(r#"{"event_type":200,"app":"shop.example"}"#), "unsupported_event", ""),
    ]
}

#[test]
fn every_malformed_record_is_dead_lettered_intact_and_the_line_goes_on() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("malformed", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    let table = malformed();
    for (n, (value, _, _)) in table.iter().enumerate() {
        let bad = New { value: value.clone(), ..New::default() }.key(&format!("key-{n}")).header("traceparent", format!("trace-{n}"));
        scene.producer.send(scene.source(), &bad);
        scene.producer.send(scene.source(), &New::value(event("shop.example", n)));
    }
    scene.producer.flush();
    receiver.wait_for(table.len(), SOON);
    await_true("a dead letter for each", SOON, || scene.dead_letters().len() >= table.len());
    scene.wait_committed_to_the_end();
    let letters = scene.dead_letters();
    assert_eq!(letters.len(), table.len());
    let mut wrong = Vec::new();
    for (n, (value, reason, word)) in table.iter().enumerate() {
        let shown = String::from_utf8_lossy(value.as_deref().unwrap_or(b"(null)")).chars().take(80).collect::<String>();
        let key = format!("key-{n}").into_bytes();
        let Some(letter) = letters.iter().find(|l| l.key.as_ref() == Some(&key)) else {
            wrong.push(format!("{shown}: no letter"));
            continue;
        };
        let mut check = |what: &str, good: bool| {
            if !good {
                wrong.push(format!(
                    "{shown}: {what}: {:?}",
                    letter.headers.iter().map(|(k, v)| (k, String::from_utf8_lossy(v.as_deref().unwrap_or(b"")))).collect::<Vec<_>>()
                ));
            }
        };
        check("the bytes are intact", letter.value == *value);
        check("the reason", letter.header("callbackd-reason").as_deref() == Some(reason));
        let detail = letter.header("callbackd-detail").unwrap_or_default();
        check("the detail", !detail.is_empty() && detail.len() <= 128 && detail.is_ascii() && detail.contains(word));
        check("the origin", letter.header("callbackd-origin") == Some(format!("{}/0/{}", scene.source(), 2 * n)));
        check("no attempt", letter.header("callbackd-attempts").as_deref() == Some("0"));
        check("an id", letter.header("callbackd-id").is_some_and(|id| !id.is_empty()));
        for absent in ["callbackd-first-attempt-ms", "callbackd-last-outcome", "callbackd-history", "callbackd-due-ms"] {
            check(absent, letter.header(absent).is_none());
        }
        check("other headers pass", letter.header("traceparent") == Some(format!("trace-{n}")));
        let ours: usize =
            letter.headers.iter().filter(|(k, _)| k.starts_with("callbackd-")).map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len)).sum();
        check("at most 1.5 KiB of headers", ours <= 1536);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    daemon.stop();
}

/// A producer's library may write header names in any bytes, and as many headers as fit.
#[test]
fn header_names_that_are_no_text_and_headers_by_the_thousand_neither_stop_nor_fill_anything() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("headers", 1);
    scene.log_level = "info";
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    let produce = |number: usize, headers: Vec<&[u8]>| {
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &scene.bootstrap, "-t", scene.source(), "-D", "\u{1}"]);
        kcat.args(headers.into_iter().flat_map(|header| [OsStr::new("-H"), OsStr::from_bytes(header)]));
        let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("kcat is there");
        kcat.stdin.take().unwrap().write_all(event("shop.example", number).as_bytes()).unwrap();
        assert!(kcat.wait().unwrap().success());
    };
    produce(0, vec![b"callbackd-id=first", b"\xff=1", b"ok=2"]);
    let mut many = vec![&b"callbackd-id=second"[..]];
    many.extend(vec![&b"caf\xe9=x"[..]; 500]);
    produce(1, many);
    let mut many = vec![&b"x=y"[..]; 3_000];
    many.push(b"callbackd-id=third");
    produce(2, many);
    scene.produce(&[event("shop.example", 3)]);
    receiver.wait_for(4, SOON);
    scene.wait_committed_to_the_end();
    daemon.wait_metric("callbackd_headers_dropped_total", &[], 3.0);
    let ids: Vec<String> = receiver.requests().iter().map(|request| request.id().to_owned()).collect();
    assert_eq!(ids[..3], ["first", "second", "third"]);
    daemon.stop();
    let log = daemon.log();
    assert!(!log.contains("panicked"), "what is caught is not printed");
    assert_eq!(log.lines().filter(|line| line.contains("headers were left out")).count(), 1, "once a minute");
}

#[test]
fn oddities_that_nobody_needs_pass_through() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("odd", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let _daemon = scene.start();
    let odd = [
        r#"{"event_type":"100","app":"shop.example","appname":"live"}"#.to_string(),
        r#"{"app":"SHOP.Example","appname":"live","file_size":"not a number"}"#.to_string(),
        r#"{"app":"shop.example"}"#.to_string(),
        r#"{"app":"shop.example","appname":null,"x":1,"x":2}"#.to_string(),
        r#"{"event_type":null,"app":"shop.example","start_time":"yesterday"}"#.to_string(),
        r#"{"event_type":332,"domain":"shop.example","app":7}"#.to_string(),
        format!(r#"{{"app":"shop.example","filler":"{}"}}"#, "z".repeat(1_000_000)),
    ];
    scene.produce(&odd);
    await_true("all delivered", SOON, || {
        let letters = scene.dead_letters();
        assert!(
            letters.is_empty(),
            "{:?}",
            letters.iter().map(|l| (l.offset, l.header("callbackd-origin"), l.header("callbackd-detail"))).collect::<Vec<_>>()
        );
        receiver.count() == odd.len()
    });
    let mut bodies: Vec<Vec<u8>> = receiver.requests().iter().map(|r| r.body.clone()).collect();
    let mut expected: Vec<Vec<u8>> = odd.iter().map(|o| o.clone().into_bytes()).collect();
    bodies.sort();
    expected.sort();
    assert!(bodies == expected, "unkeyed and without t and sign: the bytes of the event");
}
