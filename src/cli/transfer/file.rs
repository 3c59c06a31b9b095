//! The file of an export: JSON, one object to a line.
//!
//! ```json
//! {"okmsdExport":{"formatVersion":1,"id":"…","okmsId":"…","path":"prod"}}
//! {"secret":{"path":"prod/a","metadata":{…},"effect":{…},"currentVersion":2,"firstVersion":1,…}}
//! {"version":{"id":1,"state":"deleted","createdAt":"…","deactivatedAt":"…"}}
//! {"version":{"id":2,"state":"active","createdAt":"…","data":{…}}}
//! {"end":{"secrets":1,"versions":2}}
//! ```
//!
//! A line to a version, so that nobody ever holds more than one of them, and so that what was cut off is seen. Until
//! it is whole the file has another name, from which an export goes on.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    super::{Failure, files},
    okms::FoundVersion,
    words::{Content, SourceSecret},
};
use crate::{config::open_private_file, domain::VersionState};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line<'a> {
    OkmsdExport(Header),
    Secret(SourceSecret),
    #[serde(borrow)]
    Version(VersionLine<'a>),
    End(End),
}

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub(super) format_version: u32,
    /// Tells this export from any other.
    pub(super) id: String,
    pub(super) okms_id: String,
    /// The root of the subtree; empty for the whole domain.
    pub(super) path: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionLine<'a> {
    id: u32,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deactivated_at: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) secrets: u64,
    pub(super) versions: u64,
}

/// An export that is being written.
pub(super) struct Writer {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    written: End,
}

impl Writer {
    /// Begins an export, or goes on with one that was cut off; gives the path of the last secret that is whole in
    /// it, and empty where there is none.
    pub(super) fn open(path: &Path, header: &Header) -> Result<(Self, String), Failure> {
        let unfinished = unfinished(path);
        // Also a link to nothing, whose name could not be taken in the end.
        if path.symlink_metadata().is_ok() {
            files::forget_second_name(&unfinished, path)?;
            return Err(Failure::new(format!("{} is there already", path.display())));
        }
        let cannot = |error: io::Error| {
            Failure::because(format!("cannot write {}", unfinished.display()), &error)
        };
        let file = files::open_own(&unfinished)?;
        let mode = file.metadata().map_err(cannot)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!("others may read {}", unfinished.display())));
        }
        file.try_lock().map_err(|_| {
            Failure::new(format!("another export is writing {}", unfinished.display()))
        })?;
        let reader = file.try_clone().map_err(cannot)?;
        let mut lines = Lines::new(reader, unfinished.clone());
        let mut kept = Kept::default();
        while let Some(line) = lines.next_line()? {
            if !kept.take(&line, header, &unfinished)? {
                break;
            }
        }
        file.set_len(kept.length).map_err(cannot)?;
        let mut writer = Self { file, unfinished, path: path.to_owned(), written: kept.whole };
        if kept.length == 0 {
            writer.write(&Line::OkmsdExport(header.clone()), 0)?;
        }
        Ok((writer, kept.last))
    }

    /// Writes a secret, whose versions follow.
    pub(super) fn secret(&mut self, secret: &SourceSecret) -> Result<(), Failure> {
        self.written.secrets += 1;
        self.write(&Line::Secret(secret.clone()), 0)
    }

    /// Writes a version.
    pub(super) fn version(&mut self, id: u32, version: &FoundVersion) -> Result<(), Failure> {
        let data = match &version.content {
            Content::Open(data) | Content::Deactivated(Some(data)) => Some(data.as_str()),
            _ => None,
        };
        let cannot = |error| Failure::because("cannot write JSON", &error);
        let raw = data.map(serde_json::from_str).transpose().map_err(cannot)?;
        self.written.versions += 1;
        let line = Line::Version(VersionLine {
            id,
            state: version.state.as_str().to_owned(),
            created_at: Some(version.created_at.clone()),
            deactivated_at: version.deactivated_at.clone(),
            data: raw,
        });
        self.write(&line, data.map_or(0, str::len))
    }

    /// Removes what was written.
    pub(super) fn discard(self) -> Result<(), Failure> {
        fs::remove_file(&self.unfinished).map_err(|error| {
            Failure::because(format!("cannot remove {}", self.unfinished.display()), &error)
        })
    }

    /// How much is in it by now.
    pub(super) const fn written(&self) -> End {
        self.written
    }

    /// Gives the file its name, once it is whole and on the disk.
    pub(super) fn finish(mut self) -> Result<End, Failure> {
        let written = self.written;
        self.write(&Line::End(written), 0)?;
        self.file.sync_all().map_err(|error| self.cannot(&error))?;
        files::publish(&self.unfinished, &self.path)?;
        Ok(written)
    }

    fn write(&mut self, line: &Line<'_>, data_length: usize) -> Result<(), Failure> {
        // Without growing, so that it is all wiped.
        let mut text = Zeroizing::new(Vec::with_capacity(data_length + MAX_FRAME));
        let written = serde_json::to_writer(&mut *text, line).map_err(io::Error::from);
        text.push(b'\n');
        written.and_then(|()| self.file.write_all(&text)).map_err(|error| self.cannot(&error))
    }

    fn cannot(&self, error: &io::Error) -> Failure {
        Failure::because(format!("cannot write {}", self.unfinished.display()), error)
    }
}

