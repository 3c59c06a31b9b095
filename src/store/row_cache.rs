//! On SQLite: rows that are read again and again, kept in memory as they are stored: data stays sealed, and is opened
//! at each read. Whoever uses a row verifies it as if it came from the database, [once](super::Verified) by the same
//! keys.
//!
//! What is kept counts only while the database holds what it held when it was read, which the
//! [header of its WAL index](super::wal_index) tells at each look. After a commit of this process the writer
//! says which secrets it changed, and the rest goes on to count; after a commit of anybody else, such as the
//! command line beside a running server, nothing does. So a row here is never older than what a new read
//! would find. A commit that changed no page leaves the header as it is: whoever is not sure that its own did cannot
//! tell it from the next one of somebody else, and does not say what it changed.
//!
//! On PostgreSQL there is no such stamp that costs less than the read itself: nothing is kept.
//!
//! `cargo bench --bench read` shows what that buys: a hot secret was read 34,300 times a second, any of 100,000
//! 19,900 times (2026-11-29). The look at the stamp took 2.3 % of the program's time in hot reads, so each read looks
//! once.

use std::{
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use quick_cache::{Weighter, sync::Cache};

use super::{
    FoundCredential, SecretWithVersion,
    wal_index::{Header, WalIndex},
};
use crate::{
    domain::{CredentialId, Error, OkmsId, SecretPath},
    measure::{Finds, FindsMeasured},
};

/// A secret among those of all domains.
pub(super) type SecretKey = (OkmsId, SecretPath);

/// The rows.
pub(super) struct RowCache {
    index: WalIndex,
    valid: RwLock<Valid>,
    /// Whether a commit of this process is under way of which `valid` does not know yet.
    committing: AtomicBool,
    secrets: Cache<SecretKey, Kept<SecretWithVersion>, Size>,
    credentials: Cache<CredentialId, Kept<FoundCredential>>,
    finds_of_secrets: Finds,
    finds_of_credentials: Finds,
}

/// Which rows count, and when.
struct Valid {
    /// While the database is as of this header.
    header: Option<Header>,
    /// Rows that were kept at another time do not count.
    generation: u64,
}

struct Kept<T> {
    row: Arc<T>,
    generation: u64,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { row: Arc::clone(&self.row), generation: self.generation }
    }
}

/// That a request has looked at the header of the WAL index and found the one as of which rows count.
///
/// What counts later on is as of that moment or of a later one: the header as of which rows count only ever becomes
/// the present one, and a row that a commit changed goes when it does. So for the rest of that request, further looks
/// would find nothing that is newer than its beginning (hot reads: 2 % of CPU each). It holds for one try of a read:
/// one that is repeated wants to see what changed since.
#[derive(Debug, Clone, Copy)]
pub struct Looked(());

/// What a commit changed, of what may be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Nothing but these secrets. It surely changed a page, so it is the first commit after the header of before.
    Secrets(Vec<SecretKey>),
    /// Anything, or nothing at all: then what is seen is another process's commit, if any.
    Anything,
}

/// As of when a read is made, for what it finds to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct AsOf(Header);

/// The writer's mark that a commit is under way.
pub(super) struct Commit<'a> {
    cache: &'a RowCache,
    before: Option<Header>,
}

