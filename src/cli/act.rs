//! What somebody does with a subcommand, as it is recorded.

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
}
