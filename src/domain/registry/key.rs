//! The Standard Webhooks secret of a key: `whsec_<base64>` or raw; one of its own has 24–64 bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const PREFIX: &[u8] = b"whsec_";

/// Why a text is no Standard Webhooks secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// What follows `whsec_` is no base64.
    #[error("what follows whsec_ is not base64")]
    NotBase64,
    /// Nothing at all (after decoding): it would verify what anybody signs.
    #[error("the secret is empty")]
    Empty,
    /// Below 24 or above 64 bytes (after decoding).
    #[error("a secret has 24 to 64 bytes (after decoding what follows whsec_), this one has {0}")]
    Length(usize),
}

/// The bytes of a key's own secret, given as `whsec_<base64>` or raw (Standard Webhooks, "Symmetric").
///
/// # Errors
/// See [`SecretError`].
pub fn webhook_secret(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let bytes = decoded(text)?;
    if (24..=64).contains(&bytes.len()) { Ok(bytes) } else { Err(SecretError::Length(bytes.len())) }
}

/// As [`webhook_secret`], of one that a receiver was given: also the bytes of a key that has no secret of its own, however short it is.
///
/// # Errors
/// `NotBase64` or `Empty`.
pub fn shared_secret(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let bytes = decoded(text)?;
    if bytes.is_empty() { Err(SecretError::Empty) } else { Ok(bytes) }
}

fn decoded(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    Ok(match text.strip_prefix(PREFIX) {
        Some(encoded) => Zeroizing::new(STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?),
        None => Zeroizing::new(text.to_vec()),
    })
}
