//! The end of a chain, read line by line from the last line that is signed.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use tracing::warn;

use super::{
    super::{
        head::Head,
        line::{Entry, LINE_DOMAIN, MAX_LINE, Notice, Parsed, Pending, What, hash, is_signed},
    },
    Ends,
};
use crate::domain::Timestamp;

/// What the end of a chain comes to, line by line.
pub(super) struct End {
    /// The last line, and its hash.
    pub(super) seq: u64,
    pub(super) prev: String,
    /// The last line that carries a signature.
    pub(super) signed: u64,
    /// The next checkpoint's key, once a line has named it.
    pub(super) key: Option<String>,
    /// The next file's key.
    pub(super) file_key: String,
    /// The last line without a signature says that the process ends.
    stopped: bool,
    /// The line with which the chain had ended.
    ended_at: Option<u64>,
}

impl End {
    pub(super) const fn new(file_key: String) -> Self {
        Self {
            seq: 0,
            prev: String::new(),
            signed: 0,
            key: None,
            file_key,
            stopped: false,
            ended_at: None,
        }
    }

    /// Goes one line further, if it is the next one of the chain. The first one is taken as it is: `head`
    /// tells whether it is right.
    pub(super) fn follow(&mut self, line: &[u8], head: &Head) -> Option<()> {
        let parsed = Parsed::read(line)?;
        let is_first = self.prev.is_empty();
        if is_first && parsed.seq > head.seq {
            return None;
        }
        if !is_first && (parsed.seq != self.seq + 1 || parsed.prev != self.prev) {
            return None;
        }
        match parsed.kind.as_str() {
            "checkpoint" => {
                let is_right = |key: &String| is_signed(line, LINE_DOMAIN, &head.chain, key);
                if !self.key.as_ref().is_none_or(is_right) {
                    return None;
                }
                self.key = Some(parsed.next_key?);
            }
            "file" if is_first => self.key = Some(parsed.key?),
            "file" => {
                let file_key = parsed.file_key?;
                if file_key != self.file_key
                    || !is_signed(line, LINE_DOMAIN, &head.chain, &file_key)
                {
                    return None;
                }
                self.file_key = parsed.next_file_key?;
                self.key = Some(parsed.key?);
            }
            "removed" => {}
            _ => self.stopped = parsed.what.as_deref() == Some("stopped"),
        }
        if parsed.kind == "checkpoint" || parsed.kind == "file" {
            self.signed = parsed.seq;
            self.ended_at = self.stopped.then_some(parsed.seq);
        }
        self.seq = parsed.seq;
        self.prev = hash(line);
        Some(())
    }

    /// Whether `head` says the same of the present line, or nothing.
    pub(super) fn is_told_by(&self, head: &Head, head_text: &str) -> bool {
        let synced = head.synced.as_ref();
        synced.is_none_or(|synced| synced.seq != self.seq || synced.hash == self.prev)
            && (head.seq != self.seq || head.hash == self.prev && self.has_signed(head, head_text))
    }

    /// Whether the key that is in force has signed `head`.
    pub(super) fn has_signed(&self, head: &Head, head_text: &str) -> bool {
        self.key.as_ref().is_some_and(|key| head.is_signed(head_text, key))
    }

    /// Whether lines that `head` tells of are missing because the disk had not got them yet; otherwise they
    /// were changed, or lost though they had been there. `written` is how much of the file was written.
    pub(super) fn is_power_cut(&self, head: &Head, written: u64) -> bool {
        let had = head.synced.as_ref().is_some_and(|synced| synced.seq <= self.seq);
        had && written < head.length
    }

    /// What is to be told of this end.
    pub(super) fn notices(
        &self,
        head: &Head,
        ends: Ends,
        cut: usize,
        now: Timestamp,
    ) -> Vec<Pending> {
        let mut found = Vec::new();
        if self.seq < head.seq {
            let (first, last) = (self.seq + 1, head.seq);
            let detail = format!("lines {first} to {last}, which the disk had not got yet");
            found.push((What::Lost, detail));
        } else if cut > 0 {
            found.push((What::Cut, format!("{cut} bytes of an incomplete line")));
        }
        let proved = self.signed.max(head.seq);
        if self.seq > proved {
            let after = match self.ended_at {
                Some(ended) if ended >= proved => ", after the chain had ended",
                _ => "",
            };
            let detail = format!("lines {} to {}{after}", proved + 1, self.seq);
            found.push((What::Unproved, detail));
        }
        let has_ended = match ends {
            Ends::Stopped => self.ended_at == Some(self.seq),
            Ends::Signed => self.signed == self.seq,
        };
        if !has_ended || !found.is_empty() {
            let (signed, seq) = (self.signed, self.seq);
            let detail =
                format!("line {signed} was the last signed one, line {seq} the last found");
            found.push((What::Interrupted, detail));
        }
        let notice = |(what, detail): (What, String)| {
            warn!(?what, detail, "the audit log did not end as it should");
            Pending::new(now, &Entry::Notice(Notice { what, detail: Some(detail) }))
        };
        found.into_iter().map(notice).collect()
    }
}

/// The key that the first line of a file names for the next one.
pub(super) fn next_file_key(path: &Path) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let file = BufReader::new(File::open(path)?);
    file.take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
    Ok(Parsed::read(&line).and_then(|parsed| parsed.next_file_key))
}

/// The end of a file, and where it begins: with the last line that carries a signature among those of its
/// first `length` bytes, and with the one before that. Nothing where no line ends there.
pub(super) fn signed_end(path: &Path, length: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < length {
        return Ok(None);
    }
    let mut look = FIRST_LOOK;
    loop {
        let start = length.saturating_sub(look);
        file.seek(SeekFrom::Start(start))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let known = usize::try_from(length - start).unwrap_or(usize::MAX).min(text.len());
        if let Some(at) = last_signed(&text[..known], start == 0) {
            return Ok(Some((start + at as u64, text.split_off(at))));
        }
        if start == 0 {
            return Ok(None);
        }
        look *= 8;
    }
}

/// What was written of the text of a file from `start` on. Of the bytes `unsynced`, there may be the length alone,
/// which reads as zeros: at the end, or before what the disk took earlier.
pub(super) fn written(text: &[u8], start: u64, unsynced: Range<u64>) -> &[u8] {
    let at = |length: u64| {
        usize::try_from(length.saturating_sub(start)).unwrap_or(usize::MAX).min(text.len())
    };
    let (from, to) = (at(unsynced.start), at(unsynced.end));
    let zero = text.get(from..to).and_then(|text| text.iter().position(|byte| *byte == 0));
    zero.map_or(text, |zero| &text[..from + zero])
}

/// Where the line begins that comes before the last one that carries a signature, or that one where it is the
/// first of its file. `is_whole` says that the text begins with a line.
fn last_signed(text: &[u8], is_whole: bool) -> Option<usize> {
    let mut at = match is_whole {
        true => 0,
        false => text.iter().position(|byte| *byte == b'\n')? + 1,
    };
    let (mut before, mut found) = (None, None);
    for line in text.strip_suffix(b"\n")?.get(at..)?.split(|byte| *byte == b'\n') {
        if Parsed::read(line).is_some_and(|parsed| parsed.carries_signature()) {
            found = before.or((at == 0 && is_whole).then_some(0));
        }
        before = Some(at);
        at += line.len() + 1;
    }
    found
}

/// Bytes from the end in which a signed line is looked for at first: what a server writes in a second or
/// less, mostly.
const FIRST_LOOK: u64 = 64 * 1024;
