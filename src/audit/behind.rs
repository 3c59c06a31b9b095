//! A checkpoint on its way to the disk, in a thread of its own, while records are written.
//!
//! First the disk has the checkpoint, then the keys: a key is destroyed after what it has signed is safe.

use std::{
    fs::File,
    io,
    path::PathBuf,
    thread::{self, JoinHandle},
};

use zeroize::Zeroizing;

use super::{head::Synced, keys};

/// What a thread does for a checkpoint.
pub(super) struct Behind {
    pub(super) thread: JoinHandle<Result<(), NotDone>>,
    /// The checkpoint.
    pub(super) end: Synced,
}

/// What was not done.
pub(super) enum NotDone {
    /// The disk has not taken the checkpoint, nor perhaps what came before it.
    Synced(io::Error),
    /// The disk has the checkpoint, and may have the keys of before.
    Saved(io::Error),
}

impl Behind {
    /// Has the disk take all of the file, and then the text of the keys, for the chain in that folder.
    pub(super) fn start(
        file: File,
        end: Synced,
        keys: Zeroizing<String>,
        folder: PathBuf,
    ) -> io::Result<Self> {
        let work = move || {
            file.sync_data().map_err(NotDone::Synced)?;
            keys::replace(&folder, &keys).map_err(NotDone::Saved)
        };
        let thread = thread::Builder::new().name("okmsd-audit-key".to_owned()).spawn(work)?;
        Ok(Self { thread, end })
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for it, and gives what the disk has.
    pub(super) fn wait(self) -> Result<Synced, NotDone> {
        let panicked = |_| Err(NotDone::Synced(io::Error::other("the thread panicked")));
        self.thread.join().unwrap_or_else(panicked).map(|()| self.end)
    }
}
