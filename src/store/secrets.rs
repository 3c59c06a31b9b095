//! Statements about secrets and their versions.

use std::collections::BTreeMap;

use sqlx::FromRow;

use super::{
    KeyId, Store, StoreError,
    connection::{execute, fetch_all, fetch_optional},
    domains::{config, stored_u32},
    engine::lock_secret,
    transaction::Tx,
};
use crate::{
    crypto::SealedData,
    domain::{
        CustomMetadata, Error, NewVersion, OkmsId, Secret, SecretChange, SecretPath,
        SecretSnapshot, Timestamp, Version, VersionId,
    },
};

/// A version with its sealed data, where that was asked for and is still there.
#[derive(Debug, Clone)]
pub struct StoredVersion {
    /// The version.
    pub version: Version,
    /// Its data.
    pub sealed: Option<SealedData>,
}

/// A secret with one of its versions, where it has that.
#[derive(Debug, Clone)]
pub struct SecretWithVersion {
    /// The secret.
    pub secret: Secret,
    /// The version.
    pub version: Option<StoredVersion>,
}

/// The statement for rows of [`SecretRow`]; what follows begins with the column `sealed_data`.
macro_rules! select_secrets {
    ($rest:literal) => {
        concat!(
            "SELECT s.path, s.cas_required, s.max_versions, s.deactivate_version_after, \
             s.custom_metadata, s.current_version, s.oldest_version, s.created_at, \
             s.updated_at, v.version, v.created_at AS version_created_at, v.deactivated_at, \
             CAST(CASE WHEN v.sealed_data IS NULL THEN 1 ELSE 0 END AS BIGINT) AS deleted, ",
            $rest
        )
    };
}

impl Store {
    /// A secret with the given version, or else its current one.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_secret(
        &self,
        okms_id: OkmsId,
        path: &SecretPath,
        version: Option<VersionId>,
        with_data: bool,
    ) -> Result<Option<SecretWithVersion>, Error> {
        // The cast tells PostgreSQL the type of a parameter that may be NULL.
        let sql = select_secrets!(
            "CASE WHEN CAST($4 AS BIGINT) = 1 THEN v.sealed_data END AS sealed_data \
                   FROM secrets s LEFT JOIN secret_versions v ON v.secret_id = s.secret_id \
                   AND v.version = COALESCE(CAST($3 AS BIGINT), s.current_version) \
                   WHERE s.okms_id = $1 AND s.path = $2"
        );
        let path = path.clone();
        let row = self
            .read(move |connection| {
                let path = path.clone();
                Box::pin(async move {
                    fetch_optional!(
                        connection,
                        SecretRow,
                        sql,
                        okms_id.to_string(),
                        path.as_str(),
                        version.map(|version| i64::from(version.get())),
                        i64::from(with_data),
                    )
                })
            })
            .await?;
        row.map(SecretWithVersion::try_from).transpose()
    }

    /// Secrets of a domain with their current versions, without data, in the order of the bytes of
    /// their paths.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_secrets(
        &self,
        okms_id: OkmsId,
        after: Option<&SecretPath>,
        limit: u32,
    ) -> Result<Vec<SecretWithVersion>, Error> {
        // The limit comes before the join, or PostgreSQL joins all secrets first. No path is empty,
        // so the first page begins after the empty one.
        let sql = select_secrets!(
            "CASE WHEN 1 = 0 THEN v.sealed_data END AS sealed_data \
                   FROM (SELECT * FROM secrets WHERE okms_id = $1 AND path > $2 \
                   ORDER BY path LIMIT $3) s \
                   LEFT JOIN secret_versions v ON v.secret_id = s.secret_id \
                   AND v.version = s.current_version ORDER BY s.path"
        );
        let after = after.map_or("", SecretPath::as_str).to_owned();
        let rows = self
            .read(move |connection| {
                let after = after.clone();
                Box::pin(async move {
                    let (okms_id, limit) = (okms_id.to_string(), i64::from(limit));
                    fetch_all!(connection, SecretRow, sql, &okms_id, after, limit)
                })
            })
            .await?;
        rows.into_iter().map(SecretWithVersion::try_from).collect()
    }

    /// Versions of a secret above the number `after`, ascending; `None` where there is no such
    /// secret.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_versions(
        &self,
        okms_id: OkmsId,
        path: &SecretPath,
        after: u32,
        limit: u32,
    ) -> Result<Option<Vec<Version>>, Error> {
        // A secret without versions in the range gives one row without a version.
        let sql = "SELECT v.version, v.created_at AS version_created_at, v.deactivated_at, \
                   CAST(CASE WHEN v.sealed_data IS NULL THEN 1 ELSE 0 END AS BIGINT) AS deleted \
                   FROM secrets s LEFT JOIN secret_versions v ON v.secret_id = s.secret_id \
                   AND v.version > $3 WHERE s.okms_id = $1 AND s.path = $2 \
                   ORDER BY v.version LIMIT $4";
        let path = path.clone();
        let rows = self
            .read(move |connection| {
                let path = path.clone();
                Box::pin(async move {
                    fetch_all!(
                        connection,
                        VersionRow,
                        sql,
                        okms_id.to_string(),
                        path.as_str(),
                        i64::from(after),
                        i64::from(limit),
                    )
                })
            })
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let versions = rows.into_iter().filter_map(|row| row.into_version().transpose());
        versions.collect::<Result<_, _>>().map(Some)
    }

    /// Changes a secret: reads it under lock, asks `decide` what is to be written, and writes that as
    /// one whole.
    ///
    /// Gives what it read and what it wrote. The snapshot holds the version that is named here.
    /// `decide` may be asked again after a conflict; it gives the data of the version that its change
    /// adds, if it adds one, sealed with the key `key_id`. The secret's own row is under that key too.
    ///
    /// Gives nothing, and does nothing, where that key has been destroyed: another process has a newer
    /// one.
    ///
    /// # Errors
    ///
    /// What `decide` refuses with; [`Error::DomainNotFound`]; or when storage fails.
    pub async fn change_secret<F>(
        &self,
        okms_id: OkmsId,
        path: SecretPath,
        version: Option<VersionId>,
        key_id: KeyId,
        decide: F,
    ) -> Result<Option<(SecretSnapshot, SecretChange)>, Error>
    where
        F: Fn(&SecretSnapshot) -> Result<(SecretChange, Option<SealedData>), Error>
            + Send
            + Sync
            + 'static,
    {
        let unit = std::sync::Arc::new((okms_id.to_string(), path, decide));
        self.write(move |tx| {
            let unit = std::sync::Arc::clone(&unit);
            Box::pin(async move {
                let (okms_id, path, decide) = &*unit;
                let snapshot = snapshot(tx, okms_id, path, version, key_id).await?;
                let Some((secret_id, snapshot)) = snapshot else { return Ok(None) };
                let (change, sealed) = decide(&snapshot)?;
                let place = Place { okms_id, secret_id, key_id };
                apply(tx, &place, &change, sealed.as_ref()).await?;
                Ok(Some((snapshot, change)))
            })
        })
        .await
    }
}

