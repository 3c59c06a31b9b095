//! Statements about what was answered to writes that are to be done once.
//!
//! A row is written in the transaction of its write: it is there exactly if the write is. Whoever looks for one
//! has the name of the key for the rest of its transaction, so of two that come with the same key at the same time,
//! in whatever processes, one is refused.

use sqlx::FromRow;

use super::{
    Connection, KeyId, Store, StoreError,
    connection::{execute, fetch_all, fetch_optional},
    engine::{claim, delete_some},
    transaction::Tx,
};
use crate::{
    crypto::{KeyHash, SealedOutcome},
    domain::{Error, IdempotencyError, OkmsId, Timestamp},
};

/// The key of a write that is to be done once.
#[derive(Debug, Clone)]
pub struct OnceKey {
    /// Names the key among those of all callers of all domains.
    pub hash: KeyHash,
    /// Names its caller.
    pub caller: KeyHash,
    /// The time of the write.
    pub now: Timestamp,
}

/// What came of a write.
#[derive(Debug, Clone)]
pub struct StoredOutcome {
    /// The key of the domain that it is under.
    pub key_id: KeyId,
    /// When it was kept.
    pub created_at: Timestamp,
    /// What it is.
    pub sealed: SealedOutcome,
}

/// What is known of a key before its write is done.
pub(super) enum Earlier {
    /// It was done before.
    Done(StoredOutcome),
    /// Nothing; its number among those of its caller will be this.
    None {
        /// From 1.
        next: i64,
    },
}

/// Looks for what came of a write before.
pub(super) async fn find_earlier(
    tx: &mut Tx<'_>,
    okms_id: &str,
    once: &OnceKey,
) -> Result<Earlier, StoreError> {
    let connection = &mut tx.connection;
    let hash = &once.hash.as_bytes()[..];
    if !claim(connection, once.hash.as_bytes()).await? {
        return Err(Error::Idempotency(IdempotencyError::InProgress).into());
    }
    let sql = "SELECT key_hash, key_id, created_at, sealed_outcome FROM idempotency_keys \
               WHERE key_hash = $1";
    let row = fetch_optional!(&mut *connection, OutcomeRow, sql, hash)?;
    let over = once.now.minus_seconds(KEPT_SECONDS).as_millis();
    if let Some(row) = row.filter(|row| row.created_at > over) {
        // A commit whose standby was lost before it confirmed can be seen, and is not safe yet. Where this
        // transaction writes as well, its own commit waits until both are.
        tx.wrote = true;
        let sql = "UPDATE idempotency_keys SET number = number WHERE key_hash = $1";
        execute!(connection, sql, hash)?;
        return Ok(Earlier::Done(row.outcome()));
    }
    let caller = &once.caller.as_bytes()[..];
    let sql = "SELECT number, created_at, \
               (SELECT MAX(number) FROM idempotency_keys WHERE okms_id = $1 AND caller = $2) \
               FROM idempotency_keys WHERE okms_id = $1 AND caller = $2 ORDER BY number LIMIT 1";
    let row = fetch_optional!(&mut *connection, (i64, i64, i64), sql, okms_id, caller)?;
    let Some((first, first_created_at, last)) = row else {
        return Ok(Earlier::None { next: 1 });
    };
    // Where the first is over, there are fewer that are not, and the write removes more of those that are than it
    // adds.
    if first_created_at > over && last.saturating_sub(first) >= MAX_KEYS_OF_CALLER {
        return Err(Error::Idempotency(IdempotencyError::TooMany).into());
    }
    Ok(Earlier::None { next: last.saturating_add(1) })
}

/// Keeps what came of a write, in its transaction.
pub(super) async fn keep(
    tx: &mut Tx<'_>,
    okms_id: &str,
    once: &OnceKey,
    number: i64,
    key_id: KeyId,
    outcome: &SealedOutcome,
) -> Result<(), StoreError> {
    // Now, not deferred: the next unit of the same transaction may have the same key.
    let connection = &mut tx.connection;
    remove_over(connection, once.now).await?;
    // The same key, of a day ago, may be among those that are not removed yet.
    let hash = &once.hash.as_bytes()[..];
    execute!(&mut *connection, "DELETE FROM idempotency_keys WHERE key_hash = $1", hash)?;
    execute!(
        connection,
        "INSERT INTO idempotency_keys (key_hash, okms_id, caller, number, created_at, key_id, \
         sealed_outcome) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        hash,
        okms_id,
        &once.caller.as_bytes()[..],
        number,
        once.now.as_millis(),
        key_id.as_i64(),
        outcome.as_bytes()
    )?;
    Ok(())
}

