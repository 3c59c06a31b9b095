//! Where a chain ends, and whether that is where it ended.

use std::{io, path::Path, thread, time::Duration};

use super::{
    super::{
        folder,
        head::Head,
        keys::{self, Keys},
        report::{Broken, Seen},
    },
    CHANGED, Place, Walk, broken_file,
};

impl Walk<'_> {
    /// Compares the line that `head` tells of.
    pub(super) fn check_head(&mut self, own_hash: &str, place: &Place) -> Result<(), Broken> {
        let Some((head, text)) = &self.head else { return Ok(()) };
        if head.seq != place.seq {
            if place.signed {
                // It stands for all before it.
                self.after_head = None;
            } else if place.seq > head.seq {
                self.after_head.get_or_insert_with(|| place.clone());
            }
            return Ok(());
        }
        if !head.is_signed(text, &self.key) || head.chain != self.report.chain {
            return Err(broken_file("head", "it is not signed by the key that was in force then"));
        }
        if head.hash != own_hash {
            return Err(place.broken(CHANGED));
        }
        self.head_is_right = true;
        self.ended = self.stopped && self.report.unsigned == 0;
        Ok(())
    }

    /// Whether `head` says that the disk has the line of that number.
    pub(super) fn disk_has(&self, seq: u64) -> bool {
        let head = self.head.as_ref().map(|(head, _)| head);
        let had = |head: &Head| head.synced.as_ref().map_or(head.seq, |synced| synced.seq);
        head.map(had).is_some_and(|had| seq <= had)
    }

    pub(super) fn check_end(&mut self, own_keys: Option<&[String; 2]>) -> Result<(), Broken> {
        let Some((head, text)) = &self.head else { return Ok(()) };
        if self.report.lines > 0 && self.seq > head.seq {
            if !self.head_is_right {
                let what = format!(
                    "it tells of line {}, which is in none of the files: it is not the end that \
                     the chain had",
                    head.seq
                );
                return Err(broken_file("head", what));
            }
            return self.check_beyond();
        }
        // The key that has signed `head` may stand in a line that was cut off.
        let mut known = self.keys.iter().chain(own_keys.into_iter().flatten());
        let by_known = known.any(|key| head.is_signed(text, key));
        if !by_known && own_keys.is_some() {
            return Err(broken_file("head", "it is not signed by a key of this chain"));
        }
        if head.file > self.number && self.seq > 0 {
            return Err(broken_file(folder::file_name(self.number + 1), "the file is missing"));
        }
        let missing = match head.seq.saturating_sub(self.seq) {
            0 => format!("line {} is missing", head.seq),
            _ => format!("lines {} to {} are missing", self.seq, head.seq),
        };
        let (file, line) = match &self.place {
            Some(place) => (place.file.clone(), Some(place.line + 1)),
            None => (folder::file_name(self.kept_heads + 1), None),
        };
        let doubt = if by_known { "" } else { ", or head was changed" };
        // Anybody could say so in a `head` that no known key has signed.
        let lost = by_known && head.synced.as_ref().is_some_and(|synced| synced.seq < self.seq);
        let why =
            if lost { ", which the disk had not got yet: its power may have been cut" } else { "" };
        let what = format!("cut off at the end: {missing}{why}{doubt}");
        Err(Broken { file, line, seq: Some(self.seq), what })
    }

    /// Looks at what comes after the end that `head` tells of, and after the last checkpoint.
    fn check_beyond(&mut self) -> Result<(), Broken> {
        let Some(place) = self.after_head.take() else { return Ok(()) };
        if self.ended {
            return Err(place.broken("the chain had ended before this line, which nothing proves"));
        }
        let lines = self.report.unsigned.min(self.seq - place.seq);
        self.report.unproved = Some(place.broken(format!(
            "nothing proves this line and those after it, {lines} in all: a process was killed just then, or \
             somebody has added them"
        )));
        Ok(())
    }

    pub(super) fn remember_seen(&self, place: &Place) -> Result<(), Broken> {
        let here =
            self.seen.iter().find(|seen| seen.chain == self.report.chain && seen.seq == place.seq);
        match here {
            Some(seen) if seen.hash != self.prev => {
                Err(place.broken("it is another line than the one that was seen before"))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of lines that were seen in files that were removed by age.
    pub(super) fn forget_seen(&mut self) {
        let gone = |seen: &&Seen| seen.chain == self.report.chain && seen.seq < self.seq;
        self.report.seen_removed = self.seen.iter().filter(gone).map(|seen| seen.seq).collect();
    }

    pub(super) fn check_seen(&self) -> Result<(), Broken> {
        let later =
            self.seen.iter().find(|seen| seen.chain == self.report.chain && seen.seq >= self.seq);
        match (later, &self.place) {
            (Some(seen), Some(place)) => Err(Broken {
                file: place.file.clone(),
                line: Some(place.line + 1),
                seq: Some(self.seq),
                what: format!("cut off at the end: line {} was seen before", seen.seq),
            }),
            _ => Ok(()),
        }
    }

    /// Checks that whoever has the keys has written this chain to its end. A copy for an auditor has none.
    pub(super) fn check_own_key(
        &mut self,
        own: io::Result<String>,
        folder: &Path,
    ) -> Result<(), Broken> {
        match own {
            Ok(key) if self.keys.contains(&key) => Ok(()),
            // The process was killed between the checkpoint and its keys: the next start mends that.
            _ if Keys::load(folder)
                .map(|keys| keys.line.next.public())
                .is_ok_and(|next| self.keys.back() == Some(&next)) =>
            {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.note("the signing keys are not here: this is a copy, or ended".to_owned());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.note("the signing keys were not compared: they are private".to_owned());
                Ok(())
            }
            _ => Err(broken_file(keys::FILE, "they are not the keys of the end of this chain")),
        }
    }
}

/// Reads `head`, which a server may be writing just then.
pub(super) fn read_head(folder: &Path) -> Result<(Head, String), Broken> {
    let mut tries = 0;
    loop {
        match Head::read(folder) {
            Ok(head) => return Ok(head),
            // Read while it was written.
            Err(error) if error.kind() != io::ErrorKind::NotFound && tries < HEAD_TRIES => {
                tries += 1;
                thread::sleep(HEAD_WAIT);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(broken_file("head", "the file is missing: the end cannot be known"));
            }
            Err(_) => return Err(broken_file("head", "the file was changed")),
        }
    }
}

/// How often `head` is read that does not read well, and how long it waits between.
const HEAD_TRIES: u32 = 5;
const HEAD_WAIT: Duration = Duration::from_millis(20);
