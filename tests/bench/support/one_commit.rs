//! The same server on SQLite with a commit for each write and no queue before it, on a copy of okmsd's folder.
//!
//! Its parts are those of `okmsd serve`, joined here in a process of its own, and so are its settings: only the
//! store is opened otherwise. That is no setting of the program, for nobody is to run it so; and to build the
//! program a second time, with a feature for it, would take longer than to measure it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use okmsd::{
    api::ApiLimits,
    app::{AppOptions, RunningApp},
    audit::AuditLog,
    clock::SystemClock,
    config::Config,
    crypto::RootKey,
    server::{Limits, TlsMaterial},
    service::Keyring,
    store::{Commits, DatabaseUrl, Store},
    telemetry,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use zeroize::Zeroizing;

use super::{
    harness::Server,
    http::Target,
    okmsd::{DATABASE, Okmsd},
};

/// What the program is started with to be such a server; its folder follows.
pub const FLAG: &str = "--one-commit";

/// Such a server; it ends with this value.
pub struct OneCommit {
    pub target: Target,
    server: Server,
    _folder: TempDir,
}

impl OneCommit {
    /// Copies the folder of a server that does not run.
    pub fn of(okmsd: &Okmsd) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        for name in [DATABASE, ROOT_KEY, CERTIFICATE, KEY, AUTHORITY] {
            fs::copy(okmsd.file(name), folder.path().join(name)).expect("a copy");
        }
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(FLAG).arg(folder.path()).stdin(Stdio::null());
        let address = folder.path().join(ADDRESS);
        let server = Server::start(command, &folder.path().join("log"), || address.exists());
        let address = fs::read_to_string(address).expect("a file").parse().expect("an address");
        let target = Target { address, ..okmsd.target() };
        Self { target, server, _folder: folder }
    }

    pub fn process(&self) -> u32 {
        self.server.process_id()
    }
}

/// Serves until it is killed.
pub fn serve(folder: &Path) {
    Runtime::new().expect("a runtime").block_on(async {
        let config = Config::defaults(folder);
        telemetry::start(&config.log).expect("a log");
        let clock = Arc::new(SystemClock);
        let audit =
            AuditLog::start(&config.audit.options(config.limits.audit_queue), clock.clone())
                .expect("an audit log");
        let database = DatabaseUrl::sqlite_file(folder.join(DATABASE));
        let store = Store::open_with(&database, Commits::Each).await.expect("a store");
        let root_key = RootKey::from_text(read(folder, ROOT_KEY).trim()).expect("a root key");
        let keyring = Keyring::open(root_key, store.clone(), clock.clone()).await.expect("keys");
        let app = RunningApp::start(AppOptions {
            store,
            keyring: Arc::new(keyring),
            audit,
            clock,
            tls: TlsMaterial {
                certificate_chain_pem: read(folder, CERTIFICATE),
                private_key_pem: Zeroizing::new(read(folder, KEY)),
                client_ca_pems: vec![read(folder, AUTHORITY)],
                external_authorities: Vec::new(),
                revocation_lists: Vec::new(),
            },
            require_client_certificate: false,
            tokens: config.tokens.enabled,
            limits: Limits { handshake_rate_per_address: 0, ..Limits::default() },
            // All clients of a benchmark have one address.
            api_limits: ApiLimits {
                requests_per_address: u32::MAX,
                requests_per_credential: u32::MAX,
                ..ApiLimits::default()
            },
            api_listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            docs_listener: None,
            spans: None,
            api_url: "https://localhost".to_owned(),
        })
        .expect("a server");
        // Whole or not there: whoever waits for it reads it at once.
        fs::write(folder.join("new"), app.api_address.to_string()).expect("a file");
        fs::rename(folder.join("new"), folder.join(ADDRESS)).expect("a file");
        std::future::pending::<()>().await;
    });
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).expect("a file")
}

const ADDRESS: &str = "address";
const ROOT_KEY: &str = "root.key";
const CERTIFICATE: &str = "server_certificate.pem";
const KEY: &str = "server_privatekey.pem";
const AUTHORITY: &str = "ca_certificate.pem";
