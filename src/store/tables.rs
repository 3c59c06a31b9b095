//! Tables, columns and values, whatever they are about: what a copy of the whole store is made of.
//!
//! Columns are text, 64-bit integers and bytes only, on both engines, so a row of one is a row of the other.

use sqlx::Row;

use super::{
    Connection, StoreError,
    connection::{fetch_all, fetch_optional},
};
use crate::domain::Error;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopiedValue {
    /// NULL.
    Absent,
    /// A number, a time or a flag.
    Number(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
    /// Whether it is a part of the primary key. Not told of PostgreSQL, whose text is always text.
    pub(super) is_key: bool,
}

/// What a column holds, where it is not NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Number,
    Text,
    Bytes,
}

/// The tables that a copy of the store holds; what a row refers to comes before it.
pub(super) const TABLES: [&str; 12] = [
    "store_keys",
    "domains",
    "domain_keys",
    "credentials",
    "token_keys",
    "tokens",
    "secrets",
    "secret_versions",
    "idempotency_keys",
    "policies",
    "group_members",
    "revisions",
];

/// The tables that it does not hold: each store has root keys of its own, and counts its secrets by itself.
pub(super) const LEFT_OUT: [&str; 2] = ["root_keys", "secret_counts"];

/// The table of which a new store has a row.
pub(super) const SEEDED: &str = "revisions";

/// The columns of a table; none where there is no such table.
pub(super) async fn columns(
    connection: &mut Connection<'_>,
    table: &str,
) -> Result<Vec<TableColumn>, StoreError> {
    let sql = match connection {
        Connection::Sqlite(_) => {
            "SELECT name, lower(type), pk FROM pragma_table_info($1) ORDER BY cid"
        }
        Connection::Postgres(_) => {
            "SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT), CAST(0 AS BIGINT) \
             FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position"
        }
    };
    let rows = fetch_all!(connection, (String, String, i64), sql, table)?;
    let column = |(name, kind, key): (String, String, i64)| {
        let kind = match kind.as_str() {
            "integer" | "bigint" => ColumnKind::Number,
            "text" => ColumnKind::Text,
            "blob" | "bytea" => ColumnKind::Bytes,
            other => {
                let text = format!("column {table}.{name} is of type {other}");
                return Err(Error::Internal(text).into());
            }
        };
        Ok(TableColumn { name, kind, is_key: key > 0 })
    };
    rows.into_iter().map(column).collect()
}

/// The version of the schema; nothing where there is none.
pub(super) async fn schema_version(
    connection: &mut Connection<'_>,
) -> Result<Option<i64>, StoreError> {
    let sql = match connection {
        Connection::Sqlite(_) => {
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'"
        }
        Connection::Postgres(_) => {
            "SELECT CAST(table_name AS TEXT) FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'"
        }
    };
    if fetch_optional!(&mut *connection, (String,), sql)?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT MAX(version) FROM _sqlx_migrations";
    let row = fetch_optional!(connection, (Option<i64>,), sql)?;
    Ok(row.and_then(|(version,)| version))
}

/// The values of a row of these columns. Where one cannot be read, the error names the row.
pub(super) fn values<'r, R: Row>(
    row: &'r R,
    columns: &[TableColumn],
) -> Result<Vec<CopiedValue>, sqlx::Error>
where
    usize: sqlx::ColumnIndex<R>,
    Option<i64>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<Vec<u8>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let value = |(at, column): (usize, &TableColumn)| {
        let value = match column.kind {
            ColumnKind::Number => row.try_get::<Option<i64>, _>(at)?.map(CopiedValue::Number),
            ColumnKind::Text => row.try_get::<Option<String>, _>(at)?.map(CopiedValue::Text),
            ColumnKind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at)?.map(CopiedValue::Bytes),
        };
        Ok(value.unwrap_or(CopiedValue::Absent))
    };
    let named = |(at, column): (usize, &TableColumn)| {
        let value = value((at, column));
        value.map_err(|error: sqlx::Error| {
            let key = columns.iter().enumerate().filter(|(_, column)| column.is_key);
            let key: Vec<_> = key.map(|(at, column)| part_of_key(row, at, column)).collect();
            let text = format!("row {}, column {}: {error}", key.join(" "), column.name);
            sqlx::Error::Decode(text.into())
        })
    };
    columns.iter().enumerate().map(named).collect()
}

/// What names a row, also where that is no text.
fn part_of_key<'r, R: Row>(row: &'r R, at: usize, column: &TableColumn) -> String
where
    usize: sqlx::ColumnIndex<R>,
    Option<i64>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<Vec<u8>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let number = || row.try_get::<Option<i64>, _>(at).ok().flatten();
    let bytes = || row.try_get::<Option<Vec<u8>>, _>(at).ok().flatten().unwrap_or_default();
    let value = match column.kind {
        ColumnKind::Number => number().map_or_else(String::new, |number| number.to_string()),
        // On SQLite, the bytes of a text.
        ColumnKind::Text => format!("{:?}", String::from_utf8_lossy(&bytes())),
        ColumnKind::Bytes => bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    format!("{}={value}", column.name)
}
