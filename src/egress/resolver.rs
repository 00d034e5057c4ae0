//! Names to addresses: the system's resolver, asked for the absolute name, a bounded number of times at once.
//!
//! getaddrinfo runs on a thread that cannot be interrupted. A lookup therefore holds its place until the system answers, even when the attempt
//! that asked has long timed out: a dead name server costs [`MAX_LOOKUPS`] threads, not one for each attempt.
//! Nothing is cached here: an answer is used for one connection, right after it was judged, and never again (rebinding).

use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;

/// Lookups at once; each is a thread of tokio's blocking pool.
const MAX_LOOKUPS: usize = 32;

/// The name could not be resolved: no such name, no answer, no address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unresolved;

/// Where addresses come from.
pub(super) enum Resolver {
    /// The system, through tokio.
    System(Arc<Semaphore>),
    /// What a test says; one list for each call, the last repeated.
    #[cfg(test)]
    Scripted(std::cell::RefCell<Vec<Vec<IpAddr>>>),
}

impl Resolver {
    pub(super) fn system() -> Self {
        Self::System(Arc::new(Semaphore::new(MAX_LOOKUPS)))
    }

    /// All addresses of `name`, at least one, in the order in which to try them.
    pub(super) async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        match self {
            Self::System(places) => {
                let place = Arc::clone(places).acquire_owned().await.map_err(|_| Unresolved)?;
                // Absolute: with the dot no search domain is tried.
                let name = format!("{}.", name.strip_suffix('.').unwrap_or(name));
                let lookup = tokio::spawn(async move {
                    let _place = place;
                    lookup_host((name, 0)).await.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
                });
                match lookup.await {
                    Ok(Ok(found)) if !found.is_empty() => Ok(found),
                    Ok(Ok(_) | Err(_)) | Err(_) => Err(Unresolved),
                }
            }
            #[cfg(test)]
            Self::Scripted(script) => {
                let mut script = script.borrow_mut();
                let answer = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
                if answer.is_empty() { Err(Unresolved) } else { Ok(answer) }
            }
        }
    }
}
