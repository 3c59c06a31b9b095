//! The key of a domain, and what it seals.

use aws_lc_rs::aead::NONCE_LEN;
use zeroize::Zeroizing;

use super::{
    CryptoError, VersionPlace,
    aead::{Aead, KeyBytes},
    mac::MacKey,
    store_key::Rows,
};
use crate::domain::OkmsId;

/// The number of a key of a domain: 1, 2, 3, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u32);

/// One generation of the key of a domain.
pub struct DomainKey {
    okms_id: OkmsId,
    generation: Generation,
    rows: Rows,
    pub(super) aead: Aead,
    pub(super) cursor_mac: MacKey,
    pub(super) row_mac: MacKey,
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
        rows: Rows,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<Self, CryptoError> {
        Ok(Self {
            okms_id,
            generation,
            rows,
            aead: Aead::new(key)?,
            cursor_mac: MacKey::derive(key, CURSOR_PURPOSE)?,
            row_mac: MacKey::derive(key, ROW_PURPOSE)?,
        })
    }

    /// Whether every row of its domain has to have a proof: as it was stated when the key was wrapped.
    pub fn rows_are_proven(&self) -> bool {
        self.rows == Rows::Proven
    }

    /// The domain that it is a key of.
    pub const fn okms_id(&self) -> OkmsId {
        self.okms_id
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
        place: &VersionPlace<'_>,
    ) -> Result<SealedData, CryptoError> {
        let mut sealed = self.header(DATA_FORMAT).to_vec();
        self.aead.seal(plaintext, &self.context(place), &mut sealed)?;
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
        place: &VersionPlace<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        if let Some(rest) = sealed.0.strip_prefix(&self.header(DATA_FORMAT)[..]) {
            return self.aead.open(rest, &self.context(place));
        }
        let old = sealed.0.strip_prefix(&self.header(OLD_DATA_FORMAT)[..]).ok_or(CryptoError)?;
        self.aead.open(old, &self.old_context(place))
    }

    pub(super) fn header(&self, format: u8) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = self.generation.get().to_be_bytes();
        [format, a, b, c, d]
    }

    /// Fixed lengths first and the path last, so that no two places have the same bytes.
    fn context(&self, place: &VersionPlace<'_>) -> Vec<u8> {
        [
            DATA_CONTEXT,
            &self.header(DATA_FORMAT),
            self.okms_id.as_bytes(),
            place.incarnation.as_bytes(),
            &place.id.get().to_be_bytes(),
            &place.created_at.as_millis().to_be_bytes(),
            place.path.as_str().as_bytes(),
        ]
        .concat()
    }

    fn old_context(&self, place: &VersionPlace<'_>) -> Vec<u8> {
        [
            OLD_DATA_CONTEXT,
            &self.header(OLD_DATA_FORMAT),
            self.okms_id.as_bytes(),
            &place.id.get().to_be_bytes(),
            place.path.as_str().as_bytes(),
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
            Some([DATA_FORMAT | OLD_DATA_FORMAT, a, b, c, d]) => {
                Ok(Generation::new(u32::from_be_bytes([*a, *b, *c, *d])))
            }
            _ => Err(CryptoError),
        }
    }
}

