//! On SQLite: one writer, many units of work to a commit.
//!
//! A commit costs an fsync whatever it holds, and SQLite lets only one writer in at a time. So all
//! units go through one queue; the writer takes [what is waiting](batch_size), runs it in one transaction, commits
//! once and then answers all. A unit that refuses before it wrote anything leaves no trace in the
//! transaction; should one fail after a write, the whole batch is rolled back and each unit is run
//! again in a transaction of its own, so nobody fails for another's fault. That is cheaper than a
//! savepoint for each unit, which would cost two more round trips to SQLite's thread every time.
//!
//! Round trips to that thread are most of what a unit costs. So those that are each about a secret of their own
//! share them: what they read is read for all of them before the first runs, and what they write is
//! written when all have run. Whoever comes to a secret again, or is about anything else, runs after what was
//! deferred.
//!
//! An error of SQLite's own always spoils the batch, even from a read: on some of them (a full disk, a
//! failing one) SQLite ends the whole transaction by itself, and what came after would no longer be one.

use std::{
    collections::{HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{ConnectOptions, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Connection, StoreError,
    checkpoints::Checkpoints,
    cleaning::Cleaning,
    connection::execute,
    error::is_busy,
    line::{DEFAULT_QUEUE_LENGTH, LONGEST_QUEUE, full},
    measures::{GroupSizes, WriterMeasures},
    row_cache::{Changed, RowCache},
    secret_changes::look_up,
    transaction::{About, Tx, UnitOfWork},
};
use crate::domain::Error;

/// How units of work come to a commit on SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// All that wait share one.
    Grouped,
    /// Each has its own and nothing queues: what grouping is measured against, for nothing else. A caller that
    /// goes away leaves its transaction open, and what is deleted leaves the file with the next write only.
    Each,
}

/// The way to the writer.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    /// Units that may wait in it.
    queue_length: AtomicUsize,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// Units for which it was full, since the start.
    refused: AtomicU64,
    groups: Arc<GroupSizes>,
    /// The writer itself, where there is no queue.
    each: tokio::sync::Mutex<Option<Box<Writing>>>,
}

impl Writer {
    pub(super) fn start(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        cleaning: Cleaning,
        cache: Arc<RowCache>,
        commits: Commits,
    ) -> Self {
        let checkpoints = Checkpoints::start(options.clone());
        let groups = Arc::default();
        let writing = Writing {
            connection,
            options,
            cleaning,
            checkpoints,
            cache,
            groups: Arc::clone(&groups),
        };
        let (queue, task, each) = match commits {
            Commits::Grouped => {
                let (queue, jobs) = mpsc::channel(LONGEST_QUEUE);
                (Some(queue), Some(tokio::spawn(writing.run(jobs))), None)
            }
            Commits::Each => (None, None, Some(Box::new(writing))),
        };
        let queue_length = AtomicUsize::new(DEFAULT_QUEUE_LENGTH);
        let (queue, task, each) = (Mutex::new(queue), task.into(), each.into());
        Self { queue, queue_length, refused: AtomicU64::new(0), task, groups, each }
    }

    /// From now on, so many units may wait, up to [`LONGEST_QUEUE`].
    pub(super) fn limit_queue(&self, length: usize) {
        self.queue_length.store(length, Ordering::Relaxed);
    }

    /// What it has done, and what waits for it.
    pub(super) fn measures(&self) -> WriterMeasures {
        let queue = self.queue.lock().ok().and_then(|queue| queue.clone());
        let refused = self.refused.load(Ordering::Relaxed);
        self.groups.measures(queue.as_ref().map_or(0, waiting), refused)
    }

    /// Queues a unit of work and waits until it is committed, or refused: at once where the queue is full.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        about: Option<About>,
        unit: UnitOfWork<T>,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Queued { about, unit, result: None, answer });
        let queue = self.queue.lock().ok().and_then(|queue| queue.clone());
        let Some(queue) = queue else {
            let mut each = self.each.lock().await;
            each.as_mut().ok_or_else(closed)?.write_alone(job).await;
            return answered.await.map_err(|_| closed())?;
        };
        if waiting(&queue) >= self.queue_length.load(Ordering::Relaxed) {
            return Err(self.refuse());
        }
        match queue.try_send(job) {
            Ok(()) => answered.await.map_err(|_| closed())?,
            Err(mpsc::error::TrySendError::Full(_)) => Err(self.refuse()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closed()),
        }
    }

    fn refuse(&self) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        full().into()
    }

    /// Lets the writer finish what is queued, and waits for that.
    pub(super) async fn close(&self) {
        if let Ok(mut queue) = self.queue.lock() {
            queue.take();
        }
        if let Some(task) = self.task.lock().await.take() {
            // It ends by itself once the queue is empty; that it panicked was logged by the runtime.
            let _ = task.await;
        }
        if let Some(writing) = self.each.lock().await.take() {
            writing.end().await;
        }
    }
}

/// How many units are in the queue.
fn waiting(queue: &mpsc::Sender<Box<dyn Job>>) -> usize {
    queue.max_capacity() - queue.capacity()
}

