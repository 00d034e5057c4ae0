//! Apache Kafka as the integration tests run it, and a topic full of events.

use crate::harness::broker::Broker;
use crate::harness::kafka::{New, Producer, create_topic};
use crate::harness::processes::{free_port, remove_at_the_end, run_dir};
use std::path::Path;
use std::process::Command;

/// Partitions of every topic that events are read from.
pub(crate) const PARTITIONS: i32 = 4;

/// Bytes of an event.
pub(crate) const EVENT_BYTES: usize = 600;

/// The push domain of every event.
pub(crate) const DOMAIN: &str = "push.bench.example";

/// What an event's running number stands behind; it comes first, so that the receiver finds it at once.
pub(crate) const NUMBER: &[u8] = b"\"file_id\":\"";

/// A broker of the benchmark's own.
pub(crate) fn start() -> Broker {
    fetch_jars();
    let dir = run_dir().join("broker");
    remove_at_the_end(&dir.join("data"));
    Broker::start(&dir, free_port()).unwrap_or_else(|why| panic!("no Apache Kafka, no benchmark: {why}"))
}

/// A recording-completed event of [`EVENT_BYTES`].
pub(crate) fn event(number: u64) -> Vec<u8> {
    let mut text = format!(
        r#"{{"file_id":"{number:019}","app":"{DOMAIN}","appid":1300000000,"appname":"live","channel_id":"stream_{number}","duration":1800,"end_time":1760001800,"end_time_usec":618577,"event_type":100,"file_format":"mp4","file_size":277941079,"media_start_time":135802,"record_bps":0,"record_temp_id":"1569294","start_time":1760000000,"start_time_usec":316441,"stream_id":"stream_{number}","task_id":"1820625260475124043","video_url":"http://1300000000.vod.example/{number}.mp4","stream_param":""#
    );
    let padding = EVENT_BYTES - 2 - text.len();
    text.extend(std::iter::repeat_n('x', padding));
    text.push_str("\"}");
    text.into_bytes()
}

/// Creates `topic` and puts events `0..count` into it, so that the speed of a run is the consumer's.
pub(crate) fn fill(broker: &Broker, topic: &str, count: u64) {
    create_topic(&broker.bootstrap, topic, PARTITIONS, &[]);
    let producer = Producer::new(&broker.bootstrap);
    for number in 0..count {
        producer.send(topic, &New::value(event(number)));
    }
    producer.flush();
}

fn fetch_jars() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let jars = root.join(".cache/kafka");
    if jars.join("kafka_2.13-4.1.1.jar").exists() {
        return;
    }
    let done = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(root.join("tests/kafka/pom.xml"))
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .status()
        .expect("maven is needed to fetch Apache Kafka: `apt-get install maven`");
    assert!(done.success(), "maven could not fetch Apache Kafka into {}", jars.display());
}
