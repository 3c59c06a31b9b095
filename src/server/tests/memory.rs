use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::http::{HeaderName, HeaderValue};

use super::{LARGE, Server, http2_client, request, text, until, within};
use crate::server::Limits;

#[tokio::test]
async fn what_is_not_read_counts_until_it_is_gone() {
    let server = Server::start(Limits { max_memory_per_address: LARGE, ..Limits::default() }).await;
    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut client = http2_client(socket).await.unwrap();
    let answer = client.send_request(request("/large")).await.unwrap();
    let memory = Arc::clone(server.seen.memory.get().unwrap());
    assert!(memory.is_full() && !memory.is_overdrawn());
    assert_eq!(text(answer).await.len(), LARGE);
    until(|| !memory.is_full()).await;
    let unread = client.send_request(request("/large")).await.unwrap();
    assert!(memory.is_full());
    drop(unread);
    until(|| !memory.is_full()).await;
}

#[tokio::test]
async fn requests_of_an_address_that_holds_far_too_much_end_their_connections() {
    let server =
        Server::start(Limits { max_memory_per_address: LARGE / 2, ..Limits::default() }).await;
    let open = async || {
        let socket = server.connect(server.client(None), "h2").await.unwrap();
        http2_client(socket).await.unwrap()
    };
    let (mut one, mut another, mut before) = (open().await, open().await, open().await);
    // One that began before it was so much.
    let answered = before.send_request(request("/large-later"));
    let answered = tokio::spawn(async move { answered.await?.into_body().collect().await });
    until(|| server.seen.slow_begun.load(SeqCst) == 1).await;
    let unread = one.send_request(request("/large")).await.unwrap();
    assert!(server.seen.memory.get().unwrap().is_overdrawn());
    server.seen.release.notify_one();
    within(Duration::from_secs(60), answered).await.unwrap().unwrap_err();
    // The first may still be answered.
    within(Duration::from_secs(60), async {
        while another.send_request(request("/who")).await.is_ok() {}
    })
    .await;
    // One that asks for nothing more is left alone.
    assert_eq!(text(unread).await.len(), LARGE);
    until(|| !server.seen.memory.get().unwrap().is_full()).await;
    server.assert_serves().await;
}

#[tokio::test]
async fn what_is_small_and_headers_count_until_the_request_is_over() {
    const HEADERS: usize = 50;
    // More than a request by itself holds, and no more than one with its headers.
    let limits = Limits { max_memory_per_address: 16_000, ..Limits::default() };
    let server = Server::start(limits).await;
    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut client = http2_client(socket).await.unwrap();
    let mut begin = |headers: usize| {
        let mut slow = request("/slow");
        for number in 0..headers {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            slow.headers_mut().insert(name, HeaderValue::from_static("x"));
        }
        tokio::spawn(client.send_request(slow))
    };
    let without = begin(0);
    until(|| server.seen.slow_begun.load(SeqCst) == 1).await;
    let memory = Arc::clone(server.seen.memory.get().unwrap());
    assert!(!memory.is_full());
    server.seen.release.notify_one();
    let answer = without.await.unwrap().unwrap();

    let with = begin(HEADERS);
    until(|| server.seen.slow_begun.load(SeqCst) == 2).await;
    assert!(memory.is_full());
    with.abort();
    until(|| !memory.is_full()).await;
    // Two are too much, however little they ask for.
    let (one, another) = (begin(0), begin(0));
    until(|| server.seen.slow_begun.load(SeqCst) == 4).await;
    assert!(memory.is_full());
    assert_eq!(text(answer).await, "slow");
    one.abort();
    another.abort();
    until(|| !memory.is_full()).await;
}
