//! The registry file: read, watched, swapped atomically.
//!
//! ```text
//!  registry.toml ─► source::Document ─► rows ─► domain::registry::Entries ─► Registry ─► Store (the snapshot in force)
//!  keys, headers ─┘ (file, env)                                                             ▲
//!                                  the app's registry thread: each second, SIGHUP ────────┘
//! ```
//!
//! Types, unknown keys and references to secrets are judged here, everything else by the domain, the same as for the registry topic; all
//! problems come at once, with file, line and key. A bad file changes nothing: the last good snapshot stays.

mod rows;
mod store;

pub use store::{Act, ReloadOutcome, Store};

pub use crate::source::{Environment, Problem};

use crate::domain::address::AddressPolicy;
use crate::domain::registry::{self, EntityKind, Registry, Rules};
use crate::domain::time::UnixMillis;
use crate::source::{Document, Reading, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What reading a registry needs of the configuration.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `registry.templates_per_account`.
    pub templates_per_account: usize,
    /// `[egress]`: which callback URLs may be dialled.
    pub addresses: AddressPolicy,
    /// `delivery.drain_timeout`: longer time-outs are warned about.
    pub drain_timeout: Duration,
    /// The smallest of `delivery.delay_tiers`: shorter first delays are warned about.
    pub smallest_tier: Duration,
    /// Where `{ env = … }` is looked up.
    pub environment: Environment,
    /// Asked at each reading: templates without a key in force are warned about.
    pub clock: fn() -> UnixMillis,
}

/// A registry that was read and found right.
pub struct LoadedRegistry {
    /// The snapshot.
    pub registry: Registry,
    /// What is legal but doubtful, with file, line and key.
    pub warnings: Vec<String>,
}

/// Reads and checks the registry file at `path`.
///
/// # Errors
/// Every problem at once, by line; a file that cannot be read or is not TOML stands alone.
pub fn load_file(path: &Path, options: &LoadOptions) -> Result<LoadedRegistry, Vec<Problem>> {
    look(path, options).0
}

/// As [`load_file`], of `text` as the content of the file at `path`.
///
/// # Errors
/// As [`load_file`].
pub fn load_text(path: &Path, text: &str, options: &LoadOptions) -> Result<LoadedRegistry, Vec<Problem>> {
    let document = Document::parse(path, text).map_err(|problem| vec![problem])?;
    load(&document, options, &mut Files::new())
}

/// A file and those it refers to, as they were when they were read.
type Files = BTreeMap<PathBuf, Seen>;

/// As [`load_file`]; also returns how the files were, whether the load succeeds or not.
fn look(path: &Path, options: &LoadOptions) -> (Result<LoadedRegistry, Vec<Problem>>, Files) {
    let (document, seen) = Document::read(path);
    let mut files = Files::from([(path.to_path_buf(), seen)]);
    let loaded = document.map_err(|problem| vec![problem]).and_then(|document| load(&document, options, &mut files));
    (loaded, files)
}

fn load(document: &Document, options: &LoadOptions, files: &mut Files) -> Result<LoadedRegistry, Vec<Problem>> {
    let rules = Rules { templates_per_account: options.templates_per_account, addresses: options.addresses.clone() };
    let reading = Reading::new(document, &options.environment);
    let entries = rows::read(&reading, options);
    files.extend(reading.files());
    let built = Registry::build(entries, &rules).map_err(|problems| report(&reading, &problems));
    if built.as_ref().is_ok_and(|registry| registry.domain_names().len() == 0) {
        reading.warning("", "there is no domain in it: every event becomes a dead letter, unknown_domain");
    }
    let warnings = reading.warnings();
    reading.finish()?;
    // A registry that was not built left its problems with the reading, which ended above.
    built.map(|registry| LoadedRegistry { registry, warnings }).map_err(|()| Vec::new())
}

/// Adds the domain's problems to those of the file, but for those that follow from one that is there already.
fn report(reading: &Reading<'_>, problems: &[registry::Problem]) {
    let known = reading.problem_keys();
    for problem in problems.iter().filter(|problem| !follows(&known, problem)) {
        let message = match problem.other {
            Some(other) => {
                let other = format!("{}[{other}]", problem.kind.list());
                format!("{}: {other}, {}", problem.message, reading.whereabouts(&other))
            }
            None => problem.message.clone(),
        };
        reading.problem(&problem.key(), message);
    }
}

/// Whether `problem` follows from one of the `known`: a value of a wrong type is missing to the domain.
fn follows(known: &BTreeSet<String>, problem: &registry::Problem) -> bool {
    let row = |index: usize| format!("{}[{index}]", problem.kind.list());
    if let Some(other) = problem.other {
        // Two rows clash whatever else is wrong with them, unless the wrong values are those by which they clash.
        let by: &[&str] = match problem.kind {
            EntityKind::Binding => &["domain", "path", "from", "until"],
            EntityKind::Mix => &["domain", "path", "stream"],
            EntityKind::Account | EntityKind::RecordingTemplate | EntityKind::CallbackTemplate | EntityKind::Domain => &["id", "name"],
        };
        return [problem.index, other].into_iter().any(|index| by.iter().any(|field| known.contains(&format!("{}.{field}", row(index)))));
    }
    let key = problem.key();
    let within = |noted: &str| noted.strip_prefix(&*key).is_some_and(|tail| tail.is_empty() || tail.starts_with(['.', '[']));
    known.contains(&row(problem.index))
        || known.range(key.clone()..).take_while(|noted| noted.starts_with(&*key)).any(|noted| within(noted))
}

#[cfg(test)]
mod tests;
