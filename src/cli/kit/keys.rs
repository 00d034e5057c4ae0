//! Keys and secrets as they are typed or stand in files.

use super::arguments::{ReceiveArguments, SharedArguments, SigningArguments};
use crate::cli::Failure;
use crate::cli::failure::complain;
use crate::domain::registry::shared_secret;
use crate::domain::verification::SharedKey;
use crate::source::{Problem, read_secret};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

type Bytes = Zeroizing<Vec<u8>>;

/// The key that `sign` was given.
pub(super) fn to_sign(arguments: &SigningArguments) -> Result<SharedKey, Failure> {
    there_is(shared(key_of_file(&arguments.key_file).map(Some), secret(arguments.secret.as_deref(), arguments.secret_file.as_ref()))?)
}

/// The key, the secret or both that `verify` was given.
pub(super) fn to_verify(arguments: &SharedArguments) -> Result<SharedKey, Failure> {
    let key = arguments.key_file.as_deref().map(key_of_file).transpose();
    there_is(shared(key, secret(arguments.secret.as_deref(), arguments.secret_file.as_ref()))?)
}

fn there_is(shared: Option<SharedKey>) -> Result<SharedKey, Failure> {
    shared.ok_or_else(|| Failure::Usage("there is no key: give --key-file, --secret-file or --secret".to_owned()))
}

/// The key that `receive` was given; `None`: nothing is to be verified.
pub(super) fn of_receiver(arguments: &ReceiveArguments) -> Result<Option<SharedKey>, Failure> {
    let key = match (&arguments.key, &arguments.key_file) {
        (Some(key), _) if key.is_empty() => Err(Failure::Usage("--key is empty: leave it out to verify nothing".to_owned())),
        (Some(key), _) => Ok(Some(taken_as_it_is(Zeroizing::new(key.as_bytes().to_vec()), "--key"))),
        (None, Some(file)) => key_of_file(file).map(Some),
        (None, None) => Ok(None),
    };
    shared(key, secret(arguments.secret.as_deref(), arguments.secret_file.as_ref()))
}

/// Of both; where both are wrong, both are told. `None` without either.
fn shared(key: Result<Option<Bytes>, Failure>, secret: Result<Option<Bytes>, Failure>) -> Result<Option<SharedKey>, Failure> {
    match (key, secret) {
        (Ok(key), Ok(secret)) => Ok(SharedKey::new(key, secret)),
        (Err(Failure::Problems(mut problems)), Err(Failure::Problems(more))) => {
            problems.extend(more);
            Err(Failure::Problems(problems))
        }
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
}

fn key_of_file(path: &Path) -> Result<Bytes, Failure> {
    Ok(taken_as_it_is(bytes_of_file(path, "--key-file")?, "--key-file"))
}

/// The secret that the file given with `option` holds; one that others may read is warned about, as everywhere.
fn bytes_of_file(path: &Path, option: &str) -> Result<Bytes, Failure> {
    let found = read_secret(path).map_err(|cause| problem(path, option, cause))?;
    if let Some(rights) = found.too_open {
        complain(format_args!("warning: {}: {option}: {rights}", path.display()));
    }
    Ok(found.bytes)
}

/// A key that looks like a secret was most likely given with the wrong option; it may be a key all the same.
fn taken_as_it_is(key: Bytes, option: &str) -> Bytes {
    if key.starts_with(b"whsec_") {
        complain(format_args!(
            "warning: the key of {option} begins with whsec_ and is taken as it is: a Standard Webhooks secret goes to --secret or --secret-file"
        ));
    }
    key
}

fn secret(text: Option<&str>, file: Option<&PathBuf>) -> Result<Option<Bytes>, Failure> {
    match (text, file) {
        (Some(text), _) => shared_secret(text.as_bytes()).map(Some).map_err(|cause| Failure::Usage(format!("--secret: {cause}"))),
        (None, Some(path)) => {
            let text = bytes_of_file(path, "--secret-file")?;
            shared_secret(&text).map(Some).map_err(|cause| problem(path, "--secret-file", cause.to_string()))
        }
        (None, None) => Ok(None),
    }
}

fn problem(path: &Path, option: &str, message: String) -> Failure {
    Failure::Problems(vec![Problem { file: path.display().to_string(), line: None, key: option.to_owned(), message }])
}
