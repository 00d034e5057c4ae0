//! Egress: the one guarded client for everything outbound.
//!
//! ```text
//!  CallbackRequest ─► target ─► pool ──────────────► connection ─► Outcome at the headers
//!                     (guard    │ nothing idle           ▲  │
//!                      on URL)  ▼                        │  └─► body skimmed ─► pool, or a bounded drain
//!                              dial: resolve ─► guard on every address ─► TCP ─► peer asserted ─► TLS
//! ```
//!
//! It speaks HTTP/1.1 itself (`wire`, `connection`) with a pool of its own. reqwest was refused here: it cannot say whether a failed
//! request went over a re-used connection, cannot cap idle connections over all hosts, and costs twice the CPU. Only [`probe`] uses it.
//! hyper's connection was used and replaced: a third of the user time of a callback was spent in it.
//!
//! Invariants: no byte leaves for an address that [`AddressPolicy`] did not pass, and the socket's peer is asserted to be one of the judged
//! addresses; redirects, proxies, decompression and cookies do not exist here, so nothing can switch them on; what a receiver does
//! ends in an [`Outcome`](crate::delivery::ports), never in a panic, and costs bounded memory.
//!
//! Not here: what an outcome means (`domain::verdict`), how often an endpoint is called (`delivery`).

mod client;
mod connection;
mod dial;
mod meter;
#[cfg(test)]
#[path = "../../tests/harness/name_server.rs"]
mod name_server;
mod pool;
mod probe;
mod resolver;
mod stream;
mod target;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../../tests/harness/tickets.rs"]
mod tickets;
mod tls;
mod wire;

pub use client::Client;
pub use probe::{ProbeAnswer, probe};
pub use wire::{AnswerRead, read_in_pieces};

use crate::domain::address::{AddressPolicy, Refusal};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a connection may lie idle. Receivers mostly close theirs after 5 s (Node and its kin, Apache; nginx 75 s), and a request that
/// meets the close fails; so 5 s, less 1 s for the way of the close and of the request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections in all: at 17.6 kB (plain) to 24.7 kB (TLS) each, 25 MB at most.
pub const MAX_IDLE: usize = 1024;

/// Bodies that are read in the background at once, in all; beyond it the one that takes longest is given up, with its connection.
pub const MAX_DRAINS: usize = 256;

/// What the client is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which addresses and names may be dialled.
    pub policy: AddressPolicy,
    /// Who is asked for the addresses of names (`egress.name_servers`); none: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// Trusted roots beside the public ones, PEM (`egress.ca_file`).
    pub extra_roots_pem: Option<Vec<u8>>,
    /// Idle connections are closed after this long; best [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// Idle connections kept in all; best [`MAX_IDLE`]. Beyond it the one idle longest is closed.
    pub max_idle: usize,
    /// Idle connections kept for one scheme, host and port, and bodies read in the background there; best the lanes' concurrency.
    pub max_idle_per_host: usize,
    /// Bodies read in the background in all; best [`MAX_DRAINS`].
    pub max_drains: usize,
}

impl Settings {
    /// The settings for `policy` with the defaults of this module and `max_idle_per_host` idle connections a host.
    #[must_use]
    pub fn new(policy: AddressPolicy, max_idle_per_host: usize) -> Self {
        Self {
            policy,
            name_servers: Vec::new(),
            extra_roots_pem: None,
            idle_timeout: IDLE_TIMEOUT,
            max_idle: MAX_IDLE,
            max_idle_per_host,
            max_drains: MAX_DRAINS,
        }
    }
}

/// Whether `pem` can be [`Settings::extra_roots_pem`].
///
/// # Errors
/// What is wrong with it.
pub fn check_roots(pem: &[u8]) -> Result<(), String> {
    tls::Tls::new(Some(pem)).map(drop).map_err(|error| match error {
        EgressError::Roots(cause) => cause,
        other @ (EgressError::Tls(_) | EgressError::Probe { .. }) => other.to_string(),
    })
}

/// Why the client could not be built, or the health probe got no answer.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// `egress.ca_file` is no PEM, or a certificate in it is none.
    #[error("egress.ca_file: {0}")]
    Roots(String),
    /// The TLS library refused our settings.
    #[error("TLS settings: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The health probe's request failed.
    #[error("no answer from {address}: {cause}")]
    Probe {
        /// The address asked.
        address: SocketAddr,
        /// The client's error and its causes, in words.
        cause: String,
    },
}

/// Hears what the guard does; the app feeds metrics with it.
pub trait Observer {
    /// A send was refused: `callbackd_egress_blocked_total{reason}`.
    fn blocked(&self, reason: Refusal);
    /// A connection's peer was none of the judged addresses: `callbackd_egress_violations_total`, must stay 0. The connection was closed
    /// before a byte was sent.
    fn violation(&self);
}
