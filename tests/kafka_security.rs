//! A Kafka that asks who is there and what they may: TLS with SCRAM, TLS with client certificates, and ACLs that deny by default.
//!
//! The rights that are granted here are read from README's table, cell by cell, so the table is proven twice: what it lists is enough for
//! each command, and of what it lists nothing can be left out without a message that names the right. A missing right never costs a record:
//! each such case goes on, once the right is granted, to the same balanced end.

use crate::harness::acls::{self, Acl, Kind};
use crate::harness::daemon::Daemon;
use crate::harness::kafka::{self, New};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, both, event, simple_registry};
use crate::harness::secured::{self, PASSWORD, Secured, authority};
use crate::harness::{SOON, await_some, await_true};
use std::process::Output;

/// Commands, as README's table of rights has them as columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Run,
    Replay,
    TopicsCheck,
    TopicsCreate,
}

const COLUMNS: [(Column, &str); 4] = [
    (Column::Run, "`run`"),
    (Column::Replay, "`replay`"),
    (Column::TopicsCheck, "`topics check`"),
    (Column::TopicsCreate, "`topics create`"),
];

/// README's rights for a command, on the names of the scene.
fn rights(column: Column, scene: &Scene) -> Vec<Acl> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let cells = |line: &str| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let mut table = readme.lines().skip_while(|line| !line.starts_with("| resource |")).take_while(|line| line.starts_with('|'));
    let head = cells(table.next().expect("README has a table of rights"));
    let title = COLUMNS.iter().find(|(known, _)| *known == column).unwrap().1;
    let at = head.iter().position(|cell| cell == title).unwrap_or_else(|| panic!("README's table has no column {title}: {head:?}"));
    let mut rights = Vec::new();
    for row in table.skip(1).map(cells) {
        let (resource, operations) = (&row[0], &row[at]);
        let kind = match resource.split_whitespace().next().unwrap() {
            "source" | "topic" | "topics" => Kind::Topic,
            "group" | "groups" => Kind::Group,
            "transactional" => Kind::TransactionalId,
            other => panic!("README's table has rights on {other}"),
        };
        let names: Vec<String> = if resource == "source topics" {
            scene.sources.clone()
        } else {
            let own = if kind == Kind::Topic { &scene.prefix } else { &scene.group };
            resource.split('`').skip(1).step_by(2).map(|name| name.replacen("callbackd", own, 1)).collect()
        };
        assert!(!names.is_empty(), "{resource}");
        for operation in operations.split(',').map(str::trim).filter(|operation| !operation.is_empty()) {
            rights.extend(names.iter().map(|name| Acl {
                kind,
                name: name.clone(),
                prefixed: resource.ends_with("(prefixed)"),
                operation: operation.to_string(),
            }));
        }
    }
    assert!(!rights.is_empty(), "{title}");
    rights
}

fn describe(of: &Acl) -> Acl {
    Acl { operation: "Describe".into(), ..of.clone() }
}

/// Answers 500 to the first attempt at `/once`, else 200.
fn receiver() -> Receiver {
    Receiver::start(|request, nth| match request.path.as_str() {
        "/once" if nth == 1 => Answer::Status(500),
        _ => Answer::Status(200),
    })
}

/// The event that is delivered at once, the one that is delivered by its second attempt, and the one that waits in the replay topic.
fn events() -> [String; 3] {
    [event("ok.example", 1), event("once.example", 2), event("ok.example", 3)]
}

fn prepare(scene: &mut Scene, receiver: &Receiver) {
    let policy = "retry = { delays = [\"300ms\"], attempts = 3, jitter = 0.0 }";
    let once =
        simple_registry(&["once.example"], &receiver.url("/once"), policy).replace("\"rec\"", "\"rec-2\"").replace("\"cb\"", "\"cb-2\"");
    scene.registry = format!("{}\n{once}", simple_registry(&["ok.example"], &receiver.url("/ok"), policy));
}

/// Produces what needs every right of the daemon: a delivery, a requeue, a dead letter, and a record to be replayed.
fn produce(scene: &Scene) {
    let [ok, once, replayed] = events();
    scene.produce(&[ok, once, "not an event".to_string()]);
    scene.producer.send_all(&format!("{}.replay", scene.prefix), &[New::value(replayed)]);
}