fn closed() -> Error {
    Error::Unavailable("the SQLite writer has stopped".into())
}

/// A unit of work in the queue, whatever it results in.
trait Job: Send {
    /// What it is about, where that is one secret.
    fn about(&self) -> Option<&About>;

    /// Whether nobody waits for the answer any more. A caller that was told of an outage asks again;
    /// its first request must not be done beside its second.
    fn is_abandoned(&self) -> bool;

    /// Runs the unit and keeps its result. `Err` where that leaves the transaction in doubt.
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> BoxFuture<'a, Result<(), ()>>;

    /// Gives the caller the result, or the error of the transaction that was to make it last.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Queued<T> {
    about: Option<About>,
    unit: UnitOfWork<T>,
    result: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send + 'static> Job for Queued<T> {
    fn about(&self) -> Option<&About> {
        self.about.as_ref()
    }

    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> BoxFuture<'a, Result<(), ()>> {
        Box::pin(async move {
            (tx.wrote, tx.spares_kept_rows) = (false, false);
            // A panic here would end the only writer there is.
            let result = AssertUnwindSafe((self.unit)(tx)).catch_unwind().await;
            let panicked = result.is_err();
            let result = result
                .unwrap_or_else(|_| Err(Error::Internal("a unit of work panicked".into()).into()));
            let clean = match &result {
                Ok(_) => true,
                Err(StoreError::Refused(_)) => !tx.wrote && !panicked,
                Err(_) => false,
            };
            self.result = Some(result);
            if clean { Ok(()) } else { Err(()) }
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let result = match (self.result, committed) {
            // First: a refusal may rest on what others in the batch did, which then did not happen.
            (_, Err(error)) => Err(error),
            (Some(Err(refused)), Ok(())) => Err(refused.into()),
            (Some(Ok(done)), Ok(())) => Ok(done),
            (None, Ok(())) => Err(Error::Internal("a unit of work was not run".into())),
        };
        // The caller may have gone; what is committed is committed.
        let _ = self.answer.send(result);
    }
}

/// The writer's side.
struct Writing {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    cleaning: Cleaning,
    checkpoints: Checkpoints,
    cache: Arc<RowCache>,
    groups: Arc<GroupSizes>,
}

impl Writing {
    async fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let (mut waiting, mut last) = (Vec::with_capacity(BATCH_SIZE), 0);
        loop {
            let most = batch_size(last, jobs.len());
            let received = tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.cleaning.due()) => {
                    self.clean().await;
                    continue;
                }
                received = jobs.recv_many(&mut waiting, most) => received,
            };
            if received == 0 {
                break;
            }
            last = received;
            let batch: VecDeque<_> = waiting.drain(..).filter(|job| !job.is_abandoned()).collect();
            if !batch.is_empty() {
                self.write(batch).await;
            }
        }
        self.end().await;
    }

    async fn end(mut self) {
        self.checkpoints.end().await;
        if self.cleaning.is_due() {
            self.cleaning.run_all(&mut self.connection).await;
        }
        // Not left to its thread: whoever waits for the end may then close what else is open of the database.
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "SQLite could not be closed as it should be");
        }
    }

    /// Writes a unit without a queue, and does then what the queue would have left time for.
    async fn write_alone(&mut self, job: Box<dyn Job>) {
        self.write(VecDeque::from([job])).await;
        if self.cleaning.due() <= Instant::now() {
            self.clean().await;
        }
    }

    async fn clean(&mut self) {
        let _paused = self.checkpoints.pause().await;
        self.cleaning.run(&mut self.connection).await;
    }

    /// Writes a batch, and its units one by one if one of them spoils it.
    async fn write(&mut self, batch: VecDeque<Box<dyn Job>>) {
        let Err(Undone { batch, .. }) = self.try_write(batch).await else { return };
        for job in batch {
            if let Err(Undone { batch: mut alone, error }) =
                self.try_write(VecDeque::from([job])).await
                && let Some(job) = alone.pop_front()
            {
                // Its own error is its answer, or that of what it deferred; the transaction was rolled back.
                job.answer(error.map_or(Ok(()), |error| Err(StoreError::Sql(error).into())));
            }
        }
    }

    /// Writes a batch in one transaction and answers it; gives it back, unanswered and undone, where
    /// a unit failed after it had written.
    async fn try_write(&mut self, mut batch: VecDeque<Box<dyn Job>>) -> Result<(), Undone> {
        let committed = match self.execute("BEGIN IMMEDIATE").await {
            Err(error) => {
                // Where another process has the lock, the connection is as good as before, and a new one would wait
                // as long again. Otherwise it is perhaps of no use any more.
                if !is_busy(&error) {
                    self.roll_back().await;
                }
                Err(error)
            }
            Ok(()) => {
                // Once more: to begin may take as long as others write, and meanwhile callers were told of it.
                batch.retain(|job| !job.is_abandoned());
                if batch.is_empty() {
                    self.roll_back().await;
                    return Ok(());
                }
                let mut tx = Tx::new(Connection::Sqlite(&mut self.connection));
                let changed = match run_all(&mut batch, &mut tx).await {
                    Ok(changed) => changed,
                    Err(error) => {
                        self.roll_back().await;
                        return Err(Undone { batch, error });
                    }
                };
                let (destroyed, deleted) = (tx.destroyed, tx.deleted);
                let cache = Arc::clone(&self.cache);
                let commit = cache.commit();
                let committed = self.commit(deleted).await;
                if committed.is_ok() {
                    commit.done(changed);
                    self.groups.add(batch.len());
                    if let Some(frames) = cache.frames() {
                        self.checkpoints.committed(frames);
                    }
                }
                if committed.is_err() {
                    self.roll_back().await;
                } else if deleted {
                    self.cleaning.deleted();
                } else if destroyed {
                    self.cleaning.destroyed();
                }
                committed
            }
        };
        let committed = committed.map_err(|error| Error::from(StoreError::Sql(error)));
        if let Err(error) = &committed {
            tracing::error!(error = ?error, units = batch.len(), "SQLite transaction failed");
        }
        for job in batch {
            job.answer(committed.clone());
        }
        Ok(())
    }

    async fn commit(&mut self, deleted: bool) -> Result<(), sqlx::Error> {
        if deleted {
            Cleaning::mark(&mut self.connection).await?;
        }
        self.execute("COMMIT").await
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        execute!(&mut Connection::Sqlite(&mut self.connection), sql).map(|_| ())
    }

    /// Undoes the open transaction; where even that fails, only a new connection is known to be
    /// clean.
    async fn roll_back(&mut self) {
        let Err(error) = self.execute("ROLLBACK").await else { return };
        tracing::warn!(%error, "SQLite rollback failed, opening a new connection");
        match open_to_write(&self.options).await {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(%error, "SQLite cannot be opened again"),
        }
    }
}

