//! `okmsd domain`.

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::{
    harness::{Trial, fail, files_below, json as run_json, okmsd, read, run, succeed},
    postgres::{Schema, postgres_is_at_hand},
    production::Production,
};

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

const CREATE: [&str; 6] = ["domain", "create", "--data-dir", "data", "--name", "x"];

/// Those that would tell of an empty store, and those that would change one.
const NEED_A_STORE: [&[&str]; 9] = [
    &["domain", "list"],
    &["domain", "delete", "6a09e667-f3bc-4000-8000-000000000000", "--yes"],
    &["policy", "list"],
    &["group", "list"],
    &["key", "status"],
    &["key", "rotate-root"],
    &["key", "enroll", "--new-root-key-file", "second.key"],
    &["key", "rewrap"],
    &["backup", "--backup-key-file", "backup.key", "one"],
];

fn private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_database_that_is_not_there_is_told_and_nothing_is_made() {
    let production = Production::init();
    let cwd = production.cwd.path();
    private(&cwd.join("backup.key"), "QkFDS1VQLUtFWS1PRi1BTi1BQ1QtMzItQllURVMtISE=");
    let all = || files_below(cwd).into_iter().map(|path| (fs::read(&path).unwrap(), path));
    let refused = || {
        let before: Vec<_> = all().collect();
        for arguments in NEED_A_STORE {
            let errors = fail(cwd, &[arguments, &["--data-dir", "data"]].concat(), 1);
            let told = "there is no database at data/okmsd.db; `okmsd serve` and";
            assert!(errors.contains(told), "{arguments:?}: {errors}");
            assert!(all().eq(before.iter().cloned()), "{arguments:?}");
        }
    };
    refused();
    // As a restore leaves it that has failed.
    private(&production.data("okmsd.db"), "");
    refused();
    succeed(cwd, &CREATE);
    succeed(cwd, &["domain", "list", "--data-dir", "data"]);
}

#[tokio::test]
async fn a_database_of_something_else_gets_no_tables() {
    let production = Production::init();
    let cwd = production.cwd.path();
    let file = production.data("okmsd.db");
    private(&file, "");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute("CREATE TABLE theirs (a INTEGER)").await.unwrap();
    let errors = fail(cwd, &["domain", "list", "--data-dir", "data"], 1);
    assert!(errors.contains("there is no store in the database"), "{errors}");
    let sql = "SELECT COUNT(*) FROM sqlite_schema";
    let tables: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_without_tables_is_told_and_gets_none() {
    if !postgres_is_at_hand() {
        return;
    }
    let (schema, production) = (Schema::create().await, Production::init());
    let url = schema.url();
    let on_postgres = |arguments: &[&str]| {
        let mut command = okmsd(production.cwd.path(), arguments);
        let output = command.env("OKMSD_DATABASE", &url).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let list = ["domain", "list", "--data-dir", "data"];
    // The second time, as it was left by the first.
    for _ in 0..2 {
        let (code, errors) = on_postgres(&list);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("there is no store in the database"), "{errors}");
    }
    for arguments in [&CREATE[..], &list] {
        let (code, errors) = on_postgres(arguments);
        assert_eq!(code, Some(0), "{errors}");
    }
}

#[test]
fn a_server_warns_of_a_new_store_and_not_of_one_that_was_there() {
    let production = Production::init();
    for is_new in [true, false] {
        assert_eq!(production.serve(&[]).stop(), Some(0));
        let log = read(&production.cwd.path().join("log"));
        let mut lines = log.lines().filter(|line| line.contains("a new one was made"));
        let told = lines.next();
        assert_eq!(told.is_some(), is_new, "{log}");
        let whole = |line: &str| line.contains("WARN") && line.contains("data/okmsd.db");
        assert!(told.is_none_or(whole) && lines.next().is_none(), "{log}");
    }
}
