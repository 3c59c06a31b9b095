//! The whole store as it is at one moment, row by row.
//!
//! On SQLite this is a read transaction, which holds nobody up; what others commit meanwhile stays in the log
//! beside the file until it ends. On PostgreSQL it is one of repeatable reads.

use futures_util::TryStreamExt;
use sqlx::AssertSqlSafe;

use super::{
    Store, StoreError,
    connection::{fetch_optional, on_engine},
    long_transaction::LongTransaction,
    tables::{CopiedValue, TABLES, TableColumn, columns, schema_version, values},
};
use crate::{crypto::StoreKeyId, domain::Error};

/// The store at one moment.
pub struct Snapshot {
    transaction: LongTransaction,
    schema: i64,
}

/// A piece of a copy of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// The rows of a table follow.
    Table {
        /// The table.
        name: String,
        /// Its columns.
        columns: Vec<String>,
    },
    /// The values of a row, in the order of the columns.
    Row(Vec<CopiedValue>),
}

impl Store {
    /// The store as it is now.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        Snapshot::begin(LongTransaction::read(&self.engine).await?).await
    }
}

impl Snapshot {
    async fn begin(mut transaction: LongTransaction) -> Result<Self, Error> {
        // The first read, which on both engines is the moment.
        let schema = schema_version(&mut transaction.connection()).await?;
        let schema = schema.ok_or_else(|| Error::Internal("the store has no schema".into()))?;
        Ok(Self { transaction, schema })
    }

    /// The version of its schema.
    pub const fn schema(&self) -> i64 {
        self.schema
    }

