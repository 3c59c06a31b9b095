//! The flags that several subcommands share with `okmsd serve`.

use clap::Args;

use crate::config::{Environment, Flags};

/// Where to listen and where to store.
#[derive(Debug, Args)]
pub(super) struct ListenFlags {
    /// Where the API listens [env: OKMSD_API_LISTEN] [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR:PORT")]
    api_listen: Option<String>,
    /// Where the public documentation listens, or "off" [env: OKMSD_DOCS_LISTEN]
    /// [default: 127.0.0.1:8444]
    #[arg(long, value_name = "ADDR:PORT")]
    docs_listen: Option<String>,
    /// Where health and metrics are served over plain HTTP, or "off" [env: OKMSD_OPERATIONS_LISTEN]
    /// [default: 127.0.0.1:8445; for `okmsd dev`, a port that is free]
    #[arg(long, value_name = "ADDR:PORT")]
    operations_listen: Option<String>,
    /// SQLite file or postgres:// URL [env: OKMSD_DATABASE] [default: okmsd.db beside the
    /// configuration]
    ///
    /// Others on this machine can see a password on the command line; the environment, the
    /// configuration file and OKMSD_DATABASE_FILE are better places for it.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

impl ListenFlags {
    /// The settings that were given.
    pub(super) fn flags(&self) -> Flags {
        Flags::default()
            .with("server.api_listen", "--api-listen", self.api_listen.as_deref())
            .with("server.docs_listen", "--docs-listen", self.docs_listen.as_deref())
            .with(
                "server.operations_listen",
                "--operations-listen",
                self.operations_listen.as_deref(),
            )
            .with("storage.database", "--database", self.database.as_deref())
    }

    /// Of the environment, the variables of these flags.
    pub(super) fn variables(environment: &Environment) -> Environment {
        environment.only(&[
            "OKMSD_API_LISTEN",
            "OKMSD_DOCS_LISTEN",
            "OKMSD_OPERATIONS_LISTEN",
            "OKMSD_DATABASE",
        ])
    }
}

/// What to log.
#[derive(Debug, Args)]
pub(super) struct LogFlags {
    /// What is logged: error, warn, info, debug, trace, off, or levels by module
    /// [env: OKMSD_LOG_LEVEL or RUST_LOG] [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Form of a log line: text or json [env: OKMSD_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl LogFlags {
    /// Adds the settings that were given.
    pub(super) fn add_to(&self, flags: Flags) -> Flags {
        flags.with("log.level", "--log-level", self.log_level.as_deref()).with(
            "log.format",
            "--log-format",
            self.log_format.as_deref(),
        )
    }
}
