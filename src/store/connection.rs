//! Running one statement on either engine.

use sqlx::{PgConnection, SqliteConnection};

/// A connection to one of the engines.
pub(super) enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// Runs a query and gives its first row, if there is one: `Result<Option<row type>, sqlx::Error>`.
macro_rules! fetch_optional {
    ($connection:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::store::connection::on_engine!(
            $connection, connection,
            sqlx::query_as::<_, $row>($sql) $(.bind($bind))*
                .fetch_optional(&mut **connection).await
        )
    };
}

/// Runs a query and gives its rows: `Result<Vec<row type>, sqlx::Error>`.
macro_rules! fetch_all {
    ($connection:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::store::connection::on_engine!(
            $connection, connection,
            sqlx::query_as::<_, $row>($sql) $(.bind($bind))*
                .fetch_all(&mut **connection).await
        )
    };
}

/// Runs a query and gives its rows, each read for itself, so that one that cannot be read does not hide
/// the others: `Result<Vec<Result<row type, sqlx::Error>>, sqlx::Error>`.
macro_rules! fetch_each {
    ($connection:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::store::connection::on_engine!(
            $connection, connection,
            sqlx::query($sql) $(.bind($bind))*
                .fetch_all(&mut **connection).await.map(|rows| {
                    rows.iter().map(<$row as sqlx::FromRow<_>>::from_row).collect::<Vec<_>>()
                })
        )
    };
}

/// Runs a statement and gives the number of rows it touched: `Result<u64, sqlx::Error>`.
macro_rules! execute {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::store::connection::on_engine!(
            $connection, connection,
            sqlx::query($sql) $(.bind($bind))*
                .execute(&mut **connection).await.map(|done| done.rows_affected())
        )
    };
}

/// The same expression for whichever engine the connection belongs to.
macro_rules! on_engine {
    ($connection:expr, $name:ident, $body:expr) => {
        match $connection {
            $crate::store::connection::Connection::Sqlite($name) => $body,
            $crate::store::connection::Connection::Postgres($name) => $body,
        }
    };
}

pub(super) use {execute, fetch_all, fetch_each, fetch_optional, on_engine};
