//! What the demo shows: a live picture on a terminal, a line every two seconds elsewhere, and the final account. At most 100 columns.

use super::ledger::{Account, Tally};
use super::scene::{Behaviour, Case};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Time between two lines where no terminal is.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// The live picture.
pub(super) struct Picture {
    started: Instant,
    last_line: Option<Instant>,
    /// What the line before said was going on.
    doing: String,
    live: Option<Live>,
}

struct Live {
    all: MultiProgress,
    head: [ProgressBar; 3],
    cases: Vec<ProgressBar>,
}

impl Picture {
    pub(super) fn new(cases: &[Case], terminal: bool) -> Self {
        Self { started: Instant::now(), last_line: None, doing: String::new(), live: terminal.then(|| Live::new(cases)) }
    }

    /// Shows the account; `receivers_age` decides who is up.
    pub(super) fn show(
        &mut self,
        doing: &str,
        account: &Account,
        cases: &[Case],
        receivers_age: Duration,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let seconds = self.started.elapsed().as_secs();
        if let Some(live) = &self.live {
            live.show(seconds, doing, account, cases, receivers_age);
        } else if self.doing != doing || self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            if self.doing != doing {
                writeln!(out, "{seconds:>3} s  {doing}")?;
                doing.clone_into(&mut self.doing);
            }
            self.last_line = Some(Instant::now());
            let total = &account.total;
            writeln!(
                out,
                "{seconds:>3} s    produced {:>4}  delivered {:>4}  retried {:>4}  dead-lettered {:>3}  skipped {:>3}  oldest {:>6}",
                total.produced,
                total.delivered,
                total.retried,
                total.dead_lettered,
                total.skipped,
                age(account.oldest)
            )?;
        }
        Ok(())
    }

    /// Removes the live picture: the account takes its place.
    pub(super) fn end(&mut self) {
        if let Some(live) = self.live.take() {
            let _ = live.all.clear();
        }
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

impl Live {
    fn new(cases: &[Case]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10));
        let text = || all.add(ProgressBar::new(0).with_style(style("{wide_msg}")));
        let head = [text(), text(), text()];
        let bar = |case: &Case| {
            let color = match case.behaviour {
                Behaviour::Good | Behaviour::Slow => "green",
                Behaviour::FailsTwice | Behaviour::Flapping | Behaviour::AsksToWait | Behaviour::HangsUp => "yellow",
                Behaviour::Broken | Behaviour::Unknown => "red",
                Behaviour::Unbound => "blue",
            };
            let template = format!("{{prefix:<20}} {{bar:22.{color}/dim}} {{pos:>5}}/{{len:<5}} {{wide_msg}}");
            all.add(ProgressBar::new(0).with_style(style(&template)).with_prefix(case.domain))
        };
        let cases = cases.iter().map(bar).collect();
        Self { all, head, cases }
    }

    fn show(&self, seconds: u64, doing: &str, account: &Account, cases: &[Case], receivers_age: Duration) {
        let total = &account.total;
        let lines = [
            format!("{seconds:>3} s  {doing}"),
            format!(
                "produced {}   delivered {}   retried {}   dead-lettered {}   skipped {}",
                total.produced, total.delivered, total.retried, total.dead_lettered, total.skipped
            ),
            format!(
                "oldest undelivered {}   age at delivery: p50 {}, p99 {}   signatures verified {}/{}",
                age(account.oldest),
                age(total.p50),
                age(total.p99),
                account.verified,
                account.requests
            ),
        ];
        for (bar, line) in self.head.iter().zip(lines) {
            bar.set_message(line);
        }
        for ((bar, case), tally) in self.cases.iter().zip(cases).zip(&account.cases) {
            bar.set_length(tally.produced);
            bar.set_position(tally.settled());
            bar.set_message(state(case, tally, receivers_age));
        }
    }
}

/// How a domain fares, in words.
fn state(case: &Case, tally: &Tally, receivers_age: Duration) -> String {
    let mut text = match case.behaviour {
        Behaviour::Flapping if case.behaviour.is_down(receivers_age) => format!("{}: down", case.behaviour.words()),
        Behaviour::Flapping => format!("{}: up", case.behaviour.words()),
        Behaviour::Broken if tally.delivered > 0 => "repaired, replayed".to_owned(),
        Behaviour::Good
        | Behaviour::Slow
        | Behaviour::FailsTwice
        | Behaviour::AsksToWait
        | Behaviour::HangsUp
        | Behaviour::Broken
        | Behaviour::Unknown
        | Behaviour::Unbound => case.behaviour.words().to_owned(),
    };
    for (number, what) in [(tally.dead_lettered, "dead-lettered"), (tally.skipped, "skipped")] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    text
}

