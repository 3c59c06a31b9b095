//! Statements about what is under which key of a domain: how much, sealing it anew, and destroying a key
//! that nothing is under.
//!
//! Each secret is sealed anew under its own lock, a few versions at a time, so a change of it waits for
//! milliseconds at most and none is lost. What is cut off in between is where it was: each row says under
//! which key it is, and the next run finds what is left by that.

use sqlx::{Database, Decode, FromRow, Type, error::BoxDynError};

use super::{
    Connection, KeyId, Store, StoreError, StoredSecret, StoredVersion,
    connection::{execute, fetch_all, fetch_optional},
    domains::{readable_id, stored_u32},
    engine::lock_secret,
    keys::add_key_revision,
    secret_rows::{SecretRow, VersionRow, join_following, secret_columns, version_columns},
    transaction::Tx,
};
use crate::{
    crypto::{Generation, RowMac, SealedData, StoreKeyId},
    domain::{Error, OkmsId, SecretPath, Timestamp, VersionId},
};

/// How a key of a domain is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The domain.
    pub okms_id: OkmsId,
    /// Which key of the domain it is.
    pub generation: Generation,
    /// The store key that wraps it.
    pub store_key_id: Option<StoreKeyId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many seals processes have set aside for themselves.
    pub uses: i64,
    /// Versions whose data it seals.
    pub versions: i64,
    /// Secrets whose own row is under it.
    pub secrets: i64,
}

/// A secret of which something is under an old key.
#[derive(Debug, Clone)]
pub struct StaleSecret {
    /// The number of its row.
    pub secret_id: i64,
    /// Its path; nothing where it cannot be read.
    pub path: Option<SecretPath>,
}

/// Some of the secrets of which something is under an old key.
#[derive(Debug)]
pub struct StaleSecrets {
    /// Each of them once. One of which several rows are under the key may come again later.
    pub secrets: Vec<StaleSecret>,
    /// Where to go on.
    pub last: StalePlace,
}

/// A row among all that are under a key.
#[derive(Debug, Clone, Copy)]
pub struct StalePlace {
    kind: StaleKind,
    created_at: i64,
    secret_id: i64,
    version: i64,
}

/// What is under a key of a row, in the order in which it is gone along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StaleKind {
    /// The data of a version.
    Data,
    /// The MAC of a version.
    VersionMac,
    /// The MAC of a secret.
    SecretMac,
}

impl StalePlace {
    /// Before all rows of a kind.
    const fn before(kind: StaleKind) -> Self {
        Self { kind, created_at: i64::MIN, secret_id: i64::MIN, version: i64::MIN }
    }
}

/// A piece of work: to bring a secret from one key under another.
#[derive(Debug, Clone)]
pub struct Rewrapping {
    /// The domain.
    pub okms_id: OkmsId,
    /// The secret.
    pub path: SecretPath,
    /// The key that goes.
    pub from: KeyId,
    /// The key that `reseal` seals with.
    pub to: KeyId,
    /// Only versions above this number.
    pub after: u32,
    /// How many versions at most.
    pub limit: u32,
}

/// What came of a [`Rewrapping`].
#[derive(Debug, Clone, Default)]
pub struct RewrappedVersions {
    /// How many versions were sealed anew.
    pub versions: u32,
    /// Versions that do not verify or open, and are left as they are; nothing for the row of the secret
    /// itself.
    pub refused: Vec<Option<VersionId>>,
    /// The last version that was looked at, where there may be more.
    pub more_after: Option<u32>,
}

/// A version under the new key.
#[derive(Debug, Clone)]
pub struct Rewrapped {
    /// Its data, where that was under another key.
    pub sealed: Option<SealedData>,
    /// The MAC of its row.
    pub mac: RowMac,
}

