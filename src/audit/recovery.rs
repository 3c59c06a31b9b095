//! What a start finds, and goes on with.
//!
//! Only the end of a chain is looked at, so a start takes no time; whether the rest is whole is asked of
//! `okmsd audit verify`. A process that was killed may have left: an incomplete last line, whole lines
//! that `head` does not know yet, a file whose first line is not whole, keys one step behind. A power cut
//! may also have taken lines that `head` says the disk had not got yet. All of that is mended, and lines that
//! are lost are told of. Anything else is the work of others, or of a disk that lost what it had acknowledged:
//! then that chain stays as it is, for whoever looks into it, and another one begins which says why.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use tracing::{error, warn};

use super::{
    Error,
    chain::{Chain, Rotation},
    folder,
    head::{Head, Synced},
    keys::Keys,
    line::{Entry, Follows, LINE_DOMAIN, MAX_LINE, Notice, Parsed, Pending, What, hash, is_signed},
};
use crate::domain::Timestamp;

impl Chain {
    /// Opens the last chain of a writer, or begins one.
    ///
    /// # Errors
    ///
    /// Where the folder is open to others, or cannot be read or written.
    pub(super) fn open(
        writer_folder: &Path,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let chains = folder::chains(writer_folder).map_err(Error::io(writer_folder))?;
        let (number, follows) = match chains.last() {
            None => (1, None),
            Some((number, path)) => {
                folder::check_private(path)?;
                match recover(path, rotation.clone(), now) {
                    Ok(chain) => return Ok(chain),
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
}

enum Unusable {
    /// The chain does not end as it was left.
    Broken(String),
    /// It may be whole, but cannot be used.
    Refused(Error),
}

fn broken(why: impl Into<String>) -> Unusable {
    Unusable::Broken(why.into())
}

/// What the end of a chain comes to, line by line.
struct End {
    seq: u64,
    prev: String,
    /// The next checkpoint's key, where a line after `head` names it.
    key: Option<String>,
    /// The next file's key.
    file_key: String,
    unsigned: u64,
}

fn recover(folder: &Path, rotation: Rotation, now: Timestamp) -> Result<Chain, Unusable> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => broken(format!("{} is missing", name(&path))),
            io::ErrorKind::InvalidData => broken(format!("{} is damaged", name(&path))),
            _ => Unusable::Refused(Error::Io(path, error)),
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

    let mut end = End {
        seq: head.seq,
        prev: head.hash.clone(),
        key: None,
        file_key: head.next_file_key.clone(),
        unsigned: 0,
    };
    let (mut number, mut length, mut begun, mut cut) = (head.file, 0, head.begun, 0);
    let mut next = files.into_iter().filter(|(number, _)| *number >= head.file).peekable();
    if next.peek().is_none_or(|(number, _)| *number != head.file) {
        return Err(broken(format!("{} is missing", folder::file_name(head.file))));
    }
    while let Some((at, path)) = next.next() {
        let is_first = at == head.file;
        let (start, text) = if is_first {
            let known = after_line(&path, head.length, &head.hash).map_err(refused(&path))?;
            let known = known.map(|text| (head.length, text));
            match known.or(after_synced(&path, &head).map_err(refused(&path))?) {
                Some(found) => found,
                None => return Err(broken(format!("{} is not what was written", name(&path)))),
            }
        } else {
            (0, fs::read(&path).map_err(refused(&path))?)
        };
        if let Some(synced) = &head.synced
            && is_first
            && start < head.length
        {
            if !head.is_signed(&head_text, &keys.line.current.public()) {
                return Err(broken(format!("{} is not what was written", name(&path))));
            }
            (end.seq, end.prev) = (synced.seq, synced.hash.clone());
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if whole == 0 && !is_first {
            // Never finished, and nothing refers to it.
            fs::remove_file(&path).map_err(refused(&path))?;
            cut += text.len();
            continue;
        }
        for line in text[..whole].split_inclusive(|byte| *byte == b'\n') {
            follow(&mut end, &line[..line.len() - 1], &head.chain).ok_or_else(|| {
                broken(format!("{} goes on with lines of somebody else", name(&path)))
            })?;
        }
        if whole < text.len() {
            if next.peek().is_some() {
                return Err(broken(format!("{} ends in the middle of a line", name(&path))));
            }
            cut += text.len() - whole;
            let file = folder::open(&path).map_err(refused(&path))?;
            file.set_len(start + whole as u64).map_err(refused(&path))?;
        }
        if !is_first {
            begun = now.as_millis();
        }
        (number, length) = (at, start + whole as u64);
    }

    adopt(&mut keys, &end, &head, &head_text)
        .map_err(refused(&keys_path))?
        .then_some(())
        .ok_or_else(|| broken("its signing keys are not those that its last lines name"))?;
    keys.save(folder).map_err(refused(&keys_path))?;
    let path = folder.join(folder::file_name(number));
    let mut chain = Chain {
        folder: folder.to_owned(),
        writer: name(folder.parent().unwrap_or(folder)),
        rotation,
        id: head.chain,
        keys,
        file: folder::open(&path).map_err(refused(&path))?,
        number,
        begun: Timestamp::from_millis(begun),
        length,
        reserved: 0,
        torn: false,
        short: false,
        seq: end.seq + 1,
        prev: end.prev,
        // Not known for those before `head`: one checkpoint too many does no harm.
        unsigned: end.unsigned + 1,
        synced: Synced::default(),
        head: folder::open(&head_path).map_err(refused(&head_path))?,
    };
    // A killed process may have left what the disk has not got yet.
    chain.file.sync_all().map_err(refused(&path))?;
    chain.synced = chain.end();
    chain.write_head();
    let notice = if end.seq < head.seq {
        let (first, last) = (end.seq + 1, head.seq);
        warn!(first, last, "lines of the audit log that the disk had not got yet are lost");
        let detail = format!("lines {first} to {last}, which the disk had not got yet");
        Some(Notice { what: What::Lost, detail: Some(detail) })
    } else if cut > 0 {
        warn!(bytes = cut, "an incomplete line at the end of the audit log was cut");
        let detail = Some(format!("{cut} bytes of an incomplete line"));
        Some(Notice { what: What::Cut, detail })
    } else {
        None
    };
    if let Some(notice) = notice {
        let notice = Entry::Notice(notice);
        // Where this cannot be written, neither can anything else: the first record tells.
        if let Err(error) = chain.append(&[Pending::new(now, notice)], true) {
            error!(?error, "the audit log cannot be written");
        }
    }
    Ok(chain)
}

/// What a power cut has left after the last line that the disk had; nothing where it was no power cut: then
/// lines were changed, or lost that had been there.
fn after_synced(path: &Path, head: &Head) -> io::Result<Option<(u64, Vec<u8>)>> {
    let Some(Synced { length, hash, .. }) = &head.synced else { return Ok(None) };
    let Some(text) = after_line(path, *length, hash)? else { return Ok(None) };
    // Of what was not written, there may be the length.
    let written = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Ok((length + (written as u64) < head.length).then_some((*length, text)))
}

/// What stands in a file after the line that ends there and has that hash; nothing where it does not.
fn after_line(path: &Path, length: u64, expected: &str) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let start = length.saturating_sub(MAX_LINE as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let known = usize::try_from(length - start).unwrap_or(usize::MAX);
    if text.len() < known {
        return Ok(None);
    }
    let rest = text.split_off(known);
    let Some(lines) = text.strip_suffix(b"\n") else { return Ok(None) };
    let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok((hash(last) == expected).then_some(rest))
}

/// Goes one line further, if it is the next one of the chain.
fn follow(end: &mut End, line: &[u8], chain: &str) -> Option<()> {
    let parsed = Parsed::read(line)?;
    if parsed.seq != end.seq + 1 || parsed.prev != end.prev {
        return None;
    }
    end.unsigned += 1;
    match parsed.kind.as_str() {
        "checkpoint" => {
            end.key = Some(parsed.next_key?);
            end.unsigned = 0;
        }
        "file" => {
            let file_key = parsed.file_key?;
            if file_key != end.file_key || !is_signed(line, LINE_DOMAIN, chain, &file_key) {
                return None;
            }
            end.file_key = parsed.next_file_key?;
            end.key = Some(parsed.key?);
        }
        _ => {}
    }
    end.seq = parsed.seq;
    end.prev = hash(line);
    Some(())
}

/// Brings the keys to where the chain ends; false where they do not belong to it.
fn adopt(keys: &mut Keys, end: &End, head: &Head, head_text: &str) -> io::Result<bool> {
    match &end.key {
        Some(key) if *key == keys.line.current.public() => {}
        Some(key) if *key == keys.line.next.public() => keys.advance_line()?,
        Some(_) => return Ok(false),
        None if head.is_signed(head_text, &keys.line.current.public()) => {}
        None => return Ok(false),
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
