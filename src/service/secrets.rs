//! The use cases of secrets, versions and a domain's defaults.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Caller, Keyring, keyring::Sealer, listing::CONCURRENT_LISTS};
use crate::{
    crypto::SealedData,
    domain::{
        Clock, Error, MetadataPatch, Secret, SecretChange, SecretConfig, SecretConfigPatch,
        SecretData, SecretPath, SecretSnapshot, Timestamp, Version, VersionId, VersionState, rules,
    },
    iam::Action,
    store::{Store, StoredVersion},
};

/// The use cases of secrets.
#[derive(Clone)]
pub struct Secrets {
    pub(super) store: Store,
    keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    /// Permits to list.
    pub(super) lists: Arc<Semaphore>,
}

/// One page of a list, and after which item the next one begins.
#[derive(Debug, Clone)]
pub struct Page<T, Key> {
    /// The items.
    pub items: Vec<T>,
    /// The key of the last item, where more follow.
    pub next: Option<Key>,
}

/// A secret with the version that was asked for.
#[derive(Debug, Clone)]
pub struct SecretView {
    /// The secret.
    pub secret: Secret,
    /// The version; a secret may have none yet.
    pub version: Option<VersionView>,
}

/// A version as it stands now.
#[derive(Debug, Clone)]
pub struct VersionView {
    /// The version.
    pub version: Version,
    /// Its state at the time of the request.
    pub state: VersionState,
    /// Its data, where that was asked for and is open.
    pub data: Option<SecretData>,
}

/// A secret after a write.
#[derive(Debug, Clone)]
pub struct Written {
    /// The secret.
    pub secret: Secret,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

impl Secrets {
    /// Works on `store`, with the keys of `keyring`.
    pub fn new(store: Store, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock, lists: Arc::new(Semaphore::new(CONCURRENT_LISTS)) }
    }

    /// Makes a secret with its first version.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`]; see [`rules::create`]; or when storage fails.
    pub async fn create(
        &self,
        caller: &Caller,
        path: SecretPath,
        metadata: MetadataPatch,
        data: SecretData,
    ) -> Result<Written, Error> {
        caller.authorize(Action::SecretCreate, Some(&path))?;
        let now = self.clock.now();
        let sealer = self.keyring.sealer(caller.okms_id()).await?;
        let patch = metadata.clone();
        let decide = move |snapshot: &SecretSnapshot, path: &SecretPath| {
            let change = rules::create(snapshot, path, &patch, now)?;
            let sealed = seal(Some((&sealer, &data)), path, &change)?;
            Ok((change, sealed))
        };
        let (snapshot, change) = self.change(caller, path, None, decide).await?;
        written(snapshot, change, &metadata)
    }

    /// A secret with the given version, or else its current one.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], [`Error::VersionNotFound`], or when storage fails.
    pub async fn read(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: Option<VersionId>,
        include_data: bool,
    ) -> Result<SecretView, Error> {
        caller.authorize(Action::SecretGet, Some(path))?;
        if include_data {
            caller.authorize(Action::VersionGetData, Some(path))?;
        }
        let found = self.store.find_secret(caller.okms_id(), path, version, include_data).await?;
        let found = found.ok_or(Error::SecretNotFound)?;
        if version.is_some() && found.version.is_none() {
            return Err(Error::VersionNotFound);
        }
        if let Some(found) = &found.version {
            caller.trail().note_version(found.version.id);
        }
        let now = self.clock.now();
        let version = match found.version {
            Some(version) => Some(self.open(caller, path, version, now).await?),
            None => None,
        };
        Ok(SecretView { secret: found.secret, version })
    }

    /// Changes metadata, adds a version, or both as one.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`]; see [`rules::update`]; or when storage fails.
    pub async fn update(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        metadata: MetadataPatch,
        data: Option<SecretData>,
    ) -> Result<Written, Error> {
        // A right for each part that changes.
        if data.is_some() {
            caller.authorize(Action::VersionCreate, Some(&path))?;
        }
        if metadata != MetadataPatch::default() || data.is_none() {
            caller.authorize(Action::SecretUpdateMetadata, Some(&path))?;
        }
        let patch = metadata.clone();
        let (snapshot, change) = self.write(caller, path, cas, patch, data).await?;
        written(snapshot, change, &metadata)
    }

    /// Removes a secret with all its versions.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], or when storage fails.
    pub async fn delete(&self, caller: &Caller, path: SecretPath) -> Result<(), Error> {
        caller.authorize(Action::SecretDelete, Some(&path))?;
        let decide =
            |snapshot: &SecretSnapshot, _: &SecretPath| Ok((rules::delete(snapshot)?, None));
        self.change(caller, path, None, decide).await?;
        Ok(())
    }

    /// Versions of a secret above the number `after`, ascending, up to `size`.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], or when storage fails.
    pub async fn list_versions(
        &self,
        caller: &Caller,
        path: &SecretPath,
        after: Option<VersionId>,
        size: u32,
    ) -> Result<Page<VersionView, VersionId>, Error> {
        caller.authorize(Action::SecretGet, Some(path))?;
        let now = self.clock.now();
        let after = after.map_or(0, VersionId::get);
        let found = self.store.list_versions(caller.okms_id(), path, after, size + 1).await?;
        let mut found = found.ok_or(Error::SecretNotFound)?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().filter(|_| more).map(|last| last.id);
        let items = found.into_iter().map(|version| view(version, now)).collect();
        Ok(Page { items, next })
    }

