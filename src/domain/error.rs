//! What can go wrong, in the words of the API.

use std::fmt;

use super::{CustomMetadata, IdempotencyError, Version};

/// Why a request was not done.
///
/// Each variant but the last two carries no more than the caller may know. The text of
/// [`Error::Internal`] and [`Error::Unavailable`] is for the log alone; this type has no `Display`,
/// so that it cannot slip into an answer. No text ever holds a secret's value.
#[derive(Clone, PartialEq, Eq)]
pub enum Error {
    /// The request itself cannot be read: body, query or header. The text is for the caller.
    Malformed(String),
    /// An argument breaks a rule. The text is for the caller.
    Argument(Argument, String),
    /// The caller did not identify itself, or its credential is not (or no longer) valid. The text
    /// is for the log: the caller is told the same whatever the reason is.
    Unauthenticated(&'static str),
    /// The caller sent a token to a server whose operator turned tokens off.
    TokensOff,
    /// Others of the caller's address keep it waiting for too long.
    TooManyRequests,
    /// The caller may not do this: it needs the action named here, such as `okms:apikms:secret/get`.
    Forbidden(&'static str),
    /// No OKMS domain of that id that the caller could know of.
    DomainNotFound,
    /// No secret at that path.
    SecretNotFound,
    /// The secret has no such version, or no longer.
    VersionNotFound,
    /// The version is deactivated or deleted, and the API set of the request has no other way to say so.
    VersionClosed(Box<ClosedVersion>),
    /// There is a secret at that path.
    SecretExists,
    /// The write is to be done once, and its key stands in the way.
    Idempotency(IdempotencyError),
    /// Storage or keys cannot be reached now. The text is for the log.
    Unavailable(String),
    /// Something broke that the caller has no part in. The text is for the log.
    Internal(String),
}

/// A version whose data cannot be read, and what may be known of it all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedVersion {
    /// The version.
    pub version: Version,
    /// The custom metadata of its secret.
    pub custom_metadata: CustomMetadata,
}

/// Which argument is at fault; each has its own error code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Argument {
    /// A field that must be there is not, or holds nothing.
    FieldRequired,
    /// The secret path.
    SecretPath,
    /// The data of a version: not a JSON object.
    DataNotAnObject,
    /// The data of a version: too large, too deep or of too many parts.
    DataTooLarge,
    /// Custom metadata: a key, a value or their number.
    CustomMetadata,
    /// `deactivateVersionAfter`.
    DeactivateVersionAfter,
    /// `maxVersions`.
    MaxVersions,
    /// A version number.
    Version,
    /// The secret has used up its version numbers.
    VersionsExhausted,
    /// The domain has as many secrets as it may have.
    SecretsExhausted,
    /// `cas` is missing or not the current version.
    CheckAndSet,
    /// A version state that does not exist, or cannot follow on the present one.
    State,
}

impl Error {
    /// An argument that breaks a rule.
    pub fn argument(argument: Argument, text: impl Into<String>) -> Self {
        Self::Argument(argument, text.into())
    }

    /// A request that cannot be read.
    pub fn malformed(text: impl Into<String>) -> Self {
        Self::Malformed(text.into())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => write!(f, "malformed: {text}"),
            Self::Argument(argument, text) => write!(f, "bad argument {argument:?}: {text}"),
            Self::Unauthenticated(why) => write!(f, "unauthenticated: {why}"),
            Self::TooManyRequests => f.write_str("too many requests of one address"),
            Self::TokensOff => f.write_str("tokens are turned off"),
            Self::Forbidden(action) => write!(f, "forbidden: {action}"),
            Self::DomainNotFound => f.write_str("domain not found"),
            Self::SecretNotFound => f.write_str("secret not found"),
            Self::VersionNotFound => f.write_str("version not found"),
            Self::VersionClosed(closed) => {
                write!(f, "version {} is closed", closed.version.id.get())
            }
            Self::SecretExists => f.write_str("secret exists"),
            Self::Idempotency(why) => write!(f, "idempotency key: {why:?}"),
            Self::Unavailable(text) => write!(f, "unavailable: {text}"),
            Self::Internal(text) => write!(f, "internal: {text}"),
        }
    }
}
