//! `okmsd key`, beside a running server and without one.

use std::{
    fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{Trial, fail, json, mode, okmsd, read, run, succeed},
    postgres::{Schema, postgres_is_at_hand},
};

const STATUS: [&str; 2] = ["key", "status"];

/// Writes secrets with several versions.
async fn fill(trial: &Trial) {
    let (client, secrets) = (trial.client(), trial.secrets());
    for number in 0..8 {
        let body = json!({ "path": format!("s/{number}"), "version": { "data": { "n": number } } });
        client.post(&secrets, body).await.ok();
        for version in 2..=4 {
            let target = format!("{secrets}/s/{number}/version");
            client.post(&target, json!({ "data": { "n": number, "v": version } })).await.ok();
        }
    }
}

/// All that a server tells of them.
async fn everything(trial: &Trial) -> Vec<Value> {
    let (client, secrets) = (trial.client(), trial.secrets());
    let mut answers = Vec::new();
    for number in 0..8 {
        for version in 1..=4 {
            let target = format!("{secrets}/s/{number}/version/{version}?includeData=true");
            answers.push(client.get(&target).await.ok());
        }
    }
    answers
}

fn root_key_ids(status: &Value) -> Vec<&str> {
    let keys = status["rootKeys"].as_array().expect("a list");
    keys.iter().map(|key| key["id"].as_str().expect("an id")).collect()
}

