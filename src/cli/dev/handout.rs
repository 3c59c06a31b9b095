//! `dev.env` and `okms.yaml`: where everything is, for shells and for the okms CLI.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    super::{Failure, quote},
    access::Access,
};

/// What a client of a trial needs to know.
pub(super) struct Handout {
    /// The origin of the API.
    pub(super) api_url: String,
    /// The origin of the public documentation, where it is served.
    pub(super) docs_url: Option<String>,
    /// Where health and metrics are served, if they are.
    pub(super) operations_address: Option<SocketAddr>,
    /// The certificate that clients must trust.
    pub(super) ca: PathBuf,
    /// How to act as the root account.
    pub(super) access: Access,
}

impl Handout {
    /// The authenticated Swagger UI.
    pub(super) fn swagger_url(&self) -> String {
        format!("{}/swagger/", self.api_url)
    }

    /// The public Swagger UI.
    pub(super) fn docs_url(&self) -> Option<String> {
        self.docs_url.as_ref().map(|origin| format!("{origin}/swagger/"))
    }

    /// Lines for a shell to `source`.
    pub(super) fn environment(&self) -> Result<String, Failure> {
        let files = &self.access.files;
        let okms_id = self.access.okms_id.to_string();
        let (swagger_url, docs_url) = (self.swagger_url(), self.docs_url().unwrap_or_default());
        let mut text =
            "# Written anew by each run of `okmsd dev`; for a shell: source dev.env\n".to_owned();
        for (name, value) in [
            ("OKMS_ENDPOINT", self.api_url.as_str()),
            ("OKMS_ID", &okms_id),
            ("OKMS_CA", quote::path(&self.ca)?),
            ("OKMS_CERT", quote::path(&files.certificate)?),
            ("OKMS_KEY", quote::path(&files.private_key)?),
            ("OKMS_P12", quote::path(&files.pkcs12)?),
            ("OKMS_P12_PASSWORD", &self.access.pkcs12_password),
            ("OKMS_SWAGGER_URL", &swagger_url),
            ("OKMS_DOCS_URL", &docs_url),
        ] {
            text.push_str(&format!("export {name}={}\n", quote::shell(value)));
        }
        Ok(text)
    }

    /// A configuration of the okms CLI.
    pub(super) fn okms_yaml(&self) -> Result<String, Failure> {
        let files = &self.access.files;
        Ok(format!(
            "# Written anew by each run of `okmsd dev`; for the okms CLI: okms --config okms.yaml\n\
             version: 1\n\
             profile: default\n\
             profiles:\n  \
               default:\n    \
                 restapi:\n      \
                   endpoint: {endpoint}\n      \
                   ca: {ca}\n      \
                   auth:\n        \
                     type: mtls\n        \
                     cert: {cert}\n        \
                     key: {key}\n        \
                     okmsId: {okms_id}\n",
            endpoint = quote::double(&self.api_url),
            ca = quote::double(quote::path(&self.ca)?),
            cert = quote::double(quote::path(&files.certificate)?),
            key = quote::double(quote::path(&files.private_key)?),
            okms_id = quote::double(&self.access.okms_id.to_string()),
        ))
    }
}

/// The file of [`Handout::environment`].
pub(super) const ENVIRONMENT_FILE: &str = "dev.env";

/// The file of [`Handout::okms_yaml`].
pub(super) const OKMS_FILE: &str = "okms.yaml";
