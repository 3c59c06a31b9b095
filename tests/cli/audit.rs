//! The audit log of the program: what is in it, that it is verified, and a disk that has no room for it.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, getuid, prlimit};
use serde_json::{Value, json};

use crate::{
    client::{Client, tls_config},
    full_disk::until_served,
    harness::{Server, Trial, fail, json as run_json, read, succeed},
    metrics::get,
    postgres::{Schema, postgres_is_at_hand},
    production::Production,
};

const VERIFY: [&str; 4] = ["audit", "verify", "--data-dir", "certs/dev"];

#[tokio::test]
async fn requests_and_acts_are_recorded_and_verified_against_a_key_kept_elsewhere() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    trial.client().get(&trial.secrets()).await.ok();
    let create = ["domain", "create", "--data-dir", "certs/dev", "--name", "Büro"];
    succeed(cwd, &create);
    let unknown = "00000000-0000-4000-8000-000000000000";
    fail(cwd, &["domain", "delete", unknown, "--yes", "--data-dir", "certs/dev"], 1);

    let lines = trial.audit_lines();
    let acts: Vec<_> = lines.iter().filter(|line| line["stage"] == "ended").collect();
    for act in &acts {
        // Written before anything was done.
        let begun = |line: &&Value| line["stage"] == "begun" && line["act_id"] == act["act_id"];
        let begun = lines.iter().find(begun).expect("a record of its begin");
        assert!(begun["seq"].as_u64() < act["seq"].as_u64());
        assert!(begun["done"].is_null());
    }
    let act = |operation: &str| {
        let found = acts.iter().find(|act| act["operation"] == operation);
        found.unwrap_or_else(|| panic!("no {operation} in {acts:?}"))
    };
    assert_eq!(act("dev")["done"], true);
    let about = &act("domain create")["about"];
    assert_eq!(about["name"], "Büro");
    assert_eq!(about["okmsId"].as_str().expect("an id").len(), 36);
    assert_eq!(act("domain create")["user_id"], getuid().as_raw());
    assert_eq!(act("domain delete")["done"], false);
    assert_eq!(act("domain delete")["about"], json!({ "okmsId": unknown }));
    let requests = lines.iter().filter(|line| line["kind"] == "request").count();
    assert_eq!(requests, 1);

    // While the server runs.
    let text = succeed(cwd, &VERIFY);
    assert_eq!(text.matches(": whole, ").count(), 2, "{text}");
    let reports = run_json(cwd, &VERIFY);
    let keys = run_json(cwd, &["audit", "key", "--data-dir", "certs/dev"]);
    let key = |at: usize| keys[at]["key"].as_str().expect("a key");
    assert_eq!((&keys[0]["writer"], &keys[1]["writer"]), (&json!("cli"), &json!("server-1")));
    let trusting = |keys: [&str; 2]| {
        let more = ["--trusted-key", keys[0], "--trusted-key", keys[1]];
        [&VERIFY[..], &more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let as_strs = |arguments: &[String]| -> Vec<&'static str> {
        arguments.iter().map(|text| &*text.clone().leak()).collect()
    };
    succeed(cwd, &as_strs(&trusting([key(0), key(1)])));
    let other = "00".repeat(32);
    fail(cwd, &as_strs(&trusting([key(0), &other])), 1);
    fail(
        cwd,
        &as_strs(&[trusting([key(0), key(1)]), trusting([&other, &other])[4..].to_vec()].concat()),
        1,
    );

    // A line that was seen is missed, even where all else would fit.
    let last = reports[1]["proved"].as_str().expect("a line");
    succeed(cwd, &[&VERIFY[..], &["--seen", last]].concat());
    let (chain, rest) = last.split_once(':').expect("a chain");
    let (seq, hash) = rest.split_once(':').expect("a line");
    let later = format!("{chain}:{}:{hash}", seq.parse::<u64>().expect("a number") + 1_000);
    fail(cwd, &[&VERIFY[..], &["--seen", &later]].concat(), 1);
    fail(cwd, &[&VERIFY[..], &["--seen", "x"]].concat(), 2);
}

