//! `okmsd credential`: credentials and their access certificates.

mod create;
mod register;
mod renew;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::{create::Create, register::Register, renew::Renew};
use super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    domain::okms_id,
    output::{self, Format},
    services,
};
use crate::{
    clock::SystemClock,
    config::Environment,
    domain::{Clock, Credential, CredentialId, OkmsId, Timestamp},
};

/// What to do with credentials.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a credential and the access certificate that stands for it
    Create(Create),
    /// Make a credential of a certificate that another authority made
    Register(Register),
    /// Make the successor of a credential: the same identities, another key and certificate
    Renew(Renew),
    /// List the credentials of a domain
    List(List),
    /// Show a credential
    Show(Show),
    /// Revoke a credential: it no longer counts from the next request on
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain
    #[arg(long, value_name = "OKMS_ID", value_parser = okms_id)]
    domain: OkmsId,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the credential
    #[arg(value_name = "ID", value_parser = credential_id)]
    id: CredentialId,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the credential
    #[arg(value_name = "ID", value_parser = credential_id)]
    id: CredentialId,
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(environment),
            Self::Register(arguments) => arguments.run(environment),
            Self::Renew(arguments) => arguments.run(environment),
            Self::List(arguments) => arguments.run(environment),
            Self::Show(arguments) => arguments.run(environment),
            Self::Revoke(arguments) => arguments.run(environment),
        }
    }
}

impl List {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let credentials = services::with(
            &config,
            Act::new("credential list").about("okmsId", self.domain),
            async |services| {
                let listed = services.credentials.list(self.domain).await;
                listed.map_err(|error| Failure::refused(self.domain, &error))
            },
        )?;
        let now = SystemClock.now();
        let row = |credential: &Credential| {
            [
                credential.id.to_string(),
                credential.status(now).as_str().to_owned(),
                credential.expires_at.to_rfc3339_seconds(),
                credential.name.clone(),
            ]
        };
        let rows: Vec<_> = credentials.iter().map(row).collect();
        output::answer(
            self.format,
            || output::table(["ID", "STATUS", "EXPIRES", "NAME"], &rows),
            || credentials.iter().map(|credential| json(credential, now)).collect(),
        )
    }
}

impl Show {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let credential = services::with(
            &config,
            Act::new("credential show").about("credentialId", self.id),
            async |services| {
                let found = services.credentials.find(self.id).await;
                let found = found.map_err(|error| Failure::refused(self.id, &error))?;
                found.ok_or_else(|| no_such(self.id))
            },
        )?;
        let now = SystemClock.now();
        output::answer(self.format, || text(&credential, now), || json(&credential, now))
    }
}

impl Revoke {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        services::with(
            &config,
            Act::new("credential revoke").about("credentialId", self.id),
            async |services| {
                let revoked = services.credentials.revoke(self.id).await;
                let existed = revoked.map_err(|error| Failure::refused(self.id, &error))?;
                if existed { Ok(()) } else { Err(no_such(self.id)) }
            },
        )?;
        output::print(&format!("Revoked {}.\n", self.id))
    }
}

fn credential_id(text: &str) -> Result<CredentialId, &'static str> {
    text.parse().map_err(|_| "the id of a credential is a UUID")
}

fn no_such(id: CredentialId) -> Failure {
    Failure::new(format!("{id}: there is no such credential"))
}

fn text(credential: &Credential, now: Timestamp) -> String {
    let identities = credential.identity_urns.join(", ");
    let mut fields = vec![
        ("ID", credential.id.to_string()),
        ("OKMS id", credential.okms_id.to_string()),
        ("Name", credential.name.clone()),
        ("Description", credential.description.clone()),
        ("Status", credential.status(now).as_str().to_owned()),
        ("Identities", identities),
        ("From CSR", if credential.from_csr { "yes" } else { "no" }.to_owned()),
        ("Registered", if credential.registered { "yes" } else { "no" }.to_owned()),
        ("Created", credential.created_at.to_rfc3339_seconds()),
        ("Expires", credential.expires_at.to_rfc3339_seconds()),
    ];
    fields.extend(credential.revoked_at.map(|at| ("Revoked", at.to_rfc3339_seconds())));
    fields.retain(|(_, value)| !value.is_empty());
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    output::fields(&fields)
}

/// The field names are those of the service's own description of a credential.
fn json(credential: &Credential, now: Timestamp) -> Value {
    json!({
        "id": credential.id.to_string(),
        "okmsId": credential.okms_id.to_string(),
        "name": credential.name,
        "description": credential.description,
        "status": credential.status(now).as_str(),
        "identityURNs": credential.identity_urns,
        "fromCSR": credential.from_csr,
        "registered": credential.registered,
        "certificatePEM": credential.certificate_pem,
        "createdAt": credential.created_at.to_rfc3339_seconds(),
        "expiredAt": credential.expires_at.to_rfc3339_seconds(),
        "revokedAt": credential.revoked_at.map(Timestamp::to_rfc3339_seconds),
    })
}