/// Waits until all of [`produce`] is settled, and once.
fn settled(scene: &Scene, receiver: &Receiver) {
    let attempts = |body: &str| receiver.requests().iter().filter(|r| r.body == body.as_bytes()).count();
    let [ok, once, replayed] = events();
    await_true("all is settled", SOON, || {
        attempts(&ok) >= 1 && attempts(&once) >= 2 && attempts(&replayed) >= 1 && !scene.dead_letters().is_empty()
    });
    scene.wait_committed_to_the_end();
    assert_eq!((attempts(&once), scene.dead_letters().len()), (2, 1), "neither repeated nor buried twice");
    assert_eq!(scene.dead_letters()[0].value.as_deref(), Some(&b"not an event"[..]));
}

fn succeeds(what: &str, output: &Output) {
    assert!(output.status.success(), "{what}: {}", both(output));
}

/// The whole life with exactly README's rights: topics, daemon, replay, each by its own principal.
fn whole_life(name: &str, door: impl Fn(&Secured, &mut Scene, &str) -> String) {
    let kafka = secured::shared();
    let mut scene = Scene::without_topics(name, &kafka.plain);
    kafka::create_topic(&scene.bootstrap, scene.source(), 2, &[]);
    let receiver = receiver();
    prepare(&mut scene, &receiver);

    let operator = door(kafka, &mut scene, "operator");
    kafka.allow(&operator, &rights(Column::TopicsCreate, &scene));
    succeeds("topics create", &scene.command(&["topics", "create"]));
    succeeds("topics create, again", &scene.command(&["topics", "create"]));

    let archivist = door(kafka, &mut scene, "archivist");
    kafka.allow(&archivist, &rights(Column::TopicsCheck, &scene));
    let checked = scene.command(&["topics", "check"]);
    succeeds("topics check", &checked);
    let said = both(&checked);
    assert!(!said.contains("right") && !said.contains("error:"), "{said}");

    let daemon = door(kafka, &mut scene, "daemon");
    kafka.allow(&daemon, &rights(Column::Run, &scene));
    produce(&scene);
    let mut daemon = scene.launch();
    daemon.wait_ready();
    settled(&scene, &receiver);
    let log = daemon.log();
    assert!(!log.contains("the right ") && !log.contains("AuthorizationFailed"), "{log}");

    let replayer = door(kafka, &mut scene, "nobody");
    kafka.allow(&replayer, &rights(Column::Replay, &scene));
    let dry = scene.command(&["replay", "--dry-run"]);
    succeeds("a dry run", &dry);
    assert!(both(&dry).contains("1 selected"), "{}", both(&dry));
    let replayed = scene.command(&["replay"]);
    succeeds("replay", &replayed);
    assert!(both(&replayed).contains("1 put back"), "{}", both(&replayed));
    await_true("the replayed letter is dead again", SOON, || scene.dead_letters().len() == 2);
    daemon.stop();
    for text in [daemon.log(), both(&checked), both(&replayed)] {
        assert!(!text.contains(PASSWORD), "a password: {text}");
    }
}

#[test]
fn all_works_with_the_rights_of_readme_by_scram_512_and_a_password_from_a_file() {
    whole_life("scram-512", |kafka, scene, who| {
        std::fs::write(scene.dir.join("password"), format!("{PASSWORD}\n")).unwrap();
        kafka.by_scram(scene, "SCRAM-SHA-512", who, "{ file = \"password\" }")
    });
}

#[test]
fn all_works_with_the_rights_of_readme_by_scram_256_and_a_password_from_a_variable() {
    whole_life("scram-256", |kafka, scene, who| {
        scene.environment = vec![("TEST_KAFKA_PASSWORD".into(), PASSWORD.into())];
        kafka.by_scram(scene, "SCRAM-SHA-256", who, "{ env = \"TEST_KAFKA_PASSWORD\" }")
    });
}

#[test]
fn all_works_with_the_rights_of_readme_by_plain_over_tls() {
    whole_life("plain", |kafka, scene, who| kafka.by_scram(scene, "PLAIN", who, &format!("{PASSWORD:?}")));
}

