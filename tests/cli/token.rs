//! `okmsd token`.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    client::Answer,
    harness::{Server, Trial, fail, json as run_json, okmsd, run, succeed},
};

const ACCOUNT: &str = "urn:v1:eu:identity:account:dev";

/// Makes a token in the domain of the trial.
#[track_caller]
fn create(trial: &Trial, more: &[&str]) -> Value {
    let command = ["token", "create", "--okms-id", trial.variable("OKMS_ID"), "--format", "json"];
    let made = succeed(trial.cwd.path(), &[&command, more].concat());
    serde_json::from_str(&made).expect("JSON")
}

/// Asks for the list of secrets with a token and no certificate.
async fn ask(trial: &Trial, token: &str) -> Answer {
    let headers = [("x-vault-token", token)];
    trial.client_with(None).send(Method::GET, &trial.secrets(), &headers, Bytes::new()).await
}

#[tokio::test]
async fn a_token_is_shown_once_and_counts_until_it_is_revoked() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let made =
        create(&trial, &["--identity", ACCOUNT, "--description", "For CI", "--valid-for", "12h"]);
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(token.starts_with("okmsd_pat_"), "{made}");
    assert_eq!(ask(&trial, token).await.status, 200);

    let list = ["token", "list", "--domain", trial.variable("OKMS_ID")];
    let listed = run_json(cwd, &list);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    for (name, value) in [
        ("id", json!(id)),
        ("okmsId", json!(trial.variable("OKMS_ID"))),
        ("kind", json!("personal")),
        ("description", json!("For CI")),
        ("status", json!("READY")),
        ("identityURNs", json!([ACCOUNT])),
        ("revokedAt", Value::Null),
        ("token", Value::Null),
    ] {
        assert_eq!(listed[0][name], value, "{name}");
    }
    let text = succeed(cwd, &list);
    let (head, row) = text.trim_end().split_once('\n').unwrap();
    let head: Vec<_> = head.split_whitespace().collect();
    assert_eq!(head, ["ID", "KIND", "STATUS", "EXPIRES", "IDENTITIES", "DESCRIPTION"]);
    let expires = made["expiredAt"].as_str().unwrap();
    let row: Vec<_> = row.split_whitespace().collect();
    assert_eq!(row, [id, "personal", "READY", expires, ACCOUNT, "For", "CI"]);

    assert_eq!(succeed(cwd, &["token", "revoke", id]), format!("Revoked {id}.\n"));
    ask(&trial, token).await.error(401, 50_475_011);
    assert_eq!(run_json(cwd, &list)[0]["status"], "REVOKED");
    assert_eq!(trial.client().get(&trial.secrets()).await.status, 200);

    // What was done is recorded, and the token is nowhere.
    let lines = trial.audit_lines();
    for operation in ["token create", "token list", "token revoke"] {
        let stages: Vec<_> = lines
            .iter()
            .filter(|line| line["operation"] == operation)
            .map(|line| line["stage"].as_str().unwrap())
            .collect();
        assert!(stages.starts_with(&["begun", "ended"]), "{operation}: {stages:?}");
    }
    let ended = lines
        .iter()
        .find(|line| line["operation"] == "token create" && line["stage"] == "ended")
        .unwrap();
    assert_eq!(ended["about"]["tokenId"], id);
    assert_eq!(ended["about"]["expiresAt"], made["expiredAt"]);
    for file in crate::harness::files_below(cwd) {
        let bytes = fs::read(&file).unwrap();
        let found = bytes.windows(token.len()).any(|bytes| bytes == token.as_bytes());
        assert!(!found, "the token is in {}", file.display());
    }
    assert!(!trial.printed().contains(token));
}

