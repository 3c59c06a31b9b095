//! Connecting, and all that differs between the engines.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, Connection as _, Postgres, Sqlite, SqliteConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Connection, IfAbsent, Store, StoreError,
    checkpoints::WRITER_PAGES,
    cleaning::Cleaning,
    connection::{execute, fetch_optional},
    error::is_disconnect,
    joined_reads::JoinedReads,
    line::InLine,
    migrations::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, migration_error, migrations},
    row_cache::RowCache,
    secrets::FIND_SECRET,
    shelf::Shelf,
    sqlite_file,
    tables::schema_version,
    upgrade,
    writer::{Commits, Writer},
};
use crate::domain::Error;

/// Which database to use.
#[derive(Clone)]
pub struct DatabaseUrl(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

/// Why a text is no [`DatabaseUrl`]. It never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrlError(&'static str);

impl DatabaseUrl {
    /// A SQLite file.
    pub fn sqlite_file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Sqlite(path.into()))
    }

    /// Whether it is SQLite, which one machine has for itself.
    pub const fn is_sqlite(&self) -> bool {
        matches!(self.0, Kind::Sqlite(_))
    }

    /// The file of SQLite.
    pub(super) fn sqlite_path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Sqlite(path) => Some(path),
            Kind::Postgres(_) => None,
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    /// Reads `sqlite:PATH`, `sqlite://PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(':') || path.contains('?') {
                return Err(DatabaseUrlError("a SQLite URL is sqlite:// and the path of a file"));
            }
            return Ok(Self::sqlite_file(path));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options = super::postgres_url::read(text).ok_or(DatabaseUrlError(
                "the PostgreSQL URL cannot be read; its form is \
                 postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @, %2F for /, %3F for ? \
                 and %23 for # in a password or a name",
            ))?;
            return Ok(Self(Kind::Postgres(Box::new(options))));
        }
        Err(DatabaseUrlError("a database URL begins with sqlite:// or postgres://"))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Kind::Postgres(options) => write!(
                f,
                "postgres://{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for DatabaseUrlError {}

/// The connections to a database.
pub(super) enum Engine {
    Sqlite { readers: Shelf<Sqlite>, secrets: JoinedReads, writer: Writer, cache: Arc<RowCache> },
    Postgres(Shelf<Postgres>),
}

impl Engine {
    /// Opens it, and says whether the store in it is a new one.
    pub(super) async fn open(
        url: &DatabaseUrl,
        commits: Commits,
        if_absent: IfAbsent,
    ) -> Result<(Self, bool), Error> {
        match &url.0 {
            Kind::Sqlite(path) => open_sqlite(path.clone(), commits, if_absent).await,
            Kind::Postgres(options) => Ok(open_postgres(options, if_absent).await?),
        }
    }

    /// Where rows are kept that are read again and again.
    pub(super) fn cache(&self) -> Option<&RowCache> {
        match self {
            Self::Sqlite { cache, .. } => Some(cache),
            Self::Postgres(_) => None,
        }
    }

    /// From now on, so much work may wait: for a connection, and on SQLite as much besides for its writer.
    pub(super) fn limit_queue(&self, length: usize) {
        match self {
            Self::Sqlite { readers, writer, .. } => {
                readers.line().limit(length);
                writer.limit_queue(length);
            }
            Self::Postgres(connections) => connections.line().limit(length),
        }
    }

    /// A place among those who wait for a connection, where none is free.
    ///
    /// # Errors
    ///
    /// Where too many wait already.
    pub(super) fn enter_line(&self) -> Result<Option<InLine<'_>>, StoreError> {
        match self {
            Self::Sqlite { readers, .. } => readers.enter_line(),
            Self::Postgres(connections) => connections.enter_line(),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer, cache, .. } => {
                writer.close().await;
                readers.close().await;
                cache.close();
            }
            Self::Postgres(connections) => connections.close().await,
        }
    }
}

