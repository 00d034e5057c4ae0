//! TLS of callbacks: 1.2 and up, verified against the public roots that are compiled in and those of `egress.ca_file`. A template may bring
//! a certificate of its own for receivers that ask for one. The system's store was refused: the same daemon must trust the same receivers
//! on every machine.

use super::EgressError;
use crate::domain::registry::ClientIdentity;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// TLS sessions kept for one receiver that is shown a client certificate.
const SESSIONS: usize = 8;

/// Makes connectors that trust the same roots.
pub(super) struct Tls(ClientConfig);

impl Tls {
    /// Trusts the public roots and those in `extra_roots_pem`.
    ///
    /// # Errors
    /// `Roots` when the PEM holds no certificate or a broken one, `Tls` when the library refuses the settings.
    pub(super) fn new(extra_roots_pem: Option<&[u8]>) -> Result<Self, EgressError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(pem) = extra_roots_pem {
            let mut found = 0_usize;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| EgressError::Roots(format!("not PEM: {error}")))?;
                found += 1;
                roots.add(certificate).map_err(|error| EgressError::Roots(format!("certificate {found}: {error}")))?;
            }
            if found == 0 {
                return Err(EgressError::Roots("no certificate in it".to_owned()));
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(config))
    }

    /// A connector that shows `identity` to receivers who ask for a certificate.
    pub(super) fn connector(&self, identity: Option<&ClientIdentity>) -> TlsConnector {
        let mut config = self.0.clone();
        if let Some(identity) = identity {
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(identity.certified())));
            // A session that began with one certificate must not be resumed with another, so each connector has sessions of its own; it
            // serves one receiver.
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
        }
        TlsConnector::from(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::Tls;
    use crate::egress::EgressError;

    #[test]
    fn broken_roots_are_named_as_such() {
        let table: [(&[u8], &str); 3] = [
            (b"", "egress.ca_file: no certificate in it"),
            (b"hello", "egress.ca_file: no certificate in it"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "egress.ca_file: certificate 1: "),
        ];
        for (pem, expected) in table {
            match Tls::new(Some(pem)) {
                Err(error @ EgressError::Roots(_)) => assert!(error.to_string().starts_with(expected), "{error}"),
                Err(error) => panic!("{error}"),
                Ok(_) => panic!("accepted"),
            }
        }
        assert!(Tls::new(None).is_ok());
    }
}
