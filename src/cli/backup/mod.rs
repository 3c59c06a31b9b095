//! `okmsd backup` and `okmsd restore`: the whole store in one encrypted file, and back.
//!
//! | file | what it owns |
//! |---|---|
//! | `create` | `okmsd backup FILE` |
//! | `verify` | `okmsd backup verify FILE` |
//! | `restore` | `okmsd restore FILE` |
//! | `secret` | the key or passphrase that is meant |
//! | `progress` | how far it is, for a person who waits |

mod create;
mod progress;
mod restore;
mod secret;
mod verify;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use self::{restore::Restore, secret::configured_secret};
use super::Failure;
use crate::{config::Environment, service::BackupContent};

/// Back up everything in the store into one encrypted file; verify a backup
///
/// Works beside a running server, on SQLite and PostgreSQL. The file has all that the store has, as of one moment;
/// not the configuration, the files of authorities and certificates, the root key and the audit log. It opens with
/// the backup key or passphrase alone.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    create: create::Create,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Verify),
}

impl Arguments {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self.command {
            Some(Command::Verify(arguments)) => arguments.run(environment),
            None => self.create.run(environment),
        }
    }
}

/// Opens a backup to be read.
fn open(file: &Path) -> Result<Box<dyn Read>, Failure> {
    if file == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = File::open(file);
    let opened = opened
        .map_err(|error| Failure::because(format!("cannot open {}", file.display()), &error))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// What is in a backup, in a line.
fn counts(content: &BackupContent) -> String {
    let rows = |table: &str| content.rows.get(table).copied().unwrap_or_default();
    format!(
        "secrets {}, versions {}, domains {}, credentials {}, tokens {}, policies {}",
        rows("secrets"),
        rows("secret_versions"),
        rows("domains"),
        rows("credentials"),
        rows("tokens"),
        rows("policies")
    )
}

fn content_json(content: &BackupContent) -> Value {
    let line = |seen: &crate::audit::Seen| format!("{}:{}:{}", seen.chain, seen.seq, seen.hash);
    json!({
        "createdAt": content.created_at.to_rfc3339_millis(),
        "schema": content.schema,
        "program": content.program,
        "audit": content.audit.iter().map(line).collect::<Vec<_>>(),
        "rows": content.rows,
    })
}

/// Standard input or output.
const STANDARD: &str = "-";
