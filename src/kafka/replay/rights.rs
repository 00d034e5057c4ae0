//! The rights of a job, by what the broker refused: README's column `replay`.

use super::ReplayError;
use crate::kafka::client::ClientSettings;
use crate::kafka::right::{Operation, Resource, Right};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The names that a job's rights are on.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    job: String,
    letters: String,
    replay: String,
    brokers: Vec<String>,
}

impl Rights {
    /// The rights of the job whose group and transactional id `job` is.
    pub(super) fn of(settings: &ClientSettings, job: &str) -> Self {
        Self {
            job: job.to_owned(),
            letters: settings.dead_letter_topic(),
            replay: settings.replay_topic(),
            brokers: settings.brokers.clone(),
        }
    }

    /// What `error` means, met while reading letters, or their offsets.
    pub(super) fn reading(&self, what: &'static str, error: &KafkaError) -> ReplayError {
        self.error(what, error, Right::new(Operation::Read, Resource::Topic, self.letters.as_str()))
    }

    /// What `error` means, met while copying.
    pub(super) fn writing(&self, what: &'static str, error: &KafkaError) -> ReplayError {
        self.error(what, error, Right::new(Operation::Write, Resource::Topic, self.replay.as_str()))
    }

    fn error(&self, what: &'static str, error: &KafkaError, of_topic: Right) -> ReplayError {
        let Some(code) = code_of(error) else { return ReplayError::Broker { what, cause: error.to_string() } };
        let right = if code == Code::TopicAuthorizationFailed {
            of_topic
        } else if code == Code::GroupAuthorizationFailed {
            Right::new(Operation::Read, Resource::Group, self.job.as_str())
        } else if code == Code::TransactionalIdAuthorizationFailed {
            Right::new(Operation::Write, Resource::TransactionalId, self.job.as_str())
        } else {
            return ReplayError::Broker { what, cause: format!("{code:?}") };
        };
        ReplayError::Denied { what, missing: right.missing(&self.brokers) }
    }
}

/// The code behind an error of the client, where there is one.
pub(super) fn code_of(error: &KafkaError) -> Option<Code> {
    if let KafkaError::Transaction(transaction) = error { Some(transaction.code()) } else { error.rdkafka_error_code() }
}
