//! Data of versions that are closed in the source: each is opened for a moment and closed again.
//!
//! Nobody can read it otherwise. Before a version is opened, a note of it is on the disk, and whoever finds a note closes
//! that version first: so none stays open for long, whatever ends the program. A file without a note is removed, unless
//! the program is killed.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    super::{Failure, files},
    remote::{Answer, Remote},
    vault::read_data,
    walk::{encoded, forbidden},
    words::Content,
};

/// Opens versions of a KV2 engine, and closes them again. Its file goes with it, unless there is a version left to be
/// closed.
pub(super) struct Opener {
    file: File,
    path: PathBuf,
    /// Tells this engine from any other.
    source: String,
    /// The address of the engine, such as `/v1/secret`.
    mount: String,
    has_note: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    source: String,
    path: String,
    version: u32,
}

impl Opener {
    /// Keeps its note in the file `path`.
    pub(super) fn new(path: &Path, source: &str, mount: &str) -> Result<Self, Failure> {
        let file = files::open_own(path)?;
        let in_use = || Failure::new(format!("another okmsd is using {}", path.display()));
        file.try_lock().map_err(|_| in_use())?;
        let found = file.metadata().map_err(|error| cannot(path, &error))?;
        // Removed by its end just now.
        if !files::is_at(path, &file) {
            return Err(in_use());
        }
        let (source, mount) = (source.to_owned(), mount.to_owned());
        Ok(Self { file, path: path.to_owned(), source, mount, has_note: found.len() > 0 })
    }

    /// Closes the version that was open when the program was ended, if there is one.
    pub(super) async fn settle(&mut self, remote: &mut Remote) -> Result<(), Failure> {
        let mut text = String::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_string(&mut text));
        read.map_err(|error| cannot(&self.path, &error))?;
        if text.is_empty() {
            return Ok(());
        }
        let not_ours =
            || Failure::new(format!("{} is no note of this program", self.path.display()));
        if !text.starts_with(BEGINNING) && !BEGINNING.starts_with(&text) {
            return Err(not_ours());
        }
        // Half a note is one of a version that was not opened yet.
        if let Some(line) = text.strip_suffix('\n') {
            let note: Note = serde_json::from_str(line).map_err(|_| not_ours())?;
            if note.source != self.source {
                return Err(Failure::new(format!(
                    "{} is a note on {}: import or export from there first",
                    self.path.display(),
                    note.source
                )));
            }
            self.change(remote, "delete", &note.path, note.version).await?;
        }
        self.forget()
    }

    /// The data of a closed version.
    pub(super) async fn read(
        &mut self,
        remote: &mut Remote,
        path: &str,
        version: u32,
    ) -> Result<Content, Failure> {
        let note = Note { source: self.source.clone(), path: path.to_owned(), version };
        let note = serde_json::to_string(&note)
            .map_err(|error| Failure::because("cannot write JSON", &error))?;
        self.has_note = true;
        self.write(format!("{note}\n").as_bytes())?;
        let opened = self.ask(remote, "undelete", path, version).await?;
        if let Err(failure) = self.check(&opened, "undelete", path, version) {
            if opened.status == StatusCode::FORBIDDEN && !opened.is_repeated {
                // Somebody may open it one day, and mean it. Where that fails, the note is settled by the next run.
                let _forgotten = self.forget();
            }
            return Err(failure);
        }
        let read = read_data(remote, &self.mount, path, version).await;
        self.change(remote, "delete", path, version).await?;
        self.forget()?;
        Ok(match read? {
            Content::Open(data) => Content::Deactivated(Some(data)),
            other => other,
        })
    }

    async fn change(
        &self,
        remote: &mut Remote,
        how: &str,
        path: &str,
        version: u32,
    ) -> Result<(), Failure> {
        let answer = self.ask(remote, how, path, version).await?;
        self.check(&answer, how, path, version)
    }

    async fn ask(
        &self,
        remote: &mut Remote,
        how: &str,
        path: &str,
        version: u32,
    ) -> Result<Answer, Failure> {
        let body = Zeroizing::new(format!(r#"{{"versions":[{version}]}}"#).into_bytes());
        remote.send_json(Method::POST, &self.address(how, path), body).await
    }

    fn check(&self, answer: &Answer, how: &str, path: &str, version: u32) -> Result<(), Failure> {
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::FORBIDDEN => Err(forbidden(answer, "update", &self.address(how, path))),
            _ => Err(answer.unexpected(&format!("cannot {how} version {version} of {path}"))),
        }
    }

    fn address(&self, how: &str, path: &str) -> String {
        format!("{}/{how}/{}", self.mount, encoded(path))
    }

    fn forget(&mut self) -> Result<(), Failure> {
        self.write(b"")?;
        self.has_note = false;
        Ok(())
    }

    fn write(&mut self, note: &[u8]) -> Result<(), Failure> {
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(note));
        written.and_then(|()| self.file.sync_all()).map_err(|error| cannot(&self.path, &error))
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        if !self.has_note && files::is_at(&self.path, &self.file) {
            // An empty one is left where that fails, which says nothing.
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::because(format!("cannot use {}", path.display()), error)
}

/// How every note begins: a file of anything else must not be lost.
const BEGINNING: &str = "{\"source\":\"";
