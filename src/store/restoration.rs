//! Putting a copy of the whole store into a database that holds nothing, in one transaction.
//!
//! A copy of an older schema goes into that schema, which is then brought up to date as any store. Until the
//! end, nobody sees anything of it; where it is cut off, the database is what it was.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, QueryBuilder};

use super::{
    Copied, CopiedValue, DatabaseUrl, StoreError, WrappedStoreKey,
    connection::{Connection, execute, fetch_all, fetch_optional, on_engine},
    long_transaction::LongTransaction,
    migrations::SQLITE_MIGRATIONS,
    root_keys::insert_first_slot,
    secret_counts::count_all,
    tables::{ColumnKind, LEFT_OUT, SEEDED, TABLES, TableColumn, columns, schema_version},
};
use crate::{
    crypto::RootKeyId,
    domain::{Error, Timestamp},
};

/// A store that is being put together.
pub struct Restoration {
    transaction: LongTransaction,
    table: Option<Table>,
    /// Those that came already.
    done: Vec<String>,
}

/// The table whose rows come.
struct Table {
    name: String,
    columns: Vec<TableColumn>,
    /// Rows that are not in the database yet.
    rows: Vec<Vec<CopiedValue>>,
    bytes: usize,
}

impl Restoration {
    /// Begins with a copy of that schema.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the schema is newer than this program, or older than what can be copied;
    /// [`Error::Unavailable`] where the database holds anything but an empty schema; or when storage fails.
    pub async fn begin(url: &DatabaseUrl, schema: i64) -> Result<Self, Error> {
        let newest = SQLITE_MIGRATIONS.iter().map(|(version, ..)| *version).max();
        if newest < Some(schema) {
            return Err(Error::Malformed(format!(
                "the backup has schema version {schema}, which is newer than this program: use the program that \
                 made it, or a later one"
            )));
        }
        if schema < OLDEST_SCHEMA {
            let text = format!("the backup has schema version {schema}, of which there are none");
            return Err(Error::Malformed(text));
        }
        let mut transaction = LongTransaction::write(url).await?;
        let present = schema_version(&mut transaction.connection()).await?;
        if present > newest {
            return Err(Error::Unavailable(
                "the database has a schema that is newer than this program".into(),
            ));
        }
        check_empty(&mut transaction.connection()).await?;
        if present > Some(schema) {
            drop_tables(&mut transaction.connection()).await?;
        }
        transaction.migrate(Some(schema)).await?;
        for table in TABLES.into_iter().rev() {
            // Migrations may have put a row there.
            let sql = AssertSqlSafe(format!("DELETE FROM {table}"));
            if !columns(&mut transaction.connection(), table).await?.is_empty() {
                execute!(&mut transaction.connection(), sql).map_err(StoreError::Sql)?;
            }
        }
        Ok(Self { transaction, table: None, done: Vec::new() })
    }

    /// Takes the next piece of the copy.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where it does not fit into the schema, or when storage fails.
    pub async fn take(&mut self, piece: Copied) -> Result<(), Error> {
        match piece {
            Copied::Table { name, columns } => self.begin_table(name, &columns).await,
            Copied::Row(row) => self.add_row(row).await,
        }
    }

