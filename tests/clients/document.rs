//! Our own OpenAPI document, tried by schemathesis: whatever it allows is taken, whatever it forbids is refused,
//! and each answer is one that it describes.

use std::process::Command;

use crate::{
    postgres,
    target::{Auth, Target},
    toolbox::{suite, venv},
    tools::{at_hand, leave_out},
};

#[test]
fn the_server_does_what_its_document_says_on_sqlite() {
    if let Some(schemathesis) = Schemathesis::at_hand() {
        schemathesis.try_document(&Target::start(None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_does_what_its_document_says_on_postgres() {
    let Some(schemathesis) = Schemathesis::at_hand() else { return };
    if postgres::postgres_is_at_hand() {
        let schema = postgres::Schema::create().await;
        schemathesis.try_document(&Target::start(Some(&schema.url())));
    }
}

struct Schemathesis {
    program: std::path::PathBuf,
}

impl Schemathesis {
    fn at_hand() -> Option<Self> {
        if !at_hand(&["python3"]) {
            return None;
        }
        match venv("conformance", "conformance/requirements.txt") {
            Ok(venv) => Some(Self { program: venv.join("bin/schemathesis") }),
            Err(why) => {
                leave_out(&why);
                None
            }
        }
    }

    #[track_caller]
    fn try_document(&self, target: &Target) {
        let mut all = self.command(target);
        let (certificate, key) = (target.variable("OKMS_CERT"), target.variable("OKMS_KEY"));
        all.args(["--request-cert", certificate, "--request-cert-key", key]);
        all.args(["--checks", "all", "--exclude-checks", REPLACED]);
        run(&mut all, operations());

        let mut without_credentials = self.command(target);
        let token = format!("Authorization: Bearer {}", target.token());
        without_credentials.args(["--header", &token, "--checks", "ignored_auth"]);
        without_credentials.args(["--phases", "examples,fuzzing", "--mode", "positive"]);
        // All that comes after it would be refused.
        without_credentials.args(["--exclude-operation-id", "PostTokenRevokeSelf"]);
        run(&mut without_credentials, operations() - 1);
    }

    /// A run against the document that the server shows.
    fn command(&self, target: &Target) -> Command {
        let mut command = Command::new(&self.program);
        let url = target.variable("OKMS_ENDPOINT");
        command.arg("--config-file").arg(suite("conformance/schemathesis.toml"));
        command.args(["run", &format!("{url}/swagger/openapi.json"), "--url", url]);
        command.args(["--tls-verify", target.variable("OKMS_CA")]);
        command.args(["--max-examples", MAX_EXAMPLES, "--no-shrink", "--warnings", "off"]);
        command.env("SCHEMATHESIS_HOOKS", suite("conformance/hooks.py"));
        // What the configuration asks of the environment, and no traces beside the hooks.
        target.describe(&mut command, Auth::Certificate);
        command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(target.folder());
        command
    }
}

#[track_caller]
fn run(command: &mut Command, operations: usize) {
    let output = command.output().expect("schemathesis starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}:\n{out}\n{err}");
    let tested = format!("Tested: {operations}\n");
    assert!(out.contains(&tested), "not all {operations} operations were tried:\n{out}");
}

/// How many operations the document has.
fn operations() -> usize {
    let document: serde_json::Value =
        serde_json::from_str(include_str!("../../openapi/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").values();
    let operations = paths.flat_map(|path| path.as_object().expect("a path").values());
    operations.filter(|operation| operation["operationId"].is_string()).count()
}

/// For each operation, in each phase that makes requests at random: what takes about a minute.
const MAX_EXAMPLES: &str = "10";

/// Checks that others stand in for: a run of its own for `ignored_auth`, which only leaves headers away, where the
/// certificate belongs to the connection; those of hooks.py for the rest.
const REPLACED: &str = "ignored_auth,positive_data_acceptance,negative_data_rejection,\
    unsupported_method,allow_header_conformance";
