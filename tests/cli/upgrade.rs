//! The program on a SQLite database of an older one.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use crate::{
    harness::{fail, mode, okmsd, succeed},
    production::Production,
};

const DATA: [&str; 2] = ["--data-dir", "data"];

/// The released schemas of before, by their migrations.
const OLD: [(&str, &str); 10] = [
    (
        "0001_domains_credentials_secrets",
        include_str!("../../migrations/sqlite/0001_domains_credentials_secrets.sql"),
    ),
    ("0002_revisions", include_str!("../../migrations/sqlite/0002_revisions.sql")),
    ("0003_policies", include_str!("../../migrations/sqlite/0003_policies.sql")),
    ("0004_store_keys", include_str!("../../migrations/sqlite/0004_store_keys.sql")),
    (
        "0005_registered_certificates",
        include_str!("../../migrations/sqlite/0005_registered_certificates.sql"),
    ),
    (
        "0006_row_authentication",
        include_str!("../../migrations/sqlite/0006_row_authentication.sql"),
    ),
    ("0007_tokens", include_str!("../../migrations/sqlite/0007_tokens.sql")),
    ("0008_token_key_ids", include_str!("../../migrations/sqlite/0008_token_key_ids.sql")),
    ("0009_idempotency_keys", include_str!("../../migrations/sqlite/0009_idempotency_keys.sql")),
    ("0010_secret_counts", include_str!("../../migrations/sqlite/0010_secret_counts.sql")),
];

const OKMS_ID: &str = "6a09e667-f3bc-4000-8000-000000000001";

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    options.journal_mode(SqliteJournalMode::Wal).connect().await.unwrap()
}

/// Makes the database of a program that knew so many migrations, with one domain.
async fn make(path: &Path, version: usize) {
    let migrations = OLD[..version].iter().zip(1..).map(|((name, sql), version)| {
        let sql = sqlx::SqlSafeStr::into_sql_str(*sql);
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    });
    let mut connection = connect(path).await;
    Migrator::with_migrations(migrations.collect()).run(&mut connection).await.unwrap();
    let domain = format!("INSERT INTO domains VALUES ('{OKMS_ID}', 'old', 'eu', 1, 0, 0, '0s')");
    let secret = format!(
        "INSERT INTO secrets (okms_id, path, cas_required, max_versions, deactivate_version_after, custom_metadata, \
         current_version, oldest_version, created_at, updated_at) \
         VALUES ('{OKMS_ID}', 'a', 0, 0, '0s', '{{}}', 0, 0, 1, 1)"
    );
    let mut rows = vec![domain, secret];
    if version >= 10 {
        // That program counts what it writes.
        rows.push(format!("INSERT INTO secret_counts VALUES ('{OKMS_ID}', 0, 1)"));
    }
    for sql in rows {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// The version of the schema, and the domain.
async fn state(path: &Path) -> (i64, String) {
    let mut connection = connect(path).await;
    let whole: (String,) =
        sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(whole.0, "ok");
    let sql = "SELECT (SELECT MAX(version) FROM _sqlx_migrations), okms_id FROM domains";
    let state = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    state
}

/// How many secrets the database says that it has.
async fn counted(path: &Path) -> i64 {
    let mut connection = connect(path).await;
    let sql = "SELECT SUM(secrets) FROM secret_counts";
    let (counted,) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    counted
}

fn newest() -> i64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    i64::try_from(fs::read_dir(folder).unwrap().count()).unwrap()
}

/// What lies beside the database, but for SQLite's own files.
fn copies(production: &Production) -> Vec<PathBuf> {
    let entries = fs::read_dir(production.data("")).unwrap().map(|entry| entry.unwrap().path());
    let copies = entries.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains(".bak") || name.contains("copy")
    });
    copies.collect()
}

#[tokio::test]
async fn each_older_schema_is_copied_before_it_is_brought_up_to_date() {
    // Whoever adds a migration adds the one before it here.
    assert_eq!(i64::try_from(OLD.len() + 1).unwrap(), newest());
    for version in 1..=OLD.len() {
        let production = Production::init();
        let cwd = production.cwd.path();
        let database = production.data("okmsd.db");
        make(&database, version).await;
        // Of a run that was killed while it made a copy.
        fs::write(production.data(".okmsd-copy.new"), "half").unwrap();
        let list = [&["domain", "list"][..], &DATA].concat();
        assert!(succeed(cwd, &list).contains(OKMS_ID), "{version}");
        assert_eq!(state(&database).await, (newest(), OKMS_ID.to_owned()));
        assert_eq!(counted(&database).await, 1);
        let [copy] = &copies(&production)[..] else { panic!("{:?}", copies(&production)) };
        let name = copy.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, format!("okmsd.db.schema-{version}.bak"));
        assert_eq!(mode(copy), 0o600);
        // Nothing is to be done any more.
        succeed(cwd, &list);
        assert_eq!(copies(&production).len(), 1);

        // The copy is as good as what it is of.
        fs::remove_file(&database).unwrap();
        fs::rename(copy, &database).unwrap();
        assert_eq!(state(&database).await, (i64::try_from(version).unwrap(), OKMS_ID.to_owned()));
        assert!(succeed(cwd, &list).contains(OKMS_ID));
    }
}

