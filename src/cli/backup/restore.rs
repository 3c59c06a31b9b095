//! `okmsd restore FILE`.

use std::path::PathBuf;

use clap::Args;

use super::{content_json, counts, progress::Progress, secret::SecretArguments};
use crate::{
    cli::{
        Failure,
        act::Act,
        config_args::ConfigArguments,
        output::{self, Format},
        services::{self, Services},
    },
    clock::SystemClock,
    config::Environment,
    domain::Clock,
    service::Backups,
};

/// Put a backup into an empty database, of SQLite or PostgreSQL
///
/// The database is that of the configuration, and belongs to its root key then, whatever engine and root key the
/// backup is from. It must hold nothing: name a new file, or make a new database. Until all is there, nothing is.
#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    secret: SecretArguments,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File of the backup, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Restore {
    pub(in crate::cli) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.secret.load(&self.config, environment)?;
        let secret = self.secret.read(&config)?;
        let database = services::database_url(&config)?;
        let root_keys = services::root_keys(&config)?;
        let root_key = root_keys.first().ok_or_else(|| Failure::new("there is no root key"))?;
        let mut backup = super::open(&self.file)?;
        let act = Act::new("restore").about("file", self.file.display());
        let content = act.recorded(&config, |notes| {
            let refused =
                |error| Failure::refused(format!("nothing was restored to {database}"), &error);
            database.hold_for_server().map_err(refused)?;
            services::block_on(async {
                let progress = Progress::new();
                let (now, rows) = (SystemClock.now(), |rows| progress.rows(rows));
                let restored =
                    Backups::restore(&mut backup, &secret, root_key, &database, now, &rows).await;
                drop(progress);
                // A file that was made for it stays, as empty as it is; others may have filled it meanwhile.
                let content = restored.map_err(refused)?;
                notes.add("secrets", content.rows.get("secrets").copied().unwrap_or_default());
                notes.add("createdAt", content.created_at.to_rfc3339_millis());
                notes.add("rootKeyId", root_key.id());
                // As the server will.
                Services::open(&config).await?.close().await;
                Ok(content)
            })
        })?;
        output::answer(
            self.format,
            || {
                format!(
                    "Restored to {database}, as of {}: {}\nIt belongs to the root key {}.\n",
                    content.created_at.to_rfc3339_seconds(),
                    counts(&content),
                    root_key.id()
                )
            },
            || content_json(&content),
        )
    }
}
