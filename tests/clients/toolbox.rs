//! The clients themselves, fetched and built from pinned versions into a folder under `target/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::tools::{at_hand, leave_out};

/// Clients that are ready to run.
pub struct Toolbox {
    venv: PathBuf,
    go: PathBuf,
}

impl Toolbox {
    /// Makes them where they are not there yet. `None`, said aloud, where this machine cannot; in CI
    /// that is a failure.
    pub fn open() -> Option<&'static Self> {
        static TOOLBOX: OnceLock<Result<Toolbox, String>> = OnceLock::new();
        if !at_hand(&["bash", "curl", "python3", "go"]) {
            return None;
        }
        match TOOLBOX.get_or_init(Self::make) {
            Ok(toolbox) => Some(toolbox),
            Err(why) => {
                leave_out(why);
                None
            }
        }
    }

    fn make() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
        let go = folder.join("go");
        fs::create_dir_all(&go).map_err(|error| format!("{}: {error}", go.display()))?;
        let venv = venv("venv", "python/requirements.txt")?;
        // Go keeps its own cache, by which this is quick when nothing changed; go.sum has the hashes.
        for (name, package) in GO_SUITES {
            let mut build = Command::new("go");
            build.current_dir(suite("go")).env("GOFLAGS", "-mod=readonly -buildvcs=false");
            build.args(["test", "-c", "-tags", name, "-o"]).arg(go.join(name)).arg(package);
            run(&mut build)?;
        }
        Ok(Self { venv, go })
    }

    /// One command for each suite, which lacks its target.
    pub fn suites(&self) -> Vec<Command> {
        let mut hvac = Command::new(self.venv.join("bin/python"));
        hvac.arg("-B").arg(suite("python/hvac_suite.py"));
        let mut bao = Command::new("bash");
        bao.arg(suite("bao/suite.sh")).env("BAO", self.venv.join("bin/bao"));
        let mut curl = Command::new("bash");
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        curl.arg(suite("curl/suite.sh")).env("README", readme);
        let go = GO_SUITES.iter().map(|(name, _)| Command::new(self.go.join(name)));
        [hvac, bao, curl].into_iter().chain(go).collect()
    }
}

/// A Python environment of that name with what a file of requirements pins, made anew when the file changes.
pub fn venv(name: &str, requirements: &str) -> Result<PathBuf, String> {
    // Tests that run at the same time ask for the same one.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    let requirements = suite(requirements);
    let read = |file: &Path| fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
    let wanted = read(&requirements)?;
    // The requirements that it was made from.
    let stamp = venv.join("requirements.txt");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--require-hashes", "--only-binary=:all:", "--requirement"]);
        run(pip.arg(requirements))?;
        fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    }
    Ok(venv)
}

pub fn suite(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The test binaries of Go with their packages; the name is also the build tag.
const GO_SUITES: [(&str, &str); 3] = [("vault", "./kv2"), ("openbao", "./kv2"), ("okms", "./okms")];
