//! Stored rows that prove themselves.
//!
//! Whoever can write to the database can move rows, put old ones back or change settings. So the row of a
//! secret and those of its versions carry MACs under keys that are never in the database in clear. They
//! cover the values that are used, as they are used: what was not covered has no effect.

use std::collections::BTreeMap;

use aws_lc_rs::rand;

use super::{
    CryptoError, DomainKey, SealedData,
    domain_key::SEAL_LEN,
    mac::{Fields, MAC_LEN},
};
use crate::domain::{Secret, SecretConfig, SecretPath, Timestamp, Version, VersionId};

/// Tells a secret from all others that ever were at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation([u8; INCARNATION_LEN]);

/// Names a key of a domain inside the store: what is under a key refers to it by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(i64);

/// How often the state of each version of a secret was set; versions whose state never was are left out.
///
/// It stands in the row of the secret, and each version's own number in the row of the version, so an older
/// copy of a version's row, such as an open one of a version that was closed since, does not pass.
///
/// ```text
/// version (4 bytes, big-endian) | number (4), by version, for each
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateChanges(BTreeMap<u32, u32>);

/// All of a secret's row that its MAC covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    /// The secret.
    pub secret: Secret,
    /// Which of all that ever were at its path.
    pub incarnation: Incarnation,
    /// What was set of its versions.
    pub state_changes: StateChanges,
}

/// All of a version's row that its MAC covers, its place apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The version.
    pub version: Version,
    /// What stands for its data, unless that is deleted.
    pub data: Option<DataSeal>,
    /// How often its state was set.
    pub state_changes: u32,
}

/// The MAC of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowMac([u8; MAC_LEN]);

/// Format, key and nonce of sealed data: what tells it from everything else that was ever sealed.
///
/// Under one key and nonce, only one text was sealed, so whoever has this and sealed data that opens has
/// that very data. It is short, so lists can verify rows without reading their data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealId(Vec<u8>);

/// Where a version belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionPlace<'a> {
    /// The path of its secret.
    pub path: &'a SecretPath,
    /// Which secret of that path.
    pub incarnation: Incarnation,
    /// Its number.
    pub id: VersionId,
    /// When it was written.
    pub created_at: Timestamp,
}

/// What stands for the data of a version in the MAC of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSeal {
    /// What was sealed.
    pub id: SealId,
    /// The key that sealed it, as the row names it.
    pub key: KeyId,
}

impl DomainKey {
    /// The MAC of a secret's row.
    pub fn secret_mac(&self, record: &SecretRecord) -> RowMac {
        RowMac(self.row_mac.sign(&self.secret_fields(record)))
    }

    /// Verifies the MAC of a secret's row.
    ///
    /// # Errors
    ///
    /// When it is the MAC of anything else, or under another key.
    pub fn verify_secret(&self, record: &SecretRecord, mac: &RowMac) -> Result<(), CryptoError> {
        self.row_mac.verify(&self.secret_fields(record), &mac.0)
    }

    /// The MAC of a row of a version of the secret at `path` with that incarnation.
    pub fn version_mac(
        &self,
        record: &VersionRecord,
        path: &SecretPath,
        incarnation: Incarnation,
    ) -> RowMac {
        RowMac(self.row_mac.sign(&self.version_fields(record, path, incarnation)))
    }

    /// Verifies the MAC of a version's row.
    ///
    /// # Errors
    ///
    /// When it is the MAC of anything else, or under another key.
    pub fn verify_version(
        &self,
        record: &VersionRecord,
        path: &SecretPath,
        incarnation: Incarnation,
        mac: &RowMac,
    ) -> Result<(), CryptoError> {
        self.row_mac.verify(&self.version_fields(record, path, incarnation), &mac.0)
    }

    fn secret_fields(&self, record: &SecretRecord) -> Fields {
        // Named one by one, so that a field that is added later cannot be left out unnoticed.
        let SecretRecord { secret, incarnation, state_changes } = record;
        let Secret {
            path,
            config,
            custom_metadata,
            current_version,
            oldest_version,
            created_at,
            updated_at,
        } = secret;
        let SecretConfig { cas_required, max_versions, deactivate_version_after } = config;
        let fields = Fields::of(SECRET_CONTEXT)
            .bytes(self.okms_id().as_bytes())
            .number(i64::from(self.generation().get()))
            .bytes(&incarnation.0)
            .bytes(path.as_str().as_bytes())
            .number(i64::from(*cas_required))
            .number(i64::from(*max_versions))
            .bytes(deactivate_version_after.as_str().as_bytes())
            .number(i64::from(*current_version))
            .number(i64::from(*oldest_version))
            .number(created_at.as_millis())
            .number(updated_at.as_millis())
            .bytes(&state_changes.to_stored());
        custom_metadata.entries().iter().fold(fields, |fields, (key, value)| {
            fields.bytes(key.as_bytes()).bytes(value.as_bytes())
        })
    }

