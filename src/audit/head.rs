//! The file that tells where a chain ends.
//!
//! One block that is written in place for each batch, after the batch itself: a reader who reads it
//! before the files finds all of what it speaks of.

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
    /// The key that will sign the first line of the next file.
    pub(super) next_file_key: String,
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

impl Head {
    /// Writes it in place.
    pub(super) fn write(&self, file: &File, seed: &Seed) -> io::Result<()> {
        let object = serde_json::to_string(self)?;
        let mut block = sign(&object, DOMAIN, &self.chain, seed).into_bytes();
        block.push(b'\n');
        // A line of blanks, so that the file keeps its length and needs no more room.
        block.resize(BLOCK - 1, b' ');
        block.push(b'\n');
        file.write_all_at(&block, 0)
    }

    /// Reads it, with the text that its signature is over.
    ///
    /// # Errors
    ///
    /// Where there is none, or what is there is none.
    pub(super) fn read(chain_folder: &Path) -> io::Result<(Self, String)> {
        let text = folder::read_text(&Self::path(chain_folder), BLOCK)?;
        let line = text.lines().next().unwrap_or_default().to_owned();
        let blanks = BLOCK.saturating_sub(line.len() + 2);
        if text != format!("{line}\n{}\n", " ".repeat(blanks)) {
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

const FILE: &str = "head";

const DOMAIN: &str = "okmsd audit head v1";

/// Bytes: more than the longest head, less than what a disk writes as a whole.
const BLOCK: usize = 1_024;
