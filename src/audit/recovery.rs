//! What a start finds, and goes on with.
//!
//! Only the end of a chain is looked at, so a start takes no time; whether the rest is whole is asked of
//! `okmsd audit verify`. A process that was killed may have left: an incomplete last line, whole lines
//! that `head` does not know yet, a file whose first line is not whole, keys one step behind. A power cut
//! may also have taken lines that `head` says the disk had not got yet; or `head` itself is an older one, as
//! the disk gets it when the system likes, and then nothing tells how many lines there were. All of that is
//! mended, and lines in the same chain tell of it: of every end that was not as it should be, of lines that
//! are lost, and of those that nothing proves. They are on the disk before `head` is written anew: whoever is
//! killed before that leaves the same to the next start. Anything else is the work of others, or of a disk that
//! lost what it had acknowledged: then that chain stays as it is, for whoever looks into it, and another one
//! begins which says why.

mod end;

use std::{collections::VecDeque, fs, io, os::unix::fs::FileExt, path::Path};

use tracing::error;

use self::end::{End, next_file_key, signed_end, written};
use super::{
    Error,
    chain::{Chain, Rotation},
    folder,
    head::{Head, HeadFile, Synced},
    keys::Keys,
    line::Follows,
};
use crate::domain::Timestamp;

/// How the chain of a writer ends where its process does as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// With a line that says so, signed: a server's.
    Stopped,
    /// With any line, signed: that of acts, each of which is signed before it counts.
    Signed,
}

impl Chain {
    /// Opens the last chain of a writer, or begins one.
    ///
    /// # Errors
    ///
    /// Where the folder is open to others, or cannot be read or written.
    pub(super) fn open(
        writer_folder: &Path,
        ends: Ends,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let chains = folder::chains(writer_folder).map_err(Error::io(writer_folder))?;
        let (number, follows) = match chains.last() {
            None => (1, None),
            Some((number, path)) => {
                folder::check_private(path)?;
                match recover(path, ends, rotation.clone(), now) {
                    Ok(mut chain) => {
                        chain.tell(now);
                        return Ok(chain);
                    }
                    Err(Unusable::Refused(error)) => return Err(error),
                    Err(Unusable::Broken(why)) => {
                        error!(
                            chain = %path.display(),
                            why,
                            "the audit log does not end as it was left; a new chain begins"
                        );
                        (number.saturating_add(1), Some(Follows { chain_number: *number, why }))
                    }
                }
            }
        };
        let begun = Self::begin(writer_folder, number, follows, rotation, now);
        begun.map_err(Error::io(writer_folder))
    }

    /// Writes what the start found, and signs it.
    fn tell(&mut self, now: Timestamp) {
        if self.untold.is_empty() {
            // Signed to its end, so nothing is told by `head` alone.
            self.write_head();
        } else if let Err(error) = self.checkpoint(now) {
            // It waits in the chain, and goes before the first record.
            error!(?error, "the audit log cannot be written");
        }
    }
}

pub(super) enum Unusable {
    /// The chain does not end as it was left.
    Broken(String),
    /// It may be whole, but cannot be used.
    Refused(Error),
}

fn broken(why: impl Into<String>) -> Unusable {
    Unusable::Broken(why.into())
}

