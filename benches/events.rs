//! Events of the benchmark: which domain each is of, how long it is, and topics full of them.

use crate::broker::PARTITIONS;
use crate::harness::broker::Broker;
use crate::harness::kafka::{New, Producer, create_topic};

/// Bytes of an event, where nothing else is said.
pub(crate) const EVENT_BYTES: usize = 600;

/// What an event's running number stands behind; it comes first, so that the receiver finds it at once.
pub(crate) const NUMBER: &[u8] = b"\"file_id\":\"";

/// Which events there are: event `n` of any count is always the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Events {
    /// Push domains, each in turn.
    pub(crate) domains: u64,
    /// Nine events of ten are of the first domain.
    pub(crate) hot: bool,
    /// Bytes of each.
    pub(crate) bytes: usize,
}

impl Events {
    /// Of `domains` domains, each as often, in [`EVENT_BYTES`].
    pub(crate) const fn of(domains: u64) -> Self {
        Self { domains, hot: false, bytes: EVENT_BYTES }
    }

    /// The number of the domain of event `number`.
    pub(crate) const fn domain(self, number: u64) -> u64 {
        match self.hot {
            false => number % self.domains,
            true if !number.is_multiple_of(10) => 0,
            true => 1 + number / 10 % (self.domains - 1),
        }
    }

    /// Event `number`, of type recording-completed.
    pub(crate) fn event(self, number: u64) -> Vec<u8> {
        let domain = domain_name(self.domain(number));
        let mut text = format!(
            r#"{{"file_id":"{number:019}","app":"{domain}","appid":1300000000,"appname":"live","channel_id":"stream_{number}","duration":1800,"end_time":1760001800,"end_time_usec":618577,"event_type":100,"file_format":"mp4","file_size":277941079,"media_start_time":135802,"record_bps":0,"record_temp_id":"1569294","start_time":1760000000,"start_time_usec":316441,"stream_id":"stream_{number}","task_id":"1820625260475124043","video_url":"http://1300000000.vod.example/{number}.mp4","stream_param":""#
        );
        let padding = self.bytes.checked_sub(2 + text.len()).expect("an event has room for its fields");
        text.extend(std::iter::repeat_n('x', padding));
        text.push_str("\"}");
        text.into_bytes()
    }

    /// Creates `topic` and puts events `0..count` into it, so that the speed of a run is the consumer's.
    pub(crate) fn fill(self, broker: &Broker, topic: &str, count: u64) {
        create_topic(&broker.bootstrap, topic, PARTITIONS, &[]);
        self.produce(broker, topic, count);
    }

    /// Puts events `0..count` into `topic`.
    pub(crate) fn produce(self, broker: &Broker, topic: &str, count: u64) {
        let producer = Producer::new(&broker.bootstrap);
        for number in 0..count {
            producer.send(topic, &New::value(self.event(number)));
        }
        producer.flush();
    }
}

/// The name of the domain of that number.
pub(crate) fn domain_name(number: u64) -> String {
    format!("d{number:05}.bench.example")
}
