//! Storage that fails: an error in time, never a false success, and no restart to recover.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, Executor};

use crate::{
    codes::UNAVAILABLE,
    support::{Database, Domain, Engine, Proxy, Schema, Server, postgres_is_at_hand},
};

/// A server that reaches PostgreSQL over a line that can be cut.
async fn behind_a_line() -> (Server, Proxy) {
    let proxy = Proxy::start().await;
    let schema = Schema::create().await.through(proxy.base.clone());
    (Server::start_in(Database::Postgres(schema)).await, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_to_postgres_is_a_503_until_it_is_mended() {
    if !postgres_is_at_hand() {
        return;
    }
    let (server, proxy) = behind_a_line().await;
    let domain = server.domain().await;
    domain.create("a", r#"{"k":"v"}"#).await;
    // So that the pool has many connections to lose.
    let target = domain.secret("a");
    join_all((0..40).map(|_| domain.client.get(&target))).await;
    for _ in 0..2 {
        proxy.cut();
        let begun = Instant::now();
        domain.client.get(&domain.secret("a")).await.error(503, UNAVAILABLE);
        let version = r#"{"data":{"k":"lost"}}"#;
        domain.client.post(&domain.secret("a/version"), version).await.error(503, UNAVAILABLE);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        proxy.mend();
        let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
        assert_eq!(read["version"]["data"]["k"], "v", "what was refused was not done");
    }
    domain.client.post(&domain.secret("a/version"), r#"{"data":{}}"#).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_backends_of_postgres_are_replaced() {
    if !postgres_is_at_hand() {
        return;
    }
    let (server, proxy) = behind_a_line().await;
    let domain = server.domain().await;
    domain.create("a", r#"{"k":"v"}"#).await;
    let mut connection = server.database.postgres().await;
    for _ in 0..5 {
        // All at work at the same time, so that there are many to end.
        let target = domain.secret("a");
        let reads = (0..60).map(|_| domain.client.get(&target));
        for answer in join_all(reads).await {
            answer.ok();
        }
        let list = format!("{:?}", proxy.processes());
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{list}) pid \
             WHERE pid <> pg_backend_pid()"
        );
        connection.execute(sqlx::AssertSqlSafe(end)).await.expect("the right to do so");
        // Nobody notices: a read is done again, and so is a write that had not begun.
        domain.client.get(&target).await.ok();
        domain.client.post(&domain.secret("a/version"), r#"{"data":{}}"#).await.ok();
    }

    // Ended in the middle of writing: whatever was acknowledged is there, and nothing is there twice.
    let writes = (0..200).map(|number| {
        let (client, target) = (&domain.client, domain.secret("a/version"));
        async move { client.post(&target, json!({ "data": { "n": number } })).await }
    });
    let ends = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let list = format!("{:?}", proxy.processes());
            let end = format!(
                "SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{list}) pid \
                 WHERE pid <> pg_backend_pid()"
            );
            connection.execute(sqlx::AssertSqlSafe(end)).await.expect("the right to do so");
        }
    };
    domain.client.put(&domain.secret("a"), r#"{"maxVersions":1000}"#).await.ok();
    let (answers, ()) = tokio::join!(join_all(writes), ends);
    let mut numbers = Vec::new();
    for (number, answer) in answers.iter().enumerate() {
        if answer.status == 200 {
            let id = answer.value()["id"].as_u64().expect("a number");
            let target = domain.secret(&format!("a/version/{id}?includeData=true"));
            let found = domain.client.get(&target).await.ok();
            assert_eq!(found["data"]["n"], number, "an acknowledged write is there");
            numbers.push(id);
        } else {
            answer.error(503, UNAVAILABLE);
        }
    }
    let given = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), given, "a number was given twice");
    assert!(given > 20, "only {given} of 200 writes got through");
    connection.close().await.expect("to close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_of_postgres_is_a_503_in_time() {
    if !postgres_is_at_hand() {
        return;
    }
    let server = Server::start(Engine::Postgres).await;
    let domain = server.domain().await;
    domain.create("a", r#"{"k":"v"}"#).await;
    let mut locker = server.database.postgres().await;
    let lock = "BEGIN; LOCK TABLE secrets IN ACCESS EXCLUSIVE MODE";
    locker.execute(lock).await.expect("a lock");
    let begun = Instant::now();
    let (a, version) = (domain.secret("a"), domain.secret("a/version"));
    let (read, write, ()) = tokio::join!(
        domain.client.get(&a),
        domain.client.post(&version, r#"{"data":{}}"#),
        async {
            // What does not need the table goes on.
            tokio::time::sleep(Duration::from_secs(1)).await;
            domain.client.get(&format!("{}/secretConfig", domain.base)).await.ok();
        }
    );
    read.error(503, UNAVAILABLE);
    write.error(503, UNAVAILABLE);
    assert!(begun.elapsed() < Duration::from_secs(28), "{:?}", begun.elapsed());
    locker.execute("ROLLBACK").await.expect("to unlock");
    only_first_version(&domain).await;

    // A lock that ends in time is only a delay.
    locker.execute(lock).await.expect("a lock");
    let (read, ()) = tokio::join!(domain.client.get(&a), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        locker.execute("ROLLBACK").await.expect("to unlock");
    });
    read.ok();
    locker.close().await.expect("to close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_sqlite_file_is_a_503_in_time() {
    let server = Server::start(Engine::Sqlite).await;
    let domain = server.domain().await;
    domain.create("a", r#"{"k":"v"}"#).await;
    let mut locker = server.database.sqlite().await;

    // A lock that ends in time is only a delay.
    locker.execute("BEGIN IMMEDIATE").await.expect("a lock");
    let a = domain.secret("a");
    let (write, ()) = tokio::join!(domain.client.put(&a, r#"{"maxVersions":9}"#), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        locker.execute("ROLLBACK").await.expect("to unlock");
    });
    write.ok();

    locker.execute("BEGIN IMMEDIATE").await.expect("a lock");
    let begun = Instant::now();
    let version = domain.secret("a/version");
    let writes = (0..20).map(|_| domain.client.post(&version, r#"{"data":{}}"#));
    let reads = async {
        while begun.elapsed() < Duration::from_secs(8) {
            domain.client.get(&domain.secret("a?includeData=true")).await.ok();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (writes, ()) = tokio::join!(join_all(writes), reads);
    for write in writes {
        write.error(503, UNAVAILABLE);
    }
    assert!(begun.elapsed() < Duration::from_secs(28), "{:?}", begun.elapsed());
    locker.execute("ROLLBACK").await.expect("to unlock");
    only_first_version(&domain).await;
    domain.client.post(&version, r#"{"data":{}}"#).await.ok();
    locker.close().await.expect("to close");
}

/// What was refused was not done, neither then nor later.
async fn only_first_version(domain: &Domain) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["metadata"]["currentVersion"], 1, "{read}");
    assert_eq!(read["version"]["data"]["k"], "v");
}
