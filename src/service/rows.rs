//! Rows are verified before anything of them is used, and proved when they are written.
//!
//! Whoever can write to the database can still do three things that nothing inside it can tell: put back
//! older rows of a secret and of all its versions together, put back older metadata of a secret that has had
//! no new version and no version set since, and remove a secret as a whole.

use std::sync::Arc;

use super::keyring::{DomainKeys, Sealer};
use crate::{
    crypto::{
        CryptoError, DataSeal, Incarnation, KeyId, RowMac, SecretRecord, StateChanges,
        VersionPlace, VersionRecord,
    },
    domain::{
        Error, NewVersion, Secret, SecretChange, SecretData, SecretPath, SecretSnapshot, Version,
        VersionId, Wanted,
    },
    store::{
        Decision, Rewrapped, RowProof, SecretProof, SecretWithVersion, StoredSecret,
        StoredSnapshot, StoredVersion, VersionProof,
    },
};

/// The keys that rows name. Rows under a key that is not known are read again, with the newest keys.
pub(super) trait UnderKeys {
    /// Calls `key` with each of them.
    fn each_key(&self, key: &mut dyn FnMut(KeyId));

    /// Whether all of them are at hand.
    fn is_under(&self, keys: &DomainKeys) -> bool {
        let mut known = true;
        self.each_key(&mut |key| known &= keys.named(key).is_some());
        known
    }
}

impl UnderKeys for StoredSecret {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        self.proof.iter().for_each(|proof| key(proof.key_id));
        // Without its key, the version that shows this row to be an older copy would go for a stray one.
        let following = self.following.iter().filter_map(|version| version.proof.as_ref());
        following.for_each(|proof| key(proof.key_id));
    }
}

impl UnderKeys for StoredVersion {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        self.proof.iter().for_each(|proof| key(proof.key_id));
        // Only data has to be opened.
        if self.sealed.is_some() {
            self.record.data.iter().for_each(|data| key(data.key));
        }
    }
}

impl UnderKeys for SecretWithVersion {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        self.secret.each_key(key);
        self.version.iter().for_each(|version| version.each_key(key));
    }
}

impl UnderKeys for StoredSnapshot {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        self.secret.iter().for_each(|secret| secret.each_key(key));
        self.versions.iter().for_each(|version| version.each_key(key));
    }
}

impl<T: UnderKeys> UnderKeys for Arc<T> {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        T::each_key(self, key);
    }
}

impl<T: UnderKeys> UnderKeys for Option<T> {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        self.iter().for_each(|rows| rows.each_key(key));
    }
}

impl<T: UnderKeys> UnderKeys for Vec<Result<T, Error>> {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        self.iter().flatten().for_each(|rows| rows.each_key(key));
    }
}

impl UnderKeys for (StoredSecret, Vec<StoredVersion>) {
    fn each_key(&self, key: &mut dyn FnMut(KeyId)) {
        self.0.each_key(key);
        self.1.iter().for_each(|version| version.each_key(key));
    }
}

