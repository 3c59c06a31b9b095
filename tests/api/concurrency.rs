//! Many at once: every write is whole, none is lost, and a `cas` is won once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    codes::{CAS_MISMATCH, CONFLICT, SECRET_NOT_FOUND, UNAUTHENTICATED},
    support::{Answer, Client, Domain, Server, both_engines},
};

both_engines!(
    a_cas_is_won_once,
    a_path_is_created_once,
    no_version_is_lost,
    writers_of_many_secrets_do_not_mix,
    a_secret_deleted_and_made_anew_by_many_stays_whole,
    two_servers_share_one_database,
    what_one_server_changes_counts_in_the_other,
    nothing_read_is_older_than_what_was_acknowledged,
);

/// Writers of one test. Each ten share a connection, so that requests come over several at a time.
const WRITERS: usize = 100;

async fn a_cas_is_won_once(server: Server) {
    let domain = server.domain().await;
    cas_is_won_once(&domain, &clients(&[&server], &domain)).await;
}

async fn a_path_is_created_once(server: Server) {
    let domain = server.domain().await;
    path_is_created_once(&domain, &clients(&[&server], &domain)).await;
}

/// On SQLite this is what the command line does beside a server, on PostgreSQL a second replica.
async fn two_servers_share_one_database(server: Server) {
    let mut other = server.another().await;
    let domain = server.domain().await;
    let clients = clients(&[&server, &other], &domain);
    cas_is_won_once(&domain, &clients).await;
    path_is_created_once(&domain, &clients).await;
    other.stop().await;
}

