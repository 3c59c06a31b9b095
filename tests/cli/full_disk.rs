//! Disks that are full: played by a limit on the size of files, a small file system, or a library that has the
//! system refuse.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::{
    client::{Client, tls_config},
    harness::{Server, Trial, own_mounts, read, succeed},
    tools::at_hand,
};

#[tokio::test]
async fn a_full_disk_is_a_503_until_there_is_room_again() {
    let mut trial = Trial::start();
    trial.stop();
    let cwd = trial.cwd.path();
    // Free now; nobody else is likely to take it before the server does.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    // A file that grows beyond the limit ends the process, unless that signal is ignored; then it is
    // an error like that of a full disk.
    let script = "trap '' XFSZ; exec \"$0\" serve --config certs/dev/okmsd.toml \
                  --api-listen \"$1\" --docs-listen off";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_okmsd"), &format!("127.0.0.1:{port}")]);
    command.current_dir(cwd).stdin(Stdio::null()).env_remove("RUST_LOG");
    let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let server = Server::start(command, &cwd.join("serve.log"), is_ready);

    let file = |name: &str| read(trial.variable(name).as_ref());
    let (ca, certificate, key) = (file("OKMS_CA"), file("OKMS_CERT"), file("OKMS_KEY"));
    let tls = tls_config(&ca, Some((&certificate, &key)));
    let client = Client::new(&format!("https://localhost:{port}"), tls);
    let secrets = trial.secrets();
    let create = async |number: usize| {
        let data = json!({ "k": "x".repeat(10_000), "n": number });
        let body = json!({ "path": format!("s/{number}"), "version": { "data": data } });
        client.post(&secrets, body).await
    };
    for number in 0..5 {
        create(number).await.ok();
    }

    let size = ["okmsd.db", "okmsd.db-wal"]
        .map(|name| fs::metadata(trial.data(name)).expect("a file of SQLite").len());
    let room = size.into_iter().max().map(|largest| largest + 30_000);
    limit(&server, room);
    let mut refused = Vec::new();
    for number in 5..25 {
        let answer = create(number).await;
        if answer.status != 200 {
            answer.error(503, 50_425_858);
            refused.push(number);
        }
    }
    assert!(refused.len() > 10, "there was room for most: {refused:?}");
    // What is there can be read, and nothing that was refused is there.
    for number in 0..25 {
        let read = client.get(&format!("{secrets}/s%2F{number}?includeData=true")).await;
        if refused.contains(&number) {
            read.error(404, 17_125_377);
        } else {
            assert_eq!(read.ok()["version"]["data"]["n"], number);
        }
    }

    limit(&server, None);
    for number in &refused {
        create(*number).await.ok();
    }
    assert_eq!(server.stop(), Some(0));
}

fn limit(server: &Server, bytes: Option<u64>) {
    let id = i32::try_from(server.process_id()).ok().and_then(Pid::from_raw);
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(id, Resource::Fsize, limit).expect("the right to do so");
}

/// How the file system of the audit log comes to be full.
enum Disk {
    /// It is a small one of its own, that only the server sees. The words that make it so.
    Mounted(&'static [&'static str]),
    /// A library says so in the place of the system.
    Played(PathBuf),
}

impl Disk {
    /// Needs no right at all, but a compiler, without which no Rust program is linked either.
    fn played(cwd: &Path) -> Self {
        let (source, library) = (cwd.join("full_disk.c"), cwd.join("full_disk.so"));
        fs::write(&source, include_str!("full_disk.c")).expect("to write");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
        assert!(compiler.status().expect("a compiler").success());
        Self::Played(library)
    }

    /// The server, with this disk below its audit log.
    fn server(&self, cwd: &Path, listen: &str) -> Command {
        let serve =
            "exec \"$0\" serve --config certs/dev/okmsd.toml --docs-listen off --api-listen \"$1\"";
        // Its content goes out by a copy, when the server has ended. Where the folder is gone, nobody asks.
        let mount = "mount -t tmpfs -o size=9m,mode=0700 tmpfs certs/dev/audit
            wait_for() { until [ -e $1 ]; do [ -e serve.log ] || exit; sleep .05; done; }
            (wait_for full
             dd if=/dev/zero of=certs/dev/audit/ballast bs=4k 2>dd.log; touch filled
             wait_for free
             rm certs/dev/audit/ballast
             wait_for copy
             cp -r certs/dev/audit copied; touch copied/done) &";
        let program = env!("CARGO_BIN_EXE_okmsd");
        let mut command = match self {
            Self::Mounted(flags) => {
                let mut command = Command::new("unshare");
                command.args(*flags).args([
                    "sh",
                    "-c",
                    &format!("{mount}\n{serve}"),
                    program,
                    listen,
                ]);
                command
            }
            Self::Played(library) => {
                let mut command = Command::new("sh");
                let cwd = cwd.canonicalize().expect("a folder");
                command.args([
                    "-c",
                    &format!("export LD_PRELOAD=\"$2\"; {serve}"),
                    program,
                    listen,
                ]);
                command.arg(library);
                command.env("FULL_FLAG", cwd.join("full"));
                command.env("FULL_FOLDER", cwd.join("certs/dev/audit"));
                command
            }
        };
        command.current_dir(cwd).stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    }

