//! Control frames of HTTP/2: found however they arrive, and no more of them read than may come.

use std::time::Duration;

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{
    super::frames::{Allowance, Frames},
    Connection, LARGE, PREFACE, Server, until, within,
};
use crate::server::Limits;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END: u8 = 5;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn control_frames_are_counted_in_whatever_parts_they_come(
        frames in prop::collection::vec((0_u8..12, 0_usize..300), 0..20),
        parts in prop::collection::vec(0_usize..60, 0..200),
    ) {
        let is_control = |(kind, len): &&(u8, usize)| *kind != DATA || *len == 0;
        let expected = frames.iter().filter(is_control).count();
        let frames = frames.iter().flat_map(|(kind, len)| frame(*kind, 0, 1, &vec![PING; *len]));
        let bytes: Vec<u8> = PREFACE.iter().copied().chain(frames).collect();
        let mut found = Frames::new();
        let (mut rest, mut counted) = (&bytes[..], 0);
        for part in parts {
            let (next, others) = rest.split_at(part.min(rest.len()));
            counted += found.control_frames(next);
            rest = others;
        }
        counted += found.control_frames(rest);
        prop_assert_eq!(counted as usize, expected);
    }
}

#[test]
fn as_many_as_the_rate_come_at_once_and_then_at_that_rate() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut allowance = Allowance::new(10, start).unwrap();
    assert_eq!(allowance.came(10, start), None);
    assert_eq!(allowance.came(1, start), Some(after(100)));
    assert_eq!(allowance.came(5, start), Some(after(600)));
    // None when it is over, and none by itself.
    assert_eq!(allowance.came(0, after(600)), None);
    assert_eq!(allowance.came(1, after(600)), Some(after(700)));
    // However long nothing came.
    assert_eq!(allowance.came(10, after(100_000)), None);
    assert_eq!(allowance.came(1, after(100_000)), Some(after(100_100)));
}

#[test]
fn requests_and_what_is_sent_earn_some_that_do_not_count() {
    let start = Instant::now();
    let mut allowance = Allowance::new(10, start).unwrap();
    allowance.sent(5_000);
    allowance.begun();
    // Four for what was sent, six for the request, and 904 bytes are left.
    assert_eq!(allowance.came(20, start), None);
    assert_eq!(allowance.came(1, start), Some(start + Duration::from_millis(100)));
    allowance.sent(119);
    assert_eq!(allowance.came(0, start), Some(start + Duration::from_millis(100)));
    allowance.sent(1);
    assert_eq!(allowance.came(1, start), Some(start + Duration::from_millis(100)), "earned");
    assert_eq!(allowance.came(1, start), Some(start + Duration::from_millis(200)));
}

#[test]
fn a_long_answer_earns_as_many_as_it_is_long_until_they_are_as_many_as_may_be() {
    let start = Instant::now();
    for (sent, earned) in [(1_000 * 1_024, 1_000), (1 << 24, 1 << 14), (1 << 26, 1 << 14)] {
        let mut allowance = Allowance::new(10, start).unwrap();
        allowance.sent(sent);
        // They may come when it is over.
        let later = start + Duration::from_secs(10);
        assert_eq!(allowance.came(earned + 10, later), None);
        assert!(allowance.came(1, later).is_some());
    }
}

#[test]
fn no_rate_is_no_limit() {
    assert!(Allowance::new(0, Instant::now()).is_none());
}

/// What a client says first.
fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat()
}

/// The head of a GET.
fn head(flags: u8, stream: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    frame(HEADERS, flags, stream, &[&[0x82, 0x87, 0x04, length], path.as_bytes()].concat())
}

async fn http2(server: &Server) -> Connection {
    server.connect(server.client(None), "h2").await.unwrap()
}

