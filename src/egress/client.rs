//! The client: one attempt from request to outcome, over a pooled or a fresh connection.

use super::connection::Connection;
use super::dial::{Dialer, Unmade};
use super::pool::{Pool, Stack};
use super::resolver::Resolver;
use super::target::{Target, Targets};
use super::tls::Tls;
use super::wire::Head;
use super::{EgressError, Observer, Settings};
use crate::delivery::ports::{CallbackRequest, Transport};
use crate::domain::verdict::{Failure, Outcome};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Between looks for a file descriptor that another attempt has freed.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(50);

/// A pooled connection that breaks within this time was closed before our request came, or while it was on its way: nobody has handled it.
pub(super) const ALREADY_CLOSED: Duration = Duration::from_secs(1);

/// The guarded client. It belongs to one thread: build it and use it on the current-thread runtime that runs the attempts.
///
/// A body that is not complete when its head is (some receivers write them apart) is read to its end by a task of its own
/// ([`tokio::spawn`], so no `LocalSet` is needed), which hands the connection back through a channel.
pub struct Client {
    dialer: Dialer,
    targets: RefCell<Targets>,
    pool: RefCell<Pool<Box<Connection>>>,
    drains: Drains,
}

/// Connections whose bodies are being read in the background. When all places, or all of a host, are taken, the one that has taken longest is
/// given up: bodies are late by milliseconds, and those that drip must not cost the others their connections.
struct Drains {
    /// By number: the first one began first.
    running: RefCell<BTreeMap<u64, Drain>>,
    /// The most of them, over all hosts.
    most: usize,
    /// The most of one host: more than that could not be kept idle afterwards.
    most_per_host: usize,
    next: Cell<u64>,
    back: UnboundedSender<Drained>,
    done: RefCell<UnboundedReceiver<Drained>>,
}

/// One of them; dropped, it ends.
struct Drain {
    host: Rc<Stack>,
    task: AbortHandle,
}

impl Drain {
    fn new(host: &Rc<Stack>, task: AbortHandle) -> Self {
        host.draining.set(host.draining.get() + 1);
        Self { host: Rc::clone(host), task }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.host.draining.set(self.host.draining.get() - 1);
        self.task.abort();
    }
}

/// The end of a drain, sent also when its task is dropped.
struct Drained {
    number: u64,
    /// The connection, if it can be used again.
    connection: Option<Box<Connection>>,
}

impl Client {
    /// A client for `settings` that tells `observer` what the guard does.
    ///
    /// # Errors
    /// `Roots` when `ca_file` holds no usable certificate, `Tls` when the TLS library refuses the settings.
    pub fn new(settings: Settings, observer: Box<dyn Observer>) -> Result<Self, EgressError> {
        let tls = Tls::new(settings.extra_roots_pem.as_deref())?;
        let (back, done) = unbounded_channel();
        let (most, most_per_host) = (settings.max_drains, settings.max_idle_per_host);
        let done = RefCell::new(done);
        Ok(Self {
            dialer: Dialer { policy: settings.policy, resolver: Resolver::new(settings.name_servers), observer },
            targets: RefCell::new(Targets::new(tls)),
            pool: RefCell::new(Pool::new(settings.max_idle, settings.max_idle_per_host, settings.idle_timeout)),
            drains: Drains { running: RefCell::default(), most, most_per_host, next: Cell::new(0), back, done },
        })
    }

    #[cfg(test)]
    pub(super) fn with_resolver(mut self, resolver: Resolver) -> Self {
        self.dialer.resolver = resolver;
        self
    }

