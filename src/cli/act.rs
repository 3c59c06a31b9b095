//! What somebody does with a subcommand, as it is recorded.

use std::sync::{Arc, Mutex, PoisonError};

use super::Failure;
use crate::{
    audit::{self, About, ActRecord},
    clock::SystemClock,
    config::Config,
};

/// An act of the command line.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// The subcommand, such as `domain create`.
    operation: &'static str,
    /// What it is about: names of things, never values of secrets.
    about: Vec<(&'static str, About)>,
}

/// What is to be said of what came of an act, such as the ids of what was made. Clones are the same notes.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<(&'static str, About)>>>);

impl Notes {
    /// Adds a thing.
    pub(super) fn add(&self, what: &'static str, value: impl ToString) {
        self.push(what, About::One(value.to_string()));
    }

    /// Adds any number of things.
    pub(super) fn add_all(
        &self,
        what: &'static str,
        values: impl IntoIterator<Item = impl ToString>,
    ) {
        self.push(what, many(values));
    }

    fn push(&self, what: &'static str, about: About) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((what, about));
    }

    fn take(&self) -> Vec<(&'static str, About)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Act {
    /// The act of the subcommand `operation`.
    pub(super) const fn new(operation: &'static str) -> Self {
        Self { operation, about: Vec::new() }
    }

    /// Adds what the act is about, such as the id of a domain.
    #[must_use]
    pub(super) fn about(mut self, what: &'static str, value: impl ToString) -> Self {
        self.about.push((what, About::One(value.to_string())));
        self
    }

    /// Adds any number of things that the act is about.
    #[must_use]
    pub(super) fn about_all(
        mut self,
        what: &'static str,
        values: impl IntoIterator<Item = impl ToString>,
    ) -> Self {
        self.about.push((what, many(values)));
        self
    }

    /// Records the act, does `work`, and records how it ended with what it noted. Where the act could not
    /// be recorded, nothing is done; where the process is ended meanwhile, the first record tells of it.
    pub(super) fn recorded<T>(
        self,
        config: &Config,
        work: impl FnOnce(&Notes) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let options = config.audit.options(config.limits.audit_queue);
        let user_id = rustix::process::getuid().as_raw();
        let record = ActRecord::begun(self.operation, self.about, user_id);
        audit::begin_act(&options, &SystemClock, record.clone())
            .map_err(|error| Failure::because("nothing was done", &error))?;
        let notes = Notes::default();
        let done = work(&notes);
        let notes = notes.take();
        let told = told(&notes);
        let record = record.ended(done.is_ok(), notes);
        let recorded = audit::end_act(&options, &SystemClock, record);
        match (done, recorded) {
            (done, Ok(())) => done,
            (Ok(_), Err(error)) => {
                // The ids of what was made and is not shown now, so that it can be revoked.
                let what = format!("it was done{told}, but only that it began is recorded");
                Err(Failure::because(what, &error))
            }
            (Err(failure), Err(error)) => {
                let what = format!("{failure}; and it could not be recorded{told}");
                Err(Failure::because(what, &error))
            }
        }
    }
}

/// Notes within a sentence, such as ` (tokenId 7e5b…)`.
fn told(notes: &[(&'static str, About)]) -> String {
    let note = |(what, about): &(&'static str, About)| match about {
        About::One(value) => format!("{what} {value}"),
        About::Many(values) => format!("{what} {}", values.join(" ")),
    };
    let notes: Vec<_> = notes.iter().map(note).collect();
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) }
}

fn many(values: impl IntoIterator<Item = impl ToString>) -> About {
    About::Many(values.into_iter().map(|value| value.to_string()).collect())
}
