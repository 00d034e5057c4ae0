//! The registry file is watched: a good change counts within seconds, a bad one is refused and the last good one stays.

use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{SOON, await_true};
use std::time::Duration;

/// Produces events until one arrives at `receiver`; returns how many were needed.
fn until_it_arrives(scene: &Scene, receiver: &Receiver, from: usize) -> usize {
    let before = receiver.count();
    for n in from..from + 100 {
        scene.produce(&[event("shop.example", n)]);
        std::thread::sleep(Duration::from_millis(200));
        if receiver.count() > before {
            return n + 1 - from;
        }
    }
    panic!("in 20 s no event arrived");
}

#[test]
fn a_changed_url_counts_within_seconds_and_a_bad_file_is_refused() {
    let (first, second) = (Receiver::agreeable(), Receiver::agreeable());
    let mut scene = Scene::new("reload", 1);
    scene.registry = simple_registry(&["shop.example"], &first.url("/cb"), "");
    let mut daemon = scene.start();
    let digest = daemon.metric("callbackd_registry_digest", &[]);
    scene.produce(&[event("shop.example", 0)]);
    first.wait_for(1, SOON);

    let good = simple_registry(&["shop.example"], &second.url("/cb"), "");
    scene.registry = good.clone();
    scene.write_registry();
    let needed = until_it_arrives(&scene, &second, 100);
    assert!(needed <= 50, "{needed} events at one each 200 ms");
    let changed = daemon.metric("callbackd_registry_digest", &[]);
    assert!((digest - changed).abs() > 0.5, "the digest tells that it changed");

    for bad in ["this is not TOML", &good.replace("callback_template = \"cb\"", "callback_template = \"none-such\"")] {
        scene.registry = bad.to_string();
        scene.write_registry();
        daemon.wait_loaded(false);
        until_it_arrives(&scene, &second, 200);
        scene.registry = good.clone();
        scene.write_registry();
        daemon.wait_loaded(true);
    }
    assert!((daemon.metric("callbackd_registry_digest", &[]) - changed).abs() < 0.5, "the same registry has the same digest");
    assert!(daemon.is_running());
    daemon.stop();
}

#[test]
fn a_reload_that_would_drop_all_domains_needs_a_sighup() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("drop-all", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    scene.registry = String::from("# nothing\n");
    scene.write_registry();
    daemon.wait_loaded(false);
    scene.produce(&[event("shop.example", 1)]);
    receiver.wait_for(1, SOON);
    daemon.signal("HUP");
    daemon.wait_loaded(true);
    scene.produce(&[event("shop.example", 2)]);
    await_true("the domain is unknown now", SOON, || !scene.dead_letters().is_empty());
    assert_eq!(scene.dead_letters()[0].header("callbackd-reason").as_deref(), Some("unknown_domain"));
    daemon.stop();
}
