use super::*;
use crate::kafka::client::PlainContext;
use crate::kafka::client::tests::settings;
use crate::kafka::embedded::{EmbeddedCluster, GROUP_PROPERTIES};
use rdkafka::ClientContext as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as OUT_OF_RANGE;

pub(super) const TOPIC: &str = "recording.completed";

/// Long enough for anything that should happen soon, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings for members of a group on an embedded cluster.
pub(super) fn of_group(brokers: &str) -> ClientSettings {
    let mut settings = settings(brokers);
    settings.properties.extend(GROUP_PROPERTIES.map(|(name, value)| (name.into(), value.into())));
    settings
}

/// The only member of its group, on a cluster of its own with one partition.
pub(super) struct Member {
    pub(super) cluster: EmbeddedCluster,
    pub(super) settings: ClientSettings,
    pub(super) consumer: Consumer,
}

impl Member {
    pub(super) fn with_records(records: usize) -> Self {
        let cluster = EmbeddedCluster::start(&[(TOPIC, 1)]).unwrap();
        let settings = of_group(cluster.bootstrap_servers());
        produce(&settings, records);
        let metrics = Metrics::new(&[], &[]).unwrap();
        let consumer = Consumer::subscribe(&settings, Class::Fresh, StartFrom::Earliest, metrics, Health::new()).unwrap();
        Self { cluster, settings, consumer }
    }

    /// The next event that is one.
    pub(super) fn event(&mut self) -> SourceEvent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nothing happens");
            let event = self.consumer.poll(Duration::from_millis(100), 100);
            let joined = matches!(&event, SourceEvent::Assigned(given) if given.is_empty());
            if !joined && !matches!(event, SourceEvent::Nothing) {
                return event;
            }
        }
    }

    /// Takes over its partition.
    pub(super) fn start_at(&mut self, offset: i64) -> TopicPartition {
        let SourceEvent::Assigned(given) = self.event() else { panic!("the partition is not given") };
        self.consumer.start(&[(given[0].partition.clone(), offset)]);
        given[0].partition.clone()
    }

    /// Offsets of the records up to `last`.
    fn read_to(&mut self, last: i64) -> Vec<i64> {
        let mut read = Vec::new();
        while read.last() != Some(&last) {
            let SourceEvent::Batch(records) = self.event() else { panic!("no records") };
            read.extend(records.iter().map(|r| r.position.offset));
        }
        read
    }

    /// The answer to the commit under way, whatever becomes of the membership meanwhile.
    pub(super) fn answer(&mut self) -> Result<(), CommitRefused> {
        loop {
            match self.event() {
                SourceEvent::Committed(answer) => return answer,
                SourceEvent::Lost(names) | SourceEvent::Revoking(names) => self.consumer.release(&names),
                SourceEvent::Assigned(_) | SourceEvent::Batch(_) | SourceEvent::Nothing => {}
                event @ (SourceEvent::OutOfRange { .. } | SourceEvent::Fatal(_)) => panic!("{event:?}"),
            }
        }
    }

    /// The group's commit of the partition.
    pub(super) fn committed(&self, topic: &str) -> i64 {
        let observer: BaseConsumer<PlainContext> = make(&self.settings.consumer(Class::Fresh), PlainContext::new(&self.settings)).unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let answered = observer.committed_offsets(asked, Duration::from_secs(10)).unwrap();
        answered.elements()[0].offset().to_raw().unwrap()
    }
}

