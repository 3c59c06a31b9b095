//! A server in this process, wired as the program wires it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use okmsd::{
    api::ApiLimits,
    app::{AppOptions, Observed, RunningApp},
    audit::{self, AuditLog},
    clock::SystemClock,
    crypto::RootKey,
    domain::{Clock, Credential, OkmsId, Timestamp},
    pki::{AccessKey, Authority},
    server::{CertificateStatus, Limits, TlsMaterial},
    service::{
        Credentials, Domains, IssuedCredential, Keyring, Keys, NewCredential, RootKeySource, Tokens,
    },
    store::Store,
};
use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, SqliteConnection,
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{
    Schema,
    client::{Answer, Client, tls_config},
};

/// Which database engine a test is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A database of one test.
pub enum Database {
    Sqlite(TempDir),
    Postgres(Schema),
}

impl Database {
    pub async fn create(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => Self::Sqlite(tempfile::tempdir().expect("a folder")),
            Engine::Postgres => Self::Postgres(Schema::create().await),
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => format!("sqlite://{}", self.sqlite_file().display()),
            Self::Postgres(schema) => schema.url(),
        }
    }

    /// Runs a statement behind the server's back, and gives the number of rows it touched.
    pub async fn execute(&self, sql: &str) -> u64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(_) => {
                let mut connection = self.sqlite().await;
                let done = connection.execute(sql).await.expect("a statement").rows_affected();
                connection.close().await.expect("to close");
                done
            }
            Self::Postgres(_) => {
                let mut connection = self.postgres().await;
                let done = connection.execute(sql).await.expect("a statement").rows_affected();
                connection.close().await.expect("to close");
                done
            }
        }
    }

    /// As [`Database::execute`], for a statement that the database may refuse.
    pub async fn try_execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(_) => {
                let done = self.sqlite().await.execute(sql).await;
                done.map(|done| done.rows_affected())
            }
            Self::Postgres(_) => {
                let done = self.postgres().await.execute(sql).await;
                done.map(|done| done.rows_affected())
            }
        }
    }

    /// The first column of what a query finds, as bytes; NULL is left out.
    pub async fn bytes(&self, sql: &str) -> Vec<Vec<u8>> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let found: Vec<Option<Vec<u8>>> = match self {
            Self::Sqlite(_) => {
                let mut connection = self.sqlite().await;
                let found = sqlx::query_scalar(sql).fetch_all(&mut connection).await;
                connection.close().await.expect("to close");
                found.expect("a query")
            }
            Self::Postgres(_) => {
                let mut connection = self.postgres().await;
                let found = sqlx::query_scalar(sql).fetch_all(&mut connection).await;
                connection.close().await.expect("to close");
                found.expect("a query")
            }
        };
        found.into_iter().flatten().collect()
    }

    /// The values of one column of what a query finds, as the bytes of their text.
    pub async fn texts(&self, sql: &str) -> Vec<Vec<u8>> {
        let value = match self {
            Self::Sqlite(_) => "CAST(CAST(v AS TEXT) AS BLOB)",
            Self::Postgres(_) => "convert_to(CAST(v AS TEXT), 'UTF8')",
        };
        self.bytes(&format!("WITH x(v) AS ({sql}) SELECT {value} FROM x")).await
    }

    /// A connection of the test's own.
    pub async fn sqlite(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.sqlite_file());
        options.pragma("secure_delete", "ON").connect().await.expect("SQLite")
    }

    /// A connection of the test's own.
    pub async fn postgres(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("PostgreSQL")
    }

    /// The one number that a query finds.
    pub async fn number(&self, sql: &'static str) -> i64 {
        match self {
            Self::Sqlite(_) => {
                sqlx::query_scalar(sql).fetch_one(&mut self.sqlite().await).await.expect("a number")
            }
            Self::Postgres(_) => sqlx::query_scalar(sql)
                .fetch_one(&mut self.postgres().await)
                .await
                .expect("a number"),
        }
    }

    /// The path of the SQLite file.
    pub fn sqlite_file(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("okmsd.sqlite"),
            Self::Postgres(_) => panic!("not SQLite"),
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Begins at the present, which the client's side of TLS lives in.
    pub fn new() -> Self {
        Self(AtomicI64::new(SystemClock.now().as_millis()))
    }

    pub fn advance(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).expect("a short time");
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    pub fn set_back(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).expect("a short time");
        self.0.fetch_sub(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// A server with a database of its own, or one it shares with [another](Server::another).
pub struct Server {
    pub engine: Engine,
    pub database: Arc<Database>,
    pub store: Store,
    pub clock: Arc<ManualClock>,
    pub authority: Arc<Authority>,
    pub domains: Domains,
    pub credentials: Credentials,
    pub tokens: Tokens,
    pub keys: Keys,
    pub api_url: String,
    pub docs_url: String,
    /// As text, since a root key belongs to one server.
    pub root_key: String,
    /// The folder of the audit log; replicas share one.
    pub audit_folder: Arc<TempDir>,
    app: Option<RunningApp>,
    tls: Mutex<TlsMaterial>,
}

/// A domain with a credential that may do everything in it.
pub struct Domain {
    pub okms_id: OkmsId,
    /// `/api/{okmsId}/v2`
    pub base: String,
    pub credential: Credential,
    pub certificate_pem: String,
    pub private_key_pem: String,
    pub client: Client,
}

impl Server {
    pub async fn start(engine: Engine) -> Self {
        Self::start_with(engine, Limits::default()).await
    }

    pub async fn start_with(engine: Engine, limits: Limits) -> Self {
        Self::start_limited(engine, limits, unlimited()).await
    }

    pub async fn start_limited(engine: Engine, limits: Limits, api_limits: ApiLimits) -> Self {
        let clock = Arc::new(ManualClock::new());
        let authority = Authority::generate("okmsd test CA", clock.now(), 3650).expect("a CA");
        let root_key = RootKey::generate().expect("a root key").to_text().to_string();
        let database = Arc::new(Database::create(engine).await);
        let authority = Arc::new(authority);
        let audit = Arc::new(private_folder());
        Self::start_on(
            engine,
            database,
            clock,
            authority,
            root_key,
            None,
            (limits, api_limits),
            audit,
            true,
        )
        .await
    }

    /// A server on a database that the test has made.
    pub async fn start_in(database: Database) -> Self {
        let root_key = RootKey::generate().expect("a root key").to_text().to_string();
        Self::start_with_root_key(database, root_key).await
    }

    /// A server on a database that belongs to a root key.
    pub async fn start_with_root_key(database: Database, root_key: String) -> Self {
        let engine = match database {
            Database::Sqlite(_) => Engine::Sqlite,
            Database::Postgres(_) => Engine::Postgres,
        };
        let clock = Arc::new(ManualClock::new());
        let authority = Authority::generate("okmsd test CA", clock.now(), 3650).expect("a CA");
        let (database, authority) = (Arc::new(database), Arc::new(authority));
        let (limits, audit) = ((Limits::default(), unlimited()), Arc::new(private_folder()));
        Self::start_on(engine, database, clock, authority, root_key, None, limits, audit, true)
            .await
    }

    /// Another server on the same database, with connections, key cache and sockets of its own: a
    /// second replica on PostgreSQL, a restarted server on SQLite.
    pub async fn another(&self) -> Self {
        self.another_with(None).await
    }

    /// As [`Server::another`], with a place where the root key can be read again.
    pub async fn another_with(&self, source: Option<RootKeySource>) -> Self {
        self.another_taking(source, true).await
    }

    /// As [`Server::another`], with tokens turned off.
    pub async fn another_without_tokens(&self) -> Self {
        self.another_taking(None, false).await
    }

    /// A server on another database, for the same clients: one that was restored.
    pub async fn on_another_database(&self, database: Database, root_key: String) -> Self {
        let engine = match database {
            Database::Sqlite(_) => Engine::Sqlite,
            Database::Postgres(_) => Engine::Postgres,
        };
        let (clock, authority) = (self.clock.clone(), self.authority.clone());
        let (limits, audit) = ((Limits::default(), unlimited()), Arc::new(private_folder()));
        let database = Arc::new(database);
        Self::start_on(engine, database, clock, authority, root_key, None, limits, audit, true)
            .await
    }

    async fn another_taking(&self, source: Option<RootKeySource>, tokens: bool) -> Self {
        Self::start_on(
            self.engine,
            self.database.clone(),
            self.clock.clone(),
            self.authority.clone(),
            self.root_key.clone(),
            source,
            (Limits::default(), unlimited()),
            self.audit_folder.clone(),
            tokens,
        )
        .await
    }

    #[expect(clippy::too_many_arguments, reason = "all that two servers may share")]
    async fn start_on(
        engine: Engine,
        database: Arc<Database>,
        clock: Arc<ManualClock>,
        authority: Arc<Authority>,
        root_key: String,
        source: Option<RootKeySource>,
        (limits, api_limits): (Limits, ApiLimits),
        audit_folder: Arc<TempDir>,
        tokens: bool,
    ) -> Self {
        let url = database.url().parse().expect("a database URL");
        let store = Store::open(&url).await.expect("a store");
        let key = RootKey::from_text(&root_key).expect("a root key");
        let keyring = Keyring::open_source(vec![key], source, store.clone(), clock.clone()).await;
        let keyring = Arc::new(keyring.expect("a keyring"));
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issued = authority.issue_server(&names, clock.now(), 30).expect("a certificate");
        let api_listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let docs_listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let api_url = format!("https://{}", api_listener.local_addr().expect("an address"));
        let docs_url = format!("https://{}", docs_listener.local_addr().expect("an address"));
        let mut options = audit::Options::new(audit_folder.path().to_owned());
        // Hundreds of servers share a disk here; what must be on it when is tested with the program itself.
        options.sync = audit::Sync::Interval;
        let tls = TlsMaterial {
            certificate_chain_pem: issued.certificate_pem,
            private_key_pem: issued.private_key_pem,
            client_ca_pems: vec![authority.certificate_pem().to_owned()],
            external_authorities: Vec::new(),
            revocation_lists: Vec::new(),
        };
        let app = RunningApp::start(AppOptions {
            store: store.clone(),
            keyring: keyring.clone(),
            audit: AuditLog::start(&options, clock.clone()).expect("an audit log"),
            clock: clock.clone(),
            tls: tls.clone(),
            require_client_certificate: false,
            tokens,
            spans: None,
            limits,
            api_limits,
            api_listener,
            docs_listener: Some(docs_listener),
            api_url: api_url.clone(),
        });
        Self {
            engine,
            database,
            keys: Keys::new(store.clone(), keyring.clone(), clock.clone()),
            domains: Domains::new(store.clone(), keyring.clone(), clock.clone()),
            credentials: Credentials::new(store.clone(), clock.clone()),
            tokens: Tokens::new(store.clone(), keyring, clock.clone()),
            store,
            clock,
            authority,
            api_url,
            docs_url,
            root_key,
            audit_folder,
            app: Some(app.expect("a running server")),
            tls: Mutex::new(tls),
        }
    }

    /// Opens the database as another process would, and says why where that fails.
    pub async fn open_again(&self) -> Result<(), String> {
        self.on_root_key(&self.root_key).await
    }

    /// As [`Server::open_again`], with another root key.
    pub async fn on_root_key(&self, root_key: &str) -> Result<(), String> {
        let url = self.database.url().parse().expect("a database URL");
        let store = Store::open(&url).await.map_err(|error| format!("{error:?}"))?;
        let key = RootKey::from_text(root_key).expect("a root key");
        let opened = Keyring::open(key, store.clone(), self.clock.clone()).await;
        store.close().await;
        opened.map(|_| ()).map_err(|error| format!("{error:?}"))
    }

    /// The use cases of keys as a process of its own has them, without a server.
    pub async fn keys_of(&self) -> Keys {
        let store = Store::open(&self.database.url().parse().expect("a URL")).await;
        let (store, clock) = (store.expect("a store"), self.clock.clone());
        let key = RootKey::from_text(&self.root_key).expect("a root key");
        let keyring = Keyring::open(key, store.clone(), clock.clone()).await;
        Keys::new(store, Arc::new(keyring.expect("a keyring")), clock)
    }

    /// A new domain with a credential and a client that presents it.
    pub async fn domain(&self) -> Domain {
        let domain = self.domains.create("test", "eu").await.expect("a domain");
        let issued = self.credential(domain.okms_id, 365).await;
        let key = issued.private_key_pem.expect("a key").to_string();
        let certificate = issued.credential.certificate_pem.clone();
        Domain {
            okms_id: domain.okms_id,
            base: format!("/api/{}/v2", domain.okms_id),
            client: self.client(Some((&certificate, &key))),
            certificate_pem: certificate,
            private_key_pem: key,
            credential: issued.credential,
        }
    }

    /// The present as the v2 API writes it.
    pub fn now(&self) -> String {
        self.clock.now().to_rfc3339_seconds()
    }

    /// A client of the public documentation.
    pub fn docs_client(&self) -> Client {
        Client::new(&self.docs_url, self.tls(None))
    }

    /// Another credential of a domain.
    pub async fn credential(&self, okms_id: OkmsId, validity_days: u32) -> IssuedCredential {
        let new = NewCredential {
            okms_id,
            name: "test".to_owned(),
            description: String::new(),
            identity_urns: vec!["urn:v1:eu:identity:account:test".to_owned()],
            validity_days,
            key: AccessKey::Ecdsa,
        };
        self.credentials.create(&self.authority, new).await.expect("a credential")
    }

    /// A client that presents a certificate with its key, or none.
    pub fn client(&self, identity: Option<(&str, &str)>) -> Client {
        Client::new(&self.api_url, self.tls(identity))
    }

    /// The TLS configuration of such a client.
    pub fn tls(&self, identity: Option<(&str, &str)>) -> rustls::ClientConfig {
        tls_config(self.authority.certificate_pem(), identity)
    }

    /// The records of requests so far, of all replicas.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let mut lines = audit_lines(self.audit_folder.path());
        lines.retain(|line| line["kind"] == "request");
        lines
    }

    /// Changes what the TLS of the running server is made of, as changed files would. What is refused
    /// is not kept.
    pub fn reload(&self, change: impl FnOnce(&mut TlsMaterial)) -> Result<bool, String> {
        let mut present = self.tls.lock().expect("no panic");
        let mut material = present.clone();
        change(&mut material);
        let app = self.app.as_ref().expect("it runs");
        let changed = app.tls().replace(&material).map_err(|error| error.to_string())?;
        *present = material;
        Ok(changed)
    }

    /// When its certificates and lists end.
    pub fn certificates(&self) -> Arc<CertificateStatus> {
        self.observed().certificates()
    }

    /// What monitoring sees of it.
    pub fn observed(&self) -> Observed {
        self.app.as_ref().expect("it runs").observed().clone()
    }

    /// Ends the server as SIGTERM would, and keeps the database.
    pub async fn stop(&mut self) {
        if let Some(app) = self.app.take() {
            app.shutdown().await;
        }
    }
}

/// No limit of rates: while the clock stands still, no bucket fills again.
fn unlimited() -> ApiLimits {
    ApiLimits { requests_per_address: 0, requests_per_credential: 0, ..ApiLimits::default() }
}

/// A folder that nobody else can look into.
fn private_folder() -> TempDir {
    let private = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().expect("a folder")
}

/// All lines of an audit log.
pub fn audit_lines(folder: &Path) -> Vec<serde_json::Value> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                files.push(path);
            }
        }
    }
    files.sort_unstable();
    let text = files.iter().map(|path| fs::read_to_string(path).expect("text"));
    let text: String = text.collect();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