/// Which secret a change is of, and under which key its writes are.
struct Place<'a> {
    okms_id: &'a str,
    /// None where the change makes it.
    secret_id: Option<i64>,
    key_id: KeyId,
}

/// Reads what a decision may look at, under the lock of the secret; nothing where the key is gone.
///
/// The key is not locked. Should it go before the transaction ends, then the reference to it fails, and
/// the next try finds that it is gone.
async fn snapshot(
    tx: &mut Tx<'_>,
    okms_id: &str,
    path: &SecretPath,
    version: Option<VersionId>,
    key_id: KeyId,
) -> Result<Option<(Option<i64>, SecretSnapshot)>, StoreError> {
    let lock = lock_secret(&mut tx.connection, okms_id, path.as_str()).await?;
    let row = fetch_optional!(
        &mut tx.connection,
        SnapshotRow,
        "SELECT d.cas_required AS domain_cas_required, d.max_versions AS domain_max_versions, \
         d.deactivate_version_after AS domain_deactivate_version_after, s.secret_id, \
         s.cas_required, s.max_versions, s.deactivate_version_after, s.custom_metadata, \
         s.current_version, s.oldest_version, s.created_at, s.updated_at, v.version, \
         v.created_at AS version_created_at, v.deactivated_at, \
         CAST(CASE WHEN v.sealed_data IS NULL THEN 1 ELSE 0 END AS BIGINT) AS deleted, \
         (SELECT COUNT(*) FROM domain_keys k WHERE k.key_id = $4 AND k.okms_id = d.okms_id) \
         AS keys_found FROM domains d LEFT JOIN secrets s ON s.okms_id = d.okms_id AND s.path = $2 \
         LEFT JOIN secret_versions v ON v.secret_id = s.secret_id \
         AND v.version = CAST($3 AS BIGINT) WHERE d.okms_id = $1",
        okms_id,
        path.as_str(),
        version.map(|version| i64::from(version.get())),
        key_id.as_i64(),
    )?;
    let row = row.ok_or(Error::DomainNotFound)?;
    if !lock.covers(row.secret_id) {
        // It was made after the lock was asked for: another transaction could change it now.
        return Err(StoreError::Overtaken);
    }
    if row.keys_found == 0 {
        return Ok(None);
    }
    Ok(Some((row.secret_id, row.into_snapshot(path)?)))
}

