//! What came of a write that is to be done once, sealed; and what its key is found by.

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::{CryptoError, DomainKey, domain_key::HEADER_LEN, mac::Fields};
use crate::domain::{OkmsId, Timestamp};

/// Names an idempotency key, or a caller, in the store: SHA-256, so that all have one length and say nothing of a
/// text that somebody chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// SHA-256 of a request: of its method, target and body. It could tell a guessed body from others, so it leaves
/// memory only sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestHash([u8; 32]);

/// A sealed outcome: what the database holds.
///
/// ```text
/// format (1 byte) | key generation (4, big-endian) | nonce (12) | ciphertext | tag (16)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedOutcome(Vec<u8>);

impl KeyHash {
    /// Of a caller of a domain.
    pub fn of_caller(okms_id: OkmsId, caller: &[u8]) -> Self {
        let fields = Fields::of(CALLER_CONTEXT).bytes(okms_id.as_bytes()).bytes(caller);
        Self(sha256(fields.as_bytes()))
    }

    /// Of a key of that caller.
    #[must_use]
    pub fn of_key(self, key: &str) -> Self {
        Self(sha256(Fields::of(KEY_CONTEXT).bytes(&self.0).bytes(key.as_bytes()).as_bytes()))
    }

    /// Takes back bytes that [`KeyHash::as_bytes`] gave out.
    ///
    /// # Errors
    ///
    /// When they are of another length.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, CryptoError> {
        bytes.try_into().map(Self).map_err(|_| CryptoError)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl RequestHash {
    /// Of a request.
    pub fn of(method: &str, target: &str, body: &[u8]) -> Self {
        // The body by its hash: what is copied is not wiped.
        let fields = Fields::of(REQUEST_CONTEXT)
            .bytes(method.as_bytes())
            .bytes(target.as_bytes())
            .bytes(&sha256(body));
        Self(sha256(fields.as_bytes()))
    }

    /// The bytes to seal.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl DomainKey {
    /// Seals what came of a write for its key and time.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn seal_outcome(
        &self,
        plaintext: &[u8],
        key: KeyHash,
        created_at: Timestamp,
    ) -> Result<SealedOutcome, CryptoError> {
        let mut sealed = self.header(OUTCOME_FORMAT).to_vec();
        self.aead.seal(plaintext, &self.outcome_context(key, created_at), &mut sealed)?;
        Ok(SealedOutcome(sealed))
    }

    /// Opens what came of a write.
    ///
    /// # Errors
    ///
    /// When it was sealed by another key, for another one or another time, or was changed.
    pub fn open_outcome(
        &self,
        sealed: &SealedOutcome,
        key: KeyHash,
        created_at: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let rest = sealed.0.strip_prefix(&self.header(OUTCOME_FORMAT)[..]).ok_or(CryptoError)?;
        self.aead.open(rest, &self.outcome_context(key, created_at))
    }

    /// All of fixed lengths, so that no two places have the same bytes.
    fn outcome_context(&self, key: KeyHash, created_at: Timestamp) -> Vec<u8> {
        let header: [u8; HEADER_LEN] = self.header(OUTCOME_FORMAT);
        [
            OUTCOME_CONTEXT,
            &header,
            self.okms_id().as_bytes(),
            &key.0,
            &created_at.as_millis().to_be_bytes(),
        ]
        .concat()
    }
}

impl SealedOutcome {
    /// Takes back bytes that [`SealedOutcome::as_bytes`] gave out.
    pub const fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// First byte of a sealed outcome: AES-256-GCM with the layout of [`SealedOutcome`].
const OUTCOME_FORMAT: u8 = 1;
const OUTCOME_CONTEXT: &[u8] = b"okmsd outcome v1\0";
const CALLER_CONTEXT: &[u8] = b"okmsd idempotency caller v1";
const KEY_CONTEXT: &[u8] = b"okmsd idempotency key v1";
const REQUEST_CONTEXT: &[u8] = b"okmsd idempotency request v1";

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::crypto::{Generation, StoreKey};

    fn key(domain: u128) -> DomainKey {
        let (store, okms_id) =
            (StoreKey::generate().unwrap(), OkmsId::new(Uuid::from_u128(domain)));
        let wrapped = store.generate_domain_key(okms_id, Generation::FIRST).unwrap();
        store.unwrap_domain_key(&wrapped, okms_id, Generation::FIRST).unwrap()
    }

    #[test]
    fn an_outcome_opens_in_its_place_and_nowhere_else_and_not_when_it_was_changed() {
        let (one, other) = (key(1), key(1));
        let caller = KeyHash::of_caller(one.okms_id(), b"me");
        let (hash, time) = (caller.of_key("a"), Timestamp::from_millis(5));
        let sealed = one.seal_outcome(b"outcome", hash, time).unwrap();
        assert_eq!(one.open_outcome(&sealed, hash, time).unwrap().as_slice(), b"outcome");
        assert!(other.open_outcome(&sealed, hash, time).is_err());
        assert!(one.open_outcome(&sealed, caller.of_key("b"), time).is_err());
        assert!(one.open_outcome(&sealed, hash, Timestamp::from_millis(6)).is_err());
        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert!(one.open_outcome(&changed, hash, time).is_err(), "{at}");
            let cut = SealedOutcome(sealed.0[..at].to_vec());
            assert!(one.open_outcome(&cut, hash, time).is_err(), "{at}");
        }
    }

    #[test]
    fn keys_are_told_apart_by_domain_caller_and_text_and_requests_by_all_their_parts() {
        let hash = |domain, caller: &[u8], text| {
            KeyHash::of_caller(OkmsId::new(Uuid::from_u128(domain)), caller).of_key(text)
        };
        let one = hash(1, b"me", "a");
        assert_eq!(one, hash(1, b"me", "a"));
        for other in [hash(2, b"me", "a"), hash(1, b"m", "ea"), hash(1, b"me", "b")] {
            assert_ne!(one, other);
        }
        let one = RequestHash::of("POST", "/a", b"b");
        assert!(one == RequestHash::of("POST", "/a", b"b"));
        for (method, target, body) in [("PUT", "/a", "b"), ("POST", "/ab", ""), ("POST", "/a", "c")]
        {
            assert!(one != RequestHash::of(method, target, body.as_bytes()), "{method} {target}");
        }
    }
}
