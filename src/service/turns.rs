//! Turns of lists, and of other long answers: few are worked on at a time, no caller holds up those of others,
//! and what its caller was allowed before it waited counts no more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Caller, Secrets, cursors::caller_name};
use crate::domain::Error;

/// Turns of which each caller has few at a time, and all callers together some more.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    /// The turns of callers that have one or wait for one.
    callers: Mutex<HashMap<Vec<u8>, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    of_all: OwnedSemaphorePermit,
    of_caller: OwnedSemaphorePermit,
}

impl Turns {
    /// So many in all, of which each caller has so many.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, callers: Mutex::default() }
    }

    /// Waits for a turn, and tells whether it took waiting. A caller waits for its own before it waits among
    /// all: there it stands no more often than it has turns, however much it asks for.
    async fn take(&self, caller: &Caller) -> Result<(Turn, bool), Error> {
        let (of_caller, waited_for_own) = acquire(self.of(caller)).await?;
        let (of_all, waited) = acquire(Arc::clone(&self.all)).await?;
        Ok((Turn { of_all, of_caller }, waited_for_own || waited))
    }

    fn of(&self, caller: &Caller) -> Arc<Semaphore> {
        // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|_, turns| turns.strong_count() > 0);
        let of_caller = callers.entry(caller_name(caller)).or_default();
        of_caller.upgrade().unwrap_or_else(|| {
            let turns = Arc::new(Semaphore::new(self.each));
            *of_caller = Arc::downgrade(&turns);
            turns
        })
    }
}

impl Turn {
    /// Lets others have the turn, but for the same caller.
    pub(super) fn leave_to_others(self) -> OwnedSemaphorePermit {
        drop(self.of_all);
        self.of_caller
    }
}

/// Waits for a permit, in the order in which they are asked for, and tells whether it took waiting.
async fn acquire(permits: Arc<Semaphore>) -> Result<(OwnedSemaphorePermit, bool), Error> {
    if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
        return Ok((permit, false));
    }
    let permit = permits.acquire_owned().await;
    let closed = |_| Error::Internal("nobody closes the semaphore".into());
    Ok((permit.map_err(closed)?, true))
}

/// One attempt at a long answer, by the rights that its caller has when it begins. All that it waits for, it
/// waits for here.
pub(super) struct Attempt<'a> {
    secrets: &'a Secrets,
    caller: &'a Caller,
    /// Looks since the caller was found out.
    looks: u32,
}

/// Why an attempt has ended early.
pub(super) enum Stop {
    Failed(Error),
    /// The caller has other rights now.
    Anew(Box<Caller>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Attempt<'a> {
    pub(super) const fn new(secrets: &'a Secrets, caller: &'a Caller) -> Self {
        Self { secrets, caller, looks: 0 }
    }

    /// Waits until there may be another look at rows, and keeps others waiting while there is.
    pub(super) async fn look(&mut self) -> Result<Turn, Stop> {
        self.looks += 1;
        self.take(&self.secrets.lists).await
    }

    /// Waits until the answer may become a very long one.
    pub(super) async fn grow_long(&mut self) -> Result<Turn, Stop> {
        self.take(&self.secrets.long_lists).await
    }

    /// Nothing that happened while it waited, or in many looks, is missed: neither that the caller counts no
    /// more, nor that it may do less or more.
    async fn take(&mut self, turns: &Turns) -> Result<Turn, Stop> {
        let (turn, waited) = turns.take(self.caller).await?;
        if waited || self.looks > LOOKS_OF_A_CALLER {
            self.looks = 0;
            let renewed = self.caller.renewed().await?;
            if !renewed.may_as_much_as(self.caller) {
                return Err(Stop::Anew(Box::new(renewed)));
            }
        }
        Ok(turn)
    }
}

/// Attempts at a long answer, until one ends by the rights by which it began.
pub(super) struct Attempts {
    caller: Caller,
    left: u32,
}

impl Attempts {
    pub(super) fn of(caller: &Caller) -> Self {
        Self { caller: caller.clone(), left: ATTEMPTS }
    }

    /// The caller of the next attempt.
    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What came of an attempt; `None` where there is to be another one.
    pub(super) fn end<T>(&mut self, attempt: Result<T, Stop>) -> Result<Option<T>, Error> {
        match attempt {
            Ok(done) => Ok(Some(done)),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Anew(caller)) => {
                self.caller = *caller;
                self.left -= 1;
                let given_up =
                    || Error::Unavailable("the caller's rights change all the time".into());
                (self.left > 0).then_some(None).ok_or_else(given_up)
            }
        }
    }
}

/// Lists that look at rows at a time, in all: each may hold some 20 MiB of rows, if someone has filled all
/// the custom metadata there can be, and must not keep single reads from the few connections there are.
pub(super) const CONCURRENT_LOOKS: usize = 3;
/// Those of one caller among them: with one, whoever asks for a thousand lists has one place among those who
/// wait, as everybody has.
pub(super) const CONCURRENT_LOOKS_OF_A_CALLER: usize = 1;
/// Very long lists at a time, in all: each takes some 100 MB until it is written.
pub(super) const CONCURRENT_LONG_LISTS: usize = 2;
/// Those of one caller, here until they are sent: it may take its time to read them.
pub(super) const CONCURRENT_LONG_LISTS_OF_A_CALLER: usize = 1;
/// After so many looks a caller is found out again, which costs as much as the least of them.
const LOOKS_OF_A_CALLER: u32 = 10;
/// Attempts at one answer: a caller's rights are changed by hand, and seldom.
const ATTEMPTS: u32 = 4;
