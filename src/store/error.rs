//! Errors of the engines in the words of the domain.

use crate::domain::Error;

/// What can go wrong inside the store.
#[cfg_attr(test, derive(Debug))]
pub(super) enum StoreError {
    /// The caller's own refusal, out of a decision under lock.
    Refused(Error),
    /// Another transaction came between a lock and what was to be read under it.
    Overtaken,
    /// The engine's error.
    Sql(sqlx::Error),
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(error) => error,
            StoreError::Overtaken => Self::Unavailable("overtaken again and again".into()),
            StoreError::Sql(error) if is_outage(&error) => Self::Unavailable(error.to_string()),
            StoreError::Sql(error) => Self::Internal(error.to_string()),
        }
    }
}

impl StoreError {
    /// Whether the same unit of work may succeed when it is run again: another transaction came
    /// first, and this one did nothing.
    pub(super) fn is_conflict(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Overtaken => true,
            // What was inserted beside this one, or deleted under it, is seen the next time.
            Self::Sql(sqlx::Error::Database(error)) => {
                let code = error.code();
                error.is_unique_violation()
                    || error.is_foreign_key_violation()
                    || code.is_some_and(|code| SERIALIZATION_FAILURES.contains(&code.as_ref()))
            }
            Self::Sql(_) => false,
        }
    }

    /// Whether the connection itself is gone.
    pub(super) fn is_disconnect(&self) -> bool {
        matches!(self, Self::Sql(error) if is_disconnect(error))
    }
}

pub(super) fn is_disconnect(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with(POSTGRES_CONNECTION_CLASS)
                || POSTGRES_SHUTDOWNS.contains(&code.as_ref())
                || code == POSTGRES_READ_ONLY
        }),
        _ => false,
    }
}

/// Whether another process kept SQLite's lock for longer than anybody waits.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

/// Whether storage cannot be used now, as against a fault of ours.
fn is_outage(error: &sqlx::Error) -> bool {
    if is_disconnect(error) {
        return true;
    }
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // SQLSTATEs have five characters, SQLite's codes are numbers of up to four digits.
            if code.len() == 5 {
                POSTGRES_OUTAGES.iter().any(|prefix| code.starts_with(prefix))
                    || SERIALIZATION_FAILURES.contains(&code.as_ref())
            } else {
                let code: i32 = code.parse().unwrap_or(0);
                SQLITE_OUTAGES.contains(&(code & 0xff))
            }
        }),
        _ => false,
    }
}

const POSTGRES_CONNECTION_CLASS: &str = "08";
/// Errors after which the server has closed the connection: admin_shutdown, crash_shutdown,
/// cannot_connect_now, database_dropped, idle_session_timeout, idle_in_transaction_session_timeout
const POSTGRES_SHUTDOWNS: [&str; 6] = ["57P01", "57P02", "57P03", "57P04", "57P05", "25P03"];
/// read_only_sql_transaction: the server was the primary and is a standby now, so a new connection may lead to the
/// one that has taken its place.
const POSTGRES_READ_ONLY: &str = "25006";
/// serialization_failure, deadlock_detected
const SERIALIZATION_FAILURES: [&str; 2] = ["40001", "40P01"];
/// Insufficient resources, operator intervention, system errors and wrong credentials.
const POSTGRES_OUTAGES: [&str; 4] = ["53", "57", "58", "28"];
const SQLITE_BUSY: i32 = 5;
/// BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
const SQLITE_OUTAGES: [i32; 6] = [SQLITE_BUSY, 6, 8, 10, 13, 14];