fn produce(settings: &ClientSettings, records: usize) {
    let producer: BaseProducer = settings.outbox().create().unwrap();
    for _ in 0..records {
        producer.send(BaseRecord::<(), str>::to(TOPIC).partition(0).payload("v")).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

#[test]
fn an_offset_that_was_out_of_range_for_a_moment_does_not_stop_its_partition_for_ever() {
    let mut member = Member::with_records(6);
    let name = member.start_at(0);
    assert_eq!(member.read_to(5), [0, 1, 2, 3, 4, 5]);
    let point = CommitPoint { offset: 4, metadata: String::new() };
    assert_eq!(member.consumer.commit(vec![(name.clone(), point)], CommitMode::Await), Ok(()));
    // By the time the watermarks are asked the offset is in the log.
    member.cluster.fail_fetches(vec![OUT_OF_RANGE]);
    produce(&member.settings, 2);
    let mut event = member.event();
    // The answer to a fetch that was on its way already.
    while matches!(event, SourceEvent::Batch(_)) {
        event = member.event();
    }
    let SourceEvent::OutOfRange { outside, unsure } = event else {
        panic!("the partition is not read any more, and nobody says so: {event:?}")
    };
    let committed = Some((4, String::new()));
    assert_eq!(
        (outside, unsure),
        (vec![], vec![Assigned { partition: name.clone(), committed, latest: None, low: 0, high: 8 }]),
        "from its commit, with its map"
    );
    member.consumer.start(&[(name, 4)]);
    assert_eq!(member.read_to(7), [4, 5, 6, 7]);
}

#[test]
fn an_error_that_the_client_both_reports_and_returns_is_counted_once() {
    let mut member = Member::with_records(0);
    // What rdkafka does with one error event of a consumer.
    let reported = KafkaError::Global(Code::TopicAuthorizationFailed);
    member.consumer.client().unwrap().context().error(reported, "Fetch failed");
    assert!(member.consumer.on_error(&KafkaError::MessageConsumption(Code::TopicAuthorizationFailed)).is_none());
    let _ = member.consumer.next_notice();
    let text = member.consumer.metrics.render();
    assert!(text.contains("\ncallbackd_kafka_errors_total{kind=\"authentication\"} 1\n"), "{text}");
}

/// Leaves on a thread of its own; whether it came to an end.
fn leaves(mut consumer: Consumer) -> bool {
    let (left, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        consumer.leave();
        let _ = left.send(());
    });
    wait.recv_timeout(PATIENCE).is_ok()
}

/// Has the clients call back until each context has noted something, which stays unread.
fn wait_notices(consumers: &[&Consumer]) {
    let deadline = Instant::now() + PATIENCE;
    for client in consumers.iter().map(|consumer| consumer.client().unwrap()) {
        while !client.context().has_notice() {
            assert!(Instant::now() < deadline, "nothing is noted");
            assert!(client.poll(Duration::from_millis(100)).is_none_or(|polled| polled.is_ok()));
        }
    }
}

/// Two members for one partition: one of them is given nothing.
fn pair() -> (EmbeddedCluster, Consumer, Consumer) {
    let Member { cluster, settings, consumer } = Member::with_records(1);
    let metrics = Metrics::new(&[], &[]).unwrap();
    let second = Consumer::subscribe(&settings, Class::Fresh, StartFrom::Earliest, metrics, Health::new()).unwrap();
    (cluster, consumer, second)
}

#[test]
fn who_leaves_in_the_middle_of_an_assignment_comes_to_an_end_with_and_without_a_partition() {
    let (_cluster, first, second) = pair();
    wait_notices(&[&first, &second]);
    assert!(leaves(first) && leaves(second), "the client waits for an answer to what it asked before");
}

#[test]
fn an_assignment_that_is_only_delivered_while_leaving_is_answered_too() {
    let (_cluster, first, second) = pair();
    let clients = [&first, &second].map(|consumer| consumer.client().unwrap());
    clients.iter().for_each(|client| client.context().close());
    // Both are asked again and again, because one that came late makes the other join anew.
    let deadline = Instant::now() + PATIENCE;
    while !clients.iter().all(|client| client.context().has_answered()) {
        assert!(Instant::now() < deadline, "the group never formed");
        for client in &clients {
            assert!(client.poll(Duration::from_millis(200)).is_none_or(|polled| polled.is_ok()));
        }
    }
    assert!(leaves(first) && leaves(second), "the client waits for an answer to what it asked before");
}

#[test]
fn who_leaves_in_the_middle_of_a_revoke_comes_to_an_end() {
    let mut member = Member::with_records(1);
    member.start_at(0);
    member.consumer.client().unwrap().unsubscribe();
    wait_notices(&[&member.consumer]);
    assert!(leaves(member.consumer), "the client waits for an answer to what it asked before");
}
