//! Keys of writes that are to be done once, as `draft-ietf-httpapi-idempotency-key-header` has them.

use super::Error;

/// A key that a client gives a write, so that to send it again does it once: 1 to 255 visible ASCII characters or
/// spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// Why a write with a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdempotencyError {
    /// The first one with that key is still under way.
    InProgress,
    /// The key was used for another request.
    OtherRequest,
    /// The caller has as many keys kept as it may have.
    TooMany {
        /// Until the first of them is not kept any more: 1 to 86,400 seconds.
        retry_seconds: u32,
    },
}

impl IdempotencyKey {
    /// Reads the value of the header: a string of a structured field (RFC 8941), in double quotes, and nothing
    /// beside it.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn parse(header: &str) -> Result<Self, Error> {
        let quoted = header.trim_matches(' ');
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let key = inner.and_then(unescaped).ok_or_else(malformed)?;
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            return Err(malformed());
        }
        Ok(Self(key))
    }

    /// The key, without its quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of a quoted string: `\"` and `\\` are the only escapes.
fn unescaped(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.push(chars.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            ' '..='~' => text.push(char),
            _ => return None,
        }
    }
    Some(text)
}

/// For a header that is no such key.
pub fn malformed() -> Error {
    Error::malformed(
        "the header Idempotency-Key must hold one key of 1 to 255 visible ASCII characters in double quotes, \
         such as \"8e03978e-40d5-43e6-bc93-6894a57f9324\"",
    )
}

/// Characters of a key: far more than a UUID has, or the longest text that clients make keys of.
const MAX_KEY_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_quoted_string() {
        let long = format!("\"{}\"", "x".repeat(255));
        for (header, key) in [
            (r#""a""#, "a"),
            (r#"  "a b"  "#, "a b"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (&long, &long[1..256]),
        ] {
            assert_eq!(IdempotencyKey::parse(header).unwrap().as_str(), key);
        }
    }

    #[test]
    fn everything_else_is_none() {
        let long = format!("\"{}\"", "x".repeat(256));
        for header in [
            "",
            "a",
            "\"",
            "\"\"",
            "\"a",
            "a\"",
            "\"a\"b\"",
            "\"a\\\"",
            "\"\\a\"",
            "\"ä\"",
            "\"a\t\"",
            "\"a\";p=1",
            "\"a\", \"b\"",
            "'a'",
            "1",
            "?1",
            ":YQ==:",
            &long,
        ] {
            assert!(matches!(IdempotencyKey::parse(header), Err(Error::Malformed(_))), "{header}");
        }
    }
}
