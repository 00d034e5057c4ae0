use super::*;
use crate::domain::event::EventKind;
use crate::domain::id::DomainName;
use crate::domain::policy::Success;
use crate::domain::registry::{Format, Keep, Storage};
use crate::domain::time::UnixMillis;
use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

mod reloading;

fn options() -> LoadOptions {
    LoadOptions {
        templates_per_account: 50,
        addresses: AddressPolicy::default(),
        drain_timeout: Duration::from_secs(25),
        smallest_tier: Duration::from_secs(5),
        environment: Environment::default(),
        clock: || UnixMillis(1_795_435_200_000),
    }
}

fn parse(text: &str) -> Result<LoadedRegistry, Vec<Problem>> {
    load(&Document::parse(Path::new("r.toml"), text).map_err(|problem| vec![problem])?, &options(), &mut Files::new())
}

fn problems(text: &str) -> Vec<String> {
    parse(text).err().unwrap_or_default().iter().map(Problem::to_string).collect()
}

/// The example of the interface, whole.
const FULL: &str = r#"
[[accounts]]
id = "1300000000"
storage = "active"

[[recording_templates]]
name = "hls-mp4"
account = "1300000000"
formats = ["hls", "mp4"]
interval = "30m"
keep = "forever"

[[callback_templates]]
name = "shop"
account = "1300000000"
policy = "css"
urls = { recording_file = "https://shop.example/cb?tenant=7", recording_status = "https://shop.example/s", recording_exception = "https://shop.example/e" }
keys = [ { id = "2026-11", file = "shop-key", secret = { file = "shop-secret" }, expires = 2027-01-01T00:00:00Z, not_before = 2026-01-01T00:00:00Z } ]
retry = { delays = ["60s"], attempts = 13, max_age = "24h", max_wait = "7d", jitter = 0.0 }
success = [200]
timeout = "20s"
connect_timeout = "3s"
rate = 100
headers = { "x-team" = "shop", "x-api-key" = { file = "api-key" } }

[[domains]]
name = "push.shop.example"
account = "1300000000"
region = "mainland"

[[domains]]
name = "push.overseas.example"
region = "global"

[[bindings]]
domain = "push.shop.example"
path = "live"
recording_template = "hls-mp4"
callback_template = "shop"
from = 2026-11-01T00:00:00Z
until = 2026-12-01T00:00:00Z

[[mixes]]
domain = "push.shop.example"
path = "live"
stream = "finale"
inputs = ["push.shop.example", "Push.Overseas.Example."]
"#;

#[test]
fn the_full_example_loads_with_its_keys_and_headers_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.toml");
    fs::write(&path, FULL).unwrap();
    fs::write(folder.path().join("shop-key"), "0123456789abcdefghij\n").unwrap();
    fs::write(folder.path().join("shop-secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    fs::write(folder.path().join("api-key"), "canary\n").unwrap();
    for name in ["shop-key", "shop-secret", "api-key"] {
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(folder.path().join(name), only_ours).unwrap();
    }
    let loaded = load_file(&path, &options()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let mixed = "mixes[0].inputs: their regions differ: such a mix makes broken files, and its events carry a notice";
    assert_eq!(loaded.warnings, [format!("{}:47: {mixed}", path.display())]);
    let registry = loaded.registry;
    let template = registry.callback_template("shop").unwrap();
    assert_eq!(template.policy, crate::domain::policy::Policy::css());
    assert_eq!(template.url(EventKind::RecordingStatus).unwrap().url.as_str(), "https://shop.example/s");
    let key = &template.keys.keys()[0];
    assert_eq!((key.id.as_str(), key.key(), key.secret().len()), ("2026-11", &b"0123456789abcdefghij"[..], 24));
    assert_eq!((key.not_before, key.expires), (Some(UnixMillis(1_767_225_600_000)), Some(UnixMillis(1_798_761_600_000))));
    assert_eq!(template.rate, Some(100.0));
    let mut headers: Vec<(&str, &[u8], bool)> =
        template.headers.iter().map(|header| (header.name.as_str(), header.value.as_bytes(), header.value.is_sensitive())).collect();
    headers.sort_unstable();
    assert_eq!(headers, [("x-api-key", &b"canary"[..], true), ("x-team", &b"shop"[..], true)]);
    let domain = registry.domain(&DomainName::parse("push.shop.example").unwrap()).unwrap();
    assert_eq!(domain.account().unwrap().storage, Storage::Active);
    let (from, until) = (UnixMillis(1_793_491_200_000), UnixMillis(1_796_083_200_000));
    let recording = domain.recording_at(Some("live"), from).unwrap();
    assert_eq!((&recording.formats[..], recording.keep), (&[Format::Hls, Format::Mp4][..], Keep::Forever));
    let printed = format!("{template:?} {template:#?}");
    for secret in ["0123456789abcdefghij", "canary", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        let bytes = format!("{:?}", secret.as_bytes());
        assert!(!printed.contains(secret) && !printed.contains(bytes.trim_matches(['[', ']'])), "what a panic may print shows {secret}");
    }
    assert!(domain.callback_at(Some("live"), from).is_some() && domain.callback_at(Some("live"), until).is_none());
    assert!(domain.mixes_regions(Some("live"), Some("finale")));
}

#[test]
fn the_example_that_is_shipped_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/registry.toml");
    // As text: whether everyone may read the keys in it is up to who copies it.
    let text = fs::read_to_string(&path).unwrap();
    let loaded = load_text(&path, &text, &options()).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.registry.domain_names().len(), 2);
}

