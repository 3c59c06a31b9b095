//! Two servers on a PostgreSQL of three nodes, of which one after another is lost: Patroni with etcd, synchronous.
//!
//! What was acknowledged is there whatever becomes of the primary; what was sent again with its `Idempotency-Key`
//! is there once; and nobody has to start a server anew.

mod balancer;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/client.rs"]
mod client;
mod cluster;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../cli/harness.rs"]
mod harness;
mod history;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/tools.rs"]
mod tools;

use std::{
    fs::{self, Permissions},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep};

use crate::{
    balancer::Balancer,
    client::{Client, tls_config},
    cluster::Cluster,
    harness::{Server, Trial, okmsd, read, succeed},
    history::{Writers, is_unavailable, write_once},
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_primary_is() {
    if !tools::at_hand(&["patroni", "etcd"]) {
        return;
    }
    let mut cluster = Cluster::start();
    let balancer = Balancer::start(cluster.nodes()).await;
    cluster.is_whole().await;
    balancer.leads_to_one().await;
    let url = format!("postgres://okmsd@{}/postgres", balancer.address);
    let trial = Trial::start_with(&["--database", &url]);
    let (second, other) = second_server(&trial, &url);
    let clients = [trial.client(), other];
    let domain = trial.secrets().replace("/secret", "");
    clients[0].put(&format!("{domain}/secretConfig"), r#"{"maxVersions":24000}"#).await.ok();
    let writers = Writers::start(&clients, &domain).await;
    a_standby_is_refused(&trial, &cluster).await;

    for round in 0..2 {
        is_well(&clients, &domain, &format!("before {round}")).await;
        let lost = cluster.primary().await;
        cluster.kill(lost);
        cluster.has_another_primary(lost).await;
        writers.get_on().await;
        is_well(&clients, &domain, &format!("without {round}")).await;
        cluster.start_node(lost);
        cluster.is_whole().await;
    }

    // PostgreSQL alone ends, and Patroni starts it again or has another one take its place.
    cluster.kill_postgres(cluster.primary().await);
    cluster.is_whole().await;
    writers.get_on().await;
    is_well(&clients, &domain, "after its PostgreSQL").await;

    cluster.switch_over().await;
    cluster.is_whole().await;
    writers.get_on().await;
    is_well(&clients, &domain, "after a switch").await;

    // Connections end in the middle of whatever they do.
    let mut connection = PgConnection::connect(&cluster.url().await).await.expect("the primary");
    for _ in 0..30 {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'okmsd'";
        connection.execute(end).await.expect("the right to do so");
        sleep(Duration::from_millis(100)).await;
    }
    connection.close().await.expect("to close");
    writers.get_on().await;
    is_well(&clients, &domain, "after connections ended").await;

    // With no standby left nothing is acknowledged, however long it takes; and what was asked for is done once
    // there is one again, and once only.
    let primary = cluster.primary().await;
    let standbys: Vec<_> = (0..3).filter(|node| *node != primary).collect();
    standbys.iter().for_each(|node| cluster.kill(*node));
    let target = format!("{domain}/secret/alone/version");
    let new = json!({ "path": "alone", "version": { "data": {} } });
    let body = json!({ "data": { "k": "v" } });
    // One that is on its way to the standby when that ends may still get there.
    sleep(Duration::from_secs(1)).await;
    let create = write_once(&clients[0], &format!("{domain}/secret"), "alone-1", &new).await;
    assert!(create.is_ok_and(|answer| is_unavailable(&answer)), "acknowledged by one node alone");
    standbys.iter().for_each(|node| cluster.start_node(*node));
    cluster.is_whole().await;
    writers.get_on().await;
    for (key, target, body) in
        [("alone-1", format!("{domain}/secret"), &new), ("alone-2", target.clone(), &body)]
    {
        let done = write_once(&clients[1], &target, key, body).await.expect("an answer");
        done.ok();
    }
    let found = clients[0].get(&format!("{domain}/secret/alone")).await.ok();
    assert_eq!(found["metadata"]["currentVersion"], 2);

    let acknowledged = writers.check(&clients, &domain).await;
    assert!(acknowledged > 200, "only {acknowledged} writes were acknowledged");
    assert_eq!(second.stop(), Some(0));
}

/// What a standby has may be old, and it takes nothing: a backup or a restore says so at once.
async fn a_standby_is_refused(trial: &Trial, cluster: &Cluster) {
    let (cwd, url) = (trial.cwd.path(), cluster.url_of_a_standby().await);
    fs::write(cwd.join("passphrase"), "correct horse battery").expect("a file");
    fs::set_permissions(cwd.join("passphrase"), Permissions::from_mode(0o600)).expect("a mode");
    let backup = ["backup", "--passphrase-file", "passphrase", "one"];
    succeed(cwd, &backup);
    let restore = ["restore", "--passphrase-file", "passphrase", "one"];
    let second = ["backup", "--passphrase-file", "passphrase", "two"];
    for arguments in [&second, &restore] {
        let begun = Instant::now();
        let output = okmsd(cwd, arguments).env("OKMSD_DATABASE", &url).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("standby"), "{arguments:?}: {text}");
        assert!(begun.elapsed() < AT_ONCE, "{arguments:?}: {:?}", begun.elapsed());
    }
    assert!(!cwd.join("two").exists());
}

/// Another server on the same database, and a client of it.
fn second_server(trial: &Trial, url: &str) -> (Server, Client) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    let (cwd, listen) = (trial.cwd.path(), format!("127.0.0.1:{port}"));
    let flags = ["--config", "certs/dev/okmsd.toml", "--database", url, "--docs-listen", "off"];
    let command = okmsd(cwd, &[&["serve", "--api-listen", &listen], &flags[..]].concat());
    let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let server = Server::start(command, &cwd.join("second.log"), is_ready);
    let file = |name| read(trial.variable(name).as_ref());
    let tls = tls_config(&file("OKMS_CA"), Some((&file("OKMS_CERT"), &file("OKMS_KEY"))));
    (server, Client::new(&format!("https://localhost:{port}"), tls))
}

/// Both servers do what they are asked, at the first try.
async fn is_well(clients: &[Client; 2], domain: &str, when: &str) {
    // What is in the middle of failing still may: once one has done ten in a row, it is over.
    let deadline = Instant::now() + RECOVERY;
    let path = when.replace(' ', "-");
    for (at, client) in clients.iter().enumerate() {
        let (mut in_a_row, mut number) = (0, 0);
        while in_a_row < 10 {
            number += 1;
            let new = json!({ "path": format!("{path}/{at}/{number}"), "version": { "data": {} } });
            let answer = client.post(&format!("{domain}/secret"), new).await;
            match answer.status {
                200 => in_a_row += 1,
                _ => {
                    assert!(is_unavailable(&answer), "{when}: {}", answer.text());
                    assert!(Instant::now() < deadline, "{when}: {}", answer.text());
                    in_a_row = 0;
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Far less than a pool tries to connect for.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long a server may take after the database is whole again: it finds out that a connection is dead when it uses
/// it.
const RECOVERY: Duration = Duration::from_secs(30);
