//! The daemon of the demo: the real one, on a thread of its own, with its files in a directory of its own.

use super::ledger::{Ledger, Outcome};
use super::scene::{self, Case};
use crate::app::{self, RunError, Stop};
use crate::config::{self, Environment, Settings};
use crate::delivery::engine::Drained;
use crate::egress;
use anyhow::Context as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

/// A directory that is removed when dropped, unless it was asked to stay.
pub(super) struct Directory {
    path: PathBuf,
    stays: bool,
}

impl Directory {
    /// A new one, for this user only: it holds the keys of the demo.
    pub(super) fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("callbackd-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, stays: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon's log.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("daemon.log")
    }

    /// Keeps the directory when this is dropped: it is worth a look after the end.
    pub(super) const fn keep(&mut self) {
        self.stays = true;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.stays {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The log's file; what it says of events that are skipped goes into the account too, because nothing else shows them from outside.
struct Log {
    file: File,
    ledger: Arc<Ledger>,
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(id) = skipped(line) {
            self.ledger.ended(&id, Outcome::Skipped);
        }
        self.file.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The id of the event of which this line of the log says that it was skipped.
fn skipped(line: &[u8]) -> Option<String> {
    let line: serde_json::Value = serde_json::from_slice(line).ok()?;
    (line["message"] == "skipped").then(|| line["event_id"].as_str().map(str::to_owned))?
}

/// Sends the process's logs into `directory`.
pub(super) fn log_into(directory: &Directory, ledger: Arc<Ledger>) -> anyhow::Result<()> {
    let log = Log { file: File::create(directory.log())?, ledger };
    let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_writer(Mutex::new(log));
    let filter = Targets::new().with_default(tracing::Level::WARN).with_target("callbackd", tracing::Level::INFO);
    // A second demo of one process (in tests) logs into the first one's.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(lines));
    Ok(())
}

/// A file with keys in it, which the daemon warns about where everyone may read it.
fn write_for_us(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// The running daemon.
pub(super) struct Daemon {
    /// Where `/metrics` and `/readyz` are.
    pub(super) metrics: SocketAddr,
    /// What it was started with.
    pub(super) settings: Settings,
    stop: watch::Sender<Stop>,
    ended: oneshot::Receiver<Result<Drained, RunError>>,
}

impl Daemon {
    /// Writes its files into `directory` and starts it.
    pub(super) fn start(directory: &Directory, cases: &[Case], brokers: &str, receiver: SocketAddr) -> anyhow::Result<Self> {
        let file = directory.path().join("callbackd.toml");
        let (metrics, admin) = (free_port()?, free_port()?);
        fs::write(&file, scene::configuration(brokers, metrics, admin))?;
        write_for_us(&directory.path().join("registry.toml"), &scene::registry(cases, receiver))?;
        // Not the process's variables: they are for another daemon.
        let settings =
            config::load(&file, &Environment::default()).map_err(|problems| listed("the demo's configuration", &problems))?.settings;
        let (stop, stopped) = watch::channel(Stop::No);
        let (end, ended) = oneshot::channel();
        let running = settings.clone();
        thread::Builder::new().name("daemon".into()).spawn(move || {
            let _ = end.send(app::run(&running, &app::Options { config_file: file, embedded: true }, stopped));
        })?;
        Ok(Self { metrics, settings, stop, ended })
    }

    /// Whether it is ready; else the reasons.
    pub(super) async fn readiness(&self) -> Result<(), String> {
        match egress::probe(self.metrics).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.body),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Resolves when it ends by itself, which it never should.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.ended).await {
            Ok(Ok(_)) => anyhow::anyhow!("the daemon ended by itself"),
            Ok(Err(error)) => failed(error),
            Err(_) => anyhow::anyhow!("the daemon panicked"),
        }
    }

    /// Drains it as SIGTERM does; returns how many attempts the drain cut.
    pub(super) async fn drain(self, limit: Duration) -> anyhow::Result<usize> {
        let _ = self.stop.send(Stop::Drain);
        let ended = tokio::time::timeout(limit, self.ended).await.context("the daemon did not drain in time")?;
        match ended.context("the daemon panicked")? {
            Ok(drained) => Ok(drained.cut),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: RunError) -> anyhow::Error {
    match error {
        RunError::Registry(problems) => listed("the demo's registry", &problems),
        RunError::Topics(findings) => listed("the demo's topics", &findings),
        RunError::Failed(error) => error.context("the daemon failed"),
    }
}

fn listed(what: &str, items: &[impl ToString]) -> anyhow::Error {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{what}: {}", items.join("; "))
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_says_skipped_names_a_skipped_event() {
        for (line, expected) in [
            (r#"{"level":"INFO","event_id":"demo-1","rule":"no_callback_template","message":"skipped","target":"t"}"#, Some("demo-1")),
            (r#"{"level":"INFO","event_id":"demo-1","message":"dead-lettered"}"#, None),
            (r#"{"message":"skipped"}"#, None),
            ("skipped", None),
        ] {
            assert_eq!(skipped(line.as_bytes()).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn the_directory_is_for_this_user_only_and_gone_afterwards() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = Directory::new().unwrap();
        let path = directory.path().to_path_buf();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(directory);
        assert!(!path.exists());
    }
}
