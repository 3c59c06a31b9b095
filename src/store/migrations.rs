//! The migrations of both engines: a number, a name, and SQL.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::domain::Error;

pub(super) fn migrations(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = files.iter().map(|(version, name, sql)| {
        let sql = sqlx::SqlSafeStr::into_sql_str(*sql);
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

pub(super) fn migration_error(error: MigrateError) -> Error {
    Error::Unavailable(match error {
        MigrateError::VersionMissing(version) => format!(
            "the database has schema version {version}, which is newer than this program: \
             use the program that made it, or a later one"
        ),
        error => format!("bringing the database schema up to date: {error}"),
    })
}

macro_rules! migration {
    ($engine:literal, $version:literal, $name:literal) => {
        ($version, $name, include_str!(concat!("../../migrations/", $engine, "/", $name, ".sql")))
    };
}

pub(super) const SQLITE_MIGRATIONS: [(i64, &str, &str); 11] = [
    migration!("sqlite", 1, "0001_domains_credentials_secrets"),
    migration!("sqlite", 2, "0002_revisions"),
    migration!("sqlite", 3, "0003_policies"),
    migration!("sqlite", 4, "0004_store_keys"),
    migration!("sqlite", 5, "0005_registered_certificates"),
    migration!("sqlite", 6, "0006_row_authentication"),
    migration!("sqlite", 7, "0007_tokens"),
    migration!("sqlite", 8, "0008_token_key_ids"),
    migration!("sqlite", 9, "0009_idempotency_keys"),
    migration!("sqlite", 10, "0010_secret_counts"),
    migration!("sqlite", 11, "0011_versions_by_key_and_time"),
];
pub(super) const POSTGRES_MIGRATIONS: [(i64, &str, &str); 11] = [
    migration!("postgres", 1, "0001_domains_credentials_secrets"),
    migration!("postgres", 2, "0002_revisions"),
    migration!("postgres", 3, "0003_policies"),
    migration!("postgres", 4, "0004_store_keys"),
    migration!("postgres", 5, "0005_registered_certificates"),
    migration!("postgres", 6, "0006_row_authentication"),
    migration!("postgres", 7, "0007_tokens"),
    migration!("postgres", 8, "0008_token_key_ids"),
    migration!("postgres", 9, "0009_idempotency_keys"),
    migration!("postgres", 10, "0010_secret_counts"),
    migration!("postgres", 11, "0011_versions_by_key_and_time"),
];
