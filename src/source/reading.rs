//! One pass over a document, and what it finds.

use super::document::{Document, Node, Place, Value};
use super::{Environment, Fields, Problem, Seen};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One pass over a document: what it found wrong, and which files it read besides.
#[derive(Debug)]
pub struct Reading<'d> {
    pub(super) document: &'d Document,
    pub(super) environment: &'d Environment,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    pub(super) files: RefCell<BTreeMap<PathBuf, Seen>>,
    /// Some value that is a secret was read from the document itself.
    secret_written: Cell<bool>,
}

impl<'d> Reading<'d> {
    /// Starts to read `document`; `{ env = … }` is looked up in `environment`.
    #[must_use]
    pub fn new(document: &'d Document, environment: &'d Environment) -> Self {
        let whole = |rights: &str| Problem { file: document.name.clone(), line: None, key: String::new(), message: rights.into() };
        let warnings = RefCell::new(document.too_open.map(whole).into_iter().collect());
        Self { document, environment, problems: RefCell::default(), warnings, files: RefCell::default(), secret_written: Cell::new(false) }
    }

    /// The document's top level.
    #[must_use]
    pub fn root(&self) -> Fields<'_> {
        match &self.document.root.value {
            Value::Table(entries) => Fields::new(self, entries, String::new()),
            Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Instant(_) | Value::List(_) => {
                Fields::new(self, &[], String::new())
            }
        }
    }

    /// Notes a problem at `key`, a path from the root.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.problems.borrow_mut().push(self.at(key, message.into()));
    }

    /// Notes something legal but doubtful at `key`.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        self.warnings.borrow_mut().push(self.at(key, message.into()));
    }

    /// Notes that the value of `node`, at `key`, is a secret: where it is written in a file that everyone may read, the first is told.
    pub(super) fn secret_at(&self, node: &Node, key: &str) {
        let Some(rights) = self.document.too_open_for_secrets.filter(|_| matches!(node.place, Place::Line(_))) else { return };
        if !self.secret_written.replace(true) {
            self.warning(key, format!("a secret is written here, and the file {rights}, or name the secret by file or env"));
        }
    }

    /// The keys of all problems so far.
    #[must_use]
    pub fn problem_keys(&self) -> BTreeSet<String> {
        self.problems.borrow().iter().map(|problem| problem.key.clone()).collect()
    }

    /// Where the value at `key` stands: `file:line`.
    #[must_use]
    pub fn whereabouts(&self, key: &str) -> String {
        match self.document.locate(key) {
            (file, Some(line)) => format!("{file}:{line}"),
            (file, None) => file,
        }
    }

    /// Every file that a reference named, as it was when it was read, or could not be read.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Seen> {
        self.files.borrow().clone()
    }

    /// What is legal but doubtful, in the order of the lines.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.borrow().clone();
        warnings.sort();
        warnings.iter().map(Problem::to_string).collect()
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// All problems noted, in the order of the lines.
    pub fn finish(self) -> Result<(), Vec<Problem>> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn at(&self, key: &str, message: String) -> Problem {
        let (file, line) = self.document.locate(key);
        Problem { file, line, key: key.into(), message }
    }
}