#[test]
fn all_works_with_the_rights_of_readme_by_client_certificate_with_paths_beside_the_configuration() {
    whole_life("certificate", |kafka, scene, who| kafka.by_certificate(scene, &format!("whole-life-{who}")));
}

#[test]
fn a_client_certificate_and_its_key_may_be_given_as_text_from_a_file_and_a_variable() {
    whole_life("certificate-text", |kafka, scene, who| {
        let name = format!("as-text-{who}");
        let (key, certificate, principal) = kafka.certificate(&name);
        std::fs::write(scene.dir.join("client.pem"), certificate).unwrap();
        scene.environment = vec![("TEST_KAFKA_KEY".into(), key)];
        scene.brokers = Some(kafka.certificates.clone());
        scene.kafka = format!(
            "[kafka.properties]\n\"security.protocol\" = \"SSL\"\n\"ssl.ca.location\" = {:?}\n\"ssl.certificate.pem\" = {{ file = \"client.pem\" }}\n\"ssl.key.pem\" = {{ env = \"TEST_KAFKA_KEY\" }}\n",
            kafka.ca
        );
        principal
    });
}

/// A connection that cannot come about: what is wrong with it, and what the messages must say.
fn cannot_connect(name: &str, said: &[&str], spoil: impl Fn(&Secured, &mut Scene)) {
    let kafka = secured::shared();
    let mut scene = Scene::without_topics(name, &kafka.plain);
    kafka::create_topic(&scene.bootstrap, scene.source(), 1, &[]);
    scene.registry = simple_registry(&["ok.example"], "https://shop.example/cb", "");
    scene.create_topics();
    spoil(kafka, &mut scene);
    let asked = scene.brokers.clone().unwrap();

    let checked = scene.command(&["topics", "check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", both(&checked));
    let mut daemon = scene.launch();
    let why = await_some("/readyz says why", SOON, || {
        daemon.readyz().filter(|(status, why)| *status == 503 && said.iter().all(|word| why.contains(word))).map(|(_, why)| why)
    });
    daemon.wait_log("the cause", |line| line.contains("WARN") && line.contains(&asked) && said.iter().all(|word| line.contains(word)));
    assert!(daemon.is_running(), "it waits for somebody to mend it");
    let told = both(&checked);
    for word in said.iter().chain(&[asked.as_str(), "callbackd.toml", "[kafka.properties]"]) {
        assert!(told.contains(word), "{word}: {told}");
    }
    daemon.stop();
    for text in [told, daemon.log(), why] {
        assert!(!text.contains(PASSWORD) && !text.contains("wrong-canary"), "a password: {text}");
    }
}

#[test]
fn a_wrong_password_is_told_as_such() {
    cannot_connect("wrong-password", &["uthentication failed", "sasl.password"], |kafka, scene| {
        std::fs::write(scene.dir.join("password"), "wrong-canary").unwrap();
        kafka.by_scram(scene, "SCRAM-SHA-512", "daemon", "{ file = \"password\" }");
    });
}

#[test]
fn an_unknown_authority_is_told_with_where_to_name_it() {
    cannot_connect("unknown-authority", &["certificate", "verif", "ssl.ca.location"], |kafka, scene| {
        kafka.by_scram(scene, "SCRAM-SHA-512", "daemon", &format!("{PASSWORD:?}"));
        std::fs::write(scene.dir.join("other-ca.pem"), authority("strangers").1).unwrap();
        scene.kafka = scene.kafka.replace(&format!("{:?}", kafka.ca), "\"other-ca.pem\"");
    });
}

#[test]
fn a_broker_under_another_name_than_its_certificate_says_is_told_as_such() {
    cannot_connect("wrong-name", &["certificate", "host name in kafka.brokers"], |kafka, scene| {
        kafka.by_certificate(scene, "wrong-name");
        scene.brokers = Some(kafka.certificates.replace("localhost", "127.0.0.1"));
    });
}

#[test]
fn a_client_without_a_certificate_is_told_that_one_is_wanted() {
    cannot_connect("no-certificate", &["certificate", "ssl.certificate.location"], |kafka, scene| {
        kafka.by_certificate(scene, "no-certificate");
        scene.kafka = scene
            .kafka
            .lines()
            .filter(|line| !line.contains("ssl.key") && !line.contains("ssl.certificate"))
            .collect::<Vec<_>>()
            .join("\n");
    });
}

#[test]
fn a_plain_client_at_a_door_for_tls_is_told_which_property_to_look_at() {
    cannot_connect("plain-client", &["security.protocol"], |kafka, scene| {
        scene.brokers = Some(kafka.scram.clone());
    });
}

#[test]
fn a_tls_client_at_a_plain_door_is_told_which_property_to_look_at() {
    cannot_connect("tls-client", &["security.protocol"], |kafka, scene| {
        kafka.by_certificate(scene, "tls-client");
        scene.brokers = Some(kafka.plain.clone());
    });
}

/// What the daemon does without a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// Warns, and works.
    Warns,
    /// Ends with exit code 78.
    Ends,
    /// Runs, is not ready and says so in `/readyz`; goes on by itself when the right is granted.
    Waits,
    /// Runs, says so as an error; goes on by itself when the right is granted.
    Lacks,
    /// The partition of the record that needs the right stops, and says so; a restart goes on.
    Stops,
}

