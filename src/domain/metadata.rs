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
    pub fn into_entries(self) -> BTreeMap<String, String> {
        self.0
    }

    /// The pairs, by key.
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// Changes of custom metadata down to single pairs, as a JSON merge patch (RFC 7396) makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomMetadataPatch {
    /// All pairs go.
    Clear,
    /// These pairs are set, or go where there is no value; the others stay.
    Merge(BTreeMap<String, Option<String>>),
}

impl Default for CustomMetadataPatch {
    /// Nothing changes.
    fn default() -> Self {
        Self::Merge(BTreeMap::new())
    }
}

impl CustomMetadataPatch {
    /// What custom metadata becomes by these changes.
    ///
    /// # Errors
    ///
    /// See [`CustomMetadata::new`].
    pub fn merged_into(&self, present: &CustomMetadata) -> Result<CustomMetadata, Error> {
        let changes = match self {
            Self::Clear => return Ok(CustomMetadata::default()),
            Self::Merge(changes) => changes,
        };
        let mut entries = present.0.clone();
        for (key, value) in changes {
            match value {
                Some(value) => entries.insert(key.clone(), value.clone()),
                None => entries.remove(key),
            };
        }
        CustomMetadata::new(entries)
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
    fn pairs_are_set_and_removed_one_by_one_and_the_sum_keeps_the_bounds() {
        let present = pairs((0..64).map(|n| (format!("k{n}"), "v".to_owned()))).unwrap();
        let merge = |changes: &[(&str, Option<&str>)]| {
            let owned =
                |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(str::to_owned));
            CustomMetadataPatch::Merge(changes.iter().map(owned).collect()).merged_into(&present)
        };
        assert_eq!(merge(&[]).unwrap(), present);
        assert!(merge(&[("new", Some("v"))]).is_err());
        let merged = merge(&[("new", Some("v")), ("k0", None), ("absent", None)]).unwrap();
        assert_eq!(merged.entries().len(), 64);
        assert!(!merged.entries().contains_key("k0"));
        assert_eq!(merged.entries()["new"], "v");
        assert!(merge(&[("k1", Some(""))]).is_err());
        assert!(CustomMetadataPatch::Clear.merged_into(&present).unwrap().is_empty());
    }

    #[test]
    fn sixty_four_entries_are_the_most() {
        let many = |count: usize| pairs((0..count).map(|n| (format!("k{n}"), "v".to_owned())));
        assert!(many(64).is_ok());
        assert!(many(65).is_err());
    }
}
