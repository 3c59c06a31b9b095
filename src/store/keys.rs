//! Statements about keys of domains: wrapped ones only.

use sqlx::FromRow;

use super::{
    Connection, Store, StoreError,
    connection::{execute, fetch_all, fetch_optional},
    domains::{readable_id, stored_u32},
    root_keys::has_store_key,
};
use crate::{
    crypto::{Generation, KeyId, StoreKeyId, WrappedKey},
    domain::{Error, OkmsId, Timestamp},
};

/// A key that a domain is to get.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Which key of the domain it is.
    pub generation: Generation,
    /// The store key that wraps it.
    pub store_key_id: StoreKeyId,
    /// The key, wrapped.
    pub wrapped_key: WrappedKey,
}

/// A key of a domain as it is stored.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Its name.
    pub key_id: KeyId,
    /// Which key of the domain it is.
    pub generation: Generation,
    /// The store key that wraps it; nothing where the root key still does.
    pub store_key_id: Option<StoreKeyId>,
    /// The key, wrapped.
    pub wrapped_key: WrappedKey,
    /// How many seals processes have set aside for themselves.
    pub uses: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The keys of a domain.
#[derive(Debug, Clone)]
pub struct DomainKeyring {
    /// What [`Revisions::keys`](crate::domain::Revisions::keys) was when they were read.
    pub revision: i64,
    /// The keys, the newest first.
    pub keys: Vec<StoredKey>,
}

/// What became of an attempt to add a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyInsertion {
    /// It was added.
    Done,
    /// The domain has a key of that generation.
    Exists,
    /// The store key that wraps it has been replaced.
    StoreKeyReplaced,
}

impl Store {
    /// The keys of a domain.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_keys(&self, okms_id: OkmsId) -> Result<DomainKeyring, Error> {
        // In one statement, so that the revision is never newer than the keys.
        let sql = "SELECT r.keys AS revision, k.key_id, k.generation, k.store_key_id, k.wrapped_key, \
                   k.uses, k.created_at FROM revisions r LEFT JOIN domain_keys k ON k.okms_id = $1 \
                   ORDER BY k.generation DESC";
        let rows = self
            .read(move |connection| {
                Box::pin(
                    async move { fetch_all!(connection, KeyringRow, sql, okms_id.to_string()) },
                )
            })
            .await?;
        let revision = rows.first().map_or(0, |row| row.revision);
        let keys = rows.into_iter().filter_map(|row| row.into_key().transpose());
        Ok(DomainKeyring { revision, keys: keys.collect::<Result<_, _>>()? })
    }

    /// Keys of domains that another store key wraps, or none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_keys_not_under(
        &self,
        store_key_id: &StoreKeyId,
    ) -> Result<Vec<(OkmsId, KeyId)>, Error> {
        let sql = "SELECT okms_id, key_id FROM domain_keys \
                   WHERE store_key_id IS NULL OR store_key_id <> $1";
        let store_key_id = store_key_id.as_str().to_owned();
        let rows = self
            .read(move |connection| {
                let store_key_id = store_key_id.clone();
                Box::pin(async move {
                    fetch_all!(connection, (String, i64), sql, store_key_id.as_str())
                })
            })
            .await?;
        let named =
            |(id, key_id): (String, i64)| Some((readable_id(&id)?, KeyId::from_stored(key_id)));
        Ok(rows.into_iter().filter_map(named).collect())
    }

    /// How often keys have changed.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn key_revision(&self) -> Result<i64, Error> {
        let sql = "SELECT keys FROM revisions WHERE id = 1";
        let row = self
            .read(move |connection| {
                Box::pin(async move { fetch_optional!(connection, (i64,), sql) })
            })
            .await?;
        row.map(|(keys,)| keys).ok_or_else(|| Error::Internal("the row of revisions".into()))
    }

    /// Adds a generation.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn insert_key(
        &self,
        okms_id: OkmsId,
        key: NewKey,
        now: Timestamp,
    ) -> Result<KeyInsertion, Error> {
        self.write(move |tx| {
            let key = key.clone();
            Box::pin(async move {
                let id = okms_id.to_string();
                let sql = "SELECT created_at FROM domains WHERE okms_id = $1";
                if fetch_optional!(&mut tx.connection, (i64,), sql, &id)?.is_none() {
                    return Err(Error::DomainNotFound.into());
                }
                if !has_store_key(&mut tx.connection, &key.store_key_id).await? {
                    return Ok(KeyInsertion::StoreKeyReplaced);
                }
                tx.wrote = true;
                if insert_key(&mut tx.connection, okms_id, &key, now).await? == 0 {
                    return Ok(KeyInsertion::Exists);
                }
                add_key_revision(&mut tx.connection).await?;
                Ok(KeyInsertion::Done)
            })
        })
        .await
    }

    /// Sets seals of a key aside for the caller, which may then use the key that often; `false` where
    /// the key's uses would exceed `max_uses`, or it is gone.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn reserve_key_uses(
        &self,
        key_id: KeyId,
        uses: i64,
        max_uses: i64,
    ) -> Result<bool, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.wrote = true;
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE domain_keys SET uses = uses + CAST($2 AS BIGINT) \
                     WHERE key_id = $1 AND uses + CAST($2 AS BIGINT) <= CAST($3 AS BIGINT)",
                    key_id.as_i64(),
                    uses,
                    max_uses
                )?;
                Ok(rows > 0)
            })
        })
        .await
    }
}