    async fn fill(&self, cwd: &Path) {
        fs::write(cwd.join("full"), "").expect("to write");
        if let Self::Mounted(_) = self {
            until_there(&cwd.join("filled")).await;
        }
    }

    fn free(&self, cwd: &Path) {
        fs::remove_file(cwd.join("full")).expect("it is full");
        fs::write(cwd.join("free"), "").expect("to write");
    }

    /// Copies the audit log to the folder `copied`.
    async fn copy(&self, cwd: &Path) {
        fs::write(cwd.join("copy"), "").expect("to write");
        match self {
            Self::Mounted(_) => until_there(&cwd.join("copied/done")).await,
            Self::Played(_) => {
                let mut copy = Command::new("cp");
                let status =
                    copy.args(["-r", "certs/dev/audit", "copied"]).current_dir(cwd).status();
                assert!(status.expect("cp").success());
            }
        }
    }
}

async fn until_there(path: &Path) {
    let deadline = Instant::now() + WAIT;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{}", path.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where nothing can be mounted, the library plays it here too: this test is never left out in CI.
#[tokio::test]
async fn a_file_system_that_is_full_is_survived() {
    let mut trial = Trial::start();
    trial.stop();
    let disk = match own_mounts().map(Disk::Mounted) {
        Some(disk) => disk,
        None if at_hand(&["cc"]) => Disk::played(trial.cwd.path()),
        None => return,
    };
    survive(&trial, &disk).await;
}

#[tokio::test]
async fn a_system_that_says_there_is_no_space_is_survived() {
    if !at_hand(&["cc"]) {
        return;
    }
    let mut trial = Trial::start();
    trial.stop();
    let disk = Disk::played(trial.cwd.path());
    survive(&trial, &disk).await;
}

async fn survive(trial: &Trial, disk: &Disk) {
    let cwd = trial.cwd.path();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    let command = disk.server(cwd, &format!("127.0.0.1:{port}"));
    let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let server = Server::start(command, &cwd.join("serve.log"), is_ready);
    let file = |name: &str| read(trial.variable(name).as_ref());
    let (ca, certificate, key) = (file("OKMS_CA"), file("OKMS_CERT"), file("OKMS_KEY"));
    let tls = tls_config(&ca, Some((&certificate, &key)));
    let client = Client::new(&format!("https://localhost:{port}"), tls);
    let secrets = trial.secrets();
    client.post(&secrets, r#"{"path":"a","version":{"data":{"n":0}}}"#).await.ok();

    disk.fill(cwd).await;
    let (mut done, deadline) = (Vec::new(), Instant::now() + WAIT);
    loop {
        let started = Instant::now();
        let body = json!({ "version": { "data": { "n": done.len() + 1 } } });
        let answer = client.put(&format!("{secrets}/a"), body).await;
        assert!(started.elapsed() < Duration::from_secs(6), "it fails fast");
        if answer.status == 503 {
            break;
        }
        answer.ok();
        done.push(answer.header("x-request-id").expect("an id").to_owned());
        assert!(Instant::now() < deadline, "a full disk is noticed");
    }
    for _ in 0..10 {
        client
            .put(&format!("{secrets}/a"), r#"{"version":{"data":{}}}"#)
            .await
            .error(503, 50_425_858);
    }
    disk.free(cwd);
    let address = format!("{secrets}/a?includeData=true");
    until_served(&client, &address).await;
    // What was done has its record, or none at all was done: the present version tells how many.
    let versions = client.get(&address).await.ok()["metadata"]["currentVersion"].as_u64().unwrap();
    assert_eq!(server.stop(), Some(0));

    disk.copy(cwd).await;
    let report = succeed(cwd, &["audit", "verify", "copied"]);
    assert!(report.contains("copied/server-1/000001: whole, "), "{report}");
    assert!(report.contains("the log could not be written for a time"), "{report}");
    assert!(!report.contains("not signed yet"), "{report}");
    let lines: Vec<Value> = read(&cwd.join("copied/server-1/000001/000001.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let changes = lines.iter().filter(|line| {
        let operation = &line["operation"];
        line["status"] == 200 && (operation == "PutSecretV2" || operation == "PostSecretV2")
    });
    assert_eq!(changes.count() as u64, versions, "each change has a record");
    for id in &done {
        let records = lines.iter().filter(|line| line["request_id"] == **id);
        assert_eq!(records.count(), 1, "{id} was answered");
    }
}

/// Waits until requests are served again.
pub async fn until_served(client: &Client, address: &str) {
    let deadline = Instant::now() + WAIT;
    while client.get(address).await.status == 503 {
        assert!(Instant::now() < deadline, "it serves again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Long, because tests share a machine.
const WAIT: Duration = Duration::from_secs(60);
