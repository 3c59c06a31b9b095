//! On SQLite: a database of an older schema is copied before it is brought up to date.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sqlx::{SqliteConnection, migrate::Migrator};

use super::{
    Connection, StoreError,
    connection::{execute, fetch_optional},
    migrations::migration_error,
    sqlite_file::{folder_of, unavailable},
};
use crate::domain::Error;

/// Brings the schema of the database at `path` up to date. Where that changes one that is there, a copy is made
/// first, `PATH.schema-VERSION.bak`, which stays; where it cannot be made, nothing is changed.
///
/// A start that is killed on the way is tried again and again by its service manager, so there is one name for each
/// schema, and the newest copy takes the place of the one before: it is of the same schema, and not older.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    migrator: &Migrator,
) -> Result<(), Error> {
    // Until all is done.
    let mut lock = None;
    if is_older(schema_version(connection).await?, migrator) {
        let path = path.canonicalize().map_err(|error| unavailable(path, &error))?;
        lock = Some(lock_folder(&path).map_err(|error| unavailable(&path, &error))?);
        // Another process may have done it meanwhile.
        let version = schema_version(connection).await?;
        if is_older(version, migrator) {
            let copy = copy_name(&path, version);
            make_copy(connection, &copy).await.map_err(|error| {
                Error::Unavailable(format!(
                    "its schema is to be brought up to date, for which a copy is made first, and nothing was \
                     changed: cannot make {}: {error}",
                    copy.display()
                ))
            })?;
            tracing::info!(
                schema.version = version,
                copy = %copy.display(),
                "the database was copied before its schema is brought up to date"
            );
        }
    }
    let migrated = migrator.run(&mut *connection).await.map_err(migration_error);
    drop(lock);
    migrated
}

/// Whether there is nothing of a store in the database.
pub(super) async fn has_no_schema(connection: &mut SqliteConnection) -> Result<bool, Error> {
    Ok(schema_version(connection).await? == NO_SCHEMA)
}

/// Whether there is a schema which lacks something.
fn is_older(version: i64, migrator: &Migrator) -> bool {
    let newest = migrator.iter().map(|migration| migration.version).max();
    version != NO_SCHEMA && Some(version) < newest
}

async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, Error> {
    let mut connection = Connection::Sqlite(connection);
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";
    let table = fetch_optional!(&mut connection, (String,), sql).map_err(StoreError::Sql)?;
    if table.is_none() {
        return Ok(NO_SCHEMA);
    }
    let sql = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
    let version = fetch_optional!(&mut connection, (i64,), sql).map_err(StoreError::Sql)?;
    Ok(version.map_or(NO_SCHEMA, |(version,)| version))
}

/// The lock is on the folder itself: it leaves no file behind, and no descriptor of the database is closed, which
/// would take SQLite's locks away.
fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(folder_of(path))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(io::Error::other(
            "another okmsd is bringing its schema up to date; try again when that is done",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn copy_name(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{version}.bak"));
    name.into()
}

/// After a crash the copy is there as a whole or not at all.
async fn make_copy(connection: &mut SqliteConnection, copy: &Path) -> Result<(), String> {
    let mut unfinished = copy.with_file_name("");
    // One name for all: what a crash leaves behind is in nobody's way and does not add up.
    unfinished.push(UNFINISHED);
    let made = write_copy(connection, &unfinished, copy).await;
    if made.is_err() {
        let _room = fs::remove_file(&unfinished);
    }
    made
}

async fn write_copy(
    connection: &mut SqliteConnection,
    unfinished: &Path,
    copy: &Path,
) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    match fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    // Private from its first moment; SQLite takes an empty file.
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(unfinished).map_err(text)?;
    let name = unfinished.to_str().ok_or("its name is not UTF-8")?;
    // As of one moment, whatever others write meanwhile.
    execute!(&mut Connection::Sqlite(connection), "VACUUM INTO $1", name)
        .map_err(|error| error.to_string())?;
    file.sync_all().map_err(text)?;
    fs::rename(unfinished, copy).map_err(text)?;
    File::open(folder_of(copy)).and_then(|folder| folder.sync_all()).map_err(text)
}

/// Of a new database.
const NO_SCHEMA: i64 = 0;
/// The copy until it is whole and on the disk.
const UNFINISHED: &str = ".okmsd-copy.new";
