//! What a hostile client does to a server over TLS: waves of connections that are slow, broken or a flood.
//!
//! Each comes from another address of this machine than healthy clients do, and is bounded in count and time.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, split},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Whom it is done to.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// TLS of somebody without a certificate.
    pub stranger: ClientConfig,
    /// TLS of somebody with one that counts.
    pub caller: ClientConfig,
    /// The path of a secret that the caller may read and write.
    pub secret: String,
    /// Connections over TLS that were made.
    pub connected: Arc<AtomicUsize>,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    SlowHandshake,
    SlowHead,
    SlowBody,
    BrokenHeads,
    OversizedHead,
    RapidReset,
    Continuations,
    Settings,
    Pings,
    ZeroWindow,
}

impl Attack {
    pub const ALL: [Self; 10] = [
        Self::SlowHandshake,
        Self::SlowHead,
        Self::SlowBody,
        Self::BrokenHeads,
        Self::OversizedHead,
        Self::RapidReset,
        Self::Continuations,
        Self::Settings,
        Self::Pings,
        Self::ZeroWindow,
    ];

    /// One wave of it. Panics where the server bears what it must not.
    pub async fn wave(self, target: &Target) {
        match self {
            Self::SlowHandshake => join(300, |_| slow_handshake(target)).await,
            Self::SlowHead => join(50, |_| slow_head(target)).await,
            Self::SlowBody => join(20, |_| slow_body(target)).await,
            Self::BrokenHeads => join(BROKEN.len(), |number| broken(target, number)).await,
            Self::OversizedHead => join(8, |_| oversized_head(target)).await,
            Self::RapidReset => join(4, |_| rapid_reset(target)).await,
            Self::Continuations => join(4, |_| continuations(target)).await,
            Self::Settings => join(4, |_| flood(target, frame(SETTINGS, 0, 0, &[]))).await,
            Self::Pings => join(4, |_| flood(target, frame(PING, 0, 0, &[0; 8]))).await,
            Self::ZeroWindow => join(10, |_| zero_window(target)).await,
        }
    }
}

/// For the connections of this process; a server raises its own.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("to raise the limit of open files");
}

impl Target {
    /// A TCP connection from another address than that of healthy clients.
    async fn socket(&self) -> io::Result<TcpStream> {
        self.socket_from(2).await
    }

    async fn socket_from(&self, last: u8) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
        socket.connect(self.address).await
    }

    /// One over TLS. The server may have no place for it.
    pub async fn connect(
        &self,
        tls: &ClientConfig,
        alpn: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        self.connect_from(2, tls, alpn).await
    }

    /// One from the address 127.0.0.`last`.
    pub async fn connect_from(
        &self,
        last: u8,
        tls: &ClientConfig,
        alpn: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let socket = self.socket_from(last).await?;
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = TlsConnector::from(Arc::new(tls)).connect(name, socket);
        connection.await.inspect(|_| _ = self.connected.fetch_add(1, Ordering::Relaxed))
    }

    /// A connection with so many requests whose answers the client leaves no room for.
    pub async fn unread(&self, requests: u32) -> io::Result<TlsStream<TcpStream>> {
        // SETTINGS_INITIAL_WINDOW_SIZE
        let mut connection = self.http2(&self.caller, &[0, 4, 0, 0, 0, 0]).await?;
        for number in 0..requests {
            let path = format!("{}?includeData=true", self.secret);
            let request = frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &request(&path));
            connection.write_all(&request).await?;
        }
        connection.flush().await?;
        Ok(connection)
    }

    async fn http2(&self, tls: &ClientConfig, settings: &[u8]) -> io::Result<TlsStream<TcpStream>> {
        let mut connection = self.connect(tls, "h2").await?;
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        connection.write_all(&frame(SETTINGS, 0, 0, settings)).await?;
        Ok(connection)
    }
}

async fn join<'a, F: Future<Output = ()> + 'a>(count: usize, one: impl Fn(usize) -> F) {
    join_all((0..count).map(one)).await;
}

/// Begins a handshake and says no more.
async fn slow_handshake(target: &Target) {
    let Ok(mut socket) = target.socket().await else { return };
    if socket.write_all(&[22, 3, 1]).await.is_ok() {
        ended(&mut socket, "a handshake that never ends").await;
    }
}

/// A head, byte after byte, without an end.
async fn slow_head(target: &Target) {
    let Ok(connection) = target.connect(&target.stranger, "http/1.1").await else { return };
    trickle(connection, b"GET / HTTP/1.1\r\nX: ", "a head that never ends").await;
}

/// A body, byte after byte, of somebody who may write.
async fn slow_body(target: &Target) {
    let Ok(connection) = target.connect(&target.caller, "http/1.1").await else { return };
    let head = format!(
        "POST {}/version HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 400000\r\n\r\n",
        target.secret
    );
    trickle(connection, head.as_bytes(), "a body that never ends").await;
}

