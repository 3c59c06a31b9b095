//! Statements about keys: wrapped ones only.

use sqlx::FromRow;

use super::{
    Connection, Store,
    connection::{execute, fetch_all, fetch_optional},
    domains::stored_u32,
};
use crate::{
    crypto::{Generation, RootKeyId, WrappedKey},
    domain::{Error, OkmsId, Timestamp},
};

/// A key of a domain as it is stored.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Which key of the domain it is.
    pub generation: Generation,
    /// The root key that wraps it.
    pub root_key_id: RootKeyId,
    /// The key, wrapped.
    pub wrapped_key: WrappedKey,
}

impl Store {
    /// Registers the root key of a store that has none, and says which root key the store then has:
    /// of two processes that come at once, one is first.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn register_root_key(
        &self,
        id: RootKeyId,
        now: Timestamp,
    ) -> Result<RootKeyId, Error> {
        self.write(move |tx| {
            let id = id.clone();
            Box::pin(async move {
                tx.wrote = true;
                execute!(
                    &mut tx.connection,
                    "INSERT INTO root_keys (slot, root_key_id, created_at) VALUES (1, $1, $2) \
                     ON CONFLICT DO NOTHING",
                    id.as_str(),
                    now.as_millis()
                )?;
                let row = fetch_optional!(
                    &mut tx.connection,
                    (String,),
                    "SELECT root_key_id FROM root_keys WHERE slot = 1"
                )?;
                Ok(row.map_or(id, |(id,)| RootKeyId::from_stored(id)))
            })
        })
        .await
    }

    /// The keys of a domain, the newest first.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_keys(&self, okms_id: OkmsId) -> Result<Vec<StoredKey>, Error> {
        let sql = "SELECT generation, root_key_id, wrapped_key FROM domain_keys \
                   WHERE okms_id = $1 ORDER BY generation DESC";
        let rows = self
            .read(move |connection| {
                Box::pin(async move { fetch_all!(connection, KeyRow, sql, okms_id.to_string()) })
            })
            .await?;
        rows.into_iter().map(StoredKey::try_from).collect()
    }

    /// Adds a generation; `false` where it is there already.
    ///
    /// # Errors
    ///
    /// When the domain is gone, or storage fails.
    pub async fn insert_key(
        &self,
        okms_id: OkmsId,
        key: StoredKey,
        now: Timestamp,
    ) -> Result<bool, Error> {
        self.write(move |tx| {
            let key = key.clone();
            Box::pin(async move {
                tx.wrote = true;
                Ok(insert_key(&mut tx.connection, okms_id, &key, now).await? > 0)
            })
        })
        .await
    }

    /// Sets seals of a key aside for the caller, which may then use the key that often; `false` where
    /// the key's uses would exceed `max_uses`.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn reserve_key_uses(
        &self,
        okms_id: OkmsId,
        generation: Generation,
        uses: i64,
        max_uses: i64,
    ) -> Result<bool, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.wrote = true;
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE domain_keys SET uses = uses + CAST($3 AS BIGINT) \
                     WHERE okms_id = $1 AND generation = $2 AND uses + CAST($3 AS BIGINT) <= CAST($4 AS BIGINT)",
                    okms_id.to_string(),
                    i64::from(generation.get()),
                    uses,
                    max_uses
                )?;
                Ok(rows > 0)
            })
        })
        .await
    }
}

/// Inserts a key unless its generation is there; gives the number of rows.
pub(super) async fn insert_key(
    connection: &mut Connection<'_>,
    okms_id: OkmsId,
    key: &StoredKey,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    execute!(
        connection,
        "INSERT INTO domain_keys (okms_id, generation, root_key_id, wrapped_key, uses, created_at) \
         VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT DO NOTHING",
        okms_id.to_string(),
        i64::from(key.generation.get()),
        key.root_key_id.as_str(),
        key.wrapped_key.as_bytes(),
        now.as_millis()
    )
}

#[derive(FromRow)]
struct KeyRow {
    generation: i64,
    root_key_id: String,
    wrapped_key: Vec<u8>,
}

impl TryFrom<KeyRow> for StoredKey {
    type Error = Error;

    fn try_from(row: KeyRow) -> Result<Self, Error> {
        Ok(Self {
            generation: Generation::new(stored_u32(row.generation)?),
            root_key_id: RootKeyId::from_stored(row.root_key_id),
            wrapped_key: WrappedKey::from_stored(row.wrapped_key),
        })
    }
}
