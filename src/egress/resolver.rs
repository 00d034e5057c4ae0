//! Names to addresses: the system's resolver, asked for the absolute name, a bounded number of times at once.
//!
//! getaddrinfo runs on a thread that cannot be interrupted, for seconds where a name server is dead, also when the attempt that asked has long
//! timed out. So that such names do not keep others waiting, a name is asked for once at a time, whoever waits for it, and names have places
//! by what is known of them:
//!
//! ```text
//!   new ── answered soon ─► proven ── took long ─► new ── took long ─► unwell ── answered soon ─► proven
//! ```
//!
//! One that takes long gives its place back, but for those that were unwell before: so many thousands of new names without a name server,
//! after a start, are through in minutes, and nobody who is well waits behind all of them. The number of those that still wait for their
//! answers is limited by [`STRAGGLERS`], below that of tokio's blocking threads.
//! Nothing is cached here: an answer is used by those who wait for it, right after it was judged, and never again (rebinding).

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// A lookup that takes longer says that the name's servers are unwell.
const LONG: Duration = Duration::from_secs(1);

/// Lookups that have given their place back and are not answered yet, at most. Beyond that they keep it.
const STRAGGLERS: usize = 384;

/// Names that are known, at most; then all are new again.
const MAX_KNOWN: usize = 100_000;

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// The name does not exist, or has no address: its servers said so.
    NoSuchName,
    /// Nobody said.
    NoAnswer,
}

type Answer = Result<Vec<IpAddr>, Unresolved>;

/// Asks the system for all addresses of a name.
type Ask = fn(String) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Where addresses come from.
pub(super) enum Resolver {
    /// The system, through tokio.
    System(Lookups),
    /// What a test says; one list for each call, the last repeated.
    #[cfg(test)]
    Scripted(std::cell::RefCell<Vec<Vec<IpAddr>>>),
}

impl Resolver {
    pub(super) fn system() -> Self {
        Self::System(Lookups::new(|name| {
            Box::pin(async move { spawn_blocking(move || of_the_system(&name)).await.unwrap_or(Err(Unresolved::NoAnswer)) })
        }))
    }

    /// All addresses of `name`, at least one, in the order in which to try them.
    pub(super) async fn lookup(&self, name: &str) -> Answer {
        match self {
            // Absolute: with the dot no search domain is tried.
            Self::System(lookups) => lookups.lookup(&format!("{}.", name.strip_suffix('.').unwrap_or(name))).await,
            #[cfg(test)]
            Self::Scripted(script) => {
                let mut script = script.borrow_mut();
                let answer = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
                if answer.is_empty() { Err(Unresolved::NoAnswer) } else { Ok(answer) }
            }
        }
    }
}

fn of_the_system(name: &str) -> Answer {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(|error| match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => Unresolved::NoSuchName,
        LookupErrorKind::Again
        | LookupErrorKind::Badflags
        | LookupErrorKind::Fail
        | LookupErrorKind::Family
        | LookupErrorKind::Socktype
        | LookupErrorKind::Service
        | LookupErrorKind::Memory
        | LookupErrorKind::System
        | LookupErrorKind::Unknown
        | LookupErrorKind::IO => Unresolved::NoAnswer,
    })?;
    Ok(found.flatten().map(|info| info.sockaddr.ip()).collect())
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    New,
    Proven,
    Unwell,
}

/// The lookups under way.
#[derive(Clone)]
pub(super) struct Lookups {
    ask: Ask,
    state: Arc<Mutex<State>>,
    /// Lookups at once, each a blocking thread: of new names, of proven ones, of those that are unwell.
    places: [Arc<Semaphore>; 3],
    stragglers: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    known: HashMap<String, Standing>,
    running: HashMap<String, watch::Receiver<Option<Answer>>>,
}

impl Lookups {
    fn new(ask: Ask) -> Self {
        Self {
            ask,
            state: Arc::default(),
            places: [32, 16, 8].map(|places| Arc::new(Semaphore::new(places))),
            stragglers: Arc::new(Semaphore::new(STRAGGLERS)),
        }
    }

    async fn lookup(&self, name: &str) -> Answer {
        let mut answer = self.begun(name);
        let answer = answer.wait_for(Option::is_some).await.map_err(|_| Unresolved::NoAnswer)?;
        answer.clone().unwrap_or(Err(Unresolved::NoAnswer))
    }

