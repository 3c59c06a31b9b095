//! The queue between the requests and the thread that writes their records.
//!
//! To wake a thread costs more than to write a record. So a record that finds the queue empty does not wake it at
//! once: whoever brought it lets those requests come first that are ready besides, and wakes the thread for all of
//! them. With 32 connections that read, a batch has ten records and more instead of one or two.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The end at which things are put in. When it is dropped, the other end comes to know.
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The end at which things are taken out. When it is dropped, nothing is put in any more.
pub(super) struct Receiver<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    woken: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    /// What is there is to be taken now.
    awake: bool,
    /// The other end is gone.
    alone: bool,
}

/// Why something was not put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no room.
    Full,
    /// Nobody takes anything out any more.
    Gone,
}

/// What was found by whoever takes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Something, or it was woken.
    Woken,
    /// The time was up.
    TimedOut,
    /// Nothing comes any more.
    Gone,
}

/// A queue that holds so many things at most.
pub(super) fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), awake: false, alone: false };
    let shared = Shared { state: Mutex::new(state), woken: Condvar::new(), capacity };
    let shared = Arc::new(shared);
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts something in, and wakes the other end.
    pub(super) fn send(&self, item: T) -> Result<(), Refused> {
        let put = self.put(item);
        self.wake();
        put.map(|_| ())
    }

    /// Puts something in. True where the queue was empty: whoever called is to [wake](Self::wake) the other end
    /// soon, whatever happens. Where it was not, somebody else is about to.
    pub(super) fn put(&self, item: T) -> Result<bool, Refused> {
        let mut state = self.0.state();
        if state.alone {
            return Err(Refused::Gone);
        }
        if state.items.len() >= self.0.capacity {
            return Err(Refused::Full);
        }
        state.items.push_back(item);
        Ok(state.items.len() == 1)
    }

    /// Has the other end take what is there.
    pub(super) fn wake(&self) {
        let was_awake = std::mem::replace(&mut self.0.state().awake, true);
        if !was_awake {
            self.0.woken.notify_one();
        }
    }
}

impl<T> Receiver<T> {
    /// Waits until it is woken, until `deadline` if there is one, and takes out so many things at most.
    pub(super) fn take(&self, deadline: Option<Instant>, most: usize) -> (VecDeque<T>, Taken) {
        let mut state = self.0.state();
        while !state.awake && !state.alone {
            state = match deadline {
                None => self.0.woken.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let time = deadline.saturating_duration_since(Instant::now());
                    if time.is_zero() {
                        break;
                    }
                    let waited = self.0.woken.wait_timeout(state, time);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let taken = match (state.awake, state.alone && state.items.is_empty()) {
            (true, _) => Taken::Woken,
            (false, true) => Taken::Gone,
            (false, false) => Taken::TimedOut,
        };
        let number = state.items.len().min(most);
        let items = state.items.drain(..number).collect();
        // What is left is taken at once.
        state.awake = !state.items.is_empty();
        (items, taken)
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Each change is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state().alone = true;
        self.0.woken.notify_one();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.alone = true;
        // Whoever waits for what is in there is told by that it is dropped.
        state.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn what_is_put_in_is_taken_in_one_piece_once_somebody_wakes() {
        let (sender, receiver) = queue(3);
        assert_eq!([1, 2, 3].map(|item| sender.put(item)), [Ok(true), Ok(false), Ok(false)]);
        assert_eq!(sender.put(4), Err(Refused::Full));
        let (items, taken) = thread::scope(|scope| {
            let taker = scope.spawn(|| receiver.take(None, 10));
            sender.wake();
            taker.join().unwrap()
        });
        assert_eq!((Vec::from(items), taken), (vec![1, 2, 3], Taken::Woken));
        assert_eq!(sender.put(5), Ok(true));
    }

    #[test]
    fn what_is_left_behind_needs_no_second_waking() {
        let (sender, receiver) = queue(8);
        for item in 0..5 {
            sender.send(item).unwrap();
        }
        let take = || Vec::from(receiver.take(None, 2).0);
        assert_eq!([take(), take(), take()], [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn time_and_the_other_end_end_a_wait() {
        let (sender, receiver) = queue(8);
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(receiver.take(Some(soon), 8).1, Taken::TimedOut);
        sender.put(1).unwrap();
        drop(sender);
        // What nobody woke it for is not lost.
        assert_eq!(Vec::from(receiver.take(None, 8).0), [1]);
        assert_eq!(receiver.take(None, 8).1, Taken::Gone);

        let (sender, receiver) = queue(8);
        let item = Arc::new(());
        sender.put(Arc::clone(&item)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1, "whoever waits for it is told");
        assert_eq!(sender.send(item), Err(Refused::Gone));
    }
}
