//! Whatever upstream produces with, its events arrive: clients of Java, Python (confluent-kafka), Go (franz-go) and kcat; gzip, snappy, lz4 and
//! zstd; in transactions and without; with the headers of CloudEvents and without. Each once, byte for byte, under the id that it should have.
//!
//! Each program in `tests/producers` reads what to produce from its standard input, a line each, with tabs between: codec, `plain`,
//! `committed` or `aborted`, the source and id of CloudEvents (both empty for none), and the value. What is `aborted` must never arrive.

use crate::harness::SOON;
use crate::harness::kafka;
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, simple_registry};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

/// Of each kind so many: a batch that is worth compressing.
const EACH: usize = 5;

const SOURCE: &str = "urn:upstream/recorder-é";

/// One event to produce.
struct Upstream {
    codec: &'static str,
    mode: &'static str,
    cloud_id: Option<String>,
    value: String,
}

impl Upstream {
    fn line(&self) -> String {
        let (source, id) = self.cloud_id.as_deref().map_or(("", ""), |id| (SOURCE, id));
        format!("{}\t{}\t{source}\t{id}\t{}\n", self.codec, self.mode, self.value)
    }

    /// As README has it: of CloudEvents' pair, else of the value.
    fn id(&self) -> String {
        let hash = match &self.cloud_id {
            Some(id) => Sha256::digest([SOURCE.as_bytes(), &[0], id.as_bytes()].concat()),
            None => Sha256::digest(&self.value),
        };
        URL_SAFE_NO_PAD.encode(&hash[..16])
    }
}

/// All combinations of one client, with spellings that a re-encoding would change.
fn events(client: &str, modes: &[&'static str]) -> Vec<Upstream> {
    let mut events = Vec::new();
    for codec in CODECS {
        for mode in modes {
            for cloud in [false, true] {
                for n in 0..EACH {
                    let name = format!("{client}-{codec}-{mode}-{cloud}-{n}");
                    let cloud_id = cloud.then(|| format!("id {name}"));
                    let filler = "0123456789abcdef".repeat(40 * n);
                    let value = format!(
                        r#" {{"app" : "shop.example","appname":"live","stream_id":"{name}", "note":"\u00e9 é \/ 录制","file_size":1.0E2,"filler":"{filler}","event_type":100,"big":12345678901234567890123}} "#
                    );
                    events.push(Upstream { codec, mode, cloud_id, value });
                }
            }
        }
    }
    events
}

/// What `produce` puts into the source topic is delivered, but for what was aborted.
fn all_arrive(client: &str, modes: &[&'static str], produce: impl FnOnce(&Scene, &[Upstream])) {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new(&format!("upstream-{client}"), 2);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    let events = events(client, modes);
    produce(&scene, &events);
    let mut expected: Vec<(String, &[u8])> =
        events.iter().filter(|event| event.mode != "aborted").map(|event| (event.id(), event.value.as_bytes())).collect();
    receiver.wait_for(expected.len(), SOON);
    // The markers of transactions are passed, too, so that nothing more can come.
    let produced = kafka::end_offsets(&scene.bootstrap, scene.source());
    scene.wait_committed_to_the_end();
    assert_eq!(kafka::end_offsets(&scene.bootstrap, scene.source()), produced);

    let requests = receiver.requests();
    let mut arrived: Vec<(String, &[u8])> = requests.iter().map(|request| (request.id().to_string(), &request.body[..])).collect();
    expected.sort();
    arrived.sort();
    let differing = expected.iter().zip(&arrived).find(|(expected, arrived)| expected != arrived);
    let text = |(id, value): &(String, &[u8])| format!("{id} {}", String::from_utf8_lossy(value));
    assert!(differing.is_none(), "expected {:?}", differing.map(|(expected, arrived)| (text(expected), text(arrived))));
    assert_eq!(arrived.len(), expected.len(), "each once");
    assert_eq!(scene.dead_letters().len(), 0);
    daemon.stop();
}

/// Runs a program of `tests/producers` to its end with the events as input.
fn run(command: &mut Command, scene: &Scene, events: &[Upstream], missing: &str) {
    let mut child = command
        .args([&scene.bootstrap, scene.source()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{:?} cannot be run ({error}): {missing}", command.get_program()));
    let lines: String = events.iter().map(Upstream::line).collect();
    let written = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && written.is_ok(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn folder(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

const MODES: [&str; 3] = ["plain", "committed", "aborted"];

#[test]
fn events_of_java_arrive_once_and_byte_for_byte() {
    all_arrive("java", &MODES, |scene, events| {
        let mut java = Command::new("java");
        java.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}/*", folder(".cache/kafka").display())]);
        java.arg(format!("-Dlog4j2.configurationFile={}", folder("tests/kafka/log4j2.properties").display()));
        java.arg(format!("-Dcallbackd.broker.log={}", scene.dir.join("java.log").display()));
        run(java.arg(folder("tests/producers/Producer.java")), scene, events, "`make kafka tools` installs what it needs");
    });
}

#[test]
fn events_of_python_arrive_once_and_byte_for_byte() {
    all_arrive("python", &MODES, |scene, events| {
        let mut python = Command::new(folder(".cache/producers/python/bin/python"));
        run(python.arg(folder("tests/producers/producer.py")), scene, events, "`make producers` installs it");
    });
}

#[test]
fn events_of_go_arrive_once_and_byte_for_byte() {
    all_arrive("go", &MODES, |scene, events| {
        run(&mut Command::new(folder(".cache/producers/go/producer")), scene, events, "`make producers` builds it");
    });
}

#[test]
fn events_of_kcat_arrive_once_and_byte_for_byte() {
    all_arrive("kcat", &["plain"], |scene, events| {
        // kcat's headers are for all that it produces at once, so each event is a run of its own.
        for event in events {
            let mut kcat = Command::new("kcat");
            kcat.args(["-P", "-b", &scene.bootstrap, "-t", scene.source(), "-z", event.codec, "-D", "\u{1}"]);
            if let Some(id) = &event.cloud_id {
                kcat.args(["-H", "ce_specversion=1.0", "-H", &format!("ce_source={SOURCE}"), "-H", &format!("ce_id={id}")]);
            }
            let mut child = kcat.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("kcat cannot be run ({error}): `make tools`"));
            child.stdin.take().unwrap().write_all(event.value.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success(), "kcat");
        }
    });
}
