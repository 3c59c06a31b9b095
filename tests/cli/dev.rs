//! `okmsd dev`: first and later runs.

use std::{fs, path::Path, process::Command};

use okmsd::{clock::SystemClock, domain::Clock, pki::Authority};
use serde_json::json;

use crate::{
    harness::{Trial, files_below, mode, okmsd, read, run, succeed},
    postgres::{Schema, postgres_is_at_hand},
};

const SECRET: &str = r#"{"path":"a","version":{"data":{"k":"v"}}}"#;

#[tokio::test]
async fn a_first_run_makes_all_that_a_trial_needs() {
    let trial = Trial::start();
    let folder = trial.data("");
    assert_eq!(mode(&folder), 0o700);
    for path in files_below(&folder) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&trial.data("audit")), 0o700);
    for name in [
        "ca_certificate.pem",
        "ca_privatekey.pem",
        "server_certificate.pem",
        "server_privatekey.pem",
        "root.key",
        "okmsd.db",
        "okmsd.toml",
        "okms.yaml",
    ] {
        assert!(trial.data(name).is_file(), "{name}");
    }
    // The names of the credential's files carry its id.
    let cert = Path::new(trial.variable("OKMS_CERT"));
    let id = cert.file_name().unwrap().to_str().unwrap().strip_suffix("_certificate.pem").unwrap();
    assert_eq!(cert, trial.data(&format!("{id}_certificate.pem")));
    assert_eq!(Path::new(trial.variable("OKMS_KEY")), trial.data(&format!("{id}_privatekey.pem")));
    assert_eq!(Path::new(trial.variable("OKMS_P12")), trial.data(&format!("{id}.p12")));
    assert_eq!(Path::new(trial.variable("OKMS_CA")), trial.data("ca_certificate.pem"));
    let password = read(&trial.data(&format!("{id}_p12_password.txt")));
    assert_eq!(trial.variable("OKMS_P12_PASSWORD"), password.trim_end());
    let endpoint = trial.variable("OKMS_ENDPOINT");
    assert!(endpoint.starts_with("https://localhost:") && !endpoint.ends_with(":0"), "{endpoint}");
    assert_eq!(trial.variable("OKMS_SWAGGER_URL"), format!("{endpoint}/swagger/"));
    let docs = trial.variable("OKMS_DOCS_URL");
    assert!(docs.starts_with("https://localhost:") && docs.ends_with("/swagger/"), "{docs}");
    assert!(!docs.starts_with(endpoint));

    let printed = trial.printed_guide();
    for name in ["OKMS_ID", "OKMS_CA", "OKMS_CERT", "OKMS_KEY", "OKMS_P12", "OKMS_DOCS_URL"] {
        assert!(printed.contains(trial.variable(name)), "{name} is not in: {printed}");
    }
    assert!(printed.contains(trial.variable("OKMS_SWAGGER_URL")), "{printed}");
    assert!(printed.contains("Firefox") && printed.contains("Chrome"), "{printed}");
    assert!(!printed.contains(password.trim_end()), "the password is told by its file alone");

    let limits = read(Path::new(&format!("/proc/{}/limits", trial.process_id())));
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);

    let secrets = trial.secrets();
    trial.client().post(&secrets, SECRET).await.ok();
    let anonymous = trial.client_with(None).get(&secrets).await;
    anonymous.error(401, 50_475_011);
}

