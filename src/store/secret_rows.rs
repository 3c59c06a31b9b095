//! Rows of secrets and versions as they are stored.
//!
//! They may have been changed by anyone who can write to the database. What is made of them here is
//! right by its type and no more: nothing of it may be used before its proof is verified, which takes keys
//! that this layer does not have.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use sqlx::FromRow;

use super::{
    KeyId,
    domains::{config, stored_u32},
};
use crate::{
    crypto::{
        DataSeal, Incarnation, RowMac, SealId, SealedData, SecretRecord, StateChanges,
        VersionRecord,
    },
    domain::{
        CustomMetadata, Error, Secret, SecretConfig, SecretPath, Timestamp, Version, VersionId,
    },
};

/// A MAC, and the key that it is under. A row that lacks one proves nothing.
#[derive(Debug, Clone)]
pub struct RowProof {
    /// The key.
    pub key_id: KeyId,
    /// The MAC.
    pub mac: RowMac,
}

/// A secret as it is stored: not to be used before its proof is verified.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    /// What the proof is of.
    pub record: SecretRecord,
    /// The proof.
    pub proof: Option<RowProof>,
    /// A row of the version after the current one. Where that verifies, this is an older copy of the
    /// secret's row; where it does not, it is nobody's.
    pub following: Option<Box<StoredVersion>>,
}

/// A version as it is stored, with its data, where that was asked for and is still there: not to be used
/// before its proof is verified.
#[derive(Debug, Clone)]
pub struct StoredVersion {
    /// What the proof is of.
    pub record: VersionRecord,
    /// The proof.
    pub proof: Option<RowProof>,
    /// Its data.
    pub sealed: Option<SealedData>,
}

/// A secret with one of its versions, where it has that.
#[derive(Debug)]
pub struct SecretWithVersion {
    /// The secret.
    pub secret: StoredSecret,
    /// The version.
    pub version: Option<StoredVersion>,
    /// By which keys these rows are known to be what they should.
    pub verified: Verified,
}

/// By which keys rows were verified last. Those that are kept in memory do not change there, so that they need it once
/// for as long as the keys are the same. It is for that alone: rows that have it are never to be changed or copied.
#[derive(Debug, Default)]
pub struct Verified(AtomicU64);

impl Verified {
    /// Whether it was by these keys.
    pub fn is_by(&self, keys: u64) -> bool {
        self.0.load(Ordering::Relaxed) == keys
    }

    /// Notes that it was by these keys.
    pub fn note(&self, keys: u64) {
        self.0.store(keys, Ordering::Relaxed);
    }
}

/// What a decision may look at once it is verified: read under the lock under which the change is written.
#[derive(Debug, Clone)]
pub struct StoredSnapshot {
    /// The defaults of the domain.
    pub domain_config: SecretConfig,
    /// The secret, if there is one at the path.
    pub secret: Option<StoredSecret>,
    /// Those of the versions that are wanted which the secret has, ascending.
    pub versions: Vec<StoredVersion>,
}

/// The columns of [`SecretRow`], for tables `s` and `n`, without the custom metadata.
macro_rules! secret_columns {
    () => {
        "s.path, s.cas_required, s.max_versions, s.deactivate_version_after, s.current_version, \
         s.oldest_version, s.created_at, s.updated_at, s.incarnation, s.state_changes, s.mac, \
         s.key_id, n.version AS next_version, n.created_at AS next_created_at, \
         n.deactivated_at AS next_deactivated_at, n.state_changes AS next_state_changes, \
         n.mac AS next_mac, n.mac_key_id AS next_mac_key_id, n.key_id AS next_data_key_id, \
         substr(n.sealed_data, 1, 17) AS next_seal_id"
    };
}

/// The columns of [`VersionRow`], for a table `v`. The bytes of the data are as many as
/// [`SealId::LEN`].
macro_rules! version_columns {
    () => {
        "v.version, v.created_at AS version_created_at, v.deactivated_at, \
         v.state_changes AS version_state_changes, v.mac AS version_mac, v.mac_key_id, \
         v.key_id AS data_key_id, substr(v.sealed_data, 1, 17) AS seal_id"
    };
}

