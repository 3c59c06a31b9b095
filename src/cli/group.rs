//! `okmsd group`: which users and service accounts belong to which group.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    output::{self, Format},
    policy::{ONLY_ROOT, unreadable_row},
    services::{self, Services},
};
use crate::{
    config::Environment,
    domain::{Error, IdentityUrn},
    service::Group,
    store::RowHandle,
};

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add members to a group; a group is there as long as it has members
    Add(Members),
    /// Take members out of a group
    Remove(Members),
    /// List the members of all groups
    List(List),
    /// Take all members out of a group
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(super) struct Members {
    #[command(flatten)]
    config: ConfigArguments,
    /// The group, such as urn:v1:eu:identity:group:ab12345-ovh/admins
    #[arg(value_name = "GROUP_URN", value_parser = identity)]
    group: IdentityUrn,
    /// Users or service accounts (credential)
    #[arg(value_name = "MEMBER_URN", required = true, value_parser = identity)]
    members: Vec<IdentityUrn>,
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
#[group(id = "which", required = true, multiple = false, args = ["group", "row"])]
pub(super) struct Delete {
    #[command(flatten)]
    config: ConfigArguments,
    /// The group, as `okmsd group list` shows it
    #[arg(value_name = "GROUP_URN")]
    group: Option<String>,
    /// A single membership that cannot be read, as `okmsd group list` says
    #[arg(long, value_name = "ROW")]
    row: Option<RowHandle>,
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Add(arguments) => {
                let add = async |services: &Services, arguments: &Members| {
                    let (group, members) = (arguments.group.clone(), arguments.members.clone());
                    services.policies.add_members(group, members).await
                };
                let added = arguments.change(environment, "group add", add)?;
                output::print(&format!("Added {}.\n", counted(added)))
            }
            Self::Remove(arguments) => {
                let remove = async |services: &Services, arguments: &Members| {
                    let (group, members) = (arguments.group.clone(), arguments.members.clone());
                    services.policies.remove_members(group, members).await
                };
                let removed = arguments.change(environment, "group remove", remove)?;
                output::print(&format!("Removed {}.\n", counted(removed)))
            }
            Self::List(arguments) => arguments.run(environment),
            Self::Delete(arguments) => arguments.run(environment),
        }
    }
}

impl Members {
    fn change(
        &self,
        environment: &Environment,
        operation: &'static str,
        change: impl AsyncFnOnce(&Services, &Self) -> Result<u64, Error>,
    ) -> Result<u64, Failure> {
        let config = self.config.load(environment)?;
        let act =
            Act::new(operation).about("group", &self.group).about_all("members", &self.members);
        services::with(&config, act, async |services| {
            let changed = change(services, self).await;
            changed.map_err(|error| Failure::refused("nothing is changed", &error))
        })
    }
}

impl List {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let groups = services::with(&config, Act::new("group list"), async |services| {
            let listed = services.policies.groups().await;
            listed.map_err(|error| Failure::refused("cannot list the groups", &error))
        })?;
        let rows = groups.iter().flat_map(|group| {
            group.members.iter().map(|member| {
                let damage = member.damage.as_ref();
                let damage = damage.map(|damage| unreadable_row(&damage.handle, &damage.why));
                [group.urn.clone(), member.urn.clone(), damage.unwrap_or_default()]
            })
        });
        let rows: Vec<_> = rows.collect();
        output::answer(
            self.format,
            || output::table(["GROUP", "MEMBER", ""], &rows),
            || groups.iter().map(json).collect(),
        )?;
        let members = groups.iter().flat_map(|group| &group.members);
        match members.filter(|member| member.damage.is_some()).count() {
            0 => Ok(()),
            1 => Err(Failure::new(format!("one member cannot be read; {ONLY_ROOT}"))),
            count => Err(Failure::new(format!("{count} members cannot be read; {ONLY_ROOT}"))),
        }
    }
}

impl Delete {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        // One of them is there, or clap would have refused.
        let (kind, which) = match &self.row {
            Some(row) => ("row", row.to_string()),
            None => ("group", self.group.unwrap_or_default()),
        };
        let act = Act::new("group delete").about(kind, &which);
        let removed = services::with(&config, act, async |services| {
            let deleted = match &self.row {
                Some(row) => services.policies.delete_member_row(row.clone()).await.map(u64::from),
                None => services.policies.delete_group(&which).await,
            };
            deleted.map_err(|error| Failure::refused("nothing is deleted", &error))
        })?;
        let which = output::one_line(&which);
        if removed == 0 {
            return Err(Failure::new(format!("{which}: there is no such {kind}")));
        }
        output::print(&format!("Deleted {which}, with {}.\n", counted(removed)))
    }
}

fn json(group: &Group) -> Value {
    let members: Vec<_> = group.members.iter().map(|member| &member.urn).collect();
    let mut json = json!({"urn": group.urn, "members": members});
    let damages: Vec<_> =
        group.members.iter().filter_map(|member| member.damage.as_ref()).collect();
    if let Some(first) = damages.first() {
        json["unreadable"] = json!(first.why);
        json["rows"] = damages.iter().map(|damage| json!(damage.handle.to_string())).collect();
    }
    json
}

fn counted(members: u64) -> String {
    match members {
        1 => "1 member".to_owned(),
        members => format!("{members} members"),
    }
}

/// Reads an identity given on the command line.
pub(super) fn identity(text: &str) -> Result<IdentityUrn, &'static str> {
    IdentityUrn::parse(text)
        .ok_or("an identity is a URN such as urn:v1:eu:identity:user:ab12345-ovh/deploy")
}
