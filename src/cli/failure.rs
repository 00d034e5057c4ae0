//! How commands end, and how failures are told.

use crate::kafka::client::ClientError;
use crate::kafka::replay::ReplayError;
use crate::kafka::topics::{Finding, Severity, TopicsError};
use crate::source::Problem;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Exit codes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed at run time.
    Failed,
    /// 2: wrong usage; most of it is found, and told, by clap.
    Usage,
    /// 78 (`EX_CONFIG` of sysexits): configuration, registry or topics missing or invalid.
    Invalid,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Invalid => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// Configuration or registry: every problem.
    Problems(Vec<Problem>),
    /// Topics that must be mended first.
    Topics(Vec<Finding>),
    /// What was typed cannot be meant so, in words that hold none of it that may be secret.
    Usage(String),
    /// Anything else, told with its causes.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Problems(problems)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Failed(anyhow::Error::new(error).context("no Kafka client: see [kafka.properties] in the configuration"))
    }
}

impl From<TopicsError> for Failure {
    fn from(error: TopicsError) -> Self {
        Self::Failed(anyhow::Error::new(error).context("the cluster could not be asked: see [kafka] in the configuration"))
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        let advice = match error {
            ReplayError::Client(_) => "no Kafka client: see [kafka.properties] in the configuration",
            ReplayError::Topic(_) => {
                "the dead-letter topic could not be asked: see [kafka] in the configuration, and `callbackd topics check`"
            }
            ReplayError::Fenced => "ended, what it copied stays",
            ReplayError::Refused { .. } | ReplayError::Denied { .. } | ReplayError::Broker { .. } => {
                "ended early, what it copied stays; the same command goes on from there"
            }
        };
        Self::Failed(anyhow::Error::new(error).context(advice))
    }
}

impl Failure {
    /// The exit code that it stands for.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Problems(_) | Self::Topics(_) => Exit::Invalid,
            Self::Usage(_) => Exit::Usage,
            Self::Failed(_) => Exit::Failed,
        }
    }

    /// What is told on standard error, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Problems(problems) => problems.iter().map(Problem::to_string).collect(),
            Self::Topics(findings) => findings.iter().map(|finding| format!("{}{finding}", severity(finding))).collect(),
            Self::Usage(message) => vec![format!("error: {message}")],
            Self::Failed(error) => vec![format!("callbackd: {error:#}")],
        }
    }
}

/// Which of the findings ended the start, and which do not need to be mended for the next.
const fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Refuse => "error: ",
        Severity::Wait => "missing: ",
        Severity::Warn => "warning: ",
    }
}

/// Tells a failure, if it was one; the exit code.
pub(super) fn told(result: Result<Exit, Failure>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            failure.lines().iter().for_each(complain);
            failure.exit()
        }
    }
}

/// A line on standard error, where nobody may be left to read it.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize) -> Problem {
        Problem { file: "callbackd.toml".into(), line: Some(line), key: "kafka.brokers".into(), message: "is missing".into() }
    }

    #[test]
    fn every_failure_has_the_exit_code_of_the_interface() {
        let finding = Finding {
            severity: Severity::Refuse,
            topic: "cb.replay".into(),
            message: "does not exist".into(),
            command: "callbackd topics create".into(),
        };
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        for (failure, code) in [
            (Failure::from(vec![problem(1)]), 78),
            (Failure::Topics(vec![finding]), 78),
            (Failure::Usage("--secret: too short".into()), 2),
            (Failure::from(anyhow::anyhow!("broker away")), 1),
            (Failure::from(io::Error::other("disk full")), 1),
            (Failure::from(ReplayError::Fenced), 1),
            // Of a socket: standard output does not fail (see `output`).
            (Failure::from(pipe), 1),
            (Failure::from(anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe)).context("asking")), 1),
        ] {
            assert_eq!(failure.exit().code(), code, "{failure:?}");
            assert_eq!(failure.lines().len(), 1, "{failure:?}");
        }
        assert_eq!(Exit::Done.code(), 0);
    }

    #[test]
    fn problems_come_all_at_once_one_a_line_with_file_line_and_key() {
        assert_eq!(
            Failure::from(vec![problem(3), problem(7)]).lines(),
            ["callbackd.toml:3: kafka.brokers: is missing", "callbackd.toml:7: kafka.brokers: is missing"]
        );
    }

    #[test]
    fn findings_say_which_of_them_must_be_mended() {
        let finding =
            |severity, message: &str| Finding { severity, topic: "cb.replay".into(), message: message.into(), command: String::new() };
        let findings = vec![finding(Severity::Refuse, "does not exist"), finding(Severity::Warn, "replication 1")];
        assert_eq!(
            Failure::Topics(findings).lines(),
            ["error: topic cb.replay: does not exist", "warning: topic cb.replay: replication 1"]
        );
    }

    #[test]
    fn a_failure_is_told_with_its_causes_in_one_line() {
        let error = anyhow::anyhow!("connection refused").context("no answer from 127.0.0.1:9464");
        assert_eq!(Failure::from(error).lines(), ["callbackd: no answer from 127.0.0.1:9464: connection refused"]);
    }
}
