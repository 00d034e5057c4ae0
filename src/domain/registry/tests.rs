use super::super::event::EventKind;
use super::super::policy::{Policy, Success};
use super::*;
use std::time::Duration;
use zeroize::Zeroizing;

fn rules() -> Rules {
    Rules { templates_per_account: 50, addresses: super::super::address::AddressPolicy::default() }
}

fn callback(name: &str) -> CallbackTemplateEntry {
    CallbackTemplateEntry { name: name.into(), recording_file: Some("https://shop.example/cb?tenant=7#top".into()), ..Default::default() }
}

fn key(id: &str, value: &[u8]) -> KeyEntry {
    KeyEntry { id: id.into(), value: Zeroizing::new(value.to_vec()), secret: None, not_before: None, expires: None }
}

fn domain(name: &str) -> DomainEntry {
    DomainEntry { name: name.into(), account: None, region: None }
}

fn binding(domain: &str, path: Option<&str>, from: Option<i64>, until: Option<i64>) -> BindingEntry {
    BindingEntry {
        domain: domain.into(),
        path: path.map(String::from),
        recording_template: None,
        callback_template: Some("shop".into()),
        from: from.map(UnixMillis),
        until: until.map(UnixMillis),
    }
}

fn one_of_each() -> Entries {
    Entries {
        callback_templates: vec![callback("shop")],
        domains: vec![domain("push.shop.example"), domain("push.other.example")],
        ..Default::default()
    }
}

/// The problems of `entries`, as text.
fn problems(entries: Entries) -> Vec<String> {
    Registry::build(entries, &rules()).err().unwrap_or_default().iter().map(Problem::to_string).collect()
}

fn problems_of_template(change: impl FnOnce(&mut CallbackTemplateEntry)) -> Vec<String> {
    let mut template = callback("shop");
    change(&mut template);
    problems(Entries { callback_templates: vec![template], ..Default::default() })
}

#[test]
fn a_template_keeps_its_policy_but_for_what_it_overrides() {
    let mut template = callback("shop");
    template.policy = PolicyKind::Standard;
    template.attempts = Some(3);
    template.timeout = Some(Duration::from_millis(100));
    let registry = Registry::build(Entries { callback_templates: vec![template], ..Default::default() }, &rules()).unwrap();
    let expected = Policy { attempts: 3, timeout: Duration::from_millis(100), ..Policy::standard() };
    assert_eq!(registry.callback_template("shop").unwrap().policy, expected);
}

#[test]
fn the_endpoint_is_the_url_without_query_and_the_fragment_is_gone() {
    let registry = Registry::build(one_of_each(), &rules()).unwrap();
    let template = registry.callback_template("shop").unwrap();
    let url = template.url(EventKind::RecordingFile).unwrap();
    assert_eq!(url.url.as_str(), "https://shop.example/cb?tenant=7");
    assert_eq!(&*url.endpoint.0, "https://shop.example/cb");
    assert!(template.url(EventKind::RecordingStatus).is_none());
}

#[test]
fn the_lowest_rate_of_the_templates_that_share_an_endpoint_counts() {
    let (mut a, mut b, c) = (callback("a"), callback("b"), callback("c"));
    (a.rate, b.rate) = (Some(100.0), Some(7.5));
    b.recording_file = Some("https://shop.example/cb?tenant=8".into());
    let registry = Registry::build(Entries { callback_templates: vec![a, b, c], ..Default::default() }, &rules()).unwrap();
    assert_eq!(registry.rate(&Endpoint("https://shop.example/cb".into())), Some(7.5));
    assert_eq!(registry.rate(&Endpoint("https://shop.example/".into())), None);
}

