use super::*;
use std::path::PathBuf;
use std::time::Duration;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().copied().collect()
}

fn settings(text: &str, variables: &[(&str, &str)]) -> Settings {
    parse(Path::new("/etc/c.toml"), text, &environment(variables)).unwrap_or_else(|problems| panic!("{problems:?}")).settings
}

fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    parse(Path::new("c.toml"), text, &environment(variables)).err().unwrap_or_default().iter().map(Problem::to_string).collect()
}

const FULL: &str = r#"
[kafka]
brokers       = ["127.0.0.1:9092", "[::1]:9093"]
group         = "g"
source_topics = ["recording.completed", "callbackd-recordings"]
topic_prefix  = "callbackd"
[kafka.properties]
"security.protocol" = "SASL_SSL"
"sasl.password"     = { env = "KAFKA_PASSWORD" }
"ssl.key.pem"       = "canary-pem"
"session.timeout.ms" = 10000
"socket.keepalive.enable" = true
"fetch.queue.backoff.ms" = 10

[registry]
file = "sub/registry.toml"
templates_per_account = 7

[delivery]
delay_tiers           = ["500ms", "1s"]
max_in_flight         = 10
max_in_flight_bytes   = "2MiB"
endpoint_concurrency  = 3
drain_timeout         = "26s"
revoke_grace          = "4s"
start_from            = "latest"
circuit               = { failures = 6, pause = "6s", max_pause = "11m" }
replay_limit          = 6

[egress]
allow_networks = ["10.20.30.0/16", "fd00::/8"]
allow_names    = [".Svc.Cluster.Local"]
ports = [443, "8000-8999"]
name_servers = ["10.0.0.2", "[::1]:5353"]

[metrics]
listen = "0.0.0.0:1"

[admin]
listen = "127.0.0.1:2"
tokens = [{ name = "ops", role = "operate", sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }]

[log]
level = "debug"
format = "json"
"#;

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let settings = settings("", &[]);
    assert_eq!(
        effective(&settings),
        r#"[kafka]
brokers = ["127.0.0.1:9092"]
group = "callbackd"
source_topics = ["recording.completed"]
topic_prefix = "callbackd"

[kafka.properties]

[registry]
file = "/etc/registry.toml"
templates_per_account = 50

[delivery]
delay_tiers = ["5s", "1m", "10m", "1h", "6h"]
max_in_flight = 1024
max_in_flight_bytes = "64MiB"
endpoint_concurrency = 32
drain_timeout = "25s"
revoke_grace = "3s"
start_from = "earliest"
circuit = { failures = 5, pause = "5s", max_pause = "10m" }
replay_limit = 5

[egress]
allow_networks = []
allow_names = []
ports = []
name_servers = []

[metrics]
listen = "0.0.0.0:9464"

[admin]
listen = "127.0.0.1:9465"
tokens = []

[log]
level = "info"
format = "auto"
"#
    );
}

