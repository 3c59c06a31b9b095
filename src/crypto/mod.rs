//! Envelope encryption: bytes and associated data, no SQL, no HTTP.
//!
//! ```text
//! root key (outside the database; up to two of them)
//!   └─ wraps the store key
//!        └─ wraps the keys of each OKMS domain, in generations
//!             └─ seal the data of versions
//! ```
//!
//! | file | what it owns |
//! |---|---|
//! | `root_key` | the keys that never are in the database |
//! | `store_key` | the key between them and the keys of domains; wrapping and its formats |
//! | `domain_key` | keys of domains, and the data that they seal |
//! | `row` | what proves that rows are as they were written |
//! | `cursor` | what proves that a cursor was given to the one who comes with it |
//! | `outcome` | what came of a write that is to be done once |
//! | `token` | the text of tokens |
//! | `mac` | HMAC over fields |
//! | `locked` | memory for the keys that live long |
//! | `backup` | the chunks of a backup, and the key in it |
//! | `aead` | the cipher |
//!
//! Everything is AES-256-GCM with random 96-bit nonces, but for the chunks of a backup, which are numbered. What is sealed is bound by associated data
//! to the place where it belongs, so that a row copied to another place does not open. What is not sealed
//! but has to be true is authenticated with HMAC-SHA-256, under keys derived from those of domains. Keys are
//! wiped when dropped and have no `Debug`.

mod aead;
mod backup;
mod cursor;
mod domain_key;
mod locked;
mod mac;
mod outcome;
mod root_key;
mod row;
mod store_key;
mod token;

pub use self::{
    backup::{BackupError, BackupHeader, BackupOpener, BackupSealer, BackupSecret, ChunkHead},
    cursor::{CursorPlace, SealedCursor},
    domain_key::{DomainKey, Generation, SealedData},
    outcome::{KeyHash, RequestHash, SealedOutcome},
    root_key::{RootKey, RootKeyId},
    row::{
        DataSeal, Incarnation, KeyId, RowMac, SealId, SecretRecord, StateChanges, VersionPlace,
        VersionRecord,
    },
    store_key::{StoreKey, StoreKeyId, WrappedKey},
    token::{TokenHash, TokenKey, TokenKeyId, TokenKind, TokenMac, TokenText},
};

/// Something did not seal or open: a wrong key, or bytes that were changed or moved.
///
/// It says no more, since any further word could help to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptoError;
