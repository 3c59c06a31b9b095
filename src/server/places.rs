//! Places for connections: how many there are, in all and of one client.
//!
//! A handshake is for somebody of whom nothing is known, so a few clients that say nothing could hold all places for
//! it. When these are full, whoever holds most of them gives one up for a newcomer who holds fewer: the oldest, which
//! is the one that is least likely to be done in a moment. Who holds as many as any other gets none.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore, oneshot};

use super::Limits;
use crate::domain::{ClientMemory, network};

/// The places of a listener. What it keeps of a client ends with its last connection, so there is never more
/// of it than there are connections.
pub(super) struct Places {
    taken: Mutex<Taken>,
    limits: Limits,
    emptied: Notify,
}

#[derive(Default)]
struct Taken {
    open: usize,
    /// Of these, those whose handshake is not done.
    in_handshake: usize,
    by_network: HashMap<IpAddr, Own>,
    /// The networks with handshakes. The last one holds most of them, and the oldest of all that hold as many.
    crowds: BTreeSet<Crowd>,
    /// Handshakes that have begun, so that a later one has a higher number.
    begun: u64,
}

/// The connections of one network.
#[derive(Default)]
struct Own {
    open: usize,
    /// None before its first connection.
    shares: Option<Shares>,
    /// Those whose handshake is not done, by their numbers. Where the sender is dropped before that, the place is
    /// given up.
    handshakes: BTreeMap<u64, oneshot::Sender<()>>,
}

/// What the requests of one network share.
#[derive(Clone)]
struct Shares {
    /// Their turns.
    abreast: Arc<Semaphore>,
    memory: Arc<ClientMemory>,
}

/// How many handshakes a network has, the number of the oldest, and whose they are.
type Crowd = (usize, Reverse<u64>, IpAddr);

/// Which limit leaves no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Connections,
    ConnectionsOfAddress,
    Handshakes,
    HandshakesOfAddress,
    HandshakeRateOfAddress,
}

/// A connection's place, which is free again when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
    shares: Shares,
    handshake: Option<Handshake>,
}

/// A place for a handshake.
struct Handshake {
    number: u64,
    given_up: oneshot::Receiver<()>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let (taken, emptied) = (Mutex::default(), Notify::new());
        Arc::new(Self { taken, limits: limits.clone(), emptied })
    }

    /// A place for a connection of an address.
    ///
    /// # Errors
    ///
    /// Which limit leaves none.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let (network, limits) = (network(address), &self.limits);
        let mut taken = self.taken();
        let own_open = taken.by_network.get(&network).map_or(0, |own| own.open);
        if is_full(taken.open, limits.max_connections) {
            return Err(Full::Connections);
        }
        if is_full(own_open, limits.max_connections_per_address) {
            return Err(Full::ConnectionsOfAddress);
        }
        let shares = taken.change(network, |own| {
            own.open += 1;
            own.shares.get_or_insert_with(|| Shares::new(limits)).clone()
        });
        Ok(Place { places: Arc::clone(self), network, shares, handshake: None })
    }

    /// Waits until all places are free.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.taken().open == 0 {
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

fn is_full(number: usize, limit: u32) -> bool {
    // A limit of none would be a server that does nothing.
    number >= limit.max(1) as usize
}

impl Taken {
    fn change<T>(&mut self, network: IpAddr, change: impl FnOnce(&mut Own) -> T) -> T {
        let own = self.by_network.entry(network).or_default();
        if let Some(crowd) = own.crowd(network) {
            self.crowds.remove(&crowd);
        }
        let (open, in_handshake) = (own.open, own.handshakes.len());
        let changed = change(own);
        self.open = self.open - open + own.open;
        self.in_handshake = self.in_handshake - in_handshake + own.handshakes.len();
        self.crowds.extend(own.crowd(network));
        if own.open == 0 {
            self.by_network.remove(&network);
        }
        changed
    }
}

impl Shares {
    fn new(limits: &Limits) -> Self {
        let turns = (limits.max_streams_per_address as usize).clamp(1, Semaphore::MAX_PERMITS);
        let memory = ClientMemory::new(limits.max_memory_per_address);
        Self { abreast: Arc::new(Semaphore::new(turns)), memory }
    }
}

impl Own {
    fn crowd(&self, network: IpAddr) -> Option<Crowd> {
        let (oldest, _) = self.handshakes.first_key_value()?;
        Some((self.handshakes.len(), Reverse(*oldest), network))
    }
}

