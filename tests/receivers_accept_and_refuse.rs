//! The receivers of `examples/receivers`, as they are: each gets genuine callbacks from the daemon, then everything that it must refuse.
//!
//! The four with a public Standard Webhooks library share one list. The one that checks only `t` and `sign` has its own: it cannot see a changed
//! body or id, and the test holds that too, because `docs/receivers.md` says so.

use crate::harness::processes::{Process, tail};
use crate::harness::receiver::{Receiver, Request};
use crate::harness::scene::{Scene, binary, event};
use crate::harness::{SOON, await_some, await_true_or_tell, http};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

const KEY: &str = "examplesKEY0123456789";
const SECRET: &str = "examples-secret-0123456789";
const OTHER_KEY: &str = "anotherKEY-0123456789";
const OTHER_SECRET: &str = "another-secret-0123456789";

/// A running example.
struct Example {
    _process: Process,
    port: u16,
    out: PathBuf,
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/receivers").join(name)
}

/// What the Makefile installs for the examples; a missing one fails with its name.
fn installed(what: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache").join(what);
    assert!(path.exists(), "{} is missing: `make verifiers receivers` installs it", path.display());
    path
}

fn python(dir: &str) -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command.arg(example(dir).join("receiver.py"));
    command
}

fn node(scene: &Scene) -> Command {
    // Beside the modules, as `npm ci` would have it.
    let dir = scene.dir.join("node");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(example("node").join("receiver.mjs"), dir.join("receiver.mjs")).unwrap();
    let (modules, link) = (installed("receivers/node/node_modules"), dir.join("node_modules"));
    if !link.exists() {
        std::os::unix::fs::symlink(modules, link).unwrap();
    }
    let mut command = Command::new("node");
    command.arg(dir.join("receiver.mjs"));
    command
}

fn go(scene: &Scene) -> Command {
    let binary = scene.dir.join("receiver");
    let built = Command::new("go").args(["build", "-o"]).arg(&binary).arg(".").current_dir(example("go")).output();
    let built = built.unwrap_or_else(|error| panic!("go cannot be run: {error}; `make receivers` installs it"));
    assert!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
    Command::new(binary)
}

fn java() -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(installed("receivers/java").join("*")).arg(example("java").join("Receiver.java"));
    command
}

impl Example {
    fn start(scene: &Scene, mut command: Command, variable: &str, value: &str) -> Self {
        let out = scene.dir.join("example.log");
        let log = std::fs::File::create(&out).unwrap();
        command.env(variable, value).env("PORT", "0").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Process::spawn(&mut command).unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let port = await_some("the example listens", SOON, || {
            let text = std::fs::read_to_string(&out).unwrap();
            assert!(process.exit_code().is_none(), "the example ended:\n{text}");
            text.lines().find_map(|line| line.strip_prefix("listening on 127.0.0.1:")?.parse().ok())
        });
        Self { _process: process, port, out }
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.out).unwrap().lines().map(str::to_owned).collect()
    }

    /// How often a line began with these words.
    fn told(&self, words: &str) -> usize {
        self.lines().iter().filter(|line| **line == words || line.starts_with(&format!("{words} "))).count()
    }

    fn wait_told(&self, words: &str, times: usize) {
        await_true_or_tell(SOON, || self.told(words) == times, || format!("{words}, {times} times:\n{}", tail(&self.out, 30)));
    }

    /// What it answers.
    fn post(&self, message: &Message) -> u16 {
        http::post(self.port, "/callbacks?tenant=7", &message.headers, &message.body)
            .unwrap_or_else(|| panic!("no answer; its output:\n{}", tail(&self.out, 30)))
    }

    fn is_refused(&self, what: &str, message: &Message) {
        assert_eq!(self.post(message), 401, "{what}: {:?} {}", message.headers, String::from_utf8_lossy(&message.body));
    }
}

/// A request to be changed.
#[derive(Clone)]
struct Message {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    /// A callback as the daemon sent it.
    fn sent(request: &Request) -> Self {
        let kept = |name: &str| name.starts_with("webhook-") || name == "content-type";
        Self { headers: request.headers.iter().filter(|(name, _)| kept(name)).cloned().collect(), body: request.body.clone() }
    }

    /// Properly signed by `callbackd sign`, `at` this many seconds from now.
    fn signed(scene: &Scene, id: &str, key: &str, secret: Option<&str>, at: i64) -> Self {
        Self::signed_over(scene, &event("shop.example", 99), id, key, secret, at)
    }