/// Writes a change.
async fn apply(
    tx: &mut Tx<'_>,
    place: &Place<'_>,
    change: &SecretChange,
    sealed: Option<&SealedData>,
) -> Result<(), StoreError> {
    let existing =
        || place.secret_id.ok_or_else(|| Error::Internal("a change of no secret".into()));
    tx.wrote = !matches!(change, SecretChange::KeepVersion(_));
    match change {
        SecretChange::Insert { secret, version } => {
            let secret_id = insert_secret(tx, place, secret).await?;
            if let Some(version) = version {
                insert_version(tx, secret_id, place.key_id, version, sealed).await?;
            }
        }
        SecretChange::Update { secret, version, prune_through } => {
            let secret_id = existing()?;
            update_secret(tx, secret_id, place.key_id, secret).await?;
            if let Some(version) = version {
                insert_version(tx, secret_id, place.key_id, version, sealed).await?;
            }
            if let Some(last) = prune_through {
                tx.destroyed = true;
                let sql = "DELETE FROM secret_versions WHERE secret_id = $1 AND version <= $2";
                execute!(&mut tx.connection, sql, secret_id, i64::from(last.get()))?;
            }
        }
        SecretChange::SetVersion(version) => {
            tx.deleted |= version.deleted;
            execute!(
                &mut tx.connection,
                "UPDATE secret_versions SET deactivated_at = $3, \
                 sealed_data = CASE WHEN CAST($4 AS BIGINT) = 1 THEN NULL ELSE sealed_data END, \
                 key_id = CASE WHEN CAST($4 AS BIGINT) = 1 THEN NULL ELSE key_id END \
                 WHERE secret_id = $1 AND version = $2",
                existing()?,
                i64::from(version.id.get()),
                version.deactivated_at.map(Timestamp::as_millis),
                i64::from(version.deleted),
            )?;
        }
        SecretChange::KeepVersion(_) => {}
        SecretChange::Delete => {
            tx.deleted = true;
            execute!(&mut tx.connection, "DELETE FROM secrets WHERE secret_id = $1", existing()?)?;
        }
    }
    Ok(())
}

async fn insert_secret(
    tx: &mut Tx<'_>,
    place: &Place<'_>,
    secret: &Secret,
) -> Result<i64, StoreError> {
    let row = fetch_optional!(
        &mut tx.connection,
        (i64,),
        "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
         deactivate_version_after, custom_metadata, current_version, oldest_version, created_at, \
         updated_at, key_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         RETURNING secret_id",
        place.okms_id,
        secret.path.as_str(),
        i64::from(secret.config.cas_required),
        i64::from(secret.config.max_versions),
        secret.config.deactivate_version_after.as_str(),
        custom_metadata_text(secret)?,
        i64::from(secret.current_version),
        i64::from(secret.oldest_version),
        secret.created_at.as_millis(),
        secret.updated_at.as_millis(),
        place.key_id.as_i64(),
    )?;
    let (secret_id,) = row.ok_or_else(|| Error::Internal("an insert gave no id".into()))?;
    Ok(secret_id)
}

async fn update_secret(
    tx: &mut Tx<'_>,
    id: i64,
    key_id: KeyId,
    secret: &Secret,
) -> Result<(), StoreError> {
    execute!(
        &mut tx.connection,
        "UPDATE secrets SET cas_required = $2, max_versions = $3, deactivate_version_after = $4, \
         custom_metadata = $5, current_version = $6, oldest_version = $7, updated_at = $8, key_id = $9 \
         WHERE secret_id = $1",
        id,
        i64::from(secret.config.cas_required),
        i64::from(secret.config.max_versions),
        secret.config.deactivate_version_after.as_str(),
        custom_metadata_text(secret)?,
        i64::from(secret.current_version),
        i64::from(secret.oldest_version),
        secret.updated_at.as_millis(),
        key_id.as_i64(),
    )?;
    Ok(())
}

async fn insert_version(
    tx: &mut Tx<'_>,
    secret_id: i64,
    key_id: KeyId,
    version: &NewVersion,
    sealed: Option<&SealedData>,
) -> Result<(), StoreError> {
    let sealed = sealed.ok_or_else(|| Error::Internal("a version without sealed data".into()))?;
    execute!(
        &mut tx.connection,
        "INSERT INTO secret_versions (secret_id, version, created_at, deactivated_at, sealed_data, \
         key_id) VALUES ($1, $2, $3, $4, $5, $6)",
        secret_id,
        i64::from(version.id.get()),
        version.created_at.as_millis(),
        version.deactivated_at.map(Timestamp::as_millis),
        sealed.as_bytes(),
        key_id.as_i64(),
    )?;
    Ok(())
}

