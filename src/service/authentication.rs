//! Whether a certificate's credential, or a token, counts for this request.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::{Keyring, PolicyCache};
use crate::{
    crypto::{TokenHash, TokenText},
    domain::{
        Claim, Clock, ConnectionInfo, CredentialId, CredentialStatus, Error, PeerCertificate,
        Principal, Revisions, Timestamp, Token,
    },
    iam::PolicySet,
    store::{FoundToken, Store},
};

/// Finds out who calls.
#[derive(Clone)]
pub struct Authentication {
    store: Store,
    keyring: Arc<Keyring>,
    policies: Arc<PolicyCache>,
    clock: Arc<dyn Clock>,
    takes_tokens: bool,
    /// Permits to look up tokens that come without a certificate.
    lookups: Arc<Semaphore>,
}

/// What a request says of its caller, beside the certificate of its connection.
#[derive(Clone)]
pub enum Presented {
    /// Nothing.
    Nothing,
    /// Something that should be a token and is none. The text is for the log.
    Unreadable(&'static str),
    /// A token.
    Token(Arc<PresentedToken>),
}

/// A token that somebody sent. It has no `Debug`, and is wiped when dropped.
pub struct PresentedToken {
    text: TokenText,
    hash: TokenHash,
}

impl PresentedToken {
    /// Reads one; `None` where the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = TokenText::parse(text)?;
        Some(Self { hash: text.hash(), text })
    }

    pub(super) const fn hash(&self) -> TokenHash {
        self.hash
    }

