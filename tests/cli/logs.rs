//! What the program writes about requests: never what is in them.

use std::{collections::HashSet, fs};

use hyper::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{
    harness::{Trial, files_below, okmsd},
    postgres::{Schema, postgres_is_at_hand},
};

#[tokio::test]
async fn reads_that_succeed_are_in_the_log_at_the_level_debug_alone() {
    for (level, reads) in [("info", 0), ("info,okmsd::access=debug", 1)] {
        let mut trial = Trial::start_with(&["--log-level", level]);
        let (client, secrets) = (trial.client(), trial.secrets());
        let body = json!({ "path": "seen", "version": { "data": { "k": "v" } } });
        client.post(&secrets, body).await.ok();
        client.get(&format!("{secrets}/seen")).await.ok();
        assert_eq!(client.get(&format!("{secrets}/unseen")).await.status, 404);
        trial.stop();
        let log = trial.printed();
        let count = |method: &str, path: &str, status: u16| {
            let parts = [
                "okmsd::access".to_owned(),
                format!("http.method={method:?}"),
                format!("/secret/{path}\""),
                format!("http.status={status}"),
            ];
            log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
        };
        assert_eq!(count("POST", "seen", 200), 1, "{log}");
        assert_eq!(count("GET", "unseen", 404), 1, "{log}");
        assert_eq!(count("GET", "seen", 200), reads, "{log}");
    }
}

