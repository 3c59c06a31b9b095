//! What operators do with keys, and what a server does after them.
//!
//! A rotation makes a new key and returns: what is written from then on is under it, on every replica from
//! its next request on. What is there already is sealed anew afterwards, by the servers themselves or by
//! the command, secret by secret; when nothing is under an old key any more, it is destroyed. Any number
//! of processes may do that at once, and any of them may end at any time.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;

use super::{Keyring, token_key::change_token_key};
use crate::{
    crypto::{CryptoError, Generation, KeyId, RootKey, RootKeyId, StoreKey, StoreKeyId},
    domain::{Clock, Error, OkmsId, SecretPath, Timestamp, VersionId},
    store::{
        KeyUse, RewrappedVersions, Rewrapping, RootKeyRotation, RootKeySlot, StaleSecret, Store,
        StoredKey, StoredOutcome, StoredTokenKey, WrappedStoreKey,
    },
};

/// The use cases of keys.
#[derive(Clone)]
pub struct Keys {
    pub(super) store: Store,
    pub(super) keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

/// All keys of a store, by name.
#[derive(Debug, Clone)]
pub struct KeyStatus {
    /// The key between the root keys and the keys of domains.
    pub store_key_id: StoreKeyId,
    /// The root keys that open the store.
    pub root_keys: Vec<RootKeyStatus>,
    /// The keys of domains, by domain and generation.
    pub keys: Vec<KeyUse>,
}

/// A root key.
#[derive(Debug, Clone)]
pub struct RootKeyStatus {
    /// 1 or 2.
    pub slot: u32,
    /// Its name.
    pub id: RootKeyId,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Whether it is the one that is configured here.
    pub is_own: bool,
}

/// What becomes of the other root key when one is replaced.
pub enum OtherRootKey {
    /// There is none.
    None,
    /// It goes on opening the store.
    Keep(RootKey),
    /// It is worth nothing from then on.
    Drop,
}

/// How far sealing anew has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RewrapReport {
    /// Versions that were sealed anew.
    pub versions: u64,
    /// Generations that were destroyed.
    pub destroyed: u32,
    /// Versions, and where there is none the rows of secrets, that do not verify or open under any key of
    /// the domain: their generation is kept for them. The first few of them.
    pub refused: Vec<(SecretPath, Option<VersionId>)>,
    /// Secrets whose path cannot be read, by their position in the store (`secret_id`): their generation is
    /// kept too. The first few of them.
    pub unreadable: Vec<i64>,
    /// Whether an old generation is still there at the end.
    pub pending: bool,
}

impl RewrapReport {
    /// Whether an old key is kept for what cannot be sealed anew.
    fn is_refused(&self) -> bool {
        !self.refused.is_empty() || !self.unreadable.is_empty()
    }
}