    fn signed_over(scene: &Scene, event: &str, id: &str, key: &str, secret: Option<&str>, at: i64) -> Self {
        let file = scene.dir.join(format!("{id}.key"));
        std::fs::write(&file, key).unwrap();
        let mut command = binary();
        command.arg("sign").arg("--key-file").arg(file).args(["--id", id, "--at", &(now() + at).to_string()]);
        if let Some(secret) = secret {
            command.args(["--secret", secret]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(event.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let (headers, body) = http::message(&text);
        Self { headers, body: body.as_bytes().to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(known, _)| known == name).unwrap().1
    }

    fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.headers.retain(|(known, _)| known != name);
        other
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.without(name);
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    fn body(&self, from: &str, to: &str) -> Self {
        let text = String::from_utf8(self.body.clone()).unwrap();
        assert!(text.contains(from), "{from} is in {text}");
        Self { body: text.replacen(from, to, 1).into_bytes(), ..self.clone() }
    }

    /// The value of a number or a text in the body.
    fn member(&self, name: &str) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let value = &body[name];
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// `whsec_` and base64, as the daemon's own command prints it.
fn shown_secret(scene: &Scene) -> String {
    let file = scene.dir.join("shown.key");
    std::fs::write(&file, KEY).unwrap();
    let mut command = binary();
    command.arg("verify").arg("--key-file").arg(file).args(["--secret", SECRET, "--show-secret"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The daemon delivers three callbacks to the example, each of which it takes for new; and one to a scripted receiver, which is returned.
fn genuine(scene: &mut Scene, example: &Example, secret: Option<&str>) -> Message {
    let other = Receiver::agreeable();
    let secret = secret.map_or_else(String::new, |secret| format!(", secret = {secret:?}"));
    let mut registry = String::from("recording_templates = [{ name = \"rec\", formats = [\"mp4\"] }]\n");
    let own = format!("http://127.0.0.1:{}/callbacks?tenant=7", example.port);
    for (domain, url) in [("shop.example", own), ("other.example", other.url("/"))] {
        let template = domain.replace('.', "-");
        registry.push_str(&format!(
            "[[callback_templates]]\nname = {template:?}\nurls = {{ recording_file = {url:?} }}\nkeys = [{{ id = \"k\", value = {KEY:?}{secret} }}]\n[[domains]]\nname = {domain:?}\n[[bindings]]\ndomain = {domain:?}\nrecording_template = \"rec\"\ncallback_template = {template:?}\n"
        ));
    }
    scene.registry = registry;
    let mut daemon = scene.start();
    scene.produce(&[event("shop.example", 1), event("shop.example", 2), event("shop.example", 3), event("other.example", 4)]);
    daemon.wait_metric("callbackd_attempts_total", &["result=\"success\""], 4.0);
    example.wait_told("new", 3);
    assert_eq!((example.told("repeat"), example.told("refused")), (0, 0), "{}", tail(&example.out, 30));
    daemon.stop();
    Message::sent(&other.requests()[0])
}

#[test]
fn the_receiver_of_t_and_sign_alone_takes_every_event_that_the_daemon_signs() {
    let scene = Scene::without_topics("receiver-sign-only-odd", "127.0.0.1:1");
    let example = Example::start(&scene, python("python-sign-only"), "CALLBACK_KEY", KEY);
    for (id, event) in [
        ("names", r#"{"a":1,"x":1,"x":2}"#.to_owned()),
        ("inner", r#"{"exception":{"k":1,"k":2,"t":1,"t":2,"sign":"","sign":""},"list":[{"t":1,"t":2}]}"#.to_owned()),
        ("number", format!(r#"{{"size":{}}}"#, "9".repeat(5000))),
        ("below", format!(r#"{{"size":-{}.5}}"#, "9".repeat(5000))),
    ] {
        let message = Message::signed_over(&scene, &event, id, KEY, None, 0);
        assert_eq!(example.post(&message), 200, "{id}: {}", tail(&example.out, 30));
        example.wait_told(&format!("new '{id}'"), 1);
        let text = String::from_utf8(message.body.clone()).unwrap();
        let (t, sign) = text.rsplit_once(",\"t\":").unwrap().1.strip_suffix('}').unwrap().split_once(',').unwrap();
        for (what, member) in [("t", format!("\"t\":{t}")), ("sign", sign.to_owned())] {
            example.is_refused(&format!("{id} with {what} twice"), &message.body("{", &format!("{{{member},")));
        }
    }
    let message = Message::signed(&scene, "long", KEY, None, 0);
    let t = message.member("t");
    example.is_refused("a t of 5,000 digits", &message.body(&format!("\"t\":{t}"), &format!("\"t\":{}{t}", "1".repeat(5000))));
}

/// Everything that a receiver with a public library must take, and must refuse.
fn accepts_and_refuses(scene: &mut Scene, example: &Example) {
    let genuine = genuine(scene, example, Some(SECRET));
    let id = genuine.header("webhook-id").to_owned();
    let signature = genuine.header("webhook-signature").to_owned();
    for (what, message) in [
        ("a changed body", genuine.body("\"duration\":60", "\"duration\":61")),
        ("a body with a newline more", Message { body: [&genuine.body[..], b"\n"].concat(), ..genuine.clone() }),
        ("an empty body", Message { body: Vec::new(), ..genuine.clone() }),
        ("a body that is no text", Message { body: vec![0xff, 0xfe], ..genuine.clone() }),
        ("a changed id", genuine.with("webhook-id", &format!("{id}x"))),
        ("a changed timestamp", genuine.with("webhook-timestamp", &(now() + 1).to_string())),
        ("a timestamp that is no number", genuine.with("webhook-timestamp", "soon")),
        ("no id", genuine.without("webhook-id")),
        ("no timestamp", genuine.without("webhook-timestamp")),
        ("no signature", genuine.without("webhook-signature")),
        ("a signature of another version", genuine.with("webhook-signature", &signature.replacen("v1,", "v2,", 1))),
        ("a signature without its end", genuine.with("webhook-signature", &signature[..signature.len() - 1])),
        ("a signature that is none", genuine.with("webhook-signature", "nonsense")),
        ("an empty signature", genuine.with("webhook-signature", "v1,")),
        ("an old callback, properly signed", Message::signed(scene, "old", KEY, Some(SECRET), -301)),
        ("a callback from the future, properly signed", Message::signed(scene, "future", KEY, Some(SECRET), 400)),
        ("another secret", Message::signed(scene, "other-secret", KEY, Some(OTHER_SECRET), 0)),
        ("the vendor's key in place of the secret", Message::signed(scene, "the-key", KEY, None, 0)),
    ] {
        example.is_refused(what, &message);
    }
    assert_eq!(example.told("new"), 3, "nothing that was refused was worked on:\n{}", tail(&example.out, 30));
    let (status, _) = http::get(example.port, "/").unwrap();
    assert!(matches!(status, 405 | 501), "only POST is a callback: {status}");
    // What was refused has not made the genuine one a repeat; a key more, while keys rotate, does no harm.
    assert_eq!(example.post(&genuine), 200);
    example.wait_told("new", 4);
    let rotating = format!("v1,{} {signature}", "A".repeat(43) + "=");
    assert_eq!(example.post(&genuine.with("webhook-signature", &rotating)), 200);
    example.wait_told(&format!("repeat {id}"), 1);
    let fresh = Message::signed(scene, "fresh", KEY, Some(SECRET), 0);
    assert_eq!((example.post(&fresh), example.post(&fresh)), (200, 200));
    example.wait_told("new fresh", 1);
    example.wait_told("repeat fresh", 1);
    // Half a character is a text of JSON, and no other: whatever becomes of that event, those behind it are worked on.
    let odd = format!(r#"{},"video_url":"\ud800"}}"#, event("shop.example", 7).strip_suffix('}').unwrap());
    assert_eq!(example.post(&Message::signed_over(scene, &odd, "odd", KEY, Some(SECRET), 0)), 200);
    assert_eq!(example.post(&Message::signed(scene, "behind", KEY, Some(SECRET), 0)), 200);
    example.wait_told("new behind", 1);
}

#[test]
fn the_python_receiver_accepts_genuine_callbacks_and_refuses_the_rest() {
    let mut scene = Scene::new("receiver-python", 1);
    let example = Example::start(&scene, python("python"), "WEBHOOK_SECRET", &shown_secret(&scene));
    accepts_and_refuses(&mut scene, &example);
}

#[test]
fn the_node_receiver_accepts_genuine_callbacks_and_refuses_the_rest() {
    let mut scene = Scene::new("receiver-node", 1);
    let example = Example::start(&scene, node(&scene), "WEBHOOK_SECRET", &shown_secret(&scene));
    accepts_and_refuses(&mut scene, &example);
}

#[test]
fn the_go_receiver_accepts_genuine_callbacks_and_refuses_the_rest() {
    let mut scene = Scene::new("receiver-go", 1);
    let example = Example::start(&scene, go(&scene), "WEBHOOK_SECRET", &shown_secret(&scene));
    accepts_and_refuses(&mut scene, &example);
}

#[test]
fn the_java_receiver_accepts_genuine_callbacks_and_refuses_the_rest() {
    let mut scene = Scene::new("receiver-java", 1);
    let example = Example::start(&scene, java(), "WEBHOOK_SECRET", &shown_secret(&scene));
    accepts_and_refuses(&mut scene, &example);
}

#[test]
fn while_keys_rotate_every_receiver_takes_both_secrets_and_none_starts_without_one() {
    const OLD: &str = "old-secret-0123456789abcdef";
    let scene = Scene::without_topics("receivers-rotate", "127.0.0.1:1");
    let secrets = format!("whsec_{} {}", STANDARD.encode(OLD), shown_secret(&scene));
    let commands: [(&str, &dyn Fn() -> Command); 4] =
        [("python", &|| python("python")), ("node", &|| node(&scene)), ("go", &|| go(&scene)), ("java", &java)];
    for (name, command) in commands {
        let example = Example::start(&scene, command(), "WEBHOOK_SECRET", &secrets);
        for (id, secret, status) in [("by-new", SECRET, 200), ("by-old", OLD, 200), ("by-other", OTHER_SECRET, 401)] {
            assert_eq!(example.post(&Message::signed(&scene, id, KEY, Some(secret), 0)), status, "{name}, {id}");
        }
        for empty in ["", " ", "whsec_"] {
            let mut without = command();
            without.env("WEBHOOK_SECRET", empty).env("PORT", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = Process::spawn(&mut without).unwrap();
            let code = await_some(&format!("{name} ends with the secret {empty:?}"), SOON, || process.exit_code());
            assert_ne!(code, 0, "{name}, {empty:?}");
        }
    }
}

#[test]
fn the_receiver_of_t_and_sign_alone_refuses_what_those_can_tell_and_cannot_see_a_changed_body() {
    let mut scene = Scene::new("receiver-sign-only", 1);
    let example = Example::start(&scene, python("python-sign-only"), "CALLBACK_KEY", &format!("{OTHER_KEY} {KEY}"));
    let genuine = genuine(&mut scene, &example, None);
    let (t, sign) = (genuine.member("t"), genuine.member("sign"));
    let later = (t.parse::<i64>().unwrap() + 1).to_string();
    for (what, message) in [
        ("a changed t", genuine.body(&format!("\"t\":{t}"), &format!("\"t\":{later}"))),
        ("a changed sign", genuine.body(&sign, &"0".repeat(32))),
        ("a sign in upper case", genuine.body(&sign, &sign.to_uppercase())),
        ("no t", genuine.body(&format!(",\"t\":{t}"), "")),
        ("no sign", genuine.body(&format!(",\"sign\":\"{sign}\""), "")),
        ("t as a text", genuine.body(&format!("\"t\":{t}"), &format!("\"t\":\"{t}\""))),
        ("t twice", genuine.body("{", &format!("{{\"t\":{later},"))),
        ("sign as a number", genuine.body(&format!("\"{sign}\""), "7")),
        ("a body that is no JSON", Message { body: b"t=1&sign=2".to_vec(), ..genuine.clone() }),
        ("a body that is no object", Message { body: b"[1]".to_vec(), ..genuine.clone() }),
        ("no id", genuine.without("webhook-id")),
        ("an old callback, properly signed", Message::signed(&scene, "old", KEY, None, -601)),
        ("a callback from the future, properly signed", Message::signed(&scene, "future", KEY, None, 400)),
        ("another key", Message::signed(&scene, "other-key", "a-third-KEY-0123456789", None, 0)),
    ] {
        example.is_refused(what, &message);
    }
    assert_eq!(example.told("new"), 3, "nothing that was refused was worked on:\n{}", tail(&example.out, 30));
    assert_eq!(example.post(&genuine), 200);
    example.wait_told("new", 4);
    assert_eq!(example.post(&genuine), 200);
    example.wait_told("repeat", 1);
    // What t and sign leave open, as the page says: another body, and another id, under them.
    assert_eq!(example.post(&genuine.body("\"duration\":60", "\"duration\":61").with("webhook-id", "forged")), 200);
    example.wait_told("new 'forged'", 1);
}
