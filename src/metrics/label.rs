//! Closed lists of label values. A label is an enum, so that no text from outside can become one, and so that a child of a family is
//! found by its index instead of by hashing text.

use crate::domain::address::Refusal;
use crate::domain::binding::Skip;
use crate::domain::circuit::CircuitState;
use crate::domain::class::Class;
use crate::domain::dead_letter::Reason;
use crate::domain::registry::EntityKind;
use crate::domain::requeue::RequeueReason;
use crate::domain::verdict::AttemptResult;

/// The values of one label: `ALL` in the order of declaration, so that `ALL[v.index()] == v`.
pub(super) trait Label: Copy + 'static {
    /// Every value.
    const ALL: &'static [Self];
    /// Position in `ALL`.
    fn index(self) -> usize;
    /// The label's text.
    fn text(self) -> &'static str;
}

macro_rules! label {
    ($type:ty) => {
        label!($type, <$type>::as_str);
    };
    ($type:ty, $text:expr) => {
        impl Label for $type {
            const ALL: &'static [Self] = &<$type>::ALL;
            fn index(self) -> usize {
                self as usize
            }
            fn text(self) -> &'static str {
                $text(self)
            }
        }
    };
}

/// How an event was settled for good: the label `outcome`. A requeue is a settlement of a record, not of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettledAs {
    /// The receiver took it.
    Delivered,
    /// The dead-letter topic has it.
    DeadLettered,
    /// A rule of the registry says that no callback is due.
    Skipped,
}

impl SettledAs {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::DeadLettered, Self::Skipped];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::DeadLettered => "dead_lettered",
            Self::Skipped => "skipped",
        }
    }
}

/// What kind of trouble Kafka's client reported: the label `kind` of `callbackd_kafka_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KafkaErrorKind {
    /// A broker cannot be reached, or a connection broke.
    Transport,
    /// Refused credentials or a missing permission.
    Authentication,
    /// A commit failed other than by a rebalance.
    Commit,
    /// A requeue or dead letter was refused for good; its partition stops.
    ProduceRefused,
    /// A committed offset lay outside the log.
    OffsetReset,
    /// The client cannot go on; the process ends.
    Fatal,
    /// Anything else.
    Other,
}

impl KafkaErrorKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Transport, Self::Authentication, Self::Commit, Self::ProduceRefused, Self::OffsetReset, Self::Fatal, Self::Other];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Authentication => "authentication",
            Self::Commit => "commit",
            Self::ProduceRefused => "produce_refused",
            Self::OffsetReset => "offset_reset",
            Self::Fatal => "fatal",
            Self::Other => "other",
        }
    }
}

/// How bad it is that a topic is not as it should be: the label `severity` of `callbackd_topic_findings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It breaks a guarantee. At start: exit code 78. While running: metric and log.
    Refuse,
    /// It is waited for, at start and later: not ready until it is mended.
    Wait,
    /// It is told, and that is all.
    Warn,
}

impl Severity {
    /// Every severity, the worst first.
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Wait, Self::Warn];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Wait => "wait",
            Self::Warn => "warn",
        }
    }
}

label!(SettledAs);
label!(Severity);
label!(CircuitState);
label!(Class);
label!(KafkaErrorKind);
label!(EntityKind);
label!(AttemptResult);
label!(Reason);
label!(RequeueReason);
label!(Refusal);
label!(Skip);

#[cfg(test)]
mod tests {
    use super::*;

    fn in_order<L: Label>() {
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{}", label.text());
            assert!(label.text().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", label.text());
        }
    }

    #[test]
    fn every_label_stands_at_its_index_and_is_lower_case() {
        in_order::<SettledAs>();
        in_order::<CircuitState>();
        in_order::<Class>();
        in_order::<KafkaErrorKind>();
        in_order::<EntityKind>();
        in_order::<AttemptResult>();
        in_order::<Reason>();
        in_order::<RequeueReason>();
        in_order::<Refusal>();
        in_order::<Skip>();
        in_order::<Severity>();
    }
}
