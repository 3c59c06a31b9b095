//! Rows of a time before rows had proofs.
//!
//! They are read in the order of their keys, so that a pass over a large store reads it once. A row that has
//! got its proof meanwhile keeps it: two processes may be at it.

use sqlx::FromRow;

use super::{
    KeyId, Store, StoreError,
    connection::{execute, fetch_all},
    secret_rows::{
        SecretRow, VersionRow, join_following, of_secret, secret_columns, version_columns,
    },
};
use crate::{
    crypto::{Incarnation, RowMac, SecretRecord, VersionRecord, WrappedKey},
    domain::{Error, OkmsId, SecretPath},
};

/// The row of a secret without a proof.
#[derive(Debug, Clone)]
pub struct UnprovenSecret {
    /// Which row it is.
    pub secret_id: i64,
    /// The domain that it belongs to.
    pub okms_id: OkmsId,
    /// What is to be proven.
    pub record: SecretRecord,
}

/// The row of a version without a proof.
#[derive(Debug, Clone)]
pub struct UnprovenVersion {
    /// Which row it is, with the number of the version.
    pub secret_id: i64,
    /// The domain that it belongs to.
    pub okms_id: OkmsId,
    /// The path of its secret.
    pub path: SecretPath,
    /// Which of all secrets of that path it belongs to.
    pub incarnation: Incarnation,
    /// What is to be proven.
    pub record: VersionRecord,
}

/// Some rows, each readable or not, and after which row there are more.
#[derive(Debug, Clone)]
pub struct UnprovenPage<T, Key> {
    /// The rows.
    pub rows: Vec<Result<T, Error>>,
    /// The key of the last one; nothing where there is none.
    pub last: Option<Key>,
}

/// A proof for a row.
#[derive(Debug, Clone)]
pub struct NewProof {
    /// The secret.
    pub secret_id: i64,
    /// The version; nothing where the row is that of the secret.
    pub version: Option<u32>,
    /// The key that the MAC is under.
    pub key_id: KeyId,
    /// The MAC.
    pub mac: RowMac,
}

