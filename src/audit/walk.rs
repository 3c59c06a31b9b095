//! The lines of a chain, checked one after the other.

mod ends;

use std::{
    collections::VecDeque,
    fs, io,
    iter::Peekable,
    path::{Path, PathBuf},
};

use super::{
    chain::KEPT_HEADS,
    folder,
    head::Head,
    keys::Keys,
    line::{LINE_DOMAIN, NO_HASH, Parsed, hash, is_signed},
    reader::{Line, Lines},
    report::{Broken, ChainReport, Seen},
};

/// A chain on the way through it.
pub(super) struct Walk<'a> {
    report: ChainReport,
    head: Option<(Head, String)>,
    seen: &'a [Seen],
    /// The last line that was read.
    place: Option<Place>,
    /// Its hash.
    prev: String,
    /// The number that the next line must have.
    seq: u64,
    /// The key of the next checkpoint.
    key: String,
    /// All keys of checkpoints so far.
    keys: VecDeque<String>,
    /// The key of the next file.
    file_key: Option<String>,
    /// The line that `head` tells of was read, and `head` is signed by the key that was in force then.
    head_is_right: bool,
    /// The last line that is neither a checkpoint nor the first one of a file says that the process ended.
    stopped: bool,
    /// So it was, and signed, where `head` says that the chain ends.
    ended: bool,
    /// The first line after that one which no signed line follows.
    after_head: Option<Place>,
    /// The number of the present file.
    number: u32,
    /// Files that the chain says it has removed.
    removed_through: u32,
    /// Files whose first line is all that is left.
    kept_heads: u32,
    /// The number that the first line which comes after those must at least have.
    kept_seq: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(folder: &Path, seen: &'a [Seen]) -> Self {
        Self {
            report: ChainReport::new(folder),
            head: None,
            seen,
            place: None,
            prev: NO_HASH.to_owned(),
            seq: 0,
            key: String::new(),
            keys: VecDeque::new(),
            file_key: None,
            head_is_right: false,
            stopped: false,
            ended: false,
            after_head: None,
            number: 0,
            removed_through: 0,
            kept_heads: 0,
            kept_seq: 0,
        }
    }

    /// Goes through the chain.
    pub(super) fn report(mut self, folder: &Path) -> ChainReport {
        self.report.broken = self.run(folder).err();
        self.report
    }

    fn run(&mut self, folder: &Path) -> Result<(), Broken> {
        if !folder.exists() {
            return Err(broken_file(folder.display().to_string(), "the chain is missing"));
        }
        // Before the files, which a server goes on writing.
        let own_keys =
            Keys::load(folder).map(|keys| [keys.line.current.public(), keys.line.next.public()]);
        self.head = Some(ends::read_head(folder)?);
        let files = folder::files(folder)
            .map_err(|error| broken_file(folder.display().to_string(), error.to_string()))?;
        let first = files.first().map_or(0, |(number, _)| *number);
        self.read_kept_heads(folder, first)?;
        self.check_numbers(&files)?;
        let is_empty = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() == 0);
        let empty: Vec<_> =
            files.iter().filter(|(_, path)| is_empty(path)).map(|(number, _)| *number).collect();
        let mut empty = empty.into_iter().peekable();
        let last_known = self.head.as_ref().map_or(0, |(head, _)| head.file);
        let mut lines = Lines::new(files).peekable();
        while let Some(line) = lines.next() {
            let line = line.map_err(|(number, error)| {
                broken_file(folder::file_name(number), format!("it cannot be read: {error}"))
            })?;
            if let Some(number) = empty.next_if(|number| *number < line.file_number) {
                return Err(broken_empty(number));
            }
            let is_last = lines.peek().is_none();
            if line.ended {
                self.check(&line, &mut lines)?;
            } else if is_last && (line.number > 1 || line.file_number > last_known) {
                let place = format!("{} line {}", line.file, line.number);
                self.note(format!("{place} is not whole: it is being written, or never was"));
            } else {
                let (file, number) = (line.file, line.number);
                return Err(Place { file, line: number, seq: self.seq, signed: false }
                    .broken("the line does not end: it was changed or cut off"));
            }
        }
        match empty.next() {
            Some(number) if number <= last_known => return Err(broken_empty(number)),
            Some(number) => self.note(format!("{} is just begun", folder::file_name(number))),
            None => {}
        }
        self.check_end(own_keys.as_ref().ok())?;
        if self.kept_heads > self.removed_through {
            let what = "the file is missing, and the chain does not say that it was removed by age";
            return Err(broken_file(folder::file_name(self.removed_through + 1), what));
        }
        self.check_seen()?;
        self.check_own_key(own_keys.map(|[current, _]| current), folder)
    }

    /// The way of keys through the files that were removed by age, up to the first that is there. A process
    /// that was killed may have left the line of a file that it was about to remove.
    fn read_kept_heads(&mut self, folder: &Path, first: u32) -> Result<(), Broken> {
        let text = match fs::read(folder.join(KEPT_HEADS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(|error| broken_file(KEPT_HEADS, error.to_string()))?,
        };
        let lines = text.split_inclusive(|byte| *byte == b'\n').enumerate();
        for (at, line) in lines.take(first.saturating_sub(1) as usize) {
            let place =
                Place { file: KEPT_HEADS.to_owned(), line: at as u64 + 1, seq: 0, signed: false };
            let line = line.strip_suffix(b"\n");
            let parsed = line.and_then(|line| Parsed::read(line).map(|parsed| (line, parsed)));
            let (line, parsed) = parsed.ok_or_else(|| place.broken(CHANGED))?;
            self.number += 1;
            self.check_file_head(&parsed, line, &place)?;
            self.follow_removed(&parsed, &place)?;
            self.kept_heads += 1;
        }
        Ok(())
    }

    /// Checks that a line which comes after removed ones may do so.
    fn follow_removed(&mut self, parsed: &Parsed, place: &Place) -> Result<(), Broken> {
        if parsed.seq < self.kept_seq {
            return Err(place.broken(format!(
                "line {} cannot come after line {} of a file before",
                parsed.seq,
                self.kept_seq - 1
            )));
        }
        self.kept_seq = parsed.seq + 1;
        Ok(())
    }

    fn check_numbers(&self, files: &[(u32, PathBuf)]) -> Result<(), Broken> {
        let first = files.first().map_or(0, |(number, _)| *number);
        if first > self.kept_heads + 1 {
            let missing = folder::file_name(self.kept_heads + 1);
            return Err(broken_file(missing, "the file is missing"));
        }
        let last = files.last().map_or(0, |(number, _)| *number);
        match (first.max(1)..=last).find(|number| !files.iter().any(|(at, _)| at == number)) {
            Some(number) => Err(broken_file(folder::file_name(number), "the file is missing")),
            None => Ok(()),
        }
    }

    fn check(&mut self, line: &Line, rest: &mut Peekable<Lines>) -> Result<(), Broken> {
        let mut place =
            Place { file: line.file.clone(), line: line.number, seq: self.seq, signed: false };
        let parsed = Parsed::read(&line.text).ok_or_else(|| place.broken(CHANGED))?;
        let own_hash = hash(&line.text);
        let next = rest.peek().and_then(|next| next.as_ref().ok());
        let next = next.and_then(|next| Parsed::read(&next.text));
        if line.number == 1 && parsed.kind != "file" {
            return Err(place.broken("the first line of the file is missing"));
        }
        if self.place.is_none() && self.kept_heads > 0 {
            self.follow_removed(&parsed, &place)?;
            // What came before is gone; the signature of the first line stands for it.
            (self.seq, self.prev) = (parsed.seq, parsed.prev.clone());
            self.forget_seen();
            place.seq = parsed.seq;
        }
        self.check_order(&parsed, next.as_ref(), &own_hash, &place)?;
        if line.number == 1 {
            self.number = line.file_number;
            self.check_file_head(&parsed, &line.text, &place)?;
            place.signed = true;
        } else if parsed.kind == "file" {
            return Err(place.broken("the first line of a file stands in its middle"));
        }
        match parsed.kind.as_str() {
            "checkpoint" => {
                if !is_signed(&line.text, LINE_DOMAIN, &self.report.chain, &self.key) {
                    return Err(place.broken(format!(
                        "the signature is not right: this line was changed, or those since line \
                         {} were written anew",
                        self.seq.saturating_sub(self.report.unsigned)
                    )));
                }
                let key = parsed.next_key.clone().ok_or_else(|| place.broken(CHANGED))?;
                self.use_key(key);
                place.signed = true;
                self.report.unsigned = 0;
            }
            "removed" => {
                self.removed_through = parsed.files_through.unwrap_or(0).max(self.removed_through);
                self.report.told.removed = self.removed_through.into();
                let through = folder::file_name(self.removed_through);
                self.note(format!(
                    "line {}: the files up to {through} were removed by age at {}",
                    parsed.seq, parsed.time
                ));
                self.report.unsigned += 1;
            }
            "file" => {}
            _ => {
                self.stopped = parsed.what.as_deref() == Some("stopped");
                self.report.unsigned += 1;
            }
        }
        self.note_notice(&parsed);
        self.check_head(&own_hash, &place)?;
        (self.seq, self.prev) = (parsed.seq + 1, own_hash);
        self.report.lines += 1;
        self.report.last = Some((parsed.seq, self.prev.clone()));
        if place.signed && self.disk_has(parsed.seq) {
            self.report.proved.clone_from(&self.report.last);
        }
        self.remember_seen(&place)?;
        self.place = Some(place);
        Ok(())
    }

    /// Checks that a line is the next one.
    fn check_order(
        &self,
        parsed: &Parsed,
        next: Option<&Parsed>,
        own_hash: &str,
        place: &Place,
    ) -> Result<(), Broken> {
        let follows = parsed.prev == self.prev;
        match parsed.seq.cmp(&self.seq) {
            std::cmp::Ordering::Equal if follows => Ok(()),
            // All that was changed is the number.
            _ if follows => Err(place.broken(CHANGED)),
            std::cmp::Ordering::Equal => Err(self.blame(next, own_hash, place)),
            std::cmp::Ordering::Less => {
                Err(place.broken(format!("line {} stands in its place: out of order", parsed.seq)))
            }
            std::cmp::Ordering::Greater if next.is_some_and(|next| next.seq == self.seq) => {
                Err(place.broken(format!("line {} stands in its place: out of order", parsed.seq)))
            }
            std::cmp::Ordering::Greater => {
                let what = match parsed.seq - self.seq {
                    1 => format!("line {} was removed", self.seq),
                    _ => format!("lines {} to {} were removed", self.seq, parsed.seq - 1),
                };
                match &self.place {
                    Some(last) if place.line == 1 => Err(Broken {
                        file: last.file.clone(),
                        line: Some(last.line + 1),
                        seq: Some(self.seq),
                        what: format!("{what}: the file is cut off at its end"),
                    }),
                    _ => Err(place.broken(what)),
                }
            }
        }
    }

    /// Tells which of two lines was changed that do not fit: the one that also does not fit its other
    /// neighbour.
    fn blame(&self, next: Option<&Parsed>, own_hash: &str, place: &Place) -> Broken {
        let head = self.head.as_ref().map(|(head, _)| head);
        let known = |seq: u64| head.filter(|head| head.seq == seq).map(|head| head.hash.as_str());
        let before_is_whole = self.place.as_ref().is_some_and(|before| before.signed)
            || self.seq.checked_sub(1).and_then(known).is_some_and(|hash| hash == self.prev);
        let this_is_whole = known(self.seq)
            .or(next.map(|next| next.prev.as_str()))
            .is_some_and(|hash| hash == own_hash);
        match &self.place {
            Some(before) if !before_is_whole && this_is_whole => before.broken(CHANGED),
            _ => place.broken(CHANGED),
        }
    }

    fn check_file_head(
        &mut self,
        parsed: &Parsed,
        line: &[u8],
        place: &Place,
    ) -> Result<(), Broken> {
        if parsed.kind != "file" {
            return Err(place.broken("the first line of the file is missing"));
        }
        let changed = || place.broken(CHANGED);
        let (Some(chain), Some(key)) = (&parsed.chain, &parsed.key) else { return Err(changed()) };
        let (Some(file_key), Some(next)) = (&parsed.file_key, &parsed.next_file_key) else {
            return Err(changed());
        };
        let first = self.file_key.is_none();
        let expected = self.file_key.as_ref().unwrap_or(file_key);
        let right = parsed.file == Some(self.number)
            && file_key == expected
            && (first || *chain == self.report.chain)
            && (self.place.is_none() || *key == self.key)
            && is_signed(line, LINE_DOMAIN, chain, file_key);
        if !right {
            return Err(place.broken("the signature is not right: the line was changed"));
        }
        if first {
            self.report.chain.clone_from(chain);
            self.report.first_key.clone_from(file_key);
            if let Some(writer) = &parsed.writer {
                self.report.writer.clone_from(writer);
            }
            if let Some(follows) = &parsed.follows {
                let before = folder::chain_name(follows.chain_number);
                self.note(format!("goes on for chain {before}, because {}", follows.why));
            }
        }
        self.file_key = Some(next.clone());
        self.use_key(key.clone());
        Ok(())
    }

    fn use_key(&mut self, key: String) {
        if self.keys.back() != Some(&key) {
            self.keys.push_back(key.clone());
        }
        // Only the last ones can be those of a server that goes on meanwhile.
        if self.keys.len() > MAX_KEYS {
            self.keys.pop_front();
        }
        self.key = key;
    }

    fn note_notice(&mut self, parsed: &Parsed) {
        let detail = parsed.detail.as_deref().unwrap_or_default();
        let told = &mut self.report.told;
        let (text, count) = match parsed.what.as_deref() {
            Some("tampered") => ("the file was tampered with", Some(&mut told.tampered)),
            Some("unproved") => (
                "lines were found that nothing proves: a process was killed just then, or somebody \
                 has added them",
                Some(&mut told.unproved),
            ),
            Some("unsynced") => ("lines may be lost with a power cut", Some(&mut told.lost)),
            Some("lost") => ("records were lost", Some(&mut told.lost)),
            Some("interrupted") => {
                ("a process did not end as it should", Some(&mut told.interrupted))
            }
            Some("cut") => ("a process was killed while it wrote", None),
            Some("resumed") => ("the log could not be written for a time", None),
            Some("refused") => ("requests were refused", None),
            _ => return,
        };
        if let Some(count) = count {
            *count += 1;
        }
        self.note(format!("line {} at {}: {text}: {detail}", parsed.seq, parsed.time));
    }

    fn note(&mut self, text: String) {
        if self.report.notes.len() < MAX_NOTES {
            self.report.notes.push(text);
        } else {
            self.report.more_notes += 1;
        }
    }
}

#[derive(Debug, Clone)]
struct Place {
    file: String,
    line: u64,
    seq: u64,
    /// Whether the line is signed by itself, and the signature is right.
    signed: bool,
}

impl Place {
    fn broken(&self, what: impl Into<String>) -> Broken {
        let (line, seq) = (Some(self.line), Some(self.seq));
        Broken { file: self.file.clone(), line, seq, what: what.into() }
    }
}

fn broken_empty(number: u32) -> Broken {
    Broken { line: Some(1), ..broken_file(folder::file_name(number), "the file holds no line") }
}

pub(super) fn broken_file(file: impl Into<String>, what: impl Into<String>) -> Broken {
    Broken { file: file.into(), line: None, seq: None, what: what.into() }
}

const CHANGED: &str = "the line was changed";

/// Keys that are remembered: a verification of one chain takes fewer checkpoints than that.
const MAX_KEYS: usize = 100_000;

/// Notes that are listed of one chain: those of more kills than anybody reads about. The rest is counted.
const MAX_NOTES: usize = 100;
