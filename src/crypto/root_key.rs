//! The root key: the one key that never is in the database.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    CryptoError,
    aead::{KEY_LEN, KeyBytes, key_name, random_key},
    locked::LockedKey,
};

/// The key that wraps the store key.
pub struct RootKey {
    id: RootKeyId,
    bytes: LockedKey,
}

/// Names a root key without telling anything about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootKeyId(String);

impl RootKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, CryptoError> {
        Ok(Self::new(&random_key()?))
    }

    /// Reads a key: 32 bytes in base64 (RFC 4648, section 4), white space around it ignored.
    ///
    /// # Errors
    ///
    /// When the text is anything else.
    pub fn from_text(text: &str) -> Result<Self, CryptoError> {
        Ok(Self::new(&key_of_text(text)?))
    }

    /// The key as [`RootKey::from_text`] reads it.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.bytes()[..]))
    }

    /// The name of the key.
    pub const fn id(&self) -> &RootKeyId {
        &self.id
    }

    /// Another copy of the key, for work that outlives its caller.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::new(&self.bytes())
    }

    /// A copy of the key for a moment's use.
    pub(super) fn bytes(&self) -> KeyBytes {
        self.bytes.bytes()
    }

    fn new(key: &KeyBytes) -> Self {
        Self { id: RootKeyId::of(key), bytes: LockedKey::new(key) }
    }
}

/// Reads a key: 32 bytes in base64, white space around it ignored.
pub(super) fn key_of_text(text: &str) -> Result<KeyBytes, CryptoError> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    // One byte more than a key, so that a longer text is refused and not cut.
    let mut decoded = Zeroizing::new([0; KEY_LEN + 3]);
    let length = STANDARD.decode_slice(text.trim(), &mut decoded[..]).map_err(|_| CryptoError)?;
    if length != KEY_LEN {
        return Err(CryptoError);
    }
    bytes.copy_from_slice(&decoded[..KEY_LEN]);
    Ok(bytes)
}

impl RootKeyId {
    /// The name of these bytes as a root key.
    pub(super) fn of(key: &KeyBytes) -> Self {
        Self(key_name(key, ID_CONTEXT))
    }

    /// Takes back an id that [`RootKeyId::as_str`] gave out.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const ID_CONTEXT: &[u8] = b"okmsd root key id v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_round_trips_and_nothing_else_is_taken() {
        let key = RootKey::generate().unwrap();
        let again = RootKey::from_text(&format!(" {}\n", *key.to_text())).unwrap();
        assert_eq!(again.id(), key.id());
        assert_ne!(RootKey::generate().unwrap().id(), key.id());
        for text in ["", "x", "AAAA", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])] {
            assert!(RootKey::from_text(text).is_err(), "{text}");
        }
    }
}
