//! `callbackd run`, set up for one domain, one signed template and one endpoint.

use crate::Settings;
use crate::broker::DOMAIN;
use crate::harness::broker::Broker;
use crate::harness::kafka::end_offsets;
use crate::harness::processes::free_port;
use crate::harness::scene::Scene;
use crate::harness::{SOON, http};
use crate::measure::UnderTest;
use crate::pinned::{Pinned, UNDER_TEST};
use std::path::Path;
use std::time::{Duration, Instant};

/// The daemon's own default tiers: a parked record would be seen as a latency of seconds.
const TIERS: [&str; 5] = ["5s", "1m", "10m", "1h", "6h"];

/// A running daemon.
pub(crate) struct Daemon {
    process: Pinned,
    scene: Scene,
}

impl Daemon {
    /// Starts one, as a new group from the start of `topic`, and waits until it is ready.
    pub(crate) fn start(broker: &Broker, topic: &str, port: u16, settings: &Settings) -> Self {
        let mut scene = Scene::without_topics("bench", &broker.bootstrap);
        scene.sources = vec![topic.to_owned()];
        scene.tiers = TIERS.to_vec();
        scene.log_level = "info";
        // The lane alone limits what is in flight: the fresh class has 60 % of `max_in_flight`.
        let max_in_flight = (settings.in_flight * 2).max(1024);
        scene.delivery = format!("endpoint_concurrency = {}\nmax_in_flight = {max_in_flight}", settings.in_flight);
        scene.registry = registry(port);
        scene.create_topics();
        let metrics = free_port();
        let config = scene.write_config(metrics, free_port());
        let arguments = ["run", "--config", config.to_str().unwrap()];
        let log = scene.dir.join("daemon.log");
        let process = Pinned::spawn(UNDER_TEST, Path::new(env!("CARGO_BIN_EXE_callbackd")), &arguments, &log);
        let mut daemon = Self { process, scene };
        let start = Instant::now();
        while http::get(metrics, "/readyz").is_none_or(|(status, _)| status != 200) {
            daemon.process.assert_running();
            assert!(start.elapsed() < SOON, "the daemon is not ready after {SOON:?}:\n{}", daemon.process.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }
}

impl UnderTest for Daemon {
    fn process(&mut self) -> &mut Pinned {
        &mut self.process
    }

    fn end(self) -> u64 {
        let parked = TIERS.iter().flat_map(|tier| end_offsets(&self.scene.bootstrap, &self.scene.tier_topic(tier)));
        let parked: i64 = parked.sum();
        let code = self.process.terminate(SOON);
        if code != Some(0) {
            eprintln!("the daemon did not end cleanly after SIGTERM: {code:?}");
        }
        u64::try_from(parked).unwrap()
    }
}

fn registry(port: u16) -> String {
    format!(
        r#"[[callback_templates]]
name = "bench"
urls = {{ recording_file = "http://127.0.0.1:{port}/callback" }}
keys = [{{ id = "only", value = "benchmark-key-of-no-worth" }}]

[[recording_templates]]
name = "bench"
formats = ["mp4"]

[[domains]]
name = "{DOMAIN}"

[[bindings]]
domain = "{DOMAIN}"
recording_template = "bench"
callback_template = "bench"
"#
    )
}
