//! What the behaviours are told with: a broker, the daemon, receivers, a producer, a reader of topics, and foreign verifiers.

pub(crate) mod acls;
pub(crate) mod broker;
pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod latency;
pub(crate) mod name_server;
pub(crate) mod processes;
pub(crate) mod receiver;
pub(crate) mod scene;
pub(crate) mod secured;
mod self_checks;
pub(crate) mod tickets;
pub(crate) mod transcript;
pub(crate) mod valve;
pub(crate) mod verify;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Tells threads that it is over when it is dropped, also when a test fails: a scope waits for its threads before it lets a panic out.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Long enough for anything that should happen soon, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Polls `probe` until it yields something; panics with `what` at the deadline.
pub(crate) fn await_some<T>(what: &str, deadline: Duration, probe: impl FnMut() -> Option<T>) -> T {
    await_some_or_tell(deadline, probe, || what.to_owned())
}

/// The same; what is missing is asked for at the deadline, so that it can show how things stand by then.
fn await_some_or_tell<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>, what: impl FnOnce() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        if start.elapsed() >= deadline {
            panic!("after {deadline:?} still not: {}", what());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Polls `probe` until it is true; panics with `what` at the deadline.
pub(crate) fn await_true(what: &str, deadline: Duration, mut probe: impl FnMut() -> bool) {
    await_some(what, deadline, || probe().then_some(()));
}

/// The same; what is missing is asked for at the deadline, so that it can show how things stand by then.
pub(crate) fn await_true_or_tell(deadline: Duration, mut probe: impl FnMut() -> bool, what: impl FnOnce() -> String) {
    await_some_or_tell(deadline, || probe().then_some(()), what);
}
