//! Apache Kafka as the integration tests run it, with more memory.

use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, remove_at_the_end, run_dir, run_dir_in};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Partitions of every topic that events are read from, where nothing else is said.
pub(crate) const PARTITIONS: i32 = 4;

/// A young generation that fills once a minute under load, touched before it is used: a broker that stops for its own collections as seldom as
/// one in production, where it has a machine and gigabytes for itself. One with 512 MiB stops everybody for 20 to 40 ms every two seconds.
const ROOMY: &[&str] = &["-Xms3g", "-Xmx3g", "-Xmn2g", "-XX:+AlwaysPreTouch"];

/// Files in memory, where Linux has them.
const MEMORY: &str = "/dev/shm";
/// What the largest part needs, generously.
const ROOM_GIB: u64 = 8;

/// A broker of the benchmark's own.
pub(crate) fn start() -> Broker {
    fetch_jars();
    start_in(&home().join("broker"))
}

/// One more, until the end of `work`; its files go with it.
pub(crate) fn during<R>(name: &str, work: impl FnOnce(&Broker) -> R) -> R {
    let dir = home().join(name);
    let broker = start_in(&dir);
    let result = work(&broker);
    drop(broker);
    let _ = std::fs::remove_dir_all(dir);
    result
}

fn start_in(dir: &Path) -> Broker {
    remove_at_the_end(dir);
    Broker::start_as(dir, free_port(), ROOMY, "", &[]).unwrap_or_else(|why| panic!("no Apache Kafka, no benchmark: {why}"))
}

/// Where brokers have their files: in memory, where there is room. What is measured is not a shared machine's disk, which stops a broker for a
/// tenth of a second whenever it writes back.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| if in_memory() { run_dir_in(Path::new(MEMORY), "callbackd-bench-") } else { run_dir().to_owned() })
}

/// Whether brokers have their files in memory.
pub(crate) fn in_memory() -> bool {
    let asked = Command::new("df").args(["--output=avail", "-BG", MEMORY]).output();
    let free =
        asked.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).lines().nth(1)?.trim().trim_end_matches('G').parse().ok());
    free.is_some_and(|gib: u64| gib >= ROOM_GIB)
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
