//! Writes with an `Idempotency-Key`: done once, however often they are sent.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    codes::*,
    rights::{apply, client_of, resource, user},
    support::{Answer, Client, Domain, Engine, Server, both_engines, postgres_is_at_hand},
    write_lock::WriteLock,
};

both_engines!(
    each_write_that_makes_a_version_is_done_once,
    a_key_is_of_its_caller_and_its_domain,
    a_key_of_another_request_is_refused,
    a_key_that_is_none_is_refused,
    a_write_that_fails_keeps_nothing,
    cas_and_a_key_go_together,
    a_key_that_has_no_effect_is_warned_of,
    whoever_asks_again_needs_the_right_again,
    of_two_at_the_same_time_one_is_refused,
    all_servers_know_what_one_has_done_also_after_a_restart,
    a_key_counts_for_a_day,
    a_key_of_a_clock_that_was_far_ahead_is_kept_and_counts_no_more,
    what_is_sealed_and_opened_is_counted,
    a_rotation_of_keys_takes_along_what_is_kept,
    what_is_kept_is_sealed_and_in_its_place,
    a_caller_has_so_many_keys_at_the_most,
    without_the_header_nothing_is_kept,
);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn send(client: &Client, method: Method, path: &str, key: &str, body: &Value) -> Answer {
    let key = format!("\"{key}\"");
    let headers = [("content-type", "application/json"), ("idempotency-key", &key)];
    client.send(method, path, &headers, body.to_string().into()).await
}

async fn add(domain: &Domain, path: &str, key: &str, data: &str) -> Answer {
    let target = domain.secret(&format!("{path}/version"));
    send(&domain.client, Method::POST, &target, key, &json!({ "data": { "k": data } })).await
}

#[track_caller]
fn is_replay(answer: &Answer) -> bool {
    answer.ok();
    match answer.header("idempotent-replayed") {
        None => false,
        Some(value) => {
            assert_eq!(value, "true");
            true
        }
    }
}

async fn each_write_that_makes_a_version_is_done_once(server: Server) {
    let domain = server.domain().await;
    let version = json!({ "data": { "k": "v" } });
    let new = json!({
        "path": "a",
        "metadata": { "customMetadata": { "x": "y" }, "maxVersions": 9, "casRequired": false,
            "deactivateVersionAfter": "1h" },
        "version": version,
    });
    let writes = [
        (Method::POST, format!("{}/secret", domain.base), new, 1),
        (Method::POST, domain.secret("a/version"), version.clone(), 2),
        (Method::PUT, domain.secret("a/version"), version.clone(), 3),
        (
            Method::PUT,
            domain.secret("a"),
            json!({ "metadata": { "customMetadata": { "x": "z" } }, "version": version, "more": 1 }),
            4,
        ),
        (Method::POST, domain.kv("data/a"), json!({ "data": { "k": "w" } }), 5),
        (Method::PATCH, domain.kv("data/a"), json!({ "data": { "l": 1 } }), 6),
        (Method::POST, domain.kv("data/b"), json!({ "data": { "k": "w" } }), 1),
    ];
    for (number, (method, path, body, id)) in writes.into_iter().enumerate() {
        let key = number.to_string();
        let first = send(&domain.client, method.clone(), &path, &key, &body).await;
        assert!(!is_replay(&first), "{method} {path}");
        server.clock.advance(Duration::from_secs(60));
        for _ in 0..2 {
            let again = send(&domain.client, method.clone(), &path, &key, &body).await;
            assert!(is_replay(&again), "{method} {path}");
            assert_eq!(again.text_without_request_id(), first.text_without_request_id());
        }
        let secret = if path.ends_with("/b") { "b" } else { "a" };
        assert_eq!(domain.metadata(secret).await["currentVersion"], id);
        let records = server.records();
        let [.., one, two, three, last] = &records[..] else { panic!("{records:?}") };
        assert_eq!((&last["status"], last["versions"].is_null()), (&json!(200), true), "{last}");
        // Whoever counts what was written can tell the two that were sent again from the first.
        let replays = [one, two, three].map(|record| record["replay"].clone());
        assert_eq!(replays, [Value::Null, json!(true), json!(true)], "{method} {path}");
    }
    // After all that came since, an answer is still what it was.
    let first = add(&domain, "a", "1", "v").await;
    assert_eq!((first.ok()["id"].clone(), is_replay(&first)), (json!(2), true));
    domain.client.delete(&domain.secret("a")).await.gone();
    assert_eq!(add(&domain, "a", "1", "v").await.ok()["id"], 2);
    add(&domain, "a", "other", "v").await.error(404, SECRET_NOT_FOUND);
}

