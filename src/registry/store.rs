//! The snapshot in force, and how it is replaced.
//!
//! A look costs one `stat` call per file. A file is read when its stamp differs or is too young to tell, and only different content counts
//! as a change. An automatic change is judged when two looks in a row read the same: a file that is being written in place may be a valid
//! registry at any row's end, with bindings missing, and events would be skipped by it for good. A file that stays cut off (a full disk, a
//! copy that broke) can be a valid registry too: a load that would take away too many domains, or their bindings, or the keys of a
//! template, waits for a person.
//!
//! A replaced snapshot is kept here until nobody else holds it: the last holder frees it, which takes long for a big one and must not fall
//! to the engine.

use super::{Files, LoadOptions, LoadedRegistry, Problem, look};
use crate::domain::registry::{Losses, Registry};
use arc_swap::ArcSwap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An automatic reload may drop or unbind this many domains (or paths), or a tenth of them where that is more.
const MAY_DROP: usize = 10;

/// Who wants a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A file changed: a half-copied one must do no harm.
    Automatic,
    /// A person asked (SIGHUP): what the file says holds, however many domains go.
    Deliberate,
}

/// What came of a reload.
#[derive(Clone)]
pub enum ReloadOutcome {
    /// A new snapshot is in force.
    Loaded {
        /// The new snapshot.
        registry: Arc<Registry>,
        /// What is legal but doubtful about it.
        warnings: Vec<String>,
    },
    /// Nothing changed, or a file may still be changing: the next look tells.
    Unchanged,
    /// The files are wrong; the last good snapshot stays.
    Refused(Vec<Problem>),
    /// The files are valid but would take too much away; the last good snapshot stays until SIGHUP.
    Shrunk(Losses),
}

/// Holds the snapshot in force and replaces it from its file. Clones share it.
#[derive(Clone)]
pub struct Store {
    current: Arc<ArcSwap<Registry>>,
    source: Arc<Mutex<Source>>,
}

/// Where the snapshot comes from: only reloads touch it, one at a time.
struct Source {
    path: PathBuf,
    options: LoadOptions,
    /// The registry file and every file it referred to at the last look, as they were then.
    seen: Files,
    /// The last look read something new that was not judged yet.
    unjudged: bool,
    /// Replaced snapshots that somebody else held at the last look.
    retired: Vec<Arc<Registry>>,
}

impl Store {
    /// Reads the registry file at `path` for the first time; the second value is what is legal but doubtful about it.
    ///
    /// # Errors
    /// Every problem at once: without a first registry nothing starts.
    pub fn open(path: &Path, options: LoadOptions) -> Result<(Self, Vec<String>), Vec<Problem>> {
        let (loaded, seen) = look(path, &options);
        let LoadedRegistry { registry, warnings } = loaded?;
        let source = Source { path: path.to_path_buf(), options, seen, unjudged: false, retired: Vec::new() };
        let store = Self { current: Arc::new(ArcSwap::from_pointee(registry)), source: Arc::new(Mutex::new(source)) };
        Ok((store, warnings))
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// The holder of the snapshot, for those who look it up for every event.
    #[must_use]
    pub fn handle(&self) -> Arc<ArcSwap<Registry>> {
        self.current.clone()
    }

    /// Whether a file changed since the last look. Blocks for the time of a few `stat` calls.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.source().has_changed()
    }

    /// Looks at the files and, when they changed or a person asked, puts what they say in force. Blocks for as long as reading and
    /// checking takes.
    pub fn reload(&self, act: Act) -> ReloadOutcome {
        let mut source = self.source();
        source.retired.retain(|old| Arc::strong_count(old) > 1);
        if act == Act::Automatic && !source.has_changed() {
            return ReloadOutcome::Unchanged;
        }
        let (loaded, seen) = look(&source.path, &source.options);
        let same = same_content(&source.seen, &seen);
        source.seen = seen;
        if act == Act::Automatic && (!same || !source.unjudged) {
            source.unjudged |= !same;
            return ReloadOutcome::Unchanged;
        }
        source.unjudged = false;
        let LoadedRegistry { registry: next, warnings } = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => return ReloadOutcome::Refused(problems),
        };
        let current = self.current.load();
        let losses = Losses::between(&current, &next);
        if act == Act::Automatic && are_too_many(&losses) {
            return ReloadOutcome::Shrunk(losses);
        }
        drop(current);
        let registry = Arc::new(next);
        let replaced = self.current.swap(registry.clone());
        source.retired.push(replaced);
        ReloadOutcome::Loaded { registry, warnings }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        // A panic in a reload leaves nothing half done: what was seen is replaced as a whole.
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Losses that need SIGHUP: all domains; more than ten and more than a tenth of the domains, dropped or unbound; the same of the paths; or
/// all keys of any template. A truncated file can be valid and lose exactly these.
fn are_too_many(losses: &Losses) -> bool {
    let many = |lost: usize, of: usize| lost > MAY_DROP && lost * 10 > of;
    let Losses { domains, dropped, unbound, paths, unbound_paths, unsigned } = losses;
    *dropped > 0 && dropped == domains || many(dropped + unbound, *domains) || many(*unbound_paths, *paths) || !unsigned.is_empty()
}

impl Source {
    fn has_changed(&self) -> bool {
        self.unjudged || self.seen.iter().any(|(path, seen)| seen.may_have_changed(path))
    }
}

fn same_content(before: &Files, after: &Files) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(a, b)| a.0 == b.0 && a.1.same_content(b.1))
}
