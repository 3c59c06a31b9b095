//! Settings: built-in defaults, then the configuration file, then the environment, then flags.
//!
//! Each section has a file of its own with a struct that is right by its types, and one method,
//! `settings`, that names every setting of the section once. File, environment and flags all walk
//! through that list, so no source knows a setting that another does not.
//!
//! Reading never looks into what a setting points to: a missing certificate is an error of whoever
//! opens it. The exception is [`storage::Storage`], whose URL may stand in a file. Errors name the
//! setting and the rule and never repeat a value, because a value may be a secret in the wrong
//! place.
//!
//! | file | what it owns |
//! |---|---|
//! | `source` | file, environment and flags as sources of settings |
//! | `value` | how each type of value is written |
//! | `unknown` | variables that look like ours and that nothing reads |
//! | `private` | files that nobody else may read, and the check of that |
//! | `server` | where the server listens and what it is called |
//! | `tls` | the server's certificate and what is asked of clients |
//! | `tokens` | whether tokens are taken |
//! | `limits` | what a client may take of time, memory and connections |
//! | `storage` | the database |
//! | `root_key` | where the root key comes from |
//! | `backup` | where the backup key comes from |
//! | `command` | running the command that gives a key |
//! | `pki` | the authorities of client certificates |
//! | `audit` | the audit log |
//! | `log` | what is logged and in which form |
//! | `telemetry` | where traces are sent |
//! | `example.toml` | every setting with its meaning, unit and default |

mod audit;
mod backup;
mod command;
mod error;
mod limits;
mod log;
mod pki;
mod private;
mod root_key;
mod server;
mod source;
mod storage;
mod telemetry;
mod tls;
mod tokens;
mod unknown;
mod value;

use std::{fs, path::Path};

use self::source::{FileSource, Lenient, Listing, Source};
pub use self::{
    audit::Audit,
    backup::{Backup, BackupSecretText},
    error::{Error, Errors},
    limits::Limits,
    log::{Log, LogFormat},
    pki::{ClientCa, ClientCas, Files, Pki},
    private::{open_private_file, read_private_file, read_private_line},
    root_key::{RootKeyPlace, RootKeySource},
    server::{ApiListen, DocsListen, OperationsListen, Server},
    source::{Environment, Flags},
    storage::{Database, Storage},
    telemetry::{OtlpEndpoint, Telemetry},
    tls::{ClientCertificate, Tls},
    tokens::Tokens,
    unknown::unknown_variables,
};

/// The example configuration: every setting with its meaning, its unit and its default.
pub const EXAMPLE: &str = include_str!("example.toml");

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the server listens and what it is called.
    pub server: Server,
    /// The server's certificate and what is asked of clients.
    pub tls: Tls,
    /// Whether tokens are taken.
    pub tokens: Tokens,
    /// What a client may take of time, memory and connections.
    pub limits: Limits,
    /// The database.
    pub storage: Storage,
    /// Where the root key comes from.
    pub root_key: RootKeySource,
    /// Where the backup key or passphrase comes from.
    pub backup: Backup,
    /// The authorities of client certificates.
    pub pki: Pki,
    /// The audit log.
    pub audit: Audit,
    /// What is logged and in which form.
    pub log: Log,
    /// Where traces are sent.
    pub telemetry: Telemetry,
}

impl Config {
    /// The defaults, with files in the folder `base`.
    pub fn defaults(base: &Path) -> Self {
        Self {
            server: Server::default(),
            tls: Tls::defaults(base),
            tokens: Tokens::default(),
            limits: Limits::default(),
            storage: Storage::defaults(base),
            root_key: RootKeySource::defaults(base),
            backup: Backup::default(),
            pki: Pki::defaults(base),
            audit: Audit::defaults(base),
            log: Log::default(),
            telemetry: Telemetry::default(),
        }
    }

    /// Reads the settings of a server: defaults < `file` < `environment` < `flags`.
    ///
    /// Relative paths in the file, and the paths that are defaults, are relative to the folder of
    /// the file; those of the environment and of flags to the working directory.
    ///
    /// # Errors
    ///
    /// [`Errors`] where the file cannot be read, holds a key that is not known, or any source holds
    /// a value that breaks its rule: all of that.
    pub fn load(
        file: Option<&Path>,
        environment: &Environment,
        flags: &Flags,
    ) -> Result<Self, Errors> {
        let (mut config, mut errors) = match file {
            None => (Self::defaults(Path::new("")), Vec::new()),
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| Error::read(path, error))?;
                Self::from_toml(&text, path)?
            }
        };
        errors.extend(config.take(environment, flags));
        Errors::of(errors).map(|()| config)
    }

    /// Puts the settings that environment and flags hold over these.
    ///
    /// # Errors
    ///
    /// [`Errors`] where values break their rules.
    pub fn apply(&mut self, environment: &Environment, flags: &Flags) -> Result<(), Errors> {
        Errors::of(self.take(environment, flags))
    }

    fn take(&mut self, environment: &Environment, flags: &Flags) -> Vec<Error> {
        self.log.take_environment(environment);
        let mut errors = self.settings(&mut environment.source());
        errors.extend(self.root_key.take_environment(environment).err());
        errors.extend(self.backup.take_environment(environment).err());
        errors.extend(self.settings(&mut flags.source()));
        errors
    }

    /// Every setting as `section.key` and its value, in the order of the example. Secrets are left
    /// out of the values.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let mut listing = Listing::default();
        // Cloned because a source may write to what it visits; this one does not, nor can it fail.
        let _none = self.clone().settings(&mut listing);
        listing.into_settings()
    }

    /// The settings of a file, and what is wrong with its values.
    fn from_toml(text: &str, path: &Path) -> Result<(Self, Vec<Error>), Error> {
        let base = path.parent().unwrap_or(Path::new(""));
        let mut config = Self::defaults(base);
        let mut source = FileSource::parse(text, path, base)?;
        let mut errors = config.settings(&mut source);
        errors.extend(source.finish().err());
        Ok((config, errors))
    }

    /// Takes what a source has, and gives what is wrong with it.
    fn settings(&mut self, source: &mut impl Source) -> Vec<Error> {
        let mut source = Lenient::new(source);
        let of_sections = [
            self.server.settings(&mut source),
            self.tls.settings(&mut source),
            self.tokens.settings(&mut source),
            self.limits.settings(&mut source),
            self.storage.settings(&mut source),
            self.root_key.settings(&mut source),
            self.backup.settings(&mut source),
            self.pki.settings(&mut source),
            self.audit.settings(&mut source),
            self.log.settings(&mut source),
            self.telemetry.settings(&mut source),
        ];
        let mut errors = source.into_errors();
        errors.extend(of_sections.into_iter().filter_map(Result::err));
        errors
    }
}

#[cfg(test)]
mod tests;
