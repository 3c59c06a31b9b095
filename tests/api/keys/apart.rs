//! What is wrong with one domain, and what takes long for it, is nobody else's affair.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use okmsd::{
    crypto::RootKey,
    domain::OkmsId,
    service::{OtherRootKey, RootKeySource},
};
use tokio::time::{Instant, sleep, timeout};

use super::root::{open, refusal};
use crate::support::{Domain, Engine, Server, both_engines};

both_engines!(
    while_a_root_key_is_read_only_those_wait_who_need_it,
    a_damaged_domain_keeps_no_other_from_being_sealed_anew,
    a_secret_without_a_path_is_named_and_stops_nothing,
    a_domain_with_a_damaged_row_keeps_no_other_from_being_served,
);

/// A root key that is read when the test says so.
#[derive(Default)]
struct Slow {
    /// What reading it gives, once it is known.
    answer: Mutex<Option<Result<String, String>>>,
    answered: Condvar,
    /// How often somebody has begun to read it.
    begun: Mutex<u32>,
}

impl Slow {
    fn read(&self) -> Result<Vec<RootKey>, String> {
        *self.begun.lock().expect("no panic") += 1;
        let answer = self.answer.lock().expect("no panic");
        let waited = self.answered.wait_timeout_while(answer, LONG, |answer| answer.is_none());
        let answer = waited.expect("no panic").0.clone().unwrap_or(Err("never".to_owned()));
        answer.map(|text| vec![RootKey::from_text(&text).expect("a key")])
    }

    fn answer(&self, answer: Result<String, String>) {
        *self.answer.lock().expect("no panic") = Some(answer);
        self.answered.notify_all();
    }