impl Store {
    /// All keys of all domains, by domain and generation, with what is under them.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_key_uses(&self) -> Result<Vec<KeyUse>, Error> {
        let sql = "SELECT k.okms_id, k.generation, k.store_key_id, k.created_at, k.uses, \
                   (SELECT COUNT(*) FROM secret_versions v WHERE v.key_id = k.key_id) AS versions, \
                   (SELECT COUNT(*) FROM secrets s WHERE s.key_id = k.key_id) AS secrets \
                   FROM domain_keys k ORDER BY k.okms_id, k.generation";
        let rows = self
            .read(|connection| Box::pin(async move { fetch_all!(connection, KeyUseRow, sql) }))
            .await?;
        rows.into_iter().map(KeyUse::try_from).collect()
    }

    /// Domains that have more than one key.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_domains_with_old_keys(&self) -> Result<Vec<OkmsId>, Error> {
        let sql = "SELECT okms_id FROM domain_keys GROUP BY okms_id HAVING COUNT(*) > 1 \
                   ORDER BY okms_id";
        let rows = self
            .read(|connection| Box::pin(async move { fetch_all!(connection, (String,), sql) }))
            .await?;
        Ok(rows.into_iter().filter_map(|(id,)| readable_id(&id)).collect())
    }

    /// Secrets of which something is under a key: those of the next few rows after a place, or from the first one on.
    /// Nothing where there are no more.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_stale_secrets(
        &self,
        key_id: KeyId,
        after: Option<StalePlace>,
        limit: u32,
    ) -> Result<Option<StaleSecrets>, Error> {
        let mut after = after.unwrap_or(StalePlace::before(StaleKind::Data));
        loop {
            let rows =
                self.read(move |connection| Box::pin(stale_rows(connection, key_id, after, limit)));
            let rows = rows.await?;
            let next = match after.kind {
                _ if !rows.is_empty() => return Ok(Some(StaleSecrets::of(after.kind, rows))),
                StaleKind::Data => StaleKind::VersionMac,
                StaleKind::VersionMac => StaleKind::SecretMac,
                StaleKind::SecretMac => return Ok(None),
            };
            after = StalePlace::before(next);
        }
    }

    /// Brings some versions of a secret, and its own row, under the new key; nothing but their key
    /// changes. Gives nothing, and does nothing, where the new key has been destroyed.
    ///
    /// `reseal` gives a version under the new key and `prove` the MAC of the secret's row, or nothing where
    /// what is there does not verify or open: that stays as it is. They may be asked more than once.
    ///
    /// # Errors
    ///
    /// What `reseal` fails with, or when storage fails.
    pub async fn rewrap_secret<R, P>(
        &self,
        rewrapping: Rewrapping,
        reseal: R,
        prove: P,
    ) -> Result<Option<RewrappedVersions>, Error>
    where
        R: Fn(&StoredSecret, &StoredVersion) -> Result<Option<Rewrapped>, Error>
            + Send
            + Sync
            + 'static,
        P: Fn(&StoredSecret) -> Option<RowMac> + Send + Sync + 'static,
    {
        let unit = std::sync::Arc::new((rewrapping, reseal, prove));
        self.write(move |tx| {
            let unit = std::sync::Arc::clone(&unit);
            Box::pin(async move {
                let (rewrapping, reseal, prove) = &*unit;
                rewrap(tx, rewrapping, reseal, prove).await
            })
        })
        .await
    }

    /// Destroys a key of a domain that is not its newest and that nothing is under; `false` where that is
    /// not so.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn destroy_key(&self, okms_id: OkmsId, key_id: KeyId) -> Result<bool, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                // What is written under it meanwhile makes this fail by its reference to the key, and the
                // next try finds that.
                tx.wrote = true;
                let rows = execute!(
                    &mut tx.connection,
                    "DELETE FROM domain_keys WHERE key_id = $1 AND okms_id = $2 AND generation < \
                     (SELECT MAX(n.generation) FROM domain_keys n WHERE n.okms_id = $2) \
                     AND NOT EXISTS (SELECT 1 FROM secret_versions v WHERE v.key_id = $1) \
                     AND NOT EXISTS (SELECT 1 FROM secret_versions v WHERE v.mac_key_id = $1) \
                     AND NOT EXISTS (SELECT 1 FROM secrets s WHERE s.key_id = $1) \
                     AND NOT EXISTS (SELECT 1 FROM idempotency_keys i WHERE i.key_id = $1)",
                    key_id.as_i64(),
                    okms_id.to_string()
                )?;
                if rows > 0 {
                    // Not before: this is tried again and again where a row keeps its old key.
                    tx.deleted = true;
                    add_key_revision(&mut tx.connection).await?;
                }
                Ok(rows > 0)
            })
        })
        .await
    }
}

