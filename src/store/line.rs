//! How many may wait for the database, so that memory stays flat and who would wait for long is told at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::StoreError;
use crate::domain::Error;

/// Those who wait for one thing, and how many they may be.
pub(super) struct Line {
    limit: AtomicUsize,
    length: AtomicUsize,
}

/// A place in the line, which ends with this value.
pub(super) struct InLine<'l>(&'l Line);

impl Line {
    /// From now on, so many may wait.
    pub(super) fn limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A place at the end; none where the line is full.
    pub(super) fn enter(&self) -> Option<InLine<'_>> {
        let place = InLine(self);
        let before = self.length.fetch_add(1, Ordering::Relaxed);
        // Where it is full, the place is given back at once.
        (before < self.limit.load(Ordering::Relaxed)).then_some(place)
    }
}

impl Default for Line {
    /// Without a limit.
    fn default() -> Self {
        Self { limit: AtomicUsize::new(usize::MAX), length: AtomicUsize::new(0) }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.length.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those who may wait for the writer of SQLite, or for a connection to PostgreSQL: at some thousand pieces of work a
/// second, more would wait for seconds.
pub(super) const DEFAULT_QUEUE_LENGTH: usize = 4_096;
/// What can be set for that.
pub(super) const LONGEST_QUEUE: usize = 65_536;

/// What is told to whom no place is given.
pub(super) fn full() -> StoreError {
    Error::Unavailable("too many wait for the database".into()).into()
}