impl Keys {
    /// Works on `store`, with the keys of `keyring`.
    pub fn new(store: Store, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock }
    }

    /// All keys of the store, by name.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn status(&self) -> Result<KeyStatus, Error> {
        let own = self.keyring.root_key_id();
        let slots = self.store.list_root_keys().await?;
        let root_key = |slot: RootKeySlot| RootKeyStatus {
            slot: slot.slot,
            is_own: slot.root_key_id == own,
            id: slot.root_key_id,
            created_at: slot.created_at,
        };
        Ok(KeyStatus {
            store_key_id: self.keyring.store_key().id().clone(),
            root_keys: slots.into_iter().map(root_key).collect(),
            keys: self.store.list_key_uses().await?,
        })
    }

    /// Gives a domain a new key, under which everything is written from then on, and says its number.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn rotate_domain(&self, okms_id: OkmsId) -> Result<Generation, Error> {
        let newest = self.newest(okms_id).await?;
        self.keyring.rotate(okms_id, newest.generation).await?;
        Ok(self.newest(okms_id).await?.generation)
    }

    /// Seals everything of a domain that is under an old key anew, and destroys old keys that nothing is
    /// under any more. Where it ends before that, whatever the reason, the next run goes on from there.
    ///
    /// `progress` is told after every few secrets.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn rewrap(
        &self,
        okms_id: OkmsId,
        mut progress: impl FnMut(&RewrapReport) + Send,
    ) -> Result<RewrapReport, Error> {
        let mut report = RewrapReport::default();
        // Again where a request that began before the rotation has written under the old key since.
        for _ in 0..REWRAP_PASSES {
            let stored = self.store.list_keys(okms_id).await?;
            // The newest is the first; a domain that was deleted has none.
            let old = stored.keys.get(1..).unwrap_or_default();
            report.pending = false;
            for key in old.iter().rev() {
                self.empty(okms_id, key.key_id, stored.revision, &mut report, &mut progress)
                    .await?;
                self.rewrap_outcomes(okms_id, key.key_id, stored.revision).await?;
                match self.store.destroy_key(okms_id, key.key_id).await? {
                    true => report.destroyed += 1,
                    false => report.pending = true,
                }
            }
            if !report.pending || report.is_refused() {
                break;
            }
        }
        // Those that were destroyed leave the memory too.
        if report.destroyed > 0 {
            self.keyring.note_change(okms_id).await;
        }
        Ok(report)
    }

    /// Replaces the root key that is configured here, and with it the store key and the key of tokens: whoever
    /// had the old root key and a copy of the store could have those.
    ///
    /// A domain with a damaged key stands in the way, and is named. Its key is not carried over as it is:
    /// once the old store key is gone, the row that a backup still has would open no more.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the keys given are not such that this can be done; or when storage
    /// fails. Then the old root key is the one that counts, unless storage does not say how it ended.
    pub async fn rotate_root(&self, new: &RootKey, other: &OtherRootKey) -> Result<(), Error> {
        let before = self.store.list_root_keys().await?;
        if before.iter().any(|slot| slot.root_key_id == *new.id()) {
            return malformed(format!("the new root key {} opens the store already", new.id()));
        }
        let (own, old_store_key) = (self.keyring.root_key_id(), self.keyring.store_key());
        let kept = kept(&before, &own, old_store_key.id(), other)?;
        let store_key = StoreKey::generate().map_err(no_randomness)?;
        let mut after = vec![(new.id().clone(), wrapped(&store_key, new)?)];
        if let Some(kept) = kept {
            after.push((kept.id().clone(), wrapped(&store_key, kept)?));
        }
        // Each in the slot where its predecessor was.
        if before.first().is_some_and(|slot| slot.root_key_id != own) && after.len() > 1 {
            after.reverse();
        }
        let old_id = old_store_key.id().clone();
        let rotation = RootKeyRotation { before, old_store_key: old_id, after };
        let (old_store_key, store_key) = (Arc::new(old_store_key), Arc::new(store_key));
        let (old, new) = (Arc::clone(&old_store_key), Arc::clone(&store_key));
        let change_tokens = move |key: &StoredTokenKey| change_token_key(key, &old, &new);
        let rewrap = move |okms_id: OkmsId, key: &StoredKey| {
            let (wrapped, generation) = (&key.wrapped_key, key.generation);
            let rewrapped =
                store_key.rewrap_domain_key(&old_store_key, wrapped, okms_id, generation);
            rewrapped.map_err(|_| {
                let generation = generation.get();
                Error::Unavailable(format!(
                    "key {generation} of domain {okms_id} does not open: put its row of domain_keys back \
                     from a backup, or delete the domain"
                ))
            })
        };
        match self.store.rotate_root_key(rotation, self.clock.now(), rewrap, change_tokens).await? {
            true => Ok(()),
            false => malformed(CHANGED.into()),
        }
    }

    /// Checks, before a new root key is made, that [`Keys::rotate_root`] can be done.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn check_rotation(&self, other: &OtherRootKey) -> Result<(), Error> {
        let slots = self.store.list_root_keys().await?;
        let (own, store_key) = (self.keyring.root_key_id(), self.keyring.store_key());
        kept(&slots, &own, store_key.id(), other).map(|_| ())
    }

    /// Checks, before a second root key is made, that [`Keys::enroll`] can be done.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn check_enrolment(&self) -> Result<(), Error> {
        if self.store.list_root_keys().await?.len() < SLOTS {
            return Ok(());
        }
        malformed(BOTH_TAKEN.into())
    }

    /// Lets another root key open the store too.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where there are two already; or when storage fails.
    pub async fn enroll(&self, root_key: &RootKey) -> Result<(), Error> {
        let wrapped = wrapped(&self.keyring.store_key(), root_key)?;
        let (id, now) = (root_key.id().clone(), self.clock.now());
        if self.store.insert_root_key(id.clone(), wrapped, now).await? {
            return Ok(());
        }
        let slots = self.store.list_root_keys().await?;
        if slots.iter().any(|slot| slot.root_key_id == id) {
            return malformed(format!("the root key {id} opens the store already"));
        }
        malformed(BOTH_TAKEN.into())
    }

    /// Lets the root key of a slot open the store no more. It must not be the one that is configured here.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where there is no such key beside the own one; or when storage fails.
    pub async fn remove_slot(&self, slot: u32) -> Result<RootKeyId, Error> {
        let slots = self.store.list_root_keys().await?;
        let Some(found) = slots.into_iter().find(|found| found.slot == slot) else {
            return malformed(format!("there is no root key in slot {slot}"));
        };
        let id = found.root_key_id;
        if id == self.keyring.root_key_id() {
            return malformed(format!("slot {slot} has the root key that is configured here"));
        }
        if !self.store.delete_root_key(id.clone()).await? {
            return malformed(CHANGED.into());
        }
        Ok(id)
    }

    /// Whether a root key opens the store.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn is_registered(&self, root_key: &RootKeyId) -> Result<bool, Error> {
        let slots = self.store.list_root_keys().await?;
        Ok(slots.iter().any(|slot| slot.root_key_id == *root_key))
    }

    /// Seals everything anew that is under one old key.
    async fn empty(
        &self,
        okms_id: OkmsId,
        from: KeyId,
        revision: i64,
        report: &mut RewrapReport,
        progress: &mut (impl FnMut(&RewrapReport) + Send),
    ) -> Result<(), Error> {
        let mut after = None;
        // Secrets of which something is refused: they are met again with each of their rows. Others are done when
        // they are met again, but for what was written since.
        let mut tried = HashSet::new();
        while let Some(page) = self.store.list_stale_secrets(from, after, ROWS_AT_A_TIME).await? {
            after = Some(page.last);
            let mut readable = Vec::with_capacity(page.secrets.len());
            for StaleSecret { secret_id, path } in page.secrets {
                match path {
                    Some(path) if !tried.contains(&secret_id) => readable.push((secret_id, path)),
                    Some(_) => {}
                    None => {
                        // A later row or pass finds the same ones again.
                        let is_new = !report.unreadable.contains(&secret_id);
                        if is_new && report.unreadable.len() < MAX_REFUSED {
                            report.unreadable.push(secret_id);
                        }
                    }
                }
            }
            for some in readable.chunks(SECRETS_AT_A_TIME) {
                let secrets =
                    some.iter().map(|(_, path)| self.rewrap_secret(okms_id, path, from, revision));
                for ((secret_id, path), done) in some.iter().zip(join_all(secrets).await) {
                    let done = match done {
                        // Storage works, but this secret is not such as it was written.
                        Err(Error::Internal(why)) => {
                            tracing::error!(%okms_id, secret.path = path.as_str(), why);
                            RewrappedVersions { refused: vec![None], ..Default::default() }
                        }
                        done => done?,
                    };
                    report.versions += u64::from(done.versions);
                    if !done.refused.is_empty() {
                        tried.insert(*secret_id);
                    }
                    let room = MAX_REFUSED.saturating_sub(report.refused.len());
                    let known: HashSet<_> = report.refused.iter().cloned().collect();
                    let refused = done.refused.into_iter().map(|id| (path.clone(), id));
                    let new = refused.filter(|refused| !known.contains(refused));
                    report.refused.extend(new.take(room));
                }
                progress(report);
            }
        }
        Ok(())
    }

    async fn rewrap_secret(
        &self,
        okms_id: OkmsId,
        path: &SecretPath,
        from: KeyId,
        revision: i64,
    ) -> Result<RewrappedVersions, Error> {
        let (mut all, mut after) = (RewrappedVersions::default(), Some(0));
        while let Some(next) = after {
            let sealer = Arc::new(self.keyring.sealer(okms_id, revision).await?);
            let (to, limit) = (sealer.key_id(), VERSIONS_AT_A_TIME);
            let work = Rewrapping { okms_id, path: path.clone(), from, to, after: next, limit };
            let (proving, proven_path) = (Arc::clone(&sealer), path.clone());
            let reseal = move |secret: &_, version: &_| sealer.rewrap_version(secret, version);
            let prove = move |secret: &_| proving.rewrap_secret(&proven_path, secret);
            // Where the new key is gone, another one is newer still; the next run is up to date.
            let Some(done) = self.store.rewrap_secret(work, reseal, prove).await? else { break };
            all.versions += done.versions;
            all.refused.extend(done.refused);
            after = done.more_after;
        }
        Ok(all)
    }

    /// Seals anew what is kept of writes that were to be done once.
    async fn rewrap_outcomes(
        &self,
        okms_id: OkmsId,
        from: KeyId,
        revision: i64,
    ) -> Result<(), Error> {
        loop {
            let sealer = self.keyring.sealer(okms_id, revision).await?;
            let to = sealer.key_id();
            let reseal = move |hash, stored: &StoredOutcome| {
                let old = sealer.keys().named(stored.key_id).ok_or(CryptoError);
                let opened =
                    old.and_then(|key| key.open_outcome(&stored.sealed, hash, stored.created_at));
                let Ok(opened) = opened else { return Ok(None) };
                sealer.seal_outcome(&opened, hash, stored.created_at).map(Some)
            };
            if self.store.rewrap_outcomes(okms_id, from, to, reseal).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn newest(&self, okms_id: OkmsId) -> Result<StoredKey, Error> {
        let stored = self.store.list_keys(okms_id).await?;
        stored.keys.into_iter().next().ok_or(Error::DomainNotFound)
    }
}

/// The root key that goes on opening the store beside the new one, if there is one.
fn kept<'a>(
    slots: &[RootKeySlot],
    own: &RootKeyId,
    store_key: &StoreKeyId,
    other: &'a OtherRootKey,
) -> Result<Option<&'a RootKey>, Error> {
    let opened = |slot: &RootKeySlot| {
        let stored = slot.store_key.as_ref();
        slot.root_key_id == *own && stored.is_some_and(|stored| stored.id == *store_key)
    };
    if !slots.iter().any(opened) {
        return malformed(CHANGED.into());
    }
    let present = slots.iter().map(|slot| &slot.root_key_id).find(|id| *id != own);
    match (present, other) {
        (None, OtherRootKey::None) | (_, OtherRootKey::Drop) => Ok(None),
        (Some(id), OtherRootKey::Keep(key)) if key.id() == id => Ok(Some(key)),
        (Some(id), OtherRootKey::None) => malformed(format!(
            "the root key {id} opens the store too: give it, or say that it is to be dropped"
        )),
        (_, OtherRootKey::Keep(key)) => {
            malformed(format!("{} is not the other root key of the store", key.id()))
        }
    }
}

