//! Who plays: push domains, how their receivers behave, and what the daemon's files say about them.

use super::verify::SharedKey;
use crate::domain::signature::shown_secret;
use crate::kafka::embedded::GROUP_PROPERTIES;
use bytes::Bytes;
use serde_json::json;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// Where the events come from.
pub(super) const SOURCE: &str = "recording.completed";
/// The daemon's consumer group.
pub(super) const GROUP: &str = "callbackd-demo";
/// Prefix of the daemon's topics.
pub(super) const PREFIX: &str = "callbackd";
/// Short, so that retries can be watched.
pub(super) const TIERS: [&str; 3] = ["300ms", "1s", "3s"];

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// 200 at once.
    Good,
    /// 200 after a while.
    Slow,
    /// 503 to the first two requests of each event.
    FailsTwice,
    /// 500 while it is down.
    Flapping,
    /// 429 with `Retry-After` now and then.
    AsksToWait,
    /// Closes the connection on the first two requests of each event, without an answer.
    HangsUp,
    /// 500 to everything, until it is repaired.
    Broken,
    /// Its domain is in no registry.
    Unknown,
    /// Its domain records, and has no callback template.
    Unbound,
}

/// What a receiver does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Answers this status after this time.
    Status(u16, Duration),
    /// 429 with a `Retry-After` of this many seconds.
    Later(u32),
    /// No answer at all.
    HangUp,
}

const SLOW: Duration = Duration::from_millis(700);
const UP_MS: u128 = 3_000;
const FLAP_MS: u128 = 5_000;
const BUSY_MS: u128 = 700;
const BUSY_EVERY_MS: u128 = 3_000;

impl Behaviour {
    /// In words, at most 24 characters.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Good => "answers at once",
            Self::Slow => "takes 700 ms",
            Self::FailsTwice => "503 twice, then 200",
            Self::Flapping => "up 3 s, down 2 s",
            Self::AsksToWait => "429 Retry-After at times",
            Self::HangsUp => "hangs up twice, then 200",
            Self::Broken => "always 500",
            Self::Unknown => "is in no registry",
            Self::Unbound => "has no callback bound",
        }
    }

    /// Whether it is the one that goes up and down, and is down `at` after the start.
    pub(super) const fn is_down(self, at: Duration) -> bool {
        matches!(self, Self::Flapping) && at.as_millis() % FLAP_MS >= UP_MS
    }

    /// What it does with the `nth` request (from 1) of an event, `at` after the start.
    pub(super) const fn answer(self, nth: u32, at: Duration, repaired: bool) -> Answer {
        const NOW: Duration = Duration::ZERO;
        match self {
            Self::Slow => Answer::Status(200, SLOW),
            Self::FailsTwice if nth <= 2 => Answer::Status(503, NOW),
            Self::Flapping if self.is_down(at) => Answer::Status(500, NOW),
            Self::AsksToWait if at.as_millis() % BUSY_EVERY_MS < BUSY_MS => Answer::Later(1),
            Self::HangsUp if nth <= 2 => Answer::HangUp,
            Self::Broken if !repaired => Answer::Status(500, NOW),
            Self::Good
            | Self::FailsTwice
            | Self::Flapping
            | Self::AsksToWait
            | Self::HangsUp
            | Self::Broken
            | Self::Unknown
            | Self::Unbound => Answer::Status(200, NOW),
        }
    }
}

/// One push domain.
#[derive(Debug)]
pub(super) struct Case {
    /// Its name; the first label names its template and its path at the receiver.
    pub(super) domain: &'static str,
    /// Its receiver.
    pub(super) behaviour: Behaviour,
    /// Its keys, newest first; they live only as long as this process.
    pub(super) keys: Vec<SharedKey>,
    weight: u32,
}

impl Case {
    fn new(domain: &'static str, behaviour: Behaviour, weight: u32) -> Self {
        let key = || -> Vec<u8> { std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(32).collect() };
        let mut keys = vec![SharedKey { key: key(), secret: None }];
        // In the middle of a rotation, and with a secret of its own for the HMAC.
        if weight == ROTATING {
            keys.insert(0, SharedKey { key: key(), secret: Some(key()) });
        }
        Self { domain, behaviour, keys, weight }
    }

    /// The first label.
    pub(super) fn label(&self) -> &'static str {
        self.domain.split('.').next().unwrap_or(self.domain)
    }
}

const ROTATING: u32 = 3;

/// Twenty shares of the events; with a step that has no factor in common with twenty they come well mixed.
const SHARES: u32 = 20;
const STEP: u32 = 7;

