//! Whether a certificate's credential, or a token, counts for this request.

use std::{fmt, sync::Arc};

use super::{Keyring, PolicyCache, lookups::Lookups};
use crate::{
    crypto::{TokenHash, TokenText},
    domain::{
        Claim, Clock, ConnectionInfo, CredentialId, CredentialStatus, Error, PeerCertificate,
        Principal, RequestTrail, Revisions, Timestamp, Token,
    },
    iam::PolicySet,
    store::{FoundToken, Looked, Store},
};

/// Finds out who calls. Clones are the same.
#[derive(Clone)]
pub struct Authentication(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    store: Store,
    keyring: Arc<Keyring>,
    policies: Arc<PolicyCache>,
    clock: Arc<dyn Clock>,
    takes_tokens: bool,
    /// Turns to look up tokens that come without a certificate.
    lookups: Arc<Lookups>,
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
    /// That what is kept in memory was found to be the present state, where it was looked at.
    pub(super) looked: Option<Looked>,
    /// The policies and groups as of this request.
    pub policies: Arc<PolicySet>,
    /// What is known of the token, where the caller sent one.
    pub token: Option<Arc<Token>>,
    /// When the certificate's credential ends to count by itself, where there is one.
    pub credential_expires_at: Option<Timestamp>,
    standing: Standing,
}

/// What a caller is found out by, now and again.
#[derive(Clone)]
struct Standing {
    authentication: Authentication,
    connection: ConnectionInfo,
    presented: Presented,
    /// Where to note what becomes of a token.
    trail: Arc<RequestTrail>,
}

impl Authenticated {
    /// The same caller as of now, found out as if its request had just come.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] where it does not count any more; or when storage fails.
    pub(super) async fn renewed(&self) -> Result<Self, Error> {
        self.standing.ask().await
    }
}

impl Standing {
    async fn ask(&self) -> Result<Authenticated, Error> {
        match &self.presented {
            Presented::Nothing => self.authentication.certificate(self).await,
            _ if !self.authentication.takes_tokens() => Err(Error::TokensOff),
            Presented::Unreadable(why) => Err(Error::Unauthenticated(why)),
            Presented::Token(token) => self.authentication.token(token, self).await,
        }
    }

