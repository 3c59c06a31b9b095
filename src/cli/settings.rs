//! `okmsd config`: the example, and the check of a configuration.

use std::fmt::Write;

use clap::Subcommand;

use super::{Failure, config_args::ConfigArguments, output, serve, services};
use crate::config::{self, Environment};

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a configuration file that says what each setting means, its unit and its default
    Example,
    /// Check a configuration and print the settings it comes to, without passwords
    ///
    /// Also checks what a server needs of the files: root key, certificates and keys. The database
    /// is not opened.
    Check(ConfigArguments),
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Example => output::print(config::EXAMPLE),
            Self::Check(arguments) => check(&arguments, environment),
        }
    }
}

fn check(arguments: &ConfigArguments, environment: &Environment) -> Result<(), Failure> {
    let config = arguments.load(environment)?;
    services::root_keys(&config)?;
    services::database_url(&config)?;
    serve::check_tls(&config)?;
    let mut text = match arguments.file(environment) {
        Some(file) => format!("# {} and the environment\n", file.display()),
        None => "# the environment alone\n".to_owned(),
    };
    for (key, value) in config.list() {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{key} = {value}");
    }
    output::print(&text)
}