/// What gives the table `n` of the columns of [`SecretRow`].
macro_rules! join_following {
    () => {
        "LEFT JOIN secret_versions n ON n.secret_id = s.secret_id \
         AND n.version = s.current_version + 1"
    };
}

pub(super) use {join_following, secret_columns, version_columns};

/// A row of a secret. All columns may be missing, where it is joined to something else.
#[derive(FromRow)]
pub(super) struct SecretRow {
    path: Option<String>,
    cas_required: Option<i64>,
    max_versions: Option<i64>,
    deactivate_version_after: Option<String>,
    custom_metadata: Option<String>,
    current_version: Option<i64>,
    oldest_version: Option<i64>,
    created_at: Option<i64>,
    updated_at: Option<i64>,
    incarnation: Option<Vec<u8>>,
    state_changes: Option<Vec<u8>>,
    mac: Option<Vec<u8>>,
    key_id: Option<i64>,
    #[sqlx(flatten)]
    following: FollowingRow,
}

/// The columns of the version after a secret's current one.
#[derive(FromRow)]
struct FollowingRow {
    next_version: Option<i64>,
    next_created_at: Option<i64>,
    next_deactivated_at: Option<i64>,
    next_state_changes: Option<i64>,
    next_mac: Option<Vec<u8>>,
    next_mac_key_id: Option<i64>,
    next_data_key_id: Option<i64>,
    next_seal_id: Option<Vec<u8>>,
}

impl From<FollowingRow> for VersionRow {
    fn from(row: FollowingRow) -> Self {
        Self {
            version: row.next_version,
            version_created_at: row.next_created_at,
            deactivated_at: row.next_deactivated_at,
            version_state_changes: row.next_state_changes,
            version_mac: row.next_mac,
            mac_key_id: row.next_mac_key_id,
            data_key_id: row.next_data_key_id,
            seal_id: row.next_seal_id,
        }
    }
}

impl SecretRow {
    pub(super) fn into_secret(self) -> Result<Option<StoredSecret>, Error> {
        let Some(path) = self.path else { return Ok(None) };
        let absent = || broken("lacks a column");
        let secret = Secret {
            path: SecretPath::parse(&path).map_err(|_| broken("has no path"))?,
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
        };
        let incarnation = Incarnation::from_stored(&self.incarnation.ok_or_else(absent)?)
            .map_err(|_| broken("has no incarnation"))?;
        let state_changes = match self.state_changes {
            Some(bytes) => StateChanges::from_stored(&bytes)
                .map_err(|_| broken("has no list of state changes"))?,
            None => StateChanges::default(),
        };
        Ok(Some(StoredSecret {
            record: SecretRecord { secret, incarnation, state_changes },
            proof: proof(self.key_id, self.mac)?,
            // One that cannot be read does not verify.
            following: VersionRow::from(self.following)
                .into_version(None)
                .ok()
                .flatten()
                .map(Box::new),
        }))
    }
}

/// A row of a version. All columns may be missing, where it is joined to something else.
#[derive(FromRow)]
pub(super) struct VersionRow {
    version: Option<i64>,
    version_created_at: Option<i64>,
    deactivated_at: Option<i64>,
    version_state_changes: Option<i64>,
    version_mac: Option<Vec<u8>>,
    mac_key_id: Option<i64>,
    data_key_id: Option<i64>,
    seal_id: Option<Vec<u8>>,
}

