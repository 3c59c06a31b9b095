//! Memory that the requests of one client hold: bodies on their way in, answers on their way out.
//!
//! A client that reads nothing of what it asked for leaves it here, a hundred answers on each of a thousand
//! connections, and one that sends half of a body leaves that. So it is counted, from when it is there until its last
//! byte is gone.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What the requests of one client hold.
#[derive(Debug)]
pub struct ClientMemory {
    held: AtomicUsize,
    limit: usize,
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Arc<ClientMemory>,
    bytes: usize,
}

impl ClientMemory {
    /// That of a client whose requests may hold so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit })
    }

    /// Whether so much is held that no other request may begin.
    pub fn is_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether twice as much is held, as where requests go on to come that are refused, and even that is not read.
    pub fn is_overdrawn(&self) -> bool {
        self.held.load(Ordering::Relaxed) / 2 >= self.limit
    }

    /// Counts bytes until what this gives is dropped.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Held { memory: Arc::clone(self), bytes }
    }
}

impl Held {
    /// Counts so many bytes from now on, where that is more than before: false where the client holds too much
    /// already.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        if self.memory.is_full() {
            return false;
        }
        self.memory.held.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let memory = ClientMemory::new(10);
        let mut one = memory.hold(4);
        assert!(!memory.is_full());
        assert!(one.grow(3) && one.grow(9) && !memory.is_full());
        let two = memory.hold(1);
        assert!(memory.is_full() && !memory.is_overdrawn());
        assert!(one.grow(9) && !one.grow(11), "nothing more where it is full");
        let three = memory.hold(10);
        assert!(memory.is_overdrawn());
        drop((one, three));
        assert!(!memory.is_full());
        drop(two);
        assert_eq!(memory.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_limit_is_never_reached() {
        let memory = ClientMemory::new(usize::MAX);
        let _held = memory.hold(usize::MAX / 2);
        assert!(!memory.is_full() && !memory.is_overdrawn());
    }
}