async fn a_key_is_of_its_caller_and_its_domain(server: Server) {
    let (one, two) = (server.domain().await, server.domain().await);
    for domain in [&one, &two] {
        domain.create("a", "{}").await;
        assert!(!is_replay(&add(domain, "a", "k", "v").await));
    }
    let issued = server.credential(one.okms_id, 365).await;
    let key = issued.private_key_pem.expect("a key").to_string();
    let other = server.client(Some((&issued.credential.certificate_pem, &key)));
    let (target, body) = (one.secret("a/version"), json!({ "data": { "k": "v" } }));
    let answer = send(&other, Method::POST, &target, "k", &body).await;
    assert!(!is_replay(&answer));
    assert_eq!(answer.ok()["id"], 3);
    assert!(is_replay(&send(&other, Method::POST, &target, "k", &body).await));
    assert!(is_replay(&add(&one, "a", "k", "v").await));
    assert_eq!(one.versions("a").await, [1, 2, 3]);
}

async fn a_key_of_another_request_is_refused(server: Server) {
    let domain = server.domain().await;
    for path in ["a", "b"] {
        domain.create(path, "{}").await;
    }
    add(&domain, "a", "k", "v").await.ok();
    add(&domain, "a", "k", "w").await.error(422, KEY_REUSED);
    add(&domain, "b", "k", "v").await.error(422, KEY_REUSED);
    let body = json!({ "data": { "k": "v" } });
    let by = |method, target: &str| {
        let (client, target) = (domain.client.clone(), domain.secret(target));
        let body = body.clone();
        async move { send(&client, method, &target, "k", &body).await }
    };
    by(Method::PUT, "a/version").await.error(422, KEY_REUSED);
    by(Method::POST, "a/version?cas=2").await.error(422, KEY_REUSED);
    assert!(is_replay(&by(Method::POST, "a/version").await));
    assert_eq!((domain.versions("a").await.len(), domain.versions("b").await.len()), (2, 1));
}

async fn a_key_that_is_none_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let target = domain.secret("a/version");
    let long = format!("\"{}\"", "x".repeat(256));
    for header in ["", "\"\"", "plain", "\"a", "\"a\", \"b\"", "\"a\";p=1", &long] {
        let headers = [("content-type", "application/json"), ("idempotency-key", header)];
        let body = r#"{"data":{}}"#.into();
        let answer = domain.client.send(Method::POST, &target, &headers, body).await;
        assert!(answer.error(400, MALFORMED).contains("Idempotency-Key"), "{header}");
    }
    let twice = [
        ("content-type", "application/json"),
        ("idempotency-key", "\"a\""),
        ("idempotency-key", "\"a\""),
    ];
    let answer = domain.client.send(Method::POST, &target, &twice, r#"{"data":{}}"#.into()).await;
    answer.error(400, MALFORMED);
    assert_eq!(domain.versions("a").await, [1]);
    add(&domain, "a", &"x".repeat(255), "v").await.ok();
}

async fn a_write_that_fails_keeps_nothing(server: Server) {
    let domain = server.domain().await;
    add(&domain, "a", "k", "v").await.error(404, SECRET_NOT_FOUND);
    domain.create("a", "{}").await;
    let (target, body) = (domain.secret("a/version?cas=7"), json!({ "data": {} }));
    // What it took for itself is free again when its answer is there.
    for _ in 0..20 {
        send(&domain.client, Method::POST, &target, "k", &body).await.error(400, CAS_MISMATCH);
    }
    assert_eq!(kept(&server).await, 0);
    // Nor does it use the key up.
    assert!(!is_replay(&add(&domain, "a", "k", "v").await));
    assert_eq!(kept(&server).await, 1);
}

async fn a_key_that_has_no_effect_is_warned_of(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (target, body) = (domain.secret("a"), json!({ "metadata": { "maxVersions": 3 } }));
    for _ in 0..2 {
        let answer = send(&domain.client, Method::PUT, &target, "k", &body).await;
        assert!(!is_replay(&answer));
        let warnings = answer.ok()["warnings"].clone();
        let expected = "Idempotency-Key has no effect on a change that makes no version";
        assert_eq!(warnings, json!([expected]));
    }
    assert_eq!(kept(&server).await, 0);
    assert_eq!(domain.client.put(&target, &body).await.ok().get("warnings"), None);
    let both = json!({ "metadata": { "maxVersions": 3 }, "version": { "data": {} } });
    let answer = send(&domain.client, Method::PUT, &target, "k", &both).await;
    assert_eq!(answer.ok().get("warnings"), None);
}

