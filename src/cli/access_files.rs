//! The files of an access certificate: `<id>_certificate.pem`, `<id>_privatekey.pem`, `<id>.p12`.

use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::Failure;
use crate::{domain::CredentialId, pki};

/// Where the files of a credential are in a folder.
#[derive(Debug)]
pub(super) struct AccessFiles {
    /// The certificate, PEM.
    pub(super) certificate: PathBuf,
    /// The private key, PEM.
    pub(super) private_key: PathBuf,
    /// Both and the authority's certificate, for browsers.
    pub(super) pkcs12: PathBuf,
    /// The password of the PKCS#12 file, where it is kept.
    pub(super) pkcs12_password: PathBuf,
}

impl AccessFiles {
    /// The files of the credential `id` in `folder`.
    pub(super) fn new(folder: &Path, id: CredentialId) -> Self {
        Self {
            certificate: folder.join(format!("{id}{CERTIFICATE_SUFFIX}")),
            private_key: folder.join(format!("{id}_privatekey.pem")),
            pkcs12: folder.join(format!("{id}.p12")),
            pkcs12_password: folder.join(format!("{id}_p12_password.txt")),
        }
    }
}

/// Makes a PKCS#12 file of a credential.
pub(super) fn pkcs12(
    id: CredentialId,
    certificate_pem: &str,
    private_key_pem: &str,
    ca_pem: &str,
    password: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let name = format!("okmsd {id}");
    pki::pkcs12(certificate_pem, private_key_pem, ca_pem, &name, password)
        .map_err(|error| Failure::because("cannot make a PKCS#12 file", &error))
}

/// Makes a password for a PKCS#12 file, of digits and small letters: nothing that a shell or a tool
/// could take for anything else.
pub(super) fn generate_password() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0; PASSWORD_BYTES]);
    rand::fill(&mut bytes[..])
        .map_err(|_| Failure::new("cannot make a password: the system gives no randomness"))?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// What the name of a certificate's file ends in, after the id of its credential.
pub(super) const CERTIFICATE_SUFFIX: &str = "_certificate.pem";

/// 128 bits: beyond guessing.
const PASSWORD_BYTES: usize = 16;