/// A duration as people say it, at most 6 characters.
pub(super) fn age(of: Option<Duration>) -> String {
    match of {
        None => "-".to_owned(),
        Some(age) if age < Duration::from_secs(1) => format!("{} ms", age.as_millis()),
        Some(age) => format!("{:.1} s", age.as_secs_f64()),
    }
}

/// The final account: a row per domain, their sum, and what it means.
pub(super) fn print_account(account: &Account, cases: &[Case], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(["domain", "its receiver", "produced", "delivered", "dead-\nlettered", "skipped", "retried", "p99 of\nthe age"]);
    let row = |domain: &str, receiver: &str, tally: &Tally| {
        let numbers = [tally.produced, tally.delivered, tally.dead_lettered, tally.skipped, tally.retried].map(|number| number.to_string());
        let [produced, delivered, dead_lettered, skipped, retried] = numbers;
        [domain.to_owned(), receiver.to_owned(), produced, delivered, dead_lettered, skipped, retried, age(tally.p99)]
    };
    for (case, tally) in cases.iter().zip(&account.cases) {
        table.add_row(row(case.label(), case.behaviour.words(), tally));
    }
    table.add_row(row("all", "", &account.total));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    let total = &account.total;
    let balance = if account.is_balanced() { "balanced" } else { "NOT BALANCED" };
    writeln!(
        out,
        "\naccount     {} produced = {} delivered + {} dead-lettered + {} skipped: {balance}",
        total.produced, total.delivered, total.dead_lettered, total.skipped
    )?;
    if total.settled() < total.produced {
        writeln!(out, "            {} without an outcome", total.produced - total.settled())?;
    }
    if account.strangers > 0 {
        writeln!(out, "            {} requests or dead letters of events that nobody produced there", account.strangers)?;
    }
    writeln!(
        out,
        "signatures  {} of {} requests verified, and their bodies are the events that were produced",
        account.verified, account.requests
    )?;
    for fault in &account.faults {
        writeln!(out, "            {fault}")?;
    }
    writeln!(out, "repeats     {}", account.repeats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scene::cases;

    #[test]
    fn ages_are_short() {
        for (millis, expected) in [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_960, "60.0 s")] {
            assert_eq!(age(Some(Duration::from_millis(millis))), expected);
        }
        assert_eq!(age(None), "-");
    }

    #[test]
    fn the_account_fits_into_a_hundred_columns_and_says_when_it_does_not_balance() {
        let cases = cases();
        let tally =
            Tally { produced: 123_456, delivered: 123_450, retried: 99_999, p99: Some(Duration::from_secs(12)), ..Tally::default() };
        let account = Account {
            cases: vec![tally.clone(); cases.len()],
            total: tally,
            requests: 7,
            verified: 6,
            faults: vec!["demo-000001: sign does not match t".into()],
            ..Account::default()
        };
        let mut out = Vec::new();
        print_account(&account, &cases, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
        for said in ["NOT BALANCED", "6 without an outcome", "6 of 7 requests verified", "sign does not match t"] {
            assert!(out.contains(said), "{said}:\n{out}");
        }
    }

    #[test]
    fn where_no_terminal_is_a_line_says_what_is_going_on_once_and_all_fit_into_a_hundred_columns() {
        let cases = cases();
        let mut out = Vec::new();
        let account = Account { cases: vec![Tally::default(); cases.len()], ..Account::default() };
        let mut picture = Picture::new(&cases, false);
        for doing in ["producing", "producing", "settling"] {
            picture.show(doing, &account, &cases, Duration::ZERO, &mut out).unwrap();
        }
        let out = String::from_utf8(out).unwrap();
        let heads: Vec<&str> = out.lines().map(|line| line.get(..20).unwrap_or(line)).collect();
        assert_eq!(heads, ["  0 s  producing", "  0 s    produced   ", "  0 s  settling", "  0 s    produced   "]);
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    }
}
