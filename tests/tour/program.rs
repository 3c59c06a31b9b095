//! The real program in a folder of its own.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The program under test.
pub const OKMSD: &str = env!("CARGO_BIN_EXE_okmsd");

/// A running `okmsd`, ended with this value.
pub struct Program(Child);

impl Program {
    /// Starts a program whose output goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).expect("a log file");
        let output = log.try_clone().expect("a log file");
        let command = command.stdin(Stdio::null()).stdout(output).stderr(log);
        Self(command.spawn().expect("the program"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which the test then has noticed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `okmsd dev` on free ports in a folder of its own.
pub struct Dev {
    _folder: TempDir,
    /// What `dev.env` sets.
    pub variables: HashMap<String, String>,
    _program: Program,
}

impl Dev {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("dev.log");
        let mut command = Command::new(OKMSD);
        command.args(["dev", "--api-listen", "127.0.0.1:0", "--docs-listen", "127.0.0.1:0"]);
        let program = Program::start(command.current_dir(folder.path()), &log);
        let file = folder.path().join("certs/dev/dev.env");
        wait_for(&file, &log);
        let script = format!("set -a; . '{}'; env -0", file.display());
        let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let variables = text.split('\0').filter_map(|line| line.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: variables.collect(), _folder: folder, _program: program }
    }

    /// A variable of `dev.env`.
    #[track_caller]
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("dev.env does not set {name}"))
    }
}

/// Waits until the program has written `file`, which it does last.
#[track_caller]
pub fn wait_for(file: &Path, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(Instant::now() < deadline, "no {}: {}", file.display(), log());
        std::thread::sleep(Duration::from_millis(50));
    }
}
