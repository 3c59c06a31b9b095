//! A chain that is written: append, checkpoint, rotate, remove.
//!
//! Nothing here waits or retries. What fails leaves the chain as it was, ready for another try.

mod checkpoint;
mod disk;

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    mem,
    num::NonZeroU32,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use tracing::{error, info};
use uuid::Uuid;

use super::{
    Error, Options,
    behind::Behind,
    folder::{self, Lock},
    head::{Head, HeadFile, Synced},
    keys::Keys,
    line::{
        Entry, FileHead, Follows, LINE_DOMAIN, MAX_LINE, NO_HASH, Notice, Pending, What, hash, sign,
    },
};
use crate::domain::Timestamp;

/// When files of a chain end, and how many are kept.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    max_file_size: u64,
    max_file_age: Option<Duration>,
    keep_files: Option<NonZeroU32>,
}

impl From<&Options> for Rotation {
    fn from(options: &Options) -> Self {
        Self {
            max_file_size: options.max_file_size,
            max_file_age: options.max_file_age,
            keep_files: options.keep_files,
        }
    }
}

/// Why a chain cannot be written as it is.
#[derive(Debug)]
pub(super) enum Fault {
    /// The disk refuses; another try may succeed.
    Io(io::Error),
    /// The file is to be left as it is: what a line is to tell of that.
    Leave(What, String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Io(io::Error::other(error))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Leave(_, why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A chain, at its end.
pub(super) struct Chain {
    pub(super) folder: PathBuf,
    pub(super) writer: String,
    pub(super) rotation: Rotation,
    pub(super) id: String,
    pub(super) keys: Keys,
    /// The last file, its number, and when it was begun.
    pub(super) file: File,
    pub(super) number: u32,
    pub(super) begun: Timestamp,
    /// Bytes of whole lines in it.
    pub(super) length: u64,
    /// Up to where the disk has room reserved.
    pub(super) reserved: u64,
    /// Up to where the disk was told to begin.
    pub(super) handed_on: u64,
    /// What came after `length` could not be taken back yet.
    pub(super) torn: bool,
    /// The disk failed to take lines of the file, and would not say so again: they are written once more.
    pub(super) unsynced: bool,
    /// A checkpoint of the file is among those lines.
    pub(super) doubtful: bool,
    /// No room could be reserved: what is left is for requests under way.
    pub(super) short: bool,
    /// The number of the next line.
    pub(super) seq: u64,
    /// The hash of the last line.
    pub(super) prev: String,
    /// Lines since the last checkpoint.
    pub(super) unsigned: u64,
    /// What the start found, which goes before all else: until it is on the disk, `head` stays as it was,
    /// so that the next start finds the same.
    pub(super) untold: Vec<Pending>,
    /// What the disk has for certain.
    pub(super) synced: Synced,
    /// What comes after that in the file, piece by piece.
    pub(super) kept: VecDeque<Vec<u8>>,
    /// A checkpoint that is on its way to the disk, with the keys that come after it.
    pub(super) behind: Option<Behind>,
    pub(super) head: HeadFile,
    /// Lines that are in the files and that no sink has got yet.
    pub(super) outbox: Vec<u8>,
}

impl Chain {
    /// Begins a chain of that number in the folder of its writer.
    ///
    /// It is made under another name first: a chain that is there is whole.
    pub(super) fn begin(
        writer_folder: &Path,
        number: u32,
        follows: Option<Follows>,
        rotation: Rotation,
        now: Timestamp,
    ) -> io::Result<Self> {
        let writer = writer_folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unfinished = writer_folder.join(".new");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&unfinished)?;
        let mut keys = Keys::generate()?;
        keys.save(&unfinished)?;
        let head = HeadFile::new(folder::create(&Head::path(&unfinished))?)?;
        let file = folder::create(&unfinished.join(folder::file_name(1)))?;
        let mut chain = Self {
            folder: unfinished,
            writer,
            rotation,
            id: Uuid::new_v4().to_string(),
            keys,
            file,
            number: 0,
            begun: now,
            length: 0,
            reserved: 0,
            handed_on: 0,
            torn: false,
            unsynced: false,
            doubtful: false,
            short: false,
            seq: 0,
            prev: NO_HASH.to_owned(),
            unsigned: 0,
            untold: Vec::new(),
            synced: Synced::default(),
            kept: VecDeque::new(),
            behind: None,
            head,
            outbox: Vec::new(),
        };
        let line = chain.file_head(now, follows);
        chain.file.write_all_at(line.as_bytes(), 0)?;
        chain.file.sync_all()?;
        chain.begun_file(1, now, &line)?;
        chain.head.sync()?;
        let finished = writer_folder.join(folder::chain_name(number));
        fs::rename(&chain.folder, &finished)?;
        folder::sync_above(&finished)?;
        chain.folder = finished;
        chain.outbox = line.into_bytes();
        Ok(chain)
    }

    /// Writes entries, as one piece.
    pub(super) fn append<'p>(
        &mut self,
        entries: impl IntoIterator<Item = &'p Pending>,
        sync: bool,
    ) -> Result<(), Fault> {
        self.check_file()?;
        let tells = !self.untold.is_empty();
        let sync = sync || tells;
        let mut entries = entries.into_iter();
        let mut lines = String::with_capacity(entries.size_hint().0 * USUAL_LINE);
        let (mut seq, mut prev) = (self.seq, self.prev.clone());
        let mut add = |entry: &Pending| {
            let start = lines.len();
            entry.render_to(&mut lines, seq, &prev);
            let line = &lines[start..];
            // Nobody could read it, nor what comes after.
            if line.len() >= MAX_LINE {
                return Err(io::Error::other("a record is longer than a line may be"));
            }
            prev = hash(line.as_bytes());
            lines.push('\n');
            seq += 1;
            Ok(())
        };
        self.untold.iter().try_for_each(&mut add)?;
        entries.try_for_each(add)?;
        self.write(lines.into_bytes(), sync)?;
        self.unsigned += seq - self.seq;
        (self.seq, self.prev) = (seq, prev);
        self.untold.clear();
        if sync {
            self.disk_has(self.end());
        }
        self.write_head();
        // After a power cut, the one of before would tell of lines that are lost, and have others in their place.
        if tells && let Err(error) = self.head.sync() {
            error!(%error, "the disk does not take the head of the audit log");
        }
        Ok(())
    }

    /// Appends to the present file, or to a new one where that is to be left as it is.
    pub(super) fn append_or_leave<'p>(
        &mut self,
        entries: impl IntoIterator<Item = &'p Pending> + Clone,
        sync: bool,
        now: Timestamp,
        lock: &mut Lock,
    ) -> Result<(), Fault> {
        match self.append(entries.clone(), sync) {
            Err(Fault::Leave(what, why)) => {
                error!(why, "a file of the audit log is left as it is; it goes on in a new one");
                let mut notices = vec![(what, why.clone())];
                // Failed or not, the file is left; and what the disk did not take is told beside another reason.
                let _settled = self.settle();
                if self.unsynced && self.kept_bytes() > 0 {
                    let (name, seq) = (folder::file_name(self.number), self.synced.seq);
                    let why = format!("the disk did not take all of {name} after line {seq}");
                    notices.push((What::Unsynced, why));
                }
                let before = (self.id.clone(), self.number);
                let left = self.leave_file(&why, now, lock);
                // A new file may be there without its keys on the disk.
                if before != (self.id.clone(), self.number) {
                    self.untold.extend(notices.into_iter().map(|(what, why)| {
                        Pending::new(now, &Entry::Notice(Notice { what, detail: Some(why) }))
                    }));
                }
                left?;
                self.append(entries, true)
            }
            appended => appended,
        }
    }

