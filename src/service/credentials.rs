//! What operators do with credentials.

use std::sync::Arc;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    domain::{Clock, Credential, CredentialId, Error, OkmsId},
    pki::{AccessCertificate, AccessKey, Authority, ForeignCertificate},
    store::Store,
};

/// The use cases of credentials.
#[derive(Clone)]
pub struct Credentials {
    store: Store,
    clock: Arc<dyn Clock>,
}

/// What a person chooses about a new credential.
#[derive(Debug)]
pub struct NewCredential {
    /// The domain in which it will count.
    pub okms_id: OkmsId,
    /// See [`Credential::name`].
    pub name: String,
    /// See [`Credential::description`].
    pub description: String,
    /// See [`Credential::identity_urns`].
    pub identity_urns: Vec<String>,
    /// Days until it expires, 1 to 365.
    pub validity_days: u32,
    /// The key of the certificate.
    pub key: AccessKey,
}

/// What a person chooses about a certificate that another authority made.
#[derive(Debug)]
pub struct NewRegistration {
    /// The domain in which it will count.
    pub okms_id: OkmsId,
    /// See [`Credential::name`].
    pub name: String,
    /// See [`Credential::description`].
    pub description: String,
    /// See [`Credential::identity_urns`].
    pub identity_urns: Vec<String>,
    /// The certificate, PEM; what follows it in the text is not looked at.
    pub certificate_pem: String,
}

/// A credential just made, with what is shown only once.
pub struct IssuedCredential {
    /// The credential.
    pub credential: Credential,
    /// The private key, unless its owner has it.
    pub private_key_pem: Option<Zeroizing<String>>,
}

impl Credentials {
    /// Works on `store`.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Makes a credential and has the authority sign its certificate.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`]; when a choice breaks a rule, the signing request cannot be used, or
    /// storage fails.
    pub async fn create(
        &self,
        authority: &Authority,
        new: NewCredential,
    ) -> Result<IssuedCredential, Error> {
        self.issue(authority, new, None).await
    }

