//! Turns to look tokens up that anybody may have made up.
//!
//! Anybody can send such tokens without end, and each costs a read of the store. So few of them are looked up at a time, and of one address only one: those of other addresses come in between, however many there are
//! of the one. A token that counted when it was last looked up is not made up, and needs no turn.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quick_cache::sync::Cache;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    crypto::TokenHash,
    domain::{Error, network},
};

/// Gives turns.
pub(super) struct Lookups {
    /// Tokens that counted when they were last looked up.
    counted: Cache<TokenHash, ()>,
    turns: Semaphore,
    lines: Mutex<HashMap<IpAddr, Line>>,
}

/// Those of one address who have their turn or wait for it.
struct Line {
    turn: Arc<Semaphore>,
    length: usize,
}

/// A place in the line of an address.
struct Place<'l> {
    lookups: &'l Lookups,
    address: IpAddr,
    turn: Arc<Semaphore>,
}

/// A turn, which ends with this value.
pub(super) struct Turn<'l> {
    // In this order: the next of the address comes after all those that wait by now.
    _turn: SemaphorePermit<'l>,
    _own: tokio::sync::OwnedSemaphorePermit,
    _place: Place<'l>,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self {
            counted: Cache::new(KNOWN_TOKENS),
            turns: Semaphore::new(CONCURRENT_LOOKUPS),
            lines: Mutex::default(),
        }
    }

    /// Waits for a turn to look up a token that came from an address; none is needed for one
    /// that is known.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyRequests`] where too many of that address wait; [`Error::Unavailable`] where others hold all
    /// turns for too long.
    pub(super) async fn turn(
        &self,
        hash: TokenHash,
        address: IpAddr,
    ) -> Result<Option<Turn<'_>>, Error> {
        if self.counted.get(&hash).is_some() {
            return Ok(None);
        }
        let place = self.place(network(address));
        let own = timeout(LOOKUP_TIME, Arc::clone(&place.turn).acquire_owned()).await;
        // Neither semaphore is ever closed.
        let Ok(Ok(own)) = own else { return Err(Error::TooManyRequests) };
        let Ok(Ok(turn)) = timeout(LOOKUP_TIME, self.turns.acquire()).await else {
            return Err(Error::Unavailable("too many tokens to look up".into()));
        };
        Ok(Some(Turn { _turn: turn, _own: own, _place: place }))
    }

    /// Notes that a token counts.
    pub(super) fn remember(&self, hash: TokenHash) {
        if self.counted.get(&hash).is_none() {
            self.counted.insert(hash, ());
        }
    }

    /// Notes that a token does not count (any more).
    pub(super) fn forget(&self, hash: TokenHash) {
        self.counted.remove(&hash);
    }

    fn place(&self, address: IpAddr) -> Place<'_> {
        let mut lines = self.lines();
        let line = lines
            .entry(address)
            .or_insert_with(|| Line { turn: Arc::new(Semaphore::new(1)), length: 0 });
        line.length += 1;
        Place { lookups: self, address, turn: Arc::clone(&line.turn) }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<IpAddr, Line>> {
        // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.lookups.lines();
        if let Some(line) = lines.get_mut(&self.address) {
            line.length -= 1;
            if line.length == 0 {
                lines.remove(&self.address);
            }
        }
    }
}

/// Look-ups of unknown tokens at a time, of all addresses: a part of the connections that read, and each takes a
/// fraction of a millisecond.
const CONCURRENT_LOOKUPS: usize = 2;
/// How long one waits for those of its own address, and then for those of others: thousands of look-ups, and less than a
/// client waits for an answer.
const LOOKUP_TIME: Duration = Duration::from_secs(2);
/// Tokens that are known to count: some dozen bytes each, and more than a server has callers.
const KNOWN_TOKENS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{TokenKind, TokenText};

    fn token() -> TokenHash {
        TokenText::generate(TokenKind::Personal).unwrap().hash()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_holds_one_turn_and_leaves_the_other_to_others() {
        let (lookups, flood) = (Lookups::new(), address("192.0.2.1"));
        let held = lookups.turn(token(), flood).await.unwrap();
        let begun = tokio::time::Instant::now();
        for same in ["192.0.2.1", "::ffff:192.0.2.1"] {
            let refused = lookups.turn(token(), address(same)).await;
            assert!(matches!(refused, Err(Error::TooManyRequests)));
        }
        assert_eq!(begun.elapsed(), 2 * LOOKUP_TIME);
        // Many of the one wait; another one's turn comes at once.
        let waiting: Vec<_> = (0..100).map(|_| Box::pin(lookups.turn(token(), flood))).collect();
        let mut waiting = futures_util::future::join_all(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("they wait"),
            () = std::future::ready(()) => {}
        }
        let begun = tokio::time::Instant::now();
        let other = lookups.turn(token(), address("192.0.2.2")).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop((held, other, waiting));
        assert!(lookups.lines().is_empty(), "nothing is kept of those who are gone");
        assert!(lookups.turn(token(), flood).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_hold_no_more_than_two_turns() {
        let lookups = Lookups::new();
        let one = lookups.turn(token(), address("192.0.2.1")).await.unwrap();
        let _other = lookups.turn(token(), address("192.0.2.2")).await.unwrap();
        let refused = lookups.turn(token(), address("192.0.2.3")).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))));
        drop(one);
        assert!(lookups.turn(token(), address("192.0.2.3")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_counts_needs_no_turn_until_it_does_not() {
        let (lookups, flood, known) = (Lookups::new(), address("192.0.2.1"), token());
        let _held = lookups.turn(token(), flood).await.unwrap();
        lookups.remember(known);
        assert!(lookups.turn(known, flood).await.unwrap().is_none());
        lookups.forget(known);
        assert!(lookups.turn(known, flood).await.is_err());
    }
}
