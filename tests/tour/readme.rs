//! The README's own commands, run as they stand there.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    program::{OKMSD, Program, wait_for},
    tools::at_hand,
};

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));

/// Every `sh` block of the README runs, in its order, in one shell. What is for another terminal, a
/// server, is started beside it; `cargo` is the program that this test was built with, since building
/// it again is what `cargo test` did.
#[test]
fn every_command_of_the_readme_works_as_it_stands() {
    if !at_hand(&["bash", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(OKMSD, bin.join("okmsd")).expect("a link");
    write_cargo(&bin.join("cargo"));
    let (api, docs) = (free_address(), free_address());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a PATH"));

    let mut servers = Vec::new();
    let mut script = String::from("set -euo pipefail\n");
    let blocks = shell_blocks(README);
    assert!(blocks.iter().any(|block| block.contains("cargo run -- dev")), "{blocks:?}");
    assert!(blocks.len() > 12, "the README has lost its tour: {blocks:?}");
    let environment = |command: &mut Command| {
        command
            .current_dir(folder.path())
            .env("PATH", &path)
            .env("OKMSD_API_LISTEN", &api)
            .env("OKMSD_DOCS_LISTEN", &docs);
    };
    for block in blocks {
        if !serves(&block) {
            script.push_str(&block);
            continue;
        }
        // Whatever stands before the server in the README must have run by now.
        run(&mut script, environment);
        servers.clear();
        let log = folder.path().join(format!("server-{}.log", servers.len()));
        let mut command = Command::new("bash");
        environment(command.args(["-c", &format!("exec {block}")]));
        servers.push(Program::start(&mut command, &log));
        if block.contains("dev") {
            wait_for(&folder.path().join("certs/dev/dev.env"), &log);
        } else {
            wait_for_health(&api, &log);
        }
    }
    run(&mut script, environment);
    let modes = ["certs/dev/root.key", "certs/dev/ca_privatekey.pem"].map(|file| {
        fs::metadata(folder.path().join(file)).expect("a file").permissions().mode() & 0o777
    });
    assert_eq!(modes, [0o600, 0o600]);
}

/// Runs the script so far; what it defines is gone after that, so the README must not lean on it.
#[track_caller]
fn run(script: &mut String, environment: impl Fn(&mut Command)) {
    let mut command = Command::new("bash");
    environment(command.args(["-x", "-c", script.as_str()]));
    let output = command.output().expect("bash");
    let (out, err) = (&output.stdout, &output.stderr);
    let transcript = format!("{}\n{}", String::from_utf8_lossy(err), String::from_utf8_lossy(out));
    assert!(output.status.success(), "{transcript}");
    if script.contains("--request POST") {
        let out = String::from_utf8_lossy(out);
        for expected in [
            r#""currentVersion":1"#,
            r#""password":"my_secret_password""#,
            r#""password":"my_newest_password""#,
            r#""deactivateVersionAfter":"10h30m10s""#,
            r#""state":"deactivated""#,
            r#""state":"deleted""#,
            r#""deactivateVersionAfter":"90d""#,
        ] {
            assert!(out.contains(expected), "{expected} is missing in: {transcript}");
        }
    }
    script.clear();
    script.push_str("set -euo pipefail\n");
}

fn shell_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let block = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(block.map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

/// Whether a block is a server, which takes its terminal for itself.
fn serves(block: &str) -> bool {
    block.starts_with("cargo run -- dev") || block.starts_with("okmsd serve")
}

/// A `cargo` that runs the program at hand.
fn write_cargo(file: &Path) {
    let script = format!(
        "#!/bin/sh\ncase \"$1 $2\" in\n'run --') shift 2; exec '{OKMSD}' \"$@\";;\n\
         'test '|'build --release') exit 0;;\n*) echo \"cargo $*: not in this test\" >&2; exit 1;;\nesac\n"
    );
    fs::write(file, script).expect("a script");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[track_caller]
fn wait_for_health(address: &str, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(address).is_err() {
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(Instant::now() < deadline, "no server on {address}: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
}
