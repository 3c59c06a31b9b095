//! Requests that no HTTP client would send, over HTTP/1.1.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Version, header::HeaderName};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Answer;

/// Sends bytes to `base` (scheme, host and port) and reads one answer.
pub async fn send_raw(base: &str, tls: ClientConfig, request: &[u8]) -> Answer {
    let mut connection = RawConnection::open(base, tls).await;
    connection.send(request).await;
    connection.answer().await
}

/// A connection over which bytes go when the test says so.
pub struct RawConnection(TlsStream<TcpStream>);

impl RawConnection {
    /// Connects to `base` (scheme, host and port).
    pub async fn open(base: &str, tls: ClientConfig) -> Self {
        let address = base.strip_prefix("https://").expect("an address");
        let socket = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(tls));
        Self(connector.connect(name, socket).await.expect("a handshake"))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("to send");
        self.0.flush().await.expect("to send");
    }

    /// Waits until the server says that it reads the body, which the request must have asked it to say.
    pub async fn until_continued(&mut self) {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            let count = self.0.read_buf(&mut received).await.expect("bytes");
            assert!(count > 0, "ended early: {}", String::from_utf8_lossy(&received));
        }
        let text = String::from_utf8_lossy(&received);
        assert!(text.starts_with("HTTP/1.1 100 "), "{text}");
    }

    /// Reads one answer.
    pub async fn answer(mut self) -> Answer {
        let mut received = Vec::new();
        loop {
            if let Some(answer) = read_answer(&received) {
                return answer;
            }
            let count = self.0.read_buf(&mut received).await.expect("bytes");
            assert!(count > 0, "ended early: {}", String::from_utf8_lossy(&received));
        }
    }
}

/// The answer, once all of it is there. Every answer with a body says how long it is.
fn read_answer(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).expect("an HTTP head");
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').expect("a header");
        let name: HeaderName = name.parse().expect("a header name");
        headers.append(name, value.trim().parse().expect("a header value"));
    }
    let length = headers.get("content-length").map_or("0", |length| length.to_str().expect("text"));
    let body = received[end + 4..].get(..length.parse().expect("a length"))?;
    let body = Bytes::copy_from_slice(body);
    Some(Answer { version: Version::HTTP_11, status, headers, body })
}
