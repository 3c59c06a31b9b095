//! Why a subcommand failed, as one sentence for each reason.

use std::{error::Error, fmt};

use crate::{config, domain};

/// Why a subcommand failed.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    usage: bool,
}

impl Failure {
    /// Something failed.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), usage: false }
    }

    /// The command line asks for what cannot be.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), usage: true }
    }

    /// Something failed because of `error`, told with all that lies behind it.
    pub(super) fn because(what: impl fmt::Display, error: &dyn Error) -> Self {
        Self::new(format!("{what}: {}", chain(error)))
    }

    /// Something was refused or broke below, in the words of the domain.
    ///
    /// Who runs a subcommand is an operator, so this tells what the log of a server would.
    pub(super) fn refused(what: impl fmt::Display, error: &domain::Error) -> Self {
        let usage = matches!(error, domain::Error::Argument(..));
        Self { message: format!("{what}: {}", Self::why(error)), usage }
    }

    /// What an error says to an operator.
    pub(super) fn why(error: &domain::Error) -> &str {
        use domain::Error;
        match error {
            Error::Malformed(text)
            | Error::Argument(_, text)
            | Error::Unavailable(text)
            | Error::Internal(text) => text.as_str(),
            Error::Unauthenticated(why) => why,
            Error::TooManyRequests => "too many requests",
            Error::TokensOff => "tokens are turned off",
            Error::Forbidden(_) => "not allowed",
            Error::DomainNotFound => "there is no such domain",
            Error::SecretNotFound => "there is no such secret",
            Error::VersionNotFound => "there is no such version",
            Error::VersionClosed(_) => "the version is closed",
            Error::SecretExists => "there is such a secret already",
            Error::Idempotency(_) => "the idempotency key cannot be used",
        }
    }

    /// Whether it is the command line's fault.
    pub(super) const fn is_usage(&self) -> bool {
        self.usage
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One line for each thing that is wrong.
impl From<config::Errors> for Failure {
    fn from(config::Errors(errors): config::Errors) -> Self {
        let failures: Vec<Self> = errors.into_iter().map(Self::from).collect();
        let messages: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
        Self { message: messages.join("\n"), usage: failures.iter().any(Self::is_usage) }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let usage = matches!(error, config::Error::Rule { flag: true, .. });
        Self { message: chain(&error), usage }
    }
}

/// An error and its causes, from the nearest to the farthest.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors already tell their cause.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
