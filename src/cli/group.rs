//! `okmsd group`: which users and service accounts belong to which group.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    output::{self, Format},
    policy::ONLY_ROOT,
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
    /// The group, as `okmsd group list` shows it
    #[arg(value_name = "GROUP_URN")]
    group: String,
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
        // What stands there in the place of a URN may be anything.
        let printable = |text: &String| text.replace(char::is_control, " ");
        let rows = groups.iter().flat_map(|group| {
            group.members.iter().map(|member| [printable(&group.urn), printable(member)])
        });
        let rows: Vec<_> = rows.collect();
        output::answer(
            self.format,
            || output::table(["GROUP", "MEMBER"], &rows),
            || groups.iter().map(json).collect(),
        )?;
        match groups.iter().find_map(|group| group.damage.as_deref()) {
            Some(damage) => Err(Failure::new(format!("{damage}; {ONLY_ROOT}"))),
            None => Ok(()),
        }
    }
}

impl Delete {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let act = Act::new("group delete").about("group", &self.group);
        let removed = services::with(&config, act, async |services| {
            let deleted = services.policies.delete_group(&self.group).await;
            deleted.map_err(|error| Failure::refused("nothing is deleted", &error))
        })?;
        let group = self.group.replace(char::is_control, " ");
        if removed == 0 {
            return Err(Failure::new(format!("{group}: there is no such group")));
        }
        output::print(&format!("Deleted {group}, with {}.\n", counted(removed)))
    }
}

fn json(group: &Group) -> Value {
    let mut json = json!({"urn": group.urn, "members": group.members});
    if let Some(damage) = &group.damage {
        json["unreadable"] = json!(damage);
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
