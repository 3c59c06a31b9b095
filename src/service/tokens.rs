//! What operators do with tokens, and callers with their own.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    crypto::{TokenKind, TokenText},
    domain::{Clock, Error, OkmsId, Token, TokenId},
    store::Store,
};

/// The use cases of tokens.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
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

impl Tokens {
    /// Works on `store`.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
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
        self.store.insert_token(token.clone(), text.hash()).await?;
        Ok(IssuedToken { token, text })
    }

    /// The tokens of a domain.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn list(&self, okms_id: OkmsId) -> Result<Vec<Token>, Error> {
        if self.store.find_domain(okms_id).await?.is_none() {
            return Err(Error::DomainNotFound);
        }
        self.store.list_tokens(okms_id).await
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
}

fn generate(kind: TokenKind) -> Result<TokenText, Error> {
    TokenText::generate(kind)
        .map_err(|_| Error::Unavailable("the system has no randomness to give".into()))
}
