//! `okmsd credential create`: a credential and the files of its access certificate.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::{
    Failure,
    access_files::{AccessFiles, generate_password, pkcs12},
    act::Act,
    bootstrap,
    config_args::ConfigArguments,
    domain::okms_id,
    files,
    output::{self, Format},
    quote,
    services::{self, Services},
};
use crate::{
    clock::SystemClock,
    config::{Environment, read_private_file},
    domain::{Clock, Credential, OkmsId},
    pki::{AccessKey, Authority},
    service::{IssuedCredential, NewCredential},
};

/// A new credential.
#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain, the only one in which the credential counts
    #[arg(long, value_name = "OKMS_ID", value_parser = okms_id)]
    domain: OkmsId,
    /// What people call the credential: 1 to 50 characters
    #[arg(long, value_name = "NAME")]
    name: String,
    /// More about it: up to 200 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Days until it expires: 1 to 365
    #[arg(long, value_name = "DAYS", default_value_t = Credential::MAX_VALIDITY_DAYS,
          value_parser = clap::value_parser!(u32).range(1..=365))]
    validity_days: u32,
    /// Identity that it acts for, such as urn:v1:eu:identity:account:ab12345-ovh; up to 25 times
    #[arg(long = "identity", value_name = "URN")]
    identities: Vec<String>,
    /// Kind of the key that is made
    #[arg(long, value_enum, default_value = "ecdsa")]
    key_type: KeyType,
    /// Certificate signing request (PEM) of a key that you made; no key is made here then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key_type", "p12"])]
    csr: Option<PathBuf>,
    /// Also make a PKCS#12 file, for browsers
    #[arg(long)]
    p12: bool,
    /// Private file that holds the password of the PKCS#12 file; without it, one is made and
    /// printed once
    #[arg(long, value_name = "FILE", requires = "p12")]
    p12_password_file: Option<PathBuf>,
    /// Folder for the certificate and the key; made where it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out_dir: PathBuf,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The kind of a key.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum KeyType {
    /// ECDSA on P-256
    Ecdsa,
    /// RSA of 3072 bits
    Rsa,
}

/// What was made, where it is, and the password that is shown once.
pub(super) struct Made {
    credential: Credential,
    files: AccessFiles,
    private_key: bool,
    pkcs12: bool,
    generated_password: Option<Zeroizing<String>>,
}

impl Create {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        // All that can be wrong with what is given is found before there is a credential.
        let key = access_key(self.csr.as_deref(), self.key_type)?;
        let password = self.password()?;
        let authority = bootstrap::load_authority(&config.pki)?;
        let folder = bootstrap::absolute(&self.out_dir)?;
        let new = NewCredential {
            okms_id: self.domain,
            name: self.name.clone(),
            description: self.description.clone(),
            identity_urns: self.identities.clone(),
            validity_days: self.validity_days,
            key,
        };
        let act = Act::new("credential create")
            .about("okmsId", self.domain)
            .about("name", &self.name)
            .about_all("identities", &self.identities);
        let (made, has_rights) = services::with(&config, act, async |services| {
            files::create_folder(&folder)?;
            let issued = services.credentials.create(&authority, new).await;
            let issued =
                issued.map_err(|error| Failure::refused("cannot make the credential", &error))?;
            let id = issued.credential.id;
            services.notes.add("credentialId", id);
            match self.write(&folder, &authority, issued, password) {
                Ok(made) => {
                    let has_rights = services.has_rights(&made.credential.identity_urns).await;
                    Ok((made, has_rights))
                }
                Err(failure) => Err(take_back(services, id, failure).await),
            }
        })?;
        if !has_rights {
            output::complain(
                "the credential may do nothing yet: it has no account identity, and no policy names \
                 it or a group of it (okmsd policy apply)",
            );
        }
        output::answer(self.format, || made.text(), || made.json())
    }

    /// The password for a PKCS#12 file, if one is to be made.
    fn password(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match &self.p12_password_file {
            _ if !self.p12 => Ok(None),
            None => generate_password().map(Some),
            Some(path) => {
                let text = read_private_file(path)?;
                let line = text.lines().next().unwrap_or_default();
                if line.is_empty() {
                    return Err(Failure::new(format!("{} holds no password", path.display())));
                }
                Ok(Some(Zeroizing::new(line.to_owned())))
            }
        }
    }

    fn write(
        &self,
        folder: &Path,
        authority: &Authority,
        issued: IssuedCredential,
        password: Option<Zeroizing<String>>,
    ) -> Result<Made, Failure> {
        let private_key = issued.private_key_pem.clone();
        let mut made = Made::write(folder, issued)?;
        if let (Some(private_key), Some(password)) = (private_key, password) {
            let (credential, ca) = (&made.credential, authority.certificate_pem());
            let certificate = &credential.certificate_pem;
            let content = pkcs12(credential.id, certificate, &private_key, ca, &password)?;
            files::create(&made.files.pkcs12, &content)?;
            made.pkcs12 = true;
            made.generated_password = Some(password).filter(|_| self.p12_password_file.is_none());
        }
        Ok(made)
    }
}

