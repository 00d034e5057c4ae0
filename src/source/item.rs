//! Typed reads of one value.

use super::document::{Node, Place, Value};
use super::units::{parse_duration, parse_instant, parse_size, show_duration};
use super::{Fields, Reading, file};
use crate::domain::time::UnixMillis;
use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// One value being read.
#[derive(Debug)]
pub struct Item<'a> {
    reading: &'a Reading<'a>,
    node: &'a Node,
    path: String,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.value.kind())
    }
}

impl<'a> Item<'a> {
    pub(super) const fn new(reading: &'a Reading<'a>, node: &'a Node, path: String) -> Self {
        Self { reading, node, path }
    }

    /// Its path from the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes something legal but doubtful at this value.
    pub fn warning(&self, message: impl Into<String>) {
        self.reading.warning(&self.path, message);
    }

    /// Notes a problem at this value.
    pub fn problem(&self, message: impl Into<String>) {
        self.reading.problem(&self.path, message);
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.problem(format!("expected {what}, found {}", self.node.value.kind()));
        None
    }

    /// A string. A variable's text counts as it is, even when it looks like a number.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        if let Value::Text(text) = &self.node.value {
            return Some(text);
        }
        self.scalar_of_variable().or_else(|| self.expected("a string"))
    }

    fn scalar_of_variable(&self) -> Option<&'a str> {
        let scalar = match &self.node.value {
            Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Instant(_) => true,
            Value::List(_) | Value::Table(_) => false,
        };
        match &self.node.place {
            Place::Variable(variable) if scalar && !variable.text.trim_start().starts_with(['[', '{']) => Some(&variable.text),
            Place::Variable(_) | Place::Line(_) => None,
        }
    }

    /// Whether it is a table.
    #[must_use]
    pub const fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Table(_))
    }

    /// Whether it is a string.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self.node.value, Value::Text(_))
    }

    /// A scalar in the text form that librdkafka takes: a string, a number or a boolean. A variable's text counts as it is.
    #[must_use]
    pub fn scalar(&self) -> Option<String> {
        if let Some(text) = self.unit_text() {
            return Some(text.to_owned());
        }
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(Some(number)) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Boolean(boolean) => Some(boolean.to_string()),
            Value::Integer(None) | Value::Instant(_) | Value::List(_) | Value::Table(_) => {
                self.expected("a string, a number, a boolean or a reference such as { file = \"…\" }")
            }
        }
    }

    /// An integer within `range`.
    #[must_use]
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let Value::Integer(number) = self.node.value else { return self.expected("an integer") };
        let fits = number.filter(|number| range.contains(number));
        if fits.is_none() {
            self.problem(format!("must be from {} to {}", range.start(), range.end()));
        }
        fits
    }

    /// Checks that the integer is `right`, the only one allowed; `what` it is, for the problem.
    pub fn only(&self, right: i64, what: &str) {
        match self.node.value {
            Value::Integer(Some(number)) if number == right => {}
            Value::Integer(_) => self.problem(format!("must be {right}, {what}")),
            Value::Text(_) | Value::Float(_) | Value::Boolean(_) | Value::Instant(_) | Value::List(_) | Value::Table(_) => {
                let _: Option<()> = self.expected("an integer");
            }
        }
    }

    /// A number.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self.node.value {
            Value::Float(number) => Some(number),
            #[allow(clippy::cast_precision_loss, reason = "a number beyond 2^53 is out of every range anyway")]
            Value::Integer(Some(number)) => Some(number as f64),
            Value::Integer(None) | Value::Text(_) | Value::Boolean(_) | Value::Instant(_) | Value::List(_) | Value::Table(_) => {
                self.expected("a number")
            }
        }
    }

    /// A boolean.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        let Value::Boolean(boolean) = self.node.value else { return self.expected("true or false") };
        Some(boolean)
    }

    /// A duration such as `5s`.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.read_duration("\"5s\", \"10m\" or \"1h\"")
    }

    /// A duration, where `word` is allowed too and is named in the problem.
    #[must_use]
    pub fn duration_or(&self, word: &str) -> Option<Duration> {
        self.read_duration(&format!("\"10m\", \"1h\" or \"30d\", or {word}"))
    }

    fn read_duration(&self, examples: &str) -> Option<Duration> {
        let Some(text) = self.unit_text() else { return self.expected(&format!("a duration such as {examples}")) };
        let duration = parse_duration(text);
        if duration.is_none() {
            self.problem(format!("not a duration: write {examples}"));
        }
        duration
    }

    /// A duration within `range`.
    #[must_use]
    pub fn duration_in(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.duration()?;
        if !range.contains(&duration) {
            self.problem(format!("must be from {} to {}", show_duration(*range.start()), show_duration(*range.end())));
            return None;
        }
        Some(duration)
    }

    /// A number of bytes: an integer, or a size such as `64MiB`.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        if let Value::Integer(Some(number)) = self.node.value
            && let Ok(number) = u64::try_from(number)
        {
            return Some(number);
        }
        let Some(text) = self.unit_text() else { return self.expected("a size such as \"64MiB\"") };
        let size = parse_size(text);
        if size.is_none() {
            self.problem("not a size: write \"64MiB\", \"512KiB\" or a number of bytes");
        }
        size
    }

    fn unit_text(&self) -> Option<&'a str> {
        if let Value::Text(text) = &self.node.value { Some(text) } else { self.scalar_of_variable() }
    }

    /// An instant: a TOML date-time with an offset.
    #[must_use]
    pub fn instant(&self) -> Option<UnixMillis> {
        let text = match &self.node.value {
            Value::Instant(text) | Value::Text(text) => text,
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::List(_) | Value::Table(_) => {
                return self.expected("an instant such as 2026-11-01T00:00:00Z");
            }
        };
        let instant = parse_instant(text);
        if instant.is_none() {
            self.problem("not an instant with an offset: write 2026-11-01T00:00:00Z");
        }
        instant
    }

    /// One of `all`, by name.
    #[must_use]
    pub fn choice<T: Copy>(&self, all: &[T], name: impl Fn(T) -> &'static str) -> Option<T> {
        let text = self.text()?;
        let chosen = all.iter().copied().find(|one| name(*one) == text);
        if chosen.is_none() {
            let names: Vec<String> = all.iter().map(|one| format!("{:?}", name(*one))).collect();
            self.problem(format!("must be one of {}", names.join(", ")));
        }
        chosen
    }

    /// The items of a list.
    #[must_use]
    pub fn list(&self) -> Option<Vec<Item<'a>>> {
        let Value::List(nodes) = &self.node.value else { return self.expected("a list") };
        let item = |(at, node)| Item { reading: self.reading, node, path: format!("{}[{at}]", self.path) };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    /// A list of strings. In a variable, `a,b` is one too.
    #[must_use]
    pub fn texts(&self) -> Option<Vec<String>> {
        if let Some(words) = self.words_of_variable() {
            return Some(words);
        }
        self.list()?.iter().map(|item| item.text().map(String::from)).collect::<Vec<_>>().into_iter().collect()
    }

    /// What stands between the commas of a variable that is no list in TOML's own form.
    fn words_of_variable(&self) -> Option<Vec<String>> {
        let text = self.unit_text().filter(|_| matches!(self.node.place, Place::Variable(_)))?;
        Some(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(String::from).collect())
    }

    /// A list of strings and integers, as text. In a variable, `a,b` is one too.
    #[must_use]
    pub fn texts_or_numbers(&self) -> Option<Vec<String>> {
        if let Some(words) = self.words_of_variable() {
            return Some(words);
        }
        let text = |item: &Item<'_>| {
            if let Value::Integer(Some(number)) = item.node.value { Some(number.to_string()) } else { item.text().map(String::from) }
        };
        self.list()?.iter().map(text).collect::<Vec<_>>().into_iter().collect()
    }

    /// A table.
    #[must_use]
    pub fn fields(&self) -> Option<Fields<'a>> {
        let Value::Table(entries) = &self.node.value else { return self.expected("a table") };
        Some(Fields::new(self.reading, entries, self.path.clone()))
    }

    /// A secret: a string, or a table that names it by `file`, `env` or `value`.
    #[must_use]
    pub fn secret(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.referenced(true)
    }

    /// As [`secret`](Self::secret), for a value that everyone may read.
    #[must_use]
    pub fn public(&self) -> Option<Vec<u8>> {
        self.referenced(false).map(|bytes| bytes.to_vec())
    }

    fn referenced(&self, secret: bool) -> Option<Zeroizing<Vec<u8>>> {
        match &self.node.value {
            Value::Table(_) => {
                let fields = self.fields()?;
                let found = fields.referenced(secret);
                fields.done();
                found
            }
            Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Instant(_) | Value::List(_) => {
                let text = self.text()?;
                if secret {
                    self.mark_secret();
                }
                Some(Zeroizing::new(text.as_bytes().to_vec()))
            }
        }
    }

    /// Notes that this very value is a secret, so that a file that everyone may read is warned about.
    pub fn mark_secret(&self) {
        self.reading.secret_at(self.node, &self.path);
    }

    /// The path of a file, relative to the folder of the document's file, also when a variable gives it.
    #[must_use]
    pub fn path_of_file(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.is_empty() {
            self.problem("the path is empty: name a file");
            return None;
        }
        Some(self.reading.document.relative(text))
    }

    /// As [`path_of_file`](Self::path_of_file), of a file or a folder that somebody else reads later: it is there, and may be read.
    #[must_use]
    pub fn path_of_readable(&self) -> Option<PathBuf> {
        self.readable().map(|(path, _)| path)
    }

    /// As [`path_of_readable`](Self::path_of_readable), of a secret: that others may read it is warned about.
    #[must_use]
    pub fn path_of_secret(&self) -> Option<PathBuf> {
        let (path, metadata) = self.readable()?;
        if let Some(rights) = file::too_open(&metadata, file::Open::Anything) {
            self.warning(format!("{} {rights}", path.display()));
        }
        Some(path)
    }

    fn readable(&self) -> Option<(PathBuf, Metadata)> {
        let path = self.path_of_file()?;
        match file::reachable(&path) {
            Ok(metadata) => Some((path, metadata)),
            Err(error) => {
                self.problem(format!("{} {}", path.display(), file::cannot_be_read(&path, &error)));
                None
            }
        }
    }
}
