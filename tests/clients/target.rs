//! The server that the suites run against.

use std::{collections::HashMap, process::Command};

use tempfile::TempDir;

use crate::program::{OKMSD, Program, wait_for};

/// What a client shows to be let in.
#[derive(Clone, Copy, Debug)]
pub enum Auth {
    Certificate,
    Token,
}

/// `okmsd dev` on a free port, with a token of the identity that its certificate has.
pub struct Target {
    variables: HashMap<String, String>,
    token: String,
    _program: Program,
    folder: TempDir,
}

impl Target {
    /// Starts it on SQLite, or on the PostgreSQL of that URL.
    pub fn start(database: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let okmsd = || {
            let mut command = Command::new(OKMSD);
            command.current_dir(folder.path());
            if let Some(url) = database {
                command.env("OKMSD_DATABASE", url);
            }
            command
        };
        let log = folder.path().join("dev.log");
        let mut command = okmsd();
        command.args(["dev", "--api-listen", "127.0.0.1:0", "--docs-listen", "127.0.0.1:0"]);
        let program = Program::start(&mut command, &log);
        let file = folder.path().join("certs/dev/dev.env");
        wait_for(&file, &log);
        let script = format!("set -a; . '{}'; env -0", file.display());
        let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let variables = text.split('\0').filter_map(|line| line.split_once('='));
        let variables: HashMap<_, _> =
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut command = okmsd();
        command.args(["token", "create", "--data-dir", "certs/dev", "--format", "json"]);
        command.args(["--domain", &variables["OKMS_ID"], "--identity", IDENTITY]);
        let output = command.output().expect("the program");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let token = made["token"].as_str().expect("a token").to_owned();
        Self { variables, token, _program: program, folder }
    }

    /// A variable of `dev.env`.
    pub fn variable(&self, name: &str) -> &str {
        &self.variables[name]
    }

    /// A folder for what the test makes.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A token of the identity that the certificate has.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Tells a suite where the server is, and gives it what it is to show.
    pub fn describe(&self, command: &mut Command, auth: Auth) {
        for (ours, theirs) in
            [("OKMSD_URL", "OKMS_ENDPOINT"), ("OKMSD_OKMS_ID", "OKMS_ID"), ("OKMSD_CA", "OKMS_CA")]
        {
            command.env(ours, &self.variables[theirs]);
        }
        match auth {
            Auth::Certificate => command
                .env("OKMSD_AUTH", "cert")
                .env("OKMSD_CERT", &self.variables["OKMS_CERT"])
                .env("OKMSD_KEY", &self.variables["OKMS_KEY"]),
            Auth::Token => command.env("OKMSD_AUTH", "token").env("OKMSD_TOKEN", &self.token),
        };
        // Neither a token of the person who runs the tests, nor a place to leave one.
        command.env("HOME", self.folder.path());
        for name in ["VAULT_TOKEN", "VAULT_ADDR", "BAO_TOKEN", "BAO_ADDR", "VAULT_NAMESPACE"] {
            command.env_remove(name);
        }
    }
}

/// The identity that `okmsd dev` gives to its credential.
const IDENTITY: &str = "urn:v1:eu:identity:account:dev";
