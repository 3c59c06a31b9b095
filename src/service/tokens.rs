//! What operators do with tokens, and callers with their own.

use std::sync::Arc;

use uuid::Uuid;

use super::{Caller, Keyring, PresentedToken};
use crate::{
    crypto::{TokenHash, TokenKind, TokenText},
    domain::{Clock, Error, OkmsId, Timestamp, Token, TokenBinding, TokenId},
    store::{FoundToken, Store, UnreadableToken},
};

/// The use cases of tokens.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

/// What a person chooses about a new personal access token.
#[derive(Debug)]
pub struct NewToken {
    /// The domain in which it will count.
    pub okms_id: OkmsId,
    /// See [`Token::identity_urns`].
    pub identity_urns: Vec<String>,
    /// See [`Token::description`].
    pub description: String,
    /// Seconds until it ends: from a minute to 365 days.
    pub validity_seconds: u64,
}

/// A token just made, which is shown only once.
pub struct IssuedToken {
    /// What is known of it.
    pub token: Token,
    /// The token itself.
    pub text: TokenText,
}

/// A token in a list.
#[derive(Debug, Clone)]
pub struct ListedToken {
    /// Its id, as it stands in the store.
    pub id: String,
    /// What is known of it; nothing where somebody changed what is stored, so that it does not count and none of it
    /// is to be believed. A token that is revoked never counts again, and is not proven any more.
    pub token: Option<Token>,
}

/// How long a token counts, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// As it was given.
    pub first: u64,
    /// Whatever its renewals.
    pub longest: u64,
}

impl Lifetime {
    /// That of a token.
    pub fn of(token: &Token) -> Self {
        let present = token.created_at.seconds_until(token.expires_at);
        match token.binding {
            // It ended with its credential if that was sooner, and then it still does.
            Some(_) => Self { first: present.min(LOGIN_SECONDS), longest: MAX_LOGIN_SECONDS },
            None => Self { first: present, longest: present },
        }
    }
}