#[test]
fn every_key_is_read_and_the_effective_configuration_shows_it_redacted() {
    let settings = settings(FULL, &[("KAFKA_PASSWORD", "canary-password")]);
    assert_eq!(settings.kafka.bootstrap_servers(), "127.0.0.1:9092,[::1]:9093");
    let properties: Vec<(&str, &str)> = settings.kafka.properties.iter().map(|p| (p.name.as_str(), p.value.expose())).collect();
    assert_eq!(
        properties,
        [
            ("fetch.queue.backoff.ms", "10"),
            ("sasl.password", "canary-password"),
            ("security.protocol", "SASL_SSL"),
            ("session.timeout.ms", "10000"),
            ("socket.keepalive.enable", "true"),
            ("ssl.key.pem", "canary-pem"),
        ]
    );
    assert_eq!(settings.registry.file, PathBuf::from("/etc/sub/registry.toml"));
    assert_eq!(settings.delivery.tiers.smallest().delay, Duration::from_millis(500));
    assert_eq!(settings.egress.addresses.allow_names, ["svc.cluster.local"]);
    assert_eq!(settings.egress.addresses.ports, [443..=443, 8000..=8999]);
    assert_eq!(settings.egress.name_servers, ["10.0.0.2:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    assert_eq!(settings.admin.tokens[0].sha256[0], 0x9f);
    let shown = effective(&settings);
    let debug = format!("{settings:?}");
    assert!(!shown.contains("canary") && !debug.contains("canary") && !shown.contains("9f86"), "{shown}\n{debug}");
    for line in [
        "\"sasl.password\" = \"[redacted]\"",
        "\"ssl.key.pem\" = \"[redacted]\"",
        "\"security.protocol\" = \"SASL_SSL\"",
        "delay_tiers = [\"500ms\", \"1s\"]",
        "ports = [\"443\", \"8000-8999\"]",
        "name_servers = [\"10.0.0.2:53\", \"[::1]:5353\"]",
        "max_in_flight_bytes = \"2MiB\"",
        "start_from = \"latest\"",
        "circuit = { failures = 6, pause = \"6s\", max_pause = \"11m\" }",
        "allow_networks = [\"10.20.0.0/16\", \"fd00::/8\"]",
        "templates_per_account = 7",
        "level = \"debug\"",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    assert!(toml::from_str::<toml::Table>(&shown).is_ok());
}

#[test]
fn variables_override_the_file_and_are_read_as_toml_where_that_is_possible() {
    let settings = settings(
        "[kafka]\ngroup = 'g'\n[delivery]\nmax_in_flight = 10\ncircuit = { failures = 6 }",
        &[
            ("CALLBACKD_KAFKA__GROUP", "2026"),
            ("CALLBACKD_KAFKA__BROKERS", r#"["a:1", "b:2"]"#),
            ("CALLBACKD_KAFKA__SOURCE_TOPICS", "one, two"),
            ("CALLBACKD_KAFKA__PROPERTIES__SASL_PASSWORD", "12345"),
            ("CALLBACKD_KAFKA__PROPERTIES__SASL_USERNAME", "me"),
            ("CALLBACKD_DELIVERY__MAX_IN_FLIGHT", "99"),
            ("CALLBACKD_DELIVERY__DRAIN_TIMEOUT", "7s"),
            ("CALLBACKD_DELIVERY__MAX_IN_FLIGHT_BYTES", "\"3MiB\""),
            ("CALLBACKD_DELIVERY__CIRCUIT__PAUSE", "2s"),
            ("CALLBACKD_REGISTRY__FILE", "/etc/sub/other.toml"),
            ("CALLBACKD_PORT", "tcp://10.0.0.1:80"),
            ("CALLBACKD_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("OTHER__THING", "1"),
        ],
    );
    assert_eq!(settings.kafka.group, "2026", "a variable's text is a string where one is expected");
    assert_eq!(settings.kafka.brokers, ["a:1", "b:2"]);
    assert_eq!(settings.kafka.source_topics, ["one", "two"]);
    assert_eq!(settings.kafka.properties[0].value.expose(), "12345");
    assert!(matches!(settings.kafka.properties[0].value, PropertyValue::Secret(_)));
    assert_eq!((settings.delivery.max_in_flight, settings.delivery.max_in_flight_bytes), (99, 3 << 20));
    assert_eq!(settings.delivery.drain_timeout, Duration::from_secs(7));
    assert_eq!(settings.delivery.circuit.failures, 6, "the rest of the file's table stays");
    assert_eq!(settings.delivery.circuit.pause, Duration::from_secs(2));
    assert_eq!(settings.registry.file, PathBuf::from("/etc/sub/other.toml"));
}

#[test]
fn problems_in_variables_name_the_variable() {
    let variables = [
        ("CALLBACKD_KAFKA__GRUOP", "g"),
        ("CALLBACKD_DELIVERY__MAX_IN_FLIGHT", "many"),
        ("CALLBACKD_KAFKA__GROUP__X", "g"),
        ("CALLBACKD_NOSUCH__KEY", "1"),
    ];
    assert_eq!(
        problems("[kafka]\ngroup = 'g'", &variables),
        [
            "CALLBACKD_DELIVERY__MAX_IN_FLIGHT: delivery.max_in_flight: expected an integer, found a string",
            "CALLBACKD_KAFKA__GROUP__X: kafka.group.x: a level of its name is a value, not a table: mend what stands between the underscores",
            "CALLBACKD_KAFKA__GRUOP: kafka.gruop: unknown key; known here: brokers, group, properties, source_topics, topic_prefix",
            "CALLBACKD_NOSUCH__KEY: nosuch: unknown key; known here: admin, delivery, egress, kafka, log, metrics, registry",
        ]
    );
    let loaded = parse(Path::new("c.toml"), "", &environment(&[("CALLBACKD_KAFKA_GROUP", "g")])).unwrap();
    assert_eq!(loaded.warnings, ["CALLBACKD_KAFKA_GROUP: is not read; levels have two underscores between them: CALLBACKD_KAFKA__GROUP"]);
}

#[test]
fn each_mistake_is_told_with_file_line_and_key() {
    let table: &[(&str, &[&str])] = &[
        (
            "[kafka]\nbroker = 'a:1'",
            &["c.toml:2: kafka.broker: unknown key; known here: brokers, group, properties, source_topics, topic_prefix"],
        ),
        ("[kafka]\nbrokers = 'a:1'", &["c.toml:2: kafka.brokers: expected a list, found a string"]),
        ("[kafka]\nbrokers = []", &["c.toml:2: kafka.brokers: list at least one broker"]),
        ("[kafka]\nbrokers = ['a']", &["c.toml:2: kafka.brokers[0]: \"a\" is not host:port, such as \"kafka-1.example:9092\""]),
        ("[kafka]\nbrokers = [\n  'a:1',\n  2,\n]", &["c.toml:4: kafka.brokers[1]: expected a string, found an integer"]),
        ("[kafka]\ngroup = ''", &["c.toml:2: kafka.group: expected 1 to 200 bytes without white space"]),
        ("[kafka]\ntopic_prefix = 'a/b'", &["c.toml:2: kafka.topic_prefix: expected 1 to 200 letters, digits, `.`, `_` or `-`"]),
        ("[kafka]\nsource_topics = []", &["c.toml:2: kafka.source_topics: list at least one topic"]),
        (
            "[kafka]\nsource_topics = ['^re.*']",
            &["c.toml:2: kafka.source_topics[0]: \"^re.*\" is not a topic name: 1 to 249 letters, digits, `.`, `_` or `-`"],
        ),
        (
            "[kafka]\nsource_topics = ['a', 'callbackd.replay']",
            &[
                "c.toml:2: kafka.source_topics[1]: \"callbackd.replay\" is under our own prefix \"callbackd\": name a topic that upstream writes, or choose another kafka.topic_prefix",
            ],
        ),
        ("[kafka]\nsource_topics = ['a', 'a']", &["c.toml:2: kafka.source_topics[1]: \"a\" is listed twice"]),
        (
            "[kafka.properties]\n'acks' = 1",
            &["c.toml:2: kafka.properties.acks: the daemon owns this property: remove it (a requeue must be durable)"],
        ),
        (
            "[kafka.properties]\n'group.id' = 'x'",
            &["c.toml:2: kafka.properties.\"group.id\": the daemon owns this property: set kafka.group"],
        ),
        (
            "[kafka.properties]\n'fetch.queue.backoff.ms' = 11",
            &[
                "c.toml:2: kafka.properties.\"fetch.queue.backoff.ms\": must be from 0 to 10: a longer rest delays every record of a full partition",
            ],
        ),
        (
            "[kafka.properties]\n'message.max.bytes' = 1000000",
            &[
                "c.toml:2: kafka.properties.\"message.max.bytes\": must be from 1114124 to 1000000000: a legal source record with our headers must fit",
            ],
        ),
        (
            "[kafka.properties]\n'queue.buffering.max.kbytes' = '1k'",
            &["c.toml:2: kafka.properties.\"queue.buffering.max.kbytes\": must be a whole number"],
        ),
        (
            "[kafka.properties]\n'ssl.x' = []",
            &[
                "c.toml:2: kafka.properties.\"ssl.x\": expected a string, a number, a boolean or a reference such as { file = \"…\" }, found a list",
            ],
        ),
        (
            "[kafka.properties]\n'sasl.password' = { file = 'no/such' }",
            &[
                "c.toml:2: kafka.properties.\"sasl.password\".file: no/such cannot be read: No such file or directory (os error 2); create it, or mend the path",
            ],
        ),
        (
            "[kafka.properties]\n'sasl.password' = { fil = 'x' }",
            &[
                "c.toml:2: kafka.properties.\"sasl.password\": give exactly one of file, env and value",
                "c.toml:2: kafka.properties.\"sasl.password\".fil: unknown key; known here: env, file, value",
            ],
        ),
        (
            "[kafka.properties]\nssl.ca.location = 'ca.pem'",
            &[
                "c.toml:2: kafka.properties.ssl: the name of a property has dots of its own: put all of it in quotes, as \"ssl.ca.location\"",
            ],
        ),
        (
            "[registry]\ntopic = true",
            &["c.toml:2: registry.topic: this version reads the registry from a file: leave this out, and name the file in registry.file"],
        ),
        ("[registry]\nfile = ''", &["c.toml:2: registry.file: the path is empty: name a file"]),
        ("[registry]\ntemplates_per_account = 0", &["c.toml:2: registry.templates_per_account: must be from 1 to 100000"]),
        ("[delivery]\ndelay_tiers = []", &["c.toml:2: delivery.delay_tiers: at least one delay tier is needed"]),
        (
            "[delivery]\ndelay_tiers = ['1m', '5 parsecs', '60s']",
            &[
                concat!(
                    "c.toml:2: delivery.delay_tiers[1]: \"5 parsecs\" is no delay: write one like \"5s\" or \"10m\", ",
                    "in digits and lower-case letters, from 1 ms to 7 days"
                ),
                "c.toml:2: delivery.delay_tiers[2]: \"60s\" is the same delay as \"1m\" before it: remove one",
            ],
        ),
        ("[delivery]\nmax_in_flight = 0", &["c.toml:2: delivery.max_in_flight: must be from 1 to 100000"]),
        ("[delivery]\nmax_in_flight_bytes = '1KiB'", &["c.toml:2: delivery.max_in_flight_bytes: must be at least 1MiB"]),
        (
            "[delivery]\nmax_in_flight = 8\nendpoint_concurrency = 9",
            &["c.toml:3: delivery.endpoint_concurrency: must not be above max_in_flight (8)"],
        ),
        ("[delivery]\ndrain_timeout = '2h'", &["c.toml:2: delivery.drain_timeout: must be from 0s to 1h"]),
        (
            "[delivery]\nrevoke_grace = 3",
            &["c.toml:2: delivery.revoke_grace: expected a duration such as \"5s\", \"10m\" or \"1h\", found an integer"],
        ),
        ("[delivery]\nstart_from = 'now'", &["c.toml:2: delivery.start_from: must be one of \"earliest\", \"latest\""]),
        (
            "[delivery]\ncircuit = { failures = 0, pause = '1h', max_pause = '1m', extra = 1 }",
            &[
                "c.toml:2: delivery.circuit.extra: unknown key; known here: failures, max_pause, pause",
                "c.toml:2: delivery.circuit.failures: must be from 1 to 1000",
                "c.toml:2: delivery.circuit.max_pause: must not be below pause",
            ],
        ),
        (
            "[egress]\nallow_networks = ['10.0.0.1/33']",
            &["c.toml:2: egress.allow_networks[0]: \"10.0.0.1/33\" is not a network such as \"10.20.0.0/16\""],
        ),
        (
            "[egress]\nallow_names = ['*.x']",
            &["c.toml:2: egress.allow_names[0]: \"*.x\" is not a name suffix such as \"svc.cluster.local\""],
        ),
        (
            "[egress]\nports = [443, 0, '9000-8000', 'all']",
            &[
                "c.toml:2: egress.ports[1]: \"0\" is not a port such as 443, or a range such as \"8000-8999\"",
                "c.toml:2: egress.ports[2]: \"9000-8000\" is not a port such as 443, or a range such as \"8000-8999\"",
                "c.toml:2: egress.ports[3]: \"all\" is not a port such as 443, or a range such as \"8000-8999\"",
            ],
        ),
        (
            "[egress]\nname_servers = ['10.0.0.2', 'dns.example']",
            &["c.toml:2: egress.name_servers[1]: \"dns.example\" is not an address such as \"10.0.0.2\" or \"10.0.0.2:5353\""],
        ),
        (
            "[egress]\nca_file = 'no/such'",
            &["c.toml:2: egress.ca_file: no/such cannot be read: No such file or directory (os error 2); create it, or mend the path"],
        ),
        ("[metrics]\nlisten = 'here'", &["c.toml:2: metrics.listen: \"here\" is not an address and a port such as \"0.0.0.0:9464\""]),
        (
            "[metrics]\nlisten = '127.0.0.1:9465'",
            &["c.toml:1: admin.listen: is the same address as metrics.listen: give each a port of its own"],
        ),
        (
            "[admin]\nlisten = '0.0.0.0:1'",
            &["c.toml:1: admin.tokens: 0.0.0.0:1 is reachable from other machines: list at least one token, or listen on loopback"],
        ),
        (
            "[admin]\ntokens = [{ name = '', role = 'root', sha256 = 'ABC' }, { name = 'a' }]",
            &[
                "c.toml:2: admin.tokens[0].name: expected a name without control characters",
                "c.toml:2: admin.tokens[0].role: must be one of \"read\", \"operate\", \"admin\"",
                "c.toml:2: admin.tokens[0].sha256: expected the token's SHA-256: 64 lower-case hexadecimal digits",
                "c.toml:2: admin.tokens[1].role: missing",
                "c.toml:2: admin.tokens[1].sha256: missing",
            ],
        ),
        ("[log]\nlevel = 'loud'", &["c.toml:2: log.level: must be one of \"error\", \"warn\", \"info\", \"debug\", \"trace\""]),
        ("[log]\nformat = 'xml'", &["c.toml:2: log.format: must be one of \"auto\", \"json\", \"pretty\""]),
        ("log = 1", &["c.toml:1: log: expected a table, found an integer"]),
        ("[lgo]", &["c.toml:1: lgo: unknown key; known here: admin, delivery, egress, kafka, log, metrics, registry"]),
        ("[kafka\nx = 1", &["c.toml:1: not TOML: unclosed table, expected `]`"]),
    ];
    for (text, expected) in table {
        assert_eq!(problems(text, &[]), *expected, "{text}");
    }
}

#[test]
fn all_problems_of_a_file_come_at_once_in_the_order_of_its_lines() {
    let text = "[kafka]\ngroup = 1\n\n[delivery]\nmax_in_flight = 'x'\nstart_from = 'y'\n\n[zzz]\n";
    assert_eq!(
        problems(text, &[]),
        [
            "c.toml:2: kafka.group: expected a string, found an integer",
            "c.toml:5: delivery.max_in_flight: expected an integer, found a string",
            "c.toml:6: delivery.start_from: must be one of \"earliest\", \"latest\"",
            "c.toml:8: zzz: unknown key; known here: admin, delivery, egress, kafka, log, metrics, registry",
        ]
    );
}

#[test]
fn every_owned_property_is_refused() {
    for name in [
        "bootstrap.servers",
        "group.id",
        "group.protocol",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "isolation.level",
        "partition.assignment.strategy",
        "acks",
        "enable.idempotence",
        "message.timeout.ms",
        "statistics.interval.ms",
    ] {
        let found = problems(&format!("[kafka.properties]\n'{name}' = 'x'"), &[]);
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("c.toml:2: {}: the daemon owns this property", property_key(name))),
            "{found:?}"
        );
    }
}

#[test]
fn files_of_the_kafka_client_are_relative_to_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/ca.pem"), "").unwrap();
    std::fs::write(folder.path().join("ca.pem"), "").unwrap();
    let of = |name: &str| folder.path().join(name).display().to_string();
    for (given, found) in [
        ("ca.pem", of("ca.pem")),
        ("sub/ca.pem", of("sub/ca.pem")),
        (&*of("ca.pem"), of("ca.pem")),
        ("sub", of("sub")),
        ("probe", "probe".to_owned()),
    ] {
        let text = format!("[kafka.properties]\n'ssl.ca.location' = '{given}'");
        let read = parse(&folder.path().join("c.toml"), &text, &Environment::default()).unwrap().settings;
        assert_eq!(read.kafka.properties[0].value.expose(), found);
        assert!(effective(&read).contains(&format!("\"ssl.ca.location\" = {found:?}")), "{}", effective(&read));
    }
}

#[test]
fn a_file_of_the_kafka_client_that_is_not_there_is_told_in_its_line_whatever_else_is_wrong() {
    let gone = |line: usize, name: &str| {
        let mended = "cannot be read: No such file or directory (os error 2); create it, or mend the path";
        format!("c.toml:{line}: kafka.properties.\"{name}\": no/such {mended}")
    };
    assert_eq!(
        problems("[kafka.properties]\n'acks' = 1\n'ssl.ca.location' = 'no/such'\n'ssl.key.location' = 'no/such'", &[]),
        [
            "c.toml:2: kafka.properties.acks: the daemon owns this property: remove it (a requeue must be durable)".to_owned(),
            gone(3, "ssl.ca.location"),
            gone(4, "ssl.key.location"),
        ]
    );
    assert_eq!(
        problems("[kafka.properties]\n'ssl.key.location' = ''", &[]),
        ["c.toml:2: kafka.properties.\"ssl.key.location\": the path is empty: name a file"]
    );
}

#[cfg(unix)]
#[test]
fn a_private_key_of_the_kafka_client_that_everyone_can_read_is_warned_about_and_a_certificate_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (name, mode, warnings) in [
        ("ssl.key.location", 0o644, 1),
        ("ssl.keystore.location", 0o644, 1),
        ("ssl.key.location", 0o640, 0),
        ("ssl.ca.location", 0o644, 0),
        ("ssl.certificate.location", 0o644, 0),
    ] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let text = format!("[kafka.properties]\n'{name}' = 'file'");
        let loaded = parse(&folder.path().join("c.toml"), &text, &Environment::default()).unwrap();
        assert_eq!(loaded.warnings.len(), warnings, "{name} {mode:o}: {:?}", loaded.warnings);
        assert!(loaded.warnings.iter().all(|warning| warning.contains(":2: ") && warning.contains("chmod o-r")), "{:?}", loaded.warnings);
    }
}