/// Each of README's rights of `run`, left out alone; the second time with Describe on the same, which operators often grant to all.
fn without(right: &Acl, scene: &Scene, described: bool) -> Without {
    let is = |name: &str| right.name == name;
    let (tiers, dead) = (format!("{}.retry.", scene.prefix), scene.dead_letter_topic());
    match (right.kind, right.operation.as_str()) {
        (Kind::Topic, "DescribeConfigs") => Without::Warns,
        (Kind::Topic, "Read") if is(scene.source()) && !described => Without::Waits,
        (Kind::Topic, "Read") if is(scene.source()) || is(&tiers) || described => Without::Lacks,
        (Kind::Topic, "Read") => Without::Ends,
        (Kind::Topic, "Write") if is(&tiers) || described => Without::Stops,
        (Kind::Topic, "Write") if is(&dead) => Without::Ends,
        (Kind::Group, "Read") => Without::Waits,
        other => panic!("README's table has a right that this test knows nothing of: {other:?} on {}", right.name),
    }
}

/// Runs the daemon with all of README's rights but one, until it has said which; then grants it, and all is settled.
fn one_right_less(kind: Kind, resource: &str, operation: &str, described: bool) {
    let kafka = secured::shared();
    let tag = resource.trim_matches('.').replace(['.', ' '], "-");
    let name = format!("less-{tag}-{}{}", operation.to_lowercase(), if described { "-described" } else { "" });
    let mut scene = Scene::without_topics(&name, &kafka.plain);
    kafka::create_topic(&scene.bootstrap, scene.source(), 1, &[]);
    let receiver = receiver();
    prepare(&mut scene, &receiver);
    scene.create_topics();
    let principal = kafka.by_certificate(&mut scene, &name);
    let resource = match resource {
        "source" => scene.source().to_string(),
        ours if kind == Kind::Topic => format!("{}{ours}", scene.prefix),
        ours => format!("{}{ours}", scene.group),
    };
    let all = rights(Column::Run, &scene);
    let (missing, mut granted): (Vec<Acl>, Vec<Acl>) =
        all.into_iter().partition(|right| right.kind == kind && right.name == resource && right.operation == operation);
    let [right] = &missing[..] else { panic!("README does not list {operation} on {resource} once: {missing:?}") };
    if described {
        granted.push(describe(right));
    }
    kafka.allow(&principal, &granted);
    produce(&scene);

    let named = |text: &str| text.contains("right") && text.contains(operation) && text.contains(&resource) && text.contains("missing");
    let mut daemon = scene.launch();
    match without(right, &scene, described) {
        Without::Warns => {
            daemon.wait_ready();
            daemon.wait_log("the right", |line| line.contains("WARN") && named(line));
        }
        Without::Ends => {
            assert_eq!(daemon.wait_exit(SOON), 78, "{}", daemon.log());
            let log = daemon.log();
            assert!(log.lines().any(|line| line.contains("error") && named(line) && line.contains("kafka-acls.sh")), "{log}");
            assert_eq!(receiver.count(), 0);
            kafka.allow(&principal, &missing);
            daemon = scene.launch();
        }
        Without::Waits => {
            await_some("/readyz names the right", SOON, || daemon.readyz().filter(|(status, why)| *status == 503 && named(why)));
            daemon.wait_log("the right", |line| named(line) && line.contains("kafka-acls.sh"));
            assert!(daemon.is_running(), "{}", daemon.log());
            kafka.allow(&principal, &missing);
        }
        Without::Lacks => {
            daemon.wait_log("the right", |line| line.contains("ERROR") && named(line) && line.contains("kafka-acls.sh"));
            assert!(daemon.is_running(), "{}", daemon.log());
            kafka.allow(&principal, &missing);
        }
        Without::Stops => {
            daemon.wait_log("the right", |line| {
                line.contains("ERROR") && line.contains("partition stopped") && named(line) && line.contains("kafka-acls.sh")
            });
            daemon.wait_metric("callbackd_partitions_stopped", &[], 1.0);
            assert!(!scene.committed_to_the_end(), "never past what could not be appended");
            daemon.stop();
            assert!(!scene.committed_to_the_end(), "nor at the end");
            kafka.allow(&principal, &missing);
            daemon = scene.launch();
        }
    }
    daemon.wait_ready();
    settled(&scene, &receiver);
    daemon.stop();
}

