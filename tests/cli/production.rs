//! `okmsd init`, `okmsd serve` and `okmsd healthcheck`.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use okmsd::{
    clock::SystemClock,
    domain::{Clock, Timestamp},
    pki::Authority,
};
use tempfile::TempDir;

use crate::{
    client::{Client, tls_config},
    harness::{Server, fail, json, mode, okmsd, read, run, succeed},
};

/// A server as in production, on ports of its own.
pub struct Production {
    pub cwd: TempDir,
    pub port: u16,
}

impl Production {
    pub fn init() -> Self {
        let cwd = tempfile::tempdir().unwrap();
        // Free now; nobody else is likely to take it before the server does.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["--name", "localhost", "--api-listen", &listen, "--docs-listen", "off"];
        let operations = ["--operations-listen", "127.0.0.1:0"];
        let base = ["init", "--data-dir", "data", "--region", "eu-west-x"];
        succeed(cwd.path(), &[&base[..], &arguments, &operations].concat());
        Self { cwd, port }
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.cwd.path().join("data").join(name)
    }

    pub fn is_healthy(&self) -> bool {
        run(self.cwd.path(), &["healthcheck", "--data-dir", "data"]).status.success()
    }

    pub fn serve(&self, more: &[&str]) -> Server {
        let base = ["serve", "--config", "data/okmsd.toml"];
        let command = okmsd(self.cwd.path(), &[&base[..], more].concat());
        Server::start(command, &self.cwd.path().join("log"), || self.is_healthy())
    }

    pub fn client(&self, identity: Option<(&str, &str)>) -> Client {
        let ca = read(&self.data("ca_certificate.pem"));
        Client::new(&self.url(), tls_config(&ca, identity))
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Has the authority make another server certificate, as it would so many days from now.
    pub fn issue_server(&self, from_now: i64, validity_days: u32) {
        let file = |name: &str| read(&self.data(name));
        let authority =
            Authority::load(&file("ca_certificate.pem"), &file("ca_privatekey.pem")).unwrap();
        let now = Timestamp::from_millis(SystemClock.now().as_millis() + from_now * 86_400_000);
        let issued = authority.issue_server(&["localhost".to_owned()], now, validity_days).unwrap();
        fs::write(self.data("server_privatekey.pem"), issued.private_key_pem.as_bytes()).unwrap();
        fs::write(self.data("server_certificate.pem"), issued.certificate_pem).unwrap();
    }
}

#[tokio::test]
async fn from_nothing_to_a_secret() {
    let production = Production::init();
    let cwd = production.cwd.path();
    for entry in fs::read_dir(production.data("")).unwrap() {
        let path = entry.unwrap().path();
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    assert_eq!(mode(&production.data("")), 0o700);
    assert!(!production.data("okmsd.db").exists(), "no domain, no store");
    let data = ["--data-dir", "data"];
    let domain = json(cwd, &[&["domain", "create", "--name", "x"][..], &data].concat());
    assert_eq!(domain["region"], "eu-west-x");
    let id = domain["okmsId"].as_str().unwrap();
    let urn = "urn:v1:eu:identity:account:ab12345-ovh";
    let create = ["credential", "create", "--domain", id, "--name", "x", "--identity", urn];
    let made = json(cwd, &[&create[..], &data].concat());
    let file = |name: &str| read(Path::new(made["files"][name].as_str().unwrap()));
    assert!(!production.is_healthy(), "nothing runs yet");

    let server = production.serve(&[]);
    let (cert, key) = (file("certificate"), file("privateKey"));
    let client = production.client(Some((&cert, &key)));
    let secrets = format!("/api/{id}/v2/secret");
    let body = r#"{"path":"a","version":{"data":{"k":"v"}}}"#;
    client.post(&secrets, body).await.ok();
    production.client(None).get(&secrets).await.error(401, 50_475_011);
    assert_eq!(server.stop(), Some(0));
    assert!(!production.is_healthy(), "nothing runs any more");
    let log = read(&production.cwd.path().join("log"));
    assert!(log.contains("serving") && log.contains("shutting down"), "{log}");

    // Where a certificate is required, its absence is a failed handshake, and that is health too.
    let config = production.data("okmsd.toml");
    let text = format!("{}\n[tls]\nclient_certificate = \"required\"\n", read(&config));
    fs::write(&config, text).unwrap();
    let server = production.serve(&["--log-format", "json", "--log-level", "debug"]);
    let client = production.client(Some((&cert, &key)));
    client.get(&secrets).await.ok();
    // A token does not make up for it, and counts beside it.
    let create = ["token", "create", "--domain", id, "--identity", urn];
    let made = json(cwd, &[&create[..], &data].concat());
    let token = [("x-vault-token", made["token"].as_str().unwrap())];
    let (get, body) = (hyper::Method::GET, bytes::Bytes::new());
    client.send(get.clone(), &secrets, &token, body.clone()).await.ok();
    let refused = production.client(None).try_send(get, &secrets, &token, body).await;
    assert!(refused.is_err(), "{refused:?}");
    let log = read(&production.cwd.path().join("log"));
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn health_is_only_the_server_with_the_configured_certificate() {
    let (one, other) = (Production::init(), Production::init());
    let _server = one.serve(&[]);
    assert!(one.is_healthy());
    fs::copy(other.data("server_certificate.pem"), one.data("server_certificate.pem")).unwrap();
    assert!(!one.is_healthy());
}

#[test]
fn init_overwrites_nothing() {
    for name in [
        "ca_certificate.pem",
        "ca_privatekey.pem",
        "server_certificate.pem",
        "server_privatekey.pem",
        "root.key",
        "okmsd.toml",
        "okmsd.db",
    ] {
        let cwd = tempfile::tempdir().unwrap();
        let folder = cwd.path().join("data");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), "precious").unwrap();
        let errors = fail(cwd.path(), &["init", "--data-dir", "data", "--name", "a.example"], 1);
        assert!(errors.contains(name), "{errors}");
        assert_eq!(read(&folder.join(name)), "precious");
        let others = fs::read_dir(&folder).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name != ".lock"
        });
        assert_eq!(others.count(), 1, "nothing is made beside it");
    }
}

