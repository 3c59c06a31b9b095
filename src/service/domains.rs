//! What operators do with domains.

use std::sync::Arc;

use uuid::Uuid;

use super::Keyring;
use crate::{
    domain::{Clock, Error, OkmsDomain, OkmsId, SecretConfig},
    store::{Store, UnreadableDomain},
};

/// The use cases of domains.
#[derive(Clone)]
pub struct Domains {
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

impl Domains {
    /// Works on `store`, with keys under the root key of `keyring`.
    pub fn new(store: Store, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock }
    }

    /// Makes a domain with a key of its own.
    ///
    /// # Errors
    ///
    /// When name or region break a rule, or storage fails.
    pub async fn create(&self, name: &str, region: &str) -> Result<OkmsDomain, Error> {
        OkmsDomain::check_name(name)?;
        OkmsDomain::check_region(region)?;
        let domain = OkmsDomain {
            okms_id: OkmsId::new(Uuid::new_v4()),
            name: name.to_owned(),
            region: region.to_owned(),
            created_at: self.clock.now(),
            config: SecretConfig::default(),
        };
        for _ in 0..STORE_KEY_TRIES {
            let key = self.keyring.first_key(domain.okms_id)?;
            if self.store.insert_domain(domain.clone(), key).await? {
                return Ok(domain);
            }
            self.keyring.renew_store_key().await?;
        }
        Err(Error::Unavailable("the store key is replaced again and again".into()))
    }

    /// All domains; those of which the row cannot be read are told apart.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list(&self) -> Result<Vec<Result<OkmsDomain, UnreadableDomain>>, Error> {
        self.store.list_domains().await
    }

    /// The ids of all domains, also of those of which nothing else can be read.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_ids(&self) -> Result<Vec<OkmsId>, Error> {
        self.store.list_okms_ids().await
    }

    /// A domain.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn find(&self, okms_id: OkmsId) -> Result<OkmsDomain, Error> {
        self.store.find_domain(okms_id).await?.ok_or(Error::DomainNotFound)
    }

    /// Removes a domain for good: its secrets, its credentials and its keys.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn delete(&self, okms_id: OkmsId) -> Result<(), Error> {
        let existed = self.store.delete_domain(okms_id).await?;
        self.keyring.forget(okms_id);
        if existed { Ok(()) } else { Err(Error::DomainNotFound) }
    }
}

/// The store key is replaced by an operator's command, which nobody gives three times in a moment.
const STORE_KEY_TRIES: usize = 3;
