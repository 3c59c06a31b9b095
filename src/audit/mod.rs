//! The record of all that was asked and done: one JSON line each, chained, signed, verifiable.
//!
//! What it owns: the form of a record, the files, the thread that writes them, their verification. What
//! it must not do: decide what happened; others hand it a [`RequestRecord`] or an [`ActRecord`], whose
//! fields are all there is to record. It knows no HTTP and no SQL. It meets `api` in
//! [`AuditLog::admits`] and [`AuditLog::record`], and the command line in [`begin_act`] and [`end_act`].
//!
//! # Form
//! Each process writes a chain of its own, in `FOLDER/WRITER/CHAIN/NNNNNN.jsonl`. Each line carries
//! `seq` and `prev`, the SHA-256 (hex) of the whole line before it without its newline, so that a
//! chain can be checked with `sha256sum`. Whoever changes, removes or swaps a line must write all that
//! follow anew.
//!
//! What keeps them from that are checkpoints, about one a second: lines that carry an Ed25519 signature
//! over themselves and the chain's id, and the public key of the next checkpoint. The key that signed is
//! then destroyed, so that whoever takes the machine later, its operator included, has no key that
//! could sign history again. Records do not wait for that: it is destroyed once the disk has the checkpoint, some
//! milliseconds later. The first line of each file is signed in the same way, by keys that change
//! once a file, so that files can be removed by age without breaking the line of keys from the very
//! first one. That one is what an auditor keeps elsewhere.
//!
//! `head` is written anew for each batch, signed by the present key. It tells where the chain ends, so
//! a tail that was cut off is missed. It also tells what the disk has got of that, so that a power cut is
//! told from a cut: the next start names the lines that it took, in the same chain. `head` itself is not
//! waited for, and may be an older one after a power cut; so a start tells of every end that was not as it
//! should be, with the last lines that it found. Lines that neither a checkpoint nor `head` tells of are named
//! too before they are signed with the rest. The key of an older end is gone, so a cut that takes a checkpoint
//! away cannot be covered by an older `head` made anew.
//!
//! # What it does not prove
//! Who holds the machine while it runs holds the present keys: they can rewrite what came after the
//! last checkpoint, and write lies from then on. A folder put back as a whole to an earlier copy looks
//! as it looked then: keep the number and hash of the last proved line elsewhere (`okmsd audit verify`
//! prints them, and checks them with `--seen`). Keys on a disk are overwritten before they are unlinked, which
//! file systems that copy on write and SSDs do not honour, and snapshots and backups keep.
//!
//! # When it cannot be written
//! A request that comes in while the log is known to be broken is refused before anything is done.
//! Space is reserved ahead, so that a disk that fills up is noticed while there still is room for
//! requests under way. Where their records cannot be written all the same, they are kept in memory and
//! written with `late` when there is room; their callers got a 503. What remains: such records are lost
//! if the process is killed before that, and a process that is killed between a change and its record
//! leaves a change without one. What the disk fails to take is written once more, by this process or by the
//! next: what it does not have for certain is kept so long.
//!
//! | file | what it owns |
//! |---|---|
//! | `record` | what is recorded of a request and of an act |
//! | `line` | the lines of a file: written, read, hashed, signed |
//! | `keys` | the signing keys, and their destruction |
//! | `folder` | names, modes and locks of folders and files |
//! | `head` | the file that tells where the chain ends |
//! | `chain` | a chain that is written: append, checkpoint, rotate, remove |
//! | `behind` | a checkpoint on its way to the disk |
//! | `recovery` | what a start finds, and goes on with |
//! | `log` | what requests see: whether they may begin, their way to the thread |
//! | `queue` | the queue between them |
//! | `writer` | the thread, trouble and its end |
//! | `act` | acts of the command line, written without a thread |
//! | `sinks` | further places for the same lines |
//! | `reader` | the lines of a chain's files, one after the other |
//! | `places` | where the chains of a folder are |
//! | `report` | what a verification tells |
//! | `seen` | where chains end, to be kept elsewhere |
//! | `verify` | whether chains are whole, looked at again where a server works |
//! | `walk` | a chain checked line by line, and its end |

mod act;
mod behind;
mod chain;
mod folder;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod head;
mod keys;
mod line;
mod log;
mod places;
mod queue;
mod reader;
mod record;
mod recovery;
mod report;
mod seen;
mod sinks;
mod verify;
mod walk;
mod writer;

