//! How far it is, for a person who waits.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// A line on standard error that is written anew, where that is a terminal; taken away at the end.
pub(super) struct Progress {
    is_shown: bool,
    last: Cell<Option<Instant>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal(), last: Cell::new(None) }
    }

    /// So many rows are done.
    pub(super) fn rows(&self, rows: u64) {
        let is_due = self.last.get().is_none_or(|last| last.elapsed() >= INTERVAL);
        if self.is_shown && is_due {
            self.last.set(Some(Instant::now()));
            // Nobody waits where it is closed.
            let _closed = write!(io::stderr(), "\r{rows} rows");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.last.get().is_some() {
            let _closed = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// More often, nobody could read it.
const INTERVAL: Duration = Duration::from_millis(200);