    /// Closes what has been idle for too long; to be called about each second, so that hosts without traffic lose theirs as well.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.collect(now);
        self.pool.borrow_mut().expire(now);
    }

    /// Connections idle now, over all hosts.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.pool.borrow().idle()
    }

    /// Takes back connections whose background drains have finished.
    fn collect(&self, now: Instant) {
        if self.drains.running.borrow().is_empty() {
            return;
        }
        while let Ok(drained) = self.drains.done.borrow_mut().try_recv() {
            let drain = self.drains.running.borrow_mut().remove(&drained.number);
            if let (Some(drain), Some(connection)) = (drain, drained.connection) {
                self.pool.borrow_mut().put(&drain.host, connection, now);
            }
        }
    }

    /// The latest idle connection to `host` that is still alive.
    fn idle_connection(&self, host: &Stack, now: Instant) -> Option<Box<Connection>> {
        self.collect(now);
        loop {
            let mut connection = self.pool.borrow_mut().take(host, now)?;
            if connection.still_idle(now) {
                return Some(connection);
            }
        }
    }

    async fn attempt(&self, target: &Target, request: &CallbackRequest, start: Instant, deadline: Instant) -> Outcome {
        if let Some(mut connection) = self.idle_connection(&target.origin.idle, start) {
            match connection.exchange(target, &request.headers, &request.body).await {
                Ok(head) => return self.answered(target, connection, head, deadline),
                Err(broken) if broken.heard => return Outcome::Failed(Failure::Protocol),
                // Later than that the receiver may have done the work, and broke off instead of saying so.
                Err(_) if start.elapsed() > ALREADY_CLOSED => return Outcome::Failed(Failure::Protocol),
                // The receiver had closed it, or did so while our request was on its way: the same bytes once more, on a fresh one.
                Err(_) => {}
            }
        }
        // Boxed: connecting takes kilobytes of state, which every attempt would be moved with.
        Box::pin(self.attempt_afresh(target, request, deadline)).await
    }

    /// One attempt over a connection of its own.
    async fn attempt_afresh(&self, target: &Target, request: &CallbackRequest, deadline: Instant) -> Outcome {
        let connect_by = deadline.min(Instant::now() + request.connect_timeout);
        let mut connection = match self.dial(target, connect_by).await {
            Ok(connection) => connection,
            Err(failure) => return Outcome::Failed(failure),
        };
        match connection.exchange(target, &request.headers, &request.body).await {
            Ok(head) => self.answered(target, connection, head, deadline),
            Err(_) => Outcome::Failed(Failure::Protocol),
        }
    }

    /// A fresh connection. When no file descriptor is left it closes an idle connection, or waits for one: the shortage is ours, and costs
    /// an attempt only when it lasts for the whole time-out.
    async fn dial(&self, target: &Target, connect_by: Instant) -> Result<Box<Connection>, Failure> {
        loop {
            match self.dialer.dial(&target.origin, connect_by).await {
                Ok(connection) => return Ok(connection),
                Err(Unmade::Failed(failure)) => return Err(failure),
                Err(Unmade::NoDescriptor) => {
                    let freed = self.pool.borrow_mut().drop_oldest();
                    let again = Instant::now() + if freed { Duration::ZERO } else { DESCRIPTOR_PAUSE };
                    if again >= connect_by {
                        return Err(Failure::Connect);
                    }
                    sleep_until(again).await;
                }
            }
        }
    }

    /// Returns the outcome at once; what becomes of the connection, here or in the background, does not change it.
    fn answered(&self, target: &Target, mut connection: Box<Connection>, head: Head, deadline: Instant) -> Outcome {
        let outcome = Outcome::Answered { status: head.status, retry_after: head.retry_after };
        let mut seen = 0;
        match connection.skim(&mut seen) {
            Poll::Ready(Ok(())) => {
                if connection.is_idle() {
                    let now = Instant::now();
                    connection.rest(now);
                    self.pool.borrow_mut().put(&target.origin.idle, connection, now);
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.drain(&target.origin.idle, connection, seen, deadline),
        }
        outcome
    }

    fn drain(&self, host: &Rc<Stack>, mut connection: Box<Connection>, mut seen: u64, deadline: Instant) {
        if !self.make_room(host) {
            return;
        }
        let number = self.drains.next.get();
        self.drains.next.set(number.wrapping_add(1));
        let mut end = DrainEnd { back: self.drains.back.clone(), number, connection: None };
        let task = tokio::spawn(async move {
            let read = timeout_at(deadline, poll_fn(|cx| connection.poll_body(cx, &mut seen))).await;
            if matches!(read, Ok(Ok(()))) && connection.is_idle() {
                connection.rest(Instant::now());
                end.keep(connection);
            }
        });
        self.drains.running.borrow_mut().insert(number, Drain::new(host, task.abort_handle()));
    }

    /// Whether another body of `host` may be read in the background; where all places are taken, or all that a host may have, the one that
    /// began first ends.
    fn make_room(&self, host: &Rc<Stack>) -> bool {
        let Drains { running, most, most_per_host, .. } = &self.drains;
        let (is_full, has_all) = (|| running.borrow().len() >= *most, || host.draining.get() >= *most_per_host);
        if is_full() || has_all() {
            // Some may have ended.
            self.collect(Instant::now());
        }
        if has_all() {
            let oldest = running.borrow().iter().find(|(_, drain)| Rc::ptr_eq(&drain.host, host)).map(|(number, _)| *number);
            oldest.and_then(|number| running.borrow_mut().remove(&number));
        } else if is_full() {
            running.borrow_mut().pop_first();
        }
        *most > 0 && *most_per_host > 0
    }
}

/// Reports the end of a drain when it is dropped, however that comes about.
struct DrainEnd {
    back: UnboundedSender<Drained>,
    number: u64,
    connection: Option<Box<Connection>>,
}

impl DrainEnd {
    /// Reports `connection` as fit to be used again.
    fn keep(&mut self, connection: Box<Connection>) {
        self.connection = Some(connection);
    }
}

impl Drop for DrainEnd {
    fn drop(&mut self) {
        // Nobody listens any more: then the client is gone, and the connection goes too.
        let _ = self.back.send(Drained { number: self.number, connection: self.connection.take() });
    }
}

impl Transport for Client {
    async fn send(&self, request: CallbackRequest) -> Outcome {
        let target = self.targets.borrow_mut().of(&request.url, &self.dialer.policy);
        let target = match target {
            Ok(target) => target,
            Err(refusal) => {
                self.dialer.observer.blocked(refusal);
                return Outcome::Failed(Failure::Blocked);
            }
        };
        let start = Instant::now();
        let deadline = start + request.timeout;
        timeout_at(deadline, self.attempt(&target, &request, start, deadline)).await.unwrap_or(Outcome::Failed(Failure::Timeout))
    }

    fn tidy(&self) {
        self.targets.borrow_mut().tidy();
        self.sweep();
    }
}
