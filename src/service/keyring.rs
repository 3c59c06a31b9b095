//! Keys of domains, unwrapped in memory.
//!
//! What is here is a cache: other processes rotate keys, destroy those that nothing uses, and replace
//! the store key. Each request says how recent the keys must be that serve it
//! ([`Revisions::keys`](crate::domain::Revisions)), so a rotation acts on the next request everywhere.
//! Keys that were unwrapped once go on serving when the store key is replaced; for new ones, the root key
//! is read again from where it came from. That can take half a minute where a command gives it, so only
//! those wait who need such a new key: to write in its domain, or to read what is under it. Nobody waits who
//! is at work in another domain.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;

use super::{
    store_key::{OpenStoreKey, RootKeySource},
    token_key::KnownTokenKey,
};
use crate::{
    crypto::{
        DomainKey, Generation, KeyHash, KeyId, RootKey, RootKeyId, SealedData, SealedOutcome,
        StoreKey, VersionPlace,
    },
    domain::{Clock, Error, OkmsId, Timestamp},
    measure::{Finds, FindsMeasured, add, read},
    store::{DomainKeyring, KeyInsertion, NewKey, Store, StoredKey},
};

/// The keys of all domains of a store, each unwrapped when it is first needed.
pub struct Keyring {
    pub(super) store: Store,
    clock: Arc<dyn Clock>,
    store_key: Arc<OpenStoreKey>,
    domains: Cache<OkmsId, Arc<DomainKeys>>,
    locks: Cache<OkmsId, Arc<DomainLocks>>,
    finds: Finds,
    counts: Arc<KeyCounts>,
    /// The key of the MACs of tokens, such as this process knows it.
    pub(super) token_key: KnownTokenKey,
}

/// What goes one at a time in a domain. Where the cache has dropped a lock that somebody holds, a second
/// one does the same work once more, which harms nothing.
#[derive(Default)]
struct DomainLocks {
    /// Of many requests that find a domain's keys out of date, one reads them. Nobody reads the root key
    /// while holding it.
    loading: tokio::sync::Mutex<()>,
    /// Reservations go one at a time: each pays for thousands of seals.
    reserving: tokio::sync::Mutex<()>,
}

/// All generations of a domain's key, the newest first.
pub(super) struct DomainKeys {
    /// What no other keys of this process have, so that rows can tell by which they were verified.
    pub(super) number: u64,
    /// Of which revision of the store they are, at least.
    revision: i64,
    generations: Vec<(KeyId, Arc<DomainKey>)>,
    /// Why there are more keys than these, where there are: they came later, and could not be unwrapped.
    missing: Option<NotUnwrapped>,
    /// How often this process may still use the newest before it must reserve more.
    uses_left: Arc<AtomicI64>,
    counts: Arc<KeyCounts>,
}

/// How often this process has encrypted and decrypted with keys since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOperations {
    /// Data sealed with keys of domains.
    pub domain_seals: u64,
    /// Data opened with keys of domains.
    pub domain_opens: u64,
    /// Keys of domains wrapped by the store key.
    pub store_seals: u64,
    /// Keys of domains unwrapped by the store key.
    pub store_opens: u64,
}

#[derive(Debug, Default)]
pub(super) struct KeyCounts {
    domain_seals: AtomicU64,
    domain_opens: AtomicU64,
    store_seals: AtomicU64,
    store_opens: AtomicU64,
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
    /// log says so, and the others are served. Also where there is a key of tokens that does not open.
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
        let (domains, locks) = (Cache::new(CACHED_DOMAINS), Cache::new(CACHED_DOMAINS));
        let store_key = Arc::new(store_key);
        let token_key = KnownTokenKey::default();
        let (finds, counts) = (Finds::default(), Arc::default());
        let keyring = Self { store, clock, store_key, domains, locks, finds, counts, token_key };
        let (mut opened, mut refused) = (Vec::new(), None);
        for okms_id in keyring.store.list_okms_ids().await? {
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
        keyring.open_token_key().await?;
        Ok(keyring)
    }

