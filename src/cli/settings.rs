//! `okmsd config`: the example, and the check of a configuration.

use std::{fmt::Write, fs::File, io::ErrorKind};

use clap::{Args, Subcommand};
use tracing_subscriber::EnvFilter;

use super::{
    Failure, backup, bootstrap,
    config_args::{self, ConfigArguments},
    listen_flags::{ListenFlags, LogFlags},
    output, serve, services,
};
use crate::{
    audit::check_folder,
    config::{self, Config, Environment},
    telemetry::NotAFilter,
};

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a configuration file that says what each setting means, its unit and its default
    Example,
    /// Check a configuration and print the settings it comes to, without passwords
    ///
    /// Takes the settings that `okmsd serve` would take, flags included, and looks at all that they name: root key,
    /// certificates, keys, revocation lists, the backup key or passphrase, and whether database and audit log can be
    /// written. A server certificate that has ended or is not valid yet is wrong. To be run as the user of the server.
    /// The private key of the authority, which a server does not need, is looked at where this user may read it.
    /// Nothing is changed, and the database is not opened. Exits with 1 where something is wrong, and tells all of it.
    /// Variables that begin with OKMSD_ and that nothing reads are told too, and are no failure.
    Check(CheckArguments),
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Example => output::print(config::EXAMPLE),
            Self::Check(arguments) => check(&arguments, environment),
        }
    }
}

/// Which configuration is checked.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    log: LogFlags,
}

fn check(arguments: &CheckArguments, environment: &Environment) -> Result<(), Failure> {
    for variable in config_args::unknown_variables(environment) {
        output::complain(&format!(
            "nothing reads the variable {variable} of the environment: `okmsd config example` has \
             the names of all settings"
        ));
    }
    let flags = arguments.log.add_to(arguments.listen.flags());
    let config = arguments.config.load_with(environment, &flags)?;
    // All of them, so that a person need not come back for each.
    let mut failures = [
        services::root_keys(&config).map(drop),
        check_database(&config),
        serve::check_tls(&config),
        check_authority(&config),
        check_backup(&config),
        check_folder(&config.audit.folder)
            .map_err(|error| Failure::because("cannot write the audit log", &error)),
        EnvFilter::try_new(config.log.level.as_str())
            .map(drop)
            .map_err(|_| Failure::because("log", &NotAFilter)),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect::<Vec<_>>();
    if let Some(last) = failures.pop() {
        failures.iter().for_each(|failure| output::complain(&failure.to_string()));
        return Err(last);
    }
    let mut text = match arguments.config.file(environment) {
        Some(file) => format!("# {} and the environment\n", file.display()),
        None => "# the environment alone\n".to_owned(),
    };
    for (key, value) in config.list() {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{key} = {value}");
    }
    output::print(&text)
}

fn check_database(config: &Config) -> Result<(), Failure> {
    let database = services::database_url(config)?;
    let cannot_open = |error| Failure::refused(format!("cannot open {database}"), &error);
    database.check_file().map_err(cannot_open)
}

/// A server needs no key of its authority; whoever issues certificates on its machine does.
fn check_backup(config: &Config) -> Result<(), Failure> {
    match config.backup.is_of_another_user() {
        true => Ok(()),
        false => backup::configured_secret(config).map(drop),
    }
}

fn check_authority(config: &Config) -> Result<(), Failure> {
    match File::open(&config.pki.ca_private_key_file) {
        // It is kept elsewhere, or by another user.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            Ok(())
        }
        _ => bootstrap::load_authority(&config.pki).map(drop),
    }
}