#[test]
fn standard_output_gets_the_lines_of_the_files() {
    let production = Production::init();
    let config = production.data("okmsd.toml");
    fs::write(&config, format!("{}\n[audit]\nsinks = \"stdout\"\n", read(&config))).unwrap();
    let file = production.data("audit/server-1/000001/000001.jsonl");
    let printed = || -> String {
        let log = read(&production.cwd.path().join("log"));
        log.split_inclusive('\n').filter(|line| line.starts_with("{\"seq\":")).collect()
    };
    let mut all = String::new();
    for kill in [true, false] {
        let server = production.serve(&[]);
        let deadline = Instant::now() + Duration::from_secs(30);
        // Nothing is written any more once all is signed.
        while !read(&file).lines().last().unwrap().contains("\"checkpoint\"")
            || format!("{all}{}", printed()) != read(&file)
        {
            assert!(Instant::now() < deadline, "{all}{} is not {}", printed(), read(&file));
            std::thread::sleep(Duration::from_millis(20));
        }
        match kill {
            true => drop(server),
            false => assert_eq!(server.stop(), Some(0)),
        }
        all.push_str(&printed());
    }
    assert_eq!(all, read(&file));
    for what in ["interrupted", "stopped"] {
        assert_eq!(all.matches(&format!(r#""what":"{what}""#)).count(), 1, "{what}: {all}");
    }
}

#[test]
fn a_start_that_fails_is_no_crash() {
    let production = Production::init();
    let cwd = production.cwd.path();
    let serve = ["serve", "--config", "data/okmsd.toml"];
    let verify = ["audit", "verify", "--data-dir", "data"];
    // A database that is none; whether the file is private is looked at before the log is opened.
    fs::write(production.data("okmsd.db"), "x".repeat(4_096)).unwrap();
    fs::set_permissions(production.data("okmsd.db"), fs::Permissions::from_mode(0o600)).unwrap();
    let told = fail(cwd, &serve, 1);
    assert!(told.contains("cannot open"), "{told}");
    fs::remove_file(production.data("okmsd.db")).unwrap();
    assert_eq!(production.serve(&[]).stop(), Some(0));
    let reports = run_json(cwd, &verify);
    let server = reports.as_array().unwrap().iter().find(|report| report["writer"] == "server-1");
    let server = server.expect("a chain");
    assert_eq!((&server["told"]["interrupted"], &server["notes"]), (&json!(0), &json!([])));
    let text = read(&production.data("audit/server-1/000001/000001.jsonl"));
    assert_eq!(text.matches(r#""what":"stopped""#).count(), 2, "{text}");
}

#[tokio::test]
async fn the_first_broken_place_is_named() {
    let mut trial = Trial::start();
    let client = trial.client();
    for _ in 0..3 {
        client.get(&trial.secrets()).await.ok();
    }
    trial.stop();
    let (cwd, file) = (trial.cwd.path(), trial.data("audit/server-1/000001/000001.jsonl"));
    succeed(cwd, &VERIFY);
    let text = read(&file);
    let line = text.lines().position(|line| line.contains("ListSecretV2")).expect("a record") + 1;
    fs::write(&file, text.replacen("\"status\":200", "\"status\":404", 1)).unwrap();
    let output = crate::harness::run(cwd, &VERIFY);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).expect("text");
    let place =
        format!("BROKEN at 000001.jsonl, line {line} (seq {}): the line was changed", line - 1);
    assert!(told.contains(&place), "{told}");
    let errors = String::from_utf8(output.stderr).expect("text");
    assert_eq!(errors, "okmsd: 1 of 2 chains are broken\n");
    // Nor is its key one to be kept, and one that cannot be read is no key.
    let key = ["audit", "key", "--data-dir", "certs/dev"];
    let printed = |more: &[&str]| {
        let output = crate::harness::run(cwd, &[&key[..], more].concat());
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stderr, b"okmsd: 1 of 2 chains are broken\n");
        String::from_utf8(output.stdout).expect("text")
    };
    let states = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
    };
    assert_eq!(states(&printed(&[])), ["STATE", "whole", "BROKEN"]);
    fs::write(&file, "").unwrap();
    let rows: Value = serde_json::from_str(&printed(&["--format", "json"])).expect("JSON");
    assert!(rows[0]["broken"].is_null() && rows[0]["key"].is_string(), "{rows}");
    assert!(rows[1]["broken"]["what"].is_string() && rows[1]["key"].is_null(), "{rows}");
    // `sha256sum` of a line is what the next one has.
    fs::write(&file, &text).unwrap();
    succeed(cwd, &VERIFY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_goes_on_with_the_same_chain() {
    let mut trial = Trial::start();
    for round in 0..4_u64 {
        let (client, secrets) = (trial.client(), trial.secrets());
        let load: Vec<_> = (0..8)
            .map(|_| {
                let (client, secrets) = (client.clone(), secrets.clone());
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    let none = bytes::Bytes::new();
                    while let Ok(answer) =
                        client.try_send(hyper::Method::GET, &secrets, &[], none.clone()).await
                    {
                        answered.push(answer.header("x-request-id").expect("an id").to_owned());
                    }
                    answered
                })
            })
            .collect();
        let length = || fs::metadata(log_file(&trial)).expect("a log").len();
        let (before, deadline) = (length(), Instant::now() + Duration::from_secs(30));
        while length() < before + 20_000 {
            assert!(Instant::now() < deadline, "the log grows");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(331 * round)).await;
        trial.kill();
        let mut answered = Vec::new();
        for task in load {
            answered.extend(task.await.expect("no panic"));
        }
        assert!(!answered.is_empty());
        let lines = trial.audit_lines();
        let recorded: std::collections::HashSet<_> =
            lines.iter().filter_map(|line| line["request_id"].as_str()).collect();
        for id in &answered {
            assert!(recorded.contains(id.as_str()), "{id} was answered and has no record");
        }
        trial.again(&[]);
    }
    trial.stop();
    let reports = run_json(trial.cwd.path(), &VERIFY);
    let reports = reports.as_array().expect("reports");
    assert_eq!(reports.len(), 2, "no chain was begun anew");
    assert!(reports.iter().all(|report| report["broken"].is_null()), "{reports:?}");
    // Each kill is told of, in words too.
    let server = reports.iter().find(|report| report["writer"] == "server-1").expect("a chain");
    assert_eq!((&server["told"]["interrupted"], &server["told"]["lost"]), (&json!(4), &json!(0)));
    let text = succeed(trial.cwd.path(), &VERIFY);
    assert!(text.contains("interruptions (4)\n"), "{text}");
    assert!(!text.contains("losses"), "{text}");
}

#[test]
fn a_line_added_to_a_copy_of_the_acts_is_not_taken_for_one_of_them() {
    let mut trial = Trial::start();
    trial.stop();
    let cwd = trial.cwd.path();
    let copied = |name: &str| {
        let mut copy = Command::new("cp");
        let status = copy.args(["-r", "certs/dev/audit/cli", name]).current_dir(cwd).status();
        assert!(status.expect("cp").success());
        // An auditor's copy has no keys.
        fs::remove_file(cwd.join(name).join("000001/signing_keys")).expect("keys");
        cwd.join(name).join("000001")
    };
    let whole = copied("whole");
    let text = succeed(cwd, &["audit", "verify", "whole"]);
    assert!(text.contains(": whole, "), "{text}");

    let log = read(&whole.join("000001.jsonl"));
    let last: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    let hash = Command::new("sh")
        .args(["-c", "tail -n 1 whole/000001/000001.jsonl | tr -d '\\n' | sha256sum"])
        .current_dir(cwd)
        .output()
        .expect("a shell");
    let hash = String::from_utf8(hash.stdout).expect("text")[..64].to_owned();
    let (seq, number) = (last["seq"].as_u64().expect("a number") + 1, log.lines().count() + 1);
    let line = log.lines().find(|line| line.contains("\"stage\":\"begun\"")).expect("an act");
    let mut forged: Value = serde_json::from_str(line).expect("JSON");
    (forged["seq"], forged["prev"]) = (seq.into(), hash.into());
    fs::write(copied("added").join("000001.jsonl"), format!("{log}{forged}\n")).expect("to write");
    let output = crate::harness::run(cwd, &["audit", "verify", "added"]);
    let told = String::from_utf8(output.stdout).expect("text");
    let place = format!(
        ": UNPROVED from 000001.jsonl, line {number} (seq {seq}): nothing proves this line and those \
         after it, 1 in all: a process was killed just then, or somebody has added them\n"
    );
    assert!(told.contains(&place), "{told}");
    let errors = String::from_utf8(output.stderr).expect("text");
    assert_eq!(errors, "okmsd: 1 of 1 chains end with lines that nothing proves\n");
    assert_eq!(output.status.code(), Some(1));
    let reports = crate::harness::run(cwd, &["audit", "verify", "added", "--format", "json"]);
    let reports: Value = serde_json::from_slice(&reports.stdout).expect("JSON");
    assert_eq!(
        (&reports[0]["broken"], &reports[0]["unproved"]["seq"]),
        (&Value::Null, &json!(seq))
    );

    // Without what tells where the chain ended, nothing is known of its end.
    fs::remove_file(cwd.join("whole/000001/head")).expect("a head");
    let output = crate::harness::run(cwd, &["audit", "verify", "whole"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the end cannot be known"));
}

/// A server of the trial's configuration, for which a file that is too large is an error; and where its
/// metrics are.
fn serve(trial: &Trial, database: &[&str]) -> (Server, Client, SocketAddr) {
    // Free now; nobody else is likely to take them before the server does.
    let free = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let listeners = [free(), free()];
    let [port, operations] = listeners.map(|one| one.local_addr().expect("one").port());
    let operations = SocketAddr::from(([127, 0, 0, 1], operations));
    let script = "trap '' XFSZ; exec \"$0\" serve --config certs/dev/okmsd.toml --docs-listen off \
                  --api-listen \"$@\"";
    let mut command = Command::new("sh");
    let listen = format!("127.0.0.1:{port}");
    command.args(["-c", script, env!("CARGO_BIN_EXE_okmsd"), &listen]).args(database);
    command.current_dir(trial.cwd.path()).stdin(Stdio::null()).env_remove("RUST_LOG");
    command.env("OKMSD_OPERATIONS_LISTEN", operations.to_string());
    // The log grows by what a test asks for, and by nothing else.
    command.env("OKMSD_AUDIT_CHECKPOINT_INTERVAL", "1h");
    let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let server = Server::start(command, &trial.cwd.path().join("serve.log"), is_ready);
    let file = |name: &str| read(trial.variable(name).as_ref());
    let (ca, certificate, key) = (file("OKMS_CA"), file("OKMS_CERT"), file("OKMS_KEY"));
    let tls = tls_config(&ca, Some((&certificate, &key)));
    (server, Client::new(&format!("https://localhost:{port}"), tls), operations)
}

fn limit(server: &Server, bytes: Option<u64>) {
    let id = i32::try_from(server.process_id()).ok().and_then(Pid::from_raw);
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(id, Resource::Fsize, limit).expect("the right to do so");
}

fn record_of(lines: &[Value], id: &str) -> Option<Value> {
    lines.iter().find(|line| line["request_id"] == id).cloned()
}

/// Where the server's chain is written.
fn log_file(trial: &Trial) -> PathBuf {
    trial.data("audit/server-1/000001/000001.jsonl")
}

#[tokio::test]
async fn without_room_for_records_nothing_is_done_and_service_returns_with_the_room() {
    let mut trial = Trial::start();
    trial.stop();
    let (server, client, operations) = serve(&trial, &[]);
    let secrets = trial.secrets();
    client.post(&secrets, r#"{"path":"a","version":{"data":{"n":1}}}"#).await.ok();
    let address = format!("{secrets}/a?includeData=true");

    let size = fs::metadata(log_file(&trial)).expect("a log").len();
    limit(&server, Some(size + 4_000));
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(client.get(&address).await);
    }
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.len() > 20 && failed.len() < 40, "{}", failed.len());
    for answer in &failed {
        answer.error(503, 50_425_858);
    }
    // Refused before anything is done.
    client
        .put(&format!("{secrets}/a"), r#"{"version":{"data":{"n":2}}}"#)
        .await
        .error(503, 50_425_858);
    client.delete(&format!("{secrets}/a")).await.error(503, 50_425_858);
    let told = get(operations, "/metrics");
    let has = |line: &str| assert!(told.lines().any(|told| told == line), "{line}: {told}");
    has(&format!("okmsd_audit_refusals_total{{reason=\"unavailable\"}} {}", failed.len() + 2));
    // It fails at once: none waited as long as one may wait for its record.
    for reason in ["queue_full", "timed_out"] {
        has(&format!("okmsd_audit_refusals_total{{reason=\"{reason}\"}} 0"));
    }
    has("okmsd_audit_late_records_total 0");
    has("okmsd_audit_ready 0");
    // The record of the first one that failed is kept.
    has("okmsd_audit_queue_length{state=\"taken\"} 1");
    let lag = told.lines().find_map(|line| line.strip_prefix("okmsd_audit_lag_seconds "));
    assert!(lag.is_some_and(|lag| lag.parse::<f64>().is_ok_and(|lag| lag > 0.0)), "{told}");
    let readiness = get(operations, "/readyz");
    assert!(readiness.starts_with("HTTP/1.1 503 "), "{readiness}");
    let told = "\"audit\":{\"ok\":false,\"reason\":\"records cannot be written\"}";
    assert!(
        readiness.contains(told) && readiness.matches("\"ok\":false").count() == 1,
        "{readiness}"
    );

    limit(&server, None);
    until_served(&client, &address).await;
    let told = get(operations, "/metrics");
    let has = |line: &str| assert!(told.lines().any(|told| told == line), "{line}: {told}");
    for line in ["late_records_total 1", "lost_records_total 0", "ready 1", "lag_seconds 0.0"] {
        has(&format!("okmsd_audit_{line}"));
    }
    assert!(get(operations, "/readyz").starts_with("HTTP/1.1 200 "));
    let read = client.get(&address).await.ok();
    assert_eq!((&read["version"]["id"], &read["version"]["data"]["n"]), (&json!(1), &json!(1)));
    assert_eq!(server.stop(), Some(0));

    let lines = trial.audit_lines();
    let id = |answer: &crate::client::Answer| answer.header("x-request-id").unwrap().to_owned();
    for answer in answers.iter().filter(|answer| answer.status == 200) {
        assert!(record_of(&lines, &id(answer)).is_some(), "answered, and no record");
    }
    let resumed = lines.iter().find(|line| line["what"] == "resumed").expect("the log says so");
    assert!(resumed["detail"].as_str().unwrap().contains("lost 0"), "{resumed}");
    // Of those that failed, only the first ran; it is recorded after all.
    let late: Vec<_> = lines.iter().filter(|line| line["late"] == true).collect();
    assert_eq!(late.len(), 1, "{late:?}");
    assert_eq!(late[0]["request_id"], id(failed[0]));
    succeed(trial.cwd.path(), &VERIFY);
}

#[tokio::test]
async fn a_change_whose_record_had_no_room_is_recorded_when_there_is_room() {
    if !postgres_is_at_hand() {
        return;
    }
    let schema = Schema::create().await;
    let url = schema.url();
    let mut trial = Trial::start_with(&["--database", &url]);
    trial.stop();
    let (server, client, _) = serve(&trial, &["--database", &url]);
    let secrets = trial.secrets();
    client.post(&secrets, r#"{"path":"a","version":{"data":{"n":1}}}"#).await.ok();

    // Exactly full: the database, elsewhere, is not.
    let size = fs::metadata(log_file(&trial)).expect("a log").len();
    limit(&server, Some(size));
    let change = client.put(&format!("{secrets}/a"), r#"{"version":{"data":{"n":2}}}"#).await;
    change.error(503, 50_425_858);
    let later = client.put(&format!("{secrets}/a"), r#"{"version":{"data":{"n":3}}}"#).await;
    later.error(503, 50_425_858);
    limit(&server, None);
    let address = format!("{secrets}/a?includeData=true");
    until_served(&client, &address).await;
    assert_eq!(client.get(&address).await.ok()["version"]["data"]["n"], 2);

    let record = record_of(&trial.audit_lines(), change.header("x-request-id").unwrap());
    let record = record.expect("the record of the change");
    assert_eq!((&record["operation"], &record["late"]), (&json!("PutSecretV2"), &json!(true)));
    assert!(record_of(&trial.audit_lines(), later.header("x-request-id").unwrap()).is_none());
    assert_eq!(server.stop(), Some(0));
    succeed(trial.cwd.path(), &VERIFY);
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let mut trial = Trial::start();
    trial.stop();
    let cwd = trial.cwd.path();
    let list = ["domain", "list", "--data-dir", "certs/dev"];
    let before = run_json(cwd, &list);
    // A file in the place of the folder: nothing can be written there, not even by root.
    fs::rename(trial.data("audit"), trial.data("aside")).unwrap();
    fs::write(trial.data("audit"), "").unwrap();
    let create = ["domain", "create", "--data-dir", "certs/dev", "--name", "x"];
    let errors = fail(cwd, &create, 1);
    assert!(errors.contains("nothing was done"), "{errors}");
    let errors =
        fail(cwd, &["serve", "--config", "certs/dev/okmsd.toml", "--api-listen", "127.0.0.1:0"], 1);
    assert!(errors.contains("audit"), "{errors}");
    fs::remove_file(trial.data("audit")).unwrap();
    fs::rename(trial.data("aside"), trial.data("audit")).unwrap();
    assert_eq!(run_json(cwd, &list), before);
    succeed(cwd, &VERIFY);
}

#[test]
fn the_making_of_keys_and_certificates_is_recorded() {
    let production = crate::production::Production::init();
    let cwd = production.cwd.path();
    succeed(cwd, &["init", "--data-dir", "data", "--renew", "--name", "localhost"]);
    let log = read(&production.data("audit/cli/000001/000001.jsonl"));
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let stages: Vec<_> = lines
        .iter()
        .filter(|line| line["operation"] == "init")
        .map(|line| (line["stage"].as_str().expect("a stage"), line["about"]["renew"] == "true"))
        .collect();
    assert_eq!(stages, [("begun", false), ("ended", false), ("begun", true), ("ended", true)]);
    succeed(cwd, &["audit", "verify", "--data-dir", "data"]);
}
