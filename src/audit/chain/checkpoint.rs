//! Checkpoints: lines are signed, and the key is destroyed.

use std::{fs::File, os::unix::fs::MetadataExt};

use super::{
    super::{
        behind::{Behind, NotDone},
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
        if self.unsigned == 0 {
            return self.settle();
        }
        self.save_keys()?;
        self.write_checkpoint(now, true)?;
        self.synced = self.end();
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
        if !self.untold.is_empty() {
            return self.checkpoint(now);
        }
        if self.unsigned == 0 {
            return Ok(());
        }
        self.save_keys()?;
        let file = self.open_again()?;
        self.write_checkpoint(now, false)?;
        self.keys.advance_line()?;
        match Behind::start(file, self.end(), self.keys.text(), self.folder.clone()) {
            Ok(behind) => {
                self.behind = Some(behind);
                self.write_head();
                Ok(())
            }
            // No more threads.
            Err(_) => {
                self.file.sync_data().inspect_err(|_| self.unsynced = true)?;
                self.synced = self.end();
                let saved = self.keys.save(&self.folder);
                self.write_head();
                Ok(saved?)
            }
        }
    }

    /// Waits for a checkpoint that is on its way.
    pub(in crate::audit) fn settle(&mut self) -> Result<(), Fault> {
        let Some(behind) = self.behind.take() else { return Ok(()) };
        match behind.wait() {
            Ok(end) => {
                self.keys.are_saved();
                // Since then, the disk may have got more.
                if end.seq > self.synced.seq {
                    self.synced = end;
                    self.write_head();
                }
                Ok(())
            }
            Err(NotDone::Synced(error)) => {
                self.unsynced = true;
                Err(error.into())
            }
            Err(NotDone::Saved(error)) => Err(error.into()),
        }
    }

    fn write_checkpoint(&mut self, now: Timestamp, sync: bool) -> Result<(), Fault> {
        let next_key = self.keys.line.next.public();
        let object =
            Pending::new(now, &Entry::Checkpoint { next_key }).render(self.seq, &self.prev);
        let line = sign(&object, LINE_DOMAIN, &self.id, &self.keys.line.current);
        self.write(format!("{line}\n").as_bytes(), sync)?;
        self.seq += 1;
        self.prev = hash(line.as_bytes());
        self.unsigned = 0;
        Ok(())
    }

    /// The file, opened once more: an error of the disk is told once to each who has it open, and must be told to
    /// whoever syncs a change.
    fn open_again(&self) -> Result<File, Fault> {
        let name = folder::file_name(self.number);
        let again = folder::open(&self.folder.join(&name))?;
        let (own, found) = (self.file.metadata()?, again.metadata()?);
        match (own.dev(), own.ino()) == (found.dev(), found.ino()) {
            true => Ok(again),
            false => Err(Fault::Leave(What::Tampered, format!("{name} was replaced"))),
        }
    }

    /// Writes the keys, if the folder is still that of this chain.
    pub(in crate::audit) fn save_keys(&mut self) -> Result<(), Fault> {
        self.settle()?;
        self.check_file()?;
        Ok(self.keys.save(&self.folder)?)
    }
}
