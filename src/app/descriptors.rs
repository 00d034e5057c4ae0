//! The limit on file descriptors, looked at once: a limit below what the configuration may need is told at start, when it can be mended.
//! Reaching it loses nothing (attempts without a descriptor wait and are retried), but delays everybody.

use crate::egress::{MAX_DRAINS, MAX_IDLE};
use std::fs;
use tracing::warn;

/// Descriptors for brokers (three consumers, a producer and a monitor with a connection to each), scrapers and files, with some to spare.
const OTHERS: u64 = 192;

/// Says so when the process may open fewer files than `max_in_flight` attempts, idle connections, those whose bodies are late, and the rest may need.
pub(super) fn tell_if_low(max_in_flight: usize) {
    let needed = needed(max_in_flight);
    if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().and_then(|text| soft_limit(&text))
        && limit < needed
    {
        warn!(
            limit,
            needed,
            "the limit of {limit} file descriptors is below the {needed} that may be needed (delivery.max_in_flight, pooled connections, brokers): raise it (LimitNOFILE of the unit, ulimits of the container, ulimit -n), or lower delivery.max_in_flight"
        );
    }
}

/// The most sockets of one attempt. A connection takes one; before it, while a host is looked up and no name server answers, each of the
/// two families of addresses takes three: the question and two repeats.
const SOCKETS: usize = 6;

fn needed(max_in_flight: usize) -> u64 {
    let sockets = max_in_flight.saturating_mul(SOCKETS).saturating_add(MAX_IDLE + MAX_DRAINS);
    u64::try_from(sockets).unwrap_or(u64::MAX).saturating_add(OTHERS)
}

/// The soft limit in the text of `/proc/self/limits`; `None` when there is none, or it cannot be read.
fn soft_limit(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read_and_no_limit_is_none() {
        let line = |limits: &str| {
            format!(
                "Limit    Soft Limit    Hard Limit    Units\nMax processes   7   8   processes\nMax open files            {limits}     files\n"
            )
        };
        assert_eq!(soft_limit(&line("1024                 524288")), Some(1024));
        assert_eq!(soft_limit(&line("unlimited            unlimited")), None);
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn what_may_be_needed_grows_with_the_attempts_at_once_and_never_overflows() {
        assert_eq!(needed(1024), 7616);
        assert_eq!(needed(usize::MAX), u64::MAX);
    }
}
