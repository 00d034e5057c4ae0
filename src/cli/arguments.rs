//! What may be typed. The texts here are what `--help` shows; each ends with an example.

use super::kit::{ReceiveArguments, SendTestArguments, SignArguments, VerifyArguments};
use crate::app::wall_clock;
use crate::domain::dead_letter::Reason;
use crate::domain::headers::OutcomeMark;
use crate::domain::id::{DomainName, EventId};
use crate::domain::time::UnixMillis;
use crate::source::{parse_duration, parse_instant};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Delivers recording-completed events from Kafka as signed HTTP callbacks.
///
/// Exit codes: 0 done; 1 failed at run time; 2 wrong usage; 78 configuration, registry or topics missing or invalid.
#[derive(Debug, Parser)]
#[command(name = "callbackd", version, after_help = "Example, with nothing installed but this program:\n  callbackd demo")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon until SIGTERM or SIGINT; a second one exits at once
    ///
    /// SIGTERM stops intake, finishes what is running, commits and exits 0; SIGHUP reloads the registry.
    #[command(after_help = "Example:\n  callbackd run --config /etc/callbackd/callbackd.toml")]
    Run(ConfigArguments),
    /// Shows the whole job in one process: embedded broker, receivers that misbehave, a replay, the account
    ///
    /// Asks nothing and needs nothing. Exits 0 only if every event produced ended delivered, dead-lettered or skipped, and every signature
    /// was verified.
    #[command(after_help = "Example:\n  callbackd demo --seconds 10 --rate 100")]
    Demo(DemoArguments),
    /// Reads configuration, registry and secrets and says everything that is wrong with them
    #[command(after_help = "Example:\n  callbackd check --config /etc/callbackd/callbackd.toml --print")]
    Check(CheckArguments),
    /// Creates the daemon's topics, or says what is wrong with them
    #[command(after_help = "Example:\n  callbackd topics create --config /etc/callbackd/callbackd.toml")]
    Topics(TopicsArguments),
    /// Puts dead letters back into delivery, each once; started again, it goes on where it stopped
    ///
    /// The filters name the job: the same filters go on with the same job and find only what came since. Several values of one filter
    /// widen it, several filters narrow it down.
    #[command(
        after_help = "Examples:\n  callbackd replay --config callbackd.toml --domain push.shop.example --dry-run\n  callbackd replay --config callbackd.toml --reason attempts_exhausted --since 2h --rate 50"
    )]
    Replay(ReplayArguments),
    /// Sends one test callback by the binding in force now, as the daemon would; prints request and answer
    ///
    /// The same rules, signatures, guard and time-outs as for real callbacks; Kafka has no part in it. Exit code 0 when the answer means
    /// delivered. Values of the template's own headers and the URL's query are not shown.
    #[command(after_help = "Example:\n  callbackd send-test --config callbackd.toml --domain push.shop.example --path live")]
    SendTest(SendTestArguments),
    /// Signs an event from standard input; prints the headers, an empty line and the body as they would be sent
    #[command(after_help = "Example:\n  callbackd sign --key-file shop.key --id evt_1 < event.json | callbackd verify --key-file shop.key")]
    Sign(SignArguments),
    /// Verifies a callback from standard input by whichever signatures are there; says why one fails, with exit code 1
    ///
    /// Standard input is the body, or, without --header, a message as `sign` prints it: header lines, an empty line, the body. Verified
    /// means: webhook-signature, or t and sign, is there and matches, and none that is there fails.
    #[command(
        after_help = "Examples:\n  callbackd verify --key-file shop.key < callback\n  callbackd verify --key-file shop.key --header 'webhook-id: evt_1' \\\n    --header 'webhook-timestamp: 1795435200' \\\n    --header 'webhook-signature: v1,…' < body.json\n  callbackd verify --key-file shop.key --show-secret </dev/null"
    )]
    Verify(VerifyArguments),
    /// A receiver to try things with: verifies, answers, and prints one line a callback
    ///
    /// The line has time, status, verdict, and what is known of id, type, domain, path, stream, bytes, repeat and why it was refused. The
    /// address and what else is to be said goes to standard error. Ctrl-C or SIGTERM ends it.
    #[command(after_help = "Example:\n  callbackd receive --listen 127.0.0.1:8080 --key-file shop.key")]
    Receive(ReceiveArguments),
    /// Asks the running daemon whether it is ready: exit code 0, or 1 with the reasons
    #[command(after_help = "Example, in a container file:\n  HEALTHCHECK CMD callbackd healthcheck --config /etc/callbackd/callbackd.toml")]
    Healthcheck(ConfigArguments),
}

