//! HMAC-SHA-256 over rows of fields that no two different rows share.

use aws_lc_rs::{
    hkdf,
    hmac::{self, HMAC_SHA256},
};

use super::{CryptoError, aead::KeyBytes};

/// Bytes of an HMAC-SHA-256.
pub(super) const MAC_LEN: usize = 32;

/// A key for one purpose, derived from another key: what is authenticated for one purpose counts for no
/// other, and no use of the AEAD's nonces is spent.
pub(super) struct MacKey(hmac::Key);

/// Fields, each with its kind and length in front of it, so that the bytes tell where every field ends
/// and no two different rows of fields are the same bytes.
pub(super) struct Fields(Vec<u8>);

impl MacKey {
    /// Derives the key of a purpose by HKDF-SHA-256 (RFC 5869).
    pub(super) fn derive(key: &KeyBytes, purpose: &[u8]) -> Result<Self, CryptoError> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&key[..]);
        let info = [purpose];
        let derived = secret.expand(&info, HMAC_SHA256).map_err(|_| CryptoError)?;
        Ok(Self(hmac::Key::from(derived)))
    }

    /// The MAC of fields.
    pub(super) fn sign(&self, fields: &Fields) -> [u8; MAC_LEN] {
        let tag = hmac::sign(&self.0, &fields.0);
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(tag.as_ref());
        mac
    }

    /// Whether this is the MAC of fields, compared in constant time.
    pub(super) fn verify(&self, fields: &Fields, mac: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, &fields.0, mac).map_err(|_| CryptoError)
    }
}

impl Fields {
    /// Begins with what the fields are about.
    pub(super) fn of(purpose: &[u8]) -> Self {
        Self(Vec::with_capacity(USUAL_BYTES)).bytes(purpose)
    }

    /// The bytes of all of them.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds bytes or text.
    #[must_use]
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.push(BYTES);
        // No field comes near 2^64 bytes, on any machine.
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a number.
    #[must_use]
    pub(super) fn number(mut self, number: i64) -> Self {
        self.0.push(NUMBER);
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds a number that may be absent.
    #[must_use]
    pub(super) fn optional(mut self, number: Option<i64>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => {
                self.0.push(ABSENT);
                self
            }
        }
    }

    /// Adds bytes that may be absent.
    #[must_use]
    pub(super) fn optional_bytes(mut self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => {
                self.0.push(ABSENT);
                self
            }
        }
    }
}

/// Enough for the row of a secret with a path and metadata of the usual length.
const USUAL_BYTES: usize = 512;

/// Kinds of fields.
const ABSENT: u8 = 0;
const BYTES: u8 = 1;
const NUMBER: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field as it was before it was written.
    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Absent,
        Bytes(Vec<u8>),
        Number(i64),
    }

    fn write(fields: &[Field]) -> Vec<u8> {
        let written = fields.iter().fold(Fields(Vec::new()), |written, field| match field {
            Field::Absent => written.optional(None),
            Field::Bytes(bytes) => written.optional_bytes(Some(bytes)),
            Field::Number(number) => written.optional(Some(*number)),
        });
        written.0
    }

    /// Reads fields back: what can be read back is written by one row alone.
    fn read(mut bytes: &[u8]) -> Vec<Field> {
        let mut fields = Vec::new();
        while let Some((kind, rest)) = bytes.split_first() {
            let (field, rest) = match *kind {
                ABSENT => (Field::Absent, rest),
                NUMBER => {
                    let (number, rest) = rest.split_first_chunk().unwrap();
                    (Field::Number(i64::from_be_bytes(*number)), rest)
                }
                BYTES => {
                    let (length, rest) = rest.split_first_chunk().unwrap();
                    let (bytes, rest) = rest.split_at(u64::from_be_bytes(*length) as usize);
                    (Field::Bytes(bytes.to_vec()), rest)
                }
                kind => panic!("no field is of kind {kind}"),
            };
            fields.push(field);
            bytes = rest;
        }
        fields
    }

    fn field() -> impl Strategy<Value = Field> {
        prop_oneof![
            Just(Field::Absent),
            proptest::collection::vec(0..4_u8, 0..12).prop_map(Field::Bytes),
            prop_oneof![0..3_i64, any::<i64>()].prop_map(Field::Number),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn no_two_different_rows_of_fields_are_the_same_bytes(
            fields in proptest::collection::vec(field(), 0..8),
        ) {
            prop_assert_eq!(read(&write(&fields)), fields);
        }
    }

    #[test]
    fn a_key_of_one_purpose_makes_no_mac_of_another() {
        let key = KeyBytes::new([7; 32]);
        let (one, two) = (MacKey::derive(&key, b"1").unwrap(), MacKey::derive(&key, b"2").unwrap());
        let fields = Fields::of(b"x").number(1);
        assert!(one.verify(&fields, &one.sign(&fields)).is_ok());
        assert!(two.verify(&fields, &one.sign(&fields)).is_err());
        assert!(one.verify(&fields, &one.sign(&fields)[..31]).is_err());
        assert!(one.verify(&Fields::of(b"x").number(2), &one.sign(&fields)).is_err());
    }
}
