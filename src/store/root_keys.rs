//! Statements about root keys and the store key that they wrap: ids and wrapped keys only.
//!
//! There is one store key at a time. Each key of a domain refers to the store key that wraps it, so the
//! database itself refuses to remove a store key that something still needs, and to take a domain's key
//! wrapped under one that was replaced.

use std::time::{Duration, Instant};

use sqlx::FromRow;

use super::{
    Connection, Store, StoreError, StoredKey,
    connection::{execute, fetch_all, fetch_optional},
    domains::stored_u32,
    engine::lock_root_keys,
    keys::{add_key_revision, list_all_keys},
    token_keys::{StoredTokenKey, TokenKeyChange, replace_token_key},
    transaction::Tx,
};
use crate::{
    crypto::{RootKeyId, StoreKeyId, WrappedKey},
    domain::{Error, OkmsId, Timestamp},
};

/// A root key of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootKeySlot {
    /// 1 or 2.
    pub slot: u32,
    /// Which root key it is.
    pub root_key_id: RootKeyId,
    /// When it was registered.
    pub created_at: Timestamp,
    /// The store key, wrapped by it; nothing where it was registered before there were store keys.
    pub store_key: Option<WrappedStoreKey>,
}

/// A store key under a root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedStoreKey {
    /// Which store key it is.
    pub id: StoreKeyId,
    /// The key, wrapped.
    pub wrapped: WrappedKey,
}

/// What becomes of the root keys of a store.
#[derive(Debug, Clone)]
pub struct RootKeyRotation {
    /// The root keys as the one who rotates knows them.
    pub before: Vec<RootKeySlot>,
    /// The store key that goes.
    pub old_store_key: StoreKeyId,
    /// The root keys as they shall be, all with the same new store key.
    pub after: Vec<(RootKeyId, WrappedStoreKey)>,
}

