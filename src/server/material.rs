//! What the TLS of the listeners is made of.

use std::fmt;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use super::Error;
use crate::domain::OkmsId;

/// What the TLS of the listeners is made of: the content of files.
#[derive(Clone)]
pub struct TlsMaterial {
    /// The server's certificate, then those that lead to a root, if there are any between. PEM.
    pub certificate_chain_pem: String,
    /// The key of the first of them: PKCS#8, SEC 1 or PKCS#1, PEM.
    pub private_key_pem: Zeroizing<String>,
    /// Our own authority, which issues access certificates; each text may hold several. PEM.
    pub client_ca_pems: Vec<String>,
    /// Authorities of others, each bound to the one domain that it may vouch for.
    pub external_authorities: Vec<ExternalAuthority>,
    /// The lists of revoked certificates of any of these authorities.
    pub revocation_lists: Vec<RevocationList>,
}

/// Authorities of others in one file.
#[derive(Debug, Clone)]
pub struct ExternalAuthority {
    /// What an operator calls it: the name of the file.
    pub name: String,
    /// The domain that it may vouch for.
    pub okms_id: OkmsId,
    /// Its certificates, PEM. Those that are signed by themselves are trusted; the others only help to
    /// build chains, for clients that send no more than their own certificate.
    pub pem: String,
}

/// A file of revoked certificates.
#[derive(Debug, Clone)]
pub struct RevocationList {
    /// What an operator calls it: the name of the file.
    pub name: String,
    /// PEM, of one list or several, or DER.
    pub content: Vec<u8>,
}

impl RevocationList {
    /// Bytes of content that are looked at; a file that has more can't be used.
    pub const MAX_BYTES: usize = MAX_LIST_BYTES;
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("certificate_chain_pem", &self.certificate_chain_pem)
            .field("client_ca_pems", &self.client_ca_pems)
            .field("external_authorities", &self.external_authorities)
            .finish_non_exhaustive()
    }
}

/// The certificates in a text of PEM.
///
/// # Errors
///
/// If it can't be read or holds none.
pub(super) fn certificates(text: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Error::new(format!("{what}: not valid PEM: {error}")))?;
    if found.is_empty() {
        return Err(Error::new(format!("{what}: no PEM certificate found")));
    }
    Ok(found)
}

/// Bytes of a file of lists: some 400,000 certificates. Each verifier keeps the list in a form that is
/// several times as large.
pub(super) const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;
