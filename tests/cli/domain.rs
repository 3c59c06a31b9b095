//! `okmsd domain`.

use std::{collections::HashSet, fs};

use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::harness::{Trial, fail, json as run_json, run, succeed};

#[tokio::test]
async fn domains_live_while_the_server_runs() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let made =
        run_json(cwd, &["domain", "create", "--name", "Production", "--region", "eu-west-x"]);
    let id = made["okmsId"].as_str().unwrap();
    assert_eq!((&made["name"], &made["region"]), (&json!("Production"), &json!("eu-west-x")));
    assert_eq!(run_json(cwd, &["domain", "show", id]), made);
    let listed = run_json(cwd, &["domain", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(listed.as_array().unwrap().contains(&made));
    for text in [succeed(cwd, &["domain", "list"]), succeed(cwd, &["domain", "show", id])] {
        assert!(text.contains(id) && text.contains("Production"), "{text}");
    }
    let text = succeed(cwd, &["domain", "delete", id, "--yes"]);
    assert_eq!(text, format!("Deleted {id}.\n"));
    let errors = fail(cwd, &["domain", "show", id], 1);
    assert_eq!(errors, format!("okmsd: {id}: there is no such domain\n"));
    fail(cwd, &["domain", "delete", id, "--yes"], 1);
}

#[tokio::test]
async fn a_deleted_domain_is_gone_for_its_credentials_at_once() {
    let trial = Trial::start();
    let client = trial.client();
    assert_eq!(client.get(&trial.secrets()).await.status, 200);
    succeed(trial.cwd.path(), &["domain", "delete", trial.variable("OKMS_ID"), "--yes"]);
    assert_eq!(client.get(&trial.secrets()).await.status, 401);
}

/// Also in what SQLite leaves behind when it moves rows, for which the file is rebuilt.
#[tokio::test]
async fn a_deleted_domain_is_gone_from_the_files_at_once() {
    let trial = Trial::start();
    let client = trial.client();
    for number in 0..300 {
        let body = json!({
            "path": format!("s/{}", number * 37 % 300),
            "version": { "data": { "k": "x".repeat(number) } },
        });
        assert_eq!(client.post(&trial.secrets(), body).await.status, 200);
    }
    let file = trial.cwd.path().join("certs/dev/okmsd.db");
    let open = async || {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
        sqlx::SqliteConnection::connect_with(&options).await.unwrap()
    };
    let all = "SELECT sealed_data FROM secret_versions";
    let sealed: Vec<Vec<u8>> = sqlx::query_scalar(all).fetch_all(&mut open().await).await.unwrap();
    // Past what all of them have in common.
    let pieces: HashSet<&[u8]> = sealed.iter().map(|sealed| &sealed[5..21]).collect();
    let left = || {
        let folder = fs::read_dir(file.parent().unwrap()).unwrap();
        let files = folder.map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.to_string_lossy().contains("okmsd.db"));
        files
            .flat_map(|path| {
                fs::read(path).unwrap().windows(16).map(<[u8]>::to_vec).collect::<Vec<_>>()
            })
            .filter(|window| pieces.contains(window.as_slice()))
            .count()
    };
    assert!(left() >= 300, "the search finds what is there");
    succeed(trial.cwd.path(), &["domain", "delete", trial.variable("OKMS_ID"), "--yes"]);
    let mark: i64 =
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut open().await).await.unwrap();
    assert_eq!(mark, 0, "nothing is left to do");
    assert_eq!(left(), 0);
}

#[test]
fn deleting_needs_a_yes() {
    let trial = Trial::start();
    let id = trial.variable("OKMS_ID");
    let errors = fail(trial.cwd.path(), &["domain", "delete", id], 2);
    assert!(errors.contains("--yes"), "{errors}");
    succeed(trial.cwd.path(), &["domain", "show", id]);
}

#[test]
fn bad_names_and_ids_are_bad_usage() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let long = "n".repeat(51);
    for arguments in [
        &["domain", "create"][..],
        &["domain", "create", "--name", ""],
        &["domain", "create", "--name", &long],
        &["domain", "create", "--name", "a\nb"],
        &["domain", "create", "--name", "a", "--region", "EU"],
        &["domain", "show", "7"],
        &["domain", "delete", "x", "--yes"],
    ] {
        fail(cwd, arguments, 2);
    }
    let listed = run(cwd, &["domain", "list"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 2);
}

#[tokio::test]
async fn a_domain_that_cannot_be_read_hides_no_other() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let made = run_json(cwd, &["domain", "create", "--name", "damaged"]);
    let (damaged, sound) = (made["okmsId"].as_str().unwrap(), trial.variable("OKMS_ID"));
    let file = cwd.join("certs/dev/okmsd.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute("PRAGMA ignore_check_constraints = ON").await.unwrap();
    for damage in ["max_versions = -1", "name = CAST(x'ff' AS TEXT)"] {
        let sql = format!("UPDATE domains SET {damage} WHERE okms_id = '{damaged}'");
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        let output = run(cwd, &["domain", "list"]);
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors, "okmsd: one domain cannot be read\n");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(sound) && text.contains("unreadable: "), "{text}");
        let output = run(cwd, &["domain", "list", "--format", "json"]);
        assert_eq!(output.status.code(), Some(1));
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |id: &str| {
            let mut listed = listed.as_array().unwrap().iter();
            listed.find(|domain| domain["okmsId"] == id).unwrap().clone()
        };
        assert!(of(damaged)["unreadable"].is_string(), "{listed}");
        assert_eq!((&of(sound)["unreadable"], &of(sound)["region"]), (&Value::Null, &json!("eu")));
    }
    succeed(cwd, &["domain", "delete", sound, "--yes"]);
}
