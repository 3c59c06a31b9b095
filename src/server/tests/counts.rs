use std::time::Duration;

use rustls::version::TLS12;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{DAY, ManualClock, NOW, Server, access_from, get, material, until};
use crate::{
    pki::{AccessKey, Authority},
    server::{ConnectionCounts, Limits, LiveTls},
};

/// What was counted, but for what is 0: open, full, resumed, failed.
fn counted(counts: &ConnectionCounts) -> (u64, u64, u64, Vec<(&'static str, u64)>) {
    let failed = counts.failed_handshakes.iter().copied().filter(|(_, number)| *number > 0);
    (counts.open, counts.full_handshakes, counts.resumed_handshakes, failed.collect())
}

#[tokio::test]
async fn connections_and_handshakes_are_counted_by_what_became_of_them() {
    let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let clock = ManualClock::new();
    let live = LiveTls::new(&material(&authority), false, clock.clone()).unwrap();
    let server = Server::with_tls(Limits::default(), authority, clock, live.api()).await;
    let api = || live.connections().into_iter().find(|(name, _)| *name == "api").unwrap().1;
    let is = |open, full, resumed, failed: &[(&'static str, u64)]| {
        counted(&api()) == (open, full, resumed, failed.to_vec())
    };
    assert!(is(0, 0, 0, &[]));

    let client = std::sync::Arc::new(server.client(None));
    let connection = server.connect_shared(client.clone()).await.unwrap();
    until(|| is(1, 1, 0, &[])).await;
    get(connection, "/who").await.unwrap();
    until(|| is(0, 1, 0, &[])).await;
    get(server.connect_shared(client).await.unwrap(), "/who").await.unwrap();
    until(|| is(0, 1, 1, &[])).await;

    // One that goes away, and one that speaks something else.
    drop(TcpStream::connect(server.address).await.unwrap());
    until(|| is(0, 1, 1, &[("closed", 1)])).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let _alert = plain.read_to_end(&mut Vec::new()).await;
    let mut failed = vec![("closed", 1), ("protocol", 1)];
    until(|| is(0, 1, 1, &failed)).await;

    // One that does not trust the server, one with a certificate of somebody else, one whose own has ended.
    let mut stranger = Server::start(Limits::default()).await;
    stranger.address = server.address;
    assert!(stranger.who(stranger.client_with(None, &[&TLS12])).await.is_err());
    failed.push(("refused_by_client", 1));
    until(|| is(0, 1, 1, &failed)).await;
    let other = Authority::generate("Another CA", NOW, 3650).unwrap();
    let foreign = access_from(&other, AccessKey::Ecdsa);
    let foreign = server.client_with(Some(foreign), &[&TLS12]);
    assert!(server.who(foreign).await.is_err());
    failed.push(("unknown_authority", 1));
    until(|| is(0, 1, 1, &failed)).await;
    let own = server.client_with(Some(server.access()), &[&TLS12]);
    server.clock.set(NOW.plus_seconds(2 * DAY));
    assert!(server.who(own).await.is_err());
    failed.insert(3, ("expired_certificate", 1));
    until(|| is(0, 1, 1, &failed)).await;

    let (_, docs) = live.connections().into_iter().find(|(name, _)| *name == "docs").unwrap();
    assert_eq!(counted(&docs), (0, 0, 0, vec![]), "another listener");
}

#[tokio::test]
async fn a_client_without_a_word_is_counted_as_too_slow() {
    let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let clock = ManualClock::new();
    let live = LiveTls::new(&material(&authority), false, clock.clone()).unwrap();
    let limits = Limits { handshake_time: Duration::from_millis(300), ..Limits::default() };
    let server = Server::with_tls(limits, authority, clock, live.api()).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    until(|| counted(&live.connections()[0].1) == (0, 0, 0, vec![("timeout", 1)])).await;
}

#[tokio::test]
async fn a_certificate_that_is_required_and_missing_is_counted() {
    let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let clock = ManualClock::new();
    let live = LiveTls::new(&material(&authority), true, clock.clone()).unwrap();
    let server = Server::with_tls(Limits::default(), authority, clock, live.api()).await;
    assert!(server.who(server.client(None)).await.is_err());
    let counts = || counted(&live.connections()[0].1);
    until(|| counts() == (0, 0, 0, vec![("no_certificate", 1)])).await;
}