#[test]
fn init_takes_the_variables_of_its_flags_and_no_others() {
    let cwd = tempfile::tempdir().unwrap();
    let made = |folder: &str, flags: &[&str]| {
        let init = ["init", "--data-dir", folder, "--name", "localhost"];
        let mut command = okmsd(cwd.path(), &[&init[..], flags].concat());
        command.env("OKMSD_API_LISTEN", "127.0.0.1:18443").env("OKMSD_DOCS_LISTEN", "off");
        command.env("OKMSD_OPERATIONS_LISTEN", "127.0.0.1:18445");
        command.env("OKMSD_DATABASE", cwd.path().join("elsewhere.db"));
        command.env("OKMSD_REGION", "nowhere").env("OKMSD_ROOT_KEY_FILE", "nowhere");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        read(&cwd.path().join(folder).join("okmsd.toml"))
    };
    let text = made("one", &[]);
    let database = format!("database = \"{}\"", cwd.path().join("elsewhere.db").display());
    for line in [
        "api_listen = \"127.0.0.1:18443\"",
        "api_url = \"https://localhost:18443\"",
        "docs_listen = \"off\"",
        "operations_listen = \"127.0.0.1:18445\"",
        database.as_str(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("nowhere"), "{text}");
    let text = made("two", &["--api-listen", "127.0.0.1:28443"]);
    assert!(text.contains("api_url = \"https://localhost:28443\""), "{text}");
    assert!(!text.contains("18443"), "the flag counts: {text}");

    let mut command = okmsd(cwd.path(), &["init", "--data-dir", "three", "--name", "localhost"]);
    let output = command.env("OKMSD_API_LISTEN", "localhost").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("okmsd: OKMSD_API_LISTEN must be ADDRESS:PORT"), "{errors}");
    assert!(!cwd.path().join("three").exists());
}

