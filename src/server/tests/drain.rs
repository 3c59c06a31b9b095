use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use super::{Server, get, http2_client, request, text, until, within};
use crate::server::Limits;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn requests_in_flight_are_finished() {
    let mut server = Server::start(Limits::default()).await;
    let mut http1 = server.connect(server.client(None), "http/1.1").await.unwrap();
    http1.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut client = http2_client(socket).await.unwrap();
    let http2 = {
        let mut client = client.clone();
        tokio::spawn(
            async move { text(client.send_request(request("/slow")).await.unwrap()).await },
        )
    };
    until(|| server.seen.slow_begun.load(SeqCst) == 2).await;

    server.begin_shutdown();
    sleep(Duration::from_millis(200)).await;
    assert!(!server.task.is_finished());
    assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
    assert!(client.send_request(request("/who")).await.is_err(), "still taking requests");
    server.seen.release.notify_one();
    server.seen.release.notify_one();
    server.seen.release.notify_one();

    let mut answer = String::new();
    within(SOON, http1.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nslow"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(within(SOON, http2).await.unwrap(), "slow");
    within(SOON, &mut server.task).await.unwrap();
    assert_eq!(server.seen.slow_dropped.load(SeqCst), 0);
}

#[tokio::test]
async fn requests_that_do_not_end_are_dropped_before_it_returns() {
    let drain_time = Duration::from_millis(400);
    let mut server = Server::start(Limits { drain_time, ..Limits::default() }).await;
    let http1 = server.connect(server.client(None), "http/1.1").await.unwrap();
    let http1 = tokio::spawn(get(http1, "/slow"));
    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut client = http2_client(socket).await.unwrap();
    let http2 = tokio::spawn(async move { client.send_request(request("/slow")).await.is_ok() });
    until(|| server.seen.slow_begun.load(SeqCst) == 2).await;

    let begin = Instant::now();
    server.begin_shutdown();
    within(SOON, &mut server.task).await.unwrap();
    assert!(begin.elapsed() >= drain_time);
    // A store that is closed next must not meet a request that still runs.
    assert_eq!(server.seen.slow_dropped.load(SeqCst), 2);
    assert!(begin.elapsed() < drain_time + Duration::from_millis(900), "{:?}", begin.elapsed());
    assert!(http1.await.unwrap().is_err());
    assert!(!http2.await.unwrap());
}

#[tokio::test]
async fn connections_without_requests_do_not_hold_it_up() {
    let mut server = Server::start(Limits::default()).await;
    // Mid-handshake, before the first request, in the middle of a head, and after a request.
    let handshake = TcpStream::connect(server.address).await.unwrap();
    let fresh = server.connect(server.client(None), "http/1.1").await.unwrap();
    let fresh_http2 = server.connect(server.client(None), "h2").await.unwrap();
    let mut head = server.connect(server.client(None), "http/1.1").await.unwrap();
    head.write_all(b"GET /who HT").await.unwrap();
    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut idle = http2_client(socket).await.unwrap();
    idle.send_request(request("/who")).await.unwrap();

    sleep(Duration::from_millis(100)).await;
    server.begin_shutdown();
    within(SOON, &mut server.task).await.unwrap();
    drop((handshake, fresh, fresh_http2, head, idle));
}
