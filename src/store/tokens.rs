//! Statements about tokens.
//!
//! Any caller may have tokens made, prolonged and revoked, again and again. None of that takes anything away from what
//! is [kept in memory](super::row_cache) for all: rows of secrets and credentials, in which there is nothing of tokens.

use sqlx::FromRow;

use super::{
    Store,
    connection::{execute, fetch_all, fetch_optional},
    domains::stored_region,
    engine::holds_row,
    line::InLine,
    token_keys::hold_token_key,
};
use crate::{
    crypto::{TokenHash, TokenKeyId, TokenMac},
    domain::{Error, OkmsId, Revisions, Timestamp, Token, TokenBinding, TokenId},
};

/// A token with what a request needs to know beside it.
#[derive(Debug, Clone)]
pub struct FoundToken {
    /// The token.
    pub token: Token,
    /// The hash that it is looked up by.
    pub hash: TokenHash,
    /// The proof of it: nothing of the token may be used before it is verified.
    pub proof: TokenProof,
    /// The region of its domain.
    pub region: String,
    /// As of now.
    pub revisions: Revisions,
}

/// The proof of what is stored of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenProof {
    /// The key that the MAC is of.
    pub key_id: TokenKeyId,
    /// The MAC.
    pub mac: TokenMac,
}

/// A row that no token can be read of: its id as it stands there.
#[derive(Debug, Clone)]
pub struct UnreadableToken(pub String);

/// What became of a token that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenWrite {
    /// It is written.
    Done,
    /// It is not: what it depends on is revoked, or gone.
    Refused,
    /// It is not: its MAC is of a key that was replaced.
    KeyReplaced,
}

/// The statement for rows of [`TokenRow`].
macro_rules! select_tokens {
    ($which:literal) => {
        concat!(
            "SELECT t.token_id, t.okms_id, t.token_hash, t.identity_urns, t.description, \
             t.created_at, t.expires_at, t.revoked_at, t.bound_fingerprint, t.credential_id, \
             t.token_key_id, t.mac, d.region, \
             r.iam AS iam_revision, r.keys AS keys_revision \
             FROM tokens t JOIN domains d ON d.okms_id = t.okms_id \
             JOIN revisions r ON r.id = 1 ",
            $which
        )
    };
}

pub(super) use select_tokens;

