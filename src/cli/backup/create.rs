//! `okmsd backup FILE`.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use clap::Args;
use tokio::sync::mpsc;

use super::{STANDARD, content_json, counts, progress::Progress, secret::SecretArguments};
use crate::{
    audit,
    cli::{
        Failure,
        act::Act,
        config_args::ConfigArguments,
        files::NewFile,
        output::{self, Format},
        services::{self, Services},
    },
    config::Environment,
    crypto::BackupSecret,
    service::{BackupContent, Backups},
};

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    secret: SecretArguments,
    /// Form of the answer; where the backup goes to standard output, nothing else does
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File of the backup, which must not be there yet, or - for standard output
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Create {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let file = self.file.ok_or_else(|| {
            Failure::usage("name the FILE of the backup, or - for standard output")
        })?;
        let config = self.secret.load(&self.config, environment)?;
        let secret = self.secret.read_new(&config)?;
        let target = Target::open(&file)?;
        let act = Act::new("backup").about("file", file.display());
        let content = services::with(&config, act, async |services| {
            refuse_root_key(services, &secret).await?;
            let (store, keyring) = (services.store.clone(), services.keyring.clone());
            let backups = Backups::new(store, keyring, services.clock.clone());
            // Nobody but an auditor misses it; a backup without it is better than none.
            let audit = || {
                audit::last_lines(&config.audit.folder).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the ends of the audit log cannot be read");
                    Vec::new()
                })
            };
            let progress = Progress::new();
            let (sender, receiver) = mpsc::channel(PIECES);
            let writing = thread::spawn(move || target.write(receiver));
            let written = backups.write(&secret, audit, sender, &|rows| progress.rows(rows)).await;
            drop(progress);
            let content = finish(written, writing, &file)?;
            services.notes.add("secrets", content.rows.get("secrets").copied().unwrap_or_default());
            services.notes.add_all(
                "auditLines",
                content
                    .audit
                    .iter()
                    .map(|seen| format!("{}:{}:{}", seen.chain, seen.seq, seen.hash)),
            );
            Ok(content)
        })?;
        let text = format!("Backed up to {}: {}\n", file.display(), counts(&content));
        if file == Path::new(STANDARD) {
            return Ok(());
        }
        output::answer(self.format, || text, || content_json(&content))
    }
}

/// Refuses a root key of the store as its backup key: whoever has that of the server would have every backup, too. By
/// their names, which tell nothing of a key.
async fn refuse_root_key(services: &Services, secret: &BackupSecret) -> Result<(), Failure> {
    let Some(id) = secret.root_key_id() else { return Ok(()) };
    let registered = services.keys.is_registered(&id).await;
    match registered.map_err(|error| Failure::refused("cannot back up", &error))? {
        false => Ok(()),
        true => Err(Failure::new(
            "the backup key is a root key of this store, by which its backups must not open: make \
             one for backups alone (openssl rand -base64 32)",
        )),
    }
}

/// Waits until all is on the disk, and says why not, where it is not.
fn finish(
    written: Result<BackupContent, crate::domain::Error>,
    writing: JoinHandle<io::Result<Target>>,
    file: &Path,
) -> Result<BackupContent, Failure> {
    let what = format!("cannot write {}", file.display());
    if let Err(error) = &written {
        // One that waits for a pipe may do so for ever; one that failed ends now.
        for _ in 0..ENDING_LOOKS {
            if writing.is_finished() {
                break;
            }
            thread::sleep(ENDING_LOOK);
        }
        if !writing.is_finished() {
            return Err(Failure::refused("cannot back up", error));
        }
    }
    let target = writing.join().map_err(|_| Failure::new("writing the backup panicked"))?;
    let target = target.map_err(|error| Failure::because(&what, &error))?;
    // Where it failed, what there is of it goes.
    let content = written.map_err(|error| Failure::refused("cannot back up", &error))?;
    target.commit().map_err(|error| Failure::because(&what, &error))?;
    Ok(content)
}

/// Where a backup goes.
enum Target {
    Stdout,
    File(NewFile),
}

impl Target {
    fn open(file: &Path) -> Result<Self, Failure> {
        if file == Path::new(STANDARD) {
            if io::stdout().is_terminal() {
                return Err(Failure::usage("standard output is a terminal: name a file"));
            }
            return Ok(Self::Stdout);
        }
        let made = NewFile::create(file);
        made.map(Self::File)
            .map_err(|error| Failure::because(format!("cannot make {}", file.display()), &error))
    }

    /// Writes all pieces that come.
    fn write(mut self, mut pieces: mpsc::Receiver<Vec<u8>>) -> io::Result<Self> {
        while let Some(piece) = pieces.blocking_recv() {
            match &mut self {
                Self::Stdout => io::stdout().write_all(&piece)?,
                Self::File(file) => file.write_all(&piece)?,
            }
        }
        Ok(self)
    }

    fn commit(self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().flush(),
            Self::File(file) => file.commit(),
        }
    }
}

/// Pieces of 64 KiB that wait to be written: enough that reading and writing go side by side.
const PIECES: usize = 4;
/// How often and how long to look whether writing has ended.
const ENDING_LOOKS: u32 = 50;
const ENDING_LOOK: Duration = Duration::from_millis(20);
