//! A TOML file as a tree of located values, with overrides from the environment laid over it.

use super::{Environment, Problem, Seen, file, key_part, pieces};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A file holds at most this many bytes: a registry of 100,000 domains with a binding each has about 12 MB.
const FILE_BYTES: u64 = 128 << 20;

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// Where a value stands.
#[derive(Clone)]
pub(super) enum Place {
    /// A line of the document's file, from 1.
    Line(u32),
    /// An environment variable.
    Variable(Arc<Variable>),
}

/// An environment variable that overrides a value; its text is kept for keys that take it as it is.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) text: String,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    /// An integer within TOML's own limits; `None` when it is beyond them.
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    /// As written, RFC 3339 or a part of it.
    Instant(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Value {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Instant(_) => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A TOML file, read: its tree, its name for messages, and the folder that relative paths start from.
pub struct Document {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) root: Node,
    /// Rights on the file that everyone has and should not, for a warning.
    pub(super) too_open: Option<&'static str>,
    /// Rights that are too many once a secret is written in it.
    pub(super) too_open_for_secrets: Option<&'static str>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Document {
    /// Reads and parses the file at `path`; also returns how the file was, whether that succeeds or not.
    ///
    /// # Errors
    /// The one problem that keeps it from being read: no such file, not UTF-8, not TOML.
    pub fn read(path: &Path) -> (Result<Self, Problem>, Seen) {
        let whole = |message: String| Problem { file: path.display().to_string(), line: None, key: String::new(), message };
        let (read, seen) = file::read(path, FILE_BYTES);
        let document = match &read {
            Err(error) => Err(whole(file::cannot_be_read(path, error))),
            Ok((bytes, metadata)) => match std::str::from_utf8(bytes) {
                Ok(text) => Self::parse(path, text).map(|document| Self {
                    too_open: file::too_open(metadata, file::Open::Change),
                    too_open_for_secrets: file::too_open(metadata, file::Open::Reading),
                    ..document
                }),
                Err(error) => Err(Problem {
                    line: Some(1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count()),
                    ..whole("is not UTF-8 text: TOML is".into())
                }),
            },
        };
        (document, seen)
    }

    /// Parses `text` as the content of the file at `path`.
    ///
    /// # Errors
    /// The first TOML syntax error, with its line; never with the line's text, which may hold a secret, but for a key that is there twice.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let lines = Lines::of(text);
        let name = path.display().to_string();
        let entries = pieces::parse(text, &lines).map_err(|fault| Problem {
            file: name.clone(),
            line: fault.at.map(|byte| lines.of_byte(byte) as usize),
            key: String::new(),
            message: format!("not TOML: {}", fault.message),
        })?;
        let root = Value::Table(entries);
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { name, folder, root: Node { place: Place::Line(1), value: root }, too_open: None, too_open_for_secrets: None })
    }

    /// Lays the variables of `environment` that start with `prefix` and have `__` between their levels over the tree:
    /// `<prefix>KAFKA__GROUP` is `kafka.group`. A value is read as TOML where that is possible, else it is a string. Levels are in lower
    /// case; below `dotted` (a path such as `kafka.properties`), whose keys have dots, the rest is one level with `_` for the dot.
    ///
    /// Variables with a single level are left alone: an orchestrator sets such ones (`CALLBACKD_PORT` for a service of that name).
    ///
    /// # Errors
    /// A variable for something below a value that is no table, or whose value is no text.
    pub fn overlay(&mut self, environment: &Environment, prefix: &str, dotted: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let problem = |name: &str, path: &[String], message: &str| {
            let key = path.iter().map(|part| key_part(part)).collect::<Vec<_>>().join(".");
            Problem { file: name.into(), line: None, key, message: message.into() }
        };
        for (name, text) in environment.iter() {
            let Some(path) = levels(name, prefix, dotted) else { continue };
            let variable = Arc::new(Variable { name: name.into(), text: text.into() });
            if !put(&mut self.root, &path, &variable) {
                let message = "a level of its name is a value, not a table: mend what stands between the underscores";
                problems.push(problem(name, &path, message));
            }
        }
        for name in environment.not_text() {
            let Some(path) = levels(name, prefix, dotted) else { continue };
            problems.push(problem(name, &path, "the variable is not UTF-8 text: set it to what is, or unset it"));
        }
        problems
    }

    /// File (or variable) and line of the value at `key`, or of the nearest value around it.
    #[must_use]
    pub fn locate(&self, key: &str) -> (String, Option<usize>) {
        let mut node = &self.root;
        let mut rest = key;
        while !rest.is_empty() {
            let next = match &node.value {
                // Keys may have dots of their own, quoted or not: the longest that fits is meant.
                Value::Table(entries) => entries
                    .iter()
                    .filter_map(|(name, child)| {
                        let tail = rest.strip_prefix(&*key_part(name)).or_else(|| rest.strip_prefix(name.as_str()))?;
                        (tail.is_empty() || tail.starts_with(['.', '['])).then_some((child, tail))
                    })
                    .min_by_key(|(_, tail)| tail.len()),
                Value::List(items) => rest
                    .strip_prefix('[')
                    .and_then(|tail| tail.split_once(']'))
                    .and_then(|(index, tail)| Some((items.get(index.parse::<usize>().ok()?)?, tail))),
                Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Instant(_) => None,
            };
            let Some((child, tail)) = next else { break };
            node = child;
            rest = tail.strip_prefix('.').unwrap_or(tail);
        }
        self.place(&node.place)
    }

    /// `path`, relative to the folder of this document's file.
    #[must_use]
    pub fn relative(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub(super) fn place(&self, place: &Place) -> (String, Option<usize>) {
        match place {
            Place::Line(line) => (self.name.clone(), Some(*line as usize)),
            Place::Variable(variable) => (variable.name.clone(), None),
        }
    }
}

