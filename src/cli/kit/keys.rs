//! Keys and secrets as they are typed or stand in files.

use super::arguments::{KeyArguments, ReceiveArguments};
use crate::cli::Failure;
use crate::cli::failure::complain;
use crate::domain::registry::webhook_secret;
use crate::domain::verification::SharedKey;
use crate::source::{Problem, read_secret};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

type Bytes = Zeroizing<Vec<u8>>;

/// The key that `sign` and `verify` were given.
pub(super) fn of_files(arguments: &KeyArguments) -> Result<SharedKey, Failure> {
    let key = key_of_file(&arguments.key_file);
    let secret = secret(arguments.secret.as_deref(), arguments.secret_file.as_ref());
    // Both are read, so that both are told.
    let (key, secret) = both(key, secret)?;
    SharedKey::new(Some(key), secret).ok_or_else(|| Failure::Failed(anyhow::anyhow!("there is no key")))
}

/// The key that `receive` was given; `None`: nothing is to be verified.
pub(super) fn of_receiver(arguments: &ReceiveArguments) -> Result<Option<SharedKey>, Failure> {
    let key = match (&arguments.key, &arguments.key_file) {
        (Some(key), _) if key.is_empty() => Err(Failure::Usage("--key is empty: leave it out to verify nothing".to_owned())),
        (Some(key), _) => Ok(Some(taken_as_it_is(Zeroizing::new(key.as_bytes().to_vec()), "--key"))),
        (None, Some(file)) => key_of_file(file).map(Some),
        (None, None) => Ok(None),
    };
    let secret = secret(arguments.secret.as_deref(), arguments.secret_file.as_ref());
    let (key, secret) = both(key, secret)?;
    Ok(SharedKey::new(key, secret))
}

fn both<A, B>(a: Result<A, Failure>, b: Result<B, Failure>) -> Result<(A, B), Failure> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(Failure::Problems(mut problems)), Err(Failure::Problems(more))) => {
            problems.extend(more);
            Err(Failure::Problems(problems))
        }
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
}

fn key_of_file(path: &Path) -> Result<Bytes, Failure> {
    let key = read_secret(path).map_err(|cause| problem(path, "--key-file", cause))?;
    Ok(taken_as_it_is(key, "--key-file"))
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
        (Some(text), _) => webhook_secret(text.as_bytes()).map(Some).map_err(|cause| Failure::Usage(format!("--secret: {cause}"))),
        (None, Some(path)) => {
            let text = read_secret(path).map_err(|cause| problem(path, "--secret-file", cause))?;
            webhook_secret(&text).map(Some).map_err(|cause| problem(path, "--secret-file", cause.to_string()))
        }
        (None, None) => Ok(None),
    }
}

fn problem(path: &Path, option: &str, message: String) -> Failure {
    Failure::Problems(vec![Problem { file: path.display().to_string(), line: None, key: option.to_owned(), message }])
}
