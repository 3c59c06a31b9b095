//! The root key: the one key that never is in the database.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    CryptoError, DomainKey, Generation,
    aead::{Aead, KEY_LEN, KeyBytes, random_key},
};
use crate::domain::OkmsId;

/// The key that wraps the keys of domains.
pub struct RootKey {
    id: RootKeyId,
    bytes: KeyBytes,
    aead: Aead,
}

/// Names a root key without telling anything about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootKeyId(String);

/// A domain's key under a root key: what the database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

impl RootKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, CryptoError> {
        Self::new(random_key()?)
    }

    /// Reads a key: 32 bytes in base64 (RFC 4648, section 4), white space around it ignored.
    ///
    /// # Errors
    ///
    /// When the text is anything else.
    pub fn from_text(text: &str) -> Result<Self, CryptoError> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        // One byte more than a key, so that a longer text is refused and not cut.
        let mut decoded = Zeroizing::new([0; KEY_LEN + 3]);
        let length =
            STANDARD.decode_slice(text.trim(), &mut decoded[..]).map_err(|_| CryptoError)?;
        if length != KEY_LEN {
            return Err(CryptoError);
        }
        bytes.copy_from_slice(&decoded[..KEY_LEN]);
        Self::new(bytes)
    }

    /// The key as [`RootKey::from_text`] reads it.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.bytes[..]))
    }

    /// The name of the key.
    pub const fn id(&self) -> &RootKeyId {
        &self.id
    }

    /// Makes a key for a domain and wraps it.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate_domain_key(
        &self,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<WrappedKey, CryptoError> {
        let key = random_key()?;
        let mut wrapped = vec![WRAP_FORMAT];
        self.aead.seal(&key[..], &wrap_context(okms_id, generation), &mut wrapped)?;
        Ok(WrappedKey(wrapped))
    }

    /// Opens the wrapped key of a domain.
    ///
    /// # Errors
    ///
    /// When this is not the root key that wrapped it, or it was changed or moved.
    pub fn unwrap_domain_key(
        &self,
        wrapped: &WrappedKey,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<DomainKey, CryptoError> {
        let (&format, sealed) = wrapped.0.split_first().ok_or(CryptoError)?;
        if format != WRAP_FORMAT {
            return Err(CryptoError);
        }
        let opened = self.aead.open(sealed, &wrap_context(okms_id, generation))?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        if opened.len() != KEY_LEN {
            return Err(CryptoError);
        }
        key.copy_from_slice(&opened);
        DomainKey::new(&key, okms_id, generation)
    }

    fn new(bytes: KeyBytes) -> Result<Self, CryptoError> {
        let aead = Aead::new(&bytes)?;
        // A keyed hash of a fixed text: it names the key and cannot be turned back into it.
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes[..]), ID_CONTEXT);
        let id = tag.as_ref().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id: RootKeyId(id), bytes, aead })
    }
}

impl RootKeyId {
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

impl WrappedKey {
    /// Takes back bytes that [`WrappedKey::as_bytes`] gave out.
    pub fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn wrap_context(okms_id: OkmsId, generation: Generation) -> Vec<u8> {
    [WRAP_CONTEXT, okms_id.as_bytes(), &generation.get().to_be_bytes()].concat()
}

/// First byte of a wrapped key: AES-256-GCM, 12-byte nonce, ciphertext, 16-byte tag.
const WRAP_FORMAT: u8 = 1;
const WRAP_CONTEXT: &[u8] = b"okmsd domain key v1\0";
const ID_CONTEXT: &[u8] = b"okmsd root key id v1";
/// 64 bits tell an operator's handful of keys apart.
const ID_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

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

    #[test]
    fn a_wrapped_key_opens_only_in_its_place_and_under_its_root_key() {
        let (root, other) = (RootKey::generate().unwrap(), RootKey::generate().unwrap());
        let (a, b) = (OkmsId::new(Uuid::from_u128(1)), OkmsId::new(Uuid::from_u128(2)));
        let first = Generation::FIRST;
        let wrapped = root.generate_domain_key(a, first).unwrap();
        assert!(root.unwrap_domain_key(&wrapped, a, first).is_ok());
        assert!(other.unwrap_domain_key(&wrapped, a, first).is_err());
        assert!(root.unwrap_domain_key(&wrapped, b, first).is_err());
        assert!(root.unwrap_domain_key(&wrapped, a, first.next()).is_err());
        for at in 0..wrapped.as_bytes().len() {
            let mut changed = wrapped.as_bytes().to_vec();
            changed[at] ^= 1;
            let changed = WrappedKey::from_stored(changed);
            assert!(root.unwrap_domain_key(&changed, a, first).is_err());
        }
        assert!(root.unwrap_domain_key(&WrappedKey::from_stored(vec![]), a, first).is_err());
    }
}
