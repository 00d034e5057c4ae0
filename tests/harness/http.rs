//! One plain GET: enough for `/metrics` and the health pages. And one POST, for receivers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Status and body, or nothing when nobody answers.
pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some((status, if chunked { dechunk(body) } else { body.to_string() }))
}

/// The status that a POST gets, on a connection of its own; nothing when nobody answers.
pub(crate) fn post(port: u16, path: &str, headers: &[(String, String)], body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut status = String::new();
    let _ = BufReader::new(stream).read_line(&mut status).ok()?;
    status.split(' ').nth(1)?.parse().ok()
}

/// Headers and body of a message as `callbackd sign` prints it.
pub(crate) fn message(printed: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = printed.split_once("\n\n").expect("an empty line");
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).expect("a header");
    (head.lines().map(header).collect(), body)
}

fn dechunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        body.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}

/// Families with a series for each partition that is held: without one there is none. All others have their series from the start.
const OF_PARTITIONS: [&str; 2] = ["callbackd_consumer_lag", "callbackd_unfinished_span"];

/// As [`sample`]; panics when there is none and should be: a metric or label that does not exist is not 0.
pub(crate) fn value(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let found = sample(metrics, name, labels);
    assert!(found.is_some() || OF_PARTITIONS.contains(&name), "there is no {name}{labels:?} in\n{metrics}");
    found.unwrap_or(0.0)
}

/// The sum of all samples of `name` whose labels contain every one of `labels` (each as `key="value"`).
pub(crate) fn sample(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut sum = None;
    for line in metrics.lines().filter(|l| !l.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (family, its) = series.split_once('{').unwrap_or((series, ""));
        if family == name && labels.iter().all(|l| its.contains(l)) {
            sum = Some(sum.unwrap_or(0.0) + value.parse::<f64>().unwrap_or(f64::NAN));
        }
    }
    sum
}
