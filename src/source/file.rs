//! Files as they were when they were read, so that a later change is noticed.

use sha2::{Digest as _, Sha256};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// File systems stamp changes with a coarse clock: a file changed this recently may change again under the same stamp.
const COARSE: Duration = Duration::from_secs(2);

/// Tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    /// Not there, out of reach, or too young to be relied on.
    Unknown,
    /// Device, inode, size and times: a swapped link changes the inode, a write the times.
    Known { file: (u64, u64), size: u64, modified: SystemTime, changed: (i64, i64) },
}

impl Stamp {
    fn of(metadata: io::Result<Metadata>) -> Self {
        let Ok(metadata) = metadata else { return Self::Unknown };
        let (file, changed) = identity(&metadata);
        Self::Known { file, size: metadata.len(), modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), changed }
    }

    fn is_young(&self, now: SystemTime) -> bool {
        match self {
            Self::Unknown => false,
            Self::Known { modified, changed, .. } => {
                let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed.0.try_into().unwrap_or(0));
                now.duration_since(changed.max(*modified)).is_ok_and(|age| age < COARSE)
            }
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> ((u64, u64), (i64, i64)) {
    use std::os::unix::fs::MetadataExt as _;
    ((metadata.dev(), metadata.ino()), (metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> ((u64, u64), (i64, i64)) {
    ((0, 0), (0, 0))
}

/// A file as it was when it was read, or when it could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    stamp: Stamp,
    /// SHA-256 of its content; `None` when it could not be read.
    content: Option<[u8; 32]>,
}

impl Seen {
    /// Whether the file at `path` may have other content by now: cheap; in doubt, true.
    #[must_use]
    pub fn may_have_changed(&self, path: &Path) -> bool {
        match (Stamp::of(std::fs::metadata(path)), self.stamp) {
            (Stamp::Unknown, Stamp::Unknown) => self.content.is_some(),
            (now, then) => now != then,
        }
    }

    /// Whether both had the same content.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

/// A file's bytes and the metadata of the very file that they were read from.
pub(super) type Content = (Zeroizing<Vec<u8>>, Metadata);

/// Reads the file at `path`, and returns how it was then. A file of more than `limit` bytes is an error, and at most one byte more than
/// that is read.
pub(super) fn read(path: &Path, limit: u64) -> (io::Result<Content>, Seen) {
    let read = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        if metadata.len() > limit {
            return Err(too_large(limit));
        }
        // Room for all of it at once: a buffer that grows leaves copies of secrets behind.
        let room = usize::try_from(metadata.len()).unwrap_or(0) + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        // A pipe has no length, and a file may grow meanwhile.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(too_large(limit));
        }
        Ok((bytes, metadata))
    });
    let seen = match &read {
        Ok((bytes, metadata)) => {
            let stamp = Stamp::of(Ok(metadata.clone()));
            let stamp = if stamp.is_young(SystemTime::now()) { Stamp::Unknown } else { stamp };
            Seen { stamp, content: Some(Sha256::digest(bytes.as_slice()).into()) }
        }
        Err(_) => Seen { stamp: Stamp::of(std::fs::metadata(path)), content: None },
    };
    (read, seen)
}

/// Whether the file or folder at `path` can be opened for reading, of which nothing is read. A pipe is not opened: that would wait for its
/// writer.
pub(super) fn reachable(path: &Path) -> io::Result<Metadata> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() || metadata.is_dir() { File::open(path)?.metadata() } else { Ok(metadata) }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes; is it the right file?"))
}

/// Why the file at `path` cannot be read, and what mends it.
#[must_use]
pub fn cannot_be_read(path: &Path, error: &io::Error) -> String {
    let kind = error.kind();
    let advice = if kind == io::ErrorKind::NotFound {
        match std::fs::read_link(path) {
            Ok(target) => format!("; it is a link to {}, which is not there", target.display()),
            Err(_) => "; create it, or mend the path".into(),
        }
    } else if kind == io::ErrorKind::PermissionDenied {
        format!("; {}", permission(path))
    } else if kind == io::ErrorKind::IsADirectory {
        "; it is a folder: name a file".into()
    } else if kind == io::ErrorKind::NotADirectory {
        "; a part of the path is a file, not a folder: mend the path".into()
    } else if error.raw_os_error() == Some(libc::ELOOP) {
        "; links lead round in a circle: mend the link".into()
    } else {
        String::new()
    };
    format!("cannot be read: {error}{advice}")
}

/// Who may read the file at `path`, and who asks.
#[cfg(unix)]
fn permission(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of a process's entry is its effective user.
    let user = std::fs::metadata("/proc/self").map_or_else(|_| "this process".into(), |entry| format!("user {}", entry.uid()));
    match std::fs::metadata(path) {
        Ok(file) => {
            let (mode, owner, group) = (file.mode() & 0o7777, file.uid(), file.gid());
            format!("it has mode {mode:04o} and belongs to user {owner}, group {group}: let {user} read it (chown, chgrp, chmod)")
        }
        Err(_) => format!("a folder above it does not let {user} in (chmod +x)"),
    }
}

#[cfg(not(unix))]
fn permission(_path: &Path) -> String {
    "let this process's user read it".into()
}

/// Which of the `forbidden` rights everyone has, and what mends it.
#[cfg(unix)]
pub(super) fn too_open(metadata: &Metadata, forbidden: Open) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;
    let everyone = metadata.mode() & forbidden as u32;
    match (everyone & 0o4 != 0, everyone & 0o2 != 0) {
        (true, true) => Some("can be read and changed by everyone on this machine: chmod o-rw"),
        (true, false) => Some("can be read by everyone on this machine: chmod o-r"),
        (false, true) => Some("can be changed by everyone on this machine: chmod o-w"),
        (false, false) => None,
    }
}

#[cfg(not(unix))]
pub(super) fn too_open(_metadata: &Metadata, _forbidden: Open) -> Option<&'static str> {
    None
}

/// What everyone on the machine must not be able to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// Change it: whoever can, decides where callbacks go.
    Change = 0o2,
    /// Read it: there is a secret in it.
    Reading = 0o4,
    /// Read or change it: it is a secret.
    Anything = 0o6,
}
