//! What is exported, and that rules and dashboards speak of nothing else.

use super::*;
use crate::domain::address::Refusal;
use crate::domain::binding::Skip;
use crate::domain::class::Class;
use crate::domain::dead_letter::Reason;
use crate::domain::registry::EntityKind;
use crate::domain::requeue::RequeueReason;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::AttemptResult;
use std::collections::BTreeSet;
use std::time::Duration;

fn metrics() -> Arc<Metrics> {
    Metrics::new(&["5s".into(), "1m".into()], &["recording.completed".into()]).unwrap()
}

/// The value of the series written exactly so.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    metrics.render().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// A process in which nearly everything happened at least once.
fn busy() -> Arc<Metrics> {
    let m = metrics();
    m.set_domains(["push.shop.example"]);
    m.consumed("recording.completed");
    for outcome in SettledAs::ALL {
        m.settled(outcome, Some(Duration::from_millis(40)));
        m.domain_settled("push.shop.example", outcome);
    }
    m.first_attempt_age(Duration::from_millis(4));
    m.attempt(AttemptResult::Success, Duration::from_millis(3));
    m.set_in_flight(3);
    m.set_in_flight_limit(1024);
    m.requeued("5s", RequeueReason::Retry);
    m.dead_letter(Reason::AttemptsExhausted);
    m.replayed(2);
    m.set_tier_pending("5s", 7);
    m.set_oldest_undelivered(Some(UnixMillis(1_700_000_000_500)));
    m.set_domain_oldest_undelivered([("push.shop.example", UnixMillis(1_700_000_000_500))]);
    m.set_lag("recording.completed", 0, 12);
    m.set_unfinished_span("recording.completed", 0, 5);
    m.set_assigned_partitions(Class::Fresh, 6);
    m.rebalance(Class::Retry);
    m.committed_at(Class::Fresh, UnixMillis(1_700_000_000_000));
    m.set_commit_map_bytes(Class::Fresh, 90);
    m.set_partitions_stopped(Class::Fresh, 1);
    m.possible_repeat(1);
    m.records_lost(1);
    m.kafka_error(KafkaErrorKind::Transport);
    m.egress_blocked(Refusal::Metadata);
    m.registry_loaded(UnixMillis(1_700_000_000_000), &[(EntityKind::Domain, 1)], 0xffff_ffff_ffff);
    m.set_clock_skew(-0.25);
    m.set_signing_key_expiry(Some(UnixMillis(1_800_000_000_000)));
    m.headers_dropped();
    m.push_start_assumed();
    m.mixed_regions();
    m.skipped(Skip::NoUrl);
    m
}

#[test]
fn every_closed_label_set_is_there_at_zero_before_anything_happened() {
    let m = metrics();
    for series in [
        "callbackd_events_consumed_total{topic=\"recording.completed\"}",
        "callbackd_events_settled_total{outcome=\"skipped\"}",
        "callbackd_event_age_seconds_count{outcome=\"dead_lettered\"}",
        "callbackd_first_attempt_age_seconds_bucket{le=\"30\"}",
        "callbackd_attempts_total{result=\"unexpected_status\"}",
        "callbackd_attempt_duration_seconds_bucket{result=\"tls\",le=\"120\"}",
        "callbackd_requeued_total{reason=\"moved_on\",tier=\"1m\"}",
        "callbackd_dead_letters_total{reason=\"undecodable\"}",
        "callbackd_tier_pending{tier=\"5s\"}",
        "callbackd_domain_settled_total{domain=\"_other\",outcome=\"delivered\"}",
        "callbackd_skipped_total{reason=\"no_url\"}",
        "callbackd_assigned_partitions{class=\"replay\"}",
        "callbackd_kafka_errors_total{kind=\"produce_refused\"}",
        "callbackd_egress_blocked_total{reason=\"metadata\"}",
        "callbackd_egress_violations_total",
        "callbackd_registry_entries{kind=\"binding\"}",
        "callbackd_oldest_undelivered_timestamp_seconds",
        "callbackd_signing_key_expiry_timestamp_seconds",
        "callbackd_own_outage",
        "callbackd_topic_findings{severity=\"refuse\"}",
    ] {
        assert_eq!(value(&m, series), Some(0.0), "{series}");
    }
    for (family, labels) in [
        ("callbackd_attempts_total{", AttemptResult::ALL.len()),
        ("callbackd_dead_letters_total{", Reason::ALL.len()),
        ("callbackd_requeued_total{", RequeueReason::ALL.len() * 2),
    ] {
        assert_eq!(m.render().lines().filter(|line| line.starts_with(family)).count(), labels, "{family}");
    }
}

