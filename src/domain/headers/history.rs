//! What became of a chain's attempts, in the words of `callbackd-history` and `callbackd-last-outcome`.

use super::super::verdict::{AttemptResult, Outcome};
use super::digits;
use std::fmt;
use std::time::Duration;

/// An attempt's outcome as history and `callbackd-last-outcome` tell it: a three-digit status or a value of the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeMark {
    /// A status was read, 100–999.
    Status(u16),
    /// Something else came of it.
    Result(AttemptResult),
}

impl OutcomeMark {
    /// The mark of `outcome`.
    #[must_use]
    pub const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered { status, .. } => Self::Status(*status),
            Outcome::Failed(failure) => Self::Result(AttemptResult::of_failure(*failure)),
        }
    }

    /// Reads the text of a mark back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == 3
            && let Some(status) = digits(text)
        {
            return (status >= 100).then_some(Self::Status(status));
        }
        AttemptResult::ALL.into_iter().find(|r| r.as_str() == text).map(Self::Result)
    }
}

impl fmt::Display for OutcomeMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Result(result) => f.write_str(result.as_str()),
        }
    }
}

/// Outcomes so far with whole seconds since the one before, from start to start: `503+0,timeout+61`. Oldest first, oldest
/// dropped, ≤ 256 bytes.
///
/// Before the oldest that is listed there is none, so its seconds count from the first attempt: 0 while nothing has been
/// dropped. So first attempt + all seconds is the start of the latest attempt, whatever was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(String);

impl History {
    /// The text is never longer, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The text of the header; empty without attempts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Oldest first: outcome and seconds since the one before.
    pub fn entries(&self) -> impl Iterator<Item = (OutcomeMark, u64)> {
        self.0.split(',').filter_map(parse_entry)
    }

    /// `text` as a history, if it is one: every entry well-formed, ≤ 256 bytes.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() <= Self::MAX_BYTES && (text.is_empty() || text.split(',').all(|e| parse_entry(e).is_some()));
        well_formed.then(|| Self(text.to_owned()))
    }

    /// From the first attempt to the start of the latest.
    pub(super) fn span(&self) -> Duration {
        Duration::from_secs(self.entries().fold(0, |sum, (_, seconds)| sum.saturating_add(seconds)))
    }

    /// Adds an outcome, `seconds` after the one before.
    pub(super) fn push(&mut self, outcome: OutcomeMark, seconds: u64) {
        let comma = if self.0.is_empty() { "" } else { "," };
        self.0 = format!("{}{comma}{outcome}+{seconds}", self.0);
        while self.0.len() > Self::MAX_BYTES {
            let (dropped, oldest) = {
                let mut entries = self.entries();
                (entries.next(), entries.next())
            };
            let (Some((_, dropped)), Some((mark, seconds))) = (dropped, oldest) else { break };
            let rest = self.0.splitn(3, ',').nth(2).map_or(String::new(), |rest| format!(",{rest}"));
            self.0 = format!("{mark}+{}{rest}", seconds.saturating_add(dropped));
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse_entry(entry: &str) -> Option<(OutcomeMark, u64)> {
    let (mark, seconds) = entry.split_once('+')?;
    Some((OutcomeMark::parse(mark)?, digits(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::super::super::verdict::Failure;
    use super::*;

    #[test]
    fn marks_are_three_digits_or_a_result_label_and_read_back() {
        let answered = |status| Outcome::Answered { status, retry_after: Some("5".to_owned()) };
        for (outcome, text) in [
            (answered(100), "100"),
            (answered(503), "503"),
            (answered(999), "999"),
            (Outcome::Failed(Failure::Timeout), "timeout"),
            (Outcome::Failed(Failure::Connect), "connect"),
            (Outcome::Failed(Failure::Dns), "dns"),
            (Outcome::Failed(Failure::NoSuchName), "dns"),
            (Outcome::Failed(Failure::Tls), "tls"),
            (Outcome::Failed(Failure::Protocol), "protocol"),
            (Outcome::Failed(Failure::Blocked), "blocked"),
            (Outcome::Failed(Failure::Internal), "internal"),
        ] {
            assert_eq!(OutcomeMark::of(&outcome).to_string(), text);
            assert_eq!(OutcomeMark::parse(text), Some(OutcomeMark::of(&outcome)));
        }
        assert_eq!(OutcomeMark::parse("server_error"), Some(OutcomeMark::Result(AttemptResult::ServerError)));
        for bad in ["", "5", "99", "099", "1000", "+50", "Timeout", "timeout ", "gone"] {
            assert_eq!(OutcomeMark::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_history_that_is_malformed_anywhere_is_none() {
        for good in ["", "503+0", "503+0,timeout+61", "200+18446744073709551615"] {
            assert_eq!(History::parse(good).unwrap().as_str(), good);
        }
        for bad in [",", "503", "503+", "503+-1", "503+ 1", "503+0,", "503+0,,dns+1", "503+0;dns+1", "503+18446744073709551616"] {
            assert_eq!(History::parse(bad), None, "{bad:?}");
        }
        assert_eq!(History::parse(&["503+60"; 36].join(",")).unwrap().entries().count(), 36);
        assert_eq!(History::parse(&["503+60"; 37].join(",")), None);
    }

    #[test]
    fn the_oldest_are_dropped_and_their_seconds_kept() {
        let mut history = History::default();
        for n in 0..1_000 {
            history.push(OutcomeMark::Status(503), if n == 0 { 0 } else { 60 });
            assert!(history.as_str().len() <= History::MAX_BYTES);
            assert_eq!(history.span(), Duration::from_secs(n * 60));
            assert_eq!(History::parse(history.as_str()), Some(history.clone()));
        }
        assert!(history.as_str().starts_with("503+57840,503+60,503+60"), "{history}");
        assert!(history.as_str().len() > 240, "{}", history.as_str().len());
    }
}
