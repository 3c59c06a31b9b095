//! Over real sockets, with certificates made by `pki` and a service that says who calls.

mod counts;
mod drain;
mod frames;
mod handshake;
mod identity;
mod limits;
mod memory;
mod operations;
mod peer;
mod tickets;
mod trust;
mod turns;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    domain::{Claim, ClientMemory, Clock, ConnectionInfo, Timestamp},
    pki::{AccessCertificate, AccessKey, Authority},
    server::{Limits, ListenerTls, TlsMaterial, api_tls, serve},
};

const OKMS_ID: &str = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";
const CREDENTIAL_ID: &str = "f1e2d3c4-b5a6-4978-8695-a4b3c2d1e0f1";

/// 2026-03-04T05:06:07Z
const NOW: Timestamp = Timestamp::from_millis(1_772_600_767_000);
const DAY: u64 = 86_400;

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct ManualClock(AtomicI64);

impl ManualClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(NOW.as_millis())))
    }

    fn set(&self, time: Timestamp) {
        self.0.store(time.as_millis(), SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(SeqCst))
    }
}

impl TimeProvider for ManualClock {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = self.0.load(SeqCst).try_into().unwrap();
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// What the service has seen.
#[derive(Default)]
struct Seen {
    /// Requests to `/slow` that have begun.
    slow_begun: AtomicUsize,
    /// Requests to `/slow` that were dropped before their end.
    slow_dropped: AtomicUsize,
    /// Lets one request to `/slow` end.
    release: Notify,
    /// What the requests of the first client hold.
    memory: OnceLock<Arc<ClientMemory>>,
}

struct Server {
    address: SocketAddr,
    authority: Authority,
    clock: Arc<ManualClock>,
    seen: Arc<Seen>,
    tls: ListenerTls,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// A certificate and its key, PEM.
type Identity = (String, String);

impl Server {
    async fn start(limits: Limits) -> Self {
        let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
        let clock = ManualClock::new();
        let tls = api_tls(&material(&authority), false, clock.clone()).unwrap();
        Self::with_tls(limits, authority, clock, tls).await
    }

    async fn with_tls(
        limits: Limits,
        authority: Authority,
        clock: Arc<ManualClock>,
        tls: ListenerTls,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (shutdown, stop) = oneshot::channel::<()>();
        let for_service = seen.clone();
        let time = clock.clone();
        let service =
            tower::service_fn(move |request| answer(for_service.clone(), time.clone(), request));
        let task = tokio::spawn(serve(listener, tls.clone(), service, limits, async {
            let _ = stop.await;
        }));
        Self { address, authority, clock, seen, tls, shutdown: Some(shutdown), task }
    }

    /// An access certificate that counts from `NOW` for a day.
    fn access(&self) -> Identity {
        self.access_with(AccessKey::Ecdsa)
    }

    fn access_with(&self, key: AccessKey) -> Identity {
        access_from(&self.authority, key)
    }

    fn client(&self, identity: Option<Identity>) -> ClientConfig {
        self.client_with(identity, &VERSIONS)
    }

    fn client_with(
        &self,
        identity: Option<Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(self.authority.certificate_pem())).unwrap();
        let builder = ClientConfig::builder_with_details(
            Arc::new(aws_lc_rs::default_provider()),
            self.clock.clone(),
        )
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(
                    vec![certificate(&chain)],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }

    async fn connect(&self, mut config: ClientConfig, alpn: &str) -> io::Result<Connection> {
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        self.connect_shared(Arc::new(config)).await
    }

    async fn connect_shared(&self, config: Arc<ClientConfig>) -> io::Result<Connection> {
        Self::handshake(config, TcpStream::connect(self.address).await?).await
    }

    async fn handshake(config: Arc<ClientConfig>, socket: TcpStream) -> io::Result<Connection> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(config).connect(name, socket).await
    }

    /// Who the server says we are, over HTTP/1.1.
    async fn who(&self, config: ClientConfig) -> io::Result<String> {
        get(self.connect(config, "http/1.1").await?, "/who").await
    }

