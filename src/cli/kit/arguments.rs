//! What may be typed for the kit.

use crate::cli::arguments::{ConfigArguments, domain, id};
use crate::domain::event::EventKind;
use crate::domain::id::{DomainName, EventId};
use crate::source::{parse_duration, show_duration};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// Longer than any time-out that a template may have (120 s).
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// The key to sign with, and the secret where there is one.
#[derive(Args, Debug)]
pub struct SigningArguments {
    /// File of the key; one trailing newline is not part of it, as in the registry
    #[arg(long, value_name = "F")]
    pub key_file: PathBuf,
    /// The HMAC's own secret, if the key has one: whsec_… or raw. Others on this machine can see it: --secret-file hides it
    #[arg(long, value_name = "S", conflicts_with = "secret_file")]
    pub secret: Option<String>,
    /// File of the HMAC's own secret
    #[arg(long, value_name = "F")]
    pub secret_file: Option<PathBuf>,
}

/// What a receiver shares with the sender: a key, a secret, or both.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct SharedArguments {
    /// File of the key; one trailing newline is not part of it, as in the registry
    #[arg(long, value_name = "F")]
    pub key_file: Option<PathBuf>,
    /// The HMAC's secret, if the key has one of its own: whsec_… or raw; alone it verifies webhook-signature only. Others on this machine can
    /// see it: --secret-file hides it
    #[arg(long, value_name = "S", conflicts_with = "secret_file")]
    pub secret: Option<String>,
    /// File of the HMAC's secret; alone it verifies webhook-signature only
    #[arg(long, value_name = "F")]
    pub secret_file: Option<PathBuf>,
}

/// Arguments of `sign`.
#[derive(Args, Debug)]
pub struct SignArguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "shown in the help as its own arguments")]
    pub keys: SigningArguments,
    /// The event id, sent as webhook-id [default: from the body, as the daemon does]
    #[arg(long, value_name = "ID", value_parser = id)]
    pub id: Option<EventId>,
    /// When it is sent, in Unix seconds [default: now]
    #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..=LAST_SECOND))]
    pub at: Option<i64>,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "shown in the help as its own arguments")]
    pub keys: SharedArguments,
    /// A header of the request (may be repeated); without any, standard input may begin with header lines and an empty line
    #[arg(long = "header", value_name = "name: value", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The time to judge by, in Unix seconds [default: now]
    #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..=LAST_SECOND))]
    pub at: Option<i64>,
    /// Print the secret as whsec_…, as the public libraries take it; then an empty standard input is nothing to verify, and no failure
    #[arg(long)]
    pub show_secret: bool,
}

/// Arguments of `receive`.
#[derive(Args, Debug)]
pub struct ReceiveArguments {
    /// Where to listen; port 0 takes a free one and says which
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub listen: SocketAddr,
    /// The key. Others on this machine can see it: --key-file hides it
    #[arg(long, value_name = "K", conflicts_with = "key_file")]
    pub key: Option<String>,
    /// File of the key
    #[arg(long, value_name = "F")]
    pub key_file: Option<PathBuf>,
    /// The HMAC's own secret, if the key has one: whsec_… or raw; alone it verifies webhook-signature only
    #[arg(long, value_name = "S", conflicts_with = "secret_file")]
    pub secret: Option<String>,
    /// File of the HMAC's own secret
    #[arg(long, value_name = "F")]
    pub secret_file: Option<PathBuf>,
    /// What callbacks that verify are answered with, 200 to 599; others get 401
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// How long each answer takes, as 2s; at most 5m
    #[arg(long, value_name = "T", default_value = "0s", value_parser = delay)]
    pub delay: Duration,
}

/// Arguments of `send-test`.
#[derive(Args, Debug)]
pub struct SendTestArguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "shown in the help as its own argument")]
    pub config: ConfigArguments,
    /// The push domain
    #[arg(long, value_name = "D", value_parser = domain)]
    pub domain: DomainName,
    /// The push path; without it the domain's own binding applies
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub path: Option<String>,
    /// The type of event: 100 (recording file), 332 (recording status) or 341 (recording exception)
    #[arg(long, value_name = "N", default_value = "100", value_parser = event_kind)]
    pub event_type: EventKind,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let example = "127.0.0.1:8080 for this machine alone, 0.0.0.0:8080 for all that can reach it";
    text.parse().map_err(|_| format!("not an IP address and a port: write {example}"))
}

fn path(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a path is not empty: leave --path out for the domain's own binding".to_owned()) } else { Ok(text.to_owned()) }
}

fn event_kind(text: &str) -> Result<EventKind, String> {
    let kind = EventKind::ALL.into_iter().find(|kind| kind.event_type().to_string() == text);
    kind.ok_or_else(|| "callbacks are sent for 100, 332 and 341".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    super::message::header(text).ok_or_else(|| "give a header as 'name: value'".to_owned())
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = parse_duration(text).ok_or_else(|| "not a duration: write 500ms, 2s or 1m".to_owned())?;
    if delay > LONGEST_DELAY { Err(format!("must be at most {}", show_duration(LONGEST_DELAY))) } else { Ok(delay) }
}
