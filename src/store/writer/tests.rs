use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::sync::{Semaphore, oneshot};

use super::{BATCH_SIZE, Commits, Job, LEAST_HALF, Queued, batch_size, run_all};
use crate::{
    crypto::{
        Incarnation, KeyHash, KeyId, RowMac, SealedData, SealedOutcome, TokenHash, TokenKeyId,
        TokenMac,
    },
    domain::{
        CustomMetadata, Error, NewVersion, OkmsId, Secret, SecretChange, SecretConfig, SecretPath,
        Timestamp, Token, TokenBinding, TokenId, Version, VersionId, Wanted,
    },
    store::{
        self, Connection, DatabaseUrl, Decision, OnceKey, SecretProof, Store, StoreError,
        StoredSnapshot, TokenProof, TokenWrite, VersionProof,
        connection::{execute, fetch_all},
        engine::Engine,
        row_cache::{Changed, SecretKey},
        transaction::{About, Tx, defer},
    },
};

/// What a unit of work does after it has written its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Succeed,
    Refuse,
    Panic,
    /// Breaks a constraint of the database.
    Repeat,
    /// Refuses before it writes.
    RefuseFirst,
}

async fn store() -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
    let store = Store::open(&url).await.unwrap();
    store
        .write(|tx| {
            async move {
                tx.wrote = true;
                execute!(
                    &mut tx.connection,
                    "CREATE TABLE numbers (number INTEGER UNIQUE) STRICT"
                )?;
                Ok(())
            }
            .boxed()
        })
        .await
        .unwrap();
    (store, folder)
}

async fn insert(tx: &mut Tx<'_>, number: i64) -> Result<(), StoreError> {
    tx.wrote = true;
    execute!(&mut tx.connection, "INSERT INTO numbers (number) VALUES ($1)", number)?;
    Ok(())
}

async fn write(store: &Store, number: i64, then: Then) -> Result<i64, Error> {
    store
        .write(move |tx| {
            async move {
                if then == Then::RefuseFirst {
                    return Err(Error::Forbidden("x").into());
                }
                insert(tx, number).await?;
                match then {
                    Then::Succeed | Then::RefuseFirst => Ok(number),
                    Then::Refuse => Err(Error::Forbidden("x").into()),
                    Then::Panic => panic!("as the test wants it"),
                    Then::Repeat => insert(tx, number).await.map(|()| number),
                }
            }
            .boxed()
        })
        .await
}

async fn numbers(store: &Store) -> Vec<i64> {
    let sql = "SELECT number FROM numbers ORDER BY number";
    let rows =
        store.read(move |connection| async move { fetch_all!(connection, (i64,), sql) }.boxed());
    rows.await.unwrap().into_iter().map(|(number,)| number).collect()
}

/// Holds the writer with a unit of its own until all other units are queued behind it. Fewer than two
/// [halves](LEAST_HALF) of them are then one batch.
async fn in_one_batch<T>(store: &Store, work: impl Future<Output = T>) -> T {
    let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (has_begun, may_go_on) = (begun.clone(), go_on.clone());
    let holding = store.write(move |_| {
        let (begun, go_on) = (has_begun.clone(), may_go_on.clone());
        async move {
            begun.add_permits(1);
            go_on.acquire().await.map(drop).map_err(|_| Error::Forbidden("x"))?;
            Ok(())
        }
        .boxed()
    });
    let behind = async {
        begun.acquire().await.unwrap().forget();
        let release = async {
            // Each unit is in the queue once its future was polled; tokio may need a few turns to poll them all.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            go_on.add_permits(1);
        };
        tokio::join!(work, release).0
    };
    let (held, worked) = tokio::join!(holding, behind);
    held.unwrap();
    worked
}

#[test]
fn of_many_who_write_one_half_is_written_at_a_time() {
    assert_eq!(batch_size(0, 1), 2 * LEAST_HALF);
    assert_eq!(batch_size(1, 30), 2 * LEAST_HALF, "all of few");
    assert_eq!(batch_size(64, 0), 32, "all came at once, and come again");
    assert_eq!(batch_size(32, 32), 32);
    assert_eq!(batch_size(1, 64), 32);
    assert_eq!(batch_size(0, 4_096), BATCH_SIZE);
    // However it begins, it comes to that.
    let (mut last, mut waiting) = (1, 63);
    for _ in 0..10 {
        let now = batch_size(last, waiting).min(waiting);
        // Those of the batch before have their answers, and ask again.
        (last, waiting) = (now, waiting - now + last);
    }
    assert_eq!((last, waiting), (32, 32));
}