    /// Who the server says we are, over HTTP/2.
    async fn who_http2(&self, config: ClientConfig) -> Result<String, String> {
        let socket = self.connect(config, "h2").await.map_err(|error| error.to_string())?;
        let mut client = http2_client(socket).await.map_err(|error| format!("{error:?}"))?;
        let answer =
            client.send_request(request("/who")).await.map_err(|error| format!("{error:?}"))?;
        Ok(text(answer).await)
    }

    /// Whether a new client is served, now.
    async fn assert_serves(&self) {
        let who = within(Duration::from_secs(5), self.who(self.client(None))).await.unwrap();
        assert_eq!(who, "HTTP/1.1 nobody");
    }

    fn begin_shutdown(&mut self) {
        let _ = self.shutdown.take().map(|shutdown| shutdown.send(()));
    }
}

type Connection = TlsStream<TcpStream>;

async fn answer(
    seen: Arc<Seen>,
    clock: Arc<ManualClock>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let info = request.extensions().get::<ConnectionInfo>().unwrap().clone();
    assert!(info.peer_address.ip().is_loopback());
    let _first = seen.memory.set(Arc::clone(&info.memory));
    let body = match request.uri().path() {
        "/who" => {
            let who = match info.peer.map(|peer| peer.certificate(clock.now())) {
                None => "nobody".to_owned(),
                Some(Err(reason)) => reason.to_owned(),
                Some(Ok(certificate)) => match &certificate.claim {
                    Claim::Issued(id) => format!("{id} {}", certificate.okms_id),
                    Claim::External(urns) => format!("{urns:?} {}", certificate.okms_id),
                },
            };
            format!("{:?} {who}", request.version()).into()
        }
        "/slow" => {
            seen.slow_begun.fetch_add(1, SeqCst);
            let mut unfinished = Unfinished(Some(seen.clone()));
            seen.release.notified().await;
            unfinished.0 = None;
            Bytes::from_static(b"slow")
        }
        "/large" => Bytes::from(vec![b'x'; LARGE]),
        "/large-later" => {
            seen.slow_begun.fetch_add(1, SeqCst);
            seen.release.notified().await;
            Bytes::from(vec![b'x'; LARGE])
        }
        "/panic" => panic!("as the test wants it"),
        other => panic!("no {other}"),
    };
    Ok(Response::new(Full::new(body)))
}

/// Counts requests that are dropped before their end.
struct Unfinished(Option<Arc<Seen>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(seen) = &self.0 {
            seen.slow_dropped.fetch_add(1, SeqCst);
        }
    }
}

/// With which a client begins on HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// More than all socket buffers on the way hold.
const LARGE: usize = 64 << 20;

fn material(authority: &Authority) -> TlsMaterial {
    let issued = authority.issue_server(&["localhost".into()], NOW, 398).unwrap();
    TlsMaterial {
        certificate_chain_pem: issued.certificate_pem,
        private_key_pem: issued.private_key_pem,
        client_ca_pems: vec![authority.certificate_pem().to_owned()],
        external_authorities: Vec::new(),
        revocation_lists: Vec::new(),
    }
}

fn access_from(authority: &Authority, key: AccessKey) -> Identity {
    let issued = authority
        .issue_access(AccessCertificate {
            credential_id: CREDENTIAL_ID.parse().unwrap(),
            okms_id: OKMS_ID.parse().unwrap(),
            not_before: NOW,
            not_after: NOW.plus_seconds(DAY),
            key,
        })
        .unwrap();
    (issued.certificate_pem, issued.private_key_pem.unwrap().to_string())
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// One request over HTTP/1.1, and the body of the answer.
async fn get(mut connection: Connection, path: &str) -> io::Result<String> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

type Http2Client = http2::SendRequest<Empty<Bytes>>;

async fn http2_client(connection: Connection) -> hyper::Result<Http2Client> {
    let (client, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(connection)).await?;
    tokio::spawn(driver);
    Ok(client)
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Fails the test when `future` takes longer.
async fn within<T>(time: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(time, future).await.expect("in time")
}

/// Waits until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    within(Duration::from_secs(5), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