/// Opens a connection that can write. While the disk refuses that, SQLite opens the file without a word to read it
/// only, and would keep to that when the disk has long recovered.
async fn open_to_write(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    for sql in ["BEGIN IMMEDIATE", "PRAGMA user_version = 1", "ROLLBACK"] {
        execute!(&mut Connection::Sqlite(&mut connection), sql)?;
    }
    Ok(connection)
}

/// A batch that was rolled back.
struct Undone {
    batch: VecDeque<Box<dyn Job>>,
    /// Why, where that is not the result of one of its units.
    error: Option<sqlx::Error>,
}

/// Runs all units of a batch, one after another, and writes what they deferred: what they changed, of what may be kept
/// in memory. An error leaves the transaction in doubt; it is `None` where a unit has it for its result.
async fn run_all(
    batch: &mut VecDeque<Box<dyn Job>>,
    tx: &mut Tx<'_>,
) -> Result<Changed, Option<sqlx::Error>> {
    let mut begun = HashSet::with_capacity(batch.len());
    // One reads for itself what it needs.
    if batch.len() > 1 {
        let about = batch.iter().filter_map(|job| job.about());
        // The first of each secret only: what the next finds, that one makes.
        let first = about.filter(|about| begun.insert(about.secret.clone()));
        let first = first.filter_map(|about| Some((about.secret.clone(), about.key_id?)));
        look_up(tx, first.collect()).await?;
        begun.clear();
    }
    let mut changed_anything = false;
    for job in batch {
        match job.about() {
            Some(About { secret, .. }) => {
                if !begun.insert(secret.clone()) {
                    tx.settle().await?;
                    tx.found.remove(secret);
                }
            }
            None => {
                tx.settle().await?;
                tx.found.clear();
            }
        }
        job.run(tx).await.map_err(|()| None)?;
        changed_anything |= job.about().is_none() && !tx.spares_kept_rows;
    }
    tx.settle().await?;
    // Where nothing was changed, `Anything` costs nothing either: the cache sees that nobody committed.
    Ok(match tx.surely_changed && !changed_anything {
        true => Changed::Secrets(begun.into_iter().collect()),
        false => Changed::Anything,
    })
}

/// How many units come to a batch after one of `last` while so many wait: half of all who write, if they are many. All
/// at once would have all of them wait for their answers, and the writer for what they ask next; so one half is written
/// while what became of the other is recorded and on its way.
///
/// `cargo bench --bench write -- "distinct, 64"` (2026-11-30, two cores, three rounds): 6,960 a second with all at
/// once, 7,620 and 7,950 with halves.
fn batch_size(last: usize, waiting: usize) -> usize {
    match (last + waiting) / 2 {
        half if half < LEAST_HALF => 2 * LEAST_HALF,
        half => half.min(BATCH_SIZE),
    }
}

/// Fewer are not halved, as each half costs a commit. The same benchmark at 16 connections: 4,100 a second with all
/// at once and 4,570 to 4,800 with halves of 8, so less may be better here.
const LEAST_HALF: usize = 16;

/// Units to a commit: at 64 KiB each, still no more than some tens of MiB in one transaction.
pub(super) const BATCH_SIZE: usize = 256;

#[cfg(test)]
mod tests;