async fn trickle(connection: TlsStream<TcpStream>, head: &[u8], what: &str) {
    let (mut reader, mut writer) = split(connection);
    let write = async {
        let mut more = writer.write_all(head).await.is_ok();
        while more {
            sleep(Duration::from_millis(50)).await;
            more = writer.write_all(b"x").await.is_ok() && writer.flush().await.is_ok();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = write => {}
        _ = ended(&mut reader, what) => {}
    }
}

/// Heads that others on the way may read in another way, each with a request behind it, which may be the end of a
/// body; and what is answered. A line may end with a bare LF (RFC 9112, 2.2), and then both are requests. Of a length
/// beside chunks the chunks count and the connection ends (RFC 9112, 6.3).
const BROKEN: [(&str, &[&str]); 14] = [
    ("Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", &["400"]),
    ("Content-Length: 4, 5\r\n\r\nabcd", &["400"]),
    ("Content-Length: +4\r\n\r\nabcd", &["400"]),
    ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &["401"]),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", &["401"]),
    ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", &["400"]),
    ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &["400"]),
    ("Content-Length : 4\r\n\r\nabcd", &["400"]),
    ("X: a\r\n b\r\n\r\n", &["400"]),
    ("X: a\0b\r\n\r\n", &["400"]),
    ("X: a\rb\r\n\r\n", &["400"]),
    ("Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", &["401"]),
    ("X: a\nContent-Length: 0\r\n\r\n", &["401", "401"]),
    ("X: a\r\n\n", &["401", "401"]),
];

async fn broken(target: &Target, number: usize) {
    let Some((rest, expected)) = BROKEN.get(number) else { return };
    let Ok(mut connection) = target.connect(&target.stranger, "http/1.1").await else { return };
    let behind = "GET /behind HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let request = format!("POST /broken HTTP/1.1\r\nHost: x\r\n{rest}{behind}");
    let _ = connection.write_all(request.as_bytes()).await;
    let received = ended(&mut connection, rest).await;
    let text = String::from_utf8_lossy(&received);
    let answers = text.split("HTTP/1.1 ").skip(1).filter_map(|one| one.get(..3));
    assert_eq!(&*answers.collect::<Vec<_>>(), *expected, "{rest:?}");
}

/// A head of a MiB, in one line or in many.
async fn oversized_head(target: &Target) {
    let line = format!("X: {}\r\n", "y".repeat(1_000));
    for head in
        [line.repeat(1_000), format!("X: {}\r\n", "y".repeat(1_000_000)), "X: y\r\n".repeat(9_000)]
    {
        let Ok(connection) = target.connect(&target.stranger, "http/1.1").await else { return };
        let (mut reader, mut writer) = split(connection);
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{head}\r\n");
        let write = async { drop(writer.write_all(request.as_bytes()).await) };
        let (received, ()) = tokio::join!(ended(&mut reader, "an oversized head"), write);
        let text = String::from_utf8_lossy(&received);
        // What was not read when the server closed may have taken the answer along.
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 431 "), "{text}");
    }
}

/// Requests that are taken back at once: the server ends the connection after the first few.
async fn rapid_reset(target: &Target) {
    let Ok(connection) = target.http2(&target.stranger, &[]).await else { return };
    let (mut reader, mut writer) = split(connection);
    let write = async {
        for batch in 0..100 {
            let mut bytes = Vec::new();
            for number in 0..100 {
                let stream = 2 * (batch * 100 + number) + 1;
                bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("/")));
                bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            }
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(write, ended(&mut reader, "requests that are taken back"));
}

/// A head in ever more parts.
async fn continuations(target: &Target) {
    let Ok(connection) = target.http2(&target.stranger, &[]).await else { return };
    let (mut reader, mut writer) = split(connection);
    let write = async {
        let mut sent = writer.write_all(&frame(HEADERS, 0, 1, &request("/"))).await;
        // A header without a name in the table: 1,000 bytes of value, in HPACK.
        let header = [&[0, 1, b'x', 127, 0xe9, 6][..], &[b'y'; 1_000]].concat();
        let part = frame(CONTINUATION, 0, 1, &header.repeat(16));
        for _ in 0..4_000 {
            if sent.is_err() {
                break;
            }
            sent = writer.write_all(&part).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = write => {}
        _ = ended(&mut reader, "a head without an end") => {}
    }
}

/// Frames that ask for an answer that is never read. The server stops to read, or ends it.
async fn flood(target: &Target, frame: Vec<u8>) {
    let Ok(mut connection) = target.http2(&target.stranger, &[]).await else { return };
    let frames = frame.repeat(10_000);
    let flood = async {
        for _ in 0..100 {
            if connection.write_all(&frames).await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(2), flood).await;
}

async fn zero_window(target: &Target) {
    if let Ok(_open) = target.unread(100).await {
        sleep(Duration::from_secs(1)).await;
    }
}

/// Reads until the server ends the connection; it must.
async fn ended(connection: &mut (impl AsyncRead + Unpin), what: &str) -> Vec<u8> {
    let mut received = Vec::new();
    let read =
        async { while !matches!(connection.read_buf(&mut received).await, Ok(0) | Err(_)) {} };
    assert!(timeout(PATIENCE, read).await.is_ok(), "the server bears {what}");
    received
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a GET in HPACK: method, scheme and authority of the static table, a path as it is.
fn request(path: &str) -> Vec<u8> {
    let length =
        u8::try_from(path.len()).ok().filter(|length| *length < 127).expect("a short path");
    [&[0x82, 0x87, 0x41, 1, b'x', 0x04, length][..], path.as_bytes()].concat()
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Much longer than any limit of the server is set to.
const PATIENCE: Duration = Duration::from_secs(60);
