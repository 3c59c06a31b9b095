//! The use cases of the KV2 API set, where they differ from those of v2: a secret is written whether it is
//! there or not, data is merged, versions are brought into a state several at a time, and what cannot be
//! changed is passed over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Caller, SecretView, Secrets, VersionView,
    changes::NewData,
    secrets::{action_of, unexpected, view},
    turns::{Attempt, Attempts, Stop},
};
use crate::{
    domain::{
        CustomMetadataPatch, Error, MAX_VERSION, MetadataPatch, Secret, SecretChange,
        SecretConfigPatch, SecretData, SecretPath, SecretSnapshot, Version, VersionId,
        VersionState, Wanted, json::Json, rules,
    },
    iam::Action,
};

/// A version that was written, and the secret that it is of.
#[derive(Debug, Clone)]
pub struct NewVersionView {
    /// The secret as it is now.
    pub secret: Secret,
    /// The version.
    pub version: Version,
}

/// Data that was read, whole or its keys alone.
#[derive(Debug, Clone)]
pub struct OpenedVersion {
    /// The secret.
    pub secret: Secret,
    /// The version.
    pub version: Version,
    /// The data.
    pub data: SecretData,
}

impl Secrets {
    /// Writes a version, of a secret that is made where there is none yet.
    ///
    /// The right that this needs is that for what it comes to: making a secret, or adding a version. Who has
    /// neither learns nothing of which it would have been; who has one of them learns it, as by the other
    /// API set.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`]; see [`rules::put`]; or when storage fails.
    pub async fn put(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        data: SecretData,
    ) -> Result<NewVersionView, Error> {
        let rights = caller.authorize_either(Action::SecretCreate, Action::VersionCreate, &path)?;
        let (may_create, may_add) = rights;
        let now = self.clock.now();
        let needed = Needed::of(caller, &path);
        let found_out = Arc::clone(&needed.action);
        let decide = move |snapshot: &SecretSnapshot, path: &SecretPath| {
            let (action, allowed) = match snapshot.secret {
                Some(_) => (Action::VersionCreate, may_add),
                None => (Action::SecretCreate, may_create),
            };
            *lock(&found_out) = Some(action);
            if !allowed {
                return Err(Error::Forbidden(action.as_str()));
            }
            rules::put(snapshot, path, cas, now)
        };
        let data = NewData::Whole(data);
        let changed = self.change(caller, path.clone(), Wanted::Nothing, data, decide).await?.1;
        // What was done before was not decided about now.
        let (action, allowed) = match changed {
            SecretChange::Insert { .. } => (Action::SecretCreate, may_create),
            _ => (Action::VersionCreate, may_add),
        };
        *lock(&needed.action) = Some(action);
        if !allowed {
            return Err(Error::Forbidden(action.as_str()));
        }
        new_version(changed)
    }

    /// Writes a version that is the current one after a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`]; see [`rules::patch`] and [`SecretData::merged`]; or when storage fails.
    pub async fn patch(
        &self,
        caller: &Caller,
        path: SecretPath,
        cas: Option<u32>,
        patch: Json,
    ) -> Result<NewVersionView, Error> {
        caller.authorize(Action::VersionCreate, Some(&path))?;
        let now = self.clock.now();
        let decide =
            move |snapshot: &SecretSnapshot, _: &SecretPath| rules::patch(snapshot, cas, now);
        let data = NewData::Merged(patch);
        let changed = self.change(caller, path, Wanted::CurrentData, data, decide).await?;
        new_version(changed.1)
    }

    /// The data of the given version, or else of the current one. Of a number that no version can have there
    /// is none.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], [`Error::VersionNotFound`],
    /// [`Error::VersionClosed`], or when storage fails.
    pub async fn open(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: Option<u32>,
    ) -> Result<OpenedVersion, Error> {
        caller.authorize(Action::VersionGetData, Some(path))?;
        self.find_open(caller, path, version).await
    }

    /// The keys inside the data of the given version, or else of the current one, down to `depth` levels or
    /// to the last.
    ///
    /// # Errors
    ///
    /// See [`Secrets::open`].
    pub async fn open_keys(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: Option<u32>,
        depth: Option<usize>,
    ) -> Result<OpenedVersion, Error> {
        caller.authorize(Action::SubKeysGet, Some(path))?;
        let opened = self.find_open(caller, path, version).await?;
        let data = opened.data.keys(depth)?;
        Ok(OpenedVersion { data, ..opened })
    }

    /// A secret and all its versions, ascending.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], [`Error::SecretNotFound`], [`Error::Unauthenticated`] where the caller counts no
    /// more after it has waited; or when storage fails.
    pub async fn metadata(
        &self,
        caller: &Caller,
        path: &SecretPath,
    ) -> Result<(Secret, Vec<VersionView>), Error> {
        let mut attempts = Attempts::of(caller);
        loop {
            let metadata = self.try_metadata(attempts.caller(), path).await;
            if let Some(metadata) = attempts.end(metadata)? {
                return Ok(metadata);
            }
        }
    }

    async fn try_metadata(
        &self,
        caller: &Caller,
        path: &SecretPath,
    ) -> Result<(Secret, Vec<VersionView>), Stop> {
        caller.authorize(Action::SecretGet, Some(path))?;
        let now = self.clock.now();
        let mut found = self.first_versions(caller, path, FEW_VERSIONS).await?;
        if found.1.len() >= FEW_VERSIONS as usize {
            // A few such requests at a time, as of lists.
            let _turn = Attempt::new(self, caller).look().await?;
            found = self.first_versions(caller, path, MAX_VERSION).await?;
        }
        let (secret, versions) = found;
        Ok((secret, versions.into_iter().map(|version| view(version, now)).collect()))
    }

