//! Rights that the consumer finds missing: named in the log and, while they keep it out of its group, in the answer of `/readyz`.
//!
//! The client tells of a refused group with every try to join, and of a topic that may not be read once for each partition, without the
//! topic's name. So the topics are asked one by one, by a thread beside the polling: a partition at its end is read, or refused. The client
//! goes on trying by itself, so a right that is granted later needs no restart.

use crate::domain::class::Class;
use crate::kafka::client::{ClientSettings, PlainContext, make};
use crate::kafka::lag::{LagError, LagProbe};
use crate::kafka::right::{Operation, Resource, Right, is_denied};
use crate::metrics::Health;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks at which topics may be read.
const LOOK_PAUSE: Duration = Duration::from_secs(10);
/// The longest that asking for one topic may take.
const QUESTION: Duration = Duration::from_secs(5);

/// What is missing of one class's rights.
pub(super) struct Denied {
    settings: ClientSettings,
    class: Class,
    health: Arc<Health>,
    /// Whether the group's refusal was reported.
    kept_out: bool,
    /// Topics that could not be read at the last look.
    unreadable: Arc<Mutex<BTreeSet<String>>>,
    looking: Option<JoinHandle<()>>,
    look_again_at: Instant,
}

impl Denied {
    pub(super) fn new(settings: ClientSettings, class: Class, health: Arc<Health>) -> Self {
        Self { settings, class, health, kept_out: false, unreadable: Arc::default(), looking: None, look_again_at: Instant::now() }
    }

    /// The client met `code`.
    pub(super) fn met(&mut self, code: Code) {
        if code == Code::GroupAuthorizationFailed {
            self.group();
        } else if is_denied(code) {
            self.look();
        }
    }

    /// The class is in its group.
    pub(super) fn joined(&mut self) {
        self.kept_out = false;
        self.health.set_kept_out(self.class, None);
    }

    fn group(&mut self) {
        let right = Right::new(Operation::Read, Resource::Group, self.settings.group_of(self.class));
        let missing = right.missing(&self.settings.brokers);
        if !std::mem::replace(&mut self.kept_out, true) {
            tracing::error!(class = %self.class, "nothing is taken in: {missing}");
        }
        self.health.set_kept_out(self.class, Some(missing));
    }

    fn look(&mut self) {
        let busy = self.looking.as_ref().is_some_and(|thread| !thread.is_finished());
        if busy || Instant::now() < self.look_again_at {
            return;
        }
        self.look_again_at = Instant::now() + LOOK_PAUSE;
        let (settings, class, known) = (self.settings.clone(), self.class, Arc::clone(&self.unreadable));
        let work = move || {
            let found = unreadable(&settings, class);
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            for topic in found.difference(&known) {
                let right = Right::new(Operation::Read, Resource::Topic, topic.as_str());
                tracing::error!(class = %class, topic, "nothing of this topic is taken in: {}", right.missing(&settings.brokers));
            }
            *known = found;
        };
        // Where no thread can be had, the client's next error starts one.
        self.looking = thread::Builder::new().name(format!("rights-{}", self.class)).spawn(work).ok();
    }
}

/// Those of the class's topics that may not be read.
fn unreadable(settings: &ClientSettings, class: Class) -> BTreeSet<String> {
    let Ok(probe) = LagProbe::new(settings) else { return BTreeSet::new() };
    let topics = match class {
        Class::Fresh => settings.source_topics.clone(),
        Class::Replay => vec![settings.replay_topic()],
        Class::Retry => probe.topics_with_prefix(&settings.tier_prefix()).unwrap_or_default(),
    };
    topics.into_iter().filter(|topic| is_refused(settings, &probe, topic)).collect()
}

/// Whether `topic` may not be read: an error of another kind, or silence, is no refusal.
fn is_refused(settings: &ClientSettings, probe: &LagProbe, topic: &str) -> bool {
    match probe.partitions(topic) {
        Ok(_) => {}
        Err(LagError::Denied(_)) => return true,
        Err(LagError::NoTopic(_) | LagError::Unanswered { .. }) => return false,
    }
    // Commits nothing and joins nothing: the client only wants a group's name.
    let Ok(client) = make::<_, BaseConsumer<PlainContext>>(&settings.reader(&settings.group), PlainContext::new(settings)) else {
        return false;
    };
    let mut list = TopicPartitionList::with_capacity(1);
    if list.add_partition_offset(topic, 0, Offset::End).is_err() || client.assign(&list).is_err() {
        return false;
    }
    let until = Instant::now() + QUESTION;
    while Instant::now() < until {
        match client.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(_)) | Ok(_)) => return false,
            Some(Err(error)) if error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed) => return true,
            Some(Err(_)) | None => {}
        }
    }
    false
}
