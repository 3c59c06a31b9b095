//! `okmsd backup` and `okmsd restore`.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    harness::{Trial, fail, files_below, mode, okmsd, read, run, succeed},
    postgres::{Schema, postgres_is_at_hand},
    tools::at_hand,
};

/// Arguments that name the key of [`with_key`].
const KEY: [&str; 2] = ["--backup-key-file", "backup.key"];
const PASSPHRASE: &str = "correct horse battery";
/// What must not be seen.
const CANARY: &str = "hunter2-canary";

fn private(path: &Path, content: &str) {
    fs::write(path, content).expect("a file");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, private).expect("a mode");
}

/// A text of 32 bytes in base64.
fn key(letter: char) -> String {
    format!("{}=", letter.to_string().repeat(42) + "A")
}

/// A trial with some secrets, a backup key, a passphrase, and a configuration of an empty store with another root
/// key.
async fn with_key() -> Trial {
    let trial = Trial::start();
    for number in 0..3 {
        let data = json!({ "n": number, "k": CANARY });
        let body = json!({ "path": format!("s/{number}"), "version": { "data": data } });
        trial.client().post(&trial.secrets(), body).await.ok();
    }
    let cwd = trial.cwd.path();
    private(&cwd.join("backup.key"), &key('B'));
    private(&cwd.join("other.key"), &key('C'));
    private(&cwd.join("new-root.key"), &key('D'));
    private(&cwd.join("passphrase"), PASSPHRASE);
    let text = "[storage]\ndatabase = \"new.db\"\n[root_key]\nfile = \"new-root.key\"\n";
    fs::write(cwd.join("new.toml"), text).expect("a file");
    trial
}

fn arguments<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