impl Store {
    /// The root keys of the store, by slot.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_root_keys(&self) -> Result<Vec<RootKeySlot>, Error> {
        let rows = self
            .read(|connection| {
                Box::pin(async move { fetch_all!(connection, SlotRow, SELECT_SLOTS) })
            })
            .await?;
        rows.into_iter().map(RootKeySlot::try_from).collect()
    }

    /// Gives a root key that has no store key one, and takes the keys of domains, which it wrapped itself
    /// so far, over to that; registers it first in a store that has no root key at all. Of two processes
    /// that come at once one does it, and both are given what there is then.
    ///
    /// `take_over` wraps the key of a domain anew; it may be asked more than once.
    ///
    /// # Errors
    ///
    /// What `take_over` fails with; [`Error::Unavailable`] where keys are wrapped by something else than
    /// this root key; or when storage fails.
    pub async fn adopt_store_key<F>(
        &self,
        root_key_id: RootKeyId,
        store_key: WrappedStoreKey,
        now: Timestamp,
        take_over: F,
    ) -> Result<Vec<RootKeySlot>, Error>
    where
        F: Fn(OkmsId, &StoredKey) -> Result<WrappedKey, Error> + Send + Sync + 'static,
    {
        let unit = std::sync::Arc::new((root_key_id, store_key, take_over));
        self.write(move |tx| {
            let unit = std::sync::Arc::clone(&unit);
            Box::pin(async move {
                let (root_key_id, store_key, take_over) = &*unit;
                tx.wrote = true;
                execute!(
                    &mut tx.connection,
                    "INSERT INTO root_keys (slot, root_key_id, created_at) \
                     SELECT 1, CAST($1 AS TEXT), CAST($2 AS BIGINT) \
                     WHERE NOT EXISTS (SELECT 1 FROM root_keys) ON CONFLICT DO NOTHING",
                    root_key_id.as_str(),
                    now.as_millis()
                )?;
                let slots = locked_slots(&mut tx.connection).await?;
                let own = slots.iter().find(|slot| slot.root_key_id == *root_key_id);
                if own.is_none_or(|own| own.store_key.is_some()) {
                    return Ok(slots);
                }
                if slots.iter().any(|slot| slot.store_key.is_some()) {
                    return Err(not_wrapped_by(root_key_id).into());
                }
                adopt(tx, root_key_id, store_key, now, take_over).await?;
                locked_slots(&mut tx.connection).await
            })
        })
        .await
    }

    /// Replaces root keys, the store key and the key of tokens, and wraps the keys of all domains anew, as one
    /// whole; `false`, and nothing done, where the root keys are not as `rotation` says that they were.
    ///
    /// `rewrap` wraps the key of a domain anew, and `change_tokens` says what follows the key of tokens; both may
    /// be asked more than once.
    ///
    /// # Errors
    ///
    /// What they fail with, or when storage fails.
    pub async fn rotate_root_key<F, T>(
        &self,
        rotation: RootKeyRotation,
        now: Timestamp,
        rewrap: F,
        change_tokens: T,
    ) -> Result<bool, Error>
    where
        F: Fn(OkmsId, &StoredKey) -> Result<WrappedKey, Error> + Send + Sync + 'static,
        T: Fn(&StoredTokenKey) -> Result<TokenKeyChange, Error> + Send + Sync + 'static,
    {
        let until = Instant::now() + ROTATION_TIME;
        self.rotate_until(until, rotation, now, rewrap, change_tokens).await
    }

    async fn rotate_until<F, T>(
        &self,
        until: Instant,
        rotation: RootKeyRotation,
        now: Timestamp,
        rewrap: F,
        change_tokens: T,
    ) -> Result<bool, Error>
    where
        F: Fn(OkmsId, &StoredKey) -> Result<WrappedKey, Error> + Send + Sync + 'static,
        T: Fn(&StoredTokenKey) -> Result<TokenKeyChange, Error> + Send + Sync + 'static,
    {
        let unit = std::sync::Arc::new((rotation, rewrap, change_tokens));
        self.write(move |tx| {
            let unit = std::sync::Arc::clone(&unit);
            Box::pin(async move {
                let (rotation, rewrap, change_tokens) = &*unit;
                if locked_slots(&mut tx.connection).await? != rotation.before {
                    return Ok(false);
                }
                // What the old root key opened must leave the files of the engine too.
                (tx.wrote, tx.deleted) = (true, true);
                rotate(tx, rotation, now, rewrap, change_tokens).await?;
                if Instant::now() >= until {
                    let text = "the rotation took too long, and was undone".to_owned();
                    return Err(Error::Unavailable(text).into());
                }
                Ok(true)
            })
        })
        .await
    }

    /// Registers another root key in the free slot; `false` where there is none, where the key is
    /// registered already, or the store key is not the present one.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn insert_root_key(
        &self,
        root_key_id: RootKeyId,
        store_key: WrappedStoreKey,
        now: Timestamp,
    ) -> Result<bool, Error> {
        self.write(move |tx| {
            let (root_key_id, store_key) = (root_key_id.clone(), store_key.clone());
            Box::pin(async move {
                let slots = locked_slots(&mut tx.connection).await?;
                let is_taken = |number| slots.iter().any(|slot| slot.slot == number);
                let free = SLOTS.into_iter().find(|number| !is_taken(*number));
                let present = |slot: &RootKeySlot| {
                    slot.store_key.as_ref().is_some_and(|present| present.id == store_key.id)
                };
                let is_new = slots.iter().all(|slot| slot.root_key_id != root_key_id);
                let (Some(free), true, true) = (free, slots.iter().any(present), is_new) else {
                    return Ok(false);
                };
                tx.wrote = true;
                insert_slot(&mut tx.connection, free, &root_key_id, &store_key, now).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Removes a root key beside which there is another one that opens the store; `false` where that is
    /// not so.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_root_key(&self, root_key_id: RootKeyId) -> Result<bool, Error> {
        self.write(move |tx| {
            let root_key_id = root_key_id.clone();
            Box::pin(async move {
                let slots = locked_slots(&mut tx.connection).await?;
                let other = |slot: &RootKeySlot| {
                    slot.root_key_id != root_key_id && slot.store_key.is_some()
                };
                if !slots.iter().any(other) {
                    return Ok(false);
                }
                (tx.wrote, tx.deleted) = (true, true);
                let sql = "DELETE FROM root_keys WHERE root_key_id = $1";
                Ok(execute!(&mut tx.connection, sql, root_key_id.as_str())? > 0)
            })
        })
        .await
    }
}

/// The root keys, which nobody else changes until the transaction ends.
async fn locked_slots(connection: &mut Connection<'_>) -> Result<Vec<RootKeySlot>, StoreError> {
    lock_root_keys(connection).await?;
    let rows = fetch_all!(connection, SlotRow, SELECT_SLOTS)?;
    Ok(rows.into_iter().map(RootKeySlot::try_from).collect::<Result<_, _>>()?)
}

async fn adopt(
    tx: &mut Tx<'_>,
    root_key_id: &RootKeyId,
    store_key: &WrappedStoreKey,
    now: Timestamp,
    take_over: &(impl Fn(OkmsId, &StoredKey) -> Result<WrappedKey, Error> + Send + Sync),
) -> Result<(), StoreError> {
    insert_store_key(&mut tx.connection, &store_key.id, now).await?;
    for (okms_id, key) in list_all_keys(&mut tx.connection).await? {
        if key.store_key_id.is_some() {
            return Err(not_wrapped_by(root_key_id).into());
        }
        let wrapped = take_over(okms_id, &key)?;
        update_wrapped(&mut tx.connection, &key, &store_key.id, &wrapped).await?;
    }
    // What the root key wrapped directly must leave the files of the engine too.
    tx.deleted = true;
    execute!(
        &mut tx.connection,
        "UPDATE root_keys SET store_key_id = $2, wrapped_store_key = $3 WHERE root_key_id = $1",
        root_key_id.as_str(),
        store_key.id.as_str(),
        store_key.wrapped.as_bytes()
    )?;
    add_key_revision(&mut tx.connection).await?;
    Ok(())
}

async fn rotate(
    tx: &mut Tx<'_>,
    rotation: &RootKeyRotation,
    now: Timestamp,
    rewrap: &(impl Fn(OkmsId, &StoredKey) -> Result<WrappedKey, Error> + Send + Sync),
    change_tokens: &(impl Fn(&StoredTokenKey) -> Result<TokenKeyChange, Error> + Send + Sync),
) -> Result<(), StoreError> {
    let absent = || Error::Internal("a rotation to no root key".into());
    let new = &rotation.after.first().ok_or_else(absent)?.1.id;
    insert_store_key(&mut tx.connection, new, now).await?;
    for (okms_id, key) in list_all_keys(&mut tx.connection).await? {
        let wrapped = rewrap(okms_id, &key)?;
        update_wrapped(&mut tx.connection, &key, new, &wrapped).await?;
    }
    replace_token_key(&mut tx.connection, now, change_tokens).await?;
    let created = |id: &RootKeyId| {
        let before = rotation.before.iter().find(|slot| slot.root_key_id == *id);
        before.map_or(now, |slot| slot.created_at)
    };
    execute!(&mut tx.connection, "DELETE FROM root_keys")?;
    for (number, (id, store_key)) in SLOTS.into_iter().zip(&rotation.after) {
        insert_slot(&mut tx.connection, number, id, store_key, created(id)).await?;
    }
    // Fails, and with it all of this, where another process has added a key under it meanwhile; the
    // next try finds that key too.
    let sql = "DELETE FROM store_keys WHERE store_key_id = $1";
    execute!(&mut tx.connection, sql, rotation.old_store_key.as_str())?;
    add_key_revision(&mut tx.connection).await?;
    Ok(())
}

async fn insert_store_key(
    connection: &mut Connection<'_>,
    id: &StoreKeyId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO store_keys (store_key_id, created_at) VALUES ($1, $2)";
    execute!(connection, sql, id.as_str(), now.as_millis())?;
    Ok(())
}

async fn insert_slot(
    connection: &mut Connection<'_>,
    slot: u32,
    id: &RootKeyId,
    store_key: &WrappedStoreKey,
    created_at: Timestamp,
) -> Result<(), StoreError> {
    execute!(
        connection,
        "INSERT INTO root_keys (slot, root_key_id, created_at, store_key_id, wrapped_store_key) \
         VALUES ($1, $2, $3, $4, $5)",
        i64::from(slot),
        id.as_str(),
        created_at.as_millis(),
        store_key.id.as_str(),
        store_key.wrapped.as_bytes()
    )?;
    Ok(())
}

/// Gives a store that has a store key already, but no root key, its first.
pub(super) async fn insert_first_slot(
    connection: &mut Connection<'_>,
    id: &RootKeyId,
    store_key: &WrappedStoreKey,
    created_at: Timestamp,
) -> Result<(), StoreError> {
    insert_slot(connection, SLOTS[0], id, store_key, created_at).await
}

async fn update_wrapped(
    connection: &mut Connection<'_>,
    key: &StoredKey,
    store_key_id: &StoreKeyId,
    wrapped: &WrappedKey,
) -> Result<(), StoreError> {
    execute!(
        connection,
        "UPDATE domain_keys SET store_key_id = $2, wrapped_key = $3 WHERE key_id = $1",
        key.key_id.as_i64(),
        store_key_id.as_str(),
        wrapped.as_bytes()
    )?;
    Ok(())
}

/// Whether the store has this store key, which then is the present one.
pub(super) async fn has_store_key(
    connection: &mut Connection<'_>,
    id: &StoreKeyId,
) -> Result<bool, StoreError> {
    let sql = "SELECT created_at FROM store_keys WHERE store_key_id = $1";
    Ok(fetch_optional!(connection, (i64,), sql, id.as_str())?.is_some())
}

fn not_wrapped_by(id: &RootKeyId) -> Error {
    Error::Unavailable(format!("what is in this store does not open under the root key {id}"))
}

#[derive(FromRow)]
struct SlotRow {
    slot: i64,
    root_key_id: String,
    created_at: i64,
    store_key_id: Option<String>,
    wrapped_store_key: Option<Vec<u8>>,
}

impl TryFrom<SlotRow> for RootKeySlot {
    type Error = Error;

    fn try_from(row: SlotRow) -> Result<Self, Error> {
        let store_key = row.store_key_id.zip(row.wrapped_store_key);
        Ok(Self {
            slot: stored_u32(row.slot)?,
            root_key_id: RootKeyId::from_stored(row.root_key_id),
            created_at: Timestamp::from_millis(row.created_at),
            store_key: store_key.map(|(id, wrapped)| WrappedStoreKey {
                id: StoreKeyId::from_stored(id),
                wrapped: WrappedKey::from_stored(wrapped),
            }),
        })
    }
}

const SELECT_SLOTS: &str = "SELECT slot, root_key_id, created_at, store_key_id, wrapped_store_key \
                            FROM root_keys ORDER BY slot";
/// A key in use and one to recover with: more would be more places to lose one at.
const SLOTS: [u32; 2] = [1, 2];
/// How long a rotation may take. Less than its caller waits for it, so that what the caller takes for a failure is
/// not done after all.
const ROTATION_TIME: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{RootKey, StoreKey},
        store::DatabaseUrl,
    };

    #[tokio::test]
    async fn a_rotation_that_takes_too_long_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
        let store = Store::open(&url).await.unwrap();
        let (root_key, store_key) = (RootKey::generate().unwrap(), StoreKey::generate().unwrap());
        let wrapped = store_key.wrap(&root_key).unwrap();
        let after = WrappedStoreKey { id: store_key.id().clone(), wrapped };
        let rotation = RootKeyRotation {
            before: Vec::new(),
            old_store_key: StoreKey::generate().unwrap().id().clone(),
            after: vec![(root_key.id().clone(), after)],
        };
        let rotate = |until| {
            let none = || Error::Internal("there is none".into());
            let now = Timestamp::from_millis(0);
            store.rotate_until(
                until,
                rotation.clone(),
                now,
                move |_, _| Err(none()),
                move |_| Err(none()),
            )
        };
        let refused = rotate(Instant::now()).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        assert_eq!(store.list_root_keys().await.unwrap(), []);
        assert_eq!(rotate(Instant::now() + ROTATION_TIME).await, Ok(true));
        assert_eq!(store.list_root_keys().await.unwrap().len(), 1);
        store.close().await;
    }
}
