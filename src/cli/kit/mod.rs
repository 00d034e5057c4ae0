//! The kit for those who receive: `sign`, `verify`, `receive` and `send-test`.
//!
//! ```text
//!  event ─► sign ─► headers, an empty line, body ─► verify ─► what verifies, and why not
//!                             daemon, send-test ─► receive ─► the same, a line for each callback
//! ```
//!
//! Signing and verifying are the domain's; here they are made fit for a shell: keys from files, messages in a pipe, exit codes.
//! Only `send-test` reads a configuration; the others need nothing but a key.

mod arguments;
mod keys;
mod message;
mod receive;
mod send_test;
mod sign;
mod verify;

pub(super) use arguments::{ReceiveArguments, SendTestArguments, SignArguments, VerifyArguments};
pub(super) use receive::receive;
pub(super) use send_test::send_test;
pub(super) use sign::sign;
pub(super) use verify::verify;

use crate::app::wall_clock;
use crate::domain::verification::{Finding, Verification};
use anyhow::Context as _;
use std::io::{self, IsTerminal as _, Read};

/// The largest input, in bytes: more than any event, since a broker that takes larger records is rare.
const LONGEST_INPUT: u64 = 64 * 1024 * 1024;

/// The names under which the two signature families are printed.
const WEBHOOK: &str = crate::domain::signature::WEBHOOK_SIGNATURE;
const VENDOR: &str = "t and sign";

/// Now, or the moment given with `--at` (Unix seconds).
fn moment(at: Option<i64>) -> i64 {
    at.unwrap_or_else(|| wall_clock().as_secs())
}

/// All of standard input; a person at a terminal is told that it is waited for.
fn standard_input(what: &str) -> anyhow::Result<Vec<u8>> {
    let input = io::stdin();
    if input.is_terminal() {
        super::failure::complain(format_args!("reading {what} from the terminal; Ctrl-D ends it"));
    }
    let mut bytes = Vec::new();
    input.lock().take(LONGEST_INPUT + 1).read_to_end(&mut bytes).context("standard input")?;
    if bytes.len() as u64 > LONGEST_INPUT {
        anyhow::bail!("standard input has more than {LONGEST_INPUT} bytes: no callback is that large");
    }
    Ok(bytes)
}

/// Why it is not verified, in a line.
fn reasons(found: &Verification) -> String {
    let refused: Vec<String> = [(WEBHOOK, &found.webhook), (VENDOR, &found.vendor)]
        .into_iter()
        .filter_map(|(name, finding)| match finding {
            Finding::Refused(faults) => Some(format!("{name}: {}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))),
            Finding::Absent | Finding::Unjudged | Finding::Verified(_) => None,
        })
        .collect();
    if !refused.is_empty() {
        return refused.join("; ");
    }
    let mut nothing = String::from(match found.vendor {
        Finding::Unjudged => "no header webhook-signature; t and sign are there, but judging them needs the key, not the secret",
        Finding::Absent | Finding::Verified(_) | Finding::Refused(_) => {
            "nothing is signed: no header webhook-signature, and neither t nor sign in the body"
        }
    });
    if let Some(detail) = &found.not_json {
        nothing.push_str(&format!(" (which is no JSON object: {detail})"));
    }
    nothing
}