impl Store {
    /// Rows of secrets without proofs, by number, above the number `after`.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_unproven_secrets(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<UnprovenPage<UnprovenSecret, i64>, Error> {
        let sql = concat!(
            "SELECT s.secret_id, s.okms_id, ",
            secret_columns!(),
            ", s.custom_metadata FROM secrets s ",
            join_following!(),
            " WHERE s.mac IS NULL AND s.secret_id > $1 ORDER BY s.secret_id LIMIT $2"
        );
        let rows = self
            .read(move |connection| {
                Box::pin(async move {
                    fetch_all!(connection, UnprovenSecretRow, sql, after, i64::from(limit))
                })
            })
            .await?;
        let last = rows.last().map(|row| row.secret_id);
        Ok(UnprovenPage { rows: rows.into_iter().map(UnprovenSecret::try_from).collect(), last })
    }

    /// Rows of versions without proofs, by the number of their secret and their own, above those numbers.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_unproven_versions(
        &self,
        after: (i64, i64),
        limit: u32,
    ) -> Result<UnprovenPage<UnprovenVersion, (i64, i64)>, Error> {
        let sql = concat!(
            "SELECT s.secret_id, s.okms_id, s.path, s.incarnation, v.version AS version_number, ",
            version_columns!(),
            " FROM secret_versions v JOIN secrets s ON s.secret_id = v.secret_id \
             WHERE v.mac IS NULL AND (v.secret_id, v.version) > ($1, $2) \
             ORDER BY v.secret_id, v.version LIMIT $3"
        );
        let rows = self
            .read(move |connection| {
                Box::pin(async move {
                    let limit = i64::from(limit);
                    fetch_all!(connection, UnprovenVersionRow, sql, after.0, after.1, limit)
                })
            })
            .await?;
        let last = rows.last().map(|row| (row.secret_id, row.version_number));
        Ok(UnprovenPage { rows: rows.into_iter().map(UnprovenVersion::try_from).collect(), last })
    }

    /// Gives proofs to rows that have none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn prove_rows(&self, proofs: Vec<NewProof>) -> Result<(), Error> {
        let proofs = std::sync::Arc::new(proofs);
        self.write(move |tx| {
            let proofs = std::sync::Arc::clone(&proofs);
            Box::pin(async move {
                tx.wrote = true;
                for proof in &*proofs {
                    let (key_id, mac) = (proof.key_id.as_i64(), &proof.mac.as_bytes()[..]);
                    match proof.version {
                        Some(version) => execute!(
                            &mut tx.connection,
                            "UPDATE secret_versions SET mac_key_id = $3, mac = $4 \
                             WHERE secret_id = $1 AND version = $2 AND mac IS NULL",
                            proof.secret_id,
                            i64::from(version),
                            key_id,
                            mac
                        )?,
                        None => execute!(
                            &mut tx.connection,
                            "UPDATE secrets SET key_id = $2, mac = $3 \
                             WHERE secret_id = $1 AND mac IS NULL",
                            proof.secret_id,
                            key_id,
                            mac
                        )?,
                    };
                }
                Ok::<_, StoreError>(())
            })
        })
        .await
    }

    /// Replaces a wrapped key of a domain by another wrapping of the same key, unless another process has
    /// wrapped it anew.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn replace_wrapping(
        &self,
        key_id: KeyId,
        present: WrappedKey,
        new: WrappedKey,
    ) -> Result<(), Error> {
        let unit = std::sync::Arc::new((present, new));
        self.write(move |tx| {
            let unit = std::sync::Arc::clone(&unit);
            Box::pin(async move {
                tx.wrote = true;
                execute!(
                    &mut tx.connection,
                    "UPDATE domain_keys SET wrapped_key = $3 WHERE key_id = $1 AND wrapped_key = $2",
                    key_id.as_i64(),
                    unit.0.as_bytes(),
                    unit.1.as_bytes()
                )?;
                Ok::<_, StoreError>(())
            })
        })
        .await
    }
}

#[derive(FromRow)]
struct UnprovenSecretRow {
    secret_id: i64,
    okms_id: String,
    #[sqlx(flatten)]
    secret: SecretRow,
}

impl TryFrom<UnprovenSecretRow> for UnprovenSecret {
    type Error = Error;

    fn try_from(row: UnprovenSecretRow) -> Result<Self, Error> {
        let secret = row.secret.into_secret()?;
        let secret = secret.ok_or_else(|| Error::Internal("a stored secret has no path".into()))?;
        Ok(Self {
            secret_id: row.secret_id,
            okms_id: okms_id(&row.okms_id)?,
            record: secret.record,
        })
    }
}

#[derive(FromRow)]
struct UnprovenVersionRow {
    secret_id: i64,
    okms_id: String,
    path: String,
    incarnation: Option<Vec<u8>>,
    version_number: i64,
    #[sqlx(flatten)]
    version: VersionRow,
}

impl TryFrom<UnprovenVersionRow> for UnprovenVersion {
    type Error = Error;

    fn try_from(row: UnprovenVersionRow) -> Result<Self, Error> {
        let broken = || Error::Internal("a stored version or its secret cannot be read".into());
        let path = SecretPath::parse(&row.path).map_err(|_| broken())?;
        let incarnation = row.incarnation.unwrap_or_default();
        let incarnation = Incarnation::from_stored(&incarnation).map_err(|_| broken())?;
        let version = row.version.into_version(None).map_err(|error| of_secret(&path, error))?;
        Ok(Self {
            secret_id: row.secret_id,
            okms_id: okms_id(&row.okms_id)?,
            path,
            incarnation,
            record: version.ok_or_else(broken)?.record,
        })
    }
}

fn okms_id(text: &str) -> Result<OkmsId, Error> {
    text.parse().map_err(|_| Error::Internal("stored okmsId".into()))
}