impl Store {
    /// Runs a read, outside any transaction.
    ///
    /// Connections are not pinged before use, which would cost a third of the read rate; a read that
    /// meets one that died in the pool is tried again on the next.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Error>
    where
        F: for<'a, 'c> Fn(&'a mut Connection<'c>) -> BoxFuture<'a, Result<T, sqlx::Error>>
            + Send
            + Sync,
        T: Send,
    {
        self.read_from(self.engine.enter_line()?, read).await
    }

    /// The same, from a place among those who wait for a connection.
    pub(super) async fn read_from<T, F>(
        &self,
        place: Option<InLine<'_>>,
        read: F,
    ) -> Result<T, Error>
    where
        F: for<'a, 'c> Fn(&'a mut Connection<'c>) -> BoxFuture<'a, Result<T, sqlx::Error>>
            + Send
            + Sync,
        T: Send,
    {
        // In a box, as all work on the database: futures are moved about, and this one is large.
        Box::pin(in_time(self.read_untimed(place, read))).await
    }

    async fn read_untimed<T, F>(&self, mut place: Option<InLine<'_>>, read: F) -> Result<T, Error>
    where
        F: for<'a, 'c> Fn(&'a mut Connection<'c>) -> BoxFuture<'a, Result<T, sqlx::Error>>
            + Send
            + Sync,
        T: Send,
    {
        match &*self.engine {
            Engine::Sqlite { readers, .. } => {
                let mut connection = readers.take_from(place).await?;
                let read = read(&mut Connection::Sqlite(&mut connection)).await;
                if read.is_ok() {
                    connection.lay_back();
                }
                Ok(read.map_err(StoreError::Sql)?)
            }
            Engine::Postgres(connections) => {
                let mut tries_left = DEAD_CONNECTION_TRIES;
                loop {
                    let mut connection = connections.take_from(place).await?;
                    match read(&mut Connection::Postgres(&mut connection)).await {
                        Ok(found) => {
                            connection.lay_back();
                            return Ok(found);
                        }
                        Err(error) if is_disconnect(&error) && tries_left > 0 => {
                            // Not given back to the pool: the next try gets another one.
                            connection.discard();
                            tries_left -= 1;
                            place = connections.enter_line()?;
                        }
                        Err(error) => return Err(StoreError::Sql(error).into()),
                    }
                }
            }
        }
    }
}

/// Bounds a piece of work on the database: one that hangs, such as a server behind a dead line, must
/// not hold its caller for longer. A write that is cut off here may still be done; its caller is told
/// that storage is unavailable, never that it succeeded.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let timed_out = |_| Error::Unavailable("the database did not answer in time".into());
    tokio::time::timeout(WORK_TIME, work).await.map_err(timed_out)?
}

async fn open_sqlite(
    path: PathBuf,
    commits: Commits,
    if_absent: IfAbsent,
) -> Result<(Engine, bool), Error> {
    if if_absent == IfAbsent::Refuse {
        sqlite_file::refuse_absent(&path)?;
    }
    sqlite_file::create_private(&path).map_err(|error| sqlite_file::unavailable(&path, &error))?;
    let options = sqlite_options(&path);
    let to_write = options.clone().pragma("wal_autocheckpoint", WRITER_PAGES.to_string());
    let mut connection = to_write.connect().await.map_err(StoreError::Sql)?;
    sqlite_file::refuse_damaged_schema(&mut connection, &path).await?;
    let is_new = if_absent.settle(upgrade::has_no_schema(&mut connection).await?)?;
    upgrade::migrate(&mut connection, &path, &migrations(&SQLITE_MIGRATIONS)).await?;
    assert_durable(&mut connection).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_lazy_with(options.row_buffer_size(SQLITE_ROW_BUFFER).pragma("query_only", "ON"));
    let cleaning = Cleaning::start(&mut connection).await.map_err(StoreError::Sql)?;
    let cache = Arc::new(RowCache::open(&path)?);
    try_out(&cache, &mut connection).await;
    let writer = Writer::start(connection, to_write, cleaning, Arc::clone(&cache), commits);
    let (readers, secrets) = (Shelf::new(readers), JoinedReads::new(FIND_SECRET));
    Ok((Engine::Sqlite { readers, secrets, writer, cache }, is_new))
}

