//! `callbackd topics create` and `callbackd topics check`.

use super::arguments::TopicsCommand;
use super::{Exit, Failure, broker, load};
use crate::app;
use crate::config::Settings;
use crate::domain::registry::Registry;
use crate::kafka::topics::{self, Asker, CheckReport, CreateOptions, CreateReport, Finding, Outcome, Severity, TopicSettings};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use std::io::{self, Write};
use std::path::Path;

pub(super) fn topics(command: &TopicsCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        TopicsCommand::Create { config, partitions, replication } => {
            let loaded = load::configuration(&config.config)?;
            // Topics are made for the longest age that any policy may have: no registry is needed for that.
            let wanted = wanted(&loaded.settings, &config.config, &Registry::empty());
            broker::reached(&wanted.client, &config.config)?;
            let created = topics::create(&wanted, CreateOptions { partitions: *partitions, replication: *replication })?;
            tell_created(&created, &config.config, out)
        }
        TopicsCommand::Check(config) => {
            let (loaded, registry) = load::both(&config.config)?;
            let wanted = wanted(&loaded.settings, &config.config, &registry.registry);
            broker::reached(&wanted.client, &config.config)?;
            tell_found(&topics::check(&wanted)?, out)
        }
    }
}

fn wanted(settings: &Settings, config: &Path, registry: &Registry) -> TopicSettings {
    let options = app::Options { config_file: config.to_path_buf(), embedded: false };
    let of_daemon = app::topic_settings(settings, &options, &app::client_settings(settings), registry);
    TopicSettings { asker: Asker::Tool, ..of_daemon }
}

fn tell_created(report: &CreateReport, config: &Path, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut table = table(["topic", "partitions", "replicas", "outcome"]);
    for index in [1, 2] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut failed = 0_usize;
    let mut existed = 0_usize;
    for one in &report.created {
        let (partitions, replication) = (one.planned.partitions.to_string(), one.planned.replication.to_string());
        let (numbers, outcome) = match &one.outcome {
            Outcome::Created => ([partitions, replication], "created".to_owned()),
            Outcome::Existed => {
                existed += 1;
                (["-".to_owned(), "-".to_owned()], "was there already, left as it is".to_owned())
            }
            Outcome::Failed(cause) => {
                failed += 1;
                ([partitions, replication], format!("failed: {cause}"))
            }
        };
        let [partitions, replication] = numbers;
        table.add_row([one.planned.name.clone(), partitions, replication, outcome]);
    }
    writeln!(out, "{table}")?;
    if existed > 0 {
        writeln!(out, "whether existing topics are right says: callbackd topics check --config {}", config.display())?;
    }
    report.missing_sources.iter().try_for_each(|finding| tell(finding, out))?;
    if failed > 0 {
        return Err(anyhow::anyhow!(
            "{failed} of {} topics could not be created: see the table; the same command creates what is still missing",
            report.created.len()
        )
        .into());
    }
    Ok(Exit::Done)
}

fn tell_found(report: &CheckReport, out: &mut dyn Write) -> Result<Exit, Failure> {
    if report.findings.is_empty() {
        writeln!(out, "all topics are as they should be")?;
        return Ok(Exit::Done);
    }
    report.findings.iter().try_for_each(|finding| tell(finding, out))?;
    Ok(match report.worst() {
        Some(Severity::Refuse) => Exit::Invalid,
        Some(Severity::Wait | Severity::Warn) | None => Exit::Done,
    })
}

fn tell(finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let severity = match finding.severity {
        Severity::Refuse => "error: ",
        Severity::Wait => "missing:",
        Severity::Warn => "warning:",
    };
    writeln!(out, "{severity} topic {}: {}", finding.topic, finding.message)?;
    if !finding.command.is_empty() {
        writeln!(out, "         mend it with: {}", finding.command)?;
    }
    Ok(())
}

/// A table as all commands print it: no lines but below its head.
pub(super) fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'))).set_header(head);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::topics::{Created, Kind, Planned};

    fn created(name: &str, outcome: Outcome) -> CreateReport {
        let planned = Planned { name: name.into(), kind: Kind::Tier, partitions: 12, replication: 3, config: Default::default() };
        CreateReport { created: vec![Created { planned, outcome }], missing_sources: Vec::new() }
    }

    fn printed(act: impl FnOnce(&mut Vec<u8>) -> Result<Exit, Failure>) -> (Result<Exit, Failure>, String) {
        let mut out = Vec::new();
        let result = act(&mut out);
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_topic_that_could_not_be_created_is_exit_code_1_and_said() {
        let config = Path::new("c.toml");
        let mut both = created("cb.retry.5s", Outcome::Created);
        both.created.extend(created("cb.replay", Outcome::Existed).created);
        let (result, out) = printed(|out| tell_created(&both, config, out));
        assert_eq!(result.unwrap(), Exit::Done);
        assert!(out.contains("cb.retry.5s") && out.contains("created") && out.contains("callbackd topics check --config c.toml"), "{out}");
        let (result, out) = printed(|out| tell_created(&created("cb.replay", Outcome::Failed("PolicyViolation".into())), config, out));
        assert_eq!(result.unwrap_err().exit(), Exit::Failed);
        assert!(out.contains("failed: PolicyViolation"), "{out}");
    }

    #[test]
    fn a_source_topic_that_is_missing_is_told_beside_what_was_created_and_is_no_failure() {
        let mut report = created("cb.replay", Outcome::Created);
        let (topic, command) = ("recording.completed".to_owned(), "kafka-topics.sh --create".to_owned());
        report.missing_sources.push(Finding { severity: Severity::Wait, topic, message: "does not exist yet".into(), command });
        let (result, out) = printed(|out| tell_created(&report, Path::new("c.toml"), out));
        assert_eq!(result.unwrap(), Exit::Done);
        assert!(
            out.ends_with("missing: topic recording.completed: does not exist yet\n         mend it with: kafka-topics.sh --create\n"),
            "{out}"
        );
    }

    #[test]
    fn only_what_the_daemon_would_refuse_is_exit_code_78() {
        for (severities, expected) in [
            (vec![], Exit::Done),
            (vec![Severity::Warn], Exit::Done),
            (vec![Severity::Wait, Severity::Warn], Exit::Done),
            (vec![Severity::Refuse, Severity::Warn], Exit::Invalid),
        ] {
            let finding = |severity| Finding { severity, topic: "t".into(), message: "is wrong".into(), command: "mend it".into() };
            let findings: Vec<_> = severities.iter().copied().map(finding).collect();
            let report = CheckReport { findings, largest_message: None, source_partitions: None, existing_tiers: vec![] };
            let (result, out) = printed(|out| tell_found(&report, out));
            assert_eq!(result.unwrap(), expected, "{severities:?}");
            assert_eq!(out.matches("mend it with: mend it").count(), severities.len());
        }
    }
}