#[test]
fn values_out_of_range_are_told_by_field() {
    type Change = fn(&mut CallbackTemplateEntry);
    let day = |n: u64| Duration::from_secs(n * 24 * 3600);
    assert!(problems_of_template(|t| (t.delays, t.max_age) = (Some(vec![day(7)]), Some(day(30)))).is_empty());
    for (attempts, timeout) in [(1, Duration::from_millis(100)), (1000, Duration::from_secs(120))] {
        let at_a_bound = |t: &mut CallbackTemplateEntry| {
            (t.attempts, t.jitter) = (Some(attempts), Some(1.0));
            (t.timeout, t.connect_timeout) = (Some(timeout), Some(timeout));
        };
        assert!(problems_of_template(at_a_bound).is_empty());
    }
    let table: [(Change, &str); 17] = [
        (|t| t.attempts = Some(1001), "callback_templates[0].retry.attempts: must be from 1 to 1000"),
        (|t| t.timeout = Some(Duration::from_millis(99)), "callback_templates[0].timeout: must be from 100ms to 120s"),
        (|t| t.connect_timeout = Some(Duration::from_millis(120_001)), "callback_templates[0].connect_timeout: must be from 100ms to 120s"),
        (|t| t.attempts = Some(0), "callback_templates[0].retry.attempts: must be from 1 to 1000"),
        (|t| t.delays = Some(vec![]), "callback_templates[0].retry.delays: list at least one delay"),
        (
            |t| t.delays = Some(vec![Duration::from_secs(1), Duration::from_secs(604_801)]),
            "callback_templates[0].retry.delays[1]: must be from 1ms to 7d",
        ),
        (|t| t.max_age = Some(Duration::from_secs(2_592_001)), "callback_templates[0].retry.max_age: must be from 1ms to 30d"),
        (|t| t.max_wait = Some(Duration::ZERO), "callback_templates[0].retry.max_wait: must be from 1ms to 30d"),
        (|t| t.jitter = Some(1.01), "callback_templates[0].retry.jitter: must be from 0.0 to 1.0"),
        (|t| t.jitter = Some(f64::NAN), "callback_templates[0].retry.jitter: must be from 0.0 to 1.0"),
        (|t| t.rate = Some(0.0), "callback_templates[0].rate: must be above 0 and at most 1000000 attempts a second"),
        (|t| t.success = Some(Success::Listed(vec![])), "callback_templates[0].success: list at least one status, or write \"2xx\""),
        (|t| t.success = Some(Success::Listed(vec![200, 302])), "callback_templates[0].success[1]: must be from 200 to 299"),
        (|t| t.name = "a.b".into(), "callback_templates[0].name: a name has 1 to 255 letters, digits, `_` or `-`"),
        (
            |t| t.account = Some("42".into()),
            "callback_templates[0].account: there is no account \"42\": add it to accounts, or mend the id",
        ),
        (
            |t| t.recording_file = None,
            "callback_templates[0].urls: give at least one URL: recording_file, recording_status or recording_exception",
        ),
        (
            |t| t.recording_status = Some("not a url".into()),
            "callback_templates[0].urls.recording_status: not a plain URL: http or https, a host, no user name or password, a port from 1 to 65535",
        ),
    ];
    for (change, expected) in table {
        assert_eq!(problems_of_template(change), [expected]);
    }
}

#[test]
fn urls_are_judged_by_the_address_policy_and_never_shown() {
    for (url, expected) in [
        ("ftp://shop.example/", "not a plain URL: http or https, a host, no user name or password, a port from 1 to 65535"),
        ("https://user:pw@shop.example/", "not a plain URL: http or https, a host, no user name or password, a port from 1 to 65535"),
        ("http://2130706433/canary", "the address is private or reserved; egress.allow_networks can allow it"),
        ("http://[::ffff:169.254.169.254]/", "link-local and metadata addresses are never dialled, whatever is allowed: name another host"),
        ("http://localhost/", "the name is local or special; egress.allow_names can allow it"),
    ] {
        let found = problems_of_template(|template| template.recording_file = Some(url.into()));
        assert_eq!(found, [format!("callback_templates[0].urls.recording_file: {expected}")]);
    }
}

#[test]
fn keys_have_unique_ids_and_are_never_empty() {
    let mut expired = key("old", b"k");
    (expired.not_before, expired.expires) = (Some(UnixMillis(2)), Some(UnixMillis(2)));
    let mut short = key("short", b"k");
    short.secret = Some(Zeroizing::new(b"raw-canary".to_vec()));
    let mut bad = key("bad", b"k");
    bad.secret = Some(Zeroizing::new(b"whsec_%%canary".to_vec()));
    let found = problems_of_template(|t| t.keys = vec![key("a", b"k"), key("a", b""), expired, short, bad, key("long", &[b'k'; 1025])]);
    assert_eq!(
        found,
        [
            "callback_templates[0].keys[1].id: the key id \"a\" is used twice in this template: give each key an id of its own",
            "callback_templates[0].keys[1]: the key is empty: give its bytes; without keys callbacks are not signed",
            "callback_templates[0].keys[2].expires: must be later than not_before",
            "callback_templates[0].keys[3].secret: a secret has 24 to 64 bytes (after decoding what follows whsec_), this one has 10",
            "callback_templates[0].keys[4].secret: what follows whsec_ is not base64",
            "callback_templates[0].keys[5]: the key has more than 1024 bytes: give a shorter one",
        ]
    );
}