/// The versions whose column has a key, for [`stale_rows`]: in the order of the index that begins with that
/// column. Those without a secret, in a damaged file, end no walk either.
macro_rules! stale_versions {
    ($column:literal) => {
        concat!(
            "SELECT v.secret_id, s.path, v.created_at, v.version FROM (\
             SELECT created_at, secret_id, version FROM secret_versions WHERE ",
            $column,
            " = $1 AND (created_at, secret_id, version) > ($2, $3, $4) \
             ORDER BY created_at, secret_id, version LIMIT $5) v \
             LEFT JOIN secrets s ON s.secret_id = v.secret_id \
             ORDER BY v.created_at, v.secret_id, v.version"
        )
    };
}

async fn stale_rows(
    connection: &mut Connection<'_>,
    key_id: KeyId,
    after: StalePlace,
    limit: u32,
) -> Result<Vec<StaleRow>, sqlx::Error> {
    let (key_id, limit) = (key_id.as_i64(), i64::from(limit));
    let StalePlace { kind, created_at, secret_id, version } = after;
    let sql = match kind {
        StaleKind::Data => stale_versions!("key_id"),
        StaleKind::VersionMac => stale_versions!("mac_key_id"),
        StaleKind::SecretMac => {
            let sql = "SELECT secret_id, path, CAST(0 AS BIGINT) AS created_at, \
                       CAST(0 AS BIGINT) AS version FROM secrets \
                       WHERE key_id = $1 AND secret_id > $2 ORDER BY secret_id LIMIT $3";
            return fetch_all!(connection, StaleRow, sql, key_id, secret_id, limit);
        }
    };
    fetch_all!(connection, StaleRow, sql, key_id, created_at, secret_id, version, limit)
}

#[derive(FromRow)]
struct StaleRow {
    secret_id: i64,
    path: PathText,
    created_at: i64,
    version: i64,
}

impl StaleSecrets {
    fn of(kind: StaleKind, rows: Vec<StaleRow>) -> Self {
        let (mut secrets, mut last) = (Vec::<StaleSecret>::new(), StalePlace::before(kind));
        for StaleRow { secret_id, path: PathText(path), created_at, version } in rows {
            last = StalePlace { kind, created_at, secret_id, version };
            if secrets.iter().all(|secret| secret.secret_id != secret_id) {
                let path = path.and_then(|path| SecretPath::parse(&path).ok());
                secrets.push(StaleSecret { secret_id, path });
            }
        }
        Self { secrets, last }
    }
}

