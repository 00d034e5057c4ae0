//! A history as JSON lines: one [`Fact`] a line, blank lines ignored.

use super::{Fact, History};
use std::fmt::Write as _;

impl Fact {
    /// Its line.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("plain data has a JSON form")
    }
}

impl History {
    /// Reads lines.
    ///
    /// # Errors
    /// The number of the first line that is no fact, and why.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut history = Self::default();
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            history.add(serde_json::from_str(line).map_err(|error| format!("line {}: {error}", n + 1))?);
        }
        Ok(history)
    }

    /// All facts as lines.
    pub(crate) fn lines(&self) -> String {
        let mut text = String::new();
        for fact in self.facts() {
            let _ = writeln!(text, "{}", fact.line());
        }
        text
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![Fact::Rules(self.rules.clone())];
        facts.extend(self.endpoints.values().cloned().map(Fact::Endpoint));
        facts.extend(self.produced.iter().cloned().map(Fact::Produced));
        facts.extend(self.replayed.iter().cloned().map(Fact::Replayed));
        facts.extend(self.requests.iter().cloned().map(Fact::Request));
        facts.extend(self.requeues.iter().cloned().map(Fact::Requeue));
        facts.extend(self.letters.iter().cloned().map(Fact::Letter));
        facts.extend(self.skipped.iter().cloned().map(Fact::Skipped));
        facts.extend(self.left.iter().cloned().map(Fact::Left));
        facts.extend(self.exposures.iter().cloned().map(Fact::Exposure));
        facts.extend(self.disturbances.iter().cloned().map(Fact::Disturbance));
        facts.extend(self.deleted_unread.iter().cloned().map(Fact::DeletedUnread));
        facts.extend(self.commits.iter().cloned().map(Fact::Commit));
        facts.extend(self.ends.iter().cloned().map(Fact::End));
        facts.extend(self.drains.iter().cloned().map(Fact::Drain));
        facts.extend(self.wrong.iter().cloned().map(Fact::Wrong));
        facts
    }
}