/// What all connections to a SQLite file that is there have in common.
pub(super) fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: a commit is on the disk before it is acknowledged. (In WAL mode, NORMAL loses the
        // last commits on a power cut.)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // What is deleted is overwritten, so that a deleted version is gone from the file.
        .pragma("secure_delete", "ON")
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// Keeps no rows where a commit does not show in the file that tells of commits: on a file system that is not what it
/// seems to be, say.
async fn try_out(cache: &RowCache, connection: &mut SqliteConnection) {
    let before = cache.as_of();
    let written = write_the_same(&mut Connection::Sqlite(connection)).await;
    if written.is_err() {
        // Where nothing was begun there is nothing to undo.
        let _ = execute!(&mut Connection::Sqlite(connection), "ROLLBACK");
    }
    if written.is_err() || before.is_none() || cache.as_of() == before {
        tracing::warn!("rows of SQLite are not kept in memory: no commit is seen in its WAL index");
        cache.close();
    }
}

/// A commit that changes nothing. There and back: SQLite does not write what is the same.
async fn write_the_same(connection: &mut Connection<'_>) -> Result<(), sqlx::Error> {
    execute!(connection, "BEGIN IMMEDIATE")?;
    execute!(connection, "UPDATE revisions SET iam = iam + 1 WHERE id = 1")?;
    execute!(connection, "UPDATE revisions SET iam = iam - 1 WHERE id = 1")?;
    execute!(connection, "COMMIT")?;
    Ok(())
}

/// Refuses to run on a database that silently did not take a setting on which durability depends.
pub(super) async fn assert_durable(connection: &mut SqliteConnection) -> Result<(), Error> {
    let mut connection = Connection::Sqlite(connection);
    let text = fetch_optional!(&mut connection, (String,), "PRAGMA journal_mode");
    let journal_mode = text.map_err(StoreError::Sql)?.map(|row| row.0);
    let mut settings = Vec::new();
    for pragma in ["PRAGMA synchronous", "PRAGMA foreign_keys", "PRAGMA secure_delete"] {
        let row = fetch_optional!(&mut connection, (i64,), pragma).map_err(StoreError::Sql)?;
        settings.push(row.map(|row| row.0));
    }
    if journal_mode.as_deref() == Some("wal") && settings == [Some(2), Some(1), Some(1)] {
        return Ok(());
    }
    Err(Error::Unavailable(format!(
        "SQLite did not take its settings: journal_mode {journal_mode:?}, synchronous, \
         foreign_keys, secure_delete {settings:?}"
    )))
}

/// What all connections to PostgreSQL have in common.
pub(super) fn postgres_options(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().application_name("okmsd").disable_statement_logging()
}

async fn open_postgres(
    options: &PgConnectOptions,
    if_absent: IfAbsent,
) -> Result<(Engine, bool), StoreError> {
    let options = postgres_options(options);
    // Not from the pool: it would hide why the server cannot be reached, and limit the time that
    // migrations may take.
    let mut first = options.connect().await?;
    refuse_standby(&mut Connection::Postgres(&mut first)).await?;
    let schema = schema_version(&mut Connection::Postgres(&mut first)).await?;
    let is_new = if_absent.settle(schema.is_none())?;
    migrations(&POSTGRES_MIGRATIONS).run(&mut first).await.map_err(migration_error)?;
    assert_synchronous(&mut Connection::Postgres(&mut first)).await?;
    first.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // The server gives up before its caller does, and holds no lock for the dead. The
                // isolation is what the row locks of this store are made for.
                let sql = "SELECT set_config('statement_timeout', '20s', false), \
                           set_config('idle_in_transaction_session_timeout', '20s', false), \
                           set_config('default_transaction_isolation', 'read committed', false)";
                let connection = &mut Connection::Postgres(connection);
                execute!(connection, sql)?;
                refuse_standby(connection).await
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // One whose server vanished without a word would keep its place in the pool until TCP
                // gives up.
                let alive = tokio::time::timeout(RELEASE_TIME, connection.ping()).await;
                alive.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(|()| true)
            })
        })
        .connect_lazy_with(options);
    Ok((Engine::Postgres(Shelf::new(pool)), is_new))
}