#[test]
fn what_happened_is_what_is_shown() {
    let m = busy();
    for (series, expected) in [
        ("callbackd_events_consumed_total{topic=\"recording.completed\"}", 1.0),
        ("callbackd_event_age_seconds_bucket{outcome=\"delivered\",le=\"0.025\"}", 0.0),
        ("callbackd_event_age_seconds_bucket{outcome=\"delivered\",le=\"0.05\"}", 1.0),
        ("callbackd_requeued_total{reason=\"retry\",tier=\"5s\"}", 1.0),
        ("callbackd_requeued_total{reason=\"retry\",tier=\"1m\"}", 0.0),
        ("callbackd_replayed_total", 2.0),
        ("callbackd_oldest_undelivered_timestamp_seconds", 1_700_000_000.5),
        ("callbackd_domain_oldest_undelivered_timestamp_seconds{domain=\"push.shop.example\"}", 1_700_000_000.5),
        ("callbackd_consumer_lag{partition=\"0\",topic=\"recording.completed\"}", 12.0),
        ("callbackd_registry_digest", 281_474_976_710_655.0),
        ("callbackd_registry_last_load_success", 1.0),
        ("callbackd_clock_skew_seconds", -0.25),
        ("callbackd_signing_key_expiry_timestamp_seconds", 1_800_000_000.0),
    ] {
        assert_eq!(value(&m, series), Some(expected), "{series}");
    }
    m.registry_load_failed();
    assert_eq!(value(&m, "callbackd_registry_last_load_success"), Some(0.0));
    assert_eq!(value(&m, "callbackd_registry_load_timestamp_seconds"), Some(1_700_000_000.0));
}

#[test]
fn a_partition_that_went_elsewhere_leaves_no_series_behind() {
    let m = busy();
    m.forget_partition("recording.completed", 0);
    m.forget_partition("never.seen", 3);
    assert!(!m.render().contains("partition=\""));
}

#[test]
fn at_most_the_cap_of_domains_have_series_and_known_ones_keep_theirs() {
    let m = metrics();
    m.set_domains(["zebra.example"]);
    m.domain_settled("zebra.example", SettledAs::Delivered);
    let many: Vec<String> = (0..DOMAIN_CAP + 5).map(|n| format!("d{n:04}.example")).collect();
    m.set_domains(many.iter().map(String::as_str).chain(["zebra.example"]));
    let series = |prefix: &str| m.render().lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!(series("callbackd_domain_oldest_undelivered_timestamp_seconds{"), DOMAIN_CAP + 1);
    assert_eq!(series("callbackd_domain_settled_total{"), (DOMAIN_CAP + 1) * SettledAs::ALL.len());
    assert_eq!(value(&m, "callbackd_domain_settled_total{domain=\"zebra.example\",outcome=\"delivered\"}"), Some(1.0));

    m.domain_settled(&many[DOMAIN_CAP + 4], SettledAs::Delivered);
    m.domain_settled("push.unknown.example", SettledAs::DeadLettered);
    assert_eq!(value(&m, "callbackd_domain_settled_total{domain=\"_other\",outcome=\"delivered\"}"), Some(1.0));
    assert_eq!(value(&m, "callbackd_domain_settled_total{domain=\"_other\",outcome=\"dead_lettered\"}"), Some(1.0));

    m.set_domains(["zebra.example"]);
    assert_eq!(series("callbackd_domain_settled_total{"), 2 * SettledAs::ALL.len());
    assert_eq!(value(&m, "callbackd_domain_settled_total{domain=\"_other\",outcome=\"delivered\"}"), Some(1.0));
}

#[test]
fn the_oldest_of_all_unnamed_domains_stands_for_them_and_who_is_served_goes_back_to_zero() {
    let m = metrics();
    m.set_domains(["a.example", "b.example"]);
    let other = "callbackd_domain_oldest_undelivered_timestamp_seconds{domain=\"_other\"}";
    let a = "callbackd_domain_oldest_undelivered_timestamp_seconds{domain=\"a.example\"}";
    m.set_domain_oldest_undelivered([("x.example", UnixMillis(9_000)), ("a.example", UnixMillis(4_000)), ("y.example", UnixMillis(7_000))]);
    assert_eq!((value(&m, a), value(&m, other)), (Some(4.0), Some(7.0)));
    m.set_domain_oldest_undelivered([("b.example", UnixMillis(5_000))]);
    assert_eq!((value(&m, a), value(&m, other)), (Some(0.0), Some(0.0)));
}