    async fn is_begun(&self) {
        let deadline = Instant::now() + LONG;
        while *self.begun.lock().expect("no panic") == 0 {
            assert!(Instant::now() < deadline, "nobody reads the root key");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn while_a_root_key_is_read_only_those_wait_who_need_it(server: Server) {
    let slow = Arc::new(Slow::default());
    let reader = Arc::clone(&slow);
    let source: RootKeySource = Arc::new(move || reader.read());
    let mut other = server.another_with(Some(source)).await;
    let (calm, rotated) = (server.domain().await, server.domain().await);
    let identity = |domain: &Domain| {
        let identity = (&domain.certificate_pem[..], &domain.private_key_pem[..]);
        other.client(Some(identity))
    };
    let (of_calm, of_rotated) = (identity(&calm), identity(&rotated));
    for (client, domain) in [(&of_calm, &calm), (&of_rotated, &rotated)] {
        domain.create("old", r#"{"n":1}"#).await;
        client.get(&domain.secret("old?includeData=true")).await.ok();
    }
    let new = RootKey::generate().expect("randomness");
    let keys = open(&server, &server.root_key).await.expect("the key");
    keys.rotate_root(&new, &OtherRootKey::None).await.expect("one key");
    let keys = open(&server, &new.to_text()).await.expect("the new key");
    keys.rotate_domain(rotated.okms_id).await.expect("a domain");

    let body = r#"{"path":"new","version":{"data":{"n":2}}}"#;
    let address = format!("{}/secret", rotated.base);
    let write = async |path: &str| of_rotated.post(&address, body.replace("new", path)).await;
    let old_rows_are_served = async || {
        for (client, domain) in [(&of_calm, &calm), (&of_rotated, &rotated)] {
            let target = domain.secret("old?includeData=true");
            let read = timeout(LONG / 2, client.get(&target)).await.expect("it does not wait");
            assert_eq!(read.ok()["version"]["data"]["n"], 1);
        }
        let target = calm.secret("old/version");
        let written = of_calm.post(&target, r#"{"data":{"n":1}}"#);
        timeout(LONG / 2, written).await.expect("it does not wait").ok();
        // Lists have cursors, which are sealed.
        let (target, page) = (rotated.secret(""), [("X-Pagination-Size", "10")]);
        let list = timeout(LONG / 2, of_rotated.page(&target, &page))
            .await
            .expect("it does not wait")
            .ok();
        assert_eq!(list.as_array().expect("a list").len(), 1);
    };
    let beside = async {
        slow.is_begun().await;
        old_rows_are_served().await;
        slow.answer(Err("the KMS is away".to_owned()));
    };
    let (refused, ()) = tokio::join!(write("refused"), beside);
    assert_eq!(refused.status, 503, "{}", refused.text());
    // Nor is what was known lost with that.
    old_rows_are_served().await;

    slow.answer(Ok(new.to_text().to_string()));
    let deadline = Instant::now() + LONG;
    while write("new").await.status != 200 {
        assert!(Instant::now() < deadline, "the new root key is not taken");
        sleep(Duration::from_millis(200)).await;
    }
    let read = of_rotated.get(&rotated.secret("new?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["n"], 2);
    other.stop().await;
}

/// Domains with a secret each, in the order in which they are worked on.
async fn domains(server: &Server) -> Vec<Domain> {
    let mut domains = Vec::new();
    for _ in 0..3 {
        let domain = server.domain().await;
        for path in ["a", "b"] {
            domain.create(path, r#"{"n":1}"#).await;
        }
        domains.push(domain);
    }
    domains.sort_by_key(|domain| domain.okms_id.to_string());
    domains
}

/// Changes what the database would refuse to have changed; `false` where it refuses all the same.
async fn force(server: &Server, sql: &str) -> bool {
    let past = match server.engine {
        Engine::Sqlite => "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON",
        Engine::Postgres => "SET session_replication_role = replica",
    };
    server.database.try_execute(&format!("{past}; {sql}")).await.is_ok()
}

async fn number_of_keys(server: &Server, okms_id: OkmsId) -> usize {
    server.store.list_keys(okms_id).await.expect("storage works").keys.len()
}

async fn a_damaged_domain_keeps_no_other_from_being_sealed_anew(mut server: Server) {
    let domains = domains(&server).await;
    server.stop().await;
    let keys = server.keys_of().await;
    for domain in &domains {
        keys.rotate_domain(domain.okms_id).await.expect("a domain");
    }
    let (damaged, whole) = (domains[0].okms_id, domains[2].okms_id);
    let swap = format!(
        "UPDATE domain_keys SET wrapped_key = (SELECT wrapped_key FROM domain_keys \
         WHERE okms_id = '{whole}' AND generation = 1) WHERE okms_id = '{damaged}' AND generation = 1"
    );
    assert!(force(&server, &swap).await);
    let mut again = server.another().await;
    let deadline = Instant::now() + LONG;
    while number_of_keys(&again, whole).await > 1 {
        assert!(Instant::now() < deadline, "the old key stays");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(number_of_keys(&again, damaged).await, 2);

    // The root key is not replaced, and what stands in the way is named.
    let keys = server.keys_of().await;
    let new = RootKey::generate().expect("randomness");
    let why = refusal(keys.rotate_root(&new, &OtherRootKey::None).await);
    assert!(why.contains(&damaged.to_string()) && why.contains("delete the domain"), "{why}");
    again.domains.delete(damaged).await.expect("a domain");
    keys.rotate_root(&new, &OtherRootKey::None).await.expect("nothing stands in the way");
    again.stop().await;
}

async fn a_secret_without_a_path_is_named_and_stops_nothing(mut server: Server) {
    let domains = domains(&server).await;
    let (damaged, whole) = (domains[0].okms_id, domains[2].okms_id);
    server.stop().await;
    let keys = server.keys_of().await;
    for okms_id in [damaged, whole] {
        keys.rotate_domain(okms_id).await.expect("a domain");
    }
    let row = format!("okms_id = '{damaged}' AND path = 'a'");
    let sql = format!("SELECT secret_id FROM secrets WHERE {row}");
    let position = String::from_utf8(server.database.texts(&sql).await.concat()).expect("UTF-8");
    assert!(force(&server, &format!("UPDATE secrets SET path = '//' WHERE {row}")).await);
    let rebuilt = async || match server.engine {
        Engine::Sqlite => server.database.number("PRAGMA schema_version").await,
        Engine::Postgres => 0,
    };
    let before = rebuilt().await;
    for versions in [1, 0] {
        let report = keys.rewrap(damaged, |_| ()).await.expect("storage works");
        assert_eq!((report.versions, report.destroyed, report.pending), (versions, 0, true));
        assert_eq!(report.unreadable, [position.parse::<i64>().expect("a number")]);
        assert!(report.refused.is_empty(), "{report:?}");
    }
    // No key was destroyed, so there is nothing that the file of SQLite would be rebuilt for.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rebuilt().await, before);
    let mut again = server.another().await;
    let deadline = Instant::now() + LONG;
    while number_of_keys(&again, whole).await > 1 {
        assert!(Instant::now() < deadline, "the old key stays");
        sleep(Duration::from_millis(50)).await;
    }
    again.stop().await;
}

async fn a_domain_with_a_damaged_row_keeps_no_other_from_being_served(server: Server) {
    let domains = domains(&server).await;
    let (damaged, whole) = (domains[0].okms_id, &domains[2]);
    let row = format!("okms_id = '{damaged}'");
    let other_key =
        format!("SELECT wrapped_key FROM domain_keys WHERE okms_id = '{}'", whole.okms_id);
    let mut tried = 0;
    for (table, column, value, hits_its_key) in [
        ("domain_keys", "store_key_id", "'x'", true),
        ("domain_keys", "wrapped_key", &format!("({other_key})")[..], true),
        ("domain_keys", "generation", "7", true),
        ("domain_keys", "generation", "-1", true),
        ("domains", "deactivate_version_after", "'x'", false),
        ("domains", "max_versions", "-1", false),
    ] {
        let what = format!("{table}.{column}");
        let kept =
            format!("CREATE TABLE kept AS SELECT {column} AS value FROM {table} WHERE {row}");
        server.database.execute(&kept).await;
        // PostgreSQL lets nobody past a check.
        if !force(&server, &format!("UPDATE {table} SET {column} = {value} WHERE {row}")).await {
            server.database.execute("DROP TABLE kept").await;
            continue;
        }
        tried += 1;
        let mut again = server.another().await;
        let client = |domain: &Domain| {
            again.client(Some((&domain.certificate_pem[..], &domain.private_key_pem[..])))
        };
        client(whole).get(&whole.secret("a?includeData=true")).await.ok();
        let read = client(&domains[0]).get(&domains[0].secret("a?includeData=true")).await;
        assert_eq!(read.status >= 500, hits_its_key, "{what}: {}", read.text());
        again.stop().await;
        let back = format!("UPDATE {table} SET {column} = (SELECT value FROM kept) WHERE {row}");
        assert!(force(&server, &format!("{back}; DROP TABLE kept")).await);
    }
    assert!(tried >= 4, "{tried}");
    server.open_again().await.expect("all is as it was");
    server.keys.status().await.expect("all is as it was");
}

/// Longer than anything here takes that does not wait, and shorter than a test may take.
const LONG: Duration = Duration::from_secs(20);
