//! Cursors of lists that only the one who was given them can use, for the list they are of.

use super::{
    CryptoError, DomainKey, Generation,
    mac::{Fields, MAC_LEN},
};

/// Where a cursor counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorPlace<'a> {
    /// What tells the caller from all others of the domain.
    pub caller: &'a [u8],
    /// What tells the list from all others of the domain.
    pub list: &'a [u8],
}

/// A cursor, as bytes.
///
/// ```text
/// format (1 byte) | key generation (4, big-endian) | HMAC-SHA-256 (32) | key of the last item seen
/// ```
///
/// The key of the last item is not hidden: the caller has been shown it. The MAC binds it to the domain,
/// the caller and the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCursor(Vec<u8>);

impl DomainKey {
    /// Makes the cursor that leads on from the item with the key `last`.
    pub fn seal_cursor(&self, place: CursorPlace<'_>, last: &str) -> SealedCursor {
        let mac = self.cursor_mac.sign(&self.cursor_fields(place, last));
        let generation = self.generation().get().to_be_bytes();
        SealedCursor([&[CURSOR_FORMAT], &generation[..], &mac, last.as_bytes()].concat())
    }

    /// The key of the last item that a cursor's owner has seen.
    ///
    /// # Errors
    ///
    /// When the cursor was not made by this key for this place.
    pub fn open_cursor<'c>(
        &self,
        place: CursorPlace<'_>,
        cursor: &'c SealedCursor,
    ) -> Result<&'c str, CryptoError> {
        let (generation, mac, last) = cursor.parts()?;
        if generation != self.generation() {
            return Err(CryptoError);
        }
        let last = std::str::from_utf8(last).map_err(|_| CryptoError)?;
        self.cursor_mac.verify(&self.cursor_fields(place, last), mac)?;
        Ok(last)
    }

    fn cursor_fields(&self, place: CursorPlace<'_>, last: &str) -> Fields {
        Fields::of(CURSOR_CONTEXT)
            .number(i64::from(CURSOR_FORMAT))
            .number(i64::from(self.generation().get()))
            .bytes(self.okms_id().as_bytes())
            .bytes(place.caller)
            .bytes(place.list)
            .bytes(last.as_bytes())
    }
}

impl SealedCursor {
    /// Takes what a client sends.
    pub const fn from_client(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to hand out.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Which key of the domain made it.
    ///
    /// # Errors
    ///
    /// When the bytes are of no form that is known.
    pub fn generation(&self) -> Result<Generation, CryptoError> {
        self.parts().map(|(generation, _, _)| generation)
    }

    fn parts(&self) -> Result<(Generation, &[u8; MAC_LEN], &[u8]), CryptoError> {
        let (format, rest) = self.0.split_first().ok_or(CryptoError)?;
        let (generation, rest) = rest.split_first_chunk::<4>().ok_or(CryptoError)?;
        let (mac, last) = rest.split_first_chunk::<MAC_LEN>().ok_or(CryptoError)?;
        if *format != CURSOR_FORMAT {
            return Err(CryptoError);
        }
        Ok((Generation::new(u32::from_be_bytes(*generation)), mac, last))
    }
}

/// First byte of a cursor: the layout of [`SealedCursor`].
const CURSOR_FORMAT: u8 = 1;
const CURSOR_CONTEXT: &[u8] = b"okmsd cursor v1";

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{crypto::StoreKey, domain::OkmsId};

    fn key(domain: u128, generation: Generation) -> DomainKey {
        let (store, okms_id) =
            (StoreKey::generate().unwrap(), OkmsId::new(Uuid::from_u128(domain)));
        let wrapped = store.generate_domain_key(okms_id, generation).unwrap();
        store.unwrap_domain_key(&wrapped, okms_id, generation).unwrap()
    }

    #[test]
    fn a_cursor_counts_in_its_place_and_nowhere_else() {
        let (key, other) = (key(1, Generation::FIRST), key(1, Generation::FIRST));
        let place = CursorPlace { caller: b"me", list: b"this" };
        let cursor = key.seal_cursor(place, "a/b");
        assert_eq!(key.open_cursor(place, &cursor), Ok("a/b"));
        assert!(other.open_cursor(place, &cursor).is_err());
        for other in [
            CursorPlace { caller: b"you", ..place },
            CursorPlace { list: b"that", ..place },
            CursorPlace { caller: b"met", list: b"his" },
            CursorPlace { caller: b"", list: b"methis" },
        ] {
            assert!(key.open_cursor(other, &cursor).is_err(), "{other:?}");
        }
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_found() {
        let key = key(1, Generation::FIRST);
        let place = CursorPlace { caller: b"me", list: b"this" };
        let cursor = key.seal_cursor(place, "a/b");
        for at in 0..cursor.as_bytes().len() {
            for bit in 0..8 {
                let mut changed = cursor.as_bytes().to_vec();
                changed[at] ^= 1 << bit;
                let changed = SealedCursor::from_client(changed);
                assert!(key.open_cursor(place, &changed).is_err(), "{at}");
            }
            let cut = SealedCursor::from_client(cursor.as_bytes()[..at].to_vec());
            assert!(key.open_cursor(place, &cut).is_err(), "{at}");
        }
    }
}
