//! `sign`, `verify`, `receive` and `send-test`, as they are typed: pipes, exit codes, what is said. And the page for receivers, played.

use crate::harness::processes::{Process, free_port, tail};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, binary, both, event, simple_registry};
use crate::harness::transcript::Stage;
use crate::harness::verify::{Case, Judge, Keys, all_pass};
use crate::harness::{SOON, await_some, await_true, await_true_or_tell, http};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

const KEY: &str = "kitKEY-0123456789-0123";
const SECRET: &str = "kit-secret-0123456789abcdef";

/// Runs the binary with `input` on standard input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = binary().args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // Wrong usage ends before it reads.
    let _ = pipe.write_all(input);
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A directory with key files; the scene removes it.
fn room(name: &str) -> (Scene, String) {
    let scene = Scene::without_topics(name, "127.0.0.1:1");
    let file = secret_file(&scene, "key", &format!("{KEY}\n"));
    (scene, file)
}

/// A file that nobody else can read.
fn secret_file(scene: &Scene, name: &str, content: &str) -> String {
    let path = scene.dir.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Runs the binary with `input` on standard input and nobody at the other end of its standard output; exit code and standard error.
fn unread(arguments: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = binary().args(arguments).stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    // Some end before they read.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_sign_prints_verify_takes_from_a_pipe_with_and_without_a_secret() {
    let (scene, key) = room("kit-pipe");
    let secret = secret_file(&scene, "secret", SECRET);
    for more in [&[][..], &["--secret", SECRET], &["--secret-file", &secret]] {
        let arguments = [&["--key-file", &key][..], more].concat();
        let signed = run(&[&["sign", "--id", "evt_1"][..], &arguments].concat(), event("shop.example", 1).as_bytes());
        assert_eq!(signed.status.code(), Some(0), "{}", both(&signed));
        assert!(signed.stderr.is_empty(), "{}", both(&signed));
        let verified = run(&[&["verify"][..], &arguments].concat(), &signed.stdout);
        assert_eq!(verified.status.code(), Some(0), "{}", both(&verified));
        assert!(text(&verified).ends_with("\nverified\n") && verified.stderr.is_empty(), "{}", both(&verified));
        // As separate headers, with only the body on standard input.
        let message = text(&signed);
        let (head, body) = message.split_once("\n\n").unwrap();
        let headers: Vec<&str> = head.lines().flat_map(|line| ["--header", line]).collect();
        let verified = run(&[&["verify"][..], &arguments, &headers].concat(), body.as_bytes());
        assert_eq!(verified.status.code(), Some(0), "{}", both(&verified));
        // The body alone carries t and sign.
        let verified = run(&[&["verify"][..], &arguments].concat(), body.as_bytes());
        assert_eq!(verified.status.code(), Some(0), "{}", both(&verified));
        let shown = run(&[&["verify", "--show-secret"][..], &arguments].concat(), b"");
        let expected = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, if more.is_empty() { KEY } else { SECRET });
        assert_eq!((shown.status.code(), text(&shown)), (Some(0), format!("whsec_{expected}\n")), "{}", both(&shown));
    }
}

