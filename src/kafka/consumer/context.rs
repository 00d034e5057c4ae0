//! The consumer's callbacks: they note what happened for the thread's own loop, and do nothing else.

use crate::delivery::ports::TopicPartition;
use crate::kafka::bootstrap::Bootstrap;
use crate::kafka::client::{ClientSettings, log_line};
use crate::kafka::redaction::Redaction;
use crate::metrics::{KafkaErrorKind, Metrics};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a callback noted. Partitions are copied out of the client's list at once: a list that is alive keeps the client from closing.
#[derive(Debug)]
pub(super) enum Notice {
    /// The group gives these; may be none.
    Assign(Vec<(String, i32)>),
    /// The group takes these back, or has taken them already.
    Revoke {
        /// Which.
        partitions: Vec<(String, i32)>,
        /// They are gone already.
        lost: bool,
    },
    /// The group's commits of these have vanished.
    Vanished(Vec<TopicPartition>),
    /// The client reports trouble that it handles itself.
    Trouble(RDKafkaErrorCode),
}

/// The context of one consumer.
pub(super) struct Context {
    notices: Mutex<VecDeque<Notice>>,
    deferred: Mutex<Option<KafkaError>>,
    closing: AtomicBool,
    /// A rebalance was answered here.
    #[cfg(test)]
    answered: AtomicBool,
    metrics: Arc<Metrics>,
    redaction: Redaction,
    pub(super) bootstrap: Bootstrap,
}

impl Context {
    pub(super) fn new(metrics: Arc<Metrics>, settings: &ClientSettings) -> Self {
        Self {
            notices: Mutex::default(),
            deferred: Mutex::default(),
            closing: AtomicBool::new(false),
            #[cfg(test)]
            answered: AtomicBool::new(false),
            metrics,
            redaction: settings.redaction.clone(),
            bootstrap: Bootstrap::new(settings),
        }
    }

    fn notices(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something for the loop.
    pub(super) fn note(&self, notice: Notice) {
        self.notices().push_back(notice);
    }

    /// The oldest notice.
    pub(super) fn next_notice(&self) -> Option<Notice> {
        self.notices().pop_front()
    }

    /// Whether there is one.
    #[cfg(test)]
    pub(super) fn has_notice(&self) -> bool {
        !self.notices().is_empty()
    }

    /// Whether a rebalance was answered here.
    #[cfg(test)]
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Keeps an error that came in the middle of a batch for the next poll.
    pub(super) fn defer(&self, error: KafkaError) {
        *self.deferred.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The error kept.
    pub(super) fn take_deferred(&self) -> Option<KafkaError> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// From now on rebalances are answered here: the loop has ended.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

fn names(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect()
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(&self.redaction, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{}", self.redaction.apply(reason));
        match error.rdkafka_error_code() {
            Some(code) => self.notices().push_back(Notice::Trouble(code)),
            None => self.metrics.kafka_error(KafkaErrorKind::Other),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.bootstrap.look(statistics);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !self.closing.load(Ordering::Acquire) {
            let partitions = names(list);
            let notice = if assign { Notice::Assign(partitions) } else { Notice::Revoke { partitions, lost: consumer.assignment_lost() } };
            self.notices().push_back(notice);
            return;
        }
        // Each must be answered, or the client never closes; what is given while it leaves is taken over without a partition.
        let answered = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative if assign => consumer.incremental_assign(&TopicPartitionList::new()),
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        };
        if let Err(error) = answered {
            tracing::debug!(cause = %error, "cannot give the assignment back while leaving");
        }
        #[cfg(test)]
        self.answered.store(true, Ordering::Release);
    }
}
