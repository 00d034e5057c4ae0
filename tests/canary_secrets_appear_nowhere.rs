//! Secrets planted everywhere they may stand, looked for everywhere they must not come out.

use crate::harness::kafka::{self, Read};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, both, event, simple_registry};
use crate::harness::{SOON, await_some, await_true, http};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::os::unix::process::ExitStatusExt as _;

const KEY: &str = "canaryKEY7h3Kq0Zx9Wv2Lm5";
const SECRET: &str = "canarySECRET8d1Rt6Yp4Nb3Jc";
const HEADER: &str = "canaryHEADER5f9Gs2Ue7Qa1";
const QUERY: &str = "canaryQUERY3k8Vd6Xo2Iz9";
const PASSWORD: &str = "canaryPASSWORD1j7Bh4Mw0Ey";

const CLIENT_CERTIFICATE: &str = r#"client_certificate = { certificate = { file = "client.pem" }, key = { file = "client.key" } }"#;

/// The forms in which a canary may escape.
fn forms(canary: &str) -> Vec<String> {
    let base64 = STANDARD.encode(canary);
    vec![canary.to_string(), base64.trim_end_matches('=').to_string(), hex::encode(canary), format!("{:?}", canary.as_bytes())]
}

/// Panics when `text` holds one of `canaries` in any form.
fn assert_clean(place: &str, text: &str, canaries: &[&str]) {
    for canary in canaries {
        for form in forms(canary) {
            if let Some(at) = text.find(&form) {
                let from = (0..=at.saturating_sub(200)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
                panic!("{place} holds {form}: …{}", &text[from..at + form.len()]);
            }
        }
    }
}

fn shown(record: &Read) -> String {
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or(b"")).into_owned();
    let headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    format!("{} {} {}", text(&record.key), text(&record.value), headers.join("\n"))
}

#[test]
fn canaries_reach_the_receiver_and_nobody_else() {
    let receiver = Receiver::start(|request, _| match request.path.split('?').next().unwrap() {
        "/ok" => Answer::Status(200),
        "/hang" => Answer::Hang,
        "/close" => Answer::Close,
        "/redirect" => Answer::With(307, vec![("location", format!("http://127.0.0.1:1/?{QUERY}"))]),
        _ => Answer::Status(500),
    });
    let mut scene = Scene::new("canary", 1);
    scene.log_level = "trace";
    let identity = rcgen::generate_simple_self_signed(vec!["callbackd.example".to_owned()]).unwrap();
    let private_key = identity.signing_key.serialize_pem();
    std::fs::write(scene.dir.join("client.pem"), identity.cert.pem()).unwrap();
    std::fs::write(scene.dir.join("client.key"), &private_key).unwrap();
    // A line of it: what a message would show.
    let private_key = private_key.lines().nth(1).unwrap();
    let all = [KEY, SECRET, HEADER, QUERY, PASSWORD, private_key];
    for (file, text) in [("key", KEY), ("secret", SECRET), ("header", HEADER), ("password", PASSWORD)] {
        std::fs::write(scene.dir.join(file), format!("{text}\n")).unwrap();
    }
    scene.kafka = "[kafka.properties]\n\"sasl.username\" = \"somebody\"\n\"sasl.password\" = { file = \"password\" }".into();
    let closed = crate::harness::processes::free_port();
    let targets = [
        ("ok.example", receiver.url("/ok")),
        ("fails.example", receiver.url("/fails")),
        ("hangs.example", receiver.url("/hang")),
        ("closes.example", receiver.url("/close")),
        ("redirects.example", receiver.url("/redirect")),
        ("refuses.example", format!("http://127.0.0.1:{closed}/x")),
        ("nowhere.example", "http://no-such-name.invalid/x".to_string()),
        ("no-tls.example", receiver.url("/tls").replace("http:", "https:")),
    ];
    let mut registry = String::from("[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n");
    for (domain, url) in &targets {
        let name = domain.replace('.', "-");
        let identity = if url.starts_with("https") { CLIENT_CERTIFICATE } else { "" };
        registry.push_str(&format!(
            "[[callback_templates]]\nname = {name:?}\nurls = {{ recording_file = \"{url}?token={QUERY}\" }}\nkeys = [{{ id = \"a\", file = \"key\", secret = {{ file = \"secret\" }} }}]\nheaders = {{ \"x-api-key\" = {{ file = \"header\" }} }}\nretry = {{ delays = [\"300ms\"], attempts = 2 }}\ntimeout = \"500ms\"\nconnect_timeout = \"500ms\"\n{identity}\n[[domains]]\nname = {domain:?}\n[[bindings]]\ndomain = {domain:?}\nrecording_template = \"rec\"\ncallback_template = {name:?}\n"
        ));
    }
    scene.registry = registry;
    let mut daemon = scene.start();
    let events: Vec<String> = targets.iter().enumerate().map(|(n, (domain, _))| event(domain, n)).collect();
    scene.produce(&events);
    scene.produce(&["not an event"]);
    await_true("all but one dead-lettered", SOON, || scene.dead_letters().len() == targets.len());

    let delivered = receiver.requests().into_iter().find(|r| r.path.starts_with("/ok")).expect("one is delivered");
    assert_eq!(delivered.header("x-api-key"), Some(HEADER), "the canary is in use");
    assert_eq!(delivered.path, format!("/ok?token={QUERY}"));

    for path in ["/metrics", "/livez", "/readyz"] {
        assert_clean(path, &http::get(daemon.port, path).unwrap().1, &all);
    }
    let mut topics = vec![scene.dead_letter_topic(), format!("{}.replay", scene.prefix)];
    topics.extend(scene.tiers.iter().map(|t| scene.tier_topic(t)));
    for topic in topics {
        for record in kafka::read_all(&scene.bootstrap, &topic) {
            assert_clean(&topic, &shown(&record), &all);
        }
    }
    let send_test = |domain| ["send-test", "--domain", domain];
    let (sent, failed) = (send_test("ok.example"), send_test("refuses.example"));
    for arguments in
        [&["check"][..], &["check", "--print"], &["topics", "check"], &["replay", "--dry-run"], &["healthcheck"], &sent, &failed]
    {
        assert_clean(&arguments.join(" "), &both(&scene.command(arguments)), &all);
    }
    // A reload that is refused, while it runs.
    scene.registry = scene.registry.replace("attempts = 2", "attempts = 0");
    scene.write_registry();
    daemon.wait_loaded(false);
    daemon.stop();
    let log = daemon.log();
    assert!(log.len() > 1000, "there is a log to look at");
    assert_clean("the log", &log, &all);
}