    /// Begins a new file, if the present one is large or old enough.
    pub(super) fn rotate_if_due(&mut self, now: Timestamp) -> Result<(), Fault> {
        let age = self.rotation.max_file_age;
        let old = age.is_some_and(|age| self.begun.plus_seconds(age.as_secs()) <= now);
        // A file of nothing but its own first line is not worth another.
        if self.length < self.rotation.max_file_size && !(old && self.unsigned > 0) {
            return Ok(());
        }
        self.checkpoint(now)?;
        self.release();
        self.next_file(now)?;
        let Some(kept) = self.rotation.keep_files else { return Ok(()) };
        match self.remove_files(kept, now) {
            // Nothing is lost by what stays.
            Err(Fault::Io(error)) => {
                error!(%error, "old audit files cannot be removed");
                Ok(())
            }
            removed => removed,
        }
    }

    /// Goes on in a new file. The present one is left as it is.
    fn leave_file(&mut self, why: &str, now: Timestamp, lock: &mut Lock) -> Result<(), Fault> {
        let writer = self.folder.parent().unwrap_or(Path::new("")).to_owned();
        let is_locked = lock.is_of(&writer)?;
        if is_locked && self.folder.exists() {
            return self.next_file(now);
        }
        // With the folder, the keys are gone as well; what is there now may be of a process that came since.
        if !is_locked {
            folder::ensure_private(&writer)?;
            *lock = Lock::take(&writer)?.ok_or_else(|| Error::Busy(writer.clone()))?;
        }
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let number = folder::chain_number(&name).unwrap_or_default();
        let last = folder::chains(&writer)?.last().map_or(0, |(last, _)| *last);
        let follows = Follows { chain_number: number, why: why.to_owned() };
        let next =
            Self::begin(&writer, number.max(last) + 1, Some(follows), self.rotation.clone(), now)?;
        let before = mem::replace(self, next);
        self.untold = before.untold;
        self.outbox = [before.outbox, mem::take(&mut self.outbox)].concat();
        Ok(())
    }

