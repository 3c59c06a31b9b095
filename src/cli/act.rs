//! What somebody does with a subcommand, as it is recorded.

use super::Failure;
use crate::{
    audit::{self, ActRecord},
    clock::SystemClock,
    config::Config,
};

/// An act of the command line.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// The subcommand, such as `domain create`.
    pub(super) operation: &'static str,
    /// What it is about: names of things, never values of secrets.
    pub(super) about: Vec<(&'static str, String)>,
}

impl Act {
    /// The act of the subcommand `operation`.
    pub(super) const fn new(operation: &'static str) -> Self {
        Self { operation, about: Vec::new() }
    }

    /// Adds what the act is about, such as the id of a domain.
    #[must_use]
    pub(super) fn about(mut self, what: &'static str, value: impl ToString) -> Self {
        self.about.push((what, value.to_string()));
        self
    }

    /// Does `work` and records the act with how it ended. Where it could not be recorded, nothing is
    /// done.
    pub(super) fn recorded<T>(
        self,
        config: &Config,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let options = config.audit.options();
        audit::check(&options, &SystemClock)
            .map_err(|error| Failure::because("nothing was done", &error))?;
        let done = work();
        let record = ActRecord {
            operation: self.operation,
            about: self.about.into_iter().collect(),
            user_id: rustix::process::getuid().as_raw(),
            done: done.is_ok(),
        };
        let recorded = audit::record_act(&options, &SystemClock, record);
        match (done, recorded) {
            (done, Ok(())) => done,
            (Ok(_), Err(error)) => {
                Err(Failure::because("it was done, but could not be recorded", &error))
            }
            (Err(failure), Err(error)) => {
                Err(Failure::because(format!("{failure}; and it could not be recorded"), &error))
            }
        }
    }
}
