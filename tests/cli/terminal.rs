//! What is stored is shown, but never obeyed by the terminal.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::harness::{Trial, json as run_json, run, succeed};

/// Clears a terminal, in two spellings, and turns the direction of writing.
const HOSTILE: &str = "n\u{1b}[2J\u{9b}2J\u{202e}\u{7f}\nx";
/// As it is shown, in text and in JSON.
const SHOWN: &str = r"n\u001b[2J\u009b2J\u202e\u007f\nx";
/// It as SQL.
const SQL: &str = "'n' || char(27) || '[2J' || char(155) || '2J' || char(8238, 127, 10) || 'x'";

#[tokio::test]
async fn stored_text_does_not_drive_the_terminal() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let domain = trial.variable("OKMS_ID");
    let identity = "urn:v1:eu:identity:user:dev/deploy";
    let create = ["create", "--domain", domain, "--identity", identity];
    let credential = [&["credential"], &create[..], &["--name", "x"]].concat();
    let credential = run_json(cwd, &credential);
    let credential = credential["id"].as_str().expect("an id");
    run_json(cwd, &[&["token"], &create[..], &["--description", "x"]].concat());
    let options = SqliteConnectOptions::new().filename(cwd.join("certs/dev/okmsd.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a store");
    let damage = format!(
        "PRAGMA ignore_check_constraints = ON; \
         UPDATE domains SET name = {SQL}; \
         UPDATE credentials SET name = {SQL}, description = {SQL}; \
         UPDATE tokens SET description = {SQL}; \
         INSERT INTO policies (name, document, created_at, updated_at) VALUES ({SQL}, {SQL}, 0, 0); \
         INSERT INTO group_members (group_urn, member_urn, created_at) VALUES ({SQL}, {SQL}, 0)"
    );
    connection.execute(AssertSqlSafe(damage)).await.expect("damage");

    for arguments in [
        &["domain", "list"][..],
        &["domain", "show", domain],
        &["credential", "list", "--domain", domain],
        &["credential", "show", credential],
        &["token", "list", "--domain", domain],
        &["policy", "list"],
        &["group", "list"],
    ] {
        for format in ["text", "json"] {
            let output = run(cwd, &[arguments, &["--format", format]].concat());
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).expect("UTF-8");
            // Of the row of a token that somebody changed, nothing is shown but its id.
            let is_shown = arguments[0] != "token";
            assert_eq!(said.contains(SHOWN), is_shown, "{arguments:?}: {said}");
            assert_tame(&said);
        }
    }
    // The document keeps its lines, and is told from the name.
    let output = run(cwd, &["policy", "show", HOSTILE]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text, format!("{}\n", SHOWN.replace(r"\n", "\n")));
    assert_tame(&String::from_utf8(output.stderr).expect("UTF-8"));
    let text = succeed(cwd, &["policy", "delete", HOSTILE]);
    assert_eq!(text, format!("Deleted {SHOWN}.\n"));
    let text = succeed(cwd, &["group", "delete", HOSTILE]);
    assert_eq!(text, format!("Deleted {SHOWN}, with 1 member.\n"));
    let listed = run_json(cwd, &["domain", "list"]);
    assert_eq!(listed[0]["name"], json!(HOSTILE));
}

/// That nothing but ends of lines is there for a terminal to obey.
fn assert_tame(said: &str) {
    let obeyed = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
    assert!(!said.contains(obeyed), "{said:?}");
}
