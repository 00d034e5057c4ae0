//! One test's own corner of the broker: a topic prefix, a group, a source topic, a directory with configuration and registry.

use super::broker::{self, Broker};
use super::daemon::Daemon;
use super::kafka::{self, New, Producer, Read};
use super::processes::{free_port, run_dir};
use super::receiver::Receiver;
use super::{SOON, await_true_or_tell};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a test sets up before it starts a daemon. Fields may be changed until then, and between two daemons.
pub(crate) struct Scene {
    pub(crate) dir: PathBuf,
    pub(crate) bootstrap: String,
    /// The brokers of the configuration, where they are not those of the tests' own clients.
    pub(crate) brokers: Option<String>,
    pub(crate) prefix: String,
    pub(crate) group: String,
    pub(crate) sources: Vec<String>,
    pub(crate) tiers: Vec<&'static str>,
    /// More keys of `[delivery]`, a line each.
    pub(crate) delivery: String,
    /// More keys of `[kafka]`, and its sub-tables.
    pub(crate) kafka: String,
    /// The keys of `[egress]`, a line each.
    pub(crate) egress: String,
    pub(crate) log_level: &'static str,
    /// A shell command before the daemon, in its process: `ulimit …`.
    pub(crate) limits: String,
    /// Variables of the environment of the daemon, and of commands.
    pub(crate) environment: Vec<(String, String)>,
    /// The registry file's text.
    pub(crate) registry: String,
    pub(crate) producer: Producer,
    /// Its directory stays when the test has passed.
    pub(crate) kept: bool,
}

impl Scene {
    /// On the shared broker, with a source topic of `partitions`.
    pub(crate) fn new(name: &str, partitions: i32) -> Self {
        let broker = broker::shared();
        let scene = Self::without_topics(name, &broker.bootstrap);
        kafka::create_topic(&scene.bootstrap, scene.source(), partitions, &[]);
        scene
    }

    /// On a broker of the test's own.
    pub(crate) fn on(broker: &Broker, name: &str, partitions: i32) -> Self {
        let scene = Self::without_topics(name, &broker.bootstrap);
        kafka::create_topic(&scene.bootstrap, scene.source(), partitions, &[]);
        scene
    }

    /// Nothing is created at the broker, which need not be there.
    pub(crate) fn without_topics(name: &str, bootstrap: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = run_dir().join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        Self {
            dir,
            bootstrap: bootstrap.to_string(),
            brokers: None,
            prefix: format!("cb-{name}"),
            group: format!("group-{name}"),
            sources: vec![format!("source-{name}")],
            tiers: vec!["300ms", "1s", "3s"],
            delivery: String::new(),
            kafka: String::new(),
            egress: "allow_networks = [\"127.0.0.0/8\"]".to_owned(),
            log_level: "debug",
            limits: String::new(),
            environment: Vec::new(),
            registry: String::new(),
            producer: Producer::new(bootstrap),
            kept: false,
        }
    }

    /// The first source topic.
    pub(crate) fn source(&self) -> &str {
        &self.sources[0]
    }