/// The configuration file.
#[derive(Args, Clone, Debug)]
pub struct ConfigArguments {
    /// The configuration file; CALLBACKD_ variables override it
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct DemoArguments {
    /// How long events are produced
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=300))]
    pub seconds: u32,
    /// Events a second
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub rate: u32,
    /// Stay up afterwards and print the URLs to look at; Ctrl-C ends it
    #[arg(long)]
    pub keep: bool,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "shown in the help as its own argument")]
    pub config: ConfigArguments,
    /// Print the effective configuration, secrets redacted
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `topics`.
#[derive(Args, Debug)]
pub struct TopicsArguments {
    /// Which of the two.
    #[command(subcommand)]
    pub command: TopicsCommand,
}

/// `topics create` and `topics check`.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Creates the topics that are missing; existing ones stay as they are
    #[command(after_help = "Example:\n  callbackd topics create --config callbackd.toml --partitions 12 --replication 3")]
    Create {
        #[command(flatten)]
        #[allow(missing_docs, reason = "shown in the help as its own argument")]
        config: ConfigArguments,
        /// Partitions of delay tiers, replay and dead letters [default: those of the largest source topic]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
        partitions: Option<i32>,
        /// Replicas [default: the smaller of 3 and the number of brokers]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100))]
        replication: Option<i32>,
    },
    /// Says what is wrong with the topics, each with the command that mends it; exit code 78 when the daemon would not start
    #[command(after_help = "Example:\n  callbackd topics check --config callbackd.toml")]
    Check(ConfigArguments),
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "shown in the help as its own argument")]
    pub config: ConfigArguments,
    /// Dead letters of this push domain (may be repeated)
    #[arg(long = "domain", value_name = "DOMAIN", value_parser = domain)]
    pub domains: Vec<DomainName>,
    /// Dead letters for this reason, as `attempts_exhausted` (may be repeated)
    #[arg(long = "reason", value_name = "REASON", value_parser = reason)]
    pub reasons: Vec<Reason>,
    /// Dead letters whose last attempt ended so: a status as 503, or a result as `timeout` (may be repeated)
    #[arg(long = "status", value_name = "STATUS", value_parser = status)]
    pub statuses: Vec<OutcomeMark>,
    /// The dead letter of this event (may be repeated)
    #[arg(long = "id", value_name = "ID", value_parser = id)]
    pub ids: Vec<EventId>,
    /// Buried at or after this time: 2026-11-01T00:00:00Z, or a duration back from now as 2h (then each run is a job of its own)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub since: Option<UnixMillis>,
    /// Buried before this time
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub until: Option<UnixMillis>,
    /// Count only: nothing is written
    #[arg(long)]
    pub dry_run: bool,
    /// Copies a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Begin anew: also letters that this job has replayed before
    #[arg(long)]
    pub again: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Table,
    /// For scripts: one object a line
    Json,
}

pub(super) fn domain(text: &str) -> Result<DomainName, String> {
    DomainName::parse(text).ok_or_else(|| "not a domain name".to_owned())
}

fn reason(text: &str) -> Result<Reason, String> {
    text.parse().map_err(|_| format!("no such reason; there are: {}", Reason::ALL.map(Reason::as_str).join(", ")))
}

fn status(text: &str) -> Result<OutcomeMark, String> {
    OutcomeMark::parse(text).ok_or_else(|| "neither a status from 100 to 999 nor a result as `timeout` or `connect`".to_owned())
}

pub(super) fn id(text: &str) -> Result<EventId, String> {
    EventId::parse(text.as_bytes()).ok_or_else(|| "an event id is 1 to 64 of A-Z a-z 0-9 _ -".to_owned())
}