    /// Makes a credential; with `old`, one that follows it.
    async fn issue(
        &self,
        authority: &Authority,
        new: NewCredential,
        old: Option<CredentialId>,
    ) -> Result<IssuedCredential, Error> {
        Credential::check(&new.name, &new.description, &new.identity_urns, new.validity_days)?;
        let now = self.clock.now();
        let expires_at = now.plus_seconds(u64::from(new.validity_days) * SECONDS_PER_DAY);
        let id = CredentialId::new(Uuid::new_v4());
        let from_csr = matches!(new.key, AccessKey::Csr(_));
        let issued = authority
            .issue_access(AccessCertificate {
                credential_id: id,
                okms_id: new.okms_id,
                not_before: now.minus_seconds(BACKDATED_SECONDS),
                not_after: expires_at,
                key: new.key,
            })
            .map_err(|error| Error::malformed(error.to_string()))?;
        let credential = Credential {
            id,
            okms_id: new.okms_id,
            name: new.name,
            description: new.description,
            identity_urns: new.identity_urns,
            from_csr,
            registered: false,
            certificate_pem: issued.certificate_pem,
            fingerprint: issued.fingerprint,
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        match old {
            None => self.store.insert_credential(credential.clone()).await?,
            // It may have been revoked since it was looked at.
            Some(old) if !self.store.insert_successor(credential.clone(), old).await? => {
                return Err(Error::malformed(REVOKED));
            }
            Some(_) => {}
        }
        Ok(IssuedCredential { credential, private_key_pem: issued.private_key_pem })
    }

    /// Makes a credential of a certificate that another authority made. It ends with the certificate.
    ///
    /// That an authority which may vouch for the domain made it is for the caller to check; the server
    /// does at each request.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`]; when a choice breaks a rule, the certificate can't be read, has ended
    /// or is registered already, or storage fails.
    pub async fn register(&self, new: NewRegistration) -> Result<Credential, Error> {
        Credential::check(&new.name, &new.description, &new.identity_urns, 1)?;
        let certificate = ForeignCertificate::read(&new.certificate_pem)
            .map_err(|error| Error::malformed(error.to_string()))?;
        let now = self.clock.now();
        if certificate.not_after <= now {
            return Err(Error::malformed("the certificate has ended"));
        }
        if let Some(other) = self.store.find_credential_of(certificate.fingerprint).await? {
            let id = other.credential.id;
            return Err(Error::malformed(format!("the certificate is that of credential {id}")));
        }
        let credential = Credential {
            id: CredentialId::new(Uuid::new_v4()),
            okms_id: new.okms_id,
            name: new.name,
            description: new.description,
            identity_urns: new.identity_urns,
            from_csr: false,
            registered: true,
            certificate_pem: certificate.certificate_pem,
            fingerprint: certificate.fingerprint,
            created_at: now,
            expires_at: certificate.not_after,
            revoked_at: None,
        };
        self.store.insert_credential(credential.clone()).await?;
        Ok(credential)
    }

    /// Makes a successor of a credential: the same domain, name, description and identities, another
    /// id, key and certificate. The old one counts on.
    ///
    /// # Errors
    ///
    /// When there is none of that id, it is revoked (nobody should come back in this way) or another
    /// authority's, or as [`Credentials::create`].
    pub async fn renew(
        &self,
        authority: &Authority,
        id: CredentialId,
        validity_days: u32,
        key: AccessKey,
    ) -> Result<IssuedCredential, Error> {
        let Some(old) = self.find(id).await? else {
            return Err(Error::malformed("there is no such credential"));
        };
        if old.revoked_at.is_some() {
            return Err(Error::malformed(REVOKED));
        }
        if old.registered {
            let why = "its certificate is of another authority; register the one that follows it";
            return Err(Error::malformed(why));
        }
        let new = NewCredential {
            okms_id: old.okms_id,
            name: old.name,
            description: old.description,
            identity_urns: old.identity_urns,
            validity_days,
            key,
        };
        self.issue(authority, new, Some(id)).await
    }

    /// The credentials that count now and end within a month, the first to end first; at most a hundred.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn expiring(&self) -> Result<Vec<Credential>, Error> {
        let now = self.clock.now();
        let before = now.plus_seconds(WARNING_DAYS * SECONDS_PER_DAY);
        self.store.list_expiring(now, before, MAX_WARNINGS).await
    }

    /// The credentials of a domain.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn list(&self, okms_id: OkmsId) -> Result<Vec<Credential>, Error> {
        if self.store.find_domain(okms_id).await?.is_none() {
            return Err(Error::DomainNotFound);
        }
        self.store.list_credentials(okms_id).await
    }

    /// A credential, `None` where there is none of that id.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find(&self, id: CredentialId) -> Result<Option<Credential>, Error> {
        Ok(self.store.find_credential(id).await?.map(|(found, _)| found.credential.clone()))
    }

    /// The credential of the certificate with that fingerprint, `None` where there is none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_of_certificate(
        &self,
        fingerprint: [u8; 32],
    ) -> Result<Option<Credential>, Error> {
        let found = self.store.find_credential_of(fingerprint).await?;
        Ok(found.map(|found| found.credential))
    }

    /// Revokes a credential: it no longer counts from the next request on. `false` where there is
    /// none of that id.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn revoke(&self, id: CredentialId) -> Result<bool, Error> {
        self.store.revoke_credential(id, self.clock.now()).await
    }
}

const REVOKED: &str = "it is revoked; create another one";
/// The clock of the machine that makes a certificate may be ahead of that of a server.
const BACKDATED_SECONDS: u32 = 3_600;
const SECONDS_PER_DAY: u64 = 86_400;
/// Days in which a person can act.
const WARNING_DAYS: u64 = 30;
/// Credentials that are warned of at a time: who has more needs no list in a log.
const MAX_WARNINGS: u32 = 100;
