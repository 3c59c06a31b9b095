//! On SQLite: making sure that destroyed data is in no file any more.
//!
//! `secure_delete` overwrites a row where it stands when it is deleted. Two copies can outlive that:
//!
//! - The WAL still has the page as it was before. So the WAL is emptied soon after.
//! - When SQLite moves rows between pages (a page is full, or nearly empty), it leaves copies of them in
//!   the unused part of the old page, secure_delete or not. So after a version, secret or domain was
//!   *deleted*, the file is rebuilt with `VACUUM`. That takes time in proportion to the file and holds
//!   back writers meanwhile, so it may take up one hundredth of the time at the most, and it is not done
//!   for versions that were merely pruned: those go with the next rebuild.
//!
//! A file that is too large to be rebuilt in bearable time is left as it is.
//!
//! Whether a rebuild is due is kept in the file itself, as its `user_version`, and set in the transaction
//! of the deletion: a process that ends in between leaves it to the next one.

use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::time::Instant;

use super::{
    Connection,
    connection::{execute, fetch_optional},
};

/// What has to be done, and when.
pub(super) struct Cleaning {
    empty_wal: Option<Instant>,
    rebuild: Option<Instant>,
    /// Not before that, whatever is deleted.
    next_rebuild: Instant,
    /// When to look whether another process has deleted something, and could not clean up.
    next_look: Instant,
}

impl Cleaning {
    /// A process begins by finishing what the one before it may have left.
    pub(super) async fn start(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let now = Instant::now();
        let rebuild = (mark(connection).await? != CLEAN).then_some(now);
        let next_look = now + LOOK_INTERVAL;
        Ok(Self { empty_wal: Some(now), rebuild, next_rebuild: now, next_look })
    }

    /// Notes, inside the transaction of a deletion, that the file must be rebuilt.
    pub(super) async fn mark(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        execute!(&mut Connection::Sqlite(connection), "PRAGMA user_version = 1").map(|_| ())
    }

    /// Data was overwritten where it stood; its old pages are in the WAL.
    pub(super) fn destroyed(&mut self) {
        self.empty_wal.get_or_insert(Instant::now() + DELAY);
    }

    /// Data was deleted: it must be nowhere.
    pub(super) fn deleted(&mut self) {
        self.destroyed();
        self.rebuild.get_or_insert(self.next_rebuild.max(Instant::now() + DELAY));
    }

    /// When there is something to do next.
    pub(super) fn due(&self) -> Instant {
        [self.empty_wal, self.rebuild].into_iter().flatten().fold(self.next_look, Instant::min)
    }

    /// Whether something is left to do, whenever.
    pub(super) const fn is_due(&self) -> bool {
        self.empty_wal.is_some() || self.rebuild.is_some()
    }

    /// Does what is due. What cannot be done now is tried again later.
    pub(super) async fn run(&mut self, connection: &mut SqliteConnection) {
        let now = Instant::now();
        // Whoever reads for long, such as a backup, must not hold back every writer here.
        let _ = execute!(&mut Connection::Sqlite(connection), "PRAGMA busy_timeout = 50");
        if self.next_look <= now {
            self.next_look = now + LOOK_INTERVAL;
            // Where it cannot be read now, the next look will tell.
            if mark(connection).await.is_ok_and(|mark| mark != CLEAN) {
                self.rebuild.get_or_insert(self.next_rebuild.max(now));
            }
        }
        if self.rebuild.is_some_and(|due| due <= now) {
            self.rebuild(connection).await;
        }
        // Not `now`: a rebuild has just made it due.
        if self.empty_wal.is_some_and(|due| due <= Instant::now()) {
            self.empty_wal(connection).await;
        }
        // As every connection begins with, see `SQLITE_BUSY_TIMEOUT`.
        let _ = execute!(&mut Connection::Sqlite(connection), "PRAGMA busy_timeout = 10000");
    }

    /// Does everything that is left, due or not: the process is about to end.
    pub(super) async fn run_all(&mut self, connection: &mut SqliteConnection) {
        let now = Instant::now();
        self.empty_wal = self.empty_wal.map(|due| due.min(now));
        // One that must wait for its share of time is noted in the file; the next process does it.
        self.rebuild = self.rebuild.map(|due| if self.next_rebuild <= now { now } else { due });
        self.run(connection).await;
        // A server that works on the same file may be in the middle of a read.
        for _ in 0..LAST_TRIES {
            if self.empty_wal.is_none() {
                break;
            }
            tokio::time::sleep(DELAY).await;
            self.empty_wal = Some(Instant::now());
            self.run(connection).await;
        }
    }