#[test]
fn the_secret_that_verify_prints_every_command_takes_and_it_alone_verifies() {
    let (scene, _) = room("kit-secret-alone");
    let vendor = secret_file(&scene, "vendor", "adasda131312");
    let signed = run(&["sign", "--key-file", &vendor, "--id", "evt_1"], event("shop.example", 1).as_bytes());
    let shown = text(&run(&["verify", "--key-file", &vendor, "--show-secret"], b""));
    assert_eq!(shown, "whsec_YWRhc2RhMTMxMzEy\n");
    let file = secret_file(&scene, "shown", &shown);
    for given in [["--secret-file", &file], ["--secret", shown.trim()]] {
        let verified = run(&[&["verify"][..], &given].concat(), &signed.stdout);
        assert_eq!(verified.status.code(), Some(0), "{given:?}: {}", both(&verified));
        assert!(
            text(&verified).starts_with("webhook-signature: verified") && text(&verified).ends_with("\nverified\n"),
            "{}",
            both(&verified)
        );
        let forged = text(&signed).replace("\"duration\":60", "\"duration\":61");
        let refused = run(&[&["verify"][..], &given].concat(), forged.as_bytes());
        assert_eq!(refused.status.code(), Some(1), "{given:?}: {}", both(&refused));
        // The body's own t and sign say nothing to who has no key.
        let (_, body) = forged.split_once("\n\n").unwrap();
        let unjudged = run(&[&["verify"][..], &given].concat(), body.as_bytes());
        assert!(unjudged.status.code() == Some(1) && both(&unjudged).contains("NOT verified"), "{given:?}: {}", both(&unjudged));
        let again = run(&[&["verify", "--show-secret"][..], &given].concat(), b"");
        assert_eq!((again.status.code(), text(&again)), (Some(0), shown.clone()), "{}", both(&again));
        let resigned = run(&[&["sign", "--key-file", &vendor][..], &given].concat(), b"{}");
        assert_eq!(resigned.status.code(), Some(0), "{given:?}: {}", both(&resigned));
    }
    let mut receive = Receive::start(&scene.dir, &["--secret", shown.trim()]);
    let message = text(&signed);
    let (headers, body) = http::message(&message);
    assert_eq!(http::post(receive.port, "/", &headers, body.as_bytes()), Some(200), "{:?}", receive.lines());
    receive.wait_line(&[" 200 verified id=evt_1 "]);
    assert_eq!(receive.end("TERM"), 0);
}