    /// The token, for an answer to whom it came from.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
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
    /// What is known of the token, where the caller sent one.
    pub token: Option<Arc<Token>>,
    /// When the certificate's credential ends to count by itself, where there is one.
    pub credential_expires_at: Option<Timestamp>,
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
        Ok(Self { principal: Arc::new(principal), revisions, policies, ..self.clone() })
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
        let lookups = Arc::new(Semaphore::new(CONCURRENT_LOOKUPS));
        Self { store, keyring, policies, clock, takes_tokens: true, lookups }
    }

    /// The same, taking tokens or not.
    #[must_use]
    pub fn with_tokens(self, takes_tokens: bool) -> Self {
        Self { takes_tokens, ..self }
    }

    /// Whether tokens are taken.
    pub const fn takes_tokens(&self) -> bool {
        self.takes_tokens
    }

    /// The principal behind a request, as of now.
    ///
    /// A token says what is allowed, and a certificate beside it must not contradict it: it has to count,
    /// and be of the same domain. Nothing that is wrong with either falls back on the other.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`], [`Error::TokensOff`], or when storage fails.
    pub async fn authenticate(
        &self,
        connection: &ConnectionInfo,
        presented: &Presented,
    ) -> Result<Authenticated, Error> {
        match presented {
            Presented::Nothing => self.certificate(connection).await,
            _ if !self.takes_tokens => Err(Error::TokensOff),
            Presented::Unreadable(why) => Err(Error::Unauthenticated(why)),
            Presented::Token(token) => self.token(token, connection).await,
        }
    }

    /// A token: that it is known, neither revoked nor expired, and comes with the certificate that it is
    /// bound to, if it is.
    async fn token(
        &self,
        presented: &PresentedToken,
        connection: &ConnectionInfo,
    ) -> Result<Authenticated, Error> {
        let refuse = |why| Err(Error::Unauthenticated(why));
        // Found by the hash of what was sent: the time that it takes tells nothing of other tokens.
        let Some(found) = self.find_token(presented.hash, connection).await? else {
            return refuse("unknown token");
        };
        let token = found.token;
        match token.status(self.clock.now()) {
            CredentialStatus::Ready => {}
            CredentialStatus::Expired => return refuse("expired token"),
            CredentialStatus::Revoked => return refuse("revoked token"),
        }
        let proven = self.keyring.token_key().await?.verify(&token, &presented.hash, &found.mac);
        if proven.is_err() {
            tracing::error!(token.id = %token.id, "the stored row of a token does not verify");
            return refuse("token whose row does not verify");
        }
        let certificate = match &connection.peer {
            Some(_) => Some(self.certificate(connection).await?),
            None => None,
        };
        let fingerprint =
            certificate.as_ref().and_then(|certificate| certificate.principal.fingerprint);
        if let Some(certificate) = &certificate
            && certificate.principal.okms_id != token.okms_id
        {
            return refuse("the certificate is of another domain than the token");
        }
        if let Some(binding) = &token.binding {
            let Some(certificate) =
                certificate.filter(|_| fingerprint == Some(binding.fingerprint))
            else {
                return refuse("the token is bound to another certificate");
            };
            // Its rights are those that the certificate has now, not those of when the token was given.
            let principal =
                Principal { token_id: Some(token.id), ..Principal::clone(&certificate.principal) };
            return Ok(Authenticated {
                principal: Arc::new(principal),
                token: Some(Arc::new(token)),
                ..certificate
            });
        }
        let principal = Principal {
            credential_id: None,
            token_id: Some(token.id),
            fingerprint,
            okms_id: token.okms_id,
            region: found.region,
            identity_urns: token.identity_urns.clone(),
        };
        let authenticated = self.with_rights(principal, found.revisions).await?;
        Ok(Authenticated { token: Some(Arc::new(token)), ..authenticated })
    }

    /// Looks a token up. Where there is no certificate it may be made up by anyone, so that few such look-ups
    /// go at a time: those of others are not kept waiting.
    async fn find_token(
        &self,
        hash: TokenHash,
        connection: &ConnectionInfo,
    ) -> Result<Option<FoundToken>, Error> {
        let _turn = match connection.peer {
            Some(_) => None,
            None => {
                let turn = tokio::time::timeout(LOOKUP_TIME, self.lookups.acquire()).await;
                let busy = |_| Error::Unavailable("too many tokens to look up".into());
                Some(turn.map_err(busy)?)
            }
        };
        self.store.find_token(hash).await
    }

    /// The principal behind a connection's certificate.
    ///
    /// The handshake proved that the caller holds the key of a certificate, once. All else is asked at
    /// every request, since a connection, or a resumed session, may be older than a revocation: that an
    /// authority still vouches for the certificate, and what the store says about it.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`], or when storage fails.
    async fn certificate(&self, connection: &ConnectionInfo) -> Result<Authenticated, Error> {
        let Some(peer) = &connection.peer else {
            return Err(Error::Unauthenticated("no client certificate and no token"));
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
        let credential = &found.credential;
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
                    token_id: None,
                    fingerprint: Some(credential.fingerprint),
                    okms_id: credential.okms_id,
                    region: found.region.clone(),
                    identity_urns: credential.identity_urns.clone(),
                };
                let authenticated = self.with_rights(principal, found.revisions).await?;
                let credential_expires_at = Some(credential.expires_at);
                Ok(Authenticated { credential_expires_at, ..authenticated })
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
        let (credential_id, identity_urns, credential_expires_at) = match found.credential {
            Some(credential) => {
                if credential.okms_id != okms_id || !credential.registered {
                    return refuse("the certificate is registered in another domain");
                }
                match CredentialStatus::at(now, credential.expires_at, credential.revoked_at) {
                    CredentialStatus::Ready => {
                        (Some(credential.id), credential.identity_urns, Some(credential.expires_at))
                    }
                    CredentialStatus::Expired => return refuse("expired credential"),
                    CredentialStatus::Revoked => return refuse("revoked credential"),
                }
            }
            None if identities.is_empty() => {
                return refuse("the certificate is not registered and names no identity");
            }
            None => (None, identities.to_vec(), None),
        };
        let region = found.region;
        let principal = Principal {
            credential_id,
            token_id: None,
            fingerprint: Some(fingerprint),
            okms_id,
            region,
            identity_urns,
        };
        let authenticated = self.with_rights(principal, found.revisions).await?;
        Ok(Authenticated { credential_expires_at, ..authenticated })
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
        Ok(Authenticated {
            principal: Arc::new(principal),
            revisions,
            policies,
            token: None,
            credential_expires_at: None,
            standing,
        })
    }
}

/// Look-ups of tokens without a certificate at a time: a part of the connections that read, and each takes a
/// fraction of a millisecond.
const CONCURRENT_LOOKUPS: usize = 2;
/// How long one waits for its turn.
const LOOKUP_TIME: Duration = Duration::from_secs(2);