    async fn rebuild(&mut self, connection: &mut SqliteConnection) {
        let started = Instant::now();
        if size(connection).await.is_ok_and(|size| size > MAX_REBUILD_BYTES) {
            tracing::warn!("the SQLite file is too large to be rebuilt after deletions");
            self.next_rebuild = started + TOO_LARGE_RETRY;
            self.rebuild = None;
            return;
        }
        let done = async {
            // 2: a rebuild has begun. Whatever another process deletes meanwhile sets it back to 1.
            execute!(&mut Connection::Sqlite(connection), "PRAGMA user_version = 2")?;
            execute!(&mut Connection::Sqlite(connection), "VACUUM")?;
            execute!(&mut Connection::Sqlite(connection), "BEGIN IMMEDIATE")?;
            if mark(connection).await? == REBUILDING {
                execute!(&mut Connection::Sqlite(connection), "PRAGMA user_version = 0")?;
            }
            execute!(&mut Connection::Sqlite(connection), "COMMIT")
        };
        let done = done.await;
        let took = started.elapsed();
        self.next_rebuild = Instant::now() + took.max(SHORTEST_REBUILD) * SHARE;
        self.rebuild = match done {
            Ok(_) => {
                // The rebuilt pages are in the WAL; the old ones still in the file.
                self.empty_wal = Some(Instant::now());
                None
            }
            Err(error) => {
                tracing::warn!(%error, "rebuilding the SQLite file failed, trying again");
                // In case it failed between the two statements around the mark.
                let _ = execute!(&mut Connection::Sqlite(connection), "ROLLBACK");
                Some(Instant::now() + RETRY)
            }
        };
    }

    /// Moves all pages from the WAL into the file and cuts the WAL to nothing. A reader in the middle
    /// of a statement can keep it from happening.
    async fn empty_wal(&mut self, connection: &mut SqliteConnection) {
        let done = fetch_optional!(
            &mut Connection::Sqlite(connection),
            (i64, i64, i64),
            "PRAGMA wal_checkpoint(TRUNCATE)"
        );
        self.empty_wal = match done {
            Ok(Some((0, _, _))) => None,
            Ok(_) => Some(Instant::now() + BUSY_RETRY),
            Err(error) => {
                tracing::warn!(%error, "emptying the SQLite WAL failed, trying again");
                Some(Instant::now() + RETRY)
            }
        };
    }
}

/// What the file says about deletions: [`CLEAN`], 1 where it must be rebuilt, or [`REBUILDING`].
async fn mark(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let mut connection = Connection::Sqlite(connection);
    let mark = fetch_optional!(&mut connection, (i64,), "PRAGMA user_version")?;
    Ok(mark.unwrap_or_default().0)
}

const CLEAN: i64 = 0;
const REBUILDING: i64 = 2;

/// The size of the database in bytes.
async fn size(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let mut connection = Connection::Sqlite(connection);
    let pages = fetch_optional!(&mut connection, (i64,), "PRAGMA page_count")?;
    let page_size = fetch_optional!(&mut connection, (i64,), "PRAGMA page_size")?;
    let (pages, page_size) = (pages.unwrap_or_default(), page_size.unwrap_or_default());
    Ok(pages.0.saturating_mul(page_size.0))
}

/// The largest file that is rebuilt: 4 GiB. A file of 433 MB (a million secrets) took 2 s on two shared
/// cores; at 20 s, writers would be told that storage is unavailable.
const MAX_REBUILD_BYTES: i64 = 4 << 30;
/// How often to say so: once a day.
const TOO_LARGE_RETRY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long destroyed data may stay: soon enough to be called gone, and seldom enough that many
/// deletions share one cleaning.
const DELAY: Duration = Duration::from_millis(200);
/// How often a process that is about to end tries to empty the WAL again.
const LAST_TRIES: u32 = 10;
/// How often to look for what another process has left; the command line cleans up after itself, but
/// not where the server was at work on the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long to wait where somebody reads.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// How long to wait where it failed, so that a full disk does not fill the log.
const RETRY: Duration = Duration::from_secs(60);
/// A rebuild that took a second is followed by none for a hundred seconds.
const SHARE: u32 = 100;
/// Of small files too, a rebuild is followed by none for a second.
const SHORTEST_REBUILD: Duration = Duration::from_millis(10);
