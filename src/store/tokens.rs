//! Statements about tokens.

use sqlx::FromRow;

use super::{
    Store,
    connection::{execute, fetch_all, fetch_optional},
};
use crate::{
    crypto::TokenHash,
    domain::{Error, OkmsId, Revisions, Timestamp, Token, TokenBinding, TokenId},
};

/// A token with what a request needs to know beside it.
#[derive(Debug, Clone)]
pub struct FoundToken {
    /// The token.
    pub token: Token,
    /// The region of its domain.
    pub region: String,
    /// As of now.
    pub revisions: Revisions,
}

/// The statement for rows of [`TokenRow`].
macro_rules! select_tokens {
    ($which:literal) => {
        concat!(
            "SELECT t.token_id, t.okms_id, t.identity_urns, t.description, t.created_at, \
             t.expires_at, t.revoked_at, t.bound_fingerprint, t.credential_id, d.region, \
             r.iam AS iam_revision, r.keys AS keys_revision \
             FROM tokens t JOIN domains d ON d.okms_id = t.okms_id \
             JOIN revisions r ON r.id = 1 ",
            $which
        )
    };
}

impl Store {
    /// Makes a token. One of a credential is not made where that is revoked by then: `false`.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn insert_token(&self, token: Token, hash: TokenHash) -> Result<bool, Error> {
        let identity_urns = serde_json::to_string(&token.identity_urns)
            .map_err(|_| Error::Internal("identity URNs cannot be written as JSON".into()))?;
        self.write(move |tx| {
            let (token, identity_urns) = (token.clone(), identity_urns.clone());
            Box::pin(async move {
                tx.wrote = true;
                let binding = token.binding.as_ref();
                let credential = binding.and_then(|binding| binding.credential_id);
                let credential = credential.map(|id| id.to_string());
                if let Some(credential) = &credential {
                    // A write, so that a revocation comes before or after, never between.
                    let rows = execute!(
                        &mut tx.connection,
                        "UPDATE credentials SET revoked_at = NULL \
                         WHERE credential_id = $1 AND revoked_at IS NULL",
                        credential
                    )?;
                    if rows == 0 {
                        return Ok(false);
                    }
                }
                // From the domain's own row: where it is gone, nothing is inserted.
                let rows = execute!(
                    &mut tx.connection,
                    "INSERT INTO tokens (token_id, okms_id, token_hash, identity_urns, description, \
                     created_at, expires_at, bound_fingerprint, credential_id) \
                     SELECT $1, okms_id, $3, $4, $5, CAST($6 AS BIGINT), CAST($7 AS BIGINT), $8, $9 \
                     FROM domains WHERE okms_id = $2",
                    token.id.to_string(),
                    token.okms_id.to_string(),
                    &hash.as_bytes()[..],
                    &identity_urns,
                    &token.description,
                    token.created_at.as_millis(),
                    token.expires_at.as_millis(),
                    binding.map(|binding| binding.fingerprint.to_vec()),
                    &credential,
                )?;
                if rows == 0 { Err(Error::DomainNotFound.into()) } else { Ok(true) }
            })
        })
        .await
    }

    /// The token with that hash.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_token(&self, hash: TokenHash) -> Result<Option<FoundToken>, Error> {
        let sql = select_tokens!("WHERE t.token_hash = $1");
        let row = self
            .read(move |connection| {
                Box::pin(
                    async move { fetch_optional!(connection, TokenRow, sql, &hash.as_bytes()[..]) },
                )
            })
            .await?;
        row.map(TokenRow::into_token).transpose()
    }

    /// The tokens of a domain, the oldest first.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_tokens(&self, okms_id: OkmsId) -> Result<Vec<Token>, Error> {
        let sql = select_tokens!("WHERE t.okms_id = $1 ORDER BY t.created_at, t.token_id");
        let rows = self
            .read(move |connection| {
                Box::pin(async move { fetch_all!(connection, TokenRow, sql, okms_id.to_string()) })
            })
            .await?;
        rows.into_iter().map(|row| row.into_token().map(|found| found.token)).collect()
    }

    /// Revokes a token, once: a second revocation keeps the time of the first. `false` where there is
    /// none of that id.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn revoke_token(&self, id: TokenId, now: Timestamp) -> Result<bool, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.wrote = true;
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE tokens SET revoked_at = COALESCE(revoked_at, CAST($2 AS BIGINT)) \
                     WHERE token_id = $1",
                    id.to_string(),
                    now.as_millis()
                )?;
                Ok(rows > 0)
            })
        })
        .await
    }

    /// Lets a bound token that is not revoked end later; never earlier. `false` where there is none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn prolong_token(&self, id: TokenId, expires_at: Timestamp) -> Result<bool, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.wrote = true;
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE tokens SET expires_at = CASE WHEN expires_at > CAST($2 AS BIGINT) \
                     THEN expires_at ELSE CAST($2 AS BIGINT) END \
                     WHERE token_id = $1 AND revoked_at IS NULL AND bound_fingerprint IS NOT NULL",
                    id.to_string(),
                    expires_at.as_millis()
                )?;
                Ok(rows > 0)
            })
        })
        .await
    }

    /// Removes bound tokens that ended before `before`, and gives how many there were.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn remove_ended_tokens(&self, before: Timestamp) -> Result<u64, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.wrote = true;
                let sql = "DELETE FROM tokens \
                           WHERE bound_fingerprint IS NOT NULL AND expires_at < $1";
                Ok(execute!(&mut tx.connection, sql, before.as_millis())?)
            })
        })
        .await
    }
}

#[derive(FromRow)]
struct TokenRow {
    token_id: String,
    okms_id: String,
    identity_urns: String,
    description: String,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    bound_fingerprint: Option<Vec<u8>>,
    credential_id: Option<String>,
    region: String,
    iam_revision: i64,
    keys_revision: i64,
}

impl TokenRow {
    fn into_token(self) -> Result<FoundToken, Error> {
        let broken = |what: &str| Error::Internal(format!("stored token: {what}"));
        let credential_id = self.credential_id.map(|id| id.parse()).transpose();
        let credential_id = credential_id.map_err(|_| broken("credential id"))?;
        let binding = match self.bound_fingerprint {
            Some(fingerprint) => {
                let fingerprint = fingerprint.try_into().map_err(|_| broken("fingerprint"))?;
                Some(TokenBinding { fingerprint, credential_id })
            }
            // A token that was bound must not turn into one that counts by itself.
            None if credential_id.is_some() => return Err(broken("no fingerprint")),
            None => None,
        };
        let token = Token {
            id: self.token_id.parse().map_err(|_| broken("id"))?,
            okms_id: self.okms_id.parse().map_err(|_| broken("okmsId"))?,
            identity_urns: serde_json::from_str(&self.identity_urns)
                .map_err(|_| broken("identity URNs"))?,
            description: self.description,
            created_at: Timestamp::from_millis(self.created_at),
            expires_at: Timestamp::from_millis(self.expires_at),
            revoked_at: self.revoked_at.map(Timestamp::from_millis),
            binding,
        };
        let revisions = Revisions { iam: self.iam_revision, keys: self.keys_revision };
        Ok(FoundToken { token, region: self.region, revisions })
    }
}
