//! Help, settings, and command lines that are not understood.

use std::{fs, io::Read, process::Stdio};

use crate::harness::{fail, okmsd, succeed};

#[test]
fn every_subcommand_has_help() {
    let cwd = tempfile::tempdir().unwrap();
    for command in [
        &[][..],
        &["serve"],
        &["dev"],
        &["init"],
        &["domain"],
        &["domain", "delete"],
        &["credential"],
        &["credential", "create"],
        &["config"],
        &["config", "check"],
        &["healthcheck"],
    ] {
        let text = succeed(cwd.path(), &[command, &["--help"]].concat());
        assert!(text.contains("Usage: okmsd"), "{text}");
    }
    assert!(succeed(cwd.path(), &["--version"]).starts_with("okmsd "));
}

#[test]
fn what_is_not_understood_ends_with_2() {
    let cwd = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["sevre"],
        &["serve", "--port", "1"],
        &["serve", "--api-listen", "localhost"],
        &["dev", "--docs-listen", "1"],
        &["domain", "list", "--config", "a", "--data-dir", "b"],
        &["domain", "list", "--format", "xml"],
        &["healthcheck", "--timeout", "0"],
    ] {
        fail(cwd.path(), arguments, 2);
    }
}

#[test]
fn a_database_flag_is_never_repeated() {
    let cwd = tempfile::tempdir().unwrap();
    let errors = fail(cwd.path(), &["serve", "--database", "mysql://me:hunter2@db/x"], 2);
    assert!(errors.starts_with("okmsd: --database must be") && !errors.contains("hunter2"));
    let url = "postgres://me:hunter2@127.0.0.1:1/x";
    let errors = fail(cwd.path(), &["dev", "--database", url], 1);
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn the_printed_example_is_a_valid_configuration() {
    let cwd = tempfile::tempdir().unwrap();
    let example = succeed(cwd.path(), &["config", "example"]);
    let check = ["config", "check", "--data-dir", "data"];
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost"]);
    let made = succeed(cwd.path(), &check);
    let address = "server.api_url = https://localhost:8443\n";
    assert!(made.contains(address), "{made}");
    assert!(made.contains("server.api_listen = 127.0.0.1:8443"), "{made}");
    fs::write(cwd.path().join("data/okmsd.toml"), example).unwrap();
    // All but the name of the server is a default.
    let made = made.replace(address, "server.api_url = \n");
    assert_eq!(succeed(cwd.path(), &check), made);
    // What the settings point to is checked as well.
    let data = cwd.path().join("data");
    fs::copy(data.join("ca_privatekey.pem"), data.join("server_privatekey.pem")).unwrap();
    let errors = fail(cwd.path(), &check, 1);
    assert!(errors.starts_with("okmsd: cannot start the server: "), "{errors}");
    fs::remove_file(data.join("root.key")).unwrap();
    let errors = fail(cwd.path(), &check, 1);
    assert!(errors.starts_with("okmsd: there is no root key"), "{errors}");
}

#[test]
fn a_bad_configuration_is_refused_by_the_name_of_its_setting() {
    let cwd = tempfile::tempdir().unwrap();
    fs::write(cwd.path().join("okmsd.toml"), "[server]\napi_lisen = \"x\"\n").unwrap();
    let errors = fail(cwd.path(), &["config", "check", "--config", "okmsd.toml"], 1);
    assert_eq!(errors, "okmsd: okmsd.toml has the unknown key server.api_lisen\n");
    let errors = fail(cwd.path(), &["serve", "--config", "absent.toml"], 1);
    assert!(errors.starts_with("okmsd: cannot read absent.toml: No such file"), "{errors}");
    let mut command = okmsd(cwd.path(), &["config", "check"]);
    let output = command.env("OKMSD_CONNECTIONS", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "okmsd: OKMSD_CONNECTIONS must be a whole number of at least 1\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let cwd = tempfile::tempdir().unwrap();
    let mut child = okmsd(cwd.path(), &["config", "example"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(child.wait().unwrap().success(), "{errors}");
    assert_eq!(errors, "");
}
