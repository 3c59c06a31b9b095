//! One server to a SQLite database.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use crate::{
    harness::{json, okmsd, own_mounts, read, succeed},
    production::Production,
    tools::leave_out,
};

const REFUSAL: &str = "another server runs on it, and SQLite is for one; end that one first";

/// A second server of another port and other files, but for the database.
fn serve(database: &str) -> [String; 7] {
    ["serve", "--config", "data/okmsd.toml", "--api-listen", "127.0.0.1:0", "--database", database]
        .map(str::to_owned)
}

#[track_caller]
fn refused(production: &Production, database: &str) {
    // One that is not refused would serve for ever.
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_okmsd")]).args(serve(database));
    let output = command.current_dir(production.cwd.path()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{database}: {errors}");
    assert!(errors.contains(REFUSAL) && errors.contains(database), "{database}: {errors}");
}

#[tokio::test]
async fn a_second_server_is_refused_by_whatever_name_and_the_command_line_is_not() {
    let production = Production::init();
    let cwd = production.cwd.path();
    let create = ["domain", "create", "--data-dir", "data", "--name"];
    succeed(cwd, &[&create[..], &["before"]].concat());
    let server = production.serve(&[]);
    fs::create_dir(production.data("other")).unwrap();
    let database = production.data("okmsd.db");
    symlink(&database, production.data("other/link.db")).unwrap();
    fs::hard_link(&database, production.data("other/hard.db")).unwrap();
    let audit = || fs::read_dir(production.data("audit")).unwrap().count();
    let before = audit();
    for name in
        ["data/okmsd.db", "data/other/../okmsd.db", "data/other/link.db", "data/other/hard.db"]
    {
        refused(&production, name);
    }
    assert_eq!(audit(), before, "who is refused touches nothing");
    fs::remove_file(production.data("other/hard.db")).unwrap();

    // Beside the server: a read and a write, which it knows of at once.
    succeed(cwd, &[&create[..], &["beside"]].concat());
    let domains = json(cwd, &["domain", "list", "--data-dir", "data"]);
    assert_eq!(domains.as_array().map(Vec::len), Some(2), "{domains}");
    let beside = domains.as_array().unwrap().iter().find(|domain| domain["name"] == "beside");
    let id = beside.unwrap()["okmsId"].as_str().unwrap();
    let create = ["credential", "create", "--data-dir", "data", "--domain", id, "--name", "x"];
    let urn = "urn:v1:eu:identity:account:ab12345-ovh";
    let made = json(cwd, &[&create[..], &["--identity", urn]].concat());
    let file = |name: &str| read(made["files"][name].as_str().unwrap().as_ref());
    let (certificate, key) = (file("certificate"), file("privateKey"));
    let client = production.client(Some((&certificate, &key)));
    let secrets = format!("/api/{id}/v2/secret");
    client.post(&secrets, r#"{"path":"a","version":{"data":{"k":"v"}}}"#).await.ok();
    client.get(&format!("{secrets}/a?includeData=true")).await.ok();
    // Nor did they take its lock away.
    refused(&production, "data/okmsd.db");

    // Another database is none of its business.
    let other = production.data("other/okmsd.db");
    let make = ["domain", "create", "--data-dir", "data", "--name", "other"];
    let mut command = okmsd(cwd, &make);
    assert!(command.env("OKMSD_DATABASE", &other).output().unwrap().status.success());
    let moved = production.data("other/moved.db");
    fs::rename(&database, &moved).unwrap();
    refused(&production, "data/other/moved.db");
    fs::rename(&moved, &database).unwrap();
    assert_eq!(server.stop(), Some(0));
    assert_eq!(production.serve(&[]).stop(), Some(0));
}

#[test]
fn a_server_that_was_killed_is_in_nobodys_way() {
    let production = Production::init();
    let server = production.serve(&[]);
    refused(&production, "data/okmsd.db");
    // With SIGKILL.
    drop(server);
    assert_eq!(production.serve(&[]).stop(), Some(0));
}

#[test]
fn a_database_that_cannot_be_written_is_told() {
    let production = Production::init();
    succeed(production.cwd.path(), &["domain", "create", "--data-dir", "data", "--name", "x"]);
    let mut command = match own_mounts() {
        Some(flags) => {
            // Seen by this child alone.
            let script =
                "mount --bind data data && mount -o remount,ro,bind data && exec \"$0\" \"$@\"";
            let mut command = Command::new("unshare");
            command.args(flags).args(["sh", "-c", script, env!("CARGO_BIN_EXE_okmsd")]);
            command
        }
        None if rustix::process::geteuid().is_root() => {
            return leave_out("root can write to every file, and nothing can be mounted here");
        }
        None => {
            let mode = fs::Permissions::from_mode(0o400);
            fs::set_permissions(production.data("okmsd.db"), mode).unwrap();
            Command::new(env!("CARGO_BIN_EXE_okmsd"))
        }
    };
    command.args(serve("data/okmsd.db")).current_dir(production.cwd.path());
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let reason = errors.split_once("SQLite file data/okmsd.db: ").map(|(_, reason)| reason);
    let told = |reason: &str| {
        ["Read-only file system", "Permission denied"].iter().any(|word| reason.starts_with(word))
    };
    assert!(reason.is_some_and(told), "{errors}");
}

#[test]
fn a_log_of_the_database_that_cannot_be_written_keeps_a_server_from_starting() {
    let production = Production::init();
    succeed(production.cwd.path(), &["domain", "create", "--data-dir", "data", "--name", "x"]);
    for suffix in ["-wal", "-shm"] {
        let log = production.data(&format!("okmsd.db{suffix}"));
        fs::write(&log, "").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o400)).unwrap();
        // Root writes to all files, but for one without that power.
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
        }
        // One that is not refused would serve for ever.
        command.args(["timeout", "60", env!("CARGO_BIN_EXE_okmsd")]).args(serve("data/okmsd.db"));
        let output = command.current_dir(production.cwd.path()).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let told = format!("okmsd.db{suffix}: Permission denied");
        assert!(errors.contains(&told) && errors.contains("chmod 600"), "{errors}");
        fs::remove_file(&log).unwrap();
    }
    assert_eq!(production.serve(&[]).stop(), Some(0));
}
