//! `okmsd domain`: OKMS domains in the store.

use std::io::{self, BufRead, IsTerminal};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    output::{self, Format},
    services,
};
use crate::{
    config::Environment,
    domain::{OkmsDomain, OkmsId},
    store::UnreadableDomain,
};

/// What to do with domains.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a domain, with a key of its own
    Create(Create),
    /// List all domains
    List(List),
    /// Show a domain
    Show(Show),
    /// Delete a domain for good: its secrets, its credentials and its keys
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    config: ConfigArguments,
    /// What people call the domain: 1 to 50 characters
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Region of the domain [default: server.region of the configuration]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigArguments,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain
    #[arg(value_name = "OKMS_ID", value_parser = okms_id)]
    okms_id: OkmsId,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain
    #[arg(value_name = "OKMS_ID", value_parser = okms_id)]
    okms_id: OkmsId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(environment),
            Self::List(arguments) => arguments.run(environment),
            Self::Show(arguments) => arguments.run(environment),
            Self::Delete(arguments) => arguments.run(environment),
        }
    }
}

impl Create {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let region = self.region.as_deref().unwrap_or(config.server.region.as_str());
        let domain = services::with_new(
            &config,
            Act::new("domain create").about("name", &self.name).about("region", region),
            async |services| {
                if services.store.is_new() {
                    // A mistyped path would go unnoticed beside a server that has another store.
                    let database = services::database_url(&config)?;
                    output::complain(&format!("there was no store at {database}: made a new one"));
                }
                let made = services.domains.create(&self.name, region).await;
                let made =
                    made.map_err(|error| Failure::refused("cannot make the domain", &error))?;
                services.notes.add("okmsId", made.okms_id);
                Ok(made)
            },
        )?;
        output::answer(self.format, || text(&domain), || json(&domain))
    }
}

impl List {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let domains = services::with(&config, Act::new("domain list"), async |services| {
            let listed = services.domains.list().await;
            listed.map_err(|error| Failure::refused("cannot list the domains", &error))
        })?;
        let row = |domain: &Result<OkmsDomain, UnreadableDomain>| match domain {
            Ok(domain) => [
                domain.okms_id.to_string(),
                domain.region.clone(),
                domain.created_at.to_rfc3339_seconds(),
                domain.name.clone(),
            ],
            Err(unreadable) => [
                shown_id(unreadable).to_owned(),
                "-".to_owned(),
                "-".to_owned(),
                format!("unreadable: {}", Failure::why(&unreadable.error)),
            ],
        };
        let rows: Vec<_> = domains.iter().map(row).collect();
        output::answer(
            self.format,
            || output::table(["OKMS ID", "REGION", "CREATED", "NAME"], &rows),
            || domains.iter().map(listed).collect(),
        )?;
        match domains.iter().filter(|domain| domain.is_err()).count() {
            0 => Ok(()),
            1 => Err(Failure::new("one domain cannot be read")),
            count => Err(Failure::new(format!("{count} domains cannot be read"))),
        }
    }
}

impl Show {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let domain = services::with(
            &config,
            Act::new("domain show").about("okmsId", self.okms_id),
            async |services| {
                let found = services.domains.find(self.okms_id).await;
                found.map_err(|error| Failure::refused(self.okms_id, &error))
            },
        )?;
        output::answer(self.format, || text(&domain), || json(&domain))
    }
}

impl Delete {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let okms_id = self.okms_id;
        services::with(
            &config,
            Act::new("domain delete").about("okmsId", okms_id),
            async |services| {
                let refused = |error| Failure::refused(okms_id, &error);
                let domain = services.domains.find(okms_id).await.map_err(refused)?;
                if !self.yes {
                    confirm(&domain)?;
                }
                services.domains.delete(okms_id).await.map_err(refused)
            },
        )?;
        output::print(&format!("Deleted {okms_id}.\n"))
    }
}

/// Reads an id given on the command line.
pub(super) fn okms_id(text: &str) -> Result<OkmsId, &'static str> {
    text.parse().map_err(|_| "an OKMS id is a UUID with hyphens")
}

/// Nothing brings a deleted domain back, so a finger's slip must not be enough.
fn confirm(domain: &OkmsDomain) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("deleting without a terminal to ask on needs --yes"));
    }
    output::print(&format!(
        "This deletes the domain \"{}\" with all its secrets, credentials and keys, for good.\n\
         Type its id to go on: ",
        output::one_line(&domain.name)
    ))?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    read.map_err(|error| Failure::because("cannot read the answer", &error))?;
    if line.trim() == domain.okms_id.to_string() {
        return Ok(());
    }
    Err(Failure::new("that is not its id; nothing is deleted"))
}

fn text(domain: &OkmsDomain) -> String {
    output::fields(&[
        ("OKMS id", &domain.okms_id.to_string()),
        ("Name", &domain.name),
        ("Region", &domain.region),
        ("Created", &domain.created_at.to_rfc3339_seconds()),
    ])
}

fn shown_id(unreadable: &UnreadableDomain) -> &str {
    unreadable.okms_id.as_deref().unwrap_or("(unreadable)")
}

fn listed(domain: &Result<OkmsDomain, UnreadableDomain>) -> Value {
    match domain {
        Ok(domain) => json(domain),
        Err(unreadable) => json!({
            "okmsId": unreadable.okms_id,
            "unreadable": Failure::why(&unreadable.error),
        }),
    }
}

fn json(domain: &OkmsDomain) -> Value {
    json!({
        "okmsId": domain.okms_id.to_string(),
        "name": domain.name,
        "region": domain.region,
        "createdAt": domain.created_at.to_rfc3339_seconds(),
    })
}