impl DomainKeys {
    /// Verifies a secret that was found at `path`, with the version `wanted` or else its current one; the
    /// version is `None` where the secret does not have it.
    pub(super) fn verify_found<'f>(
        &self,
        path: &SecretPath,
        found: &'f SecretWithVersion,
        wanted: Option<VersionId>,
    ) -> Result<(&'f SecretRecord, Option<&'f StoredVersion>), Error> {
        let record = &found.secret.record;
        let stored = found.version.as_ref();
        let is_usual = wanted.is_none() && record.secret.path == *path;
        if is_usual && found.verified.is_by(self.number) {
            return Ok((record, stored));
        }
        self.verify_secret(path, &found.secret)?;
        let expected = wanted.or_else(|| VersionId::new(record.secret.current_version).ok());
        let version = match expected.filter(|id| record.secret.keeps(*id)) {
            Some(id) => Some(self.verify_version(record, id, stored)?),
            None => None,
        };
        // A version that is there and should not be is never looked at, and so not verified.
        if is_usual && version.is_some() == stored.is_some() {
            found.verified.note(self.number);
        }
        Ok((record, version))
    }

    /// Verifies a page of the versions of the secret at `path`: all that it keeps above the number `after`,
    /// up to `limit`.
    pub(super) fn verify_versions(
        &self,
        path: &SecretPath,
        (secret, versions): (StoredSecret, Vec<StoredVersion>),
        after: u32,
        limit: u32,
    ) -> Result<Vec<Version>, Error> {
        self.verify_secret(path, &secret)?;
        let kept = &secret.record.secret;
        let first = (after.saturating_add(1)).max(kept.oldest_version);
        let expected = (first..=kept.current_version).take(limit as usize);
        let mut verified = Vec::with_capacity(versions.len());
        let mut versions = versions.into_iter();
        for number in expected {
            let id = VersionId::new(number).map_err(|_| not_verified(path, "a version number"))?;
            let version = versions.next();
            let version = self.verify_version(&secret.record, id, version.as_ref())?;
            verified.push(version.record.version.clone());
        }
        Ok(verified)
    }

    /// Verifies what a change of the secret at `path` is decided on: the secret, and those of the versions
    /// `wanted` that it has.
    pub(super) fn verify_snapshot(
        &self,
        path: &SecretPath,
        stored: &StoredSnapshot,
        wanted: &Wanted,
    ) -> Result<SecretSnapshot, Error> {
        let mut snapshot = SecretSnapshot {
            domain_config: stored.domain_config.clone(),
            secret: None,
            versions: Vec::new(),
        };
        let Some(secret) = &stored.secret else { return Ok(snapshot) };
        self.verify_secret(path, secret)?;
        let record = &secret.record;
        let mut versions = stored.versions.iter();
        for id in wanted.of(&record.secret) {
            let version = self.verify_version(record, id, versions.next())?;
            snapshot.versions.push(version.record.version.clone());
        }
        snapshot.secret = Some(record.secret.clone());
        Ok(snapshot)
    }

    /// Opens the data of a version that is verified.
    pub(super) fn open_data(
        &self,
        record: &SecretRecord,
        stored: &StoredVersion,
    ) -> Result<Option<SecretData>, Error> {
        let (Some(sealed), Some(seal)) = (&stored.sealed, &stored.record.data) else {
            return Ok(None);
        };
        let (path, version) = (&record.secret.path, &stored.record.version);
        let place = place(path, record.incarnation, version);
        let opened = self.named(seal.key).ok_or(CryptoError);
        let opened = opened.and_then(|key| key.open(sealed, &place)).map_err(|_| {
            not_verified(path, &format!("the data of version {}", version.id.get()))
        })?;
        self.count_open();
        SecretData::from_stored(opened).map(Some)
    }

    /// Opens the data of the current version of a snapshot that is verified and was read with that data.
    pub(super) fn open_current(&self, stored: &StoredSnapshot) -> Result<SecretData, Error> {
        let absent = || Error::Internal("data was to be merged, and is not at hand".into());
        let secret = stored.secret.as_ref().ok_or_else(absent)?;
        let version = stored.versions.last().ok_or_else(absent)?;
        self.open_data(&secret.record, version)?.ok_or_else(absent)
    }

    fn verify_secret(&self, path: &SecretPath, stored: &StoredSecret) -> Result<(), Error> {
        let record = &stored.record;
        let verified = record.secret.path == *path
            && self
                .proves(stored.proof.as_ref(), |key, proof| key.verify_secret(record, &proof.mac));
        if !verified {
            return Err(not_verified(path, "its row"));
        }
        // The version after the current one: this row is older than that.
        let following = stored.following.as_deref();
        if following.is_some_and(|version| self.proves_version(record, version)) {
            return Err(not_verified(path, "its row, an older copy,"));
        }
        Ok(())
    }

    fn verify_version<'f>(
        &self,
        secret: &SecretRecord,
        id: VersionId,
        stored: Option<&'f StoredVersion>,
    ) -> Result<&'f StoredVersion, Error> {
        let (path, number) = (&secret.secret.path, id.get());
        let stored = stored.filter(|stored| stored.record.version.id == id);
        let stored =
            stored.ok_or_else(|| not_verified(path, &format!("version {number}, gone,")))?;
        if !self.proves_version(secret, stored) {
            return Err(not_verified(path, &format!("the row of version {number}")));
        }
        if stored.record.state_changes != secret.state_changes.of(id) {
            let what = format!("the row of version {number}, an older copy,");
            return Err(not_verified(path, &what));
        }
        Ok(stored)
    }

    fn proves_version(&self, secret: &SecretRecord, stored: &StoredVersion) -> bool {
        self.proves(stored.proof.as_ref(), |key, proof| {
            let (path, incarnation) = (&secret.secret.path, secret.incarnation);
            key.verify_version(&stored.record, path, incarnation, &proof.mac)
        })
    }

    fn proves(
        &self,
        proof: Option<&RowProof>,
        verify: impl FnOnce(&crate::crypto::DomainKey, &RowProof) -> Result<(), CryptoError>,
    ) -> bool {
        let named = proof.and_then(|proof| Some((self.named(proof.key_id)?, proof)));
        named.is_some_and(|(key, proof)| verify(key, proof).is_ok())
    }
}