async fn cas_and_a_key_go_together(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (target, body) = (domain.secret("a/version?cas=1"), json!({ "data": {} }));
    let first = send(&domain.client, Method::POST, &target, "k", &body).await;
    assert_eq!(first.ok()["id"], 2);
    // Without the key this is what a client that lost its answer is told: a refusal.
    domain.client.post(&target, &body).await.error(400, CAS_MISMATCH);
    let again = send(&domain.client, Method::POST, &target, "k", &body).await;
    assert!(is_replay(&again));
    assert_eq!(again.ok()["id"], 2);
    let kv = json!({ "data": {}, "options": { "cas": 2 } });
    for replays in [false, true] {
        let answer = send(&domain.client, Method::POST, &domain.kv("data/a"), "l", &kv).await;
        assert_eq!(is_replay(&answer), replays);
        assert_eq!(answer.ok()["data"]["version"], 3);
    }
}

async fn whoever_asks_again_needs_the_right_again(server: Server) {
    const CREATE: &str = "okms:apikms:secret/create";
    const ADD: &str = "okms:apikms:secret/version/create";
    let domain = server.domain().await;
    let who = user("a");
    let client = client_of(&server, domain.okms_id, &[&who]).await;
    let here = [resource(domain.okms_id, "")];
    apply(&server, "p", &who, &here, &[("allow", &[CREATE, ADD])]).await;
    let data = json!({ "data": { "k": "v" } });
    let new = json!({ "path": "a", "version": data });
    let writes = [
        (format!("{}/secret", domain.base), new, CREATE, ADD),
        (domain.secret("a/version"), data.clone(), ADD, CREATE),
        (domain.kv("data/b"), data.clone(), CREATE, ADD),
        (domain.kv("data/a"), data.clone(), ADD, CREATE),
    ];
    for (number, (path, body, needed, other)) in writes.iter().enumerate() {
        let key = number.to_string();
        assert!(!is_replay(&send(&client, Method::POST, path, &key, body).await));
        apply(&server, "p", &who, &here, &[("allow", &[other])]).await;
        let text = send(&client, Method::POST, path, &key, body).await.error(403, FORBIDDEN);
        assert_eq!(text, format!("not allowed: {needed} is needed"), "{path}");
        apply(&server, "p", &who, &here, &[("allow", &[needed])]).await;
        assert!(is_replay(&send(&client, Method::POST, path, &key, body).await));
        apply(&server, "p", &who, &here, &[("allow", &[CREATE, ADD])]).await;
    }
    let version = domain.secret("a/version");
    send(&domain.client, Method::POST, &version, "k", &data).await.ok();
    assert!(server.credentials.revoke(domain.credential.id).await.expect("a store"));
    let again = send(&domain.client, Method::POST, &version, "k", &data).await;
    again.error(401, UNAUTHENTICATED);
}

async fn of_two_at_the_same_time_one_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    // On PostgreSQL the second goes to another process.
    let other = match server.engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(server.another().await),
    };
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let elsewhere = other.as_ref().map(|other| other.client(identity));
    let clients = [domain.client.clone(), elsewhere.unwrap_or(domain.client.clone())];
    for client in &clients {
        client.get(&domain.secret("a")).await.ok();
    }
    let lock = WriteLock::take(&server).await;
    let (target, body) = (domain.secret("a/version"), json!({ "data": { "k": "v" } }));
    let mut both = clients.map(|client| {
        let (target, body) = (target.clone(), body.clone());
        Box::pin(async move { send(&client, Method::POST, &target, "k", &body).await })
    });
    let [one, two] = &mut both;
    // Whichever of them is second is told so while the first waits for the lock.
    let (refused, waits) = tokio::select! {
        answer = one.as_mut() => (answer, two),
        answer = two.as_mut() => (answer, one),
    };
    refused.error(409, KEY_IN_PROGRESS);
    lock.release().await;
    let done = waits.await;
    assert!(!is_replay(&done));
    let again = send(&domain.client, Method::POST, &target, "k", &body).await;
    assert!(is_replay(&again));
    assert_eq!((&again.ok()["id"], domain.versions("a").await), (&json!(2), vec![1, 2]));
}

async fn all_servers_know_what_one_has_done_also_after_a_restart(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let first = add(&domain, "a", "k", "v").await;
    server.stop().await;
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    for _ in 0..2 {
        let other = server.another().await;
        let (client, target) = (other.client(identity), domain.secret("a/version"));
        let body = json!({ "data": { "k": "v" } });
        let again = send(&client, Method::POST, &target, "k", &body).await;
        assert!(is_replay(&again));
        assert_eq!(again.text(), first.text());
    }
}