#[test]
fn a_tier_that_is_no_longer_configured_still_shows_what_waits_in_it() {
    let m = metrics();
    m.set_tier_pending("30s", 4);
    assert_eq!(value(&m, "callbackd_tier_pending{tier=\"30s\"}"), Some(4.0));
}

/// Where it is not a rise that means something, and what does.
const NOT_A_RISE: [(&str, &str); 9] = [
    ("callbackd_build_info", "More than one version at a time means"),
    ("callbackd_clock_skew_seconds", "Beyond 60 s either way the process is not ready"),
    ("callbackd_commit_map_bytes", "Near 2500 its partition takes nothing in"),
    ("callbackd_domain_oldest_undelivered_timestamp_seconds", "The further it falls behind now, the longer"),
    ("callbackd_in_flight", "At callbackd_in_flight_limit, slow receivers hold all slots"),
    ("callbackd_oldest_undelivered_timestamp_seconds", "The further it falls behind now, the longer"),
    ("callbackd_partitions_stopped", "Above 0, nothing of them is delivered"),
    ("callbackd_registry_digest", "Only equality means something"),
    ("callbackd_topic_findings", "Above 0 for refuse means that a guarantee does not hold"),
];

#[test]
fn each_help_says_what_a_rise_means_or_what_else_means_something() {
    let text = busy().render();
    let mut others = BTreeSet::new();
    for (name, help) in text.lines().filter_map(|line| line.strip_prefix("# HELP callbackd_")?.split_once(' ')) {
        let name = format!("callbackd_{name}");
        match NOT_A_RISE.iter().find(|(other, _)| *other == name) {
            Some((other, says)) => {
                others.insert(*other);
                assert!(help.contains(says), "{name}: {help}");
            }
            None => assert!(help.split([' ', ',']).any(|word| matches!(word, "rise" | "rises")), "{name}: {help}"),
        }
    }
    assert_eq!(others, NOT_A_RISE.iter().map(|(name, _)| *name).collect());
}

/// Names of ours in `text`, the suffixes of a histogram's series taken off.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("callbackd_") {
        let name: String = text[at..].chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        names.insert(base.to_owned());
    }
    names
}

#[test]
fn rules_and_dashboards_name_only_metrics_that_exist() {
    let exported: BTreeSet<String> =
        busy().render().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect();
    for (file, text) in [
        ("alerts.yml", include_str!("../../dashboards/alerts.yml")),
        ("alerts_test.yml", include_str!("../../dashboards/alerts_test.yml")),
        ("overview.json", include_str!("../../dashboards/overview.json")),
        ("runbook.md", include_str!("../../dashboards/runbook.md")),
    ] {
        let names = named(text);
        assert!(names.len() > 5, "{file} names almost nothing");
        let unknown: Vec<_> = names.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, which /metrics does not have");
    }
}

#[test]
fn every_alert_leads_to_a_page_of_the_runbook_and_every_page_to_an_alert() {
    let alerts = include_str!("../../dashboards/alerts.yml");
    let runbook = include_str!("../../dashboards/runbook.md");
    let linked: BTreeSet<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: runbook.md#")).collect();
    let pages: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("<a id=\"")?.split('"').next()).collect();
    assert_eq!(linked, pages);
    let alert_count = alerts.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
    for key in ["severity: ", "summary: ", "description: ", "runbook_url: "] {
        assert_eq!(alerts.lines().filter(|line| line.trim().starts_with(key)).count(), alert_count, "{key}");
    }
}

#[test]
fn every_panel_of_the_dashboard_says_what_it_is_in_which_unit_and_for_which_process() {
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../dashboards/overview.json")).unwrap();
    assert_eq!(dashboard["uid"], "callbackd-overview");
    assert_eq!(dashboard["editable"], false);
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "job", "instance", "domain"]);
    let panels: Vec<_> = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 20);
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let written = |value: &serde_json::Value| value.as_str().is_some_and(|text| !text.is_empty());
        assert!(written(&panel["description"]) && written(&panel["fieldConfig"]["defaults"]["unit"]), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("$job") && query.contains("$instance"), "{title}: {query}");
            let windows = query.matches('[').count();
            let ours = query.matches("[$__rate_interval]").count() + query.matches("[$__range]").count();
            assert_eq!(windows, ours, "{title}: {query}");
        }
    }
}
