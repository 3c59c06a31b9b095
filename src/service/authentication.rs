//! Whether a certificate's credential counts for this request.

use std::sync::Arc;

use super::{Keyring, PolicyCache};
use crate::{
    domain::{Clock, ConnectionInfo, CredentialStatus, Error, Principal, Revisions},
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
    /// The handshake proved that the caller holds the key of a certificate of ours, once. All else is
    /// asked of the store at every request, since a connection, or a resumed session, may be older
    /// than a revocation: that the credential exists, belongs to this very certificate and domain,
    /// and is neither revoked nor expired.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`], or when storage fails.
    pub async fn authenticate(&self, connection: &ConnectionInfo) -> Result<Authenticated, Error> {
        let refuse = |why| Err(Error::Unauthenticated(why));
        let Some(certificate) = &connection.certificate else {
            return refuse("no client certificate");
        };
        let found = self.store.find_credential(certificate.credential_id).await?;
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
        match credential.status(self.clock.now()) {
            CredentialStatus::Ready => {
                let policies = self.policies.at(found.revisions.iam).await?;
                let principal = Principal {
                    credential_id: Some(credential.id),
                    fingerprint: credential.fingerprint,
                    okms_id: credential.okms_id,
                    region: found.region,
                    identity_urns: policies.with_groups(credential.identity_urns),
                };
                let (principal, revisions) = (Arc::new(principal), found.revisions);
                Ok(Authenticated { principal, revisions, policies })
            }
            CredentialStatus::Expired => refuse("expired credential"),
            CredentialStatus::Revoked => refuse("revoked credential"),
        }
    }
}
