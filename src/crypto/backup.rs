//! The chunks of a backup: bytes only, no file.
//!
//! ```text
//! header:  magic | format (4) | kind of secret (1) | Argon2id memory KiB, passes, lanes (4 each) | salt (32)
//!          | name of the secret (8)
//! chunk:   last? (1) | bytes (4) | ciphertext | tag (16)
//! ```
//!
//! The secret is a backup key, or what Argon2id makes of a passphrase. From it and the whole header,
//! HKDF-SHA-256 derives a key that no other backup has. Under that, chunks are numbered from 0, which is their
//! nonce; their beginning is associated data. So no chunk opens in another place, in another backup or under
//! another header, and the last one is known as such: without it, a backup was cut off.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{hkdf, rand};
use zeroize::Zeroizing;

use super::{
    CryptoError, StoreKey, StoreKeyId, WrappedKey,
    aead::{Aead, KEY_LEN, KeyBytes, TAG_LEN, key_name},
    locked::LockedKey,
    root_key::{RootKeyId, key_of_text},
};

/// What a backup is sealed with, and opened.
pub struct BackupSecret(Kind);

enum Kind {
    Key(LockedKey),
    Passphrase(Zeroizing<String>),
}

/// Why a backup does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupError {
    /// It does not begin as one.
    NotABackup,
    /// Its format is newer than this program.
    Newer(u32),
    /// It was sealed with a passphrase, and a key is given.
    NeedsPassphrase,
    /// It was sealed with a key, and a passphrase is given.
    NeedsKey,
    /// It was sealed with another key, or with another passphrase, or its header was changed.
    OtherSecret,
    /// What making a key of the passphrase would cost is beyond what this program gives.
    TooCostly,
    /// A part of it was changed, moved, cut off or comes from another backup.
    Changed,
}

/// The beginning of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHeader {
    kind: u8,
    cost: Cost,
    salt: [u8; SALT_LEN],
    name: [u8; NAME_LEN],
}

/// What Argon2id is given: memory in KiB, passes, lanes. All 0 where the secret is a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost([u32; 3]);

/// Seals the chunks of one backup, in order.
pub struct BackupSealer {
    keys: FileKeys,
    next: u64,
}

/// Opens the chunks of one backup, in order.
pub struct BackupOpener {
    keys: FileKeys,
    next: u64,
}

/// The beginning of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHead {
    /// Whether it is the last one.
    pub is_last: bool,
    /// Bytes that follow.
    pub length: usize,
    bytes: [u8; ChunkHead::LEN],
}

/// What is derived for one backup.
struct FileKeys {
    chunks: Aead,
    store_key: KeyBytes,
}

impl BackupSecret {
    /// A backup key: 32 bytes in base64, as a root key, white space around it ignored.
    ///
    /// # Errors
    ///
    /// When the text is anything else.
    pub fn from_key_text(text: &str) -> Result<Self, CryptoError> {
        Ok(Self(Kind::Key(LockedKey::new(&key_of_text(text)?))))
    }

    /// A passphrase.
    ///
    /// # Errors
    ///
    /// When it has fewer than [`MIN_PASSPHRASE`](Self::MIN_PASSPHRASE) characters.
    pub fn from_passphrase(text: Zeroizing<String>) -> Result<Self, CryptoError> {
        if text.chars().count() < Self::MIN_PASSPHRASE {
            return Err(CryptoError);
        }
        Ok(Self(Kind::Passphrase(text)))
    }

    /// The name that the key has where it is a root key, too; nothing for a passphrase.
    pub fn root_key_id(&self) -> Option<RootKeyId> {
        match &self.0 {
            Kind::Key(key) => Some(RootKeyId::of(&key.bytes())),
            Kind::Passphrase(_) => None,
        }
    }

    /// Characters that a passphrase must have: a file can be tried at leisure by whoever has it, and shorter
    /// ones are guessed however dear each guess is.
    pub const MIN_PASSPHRASE: usize = 12;

    fn is_passphrase(&self) -> bool {
        matches!(self.0, Kind::Passphrase(_))
    }

