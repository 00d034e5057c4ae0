//! `callbackd check`: every problem at once, with file, line and key; exit 78. Usage errors: exit 2.

use crate::harness::scene::{both, command};
use std::path::{Path, PathBuf};

fn dir(name: &str) -> PathBuf {
    let dir = crate::harness::processes::run_dir().join(format!("check-{name}"));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

const GOOD_CONFIG: &str = r#"[kafka]
brokers = ["127.0.0.1:9092"]
group = "callbackd"
source_topics = ["recording.completed"]
topic_prefix = "callbackd"
[registry]
file = "registry.toml"
"#;

const GOOD_REGISTRY: &str = r#"[[recording_templates]]
name = "rec"
formats = ["mp4"]
[[callback_templates]]
name = "shop"
urls = { recording_file = "https://shop.example/cb" }
[[domains]]
name = "push.shop.example"
[[bindings]]
domain = "push.shop.example"
recording_template = "rec"
callback_template = "shop"
"#;

/// Runs `check` on these texts; the exit code and everything it printed.
fn check(dir: &Path, config: &str, registry: &str) -> (Option<i32>, String) {
    std::fs::write(dir.join("callbackd.toml"), config).unwrap();
    std::fs::write(dir.join("registry.toml"), registry).unwrap();
    let done = command(&["check", "--config", &dir.join("callbackd.toml").to_string_lossy()]);
    (done.status.code(), both(&done))
}

/// Line number of the first line of `text` that holds `part`, from 1.
fn line_of(text: &str, part: &str) -> usize {
    1 + text.lines().position(|l| l.contains(part)).unwrap_or_else(|| panic!("{part} is in no line"))
}

/// Each (text in the file, key in the message) must be reported with the file's name and the text's line.
fn assert_reported(output: &str, file: &str, text: &str, problems: &[(&str, &str)]) {
    let missing: Vec<String> = problems
        .iter()
        .filter_map(|(part, key)| {
            let place = format!("{file}:{}", line_of(text, part));
            let found = output.lines().any(|l| {
                l.contains(key) && l.find(&place).is_some_and(|at| !l[at + place.len()..].starts_with(|c: char| c.is_ascii_digit()))
            });
            (!found).then(|| format!("no line with {place} and {key}"))
        })
        .collect();
    assert!(missing.is_empty(), "{}\nin:\n{output}", missing.join("\n"));
}

#[test]
fn a_good_configuration_passes_and_print_shows_what_is_in_force() {
    let dir = dir("good");
    let (code, output) = check(&dir, GOOD_CONFIG, GOOD_REGISTRY);
    assert_eq!(code, Some(0), "{output}");
    let printed = command(&["check", "--print", "--config", &dir.join("callbackd.toml").to_string_lossy()]);
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(printed.status.success() && text.contains("recording.completed") && text.contains("25s"), "{}", both(&printed));
}

#[test]
fn all_problems_of_the_configuration_are_told_at_once() {
    let config = r#"colour = "blue"
[kafka]
brokers = ["127.0.0.1:9092"]
group = 5
source_topics = ["recording.completed", "callbackd.mine"]
topic_prefix = "callbackd"
[kafka.properties]
"enable.auto.commit" = "true"
"group.id" = "another"
[registry]
file = "registry.toml"
topic = true
[delivery]
max_in_flight = 0
delay_tiers = ["5s", "5 parsecs"]
shade = "green"
drain_timeout = "-1s"
[egress]
allow_networks = ["10.0.0.0/33"]
ca_file = "broken.pem"
[metrics]
listen = "everywhere"
[log]
format = "xml"
"#;
    let dir = dir("all");
    std::fs::write(dir.join("broken.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").unwrap();
    let (code, output) = check(&dir, config, GOOD_REGISTRY);
    assert_eq!(code, Some(78), "{output}");
    // The same before anything is waited for or joined.
    let run = command(&["run", "--config", &dir.join("callbackd.toml").to_string_lossy()]);
    assert_eq!(run.status.code(), Some(78), "{}", both(&run));
    assert_reported(
        &output,
        "callbackd.toml",
        config,
        &[
            ("colour", "colour"),
            ("group = 5", "group"),
            ("callbackd.mine", "source_topics"),
            ("enable.auto.commit", "enable.auto.commit"),
            ("\"group.id\"", "group.id"),
            ("max_in_flight", "max_in_flight"),
            ("delay_tiers", "delay_tiers"),
            ("shade", "shade"),
            ("drain_timeout", "drain_timeout"),
            ("allow_networks", "allow_networks"),
            ("broken.pem", "ca_file"),
            ("topic = true", "registry.topic"),
            ("everywhere", "listen"),
            ("xml", "format"),
        ],
    );
}

#[test]
fn all_problems_of_the_registry_are_told_at_once() {
    let registry = r#"[[recording_templates]]
name = "rec"
formats = ["mp4", "ogg"]
[[callback_templates]]
name = "shop"
urls = { recording_file = "ftp://shop.example/cb" }
timeout = "10m"
[[callback_templates]]
name = "bad policy"
policy = "mine"
urls = { recording_file = "https://shop.example/cb" }
retry = { attempts = 0 }
[[callback_templates]]
name = "no-secret"
urls = { recording_file = "https://shop.example/cb" }
keys = [ { id = "a", file = "no-such-key-file" } ]
headers = { "webhook-id" = "mine" }
[[domains]]
name = "push.shop.example"
account = "nobody"
[[domains]]
name = "PUSH.shop.example"
[[bindings]]
domain = "push.shop.example"
callback_template = "none-such"
[[bindings]]
domain = "unknown.example"
callback_template = "shop"
hue = 3
"#;
    let (code, output) = check(&dir("registry"), GOOD_CONFIG, registry);
    assert_eq!(code, Some(78), "{output}");
    assert_reported(
        &output,
        "registry.toml",
        registry,
        &[
            ("ogg", "formats"),
            ("ftp://", "recording_file"),
            ("timeout = \"10m\"", "timeout"),
            ("bad policy", "name"),
            ("policy = \"mine\"", "policy"),
            ("attempts = 0", "attempts"),
            ("no-such-key-file", "file"),
            ("\"webhook-id\"", "webhook-id"),
            ("account = \"nobody\"", "account"),
            ("PUSH.shop.example", "name"),
            ("none-such", "callback_template"),
            ("unknown.example", "domain"),
            ("hue = 3", "hue"),
        ],
    );
}

#[test]
fn problems_of_both_files_are_told_in_one_run() {
    let config = GOOD_CONFIG.replace("group = \"callbackd\"", "group = 5");
    let registry = GOOD_REGISTRY.replace("mp4", "ogg");
    let (code, output) = check(&dir("both"), &config, &registry);
    assert_eq!(code, Some(78), "{output}");
    assert_reported(&output, "callbackd.toml", &config, &[("group = 5", "group")]);
    assert_reported(&output, "registry.toml", &registry, &[("ogg", "formats")]);
}

#[test]
fn two_bindings_that_overlap_in_time_are_an_error_that_names_both() {
    let registry = format!(
        "{GOOD_REGISTRY}from = 2026-01-01T00:00:00Z\n[[bindings]]\ndomain = \"push.shop.example\" # the second\ncallback_template = \"shop\"\nfrom = 2026-06-01T00:00:00Z\n"
    );
    let (code, output) = check(&dir("overlap"), GOOD_CONFIG, &registry);
    assert_eq!(code, Some(78), "{output}");
    let second = line_of(&registry, "# the second") - 1;
    let first = line_of(&registry, "[[bindings]]");
    let named =
        |line: usize| (line..line + 3).any(|l| output.contains(&format!("registry.toml:{l}")) || output.contains(&format!("line {l}")));
    assert!(named(first) && named(second), "lines {first} and {second}: {output}");
}

#[test]
fn other_ways_to_be_wrong_end_with_their_exit_code_and_a_hint() {
    let dir = dir("others");
    std::fs::write(dir.join("broken.toml"), "[kafka]\nbrokers = [\"127.0.0.1:9092\"\ngroup = 1\n").unwrap();
    std::fs::write(dir.join("no-registry.toml"), GOOD_CONFIG.replace("registry.toml", "nowhere.toml")).unwrap();
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (absent, broken, no_registry) = (path("absent.toml"), path("broken.toml"), path("no-registry.toml"));
    let table: &[(&[&str], i32, &str)] = &[
        (&["check", "--config", &absent], 78, "absent.toml"),
        (&["check", "--config", &broken], 78, "broken.toml:"),
        (&["check", "--config", &no_registry], 78, "nowhere.toml"),
        (&["run", "--config", &absent], 78, "absent.toml"),
        (&["run", "--config", &broken], 78, "broken.toml:"),
        (&["replay", "--config", &absent], 78, "absent.toml"),
        (&["topics", "create", "--config", &absent], 78, "absent.toml"),
        (&["dance"], 2, "dance"),
        (&["run", "--colour", "blue"], 2, "--colour"),
        (&["topics"], 2, ""),
        (&["--help"], 0, "run"),
        (&["run", "--help"], 0, "callbackd run"),
        (&["check", "--help"], 0, "callbackd check"),
        (&["replay", "--help"], 0, "callbackd replay"),
        (&["topics", "create", "--help"], 0, "callbackd topics create"),
        (&["healthcheck", "--help"], 0, "callbackd healthcheck"),
        (&["demo", "--help"], 0, "callbackd demo"),
        (&["--version"], 0, "callbackd"),
    ];
    let mut wrong = Vec::new();
    for (arguments, code, word) in table {
        let done = command(arguments);
        let output = both(&done);
        if done.status.code() != Some(*code) || !output.contains(word) {
            wrong.push(format!("{arguments:?}: not {code} with {word:?}: {output}"));
        }
        if output.contains('\u{1b}') {
            wrong.push(format!("{arguments:?}: colours without a terminal: {output:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn variables_override_the_file_and_unknown_ones_are_errors() {
    let dir = dir("variables");
    let (code, output) = check(&dir, GOOD_CONFIG, GOOD_REGISTRY);
    assert_eq!(code, Some(0), "{output}");
    let with = |name: &str, value: &str| {
        let mut command = crate::harness::scene::binary();
        command.args(["check", "--print", "--config", &dir.join("callbackd.toml").to_string_lossy()]).env(name, value).output().unwrap()
    };
    let printed = with("CALLBACKD_KAFKA__GROUP", "from-the-environment");
    assert!(printed.status.success() && String::from_utf8_lossy(&printed.stdout).contains("from-the-environment"), "{}", both(&printed));
    for (name, value) in [("CALLBACKD_KAFKA__NO_SUCH_KEY", "1"), ("CALLBACKD_DELIVERY__MAX_IN_FLIGHT", "many")] {
        let refused = with(name, value);
        assert!(refused.status.code() == Some(78) && both(&refused).contains(name), "{name}: {}", both(&refused));
    }
}

#[test]
fn a_variable_that_is_no_text_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = dir("no-text");
    let (code, output) = check(&dir, GOOD_CONFIG, GOOD_REGISTRY);
    assert_eq!(code, Some(0), "{output}");
    let mut command = crate::harness::scene::binary();
    command.args(["check", "--config", &dir.join("callbackd.toml").to_string_lossy()]);
    let done = command.env("CALLBACKD_KAFKA__GROUP", std::ffi::OsStr::from_bytes(b"canary\xff")).output().unwrap();
    assert_eq!(done.status.code(), Some(78), "{}", both(&done));
    let said = "CALLBACKD_KAFKA__GROUP: kafka.group: the variable is not UTF-8 text";
    assert!(both(&done).contains(said) && !both(&done).contains("canary"), "{}", both(&done));
}

#[test]
fn a_certificate_that_is_not_there_is_told_with_its_file_and_line_and_once() {
    let config = format!("{GOOD_CONFIG}[kafka.properties]\n\"security.protocol\" = \"SSL\"\n\"ssl.ca.location\" = \"nope.pem\"\n");
    let (code, output) = check(&dir("no-ca"), &config, GOOD_REGISTRY);
    assert_eq!(code, Some(78), "{output}");
    assert_reported(&output, "callbackd.toml", &config, &[("ssl.ca.location", "nope.pem cannot be read: No such file")]);
    assert!(!output.contains("librdkafka"), "{output}");
}

#[test]
fn what_print_prints_reads_back_from_beside_the_configuration() {
    let dir = dir("reads-back");
    let (code, output) = check(&dir, GOOD_CONFIG, GOOD_REGISTRY);
    assert_eq!(code, Some(0), "{output}");
    // By a relative path, as people type it.
    let mut command = crate::harness::scene::binary();
    command.current_dir(dir.parent().unwrap());
    let name = Path::new(dir.file_name().unwrap());
    let printed = command.args(["check", "--print", "--config"]).arg(name.join("callbackd.toml")).output().unwrap();
    assert_eq!(printed.status.code(), Some(0), "{}", both(&printed));
    std::fs::write(dir.join("printed.toml"), &printed.stdout).unwrap();
    let mut command = crate::harness::scene::binary();
    command.current_dir(dir.parent().unwrap());
    let again = command.args(["check", "--config"]).arg(name.join("printed.toml")).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", both(&again));
}
