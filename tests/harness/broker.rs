//! Apache Kafka as a child process: one node, KRaft, loopback ports, data in the directory of the run.

use super::processes::{Process, free_port, remove_at_the_end, run_dir, tail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A running broker; ends when dropped (the shared one with the run).
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    process: Process,
}

/// The broker of the run, started by the first test that needs it.
pub(crate) fn shared() -> &'static Broker {
    static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let dir = run_dir().join("broker");
        let started = Broker::start(&dir, free_port());
        remove_at_the_end(&dir.join("data"));
        started
    });
    match shared {
        Ok(broker) => broker,
        Err(why) => panic!("no Apache Kafka, no test: {why}"),
    }
}

impl Broker {
    /// Starts a broker that listens on `port`, until it answers metadata requests; formats `dir` the first time, and keeps its port and data later.
    pub(crate) fn start(dir: &Path, port: u16) -> Result<Self, String> {
        let jars = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/kafka");
        if !jars.join("kafka_2.13-4.1.1.jar").exists() {
            return Err(format!("the jars of Apache Kafka are not in {}: `make kafka` puts them there", jars.display()));
        }
        std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        let bootstrap = format!("127.0.0.1:{port}");
        let properties = dir.join("server.properties");
        let fresh = !properties.exists();
        if fresh {
            std::fs::write(&properties, server_properties(dir, port, free_port())).map_err(|e| e.to_string())?;
        }
        let class_path = format!("{}/*", jars.display());
        let output = dir.join("output.log");
        let java = |arguments: &[&str]| -> Result<Command, String> {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(&output).map_err(|e| e.to_string())?;
            let mut command = Command::new("java");
            command
                .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
                .arg(format!("-Dlog4j2.configurationFile={}/tests/kafka/log4j2.properties", env!("CARGO_MANIFEST_DIR")))
                .arg(format!("-Dcallbackd.broker.log={}", dir.join("broker.log").display()))
                .args(["-cp", &class_path])
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(file.try_clone().map_err(|e| e.to_string())?)
                .stderr(file);
            Ok(command)
        };
        let file = properties.to_string_lossy();
        let said = || format!("\n{}\n{}", tail(&output, 20), tail(&dir.join("broker.log"), 20));
        if fresh {
            let formatted = java(&["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c", &file])?
                .status()
                .map_err(|e| format!("java cannot be run ({e}): Java 17 is needed, `apt-get install default-jre-headless`"))?;
            if !formatted.success() {
                return Err(format!("formatting the broker's storage failed, see {}:{}", dir.display(), said()));
            }
        }
        let mut process = Process::spawn(&mut java(&["kafka.Kafka", &file])?).map_err(|e| e.to_string())?;
        let probe: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &bootstrap).set("log_level", "0").create().map_err(|e| e.to_string())?;
        let start = Instant::now();
        loop {
            if let Some(code) = process.exit_code() {
                return Err(format!("the broker ended with {code}, see {}:{}", dir.display(), said()));
            }
            if probe.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|m| !m.brokers().is_empty()) {
                return Ok(Self { bootstrap, process });
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("the broker answers nothing after 60 s, see {}:{}", dir.display(), said()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.exit_code().is_none()
    }
}

/// Base64 of sixteen bytes: "callbackd-tests1".
const CLUSTER_ID: &str = "Y2FsbGJhY2tkLXRlc3RzMQ";

fn server_properties(dir: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.backoff.ms=200
log.initial.task.delay.ms=500
",
        dir.join("data").display()
    )
}