/// First byte of sealed data: AES-256-GCM with the layout of [`SealedData`].
const DATA_FORMAT: u8 = 2;
const DATA_CONTEXT: &[u8] = b"okmsd version data v2\0";
/// The same, bound to path and version alone: sealed before secrets had incarnations. It is opened until it
/// is sealed anew; the MAC of its row keeps it in its place.
const OLD_DATA_FORMAT: u8 = 1;
const OLD_DATA_CONTEXT: &[u8] = b"okmsd version data v1\0";
pub(super) const HEADER_LEN: usize = 5;
/// Format, generation and nonce.
pub(super) const SEAL_LEN: usize = HEADER_LEN + NONCE_LEN;
/// What keys that are derived from a domain's key are for.
const CURSOR_PURPOSE: &[u8] = b"okmsd cursor mac v1";
const ROW_PURPOSE: &[u8] = b"okmsd row mac v1";

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        crypto::{Incarnation, StoreKey},
        domain::{SecretPath, Timestamp, VersionId},
    };

    fn key(domain: u128, store: &StoreKey, generation: Generation) -> DomainKey {
        let okms_id = OkmsId::new(Uuid::from_u128(domain));
        let wrapped = store.generate_domain_key(okms_id, generation).unwrap();
        store.unwrap_domain_key(&wrapped, okms_id, generation).unwrap()
    }

    fn path(text: &str) -> SecretPath {
        SecretPath::parse(text).unwrap()
    }

    fn place(path: &SecretPath) -> VersionPlace<'_> {
        VersionPlace {
            path,
            incarnation: Incarnation::from_stored(&[7; 16]).unwrap(),
            id: VersionId::FIRST,
            created_at: Timestamp::from_millis(5),
        }
    }

    #[test]
    fn data_opens_in_its_place_and_nowhere_else() {
        let store = StoreKey::generate().unwrap();
        let key = key(1, &store, Generation::FIRST);
        let (a, b) = (path("a"), path("b"));
        let place = place(&a);
        let sealed = key.seal(b"{\"a\":1}", &place).unwrap();
        assert_eq!(sealed.generation(), Ok(Generation::FIRST));
        assert_eq!(key.open(&sealed, &place).unwrap().as_slice(), b"{\"a\":1}");
        for other in [
            VersionPlace { path: &b, ..place },
            VersionPlace { id: VersionId::new(2).unwrap(), ..place },
            VersionPlace { incarnation: Incarnation::generate().unwrap(), ..place },
            VersionPlace { created_at: Timestamp::from_millis(6), ..place },
        ] {
            assert!(key.open(&sealed, &other).is_err(), "{other:?}");
        }
        assert!(!sealed.as_bytes().windows(4).any(|window| window == b"\"a\":"));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_found() {
        let store = StoreKey::generate().unwrap();
        let key = key(1, &store, Generation::FIRST);
        let a = path("a");
        let sealed = key.seal(b"secret", &place(&a)).unwrap();
        for at in 0..sealed.as_bytes().len() {
            for bit in 0..8 {
                let mut changed = sealed.as_bytes().to_vec();
                changed[at] ^= 1 << bit;
                let changed = SealedData::from_stored(changed);
                assert!(key.open(&changed, &place(&a)).is_err(), "{at}");
            }
            let cut = SealedData::from_stored(sealed.as_bytes()[..at].to_vec());
            assert!(key.open(&cut, &place(&a)).is_err(), "{at}");
        }
    }

    #[test]
    fn another_key_or_generation_does_not_open() {
        let store = StoreKey::generate().unwrap();
        let (key_1, again) = (key(1, &store, Generation::FIRST), key(1, &store, Generation::FIRST));
        let next = key(1, &store, Generation::FIRST.next());
        let a = path("a");
        let sealed = key_1.seal(b"x", &place(&a)).unwrap();
        assert!(again.open(&sealed, &place(&a)).is_err());
        assert!(next.open(&sealed, &place(&a)).is_err());
    }

    #[test]
    fn the_same_data_never_seals_to_the_same_bytes() {
        let store = StoreKey::generate().unwrap();
        let key = key(1, &store, Generation::FIRST);
        let a = path("a");
        let seal = || key.seal(b"x", &place(&a)).unwrap();
        assert_ne!(seal(), seal());
        assert_ne!(seal().id(), seal().id());
    }

    #[test]
    fn data_that_was_sealed_before_secrets_had_incarnations_opens_in_its_place() {
        let store = StoreKey::generate().unwrap();
        let key = key(1, &store, Generation::FIRST);
        let (a, b) = (path("a"), path("b"));
        let mut sealed = key.header(OLD_DATA_FORMAT).to_vec();
        // As the program of before wrote it: format, generation, okmsId, version, path.
        let context = [
            b"okmsd version data v1\0\x01\0\0\0\x01".as_slice(),
            key.okms_id.as_bytes(),
            &[0, 0, 0, 1],
            b"a",
        ];
        key.aead.seal(b"old", &context.concat(), &mut sealed).unwrap();
        let sealed = SealedData::from_stored(sealed);
        assert_eq!(sealed.generation(), Ok(Generation::FIRST));
        assert_eq!(key.open(&sealed, &place(&a)).unwrap().as_slice(), b"old");
        assert!(key.open(&sealed, &place(&b)).is_err());
        let mut renamed = sealed.as_bytes().to_vec();
        renamed[0] = DATA_FORMAT;
        assert!(key.open(&SealedData::from_stored(renamed), &place(&a)).is_err());
    }
}