fn instant(text: &str) -> Result<UnixMillis, String> {
    parse_instant(text)
        .or_else(|| parse_duration(text).map(|ago| wall_clock().minus(ago)))
        .ok_or_else(|| "give a time as 2026-11-01T00:00:00Z, or a duration back from now as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_ends_with_an_example() {
        fn look(command: &mut clap::Command, seen: &mut Vec<String>) {
            seen.push(command.get_name().to_owned());
            for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
                let examples = help.rsplit_once("Example").map(|(_, example)| example.to_owned());
                // `topics` itself shows the example of `create`.
                let last = examples.unwrap_or_else(|| panic!("{}: no example in\n{help}", command.get_name()));
                assert!(last.trim_end().lines().last().is_some_and(|line| line.contains("callbackd ")), "{help}");
            }
            for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
                look(sub, seen);
            }
        }
        let mut seen = Vec::new();
        look(&mut Cli::command(), &mut seen);
        assert_eq!(
            seen,
            [
                "callbackd",
                "run",
                "demo",
                "check",
                "topics",
                "create",
                "check",
                "replay",
                "send-test",
                "sign",
                "verify",
                "receive",
                "healthcheck"
            ]
        );
    }

    #[test]
    fn an_example_can_be_pasted_from_a_narrow_terminal_too() {
        let mut verify = Cli::command().term_width(80);
        let verify = verify.find_subcommand_mut("verify").unwrap();
        let help = verify.render_help().to_string();
        let examples = help.rsplit_once("Examples:\n").unwrap().1;
        for line in examples.lines() {
            assert!(line.chars().count() <= 80 && line.matches('\'').count() % 2 == 0, "{line} in\n{help}");
            assert!(line.contains("callbackd ") || line.trim_start().starts_with("--header"), "{line} in\n{help}");
        }
    }

    #[test]
    fn the_commands_of_the_interface_are_understood() {
        for line in [
            "callbackd run --config f",
            "callbackd demo",
            "callbackd demo --seconds 5 --rate 10 --keep",
            "callbackd check --config f --print",
            "callbackd topics create --config f --partitions 12 --replication 3",
            "callbackd topics check --config f",
            "callbackd replay --config f --domain a.example --domain b.example --reason expired --dry-run --rate 5 --again",
            "callbackd replay --config f --since 2026-11-01T00:00:00Z --until 1h --id evt_1 --status 503 --status timeout --output json",
            "callbackd send-test --config f --domain push.shop.example",
            "callbackd send-test --config f --domain push.shop.example --path live --event-type 341",
            "callbackd sign --key-file f",
            "callbackd sign --key-file f --id evt_1 --at 1642089598 --secret-file g",
            "callbackd verify --key-file f",
            "callbackd verify --secret-file g",
            "callbackd verify --secret s --show-secret",
            "callbackd verify --key-file f --header webhook-id:evt_1 --header webhook-timestamp:1 --at 0 --show-secret --secret s",
            "callbackd receive",
            "callbackd receive --listen 127.0.0.1:0 --key k --secret s --status 503 --delay 2s",
            "callbackd receive --listen [::1]:8080 --key-file f --secret-file g",
            "callbackd healthcheck --config f",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn wrong_usage_is_exit_code_2_and_says_what_would_be_right() {
        for (line, said) in [
            ("callbackd run", "--config"),
            ("callbackd replay --config f --reason gone", "attempts_exhausted"),
            ("callbackd replay --config f --since yesterday", "2026-11-01T00:00:00Z"),
            ("callbackd replay --config f --status 99", "100 to 999"),
            ("callbackd replay --config f --id a/b", "1 to 64"),
            ("callbackd replay --config f --domain a/b", "domain"),
            ("callbackd topics create --config f --partitions 0", "1..=10000"),
            ("callbackd demo --rate 0", "1..=500"),
            ("callbackd sign", "--key-file"),
            ("callbackd sign --key-file f --id a.b", "1 to 64"),
            ("callbackd sign --key-file f --at now", "--at"),
            ("callbackd sign --key-file f --at=-1", "--at"),
            ("callbackd sign --key-file f --secret s --secret-file g", "cannot be used with"),
            ("callbackd verify --key-file f --header webhook-id", "name: value"),
            ("callbackd receive --status 199", "200..=599"),
            ("callbackd receive --status 600", "200..=599"),
            ("callbackd receive --delay 1h", "at most 5m"),
            ("callbackd receive --delay soon", "duration"),
            ("callbackd verify", "--key-file"),
            ("callbackd verify", "--secret-file"),
            ("callbackd verify --key-file f --secret s --secret-file g", "cannot be used with"),
            ("callbackd receive --listen nowhere", "--listen"),
            ("callbackd receive --listen localhost:8080", "write 127.0.0.1:8080"),
            ("callbackd receive --listen :8080", "0.0.0.0:8080"),
            ("callbackd receive --key k --key-file f", "cannot be used with"),
            ("callbackd send-test --config f", "--domain"),
            ("callbackd send-test --config f --domain d.example --event-type 200", "100, 332 and 341"),
            ("callbackd send-test --config f --domain a/b", "domain"),
            ("callbackd dance", "dance"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(said), "{line}: {error}");
        }
        assert_eq!(parse("callbackd --help").expect_err("help").exit_code(), 0);
    }

    #[test]
    fn filters_are_read_into_what_they_mean() {
        let line = "callbackd replay --config f --domain PUSH.Shop.example --reason rejected --status 410 --since 2026-11-01T00:00:00Z";
        let Command::Replay(arguments) = parse(line).unwrap().command else { panic!("not a replay") };
        assert_eq!(arguments.domains, [DomainName::parse("push.shop.example").unwrap()]);
        assert_eq!(arguments.reasons, [Reason::Rejected]);
        assert_eq!(arguments.statuses, [OutcomeMark::Status(410)]);
        assert_eq!(arguments.since, Some(UnixMillis(1_793_491_200_000)));
        assert_eq!((arguments.until, arguments.rate, arguments.output), (None, None, OutputFormat::Table));
    }
}