#[test]
fn a_receivers_secret_may_be_as_short_as_the_key_that_it_is_but_not_empty() {
    assert_eq!(&**shared_secret(b"whsec_YWRhc2RhMTMxMzEy").unwrap(), b"adasda131312");
    assert_eq!(&**shared_secret(b"x").unwrap(), b"x");
    assert_eq!(shared_secret(&[b'x'; 1024]).unwrap().len(), 1024);
    for empty in [&b""[..], b"whsec_"] {
        assert_eq!(shared_secret(empty), Err(SecretError::Empty));
    }
    assert_eq!(shared_secret(b"whsec_="), Err(SecretError::NotBase64));
}

#[test]
fn a_webhook_secret_is_whsec_base64_or_raw() {
    assert_eq!(webhook_secret(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap().len(), 24);
    assert_eq!(&**webhook_secret(b"0123456789abcdefghijklmn").unwrap(), b"0123456789abcdefghijklmn");
    assert_eq!(webhook_secret(&[b'x'; 65]), Err(SecretError::Length(65)));
    assert_eq!(webhook_secret(b"whsec_MfKQ"), Err(SecretError::Length(3)));
}

#[test]
fn headers_that_the_daemon_or_the_connection_sets_are_refused() {
    let header = |name: &str, value: &[u8]| HeaderEntry { name: name.into(), value: Zeroizing::new(value.to_vec()) };
    let reserved = ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "content-type", "Webhook-Id", "callbackd-notice", "te"];
    for name in reserved {
        let found = problems_of_template(|template| template.headers = vec![header(name, b"x")]);
        let expected = "this header is set by the daemon or the connection, a template cannot set it";
        assert_eq!(found, [format!("callback_templates[0].headers.{name}: {expected}")]);
    }
    for (name, value, expected) in [
        ("x y", &b"v"[..], "not a header name: write one such as x-api-key"),
        ("x-y", b"canary\r\nhost: evil", "a header's value has printable ASCII only"),
        ("x-y", "café".as_bytes(), "a header's value has printable ASCII only"),
        ("x-y", &[b'v'; 4097], "a header's value has at most 4096 bytes"),
    ] {
        let found = problems_of_template(|template| template.headers = vec![header(name, value)]);
        assert_eq!(found, [format!("callback_templates[0].headers.{name}: {expected}")]);
    }
    let long = problems_of_template(|template| template.headers = vec![header(&"x".repeat(257), b"v")]);
    assert_eq!(long, ["callback_templates[0].headers: a header's name has at most 256 bytes, one has 257"]);
    let found = problems_of_template(|template| template.headers = vec![header("x-a", b"1"), header("X-A", b"2")]);
    assert_eq!(found, ["callback_templates[0].headers.X-A: the same header twice (names are compared in lower case)"]);
}

#[test]
fn what_could_never_be_sent_is_refused() {
    let found = |url: String| problems_of_template(|template| template.recording_file = Some(url));
    let long = |length: usize| format!("https://shop.example/{}", "x".repeat(length - 21));
    assert_eq!(found(long(8192)), Vec::<String>::new());
    assert_eq!(found(long(8193)), ["callback_templates[0].urls.recording_file: has 8193 bytes, at most 8192 can be sent"]);
    // Each of its letters becomes six.
    assert_eq!(
        found(format!("https://shop.example/{}", "é".repeat(1400))),
        ["callback_templates[0].urls.recording_file: has 8421 bytes, at most 8192 can be sent"]
    );
    let nameless = "the host is no name that a certificate could be for: mend it, or write http";
    assert_eq!(found("https://-a.example/".into()), [format!("callback_templates[0].urls.recording_file: {nameless}")]);
    assert_eq!(found("http://-a.example/".into()), Vec::<String>::new());
    let many = problems_of_template(|template| {
        template.keys = (0..33).map(|n| key(&format!("k{n}"), b"0123456789abcdefghij")).collect();
    });
    let expected = "at most 32 keys, there are 33: each signs every callback; remove those that have expired";
    assert_eq!(many, [format!("callback_templates[0].keys: {expected}")]);
}

