//! What is not there at start: the broker and source topics are waited for; our own topics are named with the command that makes them.

use crate::harness::broker::Broker;
use crate::harness::processes::{free_port, run_dir};
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, both, event, simple_registry};
use crate::harness::{SOON, await_some, kafka};

#[test]
fn a_broker_that_is_away_at_start_is_waited_for_and_readyz_says_so() {
    let (dir, port) = (run_dir().join("away-broker"), free_port());
    let broker = Broker::start(&dir, port).unwrap();
    let receiver = Receiver::agreeable();
    let mut scene = Scene::on(&broker, "away", 1);
    scene.log_level = "info";
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    scene.create_topics();
    scene.produce(&[event("shop.example", 1)]);
    drop(broker);

    let mut daemon = scene.launch();
    let (status, why) = await_some("an answer of /readyz", SOON, || daemon.readyz());
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("no broker answers, waiting for one"), "it says what it waits for: {why}");
    daemon.wait_log("another try in vain", |line| line.contains("waiting for the broker") && line.contains("\"tries\":2"));
    let livez = crate::harness::http::get(daemon.port, "/livez");
    assert!(livez.as_ref().is_some_and(|(status, _)| *status == 200), "alive all the same: {livez:?}");
    // A SIGHUP meanwhile is no end: the registry is loaded again once it can be.
    daemon.signal("HUP");
    daemon.wait_log("yet another try in vain", |line| line.contains("waiting for the broker") && line.contains("\"tries\":4"));
    assert!(daemon.is_running(), "{}", daemon.log());
    let _broker = Broker::start(&dir, port).unwrap();
    daemon.wait_ready();
    receiver.wait_for(1, SOON);
    daemon.wait_log("the reload that was asked for", |line| line.contains("registry loaded"));
    daemon.stop();
}

#[test]
fn missing_topics_of_ours_end_it_with_78_and_the_command_that_creates_them() {
    let mut scene = Scene::new("no-topics", 1);
    scene.registry = simple_registry(&["shop.example"], "https://shop.example/cb", "");
    let mut daemon = scene.launch();
    assert_eq!(daemon.wait_exit(SOON), 78, "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("callbackd topics create") && log.contains(&scene.dead_letter_topic()), "{log}");
    let checked = scene.command(&["topics", "check"]);
    assert!(!checked.status.success() && both(&checked).contains(&scene.tier_topic("1s")), "{}", both(&checked));

    scene.create_topics();
    let checked = scene.command(&["topics", "check"]);
    assert!(checked.status.success(), "{}", both(&checked));
    for topic in [scene.tier_topic("300ms"), scene.tier_topic("3s"), format!("{}.replay", scene.prefix)] {
        assert_eq!(kafka::topic_setting(&scene.bootstrap, &topic, "message.timestamp.type").as_deref(), Some("LogAppendTime"), "{topic}");
        assert_eq!(kafka::topic_setting(&scene.bootstrap, &topic, "retention.bytes").as_deref(), Some("-1"), "{topic}");
    }
    for topic in [scene.tier_topic("300ms"), format!("{}.replay", scene.prefix), scene.dead_letter_topic()] {
        let largest: u64 = kafka::topic_setting(&scene.bootstrap, &topic, "max.message.bytes").unwrap().parse().unwrap();
        assert!(largest >= 1_048_588 + 65_536, "{topic}: {largest}");
    }
    let retention: u64 = kafka::topic_setting(&scene.bootstrap, &scene.dead_letter_topic(), "retention.ms").unwrap().parse().unwrap();
    assert!(retention >= 30 * 86_400_000);
    scene.create_topics(); // again changes nothing
}

#[test]
fn our_topics_get_as_many_partitions_as_the_largest_source() {
    let mut scene = Scene::new("many-partitions", 3);
    scene.sources.push(format!("{}-second", scene.sources[0]));
    kafka::create_topic(&scene.bootstrap, &scene.sources[1], 5, &[]);
    scene.registry = simple_registry(&["shop.example"], "https://shop.example/cb", "");
    scene.create_topics();
    for topic in [scene.tier_topic("300ms"), scene.tier_topic("1s"), format!("{}.replay", scene.prefix), scene.dead_letter_topic()] {
        assert_eq!(kafka::partitions(&scene.bootstrap, &topic), 5, "{topic}");
    }
}

#[test]
fn a_tier_without_append_time_and_a_small_topic_end_it_with_78() {
    let mut scene = Scene::new("wrong-topics", 1);
    scene.registry = simple_registry(&["shop.example"], "https://shop.example/cb", "");
    scene.create_topics();
    let tier = scene.tier_topic("1s");
    for (key, wrong, right) in [("message.timestamp.type", "CreateTime", "LogAppendTime"), ("max.message.bytes", "100000", "1200000")] {
        // Altering a topic replaces all of its settings: what is not named goes back to the broker's default.
        kafka::alter_topic(&scene.bootstrap, &tier, key, wrong);
        let mut daemon = scene.launch();
        assert_eq!(daemon.wait_exit(SOON), 78, "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains(&tier) && log.contains(key), "names the topic and {key}: {log}");
        kafka::alter_topic(&scene.bootstrap, &tier, key, right);
    }
}

#[test]
fn a_missing_source_topic_is_waited_for_not_ready() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("no-source", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    scene.create_topics();
    kafka::delete_topic(&scene.bootstrap, scene.source());
    let mut daemon = scene.launch();
    let why = await_some("/readyz names the missing topic", SOON, || {
        daemon.readyz().filter(|(status, why)| *status == 503 && why.contains(scene.source())).map(|(_, why)| why)
    });
    assert!(daemon.is_running(), "{why}\n{}", daemon.log());
    kafka::create_topic(&scene.bootstrap, scene.source(), 1, &[]);
    daemon.wait_ready();
    scene.produce(&[event("shop.example", 1)]);
    receiver.wait_for(1, SOON);
    daemon.stop();
}

#[test]
fn healthcheck_says_what_readyz_says() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("healthcheck", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    let config = scene.dir.join("callbackd.toml");
    let arguments = ["healthcheck", "--config", &config.to_string_lossy()];
    let healthy = crate::harness::scene::command(&arguments);
    assert_eq!(healthy.status.code(), Some(0), "{}", both(&healthy));
    daemon.stop();
    let gone = crate::harness::scene::command(&arguments);
    assert_eq!(gone.status.code(), Some(1), "{}", both(&gone));
}
