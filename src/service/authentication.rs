//! Whether a certificate's credential counts for this request.

use std::sync::Arc;

use super::Keyring;
use crate::{
    domain::{Clock, ConnectionInfo, CredentialStatus, Error, Principal},
    store::Store,
};

/// Finds out who calls.
#[derive(Clone)]
pub struct Authentication {
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

impl Authentication {
    /// Looks credentials up in `store`.
    pub fn new(store: Store, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock }
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
    pub async fn authenticate(&self, connection: &ConnectionInfo) -> Result<Principal, Error> {
        let refuse = |why| Err(Error::Unauthenticated(why));
        let Some(certificate) = &connection.certificate else {
            return refuse("no client certificate");
        };
        let found = self.store.find_credential(certificate.credential_id).await?;
        let Some((credential, region)) = found else {
            // Credentials go with their domain only, and so do its keys, here in memory too.
            self.keyring.forget(certificate.okms_id);
            return refuse("unknown credential");
        };
        if credential.fingerprint != certificate.fingerprint {
            return refuse("another certificate than the credential's own");
        }
        if credential.okms_id != certificate.okms_id {
            return refuse("the certificate names another domain than the credential");
        }
        match credential.status(self.clock.now()) {
            CredentialStatus::Ready => Ok(Principal {
                credential_id: credential.id,
                okms_id: credential.okms_id,
                region,
                identity_urns: credential.identity_urns,
            }),
            CredentialStatus::Expired => refuse("expired credential"),
            CredentialStatus::Revoked => refuse("revoked credential"),
        }
    }
}
