//! The authority that issues access certificates.

use std::path::{Path, PathBuf};

use super::{Error, source::Source};

/// The authority that issues access certificates.
#[derive(Debug, Clone)]
pub struct Pki {
    /// Its certificate, PEM: access certificates must be issued by it.
    pub ca_certificate_file: PathBuf,
    /// Its private key, PEM: needed to issue, not to serve.
    pub ca_private_key_file: PathBuf,
}

impl Pki {
    pub(super) fn defaults(base: &Path) -> Self {
        Self {
            ca_certificate_file: base.join("ca_certificate.pem"),
            ca_private_key_file: base.join("ca_privatekey.pem"),
        }
    }

    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting(
            "pki.ca_certificate_file",
            "OKMSD_CA_CERTIFICATE_FILE",
            &mut self.ca_certificate_file,
        )?;
        source.setting(
            "pki.ca_private_key_file",
            "OKMSD_CA_PRIVATE_KEY_FILE",
            &mut self.ca_private_key_file,
        )?;
        Ok(())
    }
}
