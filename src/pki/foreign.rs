//! Certificates that other authorities made.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Error, pem};
use crate::domain::Timestamp;

/// A certificate that another authority made, as far as it is kept here.
#[derive(Debug, Clone)]
pub struct ForeignCertificate {
    /// The certificate, PEM, without those that follow it in its file.
    pub certificate_pem: String,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
    /// Last second of its validity.
    pub not_after: Timestamp,
}

impl ForeignCertificate {
    /// Reads the first certificate in a text of PEM. Who made it, and for what, is not looked at.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn read(text: &str) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| Error::new("no PEM certificate found"))?;
        let Ok(([], certificate)) = X509Certificate::from_der(&der) else {
            return Err(Error::new("not an X.509 certificate"));
        };
        let seconds = certificate.validity().not_after.timestamp();
        Ok(Self {
            certificate_pem: pem::certificate(&der),
            fingerprint: super::access::fingerprint(&der),
            not_after: Timestamp::from_millis(seconds.saturating_mul(1_000)),
        })
    }
}
