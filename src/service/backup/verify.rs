//! Whether a backup restores, and what is in it is whole.
//!
//! It is restored into a SQLite database that is thrown away, under a root key that nobody has: what is sealed
//! stays sealed there. So this is the very restore that an operator would do, whatever the engine and the schema
//! were.

use std::{io::Read, path::Path, sync::Arc};

use super::{BackupContent, Backups};
use crate::{
    crypto::{BackupSecret, RootKey},
    domain::{Clock, Error, OkmsId, SecretPath},
    iam::PathRange,
    service::{Keyring, keyring::DomainKeys, policy_cache::Snapshot as PolicySnapshot},
    store::{DatabaseUrl, Store},
};

/// What a verification tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBackup {
    /// What is in the backup.
    pub content: BackupContent,
    /// Secrets whose row was verified.
    pub secrets: u64,
    /// Versions whose row was verified.
    pub versions: u64,
    /// Versions whose data was opened: the current one of each secret, unless it is deleted.
    pub opened: u64,
    /// Tokens whose row was verified.
    pub tokens: u64,
    /// What is not whole: the first hundred of it.
    pub damage: Vec<String>,
    /// How much more there is.
    pub more_damage: u64,
}

impl Backups {
    /// Restores a backup into the folder `scratch`, which is empty and private, and looks at all that is in it.
    /// `progress` is told how many rows are restored.
    ///
    /// What the store itself had that was not whole, is told; the backup has it as it was.
    ///
    /// # Errors
    ///
    /// As [`Backups::restore`]; [`Error::Malformed`] where no key of it opens.
    pub async fn verify(
        backup: &mut dyn Read,
        secret: &BackupSecret,
        scratch: &Path,
        clock: Arc<dyn Clock>,
        progress: &dyn Fn(u64),
    ) -> Result<VerifiedBackup, Error> {
        let root_key = RootKey::generate().map_err(|_| super::format::no_randomness())?;
        let database = DatabaseUrl::sqlite_file(scratch.join("okmsd.db"));
        let now = clock.now();
        let restored = Self::restore(backup, secret, &root_key, &database, now, progress);
        let content = restored.await?;
        let store = Store::open(&database).await?;
        let verified = verify_store(root_key, &store, clock, content).await;
        store.close().await;
        verified
    }
}

async fn verify_store(
    root_key: RootKey,
    store: &Store,
    clock: Arc<dyn Clock>,
    content: BackupContent,
) -> Result<VerifiedBackup, Error> {
    let keyring = Keyring::open(root_key, store.clone(), clock).await;
    // Storage has just taken all of it: what is not to be had now is a key of the backup.
    let keyring = keyring.map_err(|error| match error {
        Error::Unavailable(text) => Error::Malformed(text),
        error => error,
    })?;
    let mut verified = VerifiedBackup {
        content,
        secrets: 0,
        versions: 0,
        opened: 0,
        tokens: 0,
        damage: Vec::new(),
        more_damage: 0,
    };
    for domain in store.list_domains().await? {
        if let Err(unreadable) = domain {
            let name = unreadable.okms_id.as_deref().unwrap_or("(no text)").escape_debug();
            verified.note(&format!("domain {name}"), &unreadable.error);
        }
    }
    if let Some(damage) = PolicySnapshot::load(store).await?.damage() {
        verified.note("policies and groups", &Error::Internal(damage.to_owned()));
    }
    for okms_id in store.list_okms_ids().await? {
        if let Err(error) = verified.look_at_domain(okms_id, store, &keyring).await {
            verified.note(&format!("domain {okms_id}"), &error);
        }
    }
    let rows = verified.content.rows.get("secrets").copied().unwrap_or_default();
    if verified.damage.is_empty() && rows != verified.secrets {
        let error = Error::Internal(format!("{rows} rows, {} of them found", verified.secrets));
        verified.note("secrets", &error);
    }
    Ok(verified)
}

impl VerifiedBackup {
    async fn look_at_domain(
        &mut self,
        okms_id: OkmsId,
        store: &Store,
        keyring: &Keyring,
    ) -> Result<(), Error> {
        for token in store.list_tokens(okms_id).await? {
            let token = match token {
                Ok(token) => token,
                Err(unreadable) => {
                    let what = format!("token {} of domain {okms_id}", unreadable.0);
                    self.note(&what, &Error::Internal("its row cannot be read".into()));
                    continue;
                }
            };
            // One of a key that is gone counts for nobody, as it did before.
            match keyring.proves_token(&token).await? {
                Some(false) => {
                    let what = format!("token {} of domain {okms_id}", token.token.id);
                    self.note(&what, &Error::Internal("its row does not verify".into()));
                }
                Some(true) | None => self.tokens += 1,
            }
        }
        if let Err(error) = store.list_credentials(okms_id).await {
            self.note(&format!("credentials of domain {okms_id}"), &error);
        }
        let keys = keyring.reload(okms_id).await?;
        if let Err(error) = self.look_at_outcomes(okms_id, store, &keys).await {
            self.note(&format!("idempotency keys of domain {okms_id}"), &error);
        }
        let mut range = PathRange::all();
        loop {
            let paths = store.list_paths(okms_id, &range, PAGE).await?;
            let is_last = paths.len() < PAGE as usize;
            for path in paths {
                let path = path?;
                // The least text behind this path.
                range.from = format!("{}\0", path.as_str());
                match self.look_at_secret(okms_id, &path, store, &keys).await {
                    Ok(()) => self.secrets += 1,
                    Err(error) => self.note(&format!("domain {okms_id}"), &error),
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn look_at_outcomes(
        &mut self,
        okms_id: OkmsId,
        store: &Store,
        keys: &DomainKeys,
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = store.list_outcomes(okms_id, after, PAGE).await?;
            for (hash, stored) in &page {
                let key = keys.named(stored.key_id);
                let opened = key.and_then(|key| {
                    key.open_outcome(&stored.sealed, *hash, stored.created_at).ok()
                });
                if opened.is_none() {
                    let what = format!("an idempotency key of domain {okms_id}");
                    self.note(&what, &Error::Internal("what was kept does not verify".into()));
                }
            }
            after = page.last().map(|(hash, _)| *hash);
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn look_at_secret(
        &mut self,
        okms_id: OkmsId,
        path: &SecretPath,
        store: &Store,
        keys: &DomainKeys,
    ) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let page = store.list_versions(okms_id, path, after, PAGE).await?;
            let page = page.ok_or(Error::SecretNotFound)?;
            let versions = keys.verify_versions(path, page, after, PAGE)?;
            self.versions += versions.len() as u64;
            let last = versions.last().filter(|_| versions.len() == PAGE as usize);
            let Some(last) = last else { break };
            after = last.id.get();
        }
        let found = store.find_secret(okms_id, path, None, true, None).await?;
        let found = found.ok_or(Error::SecretNotFound)?;
        let (record, current) = keys.verify_found(path, &found, None)?;
        if let Some(current) = current
            && keys.open_data(record, current)?.is_some()
        {
            self.opened += 1;
        }
        Ok(())
    }

    fn note(&mut self, what: &str, error: &Error) {
        if self.damage.len() < MAX_DAMAGE {
            self.damage.push(format!("{what}: {error:?}"));
        } else {
            self.more_damage += 1;
        }
    }
}

/// Rows that are in memory at once.
const PAGE: u32 = 500;

/// Damage that is listed: more than anybody reads about. The rest is counted.
const MAX_DAMAGE: usize = 100;
