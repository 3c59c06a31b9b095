use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use http_body_util::BodyExt;

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
