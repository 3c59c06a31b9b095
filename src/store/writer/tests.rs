use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{FutureExt, future::join_all};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::{
    crypto::KeyId,
    domain::{Error, OkmsId, SecretChange, SecretPath, Wanted},
    store::{
        Connection, DatabaseUrl, Decision, Store, StoreError, StoredSnapshot,
        connection::{execute, fetch_all},
        engine::Engine,
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

/// Holds the writer until all that is queued behind it makes one batch.
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
    let release = async {
        begun.acquire().await.unwrap().forget();
        // Each unit is in the queue once its future was polled, and they are polled before this.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        go_on.add_permits(1);
    };
    let (held, worked, ()) = tokio::join!(holding, work, release);
    held.unwrap();
    worked
}

#[tokio::test]
async fn a_unit_that_fails_harms_no_other_of_its_batch() {
    for failing in [Then::Refuse, Then::Panic, Then::Repeat, Then::RefuseFirst] {
        let (store, _folder) = store().await;
        let units = (0..50).map(|number| {
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
        let expected: Vec<i64> = (0..50).filter(|number| number % 10 != 7).collect();
        assert_eq!(numbers(&store).await, expected, "{failing:?}");
        // And the writer lives on.
        assert_eq!(write(&store, 100, Then::Succeed).await, Ok(100));
        // What was committed is counted as it was, besides two of one unit; one more held the others up.
        let measures = store.measures().writer.unwrap();
        let groups: u64 = measures.groups.iter().map(|(_, groups)| groups).sum();
        let expected = if failing == Then::RefuseFirst { (1, 51) } else { (46, 46) };
        assert_eq!((groups - 2, measures.units - 2), expected, "{failing:?}");
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