async fn a_key_counts_for_a_day(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for number in 0..40 {
        add(&domain, "a", &number.to_string(), "v").await.ok();
    }
    server.clock.advance(DAY - Duration::from_secs(1));
    assert!(is_replay(&add(&domain, "a", "0", "v").await));
    server.clock.advance(Duration::from_secs(1));
    let anew = add(&domain, "a", "0", "v").await;
    assert!(!is_replay(&anew));
    assert_eq!(anew.ok()["id"], 42);
    assert!(is_replay(&add(&domain, "a", "0", "v").await));
    // Some of those that are over go with each write.
    assert!((1..40).contains(&kept(&server).await));
    add(&domain, "a", "more", "v").await.ok();
    assert_eq!(kept(&server).await, 2);
}

async fn a_key_of_a_clock_that_was_far_ahead_is_kept_and_counts_no_more(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let far = 5 * DAY;
    server.clock.advance(far);
    add(&domain, "a", "ahead", "v").await.ok();
    server.clock.set_back(far);
    // The clock was put right just after the write: it is done once all the same.
    assert!(is_replay(&add(&domain, "a", "ahead", "v").await));
    add(&domain, "a", "first", "v").await.ok();
    // As many as one may have, with the one that is ahead, and one less without it.
    let sql = "UPDATE idempotency_keys SET number = number + 99998 WHERE number = 2";
    server.database.execute(sql).await;
    add(&domain, "a", "last", "v").await.ok();
    add(&domain, "a", "one more", "v").await.ok();
    assert_eq!(kept(&server).await, 4);
}

async fn what_is_sealed_and_opened_is_counted(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let counts = || {
        let counts = server.observed().key_operations();
        (counts.domain_seals, counts.domain_opens)
    };
    let before = counts();
    add(&domain, "a", "k", "v").await.ok();
    assert_eq!(counts(), (before.0 + 2, before.1), "data and outcome");
    add(&domain, "a", "k", "v").await.ok();
    assert_eq!(counts(), (before.0 + 2, before.1 + 1), "the outcome");
}

async fn a_rotation_of_keys_takes_along_what_is_kept(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for number in 0..40 {
        add(&domain, "a", &number.to_string(), "v").await.ok();
    }
    let newest = server.keys.rotate_domain(domain.okms_id).await.expect("a domain");
    // A server does it too, when it comes to that.
    server.keys.rewrap(domain.okms_id, |_| ()).await.expect("a store");
    let old = "SELECT COUNT(*) FROM domain_keys WHERE generation = 1";
    assert_eq!((newest.get(), server.database.number(old).await), (2, 0), "the old key is gone");
    for number in 0..40 {
        assert!(is_replay(&add(&domain, "a", &number.to_string(), "v").await), "{number}");
    }
    server.domains.delete(domain.okms_id).await.expect("a store");
    assert_eq!(kept(&server).await, 0);
}

/// A key goes after a replay has looked, and before it opens what it found. On SQLite nothing comes in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_between_a_look_and_its_answer_is_no_trouble() {
    use sqlx::Executor;
    if !postgres_is_at_hand() {
        return;
    }
    let server = Server::start(Engine::Postgres).await;
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for key in ["1", "2"] {
        add(&domain, "a", key, "v").await.ok();
    }
    // The commit of a replay waits here.
    let mut gate = server.database.postgres().await;
    let sql = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
               'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END'; \
               CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON idempotency_keys DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW WHEN (OLD.key_id = NEW.key_id) EXECUTE FUNCTION wait(); \
               SELECT pg_advisory_lock(42)";
    gate.execute(sql).await.expect("a gate");
    // And sealing anew waits here, with the row of the replay in its hands.
    let mut row = server.database.postgres().await;
    let pid: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut row).await.expect("it");
    let sql = "BEGIN; SELECT 1 FROM idempotency_keys WHERE number = 2 FOR UPDATE";
    row.execute(sql).await.expect("a lock");
    let mut look = server.database.postgres().await;
    let mut wait_for = async |sql: &'static str| {
        for _ in 0..400 {
            let found: i64 =
                sqlx::query_scalar(sql).bind(pid).fetch_one(&mut look).await.expect("a number");
            if found > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("nothing waits: {sql}");
    };
    server.keys.rotate_domain(domain.okms_id).await.expect("a domain");
    let (keys, okms_id) = (server.keys.clone(), domain.okms_id);
    let rewrapped = tokio::spawn(async move { keys.rewrap(okms_id, |_| ()).await });
    wait_for("SELECT COUNT(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))").await;
    let (client, target) = (domain.client.clone(), domain.secret("a/version"));
    let body = json!({ "data": { "k": "v" } });
    let replay =
        tokio::spawn(async move { send(&client, Method::POST, &target, "1", &body).await });
    wait_for(
        "SELECT COUNT(*) FROM pg_stat_activity a, pg_stat_activity b WHERE b.pid = ANY(pg_blocking_pids(a.pid)) \
         AND $1 = ANY(pg_blocking_pids(b.pid)) AND a.query LIKE 'UPDATE idempotency_keys SET sealed_outcome%'",
    )
    .await;
    row.execute("ROLLBACK").await.expect("to let go");
    rewrapped.await.expect("no panic").expect("a store");
    wait_for(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE $1 > 0 \
         AND NOT EXISTS (SELECT 1 FROM domain_keys WHERE generation = 1)",
    )
    .await;
    // The server learns that the old key is gone.
    domain.client.get(&domain.secret("a")).await.ok();
    gate.execute("SELECT pg_advisory_unlock(42)").await.expect("to let go");
    let answer = replay.await.expect("no panic");
    assert!(is_replay(&answer));
    assert_eq!((&answer.ok()["id"], domain.versions("a").await), (&json!(2), vec![1, 2, 3]));
}