#[test]
fn without_read_on_a_source_topic_it_is_not_ready_and_names_the_right() {
    one_right_less(Kind::Topic, "source", "Read", false);
}

#[test]
fn without_read_on_a_source_topic_that_it_may_see_it_names_the_right() {
    one_right_less(Kind::Topic, "source", "Read", true);
}

#[test]
fn without_describe_configs_on_a_source_topic_it_warns_and_works() {
    one_right_less(Kind::Topic, "source", "DescribeConfigs", false);
}

#[test]
fn without_read_on_tiers_it_names_the_right_and_retries_wait() {
    one_right_less(Kind::Topic, ".retry.", "Read", false);
}

#[test]
fn without_write_on_tiers_the_partition_of_the_failed_callback_stops_and_names_the_right() {
    one_right_less(Kind::Topic, ".retry.", "Write", false);
}

#[test]
fn without_describe_configs_on_tiers_it_warns_and_works() {
    one_right_less(Kind::Topic, ".retry.", "DescribeConfigs", false);
}

#[test]
fn without_read_on_the_replay_topic_it_ends_with_78_and_names_the_right() {
    one_right_less(Kind::Topic, ".replay", "Read", false);
}

#[test]
fn without_read_on_a_replay_topic_that_it_may_see_it_names_the_right() {
    one_right_less(Kind::Topic, ".replay", "Read", true);
}

#[test]
fn without_describe_configs_on_the_replay_topic_it_warns_and_works() {
    one_right_less(Kind::Topic, ".replay", "DescribeConfigs", false);
}

#[test]
fn without_write_on_the_dead_letter_topic_it_ends_with_78_and_names_the_right() {
    one_right_less(Kind::Topic, ".dead-letter", "Write", false);
}

#[test]
fn without_write_on_a_dead_letter_topic_that_it_may_see_the_partition_stops_and_names_the_right() {
    one_right_less(Kind::Topic, ".dead-letter", "Write", true);
}

#[test]
fn without_describe_configs_on_the_dead_letter_topic_it_warns_and_works() {
    one_right_less(Kind::Topic, ".dead-letter", "DescribeConfigs", false);
}

#[test]
fn without_its_group_each_class_is_not_ready_and_names_the_right() {
    std::thread::scope(|threads| {
        let classes: Vec<_> = ["", ".retry", ".replay"]
            .into_iter()
            .map(|class| threads.spawn(move || one_right_less(Kind::Group, class, "Read", false)))
            .collect();
        classes.into_iter().for_each(|class| class.join().unwrap());
    });
}