#[tokio::test]
async fn a_later_run_goes_on_with_the_same_keys_and_secrets() {
    let mut trial = Trial::start();
    trial.client().post(&trial.secrets(), SECRET).await.ok();
    let keep = |trial: &Trial| {
        let names =
            ["OKMS_ID", "OKMS_CA", "OKMS_CERT", "OKMS_KEY", "OKMS_P12", "OKMS_P12_PASSWORD"];
        let variables = names.map(|name| trial.variable(name).to_owned());
        let mut files = Vec::new();
        for entry in fs::read_dir(trial.data("")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".pem") || name.ends_with(".key") || name.contains("p12") {
                files.push((name, fs::read(&path).unwrap()));
            }
        }
        files.sort();
        (variables, files)
    };
    let first = keep(&trial);
    trial.again(&[]);
    assert!(keep(&trial) == first, "the second run changed something");
    let read = trial.client().get(&format!("{}/a?includeData=true", trial.secrets())).await.ok();
    assert_eq!(read["version"]["data"], json!({ "k": "v" }));
    let domains = succeed(trial.cwd.path(), &["domain", "list"]);
    assert_eq!(domains.lines().count(), 2, "{domains}");
}

#[tokio::test]
async fn what_is_about_to_end_is_renewed() {
    let mut trial = Trial::start();
    let cwd = trial.cwd.path();
    let (okms_id, first) = (trial.variable("OKMS_ID"), trial.variable("OKMS_CERT").to_owned());
    // Of the same identity, newer, in the same place; but good for a week only.
    let create = ["credential", "create", "--domain", okms_id, "--name", "dev"];
    let urn = ["--identity", "urn:v1:eu:identity:account:dev"];
    let short = ["--validity-days", "7", "--out-dir", "certs/dev", "--format", "json"];
    let made = succeed(cwd, &[&create[..], &urn, &short].concat());
    let certificate = trial.data("server_certificate.pem");
    let key = read(&trial.data("ca_privatekey.pem"));
    let authority = Authority::load(&read(&trial.data("ca_certificate.pem")), &key).unwrap();
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let server = authority.issue_server(&names, SystemClock.now(), 7).unwrap();
    fs::write(&certificate, &server.certificate_pem).unwrap();
    fs::write(trial.data("server_privatekey.pem"), server.private_key_pem.as_bytes()).unwrap();

    trial.again(&[]);
    assert_ne!(read(&certificate), server.certificate_pem);
    assert_eq!(trial.variable("OKMS_CERT"), first, "the one that is good for longer");
    fs::remove_file(&first).unwrap();
    trial.again(&[]);
    assert!(!made.contains(trial.variable("OKMS_CERT")) && trial.variable("OKMS_CERT") != first);
    assert_eq!(trial.client().get(&trial.secrets()).await.status, 200);
}

#[test]
fn the_configuration_of_the_okms_cli_has_the_form_that_it_reads() {
    let trial = Trial::start();
    let text = read(&trial.data("okms.yaml"));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let quoted = |name: &str| format!("\"{}\"", trial.variable(name));
    assert_eq!(
        lines,
        [
            "version: 1",
            "profile: default",
            "profiles:",
            "  default:",
            "    restapi:",
            &format!("      endpoint: {}", quoted("OKMS_ENDPOINT")),
            &format!("      ca: {}", quoted("OKMS_CA")),
            "      auth:",
            "        type: mtls",
            &format!("        cert: {}", quoted("OKMS_CERT")),
            &format!("        key: {}", quoted("OKMS_KEY")),
            &format!("        okmsId: {}", quoted("OKMS_ID")),
        ]
    );
}

#[test]
fn the_printed_curl_line_creates_a_secret() {
    if !crate::tools::at_hand(&["curl"]) {
        return;
    }
    let trial = Trial::start();
    let printed = trial.printed_guide();
    let start = printed.find("  curl ").expect("a curl line");
    let line = printed[start..].split("\n\n").next().unwrap();
    let line = format!("{line} -sS -w '%{{http_code}}'");
    let output = Command::new("sh").args(["-c", &line]).output().expect("a shell");
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.ends_with("200") && text.contains("prod/database/MySQL"), "{text} {errors}");
}

