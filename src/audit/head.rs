//! The file that tells where a chain ends.
//!
//! One block that is written in place for each batch, after the batch itself: a reader who reads it
//! before the files finds all of what it speaks of. It fits into the smallest sector that disks have, so a
//! power cut leaves the old one or the new one.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    folder,
    keys::Seed,
    line::{is_signed, sign},
};

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) chain: String,
    /// The number of the last file.
    pub(super) file: u32,
    /// When that file was begun, in milliseconds since 1970.
    pub(super) begun: i64,
    /// The bytes of that file.
    pub(super) length: u64,
    /// The last line.
    pub(super) seq: u64,
    /// Its hash.
    pub(super) hash: String,
    /// What the disk has, where that is less: a power cut may take the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) synced: Option<Synced>,
}

/// A line of the last file that the disk has, with all before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Synced {
    /// The bytes of that file up to its end.
    pub(super) length: u64,
    pub(super) seq: u64,
    pub(super) hash: String,
}

/// The file, open to be written.
pub(super) struct HeadFile {
    file: File,
    /// A chain of an earlier version keeps the length that it began with: the rest of it is blank.
    length: usize,
}

impl HeadFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let is_old = file.metadata()?.len() == OLD_BLOCK as u64;
        Ok(Self { file, length: if is_old { OLD_BLOCK } else { BLOCK } })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Head {
    /// Writes it in place.
    pub(super) fn write(&self, file: &HeadFile, seed: &Seed) -> io::Result<()> {
        let object = serde_json::to_string(self)?;
        let line = sign(&object, DOMAIN, &self.chain, seed);
        file.file.write_all_at(block(&line, file.length).as_bytes(), 0)
    }

    /// Reads it, with the text that its signature is over.
    ///
    /// # Errors
    ///
    /// Where there is none, or what is there is none.
    pub(super) fn read(chain_folder: &Path) -> io::Result<(Self, String)> {
        let text = folder::read_text(&Self::path(chain_folder), OLD_BLOCK)?;
        let line = text.lines().next().unwrap_or_default().to_owned();
        if ![BLOCK, OLD_BLOCK].contains(&text.len()) || text != block(&line, text.len()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok((serde_json::from_str(&line)?, line))
    }

    /// Whether `text`, as read, is signed by `key`.
    pub(super) fn is_signed(&self, text: &str, key: &str) -> bool {
        is_signed(text.as_bytes(), DOMAIN, &self.chain, key)
    }

    /// Where it is.
    pub(super) fn path(chain_folder: &Path) -> PathBuf {
        chain_folder.join(FILE)
    }
}

/// A line, and one of blanks, so that the file keeps its length and needs no more room.
pub(super) fn block(line: &str, length: usize) -> String {
    format!("{line}\n{}\n", " ".repeat(length.saturating_sub(line.len() + 2)))
}

const FILE: &str = "head";

pub(super) const DOMAIN: &str = "okmsd audit head v1";

/// Bytes: the smallest sector of a disk, which is written as a whole. The longest head has two fewer.
pub(super) const BLOCK: usize = 512;

/// Bytes of the first form, which named the key of the next file too.
pub(super) const OLD_BLOCK: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::{super::keys::Keys, *};

    #[test]
    fn the_longest_head_fits_into_a_sector_and_reads_back() {
        let synced = Synced { length: u64::MAX, seq: u64::MAX, hash: "f".repeat(64) };
        let head = Head {
            chain: uuid::Uuid::max().to_string(),
            file: u32::MAX,
            begun: i64::MAX,
            length: u64::MAX,
            seq: u64::MAX,
            hash: "f".repeat(64),
            synced: Some(synced),
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder::create(&Head::path(folder.path())).unwrap();
        let keys = Keys::generate().unwrap();
        let file = HeadFile::new(file).unwrap();
        head.write(&file, &keys.line.current).unwrap();
        assert_eq!(file.file.metadata().unwrap().len(), 512);
        let (read, text) = Head::read(folder.path()).unwrap();
        assert_eq!(read, head);
        assert!(read.is_signed(&text, &keys.line.current.public()));
    }
}
