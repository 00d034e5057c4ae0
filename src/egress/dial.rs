//! Making a connection: resolve, judge every address, connect, assert the peer, TLS.

use super::Observer;
use super::connection::Connection;
use super::meter::Metered;
use super::resolver::{Resolver, Unresolved};
use super::stream::Socket;
use super::target::Origin;
use crate::domain::address::AddressPolicy;
use crate::domain::verdict::Failure;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::Host;

/// Addresses of one name that are tried; all are judged.
const MAX_TRIED: usize = 6;

/// No connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmade {
    /// What the attempt ends with.
    Failed(Failure),
    /// This process, or the system, has no file descriptor left: nothing about the receiver.
    NoDescriptor,
}

impl From<Failure> for Unmade {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Too many open files: of the system, of the process. The numbers are the same on every Unix.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Makes connections to what the policy lets through.
pub(super) struct Dialer {
    pub(super) policy: AddressPolicy,
    pub(super) resolver: Resolver,
    pub(super) observer: Box<dyn Observer>,
}

impl Dialer {
    /// A fresh connection to `origin`, established by `deadline`.
    pub(super) async fn dial(&self, origin: &Origin, deadline: Instant) -> Result<Box<Connection>, Unmade> {
        let made = timeout_at(deadline, self.establish(origin, deadline)).await.unwrap_or(Err(Failure::Timeout.into()));
        if let (Err(Unmade::Failed(Failure::Connect | Failure::Refused | Failure::Timeout | Failure::Tls)), Host::Domain(name)) =
            (&made, &origin.host)
        {
            // The host may have moved.
            self.resolver.forget(name);
        }
        made
    }

    async fn establish(&self, origin: &Origin, deadline: Instant) -> Result<Box<Connection>, Unmade> {
        let addresses = match &origin.host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) => self.resolver.lookup(name).await.map_err(unresolved)?,
        };
        if let Some(refusal) = addresses.iter().find_map(|address| self.policy.judge_address(*address).err()) {
            self.observer.blocked(refusal);
            return Err(Failure::Blocked.into());
        }
        let tcp = connect(&addresses, origin.port, deadline).await?;
        let peer = tcp.peer_addr().map_err(|_| Failure::Connect)?.ip();
        if !is_among(peer, &addresses) {
            self.observer.violation();
            return Err(Failure::Blocked.into());
        }
        // Without it the second small write of a request would wait for the receiver's delayed acknowledgement. A socket that refuses it
        // works.
        let _ = tcp.set_nodelay(true);
        let socket = match &origin.secure {
            None => Socket::Plain(tcp),
            Some(secure) => {
                let stream = secure.connector.connect(secure.name.clone(), Metered::new(tcp)).await.map_err(|_| Failure::Tls)?;
                Socket::Tls(Box::new(stream))
            }
        };
        Ok(Connection::new(socket))
    }
}

/// Why a name was not resolved. The resolver does not tell when it could not open a socket.
fn unresolved(why: Unresolved) -> Unmade {
    match why {
        Unresolved::NoSuchName => Failure::NoSuchName.into(),
        Unresolved::NoAnswer if std::fs::File::open("/dev/null").is_err_and(|error| is_shortage(&error)) => Unmade::NoDescriptor,
        Unresolved::NoAnswer => Failure::Dns.into(),
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// The first of `addresses` that accepts. Each gets an equal share of the time that is left, so that one that is silent leaves time for the
/// next.
async fn connect(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, Unmade> {
    let mut failure = Failure::Connect;
    let mut left = u32::try_from(addresses.len().min(MAX_TRIED)).unwrap_or(1);
    for address in addresses.iter().take(MAX_TRIED) {
        let now = Instant::now();
        let share = now + deadline.saturating_duration_since(now) / left.max(1);
        match timeout_at(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) if is_shortage(&error) => return Err(Unmade::NoDescriptor),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => failure = Failure::Timeout,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => failure = Failure::Refused,
            Ok(Err(_)) => failure = Failure::Connect,
            Err(_) => failure = Failure::Timeout,
        }
        left = left.saturating_sub(1);
    }
    Err(failure.into())
}

/// Whether the socket's `peer` is one of the `judged` addresses, mapped ones taken as the IPv4 inside.
fn is_among(peer: IpAddr, judged: &[IpAddr]) -> bool {
    judged.iter().any(|address| address.to_canonical() == peer.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::is_among;

    #[test]
    fn a_peer_counts_as_judged_only_when_its_own_address_was() {
        let table = [
            ("93.184.216.34", "93.184.216.34", true),
            ("93.184.216.34", "::ffff:93.184.216.34", true),
            ("::ffff:93.184.216.34", "93.184.216.34", true),
            ("127.0.0.1", "93.184.216.34", false),
            ("::1", "2606:4700::1", false),
        ];
        for (peer, judged, expected) in table {
            assert_eq!(is_among(peer.parse().unwrap(), &[judged.parse().unwrap()]), expected, "{peer} {judged}");
        }
        assert!(!is_among("127.0.0.1".parse().unwrap(), &[]));
    }
}