#[test]
fn openssl_opens_the_pkcs12_file_with_its_password() {
    if !crate::tools::at_hand(&["openssl"]) {
        return;
    }
    let trial = Trial::start();
    let output = Command::new("openssl")
        .args(["pkcs12", "-in", trial.variable("OKMS_P12"), "-nodes", "-passin", "env:PASSWORD"])
        .env("PASSWORD", trial.variable("OKMS_P12_PASSWORD"))
        .output()
        .expect("openssl");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let certificate = read(Path::new(trial.variable("OKMS_CERT")));
    assert!(text.contains(certificate.lines().nth(1).unwrap()), "{text}");
    assert!(text.contains("-----BEGIN PRIVATE KEY-----"));
}

#[test]
fn the_folder_is_chosen_by_flag_or_environment_and_may_have_an_awkward_name() {
    if !crate::tools::at_hand(&["curl"]) {
        return;
    }
    let cwd = tempfile::tempdir().unwrap();
    let folder = cwd.path().join("it's a \"folder\" $HOME");
    let mut command = okmsd(cwd.path(), &["dev", "--docs-listen", "off"]);
    command.env("OKMSD_DATA_DIR", &folder).env("OKMSD_API_LISTEN", "127.0.0.1:0");
    let environment = folder.join("dev.env");
    let log = cwd.path().join("log");
    let server = crate::harness::Server::start(command, &log, || environment.exists());
    let script = "set -eu; . \"$1\"; curl -sS --fail-with-body --cacert \"$OKMS_CA\" --cert \
                  \"$OKMS_CERT\" --key \"$OKMS_KEY\" \"$OKMS_ENDPOINT/api/$OKMS_ID/v2/secret\"; \
                  test -z \"$OKMS_DOCS_URL\"";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(&environment).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.stop(), Some(0));
    let config = folder.join("okmsd.toml");
    let list = succeed(cwd.path(), &["domain", "list", "--config", config.to_str().unwrap()]);
    assert_eq!(list.lines().count(), 2, "{list}");
}

#[test]
fn a_second_run_beside_the_first_is_refused() {
    let trial = Trial::start();
    let arguments = ["dev", "--api-listen", "127.0.0.1:0", "--docs-listen", "127.0.0.1:0"];
    let output = run(trial.cwd.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("another okmsd is using"), "{errors}");
    assert!(trial.data("dev.env").exists(), "the first run's file is left alone");
}

#[tokio::test]
async fn another_database_gets_a_domain_and_a_credential_of_its_own() {
    let mut trial = Trial::start();
    let names = ["OKMS_ID", "OKMS_CERT"];
    let first = names.map(|name| trial.variable(name).to_owned());
    let database = trial.cwd.path().join("other.db");
    let flag = ["--database", database.to_str().unwrap()];
    trial.again(&flag);
    let second = names.map(|name| trial.variable(name).to_owned());
    assert!(first[0] != second[0] && first[1] != second[1]);
    assert_eq!(trial.client().get(&trial.secrets()).await.status, 200);
    let listed = succeed(trial.cwd.path(), &["domain", "list"]);
    assert!(listed.contains(&second[0]) && !listed.contains(&first[0]), "{listed}");
    trial.again(&[]);
    assert_eq!(names.map(|name| trial.variable(name).to_owned()), first);
    trial.again(&flag);
    assert_eq!(names.map(|name| trial.variable(name).to_owned()), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_serves_as_well() {
    if !postgres_is_at_hand() {
        return;
    }
    let schema = Schema::create().await;
    let url = schema.url();
    let mut trial = Trial::start_with(&["--database", &url]);
    trial.client().post(&trial.secrets(), SECRET).await.ok();
    assert!(!trial.data("okmsd.db").exists());
    let id = trial.variable("OKMS_ID").to_owned();
    trial.again(&["--database", &url]);
    assert_eq!(trial.variable("OKMS_ID"), id);
    assert_eq!(trial.client().get(&format!("{}/a", trial.secrets())).await.status, 200);
    // The configuration leads to the same database, for the other subcommands.
    let listed = succeed(trial.cwd.path(), &["domain", "list"]);
    assert!(listed.contains(&id), "{listed}");
}
