//! The text of tokens.
//!
//! ```text
//! okmsd_pat_ | 43 random characters of 0-9 A-Z a-z | 6 characters of a checksum
//! ```
//!
//! The prefix lets secret scanners find a token that was left somewhere, and the checksum lets them tell
//! one from a text that only looks like it; so a mistyped one costs no look-up either. 43 such characters are 256 bits
//! of randomness. What is stored is their SHA-256: a slow hash is for what people choose, of which an
//! attacker can try the likely ones; of 2^256 equally likely texts none is found by trying, and looking a
//! hash up tells by its time nothing that helps to guess a token.

use std::fmt;

use aws_lc_rs::{digest, rand};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::{
    CryptoError,
    aead::KeyBytes,
    mac::{Fields, MAC_LEN, MacKey},
};
use crate::domain::Token;

/// A token. It has no `Debug` and no `Display`, and is wiped when dropped.
pub struct TokenText(Zeroizing<String>);

/// What a token is for, as its prefix says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A personal access token.
    Personal,
    /// A short-lived token that is bound to a certificate.
    Login,
}

/// SHA-256 of a token: what is stored of it, and looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

/// The key of the MACs of tokens.
///
/// What is stored of a token says who its owner is, and the hash beside it proves nothing: whoever can write to
/// the database could store the hash of a token of their own making. The MAC is what they cannot make.
pub struct TokenKey(pub(super) MacKey);

/// Names a key of the MACs of tokens without telling anything about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeyId(String);

/// The MAC of what is stored of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMac([u8; MAC_LEN]);

impl TokenKey {
    pub(super) fn new(key: &KeyBytes) -> Result<Self, CryptoError> {
        Ok(Self(MacKey::derive(key, TOKEN_PURPOSE)?))
    }

    /// The MAC of a token. Whether it is revoked is no part of it.
    pub fn sign(&self, token: &Token, hash: &TokenHash) -> TokenMac {
        TokenMac(self.0.sign(&fields(token, hash)))
    }

    /// Verifies the MAC of a token.
    ///
    /// # Errors
    ///
    /// When it is the MAC of anything else, or under another key.
    pub fn verify(
        &self,
        token: &Token,
        hash: &TokenHash,
        mac: &TokenMac,
    ) -> Result<(), CryptoError> {
        self.0.verify(&fields(token, hash), &mac.0)
    }
}

impl TokenKeyId {
    /// A new name. It is no part of what a MAC or the wrapping of the key is about: a row with the name of
    /// another key does not verify under that one.
    pub fn generate() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// Takes back an id that [`TokenKeyId::as_str`] gave out.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TokenMac {
    /// Takes back what [`TokenMac::as_bytes`] gave out.
    ///
    /// # Errors
    ///
    /// Where it has another length.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, CryptoError> {
        bytes.try_into().map(Self).map_err(|_| CryptoError)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; MAC_LEN] {
        &self.0
    }
}

fn fields(token: &Token, hash: &TokenHash) -> Fields {
    let binding = token.binding.as_ref();
    let credential = binding.and_then(|binding| binding.credential_id);
    let fields = Fields::of(b"token")
        .bytes(token.id.as_bytes())
        .bytes(token.okms_id.as_bytes())
        .bytes(&hash.0)
        .bytes(token.description.as_bytes())
        .number(token.created_at.as_millis())
        .number(token.expires_at.as_millis())
        .optional_bytes(binding.map(|binding| &binding.fingerprint[..]))
        .optional_bytes(credential.as_ref().map(|id| &id.as_bytes()[..]));
    token.identity_urns.iter().fold(fields, |fields, urn| fields.bytes(urn.as_bytes()))
}

