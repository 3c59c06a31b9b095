//! Transactions that take as long as they take: the whole store is copied in one.

use sqlx::{
    Pool, Postgres, Sqlite, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::SqlitePoolOptions,
};

use super::{
    Connection, DatabaseUrl, StoreError,
    connection::execute,
    engine::{
        Engine, Kind, assert_durable, assert_synchronous, postgres_options, refuse_standby,
        sqlite_options,
    },
    migrations::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, migration_error, migrations},
    sqlite_file,
};
use crate::domain::Error;

/// A transaction that takes as long as it takes, on a connection of its own: the whole store is copied in it.
pub(super) enum LongTransaction {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl LongTransaction {
    /// A transaction that reads the store as it is at its beginning, whatever others write meanwhile.
    pub(super) async fn read(engine: &Engine) -> Result<Self, StoreError> {
        match engine {
            Engine::Sqlite { readers, .. } => {
                let pool = SqlitePoolOptions::new().max_connections(1);
                let options = (*readers.connect_options()).clone().row_buffer_size(ROWS_AHEAD);
                let pool = pool.connect_with(options).await?;
                Ok(Self::Sqlite(pool.begin().await?))
            }
            Engine::Postgres(connections) => {
                let options = (*connections.connect_options()).clone();
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                Ok(Self::Postgres(unhurried(options).await?.begin_with(begin).await?))
            }
        }
    }

    /// A transaction that writes, whatever the schema of the database is. A SQLite file is made where it is not
    /// there.
    pub(super) async fn write(url: &DatabaseUrl) -> Result<Self, Error> {
        match &url.0 {
            Kind::Sqlite(path) => {
                let unavailable = |error| sqlite_file::unavailable(path, &error);
                sqlite_file::create_private(path).map_err(unavailable)?;
                let pool = SqlitePoolOptions::new().max_connections(1);
                let pool = pool.connect_with(sqlite_options(path)).await;
                let pool = pool.map_err(StoreError::Sql)?;
                let mut connection = pool.acquire().await.map_err(StoreError::Sql)?;
                assert_durable(&mut connection).await?;
                drop(connection);
                let begun = pool.begin_with("BEGIN IMMEDIATE").await;
                Ok(Self::Sqlite(begun.map_err(StoreError::Sql)?))
            }
            Kind::Postgres(options) => {
                let pool = unhurried(postgres_options(options)).await.map_err(StoreError::Sql)?;
                let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
                let mut begun = pool.begin_with(begin).await.map_err(StoreError::Sql)?;
                assert_synchronous(&mut Connection::Postgres(&mut begun)).await?;
                Ok(Self::Postgres(begun))
            }
        }
    }

    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }

    /// Brings the schema up to a version, or to the newest.
    pub(super) async fn migrate(&mut self, version: Option<i64>) -> Result<(), Error> {
        let migrated = match self {
            Self::Sqlite(transaction) => {
                migrations(&SQLITE_MIGRATIONS).run_direct(version, &mut **transaction, false).await
            }
            Self::Postgres(transaction) => {
                migrations(&POSTGRES_MIGRATIONS)
                    .run_direct(version, &mut **transaction, false)
                    .await
            }
        };
        migrated.map_err(migration_error)
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await?,
            Self::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }

    pub(super) async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await?,
            Self::Postgres(transaction) => transaction.rollback().await?,
        }
        Ok(())
    }
}

/// One connection to PostgreSQL, which ends no statement and no transaction because it takes long.
async fn unhurried(options: PgConnectOptions) -> Result<Pool<Postgres>, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).after_connect(|connection, _| {
        Box::pin(async move {
            // Those that there are: PostgreSQL has the last one from version 17.
            let sql = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
                       ('statement_timeout', 'idle_in_transaction_session_timeout', \
                       'transaction_timeout')";
            execute!(&mut Connection::Postgres(connection), sql)?;
            Ok(())
        })
    });
    let pool = pool.connect_with(options).await?;
    // Not above: the pool would try again for half a minute, and not tell why.
    refuse_standby(&mut Connection::Postgres(&mut *pool.acquire().await?)).await?;
    Ok(pool)
}

/// Rows that SQLite reads before they are asked for: each may hold the data of a version, so they are what a copy has
/// in memory.
const ROWS_AHEAD: usize = 50;
