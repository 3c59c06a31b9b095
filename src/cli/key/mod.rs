//! `okmsd key`: root keys and keys of domains.
//!
//! All of it works beside running servers.
//!
//! | file | what it owns |
//! |---|---|
//! | `status` | `okmsd key status` |
//! | `domains` | `okmsd key rotate-domain` and `rewrap` |
//! | `root` | `okmsd key rotate-root`, `enroll` and `remove-slot` |

mod domains;
mod root;
mod status;

use clap::Subcommand;

use super::Failure;
use crate::config::Environment;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show root keys, and for each domain its keys and what is under them
    Status(status::Status),
    RotateDomain(domains::RotateDomain),
    Rewrap(domains::Rewrap),
    RotateRoot(root::RotateRoot),
    Enroll(root::Enroll),
    RemoveSlot(root::RemoveSlot),
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Status(arguments) => arguments.run(environment),
            Self::RotateDomain(arguments) => arguments.run(environment),
            Self::Rewrap(arguments) => arguments.run(environment),
            Self::RotateRoot(arguments) => arguments.run(environment),
            Self::Enroll(arguments) => arguments.run(environment),
            Self::RemoveSlot(arguments) => arguments.run(environment),
        }
    }
}