#[derive(FromRow)]
struct SecretRow {
    path: String,
    cas_required: i64,
    max_versions: i64,
    deactivate_version_after: String,
    custom_metadata: String,
    current_version: i64,
    oldest_version: i64,
    created_at: i64,
    updated_at: i64,
    #[sqlx(flatten)]
    version: VersionRow,
    sealed_data: Option<Vec<u8>>,
}

impl TryFrom<SecretRow> for SecretWithVersion {
    type Error = Error;

    fn try_from(row: SecretRow) -> Result<Self, Error> {
        let secret = Secret {
            path: SecretPath::parse(&row.path)
                .map_err(|_| Error::Internal("stored path".into()))?,
            config: config(row.cas_required, row.max_versions, &row.deactivate_version_after)?,
            custom_metadata: custom_metadata(&row.custom_metadata)?,
            current_version: stored_u32(row.current_version)?,
            oldest_version: stored_u32(row.oldest_version)?,
            created_at: Timestamp::from_millis(row.created_at),
            updated_at: Timestamp::from_millis(row.updated_at),
        };
        let sealed = row.sealed_data.map(SealedData::from_stored);
        let version = row.version.into_version()?;
        let version = version.map(|version| StoredVersion { version, sealed });
        Ok(Self { secret, version })
    }
}

/// The columns of a version that may be missing.
#[derive(FromRow)]
struct VersionRow {
    version: Option<i64>,
    version_created_at: Option<i64>,
    deactivated_at: Option<i64>,
    deleted: i64,
}

impl VersionRow {
    fn into_version(self) -> Result<Option<Version>, Error> {
        let (Some(id), Some(created_at)) = (self.version, self.version_created_at) else {
            return Ok(None);
        };
        Ok(Some(Version {
            id: VersionId::new(stored_u32(id)?)
                .map_err(|_| Error::Internal("stored version number".into()))?,
            created_at: Timestamp::from_millis(created_at),
            deactivated_at: self.deactivated_at.map(Timestamp::from_millis),
            deleted: self.deleted != 0,
        }))
    }
}

#[derive(FromRow)]
struct SnapshotRow {
    domain_cas_required: i64,
    domain_max_versions: i64,
    domain_deactivate_version_after: String,
    secret_id: Option<i64>,
    cas_required: Option<i64>,
    max_versions: Option<i64>,
    deactivate_version_after: Option<String>,
    custom_metadata: Option<String>,
    current_version: Option<i64>,
    oldest_version: Option<i64>,
    created_at: Option<i64>,
    updated_at: Option<i64>,
    #[sqlx(flatten)]
    version: VersionRow,
    keys_found: i64,
}

impl SnapshotRow {
    fn into_snapshot(self, path: &SecretPath) -> Result<SecretSnapshot, Error> {
        let absent = || Error::Internal("a stored secret lacks a column".into());
        let secret = match self.secret_id {
            None => None,
            Some(_) => Some(Secret {
                path: path.clone(),
                config: config(
                    self.cas_required.ok_or_else(absent)?,
                    self.max_versions.ok_or_else(absent)?,
                    &self.deactivate_version_after.ok_or_else(absent)?,
                )?,
                custom_metadata: custom_metadata(&self.custom_metadata.ok_or_else(absent)?)?,
                current_version: stored_u32(self.current_version.ok_or_else(absent)?)?,
                oldest_version: stored_u32(self.oldest_version.ok_or_else(absent)?)?,
                created_at: Timestamp::from_millis(self.created_at.ok_or_else(absent)?),
                updated_at: Timestamp::from_millis(self.updated_at.ok_or_else(absent)?),
            }),
        };
        Ok(SecretSnapshot {
            domain_config: config(
                self.domain_cas_required,
                self.domain_max_versions,
                &self.domain_deactivate_version_after,
            )?,
            secret,
            version: self.version.into_version()?,
        })
    }
}

fn custom_metadata_text(secret: &Secret) -> Result<String, Error> {
    serde_json::to_string(secret.custom_metadata.entries())
        .map_err(|_| Error::Internal("custom metadata cannot be written as JSON".into()))
}

fn custom_metadata(text: &str) -> Result<CustomMetadata, Error> {
    let broken = || Error::Internal("stored custom metadata".into());
    let entries: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| broken())?;
    CustomMetadata::new(entries).map_err(|_| broken())
}
