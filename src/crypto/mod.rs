//! Envelope encryption: bytes and associated data, no SQL, no HTTP.
//!
//! ```text
//! root key (outside the database)
//!   └─ wraps the keys of each OKMS domain, in generations
//!        └─ seal the data of versions
//! ```
//!
//! Everything is AES-256-GCM with random 96-bit nonces. What is sealed is bound by associated data
//! to the place where it belongs, so that a row copied to another place does not open. Keys are
//! wiped when dropped and have no `Debug`.

mod aead;
mod cursor;
mod domain_key;
mod mac;
mod root_key;
mod row;

pub use self::{
    cursor::{CursorPlace, SealedCursor},
    domain_key::{DomainKey, Generation, SealedData},
    root_key::{RootKey, RootKeyId, WrappedKey},
    row::{
        DataSeal, Incarnation, KeyId, RowMac, SealId, SecretRecord, StateChanges, VersionPlace,
        VersionRecord,
    },
};

/// Something did not seal or open: a wrong key, or bytes that were changed or moved.
///
/// It says no more, since any further word could help to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptoError;
