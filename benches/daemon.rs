//! `callbackd run`, set up as a part of the benchmark needs it.

use crate::harness::broker::Broker;
use crate::harness::kafka::end_offsets;
use crate::harness::processes::free_port;
use crate::harness::scene::Scene;
use crate::harness::{SOON, http};
use crate::measure::UnderTest;
use crate::pinned::{Pinned, UNDER_TEST};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The daemon's own default tiers: a parked record would be seen as a latency of seconds.
const TIERS: [&str; 5] = ["5s", "1m", "10m", "1h", "6h"];

/// Between looks whether it is ready.
const BEAT: Duration = Duration::from_millis(5);

/// What a daemon is to be like.
pub(crate) struct Setup {
    /// The registry file's text.
    pub(crate) registry: String,
    /// More keys of `[delivery]`; the rest are its defaults.
    pub(crate) delivery: String,
    /// More keys of `[egress]`.
    pub(crate) egress: String,
    /// The CPUs that it may use.
    pub(crate) cpus: &'static str,
}

impl Setup {
    /// With defaults on [`UNDER_TEST`].
    pub(crate) const fn new(registry: String) -> Self {
        Self { registry, delivery: String::new(), egress: String::new(), cpus: UNDER_TEST }
    }

    /// With `in_flight` attempts at once to one endpoint, and room for as many as the fresh class may need of them.
    pub(crate) fn in_flight(registry: String, in_flight: u64) -> Self {
        // The lane alone limits what is in flight: the fresh class has 60 % of `max_in_flight`.
        let max_in_flight = (in_flight * 2).max(1024);
        let delivery = format!("endpoint_concurrency = {in_flight}\nmax_in_flight = {max_in_flight}");
        Self { delivery, ..Self::new(registry) }
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    process: Pinned,
    scene: Rc<Scene>,
    cpus: &'static str,
    metrics: u16,
    /// From the start of the process to the first "ready".
    pub(crate) ready_after: Duration,
}

impl Daemon {
    /// Starts one, as a new group from the start of `topic`, and waits until it is ready.
    pub(crate) fn start(broker: &Broker, topic: &str, setup: &Setup) -> Self {
        let mut scene = Scene::without_topics("bench", &broker.bootstrap);
        scene.sources = vec![topic.to_owned()];
        scene.tiers = TIERS.to_vec();
        scene.log_level = "info";
        scene.delivery.clone_from(&setup.delivery);
        scene.create_topics();
        scene.registry.clone_from(&setup.registry);
        Self::launch(Rc::new(scene), setup)
    }

    /// One more member of the same groups.
    pub(crate) fn beside(&self, setup: &Setup) -> Self {
        Self::launch(Rc::clone(&self.scene), setup)
    }

    fn launch(scene: Rc<Scene>, setup: &Setup) -> Self {
        let metrics = free_port();
        let config = scene.write_config(metrics, free_port());
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("[registry]\n", "[registry]\ntemplates_per_account = 100000\n");
        std::fs::write(&config, text.replace("[egress]\n", &format!("[egress]\n{}\n", setup.egress))).unwrap();
        let arguments = ["run", "--config", config.to_str().unwrap()];
        let log = scene.dir.join(format!("daemon-{metrics}.log"));
        let start = Instant::now();
        let mut process = Pinned::spawn(setup.cpus, Path::new(env!("CARGO_BIN_EXE_callbackd")), &arguments, &log);
        while http::get(metrics, "/readyz").is_none_or(|(status, _)| status != 200) {
            process.assert_running();
            assert!(start.elapsed() < SOON, "the daemon is not ready after {SOON:?}:\n{}", process.log());
            std::thread::sleep(BEAT);
        }
        Self { process, scene, cpus: setup.cpus, metrics, ready_after: start.elapsed() }
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = http::get(self.metrics, "/metrics")?;
        http::sample(&text, name, &[])
    }

    /// Replaces its registry, asks for a reload, and says how long it took until the new one was in force.
    pub(crate) fn reload(&self, registry: &str) -> Duration {
        let digest = || self.metric("callbackd_registry_digest").expect("the daemon answers");
        let before = digest();
        let (file, fresh) = (self.scene.dir.join("registry.toml"), self.scene.dir.join("registry.toml.new"));
        std::fs::write(&fresh, registry).unwrap();
        std::fs::rename(fresh, file).unwrap();
        let start = Instant::now();
        self.process.signal("HUP");
        #[expect(clippy::float_cmp, reason = "a digest is a whole number")]
        while digest() == before {
            assert!(start.elapsed() < SOON, "the registry is not reloaded after {SOON:?}:\n{}", self.process.log());
            std::thread::sleep(BEAT);
        }
        start.elapsed()
    }

    /// Records put into delay tiers so far.
    pub(crate) fn parked(&self) -> u64 {
        let ends = TIERS.iter().flat_map(|tier| end_offsets(&self.scene.bootstrap, &self.scene.tier_topic(tier)));
        u64::try_from(ends.sum::<i64>()).unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        drop(self.process);
    }
}

impl UnderTest for Daemon {
    fn process(&mut self) -> &mut Pinned {
        &mut self.process
    }

    fn cpus(&self) -> &'static str {
        self.cpus
    }

    fn end(self) -> u64 {
        let parked = self.parked();
        let code = self.process.terminate(SOON);
        if code != Some(0) {
            eprintln!("the daemon did not end cleanly after SIGTERM: {code:?}");
        }
        parked
    }
}