    /// Writes metadata; at a path without a secret it makes one without versions. Where nothing is to be
    /// changed, nothing is made either. Gives what the caller should know.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], or when storage fails.
    pub async fn put_metadata(
        &self,
        caller: &Caller,
        path: SecretPath,
        metadata: MetadataPatch,
    ) -> Result<Vec<String>, Error> {
        caller.authorize(Action::SecretUpdateMetadata, Some(&path))?;
        if metadata == MetadataPatch::default() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let config = metadata.config.clone();
        let decide = move |snapshot: &SecretSnapshot, path: &SecretPath| {
            Ok(rules::put_metadata(snapshot, path, &metadata, now))
        };
        let changed = self.change(caller, path, Wanted::Nothing, NewData::None, decide).await?;
        Ok(rules::warnings(&config, &changed.0))
    }

    /// Changes metadata, down to single pairs of the custom metadata. Gives what the caller should know.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`]; see [`rules::merge_metadata`]; or when storage fails.
    pub async fn merge_metadata(
        &self,
        caller: &Caller,
        path: SecretPath,
        config: SecretConfigPatch,
        custom_metadata: CustomMetadataPatch,
    ) -> Result<Vec<String>, Error> {
        caller.authorize(Action::SecretUpdateMetadata, Some(&path))?;
        let now = self.clock.now();
        let stored = config.clone();
        let decide = move |snapshot: &SecretSnapshot, _: &SecretPath| {
            rules::merge_metadata(snapshot, &config, &custom_metadata, now)
        };
        let changed = self.change(caller, path, Wanted::Nothing, NewData::None, decide).await?;
        Ok(rules::warnings(&stored, &changed.0))
    }

    /// Brings versions into another state, all of them or none: these, or else the current one. Those that
    /// the secret does not have, or that cannot come into it, are passed over, and so is a secret that is not
    /// there.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], or when storage fails.
    pub async fn set_version_states(
        &self,
        caller: &Caller,
        path: SecretPath,
        versions: Option<Vec<VersionId>>,
        state: VersionState,
    ) -> Result<(), Error> {
        // What is refused is on record, too.
        caller.trail().note_versions(versions.as_deref().unwrap_or_default());
        caller.authorize(action_of(state), Some(&path))?;
        let now = self.clock.now();
        let decide = move |snapshot: &SecretSnapshot, _: &SecretPath| {
            Ok(rules::set_version_states(snapshot, state, now))
        };
        let wanted = versions.map_or(Wanted::Current, Wanted::These);
        match self.change(caller, path, wanted, NewData::None, decide).await? {
            (_, SecretChange::SetVersions(versions) | SecretChange::Keep(versions)) => {
                let ids: Vec<_> = versions.iter().map(|version| version.id).collect();
                caller.trail().note_versions(&ids);
                Ok(())
            }
            (_, change) => Err(unexpected(&change)),
        }
    }

    /// A secret and its first versions, up to `limit`.
    async fn first_versions(
        &self,
        caller: &Caller,
        path: &SecretPath,
        limit: u32,
    ) -> Result<(Secret, Vec<Version>), Error> {
        let fetch = || self.store.list_versions(caller.okms_id(), path, 0, limit);
        let (found, keys) = self.with_keys(caller, fetch).await?;
        let found = found.ok_or(Error::SecretNotFound)?;
        let secret = found.0.record.secret.clone();
        Ok((secret, keys.verify_versions(path, found, 0, limit)?))
    }

    async fn find_open(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: Option<u32>,
    ) -> Result<OpenedVersion, Error> {
        let Ok(id) = version.map(VersionId::new).transpose() else {
            // A number that no version can have is not found, as any other that is not there; a secret that is
            // not there comes before it.
            self.find(caller, path, None, false).await?;
            caller.trail().note_versions(&[]);
            return Err(Error::VersionNotFound);
        };
        let SecretView { secret, version } = self.find(caller, path, id, true).await?;
        let VersionView { version, data, .. } = version.ok_or(Error::VersionNotFound)?;
        match data {
            Some(data) => Ok(OpenedVersion { secret, version, data }),
            None => Err(rules::closed(&secret, &version)),
        }
    }
}

/// What a write at a path needs a right for: the decision about it is noted when the write ends, in whatever way.
struct Needed<'a> {
    caller: &'a Caller,
    path: &'a SecretPath,
    /// Stays empty where nothing was found out; storage may ask again, and what it says last counts.
    action: Arc<Mutex<Option<Action>>>,
}

impl<'a> Needed<'a> {
    fn of(caller: &'a Caller, path: &'a SecretPath) -> Self {
        Self { caller, path, action: Arc::default() }
    }
}

impl Drop for Needed<'_> {
    fn drop(&mut self) {
        // It would have been one of them.
        let either = [Action::SecretCreate, Action::VersionCreate];
        let needed = lock(&self.action).map_or(either.to_vec(), |action| vec![action]);
        needed.into_iter().for_each(|action| self.caller.note_decision(action, self.path));
    }
}

fn lock(action: &Mutex<Option<Action>>) -> MutexGuard<'_, Option<Action>> {
    action.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_version(change: SecretChange) -> Result<NewVersionView, Error> {
    let version = change.new_version().map(|new| Version {
        id: new.id,
        created_at: new.created_at,
        deactivated_at: new.deactivated_at,
        deleted: false,
    });
    match (change, version) {
        (
            SecretChange::Insert { secret, .. } | SecretChange::Update { secret, .. },
            Some(version),
        ) => Ok(NewVersionView { secret, version }),
        (change, _) => Err(unexpected(&change)),
    }
}

/// Versions that are read without waiting for a turn: far more than most secrets keep, and a fraction of a
/// megabyte.
const FEW_VERSIONS: u32 = 1_000;