    fn bytes(&self, cost: Cost, salt: &[u8]) -> Result<KeyBytes, CryptoError> {
        match &self.0 {
            Kind::Key(key) => Ok(key.bytes()),
            Kind::Passphrase(text) => {
                let [memory, passes, lanes] = cost.0;
                let params = Params::new(memory, passes, lanes, Some(KEY_LEN));
                let params = params.map_err(|_| CryptoError)?;
                let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut key = Zeroizing::new([0; KEY_LEN]);
                let made = argon.hash_password_into(text.as_bytes(), salt, &mut key[..]);
                made.map_err(|_| CryptoError)?;
                Ok(key)
            }
        }
    }
}

impl BackupHeader {
    /// Bytes of a header.
    pub const LEN: usize = MAGIC.len() + 4 + 1 + 12 + SALT_LEN + NAME_LEN;

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`BackupError::NotABackup`], [`BackupError::Newer`], [`BackupError::TooCostly`].
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, BackupError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BackupError::NotABackup)?;
        let (numbers, rest) = rest.split_at(4 + 1 + 12);
        let (salt, name) = rest.split_at(SALT_LEN);
        match number(&numbers[..4]) {
            FORMAT => {}
            0 => return Err(BackupError::NotABackup),
            newer => return Err(BackupError::Newer(newer)),
        }
        let cost = Cost([5, 9, 13].map(|at| number(&numbers[at..at + 4])));
        let kind = numbers[4];
        // Before anything is authenticated, so somebody else may have chosen it.
        let allowed = match kind {
            KIND_KEY => cost == Cost([0; 3]),
            KIND_PASSPHRASE => cost.0.iter().zip(MAX_COST.0).all(|(cost, max)| *cost <= max),
            _ => return Err(BackupError::NotABackup),
        };
        if !allowed {
            return Err(BackupError::TooCostly);
        }
        let whole = || BackupError::NotABackup;
        Ok(Self {
            kind,
            cost,
            salt: salt.try_into().map_err(|_| whole())?,
            name: name.try_into().map_err(|_| whole())?,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.push(self.kind);
        self.cost.0.iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.name);
        bytes
    }
}

impl BackupSealer {
    /// Begins a backup: gives its header, and what seals its chunks.
    ///
    /// # Errors
    ///
    /// When the system has no randomness or not the memory to give.
    pub fn begin(secret: &BackupSecret) -> Result<(Vec<u8>, Self), CryptoError> {
        let (kind, cost) = match secret.is_passphrase() {
            true => (KIND_PASSPHRASE, COST),
            false => (KIND_KEY, Cost([0; 3])),
        };
        let mut salt = [0; SALT_LEN];
        rand::fill(&mut salt).map_err(|_| CryptoError)?;
        let bytes = secret.bytes(cost, &salt)?;
        let header = BackupHeader { kind, cost, salt, name: name(&bytes) }.to_bytes();
        let keys = FileKeys::derive(&bytes, &header)?;
        Ok((header, Self { keys, next: 0 }))
    }

    /// Seals the next chunk.
    ///
    /// # Errors
    ///
    /// When it is longer than [`ChunkHead::MAX_TEXT`].
    pub fn seal(&mut self, text: &[u8], is_last: bool) -> Result<Vec<u8>, CryptoError> {
        if text.len() > ChunkHead::MAX_TEXT {
            return Err(CryptoError);
        }
        let head = ChunkHead::new(is_last, text.len() + TAG_LEN);
        let mut chunk = head.bytes.to_vec();
        let mut sealed = Vec::with_capacity(head.length);
        sealed.extend_from_slice(text);
        self.keys.chunks.seal_numbered(self.next, &head.bytes, &mut sealed)?;
        self.next = self.next.checked_add(1).ok_or(CryptoError)?;
        chunk.append(&mut sealed);
        Ok(chunk)
    }

    /// Wraps the key of the store, for this backup alone.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn wrap(&self, store_key: &StoreKey) -> Result<WrappedKey, CryptoError> {
        store_key.wrap_for_backup(&self.keys.store_key)
    }
}