fn wrapped(store_key: &StoreKey, root_key: &RootKey) -> Result<WrappedStoreKey, Error> {
    let wrapped = store_key.wrap(root_key).map_err(no_randomness)?;
    Ok(WrappedStoreKey { id: store_key.id().clone(), wrapped })
}

fn no_randomness(_: CryptoError) -> Error {
    Error::Unavailable("the system gives no randomness".into())
}

fn malformed<T>(why: String) -> Result<T, Error> {
    Err(Error::Malformed(why))
}

/// What is said where another process was faster.
const CHANGED: &str = "the root keys of the store have changed meanwhile";
/// What is said where no root key can be added.
const BOTH_TAKEN: &str = "both slots are taken: remove one first, or replace its key";
/// Root keys that a store can have.
const SLOTS: usize = 2;
/// Secrets that are sealed anew at once. On SQLite they share a commit; on PostgreSQL they take as many
/// of its 16 connections, and requests need the others.
const SECRETS_AT_A_TIME: usize = 4;
/// Rows under an old key that are looked at together: several are often of one secret.
const ROWS_AT_A_TIME: u32 = 64;
/// Versions to a transaction: at 64 KiB each, 2 MiB, and some milliseconds under lock.
const VERSIONS_AT_A_TIME: u32 = 32;
/// Requests that began before a rotation are over long before the third pass.
const REWRAP_PASSES: u32 = 5;
/// Of versions that do not open, so many are named.
const MAX_REFUSED: usize = 100;