    fn version_fields(
        &self,
        record: &VersionRecord,
        path: &SecretPath,
        incarnation: Incarnation,
    ) -> Fields {
        let VersionRecord { version, data, state_changes } = record;
        let Version { id, created_at, deactivated_at, deleted } = version;
        Fields::of(VERSION_CONTEXT)
            .bytes(self.okms_id().as_bytes())
            .number(i64::from(self.generation().get()))
            .bytes(&incarnation.0)
            .bytes(path.as_str().as_bytes())
            .number(i64::from(id.get()))
            .number(created_at.as_millis())
            .optional(deactivated_at.map(Timestamp::as_millis))
            .number(i64::from(*deleted))
            .optional_bytes(data.as_ref().map(|data| data.id.as_bytes()))
            .optional(data.as_ref().map(|data| data.key.as_i64()))
            .number(i64::from(*state_changes))
    }
}

impl StateChanges {
    /// How often the state of a version was set.
    pub fn of(&self, version: VersionId) -> u32 {
        self.0.get(&version.get()).copied().unwrap_or_default()
    }

    /// How many versions there are whose state was set.
    pub fn versions(&self) -> usize {
        self.0.len()
    }

    /// Counts one more change of a version, and gives how many there are then.
    pub fn count(&mut self, version: VersionId) -> u32 {
        let changes = self.0.entry(version.get()).or_default();
        // Nobody sets a state four billion times; should one, then older copies of that version pass.
        *changes = changes.saturating_add(1);
        *changes
    }

    /// Forgets versions up to and including `last`.
    pub fn prune_through(&mut self, last: VersionId) {
        self.0 = self.0.split_off(&(last.get() + 1));
    }

    /// Takes back bytes that [`StateChanges::to_stored`] gave out.
    ///
    /// # Errors
    ///
    /// When they are anything else.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, CryptoError> {
        let (pairs, []) = bytes.as_chunks::<8>() else { return Err(CryptoError) };
        let number =
            |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let pairs = pairs.iter().map(|pair| (number(&pair[..4]), number(&pair[4..])));
        let changes = Self(pairs.collect());
        // One set of changes has one form.
        if changes.to_stored() == bytes { Ok(changes) } else { Err(CryptoError) }
    }

    /// The bytes to store.
    pub fn to_stored(&self) -> Vec<u8> {
        let pairs = self.0.iter();
        pairs
            .flat_map(|(version, changes)| [version.to_be_bytes(), changes.to_be_bytes()])
            .flatten()
            .collect()
    }
}

impl Incarnation {
    /// Makes one that never was before.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut bytes = [0; INCARNATION_LEN];
        rand::fill(&mut bytes).map_err(|_| CryptoError)?;
        Ok(Self(bytes))
    }

    /// Takes back bytes that [`Incarnation::as_bytes`] gave out.
    ///
    /// # Errors
    ///
    /// When they are of another length.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, CryptoError> {
        bytes.try_into().map(Self).map_err(|_| CryptoError)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; INCARNATION_LEN] {
        &self.0
    }
}

impl KeyId {
    /// Takes a stored number.
    pub const fn from_stored(id: i64) -> Self {
        Self(id)
    }

    /// The number to store.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl RowMac {
    /// Takes back bytes that [`RowMac::as_bytes`] gave out.
    ///
    /// # Errors
    ///
    /// When they are of another length.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, CryptoError> {
        bytes.try_into().map(Self).map_err(|_| CryptoError)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; MAC_LEN] {
        &self.0
    }
}

impl SealId {
    /// How many of the first bytes of sealed data it takes.
    pub const LEN: usize = SEAL_LEN;

    /// Takes the first bytes of stored data. Where it was cut, there are fewer than [`SealId::LEN`], which
    /// is no other data's id.
    pub const fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl SealedData {
    /// What tells it from everything else that was ever sealed.
    pub fn id(&self) -> SealId {
        SealId(self.as_bytes().iter().take(SEAL_LEN).copied().collect())
    }
}

/// As many random bytes as a UUID has.
const INCARNATION_LEN: usize = 16;
const SECRET_CONTEXT: &[u8] = b"okmsd secret row v1";
const VERSION_CONTEXT: &[u8] = b"okmsd version row v1";

#[cfg(test)]
mod tests;