    /// The lookup of `name` that is under way, or a new one.
    fn begun(&self, name: &str) -> watch::Receiver<Option<Answer>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = state.running.get(name) {
            return running.clone();
        }
        let (tell, answer) = watch::channel(None);
        let _ = state.running.insert(name.to_owned(), answer.clone());
        let standing = state.known.get(name).copied().unwrap_or_default();
        let (this, name) = (self.clone(), name.to_owned());
        drop(tokio::spawn(async move {
            let Ok(place) = Arc::clone(&this.places[standing as usize]).acquire_owned().await else { return };
            if this.is_wanted(&name, &tell) {
                let answer = this.asked(&name, standing, place).await;
                let _ = this.with_state(|state| state.running.remove(&name));
                // Those who asked may all have given up.
                let _ = tell.send(Some(answer));
            }
        }));
        answer
    }

    /// Whether anybody still waits for `name`; if not, its lookup is over.
    fn is_wanted(&self, name: &str, tell: &watch::Sender<Option<Answer>>) -> bool {
        self.with_state(|state| {
            // One receiver is the state's own.
            let wanted = tell.receiver_count() > 1;
            if !wanted {
                let _ = state.running.remove(name);
            }
            wanted
        })
    }

    async fn asked(&self, name: &str, standing: Standing, place: OwnedSemaphorePermit) -> Answer {
        let mut asked = (self.ask)(name.to_owned());
        let (answer, standing) = match timeout(LONG, &mut asked).await {
            Ok(answer @ Ok(_)) => (answer, Standing::Proven),
            Ok(answer @ Err(_)) => (answer, Standing::New),
            Err(_) => {
                // Once may be the network's fault.
                let next = if standing == Standing::Proven { Standing::New } else { Standing::Unwell };
                self.is_known_as(name, next);
                let straggles = if standing == Standing::Unwell { None } else { Arc::clone(&self.stragglers).try_acquire_owned().ok() };
                let held = straggles.unwrap_or(place);
                let answer = asked.await;
                drop(held);
                (answer, next)
            }
        };
        self.is_known_as(name, standing);
        answer.and_then(|found| if found.is_empty() { Err(Unresolved::NoSuchName) } else { Ok(found) })
    }

    fn is_known_as(&self, name: &str, standing: Standing) {
        self.with_state(|state| {
            if state.known.len() >= MAX_KNOWN {
                state.known.clear();
            }
            let _ = state.known.insert(name.to_owned(), standing);
        });
    }

    fn with_state<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    static COUNTED: AtomicUsize = AtomicUsize::new(0);
    static LATE: AtomicUsize = AtomicUsize::new(0);
    static DEAD_BY_NOW: AtomicBool = AtomicBool::new(false);
    static GATE: Semaphore = Semaphore::const_new(0);

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Names that begin with `dead` are never answered, with `mortal` no more from a moment on, with `gated` once the gate is open.
    fn lookups() -> Lookups {
        Lookups::new(|name| {
            Box::pin(async move {
                let dead = name.starts_with("dead") || name.starts_with("mortal") && DEAD_BY_NOW.load(Ordering::Relaxed);
                if dead {
                    std::future::pending::<()>().await;
                }
                match name.as_str() {
                    "counted." => drop(COUNTED.fetch_add(1, Ordering::Relaxed)),
                    "late." => drop(LATE.fetch_add(1, Ordering::Relaxed)),
                    gated if gated.starts_with("gated") => drop(GATE.acquire().await),
                    _ => {}
                }
                Ok(vec![HERE])
            })
        })
    }

    /// Attempts to names without a name server begin.
    fn ask_for(lookups: &Lookups, name: &str, n: usize) {
        for n in 0..n {
            let (lookups, name) = (lookups.clone(), format!("{name}{n}."));
            drop(tokio::spawn(async move { lookups.lookup(&name).await }));
        }
    }

    async fn in_time(lookups: &Lookups, name: &str) -> Option<Answer> {
        timeout(Duration::from_secs(30), lookups.lookup(name)).await.ok()
    }

    #[tokio::test]
    async fn names_whose_servers_are_dead_do_not_keep_those_waiting_that_were_answered() {
        let lookups = lookups();
        assert_eq!(in_time(&lookups, "well.").await, Some(Ok(vec![HERE])));
        ask_for(&lookups, "dead", 200);
        tokio::task::yield_now().await;
        assert_eq!(in_time(&lookups, "well.").await, Some(Ok(vec![HERE])));
    }

    #[tokio::test]
    async fn names_without_a_name_server_that_were_never_asked_for_do_not_keep_a_new_one_waiting_for_long() {
        let lookups = lookups();
        ask_for(&lookups, "dead", 100);
        tokio::task::yield_now().await;
        assert_eq!(in_time(&lookups, "well.").await, Some(Ok(vec![HERE])), "thirty-two a second");
    }

    #[tokio::test]
    async fn names_that_die_after_they_were_answered_give_their_places_back() {
        let lookups = lookups();
        assert!(in_time(&lookups, "well.").await.is_some());
        for n in 0..20 {
            assert!(in_time(&lookups, &format!("mortal{n}.")).await.is_some());
        }
        DEAD_BY_NOW.store(true, Ordering::Relaxed);
        ask_for(&lookups, "mortal", 20);
        tokio::task::yield_now().await;
        assert_eq!(in_time(&lookups, "well.").await, Some(Ok(vec![HERE])));
    }

    #[tokio::test]
    async fn all_who_wait_for_a_name_share_one_lookup_and_the_next_asks_anew() {
        let lookups = lookups();
        let (a, b, c) = tokio::join!(lookups.lookup("counted."), lookups.lookup("counted."), lookups.lookup("counted."));
        assert!(a.is_ok() && a == b && b == c);
        assert_eq!(COUNTED.load(Ordering::Relaxed), 1);
        assert!(lookups.lookup("counted.").await.is_ok());
        assert_eq!(COUNTED.load(Ordering::Relaxed), 2, "nothing is cached");
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_any_more_is_not_made() {
        let lookups = lookups();
        ask_for(&lookups, "gated", 32);
        tokio::task::yield_now().await;
        assert!(timeout(Duration::from_millis(50), lookups.lookup("late.")).await.is_err(), "all places of new names are taken");
        GATE.add_permits(32);
        assert!(in_time(&lookups, "behind-it.").await.is_some());
        assert_eq!(LATE.load(Ordering::Relaxed), 0);
        assert!(lookups.with_state(|state| state.running.is_empty()));
    }

    #[test]
    fn the_system_is_asked() {
        let found = of_the_system("localhost").unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        // Reserved (RFC 6761): it never exists; without a name server nobody says so.
        let missing = of_the_system("callbackd.invalid.");
        assert!(matches!(missing, Err(Unresolved::NoSuchName | Unresolved::NoAnswer)), "{missing:?}");
    }
}