    /// The store key that it had.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn store_key_id(&mut self) -> Result<StoreKeyId, Error> {
        let sql = "SELECT store_key_id FROM store_keys";
        let row = fetch_optional!(&mut self.transaction.connection(), (String,), sql);
        let row = row.map_err(StoreError::Sql)?;
        row.map(|(id,)| StoreKeyId::from_stored(id))
            .ok_or_else(|| Error::Internal("the store has no store key".into()))
    }

    /// Gives all that is in it to `take`: each table, and its rows.
    ///
    /// # Errors
    ///
    /// What `take` fails with; or when storage fails.
    pub async fn read(
        &mut self,
        take: &mut impl AsyncFnMut(Copied) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for table in TABLES {
            let columns = columns(&mut self.transaction.connection(), table).await?;
            if columns.is_empty() {
                continue;
            }
            let names = columns.iter().map(|column| column.name.clone()).collect();
            take(Copied::Table { name: table.to_owned(), columns: names }).await?;
            self.read_table(table, &columns, take).await?;
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.transaction.roll_back().await?)
    }

    async fn read_table(
        &mut self,
        table: &str,
        columns: &[TableColumn],
        take: &mut impl AsyncFnMut(Copied) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        let sql = format!("SELECT {} FROM {table}", names.join(", "));
        let unreadable = |error: sqlx::Error| {
            let error = Error::from(StoreError::Sql(error));
            match error {
                Error::Internal(text) => Error::Internal(format!("table {table}: {text}")),
                error => error,
            }
        };
        on_engine!(self.transaction.connection(), connection, {
            // As they come: neither engine keeps what is not asked for yet in memory here.
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *connection);
            while let Some(row) = rows.try_next().await.map_err(unreadable)? {
                let row = values(&row, columns).map_err(unreadable)?;
                take(Copied::Row(row)).await?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        crypto::{RootKey, StoreKey},
        domain::Timestamp,
        store::{
            Connection, DatabaseUrl, Restoration, WrappedStoreKey,
            connection::{execute, fetch_all},
            tables::LEFT_OUT,
        },
    };

    async fn tables(transaction: &mut LongTransaction) -> BTreeSet<String> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_sqlx_migrations' \
                   AND name NOT LIKE 'sqlite%'";
        let rows = fetch_all!(&mut transaction.connection(), (String,), sql).unwrap();
        rows.into_iter().map(|(name,)| name).collect()
    }

    async fn run(connection: &mut Connection<'_>, sql: &'static str) {
        execute!(connection, sql).unwrap();
    }

    /// Whoever adds a table says here whether a backup has it. The schemas of both engines are the same.
    #[tokio::test]
    async fn each_table_is_copied_or_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
        let mut transaction = LongTransaction::write(&url).await.unwrap();
        transaction.migrate(None).await.unwrap();
        let known = TABLES.into_iter().chain(LEFT_OUT).map(str::to_owned).collect();
        assert_eq!(tables(&mut transaction).await, known);
    }

    /// A copy of an older schema, whose tokens named no key, goes into a database of the newest, which is empty, as
    /// well as into one of none.
    #[tokio::test]
    async fn a_copy_of_an_older_schema_is_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let url = |name: &str| DatabaseUrl::sqlite_file(folder.path().join(name));
        let mut old = LongTransaction::write(&url("old")).await.unwrap();
        old.migrate(Some(7)).await.unwrap();
        for sql in [
            "INSERT INTO store_keys VALUES ('s', 1)",
            "INSERT INTO domains VALUES ('d', 'n', 'r', 2, 0, 10, '0s')",
            "INSERT INTO token_keys (id, store_key_id, wrapped_key) VALUES (1, 's', x'00')",
            "INSERT INTO tokens (token_id, okms_id, token_hash, identity_urns, description, created_at, \
             expires_at, mac) VALUES ('t', 'd', x'01', '[]', '', 3, 4, x'02')",
            "UPDATE revisions SET iam = 5, keys = 6",
        ] {
            run(&mut old.connection(), sql).await;
        }
        let mut snapshot = Snapshot::begin(old).await.unwrap();
        assert_eq!((snapshot.schema(), snapshot.store_key_id().await.unwrap().as_str()), (7, "s"));
        let mut pieces = Vec::new();
        let mut take = async |piece| {
            pieces.push(piece);
            Ok(())
        };
        snapshot.read(&mut take).await.unwrap();
        Store::open(&url("empty")).await.unwrap().close().await;
        let (root_key, store_key) = (RootKey::generate().unwrap(), StoreKey::generate().unwrap());
        let wrapped = store_key.wrap(&root_key).unwrap();
        let wrapped = WrappedStoreKey { id: StoreKeyId::from_stored("s".into()), wrapped };
        for name in ["new", "empty"] {
            let url = url(name);
            let mut restoration = Restoration::begin(&url, 7).await.unwrap();
            for piece in &pieces {
                restoration.take(piece.clone()).await.unwrap();
            }
            let now = Timestamp::from_millis(7);
            restoration.finish(root_key.id(), &wrapped, now).await.unwrap();
            let store = Store::open(&url).await.unwrap();
            let sql = "SELECT t.token_id, t.token_key_id, k.token_key_id, r.iam, r.keys, d.created_at \
                       FROM tokens t, token_keys k, revisions r, domains d";
            let rows = store.read(|connection| {
                Box::pin(async move {
                    fetch_all!(connection, (String, String, String, i64, i64, i64), sql)
                })
            });
            let text = |text: &str| text.to_owned();
            let expected = (text("t"), text("first"), text("first"), 5, 6, 2);
            assert_eq!(rows.await.unwrap(), [expected], "{name}");
            assert_eq!(store.list_root_keys().await.unwrap()[0].store_key, Some(wrapped.clone()));
            store.close().await;
            let full = Restoration::begin(&url, 7).await.err();
            let text = format!("{full:?}");
            assert!(text.contains("not empty, its table root_keys has rows"), "{text}");
        }
    }

    /// Somebody has to find it.
    #[tokio::test]
    async fn a_row_that_is_no_text_is_named() {
        for (rows, told) in [
            (
                "INSERT INTO policies VALUES ('a', 'x', 0, 0), ('b', CAST(x'ff' AS TEXT), 0, 0)",
                "table policies: error occurred while decoding: row name=\"b\", column document: ",
            ),
            (
                "INSERT INTO group_members VALUES ('g', CAST(x'66ff' AS TEXT), 0)",
                "table group_members: error occurred while decoding: row group_urn=\"g\" \
                 member_urn=\"f\u{fffd}\", column member_urn: ",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let url = DatabaseUrl::sqlite_file(folder.path().join("x"));
            let mut transaction = LongTransaction::write(&url).await.unwrap();
            transaction.migrate(None).await.unwrap();
            run(&mut transaction.connection(), rows).await;
            let mut snapshot = Snapshot::begin(transaction).await.unwrap();
            let refused = snapshot.read(&mut async |_| Ok(())).await.unwrap_err();
            let text = format!("{refused:?}");
            assert!(text.contains(told), "{text}");
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x"));
        let newer = DatabaseUrl::sqlite_file(folder.path().join("newer"));
        let mut transaction = LongTransaction::write(&newer).await.unwrap();
        transaction.migrate(None).await.unwrap();
        let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                   VALUES (1000, 'x', TRUE, x'', 0)";
        run(&mut transaction.connection(), sql).await;
        transaction.commit().await.map_err(Error::from).unwrap();
        let refused = Restoration::begin(&newer, 8).await.err();
        assert!(matches!(refused, Some(Error::Unavailable(_))), "{refused:?}");
        for schema in [0, 3, 1_000] {
            let refused = Restoration::begin(&url, schema).await.err();
            assert!(matches!(refused, Some(Error::Malformed(_))), "{schema}: {refused:?}");
        }
        let table = |name: &str, columns: &[&str]| Copied::Table {
            name: name.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        };
        let sound = || table("store_keys", &["created_at", "store_key_id"]);
        let row = |values: Vec<CopiedValue>| Copied::Row(values);
        let (number, text) = (CopiedValue::Number(1), CopiedValue::Text("x".to_owned()));
        for pieces in [
            vec![table("root_keys", &["slot"])],
            vec![table("store_keys; DROP TABLE domains", &["created_at", "store_key_id"])],
            vec![table("store_keys", &["created_at"])],
            vec![table("store_keys", &["created_at", "created_at"])],
            vec![table("store_keys", &["created_at", "store_key_id", "x"])],
            vec![row(vec![number.clone(), text.clone()])],
            vec![sound(), row(vec![text.clone(), number.clone()])],
            vec![sound(), row(vec![number.clone()])],
            vec![sound(), sound()],
        ] {
            let mut restoration = Restoration::begin(&url, 8).await.unwrap();
            let mut taken = Ok(());
            for piece in pieces.clone() {
                taken = taken.and(restoration.take(piece).await);
            }
            assert!(matches!(taken, Err(Error::Malformed(_))), "{pieces:?}: {taken:?}");
            restoration.abandon().await;
        }
    }
}