impl Store {
    /// Makes a token. One of a credential is not made where that is revoked by then.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn insert_token(
        &self,
        token: Token,
        hash: TokenHash,
        proof: TokenProof,
    ) -> Result<TokenWrite, Error> {
        let identity_urns = serde_json::to_string(&token.identity_urns)
            .map_err(|_| Error::Internal("identity URNs cannot be written as JSON".into()))?;
        self.write(move |tx| {
            let (token, identity_urns) = (token.clone(), identity_urns.clone());
            let proof = proof.clone();
            Box::pin(async move {
                tx.spares_kept_rows = true;
                if !hold_token_key(&mut tx.connection, &proof.key_id).await? {
                    return Ok(TokenWrite::KeyReplaced);
                }
                let binding = token.binding.as_ref();
                let credential = binding.and_then(|binding| binding.credential_id);
                let credential = credential.map(|id| id.to_string());
                if let Some(credential) = &credential {
                    // Held, so that a revocation comes before or after, never between.
                    let stands = holds_row!(
                        &mut tx.connection,
                        "SELECT credential_id FROM credentials \
                         WHERE credential_id = $1 AND revoked_at IS NULL",
                        credential
                    )?;
                    if !stands {
                        return Ok(TokenWrite::Refused);
                    }
                }
                tx.wrote = true;
                if let Some(binding) = binding {
                    // Whoever asks for one again and again leaves no more than these behind.
                    execute!(
                        &mut tx.connection,
                        "DELETE FROM tokens WHERE bound_fingerprint = $1 AND token_id NOT IN \
                         (SELECT token_id FROM tokens WHERE bound_fingerprint = $1 \
                         ORDER BY created_at DESC, token_id LIMIT $2)",
                        &binding.fingerprint[..],
                        i64::from(MAX_BOUND_TOKENS - 1)
                    )?;
                }
                // From the domain's own row: where it is gone, nothing is inserted.
                let rows = execute!(
                    &mut tx.connection,
                    "INSERT INTO tokens (token_id, okms_id, token_hash, identity_urns, description, \
                     created_at, expires_at, bound_fingerprint, credential_id, token_key_id, mac) \
                     SELECT $1, okms_id, $3, $4, $5, CAST($6 AS BIGINT), CAST($7 AS BIGINT), $8, $9, \
                     $10, $11 FROM domains WHERE okms_id = $2",
                    token.id.to_string(),
                    token.okms_id.to_string(),
                    &hash.as_bytes()[..],
                    &identity_urns,
                    &token.description,
                    token.created_at.as_millis(),
                    token.expires_at.as_millis(),
                    binding.map(|binding| binding.fingerprint.to_vec()),
                    &credential,
                    proof.key_id.as_str(),
                    &proof.mac.as_bytes()[..],
                )?;
                if rows == 0 {
                    return Err(Error::DomainNotFound.into());
                }
                tx.surely_changed = true;
                Ok(TokenWrite::Done)
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
        let place = self.engine.enter_line()?;
        self.callers.tokens.read(hash, place, |place| self.read_token(hash, place)).await
    }

    async fn read_token(
        &self,
        hash: TokenHash,
        place: Option<InLine<'_>>,
    ) -> Result<Option<FoundToken>, Error> {
        let sql = select_tokens!("WHERE t.token_hash = $1");
        let row = self
            .read_from(place, move |connection| {
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
    pub async fn list_tokens(
        &self,
        okms_id: OkmsId,
    ) -> Result<Vec<Result<FoundToken, UnreadableToken>>, Error> {
        let sql = select_tokens!("WHERE t.okms_id = $1 ORDER BY t.created_at, t.token_id");
        let rows = self
            .read(move |connection| {
                Box::pin(async move { fetch_all!(connection, TokenRow, sql, okms_id.to_string()) })
            })
            .await?;
        let read = |row: TokenRow| {
            let id = row.token_id.clone();
            row.into_token().map_err(|_| UnreadableToken(id))
        };
        Ok(rows.into_iter().map(read).collect())
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
                (tx.wrote, tx.spares_kept_rows) = (true, true);
                let id = id.to_string();
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE tokens SET revoked_at = $2, mac = $3 \
                     WHERE token_id = $1 AND revoked_at IS NULL",
                    &id,
                    now.as_millis(),
                    NO_MAC
                )?;
                if rows > 0 {
                    tx.surely_changed = true;
                    return Ok(true);
                }
                let sql = "UPDATE tokens SET mac = $2 WHERE token_id = $1";
                Ok(execute!(&mut tx.connection, sql, &id, NO_MAC)? > 0)
            })
        })
        .await
    }

    /// Lets a bound token that is not revoked end later, with its new proof; never earlier.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn prolong_token(
        &self,
        id: TokenId,
        expires_at: Timestamp,
        proof: TokenProof,
    ) -> Result<TokenWrite, Error> {
        self.write(move |tx| {
            let proof = proof.clone();
            Box::pin(async move {
                tx.spares_kept_rows = true;
                if !hold_token_key(&mut tx.connection, &proof.key_id).await? {
                    return Ok(TokenWrite::KeyReplaced);
                }
                tx.wrote = true;
                let (id, key_id) = (id.to_string(), proof.key_id.as_str());
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE tokens SET mac = $3, expires_at = $2 \
                     WHERE token_id = $1 AND token_key_id = $4 AND revoked_at IS NULL \
                     AND bound_fingerprint IS NOT NULL AND expires_at < $2",
                    &id,
                    expires_at.as_millis(),
                    &proof.mac.as_bytes()[..],
                    key_id
                )?;
                if rows > 0 {
                    tx.surely_changed = true;
                    return Ok(TokenWrite::Done);
                }
                // One that ends so late already stays as it is, and is written all the same: where a standby was lost
                // before it confirmed that end, this waits for both. No column of an index, or SQLite writes pages.
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE tokens SET mac = mac \
                     WHERE token_id = $1 AND token_key_id = $2 AND revoked_at IS NULL \
                     AND bound_fingerprint IS NOT NULL",
                    &id,
                    key_id
                )?;
                Ok(if rows == 0 { TokenWrite::Refused } else { TokenWrite::Done })
            })
        })
        .await
    }

    /// Removes personal tokens that ended or were revoked before `before`.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn remove_ended_personal_tokens(&self, before: Timestamp) -> Result<(), Error> {
        self.write(move |tx| {
            Box::pin(async move {
                (tx.wrote, tx.spares_kept_rows) = (true, true);
                // All are looked at: this happens when somebody makes one by hand.
                let sql = "DELETE FROM tokens WHERE bound_fingerprint IS NULL \
                           AND (expires_at < $1 OR revoked_at < $1)";
                let rows = execute!(&mut tx.connection, sql, before.as_millis())?;
                tx.surely_changed |= rows > 0;
                Ok(())
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
                (tx.wrote, tx.spares_kept_rows) = (true, true);
                let sql = "DELETE FROM tokens \
                           WHERE bound_fingerprint IS NOT NULL AND expires_at < $1";
                let rows = execute!(&mut tx.connection, sql, before.as_millis())?;
                tx.surely_changed |= rows > 0;
                Ok(rows)
            })
        })
        .await
    }
}

/// What a revoked token has for a MAC. Nothing proves it any more: who takes the revocation back does not bring the token
/// back, unless he has kept its row of before, with the MAC that was right.
pub(super) const NO_MAC: &[u8] = &[0; 32];
/// Tokens that one certificate has at a time: a client needs one, and many processes may share a certificate.
const MAX_BOUND_TOKENS: u32 = 100;

#[derive(FromRow)]
pub(super) struct TokenRow {
    pub(super) token_id: String,
    okms_id: String,
    token_hash: Vec<u8>,
    identity_urns: String,
    description: String,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    bound_fingerprint: Option<Vec<u8>>,
    credential_id: Option<String>,
    token_key_id: String,
    mac: Vec<u8>,
    region: String,
    iam_revision: i64,
    keys_revision: i64,
}

impl TokenRow {
    pub(super) fn into_token(self) -> Result<FoundToken, Error> {
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
        let hash = TokenHash::from_stored(&self.token_hash).map_err(|_| broken("hash"))?;
        let mac = TokenMac::from_stored(&self.mac).map_err(|_| broken("MAC"))?;
        let proof = TokenProof { key_id: TokenKeyId::from_stored(self.token_key_id), mac };
        Ok(FoundToken { token, hash, proof, region: stored_region(self.region)?, revisions })
    }
}
