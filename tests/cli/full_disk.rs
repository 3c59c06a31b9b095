//! A disk that is full, played by a limit on the size of files.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use crate::{
    client::{Client, tls_config},
    harness::{Server, Trial, read},
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
