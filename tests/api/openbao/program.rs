//! An OpenBao for the tests: one process for all of them, with its storage in memory.
//!
//! It is the version that `tests/clients/openbao/requirements.txt` pins: `bao` on the PATH where that is this
//! version, else one that is installed below `target/`. Where neither can be had, the tests are left out, and
//! that is said aloud; in CI it is a failure.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Method;

use crate::{
    support::{Answer, Client, tls_config},
    tools,
};

/// A running OpenBao.
pub struct OpenBao {
    url: String,
    ca_pem: String,
}

/// It, and the shell that started it, whose input must stay open until the tests end.
struct Running {
    bao: OpenBao,
    _shell: Child,
}

/// The OpenBao of this process; none where the test that asks is left out.
pub fn openbao() -> Option<&'static OpenBao> {
    static RUNNING: OnceLock<Result<Running, String>> = OnceLock::new();
    match RUNNING.get_or_init(|| find_program().and_then(|program| start(&program))) {
        Ok(running) => Some(&running.bao),
        Err(why) => {
            tools::leave_out(&format!("OpenBao {VERSION} is not at hand: {why}"));
            None
        }
    }
}

impl OpenBao {
    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The authority of its certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A client of it, with connections of its own.
    pub fn client(&self) -> OpenBaoClient {
        OpenBaoClient(Client::new(&self.url, tls_config(&self.ca_pem, None)))
    }
}

/// A client that shows the root token.
pub struct OpenBaoClient(Client);

impl OpenBaoClient {
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Answer {
        self.try_send(method, path, content_type, body).await.expect("an answer of OpenBao")
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let headers = [("x-vault-token", ROOT_TOKEN), ("content-type", content_type)];
        self.0.try_send(method, path, &headers, body).await
    }

    /// Makes an empty KV2 engine, and waits until it is one: right after it was made it may still refuse
    /// everything, since it makes versions of what it does not hold.
    pub async fn mount(&self, name: &str) {
        let body = Bytes::from(r#"{"type":"kv","options":{"version":"2"}}"#);
        let address = format!("/v1/sys/mounts/{name}");
        let made = self.send(Method::POST, &address, JSON, body).await;
        assert_eq!(made.status, 204, "{}", made.text());
        let config = format!("/v1/{name}/config");
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.send(Method::GET, &config, JSON, Bytes::new()).await.status != 200 {
            assert!(Instant::now() < deadline, "the engine does not get ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Removes it with all that is in it.
    pub async fn unmount(&self, name: &str) {
        let address = format!("/v1/sys/mounts/{name}");
        let removed = self.send(Method::DELETE, &address, JSON, Bytes::new()).await;
        assert_eq!(removed.status, 204, "{}", removed.text());
    }
}

pub fn find_program() -> Result<PathBuf, String> {
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|folder| folder.join("bao"));
    match on_path.into_iter().find(|program| is_the_version(program)) {
        Some(program) => Ok(program),
        None => installed(),
    }
}

fn is_the_version(program: &Path) -> bool {
    let Ok(told) = Command::new(program).arg("version").stderr(Stdio::null()).output() else {
        return false;
    };
    told.status.success()
        && String::from_utf8_lossy(&told.stdout).starts_with(&format!("OpenBao v{VERSION} "))
}

/// The program in a Python environment below `target/`, which is made where it is not there.
fn installed() -> Result<PathBuf, String> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("openbao-{VERSION}"));
    let program = environment.join("bin/bao");
    if is_the_version(&program) {
        return Ok(program);
    }
    // What an interrupted run has left.
    let _ = fs::remove_dir_all(&environment);
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut install = Command::new(environment.join("bin/pip"));
    install.args(["--quiet", "--disable-pip-version-check", "install", "--require-hashes"]);
    install.args(["--no-deps", "--only-binary=:all:", "--requirement", REQUIREMENTS]);
    run(&mut install)?;
    match is_the_version(&program) {
        true => Ok(program),
        false => Err(format!("{REQUIREMENTS} does not pin {VERSION}")),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr))),
    }
}

/// Starts it on a free port. It takes the next port too, so any of the two may be taken by another program
/// before it is there: then it is another one's turn.
fn start(program: &Path) -> Result<Running, String> {
    let mut said = String::new();
    for _ in 0..5 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        match start_at(program, &address.to_string()) {
            Ok(running) => return Ok(running),
            Err(why) => said = why,
        }
    }
    // It is there and does not start: a failure, wherever that is.
    panic!("OpenBao did not start: {said}");
}

fn start_at(program: &Path, address: &str) -> Result<Running, String> {
    // The shell removes it, since nothing is dropped when tests end.
    let folder = tempfile::tempdir().expect("a folder").keep();
    // The shell waits for the end of its input, which this process holds: OpenBao ends with it, however that
    // ends.
    let script = r#"
        "$1" server -dev -dev-tls -dev-tls-cert-dir="$2" -dev-root-token-id="$3" \
            -dev-listen-address="$4" -dev-no-store-token -log-level=error >"$2/log" 2>&1 &
        server=$!; exec 2>/dev/null; cat >/dev/null; kill -KILL $server; wait $server; rm -rf "$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program).arg(&folder);
    command.args([ROOT_TOKEN, address]).env("HOME", &folder);
    // What is set for a user's own OpenBao or Vault must not be heard here.
    for (name, _) in std::env::vars_os() {
        if matches!(name.to_string_lossy().split('_').next(), Some("BAO" | "VAULT")) {
            command.env_remove(name);
        }
    }
    let mut shell = command.stdin(Stdio::piped()).spawn().expect("a shell");
    match wait_until_ready(&folder, &format!("https://{address}")) {
        Ok(bao) => Ok(Running { bao, _shell: shell }),
        Err(why) => {
            // This closes its input first.
            let _ = shell.wait();
            Err(why)
        }
    }
}

fn wait_until_ready(folder: &Path, url: &str) -> Result<OpenBao, String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
        if said.contains("Error initializing listener") || Instant::now() > deadline {
            return Err(said);
        }
        if let Ok(ca_pem) = fs::read_to_string(folder.join("vault-ca.pem")) {
            let bao = OpenBao { url: url.to_owned(), ca_pem };
            if said.contains("server started!") && answers(&bao) {
                return Ok(bao);
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// In a thread of its own, since the one that asks may be in a runtime.
fn answers(bao: &OpenBao) -> bool {
    let client = bao.client();
    let asked = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let health = client.try_send(Method::GET, "/v1/sys/health", JSON, Bytes::new());
        runtime.expect("a runtime").block_on(health).is_ok_and(|answer| answer.status == 200)
    });
    asked.join().expect("no panic")
}

const VERSION: &str = "2.7.2";
const REQUIREMENTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/openbao/requirements.txt");
/// It is worth nothing: the server is reached from this machine alone, and holds made-up words.
pub const ROOT_TOKEN: &str = "root";
const JSON: &str = "application/json";
