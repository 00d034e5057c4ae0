//! The client's errors, by code: never by their text.

use crate::metrics::KafkaErrorKind;
use rdkafka::error::RDKafkaErrorCode as Code;

/// The client's codes by kind; all others are of the kind `Other`.
const KINDS: [(KafkaErrorKind, &[Code]); 4] = [
    (KafkaErrorKind::Transport, &[Code::BrokerTransportFailure, Code::AllBrokersDown, Code::OperationTimedOut, Code::Resolve]),
    (
        KafkaErrorKind::Authentication,
        &[
            Code::Authentication,
            Code::SaslAuthenticationFailed,
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
        ],
    ),
    (KafkaErrorKind::OffsetReset, &[Code::AutoOffsetReset, Code::OffsetOutOfRange]),
    (KafkaErrorKind::Fatal, &[Code::Fatal]),
];

/// Of which kind `code` is.
pub(super) fn kind_of(code: Code) -> KafkaErrorKind {
    KINDS.iter().find(|(_, codes)| codes.contains(&code)).map_or(KafkaErrorKind::Other, |(kind, _)| *kind)
}
