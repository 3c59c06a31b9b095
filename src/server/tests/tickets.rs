use std::sync::Arc;

use rustls::{HandshakeKind, server::ProducesTickets};

use super::{Connection, ManualClock, NOW, Server, VERSIONS, get};
use crate::{
    domain::Timestamp,
    server::{Limits, tls::Tickets},
};

/// Half of what a ticket may live.
const KEY_SECONDS: i64 = 30 * 60;
const TICKET_SECONDS: i64 = 2 * KEY_SECONDS;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + seconds * 1_000)
}

fn tickets() -> (Arc<ManualClock>, Tickets) {
    let clock = ManualClock::new();
    (clock.clone(), Tickets::new(clock))
}

#[test]
fn a_ticket_is_read_for_an_hour_of_our_clock_and_no_longer() {
    for idle in [TICKET_SECONDS, 2 * TICKET_SECONDS, 20 * TICKET_SECONDS] {
        let (clock, tickets) = tickets();
        let ticket = tickets.encrypt(b"session").unwrap();
        for seconds in [0, KEY_SECONDS - 1, KEY_SECONDS, TICKET_SECONDS - 1] {
            clock.set(at(seconds));
            let read = tickets.decrypt(&ticket);
            assert_eq!(read.as_deref(), Some(&b"session"[..]), "after {seconds}");
        }
        // Nothing was made in the meantime: no key has been replaced by another one.
        clock.set(at(idle));
        assert_eq!(tickets.decrypt(&ticket), None, "after {idle}");
    }
}

#[test]
fn a_key_that_was_idle_for_hours_is_not_the_previous_one_of_the_next() {
    let (clock, tickets) = tickets();
    let old = tickets.encrypt(b"old").unwrap();
    clock.set(at(10 * TICKET_SECONDS));
    let new = tickets.encrypt(b"new").unwrap();
    assert_eq!(tickets.decrypt(&old), None);
    assert_eq!(tickets.decrypt(&new).as_deref(), Some(&b"new"[..]));
}

#[test]
fn the_key_before_is_read_beside_the_present_one() {
    let (clock, tickets) = tickets();
    let old = tickets.encrypt(b"old").unwrap();
    clock.set(at(KEY_SECONDS));
    let new = tickets.encrypt(b"new").unwrap();
    assert_eq!(tickets.decrypt(&old).as_deref(), Some(&b"old"[..]));
    clock.set(at(TICKET_SECONDS));
    assert_eq!(tickets.decrypt(&old), None);
    assert_eq!(tickets.decrypt(&new).as_deref(), Some(&b"new"[..]));
    // The newer one has an hour of its own.
    clock.set(at(KEY_SECONDS + TICKET_SECONDS));
    assert_eq!(tickets.decrypt(&new), None);
}

/// After a clock was put back, a key would live for as long again.
#[test]
fn a_key_from_the_future_is_forgotten() {
    let (clock, tickets) = tickets();
    let ticket = tickets.encrypt(b"session").unwrap();
    clock.set(at(-1));
    assert_eq!(tickets.decrypt(&ticket), None);
    clock.set(NOW);
    assert_eq!(tickets.decrypt(&ticket), None);
}

/// The client's clock stands still: it is the server that refuses.
#[tokio::test]
async fn a_session_is_not_resumed_after_an_hour() {
    let kind = |connection: &Connection| connection.get_ref().1.handshake_kind().unwrap();
    for version in VERSIONS {
        let server = Server::start(Limits::default()).await;
        let mut client = server.client_with(Some(server.access()), &[version]);
        client.time_provider = ManualClock::new();
        let client = Arc::new(client);
        for (seconds, resumed) in [(0, false), (0, true), (TICKET_SECONDS, false)] {
            server.clock.set(at(seconds));
            let connection = server.connect_shared(client.clone()).await.unwrap();
            let found = kind(&connection) == HandshakeKind::Resumed;
            assert_eq!(found, resumed, "{:?} after {seconds}", version.version);
            get(connection, "/who").await.unwrap();
        }
    }
}
