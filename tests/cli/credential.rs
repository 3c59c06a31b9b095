//! `okmsd credential`.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{Trial, fail, json as run_json, mode, read, succeed};

const URN: &str = "urn:v1:eu:identity:user:dev/deploy";

/// Makes a credential in the domain of the trial.
#[track_caller]
fn create(trial: &Trial, more: &[&str]) -> Value {
    let domain =
        ["credential", "create", "--domain", trial.variable("OKMS_ID"), "--name", "deploy"];
    run_json(trial.cwd.path(), &[&domain, more].concat())
}

fn file<'a>(made: &'a Value, name: &str) -> &'a Path {
    Path::new(made["files"][name].as_str().unwrap_or_else(|| panic!("no {name}: {made}")))
}

#[tokio::test]
async fn a_credential_counts_from_its_making_to_its_revocation() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let made = create(
        &trial,
        &["--identity", URN, "--description", "For CI", "--validity-days", "7", "--out-dir", "ci"],
    );
    let id = made["id"].as_str().unwrap();
    let (cert, key) = (file(&made, "certificate"), file(&made, "privateKey"));
    assert_eq!(cert, cwd.canonicalize().unwrap().join(format!("ci/{id}_certificate.pem")));
    assert_eq!((mode(key), mode(cert), mode(&cwd.join("ci"))), (0o600, 0o600, 0o700));
    assert_eq!(made["certificatePEM"], read(cert));
    assert_eq!(made["files"]["p12"], Value::Null);
    assert_eq!(made["p12Password"], Value::Null);

    // While the server runs, and on a connection that stays open.
    let client = trial.client_with(Some((cert, key)));
    assert_eq!(client.get(&trial.secrets()).await.status, 200);
    let shown = run_json(cwd, &["credential", "show", id]);
    for (name, value) in [
        ("okmsId", json!(trial.variable("OKMS_ID"))),
        ("name", json!("deploy")),
        ("description", json!("For CI")),
        ("status", json!("READY")),
        ("identityURNs", json!([URN])),
        ("fromCSR", json!(false)),
        ("revokedAt", Value::Null),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    let listed = run_json(cwd, &["credential", "list", "--domain", trial.variable("OKMS_ID")]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(listed.as_array().unwrap().contains(&shown));

    assert_eq!(succeed(cwd, &["credential", "revoke", id]), format!("Revoked {id}.\n"));
    client.get(&trial.secrets()).await.error(401, 50_475_011);
    assert_eq!(run_json(cwd, &["credential", "show", id])["status"], "REVOKED");
    let text = succeed(cwd, &["credential", "show", id]);
    assert!(text.contains("REVOKED") && text.contains(URN) && text.contains("For CI"), "{text}");
    assert!(trial.client().get(&trial.secrets()).await.status == 200, "the other one counts on");
}

#[tokio::test]
async fn a_key_of_ones_own_comes_with_a_signing_request() {
    if !crate::tools::at_hand(&["openssl"]) {
        return;
    }
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let (key, csr) = (cwd.join("own.pem"), cwd.join("own.csr"));
    let output = Command::new("openssl")
        .args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=anything"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&csr)
        .output()
        .expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = create(&trial, &["--csr", csr.to_str().unwrap(), "--identity", URN]);
    assert_eq!(made["fromCSR"], true);
    assert_eq!(made["files"]["privateKey"], Value::Null);
    let client = trial.client_with(Some((file(&made, "certificate"), &key)));
    assert_eq!(client.get(&trial.secrets()).await.status, 200);

    fs::write(&csr, "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n").unwrap();
    let domain = trial.variable("OKMS_ID");
    let base = ["credential", "create", "--domain", domain, "--name", "x", "--csr", "own.csr"];
    let errors = fail(cwd, &base, 1);
    assert!(errors.contains("certificate signing request"), "{errors}");
    for more in [&["--key-type", "rsa"][..], &["--p12"]] {
        fail(cwd, &[&base, more].concat(), 2);
    }
}

#[tokio::test]
async fn an_rsa_key_can_be_asked_for() {
    if !crate::tools::at_hand(&["openssl"]) {
        return;
    }
    let trial = Trial::start();
    let made = create(&trial, &["--key-type", "rsa", "--identity", URN]);
    let (cert, key) = (file(&made, "certificate"), file(&made, "privateKey"));
    let client = trial.client_with(Some((cert, key)));
    assert_eq!(client.get(&trial.secrets()).await.status, 200);
    let output = Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(key).output();
    let text = String::from_utf8(output.expect("openssl").stdout).unwrap();
    assert!(text.contains("3072 bit"), "{text}");
}

#[test]
fn a_pkcs12_file_opens_with_the_given_or_the_printed_password() {
    if !crate::tools::at_hand(&["openssl"]) {
        return;
    }
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let opens = |path: &Path, password: &str| {
        Command::new("openssl")
            .args(["pkcs12", "-nokeys", "-passin", "env:PASSWORD", "-in"])
            .arg(path)
            .env("PASSWORD", password)
            .output()
            .expect("openssl")
            .status
            .success()
    };
    let made = create(&trial, &["--p12"]);
    let printed = made["p12Password"].as_str().unwrap();
    assert!(opens(file(&made, "p12"), printed) && !opens(file(&made, "p12"), "wrong"));
    assert_eq!(mode(file(&made, "p12")), 0o600);

    let password = cwd.join("password");
    fs::write(&password, "correct horse\n").unwrap();
    let domain = trial.variable("OKMS_ID");
    let flags = ["--p12", "--p12-password-file", "password"];
    let arguments = [&["credential", "create", "--domain", domain, "--name", "x"][..], &flags];
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let errors = fail(cwd, &arguments.concat(), 1);
    assert!(errors.contains("chmod 600"), "{errors}");
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let made = create(&trial, &flags);
    assert!(opens(file(&made, "p12"), "correct horse"));
    assert_eq!(made["p12Password"], Value::Null);
    fail(cwd, &["credential", "create", "--domain", domain, "--name", "x", flags[1], flags[2]], 2);
}

#[test]
fn a_credential_whose_files_cannot_be_written_does_not_stay() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let domain = trial.variable("OKMS_ID");
    // A folder of the kernel, in which nobody makes files, root neither.
    let arguments =
        ["credential", "create", "--domain", domain, "--name", "lost", "--out-dir", "/proc"];
    let errors = fail(cwd, &arguments, 1);
    assert!(errors.contains("is revoked"), "{errors}");
    let listed = run_json(cwd, &["credential", "list", "--domain", domain]);
    let lost = listed.as_array().unwrap().iter().find(|one| one["name"] == "lost").unwrap();
    assert_eq!(lost["status"], "REVOKED");
}

