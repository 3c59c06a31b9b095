//! Requests beyond the limits of the configuration.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::select_ok, stream::FuturesUnordered};
use hyper::Method;
use okmsd::{api::ApiLimits, server::Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    codes::*,
    operations::{Operations, value},
    support::{
        Answer, Client, Domain, Engine, Server, attacks::Target, postgres_is_at_hand, send_raw,
    },
    tokens::root_token,
    write_lock::WriteLock,
};

const NO_RATES: ApiLimits = ApiLimits {
    requests_per_address: 0,
    requests_per_credential: 0,
    body_kib: 512,
    body_time: Duration::from_secs(20),
    secrets_per_domain: 0,
    database_queue: 4_096,
};

/// On one engine: nothing of this comes as far as the store.
async fn limited(api_limits: ApiLimits) -> Server {
    Server::start_limited(Engine::Sqlite, Limits::default(), api_limits).await
}

#[track_caller]
fn assert_limited(answer: &Answer, whose: &str) {
    let text = answer.error(429, TOO_MANY_REQUESTS);
    assert_eq!(text, format!("too many requests of this {whose}, try again"));
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_certificate_has_its_own_rate_on_all_its_connections() {
    let server = limited(ApiLimits { requests_per_credential: 3, ..NO_RATES }).await;
    let (domain, other) = (server.domain().await, server.domain().await);
    let http1 = Client::http1(&server.api_url, domain.tls(&server));
    for (client, status) in [(&domain.client, 404), (&http1, 404), (&domain.client, 404)] {
        assert_eq!(client.get(&domain.secret("a")).await.status, status);
    }
    // Both dialects, both versions of HTTP, with a body or without: the same error.
    assert_limited(&domain.client.get(&domain.secret("a")).await, "credential");
    assert_limited(&http1.get(&domain.kv("data/a")).await, "credential");
    assert_limited(&domain.client.post(&domain.kv("data/a"), r#"{"data":{}}"#).await, "credential");
    let large = "x".repeat(300_000);
    assert_limited(&http1.put(&domain.secret("a"), large).await, "credential");
    other.client.get(&other.secret("a")).await.error(404, SECRET_NOT_FOUND);
    // It fills again at the rate.
    server.clock.advance(Duration::from_millis(334));
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    assert_limited(&domain.client.get(&domain.secret("a")).await, "credential");
    server.clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    }
    assert_limited(&domain.client.get(&domain.secret("a")).await, "credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_one_rate_in_either_header() {
    let server = limited(ApiLimits { requests_per_credential: 4, ..NO_RATES }).await;
    let domain = server.domain().await;
    let token = root_token(&server, domain.okms_id).await;
    let other = root_token(&server, domain.okms_id).await;
    let anyone = server.client(None);
    let bearer = format!("Bearer {}", token.text.expose());
    let both = [("authorization", &*bearer), ("x-vault-token", token.text.expose())];
    let a = domain.secret("a");
    let ask = |headers| anyone.send(Method::GET, &a, headers, Default::default());
    for headers in [&both[..1], &both[1..], &both, &both[..1]] {
        ask(headers).await.error(404, SECRET_NOT_FOUND);
    }
    for headers in [&both[..1], &both[1..], &both] {
        assert_limited(&ask(headers).await, "credential");
    }
    let others = [("x-vault-token", other.text.expose())];
    ask(&others).await.error(404, SECRET_NOT_FOUND);
    // What is no token has a rate too.
    let unreadable = [("x-vault-token", "x")];
    for _ in 0..4 {
        ask(&unreadable).await.error(401, UNAUTHENTICATED);
    }
    assert_limited(&ask(&unreadable).await, "credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_has_its_own_rate_before_anything_is_read() {
    let server = limited(ApiLimits { requests_per_address: 3, ..NO_RATES }).await;
    let domain = server.domain().await;
    let operations = Operations::of(&server).await;
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    let anyone = server.client(None);
    for _ in 0..2 {
        anyone.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    }
    let records = server.records().len();
    // No certificate and no target that could be read, and a body that is too large, with nothing of it sent.
    for head in ["GET /api/%ff/v2/%zz", "POST /", "LIST /x"] {
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let answer = send_raw(&server.api_url, server.tls(None), request.as_bytes()).await;
        assert_limited(&answer, "address");
    }
    let unsent =
        "POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n";
    assert_limited(
        &send_raw(&server.api_url, server.tls(None), unsent.as_bytes()).await,
        "address",
    );
    assert_limited(&domain.client.get(&domain.secret("a")).await, "address");
    assert_eq!(server.records().len(), records, "what was not looked at is not recorded");
    let elsewhere = Client::from_address(&server.api_url, domain.tls(&server), [127, 0, 0, 2]);
    elsewhere.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    let (_, _, metrics) = operations.get("/metrics").await;
    for line in [
        "okmsd_request_refusals_total{limit=\"requests_per_address\"} 5",
        "okmsd_request_refusals_total{limit=\"requests_per_credential\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    server.clock.advance(Duration::from_secs(1));
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_has_the_rate_of_an_address() {
    let server = limited(ApiLimits { requests_per_address: 3, ..NO_RATES }).await;
    let docs = server.docs_client();
    for _ in 0..3 {
        assert_eq!(docs.get("/swagger/").await.status, 200);
    }
    assert_limited(&docs.get("/swagger/").await, "address");
    assert_limited(&docs.get("/x").await, "address");
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(docs.get("/swagger/").await.status, 200);
}

const UNFINISHED: &str =
    "too many unfinished requests of this address: read their answers, and try again";

/// Asks until the answer is of this status.
async fn until(client: &Client, path: &str, status: u16) -> Answer {
    let asked = async {
        loop {
            let answer = client.get(path).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_requests_unfinished_may_make_no_more() {
    let limits = Limits { max_memory_per_address: 1 << 20, ..Limits::default() };
    let server = Server::start_limited(Engine::Sqlite, limits, NO_RATES).await;
    let domain = server.domain().await;
    domain.create("large", &format!(r#"{{"k":"{}"}}"#, "x".repeat(60_000))).await;
    let operations = Operations::of(&server).await;
    let secret = domain.secret("large");
    let there = Client::from_address(&server.api_url, domain.tls(&server), [127, 0, 0, 2]);
    let (_, port) = server.api_url.rsplit_once(':').unwrap();
    let target = Target {
        address: format!("127.0.0.1:{port}").parse().unwrap(),
        stranger: server.tls(None),
        caller: domain.tls(&server),
        secret: secret.clone(),
        connected: Arc::default(),
    };
    let unread = target.unread(20).await.unwrap();
    let refused = until(&there, &secret, 429).await;
    assert_eq!(refused.error(429, TOO_MANY_REQUESTS), UNFINISHED);
    assert_eq!(refused.header("retry-after"), Some("2"));
    assert_eq!(domain.client.get(&secret).await.status, 200, "others are served");
    drop(unread);
    until(&there, &secret, 200).await;

    // A body that does not end holds what of it has come, and there is no room for three of them.
    let half = async || {
        let mut connection = target.connect(&target.caller, "http/1.1").await.unwrap();
        let head = format!(
            "PUT {secret} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: 500000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&[b' '; 400_000]).await.unwrap();
        let mut head = [0; 12];
        connection.read_exact(&mut head).await.map(|_| head)
    };
    let halves = [half(), half(), half()].map(Box::pin);
    let (head, _others) = select_ok(halves).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 429");

    let (_, _, metrics) = operations.get("/metrics").await;
    let none = "okmsd_request_refusals_total{limit=\"memory_mib_per_address\"} 0";
    assert!(metrics.contains(none.trim_end_matches('0')) && !metrics.contains(none), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_waits_for_the_database_is_held() {
    let limits = Limits { max_memory_per_address: 1 << 20, ..Limits::default() };
    let server = Server::start_limited(Engine::Sqlite, limits, NO_RATES).await;
    let domain = server.domain().await;
    domain.create("a", r#"{"k":"v"}"#).await;
    let there = || Client::from_address(&server.api_url, domain.tls(&server), [127, 0, 0, 3]);
    let (one, another, reader) = (there(), there(), there());
    let secret = domain.secret("a");
    let lock = WriteLock::take(&server).await;
    // With two of them, what one more request takes by itself is too much, and what has come of them is not.
    let body = format!(r#"{{"version":{{"data":{{"k":"v"}}}}{}}}"#, " ".repeat(512_970));
    let put = async |client: &Client| client.put(&secret, body.clone()).await;
    let refused = async {
        let refused = until(&reader, &secret, 429).await;
        assert_eq!(refused.error(429, TOO_MANY_REQUESTS), UNFINISHED);
        assert_eq!(domain.client.get(&secret).await.status, 200, "others are served");
        lock.release().await;
    };
    let (first, second, ()) = tokio::join!(put(&one), put(&another), refused);
    first.ok();
    second.ok();
    until(&reader, &secret, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_get_no_more_than_the_rate() {
    let server = limited(ApiLimits { requests_per_credential: 100, ..NO_RATES }).await;
    let domain = Arc::new(server.domain().await);
    let ask = (0..400).map(|_| {
        let domain = Arc::clone(&domain);
        tokio::spawn(async move { domain.client.get(&domain.secret("a")).await.status })
    });
    let answers = futures_util::future::join_all(ask).await;
    let passed = answers.iter().filter(|status| *status.as_ref().unwrap() == 404).count();
    let refused = answers.iter().filter(|status| *status.as_ref().unwrap() == 429).count();
    assert_eq!(passed + refused, 400);
    // Each thread of the server may let one too many through for each of the other cells.
    let threads = std::thread::available_parallelism().unwrap().get();
    assert!((100..=100 + 3 * threads).contains(&passed), "{passed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_and_time_of_a_body_are_settings() {
    let body_time = Duration::from_millis(300);
    let server = limited(ApiLimits { body_kib: 4, body_time, ..NO_RATES }).await;
    let domain = server.domain().await;
    let body = |length| format!(r#"{{"path":"a","version":{{"data":{{"k":"{length}"}}}}}}"#);
    let address = domain.secret("");
    domain.client.post(&address, body("x".repeat(3_000))).await.ok();
    let refused = domain.client.post(&address, body("x".repeat(5_000))).await;
    assert_eq!(refused.error(413, BODY_TOO_LARGE), "the body must have at most 4 KiB");
    let slow = format!(
        "POST {address} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{"
    );
    let answer = send_raw(&server.api_url, domain.tls(&server), slow.as_bytes()).await;
    assert_eq!(answer.status, 408);
}

/// A server of each engine on which a domain may have so many secrets.
async fn with_few_secrets(secrets_per_domain: u32) -> Vec<Server> {
    on_both_engines(ApiLimits { secrets_per_domain, ..NO_RATES }).await
}

async fn on_both_engines(limits: ApiLimits) -> Vec<Server> {
    let mut servers = vec![limited(limits).await];
    if postgres_is_at_hand() {
        let (engine, connections) = (Engine::Postgres, Limits::default());
        servers.push(Server::start_limited(engine, connections, limits).await);
    }
    servers
}

/// What the database says that a domain has, and what it has.
pub(crate) async fn counted(server: &Server) -> (i64, i64) {
    let counts = "SELECT CAST(COALESCE(SUM(secrets), 0) AS BIGINT) FROM secret_counts";
    (
        server.database.number(counts).await,
        server.database.number("SELECT COUNT(*) FROM secrets").await,
    )
}

async fn post(domain: &Domain, path: &str) -> Answer {
    let body = format!(r#"{{"path":"{path}","version":{{"data":{{}}}}}}"#);
    domain.client.post(&domain.secret(""), body).await
}

async fn kv(domain: &Domain, below: &str) -> Answer {
    domain.client.post(&domain.kv(below), r#"{"data":{}}"#).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_has_no_more_secrets_than_it_may() {
    for server in with_few_secrets(3).await {
        let (domain, other) = (server.domain().await, server.domain().await);
        post(&domain, "a").await.ok();
        kv(&domain, "data/b").await.ok();
        let named = r#"{"custom_metadata":{"k":"v"}}"#;
        domain.client.post(&domain.kv("metadata/c"), named).await.gone();
        let text = post(&domain, "d").await.error(400, SECRETS_EXHAUSTED);
        assert_eq!(text, "the domain has as many secrets as it may have: 3");
        kv(&domain, "data/d").await.error(400, SECRETS_EXHAUSTED);
        let metadata = domain.client.post(&domain.kv("metadata/d"), named).await;
        metadata.error(400, SECRETS_EXHAUSTED);
        // What is there can be worked with, and whoever asks for a path that is taken is told so.
        domain.add_version("a").await;
        kv(&domain, "data/b").await.ok();
        post(&domain, "a").await.error(409, CONFLICT);
        // Another domain has its own number, and a deletion makes room for one.
        post(&other, "a").await.ok();
        domain.client.delete(&domain.secret("b")).await.gone();
        domain.client.delete(&domain.secret("b")).await.error(404, SECRET_NOT_FOUND);
        post(&domain, "d").await.ok();
        post(&domain, "e").await.error(400, SECRETS_EXHAUSTED);
        assert_eq!(counted(&server).await, (4, 4));
        assert!(server.domains.delete(other.okms_id).await.is_ok());
        assert_eq!(counted(&server).await, (3, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_share_a_database_count_anew_what_one_of_before_did_not() {
    if !postgres_is_at_hand() {
        return;
    }
    let limits = ApiLimits { secrets_per_domain: 3, ..NO_RATES };
    let server = Server::start_limited(Engine::Postgres, Limits::default(), limits).await;
    let domain = server.domain().await;
    for path in ["a", "b", "c"] {
        post(&domain, path).await.ok();
    }
    for sql in ["UPDATE secret_counts SET secrets = secrets - 1", "DELETE FROM secret_counts"] {
        server.database.execute(sql).await;
        let _another = server.another().await;
        let mut looks_left = 600;
        while counted(&server).await != (3, 3) {
            looks_left -= 1;
            assert!(looks_left > 0, "{sql}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        post(&domain, "d").await.error(400, SECRETS_EXHAUSTED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_made_at_once_are_no_more_than_the_limit() {
    for server in with_few_secrets(7).await {
        let domain = Arc::new(server.domain().await);
        let make = (0..60).map(|number| {
            let domain = Arc::clone(&domain);
            tokio::spawn(async move { post(&domain, &format!("s{number}")).await.status })
        });
        let answers = futures_util::future::join_all(make).await;
        let count =
            |wanted| answers.iter().filter(|status| *status.as_ref().unwrap() == wanted).count();
        assert_eq!((count(200) + count(201), count(400)), (7, 53), "{answers:?}");
        assert_eq!(counted(&server).await, (7, 7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_a_full_queue_of_the_database_is_told_at_once_and_nothing_else_is_lost() {
    const WRITERS: u32 = 80;
    for server in on_both_engines(ApiLimits { database_queue: 4, ..NO_RATES }).await {
        let domain = server.domain().await;
        post(&domain, "first").await.ok();
        let lock = WriteLock::take(&server).await;
        // More than hold a connection and wait. Their own part of a batch and one of each thread may be on the way too.
        let writing = (0..WRITERS).map(|number| {
            let (domain, path) = (&domain, format!("s{number}"));
            async move { post(domain, &path).await }
        });
        let mut writing: FuturesUnordered<_> = writing.collect();
        let (mut refused, mut written) = (0_u32, 0);
        while refused < WRITERS / 2 {
            // They come while nothing can be written.
            let answer = writing.next().await.expect("half of them at the least");
            answer.error(503, UNAVAILABLE);
            assert_eq!(answer.header("retry-after"), Some("2"));
            refused += 1;
        }
        lock.release().await;
        while let Some(answer) = writing.next().await {
            match answer.status {
                503 => refused += 1,
                _ => {
                    answer.ok();
                    written += 1;
                }
            }
        }
        assert!(written >= 4, "{written} were written, {refused} refused");
        let operations = Operations::of(&server).await;
        let mut counted = 0.0;
        for queue in ["connections", "writer"] {
            let series = format!("okmsd_database_refusals_total{{queue=\"{queue}\"}}");
            counted += value(&operations, &series).await.unwrap_or_default();
        }
        // One that was refused may have read for others, too.
        assert!(counted >= 1.0, "{counted} of {refused}");
        assert_eq!(server.database.number("SELECT COUNT(*) FROM secrets").await, written + 1);
    }
}