/// Notes that keys have changed: what processes hold in memory is out of date.
pub(super) async fn add_key_revision(connection: &mut Connection<'_>) -> Result<(), sqlx::Error> {
    execute!(connection, "UPDATE revisions SET keys = keys + 1 WHERE id = 1").map(|_| ())
}

/// The keys of all domains.
pub(super) async fn list_all_keys(
    connection: &mut Connection<'_>,
) -> Result<Vec<(OkmsId, StoredKey)>, StoreError> {
    let sql = "SELECT okms_id, key_id, generation, store_key_id, wrapped_key, uses, created_at \
               FROM domain_keys ORDER BY key_id";
    let rows = fetch_all!(connection, OwnedKeyRow, sql)?;
    Ok(rows.into_iter().map(OwnedKeyRow::into_key).collect::<Result<_, _>>()?)
}

/// Inserts a key unless its generation is there; gives the number of rows.
pub(super) async fn insert_key(
    connection: &mut Connection<'_>,
    okms_id: OkmsId,
    key: &NewKey,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    execute!(
        connection,
        "INSERT INTO domain_keys (okms_id, generation, store_key_id, wrapped_key, uses, created_at) \
         VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (okms_id, generation) DO NOTHING",
        okms_id.to_string(),
        i64::from(key.generation.get()),
        key.store_key_id.as_str(),
        key.wrapped_key.as_bytes(),
        now.as_millis()
    )
}

#[derive(FromRow)]
struct KeyRow {
    key_id: i64,
    generation: i64,
    store_key_id: Option<String>,
    wrapped_key: Vec<u8>,
    uses: i64,
    created_at: i64,
}

impl TryFrom<KeyRow> for StoredKey {
    type Error = Error;

    fn try_from(row: KeyRow) -> Result<Self, Error> {
        Ok(Self {
            key_id: KeyId::from_stored(row.key_id),
            generation: Generation::new(stored_u32(row.generation)?),
            store_key_id: row.store_key_id.map(StoreKeyId::from_stored),
            wrapped_key: WrappedKey::from_stored(row.wrapped_key),
            uses: row.uses,
            created_at: Timestamp::from_millis(row.created_at),
        })
    }
}

#[derive(FromRow)]
struct OwnedKeyRow {
    okms_id: String,
    #[sqlx(flatten)]
    key: KeyRow,
}

impl OwnedKeyRow {
    fn into_key(self) -> Result<(OkmsId, StoredKey), Error> {
        let okms_id = self.okms_id.parse().map_err(|_| Error::Internal("stored okmsId".into()))?;
        let key = StoredKey::try_from(self.key).map_err(|_| {
            Error::Unavailable(format!(
                "a key of domain {okms_id} cannot be read: put its row of domain_keys back from a backup, \
                 or delete the domain"
            ))
        });
        Ok((okms_id, key?))
    }
}

/// The columns of a key that may be missing.
#[derive(FromRow)]
struct KeyringRow {
    revision: i64,
    key_id: Option<i64>,
    generation: Option<i64>,
    store_key_id: Option<String>,
    wrapped_key: Option<Vec<u8>>,
    uses: Option<i64>,
    created_at: Option<i64>,
}

impl KeyringRow {
    fn into_key(self) -> Result<Option<StoredKey>, Error> {
        let (Some(key_id), Some(generation), Some(wrapped_key), Some(uses), Some(created_at)) =
            (self.key_id, self.generation, self.wrapped_key, self.uses, self.created_at)
        else {
            return Ok(None);
        };
        let store_key_id = self.store_key_id;
        let row = KeyRow { key_id, generation, store_key_id, wrapped_key, uses, created_at };
        StoredKey::try_from(row).map(Some)
    }
}