#[test]
fn what_breaks_a_rule_is_bad_usage() {
    let trial = Trial::start();
    let cwd = trial.cwd.path();
    let domain = trial.variable("OKMS_ID");
    let base = ["credential", "create", "--domain", domain];
    let many: Vec<&str> = ["--identity", URN].repeat(26);
    let (name, description) = ("n".repeat(51), "d".repeat(201));
    for more in [
        &[][..],
        &["--name", &name],
        &["--name", "x", "--description", &description],
        &["--name", "x", "--validity-days", "0"],
        &["--name", "x", "--validity-days", "366"],
        &["--name", "x", "--key-type", "dsa"],
        &["--name", "x", "--identity", "me"],
        &[&["--name", "x"][..], &many].concat(),
    ] {
        fail(cwd, &[&base, more].concat(), 2);
    }
    let nobody = "00000000-0000-0000-0000-000000000001";
    let errors = fail(cwd, &["credential", "create", "--domain", nobody, "--name", "x"], 1);
    assert!(errors.contains("there is no such domain"), "{errors}");
    for arguments in [["credential", "show", nobody], ["credential", "revoke", nobody]] {
        let errors = fail(cwd, &arguments, 1);
        assert_eq!(errors, format!("okmsd: {nobody}: there is no such credential\n"));
    }
    fail(cwd, &["credential", "list", "--domain", nobody], 1);
    let listed = run_json(cwd, &["credential", "list", "--domain", domain]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "nothing was made");
}