/// Refuses a standby, which whoever leads to the primary has led to: what it has may be old.
pub(super) async fn refuse_standby(connection: &mut Connection<'_>) -> Result<(), sqlx::Error> {
    let row = fetch_optional!(connection, (bool,), "SELECT pg_is_in_recovery()")?;
    match row {
        Some((false,)) => Ok(()),
        _ => Err(sqlx::Error::Protocol("the server is a standby".to_owned())),
    }
}

/// An acknowledged write must survive a crash of the database server, whatever the default of the
/// server or the role is.
pub(super) async fn assert_synchronous(connection: &mut Connection<'_>) -> Result<(), StoreError> {
    let sql = "SELECT current_setting('synchronous_commit')";
    let setting = fetch_optional!(connection, (String,), sql)?;
    if setting.is_some_and(|(setting,)| setting == "off") {
        let text = "PostgreSQL has synchronous_commit = off: acknowledged writes could be lost";
        return Err(Error::Unavailable(text.into()).into());
    }
    Ok(())
}

/// The statement that removes rows by the bytes in columns of text. SQLite may hold bytes there that are no
/// text, so that no text is equal to them.
macro_rules! delete_by_bytes {
    ($connection:expr, $table:literal, $($column:literal = $place:literal),+) => {
        match &$connection {
            $crate::store::Connection::Sqlite(_) => concat!(
                "DELETE FROM ", $table, " WHERE TRUE",
                $(" AND COALESCE(CAST(", $column, " AS BLOB), x'') = ", $place),+
            ),
            $crate::store::Connection::Postgres(_) => concat!(
                "DELETE FROM ", $table, " WHERE TRUE",
                $(" AND convert_to(", $column, ", 'UTF8') = ", $place),+
            ),
        }
    };
}

pub(super) use delete_by_bytes;

/// What of a secret is locked for the rest of a transaction.
pub(super) enum SecretLock {
    /// All secrets: SQLite has only one writer, which holds the lock of the whole file.
    All,
    /// The row of that id; none where there was none to lock.
    Row(Option<i64>),
}

impl SecretLock {
    /// Whether a row that was read later is the one that is locked.
    pub(super) fn covers(&self, secret_id: Option<i64>) -> bool {
        match self {
            Self::All => true,
            Self::Row(locked) => *locked == secret_id,
        }
    }
}

/// Takes the row lock of a secret.
pub(super) async fn lock_secret(
    connection: &mut Connection<'_>,
    okms_id: &str,
    path: &str,
) -> Result<SecretLock, sqlx::Error> {
    if let Connection::Sqlite(_) = connection {
        return Ok(SecretLock::All);
    }
    let sql = "SELECT secret_id FROM secrets WHERE okms_id = $1 AND path = $2 FOR UPDATE";
    let row = fetch_optional!(connection, (i64,), sql, okms_id, path)?;
    Ok(SecretLock::Row(row.map(|(id,)| id)))
}

/// Takes the row lock of a domain for the rest of the transaction; SQLite has it already.
pub(super) async fn lock_domain(
    connection: &mut Connection<'_>,
    okms_id: &str,
) -> Result<(), sqlx::Error> {
    if let Connection::Postgres(_) = connection {
        execute!(connection, "SELECT 1 FROM domains WHERE okms_id = $1 FOR UPDATE", okms_id)?;
    }
    Ok(())
}

/// Has those who make secrets of a domain near its limit come one after the other, for the rest of the transaction;
/// SQLite has one writer. New rows that refer to the domain do not wait.
pub(super) async fn lock_counting(
    connection: &mut Connection<'_>,
    okms_id: &str,
) -> Result<(), sqlx::Error> {
    if let Connection::Postgres(_) = connection {
        let sql = "SELECT 1 FROM domains WHERE okms_id = $1 FOR NO KEY UPDATE";
        execute!(connection, sql, okms_id)?;
    }
    Ok(())
}