    /// Reserves room for requests under way, if there is less than half of what there should be.
    pub(super) fn reserve(&mut self) -> io::Result<()> {
        if self.length + RESERVED / 2 <= self.reserved {
            self.short = false;
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, RESERVED) {
            // Some file systems cannot; then the writes themselves tell when the disk is full.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.reserved = self.length + RESERVED;
                self.short = false;
                Ok(())
            }
            Err(error) => {
                self.short = true;
                Err(error.into())
            }
        }
    }

    /// Gives back the room that was reserved.
    pub(super) fn release(&mut self) {
        // It would be given back when the file is next cut; nothing depends on it.
        let _reserved = self.file.set_len(self.length);
        self.reserved = self.length;
    }

    /// Tells where the chain ends. Behind the log, it is of no harm: a start looks further.
    pub(super) fn write_head(&self) {
        let head = Head {
            chain: self.id.clone(),
            file: self.number,
            begun: self.begun.as_millis(),
            length: self.length,
            seq: self.seq.saturating_sub(1),
            hash: self.prev.clone(),
            synced: (self.synced != self.end()).then(|| self.synced.clone()),
        };
        let written = head.write(&self.head, &self.keys.line.current);
        if let Err(error) = written {
            error!(%error, "the head of the audit log cannot be written");
        }
    }

    /// The last line, as it would be if the disk had it.
    pub(super) fn end(&self) -> Synced {
        let (length, seq) = (self.length, self.seq.saturating_sub(1));
        Synced { length, seq, hash: self.prev.clone() }
    }

    /// Begins the next file. The present one ends as it is.
    fn next_file(&mut self, now: Timestamp) -> Result<(), Fault> {
        // Where a checkpoint may not be on the disk, the key that signed it stays until the first line of the new
        // file vouches for all that is in this one.
        if !self.doubtful {
            self.keys.save(&self.folder)?;
        }
        let path = self.folder.join(folder::file_name(self.number + 1));
        let line = self.file_head(now, None);
        let file = folder::create(&path)?;
        let made = file
            .write_all_at(line.as_bytes(), 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| folder::sync_above(&path));
        if let Err(error) = made {
            // A file without a whole first line; a start removes it too.
            let _unfinished = fs::remove_file(&path);
            return Err(error.into());
        }
        self.file = file;
        self.reserved = 0;
        self.handed_on = 0;
        self.torn = false;
        self.unsynced = false;
        self.doubtful = false;
        self.outbox.extend_from_slice(line.as_bytes());
        self.begun_file(self.number + 1, now, &line)?;
        info!(file = %path.display(), "a new file of the audit log begins");
        Ok(())
    }

    fn file_head(&self, now: Timestamp, follows: Option<Follows>) -> String {
        let entry = Entry::File(FileHead {
            chain: self.id.clone(),
            writer: self.writer.clone(),
            program: PROGRAM,
            file: self.number + 1,
            file_key: self.keys.file.current.public(),
            next_file_key: self.keys.file.next.public(),
            key: self.keys.line.current.public(),
            follows,
        });
        let object = Pending::new(now, &entry).render(self.seq, &self.prev);
        let mut line = sign(&object, LINE_DOMAIN, &self.id, &self.keys.file.current);
        line.push('\n');
        line
    }

    /// Takes note of a file whose first line is on the disk.
    fn begun_file(&mut self, number: u32, now: Timestamp, line: &str) -> io::Result<()> {
        self.number = number;
        self.begun = now;
        self.length = line.len() as u64;
        self.seq += 1;
        self.prev = hash(line.trim_end().as_bytes());
        self.kept.clear();
        self.synced = self.end();
        self.keys.advance_file()?;
        let saved = self.keys.save(&self.folder);
        if self.untold.is_empty() {
            self.write_head();
        }
        saved
    }

    /// Removes the oldest files beyond `kept`. Their first lines stay, as the way from the first key to
    /// the present one; and the chain says so before it is done.
    fn remove_files(&mut self, kept: NonZeroU32, now: Timestamp) -> Result<(), Fault> {
        let files = folder::files(&self.folder)?;
        let surplus = files.len().saturating_sub(kept.get() as usize);
        let Some((last, _)) = surplus.checked_sub(1).and_then(|at| files.get(at)) else {
            return Ok(());
        };
        let files_through = *last;
        let entry = Pending::new(now, &Entry::Removed { files_through });
        self.append(&[entry], true)?;
        self.checkpoint(now)?;
        let kept_heads = self.folder.join(KEPT_HEADS);
        for (_, path) in &files[..surplus] {
            keep_head(path, &kept_heads)?;
            fs::remove_file(path)?;
        }
        folder::sync_above(&kept_heads)?;
        Ok(())
    }
}

/// Copies the first line of a file to those of files that are gone.
fn keep_head(file: &Path, kept_heads: &Path) -> io::Result<()> {
    let mut kept = match fs::read(kept_heads) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let mut line = Vec::new();
    BufReader::new(File::open(file)?).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
    // It is there already where a process was killed before it removed the file.
    if !kept.ends_with(&line) {
        kept.extend(line);
        folder::replace_and_wipe(kept_heads, &kept)?;
    }
    Ok(())
}

/// The first lines of files that were removed by age.
pub(super) const KEPT_HEADS: &str = "removed_files";

/// Bytes of the record of a read of a secret, and some more: what is a little longer moves all lines of its batch.
const USUAL_LINE: usize = 1_024;

/// Bytes that are reserved ahead: some thousand records, more than requests are usually under way.
const RESERVED: u64 = 4 * 1024 * 1024;

const PROGRAM: &str = concat!("okmsd ", env!("CARGO_PKG_VERSION"));
