//! The authorities of client certificates: our own, which issues them, and others.

use std::path::{Path, PathBuf};

use super::{
    Error,
    source::{Source, resolve},
    value::Value,
};
use crate::domain::OkmsId;

/// The authorities of client certificates.
#[derive(Debug, Clone)]
pub struct Pki {
    /// The certificate of our own, PEM: access certificates must be issued by it.
    pub ca_certificate_file: PathBuf,
    /// Its private key, PEM: needed to issue, not to serve.
    pub ca_private_key_file: PathBuf,
    /// Authorities of others.
    pub client_cas: ClientCas,
    /// Lists of revoked certificates, PEM or DER.
    pub crl_files: Files,
}

/// Authorities of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCas(pub Vec<ClientCa>);

/// A file of authorities that may vouch for one domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    /// The domain.
    pub okms_id: OkmsId,
    /// Their certificates, PEM.
    pub file: PathBuf,
}

/// Several files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(pub Vec<PathBuf>);

impl Pki {
    pub(super) fn defaults(base: &Path) -> Self {
        Self {
            ca_certificate_file: base.join("ca_certificate.pem"),
            ca_private_key_file: base.join("ca_privatekey.pem"),
            client_cas: ClientCas::default(),
            crl_files: Files::default(),
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
        source.setting("pki.client_cas", "OKMSD_CLIENT_CAS", &mut self.client_cas)?;
        source.setting("pki.crl_files", "OKMSD_CRL_FILES", &mut self.crl_files)?;
        Ok(())
    }
}

impl Value for ClientCas {
    const RULE: &'static str =
        "must be a list of OKMS_ID=FILE: the id of a domain and the certificates of its authority";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        items(text).map(|item| client_ca(item, base)).collect::<Option<_>>().map(Self)
    }

    fn from_toml(value: &toml::Value, base: &Path) -> Option<Self> {
        let items = value.as_array()?.iter();
        items.map(|item| client_ca(item.as_str()?, base)).collect::<Option<_>>().map(Self)
    }

    fn show(&self) -> String {
        let items = self.0.iter().map(|ca| format!("{}={}", ca.okms_id, ca.file.display()));
        items.collect::<Vec<_>>().join(",")
    }
}

impl Value for Files {
    const RULE: &'static str = "must be a list of paths of files";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        items(text).map(|item| resolve(item, base)).collect::<Option<_>>().map(Self)
    }

    fn from_toml(value: &toml::Value, base: &Path) -> Option<Self> {
        let items = value.as_array()?.iter();
        items.map(|item| resolve(item.as_str()?, base)).collect::<Option<_>>().map(Self)
    }

    fn show(&self) -> String {
        let items = self.0.iter().map(|file| file.display().to_string());
        items.collect::<Vec<_>>().join(",")
    }
}

/// The items of a list in the environment.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

fn client_ca(text: &str, base: &Path) -> Option<ClientCa> {
    let (okms_id, file) = text.split_once('=')?;
    Some(ClientCa { okms_id: okms_id.parse().ok()?, file: resolve(file, base)? })
}
