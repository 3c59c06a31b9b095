//! How many may wait for the database, so that memory stays flat and who would wait for long is told at once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::StoreError;
use crate::domain::Error;

/// Those who wait for one thing, and how many they may be.
pub(super) struct Line {
    limit: AtomicUsize,
    length: AtomicUsize,
    refused: AtomicU64,
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
        if before >= self.limit.load(Ordering::Relaxed) {
            // The place is given back at once.
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(place)
    }

    /// How many wait.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed) as u64
    }

    /// How many were given no place, since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Default for Line {
    fn default() -> Self {
        let limit = AtomicUsize::new(DEFAULT_QUEUE_LENGTH);
        Self { limit, length: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.length.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those who may wait for a connection to the database, or for the writer of SQLite: at some thousand pieces of work a
/// second, more would wait for seconds.
pub(super) const DEFAULT_QUEUE_LENGTH: usize = 4_096;
/// What can be set for that.
pub(super) const LONGEST_QUEUE: usize = 65_536;

/// What is told to whom no place is given.
pub(super) fn full() -> StoreError {
    Error::Unavailable("too many wait for the database".into()).into()
}