async fn rewrap(
    tx: &mut Tx<'_>,
    rewrapping: &Rewrapping,
    reseal: &(impl Fn(&StoredSecret, &StoredVersion) -> Result<Option<Rewrapped>, Error> + Send + Sync),
    prove: &(impl Fn(&StoredSecret) -> Option<RowMac> + Send + Sync),
) -> Result<Option<RewrappedVersions>, StoreError> {
    let Rewrapping { okms_id, path, from, to, after, limit } = rewrapping;
    let okms_id = okms_id.to_string();
    lock_secret(&mut tx.connection, &okms_id, path.as_str()).await?;
    let sql = concat!(
        "SELECT s.secret_id, ",
        secret_columns!(),
        ", s.custom_metadata FROM secrets s ",
        join_following!(),
        " WHERE s.okms_id = $1 AND s.path = $2"
    );
    let row = fetch_optional!(&mut tx.connection, LockedRow, sql, &okms_id, path.as_str())?;
    // Deleted meanwhile.
    let Some(LockedRow { secret_id, secret }) = row else { return Ok(Some(Default::default())) };
    let sql = "SELECT key_id FROM domain_keys WHERE key_id = $1 AND okms_id = $2";
    let row = fetch_optional!(&mut tx.connection, (i64,), sql, to.as_i64(), &okms_id)?;
    if row.is_none() {
        return Ok(None);
    }
    let mut done = RewrappedVersions::default();
    let Ok(Some(secret)) = secret.into_secret() else {
        // One that cannot even be read.
        done.refused.push(None);
        return Ok(Some(done));
    };
    let rows = fetch_all!(
        &mut tx.connection,
        StaleVersionRow,
        concat!(
            "SELECT v.version AS version_number, v.sealed_data, ",
            version_columns!(),
            " FROM secret_versions v WHERE v.secret_id = $1 \
             AND (v.key_id = $2 OR v.mac_key_id = $2) AND v.version > $3 ORDER BY v.version LIMIT $4"
        ),
        secret_id,
        from.as_i64(),
        i64::from(*after),
        i64::from(*limit)
    )?;
    tx.wrote = true;
    let is_full = rows.len() == *limit as usize;
    for row in rows {
        let number = stored_u32(row.version_number)?;
        let id = VersionId::new(number);
        let id = id.map_err(|_| Error::Internal("stored version number".into()))?;
        done.more_after = is_full.then_some(number);
        let rewrapped = match row.version.into_version(row.sealed_data) {
            Ok(Some(version)) => reseal(&secret, &version)?,
            _ => None,
        };
        match rewrapped {
            Some(rewrapped) => {
                // The old bytes must leave the files of the engine too, or destroying their key would be
                // all that keeps them shut.
                tx.destroyed = true;
                done.versions += u32::from(rewrapped.sealed.is_some());
                update_version(&mut tx.connection, secret_id, id, &rewrapped, *to).await?;
            }
            None => done.refused.push(Some(id)),
        }
    }
    if secret.proof.as_ref().is_none_or(|proof| proof.key_id == *from) {
        match prove(&secret) {
            Some(mac) => {
                let sql = "UPDATE secrets SET key_id = $2, mac = $3 WHERE secret_id = $1";
                execute!(&mut tx.connection, sql, secret_id, to.as_i64(), &mac.as_bytes()[..])?;
            }
            None => done.refused.push(None),
        }
    }
    Ok(Some(done))
}

async fn update_version(
    connection: &mut Connection<'_>,
    secret_id: i64,
    version: VersionId,
    rewrapped: &Rewrapped,
    key_id: KeyId,
) -> Result<(), StoreError> {
    let (number, key_id) = (i64::from(version.get()), key_id.as_i64());
    if let Some(sealed) = &rewrapped.sealed {
        let sql = "UPDATE secret_versions SET sealed_data = $3, key_id = $4 \
                   WHERE secret_id = $1 AND version = $2";
        execute!(&mut *connection, sql, secret_id, number, sealed.as_bytes(), key_id)?;
    }
    let (sql, mac) = (
        "UPDATE secret_versions SET mac_key_id = $3, mac = $4 WHERE secret_id = $1 AND version = $2",
        &rewrapped.mac.as_bytes()[..],
    );
    execute!(connection, sql, secret_id, number, key_id, mac)?;
    Ok(())
}

#[derive(FromRow)]
struct LockedRow {
    secret_id: i64,
    #[sqlx(flatten)]
    secret: SecretRow,
}

#[derive(FromRow)]
struct StaleVersionRow {
    version_number: i64,
    sealed_data: Option<Vec<u8>>,
    #[sqlx(flatten)]
    version: VersionRow,
}

/// A path as it is stored; nothing where it is not even text.
struct PathText(Option<String>);

impl<'r, D: Database> Decode<'r, D> for PathText
where
    String: Decode<'r, D>,
{
    fn decode(value: D::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(String::decode(value).ok()))
    }
}