    /// That it counts, for this caller with these rights.
    fn counts(
        &self,
        principal: Arc<Principal>,
        revisions: Revisions,
        policies: Arc<PolicySet>,
    ) -> Authenticated {
        Authenticated {
            principal,
            revisions,
            looked: None,
            policies,
            token: None,
            credential_expires_at: None,
            standing: self.clone(),
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").finish_non_exhaustive()
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
        let lookups = Arc::new(Lookups::new());
        Self(Arc::new(Parts { store, keyring, policies, clock, takes_tokens: true, lookups }))
    }

    /// The same, taking tokens or not.
    #[must_use]
    pub fn with_tokens(self, takes_tokens: bool) -> Self {
        Self(Arc::new(Parts { takes_tokens, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// Whether tokens are taken.
    pub fn takes_tokens(&self) -> bool {
        self.0.takes_tokens
    }

    /// The principal behind a request, as of now.
    ///
    /// A token says what is allowed, and a certificate beside it must not contradict it: it has to count,
    /// and be of the same domain. Nothing that is wrong with either falls back on the other. A token that
    /// is known and refused is noted on the trail.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`], [`Error::TokensOff`], or when storage fails.
    pub async fn authenticate(
        &self,
        connection: &ConnectionInfo,
        presented: &Presented,
        trail: &Arc<RequestTrail>,
    ) -> Result<Authenticated, Error> {
        let (connection, presented) = (connection.clone(), presented.clone());
        let (authentication, trail) = (self.clone(), Arc::clone(trail));
        Standing { authentication, connection, presented, trail }.ask().await
    }

    /// A token: that it is known, neither revoked nor expired, and comes with the certificate that it is
    /// bound to, if it is.
    async fn token(
        &self,
        presented: &PresentedToken,
        standing: &Standing,
    ) -> Result<Authenticated, Error> {
        let mut tries_left = TOKEN_KEY_TRIES;
        loop {
            // Found by the hash of what was sent: the time that it takes tells nothing of other tokens.
            let Some(found) = self.find_token(presented.hash, standing).await? else {
                self.0.lookups.forget(presented.hash);
                return Err(Error::Unauthenticated("unknown token"));
            };
            tries_left -= 1;
            let id = found.token.id;
            let refused = match found.token.status(self.0.clock.now()) {
                CredentialStatus::Expired => Some("expired token"),
                CredentialStatus::Revoked => Some("revoked token"),
                CredentialStatus::Ready => match self.0.keyring.proves_token(&found).await? {
                    Some(true) => None,
                    // The key may have been replaced since the row was read.
                    None if tries_left > 0 => continue,
                    Some(false) | None => {
                        tracing::error!(token.id = %id, "the stored row of a token does not verify");
                        Some("token whose row does not verify")
                    }
                },
            };
            let admitted = match refused {
                Some(why) => Err(Error::Unauthenticated(why)),
                None => self.admit(found, standing).await,
            };
            match &admitted {
                Ok(_) => self.0.lookups.remember(presented.hash),
                Err(Error::Unauthenticated(_)) => {
                    self.0.lookups.forget(presented.hash);
                    standing.trail.note_refused_token(id);
                }
                Err(_) => {}
            }
            return admitted;
        }
    }

    /// The principal of a token that counts, with the certificate that it comes with.
    async fn admit(&self, found: FoundToken, standing: &Standing) -> Result<Authenticated, Error> {
        let token = found.token;
        let certificate = match &standing.connection.peer {
            Some(_) => Some(self.certificate(standing).await?),
            None => None,
        };
        let beside = certificate.as_ref().map(|certificate| Arc::clone(&certificate.principal));
        let fingerprint = beside.as_ref().and_then(|beside| beside.fingerprint);
        let refuse = |why| {
            if let (Some(beside), Some(fingerprint)) = (&beside, fingerprint) {
                standing.trail.note_refused_certificate(fingerprint, beside.credential_id);
            }
            Err(Error::Unauthenticated(why))
        };
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
        let authenticated = self.with_rights(principal, found.revisions, standing).await?;
        Ok(Authenticated { token: Some(Arc::new(token)), ..authenticated })
    }

    /// Looks a token up, which anyone may have made up. A certificate beside it, of which nothing is known yet but
    /// that its holder has the key, changes nothing about that.
    async fn find_token(
        &self,
        hash: TokenHash,
        standing: &Standing,
    ) -> Result<Option<FoundToken>, Error> {
        let _turn = self.0.lookups.turn(hash, standing.connection.peer_address.ip()).await?;
        self.0.store.find_token(hash).await
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
    async fn certificate(&self, standing: &Standing) -> Result<Authenticated, Error> {
        let Some(peer) = &standing.connection.peer else {
            return Err(Error::Unauthenticated("no client certificate and no token"));
        };
        let now = self.0.clock.now();
        let mut claimed = None;
        let found = match peer.certificate(now) {
            Err(why) => Err(Error::Unauthenticated(why)),
            Ok(certificate) => match &certificate.claim {
                Claim::Issued(id) => {
                    claimed = Some(*id);
                    self.issued(&certificate, *id, now, standing).await
                }
                Claim::External(identities) => {
                    self.external(&certificate, identities, now, standing).await
                }
            },
        };
        if let Err(Error::Unauthenticated(_)) = &found {
            standing.trail.note_refused_certificate(peer.fingerprint(), claimed);
        }
        found
    }

    /// A certificate of our own authority: that its credential exists, belongs to this very certificate
    /// and domain, and is neither revoked nor expired.
    async fn issued(
        &self,
        certificate: &PeerCertificate,
        id: CredentialId,
        now: Timestamp,
        standing: &Standing,
    ) -> Result<Authenticated, Error> {
        let refuse = |why| Err(Error::Unauthenticated(why));
        let found = self.0.store.find_credential(id).await?;
        // Its domain may be there all the same, restored from a backup that is older than the credential: its keys are
        // not to be dropped at each request of somebody. Where it is gone, they go soon, see `forget_deleted`.
        let Some((found, looked)) = found else { return refuse("unknown credential") };
        let credential = &found.credential;
        if credential.fingerprint != certificate.fingerprint {
            return refuse("another certificate than the credential's own");
        }
        if credential.okms_id != certificate.okms_id {
            return refuse("the certificate names another domain than the credential");
        }
        match credential.status(now) {
            CredentialStatus::Ready => {
                let own = &credential.identity_urns;
                let policies = self.0.policies.at(found.revisions.iam, own).await?;
                let principal = found.caller.at(policies.revision(), || Principal {
                    credential_id: Some(credential.id),
                    token_id: None,
                    fingerprint: Some(credential.fingerprint),
                    okms_id: credential.okms_id,
                    region: found.region.clone(),
                    identity_urns: policies.with_groups(own.clone()),
                });
                let credential_expires_at = Some(credential.expires_at);
                let authenticated = standing.counts(principal, found.revisions, policies);
                Ok(Authenticated { credential_expires_at, looked, ..authenticated })
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
        standing: &Standing,
    ) -> Result<Authenticated, Error> {
        let refuse = |why| Err(Error::Unauthenticated(why));
        let (okms_id, fingerprint) = (certificate.okms_id, certificate.fingerprint);
        let Some(found) = self.0.store.find_external(okms_id, fingerprint).await? else {
            self.0.keyring.forget(okms_id);
            return refuse("the authority is bound to a domain that does not exist");
        };
        let (credential_id, identity_urns, credential_expires_at) = match found.credential {
            Some(credential) => {
                let refuse = |why| {
                    standing.trail.note_refused_certificate(fingerprint, Some(credential.id));
                    refuse(why)
                };
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
        let authenticated = self.with_rights(principal, found.revisions, standing).await?;
        Ok(Authenticated { credential_expires_at, ..authenticated })
    }

    /// Adds its groups to a principal that has its own identities, and what decides about it.
    async fn with_rights(
        &self,
        principal: Principal,
        revisions: Revisions,
        standing: &Standing,
    ) -> Result<Authenticated, Error> {
        let own = principal.identity_urns;
        let policies = self.0.policies.at(revisions.iam, &own).await?;
        let principal = Principal { identity_urns: policies.with_groups(own), ..principal };
        Ok(standing.counts(Arc::new(principal), revisions, policies))
    }
}

/// How often a token is looked up whose MAC is of a key that was replaced meanwhile; nobody does that a third time at
/// once.
const TOKEN_KEY_TRIES: usize = 3;
