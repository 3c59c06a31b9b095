//! What is on the disk: sealed, private, bound to its place, and gone when it is said to be gone.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use okmsd::{crypto::RootKey, domain::Error, service::Keyring, store::Store};
use serde_json::json;
use uuid::Uuid;

use crate::{
    codes::{INTERNAL, UNAVAILABLE},
    support::{Database, Domain, Engine, Server, base_url, both_engines},
};

both_engines!(
    data_is_nowhere_in_clear,
    a_row_in_another_place_does_not_open,
    what_was_written_is_read_after_a_restart,
    another_root_key_is_refused_with_the_reason,
    a_key_of_another_domain_opens_nothing_and_harms_no_other,
    what_is_deleted_is_gone_from_its_row,
);

async fn data_is_nowhere_in_clear(server: Server) {
    let domain = server.domain().await;
    let canary = format!("canary{}", Uuid::new_v4().simple());
    let signpost = format!("signpost{}", Uuid::new_v4().simple());
    let data = |version: u32| {
        json!({
            (format!("{canary}-key-{version}")): format!("{canary}-value-{version}"),
            "nested": { "list": [1, { "deep": format!("{canary}-deep-{version}") }] },
        })
    };
    domain.create(&signpost, &data(1).to_string()).await;
    let target = domain.secret(&signpost);
    domain.client.put(&target, json!({ "version": { "data": data(2) } })).await.ok();
    let version = json!({ "data": data(3) });
    domain.client.post(&format!("{target}/version"), version).await.ok();
    // Long enough for pages of its own.
    let long = json!({ "data": { "k": canary.repeat(1_000) } });
    domain.client.post(&format!("{target}/version"), long).await.ok();
    domain.client.put(&format!("{target}/version/2"), r#"{"state":"deactivated"}"#).await.ok();
    domain.client.put(&format!("{target}/version/1"), r#"{"state":"deleted"}"#).await.ok();

    let tokens = tokens_in_use(&server, &domain).await;

    match &*server.database {
        Database::Sqlite(folder) => {
            assert!(grep(folder.path(), &signpost), "the search finds what is there");
            for hidden in [&canary].into_iter().chain(&tokens) {
                assert!(!grep(folder.path(), hidden));
            }
        }
        Database::Postgres(schema) => {
            let dump = folder_with_dump(schema.name());
            assert!(grep(dump.path(), &signpost), "the search finds what is there");
            for hidden in [&canary].into_iter().chain(&tokens) {
                assert!(!grep(dump.path(), hidden));
                assert!(!grep(dump.path(), &hex(hidden)));
            }
            server.database.execute("CHECKPOINT").await;
            let folder =
                server.database.bytes("SELECT CAST(current_setting('data_directory') AS bytea)");
            let folder = String::from_utf8(folder.await.remove(0)).expect("a path");
            // Not where the server is on another machine, or another user's.
            if fs::read_dir(&folder).is_ok() {
                assert!(grep(Path::new(&folder), &signpost), "the search finds what is there");
                for hidden in [&canary].into_iter().chain(&tokens) {
                    assert!(!grep(Path::new(&folder), hidden));
                }
            }
        }
    }
}

/// A token of each kind, used and revoked.
async fn tokens_in_use(server: &Server, domain: &Domain) -> [String; 2] {
    let personal = crate::tokens::root_token(server, domain.okms_id).await;
    let personal = personal.text.expose().to_owned();
    let auth = format!("/api/{}/v1/auth", domain.okms_id);
    let login = domain.client.post(&format!("{auth}/cert/login"), "").await.ok();
    let login = login["auth"]["client_token"].as_str().expect("a token").to_owned();
    for token in [&personal, &login] {
        crate::tokens::get(&domain.client, &domain.secret(""), &[("x-vault-token", token)])
            .await
            .ok();
        let revoke = format!("{auth}/token/revoke-self");
        let headers = [("x-vault-token", token.as_str())];
        domain.client.send(hyper::Method::PUT, &revoke, &headers, "".into()).await.gone();
    }
    [personal, login]
}

async fn a_row_in_another_place_does_not_open(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    for path in ["a", "b", "c", "d", "e"] {
        domain.create(path, r#"{"k":"canary"}"#).await;
    }
    other.create("a", r#"{"k":"other canary"}"#).await;
    domain.client.post(&domain.secret("b/version"), r#"{"data":{"k":"second canary"}}"#).await.ok();

    let (id, other_id) = (domain.okms_id, other.okms_id);
    let row = |okms_id, path: &str, version: u32| {
        format!(
            "version = {version} AND secret_id = \
             (SELECT secret_id FROM secrets WHERE okms_id = '{okms_id}' AND path = '{path}')"
        )
    };
    let copy = async |from: String, to: String| {
        let copy = format!(
            "UPDATE secret_versions SET sealed_data = \
             (SELECT sealed_data FROM secret_versions WHERE {from}) WHERE {to}"
        );
        assert_eq!(server.database.execute(&copy).await, 1);
    };
    // To another path, another version, another domain.
    copy(row(id, "a", 1), row(id, "c", 1)).await;
    copy(row(id, "b", 1), row(id, "b", 2)).await;
    copy(row(id, "a", 1), row(other_id, "a", 1)).await;
    // Renamed, and not sealed at all.
    server.database.execute("UPDATE secrets SET path = 'z' WHERE path = 'd'").await;
    let plain = match server.engine {
        Engine::Sqlite => "X'7b7d'",
        Engine::Postgres => r"'\x7b7d'",
    };
    let forged =
        format!("UPDATE secret_versions SET sealed_data = {plain} WHERE {}", row(id, "e", 1));
    server.database.execute(&forged).await;

    for target in [
        domain.secret("c?includeData=true"),
        domain.secret("c/version/1?includeData=true"),
        domain.secret("c/version"),
        domain.secret("b?includeData=true"),
        domain.secret("z?includeData=true"),
        domain.secret("z"),
        domain.secret("e?includeData=true"),
    ] {
        let answer = domain.client.get(&target).await;
        answer.error(500, INTERNAL);
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    other.client.get(&other.secret("a?includeData=true")).await.error(500, INTERNAL);
    // Nothing else is harmed by it.
    for target in ["a?includeData=true", "b?version=1&includeData=true"] {
        let read = domain.client.get(&domain.secret(target)).await.ok();
        assert_eq!(read["version"]["data"]["k"], "canary", "{target}");
    }
    let list = domain.client.get(&format!("{}/secret", domain.base)).await.ok();
    assert_eq!(list.as_array().expect("a list").len(), 1, "{list}");
    // Version 1 of it was not harmed, and a new one is not either.
    domain.client.post(&domain.secret("b/version"), r#"{"data":{"k":"new"}}"#).await.ok();
    let read = domain.client.get(&domain.secret("b?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["k"], "new");
}

async fn what_was_written_is_read_after_a_restart(mut server: Server) {
    let domain = server.domain().await;
    let body = |path: &str| {
        json!({
            "path": path,
            "metadata": { "casRequired": true, "customMetadata": { "k": "v" }, "maxVersions": 3,
                          "deactivateVersionAfter": "1d" },
            "version": { "data": { "path": path, "n": 1 } },
        })
    };
    for number in 0..20 {
        let body = body(&format!("s/{number}"));
        domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
        let target = domain.secret(&format!("s/{number}/version?cas=1"));
        domain.client.post(&target, json!({ "data": { "n": number } })).await.ok();
    }
    let config = r#"{"casRequired":true,"maxVersions":7,"deactivateVersionAfter":"2h"}"#;
    domain.client.put(&format!("{}/secretConfig", domain.base), config).await.ok();
    let before = everything(&domain, &server).await;
    server.stop().await;

    let mut again = server.another().await;
    assert_eq!(everything(&domain, &again).await, before);
    // The key of the domain still seals, and numbers go on where they were.
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let client = again.client(identity);
    let target = domain.secret("s/0/version?cas=2");
    assert_eq!(client.post(&target, r#"{"data":{"n":"new"}}"#).await.ok()["id"], 3);
    let read = client.get(&domain.secret("s/0?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["n"], "new");
    again.stop().await;
}

async fn another_root_key_is_refused_with_the_reason(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    server.stop().await;
    let store = Store::open(&server.database.url().parse().expect("a URL")).await.expect("a store");
    let (other, expected) =
        (RootKey::generate().expect("a key"), RootKey::from_text(&server.root_key));
    let (given, text) = (other.id().clone(), other.to_text());
    let refused = refusal(Keyring::open(other, store.clone(), server.clock.clone()).await);
    assert!(refused.contains("the root key does not open this store"), "{refused}");
    assert!(refused.contains(expected.expect("a key").id().as_str()), "{refused}");
    assert!(refused.contains(given.as_str()), "{refused}");

    // The name of the key is not what protects: under a false name it still opens nothing.
    let renamed = format!("UPDATE root_keys SET root_key_id = '{given}'");
    assert_eq!(server.database.execute(&renamed).await, 1);
    let other = || RootKey::from_text(&text).expect("a key");
    let refused = refusal(Keyring::open(other(), store.clone(), server.clock.clone()).await);
    assert!(refused.contains("does not open under the root key"), "{refused}");
    // Nor does it get a store key of its own as if it were of before there were any.
    let bare = "UPDATE root_keys SET store_key_id = NULL, wrapped_store_key = NULL";
    assert_eq!(server.database.execute(bare).await, 1);
    for _ in 0..2 {
        let refused = refusal(Keyring::open(other(), store.clone(), server.clock.clone()).await);
        assert!(refused.contains("does not open under the root key"), "{refused}");
        let as_before = "UPDATE domain_keys SET store_key_id = NULL";
        assert_eq!(server.database.execute(as_before).await, 1);
    }
    store.close().await;
}

async fn a_key_of_another_domain_opens_nothing_and_harms_no_other(mut server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    for domain in [&domain, &other] {
        domain.create("a", r#"{"k":"canary"}"#).await;
    }
    server.stop().await;
    let copy = |from: &Domain, to: &Domain| {
        format!(
            "UPDATE domain_keys SET wrapped_key = \
             (SELECT wrapped_key FROM domain_keys WHERE okms_id = '{}') WHERE okms_id = '{}'",
            from.okms_id, to.okms_id
        )
    };
    let own = format!("SELECT wrapped_key FROM domain_keys WHERE okms_id = '{}'", other.okms_id);
    let other_key = server.database.bytes(&own).await.remove(0);
    assert_eq!(server.database.execute(&copy(&other, &domain)).await, 1);
    let mut again = server.another().await;
    let client = |server: &Server, domain: &Domain| {
        server.client(Some((&domain.certificate_pem, &domain.private_key_pem)))
    };
    for target in [domain.secret("a?includeData=true"), domain.secret("")] {
        let answer = client(&again, &domain).get(&target).await;
        answer.error(503, UNAVAILABLE);
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    let read = client(&again, &other).get(&other.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["k"], "canary");
    again.stop().await;

    // Where no domain has a key that opens, nothing would be served.
    let damaged = server.bytes_literal(&other_key[1..]);
    let damage = format!("UPDATE domain_keys SET wrapped_key = {damaged}");
    assert_eq!(server.database.execute(&damage).await, 2);
    let refused = server.open_again().await.expect_err("no key opens");
    assert!(refused.contains("does not open under the root key"), "{refused}");
}

async fn what_is_deleted_is_gone_from_its_row(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"k":"one"}"#).await;
    for _ in 0..2 {
        domain.client.post(&domain.secret("a/version"), r#"{"data":{"k":"more"}}"#).await.ok();
    }
    let sealed = "SELECT sealed_data FROM secret_versions";
    assert_eq!(server.database.bytes(sealed).await.len(), 3);
    domain.client.put(&domain.secret("a/version/2"), r#"{"state":"deleted"}"#).await.ok();
    assert_eq!(server.database.bytes(sealed).await.len(), 2);
    let body = r#"{"maxVersions":1,"version":{"data":{"k":"last"}}}"#;
    domain.client.put(&domain.secret("a"), body).await.ok();
    assert_eq!(server.database.bytes(sealed).await.len(), 1);
    let deleted = domain.client.delete(&domain.secret("a")).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    assert_eq!(server.database.bytes(sealed).await.len(), 0);
    domain.create("b", r#"{"k":"of a domain"}"#).await;
    server.domains.delete(domain.okms_id).await.expect("storage works");
    for table in ["secret_versions", "domain_keys", "secrets", "credentials"] {
        let left = server.database.bytes(&format!("SELECT NULL FROM {table}")).await;
        assert_eq!(left.len(), 0, "{table}");
        assert_eq!(server.database.execute(&format!("DELETE FROM {table}")).await, 0, "{table}");
    }
}

/// Deleted, pruned, gone with their secret or their domain: what was sealed leaves the database file
/// and the WAL.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_from_the_files_of_sqlite() {
    let server = Server::start(Engine::Sqlite).await;
    let domain = server.domain().await;
    let folder = server.database.sqlite_file();
    let folder = folder.parent().expect("a folder");
    let all = "SELECT sealed_data FROM secret_versions";
    // From a part of a page to several pages.
    for length in [10, 700, 9_000] {
        let data = json!({ "data": { "k": "x".repeat(length) } });
        domain.create("a", &data["data"].to_string()).await;
        for _ in 0..3 {
            domain.client.post(&domain.secret("a/version"), &data).await.ok();
        }
        let mut before = Pieces::of(&server.database.bytes(all).await);
        // All but those that a border of pages cuts in two.
        assert!(before.found_in(folder) * 100 >= before.0.len() * 99, "the search finds it");
        let prune = json!({ "maxVersions": 2, "version": data });
        let (a, version) = (domain.secret("a"), domain.secret("a/version/3"));
        for step in 0..4 {
            match step {
                0 => _ = domain.client.put(&version, r#"{"state":"deleted"}"#).await.ok(),
                1 => _ = domain.client.put(&a, &prune).await.ok(),
                2 => assert_eq!(domain.client.delete(&a).await.status, 204),
                _ => {
                    domain.create("b", &data["data"].to_string()).await;
                    before = Pieces::of(&server.database.bytes(all).await);
                    let deleted = domain.client.delete(&domain.secret("b")).await;
                    assert_eq!(deleted.status, 204);
                }
            }
            let kept = Pieces::of(&server.database.bytes(all).await);
            let gone = Pieces(before.0.difference(&kept.0).copied().collect());
            assert!(!gone.0.is_empty());
            gone.leave(folder).await;
        }
    }
    domain.create("a", r#"{"k":"of a domain"}"#).await;
    let last = Pieces::of(&server.database.bytes(all).await);
    server.domains.delete(domain.okms_id).await.expect("storage works");
    last.leave(folder).await;
}

/// The same where SQLite had to move rows from page to page, while others came and went.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_and_then_deleted_is_gone_from_the_files_of_sqlite() {
    let server = Server::start(Engine::Sqlite).await;
    let domain = server.domain().await;
    let path = |number: usize| format!("s/{:02}", number * 37 % 60);
    let write = async |number: usize, round: usize| {
        // From a few bytes to several pages.
        let length = [10, 90, 700, 3_000, 9_000][(number + round) % 5];
        let data = json!({ "k": "x".repeat(length) });
        let target = domain.secret(&format!("{}/version", path(number)));
        domain.client.post(&target, json!({ "data": data })).await.ok();
    };
    for number in 0..60 {
        let body = json!({ "path": path(number), "maxVersions": 4, "version": { "data": {} } });
        domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
    }
    for round in 0..3 {
        join_all((0..60).map(|number| write(number, round))).await;
    }
    let folder = server.database.sqlite_file();
    let folder = folder.parent().expect("a folder");
    let all = "SELECT sealed_data FROM secret_versions";
    let before = Pieces::of(&server.database.bytes(all).await);
    assert!(before.found_in(folder) > before.0.len() / 2, "the search finds what is there");

    // Of some secrets a version is deleted, some are pruned, some are deleted as a whole.
    for number in 0..60 {
        match number % 4 {
            0 => {
                let target = domain.secret(&format!("{}/version/3", path(number)));
                domain.client.put(&target, r#"{"state":"deleted"}"#).await.ok();
            }
            1 => {
                write(number, 3).await;
                write(number, 4).await;
            }
            2 => {
                let deleted = domain.client.delete(&domain.secret(&path(number))).await;
                assert_eq!(deleted.status, 204);
            }
            _ => {}
        }
    }
    let kept = Pieces::of(&server.database.bytes(all).await);
    let gone = Pieces(before.0.difference(&kept.0).copied().collect());
    assert!(gone.0.len() > 1_000, "much was deleted");
    gone.leave(folder).await;

    // A domain goes with everything in it.
    server.domains.delete(domain.okms_id).await.expect("storage works");
    kept.leave(folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_sqlite_are_private() {
    let mut server = Server::start(Engine::Sqlite).await;
    server.domain().await.create("a", "{}").await;
    let file = server.database.sqlite_file();
    let folder = fs::read_dir(file.parent().expect("a folder")).expect("a folder");
    let mut names = Vec::new();
    for entry in folder {
        let entry = entry.expect("a file");
        names.push(entry.file_name().into_string().expect("UTF-8"));
        assert_eq!(
            entry.metadata().expect("a file").permissions().mode() & 0o777,
            0o600,
            "{names:?}"
        );
    }
    names.sort();
    assert_eq!(names, ["okmsd.sqlite", "okmsd.sqlite-shm", "okmsd.sqlite-wal"]);
    server.stop().await;

    for mode in [0o604, 0o602, 0o644, 0o666, 0o777] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("permissions");
        let refused = refusal(Store::open(&server.database.url().parse().expect("a URL")).await);
        assert!(refused.contains(&format!("others may access it (mode {mode:o})")), "{refused}");
        assert!(refused.contains("chmod 600"), "{refused}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("permissions");
    let store = Store::open(&server.database.url().parse().expect("a URL")).await;
    store.expect("a private file").close().await;
}

/// All answers that tell what there is.
async fn everything(domain: &Domain, server: &Server) -> Vec<String> {
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let client = server.client(identity);
    let mut answers = Vec::new();
    for target in ["secretConfig", "secret"] {
        answers.push(client.get(&format!("{}/{target}", domain.base)).await);
    }
    for number in 0..20 {
        for version in 1..=2 {
            let target = format!("s/{number}?includeData=true&version={version}");
            answers.push(client.get(&domain.secret(&target)).await);
        }
    }
    let answers = answers.iter();
    answers
        .map(|answer| {
            answer.ok();
            answer.text()
        })
        .collect()
}

/// Why something was refused, as the log has it.
#[track_caller]
fn refusal<T>(refused: Result<T, Error>) -> String {
    match refused {
        Ok(_) => panic!("it was not refused"),
        Err(Error::Unavailable(reason)) => reason,
        Err(other) => panic!("{other:?}"),
    }
}

/// Sealed data cut into pieces of 16 bytes, so that a part of it is found too.
struct Pieces(HashSet<[u8; 16]>);

impl Pieces {
    fn of(sealed: &[Vec<u8>]) -> Self {
        // Without format and generation, which all have in common.
        let chunks = sealed.iter().flat_map(|sealed| sealed[5..].as_chunks().0);
        Self(chunks.copied().collect())
    }

    /// How many of them are in the files of a folder.
    fn found_in(&self, folder: &Path) -> usize {
        let mut found = HashSet::new();
        for entry in fs::read_dir(folder).expect("a folder") {
            let bytes = fs::read(entry.expect("a file").path()).expect("a file");
            let windows = bytes.array_windows::<16>();
            found.extend(windows.filter(|window| self.0.contains(*window)).copied());
        }
        found.len()
    }

    /// Waits until none of them is there.
    async fn leave(&self, folder: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = self.found_in(folder);
            if found == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{found} of {} pieces are left", self.0.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether a text stands in any file below a folder.
fn grep(folder: &Path, text: &str) -> bool {
    let output = Command::new("grep").args(["-rlaF", text]).arg(folder).output().expect("grep");
    // Files that went away meanwhile are an error of grep's, beside which it goes on.
    !output.stdout.is_empty()
}

fn folder_with_dump(schema: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new("pg_dump")
        .args(["--schema", schema, "--dbname", &base_url().expect("PostgreSQL"), "--file"])
        .arg(folder.path().join("dump.sql"))
        .output()
        .expect("pg_dump stands beside PostgreSQL");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