/// Keeps all others from writing secrets, for the rest of the transaction; SQLite has one writer.
pub(super) async fn lock_all_secrets(connection: &mut Connection<'_>) -> Result<(), sqlx::Error> {
    if let Connection::Postgres(_) = connection {
        execute!(connection, "LOCK TABLE secrets IN SHARE ROW EXCLUSIVE MODE")?;
    }
    Ok(())
}

/// Takes the row locks of all root keys for the rest of the transaction; SQLite has them already.
pub(super) async fn lock_root_keys(connection: &mut Connection<'_>) -> Result<(), sqlx::Error> {
    if let Connection::Postgres(_) = connection {
        execute!(connection, "SELECT 1 FROM root_keys ORDER BY slot FOR UPDATE")?;
    }
    Ok(())
}

/// Whether a statement finds a row, which then nobody changes until the transaction ends. Others may hold the same
/// row so at the same time, and nothing is written; SQLite has one writer, who holds everything.
macro_rules! holds_row {
    ($connection:expr, $sql:literal, $($argument:expr),+) => {{
        let sql = match $connection {
            $crate::store::Connection::Sqlite(_) => $sql,
            $crate::store::Connection::Postgres(_) => concat!($sql, " FOR SHARE"),
        };
        fetch_optional!($connection, (String,), sql, $($argument),+).map(|row| row.is_some())
    }};
}

pub(super) use holds_row;

/// Takes a name for the rest of the transaction, without waiting; `false` where another transaction has it. SQLite
/// has one writer, who has them all. Whoever gets a name sees what those did who had it before.
pub(super) async fn claim(
    connection: &mut Connection<'_>,
    name: &[u8; 32],
) -> Result<bool, sqlx::Error> {
    let Connection::Postgres(_) = connection else { return Ok(true) };
    // Two names that begin with the same eight bytes would only be told apart too late: one is asked to try again.
    let [a, b, c, d, e, f, g, h, ..] = *name;
    let name = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let row = fetch_optional!(connection, (bool,), "SELECT pg_try_advisory_xact_lock($1)", name)?;
    Ok(row.is_some_and(|(taken,)| taken))
}

/// The statement that removes some rows: those whose key a query finds. Rows that another transaction is at are
/// passed over, and nobody waits.
macro_rules! delete_some {
    (@sql $table:literal, $key:literal, $rest:literal, $locking:literal) => {
        concat!(
            "DELETE FROM ", $table, " WHERE ", $key, " IN (SELECT ", $key, " FROM ", $table, " ", $rest,
            $locking, ")"
        )
    };
    ($connection:expr, $table:literal, $key:literal, $rest:literal) => {
        match &$connection {
            // It has one writer.
            $crate::store::Connection::Sqlite(_) => delete_some!(@sql $table, $key, $rest, ""),
            $crate::store::Connection::Postgres(_) => {
                delete_some!(@sql $table, $key, $rest, " FOR UPDATE SKIP LOCKED")
            }
        }
    };
}

pub(super) use delete_some;

