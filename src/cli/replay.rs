//! `callbackd replay`: the job of [`crate::kafka::replay`], with a progress bar and its account.

use super::arguments::{OutputFormat, ReplayArguments};
use super::check::counted;
use super::failure::complain;
use super::topics::table;
use super::{Exit, Failure, broker, load, logging};
use crate::app;
use crate::domain::dead_letter::Reason;
use crate::domain::id::DomainName;
use crate::kafka::replay::{self, Filters, Options, Progress, Summary, Tally};
use comfy_table::CellAlignment;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// Time between two lines of progress where no terminal is.
const LINE_EVERY: Duration = Duration::from_secs(3);

pub(super) fn replay(arguments: &ReplayArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let loaded = load::configuration(&arguments.config.config)?;
    let client = app::client_settings(&loaded.settings);
    // Before there are logs: the client's own lines about a broker that is away would repeat what is said about it anyway.
    broker::reached(&client, &arguments.config.config)?;
    logging::start_for_tools();
    let filters = filters(arguments);
    let options = Options {
        dry_run: arguments.dry_run,
        rate: arguments.rate,
        again: arguments.again,
        replay_limit: loaded.settings.delivery.replay_limit,
    };
    let mut shown = Shown::new(io::stderr().is_terminal(), arguments.dry_run);
    let result = replay::run(&client, &filters, options, &mut |progress| shown.tell(progress));
    shown.end();
    let summary = result?;
    match arguments.output {
        OutputFormat::Table => print_table(&summary, options, out)?,
        OutputFormat::Json => print_json(&summary, options, out)?,
    }
    Ok(Exit::Done)
}

fn filters(arguments: &ReplayArguments) -> Filters {
    Filters {
        domains: arguments.domains.clone(),
        reasons: arguments.reasons.clone(),
        outcomes: arguments.statuses.clone(),
        ids: arguments.ids.clone(),
        since: arguments.since,
        until: arguments.until,
    }
}

/// How far it is: a bar on a terminal, else a line now and then.
struct Shown {
    bar: Option<ProgressBar>,
    dry_run: bool,
    last: Instant,
}

impl Shown {
    fn new(terminal: bool, dry_run: bool) -> Self {
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template("{msg:<28} {bar:30} {pos}/{len} letters, {elapsed}, {eta} to go")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { bar, dry_run, last: Instant::now() }
    }

    fn tell(&mut self, progress: Progress) {
        let words = if self.dry_run { format!("{} selected", progress.selected) } else { format!("{} copied", progress.copied) };
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(words);
        } else if self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            complain(format_args!("replay: {}/{} letters looked at, {words}", progress.done, progress.total));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn print_table(summary: &Summary, options: Options, out: &mut dyn Write) -> io::Result<()> {
    let total = summary.total();
    if !summary.by.is_empty() {
        let mut table = table(["reason", "domain", "selected", "copied", "replayed too often", "too large"]);
        for index in 2..6 {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let cells = |reason: &str, domain: &str, tally: &Tally| {
            [
                reason.to_owned(),
                domain.to_owned(),
                tally.selected.to_string(),
                tally.copied.to_string(),
                tally.replayed_too_often.to_string(),
                tally.too_large.to_string(),
            ]
        };
        for (row, tally) in &summary.by {
            table.add_row(cells(row.0.map_or("unknown", Reason::as_str), row.1.as_ref().map_or("-", DomainName::as_str), tally));
        }
        if summary.by.len() > 1 {
            table.add_row(cells("all", "", &total));
        }
        writeln!(out, "{table}")?;
    }
    let looked = format!("{} looked at, {} selected", counted(summary.looked_at, "dead letter"), total.selected);
    if options.dry_run {
        writeln!(out, "{looked}; a dry run: nothing was copied")?;
    } else {
        writeln!(out, "{looked}, {} put back into delivery", total.copied)?;
    }
    if summary.before > 0 {
        writeln!(out, "{} more were looked at by earlier runs of this job; --again begins anew", summary.before)?;
    }
    if total.replayed_too_often > 0 {
        writeln!(
            out,
            "{} were replayed {} times already (delivery.replay_limit): mend their receiver first",
            total.replayed_too_often, options.replay_limit
        )?;
    }
    if total.too_large > 0 {
        writeln!(out, "{} are larger than the producer may send: raise message.max.bytes in [kafka.properties]", total.too_large)?;
    }
    Ok(())
}

fn print_json(summary: &Summary, options: Options, out: &mut dyn Write) -> io::Result<()> {
    let tally = |tally: &Tally| json!({ "selected": tally.selected, "copied": tally.copied, "replayed_too_often": tally.replayed_too_often, "too_large": tally.too_large });
    for (row, counts) in &summary.by {
        let mut line = tally(counts);
        line["reason"] = row.0.map(Reason::as_str).into();
        line["domain"] = row.1.as_ref().map(DomainName::as_str).into();
        writeln!(out, "{line}")?;
    }
    let mut line = tally(&summary.total());
    line["job"] = summary.job.as_str().into();
    line["dry_run"] = options.dry_run.into();
    line["looked_at"] = summary.looked_at.into();
    line["looked_at_before"] = summary.before.into();
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let tally = |selected, copied, replayed_too_often| Tally { selected, copied, replayed_too_often, too_large: 0 };
        Summary {
            job: "callbackd.replay-job.0011223344556677".into(),
            looked_at: 12,
            before: 3,
            by: [
                ((Some(Reason::AttemptsExhausted), DomainName::parse("push.shop.example")), tally(9, 7, 2)),
                ((None, None), tally(1, 1, 0)),
            ]
            .into(),
        }
    }

    const OPTIONS: Options = Options { dry_run: false, rate: None, again: false, replay_limit: 5 };

    #[test]
    fn the_table_says_what_was_selected_copied_and_refused_and_what_to_do() {
        let mut out = Vec::new();
        print_table(&summary(), OPTIONS, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        for said in [
            "attempts_exhausted",
            "push.shop.example",
            "unknown",
            "all",
            "12 dead letters looked at, 10 selected, 8 put back",
            "--again",
            "replay_limit",
        ] {
            assert!(out.contains(said), "{said}:\n{out}");
        }
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_copied() {
        let mut out = Vec::new();
        print_table(&Summary::default(), Options { dry_run: true, ..OPTIONS }, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "0 dead letters looked at, 0 selected; a dry run: nothing was copied\n");
    }

    #[test]
    fn json_is_one_object_a_line_and_the_last_is_the_sum() {
        let mut out = Vec::new();
        print_json(&summary(), OPTIONS, &mut out).unwrap();
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0]["reason"], &lines[1]["copied"]), (&json!(null), &json!(7)));
        assert_eq!(
            (&lines[2]["copied"], &lines[2]["looked_at"], &lines[2]["job"]),
            (&json!(8), &json!(12), &json!("callbackd.replay-job.0011223344556677"))
        );
    }
}