#[test]
fn a_template_none_of_whose_keys_is_in_force_is_warned_about() {
    let warnings = |keys: &str| {
        let text = format!(
            "domains = [{{ name = 'a.example' }}]\n[[callback_templates]]\nname = 'shop'\nurls = {{ recording_file = 'https://shop.example/' }}\nkeys = [{keys}]\n"
        );
        parse(&text).unwrap_or_else(|problems| panic!("{problems:?}")).warnings
    };
    let key = |id: &str, ends: &str| format!("{{ id = '{id}', value = '0123456789abcdefghij'{ends} }}");
    let past = key("past", ", expires = 2020-01-01T00:00:00Z");
    let coming = key("coming", ", not_before = 2026-12-01T00:00:00Z");
    assert_eq!(
        warnings(&past),
        ["r.toml:5: callback_templates[0].keys: no key of the template \"shop\" is in force now: its callbacks wait, and are never sent \
          unsigned; add a key, or mend not_before and expires"]
    );
    assert!(warnings(&format!("{past}, {coming}"))[0].contains("its callbacks wait until 2026-12-01T00:00:00Z, and"));
    for fine in [String::new(), format!("{past}, {}", key("now", "")), key("ending", ", expires = 2026-12-01T00:00:00Z")] {
        assert_eq!(warnings(&fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn slashes_around_a_path_are_warned_about() {
    let text = |path: &str| {
        format!(
            "domains = [{{ name = 'a.example' }}]\nrecording_templates = [{{ name = 'r', formats = ['mp4'] }}]\n[[bindings]]\ndomain = 'a.example'\npath = '{path}'\nrecording_template = 'r'\n"
        )
    };
    for (path, said) in [
        ("/live/", Some("write \"live\"")),
        ("/live", Some("write \"live\"")),
        ("live/", Some("write \"live\"")),
        ("/", Some("leave it out")),
        ("live", None),
        ("a/b", None),
    ] {
        let warnings = parse(&text(path)).unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(said.is_some()), "{path}: {warnings:?}");
        let told = warnings.iter().zip(said).all(|(told, said)| told.starts_with("r.toml:5: bindings[0].path: ") && told.contains(said));
        assert!(told, "{path}: {warnings:?}");
    }
}

#[cfg(unix)]
#[test]
fn keys_in_a_registry_that_everyone_can_read_are_warned_about_and_plain_headers_are_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    let template =
        "domains = [{ name = 'a.example' }]\n[[callback_templates]]\nname = 'shop'\nurls = { recording_file = 'https://shop.example/' }\n";
    for (more, warnings) in [
        ("keys = [{ id = 'k', value = '0123456789abcdefghij' }]", 1),
        ("keys = [{ id = 'k', env = 'K', secret = '0123456789abcdefghijklmn' }]", 1),
        ("headers = { 'x-api-key' = { value = 'canary' } }", 1),
        ("keys = [{ id = 'k', env = 'K' }]\nheaders = { 'x-team' = 'shop' }", 0),
    ] {
        fs::write(&path, format!("{template}{more}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let options = LoadOptions { environment: [("K", "0123456789abcdefghij")].into_iter().collect(), ..options() };
        let loaded = load_file(&path, &options).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(loaded.warnings.len(), warnings, "{more}: {:?}", loaded.warnings);
        assert!(loaded.warnings.iter().all(|told| told.contains("r.toml:5: ") && told.contains("chmod o-r")), "{:?}", loaded.warnings);
    }
}

#[test]
fn an_empty_file_is_an_empty_registry_and_a_file_may_name_its_version() {
    assert_eq!(parse("").unwrap().registry.digest(), Registry::empty().digest());
    assert!(parse("version = 1").is_ok());
    assert_eq!(problems("version = 2"), ["r.toml:1: version: must be 1, the version of registry files that this program reads"]);
}

#[test]
fn each_mistake_is_told_with_file_line_and_key() {
    const DOMAIN: &str = "[[domains]]\nname = 'a.example'\n";
    const TEMPLATE: &str = "[[callback_templates]]\nname = 'shop'\nurls = { recording_file = 'https://shop.example/' }\n";
    let table: &[(String, &[&str])] = &[
        (
            "[[account]]\n".into(),
            &[
                "r.toml:1: account: unknown key; known here: accounts, bindings, callback_templates, domains, mixes, recording_templates, version",
            ],
        ),
        ("bindings = 5".into(), &["r.toml:1: bindings: expected a list, found an integer"]),
        ("bindings = [5]".into(), &["r.toml:1: bindings[0]: expected a table, found an integer"]),
        (
            "[[accounts]]\nid = 7\nstorage = 'on'".into(),
            &[
                "r.toml:2: accounts[0].id: expected a string, found an integer",
                "r.toml:3: accounts[0].storage: must be one of \"active\", \"inactive\", \"suspended\"",
            ],
        ),
        ("[[accounts]]\nid = '7'\n".into(), &["r.toml:1: accounts[0].storage: missing"]),
        (
            "[[recording_templates]]\nname = 'r'\nformats = ['avi', 'mp4', 'mp4']\ninterval = '2d'\nkeep = '2000d'".into(),
            &[
                "r.toml:3: recording_templates[0].formats[0]: must be one of \"flv\", \"hls\", \"mp4\", \"aac\", \"mp3\"",
                "r.toml:3: recording_templates[0].formats[1]: \"mp4\" is listed twice",
                "r.toml:4: recording_templates[0].interval: must be above zero and at most 24h",
                "r.toml:5: recording_templates[0].keep: must be above zero and at most 1500d, or \"forever\"",
            ],
        ),
        (
            "[[callback_templates]]\nname = 'a b'".into(),
            &[
                "r.toml:1: callback_templates[0].urls: give at least one URL: recording_file, recording_status or recording_exception",
                "r.toml:2: callback_templates[0].name: a name has 1 to 255 letters, digits, `_` or `-`",
            ],
        ),
        (
            format!("{TEMPLATE}policy = 'mine'\ntimout = '1s'"),
            &[
                "r.toml:4: callback_templates[0].policy: must be one of \"css\", \"standard\"",
                concat!(
                    "r.toml:5: callback_templates[0].timout: unknown key; known here: account, client_certificate, connect_timeout, headers, keys, name, policy, ",
                    "rate, retry, success, timeout, urls",
                ),
            ],
        ),
        (
            format!("{TEMPLATE}retry = {{ delays = ['1s', 5], attempts = 1001, max_age = '31d', jitter = 'x', tries = 1 }}"),
            &[
                "r.toml:4: callback_templates[0].retry.attempts: must be from 1 to 1000",
                "r.toml:4: callback_templates[0].retry.delays[1]: expected a duration such as \"5s\", \"10m\" or \"1h\", found an integer",
                "r.toml:4: callback_templates[0].retry.jitter: expected a number, found a string",
                "r.toml:4: callback_templates[0].retry.max_age: must be from 1ms to 30d",
                "r.toml:4: callback_templates[0].retry.tries: unknown key; known here: attempts, delays, jitter, max_age, max_wait",
            ],
        ),
        (
            format!("{TEMPLATE}success = '3xx'\ntimeout = '121s'\nrate = -1"),
            &[
                "r.toml:4: callback_templates[0].success: must be \"2xx\" or a list of statuses such as [200, 204]",
                "r.toml:5: callback_templates[0].timeout: must be from 100ms to 120s",
                "r.toml:6: callback_templates[0].rate: must be above 0 and at most 1000000 attempts a second",
            ],
        ),
        (format!("{TEMPLATE}success = [200, 404]"), &["r.toml:4: callback_templates[0].success[1]: must be from 200 to 299"]),
        (
            format!("{TEMPLATE}keys = [\n  {{ id = 'a' }},\n  {{ id = 'b', value = 'canary', env = 'X' }},\n  {{ value = '' }},\n]"),
            &[
                "r.toml:5: callback_templates[0].keys[0]: give exactly one of file, env and value",
                "r.toml:6: callback_templates[0].keys[1]: give exactly one of file, env and value",
                "r.toml:7: callback_templates[0].keys[2].id: missing",
            ],
        ),
        (
            format!("{TEMPLATE}keys = [{{ id = 'a', value = '' }}]"),
            &["r.toml:4: callback_templates[0].keys[0]: the key is empty: give its bytes; without keys callbacks are not signed"],
        ),
        (
            format!("{TEMPLATE}keys = [{{ id = 'a', file = 'no/such', secret = 'canary' }}]"),
            &[
                "r.toml:4: callback_templates[0].keys[0].file: no/such cannot be read: No such file or directory (os error 2); create it, or mend the path",
                "r.toml:4: callback_templates[0].keys[0].secret: a secret has 24 to 64 bytes (after decoding what follows whsec_), this one has 6",
            ],
        ),
        (
            format!("{TEMPLATE}[callback_templates.headers]\nHost = 'a'\nx-a = {{ env = 'NOT_SET' }}\nwebhook-id = 'x'"),
            &[
                "r.toml:5: callback_templates[0].headers.Host: this header is set by the daemon or the connection, a template cannot set it",
                "r.toml:6: callback_templates[0].headers.x-a.env: the environment variable NOT_SET is not set: set it where this process starts, or name another",
                "r.toml:7: callback_templates[0].headers.webhook-id: this header is set by the daemon or the connection, a template cannot set it",
            ],
        ),
        (
            "[[callback_templates]]\nname = 'shop'\nurls = { recording_file = 'http://127.1/', recording = 'x' }".into(),
            &[
                "r.toml:3: callback_templates[0].urls.recording: unknown key; known here: recording_exception, recording_file, recording_status",
                "r.toml:3: callback_templates[0].urls.recording_file: the address is private or reserved; egress.allow_networks can allow it",
            ],
        ),
        (
            "[[callback_templates]]\nname = 'shop'\nurls = { recording_file = 'https://shop.example:25/' }".into(),
            &[
                "r.toml:3: callback_templates[0].urls.recording_file: the port is one that no browser would call (mail, DNS, IRC, …), or is not in egress.ports",
            ],
        ),
        (
            "[[callback_templates]]\nname = 'shop'\nurls = { recording_file = 'http://shop.example/' }\nclient_certificate = { certificate = 'x', chain = 'y' }".into(),
            &[
                "r.toml:4: callback_templates[0].client_certificate.chain: unknown key; known here: certificate, key",
                "r.toml:4: callback_templates[0].client_certificate.key: missing",
            ],
        ),
        (
            "[[callback_templates]]\nname = 'shop'\nurls = { recording_file = 'http://shop.example/' }\nclient_certificate = { certificate = 'x', key = 'canary' }".into(),
            &[
                "r.toml:3: callback_templates[0].urls.recording_file: the template has a client_certificate, which http cannot show: write https",
                "r.toml:4: callback_templates[0].client_certificate.certificate: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
            ],
        ),
        (
            format!("{TEMPLATE}{TEMPLATE}"),
            &["r.toml:5: callback_templates[1].name: the name \"shop\" is used twice, rename one: callback_templates[0], r.toml:1"],
        ),
        (
            "[[domains]]\nname = 'a b'\nregion = 'moon'".into(),
            &[
                "r.toml:2: domains[0].name: not a domain name, such as \"push.shop.example\"",
                "r.toml:3: domains[0].region: must be one of \"mainland\", \"global\"",
            ],
        ),
        (
            "[[bindings]]\ncallback_template = 3\nfrom = 2026-11-01\n".into(),
            &[
                "r.toml:1: bindings[0].domain: missing",
                "r.toml:2: bindings[0].callback_template: expected a string, found an integer",
                "r.toml:3: bindings[0].from: not an instant with an offset: write 2026-11-01T00:00:00Z",
            ],
        ),
        (
            format!("{DOMAIN}[[bindings]]\ndomain = 'a.example'\ncallback_template = 'shop'"),
            &[
                "r.toml:5: bindings[0].callback_template: there is no callback template \"shop\": mend the name, or add it; a template stays as long as a row names it, one that ended too",
            ],
        ),
        (
            format!("{DOMAIN}[[bindings]]\ndomain = 'a.example'\n"),
            &["r.toml:3: bindings[0]: a binding has a recording_template, a callback_template, or both; `until` unbinds"],
        ),
        (
            format!(
                "{TEMPLATE}{DOMAIN}[[bindings]]\ndomain = 'a.example'\ncallback_template = 'shop'\nuntil = 2026-11-02T00:00:00Z\n\
                 [[bindings]]\ndomain = 'A.example'\ncallback_template = 'shop'\nfrom = 2026-11-01T00:00:00Z"
            ),
            &[
                "r.toml:10: bindings[1]: overlaps in time with another binding of the same domain and path; end one with `until` where the next begins: bindings[0], r.toml:6",
            ],
        ),
        (
            // It clashes whatever else is wrong with it.
            format!("{DOMAIN}{DOMAIN}region = 'moon'"),
            &[
                "r.toml:4: domains[1].name: the domain \"a.example\" is listed twice, remove one: domains[0], r.toml:1",
                "r.toml:5: domains[1].region: must be one of \"mainland\", \"global\"",
            ],
        ),
        (
            // By what is wrong it does not clash.
            format!(
                "{TEMPLATE}{DOMAIN}[[bindings]]\ndomain = 'a.example'\ncallback_template = 'shop'\n\
                 [[bindings]]\ndomain = 'a.example'\ncallback_template = 'shop'\npath = 5"
            ),
            &["r.toml:12: bindings[1].path: expected a string, found an integer"],
        ),
        (
            format!("{DOMAIN}[[mixes]]\ndomain = 'a.example'\npath = 'live'\ninputs = ['b.example', 1]"),
            &["r.toml:3: mixes[0].stream: missing", "r.toml:6: mixes[0].inputs[1]: expected a string, found an integer"],
        ),
        ("[[domains]\n".into(), &["r.toml:1: not TOML: unclosed array table, expected `]`"]),
    ];
    for (text, expected) in table {
        let found = problems(text);
        assert_eq!(found, *expected, "{text}");
        assert!(!found.join("").contains("canary"));
    }
}

#[test]
fn doubtful_things_are_warned_about() {
    let text = "[[callback_templates]]\nname = 'a'\nurls = { recording_file = 'https://a.example/' }\npolicy = 'standard'\ntimeout = '26s'\n\
                retry = { delays = ['1s', '5s'] }\nkeys = [{ id = 'k', value = 'short ' }]\n\
                [[domains]]\nname = 'a.example'\n[[mixes]]\ndomain = 'a.example'\npath = 'p'\nstream = 's'\ninputs = ['a.example', 'a.example']";
    assert_eq!(
        parse(text).unwrap().warnings,
        [
            "r.toml:5: callback_templates[0].timeout: 26s exceeds delivery.drain_timeout (25s): a stop may cut attempts short; raise the one or lower the other",
            "r.toml:6: callback_templates[0].retry.delays: the first delay, 1s, rounds up to the smallest delay tier, 5s: write that, or add a tier to delivery.delay_tiers",
            "r.toml:7: callback_templates[0].keys[0]: the key begins or ends with white space, which counts; remove it unless it is meant",
            "r.toml:7: callback_templates[0].keys[0]: the key has 6 bytes: below 20, it can be searched for by anyone who sees a callback; take a longer one",
            "r.toml:14: mixes[0].inputs: not every input's domain has a region: whether they differ cannot be told",
        ]
    );
}

#[test]
fn success_is_a_list_or_any_2xx() {
    let text = "[[callback_templates]]\nname = 'a'\nurls = { recording_file = 'https://a.example/' }\nsuccess = ";
    let success = |value: &str| parse(&format!("{text}{value}")).unwrap().registry.callback_template("a").unwrap().policy.success.clone();
    assert_eq!(success("[200, 204]"), Success::Listed(vec![200, 204]));
    assert_eq!(success("\"2xx\""), Success::Any2xx);
}

#[test]
fn the_time_to_load_does_not_grow_with_the_square_of_the_bindings() {
    let seconds = |bindings: usize| {
        let mut text = String::from("[[callback_templates]]\nname = 'a'\nurls = { recording_file = 'https://a.example/' }\n");
        for at in 0..bindings {
            let _ = writeln!(text, "[[domains]]\nname = 'd{at}.example'");
            let _ = writeln!(text, "[[bindings]]\ndomain = 'd{at}.example'\ncallback_template = 'a'\nfrom = 2026-11-01T00:00:00Z");
        }
        let start = Instant::now();
        let registry = parse(&text).unwrap_or_else(|problems| panic!("{problems:?}")).registry;
        assert_eq!(registry.domain_names().len(), bindings);
        start.elapsed().as_secs_f64()
    };
    // 20 times the bindings: 20 times the time, 400 times with the square. The least of three runs: the machine may be busy.
    let least = |bindings| (0..3).map(|_| seconds(bindings)).fold(f64::INFINITY, f64::min);
    let ratio = least(20_000) / least(1_000);
    assert!(ratio < 100.0, "{ratio}");
}
