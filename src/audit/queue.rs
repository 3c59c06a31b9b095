//! The queue between the requests and the thread that writes their records.
//!
//! To wake a thread costs more than to write a record. So a record that finds the queue empty does not wake it at
//! once: whoever brought it lets those requests come first that are ready besides, and wakes the thread for all of
//! them, at the latest when there are [`ENOUGH`]. A batch then has ten records and more instead of one or two. What
//! it costs: where that request's own worker is kept busy for a moment, such as by a handshake, those of the
//! others wait so long too.
//!
//! Hot reads at 32 connections (`cargo bench --bench read`, a busy machine): 105 us of processor each before and 48
//! after, with records that requests render and fewer layers of routes in the same change.

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
        let put = self.put(item).map(drop);
        self.wake();
        put
    }

    /// Puts something in. The other end is woken for it when what is returned is dropped, or by somebody else.
    pub(super) fn put(&self, item: T) -> Result<Put<'_, T>, Refused> {
        let mut state = self.0.state();
        if state.alone {
            return Err(Refused::Gone);
        }
        if state.items.len() >= self.0.capacity {
            return Err(Refused::Full);
        }
        state.items.push_back(item);
        let waiting = state.items.len();
        drop(state);
        if waiting.is_multiple_of(ENOUGH) {
            self.wake();
        }
        Ok(Put { sender: self, first: waiting == 1 })
    }

    /// Looks at what is in the queue.
    pub(super) fn look<R>(&self, at: impl FnOnce(&VecDeque<T>) -> R) -> R {
        at(&self.0.state().items)
    }

    /// Has the other end take what is there.
    fn wake(&self) {
        let was_awake = std::mem::replace(&mut self.0.state().awake, true);
        if !was_awake {
            self.0.woken.notify_one();
        }
    }
}

/// Something that was put in. Whatever becomes of who did so, the other end is woken for it.
#[must_use]
pub(super) struct Put<'q, T> {
    sender: &'q Sender<T>,
    first: bool,
}

impl<T> Put<'_, T> {
    /// Whether it found the queue empty; else somebody else wakes the other end.
    pub(super) const fn is_first(&self) -> bool {
        self.first
    }
}

impl<T> Drop for Put<'_, T> {
    fn drop(&mut self) {
        if self.first {
            self.sender.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// Waits until it is woken, until `deadline` if there is one, and takes out so many things at most, which may
    /// be none. `None` where nothing comes any more.
    pub(super) fn take(&self, deadline: Option<Instant>, most: usize) -> Option<VecDeque<T>> {
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
        if state.alone && state.items.is_empty() {
            return None;
        }
        let number = state.items.len().min(most);
        let items = state.items.drain(..number).collect();
        // What is left is taken at once.
        state.awake = !state.items.is_empty();
        Some(items)
    }

    /// Lets nothing in any more, and takes out all that is there.
    pub(super) fn close(&self) -> VecDeque<T> {
        let mut state = self.0.state();
        state.alone = true;
        std::mem::take(&mut state.items)
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
        // Whoever waits for what is in there is told by that it is dropped.
        drop(self.close());
    }
}

/// Records that are not kept waiting for more: some hundred microseconds of work.
const ENOUGH: usize = 64;

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn what_is_put_in_is_taken_in_one_piece_once_the_first_wakes() {
        let (sender, receiver) = queue(3);
        let puts = [1, 2, 3].map(|item| sender.put(item).unwrap());
        assert_eq!(puts.each_ref().map(Put::is_first), [true, false, false]);
        assert_eq!(sender.put(4).map(drop), Err(Refused::Full));
        let [first, ..] = puts;
        let items = thread::scope(|scope| {
            let taker = scope.spawn(|| receiver.take(None, 10));
            drop(first);
            taker.join().unwrap()
        });
        assert_eq!(Vec::from(items.unwrap()), [1, 2, 3]);
        assert!(sender.put(5).unwrap().is_first());
    }

    #[test]
    fn what_was_taken_before_its_waking_leaves_the_next_to_wake_for_itself() {
        let (sender, receiver) = queue(8);
        let slow = sender.put(1).unwrap();
        assert_eq!(Vec::from(receiver.take(Some(Instant::now()), 8).unwrap()), [1]);
        let next = sender.put(2).unwrap();
        assert!(next.is_first());
        drop(next);
        assert_eq!(Vec::from(receiver.take(None, 8).unwrap()), [2]);
        drop(slow);
        assert_eq!(receiver.take(None, 8).unwrap().len(), 0);
    }

    #[test]
    fn many_do_not_wait_for_the_first_and_what_is_left_behind_needs_no_waking() {
        let (sender, receiver) = queue(ENOUGH);
        let first = sender.put(0).unwrap();
        for item in 1..ENOUGH {
            drop(sender.put(item).unwrap());
        }
        assert_eq!(receiver.take(None, 1).unwrap().len(), 1);
        assert_eq!(receiver.take(None, ENOUGH).unwrap().len(), ENOUGH - 1);
        drop(first);
    }

    #[test]
    fn a_full_queue_is_woken_all_the_same() {
        let (sender, receiver) = queue(1);
        let first = sender.put(1).unwrap();
        assert_eq!(sender.send(2), Err(Refused::Full));
        assert_eq!(Vec::from(receiver.take(None, 8).unwrap()), [1]);
        drop(first);
    }

    #[test]
    fn time_and_the_other_end_end_a_wait() {
        let (sender, receiver) = queue(8);
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(receiver.take(Some(soon), 8).unwrap().len(), 0);
        std::mem::forget(sender.put(1).unwrap());
        drop(sender);
        // What nobody woke it for is not lost.
        assert_eq!(Vec::from(receiver.take(None, 8).unwrap()), [1]);
        assert!(receiver.take(None, 8).is_none());

        let (sender, receiver) = queue(8);
        let item = Arc::new(());
        drop(sender.put(Arc::clone(&item)).unwrap());
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1, "whoever waits for it is told");
        assert_eq!(sender.send(item), Err(Refused::Gone));
    }
}
