//! Writes that are done once, however often they are sent.
//!
//! What came of the first is kept for a day, sealed with the key of the domain: the secret and the version as they
//! were then, and a hash of the request. From that the same answer is made by the same code; data is not in it. Who
//! asks again needs the right again.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    Caller,
    cursors::caller_name,
    keyring::{DomainKeys, Sealer},
};
use crate::{
    crypto::{CryptoError, KeyHash, RequestHash, SealedOutcome},
    domain::{
        CustomMetadata, Error, IdempotencyError, IdempotencyKey, NewVersion, Secret, SecretChange,
        SecretConfig, SecretPath, Timestamp, VersionId, VersionLifetime,
    },
    store::{OnceKey, StoredOutcome},
};

/// That a request is to be done once.
#[derive(Clone)]
pub struct Once {
    key: IdempotencyKey,
    request: RequestHash,
}

impl fmt::Debug for Once {
    /// The key alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.key).finish()
    }
}

impl Once {
    /// Of the request with this method, target and body.
    pub fn new(key: IdempotencyKey, method: &str, target: &str, body: &[u8]) -> Self {
        Self { key, request: RequestHash::of(method, target, body) }
    }

    /// What the store finds it by.
    pub(super) fn key(&self, caller: &Caller, now: Timestamp) -> OnceKey {
        let caller = KeyHash::of_caller(caller.okms_id(), &caller_name(caller));
        OnceKey { hash: caller.of_key(self.key.as_str()), caller, now }
    }

    /// What is kept of a change.
    pub(super) fn seal(
        &self,
        key: &OnceKey,
        sealer: &Sealer,
        domain: &SecretConfig,
        change: &SecretChange,
    ) -> Result<SealedOutcome, Error> {
        let outcome = Outcome::of(self.request, domain, change);
        let outcome = outcome.and_then(|outcome| serde_json::to_vec(&outcome).ok());
        let outcome =
            outcome.ok_or_else(|| Error::Internal("a change cannot be kept".to_owned()))?;
        sealer.seal_outcome(&outcome, key.hash, key.now)
    }

    /// What came of it before.
    ///
    /// # Errors
    ///
    /// [`IdempotencyError::OtherRequest`] where that was another request; [`Error::Internal`] where what is stored
    /// does not open.
    pub(super) fn open(
        &self,
        key: &OnceKey,
        keys: &DomainKeys,
        stored: &StoredOutcome,
    ) -> Result<(SecretConfig, SecretChange), Error> {
        let broken = || Error::Internal("what was kept of a write does not verify".to_owned());
        let opened = keys.named(stored.key_id).ok_or(CryptoError);
        let opened =
            opened.and_then(|k| k.open_outcome(&stored.sealed, key.hash, stored.created_at));
        let opened = opened.map_err(|_| broken())?;
        keys.count_open();
        let outcome: Outcome = serde_json::from_slice(&opened).map_err(|_| broken())?;
        if outcome.request != *self.request.as_bytes() {
            return Err(Error::Idempotency(IdempotencyError::OtherRequest));
        }
        outcome.into_change().map_err(|_| broken())
    }
}

/// Keys of requests that this process is at.
#[derive(Default)]
pub(super) struct Running(Mutex<HashSet<KeyHash>>);

/// One of them, until this is dropped.
pub(super) struct Run {
    running: Arc<Running>,
    key: KeyHash,
}

impl Running {
    /// Begins a request; of two with the same key, the second is refused.
    ///
    /// The store tells them apart as well, in all processes, once a transaction has begun. Until then they
    /// would wait for each other.
    pub(super) fn begin(self: &Arc<Self>, key: KeyHash) -> Result<Run, Error> {
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            return Err(Error::Idempotency(IdempotencyError::InProgress));
        }
        Ok(Run { running: Arc::clone(self), key })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// What is kept of a change: all that an answer to it may hold.
#[derive(Serialize, Deserialize)]
struct Outcome {
    request: [u8; 32],
    /// Whether the secret was made.
    is_new: bool,
    domain: Config,
    path: String,
    config: Config,
    custom_metadata: BTreeMap<String, String>,
    current_version: u32,
    oldest_version: u32,
    created_at: i64,
    updated_at: i64,
    version: u32,
    version_created_at: i64,
    version_deactivated_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Config {
    cas_required: bool,
    max_versions: u32,
    deactivate_version_after: String,
}

impl Outcome {
    /// Nothing where a change makes no version.
    fn of(request: RequestHash, domain: &SecretConfig, change: &SecretChange) -> Option<Self> {
        let (is_new, secret, version) = match change {
            SecretChange::Insert { secret, version } => (true, secret, version.as_ref()?),
            SecretChange::Update { secret, version, .. } => (false, secret, version.as_ref()?),
            SecretChange::SetVersions(_) | SecretChange::Keep(_) => return None,
        };
        Some(Self {
            request: *request.as_bytes(),
            is_new,
            domain: Config::of(domain),
            path: secret.path.as_str().to_owned(),
            config: Config::of(&secret.config),
            custom_metadata: secret.custom_metadata.entries().clone(),
            current_version: secret.current_version,
            oldest_version: secret.oldest_version,
            created_at: secret.created_at.as_millis(),
            updated_at: secret.updated_at.as_millis(),
            version: version.id.get(),
            version_created_at: version.created_at.as_millis(),
            version_deactivated_at: version.deactivated_at.map(Timestamp::as_millis),
        })
    }

    fn into_change(self) -> Result<(SecretConfig, SecretChange), Error> {
        let secret = Secret {
            path: SecretPath::parse(&self.path)?,
            config: self.config.into_config()?,
            custom_metadata: CustomMetadata::new(self.custom_metadata)?,
            current_version: self.current_version,
            oldest_version: self.oldest_version,
            created_at: Timestamp::from_millis(self.created_at),
            updated_at: Timestamp::from_millis(self.updated_at),
        };
        let version = Some(NewVersion {
            id: VersionId::new(self.version)?,
            created_at: Timestamp::from_millis(self.version_created_at),
            deactivated_at: self.version_deactivated_at.map(Timestamp::from_millis),
        });
        let change = match self.is_new {
            true => SecretChange::Insert { secret, version },
            // What was pruned then is of no interest now.
            false => SecretChange::Update { secret, version, prune_through: None },
        };
        Ok((self.domain.into_config()?, change))
    }
}

impl Config {
    fn of(config: &SecretConfig) -> Self {
        Self {
            cas_required: config.cas_required,
            max_versions: config.max_versions,
            deactivate_version_after: config.deactivate_version_after.as_str().to_owned(),
        }
    }

    fn into_config(self) -> Result<SecretConfig, Error> {
        Ok(SecretConfig {
            cas_required: self.cas_required,
            max_versions: self.max_versions,
            deactivate_version_after: VersionLifetime::parse(&self.deactivate_version_after)?,
        })
    }
}
