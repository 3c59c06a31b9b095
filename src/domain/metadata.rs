//! Custom metadata.

use std::collections::BTreeMap;

use super::{Argument, Error};

/// Words that users hang on a secret: up to 64 pairs.
///
/// They stand outside the protection of data: they are listed, and stored in clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomMetadata(BTreeMap<String, String>);

impl CustomMetadata {
    /// The largest number of pairs. The API's own bound.
    pub const MAX_ENTRIES: usize = 64;
    /// The largest number of characters of a key. KV2 has the same.
    pub const MAX_KEY_LEN: usize = 128;
    /// The largest number of characters of a value. The API's own bound.
    pub const MAX_VALUE_LEN: usize = 512;

    /// Checks pairs and takes them.
    ///
    /// # Errors
    ///
    /// [`Argument::CustomMetadata`] names the rule that is broken.
    pub fn new(entries: BTreeMap<String, String>) -> Result<Self, Error> {
        let refuse = |rule: &str| {
            Err(Error::argument(Argument::CustomMetadata, format!("customMetadata {rule}")))
        };
        if entries.len() > Self::MAX_ENTRIES {
            return refuse("must have at most 64 entries");
        }
        for (key, value) in &entries {
            if key.is_empty() || key.chars().count() > Self::MAX_KEY_LEN {
                return refuse("keys must have 1 to 128 characters");
            }
            if value.is_empty() || value.chars().count() > Self::MAX_VALUE_LEN {
                return refuse("values must have 1 to 512 characters");
            }
            if !key.bytes().chain(value.bytes()).all(is_metadata_byte) {
                return refuse("keys and values may only contain A-Z a-z 0-9 _ . : / = @ % -");
            }
        }
        Ok(Self(entries))
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all keys and values.
    pub fn len_bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// The pairs, by key.
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

fn is_metadata_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:/=@%-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<CustomMetadata, Error> {
        CustomMetadata::new(pairs.into_iter().collect())
    }

    fn pair(key: &str, value: &str) -> Result<CustomMetadata, Error> {
        pairs([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn keys_and_values_have_bounds_and_a_character_set() {
        assert!(pair("team", "a%2Fb:c/d=e@f-g_h.i").is_ok());
        assert!(pair(&"k".repeat(128), &"v".repeat(512)).is_ok());
        for (key, value) in [
            ("", "v"),
            ("k", ""),
            ("k k", "v"),
            ("k", "v v"),
            ("é", "v"),
            ("k", "é"),
            ("k\n", "v"),
            (&"k".repeat(129), "v"),
            ("k", &"v".repeat(513)),
        ] {
            assert!(pair(key, value).is_err(), "{key} {value}");
        }
    }

    #[test]
    fn sixty_four_entries_are_the_most() {
        let many = |count: usize| pairs((0..count).map(|n| (format!("k{n}"), "v".to_owned())));
        assert!(many(64).is_ok());
        assert!(many(65).is_err());
    }
}