    /// Ends it: the root key gets the store key, the schema is brought up to date, and all of it is there.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn finish(
        mut self,
        root_key_id: &RootKeyId,
        store_key: &WrappedStoreKey,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.end_table().await?;
        let transaction = &mut self.transaction;
        insert_first_slot(&mut transaction.connection(), root_key_id, store_key, now).await?;
        transaction.migrate(None).await?;
        count_all(&mut transaction.connection()).await.map_err(StoreError::Sql)?;
        set_identities(&mut transaction.connection()).await?;
        Ok(self.transaction.commit().await?)
    }

    /// Gives it up: nothing of it is there.
    pub async fn abandon(self) {
        // Where it cannot be undone now, it is undone when the connection ends.
        if let Err(error) = self.transaction.roll_back().await {
            tracing::debug!(error = ?Error::from(error), "a restore was not rolled back");
        }
    }

    async fn begin_table(&mut self, name: String, names: &[String]) -> Result<(), Error> {
        self.end_table().await?;
        let unfit = || Error::Malformed(format!("the backup has a table {name} that does not fit"));
        if !TABLES.contains(&name.as_str()) || self.done.contains(&name) {
            return Err(unfit());
        }
        let known = columns(&mut self.transaction.connection(), &name).await?;
        // Names of our own schema alone are put into statements.
        let column = |name: &String| known.iter().find(|column| column.name == *name).cloned();
        let columns: Vec<_> = names.iter().filter_map(column).collect();
        let distinct: HashSet<_> = names.iter().collect();
        if [names.len(), columns.len(), distinct.len()] != [known.len(); 3] {
            return Err(unfit());
        }
        self.done.push(name.clone());
        self.table = Some(Table { name, columns, rows: Vec::new(), bytes: 0 });
        Ok(())
    }

    async fn add_row(&mut self, row: Vec<CopiedValue>) -> Result<(), Error> {
        let unfit = || Error::Malformed("the backup has a row that does not fit".into());
        let table = self.table.as_mut().ok_or_else(unfit)?;
        let fits = |(value, column): (&CopiedValue, &TableColumn)| {
            matches!(
                (value, column.kind),
                (CopiedValue::Absent, _)
                    | (CopiedValue::Number(_), ColumnKind::Number)
                    | (CopiedValue::Text(_), ColumnKind::Text)
                    | (CopiedValue::Bytes(_), ColumnKind::Bytes)
            )
        };
        if row.len() != table.columns.len() || !row.iter().zip(&table.columns).all(fits) {
            return Err(unfit());
        }
        table.bytes += row.iter().map(size).sum::<usize>();
        table.rows.push(row);
        if table.rows.len() >= ROWS_AT_A_TIME || table.bytes >= BYTES_AT_A_TIME {
            self.flush().await?;
        }
        Ok(())
    }

    async fn end_table(&mut self) -> Result<(), Error> {
        self.flush().await?;
        self.table = None;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let Some(table) = self.table.as_mut().filter(|table| !table.rows.is_empty()) else {
            return Ok(());
        };
        let rows = std::mem::take(&mut table.rows);
        table.bytes = 0;
        let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let insert = format!("INSERT INTO {} ({}) ", table.name, names.join(", "));
        let kinds: Vec<_> = table.columns.iter().map(|column| column.kind).collect();
        let done = on_engine!(self.transaction.connection(), connection, {
            let mut sql = QueryBuilder::new(insert);
            sql.push_values(rows, |mut places, row| {
                for (value, kind) in row.into_iter().zip(&kinds) {
                    match (value, kind) {
                        (CopiedValue::Number(number), _) => places.push_bind(number),
                        (CopiedValue::Text(text), _) => places.push_bind(text),
                        (CopiedValue::Bytes(bytes), _) => places.push_bind(bytes),
                        // PostgreSQL asks for the type of what is not there, too.
                        (CopiedValue::Absent, ColumnKind::Number) => places.push_bind(None::<i64>),
                        (CopiedValue::Absent, ColumnKind::Text) => places.push_bind(None::<String>),
                        (CopiedValue::Absent, ColumnKind::Bytes) => {
                            places.push_bind(None::<Vec<u8>>)
                        }
                    };
                }
            });
            sql.build().execute(&mut *connection).await.map(drop)
        });
        done.map_err(StoreError::Sql)?;
        Ok(())
    }
}

/// Refuses a database in which anything is, and on PostgreSQL keeps everybody else out of it.
async fn check_empty(connection: &mut Connection<'_>) -> Result<(), StoreError> {
    for table in LEFT_OUT.into_iter().chain(TABLES) {
        if columns(connection, table).await?.is_empty() {
            continue;
        }
        if let Connection::Postgres(_) = connection {
            let sql = AssertSqlSafe(format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
            execute!(&mut *connection, sql)?;
        }
        let sql = AssertSqlSafe(format!("SELECT CAST(1 AS BIGINT) FROM {table} LIMIT 1"));
        if table != SEEDED && fetch_optional!(&mut *connection, (i64,), sql)?.is_some() {
            return Err(Error::Unavailable(format!(
                "the database is not empty, its table {table} has rows: a restore takes a new database, which no \
                 server and no other command has opened yet"
            ))
            .into());
        }
    }
    Ok(())
}

/// Removes an empty schema that is newer than the copy.
async fn drop_tables(connection: &mut Connection<'_>) -> Result<(), StoreError> {
    let order = LEFT_OUT.into_iter().chain(TABLES.into_iter().rev());
    for table in order.chain(["_sqlx_migrations"]) {
        execute!(&mut *connection, AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}")))?;
    }
    Ok(())
}

/// Lets PostgreSQL go on counting where the rows end. SQLite does by itself.
async fn set_identities(connection: &mut Connection<'_>) -> Result<(), StoreError> {
    if let Connection::Sqlite(_) = connection {
        return Ok(());
    }
    let sql = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) \
               FROM information_schema.columns \
               WHERE table_schema = current_schema() AND is_identity = 'YES'";
    for (table, column) in fetch_all!(&mut *connection, (String, String), sql)? {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), MAX({column})) FROM {table}"
        );
        fetch_optional!(&mut *connection, (Option<i64>,), AssertSqlSafe(sql))?;
    }
    Ok(())
}

fn size(value: &CopiedValue) -> usize {
    match value {
        CopiedValue::Absent | CopiedValue::Number(_) => 8,
        CopiedValue::Text(text) => text.len(),
        CopiedValue::Bytes(bytes) => bytes.len(),
    }
}

/// Since then, a store key is all that has to be wrapped anew.
const OLDEST_SCHEMA: i64 = 4;
/// Rows of one statement. Each has at most 14 values, of which SQLite takes 32,766 at once.
const ROWS_AT_A_TIME: usize = 500;
/// Bytes of one statement, so that rows of much data do not add up.
const BYTES_AT_A_TIME: usize = 1024 * 1024;
