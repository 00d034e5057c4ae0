//! Typed reads of a table. A read that does not fit notes a problem and yields nothing; the reader goes on.

use super::document::Node;
use super::{Item, Reading, secret_file};
use std::cell::RefCell;
use zeroize::Zeroizing;

/// `name` as one part of a key's path: quoted where TOML would want it quoted.
#[must_use]
pub fn key_part(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") }
}

/// A table being read. Ends with [`Fields::done`].
#[derive(Debug)]
pub struct Fields<'a> {
    reading: &'a Reading<'a>,
    entries: &'a [(String, Node)],
    path: String,
    asked: RefCell<Vec<&'static str>>,
    /// It stands for a value that is no table, which was reported already: nothing counts as missing from it.
    stand_in: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(reading: &'a Reading<'a>, entries: &'a [(String, Node)], path: String) -> Self {
        Self { reading, entries, path, asked: RefCell::default(), stand_in: false }
    }

    /// The path of `key` in this table, from the root; of the table itself when `key` is empty.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.into(),
            (_, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(key);
        let (_, node) = self.entries.iter().find(|(name, _)| name == key)?;
        Some(Item::new(self.reading, node, self.path(key)))
    }

    /// The value of `key`; its absence is a problem.
    pub fn required(&self, key: &'static str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() && !self.stand_in {
            self.problem(key, "missing");
        }
        item
    }

    /// The table at `key`; an empty one when there is none.
    pub fn fields(&self, key: &'static str) -> Fields<'a> {
        self.get(key).and_then(|item| item.fields()).unwrap_or_else(|| Fields::new(self.reading, &[], self.path(key)))
    }

    /// The tables of the list at `key`; none when there is no such list.
    pub fn rows(&self, key: &'static str) -> Vec<Fields<'a>> {
        let items = self.get(key).and_then(|item| item.list()).unwrap_or_default();
        let stand_in = |path| Fields { stand_in: true, ..Fields::new(self.reading, &[], path) };
        items.into_iter().map(|item| item.fields().unwrap_or_else(|| stand_in(item.path().to_owned()))).collect()
    }

    /// Every key with its value, for tables whose keys are free.
    pub fn all(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.entries.iter().map(|(name, node)| (name.as_str(), Item::new(self.reading, node, self.path(&key_part(name)))))
    }

    /// The string at `key`.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.get(key)?.text().map(String::from)
    }

    /// The string at `key`; its absence is a problem, and then it is empty.
    pub fn required_text(&self, key: &'static str) -> String {
        self.required(key).and_then(|item| item.text().map(String::from)).unwrap_or_default()
    }

    /// Notes a problem at `key`, or at the table as a whole when it is empty.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.reading.problem(&self.path(key), message);
    }

    /// Notes something doubtful at `key`, or at the table as a whole when it is empty.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        self.reading.warning(&self.path(key), message);
    }

    /// The secret that this table names by one of `file`, `env` and `value`.
    pub fn reference(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.referenced(true)
    }

    /// As [`reference`](Self::reference); unless it is `secret`, everyone may read the file.
    pub(super) fn referenced(&self, secret: bool) -> Option<Zeroizing<Vec<u8>>> {
        let (file, variable, value) = (self.get("file"), self.get("env"), self.get("value"));
        match (file, variable, value) {
            (Some(file), None, None) => self.secret_file(&file, secret),
            (None, Some(variable), None) => {
                let name = variable.text()?;
                let found = self.reading.environment.get(name);
                if found.is_none() {
                    let what =
                        if self.reading.environment.not_text().any(|known| known == name) { "is not UTF-8 text" } else { "is not set" };
                    variable.problem(format!("the environment variable {name} {what}: set it where this process starts, or name another"));
                }
                found.map(|text| Zeroizing::new(text.as_bytes().to_vec()))
            }
            (None, None, Some(value)) => {
                let text = value.text()?;
                if secret {
                    value.mark_secret();
                }
                Some(Zeroizing::new(text.as_bytes().to_vec()))
            }
            _ => {
                self.problem("", "give exactly one of file, env and value");
                None
            }
        }
    }

    fn secret_file(&self, item: &Item<'_>, secret: bool) -> Option<Zeroizing<Vec<u8>>> {
        let path = item.path_of_file()?;
        let (read, seen) = secret_file::read(&path);
        self.reading.files.borrow_mut().insert(path.clone(), seen);
        match read {
            Ok(found) => {
                if let Some(rights) = found.too_open.filter(|_| secret) {
                    self.reading.warning(item.path(), format!("{} {rights}", path.display()));
                }
                Some(found.bytes)
            }
            Err(cause) => {
                item.problem(format!("{} {cause}", path.display()));
                None
            }
        }
    }

    /// Ends the reading of this table: every key that no read asked for is a problem.
    pub fn done(&self) {
        let asked = self.asked.borrow();
        for (name, _) in self.entries.iter().filter(|(name, _)| !asked.contains(&name.as_str())) {
            let mut known: Vec<&str> = asked.clone();
            known.sort_unstable();
            known.dedup();
            self.problem(&key_part(name), format!("unknown key; known here: {}", known.join(", ")));
        }
    }
}
