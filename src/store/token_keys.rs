//! Statements about the key of the MACs of tokens, of which there is one at a time.

use sqlx::QueryBuilder;

use super::{
    Connection, FoundToken, KeyInsertion, Store, StoreError,
    connection::{execute, fetch_all, fetch_optional, on_engine},
    engine::holds_row,
    root_keys::has_store_key,
    tokens::{TokenRow, select_tokens},
};
use crate::{
    crypto::{StoreKeyId, TokenKeyId, TokenMac, WrappedKey},
    domain::{Error, Timestamp},
};

/// The key of the MACs of tokens.
#[derive(Debug, Clone)]
pub struct StoredTokenKey {
    /// Its name.
    pub id: TokenKeyId,
    /// The store key that wraps it.
    pub store_key_id: StoreKeyId,
    /// The key, wrapped.
    pub wrapped: WrappedKey,
}

/// A key of the MACs of tokens that follows another one.
pub struct TokenKeyChange {
    /// The new key.
    pub new: StoredTokenKey,
    /// Signs tokens with it.
    pub sign_anew: SignAnew,
}

/// Gives a token a MAC of a new key, where the one that it has is right.
pub type SignAnew = Box<dyn Fn(&FoundToken) -> Option<TokenMac> + Send + Sync>;

impl Store {
    /// The key of the MACs of tokens, once there is one.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_token_key(&self) -> Result<Option<StoredTokenKey>, Error> {
        let row = self
            .read(|connection| Box::pin(async move { fetch_optional!(connection, KeyRow, SELECT) }))
            .await?;
        Ok(row.map(stored))
    }

    /// Gives the store the key of the MACs of tokens, unless it has one.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn insert_token_key(&self, key: StoredTokenKey) -> Result<KeyInsertion, Error> {
        self.write(move |tx| {
            let key = key.clone();
            Box::pin(async move {
                if !has_store_key(&mut tx.connection, &key.store_key_id).await? {
                    return Ok(KeyInsertion::StoreKeyReplaced);
                }
                tx.wrote = true;
                let rows = execute!(
                    &mut tx.connection,
                    "INSERT INTO token_keys (id, token_key_id, store_key_id, wrapped_key) \
                     VALUES (1, $1, $2, $3) ON CONFLICT DO NOTHING",
                    key.id.as_str(),
                    key.store_key_id.as_str(),
                    key.wrapped.as_bytes()
                )?;
                Ok(if rows == 0 { KeyInsertion::Exists } else { KeyInsertion::Done })
            })
        })
        .await
    }
}

/// Keeps the key of tokens from being replaced until the transaction ends; `false` where it is another one.
pub(super) async fn hold_token_key(
    connection: &mut Connection<'_>,
    id: &TokenKeyId,
) -> Result<bool, sqlx::Error> {
    holds_row!(
        connection,
        "SELECT token_key_id FROM token_keys WHERE token_key_id = $1",
        id.as_str()
    )
}

/// Replaces the key of tokens, where there is one, and gives each token a MAC of the new key whose MAC is right. One
/// that somebody changed, or that is revoked, keeps its own, of a key that is gone; bound tokens that have ended go.
///
/// All of it is one transaction, which `ROTATION_TIME` bounds to 20 seconds: 10,000 tokens took 0.8 s on SQLite and 1.1 s on
/// PostgreSQL of the same machine (unoptimized build, two cores), so some 200,000 are the most.
pub(super) async fn replace_token_key(
    connection: &mut Connection<'_>,
    now: Timestamp,
    change: impl Fn(&StoredTokenKey) -> Result<TokenKeyChange, Error>,
) -> Result<(), StoreError> {
    let Some(old) = fetch_optional!(&mut *connection, KeyRow, SELECT)?.map(stored) else {
        return Ok(());
    };
    let TokenKeyChange { new, sign_anew } = change(&old)?;
    // First, so that it waits for who holds the old key to write a token, and who comes later for this.
    execute!(
        &mut *connection,
        "UPDATE token_keys SET token_key_id = $1, store_key_id = $2, wrapped_key = $3",
        new.id.as_str(),
        new.store_key_id.as_str(),
        new.wrapped.as_bytes()
    )?;
    let ended = "DELETE FROM tokens WHERE bound_fingerprint IS NOT NULL AND expires_at < $1";
    execute!(&mut *connection, ended, now.as_millis())?;
    let sql = select_tokens!(
        "WHERE t.token_key_id = $1 AND t.token_id > $2 AND t.revoked_at IS NULL \
         ORDER BY t.token_id LIMIT $3"
    );
    let mut after = String::new();
    loop {
        let (key_id, limit) = (old.id.as_str(), i64::from(TOKENS_AT_A_TIME));
        let page = fetch_all!(&mut *connection, TokenRow, sql, key_id, &after, limit)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.token_id.clone();
        let found = page.into_iter().filter_map(|row| row.into_token().ok());
        let signed: Vec<_> =
            found.filter_map(|found| sign_anew(&found).map(|mac| (found, mac))).collect();
        if !signed.is_empty() {
            update_macs(connection, &new.id, &signed).await?;
        }
    }
}

/// Gives tokens their new MACs, in one statement: a round trip for each would make the transaction too long.
async fn update_macs(
    connection: &mut Connection<'_>,
    key_id: &TokenKeyId,
    signed: &[(FoundToken, TokenMac)],
) -> Result<(), sqlx::Error> {
    on_engine!(connection, connection, {
        let mut sql = QueryBuilder::new("WITH signed (token_id, old, new) AS (");
        sql.push_values(signed, |mut row, (found, mac)| {
            row.push_bind(found.token.id.to_string());
            row.push_bind(&found.proof.mac.as_bytes()[..]).push_bind(&mac.as_bytes()[..]);
        });
        sql.push(") UPDATE tokens SET mac = signed.new, token_key_id = ")
            .push_bind(key_id.as_str());
        // Where its MAC is another one by now, it was revoked meanwhile.
        sql.push(
            " FROM signed WHERE tokens.token_id = signed.token_id AND tokens.mac = signed.old",
        );
        sql.build().execute(&mut **connection).await.map(drop)
    })
}

const SELECT: &str = "SELECT token_key_id, store_key_id, wrapped_key FROM token_keys";
/// Tokens that are in memory at once while they are signed anew: at a few KiB each, some MiB. Three values of each go with
/// one statement, of which SQLite takes 32,766 and PostgreSQL 65,535.
const TOKENS_AT_A_TIME: u32 = 500;

type KeyRow = (String, String, Vec<u8>);

fn stored((id, store_key_id, wrapped): KeyRow) -> StoredTokenKey {
    StoredTokenKey {
        id: TokenKeyId::from_stored(id),
        store_key_id: StoreKeyId::from_stored(store_key_id),
        wrapped: WrappedKey::from_stored(wrapped),
    }
}
