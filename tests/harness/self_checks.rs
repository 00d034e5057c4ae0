//! The harness judges the daemon; these tests judge the harness.

use super::broker;
use super::http;
use super::kafka::{self, New, Producer};
use super::receiver::{Answer, Receiver, Request};
use super::verify::{Case, Judge, Keys, verdicts};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

#[test]
fn what_is_produced_is_read_back_with_key_headers_and_timestamp() {
    let at = &broker::shared().bootstrap;
    kafka::create_topic(at, "harness-round-trip", 2, &[]);
    let producer = Producer::new(at);
    let record = New::value("{}").key("k").header("h", "v").partition(1);
    producer.send_all("harness-round-trip", &[record, New { partition: Some(0), ..New::default() }]);
    let read = kafka::read_all(at, "harness-round-trip");
    assert_eq!(read.len(), 2);
    assert_eq!((read[0].partition, &read[0].key, &read[0].value), (0, &None, &None));
    assert_eq!((read[1].partition, read[1].offset, read[1].key.as_deref()), (1, 0, Some(&b"k"[..])));
    assert_eq!(read[1].header("h").as_deref(), Some("v"));
    assert!(read[1].timestamp > 1_700_000_000_000);
    assert_eq!(kafka::end_offsets(at, "harness-round-trip"), [1, 1]);
    assert_eq!(kafka::committed(at, "harness-nobody", "harness-round-trip"), [-1, -1]);
}

#[test]
fn what_a_transaction_aborts_is_not_read() {
    let at = &broker::shared().bootstrap;
    kafka::create_topic(at, "harness-transactions", 1, &[]);
    let producer = Producer::transactional(at, "harness-transactions");
    producer.begin();
    producer.send_all("harness-transactions", &[New::value("a")]);
    producer.abort();
    producer.begin();
    producer.send_all("harness-transactions", &[New::value("b")]);
    producer.commit();
    let read = kafka::read_all(at, "harness-transactions");
    assert_eq!(read.iter().map(|r| r.value.clone().unwrap()).collect::<Vec<_>>(), [b"b".to_vec()]);
    assert_eq!(kafka::end_offsets(at, "harness-transactions"), [4]);
}

#[test]
fn the_receiver_keeps_connections_and_counts_requests_of_one_id() {
    let receiver = Receiver::start(|_, nth| Answer::Status(if nth == 1 { 503 } else { 200 }));
    let mut stream = TcpStream::connect(("127.0.0.1", receiver.port)).unwrap();
    for expected in ["HTTP/1.1 503", "HTTP/1.1 200"] {
        stream.write_all(b"POST /x HTTP/1.1\r\nhost: a\r\nWebhook-Id: e1\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), expected);
        let mut rest = [0; "\r\ncontent-length: 0\r\n\r\n X".len()];
        stream.read_exact(&mut rest).unwrap();
    }
    receiver.wait_for(2, Duration::from_secs(5));
    assert_eq!((receiver.connections(), receiver.requests()[1].id()), (1, "e1"));
    assert_eq!((receiver.requests()[0].method.as_str(), receiver.requests()[0].body.as_slice()), ("POST", &b"{}"[..]));
}

#[test]
fn a_metric_or_label_that_does_not_exist_is_not_zero() {
    let text = "# TYPE attempts counter\nattempts{result=\"success\"} 0\nattempts{result=\"timeout\"} 2\n";
    for (name, labels, expected) in [
        ("attempts", &[][..], Some(2.0)),
        ("attempts", &["result=\"success\""], Some(0.0)),
        ("attempts", &["result=\"succes\""], None),
        ("attemps", &[], None),
        ("callbackd_consumer_lag", &["topic=\"t\""], Some(0.0)),
    ] {
        assert_eq!(std::panic::catch_unwind(|| http::value(text, name, labels)).ok(), expected, "{name}{labels:?}");
    }
}

/// A request signed here, with one thing wrong at a time.
fn signed(body: &[u8], secret: &[u8]) -> Request {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let timestamp = format!("{}", unix as u64);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
    mac.update(format!("e1.{timestamp}.").as_bytes());
    mac.update(body);
    let signature = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes()));
    let header = |name: &str, value: String| (name.to_string(), value);
    Request {
        at: Instant::now(),
        unix,
        method: "POST".into(),
        path: "/".into(),
        headers: vec![header("webhook-id", "e1".into()), header("webhook-timestamp", timestamp), header("webhook-signature", signature)],
        body: body.to_vec(),
    }
}

#[test]
fn the_judges_accept_what_is_right_and_refuse_each_planted_fault() {
    use md5::Digest as _;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let t = now + 600;
    let sign = hex::encode(md5::Md5::digest(format!("vendor-key-{t}").as_bytes()));
    let keyed = |t: u64, sign: &str| format!(r#"{{"app": "a" ,"x":[1.50,"é"],"t":{t},"sign":"{sign}"}}"#);
    let original = br#"{"t":1 , "app": "a" ,"x":[1.50,"\u00e9"], "sign":"old"}"#;
    let original_utf8 = r#"{"t":1 ,"app": "a" ,"x":[1.50,"é"], "sign":"old"}"#.as_bytes();
    let keys = Keys { sign: Some("vendor-key-".into()), secrets: vec![b"0123456789abcdef01234567".to_vec()] };
    let good = keyed(t, &sign);
    let secret = &keys.secrets[0];
    let (bare, unkeyed) = (br#"{"a":1}"#, Keys::default());
    let mut other_id = signed(good.as_bytes(), secret);
    other_id.headers[0].1 = "e2".into();
    let mut unsigned = signed(bare, secret);
    unsigned.headers.pop();
    // What it is, the original, the request, the keys, and whether Python and Node accept it.
    type Row<'a> = (&'a str, &'a [u8], Request, &'a Keys, [bool; 2]);
    let table: Vec<Row<'_>> = vec![
        ("as it should be", original_utf8, signed(good.as_bytes(), secret), &keys, [true, true]),
        ("without a key", bare, unsigned, &unkeyed, [true, true]),
        ("an escape was rewritten", original, signed(good.as_bytes(), secret), &keys, [false, true]),
        ("another secret", original_utf8, signed(good.as_bytes(), b"not the secret, not at all"), &keys, [false, false]),
        ("another id", original_utf8, other_id, &keys, [false, false]),
        ("t of another sign", original_utf8, signed(keyed(t + 1, &sign).as_bytes(), secret), &keys, [false, true]),
        ("no t and sign", original_utf8, signed(r#"{"app": "a" ,"x":[1.50,"é"]}"#.as_bytes(), secret), &keys, [false, true]),
        ("white space was lost", original_utf8, signed(good.replace("\"a\" ", "\"a\"").as_bytes(), secret), &keys, [false, true]),
        ("a number was re-encoded", original_utf8, signed(good.replace("1.50", "1.5").as_bytes(), secret), &keys, [false, true]),
    ];
    for (place, judge) in [Judge::Python, Judge::Node].into_iter().enumerate() {
        let cases: Vec<Case<'_>> = table
            .iter()
            .filter(|row| place == 0 || !row.3.secrets.is_empty())
            .map(|row| Case { original: row.1, request: &row.2, keys: row.3 })
            .collect();
        let expected: Vec<(&str, bool)> =
            table.iter().filter(|row| place == 0 || !row.3.secrets.is_empty()).map(|row| (row.0, row.4[place])).collect();
        let got = verdicts(judge, &cases);
        for ((name, good), why) in expected.into_iter().zip(got) {
            assert_eq!(why.is_empty(), good, "{judge:?}: {name}: {why}");
        }
    }
}