#[test]
fn debug_output_shows_neither_keys_nor_header_values() {
    let mut template = callback("shop");
    template.keys = vec![key("2026", b"canary-key-0123456789")];
    template.headers = vec![HeaderEntry { name: "x-api-key".into(), value: Zeroizing::new(b"canary-header".to_vec()) }];
    template.recording_file = Some("https://shop.example/cb?token=canary-query".into());
    let written = format!("{template:?}");
    let registry = Registry::build(Entries { callback_templates: vec![template], ..Default::default() }, &rules()).unwrap();
    let built = format!("{:?}", registry.callback_template("shop").unwrap());
    assert!(!written.contains("canary") && !built.contains("canary"), "{written} {built}");
}

#[test]
fn names_are_unique_and_references_are_known() {
    let mut entries = one_of_each();
    entries.accounts = vec![AccountEntry { id: "7".into(), storage: Storage::Active }; 2];
    entries.callback_templates.push(callback("shop"));
    entries.domains.extend([domain("PUSH.Shop.Example."), domain("no domain")]);
    entries.domains[1].account = Some("8".into());
    let mut lost = binding("push.lost.example", None, None, None);
    lost.recording_template = Some("hls".into());
    lost.callback_template = Some("shoo".into());
    let mut empty = binding("push.shop.example", None, None, None);
    empty.callback_template = None;
    entries.bindings = vec![lost, empty];
    entries.mixes =
        vec![MixEntry { domain: "gone.example".into(), path: String::new(), stream: "s".into(), inputs: vec!["gone.example".into()] }];
    assert_eq!(
        problems(entries),
        [
            "accounts[1].id: the account \"7\" is listed twice, remove one (accounts[0])",
            "callback_templates[1].name: the name \"shop\" is used twice, rename one (callback_templates[0])",
            "domains[1].account: there is no account \"8\": add it to accounts, or mend the id",
            "domains[2].name: the domain \"push.shop.example\" is listed twice, remove one (domains[0])",
            "domains[3].name: not a domain name, such as \"push.shop.example\"",
            "bindings[0].domain: there is no domain \"push.lost.example\": add it to domains, or mend the name",
            "bindings[0].recording_template: there is no recording template \"hls\": mend the name, or add it; a template stays as long as a row names it, one that ended too",
            "bindings[0].callback_template: there is no callback template \"shoo\": mend the name, or add it; a template stays as long as a row names it, one that ended too",
            "bindings[1]: a binding has a recording_template, a callback_template, or both; `until` unbinds",
            "mixes[0].path: expected 1 to 255 bytes without control characters",
            "mixes[0].inputs[0]: there is no domain \"gone.example\": add it to domains, or mend the name",
            "mixes[0].domain: there is no domain \"gone.example\": add it to domains, or mend the name",
        ]
    );
}

#[test]
fn an_account_owns_at_most_so_many_templates_and_those_without_owner_count_as_one() {
    let rules = Rules { templates_per_account: 2, ..rules() };
    let owned = |name: &str, account: Option<&str>| CallbackTemplateEntry { account: account.map(String::from), ..callback(name) };
    let mut entries = Entries { accounts: vec![AccountEntry { id: "7".into(), storage: Storage::Active }], ..Default::default() };
    entries.callback_templates = vec![owned("a", None), owned("b", Some("7")), owned("c", None), owned("d", Some("7"))];
    assert!(Registry::build(entries.clone(), &rules).is_ok());
    entries.callback_templates.extend([owned("e", None), owned("f", Some("7")), owned("g", None)]);
    let found: Vec<String> = Registry::build(entries, &rules).err().unwrap().iter().map(Problem::to_string).collect();
    assert_eq!(
        found,
        [
            "callback_templates[4]: templates without an account count as one account, which has more than 2 templates of this kind: delete some, or raise registry.templates_per_account",
            "callback_templates[5]: account \"7\" has more than 2 templates of this kind: delete some, or raise registry.templates_per_account",
        ]
    );
}

