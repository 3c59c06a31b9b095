//! The id of an OKMS domain.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The id of an OKMS domain: a UUID in its hyphenated form.
///
/// Upper-case digits are read, lower-case ones written, so that one domain has one name in the
/// store, in logs and in certificates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OkmsId(Uuid);

impl OkmsId {
    /// Makes an id of a UUID.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The 16 bytes of the UUID.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Room for [`write`](Self::write).
    pub const fn buffer() -> [u8; HYPHENATED_LEN] {
        [0; HYPHENATED_LEN]
    }

    /// Writes it as `Display` does, in a third of the time.
    pub fn write(self, buffer: &mut [u8; HYPHENATED_LEN]) -> &str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl FromStr for OkmsId {
    type Err = NotAnOkmsId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `Uuid` also reads braces, URNs and 32 bare digits; one domain must not have five names.
        if text.len() != HYPHENATED_LEN {
            return Err(NotAnOkmsId);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| NotAnOkmsId)
    }
}

impl fmt::Display for OkmsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for OkmsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOkmsId;

/// Length of a UUID written with hyphens (RFC 9562, section 4).
const HYPHENATED_LEN: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_read_and_it_is_written_in_lower_case() {
        let id: OkmsId = "7E5BB0B2-0A6B-4A0C-9A3F-5C9D0E1F2A3B".parse().unwrap();
        assert_eq!(id.to_string(), "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b");
        for other in [
            "",
            "x",
            "7e5bb0b20a6b4a0c9a3f5c9d0e1f2a3b",
            "{7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b}",
            "urn:uuid:7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b",
            "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3g",
        ] {
            assert_eq!(other.parse::<OkmsId>(), Err(NotAnOkmsId), "{other}");
        }
    }
}
