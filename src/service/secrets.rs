//! The use cases of secrets, versions and a domain's defaults.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{
    Caller, Keyring,
    keyring::{Sealer, does_not_open},
};
use crate::{
    crypto::SealedData,
    domain::{
        Clock, Error, MetadataPatch, Secret, SecretChange, SecretConfig, SecretConfigPatch,
        SecretData, SecretPath, SecretSnapshot, Timestamp, Version, VersionId, VersionState, rules,
    },
    store::{SecretWithVersion, Store, StoredVersion},
};

/// The use cases of secrets.
#[derive(Clone)]
pub struct Secrets {
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    /// Permits to list.
    lists: Arc<Semaphore>,
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

    /// Secrets by path, up to `size`, with their current versions but without data. A page ends earlier
    /// where custom metadata would make it very large.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list(
        &self,
        caller: &Caller,
        after: Option<&SecretPath>,
        size: u32,
    ) -> Result<Page<SecretView, SecretPath>, Error> {
        let now = self.clock.now();
        let turn = self.lists.acquire().await;
        let _turn = turn.map_err(|_| Error::Internal("nobody closes the semaphore".into()))?;
        // One more than asked for tells whether a next page has anything in it.
        let mut found = self.store.list_secrets(caller.okms_id(), after, size + 1).await?;
        let fitting = found.len().min(size as usize).min(fitting(&found));
        let more = found.len() > fitting;
        found.truncate(fitting);
        let next = found.last().filter(|_| more).map(|last| last.secret.path.clone());
        let items = found.into_iter().map(|found| without_data(found, now)).collect();
        Ok(Page { items, next })
    }

    /// Makes a secret with its first version.
    ///
    /// # Errors
    ///
    /// See [`rules::create`]; or when storage fails.
    pub async fn create(
        &self,
        caller: &Caller,
        path: SecretPath,
        metadata: MetadataPatch,
        data: SecretData,
    ) -> Result<Written, Error> {
        let now = self.clock.now();
        let patch = metadata.clone();
        let decide = move |snapshot: &SecretSnapshot, path: &SecretPath| {
            rules::create(snapshot, path, &patch, now)
        };
        let (snapshot, change) = self.change(caller, path, None, Some(data), decide).await?;
        written(snapshot, change, &metadata)
    }

    /// A secret with the given version, or else its current one.
    ///
    /// # Errors
    ///
    /// [`Error::SecretNotFound`], [`Error::VersionNotFound`], or when storage fails.
    pub async fn read(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: Option<VersionId>,
        include_data: bool,
    ) -> Result<SecretView, Error> {
        let (okms_id, mut lost) = (caller.okms_id(), None);
        for _ in 0..KEY_TRIES {
            let found = self.store.find_secret(okms_id, path, version, include_data).await?;
            let found = found.ok_or(Error::SecretNotFound)?;
            if version.is_some() && found.version.is_none() {
                return Err(Error::VersionNotFound);
            }
            let now = self.clock.now();
            let Some(stored) = found.version else {
                return Ok(SecretView { secret: found.secret, version: None });
            };
            let id = stored.version.id;
            if let Some(view) = self.open(caller, path, stored, now).await? {
                return Ok(SecretView { secret: found.secret, version: Some(view) });
            }
            // Sealed anew since it was read, and its key destroyed: what is there now opens.
            lost = Some(id);
        }
        Err(lost.map_or(Error::VersionNotFound, does_not_open))
    }

    /// Changes metadata, adds a version, or both as one.
    ///
    /// # Errors
    ///
    /// See [`rules::update`]; or when storage fails.
    pub async fn update(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        metadata: MetadataPatch,
        data: Option<SecretData>,
    ) -> Result<Written, Error> {
        let patch = metadata.clone();
        let (snapshot, change) = self.write(caller, path, cas, patch, data).await?;
        written(snapshot, change, &metadata)
    }

    /// Removes a secret with all its versions.
    ///
    /// # Errors
    ///
    /// [`Error::SecretNotFound`], or when storage fails.
    pub async fn delete(&self, caller: &Caller, path: SecretPath) -> Result<(), Error> {
        let decide = |snapshot: &SecretSnapshot, _: &SecretPath| rules::delete(snapshot);
        self.change(caller, path, None, None, decide).await?;
        Ok(())
    }

    /// Versions of a secret above the number `after`, ascending, up to `size`.
    ///
    /// # Errors
    ///
    /// [`Error::SecretNotFound`], or when storage fails.
    pub async fn list_versions(
        &self,
        caller: &Caller,
        path: &SecretPath,
        after: Option<VersionId>,
        size: u32,
    ) -> Result<Page<VersionView, VersionId>, Error> {
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
    /// See [`rules::update`]; or when storage fails.
    pub async fn add_version(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        data: SecretData,
    ) -> Result<VersionView, Error> {
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
    /// [`Error::SecretNotFound`], [`Error::VersionNotFound`], or when storage fails.
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
    /// See [`rules::set_version_state`]; or when storage fails.
    pub async fn set_version_state(
        &self,
        caller: &Caller,
        path: SecretPath,
        version: VersionId,
        state: VersionState,
    ) -> Result<VersionView, Error> {
        let now = self.clock.now();
        let decide = move |snapshot: &SecretSnapshot, _: &SecretPath| {
            rules::set_version_state(snapshot, state, now)
        };
        match self.change(caller, path, Some(version), None, decide).await? {
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
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn config(&self, caller: &Caller) -> Result<SecretConfig, Error> {
        let domain = self.store.find_domain(caller.okms_id()).await?;
        domain.map(|domain| domain.config).ok_or(Error::DomainNotFound)
    }

    /// Changes the defaults of the domain.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn update_config(
        &self,
        caller: &Caller,
        patch: SecretConfigPatch,
    ) -> Result<SecretConfig, Error> {
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
        let has_data = data.is_some();
        let decide = move |snapshot: &SecretSnapshot, _: &SecretPath| {
            rules::update(snapshot, cas, &metadata, has_data, now)
        };
        self.change(caller, path, None, data, decide).await
    }

    /// Lets `decide` change a secret, and seals `data` for the version that its change adds.
    async fn change<F>(
        &self,
        caller: &Caller,
        path: SecretPath,
        version: Option<VersionId>,
        data: Option<SecretData>,
        decide: F,
    ) -> Result<(SecretSnapshot, SecretChange), Error>
    where
        F: Fn(&SecretSnapshot, &SecretPath) -> Result<SecretChange, Error> + Send + Sync + 'static,
    {
        let (okms_id, revision) = (caller.okms_id(), caller.revisions().keys);
        let unit = Arc::new((path.clone(), data, decide));
        for _ in 0..KEY_TRIES {
            let sealer = match unit.1 {
                Some(_) => self.keyring.sealer(okms_id, revision).await?,
                None => self.keyring.newest(okms_id, revision).await?,
            };
            let (key_id, unit) = (sealer.key_id(), Arc::clone(&unit));
            let decide = move |snapshot: &SecretSnapshot| {
                let (path, data, decide) = &*unit;
                let change = decide(snapshot, path)?;
                let sealed = seal(&sealer, data.as_ref(), path, &change)?;
                Ok((change, sealed))
            };
            let changed =
                self.store.change_secret(okms_id, path.clone(), version, key_id, decide).await?;
            if let Some(changed) = changed {
                return Ok(changed);
            }
            // The key was destroyed since this request began.
            self.keyring.forget(okms_id);
        }
        Err(Error::Unavailable("the keys of the domain change again and again".into()))
    }

    /// Opens a version's data, if it was fetched and the version is active; nothing where the key is not
    /// there.
    async fn open(
        &self,
        caller: &Caller,
        path: &SecretPath,
        stored: StoredVersion,
        now: Timestamp,
    ) -> Result<Option<VersionView>, Error> {
        let mut view = view(stored.version, now);
        if let (VersionState::Active, Some(sealed)) = (view.state, stored.sealed) {
            let id = view.version.id;
            let opened = self.keyring.open_data(caller.okms_id(), path, id, &sealed).await?;
            let Some(data) = opened else { return Ok(None) };
            view.data = Some(data);
        }
        Ok(Some(view))
    }
}

/// Seals data for the version that a change adds. Its number is a part of what is sealed, and is
/// known only under lock.
fn seal(
    sealer: &Sealer,
    data: Option<&SecretData>,
    path: &SecretPath,
    change: &SecretChange,
) -> Result<Option<SealedData>, Error> {
    match (data, change.new_version()) {
        (Some(data), Some(version)) => {
            sealer.seal(data.as_str().as_bytes(), path, version.id).map(Some)
        }
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

/// How many of these secrets make a page of a bearable size; at least one.
fn fitting(found: &[SecretWithVersion]) -> usize {
    let mut bytes = 0;
    let beyond = found.iter().position(|found| {
        bytes += found.secret.custom_metadata.len_bytes();
        bytes > MAX_PAGE_METADATA_BYTES
    });
    beyond.map_or(found.len(), |beyond| beyond.max(1))
}

/// How often a request meets a key that is destroyed just then. A key goes a while after the one that
/// follows it came, so a second time is rare already.
const KEY_TRIES: usize = 4;
/// Lists at a time, in all: each may hold some 20 MiB of rows, if someone has filled all the custom
/// metadata there can be, and must not keep single reads from the few connections there are.
const CONCURRENT_LISTS: usize = 3;
/// Custom metadata on one page: 26 secrets may fill it, others have a few hundred bytes each.
const MAX_PAGE_METADATA_BYTES: usize = 1024 * 1024;

fn without_data(found: SecretWithVersion, now: Timestamp) -> SecretView {
    let version = found.version.map(|stored| view(stored.version, now));
    SecretView { secret: found.secret, version }
}

fn view(version: Version, now: Timestamp) -> VersionView {
    VersionView { state: version.state(now), version, data: None }
}