#[test]
fn every_right_of_run_in_readme_has_a_test_here() {
    let scene = Scene::without_topics("table", "127.0.0.1:1");
    let listed = rights(Column::Run, &scene);
    let tried: Vec<(String, &str)> = ["", ".retry", ".replay"]
        .map(|class| (format!("{}{class}", scene.group), "Read"))
        .into_iter()
        .chain(["Read", "DescribeConfigs"].map(|operation| (scene.source().to_string(), operation)))
        .chain(["Read", "Write", "DescribeConfigs"].map(|operation| (format!("{}.retry.", scene.prefix), operation)))
        .chain(["Read", "DescribeConfigs"].map(|operation| (format!("{}.replay", scene.prefix), operation)))
        .chain(["Write", "DescribeConfigs"].map(|operation| (format!("{}.dead-letter", scene.prefix), operation)))
        .collect();
    for right in &listed {
        assert!(tried.iter().any(|(name, operation)| *name == right.name && *operation == right.operation), "{right:?}");
    }
    assert_eq!(listed.len(), tried.len());
}

#[test]
fn without_any_write_the_producer_s_end_names_a_right() {
    let kafka = secured::shared();
    let mut scene = Scene::without_topics("no-write", &kafka.plain);
    kafka::create_topic(&scene.bootstrap, scene.source(), 1, &[]);
    let receiver = receiver();
    prepare(&mut scene, &receiver);
    scene.create_topics();
    let principal = kafka.by_certificate(&mut scene, "no-write");
    let (writes, mut granted): (Vec<Acl>, Vec<Acl>) = rights(Column::Run, &scene).into_iter().partition(|right| right.operation == "Write");
    granted.extend(writes.iter().map(describe));
    kafka.allow(&principal, &granted);
    produce(&scene);
    let mut daemon = scene.launch();
    assert_eq!(daemon.wait_exit(SOON), 1, "{}", daemon.log());
    let (log, dead) = (daemon.log(), scene.dead_letter_topic());
    assert!(log.lines().any(|line| line.contains("the right Write on topic") && line.contains(&dead)), "{log}");
    kafka.allow(&principal, &writes);
    let mut daemon = scene.launch();
    daemon.wait_ready();
    settled(&scene, &receiver);
    daemon.stop();
}

#[test]
fn a_right_that_is_taken_while_it_runs_is_named_and_what_came_meanwhile_is_delivered_after_it_is_back() {
    let kafka = secured::shared();
    let mut scene = Scene::without_topics("taken", &kafka.plain);
    kafka::create_topic(&scene.bootstrap, scene.source(), 1, &[]);
    let receiver = receiver();
    prepare(&mut scene, &receiver);
    scene.create_topics();
    let principal = kafka.by_certificate(&mut scene, "taken");
    let rights = rights(Column::Run, &scene);
    kafka.allow(&principal, &rights);
    let mut daemon: Daemon = scene.launch();
    daemon.wait_ready();
    produce(&scene);
    settled(&scene, &receiver);

    let source = scene.source().to_string();
    let (of_source, _): (Vec<Acl>, Vec<Acl>) = rights.into_iter().partition(|right| right.name == source);
    acls::take(&kafka.plain, &principal, Kind::Topic, &source);
    scene.produce(&[event("ok.example", 4)]);
    daemon.wait_log("the right", |line| line.contains("ERROR") && line.contains(&format!("the right Read on topic {source} is missing")));
    assert!(daemon.is_running());
    kafka.allow(&principal, &of_source);
    let body = event("ok.example", 4).into_bytes();
    receiver.wait("what came meanwhile", SOON, |requests| requests.iter().any(|r| r.body == body));
    scene.wait_committed_to_the_end();
    daemon.stop();
}

/// Of a command: the right left out, whether Describe is granted beside it, and the exit code.
struct Case {
    /// After the prefix or group; `source` for the source topic.
    resource: &'static str,
    operation: &'static str,
    described: bool,
    code: i32,
}

const fn case(resource: &'static str, operation: &'static str, described: bool, code: i32) -> Case {
    Case { resource, operation, described, code }
}

