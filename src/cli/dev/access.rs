//! The domain of a trial and the credential of its root account.

use std::path::Path;

use tracing::info;
use zeroize::Zeroizing;

use super::{
    super::{
        Failure,
        access_files::{AccessFiles, generate_password, pkcs12},
        bootstrap,
        certificates::Pair,
        files,
        services::Services,
    },
    remove,
    server_files::RENEWAL_SECONDS,
};
use crate::{
    config::read_private_file,
    domain::{Credential, CredentialStatus, OkmsDomain, OkmsId, Timestamp},
    pki::{AccessKey, Authority},
    service::NewCredential,
};

/// How to act as the root account.
pub(super) struct Access {
    /// The domain.
    pub(super) okms_id: OkmsId,
    /// Where certificate and key are.
    pub(super) files: AccessFiles,
    /// The password of the PKCS#12 file.
    pub(super) pkcs12_password: Zeroizing<String>,
}

/// Sees to it that this store has a domain and a credential, whose files are in `folder`.
///
/// The store need not be the one of the last run: files of a credential that it does not know are
/// left alone, they may belong to another.
pub(super) async fn ensure(
    services: &Services,
    folder: &Path,
    authority: &Authority,
    region: &str,
    now: Timestamp,
) -> Result<Access, Failure> {
    let refused = |error| Failure::refused("cannot prepare the store", &error);
    let domains = services.domains.list().await.map_err(refused)?;
    // One that cannot be read may be the one that was made here before.
    let domains = domains.into_iter().map(|domain| domain.map_err(|domain| refused(domain.error)));
    let mut domains = domains.collect::<Result<Vec<_>, _>>()?;
    domains.retain(|domain| domain.name == NAME);
    domains.sort_by_key(|domain| domain.created_at);
    for domain in &domains {
        let mut credentials = services.credentials.list(domain.okms_id).await.map_err(refused)?;
        credentials.sort_by_key(|credential| credential.created_at);
        // The newest first: it is the one that the last run handed out.
        for credential in credentials.into_iter().rev() {
            if is_usable(&credential, folder, authority, now)? {
                return hand_out(credential, folder, authority);
            }
        }
    }
    let domain = match domains.into_iter().next() {
        Some(domain) => domain,
        None => create_domain(services, region).await?,
    };
    let credential = create_credential(services, &domain, folder, authority).await?;
    hand_out(credential, folder, authority)
}

async fn create_domain(services: &Services, region: &str) -> Result<OkmsDomain, Failure> {
    let made = services.domains.create(NAME, region).await;
    let domain = made.map_err(|error| Failure::refused("cannot make a domain", &error))?;
    services.notes.add("okmsId", domain.okms_id);
    info!(okms.id = %domain.okms_id, "made a domain");
    Ok(domain)
}

async fn create_credential(
    services: &Services,
    domain: &OkmsDomain,
    folder: &Path,
    authority: &Authority,
) -> Result<Credential, Failure> {
    let new = NewCredential {
        okms_id: domain.okms_id,
        name: NAME.to_owned(),
        description: "Made by okmsd dev".to_owned(),
        identity_urns: vec![ROOT_ACCOUNT.to_owned()],
        validity_days: Credential::MAX_VALIDITY_DAYS,
        key: AccessKey::Ecdsa,
    };
    let made = services.credentials.create(authority, new).await;
    let made = made.map_err(|error| Failure::refused("cannot make a credential", &error))?;
    let credential = made.credential;
    services.notes.add("credentialId", credential.id);
    let files = AccessFiles::new(folder, credential.id);
    if let Some(private_key) = made.private_key_pem {
        files::replace(&files.private_key, private_key.as_bytes())?;
    }
    files::replace(&files.certificate, credential.certificate_pem.as_bytes())?;
    info!(credential.id = %credential.id, "made a credential");
    Ok(credential)
}

/// Whether an earlier run made this credential for this folder, and it will count for a while.
fn is_usable(
    credential: &Credential,
    folder: &Path,
    authority: &Authority,
    now: Timestamp,
) -> Result<bool, Failure> {
    let soon = now.plus_seconds(RENEWAL_SECONDS);
    let files = AccessFiles::new(folder, credential.id);
    if credential.status(soon) != CredentialStatus::Ready
        || credential.identity_urns != [ROOT_ACCOUNT]
        || !files.certificate.exists()
        || !files.private_key.exists()
    {
        return Ok(false);
    }
    let certificate = bootstrap::read(&files.certificate)?;
    let private_key = read_private_file(&files.private_key)?;
    let pair = Pair { certificate: &certificate, private_key: &private_key };
    Ok(certificate == credential.certificate_pem
        && pair.identifies(authority.certificate_pem(), soon))
}

/// Adds the PKCS#12 file and its password where they are missing.
fn hand_out(
    credential: Credential,
    folder: &Path,
    authority: &Authority,
) -> Result<Access, Failure> {
    let files = AccessFiles::new(folder, credential.id);
    // The password is written before the file that it opens, so the file says that both are there.
    let pkcs12_password = if files.pkcs12.exists() && files.pkcs12_password.exists() {
        let text = read_private_file(&files.pkcs12_password)?;
        Zeroizing::new(text.trim_end().to_owned())
    } else {
        remove(&files.pkcs12)?;
        let password = generate_password()?;
        let private_key = read_private_file(&files.private_key)?;
        let (certificate, ca) = (&credential.certificate_pem, authority.certificate_pem());
        let content = pkcs12(credential.id, certificate, &private_key, ca, &password)?;
        files::replace(&files.pkcs12_password, format!("{}\n", *password).as_bytes())?;
        files::replace(&files.pkcs12, &content)?;
        password
    };
    Ok(Access { okms_id: credential.okms_id, files, pkcs12_password })
}

/// What a trial's domain and credential are called.
const NAME: &str = "dev";

/// The identity of a trial's root account.
const ROOT_ACCOUNT: &str = "urn:v1:eu:identity:account:dev";
