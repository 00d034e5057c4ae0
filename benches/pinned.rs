//! Child processes on a CPU of their choice, and what `/proc` says of them.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The process under test has this CPU for itself.
pub(crate) const UNDER_TEST: &str = "0";
/// Driver, broker and receiver share this one.
pub(crate) const OTHERS: &str = "1";
/// Both, for what is to show how it scales; it shares the second one with the others.
pub(crate) const BOTH: &str = "0,1";

/// Puts this process, and so every child that is not told otherwise, on [`OTHERS`].
pub(crate) fn pin_driver() {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-a", "-c", "-p", OTHERS, &pid]).stdout(Stdio::null()).status();
    let done = done.expect("`taskset` is needed: install util-linux");
    assert!(done.success(), "two CPUs are needed, {UNDER_TEST} for the process under test and {OTHERS} for all others");
}

/// A child whose lines on standard output are read as they come. Killed when dropped, and when this process ends in any other way.
pub(crate) struct Pinned {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Pinned {
    /// Starts `program` on `cpus`; its standard error goes to `log`.
    pub(crate) fn spawn(cpus: &str, program: &Path, arguments: &[&str], log: &Path) -> Self {
        // `setpriv` and `taskset` replace themselves by what they start: the child's id is the program's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", cpus]).arg(program).args(arguments);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CALLBACKD_")) {
            command.env_remove(name);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log).unwrap())
            .spawn()
            .expect("`setpriv` is needed: install util-linux");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, log: log.to_owned() }
    }

    /// Its next line, without waiting longer than `patience`.
    pub(crate) fn line(&self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("it ended by itself:\n{}", self.log()),
        }
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        crate::harness::processes::tail(&self.log, 20)
    }

    /// Panics with its log when it is over.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the process under test ended with {status}:\n{}", self.log());
        }
    }

    /// User and system time of all its threads until now: to the nanosecond where the kernel keeps scheduler statistics (threads that
    /// have ended are not in them; none ends while it is measured), else to its tick (10 ms).
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(self.proc("task")).unwrap();
        let nanos = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        if let Some(nanos) = tasks.map(|task| nanos(task.unwrap())).sum::<Option<u64>>().filter(|nanos| *nanos > 0) {
            return Duration::from_nanos(nanos);
        }
        let stat = std::fs::read_to_string(self.proc("stat")).unwrap();
        // Behind the name, which is in brackets and may hold anything: state is the first field, utime the twelfth, stime the thirteenth.
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 1..].split_whitespace().collect();
        time(&fields[11..=12])
    }

    /// The most memory that it has had resident, in KiB.
    pub(crate) fn peak_resident(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends `HUP` or `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(done.is_ok_and(|status| status.success()), "kill -{name} {}", self.child.id());
    }

    /// SIGTERM; the exit code, or nothing when it had to be killed after `patience`.
    pub(crate) fn terminate(mut self, patience: Duration) -> Option<i32> {
        self.signal("TERM");
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long `cpu` has worked for anyone since the machine started.
pub(crate) fn cpu_in_use(cpu: &str) -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{cpu} "))).unwrap();
    // user, nice, system, (idle, iowait,) irq, softirq
    let fields: Vec<&str> = line.split_whitespace().collect();
    time(&fields[..3]) + time(&fields[5..7])
}

fn time(ticks: &[&str]) -> Duration {
    let ticks: u64 = ticks.iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_micros(ticks * 1_000_000 / ticks_per_second())
}

fn ticks_per_second() -> u64 {
    static TICKS: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *TICKS.get_or_init(|| {
        let said = Command::new("getconf").arg("CLK_TCK").output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().parse().unwrap()
    })
}