impl Tokens {
    /// Works on `store`, with the key of tokens of `keyring`.
    pub fn new(store: Store, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock }
    }

    /// Makes a personal access token.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`]; when a choice breaks a rule, or storage fails.
    pub async fn create(&self, new: NewToken) -> Result<IssuedToken, Error> {
        Token::check(&new.description, &new.identity_urns, new.validity_seconds)?;
        let now = self.clock.now();
        let token = Token {
            id: TokenId::new(Uuid::new_v4()),
            okms_id: new.okms_id,
            identity_urns: new.identity_urns,
            description: new.description,
            created_at: now,
            expires_at: now.plus_seconds(new.validity_seconds),
            revoked_at: None,
            binding: None,
        };
        let text = generate(TokenKind::Personal)?;
        self.store.remove_ended_personal_tokens(now.minus_seconds(RETENTION_SECONDS)).await?;
        self.insert(&token, text.hash()).await?;
        Ok(IssuedToken { token, text })
    }

    /// Writes a new token; `false` where its credential was revoked.
    async fn insert(&self, token: &Token, hash: TokenHash) -> Result<bool, Error> {
        let insert = |proof| self.store.insert_token(token.clone(), hash, proof);
        self.keyring.write_token(token, hash, insert).await
    }

    /// The tokens of a domain, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn list(&self, okms_id: OkmsId) -> Result<Vec<ListedToken>, Error> {
        if self.store.find_domain(okms_id).await?.is_none() {
            return Err(Error::DomainNotFound);
        }
        let mut listed = Vec::new();
        for row in self.store.list_tokens(okms_id).await? {
            listed.push(match row {
                Err(UnreadableToken(id)) => ListedToken { id, token: None },
                Ok(found) => {
                    let (id, revoked) = (found.token.id.to_string(), found.token.revoked_at);
                    let stands = revoked.is_some() || self.is_proven(&found).await?;
                    ListedToken { id, token: stands.then_some(found.token) }
                }
            });
        }
        Ok(listed)
    }

    async fn is_proven(&self, found: &FoundToken) -> Result<bool, Error> {
        if let Some(proven) = self.keyring.proves_token(found).await? {
            return Ok(proven);
        }
        // The key may have been replaced since the row was read.
        let Some(again) = self.store.find_token(found.hash).await? else { return Ok(false) };
        let is_same = again.token.id == found.token.id;
        Ok(is_same && self.keyring.proves_token(&again).await? == Some(true))
    }

    /// Revokes a token: it no longer counts from the next request on. `false` where there is none of that
    /// id.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn revoke(&self, id: TokenId) -> Result<bool, Error> {
        self.store.revoke_token(id, self.clock.now()).await
    }

    /// Gives a caller's certificate a short-lived token, which counts together with that certificate only.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] for a caller without a certificate, or whose credential was revoked
    /// meanwhile; or when storage fails.
    pub async fn login(&self, caller: &Caller) -> Result<IssuedToken, Error> {
        let principal = caller.principal();
        let Some(fingerprint) = principal.fingerprint.filter(|_| caller.token().is_none()) else {
            return Err(Error::Unauthenticated("no client certificate to give a token to"));
        };
        let now = self.clock.now();
        // Nobody needs those any more, and each client leaves one behind in an hour.
        self.store.remove_ended_tokens(now).await?;
        let token = Token {
            id: TokenId::new(Uuid::new_v4()),
            okms_id: principal.okms_id,
            // It has those of its certificate at each request.
            identity_urns: Vec::new(),
            description: String::new(),
            created_at: now,
            expires_at: end_of_login(now, now, caller),
            revoked_at: None,
            binding: Some(TokenBinding { fingerprint, credential_id: principal.credential_id }),
        };
        let text = generate(TokenKind::Login)?;
        if !self.insert(&token, text.hash()).await? {
            return Err(Error::Unauthenticated("revoked credential"));
        }
        caller.trail().note_issued_token(token.id);
        Ok(IssuedToken { token, text })
    }

    /// Lets the token that the caller sent end later, where it is one that its certificate asked for; and
    /// gives it as it is then.
    ///
    /// # Errors
    ///
    /// When there is no such token, it was revoked meanwhile, or storage fails.
    pub async fn renew(
        &self,
        caller: &Caller,
        presented: Option<&PresentedToken>,
    ) -> Result<Token, Error> {
        let (Some(token), Some(presented)) = (caller.token(), presented) else {
            return Err(Error::malformed(NO_TOKEN));
        };
        if token.binding.is_none() {
            return Err(Error::malformed("the token is not renewable: it ends when it was to end"));
        }
        let expires_at = end_of_login(token.created_at, self.clock.now(), caller);
        let renewed = Token { expires_at: token.expires_at.max(expires_at), ..token.clone() };
        let (id, end) = (renewed.id, renewed.expires_at);
        let prolong = |proof| self.store.prolong_token(id, end, proof);
        if !self.keyring.write_token(&renewed, presented.hash(), prolong).await? {
            return Err(Error::Unauthenticated("revoked token"));
        }
        Ok(renewed)
    }

    /// Revokes the token that the caller sent.
    ///
    /// # Errors
    ///
    /// When it sent none, or storage fails.
    pub async fn revoke_own(&self, caller: &Caller) -> Result<(), Error> {
        let Some(token) = caller.token() else { return Err(Error::malformed(NO_TOKEN)) };
        // One that is gone by now does not count either.
        self.store.revoke_token(token.id, self.clock.now()).await.map(|_| ())
    }

    /// Seconds from now until a point in time.
    pub fn seconds_until(&self, end: Timestamp) -> u64 {
        self.clock.now().seconds_until(end)
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// When a token ends that a certificate asked for at `created_at`, and that is used at `now`.
fn end_of_login(created_at: Timestamp, now: Timestamp, caller: &Caller) -> Timestamp {
    let end = now.plus_seconds(LOGIN_SECONDS).min(created_at.plus_seconds(MAX_LOGIN_SECONDS));
    // Without its credential it would not count anyway; so it does not say that it would.
    caller.credential_expires_at().map_or(end, |credential| end.min(credential))
}

fn generate(kind: TokenKind) -> Result<TokenText, Error> {
    TokenText::generate(kind)
        .map_err(|_| Error::Unavailable("the system has no randomness to give".into()))
}

/// Seconds for which a personal token stays in the list after it ended or was revoked: 30 days, in which people may
/// ask what became of it. The audit log tells it afterwards.
const RETENTION_SECONDS: u32 = 30 * 86_400;
const NO_TOKEN: &str =
    "the request has no token; a certificate is neither renewed nor revoked here";
/// Seconds for which a token counts that a certificate asked for: an hour, so that one that was left
/// behind is soon worth nothing.
const LOGIN_SECONDS: u64 = 3_600;
/// Seconds after which it can't be renewed any more: a day, after which its owner asks for another one.
const MAX_LOGIN_SECONDS: u64 = 86_400;
