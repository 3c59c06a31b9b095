//! Keys of domains, unwrapped in memory.
//!
//! What is here is a cache: other processes rotate keys, destroy those that nothing uses, and replace
//! the store key. Each request says how recent the keys must be that serve it
//! ([`Revisions::keys`](crate::domain::Revisions)), so a rotation acts on the next request everywhere.
//! Keys that were unwrapped once go on serving when the store key is replaced; for new ones, the root key
//! is read again from where it came from.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use quick_cache::sync::Cache;

use super::store_key::{OpenStoreKey, RootKeySource};
use crate::{
    crypto::{
        DomainKey, Generation, KeyId, RootKey, RootKeyId, SealedData, StoreKey, VersionPlace,
    },
    domain::{Clock, Error, OkmsId},
    store::{DomainKeyring, KeyInsertion, NewKey, Store, StoredKey},
};

/// The keys of all domains of a store, each unwrapped when it is first needed.
pub struct Keyring {
    pub(super) store: Store,
    clock: Arc<dyn Clock>,
    store_key: OpenStoreKey,
    domains: Cache<OkmsId, Arc<DomainKeys>>,
    /// Of many requests that find a domain's keys out of date, one loads them.
    loading: tokio::sync::Mutex<()>,
    /// Reservations go one at a time: each pays for thousands of seals.
    reserving: tokio::sync::Mutex<()>,
}

/// All generations of a domain's key, the newest first.
pub(super) struct DomainKeys {
    /// Of which revision of the store they are, at least.
    revision: i64,
    generations: Vec<(KeyId, Arc<DomainKey>)>,
    /// How often this process may still use the newest before it must reserve more.
    uses_left: Arc<AtomicI64>,
}

/// Seals with the newest key of a domain, and counts how often.
pub(super) struct Sealer {
    key_id: KeyId,
    key: Arc<DomainKey>,
    keys: Arc<DomainKeys>,
}

impl Keyring {
    /// Takes the root key of a store; a store without one takes this.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the store has another root key, or it has domains and the keys of none
    /// open: better not to start than to find out at the first read. Where those of some do not open, the
    /// log says so, and the others are served.
    pub async fn open(
        root_key: RootKey,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let store_key = OpenStoreKey::of_key(&root_key, &store, clock.as_ref()).await?;
        Self::with(store_key, store, clock).await
    }

    /// As [`Keyring::open`], with what was read of `source` just now; it is read again, if it can be, when
    /// another process has replaced the root key.
    ///
    /// # Errors
    ///
    /// As [`Keyring::open`].
    pub async fn open_source(
        root_keys: Vec<RootKey>,
        source: Option<RootKeySource>,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let store_key = OpenStoreKey::of_source(root_keys, source, &store, clock.as_ref()).await?;
        Self::with(store_key, store, clock).await
    }