impl Sealer {
    /// What is to be written for a change: data sealed for its place, and the proofs of all rows.
    pub(super) fn prove(
        &self,
        stored: &StoredSnapshot,
        change: SecretChange,
        data: Option<&SecretData>,
    ) -> Result<Decision, Error> {
        let absent = || Error::Internal("a change of a secret that is not there".into());
        let present = || stored.secret.as_ref().map(|stored| &stored.record).ok_or_else(absent);
        let (secret, versions) = match &change {
            SecretChange::Insert { secret, version } => {
                let incarnation = Incarnation::generate()
                    .map_err(|_| Error::Unavailable("the system gives no randomness".into()))?;
                let record = record(secret, incarnation, StateChanges::default());
                let version = self.prove_new(&record, version.as_ref(), data)?;
                (Some(record), version.into_iter().collect())
            }
            SecretChange::Update { secret, version, prune_through } => {
                let present = present()?;
                let mut state_changes = present.state_changes.clone();
                prune_through.iter().for_each(|last| state_changes.prune_through(*last));
                let record = record(secret, present.incarnation, state_changes);
                let version = self.prove_new(&record, version.as_ref(), data)?;
                (Some(record), version.into_iter().collect())
            }
            SecretChange::SetVersions(versions) => {
                let mut secret = present()?.clone();
                let prove = |version: &Version| {
                    let state_changes = secret.state_changes.count(version.id);
                    let id = |stored: &StoredVersion| stored.record.version.id;
                    let place = stored.versions.binary_search_by_key(&version.id, id).ok();
                    let data = place.and_then(|place| stored.versions[place].record.data.clone());
                    let data = data.filter(|_| !version.deleted);
                    let record = VersionRecord { version: version.clone(), data, state_changes };
                    self.prove_version(&secret, &record)
                };
                let versions = versions.iter().map(prove).collect();
                (Some(secret), versions)
            }
            SecretChange::Keep(_) => (None, Vec::new()),
        };
        let secret = secret.map(|record| SecretProof {
            mac: self.key().secret_mac(&record),
            incarnation: record.incarnation,
            state_changes: record.state_changes,
        });
        Ok(Decision { change, secret, versions, outcome: None })
    }

    /// A version under this key, whatever key it was under; nothing where it does not verify or open.
    pub(super) fn rewrap_version(
        &self,
        secret: &StoredSecret,
        stored: &StoredVersion,
    ) -> Result<Option<Rewrapped>, Error> {
        let (keys, secret) = (self.keys(), &secret.record);
        if !keys.proves_version(secret, stored) {
            return Ok(None);
        }
        let mut record = stored.record.clone();
        let mut sealed = None;
        if record.data.as_ref().is_some_and(|data| data.key != self.key_id()) {
            let Ok(Some(data)) = keys.open_data(secret, stored) else { return Ok(None) };
            let place = place(&secret.secret.path, secret.incarnation, &record.version);
            let resealed = self.seal(data.as_str().as_bytes(), &place)?;
            record.data = Some(DataSeal { id: resealed.id(), key: self.key_id() });
            sealed = Some(resealed);
        }
        Ok(Some(Rewrapped { sealed, mac: self.prove_version(secret, &record).mac }))
    }

    /// The MAC of the row of the secret at `path` under this key; nothing where it does not verify.
    pub(super) fn rewrap_secret(&self, path: &SecretPath, stored: &StoredSecret) -> Option<RowMac> {
        self.keys().verify_secret(path, stored).ok()?;
        Some(self.key().secret_mac(&stored.record))
    }

    /// Seals data for the version that a change adds. Its number is a part of what is sealed, and is
    /// known only under lock.
    fn prove_new(
        &self,
        secret: &SecretRecord,
        version: Option<&NewVersion>,
        data: Option<&SecretData>,
    ) -> Result<Option<VersionProof>, Error> {
        let (Some(new), Some(data)) = (version, data) else { return Ok(None) };
        let version = Version {
            id: new.id,
            created_at: new.created_at,
            deactivated_at: new.deactivated_at,
            deleted: false,
        };
        let place = place(&secret.secret.path, secret.incarnation, &version);
        let sealed = self.seal(data.as_str().as_bytes(), &place)?;
        let data = Some(DataSeal { id: sealed.id(), key: self.key_id() });
        let record = VersionRecord { version, data, state_changes: 0 };
        Ok(Some(VersionProof { sealed: Some(sealed), ..self.prove_version(secret, &record) }))
    }

    pub(super) fn prove_version(
        &self,
        secret: &SecretRecord,
        record: &VersionRecord,
    ) -> VersionProof {
        let mac = self.key().version_mac(record, &secret.secret.path, secret.incarnation);
        VersionProof { state_changes: record.state_changes, mac, sealed: None }
    }
}

