//! The use cases of a configuration's store, without a server: for the subcommands that work on the
//! store directly, also while a server runs on it.

use std::{future::Future, sync::Arc};

use tokio::runtime::Runtime;

use super::{
    Failure,
    act::{Act, Notes},
};
use crate::{
    clock::SystemClock,
    config::{Config, Database, RootKeyPlace},
    crypto::RootKey,
    domain::Clock,
    service::{Credentials, Domains, Keyring, Keys, Policies, RootKeySource, Tokens},
    store::{DatabaseUrl, Store},
};

/// What operators can do.
pub(super) struct Services {
    /// With domains.
    pub(super) domains: Domains,
    /// With credentials.
    pub(super) credentials: Credentials,
    /// With tokens.
    pub(super) tokens: Tokens,
    /// With policies and groups.
    pub(super) policies: Policies,
    /// With keys.
    pub(super) keys: Keys,
    /// The store itself, for the server.
    pub(super) store: Store,
    /// The keys of its domains, for the server.
    pub(super) keyring: Arc<Keyring>,
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
    /// What the record of an act is to say of what came of it.
    pub(super) notes: Notes,
}

impl Services {
    /// Whether anything gives these identities a right. Only a hint hangs on it, so a store that does not tell
    /// is no failure.
    pub(super) async fn has_rights(&self, identities: &[String]) -> bool {
        let policies = self.policies.snapshot().await;
        let deciding = policies.and_then(|policies| policies.deciding_about(identities));
        deciding.map_or(true, |policies| !policies.is_without_rights(identities))
    }

    /// Opens the store of a configuration.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        // First, so that a wrong configuration does not leave a new, empty database behind.
        let root_keys = root_keys(config)?;
        let database = database_url(config)?;
        let cannot_open = |error| Failure::refused(format!("cannot open {database}"), &error);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Store::open(&database).await.map_err(cannot_open)?;
        let keyring = Keyring::open_source(
            root_keys,
            root_key_source(config),
            store.clone(),
            Arc::clone(&clock),
        );
        let keyring = Arc::new(keyring.await.map_err(cannot_open)?);
        Ok(Self {
            keys: Keys::new(store.clone(), Arc::clone(&keyring), Arc::clone(&clock)),
            domains: Domains::new(store.clone(), Arc::clone(&keyring), Arc::clone(&clock)),
            credentials: Credentials::new(store.clone(), Arc::clone(&clock)),
            tokens: Tokens::new(store.clone(), Arc::clone(&clock)),
            policies: Policies::new(store.clone(), Arc::clone(&clock)),
            store,
            keyring,
            clock,
            notes: Notes::default(),
        })
    }

    /// Closes the store.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

/// Runs `work` to its end on a runtime of its own.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    Runtime::new()
        .map_err(|error| Failure::because("cannot start the runtime", &error))?
        .block_on(work)
}

/// Opens the store of a configuration, lets `work` use it, and closes it whatever comes of that. The
/// act is recorded before and after, and not done where it could not be.
pub(super) fn with<T>(
    config: &Config,
    act: Act,
    work: impl AsyncFnOnce(&Services) -> Result<T, Failure>,
) -> Result<T, Failure> {
    act.recorded(config, |notes| within(config, notes, work))
}

/// The same within an act that is recorded by others.
pub(super) fn within<T>(
    config: &Config,
    notes: &Notes,
    work: impl AsyncFnOnce(&Services) -> Result<T, Failure>,
) -> Result<T, Failure> {
    block_on(async {
        let services = Services { notes: notes.clone(), ..Services::open(config).await? };
        let done = work(&services).await;
        services.close().await;
        done
    })
}

/// The root key of a configuration; during a rotation, the old one and the new one.
pub(super) fn root_keys(config: &Config) -> Result<Vec<RootKey>, Failure> {
    let texts = config.root_key.read()?;
    let mut keys = Vec::with_capacity(texts.len());
    for text in &texts {
        match root_key(text) {
            Ok(key) => keys.push(key),
            // The first is the one that is configured; what lies beside it only has to be there in a
            // rotation.
            Err(_) if !keys.is_empty() => {
                tracing::warn!("what lies beside the root key is no root key, and is passed over");
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(keys)
}

/// How a server reads its root key again. What is in a variable stays as it is while the process lives, and
/// is not kept in memory a second time for it.
fn root_key_source(config: &Config) -> Option<RootKeySource> {
    if config.root_key.place() == RootKeyPlace::Variable {
        return None;
    }
    let place = config.clone();
    Some(Arc::new(move || root_keys(&place).map_err(|failure| failure.to_string())))
}

/// Reads the text of a root key.
pub(super) fn root_key(text: &str) -> Result<RootKey, Failure> {
    RootKey::from_text(text).map_err(|_| Failure::new("the root key is not base64 of 32 bytes"))
}

/// The database of a configuration.
pub(super) fn database_url(config: &Config) -> Result<DatabaseUrl, Failure> {
    match &config.storage.database {
        Database::Sqlite(path) => Ok(DatabaseUrl::sqlite_file(path)),
        Database::Postgres(url) => {
            url.parse().map_err(|error| Failure::because("storage.database", &error))
        }
    }
}
