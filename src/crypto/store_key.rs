//! The store key: between the root keys and the keys of domains.
//!
//! It is wrapped once for each root key, so that either of two opens the store, and a root key is added
//! or replaced without touching anything below. When a root key is to be worth nothing any more, the
//! store key must go with it: whoever had the one had the other.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    CryptoError, DomainKey, Generation, RootKey, TokenKey,
    aead::{Aead, KEY_LEN, KeyBytes, key_name, random_key},
    locked::LockedKey,
};
use crate::domain::OkmsId;

/// The key that wraps the keys of domains.
pub struct StoreKey {
    id: StoreKeyId,
    bytes: LockedKey,
}

/// Names a store key without telling anything about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreKeyId(String);

/// A key under another one: what the database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

impl StoreKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, CryptoError> {
        Ok(Self::new(&random_key()?))
    }

    /// The name of the key.
    pub const fn id(&self) -> &StoreKeyId {
        &self.id
    }

    /// Wraps it for a root key.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn wrap(&self, root_key: &RootKey) -> Result<WrappedKey, CryptoError> {
        WrappedKey::seal(
            STORE_KEY_FORMAT,
            &root_key.bytes(),
            &self.bytes.bytes(),
            &self.id.context(),
        )
    }

    /// Opens what [`StoreKey::wrap`] gave.
    ///
    /// # Errors
    ///
    /// When this is not the root key that wrapped it, or it was changed, or is another key than `id`.
    pub fn unwrap(
        wrapped: &WrappedKey,
        id: &StoreKeyId,
        root_key: &RootKey,
    ) -> Result<Self, CryptoError> {
        let key = wrapped.open(STORE_KEY_FORMAT, &root_key.bytes(), &id.context())?;
        let key = Self::new(&key);
        if key.id == *id { Ok(key) } else { Err(CryptoError) }
    }

    /// Wraps it for a backup, under a key of that backup alone.
    pub(super) fn wrap_for_backup(&self, under: &KeyBytes) -> Result<WrappedKey, CryptoError> {
        WrappedKey::seal(BACKUP_FORMAT, under, &self.bytes.bytes(), &self.id.context())
    }

    /// Opens what [`StoreKey::wrap_for_backup`] gave.
    pub(super) fn unwrap_from_backup(
        wrapped: &WrappedKey,
        id: &StoreKeyId,
        under: &KeyBytes,
    ) -> Result<Self, CryptoError> {
        let key = Self::new(&wrapped.open(BACKUP_FORMAT, under, &id.context())?);
        if key.id == *id { Ok(key) } else { Err(CryptoError) }
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
        self.wrap_domain_key(&random_key()?, Rows::Proven, okms_id, generation)
    }

    /// Wraps the key of a domain, as it is, with the statement that all rows of the domain are proven.
    ///
    /// # Errors
    ///
    /// When this is not the store key that wrapped it, or it was changed or moved; or the system has no
    /// randomness to give.
    pub fn state_rows_proven(
        &self,
        wrapped: &WrappedKey,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<WrappedKey, CryptoError> {
        let (key, _) = self.open_domain_key(wrapped, okms_id, generation)?;
        self.wrap_domain_key(&key, Rows::Proven, okms_id, generation)
    }

    /// Opens the wrapped key of a domain.
    ///
    /// # Errors
    ///
    /// When this is not the store key that wrapped it, or it was changed or moved.
    pub fn unwrap_domain_key(
        &self,
        wrapped: &WrappedKey,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<DomainKey, CryptoError> {
        let (key, rows) = self.open_domain_key(wrapped, okms_id, generation)?;
        DomainKey::new(&key, rows, okms_id, generation)
    }

    /// Wraps the key of a domain, as it is, under this key instead of `old`.
    ///
    /// # Errors
    ///
    /// When `old` does not open it, or the system has no randomness to give.
    pub fn rewrap_domain_key(
        &self,
        old: &Self,
        wrapped: &WrappedKey,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<WrappedKey, CryptoError> {
        let (key, rows) = old.open_domain_key(wrapped, okms_id, generation)?;
        self.wrap_domain_key(&key, rows, okms_id, generation)
    }

    /// Wraps the key of a domain, as it is, under this key instead of a root key that wraps it directly,
    /// as they did before there were store keys.
    ///
    /// # Errors
    ///
    /// When the root key does not open it, or the system has no randomness to give.
    pub fn take_over_domain_key(
        &self,
        root_key: &RootKey,
        wrapped: &WrappedKey,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<WrappedKey, CryptoError> {
        let context = place(DIRECT_CONTEXT, okms_id, generation);
        let key = wrapped.open(DIRECT_FORMAT, &root_key.bytes(), &context)?;
        self.wrap_domain_key(&key, Rows::Unproven, okms_id, generation)
    }

    /// Makes the key of the MACs of tokens and wraps it.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate_token_key(&self) -> Result<WrappedKey, CryptoError> {
        WrappedKey::seal(TOKEN_KEY_FORMAT, &self.bytes.bytes(), &random_key()?, TOKEN_KEY_CONTEXT)
    }

    /// Opens what [`StoreKey::generate_token_key`] gave.
    ///
    /// # Errors
    ///
    /// When this is not the store key that wrapped it, or it was changed.
    pub fn unwrap_token_key(&self, wrapped: &WrappedKey) -> Result<TokenKey, CryptoError> {
        let key = wrapped.open(TOKEN_KEY_FORMAT, &self.bytes.bytes(), TOKEN_KEY_CONTEXT)?;
        TokenKey::new(&key)
    }

    fn wrap_domain_key(
        &self,
        key: &KeyBytes,
        rows: Rows,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<WrappedKey, CryptoError> {
        let (format, context) = rows.format();
        let context = place(context, okms_id, generation);
        WrappedKey::seal(format, &self.bytes.bytes(), key, &context)
    }

    fn open_domain_key(
        &self,
        wrapped: &WrappedKey,
        okms_id: OkmsId,
        generation: Generation,
    ) -> Result<(KeyBytes, Rows), CryptoError> {
        let stored = wrapped.0.first();
        let rows = Rows::ALL.into_iter().find(|rows| stored == Some(&rows.format().0));
        let rows = rows.ok_or(CryptoError)?;
        let (format, context) = rows.format();
        let key =
            wrapped.open(format, &self.bytes.bytes(), &place(context, okms_id, generation))?;
        Ok((key, rows))
    }

    fn new(key: &KeyBytes) -> Self {
        Self { id: StoreKeyId(key_name(key, ID_CONTEXT)), bytes: LockedKey::new(key) }
    }
}

/// What a wrapped key states of the rows of its domain. It is bound to the key by the wrapping, so nobody
/// who lacks the store key can take the statement back and have rows without proof taken for old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// There may be rows of a time before rows had proofs.
    Unproven,
    /// A row without proof is a damaged one.
    Proven,
}

impl Rows {
    const ALL: [Self; 2] = [Self::Unproven, Self::Proven];

    const fn format(self) -> (u8, &'static [u8]) {
        match self {
            Self::Unproven => (DOMAIN_KEY_FORMAT, DOMAIN_KEY_CONTEXT),
            Self::Proven => (PROVEN_FORMAT, PROVEN_CONTEXT),
        }
    }
}

impl StoreKeyId {
    /// Takes back an id that [`StoreKeyId::as_str`] gave out.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn context(&self) -> Vec<u8> {
        [STORE_KEY_CONTEXT, self.0.as_bytes()].concat()
    }
}

impl fmt::Display for StoreKeyId {
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

    /// The format is bound too: a key of one kind never opens as one of another.
    fn seal(
        format: u8,
        under: &KeyBytes,
        key: &KeyBytes,
        context: &[u8],
    ) -> Result<Self, CryptoError> {
        let mut wrapped = vec![format];
        Aead::new(under)?.seal(&key[..], context, &mut wrapped)?;
        Ok(Self(wrapped))
    }

    fn open(&self, format: u8, under: &KeyBytes, context: &[u8]) -> Result<KeyBytes, CryptoError> {
        let (&stored, sealed) = self.0.split_first().ok_or(CryptoError)?;
        if stored != format {
            return Err(CryptoError);
        }
        let opened = Aead::new(under)?.open(sealed, context)?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        if opened.len() != KEY_LEN {
            return Err(CryptoError);
        }
        key.copy_from_slice(&opened);
        Ok(key)
    }
}

fn place(context: &[u8], okms_id: OkmsId, generation: Generation) -> Vec<u8> {
    [context, okms_id.as_bytes(), &generation.get().to_be_bytes()].concat()
}

// First byte of a wrapped key. All: AES-256-GCM, 12-byte nonce, ciphertext, 16-byte tag.

/// A domain's key under a root key: how it was before there were store keys.
const DIRECT_FORMAT: u8 = 1;
const DIRECT_CONTEXT: &[u8] = b"okmsd domain key v1\0";
/// A domain's key under a store key, as it was taken over: rows of the domain may lack proofs.
const DOMAIN_KEY_FORMAT: u8 = 2;
const DOMAIN_KEY_CONTEXT: &[u8] = b"okmsd domain key v2\0";
/// A domain's key under a store key, of a domain all of whose rows have proofs.
const PROVEN_FORMAT: u8 = 4;
const PROVEN_CONTEXT: &[u8] = b"okmsd domain key v3\0";
/// A store key under a root key.
const STORE_KEY_FORMAT: u8 = 3;
const STORE_KEY_CONTEXT: &[u8] = b"okmsd store key v1\0";
/// A store key in a backup.
const BACKUP_FORMAT: u8 = 6;
/// The key of tokens under a store key.
const TOKEN_KEY_FORMAT: u8 = 5;
const TOKEN_KEY_CONTEXT: &[u8] = b"okmsd token key v1\0";
const ID_CONTEXT: &[u8] = b"okmsd store key id v1";

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        crypto::{Incarnation, VersionPlace, mac::Fields},
        domain::{SecretPath, Timestamp, VersionId},
    };

    const FIRST: Generation = Generation::FIRST;

    fn root() -> RootKey {
        RootKey::generate().unwrap()
    }

    fn store() -> StoreKey {
        StoreKey::generate().unwrap()
    }

    fn domain(number: u128) -> OkmsId {
        OkmsId::new(Uuid::from_u128(number))
    }

    fn every_changed_bit(wrapped: &WrappedKey) -> impl Iterator<Item = WrappedKey> {
        (0..wrapped.0.len() * 8).map(|bit| {
            let mut changed = wrapped.0.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            WrappedKey(changed)
        })
    }

    #[test]
    fn a_store_key_opens_under_each_of_its_root_keys_and_no_other() {
        let (one, two, other, key) = (root(), root(), root(), store());
        let wrapped = [&one, &two].map(|root| key.wrap(root).unwrap());
        for (wrapped, root) in wrapped.iter().zip([&one, &two]) {
            assert_eq!(StoreKey::unwrap(wrapped, key.id(), root).unwrap().id(), key.id());
            assert!(StoreKey::unwrap(wrapped, key.id(), &other).is_err());
            assert!(StoreKey::unwrap(wrapped, store().id(), root).is_err());
        }
        assert!(StoreKey::unwrap(&wrapped[0], key.id(), &two).is_err());
        for changed in every_changed_bit(&wrapped[0]) {
            assert!(StoreKey::unwrap(&changed, key.id(), &one).is_err());
        }
        assert!(StoreKey::unwrap(&WrappedKey(vec![]), key.id(), &one).is_err());
    }

    #[test]
    fn a_domain_key_opens_only_in_its_place_and_under_its_store_key() {
        let (key, other, a, b) = (store(), store(), domain(1), domain(2));
        let wrapped = key.generate_domain_key(a, FIRST).unwrap();
        assert!(key.unwrap_domain_key(&wrapped, a, FIRST).is_ok());
        assert!(other.unwrap_domain_key(&wrapped, a, FIRST).is_err());
        assert!(key.unwrap_domain_key(&wrapped, b, FIRST).is_err());
        assert!(key.unwrap_domain_key(&wrapped, a, FIRST.next()).is_err());
        for changed in every_changed_bit(&wrapped) {
            assert!(key.unwrap_domain_key(&changed, a, FIRST).is_err());
        }
        // Not as a key of another kind either.
        assert!(StoreKey::unwrap(&wrapped, key.id(), &root()).is_err());
    }

    #[test]
    fn a_key_of_tokens_opens_under_its_store_key_alone_and_no_two_are_the_same() {
        let (key, other, fields) = (store(), store(), Fields::of(b"x"));
        let wrapped = key.generate_token_key().unwrap();
        let tokens = key.unwrap_token_key(&wrapped).unwrap();
        let again = key.unwrap_token_key(&wrapped).unwrap();
        assert!(again.0.verify(&fields, &tokens.0.sign(&fields)).is_ok());
        let next = key.unwrap_token_key(&key.generate_token_key().unwrap()).unwrap();
        assert!(next.0.verify(&fields, &tokens.0.sign(&fields)).is_err());
        assert!(other.unwrap_token_key(&wrapped).is_err());
        for changed in every_changed_bit(&wrapped) {
            assert!(key.unwrap_token_key(&changed).is_err());
        }
        assert!(key.unwrap_domain_key(&wrapped, domain(1), FIRST).is_err());
    }

    #[test]
    fn a_domain_key_is_the_same_key_under_another_store_key_or_after_it_was_taken_over() {
        let (root, old, new, id) = (root(), store(), store(), domain(1));
        let path = SecretPath::parse("a").unwrap();
        let place = VersionPlace {
            path: &path,
            incarnation: Incarnation::generate().unwrap(),
            id: VersionId::FIRST,
            created_at: Timestamp::from_millis(1),
        };
        // As the program of before wrapped it.
        let context = super::place(DIRECT_CONTEXT, id, FIRST);
        let bytes = random_key().unwrap();
        let direct = WrappedKey::seal(DIRECT_FORMAT, &root.bytes(), &bytes, &context).unwrap();
        let sealed = DomainKey::new(&bytes, Rows::Unproven, id, FIRST).unwrap();
        let sealed = sealed.seal(b"x", &place).unwrap();
        assert!(old.unwrap_domain_key(&direct, id, FIRST).is_err());
        assert!(
            old.take_over_domain_key(&RootKey::generate().unwrap(), &direct, id, FIRST).is_err()
        );

        let taken = old.take_over_domain_key(&root, &direct, id, FIRST).unwrap();
        let rewrapped = new.rewrap_domain_key(&old, &taken, id, FIRST).unwrap();
        for (store, wrapped) in [(&old, &taken), (&new, &rewrapped)] {
            let key = store.unwrap_domain_key(wrapped, id, FIRST).unwrap();
            assert_eq!(key.open(&sealed, &place).unwrap().as_slice(), b"x");
            assert!(!key.rows_are_proven());
        }
        // Once it is said that rows are proven, that stays with the key, and cannot be taken back.
        let proven = new.state_rows_proven(&rewrapped, id, FIRST).unwrap();
        let again = old.rewrap_domain_key(&new, &proven, id, FIRST).unwrap();
        for (store, wrapped) in [(&new, &proven), (&old, &again)] {
            let key = store.unwrap_domain_key(wrapped, id, FIRST).unwrap();
            assert_eq!(key.open(&sealed, &place).unwrap().as_slice(), b"x");
            assert!(key.rows_are_proven());
            let mut taken_back = wrapped.0.clone();
            taken_back[0] = DOMAIN_KEY_FORMAT;
            assert!(store.unwrap_domain_key(&WrappedKey(taken_back), id, FIRST).is_err());
        }
        assert!(old.unwrap_domain_key(&rewrapped, id, FIRST).is_err());
        assert!(new.rewrap_domain_key(&new, &taken, id, FIRST).is_err());
    }
}