use std::{fmt, io, num::NonZeroU32, path::PathBuf, time::Duration};

pub use self::{
    act::{begin_act, end_act},
    folder::check_folder,
    log::{AuditLog, Counts, Lag, NotRecorded, Refusals},
    record::{About, ActRecord, RequestRecord, known_method},
    report::{Broken, ChainReport, Seen, Told},
    seen::last_lines,
    verify::verify,
};

/// How an audit log is written.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of all chains.
    pub folder: PathBuf,
    /// What is on the disk before an answer leaves.
    pub sync: Sync,
    /// The longest time for which a record stays unsigned, where the disk keeps up.
    pub checkpoint_interval: Duration,
    /// Bytes after which a new file is begun.
    pub max_file_size: u64,
    /// Age after which a new file is begun, where that is wanted.
    pub max_file_age: Option<Duration>,
    /// How many files of a chain are kept; all, where this is not set.
    pub keep_files: Option<NonZeroU32>,
    /// Records that may wait to be written, of about a KiB each. A request whose record finds no room is answered
    /// with an error.
    pub queue: usize,
    /// Whether standard output gets the lines too.
    pub stdout: bool,
    /// Whether the system log gets the lines too.
    pub syslog: bool,
}

impl Options {
    /// The defaults, in the folder `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            sync: Sync::Changes,
            checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL,
            max_file_size: DEFAULT_MAX_FILE_SIZE,
            max_file_age: Some(DEFAULT_MAX_FILE_AGE),
            keep_files: None,
            queue: DEFAULT_QUEUE,
            stdout: false,
            syslog: false,
        }
    }
}

/// What is on the disk, not only in the memory of the system, before an answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Every record.
    Each,
    /// The records of changes, and with them all before.
    Changes,
    /// What the last checkpoint has signed.
    Interval,
}

/// Why an audit log cannot be used.
#[derive(Debug)]
pub enum Error {
    /// A file or folder cannot be read or written.
    Io(PathBuf, io::Error),
    /// A path cannot be used because a part of it belongs to another user.
    OfOther {
        /// What cannot be used.
        path: PathBuf,
        /// The part of it.
        part: PathBuf,
        /// The id of its user.
        owner: u32,
        /// What the system said.
        error: io::Error,
    },
    /// A file or folder is open to others.
    NotPrivate(PathBuf, u32),
    /// A folder belongs to this user, and root would leave files in it that the user cannot use.
    OfUser(PathBuf, u32),
    /// Other processes write all the chains that this one could.
    Busy(PathBuf),
    /// The system gives no randomness.
    Random,
}

impl Error {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| {
            if error.kind() == io::ErrorKind::PermissionDenied
                && let Some((part, owner)) = folder::other_owner(&path)
            {
                return Self::OfOther { part: part.to_owned(), path, owner, error };
            }
            Self::Io(path, error)
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, _) => write!(f, "the audit log cannot use {}", path.display()),
            Self::OfOther { path, part, owner, .. } => write!(
                f,
                "the audit log cannot use {}, as {} belongs to the user {owner} and this is run by the \
                 user {}; run it as the user of the server, to whom all of the log must belong (see \
                 chown)",
                path.display(),
                part.display(),
                rustix::process::geteuid().as_raw()
            ),
            Self::NotPrivate(path, mode) => write!(
                f,
                "{path} is a part of the audit log and must not be open to others, but its mode is \
                 {mode:04o}; mend it with: chmod go= {path}",
                path = path.display(),
            ),
            Self::OfUser(path, owner) => write!(
                f,
                "{} belongs to the user {owner}: run it as that user and not as root, whose files \
                 that user could not use (runuser and setpriv do so)",
                path.display()
            ),
            Self::Busy(path) => {
                write!(f, "another process is writing the audit log of {}", path.display())
            }
            Self::Random => f.write_str("the system gives no randomness"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) | Self::OfOther { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// 64 MiB: some hundred thousand records, and no trouble for any tool.
pub const DEFAULT_MAX_FILE_SIZE: u64 = 64 * 1024 * 1024;

/// A day: files can then be found by their date.
pub const DEFAULT_MAX_FILE_AGE: Duration = Duration::from_secs(24 * 3600);

/// Records of some tenths of a second.
pub const DEFAULT_QUEUE: usize = 16_384;

/// A second: what an intruder could still rewrite, against a few writes to the disk a second.
pub const DEFAULT_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
