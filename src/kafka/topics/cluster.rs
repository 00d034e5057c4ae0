//! Reading what the cluster says about topics, and creating ours.

use super::check::{CheckReport, Finding, Severity, judge};
use super::plan::{CreateOptions, Facts, Planned, plan};
use super::{Cluster, Described, TopicSettings};
use crate::kafka::client::{ClientError, PlainContext, code_of, make};
use crate::kafka::right::{Operation, Resource, Right, is_denied};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// The longest that one question to the cluster may take.
const QUESTION: Duration = Duration::from_secs(15);

/// The cluster could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicsError {
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A right is missing for the question itself.
    #[error("{what}: {missing}")]
    Denied {
        /// What was asked for, and what it is needed for.
        what: String,
        /// The right, and how it is granted.
        missing: String,
    },
    /// No answer, or an error of the moment.
    #[error("{what}: {cause}")]
    Unanswered {
        /// What was asked for.
        what: &'static str,
        /// The client's error code.
        cause: String,
    },
}

impl TopicsError {
    fn new(what: &'static str, error: &KafkaError) -> Self {
        Self::Unanswered { what, cause: code_of(error) }
    }
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made as planned.
    Created,
    /// It was there already and was left as it is; `check` says what is wrong with it.
    Existed,
    /// The cluster refused, in words that name a missing right.
    Failed(String),
}

/// One topic of ours after `create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// As planned.
    pub planned: Planned,
    /// What became of it.
    pub outcome: Outcome,
}

/// What `create` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateReport {
    /// Every topic of ours.
    pub created: Vec<Created>,
    /// Source topics that do not exist: they are not ours to make.
    pub missing_sources: Vec<Finding>,
}

/// Says what is wrong with the topics. Blocks for a few round trips.
///
/// # Errors
/// When the cluster does not answer, or may not be asked at all.
pub fn check(settings: &TopicSettings) -> Result<CheckReport, TopicsError> {
    Ok(judge(settings, &describe(&admin(settings)?, settings)?))
}

/// Creates those of our topics that do not exist; existing ones stay as they are. Blocks until the cluster has answered.
///
/// # Errors
/// When the cluster does not answer, or may not be asked at all. What fails for one topic is in its outcome.
pub fn create(settings: &TopicSettings, options: CreateOptions) -> Result<CreateReport, TopicsError> {
    let admin = admin(settings)?;
    let cluster = describe(&admin, settings)?;
    let sources = &settings.client.source_topics;
    let brokers = &settings.client.brokers;
    let denied = |right: Right| TopicsError::Denied {
        what: "partitions and sizes of our topics follow those of the source topics".to_owned(),
        missing: right.missing(brokers),
    };
    for name in sources {
        let sees = cluster.topics.get(name);
        if sees.is_none() && cluster.hidden.contains(name) {
            return Err(denied(settings.right_to_see(None, name)));
        }
        if sees.is_some_and(|topic| topic.config.is_none()) && !settings.lenient {
            return Err(denied(Right::new(Operation::DescribeConfigs, Resource::Topic, name)));
        }
    }
    let facts = Facts {
        brokers: cluster.brokers,
        source_partitions: cluster.most_partitions(sources),
        largest_message: cluster.largest_message(sources).unwrap_or(settings.client.largest_message),
    };
    let planned = plan(settings, facts, options);
    let (existing, missing): (Vec<_>, Vec<_>) = planned.into_iter().partition(|p| cluster.topics.contains_key(&p.name));
    let mut created: Vec<_> = existing.into_iter().map(|planned| Created { planned, outcome: Outcome::Existed }).collect();
    for planned in missing {
        if cluster.hidden.contains(&planned.name) {
            let right = settings.right_to_see(Some(planned.kind), &planned.name);
            let outcome = Outcome::Failed(format!("whether it is there may not be seen: {}", right.missing(brokers)));
            created.push(Created { planned, outcome });
            continue;
        }
        let failed = |code: Code| {
            let right = Right::new(Operation::Create, Resource::Topic, planned.name.as_str());
            Outcome::Failed(if is_denied(code) { right.missing(brokers) } else { format!("{code:?}") })
        };
        let mut topic = NewTopic::new(&planned.name, planned.partitions, TopicReplication::Fixed(planned.replication));
        for (name, value) in &planned.config {
            topic = topic.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(QUESTION)).operation_timeout(Some(QUESTION));
        let answer = block_on(admin.create_topics([&topic], &options));
        let outcome = match answer {
            Ok(results) => results.into_iter().next().map_or(Outcome::Created, |result| match result {
                Ok(_) => Outcome::Created,
                Err((_, Code::TopicAlreadyExists)) => Outcome::Existed,
                Err((_, code)) => failed(code),
            }),
            Err(error) => error.rdkafka_error_code().map_or_else(|| Outcome::Failed(error.to_string()), failed),
        };
        created.push(Created { planned, outcome });
    }
    await_metadata(&admin, &created);
    let missing_sources = judge(settings, &cluster).findings.into_iter().filter(|finding| finding.severity == Severity::Wait).collect();
    Ok(CreateReport { created, missing_sources })
}