#[cfg(unix)]
#[test]
fn a_password_in_a_configuration_that_everyone_can_read_is_warned_about_and_a_user_name_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    for (line, warnings) in [
        ("'sasl.password' = 'canary'", 1),
        ("'ssl.key.password' = 'canary'", 1),
        ("'ssl.key.pem' = 'canary'", 1),
        ("'sasl.password' = { value = 'canary' }", 1),
        ("'sasl.password' = { env = 'X' }", 0),
        ("'sasl.username' = 'me'", 0),
        ("'client.id' = 'c'", 0),
    ] {
        std::fs::write(&path, format!("[kafka.properties]\n{line}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let loaded = load(&path, &environment(&[("X", "canary")])).unwrap();
        assert_eq!(loaded.warnings.len(), warnings, "{line}: {:?}", loaded.warnings);
        assert!(
            loaded.warnings.iter().all(|told| told.contains(":2: kafka.properties.") && !told.contains("canary")),
            "{:?}",
            loaded.warnings
        );
    }
    // A variable's value stands in no file.
    std::fs::write(&path, "").unwrap();
    let loaded = load(&path, &environment(&[("CALLBACKD_KAFKA__PROPERTIES__SASL_PASSWORD", "canary")])).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_value_of_a_variable_reaches_the_kafka_client_as_it_is() {
    for text in ["1.10", "1_000", "0x10", "1e5", "+5", "2026-01-01", "0o17", "007", "true", "inf"] {
        for name in ["GROUP_INSTANCE_ID", "CLIENT_ID", "SASL_PASSWORD"] {
            let read = settings("", &[(&*format!("CALLBACKD_KAFKA__PROPERTIES__{name}"), text)]);
            assert_eq!(read.kafka.properties[0].value.expose(), text, "{name}");
        }
    }
    let quoted = settings("", &[("CALLBACKD_KAFKA__PROPERTIES__CLIENT_ID", "\"1.10\"")]);
    assert_eq!(quoted.kafka.properties[0].value.expose(), "1.10", "TOML's own quotes are no part of it");
    let listed = settings("", &[("CALLBACKD_KAFKA__SOURCE_TOPICS", "2026"), ("CALLBACKD_EGRESS__PORTS", "\"443,8443\"")]);
    assert_eq!(listed.kafka.source_topics, ["2026"]);
    assert_eq!(listed.egress.addresses.ports, [443..=443, 8443..=8443]);
}

#[test]
fn an_allowed_network_without_effect_or_without_limits_is_warned_about() {
    let text = "[egress]\nallow_networks = ['10.0.0.0/8', '169.254.0.0/16', '0.0.0.0/0']";
    let warnings = parse(Path::new("c.toml"), text, &Environment::default()).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("c.toml:2: egress.allow_networks[1]: 169.254.0.0/16 has no effect: "), "{warnings:?}");
    assert!(warnings[1].starts_with("c.toml:2: egress.allow_networks[2]: 0.0.0.0/0 lets every template reach all"), "{warnings:?}");
}

#[test]
fn a_reference_that_is_written_as_a_level_of_a_variable_is_told_how_to_write_it() {
    let variables = environment(&[("CALLBACKD_KAFKA__PROPERTIES__SASL_PASSWORD__FILE", "/run/secrets/kafka")]);
    let loaded = parse(Path::new("c.toml"), "", &variables).unwrap();
    assert_eq!(
        loaded.property_problem("sasl.password.file", "no such property".into()).to_string(),
        "CALLBACKD_KAFKA__PROPERTIES__SASL_PASSWORD__FILE: kafka.properties.\"sasl.password.file\": no such property; \
         a reference is a value, CALLBACKD_KAFKA__PROPERTIES__SASL_PASSWORD='{ file = \"…\" }'"
    );
}

#[test]
fn paths_are_printed_so_that_they_mean_the_same_wherever_that_is_written() {
    let here = std::env::current_dir().unwrap();
    for (path, text, expected) in [
        ("c/c.toml", "", here.join("c/registry.toml")),
        ("c.toml", "[registry]\nfile = 'r.toml'", here.join("r.toml")),
        ("/etc/c.toml", "[registry]\nfile = 'r.toml'", "/etc/r.toml".into()),
    ] {
        let printed = effective(&parse(Path::new(path), text, &Environment::default()).unwrap().settings);
        let again = parse(Path::new("/elsewhere/c.toml"), &printed, &Environment::default()).unwrap();
        assert_eq!(again.settings.registry.file, expected, "{path}");
    }
}

#[test]
fn only_properties_known_to_be_harmless_are_shown() {
    // (property, whether its value is shown)
    let table = [
        ("security.protocol", true),
        ("sasl.mechanism", true),
        ("client.id", true),
        ("compression.type", true),
        ("session.timeout.ms", true),
        ("fetch.min.bytes", true),
        ("queued.min.messages", true),
        ("socket.keepalive.enable", true),
        ("sasl.username", false),
        ("sasl.password", false),
        ("sasl.passwort", false),
        ("ssl.key.pem", false),
        ("sasl.oauthbearer.config", false),
        ("no.such.thing", false),
    ];
    for (name, shown) in table {
        let settings = settings(&format!("[kafka.properties]\n'{name}' = 'canary'"), &[]);
        assert_eq!(effective(&settings).contains("canary"), shown, "{name}");
        assert_eq!(format!("{settings:?}").contains("canary"), shown, "{name}");
        let referred = self::settings(&format!("[kafka.properties]\n'{name}' = {{ env = 'X' }}"), &[("X", "canary")]);
        assert!(!effective(&referred).contains("canary") && !format!("{referred:?}").contains("canary"), "{name} by reference");
    }
}

#[test]
fn a_problem_of_a_property_names_the_place_where_it_was_written() {
    let text = "[kafka]\ngroup = 'g'\n[kafka.properties]\n\n'sasl.passwort' = 'x'\nacl = 1\n'client.id' = 'c'";
    let variables = environment(&[("CALLBACKD_KAFKA__PROPERTIES__CLIENT_ID", "mine")]);
    let loaded = parse(Path::new("c.toml"), text, &variables).unwrap();
    for (name, expected) in [
        ("sasl.passwort", "c.toml:5: kafka.properties.\"sasl.passwort\": is wrong"),
        ("acl", "c.toml:6: kafka.properties.acl: is wrong"),
        ("client.id", "CALLBACKD_KAFKA__PROPERTIES__CLIENT_ID: kafka.properties.\"client.id\": is wrong"),
        ("", "c.toml:3: kafka.properties: is wrong"),
    ] {
        assert_eq!(loaded.property_problem(name, "is wrong".into()).to_string(), expected);
    }
}

#[test]
fn a_wrong_configuration_still_tells_its_registry_unless_that_is_in_doubt() {
    let table: [(&str, Option<&str>); 10] = [
        ("[kafka]\ngroup = 5", Some("registry.toml")),
        ("log = 1", Some("registry.toml")),
        ("[kafka]\ngroup = 5\n[registry]\nfile = 'r'", Some("r")),
        ("[registry]\nfile = 'r'\ntemplates_per_account = 0", Some("r")),
        ("[registry]\nfile = 'r'\ncolour = 1", Some("r")),
        ("[registry]\nfile = 5", None),
        ("[registry]\nfiel = 'r'", None),
        ("[registry]\nfile = 'r'\ntopic = true", None),
        ("registry = 'r'", None),
        ("[registri]\nfile = 'r'", None),
    ];
    for (text, expected) in table {
        let document = Document::parse(Path::new("c.toml"), text).unwrap();
        let examined = read::read(document, &Environment::default());
        assert!(!examined.problems.is_empty(), "{text}");
        let named = examined.registry_is_known.then_some(examined.loaded.settings.registry.file);
        assert_eq!(named, expected.map(PathBuf::from), "{text}");
    }
}

#[test]
fn a_problem_found_elsewhere_is_put_in_its_line_and_told_once_per_key() {
    let document = Document::parse(Path::new("c.toml"), "[kafka.properties]\n'no.such' = 1\n'acks' = 1\n[log]\nlevel = 1").unwrap();
    let mut examined = read::read(document, &Environment::default());
    for message in ["no such property: librdkafka's CONFIGURATION.md lists them", "again"] {
        examined.add(examined.loaded.property_problem("no.such", message.into()));
    }
    let told: Vec<String> = examined.finish().unwrap_err().iter().map(Problem::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], "c.toml:2: kafka.properties.\"no.such\": no such property: librdkafka's CONFIGURATION.md lists them");
}

#[test]
fn a_larger_message_limit_allows_a_larger_fetch() {
    assert!(problems("[kafka.properties]\n'message.max.bytes' = 20000000\n'fetch.max.bytes' = 20000000", &[]).is_empty());
    assert_eq!(problems("[kafka.properties]\n'fetch.max.bytes' = 20000000", &[]).len(), 1);
}

#[test]
fn a_missing_file_is_one_problem() {
    let found = load(Path::new("no/such.toml"), &Environment::default()).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "no/such.toml: cannot be read: No such file or directory (os error 2); create it, or mend the path");
}

#[test]
fn the_example_that_is_shipped_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/callbackd.toml");
    let loaded = load(&path, &Environment::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.settings.registry.file, path.with_file_name("registry.toml"));
}

#[test]
fn limits_per_process_are_told() {
    assert!(per_process_notes(&settings("", &[]))[0].contains("delivery.max_in_flight = 1024: for each replica"));
}