#[test]
fn serve_tells_variables_that_nothing_reads() {
    let production = Production::init();
    let mut command = okmsd(production.cwd.path(), &["serve", "--config", "data/okmsd.toml"]);
    command.env("OKMSD_TLS_CLIENT_CERT", "hunter2").env("OKMSD_SERVICE_PORT", "8443");
    let log = production.cwd.path().join("log");
    let server = Server::start(command, &log, || production.is_healthy());
    assert_eq!(server.stop(), Some(0));
    let log = read(&log);
    let told: Vec<_> = log.lines().filter(|line| line.contains("nothing reads")).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("WARN") && told[0].contains("OKMSD_TLS_CLIENT_CERT"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn init_renews_the_server_certificate_and_nothing_else() {
    let cwd = tempfile::tempdir().unwrap();
    let data = cwd.path().join("data");
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost"]);
    let all = || {
        let names = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        // The audit log, which tells of it, is a folder.
        let names = names.filter(|path| path.is_file());
        names.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = all();
    succeed(cwd.path(), &["init", "--data-dir", "data", "--name", "localhost", "--renew"]);
    let after = all();
    let changed = after.iter().filter(|(path, content)| before.get(*path) != Some(content));
    let changed: Vec<_> = changed.map(|(path, _)| path.file_name().unwrap()).collect();
    assert_eq!(changed, ["server_certificate.pem", "server_privatekey.pem"]);
    succeed(cwd.path(), &["config", "check", "--data-dir", "data"]);
}

#[test]
fn init_needs_names_that_a_certificate_can_hold() {
    let cwd = tempfile::tempdir().unwrap();
    fail(cwd.path(), &["init", "--data-dir", "data"], 2);
    for name in ["", "a b", "https://okms.example.com"] {
        fail(cwd.path(), &["init", "--data-dir", "data", "--name", name], 1);
    }
    let names = ["--name", "okms.example.com", "--name", "192.0.2.7", "--name", "2001:db8::7"];
    succeed(cwd.path(), &[&["init", "--data-dir", "data"][..], &names].concat());
}

#[test]
fn a_root_key_that_others_can_read_keeps_the_server_from_starting() {
    let production = Production::init();
    let key = production.data("root.key");
    let serve = ["serve", "--config", "data/okmsd.toml"];
    for bits in [0o644, 0o660, 0o602] {
        fs::set_permissions(&key, fs::Permissions::from_mode(bits)).unwrap();
        let errors = fail(production.cwd.path(), &serve, 1);
        let advice = format!("its mode is {bits:04o}; mend it with: chmod 600 data/root.key\n");
        assert!(errors.ends_with(&advice), "{errors}");
    }
    fs::remove_file(&key).unwrap();
    let errors = fail(production.cwd.path(), &serve, 1);
    assert!(errors.contains("there is no root key"), "{errors}");
    assert!(!production.data("okmsd.db").exists(), "no store is made without its key");
}

#[test]
fn the_root_key_can_come_from_elsewhere() {
    let production = Production::init();
    let key = production.data("root.key");
    let text = read(&key);
    fs::remove_file(&key).unwrap();
    let create = ["domain", "create", "--data-dir", "data", "--name", "x"];
    let mut command = okmsd(production.cwd.path(), &create);
    assert!(command.env("OKMSD_ROOT_KEY", text.trim()).status().unwrap().success());
    let list = ["domain", "list", "--data-dir", "data"];
    let folder = production.cwd.path().join("credentials");
    fs::create_dir(&folder).unwrap();
    let credential = folder.join("okmsd-root-key");
    fs::write(&credential, &text).unwrap();
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o400)).unwrap();
    let mut command = okmsd(production.cwd.path(), &list);
    assert!(command.env("CREDENTIALS_DIRECTORY", &folder).status().unwrap().success());
    let mut command = okmsd(production.cwd.path(), &list);
    let output = command.env("OKMSD_ROOT_KEY", "not a key").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "okmsd: the root key is not base64 of 32 bytes\n");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let production = Production::init();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holder = TcpListener::bind(taken).unwrap();
    let listen = taken.to_string();
    for (what, flag, setting) in [
        ("the API", "--api-listen", "server.api_listen"),
        ("the documentation", "--docs-listen", "server.docs_listen"),
        ("health and metrics", "--operations-listen", "server.operations_listen"),
    ] {
        let arguments = ["serve", "--config", "data/okmsd.toml", flag, &listen];
        let errors = fail(production.cwd.path(), &arguments, 1);
        let told =
            format!("okmsd: {what} cannot listen on {taken} ({setting}): Address already in");
        assert!(errors.contains(&told), "{errors}");
    }
}
