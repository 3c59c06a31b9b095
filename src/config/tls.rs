//! The server's certificate and what is asked of clients.

use std::path::{Path, PathBuf};

use super::{Error, source::Source, value::Value};

/// The server's certificate and what is asked of clients.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's certificate and those between it and its authority, PEM.
    pub certificate_file: PathBuf,
    /// The private key of the certificate, PEM.
    pub private_key_file: PathBuf,
    /// What a client without a certificate gets.
    pub client_certificate: ClientCertificate,
}

impl Tls {
    pub(super) fn defaults(base: &Path) -> Self {
        Self {
            certificate_file: base.join("server_certificate.pem"),
            private_key_file: base.join("server_privatekey.pem"),
            client_certificate: ClientCertificate::Optional,
        }
    }

    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting(
            "tls.certificate_file",
            "OKMSD_TLS_CERTIFICATE_FILE",
            &mut self.certificate_file,
        )?;
        source.setting(
            "tls.private_key_file",
            "OKMSD_TLS_PRIVATE_KEY_FILE",
            &mut self.private_key_file,
        )?;
        source.setting(
            "tls.client_certificate",
            "OKMSD_TLS_CLIENT_CERTIFICATE",
            &mut self.client_certificate,
        )?;
        Ok(())
    }
}

/// What a client without a certificate gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A 401 in the API's error form.
    Optional,
    /// A failed handshake.
    Required,
}

impl Value for ClientCertificate {
    const RULE: &'static str = "must be \"optional\" or \"required\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        match text {
            "optional" => Some(Self::Optional),
            "required" => Some(Self::Required),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Optional => "optional".to_owned(),
            Self::Required => "required".to_owned(),
        }
    }
}
