//! What the daemon does, seen from outside: the binary, its commands and its configuration on a real Apache Kafka.
//!
//! One broker serves nearly all of the run (`harness::broker`), a secured one what is about security, and tests that stop or fill a broker
//! have one of their own. Every test has a topic prefix and a group of its own, so they run side by side. A behaviour per file, named by
//! it. Nothing here uses the library: what is judged is what users touch.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod a_broker_away_does_not_keep_it_from_ending;
mod a_registry_file_hurts_nobody;
mod bad_configuration_is_refused_whole;
mod bad_days;
mod broken_pooled_connections_are_repeated_uncounted;
mod callbacks_survive_kills_and_are_replayed;
mod canary_secrets_appear_nowhere;
mod chaos;
mod checker;
mod domains_and_bindings;
mod egress_is_guarded;
mod harness;
mod inbound_floods;
mod kafka_security;
mod layering;
mod least_privilege;
mod malformed_records_never_stop_the_line;
mod metrics_and_rules_pass_promtool;
mod missing_things_at_start;
mod partitions_come_back_unpaused;
mod receivers_accept_and_refuse;
mod refused_appends_stop_one_partition;
mod registry_reload;
mod replicas_share_partitions;
mod retry_after_is_honoured;
mod sigterm_drains;
mod source_document_rules;
mod source_gaps_are_passed;
mod ten_thousand_events;
mod the_first_ten_minutes;
mod the_kit_for_receivers;
mod tiers_are_a_timing_wheel;
mod upstream_variety;