/// The key that a certificate is to have.
pub(super) fn access_key(csr: Option<&Path>, key_type: KeyType) -> Result<AccessKey, Failure> {
    Ok(match (csr, key_type) {
        (Some(path), _) => AccessKey::Csr(bootstrap::read(path)?),
        (None, KeyType::Ecdsa) => AccessKey::Ecdsa,
        (None, KeyType::Rsa) => AccessKey::Rsa,
    })
}

/// Revokes a credential whose key could not be handed over: nobody could use it, and nobody would
/// miss it in the list.
pub(super) async fn take_back(
    services: &Services,
    id: crate::domain::CredentialId,
    failure: Failure,
) -> Failure {
    match services.credentials.revoke(id).await {
        Ok(_) => Failure::new(format!("{failure}; the new credential {id} is revoked")),
        Err(_) => Failure::new(format!(
            "{failure}; the new credential {id} could not be revoked, please do it"
        )),
    }
}

impl Made {
    /// Writes certificate and key, the certificate last.
    pub(super) fn write(folder: &Path, issued: IssuedCredential) -> Result<Self, Failure> {
        let IssuedCredential { credential, private_key_pem } = issued;
        let files = AccessFiles::new(folder, credential.id);
        quote::path(&files.private_key)?;
        if let Some(private_key) = &private_key_pem {
            files::create(&files.private_key, private_key.as_bytes())?;
        }
        files::create(&files.certificate, credential.certificate_pem.as_bytes())?;
        let private_key = private_key_pem.is_some();
        Ok(Self { private_key, pkcs12: false, generated_password: None, credential, files })
    }

    pub(super) fn text(&self) -> String {
        let mut text = super::text(&self.credential, SystemClock.now());
        text.push_str(&format!("\nCertificate: {}\n", self.files.certificate.display()));
        if self.private_key {
            text.push_str(&format!("Private key: {}\n", self.files.private_key.display()));
        }
        if self.pkcs12 {
            text.push_str(&format!("PKCS#12:     {}\n", self.files.pkcs12.display()));
        }
        if let Some(password) = &self.generated_password {
            text.push_str(&format!(
                "Password of the PKCS#12 file, shown only now: {}\n",
                **password
            ));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let path = |made: bool, path: &Path| made.then(|| path.display().to_string());
        let mut json = super::json(&self.credential, SystemClock.now());
        json["files"] = json!({
            "certificate": path(true, &self.files.certificate),
            "privateKey": path(self.private_key, &self.files.private_key),
            "p12": path(self.pkcs12, &self.files.pkcs12),
        });
        json["p12Password"] = json!(self.generated_password.as_ref().map(|text| text.as_str()));
        json
    }
}
