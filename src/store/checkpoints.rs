//! On SQLite: pages that commits have put into the write-ahead log go into the file, while the writer goes on.
//!
//! SQLite does that by itself in the commit with which the log gets long, and whoever is in that commit waits for
//! hundreds of pages and one more sync. A connection of its own does it beside the writer instead. What has
//! come to the log meanwhile is for the next time, so a log that is written to all the time would never begin
//! anew: for that, SQLite itself takes [the little that is left](WRITER_PAGES) from time to time.
//!
//! The connection is opened when it is first needed: a server that hardly writes has none.
//!
//! `cargo bench --bench write -- "distinct, 64"` shows what that buys (2026-11-29). One run with the numbers below: 3.9
//! times as many writes as with a commit each, p99 18 ms, and 3 ms at half of that rate; with 16,000
//! [pages](WRITER_PAGES) 3.3 times, 20 ms and 4 ms. With SQLite's own checkpoints, three runs: 3.0 to 3.2 times, 20 to
//! 26 ms and 9 ms. With more [frames](FRAMES) together less is written (31 KB a write with 4,000, 47 with 250), but p99
//! was 20 to 25 ms.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, mpsc},
    task::JoinHandle,
    time::timeout,
};

use super::{Connection, connection::execute};

/// The way to whoever does it.
pub(super) struct Checkpoints {
    wanted: mpsc::Sender<()>,
    task: JoinHandle<()>,
    /// Held while it is done.
    at_work: Arc<Mutex<()>>,
    /// How many frames the log had when it was asked for last.
    frames: u32,
}

impl Checkpoints {
    pub(super) fn start(options: SqliteConnectOptions) -> Self {
        let (wanted, next) = mpsc::channel(1);
        let at_work = Arc::default();
        let task = tokio::spawn(run(options, next, Arc::clone(&at_work)));
        Self { wanted, task, at_work, frames: 0 }
    }

    /// So many frames are in the log after a commit.
    pub(super) fn committed(&mut self, frames: u32) {
        if frames < self.frames {
            // The log has begun anew.
            self.frames = 0;
        }
        // With as many as that the writer does it, and must find nobody at it.
        if frames - self.frames >= FRAMES && frames < WRITER_PAGES {
            self.frames = frames;
            // Where it is asked for already, that one finds these, too.
            let _ = self.wanted.try_send(());
        }
    }

    /// Nothing is done until what this gives is dropped: SQLite refuses a second checkpoint at once.
    pub(super) async fn pause(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.at_work).lock_owned().await
    }

    /// Waits until it is done with what it does, and its connection is closed.
    pub(super) async fn end(self) {
        drop(self.wanted);
        // That it panicked was logged by the runtime.
        let _ = self.task.await;
    }
}

async fn run(
    options: SqliteConnectOptions,
    mut wanted: mpsc::Receiver<()>,
    at_work: Arc<Mutex<()>>,
) {
    let mut connection = None;
    while wanted.recv().await.is_some() {
        let done = {
            let _at_work = at_work.lock().await;
            checkpoint(&options, &mut connection).await
        };
        if let Err(error) = done {
            tracing::warn!(%error, "moving pages of the SQLite WAL into its file failed");
            if let Some(connection) = connection.take() {
                // What is wrong with it was just said.
                let _ = connection.close().await;
            }
            // The writer moves them, when they are many. The end need not wait.
            let _ = timeout(RETRY, async { while wanted.recv().await.is_some() {} }).await;
        }
    }
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "SQLite could not be closed as it should be");
    }
}

/// Moves what nobody reads or writes just now; waits for nobody.
async fn checkpoint(
    options: &SqliteConnectOptions,
    connection: &mut Option<SqliteConnection>,
) -> Result<(), sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.connect().await?),
    };
    execute!(&mut Connection::Sqlite(connection), "PRAGMA wal_checkpoint(PASSIVE)").map(|_| ())
}

/// Frames, each a page of 4 KiB, that are moved together: what some commits of a busy server leave.
const FRAMES: u32 = 250;

/// `wal_autocheckpoint` of the writer: with how many frames in the log a commit moves what is left, so that the log
/// begins anew. So many are in the first table of the WAL index, of which readers would look at each.
pub(super) const WRITER_PAGES: u32 = 4_000;

