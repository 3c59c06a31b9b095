//! The manifests for Kubernetes: valid, at one with each other, and with settings that okmsd has.

use std::{fs, path::Path, process::Command};

use crate::{
    program::OKMSD,
    toolbox::{suite, venv},
    tools::{at_hand, leave_out},
};

#[test]
fn the_manifests_are_valid() {
    if !at_hand(&["python3", "go"]) {
        return;
    }
    let made = venv("conformance", "conformance/requirements.txt");
    let files = [SECRETS_OPERATOR, PROMETHEUS_OPERATOR].into_iter().map(module_file);
    let files: Result<Vec<_>, _> = files.collect();
    let (venv, definitions) = match made.and_then(|venv| Ok((venv, files?))) {
        Ok(made) => made,
        Err(why) => return leave_out(&why),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let built = folder.path().join("built.yaml");
    let mut build = Command::new("go");
    build.current_dir(suite("kustomize")).args(["run", KUSTOMIZE, "build", "--output"]);
    succeed(build.arg(&built).arg(manifests()));
    let mut check = Command::new(venv.join("bin/python"));
    check.arg("-B").arg(suite("conformance/manifests.py")).arg(manifests()).arg(built);
    succeed(check.args(definitions));
}

#[test]
fn the_configuration_of_the_manifests_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    succeed(
        Command::new(OKMSD)
            .args(["init", "--name", "okmsd.okmsd.svc", "--data-dir"])
            .arg(path("made")),
    );
    // The files as the Secrets of the README hold them.
    for (from, to) in [
        ("server_certificate.pem", "tls/tls.crt"),
        ("server_privatekey.pem", "tls/tls.key"),
        ("ca_certificate.pem", "tls/ca.crt"),
        ("root.key", "secrets/root.key"),
    ] {
        let to = path(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(path("made").join(from), to).expect("a file of okmsd init");
    }
    // The one thing that is not as it is in a cluster: the database beside these files.
    let database = format!("sqlite://{}", path("made/okmsd.db").display());
    fs::copy(path("made/root.key"), path("secrets/database_url")).expect("a private file");
    fs::write(path("secrets/database_url"), database).expect("the URL");
    let text = fs::read_to_string(manifests().join("okmsd.toml")).expect("the configuration");
    let text = text.replace("/etc/okmsd", &folder.path().display().to_string());
    let text = text.replace("/var/lib/okmsd", &path("made").display().to_string());
    fs::write(path("okmsd.toml"), text).expect("the configuration");
    succeed(Command::new(OKMSD).args(["config", "check", "--config"]).arg(path("okmsd.toml")));
}

/// A file of a Go module: its definitions of resources.
fn module_file((module, hash, file): (&str, &str, &str)) -> Result<std::path::PathBuf, String> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", module]).current_dir(env!("CARGO_TARGET_TMPDIR"));
    let output = go.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if found["Sum"] != hash {
        return Err(format!("{module}: {text}"));
    }
    Ok(Path::new(found["Dir"].as_str().unwrap_or_default()).join(file))
}

fn manifests() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".deploy/kubernetes")
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().expect("it starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}:\n{out}\n{err}");
}

/// As `tests/clients/kustomize/go.mod` has it.
const KUSTOMIZE: &str = "sigs.k8s.io/kustomize/kustomize/v5";
/// The last versions that Go's proxy has.
const SECRETS_OPERATOR: (&str, &str, &str) = (
    "github.com/external-secrets/external-secrets@v1.3.2",
    "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
    "deploy/crds/bundle.yaml",
);
const PROMETHEUS_OPERATOR: (&str, &str, &str) = (
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
);
