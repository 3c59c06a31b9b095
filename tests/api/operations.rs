//! What the operations listener tells of a server that can, and of one that cannot do its work.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use okmsd::{
    crypto::RootKey,
    domain::Clock,
    pki::Issued,
    server::{CertificateKind, serve_operations},
    service::OtherRootKey,
    telemetry,
};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    Database, Domain, Engine, Proxy, Schema, Server, both_engines, postgres_is_at_hand,
};

both_engines!(
    a_server_that_works_is_alive_and_ready,
    a_database_that_does_not_answer_as_it_should_is_told,
    a_root_key_that_is_not_at_hand_is_told_where_it_is_missed,
    a_key_of_tokens_that_is_not_at_hand_is_told_where_tokens_are_taken,
    a_server_certificate_is_ready_while_it_counts,
    a_server_that_ends_is_not_ready,
    what_a_server_does_is_measured,
    requests_are_measured_by_their_operation,
    what_the_database_does_not_tell_is_left_out,
);

/// The operations listener of a server.
pub struct Operations(SocketAddr);

impl Operations {
    pub async fn of(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = telemetry::operations_router(server.observed());
        tokio::spawn(serve_operations(listener, router));
        Self(address)
    }

    /// Status, head and body of an answer.
    pub async fn get(&self, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }

    /// Waits for a server that gets ready.
    async fn until_ready(&self) {
        while self.get("/readyz").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Checks that exactly these checks fail, and gives their reasons.
    async fn fails(&self, names: &[&str]) -> Vec<String> {
        let (status, head, body) = self.get("/readyz").await;
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let checks = body["checks"].as_object().unwrap();
        let known: Vec<_> = checks.keys().map(String::as_str).collect();
        assert_eq!(known, ["server", "store", "keys", "audit", "certificate"]);
        let failed = checks.iter().filter(|(_, check)| check["ok"] == false);
        let failed: Vec<_> = failed.map(|(name, check)| (name.as_str(), check)).collect();
        let expected = if names.is_empty() { 200 } else { 503 };
        assert_eq!((status, &body["ready"]), (expected, &json!(names.is_empty())), "{body}");
        assert_eq!(failed.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names, "{body}");
        failed.iter().map(|(_, check)| check["reason"].as_str().unwrap().to_owned()).collect()
    }
}

async fn a_server_that_works_is_alive_and_ready(server: Server) {
    let operations = Operations::of(&server).await;
    let (status, head, body) = operations.get("/healthz").await;
    assert_eq!((status, body.as_str()), (200, "{\"alive\":true}\n"));
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_eq!(operations.fails(&[]).await, [""; 0]);
    server.domain().await.create("a", "{}").await;
    operations.fails(&[]).await;
    assert_eq!(operations.get("/").await.0, 404);
    assert_eq!(operations.get("/api").await.0, 404);
}

async fn a_database_that_does_not_answer_as_it_should_is_told(server: Server) {
    let operations = Operations::of(&server).await;
    server.database.execute("ALTER TABLE revisions RENAME TO aside").await;
    let told = operations.fails(&["store", "keys"]).await;
    assert_eq!(told, ["no answer, or not in time", "not known, as the store does not answer"]);
    assert_eq!(operations.get("/healthz").await.0, 200, "a restart would mend nothing");
    server.database.execute("ALTER TABLE aside RENAME TO revisions").await;
    operations.fails(&[]).await;
}

/// A server is ready while it can serve what it is asked: a root key that it lacks is no reason by itself.
async fn a_root_key_that_is_not_at_hand_is_told_where_it_is_missed(mut server: Server) {
    let new = RootKey::generate().unwrap();
    let text = new.to_text().to_string();
    // Like a command that takes its time.
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let source = Arc::new(move || {
        let _let_go = held.lock().map(|held| held.recv());
        Ok(vec![RootKey::from_text(&text).map_err(|_| "")?])
    });
    let mut slow = server.another_with(Some(source)).await;
    let mut plain = server.another_without_tokens().await;
    let (without, waits) = (Operations::of(&server).await, Operations::of(&slow).await);
    let without_tokens = Operations::of(&plain).await;
    let known = server.domain().await;
    known.create("a", "{}").await;
    for other in [&slow, &plain] {
        read_at(other, &known, "secret/a").await;
    }
    let current = "okmsd_store_key_current";
    assert_eq!(value(&without, current).await, Some(1.0));

    let keys = server.keys_of().await;
    keys.rotate_root(&new, &OtherRootKey::None).await.unwrap();
    let all = [&without, &waits, &without_tokens];
    for operations in all {
        operations.fails(&[]).await;
        assert_eq!(value(operations, current).await, Some(0.0));
    }
    // A key that was made since, which those who know no more than before cannot open.
    server.root_key = new.to_text().to_string();
    server.keys_of().await.rotate_domain(known.okms_id).await.unwrap();
    let why = "a key in use does not open with the root key at hand, or not in time";
    for operations in all {
        assert_eq!(operations.fails(&["keys"]).await, [why]);
    }
    drop(hold);
    waits.until_ready().await;
    assert_eq!(value(&waits, current).await, Some(1.0));
    assert_eq!(without.fails(&["keys"]).await, [why]);
    slow.stop().await;
    plain.stop().await;
}

/// Reads something of a domain from another server.
async fn read_at(server: &Server, domain: &Domain, what: &str) {
    let client = server.client(Some((&domain.certificate_pem, &domain.private_key_pem)));
    client.get(&format!("{}/{what}", domain.base)).await.ok();
}

/// The key of tokens is replaced with the root key, so who takes tokens misses it.
async fn a_key_of_tokens_that_is_not_at_hand_is_told_where_tokens_are_taken(server: Server) {
    let mut plain = server.another_without_tokens().await;
    let (taking, not_taking) = (Operations::of(&server).await, Operations::of(&plain).await);
    let domain = server.domain().await;
    domain.client.post(&format!("/api/{}/v1/auth/cert/login", domain.okms_id), "").await.ok();
    read_at(&plain, &domain, "secret").await;
    taking.fails(&[]).await;
    let keys = server.keys_of().await;
    keys.rotate_root(&RootKey::generate().unwrap(), &OtherRootKey::None).await.unwrap();
    taking.fails(&["keys"]).await;
    not_taking.fails(&[]).await;
    plain.stop().await;
}

async fn a_server_certificate_is_ready_while_it_counts(server: Server) {
    let operations = Operations::of(&server).await;
    let certificates = server.certificates().certificates.clone();
    let own = certificates.iter().find(|one| one.kind == CertificateKind::Server).unwrap();
    let left = own.ends.as_millis() - server.clock.now().as_millis();
    let since = server.clock.now().as_millis() - own.begins.as_millis();
    let early = Duration::from_millis(u64::try_from(since).unwrap() + 1);
    server.clock.set_back(early);
    assert_eq!(operations.fails(&["certificate"]).await, ["it is not valid yet"]);
    server.clock.advance(early);
    server.clock.advance(Duration::from_millis(u64::try_from(left).unwrap() - 1));
    operations.fails(&[]).await;
    server.clock.advance(Duration::from_millis(1));
    assert_eq!(operations.fails(&["certificate"]).await, ["it has ended"]);
    let issue = |now| server.authority.issue_server(&["localhost".to_owned()], now, 30).unwrap();
    let replace = |issued: Issued| {
        server.reload(|material| {
            material.certificate_chain_pem = issued.certificate_pem;
            material.private_key_pem = issued.private_key_pem;
        })
    };
    let now = server.clock.now();
    replace(issue(now.plus_seconds(86_400))).unwrap_err();
    assert_eq!(operations.fails(&["certificate"]).await, ["it has ended"]);
    assert!(replace(issue(now)).unwrap());
    operations.fails(&[]).await;
}

async fn a_server_that_ends_is_not_ready(mut server: Server) {
    let operations = Operations::of(&server).await;
    server.stop().await;
    let told = operations.fails(&["server", "store", "keys"]).await;
    assert_eq!(told[0], "shutting down");
}

/// The value of a series, where it is there.
pub async fn value(operations: &Operations, series: &str) -> Option<f64> {
    let (status, _, text) = operations.get("/metrics").await;
    assert_eq!(status, 200);
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines.find(|(name, _)| *name == series).map(|(_, value)| value.parse().unwrap())
}

async fn what_a_server_does_is_measured(server: Server) {
    let operations = Operations::of(&server).await;
    let read = async |series: &str| value(&operations, &format!("okmsd_{series}")).await;
    assert_eq!(read("domain_keys{state=\"newest\"}").await, Some(0.0));
    assert_eq!(read("connections{listener=\"api\"}").await, Some(0.0));
    let handshakes = "handshakes_total{listener=\"api\",kind=\"full\"}";
    assert_eq!(read(handshakes).await, Some(0.0));
    let size = read("database_size_bytes").await.unwrap();
    assert!(size > 10_000.0, "{size}");

    let domain = server.domain().await;
    let data = format!("{{\"k\":\"{}\"}}", "x".repeat(60_000));
    for number in 0..20 {
        domain.create(&format!("s/{number}"), &data).await;
    }
    assert_eq!(read(handshakes).await, Some(1.0));
    assert_eq!(read("connections{listener=\"api\"}").await, Some(1.0));
    assert_eq!(read("connections{listener=\"docs\"}").await, Some(0.0));
    let grown = read("database_size_bytes").await.unwrap();
    // On PostgreSQL other tests make and remove tables of the same database meanwhile.
    let least = if server.engine == Engine::Sqlite { size + 1_000_000.0 } else { 10_000.0 };
    assert!(grown > least, "{size} {grown}");
    assert_eq!(read("domain_keys{state=\"newest\"}").await, Some(1.0));
    assert_eq!(read("domain_keys{state=\"old\"}").await, Some(0.0));
    assert_eq!(read("domain_key_uses").await, Some(65_536.0));
    // One that was used just now may not be back yet.
    let (_, _, text) = operations.get("/metrics").await;
    let connections = text.lines().filter(|line| line.starts_with("okmsd_database_connections{"));
    let connections =
        connections.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
    assert!(connections.sum::<u32>() >= 1, "{text}");
    assert_eq!(read("database_queue_length{queue=\"connections\"}").await, Some(0.0));
    assert_eq!(read("database_refusals_total{queue=\"connections\"}").await, Some(0.0));
    let groups = read("write_group_size_count").await;
    match server.engine {
        Engine::Sqlite => {
            // The writes of a client that waits for each, and those that made domain and credential.
            assert!(groups.unwrap() >= 22.0, "{groups:?}");
            assert_eq!(read("database_queue_length{queue=\"writer\"}").await, Some(0.0));
        }
        Engine::Postgres => assert_eq!(groups, None),
    }

    // The old key stays while something is under it.
    server.keys.rotate_domain(domain.okms_id).await.unwrap();
    assert_eq!(read("domain_keys{state=\"newest\"}").await, Some(1.0));
    assert_eq!(read("domain_key_uses").await, Some(0.0), "of the new key");
}

async fn requests_are_measured_by_their_operation(server: Server) {
    let operations = Operations::of(&server).await;
    let read = async |series: &str| value(&operations, &format!("okmsd_{series}")).await;
    let requests = async |operation: &str, status: &str| {
        let labels = format!("operation=\"{operation}\",status=\"{status}\"");
        read(&format!("requests_total{{{labels}}}")).await
    };
    let domain = server.domain().await;
    assert_eq!(requests("PostSecretV2", "200").await, None);
    domain.create("a", "{\"k\":\"v\"}").await;
    let kept = async |kind: &str| read(&format!("cache_{kind}_total{{cache=\"secrets\"}}")).await;
    let keys = async |operation: &str| {
        read(&format!("key_operations_total{{key=\"domain\",operation=\"{operation}\"}}")).await
    };
    assert_eq!((keys("encrypt").await, keys("decrypt").await), (Some(1.0), Some(0.0)));
    let path = format!("{}?includeData=true", domain.secret("a"));
    for _ in 0..3 {
        domain.client.get(&path).await.ok();
    }
    assert_eq!(domain.client.get(&domain.secret("absent")).await.status, 404);
    assert_eq!(domain.client.get("/nothing/here?canary").await.status, 404);
    let central = format!("/v2/okms/resource/{}/secret/a?includeData=true", domain.okms_id);
    domain.client.get(&central).await.ok();
    assert_eq!(requests("PostSecretV2", "200").await, Some(1.0));
    assert_eq!(requests("GetSecretV2", "200").await, Some(4.0), "at both forms of address");
    assert_eq!(requests("GetSecretV2", "404").await, Some(1.0));
    assert_eq!(requests("other", "404").await, Some(1.0));
    let times = read("request_duration_seconds_count{operation=\"GetSecretV2\"}").await;
    assert_eq!(times, Some(5.0));
    let took = read("request_duration_seconds_sum{operation=\"GetSecretV2\"}").await;
    assert!(took.is_some_and(|took| took > 0.0 && took < 60.0), "{took:?}");
    assert_eq!((keys("encrypt").await, keys("decrypt").await), (Some(1.0), Some(4.0)));
    match server.engine {
        // Whoever misses keeps what it reads, unless a commit comes in between.
        Engine::Sqlite => {
            assert!(kept("misses").await.is_some_and(|misses| misses >= 1.0));
            assert!(kept("hits").await.is_some_and(|hits| hits >= 1.0));
        }
        Engine::Postgres => assert_eq!(kept("hits").await, None),
    }
    assert!(read("cache_hits_total{cache=\"policies\"}").await.is_some_and(|hits| hits >= 1.0));
    assert!(read("cache_misses_total{cache=\"policies\"}").await.is_some_and(|all| all >= 1.0));
    assert!(read("cache_hits_total{cache=\"keys\"}").await.is_some_and(|hits| hits >= 1.0));
    // Each has waited for its record.
    let written = read("audit_write_duration_seconds_count").await;
    assert!(written.is_some_and(|written| written >= 7.0), "{written:?}");
    assert_eq!(read("audit_lag_seconds").await, Some(0.0));
    for state in ["queued", "taken"] {
        let waiting = format!("audit_queue_length{{state=\"{state}\"}}");
        assert_eq!(read(&waiting).await, Some(0.0));
    }
    let (_, _, text) = operations.get("/metrics").await;
    let id = domain.okms_id.to_string();
    for canary in ["canary", "nothing", "absent", &id] {
        assert!(!text.contains(canary), "{canary}: {text}");
    }
}

async fn what_the_database_does_not_tell_is_left_out(server: Server) {
    let operations = Operations::of(&server).await;
    server.domain().await;
    assert!(value(&operations, "okmsd_domain_key_uses").await.is_some());
    server.database.execute("ALTER TABLE domain_keys RENAME TO aside").await;
    assert_eq!(value(&operations, "okmsd_domain_key_uses").await, None);
    assert_eq!(value(&operations, "okmsd_audit_ready").await, Some(1.0), "all else is told");
    server.database.execute("ALTER TABLE aside RENAME TO domain_keys").await;
    assert!(value(&operations, "okmsd_domain_key_uses").await.is_some());
}

/// Whoever writes beside a server only delays it, and reads go on: no reason to send callers elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_another_process_writes_is_ready() {
    let server = Server::start(Engine::Sqlite).await;
    let operations = Operations::of(&server).await;
    let mut locker = server.database.sqlite().await;
    locker.execute("BEGIN EXCLUSIVE").await.unwrap();
    operations.fails(&[]).await;
    locker.execute("ROLLBACK").await.unwrap();
    locker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_of_postgres_is_told_in_time() {
    if !postgres_is_at_hand() {
        return;
    }
    let server = Server::start(Engine::Postgres).await;
    let operations = Operations::of(&server).await;
    let mut locker = server.database.postgres().await;
    locker.execute("BEGIN; LOCK TABLE revisions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // Only the limit of the check ends this: the lock stays, and the database would wait for longer.
    operations.fails(&["store", "keys"]).await;
    locker.execute("ROLLBACK").await.unwrap();
    operations.fails(&[]).await;
    // Whether there is another store key is not told; nothing asks for one.
    locker.execute("BEGIN; LOCK TABLE root_keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    operations.fails(&[]).await;
    locker.execute("LOCK TABLE domain_keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    operations.fails(&["keys"]).await;
    locker.execute("ROLLBACK").await.unwrap();
    operations.fails(&[]).await;
    locker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_gone_is_told_until_it_is_back() {
    if !postgres_is_at_hand() {
        return;
    }
    let proxy = Proxy::start().await;
    let schema = Schema::create().await.through(proxy.base.clone());
    let server = Server::start_in(Database::Postgres(schema)).await;
    let operations = Operations::of(&server).await;
    operations.fails(&[]).await;
    for _ in 0..2 {
        proxy.cut();
        operations.fails(&["store", "keys"]).await;
        proxy.mend();
        operations.fails(&[]).await;
    }
}
