//! The key of the MACs of tokens: one for the store, made when the first token is, and replaced with the store key.
//!
//! What is here of it is a cache, for as long as the store has had no change of keys: each look-up of a token tells
//! that. A key that was replaced proves nothing from then on, whatever a row says of it.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicI64, Ordering},
};

use super::Keyring;
use crate::{
    crypto::{StoreKey, TokenHash, TokenKey, TokenKeyId},
    domain::{Error, Token},
    store::{FoundToken, KeyInsertion, StoredTokenKey, TokenKeyChange, TokenProof, TokenWrite},
};

/// The key, such as this process knows it.
#[derive(Default)]
pub(super) struct KnownTokenKey {
    key: RwLock<Option<Arc<OpenTokenKey>>>,
    /// One reads it at a time, which may take a root key. Those wait who need another one than is known.
    reading: tokio::sync::Mutex<()>,
}

/// The key, unwrapped.
struct OpenTokenKey {
    id: TokenKeyId,
    key: TokenKey,
    /// The latest [`Revisions::keys`](crate::domain::Revisions::keys) as of which it was the store's.
    as_of: AtomicI64,
}

impl Keyring {
    /// Whether the row of a token is such as it was written; `None` where its MAC is of no key that there is, which
    /// the row of a moment ago may be.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no key or it does not open; or when storage fails.
    pub(super) async fn proves_token(&self, found: &FoundToken) -> Result<Option<bool>, Error> {
        let is_named = |key: &OpenTokenKey| key.id == found.proof.key_id;
        let as_of = found.revisions.keys;
        let will_do = |key: &OpenTokenKey| is_named(key) && key.as_of() >= as_of;
        let key = self.known_token_key(will_do, false).await?;
        key.as_of.fetch_max(as_of, Ordering::Relaxed);
        Ok(is_named(&key).then(|| key.proves(found)))
    }

    /// Writes a token with the proof of it, under the key that there is then; `false` where what it depends on is
    /// revoked or gone. Where the store has no key yet, it is given one.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the key does not open; or what `write` fails with.
    pub(super) async fn write_token<W: Future<Output = Result<TokenWrite, Error>>>(
        &self,
        token: &Token,
        hash: TokenHash,
        write: impl Fn(TokenProof) -> W,
    ) -> Result<bool, Error> {
        let mut key = self.known_token_key(|_| true, true).await?;
        for _ in 0..TRIES {
            let mac = key.key.sign(token, &hash);
            match write(TokenProof { key_id: key.id.clone(), mac }).await? {
                TokenWrite::Done => return Ok(true),
                TokenWrite::Refused => return Ok(false),
                TokenWrite::KeyReplaced => {
                    key = self.known_token_key(|known| known.id != key.id, true).await?;
                }
            }
        }
        Err(again_and_again())
    }

    /// Opens the key if there is one, so that a damaged one is found out before it is needed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where it does not open; or when storage fails.
    pub(super) async fn open_token_key(&self) -> Result<(), Error> {
        if self.store.find_token_key().await?.is_some() {
            self.known_token_key(|_| true, false).await?;
        }
        Ok(())
    }

    /// Whether the key that the store has, if any, is known or under the store key that is.
    pub(super) async fn opens_token_key(&self) -> Result<bool, Error> {
        let Some(stored) = self.store.find_token_key().await? else { return Ok(true) };
        let is_known = self.token_key.get().is_some_and(|key| key.id == stored.id);
        Ok(is_known || stored.store_key_id == *self.store_key().id())
    }

    /// The key that is known, where it will do; else the one that the store has.
    async fn known_token_key(
        &self,
        will_do: impl Fn(&OpenTokenKey) -> bool,
        make: bool,
    ) -> Result<Arc<OpenTokenKey>, Error> {
        let known = || self.token_key.get().filter(|key| will_do(key));
        if let Some(key) = known() {
            return Ok(key);
        }
        let _reading = self.token_key.reading.lock().await;
        // Whoever had the lock before may have read it.
        if let Some(key) = known() {
            return Ok(key);
        }
        let key = Arc::new(self.load_token_key(make).await?);
        self.token_key.set(Arc::clone(&key));
        Ok(key)
    }

    async fn load_token_key(&self, make: bool) -> Result<OpenTokenKey, Error> {
        for _ in 0..TRIES {
            let store_key = self.store_key();
            let Some(stored) = self.store.find_token_key().await? else {
                if !make {
                    return Err(Error::Unavailable("the key of tokens is gone".into()));
                }
                let inserted = self.store.insert_token_key(new_token_key(&store_key)?).await?;
                if inserted == KeyInsertion::StoreKeyReplaced {
                    self.renew_store_key().await?;
                }
                continue;
            };
            if stored.store_key_id == *store_key.id() {
                return open(&store_key, stored);
            }
            self.renew_store_key().await?;
        }
        Err(again_and_again())
    }
}

impl KnownTokenKey {
    fn get(&self) -> Option<Arc<OpenTokenKey>> {
        // It is replaced as a whole, so a panic elsewhere leaves nothing half done.
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, key: Arc<OpenTokenKey>) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

impl OpenTokenKey {
    fn as_of(&self) -> i64 {
        self.as_of.load(Ordering::Relaxed)
    }

    fn proves(&self, found: &FoundToken) -> bool {
        self.key.verify(&found.token, &found.hash, &found.proof.mac).is_ok()
    }
}

/// What follows the key of tokens when the store key `old` is replaced by `new`.
pub(super) fn change_token_key(
    stored: &StoredTokenKey,
    old: &StoreKey,
    new: &StoreKey,
) -> Result<TokenKeyChange, Error> {
    let before = open(old, stored.clone())?;
    let made = new_token_key(new)?;
    let after = open(new, made.clone())?;
    let sign_anew = move |found: &FoundToken| {
        before.proves(found).then(|| after.key.sign(&found.token, &found.hash))
    };
    Ok(TokenKeyChange { new: made, sign_anew: Box::new(sign_anew) })
}

fn new_token_key(store_key: &StoreKey) -> Result<StoredTokenKey, Error> {
    let wrapped = store_key
        .generate_token_key()
        .map_err(|_| Error::Unavailable("the system gives no randomness".into()))?;
    let store_key_id = store_key.id().clone();
    Ok(StoredTokenKey { id: TokenKeyId::generate(), store_key_id, wrapped })
}

fn open(store_key: &StoreKey, stored: StoredTokenKey) -> Result<OpenTokenKey, Error> {
    let key = store_key.unwrap_token_key(&stored.wrapped).map_err(|_| {
        Error::Unavailable(
            "the key of tokens does not open: put the row of token_keys back from a backup, or remove it \
             with all tokens"
                .into(),
        )
    })?;
    Ok(OpenTokenKey { id: stored.id, key, as_of: AtomicI64::new(i64::MIN) })
}

fn again_and_again() -> Error {
    Error::Unavailable("the key of tokens is replaced again and again".into())
}

/// One to make the key and one to read it, and as many for one that is replaced meanwhile.
const TRIES: usize = 4;