impl BackupOpener {
    /// Begins to open the backup that begins with `header`.
    ///
    /// # Errors
    ///
    /// [`BackupError::NeedsKey`], [`BackupError::NeedsPassphrase`], [`BackupError::OtherSecret`], or
    /// [`BackupError::TooCostly`] where there is not the memory.
    pub fn begin(header: &BackupHeader, secret: &BackupSecret) -> Result<Self, BackupError> {
        match (header.kind == KIND_PASSPHRASE, secret.is_passphrase()) {
            (true, false) => return Err(BackupError::NeedsPassphrase),
            (false, true) => return Err(BackupError::NeedsKey),
            _ => {}
        }
        let bytes = secret.bytes(header.cost, &header.salt);
        let bytes = bytes.map_err(|_| BackupError::TooCostly)?;
        if name(&bytes) != header.name {
            return Err(BackupError::OtherSecret);
        }
        let keys = FileKeys::derive(&bytes, &header.to_bytes());
        Ok(Self { keys: keys.map_err(|_| BackupError::Changed)?, next: 0 })
    }

    /// Opens the next chunk, which follows on `head`.
    ///
    /// # Errors
    ///
    /// [`BackupError::Changed`] where it is any other.
    pub fn open(&mut self, head: ChunkHead, mut sealed: Vec<u8>) -> Result<Vec<u8>, BackupError> {
        let opened = self.keys.chunks.open_numbered(self.next, &head.bytes, &mut sealed);
        opened.map_err(|_| BackupError::Changed)?;
        self.next = self.next.checked_add(1).ok_or(BackupError::Changed)?;
        Ok(sealed)
    }

    /// Opens the key of the store.
    ///
    /// # Errors
    ///
    /// [`BackupError::Changed`] where it is none, or another than `id`.
    pub fn unwrap(&self, wrapped: &WrappedKey, id: &StoreKeyId) -> Result<StoreKey, BackupError> {
        let opened = StoreKey::unwrap_from_backup(wrapped, id, &self.keys.store_key);
        opened.map_err(|_| BackupError::Changed)
    }
}

impl ChunkHead {
    /// Bytes of the beginning of a chunk.
    pub const LEN: usize = 1 + 4;

    /// Bytes that a chunk may hold: what is in memory of a backup at a time, a few times over.
    pub const MAX_TEXT: usize = 64 * 1024;

    /// Reads the beginning of a chunk.
    ///
    /// # Errors
    ///
    /// [`BackupError::Changed`] where no chunk begins like that.
    pub fn parse(bytes: [u8; Self::LEN]) -> Result<Self, BackupError> {
        let length = usize::try_from(number(&bytes[1..])).map_err(|_| BackupError::Changed)?;
        let is_sound = bytes[0] <= 1 && (TAG_LEN..=Self::MAX_TEXT + TAG_LEN).contains(&length);
        if !is_sound {
            return Err(BackupError::Changed);
        }
        Ok(Self { is_last: bytes[0] == 1, length, bytes })
    }

    fn new(is_last: bool, length: usize) -> Self {
        let mut bytes = [u8::from(is_last), 0, 0, 0, 0];
        // At most a little more than MAX_TEXT.
        bytes[1..].copy_from_slice(&(length as u32).to_be_bytes());
        Self { is_last, length, bytes }
    }
}

impl FileKeys {
    fn derive(secret: &KeyBytes, header: &[u8]) -> Result<Self, CryptoError> {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, header).extract(&secret[..]);
        let key = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; KEY_LEN]);
            let info = [purpose];
            let expanded = derived.expand(&info, hkdf::HKDF_SHA256);
            expanded.and_then(|okm| okm.fill(&mut key[..])).map_err(|_| CryptoError)?;
            Ok::<_, CryptoError>(key)
        };
        Ok(Self { chunks: Aead::new(&key(CHUNKS_PURPOSE)?)?, store_key: key(STORE_KEY_PURPOSE)? })
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABackup => f.write_str("this is no backup of okmsd"),
            Self::Newer(format) => write!(
                f,
                "the backup has format {format}, which is newer than this program: use the program that made \
                 it, or a later one"
            ),
            Self::NeedsPassphrase => {
                f.write_str("the backup was made with a passphrase, not with a backup key")
            }
            Self::NeedsKey => {
                f.write_str("the backup was made with a backup key, not with a passphrase")
            }
            Self::OtherSecret => f.write_str(
                "the backup was made with another backup key or passphrase than the one given, or its header \
                 was changed",
            ),
            Self::TooCostly => f.write_str(
                "opening the backup takes more memory than this program gives, or than there is, or its \
                 header was changed",
            ),
            Self::Changed => f.write_str(
                "the backup is damaged: a part of it was changed, moved, cut off or comes from another backup",
            ),
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Tells a wrong secret from a damaged backup. Whoever guesses at a passphrase could as well try a chunk.
fn name(secret: &KeyBytes) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    let text = key_name(secret, NAME_CONTEXT);
    for (byte, digits) in name.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |digit: u8| (digit as char).to_digit(16).unwrap_or_default();
        *byte = digits.iter().fold(0, |byte, one| byte << 4 | digit(*one)) as u8;
    }
    name
}

