//! The options that say which configuration is meant.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, dev};
use crate::config::{self, Config, Environment, Flags};

/// Which configuration is meant.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// Configuration file [default: $OKMSD_CONFIG, else certs/dev/okmsd.toml where it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder that `okmsd dev` or `okmsd init` made; its okmsd.toml is the configuration
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
}

impl ConfigArguments {
    /// Reads the configuration; without a file, the environment is all there is.
    pub(super) fn load(&self, environment: &Environment) -> Result<Config, Failure> {
        self.load_with(environment, &Flags::default())
    }

    /// The same with flags, which count before all else.
    pub(super) fn load_with(
        &self,
        environment: &Environment,
        flags: &Flags,
    ) -> Result<Config, Failure> {
        let file = self.file(environment);
        Ok(Config::load(file.as_deref(), environment, flags)?)
    }

    /// The file that the options, the environment or the working directory name.
    pub(super) fn file(&self, environment: &Environment) -> Option<PathBuf> {
        let of_options = || {
            let in_folder = |folder: &PathBuf| folder.join(FILE_NAME);
            self.config.clone().or_else(|| self.data_dir.as_ref().map(in_folder))
        };
        let of_trial = || Path::new(DEV_FOLDER).join(FILE_NAME);
        of_options()
            .or_else(|| of_environment(environment))
            .or_else(|| Some(of_trial()).filter(|path| path.exists()))
    }
}

/// The file that the environment names.
pub(super) fn of_environment(environment: &Environment) -> Option<PathBuf> {
    environment.variable(CONFIG_VARIABLE).map(|path| PathBuf::from(path.as_str()))
}

/// The names in the environment that begin like ours and that nothing reads.
pub(super) fn unknown_variables(environment: &Environment) -> Vec<String> {
    config::unknown_variables(environment, &[CONFIG_VARIABLE, dev::FOLDER_VARIABLE])
}

/// What names the configuration file in the environment.
const CONFIG_VARIABLE: &str = "OKMSD_CONFIG";

/// The name of the configuration in a folder that `okmsd` made.
pub(super) const FILE_NAME: &str = "okmsd.toml";

/// The folder of `okmsd dev`, from the working directory.
pub(super) const DEV_FOLDER: &str = "certs/dev";