/// All domains, with fresh keys. The weights add up to [`SHARES`].
pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("arena.live.example", Behaviour::Good, 5),
        Case::new("news.live.example", Behaviour::Good, ROTATING),
        Case::new("cinema.live.example", Behaviour::Slow, 2),
        Case::new("school.live.example", Behaviour::FailsTwice, 2),
        Case::new("travel.live.example", Behaviour::Flapping, 2),
        Case::new("market.live.example", Behaviour::AsksToWait, 2),
        Case::new("garden.live.example", Behaviour::HangsUp, 1),
        Case::new("museum.live.example", Behaviour::Broken, 1),
        Case::new("nobody.live.example", Behaviour::Unknown, 1),
        Case::new("quiet.live.example", Behaviour::Unbound, 1),
    ]
}

/// The index of the domain that the `n`th event is of.
pub(super) fn case_of(cases: &[Case], n: u32) -> usize {
    let mut share = n.wrapping_mul(STEP) % SHARES;
    for (index, case) in cases.iter().enumerate() {
        if share < case.weight {
            return index;
        }
        share -= case.weight;
    }
    0
}

/// The id of the `n`th event.
pub(super) fn event_id(n: u32) -> String {
    format!("demo-{n:06}")
}

/// The `n`th event, of `domain`, at `now` in Unix seconds: mostly files that are ready, now and then a status or an exception.
pub(super) fn event(n: u32, domain: &str, now: i64) -> Bytes {
    let stream = format!("stage-{}", n % 17);
    let value = match n % 10 {
        4 => json!({
            "event_type": 332, "appid": 1_300_000_000, "domain": domain, "appname": "live", "stream_id": stream, "event_time": now,
            "session_id": format!("{n:019}"), "seq": n.to_string(), "task_id": format!("task-{n}"), "record_event": "record_ended",
            "record_detail": "{\"reason\":\"push ended\"}",
        }),
        9 => json!({
            "event_type": 341, "appid": 1_300_000_000, "domain": domain, "path": "live", "stream_id": stream, "timestamp": now,
            "session_id": format!("{n:019}"), "file_format": "hls", "exception_level": "warning", "interface": "general_callback",
            "exception": { "type": "upload_slow", "occurs": now, "desc": "\u{4e0a}\u{4f20} slow" },
        }),
        _ => json!({
            "event_type": 100, "appid": 1_300_000_000, "app": domain, "appname": "live", "stream_id": stream, "channel_id": stream,
            "push_start_time": now - 1_800, "start_time": now - 1_800, "end_time": now, "duration": 1_800, "file_format": "hls",
            "file_id": format!("{n:019}"), "record_file_id": format!("{n:019}"), "record_temp_id": "1569294", "file_size": 277_941_079_u64 + u64::from(n),
            "stream_param": "a=1&b=2", "video_url": format!("https://vod.example/{n:06}/playlist.m3u8"),
        }),
    };
    Bytes::from(value.to_string())
}

/// The daemon's configuration. The registry lies beside it. The embedded broker answers a fetch that finds nothing only when its wait is
/// over, whatever comes meanwhile: so that wait is short.
pub(super) fn configuration(brokers: &str, metrics: SocketAddr, admin: SocketAddr) -> String {
    let group = GROUP_PROPERTIES.map(|(name, value)| format!("\"{name}\" = \"{value}\"\n")).concat();
    let tiers = TIERS.map(|tier| format!("\"{tier}\"")).join(", ");
    format!(
        "[kafka]\nbrokers = [\"{brokers}\"]\ngroup = \"{GROUP}\"\nsource_topics = [\"{SOURCE}\"]\ntopic_prefix = \"{PREFIX}\"\n\n\
         [kafka.properties]\n{group}\"fetch.wait.max.ms\" = \"20\"\n\n\
         [registry]\nfile = \"registry.toml\"\n\n\
         [delivery]\ndelay_tiers = [{tiers}]\ndrain_timeout = \"10s\"\n\n\
         [egress]\nallow_networks = [\"127.0.0.0/8\"]\n\n\
         [metrics]\nlisten = \"{metrics}\"\n\n[admin]\nlisten = \"{admin}\"\n"
    )
}