const MAGIC: &[u8] = b"okmsd backup\n";
/// The format that this program writes, and the only one there is.
const FORMAT: u32 = 1;
const KIND_KEY: u8 = 0;
const KIND_PASSPHRASE: u8 = 1;
const SALT_LEN: usize = 32;
const NAME_LEN: usize = 8;
/// RFC 9106, section 4, the second recommendation: 64 MiB, three passes, four lanes. About a quarter of a second.
const COST: Cost = Cost([64 * 1024, 3, 4]);
/// What a header may ask for: 1 GiB, sixteen passes and lanes. A later program may take more than this one does.
const MAX_COST: Cost = Cost([1024 * 1024, 16, 16]);
const NAME_CONTEXT: &[u8] = b"okmsd backup secret v1";
const CHUNKS_PURPOSE: &[u8] = b"okmsd backup chunks v1";
const STORE_KEY_PURPOSE: &[u8] = b"okmsd backup store key v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BackupSecret {
        let key = super::super::RootKey::generate().unwrap();
        BackupSecret::from_key_text(&key.to_text()).unwrap()
    }

    fn passphrase(text: &str) -> BackupSecret {
        BackupSecret::from_passphrase(Zeroizing::new(text.to_owned())).unwrap()
    }

    fn header(bytes: &[u8]) -> Result<BackupHeader, BackupError> {
        BackupHeader::parse(bytes.try_into().unwrap())
    }

    fn open(opener: &mut BackupOpener, chunk: &[u8]) -> Result<(Vec<u8>, bool), BackupError> {
        let (head, sealed) = chunk.split_first_chunk().unwrap();
        let head = ChunkHead::parse(*head)?;
        let text = opener.open(head, sealed.to_vec())?;
        Ok((text, head.is_last))
    }

    #[test]
    fn a_root_key_that_is_given_for_a_backup_is_known_by_its_name() {
        let root = crate::crypto::RootKey::generate().unwrap();
        let same = BackupSecret::from_key_text(&root.to_text()).unwrap();
        assert_eq!(same.root_key_id().as_ref(), Some(root.id()));
        assert_ne!(key().root_key_id().as_ref(), Some(root.id()));
        assert_eq!(passphrase("correct horse battery").root_key_id(), None);
    }

    #[test]
    fn chunks_open_in_their_order_and_in_their_backup_alone() {
        let secret = key();
        let begin = || BackupSealer::begin(&secret).unwrap();
        let ((first, mut sealer), (second, mut other)) = (begin(), begin());
        let chunks = [
            sealer.seal(b"one", false).unwrap(),
            sealer.seal(b"", false).unwrap(),
            sealer.seal(b"end", true).unwrap(),
        ];
        let foreign = other.seal(b"one", false).unwrap();
        let opener = || BackupOpener::begin(&header(&first).unwrap(), &secret).unwrap();
        let mut whole = opener();
        let texts = chunks.each_ref().map(|chunk| open(&mut whole, chunk).unwrap());
        assert_eq!(texts, [(b"one".to_vec(), false), (vec![], false), (b"end".to_vec(), true)]);
        assert_eq!(open(&mut opener(), &chunks[1]), Err(BackupError::Changed));
        assert_eq!(open(&mut opener(), &foreign), Err(BackupError::Changed));
        // A header of another backup does not fit either, though its secret is the same.
        let mut exchanged = BackupOpener::begin(&header(&second).unwrap(), &secret).unwrap();
        assert_eq!(open(&mut exchanged, &chunks[0]), Err(BackupError::Changed));
        // A chunk that is not the last one cannot be made it.
        let mut cut = chunks[0].clone();
        cut[0] = 1;
        assert_eq!(open(&mut opener(), &cut), Err(BackupError::Changed));
        let long = vec![0; ChunkHead::MAX_TEXT + 1];
        assert!(sealer.seal(&long, false).is_err());
        assert!(sealer.seal(&long[1..], false).is_ok());
    }

    #[test]
    fn no_bit_of_a_header_can_be_changed() {
        let secret = key();
        let (bytes, mut sealer) = BackupSealer::begin(&secret).unwrap();
        let chunk = sealer.seal(b"x", true).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = header(&changed)
                .and_then(|header| BackupOpener::begin(&header, &secret))
                .and_then(|mut opener| open(&mut opener, &chunk));
            assert!(opened.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_store_key_opens_in_its_backup_alone() {
        let secret = key();
        let store_key = StoreKey::generate().unwrap();
        let (bytes, sealer) = BackupSealer::begin(&secret).unwrap();
        let wrapped = sealer.wrap(&store_key).unwrap();
        let opener = |bytes: &[u8]| BackupOpener::begin(&header(bytes).unwrap(), &secret).unwrap();
        assert!(opener(&bytes).unwrap(&wrapped, store_key.id()).is_ok());
        let (another, _) = BackupSealer::begin(&secret).unwrap();
        assert!(opener(&another).unwrap(&wrapped, store_key.id()).is_err());
        let other_id = StoreKey::generate().unwrap().id().clone();
        assert!(opener(&bytes).unwrap(&wrapped, &other_id).is_err());
    }

    #[test]
    fn a_wrong_secret_is_told_from_damage() {
        let (bytes, _) = BackupSealer::begin(&key()).unwrap();
        let parsed = header(&bytes).unwrap();
        let begin = |secret: &BackupSecret| BackupOpener::begin(&parsed, secret).err();
        assert_eq!(begin(&key()), Some(BackupError::OtherSecret));
        assert_eq!(begin(&passphrase("correct horse")), Some(BackupError::NeedsKey));
        let (bytes, _) = BackupSealer::begin(&passphrase("correct horse")).unwrap();
        let parsed = header(&bytes).unwrap();
        let begin = |secret: &BackupSecret| BackupOpener::begin(&parsed, secret).err();
        assert_eq!(begin(&passphrase("correct horse")), None);
        assert_eq!(begin(&passphrase("correct horsf")), Some(BackupError::OtherSecret));
        assert_eq!(begin(&key()), Some(BackupError::NeedsPassphrase));
    }

    #[test]
    fn what_is_newer_or_asks_for_too_much_is_refused() {
        let (bytes, _) = BackupSealer::begin(&key()).unwrap();
        let at = MAGIC.len();
        let mut newer = bytes.clone();
        newer[at + 3] = 2;
        assert_eq!(header(&newer), Err(BackupError::Newer(2)));
        assert_eq!(header(&[b'x'; BackupHeader::LEN]), Err(BackupError::NotABackup));
        let mut costly = bytes;
        costly[at + 4] = KIND_PASSPHRASE;
        for (place, max) in [5, 9, 13].into_iter().zip(MAX_COST.0) {
            let mut asks = |cost: u32| {
                costly[at + place..at + place + 4].copy_from_slice(&cost.to_be_bytes());
                header(&costly)
            };
            assert_eq!(asks(max + 1), Err(BackupError::TooCostly));
            assert!(asks(max).is_ok());
        }
    }

    #[test]
    fn a_short_passphrase_is_refused() {
        let made = |text: &str| BackupSecret::from_passphrase(Zeroizing::new(text.to_owned()));
        assert!(made("elevenchars").is_err());
        assert!(made("twelve chars").is_ok());
    }
}
