//! The file of one secret: its bytes, but for one trailing newline.

use super::file::{self, Seen};
use std::path::Path;
use zeroize::Zeroizing;

/// The most bytes of a secret's file; whatever is longer is some other file.
const SECRET_BYTES: u64 = 64 * 1024;

/// A secret as its file holds it.
pub struct SecretFile {
    /// Without one trailing newline.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Rights that everyone on this machine has, and should not, to be said after the path.
    pub too_open: Option<&'static str>,
}

/// Reads the secret in the file at `path`; the error is a text to be put after the path. Also returns how the file was.
pub(super) fn read(path: &Path) -> (Result<SecretFile, String>, Seen) {
    let (read, seen) = file::read(path, SECRET_BYTES);
    let found = match read {
        Ok((mut bytes, metadata)) => {
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
                if bytes.last() == Some(&b'\r') {
                    bytes.pop();
                }
            }
            Ok(SecretFile { bytes, too_open: file::too_open(&metadata, file::Open::Anything) })
        }
        Err(error) => Err(file::cannot_be_read(path, &error)),
    };
    (found, seen)
}

/// Reads the secret in the file at `path`, which must not be empty; the error is a text to be put after the path.
///
/// # Errors
/// When it cannot be read, is empty, or is too long to be a secret.
pub fn read_secret(path: &Path) -> Result<SecretFile, String> {
    let found = read(path).0?;
    if found.bytes.is_empty() {
        return Err("is empty: the secret is the file's bytes, without one trailing newline".to_owned());
    }
    Ok(found)
}
