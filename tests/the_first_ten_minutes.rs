//! README's first ten minutes, played as they stand there (`harness::transcript` says how a page is read).
//!
//! Played with a broker of its own: the names are README's, so no prefix keeps them apart from other tests; and the first record makes the source
//! topic, as at a broker with Kafka's defaults, which the shared one is not.
//!
//! What is typed otherwise than README says, and no more:
//!
//! | README | here |
//! |---|---|
//! | the line that builds and installs | nothing: the built `callbackd` is first on the path |
//! | `localhost:9092` | the broker |
//! | `127.0.0.1:8080`, `127.0.0.1:9464`, the default of `admin.listen` | free ports |
//! | a terminal | files: `NO_COLOR`, and `log.format = "pretty"`, as `auto` is where somebody looks |

use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, remove_at_the_end, run_dir};
use crate::harness::transcript::Stage;

const INSTALL: &str = "cargo build --release --locked && sudo install target/release/callbackd /usr/local/bin/";

/// What the harness turns off, so that other tests are quick.
const AS_KAFKA_COMES: &str = "auto.create.topics.enable=true\ngroup.initial.rebalance.delay.ms=3000\n";

#[test]
fn readme_leads_from_nothing_to_a_verified_callback_a_dead_letter_and_its_replay() {
    let dir = run_dir().join("the-first-ten-minutes");
    let data = dir.join("broker");
    let broker =
        Broker::start_with(&data, free_port(), AS_KAFKA_COMES, &[]).unwrap_or_else(|why| panic!("no Apache Kafka, no test: {why}"));
    remove_at_the_end(&data);
    let mut stage = Stage::new(&dir.join("room"));
    stage.set("NO_COLOR", "1");
    stage.set("CALLBACKD_LOG__FORMAT", "pretty");
    stage.set("CALLBACKD_ADMIN__LISTEN", &loopback());
    let substitutions =
        [(INSTALL, "true"), ("localhost:9092", &broker.bootstrap), ("127.0.0.1:8080", &loopback()), ("127.0.0.1:9464", &loopback())];
    stage.play("README.md", "## The first ten minutes", &substitutions);
}

fn loopback() -> String {
    format!("127.0.0.1:{}", free_port())
}
