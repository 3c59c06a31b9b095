//! How many secrets a domain has, and how many it may have.

use super::{
    Connection, Store, StoreError,
    connection::{execute, fetch_optional},
    engine::{Engine, lock_all_secrets, lock_counting},
    transaction::{Tx, defer},
};
use crate::domain::{Argument, Error, SecretPath};

/// Checks that a domain may have one more secret than the transaction saw.
///
/// Only near the limit do those who make secrets wait for each other: whoever is beyond it does not, and elsewhere a
/// queue of them, each until the other's commit, would be longer than the time for which one waits for a connection.
///
/// # Errors
///
/// [`Argument::SecretsExhausted`] where the domain has `limit` secrets; nothing was written then.
pub(super) async fn check_room(
    tx: &mut Tx<'_>,
    okms_id: &str,
    known: i64,
    limit: Option<u32>,
) -> Result<(), StoreError> {
    let Some(limit) = limit.map(i64::from) else { return Ok(()) };
    let mut known = known;
    if known < limit && known + NEAR > limit {
        // What is not written yet is not counted.
        tx.settle().await?;
        lock_counting(&mut tx.connection, okms_id).await?;
        let sql = "SELECT CAST(SUM(secrets) AS BIGINT) FROM secret_counts WHERE okms_id = $1";
        let row = fetch_optional!(&mut tx.connection, (Option<i64>,), sql, okms_id)?;
        known = row.and_then(|(sum,)| sum).unwrap_or_default();
    }
    if known >= limit {
        let text = format!("the domain has as many secrets as it may have: {limit}");
        return Err(Error::argument(Argument::SecretsExhausted, text).into());
    }
    Ok(())
}

/// Counts a secret that was made. After the secret itself is written, as in [`count_gone`]: two who lock the one and
/// the other first would wait for each other.
pub(super) async fn count_new(
    tx: &mut Tx<'_>,
    okms_id: &str,
    path: &SecretPath,
) -> Result<(), sqlx::Error> {
    count(tx, okms_id, path, 1).await
}

/// Counts a secret that is gone.
pub(super) async fn count_gone(
    tx: &mut Tx<'_>,
    okms_id: &str,
    path: &SecretPath,
) -> Result<(), sqlx::Error> {
    count(tx, okms_id, path, -1).await
}

async fn count(
    tx: &mut Tx<'_>,
    okms_id: &str,
    path: &SecretPath,
    more: i64,
) -> Result<(), sqlx::Error> {
    defer!(
        tx,
        Change,
        "INSERT INTO secret_counts (okms_id, part, secrets) VALUES ($1, $2, $3) \
         ON CONFLICT (okms_id, part) DO UPDATE SET secrets = secret_counts.secrets + excluded.secrets",
        okms_id,
        part(path),
        more,
    )
}

impl Store {
    /// On PostgreSQL: counts all secrets anew. A server of a version before counts were kept may have gone on beside
    /// the first one that keeps them, while each of several was replaced in turn.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn recount_secrets(&self) -> Result<(), Error> {
        if let Engine::Sqlite { .. } = &*self.engine {
            return Ok(());
        }
        self.write(|tx| {
            Box::pin(async move {
                tx.wrote = true;
                lock_all_secrets(&mut tx.connection).await?;
                Ok(count_all(&mut tx.connection).await?)
            })
        })
        .await
    }
}

/// Counts all secrets of a store that was put together from a copy, which holds no counts.
pub(super) async fn count_all(connection: &mut Connection<'_>) -> Result<(), sqlx::Error> {
    execute!(&mut *connection, "DELETE FROM secret_counts")?;
    let sql = "INSERT INTO secret_counts (okms_id, part, secrets) \
               SELECT okms_id, 0, COUNT(*) FROM secrets GROUP BY okms_id";
    execute!(connection, sql)?;
    Ok(())
}

/// Where a secret is counted: writers of others mostly count elsewhere.
fn part(path: &SecretPath) -> i64 {
    let mixed = path.as_str().bytes().fold(0_u8, |mixed, byte| mixed.wrapping_mul(31) ^ byte);
    i64::from(mixed % PARTS)
}

/// Twice the connections to PostgreSQL of one server, so that most writers that could meet do not.
const PARTS: u8 = 32;
/// More secrets than are made between a look and the write that follows it. Should one transaction be held up for
/// longer than that, a domain has one too many.
const NEAR: i64 = 1_000;