#[test]
fn bindings_of_one_domain_and_path_never_overlap_in_time() {
    let (a, b) = ("push.shop.example", "push.other.example");
    let overlap = |row: usize, other: usize| {
        format!(
            "bindings[{row}]: overlaps in time with another binding of the same domain and path; end one with `until` where the next begins (bindings[{other}])"
        )
    };
    type Rows = Vec<(&'static str, Option<&'static str>, Option<i64>, Option<i64>)>;
    let table: Vec<(Rows, Vec<String>)> = vec![
        (vec![(a, None, None, Some(5)), (a, None, Some(5), None)], vec![]),
        (vec![(a, None, None, Some(6)), (a, None, Some(5), None)], vec![overlap(1, 0)]),
        (vec![(a, None, Some(5), None), (a, None, None, Some(6))], vec![overlap(1, 0)]),
        (vec![(a, None, None, None), (a, None, None, None)], vec![overlap(1, 0)]),
        (vec![(a, None, None, None), (a, Some("live"), None, None), (b, None, None, None)], vec![]),
        (
            vec![(a, Some("live"), Some(1), Some(9)), (a, Some("live"), Some(3), Some(4)), (a, Some("live"), Some(8), None)],
            vec![overlap(1, 0), overlap(2, 0)],
        ),
        (vec![("PUSH.shop.example", None, None, None), (a, None, Some(1), None)], vec![overlap(1, 0)]),
        (vec![(a, None, Some(5), Some(5))], vec!["bindings[0].until: must be later than from".into()]),
    ];
    for (rows, expected) in table {
        let bindings = rows.iter().map(|(domain, path, from, until)| binding(domain, *path, *from, *until)).collect();
        assert_eq!(problems(Entries { bindings, ..one_of_each() }), expected, "{rows:?}");
    }
}

#[test]
fn the_digest_depends_on_content_but_neither_on_the_order_of_rows_nor_on_secrets() {
    let digest = |entries: Entries| Registry::build(entries, &rules()).unwrap().digest();
    let mut entries = one_of_each();
    entries.callback_templates[0].keys = vec![key("2026", b"one")];
    entries.bindings = vec![binding("push.shop.example", None, None, None), binding("push.other.example", None, None, None)];
    let first = digest(entries.clone());
    assert!(first > 0 && first < 1 << 48);

    let mut same = entries.clone();
    same.domains.reverse();
    same.bindings.reverse();
    same.callback_templates[0].keys = vec![key("2026", b"two")];
    assert_eq!(digest(same), first);

    let changes: [fn(&mut Entries); 4] = [
        |entries| entries.callback_templates[0].keys[0].id = "2027".into(),
        |entries| entries.callback_templates[0].recording_file = Some("https://shop.example/other".into()),
        |entries| entries.bindings[0].from = Some(UnixMillis(0)),
        |entries| entries.domains[0].region = Some(Region::Global),
    ];
    for change in changes {
        let mut other = entries.clone();
        change(&mut other);
        assert_ne!(digest(other), first);
    }
}

#[test]
fn entries_are_counted_per_kind_and_the_first_template_to_run_out_of_keys_is_known() {
    let mut entries = one_of_each();
    let (mut early, mut late) = (key("a", b"k"), key("b", b"k"));
    (early.expires, late.expires) = (Some(UnixMillis(5)), Some(UnixMillis(9)));
    entries.callback_templates[0].keys = vec![late, early];
    let registry = Registry::build(entries.clone(), &rules()).unwrap();
    assert_eq!(registry.keys_run_out(UnixMillis(0)), Some(UnixMillis(9)));
    entries.callback_templates[0].keys.push(key("c", b"k"));
    let registry = Registry::build(entries, &rules()).unwrap();
    assert_eq!(
        registry.entries().map(|(kind, count)| (kind.as_str(), count)),
        [("account", 0), ("recording_template", 0), ("callback_template", 1), ("domain", 2), ("binding", 0), ("mix", 0)]
    );
    assert_eq!(registry.keys_run_out(UnixMillis(0)), None);
    assert_eq!(Registry::empty().domain_names().len(), 0);
}