/// The daemon's registry: a template and a binding per domain, but for those without.
pub(super) fn registry(cases: &[Case], receiver: SocketAddr) -> String {
    let mut text = "[[recording_templates]]\nname = \"hls\"\nformats = [\"hls\"]\n".to_owned();
    for case in cases {
        let (domain, label) = (case.domain, case.label());
        let attempts = if case.behaviour == Behaviour::Broken { 4 } else { 30 };
        // Writing to a string does not fail.
        let _ = match case.behaviour {
            Behaviour::Unknown => Ok(()),
            Behaviour::Unbound => {
                write!(text, "\n[[domains]]\nname = \"{domain}\"\n[[bindings]]\ndomain = \"{domain}\"\nrecording_template = \"hls\"\n")
            }
            Behaviour::Good
            | Behaviour::Slow
            | Behaviour::FailsTwice
            | Behaviour::Flapping
            | Behaviour::AsksToWait
            | Behaviour::HangsUp
            | Behaviour::Broken => {
                let url = |kind: &str| format!("{kind} = \"http://{receiver}/{label}/{kind}\"");
                let urls = ["recording_file", "recording_status", "recording_exception"].map(url).join(", ");
                // Of keys without a start the later in the list is the newer.
                let keys: Vec<String> = case.keys.iter().rev().enumerate().map(|(n, key)| key_row(n, key)).collect();
                write!(
                    text,
                    "\n[[callback_templates]]\nname = \"{label}\"\npolicy = \"css\"\nurls = {{ {urls} }}\nkeys = [{}]\n\
                     retry = {{ delays = [\"300ms\", \"1s\"], attempts = {attempts} }}\ntimeout = \"5s\"\n\n\
                     [[domains]]\nname = \"{domain}\"\n[[bindings]]\ndomain = \"{domain}\"\nrecording_template = \"hls\"\ncallback_template = \"{label}\"\n",
                    keys.join(", ")
                )
            }
        };
    }
    text
}

fn key_row(n: usize, key: &SharedKey) -> String {
    let value = String::from_utf8_lossy(&key.key);
    let secret = key.secret.as_ref().map_or(String::new(), |secret| format!(", secret = {{ value = \"{}\" }}", *shown_secret(secret)));
    format!("{{ id = \"demo-{n}\", value = \"{value}\"{secret} }}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::decode;
    use crate::domain::time::UnixMillis;

    #[test]
    fn the_events_are_shared_out_by_weight_and_mixed() {
        let cases = cases();
        assert_eq!(cases.iter().map(|case| case.weight).sum::<u32>(), SHARES);
        let mut counts = vec![0; cases.len()];
        (0..SHARES * 3).for_each(|n| counts[case_of(&cases, n)] += 1);
        assert_eq!(counts, cases.iter().map(|case| case.weight * 3).collect::<Vec<_>>());
        assert!((0..SHARES).all(|n| case_of(&cases, n) != case_of(&cases, n + 1)), "two of one domain in a row");
    }

    #[test]
    fn every_event_decodes_to_its_domain() {
        for n in 0..20 {
            let event = decode(Some(&event(n, "arena.live.example", 1_795_435_200)), UnixMillis(1_795_435_200_000)).unwrap();
            assert_eq!(event.domain.as_str(), "arena.live.example");
            assert_eq!(event.path.as_deref(), Some("live"));
        }
    }

    #[test]
    fn each_receiver_behaves_as_its_words_say() {
        let ms = Duration::from_millis;
        let ok = Answer::Status(200, Duration::ZERO);
        for (behaviour, nth, at, repaired, expected) in [
            (Behaviour::Good, 1, 0, false, ok),
            (Behaviour::Slow, 1, 0, false, Answer::Status(200, ms(700))),
            (Behaviour::FailsTwice, 2, 0, false, Answer::Status(503, Duration::ZERO)),
            (Behaviour::FailsTwice, 3, 0, false, ok),
            (Behaviour::Flapping, 1, 2_999, false, ok),
            (Behaviour::Flapping, 9, 3_000, false, Answer::Status(500, Duration::ZERO)),
            (Behaviour::Flapping, 1, 5_000, false, ok),
            (Behaviour::AsksToWait, 1, 3_699, false, Answer::Later(1)),
            (Behaviour::AsksToWait, 1, 3_700, false, ok),
            (Behaviour::HangsUp, 2, 0, false, Answer::HangUp),
            (Behaviour::HangsUp, 3, 0, false, ok),
            (Behaviour::Broken, 99, 0, false, Answer::Status(500, Duration::ZERO)),
            (Behaviour::Broken, 1, 0, true, ok),
        ] {
            assert_eq!(behaviour.answer(nth, ms(at), repaired), expected, "{behaviour:?} {nth} {at}");
        }
    }

    #[test]
    fn configuration_and_registry_of_the_demo_have_no_problems() {
        let dir = tempfile::tempdir().unwrap();
        let address: SocketAddr = "127.0.0.1:8009".parse().unwrap();
        let text = configuration("127.0.0.1:9092", address, "127.0.0.1:8008".parse().unwrap());
        let loaded = crate::config::parse(&dir.path().join("callbackd.toml"), &text, &crate::config::Environment::default()).unwrap();
        let file = dir.path().join("registry.toml");
        let options = crate::app::load_options(&loaded.settings);
        let found = crate::registry::load_text(&file, &registry(&cases(), address), &options).unwrap();
        assert_eq!((loaded.warnings, found.warnings), (vec![], vec![]));
        assert_eq!(found.registry.callback_templates().len(), 8);
    }
}
