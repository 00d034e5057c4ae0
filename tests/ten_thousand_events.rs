//! Ten thousand events of varied shapes over a hundred domains: each delivered once, signed as foreign libraries expect, byte for byte.

use crate::harness::kafka::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::Scene;
use crate::harness::verify::{Case, Judge, Keys, all_pass};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

const EVENTS: usize = 10_000;
const DOMAINS: usize = 100;

/// A callback template of the registry, with what its receivers know.
struct Template {
    name: &'static str,
    keys: &'static str,
    more: &'static str,
    sign: Option<&'static str>,
    secrets: &'static [&'static str],
}

const TEMPLATES: &[Template] = &[
    Template {
        name: "one-key",
        keys: r#"keys = [{ id = "a", value = "vendorKeyOfTemplate1" }]"#,
        more: "",
        sign: Some("vendorKeyOfTemplate1"),
        secrets: &["vendorKeyOfTemplate1"],
    },
    Template {
        name: "two-keys",
        keys: r#"keys = [{ id = "old", value = "theOldKeyOfTemplate2" }, { id = "new", value = "theNewKeyOfTemplate2" }]"#,
        more: "",
        sign: Some("theNewKeyOfTemplate2"),
        secrets: &["theNewKeyOfTemplate2", "theOldKeyOfTemplate2"],
    },
    Template {
        name: "separate-secret",
        keys: r#"keys = [{ id = "a", value = "vendorKeyOfTemplate3", secret = { value = "whsec_YSBzZWNyZXQgb2YgaXRzIG93biwgdGVtcGxhdGUgMw==" } }]"#,
        more: "",
        sign: Some("vendorKeyOfTemplate3"),
        secrets: &["a secret of its own, template 3"],
    },
    Template { name: "no-key", keys: "", more: "", sign: None, secrets: &[] },
    Template {
        name: "standard",
        keys: r#"keys = [{ id = "a", value = "vendorKeyOfTemplate5" }]"#,
        more: "policy = \"standard\"",
        sign: Some("vendorKeyOfTemplate5"),
        secrets: &["vendorKeyOfTemplate5"],
    },
    Template {
        name: "rotation",
        keys: r#"keys = [{ id = "next", value = "theNextKeyOfTemplate6", not_before = 2099-01-01T00:00:00Z }, { id = "now", value = "theKeyOfTemplate6InForce" }, { id = "past", value = "theKeyOfTemplate6Expired", expires = 2020-01-01T00:00:00Z }]"#,
        more: "",
        sign: Some("theKeyOfTemplate6InForce"),
        secrets: &["theKeyOfTemplate6InForce"],
    },
];

/// A small generator of its own, so that a failing event can be made again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// An event with what must come of it.
struct Expected {
    record: New,
    value: Vec<u8>,
    id: String,
    template: usize,
    path: String,
}

