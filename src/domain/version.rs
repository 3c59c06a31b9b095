//! Version numbers, states and rows.

use super::{Argument, Error, Timestamp};

/// The highest version number of a secret. The API's own bound.
pub const MAX_VERSION: u32 = 24_000;

/// The number of a version: 1 to [`MAX_VERSION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(u32);

impl VersionId {
    /// The number of the first version of a secret.
    pub const FIRST: Self = Self(1);

    /// Makes a version number.
    ///
    /// # Errors
    ///
    /// [`Argument::Version`] outside 1 to [`MAX_VERSION`].
    pub fn new(number: u32) -> Result<Self, Error> {
        if (1..=MAX_VERSION).contains(&number) {
            return Ok(Self(number));
        }
        Err(Error::argument(Argument::Version, "version must be from 1 to 24000"))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionState {
    /// Its data can be read.
    Active,
    /// Its data is kept, and closed.
    Deactivated,
    /// Its data is gone for good.
    Deleted,
}

impl VersionState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Active, Self::Deactivated, Self::Deleted];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Deleted => "deleted",
        }
    }

    /// Reads the word of the API.
    ///
    /// # Errors
    ///
    /// [`Argument::State`] for any other word.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            Error::argument(Argument::State, "state must be active, deactivated or deleted")
        })
    }
}

/// A version of a secret, apart from its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub id: VersionId,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it closes or closed; may lie in the future.
    pub deactivated_at: Option<Timestamp>,
    /// Whether its data is gone.
    pub deleted: bool,
}

impl Version {
    /// The state at the time `now`.
    ///
    /// A version closes at the very time written in it: nothing has to run for that.
    pub fn state(&self, now: Timestamp) -> VersionState {
        if self.deleted {
            return VersionState::Deleted;
        }
        match self.deactivated_at {
            Some(at) if at <= now => VersionState::Deactivated,
            _ => VersionState::Active,
        }
    }
}

/// A version that is about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewVersion {
    /// Its number.
    pub id: VersionId,
    /// When it is written.
    pub created_at: Timestamp,
    /// When it will close by its age.
    pub deactivated_at: Option<Timestamp>,
}
