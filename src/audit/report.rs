//! What a verification tells.

use std::path::{Path, PathBuf};

/// What became of the verification of one chain.
#[derive(Debug, Clone)]
pub struct ChainReport {
    /// Its folder.
    pub folder: PathBuf,
    /// Who writes it.
    pub writer: String,
    /// Its id; empty where that could not be read.
    pub chain: String,
    /// The key that all others follow from, hex; empty where that could not be read.
    pub first_key: String,
    /// Lines that were read and are whole.
    pub lines: u64,
    /// The last whole line: its number and its hash.
    pub last: Option<(u64, String)>,
    /// Lines after the last checkpoint: nothing but `head` is signed over them.
    pub unsigned: u64,
    /// What the chain says about itself that somebody should know.
    pub notes: Vec<String>,
    /// The first broken place.
    pub broken: Option<Broken>,
    /// The first line that nothing proves: no checkpoint comes after it, and `head` tells of none so far
    /// on. A process was killed between the two, or somebody has added it. Lines of a server that goes on
    /// meanwhile are not meant.
    pub unproved: Option<Broken>,
}

impl ChainReport {
    /// The report of a chain of which nothing was read yet.
    pub(super) fn new(folder: &Path) -> Self {
        let writer = folder.parent().and_then(Path::file_name).unwrap_or_default();
        Self {
            folder: folder.to_owned(),
            writer: writer.to_string_lossy().into_owned(),
            chain: String::new(),
            first_key: String::new(),
            lines: 0,
            last: None,
            unsigned: 0,
            notes: Vec::new(),
            broken: None,
            unproved: None,
        }
    }
}

/// A broken place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The file.
    pub file: String,
    /// The line in it, from 1, where it is a line that is broken.
    pub line: Option<u64>,
    /// The number that the line in that place has or should have.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// A line that somebody has kept the number and hash of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The chain's id.
    pub chain: String,
    /// The number of the line.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}
