//! Two servers, each a process of its own, on one PostgreSQL.

use std::{
    fs,
    net::{TcpListener, TcpStream},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, tls_config},
    harness::{Server, Trial, okmsd, read, succeed},
    postgres::{Schema, postgres_is_at_hand},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_postgres_are_one_service() {
    if !postgres_is_at_hand() {
        return;
    }
    let schema = Schema::create().await;
    let url = schema.url();
    let trial = Trial::start_with(&["--database", &url]);
    // Free now; nobody else is likely to take it before the server does.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    let (cwd, listen) = (trial.cwd.path(), format!("127.0.0.1:{port}"));
    let flags = ["--config", "certs/dev/okmsd.toml", "--database", &url, "--docs-listen", "off"];
    let command = okmsd(cwd, &[&["serve", "--api-listen", &listen], &flags[..]].concat());
    let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let second = Server::start(command, &cwd.join("second.log"), is_ready);

    let (certificate, key) =
        (read(trial.variable("OKMS_CERT").as_ref()), trial.variable("OKMS_KEY"));
    let (ca, key) = (read(trial.variable("OKMS_CA").as_ref()), read(key.as_ref()));
    let other = || {
        let tls = tls_config(&ca, Some((&certificate, &key)));
        Client::new(&format!("https://localhost:{port}"), tls)
    };
    // Ten connections, every other one to the second process.
    let clients: Vec<_> =
        (0..10).map(|number| if number % 2 == 0 { trial.client() } else { other() }).collect();
    let secrets = trial.secrets();
    let a = format!("{secrets}/a");

    let created = (0..100_usize).map(|writer| {
        let body = json!({ "path": "a", "version": { "data": { "writer": writer } } });
        let (client, secrets) = (&clients[writer % clients.len()], &secrets);
        async move { client.post(secrets, body).await }
    });
    let winner = one_winner(&join_all(created).await, 409, 50_438_145);
    for client in &clients[..2] {
        let found = client.get(&format!("{a}?includeData=true")).await.ok();
        assert_eq!(found["version"]["data"]["writer"], winner);
    }
    for cas in 1..=3 {
        let target = format!("{a}/version?cas={cas}");
        let written = (0..100_usize).map(|writer| {
            let body = json!({ "data": { "writer": writer } });
            let (client, target) = (&clients[writer % clients.len()], &target);
            async move { client.post(target, body).await }
        });
        let winner = one_winner(&join_all(written).await, 400, 17_137_664 + 10);
        for client in &clients[..2] {
            let found = client.get(&format!("{a}?includeData=true")).await.ok();
            assert_eq!(found["metadata"]["currentVersion"], cas + 1);
            assert_eq!(found["version"]["data"]["writer"], winner);
        }
    }

    // The defaults of the domain count in the other process at once.
    let config = secrets.replace("/secret", "/secretConfig");
    clients[1].put(&config, r#"{"casRequired":true}"#).await.ok();
    clients[0].put(&a, r#"{"version":{"data":{}}}"#).await.error(400, 17_137_664 + 10);

    // What a third process changes counts in both at their next request: policies, domains, keys and tokens.
    let act = |arguments: &[&str]| {
        let mut command = okmsd(cwd, &[arguments, &["--data-dir", "certs/dev"]].concat());
        let output = command.env("OKMSD_DATABASE", &url).output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let make = |arguments: &[&str]| -> Value {
        serde_json::from_str(&act(&[arguments, &["--format", "json"]].concat())).expect("JSON")
    };
    let bases = [trial.variable("OKMS_ENDPOINT").to_owned(), format!("https://localhost:{port}")];
    let both = |identity: Option<(&str, &str)>| {
        bases.clone().map(|base| Client::new(&base, tls_config(&ca, identity)))
    };
    let with = |made: &Value| {
        let file = |name: &str| read(made["files"][name].as_str().expect("a file").as_ref());
        both(Some((&file("certificate"), &file("privateKey"))))
    };
    let domain = trial.variable("OKMS_ID");
    let (user, account) = ("urn:v1:eu:identity:user:dev/deploy", "urn:v1:eu:identity:account:dev");
    let credential = ["credential", "create", "--name", "x", "--domain"];
    let users = with(&make(&[&credential[..], &[domain, "--identity", user]].concat()));
    let policy = json!({
        "name": "p",
        "identities": [user],
        "resources": [{ "urn": format!("urn:v1:eu:resource:okms:{domain}/secret/a") }],
        "permissions": { "allow": [{ "action": "okms:apikms:secret/get" }] },
    });
    fs::write(cwd.join("policy.json"), policy.to_string()).expect("a file");
    for _ in 0..2 {
        for client in &users {
            client.get(&a).await.error(403, 16_924_673);
        }
        act(&["policy", "apply", "-f", "policy.json"]);
        for client in &users {
            client.get(&a).await.ok();
        }
        act(&["policy", "delete", "p"]);
    }
    let new = make(&["domain", "create", "--name", "new"]);
    let new = new["okmsId"].as_str().expect("an id");
    let members = with(&make(&[&credential[..], &[new, "--identity", account]].concat()));
    for client in &members {
        client.get(&format!("/api/{new}/v2/secret")).await.ok();
    }
    for (round, client) in clients[..2].iter().enumerate() {
        act(&["key", "rotate-domain", domain]);
        let version = json!({ "data": { "round": round } });
        client.post(&format!("{a}/version?cas={}", round + 4), version).await.ok();
        for client in &clients[..2] {
            let found = client.get(&format!("{a}?includeData=true")).await.ok();
            assert_eq!(found["version"]["data"]["round"], round);
        }
    }
    let token = ["token", "create", "--identity", account, "--description", "x"];
    let token = make(&[&token[..], &["--valid-for", "1h", "--okms-id", domain]].concat());
    let holders = both(None);
    let headers = [("x-vault-token", token["token"].as_str().expect("a token"))];
    for client in &holders {
        client.page(&secrets, &headers).await.ok();
    }
    act(&["token", "revoke", token["id"].as_str().expect("an id")]);
    for client in &holders {
        client.page(&secrets, &headers).await.error(401, 50_475_011);
    }

    // A revocation counts on connections that are open.
    let file = trial.variable("OKMS_CERT").rsplit('/').next().expect("a name").to_owned();
    let id = file.strip_suffix("_certificate.pem").expect("the credential's id");
    act(&["credential", "revoke", id]);
    for client in &clients {
        client.get(&a).await.error(401, 50_475_011);
    }
    assert_eq!(second.stop(), Some(0));

    // Each has written a chain of its own.
    let verified = succeed(cwd, &["audit", "verify", "--data-dir", "certs/dev"]);
    assert_eq!(verified.matches(": whole, ").count(), 3, "{verified}");
    for writer in ["cli", "server-1", "server-2"] {
        assert!(verified.contains(&format!("audit/{writer}/000001")), "{verified}");
    }
}

#[track_caller]
fn one_winner(answers: &[Answer], status: u16, code: i64) -> usize {
    let won: Vec<_> = (0..answers.len()).filter(|at| answers[*at].status == 200).collect();
    assert_eq!(won.len(), 1, "{} writers were told that they won", won.len());
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.error(status, code);
    }
    won[0]
}
