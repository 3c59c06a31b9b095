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
    domain::{self, Clock},
    service::{Credentials, Domains, Keyring, Keys, Policies, RootKeySource, Tokens},
    store::{DatabaseUrl, IfAbsent, Store},
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

    /// Opens the store of a configuration, which must be there.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        Closed::find(config)?.open(IfAbsent::Refuse).await
    }

    /// Closes the store.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

/// A store that is found, and not open yet.
pub(super) struct Closed {
    database: DatabaseUrl,
    root_keys: Vec<RootKey>,
    root_key_source: Option<RootKeySource>,
}

impl Closed {
    /// Finds the store of a configuration and reads its root key, so that a wrong configuration does not leave a
    /// new, empty database behind.
    pub(super) fn find(config: &Config) -> Result<Self, Failure> {
        Ok(Self {
            root_keys: root_keys(config)?,
            root_key_source: root_key_source(config),
            database: database_url(config)?,
        })
    }

    /// Keeps other servers off it until this process ends, where it is for one.
    pub(super) fn hold_for_server(&self) -> Result<(), Failure> {
        self.database.hold_for_server().map_err(cannot_open(&self.database))
    }

    /// Opens it.
    pub(super) async fn open(self, if_absent: IfAbsent) -> Result<Services, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Store::open_or(&self.database, if_absent).await;
        let store = store.map_err(cannot_open(&self.database))?;
        let keyring = Keyring::open_source(
            self.root_keys,
            self.root_key_source,
            store.clone(),
            Arc::clone(&clock),
        );
        let keyring = Arc::new(keyring.await.map_err(cannot_open(&self.database))?);
        Ok(Services {
            keys: Keys::new(store.clone(), Arc::clone(&keyring), Arc::clone(&clock)),
            domains: Domains::new(store.clone(), Arc::clone(&keyring), Arc::clone(&clock)),
            credentials: Credentials::new(store.clone(), Arc::clone(&clock)),
            tokens: Tokens::new(store.clone(), Arc::clone(&keyring), Arc::clone(&clock)),
            policies: Policies::new(store.clone(), Arc::clone(&clock)),
            store,
            keyring,
            clock,
            notes: Notes::default(),
        })
    }
}

fn cannot_open(database: &DatabaseUrl) -> impl Fn(domain::Error) -> Failure {
    move |error| Failure::refused(format!("cannot open {database}"), &error)
}

/// Runs `work` to its end on a runtime of its own.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    Runtime::new()
        .map_err(|error| Failure::because("cannot start the runtime", &error))?
        .block_on(work)
}

/// Opens the store of a configuration, which must be there, lets `work` use it, and closes it whatever comes of
/// that. The act is recorded before and after, and not done where it could not be.
pub(super) fn with<T>(
    config: &Config,
    act: Act,
    work: impl AsyncFnOnce(&Services) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Before there is a record of it: where a path is mistyped, nothing at all is made.
    let database = database_url(config)?;
    database.refuse_absent().map_err(cannot_open(&database))?;
    act.recorded(config, |notes| within(config, notes, IfAbsent::Refuse, work))
}

/// The same, with a new store where there is none.
pub(super) fn with_new<T>(
    config: &Config,
    act: Act,
    work: impl AsyncFnOnce(&Services) -> Result<T, Failure>,
) -> Result<T, Failure> {
    act.recorded(config, |notes| within(config, notes, IfAbsent::Make, work))
}

/// The same within an act that is recorded by others.
pub(super) fn within<T>(
    config: &Config,
    notes: &Notes,
    if_absent: IfAbsent,
    work: impl AsyncFnOnce(&Services) -> Result<T, Failure>,
) -> Result<T, Failure> {
    block_on(async {
        let opened = Closed::find(config)?.open(if_absent).await?;
        let services = Services { notes: notes.clone(), ..opened };
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
