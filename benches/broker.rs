//! Apache Kafka as the integration tests run it, with more memory.

use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, remove_at_the_end, run_dir};
use std::path::Path;
use std::process::Command;

/// Partitions of every topic that events are read from, where nothing else is said.
pub(crate) const PARTITIONS: i32 = 4;

/// A young generation that fills once a minute under load, touched before it is used: a broker that stops for its own collections as seldom as
/// one in production, where it has a machine and gigabytes for itself. One with 512 MiB stops everybody for 20 to 40 ms every two seconds.
const ROOMY: &[&str] = &["-Xms3g", "-Xmx3g", "-Xmn2g", "-XX:+AlwaysPreTouch"];

/// A broker of the benchmark's own.
pub(crate) fn start() -> Broker {
    fetch_jars();
    start_at("broker")
}

/// One more, in a directory of this name.
pub(crate) fn start_at(name: &str) -> Broker {
    let dir = run_dir().join(name);
    remove_at_the_end(&dir.join("data"));
    Broker::start_as(&dir, free_port(), ROOMY, "", &[]).unwrap_or_else(|why| panic!("no Apache Kafka, no benchmark: {why}"))
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