/// Sends so many pings, and then a request; reads all answers.
async fn ping(connection: &mut Connection, pings: usize) -> Duration {
    let flood = frame(PING, 0, 0, &[7; 8]).repeat(pings);
    let begun = Instant::now();
    connection.write_all(&[hello(), flood, head(END, 1, "/who")].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"HTTP/2.0 nobody") {
        assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0, "closed");
    }
    let pong = frame(PING, ACK, 0, &[7; 8]);
    assert_eq!(answer.windows(pong.len()).filter(|part| *part == pong).count(), pings);
    begun.elapsed()
}

#[tokio::test]
async fn more_control_frames_than_may_come_wait_and_are_in_nobodys_way() {
    let server = Server::start(Limits::default()).await;
    let mut connection = http2(&server).await;
    let others = async {
        for _ in 0..5 {
            server.assert_serves().await;
        }
    };
    // Four hundred, of which one read may be a hundred.
    let pinged = ping(&mut connection, 398);
    let (time, ()) = within(LONG, async { tokio::join!(pinged, others) }).await;
    assert!(time >= Duration::from_secs(1), "{time:?}");
    assert_eq!(server.tls.counts().read().waited_connections, 1);
}

#[tokio::test]
async fn as_many_control_frames_as_may_come_do_not_wait() {
    let unlimited = Limits { control_frames_per_connection: 0, ..Limits::default() };
    for (limits, pings) in [(Limits::default(), 97), (unlimited, 10_000)] {
        let server = Server::start(limits).await;
        let mut connection = http2(&server).await;
        within(LONG, ping(&mut connection, pings)).await;
        assert_eq!(server.tls.counts().read().waited_connections, 0);
    }
}

#[tokio::test]
async fn requests_with_all_that_clients_send_besides_never_wait() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let server = Server::start(Limits::default()).await;
    let mut connection = http2(&server).await;
    connection.write_all(&hello()).await.unwrap();
    for stream in (1..=255).step_by(2) {
        let request = [
            head(END & !1, stream, "/who"),
            frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 15]),
            frame(DATA, 1, stream, &[]),
        ];
        connection.write_all(&request.concat()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"HTTP/2.0 nobody") {
            let read = within(LONG, connection.read_buf(&mut answer)).await.unwrap();
            assert_ne!(read, 0, "closed");
        }
        let end = [frame(RST_STREAM, 0, stream, &CANCEL), frame(PING, 0, 0, &[7; 8])];
        connection.write_all(&end.concat()).await.unwrap();
    }
    assert_eq!(server.tls.counts().read().waited_connections, 0);
}

#[tokio::test]
async fn a_client_that_tells_of_its_room_all_the_time_never_waits() {
    let server = Server::start(Limits::default()).await;
    let mut connection = http2(&server).await;
    connection.write_all(&[hello(), head(END, 1, "/large")].concat()).await.unwrap();
    // Room for 4 KiB more, on the stream and on the connection, whenever so much has come.
    let more = [0, 1].map(|stream| frame(WINDOW_UPDATE, 0, stream, &4_096_u32.to_be_bytes()));
    let more = more.concat();
    let (mut read, mut told, mut buffer) = (0, 0, vec![0; 64 * 1_024]);
    while read < LARGE {
        let some = within(LONG, connection.read(&mut buffer)).await.unwrap();
        assert_ne!(some, 0, "closed after {read}");
        read += some;
        let whole = read / 4_096;
        connection.write_all(&more.repeat(whole - told)).await.unwrap();
        told = whole;
    }
    assert_eq!(server.tls.counts().read().waited_connections, 0);
}

#[tokio::test]
async fn a_connection_that_waits_is_in_nobodys_way_when_the_server_ends() {
    let mut server = Server::start(Limits { drain_time: LONG * 2, ..Limits::default() }).await;
    let mut connection = http2(&server).await;
    let flood = frame(PING, 0, 0, &[7; 8]).repeat(5_000);
    connection.write_all(&[hello(), flood].concat()).await.unwrap();
    until(|| server.tls.counts().read().waited_connections == 1).await;
    server.begin_shutdown();
    within(LONG, &mut server.task).await.unwrap();
}

const LONG: Duration = Duration::from_secs(60);
