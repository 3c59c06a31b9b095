//! The key of the MACs of tokens: one for the store, made when the first token is.
//!
//! It stays the same when root key and store key are replaced, which wrap it anew; so what is in memory of it
//! never grows old.

use std::sync::Arc;

use super::Keyring;
use crate::{crypto::TokenKey, domain::Error, store::KeyInsertion};

impl Keyring {
    /// The key, to verify a token with.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is none or it does not open; or when storage fails.
    pub(super) async fn token_key(&self) -> Result<Arc<TokenKey>, Error> {
        self.token_key.get_or_try_init(|| self.load_token_key(false)).await.map(Arc::clone)
    }

    /// The key, to make a token with; made where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where it does not open; or when storage fails.
    pub(super) async fn first_token_key(&self) -> Result<Arc<TokenKey>, Error> {
        self.token_key.get_or_try_init(|| self.load_token_key(true)).await.map(Arc::clone)
    }

    async fn load_token_key(&self, make: bool) -> Result<Arc<TokenKey>, Error> {
        for _ in 0..TRIES {
            let store_key = self.store_key();
            let Some((wrapped_by, wrapped)) = self.store.find_token_key().await? else {
                if !make {
                    return Err(Error::Unavailable("the key of tokens is gone".into()));
                }
                let made = store_key.generate_token_key();
                let made =
                    made.map_err(|_| Error::Unavailable("the system gives no randomness".into()))?;
                let inserted = self.store.insert_token_key(store_key.id().clone(), made).await?;
                if inserted == KeyInsertion::StoreKeyReplaced {
                    self.renew_store_key().await?;
                }
                continue;
            };
            if wrapped_by == *store_key.id() {
                let key = store_key.unwrap_token_key(&wrapped);
                let refused = |_| Error::Unavailable("the key of tokens does not open".into());
                return key.map(Arc::new).map_err(refused);
            }
            self.renew_store_key().await?;
        }
        Err(Error::Unavailable("the store key changes again and again".into()))
    }
}

/// One to make the key and one to read it, and as many for a store key that is replaced meanwhile.
const TRIES: usize = 4;
