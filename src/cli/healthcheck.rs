//! `callbackd healthcheck`: asks the daemon of the same configuration whether it is ready.

use super::failure::complain;
use super::{Exit, Failure, load};
use crate::egress::{ProbeAnswer, probe};
use anyhow::Context as _;
use std::io::Write;
use std::path::Path;

pub(super) fn healthcheck(config: &Path, out: &mut dyn Write) -> Result<Exit, Failure> {
    let listen = load::configuration(config)?.settings.metrics.listen;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(probe(listen)).context("not ready: is the daemon running, with the same [metrics].listen?")?;
    if answer.status == 200 {
        writeln!(out, "ready")?;
        return Ok(Exit::Done);
    }
    reasons(&answer).iter().for_each(|reason| complain(format_args!("not ready: {reason}")));
    Ok(Exit::Failed)
}

/// A line for each "no" of the answer.
fn reasons(answer: &ProbeAnswer) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let checks = body["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let reasons: Vec<String> = checks
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| format!("{}: {}", check["name"].as_str().unwrap_or("?"), check["reason"].as_str().unwrap_or("no reason given")))
        .collect();
    if reasons.is_empty() { vec![format!("it answered {} without a reason", answer.status)] } else { reasons }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_no_is_told_with_its_reason() {
        for (status, body, expected) in [
            (
                503,
                r#"{"ok":false,"checks":[{"name":"registry","ok":true},{"name":"draining","ok":false,"reason":"it will end"},{"name":"kafka_fresh","ok":false,"reason":"not joined"}]}"#,
                vec!["draining: it will end", "kafka_fresh: not joined"],
            ),
            (503, "not JSON", vec!["it answered 503 without a reason"]),
            (404, "{}", vec!["it answered 404 without a reason"]),
        ] {
            assert_eq!(reasons(&ProbeAnswer { status, body: body.into() }), expected);
        }
    }
}