/// Event number `n`: its type, the order of its members, white space, spelling and size vary.
fn event(n: usize) -> Expected {
    let mut chance = Chance(n as u64 + 1);
    let domain_number = n % DOMAINS;
    let domain = format!("d{domain_number:02}.example");
    let kind = [100, 100, 100, 332, 341][chance.below(5)];
    let mut members =
        vec![format!(r#""file_id":"{n:019}""#), format!(r#""stream_id":"stream_{n}""#), format!(r#""start_time":{}"#, 1_760_000_000 + n)];
    match kind {
        100 => {
            members.push(format!(r#""app":"{domain}""#));
            members.push(chance.one_of(&[r#""appname":"live""#, r#""appname" : "live""#, r#""app\u006eame":"live""#]).to_string());
            if chance.below(4) > 0 {
                members.push(r#""event_type":100"#.into());
            }
        }
        332 => {
            members.push(format!(r#""domain":"{domain}""#));
            members.push(r#""appname":"live""#.into());
            members.push(r#""event_type":332"#.into());
        }
        _ => {
            members.push(format!(r#""domain":"{domain}""#));
            members.push(r#""path":"live""#.into());
            members.push(r#""event_type": 341"#.into());
            members.push(r#""exception":{"type":"x","t":1,"sign":"inside stays"}"#.into());
        }
    }
    for _ in 0..chance.below(5) {
        members.push(
            chance
                .one_of(&[
                    r#""stream_param":"a=1&b=%20\/\\\"""#,
                    r#""note":"녹화 템플릿 🎥 \u00e9\ud83c\udfa5""#,
                    r#""number":1.50"#,
                    r#""number":-0"#,
                    r#""big":123456789012345678901234567890"#,
                    r#""exponent":1E+3"#,
                    r#""nothing":null"#,
                    r#""twice":1"#,
                    r#""twice":[1, 2 ,{"t":3}]"#,
                    r#""empty":{}"#,
                    r#""":"a nameless member""#,
                    r#""callback_ext":"{\"t\":1,\"sign\":\"x\"}""#,
                    r#""T":"not t","Sign":"not sign""#,
                ])
                .to_string(),
        );
    }
    for _ in 0..chance.below(4) {
        members.push(
            chance
                .one_of(&[
                    r#""t":1642090198"#,
                    r#""sign":"5874b523f56f96b887bebb1f8a1773e8""#,
                    r#""t" : null"#,
                    r#""\u0074":{"a":[1,2,"}"]}"#,
                    r#""s\u0069gn":"a,b}\"""#,
                    r#""sign":[ ]"#,
                ])
                .to_string(),
        );
    }
    if n % 200 == 7 {
        members.push(format!(r#""filler":"{}""#, "x".repeat(100_000 + n)));
    }
    if n % 2500 == 13 {
        members.push(format!(r#""filler":"{}""#, "y".repeat(900_000)));
    }
    for at in (1..members.len()).rev() {
        members.swap(at, chance.below(at + 1));
    }
    let space = |chance: &mut Chance| chance.one_of(&["", "", "", " ", "\n  ", "\t", "\r\n"]);
    let mut text = format!("{}{{", space(&mut chance));
    for (at, member) in members.iter().enumerate() {
        let (before, after) = (space(&mut chance), space(&mut chance));
        write!(text, "{before}{member}{after}{}", if at + 1 < members.len() { "," } else { "" }).unwrap();
    }
    write!(text, "}}{}", space(&mut chance)).unwrap();

    let digest = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(&Sha256::digest(bytes)[..16]);
    let value = text.into_bytes();
    let mut record = New::value(value.clone()).key(&domain);
    let id = match chance.below(4) {
        0 => {
            record = record.header("callbackd-id", format!("upstream_{n}")).header("callbackd-attempts", "7");
            format!("upstream_{n}")
        }
        1 => {
            record = record.header("ce_source", "/recorder").header("ce_id", format!("event {n}")).header("ce_specversion", "1.0");
            digest(format!("/recorder\0event {n}").as_bytes())
        }
        2 => {
            record = record
                .header("callbackd-id", "not an id!")
                .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            digest(&value)
        }
        _ => digest(&value),
    };
    let template = domain_number % TEMPLATES.len();
    Expected { record, value, id, template, path: format!("/{}/{kind}", TEMPLATES[template].name) }
}

fn registry(receiver: &Receiver) -> String {
    let mut text = String::from("[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n\n");
    for template in TEMPLATES {
        let url = |kind: u32| receiver.url(&format!("/{}/{kind}", template.name));
        writeln!(
            text,
            "[[callback_templates]]\nname = {:?}\nurls = {{ recording_file = {:?}, recording_status = {:?}, recording_exception = {:?} }}\n{}\n{}\n",
            template.name,
            url(100),
            url(332),
            url(341),
            template.keys,
            template.more
        )
        .unwrap();
    }
    for n in 0..DOMAINS {
        let template = TEMPLATES[n % TEMPLATES.len()].name;
        writeln!(text, "[[domains]]\nname = \"d{n:02}.example\"\n").unwrap();
        writeln!(text, "[[bindings]]\ndomain = \"d{n:02}.example\"\nrecording_template = \"rec\"\ncallback_template = {template:?}\n")
            .unwrap();
    }
    text
}

#[test]
fn each_of_ten_thousand_events_is_delivered_once_verifiably_and_byte_for_byte() {
    let receiver = Receiver::start(|request, _| Answer::Status(if request.path.starts_with("/standard/") { 204 } else { 200 }));
    let mut scene = Scene::new("ten-thousand", 4);
    scene.registry = registry(&receiver);
    scene.log_level = "info";
    let daemon = scene.start();

    let events: Vec<Expected> = (0..EVENTS).map(event).collect();
    for event in &events {
        scene.producer.send(scene.source(), &event.record);
    }
    scene.producer.flush();
    receiver.wait_for(EVENTS, Duration::from_secs(180));
    scene.wait_committed_to_the_end();
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], EVENTS as f64);

    let requests = receiver.requests();
    let mut of_id: HashMap<&str, usize> = HashMap::new();
    for request in &requests {
        *of_id.entry(request.id()).or_default() += 1;
    }
    let by_id: HashMap<&str, &Expected> = events.iter().map(|e| (e.id.as_str(), e)).collect();
    assert_eq!(by_id.len(), EVENTS, "the generator makes different events");
    let missing: Vec<&str> = events.iter().map(|e| e.id.as_str()).filter(|id| !of_id.contains_key(id)).collect();
    assert!(missing.is_empty(), "{} ids never came, for example {:?}", missing.len(), &missing[..missing.len().min(5)]);
    let repeated: Vec<_> = of_id.iter().filter(|(_, n)| **n > 1).collect();
    assert!(repeated.is_empty(), "repeated: {:?}", &repeated[..repeated.len().min(5)]);
    assert_eq!(requests.len(), EVENTS);
    assert_eq!(scene.dead_letters().len(), 0);

    let keys: Vec<Keys> = TEMPLATES
        .iter()
        .map(|t| Keys { sign: t.sign.map(ToString::to_string), secrets: t.secrets.iter().map(|s| s.as_bytes().to_vec()).collect() })
        .collect();
    let mut cases = Vec::new();
    for request in &requests {
        let expected = by_id[request.id()];
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", expected.path.as_str()), "{}", expected.id);
        assert_eq!(request.header("content-type"), Some("application/json"));
        cases.push(Case { original: &expected.value, request, keys: &keys[expected.template] });
    }
    all_pass(Judge::Python, &cases);
    cases.retain(|c| !c.keys.secrets.is_empty());
    assert!(cases.len() > 1000);
    all_pass(Judge::Node, &cases);
    assert_eq!(STANDARD.decode("YSBzZWNyZXQgb2YgaXRzIG93biwgdGVtcGxhdGUgMw==").unwrap(), TEMPLATES[2].secrets[0].as_bytes());
}
