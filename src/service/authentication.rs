//! Whether a certificate's credential counts for this request.

use std::sync::Arc;

use super::{Keyring, PolicyCache};
use crate::{
    domain::{
        Claim, Clock, ConnectionInfo, CredentialId, CredentialStatus, Error, PeerCertificate,
        Principal, Revisions, Timestamp,
    },
    iam::PolicySet,
    store::Store,
};

/// Finds out who calls.
#[derive(Clone)]
pub struct Authentication {
    store: Store,
    keyring: Arc<Keyring>,
    policies: Arc<PolicyCache>,
    clock: Arc<dyn Clock>,
}

/// Who calls, and how recent what is kept in memory must be to serve it.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// The caller.
    pub principal: Arc<Principal>,
    /// As of this request.
    pub revisions: Revisions,
    /// The policies and groups as of this request.
    pub policies: Arc<PolicySet>,
    standing: Standing,
}

/// How the rights of a caller are found anew.
#[derive(Debug, Clone)]
struct Standing {
    policies: Arc<PolicyCache>,
    /// Those of the caller itself, without the groups that it is a member of.
    identities: Arc<[String]>,
}

impl Authenticated {
    /// The same caller with its groups and rights as of now.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn renewed(&self) -> Result<Self, Error> {
        let Standing { policies: cache, identities } = &self.standing;
        let iam = cache.revision().await?;
        if iam == self.policies.revision() {
            return Ok(self.clone());
        }
        let policies = cache.at(iam, identities).await?;
        let identity_urns = policies.with_groups(identities.to_vec());
        let principal = Principal { identity_urns, ..Principal::clone(&self.principal) };
        let revisions = Revisions { iam, ..self.revisions };
        Ok(Self {
            principal: Arc::new(principal),
            revisions,
            policies,
            standing: self.standing.clone(),
        })
    }
}

impl Authentication {
    /// Looks credentials up in `store`, and the groups of their identities in `policies`.
    pub fn new(
        store: Store,
        keyring: Arc<Keyring>,
        policies: Arc<PolicyCache>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, keyring, policies, clock }
    }

    /// The principal behind a connection, as of now.
    ///
    /// The handshake proved that the caller holds the key of a certificate, once. All else is asked at
    /// every request, since a connection, or a resumed session, may be older than a revocation: that an
    /// authority still vouches for the certificate, and what the store says about it.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`], or when storage fails.
    pub async fn authenticate(&self, connection: &ConnectionInfo) -> Result<Authenticated, Error> {
        let Some(peer) = &connection.peer else {
            return Err(Error::Unauthenticated("no client certificate"));
        };
        let now = self.clock.now();
        let certificate = peer.certificate(now).map_err(Error::Unauthenticated)?;
        match &certificate.claim {
            Claim::Issued(id) => self.issued(&certificate, *id, now).await,
            Claim::External(identities) => self.external(&certificate, identities, now).await,
        }
    }

    /// A certificate of our own authority: that its credential exists, belongs to this very certificate
    /// and domain, and is neither revoked nor expired.
    async fn issued(
        &self,
        certificate: &PeerCertificate,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Authenticated, Error> {
        let refuse = |why| Err(Error::Unauthenticated(why));
        let found = self.store.find_credential(id).await?;
        let Some(found) = found else {
            // Credentials go with their domain only, and so do its keys, here in memory too.
            self.keyring.forget(certificate.okms_id);
            return refuse("unknown credential");
        };
        let credential = found.credential;
        if credential.fingerprint != certificate.fingerprint {
            return refuse("another certificate than the credential's own");
        }
        if credential.okms_id != certificate.okms_id {
            return refuse("the certificate names another domain than the credential");
        }
        match credential.status(now) {
            CredentialStatus::Ready => {
                let principal = Principal {
                    credential_id: Some(credential.id),
                    fingerprint: credential.fingerprint,
                    okms_id: credential.okms_id,
                    region: found.region,
                    identity_urns: credential.identity_urns,
                };
                self.with_rights(principal, found.revisions).await
            }
            CredentialStatus::Expired => refuse("expired credential"),
            CredentialStatus::Revoked => refuse("revoked credential"),
        }
    }

    /// A certificate of another authority: the credential that it is registered as, else the identities
    /// that it names. One whose credential is revoked does not fall back on its names.
    async fn external(
        &self,
        certificate: &PeerCertificate,
        identities: &[String],
        now: Timestamp,
    ) -> Result<Authenticated, Error> {
        let refuse = |why| Err(Error::Unauthenticated(why));
        let (okms_id, fingerprint) = (certificate.okms_id, certificate.fingerprint);
        let Some(found) = self.store.find_external(okms_id, fingerprint).await? else {
            self.keyring.forget(okms_id);
            return refuse("the authority is bound to a domain that does not exist");
        };
        let (credential_id, identity_urns) = match found.credential {
            Some(credential) => {
                if credential.okms_id != okms_id || !credential.registered {
                    return refuse("the certificate is registered in another domain");
                }
                match CredentialStatus::at(now, credential.expires_at, credential.revoked_at) {
                    CredentialStatus::Ready => (Some(credential.id), credential.identity_urns),
                    CredentialStatus::Expired => return refuse("expired credential"),
                    CredentialStatus::Revoked => return refuse("revoked credential"),
                }
            }
            None if identities.is_empty() => {
                return refuse("the certificate is not registered and names no identity");
            }
            None => (None, identities.to_vec()),
        };
        let region = found.region;
        let principal = Principal { credential_id, fingerprint, okms_id, region, identity_urns };
        self.with_rights(principal, found.revisions).await
    }

    /// Adds its groups to a principal that has its own identities, and what decides about it.
    async fn with_rights(
        &self,
        principal: Principal,
        revisions: Revisions,
    ) -> Result<Authenticated, Error> {
        let own = principal.identity_urns;
        let policies = self.policies.at(revisions.iam, &own).await?;
        let identities = Arc::from(own.as_slice());
        let standing = Standing { policies: Arc::clone(&self.policies), identities };
        let principal = Principal { identity_urns: policies.with_groups(own), ..principal };
        Ok(Authenticated { principal: Arc::new(principal), revisions, policies, standing })
    }
}
