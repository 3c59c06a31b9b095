//! Keys of domains, unwrapped in memory.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use quick_cache::sync::Cache;

use crate::{
    crypto::{CryptoError, DomainKey, Generation, RootKey, SealedData},
    domain::{Clock, Error, OkmsId, SecretData, SecretPath, VersionId},
    store::{Store, StoredKey},
};

/// The keys of all domains of a store, each unwrapped when it is first needed.
pub struct Keyring {
    root_key: RootKey,
    store: Store,
    clock: Arc<dyn Clock>,
    domains: Cache<OkmsId, Arc<DomainKeys>>,
    /// Reservations go one at a time: each pays for thousands of seals.
    reserving: tokio::sync::Mutex<()>,
}

/// All generations of a domain's key, the newest first.
struct DomainKeys {
    generations: Vec<Arc<DomainKey>>,
    /// How often this process may still use the newest before it must reserve more.
    uses_left: AtomicI64,
}

/// Seals with the newest key of a domain, and counts how often.
pub(super) struct Sealer {
    key: Arc<DomainKey>,
    keys: Arc<DomainKeys>,
}

impl Keyring {
    /// Takes the root key of a store; a store without one takes this.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the store has another root key, or a domain's key does not open
    /// under this one: better not to start than to find out at the first read.
    pub async fn open(
        root_key: RootKey,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let registered = store.register_root_key(root_key.id().clone(), clock.now()).await?;
        if registered != *root_key.id() {
            return Err(Error::Unavailable(format!(
                "the root key does not open this store: the store belongs to root key \
                 {registered}, the one given is {}",
                root_key.id()
            )));
        }
        let domains = Cache::new(CACHED_DOMAINS);
        let reserving = tokio::sync::Mutex::new(());
        let keyring = Self { root_key, store, clock, domains, reserving };
        for domain in keyring.store.list_domains().await? {
            keyring.keys(domain.okms_id).await?;
        }
        Ok(keyring)
    }

    /// The first key of a new domain, wrapped.
    pub(super) fn first_key(&self, okms_id: OkmsId) -> Result<StoredKey, Error> {
        self.new_key(okms_id, Generation::FIRST)
    }

    /// Drops what is in memory of a domain, such as one that was deleted.
    pub(super) fn forget(&self, okms_id: OkmsId) {
        self.domains.remove(&okms_id);
    }

    /// A sealer for a domain, whose key has uses left. Once a generation has had its uses, the next one
    /// is made.
    pub(super) async fn sealer(&self, okms_id: OkmsId) -> Result<Sealer, Error> {
        for _ in 0..ROTATION_TRIES {
            if let Some(sealer) = self.keys(okms_id).await?.sealer()? {
                return Ok(sealer);
            }
            let _reserving = self.reserving.lock().await;
            // Asked for again under the lock: whoever had it before may have reserved, or rotated.
            let keys = self.keys(okms_id).await?;
            if let Some(sealer) = keys.sealer()? {
                return Ok(sealer);
            }
            let generation = keys.newest()?.generation();
            let (uses, max_uses) = (USES_PER_RESERVATION, DomainKey::MAX_USES as i64);
            if self.store.reserve_key_uses(okms_id, generation, uses, max_uses).await? {
                keys.uses_left.fetch_add(uses, Ordering::AcqRel);
            } else {
                let next = self.new_key(okms_id, generation.next())?;
                // Where another replica was faster, its key is the next one.
                self.store.insert_key(okms_id, next, self.clock.now()).await?;
                self.domains.remove(&okms_id);
            }
        }
        Err(Error::Unavailable("no key of the domain has uses left".into()))
    }

    /// Opens the data of a version.
    pub(super) async fn open_data(
        &self,
        okms_id: OkmsId,
        path: &SecretPath,
        version: VersionId,
        sealed: &SealedData,
    ) -> Result<SecretData, Error> {
        let refused = |_: CryptoError| {
            Error::Internal(format!("data of version {} does not open", version.get()))
        };
        let generation = sealed.generation().map_err(refused)?;
        let key = self.key(okms_id, generation).await?.ok_or_else(|| refused(CryptoError))?;
        SecretData::from_stored(key.open(sealed, path, version).map_err(refused)?)
    }

    /// The newest key of a domain.
    pub(super) async fn newest_key(&self, okms_id: OkmsId) -> Result<Arc<DomainKey>, Error> {
        self.keys(okms_id).await?.newest().cloned()
    }

    /// The key of a domain of that generation, where it has it.
    pub(super) async fn key(
        &self,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<Option<Arc<DomainKey>>, Error> {
        let mut keys = self.keys(okms_id).await?;
        if keys.generation(generation).is_none() {
            // Another replica may have made it since.
            self.domains.remove(&okms_id);
            keys = self.keys(okms_id).await?;
        }
        Ok(keys.generation(generation).cloned())
    }

    async fn keys(&self, okms_id: OkmsId) -> Result<Arc<DomainKeys>, Error> {
        // Of many who miss it at once, one loads: each load begins with no uses set aside.
        self.domains.get_or_insert_async(&okms_id, self.load(okms_id)).await
    }

    async fn load(&self, okms_id: OkmsId) -> Result<Arc<DomainKeys>, Error> {
        let mut generations = Vec::new();
        for stored in self.store.list_keys(okms_id).await? {
            let key = self
                .root_key
                .unwrap_domain_key(&stored.wrapped_key, okms_id, stored.generation)
                .map_err(|_| {
                    Error::Unavailable(format!(
                        "key {} of domain {okms_id} does not open under the root key",
                        stored.generation.get()
                    ))
                })?;
            generations.push(Arc::new(key));
        }
        Ok(Arc::new(DomainKeys { generations, uses_left: AtomicI64::new(0) }))
    }

    fn new_key(&self, okms_id: OkmsId, generation: Generation) -> Result<StoredKey, Error> {
        let wrapped_key = self
            .root_key
            .generate_domain_key(okms_id, generation)
            .map_err(|_| Error::Unavailable("the system gives no randomness".into()))?;
        Ok(StoredKey { generation, root_key_id: self.root_key.id().clone(), wrapped_key })
    }
}

impl DomainKeys {
    fn newest(&self) -> Result<&Arc<DomainKey>, Error> {
        // The keys go with their domain, in one transaction.
        self.generations.first().ok_or(Error::DomainNotFound)
    }

    fn generation(&self, generation: Generation) -> Option<&Arc<DomainKey>> {
        self.generations.iter().find(|key| key.generation() == generation)
    }

    fn sealer(self: &Arc<Self>) -> Result<Option<Sealer>, Error> {
        let key = Arc::clone(self.newest()?);
        let has_uses = self.uses_left.load(Ordering::Acquire) > 0;
        Ok(has_uses.then(|| Sealer { key, keys: Arc::clone(self) }))
    }
}

impl Sealer {
    /// Seals the data of a version. Storage may ask again after a conflict; every time is counted.
    pub(super) fn seal(
        &self,
        data: &SecretData,
        path: &SecretPath,
        version: VersionId,
    ) -> Result<SealedData, Error> {
        // May fall below zero by as many writes as are under way; the next reservation makes up for it.
        self.keys.uses_left.fetch_sub(1, Ordering::AcqRel);
        self.key
            .seal(data.as_str().as_bytes(), path, version)
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
