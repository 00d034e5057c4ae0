//! The registry is rewritten again and again while events pour in: replaced as it should be, broken, and written in place piece by piece.
//! No event is lost, and none is judged by a file that was read half-way.

use super::{NO_CIRCUIT, PATIENT, accepting, assert_no_letters, events, registry_of};
use crate::harness::receiver::Answer;
use crate::harness::scene::Scene;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn no_event_is_lost_or_judged_by_a_half_read_file_while_the_registry_is_rewritten() {
    const DOMAINS: usize = 12;
    let (receiver, accepted) = accepting(|_, _| Answer::Status(200));
    let mut scene = Scene::new("reload-load", 2);
    scene.delivery = NO_CIRCUIT.into();
    let domains: Vec<String> = (0..DOMAINS).map(|n| format!("d{n}.example")).collect();
    let registry = |path: &str| registry_of(domains.iter().map(|d| (d.as_str(), receiver.url(path))), PATIENT);
    scene.registry = registry("/a");
    let mut daemon = scene.start();
    let file = scene.dir.join("registry.toml");
    let over = AtomicBool::new(false);
    let produced = std::thread::scope(|threads| {
        let producing = threads.spawn(|| {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                for domain in &domains {
                    scene.producer.send_all(scene.source(), &events(domain, n..n + 5));
                }
                n += 5;
                std::thread::sleep(Duration::from_millis(20));
            }
            n * DOMAINS
        });
        let replace = |text: &str| {
            std::fs::write(scene.dir.join("next"), text).unwrap();
            std::fs::rename(scene.dir.join("next"), &file).unwrap();
        };
        for round in 0..3 {
            replace(&registry(if round % 2 == 0 { "/b" } else { "/a" }));
            std::thread::sleep(Duration::from_millis(1100));
            replace("this is not TOML");
            std::thread::sleep(Duration::from_millis(1100));
            // In place: every prefix that ends with a row is a valid file, with domains or bindings missing.
            let text = registry("/c");
            let rows: Vec<&str> = text.split_inclusive("\n\n").collect();
            let mut open = std::fs::File::create(&file).unwrap();
            for row in rows {
                open.write_all(row.as_bytes()).unwrap();
                open.sync_all().unwrap();
                std::thread::sleep(Duration::from_millis(60));
            }
        }
        over.store(true, Ordering::Relaxed);
        producing.join().unwrap()
    });
    accepted.wait(produced, Duration::from_secs(60));
    super::wait_quiet(&scene);
    assert_eq!((accepted.ids(), accepted.repeats()), (produced, 0));
    assert_no_letters(&scene);
    assert!(daemon.metric("callbackd_events_settled_total", &["outcome=\"skipped\""]).abs() < f64::EPSILON, "none was skipped");
    daemon.wait_metric("callbackd_registry_last_load_success", &[], 1.0);
    let before = receiver.count();
    scene.producer.send_all(scene.source(), &events(&domains[0], 1_000_000..1_000_001));
    receiver.wait_for(before + 1, Duration::from_secs(30));
    assert_eq!(receiver.requests()[before].path, "/c", "the last one is in force");
    daemon.stop();
}