#[test]
fn a_key_file_that_everyone_can_read_is_warned_about() {
    let (scene, key) = room("kit-rights");
    let secret = secret_file(&scene, "secret", SECRET);
    let signed = run(&["sign", "--key-file", &key, "--secret-file", &secret], b"{}");
    let arguments = ["--key-file", &key, "--secret-file", &secret];
    for (name, file) in [("--key-file", &key), ("--secret-file", &secret)] {
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let told = format!("warning: {file}: {name}: can be read by everyone on this machine: chmod o-r\n");
        for (command, input) in [("sign", &b"{}"[..]), ("verify", &signed.stdout)] {
            let done = run(&[&[command][..], &arguments].concat(), input);
            let stderr = String::from_utf8(done.stderr.clone()).unwrap();
            assert!(done.status.code() == Some(0) && stderr == told, "{command} {name}: {}", both(&done));
        }
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_reader_that_has_gone_makes_no_verdict_a_success() {
    let (mut scene, key) = room("kit-unread");
    let signed = run(&["sign", "--key-file", &key, "--at", "1642089598"], event("shop.example", 1).as_bytes()).stdout;
    let receiver = Receiver::agreeable();
    let keys = format!("keys = [{{ id = \"k\", file = {key:?} }}]");
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/"), &keys);
    let refused = simple_registry(&["refused.example"], &format!("http://127.0.0.1:{}/", free_port()), &keys);
    scene.registry.push_str(&refused.replace("\"rec\"", "\"rec-2\"").replace("\"cb\"", "\"cb-2\""));
    let config = scene.write_config(free_port(), free_port()).display().to_string();
    let no_registry = scene.dir.join("no-registry.toml").display().to_string();
    std::fs::write(&no_registry, "[registry]\nfile = \"nowhere.toml\"\n").unwrap();
    for (arguments, input, code, said) in [
        (&["verify", "--key-file", &key][..], &signed[..], 1, "not verified"),
        (&["verify", "--key-file", &key, "--at", "1642089600"], &signed, 0, ""),
        (&["sign", "--key-file", &key], b"{}", 0, ""),
        (&["sign", "--key-file", &key], b"no JSON", 1, "no event"),
        (&["check", "--config", &config], b"", 0, ""),
        (&["check", "--print", "--config", &config], b"", 0, ""),
        (&["check", "--print", "--config", &no_registry], b"", 78, "nowhere.toml: cannot be read"),
        (&["send-test", "--config", &config, "--domain", "shop.example"], b"", 0, ""),
        (&["send-test", "--config", &config, "--domain", "refused.example"], b"", 1, ""),
        (&["demo", "--seconds", "1"], b"", 1, ""),
    ] {
        let (ended, told) = unread(arguments, input);
        assert_eq!(ended, Some(code), "{arguments:?}: {told}");
        assert!(told.contains(said) && !told.contains("pipe"), "{arguments:?}: {told}");
    }
    assert_eq!(receiver.requests().len(), 1, "the test callback was sent, though nobody read of it");
    // A disk that is full is another matter: a result got lost.
    let full = std::fs::File::create("/dev/full").unwrap();
    let done = binary().args(["check", "--config", &config]).stdin(Stdio::null()).stdout(full).output().unwrap();
    assert!(done.status.code() == Some(1) && both(&done).contains("standard output: No space left"), "{}", both(&done));
}

#[test]
fn topics_that_are_missing_are_exit_code_78_whoever_reads_it() {
    let scene = Scene::new("kit-unread-topics", 1);
    let config = scene.write_config(free_port(), free_port()).display().to_string();
    let (ended, told) = unread(&["topics", "check", "--config", &config], b"");
    assert!(ended == Some(78) && !told.contains("pipe"), "{ended:?}: {told}");
    assert_eq!(unread(&["topics", "create", "--config", &config], b"").0, Some(0));
    assert_eq!(unread(&["topics", "check", "--config", &config], b"").0, Some(0));
}

#[test]
fn verify_says_why_and_exits_1() {
    let (scene, key) = room("kit-why");
    let other = scene.dir.join("other").display().to_string();
    std::fs::write(&other, "another-key").unwrap();
    let signed = text(&run(&["sign", "--key-file", &key, "--id", "evt_1", "--at", "1642089598"], event("shop.example", 1).as_bytes()));
    let (_, body) = signed.split_once("\n\n").unwrap();
    let line = |name: &str| signed.lines().find(|line| line.starts_with(name)).unwrap().to_owned() + "\n";
    for (what, file, at, input, said) in [
        ("genuine", &key, "1642089600", signed.clone(), "verified"),
        ("another key", &other, "1642089600", signed.clone(), "most likely the key is not the sender's"),
        ("a changed body", &key, "1642089600", signed.replace("\"duration\":60", "\"duration\":61"), "the key is right, so the body"),
        ("a changed id", &key, "1642089600", signed.replace("evt_1", "evt_2"), "the key is right, so the body"),
        ("a newline more", &key, "1642089600", format!("{signed}\n"), "newline at the body's end"),
        ("too old", &key, "1642090198", signed.clone(), "600 s old, 300 s more than the 300 s"),
        ("expired", &key, "1642090298", signed.clone(), "t expired 100 s ago"),
        ("too new", &key, "1642088598", signed.clone(), "this clock is behind"),
        ("no id", &key, "1642089600", signed.replace(&line("webhook-id"), ""), "webhook-id is missing"),
        ("no signature", &key, "1642089600", signed.replace(&line("webhook-signature"), ""), "webhook-signature is missing"),
        ("two timestamps", &key, "1642089600", format!("{}{signed}", line("webhook-timestamp")), "more than once"),
        ("another version", &key, "1642089600", signed.replace("v1,", "v1a,"), "no signature of version v1"),
        ("t twice", &key, "1642089600", body.replacen('{', "{\"t\":1,", 1), "t is in the body more than once"),
        ("not signed", &key, "1642089600", event("shop.example", 1), "nothing is signed"),
        ("cut short", &key, "1642089600", signed[..signed.len() - 3].to_owned(), "was it cut short?"),
        ("headers without a body", &key, "1642089600", line("webhook-id"), "no empty line"),
    ] {
        let done = run(&["verify", "--key-file", file, "--at", at], input.as_bytes());
        assert_eq!(done.status.code(), Some(i32::from(what != "genuine")), "{what}: {}", both(&done));
        assert!(both(&done).contains(said), "{what}: {}", both(&done));
        assert!(!both(&done).contains(KEY), "{what}: {}", both(&done));
        let of_time = ["too old", "expired", "too new"].contains(&what);
        assert_eq!(both(&done).contains("--at UNIX"), of_time, "{what}: {}", both(&done));
    }
}

#[test]
fn exit_codes_are_2_for_wrong_usage_and_78_for_a_key_file_that_is_missing_or_empty() {
    let (scene, key) = room("kit-codes");
    let file = |name: &str, bytes: &str| {
        let path = scene.dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (empty, newline, none) = (file("empty", ""), file("newline", "\n"), file("none", "whsec_"));
    let odd = file("odd", "whsec_canary!");
    let (missing, dir) = (scene.dir.join("missing").display().to_string(), scene.dir.display().to_string());
    for command in ["sign", "verify", "receive"] {
        for wrong in [&empty, &newline, &missing, &dir] {
            let done = run(&[command, "--key-file", wrong], b"{}");
            assert_eq!(done.status.code(), Some(78), "{command} {wrong}: {}", both(&done));
            assert!(both(&done).contains(&format!("{wrong}: --key-file: ")), "{}", both(&done));
        }
        for (given, code, said) in [
            (["--secret-file", &none], 78, "the secret is empty"),
            (["--secret-file", &odd], 78, "is not base64"),
            (["--secret", "whsec_"], 2, "the secret is empty"),
            (["--secret", "whsec_canary!"], 2, "is not base64"),
        ] {
            let done = run(&[command, "--key-file", &key, given[0], given[1]], b"{}");
            assert_eq!(done.status.code(), Some(code), "{}", both(&done));
            assert!(both(&done).contains(said) && !both(&done).contains("canary"), "{}", both(&done));
        }
    }
    for arguments in
        [&["sign"][..], &["verify"], &["sign", "--key-file", &key, "--id", "a.b"], &["verify", "--key-file", &key, "--at", "x"]]
    {
        assert_eq!(run(arguments, b"{}").status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(run(&["sign", "--key-file", &key], b"no JSON").status.code(), Some(1));
}

#[test]
fn what_sign_prints_the_public_libraries_take() {
    let (_scene, key) = room("kit-libraries");
    let receiver = Receiver::agreeable();
    let original = r#"{"app":"shop.example","sign":"old","text":"한 é \u0061","t":1}"#;
    let signed = text(&run(&["sign", "--key-file", &key, "--secret", SECRET], original.as_bytes()));
    let (headers, body) = http::message(&signed);
    assert_eq!(http::post(receiver.port, "/", &headers, body.as_bytes()), Some(200));
    let keys = Keys { sign: Some(KEY.into()), secrets: vec![SECRET.into()] };
    let requests = receiver.requests();
    for judge in [Judge::Python, Judge::Node] {
        all_pass(judge, &[Case { original: original.as_bytes(), request: &requests[0], keys: &keys }]);
    }
}

/// A running `receive`.
struct Receive {
    process: Process,
    port: u16,
    out: PathBuf,
}

impl Receive {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let (out, err) = (dir.join("receive.out"), dir.join("receive.err"));
        let mut command = binary();
        command.args(["receive", "--listen", "127.0.0.1:0"]).args(arguments).stdin(Stdio::null());
        command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
        let process = Process::spawn(&mut command).unwrap();
        let port = await_some("it listens", SOON, || {
            let text = std::fs::read_to_string(&err).unwrap();
            text.split_once("http://127.0.0.1:")?.1.split_once('/')?.0.parse().ok()
        });
        Self { process, port, out }
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.out).unwrap().lines().map(str::to_owned).collect()
    }

    fn wait_line(&self, parts: &[&str]) {
        let found = || self.lines().iter().any(|line| parts.iter().all(|part| line.contains(part)));
        await_true_or_tell(SOON, found, || format!("a line with {parts:?}:\n{}", tail(&self.out, 20)));
    }

    fn end(&mut self, signal: &str) -> i32 {
        self.process.signal(signal);
        await_some("its end", SOON, || self.process.exit_code())
    }
}

#[test]
fn receive_verifies_what_the_daemon_sends_and_tells_repeats() {
    let mut scene = Scene::new("kit-receive", 1);
    let dir = scene.dir.clone();
    let mut receive = Receive::start(&dir, &["--key", KEY, "--secret", SECRET]);
    let keys = format!("keys = [{{ id = \"k\", value = {KEY:?}, secret = {SECRET:?} }}]");
    scene.registry = simple_registry(&["shop.example"], &format!("http://127.0.0.1:{}/cb?x=1", receive.port), &keys);
    let mut daemon = scene.start();
    scene.produce(&[event("shop.example", 1), event("shop.example", 1), event("shop.example", 2)]);
    daemon.wait_metric("callbackd_attempts_total", &["result=\"success\""], 3.0);
    daemon.stop();
    let lines = receive.lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.contains(" 200 verified id=") && line.contains(" type=100 domain=shop.example path=live stream="))
    );
    assert_eq!(lines.iter().filter(|line| line.contains(" repeat=2")).count(), 1, "{lines:#?}");
    // What nobody signed.
    assert_eq!(http::post(receive.port, "/", &[("webhook-id".into(), "forged\u{1b}".into())], b"{}"), Some(400), "no header holds that");
    assert_eq!(http::post(receive.port, "/", &[("webhook-id".into(), "forged".into())], b"{}"), Some(401));
    receive.wait_line(&[" 401 refused id=forged", "webhook-signature is missing"]);
    // Properly signed, by another secret; and by the right one, long ago: `verify` could be told another time, this cannot.
    let key = dir.join("key").display().to_string();
    std::fs::write(&key, KEY).unwrap();
    for (id, more, why) in [
        ("other", &["--secret", "another-secret-0123456789"][..], "webhook-signature does not match"),
        ("old", &["--secret", SECRET, "--at", "1642089598"], "s old, "),
    ] {
        let signed = text(&run(&[&["sign", "--key-file", &key, "--id", id][..], more].concat(), b"{}"));
        let (headers, body) = http::message(&signed);
        assert_eq!(http::post(receive.port, "/", &headers, body.as_bytes()), Some(401), "{id}");
        receive.wait_line(&[&format!(" 401 refused id={id} "), why]);
    }
    assert!(!receive.lines().concat().contains("--at"), "{:#?}", receive.lines());
    assert_eq!(receive.end("TERM"), 0);
}

#[test]
fn receive_answers_with_the_status_and_the_delay_that_it_was_told_and_ends_on_a_signal_meanwhile() {
    let (scene, key) = room("kit-receive-slow");
    let mut receive = Receive::start(&scene.dir, &["--status", "503", "--delay", "400ms"]);
    let start = Instant::now();
    assert_eq!(http::post(receive.port, "/", &[], b"{}"), Some(503));
    assert!(start.elapsed() >= Duration::from_millis(400));
    receive.wait_line(&[" 503 unverified bytes=2"]);
    assert_eq!(receive.end("INT"), 0);
    let mut receive = Receive::start(&scene.dir, &["--key-file", &key, "--delay", "5m"]);
    let (port, out) = (receive.port, receive.out.clone());
    let signed = text(&run(&["sign", "--key-file", &key], b"{}"));
    let asking = std::thread::spawn(move || {
        let (headers, body) = http::message(&signed);
        http::post(port, "/", &headers, body.as_bytes())
    });
    await_true("the line, before the answer", SOON, || std::fs::read_to_string(&out).unwrap().contains(" verified "));
    assert_eq!(receive.end("TERM"), 0);
    assert_eq!(asking.join().unwrap(), Some(200));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let done = run(&["receive", "--listen", &taken.local_addr().unwrap().to_string()], b"");
    assert_eq!(done.status.code(), Some(1), "{}", both(&done));
    assert!(both(&done).contains("cannot listen on 127.0.0.1:") && both(&done).contains("another process"), "{}", both(&done));
    // Of documentation: no machine has it.
    let done = run(&["receive", "--listen", "192.0.2.1:8080"], b"");
    assert_eq!(done.status.code(), Some(1), "{}", both(&done));
    assert!(both(&done).contains("no interface") && !both(&done).contains("another process"), "{}", both(&done));
}

#[test]
fn send_test_sends_one_genuine_callback_and_its_exit_code_is_the_verdict() {
    let (mut scene, key) = room("kit-send-test");
    let receiver = Receiver::start(|request, _| match request.path.split('?').next().unwrap() {
        "/ok" => Answer::Status(200),
        "/later" => Answer::With(503, vec![("retry-after", "7".into())]),
        "/gone" => Answer::Status(410),
        "/hang" => Answer::Hang,
        _ => Answer::Status(404),
    });
    let more = format!("keys = [{{ id = \"k\", file = {key:?} }}]\ntimeout = \"300ms\"\nheaders = {{ \"x-team\" = \"canary-header\" }}");
    let urls = [
        ("ok", receiver.url("/ok?token=canary-query")),
        ("later", receiver.url("/later")),
        ("gone", receiver.url("/gone")),
        ("hang", receiver.url("/hang")),
        ("refused", format!("http://127.0.0.1:{}/", free_port())),
        ("nowhere", "http://no-such-name.invalid/".into()),
    ];
    for (name, url) in &urls {
        let policy = if *name == "gone" { "policy = \"standard\"" } else { "" };
        scene.registry.push_str(&format!(
            "[[callback_templates]]\nname = \"{name}\"\nurls = {{ recording_file = {url:?} }}\n{policy}\n{more}\n[[domains]]\nname = \"{name}.example\"\n[[bindings]]\ndomain = \"{name}.example\"\ncallback_template = \"{name}\"\n"
        ));
    }
    scene.registry.push_str("[[bindings]]\ndomain = \"gone.example\"\npath = \"live\"\ncallback_template = \"ok\"\n");
    let send = |arguments: &[&str]| scene.command(&[&["send-test", "--domain"][..], arguments].concat());
    for (arguments, code, said) in [
        (&["ok.example"][..], 0, "answered 200 after"),
        (&["OK.example", "--path", "live", "--event-type", "100"], 0, "\"appname\":\"live\""),
        (&["gone.example", "--path", "live"], 0, "delivered"),
        (&["later.example"], 1, "retry-after: 7"),
        (&["gone.example"], 1, "dead letter at once"),
        (&["hang.example"], 1, "time-out passed"),
        (&["refused.example"], 1, "nothing listens"),
        (&["nowhere.example"], 1, "could not be resolved"),
        (&["other.example"], 1, "not in the registry"),
        (&["ok.example", "--event-type", "341"], 1, "urls.recording_exception"),
    ] {
        let done = send(arguments);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", both(&done));
        assert!(both(&done).contains(said), "{arguments:?}: {}", both(&done));
        assert!(!both(&done).contains("canary") && !both(&done).contains(KEY), "{arguments:?}: {}", both(&done));
    }
    let requests = receiver.requests();
    let request = &requests[0];
    assert_eq!((request.path.as_str(), request.header("x-team")), ("/ok?token=canary-query", Some("canary-header")));
    assert!(request.id().starts_with("test_") && requests[0].id() != requests[1].id(), "{}", request.id());
    // Genuine, by the program's own judgement and by the public library's.
    let headers: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let message = [headers.concat().as_bytes(), b"\n", &request.body].concat();
    let verified = run(&["verify", "--key-file", &key], &message);
    assert_eq!(verified.status.code(), Some(0), "{}", both(&verified));
    let keys = Keys { sign: Some(KEY.into()), secrets: vec![KEY.into()] };
    all_pass(Judge::Python, &[Case { original: &request.body, request, keys: &keys }]);
    // What it prints of the body is what it sent; and what it prints of the request, without its query and the template's header, verifies.
    let printed = text(&send(&["ok.example"]));
    let (request, _) = printed.rsplit_once("\n\nanswered ").unwrap();
    let verified = run(&["verify", "--key-file", &key], request.as_bytes());
    assert_eq!(verified.status.code(), Some(0), "{}", both(&verified));
    let last = receiver.requests().last().unwrap().clone();
    assert!(printed.contains(std::str::from_utf8(&last.body).unwrap()), "{printed}");
    assert!(printed.contains(last.header("webhook-signature").unwrap()), "{printed}");
    let done = binary().args(["send-test", "--domain", "ok.example", "--config", "nowhere.toml"]).output().unwrap();
    assert_eq!(done.status.code(), Some(78), "{}", both(&done));
}

/// The only other things typed: a free port, and the example and its key put where the page supposes them; `python` is that of `make verifiers`.
#[test]
fn the_page_for_receivers_leads_from_a_key_to_a_verified_callback() {
    let (scene, key) = room("kit-page");
    let mut stage = Stage::new(&scene.dir.join("room"));
    std::fs::copy(key, scene.dir.join("room/shop.key")).unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(project.join("examples/receivers/python/receiver.py"), scene.dir.join("room/receiver.py")).unwrap();
    stage.first_on_the_path(&project.join(".cache/venv/bin"));
    let port = free_port().to_string();
    stage.play("docs/receivers.md", "## Ten minutes", &[("8080", &port)]);
    stage.play("docs/receivers.md", "### When it does not verify", &[]);
}