impl RowCache {
    /// Keeps rows of the database at `path`, to which a connection must be open.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Unavailable(format!("the SQLite WAL index: {error}"));
        Ok(Self {
            index: WalIndex::open(path).map_err(failed)?,
            valid: RwLock::new(Valid { header: None, generation: 0 }),
            committing: AtomicBool::new(false),
            secrets: Cache::with_weighter(KEPT_SECRETS, KEPT_BYTES, Size),
            credentials: Cache::new(KEPT_CREDENTIALS),
            finds_of_secrets: Finds::default(),
            finds_of_credentials: Finds::default(),
        })
    }

    /// Keeps nothing any more, once every connection to the database is closed.
    pub(super) fn close(&self) {
        self.index.close();
    }

    /// A secret with its current version and that one's data; as of this moment, or of any between an earlier look
    /// and this one.
    pub(super) fn secret(
        &self,
        key: &SecretKey,
        looked: Option<Looked>,
    ) -> Option<Arc<SecretWithVersion>> {
        let found = self.find(&self.finds_of_secrets, looked, || self.secrets.get(key));
        found.map(|(row, _)| row)
    }

    /// A credential as of this moment.
    pub(super) fn credential(&self, id: CredentialId) -> Option<(Arc<FoundCredential>, Looked)> {
        self.find(&self.finds_of_credentials, None, || self.credentials.get(&id))
    }

    /// What was found since the start, and what was not.
    pub(super) fn finds(&self) -> [(&'static str, FindsMeasured); 2] {
        let (secrets, credentials) = (&self.finds_of_secrets, &self.finds_of_credentials);
        [("secrets", secrets.measured()), ("credentials", credentials.measured())]
    }

    fn find<T>(
        &self,
        finds: &Finds,
        looked: Option<Looked>,
        get: impl FnOnce() -> Option<Kept<T>>,
    ) -> Option<(Arc<T>, Looked)> {
        let found = self.find_uncounted(looked, get);
        finds.add(found.is_some());
        found
    }

    fn find_uncounted<T>(
        &self,
        looked: Option<Looked>,
        get: impl FnOnce() -> Option<Kept<T>>,
    ) -> Option<(Arc<T>, Looked)> {
        let valid = self.valid.read().unwrap_or_else(PoisonError::into_inner);
        // First: where it is too old for the header, a commit came after this look and before that.
        let kept = get().filter(|kept| kept.generation == valid.generation)?;
        if looked.is_none() && self.index.header()? != valid.header? {
            return None;
        }
        Some((kept.row, Looked(())))
    }

    /// To be called before a read whose rows are to be kept.
    pub(super) fn as_of(&self) -> Option<AsOf> {
        self.index.header().map(AsOf)
    }

    /// Keeps a secret with its current version and that one's data.
    pub(super) fn keep_secret(&self, as_of: AsOf, key: SecretKey, row: Arc<SecretWithVersion>) {
        self.keep(as_of, |generation| self.secrets.insert(key, Kept { row, generation }));
    }

    /// Keeps a credential.
    pub(super) fn keep_credential(&self, as_of: AsOf, row: Arc<FoundCredential>) {
        let id = row.credential.id;
        self.keep(as_of, |generation| self.credentials.insert(id, Kept { row, generation }));
    }

    fn keep(&self, AsOf(before): AsOf, insert: impl FnOnce(u64)) {
        if self.adopt(before).is_none() {
            return;
        }
        let valid = self.valid.read().unwrap_or_else(PoisonError::into_inner);
        if valid.header == Some(before) && self.index.header() == Some(before) {
            insert(valid.generation);
        }
    }

    /// Makes rows as of this header count where the database is still so; those of before do not then.
    fn adopt(&self, header: Header) -> Option<()> {
        let known = self.valid.read().unwrap_or_else(PoisonError::into_inner).header;
        if known == Some(header) {
            return Some(());
        }
        // The writer is about to say what this commit changed.
        if self.committing.load(Ordering::Acquire) {
            return None;
        }
        let mut valid = self.valid.write().unwrap_or_else(PoisonError::into_inner);
        if valid.header != Some(header) && self.index.header() == Some(header) {
            *valid = Valid { header: Some(header), generation: valid.generation + 1 };
        }
        Some(())
    }

    /// How many frames are in the log.
    pub(super) fn frames(&self) -> Option<u32> {
        self.index.header().map(|header| header.frames())
    }

    /// To be called inside a transaction, before its commit.
    pub(super) fn commit(&self) -> Commit<'_> {
        self.committing.store(true, Ordering::Release);
        Commit { cache: self, before: self.index.header() }
    }
}

impl Commit<'_> {
    /// Takes what the commit changed out of what is kept. Whatever became of the commit, no more counts than
    /// before where this is not called.
    pub(super) fn done(self, changed: Changed) {
        let cache = self.cache;
        let mut valid = cache.valid.write().unwrap_or_else(PoisonError::into_inner);
        let now = cache.index.header();
        if now == self.before {
            return;
        }
        // One commit, which is this one where it changed a page: nobody else could write between that header and it.
        let alone = match (&self.before, &now) {
            (Some(before), Some(now)) => valid.header == Some(*before) && now.follows(before),
            _ => false,
        };
        valid.header = now;
        match changed {
            Changed::Secrets(keys) if alone => {
                for key in &keys {
                    cache.secrets.remove(key);
                }
            }
            _ => valid.generation += 1,
        }
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.cache.committing.store(false, Ordering::Release);
    }
}

/// Weighs a secret by its bytes.
#[derive(Clone)]
struct Size;

impl Weighter<SecretKey, Kept<SecretWithVersion>> for Size {
    fn weight(&self, (_, path): &SecretKey, kept: &Kept<SecretWithVersion>) -> u64 {
        let sealed = kept.row.version.as_ref().and_then(|version| version.sealed.as_ref());
        let sealed = sealed.map_or(0, |sealed| sealed.as_bytes().len());
        let record = &kept.row.secret.record;
        let custom_metadata: usize = record
            .secret
            .custom_metadata
            .entries()
            .iter()
            .map(|(key, value)| key.len() + value.len() + ENTRY_BYTES)
            .sum();
        let state_changes = record.state_changes.versions() * STATE_CHANGE_BYTES;
        // The path is there twice: in the key and in the row.
        (ROW_BYTES + 2 * path.as_str().len() + sealed + custom_metadata + state_changes) as u64
    }
}