#[tokio::test]
async fn all_requests_of_an_export_or_import_are_a_part_of_one_trace() {
    let mut trial = Trial::start_with(&["--log-level", "info,okmsd::access=debug"]);
    let (client, secrets) = (trial.client(), trial.secrets());
    for path in ["a", "b"] {
        client.post(&secrets, json!({ "path": path, "version": { "data": {} } })).await.ok();
    }
    let theirs = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{theirs}-00f067aa0ba902b7-01");
    let variables = ["OKMS_ENDPOINT", "OKMS_ID", "OKMS_CA", "OKMS_CERT", "OKMS_KEY"];
    let commands: [&[&str]; 5] = [
        &["export", "--out", "one"],
        &["export", "--out", "two"],
        &["import", "file", "one", "--to", "c"],
        &["export", "--out", "three"],
        &["import", "vault", "a", "--to", "d"],
    ];
    let given = ["", &traceparent, "", "no-traceparent", ""];
    let [endpoint, okms_id, ca, cert, key] = variables.map(|name| trial.variable(name));
    // The server is the Vault, too.
    let address = format!("{endpoint}/api/{okms_id}");
    let vault = [
        ("VAULT_ADDR", &*address),
        ("VAULT_CACERT", ca),
        ("VAULT_CLIENT_CERT", cert),
        ("VAULT_CLIENT_KEY", key),
    ];
    for (arguments, given) in commands.into_iter().zip(given) {
        let mut command = okmsd(trial.cwd.path(), arguments);
        command.envs(variables.map(|name| (name, trial.variable(name)))).envs(vault);
        command.env("TRACEPARENT", given);
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    trial.stop();
    let log = trial.printed();
    let lines = log.lines().filter(|line| line.contains("okmsd::access"));
    let trace = |line: &str| line.split_once("trace.id=").expect("a trace").1[..32].to_owned();
    // Those that made the secrets are not of a command.
    let mut traces: Vec<_> = lines.map(trace).skip(2).collect();
    assert!(traces.len() >= 16, "{log}");
    traces.dedup();
    assert_eq!((traces.len(), &*traces[1]), (5, theirs), "{log}");
    assert_eq!(traces.iter().collect::<HashSet<_>>().len(), 5, "{log}");
    let of_vault: Vec<_> = log.lines().filter(|line| line.contains(&traces[4])).collect();
    for part in ["/v1/auth/cert/login", "/v1/secret/", "/v2/secret"] {
        assert!(of_vault.iter().any(|line| line.contains(part)), "{part}: {log}");
    }
}

#[tokio::test]
async fn lines_about_a_request_have_its_id_and_that_of_its_trace() {
    let theirs = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{theirs}-00f067aa0ba902b7-01");
    for format in ["json", "text"] {
        let mut trial = Trial::start_with(&["--log-format", format]);
        let ask = async |client: &crate::client::Client, headers: &[(&str, &str)]| {
            let absent = format!("{}/absent", trial.secrets());
            let answer = client.send(Method::GET, &absent, headers, "".into()).await;
            let header = |name: &str| answer.header(name).map(str::to_owned);
            (answer.status, header("x-request-id").expect("an id"), header("traceresponse"))
        };
        let (own, nobody) = (trial.client(), trial.client_with(None));
        let continued = ask(&own, &[("traceparent", &traceparent), ("tracestate", "a=b")]).await;
        let refused = ask(&nobody, &[("traceparent", &traceparent)]).await;
        let invalid = ask(&own, &[("traceparent", &traceparent.to_uppercase())]).await;
        let twice = [("traceparent", &*traceparent), ("traceparent", &traceparent)];
        let twice = ask(&own, &twice).await;
        let none = ask(&own, &[]).await;
        assert_eq!([continued.0, refused.0, invalid.0, twice.0, none.0], [404, 401, 404, 404, 404]);
        for (_, id, traceresponse) in [&continued, &refused] {
            let span = id.replace('-', "")[21..].to_owned();
            assert_eq!(traceresponse.as_deref(), Some(&*format!("00-{theirs}-{span}-01")));
        }
        for (_, _, traceresponse) in [&invalid, &twice, &none] {
            assert_eq!(*traceresponse, None);
        }
        trial.stop();
        let log = trial.printed();
        let lines = |id: &str, trace: &str, words: &str| {
            let field = |name: &str, value: &str, quoted: bool| match format {
                "json" => format!("\"{name}\":\"{value}\""),
                _ if quoted => format!("{name}=\"{value}\""),
                _ => format!("{name}={value} "),
            };
            let parts =
                [field("request.id", id, true), field("trace.id", trace, false), words.into()];
            log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
        };
        for (_, id, _) in [&continued, &refused] {
            assert_eq!(lines(id, theirs, "okmsd::access"), 1, "{log}");
        }
        assert_eq!(lines(&refused.1, theirs, "credential refused"), 1, "{log}");
        for (_, id, _) in [&invalid, &twice, &none] {
            let new = id.trim_start_matches("OKMS.").replace('-', "");
            assert_eq!(lines(id, &new, "okmsd::access"), 1, "{log}");
        }
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_on_sqlite() {
    canaries_stay_out_of_the_log(&[]).await;
}

#[tokio::test]
async fn nothing_secret_is_logged_on_postgres() {
    if postgres_is_at_hand() {
        let schema = Schema::create().await;
        canaries_stay_out_of_the_log(&["--database", &schema.url()]).await;
    }
}

/// Sends secrets where they belong and where they do not, at the most talkative level, the libraries'
/// own words included.
async fn canaries_stay_out_of_the_log(database: &[&str]) {
    let arguments = [&["--log-level", "trace"], database].concat();
    let mut trial = Trial::start_with(&arguments);
    let (client, secrets) = (trial.client(), trial.secrets());
    let canary = format!("canary{}", Uuid::new_v4().simple());
    let metadata = format!("metadata{}", Uuid::new_v4().simple());
    let signpost = format!("signpost{}", Uuid::new_v4().simple());
    let target = format!("{secrets}/{signpost}");
    let kv = |operation: &str| {
        secrets.replace("/v2/secret", &format!("/v1/secret/{operation}/{signpost}"))
    };

    let data = json!({ (&canary): { "nested": [&canary] } });
    client.post(&secrets, json!({ "path": signpost, "version": { "data": data } })).await.ok();
    client.post(&format!("{target}/version"), json!({ "data": data })).await.ok();
    let read = client.get(&format!("{target}?includeData=true")).await;
    assert!(read.text().contains(&canary), "{}", read.text());
    client.get(&format!("{target}/version/1?includeData=true")).await.ok();
    client.put(&kv("data"), json!({ "data": data })).await.ok();
    let patch = json!({ "data": { "more": [&canary] } });
    client.json(Method::PATCH, &kv("data"), patch).await.ok();
    let read = client.get(&kv("data")).await;
    assert!(read.text().contains(&canary), "{}", read.text());
    client.get(&kv("subkeys")).await.ok();

    for body in [
        // Cut off, not JSON, of another type, in another field, too large, too deep.
        format!(r#"{{"version":{{"data":{{"k":"{canary}""#),
        canary.clone(),
        format!(r#""{canary}""#),
        format!(r#"{{"version":{{"data":"{canary}"}}}}"#),
        format!(r#"{{"version":"{canary}"}}"#),
        format!(r#"{{"data":{{"k":"{canary}"}}}}"#),
        format!(r#"{{"state":"{canary}"}}"#),
        format!(r#"{{"metadata":{{"casRequired":"{canary}"}}}}"#),
        format!(r#"{{"maxVersions":"{canary}"}}"#),
        format!(r#"{{"deactivateVersionAfter":"{canary}"}}"#),
        format!(r#"{{"customMetadata":{{"k":"{canary} with a blank"}}}}"#),
        format!(r#"{{"customMetadata":"{canary}"}}"#),
        format!(r#"{{"version":{{"data":{{"k":"{canary}","k":"{canary}"}}}}}}"#),
        json!({ "version": { "data": { "k": canary.repeat(3_000) } } }).to_string(),
        json!({ "version": { "data": { "k": canary.repeat(20_000) } } }).to_string(),
        format!("{}\"{canary}\"{}", r#"{"k":"#.repeat(60), "}".repeat(60)),
    ] {
        let version = format!("{target}/version");
        for (method, target) in [
            (Method::PUT, &target),
            (Method::POST, &secrets),
            (Method::POST, &version),
            (Method::PUT, &format!("{version}/1")),
            (Method::PUT, &secrets.replace("/secret", "/secretConfig")),
            (Method::PATCH, &kv("data")),
            (Method::PUT, &kv("metadata")),
            (Method::PATCH, &kv("metadata")),
            (Method::PUT, &kv("undelete")),
            (Method::PUT, &secrets.replace("/v2/secret", "/v1/secret/config")),
        ] {
            let answer = client.json(method.clone(), target, &body).await;
            // What is wrong in one place may be right in another.
            assert!(answer.status < 500, "{method} {target} {}", answer.text());
            assert!(!answer.text().contains(&canary), "{method} {target} {}", answer.text());
            // Not declared as JSON.
            client.send(method, target, &[], body.clone().into()).await;
        }
    }
    for query in [
        format!("?cas={canary}"),
        format!("?version={canary}"),
        format!("?includeData={canary}"),
        format!("?{canary}={canary}"),
    ] {
        let answer = client.get(&format!("{target}{query}")).await;
        assert!(!answer.text().contains(&canary), "{}", answer.text());
        let body = r#"{"maxVersions":3}"#;
        let answer = client.put(&format!("{target}{query}"), body).await;
        assert!(!answer.text().contains(&canary), "{}", answer.text());
        for operation in ["data", "subkeys", "metadata"] {
            client.get(&format!("{}{query}", kv(operation))).await;
        }
    }
    for header in ["authorization", "cookie", "x-vault-token", "x-pagination-cursor", "traceparent"]
    {
        let value = format!("Bearer {canary}");
        client.send(Method::GET, &secrets, &[(header, &value)], "".into()).await;
    }
    // Tokens that count, where they belong and where they do not.
    let root = "urn:v1:eu:identity:account:dev";
    let create = ["token", "create", "--domain", trial.variable("OKMS_ID"), "--identity", root];
    let made = crate::harness::json(trial.cwd.path(), &create);
    let personal = made["token"].as_str().expect("a token").to_owned();
    let auth = secrets.replace("/v2/secret", "/v1/auth");
    let login = client.post(&format!("{auth}/cert/login"), "").await.ok();
    let login = login["auth"]["client_token"].as_str().expect("a token").to_owned();
    for token in [&personal, &login] {
        let headers = [("x-vault-token", token.as_str())];
        client.send(Method::GET, &secrets, &headers, "".into()).await.ok();
        let answers = [
            client.get(&format!("/{token}")).await,
            client.get(&format!("{secrets}//{token}")).await,
            client.get(&format!("{target}?{token}={token}")).await,
            client.post(&secrets, format!(r#"{{"token":"{token}"}}"#)).await,
            client.get(&secrets.replace("/v2/secret", &format!("/v1/sys/mounts/{token}"))).await,
            trial.client_with(None).send(Method::GET, "/", &[("cookie", token)], "".into()).await,
        ];
        answers.iter().for_each(|answer| assert!(!answer.text().contains(token)));
        for below in ["lookup-self", "renew-self", "revoke-self", "revoke-self"] {
            let method = if below == "lookup-self" { Method::GET } else { Method::PUT };
            client.send(method, &format!("{auth}/token/{below}"), &headers, "".into()).await;
        }
        // Nobody's any more.
        let answer = client.send(Method::GET, &secrets, &headers, "".into()).await;
        assert_eq!(answer.status, 401);
    }
    // Where no secret belongs: paths of no route, paths that are no secret's, methods, names of domains.
    for path in [
        format!("/{canary}"),
        format!("/api/{canary}/v2/secret"),
        secrets.replace("/secret", &format!("/{canary}")),
        format!("{secrets}/{canary}%20"),
        format!("{secrets}//{canary}"),
        format!("{target}/version/{canary}"),
        format!("{}%20{canary}", kv("data")),
        format!("{}%20{canary}?list=true", kv("metadata")),
        secrets.replace("/v2/secret", &format!("/v1/servicekey/{canary}")),
        secrets.replace("/v2/secret", &format!("/v1/secret/{canary}")),
        format!("/swagger/{canary}"),
    ] {
        let answer = client.get(&path).await;
        assert!(!answer.text().contains(&canary), "{path} {}", answer.text());
    }
    let method = Method::from_bytes(canary.as_bytes()).expect("a method");
    client.send(method, &target, &[], "".into()).await;
    // Custom metadata is stored in clear, as the README says, and is no matter of logs either.
    let body = json!({ "metadata": { "customMetadata": { "k": metadata, (&metadata): "v" } } });
    client.put(&target, body).await.ok();
    trial.stop();

    let database = ["okmsd.db", "okmsd.db-wal", "okmsd.db-shm"].map(|name| trial.data(name));
    let files = files_below(trial.cwd.path());
    assert!(files.iter().any(|file| file.ends_with("000001.jsonl")), "the audit log is there");
    for file in files {
        let content = fs::read(&file).expect("a file");
        let holds = |text: &str| content.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds(&canary), "{} holds a secret", file.display());
        for token in [&personal, &login] {
            assert!(!holds(token), "{} holds a token", file.display());
        }
        assert!(database.contains(&file) || !holds(&metadata), "{} holds metadata", file.display());
    }
    let audit: String = trial.audit_lines().iter().map(ToString::to_string).collect();
    assert!(audit.contains(&signpost), "requests are recorded with the URN of their secret");

    let log = trial.printed();
    assert!(log.contains(&signpost), "requests are logged with the URN of their secret");
    assert!(log.contains("TRACE"), "everything is logged");
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&canary)).collect();
    assert!(lines.is_empty(), "{} lines, such as: {}", lines.len(), lines[0]);
    for token in [&personal, &login] {
        assert!(!log.contains(token.as_str()), "a token is logged");
    }
    let key = crate::harness::read(&trial.data("root.key"));
    assert!(!log.contains(key.trim()), "the root key is logged");
}
