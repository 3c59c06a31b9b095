//! The command line: what a person or a service manager types, and what they see of it.
//!
//! Subcommands join the parts of the library and print; no rule of secrets, certificates or storage
//! stands here. Output goes to standard output, everything else to standard error; the exit code is
//! 0 when all is done, 1 when something failed (or was denied, for `okmsd policy check`) and 2 when the
//! command line was not understood.
//!
//! | file | what it owns |
//! |---|---|
//! | `serve` | `okmsd serve`: run the server of a configuration |
//! | `dev` | `okmsd dev`: make all that a trial needs, then serve |
//! | `init` | `okmsd init`: make the files of a production server |
//! | `domain` | `okmsd domain`: OKMS domains in the store |
//! | `credential` | `okmsd credential`: credentials and their access certificates |
//! | `token` | `okmsd token`: tokens, which callers send with a request |
//! | `audit` | `okmsd audit`: the audit log, verified |
//! | `policy` | `okmsd policy`: who may do what |
//! | `group` | `okmsd group`: which users belong to which group |
//! | `key` | `okmsd key`: root keys and keys of domains |
//! | `backup` | `okmsd backup` and `okmsd restore`: the whole store in one encrypted file, and back |
//! | `settings` | `okmsd config`: the example, and the check of a configuration |
//! | `transfer` | `okmsd export` and `okmsd import`: secrets, out of a server and into one |
//! | `healthcheck` | `okmsd healthcheck`: whether the server of this machine answers |
//! | `completions` | `okmsd completions`: what a shell needs to complete command lines |
//! | `config_args` | the options that say which configuration is meant |
//! | `listen_flags` | the flags that several subcommands share with `okmsd serve` |
//! | `act` | what somebody does with a subcommand, as it is recorded |
//! | `services` | the use cases of a configuration's store, without a server |
//! | `bootstrap` | what the folder of a server needs before there is a store |
//! | `reload` | certificates, authorities and revocation lists, read again when they change |
//! | `certificates` | whether certificates on disk still serve |
//! | `access_files` | the files of an access certificate |
//! | `files` | private files and folders: modes, whole or not at all |
//! | `quote` | text for shells, YAML and TOML |
//! | `output` | standard output |
//! | `process` | what the process is denied from its start |
//! | `undo` | what is undone where a signal ends a command |
//! | `failure` | why a subcommand failed, as one sentence for each reason |

mod access_files;
mod act;
mod audit;
mod backup;
mod bootstrap;
mod certificates;
mod completions;
mod config_args;
mod credential;
mod dev;
mod domain;
mod failure;
mod files;
mod group;
mod healthcheck;
mod init;
mod key;
mod listen_flags;
mod output;
mod policy;
mod process;
mod quote;
mod reload;
mod serve;
mod services;
mod settings;
mod token;
mod transfer;
mod undo;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::failure::Failure;
use crate::config::Environment;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help and version come this way too. Where they cannot be written, nobody reads.
            let _closed = answer.print();
            return ExitCode::from(if answer.use_stderr() { USAGE } else { 0 });
        }
    };
    let done = process::harden().and_then(|()| arguments.command.run(&Environment::OfProcess));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.to_string());
            ExitCode::from(if failure.is_usage() { USAGE } else { 1 })
        }
    }
}

/// All subcommands and their arguments, as they are understood.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// A secret manager server that speaks the OVHcloud OKMS Secret Manager API.
///
/// `okmsd dev` makes all that a trial needs and serves; `okmsd init` and `okmsd serve` are for
/// production.
#[derive(Debug, Parser)]
#[command(name = "okmsd", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Dev(dev::Arguments),
    Init(init::Arguments),
    /// OKMS domains: create, list, show, delete
    #[command(subcommand)]
    Domain(domain::Command),
    /// Credentials and their access certificates: create, register, renew, list, show, revoke
    #[command(subcommand)]
    Credential(credential::Command),
    /// Personal access tokens: create, list, revoke
    #[command(subcommand)]
    Token(token::Command),
    /// The audit log: verify it, print the keys that its chains begin with
    #[command(subcommand)]
    Audit(audit::Command),
    /// Policies, which say who may do what: apply, list, show, delete, check
    #[command(subcommand)]
    Policy(policy::Command),
    /// Groups of users and service accounts: add, remove, list, delete
    #[command(subcommand)]
    Group(group::Command),
    /// Keys: status, rotation, a second root key
    #[command(subcommand)]
    Key(key::Command),
    Backup(backup::Arguments),
    Restore(backup::Restore),
    /// Settings: print the example, check a configuration
    #[command(subcommand)]
    Config(settings::Command),
    Export(transfer::Export),
    /// Secrets from an export, or from a Vault or OpenBao
    #[command(subcommand)]
    Import(transfer::Import),
    Healthcheck(healthcheck::Arguments),
    Completions(completions::Arguments),
}

impl Command {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Serve(arguments) => arguments.run(environment),
            Self::Dev(arguments) => arguments.run(environment),
            Self::Init(arguments) => arguments.run(environment),
            Self::Domain(command) => command.run(environment),
            Self::Credential(command) => command.run(environment),
            Self::Token(command) => command.run(environment),
            Self::Audit(command) => command.run(environment),
            Self::Policy(command) => command.run(environment),
            Self::Group(command) => command.run(environment),
            Self::Key(command) => command.run(environment),
            Self::Backup(arguments) => arguments.run(environment),
            Self::Restore(arguments) => arguments.run(environment),
            Self::Config(command) => command.run(environment),
            Self::Export(arguments) => arguments.run(environment),
            Self::Import(command) => command.run(environment),
            Self::Healthcheck(arguments) => arguments.run(environment),
            Self::Completions(arguments) => arguments.run(),
        }
    }
}

/// The exit code for a command line that was not understood; clap's own.
const USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_of_arguments_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn each_subcommand_and_argument_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                let name = (command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{name:?} has no help");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
