//! A right of Kafka's ACLs that is missing, in the words of README's table and of `kafka-acls.sh`: operation, resource, name.
//!
//! A broker's refusal says only of which kind the resource is. The code that asked knows its name and what was to be done with it, so it
//! builds the right; here are the words, and the command that grants it. The client cannot tell whose right it is, because the broker's
//! rules name a certificate's principal; so the command says `User:NAME`.

use rdkafka::error::RDKafkaErrorCode as Code;
use std::fmt;

/// What may be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetching from a topic, being a member of a group; includes Describe.
    Read,
    /// Appending to a topic, using a transactional id; includes Describe.
    Write,
    /// Making a topic.
    Create,
    /// Seeing that a topic exists.
    Describe,
    /// Reading a topic's settings.
    DescribeConfigs,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a right is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
    /// A transactional id.
    TransactionalId,
}

impl Resource {
    const fn words(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
            Self::TransactionalId => "transactional id",
        }
    }

    const fn option(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
            Self::TransactionalId => "transactional-id",
        }
    }
}

/// One right, or several on the same resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    operations: Vec<Operation>,
    resource: Resource,
    name: String,
}

impl Right {
    /// `operation` on the resource of that name.
    #[must_use]
    pub fn new(operation: Operation, resource: Resource, name: impl Into<String>) -> Self {
        Self { operations: vec![operation], resource, name: name.into() }
    }

    /// Adds `operation` on the same resource.
    #[must_use]
    pub fn and(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// The command that grants it, for the shell of an administrator.
    #[must_use]
    pub fn grant(&self, brokers: &[String]) -> String {
        let operations: String = self.operations.iter().map(|operation| format!(" --operation {operation}")).collect();
        format!(
            "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:NAME{operations} --{} {}",
            brokers.join(","),
            self.resource.option(),
            self.name
        )
    }

    /// That it is missing.
    #[must_use]
    pub fn is_missing(&self) -> String {
        format!("{self} {} missing", if self.operations.len() == 1 { "is" } else { "are" })
    }

    /// That it is missing, and how it is granted.
    #[must_use]
    pub fn missing(&self, brokers: &[String]) -> String {
        format!("{}; grant with: {}", self.is_missing(), self.grant(brokers))
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations: Vec<String> = self.operations.iter().map(Operation::to_string).collect();
        let noun = if operations.len() == 1 { "right" } else { "rights" };
        write!(f, "the {noun} {} on {} {}", operations.join(" and "), self.resource.words(), self.name)
    }
}

/// Codes by which a broker says that a right is missing.
const DENIED: [Code; 4] = [
    Code::TopicAuthorizationFailed,
    Code::GroupAuthorizationFailed,
    Code::ClusterAuthorizationFailed,
    Code::TransactionalIdAuthorizationFailed,
];

/// Whether `code` says that a right is missing.
pub(crate) fn is_denied(code: Code) -> bool {
    DENIED.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named_with_the_command_that_grants_it() {
        let brokers = ["a:9092".to_owned(), "b:9092".to_owned()];
        for (right, said) in [
            (
                Right::new(Operation::Write, Resource::Topic, "cb.dead-letter"),
                "the right Write on topic cb.dead-letter is missing; grant with: kafka-acls.sh --bootstrap-server a:9092,b:9092 --add --allow-principal User:NAME --operation Write --topic cb.dead-letter",
            ),
            (
                Right::new(Operation::Read, Resource::Group, "cb.retry"),
                "the right Read on group cb.retry is missing; grant with: kafka-acls.sh --bootstrap-server a:9092,b:9092 --add --allow-principal User:NAME --operation Read --group cb.retry",
            ),
            (
                Right::new(Operation::Write, Resource::TransactionalId, "cb.replay-job.0"),
                "the right Write on transactional id cb.replay-job.0 is missing; grant with: kafka-acls.sh --bootstrap-server a:9092,b:9092 --add --allow-principal User:NAME --operation Write --transactional-id cb.replay-job.0",
            ),
            (
                Right::new(Operation::Read, Resource::Topic, "cb.retry.5s").and(Operation::Write),
                "the rights Read and Write on topic cb.retry.5s are missing; grant with: kafka-acls.sh --bootstrap-server a:9092,b:9092 --add --allow-principal User:NAME --operation Read --operation Write --topic cb.retry.5s",
            ),
        ] {
            assert_eq!(right.missing(&brokers), said);
        }
        assert_eq!(Operation::DescribeConfigs.to_string(), "DescribeConfigs");
    }
}