    /// `<prefix>.dead-letter`.
    pub(crate) fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letter", self.prefix)
    }

    /// `<prefix>.retry.<delay>`.
    pub(crate) fn tier_topic(&self, delay: &str) -> String {
        format!("{}.retry.{delay}", self.prefix)
    }

    /// The group that reads the tiers.
    pub(crate) fn retry_group(&self) -> String {
        format!("{}.retry", self.group)
    }

    /// The records in the dead-letter topic.
    pub(crate) fn dead_letters(&self) -> Vec<Read> {
        kafka::read_all(&self.bootstrap, &self.dead_letter_topic())
    }

    /// Produces event texts to the first source topic.
    pub(crate) fn produce<S: AsRef<[u8]>>(&self, events: &[S]) {
        let records: Vec<New> = events.iter().map(|e| New::value(e.as_ref())).collect();
        self.producer.send_all(self.source(), &records);
    }

    /// Writes the registry file as it is now.
    pub(crate) fn write_registry(&self) {
        let file = self.dir.join("registry.toml");
        let fresh = self.dir.join("registry.toml.new");
        std::fs::write(&fresh, &self.registry).unwrap();
        std::fs::rename(fresh, file).unwrap();
    }

    /// Writes configuration and registry; returns the configuration's path.
    pub(crate) fn write_config(&self, metrics_port: u16, admin_port: u16) -> PathBuf {
        self.write_registry();
        let mut text = String::new();
        let brokers: Vec<&str> = self.brokers.as_deref().unwrap_or(&self.bootstrap).split(',').collect();
        writeln!(text, "[kafka]\nbrokers = {brokers:?}\ngroup = {:?}", self.group).unwrap();
        writeln!(text, "source_topics = {:?}\ntopic_prefix = {:?}\n{}", self.sources, self.prefix, self.kafka).unwrap();
        writeln!(text, "[registry]\nfile = \"registry.toml\"").unwrap();
        writeln!(text, "[delivery]\ndelay_tiers = {:?}\n{}", self.tiers, self.delivery).unwrap();
        writeln!(text, "[egress]\n{}", self.egress).unwrap();
        writeln!(text, "[metrics]\nlisten = \"127.0.0.1:{metrics_port}\"").unwrap();
        writeln!(text, "[admin]\nlisten = \"127.0.0.1:{admin_port}\"").unwrap();
        writeln!(text, "[log]\nlevel = {:?}\nformat = \"json\"", self.log_level).unwrap();
        let path = self.dir.join("callbackd.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs a command of the binary to its end with `--config` of this scene.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let config = self.write_config(free_port(), free_port());
        let mut command = binary();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).arg("--config").arg(config).stdin(Stdio::null()).output().unwrap()
    }

    /// `callbackd topics create`, which must succeed.
    pub(crate) fn create_topics(&self) {
        let done = self.command(&["topics", "create"]);
        assert!(done.status.success(), "topics create: {}", both(&done));
    }

    /// Starts `callbackd run` without waiting.
    pub(crate) fn launch(&self) -> Daemon {
        let (metrics, admin) = (free_port(), free_port());
        let config = self.write_config(metrics, admin);
        Daemon::launch(&self.dir, &config, metrics, &self.limits, &self.environment)
    }

    /// Creates our topics, starts `callbackd run` and waits until it is ready.
    pub(crate) fn start(&self) -> Daemon {
        self.create_topics();
        let mut daemon = self.launch();
        daemon.wait_ready();
        daemon
    }

    /// Whether the group has committed every source topic to its end.
    pub(crate) fn committed_to_the_end(&self) -> bool {
        self.sources.iter().all(|topic| kafka::is_finished(&kafka::standing(&self.bootstrap, &self.group, topic)))
    }

    /// Waits until the group has committed every source topic to its end.
    pub(crate) fn wait_committed_to_the_end(&self) {
        self.sources.iter().for_each(|topic| self.wait_committed(&self.group, topic));
    }

    /// Waits until a tier is committed to its end.
    pub(crate) fn wait_tier_committed(&self, delay: &str) {
        self.wait_committed(&self.retry_group(), &self.tier_topic(delay));
    }

    fn wait_committed(&self, group: &str, topic: &str) {
        let standing = || kafka::standing(&self.bootstrap, group, topic);
        let what = || format!("{topic} is committed to its end by {group}: {:?} (committed, end)", standing());
        await_true_or_tell(SOON, || kafka::is_finished(&standing()), what);
    }

    /// How many records of the source topics and of the tiers are not committed.
    pub(crate) fn uncommitted(&self) -> i64 {
        let sources = self.sources.iter().map(|topic| (self.group.clone(), topic.clone()));
        let tiers = self.tiers.iter().map(|delay| (self.retry_group(), self.tier_topic(delay)));
        let standings = sources.chain(tiers).flat_map(|(group, topic)| kafka::standing(&self.bootstrap, &group, &topic));
        standings.map(|(committed, end)| end - committed.max(0)).sum()
    }

    /// What became of each event, when the source topics are committed: a path at the receiver, a dead letter's reason, or `skipped`.
    pub(crate) fn fates(&self, receiver: &Receiver, events: &[String]) -> Vec<String> {
        self.wait_committed_to_the_end();
        let (letters, requests) = (self.dead_letters(), receiver.requests());
        let fate = |event: &String| {
            let request = requests.iter().find(|request| request.body == event.as_bytes()).map(|request| request.path.clone());
            let letter = letters.iter().find(|letter| letter.value.as_deref() == Some(event.as_bytes()));
            request.or_else(|| letter.and_then(|letter| letter.header("callbackd-reason"))).unwrap_or_else(|| "skipped".into())
        };
        events.iter().map(fate).collect()
    }

    /// Produces events and compares what becomes of them.
    pub(crate) fn assert_fates(&self, receiver: &Receiver, table: &[(String, &str)]) {
        let events: Vec<String> = table.iter().map(|(event, _)| event.clone()).collect();
        assert_eq!(events.iter().collect::<BTreeSet<_>>().len(), events.len(), "two equal events cannot be told apart");
        self.produce(&events);
        let wrong: Vec<String> = self
            .fates(receiver, &events)
            .iter()
            .zip(table)
            .filter(|(fate, (_, expected))| fate != expected)
            .map(|(fate, (event, expected))| format!("{event}: {fate}, not {expected}"))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("configuration and logs of this test are kept in {}", self.dir.display());
        } else if !self.kept {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs the binary to its end, without standard input, colours or `CALLBACKD_` variables.
pub(crate) fn command(arguments: &[&str]) -> Output {
    binary().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The binary, to be given arguments.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callbackd"));
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("CALLBACKD_")) {
        command.env_remove(name);
    }
    command
}

/// The same, by a shell that becomes it after another command.
pub(crate) fn binary_after(first: &str) -> Command {
    let binary = binary();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}\nexec \"$0\" \"$@\"")]).arg(binary.get_program());
    for (name, _) in binary.get_envs() {
        command.env_remove(name);
    }
    command
}

/// Standard output and error of a finished command, with its exit status.
pub(crate) fn both(output: &Output) -> String {
    format!("{}\n--- out\n{}\n--- err\n{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A template bound to domains, for registries that need nothing special. `more` is further keys of the template.
pub(crate) fn simple_registry(domains: &[&str], url: &str, more: &str) -> String {
    let mut text = String::from("[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n\n");
    write!(text, "[[callback_templates]]\nname = \"cb\"\n").unwrap();
    writeln!(text, "urls = {{ recording_file = {url:?}, recording_status = {url:?}, recording_exception = {url:?} }}\n{more}\n").unwrap();
    for domain in domains {
        writeln!(text, "[[domains]]\nname = {domain:?}\n").unwrap();
        writeln!(text, "[[bindings]]\ndomain = {domain:?}\nrecording_template = \"rec\"\ncallback_template = \"cb\"\n").unwrap();
    }
    text
}

/// A plain recording-completed event.
pub(crate) fn event(domain: &str, number: usize) -> String {
    format!(
        r#"{{"app":"{domain}","appid":1300000000,"appname":"live","duration":60,"end_time":1760000060,"event_type":100,"file_format":"mp4","file_id":"{number:019}","file_size":1048576,"start_time":1760000000,"stream_id":"stream_{number}","video_url":"http://vod.example/{number}.mp4"}}"#
    )
}
