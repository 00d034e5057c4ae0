//! Settling: making an outcome durable. A [`Settlement`] can be built here only, from what the receiver or the broker
//! has acknowledged (or a rule of the registry that skips); nothing else finishes an offset.

use super::mutant::{self, Mutant};
use super::ports::{Appended, Outbox, Refused};
use crate::domain::binding::Skip;
use crate::domain::dead_letter::Reason;
use crate::domain::headers::Chain;
use crate::domain::record::{NewRecord, Record};
use crate::domain::requeue::RequeueReason;
use crate::domain::tier::Tier;
use crate::domain::time::UnixMillis;
use futures_util::FutureExt as _;
use std::sync::Arc;

/// What has been made durable.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Delivered,
    Requeued,
    DeadLettered,
    Skipped,
}

impl Settlement {
    /// The receiver's success status was read.
    pub(super) const fn delivered(_success: super::attempt::Success) -> Self {
        Self(Kind::Delivered)
    }

    /// Whether that is how it was settled.
    #[cfg(test)]
    pub(super) fn is_delivered(self) -> bool {
        self.0 == Kind::Delivered
    }

    /// A rule that the registry states skips it.
    pub(super) const fn skipped(_rule: Skip) -> Self {
        Self(Kind::Skipped)
    }
}

/// A record on its way out of our hands: what to append, and what that will mean.
#[derive(Debug)]
pub struct Departure {
    record: NewRecord,
    kind: Kind,
}

impl Departure {
    /// Back into `tier`, due at `due`. The second value: pass-through headers were dropped for their size.
    #[must_use]
    pub fn requeue(record: &Record, chain: &Chain, tier: &Tier, due: UnixMillis, now: UnixMillis) -> (Self, bool) {
        let (headers, dropped) = chain.requeue_headers(record, due, now);
        let topic = Arc::clone(&tier.topic);
        (Self { record: NewRecord { topic, key: record.key.clone(), value: record.value.clone(), headers }, kind: Kind::Requeued }, dropped)
    }

    /// Into the dead-letter topic. The second value as in [`Departure::requeue`].
    #[must_use]
    pub fn bury(record: &Record, chain: &Chain, topic: &Arc<str>, reason: Reason, detail: &str, now: UnixMillis) -> (Self, bool) {
        let (headers, dropped) = chain.dead_letter_headers(record, reason, detail, now);
        let topic = Arc::clone(topic);
        (
            Self { record: NewRecord { topic, key: record.key.clone(), value: record.value.clone(), headers }, kind: Kind::DeadLettered },
            dropped,
        )
    }

    /// Appends and waits for the broker.
    ///
    /// # Errors
    /// When the broker refuses the record for good.
    pub async fn settle<O: Outbox>(self, outbox: &O) -> Result<(Settlement, Appended), Refused> {
        if mutant::active(Mutant::ForgetOutboxAcknowledgement) {
            let _ = outbox.append(self.record).now_or_never();
            return Ok((Settlement(self.kind), Appended { timestamp: None }));
        }
        let appended = outbox.append(self.record).await?;
        Ok((Settlement(self.kind), appended))
    }
}

/// What a departure is for, for the counters.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// A requeue into this tier.
    Requeue {
        /// The tier.
        tier: Tier,
        /// Why.
        reason: RequeueReason,
    },
    /// A dead letter.
    Bury {
        /// Why.
        reason: Reason,
    },
}
