//! AES-256-GCM with the nonce in front.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use zeroize::Zeroizing;

use super::CryptoError;

/// Bytes of a key.
pub(super) const KEY_LEN: usize = 32;

/// Bytes of a key, wiped when dropped.
pub(super) type KeyBytes = Zeroizing<[u8; KEY_LEN]>;

/// An AES-256-GCM key. AWS-LC wipes its own copy of it when it is freed.
pub(super) struct Aead(LessSafeKey);

impl Aead {
    pub(super) fn new(key: &KeyBytes) -> Result<Self, CryptoError> {
        let key = UnboundKey::new(&AES_256_GCM, &key[..]).map_err(|_| CryptoError)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Appends nonce, ciphertext and tag of `plaintext` to `sealed`.
    pub(super) fn seal(
        &self,
        plaintext: &[u8],
        associated_data: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| CryptoError)?;
        // Room for everything at once: a buffer that moves while it holds plaintext would leave an
        // unwiped copy behind.
        sealed.reserve_exact(NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(plaintext);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(associated_data), &mut sealed[start..])
            .map_err(|_| CryptoError)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Seals in place and appends the tag. The number is the nonce: under one key, each is for one text.
    pub(super) fn seal_numbered(
        &self,
        number: u64,
        associated_data: &[u8],
        text: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let sealed = self.0.seal_in_place_append_tag(
            numbered_nonce(number),
            Aad::from(associated_data),
            text,
        );
        sealed.map_err(|_| CryptoError)
    }

    /// Opens what [`Aead::seal_numbered`] sealed.
    pub(super) fn open_numbered(
        &self,
        number: u64,
        associated_data: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let opened =
            self.0.open_in_place(numbered_nonce(number), Aad::from(associated_data), sealed);
        let length = opened.map_err(|_| CryptoError)?.len();
        sealed.truncate(length);
        Ok(())
    }

    /// Opens what [`Aead::seal`] appended.
    pub(super) fn open(
        &self,
        sealed: &[u8],
        associated_data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(CryptoError)?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .0
            .open_in_place(nonce, Aad::from(associated_data), &mut opened)
            .map_err(|_| CryptoError)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

fn numbered_nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Bytes that sealing adds.
pub(super) const TAG_LEN: usize = 16;

/// Random bytes for a key.
pub(super) fn random_key() -> Result<KeyBytes, CryptoError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    rand::fill(&mut key[..]).map_err(|_| CryptoError)?;
    Ok(key)
}

/// A name for a key: a keyed hash of a fixed text, which cannot be turned back into it.
pub(super) fn key_name(key: &KeyBytes, context: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key[..]), context);
    tag.as_ref().iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// 64 bits tell an operator's handful of keys apart.
const NAME_BYTES: usize = 8;
