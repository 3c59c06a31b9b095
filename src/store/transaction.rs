//! Units of work.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::BoxFuture;
use sqlx::Postgres;

use super::{
    Connection, KeyId, Store, StoreError,
    engine::{DEAD_CONNECTION_TRIES, Engine, in_time},
    pipeline::Deferred,
    row_cache::SecretKey,
    secret_rows::SnapshotRow,
    shelf::Shelf,
};
use crate::domain::Error;

/// A transaction that a unit of work runs in.
pub(super) struct Tx<'c> {
    pub(super) connection: Connection<'c>,
    /// Set by a unit before its first write: if it then fails, its writes must be undone.
    pub(super) wrote: bool,
    /// Set by a unit that destroys data, which must then also leave the engine's files.
    pub(super) destroyed: bool,
    /// Set by a unit that destroys data because somebody deleted it.
    pub(super) deleted: bool,
    /// Set by a unit that has surely changed a page of the file, or has deferred what changes one or fails. A commit
    /// that changes none leaves no trace, so the next one of another process would be taken for it. A row that is
    /// written as it is may change none.
    pub(super) surely_changed: bool,
    /// Set by a unit that is about no secret and changes nothing that is [kept in memory](super::row_cache). Of the
    /// present unit alone.
    pub(super) spares_kept_rows: bool,
    /// On SQLite, what is still to be written of the units so far. None of it is of a secret that the present
    /// unit is about, and all of it is written before a unit runs that is about no secret alone.
    pub(super) deferred: Deferred,
    /// On SQLite, what units to come will find where they read the secret that they are about.
    pub(super) found: HashMap<SecretKey, Option<SnapshotRow>>,
}

/// The secret that a unit of work is about: it changes nothing else, and reads no other secret.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) secret: SecretKey,
    /// With what key it reads a snapshot, where it does.
    pub(super) key_id: Option<KeyId>,
    /// Whether it finds out by itself that it was done before: then it is run again where a connection ends and
    /// nobody knows whether its commit came to pass.
    pub(super) is_repeatable: bool,
}

/// Work that is done as a whole or not at all.
///
/// It may be run more than once, since another transaction may come first: it does nothing but SQL
/// and pure decisions. On SQLite it holds the only writer while it runs.
pub(super) type UnitOfWork<T> =
    Arc<dyn for<'a, 'c> Fn(&'a mut Tx<'c>) -> BoxFuture<'a, Result<T, StoreError>> + Send + Sync>;

impl<'c> Tx<'c> {
    pub(super) fn new(connection: Connection<'c>) -> Self {
        Self {
            connection,
            wrote: false,
            destroyed: false,
            deleted: false,
            surely_changed: false,
            spares_kept_rows: false,
            deferred: Deferred::default(),
            found: HashMap::new(),
        }
    }

    /// Writes what is still to be written.
    pub(super) async fn settle(&mut self) -> Result<(), sqlx::Error> {
        match &mut self.connection {
            Connection::Sqlite(connection) => self.deferred.run(connection).await,
            Connection::Postgres(_) => Ok(()),
        }
    }
}

/// Runs a statement: at once on PostgreSQL, and on SQLite with those of other units, before anything may depend
/// on it. Of one unit, such statements may run in another order, and it does not see what they do. One that
/// [must](crate::store::pipeline::Must) change a row and does not fails. `Result<(), sqlx::Error>`.
macro_rules! defer {
    ($tx:expr, $must:ident, $sql:expr $(, $bind:expr)* $(,)?) => {{
        let must = $crate::store::pipeline::Must::$must;
        match &mut $tx.connection {
            $crate::store::Connection::Sqlite(_) => {
                let values = vec![$($crate::store::pipeline::Value::from($bind)),*];
                $tx.deferred.add($sql, must, values);
                Ok(())
            }
            connection => {
                let rows = $crate::store::connection::execute!(connection, $sql $(, $bind)*);
                rows.and_then(|rows| match (must, rows) {
                    ($crate::store::pipeline::Must::Change, 0) => Err(sqlx::Error::RowNotFound),
                    _ => Ok(()),
                })
            }
        }
    }};
}

pub(super) use defer;

