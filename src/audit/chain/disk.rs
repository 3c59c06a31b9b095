//! The present file: what is written to it, and what the disk has of that.
//!
//! A disk that fails to take what was written says so once; the system then counts it as taken, and the next sync
//! succeeds without it. So what the disk does not have for certain is kept, and written once more after such a
//! failure: records of reads, for which nothing waits, and a checkpoint that is on its way. Nothing else is written
//! before the disk has taken that.

use std::{
    fs, io,
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt},
};

use rustix::fs::{Advice, fadvise};
use tracing::warn;

use super::{
    super::{folder, head::Synced, line::What},
    Chain, Fault,
};

impl Chain {
    pub(super) fn write(&mut self, lines: Vec<u8>, sync: bool) -> io::Result<()> {
        if self.torn {
            self.take_back()?;
        }
        // Noticed, and told by `short`; where the write itself succeeds, it counts.
        let _full = self.reserve();
        let written = self.file.write_all_at(&lines, self.length);
        let written = written.and_then(|()| match sync {
            true => self.file.sync_data().inspect_err(|_| self.unsynced = true),
            false => Ok(()),
        });
        if let Err(error) = written {
            self.torn = true;
            // Tried again before the next write.
            let _torn = self.take_back();
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.reserved = self.reserved.max(self.length);
        match sync {
            true => self.handed_on = self.length - self.length % PAGE,
            false => self.hand_on(),
        }
        self.outbox.extend_from_slice(&lines);
        if !lines.is_empty() {
            self.kept.push_back(lines);
        }
        Ok(())
    }

    /// Takes note that the disk has all up to the end of a piece, if that is not known yet.
    pub(super) fn disk_has(&mut self, end: Synced) -> bool {
        // It may have more.
        if end.seq <= self.synced.seq {
            return false;
        }
        let mut length = self.synced.length;
        while length < end.length
            && let Some(lines) = self.kept.pop_front()
        {
            length += lines.len() as u64;
        }
        self.synced = end;
        true
    }

    /// Bytes that are kept until the disk has them.
    pub(in crate::audit) fn kept_bytes(&self) -> u64 {
        self.length - self.synced.length
    }

    /// Checks that the file is still the one at its name, ends where this process left it, and that the disk takes
    /// what it failed to take before.
    pub(super) fn check_file(&mut self) -> Result<(), Fault> {
        if self.torn {
            self.take_back()?;
        }
        let name = folder::file_name(self.number);
        let tampered = |why| Err(Fault::Leave(What::Tampered, why));
        let own = self.file.metadata()?;
        match fs::metadata(self.folder.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return tampered(format!("{name} was removed"));
            }
            Err(error) => return Err(error.into()),
            Ok(named) if (named.dev(), named.ino()) != (own.dev(), own.ino()) => {
                return tampered(format!("{name} was replaced"));
            }
            Ok(named) if named.len() != self.length => {
                let (found, expected) = (named.len(), self.length);
                return tampered(format!("{name} has {found} bytes instead of {expected}"));
            }
            Ok(_) => {}
        }
        if self.unsynced {
            self.write_again()?;
        }
        Ok(())
    }

    /// Writes once more what the disk failed to take.
    fn write_again(&mut self) -> io::Result<()> {
        let mut at = self.synced.length;
        for lines in &self.kept {
            self.file.write_all_at(lines, at)?;
            at += lines.len() as u64;
        }
        // Also that the file ends here: what was taken back must not come back.
        self.file.sync_all()?;
        let (after, bytes) = (self.synced.seq, self.kept_bytes());
        if bytes > 0 {
            warn!(
                after,
                bytes,
                "lines of the audit log are written once more: the disk had failed to take them"
            );
        }
        self.unsynced = false;
        self.doubtful = false;
        if self.disk_has(self.end()) {
            self.write_head();
        }
        Ok(())
    }

    /// Has the disk begin with what was written: the next sync then finds little left to do, that of a change, for which
    /// its requests wait, or of a checkpoint. At 10,000 reads a second that of a checkpoint took 7 ms each second; it
    /// takes 0.4 to 1 ms, mostly, and each of the 30 calls of a second 0.2 ms.
    fn hand_on(&mut self) {
        // The page that the next lines go to would be written twice.
        let whole = self.length - self.length % PAGE;
        let length = whole.saturating_sub(self.handed_on);
        if let Some(length) = NonZeroU64::new(length).filter(|length| length.get() >= HAND_ON) {
            // Some file systems cannot; then the sync does all of it. An error of the disk is told by that too.
            let _cannot = fadvise(&self.file, self.handed_on, Some(length), Advice::DontNeed);
            self.handed_on = whole;
        }
    }

    /// Cuts what a failed write may have left.
    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.reserved = self.length;
        self.torn = false;
        Ok(())
    }
}

/// Bytes after which the disk is told to begin: some hundred records, a write that is worth a disk's while.
const HAND_ON: u64 = 256 * 1024;

/// Bytes of a page of memory; where they are larger, one is written twice.
const PAGE: u64 = 4_096;
