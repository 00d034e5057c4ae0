//! The health probe of `callbackd healthcheck`: one GET to our own metrics port.

use super::EgressError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// From the start to the end of the body; container platforms probe every 10–30 s.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the body kept; `/readyz` is well below 2 KiB.
const MAX_BODY: usize = 16 * 1024;

/// What `/readyz` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// 200 when ready, 503 when not.
    pub status: u16,
    /// JSON with a reason for each "no"; cut after 16 KiB.
    pub body: String,
}

/// Asks `GET http://address/readyz`, within 5 s, past every proxy, following nothing. An unspecified address (a listener's `0.0.0.0`) means
/// this machine. It asks no guard: it dials our own listener only.
///
/// # Errors
/// `Probe` when nothing answered in time.
pub async fn probe(address: SocketAddr) -> Result<ProbeAnswer, EgressError> {
    ask(reachable(address)).await.map_err(|error| EgressError::Probe { address, cause: causes(&error.without_url()) })
}

async fn ask(address: SocketAddr) -> Result<ProbeAnswer, reqwest::Error> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .timeout(TIMEOUT)
        .build()?;
    let mut response = client.get(format!("http://{address}/readyz")).send().await?;
    let mut body = Vec::new();
    while body.len() < MAX_BODY {
        let Some(chunk) = response.chunk().await? else { break };
        body.extend_from_slice(&chunk);
    }
    body.truncate(MAX_BODY);
    Ok(ProbeAnswer { status: response.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
}

fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
