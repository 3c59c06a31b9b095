//! OKMS domains.

use super::{Argument, Error, OkmsId, SecretConfig, Timestamp};

/// An OKMS domain: a set of secrets of its own, with keys and credentials of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OkmsDomain {
    /// Its id.
    pub okms_id: OkmsId,
    /// What people call it.
    pub name: String,
    /// The region in its URNs.
    pub region: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The defaults of its secrets.
    pub config: SecretConfig,
}

impl OkmsDomain {
    /// The largest number of characters of a name; as for credentials.
    pub const MAX_NAME_LEN: usize = 50;
    /// The largest number of characters of a region; those of the service have up to 12
    /// (`eu-west-par`).
    pub const MAX_REGION_LEN: usize = 32;

    /// Checks the name of a domain.
    ///
    /// # Errors
    ///
    /// [`Argument::FieldRequired`] where it is empty, too long or has control characters.
    pub fn check_name(name: &str) -> Result<(), Error> {
        let length = name.chars().count();
        if length == 0 || length > Self::MAX_NAME_LEN || name.chars().any(char::is_control) {
            return Err(Error::argument(
                Argument::FieldRequired,
                "name must have 1 to 50 characters and no control characters",
            ));
        }
        Ok(())
    }

    /// Checks a region: it becomes a part of URNs.
    ///
    /// # Errors
    ///
    /// [`Argument::FieldRequired`].
    pub fn check_region(region: &str) -> Result<(), Error> {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || region.len() > Self::MAX_REGION_LEN || !region.bytes().all(is_word)
        {
            return Err(Error::argument(
                Argument::FieldRequired,
                "region must have 1 to 32 characters of a-z 0-9 -",
            ));
        }
        Ok(())
    }
}
