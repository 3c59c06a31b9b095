//! Statements that change secrets and their versions.

use sqlx::FromRow;

use super::{
    Connection, KeyId, RowProof, Store, StoreError, StoredSnapshot, StoredVersion,
    connection::{execute, fetch_all, fetch_optional},
    engine::lock_secret,
    idempotency::{Earlier, OnceKey, StoredOutcome, find_earlier, keep},
    pipeline,
    row_cache::SecretKey,
    secret_counts::{check_room, count_gone, count_new},
    secret_rows::{
        SnapshotRow, VersionWithDataRow, custom_metadata_text, join_following, of_secret,
        secret_columns, version_columns,
    },
    transaction::{About, Tx, defer},
};
use crate::{
    crypto::{Incarnation, RowMac, SealedData, SealedOutcome, StateChanges},
    domain::{
        Error, NewVersion, OkmsId, Secret, SecretChange, SecretConfig, SecretPath, Timestamp,
        Version, VersionId, Wanted,
    },
};

/// What is to be written, with what proves it; all MACs are under the key that the change was begun with.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The change.
    pub change: SecretChange,
    /// For every change that writes the row of a secret: whose data, settings or version states change.
    pub secret: Option<SecretProof>,
    /// For the rows of versions that the change writes, in its order.
    pub versions: Vec<VersionProof>,
    /// Of a change that is to be done once: what is kept of it, sealed with the same key.
    pub outcome: Option<SealedOutcome>,
}

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// It is written; with the domain's defaults.
    Done(SecretConfig, SecretChange),
    /// It was to be done once, and was done before.
    Before(StoredOutcome),
    /// Nothing: the key that it was begun with has been destroyed, and another process has a newer one.
    KeyGone,
}

/// What is written beside a secret.
#[derive(Debug, Clone)]
pub struct SecretProof {
    /// Which of all secrets of that path it is.
    pub incarnation: Incarnation,
    /// How often the states of its versions were set.
    pub state_changes: StateChanges,
    /// The MAC of its row.
    pub mac: RowMac,
}

/// What is written beside a version.
#[derive(Debug, Clone)]
pub struct VersionProof {
    /// How often its state was set.
    pub state_changes: u32,
    /// The MAC of its row.
    pub mac: RowMac,
    /// The data of a new version, sealed with the key that the change was begun with.
    pub sealed: Option<SealedData>,
}