/// Readers of SQLite do not wait for each other; each costs a thread and a page cache. Four are
/// enough to keep two to eight cores busy with reads of microseconds.
pub(super) const SQLITE_READERS: u32 = 4;
/// Rows of a read that wait to be taken from SQLite's thread: a whole page, which then never stops that thread.
const SQLITE_ROW_BUFFER: usize = 1_024;
/// How long a write waits for the command line, which may write beside a running server.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// PostgreSQL starts a process for each; its own default maximum of 100 leaves room for replicas.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a request waits for a free connection before it is answered with 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to answer before it goes back to the pool.
const RELEASE_TIME: Duration = Duration::from_secs(2);
/// How long any piece of work may take before its caller is told that storage is unavailable. Work
/// takes milliseconds; this is longer than every single wait in it.
const WORK_TIME: Duration = Duration::from_secs(25);
/// A restart of PostgreSQL kills every pooled connection at once, so one retry is not enough.
pub(super) const DEAD_CONNECTION_TRIES: u32 = POSTGRES_CONNECTIONS + 1;

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;

    use super::*;
    use crate::{
        crypto::TokenHash,
        domain::{CredentialId, OkmsId},
        store::{connection::fetch_all, shelf::AtWork},
    };

    /// Who comes while as many wait as may is refused at once, however much it shares with them.
    async fn second_is_refused<T>(store: &Store, read: impl AsyncFn() -> Result<T, Error>) {
        let before = store.measures().connections.refused;
        let mut first = Box::pin(read());
        assert!(poll_immediate(&mut first).await.is_none());
        let second = poll_immediate(Box::pin(read())).await.expect("at once");
        assert!(matches!(second, Err(Error::Unavailable(_))));
        let after = store.measures().connections;
        assert_eq!((after.waiting, after.refused), (1, before + 1));
    }

    #[tokio::test]
    async fn who_shares_a_read_waits_in_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
        let store = Store::open(&url).await.unwrap();
        let Engine::Sqlite { readers, .. } = &*store.engine else { panic!("SQLite") };
        let mut held = Vec::new();
        for _ in 0..SQLITE_READERS {
            held.push(readers.take().await.unwrap());
        }
        store.engine.limit_queue(1);
        let (id, okms_id) = (uuid::Uuid::nil(), OkmsId::new(uuid::Uuid::nil()));
        let hash = TokenHash::from_stored(&[1; 32]).unwrap();
        second_is_refused(&store, async || store.find_token(hash).await).await;
        second_is_refused(&store, async || store.find_credential(CredentialId::new(id)).await)
            .await;
        second_is_refused(&store, async || store.find_external(okms_id, [2; 32]).await).await;
        held.into_iter().for_each(AtWork::lay_back);
        assert!(store.find_external(okms_id, [2; 32]).await.unwrap().is_none());
        store.close().await;
    }

    #[test]
    fn a_url_never_shows_its_password() {
        let url: DatabaseUrl = "postgres://okms:hunter2@db.example:5433/okmsd".parse().unwrap();
        assert_eq!(format!("{url} {url:?}").matches("hunter2").count(), 0);
        assert_eq!(url.to_string(), "postgres://db.example:5433/okmsd");
        for bad in ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "sqlite:", "x"] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        for bare in ["12/3@h/d", "1?2@h/d", "1#2@h/d", "x@1/2@h/d", "1/2#3@h/d"] {
            let read = format!("postgres://okms:{bare}").parse::<DatabaseUrl>();
            assert!(read.is_err(), "{bare} is told as host, port or database: {read:?}");
        }
        for plain in [
            "u:p@h/d?application_name=a@b",
            "u:p@h?application_name=a@b",
            "h?user=a@b",
            "h:5432?user=u&password=a@b",
            "h/a@b",
            "u:p@q@h:5433/d",
            "u:p%2F@h",
        ] {
            assert!(format!("postgres://{plain}").parse::<DatabaseUrl>().is_ok(), "{plain}");
        }
    }

    #[test]
    fn sqlite_urls_name_a_file() {
        for (url, path) in [("sqlite:a/b", "a/b"), ("sqlite://a", "a"), ("sqlite:///a", "/a")] {
            assert_eq!(url.parse::<DatabaseUrl>().unwrap().to_string(), format!("sqlite://{path}"));
        }
        for bad in ["sqlite::memory:", "sqlite://", "sqlite:///a?mode=ro"] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad}");
        }
    }

    /// As `.cargo/config.toml` has it.
    #[tokio::test]
    async fn sqlite_is_compiled_for_many_readers() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut connection = Connection::Sqlite(&mut connection);
        let options = fetch_all!(&mut connection, (String,), "PRAGMA compile_options").unwrap();
        let has = |option| options.iter().any(|(one,)| one == option);
        // A lock that all connections share, around each allocation; and one around each page.
        assert!(has("DEFAULT_MEMSTATUS=0"));
        assert!(!has("ENABLE_MEMORY_MANAGEMENT"));
        // A statement with a range or a limit would be prepared again whenever it is run.
        assert!(has("ENABLE_QPSG"));
    }
}