impl TokenText {
    /// Makes one that nobody can guess.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate(kind: TokenKind) -> Result<Self, CryptoError> {
        let prefix = kind.prefix();
        // As long as it will be: a text that grows leaves copies behind.
        let length = prefix.len() + RANDOM_LEN + CHECKSUM_LEN;
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(prefix);
        let mut byte = [0];
        while text.len() < prefix.len() + RANDOM_LEN {
            rand::fill(&mut byte).map_err(|_| CryptoError)?;
            // Four times the alphabet, and no more: each character is as likely as any other.
            if usize::from(byte[0]) < 4 * ALPHABET.len() {
                text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            }
        }
        byte.zeroize();
        let checksum = checksum(&text);
        checksum.into_iter().for_each(|byte| text.push(char::from(byte)));
        Ok(Self(text))
    }

    /// Reads one; `None` where the text is none, whatever the reason.
    pub fn parse(text: &str) -> Option<Self> {
        let random = [TokenKind::Personal, TokenKind::Login]
            .iter()
            .find_map(|kind| text.strip_prefix(kind.prefix()))?;
        let whole = random.len() == RANDOM_LEN + CHECKSUM_LEN
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !whole {
            return None;
        }
        let (checked, given) = text.split_at(text.len() - CHECKSUM_LEN);
        (checksum(checked) == given.as_bytes()).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token, to hand it out.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What to store of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(sha256(self.0.as_bytes()))
    }
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Personal => "okmsd_pat_",
            Self::Login => "okmsd_login_",
        }
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl TokenHash {
    /// Takes back what [`TokenHash::as_bytes`] gave out.
    ///
    /// # Errors
    ///
    /// Where it has another length.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, CryptoError> {
        bytes.try_into().map(Self).map_err(|_| CryptoError)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Six characters, 35 bits, of a hash of what stands before them.
fn checksum(text: &str) -> [u8; CHECKSUM_LEN] {
    let mut hashed = Zeroizing::new(String::with_capacity(CONTEXT.len() + text.len()));
    hashed.push_str(CONTEXT);
    hashed.push_str(text);
    let hash = sha256(hashed.as_bytes());
    let mut rest = hash.iter().take(8).fold(0_u64, |rest, byte| rest << 8 | u64::from(*byte));
    std::array::from_fn(|_| {
        let index = rest % ALPHABET.len() as u64;
        rest /= ALPHABET.len() as u64;
        ALPHABET[index as usize]
    })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 > 2^256.
const RANDOM_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;
/// So that the key is one of nothing else.
const TOKEN_PURPOSE: &[u8] = b"okmsd tokens v1";
/// So that the checksum is a hash of nothing else.
const CONTEXT: &str = "okmsd token checksum v1\0";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_no_two_are_the_same() {
        let mut seen = HashSet::new();
        let mut characters = HashSet::new();
        for _ in 0..1_000 {
            let made = TokenText::generate(TokenKind::Personal).unwrap();
            assert_eq!(made.expose().len(), 59);
            assert!(made.expose().starts_with("okmsd_pat_"));
            let read = TokenText::parse(made.expose()).unwrap();
            assert!(read.hash() == made.hash());
            characters.extend(made.expose()[10..53].bytes());
            assert!(seen.insert(made.expose().to_owned()));
        }
        assert_eq!(characters.len(), 62);
        let login = TokenText::generate(TokenKind::Login).unwrap();
        assert!(login.expose().starts_with("okmsd_login_"));
        assert!(TokenText::parse(login.expose()).is_some());
    }

    #[test]
    fn what_differs_in_any_character_is_no_token() {
        let made = TokenText::generate(TokenKind::Personal).unwrap();
        let text = made.expose();
        for (place, byte) in text.bytes().enumerate() {
            let other = if byte == b'a' { "b" } else { "a" };
            let changed = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            assert!(TokenText::parse(&changed).is_none(), "{place}");
        }
        for changed in [
            String::new(),
            format!(" {text}"),
            format!("{text} "),
            format!("{text}a"),
            text[1..].to_owned(),
            text[..text.len() - 1].to_owned(),
            text.replace("_pat_", "_login_"),
            text.repeat(1_000),
            format!("{}é", &text[..text.len() - 2]),
            "hvs.CAESIA".to_owned(),
        ] {
            assert!(TokenText::parse(&changed).is_none());
        }
    }
}
