//! On SQLite: a stamp of the database that every commit changes, whoever made it, for the price of reading
//! some bytes of memory.
//!
//! In WAL mode a commit becomes visible to readers by a new header of the WAL index, the file beside the
//! database that ends in `-shm` and is shared memory of all its connections in all processes. That header
//! names the last frame of the log, its checksum over all before it, the log's salts, and a counter of
//! commits: two headers that are equal stand for the same content. So what was read from the database counts
//! for as long as the header is what it was before and after the read. The form is that of SQLite's file
//! format, section 4 ("WAL-Index File Format").
//!
//! `PRAGMA data_version` says the same, but asks for a round trip to the connection's thread, which is most
//! of what a read costs.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError, RwLock, Weak},
};

/// The WAL index of a database.
pub(super) struct WalIndex {
    /// Until it is closed.
    file: RwLock<Option<Arc<File>>>,
}

/// The header of the WAL index: a stamp of what the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header([u8; HEADER_LEN]);

impl WalIndex {
    /// Opens that of the database at `path`, to which a connection must be open.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // As SQLite does: the index is beside the file that a link leads to.
        let mut name = path.canonicalize()?.into_os_string();
        name.push("-shm");
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = std::fs::metadata(&name)?;
        let id = (metadata.dev(), metadata.ino());
        let file = match files.get(&id).and_then(Weak::upgrade) {
            Some(file) => file,
            None => {
                let file = Arc::new(File::open(&name)?);
                files.retain(|_, file| file.strong_count() > 0);
                files.insert(id, Arc::downgrade(&file));
                file
            }
        };
        Ok(Self { file: RwLock::new(Some(file)) })
    }

    /// The header as it is now. `None` where the index is being made anew, or is of another form.
    pub(super) fn header(&self) -> Option<Header> {
        let mut bytes = [0; HEADER_LEN];
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        file.as_ref()?.read_exact_at(&mut bytes, 0).ok()?;
        let header = Header(bytes);
        (header.number(FORMAT_AT) == FORMAT && bytes[INITIALIZED_AT] == 1).then_some(header)
    }

    /// Closes the file, once every connection to the database is closed; there is no header from then on.
    pub(super) fn close(&self) {
        // One that is opened just now has this descriptor, or its own after this one is closed.
        let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for WalIndex {
    /// A process that closes any descriptor of a file loses all its locks on that file (POSIX), and SQLite
    /// locks this one. So where a connection may still be open, the descriptor stays open, too.
    fn drop(&mut self) {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::forget(file.take());
    }
}

impl Header {
    /// Whether there was exactly one commit between `earlier` and this one.
    pub(super) fn follows(&self, earlier: &Self) -> bool {
        self.number(COMMITS_AT) == earlier.number(COMMITS_AT).wrapping_add(1)
    }

    /// How many frames, each a page, are in the log.
    pub(super) fn frames(&self) -> u32 {
        self.number(FRAMES_AT)
    }

    /// SQLite writes them in the byte order of the machine.
    fn number(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_ne_bytes(bytes.unwrap_or_default())
    }
}

/// The open files of this process, by device and inode: stores of one database share a descriptor, since
/// closing one's own would take the locks of the other.
static FILES: LazyLock<Mutex<OpenFiles>> = LazyLock::new(Mutex::default);
type OpenFiles = HashMap<(u64, u64), Weak<File>>;

/// The length of the header; a second copy follows it.
const HEADER_LEN: usize = 48;
const FORMAT_AT: usize = 0;
const FORMAT: u32 = 3_007_000;
const COMMITS_AT: usize = 8;
const INITIALIZED_AT: usize = 12;
const FRAMES_AT: usize = 16;

#[cfg(test)]
mod tests {
    use sqlx::{
        ConnectOptions as _, Connection as _, SqliteConnection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    };

    use super::*;
    use crate::store::{DatabaseUrl, Store};

    async fn run(connection: &mut SqliteConnection, sql: &'static str) {
        sqlx::raw_sql(sql).execute(connection).await.unwrap();
    }

    #[tokio::test]
    async fn the_index_is_that_of_the_file_that_a_link_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("x.sqlite"), folder.path().join("link"));
        let store = Store::open(&DatabaseUrl::sqlite_file(&path)).await.unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        // What another database left there, whose header never changes.
        std::fs::copy(folder.path().join("x.sqlite-shm"), folder.path().join("link-shm")).unwrap();
        let linked = Store::open(&DatabaseUrl::sqlite_file(&link)).await.unwrap();
        for store in [&store, &linked] {
            let cache = store.engine.cache().unwrap();
            assert!(cache.as_of().is_some(), "its commits are seen");
        }
        let (index, before) = {
            let index = WalIndex::open(&link).unwrap();
            let before = index.header().unwrap();
            (index, before)
        };
        let mut connection = SqliteConnectOptions::new().filename(&link).connect().await.unwrap();
        run(&mut connection, "CREATE TABLE numbers (number INTEGER)").await;
        assert!(index.header().unwrap().follows(&before));
        connection.close().await.unwrap();
        linked.close().await;
        store.close().await;
        index.close();
    }

    #[tokio::test]
    async fn every_commit_changes_the_header_and_nothing_else_counts_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        // No store: it empties the log when it likes.
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let (mut one, mut other) =
            (options.connect().await.unwrap(), options.connect().await.unwrap());
        run(&mut one, "CREATE TABLE before (number INTEGER)").await;
        let index = WalIndex::open(&path).unwrap();
        run(&mut one, "CREATE TABLE numbers (number INTEGER)").await;
        for _ in 0..100 {
            let before = index.header().unwrap();
            run(&mut one, "SELECT * FROM numbers").await;
            run(&mut one, "BEGIN IMMEDIATE; INSERT INTO numbers VALUES (1); ROLLBACK").await;
            assert_eq!(index.header(), Some(before));
            // A commit that wrote nothing is none.
            run(&mut one, "BEGIN IMMEDIATE; COMMIT").await;
            assert_eq!(index.header(), Some(before));
            run(&mut one, "BEGIN IMMEDIATE; INSERT INTO numbers VALUES (1); COMMIT").await;
            let after = index.header().unwrap();
            assert!(after != before && after.follows(&before));
            run(&mut other, "DELETE FROM numbers").await;
            let last = index.header().unwrap();
            assert!(last != after && last.follows(&after) && !last.follows(&before));
        }
        // The log begins anew.
        let before = index.header().unwrap();
        run(&mut one, "PRAGMA wal_checkpoint(TRUNCATE)").await;
        run(&mut one, "INSERT INTO numbers VALUES (2)").await;
        assert!(index.header().unwrap() != before);
        let before = index.header().unwrap();
        run(&mut one, "VACUUM").await;
        assert!(index.header().unwrap() != before);
        one.close().await.unwrap();
        other.close().await.unwrap();
        index.close();
    }
}
