//! Help, settings, and command lines that are not understood.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use crate::{
    harness::{fail, files_below, okmsd, read, succeed},
    production::Production,
    tools::at_hand,
};

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
        &["export"],
        &["import", "file"],
        &["import", "vault"],
        &["backup"],
        &["backup", "verify"],
        &["restore"],
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

#[test]
fn config_check_tells_all_that_is_wrong_and_changes_nothing() {
    let cwd = tempfile::tempdir().unwrap();
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost"]);
    let data = cwd.path().join("data");
    let check = ["config", "check", "--data-dir", "data"];
    let secrets = ["root.key", "ca_privatekey.pem", "server_privatekey.pem"].map(|name| {
        read(&data.join(name)).lines().max_by_key(|line| line.len()).unwrap().to_owned()
    });
    let all = || files_below(&data).into_iter().map(|path| (fs::read(&path).unwrap(), path));

    // Flags count as they do for the server.
    let before: Vec<_> = all().collect();
    let flags = ["--database", "data/other.db", "--docs-listen", "off", "--log-level", "debug"];
    let listed = succeed(cwd.path(), &[&check[..], &flags].concat());
    for line in
        ["storage.database = data/other.db", "server.docs_listen = off", "log.level = debug"]
    {
        assert!(listed.lines().any(|found| found == line), "{listed}");
    }
    fail(cwd.path(), &[&check[..], &["--api-listen", "localhost"]].concat(), 2);
    assert_eq!(all().collect::<Vec<_>>(), before, "no database was made, no line written");

    let set_mode = |name: &str, mode| {
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::write(data.join("okmsd.db"), "").unwrap();
    set_mode("okmsd.db", 0o604);
    set_mode("root.key", 0o644);
    set_mode("audit", 0o770);
    fs::write(data.join("ca_privatekey.pem"), "no key").unwrap();
    fs::write(data.join("server_certificate.pem"), "no certificate").unwrap();
    let before: Vec<_> = all().collect();
    let mut command = okmsd(cwd.path(), &check);
    let output = command.env("RUST_LOG", "okmsd=hunter2").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let errors = String::from_utf8(output.stderr).unwrap();
    let words = [
        "mend it with: chmod 600 data/root.key",
        "SQLite file data/okmsd.db: others may access it (mode 604)",
        "cannot start the server: ",
        "cannot use the authority of data/ca_certificate.pem and data/ca_privatekey.pem",
        "mend it with: chmod go= data/audit",
        "log: RUST_LOG must be a level",
    ];
    assert_eq!(errors.lines().count(), words.len(), "{errors}");
    for (line, words) in errors.lines().zip(words) {
        assert!(line.starts_with("okmsd: ") && line.contains(words), "{words}: {line}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");
    assert!(secrets.iter().all(|secret| !errors.contains(secret) && !listed.contains(secret)));
    assert_eq!(all().collect::<Vec<_>>(), before);
}

#[test]
fn config_check_tells_every_bad_value() {
    let cwd = tempfile::tempdir().unwrap();
    let file = "[server]\nregion = \"A B\"\n[log]\nformat = \"x\"\n[storage]\ndatabse = \"x\"";
    fs::write(cwd.path().join("okmsd.toml"), file).unwrap();
    for command in [&["config", "check"][..], &["serve"]] {
        let mut command = okmsd(cwd.path(), &[command, &["--config", "okmsd.toml"]].concat());
        let output = command.env("OKMSD_CONNECTIONS", "many").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8(output.stderr).unwrap();
        let starts = [
            "okmsd: server.region in okmsd.toml must be",
            "okmsd: log.format in okmsd.toml must be",
            "okmsd: okmsd.toml has the unknown key storage.databse",
            "okmsd: OKMSD_CONNECTIONS must be",
        ];
        assert_eq!(errors.lines().count(), starts.len(), "{errors}");
        assert!(
            errors.lines().zip(starts).all(|(line, start)| line.starts_with(start)),
            "{errors}"
        );
    }
}

#[cfg(not(feature = "otel"))]
#[test]
fn traces_are_not_asked_for_in_vain() {
    let cwd = tempfile::tempdir().unwrap();
    let mut command = okmsd(cwd.path(), &["serve"]);
    let output = command.env("OKMSD_OTLP_ENDPOINT", "http://127.0.0.1:4318").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let told = "okmsd: OKMSD_OTLP_ENDPOINT must not be set: this program was built without the feature `otel`";
    assert_eq!(errors.trim_end(), told);
}

/// A key of the authority that belongs to somebody else is no business of the server, nor of its check.
#[test]
fn config_check_leaves_the_authority_of_another_user_alone() {
    let cwd = tempfile::tempdir().unwrap();
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost"]);
    let key = cwd.path().join("data/ca_privatekey.pem");
    let check = ["config", "check", "--data-dir", "data"];
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let errors = fail(cwd.path(), &check, 1);
    assert!(errors.contains("mend it with: chmod 600 data/ca_privatekey.pem"), "{errors}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads all files, but for one without that power.
    let mut command = Command::new("setpriv");
    let powers = "-dac_override,-dac_read_search";
    if rustix::process::geteuid().is_root() {
        command.args(["--bounding-set", powers]);
    }
    command.arg(env!("CARGO_BIN_EXE_okmsd")).args(check).current_dir(cwd.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn config_check_looks_at_what_is_to_be_made() {
    let cwd = tempfile::tempdir().unwrap();
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost"]);
    fs::write(cwd.path().join("data/file"), "").unwrap();
    let check = |variable: &str, value: &str| {
        let mut command = okmsd(cwd.path(), &["config", "check", "--data-dir", "data"]);
        let output = command.env(variable, value).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (variable, value) in [
        ("OKMSD_DATABASE", "new.db"),
        ("OKMSD_AUDIT_FOLDER", "new"),
        ("OKMSD_AUDIT_FOLDER", "new/below/it"),
        ("OKMSD_DATABASE", "postgres://me@db/okmsd"),
    ] {
        assert_eq!(check(variable, value), (Some(0), String::new()), "{value}");
    }
    for (variable, value, word) in [
        ("OKMSD_DATABASE", "absent/new.db", "the folder absent: No such file"),
        ("OKMSD_DATABASE", "data", "SQLite file data: it is not a file"),
        ("OKMSD_DATABASE", "data/file/new.db", "Not a directory"),
        ("OKMSD_DATABASE", "postgres://me:hunter2@db:port/okmsd", "storage.database: "),
        ("OKMSD_DATABASE", "host=db user=me password=hunter2", "OKMSD_DATABASE must be the path"),
        ("OKMSD_DATABASE", "postgres:/me:hunter2@db/okmsd", "or postgres://USER@HOST/DATABASE"),
        ("OKMSD_AUDIT_FOLDER", "data/file", "cannot use data/file: not a directory"),
        ("OKMSD_AUDIT_FOLDER", "data/file/audit", "Not a directory"),
    ] {
        let (code, errors) = check(variable, value);
        assert_eq!(code, Some(1), "{value}");
        assert!(errors.contains(word) && !errors.contains("hunter2"), "{value}: {errors}");
    }
}

#[test]
fn config_check_refuses_a_server_certificate_out_of_its_time() {
    let production = Production::init();
    let check = ["config", "check", "--data-dir", "data"];
    for (from_now, words) in [
        (-40, "the server certificate has ended at 20"),
        (2, "the server certificate is not valid before 20"),
    ] {
        production.issue_server(from_now, 30);
        let errors = fail(production.cwd.path(), &check, 1);
        let start = "okmsd: clients would refuse data/server_certificate.pem: ";
        assert!(errors.starts_with(&format!("{start}{words}")), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    production.issue_server(0, 30);
    succeed(production.cwd.path(), &check);
}

#[test]
fn config_check_reads_the_backup_key_as_a_backup_does() {
    let cwd = tempfile::tempdir().unwrap();
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost"]);
    let config = cwd.path().join("data/okmsd.toml");
    let text = read(&config);
    let check = ["config", "check", "--data-dir", "data"];
    let write = |name: &str, content: &str, mode| {
        let path = cwd.path().join("data").join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let key = "A".repeat(43) + "=";
    write("open.key", &key, 0o644);
    write("bad.key", "hunter2", 0o600);
    write("short", "hunter2", 0o600);
    write("good.key", &key, 0o600);
    write("good", "correct horse battery", 0o600);
    for (setting, told) in [
        ("key_file = \"absent.key\"", Some("cannot read data/absent.key: No such file")),
        ("key_file = \"open.key\"", Some("mend it with: chmod 600 data/open.key")),
        ("key_file = \"bad.key\"", Some("the backup key is not base64 of 32 bytes")),
        ("passphrase_file = \"short\"", Some("a passphrase must have at least 12 characters")),
        ("key_command = [\"false\"]", Some("the command of backup.key_command, false, failed")),
        ("key_file = \"good.key\"", None),
        ("passphrase_file = \"good\"", None),
    ] {
        fs::write(&config, format!("{text}\n[backup]\n{setting}\n")).unwrap();
        let Some(told) = told else {
            succeed(cwd.path(), &check);
            continue;
        };
        let errors = fail(cwd.path(), &check, 1);
        assert!(errors.contains(told) && !errors.contains("hunter2"), "{told}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        let backup = fail(cwd.path(), &["backup", "--data-dir", "data", "file"], 1);
        assert_eq!(backup, errors);
    }
}

#[test]
fn config_check_tells_variables_that_nothing_reads() {
    let cwd = tempfile::tempdir().unwrap();
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost"]);
    let mut command = okmsd(cwd.path(), &["config", "check", "--data-dir", "data"]);
    command.env("OKMSD_TLS_CLIENT_CERT", "hunter2").env("OKMSD_REGOIN", "hunter2");
    command.env("OKMSD_PORT", "tcp://10.0.0.1:8443").env("OKMSD_SERVICE_HOST", "10.0.0.1");
    command.env("OKMSD_DATA_DIR", "x").env("OKMSD_CONFIG", "x").env("OKMSD_REGION", "eu");
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let names = ["OKMSD_REGOIN", "OKMSD_TLS_CLIENT_CERT"];
    assert_eq!(errors.lines().count(), names.len(), "{errors}");
    for (line, name) in errors.lines().zip(names) {
        let start = format!("okmsd: nothing reads the variable {name} of the environment: ");
        assert!(line.starts_with(&start) && !line.contains("hunter2"), "{line}");
    }
}

#[test]
fn shells_read_the_scripts_of_their_completions_and_complete_by_them() {
    if !at_hand(&["bash", "zsh", "fish"]) {
        return;
    }
    let cwd = tempfile::tempdir().unwrap();
    let printed = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(cwd.path()).env("HOME", cwd.path());
        let output = command.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{program}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (shell, parse) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = succeed(cwd.path(), &["completions", shell]);
        assert!(script.contains("rotate-domain") && script.contains("api-listen"), "{shell}");
        fs::write(cwd.path().join(shell), script).unwrap();
        printed(shell, &[parse, shell]);
    }
    let bash = "source ./bash; COMP_WORDS=(okmsd key rot) COMP_CWORD=2; \
                _okmsd okmsd rot key; printf '%s\\n' \"${COMPREPLY[@]}\"";
    assert_eq!(printed("bash", &["-c", bash]), "rotate-domain\nrotate-root\n");
    let fish = "source ./fish; complete --do-complete 'okmsd key rot'";
    let offered = printed("fish", &["--no-config", "-c", fish]);
    let offered: Vec<_> = offered.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(offered, ["rotate-domain", "rotate-root"]);
    // What the parser cannot tell is whether zsh finds the function that it calls.
    let zsh = "autoload -Uz compinit; compinit -D -u; source ./zsh; whence -w _okmsd";
    assert_eq!(printed("zsh", &["-f", "-c", zsh]), "_okmsd: function\n");
    fail(cwd.path(), &["completions", "tcsh"], 2);
}
