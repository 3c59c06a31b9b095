//! `okmsd group`: which users and service accounts belong to which group.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    output::{self, Format},
    services::{self, Services},
};
use crate::{
    config::Environment,
    domain::{Error, IdentityUrn},
    service::Group,
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
pub(super) struct Delete {
    #[command(flatten)]
    config: ConfigArguments,
    /// The group
    #[arg(value_name = "GROUP_URN", value_parser = identity)]
    group: IdentityUrn,
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
            group.members.iter().map(|member| [group.urn.clone(), member.clone()])
        });
        let rows: Vec<_> = rows.collect();
        output::answer(
            self.format,
            || output::table(["GROUP", "MEMBER"], &rows),
            || groups.iter().map(json).collect(),
        )
    }
}

impl Delete {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let act = Act::new("group delete").about("group", &self.group);
        let removed = services::with(&config, act, async |services| {
            let deleted = services.policies.delete_group(self.group.clone()).await;
            deleted.map_err(|error| Failure::refused(&self.group, &error))
        })?;
        if removed == 0 {
            return Err(Failure::new(format!("{}: there is no such group", self.group)));
        }
        output::print(&format!("Deleted {}, with {}.\n", self.group, counted(removed)))
    }
}

fn json(group: &Group) -> Value {
    json!({"urn": group.urn, "members": group.members})
}

fn counted(members: u64) -> String {
    match members {
        1 => "1 member".to_owned(),
        members => format!("{members} members"),
    }
}

fn identity(text: &str) -> Result<IdentityUrn, &'static str> {
    IdentityUrn::parse(text)
        .ok_or("an identity is a URN such as urn:v1:eu:identity:user:ab12345-ovh/deploy")
}
