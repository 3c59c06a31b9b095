//! A server as in production, as a process that can be killed at any time.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    client::{Client, tls_config},
    harness::{okmsd, read},
};

/// The files of a server, and how it is reached.
pub struct Site {
    pub cwd: TempDir,
    api: SocketAddr,
    operations: SocketAddr,
    /// PostgreSQL; else it is SQLite.
    database: Option<String>,
    /// What goes into the environment of the server alone.
    pub environment: Vec<(String, String)>,
    /// The domain and the files of its credential, once they are made.
    access: Option<Access>,
    server: Option<Child>,
}

struct Access {
    okms_id: String,
    ca: String,
    certificate: String,
    key: String,
}

impl Site {
    /// What `okmsd init` makes: there is no store yet.
    pub fn init(database: Option<String>) -> Self {
        // Not the folder for temporary files, which may be in memory.
        let cwd = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        // Free now; nobody else is likely to take them before the server does.
        let free = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
        let (api, operations, environment) = (free(), free(), Vec::new());
        let site = Self { cwd, api, operations, database, environment, access: None, server: None };
        let arguments = ["--name", "localhost", "--api-listen", &site.api.to_string()];
        site.succeed(&[&["init", "--docs-listen", "off"][..], &arguments].concat());
        site
    }

    /// Makes a domain and an account that may do anything in it.
    pub fn make_domain(&mut self) {
        let json = |arguments: &[&str]| -> serde_json::Value {
            let text = self.succeed(&[arguments, &["--format", "json"]].concat());
            serde_json::from_str(&text).expect("JSON")
        };
        let domain = json(&["domain", "create", "--name", "x"]);
        let id = domain["okmsId"].as_str().expect("an id");
        let urn = "urn:v1:eu:identity:account:ab12345-ovh";
        let create = ["credential", "create", "--domain", id, "--name", "x", "--identity", urn];
        let made = json(&create);
        let file = |name: &str| {
            let path = made["files"][name].as_str().expect("a file");
            read(&self.cwd.path().join(path))
        };
        let (certificate, key) = (file("certificate"), file("privateKey"));
        let ca = read(&self.data("ca_certificate.pem"));
        self.access = Some(Access { okms_id: id.to_owned(), ca, certificate, key });
    }

    /// Starts the server, which need not be ready yet.
    pub fn spawn(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let mut command = self.command("serve", &[]);
        command.env("OKMSD_OPERATIONS_LISTEN", self.operations.to_string());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("a log");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.server = Some(command.spawn().expect("the binary runs"));
    }

    /// Starts the server and waits until it is ready: how long that took.
    #[track_caller]
    pub fn start(&mut self) -> Duration {
        let begun = Instant::now();
        self.spawn();
        self.until_ready();
        begun.elapsed()
    }

    #[track_caller]
    pub fn until_ready(&mut self) {
        let deadline = Instant::now() + WAIT;
        while !self.is_ready() {
            let ended = self.server.as_mut().expect("it runs").try_wait().expect("a child");
            let late = Instant::now() >= deadline;
            assert!(ended.is_none() && !late, "not ready: {ended:?} {}", self.last_words());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn is_ready(&self) -> bool {
        self.operations("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    /// What the operations listener answers, if it does.
    pub fn operations(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.operations).ok()?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// kill -9, of a server that has not ended by itself.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        let ended = server.try_wait().expect("a child");
        assert!(ended.is_none(), "{ended:?}: {}", self.last_words());
        server.kill().expect("to kill");
        server.wait().expect("a child");
    }

    /// Runs another command of the program, which must succeed, and gives what it printed.
    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let mut words = arguments.iter();
        let mut command = self.command(words.next().expect("a command"), words.as_slice());
        let output = command.output().expect("the binary runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}{text}");
        text
    }

    fn command(&self, command: &str, arguments: &[&str]) -> Command {
        // Where there are subcommands, the flag comes behind them.
        let place: &[_] = match command {
            "serve" => &["--config", "data/okmsd.toml"],
            _ => &["--data-dir", "data"],
        };
        let all = [&[command], arguments, place].concat();
        let mut command = okmsd(self.cwd.path(), &all);
        if let Some(url) = &self.database {
            command.env("OKMSD_DATABASE", url);
        }
        command
    }

    /// A client that sends nothing twice.
    pub fn client(&self) -> Client {
        let Access { ca, certificate, key, .. } = self.access();
        let tls = tls_config(ca, Some((certificate, key)));
        Client::without_retries(&format!("https://localhost:{}", self.api.port()), tls)
    }

    /// A path of the domain in the API.
    pub fn v2(&self, rest: &str) -> String {
        format!("/api/{}/v2/{rest}", self.access().okms_id)
    }

    fn access(&self) -> &Access {
        self.access.as_ref().expect("a domain")
    }

    /// A file of the server.
    pub fn data(&self, name: &str) -> PathBuf {
        self.cwd.path().join("data").join(name)
    }

    pub fn log(&self) -> PathBuf {
        self.cwd.path().join("log")
    }

    /// The end of what the server printed.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(Path::new(&self.log())).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Ended already where the test failed because of that.
            let _ended = server.kill();
            let _ended = server.wait();
        }
        // To be looked at.
        self.cwd.disable_cleanup(thread::panicking());
    }
}

/// Long, because tests share a machine.
const WAIT: Duration = Duration::from_secs(60);
