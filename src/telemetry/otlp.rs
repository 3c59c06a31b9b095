//! Traces for a collector of OpenTelemetry: OTLP over HTTP, in its JSON form.
//!
//! The JSON form is a part of OTLP, which collectors take like the binary one, and needs nothing that is not in this
//! program for other reasons; the libraries of OpenTelemetry would add some fifty. One span is told for each request,
//! without anything that its caller has chosen but the ids of its trace.
//!
//! Requests never wait: they put what there is to tell into a queue, and what finds no room, or cannot be sent, is lost.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Request,
    body::Bytes,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

use crate::{
    api::{FinishedRequest, SpanQueue},
    clock::SystemClock,
    domain::Clock,
};

/// Starts to send spans to the collector at `authority`, a host and a port. What this gives ends soon after the last
/// copy of the queue is dropped.
pub fn export_spans(authority: String) -> (SpanQueue, impl Future<Output = ()> + Send) {
    let (queue, spans) = SpanQueue::new(QUEUE);
    let lost = queue.lost();
    (queue, Exporter { authority, lost, told_at: None }.run(spans))
}

struct Exporter {
    authority: String,
    lost: Arc<AtomicU64>,
    told_at: Option<Instant>,
}

impl Exporter {
    async fn run(mut self, mut spans: mpsc::Receiver<FinishedRequest>) {
        let mut batch = Vec::new();
        while let Some(first) = spans.recv().await {
            batch.push(first);
            let more = async {
                while batch.len() < BATCH && spans.recv_many(&mut batch, BATCH).await > 0 {}
            };
            // Over or not, there is something to send.
            let _over = timeout(BATCH_TIME, more).await;
            let sent = timeout(SEND_TIME, self.send(&batch)).await;
            if let Err(error) = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                self.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
                tracing::debug!(%error, "spans cannot be sent");
            }
            batch.clear();
            self.tell_lost();
        }
    }

    /// Over a connection of its own: there is one in a second at most.
    async fn send(&self, batch: &[FinishedRequest]) -> io::Result<()> {
        let socket = TcpStream::connect(&self.authority).await?;
        let connecting = hyper::client::conn::http1::handshake(TokioIo::new(socket));
        let (mut sender, connection) = connecting.await.map_err(io::Error::other)?;
        let request = Request::post("/v1/traces")
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(document(batch).to_string())))
            .map_err(io::Error::other)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(io::Error::other(format!("the collector answered {status}"))),
            }
        };
        let mut answer = pin!(answer);
        tokio::select! {
            // Nothing of the answer is read but its head.
            answer = &mut answer => answer,
            // The answer may have come together with the end; where none has, that is known by now.
            _ended = connection => answer.await,
        }
    }

    fn tell_lost(&mut self) {
        if self.told_at.is_some_and(|at| at.elapsed() < TELL_AGAIN) {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(spans = lost, "spans were lost: the collector does not take them");
            self.told_at = Some(Instant::now());
        }
    }
}

/// The body of a request to the collector.
fn document(batch: &[FinishedRequest]) -> Value {
    // Nanoseconds of one clock, less the time since by the other: one that is set meanwhile turns no span around.
    let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or_default() * 1_000_000;
    let spans: Vec<_> = batch.iter().map(|request| span(request, now)).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            text("service.name", "okmsd"),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ] },
        "scopeSpans": [{ "scope": { "name": "okmsd" }, "spans": spans }],
    }] })
}

fn span(request: &FinishedRequest, now: u64) -> Value {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let end = now.saturating_sub(nanos(request.ended.elapsed()));
    let start = end.saturating_sub(nanos(request.time));
    let trace = &request.trace;
    let status = if request.status >= 500 { json!({ "code": ERROR }) } else { json!({}) };
    json!({
        "traceId": trace.id().to_string(),
        "spanId": trace.span_id().to_string(),
        "parentSpanId": trace.parent().map(|parent| parent.to_string()).unwrap_or_default(),
        "name": request.operation.as_deref().unwrap_or("other"),
        "kind": SERVER,
        // Numbers of 64 bits are strings in this form.
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": [
            text("http.request.method", request.method),
            json!({
                "key": "http.response.status_code",
                "value": { "intValue": request.status.to_string() },
            }),
            text("okmsd.request.id", &request.request_id),
        ],
        "status": status,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Of a span: it answers a request.
const SERVER: u32 = 2;
/// Of a status: what was asked for failed, and not by the caller's fault.
const ERROR: u32 = 2;
/// Spans that wait: a second of a busy server, some MiB.
const QUEUE: usize = 16_384;
/// Spans that are sent at once: some hundred KiB.
const BATCH: usize = 1_024;
/// How long the first of a batch waits for others.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const SEND_TIME: Duration = Duration::from_secs(5);
/// How often it is logged that spans are lost.
const TELL_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[tokio::test]
    async fn otel_an_answer_counts_that_comes_together_with_the_end_of_its_connection() {
        for (answer, taken) in [
            ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", false),
            ("", false),
        ] {
            // The two ends are looked at in any order.
            for _ in 0..20 {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let authority = listener.local_addr().unwrap().to_string();
                let collector = thread::spawn(move || {
                    let (mut socket, _) = listener.accept().unwrap();
                    let (mut request, mut part) = (Vec::new(), [0; 4_096]);
                    while !request.ends_with(b"]}]}]}") {
                        let length = socket.read(&mut part).unwrap();
                        assert!(length > 0, "{}", String::from_utf8_lossy(&request));
                        request.extend_from_slice(&part[..length]);
                    }
                    socket.write_all(answer.as_bytes()).unwrap();
                });
                let exporter = Exporter { authority, lost: Arc::default(), told_at: None };
                let sent = exporter.send(&[]).await;
                collector.join().unwrap();
                assert_eq!(sent.is_ok(), taken, "{answer:?}: {sent:?}");
            }
        }
    }
}