async fn what_is_kept_is_sealed_and_in_its_place(server: Server) {
    let domain = server.domain().await;
    let canary = "canary-5f1e";
    let body = json!({
        "path": canary,
        "metadata": { "customMetadata": { canary: canary } },
        "version": { "data": { canary: canary } },
    });
    let secrets = format!("{}/secret", domain.base);
    send(&domain.client, Method::POST, &secrets, canary, &body).await.ok();
    for column in ["key_hash", "caller", "sealed_outcome"] {
        let found = server.database.bytes(&format!("SELECT {column} FROM idempotency_keys")).await;
        let has = |bytes: &Vec<u8>| bytes.windows(6).any(|part| part == b"canary");
        assert!(found.len() == 1 && !found.iter().any(has), "{column}");
    }
    add(&domain, canary, "other", "v").await.ok();
    // Who can write to the database cannot make a key count for longer.
    server.database.execute("UPDATE idempotency_keys SET created_at = created_at + 1").await;
    send(&domain.client, Method::POST, &secrets, canary, &body).await.error(500, INTERNAL);
    add(&domain, canary, "other", "v").await.error(500, INTERNAL);
    assert_eq!(domain.versions(canary).await, [1, 2]);
}

async fn a_caller_has_so_many_keys_at_the_most(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for key in ["1", "2"] {
        add(&domain, "a", key, "v").await.ok();
    }
    // As if there were so many between these two.
    let between =
        |count: u32| format!("UPDATE idempotency_keys SET number = 2 - {count} WHERE number <> 2");
    server.database.execute(&between(99_999)).await;
    add(&domain, "a", "3", "v").await.ok();
    let refused = add(&domain, "a", "4", "v").await;
    refused.error(429, TOO_MANY_KEYS);
    assert_eq!(refused.header("retry-after"), Some("86400"));
    // When the first of them is over, to the second, and never at once.
    server.clock.advance(DAY - Duration::from_millis(2_500));
    let refused = add(&domain, "a", "4", "v").await;
    assert_eq!(refused.header("retry-after"), Some("3"));
    // The others of the domain are not concerned, nor is a write without a key, nor what is kept.
    domain.add_version("a").await;
    assert!(is_replay(&add(&domain, "a", "3", "v").await));
    let issued = server.credential(domain.okms_id, 365).await;
    let key = issued.private_key_pem.expect("a key").to_string();
    let other = server.client(Some((&issued.credential.certificate_pem, &key)));
    let body = json!({ "data": {} });
    send(&other, Method::POST, &domain.secret("a/version"), "1", &body).await.ok();
    // Nobody else writes, and after a day the caller goes on.
    server.clock.advance(Duration::from_millis(2_500));
    assert!(!is_replay(&add(&domain, "a", "4", "v").await));
}

async fn without_the_header_nothing_is_kept(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    domain.add_version("a").await;
    // What makes no version is the same however often it is done.
    let body = json!({ "metadata": { "maxVersions": 5 } });
    for _ in 0..2 {
        let answer = send(&domain.client, Method::PUT, &domain.secret("a"), "k", &body).await;
        assert!(!is_replay(&answer));
    }
    assert_eq!(kept(&server).await, 0);
}

/// How many keys are kept.
async fn kept(server: &Server) -> i64 {
    server.database.number("SELECT COUNT(*) FROM idempotency_keys").await
}
