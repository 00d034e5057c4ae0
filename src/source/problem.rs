//! One thing that is wrong, and where.

use std::fmt;

/// Something wrong in a file or a variable: where, which key, what would be right. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named, or the environment variable.
    pub file: String,
    /// Its line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// The key as a path from the root (`bindings[3].until`); empty for the file as a whole.
    pub key: String,
    /// What is wrong and what would be right; no full stop.
    pub message: String,
}

impl fmt::Display for Problem {
    /// `file:line: key: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}