async fn remove_over(connection: &mut Connection<'_>, now: Timestamp) -> Result<(), sqlx::Error> {
    let over = now.minus_seconds(KEPT_SECONDS).as_millis();
    let sql = delete_some!(
        connection,
        "idempotency_keys",
        "key_hash",
        "WHERE created_at <= $1 ORDER BY created_at LIMIT $2"
    );
    execute!(connection, sql, over, REMOVED_AT_ONCE).map(|_| ())
}

impl Store {
    /// Brings some outcomes of a domain from one key under another, and gives how many; those for which `reseal`
    /// gives nothing do not open, and go. Does nothing where the new key is gone.
    ///
    /// # Errors
    ///
    /// What `reseal` fails with, or when storage fails.
    pub async fn rewrap_outcomes<R>(
        &self,
        okms_id: OkmsId,
        from: KeyId,
        to: KeyId,
        reseal: R,
    ) -> Result<u64, Error>
    where
        R: Fn(KeyHash, &StoredOutcome) -> Result<Option<SealedOutcome>, Error>
            + Send
            + Sync
            + 'static,
    {
        let reseal = std::sync::Arc::new(reseal);
        self.write(move |tx| {
            let reseal = std::sync::Arc::clone(&reseal);
            Box::pin(async move {
                let sql = "SELECT key_id FROM domain_keys WHERE key_id = $1 AND okms_id = $2";
                let key = fetch_optional!(
                    &mut tx.connection,
                    (i64,),
                    sql,
                    to.as_i64(),
                    okms_id.to_string()
                )?;
                if key.is_none() {
                    return Ok(0);
                }
                let sql = "SELECT key_hash, key_id, created_at, sealed_outcome \
                           FROM idempotency_keys WHERE key_id = $1 LIMIT $2";
                let rows = fetch_all!(
                    &mut tx.connection,
                    OutcomeRow,
                    sql,
                    from.as_i64(),
                    REMOVED_AT_ONCE
                )?;
                let count = rows.len() as u64;
                tx.wrote = count > 0;
                for row in rows {
                    let hash = row.key_hash.clone();
                    let resealed = match KeyHash::from_stored(&hash) {
                        Ok(hash) => reseal(hash, &row.outcome())?,
                        Err(_) => None,
                    };
                    match resealed {
                        Some(sealed) => {
                            let sql = "UPDATE idempotency_keys SET key_id = $2, \
                                       sealed_outcome = $3 WHERE key_hash = $1";
                            let sealed = sealed.as_bytes();
                            execute!(&mut tx.connection, sql, hash, to.as_i64(), sealed)?;
                        }
                        None => {
                            let sql = "DELETE FROM idempotency_keys WHERE key_hash = $1";
                            execute!(&mut tx.connection, sql, hash)?;
                        }
                    }
                }
                Ok(count)
            })
        })
        .await
    }
}

#[derive(FromRow)]
struct OutcomeRow {
    key_hash: Vec<u8>,
    key_id: i64,
    created_at: i64,
    sealed_outcome: Vec<u8>,
}

impl OutcomeRow {
    fn outcome(self) -> StoredOutcome {
        StoredOutcome {
            key_id: KeyId::from_stored(self.key_id),
            created_at: Timestamp::from_millis(self.created_at),
            sealed: SealedOutcome::from_stored(self.sealed_outcome),
        }
    }
}

/// How long an answer is kept: a day, within which a client that lost its answer has long asked again.
const KEPT_SECONDS: u32 = 24 * 60 * 60;
/// Keys that one caller may have kept at a time, half a KiB each: 50 MiB. It is one write a second, day and night; who
/// writes more has a use for it that is not to come by an answer that was lost.
const MAX_KEYS_OF_CALLER: i64 = 100_000;
/// Rows that go with one write: many more than the one that comes, so that those of a busy day go soon, and still
/// less work than the write itself.
const REMOVED_AT_ONCE: i64 = 32;