    /// Adds a version.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`]; see [`rules::update`]; or when storage fails.
    pub async fn add_version(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        data: SecretData,
    ) -> Result<VersionView, Error> {
        caller.authorize(Action::VersionCreate, Some(&path))?;
        let patch = MetadataPatch::default();
        let (_, change) = self.write(caller, path, cas, patch, Some(data)).await?;
        let new = change.new_version().ok_or_else(|| unexpected(&change))?;
        let version = Version {
            id: new.id,
            created_at: new.created_at,
            deactivated_at: new.deactivated_at,
            deleted: false,
        };
        Ok(view(version, new.created_at))
    }

    /// A version.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], [`Error::VersionNotFound`], or when storage fails.
    pub async fn read_version(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: VersionId,
        include_data: bool,
    ) -> Result<VersionView, Error> {
        let found = self.read(caller, path, Some(version), include_data).await?;
        found.version.ok_or(Error::VersionNotFound)
    }

    /// Brings a version into another state.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`]; see [`rules::set_version_state`]; or when storage fails.
    pub async fn set_version_state(
        &self,
        caller: &Caller,
        path: SecretPath,
        version: VersionId,
        state: VersionState,
    ) -> Result<VersionView, Error> {
        let action = match state {
            VersionState::Active => Action::VersionActivate,
            VersionState::Deactivated => Action::VersionDeactivate,
            VersionState::Deleted => Action::VersionDelete,
        };
        caller.authorize(action, Some(&path))?;
        caller.trail().note_version(version);
        let now = self.clock.now();
        let decide = move |snapshot: &SecretSnapshot, _: &SecretPath| {
            Ok((rules::set_version_state(snapshot, state, now)?, None))
        };
        match self.change(caller, path, Some(version), decide).await? {
            (_, SecretChange::SetVersion(version) | SecretChange::KeepVersion(version)) => {
                Ok(view(version, now))
            }
            (_, change) => Err(unexpected(&change)),
        }
    }

    /// The defaults of the domain.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::DomainNotFound`], or when storage fails.
    pub async fn config(&self, caller: &Caller) -> Result<SecretConfig, Error> {
        caller.authorize(Action::ConfigGet, None)?;
        let domain = self.store.find_domain(caller.okms_id()).await?;
        domain.map(|domain| domain.config).ok_or(Error::DomainNotFound)
    }

    /// Changes the defaults of the domain.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::DomainNotFound`], or when storage fails.
    pub async fn update_config(
        &self,
        caller: &Caller,
        patch: SecretConfigPatch,
    ) -> Result<SecretConfig, Error> {
        caller.authorize(Action::ConfigUpdate, None)?;
        self.store.update_config(caller.okms_id(), patch).await
    }

    async fn write(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        metadata: MetadataPatch,
        data: Option<SecretData>,
    ) -> Result<(SecretSnapshot, SecretChange), Error> {
        let now = self.clock.now();
        let data = match data {
            Some(data) => Some((self.keyring.sealer(caller.okms_id()).await?, data)),
            None => None,
        };
        let decide = move |snapshot: &SecretSnapshot, path: &SecretPath| {
            let data = data.as_ref().map(|(sealer, data)| (sealer, data));
            let change = rules::update(snapshot, cas, &metadata, data.is_some(), now)?;
            let sealed = seal(data, path, &change)?;
            Ok((change, sealed))
        };
        self.change(caller, path, None, decide).await
    }

    async fn change<F>(
        &self,
        caller: &Caller,
        path: SecretPath,
        version: Option<VersionId>,
        decide: F,
    ) -> Result<(SecretSnapshot, SecretChange), Error>
    where
        F: Fn(&SecretSnapshot, &SecretPath) -> Result<(SecretChange, Option<SealedData>), Error>
            + Send
            + Sync
            + 'static,
    {
        let same_path = path.clone();
        let decide = move |snapshot: &SecretSnapshot| decide(snapshot, &same_path);
        let (snapshot, change) =
            self.store.change_secret(caller.okms_id(), path, version, decide).await?;
        if let Some(version) = change.new_version() {
            caller.trail().note_version(version.id);
        }
        Ok((snapshot, change))
    }

    /// Opens a version's data, if it was fetched and the version is active.
    async fn open(
        &self,
        caller: &Caller,
        path: &SecretPath,
        stored: StoredVersion,
        now: Timestamp,
    ) -> Result<VersionView, Error> {
        let mut view = view(stored.version, now);
        if let (VersionState::Active, Some(sealed)) = (view.state, stored.sealed) {
            let id = view.version.id;
            view.data = Some(self.keyring.open_data(caller.okms_id(), path, id, &sealed).await?);
        }
        Ok(view)
    }
}

/// Seals data for the version that a change adds. Its number is a part of what is sealed, and is
/// known only under lock.
fn seal(
    data: Option<(&Sealer, &SecretData)>,
    path: &SecretPath,
    change: &SecretChange,
) -> Result<Option<SealedData>, Error> {
    match (data, change.new_version()) {
        (Some((sealer, data)), Some(version)) => sealer.seal(data, path, version.id).map(Some),
        _ => Ok(None),
    }
}

fn written(
    snapshot: SecretSnapshot,
    change: SecretChange,
    metadata: &MetadataPatch,
) -> Result<Written, Error> {
    match change {
        SecretChange::Insert { secret, .. } | SecretChange::Update { secret, .. } => {
            let warnings = rules::warnings(metadata, &snapshot.domain_config);
            Ok(Written { secret, warnings })
        }
        change => Err(unexpected(&change)),
    }
}

fn unexpected(change: &SecretChange) -> Error {
    Error::Internal(format!("the rules decided on an unexpected change: {change:?}"))
}

pub(super) fn view(version: Version, now: Timestamp) -> VersionView {
    VersionView { state: version.state(now), version, data: None }
}
