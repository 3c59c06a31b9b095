//! `okmsd credential renew`: the successor of a credential.

use std::path::PathBuf;

use clap::Args;

use super::{
    super::{
        Failure,
        act::Act,
        bootstrap,
        config_args::ConfigArguments,
        files,
        output::{self, Format},
        services,
    },
    create::{KeyType, Made, access_key, take_back},
    credential_id,
};
use crate::{
    config::Environment,
    domain::{Credential, CredentialId},
};

/// The successor of a credential.
#[derive(Debug, Args)]
pub(in crate::cli) struct Renew {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the credential
    #[arg(value_name = "ID", value_parser = credential_id)]
    id: CredentialId,
    /// Days until the new one expires: 1 to 365
    #[arg(long, value_name = "DAYS", default_value_t = Credential::MAX_VALIDITY_DAYS,
          value_parser = clap::value_parser!(u32).range(1..=365))]
    validity_days: u32,
    /// Kind of the key that is made
    #[arg(long, value_enum, default_value = "ecdsa")]
    key_type: KeyType,
    /// Certificate signing request (PEM) of a key that you made; no key is made here then
    #[arg(long, value_name = "FILE", conflicts_with = "key_type")]
    csr: Option<PathBuf>,
    /// Folder for the certificate and the key; made where it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out_dir: PathBuf,
    /// Revoke the old credential once the files of the new one are on the disk
    #[arg(long)]
    revoke_old: bool,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Renew {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        // All that can be wrong with what is given is found before there is a credential.
        let key = access_key(self.csr.as_deref(), self.key_type)?;
        let authority = bootstrap::load_authority(&config.pki)?;
        let folder = bootstrap::absolute(&self.out_dir)?;
        let old = self.id;
        let made = services::with(
            &config,
            Act::new("credential renew")
                .about("credentialId", old)
                .about("revokeOld", self.revoke_old),
            async |services| {
                files::create_folder(&folder)?;
                let renewed =
                    services.credentials.renew(&authority, old, self.validity_days, key).await;
                let issued = renewed.map_err(|error| {
                    Failure::refused(format!("cannot renew the credential {old}"), &error)
                })?;
                let id = issued.credential.id;
                services.notes.add("newCredentialId", id);
                services.notes.add("okmsId", issued.credential.okms_id);
                services.notes.add_all("identities", &issued.credential.identity_urns);
                let made = match Made::write(&folder, issued) {
                    Ok(made) => made,
                    Err(failure) => return Err(take_back(services, id, failure).await),
                };
                if self.revoke_old {
                    services.credentials.revoke(old).await.map_err(|error| {
                        let what = format!(
                            "the new credential {id} is made, the old one could not be revoked"
                        );
                        Failure::refused(what, &error)
                    })?;
                }
                Ok(made)
            },
        )?;
        output::answer(
            self.format,
            || match self.revoke_old {
                true => format!("{}\nRevoked {old}.\n", made.text()),
                false => format!("{}\n{old} counts until it is revoked or expires.\n", made.text()),
            },
            || {
                let mut json = made.json();
                json["renewedId"] = old.to_string().into();
                json["renewedIsRevoked"] = self.revoke_old.into();
                json
            },
        )
    }
}
