//! `okmsd credential register`: a credential of a certificate that another authority made.

use std::path::PathBuf;

use clap::Args;

use super::super::{
    Failure,
    act::Act,
    bootstrap,
    config_args::ConfigArguments,
    domain::okms_id,
    output::{self, Format},
    reload::TlsFiles,
    services,
};
use crate::{
    clock::SystemClock,
    config::Environment,
    domain::{Claim, Clock, OkmsId},
    server::check_client_certificate,
    service::NewRegistration,
};

/// A certificate that another authority made.
#[derive(Debug, Args)]
pub(in crate::cli) struct Register {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain, the only one in which the credential counts
    #[arg(long, value_name = "OKMS_ID", value_parser = okms_id)]
    domain: OkmsId,
    /// The certificate, PEM, with those between it and its authority where pki.client_cas has not got
    /// them
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// What people call the credential: 1 to 50 characters
    #[arg(long, value_name = "NAME")]
    name: String,
    /// More about it: up to 200 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Identity that it acts for, such as urn:v1:eu:identity:account:ab12345-ovh; up to 25 times
    #[arg(long = "identity", value_name = "URN")]
    identities: Vec<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Register {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let certificate_pem = bootstrap::read(&self.certificate)?;
        // As the server will: a certificate that is registered and then refused helps nobody.
        let material = TlsFiles::new(&config).read_authorities()?;
        let path = self.certificate.display();
        let peer = check_client_certificate(&material, &certificate_pem, SystemClock.now())
            .map_err(|error| Failure::because(format!("the server would refuse {path}"), &error))?;
        if matches!(peer.claim, Claim::Issued(_)) {
            return Err(Failure::new(format!(
                "{path} is of our own authority: nothing to register"
            )));
        }
        if peer.okms_id != self.domain {
            return Err(Failure::new(format!(
                "the authority of {path} may vouch for domain {} alone",
                peer.okms_id
            )));
        }
        let new = NewRegistration {
            okms_id: self.domain,
            name: self.name,
            description: self.description,
            identity_urns: self.identities,
            certificate_pem,
        };
        let act = Act::new("credential register")
            .about("okmsId", self.domain)
            .about("name", &new.name)
            .about_all("identities", &new.identity_urns);
        let credential = services::with(&config, act, async |services| {
            let registered = services.credentials.register(new).await;
            let registered = registered
                .map_err(|error| Failure::refused("cannot register the certificate", &error))?;
            services.notes.add("credentialId", registered.id);
            Ok(registered)
        })?;
        let now = SystemClock.now();
        output::answer(
            self.format,
            || super::text(&credential, now),
            || super::json(&credential, now),
        )
    }
}