fn record(secret: &Secret, incarnation: Incarnation, state_changes: StateChanges) -> SecretRecord {
    SecretRecord { secret: secret.clone(), incarnation, state_changes }
}

fn place<'a>(
    path: &'a SecretPath,
    incarnation: Incarnation,
    version: &Version,
) -> VersionPlace<'a> {
    VersionPlace { path, incarnation, id: version.id, created_at: version.created_at }
}

/// The path is the one that was asked for, or of a form that no log mistakes for anything else.
fn not_verified(path: &SecretPath, what: &str) -> Error {
    Error::Internal(format!("secret {}: {what} does not verify", path.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{DomainKey, Generation, StoreKey},
        domain::{CustomMetadata, OkmsId, SecretConfig, Timestamp},
        store::Verified,
    };

    const NOW: Timestamp = Timestamp::from_millis(0);

    fn key() -> Arc<DomainKey> {
        let (okms_id, generation) = (OkmsId::new(uuid::Uuid::new_v4()), Generation::FIRST);
        let store_key = StoreKey::generate().unwrap();
        let wrapped = store_key.generate_domain_key(okms_id, generation).unwrap();
        Arc::new(store_key.unwrap_domain_key(&wrapped, okms_id, generation).unwrap())
    }

    /// A secret with one version, proved by a key of that name.
    fn found(path: &SecretPath, key_id: KeyId, key: &DomainKey) -> SecretWithVersion {
        let incarnation = Incarnation::generate().unwrap();
        let secret = Secret {
            path: path.clone(),
            config: SecretConfig::default(),
            custom_metadata: CustomMetadata::default(),
            current_version: 1,
            oldest_version: 1,
            created_at: NOW,
            updated_at: NOW,
        };
        let id = VersionId::new(1).unwrap();
        let version = Version { id, created_at: NOW, deactivated_at: None, deleted: true };
        let record = VersionRecord { version, data: None, state_changes: 0 };
        let mac = key.version_mac(&record, path, incarnation);
        let proof = Some(RowProof { key_id, mac });
        let version = Some(StoredVersion { record, proof, sealed: None });
        let record = SecretRecord { secret, incarnation, state_changes: StateChanges::default() };
        let proof = Some(RowProof { key_id, mac: key.secret_mac(&record) });
        let secret = StoredSecret { record, proof, following: None };
        SecretWithVersion { secret, version, verified: Verified::default() }
    }

    #[test]
    fn what_was_verified_is_not_by_the_same_keys_and_is_by_others() {
        let path = SecretPath::parse("a").unwrap();
        let (key_id, key) = (KeyId::from_stored(1), key());
        let keys = || DomainKeys::of_test(vec![(key_id, Arc::clone(&key))]);
        let (keys, same_anew) = (keys(), keys());
        let mut row = found(&path, key_id, &key);
        assert!(keys.verify_found(&path, &row, None).unwrap().1.is_some());
        assert!(keys.verify_found(&SecretPath::parse("b").unwrap(), &row, None).is_err());

        row.secret.record.secret.updated_at = Timestamp::from_millis(1);
        assert!(keys.verify_found(&path, &row, None).is_ok(), "known since it was verified");
        assert!(keys.verify_found(&path, &row, VersionId::new(1).ok()).is_err());
        assert!(same_anew.verify_found(&path, &row, None).is_err());
        // What failed leaves no mark.
        assert!(same_anew.verify_found(&path, &row, None).is_err());
    }

    /// A secret at `a` whose own row is another one than its version's, and proved as well; with the keys.
    fn changed(change: impl FnOnce(&mut Secret)) -> (SecretPath, DomainKeys, SecretWithVersion) {
        let path = SecretPath::parse("a").unwrap();
        let (key_id, key) = (KeyId::from_stored(1), key());
        let mut row = found(&path, key_id, &key);
        change(&mut row.secret.record.secret);
        let mac = key.secret_mac(&row.secret.record);
        row.secret.proof = Some(RowProof { key_id, mac });
        (path, DomainKeys::of_test(vec![(key_id, key)]), row)
    }

    #[test]
    fn a_version_that_was_wanted_is_not_taken_for_the_current_one() {
        let (path, keys, row) = changed(|secret| secret.current_version = 2);
        for _ in 0..2 {
            assert!(keys.verify_found(&path, &row, VersionId::new(1).ok()).is_ok());
            assert!(keys.verify_found(&path, &row, None).is_err());
        }
    }

    #[test]
    fn a_version_that_should_not_be_there_is_never_taken_for_verified() {
        let (path, keys, row) = changed(|secret| secret.oldest_version = 2);
        for _ in 0..2 {
            assert!(keys.verify_found(&path, &row, None).unwrap().1.is_none());
        }
    }
}
