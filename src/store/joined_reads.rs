//! On SQLite: reads of different rows that wait at the same time share a round trip to SQLite's thread, which costs
//! more than they do.
//!
//! Nothing is kept, and a read begins after it was asked for. Whoever asks waits for a connection, and reads with it
//! for all those who wait then; so each of them has its row from the first connection that is free.
//!
//! Reads of any of 100,000 secrets at 32 connections (`cargo bench --bench read`, a busy machine): 9,700 a second and
//! 102 us of processor each before, 11,800 and 92 with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::{Sqlite, sqlite::SqliteRow};
use tokio::sync::oneshot;

use super::{
    StoreError,
    pipeline::{Value, fetch_each_row},
    shelf::Shelf,
};
use crate::domain::Error;

/// Reads by one statement, which finds a row at the most.
pub(super) struct JoinedReads {
    sql: &'static str,
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    values: Vec<Value>,
    answer: oneshot::Sender<Option<SqliteRow>>,
}

impl JoinedReads {
    /// Reads by this statement.
    pub(super) const fn new(sql: &'static str) -> Self {
        Self { sql, waiting: Mutex::new(Vec::new()) }
    }

    /// The row that the statement finds with these values.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn read(
        &self,
        readers: &Shelf<Sqlite>,
        values: Vec<Value>,
    ) -> Result<Option<SqliteRow>, Error> {
        let (answer, mut found) = oneshot::channel();
        self.lock().push(Waiting { values: values.clone(), answer });
        // Those that are ready besides come first, and share the round trip.
        tokio::task::yield_now().await;
        let shared = loop {
            tokio::select! {
                biased;
                found = &mut found => break found,
                connection = readers.take() => {
                    let mut connection = connection?;
                    let (asked, answers) = self.next();
                    if asked.is_empty() {
                        connection.lay_back();
                        // Another one reads for this one, or has read.
                        break found.await;
                    }
                    // What fails is tried again by each for itself.
                    if let Ok(rows) = fetch_each_row(&mut connection, self.sql, &asked).await {
                        connection.lay_back();
                        for (answer, row) in answers.into_iter().zip(rows) {
                            // Who asked may have gone away.
                            let _gone = answer.send(row);
                        }
                    }
                }
            }
        };
        match shared {
            Ok(found) => Ok(found),
            // Whoever read for this one failed, or has gone away.
            Err(_) => self.read_alone(readers, values).await,
        }
    }

    async fn read_alone(
        &self,
        readers: &Shelf<Sqlite>,
        values: Vec<Value>,
    ) -> Result<Option<SqliteRow>, Error> {
        let mut connection = readers.take().await?;
        let mut rows =
            fetch_each_row(&mut connection, self.sql, &[values]).await.map_err(StoreError::Sql)?;
        connection.lay_back();
        Ok(rows.pop().flatten())
    }

    /// Those who come next, as many as one round trip takes.
    fn next(&self) -> (Vec<Vec<Value>>, Vec<oneshot::Sender<Option<SqliteRow>>>) {
        let mut waiting = self.lock();
        waiting.retain(|one| !one.answer.is_closed());
        // Of other lengths, statements would take several round trips.
        let count = waiting.len().checked_ilog2().map_or(0, |log| (1 << log).min(MOST));
        waiting.drain(..count).map(|one| (one.values, one.answer)).unzip()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads of one round trip. So few that several connections have work where many requests wait.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use futures_util::future::{join_all, poll_immediate};
    use sqlx::{Row as _, sqlite::SqlitePoolOptions};

    use super::*;

    const FIND: &str = "SELECT square FROM numbers WHERE number = $1";

    /// One connection, to numbers below 50 and their squares.
    async fn numbers() -> (Shelf<Sqlite>, JoinedReads) {
        let options = SqlitePoolOptions::new().max_connections(1);
        let shelf = Shelf::new(options.connect_lazy("sqlite::memory:").unwrap());
        let mut connection = shelf.take().await.unwrap();
        let sql = "CREATE TABLE numbers (number INTEGER, square INTEGER)";
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
        for number in 0_i64..50 {
            let sql = "INSERT INTO numbers VALUES ($1, $1 * $1)";
            sqlx::query(sql).bind(number).execute(&mut *connection).await.unwrap();
        }
        connection.lay_back();
        (shelf, JoinedReads::new(FIND))
    }

    async fn square(shelf: &Shelf<Sqlite>, reads: &JoinedReads, number: i64) -> Option<i64> {
        let row = reads.read(shelf, vec![number.into()]).await.unwrap();
        row.map(|row| row.get(0))
    }

    fn expected(number: i64) -> Option<i64> {
        (number < 50).then_some(number * number)
    }

    #[tokio::test]
    async fn each_of_many_finds_its_own_row() {
        let (shelf, reads) = numbers().await;
        let found = join_all((0..100).map(|number| square(&shelf, &reads, number))).await;
        assert_eq!(found, (0..100).map(expected).collect::<Vec<_>>());
        assert!(reads.lock().is_empty());
    }

    #[tokio::test]
    async fn those_who_wait_share_a_round_trip_and_those_who_are_gone_do_not() {
        let (shelf, reads) = numbers().await;
        let held = shelf.take().await.unwrap();
        let mut waiting: Vec<_> =
            (0..13).map(|number| Box::pin(square(&shelf, &reads, number))).collect();
        for _ in 0..2 {
            for one in &mut waiting {
                assert_eq!(poll_immediate(one).await, None);
            }
            tokio::task::yield_now().await;
        }
        drop(waiting.remove(0));
        // As one reads who then goes away: those for whom it read read for themselves.
        let (asked, answers) = reads.next();
        assert_eq!((asked.len(), asked.len()), (MOST, answers.len()));
        assert!(matches!(asked[0][..], [Value::Integer(Some(1))]));
        drop(answers);
        assert_eq!(reads.lock().len(), 12 - MOST);
        held.lay_back();
        let found = join_all(waiting).await;
        assert_eq!(found, (1..13).map(expected).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_fails_fails_for_each() {
        let (shelf, reads) = numbers().await;
        let mut connection = shelf.take().await.unwrap();
        sqlx::query("DROP TABLE numbers").execute(&mut *connection).await.unwrap();
        connection.lay_back();
        let found = join_all((0..4).map(|number| reads.read(&shelf, vec![number.into()]))).await;
        assert!(
            found.iter().all(|one| matches!(one, Err(Error::Unavailable(_) | Error::Internal(_))))
        );
    }
}