#[tokio::test]
async fn a_new_database_and_one_of_today_are_not_copied() {
    let production = Production::init();
    for command in [&["domain", "create", "--name", "x"][..], &["domain", "list"]] {
        succeed(production.cwd.path(), &[command, &DATA].concat());
        assert_eq!(state_of_new(&production).await, newest());
        assert_eq!(copies(&production), Vec::<PathBuf>::new());
    }
}

async fn state_of_new(production: &Production) -> i64 {
    let mut connection = connect(&production.data("okmsd.db")).await;
    let sql = "SELECT MAX(version) FROM _sqlx_migrations";
    let (version,) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    version
}

#[tokio::test]
async fn without_room_for_the_copy_nothing_is_changed() {
    let production = Production::init();
    let database = production.data("okmsd.db");
    make(&database, OLD.len()).await;
    let mut connection = connect(&database).await;
    let padding =
        "CREATE TABLE padding (bytes BLOB); INSERT INTO padding VALUES (zeroblob(9 << 20))";
    sqlx::raw_sql(padding).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&database).unwrap();
    // No file may grow beyond 8 MiB, which is enough for the audit log. The signal is ignored, so that this is an
    // error like that of a full disk.
    let script = "trap '' XFSZ; ulimit -f 16384; exec \"$0\" serve --config data/okmsd.toml";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_okmsd")]).stdin(Stdio::null());
    let output = command.current_dir(production.cwd.path()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let told = "okmsd: cannot open sqlite://data/okmsd.db: its schema is to be brought up to date, for \
                which a copy is made first, and nothing was changed: cannot make ";
    let told = errors.lines().find_map(|line| line.strip_prefix(told));
    let name = format!("okmsd.db.schema-{}.bak", OLD.len());
    assert!(told.is_some_and(|why| why.contains(&name)), "{errors}");
    assert_eq!(copies(&production), Vec::<PathBuf>::new());
    assert!(fs::read(&database).unwrap() == before);

    assert_eq!(production.serve(&[]).stop(), Some(0));
    assert_eq!(state(&database).await.0, newest());
    assert_eq!(copies(&production).len(), 1);
}

#[tokio::test]
async fn a_start_that_is_tried_again_and_again_leaves_one_copy_the_newest() {
    let production = Production::init();
    let database = production.data("okmsd.db");
    make(&database, 3).await;
    // Of a start before, which others could read.
    let copy = production.data("okmsd.db.schema-3.bak");
    fs::write(&copy, "older").unwrap();
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut connection = connect(&database).await;
    let other = "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2";
    sqlx::raw_sql(other).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let list = [&["domain", "list"][..], &DATA].concat();
    for name in ["once", "again"] {
        let mut connection = connect(&database).await;
        let change = sqlx::query("UPDATE domains SET name = $1").bind(name);
        change.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let errors = fail(production.cwd.path(), &list, 1);
        assert!(errors.contains("migration 2 was previously applied"), "{errors}");
        assert_eq!(copies(&production), [copy.as_path()]);
        assert_eq!(mode(&copy), 0o600);
        assert_eq!(state(&database).await.0, 3);
        // Beside the folder that is looked at, as opening it makes files.
        let aside = production.cwd.path().join("aside.db");
        fs::copy(&copy, &aside).unwrap();
        assert_eq!(state(&aside).await, (3, OKMS_ID.to_owned()));
        let mut connection = connect(&aside).await;
        let sql = "SELECT name FROM domains";
        let copied: (String,) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
        assert_eq!(copied.0, name);
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn only_one_process_at_a_time_brings_a_schema_up_to_date() {
    let production = Production::init();
    let database = production.data("okmsd.db");
    make(&database, 3).await;
    let list = [&["domain", "list"][..], &DATA].concat();
    let folder = fs::File::open(production.data("")).unwrap();
    folder.lock().unwrap();
    let errors = fail(production.cwd.path(), &list, 1);
    assert!(errors.contains("another okmsd is bringing its schema up to date"), "{errors}");
    drop(folder);
    assert!(okmsd(production.cwd.path(), &list).output().unwrap().status.success());
    assert_eq!(copies(&production).len(), 1);
}