fn wait_for_one_key(cwd: &Path, generation: u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = json(cwd, &STATUS);
        let keys = status["keys"].as_array().expect("a list");
        if keys.len() == 1 {
            assert_eq!(keys[0]["generation"], generation);
            assert_eq!(keys[0]["isPending"], false);
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_domain_are_rotated_beside_a_server() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    fill(&trial).await;
    let before = everything(&trial).await;
    let status = json(cwd, &STATUS);
    assert_eq!(status["keys"][0]["versions"], 32);
    assert_eq!(status["keys"][0]["secrets"], 8);
    assert_eq!(status["keys"][0]["uses"], 65_536);
    assert_eq!(status["rootKeys"][0]["isConfigured"], true);
    let id = trial.variable("OKMS_ID");
    let told = succeed(cwd, &["key", "rotate-domain", id]);
    assert_eq!(told, format!("{id} has the key of generation 2.\n"));
    succeed(cwd, &["key", "rotate-domain", "--all"]);
    // The server does the rest.
    wait_for_one_key(cwd, 3);
    assert_eq!(everything(&trial).await, before);

    fail(cwd, &["key", "rotate-domain"], 2);
    fail(cwd, &["key", "rotate-domain", id, "--all"], 2);
    let absent = "6a09e667-f3bc-4000-8000-000000000000";
    for command in ["rotate-domain", "rewrap"] {
        let told = fail(cwd, &["key", command, absent], 1);
        assert!(told.contains("there is no such domain"), "{told}");
    }
    let text = succeed(cwd, &STATUS);
    assert!(text.contains("GENERATION") && text.contains(id), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_without_a_server_says_what_it_did() {
    let mut trial = Trial::start();
    fill(&trial).await;
    let before = everything(&trial).await;
    trial.stop();
    let (cwd, id) = (trial.cwd.path().to_owned(), trial.variable("OKMS_ID").to_owned());
    succeed(&cwd, &["key", "rotate-domain", &id]);
    let text = succeed(&cwd, &STATUS);
    assert!(text.contains("A rewrap is pending."), "{text}");
    let told = succeed(&cwd, &["key", "rewrap", &id]);
    assert_eq!(told, format!("{id}: 32 versions sealed anew, 1 keys destroyed\n"));
    let told = succeed(&cwd, &["key", "rewrap"]);
    assert_eq!(told, format!("{id}: 0 versions sealed anew, 0 keys destroyed\n"));
    let text = succeed(&cwd, &STATUS);
    assert!(!text.contains("pending"), "{text}");
    trial.again(&[]);
    assert_eq!(everything(&trial).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_in_a_file_is_replaced_beside_a_server() {
    let mut trial = Trial::start();
    fill(&trial).await;
    let before = everything(&trial).await;
    let cwd = trial.cwd.path().to_owned();
    let [file, old] = ["root.key", "root.key.old"].map(|name| trial.data(name));
    let first = read(&file);
    let id = root_key_ids(&json(&cwd, &STATUS)).concat();
    let told = succeed(&cwd, &["key", "rotate-root"]);
    assert!(!told.contains(read(&file).trim()) && !told.contains(first.trim()), "{told}");
    assert_eq!(read(&old), first);
    assert_ne!(read(&file), first);
    assert_eq!((mode(&file), mode(&old)), (0o600, 0o600));
    assert!(!trial.data("root.key.new").exists());
    let status = json(&cwd, &STATUS);
    assert_ne!(root_key_ids(&status), [id.as_str()]);
    // The server needs it for the first time, and reads it.
    assert_eq!(everything(&trial).await, before);
    succeed(&cwd, &["domain", "create", "--name", "new"]);
    succeed(&cwd, &["key", "rotate-domain", "--all"]);
    trial.client().post(&trial.secrets(), r#"{"path":"x","version":{"data":{}}}"#).await.ok();
    assert!(trial.printed().contains("took the new root key"), "{}", trial.printed());

    let told = fail(&cwd, &["key", "rotate-root"], 1);
    assert!(told.contains("root.key.old is there"), "{told}");
    // The old key opens nothing.
    fs::rename(&file, trial.data("aside")).unwrap();
    fs::rename(&old, &file).unwrap();
    let told = fail(&cwd, &STATUS, 1);
    assert!(told.contains("the root key does not open this store"), "{told}");
    assert!(told.contains(&id) && !told.contains(first.trim()), "{told}");
    fs::rename(trial.data("aside"), &file).unwrap();
    trial.again(&[]);
    assert_eq!(everything(&trial).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_cut_off_between_store_and_file_opens_and_is_completed() {
    let mut trial = Trial::start();
    fill(&trial).await;
    let before = everything(&trial).await;
    trial.stop();
    let cwd = trial.cwd.path().to_owned();
    let [file, new, old] =
        ["root.key", "root.key.new", "root.key.old"].map(|name| trial.data(name));
    succeed(&cwd, &["key", "rotate-root"]);
    // As it was after the store was changed and before the files were.
    fs::rename(&file, &new).unwrap();
    fs::rename(&old, &file).unwrap();
    let (replaced, current) = (read(&file), read(&new));
    trial.again(&[]);
    assert_eq!(everything(&trial).await, before);
    // And after the first of two steps with the files.
    fs::hard_link(&file, &old).unwrap();
    let told = succeed(&cwd, &["key", "rotate-root"]);
    assert!(told.contains("Completed a rotation that was cut off"), "{told}");
    assert_eq!((read(&file), read(&old)), (current, replaced));
    assert!(!new.exists());
    fs::remove_file(&old).unwrap();

    // And before the store was changed: the key that lies there is taken.
    let ready = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    fs::write(&new, ready).unwrap();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    succeed(&cwd, &STATUS);
    succeed(&cwd, &["key", "rotate-root"]);
    assert_eq!(read(&file), ready);
    trial.again(&[]);
    assert_eq!(everything(&trial).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_root_key_opens_the_store_when_the_first_is_lost() {
    let mut trial = Trial::start();
    fill(&trial).await;
    let before = everything(&trial).await;
    trial.stop();
    let cwd = trial.cwd.path().to_owned();
    let file = trial.data("root.key");
    let spare = ["--new-root-key-file", "spare.key"];
    let enroll = [&["key", "enroll"][..], &spare].concat();
    succeed(&cwd, &enroll);
    assert_eq!(mode(&cwd.join("spare.key")), 0o600);
    let told = fail(&cwd, &enroll, 1);
    assert!(told.contains("opens the store already"), "{told}");
    let told = fail(&cwd, &["key", "enroll", "--new-root-key-file", "third.key"], 1);
    assert!(told.contains("both slots are taken"), "{told}");
    assert!(!cwd.join("third.key").exists());
    let told = fail(&cwd, &["key", "remove-slot", "1"], 1);
    assert!(told.contains("configured here"), "{told}");
    // To leave the other one as it is would leave the store open to it.
    let told = fail(&cwd, &["key", "rotate-root"], 1);
    assert!(told.contains("opens the store too"), "{told}");
    assert!(!trial.data("root.key.new").exists());

    fs::remove_file(&file).unwrap();
    fail(&cwd, &STATUS, 1);
    fs::copy(cwd.join("spare.key"), &file).unwrap();
    trial.again(&[]);
    assert_eq!(everything(&trial).await, before);
    let keep = ["key", "rotate-root", "--other-root-key-file", "spare.key"];
    let told = fail(&cwd, &keep, 1);
    assert!(told.contains("not the other root key"), "{told}");
    assert!(!trial.data("root.key.new").exists());
    succeed(&cwd, &["key", "rotate-root", "--drop-other-slot"]);
    assert_eq!(root_key_ids(&json(&cwd, &STATUS)).len(), 1);
    fs::remove_file(trial.data("root.key.old")).unwrap();

    let enroll = ["key", "enroll", "--new-root-key-file", "fourth.key"];
    succeed(&cwd, &enroll);
    let keep = ["key", "rotate-root", "--other-root-key-file", "fourth.key"];
    succeed(&cwd, &keep);
    trial.stop();
    fs::copy(cwd.join("fourth.key"), &file).unwrap();
    trial.again(&[]);
    assert_eq!(everything(&trial).await, before);
    succeed(&cwd, &["key", "remove-slot", "1"]);
    assert_eq!(root_key_ids(&json(&cwd, &STATUS)).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_root_key_is_not_taken_for_one_of_a_rotation() {
    let mut trial = Trial::start();
    trial.stop();
    let cwd = trial.cwd.path().to_owned();
    let [file, new] = ["root.key", "root.key.new"].map(|name| trial.data(name));
    let enroll = ["key", "enroll", "--new-root-key-file"];
    let other_name = new.parent().expect("a folder").join("../dev/root.key.new");
    for name in [&new, &other_name] {
        let name = name.to_str().expect("UTF-8");
        let told = fail(&cwd, &[&enroll[..], &[name]].concat(), 2);
        assert!(told.contains("name another file"), "{told}");
        assert!(!new.exists());
    }
    // It has come there by another way.
    succeed(&cwd, &[&enroll[..], &["spare.key"]].concat());
    fs::copy(cwd.join("spare.key"), &new).unwrap();
    let first = read(&file);
    let told = fail(&cwd, &["key", "rotate-root"], 1);
    assert!(told.contains("holds the root key of the other slot"), "{told}");
    assert_eq!(read(&file), first);
    assert!(!trial.data("root.key.old").exists());

    // What is no key there keeps nothing shut.
    fs::write(&new, "hunter2").unwrap();
    let told = json(&cwd, &STATUS);
    assert_eq!(root_key_ids(&told).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_domain_is_named_and_the_others_are_done() {
    use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

    let mut trial = Trial::start();
    fill(&trial).await;
    trial.stop();
    let cwd = trial.cwd.path().to_owned();
    let damaged = trial.variable("OKMS_ID");
    let listed = || {
        let status = json(&cwd, &STATUS);
        let keys = status["keys"].as_array().expect("a list").clone();
        let ids = keys.into_iter().map(|key| key["okmsId"].as_str().expect("an id").to_owned());
        ids.collect::<Vec<_>>()
    };
    // So that there is one that is worked on after it.
    while listed().iter().all(|id| id.as_str() <= damaged) {
        succeed(&cwd, &["domain", "create", "--name", "other"]);
    }
    succeed(&cwd, &["key", "rotate-domain", "--all"]);
    let options = SqliteConnectOptions::new().filename(trial.data("okmsd.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let damage = format!(
        "UPDATE domain_keys SET wrapped_key = zeroblob(length(wrapped_key)) WHERE okms_id = '{damaged}'"
    );
    connection.execute(sqlx::AssertSqlSafe(damage)).await.unwrap();
    connection.close().await.unwrap();
    let told = fail(&cwd, &["key", "rewrap"], 1);
    assert!(told.contains(damaged) && told.contains("does not open under the root key"), "{told}");
    let mut left = listed();
    left.retain(|id| id != damaged);
    let all = left.len();
    left.dedup();
    assert_eq!(left.len(), all, "the others have one key each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_the_root_key() {
    let mut trial = Trial::start();
    trial.stop();
    let cwd = trial.cwd.path().to_owned();
    fs::rename(trial.data("root.key"), cwd.join("kept elsewhere")).unwrap();
    let status = |command: &str| {
        let mut status = okmsd(&cwd, &STATUS);
        status.env("OKMSD_ROOT_KEY_COMMAND", command).output().expect("the binary runs")
    };
    let done = status(r#"["cat", "kept elsewhere"]"#);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for (command, why) in [
        (r#"["cat", "nowhere"]"#, "cat, failed (exit status: 1)"),
        ("echo hunter2", "not base64 of 32 bytes"),
        (r#"["sh", "-c", "cat k*; cat k*"]"#, "must print one short line"),
    ] {
        let done = status(command);
        let told = String::from_utf8(done.stderr).expect("UTF-8");
        assert_eq!(done.status.code(), Some(1), "{told}");
        let secret = read(&cwd.join("kept elsewhere"));
        assert!(told.contains(why) && !told.contains(secret.trim()), "{told}");
        assert!(!told.contains("hunter2") && !told.contains("No such file"), "{told}");
    }
    // There is no file that could be replaced, so it must be said where the new key is to be.
    let mut rotate = okmsd(&cwd, &["key", "rotate-root"]);
    rotate.env("OKMSD_ROOT_KEY_COMMAND", r#"["cat", "kept elsewhere"]"#);
    assert_eq!(rotate.output().expect("the binary runs").status.code(), Some(2));
    rotate.args(["--new-root-key-file", "new.key"]);
    let done = rotate.output().expect("the binary runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let told = String::from_utf8(done.stdout).expect("UTF-8");
    assert!(told.contains("what root_key.command prints"), "{told}");
    assert!(!status(r#"["cat", "kept elsewhere"]"#).status.success());
    assert!(status("cat new.key").status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_keys_in_sqlite_killed_at_any_time_loses_nothing() {
    killed_at_any_time(Trial::start(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_keys_in_postgres_killed_at_any_time_loses_nothing() {
    if postgres_is_at_hand() {
        let schema = Schema::create().await;
        let database = schema.url();
        killed_at_any_time(
            Trial::start_with(&["--database", &database]),
            &["--database", &database],
        )
        .await;
    }
}

/// SIGKILL for commands, and now and then for the server that seals anew by itself.
async fn killed_at_any_time(mut trial: Trial, server_flags: &[&str]) {
    fill(&trial).await;
    let before = everything(&trial).await;
    let cwd = trial.cwd.path().to_owned();
    let database = server_flags.get(1).copied();
    let command = |arguments: &[&str]| {
        let mut command = okmsd(&cwd, arguments);
        if let Some(database) = database {
            command.env("OKMSD_DATABASE", database);
        }
        command
    };
    let [new, old] = ["root.key.new", "root.key.old"].map(|name| trial.data(name));
    let id = trial.variable("OKMS_ID").to_owned();
    let identity = "urn:v1:eu:identity:account:dev";
    let create = ["token", "create", "--domain", &id, "--identity", identity, "--format", "json"];
    let made = command(&create).output().expect("the binary runs").stdout;
    let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
    let token = made["token"].as_str().expect("a token").to_owned();
    // How long each takes when nothing kills it.
    let begun = Instant::now();
    assert!(command(&["key", "rewrap"]).output().expect("the binary runs").status.success());
    let usual = begun.elapsed().as_micros() as u64;
    let (mut random, mut killed) = (0x2545_f491_4f6c_dd1d_u64, 0);
    for time in 0..TIMES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // One that was cut off is completed; its predecessor's key has been put away by then.
        if !new.exists() && old.exists() {
            fs::remove_file(&old).unwrap();
        }
        let arguments: &[&str] = match time % 3 {
            0 => &["key", "rotate-domain", &id],
            1 => &["key", "rotate-root"],
            _ => &["key", "rewrap"],
        };
        let mut work = command(arguments);
        let mut child = work.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        thread::sleep(Duration::from_micros(random % (usual * 3 / 2)));
        killed += u32::from(child.try_wait().expect("a child").is_none());
        child.kill().expect("it is a child");
        child.wait().expect("a child");
        if time % 10 == 9 {
            trial.kill();
            trial.again(server_flags);
        }
        // By the server that was there all the time, and by a process that begins now.
        assert_eq!(everything(&trial).await, before, "after {time}: {arguments:?}");
        let (headers, body) = ([("x-vault-token", &*token)], bytes::Bytes::new());
        let nobody = trial.client_with(None);
        let answer = nobody.send(hyper::Method::GET, &trial.secrets(), &headers, body).await;
        assert_eq!(answer.status, 200, "after {time}: {arguments:?}: {}", answer.text());
        let status = command(&STATUS).output().expect("the binary runs");
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
    assert!(killed > TIMES / 4, "{killed} of {TIMES} were killed at work");
    if new.exists() {
        assert!(command(&["key", "rotate-root"]).output().expect("it runs").status.success());
    }
    assert!(command(&["key", "rewrap"]).output().expect("the binary runs").status.success());
    trial.again(server_flags);
    assert_eq!(everything(&trial).await, before);
}

const TIMES: u32 = 50;

#[test]
fn what_cannot_be_is_refused_as_usage() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["key"][..],
        &["key", "enroll"],
        &["key", "remove-slot", "3"],
        &["key", "rotate-root", "--drop-other-slot", "--other-root-key-file", "x"],
        &["key", "rotate-domain", "x"],
    ] {
        assert_eq!(run(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}
