//! The store key in memory, and how it is opened with a root key.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    crypto::{RootKey, RootKeyId, StoreKey},
    domain::{Clock, Error},
    store::{RootKeySlot, Store, WrappedStoreKey},
};

/// Reads the root key from where it is kept. It may give more than one: during a rotation a new key lies
/// beside the old one, and only the store can tell which counts.
pub type RootKeySource = Arc<dyn Fn() -> Result<Vec<RootKey>, String> + Send + Sync>;

/// The store key of a store.
pub(super) struct OpenStoreKey {
    opened: RwLock<Opened>,
    /// Where the root key can be read again.
    source: Option<RootKeySource>,
    /// One process reads its root key once at a time; when it last did so in vain.
    renewing: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Opened {
    store_key: Arc<StoreKey>,
    /// The root key that opened it. The key itself is not kept: it is needed for a moment only.
    root_key_id: RootKeyId,
}

impl OpenStoreKey {
    /// Opens the store key with a root key. A store that has neither takes this root key and gets a store
    /// key; a store whose root key wraps the keys of domains itself, as it was before there were store
    /// keys, gets one too.
    pub(super) async fn of_key(
        root_key: &RootKey,
        store: &Store,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let opened = open(std::slice::from_ref(root_key), store, clock).await?;
        Ok(Self::new(opened, None))
    }

    /// As [`OpenStoreKey::of_key`], with a root key that can be read again.
    pub(super) async fn of_source(
        root_keys: Vec<RootKey>,
        source: Option<RootKeySource>,
        store: &Store,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let opened = open(&root_keys, store, clock).await?;
        Ok(Self::new(opened, source))
    }

    fn new(opened: Opened, source: Option<RootKeySource>) -> Self {
        Self { opened: RwLock::new(opened), source, renewing: tokio::sync::Mutex::default() }
    }

    /// The store key, such as this process knows it.
    pub(super) fn present(&self) -> Arc<StoreKey> {
        self.opened().store_key
    }

    /// The root key that opened it.
    pub(super) fn root_key_id(&self) -> RootKeyId {
        self.opened().root_key_id
    }

    /// Opens the store key of the store anew, if it is another one by now.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where no root key at hand opens it, or storage fails.
    pub(super) async fn renew(&self, store: &Store, clock: &dyn Clock) -> Result<(), Error> {
        let mut failed = self.renewing.lock().await;
        let present = self.present();
        let slots = store.list_root_keys().await?;
        let mut ids = slots.iter().filter_map(|slot| slot.store_key.as_ref());
        if ids.any(|key| key.id == *present.id()) {
            return Ok(());
        }
        if failed.is_some_and(|failed| failed.elapsed() < RENEWAL_PAUSE) {
            return Err(Error::Unavailable("the store key was replaced".into()));
        }
        let renewed = match &self.source {
            None => Err(Error::Unavailable(
                "the store key was replaced, and the root key cannot be read again".into(),
            )),
            Some(source) => match read(source).await {
                Ok(root_keys) => open(&root_keys, store, clock).await,
                Err(error) => Err(error),
            },
        };
        match renewed {
            Ok(opened) => {
                tracing::info!(root_key.id = %opened.root_key_id, "took the new root key");
                *self.opened.write().unwrap_or_else(PoisonError::into_inner) = opened;
                *failed = None;
                Ok(())
            }
            Err(error) => {
                tracing::error!(?error, "the store has a new root key, which is not at hand");
                *failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    fn opened(&self) -> Opened {
        // It is replaced as a whole, so a panic elsewhere leaves nothing half done.
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads root keys, which may take a file or a command.
async fn read(source: &RootKeySource) -> Result<Vec<RootKey>, Error> {
    let source = Arc::clone(source);
    let read = tokio::task::spawn_blocking(move || source()).await;
    let read = read.map_err(|_| Error::Internal("reading the root key panicked".into()))?;
    read.map_err(Error::Unavailable)
}

async fn open(root_keys: &[RootKey], store: &Store, clock: &dyn Clock) -> Result<Opened, Error> {
    let first = root_keys.first().ok_or_else(|| Error::Unavailable("no root key".into()))?;
    let slots = store.list_root_keys().await?;
    let is_of = |key: &&RootKey| slots.iter().any(|slot| slot.root_key_id == *key.id());
    let registered = root_keys.iter().find(is_of);
    let root_key = match registered {
        Some(registered) => registered,
        // A new store, which belongs to whoever comes first.
        None if slots.is_empty() => first,
        None => return Err(belongs_to_others(&slots, first)),
    };
    if let Some(opened) = open_slot(&slots, root_key)? {
        return Ok(opened);
    }
    let slots = adopt(root_key, store, clock).await?;
    let opened = open_slot(&slots, root_key)?;
    opened.ok_or_else(|| belongs_to_others(&slots, root_key))
}

/// Opens the store key that the slot of a root key holds; nothing where there is no such slot, or no store
/// key in it.
fn open_slot(slots: &[RootKeySlot], root_key: &RootKey) -> Result<Option<Opened>, Error> {
    let slot = slots.iter().find(|slot| slot.root_key_id == *root_key.id());
    let Some(wrapped) = slot.and_then(|slot| slot.store_key.as_ref()) else { return Ok(None) };
    let store_key = StoreKey::unwrap(&wrapped.wrapped, &wrapped.id, root_key).map_err(|_| {
        let (id, root) = (&wrapped.id, root_key.id());
        Error::Unavailable(format!("the store key {id} does not open under the root key {root}"))
    })?;
    let (store_key, root_key_id) = (Arc::new(store_key), root_key.id().clone());
    Ok(Some(Opened { store_key, root_key_id }))
}

async fn adopt(
    root_key: &RootKey,
    store: &Store,
    clock: &dyn Clock,
) -> Result<Vec<RootKeySlot>, Error> {
    let no_randomness = |_| Error::Unavailable("the system gives no randomness".into());
    let store_key = StoreKey::generate().map_err(no_randomness)?;
    let wrapped = store_key.wrap(root_key).map_err(no_randomness)?;
    let wrapped = WrappedStoreKey { id: store_key.id().clone(), wrapped };
    let id = root_key.id().clone();
    // The unit of work outlives this call where its caller goes away, so it has a root key of its own.
    let root_key = root_key.duplicate();
    let taken_over = store.adopt_store_key(id, wrapped, clock.now(), move |okms_id, key| {
        let (wrapped, generation) = (&key.wrapped_key, key.generation);
        store_key.take_over_domain_key(&root_key, wrapped, okms_id, generation).map_err(|_| {
            Error::Unavailable(format!(
                "key {} of domain {okms_id} does not open under the root key",
                generation.get()
            ))
        })
    });
    taken_over.await
}

fn belongs_to_others(slots: &[RootKeySlot], given: &RootKey) -> Error {
    let ids: Vec<_> = slots.iter().map(|slot| slot.root_key_id.as_str()).collect();
    Error::Unavailable(format!(
        "the root key does not open this store: the store belongs to root key {}, the one given is {}",
        ids.join(" or "),
        given.id()
    ))
}

/// How long a failed reading of the root key counts: a command may call a KMS far away, and must not be
/// run for each request meanwhile.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);