impl VersionRow {
    pub(super) fn into_version(
        self,
        sealed: Option<Vec<u8>>,
    ) -> Result<Option<StoredVersion>, Error> {
        let (Some(id), Some(created_at)) = (self.version, self.version_created_at) else {
            return Ok(None);
        };
        let version = Version {
            id: VersionId::new(stored_u32(id)?).map_err(|_| broken("has no version number"))?,
            created_at: Timestamp::from_millis(created_at),
            deactivated_at: self.deactivated_at.map(Timestamp::from_millis),
            deleted: self.seal_id.is_none(),
        };
        let data = match (self.seal_id, self.data_key_id) {
            (Some(id), Some(key)) => {
                Some(DataSeal { id: SealId::from_stored(id), key: KeyId::from_stored(key) })
            }
            (None, None) => None,
            _ => return Err(broken("has data without a key, or a key without data")),
        };
        let state_changes = stored_u32(self.version_state_changes.unwrap_or_default())?;
        Ok(Some(StoredVersion {
            record: VersionRecord { version, data, state_changes },
            proof: proof(self.mac_key_id, self.version_mac)?,
            sealed: sealed.map(SealedData::from_stored),
        }))
    }
}

/// A secret with a version, and data in the column `sealed_data`.
#[derive(FromRow)]
pub(super) struct SecretWithVersionRow {
    #[sqlx(flatten)]
    secret: SecretRow,
    #[sqlx(flatten)]
    version: VersionRow,
    sealed_data: Option<Vec<u8>>,
}

impl SecretWithVersionRow {
    pub(super) fn into_secret(self) -> Result<SecretWithVersion, Error> {
        let secret = self.secret.into_secret()?.ok_or_else(|| broken("is not there"))?;
        let version = self.version.into_version(self.sealed_data)?;
        Ok(SecretWithVersion { secret, version, verified: Verified::default() })
    }
}

/// What a decision is made on.
#[derive(FromRow)]
pub(super) struct SnapshotRow {
    domain_cas_required: i64,
    domain_max_versions: i64,
    domain_deactivate_version_after: String,
    pub(super) secret_id: Option<i64>,
    pub(super) keys_found: i64,
    /// Of the domain, where there is no secret at the path; else 0.
    pub(super) domain_secrets: i64,
    #[sqlx(flatten)]
    secret: SecretRow,
}

impl SnapshotRow {
    pub(super) fn into_snapshot(self) -> Result<StoredSnapshot, Error> {
        Ok(StoredSnapshot {
            domain_config: config(
                self.domain_cas_required,
                self.domain_max_versions,
                &self.domain_deactivate_version_after,
            )?,
            secret: self.secret.into_secret()?,
            versions: Vec::new(),
        })
    }
}

/// A version, and its data in the column `sealed_data`.
#[derive(FromRow)]
pub(super) struct VersionWithDataRow {
    #[sqlx(flatten)]
    version: VersionRow,
    sealed_data: Option<Vec<u8>>,
}

impl VersionWithDataRow {
    pub(super) fn into_version(self) -> Result<Option<StoredVersion>, Error> {
        self.version.into_version(self.sealed_data)
    }
}

/// A version of a secret, and in the first row the secret.
#[derive(FromRow)]
pub(super) struct ListedVersionRow {
    #[sqlx(flatten)]
    pub(super) secret: SecretRow,
    #[sqlx(flatten)]
    pub(super) version: VersionRow,
}

fn proof(key_id: Option<i64>, mac: Option<Vec<u8>>) -> Result<Option<RowProof>, Error> {
    let (Some(key_id), Some(mac)) = (key_id, mac) else { return Ok(None) };
    let mac = RowMac::from_stored(&mac).map_err(|_| broken("has a MAC of another length"))?;
    Ok(Some(RowProof { key_id: KeyId::from_stored(key_id), mac }))
}

pub(super) fn custom_metadata_text(secret: &Secret) -> Result<String, Error> {
    serde_json::to_string(secret.custom_metadata.entries())
        .map_err(|_| Error::Internal("custom metadata cannot be written as JSON".into()))
}

fn custom_metadata(text: &str) -> Result<CustomMetadata, Error> {
    let refused = || broken("has broken custom metadata");
    let entries: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| refused())?;
    CustomMetadata::new(entries).map_err(|_| refused())
}

fn broken(what: &str) -> Error {
    Error::Internal(format!("a stored row {what}"))
}

/// Says which secret an error is about.
pub(super) fn of_secret(path: &SecretPath, error: Error) -> Error {
    match error {
        Error::Internal(text) => Error::Internal(format!("secret {}: {text}", path.as_str())),
        error => error,
    }
}