#[tokio::test]
async fn a_unit_that_fails_harms_no_other_of_its_batch() {
    for failing in [Then::Refuse, Then::Panic, Then::Repeat, Then::RefuseFirst] {
        let (store, _folder) = store().await;
        let units = (0..30).map(|number| {
            let then = if number % 10 == 7 { failing } else { Then::Succeed };
            write(&store, number, then)
        });
        let results = in_one_batch(&store, join_all(units)).await;
        for (number, result) in (0..).zip(results) {
            match (failing, result) {
                (_, Ok(done)) => {
                    assert_eq!(done, number);
                    assert_ne!(number % 10, 7);
                }
                (Then::Refuse | Then::RefuseFirst, Err(error)) => {
                    assert_eq!((number % 10, error), (7, Error::Forbidden("x")));
                }
                (_, Err(Error::Internal(_))) => assert_eq!(number % 10, 7),
                (_, Err(error)) => panic!("{failing:?} {number}: {error:?}"),
            }
        }
        // The table takes no number twice, so each was written exactly once.
        let expected: Vec<i64> = (0..30).filter(|number| number % 10 != 7).collect();
        assert_eq!(numbers(&store).await, expected, "{failing:?}");
        // And the writer lives on.
        assert_eq!(write(&store, 100, Then::Succeed).await, Ok(100));
        // What was committed is counted as it was, besides three of one unit: the table's, what held the others up,
        // and the last.
        let measures = store.measures().writer.unwrap();
        let groups: u64 = measures.groups.iter().map(|(_, groups)| groups).sum();
        let expected = if failing == Then::RefuseFirst { (1, 30) } else { (27, 27) };
        assert_eq!((groups - 3, measures.units - 3), expected, "{failing:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_batch_is_one_transaction_until_a_unit_spoils_it() {
    let (store, _folder) = store().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let units = (0..20).map(|number| {
        let runs = runs.clone();
        store.write(move |tx| {
            runs.fetch_add(1, Ordering::SeqCst);
            insert(tx, number).boxed()
        })
    });
    in_one_batch(&store, join_all(units)).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(runs.load(Ordering::SeqCst), 20, "nothing was run again");
    assert_eq!(numbers(&store).await.len(), 20);
    store.close().await;
}

fn about(path: &str) -> About {
    let secret = (OkmsId::new(uuid::Uuid::nil()), SecretPath::parse(path).unwrap());
    About { secret, key_id: None, is_repeatable: false }
}

/// Writes a number with those of other units.
async fn insert_later(tx: &mut Tx<'_>, number: i64) -> Result<i64, StoreError> {
    tx.wrote = true;
    defer!(tx, Change, "INSERT INTO numbers (number) VALUES ($1)", number)?;
    Ok(number)
}

/// Writes how many numbers there are, and counts that it was run.
async fn insert_count(tx: &mut Tx<'_>, runs: Arc<AtomicUsize>) -> Result<i64, StoreError> {
    runs.fetch_add(1, Ordering::SeqCst);
    let sql = "SELECT number FROM numbers";
    let numbers = fetch_all!(&mut tx.connection, (i64,), sql)?;
    insert_later(tx, i64::try_from(numbers.len()).unwrap()).await
}

#[tokio::test]
async fn what_a_unit_deferred_is_its_own_failure() {
    let (store, _folder) = store().await;
    assert_eq!(write(&store, 7, Then::Succeed).await, Ok(7));
    let units = (0..20).map(|number| {
        let about = about(&number.to_string());
        store.write_about(about, move |tx| insert_later(tx, number).boxed())
    });
    for (number, result) in (0..).zip(in_one_batch(&store, join_all(units)).await) {
        match number {
            7 => assert!(matches!(result, Err(Error::Internal(_))), "{result:?}"),
            _ => assert_eq!(result, Ok(number)),
        }
    }
    assert_eq!(numbers(&store).await, (0..20).collect::<Vec<_>>());
    store.close().await;
}

#[tokio::test]
async fn what_is_deferred_is_there_for_whoever_may_depend_on_it() {
    let (store, _folder) = store().await;
    let runs = Arc::new(AtomicUsize::new(0));
    // Some about one secret, and some about none.
    let units = (0..20).map(|unit| {
        let (store, runs) = (&store, runs.clone());
        let all = async move {
            match unit % 4 {
                3 => store.write(move |tx| insert_count(tx, runs.clone()).boxed()).await,
                _ => {
                    store
                        .write_about(about("x"), move |tx| insert_count(tx, runs.clone()).boxed())
                        .await
                }
            }
        };
        all.boxed()
    });
    let counts = in_one_batch(&store, join_all(units)).await;
    let counts: Vec<_> = counts.into_iter().map(Result::unwrap).collect();
    assert_eq!(counts, (0..20).collect::<Vec<_>>());
    assert_eq!(runs.load(Ordering::SeqCst), 20, "nothing was run again");
    store.close().await;
}

/// Makes a domain with a key and a secret `x`, whose rows prove nothing.
async fn domain(store: &Store) -> (OkmsId, SecretPath) {
    store
        .write(|tx| {
            async move {
                tx.wrote = true;
                for sql in [
                    "INSERT INTO domains VALUES ('00000000-0000-0000-0000-000000000000', 'd', 'eu', 0, 0, 0, '0s')",
                    "INSERT INTO domain_keys (key_id, okms_id, generation, wrapped_key, uses, created_at) \
                     SELECT 1, okms_id, 1, x'', 0, 0 FROM domains",
                    "INSERT INTO secrets (okms_id, path, cas_required, max_versions, deactivate_version_after, \
                     custom_metadata, current_version, oldest_version, created_at, updated_at, key_id, incarnation, \
                     state_changes, mac) SELECT okms_id, 'x', 0, 0, '0s', '{}', 0, 0, 0, 0, 1, zeroblob(16), x'', \
                     zeroblob(32) FROM domains",
                ] {
                    execute!(&mut tx.connection, sql)?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
        .unwrap();
    (OkmsId::new(uuid::Uuid::nil()), SecretPath::parse("x").unwrap())
}

/// Asks for a change of a secret that changes nothing: whether it found that secret.
async fn look(store: &Store, (okms_id, path): (OkmsId, SecretPath)) -> Result<bool, Error> {
    let (saw, seen) = std::sync::mpsc::channel();
    let decide = move |snapshot: &StoredSnapshot| {
        saw.send(snapshot.secret.is_some()).unwrap();
        let change = SecretChange::Keep(Vec::new());
        Ok(Decision { change, secret: None, versions: Vec::new(), outcome: None })
    };
    let key_id = KeyId::from_stored(1);
    store.change_secret(okms_id, path, Wanted::Nothing, key_id, None, decide).await?;
    Ok(seen.try_iter().last().unwrap())
}

#[tokio::test]
async fn what_is_read_ahead_is_what_is_there_once_it_is_decided_on() {
    let (store, _folder) = store().await;
    let secret = domain(&store).await;
    let (okms_id, path) = secret.clone();
    let in_turn =
        async { tokio::join!(look(&store, secret.clone()), look(&store, secret.clone())) };
    assert_eq!(in_one_batch(&store, in_turn).await, (Ok(true), Ok(true)));
    let in_turn = async {
        let deleted = store.delete_secret(okms_id, path);
        tokio::join!(look(&store, secret.clone()), deleted, look(&store, secret.clone()))
    };
    assert_eq!(in_one_batch(&store, in_turn).await, (Ok(true), Ok(true), Ok(false)));
    let in_turn =
        async { tokio::join!(store.delete_domain(okms_id), look(&store, secret.clone())) };
    assert_eq!(in_one_batch(&store, in_turn).await, (Ok(true), Err(Error::DomainNotFound)));
    store.close().await;
}

/// A store in which nothing happens in the background, with a secret `x` that is kept in memory.
async fn store_that_keeps_a_secret() -> (Store, TempDir, SecretKey) {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
    let store = Store::open_with(&url, Commits::Each).await.unwrap();
    let secret = domain(&store).await;
    store
        .write(|tx| {
            async move {
                tx.wrote = true;
                for sql in [
                    "INSERT INTO store_keys (store_key_id, created_at) VALUES ('s', 0)",
                    "INSERT INTO token_keys (id, token_key_id, store_key_id, wrapped_key) \
                     VALUES (1, 'k', 's', x'')",
                ] {
                    execute!(&mut tx.connection, sql)?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
        .unwrap();
    read(&store, &secret).await;
    assert!(is_kept(&store, &secret));
    (store, folder, secret)
}

/// Reads a secret, which keeps it.
async fn read(store: &Store, (okms_id, path): &SecretKey) {
    let found = store.find_secret(*okms_id, path, None, true, None).await.unwrap();
    assert!(found.is_some());
}

fn is_kept(store: &Store, secret: &SecretKey) -> bool {
    store.engine.cache().unwrap().secret(secret, None).is_some()
}

/// Changes the secret `y`, whose row then has this MAC. Its rows prove nothing.
async fn change(
    store: &Store,
    okms_id: OkmsId,
    change: SecretChange,
    mac: u8,
    once: Option<OnceKey>,
) -> store::Changed {
    let sealed = Some(SealedData::from_stored(vec![mac; 40]));
    let mac = RowMac::from_stored(&[mac; 32]).unwrap();
    let versions = vec![VersionProof { state_changes: 0, mac: mac.clone(), sealed }];
    let incarnation = Incarnation::from_stored(&[1; 16]).unwrap();
    let secret = Some(SecretProof { incarnation, state_changes: Default::default(), mac });
    let outcome = once.is_some().then(|| SealedOutcome::from_stored(vec![1; 40]));
    let decision = Decision { change, secret, versions, outcome };
    let decide = move |_: &StoredSnapshot| Ok(decision.clone());
    let (path, key_id) = (SecretPath::parse("y").unwrap(), KeyId::from_stored(1));
    store.change_secret(okms_id, path, Wanted::Nothing, key_id, once, decide).await.unwrap()
}

#[tokio::test]
async fn what_a_change_of_another_secret_leaves_alone_is_still_kept() {
    let (store, _folder, kept) = store_that_keeps_a_secret().await;
    let (okms_id, path) = (kept.0, SecretPath::parse("y").unwrap());
    let at = Timestamp::from_millis(0);
    let secret = |current_version| Secret {
        path: path.clone(),
        config: SecretConfig::default(),
        custom_metadata: CustomMetadata::default(),
        current_version,
        oldest_version: 1,
        created_at: at,
        updated_at: at,
    };
    let version = |id| {
        let id = VersionId::new(id).unwrap();
        Some(NewVersion { id, created_at: at, deactivated_at: None })
    };
    let update = |current_version, version| {
        let secret = secret(current_version);
        SecretChange::Update { secret, version, prune_through: None }
    };
    let id = VersionId::new(1).unwrap();
    let closed = Version { id, created_at: at, deactivated_at: Some(at), deleted: false };
    for (done, mac) in [
        (SecretChange::Insert { secret: secret(1), version: version(1) }, 1),
        (update(2, version(2)), 2),
        (update(2, None), 3),
        (SecretChange::SetVersions(vec![closed]), 4),
        (SecretChange::Keep(Vec::new()), 4),
    ] {
        let told = format!("{done:?}");
        change(&store, okms_id, done, mac, None).await;
        assert!(is_kept(&store, &kept), "{told}");
    }
    // One that is done once, and asked for again.
    let caller = KeyHash::of_caller(okms_id, b"caller");
    let once = OnceKey { hash: caller.of_key("key"), caller, now: at };
    let changed = change(&store, okms_id, update(3, version(3)), 5, Some(once.clone())).await;
    assert!(matches!(changed, store::Changed::Done(..)) && is_kept(&store, &kept));
    let changed = change(&store, okms_id, update(3, version(3)), 5, Some(once)).await;
    assert!(matches!(changed, store::Changed::Before(_)) && is_kept(&store, &kept));
    let absent = SecretPath::parse("absent").unwrap();
    for (path, is_there) in [(absent, false), (path, true)] {
        assert_eq!(store.delete_secret(okms_id, path).await, Ok(is_there));
        assert!(is_kept(&store, &kept));
    }
    assert_eq!(store.delete_domain(okms_id).await, Ok(true));
    assert!(!is_kept(&store, &kept));
    store.close().await;
}

#[tokio::test]
async fn tokens_take_nothing_away_from_what_is_kept() {
    let (store, _folder, kept) = store_that_keeps_a_secret().await;
    let now = Timestamp::from_millis(0);
    let id = TokenId::new(uuid::Uuid::nil());
    let token = Token {
        id,
        okms_id: kept.0,
        identity_urns: Vec::new(),
        description: String::new(),
        created_at: now,
        expires_at: now,
        revoked_at: None,
        binding: Some(TokenBinding { fingerprint: [0; 32], credential_id: None }),
    };
    let hash = TokenHash::from_stored(&[0; 32]).unwrap();
    let mac = TokenMac::from_stored(&[0; 32]).unwrap();
    let proof = TokenProof { key_id: TokenKeyId::from_stored("k".to_owned()), mac };
    let replaced = TokenProof { key_id: TokenKeyId::from_stored("l".to_owned()), ..proof.clone() };
    let inserted = store.insert_token(token.clone(), hash, replaced).await;
    assert_eq!(inserted, Ok(TokenWrite::KeyReplaced));
    assert!(is_kept(&store, &kept));
    assert_eq!(store.insert_token(token, hash, proof.clone()).await, Ok(TokenWrite::Done));
    assert!(is_kept(&store, &kept));
    // Later, at the same time, and earlier, which it does not come to.
    for (end, stored) in [(5, 5), (5, 5), (4, 5)] {
        let end = Timestamp::from_millis(end);
        let prolonged = store.prolong_token(id, end, proof.clone()).await;
        assert_eq!(prolonged, Ok(TokenWrite::Done));
        assert!(is_kept(&store, &kept));
        let found = store.find_token(hash).await.unwrap().unwrap();
        assert_eq!(found.token.expires_at, Timestamp::from_millis(stored));
    }
    for later in [7, 8] {
        assert_eq!(store.revoke_token(id, Timestamp::from_millis(later)).await, Ok(true));
        assert!(is_kept(&store, &kept));
        let found = store.find_token(hash).await.unwrap().unwrap();
        assert_eq!(found.token.revoked_at, Some(Timestamp::from_millis(7)));
    }
    let end = Timestamp::from_millis(9);
    assert_eq!(store.prolong_token(id, end, proof).await, Ok(TokenWrite::Refused));
    for count in [1, 0] {
        assert_eq!(store.remove_ended_tokens(end).await, Ok(count));
        assert!(is_kept(&store, &kept));
    }
    assert_eq!(store.revoke_token(id, end).await, Ok(false));
    assert!(is_kept(&store, &kept));
    store.close().await;
}

/// A batch of one unit.
fn batch<F>(about: Option<About>, unit: F) -> VecDeque<Box<dyn Job>>
where
    F: for<'a, 'c> Fn(&'a mut Tx<'c>) -> BoxFuture<'a, Result<(), StoreError>>
        + Send
        + Sync
        + 'static,
{
    let (answer, _) = oneshot::channel();
    let job: Box<dyn Job> =
        Box::new(Queued::<()> { about, unit: Arc::new(unit), result: None, answer });
    VecDeque::from([job])
}

/// What a batch says that it changed.
async fn told(connection: &mut SqliteConnection, mut batch: VecDeque<Box<dyn Job>>) -> Changed {
    let mut tx = Tx::new(Connection::Sqlite(connection));
    run_all(&mut batch, &mut tx).await.unwrap()
}

#[tokio::test]
async fn a_batch_tells_what_it_changed_only_where_it_surely_did() {
    let (store, folder) = store().await;
    let file = SqliteConnectOptions::new().filename(folder.path().join("x.sqlite"));
    let mut own = file.connect().await.unwrap();
    let secrets = || Changed::Secrets(vec![about("y").secret]);
    // Of each unit: whether it is about a secret, has surely changed something, and spares what is kept.
    for (units, expected) in [
        (vec![(true, false, false)], Changed::Anything),
        (vec![(true, true, false)], secrets()),
        (vec![(false, true, false)], Changed::Anything),
        (vec![(false, false, true)], Changed::Anything),
        (vec![(false, true, true)], Changed::Secrets(Vec::new())),
        (vec![(true, false, false), (false, true, true)], secrets()),
        (vec![(false, true, true), (true, false, false)], secrets()),
        // What one unit says does not hold for the next.
        (vec![(false, true, true), (false, false, false)], Changed::Anything),
    ] {
        let batches = units.iter().flat_map(|&(is_about, surely_changed, spares_kept_rows)| {
            batch(is_about.then(|| about("y")), move |tx| {
                tx.surely_changed |= surely_changed;
                tx.spares_kept_rows |= spares_kept_rows;
                async { Ok(()) }.boxed()
            })
        });
        assert_eq!(told(&mut own, batches.collect()).await, expected, "{units:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_commit_of_another_process_is_not_taken_for_one_that_changed_nothing() {
    let (store, folder, kept) = store_that_keeps_a_secret().await;
    let cache = store.engine.cache().unwrap();
    let file = SqliteConnectOptions::new().filename(folder.path().join("x.sqlite"));
    let (mut own, mut other) = (file.connect().await.unwrap(), file.connect().await.unwrap());
    for sql in [
        None,
        Some("DELETE FROM secrets WHERE path = 'absent'"),
        Some("UPDATE secrets SET updated_at = updated_at"),
    ] {
        read(&store, &kept).await;
        assert!(is_kept(&store, &kept));
        let nothing = batch(Some(about("y")), move |tx| {
            async move {
                let Some(sql) = sql else { return Err(Error::Forbidden("x").into()) };
                tx.wrote = true;
                execute!(&mut tx.connection, sql)?;
                Ok(())
            }
            .boxed()
        });
        execute!(&mut Connection::Sqlite(&mut own), "BEGIN IMMEDIATE").unwrap();
        let changed = told(&mut own, nothing).await;
        let commit = cache.commit();
        execute!(&mut Connection::Sqlite(&mut own), "COMMIT").unwrap();
        // Before the commit that was none is looked at.
        let revoked = "UPDATE secrets SET updated_at = updated_at + 1";
        execute!(&mut Connection::Sqlite(&mut other), revoked).unwrap();
        commit.done(changed);
        assert!(!is_kept(&store, &kept), "{sql:?}");
    }
    own.close().await.unwrap();
    other.close().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_written_when_others_let_go() {
    let (store, folder) = store().await;
    let file = SqliteConnectOptions::new().filename(folder.path().join("x.sqlite"));
    let mut other = file.connect().await.unwrap();
    execute!(&mut Connection::Sqlite(&mut other), "BEGIN IMMEDIATE").unwrap();
    let Engine::Sqlite { writer, .. } = &*store.engine else { panic!("SQLite") };
    let begins = async {
        // Until the writer has taken it, and waits for the other to let go.
        while writer.measures().waiting > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        written = write(&store, 1, Then::Succeed) => panic!("{written:?}"),
        () = begins => {}
    }
    execute!(&mut Connection::Sqlite(&mut other), "ROLLBACK").unwrap();
    assert_eq!(write(&store, 2, Then::Succeed).await, Ok(2));
    assert_eq!(numbers(&store).await, [2]);
    store.close().await;
}

#[tokio::test]
async fn what_is_queued_when_the_store_closes_is_written() {
    let (store, _folder) = store().await;
    let units = join_all((0..20).map(|number| write(&store, number, Then::Succeed)));
    let written = in_one_batch(&store, async {
        let (written, ()) = tokio::join!(units, async {
            tokio::task::yield_now().await;
            tokio::spawn({
                let store = store.clone();
                async move { store.close().await }
            });
        });
        written
    });
    let written = written.await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    assert!(matches!(write(&store, 99, Then::Succeed).await, Err(Error::Unavailable(_))));
}
