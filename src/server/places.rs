//! Places for connections: how many there are, in all and of one client.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::Limits;
use crate::domain::network;

/// The places of a listener. What it keeps of a client ends with its last connection, so there is never more
/// of it than there are connections.
pub(super) struct Places {
    taken: Mutex<Taken>,
    limits: Limits,
    emptied: Notify,
}

#[derive(Default)]
struct Taken {
    all: Number,
    by_network: HashMap<IpAddr, Number>,
}

/// How many connections there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Number {
    open: u32,
    /// Of these, those whose handshake is not done.
    in_handshake: u32,
}

/// Which limit leaves no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Connections,
    ConnectionsOfAddress,
    Handshakes,
    HandshakesOfAddress,
}

/// A connection's place, which is free again when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
    in_handshake: bool,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let (taken, emptied) = (Mutex::default(), Notify::new());
        Arc::new(Self { taken, limits: limits.clone(), emptied })
    }

    /// A place for a connection of an address whose handshake is yet to come.
    ///
    /// # Errors
    ///
    /// Which limit leaves none.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let (network, limits) = (network(address), &self.limits);
        let mut taken = self.taken();
        let own = taken.by_network.get(&network).copied().unwrap_or_default();
        for (number, limit, full) in [
            (taken.all.open, limits.max_connections, Full::Connections),
            (own.open, limits.max_connections_per_address, Full::ConnectionsOfAddress),
            (taken.all.in_handshake, limits.max_handshakes, Full::Handshakes),
            (own.in_handshake, limits.max_handshakes_per_address, Full::HandshakesOfAddress),
        ] {
            // A limit of none would be a server that does nothing.
            if number >= limit.max(1) {
                return Err(full);
            }
        }
        taken.change(network, |number| {
            number.open += 1;
            number.in_handshake += 1;
        });
        Ok(Place { places: Arc::clone(self), network, in_handshake: true })
    }

    /// Waits until all places are free.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.taken().all.open == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn change(&mut self, network: IpAddr, change: impl Fn(&mut Number)) {
        change(&mut self.all);
        let own = self.by_network.entry(network).or_default();
        change(own);
        if own.open == 0 {
            self.by_network.remove(&network);
        }
    }
}

impl Place {
    /// The handshake is done.
    pub(super) fn handshake_done(&mut self) {
        if std::mem::take(&mut self.in_handshake) {
            self.places.taken().change(self.network, |number| number.in_handshake -= 1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let in_handshake = u32::from(self.in_handshake);
        let mut taken = self.places.taken();
        taken.change(self.network, |number| {
            number.open -= 1;
            number.in_handshake -= in_handshake;
        });
        if taken.all.open == 0 {
            self.places.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(limits: Limits) -> Arc<Places> {
        Places::new(&limits)
    }

    fn take(places: &Arc<Places>, address: &str) -> Result<Place, Full> {
        places.take(address.parse().unwrap())
    }

    #[test]
    fn connections_of_all_and_of_one_network_are_counted() {
        let places = places(Limits {
            max_connections: 3,
            max_connections_per_address: 2,
            ..Limits::default()
        });
        let one = take(&places, "2001:db8::1").unwrap();
        let _two = take(&places, "2001:db8::ffff:2").unwrap();
        assert_eq!(take(&places, "2001:db8::3").err(), Some(Full::ConnectionsOfAddress));
        let three = take(&places, "192.0.2.1").unwrap();
        assert_eq!(take(&places, "192.0.2.2").err(), Some(Full::Connections));
        drop(one);
        let four = take(&places, "2001:db8::4").unwrap();
        assert_eq!(take(&places, "2001:db8::4").err(), Some(Full::Connections));
        drop((_two, three, four));
        assert_eq!(places.taken().all, Number::default());
        assert!(places.taken().by_network.is_empty(), "nothing is kept of those who are gone");
    }

    #[test]
    fn a_handshake_takes_a_place_until_it_is_done_or_given_up() {
        let places = places(Limits {
            max_handshakes: 2,
            max_handshakes_per_address: 1,
            ..Limits::default()
        });
        let mut one = take(&places, "192.0.2.1").unwrap();
        assert_eq!(take(&places, "192.0.2.1").err(), Some(Full::HandshakesOfAddress));
        one.handshake_done();
        one.handshake_done();
        let two = take(&places, "192.0.2.1").unwrap();
        let _three = take(&places, "192.0.2.2").unwrap();
        assert_eq!(take(&places, "192.0.2.3").err(), Some(Full::Handshakes));
        drop(two);
        assert!(take(&places, "192.0.2.3").is_ok());
        drop(one);
        assert_eq!(places.taken().all, Number { open: 1, in_handshake: 1 });
    }

    #[tokio::test]
    async fn one_can_wait_until_all_are_gone() {
        let places = places(Limits::default());
        places.empty().await;
        let place = take(&places, "192.0.2.1").unwrap();
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(place);
        waiting.await.unwrap();
    }
}
