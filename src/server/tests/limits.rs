use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::{Request, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{PREFACE, Server, get, http2_client, request, text, until, within};
use crate::server::Limits;

const LONG: Duration = Duration::from_secs(60);

/// The time that is being tested: long enough to tell it from none, on a busy machine too.
const SHORT: Duration = Duration::from_millis(400);

/// Far apart, so that a test sees which of them ended a connection.
fn long() -> Limits {
    Limits {
        handshake_time: LONG,
        header_time: LONG,
        idle_time: LONG,
        drain_time: LONG,
        ..Limits::default()
    }
}

/// Sends `start`, then one byte of `trickle` after the other, until the server ends the connection;
/// says how long that took.
async fn time_until_cut<T>(connection: T, start: &[u8], trickle: &[u8]) -> Duration
where
    T: AsyncRead + AsyncWrite,
{
    let begin = Instant::now();
    let (mut reader, mut writer) = split(connection);
    let write = async {
        let _ = writer.write_all(start).await;
        let _ = writer.flush().await;
        for byte in trickle.iter().cycle() {
            sleep(Duration::from_millis(20)).await;
            if writer.write_all(&[*byte]).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let read = async { while !matches!(reader.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {} };
    within(Duration::from_secs(20), async {
        tokio::select! {
            () = read => {}
            () = write => {}
        }
    })
    .await;
    begin.elapsed()
}

/// Not before the time that is being tested, and long before any other.
fn assert_after_short(time: Duration) {
    assert!(time >= SHORT.mul_f32(0.9), "too early: {time:?}");
    assert!(time < Duration::from_secs(10), "too late: {time:?}");
}

/// Each case, what is sent at once and what trickles after it, on a connection of its own; a good
/// client is served meanwhile.
async fn assert_all_cut_after_short(server: &Server, alpn: &str, cases: &[(&[u8], &[u8])]) {
    let mut cut = Vec::new();
    for (start, trickle) in cases {
        let connection = server.connect(server.client(None), alpn).await.unwrap();
        cut.push(time_until_cut(connection, start, trickle));
    }
    let (times, ()) = tokio::join!(join_all(cut), server.assert_serves());
    for (time, case) in times.into_iter().zip(cases) {
        assert!(time < Duration::from_secs(10), "too late: {time:?}, {case:?}");
        // The connections were made one after the other, and the first one's time ran meanwhile.
        assert!(time >= SHORT / 2, "too early: {time:?}, {case:?}");
    }
}

#[test]
fn defaults_are_as_documented() {
    let limits = Limits::default();
    assert_eq!(limits.max_connections, 10_000);
    assert_eq!(limits.max_connections_per_address, 1_000);
    assert_eq!(limits.max_handshakes, 1_000);
    assert_eq!(limits.max_handshakes_per_address, 250);
    assert_eq!(limits.handshake_rate_per_address, 100);
    assert_eq!(limits.handshake_time.as_secs(), 10);
    assert_eq!(limits.header_time.as_secs(), 10);
    assert_eq!(limits.idle_time.as_secs(), 75);
    assert_eq!(limits.drain_time.as_secs(), 10);
    assert_eq!(limits.max_header_bytes, 32 * 1024);
    assert_eq!(limits.max_concurrent_streams, 100);
    assert_eq!(limits.max_streams_per_address, 64);
    assert_eq!(limits.control_frames_per_connection, 100);
}

#[tokio::test]
async fn limits_that_mean_never_work() {
    let never = Duration::MAX;
    let limits = Limits {
        max_connections: u32::MAX,
        handshake_time: never,
        header_time: never,
        idle_time: never,
        drain_time: never,
        ..Limits::default()
    };
    let mut server = Server::start(limits).await;
    server.assert_serves().await;
    assert!(server.who_http2(server.client(None)).await.is_ok());
    server.begin_shutdown();
    within(Duration::from_secs(5), &mut server.task).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut() {
    let server = Server::start(Limits { handshake_time: SHORT, ..long() }).await;
    let (silent, half) = tokio::join!(
        async {
            let socket = TcpStream::connect(server.address).await.unwrap();
            time_until_cut(socket, b"", b"").await
        },
        async {
            // A client hello that announces 512 bytes and trickles in.
            let socket = TcpStream::connect(server.address).await.unwrap();
            let served = server.assert_serves();
            let cut = time_until_cut(socket, &[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], b"x");
            tokio::join!(cut, served).0
        }
    );
    assert_after_short(silent);
    assert_after_short(half);
}

#[tokio::test]
async fn plain_http_is_answered_by_an_end() {
    let server = Server::start(long()).await;
    let socket = TcpStream::connect(server.address).await.unwrap();
    let time = time_until_cut(socket, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"").await;
    assert!(time < Duration::from_secs(5), "{time:?}");
}

#[tokio::test]
async fn an_http1_head_that_never_ends_is_cut() {
    let server = Server::start(Limits { header_time: SHORT, ..long() }).await;
    let cases: [(&[u8], &[u8]); 4] = [
        (b"", b""),
        (b"GET /who HTTP/1.1\r\n", b""),
        (b"GET /who HTTP/1.1\r\n", b"X: y\r\n"),
        (b"", b"GET"),
    ];
    assert_all_cut_after_short(&server, "http/1.1", &cases).await;
}

#[tokio::test]
async fn the_second_http1_head_is_cut_too() {
    let server = Server::start(Limits { header_time: SHORT, ..long() }).await;
    let mut connection = server.connect(server.client(None), "http/1.1").await.unwrap();
    keep_alive_request(&mut connection).await;
    // Quiet for longer than a head may take is no offence.
    sleep(SHORT * 2).await;
    keep_alive_request(&mut connection).await;
    assert_after_short(time_until_cut(connection, b"GET", b"x").await);
}

/// One request whose answer leaves the connection open.
async fn keep_alive_request(connection: &mut super::Connection) {
    connection.write_all(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    let mut length = 0;
    while !answer[..length].ends_with(b"nobody") {
        let read = connection.read(&mut answer[length..]).await.unwrap();
        assert_ne!(read, 0, "closed");
        length += read;
    }
}

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
/// Headers of stream 1 that are to be continued: `:method: GET`, `:scheme: https`, `:path: /`.
const OPEN_HEADERS: &[u8] = &[0, 0, 3, 1, 0, 0, 0, 0, 1, 0x82, 0x87, 0x84];
/// A continuation that announces 16,384 bytes, of which the first are a header with a long value.
const CONTINUATION: &[u8] = &[0, 64, 0, 9, 0, 0, 0, 0, 1, 0, 1, b'a', 0x7f, 0x80, 0x7f];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

#[tokio::test]
async fn an_http2_preface_or_head_that_never_ends_is_cut() {
    let server = Server::start(Limits { header_time: SHORT, ..long() }).await;
    let open = [PREFACE, SETTINGS, SETTINGS_ACK].concat();
    let headers = [&open[..], OPEN_HEADERS].concat();
    let continued = [&headers[..], CONTINUATION].concat();
    let flood = [&open[..], &PING.repeat(1_000)].concat();
    let cases: [(&[u8], &[u8]); 10] = [
        (b"", b""),
        (&PREFACE[..10], b""),
        // 24 bytes, one at a time, take longer than they may.
        (b"", PREFACE),
        (PREFACE, b""),
        (&open, b""),
        (&open, PING),
        (&flood, PING),
        (&headers, b""),
        (&continued, b""),
        (&continued, b"x"),
    ];
    assert_all_cut_after_short(&server, "h2", &cases).await;
}

#[tokio::test]
async fn continuations_without_end_are_cut_by_their_number_or_size() {
    let server = Server::start(long()).await;
    let mut start = [PREFACE, SETTINGS, SETTINGS_ACK, OPEN_HEADERS].concat();
    for _ in 0..10_000 {
        start.extend_from_slice(&[0, 0, 5, 9, 0, 0, 0, 0, 1, 0, 1, b'a', 1, b'b']);
    }
    let connection = server.connect(server.client(None), "h2").await.unwrap();
    assert!(time_until_cut(connection, &start, b"").await < Duration::from_secs(10));
    server.assert_serves().await;
}

#[tokio::test]
async fn an_http2_connection_that_only_pings_is_closed() {
    let server = Server::start(Limits { idle_time: SHORT, ..long() }).await;
    // One request first, so that it is the idle time that counts and not that of the first head.
    let connection = server.connect(server.client(None), "h2").await.unwrap();
    let get = [&[0, 0, 8, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x04, 0x04], &b"/who"[..]].concat();
    let start = [PREFACE, SETTINGS, SETTINGS_ACK, &get].concat();
    assert_after_short(time_until_cut(connection, &start, PING).await);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(Limits { idle_time: SHORT, ..long() }).await;
    let mut connection = server.connect(server.client(None), "http/1.1").await.unwrap();
    keep_alive_request(&mut connection).await;
    let served = server.assert_serves();
    let (time, ()) = tokio::join!(time_until_cut(connection, b"", b""), served);
    assert_after_short(time);

    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut client = http2_client(socket).await.unwrap();
    let answer = client.send_request(request("/who")).await.unwrap();
    assert_eq!(text(answer).await, "HTTP/2.0 nobody");
    let begin = Instant::now();
    // The client learns of the end without asking.
    until(|| client.is_closed()).await;
    assert_after_short(begin.elapsed());
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_cut() {
    let server = Server::start(Limits { idle_time: SHORT, ..long() }).await;
    for alpn in ["http/1.1", "h2"] {
        let connection = server.connect(server.client(None), alpn).await.unwrap();
        if alpn == "h2" {
            let mut client = http2_client(connection).await.unwrap();
            let answer = client.send_request(request("/large")).await.unwrap();
            // The window of the client is full after some KiB; its driver answers pings all along.
            sleep(SHORT * 6).await;
            let body = http_body_util::BodyExt::collect(answer.into_body()).await;
            assert!(body.is_err(), "the connection was not cut");
        } else {
            let mut connection = connection;
            connection.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            sleep(SHORT * 6).await;
            let mut got = Vec::new();
            let _ = connection.read_to_end(&mut got).await;
            assert!(got.len() < super::LARGE, "the connection was not cut");
        }
        server.assert_serves().await;
    }
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let server = Server::start(Limits { idle_time: SHORT, ..long() }).await;
    let mut connection = server.connect(server.client(None), "http/1.1").await.unwrap();
    connection.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    let begin = Instant::now();
    while total < super::LARGE {
        let read = connection.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "cut after {total} bytes, {:?}", begin.elapsed());
        total += read;
        if total / (4 << 20) != (total - read) / (4 << 20) {
            sleep(SHORT / 4).await;
        }
    }
    assert!(begin.elapsed() > SHORT * 2);
}

#[tokio::test]
async fn a_request_may_take_longer_than_its_head() {
    let server = Server::start(Limits { header_time: SHORT, ..long() }).await;
    let connection = server.connect(server.client(None), "http/1.1").await.unwrap();
    let slow = tokio::spawn(get(connection, "/slow"));
    until(|| server.seen.slow_begun.load(SeqCst) == 1).await;
    sleep(SHORT * 3).await;
    server.seen.release.notify_one();
    assert_eq!(slow.await.unwrap().unwrap(), "slow");
}

#[tokio::test]
async fn a_silent_request_is_cut_at_the_idle_time() {
    let server = Server::start(Limits { idle_time: SHORT, ..long() }).await;
    for alpn in ["http/1.1", "h2"] {
        let dropped = server.seen.slow_dropped.load(SeqCst);
        let connection = server.connect(server.client(None), alpn).await.unwrap();
        let begin = Instant::now();
        if alpn == "h2" {
            let mut client = http2_client(connection).await.unwrap();
            assert!(client.send_request(request("/slow")).await.is_err());
        } else {
            assert!(get(connection, "/slow").await.is_err());
        }
        assert_after_short(begin.elapsed());
        until(|| server.seen.slow_dropped.load(SeqCst) == dropped + 1).await;
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let server = Server::start(Limits { max_connections: 2, ..long() }).await;
    let mut first = server.connect(server.client(None), "http/1.1").await.unwrap();
    let second = server.connect(server.client(None), "http/1.1").await.unwrap();
    keep_alive_request(&mut first).await;
    // Nothing else could end it: all times are long.
    let third = within(Duration::from_secs(10), server.who(server.client(None))).await;
    assert!(third.is_err(), "no place, but served");
    assert_eq!(server.tls.counts().read().refused[0], ("connections", 1));
    drop(second);
    until(|| server.tls.counts().read().open == 1).await;
    assert_eq!(server.who(server.client(None)).await.unwrap(), "HTTP/1.1 nobody");
    keep_alive_request(&mut first).await;
}

#[tokio::test]
async fn slow_handshakes_of_one_address_leave_room_for_others() {
    let limits = Limits { max_handshakes: 4, max_handshakes_per_address: 2, ..long() };
    let server = Server::start(limits).await;
    let mut done = server.connect(server.client(None), "http/1.1").await.unwrap();
    // The client's side of a handshake is done before the server's.
    keep_alive_request(&mut done).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        slow.push(TcpStream::connect(server.address).await.unwrap());
    }
    until(|| server.tls.counts().read().open == 3).await;
    let refused = within(Duration::from_secs(10), server.who(server.client(None))).await;
    assert!(refused.is_err(), "no place, but served");
    let refused = server.tls.counts().read().refused;
    assert_eq!(refused[3], ("handshakes_per_address", 1));
    // A handshake that is done takes no such place, and another address has its own.
    keep_alive_request(&mut done).await;
    let socket = connect_from("127.0.0.2:0", &server).await;
    let other = Server::handshake(Arc::new(server.client(None)), socket).await.unwrap();
    assert!(get(other, "/who").await.is_ok());
    slow.clear();
    until(|| server.tls.counts().read().open == 1).await;
    server.assert_serves().await;
}

#[tokio::test]
async fn handshakes_that_fill_all_places_give_way_to_other_addresses() {
    let server = Server::start(Limits { max_handshakes: 4, ..long() }).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(connect_from("127.0.0.1:0", &server).await);
        until(|| server.tls.counts().read().open == silent.len() as u64).await;
    }
    let refused = within(Duration::from_secs(10), server.who(server.client(None))).await;
    assert!(refused.is_err(), "whoever fills the places gets another one");
    assert_eq!(server.tls.counts().read().refused[2], ("handshakes", 1));
    let socket = connect_from("127.0.0.2:0", &server).await;
    let other = Server::handshake(Arc::new(server.client(None)), socket).await.unwrap();
    assert!(get(other, "/who").await.is_ok());
    // The oldest has given way, long before its time is over; the others go on.
    let mut oldest = silent.remove(0);
    let end = within(Duration::from_secs(10), oldest.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let failed = server.tls.counts().read().failed_handshakes;
    assert!(failed.contains(&("crowded_out", 1)), "{failed:?}");
    until(|| server.tls.counts().read().open == 3).await;
    for socket in silent {
        let client = Arc::new(server.client(None));
        assert!(get(Server::handshake(client, socket).await.unwrap(), "/who").await.is_ok());
    }
}

#[tokio::test]
async fn handshakes_beyond_the_rate_of_their_address_wait() {
    let server = Server::start(Limits { handshake_rate_per_address: 1, ..long() }).await;
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(server.who(server.client(None)).await.unwrap(), "HTTP/1.1 nobody");
    }
    // One at once; another at the next second of the server, however near that is, and at each after it.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    let waited = server.tls.counts().read().waited_handshakes;
    assert!((2..=3).contains(&waited), "{waited}");
    assert_eq!(server.tls.counts().read().full_handshakes, 4);
    // Others need not wait.
    let socket = connect_from("127.0.0.2:0", &server).await;
    let other = Server::handshake(Arc::new(server.client(None)), socket).await.unwrap();
    assert!(get(other, "/who").await.is_ok());
    assert_eq!(server.tls.counts().read().waited_handshakes, waited);
}

#[tokio::test]
async fn handshakes_whose_turn_is_too_far_away_are_refused_at_once() {
    let time = Duration::from_millis(2_500);
    let limits = Limits { handshake_rate_per_address: 1, handshake_time: time, ..long() };
    let server = Server::start(limits).await;
    let many = (0..10).map(|_| server.who(server.client(None)));
    let done = join_all(many).await.iter().filter(|who| who.is_ok()).count();
    // One at once, two whose turn comes in time, and one more where a second has gone by meanwhile.
    assert!((3..=4).contains(&done), "{done}");
    let refused = server.tls.counts().read().refused;
    assert_eq!(refused[4], ("handshake_rate_per_address", 10 - done as u64));
    assert!(server.tls.counts().read().failed_handshakes.iter().all(|(_, number)| *number == 0));
}

#[tokio::test]
async fn who_waits_for_the_rate_gives_way_to_other_addresses_and_to_the_end() {
    let limits = Limits { handshake_rate_per_address: 1, max_handshakes: 3, ..long() };
    let mut server = Server::start(limits).await;
    // The first one begins at once and says nothing; others wait.
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(connect_from("127.0.0.1:0", &server).await);
        until(|| server.tls.counts().read().open == silent.len() as u64).await;
    }
    until(|| server.tls.counts().read().waited_handshakes >= 1).await;
    let socket = connect_from("127.0.0.2:0", &server).await;
    let other = Server::handshake(Arc::new(server.client(None)), socket).await.unwrap();
    assert!(get(other, "/who").await.is_ok());
    let failed = server.tls.counts().read().failed_handshakes;
    assert!(failed.contains(&("crowded_out", 1)), "{failed:?}");
    server.begin_shutdown();
    within(Duration::from_secs(10), &mut server.task).await.unwrap();
}

#[tokio::test]
async fn no_rate_of_handshakes_is_none() {
    let server = Server::start(Limits { handshake_rate_per_address: 0, ..long() }).await;
    for _ in 0..10 {
        assert_eq!(server.who(server.client(None)).await.unwrap(), "HTTP/1.1 nobody");
    }
    assert_eq!(server.tls.counts().read().waited_handshakes, 0);
}

async fn connect_from(address: &str, server: &Server) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let server = Server::start(Limits { max_header_bytes: 8 * 1024, ..long() }).await;
    let long_header = |length| format!("X: {}\r\n", "y".repeat(length));
    for (length, status) in [(7 * 1024, "200"), (9 * 1024, "431"), (1 << 20, "431")] {
        let mut connection = server.connect(server.client(None), "http/1.1").await.unwrap();
        let head = format!(
            "GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n",
            long_header(length)
        );
        // The server may close before it has read everything.
        let _ = connection.write_all(head.as_bytes()).await;
        let mut answer = vec![0; 12];
        if connection.read_exact(&mut answer).await.is_ok() {
            assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
        } else {
            assert_eq!(status, "431");
        }
    }
    for (length, good) in [(7 * 1024, true), (9 * 1024, false)] {
        let socket = server.connect(server.client(None), "h2").await.unwrap();
        let mut client = http2_client(socket).await.unwrap();
        let mut request = request("/who");
        request.headers_mut().insert("x", "y".repeat(length).parse().unwrap());
        let answer = client.send_request(request).await;
        assert_eq!(answer.is_ok_and(|answer| answer.status() == 200), good, "{length}");
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_wait() {
    let server = Server::start(Limits { max_concurrent_streams: 2, ..long() }).await;
    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut client = http2_client(socket).await.unwrap();
    // The client knows the server's limit once it has had an answer.
    client.send_request(request("/who")).await.unwrap();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(
                async move { text(client.send_request(request("/slow")).await.unwrap()).await },
            )
        })
        .collect();
    until(|| server.seen.slow_begun.load(SeqCst) == 2).await;
    sleep(SHORT / 2).await;
    assert_eq!(server.seen.slow_begun.load(SeqCst), 2);
    server.seen.release.notify_one();
    until(|| server.seen.slow_begun.load(SeqCst) == 3).await;
    server.seen.release.notify_one();
    server.seen.release.notify_one();
    for task in tasks {
        assert_eq!(within(Duration::from_secs(5), task).await.unwrap(), "slow");
    }
}

/// A body that is empty, or never comes.
struct Absent {
    ends: bool,
}

impl hyper::body::Body for Absent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ends { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.ends
    }
}

/// Whether somebody is answered at once beside three requests of the same connection that are not, with bodies that
/// never come or without any.
async fn is_answered_beside(max_streams_per_address: u32, ends: bool) -> bool {
    let server = Server::start(Limits { max_streams_per_address, ..long() }).await;
    let socket = TokioIo::new(server.connect(server.client(None), "h2").await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str, ends| {
        let uri = format!("https://localhost{path}");
        Request::post(uri).body(Absent { ends }).unwrap()
    };
    let slow: Vec<_> = (0..3).map(|_| client.send_request(request("/slow", ends))).collect();
    let slow = tokio::spawn(join_all(slow));
    let begun = if ends { max_streams_per_address.saturating_add(1).min(3) } else { 3 };
    until(|| server.seen.slow_begun.load(SeqCst) >= begun as usize).await;
    let mut asked = pin!(client.send_request(request("/who", true)));
    let at_once = timeout(2 * SHORT, &mut asked).await.is_ok();
    if !at_once {
        // For a second at the most.
        assert_eq!(within(LONG, asked).await.unwrap().status(), 200);
    }
    slow.abort();
    at_once
}

#[tokio::test]
async fn requests_of_one_address_take_turns_but_for_those_with_bodies() {
    assert!(!is_answered_beside(1, true).await);
    assert!(is_answered_beside(1, false).await);
    assert!(is_answered_beside(u32::MAX, true).await);
}

#[tokio::test]
async fn a_panic_ends_no_more_than_its_connection() {
    let server = Server::start(long()).await;
    let connection = server.connect(server.client(None), "http/1.1").await.unwrap();
    assert!(get(connection, "/panic").await.is_err());
    server.assert_serves().await;

    let socket = server.connect(server.client(None), "h2").await.unwrap();
    let mut client = http2_client(socket).await.unwrap();
    assert!(client.send_request(request("/panic")).await.is_err());
    let answer = client.send_request(request("/who")).await.unwrap();
    assert_eq!(text(answer).await, "HTTP/2.0 nobody");
    server.assert_serves().await;
}
