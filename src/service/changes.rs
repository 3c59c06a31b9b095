//! How a secret is changed and read under keys that others may change meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{Caller, Once, Secrets, keyring::DomainKeys, rows::UnderKeys};
use crate::{
    domain::{
        Error, SecretChange, SecretConfig, SecretData, SecretPath, SecretSnapshot, Wanted,
        json::Json,
    },
    store::{Changed, Decision, OnceKey, StoredOutcome, StoredSnapshot},
};

/// The data of the version that a change adds.
pub(super) enum NewData {
    /// The change adds none.
    None,
    /// This.
    Whole(SecretData),
    /// That of the current version, which is wanted with its data, after this merge patch.
    Merged(Json),
}

impl NewData {
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl Secrets {
    /// Lets `decide` change a secret, and seals the data of the version that its change adds. What it decides
    /// on holds the versions `wanted`. Where a version is to be added once, and was before, nothing is decided
    /// and this gives what came of it then: whether the caller has the right to that is for whoever asks to see.
    pub(super) async fn change<F>(
        &self,
        caller: &Caller,
        path: SecretPath,
        wanted: Wanted,
        data: NewData,
        decide: F,
    ) -> Result<(SecretConfig, SecretChange), Error>
    where
        F: Fn(&SecretSnapshot, &SecretPath) -> Result<SecretChange, Error> + Send + Sync + 'static,
    {
        let (okms_id, revision) = (caller.okms_id(), caller.revisions().keys);
        let once = caller.wanted_once().filter(|_| !data.is_none()).map(|once| {
            let key = once.key(caller, self.clock.now());
            (Arc::clone(once), key)
        });
        let run = once.as_ref().map(|(_, key)| self.running.begin(key.hash));
        let _run = run.transpose()?;
        let unit = Arc::new((path.clone(), wanted.clone(), data, once, decide));
        for tries_left in (0..KEY_TRIES).rev() {
            let sealer = match unit.2.is_none() {
                false => self.keyring.sealer(okms_id, revision).await?,
                true => self.keyring.newest(okms_id, revision).await?,
            };
            let (key_id, decided) = (sealer.key_id(), Arc::clone(&unit));
            let newer_keys = Arc::new(AtomicBool::new(false));
            let met_newer_keys = Arc::clone(&newer_keys);
            let decide = move |stored: &StoredSnapshot| {
                let (path, wanted, data, once, decide) = &*decided;
                met_newer_keys.store(!stored.is_under(sealer.keys()), Ordering::Release);
                let snapshot = sealer.keys().verify_snapshot(path, stored, wanted)?;
                let change = decide(&snapshot, path)?;
                let outcome = once
                    .as_ref()
                    .map(|(once, key)| once.seal(key, &sealer, &stored.domain_config, &change));
                let outcome = outcome.transpose()?;
                let decision = match data {
                    NewData::None => sealer.prove(stored, change, None),
                    NewData::Whole(data) => sealer.prove(stored, change, Some(data)),
                    NewData::Merged(patch) => {
                        let data = sealer.keys().open_current(stored)?.merged(patch)?;
                        sealer.prove(stored, change, Some(&data))
                    }
                };
                Ok(Decision { outcome, ..decision? })
            };
            let (path, wanted) = (path.clone(), wanted.clone());
            let key = unit.3.as_ref().map(|(_, key)| key.clone());
            match self.store.change_secret(okms_id, path, wanted, key_id, key, decide).await {
                Ok(Changed::Done(domain_config, change)) => {
                    if let Some(version) = change.new_version() {
                        caller.trail().note_version(version.id);
                    }
                    return Ok((domain_config, change));
                }
                Ok(Changed::Before(outcome)) => {
                    let is_last = tries_left == 0;
                    let done = self.done_before(caller, unit.3.as_ref(), &outcome, is_last);
                    if let Some(done) = done.await? {
                        return Ok(done);
                    }
                }
                // The key was destroyed since this request began.
                Ok(Changed::KeyGone) => _ = self.keyring.reload(okms_id).await?,
                // A key was made since, or there is none of that name.
                Err(Error::Internal(_)) if newer_keys.load(Ordering::Acquire) && tries_left > 0 => {
                    self.keyring.reload(okms_id).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unavailable("the keys of the domain change again and again".into()))
    }

    /// What came of a write that was done before. Nothing where its key is gone: it was sealed anew since it was read,
    /// and is to be read again. The last time, it is damaged.
    async fn done_before(
        &self,
        caller: &Caller,
        once: Option<&(Arc<Once>, OnceKey)>,
        outcome: &StoredOutcome,
        is_last: bool,
    ) -> Result<Option<(SecretConfig, SecretChange)>, Error> {
        let absent =
            || Error::Internal("what was to be done more than once was done before".into());
        let (once, key) = once.ok_or_else(absent)?;
        let mut keys = self.keyring.keys(caller.okms_id(), caller.revisions().keys).await?;
        if keys.named(outcome.key_id).is_none() {
            // Made since this request began.
            keys = self.keyring.reload(caller.okms_id()).await?;
        }
        if keys.named(outcome.key_id).is_none() && !is_last {
            return Ok(None);
        }
        let (domain_config, change) = once.open(key, &keys, outcome)?;
        if let Some(version) = change.new_version() {
            caller.trail().note_version(version.id);
        }
        caller.trail().note_replay();
        Ok(Some((domain_config, change)))
    }

    /// Reads rows, and has the keys that they are under: those may have changed since the request began.
    pub(super) async fn with_keys<T, F>(
        &self,
        caller: &Caller,
        fetch: impl Fn() -> F,
    ) -> Result<(T, Arc<DomainKeys>), Error>
    where
        T: UnderKeys,
        F: Future<Output = Result<T, Error>>,
    {
        let okms_id = caller.okms_id();
        let mut tries_left = KEY_TRIES;
        loop {
            let rows = fetch().await?;
            let mut keys = self.keyring.keys(okms_id, caller.revisions().keys).await?;
            if !rows.is_under(&keys) {
                keys = self.keyring.reload(okms_id).await?;
            }
            tries_left -= 1;
            // Rows under a key that is not there any more were written anew since they were read, unless
            // they are damaged.
            if rows.is_under(&keys) || tries_left == 0 {
                return Ok((rows, keys));
            }
        }
    }
}

/// How often a request meets a key that is made or destroyed just then. A key goes a while after the one
/// that follows it came, so a second time is rare already.
const KEY_TRIES: usize = 4;
