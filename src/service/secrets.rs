//! The use cases of secrets, versions and a domain's defaults.

use std::{cell::Cell, sync::Arc};

use super::{
    Caller, Keyring,
    changes::NewData,
    cursors::List,
    idempotency::Running,
    turns::{
        CONCURRENT_LONG_LISTS, CONCURRENT_LONG_LISTS_OF_A_CALLER, CONCURRENT_LOOKS,
        CONCURRENT_LOOKS_OF_A_CALLER, Turns,
    },
};
use crate::{
    domain::{
        Clock, Error, MetadataPatch, Secret, SecretChange, SecretConfig, SecretConfigPatch,
        SecretData, SecretPath, SecretSnapshot, Timestamp, Version, VersionId, VersionState,
        Wanted, rules,
    },
    iam::Action,
    store::Store,
};

/// The use cases of secrets.
#[derive(Clone)]
pub struct Secrets {
    pub(super) store: Store,
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    /// Turns to look at rows for a list.
    pub(super) lists: Arc<Turns>,
    /// Turns to make a very long list, taken besides.
    pub(super) long_lists: Arc<Turns>,
    /// What is to be done once, and is under way.
    pub(super) running: Arc<Running>,
}

/// One page of a list, and how to come to the next one.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page, where more follow: base64url, for this caller and this list alone.
    pub next: Option<String>,
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
        let lists = Turns::new(CONCURRENT_LOOKS, CONCURRENT_LOOKS_OF_A_CALLER);
        let long_lists = Turns::new(CONCURRENT_LONG_LISTS, CONCURRENT_LONG_LISTS_OF_A_CALLER);
        let (lists, long_lists) = (Arc::new(lists), Arc::new(long_lists));
        Self { store, keyring, clock, lists, long_lists, running: Arc::default() }
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
        let patch = metadata.clone();
        let decide = move |snapshot: &SecretSnapshot, path: &SecretPath| {
            rules::create(snapshot, path, &patch, now)
        };
        let data = NewData::Whole(data);
        let change = self.change(caller, path, Wanted::Nothing, data, decide);
        let (domain_config, change) = change.await?;
        written(&domain_config, change, &metadata)
    }

    /// A secret with the given version, or else its current one.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], [`Error::VersionNotFound`], or when storage
    /// fails.
    pub async fn read(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: Option<VersionId>,
        include_data: bool,
    ) -> Result<SecretView, Error> {
        let actions = [Action::SecretGet, Action::VersionGetData];
        caller.authorize_all(if include_data { &actions } else { &actions[..1] }, Some(path))?;
        self.find(caller, path, version, include_data).await
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
        let is_once_in_vain = data.is_none() && caller.wanted_once().is_some();
        let (domain_config, change) = self.write(caller, path, cas, patch, data).await?;
        let mut written = written(&domain_config, change, &metadata)?;
        if is_once_in_vain {
            let warning = "Idempotency-Key has no effect on a change that makes no version";
            written.warnings.push(warning.to_owned());
        }
        Ok(written)
    }

    /// Removes a secret with all its versions, also one whose rows cannot be read or do not verify: that it
    /// is there is all that counts, and this is the way out for one that cannot be used any more.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], or when storage fails.
    pub async fn delete(&self, caller: &Caller, path: SecretPath) -> Result<(), Error> {
        caller.authorize(Action::SecretDelete, Some(&path))?;
        match self.store.delete_secret(caller.okms_id(), path).await? {
            true => Ok(()),
            false => Err(Error::SecretNotFound),
        }
    }

    /// Versions of a secret, ascending, up to `size`.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], [`Error::Malformed`] where the cursor does not
    /// count here; or when storage fails.
    pub async fn list_versions(
        &self,
        caller: &Caller,
        path: &SecretPath,
        cursor: Option<&str>,
        size: u32,
    ) -> Result<Page<VersionView>, Error> {
        caller.authorize(Action::SecretGet, Some(path))?;
        let now = self.clock.now();
        let list = List::Versions(path);
        let after: u32 = match cursor {
            Some(cursor) => {
                let last = self.keyring.open_cursor(caller, list, cursor).await?;
                let broken = |_| Error::Internal("a cursor of ours holds no version".into());
                last.parse().map_err(broken)?
            }
            None => 0,
        };
        let fetch = || self.store.list_versions(caller.okms_id(), path, after, size + 1);
        let (found, keys) = self.with_keys(caller, fetch).await?;
        let found = found.ok_or(Error::SecretNotFound)?;
        let mut found = keys.verify_versions(path, found, after, size + 1)?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = match found.last().filter(|_| more) {
            Some(last) => {
                let last = last.id.get().to_string();
                Some(self.keyring.seal_cursor(caller, list, &last).await?)
            }
            None => None,
        };
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
        Ok(VersionView { version, state: VersionState::Active, data: None })
    }

    /// A version.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], [`Error::VersionNotFound`], or when storage
    /// fails.
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
        // What is refused is on record, too.
        caller.trail().note_version(version);
        caller.authorize(action_of(state), Some(&path))?;
        let now = self.clock.now();
        let decide = move |snapshot: &SecretSnapshot, _: &SecretPath| {
            rules::set_version_state(snapshot, state, now)
        };
        let wanted = Wanted::These(vec![version]);
        match self.change(caller, path, wanted, NewData::None, decide).await? {
            (_, SecretChange::SetVersions(mut versions) | SecretChange::Keep(mut versions)) => {
                versions.pop().map(|version| view(version, now)).ok_or(Error::VersionNotFound)
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

    /// A secret with the given version, or else its current one, for a caller that may have it.
    pub(super) async fn find(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: Option<VersionId>,
        include_data: bool,
    ) -> Result<SecretView, Error> {
        // Only the first try goes by what was looked at when the caller was let in.
        let looked = Cell::new(caller.looked());
        let fetch = move || {
            let (okms_id, looked) = (caller.okms_id(), looked.take());
            self.store.find_secret(okms_id, path, version, include_data, looked)
        };
        let (found, keys) = self.with_keys(caller, fetch).await?;
        let found = found.ok_or(Error::SecretNotFound)?;
        let (secret, stored) = keys.verify_found(path, &found, version)?;
        if version.is_some() && stored.is_none() {
            return Err(Error::VersionNotFound);
        }
        let now = self.clock.now();
        let version = match stored {
            Some(stored) => {
                caller.trail().note_version(stored.record.version.id);
                let mut view = view(stored.record.version.clone(), now);
                if view.state == VersionState::Active {
                    view.data = keys.open_data(secret, stored)?;
                }
                Some(view)
            }
            None => None,
        };
        Ok(SecretView { secret: secret.secret.clone(), version })
    }

    async fn write(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        metadata: MetadataPatch,
        data: Option<SecretData>,
    ) -> Result<(SecretConfig, SecretChange), Error> {
        let now = self.clock.now();
        let has_data = data.is_some();
        let decide = move |snapshot: &SecretSnapshot, _: &SecretPath| {
            rules::update(snapshot, cas, &metadata, has_data, now)
        };
        let data = data.map_or(NewData::None, NewData::Whole);
        self.change(caller, path, Wanted::Nothing, data, decide).await
    }
}

fn written(
    domain_config: &SecretConfig,
    change: SecretChange,
    metadata: &MetadataPatch,
) -> Result<Written, Error> {
    match change {
        SecretChange::Insert { secret, .. } | SecretChange::Update { secret, .. } => {
            let warnings = rules::warnings(&metadata.config, domain_config);
            Ok(Written { secret, warnings })
        }
        change => Err(unexpected(&change)),
    }
}

pub(super) fn unexpected(change: &SecretChange) -> Error {
    Error::Internal(format!("the rules decided on an unexpected change: {change:?}"))
}

/// What a caller needs a right for that brings a version into this state.
pub(super) const fn action_of(state: VersionState) -> Action {
    match state {
        VersionState::Active => Action::VersionActivate,
        VersionState::Deactivated => Action::VersionDeactivate,
        VersionState::Deleted => Action::VersionDelete,
    }
}

pub(super) fn view(version: Version, now: Timestamp) -> VersionView {
    VersionView { state: version.state(now), version, data: None }
}