/// What is kept of secrets, in bytes: some ten thousand of the usual size, and a fifth of what the server may
/// use with a million of them.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;
/// A row of its usual size; only an estimate, from which the number of shards follows.
const KEPT_SECRETS: usize = 32 * 1024;
/// Callers whose rows are kept, of some KiB each.
const KEPT_CREDENTIALS: usize = 4_096;
/// What a row takes besides its texts: the structures, their allocations and its place in the cache.
const ROW_BYTES: usize = 600;
/// What an entry of a map takes besides its texts.
const ENTRY_BYTES: usize = 64;
/// What is known of the states of a version: two numbers of four bytes, in a tree whose nodes of 104 bytes have room
/// for eleven, and may be half empty. A secret may have 24,000 of them.
const STATE_CHANGE_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use sqlx::{
        ConnectOptions as _, SqliteConnection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    };

    use super::*;
    use crate::{
        crypto::{Incarnation, SecretRecord, StateChanges},
        domain::{CustomMetadata, Secret, SecretConfig, Timestamp, VersionId},
        store::{StoredSecret, Verified},
    };

    fn secret(path: &str) -> (SecretKey, Arc<SecretWithVersion>) {
        secret_with(path, StateChanges::default())
    }

    fn secret_with(path: &str, changes: StateChanges) -> (SecretKey, Arc<SecretWithVersion>) {
        let path = SecretPath::parse(path).unwrap();
        let (created_at, updated_at) = (Timestamp::from_millis(0), Timestamp::from_millis(0));
        let secret = Secret {
            path: path.clone(),
            config: SecretConfig::default(),
            custom_metadata: CustomMetadata::default(),
            current_version: 0,
            oldest_version: 0,
            created_at,
            updated_at,
        };
        let incarnation = Incarnation::generate().unwrap();
        let record = SecretRecord { secret, incarnation, state_changes: changes };
        let secret = StoredSecret { record, proof: None, following: None };
        let okms_id = OkmsId::new(uuid::Uuid::nil());
        (
            (okms_id, path),
            Arc::new(SecretWithVersion { secret, version: None, verified: Verified::default() }),
        )
    }

    #[test]
    fn a_secret_weighs_what_is_known_of_the_states_of_its_versions() {
        let weight = |versions: u32| {
            let mut state_changes = StateChanges::default();
            for version in 1..=versions {
                state_changes.count(VersionId::new(version).unwrap());
            }
            let (key, row) = secret_with("a", state_changes);
            Size.weight(&key, &Kept { row, generation: 0 })
        };
        let (none, one, most) = (weight(0), weight(1), weight(24_000));
        assert_eq!((one - none, most - none), (24, 24_000 * 24));
        assert!(most < KEPT_BYTES);
    }

    async fn commit(connection: &mut SqliteConnection) {
        let sql = "INSERT INTO numbers VALUES (1)";
        sqlx::raw_sql(sql).execute(connection).await.unwrap();
    }

    #[tokio::test]
    async fn a_look_holds_until_this_process_says_what_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let (mut own, mut other) =
            (options.connect().await.unwrap(), options.connect().await.unwrap());
        let sql = "CREATE TABLE numbers (number INTEGER)";
        sqlx::raw_sql(sql).execute(&mut own).await.unwrap();
        let cache = RowCache::open(&path).unwrap();
        let ((a, row_a), (b, row_b)) = (secret("a"), secret("b"));
        let keep = || {
            for (key, row) in [(&a, &row_a), (&b, &row_b)] {
                cache.keep_secret(cache.as_of().unwrap(), key.clone(), Arc::clone(row));
            }
            cache.find(&cache.finds_of_secrets, None, || cache.secrets.get(&a)).unwrap().1
        };
        let has = |key, looked| cache.secret(key, looked).is_some();

        // A commit of another process came after the request did.
        let looked = keep();
        commit(&mut other).await;
        assert_eq!((has(&a, None), has(&a, Some(looked))), (false, true));

        // One of this process counts, at the latest, when it is acknowledged.
        let looked = keep();
        let under_way = cache.commit();
        commit(&mut own).await;
        assert!(!has(&a, None));
        under_way.done(Changed::Secrets(vec![a.clone()]));
        assert_eq!(
            (has(&a, Some(looked)), has(&b, Some(looked)), has(&b, None)),
            (false, true, true)
        );

        // Nothing is served that was read before a commit about which no more is known.
        let looked = keep();
        let under_way = cache.commit();
        commit(&mut own).await;
        under_way.done(Changed::Anything);
        assert_eq!((has(&a, Some(looked)), has(&b, Some(looked))), (false, false));

        // A commit that changed nothing is none: the one that is seen is of another process.
        let looked = keep();
        let under_way = cache.commit();
        commit(&mut other).await;
        under_way.done(Changed::Anything);
        assert_eq!((has(&a, Some(looked)), has(&b, Some(looked))), (false, false));

        // Where there is none at all, everything goes on to count.
        keep();
        cache.commit().done(Changed::Anything);
        assert_eq!((has(&a, None), has(&b, None)), (true, true));
        cache.close();
    }
}