#[test]
fn a_crash_leaves_no_memory_behind() {
    let mut scene = Scene::new("canary-crash", 1);
    scene.limits = "ulimit -c unlimited".to_owned();
    scene.registry =
        simple_registry(&["shop.example"], "https://shop.example/cb", &format!("keys = [{{ id = \"a\", value = \"{KEY}\" }}]"));
    let mut daemon = scene.start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().next(), Some("0"), "whatever it is given");
    daemon.signal("ABRT");
    assert_eq!(daemon.wait_exit(SOON), 128 + 6);
    // A program that takes cores is not asked by the kernel whether there may be one.
    if !std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().starts_with('|') {
        let other = std::process::Command::new("sh").args(["-c", "ulimit -c unlimited; kill -ABRT $$"]).current_dir(&scene.dir).status();
        assert!(other.unwrap().core_dumped(), "this machine writes no core of anybody");
        assert!(!daemon.dumped_core());
    }
}

#[test]
fn messages_about_mistakes_beside_a_secret_do_not_show_it() {
    let mut scene = Scene::without_topics("canary-errors", "127.0.0.1:1");
    let key = |line: &str| simple_registry(&["shop.example"], "https://shop.example/cb", line);
    let table = [
        ("syntax error in the secret's line", key(&format!("keys = [{{ id = \"a\", value = \"{KEY}\" "))),
        ("unknown key beside it", key(&format!("keys = [{{ id = \"a\", value = \"{KEY}\", colour = 1 }}]"))),
        ("two sources", key(&format!("keys = [{{ id = \"a\", value = \"{KEY}\", file = \"nowhere\" }}]"))),
        ("a wrong type around it", key(&format!("keys = {{ id = \"a\", value = \"{KEY}\" }}"))),
        ("the secret where a table belongs", key(&format!("keys = [\"{KEY}\"]"))),
        ("the secret as name of a file", key(&format!("keys = [{{ id = 5, value = \"{KEY}\" }}]"))),
        ("a bad header value", key(&format!("headers = {{ \"x-api-key\" = {{ value = \"{KEY}\\u0000\" }} }}"))),
        ("a header that is not allowed", key(&format!("headers = {{ \"host\" = \"{KEY}\" }}"))),
    ];
    for (what, registry) in table {
        scene.registry = registry;
        let done = scene.command(&["check"]);
        assert_eq!(done.status.code(), Some(78), "{what}: {}", both(&done));
        assert_clean(what, &both(&done), &[KEY]);
    }
    scene.registry = key("");
    for (what, kafka) in [
        ("a password of a wrong type", format!("[kafka.properties]\n\"sasl.password\" = [\"{PASSWORD}\"]")),
        ("a syntax error after a password", format!("[kafka.properties]\n\"sasl.password\" = \"{PASSWORD}")),
        ("a property that does not exist", format!("[kafka.properties]\n\"sasl.passwort\" = \"{PASSWORD}\"")),
    ] {
        scene.kafka = kafka;
        let done = scene.command(&["check"]);
        assert_eq!(done.status.code(), Some(78), "{what}: {}", both(&done));
        assert_clean(what, &both(&done), &[PASSWORD]);
    }
    scene.kafka = format!("[kafka.properties]\n\"sasl.password\" = \"{PASSWORD}\"");
    let printed = scene.command(&["check", "--print"]);
    assert!(printed.status.success(), "{}", both(&printed));
    assert!(String::from_utf8_lossy(&printed.stdout).contains("sasl.password"), "the password is there: {}", both(&printed));
    assert_clean("print", &both(&printed), &[PASSWORD]);
}

#[test]
fn a_secret_that_the_kafka_client_quotes_is_not_told_on() {
    let mut scene = Scene::without_topics("canary-quoted", "127.0.0.1:1");
    scene.registry = simple_registry(&["shop.example"], "https://shop.example/cb", "");
    scene.kafka = format!(
        "[kafka.properties]\n\"security.protocol\" = \"SASL_PLAINTEXT\"\n\"sasl.mechanism\" = \"OAUTHBEARER\"\n\"enable.sasl.oauthbearer.unsecure.jwt\" = \"true\"\n\"sasl.oauthbearer.config\" = \"{PASSWORD} principal=x\"\n"
    );
    let checked = both(&scene.command(&["topics", "check"]));
    assert!(checked.contains("sasl.oauthbearer.config beginning at: [redacted]"), "{checked}");
    let mut daemon = scene.launch();
    let why = await_some("/readyz says why", SOON, || {
        daemon.readyz().filter(|(status, why)| *status == 503 && why.contains("beginning at")).map(|(_, why)| why)
    });
    daemon.wait_log("the cause", |line| line.contains("WARN") && line.contains("beginning at"));
    daemon.stop();
    for (place, text) in [("standard error", checked), ("/readyz", why), ("the log", daemon.log())] {
        assert_clean(place, &text, &[PASSWORD]);
    }
}