/// All lines of the audit log of a folder.
fn audit_lines(folder: &Path) -> Vec<Value> {
    let mut files = files_below(folder);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let text: String = files.iter().map(|path| read(path)).collect();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_backup_beside_a_server_is_restored_elsewhere() {
    let trial = with_key().await;
    let cwd = trial.cwd.path();
    let told = succeed(cwd, &arguments(&[&["backup"], &KEY, &["one"]]));
    assert!(told.starts_with("Backed up to one: secrets 3, versions 3, domains 1"), "{told}");
    assert_eq!(mode(&cwd.join("one")), 0o600);
    let bytes = fs::read(cwd.join("one")).expect("a backup");
    let is_in = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(bytes.starts_with(b"okmsd backup\n"));
    assert!(![CANARY, "s/1", trial.variable("OKMS_ID")].into_iter().any(is_in));
    let refused = fail(cwd, &arguments(&[&["backup"], &KEY, &["one"]]), 1);
    assert!(refused.contains("cannot make one: ") && refused.contains("exists"), "{refused}");
    assert_eq!(fs::read(cwd.join("one")).expect("a backup"), bytes);

    let new = ["--config", "new.toml"];
    let told = succeed(cwd, &arguments(&[&["restore"], &KEY, &new, &["one"]]));
    assert!(told.starts_with("Restored to sqlite://new.db, as of "), "{told}");
    let domains = |config: &[&str]| succeed(cwd, &[&["domain", "list"], config].concat());
    assert_eq!(domains(&new), domains(&[]));
    let again = fail(cwd, &arguments(&[&["restore"], &KEY, &new, &["one"]]), 1);
    assert!(again.contains("the database is not empty"), "{again}");
    // The store of a server that runs is kept from it before anything else.
    let taken = fail(cwd, &arguments(&[&["restore"], &KEY, &["one"]]), 1);
    assert!(taken.contains("another server runs on it"), "{taken}");

    // Both are acts, before and after, with what came of them.
    let acts = |folder: &Path, operation: &str| -> Vec<Value> {
        let mut lines = audit_lines(folder);
        lines.retain(|line| line["operation"] == operation);
        lines
    };
    let recorded = acts(&trial.data("audit"), "backup");
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    assert!(recorded[1].to_string().contains("\"file\":\"one\""), "{recorded:?}");
    assert!(recorded[1].to_string().contains("auditLines"), "{recorded:?}");
    let recorded = acts(&cwd.join("audit"), "restore");
    assert_eq!(recorded.len(), 4, "{recorded:?}");
    assert!(recorded[1].to_string().contains("rootKeyId"), "{recorded:?}");
}

#[tokio::test]
async fn every_way_to_name_a_secret_opens_and_a_wrong_one_says_so() {
    let trial = with_key().await;
    let cwd = trial.cwd.path();
    succeed(cwd, &arguments(&[&["backup"], &KEY, &["by-key"]]));
    let passphrase = ["--passphrase-file", "passphrase"];
    succeed(cwd, &arguments(&[&["backup"], &passphrase, &["by-passphrase"]]));
    let verify = ["backup", "verify"];
    let said = |secret: &[&str], file: &str| {
        let failed = fail(cwd, &arguments(&[&verify, secret, &[file]]), 1);
        failed.lines().last().expect("a word").to_owned()
    };
    let other = said(&["--backup-key-file", "other.key"], "by-key");
    assert!(other.contains("was made with another backup key or passphrase"), "{other}");
    let kind = said(&passphrase, "by-key");
    assert!(kind.contains("was made with a backup key, not with a passphrase"), "{kind}");
    let kind = said(&KEY, "by-passphrase");
    assert!(kind.contains("was made with a passphrase, not with a backup key"), "{kind}");
    private(&cwd.join("short"), "elevenchars");
    let short = said(&["--passphrase-file", "short"], "by-passphrase");
    assert!(short.contains("at least 12 characters"), "{short}");
    let none = fail(cwd, &["backup", "verify", "by-key"], 2);
    assert!(none.contains("--ask-passphrase"), "{none}");
    let two = arguments(&[&["backup"], &KEY, &passphrase, &["x"]]);
    fail(cwd, &two, 2);
    let no_file = fail(cwd, &arguments(&[&["backup"], &KEY]), 2);
    assert!(no_file.contains("name the FILE"), "{no_file}");
    // A backup that the server's own key would open.
    let own = ["--backup-key-file", "certs/dev/root.key"];
    let refused = fail(cwd, &arguments(&[&["backup"], &own, &["own"]]), 1);
    assert!(refused.contains("the backup key is a root key of this store"), "{refused}");
    assert!(!refused.contains(read(&trial.data("root.key")).trim()), "{refused}");
    assert!(!cwd.join("own").exists());
    private(&cwd.join("broken.key"), "AAAA");
    let broken = said(&["--backup-key-file", "broken.key"], "by-key");
    assert!(broken.contains("not base64 of 32 bytes"), "{broken}");
    fs::write(cwd.join("text"), "x".repeat(5_000)).expect("a file");
    assert!(said(&KEY, "text").contains("this is no backup of okmsd"));

    // By the environment, and through pipes.
    let with = |arguments: &[&str]| {
        let mut command = okmsd(cwd, arguments);
        command.env("OKMSD_BACKUP_KEY", key('B'));
        command
    };
    let output = with(&["backup", "-"]).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut verifying = with(&["backup", "verify", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    verifying.stdin.take().expect("a pipe").write_all(&output.stdout).expect("to write");
    let verified = verifying.wait_with_output().expect("an end");
    let text = String::from_utf8(verified.stdout).expect("UTF-8");
    assert!(verified.status.success() && text.contains("Verified 3 secrets, 3 versions"), "{text}");
}

#[tokio::test]
async fn a_passphrase_is_asked_for_on_the_terminal() {
    if !at_hand(&["script"]) {
        return;
    }
    let trial = with_key().await;
    let cwd = trial.cwd.path();
    let typed = |arguments: &str, input: &str| {
        let program = env!("CARGO_BIN_EXE_okmsd");
        let mut command = Command::new("script");
        command.args(["-qec", &format!("'{program}' {arguments}"), "/dev/null"]);
        command.current_dir(cwd).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script");
        let mut pipe = child.stdin.take().expect("a pipe");
        let mut screen = child.stdout.take().expect("a pipe");
        let mut shown = String::new();
        let mut byte = [0; 1];
        for line in input.lines() {
            // Not before it is asked for: what was typed before is thrown away.
            while !shown.ends_with(": ") && screen.read(&mut byte).expect("a screen") > 0 {
                shown.push(byte[0] as char);
            }
            shown.push('\n');
            pipe.write_all(format!("{line}\n").as_bytes()).expect("to type");
        }
        screen.read_to_string(&mut shown).expect("a screen");
        (child.wait().expect("an end").success(), shown)
    };
    let twice = format!("{PASSPHRASE}\n{PASSPHRASE}\n");
    let (done, shown) = typed("backup --ask-passphrase typed", &twice);
    assert!(done && shown.contains("Backed up to typed"), "{shown}");
    assert!(!shown.contains(PASSPHRASE), "{shown}");
    let (done, shown) =
        typed("backup --ask-passphrase x", &format!("{PASSPHRASE}\n{PASSPHRASE}x\n"));
    assert!(!done && shown.contains("two different passphrases"), "{shown}");
    assert!(!cwd.join("x").exists());
    let file = arguments(&[&["backup", "verify", "--passphrase-file", "passphrase", "typed"]]);
    succeed(cwd, &file);
}

/// Ctrl-C at the question: what is typed into the shell after it is shown again.
#[tokio::test]
async fn a_terminal_shows_what_is_typed_after_an_interrupt() {
    if !at_hand(&["script", "stty"]) {
        return;
    }
    let cwd = tempfile::tempdir().expect("a folder");
    let program = env!("CARGO_BIN_EXE_okmsd");
    // As an interactive shell does, this one outlives the signal.
    let line = format!("trap : INT; '{program}' backup --ask-passphrase x; echo code $?; stty -a");
    let mut command = Command::new("script");
    command.args(["-qc", &line, "/dev/null"]).env("SHELL", "/bin/sh").current_dir(cwd.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script");
    let (mut pipe, mut screen) =
        (child.stdin.take().expect("it"), child.stdout.take().expect("it"));
    let (mut shown, mut byte) = (String::new(), [0; 1]);
    while !shown.ends_with("Passphrase for the backup: ") {
        assert!(screen.read(&mut byte).expect("a screen") > 0, "{shown}");
        shown.push(byte[0] as char);
    }
    pipe.write_all(b"\x03").expect("to type");
    screen.read_to_string(&mut shown).expect("a screen");
    child.wait().expect("an end");
    assert!(shown.contains("code 130"), "{shown}");
    assert!(shown.split_whitespace().any(|setting| setting == "echo"), "{shown}");
    assert!(!shown.contains("-echo "), "{shown}");
}

#[tokio::test]
async fn a_backup_that_a_signal_ends_leaves_no_file() {
    let mut trial = with_key().await;
    let cwd = trial.cwd.path().to_owned();
    trial.stop();
    let names = || -> Vec<String> {
        let entries = fs::read_dir(&cwd).expect("a folder");
        let names = entries.map(|entry| entry.expect("a file").file_name().into_string());
        names.map(|name| name.expect("UTF-8")).filter(|name| name.contains("one")).collect()
    };
    // It waits for the store with its file begun.
    let options = SqliteConnectOptions::new().filename(trial.data("okmsd.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a store");
    connection.execute("BEGIN IMMEDIATE").await.expect("a lock");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut child =
            okmsd(&cwd, &arguments(&[&["backup"], &KEY, &["one"]])).spawn().expect("it");
        while names().is_empty() {
            assert!(child.try_wait().expect("a child").is_none(), "it ended early");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let id = Pid::from_raw(child.id().try_into().expect("an id")).expect("an id");
        kill_process(id, signal).expect("it runs");
        assert_eq!(child.wait().expect("an end").code(), Some(code));
        assert_eq!(names(), [""; 0]);
    }
    // What nothing can be done about then is removed by the next one.
    let mut child = okmsd(&cwd, &arguments(&[&["backup"], &KEY, &["one"]])).spawn().expect("it");
    while names().is_empty() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().expect("to kill");
    child.wait().expect("an end");
    assert_eq!(names().len(), 1);
    connection.close().await.expect("to close");
    succeed(&cwd, &arguments(&[&["backup"], &KEY, &["one"]]));
    assert_eq!(names(), ["one"]);
}

#[tokio::test]
async fn a_check_that_cannot_be_made_says_nothing_of_the_backup() {
    let trial = with_key().await;
    let cwd = trial.cwd.path();
    succeed(cwd, &arguments(&[&["backup"], &KEY, &["one"]]));
    // A file that grows beyond the limit ends the process, unless that signal is ignored; then it is an error like that
    // of a full disk.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let verify = arguments(&[&["backup", "verify"], &KEY, &["one"]]);
    let mut full = Command::new("sh");
    full.args(["-c", script, env!("CARGO_BIN_EXE_okmsd")]).args(&verify).current_dir(cwd);
    let mut absent = okmsd(cwd, &verify);
    absent.env("TMPDIR", "/proc");
    for (mut command, told) in [
        (full, "one was not verified, the check could not be made in "),
        (absent, "cannot make the folder /proc/"),
    ] {
        let output = command.output().expect("the binary runs");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(told) && !text.contains("does not verify"), "{text}");
    }
    succeed(cwd, &verify);
}

#[tokio::test]
async fn a_verification_looks_at_the_audit_log_and_shows_no_secret() {
    let mut trial = with_key().await;
    let cwd = trial.cwd.path().to_owned();
    succeed(&cwd, &arguments(&[&["backup"], &KEY, &["one"]]));
    let scratch = cwd.join("scratch");
    fs::create_dir(&scratch).expect("a folder");
    let verify = |audit: &Path, format: &str| {
        let audit = audit.to_str().expect("UTF-8");
        let all = arguments(&[
            &["backup", "verify", "--format", format, "--audit", audit],
            &KEY,
            &["one"],
        ]);
        let output = okmsd(&cwd, &all).env("TMPDIR", &scratch).output().expect("the binary runs");
        assert_eq!(fs::read_dir(&scratch).expect("a folder").count(), 0, "it leaves nothing");
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        let [answer, errors] = said;
        assert!(!answer.contains(CANARY) && !errors.contains(CANARY));
        (output.status.success(), answer, errors)
    };
    let audit = trial.data("audit");
    let (done, answer, errors) = verify(&audit, "json");
    assert!(done, "{errors}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["auditFound"], 2, "the chain of the server and that of the command line");
    assert_eq!((answer["secrets"].as_u64(), answer["opened"].as_u64()), (Some(3), Some(3)));
    assert_eq!(answer["content"]["rows"]["secrets"], 3);
    // It goes on, which is no change of what was.
    trial.client().get(&trial.secrets()).await.ok();
    let (done, answer, errors) = verify(&audit, "text");
    assert!(done && answer.contains("2 lines of the audit log were found"), "{answer}{errors}");
    trial.stop();
    // A log in which a chain is missing, and one of which a line was changed.
    let copy = |name: &str| {
        let to = cwd.join(name);
        let copied = Command::new("cp").arg("-a").arg(&audit).arg(&to).status();
        assert!(copied.expect("cp").success());
        to
    };
    let missing = copy("missing");
    fs::remove_dir_all(missing.join("cli")).expect("a folder");
    let (done, answer, errors) = verify(&missing, "text");
    assert!(!done && answer.contains("is missing") && errors.contains("the audit log"), "{answer}");
    let changed = copy("changed");
    let mut files = files_below(&changed.join("cli"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let text = read(&files[0]).replace("\"backup\"", "\"backuq\"");
    fs::write(&files[0], text).expect("a file");
    let (done, answer, _) = verify(&changed, "text");
    assert!(!done && answer.contains("is broken"), "{answer}");
}

/// Feeds a restore half of a backup, and kills it: the database is empty, and the next restore fills it.
async fn is_killed(database: &str, tables: impl AsyncFn() -> i64) {
    let trial = with_key().await;
    let cwd = trial.cwd.path();
    fill(&trial.data("okmsd.db"), 60).await;
    succeed(cwd, &arguments(&[&["backup"], &KEY, &["one"]]));
    let bytes = fs::read(cwd.join("one")).expect("a backup");
    let restore = arguments(&[&["restore", "--config", "new.toml"], &KEY]);
    let command = |file: &str| {
        let mut command = okmsd(cwd, &[&restore[..], &[file]].concat());
        command.env("OKMSD_DATABASE", database);
        command
    };
    for part in 1..=4 {
        let mut child = command("-").stdin(Stdio::piped()).spawn().expect("the binary runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        // More than a pipe holds is read when this returns.
        pipe.write_all(&bytes[..bytes.len() * part / 5]).expect("to write");
        child.kill().expect("to kill");
        child.wait().expect("an end");
        assert_eq!(tables().await, 0, "after part {part}");
    }
    // One whose input ends is refused, and leaves nothing either.
    let mut child = command("-").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&bytes[..bytes.len() / 2]).expect("to write");
    drop(pipe);
    let output = child.wait_with_output().expect("an end");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success() && text.contains("it is cut off"), "{text}");
    assert_eq!(tables().await, 0);
    let output = command("one").output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(tables().await > 10);
}

#[tokio::test]
async fn a_restore_that_fails_leaves_a_file_that_another_command_has_filled() {
    let trial = with_key().await;
    let cwd = trial.cwd.path();
    succeed(cwd, &arguments(&[&["backup"], &KEY, &["one"]]));
    let new = ["--config", "new.toml"];
    let restore = arguments(&[&["restore"], &new, &KEY, &["-"]]);
    let mut command = okmsd(cwd, &restore);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it");
    let file = cwd.join("new.db");
    // It has made its file, and waits for its input.
    while !file.exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let create = ["domain", "create", "--name", "n", "--region", "eu-west-x"];
    succeed(cwd, &[&create[..], &new].concat());
    let bytes = fs::read(cwd.join("one")).expect("a backup");
    child.stdin.take().expect("a pipe").write_all(&bytes).expect("to write");
    let output = child.wait_with_output().expect("an end");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success() && text.contains("the database is not empty"), "{text}");
    let listed = succeed(cwd, &[&["domain", "list"], &new[..]].concat());
    assert!(listed.contains("eu-west-x"), "{listed}");
}

/// Puts rows of 60 kB into a store.
async fn fill(database: &Path, rows: u32) {
    let options = SqliteConnectOptions::new().filename(database);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a store");
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO policies SELECT 'fill' || i, hex(randomblob(30000)), 0, 0 FROM n"
    );
    connection.execute(sqlx::AssertSqlSafe(sql)).await.expect("rows");
    connection.close().await.expect("to close");
}

#[tokio::test]
async fn a_restore_to_sqlite_that_is_killed_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("new.db");
    let tables = async || {
        if !file.exists() {
            return 0;
        }
        let options = SqliteConnectOptions::new().filename(&file);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a file");
        let sql = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table'";
        let tables = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number");
        connection.close().await.expect("to close");
        tables
    };
    is_killed(&format!("sqlite://{}", file.display()), tables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_to_postgres_that_is_killed_leaves_nothing() {
    if !postgres_is_at_hand() {
        return;
    }
    let schema = Schema::create().await;
    let url = schema.url();
    let tables = async || {
        let mut connection = sqlx::PgConnection::connect(&url).await.expect("PostgreSQL");
        let sql = "SELECT COUNT(*) FROM information_schema.tables \
                   WHERE table_schema = current_schema()";
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number")
    };
    is_killed(&url, tables).await;
}

/// Peak memory of a process so far, in bytes.
fn peak(process: u32) -> usize {
    let status = read(&PathBuf::from(format!("/proc/{process}/status")));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let number = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
    number * 1024
}

/// Looked at while a pipe holds it up in the middle, so that no time decides.
#[tokio::test]
async fn memory_does_not_grow_with_the_store() {
    let trial = with_key().await;
    let cwd = trial.cwd.path();
    fill(&trial.data("okmsd.db"), 1_700).await;
    let store = 102_000_000;
    let part = store * 9 / 10;
    let mut child = okmsd(cwd, &arguments(&[&["backup"], &KEY, &["-"]]))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut pipe = child.stdout.take().expect("a pipe");
    let mut bytes = vec![0; part];
    pipe.read_exact(&mut bytes).expect("most of a backup");
    let while_backing_up = peak(child.id());
    pipe.read_to_end(&mut bytes).expect("the rest");
    assert!(child.wait().expect("an end").success());
    assert!(bytes.len() > store);
    // The program alone has some 30 MB.
    assert!(while_backing_up < store * 6 / 10, "{while_backing_up} bytes");

    let restore = arguments(&[&["restore", "--config", "new.toml"], &KEY, &["-"]]);
    let mut child = okmsd(cwd, &restore)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&bytes[..part]).expect("to write");
    let while_restoring = peak(child.id());
    pipe.write_all(&bytes[part..]).expect("to write");
    drop(pipe);
    assert!(child.wait().expect("an end").success());
    assert!(while_restoring < store * 6 / 10, "{while_restoring} bytes");
}

/// Its reader is slow, and whoever runs the database ends what takes longer than three seconds.
#[tokio::test(flavor = "multi_thread")]
async fn no_time_limit_of_the_database_ends_a_backup() {
    if !postgres_is_at_hand() {
        return;
    }
    let schema = Schema::create().await;
    let url = schema.url();
    let trial = Trial::start_with(&["--database", &url]);
    // More than a pipe holds.
    for number in 0..10 {
        let data = json!({ "k": "x".repeat(40_000) });
        let body = json!({ "path": format!("s/{number}"), "version": { "data": data } });
        trial.client().post(&trial.secrets(), body).await.ok();
    }
    let cwd = trial.cwd.path();
    private(&cwd.join("backup.key"), &key('B'));
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("PostgreSQL");
    let sql = "SELECT name FROM pg_settings WHERE name IN ('statement_timeout', \
               'idle_in_transaction_session_timeout', 'transaction_timeout')";
    let limits: Vec<String> =
        sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("names");
    assert!(limits.len() >= 2, "{limits:?}");
    for limit in limits {
        let mut backup = okmsd(cwd, &arguments(&[&["backup"], &KEY, &["-"]]))
            .env("OKMSD_DATABASE", format!("{url}&options[{limit}]=3000"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut pipe = backup.stdout.take().expect("a pipe");
        pipe.read_exact(&mut [0]).expect("the beginning");
        thread::sleep(Duration::from_millis(4_500));
        let rest = pipe.read_to_end(&mut Vec::new()).expect("the rest");
        let output = backup.wait_with_output().expect("an end");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && rest > 300_000, "{limit}, {rest} bytes: {text}");
    }
}

#[test]
fn a_backup_that_fails_leaves_no_file() {
    let cwd = tempfile::tempdir().expect("a folder");
    private(&cwd.path().join("backup.key"), &key('B'));
    // No store can be made here.
    let database = "/proc/nothing/x.db";
    let failed = okmsd(cwd.path(), &arguments(&[&["backup"], &KEY, &["one"]]))
        .env("OKMSD_DATABASE", database)
        .env("OKMSD_ROOT_KEY", key('D'))
        .output()
        .expect("the binary runs");
    assert!(!failed.status.success());
    let left = |path: &PathBuf| path.to_string_lossy().contains("one");
    let files = files_below(cwd.path());
    assert_eq!(files.iter().filter(|path| left(path)).count(), 0, "{files:?}");
    let help = run(cwd.path(), &["backup", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("verify"));
}
