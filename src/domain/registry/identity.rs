//! The certificate that a template shows to receivers who ask for one, with its key.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use tokio_rustls::rustls::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::CertifiedKey;

/// SHA-256 of a certificate chain.
pub type Fingerprint = [u8; 32];

/// A certificate chain and its key, found to belong together. The key is never shown; unlike signing keys it is not wiped, since the TLS
/// library keeps a copy of its own.
#[derive(Clone)]
pub struct ClientIdentity {
    certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

/// Why two texts are no identity. None shows a byte of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// The chain is broken PEM, or no PEM.
    #[error("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    Certificate,
    /// The key is broken PEM, no PEM, or encrypted.
    #[error("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----); an encrypted one cannot be used")]
    Key,
    /// The key's algorithm is not one of RSA, ECDSA (P-256, P-384) and Ed25519, or its bytes are broken.
    #[error("is not a usable key: give an RSA, ECDSA (P-256, P-384) or Ed25519 key")]
    KeyKind,
    /// The key is that of another certificate.
    #[error(
        "is not the key of the certificate: the first certificate of the file must be the client's own, with the key that belongs to it"
    )]
    Mismatch,
    /// The first certificate cannot be read.
    #[error("holds a certificate that cannot be read")]
    Unreadable,
}

impl BadIdentity {
    /// Whether the key is to blame; else the certificate is.
    #[must_use]
    pub const fn of_key(&self) -> bool {
        matches!(self, Self::Key | Self::KeyKind | Self::Mismatch)
    }
}

impl ClientIdentity {
    /// From a chain, the client's own certificate first, and its private key, both PEM.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, BadIdentity> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|_| BadIdentity::Certificate)?;
        if chain.is_empty() {
            return Err(BadIdentity::Certificate);
        }
        let mut digest = Sha256::new();
        for one in &chain {
            digest.update((one.len() as u64).to_be_bytes());
            digest.update(one);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| BadIdentity::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
            if matches!(error, Error::InconsistentKeys(_)) {
                BadIdentity::Mismatch
            } else if matches!(error, Error::InvalidCertificate(_)) {
                BadIdentity::Unreadable
            } else {
                BadIdentity::KeyKind
            }
        })?;
        Ok(Self { certified: Arc::new(certified), fingerprint: digest.finalize().into() })
    }

    /// What TLS signs with.
    #[must_use]
    pub const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// By which two are told apart.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for ClientIdentity {}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{BadIdentity, ClientIdentity};
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    #[test]
    fn a_chain_and_its_key_belong_together_or_it_is_said_why_not() {
        let made = || {
            let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["client.example".to_owned()]).unwrap();
            (cert.pem(), signing_key.serialize_pem())
        };
        let ((certificate, key), (other, other_key)) = (made(), made());
        let of = |certificate: &str, key: &str| ClientIdentity::from_pem(certificate.as_bytes(), key.as_bytes());
        let identity = of(&certificate, &key).unwrap();
        assert_eq!(identity, of(&certificate, &key).unwrap());
        assert_ne!(identity, of(&other, &other_key).unwrap());
        assert_ne!(identity, of(&format!("{certificate}{other}"), &key).unwrap());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (certificate, key, expected) in [
            ("", key.as_str(), BadIdentity::Certificate),
            ("hello", &key, BadIdentity::Certificate),
            (broken, &key, BadIdentity::Unreadable),
            (&key, &key, BadIdentity::Certificate),
            (&certificate, "", BadIdentity::Key),
            (&certificate, &certificate, BadIdentity::Key),
            (&certificate, no_key, BadIdentity::KeyKind),
            (&certificate, &other_key, BadIdentity::Mismatch),
        ] {
            assert_eq!(of(certificate, key).err(), Some(expected), "{certificate:.40} {key:.40}");
        }
        assert_eq!(format!("{identity:?}"), "ClientIdentity { .. }");
    }
}