/// The levels of the variable `name`, as [`Document::overlay`] reads them; `None`: it overrides nothing.
fn levels(name: &str, prefix: &str, dotted: &str) -> Option<Vec<String>> {
    let levels = name.strip_prefix(prefix).filter(|levels| levels.contains("__"))?.to_ascii_lowercase();
    let path: Vec<String> = levels.split("__").map(String::from).collect();
    let depth = dotted.split('.').count();
    if path.len() > depth && path[..depth].join(".") == dotted {
        return Some(path[..depth].iter().cloned().chain([path[depth..].join("_").replace('_', ".")]).collect());
    }
    Some(path)
}

/// Puts the value of `variable` at `path` below `node`, making tables on the way; false when something on the way is no table.
fn put(node: &mut Node, path: &[String], variable: &Arc<Variable>) -> bool {
    let Value::Table(entries) = &mut node.value else { return false };
    let Some((name, rest)) = path.split_first() else { return false };
    let at = entries.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
        entries.push((name.clone(), Node { place: Place::Variable(variable.clone()), value: Value::Table(Vec::new()) }));
        entries.len() - 1
    });
    let child = &mut entries[at].1;
    if rest.is_empty() {
        *child = read_variable(variable);
        return true;
    }
    put(child, rest, variable)
}

fn read_variable(variable: &Arc<Variable>) -> Node {
    let place = Place::Variable(variable.clone());
    let value = match DeValue::parse(&variable.text) {
        Ok(value) => convert(value.into_inner(), &|_| place.clone()),
        Err(_) => Value::Text(variable.text.clone()),
    };
    Node { place, value }
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1)).collect())
    }

    fn of_byte(&self, byte: usize) -> u32 {
        u32::try_from(self.0.partition_point(|start| *start <= byte)).unwrap_or(u32::MAX)
    }

    pub(super) fn place(&self, byte: usize) -> Place {
        Place::Line(self.of_byte(byte))
    }
}

/// The keys and values of a table.
pub(super) fn entries(table: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Vec<(String, Node)> {
    let entry = |(key, value): (toml::Spanned<toml::de::DeString<'_>>, toml::Spanned<DeValue<'_>>)| {
        let node = Node { place: place(key.span().start), value: convert(value.into_inner(), place) };
        (key.into_inner().into_owned(), node)
    };
    table.into_iter().map(entry).collect()
}

/// Converts the parser's tree to ours, freeing it on the way.
fn convert(value: DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok()),
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(instant) => Value::Instant(instant.to_string()),
        DeValue::Array(items) => Value::List(
            items.into_iter().map(|item| Node { place: place(item.span().start), value: convert(item.into_inner(), place) }).collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table, place)),
    }
}
