//! Workers that ask over HTTP, on connections that they keep.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::load::Worker;
pub use super::random::Random;

/// A server, and how its client shows who it is.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: ClientConfig,
}

/// How many ask at a time, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1 { connections: usize },
    Http2 { connections: usize, streams: usize },
}

/// What is asked.
pub struct Question {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Question {
    pub fn get(path: impl Into<String>) -> Self {
        let (method, body) = (Method::GET, Bytes::new());
        Self { method, path: path.into(), headers: Vec::new(), body }
    }

    pub fn post(path: impl Into<String>, json: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { method: Method::POST, path: path.into(), headers, body: json.into() }
    }

    #[must_use]
    pub fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }
}

/// Makes up what is asked next.
pub type Ask = Arc<dyn Fn(&mut Random) -> Question + Send + Sync>;

impl Target {
    /// Workers on connections that are open.
    pub async fn workers(&self, protocol: Protocol, ask: &Ask) -> Vec<Box<dyn Worker>> {
        let mut workers: Vec<Box<dyn Worker>> = Vec::new();
        // Others than those of before: what they ask is not what was asked just now.
        let first = WORKERS.fetch_add(1 << 16, Ordering::Relaxed);
        let mut add = |sender| {
            let random = Random::new(first + workers.len() as u64);
            let base = format!("https://{NAME}:{}", self.address.port());
            workers.push(Box::new(HttpWorker { sender, base, random, ask: ask.clone() }));
        };
        match protocol {
            Protocol::Http1 { connections } => {
                for _ in 0..connections {
                    let socket = TokioIo::new(self.connect("http/1.1").await);
                    let (sender, connection) = http1::handshake(socket).await.expect("HTTP/1.1");
                    tokio::spawn(connection);
                    add(Sender::Http1(sender));
                }
            }
            Protocol::Http2 { connections, streams } => {
                for _ in 0..connections {
                    let socket = TokioIo::new(self.connect("h2").await);
                    let handshake = http2::handshake(TokioExecutor::new(), socket);
                    let (sender, connection) = handshake.await.expect("HTTP/2");
                    tokio::spawn(connection);
                    for _ in 0..streams {
                        add(Sender::Http2(sender.clone()));
                    }
                }
            }
        }
        workers
    }

    async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        connect(self.address, Arc::new(tls)).await.expect("a connection")
    }
}

/// Asks so many times, many at a time; all must succeed.
pub async fn repeat(
    target: &Target,
    count: u64,
    question: impl Fn(u64) -> Question + Send + Sync + 'static,
) {
    let (asked, turns) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let ask: Ask = Arc::new(move |_| question(asked.fetch_add(1, Ordering::Relaxed)));
    let protocol = Protocol::Http2 { connections: 4, streams: 64 };
    let mut tasks = JoinSet::new();
    for mut worker in target.workers(protocol, &ask).await {
        let turns = turns.clone();
        tasks.spawn(async move {
            while turns.fetch_add(1, Ordering::Relaxed) < count {
                worker.ask().await.expect("a success");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a worker ends");
    }
}

/// A connection after its handshake.
pub async fn connect(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    // Small requests must not wait for more to come.
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(NAME).expect("a name");
    TlsConnector::from(tls).connect(name, socket).await
}

struct HttpWorker {
    sender: Sender,
    base: String,
    random: Random,
    ask: Ask,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Worker for HttpWorker {
    fn ask(&mut self) -> BoxFuture<'_, Result<(), String>> {
        let question = (self.ask)(&mut self.random);
        Box::pin(async move {
            let Question { method, path, headers, body } = question;
            let mut request = Request::builder().method(method.clone());
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let body = Full::new(body);
            let response = match &mut self.sender {
                Sender::Http1(sender) => {
                    let request = request.uri(&path).header("host", NAME).body(body);
                    sender.ready().await.map_err(|error| error.to_string())?;
                    sender.send_request(request.expect("a request")).await
                }
                Sender::Http2(sender) => {
                    let request = request.uri(format!("{}{path}", self.base)).body(body);
                    sender.ready().await.map_err(|error| error.to_string())?;
                    sender.send_request(request.expect("a request")).await
                }
            };
            let failed = |error| format!("{method} {path}: {error}");
            let response = response.map_err(failed)?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
            match status.is_success() {
                true => Ok(()),
                false => {
                    Err(format!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body)))
                }
            }
        })
    }
}

/// How many workers there were, and room for those of one server.
static WORKERS: AtomicU64 = AtomicU64::new(0);

/// What the certificates of our servers are for.
const NAME: &str = "localhost";
