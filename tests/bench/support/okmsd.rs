//! okmsd in a process of its own, in its default configuration, and what is asked of it.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::{
    client::{Answer, Client, tls_config},
    harness::{Server, Trial, okmsd},
    http::{Ask, Question, Target, repeat},
};

/// The program on a disk, with what `okmsd dev` makes: encrypted, audited, each write on the disk before its
/// answer. Those who ask are a user with policies.
pub struct Okmsd {
    trial: Trial,
    server: Option<Server>,
    arguments: Vec<String>,
    rates: Rates,
}

/// Which rates of one client there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rates {
    /// Some that are not reached: all clients of a benchmark have one address. They are looked at all the same.
    OutOfReach,
    /// As they come.
    Default,
}

impl Okmsd {
    /// Starts it on SQLite.
    pub fn start() -> Self {
        Self::start_with(&[], Rates::OutOfReach)
    }

    /// Starts it with more arguments.
    pub fn start_with(arguments: &[&str], rates: Rates) -> Self {
        // Not the folder for temporary files, which may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut trial = Trial::start_in(folder);
        if !arguments.is_empty() {
            trial.again(arguments);
        }
        trial.stop();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut started = Self { trial, server: None, arguments, rates };
        started.restart();
        started.make_user();
        started
    }

    /// Makes the user that asks: what it may do, a policy of its group says, and others what it and others may not.
    fn make_user(&self) {
        let (cwd, config) = (self.trial.cwd.path(), self.file("okmsd.toml"));
        let run = |arguments: &[&str]| {
            let mut command = okmsd(cwd, arguments);
            command.arg("--config").arg(&config);
            if let [_, database] = &self.arguments[..] {
                command.env("OKMSD_DATABASE", database);
            }
            let output = command.output().expect("the binary runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let domain = self.trial.variable("OKMS_ID");
        let folder = self.file(USER);
        let out = folder.to_str().expect("UTF-8");
        run(&[
            "credential",
            "create",
            "--domain",
            domain,
            "--name",
            USER,
            "--identity",
            USER_URN,
            "--out-dir",
            out,
        ]);
        run(&["group", "add", GROUP_URN, USER_URN]);
        let resource = format!("urn:v1:eu:resource:okms:{domain}");
        let all = json!([{ "action": "okms:apikms:*" }]);
        let policy = |name: &str, identity: &str, resource: String, permissions: Value| {
            json!({
                "name": name, "identities": [identity], "resources": [{ "urn": resource }],
                "permissions": permissions,
            })
        };
        let policies = json!([
            policy("may", GROUP_URN, resource.clone(), json!({ "allow": all })),
            policy(
                "may-not",
                USER_URN,
                format!("{resource}/secret/prod/*"),
                json!({ "deny": all })
            ),
            policy(
                "others",
                OTHER_URN,
                format!("{resource}/secret/bench/*"),
                json!({ "deny": all })
            ),
        ]);
        let file = self.file("policies.json");
        fs::write(&file, policies.to_string()).expect("to write");
        run(&["policy", "apply", "--file", file.to_str().expect("UTF-8")]);
    }

    /// Ends it, if it runs, and starts it as `okmsd serve`.
    pub fn restart(&mut self) {
        let log = self.file(LOG);
        self.start_until(|| fs::read_to_string(&log).is_ok_and(|log| log.contains(" serving ")));
    }

    /// Starts it anew: how long that takes until somebody has an answer.
    pub async fn answers_in(&mut self) -> Duration {
        self.stop();
        let started = Instant::now();
        self.start_until(|| true);
        let path = self.v2("secretConfig");
        loop {
            let sent = self.client().try_send(Method::GET, &path, &[], Bytes::new()).await;
            match sent {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    return started.elapsed();
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    fn start_until(&mut self, is_ready: impl Fn() -> bool) {
        self.stop();
        let config = self.file("okmsd.toml");
        let mut arguments = vec!["serve", "--config", config.to_str().expect("UTF-8")];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let (mut command, log) = (okmsd(self.trial.cwd.path(), &arguments), self.file(LOG));
        if self.rates == Rates::OutOfReach {
            for rate in [
                "OKMSD_REQUESTS_PER_ADDRESS",
                "OKMSD_REQUESTS_PER_CREDENTIAL",
                "OKMSD_HANDSHAKE_RATE_PER_ADDRESS",
            ] {
                command.env(rate, u32::MAX.to_string());
            }
        }
        self.server = Some(Server::start(command, &log, is_ready));
    }

    /// Ends it, if it runs.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            assert_eq!(server.stop(), Some(0));
        }
    }

    pub fn process(&self) -> u32 {
        self.server.as_ref().expect("it runs").process_id()
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.trial.data(name)
    }

    /// Where it is, with the certificate of the user.
    pub fn target(&self) -> Target {
        let endpoint = self.trial.variable("OKMS_ENDPOINT");
        let port = endpoint.rsplit_once(':').expect("a port").1;
        let read = |name| fs::read_to_string(self.trial.variable(name)).expect("a file");
        let [certificate, key] = ["_certificate.pem", "_privatekey.pem"].map(|end| {
            let entries = fs::read_dir(self.file(USER)).expect("a folder");
            let mut paths = entries.map(|entry| entry.expect("an entry").path());
            let path = paths.find(|path| path.to_string_lossy().ends_with(end));
            fs::read_to_string(path.expect("a file")).expect("text")
        });
        let tls = tls_config(&read("OKMS_CA"), Some((&certificate, &key)));
        Target { address: format!("127.0.0.1:{port}").parse().expect("an address"), tls }
    }

    /// TLS of somebody without a certificate.
    pub fn stranger(&self) -> rustls::ClientConfig {
        let ca = fs::read_to_string(self.trial.variable("OKMS_CA")).expect("a file");
        tls_config(&ca, None)
    }

    /// A client with the certificate of the user.
    pub fn client(&self) -> Client {
        Client::new(self.trial.variable("OKMS_ENDPOINT"), self.target().tls)
    }

    /// What is at a path of the v2 API.
    pub fn v2(&self, rest: &str) -> String {
        format!("/api/{}/v2/{rest}", self.trial.variable("OKMS_ID"))
    }

    /// What is at a path of the KV2 API.
    pub fn v1(&self, rest: &str) -> String {
        format!("/api/{}/v1/secret/{rest}", self.trial.variable("OKMS_ID"))
    }

    /// The answer to a question, which must be a success.
    pub async fn answer(&self, question: &Question) -> Answer {
        let headers: Vec<_> =
            question.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (method, body) = (question.method.clone(), question.body.clone());
        let answer = self.client().send(method, &question.path, &headers, body).await;
        assert!(answer.status < 300, "{}: {}", question.path, answer.text());
        answer
    }

    /// Makes the secrets `bench/0` and following, `count` of them, through the API.
    pub async fn fill(&self, count: u64) {
        let secrets = self.v2("secret");
        repeat(&self.target(), count, move |number| {
            let body = format!(r#"{{"path":"{}","version":{{"data":{DATA}}}}}"#, path(number));
            Question::post(&secrets, body)
        })
        .await;
    }

    /// Makes a secret that has that many versions.
    pub async fn fill_versions(&self, path: &str, count: u64) {
        let body = format!(
            r#"{{"path":"{path}","metadata":{{"max_versions":{count}}},"version":{{"data":{DATA}}}}}"#
        );
        self.answer(&Question::post(self.v2("secret"), body)).await;
        let versions = self.v2(&format!("secret/{path}/version"));
        repeat(&self.target(), count - 1, move |_| Question::post(&versions, new_version())).await;
    }
}

impl Drop for Okmsd {
    fn drop(&mut self) {
        // It says why an answer was not the one that is expected, and goes with its folder.
        if thread::panicking() {
            let log = fs::read_to_string(self.file(LOG)).unwrap_or_default();
            let told = log.lines().filter(|line| !line.contains("okmsd::access"));
            let lines: Vec<_> = told.collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("its log, but for requests, ends with:\n{}", last.join("\n"));
        }
    }
}

const USER: &str = "bench";
const USER_URN: &str = "urn:v1:eu:identity:user:bench/reader";
const GROUP_URN: &str = "urn:v1:eu:identity:group:bench/readers";
const OTHER_URN: &str = "urn:v1:eu:identity:user:bench/other";

/// The log of the server, in its folder.
const LOG: &str = "serve.log";
/// How much of it is shown where a benchmark fails.
const LAST_LINES: usize = 30;

/// The path of a secret that [`Okmsd::fill`] makes.
pub fn path(number: u64) -> String {
    format!("bench/{number}")
}

/// The body that makes a new version through the v2 API; through the KV2 API too.
pub fn new_version() -> String {
    format!(r#"{{"data":{DATA}}}"#)
}

/// What a busy service asks of `secrets` secrets at `base`: 95 % reads, 4 % writes and 1 % pages of a list.
pub fn mixed(base: String, secrets: u64) -> Ask {
    Arc::new(move |random| {
        let path = path(random.below(secrets));
        match random.below(100) {
            ..95 => Question::get(format!("{base}/{path}?includeData=true")),
            95..99 => Question::post(format!("{base}/{path}/version"), new_version()),
            _ => Question::get(base.clone()).with("x-pagination-size", "100"),
        }
    })
}

/// The file of the store, in the folder of the server.
pub const DATABASE: &str = "okmsd.db";

/// The data of all secrets: that of a database's credentials.
pub const DATA: &str = r#"{"host":"db.example","port":5432,"database":"orders","user":"orders-api","password":"kX3vQ9tB7mZ2pL8sW5nR1cY6hD4fJ0gA"}"#;
