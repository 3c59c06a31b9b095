//! Servers that do nothing but what cannot be left out, each in a process of its own as okmsd is: what they
//! reach is the most that okmsd could on this machine.

use std::{
    convert::Infallible,
    fs,
    future::pending,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use okmsd::{
    clock::SystemClock,
    server::{self, Limits, TlsMaterial, api_tls},
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::{
    client::{Answer, Client},
    harness::Server,
    http::Target,
    okmsd::Okmsd,
};

/// What the program is started with to be such a server; its folder follows.
pub const FLAG: &str = "--floor";

/// Such a server; it ends with this value.
pub struct Floor {
    pub target: Target,
    server: Server,
    _folder: TempDir,
}

impl Floor {
    /// okmsd's listener, with its TLS and its HTTP, where each request is answered what okmsd has answered.
    pub fn answering(okmsd: &Okmsd, answer: &Answer) -> Self {
        // What the HTTP stack adds by itself is not to be there twice.
        let own = ["date", "content-length"];
        let headers = answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let headers: Vec<_> =
            headers.map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        Self::start(okmsd, &json!({ "headers": headers, "body": answer.text() }))
    }

    /// TLS alone: a handshake, then the end.
    pub fn bare(okmsd: &Okmsd) -> Self {
        Self::start(okmsd, &Value::Null)
    }

    fn start(okmsd: &Okmsd, answer: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, file) in FILES {
            fs::copy(okmsd.file(file), folder.path().join(name)).expect("a copy");
        }
        fs::write(folder.path().join(ANSWER), answer.to_string()).expect("a file");
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.arg(FLAG).arg(folder.path()).stdin(Stdio::null());
        let address = folder.path().join(ADDRESS);
        let server = Server::start(command, &folder.path().join("log"), || address.exists());
        let address: SocketAddr =
            fs::read_to_string(address).expect("a file").parse().expect("an address");
        let target = Target { address, ..okmsd.target() };
        Self { target, server, _folder: folder }
    }

    /// What it answers.
    pub async fn answer(&self, path: &str) -> Answer {
        let base = format!("https://localhost:{}", self.target.address.port());
        Client::new(&base, self.target.tls.clone()).get(path).await
    }

    pub fn process(&self) -> u32 {
        self.server.process_id()
    }
}

/// Serves until it is killed.
pub fn serve(folder: &Path) {
    Runtime::new().expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let answer: Value = serde_json::from_str(&read(folder, ANSWER)).expect("JSON");
        // Whole or not there: whoever waits for it reads it at once.
        fs::write(folder.join("new"), address).expect("a file");
        fs::rename(folder.join("new"), folder.join(ADDRESS)).expect("a file");
        if answer.is_null() {
            serve_tls(listener, folder).await
        } else {
            serve_http(listener, folder, &answer).await
        }
    });
}

async fn serve_http(listener: TcpListener, folder: &Path, answer: &Value) {
    let material = TlsMaterial {
        certificate_chain_pem: read(folder, CERTIFICATE),
        private_key_pem: Zeroizing::new(read(folder, KEY)),
        client_ca_pems: vec![read(folder, AUTHORITY)],
        external_authorities: Vec::new(),
        revocation_lists: Vec::new(),
    };
    let tls = api_tls(&material, false, Arc::new(SystemClock)).expect("TLS");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut response = Response::builder();
    for header in answer["headers"].as_array().expect("headers") {
        response = response.header(text(&header[0]), text(&header[1]));
    }
    let response = response.body(Full::new(Bytes::from(text(&answer["body"])))).expect("an answer");
    let service = tower::service_fn(move |_: Request<Incoming>| {
        let response = response.clone();
        async { Ok::<_, Infallible>(response) }
    });
    let limits = Limits { handshake_rate_per_address: 0, ..Limits::default() };
    server::serve(listener, tls, service, limits, pending()).await;
}

/// The same certificates, suites and tickets, by rustls as it comes.
async fn serve_tls(listener: TcpListener, folder: &Path) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let authority = read(folder, AUTHORITY);
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("a certificate"))
        .expect("a root");
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let chain = read(folder, CERTIFICATE);
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(read(folder, KEY).as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(chain.expect("a certificate"), key)
        .expect("a certificate");
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().expect("tickets");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            socket.set_nodelay(true).expect("a socket");
            // The client tells of what goes wrong.
            let Ok(mut tls) = acceptor.accept(socket).await else { return };
            let _ = tls.read_to_end(&mut Vec::new()).await;
            let _ = tls.shutdown().await;
        });
    }
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).expect("a file")
}

const ANSWER: &str = "answer.json";
const ADDRESS: &str = "address";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const AUTHORITY: &str = "authority.pem";

/// What such a server has of okmsd's folder.
const FILES: [(&str, &str); 3] = [
    (CERTIFICATE, "server_certificate.pem"),
    (KEY, "server_privatekey.pem"),
    (AUTHORITY, "ca_certificate.pem"),
];
