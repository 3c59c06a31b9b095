//! `okmsd policy`: who may do what.

mod apply;
mod check;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::{apply::Apply, check::Check};
use super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    output::{self, Format},
    services,
};
use crate::{
    config::Environment,
    domain::Timestamp,
    iam::Policy,
    store::{RowHandle, StoredPolicy},
};

/// A policy as it is stored, and as it was read or why it was not.
type Listed = (StoredPolicy, Result<Policy, String>);

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the policies of a file, or put them in the place of those of the same name
    Apply(Apply),
    /// List all policies
    List(List),
    /// Show the document of a policy, as it was applied
    Show(Show),
    /// Delete a policy: it no longer counts from the next request on
    Delete(Delete),
    /// Say whether something would be allowed, and by which policy and line
    ///
    /// Exit code 0: allowed. 1: denied, or not to be found out.
    Check(Check),
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
    /// Name of the policy
    #[arg(value_name = "NAME")]
    name: String,
    /// Form of the answer: `text` is the document itself, which `okmsd policy apply` takes
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false, args = ["name", "row"])]
pub(super) struct Delete {
    #[command(flatten)]
    config: ConfigArguments,
    /// Name of the policy
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// A stored policy that cannot be read, as `okmsd policy list` says
    #[arg(long, value_name = "ROW")]
    row: Option<RowHandle>,
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Apply(arguments) => arguments.run(environment),
            Self::List(arguments) => arguments.run(environment),
            Self::Show(arguments) => arguments.run(environment),
            Self::Delete(arguments) => arguments.run(environment),
            Self::Check(arguments) => arguments.run(environment),
        }
    }
}

impl List {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let policies = services::with(&config, Act::new("policy list"), async |services| {
            let listed = services.policies.list().await;
            listed.map_err(|error| Failure::refused("cannot list the policies", &error))
        })?;
        let row = |(stored, policy): &Listed| {
            let (identities, resources, description) = match policy {
                Ok(policy) => (
                    policy.identities().count().to_string(),
                    policy.resource_count().to_string(),
                    policy.description().to_owned(),
                ),
                Err(why) => ("-".to_owned(), "-".to_owned(), unreadable_row(&stored.handle, why)),
            };
            let applied = stored.updated_at.map(Timestamp::to_rfc3339_seconds);
            let applied = applied.unwrap_or_else(|| "(damaged)".to_owned());
            let name = stored.handle.texts().next().unwrap_or_default().into_owned();
            [name, identities, resources, applied, description]
        };
        let rows: Vec<_> = policies.iter().map(row).collect();
        output::answer(
            self.format,
            || output::table(["NAME", "IDENTITIES", "RESOURCES", "APPLIED", "DESCRIPTION"], &rows),
            || policies.iter().map(json).collect(),
        )?;
        match policies.iter().filter(|(_, policy)| policy.is_err()).count() {
            0 => Ok(()),
            1 => Err(Failure::new(format!("one policy cannot be read; {ONLY_ROOT}"))),
            count => Err(Failure::new(format!("{count} policies cannot be read; {ONLY_ROOT}"))),
        }
    }
}

impl Show {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let policy = services::with(
            &config,
            Act::new("policy show").about("policy", &self.name),
            async |services| {
                let found = services.policies.find(&self.name).await;
                let found = found.map_err(|error| Failure::refused(&self.name, &error))?;
                found.ok_or_else(|| no_such(&self.name))
            },
        )?;
        let (stored, read) = &policy;
        // Also of one that cannot be read: perhaps its owner sees what it was.
        let text = || match &stored.document {
            Some(document) => format!("{}\n", document.trim_end()),
            None => String::new(),
        };
        output::answer(self.format, text, || json(&policy))?;
        match read {
            Ok(_) => Ok(()),
            Err(why) => Err(Failure::new(format!(
                "{}: the stored policy cannot be read: {why}; apply it anew, or delete it: {ONLY_ROOT}",
                output::one_line(&self.name)
            ))),
        }
    }
}

impl Delete {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        // One of them is there, or clap would have refused.
        let (kind, which) = match &self.row {
            Some(row) => ("row", row.to_string()),
            None => ("policy", self.name.unwrap_or_default()),
        };
        let act = Act::new("policy delete").about(kind, &which);
        services::with(&config, act, async |services| {
            let deleted = match &self.row {
                Some(row) => services.policies.delete_row(row.clone()).await,
                None => services.policies.delete(&which).await,
            };
            let existed = deleted.map_err(|error| Failure::refused(&which, &error))?;
            if existed { Ok(()) } else { Err(no_such(&which)) }
        })?;
        output::print(&format!("Deleted {}.\n", output::one_line(&which)))
    }
}

/// How a list tells of a row that cannot be read, and by what it is deleted.
pub(super) fn unreadable_row(handle: &RowHandle, why: &str) -> String {
    format!("unreadable: {why}; its row is {handle}")
}

/// What follows where policies or groups are damaged.
pub(super) const ONLY_ROOT: &str = "until this is mended, only root may do anything";

fn no_such(name: &str) -> Failure {
    Failure::new(format!("{}: there is no such policy", output::one_line(name)))
}

/// The document, with when it was applied under the names of the service; of one that cannot be read, why.
fn json((policy, read): &Listed) -> Value {
    let document = policy.document.as_deref().map(serde_json::from_str).transpose();
    let mut json = match (read, document) {
        (Ok(_), Ok(Some(Value::Object(document)))) => document,
        _ => serde_json::Map::from_iter([("name".to_owned(), json!(policy.name))]),
    };
    if let Err(why) = read {
        json.insert("unreadable".to_owned(), json!(why));
        json.insert("row".to_owned(), json!(policy.handle.to_string()));
        json.insert("document".to_owned(), json!(policy.document));
    }
    // Null where it is damaged.
    let time = |time: Option<Timestamp>| json!(time.map(Timestamp::to_rfc3339_seconds));
    json.insert("createdAt".to_owned(), time(policy.created_at));
    json.insert("updatedAt".to_owned(), time(policy.updated_at));
    Value::Object(json)
}