impl Store {
    /// Runs a unit of work; when this returns `Ok`, its writes are on the disk.
    pub(super) async fn write<T, F>(&self, unit: F) -> Result<T, Error>
    where
        F: for<'a, 'c> Fn(&'a mut Tx<'c>) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + Sync
            + 'static,
        T: Send + 'static,
    {
        Box::pin(in_time(self.write_untimed(None, unit))).await
    }

    /// Runs a unit of work that is about one secret.
    pub(super) async fn write_about<T, F>(&self, about: About, unit: F) -> Result<T, Error>
    where
        F: for<'a, 'c> Fn(&'a mut Tx<'c>) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + Sync
            + 'static,
        T: Send + 'static,
    {
        Box::pin(in_time(self.write_untimed(Some(about), unit))).await
    }

    async fn write_untimed<T, F>(&self, about: Option<About>, unit: F) -> Result<T, Error>
    where
        F: for<'a, 'c> Fn(&'a mut Tx<'c>) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + Sync
            + 'static,
        T: Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite { writer, .. } => writer.run(about, Arc::new(unit)).await,
            Engine::Postgres(connections) => {
                // In a task of its own: a caller that goes away must not leave a transaction half
                // begun on a connection that others will use.
                let is_repeatable = about.is_some_and(|about| about.is_repeatable);
                let work =
                    tokio::spawn(write_in_postgres(connections.clone(), is_repeatable, unit));
                let ended = |_| Error::Internal("a unit of work panicked".into());
                work.await.map_err(ended)?
            }
        }
    }
}

async fn write_in_postgres<T, F>(
    connections: Shelf<Postgres>,
    is_repeatable: bool,
    unit: F,
) -> Result<T, Error>
where
    F: for<'a, 'c> Fn(&'a mut Tx<'c>) -> BoxFuture<'a, Result<T, StoreError>> + Send + Sync,
{
    let mut conflicts_left = CONFLICT_TRIES;
    let mut dead_left = DEAD_CONNECTION_TRIES;
    loop {
        let mut connection = connections.take().await?;
        let failure = match run_in_postgres(&mut connection, &unit).await {
            Ok(done) => {
                connection.lay_back();
                return Ok(done);
            }
            Err(failure) => failure,
        };
        let is_open = matches!(failure, Failure::Uncommitted(_));
        let (Failure::Undone(error) | Failure::Uncommitted(error)) = failure;
        if error.is_disconnect() || is_open {
            // Whatever comes next, it is on another connection.
            connection.discard();
        }
        if error.is_disconnect() {
            if dead_left == 0 || (is_open && !is_repeatable) {
                return Err(error.into());
            }
            dead_left -= 1;
        } else if error.is_conflict() {
            if conflicts_left == 0 {
                return Err(StoreError::Overtaken.into());
            }
            conflicts_left -= 1;
        } else {
            return Err(error.into());
        }
    }
}

/// Why a transaction did not happen, or may not have.
enum Failure {
    /// It had no effect: its commit was never asked for, or refused.
    Undone(StoreError),
    /// Its commit was asked for, and not confirmed.
    Uncommitted(StoreError),
}

async fn run_in_postgres<T, F>(connection: &mut sqlx::PgConnection, unit: &F) -> Result<T, Failure>
where
    F: for<'a, 'c> Fn(&'a mut Tx<'c>) -> BoxFuture<'a, Result<T, StoreError>> + Send + Sync,
{
    use sqlx::Connection as _;

    let begun = connection.begin().await;
    let mut transaction = begun.map_err(|error| Failure::Undone(error.into()))?;
    let mut tx = Tx::new(Connection::Postgres(&mut transaction));
    let done = match unit(&mut tx).await {
        Ok(done) => done,
        Err(error) => {
            // Now, not when the connection is next used: somebody may wait for its locks. Where there is no
            // connection any more, the server does it.
            if !error.is_disconnect() {
                let _ = transaction.rollback().await;
            }
            return Err(Failure::Undone(error));
        }
    };
    transaction.commit().await.map_err(|error| Failure::Uncommitted(error.into()))?;
    Ok(done)
}

/// How often a unit is run again because another transaction came first. Each time means that another
/// writer got on, so the limit is only reached by one who is overtaken by a hundred others.
const CONFLICT_TRIES: u32 = 100;
