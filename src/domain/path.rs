//! Secret paths.

use std::fmt;

use super::{Argument, Error};

/// The path of a secret: 1 to 255 characters of `A-Z a-z 0-9 _ . : / = @ -` in segments separated
/// by single slashes.
///
/// A path is never changed to make it fit. What storage uses is byte for byte what the caller
/// named, and what rights are checked on; a path that could be read in two ways (empty, `.` and
/// `..` segments, percent signs) does not exist. The character set is the API's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretPath(String);

impl SecretPath {
    /// The largest number of characters of a path. The API's own bound.
    pub const MAX_LEN: usize = 255;

    /// Reads a path.
    ///
    /// # Errors
    ///
    /// [`Argument::SecretPath`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse =
            |rule: &str| Err(Error::argument(Argument::SecretPath, format!("path {rule}")));
        if text.is_empty() {
            return refuse("must not be empty");
        }
        if text.chars().count() > Self::MAX_LEN {
            return refuse("must have at most 255 characters");
        }
        if text.contains('%') {
            return refuse(
                "must not contain '%': percent-encode it once at most, as a part of the URL",
            );
        }
        if !text.bytes().all(is_path_byte) {
            return refuse("may only contain A-Z a-z 0-9 _ . : / = @ -");
        }
        if text.starts_with('/') || text.ends_with('/') {
            return refuse("must not begin or end with '/'");
        }
        for segment in text.split('/') {
            match segment {
                "" => return refuse("must not contain '//'"),
                "." | ".." => return refuse("must not contain the segments '.' or '..'"),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:/=@-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_paths_are_read_as_they_stand() {
        for path in ["a", "prod/database/MySQL", "a.b/c:d=e@f-g_h", "...", "a/..b/c..", "version"] {
            assert_eq!(SecretPath::parse(path).unwrap().as_str(), path);
        }
        assert!(SecretPath::parse(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for path in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/./b",
            "a/../b",
            "../a",
            "a/..",
            "a%2Fb",
            "a b",
            "a\0b",
            "a\nb",
            "é",
            "a\\b",
            "a?b",
            "a#b",
            "a*b",
            "a+b",
            "a~b",
            "a\u{202e}b",
        ] {
            assert!(SecretPath::parse(path).is_err(), "{path:?}");
        }
        assert!(SecretPath::parse(&"x".repeat(256)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn a_path_that_is_read_has_only_real_segments(text in "[a-z./%_ -]{0,12}") {
            if let Ok(path) = SecretPath::parse(&text) {
                prop_assert_eq!(path.as_str(), &text);
                for segment in text.split('/') {
                    prop_assert!(!matches!(segment, "" | "." | ".."));
                }
                prop_assert!(!text.contains('%') && !text.contains(' '));
            }
        }
    }
}