/// Finds the end of a chain and mends it, but for `head`.
pub(super) fn recover(
    folder: &Path,
    ends: Ends,
    rotation: Rotation,
    now: Timestamp,
) -> Result<Chain, Unusable> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => broken(format!("{} is missing", name(&path))),
            io::ErrorKind::InvalidData => broken(format!("{} is damaged", name(&path))),
            _ => Unusable::Refused(Error::io(path)(error)),
        }
    };
    let head_path = Head::path(folder);
    let (head, head_text) = Head::read(folder).map_err(refused(&head_path))?;
    let keys_path = folder.join(super::keys::FILE);
    let mut keys = Keys::load(folder).map_err(refused(&keys_path))?;
    let files = folder::files(folder).map_err(refused(folder))?;
    for path in files.iter().map(|(_, path)| path).chain([&head_path]) {
        folder::check_private(path).map_err(Unusable::Refused)?;
    }
    folder::check_secret(&keys_path).map_err(Unusable::Refused)?;

    let mut next = files.into_iter().filter(|(number, _)| *number >= head.file).peekable();
    let Some((_, path)) = next.peek().filter(|(number, _)| *number == head.file) else {
        return Err(broken(format!("{} is missing", folder::file_name(head.file))));
    };
    let first_file = path.clone();
    let other = || broken(format!("{} is not what was written", name(&first_file)));
    let file_key = next_file_key(&first_file).map_err(refused(&first_file))?.ok_or_else(other)?;
    let mut end = End::new(file_key);
    let had = head.synced.as_ref().map_or(head.length, |synced| synced.length);
    let (mut number, mut length, mut begun, mut cut) = (head.file, 0, head.begun, 0);
    // What is to go, and what of it stays that the disk may not have: a process that was killed can have been told so,
    // and nobody is told again. Only once the chain is known to be whole: a broken one stays as it is.
    let mut mends = Vec::new();
    while let Some((at, path)) = next.next() {
        let is_first = at == head.file;
        let (start, text) = if is_first {
            signed_end(&path, had).map_err(refused(&path))?.ok_or_else(other)?
        } else {
            (0, fs::read(&path).map_err(refused(&path))?)
        };
        let found = text.len();
        let text = if is_first { written(&text, start, had..head.length) } else { &text };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if whole == 0 && !is_first {
            // Never finished, and nothing refers to it.
            cut += found;
            mends.push((path, None));
            continue;
        }
        for line in text[..whole].split_inclusive(|byte| *byte == b'\n') {
            end.follow(&line[..line.len() - 1], &head).ok_or_else(|| {
                broken(format!("{} goes on with lines of somebody else", name(&path)))
            })?;
            if !end.is_told_by(&head, &head_text) {
                return Err(broken(format!("{} is not what was written", name(&path))));
            }
        }
        if is_first
            && end.seq < head.seq
            && !(end.is_power_cut(&head, start + text.len() as u64)
                && (end.has_signed(&head, &head_text)
                    // The checkpoint is gone that named the key.
                    || head.is_signed(&head_text, &keys.line.next.public())))
        {
            return Err(broken(format!("{} is not what was written", name(&path))));
        }
        if whole < found {
            if next.peek().is_some() {
                return Err(broken(format!("{} ends in the middle of a line", name(&path))));
            }
            cut += found - whole;
        }
        let has = if is_first { had.saturating_sub(start) } else { 0 };
        let has = usize::try_from(has).unwrap_or(whole).min(whole);
        mends.push((path, Some((start + has as u64, text[has..whole].to_owned()))));
        if !is_first {
            begun = now.as_millis();
        }
        (number, length) = (at, start + whole as u64);
    }
    adopt(&mut keys, &end)
        .map_err(refused(&keys_path))?
        .then_some(())
        .ok_or_else(|| broken("its signing keys are not those that its last lines name"))?;
    for (path, lines) in mends {
        let mended = match lines {
            Some((at, lines)) => write_again(&path, at, &lines),
            None => fs::remove_file(&path),
        };
        mended.map_err(refused(&path))?;
    }
    // The key is destroyed that has signed what the disk has now.
    keys.save(folder).map_err(refused(&keys_path))?;
    let path = folder.join(folder::file_name(number));
    let mut chain = Chain {
        folder: folder.to_owned(),
        writer: name(folder.parent().unwrap_or(folder)),
        rotation,
        keys,
        file: folder::open(&path).map_err(refused(&path))?,
        number,
        begun: Timestamp::from_millis(begun),
        length,
        reserved: 0,
        handed_on: length,
        torn: false,
        unsynced: false,
        doubtful: false,
        short: false,
        seq: end.seq + 1,
        prev: end.prev.clone(),
        unsigned: end.seq - end.signed,
        untold: end.notices(&head, ends, cut, now),
        synced: Synced::default(),
        kept: VecDeque::new(),
        behind: None,
        head: folder::open(&head_path).and_then(HeadFile::new).map_err(refused(&head_path))?,
        id: head.chain,
        outbox: Vec::new(),
    };
    chain.synced = chain.end();
    Ok(chain)
}

/// Writes lines that end a file to where they are.
fn write_again(path: &Path, at: u64, lines: &[u8]) -> io::Result<()> {
    let file = folder::open(path)?;
    let write = || {
        file.write_all_at(lines, at)?;
        file.set_len(at + lines.len() as u64)?;
        file.sync_all()
    };
    // A failure of before that nobody was told of is told to whoever comes first.
    write().or_else(|_| write())
}

/// Brings the keys to where the chain ends; false where they do not belong to it.
fn adopt(keys: &mut Keys, end: &End) -> io::Result<bool> {
    let Some(key) = &end.key else { return Ok(false) };
    if *key == keys.line.next.public() {
        keys.advance_line()?;
    } else if *key != keys.line.current.public() {
        return Ok(false);
    }
    if end.file_key == keys.file.current.public() {
        return Ok(true);
    }
    if end.file_key == keys.file.next.public() {
        keys.advance_file()?;
        return Ok(true);
    }
    Ok(false)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