    /// Whether a key of a domain does not open under the present store key, or cannot be read.
    async fn has_damaged_key(&self, okms_id: OkmsId) -> Result<bool, Error> {
        // With the present store key at hand, a key that names another one names none that there is.
        self.renew_store_key().await?;
        match self.store.list_keys(okms_id).await {
            Ok(stored) => Ok(self.unwrap(okms_id, &stored.keys, None).1.is_some()),
            Err(Error::Internal(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// How often the keys of a domain that were at hand would do, and how often not.
    pub fn finds(&self) -> FindsMeasured {
        self.finds.measured()
    }

    /// How often keys were used since the start.
    pub fn operations(&self) -> KeyOperations {
        KeyOperations {
            domain_seals: read(&self.counts.domain_seals),
            domain_opens: read(&self.counts.domain_opens),
            store_seals: read(&self.counts.store_seals),
            store_opens: read(&self.counts.store_opens),
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

    /// Reads the store key anew, where another process has replaced it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where no root key at hand opens it, or storage fails.
    pub async fn renew_store_key(&self) -> Result<(), Error> {
        let (store_key, store) = (Arc::clone(&self.store_key), self.store.clone());
        let clock = Arc::clone(&self.clock);
        // In a task of its own: a command that takes longer than a caller waits would otherwise be begun
        // again by each, and never end.
        let renewal = tokio::spawn(async move { store_key.renew(&store, clock.as_ref()).await });
        renewal.await.map_err(|_| Error::Internal("renewing the store key panicked".into()))?
    }

    /// Whether the store key that is known is the one that the store has now. While it is not, known keys serve, and a
    /// start would fail where the root key at hand is not the store's.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn is_current(&self) -> Result<bool, Error> {
        let present = self.store_key.present();
        let slots = self.store.list_root_keys().await?;
        let mut store_keys = slots.iter().filter_map(|slot| slot.store_key.as_ref());
        Ok(store_keys.any(|key| key.id == *present.id()))
    }

    /// Looks whether there is no key of a domain, nor of `tokens` if they are taken, that a request may need and that
    /// cannot be had. Reads the root key again where it was replaced, and waits so long for that; it goes on to be
    /// read.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is one; or when storage fails.
    pub async fn opens_all_keys(&self, tokens: bool, patience: Duration) -> Result<(), Error> {
        if let Ok(Ok(())) = tokio::time::timeout(patience, self.renew_store_key()).await {
            return Ok(());
        }
        let store_key = self.store_key.present();
        for (okms_id, key_id) in self.store.list_keys_not_under(store_key.id()).await? {
            let known = self.domains.get(&okms_id);
            if known.is_none_or(|known| known.named(key_id).is_none()) {
                let why = format!("a key of domain {okms_id} is under another store key");
                return Err(Error::Unavailable(why));
            }
        }
        if tokens && !self.opens_token_key().await? {
            return Err(Error::Unavailable("the key of tokens is under another store key".into()));
        }
        Ok(())
    }

    /// The first key of a new domain, wrapped.
    pub(super) fn first_key(&self, okms_id: OkmsId) -> Result<NewKey, Error> {
        self.new_key(okms_id, Generation::FIRST)
    }

    /// Drops what is in memory of a domain, such as one that was deleted.
    pub(super) fn forget(&self, okms_id: OkmsId) {
        self.domains.remove(&okms_id);
        self.locks.remove(&okms_id);
    }

    /// Reads the keys of a domain anew after a change of them. Those that are known stay known: where the
    /// store key was replaced, they may be all that can be had.
    pub(super) async fn note_change(&self, okms_id: OkmsId) {
        if self.refresh(okms_id, i64::MAX).await.is_err() {
            self.forget(okms_id);
        }
    }

    /// Drops what is in memory of domains that are not there any more.
    pub(super) async fn forget_deleted(&self) -> Result<(), Error> {
        let present: HashSet<_> = self.store.list_okms_ids().await?.into_iter().collect();
        self.domains.retain(|okms_id, _| present.contains(okms_id));
        self.locks.retain(|okms_id, _| present.contains(okms_id));
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
                    self.note_change(okms_id).await;
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
            let locks = self.locks(okms_id);
            let _reserving = locks.reserving.lock().await;
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
        let mut keys = self.keys(okms_id, revision).await?;
        if keys.missing.is_some() {
            keys = self.reload(okms_id).await?;
        }
        keys.sealer()
    }

    /// The keys of a domain as of a revision of the store, or later. Where the store key was replaced, those
    /// may be missing that were made since; whoever meets rows under one of them asks for a
    /// [reload](Self::reload).
    pub(super) async fn keys(
        &self,
        okms_id: OkmsId,
        revision: i64,
    ) -> Result<Arc<DomainKeys>, Error> {
        // Nearly always; what follows is kept apart, or each request would carry the room that it takes.
        let found = self.domains.get(&okms_id).filter(|keys| keys.revision >= revision);
        self.finds.add(found.is_some());
        if let Some(keys) = found {
            return Ok(keys);
        }
        Box::pin(async {
            // Of many who miss it at once, one loads: each load begins with no uses set aside.
            let keys = self.domains.get_or_insert_async(&okms_id, self.load(okms_id)).await?;
            if keys.revision >= revision {
                return Ok(keys);
            }
            self.refresh(okms_id, revision).await
        })
        .await
    }

    /// All keys of a domain as they are in the store now.
    pub(super) async fn reload(&self, okms_id: OkmsId) -> Result<Arc<DomainKeys>, Error> {
        let mut tries_left = UNWRAP_TRIES;
        loop {
            let keys = self.refresh(okms_id, i64::MAX).await?;
            match keys.missing {
                None => return Ok(keys),
                Some(why) => self.try_again(okms_id, why, &mut tries_left).await?,
            }
        }
    }

    /// Reads the keys of a domain unless what is known is recent enough; with those of them that can be
    /// unwrapped now. Does not wait for a root key, unless nothing is known of the domain.
    async fn refresh(&self, okms_id: OkmsId, revision: i64) -> Result<Arc<DomainKeys>, Error> {
        let locks = self.locks(okms_id);
        let _loading = locks.loading.lock().await;
        let Some(known) = self.domains.get(&okms_id) else {
            return self.domains.get_or_insert_async(&okms_id, self.load(okms_id)).await;
        };
        if known.revision >= revision {
            return Ok(known);
        }
        let DomainKeyring { revision, keys } = self.store.list_keys(okms_id).await?;
        let (generations, missing) = self.unwrap(okms_id, &keys, Some(&known));
        // Seals that this process has set aside for the newest key stay its own.
        let newest = generations.first().map(|(key_id, _)| *key_id);
        let same = (known.newest_id() == newest).then(|| Arc::clone(&known.uses_left));
        let uses_left = same.unwrap_or_default();
        let (number, counts) = (next_number(), Arc::clone(&self.counts));
        let keys = DomainKeys { number, revision, generations, missing, uses_left, counts };
        let keys = Arc::new(keys);
        self.domains.insert(okms_id, Arc::clone(&keys));
        Ok(keys)
    }

    /// Reads and unwraps all keys of a domain of which nothing is known.
    async fn load(&self, okms_id: OkmsId) -> Result<Arc<DomainKeys>, Error> {
        let mut tries_left = UNWRAP_TRIES;
        loop {
            let DomainKeyring { revision, keys } = self.store.list_keys(okms_id).await?;
            let (generations, missing) = self.unwrap(okms_id, &keys, None);
            let Some(why) = missing else {
                let (number, counts) = (next_number(), Arc::clone(&self.counts));
                let uses_left = Arc::default();
                let keys = DomainKeys { number, revision, generations, missing, uses_left, counts };
                return Ok(Arc::new(keys));
            };
            self.try_again(okms_id, why, &mut tries_left).await?;
        }
    }

    /// Does what may help where a key was not unwrapped.
    async fn try_again(
        &self,
        okms_id: OkmsId,
        why: NotUnwrapped,
        tries_left: &mut usize,
    ) -> Result<(), Error> {
        match why {
            NotUnwrapped::StoreKeyReplaced if *tries_left > 0 => {
                *tries_left -= 1;
                self.renew_store_key().await
            }
            NotUnwrapped::StoreKeyReplaced => {
                let why = format!("a key of domain {okms_id} is under another store key");
                Err(Error::Unavailable(why))
            }
            NotUnwrapped::Refused(generation) => Err(Error::Unavailable(format!(
                "key {} of domain {okms_id} does not open under the root key",
                generation.get()
            ))),
        }
    }

    /// Unwraps keys, but for those that are `known` already; and says why not all, where that is so.
    fn unwrap(
        &self,
        okms_id: OkmsId,
        keys: &[StoredKey],
        known: Option<&DomainKeys>,
    ) -> (Vec<(KeyId, Arc<DomainKey>)>, Option<NotUnwrapped>) {
        let store_key = self.store_key.present();
        let (mut generations, mut missing) = (Vec::with_capacity(keys.len()), None);
        for stored in keys {
            let (wrapped, generation) = (&stored.wrapped_key, stored.generation);
            if let Some(key) = known.and_then(|known| known.key(stored)) {
                generations.push((stored.key_id, Arc::clone(key)));
            } else if stored.store_key_id.as_ref() != Some(store_key.id()) {
                missing.get_or_insert(NotUnwrapped::StoreKeyReplaced);
            } else if let Ok(key) = store_key.unwrap_domain_key(wrapped, okms_id, generation) {
                add(&self.counts.store_opens);
                generations.push((stored.key_id, Arc::new(key)));
            } else {
                missing.get_or_insert(NotUnwrapped::Refused(generation));
            }
        }
        (generations, missing)
    }

    fn locks(&self, okms_id: OkmsId) -> Arc<DomainLocks> {
        let made = || Ok::<_, Infallible>(Arc::default());
        let Ok(locks) = self.locks.get_or_insert_with(&okms_id, made);
        locks
    }

    fn new_key(&self, okms_id: OkmsId, generation: Generation) -> Result<NewKey, Error> {
        let store_key = self.store_key.present();
        add(&self.counts.store_seals);
        let wrapped_key = store_key
            .generate_domain_key(okms_id, generation)
            .map_err(|_| Error::Unavailable("the system gives no randomness".into()))?;
        Ok(NewKey { generation, store_key_id: store_key.id().clone(), wrapped_key })
    }
}

/// What no keys of a domain had before in this process.
fn next_number() -> u64 {
    // Rows that were never verified have 0.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Why a key of a domain cannot be used.
#[derive(Clone, Copy)]
enum NotUnwrapped {
    /// It is under another store key than the one that is known.
    StoreKeyReplaced,
    /// The one of this generation does not open, though it should.
    Refused(Generation),
}

impl DomainKeys {
    /// Keys that are in no store.
    #[cfg(test)]
    pub(super) fn of_test(generations: Vec<(KeyId, Arc<DomainKey>)>) -> Self {
        let (uses_left, counts) = (Arc::default(), Arc::default());
        Self { number: next_number(), revision: 0, generations, missing: None, uses_left, counts }
    }

    /// Counts that data was opened with one of them.
    pub(super) fn count_open(&self) {
        add(&self.counts.domain_opens);
    }

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
        add(&self.keys.counts.domain_seals);
        self.key
            .seal(data, place)
            .map_err(|_| Error::Unavailable("the system gives no randomness".into()))
    }

    /// Seals what came of a write; counted as any other seal.
    pub(super) fn seal_outcome(
        &self,
        outcome: &[u8],
        key: KeyHash,
        created_at: Timestamp,
    ) -> Result<SealedOutcome, Error> {
        self.keys.uses_left.fetch_sub(1, Ordering::AcqRel);
        add(&self.keys.counts.domain_seals);
        self.key
            .seal_outcome(outcome, key, created_at)
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