/// What of an unfinished file is kept: all up to the last secret, which may lack versions.
#[derive(Default)]
struct Kept {
    /// Bytes.
    length: u64,
    whole: End,
    /// The path of the last secret that is whole.
    last: String,
    read: u64,
    seen: End,
    /// The path of the last secret at all.
    open: String,
}

impl Kept {
    /// Takes the next line; false where it is cut off.
    fn take(&mut self, line: &[u8], header: &Header, file: &Path) -> Result<bool, Failure> {
        // What is something else must not be lost.
        if self.read == 0 && !line.starts_with(BEGINNING) && !BEGINNING.starts_with(line) {
            return Err(broken(file));
        }
        if !line.ends_with(b"\n") {
            return Ok(false);
        }
        let Ok(read) = serde_json::from_slice(line) else {
            return Err(broken(file));
        };
        match read {
            Line::OkmsdExport(of) if self.read == 0 => {
                if (of.format_version, &of.okms_id, &of.path)
                    != (header.format_version, &header.okms_id, &header.path)
                {
                    return Err(Failure::new(format!(
                        "{} is the beginning of another export: remove it, or write elsewhere",
                        file.display()
                    )));
                }
                self.length = line.len() as u64;
            }
            Line::Secret(secret) if self.read > 0 => {
                (self.length, self.whole) = (self.read, self.seen);
                self.last = std::mem::replace(&mut self.open, secret.path);
                self.seen.secrets += 1;
            }
            Line::Version(_) => self.seen.versions += 1,
            // Without its name it is not finished: it is written again.
            Line::End(_) => {}
            _ => return Err(broken(file)),
        }
        self.read += line.len() as u64;
        Ok(true)
    }
}

/// An export that is read.
pub(super) struct Reader {
    lines: Lines,
    header: Header,
    /// The next secret, where its line was come to while another one was read.
    next: Option<SourceSecret>,
    /// Where the secret has versions left.
    version: Option<(u32, Content)>,
    read: End,
    ended: bool,
}

