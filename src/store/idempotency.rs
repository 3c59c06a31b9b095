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
    let kept = Kept::at(once.now);
    if let Some(row) = row.filter(|row| row.created_at > kept.after) {
        // A commit whose standby was lost before it confirmed can be seen, and is not safe yet. Where this
        // transaction writes as well, its own commit waits until both are.
        // On SQLite nothing is written: the column is in no index, whose pages would be.
        tx.wrote = true;
        let sql = "UPDATE idempotency_keys SET sealed_outcome = sealed_outcome WHERE key_hash = $1";
        execute!(connection, sql, hash)?;
        return Ok(Earlier::Done(row.outcome()));
    }
    let caller = &once.caller.as_bytes()[..];
    // Those that a clock which was put right since left far ahead count no more: they stay for so long.
    let sql = "SELECT f.number, f.created_at, l.number FROM \
               (SELECT MAX(number) AS number FROM idempotency_keys \
               WHERE okms_id = $1 AND caller = $2) l \
               LEFT JOIN (SELECT number, created_at FROM idempotency_keys \
               WHERE okms_id = $1 AND caller = $2 AND created_at <= $3 \
               ORDER BY number LIMIT 1) f ON 1 = 1";
    let until = kept.until;
    let row = fetch_optional!(connection, NumbersRow, sql, okms_id, caller, until)?;
    let (first, first_created_at, last) = row.unwrap_or_default();
    // Where the first is over, there are fewer that are not, and the write removes more of those that are than it
    // adds.
    if let (Some(first), Some(created_at), Some(last)) = (first, first_created_at, last)
        && created_at > kept.after
        && last.saturating_sub(first) >= MAX_KEYS_OF_CALLER
    {
        let retry_seconds = kept.seconds_of(created_at);
        return Err(Error::Idempotency(IdempotencyError::TooMany { retry_seconds }).into());
    }
    Ok(Earlier::None { next: last.map_or(1, |last| last.saturating_add(1)) })
}

/// The first key of a caller that counts, when it was kept, and the last of all.
type NumbersRow = (Option<i64>, Option<i64>, Option<i64>);

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
    tx.surely_changed = true;
    Ok(())
}

/// Removes some rows that are over.
///
/// Only a write with a key does, and few: one server whose clock is wrong would remove all that others count on.
async fn remove_over(connection: &mut Connection<'_>, now: Timestamp) -> Result<(), sqlx::Error> {
    let sql = delete_some!(
        connection,
        "idempotency_keys",
        "key_hash",
        "WHERE created_at <= $1 ORDER BY created_at LIMIT $2"
    );
    execute!(connection, sql, Kept::at(now).after, REMOVED_AT_ONCE).map(|_| ())
}

/// When rows were made that count for the limit of their caller.
struct Kept {
    after: i64,
    until: i64,
}

impl Kept {
    fn at(now: Timestamp) -> Self {
        let until = now.plus_seconds(KEPT_SECONDS.into()).as_millis();
        Self { after: now.minus_seconds(KEPT_SECONDS).as_millis(), until }
    }

    /// For how many seconds a row that counts goes on doing so: 1 to a day, also where it was made later than now.
    fn seconds_of(&self, created_at: i64) -> u32 {
        let millis = created_at.saturating_sub(self.after);
        let seconds = u32::try_from(millis.saturating_add(999) / 1_000).unwrap_or(KEPT_SECONDS);
        seconds.clamp(1, KEPT_SECONDS)
    }
}

impl Store {
    /// Outcomes of a domain and what they are found by, in the order of that, after one of them.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where a row cannot be read; or when storage fails.
    pub async fn list_outcomes(
        &self,
        okms_id: OkmsId,
        after: Option<KeyHash>,
        limit: u32,
    ) -> Result<Vec<(KeyHash, StoredOutcome)>, Error> {
        let sql = "SELECT key_hash, key_id, created_at, sealed_outcome FROM idempotency_keys \
                   WHERE okms_id = $1 AND key_hash > $2 ORDER BY key_hash LIMIT $3";
        let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
        let rows = self.read(move |connection| {
            let (okms_id, after) = (okms_id.to_string(), after.clone());
            let limit = i64::from(limit);
            Box::pin(async move { fetch_all!(connection, OutcomeRow, sql, okms_id, after, limit) })
        });
        let read = |row: OutcomeRow| {
            let hash = KeyHash::from_stored(&row.key_hash);
            let broken = |_| Error::Internal("stored hash of an idempotency key".into());
            Ok((hash.map_err(broken)?, row.outcome()))
        };
        rows.await?.into_iter().map(read).collect()
    }

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
                    RESEALED_AT_ONCE
                )?;
                let count = rows.len() as u64;
                tx.wrote = count > 0;
                for row in rows {
                    // On PostgreSQL a write with the same key may have put another row in its place since.
                    let (hash, created_at) = (row.key_hash.clone(), row.created_at);
                    let resealed = match KeyHash::from_stored(&hash) {
                        Ok(hash) => reseal(hash, &row.outcome())?,
                        Err(_) => None,
                    };
                    match resealed {
                        Some(sealed) => {
                            let sql = "UPDATE idempotency_keys SET key_id = $2, \
                                       sealed_outcome = $3 \
                                       WHERE key_hash = $1 AND key_id = $4 AND created_at = $5";
                            let (sealed, to, from) =
                                (sealed.as_bytes(), to.as_i64(), from.as_i64());
                            let connection = &mut tx.connection;
                            execute!(connection, sql, hash, to, sealed, from, created_at)?;
                        }
                        None => {
                            let sql = "DELETE FROM idempotency_keys \
                                       WHERE key_hash = $1 AND key_id = $2 AND created_at = $3";
                            execute!(&mut tx.connection, sql, hash, from.as_i64(), created_at)?;
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

/// How long an answer is kept: a day, within which a client that lost its answer has long asked again. One that was
/// kept while the clock was ahead is kept for longer, as the clock may have been put right just after it; where that is
/// by more than a day, it does not count for the limit, for it stays until then.
const KEPT_SECONDS: u32 = 24 * 60 * 60;
/// Keys that one caller may have kept at a time, half a KiB each: 50 MiB. It is one write a second, day and night; who
/// writes more has a use for it that is not to come by an answer that was lost.
///
/// On PostgreSQL, writes of one caller that are under way at the same time may have the same number, and count as one:
/// there may be as many times more as the caller has writes at a time, which is the connections of all servers at most.
const MAX_KEYS_OF_CALLER: i64 = 100_000;
/// Rows that go with one write: many more than the one that comes, so that those of a busy day go soon, and still
/// less work than the write itself.
const REMOVED_AT_ONCE: i64 = 32;
/// Rows that are sealed anew at once: half a KiB each, some milliseconds.
const RESEALED_AT_ONCE: i64 = 32;
