//! A running `callbackd run`.

use super::processes::{Process, tail};
use super::{SOON, await_true_or_tell, http};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The daemon as a child; killed when dropped.
pub(crate) struct Daemon {
    process: Process,
    pub(crate) port: u16,
    pub(crate) log_file: PathBuf,
}

impl Daemon {
    /// Starts it with its output in a file of `dir`.
    pub(crate) fn launch(dir: &Path, config: &Path, port: u16, first: &str, environment: &[(String, String)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let log_file = dir.join(format!("daemon-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let log = std::fs::File::create(&log_file).unwrap();
        let mut command = if first.is_empty() { super::scene::binary() } else { super::scene::binary_after(first) };
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { process: Process::spawn(&mut command).unwrap(), port, log_file }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that it ever had resident, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Sets one of its resource limits while it runs, as `prlimit` names and writes it: `nofile=100`.
    pub(crate) fn limit(&self, what: &str) {
        super::processes::limit(self.process.id(), what);
    }

    /// Everything it printed so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log_file).unwrap_or_default()).into_owned()
    }

    /// Status and text of `/livez`, when it answers.
    pub(crate) fn livez(&self) -> Option<(u16, String)> {
        http::get(self.port, "/livez")
    }

    /// Status and text of `/readyz`, when it answers.
    pub(crate) fn readyz(&self) -> Option<(u16, String)> {
        http::get(self.port, "/readyz")
    }

    /// Waits for `/readyz` to say 200.
    pub(crate) fn wait_ready(&mut self) {
        let start = Instant::now();
        loop {
            let answer = self.readyz();
            if answer.as_ref().is_some_and(|(status, _)| *status == 200) {
                return;
            }
            if let Some(code) = self.process.exit_code() {
                panic!("the daemon ended with {code} before it was ready:\n{}", tail(&self.log_file, 30));
            }
            assert!(start.elapsed() < SOON, "the daemon is not ready after {SOON:?}: {answer:?}\n{}", tail(&self.log_file, 30));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        match http::get(self.port, "/metrics") {
            Some((200, text)) => text,
            other => panic!("/metrics answers {other:?}\n{}", tail(&self.log_file, 30)),
        }
    }

    /// The sum of the samples of `name` with these labels; panics when there can be none.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        http::value(&self.metrics(), name, labels)
    }

    /// Waits until [`Self::metric`] is `value`.
    pub(crate) fn wait_metric(&self, name: &str, labels: &[&str], value: f64) {
        let mut last = f64::NAN;
        let start = Instant::now();
        while start.elapsed() < SOON {
            last = self.metric(name, labels);
            if (last - value).abs() < f64::EPSILON {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{name}{labels:?} is {last} after {SOON:?}, not {value}\n{}", tail(&self.log_file, 30));
    }

    /// Waits until the last load of the registry has succeeded, or was refused.
    pub(crate) fn wait_loaded(&self, good: bool) {
        self.wait_metric("callbackd_registry_last_load_success", &[], if good { 1.0 } else { 0.0 });
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.exit_code().is_none()
    }

    /// Whether its end has left its memory behind.
    pub(crate) fn dumped_core(&self) -> bool {
        self.process.dumped_core
    }

    /// Waits for its end; the exit code.
    pub(crate) fn wait_exit(&mut self, deadline: Duration) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(code) = self.process.exit_code() {
                return code;
            }
            assert!(start.elapsed() < deadline, "the daemon still runs after {deadline:?}\n{}", tail(&self.log_file, 30));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let code = self.wait_exit(Duration::from_secs(40));
        assert_eq!(code, 0, "after SIGTERM:\n{}", tail(&self.log_file, 30));
    }

    /// Waits until a line of its log satisfies `found`.
    pub(crate) fn wait_log(&self, what: &str, found: impl Fn(&str) -> bool) {
        let why = || format!("in the log: {what}\n{}", tail(&self.log_file, 30));
        await_true_or_tell(SOON, || self.log().lines().any(&found), why);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of {}\n{}\n---", self.log_file.display(), tail(&self.log_file, 30));
        }
    }
}