    async fn with(
        store_key: OpenStoreKey,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let domains = Cache::new(CACHED_DOMAINS);
        let (loading, reserving) = Default::default();
        let keyring = Self { store, clock, store_key, domains, loading, reserving };
        let (mut opened, mut refused) = (Vec::new(), None);
        for domain in keyring.store.list_domains().await? {
            let okms_id = domain.okms_id;
            match keyring.keys(okms_id, 0).await {
                Ok(_) => opened.push(okms_id),
                Err(error) if keyring.has_damaged_key(okms_id).await? => {
                    tracing::error!(%okms_id, ?error, "a domain is not served: a key is damaged");
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let (true, Some(error)) = (opened.is_empty(), refused) {
            return Err(error);
        }
        keyring.prove_old_rows(&opened).await?;
        Ok(keyring)
    }

    /// Whether a key of a domain does not open under the store key that it names, or cannot be read.
    async fn has_damaged_key(&self, okms_id: OkmsId) -> Result<bool, Error> {
        match self.store.list_keys(okms_id).await {
            Ok(stored) => {
                let unwrapped = self.unwrap(okms_id, &stored.keys, None);
                Ok(matches!(unwrapped, Err(NotUnwrapped::Refused(_))))
            }
            Err(Error::Internal(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The store key, such as this process knows it.
    pub(super) fn store_key(&self) -> Arc<StoreKey> {
        self.store_key.present()
    }

    /// The root key that opened the store.
    pub(super) fn root_key_id(&self) -> RootKeyId {
        self.store_key.root_key_id()
    }

    /// Reads the store key anew, after another process has replaced it.
    pub(super) async fn renew_store_key(&self) -> Result<(), Error> {
        self.store_key.renew(&self.store, self.clock.as_ref()).await
    }

    /// The first key of a new domain, wrapped.
    pub(super) fn first_key(&self, okms_id: OkmsId) -> Result<NewKey, Error> {
        self.new_key(okms_id, Generation::FIRST)
    }

    /// Drops what is in memory of a domain, such as one that was deleted.
    pub(super) fn forget(&self, okms_id: OkmsId) {
        self.domains.remove(&okms_id);
    }

    /// Drops what is in memory of domains that are not there any more.
    pub(super) async fn forget_deleted(&self) -> Result<(), Error> {
        let domains = self.store.list_domains().await?;
        let present: HashSet<_> = domains.into_iter().map(|domain| domain.okms_id).collect();
        self.domains.retain(|okms_id, _| present.contains(okms_id));
        Ok(())
    }

    /// Gives a domain a key that follows `generation`, unless another process has given it one already.
    pub(super) async fn rotate(
        &self,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<(), Error> {
        for _ in 0..ROTATION_TRIES {
            let next = self.new_key(okms_id, generation.next())?;
            match self.store.insert_key(okms_id, next, self.clock.now()).await? {
                KeyInsertion::Done | KeyInsertion::Exists => {
                    self.forget(okms_id);
                    return Ok(());
                }
                KeyInsertion::StoreKeyReplaced => self.renew_store_key().await?,
            }
        }
        Err(Error::Unavailable("the store key is replaced again and again".into()))
    }

    /// A sealer for a domain, whose key has uses left. Once a generation has had its uses, the next one
    /// is made.
    ///
    /// `revision` is how recent the keys must be.
    pub(super) async fn sealer(&self, okms_id: OkmsId, revision: i64) -> Result<Sealer, Error> {
        for _ in 0..ROTATION_TRIES {
            let sealer = self.newest(okms_id, revision).await?;
            if sealer.has_uses() {
                return Ok(sealer);
            }
            let _reserving = self.reserving.lock().await;
            // Asked for again under the lock: whoever had it before may have reserved, or rotated.
            let sealer = self.newest(okms_id, revision).await?;
            if sealer.has_uses() {
                return Ok(sealer);
            }
            let (uses, max_uses) = (USES_PER_RESERVATION, DomainKey::MAX_USES as i64);
            if self.store.reserve_key_uses(sealer.key_id, uses, max_uses).await? {
                sealer.keys.uses_left.fetch_add(uses, Ordering::AcqRel);
            } else {
                // Where another replica was faster, its key is the next one.
                self.rotate(okms_id, sealer.key.generation()).await?;
            }
        }
        Err(Error::Unavailable("no key of the domain has uses left".into()))
    }

    /// The newest key of a domain, to name it; its uses may be exhausted.
    pub(super) async fn newest(&self, okms_id: OkmsId, revision: i64) -> Result<Sealer, Error> {
        self.keys(okms_id, revision).await?.sealer()
    }

    /// The keys of a domain as of a revision of the store, or later.
    pub(super) async fn keys(
        &self,
        okms_id: OkmsId,
        revision: i64,
    ) -> Result<Arc<DomainKeys>, Error> {
        // Of many who miss it at once, one loads: each load begins with no uses set aside.
        let keys = self.domains.get_or_insert_async(&okms_id, self.load(okms_id, None)).await?;
        if keys.revision >= revision {
            return Ok(keys);
        }
        self.reload(okms_id, revision).await
    }

    /// The same, read from the store unless what is known is recent enough.
    pub(super) async fn reload(
        &self,
        okms_id: OkmsId,
        revision: i64,
    ) -> Result<Arc<DomainKeys>, Error> {
        let _loading = self.loading.lock().await;
        let known = self.domains.get(&okms_id);
        if let Some(keys) = &known
            && keys.revision >= revision
        {
            return Ok(Arc::clone(keys));
        }
        let keys = self.load(okms_id, known).await?;
        self.domains.insert(okms_id, Arc::clone(&keys));
        Ok(keys)
    }

    /// Reads the keys of a domain; those that are `known` need not be unwrapped again.
    async fn load(
        &self,
        okms_id: OkmsId,
        known: Option<Arc<DomainKeys>>,
    ) -> Result<Arc<DomainKeys>, Error> {
        let mut tries_left = UNWRAP_TRIES;
        loop {
            let DomainKeyring { revision, keys } = self.store.list_keys(okms_id).await?;
            match self.unwrap(okms_id, &keys, known.as_deref()) {
                Ok(generations) => {
                    // Seals that this process has set aside for the newest key stay its own.
                    let newest = generations.first().map(|(key_id, _)| *key_id);
                    let same = known.filter(|known| known.newest_id() == newest);
                    let uses_left = same.map(|known| Arc::clone(&known.uses_left));
                    let uses_left = uses_left.unwrap_or_default();
                    return Ok(Arc::new(DomainKeys { revision, generations, uses_left }));
                }
                Err(NotUnwrapped::StoreKeyReplaced) if tries_left > 0 => {
                    tries_left -= 1;
                    self.renew_store_key().await?;
                }
                Err(NotUnwrapped::StoreKeyReplaced) => {
                    let why = format!("a key of domain {okms_id} is under another store key");
                    return Err(Error::Unavailable(why));
                }
                Err(NotUnwrapped::Refused(generation)) => {
                    return Err(Error::Unavailable(format!(
                        "key {} of domain {okms_id} does not open under the root key",
                        generation.get()
                    )));
                }
            }
        }
    }

    fn unwrap(
        &self,
        okms_id: OkmsId,
        keys: &[StoredKey],
        known: Option<&DomainKeys>,
    ) -> Result<Vec<(KeyId, Arc<DomainKey>)>, NotUnwrapped> {
        let store_key = self.store_key.present();
        let mut generations = Vec::with_capacity(keys.len());
        for stored in keys {
            let (wrapped, generation) = (&stored.wrapped_key, stored.generation);
            let key = match known.and_then(|known| known.key(stored)) {
                Some(key) => Arc::clone(key),
                None if stored.store_key_id.as_ref() != Some(store_key.id()) => {
                    return Err(NotUnwrapped::StoreKeyReplaced);
                }
                None => {
                    let key = store_key.unwrap_domain_key(wrapped, okms_id, generation);
                    Arc::new(key.map_err(|_| NotUnwrapped::Refused(generation))?)
                }
            };
            generations.push((stored.key_id, key));
        }
        Ok(generations)
    }

    fn new_key(&self, okms_id: OkmsId, generation: Generation) -> Result<NewKey, Error> {
        let store_key = self.store_key.present();
        let wrapped_key = store_key
            .generate_domain_key(okms_id, generation)
            .map_err(|_| Error::Unavailable("the system gives no randomness".into()))?;
        Ok(NewKey { generation, store_key_id: store_key.id().clone(), wrapped_key })
    }
}

/// Why the keys of a domain cannot be used.
enum NotUnwrapped {
    /// They are under another store key than the one that is known.
    StoreKeyReplaced,
    /// This one does not open, though it should.
    Refused(Generation),
}

impl DomainKeys {
    fn newest_id(&self) -> Option<KeyId> {
        self.generations.first().map(|(key_id, _)| *key_id)
    }

    /// Whether every row of the domain has to have a proof.
    pub(super) fn rows_are_proven(&self) -> bool {
        self.generations.iter().all(|(_, key)| key.rows_are_proven())
    }

    /// The key of a generation.
    pub(super) fn generation(&self, generation: Generation) -> Option<&DomainKey> {
        let mut keys = self.generations.iter().map(|(_, key)| &**key);
        keys.find(|key| key.generation() == generation)
    }

    /// The key of that name.
    pub(super) fn named(&self, key_id: KeyId) -> Option<&DomainKey> {
        let found = self.generations.iter().find(|(known, _)| *known == key_id);
        found.map(|(_, key)| &**key)
    }

    fn key(&self, stored: &StoredKey) -> Option<&Arc<DomainKey>> {
        let (_, key) = self.generations.iter().find(|(key_id, _)| *key_id == stored.key_id)?;
        Some(key).filter(|key| key.generation() == stored.generation)
    }

    fn sealer(self: &Arc<Self>) -> Result<Sealer, Error> {
        // The keys go with their domain, in one transaction.
        let (key_id, key) = self.generations.first().ok_or(Error::DomainNotFound)?;
        Ok(Sealer { key_id: *key_id, key: Arc::clone(key), keys: Arc::clone(self) })
    }
}

impl Sealer {
    /// Which key it is.
    pub(super) const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The key itself.
    pub(super) fn key(&self) -> &DomainKey {
        &self.key
    }

    /// All keys of the domain.
    pub(super) fn keys(&self) -> &DomainKeys {
        &self.keys
    }

    fn has_uses(&self) -> bool {
        self.keys.uses_left.load(Ordering::Acquire) > 0
    }

    /// Seals the data of a version. Storage may ask again after a conflict; every time is counted.
    pub(super) fn seal(&self, data: &[u8], place: &VersionPlace<'_>) -> Result<SealedData, Error> {
        // May fall below zero by as many writes as are under way; the next reservation makes up for it.
        self.keys.uses_left.fetch_sub(1, Ordering::AcqRel);
        self.key
            .seal(data, place)
            .map_err(|_| Error::Unavailable("the system gives no randomness".into()))
    }
}

/// Domains whose keys stay in memory: a few hundred bytes each.
const CACHED_DOMAINS: usize = 10_000;
/// Seals that a process sets aside at once: one small write in 65,536. A restart wastes what is left
/// of it; after 4,000 restarts the key is followed by a new one, which costs nothing.
const USES_PER_RESERVATION: i64 = 1 << 16;
/// A generation that runs out is followed by one that has not been used at all; only replicas that
/// use up a whole generation at the same time could need a third try.
const ROTATION_TRIES: usize = 8;
/// The store key may be replaced once more between two reads; nobody does that a third time at once.
const UNWRAP_TRIES: usize = 2;
