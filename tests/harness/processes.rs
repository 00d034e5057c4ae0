//! Child processes that never outlive the run.
//!
//! The test harness has no teardown, so one small shell is told which processes run. It reads its standard input; when the test process
//! ends, however that happens, the pipe closes and the shell ends what is left, by process id, and removes the broker's data.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

const REAPER: &str = r#"
running=" "
while read -r word value; do
    case "$word" in
        began) running="$running$value " ;;
        ended) running=$(printf '%s' "$running" | sed "s/ $value / /") ;;
        data)  set -- "$@" "$value" ;;
    esac
done
for pid in $running; do kill -KILL "$pid" 2>/dev/null; done
[ $# -gt 0 ] && sleep 0.2 && rm -rf "$@"
"#;

fn tell(line: &str) {
    static REAPER_INPUT: OnceLock<Mutex<Child>> = OnceLock::new();
    let reaper = REAPER_INPUT.get_or_init(|| {
        let child = Command::new("sh")
            .args(["-c", REAPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a POSIX shell is needed to end the broker with the run");
        Mutex::new(child)
    });
    let mut reaper = reaper.lock().unwrap();
    let input = reaper.stdin.as_mut().unwrap();
    writeln!(input, "{line}").unwrap();
    input.flush().unwrap();
}

/// Removed when the run has ended.
pub(crate) fn remove_at_the_end(data: &Path) {
    tell(&format!("data {}", data.display()));
}

/// A child that is killed when dropped, and when the run ends.
pub(crate) struct Process {
    child: Child,
    over: Option<i32>,
    /// The system wrote, or passed on, what was in its memory.
    pub(crate) dumped_core: bool,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let child = command.spawn()?;
        tell(&format!("began {}", child.id()));
        Ok(Self { child, over: None, dumped_core: false })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name without `SIG`, as `kill` has it: `TERM`, `KILL`, `STOP`, …
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(done.is_ok_and(|s| s.success()), "kill -{name} {}", self.child.id());
    }

    /// The exit code when it is over; 128 + n for a signal.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        if self.over.is_none()
            && let Some(status) = self.child.try_wait().unwrap()
        {
            tell(&format!("ended {}", self.child.id()));
            self.dumped_core = status.core_dumped();
            self.over = Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        self.over
    }

    /// Kills it now and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.exit_code().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.exit_code();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The directory of this run; those of earlier runs that are over are removed first.
pub(crate) fn run_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| run_dir_in(Path::new(env!("CARGO_TARGET_TMPDIR")), "run-"))
}

/// The directory of this run below `root`, named after the process; those of earlier runs that are over are removed first.
pub(crate) fn run_dir_in(root: &Path, prefix: &str) -> PathBuf {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix(prefix)
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let dir = root.join(format!("{prefix}{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Sets a resource limit of a running process, as `prlimit` names and writes it.
pub(crate) fn limit(id: u32, what: &str) {
    let done = Command::new("prlimit").arg(format!("--pid={id}")).arg(format!("--{what}")).status();
    assert!(done.as_ref().is_ok_and(std::process::ExitStatus::success), "prlimit (of util-linux) --{what} of {id}: {done:?}");
}

/// Below the ports that Linux gives to whoever asks for any (32768 and up, `ip_local_port_range`), so that neither an
/// outgoing connection nor a test's own listener can take one before the process it was found for listens there.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// A loopback port on which nobody listens, and which no other call of this process was given.
///
/// Processes side by side begin at different ones.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let room = PORTS.end - PORTS.start;
    let first = std::process::id().wrapping_mul(7_919) % room;
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < room, "no port from {} to {} is free", PORTS.start, PORTS.end);
        let port = (PORTS.start + (first + given) % room) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The end of a text file, for failure messages.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