impl Domain {
    /// The address of a secret, or of something below it.
    pub fn secret(&self, path: &str) -> String {
        format!("{}/secret/{path}", self.base)
    }

    /// An address of the KV2 API, such as `data/team/a`.
    pub fn kv(&self, below: &str) -> String {
        format!("/api/{}/v1/secret/{below}", self.okms_id)
    }

    /// Makes a secret with data.
    #[track_caller]
    pub fn create(&self, path: &str, data: &str) -> impl Future<Output = serde_json::Value> {
        let body = format!(r#"{{"path":"{path}","version":{{"data":{data}}}}}"#);
        async move { self.client.post(&format!("{}/secret", self.base), body).await.ok() }
    }

    /// The metadata of a secret.
    pub async fn metadata(&self, path: &str) -> serde_json::Value {
        self.client.get(&self.secret(path)).await.ok()["metadata"].clone()
    }

    /// The TLS configuration of its client.
    pub fn tls(&self, server: &Server) -> rustls::ClientConfig {
        server.tls(Some((&self.certificate_pem, &self.private_key_pem)))
    }

    /// Adds a version of data that does not matter.
    pub async fn add_version(&self, path: &str) -> serde_json::Value {
        let address = self.secret(&format!("{path}/version"));
        self.client.post(&address, r#"{"data":{"k":"v"}}"#).await.ok()
    }

    /// The numbers of the versions that a secret has.
    pub async fn versions(&self, path: &str) -> Vec<u64> {
        let list = self.client.get(&self.secret(&format!("{path}/version"))).await.ok();
        let list = list.as_array().expect("a list").clone();
        list.iter().map(|version| version["id"].as_u64().expect("a number")).collect()
    }

    /// Brings a version into a state.
    pub async fn set_state(&self, path: &str, version: u32, state: &str) -> Answer {
        let body = format!(r#"{{"state":"{state}"}}"#);
        self.client.put(&self.secret(&format!("{path}/version/{version}")), body).await
    }
}
