//! Another program that keeps everybody from writing secrets.

use sqlx::{Connection, Executor, PgConnection, SqliteConnection};

use crate::support::{Engine, Server};

/// Keeps writers of secrets waiting until it is released.
pub(crate) enum WriteLock {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl WriteLock {
    pub(crate) async fn take(server: &Server) -> Self {
        match server.engine {
            Engine::Sqlite => {
                let mut connection = server.database.sqlite().await;
                connection.execute("BEGIN IMMEDIATE").await.expect("a lock");
                Self::Sqlite(connection)
            }
            Engine::Postgres => {
                let mut connection = server.database.postgres().await;
                let lock = "BEGIN; LOCK TABLE secrets IN EXCLUSIVE MODE";
                connection.execute(lock).await.expect("a lock");
                Self::Postgres(connection)
            }
        }
    }

    pub(crate) async fn release(self) {
        match self {
            Self::Sqlite(connection) => connection.close().await.expect("to close"),
            Self::Postgres(connection) => connection.close().await.expect("to close"),
        }
    }
}
