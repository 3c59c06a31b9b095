//! `okmsd export` and `okmsd import`: secrets, out of a server and into one.
//!
//! Both are clients of the API: what the caller may see is exported, what it may write is imported, and each
//! request is in the server's audit log. Nothing here opens a store.
//!
//! | file | what it owns |
//! |---|---|
//! | `export` | a subtree into a file |
//! | `import` | secrets from any source into a server, so that it can be done again |
//! | `source` | where those come from, and where they are put |
//! | `compare` | whether what is there is what an import makes |
//! | `effect` | what settings come to, where other defaults count |
//! | `closed` | data of versions that are closed in the source |
//! | `file` | the form of the file |
//! | `okms` | what is asked of a server like this one |
//! | `vault` | a KV2 engine of a Vault or an OpenBao, and the options that say which |
//! | `walk` | all paths of a subtree |
//! | `words` | secrets on their way, and what of them the rules take |
//! | `remote` | requests: TLS, one connection, tries |
//! | `place` | the options that say which server, and who asks |

mod closed;
mod compare;
mod effect;
mod export;
mod file;
mod import;
mod okms;
mod place;
mod remote;
mod source;
mod vault;
mod walk;
mod words;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use hyper::header::{HeaderName, HeaderValue};

use self::{
    place::Place,
    source::{Mapping, Source},
    vault::VaultPlace,
    words::SourceSecret,
};
use super::{Failure, output, services::block_on};
use crate::{config::Environment, domain::SecretPath};

/// Secrets of a server into a file, with all versions
///
/// The caller needs secret/get and secret/version/getData, and secretConfig/get for the defaults that count for the
/// secrets; what it may not get is not in the file. The file holds
/// PLAINTEXT and can be read by its owner alone. An export that was cut off goes on when it is run again.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    place: Place,
    /// The file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also take the data of deactivated versions: each is activated for a moment. FILE notes which one, so that it is
    /// deactivated again if that is cut off
    #[arg(long, value_name = "FILE")]
    open_deactivated: Option<PathBuf>,
    /// The secret at this path and all below it [default: all of the domain]
    #[arg(value_name = "PATH", value_parser = subtree)]
    path: Option<String>,
}

/// Where secrets come from.
#[derive(Debug, Subcommand)]
pub(super) enum Import {
    File(FileImport),
    Vault(VaultImport),
}

/// Secrets from a file of `okmsd export`
#[derive(Debug, Args)]
pub(super) struct FileImport {
    #[command(flatten)]
    options: ImportOptions,
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Secrets of a KV version 2 engine of a Vault or OpenBao, with all versions
///
/// The token needs `list` and `read` on the engine's metadata, and `read` on its data and its config; for --open-deleted, `update` on
/// `undelete` and `delete`.
#[derive(Debug, Args)]
pub(super) struct VaultImport {
    #[command(flatten)]
    vault: VaultPlace,
    /// Also take the data of deleted versions: each is undeleted for a moment. FILE notes which one, so that it is
    /// deleted again if that is cut off
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    open_deleted: Option<PathBuf>,
    #[command(flatten)]
    options: ImportOptions,
    /// The secret at this path and all below it [default: all of the engine]
    #[arg(value_name = "PATH")]
    path: Option<String>,
}

/// What all imports have in common.
#[derive(Debug, Args)]
struct ImportOptions {
    #[command(flatten)]
    place: Place,
    /// Put the subtree at this path [default: where it was]
    #[arg(long, value_name = "PATH", value_parser = subtree)]
    to: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Export {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        if self.out == Path::new("-") {
            return Err(Failure::usage(
                "an export goes to a file, in which it goes on where it was cut off: name one \
                 (./- for one that is called so)",
            ));
        }
        let domain = self.place.open(environment, remote::traceparent(environment))?;
        let note = self.open_deactivated.as_deref();
        block_on(export::run(domain, self.path.unwrap_or_default(), &self.out, note))
    }
}

impl Import {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::File(arguments) => arguments.run(environment),
            Self::Vault(arguments) => arguments.run(environment),
        }
    }
}

impl FileImport {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let reader = file::Reader::open(&self.file)?;
        let (root, id) = (reader.header().path.clone(), reader.header().id.clone());
        let trace = remote::traceparent(environment);
        self.options.run(environment, trace, Source::File(Box::new(reader)), &root, &id)
    }
}

impl VaultImport {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let root = self.path.as_deref().unwrap_or_default().trim_matches('/');
        let trace = remote::traceparent(environment);
        let mut vault = self.vault.open(environment, trace.clone(), root)?;
        if let Some(note) = &self.open_deleted {
            vault.open_deleted(note)?;
        }
        let id = vault.id().to_owned();
        self.options.run(environment, trace, Source::Vault(Box::new(vault)), root, &id)
    }
}

impl ImportOptions {
    /// Imports the subtree `root` of a source, which is known as `id`.
    fn run(
        self,
        environment: &Environment,
        trace: Option<(HeaderName, HeaderValue)>,
        source: Source,
        root: &str,
        id: &str,
    ) -> Result<(), Failure> {
        let target = self.place.open(environment, trace)?;
        let mapping = Mapping { from: root.to_owned(), to: self.to };
        block_on(import::Import::new(target, source, mapping, id, self.dry_run).run())
    }
}

/// How far a transfer is, told to a person from time to time.
struct Progress {
    secrets: u64,
    versions: u64,
    told: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { secrets: 0, versions: 0, told: Instant::now() }
    }

    fn version(&mut self, secret: &SourceSecret) {
        if let Some(line) = self.count(secret.path.as_str(), Instant::now()) {
            output::tell(&line);
        }
    }

    /// Counts a version; what is to be told of it, which is not too often.
    fn count(&mut self, path: &str, now: Instant) -> Option<String> {
        self.versions += 1;
        if now.duration_since(self.told) < BETWEEN_PROGRESS {
            return None;
        }
        self.told = now;
        let Self { secrets, versions, .. } = self;
        Some(format!("{secrets} secrets, {versions} versions so far; at {path}"))
    }
}

fn subtree(text: &str) -> Result<String, String> {
    let path = SecretPath::parse(text).map_err(|error| Failure::why(&error).to_owned())?;
    Ok(path.to_string())
}

const BETWEEN_PROGRESS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_every_few_seconds() {
        let mut progress = Progress::new();
        let begun = progress.told;
        let mut told = Vec::new();
        for tenth in 0..=100 {
            progress.secrets = tenth / 2;
            let now = begun + Duration::from_millis(tenth * 100);
            told.extend(progress.count("a/b", now).map(|line| (tenth, line)));
        }
        let line =
            |secrets, versions| format!("{secrets} secrets, {versions} versions so far; at a/b");
        assert_eq!(told, [(50, line(25, 51)), (100, line(50, 101))]);
    }
}