impl<D: Database> Type<D> for PathText
where
    String: Type<D>,
{
    fn type_info() -> D::TypeInfo {
        String::type_info()
    }

    fn compatible(info: &D::TypeInfo) -> bool {
        String::compatible(info)
    }
}

fn okms_id(text: &str) -> Result<OkmsId, Error> {
    text.parse().map_err(|_| Error::Internal("stored okmsId".into()))
}

#[derive(FromRow)]
struct KeyUseRow {
    okms_id: String,
    generation: i64,
    store_key_id: Option<String>,
    created_at: i64,
    uses: i64,
    versions: i64,
    secrets: i64,
}

impl TryFrom<KeyUseRow> for KeyUse {
    type Error = Error;

    fn try_from(row: KeyUseRow) -> Result<Self, Error> {
        Ok(Self {
            okms_id: okms_id(&row.okms_id)?,
            generation: Generation::new(stored_u32(row.generation)?),
            store_key_id: row.store_key_id.map(StoreKeyId::from_stored),
            created_at: Timestamp::from_millis(row.created_at),
            uses: row.uses,
            versions: row.versions,
            secrets: row.secrets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DatabaseUrl;

    /// Keys 1 and 2, and at one moment: versions of three secrets under them, with or without data, and secrets
    /// without any.
    const ROWS: &str = "\
        INSERT INTO domains VALUES ('d', 'd', 'eu', 1, 0, 0, '0s'); \
        INSERT INTO domain_keys (key_id, okms_id, generation, wrapped_key, uses, created_at) \
        VALUES (1, 'd', 1, x'00', 0, 1), (2, 'd', 2, x'00', 0, 1); \
        INSERT INTO secrets (secret_id, okms_id, path, cas_required, max_versions, deactivate_version_after, \
        custom_metadata, current_version, oldest_version, created_at, updated_at, key_id) \
        SELECT column1, 'd', 's' || column1, 0, 0, '0s', '{}', 0, 0, 1, 1, column2 \
        FROM (VALUES (1, 2), (2, 2), (3, 2), (4, 1), (5, 2), (6, 1)); \
        INSERT INTO secret_versions (secret_id, version, created_at, sealed_data, key_id, mac_key_id) VALUES \
        (1, 1, 7, x'00', 1, 1), (1, 2, 7, x'00', 1, 1), (1, 3, 7, x'00', 1, 2), (2, 1, 7, x'00', 1, 1), \
        (3, 1, 7, NULL, NULL, 1), (3, 2, 7, NULL, NULL, 1), (3, 3, 7, x'00', 2, 2)";

    #[tokio::test]
    async fn all_that_is_under_a_key_is_gone_along() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
        let store = Store::open(&url).await.unwrap();
        store
            .write(|tx| {
                Box::pin(async move {
                    tx.wrote = true;
                    for sql in ROWS.split("; ") {
                        execute!(&mut tx.connection, sql)?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await
            .unwrap();
        for (limit, pages) in [
            // The data of four versions, the MACs of five, and two secrets.
            (
                1,
                vec![
                    vec![1],
                    vec![1],
                    vec![1],
                    vec![2],
                    vec![1],
                    vec![1],
                    vec![2],
                    vec![3],
                    vec![3],
                    vec![4],
                    vec![6],
                ],
            ),
            (3, vec![vec![1], vec![2], vec![1, 2], vec![3], vec![4, 6]]),
            (9, vec![vec![1, 2], vec![1, 2, 3], vec![4, 6]]),
        ] {
            let (mut found, mut after) = (vec![], None);
            while let Some(page) =
                store.list_stale_secrets(KeyId::from_stored(1), after, limit).await.unwrap()
            {
                after = Some(page.last);
                assert!(page.secrets.iter().all(|secret| secret.path.is_some()));
                found.push(page.secrets.iter().map(|secret| secret.secret_id).collect::<Vec<_>>());
            }
            assert_eq!(found, pages);
        }
        store.close().await;
    }
}