impl Store {
    /// Removes a secret with all its versions; `false` where there is none. Nothing of its row is read, so
    /// that a damaged one goes as well.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_secret(&self, okms_id: OkmsId, path: SecretPath) -> Result<bool, Error> {
        let about = About { secret: (okms_id, path.clone()), key_id: None, is_repeatable: false };
        self.write_about(about, move |tx| {
            let path = path.clone();
            Box::pin(async move {
                tx.wrote = true;
                let sql = "DELETE FROM secrets WHERE okms_id = $1 AND path = $2";
                let okms_id = okms_id.to_string();
                let rows = execute!(&mut tx.connection, sql, &okms_id, path.as_str())?;
                if rows > 0 {
                    (tx.deleted, tx.surely_changed) = (true, true);
                    count_gone(tx, &okms_id, &path).await?;
                }
                Ok(rows > 0)
            })
        })
        .await
    }

    /// Changes a secret: reads it under lock, asks `decide` what is to be written, and writes that as
    /// one whole.
    ///
    /// The snapshot holds the versions that are wanted here, and none of it is verified. `decide` may be asked
    /// again after a conflict; what it seals and proves is under the key `key_id`.
    ///
    /// One that is to be done `once` keeps what came of it in the same transaction, and does nothing where that
    /// was kept before.
    ///
    /// # Errors
    ///
    /// What `decide` refuses with; [`Error::DomainNotFound`]; [`Error::Idempotency`] where another process is at
    /// the same one, or its caller has too many; or when storage fails.
    pub async fn change_secret<F>(
        &self,
        okms_id: OkmsId,
        path: SecretPath,
        wanted: Wanted,
        key_id: KeyId,
        once: Option<OnceKey>,
        decide: F,
    ) -> Result<Changed, Error>
    where
        F: Fn(&StoredSnapshot) -> Result<Decision, Error> + Send + Sync + 'static,
    {
        let (secret, is_repeatable) = ((okms_id, path), once.is_some());
        let unit = std::sync::Arc::new((secret.clone(), wanted, once, decide));
        let limit = self.secrets_per_domain;
        let about = About { secret, key_id: Some(key_id), is_repeatable };
        self.write_about(about, move |tx| {
            let unit = std::sync::Arc::clone(&unit);
            Box::pin(async move {
                let (secret, wanted, once, decide) = &*unit;
                let okms_id = &*secret.0.to_string();
                let mut number = 0;
                if let Some(once) = once {
                    match find_earlier(tx, okms_id, once).await? {
                        Earlier::Done(outcome) => return Ok(Changed::Before(outcome)),
                        Earlier::None { next } => number = next,
                    }
                }
                let snapshot = snapshot(tx, secret, wanted, key_id).await?;
                let Some((secret_id, domain_secrets, snapshot)) = snapshot else {
                    return Ok(Changed::KeyGone);
                };
                let decision = decide(&snapshot)?;
                let before = snapshot.secret.as_ref().and_then(|secret| secret.proof.as_ref());
                let place = Place { okms_id, secret_id, before, key_id };
                if matches!(decision.change, SecretChange::Insert { .. }) {
                    check_room(tx, okms_id, domain_secrets, limit).await?;
                }
                apply(tx, &place, &decision).await?;
                if let (Some(once), Some(outcome)) = (once, &decision.outcome) {
                    keep(tx, okms_id, once, number, key_id, outcome).await?;
                }
                Ok(Changed::Done(snapshot.domain_config, decision.change))
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
    /// What proves its row before the change.
    before: Option<&'a RowProof>,
    /// The key of all that is written.
    key_id: KeyId,
}

impl Place<'_> {
    /// Whether its row surely becomes another one with this proof. It may be written as it is, twice in a millisecond.
    fn is_changed_by(&self, proof: &SecretProof) -> bool {
        self.before.is_some_and(|before| before.mac != proof.mac)
    }

    /// Whether its row says already that it is under the key. To write the same once more would be to write a page of
    /// the index by key.
    fn is_under_key(&self) -> bool {
        self.before.is_some_and(|before| before.key_id == self.key_id)
    }
}

/// What a decision may look at, for the row of [`SnapshotRow`].
const SNAPSHOT: &str = concat!(
    "SELECT d.cas_required AS domain_cas_required, d.max_versions AS domain_max_versions, \
     d.deactivate_version_after AS domain_deactivate_version_after, s.secret_id, \
     (SELECT COUNT(*) FROM domain_keys k WHERE k.key_id = $3 AND k.okms_id = d.okms_id) \
     AS keys_found, CASE WHEN s.secret_id IS NULL THEN (SELECT CAST(COALESCE(SUM(c.secrets), 0) AS BIGINT) \
     FROM secret_counts c WHERE c.okms_id = d.okms_id) ELSE 0 END AS domain_secrets, ",
    secret_columns!(),
    ", s.custom_metadata FROM domains d \
     LEFT JOIN secrets s ON s.okms_id = d.okms_id AND s.path = $2 ",
    join_following!(),
    " WHERE d.okms_id = $1"
);

/// On SQLite: reads for many units what [`snapshot`] reads for each, all secrets different.
pub(super) async fn look_up(
    tx: &mut Tx<'_>,
    secrets: Vec<(SecretKey, KeyId)>,
) -> Result<(), sqlx::Error> {
    let Connection::Sqlite(connection) = &mut tx.connection else { return Ok(()) };
    let values = |((okms_id, path), key_id): &(SecretKey, KeyId)| {
        vec![okms_id.to_string().into(), path.as_str().into(), key_id.as_i64().into()]
    };
    let values: Vec<_> = secrets.iter().map(values).collect();
    let rows = pipeline::fetch_each_row(connection, SNAPSHOT, &values).await?;
    for ((secret, _), row) in secrets.into_iter().zip(rows) {
        let row = row.map(|row| SnapshotRow::from_row(&row)).transpose()?;
        tx.found.insert(secret, row);
    }
    Ok(())
}

/// Reads what a decision may look at, under the lock of the secret, and beside it the id of the secret or how many
/// others there are; nothing where the key is gone.
///
/// The key is not locked. Should it go before the transaction ends, then the reference to it fails, and
/// the next try finds that it is gone.
async fn snapshot(
    tx: &mut Tx<'_>,
    secret: &SecretKey,
    wanted: &Wanted,
    key_id: KeyId,
) -> Result<Option<(Option<i64>, i64, StoredSnapshot)>, StoreError> {
    let (okms_id, path) = (&*secret.0.to_string(), &secret.1);
    let lock = lock_secret(&mut tx.connection, okms_id, path.as_str()).await?;
    let row = match tx.found.remove(secret) {
        Some(row) => row,
        None => {
            let (path, key_id) = (path.as_str(), key_id.as_i64());
            fetch_optional!(&mut tx.connection, SnapshotRow, SNAPSHOT, okms_id, path, key_id)?
        }
    };
    let row = row.ok_or(Error::DomainNotFound)?;
    if !lock.covers(row.secret_id) {
        // It was made after the lock was asked for: another transaction could change it now.
        return Err(StoreError::Overtaken);
    }
    if row.keys_found == 0 {
        return Ok(None);
    }
    let (secret_id, domain_secrets) = (row.secret_id, row.domain_secrets);
    let mut snapshot = row.into_snapshot().map_err(|error| of_secret(path, error))?;
    if let (Some(id), Some(secret)) = (secret_id, &snapshot.secret) {
        let with_data = *wanted == Wanted::CurrentData;
        let ids = wanted.of(&secret.record.secret);
        let versions = wanted_versions(tx, id, &ids, with_data).await;
        snapshot.versions = versions.map_err(|error| match error {
            StoreError::Refused(error) => StoreError::Refused(of_secret(path, error)),
            error => error,
        })?;
    }
    Ok(Some((secret_id, domain_secrets, snapshot)))
}

/// The versions with these numbers, which are ascending.
async fn wanted_versions(
    tx: &mut Tx<'_>,
    secret_id: i64,
    ids: &[VersionId],
    with_data: bool,
) -> Result<Vec<StoredVersion>, StoreError> {
    let mut versions = Vec::with_capacity(ids.len());
    // There is no list of numbers that both engines take, but neighbours are a range.
    for run in ids.chunk_by(|one, next| one.get() + 1 == next.get()) {
        let [first, ..] = run else { continue };
        let last = run.last().unwrap_or(first);
        let rows = fetch_all!(
            &mut tx.connection,
            VersionWithDataRow,
            concat!(
                "SELECT ",
                version_columns!(),
                ", CASE WHEN CAST($4 AS BIGINT) = 1 THEN v.sealed_data END AS sealed_data \
                 FROM secret_versions v WHERE v.secret_id = $1 AND v.version BETWEEN $2 AND $3 \
                 ORDER BY v.version"
            ),
            secret_id,
            i64::from(first.get()),
            i64::from(last.get()),
            i64::from(with_data),
        )?;
        for row in rows {
            versions.extend(row.into_version()?);
        }
    }
    Ok(versions)
}

/// Writes a change.
async fn apply(tx: &mut Tx<'_>, place: &Place<'_>, decision: &Decision) -> Result<(), StoreError> {
    let lacks = |what: &str| Error::Internal(format!("a change of a secret without {what}"));
    let existing = || place.secret_id.ok_or_else(|| lacks("that"));
    let secret_proof = || decision.secret.as_ref().ok_or_else(|| lacks("its proof"));
    let new_proof = || decision.versions.first().ok_or_else(|| lacks("its version's proof"));
    tx.wrote = !matches!(decision.change, SecretChange::Keep(_));
    match &decision.change {
        SecretChange::Insert { secret, version } => {
            let secret_id = insert_secret(tx, place, secret, secret_proof()?).await?;
            count_new(tx, place.okms_id, &secret.path).await?;
            if let Some(version) = version {
                insert_version(tx, secret_id, place.key_id, version, new_proof()?).await?;
            }
        }
        SecretChange::Update { secret, version, prune_through } => {
            let (secret_id, proof) = (existing()?, secret_proof()?);
            tx.surely_changed |= place.is_changed_by(proof);
            update_secret(tx, secret_id, place, secret, proof).await?;
            if let Some(version) = version {
                insert_version(tx, secret_id, place.key_id, version, new_proof()?).await?;
            }
            if let Some(last) = prune_through {
                tx.destroyed = true;
                let sql = "DELETE FROM secret_versions WHERE secret_id = $1 AND version <= $2";
                defer!(tx, Run, sql, secret_id, i64::from(last.get()))?;
            }
        }
        SecretChange::SetVersions(versions) => {
            let secret_id = existing()?;
            if versions.len() != decision.versions.len() {
                return Err(lacks("the proof of each version").into());
            }
            for (version, proof) in versions.iter().zip(&decision.versions) {
                tx.deleted |= version.deleted;
                set_version(tx, secret_id, place.key_id, version, proof).await?;
            }
            let proof = secret_proof()?;
            tx.surely_changed |= place.is_changed_by(proof);
            count_state_change(tx, secret_id, place, proof).await?;
        }
        SecretChange::Keep(_) => {}
    }
    Ok(())
}

async fn insert_secret(
    tx: &mut Tx<'_>,
    place: &Place<'_>,
    secret: &Secret,
    proof: &SecretProof,
) -> Result<i64, StoreError> {
    let row = fetch_optional!(
        &mut tx.connection,
        (i64,),
        "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
         deactivate_version_after, custom_metadata, current_version, oldest_version, created_at, \
         updated_at, key_id, incarnation, state_changes, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING secret_id",
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
        &proof.incarnation.as_bytes()[..],
        stored_state_changes(&proof.state_changes),
        &proof.mac.as_bytes()[..],
    )?;
    let (secret_id,) = row.ok_or_else(|| Error::Internal("an insert gave no id".into()))?;
    tx.surely_changed = true;
    Ok(secret_id)
}

async fn update_secret(
    tx: &mut Tx<'_>,
    id: i64,
    place: &Place<'_>,
    secret: &Secret,
    proof: &SecretProof,
) -> Result<(), StoreError> {
    defer!(
        tx,
        Change,
        "UPDATE secrets SET cas_required = $2, max_versions = $3, deactivate_version_after = $4, \
         custom_metadata = $5, current_version = $6, oldest_version = $7, updated_at = $8, \
         state_changes = $9, mac = $10 WHERE secret_id = $1",
        id,
        i64::from(secret.config.cas_required),
        i64::from(secret.config.max_versions),
        secret.config.deactivate_version_after.as_str(),
        custom_metadata_text(secret)?,
        i64::from(secret.current_version),
        i64::from(secret.oldest_version),
        secret.updated_at.as_millis(),
        stored_state_changes(&proof.state_changes),
        &proof.mac.as_bytes()[..],
    )?;
    set_key(tx, id, place).await
}

async fn count_state_change(
    tx: &mut Tx<'_>,
    id: i64,
    place: &Place<'_>,
    proof: &SecretProof,
) -> Result<(), StoreError> {
    defer!(
        tx,
        Change,
        "UPDATE secrets SET state_changes = $2, mac = $3 WHERE secret_id = $1",
        id,
        stored_state_changes(&proof.state_changes),
        &proof.mac.as_bytes()[..],
    )?;
    set_key(tx, id, place).await
}

/// Has the row of a secret say under which key its MAC is.
async fn set_key(tx: &mut Tx<'_>, id: i64, place: &Place<'_>) -> Result<(), StoreError> {
    if !place.is_under_key() {
        let sql = "UPDATE secrets SET key_id = $2 WHERE secret_id = $1";
        defer!(tx, Change, sql, id, place.key_id.as_i64())?;
    }
    Ok(())
}

async fn insert_version(
    tx: &mut Tx<'_>,
    secret_id: i64,
    key_id: KeyId,
    version: &NewVersion,
    proof: &VersionProof,
) -> Result<(), StoreError> {
    let sealed = proof.sealed.as_ref();
    let sealed = sealed.ok_or_else(|| Error::Internal("a version without sealed data".into()))?;
    // A row that is there already is nobody's: whoever decided on this change has seen to that.
    defer!(
        tx,
        Change,
        "INSERT INTO secret_versions (secret_id, version, created_at, deactivated_at, sealed_data, \
         key_id, state_changes, mac_key_id, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $6, $8) \
         ON CONFLICT (secret_id, version) DO UPDATE SET created_at = excluded.created_at, \
         deactivated_at = excluded.deactivated_at, sealed_data = excluded.sealed_data, \
         key_id = excluded.key_id, state_changes = excluded.state_changes, \
         mac_key_id = excluded.mac_key_id, mac = excluded.mac",
        secret_id,
        i64::from(version.id.get()),
        version.created_at.as_millis(),
        version.deactivated_at.map(Timestamp::as_millis),
        sealed.as_bytes(),
        key_id.as_i64(),
        i64::from(proof.state_changes),
        &proof.mac.as_bytes()[..],
    )?;
    // Data is never sealed with the same nonce again, so also a row that was there already is another one now.
    tx.surely_changed = true;
    Ok(())
}

async fn set_version(
    tx: &mut Tx<'_>,
    secret_id: i64,
    key_id: KeyId,
    version: &Version,
    proof: &VersionProof,
) -> Result<(), StoreError> {
    defer!(
        tx,
        Change,
        "UPDATE secret_versions SET deactivated_at = $3, \
         sealed_data = CASE WHEN CAST($4 AS BIGINT) = 1 THEN NULL ELSE sealed_data END, \
         key_id = CASE WHEN CAST($4 AS BIGINT) = 1 THEN NULL ELSE key_id END, \
         state_changes = $5, mac_key_id = $6, mac = $7 WHERE secret_id = $1 AND version = $2",
        secret_id,
        i64::from(version.id.get()),
        version.deactivated_at.map(Timestamp::as_millis),
        i64::from(version.deleted),
        i64::from(proof.state_changes),
        key_id.as_i64(),
        &proof.mac.as_bytes()[..],
    )?;
    Ok(())
}

/// Nothing where there are none: most secrets.
fn stored_state_changes(changes: &StateChanges) -> Option<Vec<u8>> {
    Some(changes.to_stored()).filter(|stored| !stored.is_empty())
}