/// Waits until every topic is in the metadata, at most [`QUESTION`]: a broker tells of a new topic a moment after it has created it, and a
/// `check` or a start right after this must find it.
fn await_metadata(admin: &AdminClient<PlainContext>, created: &[Created]) {
    let until = Instant::now() + QUESTION;
    let there = |topic: &Created| {
        let asked = admin.inner().fetch_metadata(Some(&topic.planned.name), QUESTION);
        asked.is_ok_and(|m| m.topics().iter().any(|t| t.error().is_none() && !t.partitions().is_empty()))
    };
    let mut awaited: Vec<&Created> = created.iter().filter(|t| matches!(t.outcome, Outcome::Created)).collect();
    loop {
        awaited.retain(|topic| !there(topic));
        if awaited.is_empty() || Instant::now() >= until {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn admin(settings: &TopicSettings) -> Result<AdminClient<PlainContext>, TopicsError> {
    Ok(make(&settings.client.plain(), PlainContext::new(&settings.client))?)
}

/// Asks for the topics that concern us, and their settings where there are any.
fn describe(admin: &AdminClient<PlainContext>, settings: &TopicSettings) -> Result<Cluster, TopicsError> {
    let client = admin.inner();
    let what = "the list of topics";
    let metadata = client.fetch_metadata(None, QUESTION).map_err(|e| TopicsError::new(what, &e))?;
    let mut cluster = Cluster { brokers: metadata.brokers().len(), ..Cluster::default() };
    let tiers = settings.client.tier_prefix();
    let wanted: Vec<String> = settings.ours().into_iter().map(|(_, name)| name).chain(settings.client.source_topics.clone()).collect();
    for topic in metadata.topics() {
        if topic.name().starts_with(&tiers) || wanted.iter().any(|name| name == topic.name()) {
            note(&mut cluster, topic);
        }
    }
    // The list leaves out what may not be described; asked for by name, the broker says why.
    for name in &wanted {
        if !cluster.topics.contains_key(name) && !cluster.hidden.contains(name) {
            let asked = client.fetch_metadata(Some(name), QUESTION).map_err(|e| TopicsError::new(what, &e))?;
            asked.topics().iter().filter(|t| t.name() == name).for_each(|t| note(&mut cluster, t));
        }
    }
    if !settings.lenient {
        read_settings(admin, &mut cluster)?;
    }
    Ok(cluster)
}

fn note(cluster: &mut Cluster, topic: &MetadataTopic) {
    let name = topic.name().to_owned();
    match topic.error().map(Code::from) {
        Some(Code::TopicAuthorizationFailed) => cluster.hidden.push(name),
        // A topic without a leader has partitions listed, or is about to.
        None | Some(Code::LeaderNotAvailable) if !topic.partitions().is_empty() => {
            let replication = topic.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
            cluster.topics.insert(name, Described { partitions: topic.partitions().len(), replication, config: None });
        }
        Some(_) | None => {}
    }
}

fn read_settings(admin: &AdminClient<PlainContext>, cluster: &mut Cluster) -> Result<(), TopicsError> {
    let names: Vec<String> = cluster.topics.keys().cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(QUESTION));
    let what = "the settings of topics";
    let described = block_on(admin.describe_configs(&resources, &options)).map_err(|e| TopicsError::new(what, &e))?;
    for resource in described {
        match resource {
            Ok(resource) => {
                if let OwnedResourceSpecifier::Topic(name) = &resource.specifier
                    && let Some(topic) = cluster.topics.get_mut(name)
                {
                    let entries = resource.entries.into_iter().filter_map(|e| Some((e.name, e.value?))).collect::<BTreeMap<_, _>>();
                    // rdkafka drops the refusal of a single topic; but every topic has settings, so an empty list means that they may not
                    // be read.
                    topic.config = Some(entries).filter(|entries| !entries.is_empty());
                }
            }
            // Its settings stay unknown, which is a finding of its own.
            Err(code) if is_denied(code) || code == Code::UnknownTopicOrPartition => {}
            Err(code) => return Err(TopicsError::Unanswered { what, cause: format!("{code:?}") }),
        }
    }
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs one future of the client on this thread: its own thread wakes it, so no runtime is needed.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Severity;
    use super::super::check::tests::topic_settings;
    use super::*;
    use crate::kafka::client::tests::settings;
    use crate::kafka::embedded::EmbeddedCluster;

    #[test]
    fn a_lenient_check_of_the_embedded_cluster_tells_what_exists() {
        let cluster =
            EmbeddedCluster::start(&[("cb.retry.5s", 2), ("cb.retry.1m", 2), ("cb.replay", 2), ("recording.completed", 2)]).unwrap();
        let lenient =
            TopicSettings { client: settings(cluster.bootstrap_servers()), lenient: true, registry_topic: false, ..topic_settings() };
        let report = check(&lenient).unwrap();
        let said: Vec<_> = report.findings.iter().map(|f| (f.severity, f.topic.as_str())).collect();
        assert_eq!(said, [(Severity::Refuse, "cb.dead-letter")]);
        assert_eq!(report.existing_tiers, ["cb.retry.1m", "cb.retry.5s"]);
        assert_eq!(report.source_partitions, Some(2));
    }
}