impl Place {
    /// Takes a place for the handshake, too, and for what it waits before. Another one may have to [give
    /// up](Place::given_up) its own for it.
    ///
    /// # Errors
    ///
    /// Which limit leaves none.
    pub(super) fn begin_handshake(&mut self) -> Result<(), Full> {
        let (network, limits) = (self.network, &self.places.limits);
        let mut taken = self.places.taken();
        let own = taken.by_network.get(&network).map_or(0, |own| own.handshakes.len());
        if is_full(own, limits.max_handshakes_per_address) {
            return Err(Full::HandshakesOfAddress);
        }
        if is_full(taken.in_handshake, limits.max_handshakes) {
            match taken.crowds.last() {
                Some(&(most, Reverse(oldest), crowd)) if own < most => {
                    taken.change(crowd, |own| own.handshakes.remove(&oldest));
                }
                _ => return Err(Full::Handshakes),
            }
        }
        taken.begun += 1;
        let number = taken.begun;
        let (gives_up, given_up) = oneshot::channel();
        taken.change(network, |own| own.handshakes.insert(number, gives_up));
        self.handshake = Some(Handshake { number, given_up });
        Ok(())
    }

    /// Waits until the handshake's place has to be given up for another.
    pub(super) async fn given_up(&mut self) {
        match &mut self.handshake {
            // Nothing is ever sent.
            Some(handshake) => drop((&mut handshake.given_up).await),
            None => pending().await,
        }
    }

    /// The turns of requests of the same network that run beside each other.
    pub(super) fn abreast(&self) -> &Semaphore {
        &self.shares.abreast
    }

    /// What requests of the same network hold.
    pub(super) fn memory(&self) -> &Arc<ClientMemory> {
        &self.shares.memory
    }

    /// The handshake is done.
    pub(super) fn handshake_done(&mut self) {
        if let Some(Handshake { number, .. }) = self.handshake.take() {
            self.places.taken().change(self.network, |own| own.handshakes.remove(&number));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshake_done();
        let mut taken = self.places.taken();
        taken.change(self.network, |own| own.open -= 1);
        if taken.open == 0 {
            self.places.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn places(limits: Limits) -> Arc<Places> {
        Places::new(&limits)
    }

    /// A place for a connection in its handshake.
    fn take(places: &Arc<Places>, address: &str) -> Result<Place, Full> {
        let mut place = places.take(address.parse().unwrap())?;
        place.begin_handshake().map(|()| place)
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
        let taken = places.taken();
        assert_eq!((taken.open, taken.in_handshake, taken.crowds.len()), (0, 0, 0));
        assert!(taken.by_network.is_empty(), "nothing is kept of those who are gone");
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
        drop(two);
        let _three = take(&places, "192.0.2.2").unwrap();
        let _four = take(&places, "192.0.2.3").unwrap();
        drop(one);
        let taken = places.taken();
        assert_eq!((taken.open, taken.in_handshake, taken.crowds.len()), (2, 2, 2));
    }

    /// Whether a place is to be given up.
    fn is_given_up(place: &mut Place) -> bool {
        place.given_up().now_or_never().is_some()
    }

    #[test]
    fn whoever_holds_most_handshakes_gives_up_the_oldest_for_one_who_holds_fewer() {
        let places = places(Limits { max_handshakes: 6, ..Limits::default() });
        let [few, many, one] = ["192.0.2.1", "2001:db8::1", "192.0.2.3"];
        let addresses = [few, many, many, few, many, one];
        let mut held = addresses.map(|address| take(&places, address).unwrap());
        assert_eq!(take(&places, many).err(), Some(Full::Handshakes), "of the same network");
        assert_eq!(take(&places, "2001:db8::2").err(), Some(Full::Handshakes));
        assert!(!held.iter_mut().any(is_given_up));

        let _newcomer = take(&places, "192.0.2.9").unwrap();
        assert_eq!(held.each_mut().map(is_given_up), [false, true, false, false, false, false]);
        // All three have two now at the most; of those who do, the oldest goes.
        assert_eq!(take(&places, few).err(), Some(Full::Handshakes));
        let _another = take(&places, "192.0.2.10").unwrap();
        assert!(is_given_up(&mut held[0]));
        // One that is done holds no place for handshakes, and need give up none.
        held[2].handshake_done();
        let _free = take(&places, few).unwrap();
        let _more = take(&places, "192.0.2.11").unwrap();
        assert!(is_given_up(&mut held[3]));
        assert!(!is_given_up(&mut held[4]) && !is_given_up(&mut held[5]));

        let taken = places.taken();
        assert_eq!(
            (taken.open, taken.in_handshake),
            (10, 6),
            "until they are dropped, all are open"
        );
        drop(taken);
        drop((held, _newcomer, _another, _free, _more));
        let taken = places.taken();
        assert_eq!((taken.open, taken.in_handshake, taken.crowds.len()), (0, 0, 0));
        assert!(taken.by_network.is_empty());
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
