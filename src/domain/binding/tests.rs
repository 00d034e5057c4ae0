use super::super::address::AddressPolicy;
use super::super::body::Cuts;
use super::super::id::DomainName;
use super::super::registry::{
    AccountEntry, BindingEntry, CallbackTemplateEntry, DomainEntry, Entries, Format, Keep, MixEntry, RecordingTemplateEntry, Region, Rules,
};
use super::super::time::UnixMillis;
use super::*;
use std::time::Duration;

const A: &str = "push.shop.example";

/// One row: path, recording template, callback template, from, until.
type Row = (Option<&'static str>, Option<&'static str>, Option<&'static str>, Option<i64>, Option<i64>);

fn entries(rows: &[Row]) -> Entries {
    let recording = |name: &str| RecordingTemplateEntry {
        name: name.into(),
        account: None,
        formats: vec![Format::Mp4],
        interval: Duration::from_secs(1800),
        keep: Keep::Forever,
    };
    let callback = |name: &str| CallbackTemplateEntry {
        name: name.into(),
        recording_file: Some(format!("https://{name}.example/")),
        ..Default::default()
    };
    let binding = |(path, recording, callback, from, until): &Row| BindingEntry {
        domain: A.into(),
        path: path.map(String::from),
        recording_template: recording.map(String::from),
        callback_template: callback.map(String::from),
        from: from.map(UnixMillis),
        until: until.map(UnixMillis),
    };
    Entries {
        recording_templates: vec![recording("hls")],
        callback_templates: vec![callback("one"), callback("two")],
        domains: vec![DomainEntry { name: A.into(), account: None, region: None }],
        bindings: rows.iter().map(binding).collect(),
        ..Default::default()
    }
}

fn build(entries: Entries) -> Registry {
    let rules = Rules { templates_per_account: 50, addresses: AddressPolicy::default() };
    Registry::build(entries, &rules).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// An event of type 100, made by an API task (so that no recording binding is needed), on the path `live`, pushed at `at`.
fn event(at: i64) -> Event {
    Event {
        kind: EventKind::RecordingFile,
        domain: DomainName::parse(A).unwrap(),
        path: Some("live".into()),
        stream: Some("s".into()),
        push_start: UnixMillis(at),
        push_start_source: PushStartSource::Stated,
        template_driven: false,
        cuts: Cuts::default(),
    }
}

/// What `event` meets, in one word.
fn met(registry: &Registry, event: &Event) -> String {
    match meet(registry, event) {
        Meeting::Call { template, mixed_regions: false } => template.name.to_string(),
        Meeting::Call { template, mixed_regions: true } => format!("{} mixed", template.name),
        Meeting::Skip(Skip::NoCallbackTemplate) => "no template".into(),
        Meeting::Skip(Skip::NoUrl) => "no url".into(),
        Meeting::UnknownDomain => "unknown".into(),
        Meeting::AccountSuspended => "suspended".into(),
        Meeting::RecordingUnbound { assumed: false } => "unbound".into(),
        Meeting::RecordingUnbound { assumed: true } => "unbound, assumed".into(),
    }
}

#[test]
fn without_a_binding_callbacks_are_off() {
    assert_eq!(met(&build(entries(&[])), &event(5)), "no template");
}

#[test]
fn an_unknown_domain_comes_before_everything_else() {
    let event = Event { domain: DomainName::parse("push.lost.example").unwrap(), ..event(5) };
    assert_eq!(met(&build(entries(&[(None, None, Some("one"), None, None)])), &event), "unknown");
    assert_eq!(met(&Registry::empty(), &event), "unknown");
}

#[test]
fn domains_are_compared_in_lower_case_a_label_form() {
    let mut entries = entries(&[(None, None, Some("one"), None, None)]);
    entries.domains[0].name = "PUSH.Bücher.Example".into();
    entries.bindings[0].domain = "push.bücher.example".into();
    let registry = build(entries);
    let event = Event { domain: DomainName::parse("push.XN--bcher-kva.example").unwrap(), ..event(5) };
    assert_eq!(met(&registry, &event), "one");
}

#[test]
fn an_account_that_is_not_active_comes_before_the_bindings_and_a_domain_without_account_has_no_check() {
    for (storage, expected) in [(Storage::Active, "unbound"), (Storage::Inactive, "suspended"), (Storage::Suspended, "suspended")] {
        let mut entries = entries(&[]);
        entries.accounts = vec![AccountEntry { id: "7".into(), storage }];
        entries.domains[0].account = Some("7".into());
        assert_eq!(met(&build(entries.clone()), &Event { template_driven: true, ..event(5) }), expected);
        entries.domains[0].account = None;
        assert_eq!(met(&build(entries), &Event { template_driven: true, ..event(5) }), "unbound");
    }
}

#[test]
fn a_template_driven_recording_without_a_recording_binding_is_unbound_and_says_whether_the_start_was_assumed() {
    let registry = build(entries(&[(None, None, Some("one"), None, None)]));
    let driven = Event { template_driven: true, ..event(5) };
    assert_eq!(met(&registry, &driven), "unbound");
    assert_eq!(met(&registry, &Event { push_start_source: PushStartSource::Assumed, ..driven.clone() }), "unbound, assumed");
    assert_eq!(met(&registry, &event(5)), "one", "made by an API task");
    assert_eq!(met(&registry, &Event { kind: EventKind::RecordingStatus, ..driven }), "no url", "of type 332");
    let registry = build(entries(&[(None, Some("hls"), Some("one"), None, None)]));
    assert_eq!(met(&registry, &Event { template_driven: true, ..event(5) }), "one");
}

#[test]
fn an_event_kind_without_a_url_is_skipped() {
    let registry = build(entries(&[(None, None, Some("one"), None, None)]));
    assert_eq!(met(&registry, &Event { kind: EventKind::RecordingException, ..event(5) }), "no url");
}

#[test]
fn what_counts_is_the_binding_in_force_when_the_push_started() {
    let registry = build(entries(&[(None, None, Some("two"), Some(20), Some(30)), (None, None, Some("one"), Some(10), Some(20))]));
    let table = [(9, "no template"), (10, "one"), (19, "one"), (20, "two"), (29, "two"), (30, "no template")];
    for (at, expected) in table {
        assert_eq!(met(&registry, &event(at)), expected, "from is inclusive, until exclusive: {at}");
    }
}

#[test]
fn a_path_overrides_each_kind_for_itself_and_when_its_binding_ends_the_domains_applies_again() {
    let registry = build(entries(&[
        (None, Some("hls"), Some("one"), Some(0), Some(100)),
        (Some("live"), None, Some("two"), Some(10), Some(20)),
        (Some("vod"), Some("hls"), None, None, None),
    ]));
    let table = [
        (Some("live"), 9, "one"),
        (Some("live"), 10, "two"), // recording is the domain's still
        (Some("live"), 20, "one"),
        (Some("other"), 15, "one"),
        (None, 15, "one"),
        (Some("vod"), 15, "one"),
        (Some("vod"), 100, "no template"), // its own recording binding goes on, the domain's callbacks ended
        (Some("live"), 100, "unbound"),
    ];
    for (path, at, expected) in table {
        let event = Event { path: path.map(String::from), template_driven: true, ..event(at) };
        assert_eq!(met(&registry, &event), expected, "{path:?} at {at}");
    }
}

#[test]
fn a_template_of_then_is_called_with_the_urls_of_now() {
    let mut entries = entries(&[(None, None, Some("one"), None, Some(10))]);
    entries.callback_templates[0].recording_file = Some("https://mended.example/".into());
    let Meeting::Call { template, .. } = meet(&build(entries), &event(5)) else { panic!("no call") };
    assert_eq!(template.url(EventKind::RecordingFile).unwrap().url.as_str(), "https://mended.example/");
}

#[test]
fn a_stream_mixed_from_differing_regions_is_marked() {
    let domain = |name: &str, region| DomainEntry { name: name.into(), account: None, region };
    let mix = |stream: &str, inputs: &[&str]| MixEntry {
        domain: A.into(),
        path: "live".into(),
        stream: stream.into(),
        inputs: inputs.iter().map(|input| (*input).into()).collect(),
    };
    let mut entries = entries(&[(None, None, Some("one"), None, None)]);
    entries.domains = vec![
        domain(A, Some(Region::Mainland)),
        domain("b.example", Some(Region::Global)),
        domain("c.example", Some(Region::Mainland)),
        domain("d.example", None),
    ];
    entries.mixes = vec![
        mix("differ", &[A, "d.example", "B.example"]),
        mix("same", &[A, "c.example"]),
        mix("unknown", &[A, "d.example"]),
        mix("single", &["b.example"]),
    ];
    let registry = build(entries);
    let table = [("differ", "one mixed"), ("same", "one"), ("unknown", "one"), ("single", "one"), ("other", "one")];
    for (stream, expected) in table {
        assert_eq!(met(&registry, &Event { stream: Some(stream.into()), ..event(5) }), expected, "{stream}");
    }
    let elsewhere = Event { stream: Some("differ".into()), path: Some("vod".into()), ..event(5) };
    assert_eq!(met(&registry, &elsewhere), "one");
}