async fn no_version_is_lost(server: Server) {
    let domain = server.domain().await;
    let clients = clients(&[&server], &domain);
    let body = r#"{"path":"a","maxVersions":500,"version":{"data":{"writer":-1}}}"#;
    domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
    let mut sent = Vec::new();
    for writer in 0..200 {
        let target = domain.secret("a/version");
        let (client, body) = (&clients[writer % clients.len()], data(writer));
        sent.push(async move { client.post(&target, body).await.ok()["id"].clone() });
    }
    let given = join_all(sent).await;
    let mut numbers: Vec<i64> = given.iter().map(|id| id.as_i64().expect("a number")).collect();
    for (writer, number) in numbers.iter().enumerate() {
        let target = domain.secret(&format!("a/version/{number}?includeData=true"));
        let version = domain.client.get(&target).await.ok();
        assert_eq!(version["data"]["writer"], writer, "version {number}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=201).collect::<Vec<i64>>());
    assert_eq!(
        domain.client.get(&domain.secret("a")).await.ok()["metadata"]["currentVersion"],
        201
    );
}

async fn writers_of_many_secrets_do_not_mix(server: Server) {
    let domain = server.domain().await;
    let clients = clients(&[&server], &domain);
    let secrets = 8;
    for secret in 0..secrets {
        let path = format!("s/{secret}");
        let body = json!({
            "path": path, "maxVersions": 1_000, "version": { "data": { "secret": secret } }
        });
        domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
    }
    // Half of the writers say what they believe to be current, and try again when it is not.
    let work = (0..40_usize).map(|writer| {
        let (domain, client) = (&domain, &clients[writer % clients.len()]);
        async move {
            let mut written = Vec::new();
            for round in 0..10 {
                let secret = (writer + round) % secrets;
                let target = domain.secret(&format!("s/{secret}"));
                let data = json!({ "writer": writer, "round": round, "secret": secret });
                let body = json!({ "version": { "data": data } });
                let version = loop {
                    let cas = if writer % 2 == 0 {
                        let current = client.get(&target).await.ok();
                        format!("?cas={}", current["metadata"]["currentVersion"])
                    } else {
                        String::new()
                    };
                    let answer = client.put(&format!("{target}{cas}"), &body).await;
                    if answer.status == 400 {
                        answer.error(400, CAS_MISMATCH);
                        continue;
                    }
                    break answer.ok()["metadata"]["currentVersion"].as_i64().expect("a number");
                };
                written.push(((secret, version), data));
            }
            written
        }
    });
    let written: BTreeMap<_, _> = join_all(work).await.into_iter().flatten().collect();
    assert_eq!(written.len(), 400, "two writers were told the same version");
    for ((secret, version), data) in &written {
        let target = domain.secret(&format!("s/{secret}/version/{version}?includeData=true"));
        assert_eq!(domain.client.get(&target).await.ok()["data"], *data);
    }
    for secret in 0..secrets {
        let found = domain.client.get(&domain.secret(&format!("s/{secret}"))).await.ok();
        assert_eq!(found["metadata"]["currentVersion"], 51);
    }
}

async fn a_secret_deleted_and_made_anew_by_many_stays_whole(server: Server) {
    let domain = server.domain().await;
    let clients = clients(&[&server], &domain);
    let work = (0..60_usize).map(|number| {
        let (domain, client) = (&domain, &clients[number % clients.len()]);
        async move {
            for _ in 0..5 {
                let answer = match number % 4 {
                    0 => {
                        let body = json!({ "path": "a", "version": { "data": { "n": number } } });
                        client.post(&format!("{}/secret", domain.base), body).await
                    }
                    1 => client.delete(&domain.secret("a")).await,
                    2 => client.put(&domain.secret("a"), r#"{"maxVersions":9}"#).await,
                    _ => client.post(&domain.secret("a/version"), data(number)).await,
                };
                let expected = [[200, 409], [204, 404], [200, 404], [200, 404]][number % 4];
                assert!(expected.contains(&answer.status), "{number}: {}", answer.text());
                // Whoever reads meanwhile sees all of it or nothing.
                let read = client.get(&domain.secret("a?includeData=true")).await;
                if read.status == 200 {
                    let read = read.value();
                    assert_eq!(read["metadata"]["currentVersion"], read["version"]["id"]);
                    assert!(read["version"]["data"].is_object(), "{read}");
                } else {
                    read.error(404, SECRET_NOT_FOUND);
                }
            }
        }
    });
    join_all(work).await;
    // Where metadata alone was written beside a version, neither has undone the other.
    let body = r#"{"path":"a","version":{"data":{}}}"#;
    domain.client.post(&format!("{}/secret", domain.base), body).await;
    let read = domain.client.get(&domain.secret("a")).await.ok();
    let versions = domain.client.get(&domain.secret("a/version")).await.ok();
    let last = versions.as_array().and_then(|versions| versions.last()).expect("a version");
    assert_eq!(read["metadata"]["currentVersion"], last["id"], "{versions}");
}

async fn what_one_server_changes_counts_in_the_other(server: Server) {
    let mut other = server.another().await;
    let domain = server.domain().await;
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let through_other = other.client(identity);
    domain.create("a", r#"{"k":"v"}"#).await;
    let read = through_other.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["k"], "v");

    // The defaults of the domain.
    through_other
        .put(&format!("{}/secretConfig", domain.base), r#"{"casRequired":true}"#)
        .await
        .ok();
    domain.client.post(&domain.secret("a/version"), data(1)).await.error(400, CAS_MISMATCH);
    domain.client.post(&domain.secret("a/version?cas=1"), data(1)).await.ok();
    through_other.post(&domain.secret("a/version?cas=1"), data(1)).await.error(400, CAS_MISMATCH);
    through_other.post(&domain.secret("a/version?cas=2"), data(2)).await.ok();

    // A domain made by the one, with a key that the other has never seen.
    let later = other.domain().await;
    later.create("b", r#"{"k":"later"}"#).await;
    let identity = Some((&later.certificate_pem[..], &later.private_key_pem[..]));
    let read = server.client(identity).get(&later.secret("b?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["k"], "later");

    // A revocation: on the connection that is open already.
    domain.client.get(&domain.secret("a")).await.ok();
    assert!(other.credentials.revoke(domain.credential.id).await.expect("storage works"));
    domain.client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    through_other.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);

    // The end of a domain.
    server.domains.delete(later.okms_id).await.expect("storage works");
    later.client.get(&later.secret("b")).await.error(401, UNAUTHENTICATED);
    other.stop().await;
}

/// Each writer writes through one server and another in turn, and readers read the same secrets all the while,
/// so that rows are kept in memory, taken out again and overtaken at every point of a write.
async fn nothing_read_is_older_than_what_was_acknowledged(server: Server) {
    const SECRETS: usize = 4;
    let mut other = server.another().await;
    let domain = server.domain().await;
    let clients = clients(&[&server, &other], &domain);
    for secret in 0..SECRETS {
        domain.create(&format!("s/{secret}"), r#"{"writer":0}"#).await;
    }
    let acknowledged: Vec<AtomicUsize> = (0..SECRETS).map(|_| AtomicUsize::new(0)).collect();
    let done = AtomicBool::new(false);
    let writers = (0..SECRETS).map(|secret| {
        let (domain, clients, acknowledged) = (&domain, &clients, &acknowledged);
        async move {
            let target = domain.secret(&format!("s/{secret}/version"));
            for number in 1..=60 {
                clients[number % clients.len()].post(&target, data(number)).await.ok();
                acknowledged[secret].store(number, Ordering::SeqCst);
            }
        }
    });
    let readers = (0..clients.len()).map(|reader| {
        let (domain, client, acknowledged, done) =
            (&domain, &clients[reader], &acknowledged, &done);
        async move {
            for secret in (0..SECRETS).cycle().skip(reader) {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let least = acknowledged[secret].load(Ordering::SeqCst);
                let target = domain.secret(&format!("s/{secret}?includeData=true"));
                let read = client.get(&target).await.ok();
                let number = read["version"]["data"]["writer"].as_u64().expect("a number");
                assert!(number as usize >= least, "{number} was read after {least}");
                assert_eq!(read["version"]["id"], number + 1);
            }
        }
    });
    let write = async {
        join_all(writers).await;
        done.store(true, Ordering::SeqCst);
    };
    futures_util::future::join(write, join_all(readers)).await;
    other.stop().await;
}

/// All writers name the same current version, in each of the three ways to write one.
async fn cas_is_won_once(domain: &Domain, clients: &[Client]) {
    domain.create("cas", r#"{"writer":-1}"#).await;
    for (current, way) in [Way::Update, Way::PostVersion, Way::PutVersion].into_iter().enumerate() {
        let current = current + 1;
        let writes = (0..WRITERS).map(|writer| {
            let client = &clients[writer % clients.len()];
            way.write(client, domain, current, writer)
        });
        let winner = one_winner(join_all(writes).await, 400, CAS_MISMATCH);
        let read = domain.client.get(&domain.secret("cas?includeData=true")).await.ok();
        assert_eq!(read["metadata"]["currentVersion"], current + 1);
        assert_eq!(read["version"]["data"]["writer"], winner);
    }
}

async fn path_is_created_once(domain: &Domain, clients: &[Client]) {
    let target = format!("{}/secret", domain.base);
    let writes = (0..WRITERS).map(|writer| {
        let body = json!({ "path": "new", "version": { "data": { "writer": writer } } });
        clients[writer % clients.len()].post(&target, body)
    });
    let winner = one_winner(join_all(writes.map(Box::pin)).await, 409, CONFLICT);
    let read = domain.client.get(&domain.secret("new?includeData=true")).await.ok();
    assert_eq!(read["metadata"]["currentVersion"], 1);
    assert_eq!(read["version"]["data"]["writer"], winner);
}

#[derive(Clone, Copy)]
enum Way {
    Update,
    PostVersion,
    PutVersion,
}

impl Way {
    async fn write(self, client: &Client, domain: &Domain, cas: usize, writer: usize) -> Answer {
        let data = json!({ "data": { "writer": writer } });
        let (method, target, body) = match self {
            Self::Update => (Method::PUT, "cas", json!({ "version": data })),
            Self::PostVersion => (Method::POST, "cas/version", data),
            Self::PutVersion => (Method::PUT, "cas/version", data),
        };
        client.json(method, &domain.secret(&format!("{target}?cas={cas}")), body).await
    }
}

/// The number of the only answer that is a success; all others are this error.
#[track_caller]
fn one_winner(answers: Vec<Answer>, status: u16, code: i64) -> usize {
    let (won, lost): (Vec<_>, Vec<_>) =
        answers.into_iter().enumerate().partition(|(_, answer)| answer.status == 200);
    for (_, answer) in lost {
        answer.error(status, code);
    }
    assert_eq!(won.len(), 1, "{} writers were told that they won", won.len());
    won[0].0
}

/// Clients of the domain on these servers, each with a connection of its own.
fn clients(servers: &[&Server], domain: &Domain) -> Vec<Client> {
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let servers = servers.iter().cycle().take(WRITERS / 10);
    servers.map(|server| server.client(identity)).collect()
}

fn data(writer: usize) -> Value {
    json!({ "data": { "writer": writer } })
}