/// Runs `arguments` with each of README's rights for it left out in turn, by principals of their own, against the same topics.
fn command_with_one_right_less(column: Column, name: &str, arguments: &[&str], topics_are_there: bool, cases: &[Case]) {
    let kafka = secured::shared();
    let whole = Scene::without_topics(name, &kafka.plain);
    let mut tried = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let mut scene = Scene::without_topics(&format!("{name}-{n}"), &kafka.plain);
        kafka::create_topic(&scene.bootstrap, scene.source(), 1, &[]);
        scene.registry = simple_registry(&["ok.example"], "https://shop.example/cb", "");
        if topics_are_there {
            scene.create_topics();
            scene.producer.send_all(&scene.dead_letter_topic(), &[New::value("{}").header("callbackd-reason", "undecodable")]);
        }
        let principal = kafka.by_certificate(&mut scene, &format!("{name}-{n}"));
        let full = |scene: &Scene, kind| match (case.resource, kind) {
            ("source", _) => scene.source().to_string(),
            (ours, Kind::Topic) => format!("{}{ours}", scene.prefix),
            (ours, Kind::Group | Kind::TransactionalId) => format!("{}{ours}", scene.group),
        };
        let all = rights(column, &scene);
        let (missing, mut granted): (Vec<Acl>, Vec<Acl>) =
            all.into_iter().partition(|right| right.name == full(&scene, right.kind) && right.operation == case.operation);
        let [right] = &missing[..] else { panic!("{} on {} is not listed once: {missing:?}", case.operation, case.resource) };
        if case.described {
            granted.push(describe(right));
        }
        kafka.allow(&principal, &granted);
        let done = scene.command(arguments);
        let (what, said) = (format!("without {} on {}", case.operation, right.name), both(&done));
        assert_eq!(done.status.code(), Some(case.code), "{what}: {said}");
        assert!(
            said.lines().any(|line| line.contains(case.operation) && line.contains(&right.name) && line.contains("right")),
            "{what}: {said}"
        );
        assert!(said.contains("kafka-acls.sh") && said.contains(&format!("--operation {}", case.operation)), "{what}: {said}");

        kafka.allow(&principal, &missing);
        let done = scene.command(arguments);
        assert!(done.status.success(), "with it again: {}", both(&done));
        assert!(!both(&done).contains("kafka-acls.sh"), "with it again: {}", both(&done));
        tried.push((full(&whole, right.kind), case.operation));
    }
    for right in rights(column, &whole) {
        assert!(tried.iter().any(|(name, operation)| *name == right.name && *operation == right.operation), "not tried: {right:?}");
    }
}

#[test]
fn topics_check_names_each_right_that_it_lacks() {
    command_with_one_right_less(
        Column::TopicsCheck,
        "check",
        &["topics", "check"],
        true,
        &[
            case("source", "Describe", false, 0),
            case("source", "DescribeConfigs", false, 0),
            case(".retry.", "Describe", false, 78),
            case(".retry.", "DescribeConfigs", false, 0),
            case(".replay", "Describe", false, 78),
            case(".replay", "DescribeConfigs", false, 0),
            case(".dead-letter", "Describe", false, 78),
            case(".dead-letter", "DescribeConfigs", false, 0),
        ],
    );
}

#[test]
fn topics_create_names_each_right_that_it_lacks() {
    command_with_one_right_less(
        Column::TopicsCreate,
        "create",
        &["topics", "create"],
        false,
        &[
            case("source", "Describe", false, 1),
            case("source", "DescribeConfigs", false, 1),
            case(".retry.", "Create", false, 1),
            case(".retry.", "Describe", false, 1),
            case(".replay", "Create", false, 1),
            case(".replay", "Describe", false, 1),
            case(".dead-letter", "Create", false, 1),
            case(".dead-letter", "Describe", false, 1),
        ],
    );
}

#[test]
fn replay_names_each_right_that_it_lacks() {
    command_with_one_right_less(
        Column::Replay,
        "replay",
        &["replay"],
        true,
        &[
            case(".replay", "Write", false, 1),
            case(".replay", "Write", true, 1),
            case(".dead-letter", "Read", false, 1),
            case(".dead-letter", "Read", true, 1),
            case(".replay-job.", "Read", false, 1),
            case(".replay-job.", "Read", true, 1),
            case(".replay-job.", "Write", false, 1),
            case(".replay-job.", "Write", true, 1),
        ],
    );
}
