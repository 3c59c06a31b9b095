//! The key of a domain, and what it seals.

use zeroize::Zeroizing;

use super::{
    CryptoError,
    aead::{Aead, KeyBytes},
};
use crate::domain::{OkmsId, SecretPath, VersionId};

/// The number of a key of a domain: 1, 2, 3, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u32);

/// One generation of the key of a domain.
pub struct DomainKey {
    okms_id: OkmsId,
    generation: Generation,
    aead: Aead,
}

/// Sealed data of a version: what the database holds.
///
/// ```text
/// format (1 byte) | key generation (4, big-endian) | nonce (12) | ciphertext | tag (16)
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedData(Vec<u8>);

impl Generation {
    /// The first key of a domain.
    pub const FIRST: Self = Self(1);

    /// Takes back a stored number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl DomainKey {
    /// How often one generation may be used to seal.
    ///
    /// With random 96-bit nonces, NIST SP 800-38D (section 8.3) allows 2^32 uses of a key. At 2^28
    /// the odds that any two nonces ever meet are below 2^-40.
    pub const MAX_USES: u64 = 1 << 28;

    pub(super) fn new(
        key: &KeyBytes,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<Self, CryptoError> {
        Ok(Self { okms_id, generation, aead: Aead::new(key)? })
    }

    /// Which key of the domain it is.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Seals the data of a version for its place.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn seal(
        &self,
        plaintext: &[u8],
        path: &SecretPath,
        version: VersionId,
    ) -> Result<SealedData, CryptoError> {
        let mut sealed = self.header().to_vec();
        self.aead.seal(plaintext, &self.context(path, version), &mut sealed)?;
        Ok(SealedData(sealed))
    }

    /// Opens the data of a version.
    ///
    /// # Errors
    ///
    /// When it was sealed by another key, for another place, or was changed.
    pub fn open(
        &self,
        sealed: &SealedData,
        path: &SecretPath,
        version: VersionId,
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let header = self.header();
        let rest = sealed.0.strip_prefix(&header[..]).ok_or(CryptoError)?;
        self.aead.open(rest, &self.context(path, version))
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = self.generation.get().to_be_bytes();
        [DATA_FORMAT, a, b, c, d]
    }

    /// Fixed lengths first and the path last, so that no two places have the same bytes.
    fn context(&self, path: &SecretPath, version: VersionId) -> Vec<u8> {
        [
            DATA_CONTEXT,
            &self.header(),
            self.okms_id.as_bytes(),
            &version.get().to_be_bytes(),
            path.as_str().as_bytes(),
        ]
        .concat()
    }
}

impl SealedData {
    /// Takes back bytes that [`SealedData::as_bytes`] gave out.
    pub fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Which key of the domain sealed it.
    ///
    /// # Errors
    ///
    /// When the bytes are of no form that is known.
    pub fn generation(&self) -> Result<Generation, CryptoError> {
        match self.0.first_chunk::<HEADER_LEN>() {
            Some([DATA_FORMAT, a, b, c, d]) => {
                Ok(Generation::new(u32::from_be_bytes([*a, *b, *c, *d])))
            }
            _ => Err(CryptoError),
        }
    }
}

/// First byte of sealed data: AES-256-GCM with the layout of [`SealedData`].
const DATA_FORMAT: u8 = 1;
const DATA_CONTEXT: &[u8] = b"okmsd version data v1\0";
const HEADER_LEN: usize = 5;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::crypto::StoreKey;

    fn key(domain: u128, store: &StoreKey, generation: Generation) -> DomainKey {
        let okms_id = OkmsId::new(Uuid::from_u128(domain));
        let wrapped = store.generate_domain_key(okms_id, generation).unwrap();
        store.unwrap_domain_key(&wrapped, okms_id, generation).unwrap()
    }

    fn path(text: &str) -> SecretPath {
        SecretPath::parse(text).unwrap()
    }

    #[test]
    fn data_opens_in_its_place_and_nowhere_else() {
        let store = StoreKey::generate().unwrap();
        let key = key(1, &store, Generation::FIRST);
        let (one, two) = (VersionId::new(1).unwrap(), VersionId::new(2).unwrap());
        let sealed = key.seal(b"{\"a\":1}", &path("a"), one).unwrap();
        assert_eq!(sealed.generation(), Ok(Generation::FIRST));
        assert_eq!(key.open(&sealed, &path("a"), one).unwrap().as_slice(), b"{\"a\":1}");
        assert!(key.open(&sealed, &path("b"), one).is_err());
        assert!(key.open(&sealed, &path("a"), two).is_err());
        assert!(!sealed.as_bytes().windows(4).any(|window| window == b"\"a\":"));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_found() {
        let store = StoreKey::generate().unwrap();
        let key = key(1, &store, Generation::FIRST);
        let sealed = key.seal(b"secret", &path("a"), VersionId::FIRST).unwrap();
        for at in 0..sealed.as_bytes().len() {
            let mut changed = sealed.as_bytes().to_vec();
            changed[at] ^= 0x80;
            let changed = SealedData::from_stored(changed);
            assert!(key.open(&changed, &path("a"), VersionId::FIRST).is_err(), "{at}");
            let cut = SealedData::from_stored(sealed.as_bytes()[..at].to_vec());
            assert!(key.open(&cut, &path("a"), VersionId::FIRST).is_err(), "{at}");
        }
    }

    #[test]
    fn another_key_or_generation_does_not_open() {
        let store = StoreKey::generate().unwrap();
        let (key_1, again) = (key(1, &store, Generation::FIRST), key(1, &store, Generation::FIRST));
        let next = key(1, &store, Generation::FIRST.next());
        let sealed = key_1.seal(b"x", &path("a"), VersionId::FIRST).unwrap();
        assert!(again.open(&sealed, &path("a"), VersionId::FIRST).is_err());
        assert!(next.open(&sealed, &path("a"), VersionId::FIRST).is_err());
    }

    #[test]
    fn the_same_data_never_seals_to_the_same_bytes() {
        let store = StoreKey::generate().unwrap();
        let key = key(1, &store, Generation::FIRST);
        let seal = || key.seal(b"x", &path("a"), VersionId::FIRST).unwrap();
        assert_ne!(seal(), seal());
    }
}