/// How long nothing is tried after a failure, so that a full disk does not fill the program's log.
const RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use sqlx::sqlite::SqliteJournalMode;

    use super::*;
    use crate::store::wal_index::WalIndex;

    async fn run(connection: &mut SqliteConnection, sql: &'static str) {
        sqlx::raw_sql(sql).execute(connection).await.unwrap();
    }

    fn size(path: &Path) -> u64 {
        fs::metadata(path).unwrap().len()
    }

    #[tokio::test]
    async fn pages_go_into_the_file_beside_the_writer_once_there_are_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let to_write = options.clone().pragma("wal_autocheckpoint", "0");
        let mut writer = to_write.connect().await.unwrap();
        run(&mut writer, "CREATE TABLE numbers (number INTEGER); PRAGMA wal_checkpoint(TRUNCATE)")
            .await;
        let empty = size(&path);
        let index = WalIndex::open(&path).unwrap();
        let mut checkpoints = Checkpoints::start(options);

        // A transaction that is open is no reason to wait.
        let one = "INSERT INTO numbers VALUES (zeroblob(400000))";
        run(&mut writer, one).await;
        let frames = index.header().unwrap().frames();
        assert!((90..FRAMES).contains(&frames), "{frames}");
        checkpoints.committed(frames);
        run(&mut writer, one).await;
        run(&mut writer, one).await;
        let frames = index.header().unwrap().frames();
        assert!(frames >= FRAMES, "{frames}");
        run(&mut writer, "BEGIN IMMEDIATE; INSERT INTO numbers VALUES (1)").await;
        assert_eq!(size(&path), empty, "few are left where they are");
        checkpoints.committed(frames);
        let moved = async {
            while size(&path) < empty + 1_200_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(RETRY, moved).await.expect("pages in the file");
        run(&mut writer, "COMMIT").await;

        // The log begins anew.
        run(&mut writer, "PRAGMA wal_checkpoint(TRUNCATE)").await;
        run(&mut writer, "INSERT INTO numbers VALUES (2)").await;
        let frames = index.header().unwrap().frames();
        assert!(frames < 10, "{frames}");
        checkpoints.committed(frames);
        assert_eq!(checkpoints.frames, 0);

        checkpoints.end().await;
        writer.close().await.unwrap();
        index.close();
    }

    #[tokio::test]
    async fn a_log_that_is_written_to_all_the_time_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let to_write = options.clone().pragma("wal_autocheckpoint", WRITER_PAGES.to_string());
        let mut writer = to_write.connect().await.unwrap();
        run(&mut writer, "CREATE TABLE numbers (number INTEGER)").await;
        let index = WalIndex::open(&path).unwrap();
        let mut checkpoints = Checkpoints::start(options);
        let (mut most, mut restarts) = (0, 0);
        for _ in 0..100 {
            let before = index.header().unwrap().frames();
            run(&mut writer, "INSERT INTO numbers VALUES (zeroblob(400000))").await;
            let frames = index.header().unwrap().frames();
            checkpoints.committed(frames);
            most = most.max(frames);
            restarts += u32::from(frames < before);
        }
        // About 10,000 in all.
        assert!(restarts >= 1 && most < 2 * WRITER_PAGES, "{restarts} {most}");
        // With as many as the writer takes itself, nobody else is asked.
        let paused = checkpoints.pause().await;
        while checkpoints.wanted.capacity() == 0 {
            tokio::task::yield_now().await;
        }
        checkpoints.frames = 0;
        checkpoints.committed(WRITER_PAGES);
        assert_eq!(checkpoints.wanted.capacity(), 1);
        checkpoints.committed(WRITER_PAGES - 1);
        assert_eq!(checkpoints.wanted.capacity(), 0);
        drop(paused);
        checkpoints.end().await;
        writer.close().await.unwrap();
        index.close();
    }

    #[tokio::test]
    async fn nothing_is_moved_in_a_pause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let to_write = options.clone().pragma("wal_autocheckpoint", "0");
        let mut writer = to_write.connect().await.unwrap();
        run(&mut writer, "CREATE TABLE numbers (number INTEGER)").await;
        let mut checkpoints = Checkpoints::start(options);
        run(&mut writer, "INSERT INTO numbers VALUES (zeroblob(1200000))").await;
        let pause = checkpoints.pause().await;
        let before = size(&path);
        checkpoints.committed(FRAMES);
        while checkpoints.wanted.capacity() == 0 {
            tokio::task::yield_now().await;
        }
        // It is asked for, and would take some milliseconds.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(size(&path), before);
        drop(pause);
        checkpoints.end().await;
        assert!(size(&path) >= before + 1_200_000);
        writer.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_fails_is_left_to_the_writer_and_the_end_does_not_wait() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("absent"));
        let mut checkpoints = Checkpoints::start(options);
        checkpoints.committed(FRAMES);
        while checkpoints.wanted.capacity() == 0 {
            tokio::task::yield_now().await;
        }
        checkpoints.committed(3 * FRAMES);
        timeout(RETRY / 2, checkpoints.end()).await.expect("the end");
    }
}
