//! Checkpoints: lines are signed, and the key is destroyed.

use std::{fs::File, io, os::unix::fs::MetadataExt, path::PathBuf, thread::JoinHandle};

use tracing::warn;

use super::{
    super::{
        behind::{Behind, NotDone, Work},
        folder,
        line::{Entry, LINE_DOMAIN, Pending, What, hash, sign},
    },
    Chain, Fault,
};
use crate::domain::Timestamp;

impl Chain {
    /// Signs all lines that are not signed yet, and destroys the key.
    pub(in crate::audit) fn checkpoint(&mut self, now: Timestamp) -> Result<(), Fault> {
        if !self.untold.is_empty() {
            self.append(&[], true)?;
        }
        self.save_keys()?;
        if self.unsigned == 0 {
            return Ok(());
        }
        self.write_checkpoint(now, true)?;
        self.disk_has(self.end());
        self.keys.advance_line()?;
        let saved = self.keys.save(&self.folder);
        self.write_head();
        Ok(saved?)
    }

    /// The same, without waiting for the disk: a thread has it take the checkpoint, and destroys the key after that.
    /// Until it has, nothing is signed, and `head` says that the disk has less.
    ///
    /// All requests would wait meanwhile, each second: for a millisecond, and for as long as a disk takes that is
    /// busy with something else.
    pub(in crate::audit) fn checkpoint_behind(&mut self, now: Timestamp) -> Result<(), Fault> {
        self.checkpoint_by(now, Work::spawn)
    }

    /// The same, in the thread that `spawn` gives.
    pub(in crate::audit) fn checkpoint_by(
        &mut self,
        now: Timestamp,
        spawn: impl FnOnce(Work) -> io::Result<JoinHandle<Result<(), NotDone>>>,
    ) -> Result<(), Fault> {
        if !self.untold.is_empty() {
            return self.checkpoint(now);
        }
        self.save_keys()?;
        if self.unsigned == 0 {
            return Ok(());
        }
        let (path, file) = self.open_again()?;
        self.write_checkpoint(now, false)?;
        self.keys.advance_line()?;
        match spawn(Work { file, path, keys: self.keys.text() }) {
            Ok(thread) => {
                self.behind = Some(Behind::new(thread, self.end()));
                self.write_head();
                Ok(())
            }
            // No more threads.
            Err(_) => {
                self.file.sync_data().inspect_err(|_| {
                    self.unsynced = true;
                    self.doubtful = true;
                })?;
                self.disk_has(self.end());
                self.write_head();
                self.save_keys()
            }
        }
    }

    /// Waits for a checkpoint that is on its way. That the disk has its keys as well is for [`Self::save_keys`].
    pub(in crate::audit) fn settle(&mut self) -> Result<(), Fault> {
        let Some((end, done)) = self.behind.take().map(Behind::wait) else { return Ok(()) };
        match done {
            Ok(()) => self.keys.are_saved(),
            Err(NotDone::Saved(error)) => {
                warn!(%error, "a key of the audit log is destroyed later, not behind its checkpoint");
            }
            // It was written once more meanwhile, and taken. What came after it, this descriptor is told of.
            Err(NotDone::Synced(_)) if end.seq <= self.synced.seq => {
                self.unsynced |= self.file.sync_all().is_err();
            }
            Err(NotDone::Synced(error)) => {
                self.unsynced = true;
                self.doubtful = true;
                // The thread was told of it, and this descriptor is told once more: the next sync would take that for
                // another failure.
                let _told = self.file.sync_all();
                return Err(error.into());
            }
        }
        if self.disk_has(end) {
            self.write_head();
        }
        Ok(())
    }

    /// Writes the keys, if the folder is still that of this chain.
    pub(in crate::audit) fn save_keys(&mut self) -> Result<(), Fault> {
        self.settle()?;
        self.check_file()?;
        Ok(self.keys.save(&self.folder)?)
    }

    fn write_checkpoint(&mut self, now: Timestamp, sync: bool) -> Result<(), Fault> {
        let next_key = self.keys.line.next.public();
        let object =
            Pending::new(now, &Entry::Checkpoint { next_key }).render(self.seq, &self.prev);
        let line = sign(&object, LINE_DOMAIN, &self.id, &self.keys.line.current);
        self.write(format!("{line}\n").into_bytes(), sync)?;
        self.seq += 1;
        self.prev = hash(line.as_bytes());
        self.unsigned = 0;
        Ok(())
    }

    /// The file, opened once more: an error of the disk is told once to each who has it open, and must be told to
    /// whoever syncs a change.
    fn open_again(&self) -> Result<(PathBuf, File), Fault> {
        let name = folder::file_name(self.number);
        let path = self.folder.join(&name);
        let again = folder::open(&path)?;
        let (own, found) = (self.file.metadata()?, again.metadata()?);
        match (own.dev(), own.ino()) == (found.dev(), found.ino()) {
            true => Ok((path, again)),
            false => Err(Fault::Leave(What::Tampered, format!("{name} was replaced"))),
        }
    }
}