#[tokio::test]
async fn a_list_says_of_each_token_whether_it_counts() {
    let trial = Trial::start();
    let description = ["--identity", ACCOUNT, "--description", "said"];
    let made: Vec<_> = (0..4).map(|_| create(&trial, &description)).collect();
    let ids: Vec<_> = made.iter().map(|made| made["id"].as_str().unwrap()).collect();
    succeed(trial.cwd.path(), &["token", "revoke", ids[0]]);
    let options = SqliteConnectOptions::new().filename(trial.data("okmsd.db"));
    let mut store = SqliteConnection::connect_with(&options).await.unwrap();
    for (id, change) in
        [(ids[1], "description = 'x' || char(27) || '[2J'"), (ids[2], "identity_urns = 'none'")]
    {
        let sql = format!("UPDATE tokens SET {change} WHERE token_id = '{id}'");
        store.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    store.close().await.unwrap();
    for (made, status) in made.iter().zip([401, 401, 500, 200]) {
        let token = made["token"].as_str().unwrap();
        assert_eq!(ask(&trial, token).await.status, status);
    }
    let list = ["token", "list", "--domain", trial.variable("OKMS_ID")];
    let listed = run_json(trial.cwd.path(), &list);
    let text = succeed(trial.cwd.path(), &list);
    assert!(!text.contains('\u{1b}'), "nothing of what somebody wrote: {text}");
    for (id, status) in ids.iter().zip(["REVOKED", "TAMPERED", "TAMPERED", "READY"]) {
        let row = listed.as_array().unwrap().iter().find(|row| row["id"] == *id).unwrap();
        assert_eq!(row["status"], status);
        assert_eq!(row["description"].is_null(), status == "TAMPERED", "{row}");
        let line = text.lines().find(|line| line.contains(id)).unwrap();
        assert!(line.contains(status), "{line}");
        assert_eq!(line.contains("said"), status != "TAMPERED", "{line}");
    }
}

#[tokio::test]
async fn a_token_whose_making_could_not_be_recorded_is_named() {
    let mut trial = Trial::start();
    trial.stop();
    let cwd = trial.cwd.path();
    let options = SqliteConnectOptions::new().filename(trial.data("okmsd.db"));
    let mut store = SqliteConnection::connect_with(&options).await.unwrap();
    store.execute("BEGIN IMMEDIATE").await.unwrap();
    let okms_id = trial.variable("OKMS_ID");
    let mut command = okmsd(cwd, &["token", "create", "--domain", okms_id, "--identity", ACCOUNT]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It opens the store when it has recorded that it begins, and waits there.
    let open_files = format!("/proc/{}/fd", command.id());
    let is_open = || {
        let files = fs::read_dir(&open_files).unwrap();
        let mut files = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        files.any(|file| file.ends_with("okmsd.db"))
    };
    while !is_open() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (log, aside) = (trial.data("audit"), trial.data("aside"));
    fs::rename(&log, &aside).unwrap();
    fs::write(&log, "").unwrap();
    store.execute("COMMIT").await.unwrap();
    let ended = command.wait_with_output().unwrap();
    fs::remove_file(&log).unwrap();
    fs::rename(&aside, &log).unwrap();
    store.close().await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stdout.is_empty());
    let error = String::from_utf8(ended.stderr).unwrap();
    let listed = run_json(cwd, &["token", "list", "--domain", okms_id]);
    let id = listed[0]["id"].as_str().unwrap_or_else(|| panic!("{error}"));
    assert!(error.contains(&format!("it was done (tokenId {id}, expiresAt ")), "{error}");
    assert!(!error.contains("okmsd_pat_"), "{error}");
}

#[test]
fn the_text_of_an_answer_has_the_token_once_and_says_so() {
    let trial = Trial::start();
    let okms_id = trial.variable("OKMS_ID");
    let create = ["token", "create", "--domain", okms_id, "--identity", ACCOUNT];
    let text = succeed(trial.cwd.path(), &create);
    assert_eq!(text.matches("okmsd_pat_").count(), 1, "{text}");
    assert!(text.contains("Token, shown only now: okmsd_pat_"), "{text}");
    // Nothing gives this one a right.
    let user = "urn:v1:eu:identity:user:dev/nobody";
    let made = run(trial.cwd.path(), &["token", "create", "--domain", okms_id, "--identity", user]);
    assert!(made.status.success());
    let hint = String::from_utf8(made.stderr).unwrap();
    assert!(hint.contains("the token may do nothing yet"), "{hint}");
}

#[test]
fn what_breaks_a_rule_makes_no_token() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let okms_id = trial.variable("OKMS_ID");
    let create = ["token", "create", "--domain", okms_id];
    let long = "d".repeat(201);
    let mut many = Vec::new();
    (0..26).for_each(|_| many.extend(["--identity", ACCOUNT]));
    for more in [
        &[][..],
        &many,
        &["--identity", "urn:v1:eu:identity:robot:a"],
        &["--identity", ACCOUNT, "--description", &long],
        &["--identity", ACCOUNT, "--valid-for", "59s"],
        &["--identity", ACCOUNT, "--valid-for", "366d"],
        &["--identity", ACCOUNT, "--valid-for", "1y"],
        &["--identity", ACCOUNT, "--valid-for", "0"],
        &["--identity", ACCOUNT, "--valid-for", "3600000ms"],
    ] {
        fail(cwd, &[&create, more].concat(), 2);
    }
    let nowhere = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";
    fail(cwd, &["token", "create", "--domain", nowhere, "--identity", ACCOUNT], 1);
    fail(cwd, &["token", "list", "--domain", nowhere], 1);
    fail(cwd, &["token", "revoke", nowhere], 1);
    // Somebody gave the token where its id belongs: it is not repeated.
    let error = fail(cwd, &["token", "revoke", "okmsd_pat_CANARY"], 2);
    assert!(!error.contains("CANARY"), "{error}");
    let listed = run_json(cwd, &["token", "list", "--domain", okms_id]);
    assert_eq!(listed, json!([]));
}

#[tokio::test]
async fn a_setting_turns_tokens_off() {
    let mut trial = Trial::start();
    let made = create(&trial, &["--identity", ACCOUNT]);
    let token = made["token"].as_str().unwrap().to_owned();
    ask(&trial, &token).await.ok();
    trial.stop();
    let config = trial.data("okmsd.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[tokens]\nenabled = false\n")).unwrap();
    let config = ["--config", "certs/dev/okmsd.toml"];
    let listed = succeed(trial.cwd.path(), &[&["config", "check"], &config[..]].concat());
    assert!(listed.contains("tokens.enabled"), "{listed}");
    let create = ["token", "create", "--domain", trial.variable("OKMS_ID"), "--identity", ACCOUNT];
    let hint = run(trial.cwd.path(), &[&create, &config[..]].concat());
    assert!(hint.status.success());
    let hint = String::from_utf8(hint.stderr).unwrap();
    assert!(hint.contains("tokens.enabled is false"), "{hint}");

    // Free now; nobody else is likely to take it before the server does.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = listener.local_addr().unwrap();
    drop(listener);
    let api = api.to_string();
    let arguments = ["serve", "--docs-listen", "off", "--api-listen", &api];
    let command = okmsd(trial.cwd.path(), &[&arguments[..], &config].concat());
    let is_ready = || TcpStream::connect(&api).is_ok();
    let server = Server::start(command, &trial.cwd.path().join("serve.log"), is_ready);
    let client = trial.client_of(&format!("https://localhost:{}", api.rsplit(':').next().unwrap()));
    client.get(&trial.secrets()).await.ok();
    let headers = [("x-vault-token", token.as_str())];
    let answer = client.send(Method::GET, &trial.secrets(), &headers, Bytes::new()).await;
    answer.error(401, 50_475_012);
    assert_eq!(server.stop(), Some(0));
}