impl Reader {
    /// Opens an export, which must be whole and no business of others.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let cannot =
            |error: io::Error| Failure::because(format!("cannot read {}", path.display()), &error);
        let mut file = open_private_file(path)?;
        let length = file.seek(SeekFrom::End(0)).map_err(cannot)?;
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_END))).map_err(cannot)?;
        let mut tail = Zeroizing::new(Vec::with_capacity(MAX_END as usize));
        (&mut file).take(MAX_END).read_to_end(&mut tail).map_err(cannot)?;
        let tail = tail.strip_suffix(b"\n").unwrap_or(&[]);
        let last = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or(&[]);
        if !last.starts_with(b"{\"end\":") {
            return Err(Failure::new(format!("{} is not a whole export", path.display())));
        }
        file.rewind().map_err(cannot)?;
        let mut lines = Lines::new(file, path.to_owned());
        let first = lines.next_line()?.unwrap_or_default();
        let header = match serde_json::from_slice(&first) {
            Ok(Line::OkmsdExport(header)) if header.format_version == FORMAT_VERSION => header,
            Ok(Line::OkmsdExport(header)) => {
                return Err(Failure::new(format!(
                    "{} has format {}, and this program reads {FORMAT_VERSION}",
                    path.display(),
                    header.format_version
                )));
            }
            _ => return Err(broken(path)),
        };
        let read = End::default();
        Ok(Self { lines, header, next: None, version: None, read, ended: false })
    }

    /// What the export is of.
    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    /// The next secret; what was not read of the last one is passed over.
    pub(super) fn next_secret(&mut self) -> Result<Option<SourceSecret>, Failure> {
        while self.next.is_none() && !self.ended {
            self.advance()?;
        }
        // Of the last one; it must not be taken for the next one's.
        self.version = None;
        Ok(self.next.take())
    }

    /// A version of the secret: later ones only. Of one that has no line, nothing is there.
    pub(super) fn version(&mut self, number: u32) -> Result<Content, Failure> {
        loop {
            match &self.version {
                Some((id, _)) if *id == number => {
                    return Ok(self
                        .version
                        .take()
                        .map_or(Content::Deleted, |(_, content)| content));
                }
                Some((id, _)) if *id > number => return Ok(Content::Deleted),
                _ if self.next.is_some() || self.ended => return Ok(Content::Deleted),
                _ => self.advance()?,
            }
        }
    }

    fn advance(&mut self) -> Result<(), Failure> {
        let path = self.lines.path.clone();
        let line = self.lines.next_line()?.ok_or_else(|| broken(&path))?;
        match serde_json::from_slice(&line) {
            Ok(Line::Secret(secret)) => {
                self.read.secrets += 1;
                self.next = Some(secret);
            }
            Ok(Line::Version(version)) => {
                self.read.versions += 1;
                let content = match (version.data, VersionState::parse(&version.state)) {
                    (Some(data), Ok(VersionState::Active)) => Content::of(data),
                    (Some(data), Ok(VersionState::Deactivated)) => match Content::of(data) {
                        Content::Open(data) => Content::Deactivated(Some(data)),
                        refused => refused,
                    },
                    (None, Ok(VersionState::Deleted)) => Content::Deleted,
                    (None, Ok(_)) => Content::Deactivated(None),
                    _ => return Err(broken(&path)),
                };
                self.version = Some((version.id, content));
            }
            Ok(Line::End(end)) if end == self.read => self.ended = true,
            _ => return Err(broken(&path)),
        }
        Ok(())
    }
}

/// The lines of a file, from a buffer that is wiped.
struct Lines {
    file: File,
    path: PathBuf,
    buffer: Zeroizing<Vec<u8>>,
    /// What of the buffer was not given out yet.
    start: usize,
    end: usize,
}

impl Lines {
    fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, buffer: Zeroizing::new(vec![0; MAX_LINE]), start: 0, end: 0 }
    }

    /// The next line with its end; without one where the file ends before.
    fn next_line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        let mut searched = self.start;
        loop {
            let found = self.buffer[searched..self.end].iter().position(|byte| *byte == b'\n');
            if let Some(at) = found {
                return Ok(Some(self.give(searched + at + 1)));
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            searched = self.end;
            if self.end == self.buffer.len() {
                return Err(broken(&self.path));
            }
            let read = match self.file.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.map_err(|error| {
                    Failure::because(format!("cannot read {}", self.path.display()), &error)
                })?,
            };
            if read == 0 {
                return Ok((self.end > 0).then(|| self.give(self.end)));
            }
            self.end += read;
        }
    }

    fn give(&mut self, end: usize) -> Zeroizing<Vec<u8>> {
        let line = Zeroizing::new(self.buffer[self.start..end].to_vec());
        self.start = end;
        line
    }
}

fn broken(path: &Path) -> Failure {
    Failure::new(format!("{} is not a whole export of this format", path.display()))
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(".unfinished");
    path.with_file_name(name)
}

/// The format that is written and read.
pub(super) const FORMAT_VERSION: u32 = 1;

/// How every export begins.
const BEGINNING: &[u8] = b"{\"okmsdExport\":{";

/// 1 MiB: data has 64 KiB at most, which other programs may have written with each letter escaped, and custom
/// metadata about as much.
const MAX_LINE: usize = 1024 * 1024;
/// Bytes of a line besides data, but for custom metadata, which may be in any memory.
const MAX_FRAME: usize = 1024;
/// Bytes of the last line, amply.
const MAX_END: u64 = 256;
