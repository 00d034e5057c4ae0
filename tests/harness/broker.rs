//! Apache Kafka as child processes: KRaft, loopback ports, data in the directory of the run. One node, or several that replicate.

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
    dir: PathBuf,
    heap: Heap,
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

/// How the JVM's memory is laid out: its arguments.
type Heap = &'static [&'static str];

/// Where a node of a cluster listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    clients: u16,
    controller: u16,
}

impl Broker {
    /// Starts a broker that listens on `port`, until it answers metadata requests; formats `dir` the first time, and keeps its port and data later.
    pub(crate) fn start(dir: &Path, port: u16) -> Result<Self, String> {
        Self::start_with(dir, port, "", &[])
    }

    /// As [`Self::start`], with `more` properties, which win, and more arguments for formatting.
    pub(crate) fn start_with(dir: &Path, port: u16, more: &str, formatting: &[&str]) -> Result<Self, String> {
        Self::start_as(dir, port, &["-Xmx512m"], more, formatting)
    }

    /// As [`Self::start_with`], with memory of its own.
    pub(crate) fn start_as(dir: &Path, port: u16, heap: Heap, more: &str, formatting: &[&str]) -> Result<Self, String> {
        if !dir.join("server.properties").exists() {
            let properties = server_properties(dir, 1, &[Ports { clients: port, controller: free_port() }]);
            format(dir, &format!("{properties}{more}"), formatting)?;
        }
        let mut broker = Self::spawn(dir, port, heap)?;
        broker.wait_up(1)?;
        Ok(broker)
    }

    /// Starts `nodes` brokers in directories below `dir`, each also a controller, and waits until each answers.
    pub(crate) fn start_cluster(dir: &Path, nodes: usize) -> Result<Vec<Self>, String> {
        let ports: Vec<Ports> = (0..nodes).map(|_| Ports { clients: free_port(), controller: free_port() }).collect();
        let dirs: Vec<PathBuf> = (1..=nodes).map(|id| dir.join(format!("node-{id}"))).collect();
        std::thread::scope(|threads| {
            let formatting: Vec<_> = dirs
                .iter()
                .enumerate()
                .map(|(at, dir)| {
                    let properties = server_properties(dir, at + 1, &ports);
                    threads.spawn(move || format(dir, &properties, &[]))
                })
                .collect();
            formatting.into_iter().try_for_each(|one| one.join().unwrap())
        })?;
        let mut brokers =
            dirs.iter().zip(&ports).map(|(dir, ports)| Self::spawn(dir, ports.clients, &["-Xmx256m"])).collect::<Result<Vec<_>, _>>()?;
        for broker in &mut brokers {
            broker.wait_up(nodes)?;
        }
        Ok(brokers)
    }

    fn spawn(dir: &Path, port: u16, heap: Heap) -> Result<Self, String> {
        let process = Self::process(dir, heap)?;
        Ok(Self { bootstrap: format!("127.0.0.1:{port}"), dir: dir.to_path_buf(), heap, process })
    }

    fn process(dir: &Path, heap: Heap) -> Result<Process, String> {
        let properties = dir.join("server.properties");
        Process::spawn(&mut java(dir, heap, &["kafka.Kafka", &properties.to_string_lossy()])?).map_err(|e| e.to_string())
    }

    /// Waits until it answers metadata requests and knows so many nodes.
    pub(crate) fn wait_up(&mut self, nodes: usize) -> Result<(), String> {
        let said = |dir: &Path| format!("\n{}\n{}", tail(&dir.join("output.log"), 20), tail(&dir.join("broker.log"), 20));
        let probe: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.bootstrap).set("log_level", "0").create().map_err(|e| e.to_string())?;
        let start = Instant::now();
        loop {
            if let Some(code) = self.process.exit_code() {
                return Err(format!("the broker ended with {code}, see {}:{}", self.dir.display(), said(&self.dir)));
            }
            if probe.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|m| m.brokers().len() >= nodes) {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("the broker answers nothing after 60 s, see {}:{}", self.dir.display(), said(&self.dir)));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with its data, without waiting for it.
    pub(crate) fn start_again(&mut self) -> Result<(), String> {
        self.process = Self::process(&self.dir, self.heap)?;
        Ok(())
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

fn java(dir: &Path, heap: Heap, arguments: &[&str]) -> Result<Command, String> {
    let jars = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/kafka");
    if !jars.join("kafka_2.13-4.1.1.jar").exists() {
        return Err(format!("the jars of Apache Kafka are not in {}: `make kafka` puts them there", jars.display()));
    }
    let output = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("output.log")).map_err(|e| e.to_string())?;
    let mut command = Command::new("java");
    command
        .args(heap)
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg(format!("-Dlog4j2.configurationFile={}/tests/kafka/log4j2.properties", env!("CARGO_MANIFEST_DIR")))
        .arg(format!("-Dcallbackd.broker.log={}", dir.join("broker.log").display()))
        .args(["-cp", &format!("{}/*", jars.display())])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(output);
    Ok(command)
}

/// Writes a node's properties and formats its storage.
fn format(dir: &Path, properties: &str, more: &[&str]) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    let file = dir.join("server.properties");
    std::fs::write(&file, properties).map_err(|e| e.to_string())?;
    let file = file.to_string_lossy();
    let arguments = [&["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", &file], more].concat();
    let formatted = java(dir, &["-Xmx256m"], &arguments)?
        .status()
        .map_err(|e| format!("java cannot be run ({e}): Java 17 is needed, `apt-get install default-jre-headless`"))?;
    if formatted.success() {
        return Ok(());
    }
    Err(format!("formatting the broker's storage failed, see {}:\n{}", dir.display(), tail(&dir.join("output.log"), 20)))
}

/// Base64 of sixteen bytes: "callbackd-tests1".
const CLUSTER_ID: &str = "Y2FsbGJhY2tkLXRlc3RzMQ";

/// Of node `id`, counted from one. A cluster of three or more replicates thrice, notices a dead node after 4 s and does without one.
fn server_properties(dir: &Path, id: usize, ports: &[Ports]) -> String {
    let Ports { clients, controller } = ports[id - 1];
    let voters: Vec<String> = ports.iter().enumerate().map(|(at, p)| format!("{}@127.0.0.1:{}", at + 1, p.controller)).collect();
    let (replicas, in_sync) = if ports.len() >= 3 { (3, 2) } else { (1, 1) };
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=2
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.backoff.ms=200
log.initial.task.delay.ms=500
",
        voters.join(","),
        dir.join("data").display()
    )
}
