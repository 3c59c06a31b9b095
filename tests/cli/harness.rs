//! Running the binary.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, tls_config};

/// The program, with an environment that says nothing about it, in the folder `cwd`.
pub fn okmsd(cwd: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_okmsd"));
    command.args(arguments).current_dir(cwd).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OKMSD_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// Runs the program to its end.
pub fn run(cwd: &Path, arguments: &[&str]) -> Output {
    okmsd(cwd, arguments).output().expect("the binary runs")
}

/// Runs the program, which must succeed, and gives what it printed.
#[track_caller]
pub fn succeed(cwd: &Path, arguments: &[&str]) -> String {
    let output = run(cwd, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs the program, which must succeed, and reads what it printed as JSON.
#[track_caller]
pub fn json(cwd: &Path, arguments: &[&str]) -> Value {
    let text = succeed(cwd, &[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// Runs the program, which must end with this exit code, and gives its last word.
#[track_caller]
pub fn fail(cwd: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(cwd, arguments);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

/// A server of this test.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts a server and waits until `ready` says so.
    #[track_caller]
    pub fn start(mut command: Command, log: &Path, ready: impl Fn() -> bool) -> Self {
        let file = fs::File::create(log).expect("a log");
        let output = file.try_clone().expect("a second handle");
        let child = command.stdout(output).stderr(file).spawn().expect("the binary runs");
        let mut server = Self { child };
        let deadline = Instant::now() + STARTING;
        while !ready() {
            let ended = server.child.try_wait().expect("a child");
            let text = fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "no server: {text}");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to read its files again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Waits for its end, and gives its exit code.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("a child").code()
    }

    /// Ends it as a service manager does, and gives its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.child.wait().expect("a child").code()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("an id"), signal).expect("it runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already where the test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder and what `okmsd dev` made there.
pub struct Trial {
    pub cwd: TempDir,
    /// The variables of `dev.env`, as a shell reads them.
    pub variables: HashMap<String, String>,
    server: Option<Server>,
}

impl Trial {
    /// A first run.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A first run with more arguments.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Self {
        let cwd = tempfile::tempdir().expect("a folder");
        let mut trial = Self { cwd, variables: HashMap::new(), server: None };
        trial.again(arguments);
        trial
    }

    /// A run in a folder where something may be.
    #[track_caller]
    pub fn start_in(cwd: TempDir) -> Self {
        let mut trial = Self { cwd, variables: HashMap::new(), server: None };
        trial.again(&[]);
        trial
    }

    /// The process id of the present run.
    pub fn process_id(&self) -> u32 {
        self.server.as_ref().expect("it runs").process_id()
    }

    /// Ends the present run, if there is one, and starts another.
    #[track_caller]
    pub fn again(&mut self, arguments: &[&str]) {
        self.stop();
        let environment = self.data("dev.env");
        let listen = ["dev", "--api-listen", "127.0.0.1:0", "--docs-listen", "127.0.0.1:0"];
        let command = okmsd(self.cwd.path(), &[&listen, arguments].concat());
        // The last run's file would say that the new one is ready.
        let _ = fs::remove_file(&environment);
        let log = self.cwd.path().join("dev.log");
        self.server = Some(Server::start(command, &log, || environment.exists()));
        self.variables = variables(&environment);
    }

    /// Ends the run as a terminal does that is closed.
    #[track_caller]
    pub fn close_terminal(&mut self) {
        if let Some(server) = self.server.take() {
            server.hang_up();
            assert_eq!(server.wait(), Some(0));
        }
    }

    /// Ends the run, if there is one.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            assert_eq!(server.stop(), Some(0));
        }
    }

    /// Kills the run, as a power cut would.
    pub fn kill(&mut self) {
        drop(self.server.take());
    }

    /// The lines of the audit log, of all who write it.
    pub fn audit_lines(&self) -> Vec<Value> {
        let mut files = files_below(&self.data("audit"));
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        // A line may be half written, by a server that runs or was killed.
        let whole = |path: &PathBuf| {
            let text = read(path);
            text.rsplit_once('\n').map_or_else(String::new, |(lines, _)| format!("{lines}\n"))
        };
        let text: String = files.iter().map(whole).collect();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// A file of the folder.
    pub fn data(&self, name: &str) -> PathBuf {
        self.cwd.path().join("certs/dev").join(name)
    }

    /// What the program has printed.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.cwd.path().join("dev.log")).expect("a log")
    }

    /// What the program has printed once it has said all: the guide comes after `dev.env`, by which
    /// everybody else sees that the server answers.
    #[track_caller]
    pub fn printed_guide(&self) -> String {
        let deadline = Instant::now() + STARTING;
        loop {
            let printed = self.printed();
            if printed.contains("Ctrl-C stops the server") {
                return printed;
            }
            assert!(Instant::now() < deadline, "no guide: {printed}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("{name} is not in dev.env"))
    }

    /// A client with the certificate of the root account.
    pub fn client(&self) -> Client {
        let (cert, key) = (self.variable("OKMS_CERT"), self.variable("OKMS_KEY"));
        self.client_with(Some((Path::new(cert), Path::new(key))))
    }

    /// The same for a server of another address.
    pub fn client_of(&self, endpoint: &str) -> Client {
        let identity =
            (read(self.variable("OKMS_CERT").as_ref()), read(self.variable("OKMS_KEY").as_ref()));
        let ca = read(Path::new(self.variable("OKMS_CA")));
        Client::new(endpoint, tls_config(&ca, Some((&identity.0, &identity.1))))
    }

    /// A client with another certificate, or none.
    pub fn client_with(&self, identity: Option<(&Path, &Path)>) -> Client {
        let identity = identity.map(|(cert, key)| (read(cert), read(key)));
        let identity = identity.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()));
        let ca = read(Path::new(self.variable("OKMS_CA")));
        Client::new(self.variable("OKMS_ENDPOINT"), tls_config(&ca, identity))
    }

    /// The path of the secrets in the API.
    pub fn secrets(&self) -> String {
        format!("/api/{}/v2/secret", self.variable("OKMS_ID"))
    }
}

/// The flags of `unshare` by which a child gets mounts that only it sees: by root, or where users may be mapped.
pub fn own_mounts() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    ways.into_iter().find(|flags| {
        let mut command = Command::new("unshare");
        command.args(*flags).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
}

/// All files in a folder and below it.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort_unstable();
    files
}

#[track_caller]
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
pub fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path);
    let metadata = metadata.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o7777
}

/// What a shell exports after reading the file.
fn variables(file: &Path) -> HashMap<String, String> {
    let script = "set -eu; . \"$1\"; env -0";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(file).env_clear().output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let pairs = text.split_terminator('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Long, because tests share a machine; a server takes less than a second.
const STARTING: Duration = Duration::from_secs(60);
