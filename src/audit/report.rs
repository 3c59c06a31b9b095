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
    /// The last line that carries a signature and that the disk has for certain: its number and its hash. No
    /// kill and no power cut takes it, so whoever misses it later knows that somebody did.
    pub proved: Option<(u64, String)>,
    /// Lines after the last checkpoint: nothing but `head` is signed over them.
    pub unsigned: u64,
    /// What the chain says about itself that somebody should know: the first hundred of it.
    pub notes: Vec<String>,
    /// How much more it says than stands in `notes`.
    pub more_notes: u64,
    /// How often it says so, by what; none is left out.
    pub told: Told,
    /// The first broken place.
    pub broken: Option<Broken>,
    /// The first line that nothing proves: no checkpoint comes after it, and `head` tells of none so far
    /// on. A process was killed between the two, or somebody has added it. Lines of a server that goes on
    /// meanwhile are not meant.
    pub unproved: Option<Broken>,
    /// The numbers of lines that were seen before and went with files that were removed by age: whether they
    /// were what was seen, nobody can tell any more.
    pub seen_removed: Vec<u64>,
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
            proved: None,
            unsigned: 0,
            notes: Vec::new(),
            more_notes: 0,
            told: Told::default(),
            broken: None,
            unproved: None,
            seen_removed: Vec::new(),
        }
    }
}

/// How often a chain tells of what somebody should look into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Its file was removed, replaced or changed while a server wrote it: the work of somebody.
    pub tampered: u64,
    /// A start found lines at the end that nothing proved: written just before a kill, or added by somebody.
    pub unproved: u64,
    /// Records are lost: the disk had not got them at a power cut, or there was no room to keep them. Or they
    /// may be, as the disk failed to take them.
    pub lost: u64,
    /// A process did not end as it should.
    pub interrupted: u64,
    /// Files that were removed by age, from the first one on.
    pub removed: u64,
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
