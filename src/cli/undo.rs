//! What is undone where a signal ends a command: a file that is not finished, a terminal that shows nothing.
//!
//! SIGINT and SIGTERM alone: what a kill or a power cut leaves behind does no harm, and goes with the next backup of
//! that name.

use std::{
    collections::BTreeMap,
    fmt, io,
    process::exit,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

/// Something that is undone where a signal comes while this is there.
pub(super) struct OnSignal(u64);

impl OnSignal {
    /// From now on, a signal ends the process after it has run `undo`, which must not wait for anything.
    pub(super) fn run(undo: impl FnOnce() + Send + 'static) -> Self {
        let mut undos = lock();
        undos.next += 1;
        let id = undos.next;
        undos.all.insert(id, Box::new(undo));
        if !undos.is_watched {
            match watch() {
                Ok(()) => undos.is_watched = true,
                Err(error) => tracing::debug!(%error, "signals cannot be watched"),
            }
        }
        Self(id)
    }
}

impl Drop for OnSignal {
    fn drop(&mut self) {
        lock().all.remove(&self.0);
    }
}

impl fmt::Debug for OnSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnSignal").finish_non_exhaustive()
    }
}

/// All that is to be undone, in the order in which it was done.
struct Undos {
    all: BTreeMap<u64, Box<dyn FnOnce() + Send>>,
    next: u64,
    is_watched: bool,
}

static UNDOS: Mutex<Undos> = Mutex::new(Undos { all: BTreeMap::new(), next: 0, is_watched: false });

fn lock() -> MutexGuard<'static, Undos> {
    // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
    UNDOS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for signals in a thread of its own: the one that works may wait for a terminal, outside any runtime.
fn watch() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(inside);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            }
        });
        // Held to the end, so that nothing is begun or ended meanwhile.
        let mut undos = lock();
        while let Some((_, undo)) = undos.all.pop_last() {
            undo();
        }
        exit(ENDED_BY_SIGNAL + number)
    })?;
    Ok(())
}

/// A shell tells so by its number above this which signal has ended a command.
const ENDED_BY_SIGNAL: i32 = 128;
