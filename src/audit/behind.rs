//! A checkpoint on its way to the disk, in a thread of its own, while records are written.
//!
//! First the disk has the checkpoint, then the keys: a key is destroyed after what it has signed is safe. Whoever
//! drops what stands for it waits for the thread, which must not write where another process has the lock by then.
//!
//! Further sinks get the line of a checkpoint before the disk has it, as they get records that are not synced: after
//! a power cut, they may have lines that the files lack.

use std::{
    fs::File,
    io, mem,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use super::{folder, head::Synced, keys};

/// What is to be done for a checkpoint.
pub(super) struct Work {
    /// The last file of the chain, opened for this.
    pub(super) file: File,
    /// Where it is.
    pub(super) path: PathBuf,
    /// The keys that come after the checkpoint, as the disk is to have them.
    pub(super) keys: Zeroizing<String>,
}

/// What was not done.
#[derive(Debug)]
pub(super) enum NotDone {
    /// The disk has not taken the checkpoint, nor perhaps what came before it.
    Synced(io::Error),
    /// The disk has the checkpoint, and may have the keys of before.
    Saved(io::Error),
}

/// A thread that does it.
pub(super) struct Behind {
    /// There until somebody has waited for it.
    thread: Option<JoinHandle<Result<(), NotDone>>>,
    end: Synced,
    since: Instant,
}

impl Work {
    /// Has the disk take all of the file, and then the keys.
    pub(super) fn run(self) -> Result<(), NotDone> {
        self.file.sync_data().map_err(NotDone::Synced)?;
        // What somebody has put in the place of this folder has keys of its own, perhaps.
        if !folder::is_at(&self.path, &self.file).map_err(NotDone::Saved)? {
            return Err(NotDone::Saved(io::Error::other("another file is in its place")));
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        keys::replace(folder, &self.keys).map_err(NotDone::Saved)
    }

    /// The same, in a thread.
    pub(super) fn spawn(self) -> io::Result<JoinHandle<Result<(), NotDone>>> {
        thread::Builder::new().name("okmsd-audit-key".to_owned()).spawn(|| self.run())
    }
}

impl Behind {
    /// The checkpoint `end`, and the thread that works for it from now on.
    pub(super) fn new(thread: JoinHandle<Result<(), NotDone>>, end: Synced) -> Self {
        Self { thread: Some(thread), end, since: Instant::now() }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// For how long it has been on its way.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits for it. Gives the checkpoint, and what became of it.
    pub(super) fn wait(mut self) -> (Synced, Result<(), NotDone>) {
        let done = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => done,
            _ => Err(NotDone::Synced(io::Error::other("the thread panicked"))),
        };
        (mem::take(&mut self.end), done)
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Nobody asks any more what became of it: a start looks for itself.
            let _ended = thread.join();
        }
    }
}
